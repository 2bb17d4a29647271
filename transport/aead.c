#include "transport/aead.h"

#include "transport/aes.h"
#include "transport/err.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

/* One direction of a library's state. The key of the last call stays scheduled: a busy connection seals
 * many frames in a row, and scheduling costs a tenth of a small frame. */
struct direction {
    EVP_CIPHER_CTX *ctx;       /* owned; libcrypto's */
    struct wr_aes_gcm *aes;    /* owned; the fast AES in its place */
    uint8_t key[WR_AEAD_KEY];
    bool keyed;
};

/* libsodium starts faster, libcrypto runs faster: they meet at about 200 bytes (measured: 330 against
 * 440 ns for 32 bytes, 48 against 30 us for 64 KiB). */
#define SODIUM_BELOW 160    /* bytes */

struct wr_aead {
    size_t sodium_below;   /* bytes; shorter messages are libsodium's */
    size_t key_len;
    EVP_CIPHER *cipher;    /* owned; NULL when another library does all */
    struct direction seal, open;
};

static bool direction_init(struct direction *d, EVP_CIPHER *cipher, int encrypt)
{
    d->ctx = EVP_CIPHER_CTX_new();
    return d->ctx && EVP_CipherInit_ex2(d->ctx, cipher, NULL, NULL, encrypt, NULL) == 1;
}

static void direction_clear(struct direction *d)
{
    EVP_CIPHER_CTX_free(d->ctx);    /* wipes its copy of the key */
    wr_aes_gcm_destroy(d->aes);
    sodium_memzero(d->key, sizeof(d->key));
}

static const struct {
    const char *name;    /* libcrypto's */
    size_t key_len;
} CIPHERS[] = {
    [WR_AEAD_CHACHA20] = {"ChaCha20-Poly1305", 32},
    [WR_AEAD_AES128] = {"AES-128-GCM", 16},
    [WR_AEAD_AES256] = {"AES-256-GCM", 32},
};

size_t wr_aead_key_len(enum wr_aead_cipher cipher)
{
    return CIPHERS[cipher].key_len;
}

/* Where memory was out when libcrypto (3.0) made its default context, it never has one, and its functions
 * go on with NULL and crash. */
static bool libcrypto_lives(void)
{
    return OSSL_LIB_CTX_get0_global_default() != NULL;
}

static struct wr_aead *create(void)
{
    /* Without it libsodium takes its slow portable code. */
    return sodium_init() >= 0 ? wr_alloc(sizeof(struct wr_aead)) : NULL;
}

static void drop_library(struct wr_aead *engine)
{
    direction_clear(&engine->seal);
    direction_clear(&engine->open);
    engine->seal = engine->open = (struct direction){0};
    EVP_CIPHER_free(engine->cipher);
    engine->cipher = NULL;
}

static bool take_libcrypto(struct wr_aead *engine, enum wr_aead_cipher cipher)
{
    engine->key_len = CIPHERS[cipher].key_len;
    engine->cipher = EVP_CIPHER_fetch(NULL, CIPHERS[cipher].name, NULL);
    if (engine->cipher && direction_init(&engine->seal, engine->cipher, 1) &&
        direction_init(&engine->open, engine->cipher, 0))
        return true;
    drop_library(engine);
    return false;
}

static struct wr_aead *create_libcrypto(enum wr_aead_cipher cipher)
{
    struct wr_aead *engine = libcrypto_lives() ? create() : NULL;
    if (!engine || take_libcrypto(engine, cipher))
        return engine;
    wr_aead_destroy(engine);
    return NULL;
}

static struct wr_aead *create_fast_aes(void)
{
    struct wr_aead *engine = wr_aes_works() ? create() : NULL;
    if (!engine)
        return NULL;
    engine->key_len = WR_AES_KEY;
    engine->seal.aes = wr_aes_gcm_create(engine->seal.key);
    engine->open.aes = wr_aes_gcm_create(engine->open.key);
    engine->seal.keyed = engine->open.keyed = true;
    if (engine->seal.aes && engine->open.aes)
        return engine;
    wr_aead_destroy(engine);
    return NULL;
}

struct wr_aead *wr_aead_create_with(enum wr_aead_library library, enum wr_aead_cipher cipher)
{
    switch (library) {
    case WR_AEAD_LIBSODIUM:
        return cipher == WR_AEAD_CHACHA20 ? create() : NULL;
    case WR_AEAD_FAST_AES:
        return cipher == WR_AEAD_AES128 ? create_fast_aes() : NULL;
    default:
        return create_libcrypto(cipher);
    }
}

/* Others need libcrypto too (key.c), and they come after us: end here if it is broken. */
struct wr_aead *wr_aead_create_cold(void)
{
    return libcrypto_lives() ? create() : NULL;
}

/* Configured without the cipher (a FIPS-only provider) libcrypto must not cost the connection. */
void wr_aead_warm(struct wr_aead *engine)
{
    engine->sodium_below = SODIUM_BELOW;
    if (!engine->cipher)
        take_libcrypto(engine, WR_AEAD_CHACHA20);
}

struct wr_aead *wr_aead_create(void)
{
    struct wr_aead *engine = create_libcrypto(WR_AEAD_CHACHA20);
    if (!engine)
        engine = wr_aead_create_cold();
    if (engine)
        engine->sodium_below = SODIUM_BELOW;
    return engine;
}

struct wr_aead *wr_aead_create_cipher(enum wr_aead_cipher cipher)
{
    if (cipher == WR_AEAD_CHACHA20)
        return wr_aead_create();
    return cipher == WR_AEAD_AES128 && wr_aes_works() ? create_fast_aes() : create_libcrypto(cipher);
}

void wr_aead_destroy(struct wr_aead *engine)
{
    if (!engine)
        return;
    drop_library(engine);
    wr_free(engine);
}

static struct wr_aes_gcm *fast(struct direction *d, const uint8_t *key)
{
    if (memcmp(d->key, key, WR_AES_KEY) != 0) {
        wr_aes_gcm_set_key(d->aes, key);
        memcpy(d->key, key, WR_AES_KEY);
    }
    return d->aes;
}

/* Sets key and nonce and feeds the associated data. */
static bool direction_start(struct direction *d, const uint8_t *key, size_t key_len,
                            const uint8_t *nonce, struct wr_bytes ad)
{
    int used;
    if (d->keyed && memcmp(d->key, key, key_len) == 0) {
        if (EVP_CipherInit_ex2(d->ctx, NULL, NULL, nonce, -1, NULL) != 1)
            return false;
    } else {
        d->keyed = EVP_CipherInit_ex2(d->ctx, NULL, key, nonce, -1, NULL) == 1;
        if (!d->keyed)
            return false;
        memcpy(d->key, key, key_len);
    }
    return ad.len == 0 || EVP_CipherUpdate(d->ctx, NULL, &used, ad.ptr, (int)ad.len) == 1;
}

static int crypto_seal(struct direction *d, struct wr_bytes head, struct wr_bytes rest, uint8_t *out)
{
    int used;
    if (head.len > 0 && EVP_EncryptUpdate(d->ctx, out, &used, head.ptr, (int)head.len) != 1)
        return WR_ELIMIT;
    out += head.len;
    if (rest.len > 0 && EVP_EncryptUpdate(d->ctx, out, &used, rest.ptr, (int)rest.len) != 1)
        return WR_ELIMIT;
    out += rest.len;
    if (EVP_EncryptFinal_ex(d->ctx, out, &used) != 1 ||
        EVP_CIPHER_CTX_ctrl(d->ctx, EVP_CTRL_AEAD_GET_TAG, WR_AEAD_TAG, out) != 1)
        return WR_ELIMIT;
    return 0;
}

static int crypto_open(struct direction *d, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t tag[WR_AEAD_TAG], rest[WR_AEAD_TAG];
    int used;
    memcpy(tag, in + len, WR_AEAD_TAG);
    if (EVP_CIPHER_CTX_ctrl(d->ctx, EVP_CTRL_AEAD_SET_TAG, WR_AEAD_TAG, tag) != 1)
        return WR_ELIMIT;
    if (len > 0 && EVP_DecryptUpdate(d->ctx, out, &used, in, (int)len) != 1)
        return WR_ELIMIT;
    if (EVP_DecryptFinal_ex(d->ctx, rest, &used) == 1)
        return 0;
    memset(out, 0, len);    /* libcrypto deciphers before it compares tags */
    return WR_EAUTH;
}

int wr_aead_seal_two(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                     const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, struct wr_bytes head,
                     struct wr_bytes rest, uint8_t *out)
{
    const uint8_t *in = head.ptr;
    size_t len = head.len + rest.len;
    if (head.len > WR_AEAD_LEN_MAX || rest.len > WR_AEAD_LEN_MAX - head.len || ad.len > WR_AEAD_LEN_MAX)
        return WR_ELIMIT;
    if (engine->seal.aes) {
        wr_aes_gcm_seal(fast(&engine->seal, key), nonce, ad, head, rest, out);
        return 0;
    }
    if (engine->cipher && len >= engine->sodium_below)
        return direction_start(&engine->seal, key, engine->key_len, nonce, ad)
                   ? crypto_seal(&engine->seal, head, rest, out)
                   : WR_ELIMIT;
    if (rest.len) {
        /* libsodium takes one piece. */
        if (head.len)
            memmove(out, head.ptr, head.len);
        memcpy(out + head.len, rest.ptr, rest.len);
        in = out;
    }
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, ad.ptr, ad.len, NULL, nonce, key);
    return 0;
}

int wr_aead_seal(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                 const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, const uint8_t *in,
                 size_t len, uint8_t *out)
{
    return wr_aead_seal_two(engine, key, nonce, ad, WR_BYTES(in, len), WR_BYTES_NONE, out);
}

int wr_aead_open(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                 const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, const uint8_t *in,
                 size_t len, uint8_t *out)
{
    if (len < WR_AEAD_TAG)
        return WR_EAUTH;
    if (len > WR_AEAD_LEN_MAX || ad.len > WR_AEAD_LEN_MAX)
        return WR_ELIMIT;
    if (engine->open.aes)
        return wr_aes_gcm_open(fast(&engine->open, key), nonce, ad, in, len - WR_AEAD_TAG, out);
    if (engine->cipher && len >= engine->sodium_below)
        return direction_start(&engine->open, key, engine->key_len, nonce, ad)
                   ? crypto_open(&engine->open, in, len - WR_AEAD_TAG, out)
                   : WR_ELIMIT;
    int rc = crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, ad.ptr, ad.len,
                                                       nonce, key);
    return rc == 0 ? 0 : WR_EAUTH;
}
