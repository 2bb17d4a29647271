/* The iterative query under any order of answers, failures and passing time. It must end, stay
 * within its bounds and never ask anybody again whom it was not told to. */
#include "dht/query.h"
#include "transport/err.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLYING_MAX 64
#define STEPS_MAX  20000

static uint8_t take(struct wr_bytes *in)
{
    return in->len ? *wr_bytes_take(in, 1).ptr : 0;
}

static struct wr_peerid id_of(unsigned n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, (uint8_t)n, (uint8_t)(n >> 8)}};
    return id;
}

struct world {
    struct wr_query *q;
    struct wr_bytes in;
    wr_time now;
    struct wr_peerid flying[FLYING_MAX];
    size_t flying_count;
    unsigned asked;
};

static void answer(struct world *w, const struct wr_peerid *id, uint8_t how)
{
    struct wr_dht_peer closer[WR_DHT_CLOSER_MAX];
    struct wr_bytes addrs[WR_DHT_CLOSER_MAX];
    uint8_t room[WR_DHT_CLOSER_MAX][8];
    size_t count = how % WR_DHT_CLOSER_MAX;
    unsigned base = take(&w->in) * 8u;
    for (size_t i = 0; i < count; i++) {
        const uint8_t ma[] = {4, 8, (uint8_t)(how & 64 ? 8 : i), (uint8_t)i, 1, 6, 0x0f, 0xa1};
        memcpy(room[i], ma, sizeof(ma));
        addrs[i] = WR_BYTES(room[i], sizeof(ma));
        closer[i] = (struct wr_dht_peer){
            .id = id_of(base + (unsigned)i), .count = how & 32 ? 1 : 0, .addrs = &addrs[i]};
    }
    struct wr_query_reply reply = {
        .closer = closer, .closer_count = count, .found = how & 3, .value = how & 1};
    wr_query_reply(w->q, id, w->now, &reply);
}

/* One flight ends, time passes, or somebody speaks who was not asked. */
static void step(struct world *w)
{
    /* With nothing left to say, time passes until the query has given up on everybody. */
    uint8_t what = w->in.len ? take(&w->in) : 255;
    if (what < 16) {
        struct wr_peerid stranger = id_of(what * 100u);
        answer(w, &stranger, what);
        wr_query_failed(w->q, &stranger);
    } else if (what < 24) {
        struct wr_peerid middle = id_of(take(&w->in));
        uint8_t key[WR_KAD_KEY];
        wr_kad_key(wr_peerid_bytes(&middle), key);
        wr_query_widen(w->q, key, take(&w->in) / 256.0);
    } else if (w->flying_count > 0 && what < 200) {
        size_t i = what % w->flying_count;
        struct wr_peerid id = w->flying[i];
        w->flying[i] = w->flying[--w->flying_count];
        if (what & 1)
            answer(w, &id, take(&w->in));
        else
            wr_query_failed(w->q, &id);
    } else {
        wr_time deadline = wr_query_deadline(w->q);
        assert(deadline != 0);
        w->now = deadline > w->now ? deadline : w->now;
    }
}

static bool ask_all(struct world *w)
{
    struct wr_query_ask ask;
    int rc;
    while ((rc = wr_query_next(w->q, w->now, &ask)) > 0) {
        assert(ask.key.len > 0 && wr_query_asked(w->q) == ++w->asked);
        if (w->flying_count < FLYING_MAX)
            w->flying[w->flying_count++] = ask.peer->id;
        if (take(&w->in) & 1)
            wr_query_warm(w->q, &ask.peer->id, take(&w->in) * WR_MSEC);
    }
    assert(rc == 0 || rc == WR_ECLOSED);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.in = WR_BYTES(data, size), .now = WR_SEC};
    struct wr_pace pace;
    struct wr_peerid self = id_of(0), target = id_of(7);
    const struct wr_query_peer *closest[WR_QUERY_PEERS_MAX + 1];
    wr_pace_init(&pace);
    w.q = wr_query_create(&(struct wr_query_config){.kind = take(&w.in) % 4,
                                                    .target = wr_peerid_bytes(&target),
                                                    .self = &self,
                                                    .pace = &pace,
                                                    .want = take(&w.in) % 8,
                                                    .set = take(&w.in) % 30});
    if (!w.q)
        return 0;
    for (unsigned i = take(&w.in) % 40; i > 0; i--) {
        struct wr_peerid id = id_of(i);
        wr_query_seed(w.q, &id, NULL, 0);
    }
    unsigned steps = 0;
    while (ask_all(&w)) {
        step(&w);
        /* 2,048 ids there are, and a candidate falls back to "heard" only by being forgotten. */
        assert(++steps < STEPS_MAX);
    }
    size_t count = wr_query_closest(w.q, closest, WR_QUERY_PEERS_MAX + 1);
    assert(count <= WR_QUERY_PEERS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert(!wr_peerid_equal(&closest[i]->id, &self));
        assert(i == 0 ||
               wr_kad_compare(wr_query_key(w.q), closest[i - 1]->key, closest[i]->key) < 0);
    }
    wr_query_destroy(w.q);
    return 0;
}
