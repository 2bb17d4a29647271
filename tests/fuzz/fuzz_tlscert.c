/* A peer's certificate. A good one is found good again, and its key lies inside it. */
#include "transport/err.h"
#include "transport/tlscert.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_tlscert_info info, again;
    const char *why = NULL;
    int rc = wr_tlscert_verify(WR_BYTES(data, size), &info, &why);
    assert(rc <= 0 && (rc == 0 || why));
    if (rc < 0)
        return 0;
    struct wr_peerid peer;
    assert(info.pubkey_at < size && info.pubkey_len <= size - info.pubkey_at);
    rc = wr_peerid_from_pubkey(WR_BYTES(data + info.pubkey_at, info.pubkey_len), &peer);
    assert(rc == 0 && wr_peerid_equal(&peer, &info.peer));
    rc = wr_tlscert_verify(WR_BYTES(data, size), &again, &why);
    assert(rc == 0 && wr_peerid_equal(&again.peer, &info.peer));
    wr_tlscert_in_time(&info, 0);
    return 0;
}
