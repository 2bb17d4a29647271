/* quic_world.h - nodes that speak QUIC only, and a NAT that forgets; for the stories of QUIC. */
#ifndef QUIC_WORLD_H
#define QUIC_WORLD_H

#include "tests/sim/echo_world.h"
#include "transport/quic.h"
#include "transport/swarm_impl.h"

/* On n->host, or on a host of its own, listening on QUIC alone: at the host's address, or at `where`. */
static inline void node_start_at(struct node *n, struct sim *sim, uint8_t seed, const struct wr_addr *where)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    if (!n->host)
        n->host = sim_host_add(sim, &(struct sim_host_options){.name = "node"});
    n->env = sim_host_env(n->host);
    n->opened = n->closed = n->served = 0;
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "home"), 0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    n->watch.on_event = on_event;
    wr_swarm_watch(n->swarm, &n->watch);
    struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(where ? where : &at, true, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
    struct wr_protocol p = {.name = ECHO, .on_stream = on_echo, .arg = n, .inbound_max = 1000};
    assert_int_equal(wr_swarm_handle(n->swarm, &p), 0);
}

static inline void node_start(struct node *n, struct sim *sim, uint8_t seed)
{
    node_start_at(n, sim, seed, NULL);
}

static inline void talk(struct node *from, struct node *to, struct client *c, size_t size)
{
    talk_over(from, to, echo_offer, c, size);
}

/* As talk, on what is open, where memory may be short. */
static inline void talk_if_open(struct node *from, struct node *to, struct client *c, size_t size)
{
    int err = 0;
    struct wr_conn *conn = wr_swarm_conn(from->swarm, wr_swarm_self(to->swarm));
    *c = (struct client){.env = from->env, .size = size};
    c->stream = conn ? wr_conn_open_stream(conn, echo_offer, &client_ops, c, &err) : NULL;
    if (c->stream)
        client_push(c);
}

/* Gives the one machine behind it an outer port, and another one when told to. */
struct nat {
    struct sim_gateway gateway;
    struct wr_addr inner;
    uint16_t port;
};

static inline bool nat_out(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    (void)now;
    nat->inner = head->from;
    head->from = (struct wr_addr){.ip = gateway->ip4, .port = nat->port};
    return true;
}

static inline bool nat_in(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    (void)now;
    if (head->to.port != nat->port)
        return false;
    head->to = nat->inner;
    return true;
}

static inline void nat_start(struct nat *nat, struct sim *sim, struct node *inside)
{
    *nat = (struct nat){.port = 20000};
    nat->gateway = (struct sim_gateway){.ip4 = {4, {45, 7, 7, 1}}, .outbound = nat_out, .inbound = nat_in,
                                        .state = nat};
    sim_gateway_add(sim, &nat->gateway);
    inside->host = sim_host_add(sim, &(struct sim_host_options){
        .name = "inside", .ip4 = {4, {192, 168, 1, 2}}, .gateway = &nat->gateway});
}

#endif
