#include "transport/bytes.h"

#include "transport/varint.h"

#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN 64    /* bytes; first allocation of a buffer */

void *wr_alloc(size_t size)
{
    return calloc(1, size ? size : 1);
}

void *wr_alloc_array(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

void *wr_realloc(void *old, size_t size)
{
    return realloc(old, size ? size : 1);
}

void *wr_memdup(const void *data, size_t len)
{
    char *copy = len < SIZE_MAX ? malloc(len + 1) : NULL;
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, data, len);
    copy[len] = 0;
    return copy;
}

char *wr_strdup(const char *text)
{
    return wr_memdup(text, strlen(text));
}

void wr_free(void *memory)
{
    free(memory);
}

struct wr_bytes wr_bytes_cstr(const char *text)
{
    return WR_BYTES(text, strlen(text));
}

bool wr_bytes_equal(struct wr_bytes a, struct wr_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

int wr_bytes_compare(struct wr_bytes a, struct wr_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.ptr, b.ptr, len) : 0;
    if (order)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

bool wr_bytes_starts(struct wr_bytes whole, struct wr_bytes prefix)
{
    return whole.len >= prefix.len && wr_bytes_equal(WR_BYTES(whole.ptr, prefix.len), prefix);
}

struct wr_bytes wr_bytes_take(struct wr_bytes *in, size_t len)
{
    assert(len <= in->len);
    struct wr_bytes head = {in->ptr, len};
    if (len)
        in->ptr += len;
    in->len -= len;
    return head;
}

void wr_reader_init(struct wr_reader *r, struct wr_bytes in)
{
    r->rest = in;
    r->bad = false;
}

struct wr_bytes wr_read_bytes(struct wr_reader *r, size_t len)
{
    if (r->bad || len > r->rest.len) {
        r->bad = true;
        return WR_BYTES_NONE;
    }
    return wr_bytes_take(&r->rest, len);
}

static uint64_t read_be(struct wr_reader *r, size_t len)
{
    struct wr_bytes b = wr_read_bytes(r, len);
    uint64_t v = 0;
    for (size_t i = 0; i < b.len; i++)
        v = v << 8 | b.ptr[i];
    return v;
}

uint8_t wr_read_u8(struct wr_reader *r)
{
    return (uint8_t)read_be(r, 1);
}

uint16_t wr_read_u16be(struct wr_reader *r)
{
    return (uint16_t)read_be(r, 2);
}

uint32_t wr_read_u32be(struct wr_reader *r)
{
    return (uint32_t)read_be(r, 4);
}

uint64_t wr_read_u64be(struct wr_reader *r)
{
    return read_be(r, 8);
}

uint64_t wr_read_uvarint(struct wr_reader *r)
{
    uint64_t v = 0;
    int used = r->bad ? 0 : wr_uvarint_decode(r->rest.ptr, r->rest.len, &v);
    if (used <= 0) {
        r->bad = true;
        return 0;
    }
    wr_bytes_take(&r->rest, (size_t)used);
    return v;
}

struct wr_bytes wr_read_prefixed(struct wr_reader *r)
{
    uint64_t len = wr_read_uvarint(r);
    if (len > r->rest.len)
        r->bad = true;
    return r->bad ? WR_BYTES_NONE : wr_read_bytes(r, (size_t)len);
}

bool wr_reader_done(const struct wr_reader *r)
{
    return !r->bad && r->rest.len == 0;
}

void wr_buf_init(struct wr_buf *b, size_t max)
{
    *b = (struct wr_buf){.max = max};
}

void wr_buf_over(struct wr_buf *b, void *memory, size_t size)
{
    *b = (struct wr_buf){.data = memory, .cap = size, .max = size};
}

void wr_buf_clear(struct wr_buf *b)
{
    wr_free(b->data);
    wr_buf_init(b, b->max);
}

void wr_buf_wipe(struct wr_buf *b)
{
    if (b->data)
        sodium_memzero(b->data, b->cap);
    wr_buf_clear(b);
}

void wr_buf_reset(struct wr_buf *b)
{
    b->len = 0;
    b->full = false;
}

uint8_t *wr_buf_reserve(struct wr_buf *b, size_t len)
{
    if (b->full || len > b->max - b->len) {
        b->full = true;
        return NULL;
    }
    if (len > b->cap - b->len || !b->data) {
        size_t need = b->len + len;
        size_t cap = b->cap ? b->cap : BUF_MIN;
        while (cap < need)
            cap *= 2;
        if (cap > b->max)
            cap = b->max ? b->max : 1;
        uint8_t *data = wr_realloc(b->data, cap);
        if (!data) {
            b->full = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void wr_buf_grew(struct wr_buf *b, size_t len)
{
    assert(len <= b->cap - b->len);
    b->len += len;
}

void wr_buf_put(struct wr_buf *b, const void *data, size_t len)
{
    uint8_t *room = wr_buf_reserve(b, len);
    if (!room)
        return;
    if (len)
        memcpy(room, data, len);
    b->len += len;
}

void wr_buf_put_bytes(struct wr_buf *b, struct wr_bytes bytes)
{
    wr_buf_put(b, bytes.ptr, bytes.len);
}

void wr_buf_put_cstr(struct wr_buf *b, const char *text)
{
    wr_buf_put(b, text, strlen(text));
}

static void put_be(struct wr_buf *b, uint64_t v, size_t len)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
    wr_buf_put(b, bytes, len);
}

void wr_buf_put_u8(struct wr_buf *b, uint8_t v)
{
    put_be(b, v, 1);
}

void wr_buf_put_u16be(struct wr_buf *b, uint16_t v)
{
    put_be(b, v, 2);
}

void wr_buf_put_u32be(struct wr_buf *b, uint32_t v)
{
    put_be(b, v, 4);
}

void wr_buf_put_u64be(struct wr_buf *b, uint64_t v)
{
    put_be(b, v, 8);
}

void wr_buf_put_uvarint(struct wr_buf *b, uint64_t v)
{
    uint8_t bytes[WR_UVARINT_MAX];
    wr_buf_put(b, bytes, wr_uvarint_encode(v, bytes));
}

void wr_buf_put_prefixed(struct wr_buf *b, struct wr_bytes bytes)
{
    size_t before = b->len;
    wr_buf_put_uvarint(b, bytes.len);
    wr_buf_put_bytes(b, bytes);
    if (b->full)
        b->len = before < b->len ? before : b->len;
}

void wr_buf_printf(struct wr_buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len >= 0 ? wr_alloc((size_t)len + 1) : NULL;
    if (text) {
        vsnprintf(text, (size_t)len + 1, format, again);
        wr_buf_put(b, text, (size_t)len);
    } else {
        b->full = true;
    }
    va_end(again);
    wr_free(text);
}

void wr_buf_consume(struct wr_buf *b, size_t len)
{
    assert(len <= b->len);
    b->len -= len;
    if (b->len)
        memmove(b->data, b->data + len, b->len);
}

struct wr_bytes wr_buf_bytes(const struct wr_buf *b)
{
    return WR_BYTES(b->data, b->len);
}
