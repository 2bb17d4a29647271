/* intern.h - one counted copy of bytes that many share. Value.
 * Peers announce the same protocol lists and agent names; a copy each would be most of what a node
 * remembers of them. Bytes count under limit MEMORY while somebody holds them. */
#ifndef WR_INTERN_H
#define WR_INTERN_H

#include "transport/limits.h"
#include "transport/map.h"

#define WR_INTERN_MAX (1u << 18)    /* different values; three per peer of the largest peerstore */

struct wr_interned {
    uint32_t refs;
    uint32_t len;
    uint8_t bytes[];    /* len, and a NUL behind them */
};

struct wr_intern {
    struct wr_map map;
    struct wr_limits *limits;
};

void wr_intern_init(struct wr_intern *pool, struct wr_limits *limits,
                    const uint8_t seed[static WR_MAP_SEED]);
/* Frees everything, held or not. */
void wr_intern_clear(struct wr_intern *pool);
/* The shared copy, counted once more; NULL: no memory. Let go with wr_intern_release. */
const struct wr_interned *wr_intern_get(struct wr_intern *pool, struct wr_bytes bytes);
void wr_intern_release(struct wr_intern *pool, const struct wr_interned *value);    /* NULL is allowed */

#endif
