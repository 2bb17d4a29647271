/* libcrypto's direct SHA-256 calls: no allocation, and a handshake hashes some 3 KiB in short pieces. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "transport/noise.h"

#include "transport/err.h"
#include "transport/noise.pb-c.h"
#include "transport/pb.h"

#include <assert.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <string.h>

#define HASH         32
#define HMAC_BLOCK   64    /* bytes; RFC 2104 with SHA-256 */
#define STATIC_FIELD (WR_NOISE_STATIC + WR_AEAD_TAG)
#define MUXERS_MAX   100    /* names; go takes a longer list for none */
#define OUR_PAYLOAD_MAX 512 /* bytes; with an Ed25519 key and one muxer it is 120 */

static const char protocol[HASH + 1] = "Noise_XX_25519_ChaChaPoly_SHA256";
static const char signed_prefix[] = "noise-libp2p-static-key:";

/* What the machine waits for. */
enum state { MESSAGE_1, MESSAGE_2, MESSAGE_3, OVER };

struct wr_noise {
    struct wr_noise_config config;
    enum state state;
    uint8_t hash[HASH], chain[HASH];    /* h and ck of the Noise specification */
    uint8_t key[WR_AEAD_KEY];           /* k */
    uint64_t nonce;
    bool keyed;
    uint8_t peer_ephemeral[WR_NOISE_STATIC], peer_static[WR_NOISE_STATIC];
    struct wr_buf frame;    /* the peer's message: length, then body, deciphered in place */
};

/* ---- symmetric state: Noise specification, section 5.2 -------------------------------------------- */

static void mix_hash(struct wr_noise *n, const uint8_t *data, size_t len)
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, n->hash, HASH);
    SHA256_Update(&ctx, data, len);
    SHA256_Final(n->hash, &ctx);
}

/* HMAC-SHA-256 under a key of one hash's length, as all of Noise's are. out may be key or data. */
static void hmac(const uint8_t key[static HASH], const uint8_t *data, size_t len,
                 uint8_t out[static HASH])
{
    SHA256_CTX ctx;
    uint8_t pad[HMAC_BLOCK], inner[HASH];
    memset(pad, 0x36, sizeof(pad));
    for (size_t i = 0; i < HASH; i++)
        pad[i] ^= key[i];
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, pad, sizeof(pad));
    SHA256_Update(&ctx, data, len);
    SHA256_Final(inner, &ctx);
    for (size_t i = 0; i < sizeof(pad); i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, pad, sizeof(pad));
    SHA256_Update(&ctx, inner, sizeof(inner));
    SHA256_Final(out, &ctx);
    sodium_memzero(&ctx, sizeof(ctx));
    sodium_memzero(pad, sizeof(pad));
    sodium_memzero(inner, sizeof(inner));
}

/* HKDF with two outputs: section 4.3. first may be chain. */
static void hkdf(const uint8_t chain[static HASH], const uint8_t *input, size_t len,
                 uint8_t first[static HASH], uint8_t second[static HASH])
{
    uint8_t temp[HASH], step[HASH + 1];
    hmac(chain, input, len, temp);
    step[0] = 1;
    hmac(temp, step, 1, first);
    memcpy(step, first, HASH);
    step[HASH] = 2;
    hmac(temp, step, sizeof(step), second);
    sodium_memzero(temp, sizeof(temp));
    sodium_memzero(step, sizeof(step));
}

/* Mixes in the product of our secret and the peer's point. 0; WR_EPROTO when it is all zero, which a point
 * of low order makes it. */
static int mix_dh(struct wr_noise *n, const uint8_t secret[static WR_NOISE_STATIC],
                  const uint8_t point[static WR_NOISE_STATIC])
{
    uint8_t shared[crypto_scalarmult_BYTES];
    int rc = crypto_scalarmult(shared, secret, point) == 0 ? 0 : WR_EPROTO;
    if (rc == 0)
        hkdf(n->chain, shared, sizeof(shared), n->chain, n->key);
    n->keyed = true;
    n->nonce = 0;
    sodium_memzero(shared, sizeof(shared));
    return rc;
}

static void put_nonce(uint64_t count, uint8_t nonce[static WR_AEAD_NONCE])
{
    memset(nonce, 0, 4);
    for (size_t i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(count >> 8 * i);
}

/* Appends in, sealed; a payload before there is a key would go out in clear, and libp2p has none. */
static int encrypt_and_hash(struct wr_noise *n, struct wr_bytes in, struct wr_buf *out)
{
    uint8_t nonce[WR_AEAD_NONCE];
    uint8_t *to = wr_buf_reserve(out, in.len + WR_AEAD_TAG);
    assert(n->keyed);
    if (!to)
        return WR_ELIMIT;
    put_nonce(n->nonce++, nonce);
    int rc = wr_aead_seal(n->config.engine, n->key, nonce, WR_BYTES(n->hash, HASH), in.ptr, in.len,
                          to);
    if (rc < 0)
        return rc;
    mix_hash(n, to, in.len + WR_AEAD_TAG);
    wr_buf_grew(out, in.len + WR_AEAD_TAG);
    return 0;
}

/* Opens data[0..len) in place. */
static int decrypt_and_hash(struct wr_noise *n, uint8_t *data, size_t len)
{
    uint8_t nonce[WR_AEAD_NONCE], hash[HASH];
    put_nonce(n->nonce++, nonce);
    memcpy(hash, n->hash, HASH);
    mix_hash(n, data, len);
    return wr_aead_open(n->config.engine, n->key, nonce, WR_BYTES(hash, HASH), data, len, data);
}

/* ---- payload ---------------------------------------------------------------------------------------- */

static struct wr_bytes signed_text(const uint8_t point[static WR_NOISE_STATIC],
                                   uint8_t out[static sizeof(signed_prefix) + WR_NOISE_STATIC])
{
    size_t prefix = sizeof(signed_prefix) - 1;
    memcpy(out, signed_prefix, prefix);
    memcpy(out + prefix, point, WR_NOISE_STATIC);
    return WR_BYTES(out, prefix + WR_NOISE_STATIC);
}

void wr_noise_static_make(struct wr_noise_static *s, const struct wr_key *identity,
                          const uint8_t secret[static WR_NOISE_STATIC])
{
    uint8_t text[sizeof(signed_prefix) + WR_NOISE_STATIC];
    memcpy(s->secret, secret, WR_NOISE_STATIC);
    crypto_scalarmult_base(s->public_key, s->secret);
    wr_key_sign(identity, signed_text(s->public_key, text), s->signature);
}

static int put_payload(struct wr_noise *n, struct wr_buf *out)
{
    Wr__Pb__NoisePayload payload = WR__PB__NOISE_PAYLOAD__INIT;
    Wr__Pb__NoiseExtensions extensions = WR__PB__NOISE_EXTENSIONS__INIT;
    ProtobufCBinaryData muxer;
    uint8_t key_memory[64], plain_memory[OUR_PAYLOAD_MAX];
    struct wr_buf key, plain;
    wr_buf_over(&key, key_memory, sizeof(key_memory));
    wr_buf_over(&plain, plain_memory, sizeof(plain_memory));
    wr_key_encode_public(n->config.identity, &key);
    payload.identity_key = wr_pb_bytes(wr_buf_bytes(&key));
    payload.identity_sig = wr_pb_bytes(WR_BYTES(n->config.static_key->signature, WR_SIG_ED25519));
    if (n->config.muxer) {
        muxer = wr_pb_bytes(wr_bytes_cstr(n->config.muxer));
        extensions.n_stream_muxers = 1;
        extensions.stream_muxers = &muxer;
        payload.extensions = &extensions;
    }
    wr_pb_pack(&payload.base, &plain);
    return key.full || plain.full ? WR_ELIMIT : encrypt_and_hash(n, wr_buf_bytes(&plain), out);
}

/* Whether `name` stands in the list of muxers of a NoiseExtensions message. 1, 0, WR_EPROTO. */
static int find_muxer(struct wr_bytes extensions, struct wr_bytes name)
{
    struct wr_pb_field f;
    unsigned count = 0;
    int found = 0, more;
    while ((more = wr_pb_next(&extensions, &f)) == 1) {
        if (f.number == 2) {
            found |= wr_bytes_equal(f.bytes, name);
            count++;
        }
    }
    return more < 0 ? more : count <= MUXERS_MAX && found;
}

/* Takes the peer's payload apart and checks who it is. */
static int check_payload(struct wr_noise *n, struct wr_bytes payload,
                         struct wr_noise_result *result)
{
    struct wr_bytes key = WR_BYTES_NONE, sig = WR_BYTES_NONE, extensions = WR_BYTES_NONE;
    struct wr_pb_field f;
    uint8_t text[sizeof(signed_prefix) + WR_NOISE_STATIC];
    int rc;
    while ((rc = wr_pb_next(&payload, &f)) == 1) {
        if (f.number == 1)
            key = f.bytes;
        else if (f.number == 2)
            sig = f.bytes;
        else if (f.number == 4)
            extensions = f.bytes;
    }
    if (rc < 0)
        return rc;
    rc = wr_verified_check(n->config.verified, key, signed_text(n->peer_static, text), sig);
    if (rc < 0)
        return rc;
    rc = wr_peerid_from_pubkey(key, &result->peer);
    if (rc < 0)
        return rc;
    if (n->config.expect && !wr_peerid_equal(n->config.expect, &result->peer))
        return WR_EPEERID;
    result->pubkey = key;
    if (n->config.muxer) {
        rc = find_muxer(extensions, wr_bytes_cstr(n->config.muxer));
        result->muxer_agreed = rc == 1;
    }
    return rc < 0 ? rc : 0;
}

/* ---- messages: Noise specification, section 7.5, pattern XX ----------------------------------------- */

static void put_ephemeral(struct wr_noise *n, struct wr_buf *out)
{
    uint8_t point[WR_NOISE_STATIC];
    crypto_scalarmult_base(point, n->config.ephemeral);
    mix_hash(n, point, sizeof(point));
    wr_buf_put(out, point, sizeof(point));
}

/* -> e. Everything that follows from the name of the protocol and an empty prologue is here too. */
static void write_1(struct wr_noise *n, struct wr_buf *out)
{
    wr_buf_put_u16be(out, WR_NOISE_STATIC);
    put_ephemeral(n, out);
    mix_hash(n, NULL, 0);    /* the empty payload */
}

static int read_1(struct wr_noise *n, const uint8_t *body)
{
    memcpy(n->peer_ephemeral, body, WR_NOISE_STATIC);
    mix_hash(n, body, WR_NOISE_STATIC);
    mix_hash(n, NULL, 0);
    return 0;
}

/* Static key and payload, the end of messages 2 and 3, with the product in between. */
static int put_static_and_payload(struct wr_noise *n, struct wr_buf *out)
{
    const struct wr_noise_static *s = n->config.static_key;
    int rc = encrypt_and_hash(n, WR_BYTES(s->public_key, WR_NOISE_STATIC), out);
    if (rc == 0)
        rc = mix_dh(n, s->secret, n->peer_ephemeral);
    return rc == 0 ? put_payload(n, out) : rc;
}

static int read_static_and_payload(struct wr_noise *n, uint8_t *body, size_t len,
                                   struct wr_noise_result *result)
{
    int rc = decrypt_and_hash(n, body, STATIC_FIELD);
    if (rc < 0)
        return rc;
    memcpy(n->peer_static, body, WR_NOISE_STATIC);
    rc = mix_dh(n, n->config.ephemeral, n->peer_static);
    if (rc < 0)
        return rc;
    body += STATIC_FIELD;
    len -= STATIC_FIELD;
    rc = decrypt_and_hash(n, body, len);
    return rc == 0 ? check_payload(n, WR_BYTES(body, len - WR_AEAD_TAG), result) : rc;
}

/* A message of a length not known before: filled in behind. */
static size_t begin_frame(struct wr_buf *out)
{
    size_t at = out->len;
    wr_buf_put_u16be(out, 0);
    return at;
}

static int end_frame(struct wr_buf *out, size_t at, int rc)
{
    if (rc < 0)
        return rc;
    if (out->full)
        return WR_ELIMIT;
    size_t len = out->len - at - WR_NOISE_HEADER;
    out->data[at] = (uint8_t)(len >> 8);
    out->data[at + 1] = (uint8_t)len;
    return 0;
}

/* <- e, ee, s, es */
static int write_2(struct wr_noise *n, struct wr_buf *out)
{
    size_t at = begin_frame(out);
    put_ephemeral(n, out);
    int rc = mix_dh(n, n->config.ephemeral, n->peer_ephemeral);
    return end_frame(out, at, rc == 0 ? put_static_and_payload(n, out) : rc);
}

static int read_2(struct wr_noise *n, uint8_t *body, size_t len, struct wr_noise_result *result)
{
    memcpy(n->peer_ephemeral, body, WR_NOISE_STATIC);
    mix_hash(n, body, WR_NOISE_STATIC);
    int rc = mix_dh(n, n->config.ephemeral, n->peer_ephemeral);
    if (rc < 0)
        return rc;
    return read_static_and_payload(n, body + WR_NOISE_STATIC, len - WR_NOISE_STATIC, result);
}

/* -> s, se */
static int write_3(struct wr_noise *n, struct wr_buf *out)
{
    size_t at = begin_frame(out);
    return end_frame(out, at, put_static_and_payload(n, out));
}

/* Split: the dialler seals with the first key. */
static void finish(struct wr_noise *n, bool dialer, struct wr_noise_result *result)
{
    struct wr_noise_session *s = &result->session;
    *s = (struct wr_noise_session){0};
    result->engine = n->config.engine;
    hkdf(n->chain, NULL, 0, dialer ? s->send_key : s->recv_key, dialer ? s->recv_key : s->send_key);
    memcpy(result->handshake_hash, n->hash, HASH);
}

/* ---- the machine ------------------------------------------------------------------------------------- */

struct wr_noise *wr_noise_create(const struct wr_noise_config *config, bool dialer,
                                 struct wr_buf *out)
{
    struct wr_noise *n = wr_alloc(sizeof(*n));
    if (!n)
        return NULL;
    n->config = *config;
    n->state = dialer ? MESSAGE_2 : MESSAGE_1;
    memcpy(n->hash, protocol, HASH);    /* just as long as a hash: not hashed itself */
    memcpy(n->chain, protocol, HASH);
    wr_buf_init(&n->frame, WR_NOISE_HEADER + WR_NOISE_HANDSHAKE_FRAME_MAX);
    mix_hash(n, NULL, 0);    /* the empty prologue */
    if (dialer)
        write_1(n, out);
    if (out->full) {
        wr_noise_destroy(n);
        return NULL;
    }
    return n;
}

void wr_noise_destroy(struct wr_noise *n)
{
    if (!n)
        return;
    wr_buf_wipe(&n->frame);
    sodium_memzero(n, sizeof(*n));
    wr_free(n);
}

/* Whether a message of this state can be as long. Message 1 has no payload; rust and we fail on one. */
static bool length_fits(enum state state, size_t len)
{
    size_t least = STATIC_FIELD + WR_AEAD_TAG;
    if (state == MESSAGE_1)
        return len == WR_NOISE_STATIC;
    if (state == MESSAGE_2)
        least += WR_NOISE_STATIC;
    return len >= least && len <= WR_NOISE_HANDSHAKE_FRAME_MAX;
}

/* Gathers one frame. 1: whole. 0: wants more. */
static int take_frame(struct wr_noise *n, struct wr_bytes *in)
{
    for (;;) {
        size_t need = WR_NOISE_HEADER;
        if (n->frame.len >= WR_NOISE_HEADER) {
            size_t len = (size_t)n->frame.data[0] << 8 | n->frame.data[1];
            if (!length_fits(n->state, len))
                return WR_EPROTO;
            need += len;
        }
        need -= n->frame.len;
        if (need == 0)
            return 1;
        struct wr_bytes part = wr_bytes_take(in, need < in->len ? need : in->len);
        if (part.len == 0)
            return 0;
        wr_buf_put_bytes(&n->frame, part);
        if (n->frame.full)
            return WR_ELIMIT;
    }
}

int wr_noise_input(struct wr_noise *n, struct wr_bytes *in, struct wr_buf *out,
                   struct wr_noise_result *result)
{
    assert(n->state != OVER);
    int rc = take_frame(n, in);
    if (rc == 0)
        return 0;
    enum state state = n->state;
    n->state = OVER;
    if (rc < 0)
        return rc;
    uint8_t *body = n->frame.data + WR_NOISE_HEADER;
    size_t len = n->frame.len - WR_NOISE_HEADER;
    *result = (struct wr_noise_result){0};
    switch (state) {
    case MESSAGE_1:
        rc = read_1(n, body);
        rc = rc == 0 ? write_2(n, out) : rc;
        if (rc < 0)
            return rc;
        wr_buf_reset(&n->frame);
        n->state = MESSAGE_3;
        return wr_noise_input(n, in, out, result);
    case MESSAGE_2:
        /* Who the peer is was checked before it learns who we are. */
        rc = read_2(n, body, len, result);
        rc = rc == 0 ? write_3(n, out) : rc;
        break;
    case MESSAGE_3:
        rc = read_static_and_payload(n, body, len, result);
        break;
    case OVER:
        break;
    }
    if (rc < 0)
        return rc;
    finish(n, state == MESSAGE_2, result);
    return 1;
}

/* ---- transport ------------------------------------------------------------------------------------- */

int wr_noise_seal_apart(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len,
                        struct wr_bytes apart)
{
    uint8_t nonce[WR_AEAD_NONCE];
    uint8_t *body = frame + WR_NOISE_HEADER;
    size_t whole = len + WR_AEAD_TAG;
    assert(len <= WR_NOISE_PAYLOAD_MAX && apart.len <= len);
    if (s->send_nonce == UINT64_MAX)    /* reserved; Noise specification, section 5.1 */
        return WR_ELIMIT;
    put_nonce(s->send_nonce++, nonce);
    int rc = wr_aead_seal_two(engine, s->send_key, nonce, WR_BYTES_NONE, WR_BYTES(body, len - apart.len), apart, body);
    if (rc < 0)
        return rc;
    frame[0] = (uint8_t)(whole >> 8);
    frame[1] = (uint8_t)whole;
    return (int)(WR_NOISE_HEADER + whole);
}

int wr_noise_seal(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len)
{
    return wr_noise_seal_apart(engine, s, frame, len, WR_BYTES_NONE);
}

int wr_noise_open(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *body, size_t len)
{
    uint8_t nonce[WR_AEAD_NONCE];
    if (len < WR_AEAD_TAG || len > WR_NOISE_FRAME_MAX)
        return WR_EPROTO;
    if (s->recv_nonce == UINT64_MAX)
        return WR_ELIMIT;
    put_nonce(s->recv_nonce, nonce);
    int rc = wr_aead_open(engine, s->recv_key, nonce, WR_BYTES_NONE, body, len, body);
    if (rc < 0)
        return rc;
    s->recv_nonce++;
    return (int)(len - WR_AEAD_TAG);
}
