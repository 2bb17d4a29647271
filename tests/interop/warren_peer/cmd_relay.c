/* Relays: the flags that lend ours and use others', and the commands reserve and check. */
#include "peer.h"

#include "relay/relay_client.h"
#include "relay/relay_server.h"

#include <string.h>

/* ---- what the flags start -------------------------------------------------------------------------- */

static bool limit_from(struct host *h, struct wr_relay_server_options *o, const char *name, size_t len, long value)
{
    if (len == 8 && strncmp(name, "duration", len) == 0)
        o->limit.duration = (uint32_t)value;
    else if (len == 4 && strncmp(name, "data", len) == 0)
        o->limit.data = (uint64_t)value;
    else if (len == 3 && strncmp(name, "ttl", len) == 0)
        o->ttl = (uint32_t)value;
    else if (len == 12 && strncmp(name, "reservations", len) == 0)
        h->limits.of[WR_LIMIT_RELAY_RESERVATIONS].max = (uint64_t)value;
    else if (len == 7 && strncmp(name, "per-net", len) == 0)
        o->guests_per_net = (unsigned)value;
    else if (len == 4 && strncmp(name, "rate", len) == 0)
        o->rate_each = o->rate_total = (uint64_t)value;
    else if (len == 8 && strncmp(name, "circuits", len) == 0)
        h->limits.of[WR_LIMIT_RELAY_CIRCUITS].max = (uint64_t)value;
    else
        return false;
    return true;
}

static bool lend(struct host *h, const char *limits)
{
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, h->swarm);
    o.mode = WR_RELAY_ON;
    for (const char *p = limits; *p;) {
        size_t name = strcspn(p, "=");
        char *end = NULL;
        if (p[name] != '=' || !limit_from(h, &o, p, name, strtol(p + name + 1, &end, 10)))
            return false;
        p = *end == ',' ? end + 1 : end;
    }
    h->relay_server = wr_relay_server_create(&o);
    return h->relay_server != NULL;
}

/* ---- reserve --------------------------------------------------------------------------------------- */

struct reserving {
    struct command *command;
    struct wr_connect *request;
    struct wr_peerid relay;
};

static void forget(struct command *c)
{
    struct reserving *r = c->state;
    wr_list_remove(&c->node);
    wr_connect_cancel(r->request);
    wr_free(r);
}

static json_t *limit_or_null(const struct wr_relay_hold *hold, uint64_t value)
{
    return hold->limited ? json_integer((json_int_t)value) : json_null();
}

static void answer(struct command *c, const struct wr_relay_hold *hold)
{
    json_t *addrs = json_array();
    for (size_t i = 0; i < hold->addr_count; i++)
        json_array_append_new(addrs, json_maddr(wr_maddr_bytes(&hold->addrs[i])));
    double left = (double)(hold->expires_at - wr_env_now(c->host->peer->env)) / 1e9;
    command_ok(c, json_pack("{s:o,s:f,s:i,s:f,s:o,s:o,s:o,s:s}", "relay", json_peer(&hold->relay), "ms",
                            command_ms(c), "status", WR_RELAY_OK, "expire", (double)time(NULL) + left,
                            "limitSeconds", limit_or_null(hold, hold->limit.duration), "limitBytes",
                            limit_or_null(hold, hold->limit.data), "addrs", addrs, "voucher",
                            hold->vouched ? "verified" : "absent"));
}

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct host *h = arg;
    for (struct wr_list *it = h->reserving.next, *next; it != &h->reserving; it = next) {
        next = it->next;
        struct command *c = wr_list_entry(it, struct command, node);
        struct reserving *r = c->state;
        if (!wr_peerid_equal(&r->relay, relay))
            continue;
        forget(c);
        if (err == 0)
            answer(c, wr_relay_client_held(h->relay_client, relay));
        else
            command_fail_with(c, status ? json_pack("{s:i}", "status", (int)status) : json_object(),
                              "reserve: %s, status %u", wr_err_text(err), status);
    }
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct command *c = arg;
    struct reserving *r = c->state;
    (void)conn;
    r->request = NULL;
    if (err == 0)
        err = wr_relay_client_hold(c->host->relay_client, &r->relay);
    if (err == 0)
        return;
    forget(c);
    command_fail(c, "reserve: %s", wr_err_text(err));
}

static void cmd_reserve(struct command *c)
{
    struct wr_maddr addr;
    struct reserving *r = wr_alloc(sizeof(*r));
    *r = (struct reserving){.command = c};
    c->state = r;
    c->on_timeout = forget;
    wr_list_append(&c->host->reserving, &c->node);
    int err = WR_EINVAL;
    if (c->host->relay_client && wr_maddr_parse(arg_text(c, "addr"), &addr) == 0 &&
        wr_maddr_peer(wr_maddr_bytes(&addr), &r->relay))
        err = wr_swarm_connect(c->host->swarm, &r->relay, &addr, 1, WR_ORIGIN_OWNER, WR_CONNECT_DIRECT, on_connected, c,
                               &r->request);
    if (err == 0)
        return;
    forget(c);
    command_fail(c, "reserve: %s", wr_err_text(err));
}

/* ---- check ----------------------------------------------------------------------------------------- */

static void cmd_check(struct command *c)
{
    struct wr_peerid relay;
    struct wr_relay_client *rc = c->host->relay_client;
    if (!arg_peer(c, &relay))
        return;
    const struct wr_relay_hold *hold = rc ? wr_relay_client_held(rc, &relay) : NULL;
    if (!hold) {
        command_fail(c, "check: no place is held there");
        return;
    }
    if (!hold->proven_at || arg_u64(c, "again", 0))
        wr_relay_client_check(rc, &relay);
    double ms = (double)(wr_env_now(c->host->peer->env) - hold->proven_at) / 1e6;
    command_ok(c, json_pack("{s:o}", "proven", hold->proven_at ? json_real(ms) : json_null()));
}

bool relay_start(struct host *h, const struct nat_flags *flags)
{
    struct wr_relay_client_options client = {.swarm = h->swarm, .on_hold = on_hold, .arg = h};
    wr_list_init(&h->reserving);
    if (flags->relay && !lend(h, flags->relay_limits))
        return false;
    if (flags->circuit || flags->dcutr)
        h->relay_client = wr_relay_client_create(&client);
    return h->relay_client || !(flags->circuit || flags->dcutr);
}

bool command_relay(struct command *c, const char *name)
{
    if (strcmp(name, "reserve") == 0)
        cmd_reserve(c);
    else if (strcmp(name, "check") == 0)
        cmd_check(c);
    else
        return false;
    return true;
}
