/* A swarm as the networks of the world are mixed: everybody is behind what people have at home, on the train, at work. Any
 * two that want to talk do, at least through a relay; how many of them directly is held against what their NATs allow.
 * WARREN_NODES: how many nodes, 60 by default. */
#include "tests/sim/home_world.h"

#include <stdlib.h>

#define RELAYS_SHARE 30              /* a public node that lends its relay for so many homes */
#define MEETS        4               /* servers that each home knows */
#define SETTLE       (30 * WR_SEC)
#define PAIRS        2               /* dials of each home */

/* Of a thousand; nat sheet, section 11, IPv6 left out and VPN exits taken for what they are, one port for all. Of those
 * behind routers some have no UDP, whatever else they have. */
#define NO_UDP 30
static const struct {
    enum kind kind;
    unsigned share;
} mix[] = {{PUBLIC, 60},    {FULL_CONE, 40}, {PORT_RESTRICTED, 400}, {RANDOM_EIM, 90}, {REFUSING, 60}, {ANSWERING, 30},
           {CARRIER, 210},  {RANDOM, 50},    {SEQUENTIAL, 40},       {PRESERVING, 20}};

static enum kind draw(struct sim *sim)
{
    unsigned x = (unsigned)sim_random(sim, 1000);
    for (size_t i = 0; i < sizeof(mix) / sizeof(mix[0]); i++) {
        if (x < mix[i].share)
            return mix[i].kind;
        x -= mix[i].share;
    }
    return PORT_RESTRICTED;
}

struct world {
    struct sim *sim;
    size_t home_count, server_count;
    struct home *home, *server;    /* owned */
    unsigned *relay;               /* owned; of each home */
};

static void start(struct world *w, size_t homes, uint64_t seed)
{
    w->sim = sim_create(&(struct sim_options){.seed = seed});
    w->home_count = homes;
    w->server_count = MEETS + homes / RELAYS_SHARE;
    w->home = calloc(homes, sizeof(*w->home));
    w->server = calloc(w->server_count, sizeof(*w->server));
    w->relay = calloc(homes, sizeof(*w->relay));
    assert_true(w->home && w->server && w->relay);
    for (size_t i = 0; i < w->server_count; i++) {
        home_start(&w->server[i], w->sim, PUBLIC, FIRST_SERVER + (unsigned)i);
        relay_start(&w->server[i]);
    }
    for (size_t i = 0; i < homes; i++) {
        enum kind kind = draw(w->sim);
        bool no_udp = kind != PUBLIC && (i == 0 || sim_random(w->sim, 1000) < NO_UDP);    /* one at least */
        site_host_with(&w->home[i].site, w->sim, kind, no_udp, 1 + (unsigned)i);
        site_swarm(&w->home[i].site, 1 + (unsigned)i);
        home_services(&w->home[i]);
    }
}

static void stop(struct world *w)
{
    for (size_t i = 0; i < w->home_count; i++)
        home_stop(&w->home[i]);
    for (size_t i = 0; i < w->server_count; i++)
        home_stop(&w->server[i]);
    sim_destroy(w->sim);
    for (size_t i = 0; i < w->home_count; i++)
        site_free(&w->home[i].site);
    free(w->home);
    free(w->server);
    free(w->relay);
}

static void take_place(struct world *w, struct home *h, struct home *relay)
{
    assert_int_equal(wr_relay_client_hold(h->client, site_id(&relay->site)), 0);
    sim_run_while(w->sim, hold_waits, h, 5 * WR_SEC);
    assert_int_equal(h->holds, 1);
}

/* Everybody meets some servers, and holds a place at one. */
static void settle(struct world *w)
{
    for (size_t i = 0; i < w->home_count; i++) {
        struct home *h = &w->home[i];
        size_t first = (size_t)sim_random(w->sim, w->server_count);
        for (size_t k = 0; k < MEETS; k++)
            for (int quic = 0; quic < (h->site.no_udp ? 1 : 2); quic++)
                site_dial(w->sim, &h->site, &w->server[(first + k) % w->server_count].site, quic);
        w->relay[i] = (unsigned)first;
        take_place(w, h, &w->server[first]);
    }
    sim_run(w->sim, SETTLE);
}

struct tally {
    unsigned pairs, connected, direct, possible, predicted, predicted_direct, no_udp;
};

static void count(struct world *w, struct home *a, size_t b, struct tally *t)
{
    struct home *to = &w->home[b];
    struct home *relay = &w->server[w->relay[b]];
    struct dialled d;
    struct pair p = {a, to};
    enum kind ka = a->site.kind, kb = to->site.kind;
    if (wr_swarm_conn(a->site.swarm, site_id(&to->site)))
        return;
    dial_through(a, relay, to, &d);
    assert_true(sim_run_while(w->sim, dial_waits, &d, 40 * WR_SEC));
    t->pairs++;
    t->no_udp += a->site.no_udp || to->site.no_udp;
    t->connected += d.err == 0;
    if (!kinds_meet_predicted(ka, kb)) {
        sim_run(w->sim, WR_SEC);    /* it may go on beside what follows */
        return;
    }
    bool direct = sim_run_while(w->sim, pair_waits, &p, 25 * WR_SEC);
    t->possible++;
    t->direct += direct;
    t->predicted += !kinds_meet(ka, kb);
    t->predicted_direct += !kinds_meet(ka, kb) && direct;
    if (!direct)
        print_message("%s%s and %s%s stayed relayed: %s, attempt %u\n", kind_names[ka], a->site.no_udp ? " without UDP" : "",
                      kind_names[kb], to->site.no_udp ? " without UDP" : "",
                      wr_dcutr_outcome_name(to->last.outcome), to->last.attempt);
}

static void everybody_reaches_everybody(void **state)
{
    const char *text = getenv("WARREN_NODES");
    size_t homes = text ? strtoul(text, NULL, 10) : 60;
    struct world w;
    struct tally t = {0};
    (void)state;
    start(&w, homes, 11);
    settle(&w);
    for (size_t i = 0; i < homes; i++) {
        for (unsigned k = 0; k < PAIRS; k++) {
            size_t b = (size_t)sim_random(w.sim, homes);
            if (b != i)
                count(&w, &w.home[i], b, &t);
        }
    }
    print_message("%zu nodes, %u pairs (%u without UDP): %u connected, %u direct of %u possible (%u of %u by prediction)\n",
                  homes, t.pairs, t.no_udp, t.connected, t.direct, t.possible, t.predicted_direct, t.predicted);
    assert_int_equal(t.connected, t.pairs);
    unsigned plain = t.possible - t.predicted, plain_direct = t.direct - t.predicted_direct;
    assert_true(plain_direct * 100 >= plain * 99);    /* as the laboratory's bounds */
    assert_true(t.predicted_direct * 100 >= t.predicted * 95);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_reaches_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
