/* yamux: bytes, opening streams, and what concerns the session as a whole. */
#include "tests/unit/yamux_side.h"

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
    assert_true(WR_YAMUX_EARLY_MAX < 10);    /* js-libp2p: earlyStreams at most 10, then it ends the connection */
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
    assert_int_equal(WR_YAMUX_ACK_BACKLOG, 256);    /* go-yamux and rust-yamux refuse what is beyond */
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
