/* Searches where false peers stand near the key.
 *
 * Whoever wants a key to be lost makes identities until enough of them stand nearer to it than
 * anybody honest, or so near that whoever comes along asks them first: records are left with them,
 * they are asked for them, and they name only one another. But then they stand closer together than
 * chance would put them, which shows once the size of the network is known (netsize.h). Such a key
 * is searched by region: besides the search for the key itself, three others for points beside the
 * crowd find who else lives where the twenty nearest are to be expected, and all of those are told,
 * or asked. (Sridhar et al., "Content Censorship in the InterPlanetary File System", NDSS 2024, do
 * the same with the largest common prefix that has enough peers.) Other keys cost nothing more.
 * What it brings and costs: tests/sim/large/test_sybil.c. */
#include "dht/dht_impl.h"

#include <string.h>

/* The 20th nearest is nearer than 5/N to one point in ten million, and nearer than 10/N, should N
 * be half of what we think, to one in 300. Who wants to escape this has to leave five honest peers
 * among the 20. Ours. */
#define CROWDED 5.0
/* Of the 20 nearest, ten within 1/N of one another: by chance one time in a million, ours. That is
 * a crowd which stands aside and hides those between it and the key. */
#define CLUSTER     10
#define POINT_TRIES 16384 /* hashes spent on finding points beside a crowd: some ms; ours */

/* ---- points beside the crowd: identities that hash to where it is not */

struct point {
    uint8_t at[WR_KAD_KEY]; /* the middle of the crowd with one bit turned */
    unsigned wanted, best;  /* leading bits in common */
    struct wr_peerid id;
};

static void find_points(struct wr_env *env, struct point *points, size_t count)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20}};
    uint8_t place[WR_KAD_KEY];
    size_t missing = count;
    wr_env_random(env, id.bytes + 2, 32);
    for (uint32_t i = 0; i < POINT_TRIES && missing > 0; i++) {
        memcpy(id.bytes + 2, &i, sizeof(i));
        wr_kad_key(wr_peerid_bytes(&id), place);
        for (size_t k = 0; k < count; k++) {
            struct point *p = &points[k];
            unsigned cpl = wr_kad_cpl(place, p->at);
            if (p->best >= p->wanted || (p->id.len > 0 && cpl <= p->best))
                continue;
            p->id = id;
            p->best = cpl;
            missing -= cpl >= p->wanted;
        }
    }
}

/* The region where k are expected has a prefix in common; the points are in its other half, seen
 * from the middle of the crowd, in the other half of what is left, and so on. */
static void choose_points(struct wr_dht_request *r, uint64_t size,
                          struct point points[static CROWD_SIDES])
{
    unsigned depth = 0;
    while (size >> (depth + 1) >= WR_KBUCKET_SIZE)
        depth++;
    for (unsigned i = 0; i < CROWD_SIDES; i++) {
        struct point *p = &points[i];
        unsigned bit = depth + i;
        *p = (struct point){.wanted = bit + 1};
        memcpy(p->at, r->middle, WR_KAD_KEY);
        p->at[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
    }
    find_points(r->dht->env, points, CROWD_SIDES);
}

/* ---- the searches ---------------------------------------------------------------------------- */

static double reach_of(const struct wr_dht *d)
{
    uint64_t size = wr_netsize_estimate(&d->netsize, wr_env_now(d->env));
    return size > 0 ? (double)WR_QUERY_SET / (double)size : 1;
}

/* How many of the peers are within `share` of the i-th. */
static size_t around(const struct wr_query_peer *const *peers, size_t count, size_t i, double share)
{
    size_t near = 0;
    for (size_t k = 0; k < count; k++)
        near += wr_kad_share(peers[k]->key, peers[i]->key) < share;
    return near;
}

/* Sets r->middle and r->breadth. */
static bool is_crowded(struct wr_dht_request *r)
{
    const struct wr_query_peer *nearest[WR_QUERY_SET];
    const struct wr_dht *d = r->dht;
    double size = (double)wr_netsize_estimate(&d->netsize, wr_env_now(d->env));
    size_t count = wr_query_nearest(r->query, nearest, WR_QUERY_SET);
    const uint8_t *key = wr_query_key(r->query);
    if (count < WR_QUERY_SET || size <= 0)
        return false;
    memcpy(r->middle, key, WR_KAD_KEY);
    r->breadth = wr_kad_share(nearest[count - 1]->key, key);
    if (r->breadth * size < CROWDED) {
        r->breadth = r->breadth * size > 1 ? r->breadth : 1 / size;
        return true;
    }
    r->breadth = 1 / size;
    for (size_t i = 0; i < count; i++) {
        memcpy(r->middle, nearest[i]->key, WR_KAD_KEY);
        if (around(nearest, count, i, 1 / size) >= CLUSTER)
            return true;
    }
    return false;
}

static void take_side(struct wr_dht_request *r, const struct wr_dht_request *side)
{
    const struct wr_query_peer *found[WR_QUERY_SET];
    size_t count = wr_query_nearest(side->query, found, WR_QUERY_SET);
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes addrs[WR_DHT_ADDRS_OUT_MAX],
            rest = WR_BYTES(found[i]->addrs, found[i]->addrs_len);
        size_t addr_count = 0;
        while (addr_count < WR_DHT_ADDRS_OUT_MAX && wr_query_addr(&rest, &addrs[addr_count]))
            addr_count++;
        wr_query_seed(r->query, &found[i]->id, addrs, addr_count);
    }
}

/* The whole region is known: it is told, or asked. */
static void go_on(struct wr_dht_request *r)
{
    wr_query_widen(r->query, r->middle, reach_of(r->dht));
    if (r->kind == PUT_VALUE || r->kind == PROVIDE)
        wr_dht_put_begin(r);
    else
        wr_env_defer(r->dht->env, &r->pump, r->pump.run);
}

/* Hands what the searches found to the main one, which goes on when the last is over. */
static void on_side(void *arg, int err)
{
    struct wr_dht_request *r = arg;
    (void)err;
    for (size_t i = 0; i < CROWD_SIDES; i++) {
        if (r->sides[i] && r->sides[i]->over) {
            take_side(r, r->sides[i]);
            r->sides[i] = NULL;
        }
    }
    if (!wr_dht_crowd_waits(r))
        go_on(r);
}

static const struct wr_dht_ops side_ops = {.on_done = on_side};

bool wr_dht_crowd_begin(struct wr_dht_request *r)
{
    struct wr_dht *d = r->dht;
    wr_time now = wr_env_now(d->env);
    struct point points[CROWD_SIDES];
    int err;
    if (r->crowded || r->kind == FIND_CLOSEST || wr_query_satisfied(r->query) || !is_crowded(r))
        return false;
    uint64_t size = wr_netsize_estimate(&d->netsize, now);
    wr_log(wr_env_log(d->env), WR_LOG_INFO, "dht", "key crowded kind=%d network=%llu", (int)r->kind,
           (unsigned long long)size);
    r->crowded = true;
    wr_query_thin(r->query, r->middle, reach_of(d));
    choose_points(r, size, points);
    for (size_t i = 0; i < CROWD_SIDES; i++) {
        r->sides[i] = wr_dht_request_start(d, FIND_CLOSEST, wr_peerid_bytes(&points[i].id), 0,
                                           WR_QUERY_BETA, true, &side_ops, r, &err);
        if (r->sides[i])
            wr_query_avoid(r->sides[i]->query, r->middle, r->breadth);
    }
    if (!wr_dht_crowd_waits(r))
        go_on(r);
    return true;
}

bool wr_dht_crowd_waits(const struct wr_dht_request *r)
{
    for (size_t i = 0; i < CROWD_SIDES; i++) {
        if (r->sides[i])
            return true;
    }
    return false;
}

void wr_dht_crowd_cancel(struct wr_dht_request *r)
{
    for (size_t i = 0; i < CROWD_SIDES; i++) {
        if (r->sides[i])
            wr_dht_cancel(r->sides[i]);
        r->sides[i] = NULL;
    }
}
