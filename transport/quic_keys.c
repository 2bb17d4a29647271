/* The keys of QUIC packets: RFC 9001, sections 5 and 6. ngtcp2 and GnuTLS see to those of the handshake, and to all of
 * what transport/aes.h cannot do. Their handles and ours come by the same callbacks: ours have the lowest bit set, which
 * no address of an allocation has. */
#include "transport/aes.h"
#include "transport/hkdf.h"
#include "transport/quic_impl.h"

#include <gnutls/crypto.h>
#include <sodium.h>
#include <string.h>

#define OURS       ((uintptr_t)1)
#define SECRET_LEN 32    /* bytes, of SHA-256: TLS_AES_128_GCM_SHA256 (RFC 8446, appendix B.4) */
#define MASK_LEN   5     /* bytes: RFC 9001, section 5.4.1 */

static void *mark(void *key)
{
    return (void *)((uintptr_t)key | OURS);
}

/* NULL: it is GnuTLS's. */
static void *ours(void *handle)
{
    return (uintptr_t)handle & OURS ? (void *)((uintptr_t)handle & ~OURS) : NULL;
}

static bool does(ngtcp2_conn *ng)
{
    const ngtcp2_crypto_ctx *ctx = ngtcp2_conn_get_crypto_ctx(ng);
    return (intptr_t)ctx->aead.native_handle == GNUTLS_CIPHER_AES_128_GCM &&
           ngtcp2_conn_get_negotiated_version(ng) == NGTCP2_PROTO_VER_V1 && wr_aes_works();
}

static int expand(const uint8_t *secret, const char *label, uint8_t *out, size_t len)
{
    return wr_hkdf_label(GNUTLS_MAC_SHA256, WR_BYTES(secret, SECRET_LEN), label, out, len);
}

/* The key that follows from a secret, and its vector. NULL: out of memory. */
static struct wr_aes_gcm *derive(const uint8_t *secret, uint8_t iv[static WR_AES_NONCE])
{
    uint8_t key[WR_AES_KEY];
    struct wr_aes_gcm *gcm = NULL;
    if (expand(secret, "quic key", key, sizeof(key)) == 0 && expand(secret, "quic iv", iv, WR_AES_NONCE) == 0)
        gcm = wr_aes_gcm_create(key);
    sodium_memzero(key, sizeof(key));
    return gcm;
}

static struct wr_aes_block *derive_mask(const uint8_t *secret)
{
    uint8_t key[WR_AES_KEY];
    struct wr_aes_block *block = expand(secret, "quic hp", key, sizeof(key)) == 0 ? wr_aes_block_create(key) : NULL;
    sodium_memzero(key, sizeof(key));
    return block;
}

static int install(ngtcp2_conn *ng, const uint8_t *secret, bool rx)
{
    uint8_t iv[WR_AES_NONCE];
    struct wr_aes_gcm *gcm = derive(secret, iv);
    struct wr_aes_block *block = derive_mask(secret);
    ngtcp2_crypto_aead_ctx key = {mark(gcm)};
    ngtcp2_crypto_cipher_ctx mask = {mark(block)};
    if (gcm && block &&
        (rx ? ngtcp2_conn_install_rx_key(ng, secret, SECRET_LEN, &key, iv, sizeof(iv), &mask)
            : ngtcp2_conn_install_tx_key(ng, secret, SECRET_LEN, &key, iv, sizeof(iv), &mask)) == 0)
        return 0;
    wr_aes_gcm_destroy(gcm);
    wr_aes_block_destroy(block);
    return -1;
}

/* GnuTLS has new secrets, either of them maybe. */
static int on_secrets(gnutls_session_t session, gnutls_record_encryption_level_t level, const void *rx, const void *tx,
                      size_t len)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    ngtcp2_conn *ng = ref->get_conn(ref);
    if (level == GNUTLS_ENCRYPTION_LEVEL_APPLICATION && len == SECRET_LEN && does(ng))
        return (rx && install(ng, rx, true) != 0) || (tx && install(ng, tx, false) != 0) ? -1 : 0;
    ngtcp2_encryption_level at = ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(level);
    return (rx && ngtcp2_crypto_derive_and_install_rx_key(ng, NULL, NULL, NULL, at, rx, len) != 0) ||
                   (tx && ngtcp2_crypto_derive_and_install_tx_key(ng, NULL, NULL, NULL, at, tx, len) != 0)
               ? -1
               : 0;
}

void wr_quic_keys_hook(gnutls_session_t session)
{
    gnutls_handshake_set_secret_function(session, on_secrets);
}

int wr_quic_keys_update(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                        uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv, const uint8_t *rx_now,
                        const uint8_t *tx_now, size_t len, void *user_data)
{
    if (len != SECRET_LEN || !does(ng))
        return ngtcp2_crypto_update_key_cb(ng, rx_secret, tx_secret, rx, rx_iv, tx, tx_iv, rx_now, tx_now, len, user_data);
    if (expand(rx_now, "quic ku", rx_secret, len) != 0 || expand(tx_now, "quic ku", tx_secret, len) != 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    struct wr_aes_gcm *in = derive(rx_secret, rx_iv), *out = derive(tx_secret, tx_iv);
    if (!in || !out) {
        wr_aes_gcm_destroy(in);
        wr_aes_gcm_destroy(out);
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    rx->native_handle = mark(in);
    tx->native_handle = mark(out);
    return 0;
}

int wr_quic_keys_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                         const uint8_t *plain, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *head,
                         size_t head_len)
{
    struct wr_aes_gcm *gcm = ours(ctx->native_handle);
    if (!gcm)
        return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, len, nonce, nonce_len, head, head_len);
    wr_aes_gcm_seal(gcm, nonce, WR_BYTES(head, head_len), WR_BYTES(plain, len), WR_BYTES_NONE, dest);
    return 0;
}

int wr_quic_keys_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                         const uint8_t *sealed, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *head,
                         size_t head_len)
{
    struct wr_aes_gcm *gcm = ours(ctx->native_handle);
    if (!gcm)
        return ngtcp2_crypto_decrypt_cb(dest, aead, ctx, sealed, len, nonce, nonce_len, head, head_len);
    if (len < WR_AES_TAG)
        return NGTCP2_ERR_DECRYPT;
    int rc = wr_aes_gcm_open(gcm, nonce, WR_BYTES(head, head_len), sealed, len - WR_AES_TAG, dest);
    return rc == 0 ? 0 : NGTCP2_ERR_DECRYPT;
}

int wr_quic_keys_mask(uint8_t *dest, const ngtcp2_crypto_cipher *cipher, const ngtcp2_crypto_cipher_ctx *ctx,
                      const uint8_t *sample)
{
    const struct wr_aes_block *block = ours(ctx->native_handle);
    uint8_t out[WR_AES_BLOCK];
    if (!block)
        return ngtcp2_crypto_hp_mask_cb(dest, cipher, ctx, sample);
    wr_aes_block_encrypt(block, sample, out);
    memcpy(dest, out, MASK_LEN);
    return 0;
}

void wr_quic_keys_drop(ngtcp2_conn *ng, ngtcp2_crypto_aead_ctx *ctx, void *user_data)
{
    struct wr_aes_gcm *gcm = ours(ctx->native_handle);
    if (gcm)
        wr_aes_gcm_destroy(gcm);
    else
        ngtcp2_crypto_delete_crypto_aead_ctx_cb(ng, ctx, user_data);
}

void wr_quic_keys_drop_mask(ngtcp2_conn *ng, ngtcp2_crypto_cipher_ctx *ctx, void *user_data)
{
    struct wr_aes_block *block = ours(ctx->native_handle);
    if (block)
        wr_aes_block_destroy(block);
    else
        ngtcp2_crypto_delete_crypto_cipher_ctx_cb(ng, ctx, user_data);
}
