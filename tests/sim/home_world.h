/* home_world.h - homes with all the services that a node has, and servers on the internet for them to meet; for
 * stories of the whole way. Included by one source file of a test program. */
#ifndef HOME_WORLD_H
#define HOME_WORLD_H

#include "tests/sim/nat_world.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "dcutr/dcutr.h"
#include "identify/identify.h"
#include "identify/ping.h"
#include "relay/relay_client.h"
#include "relay/relay_server.h"

#define FIRST_SERVER 20000    /* seed of the first; homes are below */

struct home {
    struct site site;
    struct wr_identify *identify;
    struct wr_autonat_client *autonat;
    struct wr_autonat_server *server;
    struct wr_pong *pong;
    struct wr_relay_client *client;
    struct wr_relay_server *relay;
    struct wr_dcutr *dcutr;
    unsigned reports, holds;
    struct wr_dcutr_report last;
};

static inline void on_report(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report)
{
    struct home *h = arg;
    (void)peer;
    h->reports++;
    h->last = *report;
}

static inline void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct home *h = arg;
    (void)relay, (void)status;
    h->holds += err == 0;
}

static inline void home_services(struct home *h)
{
    struct wr_swarm *sw = h->site.swarm;
    h->identify = wr_identify_create(&(struct wr_identify_options){.swarm = sw});
    h->pong = wr_pong_create(sw);
    h->server = wr_autonat_server_create(sw);
    h->autonat = wr_autonat_client_create(sw);
    h->client = wr_relay_client_create(
        &(struct wr_relay_client_options){.swarm = sw, .on_hold = on_hold, .arg = h});
    h->dcutr = wr_dcutr_create(&(struct wr_dcutr_options){.swarm = sw, .on_report = on_report, .arg = h});
    assert_true(h->identify && h->pong && h->server && h->autonat && h->client && h->dcutr);
}

/* with: what it listens on, as site_swarm_with has it. */
static inline void home_start_with(struct home *h, struct sim *sim, enum kind kind, unsigned seed, unsigned with)
{
    site_host(&h->site, sim, kind, seed);
    site_swarm_with(&h->site, seed, with);
    home_services(h);
}

static inline void home_start(struct home *h, struct sim *sim, enum kind kind, unsigned seed)
{
    home_start_with(h, sim, kind, seed, 3);
}

static inline void relay_start(struct home *h)
{
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, h->site.swarm);
    o.mode = WR_RELAY_ON;
    h->relay = wr_relay_server_create(&o);
    assert_non_null(h->relay);
}

static inline void home_stop(struct home *h)
{
    wr_dcutr_destroy(h->dcutr);
    wr_relay_client_destroy(h->client);
    wr_relay_server_destroy(h->relay);
    wr_autonat_client_destroy(h->autonat);
    wr_autonat_server_destroy(h->server);
    wr_pong_destroy(h->pong);
    wr_identify_destroy(h->identify);
    site_stop(&h->site);
}

struct pair {
    struct home *a, *b;
};

static inline bool is_direct(const struct home *from, const struct home *to)
{
    struct wr_conn *c = wr_swarm_conn(from->site.swarm, site_id(&to->site));
    return c && !c->circuit;
}

static inline bool pair_waits(void *arg)
{
    struct pair *p = arg;
    return !is_direct(p->a, p->b) || !is_direct(p->b, p->a);
}

static inline bool hold_waits(void *arg)
{
    return ((struct home *)arg)->holds == 0;
}

/* Dials b through that relay. */
static inline void dial_through(struct home *a, struct home *relay, struct home *b, struct dialled *d)
{
    struct wr_maddr circuit = site_at(&relay->site, false), tail;
    *d = (struct dialled){0};
    assert_int_equal(wr_maddr_append_peer(&circuit, site_id(&relay->site)), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&circuit, wr_maddr_bytes(&tail)), 0);
    assert_int_equal(wr_swarm_connect(a->site.swarm, site_id(&b->site), &circuit, 1, WR_ORIGIN_OWNER, 0,
                                      site_on_dialled, d, NULL),
                     0);
}

#endif
