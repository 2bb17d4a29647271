/* idmap.h - map from 32-bit ids to pointers, for stream tables. Value.
 * Open addressing; an empty map holds no memory. Strangers choose the ids, so the hash takes a salt; with a
 * known salt a lookup may walk past every entry, which is as bounded as the owner keeps the count. */
#ifndef WR_IDMAP_H
#define WR_IDMAP_H

#include <stdint.h>

struct wr_idmap_slot;

struct wr_idmap {
    struct wr_idmap_slot *slots;    /* owned; NULL while empty */
    uint32_t cap, count;            /* cap is 0 or a power of two */
    uint32_t salt;
};

void wr_idmap_init(struct wr_idmap *m, uint32_t salt);
void wr_idmap_clear(struct wr_idmap *m);    /* frees the map, not what it points at */
/* id and value are not 0, id is not in the map. 0, WR_ELIMIT (out of memory). */
int wr_idmap_put(struct wr_idmap *m, uint32_t id, void *value);
void *wr_idmap_get(const struct wr_idmap *m, uint32_t id);    /* or NULL */
void *wr_idmap_del(struct wr_idmap *m, uint32_t id);          /* what was there, or NULL */
/* The next value in no particular order, or NULL at the end. Start with *cursor = 0; no puts and deletes
 * in between. */
void *wr_idmap_next(const struct wr_idmap *m, uint32_t *cursor);

#endif
