/* Value records of the store: the better of two stays, and who left it pays for it. */
#include "dht/record.h"
#include "dht/rfc3339.h"
#include "dht/store_impl.h"
#include "transport/err.h"

#include <string.h>

struct value_entry {
    uint32_t expires;
    int64_t received; /* wall clock, for the text that readers are told */
    uint8_t peer[NAME_PEER], group[NAME_GROUP];
    struct wr_bytes key, value;
};

static bool read_entry(struct wr_bytes in, struct value_entry *e)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    e->expires = wr_read_u32be(&r);
    e->received = (int64_t)wr_read_u64be(&r);
    struct wr_bytes peer = wr_read_bytes(&r, NAME_PEER), group = wr_read_bytes(&r, NAME_GROUP);
    e->key = wr_read_prefixed(&r);
    e->value = wr_read_prefixed(&r);
    if (!wr_reader_done(&r))
        return false;
    memcpy(e->peer, peer.ptr, NAME_PEER);
    memcpy(e->group, group.ptr, NAME_GROUP);
    return true;
}

/* 0 with *e pointing into *memory, which the caller clears in any case. */
static int load_entry(struct wr_store *s, const uint8_t name[static NAME_KEY],
                      struct wr_buf *memory, struct value_entry *e)
{
    struct entry_key at = wr_store_key(s, 'v', WR_BYTES(name, NAME_KEY));
    wr_buf_init(memory, WR_KV_VALUE_MAX);
    int rc = wr_kv_get(s->kv, entry_bytes(&at), memory);
    if (rc == 0 && !read_entry(wr_buf_bytes(memory), e))
        rc = WR_ECORRUPT;
    return rc;
}

static int write_entry(struct wr_store *s, const uint8_t name[static NAME_KEY],
                       const struct value_entry *e)
{
    struct wr_buf b;
    struct entry_key at = wr_store_key(s, 'v', WR_BYTES(name, NAME_KEY));
    struct entry_key index = wr_store_time_key(s, e->expires, WR_BYTES(name, NAME_KEY));
    wr_buf_init(&b, WR_KV_VALUE_MAX);
    wr_buf_put_u32be(&b, e->expires);
    wr_buf_put_u64be(&b, (uint64_t)e->received);
    wr_buf_put(&b, e->peer, NAME_PEER);
    wr_buf_put(&b, e->group, NAME_GROUP);
    wr_buf_put_prefixed(&b, e->key);
    wr_buf_put_prefixed(&b, e->value);
    int rc = b.full ? WR_ELIMIT : wr_kv_put(s->kv, entry_bytes(&index), WR_BYTES_NONE);
    if (rc == 0)
        rc = wr_kv_put(s->kv, entry_bytes(&at), wr_buf_bytes(&b));
    wr_buf_clear(&b);
    return rc;
}

static void delete_entry(struct wr_store *s, const uint8_t name[static NAME_KEY], uint32_t expires)
{
    struct entry_key at = wr_store_key(s, 'v', WR_BYTES(name, NAME_KEY));
    struct entry_key index = wr_store_time_key(s, expires, WR_BYTES(name, NAME_KEY));
    wr_kv_del(s->kv, entry_bytes(&at));
    wr_kv_del(s->kv, entry_bytes(&index));
}

void wr_store_drop_value(struct wr_store *s, const uint8_t name[static NAME_KEY])
{
    struct wr_buf memory;
    struct value_entry e;
    if (load_entry(s, name, &memory, &e) == 0) {
        delete_entry(s, name, e.expires);
        wr_store_release(s, VALUE, e.peer, e.group);
    }
    wr_buf_clear(&memory);
}

static void stamp(struct wr_store *s, struct value_entry *e)
{
    e->expires = wr_store_clock(s) + WR_STORE_VALUE_TTL;
    e->received = wr_store_unix(s);
}

/* Whoever left the first value under a key keeps paying for it. */
static int replace(struct wr_store *s, const uint8_t name[static NAME_KEY], struct value_entry *e,
                   struct wr_bytes value)
{
    uint32_t old = e->expires;
    if (old > wr_store_clock(s) && wr_record_compare(e->key, e->value, value) > 0)
        return WR_ESTALE;
    stamp(s, e);
    e->value = value;
    int rc = write_entry(s, name, e);
    if (rc == 0 && old != e->expires) {
        struct entry_key index = wr_store_time_key(s, old, WR_BYTES(name, NAME_KEY));
        rc = wr_kv_del(s->kv, entry_bytes(&index));
    }
    return rc;
}

static int add_new(struct wr_store *s, const uint8_t name[static NAME_KEY], struct value_entry *e,
                   const struct wr_store_source *source)
{
    struct peer_entry peer;
    struct group_name group = wr_store_group(s, &source->ip);
    wr_store_name(s, 'p', wr_peerid_bytes(source->peer), e->peer, NAME_PEER);
    memcpy(e->group, group.bytes, NAME_GROUP);
    int rc = wr_store_load_peer(s, e->peer, &peer);
    if (rc == WR_ENOTFOUND)
        peer.id = *source->peer;
    else if (rc != 0)
        return rc;
    if (!wr_peerid_equal(&peer.id, source->peer))
        return WR_ELIMIT;
    rc = wr_store_may_add(s, VALUE, &peer, &group);
    if (rc == 0)
        rc = wr_store_charge(s, VALUE, &peer, e->group);
    if (rc != 0)
        return rc;
    stamp(s, e);
    rc = wr_store_save_peer(s, e->peer, &peer);
    if (rc == 0)
        rc = write_entry(s, name, e);
    if (rc != 0) {
        delete_entry(s, name, e->expires);
        wr_store_release(s, VALUE, e->peer, e->group);
        return rc;
    }
    return wr_store_save(s);
}

int wr_store_put_value(struct wr_store *s, struct wr_bytes key, struct wr_bytes value,
                       const struct wr_store_source *source)
{
    uint8_t name[NAME_KEY];
    struct wr_buf memory;
    struct value_entry e;
    if (key.len == 0 || key.len > WR_DHT_KEY_MAX || value.len > WR_DHT_VALUE_MAX)
        return WR_EINVAL;
    wr_store_name(s, 'k', key, name, NAME_KEY);
    int rc = load_entry(s, name, &memory, &e);
    if (rc == 0) {
        rc = replace(s, name, &e, value);
    } else if (rc == WR_ENOTFOUND) {
        e = (struct value_entry){.key = key, .value = value};
        rc = add_new(s, name, &e, source);
    }
    wr_buf_clear(&memory);
    return rc;
}

int wr_store_get_value(struct wr_store *s, struct wr_bytes key, struct wr_buf *value,
                       struct wr_buf *received)
{
    uint8_t name[NAME_KEY];
    char text[WR_RFC3339_TEXT];
    struct wr_buf memory;
    struct value_entry e;
    if (key.len == 0 || key.len > WR_DHT_KEY_MAX)
        return WR_ENOTFOUND;
    wr_store_name(s, 'k', key, name, NAME_KEY);
    int rc = load_entry(s, name, &memory, &e);
    if (rc == 0 && e.expires <= wr_store_clock(s))
        rc = WR_ENOTFOUND;
    if (rc == 0) {
        wr_rfc3339_print(e.received, text);
        wr_buf_put_bytes(value, e.value);
        wr_buf_put_cstr(received, text);
        rc = value->full || received->full ? WR_ELIMIT : 0;
    }
    wr_buf_clear(&memory);
    return rc;
}
