/* The perf protocol against peers that do not keep to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/perf.h"
#include "tests/sim/sim.h"

#include <string.h>

struct node {
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_maddr addr;
};

static struct sim *sim;
static struct node a, b;
static struct wr_perf *perf; /* of a */

static void start(struct node *n, uint8_t seed)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){.name = "node"});
    n->env = sim_host_env(host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "small"), 0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    const struct wr_addr at = {.ip = *sim_host_ip4(host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, false, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)conn;
    assert_int_equal(err, 0);
}

static int set_up(void **state)
{
    (void)state;
    sim = sim_create(&(struct sim_options){.seed = 5, .rtt = 20 * WR_MSEC});
    start(&a, 1);
    start(&b, 2);
    perf = wr_perf_create(a.swarm);
    assert_int_equal(wr_perf_serve_all(perf, true), 0);
    assert_int_equal(wr_swarm_connect(b.swarm, wr_swarm_self(a.swarm), &a.addr, 1, WR_ORIGIN_OWNER,
                                      0, on_connected, NULL, NULL),
                     0);
    sim_run(sim, WR_SEC);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    wr_perf_destroy(perf);
    wr_swarm_destroy(a.swarm);
    wr_swarm_destroy(b.swarm);
    sim_destroy(sim);
    return 0;
}

/* ---- a raw client against our server */

struct raw {
    struct wr_stream *stream;
    size_t got;
    bool eof, closed;
    int err;
};

static void raw_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct raw *r = arg;
    (void)s;
    r->got += data.len;
}

static void raw_eof(struct wr_stream *s, void *arg)
{
    struct raw *r = arg;
    (void)s;
    r->eof = true;
}

static void raw_close(struct wr_stream *s, void *arg, int err)
{
    struct raw *r = arg;
    (void)s;
    r->closed = true;
    r->err = err;
}

static const struct wr_stream_ops raw_ops = {
    .on_data = raw_data, .on_eof = raw_eof, .on_close = raw_close};

static void raw_open(struct raw *r)
{
    static const char *const offer[] = {WR_PERF_NAME, NULL};
    int err;
    memset(r, 0, sizeof(*r));
    r->stream = wr_swarm_open(b.swarm, wr_swarm_self(a.swarm), offer, &raw_ops, r, &err);
    assert_non_null(r->stream);
}

static void test_header_in_pieces(void **state)
{
    (void)state;
    static const uint8_t header[8] = {0, 0, 0, 0, 0, 1, 0, 1}; /* 65,537 */
    struct raw r;
    raw_open(&r);
    for (size_t i = 0; i < sizeof(header); i++) {
        assert_int_equal(wr_stream_write(r.stream, header + i, 1), 1);
        sim_run(sim, 50 * WR_MSEC);
        assert_int_equal(r.got, 0);
    }
    wr_stream_shut(r.stream);
    sim_run(sim, WR_SEC);
    assert_int_equal(r.got, 65537);
    assert_true(r.eof);
    assert_true(r.closed);
    assert_int_equal(r.err, 0);
}

static void test_no_header(void **state)
{
    (void)state;
    for (size_t len = 0; len < 8; len++) {
        struct raw r;
        raw_open(&r);
        if (len)
            assert_int_equal(wr_stream_write(r.stream, "\0\0\0\0\0\0\1", len), len);
        wr_stream_shut(r.stream);
        sim_run(sim, WR_SEC);
        assert_true(r.closed);
        assert_int_equal(r.err, WR_ERESET);
        assert_int_equal(r.got, 0);
    }
    assert_int_equal(a.limits.of[WR_LIMIT_STREAMS].used, 0);
}

static void test_idle_client_is_let_go(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    assert_int_equal(wr_stream_write(r.stream, "\0\0\0", 3), 3);
    sim_run(sim, WR_PERF_IDLE - WR_SEC);
    assert_false(r.closed);
    sim_run(sim, 2 * WR_SEC);
    assert_true(r.closed);
}

static void test_streams_are_bounded(void **state)
{
    (void)state;
    struct raw r[WR_PERF_STREAMS + 1];
    for (size_t i = 0; i <= WR_PERF_STREAMS; i++) {
        raw_open(&r[i]);
        assert_true(wr_stream_write(r[i].stream, "\0", 1) == 1);
        sim_run(sim, 100 * WR_MSEC);
    }
    sim_run(sim, WR_SEC);
    for (size_t i = 0; i <= WR_PERF_STREAMS; i++) {
        assert_int_equal(r[i].closed, i == WR_PERF_STREAMS);
        if (!r[i].closed)
            wr_stream_reset(r[i].stream, WR_STREAM_OK);
    }
}

/* ---- our client against servers that lie */

static size_t answer_len;
static bool answer_early;

static void liar_send(struct wr_stream *s)
{
    static const uint8_t bytes[4096];
    if (answer_len)
        assert_int_equal(wr_stream_write(s, bytes, answer_len), answer_len);
    wr_stream_close(s);
}

static void liar_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    liar_send(s);
}

static void on_lie(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {.on_eof = liar_eof};
    (void)arg;
    wr_stream_set_ops(s, &ops, NULL);
    if (answer_early)
        liar_send(s);
}

struct outcome {
    bool done;
    int err;
    struct wr_perf_result result;
};

static void on_done(void *arg, int err, const struct wr_perf_result *result)
{
    struct outcome *o = arg;
    assert_false(o->done);
    o->done = true;
    o->err = err;
    o->result = *result;
}

static void test_servers_that_lie(void **state)
{
    (void)state;
    static const struct {
        uint64_t up, down;
        size_t sends;
        bool early;
        int want;
    } table[] = {
        {1000, 100, 100, false, 0},
        {1000, 100, 99, false, WR_EPROTO},
        {1000, 100, 101, false, WR_EPROTO},
        {1000, 0, 1, false, WR_EPROTO},
        {1000, 100, 0, false, WR_EPROTO},
        {0, 0, 0, false, 0},
        /* The answer before the question is over: its time means nothing. */
        {UINT64_C(1) << 40, 100, 100, true, WR_EPROTO},
    };
    wr_perf_destroy(perf);
    perf = wr_perf_create(b.swarm);
    const struct wr_protocol liar = {.name = WR_PERF_NAME, .on_stream = on_lie, .inbound_max = 9};
    assert_int_equal(wr_swarm_handle(a.swarm, &liar), 0);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct outcome o = {0};
        struct wr_perf_run *run;
        const struct wr_perf_options options = {.peer = *wr_swarm_self(a.swarm),
                                                .up = table[i].up,
                                                .down = table[i].down,
                                                .on_done = on_done,
                                                .arg = &o};
        answer_len = table[i].sends;
        answer_early = table[i].early;
        assert_int_equal(wr_perf_start(perf, &options, &run), 0);
        sim_run(sim, 20 * WR_SEC);
        assert_true(o.done);
        assert_int_equal(o.err, table[i].want);
        if (!o.err)
            assert_true(o.result.up_took >= 20 * WR_MSEC);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_header_in_pieces),      TEST(test_no_header),
        TEST(test_idle_client_is_let_go), TEST(test_streams_are_bounded),
        TEST(test_servers_that_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
