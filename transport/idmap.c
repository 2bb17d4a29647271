#include "transport/idmap.h"

#include "transport/bytes.h"
#include "transport/err.h"

#include <assert.h>

#define CAP_MIN 4u    /* slots; a connection often carries one or two streams */

struct wr_idmap_slot {
    void *value;
    uint32_t id;    /* 0: empty */
};

void wr_idmap_init(struct wr_idmap *m, uint32_t salt)
{
    *m = (struct wr_idmap){.salt = salt};
}

void wr_idmap_clear(struct wr_idmap *m)
{
    wr_free(m->slots);
    wr_idmap_init(m, m->salt);
}

/* Where id would stand if nothing else were there. */
static uint32_t home(const struct wr_idmap *m, uint32_t id)
{
    uint64_t x = (id ^ m->salt) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93) ^ m->salt;
    return (uint32_t)(x >> 32) & (m->cap - 1);
}

/* The slot of id, or the empty one where it would go. The map must not be full. */
static uint32_t find(const struct wr_idmap *m, uint32_t id)
{
    uint32_t at = home(m, id);
    while (m->slots[at].id != 0 && m->slots[at].id != id)
        at = (at + 1) & (m->cap - 1);
    return at;
}

static int resize(struct wr_idmap *m, uint32_t cap)
{
    struct wr_idmap_slot *old = m->slots;
    uint32_t old_cap = m->cap;
    struct wr_idmap_slot *slots = wr_alloc_array(cap, sizeof(*slots));
    if (!slots)
        return WR_ELIMIT;
    m->slots = slots;
    m->cap = cap;
    for (uint32_t i = 0; i < old_cap; i++) {
        if (old[i].id)
            slots[find(m, old[i].id)] = old[i];
    }
    wr_free(old);
    return 0;
}

int wr_idmap_put(struct wr_idmap *m, uint32_t id, void *value)
{
    assert(id != 0 && value);
    /* three quarters full at most */
    if (m->count >= m->cap / 4 * 3) {
        if (m->cap > UINT32_MAX / 2)
            return WR_ELIMIT;
        int rc = resize(m, m->cap ? m->cap * 2 : CAP_MIN);
        if (rc < 0)
            return rc;
    }
    struct wr_idmap_slot *slot = &m->slots[find(m, id)];
    assert(slot->id == 0);
    *slot = (struct wr_idmap_slot){.id = id, .value = value};
    m->count++;
    return 0;
}

void *wr_idmap_get(const struct wr_idmap *m, uint32_t id)
{
    return m->count && id ? m->slots[find(m, id)].value : NULL;
}

/* Moves later entries of the run up into the hole, so that no run is ever broken. */
static void close_hole(struct wr_idmap *m, uint32_t hole)
{
    uint32_t mask = m->cap - 1;
    for (uint32_t at = (hole + 1) & mask; m->slots[at].id; at = (at + 1) & mask) {
        uint32_t from_home = (at - home(m, m->slots[at].id)) & mask;
        if (from_home >= ((at - hole) & mask)) {
            m->slots[hole] = m->slots[at];
            hole = at;
        }
    }
    m->slots[hole] = (struct wr_idmap_slot){0};
}

void *wr_idmap_del(struct wr_idmap *m, uint32_t id)
{
    if (!m->count || !id)
        return NULL;
    uint32_t at = find(m, id);
    void *value = m->slots[at].value;
    if (!value)
        return NULL;
    close_hole(m, at);
    m->count--;
    if (m->count == 0)
        wr_idmap_clear(m);
    else if (m->cap > CAP_MIN && m->count <= m->cap / 8)
        resize(m, m->cap / 2);    /* out of memory: stays large */
    return value;
}

void *wr_idmap_next(const struct wr_idmap *m, uint32_t *cursor)
{
    while (*cursor < m->cap) {
        const struct wr_idmap_slot *slot = &m->slots[(*cursor)++];
        if (slot->id)
            return slot->value;
    }
    return NULL;
}
