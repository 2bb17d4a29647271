/* What is remembered of a NAT, read from a store that says anything: what passes is within bounds, and is written as it was
 * read. The source is included: the decoder is its own. */
#include "node/natbook.c"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record r;
    struct wr_buf again;
    if (!decode(WR_BYTES(data, size), &r))
        return 0;
    assert(r.saved_at >= 0 && r.mapping <= WR_NAT_MAP_APDM && r.filtering <= WR_NAT_FILTER_APDF);
    assert(wr_lifetime_floor(&r.lifetime) < WR_LIFETIME_STEPS);
    wr_buf_init(&again, RECORD_MAX);
    encode(&r, &again);
    assert(!again.full && wr_bytes_equal(wr_buf_bytes(&again), WR_BYTES(data, size)));
    wr_buf_clear(&again);
    return 0;
}
