/* Circuits that peers bring through our relays, and circuits that a direct connection has replaced. */
#include "transport/channel.h"
#include "transport/swarm_impl.h"

#define RETIRE_TICK (1 * WR_SEC)    /* between looks at circuits that are to go; ours */

void wr_swarm_accept_circuit(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_circuit *circuit,
                             struct wr_stream *s, struct wr_bytes early)
{
    struct wr_circuit_side side = {.outbound = false, .expect = peer};
    if (wr_policy_peer_blocked(&sw->policy, peer) || wr_peerid_equal(peer, &sw->ctx.self) ||
        !wr_limits_take(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1)) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    struct wr_conn *c = wr_channel_circuit(&sw->ctx, circuit, s, early, &side);
    if (c)
        wr_list_append(&sw->opening, &c->node);
    else
        wr_limits_give(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
}

/* ---- retirement ------------------------------------------------------------------------------------------- */

static bool has_direct(struct wr_swarm *sw, const struct wr_peerid *peer)
{
    const struct wr_conn *best = wr_swarm_conn(sw, peer);
    return best && !best->circuit;
}

static void on_retire(struct wr_timer *timer)
{
    struct wr_swarm *sw = wr_list_entry(timer, struct wr_swarm, retire);
    bool more = false;
    wr_list_each(it, &sw->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (!c->retiring || c->closing)
            continue;
        c->retiring = has_direct(sw, &c->peer);
        if (c->retiring && c->stream_count == 0)
            wr_conn_close(c, WR_CONN_OK);
        else
            more |= c->retiring;
    }
    if (more)
        wr_timer_start(sw->env, timer, wr_env_now(sw->env) + RETIRE_TICK, on_retire);
}

void wr_swarm_circuit_retire(struct wr_swarm *sw, struct wr_swarm_peer *p)
{
    bool any = false;
    if (!has_direct(sw, &p->id))
        return;
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, peer_node);
        c->retiring |= c->circuit != NULL;
        any |= c->retiring;
    }
    /* Not sooner because others wait: what they wait for is a grace, too. */
    if (any)
        wr_timer_start(sw->env, &sw->retire, wr_env_now(sw->env) + WR_CIRCUIT_RETIRE, on_retire);
}
