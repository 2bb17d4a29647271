/* Is a relay still there, and does it bring us those who ask for us? A machine that is switched off says nothing, and TCP
 * notices after a minute or more. */
#include "relay/relay_auto_impl.h"

#include <string.h>

static const char *const ping_offer[] = {"/ipfs/ping/1.0.0", NULL};

static void on_next(struct wr_timer *timer);

struct probe *wr_relay_auto_probe(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    for (const struct wr_list *it = ra->probes.next; it != &ra->probes; it = it->next) {
        struct probe *p = (struct probe *)((uintptr_t)it - offsetof(struct probe, node));
        if (wr_peerid_equal(&p->relay, relay))
            return p;
    }
    return NULL;
}

/* Until it is known that nobody reaches us otherwise, a place is a precaution. */
static bool needed(const struct probe *p)
{
    return p->of->was_private;
}

static void rest(struct probe *p)
{
    wr_patience_stop(&p->patience);
    wr_timer_start(p->of->env, &p->timer,
                   wr_env_now(p->of->env) + (needed(p) ? WR_RELAY_AUTO_PING : WR_RELAY_AUTO_PING_SLOW), on_next);
}

/* Whether circuits reach us is asked of a new relay at once; then, while it is needed, with each ping; and where that would be
 * too often, when nobody has shown it for a while. */
static void check(struct probe *p)
{
    const struct wr_relay_hold *h = wr_relay_client_held(p->of->client, &p->relay);
    wr_time now = wr_env_now(p->of->env), known_at = p->checked_at;
    wr_time every = needed(p) ? 0 : WR_RELAY_AUTO_CHECK_SLOW;
    if (!h)
        return;
    if (h->check_every > every)
        every = h->check_every;
    if (h->proven_at && h->proven_at > known_at)
        known_at = h->proven_at;
    if (known_at && now - known_at + WR_RELAY_AUTO_PONG < every)    /* what was asked then was known a moment later */
        return;
    p->checked_at = now;
    wr_relay_client_check(p->of->client, &p->relay);
}

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct probe *p = arg;
    if (p->got + data.len > PING_LEN || memcmp(data.ptr, p->sent + p->got, data.len) != 0)
        data.len = 0;    /* nonsense; alive all the same */
    p->got += data.len;
    if (data.len && p->got < PING_LEN)
        return;
    if (data.len)
        p->rtt = wr_env_now(p->of->env) - p->sent_at;
    p->stream = NULL;
    wr_stream_close(s);
    rest(p);
}

/* Whatever its error, it came from the other end; when the connection is over, others notice. */
static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct probe *p = arg;
    (void)s;
    (void)err;
    p->stream = NULL;
    rest(p);
}

static const struct wr_stream_ops ops = {.on_data = on_data, .on_close = on_close};

static void on_silence(struct wr_patience *patience)
{
    struct probe *p = wr_list_entry(patience, struct probe, patience);
    char text[WR_PEERID_TEXT];
    struct wr_stream *s = p->stream;
    struct wr_conn *c = wr_stream_conn(s);
    p->stream = NULL;
    wr_stream_reset(s, WR_STREAM_OK);
    wr_log(wr_env_log(p->of->env), WR_LOG_INFO, "relay", "does not answer relay=%s", wr_peerid_print(&p->relay, text));
    wr_conn_close(c, WR_CONN_OK);
    /* If there is another one, does that lead to it? */
    wr_timer_start(p->of->env, &p->timer, wr_env_now(p->of->env), on_next);
}

static void on_next(struct wr_timer *timer)
{
    struct probe *p = wr_list_entry(timer, struct probe, timer);
    struct wr_env *env = p->of->env;
    struct wr_conn *c = wr_swarm_conn(p->of->swarm, &p->relay);
    int err;
    rest(p);
    if (!c || c->circuit)
        return;
    check(p);
    struct wr_stream *s = wr_conn_open_stream(c, ping_offer, &ops, p, &err);
    if (!s)
        return;
    wr_env_random(env, p->sent, sizeof(p->sent));
    if (wr_stream_write(s, p->sent, sizeof(p->sent)) != (int)sizeof(p->sent)) {
        wr_stream_reset(s, WR_STREAM_OK);
        return;
    }
    p->stream = s;
    p->got = 0;
    p->sent_at = wr_env_now(env);
    wr_timer_stop(env, &p->timer);
    wr_patience_start(&p->patience, env, WR_RELAY_AUTO_PONG, on_silence);
}

void wr_relay_auto_probe_start(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    struct probe *p = wr_relay_auto_probe(ra, relay) ? NULL : wr_alloc(sizeof(*p));
    if (!p)
        return;    /* out of memory: the loss is noticed later */
    p->of = ra;
    p->relay = *relay;
    wr_list_append(&ra->probes, &p->node);
    wr_timer_start(ra->env, &p->timer, wr_env_now(ra->env), on_next);
}

void wr_relay_auto_probe_now(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    wr_list_each(it, &ra->probes)
    {
        struct probe *p = wr_list_entry(it, struct probe, node);
        if (!p->stream && (!relay || wr_peerid_equal(relay, &p->relay)))
            wr_timer_start(ra->env, &p->timer, wr_env_now(ra->env), on_next);
    }
}

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct probe, task));
}

void wr_relay_auto_probe_stop(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    struct probe *p = wr_relay_auto_probe(ra, relay);
    if (!p)
        return;
    wr_timer_stop(ra->env, &p->timer);
    wr_patience_stop(&p->patience);
    if (p->stream)
        wr_stream_reset(p->stream, WR_STREAM_OK);
    wr_list_remove(&p->node);
    wr_env_dispose(ra->env, &p->task, dispose);
}
