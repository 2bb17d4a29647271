/* relay_client.h - our side of circuit relay v2: places held at relays, circuits dialled through them, circuits that
 * others bring to us. Service. Spec: libp2p relay/circuit-v2.md; deployed behaviour in nat sheet 4.
 *
 *   hold   us -- RESERVE --> relay             us <-- STATUS, reservation, limit -- relay
 *          again at three quarters of its time; it is lost when the relay refuses or the connection to it ends.
 *          A relay that says it is full may mean refreshes, too (rust): what is held then stands until it runs out
 *   dial   us -- CONNECT peer --> relay        us <-- STATUS, limit -- relay      then both streams are one
 *   stop   relay -- CONNECT peer, limit --> us       us -- STATUS --> relay       then the same
 *   check  a circuit to ourselves: a relay may answer everything and bring nobody
 *
 * The addresses of a held reservation stand in the address book (WR_ADDR_RELAYED). Which relays to hold, relay_auto
 * decides. */
#ifndef WR_RELAY_CLIENT_H
#define WR_RELAY_CLIENT_H

#include "relay/relay_msg.h"
#include "transport/swarm.h"

#define WR_RELAY_HOLDS_MAX    8                   /* reservations at once; ours: two of our choice, the owner's */
#define WR_RELAY_HOLD_ADDRS   4                   /* addresses announced of one relay; ours */
#define WR_RELAY_DIALS_MAX    64                  /* circuits being dialled at once; ours */
#define WR_RELAY_STOPS_MAX    64                  /* circuits of one relay to us at once; ours, go and rust far fewer */
#define WR_RELAY_ASK_TIMEOUT  (10 * WR_SEC)       /* for RESERVE; go's AutoRelay */
#define WR_RELAY_DIAL_TIMEOUT (30 * WR_SEC)       /* for CONNECT: the relay itself waits as long; go */
#define WR_RELAY_DIAL_FAIR    (3 * WR_SEC)        /* then one that waits makes room for another; ours */
#define WR_RELAY_STOP_TIMEOUT (30 * WR_SEC)       /* for the message of a stop stream; js */
#define WR_RELAY_LIFE_MIN     (2 * WR_MIN)        /* a reservation's time is read as at least this ... */
#define WR_RELAY_LIFE_MAX     (24 * WR_HOUR)      /* ... and as WR_RELAY_LIFE_GUESS above this, or when it is past */
#define WR_RELAY_LIFE_GUESS   (1 * WR_HOUR)       /* go, rust; one of the two clocks is wrong then */
#define WR_RELAY_RETRY        (30 * WR_SEC)       /* after a refresh that got no answer; ours */
#define WR_RELAY_CHECK_TIMEOUT (4 * WR_SEC)       /* for a circuit to ourselves, there and back; ours */
#define WR_RELAY_CHECK_AGAIN  (2 * WR_SEC)        /* after one that failed: the next, which decides. When the relay is gone
                                                     for good, pings have shown that by then; ours */
#define WR_RELAY_CHECK_FULLS  4                   /* ... but so many in a row that had no room: that may pass, and
                                                     strangers could bring it about for a while; ours */

struct wr_relay_client;

enum wr_relay_hold_state { WR_RELAY_ASKING, WR_RELAY_HELD };

/* One reservation, to be read by others. */
struct wr_relay_hold {
    struct wr_list node;
    struct wr_peerid relay;
    enum wr_relay_hold_state state;
    bool ending;                  /* the relay is too full to prolong it, or to bring anybody */
    bool vouched;                 /* the relay signed a voucher, and it is right */
    bool limited;                 /* circuits to us have limits: */
    struct wr_relay_limit limit;
    wr_time since;                /* held for so long; 0: not yet */
    wr_time expires_at;           /* of ours: as long after the answer as the relay said */
    unsigned refreshed;
    struct wr_maddr addrs[WR_RELAY_HOLD_ADDRS];    /* as announced: /p2p/RELAY/p2p-circuit at the end */
    size_t addr_count;
    uint64_t circuits;            /* that others brought to us */
    wr_time proven_at;            /* when one was last seen to work, a stranger's or our own; 0: never */
};

struct wr_relay_client_options {
    struct wr_swarm *swarm;
    /* A reservation was made (err 0), refused or lost. status: the relay's answer, 0 when there was none. In a later
     * turn than the asking; afterwards a hold that failed is gone. */
    void (*on_hold)(void *arg, const struct wr_peerid *relay, int err, unsigned status);
    /* A reservation has begun to end (`ending`): time to look for another one. NULL: nobody wants to know. */
    void (*on_ending)(void *arg, const struct wr_peerid *relay);
    void *arg;
};

/* Registers the stop protocol and becomes the swarm's dialler of circuits. NULL: out of memory. */
struct wr_relay_client *wr_relay_client_create(const struct wr_relay_client_options *options);
void wr_relay_client_destroy(struct wr_relay_client *rc);    /* before the swarm; NULL is allowed */

/* Asks a relay, to which there must be a direct connection, for a place, and keeps it. 0; WR_EEXIST (done already),
 * WR_ECLOSED (no direct connection), WR_ELIMIT. */
int wr_relay_client_hold(struct wr_relay_client *rc, const struct wr_peerid *relay);
/* Do circuits through this relay reach us? Asks it for one to ourselves. When two in a row fail, be it that it refuses them
 * or that nothing passes, the place is lost: on_hold with what went wrong; when it had no room for so many, it begins to
 * end. Nothing is done when no place is held there, or one is under way. */
void wr_relay_client_check(struct wr_relay_client *rc, const struct wr_peerid *relay);
/* Lets it go; on_hold is not called. (Relay v2 has no word for it: the place runs out.) */
void wr_relay_client_drop(struct wr_relay_client *rc, const struct wr_peerid *relay);
/* struct wr_relay_hold, oldest first. */
const struct wr_list *wr_relay_client_holds(const struct wr_relay_client *rc);
const struct wr_relay_hold *wr_relay_client_held(const struct wr_relay_client *rc, const struct wr_peerid *relay);

struct wr_relay_client_stats {
    uint64_t reserved, refreshed, refused, lost;     /* reservations */
    uint64_t dialled, dial_failed;                   /* circuits of ours */
    uint64_t accepted, rejected;                     /* circuits to us */
    unsigned last_status;                            /* of the last refusal, of either kind; 0: none yet */
    struct wr_peerid last_relay;                     /* whose it was */
};
void wr_relay_client_stats(const struct wr_relay_client *rc, struct wr_relay_client_stats *out);

#endif
