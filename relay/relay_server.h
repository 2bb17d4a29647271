/* relay_server.h - we relay for others: circuit relay v2, the hop side. Service. Spec: libp2p relay/circuit-v2.md;
 * limits as go-libp2p's unless said otherwise.
 *
 *   guest  -- RESERVE --> us                 guest <-- STATUS, reservation, limit -- us
 *   caller -- CONNECT guest --> us           us -- CONNECT caller, limit --> guest (stop)
 *   caller <-- STATUS, limit -- us           us <-- STATUS -- guest
 *   then bytes go from each stream into the other: nothing is copied unless the receiver is slow. Who sends faster
 *   than the rates allow, or than the other side reads, is not read from.
 *
 * When all together are too fast, the circuit that has been there longest goes first, and each has a small part that
 * it need not wait for: a crowd of newcomers takes little from those that were there before, and nobody starves.
 *
 * Offered while the mode is ON, or AUTO and we are reachable by everybody. When AUTO's condition ends, no place and no
 * circuit is granted any more, and what is under way goes on: it may come back. OFF is the owner's word: places end, and
 * circuits with them. Guests hear of both by identify's list of protocols, where ours is missing then.
 *
 * Whom the owner allows (wr_policy_rule) is refused for no ceiling and no rate of requests; how fast circuits go holds for
 * everybody. */
#ifndef WR_RELAY_SERVER_H
#define WR_RELAY_SERVER_H

#include "relay/relay_msg.h"
#include "transport/swarm.h"

#define WR_RELAY_TTL               3600                  /* seconds of a reservation; go, rust */
#define WR_RELAY_DURATION          120                   /* seconds of a circuit; go, rust, js */
#define WR_RELAY_DATA              (128 * 1024)          /* bytes of a circuit each way; go */
#define WR_RELAY_RATE_EACH         (512 * 1024)          /* bytes a second of one circuit, both ways; ours */
#define WR_RELAY_RATE_TOTAL        (4 * 1024 * 1024)     /* bytes a second of all; ours: a good part of a home's line */
#define WR_RELAY_BURST             (256 * 1024)          /* bytes above the rates at once; ours: a yamux window */
#define WR_RELAY_SHARED_PART       4                     /* a quarter of that is set aside for all the circuits that there
                                                            can be, in equal parts; ours */
#define WR_RELAY_SHARE_BURST       (16 * 1024)           /* bytes of its part at once: a handshake and more; ours */
#define WR_RELAY_GUESTS_PER_NET    8                     /* reservations of one /24 or /48; go: of one address */
#define WR_RELAY_RESERVE_EVERY     (10 * WR_SEC)         /* RESERVEs granted to one guest: one each ... */
#define WR_RELAY_RESERVE_BURST     8                     /* ... after these: each costs a signature. Ours; go, rust and js
                                                            ask twice an hour */
#define WR_RELAY_CIRCUITS_PER_PEER 16                    /* as caller, and as guest; go. Callers of one /24 or /48 take
                                                            half of a guest's, and half of all; ours */
#define WR_RELAY_HOPS_MAX          32                    /* streams of the protocol per connection; ours */
#define WR_RELAY_HOP_TIMEOUT       (30 * WR_SEC)         /* for the first message; js */
#define WR_RELAY_STOP_WAIT         (30 * WR_SEC)         /* for the guest's answer; go */
#define WR_RELAY_STOP_PATIENCE     (3 * WR_SEC)          /* the same while others want a circuit and there is none left:
                                                            a guest that is there answers at once; ours */
#define WR_RELAY_STOP_AGAIN        (2500 * WR_MSEC)      /* then, and each time it has passed again, the guest is asked
                                                            on another connection, if it has one: the first may lead
                                                            nowhere any more. At once where that has ended, or is silent
                                                            when another one opens; ours */
#define WR_RELAY_LINGER            (5 * WR_SEC)          /* after a direction has had its bytes; ours */
#define WR_RELAY_LISTED_ADDRS      16                    /* of ours, in a reservation; ours */

enum wr_relay_mode { WR_RELAY_AUTO, WR_RELAY_ON, WR_RELAY_OFF };

struct wr_relay_server_options {
    struct wr_swarm *swarm;
    enum wr_relay_mode mode;
    struct wr_relay_limit limit;      /* of each circuit; zeros: none */
    uint32_t ttl;                     /* seconds */
    uint64_t rate_each, rate_total;   /* bytes a second; 0: none */
    unsigned guests_per_net;          /* 0: WR_RELAY_GUESTS_PER_NET */
    /* Whom to serve: guest NULL for a reservation of `who`. NULL: everybody. */
    bool (*allow)(void *arg, const struct wr_peerid *who, const struct wr_peerid *guest);
    void *arg;
};

/* The values above. */
void wr_relay_server_defaults(struct wr_relay_server_options *options, struct wr_swarm *swarm);

struct wr_relay_server;

/* NULL: out of memory. */
struct wr_relay_server *wr_relay_server_create(const struct wr_relay_server_options *options);
void wr_relay_server_destroy(struct wr_relay_server *rs);    /* before the swarm; NULL is allowed */
void wr_relay_server_set_mode(struct wr_relay_server *rs, enum wr_relay_mode mode);    /* OFF ends circuits at once */
enum wr_relay_mode wr_relay_server_mode(const struct wr_relay_server *rs);
bool wr_relay_server_offered(const struct wr_relay_server *rs);
/* Bytes a second from now on, of open circuits too; 0: no such limit. */
void wr_relay_server_set_rates(struct wr_relay_server *rs, uint64_t each, uint64_t total);
uint64_t wr_relay_server_rate_each(const struct wr_relay_server *rs);
uint64_t wr_relay_server_rate_total(const struct wr_relay_server *rs);

struct wr_relay_server_stats {
    size_t guests, circuits;                    /* now */
    uint64_t reserved, refreshed, connected;    /* granted so far */
    uint64_t checked;                           /* circuits of guests to themselves: whether they would be reached */
    uint64_t refused_full, refused_net, refused_peer, refused_rule, refused_absent, refused_off, failed, malformed;
    uint64_t bytes;                             /* passed on */
    uint64_t cut_time, cut_data;                /* circuits that reached a limit */
    uint64_t cut_off;                           /* circuits that were open when the mode became OFF */
    uint64_t buffered;                          /* bytes waiting for slow receivers now */
};
void wr_relay_server_stats(const struct wr_relay_server *rs, struct wr_relay_server_stats *out);

/* Who uses us. */
struct wr_relay_guest {
    struct wr_peerid peer;
    struct wr_ip ip;
    wr_time since, expires_at;
    unsigned circuits;
    uint64_t bytes;               /* of its circuits, both ways */
};
struct wr_relay_through {         /* one circuit */
    struct wr_peerid caller, guest;
    wr_time since;
    uint64_t bytes[2];            /* from the caller, from the guest */
};
/* In order of age; returns how many of at most max. */
size_t wr_relay_server_guests(const struct wr_relay_server *rs, struct wr_relay_guest *out, size_t max);
size_t wr_relay_server_circuits(const struct wr_relay_server *rs, struct wr_relay_through *out, size_t max);

#endif
