/* lease.h - something asked of a router, and kept: retransmission, renewal, and whether the router forgot.
 * Machine. Spec: RFC 6886 sections 3.1, 3.3, 3.6; RFC 6887 sections 8.1.1, 8.5, 11.2.1. No I/O: `step` says
 * when to send the request, whoever reads the answer says grant or fail.
 *
 *     start -> ASKING -> (grant) HELD -> renewals from half of the lifetime on -> (grant) HELD ...
 *                     -> tries used up, or (fail): FAILED       -> expired: ASKING again */
#ifndef WR_LEASE_H
#define WR_LEASE_H

#include "transport/env.h"

#define WR_LEASE_WANTED    7200            /* seconds; RFC 6886 section 3.3, tailscale */
#define WR_LEASE_RETRY     (250 * WR_MSEC) /* doubling; RFC 6886. PCP's 3 s would hold up a start */
#define WR_LEASE_TRIES     6               /* 16 s in all; ours, RFC 6886: 9 */
#define WR_LEASE_RENEW_GAP (4 * WR_SEC)    /* between renewals at least; RFC 6887 section 11.2.1 */
#define WR_LEASE_SHORTEST  30              /* seconds; ours: RFC 6887 section 15 wants routers to grant 120 */
#define WR_LEASE_MAX       (24 * WR_HOUR)  /* longer grants count as this; RFC 6887 section 15 */

enum wr_lease_state { WR_LEASE_IDLE, WR_LEASE_ASKING, WR_LEASE_HELD, WR_LEASE_FAILED };

struct wr_lease {
    enum wr_lease_state state;
    unsigned tries;
    wr_time due_at; /* of the next request or verdict; 0: none */
    wr_time until;  /* HELD: when it expires */
};

void wr_lease_start(struct wr_lease *l, wr_time at); /* the first request is due then */
void wr_lease_stop(struct wr_lease *l);              /* IDLE */
/* 1: send the request (again) now. 0: nothing is due. WR_ETIMEOUT: it has just failed, unanswered.
 * WR_ESTALE: it has just expired, and is asked for anew. dice: any random number. */
int wr_lease_step(struct wr_lease *l, wr_time now, uint64_t dice);
void wr_lease_grant(struct wr_lease *l, uint32_t seconds, wr_time now, uint64_t dice);
void wr_lease_fail(struct wr_lease *l);
wr_time wr_lease_wait(const struct wr_lease *l); /* when to step; 0: never */

/* A router's count of seconds since it lost its mappings. */
struct wr_epoch {
    bool known;
    uint32_t seconds;
    wr_time at;
};
/* An answer carried this. True: it does not go on from the last one, so all mappings are gone (RFC 6887
 * section 8.5). */
bool wr_epoch_note(struct wr_epoch *e, uint32_t seconds, wr_time now);

#endif
