/* Gateways on the path: what a NAT rewrites and refuses, for streams and datagrams alike. */
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PORT 4001

/* A NAT as most homes have: one outer port for an inner one whoever it talks to, and in come only those
 * that were talked to. */
#define MAPPINGS_MAX 16
#define REMOTES_MAX 16

struct nat {
    struct sim_gateway gateway;
    bool hairpin;
    unsigned refused;
    size_t count;
    struct mapping {
        bool datagram;
        struct wr_addr inner;
        uint16_t outer_port;
        struct wr_addr remotes[REMOTES_MAX];
        size_t remote_count;
    } mappings[MAPPINGS_MAX];
};

static bool outbound(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    bool datagram = head->kind == SIM_DATAGRAM;
    struct mapping *m = NULL;
    (void)now;
    if (wr_ip_equal(&head->to.ip, &gateway->ip4) && !nat->hairpin)
        return false;
    for (size_t i = 0; i < nat->count && !m; i++)
        if (nat->mappings[i].datagram == datagram && wr_addr_equal(&nat->mappings[i].inner, &head->from))
            m = &nat->mappings[i];
    if (!m) {
        assert_true(nat->count < MAPPINGS_MAX);
        m = &nat->mappings[nat->count++];
        *m = (struct mapping){.datagram = datagram, .inner = head->from,
                              .outer_port = (uint16_t)(10000 + nat->count)};
    }
    size_t i = 0;
    while (i < m->remote_count && !wr_addr_equal(&m->remotes[i], &head->to))
        i++;
    if (i == m->remote_count) {
        assert_true(i < REMOTES_MAX);
        m->remotes[m->remote_count++] = head->to;
    }
    head->from.ip = gateway->ip4;
    head->from.port = m->outer_port;
    return true;
}

static bool inbound(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    (void)now;
    for (size_t i = 0; i < nat->count; i++) {
        struct mapping *m = &nat->mappings[i];
        if (m->outer_port != head->to.port || m->datagram != (head->kind == SIM_DATAGRAM))
            continue;
        for (size_t k = 0; k < m->remote_count; k++) {
            if (!wr_addr_equal(&m->remotes[k], &head->from))
                continue;
            head->to = m->inner;
            return true;
        }
    }
    nat->refused++;
    return false;
}

static void nat_start(struct nat *nat, struct sim *sim, uint8_t last, struct nat *outer)
{
    *nat = (struct nat){.gateway = {.outer = outer ? &outer->gateway : NULL, .ip4 = {4, {80, 0, 0, last}},
                                    .outbound = outbound, .inbound = inbound}};
    if (outer)
        nat->gateway.ip4 = (struct wr_ip){4, {100, 64, 0, last}};
    nat->gateway.state = nat;
    sim_gateway_add(sim, &nat->gateway);
}

/* A machine with a stream of each kind and a datagram socket, all on PORT. */
struct node {
    struct wr_env *env;
    struct wr_listener *listener;
    struct wr_udp *udp;
    struct wr_sock *in, *out;
    bool out_open;
    int out_err;
    size_t in_bytes, out_bytes;
    struct wr_addr in_from, datagram_from;
    unsigned datagrams;
};

static void out_open(void *arg)
{
    ((struct node *)arg)->out_open = true;
}

static void out_read(void *arg, uint8_t *data, size_t len)
{
    (void)data;
    ((struct node *)arg)->out_bytes += len;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void out_close(void *arg, int err)
{
    struct node *n = arg;
    n->out = NULL;
    n->out_err = err;
}

static const struct wr_sock_ops out_ops = {.on_open = out_open, .on_read = out_read, .on_drain = nothing, .on_close = out_close};

static void in_read(void *arg, uint8_t *data, size_t len)
{
    struct node *n = arg;
    n->in_bytes += len;
    wr_sock_write(n->in, data, len);
}

static void in_close(void *arg, int err)
{
    (void)err;
    ((struct node *)arg)->in = NULL;
}

static const struct wr_sock_ops in_ops = {.on_open = nothing, .on_read = in_read, .on_drain = nothing, .on_close = in_close};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct node *n = arg;
    n->in = sock;
    wr_sock_remote(sock, &n->in_from);
    wr_sock_attach(sock, &in_ops, n);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_listener_ops listener_ops = {on_accept, on_starved};

static void on_datagram(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct node *n = arg;
    (void)ifindex, (void)data, (void)len;
    n->datagrams++;
    n->datagram_from = *from;
}

static const struct wr_udp_ops udp_ops = {on_datagram};

static void node_start(struct node *n, struct sim *sim, struct nat *nat, uint8_t last)
{
    struct sim_host_options o = {0};
    struct wr_addr any = {.ip.family = 4, .port = PORT};
    if (nat) {
        o.gateway = &nat->gateway;
        o.ip4 = (struct wr_ip){4, {192, 168, 1, last}};
    }
    *n = (struct node){.env = sim_host_env(sim_host_add(sim, &o))};
    assert_int_equal(wr_env_listen(n->env, &any, &listener_ops, n, &n->listener), 0);
    assert_int_equal(wr_env_udp(n->env, &any, false, &udp_ops, n, &n->udp), 0);
}

static void node_stop(struct node *n)
{
    wr_listener_close(n->listener);
    wr_udp_close(n->udp);
    if (n->in)
        wr_sock_close(n->in, true);
    if (n->out)
        wr_sock_close(n->out, true);
}

static void dial(struct node *n, struct wr_addr to)
{
    struct wr_addr from = {.ip.family = 4, .port = PORT};
    assert_int_equal(wr_env_connect(n->env, &to, &from, &out_ops, n, &n->out), 0);
}

static struct wr_addr addr_of(const struct node *n)
{
    return (struct wr_addr){.ip = *sim_host_ip4(sim_host_of(n->env)), .port = PORT};
}

static void send_hello(struct node *n, struct wr_addr to)
{
    assert_int_equal(wr_udp_send(n->udp, &to, 0, WR_BYTES_STR("hello")), 0);
}

static void a_nat_lets_out_and_not_in(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 50 * WR_MSEC});
    struct nat nat;
    struct node home, server, stranger;
    nat_start(&nat, sim, 1, NULL);
    node_start(&home, sim, &nat, 2);
    node_start(&server, sim, NULL, 0);
    node_start(&stranger, sim, NULL, 0);
    dial(&home, addr_of(&server));
    send_hello(&home, addr_of(&server));
    sim_run(sim, WR_SEC);
    assert_true(home.out_open);
    assert_true(wr_ip_equal(&server.in_from.ip, &nat.gateway.ip4));
    assert_int_not_equal(server.in_from.port, PORT);
    wr_sock_write(home.out, (const uint8_t *)"12345", 5);
    send_hello(&server, server.datagram_from);
    sim_run(sim, WR_SEC);
    assert_int_equal(home.out_bytes, 5);    /* the echo */
    assert_int_equal(home.datagrams, 1);
    /* The very same doors, knocked at by somebody else. */
    dial(&stranger, server.in_from);
    send_hello(&stranger, server.datagram_from);
    sim_run(sim, 40 * WR_SEC);
    assert_int_equal(stranger.out_err, WR_ETIMEOUT);
    assert_int_equal(home.datagrams, 1);
    assert_null(home.in);
    assert_true(nat.refused >= 2);
    node_stop(&home);
    node_stop(&server);
    node_stop(&stranger);
    sim_destroy(sim);
}

/* Two homes punch: each dials the other's outer port, which opens its own NAT for the other. */
static void two_nats_are_punched(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 50 * WR_MSEC});
    struct nat nat1, nat2;
    struct node one, two, server;
    nat_start(&nat1, sim, 1, NULL);
    nat_start(&nat2, sim, 2, NULL);
    node_start(&one, sim, &nat1, 2);
    node_start(&two, sim, &nat2, 2);
    node_start(&server, sim, NULL, 0);
    dial(&one, addr_of(&server));
    send_hello(&one, addr_of(&server));
    sim_run(sim, WR_SEC);
    struct wr_addr stream1 = server.in_from, datagram1 = server.datagram_from;
    wr_sock_close(server.in, true);
    dial(&two, addr_of(&server));
    send_hello(&two, addr_of(&server));
    sim_run(sim, WR_SEC);
    struct wr_addr stream2 = server.in_from, datagram2 = server.datagram_from;
    assert_false(wr_ip_equal(&stream1.ip, &stream2.ip));
    wr_sock_close(two.out, true);
    one.out_open = two.out_open = false;
    dial(&one, stream2);
    send_hello(&one, datagram2);
    sim_run(sim, 10 * WR_MSEC);
    dial(&two, stream1);
    send_hello(&two, datagram1);
    sim_run(sim, 5 * WR_SEC);
    assert_true(one.out_open && two.out_open);
    assert_int_equal(one.datagrams, 1);
    wr_sock_write(one.out, (const uint8_t *)"12345", 5);
    sim_run(sim, WR_SEC);
    assert_int_equal(two.out_bytes, 5);
    node_stop(&one);
    node_stop(&two);
    node_stop(&server);
    sim_destroy(sim);
}

static void hairpin_and_layers(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 50 * WR_MSEC});
    struct nat carrier, home;
    struct node one, two, server;
    nat_start(&carrier, sim, 1, NULL);
    nat_start(&home, sim, 2, &carrier);
    node_start(&one, sim, &home, 2);
    node_start(&two, sim, &home, 3);
    node_start(&server, sim, NULL, 0);
    send_hello(&one, addr_of(&server));
    sim_run(sim, WR_SEC);
    assert_true(wr_ip_equal(&server.datagram_from.ip, &carrier.gateway.ip4));
    struct wr_addr outer1 = server.datagram_from;
    send_hello(&server, outer1);
    send_hello(&two, addr_of(&server));
    sim_run(sim, WR_SEC);
    assert_int_equal(one.datagrams, 1);
    struct wr_addr outer2 = server.datagram_from;
    /* Neighbours by their outer addresses: only when the carrier turns packets around. */
    for (int hairpin = 0; hairpin < 2; hairpin++) {
        carrier.hairpin = hairpin;
        send_hello(&one, outer2);
        send_hello(&two, outer1);
        sim_run(sim, WR_SEC);
        assert_int_equal(two.datagrams, hairpin ? 1 : 0);
        assert_int_equal(one.datagrams, hairpin ? 2 : 1);
    }
    /* And by their inner ones always. */
    unsigned before = two.datagrams;
    send_hello(&one, addr_of(&two));
    sim_run(sim, WR_MSEC);
    assert_int_equal(two.datagrams, before + 1);
    node_stop(&one);
    node_stop(&two);
    node_stop(&server);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nat_lets_out_and_not_in),
        cmocka_unit_test(two_nats_are_punched),
        cmocka_unit_test(hairpin_and_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
