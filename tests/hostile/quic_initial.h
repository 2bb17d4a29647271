/* quic_initial.h - a stranger's first packets. Their keys follow from the destination connection id (RFC 9001
 * section 5.2), so that anybody can seal whatever frames he likes; for fuzzing and floods. */
#ifndef QUIC_INITIAL_H
#define QUIC_INITIAL_H

#include <openssl/evp.h>
#include <sodium.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define QUIC_INITIAL_MAX 1452    /* bytes of a packet */
#define QUIC_INITIAL_TAG 16

struct quic_initial {
    uint8_t key[16], iv[12], hp[16];
};

/* HKDF-Expand-Label of RFC 8446 section 7.1, for one block of output. */
static inline void quic_initial_label(const uint8_t secret[static 32], const char *label, uint8_t *out, size_t len)
{
    uint8_t info[64], block[crypto_auth_hmacsha256_BYTES];
    size_t label_len = strlen(label), n = 0;
    crypto_auth_hmacsha256_state state;
    info[n++] = 0;
    info[n++] = (uint8_t)len;
    info[n++] = (uint8_t)(6 + label_len);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, label_len);
    n += 6 + label_len;
    info[n++] = 0;
    info[n++] = 1;
    crypto_auth_hmacsha256_init(&state, secret, 32);
    crypto_auth_hmacsha256_update(&state, info, n);
    crypto_auth_hmacsha256_final(&state, block);
    memcpy(out, block, len);
}

/* The client's keys for a destination connection id. */
static inline void quic_initial_keys(const uint8_t *dcid, size_t len, struct quic_initial *keys)
{
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    uint8_t initial[32], client[32];
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, salt, sizeof(salt));
    crypto_auth_hmacsha256_update(&state, dcid, len);
    crypto_auth_hmacsha256_final(&state, initial);
    quic_initial_label(initial, "client in", client, sizeof(client));
    quic_initial_label(client, "quic key", keys->key, sizeof(keys->key));
    quic_initial_label(client, "quic iv", keys->iv, sizeof(keys->iv));
    quic_initial_label(client, "quic hp", keys->hp, sizeof(keys->hp));
}

/* One packet of number `number`, padded to at least `least` bytes. Its length; 0: the frames are too many. */
static inline size_t quic_initial_seal(uint8_t out[static QUIC_INITIAL_MAX], const uint8_t dcid[static 8],
                                       const uint8_t scid[static 8], uint8_t number, const uint8_t *frames,
                                       size_t len, size_t least)
{
    struct quic_initial keys;
    uint8_t nonce[12], mask[16], plain[QUIC_INITIAL_MAX] = {0};
    const size_t head = 1 + 4 + 1 + 8 + 1 + 8 + 1 + 2 + 1;    /* no token; a length of 2 bytes, a number of 1 */
    int n;
    if (len < 4)
        len = 4;    /* the header's mask is made from what begins 4 bytes behind the number */
    size_t room = least > head + QUIC_INITIAL_TAG + len ? least - head - QUIC_INITIAL_TAG : len;
    if (head + room + QUIC_INITIAL_TAG > QUIC_INITIAL_MAX)
        return 0;
    memcpy(plain, frames, len);    /* and PADDING, which is zero */
    uint8_t *p = out;
    *p++ = 0xc0;
    memcpy(p, "\0\0\0\1\10", 5);
    memcpy(p + 5, dcid, 8);
    p[13] = 8;
    memcpy(p + 14, scid, 8);
    p[22] = 0;
    p[23] = (uint8_t)(0x40 | (1 + room + QUIC_INITIAL_TAG) >> 8);
    p[24] = (uint8_t)(1 + room + QUIC_INITIAL_TAG);
    p[25] = number;
    p += 26;
    quic_initial_keys(dcid, 8, &keys);
    memcpy(nonce, keys.iv, sizeof(nonce));
    nonce[11] ^= number;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, keys.key, nonce);
    EVP_EncryptUpdate(c, NULL, &n, out, (int)head);
    EVP_EncryptUpdate(c, p, &n, plain, (int)room);
    EVP_EncryptFinal_ex(c, p + room, &n);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, QUIC_INITIAL_TAG, p + room);
    EVP_CIPHER_CTX_reset(c);
    EVP_EncryptInit_ex(c, EVP_aes_128_ecb(), NULL, keys.hp, NULL);
    EVP_EncryptUpdate(c, mask, &n, out + head - 1 + 4, sizeof(mask));
    EVP_CIPHER_CTX_free(c);
    out[0] ^= mask[0] & 0x0f;
    out[head - 1] ^= mask[1];
    return head + room + QUIC_INITIAL_TAG;
}

#endif
