#include "autonat/survey.h"

#include "transport/pb.h"

#include <sodium.h>

#define IDENTIFY         "/ipfs/id/1.0.0"
#define IDENTIFY_MAX     8192 /* bytes of a message; go, js */
#define FIELD_OBSERVED   4    /* observedAddr; libp2p identify/README.md */
#define FAILURES_ALLOWED 2    /* connections in vain before it gives up */

static void next(struct wr_survey *s);

/* ---- one connection -------------------------------------------------------------------------------- */

static void drop(struct wr_survey *s)
{
    wr_timer_stop(s->env, &s->timer);
    wr_connect_cancel(s->request);
    s->request = NULL;
    if (wr_msg_open(&s->msg))
        wr_msg_reset(&s->msg, WR_STREAM_OK);
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

static void take(struct wr_survey *s, struct wr_bytes body)
{
    struct wr_natkind_sample *sample = &s->of[s->count];
    struct wr_pb_field f;
    struct wr_maddr seen;
    bool found = false;
    while (wr_pb_next(&body, &f) == 1)
        if (f.number == FIELD_OBSERVED && f.wire == WR_PB_BYTES)
            found = wr_maddr_decode(f.bytes, &seen) == 0;
    if (!found || !wr_maddr_addr(wr_maddr_bytes(&seen), &sample->seen))
        return;
    sample->local = s->conn->local;
    sample->remote = s->conn->remote;
    sample->at = s->conn->begun_at;
    s->count++;
}

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_survey *s = wr_list_entry(m, struct wr_survey, msg);
    take(s, body);
    wr_msg_close(m);
    next_soon(s);
}

static void on_close(struct wr_msg *m, int err)
{
    (void)err;
    next_soon(wr_list_entry(m, struct wr_survey, msg));
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    static const char *const offer[] = {IDENTIFY, NULL};
    static const struct wr_msg_ops ops = {.on_message = on_message, .on_close = on_close};
    static const struct wr_stream_ops none = {.on_open = NULL};
    struct wr_survey *s = arg;
    s->request = NULL;
    struct wr_stream *stream = err == 0 ? wr_conn_open_stream(conn, offer, &none, NULL, &err) : NULL;
    if (!stream) {
        next_soon(s);
        return;
    }
    s->conn = conn;
    wr_msg_start(&s->msg, s->env, stream, IDENTIFY_MAX, &ops);
}

static bool begin(struct wr_survey *s)
{
    uint8_t seed[WR_ED25519_SEED];
    wr_env_random(s->env, seed, sizeof(seed));
    wr_key_generate(&s->key, seed);
    sodium_memzero(seed, sizeof(seed));
    s->own = wr_swarm_create(&(struct wr_swarm_options){.env = s->env,
                                                        .limits = wr_swarm_limits(s->home),
                                                        .identity = &s->key,
                                                        .psk = wr_swarm_psk(s->home)});
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
