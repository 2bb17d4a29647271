/* cheap_noise.c - the interface of noise.h without the cryptography: for swarms of a thousand nodes in the
 * simulator, where real handshakes would be all that the processor does. Test only: it stands in at link
 * time, message for message and size for size, and checks the order of frames in place of their tags. */
#include "transport/err.h"
#include "transport/noise.h"

#include <string.h>

#define BODY_MAX (2 + WR_PUBKEY_MAX)

struct wr_noise {
    struct wr_noise_config config;
    struct wr_peerid expect;
    bool dialer, expects;
    int next;    /* message number awaited */
    struct wr_buf in;
    uint8_t pubkey[WR_PUBKEY_MAX];
};

void wr_noise_static_make(struct wr_noise_static *s, const struct wr_key *identity,
                          const uint8_t secret[static WR_NOISE_STATIC])
{
    (void)identity;
    memset(s, 0, sizeof(*s));
    memcpy(s->secret, secret, WR_NOISE_STATIC);
}

static void put_hello(struct wr_noise *n, struct wr_buf *out)
{
    struct wr_buf key;
    wr_buf_init(&key, WR_PUBKEY_MAX);
    wr_key_encode_public(n->config.identity, &key);
    wr_buf_put_u16be(out, (uint16_t)(key.len + 1));
    wr_buf_put_u8(out, n->config.muxer != NULL);
    wr_buf_put_bytes(out, wr_buf_bytes(&key));
    wr_buf_clear(&key);
}

struct wr_noise *wr_noise_create(const struct wr_noise_config *config, bool dialer, struct wr_buf *out)
{
    struct wr_noise *n = wr_alloc(sizeof(*n));
    if (!n)
        return NULL;
    n->config = *config;
    n->dialer = dialer;
    n->next = dialer ? 2 : 1;
    n->expects = config->expect != NULL;
    if (config->expect)
        n->expect = *config->expect;
    wr_buf_init(&n->in, WR_NOISE_HEADER + BODY_MAX);
    if (dialer) {
        wr_buf_put_u16be(out, WR_NOISE_STATIC);
        wr_buf_put(out, config->ephemeral, WR_NOISE_STATIC);
    }
    return n;
}

void wr_noise_destroy(struct wr_noise *n)
{
    if (!n)
        return;
    wr_buf_clear(&n->in);
    wr_free(n);
}

static int take_hello(struct wr_noise *n, struct wr_bytes body, struct wr_noise_result *result)
{
    if (body.len < 2 || body.len - 1 > sizeof(n->pubkey))
        return WR_EPROTO;
    memset(result, 0, sizeof(*result));
    result->muxer_agreed = body.ptr[0] && n->config.muxer;
    memcpy(n->pubkey, body.ptr + 1, body.len - 1);
    result->pubkey = WR_BYTES(n->pubkey, body.len - 1);
    int rc = wr_peerid_from_pubkey(result->pubkey, &result->peer);
    if (rc == 0 && n->expects && !wr_peerid_equal(&n->expect, &result->peer))
        rc = WR_EPEERID;
    return rc;
}

int wr_noise_input(struct wr_noise *n, struct wr_bytes *in, struct wr_buf *out,
                   struct wr_noise_result *result)
{
    for (;;) {
        size_t want = WR_NOISE_HEADER;
        if (n->in.len >= WR_NOISE_HEADER)
            want += (size_t)n->in.data[0] << 8 | n->in.data[1];
        size_t take = want - n->in.len < in->len ? want - n->in.len : in->len;
        wr_buf_put_bytes(&n->in, wr_bytes_take(in, take));
        if (n->in.full)
            return WR_EPROTO;
        if (n->in.len < want)
            return 0;
        if (want == WR_NOISE_HEADER && (n->in.data[0] || n->in.data[1]))
            continue;
        struct wr_bytes body = WR_BYTES(n->in.data + WR_NOISE_HEADER, n->in.len - WR_NOISE_HEADER);
        if (n->next == 1) {
            if (body.len != WR_NOISE_STATIC)
                return WR_EPROTO;
            put_hello(n, out);
            n->next = 3;
            wr_buf_reset(&n->in);
            continue;
        }
        int rc = take_hello(n, body, result);
        if (rc != 0)
            return rc;
        if (n->dialer)
            put_hello(n, out);
        return 1;
    }
}

/* The frame's number stands where the tag would. */
static void number(uint64_t nonce, uint8_t tag[static WR_AEAD_TAG])
{
    memset(tag, 0xee, WR_AEAD_TAG);
    memcpy(tag, &nonce, sizeof(nonce));
}

int wr_noise_seal_apart(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len,
                        struct wr_bytes apart)
{
    size_t body = len + WR_AEAD_TAG;
    (void)engine;
    if (apart.len)
        memcpy(frame + WR_NOISE_HEADER + len - apart.len, apart.ptr, apart.len);
    frame[0] = (uint8_t)(body >> 8);
    frame[1] = (uint8_t)body;
    number(s->send_nonce++, frame + WR_NOISE_HEADER + len);
    return (int)(WR_NOISE_HEADER + body);
}

int wr_noise_seal(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len)
{
    return wr_noise_seal_apart(engine, s, frame, len, WR_BYTES_NONE);
}

int wr_noise_open(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *body, size_t len)
{
    uint8_t tag[WR_AEAD_TAG];
    (void)engine;
    if (len < WR_AEAD_TAG)
        return WR_EPROTO;
    number(s->recv_nonce++, tag);
    return memcmp(tag, body + len - WR_AEAD_TAG, WR_AEAD_TAG) ? WR_EAUTH : (int)(len - WR_AEAD_TAG);
}
