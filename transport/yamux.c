#include "transport/yamux_state.h"

#include <assert.h>

/* ---- streams ------------------------------------------------------------------------------------- */

static bool limit_take(struct wr_yamux *y, enum wr_limit limit, uint64_t n)
{
    return !y->limits || wr_limits_take(y->limits, limit, n);
}

static void limit_give(struct wr_yamux *y, enum wr_limit limit, uint64_t n)
{
    if (y->limits && n)
        wr_limits_give(y->limits, limit, n);
}

void wr_yamux_stream_due(struct wr_yamux_stream *s, unsigned due)
{
    s->due |= (uint16_t)due;
    if (wr_list_empty(&s->control))
        wr_list_append(&s->session->control, &s->control);
}

struct wr_yamux_stream *wr_yamux_stream_create(struct wr_yamux *y, uint32_t id, bool local)
{
    /* The peer's are shared out among all peers: one that opens streams without end must not keep the others
     * from a ping. */
    if (local ? !limit_take(y, WR_LIMIT_STREAMS, 1)
              : y->limits && !wr_limits_take_fair(y->limits, WR_LIMIT_STREAMS, y->inbound, 1))
        return NULL;
    struct wr_yamux_stream *s = wr_alloc(sizeof(*s));
    if (!s || wr_idmap_put(&y->streams, id, s) < 0) {
        wr_free(s);
        limit_give(y, WR_LIMIT_STREAMS, 1);
        return NULL;
    }
    s->session = y;
    s->id = id;
    s->send_window = s->recv_window = s->recv_target = WR_YAMUX_WINDOW;
    s->state = local ? LOCAL : 0;
    wr_list_init(&s->control);
    wr_list_init(&s->ready);
    wr_list_init(&s->drained);
    wr_yamux_stream_due(s, local ? SYN : ACK);
    y->inbound += !local;
    y->outbound += local;
    y->unacked += local;
    return s;
}

void wr_yamux_stream_stop(struct wr_yamux_stream *s)
{
    struct wr_yamux *y = s->session;
    s->state |= CLOSED;
    s->state &= (uint16_t)~SHORT;
    s->due = 0;
    wr_list_remove(&s->control);
    wr_list_remove(&s->ready);
    wr_list_remove(&s->drained);
    wr_sendq_clear(&s->queue, &y->memory);
    limit_give(y, WR_LIMIT_WINDOW_EXTRA, s->recv_target - WR_YAMUX_WINDOW);
    s->recv_target = WR_YAMUX_WINDOW;
    if (y->cur == s)
        y->todo = 0;
}

void wr_yamux_stream_free(struct wr_yamux_stream *s)
{
    struct wr_yamux *y = s->session;
    bool local = s->state & LOCAL;
    wr_yamux_stream_stop(s);
    if (y->cur == s)
        y->cur = NULL;
    wr_idmap_del(&y->streams, s->id);    /* not there any more when the session ends */
    y->inbound -= !local;
    y->outbound -= local;
    y->unacked -= local && !(s->state & TAKEN);
    limit_give(y, WR_LIMIT_STREAMS, 1);
    wr_free(s);
}

bool wr_yamux_stream_done(const struct wr_yamux_stream *s)
{
    return (s->state & CLOSED) || ((s->state & ENDED) && (s->state & FIN_SENT));
}

void wr_yamux_stream_settle(struct wr_yamux_stream *s)
{
    if ((s->state & FORGOTTEN) && wr_yamux_stream_done(s) && !(s->due & RST))
        wr_yamux_stream_free(s);
}

struct wr_yamux_stream *wr_yamux_open(struct wr_yamux *y, void *arg, int *err)
{
    *err = WR_ECLOSED;
    if (y->err || y->goaway != OPEN || y->goaway_seen || y->next_id == 0)
        return NULL;
    *err = WR_ELIMIT;
    if (y->outbound >= y->outbound_max || y->unacked >= WR_YAMUX_ACK_BACKLOG ||
        (!y->heard && y->early >= WR_YAMUX_EARLY_MAX))
        return NULL;
    struct wr_yamux_stream *s = wr_yamux_stream_create(y, y->next_id, true);
    if (!s)
        return NULL;
    s->arg = arg;
    y->next_id = y->next_id > UINT32_MAX - 2 ? 0 : y->next_id + 2;
    if (!y->heard)
        y->early++;
    *err = 0;
    return s;
}

void *wr_yamux_arg(const struct wr_yamux_stream *s)
{
    return s->arg;
}

void wr_yamux_set_arg(struct wr_yamux_stream *s, void *arg)
{
    s->arg = arg;
}

uint32_t wr_yamux_id(const struct wr_yamux_stream *s)
{
    return s->id;
}

size_t wr_yamux_space(const struct wr_yamux_stream *s)
{
    if ((s->state & (SHUT | CLOSED)) || s->session->err)
        return 0;
    uint32_t bound = s->send_window < WR_YAMUX_SEND_QUEUE ? s->send_window : WR_YAMUX_SEND_QUEUE;
    return bound > s->queue.len ? bound - s->queue.len : 0;
}

size_t wr_yamux_queued(const struct wr_yamux_stream *s)
{
    return s->queue.len;
}

int wr_yamux_write(struct wr_yamux_stream *s, const uint8_t *data, size_t len)
{
    struct wr_yamux *y = s->session;
    if (s->state & CLOSED)
        return WR_ERESET;
    if ((s->state & SHUT) || y->err)
        return WR_ECLOSED;
    size_t room = wr_yamux_space(s);
    size_t take = len < room ? len : room;
    size_t taken = wr_sendq_put(&s->queue, &y->memory, data, take);
    if (taken == 0 && take > 0)
        return WR_ELIMIT;
    if (taken < len)
        s->state |= SHORT;
    if (s->queue.len && wr_list_empty(&s->ready))
        wr_list_append(&y->fresh, &s->ready);
    return (int)taken;
}

size_t wr_yamux_lend(struct wr_yamux_stream *s, const uint8_t *data, size_t len)
{
    if (wr_yamux_space(s) == 0)
        return 0;
    size_t room = s->send_window - s->queue.len;
    wr_sendq_lend(&s->queue, data, len < room ? len : room);
    if (s->queue.len && wr_list_empty(&s->ready))
        wr_list_append(&s->session->fresh, &s->ready);
    return s->queue.lent_len;
}

size_t wr_yamux_recall(struct wr_yamux_stream *s, const uint8_t *data)
{
    size_t taken = wr_sendq_unlend(&s->queue, data);
    if (!s->queue.len)
        wr_list_remove(&s->ready);
    return taken;
}

struct wr_yamux_stream *wr_yamux_drained(struct wr_yamux *y)
{
    struct wr_list *node = wr_list_pop(&y->drained);
    return node ? wr_list_entry(node, struct wr_yamux_stream, drained) : NULL;
}

void wr_yamux_shut(struct wr_yamux_stream *s)
{
    if (s->state & (SHUT | CLOSED))
        return;
    s->state |= SHUT;
    s->state &= (uint16_t)~SHORT;
    wr_list_remove(&s->drained);
    wr_yamux_stream_due(s, FIN);
}

void wr_yamux_reset(struct wr_yamux_stream *s, uint32_t code)
{
    if (wr_yamux_stream_done(s))
        return;
    bool unseen = s->due & SYN;    /* the peer never heard of it */
    wr_yamux_stream_stop(s);
    s->code = code;
    if (!unseen)
        wr_yamux_stream_due(s, RST);
}

void wr_yamux_forget(struct wr_yamux_stream *s)
{
    assert((s->state & CLOSED) || ((s->state & SHUT) && (s->state & ENDED)));
    s->state |= FORGOTTEN;
    s->arg = NULL;
    wr_yamux_stream_settle(s);
}

/* ---- receive window ------------------------------------------------------------------------------ */

wr_time wr_yamux_rtt(const struct wr_yamux *y)
{
    uint32_t least = 0;
    for (size_t i = 0; i < RTT_SAMPLES; i++) {
        if (y->rtt_usec[i] && (!least || y->rtt_usec[i] < least))
            least = y->rtt_usec[i];
    }
    return least * WR_USEC;
}

void wr_yamux_rtt_add(struct wr_yamux *y, wr_time rtt)
{
    wr_time usec = rtt / WR_USEC;
    y->rtt_usec[y->rtt_next] = usec < 1 ? 1 : usec > UINT32_MAX ? UINT32_MAX : (uint32_t)usec;
    y->rtt_next = (uint8_t)((y->rtt_next + 1) % RTT_SAMPLES);
}

/* Half a window used up within four round trips is what holds the peer back: doubled, as go and js do.
 * Where that is not possible, grants come in smaller steps: with halves, a window keeps only half of its
 * size on the way. `used` bytes were consumed since the last grant. */
static void window_tune(struct wr_yamux_stream *s, uint32_t used, wr_time now)
{
    wr_time rtt = wr_yamux_rtt(s->session);
    wr_time fast = 4 * rtt / 8 * (used / (s->recv_target / 16));    /* in proportion: half is 8/16 */
    uint32_t most = WR_YAMUX_WINDOW_MAX - s->recv_target;
    uint32_t extra = s->recv_target < most ? s->recv_target : most;
    wr_time took = now - s->epoch_at;
    s->state &= (uint16_t)~TIGHT;
    s->epoch_at = now;
    if (took >= fast || (s->state & STEADY))
        return;
    if (extra && limit_take(s->session, WR_LIMIT_WINDOW_EXTRA, extra))
        s->recv_target += extra;
    else
        s->state |= TIGHT;
}

void wr_yamux_steady(struct wr_yamux_stream *s)
{
    s->state |= STEADY;
}

void wr_yamux_consumed(struct wr_yamux_stream *s, size_t n, wr_time now)
{
    assert(n <= s->unread);
    s->unread -= (uint32_t)n;
    /* No updates to a stream that is over: nim takes them for a violation. */
    if ((s->state & (ENDED | CLOSED)) || (s->due & GRANT))
        return;
    uint32_t used = s->recv_target - s->recv_window - s->unread;
    if (used < s->recv_target / (s->state & TIGHT ? 8 : 2))
        return;
    window_tune(s, used, now);
    wr_yamux_stream_due(s, GRANT);
}

/* ---- session ------------------------------------------------------------------------------------- */

struct wr_yamux *wr_yamux_create(const struct wr_yamux_config *config)
{
    struct wr_yamux *y = wr_alloc(sizeof(*y));
    if (!y)
        return NULL;
    wr_idmap_init(&y->streams, config->salt);
    wr_list_init(&y->control);
    wr_list_init(&y->fresh);
    wr_list_init(&y->bulk);
    wr_list_init(&y->drained);
    y->limits = y->memory.limits = config->limits;
    y->streams_max = config->streams_max;
    y->outbound_max = config->outbound_max;
    y->dialer = config->dialer;
    y->mark_every = config->mark_every;
    if (config->rtt > 0)
        wr_yamux_rtt_add(y, config->rtt);
    y->next_id = config->first_id ? config->first_id : config->dialer ? 1 : 2;
    assert((y->next_id & 1) == y->dialer);
    return y;
}

void wr_yamux_destroy(struct wr_yamux *y)
{
    if (!y)
        return;
    struct wr_idmap streams = y->streams;
    struct wr_yamux_stream *s;
    uint32_t cursor = 0;
    wr_idmap_init(&y->streams, 0);
    while ((s = wr_idmap_next(&streams, &cursor)) != NULL)
        wr_yamux_stream_free(s);
    wr_idmap_clear(&streams);
    wr_free(y->answers);
    wr_free(y);
}

bool wr_yamux_ping(struct wr_yamux *y, wr_time now)
{
    if (y->ping != IDLE || y->err)
        return false;
    y->ping = PING_DUE;
    y->ping_value++;
    y->ping_at = now;    /* output, which may have to wait, sets it again */
    return true;
}

void wr_yamux_goaway(struct wr_yamux *y, uint32_t code)
{
    if (y->goaway == GOAWAY_SENT || y->err)
        return;
    y->goaway = GOAWAY_DUE;
    y->goaway_code = code;
}

size_t wr_yamux_stream_count(const struct wr_yamux *y)
{
    return y->streams.count;
}

bool wr_yamux_spent(const struct wr_yamux *y)
{
    return y->next_id == 0;
}
