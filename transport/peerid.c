#include "transport/peerid.h"

#include "transport/base.h"
#include "transport/err.h"
#include "transport/key.h"
#include "transport/multihash.h"

#include <string.h>

#define INLINE_MAX (WR_PEERID_MAX - 2) /* bytes of a key that is its own id; peer-ids.md */

int wr_peerid_from_pubkey(struct wr_bytes pubkey, struct wr_peerid *id)
{
    uint8_t memory[WR_PUBKEY_MAX];
    struct wr_buf key;
    wr_buf_over(&key, memory, sizeof(memory));
    int err = wr_pubkey_normalize(pubkey, &key);
    if (err)
        return err;
    *id = (struct wr_peerid){.len = 0};
    if (key.len <= INLINE_MAX) {
        id->len = (uint8_t)(2 + key.len);
        id->bytes[0] = WR_MH_IDENTITY;
        id->bytes[1] = (uint8_t)key.len;
        memcpy(id->bytes + 2, key.data, key.len);
        return 0;
    }
    id->len = 2 + WR_SHA256_LEN;
    id->bytes[0] = WR_MH_SHA256;
    id->bytes[1] = WR_SHA256_LEN;
    wr_sha256(wr_buf_bytes(&key), id->bytes + 2);
    return 0;
}

int wr_peerid_decode(struct wr_bytes in, struct wr_peerid *id)
{
    if (in.len < 3 || in.len > WR_PEERID_MAX || in.ptr[1] != in.len - 2)
        return WR_EPROTO;
    if (in.ptr[0] != WR_MH_IDENTITY && !(in.ptr[0] == WR_MH_SHA256 && in.ptr[1] == WR_SHA256_LEN))
        return WR_EPROTO;
    *id = (struct wr_peerid){.len = (uint8_t)in.len};
    memcpy(id->bytes, in.ptr, in.len);
    return 0;
}

struct wr_bytes wr_peerid_bytes(const struct wr_peerid *id)
{
    return WR_BYTES(id->bytes, id->len);
}

bool wr_peerid_equal(const struct wr_peerid *a, const struct wr_peerid *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

struct wr_bytes wr_peerid_pubkey(const struct wr_peerid *id)
{
    if (id->len <= 2 || id->bytes[0] != WR_MH_IDENTITY)
        return WR_BYTES_NONE;
    return WR_BYTES(id->bytes + 2, id->len - 2);
}

int wr_peerid_parse(const char *text, struct wr_peerid *id)
{
    struct wr_bytes in = wr_bytes_cstr(text);
    /* A bare base58 multihash begins so and no multibase prefix does. */
    if (in.len && (in.ptr[0] == '1' || wr_bytes_starts(in, WR_BYTES_STR("Qm")))) {
        uint8_t memory[WR_BASE_BIG_MAX];
        struct wr_buf bytes;
        wr_buf_over(&bytes, memory, sizeof(memory));
        if (wr_base_decode(WR_BASE58BTC, in, &bytes) != 0)
            return WR_EINVAL;
        return wr_peerid_decode(wr_buf_bytes(&bytes), id) == 0 ? 0 : WR_EINVAL;
    }
    uint64_t codec;
    struct wr_multihash hash;
    if (wr_cid_parse(text, &codec, &hash) != 0 || codec != WR_CID_LIBP2PKEY)
        return WR_EINVAL;
    return wr_peerid_decode(WR_BYTES(hash.bytes, hash.len), id) == 0 ? 0 : WR_EINVAL;
}

char *wr_peerid_print(const struct wr_peerid *id, char out[static WR_PEERID_TEXT])
{
    struct wr_buf text;
    wr_buf_over(&text, out, WR_PEERID_TEXT);
    wr_base_encode(WR_BASE58BTC, wr_peerid_bytes(id), &text);
    wr_buf_put_u8(&text, 0);
    return out;
}
