/* quic_initial.h - a stranger's first packets, a dialler's or a listener's. Their keys follow from the dialler's first
 * destination connection id (RFC 9001 section 5.2), so that anybody can seal whatever frames he likes; for fuzzing,
 * floods and listeners that break the rules. */
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

/* One side's keys ("client in", "server in") for the client's first destination connection id. */
static inline void quic_initial_keys(const uint8_t *dcid, size_t len, const char *side, struct quic_initial *keys)
{
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    uint8_t initial[32], secret[32];
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, salt, sizeof(salt));
    crypto_auth_hmacsha256_update(&state, dcid, len);
    crypto_auth_hmacsha256_final(&state, initial);
    quic_initial_label(initial, side, secret, sizeof(secret));
    quic_initial_label(secret, "quic key", keys->key, sizeof(keys->key));
    quic_initial_label(secret, "quic iv", keys->iv, sizeof(keys->iv));
    quic_initial_label(secret, "quic hp", keys->hp, sizeof(keys->hp));
}

/* A packet to be. */
struct quic_initial_packet {
    uint8_t dcid[8], scid[8], number;
    const uint8_t *token, *frames;    /* borrowed */
    size_t token_len, frames_len;
    size_t least;                     /* bytes that the packet is padded to */
    const uint8_t *origin;            /* borrowed: the id that the client chose at first; NULL: a client's packet */
    size_t origin_len;
};

/* Its length; 0: the frames are too many. */
static inline size_t quic_initial_seal(uint8_t out[static QUIC_INITIAL_MAX], const struct quic_initial_packet *p)
{
    struct quic_initial keys;
    uint8_t nonce[12], mask[16], plain[QUIC_INITIAL_MAX] = {0};
    /* two bytes say the token's length, two the packet's, one is its number */
    size_t head = 1 + 4 + 1 + 8 + 1 + 8 + 2 + p->token_len + 2 + 1;
    int n;
    /* the header's mask is made from what begins 4 bytes behind the number */
    size_t room = p->frames_len < 4 ? 4 : p->frames_len;
    if (p->least > head + QUIC_INITIAL_TAG + room)
        room = p->least - head - QUIC_INITIAL_TAG;
    if (p->token_len > 255 || head + room + QUIC_INITIAL_TAG > QUIC_INITIAL_MAX)
        return 0;
    memcpy(plain, p->frames, p->frames_len);    /* and PADDING, which is zero */
    memcpy(out, "\xc0\0\0\0\1\10", 6);
    memcpy(out + 6, p->dcid, 8);
    out[14] = 8;
    memcpy(out + 15, p->scid, 8);
    out[23] = 0x40;
    out[24] = (uint8_t)p->token_len;
    if (p->token_len)
        memcpy(out + 25, p->token, p->token_len);
    uint8_t *at = out + head - 3;
    *at++ = (uint8_t)(0x40 | (1 + room + QUIC_INITIAL_TAG) >> 8);
    *at++ = (uint8_t)(1 + room + QUIC_INITIAL_TAG);
    *at++ = p->number;
    quic_initial_keys(p->origin ? p->origin : p->dcid, p->origin ? p->origin_len : 8,
                      p->origin ? "server in" : "client in", &keys);
    memcpy(nonce, keys.iv, sizeof(nonce));
    nonce[11] ^= p->number;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, keys.key, nonce);
    EVP_EncryptUpdate(c, NULL, &n, out, (int)head);
    EVP_EncryptUpdate(c, at, &n, plain, (int)room);
    EVP_EncryptFinal_ex(c, at + room, &n);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, QUIC_INITIAL_TAG, at + room);
    EVP_CIPHER_CTX_reset(c);
    EVP_EncryptInit_ex(c, EVP_aes_128_ecb(), NULL, keys.hp, NULL);
    EVP_EncryptUpdate(c, mask, &n, out + head - 1 + 4, sizeof(mask));
    EVP_CIPHER_CTX_free(c);
    out[0] ^= mask[0] & 0x0f;
    out[head - 1] ^= mask[1];
    return head + room + QUIC_INITIAL_TAG;
}

#endif
