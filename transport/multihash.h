/* multihash.h - self-describing hashes, and the CIDs that name content by them. Value.
 * Spec: multiformats/multihash, multiformats/cid. */
#ifndef WR_MULTIHASH_H
#define WR_MULTIHASH_H

#include "transport/bytes.h"

#define WR_SHA256_LEN    32
#define WR_MH_IDENTITY   0x00    /* multicodec */
#define WR_MH_SHA256     0x12    /* multicodec */
#define WR_CID_RAW       0x55    /* multicodec: raw bytes */
#define WR_CID_DAG_PB    0x70    /* multicodec: what a CIDv0 means */
#define WR_CID_LIBP2PKEY 0x72    /* multicodec: a peer id */
#define WR_MULTIHASH_MAX 80      /* bytes; go-libp2p-kad-dht takes provider keys of 1..80 */

struct wr_multihash {
    uint8_t len;
    uint8_t bytes[WR_MULTIHASH_MAX];    /* code, length, digest */
};

void wr_sha256(struct wr_bytes in, uint8_t out[static WR_SHA256_LEN]);
/* sha2-256 multihash of in: 34 bytes. */
void wr_multihash_sha256(struct wr_bytes in, struct wr_multihash *out);
/* 0 when the bytes are exactly one well-formed multihash of at most WR_MULTIHASH_MAX bytes, with
 * *code and *digest set (either may be NULL); else WR_EPROTO. */
int wr_multihash_check(struct wr_bytes in, uint64_t *code, struct wr_bytes *digest);
/* CIDv0 ("Qm...") or CIDv1 in any multibase; *codec may be NULL. 0, WR_EINVAL. */
int wr_cid_parse(const char *text, uint64_t *codec, struct wr_multihash *hash);
/* CIDv1 in binary: 0, WR_EPROTO. */
int wr_cid_decode(struct wr_bytes in, uint64_t *codec, struct wr_multihash *hash);

#endif
