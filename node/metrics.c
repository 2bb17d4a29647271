/* What the services count, as Prometheus text: the page and the method `metrics`. */
#include "node/methods_impl.h"

#include "identify/identify.h"
#include "node/prom.h"

#include <stdio.h>

static void limits(const struct wr_methods *m, struct wr_buf *out)
{
    const struct wr_limits *l = wr_swarm_limits(m->o.swarm);
    struct wr_prom_series used[WR_LIMIT_COUNT + 1] = {{0}}, max[WR_LIMIT_COUNT + 1] = {{0}},
                          refused[WR_LIMIT_COUNT + 1] = {{0}};
    size_t counted = 0;
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++) {
        const char *name = wr_limit_name((enum wr_limit)i);
        if (wr_limit_counted((enum wr_limit)i))
            used[counted++] = (struct wr_prom_series){name, l->of[i].used};
        max[i] = (struct wr_prom_series){name, l->of[i].max};
        refused[i] = (struct wr_prom_series){name, l->of[i].refused};
    }
    wr_prom_family(out, "limit_used", "gauge", "What is in use under each ceiling.", "limit", used);
    wr_prom_family(out, "limit_max", "gauge", "The ceilings.", "limit", max);
    wr_prom_family(out, "limit_refused_total", "counter", "What a ceiling refused.", "limit", refused);
}

/* The number below each bound, as a histogram's buckets are read. */
static void rtts(struct wr_buf *out, const struct wr_totals *t)
{
    uint64_t below = 0;
    wr_prom_head(out, "connections_rtt", "gauge",
                 "Open connections whose smoothed round trip is at most le seconds.");
    for (size_t i = 0; i <= WR_RTT_BOUNDS; i++) {
        char bound[16] = "+Inf";
        below += t->rtts[i];
        if (i < WR_RTT_BOUNDS)
            (void)snprintf(bound, sizeof(bound), "%g", (double)wr_methods_rtt_bounds[i] / (double)WR_SEC);
        wr_prom_sample(out, "connections_rtt", "le", bound, below);
    }
}

static void connections(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_totals t;
    wr_methods_totals(m, &t);
    const struct wr_prom_series paths[] = {
        {"direct", t.direct}, {"relayed", t.relayed}, {"lan", t.lan}, {NULL, 0}};
    const struct wr_prom_series opened[] = {
        {"direct", m->opened_direct}, {"relayed", m->opened_relayed}, {"lan", m->opened_lan}, {NULL, 0}};
    const struct wr_prom_series ways[] = {{"in", t.inbound}, {"out", t.outbound}, {NULL, 0}};
    const struct wr_prom_series security[] = {{"noise", t.noise}, {"tls", t.tls}, {NULL, 0}};
    const struct wr_prom_series carriers[] = {{"tcp", t.tcp}, {"quic", t.quic}, {NULL, 0}};
    const struct wr_prom_series bytes[] = {{"in", t.bytes_in}, {"out", t.bytes_out}, {NULL, 0}};
    wr_prom_family(out, "peers", "gauge", "Connected peers by the path to them.", "path", paths);
    wr_prom_family(out, "connections_opened_total", "counter", "Connections that came about, by the path.", "path",
                   opened);
    wr_prom_family(out, "connections", "gauge", "Open connections by who dialled.", "direction", ways);
    wr_prom_family(out, "connections_security", "gauge", "Open connections by what encrypts them.", "protocol",
                   security);
    wr_prom_family(out, "connections_transport", "gauge", "Open connections by what carries them.", "protocol",
                   carriers);
    rtts(out, &t);
    wr_prom_one(out, "cwnd_bytes", "gauge", "Congestion windows, all connections together.", t.cwnd);
    wr_prom_one(out, "quic_loss_events_total", "counter", "How often losses made a QUIC sender slow down.",
                t.loss_events);
    wr_prom_one(out, "quic_migrations_total", "counter", "Changes of address of QUIC connections.", t.migrations);
    wr_prom_one(out, "streams", "gauge", "Open streams.", t.streams);
    wr_prom_family(out, "bytes_total", "counter", "Bytes on the wire.", "direction", bytes);
}

static void identify(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_identify_stats s;
    wr_identify_stats(m->o.identify, &s);
    const struct wr_prom_series kinds[] = {{"asked", s.asked},   {"answered", s.answered}, {"pushed", s.pushed},
                                           {"taken", s.taken},   {"failed", s.failed},     {"refused", s.refused},
                                           {NULL, 0}};
    wr_prom_family(out, "identify_total", "counter", "Identify exchanges.", "kind", kinds);
}

void wr_methods_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    const struct wr_prom_series version[] = {{WARREN_VERSION, 1}, {NULL, 0}};
    wr_prom_family(out, "info", "gauge", "The version that runs.", "version", version);
    wr_prom_one(out, "uptime_seconds", "gauge", "Time since the node started.",
                (uint64_t)((wr_env_now(m->env) - m->started_at) / WR_SEC));
    wr_prom_one(out, "control_clients", "gauge", "Clients of the control socket.", wr_control_clients(m->o.control));
    connections(m, out);
    limits(m, out);
    if (m->o.identify)
        identify(m, out);
    wr_methods_nat_metrics(m, out);
    if (m->o.dcutr)
        wr_methods_punch_metrics(m, out);
    if (m->o.relaying)
        wr_methods_relay_metrics(m, out);
    wr_methods_dht_metrics(m, out);
    if (!m->o.kv)
        return;
    wr_prom_one(out, "store_failed", "gauge", "1 when the last write to disk failed.", wr_kv_error(m->o.kv) != 0);
    wr_prom_one(out, "store_rebuilt_total", "counter", "Times the store was damaged and begun anew.",
                wr_kv_rebuilt(m->o.kv));
}
