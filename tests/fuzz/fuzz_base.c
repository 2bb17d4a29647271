/* Base codings: the first byte chooses one. Text that decodes is the text of its bytes; bytes
 * survive. */
#include "transport/base.h"
#include "transport/err.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_padded_or_upper(enum wr_base base, struct wr_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (base == WR_BASE16 && text.ptr[i] >= 'A' && text.ptr[i] <= 'F')
            return true;
    return base == WR_BASE64 && text.len % 4 != 0;
}

static void there_and_back(enum wr_base base, struct wr_bytes in)
{
    struct wr_buf text, bytes;
    wr_buf_init(&text, 1 << 20);
    wr_buf_init(&bytes, 1 << 20);
    wr_base_encode(base, in, &text);
    int err = text.full ? WR_EINVAL : wr_base_decode(base, wr_buf_bytes(&text), &bytes);
    if (err == 0)
        assert(wr_bytes_equal(wr_buf_bytes(&bytes), in));
    else /* only what is too long for the quadratic ones */
        assert((base == WR_BASE58BTC || base == WR_BASE36) && in.len > 150);
    wr_buf_clear(&text);
    wr_buf_clear(&bytes);
}

static void back_and_there(enum wr_base base, struct wr_bytes in)
{
    struct wr_buf text, bytes;
    wr_buf_init(&text, 1 << 20);
    wr_buf_init(&bytes, 1 << 20);
    if (wr_base_decode(base, in, &bytes) == 0) {
        wr_base_encode(base, wr_buf_bytes(&bytes), &text);
        assert(!text.full);
        if (!is_padded_or_upper(base, in))
            assert(wr_bytes_equal(wr_buf_bytes(&text), in));
    } else {
        assert(bytes.len == 0);
    }
    wr_buf_clear(&text);
    wr_buf_clear(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct wr_bytes in = WR_BYTES(data + 1, size - 1);
    uint8_t memory[64];
    struct wr_buf small;
    enum wr_base base = (enum wr_base)(data[0] % (WR_BASE16 + 1));
    there_and_back(base, in);
    back_and_there(base, in);
    wr_buf_over(&small, memory, sizeof(memory));
    if (wr_multibase_decode(in, &small) != 0)
        assert(small.len == 0);
    return 0;
}
