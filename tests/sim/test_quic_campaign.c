/* QUIC for a long time: thousands of connections come and go over a bad path, and a large transfer goes on while a
 * NAT gives it another port every second. As a plain test a part of it; `sim_test_quic_campaign full [SEED]` is all
 * of it: 10,000 connections and 1 GiB. */
#include "tests/sim/quic_world.h"
#include "transport/quic_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS 8
#define SINK    "/test/sink/1.0.0"

static const char *const sink_offer[] = {SINK, NULL};
static struct {
    unsigned connections;
    size_t bytes;
    uint64_t seed;
} campaign = {400, 32 << 20, 1};

/* ---- connections that come and go ------------------------------------------------------------------------------ */

/* One client: connects, has 2000 bytes echoed, disconnects, again. */
struct caller {
    struct node node;
    struct node *server;
    struct result result;
    struct client client;
    unsigned left, whole;
    bool talking;
};

static void call(struct caller *c)
{
    struct wr_peerid server = *wr_swarm_self(c->server->swarm);
    if (c->talking && c->client.closed) {
        c->talking = false;
        c->whole += c->client.err == 0 && c->client.got == c->client.size && c->client.eof;
        wr_swarm_disconnect(c->node.swarm, &server, WR_CONN_OK);
        return;
    }
    if (c->talking || wr_swarm_conn(c->node.swarm, &server) || !c->left)
        return;
    c->left--;
    c->talking = true;
    talk(&c->node, c->server, &c->client, 2000);
}

static bool anybody(const struct caller *callers)
{
    for (int i = 0; i < CLIENTS; i++)
        if (callers[i].left || callers[i].talking)
            return true;
    return false;
}

static void test_thousands_come_and_go(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){
        .seed = campaign.seed, .rtt = 60 * WR_MSEC, .loss = 0.05, .reorder = 0.2});
    struct node server = {0};
    static struct caller callers[CLIENTS];
    unsigned whole = 0;
    memset(callers, 0, sizeof(callers));
    node_start(&server, sim, 100);
    wr_policy_rule(wr_swarm_policy(server.swarm), false, "0.0.0.0/0", true);    /* no accept rate */
    for (int i = 0; i < CLIENTS; i++) {
        callers[i].server = &server;
        callers[i].left = campaign.connections / CLIENTS;
        node_start(&callers[i].node, sim, (uint8_t)(i + 1));
    }
    while (anybody(callers)) {
        for (int i = 0; i < CLIENTS; i++)
            call(&callers[i]);
        sim_run(sim, 20 * WR_MSEC);
    }
    sim_run(sim, 60 * WR_SEC);
    for (int i = 0; i < CLIENTS; i++)
        whole += callers[i].whole;
    /* A handshake takes some ten packets, and gives up after ten seconds. */
    assert_in_range(whole, campaign.connections * 98 / 100, campaign.connections);
    assert_true(server.opened >= (int)whole);
    assert_int_equal(server.opened, server.closed);
    assert_int_equal(server.swarm->quic->linger_count, 0);
    assert_int_equal(server.swarm->quic->ids.count, 0);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(callers[i].node.swarm->quic->ids.count, 0);
        node_stop(&callers[i].node);
    }
    node_stop(&server);
    sim_run(sim, WR_SEC);
    for (int i = 0; i < WR_LIMIT_COUNT; i++)
        assert_int_equal(server.limits.of[i].used, 0);
    printf("%u of %u connections, %.0f s of virtual time, trace %016llx\n", whole, campaign.connections,
           (double)sim_now(sim) / (double)WR_SEC, (unsigned long long)sim_trace(sim));
    sim_destroy(sim);
}

/* ---- a transfer across ever new ports -------------------------------------------------------------------------- */

static uint64_t sunk;

static void sink_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    (void)arg;
    for (size_t i = 0; i < data.len; i++)
        if (data.ptr[i] != pattern((size_t)sunk + i))
            fail_msg("byte %zu differs", (size_t)sunk + i);
    sunk += data.len;
}

static void sink_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_shut(s);
}

static void sink_close(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    (void)arg;
    (void)err;
}

static const struct wr_stream_ops sink_ops = {.on_data = sink_data, .on_eof = sink_eof, .on_close = sink_close};

static void on_sink(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_set_ops(s, &sink_ops, NULL);
}

/* The trace; the number of ports in *ports. */
static uint64_t across_new_ports(size_t bytes, uint64_t seed, unsigned *ports)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = seed, .rtt = 20 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct nat nat;
    static struct client c;
    struct result r = {0};
    struct wr_protocol p = {.name = SINK, .on_stream = on_sink, .inbound_max = 1};
    int err;
    sunk = 0;
    nat_start(&nat, sim, &a);
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    assert_int_equal(wr_swarm_handle(b.swarm, &p), 0);
    sim_set_bandwidth(a.host, 12500000);
    dial(&a, &b, &r);
    sim_run(sim, WR_SEC);
    assert_true(r.done && r.err == 0);
    c = (struct client){.env = a.env, .size = bytes};
    c.stream = wr_conn_open_stream(r.conn, sink_offer, &client_ops, &c, &err);
    assert_non_null(c.stream);
    client_push(&c);
    for (wr_time end = sim_now(sim) + 1000 * WR_SEC; !c.closed && sim_now(sim) < end;) {
        sim_run(sim, WR_SEC);
        nat.port++;
    }
    *ports = nat.port - 20000u;
    assert_true(c.closed && c.err == 0);
    assert_int_equal(sunk, bytes);
    assert_int_equal(a.opened, 1);
    assert_int_equal(b.opened, 1);
    node_stop(&a);
    node_stop(&b);
    sim_run(sim, WR_SEC);
    assert_int_equal(a.limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    uint64_t trace = sim_trace(sim);
    sim_destroy(sim);
    return trace;
}

static void test_a_transfer_across_a_new_port_every_second(void **state)
{
    (void)state;
    unsigned ports;
    uint64_t trace = across_new_ports(campaign.bytes, campaign.seed, &ports);
    printf("%zu MiB across %u ports, trace %016llx\n", campaign.bytes >> 20, ports, (unsigned long long)trace);
    assert_true(ports >= 3);
}

/* In a process of its own: GnuTLS draws from the seed only when it begins. */
static uint64_t in_a_child(uint64_t seed)
{
    int ends[2];
    uint64_t trace = 0;
    unsigned ports;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        trace = across_new_ports(4 << 20, seed, &ports);
        _exit(write(ends[1], &trace, sizeof(trace)) == sizeof(trace) ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &trace, sizeof(trace)), sizeof(trace));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    return trace;
}

static void test_it_replays(void **state)
{
    (void)state;
    uint64_t once = in_a_child(campaign.seed + 7);
    assert_int_equal(in_a_child(campaign.seed + 7), once);
    assert_int_not_equal(in_a_child(campaign.seed + 8), once);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_replays),    /* first: what it starts must not have drawn yet */
        cmocka_unit_test(test_thousands_come_and_go),
        cmocka_unit_test(test_a_transfer_across_a_new_port_every_second),
    };
    if (argc > 1 && strcmp(argv[1], "full") == 0) {
        campaign.connections = 10000;
        campaign.bytes = (size_t)1 << 30;
        campaign.seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
