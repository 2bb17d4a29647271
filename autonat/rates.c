#include "autonat/rates.h"

struct bucket {
    struct wr_ip key;
    struct wr_list node;
    wr_time full_at; /* when every token is back */
};

static struct wr_bytes key_of(const struct wr_ip *ip)
{
    return WR_BYTES(ip, sizeof(*ip));
}

void wr_rates_init(struct wr_rates *r, size_t max, unsigned burst, wr_time interval,
                   const uint8_t seed[static WR_MAP_SEED])
{
    wr_map_init(&r->map, max, seed);
    wr_list_init(&r->order);
    r->max = max;
    r->burst = burst;
    r->interval = interval;
}

static void drop(struct wr_rates *r, struct bucket *b)
{
    wr_map_del(&r->map, key_of(&b->key));
    wr_list_remove(&b->node);
    wr_free(b);
}

void wr_rates_clear(struct wr_rates *r)
{
    while (!wr_list_empty(&r->order))
        drop(r, wr_list_entry(r->order.next, struct bucket, node));
    wr_map_clear(&r->map);
}

static bool has_token(const struct wr_rates *r, const struct bucket *b, wr_time now)
{
    return b->full_at <= now || b->full_at - now <= (wr_time)(r->burst - 1) * r->interval;
}

bool wr_rates_left(const struct wr_rates *r, const struct wr_ip *key, wr_time now)
{
    const struct bucket *b = wr_map_get(&r->map, key_of(key));
    return !b || has_token(r, b, now);
}

static struct bucket *make(struct wr_rates *r, const struct wr_ip *key)
{
    if (r->map.count >= r->max)
        drop(r, wr_list_entry(r->order.next, struct bucket, node));
    struct bucket *b = wr_alloc(sizeof(*b));
    if (!b)
        return NULL;
    b->key = *key;
    wr_list_init(&b->node);
    if (wr_map_put(&r->map, key_of(&b->key), b) == 0)
        return b;
    wr_free(b);
    return NULL;
}

bool wr_rates_take(struct wr_rates *r, const struct wr_ip *key, wr_time now)
{
    struct bucket *b = wr_map_get(&r->map, key_of(key));
    if (!b)
        b = make(r, key);
    if (!b || !has_token(r, b, now))
        return false;
    b->full_at = (b->full_at > now ? b->full_at : now) + r->interval;
    wr_list_remove(&b->node);
    wr_list_append(&r->order, &b->node);
    return true;
}

void wr_rates_give(struct wr_rates *r, const struct wr_ip *key)
{
    struct bucket *b = wr_map_get(&r->map, key_of(key));
    if (b)
        b->full_at -= r->interval;
}

void wr_rates_forget(struct wr_rates *r, const struct wr_ip *key)
{
    struct bucket *b = wr_map_get(&r->map, key_of(key));
    if (b)
        drop(r, b);
}
