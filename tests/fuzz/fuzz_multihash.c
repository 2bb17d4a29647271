/* Multihashes and CIDs, as bytes and as text: what was read prints and reads the same. */
#include "fuzz/text.h"
#include "transport/base.h"
#include "transport/multihash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(uint64_t codec, const struct wr_multihash *hash)
{
    uint8_t text[512], bytes[WR_MULTIHASH_MAX + 10];
    struct wr_buf printed, cid;
    struct wr_multihash again;
    uint64_t codec_again;
    assert(hash->len <= WR_MULTIHASH_MAX);
    assert(wr_multihash_check(WR_BYTES(hash->bytes, hash->len), NULL, NULL) == 0);
    wr_buf_over(&cid, bytes, sizeof(bytes));
    wr_buf_put_uvarint(&cid, 1);
    wr_buf_put_uvarint(&cid, codec);
    wr_buf_put(&cid, hash->bytes, hash->len);
    wr_buf_over(&printed, text, sizeof(text));
    wr_buf_put_u8(&printed, 'b');
    wr_base_encode(WR_BASE32, wr_buf_bytes(&cid), &printed);
    wr_buf_put_u8(&printed, 0);
    assert(!cid.full && !printed.full);
    assert(wr_cid_parse((const char *)text, &codec_again, &again) == 0);
    assert(codec == codec_again && memcmp(hash, &again, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_bytes in = WR_BYTES(data, size), digest;
    struct wr_multihash hash;
    uint64_t code, codec;
    if (wr_multihash_check(in, &code, &digest) == 0)
        assert(digest.len < in.len && digest.ptr + digest.len == in.ptr + in.len);
    if (wr_cid_decode(in, &codec, &hash) == 0)
        look(codec, &hash);
    char *text = fuzz_text(data, size);
    if (text && wr_cid_parse(text, &codec, &hash) == 0)
        look(codec, &hash);
    free(text);
    return 0;
}
