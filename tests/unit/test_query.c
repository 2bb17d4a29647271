/* The iterative query, step by step: who is asked, when it widens, how it ends, what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/query.h"
#include "transport/err.h"

#include <string.h>

#define NOW (100 * WR_SEC)

static struct wr_pace pace;

static struct wr_peerid id_of(unsigned n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20}};
    memcpy(id.bytes + 2, &n, sizeof(n));
    return id;
}

static const struct wr_peerid self = {.len = 34, .bytes = {0x12, 0x20, 0xff, 0xff, 0xff, 0xff}};

/* Ids 0..count-1 ordered by distance to the target: order[0] is nearest. */
static void order_by_distance(const struct wr_query *q, unsigned *order, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        uint8_t a[WR_KAD_KEY], b[WR_KAD_KEY];
        struct wr_peerid id = id_of(n);
        wr_kad_key(wr_peerid_bytes(&id), a);
        unsigned at = n;
        for (; at > 0; at--) {
            struct wr_peerid other = id_of(order[at - 1]);
            wr_kad_key(wr_peerid_bytes(&other), b);
            if (wr_kad_compare(wr_query_key(q), a, b) > 0)
                break;
            order[at] = order[at - 1];
        }
        order[at] = n;
    }
}

static struct wr_query *query(enum wr_query_kind kind, struct wr_bytes target, unsigned want,
                              unsigned set)
{
    wr_pace_init(&pace);
    struct wr_query *q = wr_query_create(&(struct wr_query_config){
        .kind = kind, .target = target, .self = &self, .pace = &pace, .want = want, .set = set});
    assert_non_null(q);
    return q;
}

static void seed(struct wr_query *q, unsigned from, unsigned to)
{
    for (unsigned n = from; n < to; n++) {
        struct wr_peerid id = id_of(n);
        wr_query_seed(q, &id, NULL, 0);
    }
}

static unsigned number(const struct wr_peerid *id)
{
    unsigned n;
    memcpy(&n, id->bytes + 2, sizeof(n));
    return n;
}

/* Asks all that may be asked now; numbers into out. */
static unsigned ask_all(struct wr_query *q, wr_time now, unsigned *out)
{
    struct wr_query_ask ask;
    unsigned count = 0;
    while (wr_query_next(q, now, &ask) > 0)
        out[count++] = number(&ask.peer->id);
    return count;
}

static void reply_with(struct wr_query *q, unsigned who, wr_time now, struct wr_dht_peer *closer,
                       size_t count)
{
    struct wr_peerid id = id_of(who);
    struct wr_query_reply reply = {.closer = closer, .closer_count = count};
    wr_query_reply(q, &id, now, &reply);
}

static void test_three_nearest_first(void **state)
{
    (void)state;
    unsigned order[40], asked[64];
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    order_by_distance(q, order, 40);
    seed(q, 0, 40);
    assert_int_equal(ask_all(q, NOW, asked), WR_QUERY_PARALLEL);
    for (unsigned i = 0; i < WR_QUERY_PARALLEL; i++)
        assert_int_equal(asked[i], order[i]);
    assert_int_equal(ask_all(q, NOW, asked), 0);
    assert_true(wr_query_deadline(q) == NOW + WR_QUERY_LATE_FIRST / 2);
    wr_query_destroy(q);
}

/* Beta nearest have answered: the cheap lookup is over, the whole one asks everybody of the twenty.
 */
static void test_ends(void **state)
{
    (void)state;
    unsigned order[40], asked[64];
    for (unsigned whole = 0; whole < 2; whole++) {
        struct wr_query *q =
            query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, whole ? 0 : WR_QUERY_BETA);
        order_by_distance(q, order, 40);
        seed(q, 0, 40);
        unsigned total = 0;
        for (unsigned count; (count = ask_all(q, NOW, asked)) > 0; total += count) {
            for (unsigned i = 0; i < count; i++)
                reply_with(q, asked[i], NOW + WR_MSEC, NULL, 0);
        }
        assert_int_equal(total, whole ? WR_QUERY_SET : WR_QUERY_BETA);
        struct wr_query_ask ask;
        assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
        assert_true(wr_query_deadline(q) == 0);
        const struct wr_query_peer *got[WR_QUERY_SET];
        assert_int_equal(wr_query_closest(q, got, WR_QUERY_SET), total);
        for (unsigned i = 0; i < total; i++)
            assert_int_equal(number(&got[i]->id), order[i]);
        assert_int_equal(wr_query_asked(q), total);
        wr_query_destroy(q);
    }
}

/* A slow peer is asked around, a late one is not waited for, and its late answer counts all the
 * same. */
static void test_slow_and_late(void **state)
{
    (void)state;
    unsigned order[10], asked[64];
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, WR_QUERY_BETA);
    order_by_distance(q, order, 10);
    seed(q, 0, 10);
    assert_int_equal(ask_all(q, NOW, asked), 3);
    reply_with(q, order[1], NOW + WR_MSEC, NULL, 0);
    reply_with(q, order[2], NOW + WR_MSEC, NULL, 0);
    assert_int_equal(ask_all(q, NOW + 2 * WR_MSEC, asked), 0);
    wr_time slow = wr_query_deadline(q);
    assert_int_equal(ask_all(q, slow, asked), 1);
    assert_int_equal(asked[0], order[3]);
    reply_with(q, order[3], slow, NULL, 0);
    struct wr_query_ask ask;
    assert_int_equal(wr_query_next(q, slow, &ask), 0);
    wr_time late = wr_query_deadline(q);
    assert_true(late > slow && late <= NOW + WR_QUERY_LATE_FIRST * 2);
    reply_with(q, order[0], late - 1, NULL, 0);
    assert_int_equal(wr_query_next(q, late - 1, &ask), WR_ECLOSED);
    const struct wr_query_peer *got[5];
    assert_int_equal(wr_query_closest(q, got, 5), 4);
    assert_int_equal(number(&got[0]->id), order[0]);
    wr_query_destroy(q);
}

/* Three at a time while replies come; for each that is slow one more, up to ten, however many are silent. */
static void test_widens_up_to_ten(void **state)
{
    (void)state;
    unsigned asked[64], count, most = 0;
    wr_time now = NOW;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    seed(q, 0, 100);
    assert_int_equal(ask_all(q, now, asked), WR_QUERY_PARALLEL);
    for (unsigned wait = 0; wait < 20; wait++) {
        now = wr_query_deadline(q);
        if (now == 0)
            break;
        count = ask_all(q, now, asked);
        most = count > most ? count : most;
    }
    assert_int_equal(most, WR_QUERY_PARALLEL_MAX);
    wr_query_destroy(q);
}

/* Once the nearest have answered, all the others of the set are asked in any case: ten at a time. */
static void test_the_rest_of_the_set_is_asked_at_once(void **state)
{
    (void)state;
    unsigned order[40], asked[64];
    struct wr_query *q = query(WR_QUERY_PROVIDERS, WR_BYTES_STR("target"), 0, 0);
    order_by_distance(q, order, 40);
    seed(q, 0, 40);
    assert_int_equal(ask_all(q, NOW, asked), WR_QUERY_PARALLEL);
    for (unsigned i = 0; i < WR_QUERY_BETA; i++)
        reply_with(q, order[i], NOW + WR_MSEC, NULL, 0);
    assert_int_equal(ask_all(q, NOW + WR_MSEC, asked), WR_QUERY_PARALLEL_MAX);
    wr_query_destroy(q);
}

static void test_late_one_does_not_block(void **state)
{
    (void)state;
    unsigned order[10], asked[64];
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, WR_QUERY_BETA);
    order_by_distance(q, order, 10);
    seed(q, 0, 10);
    ask_all(q, NOW, asked);
    for (unsigned i = 1; i < 3; i++)
        reply_with(q, order[i], NOW + WR_MSEC, NULL, 0);
    wr_time at = wr_query_deadline(q);
    ask_all(q, at, asked);
    reply_with(q, order[3], at, NULL, 0);
    struct wr_query_ask ask;
    assert_int_equal(wr_query_next(q, wr_query_deadline(q), &ask), WR_ECLOSED);
    wr_query_destroy(q);
}

/* Two nodes on a slow cable: the only peer is waited for longer than "late", but not for ever. */
static void test_small_network_waits(void **state)
{
    (void)state;
    unsigned asked[8];
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    struct wr_query_ask ask;
    seed(q, 0, 1);
    assert_int_equal(ask_all(q, NOW, asked), 1);
    wr_time late = NOW + WR_QUERY_LATE_FIRST * WR_QUERY_LATE_NUM / WR_QUERY_LATE_DEN;
    assert_int_equal(wr_query_next(q, late, &ask), 0);
    assert_true(wr_query_deadline(q) == NOW + WR_QUERY_GIVE_UP_MIN);
    struct wr_peerid id = id_of(0);
    if (WR_QUERY_GIVE_UP_MIN > late - NOW)
        assert_int_equal(wr_query_next(q, NOW + WR_QUERY_GIVE_UP_MIN - 1, &ask), 0);
    assert_int_equal(wr_query_next(q, NOW + WR_QUERY_GIVE_UP_MIN, &ask), WR_ECLOSED);
    wr_query_failed(q, &id);
    assert_int_equal(wr_query_closest(q, (const struct wr_query_peer *[1]){NULL}, 1), 0);
    wr_query_destroy(q);
}

static void test_nobody_and_all_fail(void **state)
{
    (void)state;
    unsigned asked[64];
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
    seed(q, 0, 30);
    unsigned total = 0;
    for (unsigned count; (count = ask_all(q, NOW, asked)) > 0; total += count) {
        for (unsigned i = 0; i < count; i++) {
            struct wr_peerid id = id_of(asked[i]);
            wr_query_failed(q, &id);
        }
    }
    assert_int_equal(total, 30);
    assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
    wr_query_destroy(q);
}

/* A member of the set that fell: its nearest live neighbour is asked about it, once. */
static void test_asks_around_the_fallen(void **state)
{
    (void)state;
    unsigned order[40], about = 0;
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    order_by_distance(q, order, 40);
    seed(q, 0, 40);
    struct wr_peerid fallen = id_of(order[5]);
    while (wr_query_next(q, NOW, &ask) > 0) {
        bool fell = wr_peerid_equal(&ask.peer->id, &fallen);
        if (wr_bytes_equal(ask.key, wr_peerid_bytes(&fallen)) &&
            ask.peer->state == WR_QUERY_ANSWERED)
            about++;
        struct wr_peerid id = ask.peer->id;
        if (fell)
            wr_query_failed(q, &id);
        else
            wr_query_reply(q, &id, NOW, &(struct wr_query_reply){0});
    }
    assert_int_equal(about, 1);
    assert_int_equal(wr_query_asked(q), WR_QUERY_SET + 2);
    wr_query_destroy(q);
}

/* Keys are only ever asked for themselves: who stores a value sits near its key, not near a
 * neighbour. */
static void test_values_are_asked_by_key(void **state)
{
    (void)state;
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_PROVIDERS, WR_BYTES_STR("multihash"), 0, 0);
    seed(q, 0, 40);
    while (wr_query_next(q, NOW, &ask) > 0) {
        assert_true(wr_bytes_equal(ask.key, WR_BYTES_STR("multihash")));
        struct wr_peerid id = ask.peer->id;
        wr_query_reply(q, &id, NOW, &(struct wr_query_reply){0});
    }
    assert_int_equal(wr_query_asked(q), WR_QUERY_SET);
    wr_query_destroy(q);
}

static void test_enough_providers_and_values(void **state)
{
    (void)state;
    unsigned asked[64];
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_PROVIDERS, WR_BYTES_STR("k"), 5, 0);
    seed(q, 0, 40);
    assert_int_equal(ask_all(q, NOW, asked), 3);
    struct wr_peerid id = id_of(asked[0]);
    wr_query_reply(q, &id, NOW, &(struct wr_query_reply){.found = 4});
    assert_int_equal(wr_query_next(q, NOW, &ask), 1);
    id = id_of(asked[1]);
    wr_query_reply(q, &id, NOW, &(struct wr_query_reply){.found = 1});
    assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
    wr_query_resume(q, 6);
    assert_int_equal(wr_query_next(q, NOW, &ask), 1);
    wr_query_destroy(q);

    q = query(WR_QUERY_VALUE, WR_BYTES_STR("k"), 2, 0);
    seed(q, 0, 40);
    ask_all(q, NOW, asked);
    id = id_of(asked[0]);
    wr_query_reply(q, &id, NOW, &(struct wr_query_reply){.value = 1});
    id = id_of(asked[1]);
    wr_query_reply(q, &id, NOW, &(struct wr_query_reply){.value = 2});
    assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
    const struct wr_query_peer *got[5];
    assert_int_equal(wr_query_closest(q, got, 5), 2);
    assert_int_equal(got[0]->value + got[1]->value, 3);
    wr_query_destroy(q);
}

/* /ip4/A.B.C.D/tcp/4001 */
static struct wr_bytes addr_of(uint8_t *room, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    const uint8_t bytes[] = {4, a, b, c, d, 6, 0x0f, 0xa1};
    memcpy(room, bytes, sizeof(bytes));
    return WR_BYTES(room, sizeof(bytes));
}

static void test_finds_the_peer(void **state)
{
    (void)state;
    unsigned asked[64];
    uint8_t room[8];
    struct wr_query_ask ask;
    struct wr_peerid target = id_of(1000), id;
    struct wr_bytes addr = addr_of(room, 8, 8, 8, 8), rest, got;
    struct wr_dht_peer told = {.id = target},
                       told_well = {.id = target, .count = 1, .addrs = &addr};
    struct wr_query *q = query(WR_QUERY_PEER, wr_peerid_bytes(&target), 0, 0);
    seed(q, 0, 40);
    ask_all(q, NOW, asked);
    reply_with(q, asked[0], NOW, &told, 1);
    assert_null(wr_query_target(q));
    assert_int_equal(wr_query_next(q, NOW, &ask), 1);
    id = ask.peer->id;
    assert_false(wr_peerid_equal(&id, &target));
    reply_with(q, asked[1], NOW, &told_well, 1);
    assert_int_equal(wr_query_next(q, NOW, &ask), WR_ECLOSED);
    assert_non_null(wr_query_target(q));
    rest = WR_BYTES(wr_query_target(q)->addrs, wr_query_target(q)->addrs_len);
    assert_true(wr_query_addr(&rest, &got));
    assert_true(wr_bytes_equal(got, addr));
    assert_false(wr_query_addr(&rest, &got));
    wr_query_resume(q, 0);
    assert_int_equal(wr_query_next(q, NOW, &ask), 1);
    wr_query_destroy(q);
}

/* go query.go: more than 3 of one group in an answer, and all of that group are dropped. */
static void test_crowd_of_one_network_is_dropped(void **state)
{
    (void)state;
    unsigned asked[64];
    uint8_t room[8][8];
    struct wr_bytes addrs[8];
    struct wr_dht_peer closer[8];
    for (unsigned crowd = 3; crowd <= 4; crowd++) {
        struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
        seed(q, 0, 3);
        ask_all(q, NOW, asked);
        for (unsigned i = 0; i < 8; i++) {
            bool in_crowd = i < crowd;
            addrs[i] = addr_of(room[i], 8, in_crowd ? 8 : (uint8_t)(100 + i), (uint8_t)i, 1);
            closer[i] = (struct wr_dht_peer){.id = id_of(100 + i), .count = 1, .addrs = &addrs[i]};
        }
        reply_with(q, asked[0], NOW, closer, 8);
        for (unsigned i = 1; i < 3; i++)
            reply_with(q, asked[i], NOW, NULL, 0);
        unsigned total = 3;
        for (unsigned count; (count = ask_all(q, NOW, asked)) > 0; total += count) {
            for (unsigned i = 0; i < count; i++)
                reply_with(q, asked[i], NOW, NULL, 0);
        }
        assert_int_equal(total, crowd == 3 ? 3 + 8 : 3 + 4);
        wr_query_destroy(q);
    }
}

/* Strangers may name any number of peers, us and the asked among them: the set stays bounded and
 * sorted. */
static void test_candidates_are_bounded(void **state)
{
    (void)state;
    unsigned next = 1000;
    struct wr_dht_peer closer[WR_DHT_CLOSER_MAX] = {0};
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    seed(q, 0, 3);
    for (unsigned round = 0; wr_query_next(q, NOW, &ask) > 0 && round < 2000; round++) {
        struct wr_peerid id = ask.peer->id;
        assert_false(wr_peerid_equal(&id, &self));
        for (size_t i = 2; i < WR_DHT_CLOSER_MAX; i++)
            closer[i].id = id_of(next++);
        closer[0].id = id;
        closer[1].id = self;
        reply_with(q, number(&id), NOW, closer, next < 20000 ? WR_DHT_CLOSER_MAX : 2);
    }
    assert_true(wr_query_asked(q) < 2000);
    const struct wr_query_peer *got[WR_QUERY_PEERS_MAX + 1];
    size_t count = wr_query_closest(q, got, WR_QUERY_PEERS_MAX + 1);
    assert_true(count >= WR_QUERY_SET && count <= WR_QUERY_PEERS_MAX);
    for (size_t i = 1; i < count; i++)
        assert_true(wr_kad_compare(wr_query_key(q), got[i - 1]->key, got[i]->key) < 0);
    wr_query_destroy(q);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    unsigned count = 0;
    seed(q, 0, 5000);
    while (wr_query_next(q, NOW, &ask) > 0) {
        struct wr_peerid id = ask.peer->id;
        wr_query_failed(q, &id);
        count++;
    }
    assert_int_equal(count, WR_QUERY_PEERS_MAX);
    wr_query_destroy(q);
}

static void test_answers_nobody_asked_for(void **state)
{
    (void)state;
    unsigned asked[64];
    struct wr_dht_peer closer = {.id = id_of(77)};
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    seed(q, 0, 10);
    assert_int_equal(ask_all(q, NOW, asked), 3);
    const struct wr_query_peer *got[8];
    for (unsigned n = 0; n < 12; n++) {
        bool was_asked = n == asked[0] || n == asked[1] || n == asked[2];
        if (!was_asked)
            reply_with(q, n, NOW, &closer, 1);
    }
    assert_int_equal(wr_query_closest(q, got, 8), 0);
    wr_query_destroy(q);
}

/* ---- a crowd: of 20,000 made-up ids the nearest, among a thousand others ---- */

#define CROWD_IDS 20000
#define OTHERS    1000 /* in the whole key space: 20 within REACH */
#define REACH     0.02

static double share_of(const struct wr_query *q, const struct wr_peerid *id)
{
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(id), key);
    return wr_kad_share(key, wr_query_key(q));
}

/* Those of the ids from..to-1 that lie between the shares; the query hears of them. */
static unsigned seed_between(struct wr_query *q, unsigned from, unsigned to, double low,
                             double high)
{
    unsigned count = 0;
    for (unsigned n = from; n < to; n++) {
        struct wr_peerid id = id_of(n);
        double share = share_of(q, &id);
        if (share < low || share >= high)
            continue;
        wr_query_seed(q, &id, NULL, 0);
        count++;
    }
    return count;
}

static unsigned standing_between(const struct wr_query *q, double low, double high)
{
    const struct wr_query_peer *peers[WR_QUERY_PEERS_MAX];
    size_t count = wr_query_nearest(q, peers, WR_QUERY_PEERS_MAX);
    unsigned within = 0;
    for (size_t i = 0; i < count; i++) {
        double share = wr_kad_share(peers[i]->key, wr_query_key(q));
        within += share >= low && share < high;
    }
    return within;
}

static void test_a_crowd_does_not_drown_the_others(void **state)
{
    (void)state;
    struct wr_query *q = query(WR_QUERY_VALUE, WR_BYTES_STR("target"), 0, 0);
    unsigned crowd = seed_between(q, OTHERS, CROWD_IDS, 0, REACH / 8);
    unsigned others = seed_between(q, 0, OTHERS, REACH / 8, REACH);
    unsigned beyond = seed_between(q, 0, OTHERS, REACH, 2 * REACH);
    assert_true(crowd > 30 && others >= 10 && beyond > 10);
    wr_query_thin(q, wr_query_key(q), REACH);
    assert_true(standing_between(q, 0, REACH / 8) <= 5 + 4 * 4);
    assert_int_equal(standing_between(q, REACH / 8, REACH), others);
    assert_int_equal(standing_between(q, REACH, 1), beyond);
    wr_query_widen(q, wr_query_key(q), REACH);
    assert_int_equal(wr_query_set(q), standing_between(q, 0, REACH));
    assert_true(wr_query_set(q) > WR_QUERY_SET);
    /* All of them are asked, nobody beyond, and whom they name is not. */
    unsigned who[WR_QUERY_PEERS_MAX], count, asked = 0, set = wr_query_set(q);
    while ((count = ask_all(q, NOW, who)) > 0) {
        for (unsigned i = 0; i < count; i++, asked++) {
            struct wr_dht_peer more = {.id = id_of(CROWD_IDS + asked)};
            reply_with(q, who[i], NOW, &more, 1);
        }
    }
    assert_int_equal(asked, set);
    assert_int_equal(wr_query_next(q, NOW, &(struct wr_query_ask){0}), WR_ECLOSED);
    wr_query_destroy(q);
}

static void test_a_crowd_is_avoided(void **state)
{
    (void)state;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    wr_query_avoid(q, wr_query_key(q), REACH / 2);
    assert_true(seed_between(q, 0, OTHERS, 0, REACH / 2) > 0);
    unsigned others = seed_between(q, 0, OTHERS, REACH / 2, REACH);
    assert_int_equal(standing_between(q, 0, 1), others);
    wr_query_destroy(q);
}

static void test_warm_peers_get_less_time(void **state)
{
    (void)state;
    struct wr_query_ask ask;
    struct wr_query *q = query(WR_QUERY_CLOSEST, WR_BYTES_STR("target"), 0, 0);
    seed(q, 0, 1);
    pace.p99 = 8 * WR_SEC;
    assert_int_equal(wr_query_next(q, NOW, &ask), 1);
    struct wr_peerid id = ask.peer->id;
    wr_query_warm(q, &id, 20 * WR_MSEC);
    assert_true(wr_query_deadline(q) == NOW + (40 * WR_MSEC + WR_QUERY_LATE_MIN) / 2);
    /* The only one there is is waited for longer, but not as long as a stranger would be where all are slow. */
    assert_int_equal(wr_query_next(q, wr_query_deadline(q), &ask), 0);
    assert_int_equal(wr_query_next(q, wr_query_deadline(q), &ask), 0);
    assert_true(wr_query_deadline(q) == NOW + WR_QUERY_GIVE_UP_MIN);
    wr_time before = pace.p99;
    wr_query_reply(q, &id, NOW + 9 * WR_SEC, &(struct wr_query_reply){0});
    assert_true(pace.p99 == before);
    wr_query_destroy(q);
}

/* 1,000 replies of 100 to 300 ms with every hundredth of 2 s: the estimate settles between the two.
 */
static void test_pace_follows_the_99th_percentile(void **state)
{
    (void)state;
    struct wr_pace p;
    wr_pace_init(&p);
    assert_true(p.p99 == WR_QUERY_LATE_FIRST);
    for (unsigned i = 0; i < 5000; i++)
        wr_pace_sample(&p, (wr_time)(100 + i * 37 % 200) * WR_MSEC);
    assert_true(p.p99 >= 270 * WR_MSEC && p.p99 <= 340 * WR_MSEC);
    for (unsigned i = 0; i < 100; i++)
        wr_pace_sample(&p, WR_MIN);
    assert_true(p.p99 == WR_QUERY_LATE_MAX);
    for (unsigned i = 0; i < 10000; i++)
        wr_pace_sample(&p, 0);
    assert_true(p.p99 == WR_QUERY_LATE_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_nearest_first),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_slow_and_late),
        cmocka_unit_test(test_widens_up_to_ten),
        cmocka_unit_test(test_the_rest_of_the_set_is_asked_at_once),
        cmocka_unit_test(test_late_one_does_not_block),
        cmocka_unit_test(test_small_network_waits),
        cmocka_unit_test(test_nobody_and_all_fail),
        cmocka_unit_test(test_asks_around_the_fallen),
        cmocka_unit_test(test_values_are_asked_by_key),
        cmocka_unit_test(test_enough_providers_and_values),
        cmocka_unit_test(test_finds_the_peer),
        cmocka_unit_test(test_crowd_of_one_network_is_dropped),
        cmocka_unit_test(test_candidates_are_bounded),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_answers_nobody_asked_for),
        cmocka_unit_test(test_a_crowd_does_not_drown_the_others),
        cmocka_unit_test(test_a_crowd_is_avoided),
        cmocka_unit_test(test_warm_peers_get_less_time),
        cmocka_unit_test(test_pace_follows_the_99th_percentile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
