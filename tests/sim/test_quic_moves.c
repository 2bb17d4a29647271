/* QUIC peers that speak from more than one address, and what such a peer must not bring about, in
 * virtual time. */
#include "tests/sim/villain.h"

#define PORTS 40 /* more than ids may be retired without a word of the peer */

/* A villain that speaks from several sockets, of which one is on another machine. What comes to any
 * of them is heard at the first: its protocol engine knows nothing of the others. */
struct mover {
    struct villain v;
    struct sim *sim;
    struct wr_dgram *first, *second, *ports[PORTS];
    struct wr_addr at;
    uint64_t got;  /* bytes of answers, at the second */
    bool deaf;     /* nothing is heard */
    size_t widest; /* bytes: nothing longer is heard */
};

static void mover_hear(void *arg, const struct wr_dgram_in *in)
{
    struct mover *m = arg;
    struct wr_dgram_in heard = *in;
    m->got += wr_addr_equal(&in->to, &m->at) ? 0 : in->len;
    heard.to = m->at;
    if (!m->deaf && in->len <= m->widest)
        villain_hear(&m->v, &heard);
}

static struct wr_dgram *mover_open(struct mover *m, struct sim_host *host, uint16_t port)
{
    static const struct wr_dgram_ops ops = {.on_receive = mover_hear, .on_writable = villain_ready};
    struct wr_addr at = {.ip = *sim_host_ip4(host), .port = port};
    struct wr_dgram *dgram;
    assert_int_equal(wr_env_dgram(sim_host_env(host), &at, &ops, m, &dgram), 0);
    return dgram;
}

static void mover_run(struct mover *m, wr_time duration)
{
    for (wr_time at = 0; at < duration; at += 5 * WR_MSEC) {
        sim_run(m->sim, 5 * WR_MSEC);
        villain_pump(&m->v);
    }
}

/* Connected to b. It does not take long packets, and so b goes on looking for how long they may be.
 */
static void mover_start(struct mover *m, struct sim *sim, struct node *b)
{
    static const struct villain_plan plan = {.alpn = NULL};
    node_start(b, sim, 2);
    *m = (struct mover){.sim = sim, .widest = 1300};
    villain_start(&m->v, sim, &plan);
    wr_dgram_close(m->v.dgram);
    m->first = m->v.dgram = mover_open(m, m->v.host, 4002);
    wr_dgram_addr(m->first, &m->at);
    struct sim_host *other = sim_host_add(sim, &(struct sim_host_options){.name = "second"});
    m->second = mover_open(m, other, 4002);
    for (uint16_t i = 0; i < PORTS; i++)
        m->ports[i] = mover_open(m, m->v.host, (uint16_t)(5000 + i));
    villain_call(&m->v, &b->addr);
    mover_run(m, WR_SEC);
    assert_int_equal(b->opened, 1);
}

static void mover_stop(struct mover *m, struct node *b)
{
    for (int i = 0; i < PORTS; i++)
        wr_dgram_close(m->ports[i]);
    wr_dgram_close(m->second);
    m->v.dgram = m->first;
    villain_stop(&m->v);
    node_stop(b);
    sim_run(m->sim, WR_SEC);
    assert_int_equal(b->limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(m->sim);
}

static void say_ping(struct mover *m, struct wr_dgram *from)
{
    static const uint8_t ping[] = {0x01};
    m->v.dgram = from;
    villain_say(&m->v, WR_BYTES(ping, sizeof(ping)));
}

static struct wr_conn *conn_of(const struct node *b, const struct mover *m)
{
    return wr_swarm_conn(b->swarm, &m->v.id);
}

static struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
}

/* Back on the first path before a long packet was seen to reach the second: ngtcp2 0.12.1 would end
 * the process. */
static void test_there_and_back(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(31), &b);
    say_ping(&m, m.second);
    mover_run(
        &m, 75 * WR_MSEC); /* the challenge, a short one, is answered; the long one is under way */
    say_ping(&m, m.first);
    m.v.dgram = m.second;
    mover_run(&m, 5 * WR_SEC);
    assert_int_equal(b.closed, 0);
    say_ping(&m, m.first); /* now it may */
    mover_run(&m, 5 * WR_SEC);
    assert_int_equal(b.closed, 0);
    assert_true(wr_addr_equal(&conn_of(&b, &m)->remote, &m.at));
    mover_stop(&m, &b);
}

/* The answer itself comes by the first path, with something that says that the peer is there again: the same. */
static void test_the_answer_comes_from_where_it_was(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(38), &b);
    mover_run(&m, 3 * WR_SEC);    /* nothing else is under way */
    say_ping(&m, m.second);
    mover_run(&m, 50 * WR_MSEC);
    m.v.dgram = m.first;
    mover_run(&m, 5 * WR_SEC);
    say_ping(&m, m.first);
    mover_run(&m, WR_SEC);
    assert_int_equal(b.closed, 0);
    assert_true(wr_addr_equal(&conn_of(&b, &m)->remote, &m.at));
    mover_stop(&m, &b);
}

/* A packet with somebody else's address on it: until that has answered, the peer is where it was.
 */
static void test_anothers_address_does_not_count(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(32), &b);
    m.deaf = true;
    uint64_t before = m.got;
    for (int i = 0; i < 20; i++) {
        say_ping(&m, m.second);
        sim_run(m.sim, 100 * WR_MSEC);
        assert_true(wr_addr_equal(&conn_of(&b, &m)->remote, &m.at));
    }
    assert_in_range(m.got - before, 1, 20 * 30 * 3);
    m.deaf = false;
    mover_run(&m, 3 * WR_SEC); /* it has given up */
    say_ping(&m, m.second);
    mover_run(&m, WR_SEC);
    struct wr_addr there;
    wr_dgram_addr(m.second, &there);
    assert_true(wr_addr_equal(&conn_of(&b, &m)->remote, &there));
    mover_stop(&m, &b);
}

/* Why a connection was ended: the peer is told. */
static void test_a_close_says_why(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(39), &b);
    wr_conn_close(conn_of(&b, &m), WR_CONN_TRIMMED);
    mover_run(&m, WR_SEC);
    ngtcp2_ccerr why = wr_quic_compat_ccerr(m.v.ng);
    assert_int_equal(why.type, NGTCP2_CCERR_TYPE_APPLICATION);
    assert_int_equal(why.error_code, WR_CONN_TRIMMED);
    mover_stop(&m, &b);
}

/* A NAT that gives the peer another port time and again, for ever. */
static void test_ports_without_end(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(33), &b);
    for (int i = 0; i < PORTS; i++) {
        say_ping(&m, m.ports[i]);
        mover_run(&m, 500 * WR_MSEC);
    }
    assert_int_equal(b.closed, 0);
    assert_int_equal(conn_of(&b, &m)->remote.port, 5000 + PORTS - 1);
    mover_stop(&m, &b);
}

/* Packets that were overtaken on the path that was left are none that the peer has sent from
 * elsewhere. */
static void test_stragglers(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(34), &b);
    say_ping(&m, m.second);
    mover_run(&m, 500 * WR_MSEC);
    for (int i = 0; i < PORTS; i++) {
        static const uint8_t challenge[] = {0x1a, 1, 2, 3, 4,
                                            5,    6, 7, 8}; /* alone it moves nobody */
        m.v.dgram = m.first;
        villain_say(&m.v, WR_BYTES(challenge, sizeof(challenge)));
        sim_run(m.sim, WR_MSEC);
    }
    m.v.dgram = m.second;
    mover_run(&m, WR_SEC);
    assert_int_equal(b.closed, 0);
    mover_stop(&m, &b);
}

static size_t put_new_id(uint8_t *at, uint8_t seq, uint8_t prior)
{
    const uint8_t head[] = {0x18, 0x40, seq, 0x40, prior, 8};
    memcpy(at, head, sizeof(head));
    for (uint8_t i = 0; i < 24; i++)
        at[sizeof(head) + i] = (uint8_t)(seq * 3 + i);
    return sizeof(head) + 24;
}

/* An id whose retirement is under way, named again: ngtcp2 0.12.1 would end the process. */
static void test_retired_twice(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    uint8_t frames[200] = {0x02, 0, 0, 0, 0}; /* an ACK before them */
    size_t len = 5;
    mover_start(&m, world(35), &b);
    len += put_new_id(frames + len, 50, 50);
    len += put_new_id(frames + len, 49, 0);
    len += put_new_id(frames + len, 49, 0);
    villain_say(&m.v, WR_BYTES(frames, len));
    mover_run(&m, WR_SEC);
    assert_int_equal(b.closed, NGTCP2_VERSION_NUM < 0x010000 ? 1 : 0);
    mover_stop(&m, &b);
}

/* Probes from port after port, each with an id to answer to, and no word on those that were
 * retired: the same. */
static void test_probes_without_end(void **state)
{
    (void)state;
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(36), &b);
    m.deaf = true;
    for (uint8_t i = 0; i < PORTS; i++) {
        uint8_t frames[100] = {0x1a, 1, 2, 3, 4, 5, 6, 7, 8};
        size_t len = i ? 9 + put_new_id(frames + 9, (uint8_t)(60 + i), 0) : 9;
        m.v.dgram = m.ports[i];
        villain_say(&m.v, WR_BYTES(frames, len));
        sim_run(m.sim, 5 * WR_MSEC);
    }
    sim_run(m.sim, 3 * WR_SEC);
    m.deaf = false;
    say_ping(&m, m.first);
    mover_run(&m, WR_SEC);
    if (NGTCP2_VERSION_NUM < 0x010000) { /* later ones give it up in good order */
        assert_int_equal(b.closed, 0);
        assert_true(wr_addr_equal(&conn_of(&b, &m)->remote, &m.at));
    }
    mover_stop(&m, &b);
}

static void say_data(struct mover *m, int64_t id, const void *data, size_t len)
{
    uint8_t packet[1452];
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ssize taken;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_ssize n =
        ngtcp2_conn_write_stream(m->v.ng, &ps.path, &pi, packet, sizeof(packet), &taken, 0, id,
                                 data, len, (ngtcp2_tstamp)wr_env_now(m->v.env));
    assert_true(n > 0);
    villain_tell(&m->v, packet, (size_t)n);
    mover_run(m, 5 * WR_MSEC);
}

/* So much more may be sent; whether it is heard of. */
static void let_have(struct mover *m, int64_t id, uint64_t more, bool heard)
{
    ngtcp2_conn_extend_max_stream_offset(m->v.ng, id, more);
    villain_write(&m->v);
    m->deaf = !heard;
    sim_run(m->sim, 70 * WR_MSEC);
    m->deaf = false;
    villain_pump(&m->v);
}

/* What was written in small pieces is lost and goes out again in other packets. At the end nothing
 * is held. */
static void test_small_pieces_are_lost(void **state)
{
    (void)state;
    static const uint8_t hello[] = "\x13/multistream/1.0.0\n\x11" ECHO "\n", piece[50];
    struct node b = {0};
    struct mover m;
    mover_start(&m, world(37), &b);
    for (int round = 0; round < 3; round++) {
        int64_t id = -1;
        assert_int_equal(ngtcp2_conn_open_bidi_stream(m.v.ng, &id, NULL), 0);
        say_data(&m, id, hello, sizeof(hello) - 1);
        for (int i = 0; i < 60; i++)
            say_data(&m, id, piece, sizeof(piece));
        let_have(&m, id, 262, true);
        let_have(&m, id, 800, false);
        let_have(&m, id, 800, false);
        for (int i = 0; i < 6; i++)
            let_have(&m, id, 50, true);
        mover_run(&m, 2 * WR_SEC);
        ngtcp2_conn_shutdown_stream(m.v.ng, 0, id, 0);
        villain_write(&m.v);
        mover_run(&m, WR_SEC);
    }
    assert_int_equal(b.served, 3);
    mover_stop(&m, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_a_close_says_why),
        cmocka_unit_test(test_the_answer_comes_from_where_it_was),
        cmocka_unit_test(test_anothers_address_does_not_count),
        cmocka_unit_test(test_ports_without_end),
        cmocka_unit_test(test_stragglers),
        cmocka_unit_test(test_retired_twice),
        cmocka_unit_test(test_probes_without_end),
        cmocka_unit_test(test_small_pieces_are_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
