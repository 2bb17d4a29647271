#include "autonat/lifetest.h"

#include "autonat/fresh.h"

#include <sodium.h>

/* ---- the end --------------------------------------------------------------------------------------- */

static void drop(struct wr_lifetest *t)
{
    wr_timer_stop(t->env, &t->timer);
    wr_connect_cancel(t->request);
    t->request = NULL;
    if (t->asking)
        wr_ask_cancel(&t->ask);
    wr_seen_cancel(&t->seen);
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

static void on_seen(struct wr_seen *seen, const struct wr_addr *at)
{
    struct wr_lifetest *t = wr_list_entry(seen, struct wr_lifetest, seen);
    if (t->over)
        return;
    if (!at || wr_maddr_from_addr(at, true, &t->outside) != 0)
        finish_soon(t, WR_LIFETEST_NOTHING);
    else
        wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_LIFETEST_HOLD, on_held);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_lifetest *t = arg;
    t->request = NULL;
    if (err != 0 || !conn->port_reused || !wr_peerid_equal(&conn->peer, &t->peer) ||
        !wr_seen_ask(&t->seen, t->env, conn, on_seen)) {
        finish_soon(t, WR_LIFETEST_NOTHING);
        return;
    }
    t->conn = conn;
    t->at = conn->remote;
}

static bool begin(struct wr_lifetest *t, const struct wr_maddr *addr)
{
    wr_fresh_key(t->env, &t->key);
    t->fresh = wr_fresh_swarm(t->home, &t->key);
    if (!t->fresh)
        return false;
    t->watch.on_event = on_event;
    wr_swarm_watch(t->fresh, &t->watch);
    return wr_fresh_listen(t->fresh, true, 4) &&
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
