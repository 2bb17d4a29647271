/* How the world reaches us: nat, addrs, announce, known, punches, and the flags behind them. */
#include "peer.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "dcutr/dcutr.h"

#include <string.h>

#define PUNCHES_MAX 64    /* reports kept */

static const char *const verdicts[] = {"unknown", "reachable", "unreachable"};
static const char *const reaches[] = {"unknown", "public", "private"};

/* ---- what the flags start -------------------------------------------------------------------------- */

static void on_report(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *r)
{
    struct host *h = arg;
    bool good = r->outcome == WR_DCUTR_PUNCHED || r->outcome == WR_DCUTR_REVERSED || r->outcome == WR_DCUTR_MET;
    json_t *addrs = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(addrs, json_maddr(wr_maddr_bytes(&r->tries[i].addr)));
    json_t *report = json_pack("{s:o,s:s,s:b,s:o,s:i,s:s,s:b,s:o,s:o,s:o}", "peer", json_peer(peer), "what",
                               wr_dcutr_outcome_name(r->outcome), "ok", good, "error",
                               r->err ? json_string(wr_err_text(r->err)) : json_null(), "attempt",
                               (int)r->attempt, "trick", wr_plan_trick_name(r->trick), "initiator", r->initiator,
                               "rtt", json_ms(r->rtt), "ms",
                               json_ms(r->took), "addrs", addrs);
    if (json_array_size(h->punches) >= PUNCHES_MAX)
        json_array_remove(h->punches, 0);
    json_array_append_new(h->punches, report);
}

/* The owner says how we are reached; nobody asks then. */
static void declare(struct host *h, const char *reach)
{
    struct wr_maddr listening[8];
    bool public = strcmp(reach, "public") == 0;
    wr_swarm_set_reachability(h->swarm, 4, public ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
    size_t count = public ? wr_swarm_listening(h->swarm, listening, 8) : 0;
    for (size_t i = 0; i < count; i++)
        wr_addrbook_judge(wr_swarm_addrbook(h->swarm), wr_maddr_bytes(&listening[i]), WR_ADDR_REACHABLE,
                          wr_env_now(h->peer->env));
    wr_swarm_addrs_changed(h->swarm);
}

static bool announce(struct host *h, const char *text)
{
    struct wr_maddr addr;
    if (wr_maddr_parse(text, &addr) != 0)
        return false;
    wr_addrbook_put(wr_swarm_addrbook(h->swarm), wr_maddr_bytes(&addr), WR_ADDR_CONFIGURED,
                    wr_env_now(h->peer->env));
    wr_swarm_addrs_changed(h->swarm);
    return true;
}

bool nat_start(struct host *h, const struct nat_flags *flags)
{
    h->punches = json_array();
    if (strstr(flags->autonat, "v1") || strstr(flags->autonat, "v2")) {
        h->autonat_server = wr_autonat_server_create(h->swarm);
        if (!h->autonat_server)
            return false;
        if (strcmp(flags->reach, "auto") == 0 && !(h->autonat_client = wr_autonat_client_create(h->swarm)))
            return false;
    }
    struct wr_dcutr_options dcutr = {.swarm = h->swarm, .on_report = on_report, .arg = h};
    if (flags->dcutr && !(h->dcutr = wr_dcutr_create(&dcutr)))
        return false;
    if (strcmp(flags->reach, "public") == 0 || strcmp(flags->reach, "private") == 0)
        declare(h, flags->reach);
    else if (flags->relay && !*flags->reach)
        declare(h, "public");
    for (size_t i = 0; i < flags->announce.count; i++)
        if (!announce(h, flags->announce.of[i]))
            return false;
    return true;
}

/* ---- commands -------------------------------------------------------------------------------------- */

static void cmd_nat(struct command *c)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->host->swarm);
    json_t *addrs = json_array();
    for (size_t i = 0; i < book->count; i++)
        json_array_append_new(addrs, json_pack("{s:o,s:s}", "addr", json_maddr(wr_maddr_bytes(&book->of[i].addr)),
                                               "verdict", verdicts[book->of[i].verdict]));
    const struct wr_nat *nat = wr_swarm_nat(c->host->swarm);
    command_ok(c, json_pack("{s:s,s:o,s:{s:b,s:b}}", "reachability",
                            reaches[wr_swarm_reachability(c->host->swarm, 4)], "addrs", addrs, "counts", "tcp",
                            nat->tcp.alloc == WR_NAT_ALLOC_SEQUENTIAL, "quic",
                            nat->udp.alloc == WR_NAT_ALLOC_SEQUENTIAL));
}

static void cmd_addrs(struct command *c)
{
    struct wr_maddr addrs[WR_ADDRBOOK_MAX];
    size_t count = wr_addrbook_announce(wr_swarm_addrbook(c->host->swarm), NULL, addrs, WR_ADDRBOOK_MAX);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_maddr(wr_maddr_bytes(&addrs[i])));
    command_ok(c, json_pack("{s:o}", "addrs", list));
}

static void cmd_announce(struct command *c)
{
    if (announce(c->host, arg_text(c, "addr")))
        command_ok(c, json_pack("{s:f}", "ms", command_ms(c)));
    else
        command_fail(c, "'addr' is no address");
}

static void cmd_known(struct command *c)
{
    struct wr_peerid id;
    if (!arg_peer(c, &id))
        return;
    const struct wr_peer *p = wr_peerstore_find(wr_swarm_peerstore(c->host->swarm), &id);
    json_t *addrs = json_array(), *protocols = json_array();
    for (size_t i = 0; p && i < p->addr_count; i++)
        json_array_append_new(addrs, json_maddr(wr_peer_addr_bytes(&p->addrs[i])));
    size_t cursor = 0;
    for (const char *name; p && (name = wr_peer_protocol(p, &cursor));)
        json_array_append_new(protocols, json_string(name));
    command_ok(c, json_pack("{s:o,s:o}", "addrs", addrs, "protocols", protocols));
}

static void cmd_punches(struct command *c)
{
    command_ok(c, json_pack("{s:O}", "punches", c->host->punches));
}

bool command_nat(struct command *c, const char *name)
{
    if (strcmp(name, "nat") == 0)
        cmd_nat(c);
    else if (strcmp(name, "addrs") == 0)
        cmd_addrs(c);
    else if (strcmp(name, "announce") == 0)
        cmd_announce(c);
    else if (strcmp(name, "known") == 0)
        cmd_known(c);
    else if (strcmp(name, "punches") == 0)
        cmd_punches(c);
    else
        return false;
    return true;
}
