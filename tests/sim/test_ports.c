/* From which port dials leave, and whether that is known: a NAT keeps open only the port that was
 * used, and what a peer sees of a port that nobody listens on is worth nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/pnet.h"
#include "transport/swarm.h"

#include <string.h>

#define PORT 4001

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
};

static struct sim *sim;
static struct node a, b;
static const uint8_t psk[WR_PNET_KEY] = {1, 2, 3};

static void listen_at(struct node *n, const struct wr_ip *ip, bool udp)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_from_addr(&(struct wr_addr){.ip = *ip, .port = PORT}, udp, &m), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&m)), 0);
}

/* Listens on both families, and over QUIC as well unless the network is private; or on one TCP port
 * alone. */
static void start(struct node *n, uint8_t seed, const uint8_t *network, bool one)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed, 3};
    *n = (struct node){.host = sim_host_add(sim, &(struct sim_host_options){.name = "node"})};
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "home"), 0);
    n->swarm = wr_swarm_create(&(struct wr_swarm_options){
        .env = n->env, .limits = &n->limits, .identity = &n->key, .psk = network});
    assert_non_null(n->swarm);
    listen_at(n, sim_host_ip4(n->host), false);
    if (!one)
        listen_at(n, sim_host_ip6(n->host), false);
    if (!network && !one) {
        listen_at(n, sim_host_ip4(n->host), true);
        listen_at(n, sim_host_ip6(n->host), true);
    }
}

static void begin(const uint8_t *network, bool one)
{
    sim = sim_create(&(struct sim_options){.seed = 1});
    start(&a, 1, network, one);
    start(&b, 2, network, one);
}

static void end(void)
{
    wr_swarm_destroy(a.swarm);
    wr_swarm_destroy(b.swarm);
    sim_destroy(sim);
}

struct result {
    bool done;
    int err;
    struct wr_conn *conn;
};

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    *(struct result *)arg = (struct result){true, err, conn};
}

/* From a to b at this address; the connection as a has it. */
static struct wr_conn *dial(const struct wr_ip *ip, bool udp, unsigned flags)
{
    struct wr_maddr m;
    struct result r = {false, 0, NULL};
    assert_int_equal(wr_maddr_from_addr(&(struct wr_addr){.ip = *ip, .port = PORT}, udp, &m), 0);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &m, 1, WR_ORIGIN_OWNER,
                                      flags, on_connect, &r, NULL),
                     0);
    for (int i = 0; i < 20000 && !r.done; i++)
        sim_run(sim, WR_MSEC);
    assert_true(r.done && r.err == 0 && r.conn);
    sim_run(sim, WR_SEC);
    return r.conn;
}

static void take_conn(struct wr_conn *c, void *arg)
{
    *(struct wr_conn **)arg = c;
}

/* What b sees of a. */
static uint16_t seen_by_b(void)
{
    struct wr_conn *c = NULL;
    wr_swarm_each(b.swarm, take_conn, &c);
    assert_non_null(c);
    return c->remote.port;
}

static void leaves_from_the_listening_port(const struct wr_ip *ip, bool udp, const uint8_t *network)
{
    begin(network, false);
    struct wr_ip at = *ip;
    if (at.family == 4)
        at = *sim_host_ip4(b.host);
    else
        at = *sim_host_ip6(b.host);
    struct wr_conn *c = dial(&at, udp, 0);
    assert_true(c->port_reused && c->udp == udp);
    assert_int_equal(c->local.port, PORT);
    assert_int_equal(c->local.ip.family, at.family);
    assert_int_equal(seen_by_b(), PORT);
    end();
}

/* KwaaiNet PR 154, go-libp2p 2913 and 3165, rust-libp2p 4259: a fresh port, or the socket of the
 * other family. */
static void test_dials_leave_from_the_listening_port_of_their_family(void **state)
{
    static const struct wr_ip v4 = {.family = 4}, v6 = {.family = 6};
    (void)state;
    leaves_from_the_listening_port(&v4, false, NULL);
    leaves_from_the_listening_port(&v6, false, NULL);
    leaves_from_the_listening_port(&v4, true, NULL);
    leaves_from_the_listening_port(&v6, true, NULL);
}

/* warpnet 395: a network key switched the shared listener off. */
static void test_a_private_network_changes_nothing(void **state)
{
    static const struct wr_ip v4 = {.family = 4}, v6 = {.family = 6};
    (void)state;
    leaves_from_the_listening_port(&v4, false, psk);
    leaves_from_the_listening_port(&v6, false, psk);
}

/* rust-libp2p 6393 and 4568: a second connection to the same peer cannot leave from the same port.
 * It leaves from another one and says so, whereupon what the peer sees of it is no evidence
 * (test_observed.c, test_identify.c). */
static void test_a_port_that_could_not_be_reused_is_not_said_to_be(void **state)
{
    (void)state;
    begin(NULL, true);
    struct wr_conn *first = dial(sim_host_ip4(b.host), false, 0);
    assert_true(first->port_reused);
    struct wr_conn *second = dial(sim_host_ip4(b.host), false, WR_CONNECT_FRESH);
    assert_ptr_not_equal(first, second);
    assert_false(second->port_reused);
    assert_int_not_equal(second->local.port, PORT);
    end();
}

/* The last packets of a connection that is over still meet the next one on the way, if it has the same two ports. */
static void test_who_was_just_there_is_dialled_from_another_port(void **state)
{
    (void)state;
    begin(NULL, false);
    struct wr_conn *c = dial(sim_host_ip4(b.host), false, 0);
    assert_true(c->port_reused);
    wr_conn_close(c, WR_CONN_OK);
    c = dial(sim_host_ip4(b.host), false, 0);
    assert_false(c->port_reused);
    assert_int_not_equal(seen_by_b(), PORT);
    wr_conn_close(c, WR_CONN_OK);
    sim_run(sim, 2 * WR_SEC);
    c = dial(sim_host_ip4(b.host), false, 0);
    assert_true(c->port_reused);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dials_leave_from_the_listening_port_of_their_family),
        cmocka_unit_test(test_a_private_network_changes_nothing),
        cmocka_unit_test(test_a_port_that_could_not_be_reused_is_not_said_to_be),
        cmocka_unit_test(test_who_was_just_there_is_dialled_from_another_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
