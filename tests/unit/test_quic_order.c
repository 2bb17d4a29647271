/* Packets of a QUIC peer that come late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/quic_order.h"

#include <string.h>

#define INITIAL   0xc0
#define HANDSHAKE 0xe0
#define DATA      0x40

static const int key[8];    /* only their addresses count */

static struct wr_bytes iv_of(const int *k, uint8_t iv[static 12])
{
    for (size_t i = 0; i < 12; i++)
        iv[i] = (uint8_t)(i * 37 + (size_t)(k - key) * 11);
    return WR_BYTES(iv, 12);
}

/* What becomes of a packet of this number, of which the header has `bytes` bytes. */
static enum wr_quic_order_verdict note(struct wr_quic_order *o, uint8_t first, const int *k, uint64_t number, unsigned bytes, bool acks)
{
    uint8_t head[30] = {(uint8_t)(first | (bytes - 1))}, iv[12];
    iv_of(k, iv);
    for (size_t i = 0; i < 8; i++)
        iv[11 - i] ^= (uint8_t)(number >> 8 * i);
    for (size_t i = 0; i < bytes; i++)
        head[29 - i] = (uint8_t)(number >> 8 * i);
    return wr_quic_order_note(o, k, WR_BYTES(iv, 12), WR_BYTES(head, 30), acks);
}

/* Whether all of it is heard. */
static bool acks(struct wr_quic_order *o, uint8_t first, const int *k, uint64_t number, unsigned bytes)
{
    return note(o, first, k, number, bytes, true) == WR_QUIC_ORDER_HEAR;
}

static bool tells(struct wr_quic_order *o, uint8_t first, const int *k, uint64_t number, unsigned bytes)
{
    return note(o, first, k, number, bytes, false) == WR_QUIC_ORDER_HEAR;
}

static void test_late_and_in_time(void **state)
{
    (void)state;
    struct wr_quic_order o = {0};
    assert_true(acks(&o, DATA, key, 5, 1));
    assert_int_equal(note(&o, DATA, key, 4, 1, true), WR_QUIC_ORDER_MUTE);
    assert_true(tells(&o, DATA, key, 4, 1));
    assert_true(acks(&o, DATA, key, 6, 1));
    assert_true(acks(&o, DATA, key, 6, 1));    /* again: ngtcp2 sees to that */
    assert_true(tells(&o, DATA, key, 0x1000000, 4));
    assert_false(acks(&o, DATA, key, 0xffffff, 1));
    assert_true(acks(&o, DATA, key, 0x1000001, 1));
    assert_true(acks(&o, DATA, key, UINT64_C(1) << 61, 4));
    assert_false(acks(&o, DATA, key, (UINT64_C(1) << 61) - 1, 1));
}

/* Each kind counts for itself, and has a key of its own. */
static void test_kinds(void **state)
{
    (void)state;
    struct wr_quic_order o = {0};
    assert_true(acks(&o, INITIAL, &key[0], 3, 1));
    assert_true(acks(&o, HANDSHAKE, &key[1], 0, 1));
    assert_true(acks(&o, DATA, &key[2], 0, 1));
    assert_false(acks(&o, INITIAL, &key[0], 2, 1));
    assert_true(acks(&o, HANDSHAKE, &key[1], 1, 1));
    assert_true(acks(&o, DATA, &key[2], 1, 1));
    assert_false(acks(&o, HANDSHAKE, &key[1], 0, 1));
    assert_true(tells(&o, HANDSHAKE, &key[1], 0, 1));
    assert_int_equal(note(&o, DATA, &key[3], 2, 1, false), WR_QUIC_ORDER_DROP);
}

/* A ClientHello in two packets may change their order; what comes once something was acknowledged may not. */
static void test_initial_packets(void **state)
{
    (void)state;
    struct wr_quic_order o = {0}, began_so = {0};
    assert_true(tells(&o, INITIAL, key, 1, 1));
    assert_true(tells(&o, INITIAL, key, 0, 1));
    assert_true(tells(&o, INITIAL, key, 5, 1));
    assert_int_equal(note(&o, INITIAL, key, 4, 1, true), WR_QUIC_ORDER_MUTE);
    assert_true(tells(&o, INITIAL, key, 4, 1));
    assert_true(acks(&o, INITIAL, key, 6, 1));
    assert_int_equal(note(&o, INITIAL, key, 4, 1, false), WR_QUIC_ORDER_DROP);
    assert_int_equal(note(&o, INITIAL, key, 4, 1, true), WR_QUIC_ORDER_DROP);
    assert_true(tells(&o, INITIAL, key, 7, 1));
    assert_true(acks(&began_so, INITIAL, key, 1, 1));
    assert_false(tells(&began_so, INITIAL, key, 0, 1));
}

/* Keys change, packets under the old one come late, and a new one may lie where one lay that is gone. */
static void test_new_keys(void **state)
{
    (void)state;
    struct wr_quic_order o = {0};
    uint8_t iv[12];
    uint64_t n = 0;
    assert_true(acks(&o, INITIAL, &key[7], 0, 1));
    assert_true(acks(&o, HANDSHAKE, &key[7], 0, 1));
    assert_true(acks(&o, DATA, &key[0], n, 1));
    for (size_t i = 1; i < 50; i++) {
        const int *was = &key[(i - 1) % 4], *is = &key[i % 4];
        wr_quic_order_key(&o, is, iv_of(is, iv));
        assert_true(acks(&o, DATA, was, ++n, 2));
        assert_true(acks(&o, DATA, is, n + 2, 2));
        assert_false(acks(&o, DATA, was, n + 1, 2));
        n += 2;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_and_in_time),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_initial_packets),
        cmocka_unit_test(test_new_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
