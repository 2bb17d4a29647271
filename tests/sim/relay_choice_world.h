/* relay_choice_world.h - a home behind a NAT that chooses among relays, for the stories of that. Included by one source
 * file of a test program. */
#ifndef RELAY_CHOICE_WORLD_H
#define RELAY_CHOICE_WORLD_H

#include "identify/identify.h"
#include "identify/ping.h"
#include "relay/relay_auto.h"
#include "relay/relay_server.h"
#include "tests/sim/simnat.h"
#include "tests/sim/simnode.h"

#define RELAYS 5

struct far {
    struct node n;
    struct wr_identify *identify;
    struct wr_pong *pong;
    struct wr_relay_server *server;
    bool down;
};

struct world {
    struct sim *sim;
    struct simnat *nat;
    struct node home;
    struct wr_identify *identify;
    struct wr_relay_auto *choice;
    struct far relays[RELAYS];
    unsigned searched, made, lost;
    wr_time made_at, lost_at;
};

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct world *w = arg;
    (void)relay;
    (void)status;
    w->made += err == 0;
    w->lost += err != 0;
    *(err ? &w->lost_at : &w->made_at) = sim_now(w->sim);
}

static void discover(void *arg)
{
    struct world *w = arg;
    w->searched++;
}

static inline void far_up(struct far *f, struct sim *sim, unsigned seed, struct wr_ip ip)
{
    if (!f->n.host)
        f->n.host = sim_host_add(sim, &(struct sim_host_options){.name = "relay", .ip4 = ip});
    node_start(&f->n, sim, seed);
    f->identify = wr_identify_create(&(struct wr_identify_options){.swarm = f->n.swarm});
    f->pong = wr_pong_create(f->n.swarm);
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, f->n.swarm);
    o.mode = WR_RELAY_ON;
    f->server = wr_relay_server_create(&o);
    assert_true(f->identify && f->pong && f->server);
}

static inline void far_down(struct far *f)
{
    if (f->down)
        return;
    f->down = true;
    wr_relay_server_destroy(f->server);
    wr_pong_destroy(f->pong);
    wr_identify_destroy(f->identify);
    node_stop(&f->n);
}

/* Relays 0 and 1 are of one network; none is connected yet. */
static inline void world_up(struct world *w, const struct sim_options *options)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(options);
    w->nat = simnat_add(w->sim, &(struct simnat_options){.filtering = SIMNAT_APDF});
    w->home.host = sim_host_add(w->sim, &(struct sim_host_options){.name = "home",
                                                                   .gateway = simnat_gateway(w->nat),
                                                                   .ip4 = {.family = 4, .bytes = {192, 168, 1, 2}}});
    node_start(&w->home, w->sim, 1);
    w->identify = wr_identify_create(&(struct wr_identify_options){.swarm = w->home.swarm});
    struct wr_relay_auto_options o = {.swarm = w->home.swarm, .discover = discover, .on_hold = on_hold, .arg = w};
    w->choice = wr_relay_auto_create(&o);
    assert_true(w->identify && w->choice);
    for (unsigned i = 0; i < RELAYS; i++) {
        struct wr_ip ip = {.family = 4, .bytes = {60, (uint8_t)(i < 2 ? 1 : i + 1), (uint8_t)(i + 1), 1}};
        far_up(&w->relays[i], w->sim, 10 + i, ip);
    }
}

static inline void world_down(struct world *w)
{
    wr_relay_auto_destroy(w->choice);
    wr_identify_destroy(w->identify);
    node_stop(&w->home);
    for (unsigned i = 0; i < RELAYS; i++)
        far_down(&w->relays[i]);
    sim_destroy(w->sim);
    simnat_free(w->nat);
}

static inline void meet(struct world *w, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        assert_int_equal(node_connect(w->sim, &w->home, &w->relays[i].n), 0);
    sim_run(w->sim, WR_SEC);
}

static inline bool held(const struct world *w, unsigned i)
{
    const struct wr_relay_hold *h =
        wr_relay_client_held(wr_relay_auto_client(w->choice), wr_swarm_self(w->relays[i].n.swarm));
    return h && h->state == WR_RELAY_HELD;
}

static inline unsigned held_count(const struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < RELAYS; i++)
        n += !w->relays[i].down && held(w, i);
    return n;
}

static inline size_t announced(const struct world *w)
{
    struct wr_maddr out[WR_ADDRBOOK_MAX];
    size_t n = 0, count = wr_addrbook_announce(wr_swarm_addrbook(w->home.swarm), NULL, out, WR_ADDRBOOK_MAX);
    for (size_t i = 0; i < count; i++)
        n += wr_maddr_is_circuit(wr_maddr_bytes(&out[i]));
    return n;
}

#endif
