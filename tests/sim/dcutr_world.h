/* dcutr_world.h - two nodes that punch, and a relay between them; for the stories of it. Included by one source
 * file of a test program. */
#ifndef DCUTR_WORLD_H
#define DCUTR_WORLD_H

#include "tests/sim/nat_world.h"

#include "dcutr/dcutr_impl.h"
#include "tests/sim/toy_relay.h"

#include <stdlib.h>

#define L (160 * WR_MSEC)    /* through the relay: two legs */
#define D (80 * WR_MSEC)

#define DATA "/test/data"
static const char *const data_offer[] = {DATA, NULL};

enum transports { TCP = 1, QUIC = 2, BOTH = 3 };

struct end {
    struct site site;
    struct wr_dcutr *dcutr;
    unsigned reports;
    struct wr_dcutr_report last;
    wr_time relayed_at, direct_at;
    struct wr_swarm_watch watch;
    unsigned served;
};

struct world {
    struct sim *sim;
    struct site relay;
    struct end a, b;    /* a dials b through the relay */
    struct toy toy;
};

static inline void on_report(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report)
{
    struct end *e = arg;
    (void)peer;
    e->reports++;
    e->last = *report;
}

static inline void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct end *e = wr_list_entry(watch, struct end, watch);
    bool opened = event->type == WR_SWARM_OPENED;
    if (opened && event->conn->circuit && !e->relayed_at)
        e->relayed_at = wr_env_now(e->site.env);
    if (opened && !event->conn->circuit && e->relayed_at && !e->direct_at)
        e->direct_at = wr_env_now(e->site.env);
}

static inline void data_in(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)arg;
    wr_stream_write(s, data.ptr, data.len);
}

static const struct wr_stream_ops echo_ops = {.on_data = data_in};

static inline void on_data_stream(struct wr_stream *s, void *arg)
{
    struct end *e = arg;
    e->served++;
    wr_stream_set_ops(s, &echo_ops, e);
}

/* What the laboratory knows of the NAT, as a node would after a while. */
static inline void tell_nat(struct site *s)
{
    struct wr_nat *nat = wr_swarm_nat(s->swarm);
    struct wr_nat_kind kind = {.mapping = s->kind < SEQUENTIAL || s->kind == CARRIER ? WR_NAT_MAP_EIM
                                                                                     : WR_NAT_MAP_APDM,
                               .filtering = WR_NAT_FILTER_APDF,
                               .last_port_at = wr_env_now(s->env)};
    struct wr_addr seen[2];
    assert_true(wr_maddr_addr(wr_maddr_bytes(&s->tcp), &seen[0]));
    assert_true(wr_maddr_addr(wr_maddr_bytes(&s->quic), &seen[1]));
    kind.alloc = s->kind == SEQUENTIAL ? WR_NAT_ALLOC_SEQUENTIAL
                 : s->kind == RANDOM   ? WR_NAT_ALLOC_RANDOM
                                       : WR_NAT_ALLOC_PRESERVING;
    kind.step = s->kind == SEQUENTIAL;
    nat->external = seen[0].ip;
    nat->tcp = nat->udp = kind;
    nat->tcp.last_port = seen[0].port;
    nat->udp.last_port = seen[1].port;
}

static inline void know(struct end *e, enum transports with)
{
    struct wr_addrbook *book = wr_swarm_addrbook(e->site.swarm);
    wr_time now = wr_env_now(e->site.env);
    if (with & TCP)
        wr_addrbook_put(book, wr_maddr_bytes(&e->site.tcp), WR_ADDR_CANDIDATE, now);
    if (with & QUIC)
        wr_addrbook_put(book, wr_maddr_bytes(&e->site.quic), WR_ADDR_CANDIDATE, now);
    wr_swarm_addrs_changed(e->site.swarm);
}

static inline void end_start_here(struct world *w, struct end *e, enum transports with, unsigned seed)
{
    struct wr_protocol p = {
        .name = DATA, .on_stream = on_data_stream, .arg = e, .inbound_max = 9, .limited = true};
    site_swarm_with(&e->site, seed, with);
    e->watch.on_event = on_event;
    wr_swarm_watch(e->site.swarm, &e->watch);
    e->dcutr = wr_dcutr_create(
        &(struct wr_dcutr_options){.swarm = e->site.swarm, .on_report = on_report, .arg = e});
    assert_non_null(e->dcutr);
    assert_int_equal(wr_swarm_handle(e->site.swarm, &p), 0);
    site_learn(w->sim, &e->site, &w->relay);
    tell_nat(&e->site);
}

static inline void end_start(struct world *w, struct end *e, enum kind kind, enum transports with, unsigned seed)
{
    site_host(&e->site, w->sim, kind, seed);
    end_start_here(w, e, with, seed);
}

static inline void toy_up(struct world *w)
{
    struct wr_maddr at = site_at(&w->relay, false);
    w->toy = (struct toy){.relay = w->relay.swarm, .a = w->a.site.swarm, .b = w->b.site.swarm};
    toy_start(&w->toy, &at);
}

static inline void world_start(struct world *w, enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = D});
    site_start(&w->relay, w->sim, PUBLIC, 1);
    end_start(w, &w->a, a, with, 2);
    end_start(w, &w->b, b, with, 3);
    toy_up(w);
}

/* The same, and both ends know how they are seen. */
static inline void world_start_knowing(struct world *w, enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    world_start(w, a, b, with, seed);
    know(&w->a, with);
    know(&w->b, with);
}

static inline void end_stop(struct end *e)
{
    wr_dcutr_destroy(e->dcutr);
    wr_swarm_unwatch(&e->watch);
    site_stop(&e->site);
}

static inline void world_stop(struct world *w)
{
    wr_swarm_set_circuits(w->a.site.swarm, NULL);
    end_stop(&w->a);
    end_stop(&w->b);
    site_stop(&w->relay);
    sim_destroy(w->sim);
    site_free(&w->a.site);
    site_free(&w->b.site);
    site_free(&w->relay);
}

static inline bool b_waits(void *arg)
{
    struct world *w = arg;
    return !wr_swarm_conn(w->b.site.swarm, site_id(&w->a.site));
}

/* a dials b through the relay, and both have the connection. */
static inline void relay_up(struct world *w)
{
    struct dialled d = {0};
    assert_int_equal(wr_swarm_connect(w->a.site.swarm, site_id(&w->b.site), &w->toy.announced.addr, 1,
                                      WR_ORIGIN_OWNER, 0, site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(w->sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, 0);
    assert_non_null(d.conn->circuit);
    assert_true(sim_run_while(w->sim, b_waits, w, WR_SEC));
}

/* Both know how they are seen, and are connected through the relay: the punch begins. */
static inline void world_start_relayed(struct world *w, enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    world_start_knowing(w, a, b, with, seed);
    relay_up(w);
}

static inline bool is_direct(struct end *from, struct end *to)
{
    struct wr_conn *c = wr_swarm_conn(from->site.swarm, site_id(&to->site));
    return c && !c->circuit;
}

static inline bool not_both_direct(void *arg)
{
    struct world *w = arg;
    return !is_direct(&w->a, &w->b) || !is_direct(&w->b, &w->a);
}

struct talk {
    size_t got;
    bool closed;
};

static inline void talk_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    ((struct talk *)arg)->got += data.len;
}

static inline void talk_close(struct wr_stream *s, void *arg, int err)
{
    (void)s, (void)err;
    ((struct talk *)arg)->closed = true;
}

static const struct wr_stream_ops talk_ops = {.on_data = talk_data, .on_close = talk_close};

static inline bool talk_waits(void *arg)
{
    return ((struct talk *)arg)->got < 5;
}

/* Five bytes there and back over the best connection. */
static inline void exchange(struct world *w, struct end *from, struct end *to)
{
    struct talk t = {0};
    int err = 0;
    struct wr_stream *s = wr_swarm_open_with(from->site.swarm, site_id(&to->site), WR_OPEN_LIMITED,
                                             data_offer, &talk_ops, &t, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, "hello", 5), 5);
    assert_true(sim_run_while(w->sim, talk_waits, &t, 5 * WR_SEC));
    wr_stream_reset(s, WR_STREAM_OK);
}

#endif
