/* Provider records of the store: who has a key, and who makes room for whom. */
#include "dht/store_impl.h"
#include "transport/err.h"

#include <string.h>

#define RENEW_AFTER 3600 /* s; announcing again sooner changes nothing */

struct provider {
    uint8_t peer[NAME_PEER];
    uint32_t expires, first;
    uint8_t group[NAME_GROUP];
};

/* The providers of one key. */
struct providers {
    const struct wr_store *store;
    uint8_t key[NAME_KEY];
    size_t count;
    struct provider of[WR_STORE_PER_KEY];
};

/* ---- entries -------------------------------------------------------------------------------- */

static bool read_provider(struct wr_bytes value, struct provider *p)
{
    struct wr_reader r;
    wr_reader_init(&r, value);
    p->expires = wr_read_u32be(&r);
    p->first = wr_read_u32be(&r);
    struct wr_bytes group = wr_read_bytes(&r, NAME_GROUP);
    if (!wr_reader_done(&r))
        return false;
    memcpy(p->group, group.ptr, NAME_GROUP);
    return true;
}

static void provider_name(const uint8_t key[static NAME_KEY], const uint8_t peer[static NAME_PEER],
                          uint8_t name[static NAME_PROVIDER])
{
    memcpy(name, key, NAME_KEY);
    memcpy(name + NAME_KEY, peer, NAME_PEER);
}

/* Record and index entry; index first, because one without a record does no harm. */
static int write_provider(struct wr_store *s, const uint8_t key[static NAME_KEY],
                          const struct provider *p)
{
    uint8_t name[NAME_PROVIDER], memory[4 + 4 + NAME_GROUP];
    struct wr_buf b;
    provider_name(key, p->peer, name);
    struct entry_key at = wr_store_key(s, 'r', WR_BYTES(name, sizeof(name)));
    struct entry_key index = wr_store_time_key(s, p->expires, WR_BYTES(name, sizeof(name)));
    int rc = wr_kv_put(s->kv, entry_bytes(&index), WR_BYTES_NONE);
    if (rc != 0)
        return rc;
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put_u32be(&b, p->expires);
    wr_buf_put_u32be(&b, p->first);
    wr_buf_put(&b, p->group, NAME_GROUP);
    return wr_kv_put(s->kv, entry_bytes(&at), wr_buf_bytes(&b));
}

static void delete_provider(struct wr_store *s, const uint8_t name[static NAME_PROVIDER],
                            uint32_t expires)
{
    struct entry_key at = wr_store_key(s, 'r', WR_BYTES(name, NAME_PROVIDER));
    struct entry_key index = wr_store_time_key(s, expires, WR_BYTES(name, NAME_PROVIDER));
    wr_kv_del(s->kv, entry_bytes(&at));
    wr_kv_del(s->kv, entry_bytes(&index));
}

void wr_store_drop_provider(struct wr_store *s, const uint8_t name[static NAME_PROVIDER])
{
    uint8_t memory[4 + 4 + NAME_GROUP];
    struct wr_buf b;
    struct provider p;
    struct entry_key at = wr_store_key(s, 'r', WR_BYTES(name, NAME_PROVIDER));
    wr_buf_over(&b, memory, sizeof(memory));
    if (wr_kv_get(s->kv, entry_bytes(&at), &b) != 0 || !read_provider(wr_buf_bytes(&b), &p))
        return;
    delete_provider(s, name, p.expires);
    wr_store_release(s, PROVIDER, name + NAME_KEY, p.group);
}

static bool collect_provider(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct providers *all = arg;
    struct provider *p = &all->of[all->count];
    if (key.len < NAME_PEER || !read_provider(value, p))
        return true;
    memcpy(p->peer, key.ptr + key.len - NAME_PEER, NAME_PEER);
    all->count++;
    return all->count < WR_STORE_PER_KEY;
}

static int load_providers(struct wr_store *s, struct wr_bytes key, struct providers *all)
{
    all->store = s;
    all->count = 0;
    wr_store_name(s, 'k', key, all->key, NAME_KEY);
    struct entry_key from = wr_store_key(s, 'r', WR_BYTES(all->key, NAME_KEY));
    return wr_kv_scan(s->kv, entry_bytes(&from), WR_BYTES_NONE, collect_provider, all);
}

/* ---- who makes room ------------------------------------------------------------------------- */

static bool same_group(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, NAME_GROUP) == 0;
}

static size_t group_size(const struct providers *all, const uint8_t group[static NAME_GROUP])
{
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++)
        count += same_group(all->of[i].group, group);
    return count;
}

/* The group with most members once a newcomer of `mine` is in; `mine` itself among equals. NULL
 * when all are alone in their group. */
static const uint8_t *most_crowded(const struct providers *all,
                                   const uint8_t mine[static NAME_GROUP])
{
    const uint8_t *crowd = NULL;
    size_t most = 1, own = group_size(all, mine) + 1;
    for (size_t i = 0; i < all->count; i++) {
        size_t size = group_size(all, all->of[i].group);
        if (size > most) {
            most = size;
            crowd = all->of[i].group;
        }
    }
    return own >= most && own > 1 ? mine : crowd;
}

/* Members that came before p; ties by name, so that the order is total. */
static size_t seniors(const struct providers *all, const uint8_t *group, const struct provider *p)
{
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        const struct provider *o = &all->of[i];
        if (group && !same_group(o->group, group))
            continue;
        count += o->first < p->first ||
                 (o->first == p->first && memcmp(o->peer, p->peer, NAME_PEER) < 0);
    }
    return count;
}

/* The older half of a crowd stays: the victim is the oldest of the rest. */
static const struct provider *choose_victim(const struct providers *all,
                                            const uint8_t mine[static NAME_GROUP])
{
    const uint8_t *crowd = most_crowded(all, mine);
    size_t size = crowd ? group_size(all, crowd) : all->count;
    for (size_t i = 0; i < all->count; i++) {
        const struct provider *p = &all->of[i];
        if ((!crowd || same_group(p->group, crowd)) && seniors(all, crowd, p) == size / 2)
            return p;
    }
    return NULL;
}

/* ---- announcing ----------------------------------------------------------------------------- */

static void pack_addrs(struct peer_entry *peer, const struct wr_bytes *addrs, size_t count)
{
    struct wr_buf b;
    wr_buf_over(&b, peer->addrs, sizeof(peer->addrs));
    for (size_t i = 0; i < count && i < WR_DHT_ADDRS_OUT_MAX; i++) {
        if (addrs[i].len + 2 <= sizeof(peer->addrs) - b.len && addrs[i].len > 0)
            wr_buf_put_prefixed(&b, addrs[i]);
    }
    peer->addrs_len = b.len;
}

/* Takes over new addresses; true when the entry changed enough to be written. */
static bool renew_addrs(struct wr_store *s, struct peer_entry *peer, const struct wr_bytes *addrs,
                        size_t count)
{
    struct peer_entry fresh = {0};
    uint32_t until = wr_store_clock(s) + WR_STORE_ADDRS_TTL;
    pack_addrs(&fresh, addrs, count);
    if (until < peer->addrs_until + RENEW_AFTER &&
        wr_bytes_equal(WR_BYTES(fresh.addrs, fresh.addrs_len),
                       WR_BYTES(peer->addrs, peer->addrs_len)))
        return false;
    memcpy(peer->addrs, fresh.addrs, fresh.addrs_len);
    peer->addrs_len = fresh.addrs_len;
    peer->addrs_until = until;
    return true;
}

static int renew_provider(struct wr_store *s, const struct providers *all, struct provider *p)
{
    uint8_t name[NAME_PROVIDER];
    uint32_t old = p->expires, expires = wr_store_clock(s) + WR_STORE_PROVIDER_TTL;
    if (expires < old + RENEW_AFTER)
        return 0;
    p->expires = expires;
    int rc = write_provider(s, all->key, p);
    if (rc != 0)
        return rc;
    provider_name(all->key, p->peer, name);
    struct entry_key index = wr_store_time_key(s, old, WR_BYTES(name, sizeof(name)));
    return wr_kv_del(s->kv, entry_bytes(&index));
}

static int add_new(struct wr_store *s, const struct providers *all, struct provider *p,
                   struct peer_entry *peer)
{
    uint8_t name[NAME_PROVIDER];
    p->first = wr_store_clock(s);
    p->expires = p->first + WR_STORE_PROVIDER_TTL;
    int rc = wr_store_charge(s, PROVIDER, peer, p->group);
    if (rc != 0)
        return rc;
    rc = wr_store_save_peer(s, p->peer, peer);
    if (rc == 0)
        rc = write_provider(s, all->key, p);
    if (rc != 0) {
        provider_name(all->key, p->peer, name);
        delete_provider(s, name, p->expires);
        wr_store_release(s, PROVIDER, p->peer, p->group);
        return rc;
    }
    return wr_store_save(s);
}

static struct provider *find_provider(struct providers *all, const uint8_t peer[static NAME_PEER])
{
    for (size_t i = 0; i < all->count; i++) {
        if (memcmp(all->of[i].peer, peer, NAME_PEER) == 0)
            return &all->of[i];
    }
    return NULL;
}

/* The shares are looked at before anybody makes room, so that a peer over its share evicts nobody.
 */
static int make_room(struct wr_store *s, struct providers *all,
                     const uint8_t group[static NAME_GROUP])
{
    uint8_t name[NAME_PROVIDER];
    if (all->count < WR_STORE_PER_KEY)
        return 0;
    const struct provider *victim = choose_victim(all, group);
    if (!victim)
        return WR_ELIMIT;
    provider_name(all->key, victim->peer, name);
    wr_store_drop_provider(s, name);
    return 0;
}

int wr_store_add_provider(struct wr_store *s, struct wr_bytes key,
                          const struct wr_store_source *source, const struct wr_bytes *addrs,
                          size_t count)
{
    struct providers all;
    struct provider fresh = {0};
    struct peer_entry peer;
    struct group_name group = wr_store_group(s, &source->ip);
    if (key.len == 0 || key.len > WR_DHT_PROVIDER_KEY_MAX)
        return WR_EINVAL;
    wr_store_name(s, 'p', wr_peerid_bytes(source->peer), fresh.peer, NAME_PEER);
    memcpy(fresh.group, group.bytes, NAME_GROUP);
    int rc = load_providers(s, key, &all);
    if (rc != 0)
        return rc;
    rc = wr_store_load_peer(s, fresh.peer, &peer);
    if (rc == WR_ENOTFOUND)
        peer.id = *source->peer;
    else if (rc != 0)
        return rc;
    if (!wr_peerid_equal(&peer.id, source->peer))
        return WR_ELIMIT;
    bool addrs_changed = renew_addrs(s, &peer, addrs, count);
    struct provider *old = find_provider(&all, fresh.peer);
    if (old) {
        rc = addrs_changed ? wr_store_save_peer(s, fresh.peer, &peer) : 0;
        return rc != 0 ? rc : renew_provider(s, &all, old);
    }
    rc = wr_store_may_add(s, PROVIDER, &peer, &group);
    if (rc == 0)
        rc = make_room(s, &all, fresh.group);
    if (rc == 0)
        rc = add_new(s, &all, &fresh, &peer);
    return rc;
}

/* ---- finding -------------------------------------------------------------------------------- */

/* Copies a peer's addresses behind the others; false when it has none that are still believed. */
static bool give_addrs(struct wr_store_found *found, struct wr_dht_peer *to,
                       const struct peer_entry *from, uint32_t now)
{
    struct wr_reader r;
    if (from->addrs_until <= now || from->addrs_len == 0)
        return false;
    const uint8_t *copy = found->memory.data + found->memory.len;
    wr_buf_put(&found->memory, from->addrs, from->addrs_len);
    wr_reader_init(&r, WR_BYTES(copy, from->addrs_len));
    while (to->count < WR_DHT_ADDRS_OUT_MAX && r.rest.len > 0 && !r.bad) {
        struct wr_bytes addr = wr_read_prefixed(&r);
        if (addr.len > 0)
            to->addrs[to->count++] = addr;
    }
    return to->count > 0;
}

static void shuffle(struct wr_store *s, struct providers *all)
{
    for (size_t i = all->count; i > 1; i--) {
        size_t j = (size_t)wr_env_random_below(s->env, i);
        struct provider swap = all->of[i - 1];
        all->of[i - 1] = all->of[j];
        all->of[j] = swap;
    }
}

static void swap_peers(struct wr_dht_peer *a, struct wr_dht_peer *b)
{
    struct wr_dht_peer swap = *a;
    *a = *b;
    *b = swap;
}

int wr_store_providers(struct wr_store *s, struct wr_bytes key, struct wr_store_found *found)
{
    struct providers all;
    struct peer_entry peer;
    size_t reachable = 0;
    found->count = 0;
    wr_buf_init(&found->memory, WR_STORE_PER_KEY * WR_STORE_ADDRS_MAX);
    if (key.len == 0 || key.len > WR_DHT_PROVIDER_KEY_MAX)
        return WR_ENOTFOUND;
    int rc = load_providers(s, key, &all);
    if (rc != 0 || all.count == 0)
        return rc != 0 ? rc : WR_ENOTFOUND;
    /* Room for all at once: the slices must not move. */
    if (!wr_buf_reserve(&found->memory, all.count * WR_STORE_ADDRS_MAX))
        return WR_ELIMIT;
    shuffle(s, &all);
    uint32_t now = wr_store_clock(s);
    for (size_t i = 0; i < all.count; i++) {
        struct wr_dht_peer *to = &found->peers[found->count];
        if (all.of[i].expires <= now || wr_store_load_peer(s, all.of[i].peer, &peer) != 0)
            continue;
        *to = (struct wr_dht_peer){.id = peer.id, .addrs = found->addrs[found->count]};
        if (give_addrs(found, to, &peer, now))
            swap_peers(to, &found->peers[reachable++]);
        found->count++;
    }
    if (found->count == 0)
        wr_store_found_clear(found);
    return found->count > 0 ? 0 : WR_ENOTFOUND;
}

void wr_store_found_clear(struct wr_store_found *found)
{
    wr_buf_clear(&found->memory);
    found->count = 0;
}
