/* simnode.h - a swarm on a simulated machine, for stories about the services above it. Included by one source
 * file of a test program. */
#ifndef SIMNODE_H
#define SIMNODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/swarm.h"

#include <string.h>

#define PORT 4001

struct node {
    struct sim_host *host;
    uint16_t port;           /* 0: PORT */
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_swarm_watch watch;
    struct wr_maddr addr;    /* where it listens */
    unsigned opened, closed, connected, identified, changed;
    wr_time opened_at, identified_at;
};

static void node_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct node *n = wr_list_entry(watch, struct node, watch);
    n->closed += event->type == WR_SWARM_CLOSED;
    n->connected += event->type == WR_SWARM_CONNECTED;
    n->changed += event->type == WR_SWARM_PEER_CHANGED;
    if (event->type == WR_SWARM_OPENED) {
        n->opened++;
        n->opened_at = wr_env_now(n->env);
    }
    if (event->type == WR_SWARM_IDENTIFIED) {
        n->identified++;
        n->identified_at = wr_env_now(n->env);
    }
}

/* A swarm on n->host (a machine of its own unless set), with a key that `seed` tells, listening. */
static void node_start(struct node *n, struct sim *sim, unsigned seed)
{
    uint8_t bytes[WR_ED25519_SEED] = {(uint8_t)seed, (uint8_t)(seed >> 8), 1};
    if (!n->host)
        n->host = sim_host_add(sim, &(struct sim_host_options){.name = "node"});
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "small"), 0);
    n->swarm = wr_swarm_create(&(struct wr_swarm_options){
        .env = n->env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    n->watch.on_event = node_event;
    wr_swarm_watch(n->swarm, &n->watch);
    struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = n->port ? n->port : PORT};
    assert_int_equal(wr_maddr_from_addr(&at, false, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
}

static void node_stop(struct node *n)
{
    wr_swarm_unwatch(&n->watch);
    wr_swarm_destroy(n->swarm);
}

static void node_on_connect(void *arg, int err, struct wr_conn *conn)
{
    (void)conn;
    *(int *)arg = err;
}

/* Dials and waits; the error of the dial. */
static inline int node_connect(struct sim *sim, struct node *from, struct node *to)
{
    int result = 1;
    assert_int_equal(wr_swarm_connect(from->swarm, wr_swarm_self(to->swarm), &to->addr, 1, WR_ORIGIN_OWNER,
                                      0, node_on_connect, &result, NULL),
                     0);
    for (int i = 0; i < 20000 && result == 1; i++)
        sim_run(sim, WR_MSEC);
    assert_int_not_equal(result, 1);
    return result;
}

static inline struct wr_conn *node_conn(struct node *from, struct node *to)
{
    return wr_swarm_conn(from->swarm, wr_swarm_self(to->swarm));
}

static inline int node_knows(struct node *n, struct node *peer, const char *protocol)
{
    return wr_peerstore_speaks(wr_swarm_peerstore(n->swarm), wr_swarm_self(peer->swarm), protocol);
}

static inline const struct wr_peer *node_peer(struct node *n, struct node *peer)
{
    return wr_peerstore_find(wr_swarm_peerstore(n->swarm), wr_swarm_self(peer->swarm));
}

/* An answered protocol without a service behind it. */
static inline void node_handle(struct node *n, const char *name,
                               void (*on_stream)(struct wr_stream *s, void *arg), void *arg)
{
    struct wr_protocol p = {.on_stream = on_stream, .arg = arg, .inbound_max = 100};
    assert_true(strlen(name) < sizeof(p.name));
    memcpy(p.name, name, strlen(name) + 1);
    assert_int_equal(wr_swarm_handle(n->swarm, &p), 0);
}

#endif
