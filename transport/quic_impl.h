/* quic_impl.h - the inside of QUIC, shared by quic.c (sockets, routing, strangers), quic_conn.c (one
 * connection), quic_send.c (its packets and its timer), quic_mem.c (its memory), quic_linger.c (farewells) and
 * quic_stream.c. Service, private. */
#ifndef WR_QUIC_IMPL_H
#define WR_QUIC_IMPL_H

#include "transport/conn_impl.h"
#include "transport/map.h"
#include "transport/quic.h"
#include "transport/quic_compat.h"
#include "transport/quic_order.h"
#include "transport/sparse.h"
#include "transport/tlsctx.h"

#include <netinet/in.h>

#define WR_QUIC_CID           8      /* bytes of the ids we give out; quinn */
#define WR_QUIC_SPARES_MAX    4      /* sockets beside those, for single punches; ours */
#define WR_QUIC_SOCKS_MAX     (16 + WR_QUIC_SPARES_MAX)    /* ours, as the swarm's listeners */
#define WR_QUIC_DATAGRAM      1452   /* bytes sent at most; IPv6 over Ethernet; go */
#define WR_QUIC_SECRET        32     /* bytes */
#define WR_QUIC_IV            12     /* bytes, of every cipher; RFC 9001 section 5.3 */
#define WR_QUIC_LINGERS_MAX   1024   /* ours; the oldest goes */
#define WR_QUIC_RESERVE       4      /* blocks put by: one call of ngtcp2's needs two or three; ours */
#define WR_QUIC_STREAM_WINDOW (512 * 1024)          /* bytes at first; go */
#define WR_QUIC_STREAM_FAST   (8 * 1024 * 1024)     /* bytes it may grow to by doubling; ours */
#define WR_QUIC_STREAM_MAX    (20 * 1024 * 1024)    /* and by small steps: 250 Mbit/s over 600 ms; ours, go has 10 */
#define WR_QUIC_CONN_WINDOW   (768 * 1024)          /* bytes at first, all streams together; go */
#define WR_QUIC_CONN_MAX      (22 * 1024 * 1024)    /* ours; go has 15 */
#define WR_QUIC_SEND_MIN      (128 * 1024)          /* bytes a stream may have queued at least; as yamux */
#define WR_QUIC_SEND_MAX      (4 * 1024 * 1024)     /* bytes it may have queued or under way at first; as yamux */
#define WR_QUIC_STRAYS_MAX    12                    /* packets from elsewhere; below ngtcp2's 16; ours */
#define WR_QUIC_SEND_MOST     (22 * 1024 * 1024)    /* on a long fat path: our window and something to follow; ours */

struct wr_quic_conn;
struct wr_quic_linger;

struct wr_quic_sock {
    struct wr_quic *q;
    struct wr_dgram *dgram;
    struct wr_addr at;
    bool listening;
    bool spare;           /* wr_quic_spare_open; its place is free when dgram is NULL */
    unsigned users;       /* of a spare one: connections, their farewells, whoever opened it */
    struct wr_task task;  /* of a spare one: nobody uses it any more */
};

/* An entry of the routing table: one connection id of ours, or one reset token of a peer. */
enum wr_quic_id_kind { WR_QUIC_ID_CID, WR_QUIC_ID_RESET };
struct wr_quic_id {
    struct wr_list node;                 /* of the connection or linger that it leads to */
    struct wr_quic_conn *conn;
    struct wr_quic_linger *linger;       /* when conn is NULL */
    uint8_t len, key[1 + NGTCP2_MAX_CIDLEN];
};

/* How often something that strangers can cause was done in this second. */
struct wr_quic_rate {
    wr_time since;
    unsigned done;
};

/* Blocks for all connections. */
struct wr_quic_pool {
    struct wr_sparse sparse;
    void *reserve[WR_QUIC_RESERVE];      /* owned: for when the system has none */
    size_t reserve_count;                /* less those that are lent */
};

struct wr_quic {
    struct wr_conn_ctx *ctx;
    struct wr_env *env;
    const struct wr_quic_ops *ops;
    void *arg;
    struct wr_quic_sock socks[WR_QUIC_SOCKS_MAX];
    size_t sock_count;
    struct wr_map ids;                   /* struct wr_quic_id */
    struct wr_quic_id *last_id;          /* the one found last, or NULL: packets come in rows */
    struct wr_quic_pool pool;
    struct wr_list conns;                /* struct wr_quic_conn.all */
    struct wr_list lingers;              /* oldest first */
    size_t linger_count;
    struct wr_list jammed;               /* struct wr_quic_conn that wait for a socket's room */
    struct wr_quic_rate resets, retries, invalids, versions, unproved, errors;
    uint8_t reset_secret[WR_QUIC_SECRET], token_secret[WR_QUIC_SECRET];
    uint8_t retry_secret[16];            /* for the ids that Retry packets give out */
    bool retry_always;
    enum wr_quic_cc cc;
    wr_time lifetime;                    /* of an idle mapping of our NAT; 0: not known */
    wr_time first_rtt;                   /* guess for the dial that begins now; 0: none */
    uint16_t first_port;                 /* of the spare socket that it leaves from; 0: none */
    struct wr_task task;                 /* disposal */
};

/* A path with its addresses, for one call. */
struct wr_quic_path {
    ngtcp2_path path;
    struct sockaddr_storage local, remote;
};

/* What ngtcp2 allocates for one connection. Its pools for packets, frames, streams and sets are made for bursts, and
 * most connections are idle: their blocks are sparse. 0.12.1 ends the process where it has nowhere to note a packet
 * down that it has made (an assertion in conn_write_pkt looks at the wrong variable). So in the middle of its work it
 * is not refused what the account has no room for, or the system: that is lent, and the connection ends when the work
 * is over. */
struct wr_quic_mem {
    ngtcp2_mem mem;
    struct wr_conn *conn;                /* its account pays for all of a block */
    struct wr_quic_pool *pool;
    uint64_t lent;                       /* bytes given beyond the account */
    bool ends;                           /* something was lent or refused: all that ngtcp2 may do is say farewell */
};

struct wr_quic_conn {
    struct wr_conn conn;                 /* first */
    struct wr_list all;
    struct wr_quic *q;
    struct wr_quic_sock *sock;
    ngtcp2_conn *ng;                     /* owned */
    struct wr_quic_mem mem;              /* counts what it holds in conn.memory */
    gnutls_session_t tls;                /* owned; NULL once it is not needed any more */
    ngtcp2_crypto_conn_ref ref;
    struct wr_peerid *expect;            /* owned, or NULL */
    struct wr_list ids;                  /* struct wr_quic_id */
    struct wr_list streams;              /* struct wr_quic_stream.node: all */
    struct wr_list ready, starved;       /* .ready: with something to send; the connection's window shut */
    struct wr_list jam_node;
    struct wr_task flush;
    struct wr_timer timer;
    uint32_t outbound, inbound;          /* streams of ours, of the peer's */
    uint64_t send_cap;                   /* bytes a stream may have queued or unacknowledged */
    uint64_t send_max;                   /* what it may become, by and by */
    wr_time send_max_at;                 /* when that was changed */
    uint64_t window, window_used;        /* received: as wr_quic_stream, all streams together */
    wr_time window_at;
    wr_time keepalive;                   /* silence after which we ask */
    wr_time asked_at;                    /* last time that something was sent which wants an answer */
    uint64_t in_flight_seen;             /* bytes under way at the last look */
    wr_time held_until;                  /* the timer's instant, when only pacing kept more from being sent; or 0 */
    wr_time rtt;                         /* round trip at the last look, 0: not known */
    unsigned probes;                     /* sent since the last answer */
    wr_time mute_at;                     /* without an answer by then nobody is there; 0: not in question */
    wr_time moved_until, follow_by;      /* we have moved, and acknowledgements up to the one time may be of what was said
                                            before; by the other one newer ones come. 0: not in question */
    wr_time acked_at;                    /* when data of ours was acknowledged last */
    wr_time silence, heard_at;           /* the shorter one after data, 0: not in force; last packet taken */
    bool data_came, asked, talk;         /* since the last look; since data came; it was little */
    uint64_t came;                       /* bytes of streams since the last time that we asked */
    uint64_t opened, allowed, credit;    /* the peer's streams so far; as many as it may open; not told yet beyond that */
    wr_time narrow_until;                /* large packets get lost: none of them for a while */
    uint64_t cwnd_seen, loss_events;     /* the window at the last look; how often it was cut since */
    uint32_t migrations;                 /* changes of either end's address */
    struct wr_addr towards;              /* where ngtcp2 sends; conn.remote once that has answered */
    unsigned strays;                     /* packets by other paths that may have cost an id */
    struct wr_addr stray_local, stray_remote;    /* the last one's path */
    wr_time stray_at;
    int verdict;                         /* on the peer's certificate, and on how much it has to say before */
    struct wr_quic_order order;          /* of the peer's packets */
    bool inside;                         /* ngtcp2 is at work: it must not be called for most things */
    bool over;                           /* said farewell, or forgotten: ng is only to be freed */
    bool room, opens;                    /* to do after ngtcp2's work: tell writers, retry opens */
    bool settling;                       /* only what comes by the path in use is heard: WR_QUIC_ABORTS */
    bool renamed;                        /* an id of the peer's came into use */
    bool challenged;                     /* the packet being made asks whether a path works */
    bool confirmed;
    bool forgotten;                      /* by the peer: it sent a stateless reset */
    bool close_wanted;                   /* asked for from inside */
};

struct wr_quic_stream {
    struct wr_list node, ready;
    struct wr_quic_conn *qc;
    struct wr_stream *s;                 /* NULL once forgotten or refused */
    int64_t id;
    struct wr_quic_chunk *head, *tail;   /* owned: bytes from `acked` on */
    struct wr_quic_chunk *unsent;        /* no byte before this chunk is still to be sent; NULL: there are none */
    uint64_t acked, sent, end;           /* offsets in what we send */
    uint64_t window, window_used;        /* received: how much may be unread; read since window_at */
    uint64_t unread;                     /* given to the owner and not consumed */
    wr_time window_at;
    bool local, shut, fin_sent;
    bool dead;                           /* the peer stopped reading: what is written goes nowhere */
    bool closed;                         /* ngtcp2 has forgotten it */
};

/* ---- quic.c */
void wr_quic_make_path(struct wr_quic_path *path, const struct wr_addr *local, const struct wr_addr *remote);
/* Puts a key into the table, led to qc. 0, WR_EEXIST, WR_ELIMIT. */
int wr_quic_id_add(struct wr_quic_conn *qc, enum wr_quic_id_kind kind, const uint8_t *key, size_t len);
void wr_quic_id_drop(struct wr_quic_conn *qc, enum wr_quic_id_kind kind, const uint8_t *key, size_t len);
void wr_quic_id_free(struct wr_quic *q, struct wr_quic_id *id);
/* Sends datagrams along a path of ngtcp2's. As wr_dgram_send. */
int wr_quic_send(struct wr_quic_sock *sock, const ngtcp2_path *path, uint8_t ecn, const uint8_t *data,
                 size_t len, size_t segment);
bool wr_quic_may(struct wr_quic *q, struct wr_quic_rate *rate, unsigned max);
/* From here on *at is that socket, or (NULL) none: a spare one goes when nobody uses it any more. */
void wr_quic_sock_use(struct wr_quic_sock **at, struct wr_quic_sock *sock);
/* 0, WR_ELIMIT. */
int wr_quic_pool_init(struct wr_quic_pool *pool);
/* Gets what was lent anew. False: the system has no memory. */
bool wr_quic_pool_fill(struct wr_quic_pool *pool);
/* After all blocks were given back. */
void wr_quic_pool_clear(struct wr_quic_pool *pool);
/* conn and pool are borrowed, as mem is by what is made with it. */
void wr_quic_mem_init(struct wr_quic_mem *mem, struct wr_conn *conn, struct wr_quic_pool *pool);

/* ---- quic_conn.c */
struct wr_quic_conn *wr_quic_conn_dial(struct wr_quic *q, struct wr_quic_sock *sock,
                                       const struct wr_addr *local, const struct wr_addr *to,
                                       const struct wr_peerid *expect, int *err);
struct wr_quic_first {
    const ngtcp2_pkt_hd *hd;             /* of the first packet */
    ngtcp2_cid original;                 /* the client's first choice; hd->dcid unless it was told to retry */
    bool retried;
    struct wr_addr local, remote;
};
/* NULL when out of memory or the id is taken. */
struct wr_quic_conn *wr_quic_conn_accept(struct wr_quic *q, struct wr_quic_sock *sock,
                                         const struct wr_quic_first *first);
void wr_quic_conn_input(struct wr_quic_conn *qc, struct wr_quic_sock *sock, const ngtcp2_path *path,
                        uint8_t ecn, const uint8_t *data, size_t len);
void wr_quic_conn_want_flush(struct wr_quic_conn *qc);
/* How often it asks when nothing comes: the NAT's memory may have become known. */
void wr_quic_conn_keepalive(struct wr_quic_conn *qc);
/* Goes on from this address of ours. False: it cannot. */
bool wr_quic_conn_move(struct wr_quic_conn *qc, struct wr_quic_sock *sock, const struct wr_addr *local);

/* Before whatever has ngtcp2 open packets. Returns whose were read before. */
struct wr_quic_conn *wr_quic_conn_reads(struct wr_quic_conn *qc);
/* Whether something was lent to it or refused: then it is over. */
bool wr_quic_conn_ends(struct wr_quic_conn *qc);
/* ngtcp2 cannot go on: says so to the peer and to the swarm. */
void wr_quic_conn_fail(struct wr_quic_conn *qc, int rc);
/* Over without a word: nobody is there, or it never began. */
void wr_quic_conn_forget(struct wr_quic_conn *qc, int err);
static inline ngtcp2_tstamp wr_quic_now(const struct wr_quic_conn *qc)
{
    return (ngtcp2_tstamp)wr_env_now(qc->q->env);
}

/* ---- quic_keys.c: callbacks of ngtcp2's that know whose keys they are given */
void wr_quic_keys_hook(gnutls_session_t session);    /* one that ngtcp2 has configured: what secrets lead to */
int wr_quic_keys_update(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                        uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv, const uint8_t *rx_now,
                        const uint8_t *tx_now, size_t len, void *user_data);
int wr_quic_keys_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                         const uint8_t *plain, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *head,
                         size_t head_len);
int wr_quic_keys_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                         const uint8_t *sealed, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *head,
                         size_t head_len);
int wr_quic_keys_mask(uint8_t *dest, const ngtcp2_crypto_cipher *cipher, const ngtcp2_crypto_cipher_ctx *ctx,
                      const uint8_t *sample);
void wr_quic_keys_drop(ngtcp2_conn *ng, ngtcp2_crypto_aead_ctx *ctx, void *user_data);
void wr_quic_keys_drop_mask(ngtcp2_conn *ng, ngtcp2_crypto_cipher_ctx *ctx, void *user_data);

/* ---- quic_send.c */
/* Sends what there is to send and sets the timer: the task qc->flush. */
void wr_quic_send_task(struct wr_task *task);

/* ---- quic_linger.c: a connection that is over still answers for a while */
/* Takes the ids of qc over. len 0: only keeps quiet. */
void wr_quic_linger(struct wr_quic_conn *qc, const ngtcp2_path *path, const uint8_t *farewell, size_t len,
                    wr_time duration);
void wr_quic_linger_input(struct wr_quic_linger *l);
void wr_quic_linger_free(struct wr_quic_linger *l);

/* ---- quic_stream.c */
extern const struct wr_mux_ops wr_quic_mux_ops;
struct wr_quic_stream *wr_quic_stream_create(struct wr_quic_conn *qc, bool local);
void wr_quic_stream_destroy(struct wr_quic_stream *qs);
void wr_quic_stream_arrived(struct wr_quic_stream *qs, const uint8_t *data, size_t len, bool fin);
void wr_quic_stream_reset_by_peer(struct wr_quic_stream *qs, uint64_t code);
void wr_quic_stream_acked(struct wr_quic_stream *qs, uint64_t until);
void wr_quic_stream_closed(struct wr_quic_stream *qs);
/* What is to be sent next: pieces into vec, returns their number; *fin when the end comes behind them. */
size_t wr_quic_stream_pieces(const struct wr_quic_stream *qs, ngtcp2_vec *vec, size_t max, bool *fin);
void wr_quic_stream_sent(struct wr_quic_stream *qs, size_t len, bool fin);
void wr_quic_stream_stopped(struct wr_quic_stream *qs);

/* ---- quic_conn.c, as the stream operations need it */
void wr_quic_conn_close(struct wr_conn *c, uint32_t code);
void wr_quic_conn_release(struct wr_conn *c);

#endif
