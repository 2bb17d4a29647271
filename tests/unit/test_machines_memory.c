/* Memory of the machines: what a session and a stream hold, and that every allocation may fail.
 * bytes.c, through which the program allocates, is included with the C library's calls replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>

static unsigned refuse_at;    /* this allocation fails, counted from 1; 0: none */
static unsigned allocations;
static size_t held_blocks;

static bool refused(void)
{
    return ++allocations == refuse_at;
}

static void *counting_calloc(size_t count, size_t size)
{
    if (refused())
        return NULL;
    held_blocks++;
    return calloc(count, size);
}

static void *counting_realloc(void *old, size_t size)
{
    if (refused())
        return NULL;
    held_blocks += !old;
    return realloc(old, size);
}

static void counting_free(void *memory)
{
    held_blocks -= memory != NULL;
    free(memory);
}

#define calloc       counting_calloc
#define malloc(size) counting_realloc(NULL, size)
#define realloc      counting_realloc
#define free         counting_free
#include "transport/bytes.c"
#undef calloc
#undef malloc
#undef realloc
#undef free

#include "transport/idmap.c"
#include "transport/noise.h"
#include "transport/tls.h"
#include "transport/yamux_state.h"

static size_t put_frame(uint8_t *out, enum frame_type type, uint8_t flags, uint8_t id, uint8_t value)
{
    const uint8_t header[WR_YAMUX_HEADER] = {0, (uint8_t)type, 0, flags, 0, 0, 0, id, 0, 0, 0, value};
    memcpy(out, header, sizeof(header));
    return sizeof(header);
}

static void test_sizes(void **state)
{
    (void)state;
    print_message("session %zu bytes, stream %zu bytes, table of up to 3 streams %zu bytes\n",
                  sizeof(struct wr_yamux), sizeof(struct wr_yamux_stream),
                  4 * sizeof(struct wr_idmap_slot));
    assert_true(sizeof(struct wr_yamux) <= 320);
    assert_true(sizeof(struct wr_yamux_stream) <= 160);
}

/* A session without streams holds one block, an idle stream one more beside the table. */
static void test_idle_holds_nothing(void **state)
{
    (void)state;
    struct wr_yamux_config config = {.dialer = true, .streams_max = 10, .outbound_max = 10};
    uint8_t buf[1000] = {0};
    int err;
    refuse_at = 0;
    assert_int_equal(held_blocks, 0);
    struct wr_yamux *y = wr_yamux_create(&config);
    assert_int_equal(held_blocks, 1);
    struct wr_yamux_stream *s = wr_yamux_open(y, NULL, &err);
    assert_int_equal(held_blocks, 3);
    assert_int_equal(wr_yamux_write(s, buf, 600), 600);
    struct wr_bytes in = WR_BYTES(buf, put_frame(buf, PING, SYN, 0, 1));
    struct wr_yamux_event event;
    assert_int_equal(wr_yamux_input(y, &in, 1, &event), 0);
    assert_int_equal(held_blocks, 5);
    assert_int_equal(wr_yamux_output(y, buf, sizeof(buf), 1), 624);
    assert_int_equal(held_blocks, 3);
    wr_yamux_reset(s, 0);
    wr_yamux_forget(s);
    assert_int_equal(wr_yamux_output(y, buf, sizeof(buf), 1), 12);
    assert_int_equal(held_blocks, 1);
    wr_yamux_destroy(y);
    assert_int_equal(held_blocks, 0);
}

/* Opens, is opened, writes, answers. Returns false when the session itself could not be made. */
static bool scenario(int *failures)
{
    static uint8_t data[40000];
    struct wr_limits limits;
    struct wr_yamux_config config = {.dialer = true, .streams_max = 3, .outbound_max = 10,
                                     .limits = &limits};
    uint8_t frames[12 * 12], out[70000];
    size_t len = 0;
    int err = 0, rc;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    struct wr_yamux *y = wr_yamux_create(&config);
    if (!y)
        return false;
    for (int i = 0; i < 5; i++) {
        struct wr_yamux_stream *s = wr_yamux_open(y, NULL, &err);
        assert_true(s || err == WR_ELIMIT);
        *failures += !s;
        if (s) {
            rc = wr_yamux_write(s, data, sizeof(data));
            assert_true(rc == WR_ELIMIT || rc > 0);
            *failures += rc != sizeof(data);
        }
    }
    for (uint8_t i = 0; i < 6; i++) {
        len += put_frame(frames + len, WINDOW_UPDATE, SYN, (uint8_t)(2 + 2 * i), 0);
        len += put_frame(frames + len, PING, SYN, 0, i);
    }
    struct wr_bytes in = WR_BYTES(frames, len);
    struct wr_yamux_event event;
    while ((rc = wr_yamux_input(y, &in, 1, &event)) == 1)
        assert_true(event.type == WR_YAMUX_OPENED);
    assert_true(rc == 0 || rc == WR_ELIMIT);
    *failures += rc < 0;
    while (wr_yamux_output(y, out, sizeof(out), 1) > 0)
        ;
    assert_false(wr_yamux_wants_output(y));
    wr_yamux_destroy(y);
    for (size_t i = 0; i < WR_LIMIT_COUNT; i++)
        assert_int_equal(limits.of[i].used, 0);
    return true;
}

static void test_each_allocation_of_a_session_fails_in_turn(void **state)
{
    (void)state;
    int failures = 0, total = 0;
    refuse_at = allocations = 0;
    assert_true(scenario(&failures));
    assert_int_equal(failures, 0);
    unsigned count = allocations;
    assert_true(count > 20);
    for (refuse_at = 1; refuse_at <= count; refuse_at++) {
        failures = 0;
        allocations = 0;
        bool made = scenario(&failures);
        assert_int_equal(made, refuse_at > 1);
        assert_int_equal(held_blocks, 0);
        total += failures;
    }
    assert_true(total > 10);    /* refusals were noticed; a turned-away stream is none for us */
    refuse_at = 0;
}

/* Both ends of a handshake in memory. 0, or the error. */
static int handshake(struct wr_aead *engine)
{
    uint8_t seed[32] = {1};
    struct wr_key identity;
    struct wr_noise_static fixed;
    struct wr_noise *n[2];
    struct wr_buf out[2];
    struct wr_noise_result result;
    int rc = 0, done = 0;
    wr_key_generate(&identity, seed);
    wr_noise_static_make(&fixed, &identity, seed);
    struct wr_noise_config config = {.engine = engine, .identity = &identity, .static_key = &fixed,
                                     .muxer = "/yamux/1.0.0", .ephemeral = {2}};
    for (int i = 0; i < 2; i++) {
        wr_buf_init(&out[i], 1 << 16);
        n[i] = wr_noise_create(&config, i == 0, &out[i]);
        rc = n[i] ? rc : WR_ELIMIT;
    }
    for (int end = 1; rc == 0 && done < 2; end = !end) {
        struct wr_bytes in = wr_buf_bytes(&out[!end]);
        rc = wr_noise_input(n[end], &in, &out[end], &result);
        wr_buf_reset(&out[!end]);
        done += rc == 1;
        rc = rc == 1 ? 0 : rc;
    }
    for (int i = 0; i < 2; i++) {
        wr_noise_destroy(n[i]);
        wr_buf_clear(&out[i]);
    }
    return rc;
}

static void test_each_allocation_of_a_handshake_fails_in_turn(void **state)
{
    (void)state;
    refuse_at = 0;
    struct wr_aead *engine = wr_aead_create();
    assert_non_null(engine);
    size_t before = held_blocks;
    allocations = 0;
    assert_int_equal(handshake(engine), 0);
    unsigned count = allocations;
    assert_true(count >= 6);
    for (refuse_at = 1; refuse_at <= count; refuse_at++) {
        allocations = 0;
        assert_int_equal(handshake(engine), WR_ELIMIT);
        assert_int_equal(held_blocks, before);
    }
    refuse_at = 1;
    allocations = 0;
    struct wr_aead *second = wr_aead_create();    /* the first try fails, libsodium's succeeds */
    assert_non_null(second);
    refuse_at = 0;
    wr_aead_destroy(second);
    wr_aead_destroy(engine);
    assert_int_equal(held_blocks, 0);
}

/* The same of TLS; what GnuTLS allocates by itself is not seen here. */
static int tls_handshake(struct wr_tlsctx *ctx)
{
    struct wr_tls_config config = {.ctx = ctx, .now = 1800000000};
    struct wr_tls *t[2];
    struct wr_buf out[2];
    struct wr_tls_result result[2] = {{.session = NULL}, {.session = NULL}};
    int rc = 0, done = 0;
    for (int i = 0; i < 2; i++) {
        wr_buf_init(&out[i], 1 << 16);
        t[i] = wr_tls_create(&config, i == 0, &out[i]);
        rc = t[i] ? rc : WR_ELIMIT;
    }
    for (int end = 1; rc == 0 && done < 2; end = !end) {
        struct wr_bytes in = wr_buf_bytes(&out[!end]);
        rc = wr_tls_input(t[end], &in, &out[end], &result[end]);
        wr_buf_reset(&out[!end]);
        done += rc == 1;
        rc = rc == 1 ? 0 : rc;
    }
    for (int i = 0; i < 2; i++) {
        wr_tls_session_destroy(result[i].session);
        wr_tls_destroy(t[i]);
        wr_buf_clear(&out[i]);
    }
    return rc;
}

static void test_each_allocation_of_tls_fails_in_turn(void **state)
{
    uint8_t seed[32] = {1};
    struct wr_key identity;
    (void)state;
    wr_key_generate(&identity, seed);
    refuse_at = 0;
    struct wr_tlsctx *ctx = wr_tlsctx_create(&identity, 1800000000);
    assert_non_null(ctx);
    assert_int_equal(tls_handshake(ctx), 0);    /* also makes the engine that stays */
    size_t before = held_blocks;
    allocations = 0;
    assert_int_equal(tls_handshake(ctx), 0);
    assert_int_equal(held_blocks, before);
    unsigned count = allocations;
    assert_true(count >= 6);
    for (refuse_at = 1; refuse_at <= count; refuse_at++) {
        allocations = 0;
        assert_int_equal(tls_handshake(ctx), WR_ELIMIT);
        assert_int_equal(held_blocks, before);
    }
    wr_tlsctx_destroy(ctx);
    assert_int_equal(held_blocks, 0);
    refuse_at = 1;
    allocations = 0;
    assert_null(wr_tlsctx_create(&identity, 1800000000));
    refuse_at = 0;
    assert_int_equal(held_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_idle_holds_nothing),
        cmocka_unit_test(test_each_allocation_of_a_session_fails_in_turn),
        cmocka_unit_test(test_each_allocation_of_a_handshake_fails_in_turn),
        cmocka_unit_test(test_each_allocation_of_tls_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
