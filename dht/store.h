/* store.h - provider and value records that others left with us, over kv.h. Service (no timers of
 * its own). Everything lies in the store, ordered so that nothing is ever scanned whole: the
 * providers of a key stand together, and an index by time yields what has expired. Nothing is read
 * at start but one entry.
 *
 * Strangers fill this. So: a ceiling for all records (limits PROVIDERS, VALUES), a share of it per
 * peer and per address group, and a few providers per key. When a key is full, a newcomer takes the
 * place of one from the most crowded address group, its own counted in: a thousand identities in
 * three networks compete with each other and leave the rest alone. Within a group those who came
 * first keep half of the places as long as they announce again, the other half turns over.
 *
 * Time. Records age by the store's own clock, which runs with the monotonic one and is saved. While
 * the node was off it is advanced by the wall clock's difference as far as that can be believed
 * (wall.h): a wall clock that is years wrong moves nothing. */
#ifndef WR_STORE_H
#define WR_STORE_H

#include "dht/dht_msg.h"
#include "transport/kv.h"
#include "transport/limits.h"
#include "transport/wall.h"

#define WR_STORE_PREFIX_MAX   8           /* bytes of the name space inside the kv store */
#define WR_STORE_PROVIDER_TTL (48 * 3600) /* s; kad-dht/README.md, provider record expiry */
#define WR_STORE_ADDRS_TTL    (24 * 3600) /* s; go-libp2p-kad-dht amino/defaults.go */
#define WR_STORE_VALUE_TTL    (48 * 3600) /* s; kad-dht/README.md */
#define WR_STORE_PER_KEY      40          /* providers of one key; ours: all fit one answer */
#define WR_STORE_ADDRS_MAX    512         /* bytes of addresses kept per provider; ours */
#define WR_STORE_PEER_SHARE   16          /* one peer may fill a 16th of a ceiling; ours */
#define WR_STORE_GROUP_SHARE  16          /* so may one public address group; ours */
#define WR_STORE_LINK_SHARE   2           /* and one link with private addresses half of it; ours */

struct wr_store {
    struct wr_env *env; /* borrowed, as the next two */
    struct wr_kv *kv;
    struct wr_limits *limits;
    uint8_t prefix[WR_STORE_PREFIX_MAX];
    uint8_t prefix_len;
    uint8_t salt[16]; /* keys and peers are named by hashes under it */
    uint32_t clock;   /* s of the store's own time at clock_at */
    wr_time clock_at;
    struct wr_wall wall;
    uint32_t providers, values; /* records held */
};

/* Nanoseconds since 1970 as far as they can be believed: what the validity of records is judged by. */
int64_t wr_store_unix(struct wr_store *s);

/* Who asks for a record to be kept, and from where (the connection's address, which cannot be
 * forged). */
struct wr_store_source {
    const struct wr_peerid *peer;
    struct wr_ip ip;
};

/* Opens the name space `prefix` inside kv. 0, WR_ECORRUPT, WR_EIO, WR_ELIMIT, WR_EFULL. */
int wr_store_open(struct wr_store *s, struct wr_env *env, struct wr_kv *kv,
                  struct wr_limits *limits, struct wr_bytes prefix);
void wr_store_close(struct wr_store *s); /* gives the limits back; the records stay */
void wr_store_lost(struct wr_store *s);  /* kv has lost all it had (wr_kv_watch): nothing is held */

/* Keeps source->peer as a provider of key (1 to WR_DHT_PROVIDER_KEY_MAX bytes) with these
 * addresses; again: renews. 0, WR_EINVAL, WR_ELIMIT (a ceiling or share), errors of kv. */
int wr_store_add_provider(struct wr_store *s, struct wr_bytes key,
                          const struct wr_store_source *source, const struct wr_bytes *addrs,
                          size_t count);

/* Providers of a key, those with addresses first. */
struct wr_store_found {
    size_t count;
    struct wr_dht_peer peers[WR_STORE_PER_KEY];
    struct wr_bytes addrs[WR_STORE_PER_KEY][WR_DHT_ADDRS_OUT_MAX];
    struct wr_buf memory; /* what addrs point into; owned */
};
/* 0 with *found set (clear it), WR_ENOTFOUND, errors of kv. */
int wr_store_providers(struct wr_store *s, struct wr_bytes key, struct wr_store_found *found);
void wr_store_found_clear(struct wr_store_found *found);

/* Keeps a value that wr_record_check has taken, unless a better one is there. 0; WR_ESTALE: the one
 * we have is better; WR_EINVAL, WR_ELIMIT, errors of kv. */
int wr_store_put_value(struct wr_store *s, struct wr_bytes key, struct wr_bytes value,
                       const struct wr_store_source *source);
/* Appends the value to *value and the time it was received (RFC 3339) to *received. 0, WR_ENOTFOUND
 * ... */
int wr_store_get_value(struct wr_store *s, struct wr_bytes key, struct wr_buf *value,
                       struct wr_buf *received);

/* Drops what has expired, at most `budget` records. Returns how many were looked at: `budget` means
 * that more may wait. Also saves the clock: call it every minute or so. */
size_t wr_store_sweep(struct wr_store *s, size_t budget);

#endif
