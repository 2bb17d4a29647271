/* dht_truth.h - lookups judged against the simulator's own knowledge of who is there. After
 * dht_world.h. */
#ifndef DHT_TRUTH_H
#define DHT_TRUTH_H

#include "tests/sim/dht_world.h"

#define LOOKUPS_MAX 200

/* ---- the truth */

static uint8_t wanted[WR_KAD_KEY];
static wr_time up_since[NODES_MAX]; /* stories that start and stop nodes keep it */

static inline int by_distance(const void *a, const void *b)
{
    uint8_t x[WR_KAD_KEY], y[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(a), x);
    wr_kad_key(wr_peerid_bytes(b), y);
    return wr_kad_compare(wanted, x, y);
}

/* The nearest of all that the asker could reach, at most 20; it leaves itself out, and whoever has
 * been up for less than `settled`: a newcomer need not be known yet. */
static inline size_t true_closest(const struct node *asker, struct wr_bytes key, wr_time settled,
                                  struct wr_peerid out[static 20])
{
    static struct wr_peerid all[NODES_MAX];
    size_t count = 0;
    wr_kad_key(key, wanted);
    for (size_t i = 0; i < node_count; i++)
        if (sim_host_up(nodes[i].host) && &nodes[i] != asker && nodes[i].side == asker->side &&
            up_since[i] + settled <= sim_now(sim))
            all[count++] = *wr_swarm_self(nodes[i].swarm);
    qsort(all, count, sizeof(all[0]), by_distance);
    count = count < 20 ? count : 20;
    memcpy(out, all, count * sizeof(all[0]));
    return count;
}

/* ---- lookups */

struct lookup {
    struct result result;
    struct wr_dht_request *request;
    unsigned hops, asked;
    bool measured;
};

static inline void on_found(void *arg, const struct wr_dht_peer *peer)
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

static inline void on_over(void *arg, int err)
{
    on_done(&((struct lookup *)arg)->result, err);
}

static const struct wr_dht_ops lookup_ops = {.on_peer = on_found, .on_done = on_over};

static inline struct node *somebody(void)
{
    for (;;) {
        struct node *n = &nodes[sim_random(sim, node_count)];
        if (sim_host_up(n->host))
            return n;
    }
}

static inline int by_value(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

struct figures {
    double recall, asked;
    unsigned hops_median, ms_median, ms_p90;
};

/* `count` lookups of random keys by random nodes. `set` as wr_query_config has it: 0 for the 20
 * nearest, WR_QUERY_BETA for the lookup of refreshes and announcements, which is over when the
 * nearest 3 have answered. */
static inline struct figures look_up(const char *when, unsigned count, unsigned set,
                                     wr_time settled)
{
    unsigned hops[LOOKUPS_MAX], ms[LOOKUPS_MAX], found = 0, wanting = 0, asked = 0;
    for (unsigned i = 0; i < count; i++) {
        struct lookup l = {.result = fresh_result()};
        struct wr_peerid truth[20];
        uint8_t key[32];
        int err;
        struct node *n = somebody();
        for (size_t k = 0; k < sizeof(key); k++)
            key[k] = (uint8_t)sim_random(sim, 256);
        size_t there = true_closest(n, WR_BYTES(key, sizeof(key)), settled, truth);
        wr_time begun = sim_now(sim);
        l.request = wr_dht_request_start(n->dht, FIND_CLOSEST, WR_BYTES(key, sizeof(key)), 0, set,
                                         false, &lookup_ops, &l, &err);
        assert_non_null(l.request);
        await(&l.result);
        ms[i] = (unsigned)((sim_now(sim) - begun) / WR_MSEC);
        wanting += (unsigned)there;
        for (unsigned t = 0; t < there; t++)
            for (unsigned p = 0; p < l.result.peers && p < 20; p++)
                found += wr_peerid_equal(&truth[t], &l.result.ids[p]);
        hops[i] = l.hops;
        asked += l.asked;
    }
    qsort(hops, count, sizeof(hops[0]), by_value);
    qsort(ms, count, sizeof(ms[0]), by_value);
    struct figures f = {.recall = (double)found / wanting,
                        .asked = (double)asked / count,
                        .hops_median = hops[count / 2],
                        .ms_median = ms[count / 2],
                        .ms_p90 = ms[count * 9 / 10]};
    printf("%s: recall %.4f, hops median %u, asked %.1f, ms median %u, p90 %u\n", when, f.recall,
           f.hops_median, f.asked, f.ms_median, f.ms_p90);
    return f;
}

#endif
