/* Methods that carry bytes: open and accept hand streams over as descriptors; perf measures. */
#include "node/bridge.h"
#include "node/methods_impl.h"
#include "node/perf.h"

#include <string.h>
#include <unistd.h>

/* A protocol that clients answer. It stays registered while calls wait for its streams and while
 * streams of it are in clients' hands: withdrawing the name would reset them. */
struct served {
    struct wr_list node;
    struct wr_list calls; /* struct accept */
    size_t handed;        /* streams */
    bool limited;         /* also over circuits with limits */
    char name[WR_PROTOCOL_NAME_MAX + 1];
};

/* A stream in a client's hands. */
struct handed {
    struct wr_list node;
    struct wr_methods *m;
    struct wr_bridge *bridge;
    struct served *served; /* NULL: we opened it */
};

static void drop_served(struct wr_methods *m, struct served *v)
{
    if (v->handed || !wr_list_empty(&v->calls))
        return;
    wr_swarm_unhandle(m->o.swarm, v->name);
    wr_list_remove(&v->node);
    wr_free(v);
}

static void on_bridge_end(void *arg)
{
    struct handed *h = arg;
    wr_list_remove(&h->node);
    if (h->served) {
        h->served->handed--;
        drop_served(h->m, h->served);
    }
    wr_free(h);
}

/* Answers the call with the stream, or fails it and resets the stream. */
static void hand_over(struct wr_methods *m, struct wr_call *call, struct wr_stream *s,
                      struct served *served)
{
    struct handed *h = wr_alloc(sizeof(*h));
    int fd = -1;
    int err = h ? wr_bridge_create(m->env, s, on_bridge_end, h, &h->bridge, &fd) : WR_ELIMIT;
    if (err) {
        wr_free(h);
        wr_stream_reset(s, WR_STREAM_LIMIT);
        wr_call_fail(call, err, NULL);
        return;
    }
    h->m = m;
    h->served = served;
    if (served)
        served->handed++;
    wr_list_append(&m->bridges, &h->node);
    struct wr_pack *p = wr_call_result(call);
    wr_methods_pack_conn(m, p, wr_stream_conn(s));
    wr_methods_pack_limits(p, wr_stream_conn(s));
    wr_pack_text(p, "protocol", wr_stream_protocol(s));
    wr_call_done_fd(call, fd);
    (void)close(fd);
}

static bool protocol_param(struct wr_call *call, struct wr_params *params,
                           char out[static WR_PROTOCOL_NAME_MAX + 1])
{
    (void)wr_params_text(params, "protocol", out, WR_PROTOCOL_NAME_MAX + 1);
    if (wr_call_refuse(call, params))
        return false;
    if (out[0] == '/' && out[1])
        return true;
    wr_call_fail(call, WR_EINVAL, "\"%s\" is not a protocol name; /chat/1.0.0 is", out);
    return false;
}

/* ---- open */

struct open {
    struct wr_methods *m;
    struct wr_call *call;
    struct wr_connect *request; /* while connecting */
    struct wr_stream *stream;   /* then */
    wr_time connected_at;       /* 0: not yet */
    unsigned flags;             /* of wr_swarm_open_with */
    struct wr_peerid peer;
    char protocol[WR_PROTOCOL_NAME_MAX + 1];
    const char *offer[2];
};

static void on_open_cancel(void *arg)
{
    struct open *op = arg;
    if (op->request)
        wr_connect_cancel(op->request);
    else
        wr_stream_reset(op->stream, WR_STREAM_OK);
    wr_free(op);
}

static void on_opened(struct wr_stream *s, void *arg)
{
    struct open *op = arg;
    hand_over(op->m, op->call, s, NULL);
    wr_free(op);
}

static bool is_limited(const struct wr_methods *m, const struct wr_peerid *peer)
{
    const struct wr_conn *c = wr_swarm_conn(m->o.swarm, peer);
    return c && c->limited;
}

static void on_open_close(struct wr_stream *s, void *arg, int err)
{
    struct open *op = arg;
    char peer[WR_PEERID_TEXT];
    (void)s;
    if (wr_methods_unspoken(op->m, &op->peer, err))
        wr_call_fail(op->call, err, "%s does not speak %s%s", wr_peerid_print(&op->peer, peer), op->protocol,
                     is_limited(op->m, &op->peer)
                         ? ", or not through a relay with limits: who accepts it has to say limited, too"
                         : "");
    else if (err == WR_ELIMITED)
        wr_call_fail(op->call, err,
                     "%s is reached through a relay with limits only, and no direct connection came about: `warren why` "
                     "tells; a protocol that does with little can say limited",
                     wr_peerid_print(&op->peer, peer));
    else if (!wr_methods_hung_up(op->m, op->call, &op->peer, err ? err : WR_ECLOSED, op->connected_at))
        wr_methods_dial_failed(op->m, op->call, &op->peer, err ? err : WR_ECLOSED);
    wr_free(op);
}

static void on_open_connected(void *arg, int err, struct wr_conn *conn)
{
    static const struct wr_stream_ops ops = {.on_open = on_opened, .on_close = on_open_close};
    struct open *op = arg;
    (void)conn;
    op->request = NULL;
    if (!err) {
        op->connected_at = wr_env_now(op->m->env);
        op->stream = wr_swarm_open_with(op->m->o.swarm, &op->peer, op->flags, op->offer, &ops, op, &err);
        if (op->stream)
            return;
    }
    wr_methods_dial_failed(op->m, op->call, &op->peer, err);
    wr_free(op);
}

static void on_open(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char protocol[WR_PROTOCOL_NAME_MAX + 1];
    struct wr_target target;
    int err = WR_ELIMIT;
    bool limited = wr_params_bool(params, "limited", false);
    if (!protocol_param(call, params, protocol) || !wr_methods_peer_target(call, params, &target))
        return;
    struct open *op = wr_alloc(sizeof(*op));
    if (op) {
        op->m = m;
        op->call = call;
        op->peer = target.peer;
        op->flags = limited ? WR_OPEN_LIMITED : 0;
        memcpy(op->protocol, protocol, sizeof(protocol));
        op->offer[0] = op->protocol;
        err = wr_methods_reach(m, &target, on_open_connected, op, &op->request);
    }
    if (err) {
        wr_free(op);
        wr_methods_dial_failed(m, call, &target.peer, err);
        return;
    }
    wr_call_defer(call, on_open_cancel, op);
}

/* ---- accept: each call takes one stream */

struct accept {
    struct wr_list node; /* served->calls */
    struct wr_methods *m;
    struct wr_call *call;
    struct served *served;
};

static struct served *find_served(struct wr_methods *m, const char *name)
{
    wr_list_each(node, &m->served)
    {
        struct served *v = wr_list_entry(node, struct served, node);
        if (strcmp(v->name, name) == 0)
            return v;
    }
    return NULL;
}

static void on_accept_cancel(void *arg)
{
    struct accept *a = arg;
    wr_list_remove(&a->node);
    drop_served(a->m, a->served);
    wr_free(a);
}

static void on_accept_stream(struct wr_stream *s, void *arg)
{
    struct wr_methods *m = arg;
    struct served *v = find_served(m, wr_stream_protocol(s));
    struct wr_list *first = v ? wr_list_pop(&v->calls) : NULL;
    if (!first) { /* nobody waits just now */
        wr_stream_reset(s, WR_STREAM_RATE);
        return;
    }
    struct accept *a = wr_list_entry(first, struct accept, node);
    hand_over(m, a->call, s, v);
    drop_served(m, v); /* when that failed, nothing of it may be left */
    wr_free(a);
}

/* Finds or registers; NULL with the call failed. */
static struct served *get_served(struct wr_methods *m, struct wr_call *call, const char *name, bool limited)
{
    struct wr_protocol protocol = {
        .on_stream = on_accept_stream, .arg = m, .inbound_max = WR_CONTROL_CALLS_MAX, .limited = limited};
    struct served *v = find_served(m, name);
    if (v && v->limited != limited) {
        wr_call_fail(call, WR_EEXIST, "%s is accepted %s limited just now", name, v->limited ? "with" : "without");
        return NULL;
    }
    if (v)
        return v;
    v = wr_alloc(sizeof(*v));
    memcpy(protocol.name, name, strlen(name) + 1);
    int err = v ? wr_swarm_handle(m->o.swarm, &protocol) : WR_ELIMIT;
    if (err) {
        wr_free(v);
        if (err == WR_EEXIST)
            wr_call_fail(call, err, "the node itself answers %s", name);
        else
            wr_call_fail(call, err, NULL);
        return NULL;
    }
    memcpy(v->name, protocol.name, sizeof(v->name));
    v->limited = limited;
    wr_list_init(&v->calls);
    wr_list_append(&m->served, &v->node);
    return v;
}

static void on_accept(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char name[WR_PROTOCOL_NAME_MAX + 1];
    bool limited = wr_params_bool(params, "limited", false);
    if (!protocol_param(call, params, name))
        return;
    struct accept *a = wr_alloc(sizeof(*a));
    if (!a) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return;
    }
    a->served = get_served(m, call, name, limited);
    if (!a->served) {
        wr_free(a);
        return;
    }
    a->m = m;
    a->call = call;
    wr_list_append(&a->served->calls, &a->node);
    wr_call_defer(call, on_accept_cancel, a);
}

/* ---- perf */

struct measure {
    struct wr_methods *m;
    struct wr_call *call;
    struct wr_connect *request; /* while connecting */
    struct wr_perf_run *run;    /* then */
    wr_time connected_at;       /* 0: not yet */
    struct wr_perf_options options;
};

static void on_perf_cancel(void *arg)
{
    struct measure *op = arg;
    if (op->request)
        wr_connect_cancel(op->request);
    else
        wr_perf_cancel(op->run);
    wr_free(op);
}

static void pack_perf(struct wr_pack *p, const struct wr_perf_result *r)
{
    wr_pack_u64(p, "up_bytes", r->up);
    wr_pack_u64(p, "down_bytes", r->down);
    wr_pack_double(p, "up_seconds", (double)r->up_took / (double)WR_SEC);
    wr_pack_double(p, "down_seconds", (double)r->down_took / (double)WR_SEC);
}

static void on_perf_progress(void *arg, const struct wr_perf_result *r)
{
    struct measure *op = arg;
    struct wr_pack *p = wr_call_progress(op->call);
    if (!p)
        return;
    pack_perf(p, r);
    wr_call_progress_send(op->call);
}

static void on_perf_done(void *arg, int err, const struct wr_perf_result *r)
{
    struct measure *op = arg;
    char peer[WR_PEERID_TEXT];
    if (wr_methods_unspoken(op->m, &op->options.peer, err)) {
        wr_call_fail(op->call, err, "%s does not speak %s",
                     wr_peerid_print(&op->options.peer, peer), WR_PERF_NAME);
    } else if (err == WR_ERESET && r->down == 0 && wr_swarm_conn(op->m->o.swarm, &op->options.peer)) {
        wr_call_fail(op->call, err,
                     "%s ended it without an answer: it may serve allowed peers only (there: warren "
                     "allow, or --perf all)",
                     wr_peerid_print(&op->options.peer, peer));
    } else if (err && r->conn) {
        wr_call_fail(op->call, err, "broke off: %s", wr_err_text(err));
    } else if (err) {
        if (!wr_methods_hung_up(op->m, op->call, &op->options.peer, err, op->connected_at))
            wr_methods_dial_failed(op->m, op->call, &op->options.peer, err);
    } else {
        struct wr_pack *p = wr_call_result(op->call);
        wr_methods_pack_id(p, "peer", &op->options.peer);
        pack_perf(p, r);
        wr_call_done(op->call);
    }
    wr_free(op);
}

static void on_perf_connected(void *arg, int err, struct wr_conn *conn)
{
    struct measure *op = arg;
    (void)conn;
    op->request = NULL;
    op->connected_at = err ? 0 : wr_env_now(op->m->env);
    if (!err)
        err = wr_perf_start(op->m->o.perf, &op->options, &op->run);
    if (!err)
        return;
    wr_methods_dial_failed(op->m, op->call, &op->options.peer, err);
    wr_free(op);
}

static void on_perf(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    uint64_t up = wr_params_u64(params, "up", 0, UINT64_MAX);
    uint64_t down = wr_params_u64(params, "down", 0, UINT64_MAX);
    struct wr_target target;
    if (!wr_methods_peer_target(call, params, &target))
        return;
    struct measure *op = wr_alloc(sizeof(*op));
    int err = WR_ELIMIT;
    if (op) {
        op->m = m;
        op->call = call;
        op->options = (struct wr_perf_options){
            .peer = target.peer,
            .up = up,
            .down = down,
            .on_progress = on_perf_progress,
            .on_done = on_perf_done,
            .arg = op,
        };
        err = wr_methods_reach(m, &target, on_perf_connected, op, &op->request);
    }
    if (err) {
        wr_free(op);
        wr_methods_dial_failed(m, call, &target.peer, err);
        return;
    }
    wr_call_defer(call, on_perf_cancel, op);
}

int wr_methods_stream(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {{"open", on_open}, {"accept", on_accept}, {NULL, NULL}};
    static const struct wr_methods_entry measuring[] = {{"perf", on_perf}, {NULL, NULL}};
    int err = wr_methods_register(m, list);
    return err || !m->o.perf ? err : wr_methods_register(m, measuring);
}

void wr_methods_stream_end(struct wr_methods *m)
{
    while (!wr_list_empty(&m->bridges)) {
        struct handed *h = wr_list_entry(m->bridges.next, struct handed, node);
        wr_bridge_destroy(h->bridge);
        on_bridge_end(h);
    }
}
