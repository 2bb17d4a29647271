/* store_impl.h - what the files of the store share: names, entries, accounts, the time index.
 * Internal.
 *
 * Entries, all behind the store's prefix; numbers big-endian, so that they sort:
 *   'm'                     salt, clock, wall clock, counts
 *   'r' key peer            a provider record: expires, first seen, group
 *   'v' key                 a value record
 *   't' expires name        the time index; name is what follows the letter of the record
 *   'p' peer                a peer that left records: counts, id, addresses
 *   'g' group               an address group that left records: counts
 * key, peer and group are hashes under the salt, short because there are millions: nobody who does
 * not know the salt can make two of them collide on purpose. */
#ifndef WR_STORE_IMPL_H
#define WR_STORE_IMPL_H

#include "dht/store.h"

#define NAME_KEY      10                     /* bytes */
#define NAME_PEER     6                      /* bytes */
#define NAME_GROUP    4                      /* bytes */
#define NAME_PROVIDER (NAME_KEY + NAME_PEER) /* bytes */
#define ENTRY_KEY_MAX (WR_STORE_PREFIX_MAX + 1 + 4 + NAME_PROVIDER)

/* Which ceiling a record counts under. */
enum record_kind { PROVIDER, VALUE };

/* A key of the kv store, built on the stack. */
struct entry_key {
    uint8_t bytes[ENTRY_KEY_MAX];
    size_t len;
};

struct counts {
    uint32_t of[2]; /* by record_kind */
};

struct group_name {
    uint8_t bytes[NAME_GROUP];
    bool local; /* addresses that anybody can have */
};

/* Entry 'p'. */
struct peer_entry {
    struct counts counts;
    uint32_t addrs_until; /* store time */
    struct wr_peerid id;
    size_t addrs_len;
    uint8_t addrs[WR_STORE_ADDRS_MAX]; /* each with a uvarint length in front */
};

void wr_store_name(const struct wr_store *s, char what, struct wr_bytes of, uint8_t *out,
                   size_t len);
/* The address group that a source counts under. */
struct group_name wr_store_group(const struct wr_store *s, const struct wr_ip *ip);

struct entry_key wr_store_key(const struct wr_store *s, char type, struct wr_bytes name);
struct entry_key wr_store_time_key(const struct wr_store *s, uint32_t expires,
                                   struct wr_bytes name);
static inline struct wr_bytes entry_bytes(const struct entry_key *key)
{
    return WR_BYTES(key->bytes, key->len);
}

uint32_t wr_store_clock(const struct wr_store *s);
int wr_store_save(struct wr_store *s); /* entry 'm' */

/* 0 with *peer set, WR_ENOTFOUND, WR_ECORRUPT, errors of kv. */
int wr_store_load_peer(struct wr_store *s, const uint8_t name[static NAME_PEER],
                       struct peer_entry *peer);
int wr_store_save_peer(struct wr_store *s, const uint8_t name[static NAME_PEER],
                       const struct peer_entry *peer);

/* 0, or WR_ELIMIT: the peer or the group has had its share. */
int wr_store_may_add(struct wr_store *s, enum record_kind kind, const struct peer_entry *peer,
                     const struct group_name *group);
/* Counts a new record; WR_ELIMIT at the ceiling. The peer's entry is changed but not saved. */
int wr_store_charge(struct wr_store *s, enum record_kind kind, struct peer_entry *peer,
                    const uint8_t group[static NAME_GROUP]);
/* A record has gone. */
void wr_store_release(struct wr_store *s, enum record_kind kind,
                      const uint8_t peer[static NAME_PEER], const uint8_t group[static NAME_GROUP]);

/* Drop one record, named without its letter: its index entry, the record, what it counted for. */
void wr_store_drop_provider(struct wr_store *s, const uint8_t name[static NAME_PROVIDER]);
void wr_store_drop_value(struct wr_store *s, const uint8_t name[static NAME_KEY]);

#endif
