/* Frames that have connection ids retired, and acknowledgements, among others of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/quic_frames.h"
#include "unit/hex.h"

#include <string.h>

#define KEEPS   "180700081122334455667788000102030405060708090a0b0c0d0e0f"
#define RETIRES "180701081122334455667788000102030405060708090a0b0c0d0e0f"

/* One of each that may stand before it; RFC 9000 section 19. */
static const char *const others[] = {
    "",
    "00",
    "000000",
    "01",
    "0205000000",
    "02050401000301",
    "0305000000010203",
    "040401c0ffffffffffffff",
    "050402",
    "060003aabbcc",
    "0702aabb",
    "0a0403aabbcc",
    "0e044105"
    "02aabb",
    "0f044105"
    "00",
    "4a0402aabb", /* ngtcp2 0.12 takes this for a stream's */
    "107f00",
    "11047f00",
    "1205",
    "1305",
    "1405",
    "150405",
    "1605",
    "1705",
    "1903",
    "1a0102030405060708",
    "1b0102030405060708",
    "1c010203616263",
    "1d0103616263",
    "1e",
    "3102aabb",
    KEEPS,
};

static unsigned asked(const char *a, const char *b, const char *c)
{
    uint8_t room[256];
    struct wr_buf all;
    wr_buf_over(&all, room, sizeof(room));
    wr_buf_put_bytes(&all, HEX(a));
    wr_buf_put_bytes(&all, HEX(b));
    wr_buf_put_bytes(&all, HEX(c));
    assert_false(all.full);
    return wr_quic_frames_ask(wr_buf_bytes(&all));
}

static bool retires(const char *a, const char *b, const char *c)
{
    return asked(a, b, c) & WR_QUIC_FRAMES_RETIRE;
}

static bool acknowledges(const char *a, const char *b, const char *c)
{
    return asked(a, b, c) & WR_QUIC_FRAMES_ACK;
}

static bool is_ack(const char *hex)
{
    return strncmp(hex, "02", 2) == 0 || strncmp(hex, "03", 2) == 0;
}

static void test_behind_every_frame(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
            if (!retires(others[i], others[k], RETIRES) || retires(others[i], others[k], KEEPS))
                fail_msg("behind %s %s", others[i], others[k]);
        }
    }
}

static void test_acknowledgements(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (acknowledges(others[i], "", "") != is_ack(others[i]) ||
            acknowledges(others[i], RETIRES, "") != is_ack(others[i]))
            fail_msg("%s", others[i]);
        assert_true(acknowledges(others[i], "0205000000", RETIRES));
        assert_true(acknowledges(others[i], RETIRES, "0305000000010203"));
    }
    assert_false(acknowledges("02050004", "", "")); /* ends within a range */
    assert_false(acknowledges("0804", "0205000000", ""));
    assert_false(acknowledges("20", "0205000000", ""));
}

/* Data to the packet's end hides nothing that would be acted upon. */
static void test_what_reaches_to_the_end(void **state)
{
    (void)state;
    assert_false(retires("0804", RETIRES, ""));
    assert_false(retires("0c0400", RETIRES, ""));
    assert_false(retires("30", RETIRES, ""));
}

static void test_unknown_and_damaged(void **state)
{
    (void)state;
    assert_false(retires("20", RETIRES, ""));
    assert_false(retires("06007fff", RETIRES, ""));
    struct wr_bytes whole = HEX(RETIRES);
    for (size_t len = 0; len < whole.len; len++)
        assert_int_equal(wr_quic_frames_ask(WR_BYTES(whole.ptr, len)), 0);
    assert_int_equal(wr_quic_frames_ask(whole), WR_QUIC_FRAMES_RETIRE);
}

/* Between others of every kind acknowledgements become padding, and the others stay. */
static void test_muted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        uint8_t room[256];
        struct wr_buf all;
        wr_buf_over(&all, room, sizeof(room));
        wr_buf_put_bytes(&all, HEX(others[i]));
        size_t at = all.len;
        wr_buf_put_bytes(&all, HEX("02050401000301"));
        size_t behind = all.len;
        wr_buf_put_bytes(&all, HEX("0305000000010203"));
        wr_buf_put_bytes(&all, HEX(RETIRES));
        uint8_t was[256], none[15] = {0};
        memcpy(was, room, sizeof(was));
        wr_quic_frames_mute(room, all.len);
        assert_int_equal(wr_quic_frames_ask(WR_BYTES(room, all.len)), WR_QUIC_FRAMES_RETIRE);
        assert_memory_equal(room + at, none, sizeof(none));
        assert_memory_equal(room + behind + 8, was + behind + 8, all.len - behind - 8);
        if (strncmp(others[i], "02", 2) != 0 && strncmp(others[i], "03", 2) != 0)
            assert_memory_equal(room, was, at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_every_frame),
        cmocka_unit_test(test_acknowledgements),
        cmocka_unit_test(test_what_reaches_to_the_end),
        cmocka_unit_test(test_unknown_and_damaged),
        cmocka_unit_test(test_muted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
