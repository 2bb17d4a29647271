/* peerid.h - peer ids: from a key, and to and from text. Value.
 * Spec: libp2p peer-ids/peer-ids.md. */
#ifndef WR_PEERID_H
#define WR_PEERID_H

#include "transport/bytes.h"

#define WR_PEERID_MAX  44    /* bytes: identity multihash of a key protobuf of at most 42 */
#define WR_PEERID_TEXT 96    /* bytes of the longest printed form and NUL */

struct wr_peerid {
    uint8_t len;                     /* 0: none */
    uint8_t bytes[WR_PEERID_MAX];    /* multihash; zero beyond len */
};

/* From a PublicKey protobuf, normalised first (key.h), so that a key has one id however it was written:
 * identity multihash up to 42 bytes, else sha2-256. 0, WR_EPROTO. */
int wr_peerid_from_pubkey(struct wr_bytes pubkey, struct wr_peerid *id);
/* Binary form; only identity digests of 1 to 42 bytes and sha2-256 of 32. 0, WR_EPROTO. */
int wr_peerid_decode(struct wr_bytes in, struct wr_peerid *id);
struct wr_bytes wr_peerid_bytes(const struct wr_peerid *id);
bool wr_peerid_equal(const struct wr_peerid *a, const struct wr_peerid *b);
/* The PublicKey protobuf inside an identity-hashed id, unchecked, else nothing. Points into id. */
struct wr_bytes wr_peerid_pubkey(const struct wr_peerid *id);
/* Base58 ("12D3KooW...", "Qm...") or CIDv1 with codec libp2p-key in base32, base36 or base58.
 * 0, WR_EINVAL. */
int wr_peerid_parse(const char *text, struct wr_peerid *id);
/* Base58, NUL-terminated; returns out. */
char *wr_peerid_print(const struct wr_peerid *id, char out[static WR_PEERID_TEXT]);

#endif
