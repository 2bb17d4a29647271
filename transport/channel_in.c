/* What a channel receives: bytes of the wire become frames, those become what the muxer is given. */
#include "transport/channel_impl.h"

static void clear_partial(struct wr_channel *ch, struct wr_buf *partial)
{
    wr_account_give(&ch->conn.memory, partial->len);
    wr_buf_clear(partial);
}

/* Keeps part of a frame. 0, WR_ELIMIT. */
static int keep_partial(struct wr_channel *ch, const uint8_t *data, size_t len)
{
    if (!wr_account_take(&ch->conn.memory, len))
        return WR_ELIMIT;
    wr_buf_put(&ch->partial, data, len);
    if (!ch->partial.full)
        return 0;
    wr_account_give(&ch->conn.memory, len);
    return WR_ELIMIT;
}

static void on_yamux_event(struct wr_channel *ch, const struct wr_yamux_event *event)
{
    struct wr_stream *s = event->stream ? wr_yamux_arg(event->stream) : NULL;
    switch (event->type) {
    case WR_YAMUX_OPENED:
        s = wr_conn_inbound_stream(&ch->conn, event->stream);
        if (s) {
            wr_yamux_set_arg(event->stream, s);
            return;
        }
        wr_yamux_reset(event->stream, WR_STREAM_LIMIT);
        wr_yamux_forget(event->stream);
        return;
    case WR_YAMUX_DATA:
        if (s)
            wr_stream_input(s, event->data);
        return;
    case WR_YAMUX_EOF:
        if (s)
            wr_stream_input_eof(s);
        return;
    case WR_YAMUX_RESET:
        if (s)
            wr_stream_input_reset(s, event->code);
        return;
    case WR_YAMUX_WRITABLE:
        wr_conn_writable(&ch->conn);
        return;
    case WR_YAMUX_ACKED:
        wr_conn_retry_opens(&ch->conn);
        return;
    case WR_YAMUX_PONG:
        return;
    case WR_YAMUX_GOAWAY:
        wr_channel_end(ch, WR_ECLOSED);
        return;
    }
}

/* Decrypted bytes: the muxer's negotiation, then yamux. */
static int plain_input(struct wr_channel *ch, struct wr_bytes in)
{
    if (ch->phase == WR_PHASE_MUXER) {
        int rc = wr_mss_input(ch->mss, &in, &ch->early);
        if (rc < 0)
            return rc;
        wr_channel_want_flush(ch);
        if (rc == 0)
            return 0;
        wr_channel_muxed(ch);
        if (!ch->conn.outbound)
            wr_conn_opened(&ch->conn);
    }
    while (wr_wire_open(&ch->wire)) {
        struct wr_yamux_event event;
        int rc = wr_yamux_input(ch->yamux, &in, wr_env_now(ch->conn.ctx->env), &event);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        on_yamux_event(ch, &event);
    }
    if (wr_wire_open(&ch->wire) && wr_yamux_wants_output(ch->yamux))
        wr_channel_want_flush(ch);
    return 0;
}

/* Opens one whole frame in place. */
static int frame_input(struct wr_channel *ch, uint8_t *frame, size_t body_len)
{
    const struct wr_secure *security = ch->conn.security;
    int n = security->open(&ch->session, frame, body_len);
    return n <= 0 ? n : plain_input(ch, WR_BYTES(frame + security->header, (size_t)n));
}

/* Completes the frame that is held in part; advances *data. */
static int complete_partial(struct wr_channel *ch, uint8_t **data, size_t *len)
{
    const struct wr_secure *security = ch->conn.security;
    while (ch->partial.len && *len && wr_wire_open(&ch->wire)) {
        int body = 0;
        if (ch->partial.len >= security->header)
            body = security->body_len(ch->partial.data);
        if (body < 0)
            return body;
        size_t want = security->header + (size_t)body - ch->partial.len;
        want = want < *len ? want : *len;
        int rc = keep_partial(ch, *data, want);
        if (rc < 0)
            return rc;
        *data += want;
        *len -= want;
        if (ch->partial.len < security->header)
            continue;
        body = security->body_len(ch->partial.data);
        if (body < 0)
            return body;
        if (ch->partial.len < security->header + (size_t)body)
            continue;
        struct wr_buf whole = ch->partial;
        wr_buf_init(&ch->partial, whole.max);
        rc = frame_input(ch, whole.data, (size_t)body);
        clear_partial(ch, &whole);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int frames_input(struct wr_channel *ch, uint8_t *data, size_t len)
{
    const struct wr_secure *security = ch->conn.security;
    int rc = complete_partial(ch, &data, &len);
    while (rc >= 0 && wr_wire_open(&ch->wire) && len >= security->header) {
        int body = security->body_len(data);
        if (body < 0)
            return body;
        size_t whole = security->header + (size_t)body;
        if (len < whole)
            break;
        rc = frame_input(ch, data, (size_t)body);
        data += whole;
        len -= whole;
    }
    if (rc < 0 || !wr_wire_open(&ch->wire) || len == 0)
        return rc;
    return keep_partial(ch, data, len);
}

static int input(struct wr_channel *ch, uint8_t *data, size_t len)
{
    if (!ch->secured) {
        struct wr_bytes in = {data, len};
        struct wr_buf out;
        wr_buf_init(&out, WR_CHANNEL_OUT_MAX);
        int rc = wr_channel_handshake_input(ch, &in, &out);
        int sent = wr_channel_send_clear(ch, &out);
        if (rc < 0 || sent < 0)
            return rc < 0 ? rc : sent;
        data += len - in.len;
        len = in.len;
        if (rc == 0)
            return 0;
    }
    return frames_input(ch, data, len);
}

void wr_channel_on_read(void *arg, uint8_t *data, size_t len)
{
    struct wr_channel *ch = arg;
    if (ch->conn.closing)
        return;
    ch->conn.bytes_in += len;
    if (ch->pnet) {
        size_t skip = wr_pnet_decrypt(ch->pnet, data, len);
        data += skip;
        len -= skip;
    }
    int rc = len ? input(ch, data, len) : 0;
    if (rc >= 0 || !wr_wire_open(&ch->wire))
        return;
    if (rc != WR_ECLOSED)
        wr_log(wr_env_log(ch->conn.ctx->env), WR_LOG_DEBUG, "conn", "broken phase=%d err=%s why=\"%s\"",
               (int)ch->phase, wr_err_name(rc),
               ch->handshake ? ch->conn.security->why(ch->handshake) : "");
    if (ch->yamux && ch->secured && rc == WR_EPROTO)
        wr_channel_flush(ch);
    wr_channel_farewell(ch, rc);
    wr_channel_end(ch, rc);
}

void wr_channel_forget_partial(struct wr_channel *ch)
{
    clear_partial(ch, &ch->partial);
}
