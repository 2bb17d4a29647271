/* Kademlia messages: golden bytes, the quirks of deployed peers, what fits into 16 KiB, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/dht_msg.h"
#include "transport/err.h"

#include <stdio.h>
#include <string.h>

/* An Ed25519 identity multihash, 38 bytes: 00 24 08 01 12 20 and the key. */
static struct wr_peerid ed25519_id(uint8_t fill)
{
    struct wr_peerid id = {.len = 38, .bytes = {0x00, 0x24, 0x08, 0x01, 0x12, 0x20}};
    memset(id.bytes + 6, fill, 32);
    return id;
}

static struct wr_maddr maddr(const char *text)
{
    struct wr_maddr ma;
    assert_int_equal(wr_maddr_parse(text, &ma), 0);
    return ma;
}

static int encode(const struct wr_dht_msg *msg, size_t size_max, struct wr_buf *out)
{
    wr_buf_init(out, 1 << 20);
    return wr_dht_msg_encode(msg, size_max, out);
}

/* Sheet of the DHT, section 3: type is absent from PUT_VALUE, and absent means PUT_VALUE. */
static void test_put_value_has_no_type(void **state)
{
    (void)state;
    static const uint8_t golden[] = {0x12, 1, 'k', 0x1a, 6, 0x0a, 1, 'k', 0x12, 1, 'v'};
    struct wr_dht_msg msg = {.type = WR_DHT_PUT_VALUE,
                             .key = WR_BYTES_STR("k"),
                             .has_record = true,
                             .record = {.key = WR_BYTES_STR("k"), .value = WR_BYTES_STR("v")}};
    struct wr_buf out;
    assert_int_equal(encode(&msg, WR_DHT_SEND_MAX, &out), 0);
    assert_int_equal(out.len, sizeof(golden));
    assert_memory_equal(out.data, golden, sizeof(golden));
    struct wr_dht_msg got;
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&out), &got), 0);
    assert_int_equal(got.type, WR_DHT_PUT_VALUE);
    assert_true(got.has_record && wr_bytes_equal(got.record.value, WR_BYTES_STR("v")));
    wr_dht_msg_clear(&got);
    wr_buf_clear(&out);
    assert_int_equal(wr_dht_msg_decode(WR_BYTES_NONE, &got), 0);
    assert_int_equal(got.type, WR_DHT_PUT_VALUE);
    assert_false(got.has_record);
    wr_dht_msg_clear(&got);
}

static void test_find_node_of_an_ed25519_id(void **state)
{
    (void)state;
    struct wr_peerid id = ed25519_id(7);
    struct wr_dht_msg msg = {.type = WR_DHT_FIND_NODE, .key = wr_peerid_bytes(&id)};
    struct wr_buf out;
    assert_int_equal(encode(&msg, WR_DHT_SEND_MAX, &out), 0);
    static const uint8_t head[] = {0x08, 4, 0x12, 38, 0x00, 0x24, 0x08, 0x01, 0x12, 0x20, 7};
    assert_int_equal(out.len, 42);
    assert_memory_equal(out.data, head, sizeof(head));
    wr_buf_clear(&out);
}

/* A peer with no address at all goes through both ways; so does an empty key. */
static void test_peer_without_addresses(void **state)
{
    (void)state;
    struct wr_dht_peer peer = {.id = ed25519_id(1)};
    struct wr_dht_msg msg = {.type = WR_DHT_GET_PROVIDERS, .provider_count = 1, .providers = &peer},
                      got;
    struct wr_buf out;
    assert_int_equal(encode(&msg, WR_DHT_SEND_MAX, &out), 0);
    static const uint8_t head[] = {0x08, 3, 0x4a, 40, 0x0a, 38, 0x00, 0x24};
    assert_int_equal(out.len, 4 + 40);
    assert_memory_equal(out.data, head, sizeof(head));
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&out), &got), 0);
    assert_int_equal(got.provider_count, 1);
    assert_int_equal(got.providers[0].count, 0);
    assert_true(wr_peerid_equal(&got.providers[0].id, &peer.id));
    wr_dht_msg_clear(&got);
    wr_buf_clear(&out);
}

static void put_field(struct wr_buf *b, unsigned number, struct wr_bytes value)
{
    wr_buf_put_uvarint(b, number << 3 | 2);
    wr_buf_put_prefixed(b, value);
}

/* What other implementations write and we must read: go's and rust's relic field 10, rust's record
 * fields 666 and 777, a connection type outside the list, an unknown message type. */
static void test_quirks_of_others(void **state)
{
    (void)state;
    struct wr_buf b, record, peer;
    struct wr_peerid id = ed25519_id(3);
    wr_buf_init(&b, 4096);
    wr_buf_init(&record, 4096);
    wr_buf_init(&peer, 4096);
    put_field(&record, 1, WR_BYTES_STR("k"));
    put_field(&record, 2, WR_BYTES_STR("v"));
    put_field(&record, 5, WR_BYTES_STR("2024-05-01T10:20:30Z"));
    put_field(&record, 666, wr_peerid_bytes(&id));
    wr_buf_put_uvarint(&record, 777 << 3);
    wr_buf_put_uvarint(&record, 3600);
    put_field(&peer, 1, wr_peerid_bytes(&id));
    wr_buf_put_uvarint(&peer, 3 << 3);
    wr_buf_put_uvarint(&peer, 77);
    wr_buf_put_uvarint(&b, 1 << 3);
    wr_buf_put_uvarint(&b, 99);
    put_field(&b, 2, WR_BYTES_STR("k"));
    put_field(&b, 3, wr_buf_bytes(&record));
    put_field(&b, 8, wr_buf_bytes(&peer));
    wr_buf_put_uvarint(&b, 10 << 3);
    wr_buf_put_uvarint(&b, 10);
    struct wr_dht_msg got;
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&b), &got), 0);
    assert_int_equal(got.type, 99);
    assert_int_equal(got.closer_count, 1);
    assert_true(wr_bytes_equal(got.record.time_received, WR_BYTES_STR("2024-05-01T10:20:30Z")));
    wr_dht_msg_clear(&got);
    wr_buf_clear(&b);
    wr_buf_clear(&record);
    wr_buf_clear(&peer);
}

/* An address that does not parse is dropped, never its peer; an empty one as well; a trailing /p2p
 * of the peer itself is taken off, one of another peer drops the address. A malformed id drops the
 * peer. */
static void test_bad_addresses_and_ids(void **state)
{
    (void)state;
    struct wr_peerid id = ed25519_id(3), other = ed25519_id(4);
    struct wr_maddr plain = maddr("/ip4/8.8.8.8/tcp/4001"), own = plain, foreign = plain;
    struct wr_maddr relayed = plain;
    assert_int_equal(wr_maddr_append_peer(&own, &id), 0);
    assert_int_equal(wr_maddr_append_peer(&foreign, &other), 0);
    assert_int_equal(wr_maddr_append_peer(&relayed, &other), 0);
    assert_int_equal(wr_maddr_append(&relayed, WR_BYTES_STR("\xa2\x02")), 0);
    struct wr_buf peer, nobody, b;
    wr_buf_init(&peer, 4096);
    wr_buf_init(&nobody, 4096);
    wr_buf_init(&b, 4096);
    put_field(&peer, 2, WR_BYTES_STR("\x04\x08"));
    put_field(&peer, 2, WR_BYTES_NONE);
    put_field(&peer, 2, wr_maddr_bytes(&own));
    put_field(&peer, 2, wr_maddr_bytes(&foreign));
    put_field(&peer, 2, wr_maddr_bytes(&relayed));
    put_field(&peer, 1, wr_peerid_bytes(&id));
    put_field(&nobody, 1, WR_BYTES_STR("not a multihash"));
    put_field(&nobody, 2, wr_maddr_bytes(&plain));
    put_field(&b, 8, wr_buf_bytes(&nobody));
    put_field(&b, 8, wr_buf_bytes(&peer));
    put_field(&b, 8, WR_BYTES_NONE);
    struct wr_dht_msg got;
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&b), &got), 0);
    assert_int_equal(got.closer_count, 1);
    assert_true(wr_peerid_equal(&got.closer[0].id, &id));
    assert_int_equal(got.closer[0].count, 2);
    assert_true(wr_bytes_equal(got.closer[0].addrs[0], wr_maddr_bytes(&plain)));
    assert_true(wr_bytes_equal(got.closer[0].addrs[1], wr_maddr_bytes(&relayed)));
    wr_dht_msg_clear(&got);
    wr_buf_clear(&b);
    wr_buf_clear(&peer);
    wr_buf_clear(&nobody);
}

static void test_limits_of_decoding(void **state)
{
    (void)state;
    struct wr_maddr addr = maddr("/ip4/8.8.8.8/tcp/4001");
    struct wr_buf peer, b;
    struct wr_dht_msg got;
    struct wr_peerid id = ed25519_id(3);
    wr_buf_init(&peer, 8192);
    wr_buf_init(&b, 1 << 20);
    put_field(&peer, 1, wr_peerid_bytes(&id));
    for (int i = 0; i < 50; i++)
        put_field(&peer, 2, wr_maddr_bytes(&addr));
    for (int i = 0; i < 300; i++)
        put_field(&b, i < 150 ? 8 : 9, wr_buf_bytes(&peer));
    assert_true(b.len < WR_DHT_RECV_MAX);
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&b), &got), 0);
    assert_int_equal(got.closer_count, WR_DHT_CLOSER_MAX);
    assert_int_equal(got.provider_count, WR_DHT_PROVIDERS_MAX);
    assert_int_equal(got.closer[39].count, WR_DHT_ADDRS_IN_MAX);
    assert_int_equal(got.providers[99].count, WR_DHT_ADDRS_IN_MAX);
    wr_dht_msg_clear(&got);
    while (b.len <= WR_DHT_RECV_MAX)
        put_field(&b, 15, wr_buf_bytes(&peer));
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&b), &got), WR_EPROTO);
    wr_buf_reset(&b);
    uint8_t key[WR_DHT_KEY_MAX + 1] = {0};
    put_field(&b, 2, WR_BYTES(key, sizeof(key)));
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&b), &got), WR_EPROTO);
    wr_buf_clear(&b);
    wr_buf_clear(&peer);
}

static void test_wrong_wire_types(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[4];
        size_t len;
    } bad[] = {{{0x0a, 0}, 2},          {{0x10, 1}, 2},          {{0x18, 1}, 2},
               {{0x42, 2, 0x08, 1}, 4}, {{0x4a, 2, 0x10, 1}, 4}, {{0x1a, 2, 0x08, 1}, 4},
               {{0x12, 9}, 2}};
    struct wr_dht_msg got;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_dht_msg_decode(WR_BYTES(bad[i].bytes, bad[i].len), &got), WR_EPROTO);
}

#define MANY_PEERS 20
#define MANY_ADDRS 50

/* 20 peers of 50 addresses each are 50 KiB; an answer keeps all peers and as many of their best
 * addresses as 16 KiB hold. */
static void test_answers_fit_16_kib(void **state)
{
    (void)state;
    static struct wr_maddr addrs[MANY_PEERS][MANY_ADDRS];
    static struct wr_bytes slices[MANY_PEERS][MANY_ADDRS];
    struct wr_dht_peer peers[MANY_PEERS];
    struct wr_peerid relay = ed25519_id(99);
    for (unsigned i = 0; i < MANY_PEERS; i++) {
        peers[i] = (struct wr_dht_peer){
            .id = ed25519_id((uint8_t)i), .count = MANY_ADDRS, .addrs = slices[i]};
        for (unsigned j = 0; j < MANY_ADDRS; j++) {
            char text[64];
            snprintf(text, sizeof(text), "/ip6/2a01:4f8:%x:%x::1/udp/4001/quic-v1", i, j);
            addrs[i][j] = maddr(text);
            if (j != MANY_ADDRS - 1) {
                assert_int_equal(wr_maddr_append_peer(&addrs[i][j], &relay), 0);
                assert_int_equal(wr_maddr_append(&addrs[i][j], WR_BYTES_STR("\xa2\x02")), 0);
            }
            slices[i][j] = wr_maddr_bytes(&addrs[i][j]);
        }
    }
    struct wr_dht_msg msg = {.type = WR_DHT_FIND_NODE, .closer_count = MANY_PEERS, .closer = peers},
                      got;
    static const struct {
        size_t size_max, peers, addrs_min, addrs_max;
    } cases[] = {{WR_DHT_SEND_MAX, 20, 5, 8}, {4096, 20, 1, 3}, {1000, 14, 1, 1}, {20, 0, 0, 0}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct wr_buf out;
        assert_int_equal(encode(&msg, cases[c].size_max, &out), 0);
        assert_true(out.len <= cases[c].size_max);
        assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&out), &got), 0);
        assert_true(got.closer_count == cases[c].peers);
        for (size_t i = 0; i < got.closer_count; i++) {
            assert_true(got.closer[i].count >= cases[c].addrs_min);
            assert_true(got.closer[i].count <= cases[c].addrs_max);
            assert_true(
                wr_bytes_equal(got.closer[i].addrs[0], wr_maddr_bytes(&addrs[i][MANY_ADDRS - 1])));
        }
        wr_dht_msg_clear(&got);
        wr_buf_clear(&out);
    }
}

static void test_key_that_does_not_fit(void **state)
{
    (void)state;
    uint8_t value[2000] = {0};
    struct wr_dht_msg msg = {.has_record = true,
                             .record = {.value = WR_BYTES(value, sizeof(value))}};
    struct wr_buf out;
    assert_int_equal(encode(&msg, 1000, &out), WR_ELIMIT);
    assert_int_equal(out.len, 0);
    wr_buf_clear(&out);
}

/* Best for a dialler first: public QUIC, public TCP, names, private, relayed. */
static void test_order_of_addresses(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "/ip4/8.8.8.8/udp/4001/quic-v1",   "/ip4/8.8.8.8/tcp/4001",
        "/dns4/node.example.org/tcp/4001", "/ip4/192.168.1.2/udp/4001/quic-v1",
        "/ip4/192.168.1.2/tcp/4001",       "/ip4/8.8.8.8/tcp/4001/ws",
    };
    unsigned last = 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct wr_maddr ma = maddr(texts[i]);
        unsigned rank = wr_dht_addr_rank(wr_maddr_bytes(&ma));
        assert_true(i == 0 || rank > last);
        last = rank;
    }
}

static bool same_peers(const struct wr_dht_peer *a, const struct wr_dht_peer *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!wr_peerid_equal(&a[i].id, &b[i].id) || a[i].count != b[i].count)
            return false;
        for (size_t j = 0; j < a[i].count; j++) {
            if (!wr_bytes_equal(a[i].addrs[j], b[i].addrs[j]))
                return false;
        }
    }
    return true;
}

/* A message with everything in it. */
static void full_message(struct wr_buf *out)
{
    static struct wr_maddr a, b;
    static struct wr_bytes slices[2], provider_slice;
    static struct wr_dht_peer closer[2], provider;
    a = maddr("/ip4/8.8.8.8/udp/4001/quic-v1");
    b = maddr("/ip4/8.8.4.4/tcp/4001");
    slices[0] = provider_slice = wr_maddr_bytes(&a);
    slices[1] = wr_maddr_bytes(&b);
    closer[0] = (struct wr_dht_peer){.id = ed25519_id(1), .count = 2, .addrs = slices};
    closer[1] = (struct wr_dht_peer){.id = ed25519_id(2)};
    provider = (struct wr_dht_peer){.id = ed25519_id(3), .count = 1, .addrs = &provider_slice};
    struct wr_dht_msg msg = {.type = WR_DHT_GET_VALUE,
                             .key = WR_BYTES_STR("/pk/key"),
                             .has_record = true,
                             .record = {WR_BYTES_STR("/pk/key"), WR_BYTES_STR("value"),
                                        WR_BYTES_STR("2024-05-01T10:20:30.123456789Z")},
                             .closer_count = 2,
                             .closer = closer,
                             .provider_count = 1,
                             .providers = &provider};
    struct wr_dht_msg got;
    assert_int_equal(encode(&msg, WR_DHT_SEND_MAX, out), 0);
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(out), &got), 0);
    assert_int_equal(got.type, msg.type);
    assert_true(wr_bytes_equal(got.key, msg.key));
    assert_true(wr_bytes_equal(got.record.key, msg.record.key));
    assert_true(wr_bytes_equal(got.record.value, msg.record.value));
    assert_true(wr_bytes_equal(got.record.time_received, msg.record.time_received));
    assert_int_equal(got.closer_count, 2);
    assert_int_equal(got.provider_count, 1);
    assert_true(same_peers(got.closer, closer, 2) && same_peers(got.providers, &provider, 1));
    wr_dht_msg_clear(&got);
}

/* Whatever still decodes can be encoded and decoded again to the same. */
static void check_damaged(struct wr_bytes in, unsigned *accepted)
{
    struct wr_dht_msg got, again;
    struct wr_buf out;
    if (wr_dht_msg_decode(in, &got) != 0) {
        assert_null(got.memory);
        return;
    }
    ++*accepted;
    assert_int_equal(encode(&got, WR_DHT_RECV_MAX, &out), 0);
    assert_int_equal(wr_dht_msg_decode(wr_buf_bytes(&out), &again), 0);
    assert_true(wr_bytes_equal(got.key, again.key));
    assert_int_equal(got.closer_count, again.closer_count);
    assert_true(same_peers(got.closer, again.closer, got.closer_count));
    wr_dht_msg_clear(&again);
    wr_dht_msg_clear(&got);
    wr_buf_clear(&out);
}

static void test_damage(void **state)
{
    (void)state;
    struct wr_buf whole;
    unsigned accepted = 0;
    full_message(&whole);
    for (size_t len = 0; len <= whole.len; len++) {
        uint8_t *copy = wr_memdup(whole.data, len);
        check_damaged(WR_BYTES(copy, len), &accepted);
        wr_free(copy);
    }
    unsigned truncated = accepted;
    for (size_t bit = 0; bit < whole.len * 8; bit++) {
        uint8_t *copy = wr_memdup(whole.data, whole.len);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_damaged(WR_BYTES(copy, whole.len), &accepted);
        wr_free(copy);
    }
    /* Only between fields a cut leaves a message; most flips hit a value and leave one. */
    assert_int_equal(truncated, 7);
    assert_true(accepted > whole.len * 4 && accepted < whole.len * 8);
    wr_buf_clear(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_value_has_no_type),
        cmocka_unit_test(test_find_node_of_an_ed25519_id),
        cmocka_unit_test(test_peer_without_addresses),
        cmocka_unit_test(test_quirks_of_others),
        cmocka_unit_test(test_bad_addresses_and_ids),
        cmocka_unit_test(test_limits_of_decoding),
        cmocka_unit_test(test_wrong_wire_types),
        cmocka_unit_test(test_answers_fit_16_kib),
        cmocka_unit_test(test_key_that_does_not_fit),
        cmocka_unit_test(test_order_of_addresses),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
