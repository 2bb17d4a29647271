/* identify_impl.h - the inside of the service: identify.c keeps the state and decides, identify_talk.c holds
 * the conversations. Service, private to these two. */
#ifndef WR_IDENTIFY_IMPL_H
#define WR_IDENTIFY_IMPL_H

#include "identify/identify.h"
#include "transport/envelope.h"
#include "transport/msg.h"

#define LINKS_MAX      (1u << 17)    /* connections; above any ceiling that limit CONNS has */
#define ASKED_AT_ONCE  4             /* answers per connection at once; rust asks again every 5 min */
#define PUSHED_AT_ONCE 2             /* pushes of one connection at once; js opens one at a time */

/* What is kept per connection: as little as can be. */
struct link {
    struct wr_conn *conn;
    uint64_t conn_id;             /* the key */
    struct reading *ask;          /* our question under way or to be repeated, else NULL */
    struct wr_vote vote;
    uint64_t told;                /* hash of what the peer heard from us; 0: nothing yet */
    wr_time pushed_at;            /* by us, last */
    wr_time push_paid_at;         /* when WR_IDENTIFY_PROMPT_MAX may be pushed in a row again */
    wr_time tokens_at;            /* push_tokens is right for this moment */
    uint8_t push_tokens;          /* pushes that the peer may send at once */
    uint8_t push_tries;           /* that the peer refused or that broke off, in a row */
    bool pushing;
    bool push_refused;            /* the peer does not speak it */
    bool missed;                  /* a push of the peer's was refused since our last question */
};

/* What all peers of one scope are told. */
struct snapshot {
    uint64_t addrs_generation, protocols_generation;
    uint64_t hash;                /* 0: none yet */
    struct wr_maddr *addrs;       /* owned */
    size_t addr_count;
    struct wr_buf record;         /* sealed; empty without addresses */
};

struct wr_identify {
    struct wr_identify_options options;
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_swarm_watch watch;
    struct wr_map links;          /* struct link by connection */
    struct wr_list readings, writings;
    unsigned pushes;              /* ours, under way */
    unsigned others;              /* inbound conversations that wait for the peer */
    bool push_waiting;            /* more to push once one of them is done */
    struct wr_timer push_timer, judge_timer, moved_timer;
    uint64_t reached;             /* hash of the addresses at which somebody got through to us */
    uint64_t relayed;             /* the same of those at relays */
    wr_time reached_at;           /* when one of the two changed */
    struct wr_observed observed;
    struct snapshot snapshots[WR_ADDRBOOK_SCOPES];
    struct wr_buf pubkey;
    uint64_t seq;
    struct wr_identify_stats stats;
};

/* ---- identify.c */
struct link *wr_identify_link(const struct wr_identify *id, const struct wr_conn *conn);
const struct snapshot *wr_identify_snapshot(struct wr_identify *id, const struct wr_conn *conn);
/* Appends what the peer of conn is to be told; returns its hash, 0: out of memory. */
uint64_t wr_identify_compose(struct wr_identify *id, const struct wr_conn *conn, struct wr_buf *out);
void wr_identify_push_sent(struct wr_identify *id);    /* there is room for another push of ours */
/* A push to this peer is over. What it did not hear, or what is new since, is pushed in its time. */
void wr_identify_push_over(struct wr_identify *id, struct link *link);
void wr_identify_judge_at(struct wr_identify *id, wr_time at);

/* ---- identify_talk.c */
void wr_identify_ask(struct wr_identify *id, struct link *link);
/* The same of a peer that has answered before, unless it is being asked. False: out of memory. */
bool wr_identify_ask_anew(struct wr_identify *id, struct link *link);
void wr_identify_push(struct wr_identify *id, struct link *link);
void wr_identify_reading_end(struct reading *r);    /* lets go of it, silently */
void wr_identify_end_all(struct wr_identify *id);
/* Streams that peers open. */
void wr_identify_asked(struct wr_stream *s, void *id);
void wr_identify_take_push(struct wr_stream *s, void *id);

/* ---- identify_learn.c: a peer spoke; bodies as received. 0, WR_EPROTO, WR_EPEERID. */
int wr_identify_learn(struct wr_identify *id, struct link *link, struct wr_bytes bodies, bool push);

#endif
