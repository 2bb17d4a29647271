/* The status page: what a browser shows of the node. No script, nothing from elsewhere. */
#include "node/methods_impl.h"

#include <inttypes.h>
#include <string.h>

/* Peers choose their agent's name. */
static void escaped(struct wr_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"' || *text == '\'')
            wr_buf_printf(out, "&#%d;", *text);
        else
            wr_buf_put_u8(out, (uint8_t)*text);
    }
}

static void row(struct wr_buf *out, const char *name, const char *value)
{
    wr_buf_printf(out, "<tr><th>%s<td>", name);
    escaped(out, value);
    wr_buf_put_cstr(out, "\n");
}

struct listing {
    const struct wr_methods *m;
    struct wr_buf *out;
};

static void list_conn(struct wr_conn *c, void *arg)
{
    const struct listing *l = arg;
    const struct wr_peer *known;
    struct wr_maddr remote;
    char peer[WR_PEERID_TEXT], addr[WR_MADDR_TEXT];
    if (wr_swarm_conn(l->m->o.swarm, &c->peer) != c)
        return;
    known = wr_peerstore_find(wr_swarm_peerstore(l->m->o.swarm), &c->peer);
    wr_conn_remote(c, &remote);
    wr_buf_printf(l->out, "<tr><td>%s<td>%s<td>%s<td>%s<td>", wr_peerid_print(&c->peer, peer),
                  wr_methods_path(l->m, c), c->outbound ? "out" : "in",
                  wr_maddr_print(wr_maddr_bytes(&remote), addr, sizeof(addr)));
    escaped(l->out, known ? wr_peer_agent(known) : "");
    wr_buf_put_cstr(l->out, "\n");
}

static void status(const struct wr_methods *m, struct wr_buf *out)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(m->o.swarm);
    struct listing listing = {m, out};
    struct wr_totals totals;
    char peer[WR_PEERID_TEXT], addr[WR_MADDR_TEXT];
    wr_methods_totals(m, &totals);
    wr_buf_put_cstr(out,
                    "<!doctype html><meta charset=utf-8><title>warren</title>"
                    "<style>body{font:14px sans-serif;margin:2em}th{text-align:left}"
                    "td,th{padding:0 1em 0 0;vertical-align:top}</style><h1>warren</h1><table>\n");
    row(out, "peer", wr_peerid_print(wr_swarm_self(m->o.swarm), peer));
    row(out, "version", WARREN_VERSION);
    row(out, "network", wr_config_get(m->o.config, WR_CONFIG_NETWORK));
    wr_buf_printf(out, "<tr><th>up<td>%" PRId64 " s\n",
                  (wr_env_now(m->env) - m->started_at) / WR_SEC);
    wr_buf_printf(out, "<tr><th>peers<td>%zu (%zu direct, %zu relayed, %zu on the local network)\n",
                  totals.peers, totals.direct, totals.relayed, totals.lan);
    wr_buf_printf(out, "<tr><th>traffic<td>%" PRIu64 " bytes in, %" PRIu64 " bytes out\n",
                  totals.bytes_in, totals.bytes_out);
    for (size_t i = 0; i < book->count; i++)
        wr_buf_printf(out, "<tr><th>%s<td>%s, %s\n", i ? "" : "addresses",
                      wr_maddr_print(wr_maddr_bytes(&book->of[i].addr), addr, sizeof(addr)),
                      wr_addr_verdict_name(book->of[i].verdict));
    wr_buf_put_cstr(out, "</table><p><a href=/metrics>metrics</a><h2>peers</h2><table>\n");
    wr_swarm_each(m->o.swarm, list_conn, &listing);
    wr_buf_put_cstr(out, "</table>\n");
}

const char *wr_methods_page(void *arg, struct wr_bytes path, struct wr_buf *out)
{
    const struct wr_methods *m = arg;
    if (wr_bytes_equal(path, WR_BYTES_STR("/metrics"))) {
        wr_methods_metrics(m, out);
        return "text/plain; version=0.0.4; charset=utf-8";
    }
    if (wr_bytes_equal(path, WR_BYTES_STR("/"))) {
        status(m, out);
        return "text/html; charset=utf-8";
    }
    return NULL;
}
