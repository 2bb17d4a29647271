/* yamux: windows, and who may send next. */
#include "tests/unit/yamux_side.h"

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
        unsigned more = window < WR_YAMUX_WINDOW_MAX - window ? window : WR_YAMUX_WINDOW_MAX - window;
        assert_int_equal(use_window(&t, s, window, 40 * WR_MSEC - 1), window / 2 + more);
        window += more;
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

/* What is lent goes out behind what is queued, up to the peer's window; what output did not take is not the stream's. */
static void test_lent_bytes_are_bounded_by_the_window(void **state)
{
    (void)state;
    struct side t;
    static const uint8_t zeros[WR_YAMUX_WINDOW * 2];
    static uint8_t buf[70000];
    side_init(&t, (struct wr_yamux_config){.dialer = true});
    struct wr_yamux_stream *s = open_taken(&t), *other = open_taken(&t);
    write_some(s, 1000);
    assert_int_equal(wr_yamux_lend(s, zeros, sizeof(zeros)), WR_YAMUX_WINDOW - 1000);
    assert_int_equal(wr_yamux_queued(s), WR_YAMUX_WINDOW);
    size_t room = WR_YAMUX_HEADER + WR_YAMUX_BODY_MAX;
    assert_int_equal(wr_yamux_output(t.y, buf, room, t.now), room);
    assert_int_equal(wr_yamux_recall(s, zeros), WR_YAMUX_BODY_MAX - 1000);
    assert_int_equal(wr_yamux_queued(s), 0);
    assert_false(wr_yamux_wants_output(t.y));
    assert_int_equal(wr_yamux_lend(s, zeros, sizeof(zeros)), WR_YAMUX_WINDOW - WR_YAMUX_BODY_MAX);
    assert_true(wr_yamux_wants_output(t.y));
    assert_int_equal(wr_yamux_recall(s, zeros), 0);
    assert_false(wr_yamux_wants_output(t.y));
    assert_int_equal(wr_yamux_write(s, zeros, 100), 100);
    assert_string_equal(sent(&t), "data 1 100");
    /* where write takes nothing, nothing is lent */
    assert_int_equal(wr_yamux_write(s, zeros, sizeof(zeros)), WR_YAMUX_SEND_QUEUE);
    assert_int_equal(wr_yamux_lend(s, zeros, sizeof(zeros)), 0);
    assert_int_equal(wr_yamux_recall(s, zeros), 0);
    sent(&t);
    wr_yamux_shut(other);
    assert_int_equal(wr_yamux_lend(other, zeros, 100), 0);
    assert_int_equal(wr_yamux_recall(other, zeros), 0);
    side_clear(&t);
}

/* What is left where it was lent is what would have been copied, and it is the end of the output. */
static void test_lent_bytes_may_stay_where_they_are(void **state)
{
    (void)state;
    static uint8_t data[100000], with[70000], copied[70000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 5 + (i >> 8));
    for (size_t queued = 0; queued <= 1000; queued += 500) {
        for (size_t lent = 100; lent <= sizeof(data); lent *= 10) {
            struct side t, u;
            struct wr_bytes apart;
            side_init(&t, (struct wr_yamux_config){.dialer = true});
            side_init(&u, (struct wr_yamux_config){.dialer = true});
            struct wr_yamux_stream *a = open_taken(&t), *b = open_taken(&u);
            write_some(a, queued);
            write_some(b, queued);
            assert_int_equal(wr_yamux_lend(a, data, lent), lent);
            assert_int_equal(wr_yamux_lend(b, data, lent), lent);
            wr_yamux_ping(t.y, t.now);    /* in front, so that the body begins at an odd place */
            wr_yamux_ping(u.y, u.now);
            size_t len = wr_yamux_output(u.y, copied, 65000, u.now);
            assert_int_equal(wr_yamux_output_apart(t.y, with, 65000, t.now, &apart), len);
            if (queued == 0 && lent >= 10000) {
                assert_int_equal((len - apart.len) % 64, 0);
                assert_true(len - apart.len <= 128);
                assert_true(apart.ptr > data && apart.ptr < data + 128);
            } else {
                assert_int_equal(apart.len, 0);
            }
            memcpy(with + len - apart.len, apart.ptr ? apart.ptr : data, apart.len);
            assert_memory_equal(with, copied, len);
            assert_int_equal(wr_yamux_recall(a, data), wr_yamux_recall(b, data));
            side_clear(&t);
            side_clear(&u);
        }
    }
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

/* A mark behind so much data, as often as it takes; nobody waits for what comes back. */
static void test_marks(void **state)
{
    (void)state;
    struct side t;
    side_init(&t, (struct wr_yamux_config){.dialer = true, .mark_every = 1000});
    struct wr_yamux_stream *s = open_taken(&t);
    write_some(s, 2500);
    assert_string_equal(sent(&t), "data 1 1000, ping 0 SYN 0, data 1 1000, ping 0 SYN 0, data 1 500");
    assert_string_equal(feed_frame(&t, PING, ACK, 0, 0), "");
    assert_int_equal(t.rc, 0);
    write_some(s, 500);
    assert_string_equal(sent(&t), "data 1 500, ping 0 SYN 0");
    measure(&t, 30 * WR_MSEC, 1);    /* ours is another one */
    side_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grant_when_half_is_consumed),
        cmocka_unit_test(test_grants_are_one_frame),
        cmocka_unit_test(test_window_grows_when_used_up_fast),
        cmocka_unit_test(test_window_growth_budget),
        cmocka_unit_test(test_tight_window_is_granted_in_small_steps),
        cmocka_unit_test(test_smallest_recent_rtt_counts),
        cmocka_unit_test(test_write_is_bounded),
        cmocka_unit_test(test_lent_bytes_are_bounded_by_the_window),
        cmocka_unit_test(test_lent_bytes_may_stay_where_they_are),
        cmocka_unit_test(test_drained_need_not_be_asked),
        cmocka_unit_test(test_queue_memory_is_charged),
        cmocka_unit_test(test_round_robin_and_control_first),
        cmocka_unit_test(test_short_message_passes_transfers),
        cmocka_unit_test(test_transfers_are_not_starved),
        cmocka_unit_test(test_any_room),
        cmocka_unit_test(test_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
