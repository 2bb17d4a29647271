/* Two to a few nodes in virtual time: dials, streams, limits and ends, with the real machines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/channel_impl.h"
#include "transport/pnet.h"
#include "transport/swarm.h"
#include "transport/yamux_state.h"

#include <stdio.h>
#include <string.h>

#define ECHO "/test/echo/1.0.0"

static const char *const echo_offer[] = {ECHO, NULL};
static const char *const unknown_offer[] = {"/test/nobody/1.0.0", NULL};
/* What the nodes of a story speak over TCP; every story is told for each favourite. */
static const struct wr_secure *spoken[WR_SECURE_COUNT + 1];

static const char *const choice_offer[] = {"/test/nobody/1.0.0", ECHO, NULL};

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_swarm_watch watch;
    struct wr_maddr addr;
    int opened, closed, served;
    int close_err;
};

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct node *n = wr_list_entry(watch, struct node, watch);
    n->opened += event->type == WR_SWARM_OPENED;
    if (event->type == WR_SWARM_CLOSED) {
        n->closed++;
        n->close_err = event->err;
    }
}

/* ---- an echo that minds its peer's pace */

struct echo {
    struct wr_buf kept;
    bool eof;
};

static void echo_flush(struct wr_stream *s, struct echo *e)
{
    int n = e->kept.len ? wr_stream_write(s, e->kept.data, e->kept.len) : 0;
    if (n > 0)
        wr_buf_consume(&e->kept, (size_t)n);
    wr_stream_pause(s, e->kept.len > 0);
    if (e->kept.len == 0 && e->eof)
        wr_stream_shut(s);
}

static void echo_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct echo *e = arg;
    wr_buf_put_bytes(&e->kept, data);
    assert_false(e->kept.full);
    echo_flush(s, e);
}

static void echo_eof(struct wr_stream *s, void *arg)
{
    struct echo *e = arg;
    e->eof = true;
    echo_flush(s, e);
}

static void echo_writable(struct wr_stream *s, void *arg)
{
    echo_flush(s, arg);
}

static void echo_close(struct wr_stream *s, void *arg, int err)
{
    struct echo *e = arg;
    (void)s;
    (void)err;
    wr_buf_clear(&e->kept);
    wr_free(e);
}

static const struct wr_stream_ops echo_ops = {
    .on_data = echo_data, .on_eof = echo_eof, .on_writable = echo_writable, .on_close = echo_close};

static void on_echo(struct wr_stream *s, void *arg)
{
    struct node *n = arg;
    struct echo *e = wr_alloc(sizeof(*e));
    assert_non_null(e);
    wr_buf_init(&e->kept, 4 << 20);
    n->served++;
    wr_stream_set_ops(s, &echo_ops, e);
}

static void node_start(struct node *n, struct sim *sim, uint8_t seed, const char *limits,
                       const uint8_t *psk)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    if (!n->host)
        n->host = sim_host_add(sim, &(struct sim_host_options){.name = "node"});
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, limits), 0);
    struct wr_swarm_options options = {
        .env = n->env, .limits = &n->limits, .identity = &n->key, .psk = psk};
    memcpy(options.security, spoken, sizeof(spoken));
    n->swarm = wr_swarm_create(&options);
    assert_non_null(n->swarm);
    n->watch.on_event = on_event;
    wr_swarm_watch(n->swarm, &n->watch);
    struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, false, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
    struct wr_protocol p = {.name = ECHO, .on_stream = on_echo, .arg = n, .inbound_max = 1000};
    assert_int_equal(wr_swarm_handle(n->swarm, &p), 0);
}

static void node_stop(struct node *n)
{
    wr_swarm_unwatch(&n->watch);
    wr_swarm_destroy(n->swarm);
}

struct result {
    bool done;
    int err;
    struct wr_conn *conn;
};

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct result *r = arg;
    assert_false(r->done);
    *r = (struct result){.done = true, .err = err, .conn = conn};
}

static void dial(struct node *from, struct node *to, struct result *r)
{
    *r = (struct result){0};
    assert_int_equal(wr_swarm_connect(from->swarm, wr_swarm_self(to->swarm), &to->addr, 1,
                                      WR_ORIGIN_OWNER, 0, on_connect, r, NULL),
                     0);
}

#define BLOCK_MAX 300000    /* bytes; more than leaves at once */

/* ---- a client that sends a pattern and checks what comes back */

struct client {
    struct wr_env *env;
    struct wr_stream *stream;
    size_t size, sent, got;
    size_t block;    /* bytes of one write; 0: 4,096 */
    bool open, eof, closed;
    int err;
    wr_time first_at;
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void client_push(struct client *c)
{
    static uint8_t block[BLOCK_MAX];
    size_t most = c->block ? c->block : 4096;
    while (c->sent < c->size) {
        size_t len = c->size - c->sent < most ? c->size - c->sent : most;
        for (size_t i = 0; i < len; i++)
            block[i] = pattern(c->sent + i);
        int n = wr_stream_write(c->stream, block, len);
        if (n <= 0)
            return;
        c->sent += (size_t)n;
    }
    wr_stream_shut(c->stream);
}

static void client_open(struct wr_stream *s, void *arg)
{
    struct client *c = arg;
    c->open = true;
    c->stream = s;
    if (c->sent < c->size)
        client_push(c);
}

static void client_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct client *c = arg;
    if (!c->first_at)
        c->first_at = wr_env_now(c->env);
    (void)s;
    for (size_t i = 0; i < data.len; i++)
        assert_int_equal(data.ptr[i], pattern(c->got + i));
    c->got += data.len;
}

static void client_eof(struct wr_stream *s, void *arg)
{
    (void)s;
    ((struct client *)arg)->eof = true;
}

static void client_writable(struct wr_stream *s, void *arg)
{
    struct client *c = arg;
    c->stream = s;
    client_push(c);
}

static void client_close(struct wr_stream *s, void *arg, int err)
{
    struct client *c = arg;
    (void)s;
    assert_false(c->closed);
    c->closed = true;
    c->err = err;
}

static const struct wr_stream_ops client_ops = {.on_open = client_open,
                                                .on_data = client_data,
                                                .on_eof = client_eof,
                                                .on_writable = client_writable,
                                                .on_close = client_close};

static void talk(struct node *from, struct node *to, const char *const *offer, struct client *c,
                 size_t size)
{
    int err = 0;
    *c = (struct client){.env = from->env, .size = size};
    struct wr_maddr addr = to->addr;
    wr_peerstore_add_addr(wr_swarm_peerstore(from->swarm), wr_swarm_self(to->swarm),
                          wr_maddr_bytes(&addr), WR_TTL_PERMANENT, false);
    c->stream = wr_swarm_open(from->swarm, wr_swarm_self(to->swarm), offer, &client_ops, c, &err);
    assert_non_null(c->stream);
    if (!offer[1])
        client_push(c);
}

/* ---- stories ------------------------------------------------------------------------------------------ */

static struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC, .ragged = true});
}

static void test_a_byte_is_answered_in_three_round_trips(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    wr_time begun = sim_now(sim);
    talk(&a, &b, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_true(c.closed);
    assert_int_equal(c.err, 0);
    assert_int_equal(c.got, 1);
    /* The floor of the performance notes, 3(a): 3 round trips, and nothing beyond. */
    assert_in_range(c.first_at - begun, 180 * WR_MSEC, 185 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* Speaks only one security protocol. */
static void start_speaking(struct node *n, struct sim *sim, uint8_t seed, const struct wr_secure *only)
{
    const struct wr_secure *all[WR_SECURE_COUNT + 1];
    memcpy(all, spoken, sizeof(all));
    spoken[0] = only;
    spoken[1] = NULL;
    node_start(n, sim, seed, "home", NULL);
    memcpy(spoken, all, sizeof(all));
}

/* A dialler writes twice until it is answered: the proposal, then the end of the handshake with the first frames. */
static void test_the_handshake_ends_with_the_first_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < WR_SECURE_COUNT; i++) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
        struct node a = {0}, b = {0};
        struct client c;
        start_speaking(&a, sim, 1, wr_secure_all[i]);
        start_speaking(&b, sim, 2, wr_secure_all[i]);
        talk(&a, &b, echo_offer, &c, 1);
        sim_run(sim, 150 * WR_MSEC);
        assert_int_equal(sim_host_traffic(a.host)->stream_writes, 2);
        sim_run(sim, 2 * WR_SEC);
        assert_true(c.closed);
        assert_int_equal(c.err, 0);
        node_stop(&a);
        node_stop(&b);
        sim_destroy(sim);
    }
}

static wr_time time_to_answer(struct sim *sim, struct node *a, struct node *b)
{
    struct client c;
    wr_time begun = sim_now(sim);
    talk(a, b, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_true(c.closed);
    assert_int_equal(c.err, 0);
    return c.first_at - begun;
}

/* The first dial finds out that the favourite is not spoken, the next knows. */
static void test_a_peer_that_speaks_only_the_other(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    node_start(&a, sim, 1, "home", NULL);
    start_speaking(&b, sim, 2, spoken[1]);
    /* Two round trips to the refusal, then three as always. */
    assert_in_range(time_to_answer(sim, &a, &b), 300 * WR_MSEC, 306 * WR_MSEC);
    struct wr_conn *c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_string_equal(wr_conn_security(c), spoken[1]->name);
    wr_conn_close(c, WR_CONN_OK);
    sim_run(sim, WR_SEC);
    assert_null(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)));
    assert_in_range(time_to_answer(sim, &a, &b), 180 * WR_MSEC, 185 * WR_MSEC);
    /* Who dials in proposes what it speaks. */
    c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    wr_conn_close(c, WR_CONN_OK);
    sim_run(sim, WR_SEC);
    assert_in_range(time_to_answer(sim, &b, &a), 180 * WR_MSEC, 185 * WR_MSEC);
    c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_string_equal(wr_conn_security(c), spoken[1]->name);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_nothing_in_common(void **state)
{
    (void)state;
    struct sim *sim = world(3);
    struct node a = {0}, b = {0};
    struct result r;
    start_speaking(&a, sim, 1, spoken[0]);
    start_speaking(&b, sim, 2, spoken[1]);
    dial(&a, &b, &r);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_EUNSUPPORTED);
    assert_int_equal(wr_swarm_conn_count(a.swarm) + wr_swarm_conn_count(b.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_bulk_both_ways_arrives_whole(void **state)
{
    (void)state;
    struct sim *sim = world(2);
    struct node a = {0}, b = {0};
    struct client c[3];
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    for (int i = 0; i < 3; i++)
        talk(i == 1 ? &b : &a, i == 1 ? &a : &b, echo_offer, &c[i], 3000000 + (size_t)i);
    sim_run(sim, 60 * WR_SEC);
    for (int i = 0; i < 3; i++) {
        assert_true(c[i].closed && c[i].eof);
        assert_int_equal(c[i].err, 0);
        assert_int_equal(c[i].got, c[i].size);
    }
    /* Streams cost nothing once they are over. */
    assert_int_equal(a.limits.of[WR_LIMIT_STREAMS].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, a.limits.of[WR_LIMIT_MEMORY].used);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* A write that fills a batch leaves at once, uncopied: on a connection with others of its kind, behind what its own
 * stream has queued, and the rest of it is queued in turn. Nothing changes its place. */
static void test_large_writes_keep_their_order(void **state)
{
    (void)state;
    static const size_t blocks[] = {131072, 200001, BLOCK_MAX, 1};
    struct sim *sim = world(4);
    struct node a = {0}, b = {0};
    struct client c[4];
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    talk(&a, &b, echo_offer, &c[0], 1);
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(c[0].got, 1);
    uint64_t before = a.limits.of[WR_LIMIT_MEMORY].used + b.limits.of[WR_LIMIT_MEMORY].used;
    for (size_t i = 0; i < 4; i++) {
        talk(&a, &b, echo_offer, &c[i], i < 3 ? 3000000 + i : 40000);
        c[i].block = blocks[i];
    }
    sim_run(sim, 60 * WR_SEC);
    for (size_t i = 0; i < 4; i++) {
        assert_true(c[i].closed && c[i].eof);
        assert_int_equal(c[i].err, 0);
        assert_int_equal(c[i].got, c[i].size);
    }
    assert_int_equal(a.limits.of[WR_LIMIT_MEMORY].used + b.limits.of[WR_LIMIT_MEMORY].used, before);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_wrong_peer_id_is_refused(void **state)
{
    (void)state;
    struct sim *sim = world(3);
    struct node a = {0}, b = {0}, other = {0};
    struct result r = {0};
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    node_start(&other, sim, 3, "home", NULL);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(other.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_EPEERID);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

static void test_dialling_oneself_is_noticed(void **state)
{
    (void)state;
    struct sim *sim = world(4);
    struct node a = {0};
    struct result r = {0};
    node_start(&a, sim, 1, "home", NULL);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &a.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     WR_ESELF);
    assert_int_equal(wr_swarm_connect_addr(a.swarm, wr_maddr_bytes(&a.addr), on_connect, &r, NULL), 0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ESELF);
    struct wr_addr at;
    assert_false(wr_swarm_twin(a.swarm, &at));
    node_stop(&a);
    sim_destroy(sim);
}

/* A copy of our key on another machine is told apart from ourselves, and said for a day. */
static void test_one_identity_on_two_machines_is_noticed(void **state)
{
    (void)state;
    struct sim *sim = world(24);
    struct node a = {0}, b = {0};
    struct result r = {0};
    struct wr_addr at;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 1, "home", NULL);
    assert_true(wr_peerid_equal(wr_swarm_self(a.swarm), wr_swarm_self(b.swarm)));
    /* What a stranger says of us is not worth a dial. */
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &b.addr, 1, WR_ORIGIN_STRANGER, 0,
                                      on_connect, &r, NULL),
                     WR_ESELF);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ESELF);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    assert_true(wr_swarm_twin(a.swarm, &at));
    assert_true(wr_ip_equal(&at.ip, sim_host_ip4(b.host)));
    sim_run(sim, 25 * WR_HOUR);
    assert_false(wr_swarm_twin(a.swarm, &at));
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_private_networks_keep_strangers_out(void **state)
{
    static const uint8_t key[WR_PNET_KEY] = {1}, other_key[WR_PNET_KEY] = {2};
    (void)state;
    struct sim *sim = world(5);
    struct node a = {0}, b = {0}, stranger = {0}, open = {0};
    struct client c;
    struct result r1, r2;
    node_start(&a, sim, 1, "home", key);
    node_start(&b, sim, 2, "home", key);
    node_start(&stranger, sim, 3, "home", other_key);
    node_start(&open, sim, 4, "home", NULL);
    talk(&a, &b, echo_offer, &c, 100000);
    dial(&stranger, &b, &r1);
    dial(&open, &b, &r2);
    sim_run(sim, 70 * WR_SEC);
    assert_int_equal(c.got, 100000);
    assert_true(r1.done && r1.err < 0);
    assert_true(r2.done && r2.err < 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&stranger);
    node_stop(&open);
    sim_destroy(sim);
}

static void test_unknown_protocol_fails_and_a_choice_succeeds(void **state)
{
    (void)state;
    struct sim *sim = world(6);
    struct node a = {0}, b = {0};
    struct client unknown, choice;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    talk(&a, &b, unknown_offer, &unknown, 100);
    talk(&a, &b, choice_offer, &choice, 100);
    sim_run(sim, 5 * WR_SEC);
    assert_true(unknown.closed);
    assert_int_equal(unknown.err, WR_EUNSUPPORTED);
    assert_true(choice.closed && choice.open);
    assert_int_equal(choice.err, 0);
    assert_int_equal(choice.got, 100);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_more_streams_than_the_cap_wait_their_turn(void **state)
{
    (void)state;
    struct sim *sim = world(7);
    struct node a = {0}, b = {0};
    static struct client c[400];
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    for (int i = 0; i < 400; i++)
        talk(&a, &b, echo_offer, &c[i], 5000);
    sim_run(sim, 60 * WR_SEC);
    for (int i = 0; i < 400; i++) {
        assert_true(c[i].closed);
        assert_int_equal(c[i].err, 0);
        assert_int_equal(c[i].got, 5000);
    }
    assert_int_equal(b.served, 400);
    assert_int_equal(a.opened, 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* The next stream that `from` opens to `to` has the last id but one. */
static void use_up_ids(struct node *from, struct node *to)
{
    struct wr_yamux *y = wr_channel_of(wr_swarm_conn(from->swarm, wr_swarm_self(to->swarm)))->yamux;
    y->next_id = y->dialer ? UINT32_MAX - 2 : UINT32_MAX - 3;
}

/* Whoever of the two has no ids left for streams of his own goes on over another connection. The old one serves those
 * that are open, and ends with the last of them. */
static void test_stream_ids_run_out(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        struct sim *sim = world(26);
        struct node a = {0}, b = {0};
        struct client first, last[2], next;
        node_start(&a, sim, 1, "home", NULL);
        node_start(&b, sim, 2, "home", NULL);
        talk(&a, &b, echo_offer, &first, 100);
        sim_run(sim, 5 * WR_SEC);
        assert_true(first.closed && first.err == 0);
        struct node *from = turn ? &b : &a, *to = turn ? &a : &b;
        use_up_ids(from, to);
        struct wr_conn *old = wr_swarm_conn(from->swarm, wr_swarm_self(to->swarm));
        for (int i = 0; i < 2; i++) {
            talk(from, to, choice_offer, &last[i], 100);    /* nothing is sent before it is agreed */
            assert_ptr_equal(wr_stream_conn(last[i].stream), old);
        }
        talk(from, to, echo_offer, &next, 100);
        assert_ptr_not_equal(wr_stream_conn(next.stream), old);
        sim_run(sim, 5 * WR_SEC);
        for (int i = 0; i < 2; i++)
            assert_true(last[i].closed && last[i].err == 0 && last[i].got == 100);
        assert_true(next.closed && next.err == 0 && next.got == 100);
        assert_int_equal(from->opened, 2);
        sim_run(sim, WR_MIN);
        assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
        assert_int_equal(wr_swarm_conn_count(b.swarm), 1);
        talk(from, to, echo_offer, &next, 100);
        sim_run(sim, 5 * WR_SEC);
        assert_true(next.closed && next.err == 0);
        assert_int_equal(from->opened, 2);
        node_stop(&a);
        node_stop(&b);
        sim_destroy(sim);
    }
}

static void test_a_dead_peer_is_noticed(void **state)
{
    (void)state;
    struct sim *sim = world(8);
    struct node a = {0}, b = {0};
    struct result r;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    dial(&a, &b, &r);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done && r.err == 0);
    sim_kill(b.host);
    sim_run(sim, 100 * WR_SEC);
    assert_int_equal(a.closed, 1);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_an_idle_connection_stays(void **state)
{
    (void)state;
    struct sim *sim = world(9);
    struct node a = {0}, b = {0};
    struct result r;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    dial(&a, &b, &r);
    sim_run(sim, WR_HOUR);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct sim *sim = world(10);
    struct node a = {0}, b = {0};
    struct result r;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    sim_kill(b.host);
    dial(&a, &b, &r);
    sim_run(sim, 10 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ETIMEOUT);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* No more dials at once than the ceiling says; the others wait for their turn, and come. */
static void test_dials_under_way_have_a_ceiling(void **state)
{
    (void)state;
    enum { TARGETS = 7, PLACES = 2 };
    struct sim *sim = world(28);
    struct node a = {0}, targets[TARGETS] = {0};
    struct result r[TARGETS];
    node_start(&a, sim, 1, "home", NULL);
    a.limits.of[WR_LIMIT_DIALS].max = PLACES;
    for (unsigned i = 0; i < TARGETS; i++) {
        node_start(&targets[i], sim, (uint8_t)(10 + i), "home", NULL);
        if (i < TARGETS - 1)
            sim_kill(targets[i].host);
        dial(&a, &targets[i], &r[i]);
    }
    for (unsigned turn = 0; turn < TARGETS / PLACES; turn++) {
        sim_run(sim, WR_SEC);
        assert_int_equal(a.limits.of[WR_LIMIT_DIALS].used, PLACES);
        assert_int_equal(sim_host_traffic(a.host)->connects, PLACES * (turn + 1));
        assert_false(r[PLACES * turn].done || r[PLACES * turn + 1].done);
        sim_run(sim, WR_DIAL_ADDR_TIMEOUT - WR_SEC / 2);
        assert_int_equal(r[PLACES * turn].err, WR_ETIMEOUT);
    }
    sim_run(sim, WR_SEC);
    assert_true(r[TARGETS - 1].done && r[TARGETS - 1].err == 0);
    assert_int_equal(a.limits.of[WR_LIMIT_DIALS].used, 0);
    node_stop(&a);
    for (unsigned i = 0; i < TARGETS; i++)
        node_stop(&targets[i]);
    sim_destroy(sim);
}

/* Somebody else answers at the address that strangers name: it is no good for that peer for a while, longer each time,
 * and as good as ever for the other. */
static void test_an_address_that_failed_is_left_alone(void **state)
{
    (void)state;
    struct sim *sim = world(27);
    struct node a = {0}, b = {0}, other = {0};
    struct client c;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    node_start(&other, sim, 3, "home", NULL);
    const wr_time waits[] = {5 * WR_SEC, 6 * WR_SEC, 9 * WR_SEC};    /* 5 s + tries^2 x 1 s; go swarm backoff */
    struct wr_maddr right = b.addr;
    b.addr = other.addr;
    talk(&a, &b, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    wr_time failed = sim_now(sim) - 2 * WR_SEC;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_true(c.closed);
        assert_int_equal(c.err, WR_EPEERID);
        uint64_t before = sim_host_traffic(a.host)->connects;
        sim_run_until(sim, failed + waits[i] - 500 * WR_MSEC);
        talk(&a, &b, echo_offer, &c, 1);
        sim_run(sim, 400 * WR_MSEC);
        assert_true(c.closed);
        assert_int_equal(c.err, WR_EBACKOFF);
        assert_int_equal(sim_host_traffic(a.host)->connects, before);
        sim_run_until(sim, failed + waits[i] + 500 * WR_MSEC);
        failed = sim_now(sim);
        talk(&a, &b, echo_offer, &c, 1);
        sim_run(sim, 2 * WR_SEC);
        assert_true(sim_host_traffic(a.host)->connects > before);
    }
    talk(&a, &other, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_true(c.closed && c.err == 0);
    /* What the owner says is tried at once. */
    struct result r;
    b.addr = right;
    dial(&a, &b, &r);
    sim_run(sim, 2 * WR_SEC);
    assert_true(r.done && r.err == 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

static void test_two_dials_share_one_connection(void **state)
{
    (void)state;
    struct sim *sim = world(11);
    struct node a = {0}, b = {0};
    struct result r1, r2, cancelled = {0};
    struct wr_connect *request = NULL;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    dial(&a, &b, &r1);
    dial(&a, &b, &r2);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &cancelled, &request),
                     0);
    wr_connect_cancel(request);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r1.done && r2.done && r1.conn == r2.conn);
    assert_false(cancelled.done);
    assert_int_equal(a.opened, 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_connections_per_peer_are_bounded(void **state)
{
    (void)state;
    struct sim *sim = world(12);
    struct node a = {0}, b = {0};
    struct result r[20];
    node_start(&a, sim, 1, "server", NULL);
    node_start(&b, sim, 2, "small", NULL);
    for (int i = 0; i < 20; i++) {
        r[i] = (struct result){0};
        assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER,
                                          WR_CONNECT_FRESH, on_connect, &r[i], NULL),
                         0);
        sim_run(sim, 6 * WR_SEC);
    }
    assert_int_equal(wr_swarm_conn_count(b.swarm), b.limits.of[WR_LIMIT_CONNS_PER_PEER].max);
    assert_true(b.limits.of[WR_LIMIT_CONNS_PER_PEER].refused > 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void on_few(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops;
    unsigned *held = arg;
    ++*held;
    wr_stream_set_ops(s, &ops, NULL);
}

static void open_echoes(struct node *from, struct node *to, struct client c[6])
{
    for (int i = 0; i < 6; i++) {
        int err;
        c[i] = (struct client){.env = from->env};
        assert_non_null(wr_swarm_open(from->swarm, wr_swarm_self(to->swarm), echo_offer, &client_ops, &c[i], &err));
    }
}

/* A stream too many of one protocol, and one too many of the connection: each is counted as what it is. */
static void test_streams_are_refused_for_what_they_are(void **state)
{
    static const char *const few_offer[] = {"/test/few", NULL};
    struct sim *sim = world(15);
    struct node a = {0}, b = {0};
    struct client of_few[5], first[6], second[6];
    unsigned held = 0, refused = 0;
    struct wr_protocol few = {.name = "/test/few", .on_stream = on_few, .arg = &held, .inbound_max = 3};
    (void)state;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    b.limits.of[WR_LIMIT_STREAMS_PER_CONN].max = 7;
    assert_int_equal(wr_swarm_handle(b.swarm, &few), 0);
    for (int i = 0; i < 5; i++)
        talk(&a, &b, few_offer, &of_few[i], 10);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(held, 3);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS_PER_PROTOCOL].refused, 2);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS_PER_CONN].refused, 0);
    /* Three are held, four more may be open. */
    open_echoes(&a, &b, first);
    sim_run(sim, 2 * WR_SEC);
    for (int i = 0; i < 6; i++)
        refused += first[i].closed && first[i].err != 0;
    assert_int_equal(refused, 2);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS_PER_CONN].refused, 2);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS_PER_PROTOCOL].refused, 2);
    /* A ceiling of the node's below that of the protocol counts, too. */
    b.limits.of[WR_LIMIT_STREAMS_PER_PROTOCOL].max = 4;
    wr_conn_close(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)), WR_CONN_OK);
    sim_run(sim, WR_SEC);
    open_echoes(&a, &b, second);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS_PER_PROTOCOL].refused, 4);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_a_blocked_peer_is_cut_off(void **state)
{
    (void)state;
    struct sim *sim = world(13);
    struct node a = {0}, b = {0};
    struct result r;
    char text[WR_PEERID_TEXT];
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    dial(&a, &b, &r);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 1);
    wr_peerid_print(wr_swarm_self(a.swarm), text);
    assert_int_equal(wr_policy_rule(wr_swarm_policy(b.swarm), true, text, true), 0);
    wr_swarm_apply_policy(b.swarm);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 0);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    sim_run(sim, 60 * WR_SEC);
    dial(&a, &b, &r);
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_destroy_in_full_flight(void **state)
{
    (void)state;
    for (wr_time stop = 0; stop < 500 * WR_MSEC; stop += 7 * WR_MSEC) {
        struct sim *sim = world((uint64_t)stop + 14);
        struct node a = {0}, b = {0};
        struct client c[4];
        node_start(&a, sim, 1, "home", NULL);
        node_start(&b, sim, 2, "home", NULL);
        for (int i = 0; i < 4; i++)
            talk(&a, &b, i % 2 ? choice_offer : echo_offer, &c[i], 2000000);
        sim_run(sim, stop);
        node_stop(&a);
        for (int i = 0; i < 4; i++)
            assert_true(c[i].closed);
        sim_run(sim, 20 * WR_SEC);
        assert_int_equal(wr_swarm_conn_count(b.swarm), 0);
        node_stop(&b);
        sim_destroy(sim);
    }
}

static uint64_t trace_of_a_run(uint64_t seed)
{
    struct sim *sim = world(seed);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    talk(&a, &b, echo_offer, &c, 500000);
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(c.got, 500000);
    node_stop(&a);
    node_stop(&b);
    uint64_t trace = sim_trace(sim);
    sim_destroy(sim);
    return trace;
}

static void test_the_seed_replays(void **state)
{
    (void)state;
    assert_true(trace_of_a_run(99) == trace_of_a_run(99));
    assert_true(trace_of_a_run(99) != trace_of_a_run(100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_byte_is_answered_in_three_round_trips),
        cmocka_unit_test(test_the_handshake_ends_with_the_first_frames),
        cmocka_unit_test(test_a_peer_that_speaks_only_the_other),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_bulk_both_ways_arrives_whole),
        cmocka_unit_test(test_large_writes_keep_their_order),
        cmocka_unit_test(test_wrong_peer_id_is_refused),
        cmocka_unit_test(test_dialling_oneself_is_noticed),
        cmocka_unit_test(test_one_identity_on_two_machines_is_noticed),
        cmocka_unit_test(test_private_networks_keep_strangers_out),
        cmocka_unit_test(test_unknown_protocol_fails_and_a_choice_succeeds),
        cmocka_unit_test(test_more_streams_than_the_cap_wait_their_turn),
        cmocka_unit_test(test_stream_ids_run_out),
        cmocka_unit_test(test_a_dead_peer_is_noticed),
        cmocka_unit_test(test_an_idle_connection_stays),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_dials_under_way_have_a_ceiling),
        cmocka_unit_test(test_an_address_that_failed_is_left_alone),
        cmocka_unit_test(test_two_dials_share_one_connection),
        cmocka_unit_test(test_connections_per_peer_are_bounded),
        cmocka_unit_test(test_streams_are_refused_for_what_they_are),
        cmocka_unit_test(test_a_blocked_peer_is_cut_off),
        cmocka_unit_test(test_destroy_in_full_flight),
    };
    /* GnuTLS draws chance of its own, beyond the seed: TLS would not replay within one process. */
    const struct CMUnitTest replay[] = {cmocka_unit_test(test_the_seed_replays)};
    spoken[0] = wr_secure_by_word(WR_BYTES_STR("noise"));
    int failed = cmocka_run_group_tests(replay, NULL, NULL);
    for (size_t i = 0; i < WR_SECURE_COUNT; i++) {
        spoken[0] = wr_secure_all[i];
        spoken[1] = wr_secure_all[!i];
        failed += cmocka_run_group_tests_name(spoken[0]->name, tests, NULL, NULL);
    }
    return failed;
}
