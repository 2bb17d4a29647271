/* swarm_world.h - nodes that speak TCP, for the stories of the swarm. Included by one source file of a test program. */
#ifndef SWARM_WORLD_H
#define SWARM_WORLD_H

#include "tests/sim/echo_world.h"

/* What the nodes of a story speak over TCP; every story is told for each favourite. */
static const struct wr_secure *spoken[WR_SECURE_COUNT + 1];

static inline void node_start(struct node *n, struct sim *sim, uint8_t seed, const char *limits,
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

static inline struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC, .ragged = true});
}

/* Speaks only one security protocol. */
static inline void start_speaking(struct node *n, struct sim *sim, uint8_t seed, const struct wr_secure *only)
{
    const struct wr_secure *all[WR_SECURE_COUNT + 1];
    memcpy(all, spoken, sizeof(all));
    spoken[0] = only;
    spoken[1] = NULL;
    node_start(n, sim, seed, "home", NULL);
    memcpy(spoken, all, sizeof(all));
}

/* Sets the favourite of the stories that follow. */
static inline const char *prefer(size_t i)
{
    spoken[0] = wr_secure_all[i];
    spoken[1] = wr_secure_all[!i];
    return spoken[0]->name;
}

#endif
