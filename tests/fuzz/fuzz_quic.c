/* What a stranger sends to a node's QUIC socket, in virtual time beside a connection of a good peer: datagrams of any
 * bytes, first packets that are properly sealed around any frames, packets for the good connection's ids. Whatever
 * comes, the answers stay below three times what was sent, the good connection stays, and once the handshakes have
 * timed out nothing is left of it.
 *
 * An input is a list of steps: a byte that says what, with its arguments.
 *     0  length (2)  bytes                                a datagram
 *     1  id  number  length (2)  frames                   a first packet, padded to 1200 bytes
 *     2  which  first byte  length (1)  bytes             a packet for an id that the node gave to the good peer
 *     3  ticks                                            time passes, 10 ms each
 *     4  id  number  length (2)  frames                   as 1, not padded
 *     5  segment  length (2)  bytes                       datagrams of one size, as they come in a batch
 *     6  id  number  length (2)  frames                   as 1, with a token that nobody gave out */
#include "tests/sim/quic_world.h"
#include "transport/quic_impl.h"
#include "tests/hostile/quic_initial.h"
#include "tests/sim/sim_priv.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATAGRAM_MAX 2000
#define STEPS_MAX    64
#define FIRST_LEAST  1200    /* bytes, of a datagram with a first packet; RFC 9000 section 14.1 */

static struct {
    struct sim *sim;
    struct node node, good;
    struct wr_dgram *dgram;    /* the stranger's */
    struct wr_addr to;
    uint64_t sent, heard, memory;
} w;

/* The fuzzer needs the clock: this program is linked without the simulator's. */
void sim_os_seed(uint64_t seed)
{
    (void)seed;
}

static void hear(void *arg, const struct wr_dgram_in *in)
{
    (void)arg;
    w.heard += in->len;
}

static void ready(void *arg)
{
    (void)arg;
}

static const struct wr_dgram_ops stranger_ops = {.on_receive = hear, .on_writable = ready};

static void tell(const uint8_t *data, size_t len, size_t segment)
{
    w.sent += len;
    wr_dgram_send(w.dgram, &(struct wr_dgram_out){.to = w.to, .data = data, .len = len, .segment = segment});
    sim_run(w.sim, 10 * WR_MSEC);
}

static uint64_t used(enum wr_limit limit)
{
    return w.node.limits.of[limit].used;
}

static void begin(void)
{
    struct client c;
    w.sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 2 * WR_MSEC});
    node_start(&w.node, w.sim, 1);
    node_start(&w.good, w.sim, 2);
    wr_policy_rule(wr_swarm_policy(w.node.swarm), false, "0.0.0.0/0", true);    /* no accept rate: more goes in */
    struct sim_host *host = sim_host_add(w.sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_addr at = {.ip = *sim_host_ip4(host)};
    wr_env_dgram(sim_host_env(host), &at, &stranger_ops, NULL, &w.dgram);
    w.to = (struct wr_addr){.ip = *sim_host_ip4(w.node.host), .port = 4001};
    talk(&w.good, &w.node, &c, 1000);
    sim_run(w.sim, 60 * WR_SEC);
    assert(c.closed && c.err == 0);
    w.memory = used(WR_LIMIT_MEMORY);
}

/* One of the ids that the good peer knows the node by. */
static const struct wr_quic_id *good_id(unsigned which)
{
    struct wr_quic_conn *qc = (struct wr_quic_conn *)(void *)wr_swarm_conn(w.node.swarm, wr_swarm_self(w.good.swarm));
    for (;;) {
        wr_list_each(it, &qc->ids)
        {
            const struct wr_quic_id *id = wr_list_entry(it, struct wr_quic_id, node);
            if (id->key[0] == WR_QUIC_ID_CID && which-- == 0)
                return id;
        }
    }
}

static void first_packet(struct wr_reader *in, size_t least, bool token)
{
    uint8_t packet[QUIC_INITIAL_MAX], id = wr_read_u8(in), number = wr_read_u8(in);
    struct wr_bytes frames = wr_read_bytes(in, wr_read_u16be(in));
    size_t len = quic_initial_seal(packet, &(struct quic_initial_packet){.dcid = {1, 2, 3, 4, 5, 6, 7, id},
                                                                         .scid = {8, 7, 6, 5, 4, 3, 2, id},
                                                                         .number = number,
                                                                         .token = frames.ptr,
                                                                         .token_len = token ? frames.len % 64 : 0,
                                                                         .frames = frames.len ? frames.ptr : packet,
                                                                         .frames_len = frames.len,
                                                                         .least = least});
    if (len)
        tell(packet, len, len);
}

static void for_the_good_one(struct wr_reader *in)
{
    uint8_t packet[512];
    const struct wr_quic_id *id = good_id(wr_read_u8(in) % 8u);
    packet[0] = wr_read_u8(in);
    struct wr_bytes rest = wr_read_bytes(in, wr_read_u8(in));
    size_t key = id->len - 1u;
    memcpy(packet + 1, id->key + 1, key);
    if (rest.len)
        memcpy(packet + 1 + key, rest.ptr, rest.len);
    tell(packet, 1 + key + rest.len, 1 + key + rest.len);
}

static void step(struct wr_reader *in)
{
    struct wr_bytes rest;
    size_t segment;
    switch (wr_read_u8(in) % 7) {
    case 0:
        rest = wr_read_bytes(in, wr_read_u16be(in) % DATAGRAM_MAX);
        tell(rest.ptr, rest.len, rest.len);
        break;
    case 1:
        first_packet(in, FIRST_LEAST, false);
        break;
    case 2:
        for_the_good_one(in);
        break;
    case 3:
        sim_run(w.sim, wr_read_u8(in) * 10 * WR_MSEC);
        break;
    case 4:
        first_packet(in, 0, false);
        break;
    case 6:
        first_packet(in, FIRST_LEAST, true);
        break;
    case 5:
        segment = wr_read_u8(in) + 1u;
        rest = wr_read_bytes(in, wr_read_u16be(in) % DATAGRAM_MAX);
        if (rest.len)
            tell(rest.ptr, rest.len, segment < rest.len ? segment : rest.len);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_reader in;
    wr_reader_init(&in, WR_BYTES(data, size));
    if (!w.sim)
        begin();
    w.sent = w.heard = 0;
    for (unsigned n = 0; n < STEPS_MAX && in.rest.len; n++)
        step(&in);
    sim_run(w.sim, 100 * WR_MSEC);
    if (used(WR_LIMIT_CONNS_HALF_OPEN) || used(WR_LIMIT_MEMORY) != w.memory || w.heard)
        sim_run(w.sim, WR_QUIC_HANDSHAKE + 10 * WR_SEC);
    assert(w.heard <= 3 * w.sent);
    assert(used(WR_LIMIT_CONNS_HALF_OPEN) == 0);
    assert(used(WR_LIMIT_MEMORY) == w.memory);
    assert(wr_swarm_conn_count(w.node.swarm) == 1 && wr_swarm_conn_count(w.good.swarm) == 1);
    return 0;
}
