/* Values of the DHT: RFC 3339 times, IPNS records (published vectors), which value may stand under
 * which key and which of two is the better. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/ipns.h"
#include "dht/record.h"
#include "dht/rfc3339.h"
#include "tests/unit/hex.h"
#include "tests/unit/ipns_vectors.h"
#include "transport/err.h"
#include "transport/key.h"

#include <string.h>

#define SEC 1000000000ll

/* ---- times ---------------------------------------------------------------------------------- */

static void test_times(void **state)
{
    (void)state;
    /* Checked against `date -u -d ... +%s`. */
    static const struct {
        const char *text;
        int64_t ns;
        const char *printed; /* NULL: the same */
    } good[] = {
        {"1970-01-01T00:00:00Z", 0, NULL},
        {"2024-05-01T10:20:30.123456789Z", 1714558830 * SEC + 123456789, NULL},
        {"2024-02-29T23:59:59Z", 1709251199 * SEC, NULL},
        {"2000-03-01T00:00:00.5Z", 951868800 * SEC + 500000000, NULL},
        {"1969-12-31T23:59:59.75Z", -250000000, NULL},
        {"2024-05-01T12:20:30+02:00", 1714558830 * SEC, "2024-05-01T10:20:30Z"},
        {"2024-05-01t05:50:30-04:30", 1714558830 * SEC, "2024-05-01T10:20:30Z"},
        {"2016-12-31T23:59:60Z", 1483228800 * SEC, "2017-01-01T00:00:00Z"},
        {"2024-05-01T10:20:30.1234567899999Z", 1714558830 * SEC + 123456789,
         "2024-05-01T10:20:30.123456789Z"},
        {"9999-12-31T23:59:59Z", INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
        {"0001-01-01T00:00:00Z", INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
    };
    static const char *const bad[] = {
        "",
        "2024-05-01",
        "2024-05-01T10:20:30",
        "2024-13-01T10:20:30Z",
        "2024-00-01T10:20:30Z",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2024-05-01T24:20:30Z",
        "2024-05-01T10:60:30Z",
        "2024-05-01T10:20:30.Z",
        "2024-05-01T10:20:30ZZ",
        "2024-05-01 10:20:30Z",
        "2024-05-01T10:20:30+24:00",
        "24-05-01T10:20:30Z",
        "2024-05-01T10:20:30+0200",
        "2024-05-32T10:20:30Z",
        "-024-05-01T10:20:30Z",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char out[WR_RFC3339_TEXT];
        int64_t ns = 1;
        assert_int_equal(wr_rfc3339_parse(wr_bytes_cstr(good[i].text), &ns), 0);
        assert_true(ns == good[i].ns);
        size_t len = wr_rfc3339_print(ns, out);
        assert_int_equal(len, strlen(out));
        assert_string_equal(out, good[i].printed ? good[i].printed : good[i].text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ns;
        assert_int_equal(wr_rfc3339_parse(wr_bytes_cstr(bad[i]), &ns), WR_EPROTO);
    }
}

/* Every day of 400 years there and back. */
static void test_calendar(void **state)
{
    (void)state;
    for (int64_t day = -36525; day < 146097 - 40000; day++) {
        char out[WR_RFC3339_TEXT];
        int64_t ns = day * 86400 * SEC, back;
        size_t len = wr_rfc3339_print(ns, out);
        assert_int_equal(wr_rfc3339_parse(WR_BYTES(out, len), &back), 0);
        assert_true(back == ns);
    }
}

/* ---- IPNS ----------------------------------------------------------------------------------- */

static void test_published_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(ipns_vectors) / sizeof(ipns_vectors[0]); i++) {
        struct wr_peerid name;
        struct wr_ipns record;
        assert_int_equal(wr_peerid_parse(ipns_vectors[i].name, &name), 0);
        struct wr_bytes bytes = HEX(ipns_vectors[i].hex);
        assert_int_equal(wr_ipns_open(bytes, &name, &record), ipns_vectors[i].result);
        if (ipns_vectors[i].value)
            assert_true(wr_bytes_equal(record.value, wr_bytes_cstr(ipns_vectors[i].value)));
    }
}

static void test_other_name(void **state)
{
    (void)state;
    struct wr_peerid ed25519, rsa;
    struct wr_ipns record;
    assert_int_equal(wr_peerid_parse(ipns_vectors[0].name, &ed25519), 0);
    assert_int_equal(wr_peerid_parse(ipns_vectors[6].name, &rsa), 0);
    assert_int_equal(wr_ipns_open(HEX(ipns_vectors[1].hex), &ed25519, &record), WR_EAUTH);
    rsa.bytes[10] ^= 1;
    assert_int_equal(wr_ipns_open(HEX(ipns_vectors[6].hex), &rsa, &record), WR_EPEERID);
}

/* Records of our own making: what is signed, and how it is wrapped. */
struct recipe {
    const char *validity;
    uint64_t sequence;
    uint8_t key_fill;
    unsigned
        extra; /* something unknown in the map: 1 nested, 2 nested too deep, 3 Sequence twice */
};

static void cbor_text(struct wr_buf *b, const char *text)
{
    wr_buf_put_u8(b, (uint8_t)(0x60 | strlen(text)));
    wr_buf_put_cstr(b, text);
}

static void cbor_bytes(struct wr_buf *b, const char *text)
{
    wr_buf_put_u8(b, 0x58);
    wr_buf_put_u8(b, (uint8_t)strlen(text));
    wr_buf_put_cstr(b, text);
}

static void cbor_data(struct wr_buf *b, const struct recipe *r)
{
    wr_buf_put_u8(b, (uint8_t)(0xa5 + (r->extra != 0)));
    cbor_text(b, "TTL");
    wr_buf_put_u8(b, 0x1b);
    wr_buf_put_u64be(b, 3600ull * SEC);
    cbor_text(b, "Value");
    cbor_bytes(b, "/ipfs/x");
    if (r->extra == 1 || r->extra == 2) {
        cbor_text(b, "Extra");
        for (unsigned i = 0; i < (r->extra == 1 ? 3u : 20u); i++)
            wr_buf_put_u8(b, 0x81);
        wr_buf_put(b, "\xa1\x61k\xd8\x2a\xf5", 6); /* {"k": 42(true)} */
    } else if (r->extra == 3) {
        cbor_text(b, "Sequence");
        wr_buf_put_u8(b, 1);
    }
    cbor_text(b, "Sequence");
    wr_buf_put_u8(b, 0x1b);
    wr_buf_put_u64be(b, r->sequence);
    cbor_text(b, "Validity");
    cbor_bytes(b, r->validity);
    cbor_text(b, "ValidityType");
    wr_buf_put_u8(b, 0);
}

static void put_field(struct wr_buf *b, unsigned number, struct wr_bytes value)
{
    wr_buf_put_uvarint(b, number << 3 | 2);
    wr_buf_put_prefixed(b, value);
}

static void make_record(const struct recipe *r, struct wr_peerid *name, struct wr_buf *out)
{
    struct wr_key key;
    struct wr_buf data, message, pub;
    uint8_t seed[WR_ED25519_SEED], sig[WR_SIG_ED25519];
    memset(seed, r->key_fill, sizeof(seed));
    wr_key_generate(&key, seed);
    wr_buf_init(&pub, 100);
    wr_key_encode_public(&key, &pub);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pub), name), 0);
    wr_buf_init(&data, 1000);
    wr_buf_init(&message, 1100);
    wr_buf_init(out, 2000);
    cbor_data(&data, r);
    wr_buf_put_cstr(&message, "ipns-signature:");
    wr_buf_put_bytes(&message, wr_buf_bytes(&data));
    wr_key_sign(&key, wr_buf_bytes(&message), sig);
    put_field(out, 8, WR_BYTES(sig, sizeof(sig)));
    put_field(out, 9, wr_buf_bytes(&data));
    wr_buf_clear(&pub);
    wr_buf_clear(&data);
    wr_buf_clear(&message);
    wr_key_clear(&key);
}

static void test_unknown_fields_of_the_data(void **state)
{
    (void)state;
    static const int expected[] = {0, 0, WR_EPROTO, WR_EPROTO};
    for (unsigned extra = 0; extra < 4; extra++) {
        struct wr_peerid name;
        struct wr_buf record;
        struct wr_ipns got;
        make_record(&(struct recipe){"2124-05-01T00:00:00Z", 7, 1, extra}, &name, &record);
        assert_int_equal(wr_ipns_open(wr_buf_bytes(&record), &name, &got), expected[extra]);
        if (expected[extra] == 0) {
            assert_true(got.sequence == 7 && got.ttl == 3600ull * SEC);
            assert_true(wr_bytes_equal(got.value, WR_BYTES_STR("/ipfs/x")));
        }
        wr_buf_clear(&record);
    }
}

static void ipns_key(const struct wr_peerid *name, struct wr_buf *key)
{
    wr_buf_init(key, 100);
    wr_buf_put_cstr(key, "/ipns/");
    wr_buf_put_bytes(key, wr_peerid_bytes(name));
}

static void test_expiry_and_order(void **state)
{
    (void)state;
    /* Each is better than the one before. */
    static const struct recipe order[] = {
        {"2030-01-01T00:00:00Z", 1, 1, 0},
        {"2031-01-01T00:00:00Z", 1, 1, 0},
        {"2029-01-01T00:00:00Z", 2, 1, 0},
        {"2029-01-01T00:00:00Z", UINT64_MAX, 1, 0},
    };
    struct wr_buf key, records[4];
    struct wr_peerid name;
    for (size_t i = 0; i < 4; i++)
        make_record(&order[i], &name, &records[i]);
    ipns_key(&name, &key);
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 4; j++) {
            int rc = wr_record_compare(wr_buf_bytes(&key), wr_buf_bytes(&records[i]),
                                       wr_buf_bytes(&records[j]));
            assert_int_equal((rc > 0) - (rc < 0), (i > j) - (i < j));
        }
    }
    int64_t eol;
    assert_int_equal(wr_rfc3339_parse(WR_BYTES_STR("2030-01-01T00:00:00Z"), &eol), 0);
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), wr_buf_bytes(&records[0]), eol - 1), 0);
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), wr_buf_bytes(&records[0]), eol),
                     WR_ESTALE);
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), wr_buf_bytes(&records[1]), eol), 0);
    for (size_t i = 0; i < 4; i++)
        wr_buf_clear(&records[i]);
    wr_buf_clear(&key);
}

/* Same sequence and expiry: the larger bytes win, on every node alike. */
static void test_tie(void **state)
{
    (void)state;
    struct wr_buf key, a, b;
    struct wr_peerid name;
    make_record(&(struct recipe){"2030-01-01T00:00:00Z", 1, 1, 0}, &name, &a);
    make_record(&(struct recipe){"2030-01-01T00:00:00Z", 1, 1, 1}, &name, &b);
    ipns_key(&name, &key);
    int one = wr_record_compare(wr_buf_bytes(&key), wr_buf_bytes(&a), wr_buf_bytes(&b));
    int other = wr_record_compare(wr_buf_bytes(&key), wr_buf_bytes(&b), wr_buf_bytes(&a));
    assert_true(one != 0 && one == -other);
    assert_int_equal(wr_record_compare(wr_buf_bytes(&key), wr_buf_bytes(&a), wr_buf_bytes(&a)), 0);
    wr_buf_clear(&key);
    wr_buf_clear(&a);
    wr_buf_clear(&b);
}

/* No flipped bit and no cut of a signed record is taken. */
static void test_damage(void **state)
{
    (void)state;
    struct wr_buf record;
    struct wr_peerid name;
    struct wr_ipns got;
    make_record(&(struct recipe){"2124-05-01T00:00:00Z", 7, 1, 1}, &name, &record);
    for (size_t len = 0; len < record.len; len++) {
        uint8_t *copy = wr_memdup(record.data, len);
        assert_int_not_equal(wr_ipns_open(WR_BYTES(copy, len), &name, &got), 0);
        wr_free(copy);
    }
    for (size_t bit = 0; bit < record.len * 8; bit++) {
        uint8_t *copy = wr_memdup(record.data, record.len);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wr_ipns_open(WR_BYTES(copy, record.len), &name, &got), 0);
        wr_free(copy);
    }
    wr_buf_clear(&record);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void test_public_keys(void **state)
{
    (void)state;
    struct wr_key pair;
    struct wr_peerid id;
    struct wr_buf key, value;
    uint8_t seed[WR_ED25519_SEED] = {3};
    wr_key_generate(&pair, seed);
    wr_buf_init(&key, 100);
    wr_buf_init(&value, 100);
    wr_key_encode_public(&pair, &value);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&value), &id), 0);
    wr_buf_put_cstr(&key, "/pk/");
    wr_buf_put_bytes(&key, wr_peerid_bytes(&id));
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), wr_buf_bytes(&value), 0), 0);
    key.data[key.len - 1] ^= 1;
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), wr_buf_bytes(&value), 0), WR_EPEERID);
    assert_int_equal(wr_record_check(wr_buf_bytes(&key), WR_BYTES_STR("no key"), 0), WR_EPROTO);
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    wr_key_clear(&pair);
}

static void test_other_name_spaces(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int result;
    } cases[] = {
        {"", WR_EUNSUPPORTED},       {"/", WR_EUNSUPPORTED},        {"pk/x", WR_EUNSUPPORTED},
        {"/pkx/y", WR_EUNSUPPORTED}, {"/other/x", WR_EUNSUPPORTED}, {"/pk/not an id", WR_EPROTO},
        {"/ipns/", WR_EPROTO},       {"/pk/", WR_EPROTO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(wr_record_check(wr_bytes_cstr(cases[i].key), WR_BYTES_STR("v"), 0),
                         cases[i].result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_published_vectors),
        cmocka_unit_test(test_other_name),
        cmocka_unit_test(test_unknown_fields_of_the_data),
        cmocka_unit_test(test_expiry_and_order),
        cmocka_unit_test(test_tie),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_public_keys),
        cmocka_unit_test(test_other_name_spaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
