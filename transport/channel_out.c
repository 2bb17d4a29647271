/* What a channel sends: sealed frames of what waits, as much in one turn as leaves others theirs. */
#include "transport/channel_impl.h"

#include <string.h>

/* Bytes sent in one turn, and by writes between two, before others get theirs; ours: a dozen full writes. */
#define FLUSH_TURN_MAX (12 * WR_CONN_SCRATCH)

/* Bytes that the kernel did not take; they are there already. */
void wr_channel_count_unsent(struct wr_channel *ch)
{
    size_t now = wr_wire_open(&ch->wire) ? wr_wire_backlog(&ch->wire) : 0;
    if (now > ch->unsent)
        wr_account_charge(&ch->conn.memory, now - ch->unsent);
    else
        wr_account_give(&ch->conn.memory, ch->unsent - now);
    ch->unsent = now;
}

static void flush_task(struct wr_task *task)
{
    wr_channel_flush(wr_list_entry(task, struct wr_channel, flush));
}

void wr_channel_want_flush(struct wr_channel *ch)
{
    if (wr_wire_open(&ch->wire))
        wr_env_defer(ch->conn.ctx->env, &ch->flush, flush_task);
}

int wr_channel_send_clear(struct wr_channel *ch, struct wr_buf *out)
{
    int rc = out->full ? WR_ELIMIT : 0;
    if (rc == 0 && out->len && wr_wire_open(&ch->wire)) {
        if (ch->pnet)
            wr_pnet_encrypt(ch->pnet, out->data, out->len);
        ch->conn.bytes_out += out->len;
        rc = wr_wire_write(&ch->wire, out->data, out->len);
    }
    wr_buf_clear(out);
    return rc;
}

/* Seals one frame at `frame` out of what waits; returns its size, 0 when nothing does. */
static int seal_next(struct wr_channel *ch, uint8_t *frame, size_t room)
{
    const struct wr_secure *security = ch->conn.security;
    struct wr_bytes apart = WR_BYTES_NONE;
    size_t len = 0;
    room -= security->overhead;
    if (room > security->plain_max)
        room = security->plain_max;
    /* A frame is opened when all of it is there: the mark in it would come late. */
    if (ch->conn.circuit && room > WR_CHANNEL_CIRCUIT_FRAME)
        room = WR_CHANNEL_CIRCUIT_FRAME;
    if (ch->early.len) {
        len = ch->early.len;
        memcpy(frame + security->header, ch->early.data, len);
        wr_buf_clear(&ch->early);
    }
    /* A listener must not go on before it heard which muxer the dialler takes. */
    if (ch->phase == WR_PHASE_MUXED || ch->conn.outbound)
        len += wr_yamux_output_apart(ch->yamux, frame + security->header + len, room - len,
                                     wr_env_now(ch->conn.ctx->env), &apart);
    return len ? security->seal(&ch->session, frame, len, apart) : 0;
}

/* Bytes of one write. */
static size_t batch_size(const struct wr_channel *ch)
{
    size_t most = wr_wire_batch(&ch->wire);
    return most < WR_CONN_SCRATCH ? most : WR_CONN_SCRATCH;
}

/* The handshake's last message, if it did not leave yet, at the start of scratch; returns its size. */
static size_t put_last(struct wr_channel *ch)
{
    size_t len = ch->last.len;
    if (len)
        memcpy(ch->conn.ctx->scratch, ch->last.data, len);
    wr_buf_clear(&ch->last);
    return len;
}

/* Fills one write; returns bytes sent, 0 when nothing waits, <0 on failure. */
static int send_batch(struct wr_channel *ch)
{
    /* A frame is begun only where a useful one fits. */
    const size_t frame_min = ch->conn.security->overhead + WR_CHANNEL_OUT_MAX;
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    size_t used, most = batch_size(ch);
    /* What the kernel does not take stays with us: with memory short, no more than one small frame. */
    uint64_t room = wr_account_room(&ch->conn.memory);
    if (most > room)
        most = (size_t)room;
    if (most < frame_min)
        most = frame_min;
    used = put_last(ch);
    while (most - used >= frame_min) {
        int size = seal_next(ch, ctx->scratch + used, most - used);
        if (size < 0)
            return size;
        if (size == 0)
            break;
        used += (size_t)size;
    }
    if (used == 0)
        return 0;
    if (ch->pnet)
        wr_pnet_encrypt(ch->pnet, ctx->scratch, used);
    ch->conn.bytes_out += used;
    int rc = wr_wire_write(&ch->wire, ctx->scratch, used);
    wr_channel_count_unsent(ch);
    wr_channel_sent(ch);
    return rc < 0 ? rc : (int)used;
}

static void on_more(struct wr_timer *timer)
{
    struct wr_channel *ch = wr_list_entry(timer, struct wr_channel, more);
    wr_conn_retry_opens(&ch->conn);
    wr_channel_want_flush(ch);
}

void wr_channel_flush_at(struct wr_channel *ch, wr_time at)
{
    wr_timer_start(ch->conn.ctx->env, &ch->more, at, on_more);
}

/* A circuit's frames are its carrier's data, and stand where the carrier would seal. */
static bool in_scratch(const struct wr_channel *ch, const uint8_t *data)
{
    uintptr_t scratch = (uintptr_t)ch->conn.ctx->scratch, at = (uintptr_t)data;
    return at >= scratch && at < scratch + WR_CONN_SCRATCH;
}

size_t wr_channel_send_now(struct wr_channel *ch, struct wr_yamux_stream *s, const uint8_t *data, size_t len)
{
    if (ch->phase != WR_PHASE_MUXED || !wr_wire_open(&ch->wire) || wr_yamux_queued(s) + len < batch_size(ch) ||
        in_scratch(ch, data))
        return 0;
    wr_yamux_lend(s, data, len);
    /* What fills no batch waits for the next write, or the end of the turn. */
    while (!ch->broken && ch->turn_sent < FLUSH_TURN_MAX && wr_wire_backlog(&ch->wire) == 0 &&
           wr_yamux_queued(s) >= batch_size(ch)) {
        int n = send_batch(ch);
        if (n <= 0) {
            ch->broken = n;    /* no handler may run inside a write */
            wr_channel_want_flush(ch);
            break;
        }
        ch->turn_sent += (size_t)n;
    }
    return wr_yamux_recall(s, data);
}

void wr_channel_flush(struct wr_channel *ch)
{
    ch->turn_sent = 0;
    if (ch->broken) {
        wr_channel_end(ch, ch->broken);
        return;
    }
    while (wr_wire_open(&ch->wire) && ch->secured && wr_wire_backlog(&ch->wire) == 0) {
        if (ch->turn_sent >= FLUSH_TURN_MAX) {
            wr_channel_flush_at(ch, wr_env_now(ch->conn.ctx->env));
            return;
        }
        int n = ch->broken ? ch->broken : send_batch(ch);
        if (n < 0) {
            wr_channel_end(ch, n);
            return;
        }
        ch->turn_sent += (size_t)n;
        if (ch->phase == WR_PHASE_MUXED || ch->conn.outbound)
            wr_conn_writable(&ch->conn);
        if (n == 0 && !wr_yamux_wants_output(ch->yamux))
            return;
    }
}

void wr_channel_farewell(struct wr_channel *ch, int err)
{
    uint8_t *scratch = ch->conn.ctx->scratch;
    if (!wr_wire_open(&ch->wire) || !ch->secured || wr_wire_backlog(&ch->wire) != 0)
        return;
    size_t used = put_last(ch);
    int size = ch->conn.security->farewell(&ch->session, err, scratch + used);
    used += size > 0 ? (size_t)size : 0;
    if (used == 0)
        return;
    if (ch->pnet)
        wr_pnet_encrypt(ch->pnet, scratch, used);
    ch->conn.bytes_out += used;
    wr_wire_write(&ch->wire, scratch, used);
}
