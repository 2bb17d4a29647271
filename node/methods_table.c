/* What status, metrics and the method dht.table say of the DHT. */
#include "node/methods_impl.h"

#include "dht/dht.h"
#include "dht/kbucket.h"
#include "node/prom.h"

static void pack_table(const struct wr_methods *m, struct wr_pack *p, unsigned which)
{
    const struct wr_kbucket *table = wr_dht_table(m->o.dht[which]);
    const struct wr_kentry *entry;
    size_t cursor = 0;
    while ((entry = wr_kbucket_next(table, &cursor))) {
        wr_pack_map(p, NULL);
        wr_methods_pack_id(p, "peer", &entry->id);
        wr_pack_text(p, "table", which ? "lan" : "wan");
        wr_pack_u64(p, "bucket", wr_kad_cpl(table->self, entry->key));
        wr_pack_bool(p, "connected", wr_swarm_conn(m->o.swarm, &entry->id) != NULL);
        if (entry->useful_at)
            wr_methods_pack_ago(m, p, "useful_ms", entry->useful_at);
        wr_pack_end(p);
    }
}

static void on_table(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    (void)params;
    if (wr_methods_dht_off(m, call))
        return;
    struct wr_pack *p = wr_call_result(call);
    wr_pack_array(p, "peers");
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (m->o.dht[i])
            pack_table(m, p, i);
    wr_pack_end(p);
    wr_call_done(call);
}

void wr_methods_pack_dht(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_dht_stats sum = {0};
    bool serving = false;
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
        struct wr_dht_stats stats;
        if (!m->o.dht[i])
            continue;
        wr_dht_stats(m->o.dht[i], &stats);
        sum.table += stats.table;
        sum.searches += stats.searches;
        sum.providers += stats.providers;
        sum.values += stats.values;
        sum.provided += stats.provided;
        if (stats.network_size > sum.network_size)
            sum.network_size = stats.network_size;
        serving |= i == 0 && wr_dht_serving(m->o.dht[i]);
    }
    wr_pack_map(p, "dht");
    wr_pack_text(p, "mode", !m->o.dht[0] ? "off" : serving ? "server" : "client");
    wr_pack_u64(p, "table", sum.table);
    wr_pack_u64(p, "queries", sum.searches);
    wr_pack_u64(p, "providers", sum.providers);
    wr_pack_u64(p, "values", sum.values);
    wr_pack_u64(p, "provided", sum.provided);
    if (sum.network_size)
        wr_pack_u64(p, "network_size", sum.network_size);
    wr_pack_end(p);
}

bool wr_methods_dht_ready(const struct wr_methods *m)
{
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
        struct wr_dht_stats stats;
        if (!m->o.dht[i])
            continue;
        wr_dht_stats(m->o.dht[i], &stats);
        if (stats.table)
            return true;
    }
    return !m->o.dht[0];
}

static const struct {
    const char *name, *type, *help;
    size_t offset;
    bool wide; /* uint64_t, else size_t */
} dht_metrics[] = {
#define METRIC(name, type, help, field, wide)                                                      \
    {                                                                                              \
        name, type, help, offsetof(struct wr_dht_stats, field), wide                               \
    }
    METRIC("dht_table", "gauge", "Peers of the routing table.", table, false),
    METRIC("dht_providers", "gauge", "Provider records kept for others.", providers, false),
    METRIC("dht_values", "gauge", "Values kept for others.", values, false),
    METRIC("dht_provided", "gauge", "Keys that this node provides.", provided, false),
    METRIC("dht_searches", "gauge", "Searches under way.", searches, false),
    METRIC("dht_network_size", "gauge", "Estimate of all servers.", network_size, true),
    METRIC("dht_asked_total", "counter", "Questions to others.", asked, true),
    METRIC("dht_answered_total", "counter", "Of these, answered.", answered, true),
    METRIC("dht_failed_total", "counter", "Of these, failed.", failed, true),
    METRIC("dht_served_total", "counter", "Questions of others answered.", served, true),
    METRIC("dht_refused_total", "counter", "Questions of others refused.", refused, true),
#undef METRIC
};

void wr_methods_dht_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    struct wr_dht_stats stats[WR_METHODS_DHTS];
    if (!m->o.dht[0])
        return;
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (m->o.dht[i])
            wr_dht_stats(m->o.dht[i], &stats[i]);
    for (size_t k = 0; k < sizeof(dht_metrics) / sizeof(dht_metrics[0]); k++) {
        wr_prom_head(out, dht_metrics[k].name, dht_metrics[k].type, dht_metrics[k].help);
        for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
            if (!m->o.dht[i])
                continue;
            const char *at = (const char *)&stats[i] + dht_metrics[k].offset;
            uint64_t v = dht_metrics[k].wide ? *(const uint64_t *)(const void *)at
                                             : *(const size_t *)(const void *)at;
            wr_prom_sample(out, dht_metrics[k].name, "table", i ? "lan" : "wan", v);
        }
    }
}

int wr_methods_table(struct wr_methods *m)
{
    return wr_control_method(m->o.control, "dht.table", on_table, m);
}
