#include "transport/kvtree.h"

#include "transport/err.h"

#include <assert.h>
#include <string.h>

/* Where an entry hangs on each level: the pointers that lead to it. */
struct place {
    struct wr_kvtree_entry **from[WR_KVTREE_LEVELS];
};

void wr_kvtree_init(struct wr_kvtree *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    wr_list_init(&t->ages);
    t->chance = seed;
}

static struct wr_kvtree_entry *entry_of(struct wr_list *age)
{
    return wr_list_entry(age, struct wr_kvtree_entry, age);
}

void wr_kvtree_clear(struct wr_kvtree *t)
{
    struct wr_list *age;
    while ((age = wr_list_pop(&t->ages)))
        wr_free(entry_of(age));
    wr_kvtree_init(t, t->chance);
}

/* One level more with chance 1/4 each. splitmix64. */
static uint8_t draw_levels(struct wr_kvtree *t)
{
    uint64_t z = t->chance += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    uint8_t levels = 1;
    while (levels < WR_KVTREE_LEVELS && (z & 3) == 0) {
        levels++;
        z >>= 2;
    }
    return levels;
}

static size_t entry_size(size_t levels, size_t len)
{
    return sizeof(struct wr_kvtree_entry) + levels * sizeof(struct wr_kvtree_entry *) + len;
}

/* Mean number of levels is 4/3; two are counted, so that the sum does not depend on chance. */
size_t wr_kvtree_cost(struct wr_bytes key, struct wr_bytes value)
{
    return entry_size(2, key.len + value.len);
}

static size_t cost_of(const struct wr_kvtree_entry *e)
{
    return wr_kvtree_cost(e->key, e->value);
}

/* Finds the first entry whose key is not below the given one, and what leads there. */
static struct wr_kvtree_entry *find(struct wr_kvtree *t, struct wr_bytes key, struct place *place)
{
    struct wr_kvtree_entry **links = t->head;
    for (size_t level = WR_KVTREE_LEVELS; level-- > 0;) {
        while (links[level] && wr_bytes_compare(links[level]->key, key) < 0)
            links = links[level]->next;
        place->from[level] = &links[level];
    }
    return *place->from[0];
}

static bool matches(const struct wr_kvtree_entry *e, struct wr_bytes key)
{
    return e && wr_bytes_equal(e->key, key);
}

static void hang_in(struct wr_kvtree *t, struct wr_kvtree_entry *e, const struct place *place)
{
    for (size_t level = 0; level < e->levels; level++) {
        e->next[level] = *place->from[level];
        *place->from[level] = e;
    }
    t->count++;
    t->bytes += cost_of(e);
}

/* Unhooks without freeing. */
static void take_out(struct wr_kvtree *t, struct wr_kvtree_entry *e, const struct place *place)
{
    for (size_t level = 0; level < e->levels; level++)
        *place->from[level] = e->next[level];
    wr_list_remove(&e->age);
    t->count--;
    t->bytes -= cost_of(e);
}

/* In place of the entry with the same key, if any. */
static void put_newest(struct wr_kvtree *t, struct wr_kvtree_entry *e)
{
    struct place place;
    struct wr_kvtree_entry *old = find(t, e->key, &place);
    if (matches(old, e->key)) {
        take_out(t, old, &place);
        wr_free(old);
    }
    hang_in(t, e, &place);
    wr_list_append(&t->ages, &e->age);
}

int wr_kvtree_put(struct wr_kvtree *t, struct wr_bytes key, struct wr_bytes value, bool tombstone)
{
    uint8_t levels = draw_levels(t);
    struct wr_kvtree_entry *e = wr_alloc(entry_size(levels, key.len + value.len));
    if (!e)
        return WR_ELIMIT;
    uint8_t *bytes = (uint8_t *)&e->next[levels];
    if (key.len)
        memcpy(bytes, key.ptr, key.len);
    if (value.len)
        memcpy(bytes + key.len, value.ptr, value.len);
    e->key = WR_BYTES(bytes, key.len);
    e->value = WR_BYTES(bytes + key.len, value.len);
    e->tombstone = tombstone;
    e->levels = levels;
    put_newest(t, e);
    return 0;
}

void wr_kvtree_del(struct wr_kvtree *t, struct wr_bytes key)
{
    struct place place;
    struct wr_kvtree_entry *e = find(t, key, &place);
    if (!matches(e, key))
        return;
    take_out(t, e, &place);
    wr_free(e);
}

/* As find, for a tree that must not change. */
static const struct wr_kvtree_entry *lower_bound(const struct wr_kvtree *t, struct wr_bytes key)
{
    struct wr_kvtree_entry *const *links = t->head;
    for (size_t level = WR_KVTREE_LEVELS; level-- > 0;) {
        while (links[level] && wr_bytes_compare(links[level]->key, key) < 0)
            links = links[level]->next;
    }
    return links[0];
}

const struct wr_kvtree_entry *wr_kvtree_get(const struct wr_kvtree *t, struct wr_bytes key)
{
    const struct wr_kvtree_entry *e = lower_bound(t, key);
    return matches(e, key) ? e : NULL;
}

const struct wr_kvtree_entry *wr_kvtree_seek(const struct wr_kvtree *t, struct wr_bytes key, bool after)
{
    const struct wr_kvtree_entry *e = lower_bound(t, key);
    return after && matches(e, key) ? e->next[0] : e;
}

const struct wr_kvtree_entry *wr_kvtree_next(const struct wr_kvtree_entry *e)
{
    return e->next[0];
}

const struct wr_kvtree_entry *wr_kvtree_oldest(const struct wr_kvtree *t)
{
    return wr_list_empty(&t->ages) ? NULL : entry_of(t->ages.next);
}

void wr_kvtree_merge_older(struct wr_kvtree *t, struct wr_kvtree *older)
{
    while (!wr_list_empty(&older->ages)) {
        struct wr_kvtree_entry *e = entry_of(older->ages.prev);    /* its newest first */
        struct place place;
        wr_list_remove(&e->age);
        if (matches(find(t, e->key, &place), e->key)) {
            wr_free(e);
            continue;
        }
        hang_in(t, e, &place);
        wr_list_insert(t->ages.next, &e->age);
    }
    wr_kvtree_init(older, older->chance);
}

void wr_kvtree_merge_newer(struct wr_kvtree *t, struct wr_kvtree *newer)
{
    struct wr_list *age;
    while ((age = wr_list_pop(&newer->ages)))
        put_newest(t, entry_of(age));
    wr_kvtree_init(newer, newer->chance);
}

void wr_kvtree_move(struct wr_kvtree *t, struct wr_kvtree *from)
{
    assert(t->count == 0);
    memcpy(t->head, from->head, sizeof(t->head));
    t->count = from->count;
    t->bytes = from->bytes;
    if (!wr_list_empty(&from->ages)) {
        wr_list_insert(from->ages.next, &t->ages);    /* the ring changes heads */
        wr_list_remove(&from->ages);
    }
    wr_kvtree_init(from, from->chance);
}
