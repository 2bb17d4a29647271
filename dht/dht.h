/* dht.h - the distributed hash table: find peers, find and be found as a provider, keep values.
 * Service. Spec: libp2p kad-dht/README.md. One object is one DHT: one protocol id, one routing
 * table, one store of records. The public network has two, for the internet and for the local
 * network (options.scope).
 *
 *     dht = wr_dht_create(&(struct wr_dht_options){.swarm = swarm, .kv = kv,
 *                         .protocol = "/ipfs/kad/1.0.0", .scope = WR_DHT_WAN}, &err);
 *     wr_dht_find_providers(dht, key, 20, &ops, arg);    ops.on_peer for each, ops.on_done at the end
 *     wr_dht_provide(dht, key, &ops, arg);               now, and every day until wr_dht_unprovide
 *
 * It feeds itself: peers come from identify (whoever speaks the protocol), from the table saved
 * last time and from the bootstrap list, in that order of trust in one's own memory; it goes on
 * trying as long as it is alone. It serves others when it can be reached (wr_dht_mode), and asks
 * only otherwise; a verdict that it cannot ends serving at once.
 *
 * Where what is: query.h decides whom a search asks; kbucket.h whom we remember; store.h what we
 * keep for others; dht_rpc.c is one question and its answer; dht_search.c runs searches,
 * dht_announce.c puts records where they belong, dht_serve.c answers, dht_table.c looks after the
 * table. */
#ifndef WR_DHT_H
#define WR_DHT_H

#include "dht/dht_msg.h"
#include "transport/kv.h"
#include "transport/swarm.h"

#define WR_DHT_RPC_TIMEOUT      (10 * WR_SEC)  /* one question; go, rust */
#define WR_DHT_BUSY_MAX         (10 * WR_MIN)  /* who refused all our questions so long leaves the table; ours */
#define WR_DHT_SEARCH_TIMEOUT   (60 * WR_SEC)  /* one search; rust query.rs */
#define WR_DHT_REANNOUNCE       (22 * WR_HOUR) /* kad-dht/README.md, republish interval */
#define WR_DHT_PROVIDED_MAX     16384          /* keys we provide; ours */
#define WR_DHT_NAMES_MAX        256            /* names joined; ours */
#define WR_DHT_BOOTSTRAP_MAX    64             /* addresses in the list; ours */
#define WR_DHT_TABLE_LOW        10 /* fewer peers: bootstrap again; go dht_bootstrap.go */
#define WR_DHT_DOWN_AFTER       (10 * WR_MIN) /* not known to be reachable for so long: stop serving; ours */
#define WR_DHT_INBOUND_MAX      512           /* streams of others open at once; ours */
#define WR_DHT_INBOUND_PER_CONN 32            /* rust handler.rs, js constants.ts */
#define WR_DHT_INBOUND_IDLE     (60 * WR_SEC) /* go dht_net.go */
#define WR_DHT_RATE             20  /* requests per s and guest (address or LAN peer); ours */
#define WR_DHT_RATE_BURST       200 /* requests; ours: a crawl of 16 buckets and some lookups */
#define WR_DHT_RATE_WAIT        (2 * WR_SEC) /* longest pause behind a request beyond that; ours, go waits 5 s */

struct wr_dht;

/* Which addresses belong into this DHT. */
enum wr_dht_scope {
    WR_DHT_ANY, /* a network of one's own: whatever the asker can use */
    WR_DHT_WAN, /* public addresses only */
    WR_DHT_LAN, /* private ones only */
};

enum wr_dht_mode {
    WR_DHT_AUTO,   /* serve while we can be reached, see wr_dht_serving */
    WR_DHT_CLIENT, /* never serve */
    WR_DHT_SERVER, /* always serve */
};

enum wr_dht_event_type {
    WR_DHT_READY,   /* the table has peers for the first time, or again */
    WR_DHT_ALONE,   /* the last one is gone */
    WR_DHT_SERVING, /* we answer others now */
    WR_DHT_RESTING, /* we do not any more */
};

struct wr_dht_options {
    struct wr_swarm *swarm; /* outlives the DHT */
    struct wr_kv *kv;       /* outlives the DHT */
    const char *protocol;   /* "/ipfs/kad/1.0.0"; copied */
    enum wr_dht_scope scope;
    enum wr_dht_mode mode;
    bool crowded;  /* no limit on peers of one address group: laboratories */
    unsigned rate; /* requests per s and guest; 0: WR_DHT_RATE */
    void (*on_event)(void *arg, enum wr_dht_event_type event); /* NULL: not wanted */
    void *arg;
};

/* NULL with *err: WR_ELIMIT, WR_EINVAL (protocol), errors of the store. */
struct wr_dht *wr_dht_create(const struct wr_dht_options *options, int *err);
/* Saves the table, drops what is under way without a word. NULL is allowed. */
void wr_dht_destroy(struct wr_dht *d);

void wr_dht_set_mode(struct wr_dht *d, enum wr_dht_mode mode);
bool wr_dht_serving(const struct wr_dht *d);
bool wr_dht_alone(const struct wr_dht *d); /* the routing table is empty */
/* Where to go when nobody is known: multiaddrs with /p2p, dnsaddr ones too. Replaces the list. 0,
 * WR_ELIMIT. */
int wr_dht_set_bootstrap(struct wr_dht *d, const struct wr_maddr *addrs, size_t count);

/* ---- questions. Each returns a request that ends with on_done (once, in a later turn) unless
 * cancelled, or NULL with *err: WR_ELIMIT, WR_EINVAL. err of on_done: 0; WR_ENOTFOUND; WR_ETIMEOUT:
 * it took too long; WR_EUNREACH: nobody to ask. */
struct wr_dht_request;

struct wr_dht_ops {
    /* A peer found; more than once for providers. Borrowed during the call. NULL: not wanted. */
    void (*on_peer)(void *arg, const struct wr_dht_peer *peer);
    /* The best value found, just before on_done(0). */
    void (*on_value)(void *arg, struct wr_bytes value);
    void (*on_done)(void *arg, int err);
};

void wr_dht_cancel(struct wr_dht_request *r); /* no more calls */

/* A peer's addresses; they are put into the peerstore as well. */
struct wr_dht_request *wr_dht_find_peer(struct wr_dht *d, const struct wr_peerid *id,
                                        const struct wr_dht_ops *ops, void *arg, int *err);
/* The peers nearest to a key (sha256 of these bytes), nearest first, all at the end. */
struct wr_dht_request *wr_dht_find_closest(struct wr_dht *d, struct wr_bytes key,
                                           const struct wr_dht_ops *ops, void *arg, int *err);
/* Providers of a multihash, as they turn up, at most `want` (0: all there are); ourselves not among
 * them. */
struct wr_dht_request *wr_dht_find_providers(struct wr_dht *d, struct wr_bytes key, unsigned want,
                                             const struct wr_dht_ops *ops, void *arg, int *err);
/* The best valid value, after `quorum` of them (0: all that the nearest peers have). Holders of
 * none or of a worse one are given the best. WR_EUNSUPPORTED: no rule for such keys, so none could
 * be told valid. */
struct wr_dht_request *wr_dht_get_value(struct wr_dht *d, struct wr_bytes key, unsigned quorum,
                                        const struct wr_dht_ops *ops, void *arg, int *err);
/* Leaves a value with the peers nearest to its key; on_done(0) once one of them keeps it.
 * WR_EPROTO, WR_EAUTH, WR_EUNSUPPORTED, WR_ESTALE: what record.h says of it. */
struct wr_dht_request *wr_dht_put_value(struct wr_dht *d, struct wr_bytes key,
                                        struct wr_bytes value, const struct wr_dht_ops *ops,
                                        void *arg, int *err);

/* ---- being found */
/* Announces us as a provider of a multihash now and every WR_DHT_REANNOUNCE, also after a restart,
 * until unprovide. on_done(0) when most of the nearest peers have been told (one that says no does
 * not count; most say nothing either way), or an error of the first try, which is repeated sooner:
 * WR_ENOADDR, nobody could reach us; WR_EREFUSED, all said no; those of every question. ops may be NULL; then NULL
 * with *err 0 is success. */
struct wr_dht_request *wr_dht_provide(struct wr_dht *d, struct wr_bytes key,
                                      const struct wr_dht_ops *ops, void *arg, int *err);
bool wr_dht_unprovide(struct wr_dht *d, struct wr_bytes key); /* false: was none of ours */
bool wr_dht_provides(const struct wr_dht *d, struct wr_bytes key);

/* Being a member of a name and looking for the others, until wr_dht_leave. on_peer comes once per
 * member and sighting; the same one again after an hour. on_done is not called. NULL with *err:
 * WR_EINVAL, WR_ELIMIT. */
struct wr_dht_name;
struct wr_dht_name *wr_dht_join(struct wr_dht *d, struct wr_bytes name,
                                const struct wr_dht_ops *ops, void *arg, int *err);
void wr_dht_leave(struct wr_dht_name *name);

/* For wr_swarm_set_router: addresses of peers that have none. Valid as long as the DHT: before it ends, the
 * swarm must have been told of another, or of none. */
struct wr_router wr_dht_router(struct wr_dht *d);

struct wr_dht_stats {
    size_t table, buckets;            /* peers and buckets of the routing table */
    size_t providers, values;         /* records kept for others */
    size_t provided, names;           /* keys of ours, names joined */
    size_t searches, guests;          /* under way; streams of others */
    uint64_t network_size;            /* estimate of all servers; 0: unknown */
    uint64_t asked, answered, failed; /* questions of ours */
    uint64_t served, refused;         /* questions of others */
};
void wr_dht_stats(const struct wr_dht *d, struct wr_dht_stats *out);
/* The routing table, for kbucket.h to walk; borrowed until the end of the turn. */
struct wr_kbucket;
const struct wr_kbucket *wr_dht_table(const struct wr_dht *d);

#endif
