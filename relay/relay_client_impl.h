/* relay_client_impl.h - the inside of the relay client, shared by relay_client.c (reservations), relay_client_circuit.c
 * (circuits, both ways) and relay_client_check.c (do they reach us?). Service, private. */
#ifndef WR_RELAY_CLIENT_IMPL_H
#define WR_RELAY_CLIENT_IMPL_H

#include "relay/patience.h"
#include "relay/relay_client.h"
#include "transport/msg.h"

struct wr_relay_client {
    struct wr_relay_client_options options;
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_swarm_watch watch;
    struct wr_list holds;       /* struct hold.of.node */
    struct wr_list attempts;    /* circuits being dialled */
    struct wr_list stops;       /* circuits being brought to us */
    size_t hold_count, attempt_count;
    struct wr_relay_client_stats stats;
};

#define WR_RELAY_CHECK_LEN 32    /* bytes that go there and back, as in a ping; ours */

/* A circuit to ourselves:
 *
 *   us -- CONNECT us --> relay      us <-- CONNECT us -- relay     (stop)
 *                                   us -- STATUS --> relay
 *   us <-- STATUS -- relay
 *   us -- bytes --> relay           us <-- bytes -- relay          and the same way back */
struct wr_relay_check {
    struct wr_relay_client *client;
    bool running;
    struct wr_msg hop;          /* until the relay has answered */
    struct wr_stream *there;    /* then: the end that we asked for; NULL: none */
    struct wr_stream *back;     /* the end that came back to us; NULL: none */
    uint8_t sent[WR_RELAY_CHECK_LEN];
    size_t echoed, returned;    /* of them: at the end that came back, and here again */
    wr_time asked_at;
    struct wr_patience patience;
};

/* A direct connection to a relay, or NULL. */
struct wr_conn *wr_relay_client_conn(const struct wr_relay_client *rc, const struct wr_peerid *relay);
void wr_relay_client_refused(struct wr_relay_client *rc, const struct wr_peerid *relay, unsigned status);
/* The next open stream of the hop protocol over a direct connection; NULL with *err. */
struct wr_stream *wr_relay_client_open(struct wr_relay_client *rc, const struct wr_peerid *relay, int *err);
/* Sends one message of a side. 0, or the conversation is reset: WR_ELIMIT, WR_ECLOSED. */
int wr_relay_client_send(struct wr_msg *m, enum wr_relay_side side, const struct wr_relay_msg *body);

/* Of the reservation at this relay; NULL: there is none. */
struct wr_relay_check *wr_relay_client_check_of(const struct wr_relay_client *rc, const struct wr_peerid *relay);
/* How one ended: 0, or an error and the relay's status, 0 when it had said none. The reservation may be lost by it. */
void wr_relay_client_checked(struct wr_relay_check *k, int err, unsigned status);

/* relay_client_check.c */
/* Ends in wr_relay_client_checked, in a later turn; at once and without when nothing could be asked. */
void wr_relay_client_check_start(struct wr_relay_check *k, const struct wr_peerid *relay);
void wr_relay_client_check_stop(struct wr_relay_check *k);
/* The circuit has come: s is taken over, early is what was read behind the message. */
void wr_relay_client_check_back(struct wr_relay_check *k, struct wr_stream *s, struct wr_bytes early);

/* relay_client_circuit.c */
int wr_relay_client_circuits_start(struct wr_relay_client *rc);
void wr_relay_client_circuits_end(struct wr_relay_client *rc);

#endif
