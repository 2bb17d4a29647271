/* dht_impl.h - what the files of the service share. Internal.
 *
 *   dht.c           life, mode, events          dht_table.c     admission, upkeep, bootstrap
 *   dht_rpc.c       one question, one answer    dht_saved.c     peers remembered on disk
 *   dht_search.c    requests that search        dht_serve.c     streams of others
 *   dht_announce.c  puts, provided keys, joined names
 *   dht_crowd.c     searches where false peers stand near the key */
#ifndef WR_DHT_IMPL_H
#define WR_DHT_IMPL_H

#include "dht/dht.h"
#include "dht/kbucket.h"
#include "dht/netsize.h"
#include "dht/query.h"
#include "dht/store.h"
#include "transport/msg.h"

/* ---- dht_rpc.c: a question to one peer over a stream of its own.
 *   we    --- [dial,] open, request, end of writing --->    peer
 *   we    <--- answer (none for ADD_PROVIDER), end ---       peer */
struct wr_dht_rpc {
    struct wr_msg msg;
    struct wr_list node; /* wr_dht.rpcs */
    struct wr_dht *dht;
    struct wr_peerid peer;
    bool one_way; /* the end of the stream is the answer */
    bool warm;    /* there was a connection when it was asked */
    bool busy;    /* the peer refused: it is asked too much */
    wr_time sent_at;
    void *owner; /* NULL: nobody waits for it any more, done is not called */
    /* Once. answer is borrowed during the call and may be changed in it, NULL on error or when
     * one-way. The rpc is gone afterwards. */
    void (*done)(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer);
    struct wr_task dispose;
};

/* Asks. addrs: packed as in query.h, filtered already, put into the peerstore first. NULL with
 * *err: nothing was sent and done is not called. */
struct wr_dht_rpc *wr_dht_rpc_ask(struct wr_dht *d, const struct wr_peerid *peer,
                                  struct wr_bytes addrs, const struct wr_dht_msg *request,
                                  void *owner,
                                  void (*done)(struct wr_dht_rpc *, int, struct wr_dht_msg *),
                                  int *err);
/* The owner loses interest: what is under way may still teach the table something. */
void wr_dht_rpc_orphan(struct wr_dht *d, const void *owner);
void wr_dht_rpc_drop_all(struct wr_dht *d);

/* ---- dht_search.c ---- */
enum request_kind { FIND_PEER, FIND_CLOSEST, FIND_PROVIDERS, GET_VALUE, PUT_VALUE, PROVIDE };

#define CROWD_SIDES 3 /* searches beside a crowd: they cover 7/8 of where the nearest are expected; ours */

struct wr_dht_request {
    struct wr_list node; /* wr_dht.requests */
    struct wr_dht *dht;
    enum request_kind kind;
    const struct wr_dht_ops *ops; /* borrowed; may be NULL */
    void *arg;
    uint8_t key[WR_DHT_KEY_MAX];
    size_t key_len;
    struct wr_query *query;
    struct wr_task pump, dispose;
    struct wr_timer timer;
    wr_time started_at, ends_at;
    bool over;  /* on_done was called, or it was cancelled */
    bool quiet; /* upkeep: counts under no limit */
    unsigned want;
    struct wr_peerid *seen; /* owned: providers told of; peers the record was sent to */
    size_t seen_count, seen_cap;
    struct wr_buf value;    /* to put, or the best found so far */
    uint32_t best, numbers; /* number of the best value, numbers given out */
    bool putting;           /* the search is over, the record goes out */
    unsigned puts, puts_over, puts_kept, puts_slow;
    bool crowded;                              /* false peers stand near the key: see dht_crowd.c */
    uint8_t middle[WR_KAD_KEY];                /* of their crowd */
    double breadth;                            /* of it: share of the key space */
    struct wr_dht_request *sides[CROWD_SIDES]; /* searches beside them, under way */
};

/* Makes and starts one; set: see wr_query_config. NULL with *err. */
struct wr_dht_request *wr_dht_request_start(struct wr_dht *d, enum request_kind kind,
                                            struct wr_bytes key, unsigned want, unsigned set,
                                            bool quiet, const struct wr_dht_ops *ops, void *arg,
                                            int *err);
/* Is the peer one of `seen`? */
bool wr_dht_request_met(const struct wr_dht_request *r, const struct wr_peerid *id);
/* Ends it: on_done, unless it is over already. */
void wr_dht_request_end(struct wr_dht_request *r, int err);
void wr_dht_request_timer(struct wr_timer *timer); /* of wr_dht_request.timer */
/* Somebody to ask has turned up. */
void wr_dht_requests_wake(struct wr_dht *d);
void wr_dht_requests_drop_all(struct wr_dht *d);

/* ---- dht_crowd.c ---- */
/* The search is over, or takes long: do false peers stand near the key? Then true, the first time; the search
 * is widened and goes on once that is done. */
bool wr_dht_crowd_begin(struct wr_dht_request *r);
bool wr_dht_crowd_waits(const struct wr_dht_request *r); /* for searches beside the crowd */
void wr_dht_crowd_cancel(struct wr_dht_request *r);

/* ---- dht_announce.c ---- */
/* The search is over: tells the nearest what r->value or we as provider are. */
void wr_dht_put_begin(struct wr_dht_request *r);
/* A peer that surely is one of the nearest has answered: it is told at once. */
void wr_dht_put_early(struct wr_dht_request *r, const struct wr_peerid *id);
/* Puts under way take longer than they should: others are told beside them. */
void wr_dht_put_slow(struct wr_dht_request *r);
/* Gives the best value to those of the nearest that did not have it. */
void wr_dht_correct(struct wr_dht_request *r);
int wr_dht_announce_init(struct wr_dht *d);
void wr_dht_announce_clear(struct wr_dht *d);
/* A caller's own announcement of a key succeeded. */
void wr_dht_announce_done(struct wr_dht *d, struct wr_bytes key);
/* The store lost all it had: writes again what we provide. */
void wr_dht_announce_save(struct wr_dht *d);
/* There may be an address to tell of now: what was missed comes soon. */
void wr_dht_announce_missed(struct wr_dht *d);
/* There is somebody to tell now: the same, and names without members are looked for again. */
void wr_dht_announce_wake(struct wr_dht *d);

/* ---- dht_table.c ---- */
void wr_dht_table_init(struct wr_dht *d);
void wr_dht_table_clear(struct wr_dht *d);
/* A question to it could not even be sent. */
void wr_dht_table_failed(struct wr_dht *d, const struct wr_peerid *peer, int err);
/* Identify says that the peer speaks our protocol, or that it does not. */
void wr_dht_table_consider(struct wr_dht *d, struct wr_conn *conn);
void wr_dht_table_consider_all(struct wr_dht *d); /* whoever is connected and serves */
void wr_dht_table_forget(struct wr_dht *d, const struct wr_peerid *peer);
/* The last connection to a peer is gone. */
void wr_dht_table_parted(struct wr_dht *d, const struct wr_peerid *peer);
void wr_dht_table_wake(struct wr_dht *d); /* look at what is due */
/* Asks whether it belongs into the table. False: nothing was asked. */
bool wr_dht_table_check(struct wr_dht *d, const struct wr_peerid *peer);
/* Dials one of the bootstrap list that is neither connected nor in the table; *peer says whom, if any. */
void wr_dht_table_dial_absent(struct wr_dht *d, struct wr_peerid *peer);

/* ---- dht_saved.c ---- */
void wr_dht_save(struct wr_dht *d);
bool wr_dht_has_saved(const struct wr_dht *d);
void wr_dht_try_saved(struct wr_dht *d); /* asks some of the saved peers */
/* Tries one who fell silent, when it is time (look_at). */
void wr_dht_look_out(struct wr_dht *d, wr_time now);
/* A peer has entered the table: was it one tried so? */
void wr_dht_looked_for(struct wr_dht *d, const struct wr_peerid *peer);

/* ---- dht_serve.c ---- */
struct wr_dht_guest;
void wr_dht_serve_init(struct wr_dht *d);
void wr_dht_serve_start(struct wr_dht *d);
void wr_dht_serve_stop(struct wr_dht *d); /* withdraws the protocol, resets the streams of others */
void wr_dht_serve_clear(struct wr_dht *d);

/* ---- dht_addr.c: which addresses belong here ---- */
/* May we ask, keep or hand out a peer at this address at all? */
bool wr_dht_addr_fits(const struct wr_dht *d, struct wr_bytes addr);
/* Is this address of use to who sits at `asker`? */
bool wr_dht_addr_for(const struct wr_dht *d, struct wr_bytes addr, const struct wr_ip *asker);
/* Drops the addresses that do not fit, keeping the order; returns how many are left. */
size_t wr_dht_addrs_filter(const struct wr_dht *d, struct wr_bytes *addrs, size_t count);
/* A connection over which a peer may enter the table. */
bool wr_dht_conn_fits(const struct wr_dht *d, const struct wr_conn *conn);
/* Our own addresses to put into a record for who sits at `asker` (NULL: not known). Returns how many
 * of at most max. */
size_t wr_dht_own_addrs(const struct wr_dht *d, const struct wr_ip *asker, struct wr_maddr *out,
                        size_t max);

#define OWN_ADDRS_MAX WR_DHT_ADDRS_OUT_MAX

struct wr_dht {
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_kv *kv;
    struct wr_limits *limits;
    char protocol[WR_PROTOCOL_NAME_MAX + 1];
    const char *offer[2];
    enum wr_dht_scope scope;
    enum wr_dht_mode mode;
    bool crowded;
    unsigned rate;
    void (*on_event)(void *arg, enum wr_dht_event_type event);
    void *arg;
    struct wr_peerid self;
    struct wr_kbucket table;
    struct wr_store store;
    struct wr_pace pace;
    struct wr_netsize netsize;
    struct wr_swarm_watch watch;
    struct wr_kv_watch kv_watch;
    struct wr_list rpcs, requests;
    /* What became of each question, whoever asked: the table is told before rpc->done is. */
    void (*heard)(const struct wr_dht_rpc *rpc, int err, const struct wr_dht_msg *answer);
    struct wr_dht_stats counted; /* the counters of it */

    /* serving */
    bool serving;
    struct wr_timer mode_timer; /* running: to stop serving unless things look better by then */
    struct wr_list guests;
    size_t guest_count;
    struct wr_map rates;
    struct wr_list rate_order;

    /* upkeep */
    struct wr_timer upkeep;
    struct wr_task upkeep_task;
    struct wr_maddr *bootstrap; /* owned */
    size_t bootstrap_count;
    bool ready, settled, loaded;
    wr_time boot_at, boot_wait, check_at, save_at, sweep_at, keep_at;
    wr_time success_at;      /* anybody answered us last */
    unsigned checks;         /* admissions under way */
    struct wr_list waiting;  /* for one */
    size_t waiting_count;
    wr_time again_at, again_wait; /* when those who were not admitted are looked at again */
    struct wr_list connects; /* dials of bootstrap peers */
    wr_time look_at, look_wait;
    struct wr_peerid looked_for; /* the silent peer tried last */
    bool found_back;             /* it answered: our neighbourhood may look different */
    struct wr_dht_request *refresh;
    uint8_t refresh_key[WR_KAD_KEY];

    /* being found */
    struct wr_list provided, names;
    size_t provided_count, name_count;
    unsigned announcing;
    struct wr_timer announce_timer;
};

#endif
