#include "autonat/lifetest.h"

#include "transport/pb.h"

#include <sodium.h>

#define IDENTIFY       "/ipfs/id/1.0.0"
#define IDENTIFY_MAX   8192 /* bytes of a message; go, js */
#define FIELD_OBSERVED 4    /* observedAddr; libp2p identify/README.md */

/* ---- the end --------------------------------------------------------------------------------------- */

static void drop(struct wr_lifetest *t)
{
    wr_timer_stop(t->env, &t->timer);
    wr_connect_cancel(t->request);
    t->request = NULL;
    if (t->asking)
        wr_ask_cancel(&t->ask);
    if (wr_msg_open(&t->identify))
        wr_msg_reset(&t->identify, WR_STREAM_OK);
    if (t->fresh) {
        wr_swarm_unwatch(&t->watch);
        wr_swarm_destroy(t->fresh);
    }
    t->fresh = NULL;
    t->conn = NULL;
    sodium_memzero(&t->key, sizeof(t->key));
    t->home = NULL;
}

static void finish(struct wr_timer *timer)
{
    struct wr_lifetest *t = wr_list_entry(timer, struct wr_lifetest, timer);
    drop(t);
    t->on_done(t, t->result);
}

/* In a turn of its own: this call may come from the swarm that is to be destroyed. */
static void finish_soon(struct wr_lifetest *t, enum wr_lifetest_result result)
{
    if (t->over)
        return;
    t->over = true;
    t->result = result;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env), finish);
}

static void on_late(struct wr_timer *timer)
{
    finish_soon(wr_list_entry(timer, struct wr_lifetest, timer), WR_LIFETEST_NOTHING);
}

/* ---- after the silence ----------------------------------------------------------------------------- */

static void on_answer(struct wr_ask *ask, enum wr_ask_result result)
{
    struct wr_lifetest *t = wr_list_entry(ask, struct wr_lifetest, ask);
    t->asking = false;
    /* Had it got through, we would know by now. */
    finish_soon(t, result == WR_ASK_FAILED ? WR_LIFETEST_DIED : WR_LIFETEST_NOTHING);
}

static void on_silent(struct wr_timer *timer)
{
    struct wr_lifetest *t = wr_list_entry(timer, struct wr_lifetest, timer);
    struct wr_conn *conn = wr_swarm_conn(t->home, &t->peer);
    struct wr_ask_question q = {.addr = &t->outside, .peer = wr_swarm_self(t->fresh)};
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_LIFETEST_END, on_late);
    t->asking = conn && !conn->circuit &&
                wr_ask_start(&t->ask, t->env, conn, WR_AUTONAT_WAKE, &q, on_answer) == 0;
    if (!t->asking)
        finish_soon(t, WR_LIFETEST_NOTHING);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_lifetest *t = wr_list_entry(watch, struct wr_lifetest, watch);
    if (event->type == WR_SWARM_CLOSED && event->conn == t->conn) {
        t->conn = NULL;
        /* Before its time: what the mapping went through is not known. */
        if (!t->outside.len)
            finish_soon(t, WR_LIFETEST_NOTHING);
    }
    if (event->type == WR_SWARM_OPENED && !event->conn->outbound && t->asking &&
        wr_addr_equal(&event->conn->remote, &t->at))
        finish_soon(t, WR_LIFETEST_LIVED);
}

/* ---- before it ------------------------------------------------------------------------------------- */

static void on_held(struct wr_timer *timer)
{
    struct wr_lifetest *t = wr_list_entry(timer, struct wr_lifetest, timer);
    if (!t->conn) {
        finish_soon(t, WR_LIFETEST_NOTHING);
        return;
    }
    wr_conn_close(t->conn, WR_CONN_OK);
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + t->silence, on_silent);
}

static void on_identify(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_lifetest *t = wr_list_entry(m, struct wr_lifetest, identify);
    struct wr_pb_field f;
    struct wr_maddr seen;
    struct wr_addr at;
    bool found = false;
    while (wr_pb_next(&body, &f) == 1)
        if (f.number == FIELD_OBSERVED && f.wire == WR_PB_BYTES)
            found = wr_maddr_decode(f.bytes, &seen) == 0;
    wr_msg_close(m);
    if (t->over)
        return;
    if (!found || !wr_maddr_addr(wr_maddr_bytes(&seen), &at) || wr_maddr_from_addr(&at, true, &t->outside) != 0)
        finish_soon(t, WR_LIFETEST_NOTHING);
    else
        wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_LIFETEST_HOLD, on_held);
}

static void on_identify_over(struct wr_msg *m, int err)
{
    (void)err;
    finish_soon(wr_list_entry(m, struct wr_lifetest, identify), WR_LIFETEST_NOTHING);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    static const char *const offer[] = {IDENTIFY, NULL};
    static const struct wr_msg_ops ops = {.on_message = on_identify, .on_close = on_identify_over};
    static const struct wr_stream_ops none = {.on_open = NULL};
    struct wr_lifetest *t = arg;
    t->request = NULL;
    struct wr_stream *s = err == 0 && conn->port_reused && wr_peerid_equal(&conn->peer, &t->peer)
                              ? wr_conn_open_stream(conn, offer, &none, NULL, &err)
                              : NULL;
    if (!s) {
        finish_soon(t, WR_LIFETEST_NOTHING);
        return;
    }
    t->conn = conn;
    t->at = conn->remote;
    wr_msg_start(&t->identify, t->env, s, IDENTIFY_MAX, &ops);
}

static bool begin(struct wr_lifetest *t, const struct wr_maddr *addr)
{
    uint8_t seed[WR_ED25519_SEED];
    struct wr_addr any = {.ip.family = 4};
    struct wr_maddr at;
    wr_env_random(t->env, seed, sizeof(seed));
    wr_key_generate(&t->key, seed);
    sodium_memzero(seed, sizeof(seed));
    t->fresh = wr_swarm_create(&(struct wr_swarm_options){
        .env = t->env, .limits = wr_swarm_limits(t->home), .identity = &t->key});
    if (!t->fresh)
        return false;
    t->watch.on_event = on_event;
    wr_swarm_watch(t->fresh, &t->watch);
    return wr_maddr_from_addr(&any, true, &at) == 0 && wr_swarm_listen(t->fresh, wr_maddr_bytes(&at)) == 0 &&
           wr_swarm_connect_addr(t->fresh, wr_maddr_bytes(addr), on_connected, t, &t->request) == 0;
}

void wr_lifetest_start(struct wr_lifetest *t, struct wr_swarm *home, const struct wr_peerid *peer,
                       const struct wr_maddr *addr, wr_time silence,
                       void (*on_done)(struct wr_lifetest *t, enum wr_lifetest_result result))
{
    *t = (struct wr_lifetest){
        .home = home, .env = wr_swarm_env(home), .peer = *peer, .silence = silence, .on_done = on_done};
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_LIFETEST_BEGIN, on_late);
    if (!begin(t, addr))
        finish_soon(t, WR_LIFETEST_NOTHING);
}

void wr_lifetest_cancel(struct wr_lifetest *t)
{
    if (t->home)
        drop(t);
}
