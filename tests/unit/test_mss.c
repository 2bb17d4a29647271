/* multistream-select: both roles, any chunking, damage, and the traps other implementations fell into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/mss.h"

#include <string.h>

#define HEADER "\x13/multistream/1.0.0\n"
#define NOISE  "\x07/noise\n"
#define TLS    "\x0b/tls/1.0.0\n"
#define NA     "\x03na\n"

static const char *const offer_noise[] = {"/noise", NULL};
static const char *const offer_both[] = {"/tls/1.0.0", "/noise", NULL};

/* A listener that takes the names of a NULL-ended list. */
static const char *match_list(void *arg, struct wr_bytes name)
{
    const char *const *list = arg;
    for (; *list; list++) {
        if (wr_bytes_equal(wr_bytes_cstr(*list), name))
            return *list;
    }
    return NULL;
}

static void listen_noise(struct wr_mss *m)
{
    static const char *list[] = {"/noise", "/ipfs/id/1.0.0", NULL};
    wr_mss_listen(m, match_list, list);
}

static void assert_buf(const struct wr_buf *b, struct wr_bytes expect)
{
    assert_false(b->full);
    assert_int_equal(b->len, expect.len);
    assert_memory_equal(b->data, expect.ptr, expect.len);
}

/* Feeds in `step` bytes at a time; returns the last result, with *in what was not taken. */
static int feed(struct wr_mss *m, struct wr_bytes *in, size_t step, struct wr_buf *out)
{
    int rc = 0;
    while (rc == 0 && in->len) {
        struct wr_bytes part = WR_BYTES(in->ptr, in->len < step ? in->len : step);
        size_t had = part.len;
        rc = wr_mss_input(m, &part, out);
        assert_true(rc != 0 || part.len == 0);
        wr_bytes_take(in, had - part.len);
    }
    return rc;
}

struct scene {
    const char *what;
    const char *const *offer;    /* NULL: we listen */
    struct wr_bytes in, out;     /* from the peer; all that we send */
    int rc;
    const char *agreed;
    size_t rest;    /* bytes of `in` left to the new protocol */
};

static const struct scene scenes[] = {
    {"first proposal taken", offer_noise, WR_BYTES_STR(HEADER NOISE "xyz"),
     WR_BYTES_STR(HEADER NOISE), 1, "/noise", 3},
    {"na moves to the next proposal without a second header", offer_both,
     WR_BYTES_STR(HEADER NA NOISE "x"), WR_BYTES_STR(HEADER TLS NOISE), 1, "/noise", 1},
    {"out of proposals", offer_both, WR_BYTES_STR(HEADER NA NA), WR_BYTES_STR(HEADER TLS NOISE),
     WR_EUNSUPPORTED, NULL, 0},
    {"another id than proposed", offer_noise, WR_BYTES_STR(HEADER TLS), WR_BYTES_STR(HEADER NOISE),
     WR_EPROTO, NULL, 0},
    {"id of a proposal not made yet", offer_both, WR_BYTES_STR(HEADER NOISE),
     WR_BYTES_STR(HEADER TLS), WR_EPROTO, NULL, 0},
    {"prefix of the id", offer_noise, WR_BYTES_STR(HEADER "\x06/nois\n"),
     WR_BYTES_STR(HEADER NOISE), WR_EPROTO, NULL, 0},
    {"header missing", offer_noise, WR_BYTES_STR(NOISE), WR_BYTES_STR(HEADER NOISE), WR_EPROTO, NULL,
     0},
    {"header of another version", offer_noise, WR_BYTES_STR("\x13/multistream/2.0.0\n"),
     WR_BYTES_STR(HEADER NOISE), WR_EPROTO, NULL, 0},
    {"listener accepts", NULL, WR_BYTES_STR(HEADER NOISE "data"), WR_BYTES_STR(HEADER NOISE), 1,
     "/noise", 4},
    {"listener refuses, then accepts", NULL, WR_BYTES_STR(HEADER TLS NOISE),
     WR_BYTES_STR(HEADER NA NOISE), 1, "/noise", 0},
    {"listener answers header alone at once", NULL, WR_BYTES_STR(HEADER), WR_BYTES_STR(HEADER), 0, NULL,
     0},
    {"listener wants the header", NULL, WR_BYTES_STR(NOISE), WR_BYTES_STR(""), WR_EPROTO, NULL, 0},
    {"second header is a proposal like any other", NULL, WR_BYTES_STR(HEADER HEADER NOISE),
     WR_BYTES_STR(HEADER NA NOISE), 1, "/noise", 0},
    {"newline inside an id", NULL, WR_BYTES_STR(HEADER "\x08/noi\nse\n"), WR_BYTES_STR(HEADER NA), 0,
     NULL, 0},
    {"id without a slash", NULL, WR_BYTES_STR(HEADER "\x06noise\n"), WR_BYTES_STR(HEADER NA), 0, NULL,
     0},
    {"length not minimal", NULL, WR_BYTES_STR("\x93\x00/multistream/1.0.0\n"), WR_BYTES_STR(""),
     WR_EPROTO, NULL, 0},
    {"length of three bytes", NULL, WR_BYTES_STR("\x80\x80\x01"), WR_BYTES_STR(""), WR_EPROTO, NULL, 0},
    {"length zero", NULL, WR_BYTES_STR(HEADER "\x00"), WR_BYTES_STR(HEADER), WR_EPROTO, NULL, 0},
    {"newline missing", NULL, WR_BYTES_STR(HEADER "\x07/noise!"), WR_BYTES_STR(HEADER), WR_EPROTO, NULL,
     0},
};

static void test_scenes_in_any_chunking(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        for (size_t step = 1; step <= 64; step++) {
            const struct scene *s = &scenes[i];
            struct wr_mss m;
            struct wr_buf out;
            struct wr_bytes in = s->in;
            wr_buf_init(&out, 4096);
            if (s->offer)
                wr_mss_dial(&m, s->offer, &out);
            else
                listen_noise(&m);
            assert_int_equal(feed(&m, &in, step, &out), s->rc);
            assert_buf(&out, s->out);
            if (s->rc >= 0)
                assert_int_equal(in.len, s->rest);
            if (s->agreed)
                assert_string_equal(m.agreed, s->agreed);
            else
                assert_null(m.agreed);
            wr_buf_clear(&out);
        }
    }
}

/* rust, js and nim listeners stay silent until they hear us: waiting for them is a deadlock. */
static void test_dialer_speaks_first(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    wr_buf_init(&out, 64);
    wr_mss_dial(&m, offer_noise, &out);
    assert_buf(&out, WR_BYTES_STR(HEADER NOISE));
    wr_buf_clear(&out);
}

/* go listeners send their header unasked: it may arrive before our own went out. */
static void test_listener_header_comes_before_ours_is_sent(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER), more = WR_BYTES_STR(NOISE);
    wr_buf_init(&out, 64);
    wr_mss_dial(&m, offer_noise, &out);
    assert_int_equal(wr_mss_input(&m, &in, &out), 0);
    assert_buf(&out, WR_BYTES_STR(HEADER NOISE));
    assert_int_equal(wr_mss_input(&m, &more, &out), 1);
    wr_buf_clear(&out);
}

/* A lazy dialler's first data rides behind its proposal: when that is refused, the data looks like lines
 * and must end the negotiation, not start another (rust-libp2p PR 1855, 1871). */
static void test_lazy_data_after_refusal_ends_negotiation(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER TLS "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x10"
                                                 "................");
    wr_buf_init(&out, 256);
    listen_noise(&m);
    assert_int_equal(feed(&m, &in, SIZE_MAX, &out), WR_EPROTO);
    assert_buf(&out, WR_BYTES_STR(HEADER NA));
    wr_buf_clear(&out);
}

/* The answer "na" to an empty line would be taken for the answer to the next proposal (nim PR 3070). */
static void test_empty_line_is_not_answered(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER "\x01\n" NOISE);
    wr_buf_init(&out, 256);
    listen_noise(&m);
    assert_int_equal(feed(&m, &in, SIZE_MAX, &out), WR_EPROTO);
    assert_buf(&out, WR_BYTES_STR(HEADER));
    wr_buf_clear(&out);
}

static void test_ls_is_answered_na(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER "\x03ls\n" NOISE);
    wr_buf_init(&out, 256);
    listen_noise(&m);
    assert_int_equal(feed(&m, &in, SIZE_MAX, &out), 1);
    assert_buf(&out, WR_BYTES_STR(HEADER NA NOISE));
    wr_buf_clear(&out);
}

static void test_simultaneous_connect_is_answered_na(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER "\x1d/libp2p/simultaneous-connect\n" NOISE);
    wr_buf_init(&out, 256);
    listen_noise(&m);
    assert_int_equal(feed(&m, &in, SIZE_MAX, &out), 1);
    assert_buf(&out, WR_BYTES_STR(HEADER NA NOISE));
    wr_buf_clear(&out);
}

/* A line of exactly WR_MSS_LINE_MAX bytes passes, one more does not. */
static void test_line_bound(void **state)
{
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        struct wr_mss m;
        struct wr_buf in, out;
        size_t len = WR_MSS_LINE_MAX + extra;
        wr_buf_init(&in, 4096);
        wr_buf_init(&out, 4096);
        wr_buf_put(&in, HEADER, sizeof(HEADER) - 1);
        wr_buf_put_uvarint(&in, len);
        for (size_t i = 0; i < len - 1; i++)
            wr_buf_put_u8(&in, '/');
        wr_buf_put_u8(&in, '\n');
        listen_noise(&m);
        struct wr_bytes rest = wr_buf_bytes(&in);
        assert_int_equal(feed(&m, &rest, 1000, &out), extra ? WR_EPROTO : 0);
        assert_int_equal(out.len, sizeof(HEADER) - 1 + (extra ? 0 : 4));
        wr_buf_clear(&in);
        wr_buf_clear(&out);
    }
}

static void test_refusals_are_bounded(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes hello = WR_BYTES_STR(HEADER);
    wr_buf_init(&out, 4096);
    listen_noise(&m);
    assert_int_equal(wr_mss_input(&m, &hello, &out), 0);
    for (unsigned i = 0; i < WR_MSS_REFUSALS_MAX; i++) {
        struct wr_bytes in = WR_BYTES_STR(TLS);
        assert_int_equal(wr_mss_input(&m, &in, &out), 0);
    }
    struct wr_bytes last = WR_BYTES_STR(TLS);
    assert_int_equal(wr_mss_input(&m, &last, &out), WR_EUNSUPPORTED);
    wr_buf_clear(&out);
}

static void test_full_output_is_a_limit(void **state)
{
    (void)state;
    struct wr_mss m;
    struct wr_buf out;
    struct wr_bytes in = WR_BYTES_STR(HEADER NOISE);
    wr_buf_init(&out, 24);
    listen_noise(&m);
    assert_int_equal(wr_mss_input(&m, &in, &out), WR_ELIMIT);
    wr_buf_clear(&out);
}

/* Every one-bit flip of a whole negotiation ends in an error, waits for more, or refuses; only the
 * untouched text agrees. Truncations always want more. */
static void test_damage(void **state)
{
    (void)state;
    static const char whole[] = HEADER NOISE;
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        struct wr_mss m;
        struct wr_buf out;
        struct wr_bytes in = WR_BYTES(whole, len);
        wr_buf_init(&out, 256);
        listen_noise(&m);
        assert_int_equal(wr_mss_input(&m, &in, &out), 0);
        wr_buf_clear(&out);
    }
    for (size_t bit = 0; bit < (sizeof(whole) - 1) * 8; bit++) {
        for (int dialer = 0; dialer < 2; dialer++) {
            uint8_t bytes[sizeof(whole)];
            struct wr_mss m;
            struct wr_buf out;
            struct wr_bytes in = WR_BYTES(bytes, sizeof(whole) - 1);
            memcpy(bytes, whole, sizeof(whole));
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            wr_buf_init(&out, 256);
            if (dialer)
                wr_mss_dial(&m, offer_noise, &out);
            else
                listen_noise(&m);
            assert_true(wr_mss_input(&m, &in, &out) <= 0);
            assert_null(m.agreed);
            wr_buf_clear(&out);
        }
    }
}

/* Two machines through two buffers, cut at every step. */
static void test_both_roles_together(void **state)
{
    (void)state;
    for (size_t step = 1; step < 50; step++) {
        struct wr_mss a, b;
        struct wr_buf from_a, from_b;
        int rc_a = 0, rc_b = 0;
        wr_buf_init(&from_a, 256);
        wr_buf_init(&from_b, 256);
        wr_mss_dial(&a, offer_both, &from_a);
        listen_noise(&b);
        for (int turn = 0; turn < 200 && (rc_a == 0 || rc_b == 0); turn++) {
            struct wr_bytes in = WR_BYTES(from_a.data, from_a.len < step ? from_a.len : step);
            size_t had = in.len;
            if (rc_b == 0)
                rc_b = wr_mss_input(&b, &in, &from_b);
            wr_buf_consume(&from_a, had - in.len);
            in = WR_BYTES(from_b.data, from_b.len < step ? from_b.len : step);
            had = in.len;
            if (rc_a == 0)
                rc_a = wr_mss_input(&a, &in, &from_a);
            wr_buf_consume(&from_b, had - in.len);
        }
        assert_int_equal(rc_a, 1);
        assert_int_equal(rc_b, 1);
        assert_string_equal(a.agreed, "/noise");
        assert_string_equal(b.agreed, "/noise");
        assert_int_equal(b.refused, 1);
        wr_buf_clear(&from_a);
        wr_buf_clear(&from_b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenes_in_any_chunking),
        cmocka_unit_test(test_dialer_speaks_first),
        cmocka_unit_test(test_listener_header_comes_before_ours_is_sent),
        cmocka_unit_test(test_lazy_data_after_refusal_ends_negotiation),
        cmocka_unit_test(test_empty_line_is_not_answered),
        cmocka_unit_test(test_ls_is_answered_na),
        cmocka_unit_test(test_simultaneous_connect_is_answered_na),
        cmocka_unit_test(test_line_bound),
        cmocka_unit_test(test_refusals_are_bounded),
        cmocka_unit_test(test_full_output_is_a_limit),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_both_roles_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
