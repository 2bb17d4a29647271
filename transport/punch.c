#include "transport/punch.h"

#include "transport/channel.h"
#include "transport/swarm_impl.h"

#include <sodium.h>
#include <string.h>

#define FAST_TRIES  20                /* then SLOW apart; ours */
#define SLOW        (500 * WR_MSEC)
#define JUNK_MIN (10 * WR_MSEC) /* between random datagrams, and a random part that grows; go transport.go */
#define JUNK_GROWTH (10 * WR_MSEC)    /* times the square of their number ... */
#define JUNK_MAX    (200 * WR_MSEC)   /* ... up to this; go */
#define JUNK_ALL    64                /* random datagrams to all ports of one address: with those of two more attempts
                                         they stay below WR_PUNCH_QUIET_MAX; ours */
#define FEW_PORTS   2                 /* of one address; more are guesses, of which one is right; ours */
#define RTT_GUESSES (150 * WR_MSEC)   /* at least, of dials to those: repeats cost later attempts theirs; ours */
#define RTT_MIN     (20 * WR_MSEC)    /* whatever the peer makes us believe; ours */
#define RTT_MAX     (333 * WR_MSEC)   /* what QUIC starts with; RFC 9002 */
#define MUTE        (200 * WR_MSEC)   /* and two round trips: then a connection is mute; ours */
#define BUSY_WAIT   WR_MSEC           /* until a connect that is in the way is gone */

struct target {
    struct wr_addr to;
    bool quic, learnt;
    struct wr_conn *conn;    /* under way */
    wr_time due_at;          /* 0: nothing is to be done until conn fails */
    unsigned packets, refused, waited, security;
    int err;
};

struct wr_punch {
    struct wr_list node;     /* swarm->punches */
    struct wr_swarm *swarm;
    struct wr_peerid peer;
    enum wr_punch_role role;
    wr_time began_at, at, give_up_at, rtt;
    uint16_t port;
    struct target of[WR_PUNCH_ADDRS_MAX + WR_PUNCH_LEARNT_MAX];
    size_t count, learnt;
    struct wr_timer timer;
    struct wr_task task;     /* disposal */
    wr_punch_fn fn;
    void *arg;
    bool over;
};

static void step(struct wr_punch *p);

/* ---- what addresses get that never answer ------------------------------------------------------- */

/* What went to this address before it was forgotten. */
static uint8_t *gone_of(struct wr_swarm *sw, const struct wr_ip *who, wr_time now)
{
    uint16_t hash[crypto_shorthash_BYTES / sizeof(uint16_t)];
    if (now - sw->punch_gone_since >= WR_PUNCH_QUIET_TIME) {
        memset(sw->punch_gone, 0, sizeof(sw->punch_gone));
        sw->punch_gone_since = now;
    }
    crypto_shorthash((unsigned char *)hash, (const unsigned char *)who, sizeof(*who), wr_env_hash_seed(sw->env));
    return &sw->punch_gone[hash[0] % WR_PUNCH_QUIET_GONE];
}

/* The entry of this address, made when there is none. With all of them busy the one that got least makes room: whoever
 * names a crowd of addresses keeps nobody from punching, and does not hide whom we sent much. When the one that went
 * comes back it has what it had: two of them would push each other out for ever. */
static struct wr_punch_quiet *quiet_of(struct wr_swarm *sw, const struct wr_ip *ip)
{
    wr_time now = wr_env_now(sw->env);
    struct wr_ip who = wr_flows_host(ip);
    struct wr_punch_quiet *least = NULL;
    for (size_t i = 0; i < WR_PUNCH_QUIET_IPS; i++) {
        struct wr_punch_quiet *q = &sw->punch_quiet[i];
        if (q->ip.family == 0 || now - q->since >= WR_PUNCH_QUIET_TIME)
            *q = (struct wr_punch_quiet){.packets = 0};
        else if (wr_ip_equal(&q->ip, &who))
            return q;
        if (!least || q->packets < least->packets)
            least = q;
    }
    if (least->ip.family) {
        uint8_t *gone = gone_of(sw, &least->ip, now);
        if (least->packets > *gone)
            *gone = least->packets < UINT8_MAX ? (uint8_t)least->packets : UINT8_MAX;
    }
    *least = (struct wr_punch_quiet){.ip = who, .since = now, .packets = *gone_of(sw, &who, now)};
    return least;
}

/* Takes n packets for this address out of its allowance. False: it has had enough. */
static bool may_send(struct wr_swarm *sw, const struct wr_ip *ip, unsigned n)
{
    struct wr_punch_quiet *q = quiet_of(sw, ip);
    if (q->packets + n > WR_PUNCH_QUIET_MAX)
        return false;
    q->packets += n;
    return true;
}

/* A connect was answered by a refusal: the system did not repeat its SYN. */
static void give_repeats(struct wr_swarm *sw, const struct wr_ip *ip)
{
    struct wr_punch_quiet *q = quiet_of(sw, ip);
    if (q->packets >= WR_PUNCH_SYN_REPEATS)
        q->packets -= WR_PUNCH_SYN_REPEATS;
}

static void answered(struct wr_swarm *sw, const struct wr_ip *ip)
{
    struct wr_ip who = wr_flows_host(ip);
    for (size_t i = 0; i < WR_PUNCH_QUIET_IPS; i++)
        if (wr_ip_equal(&sw->punch_quiet[i].ip, &who))
            sw->punch_quiet[i].ip.family = 0;
}

/* ---- the end ------------------------------------------------------------------------------------ */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_punch, task));
}

/* Nothing is sent from here on. */
static void stop(struct wr_punch *p, const struct wr_conn *winner)
{
    struct wr_swarm *sw = p->swarm;
    p->over = true;
    wr_list_remove(&p->node);
    sw->punch_count--;
    wr_timer_stop(sw->env, &p->timer);
    for (size_t i = 0; i < p->count; i++) {
        struct wr_conn *c = p->of[i].conn;
        p->of[i].conn = NULL;
        if (c && c != winner)
            wr_conn_close(c, WR_CONN_OK);
    }
    wr_env_dispose(sw->env, &p->task, dispose);
}

static void finish(struct wr_punch *p, int err, struct wr_conn *winner)
{
    if (p->over)
        return;
    stop(p, winner);
    p->fn(p->arg, err, winner);
}

void wr_punch_cancel(struct wr_punch *p)
{
    if (p && !p->over)
        stop(p, NULL);
}

/* ---- one address -------------------------------------------------------------------------------- */

static void put_off(struct wr_punch *p, struct target *t, wr_time wait)
{
    t->due_at = wr_env_now(p->swarm->env) + wait;
}

static wr_time random_below(struct wr_punch *p, wr_time below)
{
    return (wr_time)wr_env_random_below(p->swarm->env, (uint64_t)below);
}

static uint16_t port_for(const struct wr_punch *p, const struct target *t)
{
    return t->to.ip.family == 4 ? p->port : 0;
}

/* How many ports of its address are aimed at over QUIC. */
static unsigned ports_beside(const struct wr_punch *p, const struct target *t)
{
    unsigned n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += p->of[i].quic && wr_ip_equal(&p->of[i].to.ip, &t->to.ip);
    return n;
}

/* All ports of an address together get no more than a few would: what it gets in one attempt is gone for the next. */
static void junk(struct wr_punch *p, struct target *t)
{
    wr_time n = (wr_time)t->packets, most = n * n * JUNK_GROWTH;
    unsigned ports = ports_beside(p, t);
    wr_time wait = SLOW;
    uint16_t from = port_for(p, t);
    t->err = wr_swarm_flow_packet(p->swarm, &t->to, from) ? wr_quic_junk(p->swarm->quic, &t->to, from) : WR_ELIMIT;
    if (t->packets <= FAST_TRIES)
        wait = JUNK_MIN + random_below(p, most < JUNK_MAX ? most : JUNK_MAX);
    put_off(p, t, wait * ports);
    if ((t->packets + 1) * ports > JUNK_ALL)
        t->due_at = 0;
}

static wr_time rtt_for(const struct wr_punch *p, const struct target *t)
{
    return ports_beside(p, t) > FEW_PORTS && p->rtt < RTT_GUESSES ? RTT_GUESSES : p->rtt;
}

/* Packets that a dial takes until the window is over: its first and its last one, and two at each probe time-out. */
static unsigned dial_cost(const struct wr_punch *p, const struct target *t)
{
    wr_time wait = 3 * rtt_for(p, t), left = p->give_up_at - wr_env_now(p->swarm->env);
    unsigned n = 2;
    for (wr_time at = wait; at < left; at += wait) {
        n += 2;
        wait *= 2;
    }
    return n;
}

static void opening(struct wr_punch *p, struct target *t, struct wr_conn *c, struct wr_flow *flow, int err)
{
    t->conn = c;
    t->due_at = 0;
    if (c) {
        c->flow = flow;
        wr_list_append(&p->swarm->opening, &c->node);
        return;
    }
    wr_flows_end(&p->swarm->flows, flow, false, wr_env_now(p->swarm->env));
    t->err = err;
}

static void dial_quic(struct wr_punch *p, struct target *t)
{
    int err = 0;
    struct wr_flow *flow = NULL;
    struct wr_conn *c = NULL;
    uint16_t from = port_for(p, t);
    err = wr_swarm_flow_begin(p->swarm, (struct wr_flow_ask){.to = &t->to, .udp = true, .port = from, .insist = true},
                              &flow);
    if (err == 0)
        c = wr_quic_dial_rtt(p->swarm->quic, &t->to, &p->peer, rtt_for(p, t), from, NULL, &err);
    opening(p, t, c, flow, err);
}

/* The connection that has the way to this address already, or NULL. */
static struct wr_conn *in_the_way(const struct wr_swarm *sw, const struct wr_addr *to)
{
    wr_list_each(it, &sw->opening)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, node);
        if (!c->udp && !c->circuit && !c->closing && wr_addr_equal(&c->remote, to))
            return c;
    }
    return NULL;
}

/* What to propose: as the peer spoke last time, then in order. */
static const struct wr_secure *security_for(const struct wr_swarm *sw, const struct wr_peerid *peer,
                                            unsigned tried)
{
    const struct wr_peer *known = wr_peerstore_find(&sw->peerstore, peer);
    size_t count = 0, first = 0;
    while (sw->ctx.security[count]) {
        if (known && known->security && sw->ctx.security[count] == wr_secure_all[known->security - 1])
            first = count;
        count++;
    }
    return sw->ctx.security[(first + tried) % count];
}

static bool is_mute(const struct wr_punch *p, struct target *t)
{
    return (wr_time)t->waited++ * WR_PUNCH_RETRY >= MUTE + 2 * p->rtt;
}

/* A dial that nobody answered yet holds the pair of ports that we need: it makes room. One that was answered,
 * and one that the peer began, goes on, unless it stays mute: then each end waits for the other's proposal. */
static bool way_is_free(struct wr_punch *p, struct target *t)
{
    struct wr_conn *other = in_the_way(p->swarm, &t->to);
    if (!other)
        return true;
    bool alive = other->local.ip.family != 0 && (other->bytes_in || !is_mute(p, t));
    if (!alive)
        wr_conn_close(other, WR_CONN_OK);
    put_off(p, t, alive ? WR_PUNCH_RETRY : BUSY_WAIT);
    return false;
}

static void dial_tcp(struct wr_punch *p, struct target *t)
{
    struct wr_swarm *sw = p->swarm;
    const struct wr_addr *from = wr_swarm_port_for(sw, &t->to);
    const struct wr_secure *security = security_for(sw, &p->peer, t->security);
    struct wr_conn *c = NULL;
    int err = WR_EUNSUPPORTED;
    struct wr_flow *flow = NULL;
    if (from)
        err = wr_swarm_flow_begin(sw, (struct wr_flow_ask){.to = &t->to, .insist = true}, &flow);
    if (from && err == 0)
        c = wr_channel_dial(&sw->ctx, &t->to, from, security, &p->peer, NULL, &err);
    opening(p, t, c, flow, err);
    if (c && p->role == WR_PUNCH_SERVER) {
        c->outbound = false;
        wr_limits_charge(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
        t->waited = 0;
        put_off(p, t, WR_PUNCH_RETRY);
    }
}

/* As the server we wait for a proposal. Where our SYN met a listener, that end waits as well: a peer that is not behind
 * a NAT after all, and does not look who calls. Then it is for us to begin. */
static void await_proposal(struct wr_punch *p, struct target *t)
{
    struct wr_conn *c = t->conn;
    bool made = wr_channel_awaits_proposal(c);
    t->due_at = 0;
    if (made && is_mute(p, t)) {
        wr_limits_give(p->swarm->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
        if (wr_channel_propose(c) != 0)
            wr_conn_close(c, WR_CONN_OK);
    } else if (made || c->local.ip.family == 0) {
        put_off(p, t, WR_PUNCH_RETRY);
    }
}

static void act(struct wr_punch *p, struct target *t)
{
    bool dial = t->quic && p->role == WR_PUNCH_CLIENT;
    if (t->conn) {
        await_proposal(p, t);
        return;
    }
    if (!t->quic && !way_is_free(p, t))
        return;
    unsigned cost = dial ? dial_cost(p, t) : t->quic ? 1 : 1 + WR_PUNCH_SYN_REPEATS;
    if (!may_send(p->swarm, &t->to.ip, cost)) {
        t->due_at = 0;
        t->err = WR_ELIMIT;
        return;
    }
    if (t->packets++ == 0)
        wr_swarm_raise_dialling(p->swarm, &p->peer, &t->to, t->quic);
    if (dial)
        dial_quic(p, t);
    else if (t->quic)
        junk(p, t);
    else
        dial_tcp(p, t);
}

/* ---- all of them -------------------------------------------------------------------------------- */

static void on_timer(struct wr_timer *timer)
{
    step(wr_list_entry(timer, struct wr_punch, timer));
}

static void step(struct wr_punch *p)
{
    wr_time now = wr_env_now(p->swarm->env), next = p->give_up_at;
    if (now >= p->give_up_at) {
        finish(p, WR_ETIMEOUT, NULL);
        return;
    }
    for (size_t i = 0; i < p->count; i++) {
        struct target *t = &p->of[i];
        if (t->due_at && t->due_at <= now)
            act(p, t);
        if (t->due_at && t->due_at < next)
            next = t->due_at;
    }
    wr_timer_start(p->swarm->env, &p->timer, next, on_timer);
}

/* ---- beginning ---------------------------------------------------------------------------------- */

static struct wr_punch *find(const struct wr_swarm *sw, const struct wr_peerid *peer)
{
    wr_list_each(it, &sw->punches)
    {
        struct wr_punch *p = wr_list_entry(it, struct wr_punch, node);
        if (wr_peerid_equal(&p->peer, peer))
            return p;
    }
    return NULL;
}

static bool has(const struct wr_punch *p, const struct wr_addr *to, bool quic)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->of[i].quic == quic && wr_addr_equal(&p->of[i].to, to))
            return true;
    return false;
}

/* Whether we may send there: as any stranger's address, or one of the few private ones. */
static bool allowed(const struct wr_punch *p, struct wr_bytes bare, const struct wr_addr *to,
                    unsigned *private_left)
{
    const struct wr_policy *policy = &p->swarm->policy;
    if (wr_policy_may_dial(policy, &p->peer, bare, WR_ORIGIN_STRANGER) == 0)
        return true;
    if (wr_ip_classify(&to->ip) != WR_IP_PRIVATE || *private_left == 0 ||
        wr_policy_net_blocked(policy, &to->ip))
        return false;
    --*private_left;
    return true;
}

static void add(struct wr_punch *p, struct wr_bytes addr, unsigned *private_left)
{
    struct wr_bytes bare = wr_maddr_strip_peer(addr);
    enum wr_maddr_kind kind = wr_maddr_kind(bare);
    struct wr_addr to;
    bool quic = kind == WR_MADDR_QUIC;
    if (p->count == WR_PUNCH_ADDRS_MAX || (kind != WR_MADDR_TCP && (!quic || !p->swarm->quic)))
        return;
    if (!wr_maddr_addr(bare, &to) || to.port == 0 || has(p, &to, quic) ||
        wr_swarm_is_own(p->swarm, bare) || !allowed(p, bare, &to, private_left))
        return;
    p->of[p->count++] = (struct target){.to = to, .quic = quic, .due_at = p->at};
}

/* Open and direct already. */
static struct wr_conn *direct(struct wr_swarm *sw, const struct wr_peerid *peer)
{
    struct wr_conn *c = wr_swarm_conn(sw, peer);
    return c && !c->circuit ? c : NULL;
}

static void on_open_already(struct wr_timer *timer)
{
    struct wr_punch *p = wr_list_entry(timer, struct wr_punch, timer);
    struct wr_conn *c = direct(p->swarm, &p->peer);
    if (c)
        finish(p, 0, c);
    else
        step(p);
}

/* All places are taken: the oldest punch ends, if it had its time. Whoever agrees on moments far ahead, and names addresses
 * where nobody is, could keep everybody else out. */
static bool make_room(struct wr_swarm *sw)
{
    wr_time now = wr_env_now(sw->env);
    wr_list_each(it, &sw->punches)
    {
        struct wr_punch *p = wr_list_entry(it, struct wr_punch, node);
        if (p->give_up_at <= now)    /* it goes for somebody else */
            continue;
        if (now - p->began_at < WR_PUNCH_FAIR)
            return false;
        p->give_up_at = now;
        wr_timer_start(sw->env, &p->timer, now, on_timer);
        return true;
    }
    return false;
}

int wr_punch_start(struct wr_swarm *sw, const struct wr_punch_options *o, wr_punch_fn fn, void *arg,
                   struct wr_punch **out)
{
    wr_time now = wr_env_now(sw->env);
    unsigned private_left = o->private_max;
    if (wr_peerid_equal(o->peer, &sw->ctx.self))
        return WR_ESELF;
    if (wr_policy_peer_blocked(&sw->policy, o->peer))
        return WR_EGATED;
    if (find(sw, o->peer))
        return WR_EEXIST;
    struct wr_punch *p = sw->punch_count < WR_PUNCH_MAX || make_room(sw) ? wr_alloc(sizeof(*p)) : NULL;
    if (!p)
        return WR_ELIMIT;
    p->swarm = sw;
    p->peer = *o->peer;
    p->role = o->role;
    p->port = o->port;
    p->began_at = now;
    p->at = o->at > now ? o->at : now;
    p->give_up_at = p->at + WR_PUNCH_WINDOW;
    p->rtt = o->rtt < RTT_MIN ? RTT_MIN : o->rtt > RTT_MAX ? RTT_MAX : o->rtt;
    p->rtt = o->rtt ? p->rtt : RTT_MAX;
    p->fn = fn;
    p->arg = arg;
    for (size_t i = 0; i < o->count; i++)
        add(p, wr_maddr_bytes(&o->addrs[i]), &private_left);
    bool open = direct(sw, o->peer) != NULL;
    if (p->count == 0 && !open) {
        wr_free(p);
        return WR_EUNREACH;
    }
    wr_list_append(&sw->punches, &p->node);
    sw->punch_count++;
    wr_timer_start(sw->env, &p->timer, open ? now : p->at, open ? on_open_already : on_timer);
    *out = p;
    return 0;
}

uint16_t wr_punch_port(struct wr_swarm *sw)
{
    return sw->quic ? wr_quic_spare_open(sw->quic) : 0;
}

void wr_punch_port_give(struct wr_swarm *sw, uint16_t port)
{
    if (port)
        wr_quic_spare_leave(sw->quic, port);
}

size_t wr_punch_tries(const struct wr_punch *p, struct wr_punch_try *out, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count && n < max; i++) {
        const struct target *t = &p->of[i];
        if (wr_maddr_from_addr(&t->to, t->quic, &out[n].addr) != 0)
            continue;
        out[n].learnt = t->learnt;
        out[n].packets = t->packets;
        out[n].err = t->err;
        n++;
    }
    return n;
}

/* ---- from the swarm ----------------------------------------------------------------------------- */

static bool aims_at(const struct wr_punch *p, const struct wr_ip *ip)
{
    for (size_t i = 0; i < p->count; i++)
        if (wr_ip_equal(&p->of[i].to.ip, ip))
            return true;
    return false;
}

bool wr_swarm_punch_awaits(const struct wr_swarm *sw, const struct wr_ip *ip)
{
    wr_list_each(it, &sw->punches)
        if (aims_at(wr_list_entry(it, struct wr_punch, node), ip))
            return true;
    return false;
}

const struct wr_peerid *wr_swarm_punch_client_of(const struct wr_swarm *sw, const struct wr_ip *ip)
{
    wr_list_each(it, &sw->punches)
    {
        struct wr_punch *p = wr_list_entry(it, struct wr_punch, node);
        if (p->role == WR_PUNCH_CLIENT && aims_at(p, ip))
            return &p->peer;
    }
    return NULL;
}

void wr_swarm_punch_stray(struct wr_swarm *sw, const struct wr_addr *from)
{
    wr_list_each(it, &sw->punches)
    {
        struct wr_punch *p = wr_list_entry(it, struct wr_punch, node);
        if (p->role != WR_PUNCH_CLIENT || p->learnt == WR_PUNCH_LEARNT_MAX || !aims_at(p, &from->ip) ||
            has(p, from, true))
            continue;
        p->learnt++;
        p->of[p->count++] = (struct target){.to = *from, .quic = true, .learnt = true, .due_at = p->at};
        wr_timer_start(sw->env, &p->timer, wr_env_now(sw->env), on_timer);
    }
}

void wr_swarm_punch_conn_opened(struct wr_swarm *sw, struct wr_conn *c)
{
    struct wr_punch *p = c->circuit ? NULL : find(sw, &c->peer);
    if (!p)
        return;
    answered(sw, &c->remote.ip);
    finish(p, 0, c);
}

/* The moment may not have come for one of the two NATs: again, soon. Who accepted a connect and is not our peer after all
 * had more of it than a SYN. */
static void again(struct wr_punch *p, struct target *t, const struct wr_conn *c, int err)
{
    t->conn = NULL;
    t->err = err;
    t->refused++;
    t->security += err == WR_EUNSUPPORTED;
    if (!t->quic && c->local.ip.family != 0)
        quiet_of(p->swarm, &t->to.ip)->packets += WR_PUNCH_HELLO_COST;
    else if (!t->quic && err == WR_EREFUSED)
        give_repeats(p->swarm, &t->to.ip);
    if ((t->quic && t->refused > 2) || err == WR_EPEERID)
        return;
    put_off(p, t, t->refused > FAST_TRIES ? SLOW : WR_PUNCH_RETRY + random_below(p, WR_PUNCH_RETRY));
    if (t->due_at < p->timer.at)
        wr_timer_start(p->swarm->env, &p->timer, t->due_at, on_timer);
}

void wr_swarm_punch_conn_failed(struct wr_swarm *sw, const struct wr_conn *c, int err)
{
    wr_list_each(it, &sw->punches)
    {
        struct wr_punch *p = wr_list_entry(it, struct wr_punch, node);
        for (size_t i = 0; i < p->count; i++) {
            if (p->of[i].conn != c)
                continue;
            again(p, &p->of[i], c, err);
            return;
        }
    }
}

void wr_swarm_punches_abort(struct wr_swarm *sw)
{
    while (!wr_list_empty(&sw->punches))
        finish(wr_list_entry(sw->punches.next, struct wr_punch, node), WR_ECLOSED, NULL);
}
