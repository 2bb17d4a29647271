#include "dht/query.h"

#include "transport/err.h"
#include "transport/varint.h"

#include <assert.h>
#include <string.h>

#define PEERS_FIRST 32 /* candidates allocated at first */

struct wr_query {
    enum wr_query_kind kind;
    struct wr_peerid self;
    uint8_t target[WR_DHT_KEY_MAX];
    size_t target_len;
    uint8_t key[WR_KAD_KEY];
    struct wr_pace *pace; /* borrowed */
    unsigned want, got, set;
    bool satisfied;
    bool deaf;    /* to what answers name */
    double avoid; /* share around middle where nobody is heard of */
    uint8_t middle[WR_KAD_KEY];
    unsigned asked, slow;        /* ever */
    struct wr_query_peer *peers; /* owned; nearest first */
    size_t count, cap;
    struct wr_query_peer found; /* WR_QUERY_PEER: the target itself; id.len 0 until told of */
};

/* ---- pace: the 99th percentile by small steps, up 99 times as fast as down. ----------------- */

#define PACE_STEP 8 /* one part in as many */

void wr_pace_init(struct wr_pace *p)
{
    p->p99 = WR_QUERY_LATE_FIRST;
}

void wr_pace_sample(struct wr_pace *p, wr_time took)
{
    if (took > p->p99)
        p->p99 += p->p99 / PACE_STEP;
    else
        p->p99 -= p->p99 / PACE_STEP / 99;
    if (p->p99 < WR_QUERY_LATE_MIN)
        p->p99 = WR_QUERY_LATE_MIN;
    if (p->p99 > WR_QUERY_LATE_MAX)
        p->p99 = WR_QUERY_LATE_MAX;
}

/* ---- candidates ----------------------------------------------------------------------------- */

struct wr_query *wr_query_create(const struct wr_query_config *config)
{
    assert(config->target.len <= WR_DHT_KEY_MAX);
    struct wr_query *q = wr_alloc(sizeof(*q));
    if (!q)
        return NULL;
    q->kind = config->kind;
    q->self = *config->self;
    q->target_len = config->target.len;
    if (config->target.len)
        memcpy(q->target, config->target.ptr, config->target.len);
    wr_kad_key(config->target, q->key);
    q->pace = config->pace;
    q->want = config->want;
    q->set = config->set ? config->set : WR_QUERY_SET;
    return q;
}

void wr_query_destroy(struct wr_query *q)
{
    if (!q)
        return;
    for (size_t i = 0; i < q->count; i++)
        wr_free(q->peers[i].addrs);
    wr_free(q->peers);
    wr_free(q->found.addrs);
    wr_free(q);
}

/* Where key stands or would stand in the sorted array. */
static size_t place_of(const struct wr_query *q, const uint8_t key[static WR_KAD_KEY], bool *there)
{
    size_t low = 0, high = q->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = wr_kad_compare(q->key, q->peers[mid].key, key);
        if (order == 0) {
            *there = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *there = false;
    return low;
}

static struct wr_query_peer *find(const struct wr_query *q, const struct wr_peerid *id)
{
    for (size_t i = 0; i < q->count; i++) {
        if (wr_peerid_equal(&q->peers[i].id, id))
            return &q->peers[i];
    }
    return NULL;
}

/* Makes room for one more, at the cost of the farthest that nothing is known of. Returns the place
 * of the newcomer, which moves down when a nearer one went. */
static bool make_room(struct wr_query *q, size_t *at)
{
    if (q->count == WR_QUERY_PEERS_MAX) {
        size_t i = q->count;
        while (i > 0 && q->peers[i - 1].state != WR_QUERY_HEARD &&
               q->peers[i - 1].state != WR_QUERY_FAILED)
            i--;
        if (i == 0 || i - 1 < *at)
            return false;
        wr_free(q->peers[i - 1].addrs);
        memmove(&q->peers[i - 1], &q->peers[i], (q->count - i) * sizeof(q->peers[0]));
        q->count--;
    }
    if (q->count == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : PEERS_FIRST;
        struct wr_query_peer *more = wr_realloc(q->peers, cap * sizeof(q->peers[0]));
        if (!more)
            return false;
        q->peers = more;
        q->cap = cap;
    }
    return true;
}

/* The best addresses that fit, each with its length in front. */
static void keep_addrs(struct wr_query_peer *p, const struct wr_bytes *addrs, size_t count)
{
    uint8_t packed[WR_QUERY_ADDRS_MAX];
    size_t len = 0;
    for (size_t i = 0; i < count && i < WR_DHT_ADDRS_OUT_MAX; i++) {
        size_t head = wr_uvarint_len(addrs[i].len);
        if (addrs[i].len == 0 || addrs[i].len > sizeof(packed) - len ||
            head > sizeof(packed) - len - addrs[i].len)
            continue;
        uint8_t varint[WR_UVARINT_MAX];
        wr_uvarint_encode(addrs[i].len, varint);
        memcpy(packed + len, varint, head);
        memcpy(packed + len + head, addrs[i].ptr, addrs[i].len);
        len += head + addrs[i].len;
    }
    uint8_t *copy = len ? wr_memdup(packed, len) : NULL;
    if (!copy)
        return;
    wr_free(p->addrs);
    p->addrs = copy;
    p->addrs_len = (uint16_t)len;
}

bool wr_query_addr(struct wr_bytes *rest, struct wr_bytes *addr)
{
    struct wr_reader r;
    wr_reader_init(&r, *rest);
    *addr = wr_read_prefixed(&r);
    *rest = r.rest;
    return !r.bad && addr->len > 0;
}

static void hear_of(struct wr_query *q, const struct wr_peerid *id, const struct wr_bytes *addrs,
                    size_t count, uint8_t hops)
{
    struct wr_query_peer p = {.id = *id, .state = WR_QUERY_HEARD, .hops = hops};
    bool there;
    if (wr_peerid_equal(id, &q->self))
        return;
    wr_kad_key(wr_peerid_bytes(id), p.key);
    if (q->avoid > 0 && wr_kad_share(p.key, q->middle) < q->avoid)
        return;
    size_t at = place_of(q, p.key, &there);
    if (there) {
        if (q->peers[at].addrs_len == 0)
            keep_addrs(&q->peers[at], addrs, count);
        return;
    }
    if (!make_room(q, &at))
        return;
    keep_addrs(&p, addrs, count);
    memmove(&q->peers[at + 1], &q->peers[at], (q->count - at) * sizeof(q->peers[0]));
    q->peers[at] = p;
    q->count++;
}

void wr_query_seed(struct wr_query *q, const struct wr_peerid *id, const struct wr_bytes *addrs,
                   size_t count)
{
    hear_of(q, id, addrs, count, 0);
}

/* ---- what comes next ------------------------------------------------------------------------ */

/* Counts for termination: it has answered, or may yet. */
static bool stands(const struct wr_query_peer *p)
{
    return p->state != WR_QUERY_FAILED && p->state != WR_QUERY_LATE;
}

static bool in_flight(const struct wr_query_peer *p)
{
    return p->state == WR_QUERY_ASKED || p->state == WR_QUERY_SLOW || p->state == WR_QUERY_LATE;
}

static void expire(struct wr_query *q, wr_time now)
{
    for (size_t i = 0; i < q->count; i++) {
        struct wr_query_peer *p = &q->peers[i];
        if (p->state == WR_QUERY_ASKED && p->slow_at <= now) {
            p->state = WR_QUERY_SLOW;
            q->slow++;
        }
        if (p->state == WR_QUERY_SLOW && p->late_at <= now)
            p->state = WR_QUERY_LATE;
        if (p->state == WR_QUERY_LATE && p->give_up_at <= now)
            p->state = WR_QUERY_FAILED;
        if (p->again_until <= now)
            p->again_until = 0;
    }
}

/* What a pass over the candidates says. */
struct view {
    size_t standing; /* among the nearest `set`, all that stand */
    size_t front;    /* of the leading standing ones, how many have answered in a row */
    size_t flying, slow, late, again;
    struct wr_query_peer
        *next; /* nearest that was not asked, within the set and what slow ones add */
    struct wr_query_peer *rim; /* farthest standing of the set */
};

static void count_states(const struct wr_query_peer *p, struct view *v)
{
    v->flying += p->state == WR_QUERY_ASKED;
    v->slow += p->state == WR_QUERY_SLOW;
    v->late += p->state == WR_QUERY_LATE;
    v->again += p->again_until != 0;
}

static struct view look(const struct wr_query *q)
{
    struct view v = {0};
    bool in_a_row = true;
    size_t beyond = 0;
    for (size_t i = 0; i < q->count; i++) {
        struct wr_query_peer *p = &q->peers[i];
        count_states(p, &v);
        if (!stands(p))
            continue;
        /* The set is wider by as many as are slow: the next ones are asked beside them. */
        bool within = v.standing < q->set;
        if (p->state == WR_QUERY_HEARD && !v.next && (within || beyond < v.slow))
            v.next = p;
        if (!within) {
            beyond++;
            continue;
        }
        v.standing++;
        in_a_row = in_a_row && p->state == WR_QUERY_ANSWERED;
        v.front += in_a_row;
        v.rim = p;
    }
    return v;
}

static bool converged(const struct view *v)
{
    return v->front >= WR_QUERY_BETA || v->front == v->standing;
}

static bool over(const struct wr_query *q, const struct view *v)
{
    if (q->satisfied)
        return true;
    if (v->front < v->standing || v->again > 0)
        return false;
    /* Everybody who stands has answered. With a full set that is all; in a small network those who
     * are late may be the rest of it. */
    return v->standing == q->set || v->late == 0;
}

/* Nearest candidate to p besides itself; with `idle`, only peers that answered and are not asked
 * again. */
static struct wr_query_peer *neighbour(const struct wr_query *q, const struct wr_query_peer *p,
                                       bool idle)
{
    struct wr_query_peer *best = NULL;
    for (size_t i = 0; i < q->count; i++) {
        struct wr_query_peer *o = &q->peers[i];
        if (o == p || (idle && (o->state != WR_QUERY_ANSWERED || o->again_until != 0)))
            continue;
        if (!best || wr_kad_compare(p->key, o->key, best->key) < 0)
            best = o;
    }
    return best;
}

/* The second phase of a search for the whole set asks about neighbourhoods, see query.h. */
static bool asks_around(const struct wr_query *q, const struct view *v)
{
    return q->kind == WR_QUERY_CLOSEST && q->set > WR_QUERY_BETA && converged(v);
}

static wr_time within(wr_time t, wr_time low, wr_time high)
{
    return t < low ? low : t > high ? high : t;
}

static void ask_now(struct wr_query *q, struct wr_query_peer *p, wr_time now,
                    struct wr_query_ask *ask)
{
    p->asked_at = now;
    p->slow_at = now + q->pace->p99 / 2;
    p->late_at = now + q->pace->p99 * WR_QUERY_LATE_NUM / WR_QUERY_LATE_DEN;
    p->give_up_at = now + within(4 * q->pace->p99, WR_QUERY_GIVE_UP_MIN, WR_QUERY_LATE_MAX);
    q->asked++;
    ask->peer = p;
    ask->key = WR_BYTES(q->target, q->target_len);
}

/* For one fallen member of the set: its nearest live neighbour is asked who else is there. */
static bool ask_for_fallen(struct wr_query *q, const struct view *v, wr_time now,
                           struct wr_query_ask *ask)
{
    for (size_t i = 0; v->rim && &q->peers[i] < v->rim; i++) {
        struct wr_query_peer *fallen = &q->peers[i];
        if (stands(fallen) || fallen->covered)
            continue;
        struct wr_query_peer *p = neighbour(q, fallen, true);
        if (!p)
            return false;
        fallen->covered = true;
        ask_now(q, p, now, ask);
        p->again_until = p->late_at;
        ask->key = wr_peerid_bytes(&fallen->id);
        return true;
    }
    return false;
}

int wr_query_next(struct wr_query *q, wr_time now, struct wr_query_ask *ask)
{
    expire(q, now);
    struct view v = look(q);
    if (over(q, &v))
        return WR_ECLOSED;
    bool around = asks_around(q, &v);
    if (around && ask_for_fallen(q, &v, now, ask))
        return 1;
    /* Once converged all of the set is asked in any case: nothing is saved by going slowly. */
    size_t width = WR_QUERY_PARALLEL + q->slow;
    if (converged(&v) || width > WR_QUERY_PARALLEL_MAX)
        width = WR_QUERY_PARALLEL_MAX;
    if (!v.next || v.flying >= width)
        return 0;
    v.next->state = WR_QUERY_ASKED;
    ask_now(q, v.next, now, ask);
    const struct wr_query_peer *about = around ? neighbour(q, v.next, false) : NULL;
    if (about)
        ask->key = wr_peerid_bytes(&about->id);
    return 1;
}

void wr_query_warm(struct wr_query *q, const struct wr_peerid *id, wr_time rtt)
{
    struct wr_query_peer *p = find(q, id);
    if (!p || p->state != WR_QUERY_ASKED || rtt <= 0)
        return;
    /* Twice the round trip leaves room for queueing and one lost segment on most paths. */
    wr_time patience = within(2 * rtt + WR_QUERY_LATE_MIN, 0, WR_QUERY_LATE_MAX);
    p->warm = true;
    p->slow_at = p->asked_at + patience / 2;
    p->late_at = p->asked_at + patience;
    p->give_up_at = p->asked_at + within(4 * patience, WR_QUERY_GIVE_UP_MIN, WR_QUERY_LATE_MAX);
}

static void earlier(wr_time *first, wr_time at)
{
    if (*first == 0 || at < *first)
        *first = at;
}

wr_time wr_query_deadline(const struct wr_query *q)
{
    struct view v = look(q);
    wr_time first = 0;
    if (over(q, &v))
        return 0;
    for (size_t i = 0; i < q->count; i++) {
        const struct wr_query_peer *p = &q->peers[i];
        if (p->again_until != 0)
            earlier(&first, p->again_until);
        if (p->state == WR_QUERY_ASKED)
            earlier(&first, p->slow_at);
        if (p->state == WR_QUERY_SLOW)
            earlier(&first, p->late_at);
        if (p->state == WR_QUERY_LATE)
            earlier(&first, p->give_up_at);
    }
    return first;
}

/* ---- what comes back ------------------------------------------------------------------------ */

static void groups_of(const struct wr_dht_peer *p, uint64_t groups[static WR_IPGROUPS_MAX])
{
    memset(groups, 0, WR_IPGROUPS_MAX * sizeof(groups[0]));
    for (size_t i = 0; i < p->count; i++)
        wr_ipgroup_add(groups, wr_ipgroup_maddr(p->addrs[i]));
}

/* Peers of an address group that fills more of one answer than chance would: all of them are left
 * out, as an honest table cannot hold so many. */
static bool crowded(uint64_t (*groups)[WR_IPGROUPS_MAX], size_t count, size_t at)
{
    for (size_t g = 0; g < WR_IPGROUPS_MAX; g++) {
        size_t same = 0;
        for (size_t i = 0; i < count; i++)
            same += wr_ipgroup_has(groups[i], groups[at][g]);
        if (same > WR_QUERY_GROUP_MAX)
            return true;
    }
    return false;
}

static void sort_best_first(struct wr_dht_peer *p)
{
    for (size_t i = 1; i < p->count; i++) {
        struct wr_bytes addr = p->addrs[i];
        unsigned rank = wr_dht_addr_rank(addr);
        size_t at = i;
        for (; at > 0 && wr_dht_addr_rank(p->addrs[at - 1]) > rank; at--)
            p->addrs[at] = p->addrs[at - 1];
        p->addrs[at] = addr;
    }
}

static void meet_target(struct wr_query *q, const struct wr_dht_peer *p)
{
    if (p->count == 0)
        return;
    q->found.id = p->id;
    wr_kad_key(wr_peerid_bytes(&p->id), q->found.key);
    keep_addrs(&q->found, p->addrs, p->count);
    q->satisfied = q->found.addrs_len > 0;
}

static void take_closer(struct wr_query *q, const struct wr_query_reply *reply, uint8_t hops)
{
    uint64_t groups[WR_DHT_CLOSER_MAX][WR_IPGROUPS_MAX];
    size_t count =
        reply->closer_count < WR_DHT_CLOSER_MAX ? reply->closer_count : WR_DHT_CLOSER_MAX;
    for (size_t i = 0; i < count; i++)
        groups_of(&reply->closer[i], groups[i]);
    for (size_t i = 0; i < count; i++) {
        struct wr_dht_peer *p = &reply->closer[i];
        if (crowded(groups, count, i))
            continue;
        sort_best_first(p);
        if (q->kind == WR_QUERY_PEER &&
            wr_bytes_equal(wr_peerid_bytes(&p->id), WR_BYTES(q->target, q->target_len)))
            meet_target(q, p);
        else
            hear_of(q, &p->id, p->addrs, p->count, hops);
    }
}

void wr_query_reply(struct wr_query *q, const struct wr_peerid *id, wr_time now,
                    const struct wr_query_reply *reply)
{
    struct wr_query_peer *p = find(q, id);
    if (!p || p->state == WR_QUERY_HEARD || (p->state == WR_QUERY_ANSWERED && p->again_until == 0))
        return;
    p->again_until = 0;
    p->state = WR_QUERY_ANSWERED;
    p->value = reply->value;
    if (!p->warm)
        wr_pace_sample(q->pace, now - p->asked_at);
    uint8_t hops = p->hops < UINT8_MAX ? (uint8_t)(p->hops + 1) : p->hops;
    if (q->kind == WR_QUERY_PROVIDERS)
        q->got += reply->found;
    if (q->kind == WR_QUERY_VALUE)
        q->got += reply->value != 0;
    if (q->want > 0 && q->got >= q->want)
        q->satisfied = true;
    if (!q->deaf)
        take_closer(q, reply, hops);
}

void wr_query_failed(struct wr_query *q, const struct wr_peerid *id)
{
    struct wr_query_peer *p = find(q, id);
    if (!p)
        return;
    p->again_until = 0;
    if (in_flight(p))
        p->state = WR_QUERY_FAILED;
}

void wr_query_resume(struct wr_query *q, unsigned want)
{
    q->satisfied = false;
    q->want = want;
}

/* ---- a crowd around the target -------------------------------------------------------------- */

/* 0: the outermost, between half of reach and reach; the last one takes all that is nearer. */
static size_t ring_of(double share, double reach)
{
    size_t ring = 0;
    while (ring + 1 < WR_QUERY_RINGS && share * 2 < reach) {
        share *= 2;
        ring++;
    }
    return ring;
}

static size_t ring_room(size_t ring)
{
    return 2 * WR_QUERY_SET / ((size_t)2 << ring) + 2;
}

/* Of `heard` in a ring with room for `room` more: does the i-th stay? Evenly, for any end of a ring
 * may be the crowded one. */
static bool stays(size_t i, size_t heard, size_t room)
{
    return heard <= room || (i + 1) * room / heard > i * room / heard;
}

void wr_query_avoid(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double share)
{
    memcpy(q->middle, middle, WR_KAD_KEY);
    q->avoid = share;
}

/* Candidates within reach. */
static size_t count_within(const struct wr_query *q, double reach)
{
    size_t within = 0;
    while (within < q->count && wr_kad_share(q->peers[within].key, q->key) < reach)
        within++;
    return within;
}

void wr_query_thin(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double reach)
{
    size_t heard[WR_QUERY_RINGS] = {0}, standing[WR_QUERY_RINGS] = {0}, met[WR_QUERY_RINGS] = {0};
    size_t ring_at[WR_QUERY_PEERS_MAX], within = count_within(q, reach), kept = 0;
    for (size_t i = 0; i < within; i++) {
        const struct wr_query_peer *p = &q->peers[i];
        ring_at[i] = ring_of(wr_kad_share(p->key, middle), reach);
        heard[ring_at[i]] += p->state == WR_QUERY_HEARD;
        standing[ring_at[i]] += p->state != WR_QUERY_HEARD && stands(p);
    }
    for (size_t i = 0; i < q->count; i++) {
        struct wr_query_peer *p = &q->peers[i];
        size_t ring = i < within ? ring_at[i] : 0;
        if (i < within && p->state == WR_QUERY_HEARD) {
            size_t room = ring_room(ring) > standing[ring] ? ring_room(ring) - standing[ring] : 0;
            if (!stays(met[ring]++, heard[ring], room)) {
                wr_free(p->addrs);
                continue;
            }
        }
        q->peers[kept++] = *p;
    }
    q->count = kept;
    q->deaf = true;
}

void wr_query_widen(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double reach)
{
    unsigned standing = 0;
    wr_query_thin(q, middle, reach);
    size_t within = count_within(q, reach);
    for (size_t i = 0; i < within; i++)
        standing += stands(&q->peers[i]);
    if (standing > q->set)
        q->set = standing;
}

/* ---- results -------------------------------------------------------------------------------- */

size_t wr_query_closest(const struct wr_query *q, const struct wr_query_peer **out, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < q->count && count < max; i++) {
        if (q->peers[i].state == WR_QUERY_ANSWERED)
            out[count++] = &q->peers[i];
    }
    return count;
}

size_t wr_query_nearest(const struct wr_query *q, const struct wr_query_peer **out, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < q->count && count < max; i++) {
        if (stands(&q->peers[i]))
            out[count++] = &q->peers[i];
    }
    return count;
}

const struct wr_query_peer *wr_query_target(const struct wr_query *q)
{
    return q->found.id.len ? &q->found : NULL;
}

const uint8_t *wr_query_key(const struct wr_query *q)
{
    return q->key;
}

unsigned wr_query_asked(const struct wr_query *q)
{
    return q->asked;
}

unsigned wr_query_set(const struct wr_query *q)
{
    return q->set;
}

bool wr_query_satisfied(const struct wr_query *q)
{
    return q->satisfied;
}
