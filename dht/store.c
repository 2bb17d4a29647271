#include "dht/store.h"

#include "dht/ipgroup.h"
#include "dht/store_impl.h"
#include "transport/err.h"
#include "transport/multihash.h"

#include <assert.h>
#include <string.h>

#define META_VERSION 1
#define META_SIZE    (1 + 16 + 4 + 8 + 4 + 4)
#define SWEEP_BATCH  64 /* index entries read at a time */

/* ---- names ---------------------------------------------------------------------------------- */

void wr_store_name(const struct wr_store *s, char what, struct wr_bytes of, uint8_t *out,
                   size_t len)
{
    uint8_t in[sizeof(s->salt) + 1 + WR_DHT_KEY_MAX], hash[WR_SHA256_LEN];
    assert(of.len <= WR_DHT_KEY_MAX && len <= sizeof(hash));
    memcpy(in, s->salt, sizeof(s->salt));
    in[sizeof(s->salt)] = (uint8_t)what;
    if (of.len)
        memcpy(in + sizeof(s->salt) + 1, of.ptr, of.len);
    wr_sha256(WR_BYTES(in, sizeof(s->salt) + 1 + of.len), hash);
    memcpy(out, hash, len);
}

/* Exempt addresses (ipgroup.h) are told apart by their link, so that a crowd in a laboratory or at
 * home is one as well. */
struct group_name wr_store_group(const struct wr_store *s, const struct wr_ip *ip)
{
    struct group_name name;
    uint64_t group = wr_ipgroup(ip);
    struct wr_ip link = wr_ip_mask(ip, ip->family == 4 ? 24 : 64);
    name.local = group == WR_IPGROUP_NONE;
    struct wr_bytes of =
        name.local ? WR_BYTES(link.bytes, sizeof(link.bytes)) : WR_BYTES(&group, sizeof(group));
    wr_store_name(s, 'g', of, name.bytes, NAME_GROUP);
    return name;
}

struct entry_key wr_store_key(const struct wr_store *s, char type, struct wr_bytes name)
{
    struct entry_key key = {.len = s->prefix_len};
    assert(key.len + 1 + name.len <= sizeof(key.bytes));
    memcpy(key.bytes, s->prefix, s->prefix_len);
    key.bytes[key.len++] = (uint8_t)type;
    if (name.len)
        memcpy(key.bytes + key.len, name.ptr, name.len);
    key.len += name.len;
    return key;
}

struct entry_key wr_store_time_key(const struct wr_store *s, uint32_t expires, struct wr_bytes name)
{
    uint8_t whole[4 + NAME_PROVIDER];
    struct wr_buf b;
    wr_buf_over(&b, whole, sizeof(whole));
    wr_buf_put_u32be(&b, expires);
    wr_buf_put_bytes(&b, name);
    return wr_store_key(s, 't', wr_buf_bytes(&b));
}

/* ---- clock and counts ----------------------------------------------------------------------- */

uint32_t wr_store_clock(const struct wr_store *s)
{
    return s->clock + (uint32_t)((wr_env_now(s->env) - s->clock_at) / WR_SEC);
}

int64_t wr_store_unix(struct wr_store *s)
{
    return wr_wall_read(&s->wall, wr_env_unix(s->env), wr_env_now(s->env));
}

int wr_store_save(struct wr_store *s)
{
    uint8_t memory[META_SIZE];
    struct wr_buf b;
    struct entry_key key = wr_store_key(s, 'm', WR_BYTES_NONE);
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put_u8(&b, META_VERSION);
    wr_buf_put(&b, s->salt, sizeof(s->salt));
    wr_buf_put_u32be(&b, wr_store_clock(s));
    /* A time that nobody vouched for must not count as evidence in the next life. */
    int64_t unix_now = wr_store_unix(s);
    wr_buf_put_u64be(&b, s->wall.believed ? (uint64_t)unix_now : 0);
    wr_buf_put_u32be(&b, s->providers);
    wr_buf_put_u32be(&b, s->values);
    return wr_kv_put(s->kv, entry_bytes(&key), wr_buf_bytes(&b));
}

static int load_meta(struct wr_store *s)
{
    uint8_t memory[META_SIZE];
    struct wr_buf b;
    struct wr_reader r;
    struct entry_key key = wr_store_key(s, 'm', WR_BYTES_NONE);
    wr_buf_over(&b, memory, sizeof(memory));
    int rc = wr_kv_get(s->kv, entry_bytes(&key), &b);
    if (rc != 0)
        return rc;
    wr_reader_init(&r, wr_buf_bytes(&b));
    uint8_t version = wr_read_u8(&r);
    struct wr_bytes salt = wr_read_bytes(&r, sizeof(s->salt));
    uint32_t clock = wr_read_u32be(&r);
    int64_t saved_unix = (int64_t)wr_read_u64be(&r);
    s->providers = wr_read_u32be(&r);
    s->values = wr_read_u32be(&r);
    if (!wr_reader_done(&r) || version != META_VERSION)
        return WR_ECORRUPT;
    memcpy(s->salt, salt.ptr, sizeof(s->salt));
    if (saved_unix < 0)
        saved_unix = 0;
    wr_wall_init(&s->wall, saved_unix, wr_env_unix(s->env), s->clock_at);
    /* How long the node was off; by a clock that is not believed, no time at all. */
    int64_t off = saved_unix >= WR_WALL_FLOOR ? s->wall.unix_at - saved_unix : 0;
    s->clock = clock + (uint32_t)(off / WR_SEC);
    return 0;
}

static enum wr_limit limit_of(enum record_kind kind)
{
    return kind == PROVIDER ? WR_LIMIT_PROVIDERS : WR_LIMIT_VALUES;
}

int wr_store_open(struct wr_store *s, struct wr_env *env, struct wr_kv *kv,
                  struct wr_limits *limits, struct wr_bytes prefix)
{
    assert(prefix.len <= WR_STORE_PREFIX_MAX);
    *s = (struct wr_store){
        .env = env, .kv = kv, .limits = limits, .prefix_len = (uint8_t)prefix.len};
    if (prefix.len)
        memcpy(s->prefix, prefix.ptr, prefix.len);
    s->clock = 1;
    s->clock_at = wr_env_now(env);
    wr_wall_init(&s->wall, 0, wr_env_unix(env), s->clock_at);
    int rc = load_meta(s);
    if (rc == WR_ENOTFOUND) {
        wr_env_random(env, s->salt, sizeof(s->salt));
        rc = wr_store_save(s);
    }
    if (rc != 0)
        return rc;
    /* What is held stays, also under a ceiling that was lowered meanwhile: no more comes in until
     * enough has expired. */
    limits->of[WR_LIMIT_PROVIDERS].used += s->providers;
    limits->of[WR_LIMIT_VALUES].used += s->values;
    return 0;
}

void wr_store_close(struct wr_store *s)
{
    wr_store_save(s);
    wr_limits_give(s->limits, WR_LIMIT_PROVIDERS, s->providers);
    wr_limits_give(s->limits, WR_LIMIT_VALUES, s->values);
    s->providers = s->values = 0;
}

void wr_store_lost(struct wr_store *s)
{
    wr_limits_give(s->limits, WR_LIMIT_PROVIDERS, s->providers);
    wr_limits_give(s->limits, WR_LIMIT_VALUES, s->values);
    s->providers = s->values = 0;
    wr_store_save(s);
}

/* ---- accounts ------------------------------------------------------------------------------- */

int wr_store_load_peer(struct wr_store *s, const uint8_t name[static NAME_PEER],
                       struct peer_entry *peer)
{
    uint8_t memory[sizeof(*peer)];
    struct wr_buf b;
    struct wr_reader r;
    struct entry_key key = wr_store_key(s, 'p', WR_BYTES(name, NAME_PEER));
    wr_buf_over(&b, memory, sizeof(memory));
    memset(peer, 0, sizeof(*peer));
    int rc = wr_kv_get(s->kv, entry_bytes(&key), &b);
    if (rc != 0)
        return rc;
    wr_reader_init(&r, wr_buf_bytes(&b));
    peer->counts.of[PROVIDER] = wr_read_u32be(&r);
    peer->counts.of[VALUE] = wr_read_u32be(&r);
    peer->addrs_until = wr_read_u32be(&r);
    struct wr_bytes id = wr_read_prefixed(&r);
    if (r.bad || r.rest.len > sizeof(peer->addrs) || wr_peerid_decode(id, &peer->id) != 0)
        return WR_ECORRUPT;
    peer->addrs_len = r.rest.len;
    memcpy(peer->addrs, r.rest.ptr, r.rest.len);
    return 0;
}

int wr_store_save_peer(struct wr_store *s, const uint8_t name[static NAME_PEER],
                       const struct peer_entry *peer)
{
    uint8_t memory[sizeof(*peer)];
    struct wr_buf b;
    struct entry_key key = wr_store_key(s, 'p', WR_BYTES(name, NAME_PEER));
    if (peer->counts.of[PROVIDER] == 0 && peer->counts.of[VALUE] == 0)
        return wr_kv_del(s->kv, entry_bytes(&key));
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put_u32be(&b, peer->counts.of[PROVIDER]);
    wr_buf_put_u32be(&b, peer->counts.of[VALUE]);
    wr_buf_put_u32be(&b, peer->addrs_until);
    wr_buf_put_prefixed(&b, wr_peerid_bytes(&peer->id));
    wr_buf_put(&b, peer->addrs, peer->addrs_len);
    return wr_kv_put(s->kv, entry_bytes(&key), wr_buf_bytes(&b));
}

static struct counts load_group(struct wr_store *s, const uint8_t group[static NAME_GROUP])
{
    uint8_t memory[8];
    struct wr_buf b;
    struct wr_reader r;
    struct counts counts;
    struct entry_key key = wr_store_key(s, 'g', WR_BYTES(group, NAME_GROUP));
    wr_buf_over(&b, memory, sizeof(memory));
    int rc = wr_kv_get(s->kv, entry_bytes(&key), &b);
    wr_reader_init(&r, rc == 0 ? wr_buf_bytes(&b) : WR_BYTES_NONE);
    counts.of[PROVIDER] = wr_read_u32be(&r);
    counts.of[VALUE] = wr_read_u32be(&r);
    return counts;
}

static int save_group(struct wr_store *s, const uint8_t group[static NAME_GROUP],
                      const struct counts *c)
{
    uint8_t memory[8];
    struct wr_buf b;
    struct entry_key key = wr_store_key(s, 'g', WR_BYTES(group, NAME_GROUP));
    if (c->of[PROVIDER] == 0 && c->of[VALUE] == 0)
        return wr_kv_del(s->kv, entry_bytes(&key));
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put_u32be(&b, c->of[PROVIDER]);
    wr_buf_put_u32be(&b, c->of[VALUE]);
    return wr_kv_put(s->kv, entry_bytes(&key), wr_buf_bytes(&b));
}

static bool share_left(const struct wr_store *s, enum record_kind kind, uint32_t used,
                       unsigned share)
{
    uint64_t part = s->limits->of[limit_of(kind)].max / share;
    return used < (part > 0 ? part : 1);
}

static uint32_t *held(struct wr_store *s, enum record_kind kind)
{
    return kind == PROVIDER ? &s->providers : &s->values;
}

int wr_store_may_add(struct wr_store *s, enum record_kind kind, const struct peer_entry *peer,
                     const struct group_name *group)
{
    struct counts counts = load_group(s, group->bytes);
    unsigned share = group->local ? WR_STORE_LINK_SHARE : WR_STORE_GROUP_SHARE;
    if (share_left(s, kind, peer->counts.of[kind], WR_STORE_PEER_SHARE) &&
        share_left(s, kind, counts.of[kind], share))
        return 0;
    wr_limits_refuse(s->limits, limit_of(kind));
    return WR_ELIMIT;
}

int wr_store_charge(struct wr_store *s, enum record_kind kind, struct peer_entry *peer,
                    const uint8_t group[static NAME_GROUP])
{
    struct counts counts = load_group(s, group);
    if (!wr_limits_take(s->limits, limit_of(kind), 1))
        return WR_ELIMIT;
    counts.of[kind]++;
    int rc = save_group(s, group, &counts);
    if (rc != 0) {
        wr_limits_give(s->limits, limit_of(kind), 1);
        return rc;
    }
    peer->counts.of[kind]++;
    ++*held(s, kind);
    return 0;
}

void wr_store_release(struct wr_store *s, enum record_kind kind,
                      const uint8_t peer[static NAME_PEER], const uint8_t group[static NAME_GROUP])
{
    struct peer_entry entry;
    struct counts counts = load_group(s, group);
    if (counts.of[kind] > 0) {
        counts.of[kind]--;
        save_group(s, group, &counts);
    }
    if (wr_store_load_peer(s, peer, &entry) == 0 && entry.counts.of[kind] > 0) {
        entry.counts.of[kind]--;
        wr_store_save_peer(s, peer, &entry);
    }
    if (*held(s, kind) > 0) {
        --*held(s, kind);
        wr_limits_give(s->limits, limit_of(kind), 1);
    }
}

/* ---- expiry --------------------------------------------------------------------------------- */

struct due {
    uint32_t now;
    size_t skip; /* bytes of prefix and letter in front of the time */
    size_t count, max;
    struct {
        uint8_t len, bytes[4 + NAME_PROVIDER];
    } of[SWEEP_BATCH];
};

static bool collect_due(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct due *due = arg;
    struct wr_reader r;
    (void)value;
    wr_bytes_take(&key, due->skip);
    wr_reader_init(&r, key);
    uint32_t expires = wr_read_u32be(&r);
    if (expires > due->now && !r.bad)
        return false;
    if (key.len <= sizeof(due->of[0].bytes)) {
        due->of[due->count].len = (uint8_t)key.len;
        memcpy(due->of[due->count].bytes, key.ptr, key.len);
        due->count++;
    }
    return due->count < due->max;
}

static size_t sweep_batch(struct wr_store *s, size_t max)
{
    struct entry_key from = wr_store_key(s, 't', WR_BYTES_NONE);
    struct due due = {.now = wr_store_clock(s), .skip = from.len, .max = max};
    if (wr_kv_scan(s->kv, entry_bytes(&from), WR_BYTES_NONE, collect_due, &due) != 0)
        return 0;
    for (size_t i = 0; i < due.count; i++) {
        struct entry_key key = wr_store_key(s, 't', WR_BYTES(due.of[i].bytes, due.of[i].len));
        if (due.of[i].len == 4 + NAME_PROVIDER)
            wr_store_drop_provider(s, due.of[i].bytes + 4);
        else if (due.of[i].len == 4 + NAME_KEY)
            wr_store_drop_value(s, due.of[i].bytes + 4);
        /* Usually gone with its record; an entry that has lost its record goes here. */
        wr_kv_del(s->kv, entry_bytes(&key));
    }
    return due.count;
}

size_t wr_store_sweep(struct wr_store *s, size_t budget)
{
    size_t done = 0;
    while (done < budget) {
        size_t max = budget - done < SWEEP_BATCH ? budget - done : SWEEP_BATCH;
        size_t count = sweep_batch(s, max);
        done += count;
        if (count < max)
            break;
    }
    wr_store_save(s);
    return done;
}
