#include "autonat/dialback.h"

#include "autonat/fresh.h"

#include <sodium.h>

struct wr_dialback {
    struct wr_swarm *home; /* the node's: its rules count, nothing is dialled from it */
    struct wr_env *env;
    struct wr_swarm *dialler; /* owned; NULL while idle */
    struct wr_swarm_watch watch;
    struct wr_key key; /* the dialler's, new each time */
    struct wr_list tries;
    struct wr_timer idle;
};

/* ---- the dialling swarm ---------------------------------------------------------------------------- */

/* A connection that ends takes its stream along, which says so itself. */
static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_dialback *d = wr_list_entry(watch, struct wr_dialback, watch);
    if (event->type != WR_SWARM_CLOSED)
        return;
    wr_list_each(it, &d->tries)
    {
        struct wr_dialback_try *t = wr_list_entry(it, struct wr_dialback_try, node);
        if (t->conn == event->conn)
            t->conn = NULL;
    }
}

static bool wake(struct wr_dialback *d)
{
    wr_timer_stop(d->env, &d->idle);
    if (d->dialler)
        return true;
    wr_fresh_key(d->env, &d->key);
    d->dialler = wr_fresh_swarm(d->home, &d->key);
    if (!d->dialler)
        return false;
    d->watch.on_event = on_event;
    wr_swarm_watch(d->dialler, &d->watch);
    return true;
}

static void rest(struct wr_dialback *d)
{
    wr_timer_stop(d->env, &d->idle);
    if (!d->dialler)
        return;
    wr_swarm_unwatch(&d->watch);
    wr_swarm_destroy(d->dialler);
    d->dialler = NULL;
}

static void on_idle(struct wr_timer *timer)
{
    rest(wr_list_entry(timer, struct wr_dialback, idle));
}

struct wr_dialback *wr_dialback_create(struct wr_swarm *sw)
{
    struct wr_dialback *d = wr_alloc(sizeof(*d));
    if (!d)
        return NULL;
    d->home = sw;
    d->env = wr_swarm_env(sw);
    wr_list_init(&d->tries);
    return d;
}

void wr_dialback_destroy(struct wr_dialback *d)
{
    if (!d)
        return;
    while (!wr_list_empty(&d->tries))
        wr_dialback_cancel(wr_list_entry(d->tries.next, struct wr_dialback_try, node));
    rest(d);
    sodium_memzero(&d->key, sizeof(d->key));
    wr_free(d);
}

/* Do we have the transport ourselves? A private network has no QUIC. */
static bool have_transport(const struct wr_dialback *d, enum wr_maddr_kind kind)
{
    return kind == WR_MADDR_TCP || (kind == WR_MADDR_QUIC && !wr_swarm_psk(d->home));
}

bool wr_dialback_may(const struct wr_dialback *d, const struct wr_peerid *peer, struct wr_bytes addr)
{
    struct wr_addr to;
    struct wr_ip from;
    struct wr_policy *policy = wr_swarm_policy(d->home);
    if (!have_transport(d, wr_maddr_kind(addr)) || !wr_maddr_addr(addr, &to) ||
        !wr_policy_is_public(policy, &to.ip) ||
        wr_policy_may_dial(policy, peer, addr, WR_ORIGIN_STRANGER) != 0 ||
        wr_swarm_is_own(d->home, addr))
        return false;
    if (wr_env_source(d->env, &to, &from) != 0)
        return false;
    /* Of IPv6 we have only what leads out: a unique local address dials nobody. */
    return from.family == 4 || wr_policy_is_public(policy, &from);
}

/* ---- one try --------------------------------------------------------------------------------------- */

static void stop(struct wr_dialback_try *t)
{
    struct wr_dialback *d = t->d;
    for (size_t i = 0; i < t->count; i++) {
        wr_connect_cancel(t->dials[i].request);
        t->dials[i].request = NULL;
    }
    if (t->in_msg && wr_msg_open(&t->msg))
        wr_msg_reset(&t->msg, WR_STREAM_OK);
    if (t->conn)
        wr_conn_close(t->conn, WR_CONN_OK);
    t->conn = NULL;
    wr_timer_stop(d->env, &t->timer);
    wr_list_remove(&t->node);
    t->d = NULL;
    if (wr_list_empty(&d->tries))
        wr_timer_start(d->env, &d->idle, wr_env_now(d->env) + WR_DIALBACK_IDLE, on_idle);
}

static void finish(struct wr_dialback_try *t, enum wr_autonat_dial result)
{
    size_t index = t->through;
    stop(t);
    t->on_done(t, result, index);
}

static void on_timer(struct wr_timer *timer)
{
    struct wr_dialback_try *t = wr_list_entry(timer, struct wr_dialback_try, timer);
    finish(t, t->in_msg ? WR_AUTONAT_DIAL_BACK_ERROR : WR_AUTONAT_DIAL_ERROR);
}

static void on_response(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dialback_try *t = wr_list_entry(m, struct wr_dialback_try, msg);
    uint32_t status;
    bool ok = wr_autonat_msg_decode_back_response(body, &status) == 0 && status == 0;
    finish(t, ok ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_BACK_ERROR);
}

/* go-libp2p resets the stream behind its response, and over QUIC the reset overtakes that. Whether the
 * nonce really arrived, the peer knows best. */
static void on_msg_close(struct wr_msg *m, int err)
{
    finish(wr_list_entry(m, struct wr_dialback_try, msg),
           err == WR_ERESET ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_BACK_ERROR);
}

static void send_nonce(struct wr_dialback_try *t)
{
    static const char *const offer[] = {WR_AUTONAT_BACK, NULL};
    static const struct wr_msg_ops ops = {.on_message = on_response, .on_close = on_msg_close};
    static const struct wr_stream_ops none = {.on_open = NULL};
    uint8_t room[16];
    struct wr_buf body;
    int err;
    struct wr_stream *s = wr_conn_open_stream(t->conn, offer, &none, NULL, &err);
    if (!s) {
        finish(t, WR_AUTONAT_DIAL_BACK_ERROR);
        return;
    }
    t->in_msg = true;
    wr_msg_start(&t->msg, t->d->env, s, WR_AUTONAT_BACK_MAX, &ops);
    wr_timer_start(t->d->env, &t->timer, wr_env_now(t->d->env) + WR_DIALBACK_STREAM, on_timer);
    wr_buf_over(&body, room, sizeof(room));
    wr_autonat_msg_encode_back(t->nonce, &body);
    if (wr_msg_send(&t->msg, wr_buf_bytes(&body)) != 0) {
        finish(t, WR_AUTONAT_DIAL_BACK_ERROR);
        return;
    }
    wr_msg_shut(&t->msg);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_dialback_dial *dial = arg;
    struct wr_dialback_try *t = dial->of;
    dial->request = NULL;
    t->running--;
    /* Whoever else lives there says nothing about the peer. */
    if (err == 0 && !wr_peerid_equal(&conn->peer, &t->peer)) {
        wr_conn_close(conn, WR_CONN_OK);
        err = WR_EPEERID;
    }
    if (err != 0) {
        if (t->running == 0)
            finish(t, WR_AUTONAT_DIAL_ERROR);
        return;
    }
    t->conn = conn;
    t->through = (size_t)(dial - t->dials);
    if (!t->with_nonce) {
        finish(t, WR_AUTONAT_DIAL_OK);
        return;
    }
    for (size_t i = 0; i < t->count; i++) {
        wr_connect_cancel(t->dials[i].request);
        t->dials[i].request = NULL;
    }
    send_nonce(t);
}

int wr_dialback_start(struct wr_dialback *d, struct wr_dialback_try *t, const struct wr_peerid *peer,
                      const struct wr_maddr *addrs, size_t count, const uint64_t *nonce,
                      void (*on_done)(struct wr_dialback_try *t, enum wr_autonat_dial result, size_t index))
{
    *t = (struct wr_dialback_try){.peer = *peer, .on_done = on_done, .with_nonce = nonce != NULL};
    t->nonce = nonce ? *nonce : 0;
    if (!wake(d))
        return WR_ELIMIT;
    t->d = d;
    wr_list_init(&t->node);
    wr_list_append(&d->tries, &t->node);
    for (size_t i = 0; i < count && i < WR_DIALBACK_ADDRS; i++) {
        struct wr_dialback_dial *dial = &t->dials[t->count];
        *dial = (struct wr_dialback_dial){.of = t, .addr = addrs[i]};
        /* Without naming the peer: nothing that the dialler learnt of him before may help this dial. */
        struct wr_bytes bare = wr_maddr_strip_peer(wr_maddr_bytes(&dial->addr));
        if (wr_swarm_connect_addr(d->dialler, bare, on_connected, dial, &dial->request) != 0)
            dial->request = NULL;
        t->running += dial->request != NULL;
        t->count++;
    }
    if (t->running == 0) {
        stop(t);
        return WR_ELIMIT;
    }
    wr_timer_start(d->env, &t->timer, wr_env_now(d->env) + WR_DIALBACK_DIAL, on_timer);
    return 0;
}

void wr_dialback_cancel(struct wr_dialback_try *t)
{
    if (t->d)
        stop(t);
}
