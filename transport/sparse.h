/* sparse.h - blocks of one size of which only the beginning is used, most of the time. Value.
 * A pool that is made for a burst takes its memory at once and then uses its first hundred bytes. Here such a block
 * costs what was touched of it, in pages: it comes from memory that the kernel fills in page by page, and a block
 * that was given back keeps one page at most. Blocks lie in arenas, which go back to the system when they are empty.
 * Not for what is filled at once: each page costs a fault. */
#ifndef WR_SPARSE_H
#define WR_SPARSE_H

#include "transport/list.h"

#include <stddef.h>

#define WR_SPARSE_BLOCK ((size_t)12 * 1024 - 16)    /* bytes of a block: three pages, less where it belongs */

/* An address sanitizer watches, and looks for pointers in, only what malloc gave: under one, blocks are malloc's. */
#if defined(__SANITIZE_ADDRESS__)
#define WR_SPARSE_PLAIN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WR_SPARSE_PLAIN
#endif
#endif

struct wr_sparse {
    struct wr_list roomy, full;    /* struct arena: with a free block, without */
    size_t used;                   /* blocks */
};

void wr_sparse_init(struct wr_sparse *s);
/* After all blocks were given back. */
void wr_sparse_clear(struct wr_sparse *s);
/* WR_SPARSE_BLOCK bytes of anything, as aligned as malloc's. NULL: out of memory. */
void *wr_sparse_take(struct wr_sparse *s);
void wr_sparse_give(struct wr_sparse *s, void *block);

#endif
