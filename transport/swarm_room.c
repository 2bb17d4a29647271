/* Who makes room for whom: what a connection is worth, trimming, and strangers that compete for places.
 *
 * A stranger finds a place although all are taken: one goes from the largest network, if that has more than his own
 * (crowds.h), else one from his own, and where that has none, any. The older half of those stays, whatever the others
 * do: what is cheap for a crowd is to come again and again, not to have been here before. Of the younger half the
 * one goes that is worth least, of equals the longest unused. */
#include "transport/crowds.h"
#include "transport/swarm_impl.h"

#include <stdlib.h>

#define TRIM_GRACE         (20 * WR_SEC)      /* a new connection is not trimmed; kubo */
#define TRIM_EVERY         (10 * WR_SEC)      /* at most; go */
#define TRIM_GRACE_FULL    (3 * WR_SEC)       /* with no place left for a newcomer; ours */
#define STREAMS_WORTH      2                  /* of a connection in use; ours */
#define HALF_OPEN_PATIENCE (400 * WR_MSEC)    /* a handshake is let be so long, full or not: it takes two round trips,
                                                 200 ms reach around the world; ours */

bool wr_swarm_room_allowed(const struct wr_swarm *sw, const struct wr_conn *c)
{
    return wr_policy_peer_allowed(&sw->policy, &c->peer) ||
           (!c->circuit && wr_policy_net_allowed(&sw->policy, &c->remote.ip));
}

/* What keeping a connection is worth; INT32_MAX: never trimmed. */
static int worth(struct wr_swarm *sw, const struct wr_conn *c)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, &c->peer, false);
    int sum = c->outbound ? 1 : 0;
    if (wr_swarm_room_allowed(sw, c))
        return INT32_MAX;
    for (unsigned i = 0; p && i < p->tag_count; i++) {
        if (p->tags[i].protect)
            return INT32_MAX;
        sum += p->tags[i].weight;
    }
    if (c->stream_count)
        sum += STREAMS_WORTH;
    return sum;
}

/* Among whom somebody has to go. */
struct pool {
    bool inbound_only;
    const struct wr_crowds *crowds;    /* borrowed; NULL: of all networks */
    unsigned crowd;                    /* else of this one */
    const struct wr_peerid *relay;     /* borrowed; not those to it: the newcomer, a circuit, would end with them */
};

static bool in_pool(const struct pool *pool, const struct wr_conn *c)
{
    return !c->closing && !(pool->inbound_only && c->outbound) &&
           !(pool->relay && wr_peerid_equal(pool->relay, &c->peer)) &&
           (!pool->crowds || wr_crowds_of(pool->crowds, &c->remote.ip) == pool->crowd);
}

static size_t count_pool(struct wr_swarm *sw, const struct pool *pool)
{
    size_t count = 0;
    wr_list_each(it, &sw->conns)
    {
        count += in_pool(pool, wr_list_entry(it, struct wr_conn, node));
    }
    return count;
}

/* One that may have to go, and what it is worth. */
struct place {
    struct wr_conn *conn;
    int worth;
};

/* A walk through a pool, oldest first. */
struct walk {
    struct wr_swarm *swarm;
    const struct pool *pool;
    wr_time now, grace;
    size_t seniors;    /* still to be passed by */
};

static struct walk begin_walk(struct wr_swarm *sw, const struct pool *pool, wr_time grace)
{
    return (struct walk){sw, pool, wr_env_now(sw->env), grace, count_pool(sw, pool) / 2};
}

/* Whether the next one is of the younger half and may go; those younger than grace may not. Who just came counts as if he
 * were using it: he may be about to. */
static bool may_go(struct walk *walk, struct wr_conn *c, struct place *out)
{
    if (!in_pool(walk->pool, c))
        return false;
    if (walk->seniors) {
        walk->seniors--;
        return false;
    }
    if (walk->now - c->opened_at < walk->grace)
        return false;
    *out = (struct place){c, worth(walk->swarm, c)};
    if (out->worth == INT32_MAX)
        return false;
    if (walk->now - c->opened_at < TRIM_GRACE_FULL)
        out->worth += STREAMS_WORTH;
    return true;
}

/* For qsort: who is worth least goes first, of equals the longest unused, of those the oldest. */
static int compare_places(const void *one, const void *other)
{
    const struct place *a = one, *b = other;
    if (a->worth != b->worth)
        return a->worth < b->worth ? -1 : 1;
    if (a->conn->used_at != b->conn->used_at)
        return a->conn->used_at < b->conn->used_at ? -1 : 1;
    return a->conn->id < b->conn->id ? -1 : 1;
}

/* Who goes first; NULL: nobody may. */
static struct wr_conn *least(struct wr_swarm *sw, const struct pool *pool, wr_time grace)
{
    struct walk walk = begin_walk(sw, pool, grace);
    struct place worst = {.conn = NULL}, next;
    wr_list_each(it, &sw->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (may_go(&walk, c, &next) && (!worst.conn || compare_places(&next, &worst) < 0))
            worst = next;
    }
    return worst.conn;
}

/* Closes what is over three quarters of a ceiling, once nine tenths are reached. */
static void trim_to(struct wr_swarm *sw, enum wr_limit limit, bool inbound_only)
{
    const struct pool pool = {.inbound_only = inbound_only};
    uint64_t used = sw->limits->of[limit].used, max = sw->limits->of[limit].max;
    if (used <= max * 9 / 10)
        return;
    struct walk walk = begin_walk(sw, &pool, TRIM_GRACE);
    struct place *places = wr_alloc_array(walk.seniors + 1, sizeof(*places));
    if (!places)
        return; /* who needs memory takes it from a connection: wr_swarm_room_memory */
    size_t count = 0;
    wr_list_each(it, &sw->conns)
    {
        count += may_go(&walk, wr_list_entry(it, struct wr_conn, node), &places[count]);
    }
    qsort(places, count, sizeof(*places), compare_places);
    for (size_t i = 0; i < count && i < used - max * 3 / 4; i++)
        wr_conn_close(places[i].conn, WR_CONN_TRIMMED);
    wr_free(places);
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
    struct wr_conn *worst = least(sw, &(struct pool){0}, 0);
    if (worst)
        wr_conn_close(worst, WR_CONN_TRIMMED);
}

/* ---- strangers -------------------------------------------------------------------------------------------- */

static bool competes(const struct wr_conn *c)
{
    return !c->outbound && !c->closing;
}

static void count_crowds(struct wr_swarm *sw, struct wr_list *conns, struct wr_crowds *all)
{
    wr_crowds_init(all, wr_env_hash_seed(sw->env));
    wr_list_each(it, conns)
    {
        const struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (competes(c))
            wr_crowds_add(all, &c->remote.ip);
    }
}

static struct wr_conn *one_for(struct wr_swarm *sw, const struct wr_conn *newcomer)
{
    struct wr_crowds all;
    struct pool pool = {.inbound_only = !newcomer->outbound,
                        .relay = newcomer->circuit ? &newcomer->circuit->relay : NULL};
    if (newcomer->outbound)
        return least(sw, &pool, TRIM_GRACE_FULL);
    count_crowds(sw, &sw->conns, &all);
    int larger = wr_crowds_larger(&all, &newcomer->remote.ip);
    pool.crowd = larger >= 0 ? (unsigned)larger : wr_crowds_of(&all, &newcomer->remote.ip);
    if (all.size[pool.crowd])
        pool.crowds = &all;
    return least(sw, &pool, 0);
}

bool wr_swarm_room_take(struct wr_swarm *sw, enum wr_limit limit, const struct wr_conn *newcomer)
{
    if (wr_limits_take(sw->limits, limit, 1))
        return true;
    struct wr_conn *victim = one_for(sw, newcomer);
    if (victim) {
        victim->mux->close(victim, WR_CONN_TRIMMED);
        wr_conn_ended(victim, WR_ECLOSED);
    }
    if (victim && wr_limits_take(sw->limits, limit, 1))
        return true;
    if (!wr_swarm_room_allowed(sw, newcomer))
        return false;
    wr_limits_charge(sw->limits, limit, 1);
    return true;
}

bool wr_swarm_room_memory(struct wr_swarm *sw, const struct wr_addr *newcomer)
{
    const struct wr_conn who = {.remote = *newcomer};
    struct wr_conn *victim = one_for(sw, &who);
    if (!victim || victim->memory.held == 0)
        return false;
    victim->mux->close(victim, WR_CONN_TRIMMED);
    wr_conn_ended(victim, WR_ECLOSED);
    return true;
}

bool wr_swarm_room_half_open(struct wr_swarm *sw, const struct wr_ip *newcomer)
{
    wr_time now = wr_env_now(sw->env);
    struct wr_crowds all;
    count_crowds(sw, &sw->opening, &all);
    int crowd = wr_crowds_larger(&all, newcomer);
    wr_list_each(it, &sw->opening)    /* oldest first */
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (!competes(c))
            continue;
        if ((int)wr_crowds_of(&all, &c->remote.ip) == crowd || now - c->opened_at >= HALF_OPEN_PATIENCE) {
            wr_conn_close(c, WR_CONN_LIMIT);
            return true;
        }
    }
    return false;
}
