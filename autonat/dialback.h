/* dialback.h - dials addresses on behalf of somebody who asks whether he can be reached there. Service.
 * The dials leave from an identity and from ports of their own, in a swarm of its own that listens
 * nowhere: a NAT or firewall that lets our usual ports in must not let these in for that reason. That
 * swarm is made when it is needed and goes when it was idle for a while, and its ports with it. Its
 * connections count under the node's limits.
 *
 *   dialler --- connect to each address at once ---> whoever answers has to be the peer asked for
 *           --- dial-back: nonce ---> its response       (version 2; version 1 is content with the
 * connection) */
#ifndef WR_DIALBACK_H
#define WR_DIALBACK_H

#include "autonat/autonat_msg.h"
#include "transport/msg.h"
#include "transport/swarm.h"

#define WR_DIALBACK_ADDRS 8 /* dialled at once for one request; ours: all that one IP has */
#define WR_DIALBACK_DIAL                                                                                   \
    (5 * WR_SEC) /* rust gives up its question after 10 s, all in all; go dials for 10 s */
#define WR_DIALBACK_STREAM (5 * WR_SEC)  /* for the nonce; go, nim */
#define WR_DIALBACK_IDLE   (10 * WR_SEC) /* the dialling swarm lives on for; ours: then ports are fresh */

struct wr_dialback;

struct wr_dialback *wr_dialback_create(struct wr_swarm *sw); /* NULL: out of memory */
/* After its tries were cancelled, before the swarm is destroyed. NULL is allowed. */
void wr_dialback_destroy(struct wr_dialback *d);

/* Could this address be dialled at all? Direct TCP or QUIC at a public place (wr_policy_is_public), not
 * blocked, of a family and transport that we have ourselves, not our own. */
bool wr_dialback_may(const struct wr_dialback *d, const struct wr_peerid *peer, struct wr_bytes addr);

struct wr_dialback_try;

struct wr_dialback_dial {
    struct wr_dialback_try *of;
    struct wr_connect *request; /* while it runs */
    struct wr_maddr addr;
};

/* Embedded by whoever asks. */
struct wr_dialback_try {
    struct wr_dialback *d; /* NULL: not running */
    struct wr_list node;
    struct wr_peerid peer;
    struct wr_dialback_dial dials[WR_DIALBACK_ADDRS];
    size_t count, running;
    bool with_nonce;
    uint64_t nonce;
    struct wr_conn *conn; /* the one that got through; kept until the nonce is over */
    size_t through;       /* index of its address */
    bool in_msg;
    struct wr_msg msg;
    struct wr_timer timer;
    /* The end, in a later turn: WR_AUTONAT_DIAL_OK with the index of the address, WR_AUTONAT_DIAL_ERROR or
     * WR_AUTONAT_DIAL_BACK_ERROR. unsupported: we could not even begin. */
    void (*on_done)(struct wr_dialback_try *t, enum wr_autonat_dial result, size_t index);
};

/* nonce NULL: the connection is enough. 0, WR_ELIMIT (on_done does not follow). */
int wr_dialback_start(struct wr_dialback *d, struct wr_dialback_try *t, const struct wr_peerid *peer,
                      const struct wr_maddr *addrs, size_t count, const uint64_t *nonce,
                      void (*on_done)(struct wr_dialback_try *t, enum wr_autonat_dial result,
                                      size_t index));
void wr_dialback_cancel(struct wr_dialback_try *t); /* also when it does not run */

#endif
