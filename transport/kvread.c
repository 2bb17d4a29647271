#include "transport/kvread.h"

#include "transport/err.h"

#include <string.h>

static int damaged(struct wr_kvread *r, uint64_t page, const char *what)
{
    r->what = what;
    r->where = page;
    return WR_ECORRUPT;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static uint8_t *page_of(const struct wr_kvread *r, unsigned level)
{
    return r->memory + (size_t)level * r->head.page_size;
}

static int read_bytes(struct wr_kvread *r, uint64_t page, uint64_t offset, uint8_t *out, size_t len)
{
    uint64_t from = page * r->head.page_size + offset;
    if (from + len > r->file.size)
        return damaged(r, page, "page beyond the end of the file");
    int err = r->file.read(r->file.arg, from, out, len);
    return err == WR_ECORRUPT ? damaged(r, page, "page cannot be read") : err;
}

static int read_page(struct wr_kvread *r, uint64_t number, bool leaf, uint8_t *out)
{
    size_t size = r->head.page_size;
    if (number < WR_KVPAGE_FIRST || number >= r->head.pages)
        return damaged(r, number, "page number out of bounds");
    int err = read_bytes(r, number, 0, out, size);
    if (err)
        return err;
    if (wr_kvpage_number(out) != number)
        return damaged(r, number, "page carries another number");
    if (wr_kvpage_flags(out) != (leaf ? WR_KVPAGE_LEAF : WR_KVPAGE_BRANCH))
        return damaged(r, number, "wrong kind of page");
    const char *what = wr_kvpage_sound(out, size, leaf, page_of(r, r->head.depth + 1));
    return what ? damaged(r, number, what) : 0;
}

/* Has the page in its level's place. */
static int hold(struct wr_kvread *r, unsigned level, uint64_t number)
{
    if (r->number[level] == number)
        return 0;
    r->number[level] = WR_KVPAGE_NONE;
    int err = read_page(r, number, level + 1 == r->head.depth, page_of(r, level));
    if (!err)
        r->number[level] = number;
    return err;
}

/* ---- open ------------------------------------------------------------------------------------ */

int wr_kvread_open(struct wr_kvread *r, const struct wr_kvpage_file *file,
                   const struct wr_kvcheck_result *head)
{
    r->file = *file;
    r->head = *head;
    r->last_len = 0;
    for (size_t i = 0; i < WR_KVCHECK_DEPTH; i++)
        r->number[i] = WR_KVPAGE_NONE;
    if (!r->value.max)
        wr_buf_init(&r->value, WR_KVREAD_VALUE_MAX);
    if (head->depth > WR_KVCHECK_DEPTH || (head->depth == 0) != (head->root == WR_KVPAGE_NONE))
        return damaged(r, head->root, "depth of the tree");
    size_t need = (r->head.depth + 2) * (size_t)r->head.page_size;
    if (need > r->memory_len) {
        uint8_t *more = wr_realloc(r->memory, need);
        if (!more)
            return WR_ELIMIT;
        r->memory = more;
        r->memory_len = need;
    }
    return 0;
}

void wr_kvread_clear(struct wr_kvread *r)
{
    wr_free(r->memory);
    wr_buf_clear(&r->value);
    memset(r, 0, sizeof(*r));
}

/* ---- the cursor ------------------------------------------------------------------------------ */

/* A branch: the child that has the key. A leaf: the first node whose key is not before it, or the
 * count. */
static size_t place_of(const uint8_t *page, struct wr_bytes key, bool leaf)
{
    size_t low = leaf ? 0 : 1, high = wr_kvpage_count(page);
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = wr_bytes_compare(wr_kvpage_key(wr_kvpage_node(page, mid)), key);
        if (order < 0 || (!leaf && order == 0))
            low = mid + 1;
        else
            high = mid;
    }
    return leaf ? low : low - 1;
}

/* From the root to the leaf that has the key. */
static int descend(struct wr_kvread *r, struct wr_bytes key)
{
    uint64_t number = r->head.root;
    for (unsigned level = 0; level < r->head.depth; level++) {
        bool leaf = level + 1 == r->head.depth;
        int err = hold(r, level, number);
        if (err)
            return err;
        r->at[level] = place_of(page_of(r, level), key, leaf);
        if (!leaf)
            number = wr_kvpage_child(wr_kvpage_node(page_of(r, level), r->at[level]));
    }
    return 0;
}

/* From behind the end of a leaf to the start of the next one: 1, 0 at the end of the tree. */
static int next_leaf(struct wr_kvread *r)
{
    unsigned level = r->head.depth - 1;
    while (level > 0 && r->at[level - 1] + 1 == wr_kvpage_count(page_of(r, level - 1)))
        level--;
    if (level == 0)
        return 0;
    r->at[level - 1]++;
    for (; level < r->head.depth; level++) {
        const uint8_t *above = page_of(r, level - 1);
        int err = hold(r, level, wr_kvpage_child(wr_kvpage_node(above, r->at[level - 1])));
        if (err)
            return err;
        r->at[level] = 0;
    }
    return 1;
}

/* The header of a value's pages. */
static int check_run(struct wr_kvread *r, uint64_t first, size_t len)
{
    uint8_t header[WR_KVPAGE_HEADER];
    uint64_t count = wr_kvpage_run(r->head.page_size, len);
    if (first < WR_KVPAGE_FIRST || count > r->head.pages || first > r->head.pages - count)
        return damaged(r, first, "page number out of bounds");
    int err = read_bytes(r, first, 0, header, sizeof(header));
    if (err)
        return err;
    if (wr_kvpage_number(header) != first || wr_kvpage_flags(header) != WR_KVPAGE_OVERFLOW ||
        wr_kvpage_u32(header + 12) != count)
        return damaged(r, first, "not the pages of a value");
    return 0;
}

static int read_value(struct wr_kvread *r, const uint8_t *node, struct wr_bytes *value)
{
    struct wr_bytes key = wr_kvpage_key(node);
    size_t len = wr_kvpage_value_len(node);
    uint64_t first = wr_kvpage_value_page(node);
    if (first == WR_KVPAGE_NONE) {
        *value = WR_BYTES(key.ptr + key.len, len);
        return 0;
    }
    if (len > WR_KVREAD_VALUE_MAX)
        return damaged(r, first, "size of a value");
    int err = check_run(r, first, len);
    if (err)
        return err;
    wr_buf_reset(&r->value);
    if (!wr_buf_reserve(&r->value, len))
        return WR_ELIMIT;
    err = read_bytes(r, first, WR_KVPAGE_HEADER, r->value.data, len);
    *value = WR_BYTES(r->value.data, len);
    return err;
}

/* The record that the cursor is at, or the first of the next leaf. Keys ascend, so every walk ends.
 */
static int take(struct wr_kvread *r, struct wr_bytes *found, struct wr_bytes *value)
{
    unsigned leaf = r->head.depth - 1;
    if (r->at[leaf] == wr_kvpage_count(page_of(r, leaf))) {
        int rc = next_leaf(r);
        if (rc <= 0)
            return rc;
    }
    const uint8_t *node = wr_kvpage_node(page_of(r, leaf), r->at[leaf]);
    *found = wr_kvpage_key(node);
    if (found->len == 0 || found->len > sizeof(r->last))
        return damaged(r, r->number[leaf], "key size");
    if (r->last_len && wr_bytes_compare(WR_BYTES(r->last, r->last_len), *found) >= 0)
        return damaged(r, r->number[leaf], "keys out of order");
    memcpy(r->last, found->ptr, found->len);
    r->last_len = found->len;
    int err = read_value(r, node, value);
    return err ? err : 1;
}

int wr_kvread_seek(struct wr_kvread *r, struct wr_bytes key, bool after, struct wr_bytes *found,
                   struct wr_bytes *value)
{
    r->last_len = 0;
    if (r->head.depth == 0)
        return 0;
    int rc = descend(r, key);
    if (!rc)
        rc = take(r, found, value);
    if (rc == 1 && after && wr_bytes_equal(key, *found))
        rc = wr_kvread_next(r, found, value);
    return rc;
}

int wr_kvread_next(struct wr_kvread *r, struct wr_bytes *found, struct wr_bytes *value)
{
    r->at[r->head.depth - 1]++;
    return take(r, found, value);
}

/* ---- ahead of a commit ----------------------------------------------------------------------- */

static bool saw(uint8_t *seen, uint64_t number)
{
    uint8_t bit = (uint8_t)(1u << (number & 7));
    bool before = seen[number >> 3] & bit;
    seen[number >> 3] |= bit;
    return before;
}

/* A page of this level and, below it, the first one on each: where LMDB looks for the lowest key.
 */
static int look_down(struct wr_kvread *r, unsigned level, uint64_t number, uint8_t *seen)
{
    uint8_t *page = page_of(r, r->head.depth);
    for (; level < r->head.depth; level++) {
        bool leaf = level + 1 == r->head.depth;
        if (number < r->head.pages && saw(seen, number))
            return 0;
        int err = read_page(r, number, leaf, page);
        if (err || leaf)
            return err;
        number = wr_kvpage_child(wr_kvpage_node(page, 0));
    }
    return 0;
}

static int look_beside(struct wr_kvread *r, uint8_t *seen)
{
    for (unsigned level = 1; level < r->head.depth; level++) {
        const uint8_t *above = page_of(r, level - 1);
        for (size_t i = 0; i < wr_kvpage_count(above); i++) {
            int err = look_down(r, level, wr_kvpage_child(wr_kvpage_node(above, i)), seen);
            if (err)
                return err;
        }
    }
    return 0;
}

int wr_kvread_touch(struct wr_kvread *r, struct wr_bytes key, bool deleted, uint8_t *seen)
{
    if (r->head.depth == 0)
        return 0;
    int err = descend(r, key);
    if (err)
        return err;
    unsigned leaf = r->head.depth - 1;
    if (r->at[leaf] < wr_kvpage_count(page_of(r, leaf))) {
        const uint8_t *node = wr_kvpage_node(page_of(r, leaf), r->at[leaf]);
        uint64_t first = wr_kvpage_value_page(node);
        if (first != WR_KVPAGE_NONE && wr_bytes_equal(wr_kvpage_key(node), key))
            err = check_run(r, first, wr_kvpage_value_len(node));
    }
    return !err && deleted ? look_beside(r, seen) : err;
}
