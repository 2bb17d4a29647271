/* Said and closed at once: whoever opens a stream, writes and closes it without waiting for
 * anything is heard to the end, protocol negotiation included (go-libp2p 3038: the close killed the
 * listener's half of it; rust-libp2p PR 1212: it waited for an answer that never came). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/swarm.h"

#include <string.h>

#define NAME  "/test/listen/1.0.0"
#define WORDS 40000 /* bytes: more than a packet, less than a stream takes before it is open */

static const char *const offer[] = {NAME, NULL}, *const unknown[] = {"/test/nobody/1.0.0", NULL};

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_maddr addr;
    size_t heard;
    unsigned streams, ended;
    int err;
};

static struct sim *sim;
static struct node a, b;

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    ((struct node *)arg)->heard += data.len;
}

static void on_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_shut(s);
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct node *n = arg;
    (void)s;
    n->ended++;
    n->err = err;
}

static const struct wr_stream_ops ops = {
    .on_data = on_data, .on_eof = on_eof, .on_close = on_close};

static void on_stream(struct wr_stream *s, void *arg)
{
    ((struct node *)arg)->streams++;
    wr_stream_set_ops(s, &ops, arg);
}

static void start(struct node *n, uint8_t seed, bool udp)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed, 4};
    struct wr_protocol p = {.name = NAME, .on_stream = on_stream, .arg = n, .inbound_max = 100};
    *n = (struct node){.host = sim_host_add(sim, &(struct sim_host_options){.name = "node"})};
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "home"), 0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, udp, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
    assert_int_equal(wr_swarm_handle(n->swarm, &p), 0);
}

/* From a to b, whether they are connected or not. */
static void say(const char *const *names, size_t len)
{
    static const uint8_t words[WORDS];
    int err;
    struct wr_stream *s = wr_swarm_open(a.swarm, wr_swarm_self(b.swarm), names, NULL, NULL, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, words, len), len);
    wr_stream_close(s);
}

static void all_is_heard(bool udp)
{
    static const size_t lens[] = {0, 1, 1000, WORDS};
    sim = sim_create(&(struct sim_options){.seed = 1});
    start(&a, 1, udp);
    start(&b, 2, udp);
    wr_peerstore_add_addr(wr_swarm_peerstore(a.swarm), wr_swarm_self(b.swarm),
                          wr_maddr_bytes(&b.addr), WR_TTL_PERMANENT, false);
    size_t sum = 0;
    /* The first one waits for the dial; then over what is open, once more behind a refusal. */
    for (unsigned i = 0; i < 8; i++) {
        say(offer, lens[i % 4]);
        sum += lens[i % 4];
        sim_run(sim, i < 4 ? 5 * WR_SEC : 0);
        if (i >= 4)
            say(unknown, 10);
    }
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(b.heard, sum);
    assert_int_equal(b.streams, 8);
    assert_int_equal(b.ended, 8);
    assert_int_equal(b.err, 0);
    assert_int_equal(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm))->stream_count, 0);
    wr_swarm_destroy(a.swarm);
    wr_swarm_destroy(b.swarm);
    sim_destroy(sim);
}

static void test_over_tcp(void **state)
{
    (void)state;
    all_is_heard(false);
}

static void test_over_quic(void **state)
{
    (void)state;
    all_is_heard(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_over_tcp),
                                       cmocka_unit_test(test_over_quic)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
