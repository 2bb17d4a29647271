/* yamux, one session against hand-made frames: bytes, rules, bounds, and the traps of others.
 * Events and sent frames are written as text, so that a test reads as the story of a session. */
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

static void side_init(struct side *t, struct wr_yamux_config config)
{
    if (!config.streams_max)
        config.streams_max = 100;
    if (!config.outbound_max)
        config.outbound_max = 1000;
    *t = (struct side){.y = wr_yamux_create(&config), .now = WR_SEC};
    assert_non_null(t->y);
    wr_buf_init(&t->text, 1 << 20);
}

static void side_clear(struct side *t)
{
    wr_yamux_destroy(t->y);
    wr_buf_clear(&t->text);
}

static void put_frame(struct wr_buf *b, uint8_t type, unsigned flags, uint32_t id, uint32_t len)
{
    wr_buf_put_u8(b, 0);
    wr_buf_put_u8(b, type);
    wr_buf_put_u16be(b, (uint16_t)flags);
    wr_buf_put_u32be(b, id);
    wr_buf_put_u32be(b, len);
}

static void note_event(struct side *t, const struct wr_yamux_event *e)
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

static const char *text_end(struct side *t)
{
    wr_buf_put_u8(&t->text, 0);
    return (const char *)t->text.data;
}

/* Feeds bytes and returns the events; t->rc says how it ended. */
static const char *feed(struct side *t, struct wr_bytes in)
{
    struct wr_yamux_event e;
    wr_buf_reset(&t->text);
    while ((t->rc = wr_yamux_input(t->y, &in, t->now, &e)) == 1)
        note_event(t, &e);
    if (t->rc == 0)
        assert_int_equal(in.len, 0);
    return text_end(t);
}

static const char *feed_frame(struct side *t, uint8_t type, unsigned flags, uint32_t id, uint32_t value)
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
static const char *sent(struct side *t)
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

static void assert_sent_bytes(struct side *t, struct wr_bytes expect)
{
    uint8_t buf[256];
    size_t n = wr_yamux_output(t->y, buf, sizeof(buf), t->now);
    assert_int_equal(n, expect.len);
    assert_memory_equal(buf, expect.ptr, n);
}

static struct wr_yamux_stream *open_stream(struct side *t)
{
    int err = 1;
    struct wr_yamux_stream *s = wr_yamux_open(t->y, NULL, &err);
    assert_non_null(s);
    assert_int_equal(err, 0);
    return s;
}

/* Opens a stream whose SYN is sent and which the peer took. */
static struct wr_yamux_stream *open_taken(struct side *t)
{
    struct wr_yamux_stream *s = open_stream(t);
    sent(t);
    feed_frame(t, WINDOW, ACK, wr_yamux_id(s), 0);
    return s;
}

static void write_some(struct wr_yamux_stream *s, size_t len)
{
    static const uint8_t zeros[WR_YAMUX_SEND_QUEUE];
    assert_int_equal(wr_yamux_write(s, zeros, len), (int)len);
}

/* Reads the data the owner was given. */
static void consume(struct side *t, struct wr_yamux_stream *s, size_t len)
{
    wr_yamux_consumed(s, len, t->now);
}

static void refuse_syns(struct side *t, uint32_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        feed_frame(t, WINDOW, SYN, first + 2 * i, 0);
}

/* ---- bytes: frames as computed in the wire notes (yamux README, "Framing") --------------------------- */

static void test_frame_bytes(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_stream(&t);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\1\0\1\0\0\0\1\0\0\0\0"));
    struct wr_yamux_stream *s3 = open_stream(&t);
    assert_int_equal(wr_yamux_write(s3, (const uint8_t *)"\x13/multistream/1.0.0\n", 20), 20);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\0\0\1\0\0\0\3\0\0\0\x14\x13/multistream/1.0.0\n"));
    wr_yamux_shut(s);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\1\0\4\0\0\0\1\0\0\0\0"));
    wr_yamux_reset(s3, 0x1003);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\1\0\x8\0\0\0\3\0\0\x10\3"));
    assert_string_equal(feed(&t, WR_BYTES_STR("\0\2\0\1\0\0\0\0\xde\xad\xbe\xef")), "");
    assert_sent_bytes(&t, WR_BYTES_STR("\0\2\0\2\0\0\0\0\xde\xad\xbe\xef"));
    wr_yamux_goaway(t.y, WR_YAMUX_NORMAL);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\3\0\0\0\0\0\0\0\0\0\0"));
    side_clear(&t);

    side_init(&t, (struct wr_yamux_config){.dialer = false});
    assert_string_equal(feed(&t, WR_BYTES_STR("\0\1\0\1\0\0\0\1\0\0\0\0")), "opened 1");
    assert_sent_bytes(&t, WR_BYTES_STR("\0\1\0\2\0\0\0\1\0\0\0\0"));
    feed_frame(&t, DATA, 0, 1, 131072);
    consume(&t, t.last, 131072);
    assert_sent_bytes(&t, WR_BYTES_STR("\0\1\0\0\0\0\0\1\0\2\0\0"));
    assert_string_equal(feed(&t, WR_BYTES_STR("\0\0\0\4\0\0\0\1\0\0\0\0")), "eof 1");
    side_clear(&t);
}

/* ---- opening ----------------------------------------------------------------------------------------- */

static void test_syn_rides_on_data_or_goes_alone(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    open_stream(&t);
    struct wr_yamux_stream *b = open_stream(&t);
    write_some(b, 10);
    assert_string_equal(sent(&t), "window 1 SYN 0, data 3 SYN 10");
    write_some(b, 5);
    assert_string_equal(sent(&t), "data 3 5");
    side_clear(&t);
}

static void test_ack_rides_on_data_or_goes_alone(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 1, 0), "opened 1");
    write_some(t.last, 7);
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 3, 0), "opened 3");
    assert_string_equal(sent(&t), "window 3 ACK 0, data 1 ACK 7");
    side_clear(&t);
}

/* SYN on Data with a body (rust), with a wider window (go), together with FIN, together with RST. */
static void test_every_way_to_open(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    assert_string_equal(feed_frame(&t, DATA, SYN, 1, 20), "opened 1, data 1 20");
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 3, 1000), "opened 3");
    assert_int_equal(wr_yamux_space(t.last), WR_YAMUX_SEND_QUEUE);
    write_some(t.last, WR_YAMUX_SEND_QUEUE);
    sent(&t);
    write_some(t.last, WR_YAMUX_SEND_QUEUE);
    sent(&t);
    assert_int_equal(wr_yamux_space(t.last), 1000);
    assert_string_equal(feed_frame(&t, DATA, SYN | FIN, 5, 3), "opened 5, data 5 3, eof 5");
    assert_string_equal(feed_frame(&t, WINDOW, SYN | FIN, 7, 0), "opened 7, eof 7");
    assert_string_equal(feed_frame(&t, WINDOW, SYN | RST, 9, 0), "");
    assert_string_equal(feed_frame(&t, DATA, SYN | RST, 11, 5), "");
    assert_int_equal(wr_yamux_stream_count(t.y), 4);
    assert_string_equal(sent(&t), "window 5 ACK 0, window 7 ACK 0");
    side_clear(&t);
}

/* A peer that waits for our ACK before it writes, and one that never sends one, both work. */
static void test_never_waits_for_ack(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_stream(&t);
    write_some(s, 10);
    sent(&t);
    write_some(s, 10);
    assert_string_equal(sent(&t), "data 1 10");
    assert_string_equal(feed_frame(&t, DATA, 0, 1, 4), "acked 1, data 1 4");
    assert_string_equal(feed_frame(&t, DATA, ACK, 1, 4), "data 1 4");
    assert_string_equal(feed_frame(&t, WINDOW, ACK, 1, 0), "");
    side_clear(&t);
}

/* js counts streams that come before its listener is attached, and ends the connection at the tenth. */
static void test_few_streams_before_the_peer_speaks(void **state)
{
    (void)state;
    struct side t;
    int err = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    for (int i = 0; i < WR_YAMUX_EARLY_MAX; i++) {
        struct wr_yamux_stream *s = open_stream(&t);
        if (i == 3) {    /* one that came and went counts at js all the same */
            sent(&t);
            wr_yamux_reset(s, 0);
            wr_yamux_forget(s);
        }
    }
    sent(&t);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ELIMIT);
    feed_frame(&t, PING, SYN, 0, 1);
    open_stream(&t);
    side_clear(&t);
}

static void test_ack_backlog(void **state)
{
    (void)state;
    struct side t;
    int err = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    feed_frame(&t, PING, SYN, 0, 1);
    struct wr_yamux_stream *first = open_stream(&t);
    for (int i = 1; i < WR_YAMUX_ACK_BACKLOG; i++)
        open_stream(&t);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ELIMIT);
    assert_string_equal(feed_frame(&t, WINDOW, ACK, 3, 0), "acked 3");
    open_stream(&t);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    sent(&t);
    wr_yamux_reset(first, 0);
    wr_yamux_forget(first);
    sent(&t);
    open_stream(&t);
    side_clear(&t);
}

static void test_outbound_limit(void **state)
{
    (void)state;
    struct side t;
    int err = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true, .outbound_max = 2});
    open_stream(&t);
    struct wr_yamux_stream *s = open_stream(&t);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ELIMIT);
    wr_yamux_reset(s, 0);
    wr_yamux_forget(s);    /* never sent: gone at once */
    assert_int_equal(wr_yamux_stream_count(t.y), 1);
    assert_int_equal(wr_yamux_id(open_stream(&t)), 5);
    assert_string_equal(sent(&t), "window 1 SYN 0, window 5 SYN 0");
    side_clear(&t);
}

static void test_ids_run_out(void **state)
{
    (void)state;
    for (uint32_t last = UINT32_MAX; last >= UINT32_MAX - 1; last--) {
        struct side t;
        int err = 0;
        bool dialer = last & 1;
        side_init(&t, (struct wr_yamux_config){.dialer = dialer, .first_id = last - 2});
        assert_int_equal(wr_yamux_id(open_stream(&t)), last - 2);
        struct wr_yamux_stream *s = open_stream(&t);
        assert_int_equal(wr_yamux_id(s), last);
        assert_null(wr_yamux_open(t.y, NULL, &err));
        assert_int_equal(err, WR_ECLOSED);
        /* everything else lives */
        sent(&t);
        feed_frame(&t, DATA, 0, last, 3);
        write_some(s, 3);
        assert_non_null(strstr(sent(&t), " 3"));
        assert_string_equal(feed_frame(&t, WINDOW, SYN, dialer ? 2 : 1, 0),
                            dialer ? "opened 2" : "opened 1");
        side_clear(&t);
    }
}

/* ---- limits on the peer ------------------------------------------------------------------------------ */

/* rust closes the connection at its limit; we reset the stream alone. */
static void test_too_many_streams_are_reset_and_the_session_lives(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .streams_max = 2});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    struct wr_yamux_stream *s = t.last;
    feed_frame(&t, WINDOW, SYN, 3, 0);
    assert_string_equal(feed_frame(&t, DATA, SYN, 5, 100), "");
    assert_int_equal(t.rc, 0);
    assert_string_equal(feed_frame(&t, DATA, 0, 5, 100), "");
    assert_string_equal(sent(&t), "window 5 RST 4098, window 1 ACK 0, window 3 ACK 0");
    wr_yamux_reset(s, 0);
    wr_yamux_forget(s);
    sent(&t);
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 7, 0), "opened 7");
    side_clear(&t);
}

static void test_node_wide_stream_limit(void **state)
{
    (void)state;
    struct side t;
    struct wr_limits limits;
    int err;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_STREAMS].max = 2;
    limits.of[WR_LIMIT_CONNS].max = 1;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .limits = &limits});
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 1, 0), "opened 1");
    open_stream(&t);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ELIMIT);
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 3, 0), "");
    assert_string_equal(sent(&t), "window 3 RST 4098, window 1 ACK 0, window 2 SYN 0");
    assert_int_equal(limits.of[WR_LIMIT_STREAMS].refused, 2);
    side_clear(&t);
    assert_int_equal(limits.of[WR_LIMIT_STREAMS].used, 0);
}

/* A peer that asks and asks without reading our answers cannot make memory grow. */
static void test_ping_flood_without_reading(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    for (uint32_t i = 0; i < WR_YAMUX_CONTROL_MAX; i++) {
        feed_frame(&t, PING, SYN, 0, i);
        assert_int_equal(t.rc, 0);
    }
    feed_frame(&t, PING, SYN, 0, 0);
    assert_int_equal(t.rc, WR_ELIMIT);
    assert_string_equal(sent(&t), "goaway 0 2");
    side_clear(&t);
}

static void test_ping_flood_with_reading_lives(void **state)
{
    (void)state;
    struct side t;
    uint8_t buf[16];
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    for (uint32_t i = 0; i < 5 * WR_YAMUX_CONTROL_MAX; i++) {
        feed_frame(&t, PING, SYN, 0, i);
        assert_int_equal(t.rc, 0);
        if (i % 3)    /* we lag behind, but not for ever */
            assert_int_equal(wr_yamux_output(t.y, buf, sizeof(buf), t.now), 12);
        if (i % 1000 == 999)
            sent(&t);
    }
    side_clear(&t);
}

static void test_open_flood_without_reading(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .streams_max = 10});
    refuse_syns(&t, 1, 10 + WR_YAMUX_CONTROL_MAX);
    assert_int_equal(t.rc, 0);
    feed_frame(&t, WINDOW, SYN, 100001, 0);
    assert_int_equal(t.rc, WR_ELIMIT);
    side_clear(&t);
}

/* "Rapid reset": opened and reset over and over, our output unread. Nothing is left behind. */
static void test_rapid_reset(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .streams_max = 1});
    for (uint32_t id = 1; id < 20001; id += 2) {
        struct wr_yamux_event e;
        struct wr_buf b;
        wr_buf_init(&b, 64);
        put_frame(&b, WINDOW, SYN, id, 0);
        put_frame(&b, WINDOW, RST, id, 7);
        struct wr_bytes in = wr_buf_bytes(&b);
        assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 1);
        assert_int_equal(e.type, WR_YAMUX_OPENED);
        assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 1);
        assert_int_equal(e.type, WR_YAMUX_RESET);
        assert_int_equal(e.code, 7);
        wr_yamux_forget(e.stream);
        assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 0);
        wr_buf_clear(&b);
    }
    assert_int_equal(wr_yamux_stream_count(t.y), 0);
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

/* ---- violations -------------------------------------------------------------------------------------- */

static void test_violations_end_the_session(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t version, type;
        unsigned flags;
        uint32_t id, len;
    } frames[] = {
        {"version", 1, DATA, 0, 1, 0},
        {"type", 0, 4, 0, 1, 0},
        {"our half of the ids", 0, WINDOW, SYN, 2, 0},
        {"our half of the ids, with data", 0, DATA, SYN, 2, 0},
        {"a stream twice", 0, WINDOW, SYN, 1, 0},
        {"a stream twice, with data", 0, DATA, SYN, 1, 0},
        {"data of no stream", 0, DATA, 0, 0, 10},
        {"window of no stream", 0, WINDOW, 0, 0, 10},
        {"window of 4 GiB and more", 0, WINDOW, 0, 1, 0xffffffff - WR_YAMUX_WINDOW + 1},
        {"window overrun", 0, DATA, 0, 1, WR_YAMUX_WINDOW + 1},
        {"first data over the window", 0, DATA, SYN, 3, WR_YAMUX_WINDOW + 1},
        {"opened with a window of 4 GiB and more", 0, WINDOW, SYN, 3, 0xffffffff},
        {"data of an unknown stream wider than any window", 0, DATA, 0, 77, WR_YAMUX_WINDOW_MAX + 1},
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct side t;
        struct wr_buf b;
        struct wr_yamux_event e;
        struct wr_bytes more = WR_BYTES_STR("\0\2\0\1\0\0\0\0\0\0\0\1");
        side_init(&t, (struct wr_yamux_config){.dialer = false});
        wr_buf_init(&b, 64);
        feed_frame(&t, WINDOW, SYN, 1, 0);
        wr_buf_put_u8(&b, frames[i].version);
        wr_buf_put_u8(&b, frames[i].type);
        wr_buf_put_u16be(&b, (uint16_t)frames[i].flags);
        wr_buf_put_u32be(&b, frames[i].id);
        wr_buf_put_u32be(&b, frames[i].len);
        feed(&t, wr_buf_bytes(&b));
        assert_int_equal(t.rc, WR_EPROTO);
        assert_int_equal(wr_yamux_input(t.y, &more, t.now, &e), WR_EPROTO);
        assert_string_equal(sent(&t), "goaway 0 1");
        assert_string_equal(sent(&t), "");
        wr_buf_clear(&b);
        side_clear(&t);
    }
}

/* The largest values that are still right. */
static void test_bounds_are_exact(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 1, 0xffffffff - WR_YAMUX_WINDOW), "opened 1");
    assert_string_equal(feed_frame(&t, WINDOW, 0, 1, 0), "");
    assert_int_equal(t.rc, 0);
    feed_frame(&t, DATA, SYN, 3, WR_YAMUX_WINDOW);
    assert_int_equal(t.rc, 0);
    feed_frame(&t, DATA, 0, 3, 1);
    assert_int_equal(t.rc, WR_EPROTO);
    side_clear(&t);
}

/* Flag bits that are not defined: go, rust and js ignore them. */
static void test_unknown_flags_are_ignored(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    assert_string_equal(feed_frame(&t, WINDOW, SYN | 0xfff0, 1, 0), "opened 1");
    side_clear(&t);
}

/* ---- frames that come late ----------------------------------------------------------------------------- */

/* js once killed connections over data of streams that were gone (js-libp2p 1925). */
static void test_frames_for_unknown_streams_are_tolerated(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    for (uint32_t id = 1; id < 20; id++) {
        assert_string_equal(feed_frame(&t, DATA, id % 16 & ~SYN, id, 1000), "");
        assert_string_equal(feed_frame(&t, WINDOW, id % 16 & ~SYN, id, 0xffffffff), "");
        assert_int_equal(t.rc, 0);
    }
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

static void test_late_frames_after_our_reset(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t);
    write_some(s, 500);
    wr_yamux_reset(s, 9);
    assert_true(wr_yamux_stream_done(s));
    assert_int_equal(wr_yamux_queued(s), 0);
    assert_int_equal(wr_yamux_write(s, (const uint8_t *)"x", 1), WR_ERESET);
    assert_string_equal(feed_frame(&t, DATA, 0, 1, 1000), "");
    assert_string_equal(feed_frame(&t, DATA, FIN, 1, 10), "");
    assert_string_equal(feed_frame(&t, WINDOW, RST, 1, 10), "");
    assert_string_equal(sent(&t), "window 1 RST 9");
    wr_yamux_forget(s);
    assert_int_equal(wr_yamux_stream_count(t.y), 0);
    assert_string_equal(feed_frame(&t, DATA, FIN, 1, 1000), "");
    assert_string_equal(feed_frame(&t, WINDOW, 0, 1, 1000), "");
    assert_string_equal(feed_frame(&t, WINDOW, RST, 1, 1000), "");
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

/* Reset and forgotten in the middle of a body that is still arriving. */
static void test_reset_in_mid_body(void **state)
{
    (void)state;
    struct side t;
    uint8_t body[600] = {0};
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    struct wr_buf b;
    wr_buf_init(&b, 64);
    put_frame(&b, DATA, FIN, 1, 1000);
    assert_string_equal(feed(&t, wr_buf_bytes(&b)), "");
    assert_string_equal(feed(&t, WR_BYTES(body, 400)), "data 1 400");
    wr_yamux_reset(t.last, 3);
    wr_yamux_forget(t.last);
    assert_string_equal(sent(&t), "window 1 RST 3");
    assert_int_equal(wr_yamux_stream_count(t.y), 0);
    assert_string_equal(feed(&t, WR_BYTES(body, 600)), "");
    assert_string_equal(feed_frame(&t, PING, SYN, 0, 5), "");
    assert_string_equal(sent(&t), "ping 0 ACK 5");
    wr_buf_clear(&b);
    side_clear(&t);
}

/* ---- closing ----------------------------------------------------------------------------------------- */

/* py-libp2p ignored FIN and RST on WindowUpdate, and streams hung (py-libp2p 931). */
static void test_fin_and_rst_on_either_frame(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    refuse_syns(&t, 1, 5);
    assert_string_equal(feed_frame(&t, DATA, FIN, 1, 0), "eof 1");
    assert_string_equal(feed_frame(&t, WINDOW, FIN, 3, 0), "eof 3");
    assert_string_equal(feed_frame(&t, DATA, RST, 5, 0), "reset 5 code 0");
    assert_string_equal(feed_frame(&t, WINDOW, RST, 7, 0x1003), "reset 7 code 4099");
    assert_string_equal(feed_frame(&t, DATA, FIN, 9, 10), "data 9 10, eof 9");
    assert_string_equal(feed_frame(&t, DATA, FIN, 9, 0), "");           /* said twice */
    assert_string_equal(feed_frame(&t, DATA, 0, 9, 100), "");           /* goes on after the end */
    assert_string_equal(feed_frame(&t, DATA, RST, 9, 0), "reset 9 code 0");    /* reset after the end */
    open_stream(&t);
    sent(&t);
    assert_string_equal(feed_frame(&t, WINDOW, RST, 2, 0x1002), "reset 2 code 4098");    /* turned away */
    assert_string_equal(feed_frame(&t, DATA, SYN | FIN, 11, 4), "opened 11, data 11 4, eof 11");
    side_clear(&t);
}

/* The length of WindowUpdate+RST is a code, not a window: go sends 0x1000 and up in it. */
static void test_reset_code_is_no_window(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    assert_string_equal(feed_frame(&t, WINDOW, RST, 1, 0xffffffff), "reset 1 code 4294967295");
    assert_int_equal(t.rc, 0);
    side_clear(&t);
}

/* go marks a stream closed before it reads the body of the frame with the FIN: its reader may see the end
 * first and lose the data. */
static void test_fin_never_rides_on_data(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_stream(&t);
    write_some(s, 100);
    wr_yamux_shut(s);
    assert_int_equal(wr_yamux_write(s, (const uint8_t *)"x", 1), WR_ECLOSED);
    assert_string_equal(sent(&t), "data 1 SYN 100, window 1 FIN 0");
    assert_int_equal(wr_yamux_space(s), 0);
    side_clear(&t);
}

/* Half closed: they ended, we go on, and the other way round; forgotten streams flush (rust-yamux 117). */
static void test_half_close_and_flush_after_forget(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t);
    assert_string_equal(feed_frame(&t, WINDOW, FIN, 1, 0), "eof 1");
    write_some(s, 10);
    assert_string_equal(sent(&t), "data 1 10");
    write_some(s, 20);
    wr_yamux_shut(s);
    assert_false(wr_yamux_stream_done(s));
    wr_yamux_forget(s);
    assert_int_equal(wr_yamux_stream_count(t.y), 1);
    assert_string_equal(feed_frame(&t, WINDOW, 0, 1, 5), "");
    assert_string_equal(sent(&t), "data 1 20, window 1 FIN 0");
    assert_int_equal(wr_yamux_stream_count(t.y), 0);

    s = open_taken(&t);
    wr_yamux_shut(s);
    assert_string_equal(sent(&t), "window 3 FIN 0");
    assert_string_equal(feed_frame(&t, DATA, 0, 3, 10), "data 3 10");
    assert_string_equal(feed_frame(&t, DATA, FIN, 3, 5), "data 3 5, eof 3");
    assert_true(wr_yamux_stream_done(s));
    wr_yamux_forget(s);
    assert_int_equal(wr_yamux_stream_count(t.y), 0);
    side_clear(&t);
}

/* The peer resets a stream that we shut, forgot, and still flush: nobody is told, nothing is left. */
static void test_reset_of_a_forgotten_stream(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, DATA, SYN | FIN, 1, 3);
    write_some(t.last, 10000);
    wr_yamux_shut(t.last);
    wr_yamux_forget(t.last);
    assert_string_equal(feed_frame(&t, WINDOW, RST, 1, 0), "");
    assert_int_equal(wr_yamux_stream_count(t.y), 0);
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

/* nim takes a WindowUpdate after the end for a violation (js-libp2p 2505, js-yamux PR 93). */
static void test_no_window_update_after_close(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, DATA, SYN | FIN, 1, 200000);
    consume(&t, t.last, 200000);
    assert_string_equal(sent(&t), "window 1 ACK 0");
    feed_frame(&t, DATA, SYN, 3, 200000);
    consume(&t, t.last, 150000);    /* due now, but the end comes before it is sent */
    feed_frame(&t, WINDOW, FIN, 3, 0);
    consume(&t, t.last, 50000);
    assert_string_equal(sent(&t), "window 3 ACK 0");
    feed_frame(&t, DATA, SYN, 5, 200000);
    wr_yamux_reset(t.last, 0);
    consume(&t, t.last, 200000);
    assert_string_equal(sent(&t), "window 5 RST 0");
    side_clear(&t);
}

/* ---- windows ----------------------------------------------------------------------------------------- */

static void test_grant_when_half_is_consumed(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, DATA, SYN, 1, WR_YAMUX_WINDOW);
    struct wr_yamux_stream *s = t.last;
    sent(&t);
    consume(&t, s, WR_YAMUX_WINDOW / 2 - 1);
    assert_string_equal(sent(&t), "");
    consume(&t, s, 1);
    assert_string_equal(sent(&t), "window 1 131072");
    feed_frame(&t, DATA, 0, 1, WR_YAMUX_WINDOW / 2);
    assert_int_equal(t.rc, 0);
    feed_frame(&t, DATA, 0, 1, 1);
    assert_int_equal(t.rc, WR_EPROTO);
    side_clear(&t);
}

/* What is granted but not sent yet the peer cannot have used: several grants become one frame. */
static void test_grants_are_one_frame(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, DATA, SYN, 1, WR_YAMUX_WINDOW);
    consume(&t, t.last, 200000);
    consume(&t, t.last, 62144);
    assert_string_equal(sent(&t), "window 1 ACK 262144");
    side_clear(&t);
}

/* Measures a round trip of `rtt` on the session. */
static void measure(struct side *t, wr_time rtt, uint32_t value)
{
    assert_true(wr_yamux_ping(t->y, t->now));
    assert_false(wr_yamux_ping(t->y, t->now));
    sent(t);
    t->now += rtt;
    assert_string_equal(feed_frame(t, PING, ACK, 0, value), "pong");
}

/* Receives and consumes a whole window in `took`; returns the grant. */
static unsigned use_window(struct side *t, struct wr_yamux_stream *s, unsigned window, wr_time took)
{
    unsigned grant = 0;
    feed_frame(t, DATA, 0, wr_yamux_id(s), window / 2);
    assert_int_equal(t->rc, 0);
    t->now += took;
    consume(t, s, window / 2);
    assert_int_equal(sscanf(sent(t), "window 1 %u", &grant), 1);
    return grant;
}

static void test_window_grows_when_used_up_fast(void **state)
{
    (void)state;
    struct side t;
    struct wr_limits limits;
    assert_int_equal(wr_limits_init(&limits, "server"), 0);
    side_init(&t, (struct wr_yamux_config){.dialer = false, .limits = &limits});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    struct wr_yamux_stream *s = t.last;
    sent(&t);
    /* no round trip known: no growth */
    assert_int_equal(use_window(&t, s, WR_YAMUX_WINDOW, 1), WR_YAMUX_WINDOW / 2);
    measure(&t, 10 * WR_MSEC, 1);
    /* four round trips since the last grant, the measured one among them: no growth */
    assert_int_equal(use_window(&t, s, WR_YAMUX_WINDOW, 30 * WR_MSEC), WR_YAMUX_WINDOW / 2);
    unsigned window = WR_YAMUX_WINDOW;
    while (window < WR_YAMUX_WINDOW_MAX) {
        assert_int_equal(use_window(&t, s, window, 40 * WR_MSEC - 1), window / 2 + window);
        window *= 2;
        assert_int_equal(limits.of[WR_LIMIT_WINDOW_EXTRA].used, window - WR_YAMUX_WINDOW);
    }
    assert_int_equal(window, WR_YAMUX_WINDOW_MAX);
    assert_int_equal(use_window(&t, s, window, 1), WR_YAMUX_WINDOW_MAX / 2);
    side_clear(&t);
    assert_int_equal(limits.of[WR_LIMIT_WINDOW_EXTRA].used, 0);
}

/* Growth is paid from one budget of the node and given back at the end of a stream. */
static void test_window_growth_budget(void **state)
{
    (void)state;
    struct side t;
    struct wr_limits limits;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_WINDOW_EXTRA].max = WR_YAMUX_WINDOW + 1000;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .limits = &limits});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    struct wr_yamux_stream *s = t.last;
    sent(&t);
    measure(&t, WR_MSEC, 1);
    assert_int_equal(use_window(&t, s, WR_YAMUX_WINDOW, 1), WR_YAMUX_WINDOW * 3 / 2);
    assert_int_equal(use_window(&t, s, 2 * WR_YAMUX_WINDOW, 1), WR_YAMUX_WINDOW);
    assert_int_equal(limits.of[WR_LIMIT_WINDOW_EXTRA].refused, 1);
    assert_string_equal(feed_frame(&t, WINDOW, RST, 1, 0), "reset 1 code 0");
    assert_int_equal(limits.of[WR_LIMIT_WINDOW_EXTRA].used, 0);
    wr_yamux_forget(s);
    side_clear(&t);
    assert_int_equal(limits.of[WR_LIMIT_WINDOW_EXTRA].used, 0);
    assert_int_equal(limits.of[WR_LIMIT_STREAMS].used, 0);
}

/* A window that would have to grow and cannot is granted in eighths: with halves, only half of it would be
 * on the way at any time. When it turns out wide enough, halves are back. */
static void test_tight_window_is_granted_in_small_steps(void **state)
{
    (void)state;
    struct side t;
    struct wr_limits limits;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_WINDOW_EXTRA].max = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = false, .limits = &limits, .rtt = 10 * WR_MSEC});
    feed_frame(&t, DATA, SYN, 1, WR_YAMUX_WINDOW);
    struct wr_yamux_stream *s = t.last;
    sent(&t);
    consume(&t, s, WR_YAMUX_WINDOW / 2);
    assert_string_equal(sent(&t), "window 1 131072");
    t.now += 9 * WR_MSEC;    /* still fast: an eighth in less than one round trip */
    consume(&t, s, WR_YAMUX_WINDOW / 8 - 1);
    assert_string_equal(sent(&t), "");
    consume(&t, s, 1);
    assert_string_equal(sent(&t), "window 1 32768");
    t.now += 10 * WR_MSEC;    /* no longer */
    consume(&t, s, WR_YAMUX_WINDOW / 8);
    assert_string_equal(sent(&t), "window 1 32768");
    consume(&t, s, WR_YAMUX_WINDOW / 8);
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

/* Bulk data in front of a pong inflates single measurements (rust-libp2p 5387): the least counts. */
static void test_smallest_recent_rtt_counts(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    assert_true(wr_yamux_rtt(t.y) == 0);
    measure(&t, 50 * WR_MSEC, 1);
    measure(&t, 20 * WR_MSEC, 2);
    measure(&t, 90 * WR_MSEC, 3);
    assert_true(wr_yamux_rtt(t.y) == 20 * WR_MSEC);
    measure(&t, 90 * WR_MSEC, 4);
    measure(&t, 90 * WR_MSEC, 5);
    measure(&t, 90 * WR_MSEC, 6);
    assert_true(wr_yamux_rtt(t.y) == 90 * WR_MSEC);
    side_clear(&t);
}

/* The queue is bounded by the peer's window and by our own bound, and says when there is room again. */
static void test_write_is_bounded(void **state)
{
    (void)state;
    struct side t;
    static const uint8_t zeros[WR_YAMUX_WINDOW * 2];
    uint8_t buf[1000];
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t);
    assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), WR_YAMUX_SEND_QUEUE);
    assert_int_equal(wr_yamux_write(s, zeros, 1), 0);
    assert_null(wr_yamux_drained(t.y));
    assert_int_equal(wr_yamux_output(t.y, buf, sizeof(buf), t.now), sizeof(buf));
    assert_ptr_equal(wr_yamux_drained(t.y), s);
    assert_null(wr_yamux_drained(t.y));
    sent(&t);
    assert_null(wr_yamux_drained(t.y));    /* told once */
    assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), WR_YAMUX_SEND_QUEUE);
    sent(&t);
    assert_null(wr_yamux_drained(t.y));    /* the window is the bound now */
    assert_int_equal(wr_yamux_space(s), 0);
    assert_int_equal(wr_yamux_write(s, zeros, 1), 0);
    assert_string_equal(feed_frame(&t, WINDOW, 0, 1, 700), "writable 1");
    assert_int_equal(wr_yamux_space(s), 700);
    assert_string_equal(feed_frame(&t, WINDOW, 0, 1, 700), "");
    assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), 1400);
    assert_int_equal(wr_yamux_queued(s), 1400);
    assert_string_equal(sent(&t), "data 1 1400");
    side_clear(&t);
}

/* An owner that looks for room in its own way need not ask which streams drained. */
static void test_drained_need_not_be_asked(void **state)
{
    (void)state;
    struct side t;
    static const uint8_t zeros[WR_YAMUX_SEND_QUEUE + 1];
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t), *other = open_taken(&t);
    feed_frame(&t, WINDOW, 0, 1, 1 << 20);
    feed_frame(&t, WINDOW, 0, 3, 1 << 20);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), WR_YAMUX_SEND_QUEUE);
        assert_int_equal(wr_yamux_write(other, zeros, sizeof(zeros)), WR_YAMUX_SEND_QUEUE);
        sent(&t);
    }
    assert_ptr_equal(wr_yamux_drained(t.y), s);
    assert_ptr_equal(wr_yamux_drained(t.y), other);
    assert_null(wr_yamux_drained(t.y));
    side_clear(&t);
}

/* Queued bytes are charged to the node's memory; when that is gone, write says so. */
static void test_queue_memory_is_charged(void **state)
{
    (void)state;
    struct side t;
    struct wr_limits limits;
    static const uint8_t zeros[WR_YAMUX_SEND_QUEUE];
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_MEMORY].max = 140000;    /* a quarter of it for one session */
    side_init(&t, (struct wr_yamux_config){.dialer = true, .limits = &limits});
    struct wr_yamux_stream *s = open_taken(&t);
    int taken = wr_yamux_write(s, zeros, sizeof(zeros));
    assert_in_range(taken, 32000, 35000);
    assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), WR_ELIMIT);
    assert_true(limits.of[WR_LIMIT_MEMORY].used <= 35000);
    sent(&t);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_ptr_equal(wr_yamux_drained(t.y), s);
    write_some(s, 100);
    side_clear(&t);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 0);
}

/* ---- output ------------------------------------------------------------------------------------------ */

/* Streams take turns, one frame each; control goes first. */
static void test_round_robin_and_control_first(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *a = open_taken(&t), *b = open_taken(&t), *c = open_taken(&t);
    struct wr_yamux_stream *d = open_taken(&t);
    write_some(a, WR_YAMUX_SEND_QUEUE);
    write_some(b, 70000);
    write_some(c, 50);
    wr_yamux_ping(t.y, t.now);
    wr_yamux_shut(c);
    wr_yamux_shut(d);
    feed_frame(&t, PING, SYN, 0, 77);
    assert_string_equal(sent(&t), "ping 0 SYN 1, ping 0 ACK 77, window 7 FIN 0, data 1 65471, "
                                  "data 3 65507, data 1 65507, data 5 50, window 5 FIN 0, "
                                  "data 3 4493, data 1 94");
    side_clear(&t);
}

/* A short message goes before the frames of transfers under way, and does not wait for one of each. */
static void test_short_message_passes_transfers(void **state)
{
    (void)state;
    struct side t;
    uint8_t buf[WR_YAMUX_HEADER + 5000];
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s[4];
    for (int i = 0; i < 4; i++)
        s[i] = open_taken(&t);
    for (int i = 0; i < 3; i++)
        write_some(s[i], 20000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wr_yamux_output(t.y, buf, sizeof(buf), t.now), sizeof(buf));
    write_some(s[3], 30);
    assert_string_equal(sent(&t), "data 7 30, data 1 15000, data 3 15000, data 5 15000");
    side_clear(&t);
}

/* Streams that always have something new cannot keep a transfer waiting for ever. */
static void test_transfers_are_not_starved(void **state)
{
    (void)state;
    struct side t;
    uint8_t buf[2 * WR_YAMUX_HEADER + 2000];
    unsigned turns = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *bulk = open_taken(&t), *a = open_taken(&t), *b = open_taken(&t);
    write_some(bulk, 50000);
    assert_int_equal(wr_yamux_output(t.y, buf, 1012, t.now), 1012);
    for (; wr_yamux_queued(bulk) == 49000; turns++) {
        write_some(a, 1000);
        write_some(b, 1000);
        assert_int_equal(wr_yamux_output(t.y, buf, sizeof(buf), t.now), sizeof(buf));
    }
    assert_in_range(turns, 30, 34);    /* WR_YAMUX_BODY_MAX bytes */
    side_clear(&t);
}

/* Frames are never cut, whatever the room, and large data is not split for the sake of a few bytes. */
static void test_any_room(void **state)
{
    (void)state;
    static uint8_t buf[3000];
    for (size_t room = WR_YAMUX_HEADER + 1; room < sizeof(buf); room += room < 60 ? 1 : 97) {
        struct side t;
        size_t got = 0;
        side_init(&t, (struct wr_yamux_config){.dialer = true});
        struct wr_yamux_stream *s = open_taken(&t);
        struct wr_yamux_stream *other = open_taken(&t);
        write_some(s, 1500);
        write_some(other, 1100);
        wr_yamux_shut(s);
        wr_yamux_ping(t.y, t.now);
        for (size_t n; (n = wr_yamux_output(t.y, buf, room, t.now)) > 0;) {
            struct wr_reader r;
            assert_true(n <= room);
            wr_reader_init(&r, WR_BYTES(buf, n));
            while (r.rest.len) {
                struct wr_bytes head = wr_read_bytes(&r, 8);
                uint32_t value = wr_read_u32be(&r);
                if (!r.bad && head.ptr[1] == DATA) {
                    wr_read_bytes(&r, value);
                    got += value;
                }
                assert_false(r.bad);
            }
        }
        assert_int_equal(got, 2600);
        assert_false(wr_yamux_wants_output(t.y));
        side_clear(&t);
    }
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    write_some(open_taken(&t), 5000);
    wr_yamux_ping(t.y, t.now);
    assert_int_equal(wr_yamux_output(t.y, buf, 900, t.now), WR_YAMUX_HEADER);
    assert_int_equal(wr_yamux_output(t.y, buf, 900, t.now), 900);
    side_clear(&t);
}

/* ---- session ----------------------------------------------------------------------------------------- */

/* rust ends the connection over pongs that it did not ask for; so we send exactly one, with the value, and
 * pass over those that we did not ask for (rust-libp2p PR 3013, js-libp2p-yamux 48). */
static void test_pongs(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 0), "");
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 1), "");
    assert_true(wr_yamux_ping(t.y, t.now));
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 1), "");    /* guessed before we asked */
    assert_string_equal(sent(&t), "ping 0 SYN 1");
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 2), "");
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 1), "pong");
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 1), "");
    assert_string_equal(feed_frame(&t, PING, SYN, 0, 0xdeadbeef), "");
    assert_string_equal(feed_frame(&t, PING, SYN, 7, 1), "");    /* with a stream id: go tolerates it */
    assert_string_equal(feed_frame(&t, PING, 0, 0, 1), "");
    assert_string_equal(sent(&t), "ping 0 ACK 3735928559, ping 0 ACK 1");
    assert_string_equal(sent(&t), "");
    side_clear(&t);
}

static void test_goaway_from_the_peer(void **state)
{
    (void)state;
    struct side t;
    int err = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t);
    assert_string_equal(feed_frame(&t, GOAWAY, 0, 0, 0x1005), "goaway code 4101");
    assert_string_equal(feed_frame(&t, GOAWAY, 0, 0, 1), "");
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ECLOSED);
    write_some(s, 5);
    assert_string_equal(feed_frame(&t, DATA, 0, 1, 5), "data 1 5");
    assert_string_equal(sent(&t), "data 1 5");
    side_clear(&t);
}

/* go ends the session on seeing any GoAway: what was written before it must be in front of it. */
static void test_goaway_goes_behind_queued_data(void **state)
{
    (void)state;
    struct side t;
    int err = 0;
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t);
    write_some(s, 100000);
    wr_yamux_shut(s);
    wr_yamux_goaway(t.y, WR_YAMUX_NORMAL);
    assert_null(wr_yamux_open(t.y, NULL, &err));
    assert_int_equal(err, WR_ECLOSED);
    assert_string_equal(sent(&t), "data 1 65507, data 1 34493, window 1 FIN 0, goaway 0 0");
    assert_string_equal(feed_frame(&t, WINDOW, SYN, 2, 0), "");
    assert_string_equal(sent(&t), "window 2 RST 4098");
    side_clear(&t);

    side_init(&t, (struct wr_yamux_config){.dialer = true});
    write_some(open_taken(&t), 10);
    wr_yamux_goaway(t.y, 0x1003);
    assert_string_equal(sent(&t), "goaway 0 4099, data 1 10");
    side_clear(&t);
}

/* Deadlocks of others: both ends write, none reads. Input never waits for output (rust-yamux PR 193). */
static void test_reads_never_wait_for_writes(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    feed_frame(&t, WINDOW, SYN, 1, 0);
    write_some(t.last, WR_YAMUX_SEND_QUEUE);
    for (int i = 0; i < 16; i++)
        assert_string_equal(feed_frame(&t, DATA, 0, 1, 16384), "data 1 16384");
    assert_string_equal(feed_frame(&t, PING, SYN, 0, 1), "");
    side_clear(&t);
}

/* A body is handed out in pieces as it arrives, in place, and is never gathered. */
static void test_data_is_handed_out_in_place(void **state)
{
    (void)state;
    struct side t;
    struct wr_yamux_event e;
    struct wr_buf b;
    side_init(&t, (struct wr_yamux_config){.dialer = false});
    wr_buf_init(&b, 64);
    put_frame(&b, DATA, SYN, 1, 10);
    wr_buf_put(&b, "abcd", 4);
    struct wr_bytes in = wr_buf_bytes(&b);
    assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 1);
    assert_int_equal(e.type, WR_YAMUX_OPENED);
    assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 1);
    assert_int_equal(e.type, WR_YAMUX_DATA);
    assert_ptr_equal(e.data.ptr, b.data + WR_YAMUX_HEADER);
    assert_int_equal(e.data.len, 4);
    assert_int_equal(wr_yamux_input(t.y, &in, t.now, &e), 0);
    assert_string_equal(feed(&t, WR_BYTES_STR("efghi")), "data 1 5");
    assert_string_equal(feed(&t, WR_BYTES_STR("j")), "data 1 1");
    wr_buf_clear(&b);
    side_clear(&t);
}

/* A conversation fed in every chunk size gives the same events, pieces of data aside. */
static void test_any_chunking(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 4096);
    put_frame(&b, PING, SYN, 0, 9);
    put_frame(&b, DATA, SYN, 1, 33);
    for (uint8_t i = 0; i < 33; i++)
        wr_buf_put_u8(&b, i);
    put_frame(&b, WINDOW, SYN, 3, 5);
    put_frame(&b, DATA, FIN, 1, 2);
    wr_buf_put(&b, "!\"", 2);
    put_frame(&b, WINDOW, RST, 3, 8);
    put_frame(&b, GOAWAY, 0, 0, 0);
    for (size_t step = 1; step <= b.len; step++) {
        struct side t;
        struct wr_buf story;
        uint8_t next = 0;
        side_init(&t, (struct wr_yamux_config){.dialer = false});
        wr_buf_init(&story, 4096);
        for (size_t at = 0; at < b.len; at += step) {
            struct wr_bytes in = WR_BYTES(b.data + at, b.len - at < step ? b.len - at : step);
            struct wr_yamux_event e;
            while ((t.rc = wr_yamux_input(t.y, &in, t.now, &e)) == 1) {
                if (e.type == WR_YAMUX_DATA) {
                    for (size_t i = 0; i < e.data.len; i++)
                        assert_int_equal(e.data.ptr[i], next++);
                    continue;
                }
                wr_buf_reset(&t.text);
                note_event(&t, &e);
                wr_buf_put_bytes(&story, wr_buf_bytes(&t.text));
                wr_buf_put_cstr(&story, "; ");
            }
            assert_int_equal(t.rc, 0);
        }
        wr_buf_put_u8(&story, 0);
        assert_int_equal(next, 35);
        assert_string_equal((const char *)story.data,
                            "opened 1; opened 3; eof 1; reset 3 code 8; goaway code 0; ");
        assert_string_equal(sent(&t), "ping 0 ACK 9, window 1 ACK 0");
        wr_buf_clear(&story);
        side_clear(&t);
    }
    wr_buf_clear(&b);
}

/* Every one-bit flip and truncation of a conversation: no crash, no leak, and an answer either way. */
static void test_damage(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 4096);
    put_frame(&b, DATA, SYN, 1, 5);
    wr_buf_put(&b, "hello", 5);
    put_frame(&b, WINDOW, SYN, 3, 5);
    put_frame(&b, WINDOW, 0, 1, 500);
    put_frame(&b, PING, SYN, 0, 500);
    put_frame(&b, DATA, FIN, 1, 0);
    put_frame(&b, WINDOW, RST, 3, 8);
    put_frame(&b, GOAWAY, 0, 0, 0);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        struct side t;
        side_init(&t, (struct wr_yamux_config){.dialer = false});
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        feed(&t, wr_buf_bytes(&b));
        assert_true(t.rc == 0 || t.rc == WR_EPROTO);
        if (t.rc < 0)
            assert_string_equal(sent(&t), "goaway 0 1");
        else
            sent(&t);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        side_clear(&t);
    }
    for (size_t len = 0; len < b.len; len++) {
        struct side t;
        side_init(&t, (struct wr_yamux_config){.dialer = false});
        feed(&t, WR_BYTES(b.data, len));
        assert_int_equal(t.rc, 0);
        side_clear(&t);
    }
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_bytes),
        cmocka_unit_test(test_syn_rides_on_data_or_goes_alone),
        cmocka_unit_test(test_ack_rides_on_data_or_goes_alone),
        cmocka_unit_test(test_every_way_to_open),
        cmocka_unit_test(test_never_waits_for_ack),
        cmocka_unit_test(test_few_streams_before_the_peer_speaks),
        cmocka_unit_test(test_ack_backlog),
        cmocka_unit_test(test_outbound_limit),
        cmocka_unit_test(test_ids_run_out),
        cmocka_unit_test(test_too_many_streams_are_reset_and_the_session_lives),
        cmocka_unit_test(test_node_wide_stream_limit),
        cmocka_unit_test(test_ping_flood_without_reading),
        cmocka_unit_test(test_ping_flood_with_reading_lives),
        cmocka_unit_test(test_open_flood_without_reading),
        cmocka_unit_test(test_rapid_reset),
        cmocka_unit_test(test_violations_end_the_session),
        cmocka_unit_test(test_bounds_are_exact),
        cmocka_unit_test(test_unknown_flags_are_ignored),
        cmocka_unit_test(test_frames_for_unknown_streams_are_tolerated),
        cmocka_unit_test(test_late_frames_after_our_reset),
        cmocka_unit_test(test_reset_in_mid_body),
        cmocka_unit_test(test_fin_and_rst_on_either_frame),
        cmocka_unit_test(test_reset_code_is_no_window),
        cmocka_unit_test(test_fin_never_rides_on_data),
        cmocka_unit_test(test_half_close_and_flush_after_forget),
        cmocka_unit_test(test_reset_of_a_forgotten_stream),
        cmocka_unit_test(test_no_window_update_after_close),
        cmocka_unit_test(test_grant_when_half_is_consumed),
        cmocka_unit_test(test_grants_are_one_frame),
        cmocka_unit_test(test_window_grows_when_used_up_fast),
        cmocka_unit_test(test_window_growth_budget),
        cmocka_unit_test(test_tight_window_is_granted_in_small_steps),
        cmocka_unit_test(test_smallest_recent_rtt_counts),
        cmocka_unit_test(test_write_is_bounded),
        cmocka_unit_test(test_drained_need_not_be_asked),
        cmocka_unit_test(test_queue_memory_is_charged),
        cmocka_unit_test(test_round_robin_and_control_first),
        cmocka_unit_test(test_short_message_passes_transfers),
        cmocka_unit_test(test_transfers_are_not_starved),
        cmocka_unit_test(test_any_room),
        cmocka_unit_test(test_pongs),
        cmocka_unit_test(test_goaway_from_the_peer),
        cmocka_unit_test(test_goaway_goes_behind_queued_data),
        cmocka_unit_test(test_reads_never_wait_for_writes),
        cmocka_unit_test(test_data_is_handed_out_in_place),
        cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
