/* map.h - bounded hash map from bytes to pointers, iterated in insertion order. Value.
 * Strangers choose the keys, so the hash is SipHash under a seed of the owner's (env.h has one), and
 * the map has a ceiling. Insertion order makes simulated runs replay. */
#ifndef WR_MAP_H
#define WR_MAP_H

#include "transport/bytes.h"

#define WR_MAP_SEED 16    /* bytes */

struct wr_map_slot;

struct wr_map {
    struct wr_map_slot *slots;    /* owned; insertion order, holes where entries were deleted */
    uint32_t *index;              /* owned; open addressing over slots */
    size_t count, used, cap, max;
    size_t order;                 /* of the newest entry */
    uint8_t seed[WR_MAP_SEED];
};

void wr_map_init(struct wr_map *m, size_t max, const uint8_t seed[static WR_MAP_SEED]);
void wr_map_clear(struct wr_map *m);    /* frees the map, not what it points at */
/* The key bytes are borrowed for as long as the entry lives: keep them inside the value, which is not
 * NULL. 0; WR_EEXIST, WR_ELIMIT (full or out of memory): nothing changed. */
int wr_map_put(struct wr_map *m, struct wr_bytes key, void *value);
void *wr_map_get(const struct wr_map *m, struct wr_bytes key);    /* or NULL */
void *wr_map_del(struct wr_map *m, struct wr_bytes key);          /* what was there, or NULL */
/* The next value in insertion order, or NULL at the end. Start with *cursor = 0. Any entry
 * may be deleted between calls, and others put: those come at the end. */
void *wr_map_next(const struct wr_map *m, size_t *cursor);

#endif
