/* relay_auto_impl.h - the inside of the choice of relays: relay_auto.c (which), relay_auto_probe.c (still there?).
 * Service, private. */
#ifndef WR_RELAY_AUTO_IMPL_H
#define WR_RELAY_AUTO_IMPL_H

#include "relay/patience.h"
#include "relay/relay_auto.h"
#include "transport/map.h"

#define PING_LEN 32    /* bytes; ping/ping.md */

/* A relay that holds a place for us is asked now and then whether it is still there. */
struct probe {
    struct wr_list node;            /* auto->probes */
    struct wr_relay_auto *of;
    struct wr_peerid relay;
    struct wr_stream *stream;       /* while one is out */
    uint8_t sent[PING_LEN];
    size_t got;
    wr_time sent_at, rtt;
    wr_time checked_at;             /* whether circuits reach us was last asked */
    struct wr_timer timer;          /* the next ping */
    struct wr_patience patience;    /* with the one that is out */
    struct wr_task task;            /* disposal */
};

struct avoid {
    struct wr_list node;
    struct wr_peerid relay;         /* the key */
    wr_time at, until;
    unsigned losses;
    bool refused;                   /* it said no, or does not speak it: our need does not matter */
    bool unreached;                 /* no connection came about: void once there is one */
    unsigned vain;                  /* calls in a row that came to nothing */
};

struct owned {
    struct wr_peerid relay;
    struct wr_maddr addr;           /* with /p2p/RELAY */
    struct wr_connect *connect;
    struct wr_relay_auto *of;
};

/* A call to a relay that we know and are not connected with. */
struct knock {
    struct wr_relay_auto *of;
    struct wr_connect *connect;     /* NULL: none */
    struct wr_peerid relay;
};

struct wr_relay_auto {
    struct wr_relay_auto_options options;
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_relay_client *client;
    struct wr_swarm_watch watch;
    struct wr_list probes;
    struct wr_map avoid;
    struct wr_list avoid_order;
    struct owned *owned[WR_RELAY_AUTO_OWNED_MAX];    /* or NULL */
    struct knock knocks[WR_RELAY_AUTO_KNOCKS];
    bool was_wanted;             /* when that was last decided */
    bool was_private;            /* when our reachability was last known */
    bool giving_up;              /* a place in doubt, just now */
    wr_time unknown_since, searched_at, reviewed_at;
    wr_time natted_since;        /* a NAT is seen; 0: none */
    wr_time search_wait;         /* between searches while none is held; 0: none was made since the last one was */
    wr_time changed_at;          /* our network; 0: never */
    struct wr_timer timer;
    struct wr_task task;            /* another look at the end of the turn */
};

/* relay_auto_probe.c */
void wr_relay_auto_probe_start(struct wr_relay_auto *ra, const struct wr_peerid *relay);
/* Asks this relay (NULL: every one) at once, unless it is being asked already. */
void wr_relay_auto_probe_now(struct wr_relay_auto *ra, const struct wr_peerid *relay);
void wr_relay_auto_probe_stop(struct wr_relay_auto *ra, const struct wr_peerid *relay);
struct probe *wr_relay_auto_probe(const struct wr_relay_auto *ra, const struct wr_peerid *relay);

#endif
