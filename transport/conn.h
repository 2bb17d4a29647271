/* conn.h - one connection to one peer, whatever carries it. Service.
 * A connection is handed to the swarm once the peer has proved its identity and streams can be opened.
 * channel.c makes one from a socket (multistream, Noise or TLS, yamux); another transport does it its own way
 * behind struct wr_mux_ops. */
#ifndef WR_CONN_H
#define WR_CONN_H

#include "transport/limits.h"
#include "transport/maddr.h"
#include "transport/protocols.h"
#include "transport/secure.h"
#include "transport/stream.h"

struct wr_conn;

/* What every connection of a node shares; owned by the swarm. */
struct wr_conn_ctx {
    struct wr_env *env;
    struct wr_limits *limits;
    const struct wr_key *identity;
    struct wr_peerid self;
    struct wr_noise_static noise;
    struct wr_aead *aead;
    struct wr_verified *verified;    /* peers' signatures; or NULL */
    struct wr_tlsctx *tls;           /* one certificate for TLS over TCP and for QUIC */
    const struct wr_secure *security[WR_SECURE_COUNT + 1];    /* spoken here, the favourite first; NULL at the end */
    const uint8_t *psk;              /* WR_PNET_KEY bytes, or NULL */
    struct wr_protocols protocols;
    uint8_t *scratch;                /* outgoing frames are sealed here, WR_CONN_SCRATCH bytes */
    uint8_t *inbox;                  /* what comes through relays is opened here, WR_WIRE_INBOX bytes */
    const struct wr_conn_events *events;
    void *events_arg;
};

#define WR_CONN_SCRATCH (2 * (WR_NOISE_HEADER + WR_NOISE_FRAME_MAX))    /* bytes: two full frames a write */

/* Connection error codes: libp2p error code registry (go core/network/conn.go). */
#define WR_CONN_OK         0x0
#define WR_CONN_LIMIT      0x1001
#define WR_CONN_RATE       0x1002
#define WR_CONN_VIOLATION  0x1003
#define WR_CONN_TRIMMED    0x1005
#define WR_CONN_SHUTDOWN   0x1006
#define WR_CONN_GATED      0x1007

#define WR_CONN_SILENCE (2 * WR_SEC)    /* and two round trips, for anything at all to come of a stream that we opened; ours */

/* Told to the swarm. */
struct wr_conn_events {
    /* Peer known, streams possible. The swarm may refuse by closing it inside. */
    void (*on_open)(void *arg, struct wr_conn *c);
    /* The last word about a connection: after on_open, or instead of it (then the peer may be unknown).
     * Its streams have been told. Also after wr_conn_close. */
    void (*on_close)(void *arg, struct wr_conn *c, int err);
    /* A connection that we dialled gets no answers any more: the network loses much just now, or the peer does not
     * take what comes from our present address, or is gone. Once for each silence; and (c->mute is false) when
     * something came again after all. */
    void (*on_mute)(void *arg, struct wr_conn *c);
    /* Its peer speaks from another address than before, and has proved that it is there. Closes nothing inside. */
    void (*on_moved)(void *arg, struct wr_conn *c);
};

/* How a relay carries a connection; circuit relay v2. */
struct wr_circuit {
    struct wr_peerid relay;
    struct wr_maddr addr;    /* where the relay is, /p2p/RELAY/p2p-circuit behind it */
    bool limited;            /* it announced limits, zero or not: few bytes, opt-in protocols only */
    wr_time duration;        /* announced: it ends after so long; 0: no such limit */
    uint64_t data;           /* announced: bytes each way; 0: no such limit */
};

enum wr_conn_state { WR_CONN_OPENING, WR_CONN_OPEN, WR_CONN_CLOSED };

/* What is known of a connection's path just now; 0: not known, or nothing. */
struct wr_conn_stats {
    wr_time rtt;             /* smoothed */
    uint64_t cwnd;           /* bytes that may be under way */
    uint64_t in_flight;      /* bytes that are */
    uint64_t loss_events;    /* QUIC: how often losses made the sender slow down; each may be several packets */
    uint64_t retransmits;    /* TCP: segments sent again */
    uint32_t migrations;     /* QUIC: how often the address of either end changed */
    uint32_t mtu;            /* bytes of data in one packet */
};

/* How a carrier moves stream bytes; `s->mux` is its own handle. */
struct wr_mux_ops {
    const char *transport, *security, *muxer;    /* "tcp", NULL: see wr_conn_security, "/yamux/1.0.0" */
    /* 0; WR_ELIMIT: not now, wr_conn_retry_opens is called when it may go; WR_ECLOSED. */
    int (*open)(struct wr_conn *c, struct wr_stream *s);
    int (*write)(struct wr_stream *s, const uint8_t *data, size_t len);
    size_t (*space)(const struct wr_stream *s);
    size_t (*queued)(const struct wr_stream *s);
    void (*shut)(struct wr_stream *s);
    void (*reset)(struct wr_stream *s, uint32_t code);
    void (*consumed)(struct wr_stream *s, size_t len);
    void (*forget)(struct wr_stream *s);
    void (*steady)(struct wr_stream *s);                /* its window grows no more; NULL: by looking at s->steady */
    void (*close)(struct wr_conn *c, uint32_t code);    /* start to end the connection */
    void (*release)(struct wr_conn *c);                 /* free the carrier; c is freed after it */
    wr_time (*rtt)(const struct wr_conn *c);
    void (*stats)(const struct wr_conn *c, struct wr_conn_stats *out);    /* NULL: it knows nothing more */
};

struct wr_conn {
    struct wr_list node;               /* swarm: all connections */
    struct wr_list peer_node;          /* swarm: connections of one peer */
    struct wr_conn_ctx *ctx;
    const struct wr_mux_ops *mux;
    enum wr_conn_state state;
    bool outbound;                     /* we dialled */
    bool limited;                      /* a circuit with limits: few bytes, opt-in protocols only */
    bool retiring;                     /* swarm: another replaces it, and it goes with its last stream */
    bool udp;                          /* QUIC: the addresses are of UDP */
    bool port_reused;                  /* left from a listening port, or was accepted on one */
    bool identified;                   /* identify finished (set by wr_swarm_identified) */
    bool spent;                        /* has no ids left for streams of ours: the next ones need another */
    bool early_end;                    /* the peer takes a stream's end in the flight that proposes its protocol */
    bool stays_put;                    /* QUIC: the peer takes nothing from another address of ours than before */
    bool mute;                         /* gets no answers just now ... */
    uint64_t mute_in;                  /* ... since it had received so many bytes */
    bool asked, doubted;               /* asked: we opened a stream, doubted: the peer moved on another connection ... */
    uint64_t asked_in;                 /* ... when it had received so many bytes */
    wr_time asked_at;
    bool counted;                      /* swarm: stands in the peerstore entry's connections */
    struct wr_peerid peer;
    struct wr_bytes pubkey;            /* owned: the peer's PublicKey protobuf, when the id holds only its
                                          hash; see wr_conn_pubkey */
    struct wr_circuit *circuit;        /* owned; NULL: direct. `remote` is then the relay, not the peer */
    struct wr_addr local, remote;      /* of the socket */
    const struct wr_secure *security;  /* proposed or agreed on; NULL: none yet, or the carrier's own */
    uint64_t id;                       /* unique in this node's life */
    wr_time begun_at;                  /* its first packet left or came: when a NAT made its mapping */
    wr_time opened_at, used_at;        /* used: we opened a stream on it; what the peer opens shows his use of us */
    struct wr_list streams;            /* struct wr_stream.node */
    struct wr_list waiting;            /* opened by us, not yet taken by the carrier */
    struct wr_list writers;            /* struct wr_stream.write_node: told when there is room */
    uint32_t stream_count;
    uint64_t bytes_in, bytes_out;      /* on the wire */
    struct wr_account memory;          /* what it makes us keep, beside what its carrier counts */
    void *owner;                       /* the swarm's note: the dial it belongs to */
    struct wr_flow *flow;              /* the swarm's, or NULL: what it takes of the budget for sessions */
    uint32_t close_code;
    bool closing;
    struct wr_task task;               /* the close that was asked for; then disposal */
};

/* ---- for users */
/* Opens a stream offering these names (NULL-ended, best first, kept alive by the caller until on_open or
 * on_close). With one name the caller may write at once. NULL with *err: WR_ELIMIT, WR_ECLOSED. */
struct wr_stream *wr_conn_open_stream(struct wr_conn *c, const char *const *offer,
                                      const struct wr_stream_ops *ops, void *arg, int *err);
/* Ends it: streams get on_close(WR_ECLOSED) at the end of the turn. */
void wr_conn_close(struct wr_conn *c, uint32_t code);
struct wr_bytes wr_conn_pubkey(const struct wr_conn *c);    /* PublicKey protobuf; borrowed */
const char *wr_conn_security(const struct wr_conn *c);    /* "/noise", "/tls/1.0.0"; static */
wr_time wr_conn_rtt(const struct wr_conn *c);    /* smallest recent, 0 unknown */
/* Perhaps it leads nowhere any more: we opened a stream and nothing at all came since, or its peer moved. TCP says so
 * after half a minute only. Where the peer has another connection that is not silent, that is the better one. */
bool wr_conn_silent(const struct wr_conn *c);
void wr_conn_stats(const struct wr_conn *c, struct wr_conn_stats *out);
/* Remote or local address as a multiaddr, without /p2p of the peer. Of a circuit: the relay's address with
 * /p2p/RELAY/p2p-circuit, and /p2p-circuit. */
void wr_conn_remote(const struct wr_conn *c, struct wr_maddr *out);
void wr_conn_local(const struct wr_conn *c, struct wr_maddr *out);

#endif
