/* libcrypto's direct SHA-256 calls are deprecated and still the right ones: no allocation, so
 * hashing cannot fail, and 66 ns for a peer id against 432 of SHA256(), which looks the algorithm
 * up each time. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "transport/multihash.h"

#include "transport/base.h"
#include "transport/err.h"

#include <openssl/sha.h>
#include <string.h>

#define CID_TEXT_MAX WR_BASE_BIG_MAX /* characters; base16 of the longest, 90 bytes, is 181 */

void wr_sha256(struct wr_bytes in, uint8_t out[static WR_SHA256_LEN])
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, in.ptr, in.len);
    SHA256_Final(out, &ctx);
}

void wr_multihash_sha256(struct wr_bytes in, struct wr_multihash *out)
{
    *out = (struct wr_multihash){.len = 2 + WR_SHA256_LEN};
    out->bytes[0] = WR_MH_SHA256;
    out->bytes[1] = WR_SHA256_LEN;
    wr_sha256(in, out->bytes + 2);
}

int wr_multihash_check(struct wr_bytes in, uint64_t *code, struct wr_bytes *digest)
{
    struct wr_reader r;
    if (in.len > WR_MULTIHASH_MAX)
        return WR_EPROTO;
    wr_reader_init(&r, in);
    uint64_t type = wr_read_uvarint(&r);
    struct wr_bytes value = wr_read_prefixed(&r);
    if (!wr_reader_done(&r))
        return WR_EPROTO;
    if (code)
        *code = type;
    if (digest)
        *digest = value;
    return 0;
}

int wr_cid_decode(struct wr_bytes in, uint64_t *codec, struct wr_multihash *hash)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    uint64_t version = wr_read_uvarint(&r);
    uint64_t type = wr_read_uvarint(&r);
    if (r.bad || version != 1 || wr_multihash_check(r.rest, NULL, NULL) != 0)
        return WR_EPROTO;
    if (codec)
        *codec = type;
    *hash = (struct wr_multihash){.len = (uint8_t)r.rest.len};
    memcpy(hash->bytes, r.rest.ptr, r.rest.len);
    return 0;
}

/* CIDv0: a bare base58 sha2-256 multihash. */
static int cid0_decode(struct wr_bytes in, uint64_t *codec, struct wr_multihash *hash)
{
    if (in.len != 2 + WR_SHA256_LEN || in.ptr[0] != WR_MH_SHA256 || in.ptr[1] != WR_SHA256_LEN)
        return WR_EINVAL;
    if (codec)
        *codec = WR_CID_DAG_PB;
    *hash = (struct wr_multihash){.len = (uint8_t)in.len};
    memcpy(hash->bytes, in.ptr, in.len);
    return 0;
}

int wr_cid_parse(const char *text, uint64_t *codec, struct wr_multihash *hash)
{
    uint8_t memory[CID_TEXT_MAX];
    struct wr_buf bytes;
    struct wr_bytes in = wr_bytes_cstr(text);
    wr_buf_over(&bytes, memory, sizeof(memory));
    if (in.len > CID_TEXT_MAX)
        return WR_EINVAL;
    if (in.len == 46 && wr_bytes_starts(in, WR_BYTES_STR("Qm"))) {
        if (wr_base_decode(WR_BASE58BTC, in, &bytes) != 0)
            return WR_EINVAL;
        return cid0_decode(wr_buf_bytes(&bytes), codec, hash);
    }
    if (wr_multibase_decode(in, &bytes) != 0 ||
        wr_cid_decode(wr_buf_bytes(&bytes), codec, hash) != 0)
        return WR_EINVAL;
    return 0;
}
