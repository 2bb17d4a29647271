/* The data file of a store, before LMDB sees it: every read stays inside the file. */
#include "transport/err.h"
#include "transport/kvcheck.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_bytes bytes = WR_BYTES(data, size);
    struct wr_kvpage_file file = {read_input, &bytes, size};
    struct wr_kvcheck_result head, all;
    int head_err = wr_kvcheck_head(&file, &head);
    int all_err = wr_kvcheck_all(&file, size / WR_KVPAGE_MIN + 64, &all);
    assert(head_err == 0 || (head_err == WR_ECORRUPT && head.what));
    assert(all_err == 0 || (all_err == WR_ECORRUPT && all.what));
    assert(!head_err || all_err);    /* the whole is no better than its head */
    return 0;
}
