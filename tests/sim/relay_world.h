/* relay_world.h - a relay and two who use it, for the stories of it. Included by one source file of a test
 * program. */
#ifndef RELAY_WORLD_H
#define RELAY_WORLD_H

#include "relay/relay_client.h"
#include "relay/relay_server.h"
#include "tests/sim/sender.h"
#include "tests/sim/simnode.h"

#define SMALL "/test/small"

static const char *const small_offer[] = {SMALL, NULL};

/* ---- who takes part */

struct member {
    struct node n;
    struct wr_relay_client *client;
    struct wr_relay_server *server;
    size_t got;
    int hold_err;                 /* 1: nothing heard yet */
    unsigned hold_status, holds;
    wr_time cut_at;               /* when a stream to it last ended badly */
};

static inline void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct member *m = arg;
    (void)relay;
    m->hold_err = err;
    m->hold_status = status;
    m->holds++;
}

static inline void small_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct member *m = arg;
    (void)s;
    m->got += data.len;
}

static inline void small_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_shut(s);
}

static inline void small_close(struct wr_stream *s, void *arg, int err)
{
    struct member *m = arg;
    (void)s;
    if (err != 0)
        m->cut_at = wr_env_now(m->n.env);
}

static const struct wr_stream_ops small_ops = {
    .on_data = small_data, .on_eof = small_eof, .on_close = small_close};

static inline void on_small(struct wr_stream *s, void *arg)
{
    wr_stream_set_ops(s, &small_ops, arg);
}

static inline void member_up(struct member *m, struct sim *sim, unsigned seed)
{
    struct sim_host *host = m->n.host;
    memset(m, 0, sizeof(*m));
    m->n.host = host;
    m->hold_err = 1;
    node_start(&m->n, sim, seed);
    struct wr_relay_client_options options = {.swarm = m->n.swarm, .on_hold = on_hold, .arg = m};
    m->client = wr_relay_client_create(&options);
    assert_non_null(m->client);
    struct wr_protocol p = {.name = SMALL, .on_stream = on_small, .arg = m, .inbound_max = 100, .limited = true};
    assert_int_equal(wr_swarm_handle(m->n.swarm, &p), 0);
}

static inline void member_serve(struct member *m, const struct wr_relay_server_options *options)
{
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, m->n.swarm);
    if (options)
        o = *options;
    o.swarm = m->n.swarm;
    m->server = wr_relay_server_create(&o);
    assert_non_null(m->server);
}

static inline void member_down(struct member *m)
{
    wr_relay_server_destroy(m->server);
    wr_relay_client_destroy(m->client);
    node_stop(&m->n);
}

static const struct wr_peerid *id_of(const struct member *m)
{
    return wr_swarm_self(m->n.swarm);
}

struct world {
    struct sim *sim;
    struct member a, b, relay;
};

static const struct wr_relay_server_options lent = {.mode = WR_RELAY_ON,
                                                    .limit = {.duration = 120, .data = 131072},
                                                    .ttl = 3600};

static inline void world_up(struct world *w, const struct sim_options *options,
                            const struct wr_relay_server_options *server)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(options);
    member_up(&w->a, w->sim, 1);
    member_up(&w->b, w->sim, 2);
    member_up(&w->relay, w->sim, 3);
    if (server)
        member_serve(&w->relay, server);
    assert_int_equal(node_connect(w->sim, &w->b.n, &w->relay.n), 0);
}

static inline void world_down(struct world *w)
{
    member_down(&w->a);
    member_down(&w->b);
    member_down(&w->relay);
    sim_destroy(w->sim);
}

static inline int reserve(struct sim *sim, struct member *m, struct member *relay)
{
    m->hold_err = 1;
    int rc = wr_relay_client_hold(m->client, id_of(relay));
    if (rc != 0)
        return rc;
    for (int i = 0; i < 15000 && m->hold_err == 1; i++)
        sim_run(sim, WR_MSEC);
    return m->hold_err;
}

static inline struct wr_maddr circuit_of(const struct member *relay)
{
    struct wr_maddr at = relay->n.addr, tail;
    assert_int_equal(wr_maddr_append_peer(&at, wr_swarm_self(relay->n.swarm)), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&at, wr_maddr_bytes(&tail)), 0);
    return at;
}

/* a reaches b through the relay; the error. */
static inline int reach(struct world *w, struct member *from, struct member *to)
{
    struct wr_maddr at = circuit_of(&w->relay);
    int result = 1;
    assert_int_equal(wr_swarm_connect(from->n.swarm, id_of(to), &at, 1, WR_ORIGIN_OWNER, 0, node_on_connect, &result,
                                      NULL),
                     0);
    for (int i = 0; i < 65000 && result == 1; i++)
        sim_run(w->sim, WR_MSEC);
    sim_run(w->sim, 200 * WR_MSEC);
    return result;
}

static inline void begin(struct member *from, struct member *to, struct sender *c, size_t len)
{
    int err;
    *c = (struct sender){.left = len, .err = 1};
    assert_non_null(wr_swarm_open_with(from->n.swarm, id_of(to), WR_OPEN_LIMITED, small_offer, &sender_ops, c, &err));
}

static inline size_t relayed_addrs(struct member *m)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(m->n.swarm);
    size_t n = 0;
    for (size_t i = 0; i < book->count; i++)
        n += book->of[i].source == WR_ADDR_RELAYED;
    return n;
}

static inline struct wr_relay_server_stats stats_of(const struct member *relay)
{
    struct wr_relay_server_stats s;
    wr_relay_server_stats(relay->server, &s);
    return s;
}

#endif
