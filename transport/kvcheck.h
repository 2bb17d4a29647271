/* kvcheck.h - whether LMDB can be trusted with a data file. Value.
 * LMDB believes its file: damage leads it to assert, to walk out of its mapping, or to nonsense. This
 * reads a file of format version 1 (LMDB 0.9, 64-bit) page by page with its own eyes first: both meta
 * pages, then every page of the trees of the newest one - numbers, bounds, node layout, key order, sizes,
 * overflow runs, the free list, no page used twice, counters that agree. Contents of overflow pages are
 * not read: values carry checksums of their own.
 * Only the plain form that kv_lmdb.c writes is accepted: one unnamed database, no duplicates. */
#ifndef WR_KVCHECK_H
#define WR_KVCHECK_H

#include "transport/kvpage.h"

#define WR_KVCHECK_DEPTH    32       /* levels of a tree; LMDB's cursor stack */

struct wr_kvcheck_result {
    uint64_t txnid;        /* of the newest commit */
    uint64_t entries;
    uint64_t pages;        /* last page used, and one */
    uint64_t root;         /* page of the tree; WR_KVPAGE_NONE: it is empty */
    unsigned depth;        /* levels of it; 0: it is empty */
    uint32_t page_size;
    const char *what;      /* what is wrong, for the log; a static string */
    uint64_t where;        /* the page */
};

/* The meta pages alone. 0, WR_ECORRUPT, or what read returned. */
int wr_kvcheck_head(const struct wr_kvpage_file *file, struct wr_kvcheck_result *result);
/* Everything. pages_max bounds the memory used (one bit a page): more is damage. 0, WR_ECORRUPT,
 * WR_ELIMIT (out of memory), or what read returned. */
int wr_kvcheck_all(const struct wr_kvpage_file *file, uint64_t pages_max,
                   struct wr_kvcheck_result *result);
/* The meta pages and the free list, which every commit reads. Errors as before. */
int wr_kvcheck_free(const struct wr_kvpage_file *file, uint64_t pages_max,
                    struct wr_kvcheck_result *result);

#endif
