/* Hop and stop messages, vouchers, and the bucket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/bucket.h"
#include "relay/relay_msg.h"
#include "relay/voucher.h"

#include <string.h>

static struct wr_bytes encode(enum wr_relay_side side, const struct wr_relay_msg *m, struct wr_buf *out)
{
    wr_buf_reset(out);
    wr_relay_msg_encode(side, m, out);
    assert_false(out->full);
    return wr_buf_bytes(out);
}

/* Bytes written out by hand after the schema of circuit-v2.md. */
static void test_byte_for_byte(void **state)
{
    struct wr_buf b;
    (void)state;
    wr_buf_init(&b, WR_RELAY_MSG_MAX);
    struct wr_relay_msg reserve = {.type = WR_RELAY_RESERVE};
    assert_true(wr_bytes_equal(encode(WR_RELAY_HOP, &reserve, &b), WR_BYTES("\x08\x00", 2)));
    struct wr_relay_msg bring = {.type = WR_RELAY_CONNECT,
                                 .peer = WR_BYTES_STR("id"),
                                 .has_limit = true,
                                 .limit = {.duration = 120, .data = 131072}};
    assert_true(wr_bytes_equal(encode(WR_RELAY_STOP, &bring, &b),
                               WR_BYTES("\x08\x00\x12\x04\x0a\x02id\x1a\x06\x08\x78\x10\x80\x80\x08", 16)));
    assert_true(wr_bytes_equal(encode(WR_RELAY_HOP, &bring, &b),
                               WR_BYTES("\x08\x01\x12\x04\x0a\x02id\x22\x06\x08\x78\x10\x80\x80\x08", 16)));
    struct wr_relay_msg ok = {.type = WR_RELAY_STATUS, .status = WR_RELAY_OK};
    assert_true(wr_bytes_equal(encode(WR_RELAY_HOP, &ok, &b), WR_BYTES("\x08\x02\x28\x64", 4)));
    assert_true(wr_bytes_equal(encode(WR_RELAY_STOP, &ok, &b), WR_BYTES("\x08\x01\x20\x64", 4)));
    /* A limit of zeros is a limit. */
    ok.has_limit = true;
    assert_true(wr_bytes_equal(encode(WR_RELAY_HOP, &ok, &b), WR_BYTES("\x08\x02\x22\x00\x28\x64", 6)));
    struct wr_relay_msg back;
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, wr_buf_bytes(&b), &back), 0);
    assert_true(back.has_limit && back.limit.data == 0 && back.limit.duration == 0);
    wr_buf_clear(&b);
}

static void test_both_ways(void **state)
{
    struct wr_relay_msg m = {.type = WR_RELAY_STATUS,
                             .status = WR_RELAY_OK,
                             .has_reservation = true,
                             .expire = 1764000000,
                             .voucher = WR_BYTES_STR("voucher"),
                             .addr_count = 2,
                             .addrs = {WR_BYTES_STR("one"), WR_BYTES_STR("two")},
                             .has_limit = true,
                             .limit = {.duration = UINT32_MAX, .data = INT64_MAX}},
                        back;
    struct wr_buf b;
    (void)state;
    wr_buf_init(&b, WR_RELAY_MSG_MAX);
    struct wr_bytes in = encode(WR_RELAY_HOP, &m, &b);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, in, &back), 0);
    assert_int_equal(back.type, m.type);
    assert_int_equal(back.status, m.status);
    assert_int_equal(back.expire, m.expire);
    assert_true(wr_bytes_equal(back.voucher, m.voucher));
    assert_int_equal(back.addr_count, 2);
    assert_true(wr_bytes_equal(back.addrs[1], m.addrs[1]));
    assert_int_equal(back.limit.duration, UINT32_MAX);
    assert_int_equal(back.limit.data, INT64_MAX);
    /* Every prefix and every changed bit: a message or a refusal, within the bytes. */
    for (size_t len = 0; len < in.len; len++) {
        uint8_t *cut = wr_memdup(in.ptr, len);
        (void)wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(cut, len), &back);
        wr_free(cut);
    }
    size_t refused = 0;
    for (size_t bit = 0; bit < in.len * 8; bit++) {
        uint8_t *changed = wr_memdup(in.ptr, in.len);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(changed, in.len), &back);
        assert_true(rc == 0 || rc == WR_EPROTO);
        refused += rc != 0;
        for (size_t i = 0; rc == 0 && i < back.addr_count; i++)
            assert_true(back.addrs[i].ptr >= changed && back.addrs[i].ptr + back.addrs[i].len <= changed + in.len);
        wr_free(changed);
    }
    assert_true(refused > 0);
    wr_buf_clear(&b);
}

static void test_bounds(void **state)
{
    static uint8_t long_one[WR_RELAY_MSG_MAX + 1];
    struct wr_relay_msg m;
    struct wr_buf b;
    (void)state;
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(long_one, sizeof(long_one)), &m), WR_EPROTO);
    /* More addresses than are looked at: the rest is dropped. */
    wr_buf_init(&b, WR_RELAY_MSG_MAX);
    wr_buf_put(&b, "\x08\x02\x1a", 3);
    wr_buf_put_uvarint(&b, 3 * (WR_RELAY_ADDRS_MAX + 5));
    for (int i = 0; i < WR_RELAY_ADDRS_MAX + 5; i++)
        wr_buf_put(&b, "\x12\x01x", 3);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, wr_buf_bytes(&b), &m), 0);
    assert_int_equal(m.addr_count, WR_RELAY_ADDRS_MAX);
    wr_buf_clear(&b);
    /* Types that a side does not have; fields nobody knows; a field of the wrong kind. */
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES("\x08\x03", 2), &m), WR_EPROTO);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_STOP, WR_BYTES("\x08\x02", 2), &m), WR_EPROTO);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES("\x08\x01\x92\x84\x02\x01x", 7), &m), 0);
    assert_int_equal(m.type, WR_RELAY_CONNECT);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES("\x0a\x00", 2), &m), WR_EPROTO);
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_STOP, WR_BYTES("\x08\x01\x28\x64", 4), &m), 0);
    assert_int_equal(m.status, 0);    /* field 5 is none of a stop message's */
}

static void test_errors(void **state)
{
    (void)state;
    assert_int_equal(wr_relay_msg_err(WR_RELAY_OK), 0);
    assert_int_equal(wr_relay_msg_err(WR_RELAY_FULL), WR_EFULL);
    assert_int_equal(wr_relay_msg_err(WR_RELAY_NOT_THERE), WR_ENOTFOUND);
    assert_int_equal(wr_relay_msg_err(0), WR_EPROTO);
    assert_int_equal(wr_relay_msg_err(999), WR_EPROTO);
}

static void make(struct wr_key *key, struct wr_peerid *id, uint8_t seed)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    struct wr_buf pubkey;
    wr_key_generate(key, bytes);
    wr_buf_init(&pubkey, WR_PUBKEY_MAX);
    wr_key_encode_public(key, &pubkey);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), id), 0);
    wr_buf_clear(&pubkey);
}

static void test_vouchers(void **state)
{
    struct wr_key key, other_key;
    struct wr_voucher v = {.expire = 1764000000}, back;
    struct wr_envelope e;
    struct wr_buf b;
    (void)state;
    make(&key, &v.relay, 1);
    make(&other_key, &v.peer, 2);
    wr_buf_init(&b, WR_VOUCHER_MAX);
    wr_voucher_seal(&key, &v, &b);
    assert_false(b.full);
    assert_int_equal(wr_voucher_open(wr_buf_bytes(&b), &back), 0);
    assert_true(wr_peerid_equal(&back.relay, &v.relay) && wr_peerid_equal(&back.peer, &v.peer));
    assert_int_equal(back.expire, v.expire);
    /* As go and js write it: domain, payload type, and the payload's fields in order. */
    assert_int_equal(wr_envelope_open(wr_buf_bytes(&b), "libp2p-relay-rsvp", &e), 0);
    assert_true(wr_bytes_equal(e.payload_type, WR_BYTES("\x03\x02", 2)));
    assert_int_equal(e.payload.ptr[0], 0x0a);
    assert_memory_equal(e.payload.ptr + 2, v.relay.bytes, v.relay.len);
    assert_int_equal(e.payload.ptr[2 + v.relay.len], 0x12);
    assert_memory_equal(e.payload.ptr + 4 + v.relay.len, v.peer.bytes, v.peer.len);
    assert_int_equal(e.payload.ptr[4 + v.relay.len + v.peer.len], 0x18);
    /* One changed bit anywhere. */
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(wr_voucher_open(wr_buf_bytes(&b), &back) < 0);
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Signed by somebody else than it names. */
    wr_buf_reset(&b);
    wr_voucher_seal(&other_key, &v, &b);
    assert_int_equal(wr_voucher_open(wr_buf_bytes(&b), &back), WR_EPEERID);
    wr_buf_clear(&b);
}

/* Whatever the pieces, the rate comes out; and time that stood still lends nothing. */
static void test_bucket(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= 1 << 20; piece *= 32) {
        struct wr_bucket b;
        wr_time now = 5 * WR_SEC, begun = now;
        uint64_t passed = 0;
        wr_bucket_init(&b, 100000, 1000, now);
        while (passed < 20 * piece || passed < 50000) {
            wr_time wait = wr_bucket_wait(&b, now);
            now += wait;
            assert_int_equal(wr_bucket_wait(&b, now), 0);
            wr_bucket_take(&b, piece, now);
            passed += piece;
        }
        now += wr_bucket_wait(&b, now);
        double rate = (double)(passed - 1000) * (double)WR_SEC / (double)(now - begun);
        assert_true(rate > 99000 && rate < 101000);
    }
    struct wr_bucket none, idle;
    wr_bucket_init(&none, 0, 0, 1);
    wr_bucket_take(&none, SIZE_MAX / 2, 1);
    assert_int_equal(wr_bucket_wait(&none, 1), 0);
    /* After a year of quiet no more than the burst is saved up. */
    wr_bucket_init(&idle, WR_BUCKET_RATE_MAX, 1000, 1);
    wr_bucket_take(&idle, 1001, 365 * 24 * WR_HOUR);
    assert_true(wr_bucket_wait(&idle, 365 * 24 * WR_HOUR) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_for_byte), cmocka_unit_test(test_both_ways), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_errors),        cmocka_unit_test(test_vouchers),  cmocka_unit_test(test_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
