/* relay_client_impl.h - the inside of the relay client, shared by relay_client.c (reservations) and
 * relay_client_circuit.c (circuits, both ways). Service, private. */
#ifndef WR_RELAY_CLIENT_IMPL_H
#define WR_RELAY_CLIENT_IMPL_H

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

/* A direct connection to a relay, or NULL. */
struct wr_conn *wr_relay_client_conn(const struct wr_relay_client *rc, const struct wr_peerid *relay);
void wr_relay_client_refused(struct wr_relay_client *rc, const struct wr_peerid *relay, unsigned status);
/* The next open stream of the hop protocol over a direct connection; NULL with *err. */
struct wr_stream *wr_relay_client_open(struct wr_relay_client *rc, const struct wr_peerid *relay, int *err);
/* Sends one message of a side. 0, or the conversation is reset: WR_ELIMIT, WR_ECLOSED. */
int wr_relay_client_send(struct wr_msg *m, enum wr_relay_side side, const struct wr_relay_msg *body);

/* relay_client_circuit.c */
int wr_relay_client_circuits_start(struct wr_relay_client *rc);
void wr_relay_client_circuits_end(struct wr_relay_client *rc);

#endif
