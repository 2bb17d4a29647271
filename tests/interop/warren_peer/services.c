/* The test protocols that every host answers. */
#include "peer.h"

#include "transport/yamux.h"

#include <string.h>

const char *const offer_echo[] = {"/warren-test/echo/1.0.0", NULL};
const char *const offer_sink[] = {"/warren-test/sink/1.0.0", NULL};
const char *const offer_source[] = {"/warren-test/source/1.0.0", NULL};
const char *const offer_reset[] = {"/warren-test/reset/1.0.0", NULL};
const char *const offer_perf[] = {"/perf/1.0.0", NULL};

/* Bytes. While an echo is paused as much comes as its window lets in, yamux' being the largest, in one piece. */
#define ECHO_MAX (WR_YAMUX_WINDOW_MAX + WR_MIB)

/* One conversation of any of the protocols. */
struct talk {
    struct host *host;
    EVP_MD_CTX *hash;
    struct wr_buf kept;         /* echo: what the peer does not take yet */
    uint8_t head[8];
    size_t head_len;
    uint64_t count, sent;
    uint8_t tail[40];
    size_t tail_len, tail_sent;
    bool eof, tail_ready;
};

static struct talk *talk_new(struct wr_stream *s, struct host *h, const struct wr_stream_ops *ops)
{
    struct talk *t = wr_alloc(sizeof(*t));
    if (!t)
        abort();
    t->host = h;
    wr_buf_init(&t->kept, ECHO_MAX);
    wr_stream_set_ops(s, ops, t);
    return t;
}

static void talk_free(struct talk *t)
{
    EVP_MD_CTX_free(t->hash);
    wr_buf_clear(&t->kept);
    wr_free(t);
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct talk *t = arg;
    (void)s;
    if (err != 0)
        t->host->counters.handler_errors++;
    talk_free(t);
}

/* ---- echo */

static void echo_flush(struct wr_stream *s, struct talk *t)
{
    int n = t->kept.len ? wr_stream_write(s, t->kept.data, t->kept.len) : 0;
    if (n > 0) {
        t->host->counters.bytes_out += (uint64_t)n;
        wr_buf_consume(&t->kept, (size_t)n);
    }
    wr_stream_pause(s, t->kept.len > 0);
    if (t->kept.len == 0 && t->eof)
        wr_stream_shut(s);
}

static void echo_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct talk *t = arg;
    t->host->counters.bytes_in += data.len;
    wr_buf_put_bytes(&t->kept, data);
    if (t->kept.full) {
        t->host->counters.handler_errors++;
        wr_stream_reset(s, WR_STREAM_LIMIT);
        talk_free(t);
        return;
    }
    echo_flush(s, t);
}

static void echo_eof(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    t->eof = true;
    echo_flush(s, t);
}

static void echo_writable(struct wr_stream *s, void *arg)
{
    echo_flush(s, arg);
}

static const struct wr_stream_ops echo_ops = {
    .on_data = echo_data, .on_eof = echo_eof, .on_writable = echo_writable, .on_close = on_close};

static void on_echo(struct wr_stream *s, void *arg)
{
    struct host *h = arg;
    h->counters.echo++;
    talk_new(s, h, &echo_ops);
}

/* ---- sending `count` bytes of the pattern, then the tail, then the end: source, perf and sink's answer */

static void pour(struct wr_stream *s, struct talk *t)
{
    while (t->sent < t->count) {
        size_t at = (size_t)(t->sent % PATTERN_LEN);
        uint64_t left = t->count - t->sent;
        size_t len = PATTERN_LEN - at < left ? PATTERN_LEN - at : (size_t)left;
        int n = wr_stream_write(s, pattern() + at, len);
        if (n <= 0)
            return;
        if (t->hash)
            EVP_DigestUpdate(t->hash, pattern() + at, (size_t)n);
        t->sent += (uint64_t)n;
        t->host->counters.bytes_out += (uint64_t)n;
        if ((size_t)n < len)
            return;
    }
    if (t->hash && !t->tail_ready) {
        hash_end(t->hash, t->tail);
        t->hash = NULL;
        t->tail_len = 32;
    }
    t->tail_ready = true;
    if (t->tail_sent < t->tail_len) {
        int n = wr_stream_write(s, t->tail + t->tail_sent, t->tail_len - t->tail_sent);
        t->tail_sent += n > 0 ? (size_t)n : 0;
    }
    if (t->tail_sent == t->tail_len)
        wr_stream_shut(s);
}

static void pour_writable(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    if (t->eof)
        pour(s, t);
}

static void take_head(struct talk *t, struct wr_bytes data)
{
    size_t want = sizeof(t->head) - t->head_len;
    size_t take = data.len < want ? data.len : want;
    memcpy(t->head + t->head_len, data.ptr, take);
    t->head_len += take;
    t->host->counters.bytes_in += data.len;
}

static void head_eof(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    if (t->head_len < sizeof(t->head)) {
        t->host->counters.handler_errors++;
        wr_stream_reset(s, WR_STREAM_VIOLATION);
        talk_free(t);
        return;
    }
    for (size_t i = 0; i < sizeof(t->head); i++)
        t->count = t->count << 8 | t->head[i];
    t->eof = true;
    pour(s, t);
}

static void head_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    take_head(arg, data);
}

static const struct wr_stream_ops pour_ops = {
    .on_data = head_data, .on_eof = head_eof, .on_writable = pour_writable, .on_close = on_close};

static void on_source(struct wr_stream *s, void *arg)
{
    struct host *h = arg;
    h->counters.source++;
    talk_new(s, h, &pour_ops)->hash = hash_start();
}

static void on_perf(struct wr_stream *s, void *arg)
{
    struct host *h = arg;
    h->counters.perf++;
    talk_new(s, h, &pour_ops);
}

/* ---- sink */

static void sink_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct talk *t = arg;
    (void)s;
    EVP_DigestUpdate(t->hash, data.ptr, data.len);
    t->host->counters.bytes_in += data.len;
    t->sent += data.len;
    t->count = t->sent;    /* nothing of the pattern is sent */
}

static void sink_eof(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    hash_end(t->hash, t->tail);
    t->hash = NULL;
    for (size_t i = 0; i < 8; i++)
        t->tail[32 + i] = (uint8_t)(t->count >> (8 * (7 - i)));
    t->tail_len = 40;
    t->tail_ready = t->eof = true;
    pour(s, t);
}

static const struct wr_stream_ops sink_ops = {
    .on_data = sink_data, .on_eof = sink_eof, .on_writable = pour_writable, .on_close = on_close};

static void on_sink(struct wr_stream *s, void *arg)
{
    struct host *h = arg;
    h->counters.sink++;
    talk_new(s, h, &sink_ops)->hash = hash_start();
}

/* ---- reset */

static void reset_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct talk *t = arg;
    if (t->head_len++ || data.len == 0)
        return;
    if (data.ptr[0] == 1) {
        wr_stream_reset(s, 0x77);
        talk_free(t);
        return;
    }
    wr_stream_write(s, "\x02", 1);
}

static void reset_eof(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    t->host->counters.reset_eofs++;
    wr_stream_close(s);
    talk_free(t);
}

static void reset_close(struct wr_stream *s, void *arg, int err)
{
    struct talk *t = arg;
    (void)s;
    if (err == WR_ERESET)
        t->host->counters.resets_seen++;
    talk_free(t);
}

static const struct wr_stream_ops reset_ops = {
    .on_data = reset_data, .on_eof = reset_eof, .on_close = reset_close};

static void on_reset(struct wr_stream *s, void *arg)
{
    struct host *h = arg;
    h->counters.reset++;
    talk_new(s, h, &reset_ops);
}

static void handle(struct host *h, const char *name, void (*on_stream)(struct wr_stream *, void *))
{
    struct wr_protocol p = {.on_stream = on_stream, .arg = h, .inbound_max = 4096, .limited = true};
    snprintf(p.name, sizeof(p.name), "%s", name);
    if (wr_swarm_handle(h->swarm, &p) != 0)
        abort();
}

void services_register(struct host *h)
{
    handle(h, offer_echo[0], on_echo);
    handle(h, offer_sink[0], on_sink);
    handle(h, offer_source[0], on_source);
    handle(h, offer_reset[0], on_reset);
    handle(h, offer_perf[0], on_perf);
}
