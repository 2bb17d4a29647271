/* Methods that look: status, id, peers, limits, metrics, wait, stop. */
#include "node/methods_impl.h"

#include "identify/identify.h"
#include "node/diagnose.h"

#include <string.h>

/* ---- status */

#define REFUSED_EVERY WR_HOUR /* between two looks at what limits refused; ours */

static void pack_listening(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_maddr listening[WR_ADDRBOOK_MAX];
    size_t count = wr_swarm_listening(m->o.swarm, listening, WR_ADDRBOOK_MAX);
    wr_methods_pack_maddrs(p, "listen", listening, count);
}

static void pack_limits(const struct wr_methods *m, struct wr_pack *p)
{
    const struct wr_limits *limits = wr_swarm_limits(m->o.swarm);
    wr_pack_array(p, "limits");
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++) {
        wr_pack_map(p, NULL);
        wr_pack_text(p, "name", wr_limit_name((enum wr_limit)i));
        wr_pack_text(p, "unit", wr_limit_unit((enum wr_limit)i));
        if (wr_limit_counted((enum wr_limit)i)) {
            wr_pack_u64(p, "used", limits->of[i].used);
            wr_pack_u64(p, "peak", limits->of[i].peak);
        }
        wr_pack_u64(p, "max", limits->of[i].max);
        wr_pack_u64(p, "refused", limits->of[i].refused);
        wr_pack_end(p);
    }
    wr_pack_end(p);
}

static uint64_t refusals(const struct wr_methods *m)
{
    const struct wr_limits *limits = wr_swarm_limits(m->o.swarm);
    uint64_t sum = 0;
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++)
        sum += limits->of[i].refused;
    return sum;
}

/* A warning is for what goes on: one refusal in years of running is none. */
static void on_refused_timer(struct wr_timer *timer)
{
    struct wr_methods *m = wr_list_entry(timer, struct wr_methods, refused_timer);
    m->refused[0] = m->refused[1];
    m->refused[1] = refusals(m);
    wr_timer_start(m->env, timer, wr_env_now(m->env) + REFUSED_EVERY, on_refused_timer);
}

/* reason: a code of reasons.md, or WR_REASON_COUNT where none fits. */
static void warn(struct wr_pack *p, enum wr_reason reason, const char *text, const char *command)
{
    wr_pack_map(p, NULL);
    if (reason != WR_REASON_COUNT)
        wr_pack_text(p, "code", wr_reason_code(reason));
    wr_pack_text(p, "text", text);
    wr_pack_text(p, "command", command);
    wr_pack_end(p);
}

/* What `check` finds and an owner should hear of without asking. Not what kind of NAT there is. */
static void warn_of_findings(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_diagnose_input in;
    struct wr_findings found;
    wr_methods_evidence(m, &in);
    wr_diagnose(&in, &found);
    for (size_t i = 0; i < found.count; i++) {
        switch (found.of[i]) {
        case WR_REASON_UDP_BLOCKED:
        case WR_REASON_MAPPING_FALSE:
        case WR_REASON_NO_RELAY:
        case WR_REASON_RELAY_FULL:
        case WR_REASON_RELAY_REFUSED:
        case WR_REASON_PUNCH_NEVER:
            warn(p, found.of[i], wr_reason_text(found.of[i]), "warren check");
            break;
        default:
            break;
        }
    }
}

static void pack_warnings(const struct wr_methods *m, struct wr_pack *p,
                          const struct wr_totals *totals)
{
    struct wr_addr twin;
    char addr[WR_ADDR_TEXT], text[64 + WR_ADDR_TEXT];
    wr_pack_array(p, "warnings");
    if (!totals->peers)
        warn(p, WR_REASON_NO_PEERS, "no peer is connected", "warren connect ADDR");
    if (refusals(m) > m->refused[0])
        warn(p, WR_REASON_OUT_OF_ROOM, "a limit refused something in the last two hours", "warren limits");
    if (m->o.kv && wr_kv_error(m->o.kv))
        warn(p, WR_REASON_COUNT, "what is learnt cannot be written to disk", "warren metrics");
    if (m->o.kv && wr_kv_rebuilt(m->o.kv))
        warn(p, WR_REASON_COUNT, "the store was damaged and begun anew; what it was is kept as *.damaged",
             "warren metrics");
    if (m->o.state && wr_state_clock_suspect(m->o.state))
        warn(p, WR_REASON_CLOCK_WRONG, "the system's clock is far off and not believed", "date");
    if (m->o.port_in_use)
        warn(p, WR_REASON_PORT_IN_USE, "another program has a port that this node was to listen on", "warren check");
    if (wr_swarm_twin(m->o.swarm, &twin)) {
        wr_addr_print(&twin, addr);
        (void)snprintf(text, sizeof(text), "another node uses this identity at %s", addr);
        warn(p, WR_REASON_TWIN, text, "warren key new");
    }
    warn_of_findings(m, p);
    wr_pack_end(p);
}

static void pack_peer_counts(struct wr_pack *p, const struct wr_totals *totals)
{
    wr_pack_map(p, "peers");
    wr_pack_u64(p, "connected", totals->peers);
    wr_pack_u64(p, "direct", totals->direct);
    wr_pack_u64(p, "relayed", totals->relayed);
    wr_pack_u64(p, "lan", totals->lan);
    wr_pack_u64(p, "inbound", totals->inbound);
    wr_pack_u64(p, "outbound", totals->outbound);
    wr_pack_u64(p, "noise", totals->noise);
    wr_pack_u64(p, "tls", totals->tls);
    wr_pack_u64(p, "tcp", totals->tcp);
    wr_pack_u64(p, "quic", totals->quic);
    wr_pack_end(p);
}

static void pack_quic(struct wr_pack *p, const struct wr_totals *totals)
{
    wr_pack_map(p, "quic");
    wr_pack_u64(p, "connections", totals->quic);
    wr_pack_u64(p, "loss_events", totals->loss_events);
    wr_pack_u64(p, "migrations", totals->migrations);
    wr_pack_end(p);
}

/* Of all connections together. */
static void pack_paths(struct wr_pack *p, const struct wr_totals *totals)
{
    wr_pack_map(p, "paths");
    if (totals->rtt_max) {
        wr_pack_double(p, "rtt_min_ms", wr_methods_ms(totals->rtt_min));
        wr_pack_double(p, "rtt_max_ms", wr_methods_ms(totals->rtt_max));
    }
    wr_pack_u64(p, "cwnd", totals->cwnd);
    wr_pack_u64(p, "in_flight", totals->in_flight);
    wr_pack_u64(p, "retransmits", totals->retransmits);
    wr_pack_end(p);
}

static void on_status(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_pack *p = wr_call_result(call);
    struct wr_totals totals;
    (void)params;
    wr_methods_totals(m, &totals);
    wr_methods_pack_id(p, "peer", wr_swarm_self(m->o.swarm));
    wr_pack_text(p, "version", WARREN_VERSION);
    wr_methods_pack_ago(m, p, "uptime_ms", m->started_at);
    wr_pack_text(p, "network", wr_config_get(m->o.config, WR_CONFIG_NETWORK));
    wr_pack_bool(p, "private", *wr_config_get(m->o.config, WR_CONFIG_PSK) != '\0');
    wr_pack_text(p, "data", wr_config_get(m->o.config, WR_CONFIG_DATA));
    wr_methods_pack_nat(m, p);
    pack_listening(m, p);
    pack_peer_counts(p, &totals);
    wr_pack_u64(p, "streams", totals.streams);
    wr_pack_u64(p, "bytes_in", totals.bytes_in);
    wr_pack_u64(p, "bytes_out", totals.bytes_out);
    pack_paths(p, &totals);
    pack_quic(p, &totals);
    wr_methods_pack_relays(m, p);
    wr_methods_pack_dht(m, p);
    wr_pack_text(p, "limits_knob", wr_config_get(m->o.config, WR_CONFIG_LIMITS));
    pack_limits(m, p);
    pack_warnings(m, p, &totals);
    wr_call_done(call);
}

static void on_limits(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_pack *p = wr_call_result(call);
    (void)params;
    wr_pack_text(p, "knob", wr_config_get(m->o.config, WR_CONFIG_LIMITS));
    pack_limits(m, p);
    wr_call_done(call);
}

/* ---- id */

static void on_id(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_pack *p = wr_call_result(call);
    struct wr_maddr announced[WR_ADDRBOOK_MAX];
    const struct wr_protocols *protocols = wr_swarm_protocols(m->o.swarm);
    static const struct wr_ip loopback = {.family = 4, .bytes = {127, 0, 0, 1}};
    (void)params;
    wr_methods_pack_id(p, "peer", wr_swarm_self(m->o.swarm));
    wr_pack_text(p, "agent", "warren/" WARREN_VERSION);
    pack_listening(m, p);
    /* Who asks is on this machine: it is told what any peer is told somewhere, each with our id. */
    size_t count =
        wr_addrbook_announce(wr_swarm_addrbook(m->o.swarm), &loopback, announced, WR_ADDRBOOK_MAX);
    wr_pack_array(p, "addrs");
    for (size_t i = 0; i < count; i++)
        if (wr_maddr_append_peer(&announced[i], wr_swarm_self(m->o.swarm)) == 0)
            wr_methods_pack_maddr(p, NULL, wr_maddr_bytes(&announced[i]));
    wr_pack_end(p);
    wr_pack_array(p, "protocols");
    for (size_t i = 0; i < protocols->count; i++)
        if (!protocols->of[i]->hidden)
            wr_pack_text(p, NULL, protocols->of[i]->name);
    wr_pack_end(p);
    wr_call_done(call);
}

/* ---- peers */

/* So that a crowd, or what it says of itself, makes no reply that is too long to be sent. */
#define NAMES_MAX (WR_RPC_REPLY_MAX / 4)    /* bytes of a reply; the peers behind them come without agent and protocols */
#define ROWS_MAX  (WR_RPC_REPLY_MAX - 4096) /* bytes; those behind them are only counted */

struct listing {
    const struct wr_methods *m;
    struct wr_pack *p;
    uint64_t left_out;
};

static void pack_known(const struct wr_methods *m, struct wr_pack *p, const struct wr_peerid *id)
{
    const struct wr_peer *peer =
        p->out->len < NAMES_MAX ? wr_peerstore_find(wr_swarm_peerstore(m->o.swarm), id) : NULL;
    const char *name;
    size_t cursor = 0;
    wr_pack_text(p, "agent", peer ? wr_peer_agent(peer) : "");
    wr_pack_array(p, "protocols");
    while (peer && (name = wr_peer_protocol(peer, &cursor)))
        wr_pack_text(p, NULL, name);
    wr_pack_end(p);
}

/* What a carrier does not know is left out; what is QUIC's or TCP's alone stands with those alone. */
static void pack_path(struct wr_pack *p, const struct wr_conn *c)
{
    struct wr_conn_stats s;
    wr_conn_stats(c, &s);
    if (wr_conn_rtt(c))
        wr_pack_double(p, "rtt_ms", wr_methods_ms(wr_conn_rtt(c)));
    if (s.rtt)
        wr_pack_double(p, "rtt_smoothed_ms", wr_methods_ms(s.rtt));
    if (s.cwnd) {
        wr_pack_u64(p, "cwnd", s.cwnd);
        wr_pack_u64(p, "in_flight", s.in_flight);
        wr_pack_u64(p, "mtu", s.mtu);
    }
    if (c->udp) {
        wr_pack_u64(p, "loss_events", s.loss_events);
        wr_pack_u64(p, "migrations", s.migrations);
    } else if (s.cwnd) {
        wr_pack_u64(p, "retransmits", s.retransmits);
    }
}

static void list_conn(struct wr_conn *c, void *arg)
{
    struct listing *l = arg;
    struct wr_pack *p = l->p;
    if (wr_swarm_conn(l->m->o.swarm, &c->peer) != c)
        return;
    if (p->out->len > ROWS_MAX) {
        l->left_out++;
        return;
    }
    wr_pack_map(p, NULL);
    wr_methods_pack_conn(l->m, p, c);
    wr_pack_text(p, "direction", c->outbound ? "out" : "in");
    wr_pack_text(p, "transport", c->mux->transport);
    wr_pack_text(p, "security", wr_conn_security(c));
    wr_pack_text(p, "muxer", c->mux->muxer);
    wr_methods_pack_limits(p, c);
    if (!c->circuit)
        wr_pack_bool(p, "listening_port", c->port_reused);
    pack_path(p, c);
    wr_pack_u64(p, "streams", c->stream_count);
    wr_methods_pack_ago(l->m, p, "age_ms", c->opened_at);
    wr_pack_u64(p, "bytes_in", c->bytes_in);
    wr_pack_u64(p, "bytes_out", c->bytes_out);
    pack_known(l->m, p, &c->peer);
    wr_pack_end(p);
}

static void on_peers(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct listing l = {m, wr_call_result(call), 0};
    (void)params;
    wr_pack_array(l.p, "peers");
    wr_swarm_each(m->o.swarm, list_conn, &l);
    wr_pack_end(l.p);
    wr_pack_u64(l.p, "left_out", l.left_out);
    wr_call_done(call);
}

/* ---- metrics */

#define METRICS_MAX (64 * 1024) /* bytes; about 10,000 today */

static void on_metrics(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_buf text;
    (void)params;
    wr_buf_init(&text, METRICS_MAX);
    wr_methods_metrics(m, &text);
    if (text.full) {
        wr_call_fail(call, WR_ELIMIT, NULL);
    } else {
        wr_pack_text_bytes(wr_call_result(call), "text", wr_buf_bytes(&text));
        wr_call_done(call);
    }
    wr_buf_clear(&text);
}

/* ---- wait: looks again now and then while somebody waits */

#define WAIT_EVERY (100 * WR_MSEC) /* ours: nobody notices, and nobody waits all day */

enum wait_for { WAIT_ONLINE, WAIT_REACHABLE, WAIT_PEER };

struct wait {
    struct wr_list node;
    struct wr_methods *m;
    struct wr_call *call;
    enum wait_for what;
    struct wr_peerid peer;
};

static bool wait_over(const struct wait *w)
{
    switch (w->what) {
    case WAIT_ONLINE:
        return wr_swarm_conn_count(w->m->o.swarm) > 0 && wr_methods_dht_ready(w->m);
    case WAIT_REACHABLE:
        return wr_addrbook_public(wr_swarm_addrbook(w->m->o.swarm));
    case WAIT_PEER:
        return wr_swarm_conn(w->m->o.swarm, &w->peer) != NULL;
    }
    return false;
}

static void wait_free(struct wait *w)
{
    wr_list_remove(&w->node);
    wr_free(w);
}

static void on_wait_cancel(void *arg)
{
    wait_free(arg);
}

static void wait_answer(struct wait *w)
{
    static const char *const names[] = {"online", "reachable", "peer"};
    const struct wr_conn *c = w->what == WAIT_PEER ? wr_swarm_conn(w->m->o.swarm, &w->peer) : NULL;
    struct wr_pack *p = wr_call_result(w->call);
    wr_pack_text(p, "for", names[w->what]);
    if (c)
        wr_methods_pack_conn(w->m, p, c);
    wr_call_done(w->call);
    wait_free(w);
}

static void on_wait_timer(struct wr_timer *timer)
{
    struct wr_methods *m = wr_list_entry(timer, struct wr_methods, wait_timer);
    wr_list_each(node, &m->waits)
    {
        struct wait *w = wr_list_entry(node, struct wait, node);
        if (wait_over(w))
            wait_answer(w);
    }
    if (!wr_list_empty(&m->waits))
        wr_timer_start(m->env, timer, wr_env_now(m->env) + WAIT_EVERY, on_wait_timer);
}

static void on_wait(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target = {0};
    char what[16];
    (void)wr_params_text(params, "for", what, sizeof(what));
    bool online = !*what || strcmp(what, "online") == 0, peer = strcmp(what, "peer") == 0;
    if (wr_call_refuse(call, params) || (peer && !wr_methods_target(call, params, &target)))
        return;
    if (!online && !peer && strcmp(what, "reachable") != 0) {
        wr_call_fail(call, WR_EINVAL, "for: online, reachable or peer");
        return;
    }
    if (peer && !target.peer.len) {
        wr_call_fail(call, WR_EINVAL, "peer: an id is needed, or an address that ends in /p2p/ID");
        return;
    }
    struct wait *w = wr_alloc(sizeof(*w));
    if (!w) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return;
    }
    w->m = m;
    w->call = call;
    w->what = online ? WAIT_ONLINE : peer ? WAIT_PEER : WAIT_REACHABLE;
    w->peer = target.peer;
    wr_list_append(&m->waits, &w->node);
    wr_call_defer(call, on_wait_cancel, w);
    if (!wr_timer_running(&m->wait_timer))
        wr_timer_start(m->env, &m->wait_timer, wr_env_now(m->env), on_wait_timer);
}

/* ---- stop */

static void on_stop(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    (void)params;
    wr_call_done(call);
    if (m->o.on_stop)
        m->o.on_stop(m->o.arg);
}

int wr_methods_look(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {
        {"status", on_status}, {"id", on_id},           {"peers", on_peers}, {"limits", on_limits},
        {"wait", on_wait},     {"metrics", on_metrics}, {"stop", on_stop},   {NULL, NULL},
    };
    wr_timer_start(m->env, &m->refused_timer, wr_env_now(m->env) + REFUSED_EVERY, on_refused_timer);
    return wr_methods_register(m, list);
}

void wr_methods_look_end(struct wr_methods *m)
{
    wr_timer_stop(m->env, &m->refused_timer);
    wr_timer_stop(m->env, &m->wait_timer);
}
