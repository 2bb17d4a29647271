/* yamux_side.h - one yamux session against hand-made frames. Events and sent frames are written as text, so that a
 * test reads as the story of a session. Included once per test program. */
#ifndef YAMUX_SIDE_H
#define YAMUX_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/yamux.h"

#include <stdio.h>
#include <string.h>

enum { DATA, WINDOW, PING, GOAWAY };
#define SYN 1u
#define ACK 2u
#define FIN 4u
#define RST 8u

struct side {
    struct wr_yamux *y;
    wr_time now;
    int rc;                      /* of the last input */
    struct wr_buf text;          /* of the last call */
    struct wr_yamux_stream *last;    /* of the last event */
};

static inline void side_init(struct side *t, struct wr_yamux_config config)
{
    if (!config.streams_max)
        config.streams_max = 100;
    if (!config.outbound_max)
        config.outbound_max = 1000;
    *t = (struct side){.y = wr_yamux_create(&config), .now = WR_SEC};
    assert_non_null(t->y);
    wr_buf_init(&t->text, 1 << 20);
}

static inline void side_clear(struct side *t)
{
    wr_yamux_destroy(t->y);
    wr_buf_clear(&t->text);
}

static inline void put_frame(struct wr_buf *b, uint8_t type, unsigned flags, uint32_t id, uint32_t len)
{
    wr_buf_put_u8(b, 0);
    wr_buf_put_u8(b, type);
    wr_buf_put_u16be(b, (uint16_t)flags);
    wr_buf_put_u32be(b, id);
    wr_buf_put_u32be(b, len);
}

static inline void note_event(struct side *t, const struct wr_yamux_event *e)
{
    static const char *const names[] = {"opened", "data", "eof",  "reset",
                                        "writable", "acked", "pong", "goaway"};
    wr_buf_printf(&t->text, "%s%s", t->text.len ? ", " : "", names[e->type]);
    if (e->stream) {
        wr_buf_printf(&t->text, " %u", wr_yamux_id(e->stream));
        t->last = e->stream;
    }
    if (e->type == WR_YAMUX_DATA)
        wr_buf_printf(&t->text, " %zu", e->data.len);
    if (e->type == WR_YAMUX_RESET || e->type == WR_YAMUX_GOAWAY)
        wr_buf_printf(&t->text, " code %u", e->code);
}

static inline const char *text_end(struct side *t)
{
    wr_buf_put_u8(&t->text, 0);
    return (const char *)t->text.data;
}

/* Feeds bytes and returns the events; t->rc says how it ended. */
static inline const char *feed(struct side *t, struct wr_bytes in)
{
    struct wr_yamux_event e;
    wr_buf_reset(&t->text);
    while ((t->rc = wr_yamux_input(t->y, &in, t->now, &e)) == 1)
        note_event(t, &e);
    if (t->rc == 0)
        assert_int_equal(in.len, 0);
    return text_end(t);
}

static inline const char *feed_frame(struct side *t, uint8_t type, unsigned flags, uint32_t id, uint32_t value)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_YAMUX_WINDOW_MAX);
    put_frame(&b, type, flags, id, value);
    if (type == DATA) {
        uint8_t *body = wr_buf_reserve(&b, value);
        assert_non_null(body);
        memset(body, 0x5a, value);
        wr_buf_grew(&b, value);
    }
    const char *text = feed(t, wr_buf_bytes(&b));
    wr_buf_clear(&b);
    return text;
}

/* All that the session sends, as text. */
static inline const char *sent(struct side *t)
{
    static const char *const names[] = {"data", "window", "ping", "goaway"};
    static uint8_t buf[WR_YAMUX_HEADER + WR_YAMUX_BODY_MAX];    /* one Noise frame */
    wr_buf_reset(&t->text);
    for (size_t n; (n = wr_yamux_output(t->y, buf, sizeof(buf), t->now)) > 0;) {
        struct wr_reader r;
        wr_reader_init(&r, WR_BYTES(buf, n));
        while (r.rest.len) {
            assert_int_equal(wr_read_u8(&r), 0);
            uint8_t type = wr_read_u8(&r);
            unsigned flags = wr_read_u16be(&r);
            uint32_t id = wr_read_u32be(&r), value = wr_read_u32be(&r);
            assert_in_range(type, 0, 3);
            wr_buf_printf(&t->text, "%s%s %u%s%s%s%s %u", t->text.len ? ", " : "", names[type], id,
                          flags & SYN ? " SYN" : "", flags & ACK ? " ACK" : "", flags & FIN ? " FIN" : "",
                          flags & RST ? " RST" : "", value);
            if (type == DATA)
                wr_read_bytes(&r, value);
            assert_false(r.bad);
        }
    }
    assert_false(wr_yamux_wants_output(t->y));
    return text_end(t);
}

static inline void assert_sent_bytes(struct side *t, struct wr_bytes expect)
{
    uint8_t buf[256];
    size_t n = wr_yamux_output(t->y, buf, sizeof(buf), t->now);
    assert_int_equal(n, expect.len);
    assert_memory_equal(buf, expect.ptr, n);
}

static inline struct wr_yamux_stream *open_stream(struct side *t)
{
    int err = 1;
    struct wr_yamux_stream *s = wr_yamux_open(t->y, NULL, &err);
    assert_non_null(s);
    assert_int_equal(err, 0);
    return s;
}

/* Opens a stream whose SYN is sent and which the peer took. */
static inline struct wr_yamux_stream *open_taken(struct side *t)
{
    struct wr_yamux_stream *s = open_stream(t);
    sent(t);
    feed_frame(t, WINDOW, ACK, wr_yamux_id(s), 0);
    return s;
}

static inline void write_some(struct wr_yamux_stream *s, size_t len)
{
    static const uint8_t zeros[WR_YAMUX_SEND_QUEUE];
    assert_int_equal(wr_yamux_write(s, zeros, len), (int)len);
}

/* Reads the data the owner was given. */
static inline void consume(struct side *t, struct wr_yamux_stream *s, size_t len)
{
    wr_yamux_consumed(s, len, t->now);
}

static inline void refuse_syns(struct side *t, uint32_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        feed_frame(t, WINDOW, SYN, first + 2 * i, 0);
}

#endif
