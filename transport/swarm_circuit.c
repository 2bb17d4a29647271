/* Circuits that peers bring through our relays, and connections that another has replaced. */
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

/* Whether streams to its peer have a better place than c. */
static bool replaced(const struct wr_swarm *sw, const struct wr_conn *c)
{
    const struct wr_conn *best = wr_swarm_conn(sw, &c->peer);
    return best && best != c && !best->circuit;
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
        c->retiring = replaced(sw, c);
        if (c->retiring && c->stream_count == 0)
            wr_conn_close(c, WR_CONN_OK);
        else
            more |= c->retiring;
    }
    if (more)
        wr_timer_start(sw->env, timer, wr_env_now(sw->env) + RETIRE_TICK, on_retire);
}

/* Both ends dialled, and each way led through: reversal beside a punch, say. Both come to the same choice without a
 * word. That they dialled at the same time matters: later a dial of the peer's may well mean that it does not hear us
 * on ours any more. */
static bool is_kept(const struct wr_swarm *sw, const struct wr_conn *c)
{
    return c->outbound == (wr_bytes_compare(wr_peerid_bytes(&sw->ctx.self), wr_peerid_bytes(&c->peer)) < 0);
}

static void choose_one(struct wr_swarm *sw, struct wr_swarm_peer *p, struct wr_conn *c)
{
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *other = wr_list_entry(it, struct wr_conn, peer_node);
        if (!other->circuit && !other->closing && !other->retiring && other->outbound != c->outbound &&
            other->opened_at >= p->upgraded_at)
            (is_kept(sw, c) ? other : c)->retiring = true;
    }
}

void wr_swarm_retire(struct wr_swarm *sw, struct wr_swarm_peer *p, struct wr_conn *c)
{
    wr_time now = wr_env_now(sw->env);
    bool any = false;
    const struct wr_conn *best = wr_swarm_conn(sw, &p->id);
    if (!best || best->circuit)
        return;
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *old = wr_list_entry(it, struct wr_conn, peer_node);
        if (!old->circuit || old->closing)
            continue;
        if (!old->retiring && best == c)
            p->upgraded_at = now;
        old->retiring = true;
    }
    if (!c->circuit && !c->closing && p->upgraded_at && now - p->upgraded_at < WR_CIRCUIT_RETIRE)
        choose_one(sw, p, c);
    wr_list_each(it, &p->conns)
        any |= wr_list_entry(it, struct wr_conn, peer_node)->retiring;
    /* Not sooner because others wait: what they wait for is a grace, too. */
    if (any)
        wr_timer_start(sw->env, &sw->retire, now + WR_CIRCUIT_RETIRE, on_retire);
}
