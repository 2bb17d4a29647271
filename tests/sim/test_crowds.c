/* All places taken by a crowd from one network: who still gets in, and what everybody may keep us busy with. */
#include "tests/sim/simnode.h"

#define CROWD 140    /* above the 128 inbound connections of limits small */

/* Machines of one /16. */
static struct wr_ip crowd_ip(unsigned i)
{
    return (struct wr_ip){.family = 4, .bytes = {45, 66, (uint8_t)(i / 200), (uint8_t)(1 + i % 200)}};
}

struct silent {
    struct wr_sock *sock;
    bool closed;
};

static void silent_open(void *arg)
{
    (void)arg;
}

static void silent_read(void *arg, uint8_t *data, size_t len)
{
    (void)arg;
    (void)data;
    (void)len;
}

static void silent_close(void *arg, int err)
{
    struct silent *s = arg;
    (void)err;
    s->sock = NULL;
    s->closed = true;
}

static const struct wr_sock_ops silent_ops = {
    .on_open = silent_open, .on_read = silent_read, .on_drain = silent_open, .on_close = silent_close};

static unsigned count_closed(const struct silent *of, unsigned count)
{
    unsigned closed = 0;
    for (unsigned i = 0; i < count; i++)
        closed += of[i].closed;
    return closed;
}

/* Silent connections fill the places of handshakes. Somebody from elsewhere takes one at once; one more of the crowd
 * has to wait until one has dragged on. */
static void test_half_open_crowd(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .rtt = 60 * WR_MSEC});
    struct node target = {0}, good = {0};
    static struct silent silent[300];
    memset(silent, 0, sizeof(silent));
    node_start(&target, sim, 1);
    node_start(&good, sim, 2);
    unsigned places = (unsigned)target.limits.of[WR_LIMIT_CONNS_HALF_OPEN].max;
    struct wr_addr to = {.ip = *sim_host_ip4(target.host), .port = PORT};
    assert_true(places < 300);
    for (unsigned i = 0; i <= places; i++) {
        struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){.ip4 = crowd_ip(i)});
        assert_int_equal(wr_env_connect(sim_host_env(host), &to, NULL, &silent_ops, &silent[i],
                                        &silent[i].sock),
                         0);
    }
    sim_run(sim, 250 * WR_MSEC);
    assert_int_equal(target.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, places);
    assert_int_equal(count_closed(silent, places + 1), 1);    /* the one too many */
    assert_int_equal(node_connect(sim, &good, &target), 0);
    sim_run(sim, 50 * WR_MSEC);
    assert_non_null(node_conn(&target, &good));
    assert_int_equal(count_closed(silent, places + 1), 2);
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(count_closed(silent, places + 1), places + 1);
    assert_int_equal(target.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    node_stop(&good);
    node_stop(&target);
    sim_destroy(sim);
}

static unsigned count_connected(struct node *target, struct node *of, unsigned count)
{
    unsigned connected = 0;
    for (unsigned i = 0; i < count; i++)
        connected += node_conn(target, &of[i]) != NULL;
    return connected;
}

/* The same with finished handshakes, when all places are taken by a crowd: who was here before and does nothing stays,
 * and somebody else still finds a place. */
static void crowd_connects(struct wr_ip (*ip_of)(unsigned i), uint64_t seed)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
    struct node target = {0}, before = {0}, after = {0};
    static struct node crowd[CROWD];
    memset(crowd, 0, sizeof(crowd));
    node_start(&target, sim, 1);
    node_start(&before, sim, 2);
    node_start(&after, sim, 3);
    unsigned most = (unsigned)target.limits.of[WR_LIMIT_CONNS_INBOUND].max;
    assert_true(most < CROWD);
    assert_int_equal(node_connect(sim, &before, &target), 0);
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i].host = sim_host_add(sim, &(struct sim_host_options){.ip4 = ip_of(i)});
        node_start(&crowd[i], sim, 10 + i);
        (void)node_connect(sim, &crowd[i], &target);
    }
    sim_run(sim, WR_SEC);
    assert_non_null(node_conn(&target, &before));
    assert_int_equal(count_connected(&target, crowd, CROWD), most - 1);
    assert_int_equal(node_connect(sim, &after, &target), 0);
    sim_run(sim, WR_SEC);
    assert_non_null(node_conn(&target, &after));
    assert_non_null(node_conn(&target, &before));
    assert_int_equal(count_connected(&target, crowd, CROWD), most - 2);
    assert_int_equal(target.limits.of[WR_LIMIT_CONNS_INBOUND].used, most);
    assert_int_equal(target.limits.of[WR_LIMIT_CONNS].used, most);
    for (unsigned i = 0; i < CROWD; i++)
        node_stop(&crowd[i]);
    node_stop(&after);
    node_stop(&before);
    node_stop(&target);
    sim_destroy(sim);
}

static void test_inbound_crowd(void **state)
{
    (void)state;
    crowd_connects(crowd_ip, 8);
}

/* A machine in each of many networks. */
static struct wr_ip wide_ip(unsigned i)
{
    return (struct wr_ip){.family = 4, .bytes = {46, (uint8_t)i, 1, 1}};
}

static void test_inbound_from_everywhere(void **state)
{
    (void)state;
    crowd_connects(wide_ip, 10);
}

/* Nine tenths of the places taken: a quarter is made free, of those that are worth least. Whom a service protects
 * stays, whom one values stays before the others. */
static void test_high_and_low_water(void **state)
{
    (void)state;
    enum { PEERS = 37, VALUED = 5, PLACES = 40, LOW = 30 };
    struct sim *sim = sim_create(&(struct sim_options){.seed = 11, .rtt = 60 * WR_MSEC});
    struct node target = {0};
    static struct node peers[PEERS];
    memset(peers, 0, sizeof(peers));
    node_start(&target, sim, 1);
    target.limits.of[WR_LIMIT_CONNS_INBOUND].max = PLACES;
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i].host = sim_host_add(sim, &(struct sim_host_options){.ip4 = wide_ip(i)});
        node_start(&peers[i], sim, 10 + i);
        if (i + 1 == PEERS) {    /* nine tenths are not exceeded yet */
            sim_run(sim, 2 * WR_MIN);
            assert_int_equal(target.limits.of[WR_LIMIT_CONNS_INBOUND].used, PEERS - 1);
        }
        assert_int_equal(node_connect(sim, &peers[i], &target), 0);
    }
    /* Of the younger half, who may have to go, one is protected and some are valued. */
    const struct node *protected = &peers[20];
    wr_swarm_tag(target.swarm, wr_swarm_self(protected->swarm), "test", 0, true);
    for (unsigned i = 21; i < 21 + VALUED; i++)
        wr_swarm_tag(target.swarm, wr_swarm_self(peers[i].swarm), "test", 10, false);
    sim_run(sim, 2 * WR_MIN);
    assert_int_equal(target.limits.of[WR_LIMIT_CONNS_INBOUND].used, LOW);
    assert_int_equal(count_connected(&target, peers, LOW / 2), LOW / 2);
    for (unsigned i = 20; i < 21 + VALUED; i++)
        assert_non_null(node_conn(&target, &peers[i]));
    for (unsigned i = 0; i < PEERS; i++)
        node_stop(&peers[i]);
    node_stop(&target);
    sim_destroy(sim);
}

static void hold_stream(struct wr_stream *s, void *arg)
{
    (void)arg;
    static const struct wr_stream_ops ops = {0};
    wr_stream_set_ops(s, &ops, NULL);
}

/* Everybody opens all the streams he can; each has his part all the same, whoever came first. */
static void test_stream_flood(void **state)
{
    (void)state;
    enum { FLOODERS = 12, TRIES = 250 };
    static const char *const offer[] = {"/test/hold/1.0.0", NULL};
    static const struct wr_stream_ops ops = {0};
    struct sim *sim = sim_create(&(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC});
    struct node target = {0}, good = {0};
    static struct node flooders[FLOODERS];
    memset(flooders, 0, sizeof(flooders));
    node_start(&target, sim, 1);
    node_start(&good, sim, 2);
    struct wr_protocol hold = {.name = "/test/hold/1.0.0", .on_stream = hold_stream, .inbound_max = 1000};
    assert_int_equal(wr_swarm_handle(target.swarm, &hold), 0);
    target.limits.of[WR_LIMIT_STREAMS].max = 1024;
    for (unsigned i = 0; i < FLOODERS; i++) {
        int err;
        node_start(&flooders[i], sim, 10 + i);
        flooders[i].limits.of[WR_LIMIT_STREAMS_PER_CONN].max = 2 * TRIES;
        assert_int_equal(node_connect(sim, &flooders[i], &target), 0);
        for (unsigned n = 0; n < TRIES; n++)
            (void)wr_swarm_open(flooders[i].swarm, wr_swarm_self(target.swarm), offer, &ops, NULL, &err);
    }
    sim_run(sim, WR_SEC);
    assert_true(target.limits.of[WR_LIMIT_STREAMS].refused > 0);
    assert_true(target.limits.of[WR_LIMIT_STREAMS].used >= 512 - 20);
    uint64_t part = 1024 / 2 / target.limits.of[WR_LIMIT_CONNS].max;
    assert_true(part >= 2);
    assert_int_equal(node_connect(sim, &good, &target), 0);
    for (unsigned n = 0; n < part; n++) {
        int err;
        struct wr_stream *s = wr_swarm_open(good.swarm, wr_swarm_self(target.swarm), offer, &ops, NULL, &err);
        assert_non_null(s);
        sim_run(sim, WR_SEC);
        assert_non_null(wr_stream_protocol(s));
    }
    for (unsigned i = 0; i < FLOODERS; i++)
        node_stop(&flooders[i]);
    node_stop(&good);
    node_stop(&target);
    sim_run(sim, WR_SEC);
    assert_int_equal(target.limits.of[WR_LIMIT_STREAMS].used, 0);
    assert_int_equal(target.limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_open_crowd),
        cmocka_unit_test(test_inbound_crowd),
        cmocka_unit_test(test_inbound_from_everywhere),
        cmocka_unit_test(test_high_and_low_water),
        cmocka_unit_test(test_stream_flood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
