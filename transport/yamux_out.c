#include "transport/yamux_state.h"

#include <string.h>

#define MARK      0    /* value of a ping that nobody waits for: wr_yamux_ping begins with 1 */
#define APART_MIN 4096 /* bytes; ours: fewer are copied as fast */
#define APART_AT  64   /* bytes: yamux.h */
#define FRESH_MAX WR_YAMUX_BODY_MAX    /* bytes that fresh streams may send before bulk has a turn */

static size_t put_header(uint8_t *out, enum frame_type type, unsigned flags, uint32_t id,
                         uint32_t len)
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
    struct wr_yamux_answer a = y->answers[y->answer_next++];
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

static bool mark_due(const struct wr_yamux *y)
{
    return y->mark_every && y->unmarked >= y->mark_every && !y->err;
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
    if (mark_due(y)) {
        y->unmarked = 0;
        return put_header(out, PING, SYN, 0, MARK);
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
    wr_yamux_stream_settle(s);
    return len;
}

/* What output fills. */
struct target {
    uint8_t *buf;
    struct wr_bytes *apart;    /* NULL: all goes into buf */
};

/* The body of a data frame, from `out` on. */
static void put_body(struct wr_yamux_stream *s, const struct target *to, uint8_t *out, size_t len)
{
    size_t here = len;
    if (to->apart && len >= APART_MIN && s->queue.lent_len == s->queue.len)
        here = (APART_AT - (size_t)(out - to->buf) % APART_AT) % APART_AT;
    wr_sendq_take(&s->queue, &s->session->memory, out, here);
    if (here < len)
        *to->apart = wr_sendq_take_lent(&s->queue, len - here);
}

static size_t put_data(struct wr_yamux_stream *s, const struct target *to, uint8_t *out, size_t room)
{
    struct wr_yamux *y = s->session;
    size_t body_room = room - WR_YAMUX_HEADER;
    uint32_t most = body_room < WR_YAMUX_BODY_MAX ? (uint32_t)body_room : WR_YAMUX_BODY_MAX;
    if (y->mark_every && most > y->mark_every)
        most = y->mark_every;
    uint32_t len = s->queue.len < most ? s->queue.len : most;
    unsigned flags = s->due & (SYN | ACK);
    s->due &= (uint16_t)~flags;
    put_header(out, DATA, flags, s->id, len);
    put_body(s, to, out + WR_YAMUX_HEADER, len);
    s->send_window -= len;
    y->unmarked += y->mark_every ? len : 0;
    wr_list_remove(&s->ready);
    if (s->queue.len)
        wr_list_append(&y->bulk, &s->ready);    /* one frame per turn */
    else if (s->due & FIN)
        wr_yamux_stream_due(s, FIN);
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
static size_t put_next_data(struct wr_yamux *y, const struct target *to, size_t at, size_t room)
{
    if (!has_data(y) || room <= WR_YAMUX_HEADER)
        return 0;
    bool fresh =
        wr_list_empty(&y->bulk) || (!wr_list_empty(&y->fresh) && y->fresh_sent < FRESH_MAX);
    struct wr_list *list = fresh ? &y->fresh : &y->bulk;
    struct wr_yamux_stream *s = wr_list_entry(list->next, struct wr_yamux_stream, ready);
    uint32_t want = s->queue.len < WR_YAMUX_FRAGMENT_MIN ? s->queue.len : WR_YAMUX_FRAGMENT_MIN;
    if (at > 0 && room - WR_YAMUX_HEADER < want)
        return 0;
    size_t len = put_data(s, to, to->buf + at, room);
    y->fresh_sent = fresh && !wr_list_empty(&y->bulk) ? y->fresh_sent + (uint32_t)len : 0;
    return len;
}

static size_t output(struct wr_yamux *y, const struct target *to, size_t room, wr_time now)
{
    uint8_t *buf = to->buf;
    size_t len = 0;
    while (room - len >= WR_YAMUX_HEADER && !(to->apart && to->apart->len)) {
        size_t n = put_session_frame(y, buf + len, now);
        if (n == 0 && !y->err && !wr_list_empty(&y->control)) {
            struct wr_list *node = wr_list_pop(&y->control);
            struct wr_yamux_stream *s = wr_list_entry(node, struct wr_yamux_stream, control);
            len += put_stream_control(s, buf + len);
            continue;
        }
        if (n == 0 && !y->err)
            n = put_next_data(y, to, len, room - len);
        if (n == 0 && y->goaway == GOAWAY_DUE && !has_data(y))
            n = put_goaway(y, buf + len);
        if (n == 0)
            break;
        len += n;
    }
    return len;
}

size_t wr_yamux_output(struct wr_yamux *y, uint8_t *buf, size_t room, wr_time now)
{
    return output(y, &(struct target){.buf = buf}, room, now);
}

size_t wr_yamux_output_apart(struct wr_yamux *y, uint8_t *buf, size_t room, wr_time now, struct wr_bytes *apart)
{
    *apart = WR_BYTES_NONE;
    return output(y, &(struct target){.buf = buf, .apart = apart}, room, now);
}

bool wr_yamux_wants_output(const struct wr_yamux *y)
{
    if (y->goaway == GOAWAY_DUE || y->ping == PING_DUE || y->answers || mark_due(y))
        return true;
    return !y->err && (!wr_list_empty(&y->control) || has_data(y));
}
