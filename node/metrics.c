/* Prometheus text (exposition format 0.0.4) of what the services count. */
#include "node/methods_impl.h"

#include "identify/identify.h"

#include <inttypes.h>
#include <stdio.h>

static void head(struct wr_buf *out, const char *name, const char *type, const char *help)
{
    wr_buf_printf(out, "# HELP warren_%s %s\n# TYPE warren_%s %s\n", name, help, name, type);
}

static void value(struct wr_buf *out, const char *name, const char *type, const char *help,
                  uint64_t v)
{
    head(out, name, type, help);
    wr_buf_printf(out, "warren_%s %" PRIu64 "\n", name, v);
}

static void labelled(struct wr_buf *out, const char *name, const char *label, const char *text,
                     uint64_t v)
{
    wr_buf_printf(out, "warren_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, text, v);
}

static void limits(const struct wr_methods *m, struct wr_buf *out)
{
    const struct wr_limits *l = wr_swarm_limits(m->o.swarm);
    head(out, "limit_used", "gauge", "What is in use under each ceiling.");
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++)
        labelled(out, "limit_used", "limit", wr_limit_name((enum wr_limit)i), l->of[i].used);
    head(out, "limit_max", "gauge", "The ceilings.");
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++)
        labelled(out, "limit_max", "limit", wr_limit_name((enum wr_limit)i), l->of[i].max);
    head(out, "limit_refused_total", "counter", "What a ceiling refused.");
    for (unsigned i = 0; i < WR_LIMIT_COUNT; i++)
        labelled(out, "limit_refused_total", "limit", wr_limit_name((enum wr_limit)i),
                 l->of[i].refused);
}

/* The number below each bound, as a histogram's buckets are read. */
static void rtts(struct wr_buf *out, const struct wr_totals *t)
{
    uint64_t below = 0;
    head(out, "connections_rtt", "gauge", "Open connections whose smoothed round trip is at most le seconds.");
    for (size_t i = 0; i <= WR_RTT_BOUNDS; i++) {
        char bound[16] = "+Inf";
        below += t->rtts[i];
        if (i < WR_RTT_BOUNDS)
            (void)snprintf(bound, sizeof(bound), "%g", (double)wr_methods_rtt_bounds[i] / (double)WR_SEC);
        labelled(out, "connections_rtt", "le", bound, below);
    }
}

static void connections(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_totals t;
    wr_methods_totals(m, &t);
    head(out, "peers", "gauge", "Connected peers by the path to them.");
    labelled(out, "peers", "path", "direct", t.direct);
    labelled(out, "peers", "path", "relayed", t.relayed);
    labelled(out, "peers", "path", "lan", t.lan);
    head(out, "connections", "gauge", "Open connections by who dialled.");
    labelled(out, "connections", "direction", "in", t.inbound);
    labelled(out, "connections", "direction", "out", t.outbound);
    head(out, "connections_security", "gauge", "Open connections by what encrypts them.");
    labelled(out, "connections_security", "protocol", "noise", t.noise);
    labelled(out, "connections_security", "protocol", "tls", t.tls);
    head(out, "connections_transport", "gauge", "Open connections by what carries them.");
    labelled(out, "connections_transport", "protocol", "tcp", t.tcp);
    labelled(out, "connections_transport", "protocol", "quic", t.quic);
    rtts(out, &t);
    value(out, "cwnd_bytes", "gauge", "Congestion windows, all connections together.", t.cwnd);
    value(out, "quic_loss_events_total", "counter", "How often losses made a QUIC sender slow down.",
          t.loss_events);
    value(out, "quic_migrations_total", "counter", "Changes of address of QUIC connections.", t.migrations);
    value(out, "streams", "gauge", "Open streams.", t.streams);
    head(out, "bytes_total", "counter", "Bytes on the wire.");
    labelled(out, "bytes_total", "direction", "in", t.bytes_in);
    labelled(out, "bytes_total", "direction", "out", t.bytes_out);
}

static void identify(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_identify_stats s;
    wr_identify_stats(m->o.identify, &s);
    head(out, "identify_total", "counter", "Identify exchanges.");
    labelled(out, "identify_total", "kind", "asked", s.asked);
    labelled(out, "identify_total", "kind", "answered", s.answered);
    labelled(out, "identify_total", "kind", "pushed", s.pushed);
    labelled(out, "identify_total", "kind", "taken", s.taken);
    labelled(out, "identify_total", "kind", "failed", s.failed);
    labelled(out, "identify_total", "kind", "refused", s.refused);
}

void wr_methods_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    head(out, "info", "gauge", "The version that runs.");
    wr_buf_printf(out, "warren_info{version=\"%s\"} 1\n", WARREN_VERSION);
    value(out, "uptime_seconds", "gauge", "Time since the node started.",
          (uint64_t)((wr_env_now(m->env) - m->started_at) / WR_SEC));
    value(out, "control_clients", "gauge", "Clients of the control socket.",
          wr_control_clients(m->o.control));
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
    value(out, "store_failed", "gauge", "1 when the last write to disk failed.",
          wr_kv_error(m->o.kv) != 0);
    value(out, "store_rebuilt_total", "counter", "Times the store was damaged and begun anew.",
          wr_kv_rebuilt(m->o.kv));
}
