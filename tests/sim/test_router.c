/* A dial and the router: what is known of a peer is stale, and somebody knows where it is now. */
#include "tests/sim/simnode.h"

#define ANSWER (300 * WR_MSEC)    /* of the router */

struct world {
    struct sim *sim;
    struct node a, b;
    struct sim_host *gone;       /* where b was: nobody answers there */
    struct wr_maddr there;
    bool knows;                  /* the router, where b is */
    int err;                     /* what it says when it does not */
    unsigned asked;
    wr_time asked_at;
    wr_route_done done;
    void *arg;
    struct wr_timer timer;
    wr_time answer;              /* how long it takes */
};

static void on_answer(struct wr_timer *timer)
{
    struct world *w = wr_list_entry(timer, struct world, timer);
    if (w->knows)
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w->a.swarm), wr_swarm_self(w->b.swarm),
                                               wr_maddr_bytes(&w->b.addr), WR_TTL_DHT, false),
                         0);
    w->done(w->arg, w->knows ? 0 : w->err);
}

static void *find(void *arg, const struct wr_peerid *peer, wr_route_done done, void *done_arg)
{
    struct world *w = arg;
    assert_true(wr_peerid_equal(peer, wr_swarm_self(w->b.swarm)));
    assert_false(wr_timer_running(&w->timer));
    w->asked++;
    w->asked_at = wr_env_now(w->a.env);
    w->done = done;
    w->arg = done_arg;
    wr_timer_start(w->a.env, &w->timer, w->asked_at + w->answer, on_answer);
    return w;
}

static void cancel(void *arg, void *search)
{
    struct world *w = arg;
    assert_ptr_equal(search, w);
    wr_timer_stop(w->a.env, &w->timer);
}

static void world_up(struct world *w, unsigned seed)
{
    memset(w, 0, sizeof(*w));
    w->err = WR_ENOTFOUND;
    w->answer = ANSWER;
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    w->gone = sim_host_add(w->sim, &(struct sim_host_options){.name = "gone"});
    sim_kill(w->gone);
    struct wr_addr at = {.ip = *sim_host_ip4(w->gone), .port = PORT};
    assert_int_equal(wr_maddr_from_addr(&at, false, &w->there), 0);
    struct wr_router router = {.find = find, .cancel = cancel, .arg = w};
    wr_swarm_set_router(w->a.swarm, &router);
}

static void world_down(struct world *w)
{
    wr_swarm_set_router(w->a.swarm, NULL);
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
}

/* Dials b, of whom one address is known; the error. */
static int dial(struct world *w, const struct wr_maddr *known, wr_time *took)
{
    int result = 1;
    wr_time at = sim_now(w->sim);
    assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w->a.swarm), wr_swarm_self(w->b.swarm),
                                           wr_maddr_bytes(known), WR_TTL_DHT, false),
                     0);
    assert_int_equal(wr_swarm_connect(w->a.swarm, wr_swarm_self(w->b.swarm), NULL, 0, WR_ORIGIN_OWNER,
                                      WR_CONNECT_ROUTE, node_on_connect, &result, NULL),
                     0);
    for (int i = 0; i < 7000 && result == 1; i++)
        sim_run(w->sim, 10 * WR_MSEC);
    *took = sim_now(w->sim) - at;
    return result;
}

/* The router is asked while the address that is known does not answer, not behind it. */
static void test_a_stale_address_costs_seconds(void **state)
{
    struct world w;
    wr_time took;
    (void)state;
    world_up(&w, 1);
    w.knows = true;
    assert_int_equal(dial(&w, &w.there, &took), 0);
    assert_int_equal(w.asked, 1);
    assert_true(took < WR_DIAL_ROUTE_AFTER + ANSWER + WR_SEC);
    assert_true(took < WR_DIAL_ADDR_TIMEOUT);
    world_down(&w);
}

/* Who answers where he is thought to be is not looked for. */
static void test_nobody_is_bothered_for_a_good_address(void **state)
{
    struct world w;
    wr_time took;
    (void)state;
    world_up(&w, 2);
    assert_int_equal(dial(&w, &w.b.addr, &took), 0);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(w.asked, 0);
    world_down(&w);
}

/* What was not known early may be known soon: asked again while the rest is tried, not for ever. */
static void test_asked_again_meanwhile(void **state)
{
    (void)state;
    for (unsigned known = 0; known <= 1; known++) {
        struct world w;
        wr_time took;
        int result = 1;
        world_up(&w, 3 + known);
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm),
                                               wr_maddr_bytes(&w.there), WR_TTL_DHT, false),
                         0);
        wr_time at = sim_now(w.sim);
        assert_int_equal(wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), NULL, 0, WR_ORIGIN_OWNER,
                                          WR_CONNECT_ROUTE, node_on_connect, &result, NULL),
                         0);
        sim_run(w.sim, 3 * WR_SEC);
        assert_true(w.asked == 1 && result == 1);
        w.knows = known;
        sim_run(w.sim, 10 * WR_SEC);
        took = w.asked_at - at;
        assert_int_equal(w.asked, 2);
        assert_true(took >= WR_DIAL_ROUTE_AFTER + WR_DIAL_ROUTE_AGAIN);
        assert_true(known ? result == 0 : result < 0);
        world_down(&w);
    }
}

/* A router that knows nobody has waited for somebody already: whoever dials is not kept waiting for that again and
 * again. */
static void test_nobody_to_ask_is_said_at_once(void **state)
{
    (void)state;
    static const struct {
        int err;
        unsigned asked;
    } table[] = {{WR_EUNREACH, 1}, {WR_ENOTFOUND, 2}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world w;
        int result = 1;
        world_up(&w, 5);
        w.err = table[i].err;
        w.answer = WR_DIAL_ROUTE_AGAIN + WR_SEC;    /* so long it waits */
        assert_int_equal(wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), NULL, 0, WR_ORIGIN_OWNER,
                                          WR_CONNECT_ROUTE, node_on_connect, &result, NULL),
                         0);
        sim_run(w.sim, 2 * w.answer - WR_SEC);
        assert_int_equal(w.asked, table[i].asked);
        assert_true(table[i].asked == 1 ? result == WR_EUNREACH : result == 1);
        world_down(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stale_address_costs_seconds),
        cmocka_unit_test(test_nobody_is_bothered_for_a_good_address),
        cmocka_unit_test(test_asked_again_meanwhile),
        cmocka_unit_test(test_nobody_to_ask_is_said_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
