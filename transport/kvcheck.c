#include "transport/kvcheck.h"

#include "transport/err.h"

#include <string.h>

#define META_MAGIC   0xBEEFC0DEu
#define META_VERSION 1u
#define META_SIZE    152       /* page header and struct MDB_meta: one sector */
#define INTEGERKEY   0x08      /* flag of the free list's database */
#define NOSUBDIR     0x4000    /* kept among the same flags: the environment was opened by file name */

struct tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    uint64_t last_page, txnid;
    struct tree free, main;
};

struct check {
    const struct wr_kvpage_file *file;
    struct wr_kvcheck_result *result;
    struct meta meta;
    uint8_t *seen;       /* owned; a bit for each page that was met */
    uint8_t *pages;      /* owned; a page for each level of the walk */
    uint8_t *starts;     /* owned; a byte for each place where a node can start */
    size_t page_size;
};

struct walk {
    struct check *c;
    const struct tree *tree;
    bool free_list;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries;
};

/* Keys of a subtree: low <= key < high; NULL: open. */
struct range {
    const struct wr_bytes *low, *high;
};

static int damaged(struct wr_kvcheck_result *r, uint64_t page, const char *what)
{
    r->what = what;
    r->where = page;
    return WR_ECORRUPT;
}

/* ---- meta pages ------------------------------------------------------------------------------------ */

static void load_tree(const uint8_t *p, struct tree *t)
{
    t->pad = wr_kvpage_u32(p);
    t->flags = wr_kvpage_u16(p + 4);
    t->depth = wr_kvpage_u16(p + 6);
    t->branch_pages = wr_kvpage_u64(p + 8);
    t->leaf_pages = wr_kvpage_u64(p + 16);
    t->overflow_pages = wr_kvpage_u64(p + 24);
    t->entries = wr_kvpage_u64(p + 32);
    t->root = wr_kvpage_u64(p + 40);
}

static int read_meta(const struct wr_kvpage_file *file, struct wr_kvcheck_result *r, uint64_t number,
                     uint64_t offset, struct meta *meta)
{
    uint8_t page[META_SIZE];
    int err = file->read(file->arg, offset, page, sizeof(page));
    if (err)
        return err;
    const uint8_t *m = page + WR_KVPAGE_HEADER;
    if (wr_kvpage_u64(page) != number || wr_kvpage_u16(page + 10) != WR_KVPAGE_META)
        return damaged(r, number, "not a meta page");
    if (wr_kvpage_u32(m) != META_MAGIC)
        return damaged(r, number, "wrong magic");
    if (wr_kvpage_u32(m + 4) != META_VERSION)
        return damaged(r, number, "wrong format version");
    load_tree(m + 24, &meta->free);
    load_tree(m + 72, &meta->main);
    meta->last_page = wr_kvpage_u64(m + 120);
    meta->txnid = wr_kvpage_u64(m + 128);
    return 0;
}

static bool page_size_valid(uint32_t size)
{
    return size >= WR_KVPAGE_MIN && size <= WR_KVPAGE_MAX && (size & (size - 1)) == 0;
}

static int check_meta(struct wr_kvcheck_result *r, uint64_t number, const struct meta *m)
{
    if (m->last_page < WR_KVPAGE_FIRST - 1 || m->last_page >= UINT32_MAX)
        return damaged(r, number, "last page out of bounds");
    if (m->free.pad != r->page_size)
        return damaged(r, number, "page sizes differ");
    if ((m->free.flags & ~NOSUBDIR) != INTEGERKEY || m->main.flags != 0 || m->main.pad != 0)
        return damaged(r, number, "not the databases of a store");
    return 0;
}

/* Both metas must be sound, the newer counts: commit number n writes page n % 2. */
static int read_metas(const struct wr_kvpage_file *file, struct wr_kvcheck_result *r, struct meta *out)
{
    struct meta m[2];
    memset(r, 0, sizeof(*r));
    if (file->size < 2 * WR_KVPAGE_MIN)
        return damaged(r, 0, "file too short");
    int err = read_meta(file, r, 0, 0, &m[0]);
    if (err)
        return err;
    r->page_size = m[0].free.pad;
    if (!page_size_valid(r->page_size))
        return damaged(r, 0, "page size out of bounds");
    if (file->size < 2 * (uint64_t)r->page_size)
        return damaged(r, 1, "file too short");
    err = read_meta(file, r, 1, r->page_size, &m[1]);
    for (uint64_t i = 0; i < 2 && !err; i++)
        err = check_meta(r, i, &m[i]);
    if (err)
        return err;
    uint64_t newer = m[1].txnid > m[0].txnid;
    bool fresh = m[0].txnid == 0 && m[1].txnid == 0;
    if (!fresh && (m[newer].txnid & 1) != newer)
        return damaged(r, newer, "commit number on the wrong meta page");
    if (!fresh && m[newer].txnid - m[!newer].txnid != 1)
        return damaged(r, newer, "commit numbers do not follow");
    *out = m[newer];
    r->txnid = out->txnid;
    r->entries = out->main.entries;
    r->pages = out->last_page + 1;
    r->root = out->main.root;
    r->depth = out->main.depth;
    return 0;
}

int wr_kvcheck_head(const struct wr_kvpage_file *file, struct wr_kvcheck_result *result)
{
    struct meta meta;
    return read_metas(file, result, &meta);
}

/* ---- pages ------------------------------------------------------------------------------------------ */

/* Notes that pages first .. first + count - 1 are in use. */
static int claim(struct check *c, uint64_t first, uint64_t count)
{
    if (first < WR_KVPAGE_FIRST || count > c->meta.last_page || first > c->meta.last_page + 1 - count)
        return damaged(c->result, first, "page number out of bounds");
    for (uint64_t page = first; page < first + count; page++) {
        uint8_t bit = (uint8_t)(1u << (page & 7));
        if (c->seen[page >> 3] & bit)
            return damaged(c->result, page, "page used twice");
        c->seen[page >> 3] |= bit;
    }
    return 0;
}

static int read_page(struct check *c, uint64_t number, uint8_t *out, size_t len)
{
    if ((number + 1) * c->page_size > c->file->size)
        return damaged(c->result, number, "page beyond the end of the file");
    return c->file->read(c->file->arg, number * c->page_size, out, len);
}

/* ---- trees ------------------------------------------------------------------------------------------- */

static int compare_keys(const struct walk *w, struct wr_bytes a, struct wr_bytes b)
{
    if (!w->free_list)
        return wr_bytes_compare(a, b);
    uint64_t x = wr_kvpage_u64(a.ptr), y = wr_kvpage_u64(b.ptr);
    return (x > y) - (x < y);
}

static bool key_valid(const struct walk *w, struct wr_bytes key)
{
    return w->free_list ? key.len == sizeof(uint64_t) : key.len >= 1 && key.len <= 511;
}

/* Keys ascend and lie in the range. The first key of a branch page means nothing. */
static int check_keys(struct walk *w, uint64_t number, const uint8_t *page, bool leaf, struct range range)
{
    struct wr_kvcheck_result *r = w->c->result;
    struct wr_bytes last = WR_BYTES_NONE;
    for (size_t i = leaf ? 0 : 1; i < wr_kvpage_count(page); i++) {
        struct wr_bytes key = wr_kvpage_key(wr_kvpage_node(page, i));
        if (!key_valid(w, key))
            return damaged(r, number, "key size");
        if (last.ptr && compare_keys(w, last, key) >= 0)
            return damaged(r, number, "keys out of order");
        if ((range.low && compare_keys(w, key, *range.low) < 0) ||
            (range.high && compare_keys(w, key, *range.high) >= 0))
            return damaged(r, number, "key on the wrong page");
        last = key;
    }
    return 0;
}

/* A value on overflow pages: one header, then bytes. */
static int check_overflow(struct walk *w, uint64_t first, size_t len)
{
    struct check *c = w->c;
    uint64_t count = wr_kvpage_run(c->page_size, len);
    uint8_t header[WR_KVPAGE_HEADER];
    int err = claim(c, first, count);
    if (err)
        return err;
    if ((first + count) * c->page_size > c->file->size)
        return damaged(c->result, first, "page beyond the end of the file");
    err = read_page(c, first, header, sizeof(header));
    if (err)
        return err;
    if (wr_kvpage_u64(header) != first || wr_kvpage_u16(header + 10) != WR_KVPAGE_OVERFLOW)
        return damaged(c->result, first, "not an overflow page");
    if (wr_kvpage_u32(header + 12) != count)
        return damaged(c->result, first, "overflow page count");
    w->overflow_pages += count;
    return 0;
}

/* One record of the free list: a count, then page numbers, descending. Long lists stand on overflow
 * pages and are read in pieces. */
static int check_free(struct walk *w, uint64_t page, const uint8_t *node, uint64_t data_offset, size_t len)
{
    struct check *c = w->c;
    uint64_t txnid = wr_kvpage_u64(wr_kvpage_key(node).ptr), last = WR_KVPAGE_NONE;
    if (txnid == 0 || txnid > c->meta.txnid)
        return damaged(c->result, page, "free list of an unknown commit");
    uint64_t head;
    uint8_t piece[512];
    if (len < sizeof(head) || len % sizeof(head))
        return damaged(c->result, page, "free list size");
    int err = c->file->read(c->file->arg, data_offset, piece, sizeof(head));
    if (err)
        return err;
    head = wr_kvpage_u64(piece);
    if (head > len / sizeof(head) - 1)
        return damaged(c->result, page, "free list count");
    uint64_t offset = data_offset + sizeof(head);
    while (head) {
        size_t count = head < sizeof(piece) / 8 ? (size_t)head : sizeof(piece) / 8;
        err = c->file->read(c->file->arg, offset, piece, count * 8);
        for (size_t i = 0; i < count && !err; i++) {
            uint64_t number = wr_kvpage_u64(piece + 8 * i);
            if (number >= last)
                err = damaged(c->result, page, "free list out of order");
            last = number;
            if (!err)
                err = claim(c, number, 1);
        }
        if (err)
            return err;
        offset += count * 8;
        head -= count;
    }
    return 0;
}

static int check_leaf(struct walk *w, uint64_t number, const uint8_t *page)
{
    w->leaf_pages++;
    for (size_t i = 0; i < wr_kvpage_count(page); i++) {
        const uint8_t *node = wr_kvpage_node(page, i);
        struct wr_bytes key = wr_kvpage_key(node);
        size_t len = wr_kvpage_value_len(node);
        uint64_t data = number * w->c->page_size + (uint64_t)(key.ptr + key.len - page);
        int err = 0;
        uint64_t first = wr_kvpage_value_page(node);
        if (first != WR_KVPAGE_NONE) {
            err = check_overflow(w, first, len);
            data = first * w->c->page_size + WR_KVPAGE_HEADER;
        }
        if (!err && w->free_list)
            err = check_free(w, number, node, data, len);
        if (err)
            return err;
        w->entries++;
    }
    return 0;
}

static int check_page(struct walk *w, uint64_t number, unsigned level, struct range range);

static int check_branch(struct walk *w, const uint8_t *page, unsigned level, struct range range)
{
    w->branch_pages++;
    size_t count = wr_kvpage_count(page);
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes low = wr_kvpage_key(wr_kvpage_node(page, i)), high = WR_BYTES_NONE;
        if (i + 1 < count)
            high = wr_kvpage_key(wr_kvpage_node(page, i + 1));
        struct range child = {i ? &low : range.low, i + 1 < count ? &high : range.high};
        int err = check_page(w, wr_kvpage_child(wr_kvpage_node(page, i)), level + 1, child);
        if (err)
            return err;
    }
    return 0;
}

/* Recursion: at most WR_KVCHECK_DEPTH deep, which the tree's depth was checked against. */
static int check_page(struct walk *w, uint64_t number, unsigned level, struct range range)
{
    struct check *c = w->c;
    uint8_t *page = c->pages + level * c->page_size;
    bool leaf = level + 1 == w->tree->depth;
    int err = claim(c, number, 1);
    if (!err)
        err = read_page(c, number, page, c->page_size);
    if (err)
        return err;
    if (wr_kvpage_u64(page) != number)
        return damaged(c->result, number, "page carries another number");
    if (wr_kvpage_u16(page + 10) != (leaf ? WR_KVPAGE_LEAF : WR_KVPAGE_BRANCH))
        return damaged(c->result, number, "wrong kind of page");
    const char *what = wr_kvpage_sound(page, c->page_size, leaf, c->starts);
    err = what ? damaged(c->result, number, what) : 0;
    if (!err)
        err = check_keys(w, number, page, leaf, range);
    if (err)
        return err;
    return leaf ? check_leaf(w, number, page) : check_branch(w, page, level, range);
}

static int check_tree(struct check *c, const struct tree *tree, bool free_list)
{
    struct walk w = {.c = c, .tree = tree, .free_list = free_list};
    if ((tree->root == WR_KVPAGE_NONE) != (tree->depth == 0) || tree->depth > WR_KVCHECK_DEPTH)
        return damaged(c->result, tree->root, "depth of a tree");
    if (tree->depth) {
        int err = check_page(&w, tree->root, 0, (struct range){NULL, NULL});
        if (err)
            return err;
    }
    if (w.branch_pages != tree->branch_pages || w.leaf_pages != tree->leaf_pages ||
        w.overflow_pages != tree->overflow_pages || w.entries != tree->entries)
        return damaged(c->result, tree->root, "counters of a tree");
    return 0;
}

static int check(const struct wr_kvpage_file *file, uint64_t pages_max, bool all,
                 struct wr_kvcheck_result *result)
{
    struct check c = {.file = file, .result = result};
    int err = read_metas(file, result, &c.meta);
    if (err)
        return err;
    if (result->pages > pages_max)
        return damaged(result, result->pages - 1, "more pages than the file may have");
    c.page_size = result->page_size;
    c.seen = wr_alloc((size_t)(result->pages / 8 + 1));
    c.pages = wr_alloc_array(WR_KVCHECK_DEPTH, c.page_size);
    c.starts = wr_alloc(c.page_size / 2);
    err = c.seen && c.pages && c.starts ? 0 : WR_ELIMIT;
    if (!err && all)
        err = check_tree(&c, &c.meta.main, false);
    if (!err)
        err = check_tree(&c, &c.meta.free, true);
    wr_free(c.starts);
    wr_free(c.pages);
    wr_free(c.seen);
    return err;
}

int wr_kvcheck_all(const struct wr_kvpage_file *file, uint64_t pages_max,
                   struct wr_kvcheck_result *result)
{
    return check(file, pages_max, true, result);
}

int wr_kvcheck_free(const struct wr_kvpage_file *file, uint64_t pages_max,
                    struct wr_kvcheck_result *result)
{
    return check(file, pages_max, false, result);
}
