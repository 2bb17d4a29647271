#include "transport/intern.h"

#include <assert.h>
#include <string.h>

#define OVERHEAD 64    /* bytes per value beside its text: the struct, the map's slot, the allocator's */

void wr_intern_init(struct wr_intern *pool, struct wr_limits *limits,
                    const uint8_t seed[static WR_MAP_SEED])
{
    wr_map_init(&pool->map, WR_INTERN_MAX, seed);
    pool->limits = limits;
}

static void free_value(struct wr_intern *pool, struct wr_interned *value)
{
    wr_limits_give(pool->limits, WR_LIMIT_MEMORY, value->len + OVERHEAD);
    wr_free(value);
}

void wr_intern_clear(struct wr_intern *pool)
{
    size_t cursor = 0;
    struct wr_interned *value;
    while ((value = wr_map_next(&pool->map, &cursor)))
        free_value(pool, value);
    wr_map_clear(&pool->map);
}

static struct wr_interned *make(struct wr_intern *pool, struct wr_bytes bytes)
{
    if (bytes.len > UINT32_MAX || !wr_limits_take(pool->limits, WR_LIMIT_MEMORY, bytes.len + OVERHEAD))
        return NULL;
    struct wr_interned *value = wr_alloc(sizeof(*value) + bytes.len + 1);
    if (!value) {
        wr_limits_give(pool->limits, WR_LIMIT_MEMORY, bytes.len + OVERHEAD);
        return NULL;
    }
    value->len = (uint32_t)bytes.len;
    if (bytes.len)
        memcpy(value->bytes, bytes.ptr, bytes.len);
    if (wr_map_put(&pool->map, WR_BYTES(value->bytes, value->len), value) == 0)
        return value;
    free_value(pool, value);
    return NULL;
}

const struct wr_interned *wr_intern_get(struct wr_intern *pool, struct wr_bytes bytes)
{
    struct wr_interned *value = wr_map_get(&pool->map, bytes);
    if (!value)
        value = make(pool, bytes);
    if (value)
        value->refs++;
    return value;
}

void wr_intern_release(struct wr_intern *pool, const struct wr_interned *value)
{
    if (!value)
        return;
    struct wr_interned *own = wr_map_get(&pool->map, WR_BYTES(value->bytes, value->len));
    assert(own == value && own->refs > 0);
    if (--own->refs > 0)
        return;
    wr_map_del(&pool->map, WR_BYTES(own->bytes, own->len));
    free_value(pool, own);
}
