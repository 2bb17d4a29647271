/* Commands about connections: connect, disconnect, peers, identify, wrongid, key, counters, gc. */
#include "peer.h"

#include <string.h>

/* ---- connect, wrongid ------------------------------------------------------------------------------- */

struct connecting {
    struct command *command;
    struct wr_connect *request;
    struct wr_peerid peer;
    bool wrong_id;
};

static void connecting_timeout(struct command *c)
{
    struct connecting *k = c->state;
    wr_connect_cancel(k->request);
    wr_free(k);
}

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct connecting *k = arg;
    struct command *c = k->command;
    bool wrong_id = k->wrong_id;
    wr_free(k);
    if (wrong_id && err == 0)
        command_fail(c, "the wrong peer id was accepted");
    else if (wrong_id)
        command_ok(c, json_pack("{s:b,s:b,s:s}", "refused", 1, "mismatch", err == WR_EPEERID, "error",
                                wr_err_text(err)));
    else if (err != 0)
        command_fail(c, "connect: %s", wr_err_text(err));
    else
        command_ok(c, json_pack("{s:o,s:f}", "peer", json_peer(&conn->peer), "ms", command_ms(c)));
}

static void cmd_connect(struct command *c, bool wrong_id)
{
    struct wr_maddr addr;
    struct wr_peerid peer;
    if (wr_maddr_parse(arg_text(c, "addr"), &addr) != 0 || !wr_maddr_peer(wr_maddr_bytes(&addr), &peer)) {
        command_fail(c, "'addr' is no address with /p2p/ID");
        return;
    }
    if (wr_swarm_conn(c->host->swarm, &peer)) {
        command_ok(c, json_pack("{s:o,s:f,s:b}", "peer", json_peer(&peer), "ms", 0.0, "already", 1));
        return;
    }
    struct connecting *k = wr_alloc(sizeof(*k));
    *k = (struct connecting){.command = c, .peer = peer, .wrong_id = wrong_id};
    c->state = k;
    c->on_timeout = connecting_timeout;
    int rc = wr_swarm_connect(c->host->swarm, &peer, &addr, 1, WR_ORIGIN_OWNER, 0, on_connect, k,
                              &k->request);
    if (rc != 0) {
        wr_free(k);
        command_fail(c, "connect: %s", wr_err_text(rc));
    }
}

static void cmd_disconnect(struct command *c)
{
    struct wr_peerid peer;
    if (!arg_peer(c, &peer))
        return;
    if (!wr_swarm_conn(c->host->swarm, &peer)) {
        command_ok(c, json_pack("{s:i}", "closed", 0));
        return;
    }
    c->state = NULL;
    wr_list_append(&c->host->waiting, &c->node);    /* answered by the event */
    wr_swarm_disconnect(c->host->swarm, &peer, WR_CONN_OK);
}

/* ---- peers ------------------------------------------------------------------------------------------- */

static void list_one(struct wr_conn *conn, void *arg)
{
    const struct wr_env *env = conn->ctx->env;
    struct wr_maddr remote;
    wr_conn_remote(conn, &remote);
    int64_t opened = wr_env_unix(env) - (wr_env_now(env) - conn->opened_at);
    json_array_append_new(arg, json_pack("{s:o,s:o,s:s,s:b,s:b,s:o}", "id", json_peer(&conn->peer), "addr",
                                         json_maddr(wr_maddr_bytes(&remote)), "dir",
                                         conn->outbound ? "out" : "in", "relayed", conn->circuit != NULL,
                                         "limited", conn->limited, "opened", json_ms(opened)));
}

static void cmd_peers(struct command *c)
{
    json_t *list = json_array();
    wr_swarm_each(c->host->swarm, list_one, list);
    command_ok(c, json_pack("{s:o}", "peers", list));
}

/* ---- identify ---------------------------------------------------------------------------------------- */

static json_t *observed_of(struct host *h, const struct wr_conn *conn)
{
    struct wr_candidate seen[16];
    size_t count = wr_identify_candidates(h->identify, seen, 16);
    for (size_t i = 0; i < count; i++) {
        struct wr_maddr ma;
        if (wr_addr_equal(&seen[i].local.addr, &conn->local) && !seen[i].local.udp &&
            wr_maddr_from_addr(&seen[i].external.addr, false, &ma) == 0)
            return json_maddr(wr_maddr_bytes(&ma));
    }
    return json_null();
}

static json_t *text_or_null(const struct wr_interned *text)
{
    return text ? json_stringn((const char *)text->bytes, strnlen((const char *)text->bytes, text->len))
                : json_null();
}

static void answer_identify(struct command *c, struct wr_conn *conn)
{
    const struct wr_peer *p = wr_peerstore_find(wr_swarm_peerstore(c->host->swarm), &conn->peer);
    json_t *protocols = json_array(), *addrs = json_array(), *record = json_array();
    size_t cursor = 0;
    for (const char *name; (name = wr_peer_protocol(p, &cursor));)
        json_array_append_new(protocols, json_string(name));
    for (size_t i = 0; i < p->addr_count; i++) {
        struct wr_bytes addr = wr_peer_addr_bytes(&p->addrs[i]);
        json_array_append_new(addrs, json_maddr(addr));
        if (p->addrs[i].certified)
            json_array_append_new(record, json_maddr(addr));
    }
    command_ok(c, json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:I}", "agent", text_or_null(p->agent),
                            "protocolVersion", text_or_null(p->protocol_version), "protocols", protocols,
                            "listenAddrs", addrs, "observedAddr", observed_of(c->host, conn), "publicKey",
                            json_hex(wr_conn_pubkey(conn)), "signedRecord", p->record_seq ? "verified" : "absent", "recordAddrs", record,
                            "recordSeq", (json_int_t)p->record_seq));
}

static void cmd_identify(struct command *c)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    if (conn->identified)
        answer_identify(c, conn);
    else
        wr_list_append(&c->host->waiting, &c->node);
}

void conn_on_event(struct host *h, const struct wr_swarm_event *event)
{
    if (event->type == WR_SWARM_OPENED)
        h->counters.conns_opened++;
    if (event->type == WR_SWARM_CLOSED)
        h->counters.conns_closed++;
    if (event->type != WR_SWARM_IDENTIFIED && event->type != WR_SWARM_DISCONNECTED)
        return;
    wr_list_each(it, &h->waiting)
    {
        struct command *c = wr_list_entry(it, struct command, node);
        struct wr_peerid peer;
        bool identify = strcmp(arg_text(c, "cmd"), "identify") == 0;
        if (wr_peerid_parse(arg_text(c, "peer"), &peer) != 0 || !wr_peerid_equal(&peer, event->peer))
            continue;
        if (event->type == WR_SWARM_DISCONNECTED && identify)
            command_fail(c, "the connection closed before identify finished");
        else if (event->type == WR_SWARM_DISCONNECTED)
            command_ok(c, json_pack("{s:b}", "closed", 1));
        else if (identify)
            answer_identify(c, event->conn);
    }
}

/* ---- the host ----------------------------------------------------------------------------------------- */

static void cmd_key(struct command *c)
{
    struct wr_buf key;
    wr_buf_init(&key, WR_PUBKEY_MAX);
    wr_key_encode_public(&c->host->key, &key);
    command_ok(c, json_pack("{s:o,s:o,s:s}", "id", json_peer(wr_swarm_self(c->host->swarm)), "publicKey",
                            json_hex(wr_buf_bytes(&key)), "type", "ed25519"));
    wr_buf_clear(&key);
}

static void cmd_counters(struct command *c)
{
    const struct counters *k = &c->host->counters;
    command_ok(c, json_pack("{s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "counters",
                            "connsOpened", (json_int_t)k->conns_opened, "connsClosed",
                            (json_int_t)k->conns_closed, "echo", (json_int_t)k->echo, "sink",
                            (json_int_t)k->sink, "source", (json_int_t)k->source, "reset",
                            (json_int_t)k->reset, "perf", (json_int_t)k->perf, "resetsSeen",
                            (json_int_t)k->resets_seen, "resetEofs", (json_int_t)k->reset_eofs,
                            "handlerErrors", (json_int_t)k->handler_errors, "bytesIn",
                            (json_int_t)k->bytes_in, "bytesOut", (json_int_t)k->bytes_out));
}

static void cmd_gc(struct command *c)
{
    char text[256];
    long rss = 0, anon = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(text, sizeof(text), f)) {
        if (strncmp(text, "VmRSS:", 6) == 0)
            rss = atol(text + 6);
        if (strncmp(text, "RssAnon:", 8) == 0)
            anon = atol(text + 8);
    }
    if (f)
        fclose(f);
    command_ok(c, json_pack("{s:I,s:I}", "rssKiB", (json_int_t)rss, "anonKiB", (json_int_t)anon));
}

bool command_conn(struct command *c, const char *name)
{
    if (strcmp(name, "connect") == 0)
        cmd_connect(c, false);
    else if (strcmp(name, "wrongid") == 0)
        cmd_connect(c, true);
    else if (strcmp(name, "disconnect") == 0)
        cmd_disconnect(c);
    else if (strcmp(name, "peers") == 0)
        cmd_peers(c);
    else if (strcmp(name, "identify") == 0)
        cmd_identify(c);
    else if (strcmp(name, "key") == 0)
        cmd_key(c);
    else if (strcmp(name, "counters") == 0)
        cmd_counters(c);
    else if (strcmp(name, "gc") == 0)
        cmd_gc(c);
    else
        return false;
    return true;
}
