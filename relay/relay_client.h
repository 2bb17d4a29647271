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
#define WR_RELAY_CHECK_TRIPS  8                   /* round trips for a circuit to ourselves, there and back: it takes four. Ours */
#define WR_RELAY_CHECK_SLACK  (800 * WR_MSEC)     /* ... and this: repeats of lost packets. Ours */
#define WR_RELAY_CHECK_MIN    (2 * WR_SEC)        /* ... in all at least: the relay may be busy; ours */
#define WR_RELAY_CHECK_MAX    (4 * WR_SEC)        /* ... at most; ours */
#define WR_RELAY_CHECK_AGAIN  (2 * WR_SEC)        /* after one that failed, the next, which decides; at once after one that
                                                     got no answer. When the relay is gone for good, pings have shown that
                                                     by then; ours */
#define WR_RELAY_CHECK_FULLS  3                   /* ... but so many in a row that had no room: that may pass, and
                                                     strangers could bring it about for a while; ours */
#define WR_RELAY_CHECK_FULL   (15 * WR_SEC)       /* between checks after one that had no room, doubled each time up to ... */
#define WR_RELAY_CHECK_RARE   (5 * WR_MIN)        /* ... this, and always so long at relays that sign no vouchers: rust
                                                     does not, and grants a peer 30 circuits, then one each two minutes,
                                                     and all that share an address 60, then one a minute. Ours */

struct wr_relay_client;

enum wr_relay_hold_state { WR_RELAY_ASKING, WR_RELAY_HELD };

/* One reservation, to be read by others. */
struct wr_relay_hold {
    struct wr_list node;
    struct wr_peerid relay;
    enum wr_relay_hold_state state;
    bool ending;                  /* the relay is too full to prolong it, or to bring anybody */
    bool doubted;                 /* two checks in a row failed, and nothing has come through since */
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
    wr_time good_since;           /* proven, and no check has failed since then, before proven_at */
    wr_time missed_at;            /* when the first of the checks that failed in a row did; 0: the last one did not */
    wr_time vain_at;              /* when the last one that failed was asked for */
    wr_time check_every;          /* the relay may count circuits: checks no oftener than so; 0: nothing speaks for it */
};

struct wr_relay_client_options {
    struct wr_swarm *swarm;
    /* A reservation was made (err 0), refused or lost. status: the relay's answer, 0 when there was none. In a later
     * turn than the asking; afterwards a hold that failed is gone. */
    void (*on_hold)(void *arg, const struct wr_peerid *relay, int err, unsigned status);
    /* A reservation has begun to end (`ending`): time to look for another one. NULL: nobody wants to know. */
    void (*on_ending)(void *arg, const struct wr_peerid *relay);
    /* A check failed, or the next one, too: then the reservation is in doubt (`doubted`). It stays, and so do its addresses,
     * until it is given up or shown to be good after all. NULL: it is lost at once. */
    void (*on_doubt)(void *arg, const struct wr_peerid *relay);
    void *arg;
};

/* Registers the stop protocol and becomes the swarm's dialler of circuits. NULL: out of memory. */
struct wr_relay_client *wr_relay_client_create(const struct wr_relay_client_options *options);
void wr_relay_client_destroy(struct wr_relay_client *rc);    /* before the swarm; NULL is allowed */

/* Asks a relay, to which there must be a direct connection, for a place, and keeps it. 0; WR_EEXIST (done already),
 * WR_ECLOSED (no direct connection), WR_ELIMIT. */
int wr_relay_client_hold(struct wr_relay_client *rc, const struct wr_peerid *relay);
/* Do circuits through this relay reach us? Asks it for one to ourselves. When two in a row fail, be it that it refuses them
 * or that nothing passes, the place comes into doubt; when it had no room for so many, it begins to end. Nothing is done
 * when no place is held there, or one is under way. */
void wr_relay_client_check(struct wr_relay_client *rc, const struct wr_peerid *relay);
/* A place in doubt is lost: on_hold with what was wrong. Nothing is done with any other. */
void wr_relay_client_give_up(struct wr_relay_client *rc, const struct wr_peerid *relay);
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
