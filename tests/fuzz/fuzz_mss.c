/* multistream-select in both roles. First byte: role and size of the pieces; the rest: the peer's bytes. */
#include "transport/mss.h"

#include <assert.h>
#include <string.h>

static const char *const offer[] = {"/tls/1.0.0", "/noise", "/yamux/1.0.0", NULL};

static const char *match(void *arg, struct wr_bytes name)
{
    (void)arg;
    for (size_t i = 0; offer[i]; i++) {
        if (wr_bytes_equal(wr_bytes_cstr(offer[i]), name))
            return offer[i];
    }
    return NULL;
}

/* Feeds data in pieces; returns the last result, with the bytes taken and all that was sent. */
static int run(bool dialer, const uint8_t *data, size_t size, size_t step, size_t *taken,
               struct wr_buf *out)
{
    struct wr_mss m;
    int rc = 0;
    *taken = 0;
    if (dialer)
        wr_mss_dial(&m, offer, out);
    else
        wr_mss_listen(&m, match, NULL);
    while (rc == 0 && *taken < size) {
        struct wr_bytes in = WR_BYTES(data + *taken, size - *taken < step ? size - *taken : step);
        size_t had = in.len;
        rc = wr_mss_input(&m, &in, out);
        assert(rc != 0 || in.len == 0);
        *taken += had - in.len;
    }
    assert(rc <= 1);
    assert((rc == 1) == (m.agreed != NULL));
    assert(m.refused <= WR_MSS_REFUSALS_MAX + 1);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool dialer = data[0] & 1;
    size_t step = 1 + (data[0] >> 1), taken, taken_whole;
    struct wr_buf out, out_whole;
    wr_buf_init(&out, 4096);
    wr_buf_init(&out_whole, 4096);
    int rc = run(dialer, data + 1, size - 1, step, &taken, &out);
    int rc_whole = run(dialer, data + 1, size - 1, size, &taken_whole, &out_whole);
    /* however it is cut */
    assert(rc == rc_whole);
    assert(wr_bytes_equal(wr_buf_bytes(&out), wr_buf_bytes(&out_whole)));
    if (rc >= 0)
        assert(taken == taken_whole);
    wr_buf_clear(&out);
    wr_buf_clear(&out_whole);
    return 0;
}
