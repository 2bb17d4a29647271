/* A home that has a place at a relay, and two connections to it of which one leads nowhere any more: whoever wants to
 * reach the home through the relay does so at once. TCP connections say for half a minute that they are fine. */
#include "tests/sim/home_world.h"

#include "transport/conn_impl.h"
#include "transport/quic_impl.h"

#include <stdlib.h>

#define RTT (80 * WR_MSEC)

struct world {
    struct sim *sim;
    struct home relay, home, other;
};

/* The home's TCP connection is the newer one: its peers prefer it. */
static void world_start(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = RTT});
    home_start(&w->relay, w->sim, PUBLIC, FIRST_SERVER);
    relay_start(&w->relay);
    home_start(&w->home, w->sim, PORT_RESTRICTED, 2);
    home_start(&w->other, w->sim, PORT_RESTRICTED, 3);
    site_dial(w->sim, &w->other.site, &w->relay.site, true);
    site_dial(w->sim, &w->home.site, &w->relay.site, true);
    struct wr_maddr tcp = site_at(&w->relay.site, false);
    struct dialled d = {0};
    assert_int_equal(wr_swarm_connect_addr(w->home.site.swarm, wr_maddr_bytes(&tcp), site_on_dialled, &d, NULL), 0);
    assert_true(sim_run_while(w->sim, dial_waits, &d, WR_SEC));
    assert_int_equal(wr_relay_client_hold(w->home.client, site_id(&w->relay.site)), 0);
    assert_true(sim_run_while(w->sim, hold_waits, &w->home, 5 * WR_SEC));
    assert_false(wr_swarm_conn(w->relay.site.swarm, site_id(&w->home.site))->udp);
    sim_run(w->sim, WR_SEC);
}

static void world_stop(struct world *w)
{
    home_stop(&w->other);
    home_stop(&w->home);
    home_stop(&w->relay);
    sim_destroy(w->sim);
    site_free(&w->home.site);
    site_free(&w->other.site);
}

static void reached_within(struct world *w, wr_time limit)
{
    struct dialled d;
    dial_through(&w->other, &w->relay, &w->home, &d);
    assert_true(sim_run_while(w->sim, dial_waits, &d, limit));
    assert_int_equal(d.err, 0);
}

/* Its address changes. QUIC follows; what was open over TCP is closed, and the other end cannot hear of it. */
static void a_home_that_moved(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct world w;
        world_start(&w, seed);
        sim_move(w.home.site.host, (struct wr_ip){4, {192, 168, 1, 77}}, (struct wr_ip){0}, 0);
        sim_run(w.sim, 2 * RTT);
        assert_true(wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site))->udp);
        reached_within(&w, WR_SEC);
        /* It has another port outside now, and knows it. */
        struct wr_maddr outside;
        wr_conn_remote(wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site)), &outside);
        sim_run(w.sim, WR_SEC);
        assert_true(wr_addrbook_has(wr_swarm_addrbook(w.home.site.swarm), wr_maddr_bytes(&outside)));
        world_stop(&w);
    }
}

/* The relay follows the home only so many times (WR_QUIC_STRAYS_MAX). Who wants to reach it just then is asked for over the
 * connection that the home makes instead, as soon as it is there. */
static void a_home_that_moves_on_and_on(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 41);
    for (unsigned i = 1; i <= 2 * WR_QUIC_STRAYS_MAX; i++) {
        sim_move(w.home.site.host, (struct wr_ip){4, {192, 168, 1, i % 2 ? 77 : 10}}, (struct wr_ip){0}, 0);
        /* The first time it was there over TCP, too, and had not noticed yet. */
        reached_within(&w, i == 1 ? WR_RELAY_STOP_AGAIN + WR_SEC : 2 * WR_SEC);
        sim_run(w.sim, WR_SEC);
        wr_swarm_disconnect(w.other.site.swarm, site_id(&w.home.site), WR_CONN_OK);
        sim_run(w.sim, WR_SEC);
    }
    world_stop(&w);
}

/* What is suspected is not given up: when it is heard again, it is as good as before. */
static void a_suspicion_ends(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 11);
    struct wr_conn *tcp = wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site));
    assert_false(wr_conn_silent(tcp));
    wr_conn_await(tcp, true);
    assert_true(wr_conn_silent(tcp));
    assert_true(wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site))->udp);
    sim_run(w.sim, WR_MIN);    /* both ends look after it */
    assert_false(wr_conn_silent(tcp));
    assert_ptr_equal(wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site)), tcp);
    world_stop(&w);
}

static void find_quic(struct wr_conn *c, void *arg)
{
    if (c->udp)
        *(struct wr_conn **)arg = c;
}

static void answered(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s, (void)data;
    *(bool *)arg = true;
}

/* The home's router forgets, and over QUIC the home comes by at the same port again: nobody sees that anything has
 * changed. The relay asks over TCP in vain, then over QUIC. */
static void a_router_that_forgot(void **state)
{
    static const char *const ping[] = {"/ipfs/ping/1.0.0", NULL};
    static const struct wr_stream_ops ops = {.on_data = answered};
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct world w;
        struct wr_conn *quic = NULL;
        bool heard = false;
        int err;
        world_start(&w, 20 + seed);
        simnat_restart(w.home.site.nat);
        wr_swarm_each(w.home.site.swarm, find_quic, &quic);
        assert_non_null(quic);
        struct wr_stream *s = wr_conn_open_stream(quic, ping, &ops, &heard, &err);
        assert_non_null(s);
        assert_int_equal(wr_stream_write(s, "01234567890123456789012345678901", 32), 32);
        sim_run(w.sim, 3 * RTT);
        assert_true(heard);
        wr_stream_reset(s, WR_STREAM_OK);
        assert_false(wr_swarm_conn(w.relay.site.swarm, site_id(&w.home.site))->udp);
        reached_within(&w, WR_RELAY_STOP_AGAIN + WR_SEC);
        reached_within(&w, WR_SEC);
        world_stop(&w);
    }
}

/* ---- the way to a home is named before it is one */

struct search {
    struct wr_task task;
    struct world *w;
    wr_route_done done;
    void *arg;
};

static struct wr_maddr way(struct world *w)
{
    struct wr_maddr at = site_at(&w->relay.site, true), tail;
    assert_int_equal(wr_maddr_append_peer(&at, site_id(&w->relay.site)), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&at, wr_maddr_bytes(&tail)), 0);
    return at;
}

static void answer(struct wr_task *task)
{
    struct search *s = wr_list_entry(task, struct search, task);
    struct wr_maddr at = way(s->w);
    wr_route_done done = s->done;
    void *arg = s->arg;
    (void)wr_peerstore_add_addr(wr_swarm_peerstore(s->w->other.site.swarm), site_id(&s->w->home.site),
                                wr_maddr_bytes(&at), WR_TTL_TEMP, false);
    free(s);
    done(arg, 0);
}

static void *find(void *arg, const struct wr_peerid *peer, wr_route_done done, void *done_arg)
{
    struct world *w = arg;
    struct search *s = calloc(1, sizeof(*s));
    (void)peer;
    assert_non_null(s);
    *s = (struct search){.w = w, .done = done, .arg = done_arg};
    wr_env_defer(w->other.site.env, &s->task, answer);
    return s;
}

static void cancel(void *arg, void *search)
{
    struct search *s = search;
    (void)arg;
    wr_task_cancel(&s->task);
    free(s);
}

/* The relay holds no place for it yet, and its other address never answers. What the router says again is tried again,
 * in the same dial, whoever waits for that. */
static void a_way_that_comes_about(void **state)
{
    (void)state;
    for (unsigned late = 1; late <= 13; late += 6) {
        struct world w;
        struct dialled first = {0}, second = {0};
        struct wr_maddr dead;
        struct wr_router router = {.find = find, .cancel = cancel, .arg = &w};
        world_start(&w, 30 + late);
        wr_relay_client_drop(w.home.client, site_id(&w.relay.site));
        wr_swarm_disconnect(w.home.site.swarm, site_id(&w.relay.site), WR_CONN_OK);
        sim_run(w.sim, WR_SEC);
        wr_swarm_set_router(w.other.site.swarm, &router);
        /* A router there says nothing at all. */
        struct wr_addr nowhere = {.ip = *simnat_ip4(w.home.site.nat), .port = PORT};
        assert_int_equal(wr_maddr_from_addr(&nowhere, true, &dead), 0);
        assert_int_equal(wr_swarm_connect(w.other.site.swarm, site_id(&w.home.site), &dead, 1, WR_ORIGIN_OWNER,
                                          WR_CONNECT_ROUTE, site_on_dialled, &first, NULL),
                         0);
        sim_run(w.sim, late * WR_SEC);
        site_dial(w.sim, &w.home.site, &w.relay.site, true);
        assert_int_equal(wr_relay_client_hold(w.home.client, site_id(&w.relay.site)), 0);
        assert_int_equal(wr_swarm_connect(w.other.site.swarm, site_id(&w.home.site), &dead, 1, WR_ORIGIN_OWNER,
                                          WR_CONNECT_ROUTE, site_on_dialled, &second, NULL),
                         0);
        assert_true(sim_run_while(w.sim, dial_waits, &second, 10 * WR_SEC));
        assert_int_equal(second.err, 0);
        wr_swarm_set_router(w.other.site.swarm, NULL);
        world_stop(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_home_that_moved),
        cmocka_unit_test(a_home_that_moves_on_and_on),
        cmocka_unit_test(a_suspicion_ends),
        cmocka_unit_test(a_router_that_forgot),
        cmocka_unit_test(a_way_that_comes_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
