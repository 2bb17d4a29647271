#include "identify/identify_impl.h"

#include "transport/crowds.h"

#include <string.h>

#define OUT_MAX (WR_IDENTIFY_FIRST_MAX + WR_IDENTIFY_BODY_MAX + 16)    /* bytes of what we send */

/* ---- reading: our question, or a push of the peer's ---------------------------------------------------- */

struct reading {
    struct wr_list node;
    struct wr_identify *id;
    struct wr_conn *conn;
    struct wr_msg msg;
    struct wr_buf bodies;       /* as received, one behind the other; counted under limit MEMORY */
    unsigned count;
    bool push;                  /* the peer's; else our question */
    bool again;                 /* our question was repeated once */
    bool instead;               /* our question, not the first: for pushes that were refused, or as we have moved */
    struct wr_timer retry;
    struct wr_task task;
};

static void free_reading(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct reading, task));
}

static void drop_bodies(struct reading *r)
{
    wr_limits_give(wr_swarm_limits(r->id->swarm), WR_LIMIT_MEMORY, r->bodies.len);
    wr_buf_clear(&r->bodies);
    r->count = 0;
}

void wr_identify_reading_end(struct reading *r)
{
    struct link *link = wr_identify_link(r->id, r->conn);
    if (link && link->ask == r)
        link->ask = NULL;
    if (r->push)
        r->id->others--;
    wr_msg_reset(&r->msg, WR_STREAM_OK);
    wr_timer_stop(r->id->env, &r->retry);
    drop_bodies(r);
    wr_list_remove(&r->node);
    wr_env_dispose(r->id->env, &r->task, free_reading);
}

static void report(const struct reading *r, int err)
{
    char peer[WR_PEERID_TEXT];
    const struct wr_log *log = wr_env_log(r->id->env);
    wr_peerid_print(&r->conn->peer, peer);
    if (err < 0) {
        wr_log(log, WR_LOG_DEBUG, "identify", "%s failed peer=%s err=%s", r->push ? "push" : "question",
               peer, wr_err_name(err));
        return;
    }
    const struct wr_peer *p = wr_peerstore_find(wr_swarm_peerstore(r->id->swarm), &r->conn->peer);
    wr_log(log, WR_LOG_DEBUG, "identify", "%s peer=%s agent=\"%s\" addrs=%u", r->push ? "push" : "answer",
           peer, p ? wr_peer_agent(p) : "", p ? p->addr_count : 0u);
}

static void ask_again(struct wr_timer *timer);
static void ask_for_missed(struct wr_identify *id, struct wr_conn *conn);
static bool take_place(struct wr_identify *id, const struct wr_conn *newcomer);

static void reading_failed(struct reading *r, int err)
{
    r->id->stats.failed++;
    report(r, err);
    bool broke_off = err == WR_ETIMEOUT || err == WR_ERESET || err == WR_ECLOSED;
    if (r->push || r->again || !broke_off || r->conn->closing) {
        wr_identify_reading_end(r);
        ask_for_missed(r->id, r->conn);
        return;
    }
    r->again = true;
    drop_bodies(r);
    wr_timer_start(r->id->env, &r->retry, wr_env_now(r->id->env) + WR_IDENTIFY_RETRY, ask_again);
}

static void on_body(struct wr_msg *m, struct wr_bytes body)
{
    struct reading *r = wr_list_entry(m, struct reading, msg);
    struct wr_limits *limits = wr_swarm_limits(r->id->swarm);
    bool taken = r->count < WR_IDENTIFY_BODIES_MAX && wr_limits_take(limits, WR_LIMIT_MEMORY, body.len);
    if (taken) {
        r->count++;
        wr_buf_put_bytes(&r->bodies, body);
        if (!r->bodies.full)
            return;
        wr_limits_give(limits, WR_LIMIT_MEMORY, body.len);
    }
    wr_msg_reset(m, taken ? WR_STREAM_LIMIT : WR_STREAM_VIOLATION);
    reading_failed(r, taken ? WR_ELIMIT : WR_EPROTO);
}

/* The peer said all it has to say. */
static void on_end(struct wr_msg *m)
{
    struct reading *r = wr_list_entry(m, struct reading, msg);
    struct wr_identify *id = r->id;
    struct wr_conn *conn = r->conn;
    struct link *link = wr_identify_link(id, conn);
    wr_msg_close(m);
    if (r->count == 0) {
        reading_failed(r, WR_ECLOSED);
        return;
    }
    int err = link ? wr_identify_learn(id, link, wr_buf_bytes(&r->bodies), r->push) : WR_ECLOSED;
    if (err < 0) {
        reading_failed(r, err);
        return;
    }
    report(r, 0);
    bool push = r->push, first = !push && !r->instead;
    wr_identify_reading_end(r);
    ask_for_missed(id, conn);
    id->stats.taken += push;
    id->stats.asked += !push;
    if (first)
        wr_swarm_identified(id->swarm, conn);
    else
        wr_swarm_peer_changed(id->swarm, &conn->peer);
}

static void on_gone(struct wr_msg *m, int err)
{
    reading_failed(wr_list_entry(m, struct reading, msg), err);
}

static const struct wr_msg_ops reading_ops = {
    .on_message = on_body, .on_eof = on_end, .on_close = on_gone};

static struct reading *make_reading(struct wr_identify *id, struct wr_conn *conn, bool push)
{
    struct reading *r = wr_alloc(sizeof(*r));
    if (!r)
        return NULL;
    r->id = id;
    r->conn = conn;
    r->push = push;
    r->msg.env = id->env;
    wr_buf_init(&r->bodies, WR_IDENTIFY_BODIES_MAX * WR_IDENTIFY_BODY_MAX);
    wr_list_append(&id->readings, &r->node);
    return r;
}

static void listen_to(struct reading *r, struct wr_stream *s)
{
    wr_msg_start(&r->msg, r->id->env, s, WR_IDENTIFY_BODY_MAX, &reading_ops);
    wr_msg_deadline(&r->msg, wr_env_now(r->id->env) + WR_IDENTIFY_TIMEOUT);
}

/* ---- our question ---------------------------------------------------------------------------------------- */

static const char *const ask_offer[] = {WR_IDENTIFY_NAME, NULL};

static void ask_now(struct reading *r)
{
    int err = 0;
    struct link *link = wr_identify_link(r->id, r->conn);
    if (link)
        link->missed = false;
    struct wr_stream *s = wr_conn_open_stream(r->conn, ask_offer, NULL, NULL, &err);
    if (s)
        listen_to(r, s);
    else
        reading_failed(r, err);
}

static void ask_again(struct wr_timer *timer)
{
    ask_now(wr_list_entry(timer, struct reading, retry));
}

void wr_identify_ask(struct wr_identify *id, struct link *link)
{
    link->ask = make_reading(id, link->conn, false);
    if (link->ask)
        ask_now(link->ask);
}

bool wr_identify_ask_anew(struct wr_identify *id, struct link *link)
{
    if (link->ask)
        return true;
    link->ask = make_reading(id, link->conn, false);
    if (!link->ask)
        return false;
    link->ask->instead = true;
    ask_now(link->ask);
    return true;
}

/* What a refused push said may have been the peer's last word for long: it is asked for all of it, by the time when its
 * pushes are taken again. */
static void ask_for_missed(struct wr_identify *id, struct wr_conn *conn)
{
    struct link *link = wr_identify_link(id, conn);
    if (!link || !link->missed || link->ask || conn->closing)
        return;
    link->ask = make_reading(id, conn, false);
    if (!link->ask)
        return;
    link->ask->instead = true;
    wr_timer_start(id->env, &link->ask->retry, wr_env_now(id->env) + WR_IDENTIFY_PUSH_RATE, ask_again);
}

/* ---- a push of the peer's --------------------------------------------------------------------------------- */

static bool push_allowed(struct wr_identify *id, struct link *link)
{
    wr_time now = wr_env_now(id->env);
    wr_time more = (now - link->tokens_at) / WR_IDENTIFY_PUSH_RATE;
    if (more >= WR_IDENTIFY_PUSH_BURST - link->push_tokens) {
        link->push_tokens = WR_IDENTIFY_PUSH_BURST;
        link->tokens_at = now;
    } else {
        link->push_tokens = (uint8_t)(link->push_tokens + more);
        link->tokens_at += more * WR_IDENTIFY_PUSH_RATE;
    }
    if (link->push_tokens == 0)
        return false;
    link->push_tokens--;
    return true;
}

void wr_identify_take_push(struct wr_stream *s, void *arg)
{
    struct wr_identify *id = arg;
    struct wr_conn *conn = wr_stream_conn(s);
    struct link *link = wr_identify_link(id, conn);
    if (!link || !push_allowed(id, link)) {
        id->stats.refused++;
        wr_stream_reset(s, WR_STREAM_RATE);
        if (link) {
            link->missed = true;
            ask_for_missed(id, conn);
        }
        return;
    }
    struct reading *r = take_place(id, conn) ? make_reading(id, conn, true) : NULL;
    if (!r) {
        id->stats.refused++;
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    id->others++;
    listen_to(r, s);
}

/* ---- writing: an answer, or a push of ours ---------------------------------------------------------------- */

struct writing {
    struct wr_list node;
    struct wr_identify *id;
    struct wr_conn *conn;
    struct wr_stream *stream;
    struct wr_buf out;
    size_t sent;
    uint64_t hash;        /* of what is said */
    uint64_t before;      /* and of what the peer had heard */
    bool push;            /* ours; else an answer */
    bool agreed;          /* the peer speaks it */
    bool said;            /* a push: all is out, and the peer may yet refuse it */
    struct wr_timer deadline;
    struct wr_task task;
};

static void free_writing(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct writing, task));
}

/* Ends it; the stream has been let go of. */
static void writing_over(struct writing *w)
{
    struct wr_identify *id = w->id;
    struct link *link = wr_identify_link(id, w->conn);
    if (!w->push)
        id->others--;
    else if (!w->said)
        id->pushes--;
    wr_timer_stop(id->env, &w->deadline);
    wr_buf_clear(&w->out);
    wr_list_remove(&w->node);
    wr_env_dispose(id->env, &w->task, free_writing);
    if (!w->push)
        return;
    if (!w->said)
        wr_identify_push_sent(id);
    if (!link)
        return;
    link->pushing = false;
    wr_identify_push_over(id, link);
}

/* The peer did not take a push, or it broke off: the peer knows what it knew. News that it refuses again and again is
 * given up; the next is pushed again. */
static void push_failed(struct writing *w, int err)
{
    struct link *link = wr_identify_link(w->id, w->conn);
    w->id->stats.failed++;
    if (!link)
        return;
    if (w->said && link->told == w->hash)    /* else it asked meanwhile */
        link->told = w->before;
    link->push_refused |= err == WR_EUNSUPPORTED;
    if (++link->push_tries < WR_IDENTIFY_PUSH_TRIES)
        return;
    link->push_tries = 0;
    link->told = w->hash;
}

static void push_taken(struct writing *w)
{
    struct link *link = wr_identify_link(w->id, w->conn);
    w->id->stats.pushed++;
    if (link)
        link->push_tries = 0;
}

/* A push that is out makes room for the next one, and waits for the peer's end: it may be refused, which comes behind
 * the word that the peer speaks the protocol. */
static void await_end(struct writing *w)
{
    w->said = true;
    w->id->pushes--;
    wr_buf_clear(&w->out);
    wr_stream_shut(w->stream);
    wr_identify_push_sent(w->id);
}

/* Sends what goes; when all is out and the peer has agreed, the stream ends in order: a reset would take
 * the message away from go readers. */
static void write_on(struct writing *w)
{
    int n = w->said ? 0 : wr_stream_write(w->stream, w->out.data + w->sent, w->out.len - w->sent);
    if (n > 0)
        w->sent += (size_t)n;
    if (w->said || w->sent < w->out.len || (w->push && !w->agreed))
        return;
    struct link *link = wr_identify_link(w->id, w->conn);
    if (link) {
        w->before = link->told;
        link->told = w->hash;
    }
    if (w->push) {
        await_end(w);
        return;
    }
    w->id->stats.answered++;
    wr_stream_close(w->stream);
    writing_over(w);
}

static void on_writing_open(struct wr_stream *s, void *arg)
{
    struct writing *w = arg;
    (void)s;
    w->agreed = true;
    write_on(w);
}

static void on_writable(struct wr_stream *s, void *arg)
{
    (void)s;
    write_on(arg);
}

/* Whether a push that was said came to nothing. A reset alone does not tell: rust-libp2p drops the stream as soon as it
 * has read the message, which is one where our end is still under way. */
static bool was_refused(const struct wr_stream *s, int err)
{
    uint32_t code = wr_stream_reset_code(s);
    return err == WR_ERESET && (code == WR_STREAM_LIMIT || code == WR_STREAM_RATE);
}

static void on_writing_closed(struct wr_stream *s, void *arg, int err)
{
    struct writing *w = arg;
    if (!w->push)
        w->id->stats.failed++;
    else if (w->said && !was_refused(s, err))
        push_taken(w);
    else
        push_failed(w, err);
    writing_over(w);
}

static const struct wr_stream_ops writing_ops = {
    .on_open = on_writing_open, .on_writable = on_writable, .on_close = on_writing_closed};

static void on_writing_late(struct wr_timer *timer)
{
    struct writing *w = wr_list_entry(timer, struct writing, deadline);
    if (!w->push)
        w->id->stats.failed++;
    else if (w->said)
        push_taken(w);    /* whoever takes it and never ends */
    else
        push_failed(w, WR_ETIMEOUT);
    wr_stream_reset(w->stream, WR_STREAM_OK);
    writing_over(w);
}

static struct writing *make_writing(struct wr_identify *id, struct wr_conn *conn, bool push)
{
    struct writing *w = wr_alloc(sizeof(*w));
    if (!w)
        return NULL;
    w->id = id;
    w->conn = conn;
    w->push = push;
    wr_buf_init(&w->out, OUT_MAX);
    w->hash = wr_identify_compose(id, conn, &w->out);
    if (!w->hash) {
        wr_buf_clear(&w->out);
        wr_free(w);
        return NULL;
    }
    wr_list_append(&id->writings, &w->node);
    wr_timer_start(id->env, &w->deadline, wr_env_now(id->env) + WR_IDENTIFY_TIMEOUT, on_writing_late);
    return w;
}

void wr_identify_asked(struct wr_stream *s, void *arg)
{
    struct wr_identify *id = arg;
    struct wr_conn *conn = wr_stream_conn(s);
    struct writing *w = take_place(id, conn) ? make_writing(id, conn, false) : NULL;
    if (!w) {
        id->stats.refused++;
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    id->others++;
    w->stream = s;
    wr_stream_set_ops(s, &writing_ops, w);
    write_on(w);
}

static const char *const push_offer[] = {WR_IDENTIFY_PUSH, NULL};

void wr_identify_push(struct wr_identify *id, struct link *link)
{
    int err = 0;
    struct writing *w = make_writing(id, link->conn, true);
    link->pushed_at = wr_env_now(id->env);
    link->push_paid_at =
        (link->push_paid_at > link->pushed_at ? link->push_paid_at : link->pushed_at) + WR_IDENTIFY_PUSH_EVERY;
    if (!w) {
        wr_identify_push_over(id, link);
        return;
    }
    id->pushes++;
    link->pushing = true;
    w->stream = wr_conn_open_stream(link->conn, push_offer, &writing_ops, w, &err);
    if (w->stream) {
        write_on(w);
        return;
    }
    push_failed(w, err);
    writing_over(w);
}

/* ---- places for others ------------------------------------------------------------------------------------ */

/* Ends the longest conversation of that crowd: a push is asked for instead. */
static bool end_one_of(struct wr_identify *id, const struct wr_crowds *all, int crowd)
{
    wr_list_each(it, &id->readings)
    {
        struct reading *r = wr_list_entry(it, struct reading, node);
        struct wr_conn *conn = r->conn;
        struct link *link = wr_identify_link(id, conn);
        if (!r->push || (int)wr_crowds_of(all, &conn->remote.ip) != crowd)
            continue;
        wr_msg_reset(&r->msg, WR_STREAM_LIMIT);
        wr_identify_reading_end(r);
        if (link)
            link->missed = true;
        ask_for_missed(id, conn);
        return true;
    }
    wr_list_each(it, &id->writings)
    {
        struct writing *w = wr_list_entry(it, struct writing, node);
        if (w->push || (int)wr_crowds_of(all, &w->conn->remote.ip) != crowd)
            continue;
        wr_stream_reset(w->stream, WR_STREAM_LIMIT);
        writing_over(w);
        return true;
    }
    return false;
}

/* All places are taken: the longest conversation of a larger crowd than the newcomer's makes room. Silent pushes of
 * sixteen connections could keep everybody from being answered. */
static bool take_place(struct wr_identify *id, const struct wr_conn *newcomer)
{
    struct wr_crowds all;
    if (id->others < WR_IDENTIFY_ANSWERS_MAX)
        return true;
    wr_crowds_init(&all, wr_env_hash_seed(id->env));
    wr_list_each(it, &id->readings)
    {
        const struct reading *r = wr_list_entry(it, struct reading, node);
        if (r->push)
            wr_crowds_add(&all, &r->conn->remote.ip);
    }
    wr_list_each(it, &id->writings)
    {
        const struct writing *w = wr_list_entry(it, struct writing, node);
        if (!w->push)
            wr_crowds_add(&all, &w->conn->remote.ip);
    }
    int larger = wr_crowds_larger(&all, &newcomer->remote.ip);
    if (larger < 0 || !end_one_of(id, &all, larger))
        return false;
    id->stats.refused++;
    return true;
}

void wr_identify_end_all(struct wr_identify *id)
{
    wr_list_each(it, &id->readings)
        wr_identify_reading_end(wr_list_entry(it, struct reading, node));
    id->push_waiting = false;
    wr_list_each(it, &id->writings)
    {
        struct writing *w = wr_list_entry(it, struct writing, node);
        wr_stream_reset(w->stream, WR_STREAM_OK);
        writing_over(w);
    }
}
