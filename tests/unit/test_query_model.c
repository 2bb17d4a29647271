/* The iterative query against a static network in memory: sorted random ids, full k-buckets,
 * log-normal round trips (median 80 ms, sigma 0.6), a share of dead peers. Everything from one
 * seed. Prints what it measures; the bounds are those of the model in the performance notes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/query.h"
#include "transport/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MAX    40  /* levels of a table looked at; 10^4 nodes need 20 */
#define FLYING_MAX  512 /* questions under way */
#define LOOKUPS_MAX 1000

struct node {
    struct wr_peerid id;
    uint8_t key[WR_KAD_KEY];
    uint32_t *table; /* indices of nodes */
    uint32_t table_len;
    bool dead;
};

struct net {
    struct node *nodes; /* sorted by key */
    size_t count;
    uint64_t rng;
};

static uint64_t rnd(struct net *net)
{
    /* splitmix64 */
    uint64_t z = net->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(struct net *net)
{
    return ((double)(rnd(net) >> 11) + 0.5) / 9007199254740992.0;
}

/* exp by ten squarings, the normal deviate from twelve uniform ones: near enough, and no libm. */
static wr_time round_trip(struct net *net)
{
    double normal = -6, e;
    for (int i = 0; i < 12; i++)
        normal += uniform(net);
    e = 1 + 0.6 * normal / 1024;
    for (int i = 0; i < 10; i++)
        e *= e;
    return (wr_time)(80e6 * e);
}

static int by_key(const void *a, const void *b)
{
    return memcmp(((const struct node *)a)->key, ((const struct node *)b)->key, WR_KAD_KEY);
}

static bool bit_of(const uint8_t *key, unsigned bit)
{
    return key[bit / 8] >> (7 - bit % 8) & 1;
}

/* First index of [low, high) whose key has the bit set; the range shares all earlier bits. */
static size_t split_at(const struct net *net, size_t low, size_t high, unsigned bit)
{
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (bit_of(net->nodes[mid].key, bit))
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void pick(struct net *net, uint32_t *out, uint32_t *len, size_t low, size_t high)
{
    size_t size = high - low;
    if (size <= WR_KBUCKET_SIZE) {
        for (size_t i = low; i < high; i++)
            out[(*len)++] = (uint32_t)i;
        return;
    }
    uint32_t start = *len;
    while (*len - start < WR_KBUCKET_SIZE) {
        uint32_t choice = (uint32_t)(low + rnd(net) % size);
        bool there = false;
        for (uint32_t i = start; i < *len; i++)
            there = there || out[i] == choice;
        if (!there)
            out[(*len)++] = choice;
    }
}

static void fill_table(struct net *net, size_t self)
{
    uint32_t entries[BITS_MAX * WR_KBUCKET_SIZE], len = 0;
    size_t low = 0, high = net->count;
    for (unsigned bit = 0; bit < BITS_MAX && high - low > 1; bit++) {
        size_t mid = split_at(net, low, high, bit);
        bool upper = self >= mid;
        pick(net, entries, &len, upper ? low : mid, upper ? mid : high);
        low = upper ? mid : low;
        high = upper ? high : mid;
    }
    net->nodes[self].table = malloc(len * sizeof(entries[0]));
    memcpy(net->nodes[self].table, entries, len * sizeof(entries[0]));
    net->nodes[self].table_len = len;
}

static void net_make(struct net *net, size_t count, double dead, uint64_t seed)
{
    net->rng = seed;
    net->count = count;
    net->nodes = calloc(count, sizeof(net->nodes[0]));
    for (size_t i = 0; i < count; i++) {
        struct node *n = &net->nodes[i];
        n->id.len = 34;
        n->id.bytes[0] = 0x12;
        n->id.bytes[1] = 0x20;
        for (size_t j = 2; j < 34; j++)
            n->id.bytes[j] = (uint8_t)rnd(net);
        wr_kad_key(wr_peerid_bytes(&n->id), n->key);
        n->dead = uniform(net) < dead;
    }
    qsort(net->nodes, count, sizeof(net->nodes[0]), by_key);
    for (size_t i = 0; i < count; i++)
        fill_table(net, i);
}

static void net_free(struct net *net)
{
    for (size_t i = 0; i < net->count; i++)
        free(net->nodes[i].table);
    free(net->nodes);
}

/* The n of `from` (all nodes when NULL) nearest to key, nearest first. */
static size_t nearest(const struct net *net, const uint32_t *from, size_t from_count, bool alive,
                      const uint8_t *key, uint32_t *out, size_t n)
{
    size_t have = 0;
    for (size_t i = 0; i < from_count; i++) {
        uint32_t who = from ? from[i] : (uint32_t)i;
        if (alive && net->nodes[who].dead)
            continue;
        size_t at = have;
        while (at > 0 && wr_kad_compare(key, net->nodes[who].key, net->nodes[out[at - 1]].key) < 0)
            at--;
        if (at >= n)
            continue;
        size_t last = have < n ? have : n - 1;
        memmove(&out[at + 1], &out[at], (last - at) * sizeof(out[0]));
        out[at] = who;
        have = last + 1;
    }
    return have;
}

static size_t index_of(const struct net *net, const struct wr_peerid *id)
{
    struct node probe;
    wr_kad_key(wr_peerid_bytes(id), probe.key);
    const struct node *n = bsearch(&probe, net->nodes, net->count, sizeof(probe), by_key);
    return (size_t)(n - net->nodes);
}

struct flight {
    wr_time at;
    size_t who;
    uint8_t key[WR_KAD_KEY];
};

struct outcome {
    double recall;
    unsigned messages, hops;
    wr_time holder, whole; /* first of the true set to answer; the query over */
};

struct scenario {
    double dead;
    unsigned set;
    unsigned trips; /* round trips per question: 2 with a fresh connection */
};

static void answer(struct net *net, struct wr_query *q, const struct flight *f)
{
    uint32_t near[WR_KBUCKET_SIZE];
    struct wr_dht_peer closer[WR_KBUCKET_SIZE] = {0};
    const struct node *n = &net->nodes[f->who];
    size_t count = nearest(net, n->table, n->table_len, false, f->key, near, WR_KBUCKET_SIZE);
    for (size_t i = 0; i < count; i++)
        closer[i].id = net->nodes[near[i]].id;
    wr_query_reply(q, &n->id, f->at,
                   &(struct wr_query_reply){.closer = closer, .closer_count = count});
}

static struct wr_query *start(struct net *net, const struct scenario *s, struct wr_pace *pace,
                              const struct wr_peerid *target)
{
    size_t self;
    uint32_t seeds[WR_KBUCKET_SIZE];
    uint8_t key[WR_KAD_KEY];
    do {
        self = rnd(net) % net->count;
    } while (net->nodes[self].dead);
    struct wr_query *q =
        wr_query_create(&(struct wr_query_config){.kind = WR_QUERY_CLOSEST,
                                                  .target = wr_peerid_bytes(target),
                                                  .self = &net->nodes[self].id,
                                                  .pace = pace,
                                                  .set = s->set});
    assert_non_null(q);
    wr_kad_key(wr_peerid_bytes(target), key);
    size_t count = nearest(net, net->nodes[self].table, net->nodes[self].table_len, false, key,
                           seeds, WR_KBUCKET_SIZE);
    for (size_t i = 0; i < count; i++)
        wr_query_seed(q, &net->nodes[seeds[i]].id, NULL, 0);
    return q;
}

static double recall_of(const struct net *net, const struct wr_query *q, const uint32_t *truth)
{
    const struct wr_query_peer *got[WR_KBUCKET_SIZE];
    size_t count = wr_query_closest(q, got, WR_KBUCKET_SIZE), hits = 0;
    for (size_t i = 0; i < count; i++) {
        size_t who = index_of(net, &got[i]->id);
        for (size_t j = 0; j < WR_KBUCKET_SIZE; j++)
            hits += truth[j] == who;
    }
    return (double)hits / WR_KBUCKET_SIZE;
}

static struct outcome look_up(struct net *net, const struct scenario *s, struct wr_pace *pace)
{
    struct flight flights[FLYING_MAX];
    size_t flying = 0;
    struct outcome o = {0};
    uint32_t truth[WR_KBUCKET_SIZE];
    struct wr_peerid target = {.len = 34, .bytes = {0x12, 0x20}};
    for (size_t i = 2; i < 34; i++)
        target.bytes[i] = (uint8_t)rnd(net);
    struct wr_query *q = start(net, s, pace, &target);
    nearest(net, NULL, net->count, true, wr_query_key(q), truth, WR_KBUCKET_SIZE);
    wr_time now = WR_SEC;
    for (;;) {
        struct wr_query_ask ask;
        int rc;
        while ((rc = wr_query_next(q, now, &ask)) > 0) {
            struct flight *f = &flights[flying];
            f->who = index_of(net, &ask.peer->id);
            if (net->nodes[f->who].dead)
                continue;
            assert_true(++flying < FLYING_MAX);
            f->at = now + s->trips * round_trip(net);
            wr_kad_key(ask.key, f->key);
        }
        if (rc < 0)
            break;
        wr_time deadline = wr_query_deadline(q);
        size_t first = flying;
        for (size_t i = 0; i < flying; i++) {
            if (first == flying || flights[i].at < flights[first].at)
                first = i;
        }
        assert_true(deadline != 0 || flying > 0);
        if (first == flying || (deadline != 0 && deadline < flights[first].at)) {
            now = deadline;
            continue;
        }
        struct flight f = flights[first];
        flights[first] = flights[--flying];
        now = f.at;
        answer(net, q, &f);
        for (size_t i = 0; o.holder == 0 && i < WR_KBUCKET_SIZE; i++) {
            if (truth[i] != f.who)
                continue;
            const struct wr_query_peer *got[WR_QUERY_PEERS_MAX];
            size_t count = wr_query_closest(q, got, WR_QUERY_PEERS_MAX);
            for (size_t j = 0; j < count; j++) {
                if (wr_peerid_equal(&got[j]->id, &net->nodes[f.who].id))
                    o.hops = got[j]->hops + 1u;
            }
            o.holder = now - WR_SEC;
        }
    }
    o.whole = now - WR_SEC;
    o.messages = wr_query_asked(q);
    o.recall = recall_of(net, q, truth);
    wr_query_destroy(q);
    return o;
}

static int by_time(const void *a, const void *b)
{
    wr_time x = *(const wr_time *)a, y = *(const wr_time *)b;
    return (x > y) - (x < y);
}

static int by_hops(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

struct summary {
    double recall, messages;
    unsigned hops;
    double holder[3], whole[3]; /* seconds: p50, p90, p99 */
};

static struct summary run(size_t count, struct scenario s, size_t lookups)
{
    static wr_time holder[LOOKUPS_MAX], whole[LOOKUPS_MAX];
    static unsigned hops[LOOKUPS_MAX];
    static const double at[3] = {0.5, 0.9, 0.99};
    struct net net;
    struct summary sum = {0};
    struct wr_pace pace;
    wr_pace_init(&pace);
    net_make(&net, count, s.dead, 20240501);
    for (size_t i = 0; i < lookups; i++) {
        struct outcome o = look_up(&net, &s, &pace);
        sum.recall += o.recall / (double)lookups;
        sum.messages += o.messages / (double)lookups;
        hops[i] = o.hops;
        holder[i] = o.holder;
        whole[i] = o.whole;
    }
    qsort(holder, lookups, sizeof(holder[0]), by_time);
    qsort(whole, lookups, sizeof(whole[0]), by_time);
    qsort(hops, lookups, sizeof(hops[0]), by_hops);
    sum.hops = hops[lookups / 2];
    for (size_t i = 0; i < 3; i++) {
        size_t rank = (size_t)(at[i] * (double)lookups);
        sum.holder[i] = (double)holder[rank] / 1e9;
        sum.whole[i] = (double)whole[rank] / 1e9;
    }
    net_free(&net);
    printf("N=%zu dead=%.0f%% set=%u trips=%u: recall %.2f%% messages %.1f hops %u holder "
           "%.2f/%.2f/%.2f s set %.2f/%.2f/%.2f s patience %.0f ms\n",
           count, s.dead * 100, s.set, s.trips, sum.recall * 100, sum.messages, sum.hops,
           sum.holder[0], sum.holder[1], sum.holder[2], sum.whole[0], sum.whole[1], sum.whole[2],
           (double)pace.p99 / 1e6);
    return sum;
}

/* Performance notes, 3(b), alpha 3, N = 10^4: 10.0 messages, 1.9 hops, holder 0.12 / 0.27 s, set
 * 0.26 / 0.55 s. */
static void test_beta_lookup_costs_no_more_than_the_model(void **state)
{
    (void)state;
    struct summary s = run(10000, (struct scenario){.set = WR_QUERY_BETA, .trips = 1}, 1000);
    assert_true(s.messages <= 10.0 * 1.1);
    assert_true(s.hops <= 3);
    assert_true(s.holder[0] <= 0.12 * 1.1 && s.holder[2] <= 0.27 * 1.1);
    assert_true(s.whole[0] <= 0.26 * 1.1 && s.whole[2] <= 0.55 * 1.1);
}

/* Performance notes: 28.0 messages with alpha 10 at N = 10^4; 42 at 10^8. The static tables never
 * lose their dead entries: at 30 % some of the set is named by nobody who is asked. */
static void test_whole_set_is_found(void **state)
{
    (void)state;
    static const size_t sizes[] = {1000, 10000};
    static const struct {
        double dead, recall, messages;
    } cases[] = {{0, 0.99, 28.0}, {0.15, 0.99, 34.0}, {0.30, 0.98, 46.0}};
    for (size_t i = 0; i < 2; i++) {
        for (size_t j = 0; j < 3; j++) {
            struct scenario sc = {.dead = cases[j].dead, .set = WR_QUERY_SET, .trips = 1};
            struct summary s = run(sizes[i], sc, 300);
            assert_true(s.recall >= cases[j].recall);
            assert_true(s.messages <= cases[j].messages);
            assert_true(s.hops <= 3);
        }
    }
}

/* Performance notes, 3(b), 15 % dead, fresh connections, N = 10^4, whole set: with a time-out of 5
 * s 5.8 / 10.9 / 16.0 s; with 0.5 s and alpha 10, a third more messages, 1.3 / 1.8 / 2.6 s. */
static void test_dead_peers_do_not_cost_seconds(void **state)
{
    (void)state;
    struct summary s =
        run(10000, (struct scenario){.dead = 0.15, .set = WR_QUERY_SET, .trips = 2}, 500);
    assert_true(s.recall >= 0.99);
    assert_true(s.messages <= 34.0);
    assert_true(s.holder[0] <= 0.30 && s.holder[2] <= 0.80);
    /* Patience bought recall: a shorter one is 0.15 s quicker at the median and misses the live but slow. */
    assert_true(s.whole[0] <= 2.1 && s.whole[1] <= 2.7 && s.whole[2] <= 3.7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beta_lookup_costs_no_more_than_the_model),
        cmocka_unit_test(test_whole_set_is_found),
        cmocka_unit_test(test_dead_peers_do_not_cost_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
