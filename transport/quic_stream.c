/* Streams of a QUIC connection, and what a struct wr_conn asks of QUIC.
 * Bytes written are kept in chunks until the peer has acknowledged them: ngtcp2 points at them. */
#include "transport/quic_impl.h"

#include <assert.h>
#include <string.h>

#define CHUNK_MAX     (32 * 1024)    /* bytes, bookkeeping included; ours */
#define CHUNK_MIN     256            /* ours: most streams carry one small request */
/* Behind others a chunk fills a packet: ngtcp2 before 1.6 leaks a frame whose data stood in four pieces when
 * it is lost and part of it goes out with what was lost before it. */
#define CHUNK_NEXT    (sizeof(struct wr_quic_chunk) + WR_QUIC_DATAGRAM)
#define OUTBOUND_SHARE 2             /* streams of ours at once: half of what we take, as over yamux */
#define RESERVE_SHARE 4    /* of what a connection holds: ngtcp2 keeps a fifth of what is under way; ours */
#define WINDOW_STEP   (512 * 1024)    /* bytes: a long window grows so much twice in a round trip; ours */
#define WRITE_ROOM    (16 * 1024)    /* bytes acknowledged that are worth telling a writer of */

struct wr_quic_chunk {
    struct wr_quic_chunk *next;
    uint64_t at;           /* offset of the first byte */
    uint32_t len, cap;
    uint8_t data[];
};

static struct wr_limits *limits_of(const struct wr_quic_stream *qs)
{
    return qs->qc->q->ctx->limits;
}

/* ---- birth and end ------------------------------------------------------------------------------- */

struct wr_quic_stream *wr_quic_stream_create(struct wr_quic_conn *qc, bool local)
{
    struct wr_limits *limits = qc->q->ctx->limits;
    if (local ? !wr_limits_take(limits, WR_LIMIT_STREAMS, 1)
              : !wr_limits_take_fair(limits, WR_LIMIT_STREAMS, qc->inbound, 1))
        return NULL;
    struct wr_quic_stream *qs = wr_alloc(sizeof(*qs));
    if (!qs) {
        wr_limits_give(limits, WR_LIMIT_STREAMS, 1);
        return NULL;
    }
    qs->qc = qc;
    qs->local = local;
    qs->window = WR_QUIC_STREAM_WINDOW;
    wr_list_init(&qs->node);
    wr_list_init(&qs->ready);
    wr_list_append(&qc->streams, &qs->node);
    qc->outbound += local;
    qc->inbound += !local;
    return qs;
}

static void free_chunk(struct wr_quic_stream *qs)
{
    struct wr_quic_chunk *c = qs->head;
    qs->head = c->next;
    if (!qs->head)
        qs->tail = NULL;
    if (qs->unsent == c)
        qs->unsent = c->next;
    wr_account_give(&qs->qc->conn.memory, sizeof(*c) + c->cap);
    wr_free(c);
}

static void give_window(struct wr_quic_stream *qs)
{
    wr_limits_give(limits_of(qs), WR_LIMIT_WINDOW_EXTRA, qs->window - WR_QUIC_STREAM_WINDOW);
    qs->window = WR_QUIC_STREAM_WINDOW;
}

void wr_quic_stream_destroy(struct wr_quic_stream *qs)
{
    while (qs->head)
        free_chunk(qs);
    give_window(qs);
    qs->qc->outbound -= qs->local;
    qs->qc->inbound -= !qs->local;
    wr_limits_give(limits_of(qs), WR_LIMIT_STREAMS, 1);
    wr_list_remove(&qs->node);
    wr_list_remove(&qs->ready);
    wr_free(qs);
}

void wr_quic_stream_closed(struct wr_quic_stream *qs)
{
    qs->closed = true;
    qs->dead = true;    /* whatever was not acknowledged by now never will be */
    while (qs->head)
        free_chunk(qs);
    qs->acked = qs->sent = qs->end;
    wr_list_remove(&qs->ready);
    if (!qs->s)
        wr_quic_stream_destroy(qs);
    else
        qs->qc->room = true;
}

/* ---- receiving ------------------------------------------------------------------------------------ */

static wr_time rtt_of(const struct wr_quic_conn *qc)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    return info.min_rtt == UINT64_MAX ? 0 : (wr_time)info.smoothed_rtt;
}

/* A window of which half was read within two round trips is what holds the peer back, or will in the next one: it
 * doubles, under the node's budget; a long one takes small steps. A sender in slow start overshoots the line by as
 * much as we let it, each second packet of that is lost, and ngtcp2 0.12 gives a connection up when a stream has 1000
 * gaps: a megabyte in a round trip leaves fewer. Returns by how much it grew. */
static uint64_t grow(struct wr_quic_conn *qc, uint64_t *window, uint64_t *used, wr_time *since, uint64_t max,
                     size_t len)
{
    wr_time now = wr_env_now(qc->q->env);
    bool fast = *since != 0 && now - *since < 2 * qc->rtt;
    bool half = (*used += len) >= *window / 2;
    if (fast && !half)
        return 0;
    *used = 0;
    *since = now;
    uint64_t step = *window < WR_QUIC_STREAM_FAST ? *window : WINDOW_STEP;
    uint64_t more = step < max - *window ? step : max - *window;
    if (!fast || more == 0 || !wr_limits_take(qc->q->ctx->limits, WR_LIMIT_WINDOW_EXTRA, more))
        return 0;
    *window += more;
    return more;
}

/* Lets the peer send as much again on the whole connection. */
static void return_conn_credit(struct wr_quic_conn *qc, size_t len)
{
    uint64_t more = grow(qc, &qc->window, &qc->window_used, &qc->window_at, WR_QUIC_CONN_MAX, len);
    ngtcp2_conn_extend_max_offset(qc->ng, len + more);
}

void wr_quic_stream_arrived(struct wr_quic_stream *qs, const uint8_t *data, size_t len, bool fin)
{
    struct wr_quic_conn *qc = qs->qc;
    if (qs->window_at == 0)
        qs->window_at = wr_env_now(qc->q->env);
    if (qc->window_at == 0)
        qc->window_at = wr_env_now(qc->q->env);
    if (len && qs->s) {
        qs->unread += len;
        wr_stream_input(qs->s, WR_BYTES(data, len));
    } else if (len) {
        ngtcp2_conn_extend_max_offset(qc->ng, len);
    }
    if (fin && qs->s)
        wr_stream_input_eof(qs->s);
}

void wr_quic_stream_reset_by_peer(struct wr_quic_stream *qs, uint64_t code)
{
    if (qs->s)
        wr_stream_input_reset(qs->s, code > UINT32_MAX ? WR_STREAM_OK : (uint32_t)code);
}

static void mux_consumed(struct wr_stream *s, size_t len)
{
    struct wr_quic_stream *qs = s->mux;
    struct wr_quic_conn *qc = qs->qc;
    if (len == 0 || qc->over)
        return;
    assert(len <= qs->unread);
    qs->unread -= len;
    return_conn_credit(qc, len);
    if (!qs->closed) {
        uint64_t more = s->steady ? 0
                                  : grow(qc, &qs->window, &qs->window_used, &qs->window_at,
                                         WR_QUIC_STREAM_MAX, len);
        ngtcp2_conn_extend_max_stream_offset(qc->ng, qs->id, len + more);
    }
    wr_quic_conn_want_flush(qc);
}

/* ---- sending -------------------------------------------------------------------------------------- */

static struct wr_quic_chunk *add_chunk(struct wr_quic_stream *qs, size_t want)
{
    size_t whole = sizeof(struct wr_quic_chunk) + want, least = qs->tail ? CHUNK_NEXT : CHUNK_MIN;
    whole = whole < least ? least : whole > CHUNK_MAX ? CHUNK_MAX : whole;
    if (!wr_account_take(&qs->qc->conn.memory, whole))
        return NULL;
    struct wr_quic_chunk *c = wr_realloc(NULL, whole);
    if (!c) {
        wr_account_give(&qs->qc->conn.memory, whole);
        return NULL;
    }
    *c = (struct wr_quic_chunk){.at = qs->end, .cap = (uint32_t)(whole - sizeof(*c))};
    if (qs->tail)
        qs->tail->next = c;
    else
        qs->head = c;
    qs->tail = c;
    if (!qs->unsent)
        qs->unsent = c;
    return c;
}

static void want_send(struct wr_quic_stream *qs)
{
    if (wr_list_empty(&qs->ready))
        wr_list_append(&qs->qc->ready, &qs->ready);
    wr_quic_conn_want_flush(qs->qc);
}

static size_t mux_space(const struct wr_stream *s)
{
    const struct wr_quic_stream *qs = s->mux;
    uint64_t held = qs->end - qs->acked, cap = qs->qc->send_cap;
    if (qs->dead)
        return WRITE_ROOM;
    /* What ngtcp2 needs for itself must stay: without it the connection ends. */
    const struct wr_account *memory = &qs->qc->conn.memory;
    uint64_t room = wr_account_room(memory);
    if (room < memory->held / RESERVE_SHARE && cap > room / 2)
        cap = room / 2;
    return held < cap ? (size_t)(cap - held) : 0;
}

static int mux_write(struct wr_stream *s, const uint8_t *data, size_t len)
{
    struct wr_quic_stream *qs = s->mux;
    size_t room = mux_space(s), put = 0;
    if (qs->shut || qs->qc->over)
        return WR_ECLOSED;
    /* The peer reads no more. Over yamux it would go on throwing away what we send; here we do so. */
    if (qs->dead)
        return (int)len;
    bool wanted = len > 0;
    if (len > room)
        len = room;
    while (put < len) {
        struct wr_quic_chunk *c = qs->tail;
        if (!c || c->len == c->cap)
            c = add_chunk(qs, len - put);
        if (!c)
            break;
        size_t take = len - put < c->cap - c->len ? len - put : c->cap - c->len;
        memcpy(c->data + c->len, data + put, take);
        c->len += (uint32_t)take;
        qs->end += take;
        put += take;
    }
    /* With nothing under way no acknowledgement would ever tell of room. */
    if (put == 0 && wanted && qs->end == qs->acked)
        return WR_ELIMIT;
    if (put)
        want_send(qs);
    return (int)put;
}

static size_t mux_queued(const struct wr_stream *s)
{
    const struct wr_quic_stream *qs = s->mux;
    return (size_t)(qs->end - qs->sent);
}

size_t wr_quic_stream_pieces(const struct wr_quic_stream *qs, ngtcp2_vec *vec, size_t max, bool *fin)
{
    size_t count = 0;
    uint64_t at = qs->sent;
    for (struct wr_quic_chunk *c = qs->unsent; c && count < max; c = c->next) {
        if (c->at + c->len <= at)
            continue;
        size_t skip = (size_t)(at - c->at);
        vec[count++] = (ngtcp2_vec){c->data + skip, c->len - skip};
        at = c->at + c->len;
    }
    *fin = qs->shut && at == qs->end;
    return count;
}

void wr_quic_stream_sent(struct wr_quic_stream *qs, size_t len, bool fin)
{
    qs->sent += len;
    qs->fin_sent |= fin;
    while (qs->unsent && qs->unsent->next && qs->unsent->next->at <= qs->sent)
        qs->unsent = qs->unsent->next;
}

void wr_quic_stream_acked(struct wr_quic_stream *qs, uint64_t until)
{
    qs->acked = until;
    /* The tail stays while it has room: what is written next goes there. */
    while (qs->head && qs->head->at + qs->head->len <= until &&
           (qs->head->next || qs->head->len == qs->head->cap || qs->acked == qs->end))
        free_chunk(qs);
}

/* The peer asked us to stop: what is queued goes nowhere. ngtcp2 answered with a reset of our side. */
void wr_quic_stream_stopped(struct wr_quic_stream *qs)
{
    wr_list_remove(&qs->ready);
    qs->dead = true;
    qs->sent = qs->end;
    qs->qc->room = true;
    wr_quic_conn_want_flush(qs->qc);
}

/* ---- what the connection asks of its carrier -------------------------------------------------------- */

static int mux_open(struct wr_conn *c, struct wr_stream *s)
{
    struct wr_quic_conn *qc = (struct wr_quic_conn *)(void *)c;
    uint64_t max = qc->q->ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max / OUTBOUND_SHARE;
    if (qc->over)
        return WR_ECLOSED;
    if (qc->outbound >= max)
        return WR_ELIMIT;
    struct wr_quic_stream *qs = wr_quic_stream_create(qc, true);
    if (!qs)
        return WR_ELIMIT;
    if (ngtcp2_conn_open_bidi_stream(qc->ng, &qs->id, qs) != 0) {
        wr_quic_stream_destroy(qs);
        return WR_ELIMIT;
    }
    qs->s = s;
    s->mux = qs;
    return 0;
}

static void mux_shut(struct wr_stream *s)
{
    struct wr_quic_stream *qs = s->mux;
    qs->shut = true;
    if (!qs->dead && !qs->qc->over)
        want_send(qs);
}

static void mux_reset(struct wr_stream *s, uint32_t code)
{
    struct wr_quic_stream *qs = s->mux;
    qs->shut = true;
    qs->dead = true;
    wr_list_remove(&qs->ready);
    if (qs->closed || qs->qc->over)
        return;
    ngtcp2_conn_shutdown_stream(qs->qc->ng, 0, qs->id, code);
    wr_quic_conn_want_flush(qs->qc);
}

static void mux_forget(struct wr_stream *s)
{
    struct wr_quic_stream *qs = s->mux;
    struct wr_quic_conn *qc = qs->qc;
    /* The peer's reset ends its side only; ours has to be ended, too, or the stream would stay for ever. */
    if (!qs->shut)
        mux_reset(s, WR_STREAM_OK);
    qs->s = NULL;
    if (qs->unread && !qc->over)
        ngtcp2_conn_extend_max_offset(qc->ng, qs->unread);
    qs->unread = 0;
    if (qs->closed)
        wr_quic_stream_destroy(qs);
    qc->opens = true;
    wr_quic_conn_want_flush(qc);
}

static wr_time mux_rtt(const struct wr_conn *c)
{
    const struct wr_quic_conn *qc = (const struct wr_quic_conn *)(const void *)c;
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    return info.min_rtt == UINT64_MAX ? 0 : (wr_time)info.min_rtt;
}

static void mux_stats(const struct wr_conn *c, struct wr_conn_stats *out)
{
    const struct wr_quic_conn *qc = (const struct wr_quic_conn *)(const void *)c;
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    *out = (struct wr_conn_stats){.rtt = rtt_of(qc),
                                  .cwnd = info.cwnd,
                                  .in_flight = info.bytes_in_flight,
                                  .loss_events = qc->loss_events,
                                  .migrations = qc->migrations,
                                  .mtu = (uint32_t)ngtcp2_conn_get_path_max_tx_udp_payload_size(qc->ng)};
}

const struct wr_mux_ops wr_quic_mux_ops = {
    .transport = "quic-v1",
    .security = "/tls/1.0.0",
    .muxer = "quic-v1",
    .open = mux_open,
    .write = mux_write,
    .space = mux_space,
    .queued = mux_queued,
    .shut = mux_shut,
    .reset = mux_reset,
    .consumed = mux_consumed,
    .forget = mux_forget,
    .close = wr_quic_conn_close,
    .release = wr_quic_conn_release,
    .rtt = mux_rtt,
    .stats = mux_stats,
};
