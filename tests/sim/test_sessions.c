/* What a home's router remembers of a node, against what the node believes that it does: never more, whatever it is busy
 * with. All services are the real ones. */
#include "tests/sim/home_world.h"

#include <stdlib.h>

#define RTT     (80 * WR_MSEC)
#define SERVERS 5
#define PEERS   6
#define LOOK    (100 * WR_MSEC)
#define LATE    3    /* looks: of what comes in the router knows a round trip earlier */

struct world {
    struct sim *sim;
    struct home server[SERVERS], home, peer[PEERS];
    unsigned most, behind;
};

static void world_start(struct world *w, enum kind home, uint64_t seed)
{
    static const enum kind kinds[PEERS] = {PORT_RESTRICTED, RANDOM, RESTRICTED, SEQUENTIAL, REFUSING, CARRIER};
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = RTT});
    for (unsigned i = 0; i < SERVERS; i++)
        home_start(&w->server[i], w->sim, PUBLIC, FIRST_SERVER + i);
    relay_start(&w->server[0]);
    home_start(&w->home, w->sim, home, 2);
    for (unsigned i = 0; i < PEERS; i++)
        home_start(&w->peer[i], w->sim, kinds[i], 3 + i);
}

static void world_stop(struct world *w)
{
    home_stop(&w->home);
    for (unsigned i = 0; i < PEERS; i++)
        home_stop(&w->peer[i]);
    for (unsigned i = 0; i < SERVERS; i++)
        home_stop(&w->server[i]);
    sim_destroy(w->sim);
    site_free(&w->home.site);
    for (unsigned i = 0; i < PEERS; i++)
        site_free(&w->peer[i].site);
}

/* Runs, and looks at both tables. */
static void watch(struct world *w, wr_time time, const char *while_it)
{
    for (wr_time end = sim_now(w->sim) + time; sim_now(w->sim) < end;) {
        sim_run(w->sim, LOOK);
        unsigned there = simnat_sessions(w->home.site.nat);
        uint64_t here = w->home.site.limits.of[WR_LIMIT_SESSIONS].used;
        w->most = there > w->most ? there : w->most;
        w->behind = there > here ? w->behind + 1 : 0;
        if (w->behind == LATE)
            fail_msg("%s, after %d s: the router holds %u sessions, the node counts %u", while_it,
                     (int)(sim_now(w->sim) / WR_SEC), there, (unsigned)here);
    }
}

static void meet_all(struct world *w, struct home *h)
{
    for (unsigned i = 0; i < SERVERS; i++)
        for (int quic = 0; quic < 2; quic++)
            site_dial(w->sim, &h->site, &w->server[i].site, quic);
}

static void leave(struct home *a, struct home *b)
{
    for (struct wr_conn *c; (c = wr_swarm_conn(a->site.swarm, site_id(&b->site)));)
        wr_conn_close(c, WR_CONN_OK);
}

static void never_less_than_the_router(void **state)
{
    static const enum kind kinds[] = {PORT_RESTRICTED, RESTRICTED, RANDOM};
    (void)state;
    for (unsigned k = 0; k < 3; k++) {
        struct world w;
        struct dialled d;
        world_start(&w, kinds[k], 1 + k);
        meet_all(&w, &w.home);
        watch(&w, 5 * WR_MIN, "while it finds out about its NAT");
        assert_int_equal(wr_relay_client_hold(w.home.client, site_id(&w.server[0].site)), 0);
        watch(&w, 5 * WR_SEC, "with a place at a relay");
        for (unsigned i = 0; i < PEERS; i++) {
            meet_all(&w, &w.peer[i]);
            sim_run(w.sim, 30 * WR_SEC);
            dial_through(&w.peer[i], &w.server[0], &w.home, &d);
            watch(&w, 30 * WR_SEC, "while it punches");
            leave(&w.home, &w.peer[i]);
            watch(&w, 10 * WR_SEC, "after it has punched");
        }
        watch(&w, 5 * WR_MIN, "later");
        print_message("%s: %u sessions at most\n", kind_names[kinds[k]], w.most);
        world_stop(&w);
    }
}

/* Somebody else answers at an address: no connection, but an answer, which routers remember longer than a question. */
static void an_answer_without_a_connection(void **state)
{
    struct world w;
    struct dialled d = {0};
    (void)state;
    world_start(&w, PORT_RESTRICTED, 5);
    struct wr_maddr at = site_at(&w.server[1].site, true);
    assert_int_equal(wr_swarm_connect(w.home.site.swarm, site_id(&w.server[2].site), &at, 1, WR_ORIGIN_OWNER, 0,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(w.sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, WR_EPEERID);
    watch(&w, 3 * WR_MIN, "after somebody else answered");
    assert_int_equal(w.most, 1);
    assert_int_equal(simnat_sessions(w.home.site.nat), 0);
    assert_int_equal(w.home.site.limits.of[WR_LIMIT_SESSIONS].used, 0);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_less_than_the_router),
        cmocka_unit_test(an_answer_without_a_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
