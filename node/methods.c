#include "node/methods_impl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

double wr_methods_ms(wr_time t)
{
    return (double)t / (double)WR_MSEC;
}

int wr_methods_register(struct wr_methods *m, const struct wr_methods_entry *list)
{
    int err = 0;
    for (; !err && list->name; list++)
        err = wr_control_method(m->o.control, list->name, list->fn, m);
    return err;
}

/* ---- fields */

void wr_methods_pack_id(struct wr_pack *p, const char *key, const struct wr_peerid *id)
{
    char text[WR_PEERID_TEXT];
    wr_pack_text(p, key, wr_peerid_print(id, text));
}

void wr_methods_pack_ip(struct wr_pack *p, const char *key, const struct wr_ip *ip)
{
    char text[WR_ADDR_TEXT];
    wr_ip_print(ip, text);
    wr_pack_text(p, key, text);
}

void wr_methods_pack_maddr(struct wr_pack *p, const char *key, struct wr_bytes addr)
{
    char text[WR_MADDR_TEXT];
    wr_pack_text(p, key, wr_maddr_print(addr, text, sizeof(text)));
}

void wr_methods_pack_maddrs(struct wr_pack *p, const char *key, const struct wr_maddr *addrs, size_t count)
{
    wr_pack_array(p, key);
    for (size_t i = 0; i < count; i++)
        wr_methods_pack_maddr(p, NULL, wr_maddr_bytes(&addrs[i]));
    wr_pack_end(p);
}

void wr_methods_pack_ago(const struct wr_methods *m, struct wr_pack *p, const char *key, wr_time at)
{
    wr_pack_u64(p, key, (uint64_t)((wr_env_now(m->env) - at) / WR_MSEC));
}

void wr_methods_pack_error(struct wr_pack *p, int err)
{
    wr_pack_text(p, "error", wr_err_name(err));
    wr_pack_text(p, "text", wr_err_text(err));
}

/* ---- naming peers */

bool wr_methods_target(struct wr_call *call, struct wr_params *params, struct wr_target *target)
{
    char text[WR_MADDR_TEXT];
    struct wr_maddr whole;
    memset(target, 0, sizeof(*target));
    (void)wr_params_text(params, "peer", text, sizeof(text));
    if (wr_call_refuse(call, params))
        return false;
    if (text[0] != '/') {
        if (wr_peerid_parse(text, &target->peer) == 0)
            return true;
        wr_call_fail(
            call, WR_EINVAL,
            "\"%.128s\" is neither a peer id (12D3KooW...) nor an address (/ip4/.../p2p/ID)", text);
        return false;
    }
    if (wr_maddr_parse(text, &whole)) {
        wr_call_fail(call, WR_EINVAL,
                     "\"%.256s\" is not a multiaddr; /ip4/192.0.2.1/tcp/4001/p2p/ID is", text);
        return false;
    }
    struct wr_bytes bytes = wr_maddr_bytes(&whole), addr = wr_maddr_strip_peer(bytes);
    (void)wr_maddr_peer(bytes, &target->peer);
    memcpy(target->addr.bytes, addr.ptr, addr.len);
    target->addr.len = (uint8_t)addr.len;
    return true;
}

bool wr_methods_peer_target(struct wr_call *call, struct wr_params *params,
                            struct wr_target *target)
{
    if (!wr_methods_target(call, params, target))
        return false;
    if (target->peer.len)
        return true;
    wr_call_fail(call, WR_EINVAL, "a peer id is needed, or an address that ends in /p2p/ID");
    return false;
}

int wr_methods_reach(struct wr_methods *m, const struct wr_target *target, wr_connect_fn fn,
                     void *arg, struct wr_connect **out)
{
    if (!target->peer.len)
        return wr_swarm_connect_addr(m->o.swarm, wr_maddr_bytes(&target->addr), fn, arg, out);
    /* A DHT that knows nobody yet waits for somebody to ask: good for who has a bare id, not when the address that
     * was given has just failed. */
    bool route = !target->addr.len || wr_methods_dht_ready(m);
    return wr_swarm_connect(m->o.swarm, &target->peer, &target->addr, target->addr.len ? 1 : 0,
                            WR_ORIGIN_OWNER, route ? WR_CONNECT_ROUTE : 0, fn, arg, out);
}

const char *wr_methods_path(const struct wr_methods *m, const struct wr_conn *c)
{
    if (c->circuit)
        return "relayed";
    const struct wr_policy *policy = wr_swarm_policy(m->o.swarm);
    enum wr_ip_class class = wr_ip_classify(&c->remote.ip);
    bool local = class == WR_IP_LOOPBACK || class == WR_IP_LINK_LOCAL ||
                 wr_policy_on_link(policy, &c->remote.ip);
    return local ? "lan" : "direct";
}

void wr_methods_pack_conn(const struct wr_methods *m, struct wr_pack *p, const struct wr_conn *c)
{
    struct wr_maddr remote;
    wr_conn_remote(c, &remote);
    wr_methods_pack_id(p, "peer", &c->peer);
    wr_pack_text(p, "path", wr_methods_path(m, c));
    wr_methods_pack_maddr(p, "addr", wr_maddr_bytes(&remote));
}

void wr_methods_pack_limits(struct wr_pack *p, const struct wr_conn *c)
{
    if (!c->circuit)
        return;
    wr_pack_bool(p, "limited", c->limited);
    if (c->circuit->duration)
        wr_pack_u64(p, "limit_seconds", (uint64_t)(c->circuit->duration / WR_SEC));
    if (c->circuit->data)
        wr_pack_u64(p, "limit_bytes", c->circuit->data);
}

/* ---- why a dial failed */

#define REPORTS_SHOWN 4 /* addresses quoted in an error */

static const char *next_step(const struct wr_methods *m, const struct wr_peerid *peer, int err)
{
    struct wr_dial_outcome last;
    if (err == WR_EUNREACH && peer && wr_swarm_dial_outcome(m->o.swarm, peer, &last) && last.routed &&
        last.route_err == WR_EUNREACH)
        return "no peer is known that could be asked where it is; connect by address: "
               "`warren connect ADDR/p2p/ID`";
    switch (err) {
    case WR_EUNREACH:
        return "no address of it is known; connect by address: `warren connect ADDR/p2p/ID`";
    case WR_EGATED:
        return "`warren block` lists the rules, --remove takes one back";
    case WR_EBACKOFF:
        return "it failed a moment ago; try again in a few seconds";
    case WR_EPEERID:
        return "ask its owner for the right peer id";
    case WR_EREFUSED:
        return "is the other node running, and on that port?";
    case WR_EAUTH:
    case WR_EPROTO:
    case WR_ECLOSED:
    case WR_ERESET:
        return "the handshake failed; is it a libp2p node, of the same network key?";
    case WR_ELIMIT:
        return "a limit of this node is reached; `warren limits` shows which";
    default:
        return "is it online and reachable from here?";
    }
}

/* Where a network key is set, whoever accepts a connection and then breaks off or waits met another key: what that
 * deciphers to is noise. */
enum wr_reason wr_methods_dial_reason(const struct wr_methods *m, const struct wr_dial_report *tried)
{
    enum wr_reason_dial how = tried->accepted ? WR_REASON_ACCEPTED
                              : tried->took   ? WR_REASON_BEGUN
                                              : WR_REASON_REFUSED_BY_US;
    enum wr_reason reason = wr_reason_of_dial(wr_maddr_bytes(&tried->addr), tried->err, how);
    bool keyed = *wr_config_get(m->o.config, WR_CONFIG_PSK) != 0;
    bool unsaid = reason == WR_REASON_BROKEN_OFF || reason == WR_REASON_SILENT;
    return unsaid && keyed ? WR_REASON_WRONG_NETWORK : reason;
}

/* Of the addresses that were really dialled the most telling one, else of all; NULL: none failed. */
static const struct wr_dial_report *most_telling(const struct wr_dial_report *tried, size_t count, int err)
{
    const struct wr_dial_report *telling = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!tried[i].err || (telling && telling->took && !tried[i].took))
            continue;
        if (!telling || (tried[i].took && !telling->took) || tried[i].err == err)
            telling = &tried[i];
    }
    return telling;
}

enum wr_reason wr_methods_sum_up(const struct wr_methods *m, int err, const struct wr_dial_report *tried, size_t count)
{
    if (err == WR_ESELF || err == WR_EGATED || err == WR_ELIMIT)
        return wr_reason_of_dial(WR_BYTES(NULL, 0), err, WR_REASON_BEGUN);
    const struct wr_dial_report *telling = most_telling(tried, count, err);
    if (telling)
        return wr_methods_dial_reason(m, telling);
    if (!wr_swarm_conn_count(m->o.swarm))
        return WR_REASON_NO_PEERS;
    return err == WR_EUNREACH ? WR_REASON_NO_ADDRESS
                              : wr_reason_of_dial(WR_BYTES(NULL, 0), err, WR_REASON_BEGUN);
}

bool wr_methods_unspoken(const struct wr_methods *m, const struct wr_peerid *peer, int err)
{
    return err == WR_EUNSUPPORTED && wr_swarm_conn(m->o.swarm, peer) != NULL;
}

bool wr_methods_hung_up(const struct wr_methods *m, struct wr_call *call, const struct wr_peerid *peer, int err,
                        wr_time connected_at)
{
    struct wr_dial_outcome last;
    char name[WR_PEERID_TEXT];
    bool dialled_since =
        wr_swarm_dial_outcome(m->o.swarm, peer, &last) && last.err != 0 && last.at >= connected_at;
    if (!connected_at || dialled_since || (err != WR_ECLOSED && err != WR_ERESET))
        return false;
    wr_call_fail(call, err,
                 "%s was reached, and ended the connection before it answered; try again. If it stays so, it keeps no "
                 "connection that it has no use for (rust-libp2p up to 0.53 does that from the start), or does not "
                 "want this one: its owner can tell",
                 wr_peerid_print(peer, name));
    return true;
}

/* In the words of `why`: what the error means depends on the address. What was said of all together is not repeated. */
static void print_tried(const struct wr_methods *m, const struct wr_dial_report *tried, size_t count, enum wr_reason said,
                        char *text, size_t room)
{
    char addr[WR_MADDR_TEXT];
    size_t len = 0;
    text[0] = 0;
    for (size_t i = 0; i < count && len < room; i++) {
        if (!tried[i].err)
            continue;
        (void)wr_maddr_print(wr_maddr_bytes(&tried[i].addr), addr, sizeof(addr));
        enum wr_reason reason = wr_methods_dial_reason(m, &tried[i]);
        int wrote = snprintf(text + len, room - len, "%s%s%s%s", len ? ", " : " (", addr, reason == said ? "" : ": ",
                             reason == said ? "" : wr_reason_text(reason));
        len += wrote > 0 ? (size_t)wrote : 0;
    }
    if (len && len + 1 < room)
        memcpy(text + len, ")", 2);
}

void wr_methods_dial_failed(const struct wr_methods *m, struct wr_call *call,
                            const struct wr_peerid *peer, int err)
{
    struct wr_dial_report reports[REPORTS_SHOWN] = {{.err = 0}};
    char name[WR_PEERID_TEXT] = "that address", text[640] = "";
    size_t count = 0;
    if (err == WR_ESELF) {
        struct wr_addr twin;
        if (!wr_swarm_twin(m->o.swarm, &twin)) {
            wr_call_fail(call, err, "that is this node itself; name another peer");
            return;
        }
        wr_addr_print(&twin, text);
        wr_call_fail(call, err,
                     "that is this node's own identity, which another node uses at %s; give one of them "
                     "a key of its own: `warren key new`",
                     text);
        return;
    }
    if (peer && peer->len) {
        (void)wr_peerid_print(peer, name);
        count = wr_swarm_dial_report(m->o.swarm, peer, reports, REPORTS_SHOWN);
        /* An address of a kind that we do not speak says nothing beside one that was dialled. */
        const struct wr_dial_report *telling = most_telling(reports, count, err);
        if (err == WR_EUNSUPPORTED && telling && telling->took)
            err = telling->err;
    }
    enum wr_reason reason = wr_methods_sum_up(m, err, reports, count);
    print_tried(m, reports, count, reason, text, sizeof(text));
    const char *why = text[0] ? wr_reason_text(reason) : wr_err_text(err);
    wr_call_fail(call, err, "cannot reach %s: %s%s; %s", name, why, text, next_step(m, peer, err));
}

/* ---- the node as a whole */

struct count {
    const struct wr_methods *m;
    struct wr_totals *out;
};

const wr_time wr_methods_rtt_bounds[WR_RTT_BOUNDS] = {
    1 * WR_MSEC, 10 * WR_MSEC, 30 * WR_MSEC, 100 * WR_MSEC, 300 * WR_MSEC, 1 * WR_SEC};

static void count_path(const struct wr_conn *c, struct wr_totals *out)
{
    struct wr_conn_stats stats;
    size_t slot = 0;
    wr_conn_stats(c, &stats);
    out->cwnd += stats.cwnd;
    out->in_flight += stats.in_flight;
    out->retransmits += stats.retransmits;
    out->loss_events += stats.loss_events;
    out->migrations += stats.migrations;
    out->quic += strcmp(c->mux->transport, "quic-v1") == 0;
    out->tcp += strcmp(c->mux->transport, "tcp") == 0;
    if (!stats.rtt)
        return;
    if (!out->rtt_max || stats.rtt < out->rtt_min)
        out->rtt_min = stats.rtt;
    if (stats.rtt > out->rtt_max)
        out->rtt_max = stats.rtt;
    while (slot < WR_RTT_BOUNDS && stats.rtt > wr_methods_rtt_bounds[slot])
        slot++;
    out->rtts[slot]++;
}

static void count_conn(struct wr_conn *c, void *arg)
{
    const struct count *count = arg;
    struct wr_totals *out = count->out;
    out->bytes_in += c->bytes_in;
    out->bytes_out += c->bytes_out;
    out->streams += c->stream_count;
    if (c->outbound)
        out->outbound++;
    else
        out->inbound++;
    if (strcmp(wr_conn_security(c), "/noise") == 0)
        out->noise++;
    else
        out->tls++;
    count_path(c, out);
    if (wr_swarm_conn(count->m->o.swarm, &c->peer) != c)
        return; /* a peer counts once, by its best connection */
    const char *path = wr_methods_path(count->m, c);
    out->peers++;
    if (strcmp(path, "relayed") == 0)
        out->relayed++;
    else if (strcmp(path, "lan") == 0)
        out->lan++;
    else
        out->direct++;
}

void wr_methods_totals(const struct wr_methods *m, struct wr_totals *out)
{
    struct count count = {m, out};
    memset(out, 0, sizeof(*out));
    out->bytes_in = m->closed_in;
    out->bytes_out = m->closed_out;
    out->loss_events = m->closed_losses;
    out->migrations = m->closed_moves;
    wr_swarm_each(m->o.swarm, count_conn, &count);
}

/* ---- events */

/* NULL: it is not told. */
static const char *event_name(enum wr_swarm_event_type type)
{
    switch (type) {
    case WR_SWARM_OPENED:
        return "connection-opened";
    case WR_SWARM_CLOSED:
        return "connection-closed";
    case WR_SWARM_CONNECTED:
        return "peer-connected";
    case WR_SWARM_DISCONNECTED:
        return "peer-disconnected";
    case WR_SWARM_IDENTIFIED:
        return "peer-identified";
    case WR_SWARM_PEER_CHANGED:
        return "peer-changed";
    case WR_SWARM_ADDRS:
        return "addresses-changed";
    case WR_SWARM_PROTOCOLS:
        return "protocols-changed";
    case WR_SWARM_DIAL_FAILED:
        return "dial-failed";
    case WR_SWARM_DIALLING:
        return NULL; /* too many to tell of; how they went is told */
    case WR_SWARM_OBSERVED:
        return "address-observed";
    case WR_SWARM_REACHABILITY:
        return "reachability-changed";
    case WR_SWARM_NETWORK_CHANGED:
        return "network-changed";
    }
    return NULL;
}

static const char *reach_name(const struct wr_methods *m, unsigned family)
{
    return wr_reachability_name(wr_swarm_reachability(m->o.swarm, family));
}

static void count_opened(struct wr_methods *m, const struct wr_conn *c)
{
    const char *path = wr_methods_path(m, c);
    if (strcmp(path, "relayed") == 0)
        m->opened_relayed++;
    else if (strcmp(path, "lan") == 0)
        m->opened_lan++;
    else
        m->opened_direct++;
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_methods *m = wr_list_entry(watch, struct wr_methods, watch);
    const char *name = event_name(event->type);
    wr_methods_peer_event(m, event);
    if (event->type == WR_SWARM_CLOSED && event->conn) {
        struct wr_conn_stats stats;
        wr_conn_stats(event->conn, &stats);
        m->closed_losses += stats.loss_events;
        m->closed_moves += stats.migrations;
        m->closed_in += event->conn->bytes_in;
        m->closed_out += event->conn->bytes_out;
    }
    if (event->type == WR_SWARM_OPENED)
        count_opened(m, event->conn);
    struct wr_pack *p = name ? wr_control_event(m->o.control, name) : NULL;
    if (!p)
        return;
    if (event->conn) {
        wr_methods_pack_conn(m, p, event->conn);
        wr_pack_text(p, "direction", event->conn->outbound ? "out" : "in");
    } else if (event->peer) {
        wr_methods_pack_id(p, "peer", event->peer);
    }
    if (event->type == WR_SWARM_REACHABILITY) {
        wr_pack_text(p, "reachable", reach_name(m, 0));
        wr_pack_text(p, "reachable4", reach_name(m, 4));
        wr_pack_text(p, "reachable6", reach_name(m, 6));
    }
    if (event->seen)
        wr_methods_pack_maddr(p, "seen", wr_maddr_bytes(event->seen));
    if (event->err)
        wr_methods_pack_error(p, event->err);
    wr_control_event_send(m->o.control);
}

/* ---- life */

static void on_store_lost(struct wr_kv_watch *watch)
{
    struct wr_methods *m = wr_list_entry(watch, struct wr_methods, kv_watch);
    wr_methods_peer_save(m);
    wr_methods_name_save(m);
}

int wr_methods_create(const struct wr_methods_options *options, struct wr_methods **out)
{
    static int (*const parts[])(struct wr_methods *) = {wr_methods_look,  wr_methods_peer,   wr_methods_dht,
                                                        wr_methods_name,  wr_methods_table,  wr_methods_stream,
                                                        wr_methods_why,   wr_methods_relay};
    struct wr_methods *m = wr_alloc(sizeof(*m));
    if (!m)
        return WR_ELIMIT;
    m->o = *options;
    m->env = wr_swarm_env(options->swarm);
    m->started_at = wr_env_now(m->env);
    wr_list_init(&m->waits);
    wr_list_init(&m->connects);
    wr_list_init(&m->rules);
    wr_list_init(&m->joined);
    wr_list_init(&m->keeps);
    wr_list_init(&m->served);
    wr_list_init(&m->bridges);
    m->watch.on_event = on_event;
    wr_swarm_watch(m->o.swarm, &m->watch);
    wr_list_init(&m->kv_watch.node);
    m->kv_watch.on_lost = on_store_lost;
    if (m->o.kv)
        wr_kv_watch(m->o.kv, &m->kv_watch);
    int error = 0;
    for (size_t i = 0; !error && i < sizeof(parts) / sizeof(parts[0]); i++)
        error = parts[i](m);
    if (error) {
        wr_methods_destroy(m);
        return error;
    }
    *out = m;
    return 0;
}

void wr_methods_destroy(struct wr_methods *m)
{
    if (!m)
        return;
    wr_swarm_unwatch(&m->watch);
    wr_kv_unwatch(&m->kv_watch);
    wr_methods_stream_end(m);
    wr_methods_name_end(m);
    wr_methods_peer_end(m);
    wr_methods_keep_end(m);
    wr_methods_look_end(m);
    wr_free(m);
}
