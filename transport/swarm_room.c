/* Who makes room for whom: what a connection is worth, and trimming. */
#include "transport/swarm_impl.h"

#define TRIM_GRACE      (20 * WR_SEC)    /* a new connection is not trimmed; kubo */
#define TRIM_EVERY      (10 * WR_SEC)    /* at most; go */
#define TRIM_GRACE_FULL (3 * WR_SEC)     /* with no place left for a newcomer; ours */

/* What keeping a connection is worth; INT32_MAX: never trimmed. */
static int worth(struct wr_swarm *sw, const struct wr_conn *c)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, &c->peer, false);
    int sum = c->outbound ? 1 : 0;
    if (wr_policy_peer_allowed(&sw->policy, &c->peer))
        return INT32_MAX;
    for (unsigned i = 0; p && i < p->tag_count; i++) {
        if (p->tags[i].protect)
            return INT32_MAX;
        sum += p->tags[i].weight;
    }
    if (c->stream_count)
        sum += 2;
    return sum;
}

/* The connection that is worth least, new ones aside; of equals the longest unused. */
static struct wr_conn *least(struct wr_swarm *sw, wr_time grace, bool inbound_only)
{
    struct wr_conn *worst = NULL;
    int worst_worth = INT32_MAX;
    wr_time now = wr_env_now(sw->env);
    wr_list_each(it, &sw->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (c->closing || now - c->opened_at < grace || (inbound_only && c->outbound))
            continue;
        int w = worth(sw, c);
        if (w < worst_worth || (worst && w == worst_worth && c->used_at < worst->used_at)) {
            worst = c;
            worst_worth = w;
        }
    }
    return worst;
}

/* Closes what is over three quarters of a ceiling, once nine tenths are reached. */
static void trim_to(struct wr_swarm *sw, enum wr_limit limit, bool inbound_only)
{
    uint64_t used = sw->limits->of[limit].used, max = sw->limits->of[limit].max;
    if (used <= max * 9 / 10)
        return;
    for (uint64_t over = used - max * 3 / 4; over; over--) {
        struct wr_conn *c = least(sw, TRIM_GRACE, inbound_only);
        if (!c)
            return;
        wr_conn_close(c, WR_CONN_TRIMMED);
    }
}

void wr_swarm_room_trim(struct wr_swarm *sw)
{
    wr_time now = wr_env_now(sw->env);
    if (sw->trimmed_at && now - sw->trimmed_at < TRIM_EVERY)
        return;
    sw->trimmed_at = now;
    trim_to(sw, WR_LIMIT_CONNS_INBOUND, true);
    trim_to(sw, WR_LIMIT_CONNS, false);
}

void wr_swarm_room_starved(struct wr_swarm *sw)
{
    struct wr_conn *worst = least(sw, 0, false);
    if (worst)
        wr_conn_close(worst, WR_CONN_TRIMMED);
}

bool wr_swarm_room_take(struct wr_swarm *sw, enum wr_limit limit, bool inbound_only)
{
    if (wr_limits_take(sw->limits, limit, 1))
        return true;
    struct wr_conn *worst = least(sw, TRIM_GRACE_FULL, inbound_only);
    if (!worst)
        return false;
    worst->mux->close(worst, WR_CONN_TRIMMED);
    wr_conn_ended(worst, WR_ECLOSED);
    return wr_limits_take(sw->limits, limit, 1);
}
