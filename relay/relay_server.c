#include "relay/relay_server.h"

#include "relay/relay_server_impl.h"
#include "relay/voucher.h"

#include <string.h>

#define SWEEP_EVERY WR_MIN    /* reservations whose time is over; ours */
#define GUEST_TAG   "relay-guest"
#define GUEST_WORTH 20        /* of the connection that a reservation hangs on, when some must be closed; ours */
#define GUESTS_MAX  65536     /* above every ceiling of the limit */
#define NET_BITS_4  24
#define NET_BITS_6  48

static const char *const stop_offer[] = {WR_RELAY_STOP_NAME, NULL};

void wr_relay_server_defaults(struct wr_relay_server_options *options, struct wr_swarm *swarm)
{
    *options = (struct wr_relay_server_options){.swarm = swarm,
                                                .mode = WR_RELAY_AUTO,
                                                .limit = {.duration = WR_RELAY_DURATION, .data = WR_RELAY_DATA},
                                                .ttl = WR_RELAY_TTL,
                                                .rate_each = WR_RELAY_RATE_EACH,
                                                .rate_total = WR_RELAY_RATE_TOTAL};
}

/* ---- guests --------------------------------------------------------------------------------------------------- */

struct guest *wr_relay_server_guest(struct wr_relay_server *rs, const struct wr_peerid *peer)
{
    return wr_map_get(&rs->by_peer, wr_peerid_bytes(peer));
}

static void drop_guest(struct wr_relay_server *rs, struct guest *g)
{
    wr_swarm_untag(rs->swarm, &g->of.peer, GUEST_TAG);
    wr_map_del(&rs->by_peer, wr_peerid_bytes(&g->of.peer));
    wr_list_remove(&g->node);
    wr_limits_give(rs->limits, WR_LIMIT_RELAY_RESERVATIONS, 1);
    rs->stats.guests--;
    wr_free(g);
}

static bool over(const struct wr_relay_server *rs, const struct guest *g)
{
    return g->of.expires_at <= wr_env_now(rs->env);
}

static void on_sweep(struct wr_timer *timer)
{
    struct wr_relay_server *rs = wr_list_entry(timer, struct wr_relay_server, sweep);
    wr_list_each(it, &rs->guests)
    {
        struct guest *g = wr_list_entry(it, struct guest, node);
        if (over(rs, g))
            drop_guest(rs, g);
    }
    if (!wr_list_empty(&rs->guests))
        wr_timer_start(rs->env, timer, wr_env_now(rs->env) + SWEEP_EVERY, on_sweep);
}

static bool same_net(const struct wr_ip *a, const struct wr_ip *b)
{
    return wr_ip_same_prefix(a, b, a->family == 4 ? NET_BITS_4 : NET_BITS_6);
}

static bool net_is_full(const struct wr_relay_server *rs, const struct wr_ip *ip)
{
    unsigned n = 0;
    for (const struct wr_list *it = rs->guests.next; it != &rs->guests; it = it->next) {
        const struct guest *g = (const struct guest *)((uintptr_t)it - offsetof(struct guest, node));
        n += same_net(&g->of.ip, ip);
    }
    unsigned most = rs->options.guests_per_net;
    return n >= (most ? most : WR_RELAY_GUESTS_PER_NET);
}

/* The owner's word (`allow`): never refused for ceilings or rates. */
static bool is_allowed(const struct wr_relay_server *rs, const struct wr_conn *c)
{
    const struct wr_policy *policy = wr_swarm_policy(rs->swarm);
    return wr_policy_peer_allowed(policy, &c->peer) ||
           (!c->circuit && wr_policy_net_allowed(policy, &c->remote.ip));
}

/* Room under a ceiling; who is allowed has it in any case. */
static bool take(struct wr_relay_server *rs, enum wr_limit limit, bool allowed)
{
    if (!allowed)
        return wr_limits_take(rs->limits, limit, 1);
    wr_limits_charge(rs->limits, limit, 1);
    return true;
}

/* A place for this peer, new or had already. A status. */
static enum wr_relay_status take_place(struct wr_relay_server *rs, const struct wr_conn *c, struct guest **out)
{
    struct guest *g = *out = wr_relay_server_guest(rs, &c->peer);
    bool allowed = is_allowed(rs, c);
    if (g)
        return WR_RELAY_OK;
    if (!allowed && wr_ip_classify(&c->remote.ip) != WR_IP_LOOPBACK && net_is_full(rs, &c->remote.ip)) {
        rs->stats.refused_net++;
        return WR_RELAY_FULL;
    }
    if (!take(rs, WR_LIMIT_RELAY_RESERVATIONS, allowed)) {
        rs->stats.refused_full++;
        return WR_RELAY_FULL;
    }
    g = wr_alloc(sizeof(*g));
    if (g) {
        g->of.peer = c->peer;
        g->of.since = wr_env_now(rs->env);
    }
    if (!g || wr_map_put(&rs->by_peer, wr_peerid_bytes(&g->of.peer), g) != 0) {
        wr_free(g);
        wr_limits_give(rs->limits, WR_LIMIT_RELAY_RESERVATIONS, 1);
        rs->stats.refused_full++;
        return WR_RELAY_FULL;
    }
    wr_list_append(&rs->guests, &g->node);
    rs->stats.guests++;
    *out = g;
    return WR_RELAY_OK;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

/* Sends one message; false: the conversation is over. */
static bool say(struct wr_msg *m, enum wr_relay_side side, const struct wr_relay_msg *body)
{
    struct wr_buf out;
    wr_buf_init(&out, WR_RELAY_MSG_MAX);
    wr_relay_msg_encode(side, body, &out);
    bool sent = !out.full && wr_msg_send(m, wr_buf_bytes(&out)) == 0;
    wr_buf_clear(&out);
    return sent;
}

/* The last word to a caller. */
static void refuse(struct circuit *c, enum wr_relay_status status)
{
    struct wr_relay_msg answer = {.type = WR_RELAY_STATUS, .status = status};
    if (say(&c->hop, WR_RELAY_HOP, &answer))
        wr_msg_close(&c->hop);
    wr_relay_server_end(c);
}

static bool has_limit(const struct wr_relay_server *rs)
{
    return rs->options.limit.duration || rs->options.limit.data;
}

/* Where we are: what we announce to that peer, and where the connection arrives in any case, for some clients refuse a
 * reservation without an address. */
static size_t list_addrs(struct wr_relay_server *rs, const struct wr_conn *c, struct wr_maddr *out)
{
    struct wr_maddr all[WR_ADDRBOOK_MAX];
    size_t n = 0, count = wr_addrbook_announce(wr_swarm_addrbook(rs->swarm), &c->remote.ip, all, WR_ADDRBOOK_MAX);
    for (size_t i = 0; i < count && n < WR_RELAY_LISTED_ADDRS; i++) {
        out[n] = all[i];
        n += !wr_maddr_is_circuit(wr_maddr_bytes(&all[i])) &&
             wr_maddr_append_peer(&out[n], wr_swarm_self(rs->swarm)) == 0;
    }
    if (n)
        return n;
    wr_conn_local(c, &out[0]);
    return out[0].len && wr_maddr_append_peer(&out[0], wr_swarm_self(rs->swarm)) == 0;
}

static void grant(struct circuit *c, struct guest *g)
{
    struct wr_relay_server *rs = c->server;
    const struct wr_conn *conn = wr_stream_conn(c->hop.stream);
    struct wr_maddr addrs[WR_RELAY_LISTED_ADDRS];
    bool fresh = g->of.expires_at == 0;
    g->of.ip = conn->remote.ip;
    g->of.expires_at = wr_env_now(rs->env) + (wr_time)rs->options.ttl * WR_SEC;
    struct wr_relay_msg answer = {.type = WR_RELAY_STATUS,
                                  .status = WR_RELAY_OK,
                                  .has_reservation = true,
                                  .expire = (uint64_t)(wr_env_unix(rs->env) / WR_SEC) + rs->options.ttl,
                                  .has_limit = has_limit(rs),
                                  .limit = rs->options.limit};
    struct wr_voucher v = {.relay = *wr_swarm_self(rs->swarm), .peer = g->of.peer, .expire = answer.expire};
    struct wr_buf voucher;
    wr_buf_init(&voucher, WR_VOUCHER_MAX);
    wr_voucher_seal(wr_swarm_key(rs->swarm), &v, &voucher);
    if (!voucher.full)    /* without one it holds as well */
        answer.voucher = wr_buf_bytes(&voucher);
    answer.addr_count = list_addrs(rs, conn, addrs);
    for (size_t i = 0; i < answer.addr_count; i++)
        answer.addrs[i] = wr_maddr_bytes(&addrs[i]);
    bool sent = say(&c->hop, WR_RELAY_HOP, &answer);
    wr_buf_clear(&voucher);
    if (sent) {
        wr_msg_close(&c->hop);
        wr_swarm_tag(rs->swarm, &g->of.peer, GUEST_TAG, GUEST_WORTH, false);
        if (!wr_timer_running(&rs->sweep))
            wr_timer_start(rs->env, &rs->sweep, wr_env_now(rs->env) + SWEEP_EVERY, on_sweep);
        rs->stats.reserved += fresh;
        rs->stats.refreshed += !fresh;
    } else if (fresh) {
        drop_guest(rs, g);
    }
    wr_relay_server_end(c);
}

/* Has this guest not asked too often? Counts it. */
static bool may_reserve(struct wr_relay_server *rs, struct guest *g)
{
    wr_time now = wr_env_now(rs->env), paid = g->paid_until > now ? g->paid_until : now;
    if (paid - now > (WR_RELAY_RESERVE_BURST - 1) * WR_RELAY_RESERVE_EVERY) {
        rs->stats.refused_peer++;
        return false;
    }
    g->paid_until = paid + WR_RELAY_RESERVE_EVERY;
    return true;
}

static void on_reserve(struct circuit *c)
{
    struct wr_relay_server *rs = c->server;
    const struct wr_conn *conn = wr_stream_conn(c->hop.stream);
    struct guest *g = NULL;
    enum wr_relay_status status = WR_RELAY_OK;
    if (!rs->offered) {
        rs->stats.refused_off++;
        status = WR_RELAY_REFUSED;
    } else if (conn->circuit || (rs->options.allow && !rs->options.allow(rs->options.arg, &conn->peer, NULL))) {
        rs->stats.refused_rule++;
        status = WR_RELAY_DENIED;
    }
    if (status == WR_RELAY_OK)
        status = take_place(rs, conn, &g);
    if (status == WR_RELAY_OK && !is_allowed(rs, conn) && !may_reserve(rs, g))
        status = WR_RELAY_FULL;    /* the place stays */
    if (status == WR_RELAY_OK)
        grant(c, g);
    else
        refuse(c, status);
}

/* ---- CONNECT --------------------------------------------------------------------------------------------------- */

static unsigned circuits_of(const struct wr_relay_server *rs, const struct wr_peerid *peer)
{
    unsigned n = 0;
    for (const struct wr_list *it = rs->circuits.next; it != &rs->circuits; it = it->next) {
        const struct circuit *c = (const struct circuit *)((uintptr_t)it - offsetof(struct circuit, held));
        n += wr_peerid_equal(&c->caller, peer) || wr_peerid_equal(&c->guest, peer);
    }
    return n;
}

/* Have callers of this network half of the guest's places, or of all? */
static bool callers_are_many(const struct wr_relay_server *rs, const struct wr_ip *from, const struct wr_peerid *guest)
{
    uint64_t all = 0, most = (rs->limits->of[WR_LIMIT_RELAY_CIRCUITS].max + 1) / 2;
    unsigned there = 0;
    for (const struct wr_list *it = rs->circuits.next; it != &rs->circuits; it = it->next) {
        const struct circuit *c = (const struct circuit *)((uintptr_t)it - offsetof(struct circuit, held));
        bool near = same_net(&c->from, from);
        all += near;
        there += near && wr_peerid_equal(&c->guest, guest);
    }
    return wr_ip_classify(from) != WR_IP_LOOPBACK && (all >= most || there >= WR_RELAY_CIRCUITS_PER_PEER / 2);
}

static void guest_failed(struct circuit *c);

/* All circuits are taken: the one whose guest owes an answer for longest makes room, if that is long. Callers of silent
 * guests could keep everybody else out. */
static bool make_room(struct wr_relay_server *rs)
{
    wr_time now = wr_env_now(rs->env);
    wr_list_each(it, &rs->circuits)
    {
        struct circuit *c = wr_list_entry(it, struct circuit, held);
        if (c->open || now - c->since < WR_RELAY_STOP_PATIENCE)
            continue;
        guest_failed(c);
        return true;
    }
    return false;
}

/* May this caller have a circuit to this guest? A status. */
static enum wr_relay_status may_connect(struct wr_relay_server *rs, const struct wr_conn *conn,
                                        const struct wr_peerid *to)
{
    const struct guest *g = wr_relay_server_guest(rs, to);
    if (conn->circuit || (rs->options.allow && !rs->options.allow(rs->options.arg, &conn->peer, to))) {
        rs->stats.refused_rule++;
        return WR_RELAY_DENIED;
    }
    if (!rs->offered) {
        rs->stats.refused_off++;
        return WR_RELAY_NOT_THERE;    /* whatever they held of us: there is no way through here now */
    }
    if (!g || over(rs, g)) {
        rs->stats.refused_absent++;
        return WR_RELAY_NOT_THERE;
    }
    bool allowed = is_allowed(rs, conn);
    if (!allowed && (circuits_of(rs, &conn->peer) >= WR_RELAY_CIRCUITS_PER_PEER ||
                     circuits_of(rs, to) >= WR_RELAY_CIRCUITS_PER_PEER)) {
        rs->stats.refused_peer++;
        return WR_RELAY_FULL;
    }
    if (!take(rs, WR_LIMIT_RELAY_CIRCUITS, allowed) &&
        !(make_room(rs) && take(rs, WR_LIMIT_RELAY_CIRCUITS, allowed))) {
        rs->stats.refused_full++;
        return WR_RELAY_FULL;
    }
    if (!allowed && callers_are_many(rs, &conn->remote.ip, to)) {
        wr_limits_give(rs->limits, WR_LIMIT_RELAY_CIRCUITS, 1);
        rs->stats.refused_net++;
        return WR_RELAY_FULL;
    }
    return WR_RELAY_OK;
}

/* The guest does not answer, or says no. */
static void guest_failed(struct circuit *c)
{
    c->server->stats.failed++;
    refuse(c, WR_RELAY_FAILED);
}

static void on_stop_message(struct wr_msg *m, struct wr_bytes body)
{
    struct circuit *c = wr_list_entry(m, struct circuit, stop);
    struct wr_relay_server *rs = c->server;
    struct wr_relay_msg answer;
    int rc = wr_relay_msg_decode(WR_RELAY_STOP, body, &answer);
    if (rc != 0 || answer.type != WR_RELAY_STATUS || answer.status != WR_RELAY_OK) {
        guest_failed(c);
        return;
    }
    struct wr_relay_msg ok = {.type = WR_RELAY_STATUS,
                              .status = WR_RELAY_OK,
                              .has_limit = has_limit(rs),
                              .limit = rs->options.limit};
    wr_timer_stop(rs->env, &c->until);
    c->side[GUEST].s = wr_msg_release(m, &c->early);
    if (!c->side[GUEST].s || !say(&c->hop, WR_RELAY_HOP, &ok)) {
        wr_relay_server_end(c);
        return;
    }
    wr_relay_server_join(c);
}

static void ask_elsewhere(struct circuit *c);

static void on_stop_close(struct wr_msg *m, int err)
{
    struct circuit *c = wr_list_entry(m, struct circuit, stop);
    (void)err;
    if (wr_env_now(c->server->env) - c->since < WR_RELAY_STOP_WAIT)
        ask_elsewhere(c);
    if (c->counted && !c->stop.stream)
        guest_failed(c);
}

static const struct wr_msg_ops stop_ops = {.on_message = on_stop_message, .on_close = on_stop_close};

/* Tells the guest who wants to reach it. */
static void ask_guest(struct circuit *c, struct wr_conn *there)
{
    struct wr_relay_server *rs = c->server;
    int err;
    struct wr_stream *s = wr_conn_open_stream(there, stop_offer, NULL, NULL, &err);
    struct wr_relay_msg bring = {.type = WR_RELAY_CONNECT,
                                 .peer = wr_peerid_bytes(&c->caller),
                                 .has_limit = has_limit(rs),
                                 .limit = rs->options.limit};
    if (!s) {
        guest_failed(c);
        return;
    }
    c->over = there->id;
    wr_msg_start(&c->stop, rs->env, s, WR_RELAY_MSG_MAX, &stop_ops);
    if (say(&c->stop, WR_RELAY_STOP, &bring))
        wr_msg_deadline(&c->stop, c->since + WR_RELAY_STOP_WAIT);
    else
        guest_failed(c);
}

/* Where a guest is, not on a circuit of its own; NULL: nowhere. */
static struct wr_conn *guest_conn(const struct circuit *c)
{
    struct wr_conn *there = wr_swarm_conn(c->server->swarm, &c->guest);
    return there && !there->circuit ? there : NULL;
}

/* The guest may have another connection than the one over which it was asked, which leads nowhere any more. */
static void ask_elsewhere(struct circuit *c)
{
    struct wr_conn *there = guest_conn(c);
    if (!there || there->id == c->over)
        return;
    wr_msg_reset(&c->stop, WR_STREAM_OK);
    ask_guest(c, there);
}

static void on_no_answer(struct wr_timer *timer)
{
    struct circuit *c = wr_list_entry(timer, struct circuit, until);
    ask_elsewhere(c);
    if (c->counted)
        wr_timer_start(c->server->env, timer, wr_env_now(c->server->env) + WR_RELAY_STOP_AGAIN, on_no_answer);
}

/* A guest has come back. Whoever waits for its answer over a connection that has gone silent is asked for over this one. */
static void on_return(struct wr_relay_server *rs, const struct wr_peerid *guest)
{
    wr_list_each(it, &rs->circuits)
    {
        struct circuit *c = wr_list_entry(it, struct circuit, held);
        if (c->stop.stream && wr_peerid_equal(&c->guest, guest) && wr_conn_silent(wr_stream_conn(c->stop.stream)))
            ask_elsewhere(c);
    }
}

static void on_connect(struct circuit *c, const struct wr_relay_msg *m)
{
    struct wr_relay_server *rs = c->server;
    const struct wr_conn *conn = wr_stream_conn(c->hop.stream);
    struct wr_peerid to;
    if (wr_peerid_decode(m->peer, &to) != 0) {
        rs->stats.malformed++;
        refuse(c, WR_RELAY_MALFORMED);
        return;
    }
    enum wr_relay_status status = may_connect(rs, conn, &to);
    if (status != WR_RELAY_OK) {
        refuse(c, status);
        return;
    }
    c->counted = true;
    c->since = wr_env_now(rs->env);
    wr_list_append(&rs->circuits, &c->held);
    rs->stats.circuits++;
    c->caller = conn->peer;
    c->from = conn->remote.ip;
    c->guest = to;
    struct wr_conn *there = guest_conn(c);
    if (!there) {
        guest_failed(c);
        return;
    }
    wr_msg_deadline(&c->hop, 0);
    wr_timer_start(rs->env, &c->until, c->since + WR_RELAY_STOP_AGAIN, on_no_answer);
    ask_guest(c, there);
}

/* ---- streams of the hop protocol ---------------------------------------------------------------------------------- */

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct circuit *c = wr_list_entry(m, struct circuit, hop);
    struct wr_relay_msg in;
    if (c->counted) {    /* impatient: what belongs to the circuit comes behind our answer */
        c->server->stats.malformed++;
        wr_relay_server_end(c);
        return;
    }
    int rc = wr_relay_msg_decode(WR_RELAY_HOP, body, &in);
    if (rc == 0 && in.type == WR_RELAY_RESERVE) {
        on_reserve(c);
    } else if (rc == 0 && in.type == WR_RELAY_CONNECT) {
        on_connect(c, &in);
    } else {
        c->server->stats.malformed++;
        refuse(c, rc == 0 ? WR_RELAY_UNEXPECTED : WR_RELAY_MALFORMED);
    }
}

static void on_close(struct wr_msg *m, int err)
{
    (void)err;
    wr_relay_server_end(wr_list_entry(m, struct circuit, hop));
}

static const struct wr_msg_ops hop_ops = {.on_message = on_message, .on_close = on_close};

static void on_hop(struct wr_stream *s, void *arg)
{
    struct wr_relay_server *rs = arg;
    struct circuit *c = wr_alloc(sizeof(*c));
    if (!c) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    c->server = rs;
    wr_list_init(&c->held);
    for (int i = 0; i < 2; i++) {
        c->side[i].of = c;
        wr_list_init(&c->side[i].line);
        wr_buf_init(&c->side[i].kept, WR_MSG_READ_AHEAD * 64);
    }
    wr_buf_init(&c->early, WR_MSG_READ_AHEAD);
    wr_list_append(&rs->streams, &c->node);
    wr_msg_start(&c->hop, rs->env, s, WR_RELAY_MSG_MAX, &hop_ops);
    wr_msg_deadline(&c->hop, wr_env_now(rs->env) + WR_RELAY_HOP_TIMEOUT);
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

static void decide(struct wr_relay_server *rs)
{
    bool offered = rs->options.mode == WR_RELAY_ON ||
                   (rs->options.mode == WR_RELAY_AUTO && wr_swarm_reachability(rs->swarm, 0) == WR_REACH_PUBLIC);
    if (offered == rs->offered)
        return;
    rs->offered = offered;
    wr_swarm_hide(rs->swarm, WR_RELAY_HOP_NAME, !offered);
    wr_log(wr_env_log(rs->env), WR_LOG_INFO, "relay", "%s", offered ? "relaying for others" : "not relaying");
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_relay_server *rs = wr_list_entry(watch, struct wr_relay_server, watch);
    if (event->type == WR_SWARM_REACHABILITY)
        decide(rs);
    if (event->type == WR_SWARM_OPENED && wr_relay_server_guest(rs, event->peer))
        on_return(rs, event->peer);
    struct guest *g = event->type == WR_SWARM_CLOSED ? wr_relay_server_guest(rs, event->peer) : NULL;
    const struct wr_conn *left = g ? wr_swarm_conn(rs->swarm, event->peer) : NULL;
    if (g && (!left || left->circuit))
        drop_guest(rs, g);
}

struct wr_relay_server *wr_relay_server_create(const struct wr_relay_server_options *options)
{
    struct wr_relay_server *rs = wr_alloc(sizeof(*rs));
    if (!rs)
        return NULL;
    rs->options = *options;
    rs->swarm = options->swarm;
    rs->env = wr_swarm_env(rs->swarm);
    rs->limits = wr_swarm_limits(rs->swarm);
    wr_map_init(&rs->by_peer, GUESTS_MAX, wr_env_hash_seed(rs->env));
    wr_list_init(&rs->guests);
    wr_list_init(&rs->streams);
    wr_list_init(&rs->circuits);
    wr_list_init(&rs->line);
    wr_bucket_init(&rs->bucket, options->rate_total, WR_RELAY_BURST, wr_env_now(rs->env));
    rs->watch.on_event = on_event;
    wr_swarm_watch(rs->swarm, &rs->watch);
    struct wr_protocol p = {.name = WR_RELAY_HOP_NAME,
                            .on_stream = on_hop,
                            .arg = rs,
                            .inbound_max = WR_RELAY_HOPS_MAX,
                            .hidden = true};
    if (wr_swarm_handle(rs->swarm, &p) != 0) {
        wr_relay_server_destroy(rs);
        return NULL;
    }
    decide(rs);
    return rs;
}

void wr_relay_server_destroy(struct wr_relay_server *rs)
{
    if (!rs)
        return;
    wr_swarm_unwatch(&rs->watch);
    while (!wr_list_empty(&rs->streams))
        wr_relay_server_end(wr_list_entry(rs->streams.next, struct circuit, node));
    wr_swarm_unhandle(rs->swarm, WR_RELAY_HOP_NAME);
    while (!wr_list_empty(&rs->guests))
        drop_guest(rs, wr_list_entry(rs->guests.next, struct guest, node));
    wr_map_clear(&rs->by_peer);
    wr_timer_stop(rs->env, &rs->pace);
    wr_timer_stop(rs->env, &rs->sweep);
    wr_free(rs);
}

static void end_all(struct wr_relay_server *rs)
{
    while (!wr_list_empty(&rs->streams)) {
        struct circuit *c = wr_list_entry(rs->streams.next, struct circuit, node);
        rs->stats.cut_off += c->open;
        wr_relay_server_end(c);
    }
    while (!wr_list_empty(&rs->guests))
        drop_guest(rs, wr_list_entry(rs->guests.next, struct guest, node));
}

void wr_relay_server_set_mode(struct wr_relay_server *rs, enum wr_relay_mode mode)
{
    rs->options.mode = mode;
    decide(rs);
    if (mode == WR_RELAY_OFF)
        end_all(rs);
}

void wr_relay_server_set_rates(struct wr_relay_server *rs, uint64_t each, uint64_t total)
{
    rs->options.rate_each = each;
    rs->options.rate_total = total;
    wr_bucket_init(&rs->bucket, total, WR_RELAY_BURST, wr_env_now(rs->env));
    wr_list_each(it, &rs->streams)
    {
        struct circuit *c = wr_list_entry(it, struct circuit, node);
        if (c->open)
            wr_relay_server_set_pace(c);
    }
}

uint64_t wr_relay_server_rate_each(const struct wr_relay_server *rs)
{
    return rs->options.rate_each;
}

uint64_t wr_relay_server_rate_total(const struct wr_relay_server *rs)
{
    return rs->options.rate_total;
}

enum wr_relay_mode wr_relay_server_mode(const struct wr_relay_server *rs)
{
    return rs->options.mode;
}

bool wr_relay_server_offered(const struct wr_relay_server *rs)
{
    return rs->offered;
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */

void wr_relay_server_stats(const struct wr_relay_server *rs, struct wr_relay_server_stats *out)
{
    *out = rs->stats;
}

size_t wr_relay_server_guests(const struct wr_relay_server *rs, struct wr_relay_guest *out, size_t max)
{
    size_t n = 0;
    for (const struct wr_list *it = rs->guests.next; it != &rs->guests && n < max; it = it->next)
        out[n++] = ((const struct guest *)((uintptr_t)it - offsetof(struct guest, node)))->of;
    return n;
}

size_t wr_relay_server_circuits(const struct wr_relay_server *rs, struct wr_relay_through *out, size_t max)
{
    size_t n = 0;
    for (const struct wr_list *it = rs->streams.next; it != &rs->streams && n < max; it = it->next) {
        const struct circuit *c = (const struct circuit *)((uintptr_t)it - offsetof(struct circuit, node));
        if (c->open)
            out[n++] = (struct wr_relay_through){.caller = c->caller,
                                                 .guest = c->guest,
                                                 .since = c->since,
                                                 .bytes = {c->side[CALLER].got, c->side[GUEST].got}};
    }
    return n;
}
