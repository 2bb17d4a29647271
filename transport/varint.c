#include "transport/varint.h"

#include "transport/err.h"

size_t wr_uvarint_encode(uint64_t v, uint8_t out[static WR_UVARINT_MAX])
{
    size_t n = 0;
    while (v >= 0x80 && n < WR_UVARINT_MAX - 1) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)(v & 0x7f);
    return n;
}

size_t wr_uvarint_len(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80 && n < WR_UVARINT_MAX) {
        v >>= 7;
        n++;
    }
    return n;
}

int wr_uvarint_decode(const uint8_t *data, size_t len, uint64_t *v)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len && i < WR_UVARINT_MAX; i++) {
        value |= (uint64_t)(data[i] & 0x7f) << (7 * i);
        if (data[i] & 0x80)
            continue;
        if (data[i] == 0 && i > 0)
            return WR_EPROTO;
        *v = value;
        return (int)i + 1;
    }
    return len < WR_UVARINT_MAX ? 0 : WR_EPROTO;
}
