/* kvpage.h - how LMDB lays its file out: format 1 of LMDB 0.9 on 64-bit machines, in host byte
 * order (libraries/liblmdb/mdb.c: struct MDB_page, MDB_node, MDB_db, MDB_meta). Value. What
 * kvcheck.h and kvread.h read with; a page is looked at through the functions behind
 * wr_kvpage_sound only after that one has passed it. */
#ifndef WR_KVPAGE_H
#define WR_KVPAGE_H

#include "transport/bytes.h"

#define WR_KVPAGE_MIN    4096  /* bytes; smaller pages could not hold WR_KV_KEY_MAX */
#define WR_KVPAGE_MAX    32768 /* bytes; LMDB's limit */
#define WR_KVPAGE_HEADER 16    /* bytes: number, pad, flags, bounds of the free space */
#define WR_KVPAGE_FIRST  2     /* page number; after the metas */
#define WR_KVPAGE_NONE   UINT64_MAX

#define WR_KVPAGE_BRANCH   0x01 /* flags of pages */
#define WR_KVPAGE_LEAF     0x02
#define WR_KVPAGE_OVERFLOW 0x04
#define WR_KVPAGE_META     0x08

struct wr_kvpage_file {
    /* Reads exactly len bytes at offset: 0, WR_ECORRUPT (the file ends before, or is not readable
     * there), or an error that says nothing of the file. */
    int (*read)(void *arg, uint64_t offset, uint8_t *out, size_t len);
    void *arg;
    uint64_t size; /* bytes */
};

uint16_t wr_kvpage_u16(const uint8_t *p);
uint32_t wr_kvpage_u32(const uint8_t *p);
uint64_t wr_kvpage_u64(const uint8_t *p);
static inline uint64_t wr_kvpage_number(const uint8_t *page)
{
    return wr_kvpage_u64(page);
}
static inline uint16_t wr_kvpage_flags(const uint8_t *page)
{
    return wr_kvpage_u16(page + 10);
}

/* NULL: the bounds are in order and the nodes tile the page exactly, none leaving it. Else what is
 * wrong. scratch: size / 2 bytes. */
const char *wr_kvpage_sound(const uint8_t *page, size_t size, bool leaf, uint8_t *scratch);

/* ---- of a page that is sound */
size_t wr_kvpage_count(const uint8_t *page);
const uint8_t *wr_kvpage_node(const uint8_t *page, size_t i);
struct wr_bytes wr_kvpage_key(const uint8_t *node); /* of a branch's first node: meaningless */
uint64_t wr_kvpage_child(const uint8_t *node);      /* of a branch */
size_t wr_kvpage_value_len(const uint8_t *node);    /* of a leaf */
/* The first overflow page of a leaf's value; WR_KVPAGE_NONE: it stands behind the key. */
uint64_t wr_kvpage_value_page(const uint8_t *node);
/* Overflow pages that hold so many bytes. */
uint64_t wr_kvpage_run(size_t page_size, size_t len);

#endif
