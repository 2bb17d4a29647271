/* Hex of test vectors to bytes. */
#ifndef HEX_H
#define HEX_H

#include "transport/bytes.h"

#include <assert.h>
#include <string.h>

/* Writes the bytes of a hex string to out and returns them as a slice. */
static inline struct wr_bytes hex_to(uint8_t *out, size_t size, const char *hex)
{
    size_t len = strlen(hex) / 2;
    assert(len <= size && strlen(hex) % 2 == 0);
    for (size_t i = 0; i < 2 * len; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, hex[i]);
        assert(at);
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | (at - digits) : (at - digits) << 4);
    }
    return WR_BYTES(out, len);
}

#define HEX(hex) hex_to((uint8_t[1200]){0}, 1200, (hex))

#endif
