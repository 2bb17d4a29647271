/* A thousand nodes that join through one, lose a third of their number without a word, and find what they look
 * for all the same: judged against the simulator's own knowledge of who is there. */
#define NODES_MAX 1000
#define LIMITS    "home"
#define CROWDED   true
#include "tests/sim/dht_world.h"

#define LOOKUPS 100

/* ---- the truth */

static uint8_t wanted[WR_KAD_KEY];

static int by_distance(const void *a, const void *b)
{
    uint8_t x[WR_KAD_KEY], y[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(a), x);
    wr_kad_key(wr_peerid_bytes(b), y);
    return wr_kad_compare(wanted, x, y);
}

/* The 20 nearest of all that are up; the asker leaves itself out. */
static void true_closest(const struct node *asker, struct wr_bytes key, struct wr_peerid out[static 20])
{
    static struct wr_peerid all[NODES_MAX];
    size_t count = 0;
    wr_kad_key(key, wanted);
    for (size_t i = 0; i < node_count; i++)
        if (sim_host_up(nodes[i].host) && &nodes[i] != asker)
            all[count++] = *wr_swarm_self(nodes[i].swarm);
    qsort(all, count, sizeof(all[0]), by_distance);
    memcpy(out, all, 20 * sizeof(all[0]));
}

/* ---- lookups */

struct lookup {
    struct result result;
    struct wr_dht_request *request;
    unsigned hops, asked;
    bool measured;
};

static void on_found(void *arg, const struct wr_dht_peer *peer)
{
    struct lookup *l = arg;
    if (!l->measured) {
        const struct wr_query_peer *nearest[1];
        l->measured = true;
        if (wr_query_closest(l->request->query, nearest, 1) == 1)
            l->hops = nearest[0]->hops;
        l->asked = wr_query_asked(l->request->query);
    }
    on_peer(&l->result, peer);
}

static void on_over(void *arg, int err)
{
    on_done(&((struct lookup *)arg)->result, err);
}

static const struct wr_dht_ops lookup_ops = {.on_peer = on_found, .on_done = on_over};

static struct node *somebody(void)
{
    for (;;) {
        struct node *n = &nodes[sim_random(sim, node_count)];
        if (sim_host_up(n->host))
            return n;
    }
}

static int by_value(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

struct figures {
    double recall, asked;
    unsigned hops_median, ms_median;
};

static struct figures look_up_at_random(const char *when)
{
    unsigned hops[LOOKUPS], ms[LOOKUPS], found = 0, asked = 0;
    for (unsigned i = 0; i < LOOKUPS; i++) {
        struct lookup l = {.result = fresh_result()};
        struct wr_peerid truth[20];
        uint8_t key[32];
        int err;
        struct node *n = somebody();
        for (size_t k = 0; k < sizeof(key); k++)
            key[k] = (uint8_t)sim_random(sim, 256);
        wr_time begun = sim_now(sim);
        l.request = wr_dht_find_closest(n->dht, WR_BYTES(key, sizeof(key)), &lookup_ops, &l, &err);
        assert_non_null(l.request);
        await(&l.result);
        ms[i] = (unsigned)((sim_now(sim) - begun) / WR_MSEC);
        true_closest(n, WR_BYTES(key, sizeof(key)), truth);
        for (unsigned t = 0; t < 20; t++)
            for (unsigned p = 0; p < l.result.peers && p < 20; p++)
                found += wr_peerid_equal(&truth[t], &l.result.ids[p]);
        hops[i] = l.hops;
        asked += l.asked;
    }
    qsort(hops, LOOKUPS, sizeof(hops[0]), by_value);
    qsort(ms, LOOKUPS, sizeof(ms[0]), by_value);
    struct figures f = {.recall = found / (20.0 * LOOKUPS),
                        .asked = (double)asked / LOOKUPS,
                        .hops_median = hops[LOOKUPS / 2],
                        .ms_median = ms[LOOKUPS / 2]};
    printf("%s: recall %.4f, hops median %u, asked %.1f, ms median %u, p90 %u\n", when, f.recall,
           f.hops_median, f.asked, f.ms_median, ms[LOOKUPS * 9 / 10]);
    return f;
}

/* ---- the story */

static void test_a_thousand_join_and_a_third_dies(void **state)
{
    (void)state;
    set_up_sim(1);
    for (size_t i = 0; i < NODES_MAX; i++) {
        add(WR_DHT_SERVER);
        if (i > 0)
            bootstrap(&nodes[i], &nodes[0]);
        sim_run(sim, 50 * WR_MSEC);
    }
    sim_run(sim, 12 * WR_MIN);
    struct figures f = look_up_at_random("all alive");
    assert_true(f.recall >= 0.99);
    assert_true(f.hops_median <= 3);
    for (unsigned dead = 0; dead < NODES_MAX * 3 / 10;) {
        struct node *n = somebody();
        if (n == &nodes[0])
            continue;
        sim_kill(n->host);
        dead++;
    }
    f = look_up_at_random("30 % dead, just now");
    assert_true(f.recall >= 0.99);
    assert_true(f.hops_median <= 3);
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_thousand_join_and_a_third_dies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
