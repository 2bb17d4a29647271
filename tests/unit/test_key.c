/* Keys: our own in both private forms, and verification with every type that peers have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/key.h"
#include "unit/hex.h"
#include "unit/key_vectors.h"

#include <sodium.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void test_private_round_trip(void **state)
{
    (void)state;
    struct wr_key key;
    struct wr_buf b;
    wr_buf_init(&b, 256);
    assert_int_equal(wr_key_decode(HEX(ED25519_PRIVATE), &key), 0);
    wr_key_encode(&key, &b);
    assert_true(wr_bytes_equal(wr_buf_bytes(&b), HEX(ED25519_PRIVATE)));
    wr_buf_reset(&b);
    wr_key_encode_public(&key, &b);
    assert_true(wr_bytes_equal(wr_buf_bytes(&b), HEX(ED25519_PUBLIC)));
    struct wr_key again;
    wr_key_generate(&again, key.secret);
    assert_memory_equal(&again, &key, sizeof(key));
    wr_key_clear(&key);
    assert_true(sodium_is_zero((uint8_t *)&key, sizeof(key)));
    wr_buf_wipe(&b);
}

static void test_older_private_form(void **state)
{
    (void)state;
    uint8_t in[128];
    struct wr_bytes now = HEX(ED25519_PRIVATE);
    struct wr_key key, expected;
    assert_int_equal(wr_key_decode(now, &expected), 0);
    memcpy(in, now.ptr, now.len);
    in[3] = 96;
    memcpy(in + 68, in + 36, 32);
    assert_int_equal(wr_key_decode(WR_BYTES(in, 100), &key), 0);
    assert_memory_equal(&key, &expected, sizeof(key));
    in[99] ^= 1;
    assert_int_equal(wr_key_decode(WR_BYTES(in, 100), &key), WR_EINVAL);
    assert_true(sodium_is_zero((uint8_t *)&key, sizeof(key)));
}

static void test_damaged_private_keys(void **state)
{
    (void)state;
    uint8_t in[68];
    struct wr_key key;
    struct wr_bytes good = HEX(ED25519_PRIVATE);
    memcpy(in, good.ptr, sizeof(in));
    for (size_t bit = 0; bit < 8 * sizeof(in); bit++) {
        in[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(wr_key_decode(WR_BYTES(in, sizeof(in)), &key), WR_EINVAL);
        assert_true(sodium_is_zero((uint8_t *)&key, sizeof(key)));
        in[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < sizeof(in); cut++)
        assert_int_equal(wr_key_decode(WR_BYTES(in, cut), &key), WR_EINVAL);
    /* secp256k1 of the same specification: well formed, not a type of ours. */
    assert_int_equal(
        wr_key_decode(
            HEX("0802122053dadf1d5a164d6b4acdb15e24aa4c5b1d3461bdbd42abedb0a4404d56ced8fb"), &key),
        WR_EINVAL);
}

static void test_rfc8032(void **state)
{
    (void)state;
    /* RFC 8032, section 7.1, TEST 2. */
    struct wr_key key;
    uint8_t sig[WR_SIG_ED25519];
    wr_key_generate(&key,
                    HEX("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").ptr);
    assert_memory_equal(key.public_key,
                        HEX("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").ptr,
                        32);
    wr_key_sign(&key, WR_BYTES_STR("\x72"), sig);
    assert_memory_equal(sig,
                        HEX("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
                            .ptr,
                        64);
}

static const struct {
    int key; /* rows of one key carry one number */
    const char *pubkey, *sig;
} SIGNED[] = {
    {1, RSA_PUBLIC, RSA_SIGNATURE},
    {2, SECP256K1_PUBLIC, SECP256K1_SIGNATURE},
    {2, SECP256K1_PUBLIC, SECP256K1_SIGNATURE_HIGH_S},
    {2, SECP256K1_UNCOMPRESSED_PUBLIC, SECP256K1_SIGNATURE},
    {3, ECDSA_PUBLIC, P256_SIGNATURE},
    {3, ECDSA_PUBLIC, P256_SIGNATURE_HIGH_S},
    {4, P384_PUBLIC, P384_SIGNATURE},
    {5, P521_PUBLIC, P521_SIGNATURE},
};

static void test_verify_every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIGNED); i++) {
        struct wr_bytes pubkey = HEX(SIGNED[i].pubkey), sig = HEX(SIGNED[i].sig);
        assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_STR(VECTOR_MESSAGE), sig), 0);
        assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_STR(VECTOR_MESSAGE "!"), sig), WR_EAUTH);
        assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_NONE, sig), WR_EAUTH);
        assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_STR(VECTOR_MESSAGE), WR_BYTES_NONE),
                         WR_EAUTH);
        for (size_t k = 0; k < COUNT(SIGNED); k++)
            assert_int_equal(
                wr_pubkey_verify(pubkey, WR_BYTES_STR(VECTOR_MESSAGE), HEX(SIGNED[k].sig)),
                SIGNED[k].key == SIGNED[i].key ? 0 : WR_EAUTH);
    }
}

static void test_verify_ed25519(void **state)
{
    (void)state;
    struct wr_key key;
    uint8_t sig[WR_SIG_ED25519 + 1];
    assert_int_equal(wr_key_decode(HEX(ED25519_PRIVATE), &key), 0);
    wr_key_sign(&key, WR_BYTES_STR(VECTOR_MESSAGE), sig);
    struct wr_bytes pubkey = HEX(ED25519_PUBLIC), message = WR_BYTES_STR(VECTOR_MESSAGE);
    assert_int_equal(wr_pubkey_verify(pubkey, message, WR_BYTES(sig, 64)), 0);
    assert_int_equal(wr_pubkey_verify(pubkey, message, WR_BYTES(sig, 63)), WR_EAUTH);
    assert_int_equal(wr_pubkey_verify(pubkey, message, WR_BYTES(sig, 65)), WR_EAUTH);
    wr_key_sign(&key, WR_BYTES_NONE, sig);
    assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_NONE, WR_BYTES(sig, 64)), 0);
    for (size_t bit = 0; bit < 8 * 64; bit++) {
        sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(wr_pubkey_verify(pubkey, WR_BYTES_NONE, WR_BYTES(sig, 64)), WR_EAUTH);
        sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Every one-bit change and truncation of key and signature: refused, never taken. */
static void test_damage(void **state)
{
    (void)state;
    struct wr_bytes message = WR_BYTES_STR(VECTOR_MESSAGE);
    for (size_t i = 0; i < COUNT(SIGNED); i++) {
        uint8_t key_bytes[1200], sig_bytes[1200];
        struct wr_bytes key = hex_to(key_bytes, sizeof(key_bytes), SIGNED[i].pubkey);
        struct wr_bytes sig = hex_to(sig_bytes, sizeof(sig_bytes), SIGNED[i].sig);
        size_t step = key.len > 110 ? 11 : 1; /* the larger keys are slow under sanitizers */
        for (size_t bit = 0; bit < 8 * key.len; bit += step) {
            key_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int err = wr_pubkey_verify(key, message, sig);
            assert_true(err == WR_EPROTO || err == WR_EAUTH);
            key_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t bit = 0; bit < 8 * sig.len; bit += step) {
            sig_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(wr_pubkey_verify(key, message, sig), WR_EAUTH);
            sig_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < key.len; cut++)
            assert_int_equal(wr_pubkey_verify(WR_BYTES(key_bytes, cut), message, sig), WR_EPROTO);
        for (size_t cut = 0; cut < sig.len; cut++)
            assert_int_equal(wr_pubkey_verify(key, message, WR_BYTES(sig_bytes, cut)), WR_EAUTH);
        sig_bytes[sig.len] = 0;
        assert_int_equal(wr_pubkey_verify(key, message, WR_BYTES(sig_bytes, sig.len + 1)),
                         WR_EAUTH);
    }
}

static void test_refused_curves_and_forms(void **state)
{
    (void)state;
    struct wr_bytes message = WR_BYTES_STR(VECTOR_MESSAGE);
    static const char *const refused[] = {P224_PUBLIC, P256_COMPRESSED_PUBLIC,
                                          P256_EXPLICIT_PUBLIC};
    assert_int_equal(wr_pubkey_verify(HEX(P224_PUBLIC), message, HEX(P224_SIGNATURE)), WR_EPROTO);
    for (size_t i = 0; i < COUNT(refused); i++)
        assert_int_equal(wr_pubkey_verify(HEX(refused[i]), message, HEX(P256_SIGNATURE)),
                         WR_EPROTO);
    /* A point that is not on its curve has the right shape only. */
    uint8_t bytes[1200];
    struct wr_bytes key = hex_to(bytes, sizeof(bytes), ECDSA_PUBLIC);
    bytes[key.len - 1] ^= 1;
    assert_int_equal(wr_pubkey_decode(key, NULL, NULL), 0);
    assert_int_equal(wr_pubkey_verify(key, message, HEX(P256_SIGNATURE)), WR_EPROTO);
    key = hex_to(bytes, sizeof(bytes), SECP256K1_UNCOMPRESSED_PUBLIC);
    bytes[key.len - 1] ^= 1;
    assert_int_equal(wr_pubkey_verify(key, message, HEX(SECP256K1_SIGNATURE)), WR_EPROTO);
    key = hex_to(bytes, sizeof(bytes), SECP256K1_UNCOMPRESSED_PUBLIC);
    bytes[4] = 7; /* the hybrid form */
    assert_int_equal(wr_pubkey_decode(key, NULL, NULL), WR_EPROTO);
}

static void test_decode(void **state)
{
    (void)state;
    enum wr_key_type type;
    struct wr_bytes data, key = HEX(ED25519_PUBLIC);
    assert_int_equal(wr_pubkey_decode(key, &type, &data), 0);
    assert_int_equal(type, WR_KEY_ED25519);
    assert_int_equal(data.len, 32);
    assert_ptr_equal(data.ptr, key.ptr + 4);
    uint8_t bytes[64];
    memcpy(bytes, key.ptr, 36);
    bytes[1] = 4; /* no such type */
    assert_int_equal(wr_pubkey_decode(WR_BYTES(bytes, 36), &type, &data), WR_EPROTO);
    assert_int_equal(wr_pubkey_decode(WR_BYTES(key.ptr, 2), &type, &data), WR_EPROTO);
    assert_int_equal(wr_pubkey_decode(WR_BYTES(key.ptr + 2, 34), &type, &data), WR_EPROTO);
    assert_int_equal(wr_pubkey_decode(WR_BYTES_STR("\x0a\x01x\x12\x01x"), &type, &data), WR_EPROTO);
    assert_int_equal(wr_pubkey_decode(WR_BYTES_STR("\x08\x01\x10\x01"), &type, &data), WR_EPROTO);
    uint8_t big[WR_PUBKEY_MAX + 1] = {0};
    memcpy(big, key.ptr, 36);
    big[36] = 0x1a;
    big[37] = 0xff;
    big[38] = 0x01;
    assert_int_equal(wr_pubkey_decode(WR_BYTES(big, 36 + 3 + 255), NULL, NULL), 0);
    size_t rest = sizeof(big) - 39;
    big[37] = (uint8_t)(rest | 0x80);
    big[38] = (uint8_t)(rest >> 7);
    assert_int_equal(wr_pubkey_decode(WR_BYTES(big, sizeof(big)), NULL, NULL), WR_EPROTO);
    rest--;
    big[37] = (uint8_t)(rest | 0x80);
    assert_int_equal(wr_pubkey_decode(WR_BYTES(big, sizeof(big) - 1), NULL, NULL), 0);
}

static void put_der(struct wr_buf *out, uint8_t tag, struct wr_bytes body)
{
    wr_buf_put_u8(out, tag);
    if (body.len >= 0x100)
        wr_buf_put_u8(out, 0x82);
    else if (body.len >= 0x80)
        wr_buf_put_u8(out, 0x81);
    if (body.len >= 0x100)
        wr_buf_put_u16be(out, (uint16_t)body.len);
    else
        wr_buf_put_u8(out, (uint8_t)body.len);
    wr_buf_put_bytes(out, body);
}

/* A PublicKey with an RSA modulus and exponent of these INTEGER bodies. */
static int decode_rsa(struct wr_bytes modulus, struct wr_bytes exponent)
{
    uint8_t m[5][2000];
    struct wr_buf b[5];
    for (int i = 0; i < 5; i++)
        wr_buf_over(&b[i], m[i], sizeof(m[i]));
    put_der(&b[0], 2, modulus);
    put_der(&b[0], 2, exponent);
    wr_buf_put_u8(&b[1], 0);
    put_der(&b[1], 0x30, wr_buf_bytes(&b[0]));
    wr_buf_put(&b[2], "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00", 15);
    put_der(&b[2], 3, wr_buf_bytes(&b[1]));
    put_der(&b[3], 0x30, wr_buf_bytes(&b[2]));
    wr_buf_put(&b[4], "\x08\x00\x12", 3);
    wr_buf_put_prefixed(&b[4], wr_buf_bytes(&b[3]));
    return wr_pubkey_decode(wr_buf_bytes(&b[4]), NULL, NULL);
}

static void test_rsa_bounds(void **state)
{
    (void)state;
    struct wr_bytes f4 = WR_BYTES_STR("\x01\x00\x01");
    for (size_t bits = 2040; bits <= 8200; bits++) {
        if (bits > 2056 && bits < 8184)
            continue;
        uint8_t modulus[1100] = {0};
        size_t len = bits / 8 + 1; /* with the sign bit */
        modulus[len - 1] = 1;
        modulus[(len * 8 - bits) / 8] |= (uint8_t)(1 << (bits - 1) % 8);
        int expected = bits >= 2048 && bits <= 8192 ? 0 : WR_EPROTO;
        assert_int_equal(decode_rsa(WR_BYTES(modulus, len), f4), expected);
        if (bits % 8 == 0) /* without the zero in front it is negative */
            assert_int_equal(decode_rsa(WR_BYTES(modulus + 1, len - 1), f4), WR_EPROTO);
        else /* a second zero in front is not the shortest form */
            assert_int_equal(decode_rsa(WR_BYTES(modulus, len + 1), f4),
                             bits + 8 > 8192 || bits + 8 < 2048 ? WR_EPROTO : 0);
    }
    uint8_t modulus[258] = {0};
    modulus[1] = 0x80;
    modulus[257] = 1;
    struct wr_bytes n = WR_BYTES(modulus, 257);
    static const struct {
        struct wr_bytes e;
        int err;
    } exponents[] = {
        {WR_BYTES_STR("\x03"), 0},
        {WR_BYTES_STR("\x7f\xff\xff\xff"), 0},
        {WR_BYTES_STR("\x01"), WR_EPROTO},
        {WR_BYTES_STR("\x02"), WR_EPROTO},
        {WR_BYTES_STR("\x00"), WR_EPROTO},
        {WR_BYTES_STR(""), WR_EPROTO},
        {WR_BYTES_STR("\xff"), WR_EPROTO},
        {WR_BYTES_STR("\x00\x03"), WR_EPROTO},
        {WR_BYTES_STR("\x00\x80\x00\x00\x01"), WR_EPROTO},
        {WR_BYTES_STR("\x01\x00\x00\x00\x01"), WR_EPROTO},
    };
    for (size_t i = 0; i < COUNT(exponents); i++)
        assert_int_equal(decode_rsa(n, exponents[i].e), exponents[i].err);
}

static void test_normalize(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, WR_PUBKEY_MAX);
    for (size_t i = 0; i < COUNT(ID_VECTORS); i++) {
        wr_buf_reset(&b);
        assert_int_equal(wr_pubkey_normalize(HEX(ID_VECTORS[i].pubkey), &b), 0);
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), HEX(ID_VECTORS[i].pubkey)));
    }
    wr_buf_reset(&b);
    assert_int_equal(wr_pubkey_normalize(HEX(SECP256K1_UNCOMPRESSED_PUBLIC), &b), 0);
    assert_true(wr_bytes_equal(wr_buf_bytes(&b), HEX(SECP256K1_PUBLIC)));
    assert_int_equal(wr_pubkey_normalize(WR_BYTES_NONE, &b), WR_EPROTO);
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_private_round_trip),
        cmocka_unit_test(test_older_private_form),
        cmocka_unit_test(test_damaged_private_keys),
        cmocka_unit_test(test_rfc8032),
        cmocka_unit_test(test_verify_every_type),
        cmocka_unit_test(test_verify_ed25519),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refused_curves_and_forms),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_rsa_bounds),
        cmocka_unit_test(test_normalize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
