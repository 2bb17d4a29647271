/* Signed envelopes and peer records: known bytes in both forms, damage, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/envelope.h"
#include "transport/err.h"
#include "transport/varint.h"
#include "unit/hex.h"
#include "unit/key_vectors.h"

#include <stdlib.h>
#include <string.h>

/* Computed with an independent implementation: A.1's Ed25519 key, seq 1, /ip4/1.2.3.4/tcp/4001. */
#define RECORD                                                                                     \
    "0a260024080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e10011a0a"     \
    "0a080401020304060fa1"
#define KEY_FIELD "0a24080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
#define DEPLOYED  KEY_FIELD "120203011a36" RECORD DEPLOYED_SIGNATURE
#define DEPLOYED_SIGNATURE                                                                         \
    "2a40c99f8fb81f90fd06052fda303c6a7520ad4a37c1da2b3f8e8a432c3b30c888d62b773a0664bfa80604d6"     \
    "c3dd224c31cc44d06a75f444568c5034c5b4949ad603"
#define LEGACY                                                                                     \
    KEY_FIELD                                                                                      \
    "121c2f6c69627032702f726f7574696e672d73746174652d7265636f72641a36" RECORD LEGACY_SIGNATURE
#define LEGACY_SIGNATURE                                                                           \
    "2a40d8af00daa25b9ddad96f536129a95fa91c1efe6fd4798905777736c777c1b6410f4fe0d633970da8fee8"     \
    "b2b52d602592355a97dfe5f97073e9cde02a258e100a"
#define PEER "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"

static struct wr_key our_key(void)
{
    struct wr_key key;
    assert_int_equal(wr_key_decode(HEX(ED25519_PRIVATE), &key), 0);
    return key;
}

static void test_seal_vector(void **state)
{
    (void)state;
    struct wr_key key = our_key();
    struct wr_maddr ma;
    struct wr_buf b;
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    assert_int_equal(wr_maddr_parse("/ip4/1.2.3.4/tcp/4001", &ma), 0);
    wr_peer_record_seal(&key, 1, &ma, 1, &b);
    assert_int_equal(b.len, 164);
    assert_true(wr_bytes_equal(wr_buf_bytes(&b), HEX(DEPLOYED)));
    wr_buf_clear(&b);
}

static void test_open_both_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {DEPLOYED, LEGACY};
    for (size_t i = 0; i < 2; i++) {
        struct wr_peer_record record;
        char text[WR_MADDR_TEXT];
        assert_int_equal(wr_peer_record_open(HEX(forms[i]), NULL, &record), 0);
        assert_string_equal(wr_peerid_print(&record.peer, text), PEER);
        assert_int_equal(record.seq, 1);
        assert_int_equal(record.count, 1);
        assert_string_equal(wr_maddr_print(wr_maddr_bytes(&record.addrs[0]), text, sizeof(text)),
                            "/ip4/1.2.3.4/tcp/4001");
    }
}

static void test_envelope_slices_and_domains(void **state)
{
    (void)state;
    struct wr_envelope e;
    struct wr_bytes in = HEX(DEPLOYED);
    assert_int_equal(wr_envelope_open(in, "libp2p-peer-record", &e), 0);
    assert_true(wr_bytes_equal(e.payload, HEX(RECORD)));
    assert_true(wr_bytes_equal(e.payload_type, WR_BYTES_STR("\x03\x01")));
    assert_true(wr_bytes_equal(e.pubkey, HEX(ED25519_PUBLIC)));
    assert_true(e.payload.ptr > in.ptr && e.payload.ptr < in.ptr + in.len);
    assert_int_equal(wr_envelope_open(in, "libp2p-routing-state", &e), WR_EAUTH);
    assert_int_equal(wr_envelope_open(in, "", &e), WR_EAUTH);
}

static void test_seal_and_open(void **state)
{
    (void)state;
    struct wr_key key = our_key();
    struct wr_envelope e;
    struct wr_buf b;
    uint8_t payload[WR_ENVELOPE_MAX] = {1, 2, 3};
    wr_buf_init(&b, 2 * WR_ENVELOPE_MAX);
    for (size_t len = 0; len < 300; len += 7) {
        wr_buf_reset(&b);
        wr_envelope_seal(&key, "domain", WR_BYTES(payload, len % 5), WR_BYTES(payload, len), &b);
        assert_int_equal(wr_envelope_open(wr_buf_bytes(&b), "domain", &e), 0);
        assert_true(wr_bytes_equal(e.payload, WR_BYTES(payload, len)));
        assert_true(wr_bytes_equal(e.payload_type, WR_BYTES(payload, len % 5)));
    }
    /* The longest one, then one byte more: 38 key, 2 type, 3 payload, 66 signature. */
    wr_buf_reset(&b);
    size_t longest = WR_ENVELOPE_MAX - 38 - 2 - 3 - 66;
    wr_envelope_seal(&key, "domain", WR_BYTES_NONE, WR_BYTES(payload, longest), &b);
    assert_int_equal(b.len, WR_ENVELOPE_MAX);
    assert_int_equal(wr_envelope_open(wr_buf_bytes(&b), "domain", &e), 0);
    wr_buf_put(&b, "\x32\x00", 2); /* an unknown field makes it longer than we read */
    assert_int_equal(wr_envelope_open(wr_buf_bytes(&b), "domain", &e), WR_EPROTO);
    wr_buf_reset(&b);
    wr_envelope_seal(&key, "domain", WR_BYTES_NONE, WR_BYTES(payload, longest + 1), &b);
    assert_true(b.full);
    assert_int_equal(b.len, 0);
    wr_buf_reset(&b);
    wr_envelope_seal(&key, "domain", WR_BYTES_NONE, WR_BYTES(payload, sizeof(payload)), &b);
    assert_true(b.full);
    wr_buf_clear(&b);
}

static void test_every_bit_and_cut_matters(void **state)
{
    (void)state;
    static const char *const forms[] = {DEPLOYED, LEGACY};
    struct wr_peer_record record;
    for (size_t i = 0; i < 2; i++) {
        uint8_t bytes[256];
        struct wr_bytes in = hex_to(bytes, sizeof(bytes), forms[i]);
        for (size_t bit = 0; bit < 8 * in.len; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int err = wr_peer_record_open(in, NULL, &record);
            assert_true(err == WR_EPROTO || err == WR_EAUTH || err == WR_EPEERID);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < in.len; cut++)
            assert_int_equal(wr_peer_record_open(WR_BYTES(bytes, cut), NULL, &record), WR_EPROTO);
    }
}

static void seal_record(struct wr_buf *out, struct wr_bytes type, const char *domain,
                        struct wr_bytes payload)
{
    struct wr_key key = our_key();
    wr_buf_reset(out);
    wr_envelope_seal(&key, domain, type, payload, out);
    assert_false(out->full);
}

static void put_address(struct wr_buf *out, struct wr_bytes multiaddr)
{
    wr_buf_put_u8(out, 0x1a);
    wr_buf_put_uvarint(out, 1 + wr_uvarint_len(multiaddr.len) + multiaddr.len);
    wr_buf_put_u8(out, 0x0a);
    wr_buf_put_prefixed(out, multiaddr);
}

static void test_records_that_lie(void **state)
{
    (void)state;
    struct wr_peer_record record;
    struct wr_buf b;
    struct wr_bytes deployed = WR_BYTES_STR("\x03\x01");
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    /* Another's id under our signature. */
    uint8_t payload[128];
    struct wr_bytes in = hex_to(payload, sizeof(payload), RECORD);
    payload[10] ^= 1;
    seal_record(&b, deployed, "libp2p-peer-record", in);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EPEERID);
    payload[10] ^= 1;
    /* Domain and type of different forms; types of neither. */
    seal_record(&b, deployed, "libp2p-routing-state", in);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EAUTH);
    seal_record(&b, WR_BYTES_STR("/libp2p/routing-state-record"), "libp2p-peer-record", in);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EAUTH);
    seal_record(&b, WR_BYTES_STR("\x81\x06"), "libp2p-peer-record", in);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EPROTO);
    /* No peer id at all; a payload that is no record; fields of another kind. */
    seal_record(&b, deployed, "libp2p-peer-record", WR_BYTES_NONE);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EPROTO);
    seal_record(&b, deployed, "libp2p-peer-record", WR_BYTES(in.ptr, in.len - 1));
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EPROTO);
    seal_record(&b, deployed, "libp2p-peer-record", WR_BYTES_STR("\x08\x01"));
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), WR_EPROTO);
    wr_buf_clear(&b);
}

static void test_addresses_that_are_skipped(void **state)
{
    (void)state;
    struct wr_peer_record record;
    struct wr_buf b, payload;
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    wr_buf_init(&payload, WR_ENVELOPE_MAX);
    wr_buf_put_bytes(&payload, WR_BYTES(HEX(RECORD).ptr, 40));                /* the id only */
    wr_buf_put(&payload, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* seq 2^64-1 */
    put_address(&payload, WR_BYTES_STR("\x05\x01"));                          /* unknown code */
    put_address(&payload, WR_BYTES_NONE);                                     /* empty */
    wr_buf_put(&payload, "\x1a\x00", 2);                                      /* nothing at all */
    put_address(&payload, WR_BYTES_STR("\x04\x01\x02\x03\x04\x06\x0f\xa1"));
    put_address(&payload, WR_BYTES_STR("\x04\x01")); /* cut */
    put_address(&payload, WR_BYTES_STR("\xa2\x02"));
    wr_buf_put(&payload, "\x22\x01x", 3); /* unknown field */
    seal_record(&b, WR_BYTES_STR("\x03\x01"), "libp2p-peer-record", wr_buf_bytes(&payload));
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), 0);
    assert_int_equal(record.count, 2);
    assert_true(record.seq == UINT64_MAX);
    assert_int_equal(record.addrs[0].len, 8);
    assert_int_equal(record.addrs[1].len, 2);
    /* More addresses than are kept. */
    for (int i = 0; i < 2 * WR_RECORD_ADDRS_MAX; i++)
        put_address(&payload, WR_BYTES_STR("\xa2\x02"));
    seal_record(&b, WR_BYTES_STR("\x03\x01"), "libp2p-peer-record", wr_buf_bytes(&payload));
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), 0);
    assert_int_equal(record.count, WR_RECORD_ADDRS_MAX);
    wr_buf_clear(&b);
    wr_buf_clear(&payload);
}

static void test_seal_bounds(void **state)
{
    (void)state;
    struct wr_key key = our_key();
    static struct wr_maddr addrs[WR_RECORD_ADDRS_MAX];
    static struct wr_peer_record record;
    struct wr_buf b;
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    for (size_t i = 0; i < WR_RECORD_ADDRS_MAX; i++)
        assert_int_equal(wr_maddr_parse("/ip6/2001:db8::1/udp/1/quic-v1", &addrs[i]), 0);
    wr_peer_record_seal(&key, UINT64_MAX, addrs, WR_RECORD_ADDRS_MAX, &b);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), 0);
    assert_int_equal(record.count, WR_RECORD_ADDRS_MAX);
    assert_memory_equal(record.addrs, addrs, sizeof(addrs));
    wr_buf_reset(&b);
    wr_peer_record_seal(&key, 0, addrs, 0, &b);
    assert_int_equal(wr_peer_record_open(wr_buf_bytes(&b), NULL, &record), 0);
    assert_int_equal(record.count, 0);
    assert_int_equal(record.seq, 0);
    /* 64 addresses of 255 bytes are more than an envelope. */
    char text[WR_MADDR_TEXT] = "/dns/";
    memset(text + 5, 'a', 250);
    for (size_t i = 0; i < WR_RECORD_ADDRS_MAX; i++)
        assert_int_equal(wr_maddr_parse(text, &addrs[i]), 0);
    wr_buf_reset(&b);
    wr_peer_record_seal(&key, 0, addrs, WR_RECORD_ADDRS_MAX, &b);
    assert_true(b.full);
    wr_buf_clear(&b);
    wr_buf_init(&b, 100);
    wr_peer_record_seal(&key, 0, addrs, 0, &b);
    assert_true(b.full);
    wr_buf_clear(&b);
}

/* Peers with RSA and ECDSA keys sign envelopes too; here only that their ids come out right. */
static void test_signers_of_other_types_are_named(void **state)
{
    (void)state;
    struct wr_envelope e;
    for (size_t i = 0; i < sizeof(ID_VECTORS) / sizeof(ID_VECTORS[0]); i++) {
        uint8_t memory[1500];
        struct wr_buf b;
        wr_buf_over(&b, memory, sizeof(memory));
        wr_buf_put_u8(&b, 0x0a);
        wr_buf_put_prefixed(&b, HEX(ID_VECTORS[i].pubkey));
        wr_buf_put(&b, "\x2a\x01x", 3);
        assert_int_equal(wr_envelope_open(wr_buf_bytes(&b), "domain", &e), WR_EAUTH);
    }
    assert_int_equal(wr_envelope_open(WR_BYTES_STR("\x0a\x02\x08\x01\x2a\x01x"), "d", &e),
                     WR_EPROTO);
    assert_int_equal(wr_envelope_open(WR_BYTES_NONE, "d", &e), WR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seal_vector),
        cmocka_unit_test(test_open_both_forms),
        cmocka_unit_test(test_envelope_slices_and_domains),
        cmocka_unit_test(test_seal_and_open),
        cmocka_unit_test(test_every_bit_and_cut_matters),
        cmocka_unit_test(test_records_that_lie),
        cmocka_unit_test(test_addresses_that_are_skipped),
        cmocka_unit_test(test_seal_bounds),
        cmocka_unit_test(test_signers_of_other_types_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
