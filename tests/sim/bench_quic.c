/* What a QUIC connection makes of a line, in virtual time: by controller, loss, queue and lateness of the sender, so that
 * nothing else the machine does counts. Not a test: run by hand.
 *   bench_quic [SECONDS]    of virtual time each, 20 */
#include "tests/sim/flow.h"
#include "tests/sim/quic_world.h"

#include <stdio.h>
#include <stdlib.h>

#define SINK "/test/sink/1.0.0"
#define SETTLE (4 * WR_SEC)    /* not counted */
static const char *const sink_offer[] = {SINK, NULL};
static const char *const cc_names[] = {"cubic", "reno", "bbr", "bbr2"};

struct line {
    const char *name;
    uint64_t rate;    /* bytes a second */
    wr_time rtt, queue, late;
    double loss;
    bool beside;      /* a cubic flow uses the line as well */
};

static const struct line lines[] = {
    {"100 Mbit/s x 60 ms, queue 60 ms", 12500000, 60 * WR_MSEC, 60 * WR_MSEC, 0, 0, false},
    {"queue 60 ms, sender up to 2 ms late", 12500000, 60 * WR_MSEC, 60 * WR_MSEC, 2 * WR_MSEC, 0, false},
    {"queue 60 ms, sender up to 12 ms late", 12500000, 60 * WR_MSEC, 60 * WR_MSEC, 12 * WR_MSEC, 0, false},
    {"queue 4 ms", 12500000, 60 * WR_MSEC, 4 * WR_MSEC, 0, 0, false},
    {"queue 4 ms, sender up to 2 ms late", 12500000, 60 * WR_MSEC, 4 * WR_MSEC, 2 * WR_MSEC, 0, false},
    {"queue 10 ms", 12500000, 60 * WR_MSEC, 10 * WR_MSEC, 0, 0, false},
    {"1 % loss, queue 60 ms", 12500000, 60 * WR_MSEC, 60 * WR_MSEC, 0, 0.01, false},
    {"1 % loss, queue 10 ms", 12500000, 60 * WR_MSEC, 10 * WR_MSEC, 0, 0.01, false},
    {"beside a cubic flow, queue 60 ms", 12500000, 60 * WR_MSEC, 60 * WR_MSEC, 0, 0, true},
    {"beside a cubic flow, queue 10 ms", 12500000, 60 * WR_MSEC, 10 * WR_MSEC, 0, 0, true},
    {"250 Mbit/s x 600 ms, queue 600 ms", 31250000, 600 * WR_MSEC, 600 * WR_MSEC, 0, 0, false},
};

/* A sender on the host of from, with a receiver of its own. */
static void flow(struct sim *sim, struct node *from, struct node *to, uint8_t seed, enum wr_quic_cc cc, uint16_t port,
                 uint64_t *taken)
{
    int err;
    struct wr_addr at = {.ip = *sim_host_ip4(from->host), .port = port};
    node_start_at(from, sim, seed, &at);
    node_start(to, sim, (uint8_t)(seed + 1));
    wr_quic_set_cc(from->swarm->quic, cc);
    struct wr_protocol p = {.name = SINK, .on_stream = on_sink, .arg = taken, .inbound_max = 1};
    wr_swarm_handle(to->swarm, &p);
    wr_peerstore_add_addr(wr_swarm_peerstore(from->swarm), wr_swarm_self(to->swarm), wr_maddr_bytes(&to->addr),
                          WR_TTL_PERMANENT, false);
    wr_swarm_open(from->swarm, wr_swarm_self(to->swarm), sink_offer, &source_ops, NULL, &err);
}

static void measure(const struct line *l, enum wr_quic_cc cc, wr_time seconds)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = l->rtt});
    struct node a = {0}, b = {0}, c = {0}, d = {0};
    uint64_t taken = 0, other = 0;
    a.host = c.host = sim_host_add(sim, &(struct sim_host_options){.name = "sender"});
    flow(sim, &a, &b, 1, cc, 4001, &taken);
    if (l->beside)
        flow(sim, &c, &d, 3, WR_QUIC_CUBIC, 4002, &other);
    sim_set_loss(sim, l->loss, 0);
    sim_set_bandwidth(a.host, l->rate);
    sim_set_queue(a.host, l->queue);
    sim_set_late(a.host, l->late);
    sim_run(sim, SETTLE);
    uint64_t before = taken, other_before = other, sent = sim_host_traffic(a.host)->datagram_bytes;
    sim_run(sim, seconds * WR_SEC);
    double whole = (double)l->rate * (double)seconds, got = (double)(taken - before);
    double all = got + (double)(other - other_before);
    sent = sim_host_traffic(a.host)->datagram_bytes - sent;
    printf("%-38s %-6s %5.2f", l->name, cc_names[cc], got / whole);
    if (l->beside)
        printf("  other %.2f", (double)(other - other_before) / whole);
    printf("  sent/arrived %.3f%s\n", (double)sent / all,
           wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)) ? "" : "  (the connection ended)");
    fflush(stdout);
    node_stop(&a);
    node_stop(&b);
    if (l->beside) {
        node_stop(&c);
        node_stop(&d);
    }
    sim_destroy(sim);
}

int main(int argc, char **argv)
{
    wr_time seconds = argc > 1 ? atoi(argv[1]) : 20;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        for (int cc = WR_QUIC_CUBIC; cc <= WR_QUIC_BBR2; cc++)
            measure(&lines[i], (enum wr_quic_cc)cc, seconds);
    return 0;
}
