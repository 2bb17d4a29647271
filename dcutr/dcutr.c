#include "dcutr/dcutr_impl.h"

#include <assert.h>
#include <string.h>

#define INBOUND_MAX 2    /* streams of one connection at once: the peer may give one up for the next; ours */

static void look_at_all(struct wr_task *task);

/* ---- peers -------------------------------------------------------------------------------------- */

static void dispose_peer(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_dcutr_peer, task));
}

static void forget(struct wr_dcutr_peer *p)
{
    struct wr_dcutr *d = p->d;
    wr_dcutr_talk_stop(p, NULL);
    wr_connect_cancel(p->reversal);
    for (size_t i = 0; i < WR_DCUTR_REPORTS; i++)
        wr_free(p->reports[i]);
    wr_map_del(&d->peers, wr_peerid_bytes(&p->id));
    wr_list_remove(&p->node);
    wr_env_dispose(d->env, &p->task, dispose_peer);
}

/* The longest untouched one that has nothing under way, or (`relayed`) waits while it is connected through a relay. */
static bool forget_one(struct wr_dcutr *d, bool relayed)
{
    wr_list_each(it, &d->order)
    {
        struct wr_dcutr_peer *p = wr_list_entry(it, struct wr_dcutr_peer, node);
        if (p->now || p->reversal || (p->relayed && !relayed))
            continue;
        forget(p);
        return true;
    }
    return false;
}

/* Whoever stays connected through a relay keeps a place for as long as he likes, while others want one. */
static bool make_room(struct wr_dcutr *d)
{
    return forget_one(d, false) || forget_one(d, true);
}

static struct wr_dcutr_peer *find(const struct wr_dcutr *d, const struct wr_peerid *id)
{
    return wr_map_get(&d->peers, wr_peerid_bytes(id));
}

struct wr_dcutr_peer *wr_dcutr_peer_get(struct wr_dcutr *d, const struct wr_peerid *id)
{
    struct wr_dcutr_peer *p = find(d, id);
    if (!p) {
        if (d->peers.count >= WR_DCUTR_PEERS_MAX && !make_room(d))
            return NULL;
        p = wr_alloc(sizeof(*p));
        if (!p)
            return NULL;
        p->id = *id;
        p->d = d;
        wr_list_init(&p->node);
        if (wr_map_put(&d->peers, wr_peerid_bytes(&p->id), p) != 0) {
            wr_free(p);
            return NULL;
        }
    }
    wr_list_remove(&p->node);
    wr_list_append(&d->order, &p->node);
    return p;
}

/* ---- what is remembered ------------------------------------------------------------------------- */

static void log_report(const struct wr_dcutr_peer *p, const struct wr_dcutr_report *r)
{
    char peer[WR_PEERID_TEXT];
    wr_peerid_print(&p->id, peer);
    wr_log(wr_env_log(p->d->env), WR_LOG_DEBUG, "dcutr",
           "%s peer=%s side=%s attempt=%u trick=%s role=%s rtt_ms=%lld ms=%lld err=%s",
           wr_dcutr_outcome_name(r->outcome), peer, r->initiator ? "b" : "a", r->attempt,
           wr_plan_trick_name(r->trick), r->role == WR_PUNCH_CLIENT ? "client" : "server",
           (long long)(r->rtt / WR_MSEC), (long long)(r->took / WR_MSEC),
           r->err ? wr_err_name(r->err) : "none");
}

void wr_dcutr_note(struct wr_dcutr_peer *p, const struct wr_dcutr_report *r)
{
    struct wr_dcutr *d = p->d;
    struct wr_dcutr_report **slot = &p->reports[p->report_next];
    d->stats.outcomes[r->outcome]++;
    if (r->outcome == WR_DCUTR_PUNCHED)
        d->stats.punched[r->trick][r->udp]++;
    if (!*slot)
        *slot = wr_alloc(sizeof(**slot));
    if (*slot) {
        **slot = *r;
        p->report_next = (p->report_next + 1) % WR_DCUTR_REPORTS;
    }
    log_report(p, r);
    if (d->on_report)
        d->on_report(d->arg, &p->id, r);
}

size_t wr_dcutr_reports(const struct wr_dcutr *d, const struct wr_peerid *peer, struct wr_dcutr_report *out,
                        size_t max)
{
    const struct wr_dcutr_peer *p = find(d, peer);
    size_t n = 0;
    for (size_t i = 1; p && i <= WR_DCUTR_REPORTS && n < max; i++) {
        const struct wr_dcutr_report *r =
            p->reports[(p->report_next + WR_DCUTR_REPORTS - i) % WR_DCUTR_REPORTS];
        if (r)
            out[n++] = *r;
    }
    return n;
}

bool wr_dcutr_now(const struct wr_dcutr *d, const struct wr_peerid *peer, struct wr_dcutr_now *out)
{
    const struct wr_dcutr_peer *p = find(d, peer);
    if (!p || !p->now)
        return false;
    const struct wr_dcutr_report *r = &p->now->report;
    *out = (struct wr_dcutr_now){.initiator = r->initiator,
                                 .sending = p->phase == WR_DCUTR_PUNCHING,
                                 .attempt = r->attempt,
                                 .since = r->at};
    return true;
}

wr_time wr_dcutr_next_at(const struct wr_dcutr *d, const struct wr_peerid *peer)
{
    const struct wr_dcutr_peer *p = find(d, peer);
    return p && (p->phase == WR_DCUTR_RESTING || p->phase == WR_DCUTR_PAUSE) ? p->timer.at : 0;
}

void wr_dcutr_stats(const struct wr_dcutr *d, struct wr_dcutr_stats *out)
{
    *out = d->stats;
    size_t cursor = 0;
    for (const struct wr_dcutr_peer *p; (p = wr_map_next(&d->peers, &cursor));)
        out->running += p->now != NULL;
}

const char *wr_dcutr_outcome_name(enum wr_dcutr_outcome outcome)
{
    static const char *const names[WR_DCUTR_OUTCOMES] = {
        [WR_DCUTR_PUNCHED] = "punched",         [WR_DCUTR_REVERSED] = "reversed",
        [WR_DCUTR_MET] = "met",                 [WR_DCUTR_NO_ADDRESS] = "no-address",
        [WR_DCUTR_UNSUPPORTED] = "unsupported", [WR_DCUTR_NO_ANSWER] = "no-answer",
        [WR_DCUTR_NOTHING_TO_DIAL] = "nothing-to-dial", [WR_DCUTR_HOPELESS] = "hopeless",
        [WR_DCUTR_FAILED] = "failed"};
    return names[outcome];
}

/* ---- connection reversal ------------------------------------------------------------------------ */

static void on_reversed(void *arg, int err, struct wr_conn *conn)
{
    struct wr_dcutr_peer *p = arg;
    (void)err;
    (void)conn;    /* the swarm's event tells of it */
    p->reversal = NULL;
}

/* Addresses that the peer announces and that anybody may dial. While an exchange is under way the TCP ones are left to
 * its punch, which dials them from the same port: the second connect would end the first, whose SYN is out already,
 * and the peer sees two connections on one pair of ports. */
static size_t announced(const struct wr_dcutr_peer *p, struct wr_maddr *out)
{
    bool punching = p->phase == WR_DCUTR_LOOKING || p->phase == WR_DCUTR_CONNECTING || p->phase == WR_DCUTR_PUNCHING;
    struct wr_swarm *sw = p->d->swarm;
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(sw), &p->id, known, WR_PEER_ADDRS_MAX), n = 0;
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&known[i]);
        struct wr_addr addr;
        if (!wr_maddr_is_circuit(ma) && wr_maddr_addr(ma, &addr) &&
            !(punching && wr_maddr_kind(ma) == WR_MADDR_TCP) &&
            wr_policy_is_public(wr_swarm_policy(sw), &addr.ip))
            out[n++] = known[i];
    }
    return n;
}

void wr_dcutr_reverse(struct wr_dcutr_peer *p)
{
    struct wr_maddr addrs[WR_PEER_ADDRS_MAX];
    if (!p->relayed || p->reversal || p->reversed_on == p->relayed->id)
        return;
    size_t count = announced(p, addrs);
    if (count == 0)
        return;
    p->reversed_on = p->relayed->id;
    if (wr_swarm_connect(p->d->swarm, &p->id, addrs, count, WR_ORIGIN_STRANGER,
                         WR_CONNECT_FRESH | WR_CONNECT_DIRECT, on_reversed, p, &p->reversal) != 0)
        p->reversal = NULL;
}

/* ---- what happens ------------------------------------------------------------------------------- */

static void look_soon(struct wr_dcutr *d)
{
    wr_env_defer(d->env, &d->task, look_at_all);
}

static bool has_direct(const struct wr_dcutr *d, const struct wr_peerid *id)
{
    const struct wr_conn *c = wr_swarm_conn(d->swarm, id);
    return c && !wr_dcutr_is_relayed(c);
}

/* Whether the time since the last round is long enough for one that nothing but time suggests. */
static bool rested(const struct wr_dcutr_peer *p)
{
    return p->round_at == 0 || wr_env_now(p->d->env) - p->round_at >= WR_DCUTR_REST;
}

static void look(struct wr_dcutr_peer *p)
{
    struct wr_dcutr *d = p->d;
    if (!p->relayed || p->now || has_direct(d, &p->id))
        return;
    if (p->phase == WR_DCUTR_WANTS_PROTOCOL &&
        wr_peerstore_speaks(wr_swarm_peerstore(d->swarm), &p->id, WR_DCUTR_NAME) != 1)
        return;
    if (p->phase == WR_DCUTR_IDLE && !rested(p))
        wr_dcutr_talk_rest(p, p->round_at + WR_DCUTR_REST);
    if (p->phase == WR_DCUTR_IDLE || p->phase == WR_DCUTR_WANTS_ADDRESS ||
        p->phase == WR_DCUTR_WANTS_PROTOCOL)
        wr_dcutr_talk_start(p);
}

static void look_at_all(struct wr_task *task)
{
    struct wr_dcutr *d = wr_list_entry(task, struct wr_dcutr, task);
    size_t cursor = 0;
    for (struct wr_dcutr_peer *p; (p = wr_map_next(&d->peers, &cursor));)
        look(p);
}

/* Something may be possible now that was not: no need to wait all the time. Strangers make such news as they like, so
 * each time that it was in vain is followed by a longer wait. */
static void changed(struct wr_dcutr_peer *p)
{
    unsigned doubled = p->hurried < 8 ? p->hurried : 8;
    wr_time soon = p->round_at + (WR_DCUTR_REST_CHANGE << doubled), now = wr_env_now(p->d->env);
    if (p->phase != WR_DCUTR_RESTING || soon >= p->timer.at)
        return;
    p->hurried++;
    wr_dcutr_talk_rest(p, soon > now ? soon : now);
}

static void on_opened(struct wr_dcutr *d, struct wr_conn *c)
{
    bool relayed = wr_dcutr_is_relayed(c);
    if (relayed && c->outbound)
        return;
    struct wr_dcutr_peer *p = relayed ? wr_dcutr_peer_get(d, &c->peer) : find(d, &c->peer);
    if (!p)
        return;
    if (relayed) {
        p->relayed = c;
        look_soon(d);
        return;
    }
    /* A punch hears of it by itself. */
    if (p->phase != WR_DCUTR_PUNCHING)
        wr_dcutr_talk_stop(p, c);
}

static void on_closed(struct wr_dcutr *d, const struct wr_conn *c)
{
    struct wr_dcutr_peer *p = find(d, &c->peer);
    if (!p)
        return;
    if (p->relayed == c) {
        p->relayed = NULL;
        if (!p->now)
            wr_dcutr_talk_stop(p, NULL);
        return;
    }
    look_soon(d);    /* the direct connection may be gone */
}

static void on_peer_known(struct wr_dcutr *d, const struct wr_peerid *id)
{
    struct wr_dcutr_peer *p = find(d, id);
    if (!p || has_direct(d, id))
        return;
    wr_dcutr_reverse(p);
    changed(p);
    look_soon(d);
}

static void on_own_addrs(struct wr_dcutr *d, bool network)
{
    size_t cursor = 0;
    for (struct wr_dcutr_peer *p; (p = wr_map_next(&d->peers, &cursor));) {
        if (network)
            p->hurried = 0;
        changed(p);
    }
    look_soon(d);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_dcutr *d = wr_list_entry(watch, struct wr_dcutr, watch);
    switch (event->type) {
    case WR_SWARM_OPENED:
        on_opened(d, event->conn);
        break;
    case WR_SWARM_CLOSED:
        on_closed(d, event->conn);
        break;
    case WR_SWARM_IDENTIFIED:
    case WR_SWARM_PEER_CHANGED:
        on_peer_known(d, event->peer);
        break;
    case WR_SWARM_ADDRS:
    case WR_SWARM_NETWORK_CHANGED:
        on_own_addrs(d, event->type == WR_SWARM_NETWORK_CHANGED);
        break;
    default:
        break;
    }
}

/* ---- life --------------------------------------------------------------------------------------- */

struct wr_dcutr *wr_dcutr_create(const struct wr_dcutr_options *options)
{
    struct wr_dcutr *d = wr_alloc(sizeof(*d));
    struct wr_protocol protocol = {.name = WR_DCUTR_NAME,
                                   .on_stream = wr_dcutr_talk_accept,
                                   .arg = d,
                                   .inbound_max = INBOUND_MAX,
                                   .limited = true};
    if (!d)
        return NULL;
    d->swarm = options->swarm;
    d->env = wr_swarm_env(options->swarm);
    d->on_report = options->on_report;
    d->arg = options->arg;
    wr_list_init(&d->order);
    wr_map_init(&d->peers, WR_DCUTR_PEERS_MAX, wr_env_hash_seed(d->env));
    if (wr_swarm_handle(d->swarm, &protocol) != 0) {
        wr_map_clear(&d->peers);
        wr_free(d);
        return NULL;
    }
    d->watch.on_event = on_event;
    wr_swarm_watch(d->swarm, &d->watch);
    return d;
}

static void dispose(struct wr_task *task)
{
    struct wr_dcutr *d = wr_list_entry(task, struct wr_dcutr, task);
    wr_map_clear(&d->peers);
    wr_free(d);
}

void wr_dcutr_destroy(struct wr_dcutr *d)
{
    if (!d)
        return;
    wr_swarm_unwatch(&d->watch);
    wr_swarm_unhandle(d->swarm, WR_DCUTR_NAME);
    while (!wr_list_empty(&d->order))
        forget(wr_list_entry(d->order.next, struct wr_dcutr_peer, node));
    wr_env_dispose(d->env, &d->task, dispose);
}
