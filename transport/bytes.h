/* bytes.h - slices, a sticky reader, a bounded buffer, and the program's allocator. Value.
 * A slice borrows, a buffer owns. Readers and buffers are sticky: read or append everything, then
 * check once. */
#ifndef WR_BYTES_H
#define WR_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- allocation -------------------------------------------------------------------------------
 * Zeroed memory or NULL. Callers treat NULL as WR_ELIMIT. Paired with wr_free (NULL is allowed). */
void *wr_alloc(size_t size);
void *wr_alloc_array(size_t count, size_t size);    /* NULL when count * size overflows */
void *wr_realloc(void *old, size_t size);           /* as realloc: on NULL the old one lives on */
void *wr_memdup(const void *data, size_t len);      /* a copy; one byte longer, NUL at the end */
char *wr_strdup(const char *text);
void wr_free(void *memory);

/* ---- slice: bytes that somebody else owns ----------------------------------------------------- */
struct wr_bytes {
    const uint8_t *ptr;
    size_t len;
};

#define WR_BYTES(p, n)  ((struct wr_bytes){(const uint8_t *)(p), (n)})
#define WR_BYTES_NONE   ((struct wr_bytes){NULL, 0})
/* A string literal or array of char with its terminating NUL left out. */
#define WR_BYTES_STR(s) ((struct wr_bytes){(const uint8_t *)(s), sizeof(s) - 1})

struct wr_bytes wr_bytes_cstr(const char *text);
bool wr_bytes_equal(struct wr_bytes a, struct wr_bytes b);
int wr_bytes_compare(struct wr_bytes a, struct wr_bytes b);    /* memcmp order, shorter first */
bool wr_bytes_starts(struct wr_bytes whole, struct wr_bytes prefix);
/* Takes the first len bytes off *in; *in must hold as many. */
struct wr_bytes wr_bytes_take(struct wr_bytes *in, size_t len);

/* ---- reader: walks a slice; a read past the end sets `bad` and yields zeros from then on -------- */
struct wr_reader {
    struct wr_bytes rest;
    bool bad;
};

void wr_reader_init(struct wr_reader *r, struct wr_bytes in);
uint8_t wr_read_u8(struct wr_reader *r);
uint16_t wr_read_u16be(struct wr_reader *r);
uint32_t wr_read_u32be(struct wr_reader *r);
uint64_t wr_read_u64be(struct wr_reader *r);
struct wr_bytes wr_read_bytes(struct wr_reader *r, size_t len);
/* Unsigned varint of multiformats: at most 9 bytes, minimal form; see varint.h. */
uint64_t wr_read_uvarint(struct wr_reader *r);
/* uvarint length, then as many bytes. */
struct wr_bytes wr_read_prefixed(struct wr_reader *r);
/* True when nothing went wrong and nothing is left over. */
bool wr_reader_done(const struct wr_reader *r);

/* ---- buffer: owned bytes with a hard maximum; an append that does not fit sets `full`, appends
 * nothing and makes every later append a no-op ---------------------------------------------------- */
struct wr_buf {
    uint8_t *data;    /* owned; NULL while empty */
    size_t len, cap;
    size_t max;       /* len never exceeds this */
    bool full;        /* an append failed: over max, or out of memory */
};

void wr_buf_init(struct wr_buf *b, size_t max);
/* A buffer in the caller's memory: it never allocates or grows. Neither clear nor wipe it. */
void wr_buf_over(struct wr_buf *b, void *memory, size_t size);
void wr_buf_clear(struct wr_buf *b);    /* frees; b is as after init */
void wr_buf_wipe(struct wr_buf *b);     /* zeroes the bytes, then frees */
void wr_buf_reset(struct wr_buf *b);    /* len = 0, full = false, memory kept */
/* Room for len more bytes behind data + len, or NULL (then full is set). Commit with wr_buf_grew. */
uint8_t *wr_buf_reserve(struct wr_buf *b, size_t len);
void wr_buf_grew(struct wr_buf *b, size_t len);
void wr_buf_put(struct wr_buf *b, const void *data, size_t len);
void wr_buf_put_bytes(struct wr_buf *b, struct wr_bytes bytes);
void wr_buf_put_cstr(struct wr_buf *b, const char *text);
void wr_buf_put_u8(struct wr_buf *b, uint8_t v);
void wr_buf_put_u16be(struct wr_buf *b, uint16_t v);
void wr_buf_put_u32be(struct wr_buf *b, uint32_t v);
void wr_buf_put_u64be(struct wr_buf *b, uint64_t v);
void wr_buf_put_uvarint(struct wr_buf *b, uint64_t v);
void wr_buf_put_prefixed(struct wr_buf *b, struct wr_bytes bytes);
void wr_buf_printf(struct wr_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first len bytes, moving the rest down. */
void wr_buf_consume(struct wr_buf *b, size_t len);
struct wr_bytes wr_buf_bytes(const struct wr_buf *b);

#endif
