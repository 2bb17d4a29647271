#include "transport/base.h"

#include "transport/err.h"

#include <assert.h>
#include <string.h>

#define BIG_LIMBS 80 /* 32-bit limbs: 256 bytes are 70 of 58^5, 256 characters fewer of 2^32 */

struct alphabet {
    const char *chars;
    uint8_t bits;  /* per character; 0: not a power of two */
    uint8_t group; /* characters that hold a whole number of bytes; pads to this */
    bool pads;
    uint32_t radix, chunk, chunk_radix; /* chunk characters are one limb of radix^chunk */
};

static const char BASE32_UPPER[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char BASE36_UPPER[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char BASE16_UPPER[] = "0123456789ABCDEF";

static const struct alphabet ALPHABETS[] = {
    [WR_BASE58BTC] = {.chars = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
                      .radix = 58,
                      .chunk = 5,
                      .chunk_radix = 656356768},
    [WR_BASE36] = {.chars = "0123456789abcdefghijklmnopqrstuvwxyz",
                   .radix = 36,
                   .chunk = 6,
                   .chunk_radix = 2176782336},
    [WR_BASE32] = {.chars = "abcdefghijklmnopqrstuvwxyz234567", .bits = 5, .group = 8},
    [WR_BASE64] = {.chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                   .bits = 6,
                   .group = 4,
                   .pads = true},
    [WR_BASE64URL] = {.chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                      .bits = 6,
                      .group = 4},
    [WR_BASE16] = {.chars = "0123456789abcdef", .bits = 4, .group = 2},
};

/* A big number: 32-bit limbs of some radix, least significant first. */
struct big {
    uint32_t limb[BIG_LIMBS];
    size_t count;
};

/* big = big * factor + add, in limbs of the given radix (at most 2^32, as the factor). */
static void multiply_add(struct big *big, uint64_t radix, uint64_t factor, uint32_t add)
{
    uint64_t carry = add;
    for (size_t i = 0; i < big->count; i++) {
        uint64_t v = big->limb[i] * factor + carry;
        big->limb[i] = (uint32_t)(v % radix);
        carry = v / radix;
    }
    for (; carry; carry /= radix) {
        assert(big->count < BIG_LIMBS);
        big->limb[big->count++] = (uint32_t)(carry % radix);
    }
}

static void big_encode(const struct alphabet *a, struct wr_bytes in, struct wr_buf *out)
{
    struct big big = {.count = 0};
    size_t zeros = 0, used = 0;
    char text[BIG_LIMBS * 6];
    if (in.len > WR_BASE_BIG_MAX) {
        out->full = true;
        return;
    }
    while (zeros < in.len && in.ptr[zeros] == 0)
        zeros++;
    for (size_t i = zeros; i < in.len;) {
        uint32_t word = 0;
        uint64_t factor = 1;
        do {
            word = word << 8 | in.ptr[i++];
            factor <<= 8;
        } while ((in.len - i) % 4);
        multiply_add(&big, a->chunk_radix, factor, word);
    }
    /* From the right end of text: characters come least significant first. */
    for (size_t i = 0; i < big.count; i++) {
        uint32_t v = big.limb[i];
        for (uint32_t k = 0; k < a->chunk && (v || i + 1 < big.count); k++, v /= a->radix)
            text[sizeof(text) - ++used] = a->chars[v % a->radix];
    }
    uint8_t *room = wr_buf_reserve(out, zeros + used);
    if (!room)
        return;
    memset(room, a->chars[0], zeros);
    memcpy(room + zeros, text + sizeof(text) - used, used);
    wr_buf_grew(out, zeros + used);
}

static void bits_encode(const struct alphabet *a, struct wr_bytes in, struct wr_buf *out)
{
    if (in.len > SIZE_MAX / 16) {
        out->full = true;
        return;
    }
    size_t chars = (in.len * 8 + a->bits - 1) / a->bits;
    size_t len = a->pads ? (chars + a->group - 1) / a->group * a->group : chars;
    uint8_t *room = wr_buf_reserve(out, len);
    if (!room)
        return;
    uint32_t held = 0, held_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        held = held << 8 | in.ptr[i];
        held_bits += 8;
        while (held_bits >= a->bits) {
            held_bits -= a->bits;
            room[n++] = (uint8_t)a->chars[held >> held_bits & ((1u << a->bits) - 1)];
        }
    }
    if (held_bits)
        room[n++] = (uint8_t)a->chars[held << (a->bits - held_bits) & ((1u << a->bits) - 1)];
    memset(room + n, '=', len - n);
    wr_buf_grew(out, len);
}

void wr_base_encode(enum wr_base base, struct wr_bytes in, struct wr_buf *out)
{
    const struct alphabet *a = &ALPHABETS[base];
    if (a->bits)
        bits_encode(a, in, out);
    else
        big_encode(a, in, out);
}

#define NO_DIGIT 0xff

static void digit_values(const struct alphabet *a, uint8_t value[static 256])
{
    memset(value, NO_DIGIT, 256);
    for (uint8_t i = 0; a->chars[i]; i++)
        value[(uint8_t)a->chars[i]] = i;
}

static int big_decode(const struct alphabet *a, const uint8_t *value, struct wr_bytes text,
                      struct wr_buf *out)
{
    struct big big = {.count = 0};
    size_t zeros = 0;
    if (text.len > WR_BASE_BIG_MAX)
        return WR_EINVAL;
    while (zeros < text.len && text.ptr[zeros] == (uint8_t)a->chars[0])
        zeros++;
    for (size_t i = zeros; i < text.len;) {
        uint32_t word = 0;
        uint64_t factor = 1;
        do {
            uint8_t digit = value[text.ptr[i++]];
            if (digit == NO_DIGIT)
                return WR_EINVAL;
            word = word * a->radix + digit;
            factor *= a->radix;
        } while ((text.len - i) % a->chunk);
        multiply_add(&big, (uint64_t)1 << 32, factor, word);
    }
    size_t len = 4 * big.count;
    while (len && big.limb[(len - 1) / 4] >> 8 * ((len - 1) % 4) == 0)
        len--;
    uint8_t *room = wr_buf_reserve(out, zeros + len);
    if (!room)
        return WR_ELIMIT;
    memset(room, 0, zeros);
    for (size_t i = 0; i < len; i++)
        room[zeros + len - 1 - i] = (uint8_t)(big.limb[i / 4] >> 8 * (i % 4));
    wr_buf_grew(out, zeros + len);
    return 0;
}

/* Takes padding off, if there is any: then exactly as much as fills the last group. */
static int strip_padding(const struct alphabet *a, struct wr_bytes *text)
{
    size_t pads = 0;
    while (pads < text->len && text->ptr[text->len - 1 - pads] == '=')
        pads++;
    if (pads && (text->len % a->group || pads >= a->group))
        return WR_EINVAL;
    text->len -= pads;
    return 0;
}

static int bits_decode(const struct alphabet *a, const uint8_t *value, struct wr_bytes text,
                       struct wr_buf *out)
{
    if (a->pads && strip_padding(a, &text) != 0)
        return WR_EINVAL;
    size_t rest = text.len % a->group * a->bits % 8; /* bits beyond the last whole byte */
    size_t len = text.len / a->group * a->group * a->bits / 8 + text.len % a->group * a->bits / 8;
    if (text.len > SIZE_MAX / 8 || rest >= a->bits)
        return WR_EINVAL;
    uint8_t *room = wr_buf_reserve(out, len);
    if (!room)
        return WR_ELIMIT;
    uint32_t held = 0, held_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t digit = value[text.ptr[i]];
        if (digit == NO_DIGIT)
            return WR_EINVAL;
        held = held << a->bits | digit;
        held_bits += a->bits;
        if (held_bits >= 8) {
            held_bits -= 8;
            room[n++] = (uint8_t)(held >> held_bits);
        }
    }
    if (held & ((1u << held_bits) - 1))
        return WR_EINVAL;
    wr_buf_grew(out, n);
    return 0;
}

static int decode(const struct alphabet *a, struct wr_bytes text, struct wr_buf *out)
{
    uint8_t value[256];
    if (out->full)
        return WR_ELIMIT;
    digit_values(a, value);
    if (a->chars == ALPHABETS[WR_BASE16].chars)
        for (uint8_t i = 10; i < 16; i++)
            value[(uint8_t)BASE16_UPPER[i]] = i;
    return a->bits ? bits_decode(a, value, text, out) : big_decode(a, value, text, out);
}

int wr_base_decode(enum wr_base base, struct wr_bytes text, struct wr_buf *out)
{
    return decode(&ALPHABETS[base], text, out);
}

int wr_multibase_decode(struct wr_bytes text, struct wr_buf *out)
{
    static const struct {
        char prefix;
        enum wr_base base;
        const char *chars; /* in place of the base's own */
        bool pads;
    } prefixes[] = {
        {'z', WR_BASE58BTC, NULL, false},      {'k', WR_BASE36, NULL, false},
        {'K', WR_BASE36, BASE36_UPPER, false}, {'b', WR_BASE32, NULL, false},
        {'B', WR_BASE32, BASE32_UPPER, false}, {'m', WR_BASE64, NULL, false},
        {'M', WR_BASE64, NULL, true},          {'u', WR_BASE64URL, NULL, false},
        {'U', WR_BASE64URL, NULL, true},       {'f', WR_BASE16, NULL, false},
        {'F', WR_BASE16, NULL, false},
    };
    for (size_t i = 0; text.len && i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (prefixes[i].prefix != (char)text.ptr[0])
            continue;
        struct alphabet a = ALPHABETS[prefixes[i].base];
        if (prefixes[i].chars)
            a.chars = prefixes[i].chars;
        a.pads = prefixes[i].pads;
        wr_bytes_take(&text, 1);
        return decode(&a, text, out);
    }
    return WR_EINVAL;
}
