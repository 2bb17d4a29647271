/* Messages of hole punching: any bytes lead to a message within its bounds, or to a refusal; what is taken and written
 * again is taken again, the same. The input is a message, and a recipe for one. */
#include "fuzz/recipe.h"

#include "dcutr/dcutr_msg.h"
#include "dcutr/plan.h"
#include "transport/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *data, size_t size)
{
    static struct wr_dcutr_msg m, again;
    static const struct wr_plan none;
    struct wr_nat nat = {.udp = {.mapping = WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_RANDOM,
                                 .filtering = WR_NAT_FILTER_APDF}};
    struct wr_buf out;
    int err = wr_dcutr_msg_decode(WR_BYTES(data, size), &m);
    if (err != 0 && err != WR_EPROTO)
        abort();
    if (err != 0)
        return;
    if (m.count > WR_DCUTR_ADDRS_MAX || (m.type != WR_DCUTR_CONNECT && m.type != WR_DCUTR_SYNC))
        abort();
    wr_buf_init(&out, WR_DCUTR_READ_MAX);
    wr_dcutr_msg_encode(&m, &out);
    if (out.full || out.len > WR_DCUTR_SEND_MAX || wr_dcutr_msg_decode(wr_buf_bytes(&out), &again) != 0 ||
        again.type != m.type || again.count > m.count)
        abort();
    for (size_t i = 0; i < again.count; i++) {
        struct wr_addr addr;
        if (!wr_maddr_addr(wr_maddr_bytes(&again.addrs[i]), &addr))
            abort();
    }
    if (again.count == m.count && memcmp(again.addrs, m.addrs, m.count * sizeof(m.addrs[0])) != 0)
        abort();
    wr_plan_hopeless(&nat, m.addrs, m.count);
    if (wr_plan_same_external(&none, m.addrs, m.count))
        abort();
    wr_buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len;
    check(data, size);
    uint8_t *made = recipe_make(WR_BYTES(data, size), NULL, 0, &len);
    check(made, len);
    free(made);
    return 0;
}
