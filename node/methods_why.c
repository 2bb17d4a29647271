/* Methods that explain: why, check. */
#include "autonat/portmap.h"
#include "dcutr/dcutr.h"
#include "node/diagnose.h"
#include "node/methods_impl.h"
#include "node/relaying.h"

#include "autonat/autonat_client.h"

#include <string.h>

#define TRIED_MAX  32     /* addresses told of a peer; ours */
#define TELL_EVERY WR_SEC /* what goes on, to a client that waits for the end of it; ours */

static void pack_reason(struct wr_pack *p, enum wr_reason reason)
{
    wr_pack_text(p, "code", wr_reason_code(reason));
    wr_pack_text(p, "text", wr_reason_text(reason));
    wr_pack_text(p, "hint", wr_reason_hint(reason));
}

/* ---- why: the path to one peer, and what became of the others */

struct why {
    struct wr_methods *m;
    struct wr_call *call;
    struct wr_connect *request;
    struct wr_peerid peer;
    struct wr_timer timer;    /* to the next progress */
};

static void pack_doing(const struct wr_methods *m, struct wr_pack *p, const char *path, const char *text, wr_time since)
{
    wr_pack_map(p, NULL);
    wr_pack_text(p, "path", path);
    wr_pack_text(p, "text", text);
    wr_methods_pack_ago(m, p, "for_ms", since);
}

static void pack_dial_now(const struct wr_methods *m, struct wr_pack *p, const struct wr_dial_now *now)
{
    static const char *const texts[] = {
        [WR_DIAL_QUEUED] = "waiting until fewer other peers are dialled",
        [WR_DIAL_NAMING] = "looking up the addresses of a name",
        [WR_DIAL_ROUTING] = "asking other peers for addresses",
        [WR_DIAL_TRYING] = "connecting",
    };
    struct wr_bytes at = wr_maddr_bytes(&now->addr);
    bool trying = now->doing == WR_DIAL_TRYING, relayed = trying && wr_maddr_is_circuit(at);
    pack_doing(m, p, relayed ? "relayed" : trying ? "direct" : "none",
               relayed ? "asking the relay for the way" : texts[now->doing], now->since);
    if (at.len)
        wr_methods_pack_maddr(p, "addr", at);
    wr_pack_end(p);
}

/* What is under way towards a peer. */
static void pack_trying(const struct wr_methods *m, struct wr_pack *p, const struct wr_peerid *peer)
{
    struct wr_dial_now *dials = wr_alloc_array(TRIED_MAX, sizeof(*dials));
    size_t count = dials ? wr_swarm_dial_now(m->o.swarm, peer, dials, TRIED_MAX) : 0;
    struct wr_dcutr_now punch;
    wr_pack_array(p, "trying");
    if (m->o.dcutr && wr_dcutr_now(m->o.dcutr, peer, &punch)) {
        pack_doing(m, p, "punched", punch.sending ? "both sides send at the same time" : "agreeing on when both sides send",
                   punch.since);
        wr_pack_u64(p, "attempt", punch.attempt);
        wr_pack_bool(p, "initiator", punch.initiator);
        wr_pack_end(p);
    }
    for (size_t i = 0; i < count; i++)
        pack_dial_now(m, p, &dials[i]);
    wr_pack_end(p);
    wr_free(dials);
}

static void pack_tried(const struct wr_methods *m, struct wr_pack *p,
                       const struct wr_dial_report *tried)
{
    struct wr_bytes at = wr_maddr_bytes(&tried->addr);
    wr_pack_map(p, NULL);
    wr_pack_text(p, "path", wr_maddr_is_circuit(at) ? "relayed" : "direct");
    wr_methods_pack_maddr(p, "addr", at);
    pack_reason(p, wr_methods_dial_reason(m, tried));
    wr_pack_double(p, "took_ms", wr_methods_ms(tried->took));
    wr_methods_pack_ago(m, p, "ago_ms", tried->at);
    wr_pack_end(p);
}

static enum wr_reason reason_of_punch(const struct wr_dcutr_report *r)
{
    switch (r->outcome) {
    case WR_DCUTR_PUNCHED:
        return WR_REASON_PUNCHED;
    case WR_DCUTR_REVERSED:
    case WR_DCUTR_MET:
        return WR_REASON_CONNECTED;
    case WR_DCUTR_NO_ADDRESS:
    case WR_DCUTR_NOTHING_TO_DIAL:
        return WR_REASON_PUNCH_NO_ADDRESS;
    case WR_DCUTR_UNSUPPORTED:
        return WR_REASON_PUNCH_UNSUPPORTED;
    case WR_DCUTR_NO_ANSWER:
        return WR_REASON_PUNCH_BROKEN;
    case WR_DCUTR_HOPELESS:
        return WR_REASON_PUNCH_HOPELESS;
    case WR_DCUTR_FAILED:
    case WR_DCUTR_OUTCOMES:
        break;
    }
    return WR_REASON_PUNCH_FAILED;
}

static void pack_punch(const struct wr_methods *m, struct wr_pack *p, const struct wr_dcutr_report *r)
{
    wr_pack_map(p, NULL);
    wr_pack_text(p, "path", "punched");
    pack_reason(p, reason_of_punch(r));
    wr_pack_u64(p, "attempt", r->attempt);
    wr_pack_bool(p, "initiator", r->initiator);
    wr_pack_text(p, "trick", wr_plan_trick_name(r->trick));
    if (r->rtt)
        wr_pack_double(p, "relay_rtt_ms", wr_methods_ms(r->rtt));
    wr_pack_double(p, "took_ms", wr_methods_ms(r->took));
    wr_methods_pack_ago(m, p, "ago_ms", r->at);
    wr_pack_array(p, "addrs");
    for (size_t i = 0; i < r->count; i++)
        wr_methods_pack_maddr(p, NULL, wr_maddr_bytes(&r->tries[i].addr));
    wr_pack_end(p);
    wr_pack_end(p);
}

static void pack_punches(const struct wr_methods *m, struct wr_pack *p, const struct wr_peerid *peer)
{
    struct wr_dcutr_report *reports = wr_alloc_array(WR_DCUTR_REPORTS, sizeof(*reports));
    size_t count = m->o.dcutr && reports ? wr_dcutr_reports(m->o.dcutr, peer, reports, WR_DCUTR_REPORTS) : 0;
    for (size_t i = 0; i < count; i++)
        pack_punch(m, p, &reports[i]);
    wr_free(reports);
}

static enum wr_reason path_reason(const char *path)
{
    if (strcmp(path, "relayed") == 0)
        return WR_REASON_RELAYED;
    return strcmp(path, "lan") == 0 ? WR_REASON_LAN : WR_REASON_DIRECT;
}

/* err: of the dial that was just made, or not even begun; 0: none was needed. */
static void explain(struct wr_methods *m, struct wr_call *call, const struct wr_peerid *peer, int err)
{
    struct wr_pack *p = wr_call_result(call);
    const struct wr_conn *conn = wr_swarm_conn(m->o.swarm, peer);
    struct wr_dial_report *tried = wr_alloc_array(TRIED_MAX, sizeof(*tried));
    size_t count = tried ? wr_swarm_dial_report(m->o.swarm, peer, tried, TRIED_MAX) : 0;
    if (conn) {
        wr_methods_pack_conn(m, p, conn);
        pack_reason(p, path_reason(wr_methods_path(m, conn)));
    } else {
        wr_methods_pack_id(p, "peer", peer);
        wr_pack_text(p, "path", "none");
        pack_reason(p, wr_methods_sum_up(m, err, tried, count));
    }
    pack_trying(m, p, peer);
    wr_pack_array(p, "tried");
    pack_punches(m, p, peer);
    for (size_t i = 0; i < count; i++)
        pack_tried(m, p, &tried[i]);
    wr_pack_end(p);
    wr_time next = m->o.dcutr ? wr_dcutr_next_at(m->o.dcutr, peer) : 0;
    if (next > wr_env_now(m->env))
        wr_pack_u64(p, "punch_again_ms", (uint64_t)((next - wr_env_now(m->env)) / WR_MSEC));
    wr_free(tried);
    wr_call_done(call);
}

static void on_why_cancel(void *arg)
{
    struct why *op = arg;
    wr_connect_cancel(op->request);
    wr_timer_stop(op->m->env, &op->timer);
    wr_free(op);
}

static void on_why_waits(struct wr_timer *timer)
{
    struct why *op = wr_list_entry(timer, struct why, timer);
    struct wr_pack *p = wr_call_progress(op->call);
    if (p) {
        pack_trying(op->m, p, &op->peer);
        wr_call_progress_send(op->call);
    }
    wr_timer_start(op->m->env, timer, wr_env_now(op->m->env) + TELL_EVERY, on_why_waits);
}

static void on_why_dialled(void *arg, int err, struct wr_conn *conn)
{
    struct why *op = arg;
    (void)conn;
    wr_timer_stop(op->m->env, &op->timer);
    explain(op->m, op->call, &op->peer, err);
    wr_free(op);
}

static void on_why(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target;
    if (!wr_methods_peer_target(call, params, &target))
        return;
    if (wr_swarm_conn(m->o.swarm, &target.peer)) {
        explain(m, call, &target.peer, 0);
        return;
    }
    struct why *op = wr_alloc(sizeof(*op));
    if (!op) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return;
    }
    *op = (struct why){.m = m, .call = call, .peer = target.peer};
    int err = wr_methods_reach(m, &target, on_why_dialled, op, &op->request);
    if (err) {
        wr_free(op);
        explain(m, call, &target.peer, err);
        return;
    }
    wr_timer_start(m->env, &op->timer, wr_env_now(m->env) + TELL_EVERY, on_why_waits);
    wr_call_defer(call, on_why_cancel, op);
}

/* ---- check: what stands between us and the world */

static void look_at_links(const struct wr_methods *m, struct wr_diagnose_input *in)
{
    const struct wr_policy *policy = wr_swarm_policy(m->o.swarm);
    for (size_t i = 0; i < policy->link_count; i++) {
        const struct wr_ip *ip = &policy->links[i].ip;
        enum wr_ip_class class = wr_ip_classify(ip);
        bool public = wr_policy_is_public(policy, ip);
        in->online |= !policy->links[i].loopback && class != WR_IP_LINK_LOCAL && class != WR_IP_LOOPBACK;
        in->public4 |= public && ip->family == 4;
        in->global6 |= public && ip->family == 6;
    }
}

/* To be freed; NULL: none. */
static struct wr_portmap_finding *findings(const struct wr_methods *m, size_t *count)
{
    struct wr_portmap_finding *all = m->o.portmap ? wr_alloc_array(WR_PORTMAP_FINDINGS_MAX, sizeof(*all)) : NULL;
    *count = all ? wr_portmap_findings(m->o.portmap, all, WR_PORTMAP_FINDINGS_MAX) : 0;
    return all;
}

/* What the routers said, as far as it decides something. */
static void look_at_routers(const struct wr_methods *m, struct wr_diagnose_input *in)
{
    size_t count;
    struct wr_portmap_finding *all = findings(m, &count);
    bool asking = false, refused = false;
    for (size_t i = 0; i < count; i++) {
        const struct wr_portmap_finding *f = &all[i];
        asking |= f->reason == WR_PORTMAP_ASKING;
        refused |= f->reason == WR_PORTMAP_REFUSED || f->reason == WR_PORTMAP_RESOURCES;
        in->carrier |= f->reason == WR_PORTMAP_CARRIER;
        /* A router that knows no public address while we are seen at one is not the last. */
        in->nested |= f->reason == WR_PORTMAP_DOUBLE || f->reason == WR_PORTMAP_NESTED ||
                      (f->reason == WR_PORTMAP_NO_NETWORK && in->nat.external.family);
        if (f->port && f->reason == WR_PORTMAP_OK && f->gateway.family == 4) {
            in->mapping = WR_DIAGNOSE_MAPPING_MADE;
            in->mapped = f->external.ip;
        }
    }
    if (m->o.portmap && in->mapping != WR_DIAGNOSE_MAPPING_MADE)
        in->mapping = refused                ? WR_DIAGNOSE_MAPPING_REFUSED
                      : asking || count == 0 ? WR_DIAGNOSE_MAPPING_LEARNING
                                             : WR_DIAGNOSE_MAPPING_NONE;
    wr_free(all);
}

/* By this family, beyond this machine. */
static bool listens(const struct wr_addrbook *book, unsigned family)
{
    for (size_t i = 0; i < book->count; i++) {
        struct wr_addr at;
        if (book->of[i].source == WR_ADDR_LISTEN && wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) &&
            at.ip.family == family && wr_ip_classify(&at.ip) != WR_IP_LOOPBACK)
            return true;
    }
    return false;
}

/* What relays said to us, where we ask them. */
static void look_at_relays(const struct wr_methods *m, struct wr_diagnose_input *in)
{
    struct wr_maddr owned[WR_RELAY_AUTO_OWNED_MAX];
    struct wr_relay_client_stats s;
    const struct wr_relaying *r = m->o.relaying;
    if (!r || (!in->relay_wanted && wr_relay_auto_owned_list(r->ours, owned, WR_RELAY_AUTO_OWNED_MAX) == 0))
        return;
    wr_relay_client_stats(wr_relay_auto_client(r->ours), &s);
    in->relay_full = s.last_status == WR_RELAY_FULL;
    in->relay_refused = s.last_status == WR_RELAY_REFUSED || s.last_status == WR_RELAY_DENIED;
}

void wr_methods_evidence(const struct wr_methods *m, struct wr_diagnose_input *in)
{
    struct wr_swarm *sw = m->o.swarm;
    const struct wr_addrbook *book = wr_swarm_addrbook(sw);
    struct wr_addr twin;
    *in = (struct wr_diagnose_input){
        .reach4 = wr_swarm_reachability(sw, 4),
        .reach6 = wr_swarm_reachability(sw, 6),
        .nat = *wr_swarm_nat(sw),
        .udp_blocked = wr_swarm_udp_blocked(sw),
        .clock_wrong = m->o.state && wr_state_clock_suspect(m->o.state),
        .twin = wr_swarm_twin(sw, &twin),
        .no_peers = wr_swarm_conn_count(sw) == 0,
        .port_in_use = m->o.port_in_use,
    };
    look_at_links(m, in);
    look_at_routers(m, in);
    if (m->o.dcutr) {
        struct wr_dcutr_stats punches;
        wr_dcutr_stats(m->o.dcutr, &punches);
        in->punched = punches.outcomes[WR_DCUTR_PUNCHED] + punches.outcomes[WR_DCUTR_REVERSED] +
                      punches.outcomes[WR_DCUTR_MET];
        in->punch_failed = punches.outcomes[WR_DCUTR_FAILED];
    }
    in->relay_wanted = in->reach4 != WR_REACH_PUBLIC && wr_swarm_reachability(sw, 0) == WR_REACH_PRIVATE;
    look_at_relays(m, in);
    for (size_t i = 0; i < book->count; i++)
        in->relayed |= book->of[i].source == WR_ADDR_RELAYED;
    in->only6 = listens(book, 6) && !listens(book, 4);
}

/* Of UDP: whatever is open, nothing is forgotten. */
static const char *lifetime_word(const struct wr_nat_kind *kind)
{
    if (kind->lifetime)
        return kind->lifetime_least ? "at-least" : "measured";
    return kind->mapping == WR_NAT_MAP_NONE && kind->filtering == WR_NAT_FILTER_EIF ? "none" : "learning";
}

static void pack_kind(const struct wr_methods *m, struct wr_pack *p, const char *key, const struct wr_nat_kind *kind)
{
    wr_methods_pack_kind(p, key, kind);
    if (strcmp(key, "udp") == 0)
        wr_pack_text(p, "lifetime", lifetime_word(kind));
    if (kind->last_port) {
        wr_methods_pack_ago(m, p, "last_port_ago_ms", kind->last_port_at);
        wr_pack_u64(p, "port_low", kind->port_lo);
        wr_pack_u64(p, "port_high", kind->port_hi);
    }
    wr_pack_end(p);
}

/* IPv6, once something is known of it. */
static void pack_kind6(struct wr_pack *p, const char *key, const struct wr_nat_kind *kind)
{
    if (kind->mapping == WR_NAT_MAP_UNKNOWN && kind->filtering == WR_NAT_FILTER_UNKNOWN)
        return;
    wr_pack_map(p, key);
    wr_methods_pack_ways(p, kind);
    wr_pack_u64(p, "samples", kind->samples);
    wr_pack_end(p);
}

/* What the routers promised, and why not. */
static void pack_mappings(const struct wr_methods *m, struct wr_pack *p)
{
    char text[WR_ADDR_TEXT];
    size_t count;
    struct wr_portmap_finding *all = findings(m, &count);
    wr_pack_array(p, "mappings");
    for (size_t i = 0; i < count; i++) {
        const struct wr_portmap_finding *f = &all[i];
        wr_pack_map(p, NULL);
        wr_pack_text(p, "protocol", wr_portmap_protocol_name(f->protocol));
        wr_methods_pack_ip(p, "gateway", &f->gateway);
        wr_pack_text(p, "code", wr_portmap_reason_name(f->reason));
        wr_pack_text(p, "text", wr_portmap_reason_text(f->reason));
        if (f->port) {
            wr_pack_u64(p, "port", f->port);
            wr_pack_text(p, "transport", f->udp ? "udp" : "tcp");
        }
        if (f->external.ip.family) {
            wr_addr_print(&f->external, text);
            wr_pack_text(p, "external", text);
            wr_pack_u64(p, "left_ms", (uint64_t)(f->left / WR_MSEC));
        }
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_free(all);
}

static void check(const struct wr_methods *m, struct wr_call *call)
{
    struct wr_diagnose_input in;
    struct wr_findings found;
    wr_methods_evidence(m, &in);
    wr_diagnose(&in, &found);
    struct wr_pack *p = wr_call_result(call);
    pack_reason(p, found.of[0]);
    wr_pack_array(p, "findings");
    for (size_t i = 1; i < found.count; i++) {
        wr_pack_map(p, NULL);
        pack_reason(p, found.of[i]);
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_pack_text(p, "reachable4", wr_reachability_name(in.reach4));
    wr_pack_text(p, "reachable6", wr_reachability_name(in.reach6));
    if (in.nat.external.family)
        wr_methods_pack_ip(p, "external", &in.nat.external);
    wr_pack_text(p, "layers", wr_diagnose_layers_name(wr_diagnose_layers(&in)));
    pack_kind(m, p, "udp", &in.nat.udp);
    pack_kind(m, p, "tcp", &in.nat.tcp);
    pack_kind6(p, "udp6", &in.nat.udp6);
    pack_kind6(p, "tcp6", &in.nat.tcp6);
    pack_mappings(m, p);
    wr_methods_pack_addresses(m, p);
    wr_call_done(call);
}

/* A check that waits until the mapping's lifetime is known. */
struct full_check {
    const struct wr_methods *m;
    struct wr_call *call;
    struct wr_autonat_measure measure;
};

static void on_measured(struct wr_autonat_measure *measure)
{
    struct full_check *full = wr_list_entry(measure, struct full_check, measure);
    check(full->m, full->call);
    wr_free(full);
}

static void on_check_cancel(void *arg)
{
    struct full_check *full = arg;
    wr_autonat_measure_cancel(&full->measure);
    wr_free(full);
}

static void on_check(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    bool wanted = wr_params_bool(params, "full", false);
    if (wr_call_refuse(call, params))
        return;
    if (!wanted || !m->o.autonat) {
        check(m, call);
        return;
    }
    struct full_check *full = wr_alloc(sizeof(*full));
    if (!full) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return;
    }
    *full = (struct full_check){.m = m, .call = call, .measure.on_done = on_measured};
    wr_autonat_client_measure(m->o.autonat, &full->measure);
    wr_call_defer(call, on_check_cancel, full);
}

/* ---- life */

int wr_methods_why(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {{"why", on_why}, {"check", on_check}, {NULL, NULL}};
    return wr_methods_register(m, list);
}
