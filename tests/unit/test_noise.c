/* Noise: the whole transcript byte for byte, any chunking, damage, and what a dishonest peer could say.
 * The source is included, so that a test can send payloads which the machine itself would not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/noise.c"
#include "unit/stride.h"

/* Computed with an independent implementation that was checked against the XX vectors of flynn/noise;
 * identity of the dialler: libp2p peer-ids/peer-ids.md, "Test vectors". */
#define DIALER_SEED "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
#define RESPONDER_ID "12D3KooWBPCrmsYzhEALNAUVcxV4PAW6KRH2bmNqiJKLqk8PGyhE"
#define DIALER_ID    "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
#define FRAME_1 "0020358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
#define FRAME_2                                                                                        \
    "00d864b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d484663414af878d3e46a2f58911a816d6" \
    "e8346d4ea17a6f2a0bb4ef4ed56c133cff4560a34e36ea82109f26cf2e5a5caf992b8b4dc7d75b055ee767497ee1aae9" \
    "c3d3620c259ff375edf38285e1cab58655dadb66164b7bc687e8ce813fa5b2f2975a57fc23a962a9796a53028b3d89f3" \
    "3d286ecc03cb19b9d4b5b17b4f7617660e953bec540aea544273ce1d71dbc322f53606e513d91923705794216610cafd" \
    "32b1ac73bf9b837316a68368284835f094554ec93ea05b5ff3f2"
#define FRAME_3                                                                                        \
    "00b887f864c11ba449f46a0a4f4e2eacbb7b0457784f4fca1937f572c93603e9c4d95bfb0de7aa504edfd34c59cc8eff" \
    "b09602320cd7b9b479fd98c480fafdd61f5e93858f566ed8b6e39a20b486d45185eb32978db15c655ce1de6fbbdffb95" \
    "3a0c39f0b45a87a12bdc01aee67172c64b22b78e1170970225393bcdaf4d88e502fc1b160fd8ebc2f9bab60db8d2f09c" \
    "c148c20dbe810831018a8cbc9debef6fdb1c510dfc961b06f8a766b6250047aeffbf47269c4c33919e0d"
#define KEY_TO_RESPONDER "4759d15f0f4cfb9c3cef133e60b44ea3479cae90880a7e71df96f111d78d5953"
#define KEY_TO_DIALER    "a8b5dce3cef845d63c9671c350eb15cbb50b6c6d5f0d3231d32d711dab1ed191"
#define HANDSHAKE_HASH   "87369d9b8fbf07b3c100cd085ae16a7cc8fc47110bceb23237467727f7495032"
#define FIRST_FRAME      "001cdc4a9c46c979611d0f700aec9c288cb51aed38473d43889f84b4956e"

static size_t unhex(const char *hex, uint8_t *out, size_t size)
{
    size_t len;
    assert_int_equal(sodium_hex2bin(out, size, hex, strlen(hex), NULL, &len, NULL), 0);
    return len;
}

static void count_from(uint8_t first, uint8_t out[static 32])
{
    for (uint8_t i = 0; i < 32; i++)
        out[i] = (uint8_t)(first + i);
}

static void assert_hex(struct wr_bytes got, const char *hex)
{
    uint8_t expect[1024];
    size_t len = unhex(hex, expect, sizeof(expect));
    assert_int_equal(got.len, len);
    assert_memory_equal(got.ptr, expect, len);
}

/* One end with its keys; the two ends of the transcript. */
struct end {
    struct wr_key identity;
    struct wr_noise_static fixed;
    struct wr_peerid expect;
    struct wr_noise_config config;
};

static struct wr_aead *engine;

static void end_init(struct end *e, bool dialer, const char *muxer)
{
    uint8_t seed[32], secret[32];
    if (dialer)
        unhex(DIALER_SEED, seed, sizeof(seed));
    else
        count_from(0x60, seed);
    wr_key_generate(&e->identity, seed);
    count_from(dialer ? 0 : 1, secret);
    wr_noise_static_make(&e->fixed, &e->identity, secret);
    assert_int_equal(wr_peerid_parse(dialer ? RESPONDER_ID : DIALER_ID, &e->expect), 0);
    e->config = (struct wr_noise_config){.engine = engine, .identity = &e->identity,
                                         .static_key = &e->fixed, .expect = &e->expect, .muxer = muxer};
    count_from(dialer ? 0x20 : 0x41, e->config.ephemeral);
}

struct pair {
    struct end dialer, responder;
    struct wr_noise *a, *b;
    struct wr_buf from_a, from_b;
    int rc_a, rc_b;
    struct wr_noise_result got_a, got_b;
};

static void pair_init(struct pair *p, const char *muxer_a, const char *muxer_b)
{
    *p = (struct pair){0};
    end_init(&p->dialer, true, muxer_a);
    end_init(&p->responder, false, muxer_b);
    p->responder.config.expect = NULL;
    wr_buf_init(&p->from_a, 1 << 16);
    wr_buf_init(&p->from_b, 1 << 16);
    p->a = wr_noise_create(&p->dialer.config, true, &p->from_a);
    p->b = wr_noise_create(&p->responder.config, false, &p->from_b);
    assert_non_null(p->a);
    assert_non_null(p->b);
}

static void pair_clear(struct pair *p)
{
    wr_noise_destroy(p->a);
    wr_noise_destroy(p->b);
    wr_buf_clear(&p->from_a);
    wr_buf_clear(&p->from_b);
}

/* Moves up to step bytes of `from` into a machine that is not done. */
static void move(struct wr_noise *n, struct wr_buf *from, size_t step, struct wr_buf *out, int *rc,
                 struct wr_noise_result *result)
{
    struct wr_bytes in = WR_BYTES(from->data, from->len < step ? from->len : step);
    size_t had = in.len;
    if (*rc == 0 && had)
        *rc = wr_noise_input(n, &in, out, result);
    wr_buf_consume(from, had - in.len);
}

static void pair_run(struct pair *p, size_t step)
{
    for (int turn = 0; turn < 2000 && (p->rc_a == 0 || p->rc_b == 0); turn++) {
        move(p->b, &p->from_a, step, &p->from_b, &p->rc_b, &p->got_b);
        move(p->a, &p->from_b, step, &p->from_a, &p->rc_a, &p->got_a);
    }
}

static void test_transcript(void **state)
{
    (void)state;
    struct pair p;
    char text[WR_PEERID_TEXT];
    pair_init(&p, "/yamux/1.0.0", "/yamux/1.0.0");
    assert_hex(WR_BYTES(p.dialer.fixed.public_key, 32),
               "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f");
    assert_hex(wr_buf_bytes(&p.from_a), FRAME_1);
    move(p.b, &p.from_a, SIZE_MAX, &p.from_b, &p.rc_b, &p.got_b);
    assert_int_equal(p.rc_b, 0);
    assert_hex(wr_buf_bytes(&p.from_b), FRAME_2);
    move(p.a, &p.from_b, SIZE_MAX, &p.from_a, &p.rc_a, &p.got_a);
    assert_int_equal(p.rc_a, 1);
    assert_hex(wr_buf_bytes(&p.from_a), FRAME_3);    /* no block behind it: go-libp2p-noise 54 */
    move(p.b, &p.from_a, SIZE_MAX, &p.from_b, &p.rc_b, &p.got_b);
    assert_int_equal(p.rc_b, 1);
    assert_int_equal(p.from_b.len, 0);

    assert_hex(WR_BYTES(p.got_a.session.send_key, 32), KEY_TO_RESPONDER);
    assert_hex(WR_BYTES(p.got_b.session.recv_key, 32), KEY_TO_RESPONDER);
    assert_hex(WR_BYTES(p.got_a.session.recv_key, 32), KEY_TO_DIALER);
    assert_hex(WR_BYTES(p.got_b.session.send_key, 32), KEY_TO_DIALER);
    assert_hex(WR_BYTES(p.got_a.handshake_hash, 32), HANDSHAKE_HASH);
    assert_hex(WR_BYTES(p.got_b.handshake_hash, 32), HANDSHAKE_HASH);
    assert_string_equal(wr_peerid_print(&p.got_a.peer, text), RESPONDER_ID);
    assert_string_equal(wr_peerid_print(&p.got_b.peer, text), DIALER_ID);
    assert_int_equal(p.got_b.pubkey.len, 36);
    assert_true(p.got_a.muxer_agreed && p.got_b.muxer_agreed);

    uint8_t frame[2 + 12 + 16] = {0, 0, 0, 1, 0, 1, 0, 0, 0, 1};
    assert_int_equal(wr_noise_seal(engine, &p.got_a.session, frame, 12), sizeof(frame));
    assert_hex(WR_BYTES(frame, sizeof(frame)), FIRST_FRAME);
    assert_int_equal(wr_noise_open(engine, &p.got_b.session, frame + 2, sizeof(frame) - 2), 12);
    assert_memory_equal(frame + 2, "\0\1\0\1\0\0\0\1\0\0\0\0", 12);
    pair_clear(&p);
}

/* However the bytes are cut, both ends agree; what follows the handshake stays in the input. */
static void test_any_chunking(void **state)
{
    (void)state;
    for (size_t step = 1; step < 230; step += stride()) {
        struct pair p;
        pair_init(&p, NULL, NULL);
        pair_run(&p, step);
        assert_int_equal(p.rc_a, 1);
        assert_int_equal(p.rc_b, 1);
        assert_memory_equal(p.got_a.session.send_key, p.got_b.session.recv_key, 32);
        assert_memory_equal(p.got_a.session.recv_key, p.got_b.session.send_key, 32);
        assert_false(p.got_a.muxer_agreed || p.got_b.muxer_agreed);
        pair_clear(&p);
    }
    uint8_t bytes[512];
    struct pair p;
    pair_init(&p, "/yamux/1.0.0", "/yamux/1.0.0");
    move(p.b, &p.from_a, SIZE_MAX, &p.from_b, &p.rc_b, &p.got_b);
    size_t len = unhex(FRAME_3 FIRST_FRAME, bytes, sizeof(bytes));
    struct wr_bytes in = WR_BYTES(bytes, len);
    assert_int_equal(wr_noise_input(p.b, &in, &p.from_b, &p.got_b), 1);
    assert_hex(in, FIRST_FRAME);
    pair_clear(&p);
}

/* Feeds `frame` to one end of a fresh pair whose handshake has come that far. */
static int give(int message, struct wr_bytes frame)
{
    struct pair p;
    struct wr_noise_result got;
    int rc;
    pair_init(&p, "/yamux/1.0.0", "/yamux/1.0.0");
    if (message == 1) {
        rc = wr_noise_input(p.b, &frame, &p.from_b, &got);
    } else {
        move(p.b, &p.from_a, SIZE_MAX, &p.from_b, &p.rc_b, &p.got_b);
        rc = message == 2 ? wr_noise_input(p.a, &frame, &p.from_a, &got)
                          : wr_noise_input(p.b, &frame, &p.from_b, &got);
    }
    pair_clear(&p);
    return rc;
}

/* Every one-bit flip of messages 2 and 3 is refused or leaves the machine waiting for a longer one; every
 * truncation waits. Message 1 has no protection of its own: it spoils message 2 instead. */
static void test_damage(void **state)
{
    (void)state;
    static const char *const frames[] = {FRAME_1, FRAME_2, FRAME_3};
    for (int message = 1; message <= 3; message++) {
        uint8_t bytes[512];
        size_t len = unhex(frames[message - 1], bytes, sizeof(bytes));
        assert_int_equal(give(message, WR_BYTES(bytes, len)), message == 1 ? 0 : 1);
        for (size_t cut = 0; cut < len; cut += stride())
            assert_int_equal(give(message, WR_BYTES(bytes, cut)), 0);
        for (size_t bit = 0; bit < (message == 1 ? 16 : 8 * len); bit += stride()) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int rc = give(message, WR_BYTES(bytes, len));
            size_t says = (size_t)(bytes[0] << 8 | bytes[1]);
            bool waits = bit < 16 && message > 1 && says > len - 2 && says <= WR_NOISE_HANDSHAKE_FRAME_MAX;
            if (waits)
                assert_int_equal(rc, 0);
            else
                assert_true(rc == WR_EPROTO || rc == WR_EAUTH);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    struct pair p;
    pair_init(&p, NULL, NULL);
    p.from_a.data[20] ^= 4;
    pair_run(&p, SIZE_MAX);
    assert_int_equal(p.rc_a, WR_EAUTH);
    pair_clear(&p);
}

/* A length that cannot be right is refused before its body arrives. */
static void test_frame_bounds(void **state)
{
    (void)state;
    static const struct {
        int message, rc;
        size_t len;
    } lengths[] = {
        {1, WR_EPROTO, 0},   {1, WR_EPROTO, 31},   {1, WR_EPROTO, 33},    {1, 0, 32},
        {2, WR_EPROTO, 95},  {2, 0, 96},           {2, 0, 8192},          {2, WR_EPROTO, 8193},
        {3, WR_EPROTO, 63},  {3, 0, 64},           {3, WR_EPROTO, 65535}, {3, 0, 8192},
    };
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t head[2] = {(uint8_t)(lengths[i].len >> 8), (uint8_t)lengths[i].len};
        assert_int_equal(give(lengths[i].message, WR_BYTES(head, 2)), lengths[i].rc);
    }
}

/* ---- dishonest peers -------------------------------------------------------------------------------- */

/* A dialler meets a responder that sends this payload in message 2 (and these points). */
static int answer_with(const char *muxer, struct wr_bytes payload, const uint8_t *ephemeral_point,
                       struct wr_noise_result *got)
{
    struct pair p;
    struct wr_buf out;
    pair_init(&p, muxer, NULL);
    wr_buf_init(&out, 1 << 16);
    struct wr_noise *b = p.b;
    read_1(b, p.from_a.data + 2);
    size_t at = begin_frame(&out);
    if (ephemeral_point) {
        mix_hash(b, ephemeral_point, 32);
        wr_buf_put(&out, ephemeral_point, 32);
    } else {
        put_ephemeral(b, &out);
    }
    assert_int_equal(mix_dh(b, b->config.ephemeral, b->peer_ephemeral), 0);
    assert_int_equal(encrypt_and_hash(b, WR_BYTES(p.responder.fixed.public_key, 32), &out), 0);
    assert_int_equal(mix_dh(b, p.responder.fixed.secret, b->peer_ephemeral), 0);
    assert_int_equal(encrypt_and_hash(b, payload, &out), 0);
    assert_int_equal(end_frame(&out, at, 0), 0);
    struct wr_bytes in = wr_buf_bytes(&out);
    size_t before = p.from_a.len;
    int rc = wr_noise_input(p.a, &in, &p.from_a, got);
    if (rc < 0)
        assert_int_equal(p.from_a.len, before);    /* no message 3: we stay unknown to it */
    got->pubkey = WR_BYTES_NONE;
    wr_buf_clear(&out);
    pair_clear(&p);
    return rc;
}

struct payload {
    struct wr_buf b;
    struct end end;
    uint8_t key_memory[64];
    struct wr_buf key;
};

static void put_field(struct wr_buf *b, uint8_t number, struct wr_bytes bytes)
{
    wr_buf_put_u8(b, (uint8_t)(number << 3 | 2));
    wr_buf_put_prefixed(b, bytes);
}

static void payload_init(struct payload *p)
{
    wr_buf_init(&p->b, 8000);
    end_init(&p->end, false, NULL);
    wr_buf_over(&p->key, p->key_memory, sizeof(p->key_memory));
    wr_key_encode_public(&p->end.identity, &p->key);
}

static int payload_give(struct payload *p, const char *muxer, struct wr_noise_result *got)
{
    int rc = answer_with(muxer, wr_buf_bytes(&p->b), NULL, got);
    wr_buf_clear(&p->b);
    return rc;
}

static void put_identity(struct payload *p)
{
    put_field(&p->b, 1, wr_buf_bytes(&p->key));
    put_field(&p->b, 2, WR_BYTES(p->end.fixed.signature, WR_SIG_ED25519));
}

static void test_payload_is_checked(void **state)
{
    (void)state;
    struct payload p;
    struct wr_noise_result got;
    uint8_t text[sizeof(signed_prefix) + 32], sig[WR_SIG_ED25519], secret[32];

    payload_init(&p);
    assert_int_equal(payload_give(&p, NULL, &got), WR_EPROTO);    /* nothing */
    payload_init(&p);
    put_field(&p.b, 1, wr_buf_bytes(&p.key));
    assert_true(payload_give(&p, NULL, &got) < 0);    /* no signature */
    payload_init(&p);
    put_field(&p.b, 2, WR_BYTES(p.end.fixed.signature, WR_SIG_ED25519));
    assert_int_equal(payload_give(&p, NULL, &got), WR_EPROTO);    /* no key */

    payload_init(&p);    /* a signature of another static key: the key was copied from somebody else */
    struct wr_noise_static other;
    count_from(9, secret);
    wr_noise_static_make(&other, &p.end.identity, secret);
    put_field(&p.b, 1, wr_buf_bytes(&p.key));
    put_field(&p.b, 2, WR_BYTES(other.signature, WR_SIG_ED25519));
    assert_int_equal(payload_give(&p, NULL, &got), WR_EAUTH);

    payload_init(&p);    /* signed without the prefix */
    struct wr_bytes whole = signed_text(p.end.fixed.public_key, text);
    wr_key_sign(&p.end.identity, WR_BYTES(whole.ptr + 24, 32), sig);
    put_field(&p.b, 1, wr_buf_bytes(&p.key));
    put_field(&p.b, 2, WR_BYTES(sig, sizeof(sig)));
    assert_int_equal(payload_give(&p, NULL, &got), WR_EAUTH);

    payload_init(&p);
    put_identity(&p);
    wr_buf_put(&p.b, "\x22\x7f", 2);    /* a field longer than the payload */
    assert_int_equal(payload_give(&p, NULL, &got), WR_EPROTO);

    payload_init(&p);
    put_identity(&p);
    assert_int_equal(payload_give(&p, NULL, &got), 1);
}

/* A handshake with somebody whose signature is known, or with what only looks like it. */
static int meet_again(struct wr_verified *known, uint8_t static_key)
{
    struct pair p;
    uint8_t secret[32];
    struct wr_noise_static other;
    pair_init(&p, NULL, NULL);
    wr_noise_destroy(p.a);
    wr_buf_reset(&p.from_a);
    p.dialer.config.verified = known;
    p.a = wr_noise_create(&p.dialer.config, true, &p.from_a);
    count_from(static_key, secret);
    wr_noise_static_make(&other, &p.responder.identity, secret);
    memcpy(p.responder.fixed.secret, other.secret, sizeof(other.secret));
    memcpy(p.responder.fixed.public_key, other.public_key, sizeof(other.public_key));
    pair_run(&p, 1000);
    pair_clear(&p);
    return p.rc_a;
}

static void test_who_comes_again(void **state)
{
    (void)state;
    static const uint8_t seed[WR_VERIFIED_SEED] = {1};
    struct wr_verified *known = wr_verified_create(seed);
    struct end responder;
    uint8_t text[sizeof(signed_prefix) + 32], key_memory[64];
    struct wr_buf key;
    end_init(&responder, false, NULL);
    wr_buf_over(&key, key_memory, sizeof(key_memory));
    wr_key_encode_public(&responder.identity, &key);
    struct wr_bytes whole = signed_text(responder.fixed.public_key, text);
    struct wr_bytes sig = WR_BYTES(responder.fixed.signature, WR_SIG_ED25519);
    assert_false(wr_verified_knows(known, wr_buf_bytes(&key), whole, sig));
    assert_int_equal(meet_again(known, 1), 1);
    assert_true(wr_verified_knows(known, wr_buf_bytes(&key), whole, sig));
    assert_int_equal(meet_again(known, 1), 1);
    assert_int_equal(meet_again(known, 9), WR_EAUTH);    /* the same signature, another static key */
    wr_verified_destroy(known);
}

/* The former data field, unknown fields and certificate hashes are passed over. */
static void test_unknown_fields_are_skipped(void **state)
{
    (void)state;
    struct payload p;
    struct wr_noise_result got;
    payload_init(&p);
    put_field(&p.b, 3, WR_BYTES_STR("early data"));
    put_identity(&p);
    wr_buf_put(&p.b, "\x78\x05", 2);
    put_field(&p.b, 4, WR_BYTES_STR("\x0a\x03" "abc" "\x18\x01" "\x12\x0c/yamux/1.0.0"));
    assert_int_equal(payload_give(&p, "/yamux/1.0.0", &got), 1);
    assert_true(got.muxer_agreed);
}

/* Lists absent, empty, without ours, in another order: only ours among them counts, else multistream
 * (ChainSafe/js-libp2p-noise PR 519, go-libp2p 1889). */
static void test_early_muxer_lists(void **state)
{
    (void)state;
    static const struct {
        const char *ours;
        struct wr_bytes extensions;
        int rc;
        bool agreed;
    } cases[] = {
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0c/yamux/1.0.0"), 1, true},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0c/mplex/6.7.0\x12\x0c/yamux/1.0.0"), 1, true},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0c/yamux/1.0.0\x12\x0c/mplex/6.7.0"), 1, true},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0c/mplex/6.7.0"), 1, false},
        {"/yamux/1.0.0", WR_BYTES_STR(""), 1, false},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x00"), 1, false},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0d/yamux/1.0.0\0"), 1, false},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0b/yamux/1.0."), 1, false},
        {"/yamux/1.0.0", WR_BYTES_STR("\x12\x0d/yamux/1.0.0"), WR_EPROTO, false},
        {NULL, WR_BYTES_STR("\x12\x0c/yamux/1.0.0"), 1, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct payload p;
        struct wr_noise_result got;
        payload_init(&p);
        put_identity(&p);
        put_field(&p.b, 4, cases[i].extensions);
        assert_int_equal(payload_give(&p, cases[i].ours, &got), cases[i].rc);
        if (cases[i].rc == 1)
            assert_int_equal(got.muxer_agreed, cases[i].agreed);
    }
    /* go takes a list of more than a hundred for none */
    for (int count = MUXERS_MAX; count <= MUXERS_MAX + 1; count++) {
        struct payload p;
        struct wr_noise_result got;
        uint8_t memory[4000];
        struct wr_buf list;
        wr_buf_over(&list, memory, sizeof(memory));
        for (int i = 0; i < count; i++)
            put_field(&list, 2, WR_BYTES_STR("/yamux/1.0.0"));
        payload_init(&p);
        put_identity(&p);
        put_field(&p.b, 4, wr_buf_bytes(&list));
        assert_int_equal(payload_give(&p, "/yamux/1.0.0", &got), 1);
        assert_int_equal(got.muxer_agreed, count <= MUXERS_MAX);
    }
}

/* One end announces, the other does not: both fall back to multistream. */
static void test_muxer_needs_both(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair p;
        pair_init(&p, i ? "/yamux/1.0.0" : NULL, i ? NULL : "/yamux/1.0.0");
        pair_run(&p, SIZE_MAX);
        assert_int_equal(p.rc_a, 1);
        assert_int_equal(p.rc_b, 1);
        assert_false(p.got_a.muxer_agreed || p.got_b.muxer_agreed);
        pair_clear(&p);
    }
}

/* Whoever answers is checked against the id that was dialled, before it learns ours. */
static void test_another_peer_answers(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    wr_noise_destroy(p.a);
    wr_buf_reset(&p.from_a);
    assert_int_equal(wr_peerid_parse(DIALER_ID, &p.dialer.expect), 0);
    p.a = wr_noise_create(&p.dialer.config, true, &p.from_a);
    pair_run(&p, SIZE_MAX);
    assert_int_equal(p.rc_a, WR_EPEERID);
    assert_int_equal(p.from_a.len, 0);
    pair_clear(&p);

    pair_init(&p, NULL, NULL);    /* a listener may expect somebody too */
    wr_noise_destroy(p.b);
    assert_int_equal(wr_peerid_parse(RESPONDER_ID, &p.responder.expect), 0);
    p.responder.config.expect = &p.responder.expect;
    p.b = wr_noise_create(&p.responder.config, false, &p.from_b);
    pair_run(&p, SIZE_MAX);
    assert_int_equal(p.rc_a, 1);
    assert_int_equal(p.rc_b, WR_EPEERID);
    pair_clear(&p);
}

/* A point of low order makes the shared secret known to everybody: refused at either end. */
static void test_low_order_points(void **state)
{
    (void)state;
    static const uint8_t points[][32] = {
        {0},
        {1},
        {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
         0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    };
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        struct wr_noise_result got;
        uint8_t frame[34] = {0, 32};
        memcpy(frame + 2, points[i], 32);
        assert_int_equal(give(1, WR_BYTES(frame, sizeof(frame))), WR_EPROTO);
        assert_int_equal(answer_with(NULL, WR_BYTES_STR("x"), points[i], &got), WR_EPROTO);
    }
}

static void test_full_output(void **state)
{
    (void)state;
    struct end e;
    struct wr_buf out;
    struct wr_noise_result got;
    uint8_t frame[34];
    struct wr_bytes in = WR_BYTES(frame, unhex(FRAME_1, frame, sizeof(frame)));
    end_init(&e, true, NULL);
    wr_buf_init(&out, 33);
    assert_null(wr_noise_create(&e.config, true, &out));
    wr_buf_clear(&out);
    for (size_t max = 0; max < 200; max += 3) {
        struct wr_bytes again = in;
        wr_buf_init(&out, max);
        struct wr_noise *n = wr_noise_create(&e.config, false, &out);
        assert_int_equal(wr_noise_input(n, &again, &out, &got), WR_ELIMIT);
        wr_noise_destroy(n);
        wr_buf_clear(&out);
    }
    wr_noise_destroy(NULL);
}

/* ---- transport frames ------------------------------------------------------------------------------- */

static void sessions(struct wr_noise_session *a, struct wr_noise_session *b)
{
    *a = *b = (struct wr_noise_session){0};
    count_from(1, a->send_key);
    count_from(50, a->recv_key);
    count_from(50, b->send_key);
    count_from(1, b->recv_key);
}

static void test_frames_of_every_size(void **state)
{
    (void)state;
    static uint8_t frame[WR_NOISE_HEADER + WR_NOISE_FRAME_MAX], plain[WR_NOISE_PAYLOAD_MAX];
    static const size_t sizes[] = {0, 1, 12, 159, 160, 161, 1350, 16384, WR_NOISE_PAYLOAD_MAX - 1,
                                   WR_NOISE_PAYLOAD_MAX};
    struct wr_noise_session a, b;
    sessions(&a, &b);
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 13);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t len = sizes[i];
        memcpy(frame + 2, plain, len);
        assert_int_equal(wr_noise_seal(engine, &a, frame, len), 2 + len + 16);
        assert_int_equal(frame[0] << 8 | frame[1], len + 16);
        assert_int_equal(wr_noise_open(engine, &b, frame + 2, len + 16), len);
        assert_memory_equal(frame + 2, plain, len);
    }
    /* a frame cannot be played again, and one that fails ends nothing but itself */
    assert_int_equal(wr_noise_seal(engine, &a, frame, 5), 23);
    memcpy(plain, frame, 23);
    frame[4] ^= 1;
    assert_int_equal(wr_noise_open(engine, &b, frame + 2, 21), WR_EAUTH);
    memcpy(frame, plain, 23);
    assert_int_equal(wr_noise_open(engine, &b, frame + 2, 21), 5);
    assert_int_equal(wr_noise_open(engine, &b, plain + 2, 21), WR_EAUTH);
}

static void test_frame_limits(void **state)
{
    (void)state;
    uint8_t frame[64] = {0};
    struct wr_noise_session a, b;
    sessions(&a, &b);
    for (size_t len = 0; len < WR_AEAD_TAG; len++)
        assert_int_equal(wr_noise_open(engine, &b, frame, len), WR_EPROTO);
    assert_int_equal(wr_noise_open(engine, &b, frame, WR_NOISE_FRAME_MAX + 1), WR_EPROTO);
    a.send_nonce = b.recv_nonce = UINT64_MAX - 1;    /* the last one; 2^64-1 is reserved */
    assert_int_equal(wr_noise_seal(engine, &a, frame, 5), 23);
    assert_int_equal(wr_noise_open(engine, &b, frame + 2, 21), 5);
    assert_int_equal(wr_noise_seal(engine, &a, frame, 5), WR_ELIMIT);
    assert_int_equal(wr_noise_open(engine, &b, frame + 2, 21), WR_ELIMIT);
}

static int setup(void **state)
{
    (void)state;
    engine = wr_aead_create();
    return engine ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    wr_aead_destroy(engine);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transcript),
        cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_frame_bounds),
        cmocka_unit_test(test_payload_is_checked),
        cmocka_unit_test(test_who_comes_again),
        cmocka_unit_test(test_unknown_fields_are_skipped),
        cmocka_unit_test(test_early_muxer_lists),
        cmocka_unit_test(test_muxer_needs_both),
        cmocka_unit_test(test_another_peer_answers),
        cmocka_unit_test(test_low_order_points),
        cmocka_unit_test(test_full_output),
        cmocka_unit_test(test_frames_of_every_size),
        cmocka_unit_test(test_frame_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
