/* dcutr_impl.h - the inside of hole punching, shared by dcutr.c (peers, events, what is remembered) and
 * dcutr_talk.c (one attempt). Service, private. */
#ifndef WR_DCUTR_IMPL_H
#define WR_DCUTR_IMPL_H

#include "dcutr/dcutr.h"
#include "transport/map.h"
#include "transport/msg.h"

enum wr_dcutr_phase {
    WR_DCUTR_IDLE,             /* no relayed connection, or a direct one */
    WR_DCUTR_WANTS_ADDRESS,    /* B: nobody told us yet how we are seen */
    WR_DCUTR_WANTS_PROTOCOL,   /* B: the peer does not speak it yet */
    WR_DCUTR_CONNECTING,       /* B: CONNECT was sent */
    WR_DCUTR_ASKED,            /* A: the stream came */
    WR_DCUTR_LOOKING,          /* for our NAT's newest port: B before anything is sent, A before it answers */
    WR_DCUTR_ANSWERED,         /* A: CONNECT was sent */
    WR_DCUTR_PUNCHING,
    WR_DCUTR_PAUSE,            /* B: before the next attempt */
    WR_DCUTR_RESTING,          /* B: before the next round */
};

/* An attempt under way. */
struct wr_dcutr_attempt {
    struct wr_dcutr_report report;
    struct wr_plan plan;             /* ours */
    struct wr_dcutr_msg theirs;
    wr_time sent_at;                 /* of our CONNECT */
    wr_time asked_at;                /* A: when the peer's came */
    uint16_t port;                   /* of wr_punch_port; 0: none */
};

struct wr_dcutr_peer {
    struct wr_peerid id;
    struct wr_list node;             /* dcutr->order, longest untouched first */
    struct wr_dcutr *d;
    enum wr_dcutr_phase phase;
    struct wr_conn *relayed;         /* it dialled us through a relay: we are B; or NULL */
    uint64_t reversed_on;            /* id of the relayed connection for which it was dialled plainly */
    struct wr_connect *reversal;     /* under way, or NULL */
    struct wr_msg msg;
    struct wr_punch *punch;
    void *look;                      /* while LOOKING */
    struct wr_dcutr_attempt *now;    /* owned; NULL: none under way */
    struct wr_timer timer;           /* PAUSE, RESTING; the longest LOOKING */
    unsigned attempt;                /* of this round, from 0 */
    uint64_t round_on;               /* id of the relayed connection of this round */
    unsigned cuts;                   /* rounds since cuts_since that the end of theirs cut short */
    wr_time cuts_since;
    bool same_external;              /* the peer is behind our external address */
    wr_time round_at;                /* end of the last round; 0: none */
    unsigned hurried;                /* rounds that began early, because of news; fewer after a whole rest */
    uint64_t asked_on;               /* A: id of the relayed connection ... */
    unsigned asked_there;            /* ... and attempts on it */
    unsigned asked;                  /* attempts since asked_since */
    wr_time asked_since;
    struct wr_dcutr_report *reports[WR_DCUTR_REPORTS];    /* owned; a ring */
    size_t report_next;
    struct wr_task task;             /* disposal */
};

struct wr_dcutr {
    struct wr_swarm *swarm;
    struct wr_env *env;
    void (*on_report)(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report);
    void *arg;
    struct wr_map peers;
    struct wr_list order;
    struct wr_swarm_watch watch;
    struct wr_dcutr_stats stats;
    struct wr_task task;             /* looks at all peers; then disposal */
};

/* ---- dcutr.c */
/* Made when there is none; NULL: all places are busy, or out of memory. */
struct wr_dcutr_peer *wr_dcutr_peer_get(struct wr_dcutr *d, const struct wr_peerid *id);
/* The attempt (or a reason for none) is over: remembers and tells it. */
void wr_dcutr_note(struct wr_dcutr_peer *p, const struct wr_dcutr_report *report);
/* The plain dial to what the peer announces, once for each relayed connection. */
void wr_dcutr_reverse(struct wr_dcutr_peer *p);
static inline bool wr_dcutr_is_relayed(const struct wr_conn *c)
{
    return c->circuit || c->limited;
}

/* ---- dcutr_talk.c */
/* We are B. */
void wr_dcutr_talk_start(struct wr_dcutr_peer *p);
/* We are A: a stream came. */
void wr_dcutr_talk_accept(struct wr_stream *s, void *arg);
/* A direct connection came otherwise; or (NULL) whatever is under way ends without a word. */
void wr_dcutr_talk_stop(struct wr_dcutr_peer *p, const struct wr_conn *direct);
void wr_dcutr_talk_rest(struct wr_dcutr_peer *p, wr_time at);

#endif
