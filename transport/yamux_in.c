#include "transport/yamux_state.h"

#include <string.h>

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
        struct wr_yamux_answer *answers = wr_realloc(y->answers, cap * sizeof(*answers));
        if (!answers)
            return WR_ELIMIT;
        y->answers = answers;
        y->answer_cap = cap;
    }
    y->answers[y->answer_count++] = (struct wr_yamux_answer){.value = value, .pong = pong};
    return 0;
}

static int emit(struct wr_yamux_event *event, enum wr_yamux_event_type type,
                struct wr_yamux_stream *s)
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
    wr_yamux_rtt_add(y, rtt);
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
        *s = wr_yamux_stream_create(y, id, false);
    else if (y->goaway == OPEN && y->limits)
        wr_limits_refuse(y->limits, WR_LIMIT_STREAMS_PER_CONN);
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

static int on_window_update(struct wr_yamux *y, struct wr_yamux_stream *s, uint32_t id,
                            unsigned flags, uint32_t value)
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
static int on_header(struct wr_yamux *y, const uint8_t *h, wr_time now,
                     struct wr_yamux_event *event)
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
    wr_yamux_stream_stop(s);
    y->cur = NULL;
    if (s->state & FORGOTTEN) {
        wr_yamux_stream_free(s);
        return 0;
    }
    emit(event, WR_YAMUX_RESET, s);
    event->code = y->reset_code;
    return 1;
}

/* The body's next piece. 1: event; 0: none left, or none here yet. */
static int on_body(struct wr_yamux *y, struct wr_bytes *in, wr_time now,
                   struct wr_yamux_event *event)
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
static int on_frame(struct wr_yamux *y, struct wr_bytes *in, wr_time now,
                    struct wr_yamux_event *event)
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

int wr_yamux_input(struct wr_yamux *y, struct wr_bytes *in, wr_time now,
                   struct wr_yamux_event *event)
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
