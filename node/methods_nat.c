/* What status and metrics say of being reached: verdicts, and the NAT in front of us. */
#include "node/methods_impl.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "identify/identify.h"
#include "node/diagnose.h"
#include "node/prom.h"

/* ---- status */

static void pack_address(const struct wr_methods *m, struct wr_pack *p, const struct wr_own_addr *own)
{
    static const char *const sources[] = {"listen",  "observed",   "mapped",
                                          "relayed", "configured", "candidate"};
    struct wr_verdict_tally tally;
    wr_pack_map(p, NULL);
    wr_methods_pack_maddr(p, "addr", wr_maddr_bytes(&own->addr));
    wr_pack_text(p, "source", sources[own->source]);
    wr_pack_text(p, "verdict", wr_addr_verdict_name(own->verdict));
    wr_methods_pack_ago(m, p, "since_ms", own->since);
    if (m->o.autonat && wr_autonat_client_tally(m->o.autonat, wr_maddr_bytes(&own->addr), &tally)) {
        wr_pack_u64(p, "confirmed_by", tally.reached);
        wr_pack_u64(p, "half_confirmed_by", tally.half);
        wr_pack_u64(p, "refuted_by", tally.failed);
    }
    wr_pack_end(p);
}

void wr_methods_pack_addresses(const struct wr_methods *m, struct wr_pack *p)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(m->o.swarm);
    wr_pack_array(p, "addresses");
    for (size_t i = 0; i < book->count; i++)
        pack_address(m, p, &book->of[i]);
    wr_pack_end(p);
}

#define OBSERVED_SHOWN 16 /* places; ours: behind a NAT with a port per destination there is one for every peer */

static void pack_waist(struct wr_pack *p, const char *name, const struct wr_waist *waist)
{
    struct wr_maddr addr = {.len = 0};
    char text[WR_MADDR_TEXT];
    (void)wr_maddr_from_addr(&waist->addr, waist->udp, &addr);
    wr_pack_text(p, name, wr_maddr_print(wr_maddr_bytes(&addr), text, sizeof(text)));
}

/* What peers say of each socket of ours, most witnesses first. */
static void pack_observed(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_candidate seen[OBSERVED_SHOWN];
    size_t count = m->o.identify ? wr_identify_candidates(m->o.identify, seen, OBSERVED_SHOWN) : 0;
    wr_pack_array(p, "observed");
    for (size_t i = 0; i < count; i++) {
        wr_pack_map(p, NULL);
        pack_waist(p, "listen", &seen[i].local);
        pack_waist(p, "seen", &seen[i].external);
        wr_pack_u64(p, "networks", seen[i].networks);
        wr_pack_u64(p, "of", seen[i].all);
        wr_pack_bool(p, "enough", seen[i].active);
        wr_pack_end(p);
    }
    wr_pack_end(p);
}

/* One word and what stands behind it. */
static const char *reachable(const struct wr_methods *m)
{
    if (wr_addrbook_public(wr_swarm_addrbook(m->o.swarm)))
        return "yes";
    return wr_swarm_reachability(m->o.swarm, 0) == WR_REACH_PRIVATE ? "no" : "unknown";
}

void wr_methods_pack_ways(struct wr_pack *p, const struct wr_nat_kind *kind)
{
    static const char *const mappings[] = {"unknown", "none", "endpoint-independent", "address-dependent",
                                           "address-and-port-dependent"};
    static const char *const filterings[] = {"unknown", "endpoint-independent", "address-dependent",
                                             "address-and-port-dependent"};
    wr_pack_text(p, "mapping", mappings[kind->mapping]);
    wr_pack_text(p, "filtering", filterings[kind->filtering]);
}

void wr_methods_pack_kind(struct wr_pack *p, const char *key, const struct wr_nat_kind *kind)
{
    static const char *const allocs[] = {"unknown", "preserving", "sequential", "block", "random"};
    static const char *const answers[] = {"unknown", "no", "yes"};
    wr_pack_map(p, key);
    wr_methods_pack_ways(p, kind);
    wr_pack_text(p, "allocation", allocs[kind->alloc]);
    if (kind->alloc == WR_NAT_ALLOC_SEQUENTIAL)
        wr_pack_i64(p, "step", kind->step);
    wr_pack_text(p, "pooling", answers[kind->pooling]);
    wr_pack_text(p, "hairpin", answers[kind->hairpin]);
    if (kind->lifetime)
        wr_pack_u64(p, "lifetime_ms", (uint64_t)(kind->lifetime / WR_MSEC));
    if (kind->last_port)
        wr_pack_u64(p, "last_port", kind->last_port);
    wr_pack_u64(p, "samples", kind->samples);
}

/* The other fields have other names here than in `check`, and keep them. */
static void pack_kind(const struct wr_methods *m, struct wr_pack *p, const char *key, const struct wr_nat_kind *kind)
{
    wr_methods_pack_kind(p, key, kind);
    if (kind->last_port) {
        wr_methods_pack_ago(m, p, "last_port_ms", kind->last_port_at);
        wr_pack_u64(p, "port_lo", kind->port_lo);
        wr_pack_u64(p, "port_hi", kind->port_hi);
    }
    if (kind->lifetime)
        wr_pack_bool(p, "lifetime_least", kind->lifetime_least);
    wr_pack_end(p);
}

void wr_methods_pack_nat(const struct wr_methods *m, struct wr_pack *p)
{
    static const char *const reach[] = {"unknown", "yes", "no"};
    const struct wr_nat *nat = wr_swarm_nat(m->o.swarm);
    struct wr_diagnose_input evidence;
    wr_pack_text(p, "reachable", reachable(m));
    wr_pack_text(p, "reachable4", reach[wr_swarm_reachability(m->o.swarm, 4)]);
    wr_pack_text(p, "reachable6", reach[wr_swarm_reachability(m->o.swarm, 6)]);
    wr_methods_pack_addresses(m, p);
    pack_observed(m, p);
    wr_pack_map(p, "nat");
    if (nat->external.family)
        wr_methods_pack_ip(p, "external", &nat->external);
    wr_methods_evidence(m, &evidence);
    wr_pack_text(p, "layers", wr_diagnose_layers_name(wr_diagnose_layers(&evidence)));
    pack_kind(m, p, "udp", &nat->udp);
    pack_kind(m, p, "tcp", &nat->tcp);
    wr_pack_end(p);
    if (m->o.autonat)
        wr_pack_u64(p, "autonat_servers", wr_autonat_client_servers(m->o.autonat));
}

/* ---- metrics */

static void client_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_autonat_client_stats s;
    wr_autonat_client_stats(m->o.autonat, &s);
    const struct wr_prom_series asked[] = {{"2", s.asked - s.asked_v1}, {"1", s.asked_v1}, {NULL, 0}};
    const struct wr_prom_series answers[] = {{"reached", s.reached}, {"failed", s.failed},
                                     {"refused", s.refused}, {"broken", s.broken},
                                     {"unproved", s.unproved}, {NULL, 0}};
    const struct wr_prom_series backs[] = {
        {"ours", s.dial_backs}, {"stranger", s.strangers}, {"stray", s.strays}, {NULL, 0}};
    wr_prom_family(out, "autonat_asked_total", "counter", "Questions to AutoNAT servers.", "version", asked);
    wr_prom_family(out, "autonat_answers_total", "counter", "What they said.", "answer", answers);
    wr_prom_family(out, "autonat_dial_backs_total", "counter", "Dial-backs that came in.", "kind", backs);
}

static void server_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_autonat_server_stats s;
    wr_autonat_server_stats(m->o.autonat_server, &s);
    const struct wr_prom_series served[] = {{"request", s.requests},     {"request_v1", s.requests_v1},
                                    {"rejected", s.rejected},    {"refused", s.refused},
                                    {"dialled", s.dialled},      {"reached", s.reached},
                                    {"delegated", s.delegated},  {"for_others", s.for_others},
                                    {"broken", s.broken}, {NULL, 0}};
    wr_prom_family(out, "autonat_served_total", "counter", "What others asked of our AutoNAT server.", "kind", served);
}

void wr_methods_nat_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    const unsigned families[] = {4, 6};
    wr_prom_head(out, "reachability", "gauge", "1 public, -1 private, 0 not known.");
    for (size_t i = 0; i < 2; i++) {
        enum wr_reachability r = wr_swarm_reachability(m->o.swarm, families[i]);
        wr_buf_printf(out, "warren_reachability{family=\"%u\"} %d\n", families[i],
                      r == WR_REACH_PUBLIC    ? 1
                      : r == WR_REACH_PRIVATE ? -1
                                              : 0);
    }
    if (m->o.autonat)
        client_metrics(m, out);
    if (m->o.autonat_server)
        server_metrics(m, out);
}
