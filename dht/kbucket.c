#include "dht/kbucket.h"

#include "transport/err.h"
#include "transport/multihash.h"

#include <assert.h>
#include <string.h>

#define NO_VICTIM SIZE_MAX

struct wr_kbucket_slot {
    struct wr_kentry entries[WR_KBUCKET_SIZE];
    size_t count;
    wr_time refresh_at, interval;
    bool gained; /* somebody came in since the last refresh */
};

/* ---- the key space -------------------------------------------------------------------------- */

void wr_kad_key(struct wr_bytes of, uint8_t out[static WR_KAD_KEY])
{
    wr_sha256(of, out);
}

unsigned wr_kad_cpl(const uint8_t a[static WR_KAD_KEY], const uint8_t b[static WR_KAD_KEY])
{
    for (unsigned i = 0; i < WR_KAD_KEY; i++) {
        unsigned x = (unsigned)(a[i] ^ b[i]);
        if (x)
            return i * 8 + (unsigned)__builtin_clz(x) - 24;
    }
    return WR_KAD_KEY * 8;
}

double wr_kad_share(const uint8_t a[static WR_KAD_KEY], const uint8_t b[static WR_KAD_KEY])
{
    double share = 0;
    /* 64 bits are more than a double tells apart. */
    for (size_t i = 8; i-- > 0;)
        share = (share + (uint8_t)(a[i] ^ b[i])) / 256;
    return share;
}

int wr_kad_compare(const uint8_t target[static WR_KAD_KEY], const uint8_t a[static WR_KAD_KEY],
                   const uint8_t b[static WR_KAD_KEY])
{
    for (size_t i = 0; i < WR_KAD_KEY; i++) {
        if (a[i] != b[i])
            return (a[i] ^ target[i]) < (b[i] ^ target[i]) ? -1 : 1;
    }
    return 0;
}

/* ---- lookup --------------------------------------------------------------------------------- */

void wr_kbucket_init(struct wr_kbucket *t, const uint8_t self[static WR_KAD_KEY], size_t max)
{
    memset(t, 0, sizeof(*t));
    memcpy(t->self, self, WR_KAD_KEY);
    t->max = max;
}

void wr_kbucket_clear(struct wr_kbucket *t)
{
    wr_free(t->buckets);
    t->buckets = NULL;
    t->bucket_count = t->count = 0;
}

static size_t bucket_of(const struct wr_kbucket *t, const uint8_t key[static WR_KAD_KEY])
{
    size_t cpl = wr_kad_cpl(t->self, key);
    return cpl < t->bucket_count ? cpl : t->bucket_count - 1;
}

static struct wr_kentry *find_in(struct wr_kbucket_slot *b, const uint8_t key[static WR_KAD_KEY])
{
    for (size_t i = 0; i < b->count; i++) {
        if (memcmp(b->entries[i].key, key, WR_KAD_KEY) == 0)
            return &b->entries[i];
    }
    return NULL;
}

struct wr_kentry *wr_kbucket_find(const struct wr_kbucket *t, const uint8_t key[static WR_KAD_KEY])
{
    return t->bucket_count ? find_in(&t->buckets[bucket_of(t, key)], key) : NULL;
}

/* The n nearest so far, sorted; out[0..have) came from nearer buckets and stays in front. */
struct nearest {
    const uint8_t *target;
    const struct wr_kentry **out;
    size_t n, have, fixed;
};

static void nearest_offer(struct nearest *best, const struct wr_kbucket_slot *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct wr_kentry *e = &b->entries[i];
        size_t at = best->have;
        while (at > best->fixed && wr_kad_compare(best->target, e->key, best->out[at - 1]->key) < 0)
            at--;
        if (at >= best->n)
            continue;
        size_t last = best->have < best->n ? best->have : best->n - 1;
        memmove(&best->out[at + 1], &best->out[at], (last - at) * sizeof(best->out[0]));
        best->out[at] = e;
        best->have = last + 1;
    }
}

/* With c bits in common between target and ourselves, bucket c shares more than c bits with the
 * target, all deeper buckets exactly c, and bucket i < c exactly i: in that order nothing farther
 * comes first. */
size_t wr_kbucket_closest(const struct wr_kbucket *t, const uint8_t target[static WR_KAD_KEY],
                          const struct wr_kentry **out, size_t n)
{
    struct nearest best = {.target = target, .out = out, .n = n};
    if (t->bucket_count == 0)
        return 0;
    size_t home = bucket_of(t, target);
    nearest_offer(&best, &t->buckets[home]);
    best.fixed = best.have;
    if (best.have < n) {
        for (size_t i = home + 1; i < t->bucket_count; i++)
            nearest_offer(&best, &t->buckets[i]);
    }
    for (size_t i = home; best.have < n && i-- > 0;) {
        best.fixed = best.have;
        nearest_offer(&best, &t->buckets[i]);
    }
    return best.have;
}

struct wr_kentry *wr_kbucket_next(const struct wr_kbucket *t, size_t *cursor)
{
    for (; *cursor < t->bucket_count * WR_KBUCKET_SIZE; ++*cursor) {
        struct wr_kbucket_slot *b = &t->buckets[*cursor / WR_KBUCKET_SIZE];
        size_t i = *cursor % WR_KBUCKET_SIZE;
        if (i < b->count) {
            ++*cursor;
            return &b->entries[i];
        }
    }
    return NULL;
}

/* ---- admission ------------------------------------------------------------------------------ */

static bool shares_group(const struct wr_kentry *e, uint64_t group)
{
    return wr_ipgroup_has(e->groups, group);
}

/* The address groups of `entry` leave room for it in bucket `home`, not counting `without`. */
static bool groups_allow(const struct wr_kbucket *t, size_t home, const struct wr_kentry *entry,
                         const struct wr_kentry *without)
{
    for (size_t g = 0; g < WR_IPGROUPS_MAX && entry->groups[g] != WR_IPGROUP_NONE; g++) {
        size_t in_table = 0, in_bucket = 0;
        for (size_t i = 0; i < t->bucket_count; i++) {
            const struct wr_kbucket_slot *b = &t->buckets[i];
            for (size_t j = 0; j < b->count; j++) {
                if (&b->entries[j] == without || !shares_group(&b->entries[j], entry->groups[g]))
                    continue;
                in_table++;
                in_bucket += i == home;
            }
        }
        if (in_table >= WR_KBUCKET_GROUP_MAX || in_bucket >= WR_KBUCKET_GROUP_BUCKET)
            return false;
    }
    return true;
}

static bool may_go(const struct wr_kentry *e, wr_time now)
{
    return e->replaceable || now - e->useful_at > WR_KBUCKET_USELESS_AFTER;
}

/* 0 with *victim the index to overwrite in bucket home, or NO_VICTIM for a free slot; else why not.
 */
static int find_place(const struct wr_kbucket *t, size_t home, const struct wr_kentry *entry,
                      wr_time now, size_t *victim)
{
    const struct wr_kbucket_slot *b = &t->buckets[home];
    bool room = b->count < WR_KBUCKET_SIZE && t->count < t->max;
    bool diverse = groups_allow(t, home, entry, NULL);
    *victim = NO_VICTIM;
    if (room && diverse)
        return 0;
    for (size_t i = 0; i < b->count; i++) {
        const struct wr_kentry *e = &b->entries[i];
        if (!may_go(e, now) ||
            (*victim != NO_VICTIM && e->useful_at >= b->entries[*victim].useful_at))
            continue;
        if (diverse || groups_allow(t, home, entry, e))
            *victim = i;
    }
    if (*victim != NO_VICTIM)
        return 0;
    if (!diverse)
        return WR_EGATED;
    return b->count == WR_KBUCKET_SIZE ? WR_EFULL : WR_ELIMIT;
}

/* Appends an empty bucket. */
static bool grow(struct wr_kbucket *t, wr_time now)
{
    struct wr_kbucket_slot *more =
        wr_realloc(t->buckets, (t->bucket_count + 1) * sizeof(t->buckets[0]));
    if (!more)
        return false;
    t->buckets = more;
    struct wr_kbucket_slot *b = &t->buckets[t->bucket_count++];
    memset(b, 0, sizeof(*b));
    b->interval = WR_KBUCKET_REFRESH_MIN;
    b->refresh_at = now;
    return true;
}

/* Moves the entries that share more bits with us than the last bucket's number into a new one. */
static bool split_last(struct wr_kbucket *t, wr_time now)
{
    if (!grow(t, now))
        return false;
    struct wr_kbucket_slot *from = &t->buckets[t->bucket_count - 2], *to = from + 1;
    size_t kept = 0;
    for (size_t i = 0; i < from->count; i++) {
        bool deeper = wr_kad_cpl(t->self, from->entries[i].key) > t->bucket_count - 2;
        struct wr_kentry *place = deeper ? &to->entries[to->count++] : &from->entries[kept++];
        if (place != &from->entries[i])
            *place = from->entries[i];
    }
    from->count = kept;
    to->gained = to->count > 0;
    return true;
}

static bool can_split(const struct wr_kbucket *t, size_t home)
{
    return home + 1 == t->bucket_count && t->buckets[home].count == WR_KBUCKET_SIZE &&
           t->count < t->max && t->bucket_count <= WR_KBUCKET_CPL_MAX;
}

bool wr_kbucket_wants(const struct wr_kbucket *t, const struct wr_kentry *entry, wr_time now)
{
    size_t victim;
    if (memcmp(entry->key, t->self, WR_KAD_KEY) == 0)
        return false;
    if (t->bucket_count == 0)
        return t->max > 0;
    size_t home = bucket_of(t, entry->key);
    if (find_in(&t->buckets[home], entry->key))
        return false;
    int rc = find_place(t, home, entry, now, &victim);
    /* After a split there may be room, also for one more of a group. */
    return rc == 0 || can_split(t, home);
}

static void renew(struct wr_kentry *old, const struct wr_kentry *entry, wr_time now)
{
    memcpy(old->groups, entry->groups, sizeof(old->groups));
    old->useful_at = old->success_at = now;
}

int wr_kbucket_add(struct wr_kbucket *t, const struct wr_kentry *entry, bool replaceable,
                   wr_time now, struct wr_peerid *evicted)
{
    size_t victim;
    if (evicted)
        evicted->len = 0;
    if (memcmp(entry->key, t->self, WR_KAD_KEY) == 0)
        return WR_ESELF;
    if (t->bucket_count == 0 && !grow(t, now))
        return WR_ELIMIT;
    size_t home = bucket_of(t, entry->key);
    struct wr_kentry *old = find_in(&t->buckets[home], entry->key);
    if (old) {
        renew(old, entry, now);
        return 0;
    }
    while (can_split(t, home)) {
        if (!split_last(t, now))
            return WR_ELIMIT;
        home = bucket_of(t, entry->key);
    }
    int rc = find_place(t, home, entry, now, &victim);
    if (rc != 0)
        return rc;
    struct wr_kbucket_slot *b = &t->buckets[home];
    if (victim == NO_VICTIM) {
        victim = b->count++;
        t->count++;
    } else if (evicted) {
        *evicted = b->entries[victim].id;
    }
    b->entries[victim] = *entry;
    b->entries[victim].added_at = b->entries[victim].useful_at = b->entries[victim].success_at =
        now;
    b->entries[victim].replaceable = replaceable;
    b->gained = true;
    return 1;
}

bool wr_kbucket_remove(struct wr_kbucket *t, const uint8_t key[static WR_KAD_KEY])
{
    struct wr_kentry *e = wr_kbucket_find(t, key);
    if (!e)
        return false;
    struct wr_kbucket_slot *b = &t->buckets[bucket_of(t, key)];
    *e = b->entries[--b->count];
    t->count--;
    return true;
}

void wr_kbucket_settle(struct wr_kbucket *t)
{
    size_t cursor = 0;
    for (struct wr_kentry *e; (e = wr_kbucket_next(t, &cursor));)
        e->replaceable = false;
}

/* ---- upkeep --------------------------------------------------------------------------------- */

/* When the bucket needs refreshing next, all being as it is now. */
static wr_time due_at(const struct wr_kbucket_slot *b)
{
    if (b->count < WR_KBUCKET_SIZE)
        return b->refresh_at;
    wr_time oldest = b->entries[0].success_at;
    for (size_t i = 1; i < b->count; i++) {
        if (b->entries[i].success_at < oldest)
            oldest = b->entries[i].success_at;
    }
    wr_time stale_at = oldest + WR_KBUCKET_CHECK_AFTER;
    return stale_at > b->refresh_at ? stale_at : b->refresh_at;
}

bool wr_kbucket_refresh_due(const struct wr_kbucket *t, wr_time now, unsigned *cpl)
{
    for (size_t i = 0; i < t->bucket_count; i++) {
        if (due_at(&t->buckets[i]) <= now) {
            *cpl = (unsigned)i;
            return true;
        }
    }
    return false;
}

wr_time wr_kbucket_refresh_at(const struct wr_kbucket *t)
{
    wr_time first = 0;
    for (size_t i = 0; i < t->bucket_count; i++) {
        wr_time at = due_at(&t->buckets[i]);
        if (first == 0 || at < first)
            first = at;
    }
    return first;
}

static void refreshed(struct wr_kbucket_slot *b, wr_time now)
{
    wr_time doubled = b->interval * 2;
    if (b->gained)
        b->interval = WR_KBUCKET_REFRESH_MIN;
    else
        b->interval = doubled < WR_KBUCKET_REFRESH_MAX ? doubled : WR_KBUCKET_REFRESH_MAX;
    b->refresh_at = now + b->interval;
    b->gained = false;
}

void wr_kbucket_refreshed(struct wr_kbucket *t, const uint8_t target[static WR_KAD_KEY],
                          wr_time now)
{
    if (t->bucket_count == 0)
        return;
    size_t home = bucket_of(t, target);
    bool own = memcmp(target, t->self, WR_KAD_KEY) == 0;
    /* A lookup of ourselves meets everybody near us: all who could be in the buckets that the
     * network is too small to fill. */
    for (size_t i = own ? 0 : home; i <= home; i++) {
        if (!own || i == home || t->buckets[i].count < WR_KBUCKET_SIZE)
            refreshed(&t->buckets[i], now);
    }
}

struct wr_kentry *wr_kbucket_check_due(const struct wr_kbucket *t, wr_time now)
{
    struct wr_kentry *oldest = NULL;
    size_t cursor = 0;
    for (struct wr_kentry *e; (e = wr_kbucket_next(t, &cursor));) {
        if (now - e->success_at > WR_KBUCKET_CHECK_AFTER &&
            (!oldest || e->success_at < oldest->success_at))
            oldest = e;
    }
    return oldest;
}
