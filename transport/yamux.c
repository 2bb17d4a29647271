#include "transport/yamux.h"

#include "transport/err.h"
#include "transport/idmap.h"
#include "transport/sendq.h"

#include <assert.h>
#include <string.h>

enum frame_type { DATA, WINDOW_UPDATE, PING, GO_AWAY };

/* Flags of a frame. */
#define SYN 1u
#define ACK 2u
#define FIN 4u
#define RST 8u

/* What a stream still has to send beside its data: the frame flags above, and: */
#define GRANT 16u    /* a window update */

/* What a stream is. */
#define LOCAL     1u      /* opened by us */
#define TAKEN     2u      /* ours, and the peer has answered to it */
#define SHUT      4u      /* we write no more */
#define FIN_SENT  8u
#define ENDED     16u     /* the peer writes no more */
#define CLOSED    32u     /* reset by either side */
#define FORGOTTEN 64u     /* the owner holds it no more */
#define TIGHT     128u    /* its receive window should grow and cannot */
#define SHORT     256u    /* a write came up short and the owner was not told of room since */

struct wr_yamux_stream {
    struct wr_yamux *session;    /* borrowed */
    void *arg;                   /* the owner's */
    struct wr_list control;      /* on session->control: `due` may have to go out */
    struct wr_list ready;        /* on session->fresh or ->bulk: data is queued */
    struct wr_list drained;      /* on session->drained */
    struct wr_sendq queue;       /* never longer than send_window: all of it may be sent */
    wr_time epoch_at;            /* when the current receive window began to be used; 0: not yet */
    uint32_t id;
    uint32_t send_window;        /* bytes the peer will take, counting those in queue */
    uint32_t recv_window;        /* bytes the peer may still send */
    uint32_t recv_target;        /* recv_window + unread comes up to this with the next grant */
    uint32_t unread;             /* bytes given to the owner and not consumed yet */
    uint32_t code;               /* of the reset, with RST due */
    uint16_t state;
    uint16_t due;
};

/* An answer that belongs to no stream. */
struct answer {
    uint32_t value;    /* what a pong echoes, or the id of a refused stream */
    bool pong;
};

/* Steps left of the frame being taken in; each gives at most one event. */
#define TODO_OPENED   1u
#define TODO_ACKED    2u
#define TODO_WRITABLE 4u
#define TODO_RESET    8u
#define TODO_ENDED    16u

#define FRESH_MAX   WR_YAMUX_BODY_MAX    /* bytes that fresh streams may send before bulk has a turn */
#define RTT_SAMPLES 4    /* the smallest of these counts: queues only ever add */

struct wr_yamux {
    struct wr_idmap streams;    /* owned streams */
    struct wr_list control, drained;
    /* Streams with data. One that had none goes before those that have sent and have more, so that a short
     * message need not wait for a frame of every transfer; FRESH_MAX keeps the transfers moving. */
    struct wr_list fresh, bulk;
    uint32_t fresh_sent;         /* bytes since the last turn of bulk */
    struct wr_limits *limits;    /* borrowed, or NULL */
    uint32_t streams_max, outbound_max;
    uint32_t inbound, outbound, unacked;    /* streams in the table; of outbound, not TAKEN */
    uint32_t next_id;                       /* 0: used up */
    bool dialer;

    /* input */
    bool heard;                     /* a whole frame came in */
    uint8_t early;                  /* streams opened before that */
    uint8_t todo;
    uint8_t header_have;
    uint8_t header[WR_YAMUX_HEADER];
    uint32_t body_left;             /* of a Data frame */
    uint32_t reset_code;            /* for TODO_RESET */
    struct wr_yamux_stream *cur;    /* whose frame it is; NULL: nobody's, the body is dropped */
    int err;                        /* why the session is over, or 0 */

    /* session frames to send */
    struct answer *answers;         /* owned; NULL while none are due */
    uint32_t answer_next, answer_count, answer_cap;
    enum { IDLE, PING_DUE, PING_SENT } ping;
    uint32_t ping_value;
    wr_time ping_at;
    enum { OPEN, GOAWAY_DUE, GOAWAY_SENT } goaway;
    uint32_t goaway_code;
    bool goaway_seen;               /* the peer's */

    uint32_t rtt_usec[RTT_SAMPLES];
    uint8_t rtt_next;
};

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

/* Lets output look at what s has due. */
static void stream_due(struct wr_yamux_stream *s, unsigned due)
{
    s->due |= (uint16_t)due;
    if (wr_list_empty(&s->control))
        wr_list_append(&s->session->control, &s->control);
}

static struct wr_yamux_stream *stream_create(struct wr_yamux *y, uint32_t id, bool local)
{
    if (!limit_take(y, WR_LIMIT_STREAMS, 1))
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
    stream_due(s, local ? SYN : ACK);
    y->inbound += !local;
    y->outbound += local;
    y->unacked += local;
    return s;
}

/* Nothing more goes out or comes in, but the owner may still hold it. */
static void stream_stop(struct wr_yamux_stream *s)
{
    struct wr_yamux *y = s->session;
    s->state |= CLOSED;
    s->state &= (uint16_t)~SHORT;
    s->due = 0;
    wr_list_remove(&s->control);
    wr_list_remove(&s->ready);
    wr_list_remove(&s->drained);
    wr_sendq_clear(&s->queue, y->limits);
    limit_give(y, WR_LIMIT_WINDOW_EXTRA, s->recv_target - WR_YAMUX_WINDOW);
    s->recv_target = WR_YAMUX_WINDOW;
    if (y->cur == s)
        y->todo = 0;
}

static void stream_free(struct wr_yamux_stream *s)
{
    struct wr_yamux *y = s->session;
    bool local = s->state & LOCAL;
    stream_stop(s);
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

static void free_if_over(struct wr_yamux_stream *s)
{
    if ((s->state & FORGOTTEN) && wr_yamux_stream_done(s) && !(s->due & RST))
        stream_free(s);
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
    struct wr_yamux_stream *s = stream_create(y, y->next_id, true);
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
    size_t taken = wr_sendq_put(&s->queue, y->limits, data, take);
    if (taken == 0 && take > 0)
        return WR_ELIMIT;
    if (taken < len)
        s->state |= SHORT;
    if (s->queue.len && wr_list_empty(&s->ready))
        wr_list_append(&y->fresh, &s->ready);
    return (int)taken;
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
    stream_due(s, FIN);
}

void wr_yamux_reset(struct wr_yamux_stream *s, uint32_t code)
{
    if (wr_yamux_stream_done(s))
        return;
    bool unseen = s->due & SYN;    /* the peer never heard of it */
    stream_stop(s);
    s->code = code;
    if (!unseen)
        stream_due(s, RST);
}

void wr_yamux_forget(struct wr_yamux_stream *s)
{
    assert((s->state & CLOSED) || ((s->state & SHUT) && (s->state & ENDED)));
    s->state |= FORGOTTEN;
    s->arg = NULL;
    free_if_over(s);
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

static void rtt_add(struct wr_yamux *y, wr_time rtt)
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
    wr_time fast = 4 * rtt / 8 * (used / (s->recv_target / 16));    /* in proportion, when used is not half */
    uint32_t most = WR_YAMUX_WINDOW_MAX - s->recv_target;
    uint32_t extra = s->recv_target < most ? s->recv_target : most;
    wr_time took = now - s->epoch_at;
    s->state &= (uint16_t)~TIGHT;
    s->epoch_at = now;
    if (took >= fast)
        return;
    if (extra && limit_take(s->session, WR_LIMIT_WINDOW_EXTRA, extra))
        s->recv_target += extra;
    else
        s->state |= TIGHT;
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
    stream_due(s, GRANT);
}

/* ---- output -------------------------------------------------------------------------------------- */

static size_t put_header(uint8_t *out, enum frame_type type, unsigned flags, uint32_t id, uint32_t len)
{
    const uint8_t header[WR_YAMUX_HEADER] = {
        0, (uint8_t)type, (uint8_t)(flags >> 8), (uint8_t)flags,
        (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id,
        (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    memcpy(out, header, sizeof(header));
    return sizeof(header);
}

static size_t put_answer(struct wr_yamux *y, uint8_t *out)
{
    struct answer a = y->answers[y->answer_next++];
    if (y->answer_next == y->answer_count) {
        wr_free(y->answers);
        y->answers = NULL;
        y->answer_next = y->answer_count = y->answer_cap = 0;
    }
    if (a.pong)
        return put_header(out, PING, ACK, 0, a.value);
    return put_header(out, WINDOW_UPDATE, RST, a.value, WR_YAMUX_REFUSED);
}

static size_t put_goaway(struct wr_yamux *y, uint8_t *out)
{
    y->goaway = GOAWAY_SENT;
    return put_header(out, GO_AWAY, 0, 0, y->goaway_code);
}

/* One frame of the session itself, or 0. */
static size_t put_session_frame(struct wr_yamux *y, uint8_t *out, wr_time now)
{
    if (y->goaway == GOAWAY_DUE && y->goaway_code != WR_YAMUX_NORMAL)
        return put_goaway(y, out);
    if (y->ping == PING_DUE) {
        y->ping = PING_SENT;
        y->ping_at = now;
        return put_header(out, PING, SYN, 0, y->ping_value);
    }
    return y->answers ? put_answer(y, out) : 0;
}

/* The frame that settles what s has due, or 0 when that waits for the data in front or rides on it. */
static size_t put_stream_control(struct wr_yamux_stream *s, uint8_t *out)
{
    unsigned flags = s->due & (SYN | ACK);
    uint32_t value = 0;
    if (s->due & RST) {
        flags = RST;
        value = s->code;
        s->due = 0;
    } else {
        if (s->due & GRANT) {
            value = s->recv_target - s->recv_window - s->unread;
            s->recv_window += value;
        }
        if ((s->due & FIN) && s->queue.len == 0) {
            flags |= FIN;
            s->state |= FIN_SENT;
        }
        if (!value && !(flags & FIN) && s->queue.len)
            return 0;
        s->due &= (uint16_t)~(flags | GRANT);
    }
    size_t len = flags || value ? put_header(out, WINDOW_UPDATE, flags, s->id, value) : 0;
    free_if_over(s);
    return len;
}

static size_t put_data(struct wr_yamux_stream *s, uint8_t *out, size_t room)
{
    struct wr_yamux *y = s->session;
    size_t most = room - WR_YAMUX_HEADER < WR_YAMUX_BODY_MAX ? room - WR_YAMUX_HEADER : WR_YAMUX_BODY_MAX;
    uint32_t len = s->queue.len < most ? s->queue.len : (uint32_t)most;
    unsigned flags = s->due & (SYN | ACK);
    s->due &= (uint16_t)~flags;
    put_header(out, DATA, flags, s->id, len);
    wr_sendq_take(&s->queue, y->limits, out + WR_YAMUX_HEADER, len);
    s->send_window -= len;
    wr_list_remove(&s->ready);
    if (s->queue.len)
        wr_list_append(&y->bulk, &s->ready);    /* one frame per turn */
    else if (s->due & FIN)
        stream_due(s, FIN);
    if ((s->state & SHORT) && wr_yamux_space(s) > 0) {
        s->state &= (uint16_t)~SHORT;
        wr_list_remove(&s->drained);    /* an owner that does not ask leaves it there */
        wr_list_append(&y->drained, &s->drained);
    }
    return WR_YAMUX_HEADER + len;
}

static bool has_data(const struct wr_yamux *y)
{
    return !wr_list_empty(&y->fresh) || !wr_list_empty(&y->bulk);
}

/* Data of the next stream in turn, or 0 when there is none, or none worth splitting for `room`. */
static size_t put_next_data(struct wr_yamux *y, uint8_t *out, size_t room, bool first)
{
    if (!has_data(y) || room <= WR_YAMUX_HEADER)
        return 0;
    bool fresh = wr_list_empty(&y->bulk) || (!wr_list_empty(&y->fresh) && y->fresh_sent < FRESH_MAX);
    struct wr_list *list = fresh ? &y->fresh : &y->bulk;
    struct wr_yamux_stream *s = wr_list_entry(list->next, struct wr_yamux_stream, ready);
    uint32_t want = s->queue.len < WR_YAMUX_FRAGMENT_MIN ? s->queue.len : WR_YAMUX_FRAGMENT_MIN;
    if (!first && room - WR_YAMUX_HEADER < want)
        return 0;
    size_t len = put_data(s, out, room);
    y->fresh_sent = fresh && !wr_list_empty(&y->bulk) ? y->fresh_sent + (uint32_t)len : 0;
    return len;
}

size_t wr_yamux_output(struct wr_yamux *y, uint8_t *buf, size_t room, wr_time now)
{
    size_t len = 0;
    while (room - len >= WR_YAMUX_HEADER) {
        size_t n = put_session_frame(y, buf + len, now);
        if (n == 0 && !y->err && !wr_list_empty(&y->control)) {
            struct wr_list *node = wr_list_pop(&y->control);
            len += put_stream_control(wr_list_entry(node, struct wr_yamux_stream, control), buf + len);
            continue;
        }
        if (n == 0 && !y->err)
            n = put_next_data(y, buf + len, room - len, len == 0);
        if (n == 0 && y->goaway == GOAWAY_DUE && !has_data(y))
            n = put_goaway(y, buf + len);
        if (n == 0)
            break;
        len += n;
    }
    return len;
}

bool wr_yamux_wants_output(const struct wr_yamux *y)
{
    if (y->goaway == GOAWAY_DUE || y->ping == PING_DUE || y->answers)
        return true;
    return !y->err && (!wr_list_empty(&y->control) || has_data(y));
}

/* ---- input --------------------------------------------------------------------------------------- */

static int answer_add(struct wr_yamux *y, uint32_t value, bool pong)
{
    if (y->answer_count == y->answer_cap && y->answer_next > 0) {
        memmove(y->answers, y->answers + y->answer_next,
                (y->answer_count - y->answer_next) * sizeof(*y->answers));
        y->answer_count -= y->answer_next;
        y->answer_next = 0;
    }
    if (y->answer_count == y->answer_cap) {
        uint32_t cap = y->answer_cap ? y->answer_cap * 2 : 4;
        if (cap > WR_YAMUX_CONTROL_MAX)
            return WR_ELIMIT;
        struct answer *answers = wr_realloc(y->answers, cap * sizeof(*answers));
        if (!answers)
            return WR_ELIMIT;
        y->answers = answers;
        y->answer_cap = cap;
    }
    y->answers[y->answer_count++] = (struct answer){.value = value, .pong = pong};
    return 0;
}

static int emit(struct wr_yamux_event *event, enum wr_yamux_event_type type, struct wr_yamux_stream *s)
{
    *event = (struct wr_yamux_event){.type = type, .stream = s};
    return 1;
}

static int on_pong(struct wr_yamux *y, uint32_t value, wr_time now, struct wr_yamux_event *event)
{
    if (y->ping != PING_SENT || value != y->ping_value)
        return 0;    /* go tolerates these; closing on them cut off peers that answer late */
    wr_time rtt = now > y->ping_at ? now - y->ping_at : 0;
    y->ping = IDLE;
    rtt_add(y, rtt);
    emit(event, WR_YAMUX_PONG, NULL);
    event->rtt = rtt;
    return 1;
}

static int on_goaway(struct wr_yamux *y, uint32_t code, struct wr_yamux_event *event)
{
    if (y->goaway_seen)
        return 0;
    y->goaway_seen = true;
    emit(event, WR_YAMUX_GOAWAY, NULL);
    event->code = code;
    return 1;
}

/* The peer opens a stream. *s stays NULL when it is turned away. */
static int on_syn(struct wr_yamux *y, uint32_t id, unsigned flags, struct wr_yamux_stream **s)
{
    bool odd = id & 1;
    if (odd == y->dialer || *s)
        return WR_EPROTO;    /* our half of the ids, or an id in use */
    if (flags & RST)
        return 0;    /* opened and given up in one frame */
    if (y->goaway == OPEN && y->inbound < y->streams_max)
        *s = stream_create(y, id, false);
    if (!*s)
        return answer_add(y, id, false);
    y->todo |= TODO_OPENED;
    return 0;
}

/* What the flags of a frame for a living stream make of it. */
static void on_flags(struct wr_yamux *y, struct wr_yamux_stream *s, unsigned flags, uint32_t code)
{
    /* Any frame shows that the peer has the stream; rust's first one need not be an ACK. */
    if ((s->state & LOCAL) && !(s->state & TAKEN)) {
        s->state |= TAKEN;
        y->unacked--;
        y->todo |= TODO_ACKED;
    }
    if (flags & RST) {
        y->todo = TODO_RESET;
        y->reset_code = code;
    } else if (flags & FIN) {
        y->todo |= TODO_ENDED;
    }
}

static int on_data(struct wr_yamux *y, struct wr_yamux_stream *s, uint32_t id, unsigned flags,
                   uint32_t len)
{
    if (flags & SYN) {
        int rc = on_syn(y, id, flags, &s);
        if (rc < 0)
            return rc;
    }
    y->body_left = len;
    /* Late data of a stream we dropped, or after a FIN, is passed over: no more than any window is wide. */
    bool dead = !s || (s->state & CLOSED);
    if (len > (dead || (s->state & ENDED) ? WR_YAMUX_WINDOW_MAX : s->recv_window))
        return WR_EPROTO;
    if (dead)
        return 0;
    y->cur = s;
    on_flags(y, s, flags, 0);
    return 0;
}

static int on_window_update(struct wr_yamux *y, struct wr_yamux_stream *s, uint32_t id, unsigned flags,
                            uint32_t value)
{
    if (flags & SYN) {
        int rc = on_syn(y, id, flags, &s);
        if (rc < 0)
            return rc;
    }
    if (!s || (s->state & CLOSED))
        return 0;
    y->cur = s;
    if (!(flags & RST)) {
        if (value > UINT32_MAX - s->send_window)
            return WR_EPROTO;
        s->send_window += value;
        if ((s->state & SHORT) && wr_yamux_space(s) > 0)
            y->todo |= TODO_WRITABLE;
    }
    on_flags(y, s, flags, value);    /* the length of a RST is its code */
    return 0;
}

/* A whole header came in. As input, but 0 also when events or a body wait. */
static int on_header(struct wr_yamux *y, const uint8_t *h, wr_time now, struct wr_yamux_event *event)
{
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(h, WR_YAMUX_HEADER));
    uint8_t version = wr_read_u8(&r), type = wr_read_u8(&r);
    unsigned flags = wr_read_u16be(&r);
    uint32_t id = wr_read_u32be(&r), value = wr_read_u32be(&r);
    if (version != 0 || type > GO_AWAY)
        return WR_EPROTO;
    y->heard = true;
    if (type == GO_AWAY)
        return on_goaway(y, value, event);
    if (type == PING) {
        if (flags & SYN)
            return answer_add(y, value, true);
        return flags & ACK ? on_pong(y, value, now, event) : 0;
    }
    if (id == 0)
        return WR_EPROTO;
    struct wr_yamux_stream *s = wr_idmap_get(&y->streams, id);
    if (type == DATA)
        return on_data(y, s, id, flags, value);
    return on_window_update(y, s, id, flags, value);
}

static bool todo_take(struct wr_yamux *y, uint8_t step)
{
    bool was = y->todo & step;
    y->todo &= (uint8_t)~step;
    return was;
}

static int on_reset(struct wr_yamux *y, struct wr_yamux_stream *s, struct wr_yamux_event *event)
{
    stream_stop(s);
    y->cur = NULL;
    if (s->state & FORGOTTEN) {
        stream_free(s);
        return 0;
    }
    emit(event, WR_YAMUX_RESET, s);
    event->code = y->reset_code;
    return 1;
}

/* The body's next piece. 1: event; 0: none left, or none here yet. */
static int on_body(struct wr_yamux *y, struct wr_bytes *in, wr_time now, struct wr_yamux_event *event)
{
    struct wr_bytes part = wr_bytes_take(in, in->len < y->body_left ? in->len : y->body_left);
    struct wr_yamux_stream *s = y->cur;
    y->body_left -= (uint32_t)part.len;
    if (part.len == 0 || !s || (s->state & (CLOSED | ENDED)))
        return 0;
    if (!s->epoch_at)
        s->epoch_at = now;
    s->recv_window -= (uint32_t)part.len;
    s->unread += (uint32_t)part.len;
    emit(event, WR_YAMUX_DATA, s);
    event->data = part;
    return 1;
}

/* Goes on with the frame under way. 1: event. 0: done with it, or the body is not all here. */
static int on_frame(struct wr_yamux *y, struct wr_bytes *in, wr_time now, struct wr_yamux_event *event)
{
    bool told = y->cur && !(y->cur->state & FORGOTTEN);    /* there is an owner to tell */
    if (todo_take(y, TODO_OPENED))
        return emit(event, WR_YAMUX_OPENED, y->cur);
    if (todo_take(y, TODO_ACKED) && told)
        return emit(event, WR_YAMUX_ACKED, y->cur);
    if (todo_take(y, TODO_WRITABLE) && (y->cur->state & SHORT)) {
        y->cur->state &= (uint16_t)~SHORT;
        return emit(event, WR_YAMUX_WRITABLE, y->cur);
    }
    if (todo_take(y, TODO_RESET)) {
        int rc = on_reset(y, y->cur, event);
        if (rc)
            return rc;
    }
    if (y->body_left) {
        int rc = on_body(y, in, now, event);
        if (rc || y->body_left)
            return rc;
    }
    if (todo_take(y, TODO_ENDED) && !(y->cur->state & ENDED)) {
        struct wr_yamux_stream *s = y->cur;
        s->state |= ENDED;
        s->due &= (uint16_t)~GRANT;
        y->cur = NULL;
        return emit(event, WR_YAMUX_EOF, s);
    }
    y->cur = NULL;
    return 0;
}

/* 1: header points at a whole one, valid until the next call. 0: wants more. */
static int take_header(struct wr_yamux *y, struct wr_bytes *in, const uint8_t **header)
{
    size_t need = WR_YAMUX_HEADER - y->header_have;
    if (y->header_have == 0 && in->len >= need) {
        *header = wr_bytes_take(in, need).ptr;
        return 1;
    }
    struct wr_bytes part = wr_bytes_take(in, in->len < need ? in->len : need);
    if (part.len)
        memcpy(y->header + y->header_have, part.ptr, part.len);
    y->header_have = (uint8_t)(y->header_have + part.len);
    if (y->header_have < WR_YAMUX_HEADER)
        return 0;
    y->header_have = 0;
    *header = y->header;
    return 1;
}

static int give_up(struct wr_yamux *y, int err)
{
    y->err = err;
    if (y->goaway != GOAWAY_SENT) {
        y->goaway = GOAWAY_DUE;
        y->goaway_code = err == WR_EPROTO ? WR_YAMUX_PROTOCOL_ERROR : WR_YAMUX_INTERNAL_ERROR;
    }
    y->ping = IDLE;
    wr_free(y->answers);
    y->answers = NULL;
    y->answer_next = y->answer_count = y->answer_cap = 0;
    return err;
}

int wr_yamux_input(struct wr_yamux *y, struct wr_bytes *in, wr_time now, struct wr_yamux_event *event)
{
    while (!y->err) {
        const uint8_t *header;
        int rc = on_frame(y, in, now, event);
        if (rc || y->body_left)
            return rc;
        if (!take_header(y, in, &header))
            return 0;
        rc = on_header(y, header, now, event);
        if (rc < 0)
            return give_up(y, rc);
        if (rc > 0)
            return rc;
    }
    return y->err;
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
    y->limits = config->limits;
    y->streams_max = config->streams_max;
    y->outbound_max = config->outbound_max;
    y->dialer = config->dialer;
    if (config->rtt > 0)
        rtt_add(y, config->rtt);
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
        stream_free(s);
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
