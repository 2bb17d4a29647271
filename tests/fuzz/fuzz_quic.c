/* What a stranger sends to a node's QUIC socket, in virtual time beside a connection of a good peer: datagrams of any
 * bytes, first packets that are properly sealed around any frames, packets for the good connection's ids, and any frames
 * under the keys of a handshake that he has made. So it goes through telling datagrams apart, too. Whatever comes, the
 * answers stay below three times what was sent, the good connection stays, and once the handshakes have timed out nothing is
 * left of it.
 *
 * An input is a list of steps: a byte that says what, with its arguments.
 *     0  length (2)  bytes                                a datagram
 *     1  id  number  length (2)  frames                   a first packet, padded to 1200 bytes
 *     2  which  first byte  length (1)  bytes             a packet for an id that the node gave to the good peer
 *     3  ticks                                            time passes, 10 ms each
 *     4  id  number  length (2)  frames                   as 1, not padded
 *     5  segment  length (2)  bytes                       datagrams of one size, as they come in a batch
 *     6  id  number  length (2)  frames                   as 1, with a token that nobody gave out
 *     7  id  number  length (2)  frames                   as 1, with the token and for the id of the last Retry; without
 *                                                         one, from now on or no more everybody gets a Retry
 *     8  count  (length (2)  frames) ...                  a peer dials, and when the handshake is over says these
 *     9  count  (frames by recipe  0) ...                 the same, but each frame is a byte that says which, and its
 *                                                         numbers, a byte each (put_number) */
#include "tests/sim/villain.h"
#include "transport/quic_impl.h"
#include "tests/hostile/quic_initial.h"
#include "tests/sim/sim_priv.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATAGRAM_MAX 2000
#define STEPS_MAX    64
#define FIRST_LEAST  1200    /* bytes, of a datagram with a first packet; RFC 9000 section 14.1 */
#define SESSIONS_MAX 2       /* of one input: each is a whole handshake */
#define SAID_MAX     16      /* packets of one of them */

static struct {
    struct sim *sim;
    struct node node, good;
    struct wr_dgram *dgram;    /* the stranger's */
    struct wr_addr to;
    uint64_t sent, heard, memory;
    struct villain caller;
    unsigned sessions;
    bool retries;              /* everybody gets one */
    uint8_t token[128], retry_id[8];
    size_t token_len;          /* of the last Retry */
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
    /* A Retry: first byte, version, our id, its id, the token, a tag (RFC 9000 section 17.2.5). */
    const size_t head = 1 + 4 + 1 + 8 + 1 + 8, tag = 16;
    if (in->len <= head + tag || in->len - head - tag > sizeof(w.token) || (in->data[0] & 0xf0) != 0xf0)
        return;
    w.token_len = in->len - head - tag;
    memcpy(w.token, in->data + head, w.token_len);
    memcpy(w.retry_id, in->data + head - 8, 8);
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
    static const struct villain_plan dials = {.cert = VILLAIN_GOOD};
    struct client c;
    w.sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 2 * WR_MSEC});
    node_start(&w.node, w.sim, 1);
    node_start(&w.good, w.sim, 2);
    wr_policy_rule(wr_swarm_policy(w.node.swarm), false, "0.0.0.0/0", true);    /* no accept rate: more goes in */
    struct sim_host *host = sim_host_add(w.sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_addr at = {.ip = *sim_host_ip4(host)};
    wr_env_dgram(sim_host_env(host), &at, &stranger_ops, NULL, &w.dgram);
    w.to = (struct wr_addr){.ip = *sim_host_ip4(w.node.host), .port = 4001};
    talk(&w.good, &w.node, &c, 10000);    /* so that the path's width is known, too, and no more memory comes or goes */
    sim_run(w.sim, 60 * WR_SEC);
    assert(c.closed && c.err == 0);
    villain_start(&w.caller, w.sim, &dials);
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

static void after_retry(struct wr_reader *in)
{
    uint8_t packet[QUIC_INITIAL_MAX], id = wr_read_u8(in), number = wr_read_u8(in);
    struct wr_bytes frames = wr_read_bytes(in, wr_read_u16be(in));
    struct quic_initial_packet p = {.scid = {8, 7, 6, 5, 4, 3, 2, id}, .number = number, .token = w.token,
                                    .token_len = w.token_len, .frames = frames.len ? frames.ptr : packet,
                                    .frames_len = frames.len, .least = FIRST_LEAST};
    if (!w.token_len) {
        w.retries = !w.retries;
        wr_quic_retry_always(w.node.swarm->quic, w.retries);
        return;
    }
    memcpy(p.dcid, w.retry_id, sizeof(p.dcid));
    size_t len = quic_initial_seal(packet, &p);
    if (len)
        tell(packet, len, len);
}

static void caller_runs(wr_time duration)
{
    for (wr_time at = 0; at < duration; at += 10 * WR_MSEC) {
        sim_run(w.sim, 10 * WR_MSEC);
        villain_pump(&w.caller);
    }
}

/* Small ones as they are; above, what may be too large for one thing or the other. */
static void put_number(struct wr_buf *b, uint8_t n)
{
    static const uint64_t large[] = {1 << 10, 1 << 14, 1 << 16, 1 << 20, 1 << 24, 1 << 30, 1ull << 60, (1ull << 62) - 1};
    wr_buf_put_u64be(b, 3ull << 62 | (n < 248 ? n : large[n - 248]));
}

static void put_numbers(struct wr_buf *b, struct wr_reader *in, unsigned count)
{
    while (count--)
        put_number(b, wr_read_u8(in));
}

static void put_blob(struct wr_buf *b, const void *data, size_t len)
{
    put_number(b, (uint8_t)len);
    wr_buf_put(b, data, len);
}

/* One packet of whole frames (RFC 9000 section 19), up to a zero. */
static void cook_frames(struct wr_reader *in, struct wr_buf *b)
{
    static const char hello[] = "\x13/multistream/1.0.0\n\x11/test/echo/1.0.0\n", bytes[] = "0123456789abcdef01234567";
    /* By type; those with bytes of their own have a case. */
    static const uint8_t numbers[] = {0, 0, 4, 7, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                      1, 2, 1, 1, 1, 2, 1, 1, 0, 1, 0, 0, 3, 2, 0};
    for (uint8_t what; in->rest.len && b->len + 100 < b->max && (what = wr_read_u8(in)) != 0;) {
        uint8_t type = what % (uint8_t)sizeof(numbers);
        type = type >= 0x08 && type <= 0x0f ? type | 6 : type;    /* a stream's offset and length are always there */
        wr_buf_put_u8(b, type ? type : 0x0e);
        if (type == 0) {    /* a stream that begins as it should */
            put_numbers(b, in, 1);
            put_number(b, 0);
            put_blob(b, hello, sizeof(hello) - 1);
        } else if (type == 0x06 || type == 0x07 || (type & 0xf8) == 0x08) {
            put_numbers(b, in, type == 0x06 ? 1 : type == 0x07 ? 0 : 2);
            put_blob(b, bytes, 8 + what % 16u);
        } else if (type == 0x18) {
            put_numbers(b, in, 2);
            wr_buf_put_u8(b, 8);
            wr_buf_put_u8(b, what);
            wr_buf_put(b, bytes, 7 + 16);
        } else if (type == 0x1a || type == 0x1b) {
            wr_buf_put(b, bytes, 8);
        } else {
            put_numbers(b, in, numbers[type]);
        }
    }
}

static void say_cooked(struct wr_reader *in)
{
    uint8_t room[1150];
    struct wr_buf frames;
    wr_buf_over(&frames, room, sizeof(room));
    cook_frames(in, &frames);
    villain_say(&w.caller, wr_buf_bytes(&frames));
}

static void session(struct wr_reader *in, bool cooked)
{
    static const uint8_t bye[] = {0x1d, 0, 0};    /* CONNECTION_CLOSE of the application */
    unsigned count = wr_read_u8(in) % (SAID_MAX + 1u);
    if (w.sessions++ >= SESSIONS_MAX)
        return;
    villain_call(&w.caller, &w.node.addr);
    caller_runs(100 * WR_MSEC);
    assert(w.retries || ngtcp2_conn_get_handshake_completed(w.caller.ng));
    for (unsigned i = 0; i < count; i++) {
        size_t len = cooked ? 0 : wr_read_u16be(in) % 1200u;
        if (cooked)
            say_cooked(in);
        else
            villain_say(&w.caller, wr_read_bytes(in, len < in->rest.len ? len : in->rest.len));
        caller_runs(10 * WR_MSEC);
    }
    villain_say(&w.caller, WR_BYTES(bye, sizeof(bye)));
    sim_run(w.sim, WR_SEC);
    villain_forget(&w.caller);
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
    switch (wr_read_u8(in) % 10) {
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
    case 7:
        after_retry(in);
        break;
    case 8:
        session(in, false);
        break;
    case 9:
        session(in, true);
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
    w.sessions = 0;
    w.token_len = 0;
    w.retries = false;
    wr_quic_retry_always(w.node.swarm->quic, false);
    for (unsigned n = 0; n < STEPS_MAX && in.rest.len; n++)
        step(&in);
    sim_run(w.sim, 100 * WR_MSEC);
    if (used(WR_LIMIT_CONNS_HALF_OPEN) || used(WR_LIMIT_MEMORY) != w.memory || w.heard)
        sim_run(w.sim, WR_QUIC_HANDSHAKE + 10 * WR_SEC);
    /* A connection that was not heard to end; what is remembered of its peer for a minute. */
    for (int i = 0; i < 12 && (wr_swarm_conn_count(w.node.swarm) > 1 || used(WR_LIMIT_MEMORY) != w.memory); i++)
        sim_run(w.sim, 10 * WR_SEC);
    assert(w.heard <= 3 * w.sent);
    assert(used(WR_LIMIT_CONNS_HALF_OPEN) == 0);
    assert(used(WR_LIMIT_MEMORY) == w.memory);
    assert(wr_swarm_conn_count(w.node.swarm) == 1 && wr_swarm_conn_count(w.good.swarm) == 1);
    return 0;
}
