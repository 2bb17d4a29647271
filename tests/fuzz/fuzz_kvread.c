/* The data file of a store, read page by page: every read stays inside the file, every walk ends,
 * and keys ascend. The first byte chooses a key, the rest is the file. */
#include "transport/err.h"
#include "transport/kvread.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_input(void *arg, uint64_t offset, uint8_t *out, size_t len)
{
    const struct wr_bytes *file = arg;
    assert(offset <= file->len && len <= file->len - offset);
    memcpy(out, file->ptr + offset, len);
    return 0;
}

static void walk(struct wr_kvread *r, struct wr_bytes from)
{
    struct wr_bytes key, value;
    uint8_t last[WR_KVREAD_KEY_MAX];
    size_t last_len = 0;
    unsigned sum = 0;
    int rc = wr_kvread_seek(r, from, false, &key, &value);
    for (; rc == 1; rc = wr_kvread_next(r, &key, &value)) {
        assert(key.len > 0 && key.len <= sizeof(last));
        assert(last_len == 0 || wr_bytes_compare(WR_BYTES(last, last_len), key) < 0);
        memcpy(last, key.ptr, key.len);
        last_len = key.len;
        for (size_t i = 0; i < value.len; i++)
            sum += value.ptr[i];
    }
    assert(rc == 0 || (rc == WR_ECORRUPT && r->what));
    (void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_bytes key = WR_BYTES(data, size ? 1 : 0),
                    bytes = WR_BYTES(data + key.len, size - key.len);
    struct wr_kvpage_file file = {read_input, &bytes, bytes.len};
    struct wr_kvcheck_result head;
    struct wr_kvread r = {.what = NULL};
    if (wr_kvcheck_head(&file, &head) != 0)
        return 0;
    int err = wr_kvread_open(&r, &file, &head);
    assert(err == 0 || err == WR_ECORRUPT);
    /* So many pages as could be in it, or the bits would be too many for us. */
    if (err == 0 && head.pages <= size / WR_KVPAGE_MIN + 64) {
        uint8_t *seen = wr_alloc((size_t)(head.pages / 8 + 1));
        walk(&r, WR_BYTES_NONE);
        walk(&r, key);
        assert(seen);
        err = wr_kvread_touch(&r, key, true, seen);
        assert(err == 0 || err == WR_ECORRUPT);
        wr_free(seen);
    }
    wr_kvread_clear(&r);
    return 0;
}
