/* Methods about one peer: connect, disconnect, ping, allow, block, rules. */
#include "node/methods_impl.h"

#include "identify/ping.h"

#include <stdio.h>
#include <string.h>

/* ---- connect */

#define TAKEN_WAIT (2 * WR_SEC) /* for a peer that says nothing of itself; ours */

/* That a peer proved who it is does not mean that it takes the connection: it may speak no muxer of ours, or want no
 * connection with us, and says so a round trip later. So its answer to identify is waited for. */
struct connect {
    struct wr_list node; /* methods' connects, while conn is not NULL */
    struct wr_methods *m;
    struct wr_call *call;
    struct wr_connect *request; /* until it is reached */
    struct wr_peerid peer; /* len 0: not known before */
    struct wr_conn *conn;
    struct wr_timer timer;
    wr_time started_at, reached_at;
};

static void connect_free(struct connect *op)
{
    if (op->request)
        wr_connect_cancel(op->request);
    wr_timer_stop(op->m->env, &op->timer);
    wr_list_remove(&op->node);
    wr_free(op);
}

static void on_connect_cancel(void *arg)
{
    connect_free(arg);
}

static void connect_done(struct connect *op)
{
    struct wr_pack *p = wr_call_result(op->call);
    wr_methods_pack_conn(op->m, p, op->conn);
    wr_methods_pack_limits(p, op->conn);
    wr_pack_text(p, "direction", op->conn->outbound ? "out" : "in");
    wr_pack_double(p, "took_ms", wr_methods_ms(op->reached_at - op->started_at));
    wr_call_done(op->call);
    connect_free(op);
}

static void on_taken(struct wr_timer *timer)
{
    connect_done(wr_list_entry(timer, struct connect, timer));
}

static void connect_ended(struct connect *op, int err)
{
    char peer[WR_PEERID_TEXT];
    if (err == WR_EUNSUPPORTED)
        wr_call_fail(op->call, err, "%s was reached, but does not speak yamux, by which several streams share a connection",
                     wr_peerid_print(&op->peer, peer));
    else if (!wr_methods_hung_up(op->m, op->call, &op->peer, err, op->reached_at))
        wr_methods_dial_failed(op->m, op->call, &op->peer, err);
    connect_free(op);
}

static struct connect *waits_for(const struct wr_methods *m, const struct wr_conn *conn)
{
    for (struct wr_list *it = m->connects.next; it != &m->connects; it = it->next)
        if (wr_list_entry(it, struct connect, node)->conn == conn)
            return wr_list_entry(it, struct connect, node);
    return NULL;
}

void wr_methods_peer_event(struct wr_methods *m, const struct wr_swarm_event *event)
{
    if (event->type != WR_SWARM_IDENTIFIED && event->type != WR_SWARM_CLOSED)
        return;
    /* An answer that finds its client gone takes the client's other calls with it. */
    for (struct connect *op; (op = waits_for(m, event->conn));) {
        /* Of two that were dialled at once one goes. */
        struct wr_conn *left = event->type == WR_SWARM_CLOSED ? wr_swarm_conn(m->o.swarm, &op->peer) : op->conn;
        op->conn = left;
        if (left)
            connect_done(op);
        else
            connect_ended(op, event->err);
    }
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct connect *op = arg;
    op->request = NULL;
    if (err) {
        wr_methods_dial_failed(op->m, op->call, &op->peer, err);
        connect_free(op);
        return;
    }
    op->conn = conn;
    op->peer = conn->peer;
    op->reached_at = wr_env_now(op->m->env);
    if (conn->identified || op->reached_at - conn->opened_at >= TAKEN_WAIT) {
        connect_done(op);
        return;
    }
    wr_list_append(&op->m->connects, &op->node);
    wr_timer_start(op->m->env, &op->timer, conn->opened_at + TAKEN_WAIT, on_taken);
}

static void on_connect(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target;
    if (!wr_methods_target(call, params, &target))
        return;
    struct connect *op = wr_alloc(sizeof(*op));
    if (!op) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return;
    }
    *op = (struct connect){
        .m = m, .call = call, .peer = target.peer, .started_at = wr_env_now(m->env)};
    wr_list_init(&op->node);
    int err = wr_methods_reach(m, &target, on_connected, op, &op->request);
    if (err) {
        wr_methods_dial_failed(m, call, &target.peer, err);
        connect_free(op);
        return;
    }
    wr_call_defer(call, on_connect_cancel, op);
}

/* ---- disconnect */

static void on_disconnect(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target;
    char peer[WR_PEERID_TEXT];
    if (!wr_methods_peer_target(call, params, &target))
        return;
    (void)wr_peerid_print(&target.peer, peer);
    if (!wr_swarm_conn(m->o.swarm, &target.peer)) {
        wr_call_fail(call, WR_ENOTFOUND, "not connected to %s; `warren peers` lists who is", peer);
        return;
    }
    wr_swarm_disconnect(m->o.swarm, &target.peer, WR_CONN_OK);
    wr_pack_text(wr_call_result(call), "peer", peer);
    wr_call_done(call);
}

/* ---- ping */

#define PING_COUNT_MAX 1000000 /* in one call; ours */

struct ping {
    struct wr_methods *m;
    struct wr_call *call;
    struct wr_connect *request; /* while connecting */
    struct wr_ping *ping;       /* then */
    struct wr_ping_options options;
    struct wr_peerid peer;
    wr_time connected_at; /* 0: not yet */
    uint64_t count; /* 0: until cancelled */
    uint64_t sent, received;
    wr_time rtt_min, rtt_max, rtt_sum;
    const char *path; /* of the last reply; static */
    int err;          /* of the last failure */
};

static void ping_free(struct ping *op)
{
    if (op->request)
        wr_connect_cancel(op->request);
    wr_ping_close(op->ping);
    wr_free(op);
}

static void on_ping_cancel(void *arg)
{
    ping_free(arg);
}

static void ping_finish(struct ping *op)
{
    char peer[WR_PEERID_TEXT];
    if (!op->received) {
        if (wr_methods_unspoken(op->m, &op->peer, op->err))
            wr_call_fail(op->call, op->err, "%s does not answer pings",
                         wr_peerid_print(&op->peer, peer));
        else if (op->err == WR_ETIMEOUT)
            wr_call_fail(op->call, op->err,
                         "no reply from %s in time; `warren connect` tells if it can "
                         "be reached at all",
                         wr_peerid_print(&op->peer, peer));
        else if (!wr_methods_hung_up(op->m, op->call, &op->peer, op->err, op->connected_at))
            wr_methods_dial_failed(op->m, op->call, &op->peer, op->err);
        ping_free(op);
        return;
    }
    struct wr_pack *p = wr_call_result(op->call);
    wr_methods_pack_id(p, "peer", &op->peer);
    wr_pack_u64(p, "sent", op->sent);
    wr_pack_u64(p, "received", op->received);
    wr_pack_double(p, "rtt_min_ms", wr_methods_ms(op->rtt_min));
    wr_pack_double(p, "rtt_avg_ms", wr_methods_ms(op->rtt_sum / (wr_time)op->received));
    wr_pack_double(p, "rtt_max_ms", wr_methods_ms(op->rtt_max));
    wr_pack_text(p, "path", op->path);
    wr_call_done(op->call);
    ping_free(op);
}

static void ping_count_reply(struct ping *op, wr_time rtt)
{
    if (!op->received || rtt < op->rtt_min)
        op->rtt_min = rtt;
    if (rtt > op->rtt_max)
        op->rtt_max = rtt;
    op->rtt_sum += rtt;
    op->received++;
}

static void ping_tell(struct ping *op, const struct wr_ping_reply *reply)
{
    struct wr_pack *p = wr_call_progress(op->call);
    if (!p)
        return;
    wr_pack_u64(p, "seq", op->sent);
    if (reply->conn)
        wr_methods_pack_conn(op->m, p, reply->conn);
    else
        wr_methods_pack_id(p, "peer", &op->peer);
    if (reply->err) {
        wr_methods_pack_error(p, reply->err);
    } else {
        wr_pack_double(p, "rtt_ms", wr_methods_ms(reply->rtt));
        const char *path = reply->conn ? wr_methods_path(op->m, reply->conn) : "direct";
        wr_pack_bool(p, "upgraded",
                     op->path && strcmp(op->path, "relayed") == 0 && strcmp(path, "relayed") != 0);
    }
    wr_call_progress_send(op->call);
}

static void on_ping_reply(void *arg, const struct wr_ping_reply *reply)
{
    struct ping *op = arg;
    op->sent++;
    if (!reply->err)
        ping_count_reply(op, reply->rtt);
    else
        op->err = reply->err;
    ping_tell(op, reply);
    if (!reply->err)
        op->path = reply->conn ? wr_methods_path(op->m, reply->conn) : "direct";
    /* What is not a lost reply stays as it is: the peer cannot be reached, or does not speak it. */
    bool hopeless = reply->err && reply->err != WR_ETIMEOUT && !op->received;
    if (hopeless || (op->count && op->sent >= op->count))
        ping_finish(op);
}

static void on_ping_connected(void *arg, int err, struct wr_conn *conn)
{
    struct ping *op = arg;
    (void)conn;
    op->request = NULL;
    if (!err) {
        op->connected_at = wr_env_now(op->m->env);
        op->ping = wr_ping_open(op->m->o.swarm, &op->peer, &op->options);
        if (op->ping)
            return;
        err = WR_ELIMIT;
    }
    op->err = err;
    ping_finish(op);
}

static void on_ping(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target;
    uint64_t count = wr_params_u64(params, "count", 1, PING_COUNT_MAX);
    uint64_t every = wr_params_u64(params, "every_ms", 1000, 3600000);
    uint64_t patience = wr_params_u64(params, "reply_timeout_ms", 0, WR_CONTROL_TIMEOUT_MAX);
    if (!wr_methods_peer_target(call, params, &target))
        return;
    struct ping *op = wr_alloc(sizeof(*op));
    int err = WR_ELIMIT;
    if (op) {
        *op = (struct ping){.m = m, .call = call, .peer = target.peer, .count = count};
        op->options = (struct wr_ping_options){
            .every = (wr_time)(every ? every : 1) * WR_MSEC,
            .timeout = (wr_time)patience * WR_MSEC,
            .on_reply = on_ping_reply,
            .arg = op,
        };
        err = wr_methods_reach(m, &target, on_ping_connected, op, &op->request);
    }
    if (err) {
        wr_free(op);
        wr_methods_dial_failed(m, call, &target.peer, err);
        return;
    }
    wr_call_defer(call, on_ping_cancel, op);
}

/* ---- allow, block: the rules are kept here as they were written, and in the store */

#define RULE_TEXT 128 /* bytes of a peer id or a CIDR and NUL */

struct rule {
    struct wr_list node;
    bool block;
    char what[RULE_TEXT];
};

static struct rule *find_rule(struct wr_methods *m, bool block, const char *what)
{
    wr_list_each(node, &m->rules)
    {
        struct rule *rule = wr_list_entry(node, struct rule, node);
        if (rule->block == block && strcmp(rule->what, what) == 0)
            return rule;
    }
    return NULL;
}

static struct wr_bytes rule_key(char out[static RULE_TEXT + 16], bool block, const char *what)
{
    int len = snprintf(out, RULE_TEXT + 16, "rule/%s/%s", block ? "block" : "allow", what);
    return WR_BYTES(out, len > 0 ? (size_t)len : 0);
}

static bool add_rule(struct wr_methods *m, bool block, const char *what)
{
    if (find_rule(m, block, what))
        return true;
    struct rule *rule = m->rule_count < WR_METHODS_RULES_MAX ? wr_alloc(sizeof(*rule)) : NULL;
    if (!rule)
        return false;
    rule->block = block;
    (void)snprintf(rule->what, sizeof(rule->what), "%s", what);
    wr_list_append(&m->rules, &rule->node);
    m->rule_count++;
    return true;
}

static void drop_rule(struct wr_methods *m, struct rule *rule)
{
    wr_list_remove(&rule->node);
    m->rule_count--;
    wr_free(rule);
}

static void change_rule(struct wr_methods *m, struct wr_call *call, struct wr_params *params,
                        bool block)
{
    char what[RULE_TEXT], key[RULE_TEXT + 16];
    const char *list = block ? "block" : "allow";
    (void)wr_params_text(params, "what", what, sizeof(what));
    bool remove = wr_params_bool(params, "remove", false);
    if (wr_call_refuse(call, params))
        return;
    int err = wr_policy_rule(wr_swarm_policy(m->o.swarm), block, what, !remove);
    if (err == WR_EINVAL) {
        wr_call_fail(call, err, "\"%s\" is neither a peer id nor a network such as 203.0.113.0/24",
                     what);
        return;
    }
    if (err == WR_ENOTFOUND) {
        wr_call_fail(call, err, "no such rule; `warren %s` lists them", list);
        return;
    }
    struct rule *rule = find_rule(m, block, what);
    if (!err && remove && rule)
        drop_rule(m, rule);
    else if (!err && !remove && !add_rule(m, block, what))
        err = WR_ELIMIT;
    if (err) {
        wr_call_fail(call, err, NULL);
        return;
    }
    wr_swarm_apply_policy(m->o.swarm);
    struct wr_pack *p = wr_call_result(call);
    wr_pack_text(p, "list", list);
    wr_pack_text(p, "what", what);
    wr_pack_bool(p, "removed", remove);
    wr_methods_keep(m, call, rule_key(key, block, what), !remove);
}

static void on_allow(void *arg, struct wr_call *call, struct wr_params *params)
{
    change_rule(arg, call, params, false);
}

static void on_block(void *arg, struct wr_call *call, struct wr_params *params)
{
    change_rule(arg, call, params, true);
}

static void on_rules(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char list[16];
    (void)wr_params_text(params, "list", list, sizeof(list));
    if (wr_call_refuse(call, params))
        return;
    struct wr_pack *p = wr_call_result(call);
    wr_pack_array(p, "rules");
    wr_list_each(node, &m->rules)
    {
        const struct rule *rule = wr_list_entry(node, struct rule, node);
        const char *name = rule->block ? "block" : "allow";
        if (*list && strcmp(list, name) != 0)
            continue;
        wr_pack_map(p, NULL);
        wr_pack_text(p, "list", name);
        wr_pack_text(p, "what", rule->what);
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_call_done(call);
}

static bool load_rule(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct wr_methods *m = arg;
    char what[RULE_TEXT];
    const struct wr_bytes prefix = WR_BYTES_STR("rule/block/"); /* as long as the other */
    (void)value;
    if (key.len <= prefix.len || key.len - prefix.len >= sizeof(what))
        return true;
    bool block = wr_bytes_starts(key, prefix);
    memcpy(what, key.ptr + prefix.len, key.len - prefix.len);
    what[key.len - prefix.len] = '\0';
    if (wr_policy_rule(wr_swarm_policy(m->o.swarm), block, what, true) == 0)
        (void)add_rule(m, block, what);
    return true;
}

int wr_methods_peer(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {
        {"connect", on_connect}, {"disconnect", on_disconnect}, {"ping", on_ping}, {"allow", on_allow},
        {"block", on_block},     {"rules", on_rules},           {NULL, NULL},
    };
    if (m->o.kv)
        (void)wr_kv_scan(m->o.kv, WR_BYTES_STR("rule/"), WR_BYTES_NONE, load_rule, m);
    return wr_methods_register(m, list);
}

void wr_methods_peer_save(struct wr_methods *m)
{
    wr_list_each(node, &m->rules)
    {
        const struct rule *rule = wr_list_entry(node, struct rule, node);
        char key[RULE_TEXT + 16];
        int err = wr_kv_put(m->o.kv, rule_key(key, rule->block, rule->what), WR_BYTES_STR("1"));
        if (err)
            wr_log(wr_env_log(m->env), WR_LOG_WARN, "control", "rule not kept what=%s err=%s", rule->what,
                   wr_err_name(err));
    }
}

void wr_methods_peer_end(struct wr_methods *m)
{
    while (!wr_list_empty(&m->rules))
        drop_rule(m, wr_list_entry(m->rules.next, struct rule, node));
}
