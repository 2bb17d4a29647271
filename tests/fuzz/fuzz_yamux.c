/* A yamux session between a hostile peer and a busy owner: each step is an operation and its operands. */
#include "transport/err.h"
#include "transport/yamux.h"

#include <assert.h>
#include <string.h>

#define HELD_MAX 16

struct held {
    struct wr_yamux_stream *s;    /* NULL: free */
    size_t unread;
    bool shut, ended;
};

struct world {
    struct wr_yamux *y;
    struct wr_limits limits;
    struct held held[HELD_MAX];
    const uint8_t *data;
    size_t size;
    wr_time now;
    int err;
};

static uint8_t take(struct world *w)
{
    if (w->size == 0)
        return 0;
    w->size--;
    return *w->data++;
}

static struct held *hold(struct world *w, struct wr_yamux_stream *s)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (!w->held[i].s) {
            w->held[i] = (struct held){.s = s};
            wr_yamux_set_arg(s, &w->held[i]);
            return &w->held[i];
        }
    }
    wr_yamux_reset(s, 1);
    wr_yamux_forget(s);
    return NULL;
}

static void drop(struct held *h)
{
    wr_yamux_forget(h->s);
    h->s = NULL;
}

static void on_event(struct world *w, const struct wr_yamux_event *e)
{
    struct held *h = e->stream ? wr_yamux_arg(e->stream) : NULL;
    assert(!e->stream || h || e->type == WR_YAMUX_OPENED);
    switch (e->type) {
    case WR_YAMUX_OPENED:
        assert(!h && wr_yamux_id(e->stream) % 2 == 0);
        hold(w, e->stream);
        break;
    case WR_YAMUX_DATA:
        assert(e->data.len && !h->ended);
        h->unread += e->data.len;
        assert(h->unread <= WR_YAMUX_WINDOW_MAX);
        break;
    case WR_YAMUX_EOF:
        assert(!h->ended);
        h->ended = true;
        if (h->shut)
            drop(h);
        break;
    case WR_YAMUX_RESET:
        assert(wr_yamux_stream_done(h->s) && wr_yamux_queued(h->s) == 0);
        drop(h);
        break;
    case WR_YAMUX_WRITABLE:
        assert(wr_yamux_space(h->s) > 0);
        break;
    case WR_YAMUX_ACKED:
    case WR_YAMUX_PONG:
    case WR_YAMUX_GOAWAY:
        break;
    }
}

static void feed(struct world *w, const uint8_t *data, size_t len)
{
    struct wr_bytes in = WR_BYTES(data, len);
    struct wr_yamux_event e;
    int rc;
    while ((rc = wr_yamux_input(w->y, &in, w->now, &e)) == 1)
        on_event(w, &e);
    assert(rc == 0 ? in.len == 0 && !w->err : rc == WR_EPROTO || rc == WR_ELIMIT);
    assert(!w->err || w->err == rc);    /* once over, over for good */
    w->err = rc;
}

/* A frame with a likely id, and its body. */
static void feed_frame(struct world *w)
{
    static const uint8_t zeros[1 << 16];
    uint8_t type = take(w), flags = take(w), id = take(w), size_class = take(w), low = take(w);
    uint32_t len = size_class < 128 ? size_class : (uint32_t)(size_class - 127) << 11 | low;
    const uint8_t header[WR_YAMUX_HEADER] = {0, type % 5, 0, flags % 16, 0, 0, 0, id % 64,
                                             0, (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    feed(w, header, sizeof(header));
    if (type % 5 != 0)
        return;
    for (uint32_t part; len && !w->err; len -= part) {
        part = len < sizeof(zeros) ? len : sizeof(zeros);
        feed(w, zeros, part);
    }
}

static void check_frames(const uint8_t *buf, size_t len)
{
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(buf, len));
    while (r.rest.len) {
        struct wr_bytes head = wr_read_bytes(&r, 8);
        uint32_t value = wr_read_u32be(&r);
        assert(!r.bad && head.ptr[0] == 0 && head.ptr[1] <= 3 && head.ptr[2] == 0 && head.ptr[3] < 16);
        if (head.ptr[1] == 0) {
            assert(value > 0 && !(head.ptr[3] & 12));
            wr_read_bytes(&r, value);
        }
        assert(!r.bad);
    }
}

static void output(struct world *w, size_t room)
{
    static uint8_t buf[70000];
    size_t n = wr_yamux_output(w->y, buf, room, w->now);
    assert(n <= room && (n == 0 || n >= WR_YAMUX_HEADER));
    assert(n > 0 || !wr_yamux_wants_output(w->y));
    check_frames(buf, n);
    for (struct wr_yamux_stream *s; (s = wr_yamux_drained(w->y)) != NULL;)
        assert(wr_yamux_space(s) > 0);
}

static void on_stream(struct world *w, uint8_t op, struct held *h)
{
    static const uint8_t zeros[1 << 16];
    uint8_t operand = take(w);
    size_t n;
    int rc;
    switch (op) {
    case 0:
        rc = wr_yamux_write(h->s, zeros, (size_t)operand << 8);
        assert(rc >= 0 || w->err || h->shut);
        break;
    case 1:
        h->shut = true;
        wr_yamux_shut(h->s);
        if (h->ended)
            drop(h);
        break;
    case 2:
        wr_yamux_reset(h->s, operand);
        assert(wr_yamux_stream_done(h->s));
        drop(h);
        break;
    default:
        n = operand & 1 ? h->unread : h->unread / 3;
        wr_yamux_consumed(h->s, n, w->now);
        h->unread -= n;
    }
}

static void step(struct world *w)
{
    uint8_t op = take(w), operand = take(w);
    int err;
    w->now += (op >> 4) * WR_MSEC;
    op &= 15;
    if (op < 4) {
        struct held *h = &w->held[operand % HELD_MAX];
        if (h->s)
            on_stream(w, op, h);
    } else if (op == 4) {
        struct wr_yamux_stream *s = wr_yamux_open(w->y, NULL, &err);
        assert(s || err == WR_ELIMIT || err == WR_ECLOSED);
        if (s)
            hold(w, s);
    } else if (op < 7) {
        output(w, WR_YAMUX_HEADER + 1 + ((size_t)operand << (op == 5 ? 0 : 8)));
    } else if (op == 7) {
        wr_yamux_ping(w->y, w->now);
    } else if (op == 8 && operand > 250) {
        wr_yamux_goaway(w->y, operand & 3);
    } else if (op < 11) {
        size_t len = operand < w->size ? operand : w->size;
        feed(w, w->data, len);
        w->data += len;
        w->size -= len;
    } else {
        feed_frame(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.data = data, .size = size, .now = WR_SEC};
    assert(wr_limits_init(&w.limits, "small") == 0);
    w.limits.of[WR_LIMIT_WINDOW_EXTRA].max = WR_MIB;
    struct wr_yamux_config config = {.dialer = true, .streams_max = 8, .outbound_max = 12,
                                     .limits = &w.limits};
    w.y = wr_yamux_create(&config);
    assert(w.y);
    while (w.size && !w.err)
        step(&w);
    for (int i = 0; i < 100 && wr_yamux_wants_output(w.y); i++)
        output(&w, 65519);
    assert(!wr_yamux_wants_output(w.y));
    assert(wr_yamux_stream_count(w.y) == w.limits.of[WR_LIMIT_STREAMS].used);
    wr_yamux_destroy(w.y);
    for (size_t i = 0; i < WR_LIMIT_COUNT; i++)
        assert(w.limits.of[i].used == 0);
    return 0;
}
