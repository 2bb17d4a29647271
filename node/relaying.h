/* relaying.h - the node's relays, both ways: the one that we lend (relay_server.h) and those that hold places for us
 * (relay_auto.h), which are looked for in the DHT. Service. */
#ifndef WR_RELAYING_H
#define WR_RELAYING_H

#include "relay/relay_auto.h"
#include "relay/relay_server.h"

#define WR_RELAYING_DIALS 4    /* peers of one walk that are called; ours */

struct wr_dht;
struct wr_dht_request;

struct wr_relaying_options {
    struct wr_swarm *swarm;
    enum wr_relay_mode mode;
    uint64_t rate_each, rate_total;    /* of the one that we lend; relay_server.h */
    /* A place at a relay was made (err 0), refused or lost; see relay_client.h. */
    void (*on_hold)(void *arg, const struct wr_peerid *relay, int err, unsigned status);
    void *arg;
};

struct wr_relaying {
    struct wr_relaying_options options;
    struct wr_env *env;
    struct wr_relay_server *lent;
    struct wr_relay_auto *ours;
    struct wr_dht *dht;              /* or NULL */
    struct wr_dht_request *walk;
    unsigned dials_left;
};

/* 0, WR_ELIMIT. */
int wr_relaying_start(struct wr_relaying *r, const struct wr_relaying_options *options);
/* Where peers are looked for; NULL: nowhere, to be said before it ends. */
void wr_relaying_set_dht(struct wr_relaying *r, struct wr_dht *dht);
void wr_relaying_stop(struct wr_relaying *r);    /* before the swarm */

#endif
