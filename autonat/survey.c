#include "autonat/survey.h"

#include "autonat/fresh.h"

#include <sodium.h>

#define FAILURES_ALLOWED 2    /* connections in vain before it gives up */

static void next(struct wr_survey *s);

/* ---- one connection -------------------------------------------------------------------------------- */

static void drop(struct wr_survey *s)
{
    wr_timer_stop(s->env, &s->timer);
    wr_connect_cancel(s->request);
    s->request = NULL;
    wr_seen_cancel(&s->seen);
    s->conn = NULL;
    wr_swarm_destroy(s->own);
    s->own = NULL;
}

static void on_timer(struct wr_timer *timer)
{
    next(wr_list_entry(timer, struct wr_survey, timer));
}

/* The next one in a turn of its own: this call may come from the swarm that is to be destroyed. */
static void next_soon(struct wr_survey *s)
{
    wr_timer_start(s->env, &s->timer, wr_env_now(s->env), on_timer);
}

static void on_seen(struct wr_seen *seen, const struct wr_addr *at)
{
    struct wr_survey *s = wr_list_entry(seen, struct wr_survey, seen);
    if (at)
        s->of[s->count++] = (struct wr_natkind_sample){
            .local = s->conn->local, .remote = s->conn->remote, .seen = *at, .at = s->conn->begun_at};
    next_soon(s);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_survey *s = arg;
    s->request = NULL;
    if (err == 0 && wr_seen_ask(&s->seen, s->env, conn, on_seen))
        s->conn = conn;
    else
        next_soon(s);
}

static bool begin(struct wr_survey *s)
{
    wr_fresh_key(s->env, &s->key);
    s->own = wr_fresh_swarm(s->home, &s->key);
    const struct wr_maddr *to = &s->targets[s->made++ % s->target_count];
    return s->own && wr_swarm_connect_addr(s->own, wr_maddr_bytes(to), on_connected, s, &s->request) == 0;
}

/* ---- all of them ----------------------------------------------------------------------------------- */

static void next(struct wr_survey *s)
{
    drop(s);
    bool enough = s->made == s->most || s->made - s->count > FAILURES_ALLOWED;
    if (enough || !begin(s)) {
        void (*done)(struct wr_survey *) = s->on_done;
        wr_survey_cancel(s);
        done(s);
        return;
    }
    wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_SURVEY_TIMEOUT, on_timer);
}

void wr_survey_start(struct wr_survey *s, struct wr_swarm *home, const struct wr_maddr *targets,
                     size_t count, size_t most, void (*on_done)(struct wr_survey *s))
{
    *s = (struct wr_survey){.home = home, .env = wr_swarm_env(home), .most = most, .on_done = on_done};
    s->target_count = count < WR_SURVEY_SAMPLES ? count : WR_SURVEY_SAMPLES;
    for (size_t i = 0; i < s->target_count; i++)
        s->targets[i] = targets[i];
    if (s->target_count == 0)
        s->most = 0;
    next_soon(s);
}

void wr_survey_cancel(struct wr_survey *s)
{
    if (!s->home)
        return;
    drop(s);
    sodium_memzero(&s->key, sizeof(s->key));
    s->home = NULL;
}
