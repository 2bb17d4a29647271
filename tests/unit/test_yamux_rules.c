/* yamux: limits on the peer, its violations, frames that come late, and the ends of streams. */
#include "tests/unit/yamux_side.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
