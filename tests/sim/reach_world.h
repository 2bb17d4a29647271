/* reach_world.h - a node that finds out whether it can be reached, those it asks, and strangers to it, for the stories
 * of it. Included by one source file of a test program. */
#ifndef REACH_WORLD_H
#define REACH_WORLD_H

#include "tests/sim/simnode.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "identify/identify.h"
#include "tests/sim/simnat.h"

#define RTT     (40 * WR_MSEC)
#define SERVERS 4 /* whom the client connects to */
#define OTHERS  2 /* whom only the servers know: strangers to the client */

struct member {
    struct node n;
    struct wr_maddr quic;
    struct wr_identify *identify;
    struct wr_autonat_client *client;
    struct wr_autonat_server *server;
};

struct world {
    struct sim *sim;
    struct simnat *nat;
    struct member c, s[SERVERS], x[OTHERS];
    unsigned servers, others;
};

static inline void member_start(struct world *w, struct member *m, unsigned seed)
{
    struct wr_addr at;
    node_start(&m->n, w->sim, seed);
    assert_true(wr_maddr_addr(wr_maddr_bytes(&m->n.addr), &at));
    assert_int_equal(wr_maddr_from_addr(&at, true, &m->quic), 0);
    assert_int_equal(wr_swarm_listen(m->n.swarm, wr_maddr_bytes(&m->quic)), 0);
    m->identify = wr_identify_create(&(struct wr_identify_options){.swarm = m->n.swarm});
    m->server = wr_autonat_server_create(m->n.swarm);
    assert_true(m->identify && m->server);
}

static inline void member_ask(struct member *m)
{
    m->client = wr_autonat_client_create(m->n.swarm);
    assert_non_null(m->client);
}

static inline void member_stop(struct member *m)
{
    if (!m->n.swarm)
        return;
    wr_autonat_client_destroy(m->client);
    wr_autonat_server_destroy(m->server);
    wr_identify_destroy(m->identify);
    node_stop(&m->n);
}

static inline void connect_to(struct world *w, struct member *from, struct member *to, bool quic)
{
    struct wr_maddr tcp = to->n.addr;
    if (quic)
        to->n.addr = to->quic;
    assert_int_equal(node_connect(w->sim, &from->n, &to->n), 0);
    to->n.addr = tcp;
}

/* Servers that know each other's strangers; a client behind `site` (NULL: on the internet). */
static inline void start(struct world *w, unsigned servers, unsigned others, const struct simnat_options *site)
{
    *w = (struct world){.servers = servers, .others = others};
    w->sim = sim_create(&(struct sim_options){.seed = 21, .rtt = RTT});
    for (unsigned i = 0; i < servers; i++)
        member_start(w, &w->s[i], 10 + i);
    for (unsigned i = 0; i < others; i++)
        member_start(w, &w->x[i], 20 + i);
    for (unsigned i = 0; i < servers; i++)
        for (unsigned k = 0; k < others; k++)
            connect_to(w, &w->s[i], &w->x[k], false);
    if (site) {
        w->nat = simnat_add(w->sim, site);
        struct wr_ip inner = {4, {192, 168, 1, 10}};
        if (site->mapping == SIMNAT_NONE)
            inner = *simnat_ip4(w->nat);
        w->c.n.host = sim_host_add(
            w->sim, &(struct sim_host_options){.gateway = simnat_gateway(w->nat), .ip4 = inner, .ip6 = site->ip6});
    }
    member_start(w, &w->c, 1);
    member_ask(&w->c);
}

static inline void stop(struct world *w)
{
    member_stop(&w->c);
    for (unsigned i = 0; i < w->servers; i++)
        member_stop(&w->s[i]);
    for (unsigned i = 0; i < w->others; i++)
        member_stop(&w->x[i]);
    sim_destroy(w->sim);
    if (w->nat)
        simnat_free(w->nat);
}

static inline void meet_all(struct world *w, bool quic)
{
    for (unsigned i = 0; i < w->servers; i++)
        connect_to(w, &w->c, &w->s[i], quic);
}

static inline enum wr_reachability reach(struct world *w)
{
    return wr_swarm_reachability(w->c.n.swarm, 4);
}

struct wait {
    struct world *w;
    enum wr_reachability is;
};

static inline bool still(void *arg)
{
    struct wait *wait = arg;
    return reach(wait->w) == wait->is;
}

/* How long until reachability is no longer unknown; -1: never within a minute and a half. */
static inline int seconds_to_know(struct world *w)
{
    struct wait wait = {.w = w, .is = WR_REACH_UNKNOWN};
    wr_time from = sim_now(w->sim);
    if (!sim_run_while(w->sim, still, &wait, 90 * WR_SEC))
        return -1;
    return (int)((sim_now(w->sim) - from) / WR_SEC);
}

static inline struct wr_autonat_client_stats stats(const struct world *w)
{
    struct wr_autonat_client_stats s;
    wr_autonat_client_stats(w->c.client, &s);
    return s;
}

static inline void lie_over(struct wr_msg *m, int err)
{
    (void)m;
    (void)err;
}

#endif
