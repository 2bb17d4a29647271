#include "node/control.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERROR_TEXT_MAX 1024        /* bytes of an error sentence */
#define NOTE_MAX       (64 * 1024) /* bytes of one event or progress note */
#define CALLS_PER_TURN 4           /* of one client, then the others and the network have theirs; ours */
/* A started request, and one more read of the environment's shared buffer behind it. */
#define INPUT_MAX (2 * WR_RPC_REQUEST_MAX)

struct method {
    const char *name; /* static */
    wr_method_fn fn;
    void *arg;
};

struct wr_control {
    struct wr_env *env;
    struct wr_limits *limits;
    struct wr_listener *listener;
    char *path, *peer; /* owned */
    struct wr_list clients;
    size_t client_count;
    struct method methods[WR_CONTROL_METHODS_MAX];
    size_t method_count;
    struct wr_buf event; /* being built, between _event and _event_send */
    struct wr_pack event_pack;
    uint64_t event_seq;
    struct wr_task dispose;
};

struct client {
    struct wr_list node;
    struct wr_control *control;
    struct wr_sock *sock; /* NULL once gone */
    struct wr_buf in;     /* received, not yet handled */
    struct wr_rpc_scan scan;
    struct wr_list calls;
    size_t call_count;
    bool subscribed, paused;
    bool doomed;   /* to be closed at the end of the turn */
    uint64_t lost; /* events dropped since the last one that got through */
    struct wr_timer more; /* requests left over for the next turn */
    struct wr_task doom, dispose;
};

enum call_state {
    CALL_RUNNING, /* its handler is on the stack */
    CALL_DEFERRED,
    CALL_ENDED,
};

struct wr_call {
    struct wr_list node;
    struct client *client;
    uint32_t id;
    enum call_state state;
    uint64_t timeout_ms; /* 0: none */
    struct wr_timer timer;
    struct wr_buf out; /* the reply */
    struct wr_pack pack;
    struct wr_buf note; /* progress being built */
    struct wr_pack note_pack;
    void (*on_cancel)(void *arg);
    void *cancel_arg;
    struct wr_task dispose;
};

/* ---- clients: output */

static void run_doom(struct wr_task *task);

/* Closing waits for the end of the turn: handlers of this client may be on the stack. */
static void doom(struct client *client)
{
    client->doomed = true;
    wr_env_defer(client->control->env, &client->doom, run_doom);
}

static size_t kept(const struct client *client)
{
    return client->sock ? wr_sock_backlog(client->sock) : 0;
}

/* fd < 0: none. */
static void send_out(struct client *client, struct wr_bytes bytes, int fd)
{
    if (client->doomed || !client->sock)
        return;
    if (kept(client) + bytes.len > WR_CONTROL_KEPT_MAX) {
        wr_log(wr_env_log(client->control->env), WR_LOG_WARN, "control",
               "client closed: it does not read kept=%zu", kept(client));
        doom(client);
        return;
    }
    int error = fd < 0 ? wr_sock_write(client->sock, bytes.ptr, bytes.len)
                       : wr_sock_write_fd(client->sock, bytes.ptr, bytes.len, fd);
    if (error)
        doom(client);
}

static void pack_error(struct wr_pack *p, int err, const char *text)
{
    wr_pack_text(p, "code", wr_err_name(err));
    wr_pack_text(p, "text", text);
}

/* A notification [2, name, [{...}]], open for its fields. */
static void begin_note(struct wr_pack *p, struct wr_buf *out, const char *name)
{
    wr_buf_reset(out);
    wr_pack_init(p, out);
    wr_pack_array(p, NULL);
    wr_pack_u64(p, NULL, WR_RPC_NOTIFICATION);
    wr_pack_text(p, NULL, name);
    wr_pack_array(p, NULL);
    wr_pack_map(p, NULL);
}

static void end_note(struct wr_pack *p)
{
    assert(p->depth == 3);
    while (p->depth)
        wr_pack_end(p);
}

/* A last word to a client that is not answered any more: [2, "error", [{code, text}]]. */
static void complain(struct client *client, int err, const char *text)
{
    struct wr_buf note;
    struct wr_pack p;
    wr_buf_init(&note, NOTE_MAX);
    begin_note(&p, &note, "error");
    pack_error(&p, err, text);
    end_note(&p);
    if (!note.full)
        send_out(client, wr_buf_bytes(&note), -1);
    wr_buf_clear(&note);
    doom(client);
}

/* ---- calls */

static void run_call_dispose(struct wr_task *task)
{
    struct wr_call *call = wr_list_entry(task, struct wr_call, dispose);
    wr_free(call);
}

static void call_end(struct wr_call *call)
{
    struct client *client = call->client;
    assert(call->state != CALL_ENDED);
    call->state = CALL_ENDED;
    wr_timer_stop(client->control->env, &call->timer);
    wr_list_remove(&call->node);
    client->call_count--;
    wr_buf_clear(&call->out);
    wr_buf_clear(&call->note);
    wr_env_dispose(client->control->env, &call->dispose, run_call_dispose);
}

static void call_cancel(struct wr_call *call)
{
    void (*on_cancel)(void *) = call->on_cancel;
    assert(call->state == CALL_DEFERRED);
    call->on_cancel = NULL;
    if (on_cancel)
        on_cancel(call->cancel_arg);
}

static void on_call_timer(struct wr_timer *timer)
{
    struct wr_call *call = wr_list_entry(timer, struct wr_call, timer);
    call_cancel(call);
    wr_call_fail(call, WR_ETIMEOUT, "no result within %llu ms; a larger timeout waits longer",
                 (unsigned long long)call->timeout_ms);
}

void wr_call_defer(struct wr_call *call, void (*on_cancel)(void *arg), void *arg)
{
    struct wr_env *env = call->client->control->env;
    assert(call->state == CALL_RUNNING);
    call->state = CALL_DEFERRED;
    call->on_cancel = on_cancel;
    call->cancel_arg = arg;
    if (call->timeout_ms)
        wr_timer_start(env, &call->timer, wr_env_now(env) + (wr_time)call->timeout_ms * WR_MSEC,
                       on_call_timer);
}

static void begin_reply(struct wr_call *call)
{
    wr_buf_reset(&call->out);
    wr_pack_init(&call->pack, &call->out);
    wr_pack_array(&call->pack, NULL);
    wr_pack_u64(&call->pack, NULL, WR_RPC_RESPONSE);
    wr_pack_u64(&call->pack, NULL, call->id);
}

struct wr_pack *wr_call_result(struct wr_call *call)
{
    assert(call->state != CALL_ENDED);
    if (call->pack.depth == 0) {
        begin_reply(call);
        wr_pack_nil(&call->pack, NULL);
        wr_pack_map(&call->pack, NULL);
    }
    return &call->pack;
}

void wr_call_done_fd(struct wr_call *call, int fd)
{
    struct wr_pack *p = wr_call_result(call);
    assert(p->depth == 2);
    wr_pack_end(p);
    wr_pack_end(p);
    if (call->out.full) {
        wr_call_fail(call, WR_ELIMIT, "the reply is longer than %d bytes, or memory ran out",
                     WR_RPC_REPLY_MAX);
        return;
    }
    send_out(call->client, wr_buf_bytes(&call->out), fd);
    call_end(call);
}

void wr_call_done(struct wr_call *call)
{
    wr_call_done_fd(call, -1);
}

void wr_call_fail(struct wr_call *call, int err, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    assert(call->state != CALL_ENDED);
    if (format) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
    }
    begin_reply(call);
    wr_pack_map(&call->pack, NULL);
    pack_error(&call->pack, err, format ? text : wr_err_text(err));
    wr_pack_end(&call->pack);
    wr_pack_nil(&call->pack, NULL);
    wr_pack_end(&call->pack);
    if (call->out.full) /* not even room for the error: the client must not wait for ever */
        doom(call->client);
    else
        send_out(call->client, wr_buf_bytes(&call->out), -1);
    call_end(call);
}

bool wr_call_refuse(struct wr_call *call, const struct wr_params *params)
{
    if (!params->wrong)
        return false;
    wr_call_fail(call, WR_EINVAL, "parameter %s: should be %s", params->wrong, params->wanted);
    return true;
}

struct wr_pack *wr_call_progress(struct wr_call *call)
{
    struct wr_pack *p = &call->note_pack;
    assert(call->state != CALL_ENDED);
    if (kept(call->client) > WR_CONTROL_EVENT_ABOVE)
        return NULL;
    begin_note(p, &call->note, "progress");
    wr_pack_u64(p, "id", call->id);
    return p;
}

void wr_call_progress_send(struct wr_call *call)
{
    end_note(&call->note_pack);
    if (!call->note.full)
        send_out(call->client, wr_buf_bytes(&call->note), -1);
}

/* ---- the methods of this file */

static void on_hello(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_control *c = arg;
    struct wr_pack *p = wr_call_result(call);
    (void)params;
    wr_pack_u64(p, "api", WR_CONTROL_API);
    wr_pack_text(p, "version", WARREN_VERSION);
    wr_pack_text(p, "peer", c->peer);
    wr_call_done(call);
}

static void on_subscribe(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_control *c = arg;
    (void)params;
    call->client->subscribed = true;
    wr_pack_u64(wr_call_result(call), "seq", c->event_seq);
    wr_call_done(call);
}

static void on_unsubscribe(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)arg;
    (void)params;
    call->client->subscribed = false;
    wr_call_done(call);
}

static void on_cancel(void *arg, struct wr_call *call, struct wr_params *params)
{
    bool found = false;
    uint64_t id = wr_params_u64(params, "id", UINT64_MAX, UINT32_MAX);
    (void)arg;
    if (wr_call_refuse(call, params))
        return;
    wr_list_each(node, &call->client->calls)
    {
        struct wr_call *other = wr_list_entry(node, struct wr_call, node);
        if (other->id != id || other->state != CALL_DEFERRED)
            continue;
        call_cancel(other);
        wr_call_fail(other, WR_ECANCELLED, NULL);
        found = true;
        break;
    }
    wr_pack_bool(wr_call_result(call), "cancelled", found);
    wr_call_done(call);
}

/* ---- clients: input */

static const struct method *find_method(const struct wr_control *c, struct wr_bytes name)
{
    for (size_t i = 0; i < c->method_count; i++)
        if (wr_bytes_equal(wr_bytes_cstr(c->methods[i].name), name))
            return &c->methods[i];
    return NULL;
}

static void start_call(struct client *client, const struct wr_rpc_message *m)
{
    struct wr_control *c = client->control;
    struct wr_call *call = wr_alloc(sizeof(*call));
    struct wr_params params = {.map = m->params};
    if (!call) {
        complain(client, WR_ELIMIT, "out of memory");
        return;
    }
    call->client = client;
    call->id = m->id;
    wr_buf_init(&call->out, WR_RPC_REPLY_MAX);
    wr_buf_init(&call->note, NOTE_MAX);
    wr_list_append(&client->calls, &call->node);
    client->call_count++;
    call->timeout_ms = wr_params_u64(&params, "timeout_ms", 0, WR_CONTROL_TIMEOUT_MAX);
    const struct method *method = find_method(c, m->method);
    if (client->call_count > WR_CONTROL_CALLS_MAX)
        wr_call_fail(call, WR_ELIMIT, "%d calls are under way; wait for some to end",
                     WR_CONTROL_CALLS_MAX);
    else if (!method)
        wr_call_fail(call, WR_EUNSUPPORTED, "no method %.*s in this version (%s)",
                     (int)m->method.len, (const char *)m->method.ptr, WARREN_VERSION);
    else if (!wr_call_refuse(call, &params)) {
        method->fn(method->arg, call, &params);
        /* Memory of an ended call lives until the turn settles. */
        assert(call->state != CALL_RUNNING);
    }
}

/* Handles the first whole message in `rest`: its length, 0 when there is none, <0 when it is no
 * good. */
static int take_message(struct client *client, struct wr_bytes rest)
{
    struct wr_rpc_message m;
    int len = wr_rpc_scan(&client->scan, rest);
    if (len <= 0)
        return len;
    int error = wr_rpc_decode(WR_BYTES(rest.ptr, (size_t)len), &m);
    if (error)
        return error;
    if (m.type == WR_RPC_REQUEST)
        start_call(client, &m);
    /* Notifications are for servers to ignore; a response answers nothing that we asked. */
    error = m.type == WR_RPC_RESPONSE ? WR_EPROTO : 0;
    wr_rpc_message_clear(&m);
    return error ? error : len;
}

static void on_more(struct wr_timer *timer);

/* Handles what is there, a few requests at a time, unless the client leaves our answers lying. */
static void process(struct client *client)
{
    struct wr_env *env = client->control->env;
    size_t start = 0;
    unsigned handled = 0;
    int len = 0;
    while (!client->doomed && kept(client) <= WR_CONTROL_READ_ABOVE && handled < CALLS_PER_TURN) {
        struct wr_bytes rest = {client->in.data + start, client->in.len - start};
        len = rest.len ? take_message(client, rest) : 0;
        if (len <= 0)
            break;
        start += (size_t)len;
        handled++;
    }
    if (len < 0)
        complain(client, len,
                 len == WR_ELIMIT ? "the request is too long, too deep or has too many parts"
                                  : "not a MessagePack-RPC request");
    wr_buf_consume(&client->in, start);
    if (client->in.len == 0 || client->doomed)
        wr_buf_clear(&client->in); /* an idle client holds no memory */
    bool more = !client->doomed && handled == CALLS_PER_TURN && client->in.len;
    if (more)
        wr_timer_start(env, &client->more, wr_env_now(env), on_more);
    bool pause = more || client->doomed || kept(client) > WR_CONTROL_READ_ABOVE;
    if (pause != client->paused && client->sock)
        wr_sock_pause(client->sock, pause);
    client->paused = pause;
}

static void on_more(struct wr_timer *timer)
{
    process(wr_list_entry(timer, struct client, more));
}

static void on_client_read(void *arg, uint8_t *data, size_t len)
{
    struct client *client = arg;
    if (client->doomed)
        return;
    wr_buf_put(&client->in, data, len);
    if (client->in.full)
        complain(client, WR_ELIMIT, "out of memory");
    process(client);
}

static void tell_lost(struct client *client)
{
    struct wr_buf note;
    struct wr_pack p;
    wr_buf_init(&note, NOTE_MAX);
    begin_note(&p, &note, "event");
    wr_pack_text(&p, "event", "lost");
    wr_pack_u64(&p, "seq", client->control->event_seq);
    wr_pack_u64(&p, "count", client->lost);
    end_note(&p);
    if (!note.full) {
        client->lost = 0;
        send_out(client, wr_buf_bytes(&note), -1);
    }
    wr_buf_clear(&note);
}

static void on_client_drain(void *arg)
{
    struct client *client = arg;
    if (client->lost && client->subscribed && !client->doomed)
        tell_lost(client);
    if (client->paused)
        process(client);
}

static void run_client_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct client, dispose));
}

static void client_close(struct client *client)
{
    struct wr_control *c = client->control;
    while (!wr_list_empty(&client->calls)) {
        struct wr_call *call = wr_list_entry(client->calls.next, struct wr_call, node);
        call_cancel(call);
        call_end(call);
    }
    if (client->sock)
        wr_sock_close(client->sock, false);
    client->sock = NULL;
    client->doomed = true;
    wr_timer_stop(c->env, &client->more);
    wr_task_cancel(&client->doom);
    wr_buf_clear(&client->in);
    wr_list_remove(&client->node);
    c->client_count--;
    wr_limits_give(c->limits, WR_LIMIT_CLIENTS, 1);
    wr_env_dispose(c->env, &client->dispose, run_client_dispose);
}

static void run_doom(struct wr_task *task)
{
    client_close(wr_list_entry(task, struct client, doom));
}

static void on_client_close(void *arg, int err)
{
    struct client *client = arg;
    (void)err;
    client->sock = NULL;
    client_close(client);
}

static const struct wr_sock_ops client_ops = {
    .on_read = on_client_read,
    .on_drain = on_client_drain,
    .on_close = on_client_close,
};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct wr_control *c = arg;
    if (!wr_limits_take(c->limits, WR_LIMIT_CLIENTS, 1)) {
        wr_log(wr_env_log(c->env), WR_LOG_WARN, "control", "client refused limit=%s",
               wr_limit_name(WR_LIMIT_CLIENTS));
        wr_sock_close(sock, false);
        return;
    }
    struct client *client = wr_alloc(sizeof(*client));
    if (!client) {
        wr_limits_give(c->limits, WR_LIMIT_CLIENTS, 1);
        wr_sock_close(sock, false);
        return;
    }
    client->control = c;
    client->sock = sock;
    wr_buf_init(&client->in, INPUT_MAX);
    wr_rpc_scan_init(&client->scan, WR_RPC_REQUEST_MAX, WR_RPC_REQUEST_ITEMS);
    wr_list_init(&client->calls);
    wr_list_append(&c->clients, &client->node);
    c->client_count++;
    wr_sock_attach(sock, &client_ops, client);
}

static void on_starved(void *arg, int err)
{
    struct wr_control *c = arg;
    wr_log(wr_env_log(c->env), WR_LOG_WARN, "control", "cannot accept clients err=%s",
           wr_err_name(err));
}

/* ---- the server */

static void run_control_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_control, dispose));
}

static int start(struct wr_control *c, const struct wr_control_options *options)
{
    static const struct wr_listener_ops listener_ops = {on_accept, on_starved};
    c->path = wr_strdup(options->path);
    c->peer = wr_strdup(options->peer);
    if (!c->path || !c->peer)
        return WR_ELIMIT;
    int error = wr_env_listen_local(c->env, c->path, &listener_ops, c, &c->listener);
    if (error)
        return error;
    (void)wr_control_method(c, "hello", on_hello, c);
    (void)wr_control_method(c, "subscribe", on_subscribe, c);
    (void)wr_control_method(c, "unsubscribe", on_unsubscribe, c);
    (void)wr_control_method(c, "cancel", on_cancel, c);
    return 0;
}

int wr_control_create(const struct wr_control_options *options, struct wr_control **out)
{
    struct wr_control *c = wr_alloc(sizeof(*c));
    if (!c)
        return WR_ELIMIT;
    c->env = options->env;
    c->limits = options->limits;
    wr_list_init(&c->clients);
    wr_buf_init(&c->event, NOTE_MAX);
    int error = start(c, options);
    if (error) {
        wr_control_destroy(c);
        return error;
    }
    *out = c;
    return 0;
}

void wr_control_destroy(struct wr_control *c)
{
    if (!c)
        return;
    if (c->listener)
        wr_listener_close(c->listener);
    while (!wr_list_empty(&c->clients))
        client_close(wr_list_entry(c->clients.next, struct client, node));
    wr_buf_clear(&c->event);
    wr_free(c->path);
    wr_free(c->peer);
    wr_env_dispose(c->env, &c->dispose, run_control_dispose);
}

const char *wr_control_path(const struct wr_control *c)
{
    return c->path;
}

size_t wr_control_clients(const struct wr_control *c)
{
    return c->client_count;
}

int wr_control_method(struct wr_control *c, const char *name, wr_method_fn fn, void *arg)
{
    assert(strlen(name) <= WR_RPC_NAME_MAX);
    if (find_method(c, wr_bytes_cstr(name)))
        return WR_EEXIST;
    if (c->method_count == WR_CONTROL_METHODS_MAX)
        return WR_ELIMIT;
    c->methods[c->method_count++] = (struct method){name, fn, arg};
    return 0;
}

/* ---- events */

struct wr_pack *wr_control_event(struct wr_control *c, const char *event)
{
    bool wanted = false;
    wr_list_each(node, &c->clients) wanted |= wr_list_entry(node, struct client, node)->subscribed;
    if (!wanted)
        return NULL;
    begin_note(&c->event_pack, &c->event, "event");
    wr_pack_text(&c->event_pack, "event", event);
    wr_pack_u64(&c->event_pack, "seq", ++c->event_seq);
    wr_pack_i64(&c->event_pack, "unix_ms", wr_env_unix(c->env) / WR_MSEC);
    return &c->event_pack;
}

void wr_control_event_send(struct wr_control *c)
{
    end_note(&c->event_pack);
    wr_list_each(node, &c->clients)
    {
        struct client *client = wr_list_entry(node, struct client, node);
        if (!client->subscribed)
            continue;
        if (c->event.full || kept(client) > WR_CONTROL_EVENT_ABOVE)
            client->lost++;
        else
            send_out(client, wr_buf_bytes(&c->event), -1);
    }
}
