#include "transport/key.h"

#include "transport/der.h"
#include "transport/err.h"
#include "transport/key.pb-c.h"
#include "transport/multihash.h"
#include "transport/pb.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <secp256k1.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SECP256K1_COMPRESSED   33 /* bytes; SEC 1, 2.3.3 */
#define SECP256K1_UNCOMPRESSED 65
#define RSA_EXPONENT_BITS_MAX  31 /* bits; go's crypto/rsa. A long one makes verification slow */

_Static_assert(WR_ED25519_SECRET == crypto_sign_SECRETKEYBYTES, "libsodium's form");

/* ---- our own key ----------------------------------------------------------------------------- */

void wr_key_generate(struct wr_key *key, const uint8_t seed[static WR_ED25519_SEED])
{
    crypto_sign_seed_keypair(key->public_key, key->secret, seed);
}

void wr_key_clear(struct wr_key *key)
{
    sodium_memzero(key, sizeof(*key));
}

/* The two fields that both key messages have; *data stays in `in`. */
static int split(struct wr_bytes in, uint64_t *type, struct wr_bytes *data)
{
    bool have_type = false, have_data = false;
    struct wr_pb_field f;
    int more;
    while ((more = wr_pb_next(&in, &f)) > 0) {
        if (f.number == 1 && f.wire == WR_PB_VARINT) {
            *type = f.value;
            have_type = true;
        } else if (f.number == 2 && f.wire == WR_PB_BYTES) {
            *data = f.bytes;
            have_data = true;
        } else if (f.number <= 2) {
            return WR_EPROTO;
        }
    }
    return more == 0 && have_type && have_data ? 0 : WR_EPROTO;
}

int wr_key_decode(struct wr_bytes in, struct wr_key *key)
{
    uint64_t type;
    struct wr_bytes data;
    wr_key_clear(key);
    if (split(in, &type, &data) != 0 || type != WR_KEY_ED25519)
        return WR_EINVAL;
    if (data.len != WR_ED25519_SECRET && data.len != WR_ED25519_SECRET + WR_ED25519_PUBLIC)
        return WR_EINVAL;
    wr_key_generate(key, data.ptr);
    bool fits = sodium_memcmp(key->secret, data.ptr, WR_ED25519_SECRET) == 0;
    if (data.len > WR_ED25519_SECRET)
        fits =
            fits && memcmp(key->public_key, data.ptr + WR_ED25519_SECRET, WR_ED25519_PUBLIC) == 0;
    if (fits)
        return 0;
    wr_key_clear(key);
    return WR_EINVAL;
}

void wr_key_encode(const struct wr_key *key, struct wr_buf *out)
{
    Wr__Pb__PrivateKey message = WR__PB__PRIVATE_KEY__INIT;
    message.type = WR__PB__KEY_TYPE__Ed25519;
    message.data = wr_pb_bytes(WR_BYTES(key->secret, sizeof(key->secret)));
    wr_pb_pack(&message.base, out);
}

static void encode_public(enum wr_key_type type, struct wr_bytes data, struct wr_buf *out)
{
    Wr__Pb__PublicKey message = WR__PB__PUBLIC_KEY__INIT;
    message.type = (Wr__Pb__KeyType)type;
    message.data = wr_pb_bytes(data);
    wr_pb_pack(&message.base, out);
}

void wr_key_encode_public(const struct wr_key *key, struct wr_buf *out)
{
    encode_public(WR_KEY_ED25519, WR_BYTES(key->public_key, sizeof(key->public_key)), out);
}

void wr_key_sign(const struct wr_key *key, struct wr_bytes message,
                 uint8_t sig[static WR_SIG_ED25519])
{
    crypto_sign_detached(sig, NULL, message.ptr, message.len, key->secret);
}

/* ---- shapes of peers' keys ------------------------------------------------------------------- */

/* A positive INTEGER in its shortest form, without the zero that keeps it positive. */
static struct wr_bytes read_der_positive(struct wr_reader *r)
{
    struct wr_bytes v = wr_der_read(r, 0x02);
    if (v.len == 0 || v.ptr[0] & 0x80)
        r->bad = true;
    else if (v.ptr[0] == 0 && (v.len == 1 || !(v.ptr[1] & 0x80)))
        r->bad = true;
    else if (v.ptr[0] == 0)
        wr_bytes_take(&v, 1);
    return r->bad ? WR_BYTES_NONE : v;
}

static size_t bit_len(struct wr_bytes v)
{
    size_t bits = 8 * v.len;
    for (uint8_t top = v.len ? v.ptr[0] : 0; v.len && !(top & 0x80); top = (uint8_t)(top << 1))
        bits--;
    return bits;
}

struct rsa {
    struct wr_bytes modulus, exponent; /* big-endian, without zeros in front */
};

/* SubjectPublicKeyInfo of an RSA key: sizes are known before libcrypto sees a byte. */
static bool split_rsa(struct wr_bytes spki, struct rsa *out)
{
    static const char algorithm[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    struct wr_reader r, outer, inner;
    wr_reader_init(&r, spki);
    wr_reader_init(&outer, wr_der_read(&r, 0x30));
    struct wr_bytes identifier = wr_der_read(&outer, 0x30);
    struct wr_bytes bits = wr_der_read(&outer, 0x03);
    if (!wr_reader_done(&r) || !wr_reader_done(&outer) || bits.len == 0 || bits.ptr[0] != 0 ||
        !wr_bytes_equal(identifier, WR_BYTES_STR(algorithm)))
        return false;
    wr_bytes_take(&bits, 1);
    wr_reader_init(&r, bits);
    wr_reader_init(&inner, wr_der_read(&r, 0x30));
    out->modulus = read_der_positive(&inner);
    out->exponent = read_der_positive(&inner);
    if (!wr_reader_done(&r) || !wr_reader_done(&inner))
        return false;
    size_t size = bit_len(out->modulus), exponent_size = bit_len(out->exponent);
    return size >= WR_RSA_BITS_MIN && size <= WR_RSA_BITS_MAX && exponent_size >= 2 &&
           exponent_size <= RSA_EXPONENT_BITS_MAX && out->exponent.ptr[out->exponent.len - 1] & 1;
}

/* SubjectPublicKeyInfo of an ECDSA key, all of it but the coordinates: a point in full on a curve
 * by name. Compressed points and explicit parameters, which cost libcrypto real work, never reach
 * it. */
static const struct curve {
    const char *name;     /* libcrypto's */
    struct wr_bytes head; /* ends with the point's first byte */
    size_t coordinates;   /* bytes, of both */
} CURVES[] = {
    {"prime256v1",
     WR_BYTES_STR("\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d"
                  "\x03\x01\x07\x03\x42\x00\x04"),
     64},
    {"secp384r1",
     WR_BYTES_STR("\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22"
                  "\x03\x62\x00\x04"),
     96},
    {"secp521r1",
     WR_BYTES_STR("\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00"
                  "\x23\x03\x81\x86\x00\x04"),
     132},
};

static const struct curve *curve_of(struct wr_bytes spki)
{
    for (size_t i = 0; i < sizeof(CURVES) / sizeof(CURVES[0]); i++)
        if (spki.len == CURVES[i].head.len + CURVES[i].coordinates &&
            wr_bytes_starts(spki, CURVES[i].head))
            return &CURVES[i];
    return NULL;
}

static bool is_secp256k1(struct wr_bytes data)
{
    if (data.len == SECP256K1_COMPRESSED)
        return data.ptr[0] == 2 || data.ptr[0] == 3;
    return data.len == SECP256K1_UNCOMPRESSED && data.ptr[0] == 4;
}

int wr_pubkey_decode(struct wr_bytes pubkey, enum wr_key_type *type, struct wr_bytes *data)
{
    uint64_t number;
    struct wr_bytes value;
    struct rsa rsa;
    bool fits = false;
    if (pubkey.len > WR_PUBKEY_MAX || split(pubkey, &number, &value) != 0)
        return WR_EPROTO;
    if (number == WR_KEY_RSA)
        fits = split_rsa(value, &rsa);
    else if (number == WR_KEY_ED25519)
        fits = value.len == WR_ED25519_PUBLIC;
    else if (number == WR_KEY_SECP256K1)
        fits = is_secp256k1(value);
    else if (number == WR_KEY_ECDSA)
        fits = curve_of(value) != NULL;
    if (!fits)
        return WR_EPROTO;
    if (type)
        *type = (enum wr_key_type)number;
    if (data)
        *data = value;
    return 0;
}

int wr_pubkey_normalize(struct wr_bytes pubkey, struct wr_buf *out)
{
    enum wr_key_type type;
    struct wr_bytes data;
    uint8_t compressed[SECP256K1_COMPRESSED];
    int err = wr_pubkey_decode(pubkey, &type, &data);
    if (err)
        return err;
    if (type == WR_KEY_SECP256K1 && data.len == SECP256K1_UNCOMPRESSED) {
        compressed[0] = 2 | (data.ptr[SECP256K1_UNCOMPRESSED - 1] & 1); /* parity of y */
        memcpy(compressed + 1, data.ptr + 1, sizeof(compressed) - 1);
        data = WR_BYTES(compressed, sizeof(compressed));
    }
    encode_public(type, data, out);
    return 0;
}

/* ---- verification ---------------------------------------------------------------------------- */

static int verify_ed25519(struct wr_bytes key, struct wr_bytes message, struct wr_bytes sig)
{
    if (sig.len != WR_SIG_ED25519 ||
        crypto_sign_verify_detached(sig.ptr, message.ptr, message.len, key.ptr) != 0)
        return WR_EAUTH;
    return 0;
}

static int verify_secp256k1(struct wr_bytes key, struct wr_bytes message, struct wr_bytes sig)
{
    const secp256k1_context *ctx = secp256k1_context_static;
    secp256k1_pubkey parsed;
    secp256k1_ecdsa_signature pair;
    uint8_t digest[WR_SHA256_LEN];
    if (!secp256k1_ec_pubkey_parse(ctx, &parsed, key.ptr, key.len))
        return WR_EPROTO;
    if (!sig.len || !secp256k1_ecdsa_signature_parse_der(ctx, &pair, sig.ptr, sig.len))
        return WR_EAUTH;
    /* The library takes only the lower S, peers may send either. */
    secp256k1_ecdsa_signature_normalize(ctx, &pair, &pair);
    wr_sha256(message, digest);
    return secp256k1_ecdsa_verify(ctx, &pair, digest, &parsed) ? 0 : WR_EAUTH;
}

static EVP_PKEY *make_key(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (ctx && EVP_PKEY_fromdata_init(ctx) > 0 &&
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* libcrypto takes numbers in the machine's byte order. */
static OSSL_PARAM number_param(const char *name, struct wr_bytes number, uint8_t *out)
{
    BIGNUM *n = BN_bin2bn(number.ptr, (int)number.len, NULL);
    if (!n || BN_bn2nativepad(n, out, (int)number.len) < 0)
        memset(out, 0, number.len); /* no key: refused when it is used */
    BN_free(n);
    return OSSL_PARAM_construct_BN(name, out, number.len);
}

/* The keys are made from their parts: libcrypto's own reader of SubjectPublicKeyInfo takes 120 to
 * 150 us, which is more than verifying with RSA-4096 or P-256. */
static EVP_PKEY *make_rsa(struct wr_bytes spki)
{
    uint8_t n[WR_RSA_BITS_MAX / 8], e[(RSA_EXPONENT_BITS_MAX + 7) / 8];
    struct rsa rsa;
    if (!split_rsa(spki, &rsa))
        return NULL;
    OSSL_PARAM params[] = {number_param(OSSL_PKEY_PARAM_RSA_N, rsa.modulus, n),
                           number_param(OSSL_PKEY_PARAM_RSA_E, rsa.exponent, e), OSSL_PARAM_END};
    return make_key("RSA", params);
}

static EVP_PKEY *make_ecdsa(struct wr_bytes spki)
{
    const struct curve *curve = curve_of(spki);
    char name[16];
    uint8_t point[1 + 132];
    if (!curve)
        return NULL;
    snprintf(name, sizeof(name), "%s", curve->name);
    memcpy(point, spki.ptr + curve->head.len - 1, 1 + curve->coordinates);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + curve->coordinates),
        OSSL_PARAM_END};
    return make_key("EC", params);
}

/* RSA (PKCS#1 v1.5) and ECDSA, both over SHA-256. */
static int verify_with(EVP_PKEY *key, bool rsa, struct wr_bytes message, struct wr_bytes sig)
{
    uint8_t digest[WR_SHA256_LEN];
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    int err = key ? WR_ELIMIT : WR_EPROTO;
    if (ctx && EVP_PKEY_verify_init(ctx) > 0 &&
        (!rsa || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0) &&
        EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0) {
        wr_sha256(message, digest);
        bool good = sig.len && EVP_PKEY_verify(ctx, sig.ptr, sig.len, digest, sizeof(digest)) == 1;
        err = good ? 0 : WR_EAUTH;
    }
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error(); /* what was wrong with a peer's key is no business of the next caller */
    return err;
}

int wr_pubkey_verify(struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig)
{
    enum wr_key_type type;
    struct wr_bytes key;
    int err = wr_pubkey_decode(pubkey, &type, &key);
    if (err)
        return err;
    switch (type) {
    case WR_KEY_ED25519:
        return verify_ed25519(key, message, sig);
    case WR_KEY_SECP256K1:
        return verify_secp256k1(key, message, sig);
    case WR_KEY_RSA:
        return verify_with(make_rsa(key), true, message, sig);
    case WR_KEY_ECDSA:
        return verify_with(make_ecdsa(key), false, message, sig);
    }
    return WR_EPROTO;
}
