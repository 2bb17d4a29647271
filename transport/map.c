#include "transport/map.h"

#include "transport/err.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#define MAP_CAP_MIN 8                 /* slots of the first allocation */
#define MAP_CAP_MAX ((size_t)1 << 30) /* slots; index entries are 32 bits */

_Static_assert(WR_MAP_SEED == crypto_shorthash_KEYBYTES, "SipHash key");

struct wr_map_slot {
    const uint8_t *key;
    void *value;  /* NULL: a hole */
    size_t order; /* grows with every put; cursors are orders, so they survive compaction */
    uint32_t key_len, hash;
};

/* The index has twice as many entries as there are slots: 0 is empty, else 1 + slot number. Entries
 * of holes stay until the next rebuild, so a probe always ends at an empty one. */
static size_t index_mask(size_t cap)
{
    return 2 * cap - 1;
}

static uint32_t hash_of(const struct wr_map *m, struct wr_bytes key)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint32_t hash;
    crypto_shorthash(out, key.len ? key.ptr : (const uint8_t *)"", key.len, m->seed);
    memcpy(&hash, out, sizeof(hash));
    return hash;
}

void wr_map_init(struct wr_map *m, size_t max, const uint8_t seed[static WR_MAP_SEED])
{
    *m = (struct wr_map){.max = max < MAP_CAP_MAX / 2 ? max : MAP_CAP_MAX / 2};
    memcpy(m->seed, seed, WR_MAP_SEED);
}

void wr_map_clear(struct wr_map *m)
{
    wr_free(m->slots);
    wr_free(m->index);
    m->slots = NULL;
    m->index = NULL;
    m->count = m->used = m->cap = 0;
}

static struct wr_map_slot *find(const struct wr_map *m, struct wr_bytes key, uint32_t hash)
{
    if (!m->count)
        return NULL;
    size_t mask = index_mask(m->cap);
    for (size_t i = hash & mask; m->index[i]; i = (i + 1) & mask) {
        struct wr_map_slot *s = &m->slots[m->index[i] - 1];
        if (s->value && s->hash == hash && wr_bytes_equal(WR_BYTES(s->key, s->key_len), key))
            return s;
    }
    return NULL;
}

static void index_slot(struct wr_map *m, size_t slot)
{
    size_t mask = index_mask(m->cap);
    size_t i = m->slots[slot].hash & mask;
    while (m->index[i])
        i = (i + 1) & mask;
    m->index[i] = (uint32_t)slot + 1;
}

/* Moves the live slots together into `to` (which may be the slots themselves) and indexes them
 * anew; the index is zeroed and fits m->cap. */
static void compact(struct wr_map *m, struct wr_map_slot *to)
{
    size_t n = 0;
    for (size_t i = 0; i < m->used; i++)
        if (m->slots[i].value)
            to[n++] = m->slots[i];
    m->slots = to;
    m->used = n;
    for (size_t i = 0; i < n; i++)
        index_slot(m, i);
}

static int resize(struct wr_map *m, size_t cap)
{
    struct wr_map_slot *slots = wr_alloc_array(cap, sizeof(*slots));
    uint32_t *index = wr_alloc_array(2 * cap, sizeof(*index));
    if (!slots || !index) {
        wr_free(slots);
        wr_free(index);
        return WR_ELIMIT;
    }
    struct wr_map_slot *old = m->slots;
    wr_free(m->index);
    m->index = index;
    m->cap = cap;
    compact(m, slots);
    wr_free(old);
    return 0;
}

/* A free slot behind the last. Up to three quarters full the holes are squeezed out, which pays for
 * itself by the quarter won; beyond that the map doubles. */
static int make_room(struct wr_map *m)
{
    if (m->used < m->cap)
        return 0;
    if (m->count > m->cap / 4 * 3 || !m->cap)
        return resize(m, m->cap ? 2 * m->cap : MAP_CAP_MIN);
    if (m->count < m->cap / 8 && m->cap > MAP_CAP_MIN && resize(m, m->cap / 2) == 0)
        return 0;
    memset(m->index, 0, 2 * m->cap * sizeof(*m->index));
    compact(m, m->slots);
    return 0;
}

int wr_map_put(struct wr_map *m, struct wr_bytes key, void *value)
{
    assert(value && key.len <= UINT32_MAX);
    uint32_t hash = hash_of(m, key);
    if (find(m, key, hash))
        return WR_EEXIST;
    if (m->count >= m->max)
        return WR_ELIMIT;
    int err = make_room(m);
    if (err)
        return err;
    m->slots[m->used] = (struct wr_map_slot){.key = key.ptr,
                                             .value = value,
                                             .order = ++m->order,
                                             .key_len = (uint32_t)key.len,
                                             .hash = hash};
    index_slot(m, m->used);
    m->used++;
    m->count++;
    return 0;
}

void *wr_map_get(const struct wr_map *m, struct wr_bytes key)
{
    const struct wr_map_slot *s = m->count ? find(m, key, hash_of(m, key)) : NULL;
    return s ? s->value : NULL;
}

void *wr_map_del(struct wr_map *m, struct wr_bytes key)
{
    struct wr_map_slot *s = m->count ? find(m, key, hash_of(m, key)) : NULL;
    if (!s)
        return NULL;
    void *value = s->value;
    s->value = NULL;
    s->key = NULL;
    m->count--;
    return value;
}

/* The first slot with an order above `after`. */
static size_t slot_after(const struct wr_map *m, size_t after)
{
    if (!m->used || m->slots[0].order > after)
        return 0;
    size_t guess = after - m->slots[0].order; /* right unless holes were squeezed out before it */
    if (guess < m->used && m->slots[guess].order == after)
        return guess + 1;
    size_t low = 0, high = m->used;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (m->slots[mid].order > after)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

void *wr_map_next(const struct wr_map *m, size_t *cursor)
{
    for (size_t i = slot_after(m, *cursor); i < m->used; i++) {
        *cursor = m->slots[i].order;
        if (m->slots[i].value)
            return m->slots[i].value;
    }
    return NULL;
}
