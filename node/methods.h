/* methods.h - what the control socket offers: the node's services as calls and events. Service.
 * docs/control.md describes every method; the field names here are that interface. */
#ifndef WR_METHODS_H
#define WR_METHODS_H

#include "node/config.h"
#include "node/control.h"
#include "node/state.h"
#include "transport/kv.h"
#include "transport/swarm.h"

struct wr_autonat_client;
struct wr_autonat_server;
struct wr_dcutr;
struct wr_relaying;
struct wr_dcutr_report;
struct wr_dht;
struct wr_identify;
struct wr_perf;
struct wr_methods;

#define WR_METHODS_DHTS 2 /* tables: the internet's or the own network's first, then the LAN's */

/* All borrowed until wr_methods_destroy. */
struct wr_methods_options {
    struct wr_control *control;
    struct wr_swarm *swarm;
    struct wr_identify *identify;        /* or NULL */
    struct wr_autonat_client *autonat;   /* or NULL */
    struct wr_autonat_server *autonat_server; /* or NULL */
    struct wr_dht *dht[WR_METHODS_DHTS]; /* the first NULL: off */
    struct wr_dcutr *dcutr;              /* or NULL */
    struct wr_relaying *relaying;        /* or NULL */
    struct wr_portmap *portmap;          /* or NULL */
    struct wr_perf *perf;                /* or NULL */
    struct wr_kv *kv;                    /* keeps allow and block rules; or NULL */
    struct wr_state *state;              /* knows of the clock; or NULL */
    const struct wr_config *config;
    bool port_in_use;           /* not all of `listen` could be had */
    void (*on_stop)(void *arg); /* a client asked the node to stop */
    void *arg;
};

/* Registers every method, watches the swarm, and applies the rules that were kept. 0, WR_ELIMIT. */
int wr_methods_create(const struct wr_methods_options *options, struct wr_methods **out);
/* After wr_control_destroy (which cancels what runs), before the services; the store is closed in the same turn, when
 * it was still asked for a commit. NULL is allowed. */
void wr_methods_destroy(struct wr_methods *m);
/* As on_hold of relay_client.h: an event tells of it. */
void wr_methods_relay_held(struct wr_methods *m, const struct wr_peerid *relay, int err, unsigned status);
/* An attempt of dcutr ended: an event tells of it. */
void wr_methods_punched(struct wr_methods *m, const struct wr_peerid *peer,
                        const struct wr_dcutr_report *report);
/* A page for http.h: "/" (status) and "/metrics". arg is the wr_methods. */
const char *wr_methods_page(void *arg, struct wr_bytes path, struct wr_buf *out);

#endif
