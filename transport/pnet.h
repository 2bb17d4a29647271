/* pnet.h - private networks: XSalsa20 under a pre-shared key, below everything else. Machine.
 * Spec: libp2p pnet/Private-Networks-PSK-V1.md. Each side sends a 24-byte nonce first. */
#ifndef WR_PNET_H
#define WR_PNET_H

#include "transport/bytes.h"

#define WR_PNET_KEY   32
#define WR_PNET_NONCE 24

struct wr_pnet {
    uint8_t key[WR_PNET_KEY];
    uint8_t send_nonce[WR_PNET_NONCE], recv_nonce[WR_PNET_NONCE];
    uint64_t sent, received;    /* keystream bytes used */
    size_t nonce_have;          /* bytes of the peer's nonce received */
};

/* The key file's three lines: /key/swarm/psk/1.0.0/, a coding (/base16/, /base64/, /bin/), the key.
 * 0, WR_EINVAL. */
int wr_pnet_key_parse(struct wr_bytes file, uint8_t key[static WR_PNET_KEY]);
/* A short public name of the key for people and for mDNS: 16 hex characters of its SHA-256, and NUL. */
void wr_pnet_fingerprint(const uint8_t key[static WR_PNET_KEY], char out[static 17]);
/* Appends our nonce to out: it goes on the wire before anything else, without waiting. */
void wr_pnet_start(struct wr_pnet *p, const uint8_t key[static WR_PNET_KEY],
                   const uint8_t nonce[static WR_PNET_NONCE], struct wr_buf *out);
/* Deciphers received bytes in place and returns how many of the leading ones were the peer's nonce and
 * are to be skipped. */
size_t wr_pnet_decrypt(struct wr_pnet *p, uint8_t *data, size_t len);
void wr_pnet_encrypt(struct wr_pnet *p, uint8_t *data, size_t len);    /* in place */
void wr_pnet_clear(struct wr_pnet *p);

#endif
