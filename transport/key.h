/* key.h - our own Ed25519 identity key, and verification with every key type that peers have. Value.
 * Spec: libp2p peer-ids/peer-ids.md, "Keys". Ed25519 by libsodium, RSA and ECDSA by libcrypto,
 * secp256k1 by libsecp256k1. */
#ifndef WR_KEY_H
#define WR_KEY_H

#include "transport/bytes.h"

#define WR_ED25519_SEED   32
#define WR_ED25519_PUBLIC 32
#define WR_ED25519_SECRET 64    /* libsodium's form: seed, then public */
#define WR_SIG_ED25519    64
#define WR_PUBKEY_MAX     1100  /* bytes of a PublicKey protobuf: RSA-8192 is 1,067 */
#define WR_RSA_BITS_MIN   2048  /* go-libp2p, rust-libp2p, js-libp2p */
#define WR_RSA_BITS_MAX   8192  /* the same; the work of one verification stays bounded */

enum wr_key_type { WR_KEY_RSA = 0, WR_KEY_ED25519 = 1, WR_KEY_SECP256K1 = 2, WR_KEY_ECDSA = 3 };

/* Our identity. Secret: clear it with wr_key_clear. */
struct wr_key {
    uint8_t secret[WR_ED25519_SECRET];
    uint8_t public_key[WR_ED25519_PUBLIC];
};

void wr_key_generate(struct wr_key *key, const uint8_t seed[static WR_ED25519_SEED]);
void wr_key_clear(struct wr_key *key);
/* libp2p PrivateKey protobuf; Ed25519 only (64 bytes, and go's older 96). 0, WR_EINVAL with the key
 * cleared when the type is another or the public half does not belong to the seed. */
int wr_key_decode(struct wr_bytes in, struct wr_key *key);
void wr_key_encode(const struct wr_key *key, struct wr_buf *out);
/* PublicKey protobuf of our key: 36 bytes. */
void wr_key_encode_public(const struct wr_key *key, struct wr_buf *out);
void wr_key_sign(const struct wr_key *key, struct wr_bytes message, uint8_t sig[static WR_SIG_ED25519]);

/* Splits a PublicKey protobuf into type and data (either may be NULL). The data has the shape that its
 * type asks for: 32 bytes; 33 or 65 with the right first byte; DER of an RSA key of 2048..8192 bits and
 * an exponent below 2^31; DER of an uncompressed point on P-256, P-384 or P-521. Whether it is a valid
 * key turns out in wr_pubkey_verify. 0, WR_EPROTO. Unknown fields are skipped. */
int wr_pubkey_decode(struct wr_bytes pubkey, enum wr_key_type *type, struct wr_bytes *data);
/* The one encoding of a key that peer ids are made from, as other implementations write it: both fields
 * in order and nothing else, secp256k1 compressed. Appends to out. 0, WR_EPROTO. */
int wr_pubkey_normalize(struct wr_bytes pubkey, struct wr_buf *out);
/* Verifies sig over message with a peer's PublicKey protobuf. 0; WR_EAUTH when the signature is wrong;
 * WR_EPROTO when the key is malformed or outside the bounds above; WR_ELIMIT. Either S of an ECDSA pair
 * is taken. */
int wr_pubkey_verify(struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig);

#endif
