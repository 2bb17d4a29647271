#include "node/natbook.h"

#include <sodium.h>
#include <string.h>

#define RECORD_VERSION 1
#define RECORD_MAX     (13 + 2 * WR_LIFETIME_STEPS)    /* bytes */
#define DIGEST         16
#define KEY            (WR_STATE_PREFIX + DIGEST)

struct record {
    int64_t saved_at;    /* nanoseconds since 1970, to the second */
    enum wr_nat_mapping mapping;
    enum wr_nat_filtering filtering;
    enum wr_nat_alloc alloc;
    struct wr_lifetime lifetime;
};

/* ---- a record ------------------------------------------------------------------------------------------ */

static void put_count(struct wr_buf *out, unsigned count)
{
    wr_buf_put_u8(out, (uint8_t)(count < UINT8_MAX ? count : UINT8_MAX));
}

static void encode(const struct record *r, struct wr_buf *out)
{
    wr_buf_put_u8(out, RECORD_VERSION);
    wr_buf_put_u64be(out, (uint64_t)(r->saved_at / WR_SEC));
    wr_buf_put_u8(out, (uint8_t)r->mapping);
    wr_buf_put_u8(out, (uint8_t)r->filtering);
    wr_buf_put_u8(out, (uint8_t)r->alloc);
    wr_buf_put_u8(out, WR_LIFETIME_STEPS);
    for (size_t i = 0; i < WR_LIFETIME_STEPS; i++) {
        put_count(out, r->lifetime.lived[i]);
        put_count(out, r->lifetime.died[i]);
    }
}

static bool decode(struct wr_bytes in, struct record *out)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    bool known = wr_read_u8(&r) == RECORD_VERSION;
    uint64_t saved = wr_read_u64be(&r);
    uint8_t mapping = wr_read_u8(&r), filtering = wr_read_u8(&r), alloc = wr_read_u8(&r);
    /* Another ladder has other silences. */
    known = known && wr_read_u8(&r) == WR_LIFETIME_STEPS && saved <= INT64_MAX / WR_SEC;
    known = known && mapping <= WR_NAT_MAP_APDM && filtering <= WR_NAT_FILTER_APDF && alloc <= WR_NAT_ALLOC_RANDOM;
    *out = (struct record){.mapping = (enum wr_nat_mapping)mapping,
                           .filtering = (enum wr_nat_filtering)filtering,
                           .alloc = (enum wr_nat_alloc)alloc};
    if (!known)
        return false;
    out->saved_at = (int64_t)saved * WR_SEC;
    for (size_t i = 0; i < WR_LIFETIME_STEPS; i++) {
        out->lifetime.lived[i] = wr_read_u8(&r);
        out->lifetime.died[i] = wr_read_u8(&r);
    }
    return wr_reader_done(&r);
}

/* ---- which network ------------------------------------------------------------------------------------- */

/* False: this network has nothing to be known by. */
static bool key_of(const struct wr_natbook *b, const struct wr_nat *nat, uint8_t out[static KEY])
{
    struct wr_gateway ways[WR_GATEWAYS_MAX];
    size_t count = wr_env_gateways(b->env, ways, WR_GATEWAYS_MAX), i = 0;
    while (i < count && (ways[i].family != 4 || ways[i].ip.family != 4))
        i++;
    struct wr_addr gateway = {.port = 1};
    struct wr_ip source, outside = wr_ip_mask(&nat->external, WR_NATBOOK_BITS);
    uint8_t digest[crypto_generichash_BYTES];
    struct {
        char label[16];
        uint8_t gateway[4], source[4], outside[4];
    } what = {.label = "warren natbook"};
    if (i == count || nat->external.family != 4)
        return false;
    gateway.ip = ways[i].ip;
    if (wr_env_source(b->env, &gateway, &source) != 0 || source.family != 4)
        return false;
    memcpy(what.gateway, gateway.ip.bytes, 4);
    memcpy(what.source, source.bytes, 4);
    memcpy(what.outside, outside.bytes, 4);
    crypto_generichash(digest, sizeof(digest), (const unsigned char *)&what, sizeof(what), NULL, 0);
    wr_state_prefix(b->state, WR_STATE_AREA_NAT, out);
    memcpy(out + WR_STATE_PREFIX, digest, DIGEST);
    return true;
}

static bool load(const struct wr_natbook *b, struct wr_bytes key, struct record *out)
{
    struct wr_buf value;
    wr_buf_init(&value, RECORD_MAX);
    bool there = wr_kv_get(b->kv, key, &value) == 0 && decode(wr_buf_bytes(&value), out);
    wr_buf_clear(&value);
    return there;
}

/* ---- how many ------------------------------------------------------------------------------------------ */

struct census {
    size_t count;
    int64_t oldest_at;
    uint8_t oldest[KEY];
};

static bool count_one(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct census *c = arg;
    struct record r;
    if (key.len != KEY)
        return true;
    int64_t at = decode(value, &r) ? r.saved_at : 0;
    if (c->count++ == 0 || at < c->oldest_at) {
        c->oldest_at = at;
        memcpy(c->oldest, key.ptr, KEY);
    }
    return true;
}

/* Beyond the bound the one longest unwritten goes. */
static void make_room(const struct wr_natbook *b)
{
    uint8_t prefix[WR_STATE_PREFIX];
    wr_state_prefix(b->state, WR_STATE_AREA_NAT, prefix);
    for (;;) {
        struct census c = {.count = 0};
        (void)wr_kv_scan(b->kv, WR_BYTES(prefix, sizeof(prefix)), WR_BYTES_NONE, count_one, &c);
        if (c.count < WR_NATBOOK_MAX || wr_kv_del(b->kv, WR_BYTES(c.oldest, KEY)) != 0)
            return;
    }
}

/* ---- what autonat asks --------------------------------------------------------------------------------- */

static bool same_kind(const struct record *r, const struct wr_nat_kind *udp)
{
    bool ports = r->alloc == udp->alloc || !r->alloc || !udp->alloc;
    return r->mapping == udp->mapping && r->filtering == udp->filtering && ports;
}

static bool recall(void *arg, const struct wr_nat *nat, struct wr_lifetime *out)
{
    struct wr_natbook *b = arg;
    struct record r;
    uint8_t key[KEY];
    if (!key_of(b, nat, key) || !load(b, WR_BYTES(key, KEY), &r))
        return false;
    int64_t age = wr_state_unix(b->state) - r.saved_at;
    if (same_kind(&r, &nat->udp) && age < WR_NATBOOK_AGE) {
        *out = r.lifetime;
        return true;
    }
    (void)wr_kv_del(b->kv, WR_BYTES(key, KEY));
    return false;
}

static void keep(void *arg, const struct wr_nat *nat, const struct wr_lifetime *known)
{
    struct wr_natbook *b = arg;
    struct record r = {.saved_at = wr_state_unix(b->state),
                       .mapping = nat->udp.mapping,
                       .filtering = nat->udp.filtering,
                       .alloc = nat->udp.alloc};
    struct record before;
    uint8_t key[KEY];
    struct wr_buf value;
    if (!key_of(b, nat, key))
        return;
    if (!known) {
        (void)wr_kv_del(b->kv, WR_BYTES(key, KEY));
        return;
    }
    r.lifetime = *known;
    if (!load(b, WR_BYTES(key, KEY), &before))
        make_room(b);
    wr_buf_init(&value, RECORD_MAX);
    encode(&r, &value);
    int err = value.full ? WR_ELIMIT : wr_kv_put(b->kv, WR_BYTES(key, KEY), wr_buf_bytes(&value));
    wr_buf_clear(&value);
    if (err)
        wr_log(wr_env_log(b->env), WR_LOG_WARN, "natbook", "not saved err=%s", wr_err_name(err));
}

struct wr_autonat_memory wr_natbook_memory(struct wr_natbook *book)
{
    return (struct wr_autonat_memory){.recall = recall, .keep = keep, .arg = book};
}
