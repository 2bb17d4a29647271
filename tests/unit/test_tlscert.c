/* Certificates: the vectors of the spec and each damage to them, our own, and what the spec
 * forbids. */
#include "transport/der.h"
#include "transport/err.h"
#include "transport/tlscert.h"
#include "unit/hex.h"
#include "unit/stride.h"
#include "unit/tlscert_vectors.h"

#include <gnutls/abstract.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW  1800000000 /* 2027 */
#define YEAR (365 * 86400LL)

static const char oid[] = "1.3.6.1.4.1.53594.1.1";

static int judge(struct wr_bytes der, struct wr_tlscert_info *info)
{
    const char *why = NULL;
    int rc = wr_tlscert_verify(der, info, &why);
    assert_true(rc == 0 || why);
    assert_true(rc <= 0);
    return rc;
}

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < TLSCERT_VECTORS_COUNT; i++) {
        const struct tlscert_vector *v = &TLSCERT_VECTORS[i];
        struct wr_tlscert_info info;
        char text[WR_PEERID_TEXT];
        int rc = judge(HEX(v->hex), &info);
        assert_int_equal(rc, v->peer ? 0 : WR_EAUTH);
        if (!v->peer)
            continue;
        assert_string_equal(wr_peerid_print(&info.peer, text), v->peer);
        assert_true(info.not_before == 157813200);  /* 1975-01-01 13:00 */
        assert_true(info.not_after == 67090165200); /* 4096-01-01 13:00 */
        assert_true(wr_tlscert_in_time(&info, info.not_before));
        assert_true(wr_tlscert_in_time(&info, info.not_after));
        assert_false(wr_tlscert_in_time(&info, info.not_before - 1));
        assert_false(wr_tlscert_in_time(&info, info.not_after + 1));
    }
}

static void test_each_bit_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < TLSCERT_VECTORS_COUNT; i++) {
        uint8_t der[600];
        struct wr_tlscert_info info;
        if (!TLSCERT_VECTORS[i].peer)
            continue;
        struct wr_bytes whole = hex_to(der, sizeof(der), TLSCERT_VECTORS[i].hex);
        for (size_t bit = 0; bit < 8 * whole.len; bit += stride()) {
            der[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_true(judge(whole, &info) < 0);
            der[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(judge(whole, &info), 0);
    }
}

static void test_each_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TLSCERT_VECTORS_COUNT; i++) {
        struct wr_bytes whole = HEX(TLSCERT_VECTORS[i].hex);
        for (size_t len = 0; len < whole.len; len += stride()) {
            struct wr_tlscert_info info;
            uint8_t *copy =
                malloc(len ? len : 1); /* so that the checkers see a read past the end */
            assert_non_null(copy);
            memcpy(copy, whole.ptr, len);
            assert_int_equal(judge(WR_BYTES(copy, len), &info), WR_EPROTO);
            free(copy);
        }
    }
}

static void test_bytes_behind_are_refused(void **state)
{
    uint8_t der[600];
    struct wr_tlscert_info info;
    (void)state;
    struct wr_bytes whole = hex_to(der, sizeof(der) - 1, TLSCERT_VECTORS[0].hex);
    der[whole.len] = 0;
    assert_int_equal(judge(WR_BYTES(der, whole.len + 1), &info), WR_EPROTO);
}

/* ---- made here ------------------------------------------------------------------------------ */

struct made {
    struct wr_key identity;
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    uint8_t der[WR_TLSCERT_DER_MAX + 1000];
    size_t len;
};

static void export(struct made *m)
{
    m->len = sizeof(m->der);
    assert_int_equal(gnutls_x509_crt_export(m->crt, GNUTLS_X509_FMT_DER, m->der, &m->len), 0);
}

static void make(struct made *m)
{
    uint8_t seed[WR_ED25519_SEED] = {7};
    wr_key_generate(&m->identity, seed);
    assert_int_equal(wr_tlscert_make(&m->identity, NOW, &m->crt, &m->key), 0);
    export(m);
}

/* Signs again after a change. */
static int judge_signed(struct made *m, struct wr_tlscert_info *info)
{
    assert_int_equal(gnutls_x509_crt_sign2(m->crt, m->crt, m->key, GNUTLS_DIG_SHA256, 0), 0);
    export(m);
    return judge(WR_BYTES(m->der, m->len), info);
}

static void unmake(struct made *m)
{
    gnutls_x509_crt_deinit(m->crt);
    gnutls_x509_privkey_deinit(m->key);
}

static void test_ours(void **state)
{
    struct made m;
    struct wr_tlscert_info info;
    struct wr_peerid self;
    struct wr_buf pubkey;
    char oid_text[64];
    size_t size = sizeof(oid_text);
    unsigned critical = 1;
    uint8_t serial[20];
    size_t serial_len = sizeof(serial);
    (void)state;
    make(&m);
    assert_int_equal(judge(WR_BYTES(m.der, m.len), &info), 0);
    wr_buf_init(&pubkey, 100);
    wr_key_encode_public(&m.identity, &pubkey);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &self), 0);
    assert_true(wr_peerid_equal(&self, &info.peer));
    assert_true(
        wr_bytes_equal(wr_buf_bytes(&pubkey), WR_BYTES(m.der + info.pubkey_at, info.pubkey_len)));
    wr_buf_clear(&pubkey);
    assert_true(wr_tlscert_in_time(&info, NOW) && wr_tlscert_in_time(&info, NOW + 99 * YEAR));
    /* For peers whose clocks are years behind, too, and when ours was years ahead. */
    assert_true(wr_tlscert_in_time(&info, 157766400));
    assert_false(wr_tlscert_in_time(&info, 157766399));
    /* What others insist on: our extension is the only one and not critical, the serial is
     * positive. */
    assert_int_equal(gnutls_x509_crt_get_extension_info(m.crt, 0, oid_text, &size, &critical), 0);
    assert_string_equal(oid_text, oid);
    assert_int_equal(critical, 0);
    size = sizeof(oid_text);
    assert_int_equal(gnutls_x509_crt_get_extension_info(m.crt, 1, oid_text, &size, &critical),
                     GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
    assert_int_equal(gnutls_x509_crt_get_serial(m.crt, serial, &serial_len), 0);
    assert_int_equal(serial_len, 8);
    assert_true(serial[0] >= 0x40 && serial[0] < 0x80);
    unmake(&m);
}

static void get_extension(struct made *m, uint8_t *out, size_t *len)
{
    unsigned critical;
    assert_int_equal(gnutls_x509_crt_get_extension_by_oid(m->crt, oid, 0, out, len, &critical), 0);
}

static void test_extensions(void **state)
{
    struct made m;
    struct wr_tlscert_info info;
    uint8_t value[256];
    size_t len = sizeof(value);
    (void)state;
    make(&m);
    get_extension(&m, value, &len);
    /* Critical as rust and js have it. */
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, oid, value, len, 1), 0);
    assert_int_equal(judge_signed(&m, &info), 0);
    /* Unknown, then unknown and critical. */
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, "1.2.3.4", "\x05\x00", 2, 0), 0);
    assert_int_equal(judge_signed(&m, &info), 0);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, "1.2.3.4", "\x05\x00", 2, 1), 0);
    assert_int_equal(judge_signed(&m, &info), WR_EPROTO);
    unmake(&m);
    /* Known and critical: py-libp2p 1159. */
    make(&m);
    assert_int_equal(gnutls_x509_crt_set_key_usage(m.crt, GNUTLS_KEY_DIGITAL_SIGNATURE), 0);
    assert_int_equal(gnutls_x509_crt_set_basic_constraints(m.crt, 1, -1), 0);
    assert_int_equal(judge_signed(&m, &info), 0);
    unmake(&m);
}

static void test_a_signed_key_of_a_wrong_shape(void **state)
{
    struct made m;
    struct wr_tlscert_info info;
    uint8_t value[256], longer[256];
    size_t len = sizeof(value);
    (void)state;
    make(&m);
    get_extension(&m, value, &len);
    /* From one byte on: with none, libtasn1 takes it for a string and looks for its end. */
    for (size_t cut = 1; cut < len; cut += stride()) {
        assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, oid, value, cut, 0), 0);
        assert_int_equal(judge_signed(&m, &info), WR_EPROTO);
    }
    memcpy(longer, value, len);
    longer[len] = 0;
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, oid, longer, len + 1, 0), 0);
    assert_int_equal(judge_signed(&m, &info), WR_EPROTO);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, oid, value, len, 0), 0);
    assert_int_equal(judge_signed(&m, &info), 0);
    unmake(&m);
}

/* Changes the last byte of the only `needle` in what is signed, and signs it again: for what GnuTLS
 * does not make. */
static int judge_patched(struct made *m, struct wr_bytes needle, uint8_t byte)
{
    static const uint8_t algorithm[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                        0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
    struct wr_tlscert_info info;
    struct wr_reader outer, r;
    struct wr_buf body, whole;
    gnutls_privkey_t key;
    gnutls_datum_t sig;
    wr_reader_init(&outer, WR_BYTES(m->der, m->len));
    wr_reader_init(&r, wr_der_read(&outer, WR_DER_SEQUENCE));
    struct wr_bytes tbs = wr_der_read_whole(&r, WR_DER_SEQUENCE);
    uint8_t *at = memmem(m->der, tbs.len, needle.ptr, needle.len);
    assert_non_null(at);
    at[needle.len - 1] = byte;
    gnutls_datum_t text = {m->der + (tbs.ptr - m->der), (unsigned)tbs.len};
    assert_int_equal(gnutls_privkey_init(&key), 0);
    assert_int_equal(gnutls_privkey_import_x509(key, m->key, 0), 0);
    assert_int_equal(gnutls_privkey_sign_data2(key, GNUTLS_SIGN_ECDSA_SHA256, 0, &text, &sig), 0);
    gnutls_privkey_deinit(key);
    wr_buf_init(&body, sizeof(m->der));
    wr_buf_put_bytes(&body, tbs);
    wr_buf_put(&body, algorithm, sizeof(algorithm));
    wr_buf_put_u8(&body, WR_DER_BIT_STRING);
    wr_buf_put_u8(&body, (uint8_t)(sig.size + 1));
    wr_buf_put_u8(&body, 0);
    wr_buf_put(&body, sig.data, sig.size);
    gnutls_free(sig.data);
    wr_buf_init(&whole, sizeof(m->der));
    wr_buf_put_u8(&whole, WR_DER_SEQUENCE);
    wr_buf_put_u8(&whole, 0x82);
    wr_buf_put_u16be(&whole, (uint16_t)body.len);
    wr_buf_put_bytes(&whole, wr_buf_bytes(&body));
    int rc = judge(wr_buf_bytes(&whole), &info);
    wr_buf_clear(&body);
    wr_buf_clear(&whole);
    return rc;
}

static void test_the_extension_twice(void **state)
{
    static const char other[] = "\x2b\x06\x01\x04\x01\x83\xa2\x5a\x01\x02";
    struct made m;
    struct wr_tlscert_info info;
    uint8_t value[256];
    size_t len = sizeof(value);
    (void)state;
    make(&m);
    get_extension(&m, value, &len);
    assert_int_equal(
        gnutls_x509_crt_set_extension_by_oid(m.crt, "1.3.6.1.4.1.53594.1.2", value, len, 0), 0);
    assert_int_equal(judge_signed(&m, &info), 0);
    assert_int_equal(judge_patched(&m, WR_BYTES_STR(other), 2), 0); /* as it is */
    assert_int_equal(judge_patched(&m, WR_BYTES_STR(other), 1), WR_EPROTO);
    unmake(&m);
}

/* RFC 5280, section 4.1.1.2: both fields are the same. */
static void test_two_algorithms_are_refused(void **state)
{
    static const char sha256[] = "\x2a\x86\x48\xce\x3d\x04\x03\x02";
    struct made m;
    (void)state;
    make(&m);
    assert_int_equal(judge_patched(&m, WR_BYTES_STR(sha256), 2), 0);
    assert_int_equal(judge_patched(&m, WR_BYTES_STR(sha256), 3), WR_EPROTO);
    unmake(&m);
}

/* The host's signature was made for another certificate's key. */
static void test_a_signed_key_of_another_certificate(void **state)
{
    struct made a, b;
    struct wr_tlscert_info info;
    uint8_t value[256];
    size_t len = sizeof(value);
    (void)state;
    make(&a);
    make(&b);
    get_extension(&a, value, &len);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(b.crt, oid, value, len, 0), 0);
    assert_int_equal(judge_signed(&b, &info), WR_EAUTH);
    unmake(&a);
    unmake(&b);
}

static void test_signed_by_somebody_else(void **state)
{
    struct made a, b;
    struct wr_tlscert_info info;
    (void)state;
    make(&a);
    make(&b);
    /* Issuer and subject are the same, so that only the signature tells. */
    assert_int_equal(gnutls_x509_crt_sign2(a.crt, b.crt, b.key, GNUTLS_DIG_SHA256, 0), 0);
    export(&a);
    assert_int_equal(judge(WR_BYTES(a.der, a.len), &info), WR_EAUTH);
    unmake(&a);
    unmake(&b);
}

static void test_sha1_is_refused(void **state)
{
    struct made m;
    struct wr_tlscert_info info;
    (void)state;
    make(&m);
    assert_int_equal(gnutls_x509_crt_sign2(m.crt, m.crt, m.key, GNUTLS_DIG_SHA1, 0), 0);
    export(&m);
    assert_int_equal(judge(WR_BYTES(m.der, m.len), &info), WR_EPROTO);
    unmake(&m);
}

/* Certificate keys of other types: a fresh one, our extension for it, signed with it. */
static int judge_with_key(gnutls_pk_algorithm_t type, unsigned bits, gnutls_digest_algorithm_t hash)
{
    static const char prefix[] = "libp2p-tls-handshake:";
    struct made m;
    struct wr_tlscert_info info;
    uint8_t text[2048], value[256];
    size_t len = sizeof(value), spki_len = sizeof(text) - sizeof(prefix);
    gnutls_pubkey_t pub;
    make(&m);
    get_extension(&m, value, &len);
    gnutls_x509_privkey_deinit(m.key);
    assert_int_equal(gnutls_x509_privkey_init(&m.key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(m.key, type, bits, 0), 0);
    assert_int_equal(gnutls_x509_crt_set_key(m.crt, m.key), 0);
    gnutls_pubkey_init(&pub);
    assert_int_equal(gnutls_pubkey_import_x509(pub, m.crt, 0), 0);
    memcpy(text, prefix, sizeof(prefix) - 1);
    assert_int_equal(
        gnutls_pubkey_export(pub, GNUTLS_X509_FMT_DER, text + sizeof(prefix) - 1, &spki_len), 0);
    gnutls_pubkey_deinit(pub);
    wr_key_sign(&m.identity, WR_BYTES(text, sizeof(prefix) - 1 + spki_len),
                value + len - WR_SIG_ED25519);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, oid, value, len, 0), 0);
    assert_int_equal(gnutls_x509_crt_sign2(m.crt, m.crt, m.key, hash, 0), 0);
    export(&m);
    int rc = judge(WR_BYTES(m.der, m.len), &info);
    unmake(&m);
    return rc;
}

static void test_certificate_keys(void **state)
{
    static const struct {
        gnutls_pk_algorithm_t type;
        unsigned bits;
        gnutls_digest_algorithm_t hash;
        int rc;
    } cases[] = {
        {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), GNUTLS_DIG_SHA512, 0},
        {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), GNUTLS_DIG_SHA384, 0},
        {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP521R1), GNUTLS_DIG_SHA512, 0},
        {GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519), GNUTLS_DIG_SHA512,
         0},
        {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP224R1), GNUTLS_DIG_SHA256,
         WR_EPROTO},
        {GNUTLS_PK_RSA, 2048, GNUTLS_DIG_SHA256, WR_EPROTO},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(judge_with_key(cases[i].type, cases[i].bits, cases[i].hash), cases[i].rc);
}

static void test_too_long(void **state)
{
    struct made m;
    struct wr_tlscert_info info;
    static uint8_t filler[WR_TLSCERT_DER_MAX];
    (void)state;
    make(&m);
    assert_int_equal(gnutls_x509_crt_set_extension_by_oid(m.crt, "1.2.3.4", filler,
                                                          WR_TLSCERT_DER_MAX - m.len - 100, 0),
                     0);
    assert_int_equal(judge_signed(&m, &info), 0);
    assert_int_equal(
        gnutls_x509_crt_set_extension_by_oid(m.crt, "1.2.3.4", filler, WR_TLSCERT_DER_MAX - 300, 0),
        0);
    assert_int_equal(judge_signed(&m, &info), WR_EPROTO);
    assert_true(m.len > WR_TLSCERT_DER_MAX);
    unmake(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_each_bit_counts),
        cmocka_unit_test(test_each_truncation_is_refused),
        cmocka_unit_test(test_bytes_behind_are_refused),
        cmocka_unit_test(test_ours),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_a_signed_key_of_a_wrong_shape),
        cmocka_unit_test(test_the_extension_twice),
        cmocka_unit_test(test_two_algorithms_are_refused),
        cmocka_unit_test(test_a_signed_key_of_another_certificate),
        cmocka_unit_test(test_signed_by_somebody_else),
        cmocka_unit_test(test_sha1_is_refused),
        cmocka_unit_test(test_certificate_keys),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
