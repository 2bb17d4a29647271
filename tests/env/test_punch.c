/* Punching on real sockets: what the kernel does with connects from a listening port, with refusals, and with the
 * connection that the listener took first. On loopback, whose addresses count as public here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/env_uv.h"
#include "transport/punch.h"
#include "tests/env/loop_step.h"

#include <string.h>
#include <uv.h>

#define LATE (300 * WR_MSEC)

struct node {
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_maddr addr;
    struct wr_punch *punch;
    struct wr_punch_try tries[WR_PUNCH_ADDRS_MAX];
    size_t count;
    int *left;
    int err;
    struct wr_conn *conn;
    bool outbound, port_reused;
};

static void on_punched(void *arg, int err, struct wr_conn *conn)
{
    struct node *n = arg;
    n->err = err;
    n->conn = conn;
    if (conn) {
        n->outbound = conn->outbound;
        n->port_reused = conn->port_reused;
    }
    n->count = wr_punch_tries(n->punch, n->tries, WR_PUNCH_ADDRS_MAX);
    --*n->left;
}

static void start(struct node *n, struct wr_env *env, uint8_t seed)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed, 5};
    struct wr_cidr loopback;
    *n = (struct node){.env = env, .err = 1};
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "small"), 0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    assert_int_equal(wr_cidr_parse("127.0.0.0/8", &loopback), 0);
    assert_int_equal(wr_policy_add_public(wr_swarm_policy(n->swarm), &loopback), 0);
}

static void listen_at(struct node *n, const char *at)
{
    struct wr_maddr ma;
    assert_int_equal(wr_maddr_parse(at, &ma), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&ma)), 0);
    assert_int_equal(wr_swarm_listening(n->swarm, &n->addr, 1), 1);
}

static void punch(struct node *from, struct node *to, enum wr_punch_role role, wr_time at, int *left)
{
    from->left = left;
    assert_int_equal(wr_punch_start(from->swarm,
                                    &(struct wr_punch_options){.peer = wr_swarm_self(to->swarm),
                                                               .addrs = &to->addr,
                                                               .count = 1,
                                                               .role = role,
                                                               .at = at},
                                    on_punched, from, &from->punch),
                     0);
}

static void check(struct node *n, bool client)
{
    assert_int_equal(n->err, 0);
    assert_int_equal(n->outbound, client);
    assert_true(n->port_reused);
    assert_int_equal(n->count, 1);
}

struct world {
    uv_loop_t loop;
    struct wr_env *env;
    struct node a, b;
};

static void world_start(struct world *w)
{
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->env = wr_env_uv_create(&w->loop, NULL);
    assert_non_null(w->env);
    start(&w->a, w->env, 1);
    start(&w->b, w->env, 2);
}

static void world_stop(struct world *w)
{
    wr_swarm_destroy(w->a.swarm);
    wr_swarm_destroy(w->b.swarm);
    wr_env_uv_destroy(w->env);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* At once; and each role a little later than the other: then its listener takes what the other one sent first. */
static void both_roles(const char *at_a, const char *at_b)
{
    for (int late = 0; late < 3; late++) {
        struct world w;
        int left = 2;
        world_start(&w);
        listen_at(&w.a, at_a);
        listen_at(&w.b, at_b);
        wr_time now = wr_env_now(w.env);
        punch(&w.a, &w.b, WR_PUNCH_CLIENT, late == 1 ? now + LATE : 0, &left);
        punch(&w.b, &w.a, WR_PUNCH_SERVER, late == 2 ? now + LATE : 0, &left);
        while (left)
            loop_step(&w.loop);
        assert_int_equal(w.a.err, 0);
        assert_int_equal(w.b.err, 0);
        assert_true(w.a.outbound && !w.b.outbound);
        world_stop(&w);
    }
}

static void over_tcp(void **state)
{
    (void)state;
    both_roles("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.2/tcp/0");
}

static void over_quic(void **state)
{
    (void)state;
    both_roles("/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.2/udp/0/quic-v1");
}

struct opening {
    struct wr_timer timer;
    struct world *w;
    const char *at;
};

static void on_open_late(struct wr_timer *timer)
{
    struct opening *o = wr_list_entry(timer, struct opening, timer);
    listen_at(&o->w->b, o->at);
}

/* Nobody is there at first: refused at once, tried again, and in the end answered. */
static void a_refusal_is_not_the_end(void **state)
{
    struct world w;
    struct opening o = {.w = &w};
    char at[WR_MADDR_TEXT];
    int left = 1;
    (void)state;
    world_start(&w);
    listen_at(&w.a, "/ip4/127.0.0.1/tcp/0");
    /* A port that was free a moment ago. */
    struct node probe;
    start(&probe, w.env, 3);
    listen_at(&probe, "/ip4/127.0.0.2/tcp/0");
    w.b.addr = probe.addr;
    wr_swarm_destroy(probe.swarm);
    o.at = wr_maddr_print(wr_maddr_bytes(&w.b.addr), at, sizeof(at));
    punch(&w.a, &w.b, WR_PUNCH_CLIENT, 0, &left);
    wr_timer_start(w.env, &o.timer, wr_env_now(w.env) + LATE, on_open_late);
    while (left)
        loop_step(&w.loop);
    check(&w.a, true);
    assert_in_range(w.a.tries[0].packets, 2, 8);
    assert_int_equal(w.a.tries[0].err, WR_EREFUSED);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(over_quic),
        cmocka_unit_test(a_refusal_is_not_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
