/* nat_world.h - homes behind every kind of NAT, and the server on the internet that tells them how they are
 * seen; for the stories of punching. Included by one source file of a test program. */
#ifndef NAT_WORLD_H
#define NAT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/simnat.h"
#include "transport/punch.h"
#include "transport/swarm.h"

#include <stdio.h>
#include <string.h>

#define PORT 4001

enum kind {
    PUBLIC,
    FIREWALL,
    FULL_CONE,
    RESTRICTED,
    PORT_RESTRICTED,
    RANDOM_EIM,       /* port-restricted, with random ports */
    REFUSING,
    ANSWERING,        /* a router that takes early packets for its own */
    SEQUENTIAL,       /* symmetric from here on */
    PRESERVING,
    RANDOM,
    CARRIER,          /* a home NAT behind a carrier's, both EIM */
    KINDS,
};

static const char *const kind_names[KINDS] = {"public", "firewall", "full-cone", "restricted", "port-restr",
                                              "random-eim", "refusing", "answering", "sym-seq", "sym-keep",
                                              "sym-random", "carrier"};

struct site {
    enum kind kind;
    bool no_udp;                     /* its NAT lets none through */
    struct simnat *nat, *carrier;    /* owned; or NULL */
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_maddr tcp, quic;       /* as the internet sees it */
};

static inline const struct simnat_options *kind_options(enum kind kind)
{
    static const struct simnat_options of[KINDS] = {
        [FIREWALL] = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF, .ip4 = {4, {93, 0, 0, 1}}},
        [FULL_CONE] = {.filtering = SIMNAT_EIF},
        [RESTRICTED] = {.filtering = SIMNAT_ADF},
        [PORT_RESTRICTED] = {.filtering = SIMNAT_APDF},
        [RANDOM_EIM] = {.filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM},
        [REFUSING] = {.filtering = SIMNAT_APDF, .unsolicited = SIMNAT_REFUSE},
        [ANSWERING] = {.filtering = SIMNAT_APDF, .unsolicited = SIMNAT_ANSWER},
        [SEQUENTIAL] = {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL},
        [PRESERVING] = {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF},
        [RANDOM] = {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM},
        [CARRIER] = {.filtering = SIMNAT_APDF},
    };
    return &of[kind];
}

/* A machine of that kind, with the network before it; `seed` tells its key and makes its addresses its own. */
static inline void site_host_with(struct site *s, struct sim *sim, enum kind kind, bool no_udp, unsigned seed)
{
    struct sim_host_options host = {.name = kind_names[kind]};
    *s = (struct site){.kind = kind, .no_udp = no_udp};
    if (kind == CARRIER)
        s->carrier =
            simnat_add(sim, &(struct simnat_options){.filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM});
    if (kind != PUBLIC) {
        struct simnat_options o = *kind_options(kind);
        o.outer = s->carrier;
        o.no_udp = no_udp;
        host.ip4 = (struct wr_ip){4, {192, 168, 1, 2}};    /* the same in every home */
        if (kind == FIREWALL) {
            o.ip4.bytes[1] = (uint8_t)(seed >> 8);
            o.ip4.bytes[2] = (uint8_t)seed;
            host.ip4 = o.ip4;
        }
        if (kind == CARRIER)
            o.ip4 = (struct wr_ip){4, {100, 64, (uint8_t)(seed >> 8), (uint8_t)seed}};
        s->nat = simnat_add(sim, &o);
        host.gateway = simnat_gateway(s->nat);
    }
    s->host = sim_host_add(sim, &host);
}

static inline void site_host(struct site *s, struct sim *sim, enum kind kind, unsigned seed)
{
    site_host_with(s, sim, kind, false, seed);
}

/* One more machine behind a NAT that is somebody's. */
static inline void site_neighbour(struct site *s, struct sim *sim, struct simnat *nat, uint8_t last)
{
    *s = (struct site){.kind = PORT_RESTRICTED};
    s->host = sim_host_add(sim, &(struct sim_host_options){.gateway = simnat_gateway(nat),
                                                           .ip4 = {4, {192, 168, 1, last}}});
}

/* with: 1 TCP, 2 QUIC, 3 both. */
static inline void site_swarm_with(struct site *s, unsigned seed, unsigned with)
{
    uint8_t bytes[WR_ED25519_SEED] = {(uint8_t)seed, 77, (uint8_t)(seed >> 8)};
    struct wr_addr any = {.ip.family = 4, .port = PORT};
    struct wr_maddr at;
    s->env = sim_host_env(s->host);
    wr_key_generate(&s->key, bytes);
    assert_int_equal(wr_limits_init(&s->limits, "home"), 0);
    s->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = s->env, .limits = &s->limits, .identity = &s->key});
    assert_non_null(s->swarm);
    for (unsigned quic = 0; quic < 2; quic++) {
        if (!(with & (1u << quic)))
            continue;
        assert_int_equal(wr_maddr_from_addr(&any, quic, &at), 0);
        assert_int_equal(wr_swarm_listen(s->swarm, wr_maddr_bytes(&at)), 0);
    }
}

static inline void site_swarm(struct site *s, unsigned seed)
{
    site_swarm_with(s, seed, 3);
}

static inline void site_start(struct site *s, struct sim *sim, enum kind kind, unsigned seed)
{
    site_host(s, sim, kind, seed);
    site_swarm(s, seed);
}

static inline void site_stop(struct site *s)
{
    wr_swarm_destroy(s->swarm);
}

/* After the simulation's end. */
static inline void site_free(struct site *s)
{
    simnat_free(s->nat);
    simnat_free(s->carrier);
}

static inline const struct wr_peerid *site_id(const struct site *s)
{
    return wr_swarm_self(s->swarm);
}

struct dialled {
    bool done;
    int err;
    struct wr_conn *conn;
};

static inline void site_on_dialled(void *arg, int err, struct wr_conn *conn)
{
    *(struct dialled *)arg = (struct dialled){true, err, conn};
}

static inline bool dial_waits(void *arg)
{
    return !((struct dialled *)arg)->done;
}

/* Where a public machine listens. */
static inline struct wr_maddr site_at(const struct site *s, bool quic)
{
    struct wr_addr at = {.ip = *sim_host_ip4(s->host), .port = PORT};
    struct wr_maddr out;
    assert_int_equal(wr_maddr_from_addr(&at, quic, &out), 0);
    return out;
}

/* A new connection to a public machine. */
static inline struct wr_conn *site_dial(struct sim *sim, struct site *from, struct site *to, bool quic)
{
    struct dialled d = {0};
    struct wr_maddr at = site_at(to, quic);
    assert_int_equal(wr_swarm_connect(from->swarm, site_id(to), &at, 1, WR_ORIGIN_OWNER, WR_CONNECT_FRESH,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, 0);
    return d.conn;
}

struct look {
    const struct wr_peerid *peer;
    bool quic;
    struct wr_maddr *out;
};

static inline void look_at(struct wr_conn *c, void *arg)
{
    struct look *look = arg;
    if (c->udp == look->quic && wr_peerid_equal(&c->peer, look->peer))
        wr_conn_remote(c, look->out);
}

/* Connects to the server over both transports and learns how it is seen. */
static inline void site_learn(struct sim *sim, struct site *s, struct site *server)
{
    for (int quic = 0; quic < 2; quic++) {
        struct look look = {site_id(s), quic, quic ? &s->quic : &s->tcp};
        site_dial(sim, s, server, quic);
        sim_run(sim, WR_SEC);
        wr_swarm_each(server->swarm, look_at, &look);
        assert_true(look.out->len > 0);
    }
}

/* Whether others can tell the port that it leaves from. */
static inline bool kind_is_known(enum kind kind)
{
    return kind != SEQUENTIAL && kind != RANDOM;
}

/* Whether it lets in whoever comes from an address that it sent to. */
static inline bool kind_lets_in(enum kind kind)
{
    return kind == PUBLIC || kind == FULL_CONE || kind == RESTRICTED;
}

/* Without prediction: both ports are known, or one side lets in whatever port the other one has. */
static inline bool kinds_meet(enum kind a, enum kind b)
{
    return (kind_is_known(a) && kind_is_known(b)) || kind_lets_in(a) || kind_lets_in(b);
}

/* And with prediction: ports that can be told in advance are as good as known ones. */
static inline bool kinds_meet_predicted(enum kind a, enum kind b)
{
    bool a_told = kind_is_known(a) || a == SEQUENTIAL, b_told = kind_is_known(b) || b == SEQUENTIAL;
    return (a_told && b_told) || kind_lets_in(a) || kind_lets_in(b);
}

#endif
