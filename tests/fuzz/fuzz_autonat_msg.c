/* AutoNAT messages of both versions: any bytes lead to slices of them or to a refusal, and what was read
 * is the same after writing and reading it again. The input is a message, and a recipe for one. */
#include "fuzz/recipe.h"

#include "autonat/autonat_msg.h"
#include "transport/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct wr_bytes part, const uint8_t *data, size_t size)
{
    if (part.len && (part.ptr < data || part.ptr + part.len > data + size))
        abort();
}

static void check_v2(const uint8_t *data, size_t size)
{
    struct wr_autonat_msg m, again;
    struct wr_buf out;
    int rc = wr_autonat_msg_decode(WR_BYTES(data, size), &m);
    if (rc != 0 && rc != WR_EPROTO)
        abort();
    if (rc < 0)
        return;
    within(m.peer, data, size);
    within(m.data, data, size);
    for (size_t i = 0; i < m.addr_count; i++)
        within(m.addrs[i], data, size);
    wr_buf_init(&out, 4 * size + 64);
    wr_autonat_msg_encode(&m, &out);
    if (out.full || wr_autonat_msg_decode(wr_buf_bytes(&out), &again) != 0 || again.type != m.type ||
        again.nonce != m.nonce || again.stranger != m.stranger || again.addr_count != m.addr_count ||
        again.status != m.status || again.dial_status != m.dial_status || again.index != m.index ||
        again.bytes != m.bytes || !wr_bytes_equal(again.peer, m.peer) ||
        !wr_bytes_equal(again.data, m.data))
        abort();
    for (size_t i = 0; i < m.addr_count; i++)
        if (!wr_bytes_equal(m.addrs[i], again.addrs[i]))
            abort();
    wr_buf_clear(&out);
}

static void check_v1(const uint8_t *data, size_t size)
{
    struct wr_autonat_v1_msg m, again;
    struct wr_buf out;
    int rc = wr_autonat_msg_decode_v1(WR_BYTES(data, size), &m);
    if (rc != 0 && rc != WR_EPROTO)
        abort();
    if (rc < 0)
        return;
    within(m.peer, data, size);
    within(m.addr, data, size);
    wr_buf_init(&out, 4 * size + 64);
    wr_autonat_msg_encode_v1(&m, &out);
    if (out.full || wr_autonat_msg_decode_v1(wr_buf_bytes(&out), &again) != 0 ||
        again.response != m.response)
        abort();
    if (m.response ? again.status != m.status || !wr_bytes_equal(again.addr, m.addr)
                   : again.addr_count != m.addr_count || !wr_bytes_equal(again.peer, m.peer))
        abort();
    wr_buf_clear(&out);
}

static void check(const uint8_t *data, size_t size)
{
    uint64_t nonce;
    uint32_t status;
    check_v2(data, size);
    check_v1(data, size);
    (void)wr_autonat_msg_decode_back(WR_BYTES(data, size), &nonce);
    (void)wr_autonat_msg_decode_back_response(WR_BYTES(data, size), &status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t ours[] = {4250, 4251};    /* as in autonat_msg.c */
    size_t len;
    check(data, size);
    uint8_t *made = recipe_make(WR_BYTES(data, size), ours, 2, &len);
    check(made, len);
    free(made);
    return 0;
}
