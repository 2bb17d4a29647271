/* Whatever claims to come from a router, as NAT-PMP. */
#include "autonat/natpmp.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wr_natpmp_answer a;
    if (wr_natpmp_decode(WR_BYTES(data, len), &a) != 0)
        return 0;
    assert(len >= 8 && data[0] == 0 && data[1] >= 128);
    assert(a.result != 0 || len >= (a.map ? 16u : 12u));
    assert(a.result == 0 || (a.outside == 0 && a.external.family == 0 && a.lifetime == 0));
    return 0;
}
