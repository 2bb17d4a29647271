/* QUIC and what strangers send, in virtual time: noise, and first packets that are damaged or lead nowhere. */
#include "tests/hostile/quic_initial.h"
#include "tests/sim/quic_world.h"

#include <stdio.h>

static struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
}

static void nothing(void *arg, const struct wr_dgram_in *in)
{
    unsigned *bytes = arg;
    *bytes += (unsigned)in->len;
}

static void ready(void *arg)
{
    (void)arg;
}

/* Empty, short, random and greased datagrams, and first packets that lead nowhere. */
static void test_noise_from_strangers_does_nothing(void **state)
{
    (void)state;
    struct sim *sim = world(16);
    struct node a = {0}, b = {0};
    static const struct wr_dgram_ops ops = {.on_receive = nothing, .on_writable = ready};
    struct sim_host *stranger = sim_host_add(sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_dgram *dgram;
    struct client c;
    unsigned heard = 0;
    uint64_t sent = 0;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    struct wr_addr at = {.ip = *sim_host_ip4(stranger)}, to = {.ip = *sim_host_ip4(b.host), .port = 4001};
    assert_int_equal(wr_env_dgram(sim_host_env(stranger), &at, &ops, &heard, &dgram), 0);
    talk(&a, &b, &c, 100000);
    for (int i = 0; i < 20000; i++) {
        uint8_t data[1300];
        size_t len = sim_random(sim, sizeof(data)) + 1;
        for (size_t k = 0; k < len; k++)
            data[k] = (uint8_t)sim_random(sim, 256);
        if (i & 1) {    /* looks like a first packet */
            static const uint8_t start[] = {0xc3, 0, 0, 0, 1, 8};
            memcpy(data, start, len < sizeof(start) ? len : sizeof(start));
            len = 1200 + (size_t)(i % 100);
            data[14] = 8;
            data[23] = 0;
            data[24] = 0x44;
            data[25] = 0x80;
        }
        struct wr_dgram_out out = {.to = to, .data = data, .len = len, .segment = len};
        assert_int_equal(wr_dgram_send(dgram, &out), 0);
        sent += len;
        if (i % 100 == 0)
            sim_run(sim, 10 * WR_MSEC);
    }
    sim_run(sim, 20 * WR_SEC);
    assert_whole(&c);
    assert_true(heard < 3 * sent);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 1);
    wr_dgram_close(dgram);
    node_stop(&a);
    node_stop(&b);
    sim_run(sim, WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(sim);
}

struct mail {
    size_t len;
    uint8_t data[256];
};

static void keep_mail(void *arg, const struct wr_dgram_in *in)
{
    struct mail *m = arg;
    assert_true(in->len <= sizeof(m->data));
    m->len = in->len;
    memcpy(m->data, in->data, in->len);
}

/* Sends a long packet of this version and length; what comes back. */
static struct mail ask_in_version(struct sim *sim, const struct node *b, uint32_t version, size_t len)
{
    static const struct wr_dgram_ops ops = {.on_receive = keep_mail, .on_writable = ready};
    struct mail m = {0};
    struct wr_dgram *dgram;
    struct sim_host *stranger = sim_host_add(sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_addr at = {.ip = *sim_host_ip4(stranger)}, to = {.ip = *sim_host_ip4(b->host), .port = 4001};
    uint8_t packet[1200] = {0xc0, 0, 0, 0, 0, 8, 'l', 'i', 's', 't', 'e', 'n', 'e', 'r', 4, 'd', 'i', 'a', 'l'};
    for (int i = 0; i < 4; i++)
        packet[1 + i] = (uint8_t)(version >> (24 - 8 * i));
    assert_int_equal(wr_env_dgram(sim_host_env(stranger), &at, &ops, &m, &dgram), 0);
    assert_int_equal(wr_dgram_send(dgram, &(struct wr_dgram_out){.to = to, .data = packet, .len = len, .segment = len}), 0);
    sim_run(sim, WR_SEC);
    wr_dgram_close(dgram);
    return m;
}

/* A version that nobody speaks, a draft, the second version: who asks in a packet of full size is told the one that we
 * speak, and one to be ignored (RFC 9000 sections 6 and 15); a shorter packet is not worth an answer. */
static void test_other_versions_are_told_of_ours(void **state)
{
    static const uint32_t versions[] = {0x1a2a3a4a, 0xff00001d, 0x6b3343cf};
    static const uint8_t head[] = {0, 0, 0, 0, 4, 'd', 'i', 'a', 'l', 8, 'l', 'i', 's', 't', 'e', 'n', 'e', 'r', 0, 0, 0, 1};
    (void)state;
    struct sim *sim = world(18);
    struct node b = {0};
    node_start(&b, sim, 2);
    for (size_t i = 0; i < 3; i++) {
        struct mail m = ask_in_version(sim, &b, versions[i], 1200);
        assert_int_equal(m.len, 1 + sizeof(head) + 4);
        assert_true(m.data[0] & 0x80);
        assert_memory_equal(m.data + 1, head, sizeof(head));
        for (size_t k = 1 + sizeof(head); k < m.len; k++)
            assert_int_equal(m.data[k] & 0x0f, 0x0a);
        assert_int_equal(ask_in_version(sim, &b, versions[i], 1199).len, 0);
    }
    assert_int_equal(ask_in_version(sim, &b, 0, 1200).len, 0);    /* an answer is not answered */
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    node_stop(&b);
    sim_destroy(sim);
}

/* A whole ClientHello, as a stranger's first packet: what comes back, if he says no more. */
static uint64_t answered_to(const struct quic_initial_packet *first)
{
    struct sim *sim = world(21);
    struct node b = {0};
    static const struct wr_dgram_ops ops = {.on_receive = nothing, .on_writable = ready};
    struct sim_host *stranger = sim_host_add(sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_dgram *dgram;
    unsigned heard = 0;
    uint8_t packet[QUIC_INITIAL_MAX];
    node_start(&b, sim, 2);
    struct wr_addr at = {.ip = *sim_host_ip4(stranger)}, to = {.ip = *sim_host_ip4(b.host), .port = 4001};
    assert_int_equal(wr_env_dgram(sim_host_env(stranger), &at, &ops, &heard, &dgram), 0);
    size_t len = quic_initial_seal(packet, first);
    struct wr_dgram_out out = {.to = to, .data = packet, .len = len, .segment = len};
    assert_int_equal(len, 1200);
    assert_int_equal(wr_dgram_send(dgram, &out), 0);
    sim_run(sim, 20 * WR_SEC);
    wr_dgram_close(dgram);
    node_stop(&b);
    sim_destroy(sim);
    return heard;
}

/* A ClientHello; the frames stand between two steps' bytes, 5 and 2. */
static size_t load_hello(uint8_t *seed, size_t room)
{
    FILE *f = fopen("tests/fuzz/corpus/quic/hello", "rb");
    assert_non_null(f);
    size_t len = fread(seed, 1, room, f);
    fclose(f);
    assert_true(len > 200 && len < room);
    return len;
}

/* Before it proved its address a stranger gets at most three times what it sent, with a token that we never gave
 * out no less: whoever's address it names would be flooded. */
static void test_answers_stay_below_three_times(void **state)
{
    (void)state;
    uint8_t seed[512];
    size_t len = load_hello(seed, sizeof(seed));
    struct quic_initial_packet first = {.dcid = {1, 2, 3, 4, 5, 6, 7}, .scid = {8, 7, 6, 5, 4, 3, 2},
                                        .frames = seed + 5, .frames_len = len - 7, .least = 1200};
    assert_in_range(answered_to(&first), 1200, 3 * 1200);
    first.token = (const uint8_t *)"a token of nobody's";
    first.token_len = 19;
    assert_in_range(answered_to(&first), 1200, 3 * 1200);
}

/* After a ClientHello in packet 1. */
struct initial {
    uint8_t number;
    size_t len;
    uint8_t frames[12];
};

static void say_in_turn(const struct initial *said, size_t count)
{
    uint8_t seed[512], packet[QUIC_INITIAL_MAX];
    size_t len = load_hello(seed, sizeof(seed));
    struct quic_initial_packet p = {.dcid = {1, 2, 3, 4, 5, 6, 7}, .scid = {8, 7, 6, 5, 4, 3, 2}, .number = 1,
                                    .frames = seed + 5, .frames_len = len - 7, .least = 1200};
    struct sim *sim = world(22);
    struct node b = {0};
    static const struct wr_dgram_ops ops = {.on_receive = nothing, .on_writable = ready};
    struct sim_host *stranger = sim_host_add(sim, &(struct sim_host_options){.name = "stranger"});
    struct wr_dgram *dgram;
    unsigned heard = 0;
    node_start(&b, sim, 2);
    struct wr_addr at = {.ip = *sim_host_ip4(stranger)}, to = {.ip = *sim_host_ip4(b.host), .port = 4001};
    assert_int_equal(wr_env_dgram(sim_host_env(stranger), &at, &ops, &heard, &dgram), 0);
    for (size_t i = 0; i <= count; i++) {
        size_t size = quic_initial_seal(packet, &p);
        struct wr_dgram_out out = {.to = to, .data = packet, .len = size, .segment = size};
        assert_int_equal(wr_dgram_send(dgram, &out), 0);
        sim_run(sim, 100 * WR_MSEC);
        assert_true(heard >= 1200);
        assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 1);
        if (i < count) {
            p.number = said[i].number;
            p.frames = said[i].frames;
            p.frames_len = said[i].len;
        }
    }
    sim_run(sim, 20 * WR_SEC);
    wr_dgram_close(dgram);
    node_stop(&b);
    sim_destroy(sim);
}

/* A packet says that our acknowledgement of the one after it has arrived: ngtcp2 0.12.1 would end the process. It is not
 * heard, and all goes on. */
static void test_a_late_packet_that_knows_too_much(void **state)
{
    (void)state;
    static const struct initial late[] = {{0, 6, {0x02, 0, 0, 0, 0, 0x01}}};    /* ACK of packet 0, PING */
    say_in_turn(late, 1);
}

/* The same is said by a packet of which ngtcp2 acts upon a part, and which does not count, as something in it is wrong. */
static void test_a_late_packet_after_half_of_one(void **state)
{
    (void)state;
    static const struct initial unknown[] = {{2, 6, {0x02, 0, 0, 0, 0, 0x3f}}, {0, 1, {0x01}}};
    static const struct initial unsent[] = {{2, 8, {0x02, 0, 0, 0, 0, 0x02, 0x3f, 0}}, {0, 1, {0x01}}};
    static const struct initial beyond[] = {{2, 12, {0x02, 0, 0, 0, 0, 0x06, 0xbf, 0xff, 0xff, 0xff, 0x01}},
                                            {0, 1, {0x01}}};
    say_in_turn(unknown, 2);
    say_in_turn(unsent, 2);
    say_in_turn(beyond, 2);
}

struct tape {
    uint8_t data[1500];
    size_t len;
};

static void record(void *arg, const struct wr_dgram_in *in)
{
    struct tape *tape = arg;
    if (tape->len == 0 && in->len <= sizeof(tape->data)) {
        memcpy(tape->data, in->data, in->len);
        tape->len = in->len;
    }
}

static void send_damaged(struct sim *sim, struct wr_dgram *dgram, const struct wr_addr *to,
                         const struct tape *tape, size_t at, size_t len)
{
    uint8_t data[sizeof(tape->data)];
    memcpy(data, tape->data, tape->len);
    if (at < len)
        data[at] ^= (uint8_t)(1u << sim_random(sim, 8));
    struct wr_dgram_out out = {.to = *to, .data = data, .len = len, .segment = len};
    assert_int_equal(wr_dgram_send(dgram, &out), 0);
    sim_run(sim, WR_MSEC);
}

/* A first packet that is good but for one bit, or cut short, leaves nothing behind. */
static void test_a_damaged_first_packet_leaves_nothing(void **state)
{
    (void)state;
    struct sim *sim = world(19);
    struct node a = {0}, b = {0};
    static const struct wr_dgram_ops ops = {.on_receive = record, .on_writable = ready};
    struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){.name = "recorder"});
    static struct tape tape;
    struct wr_dgram *dgram;
    struct result r = {0};
    struct wr_maddr there;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    struct wr_addr at = {.ip = *sim_host_ip4(host), .port = 7}, to = {.ip = *sim_host_ip4(b.host), .port = 4001};
    assert_int_equal(wr_env_dgram(sim_host_env(host), &at, &ops, &tape, &dgram), 0);
    assert_int_equal(wr_maddr_from_addr(&at, true, &there), 0);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &there, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 200 * WR_MSEC);
    assert_in_range(tape.len, 1200, 1452);
    uint64_t memory = b.limits.of[WR_LIMIT_MEMORY].used;
    for (size_t i = 0; i < tape.len; i++)
        send_damaged(sim, dgram, &to, &tape, i, tape.len);
    for (size_t len = 1; len < tape.len; len += 7)
        send_damaged(sim, dgram, &to, &tape, len, len);
    sim_run(sim, 11 * WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, memory);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    uint64_t refused = b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].refused;
    /* The very packet begins a handshake, so the tape was good. */
    send_damaged(sim, dgram, &to, &tape, tape.len, tape.len);
    sim_run(sim, 100 * WR_MSEC);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 1);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].refused, refused);
    wr_dgram_close(dgram);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_damaged_first_packet_leaves_nothing),
        cmocka_unit_test(test_noise_from_strangers_does_nothing),
        cmocka_unit_test(test_other_versions_are_told_of_ours),
        cmocka_unit_test(test_answers_stay_below_three_times),
        cmocka_unit_test(test_a_late_packet_that_knows_too_much),
        cmocka_unit_test(test_a_late_packet_after_half_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
