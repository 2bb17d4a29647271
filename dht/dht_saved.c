/* Peers remembered on disk: the table of last time, and some who were members once and fell silent.
 * The table brings a restarted node back. The silent ones bring two halves of a network together
 * again that were cut apart for so long that each has forgotten the other: nobody in either would
 * ever hear of the other half, for all whom they ask are in their own. So now and then one of the
 * silent is tried. */
#include "dht/dht_impl.h"
#include "transport/err.h"

#include <string.h>

#define BOOT_PARALLEL 10          /* saved peers tried at once; ours */
#define MEMBERS_MAX   150         /* peers of the table saved; ours */
#define SILENT_MAX    50          /* others; ours */
#define SAVED_BYTES   (48 * 1024) /* of all */
#define ENTRY_BYTES   512         /* that one takes at most; longer addresses are not saved */
#define LOOK_MIN      (10 * WR_MIN) /* between two tries at first, and after one that found somebody; ours */
#define LOOK_MAX      WR_HOUR     /* later; ours */
/* One of so many silent ones tried is dropped: eight hours in vain, or days where there are many; ours. */
#define FORGET_CHANCE 8

/* An entry of the saved list; slices into it. */
struct saved {
    struct wr_bytes id, addr;
};

static struct wr_bytes saved_name(const struct wr_dht *d,
                                  uint8_t room[static WR_STORE_PREFIX_MAX + 1])
{
    memcpy(room, d->store.prefix, d->store.prefix_len);
    room[d->store.prefix_len] = 'b';
    return WR_BYTES(room, d->store.prefix_len + 1u);
}

static bool load(const struct wr_dht *d, struct wr_buf *b)
{
    uint8_t room[WR_STORE_PREFIX_MAX + 1];
    wr_buf_init(b, SAVED_BYTES);
    return wr_kv_get(d->kv, saved_name(d, room), b) == 0;
}

static bool next_saved(struct wr_reader *r, struct saved *entry)
{
    if (r->rest.len == 0)
        return false;
    entry->id = wr_read_prefixed(r);
    entry->addr = wr_read_prefixed(r);
    return !r->bad;
}

/* Decodes an entry of somebody who is not in the table. */
static bool silent(const struct wr_dht *d, const struct saved *entry, struct wr_peerid *id)
{
    struct wr_maddr addr;
    uint8_t key[WR_KAD_KEY];
    if (wr_peerid_decode(entry->id, id) != 0 || wr_maddr_decode(entry->addr, &addr) != 0)
        return false;
    wr_kad_key(wr_peerid_bytes(id), key);
    return !wr_kbucket_find(&d->table, key);
}

static size_t count_silent(const struct wr_dht *d, const struct wr_buf *list)
{
    struct wr_reader r;
    struct saved entry;
    struct wr_peerid id;
    size_t count = 0;
    for (wr_reader_init(&r, wr_buf_bytes(list)); next_saved(&r, &entry);)
        count += silent(d, &entry, &id);
    return count;
}

static void put_entry(struct wr_buf *b, struct wr_bytes id, struct wr_bytes addr)
{
    if (id.len + addr.len + 8 > ENTRY_BYTES || b->len + ENTRY_BYTES > SAVED_BYTES)
        return;
    wr_buf_put_prefixed(b, id);
    wr_buf_put_prefixed(b, addr);
}

/* id and best address of each, the nearest first: they are the hardest to find again. */
static void put_members(struct wr_dht *d, struct wr_buf *b)
{
    const struct wr_kentry *nearest[MEMBERS_MAX];
    struct wr_maddr addr;
    size_t count = wr_kbucket_closest(&d->table, d->table.self, nearest, MEMBERS_MAX);
    for (size_t i = 0; i < count; i++)
        if (wr_peerstore_addrs(wr_swarm_peerstore(d->swarm), &nearest[i]->id, &addr, 1) > 0)
            put_entry(b, wr_peerid_bytes(&nearest[i]->id), wr_maddr_bytes(&addr));
}

/* Those of the old list who are members no more, some at random when they are many. */
static void put_silent(struct wr_dht *d, struct wr_buf *b, const struct wr_peerid *but)
{
    struct wr_buf old;
    struct wr_reader r;
    struct saved entry;
    struct wr_peerid id;
    size_t kept = 0;
    if (load(d, &old)) {
        size_t left = count_silent(d, &old);
        for (wr_reader_init(&r, wr_buf_bytes(&old)); next_saved(&r, &entry);) {
            if (!silent(d, &entry, &id))
                continue;
            if (wr_env_random_below(d->env, left--) >= SILENT_MAX - kept ||
                wr_peerid_equal(&id, but))
                continue;
            put_entry(b, entry.id, entry.addr);
            kept++;
        }
    }
    wr_buf_clear(&old);
}

static void save_but(struct wr_dht *d, const struct wr_peerid *but)
{
    struct wr_buf b;
    uint8_t room[WR_STORE_PREFIX_MAX + 1];
    wr_buf_init(&b, SAVED_BYTES);
    put_members(d, &b);
    /* An empty table is no reason to forget the last good one. */
    if (b.len > 0) {
        put_silent(d, &b, but);
        if (!b.full)
            wr_kv_put(d->kv, saved_name(d, room), wr_buf_bytes(&b));
    }
    wr_buf_clear(&b);
}

void wr_dht_save(struct wr_dht *d)
{
    static const struct wr_peerid nobody;
    save_but(d, &nobody);
}

/* Asks up to `max` at random of those who are not in the table: one start after the other tries
 * others. Returns how many, the last one in *last. */
static size_t try_silent(struct wr_dht *d, size_t max, struct wr_peerid *last)
{
    struct wr_buf list;
    struct wr_reader r;
    struct saved entry;
    struct wr_peerid id;
    size_t tried = 0;
    if (load(d, &list)) {
        size_t left = count_silent(d, &list);
        for (wr_reader_init(&r, wr_buf_bytes(&list)); tried < max && next_saved(&r, &entry);) {
            if (!silent(d, &entry, &id) || wr_env_random_below(d->env, left--) >= max - tried)
                continue;
            *last = id;
            wr_peerstore_add_addr(wr_swarm_peerstore(d->swarm), &id, entry.addr, WR_TTL_DHT, false);
            tried += wr_dht_table_check(d, &id);
        }
    }
    wr_buf_clear(&list);
    return tried;
}

bool wr_dht_has_saved(const struct wr_dht *d)
{
    struct wr_buf list;
    bool has = load(d, &list);
    wr_buf_clear(&list);
    return has;
}

void wr_dht_try_saved(struct wr_dht *d)
{
    struct wr_peerid last;
    (void)try_silent(d, BOOT_PARALLEL, &last);
}

void wr_dht_look_out(struct wr_dht *d, wr_time now)
{
    if (d->look_at == 0)
        d->look_wait = LOOK_MIN;
    if (d->look_at != 0 && now >= d->look_at && d->table.count > 0) {
        if (try_silent(d, 1, &d->looked_for) == 0)
            wr_dht_table_dial_absent(d, &d->looked_for);
        else if (wr_env_random_below(d->env, FORGET_CHANCE) == 0)
            save_but(d, &d->looked_for);
        d->look_wait = d->look_wait * 2 < LOOK_MAX ? d->look_wait * 2 : LOOK_MAX;
    }
    if (d->look_at == 0 || now >= d->look_at)
        d->look_at =
            now + d->look_wait - (wr_time)wr_env_random_below(d->env, (uint64_t)d->look_wait / 2);
}

void wr_dht_looked_for(struct wr_dht *d, const struct wr_peerid *peer)
{
    if (!wr_peerid_equal(peer, &d->looked_for))
        return;
    d->looked_for = (struct wr_peerid){0};
    d->look_wait = LOOK_MIN;
    d->look_at = wr_env_now(d->env) + LOOK_MIN;
    d->found_back = true;
}
