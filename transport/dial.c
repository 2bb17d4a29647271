#include "transport/dial.h"

#include "transport/list.h"

#include <assert.h>
#include <string.h>

#define OTHER_AFTER       (1 * WR_SEC)      /* forms we hardly dial, behind the rest; go dial_ranker.go */
#define OTHER_AFTER_LAN   (100 * WR_MSEC)   /* go */
#define RELAY_AFTER       (500 * WR_MSEC)   /* relays, when a public direct address exists; go */

/* ---- ranking ---------------------------------------------------------------------------------------- */

/* Addresses are ranked inside their group only; groups run beside each other. */
enum group { GROUP_LAN, GROUP_PUBLIC, GROUP_RELAY, GROUPS };
/* Inside a group: all of one kind before the next kind. */
enum kind { KIND_QUIC, KIND_TCP, KIND_OTHER };

struct rank {
    enum group group;
    enum kind kind;
    bool ip4;
    uint16_t port;
};

static struct rank rank_of(struct wr_bytes ma)
{
    struct rank r = {.group = GROUP_PUBLIC, .kind = KIND_OTHER};
    struct wr_addr addr;
    struct wr_maddr_part part;
    struct wr_bytes rest = ma;
    if (wr_maddr_addr(ma, &addr)) {
        enum wr_ip_class class = wr_ip_classify(&addr.ip);
        r.ip4 = addr.ip.family == 4;
        r.port = addr.port;
        if (class != WR_IP_PUBLIC && class != WR_IP_RESERVED)
            r.group = GROUP_LAN;
    }
    if (wr_maddr_is_circuit(ma)) {
        r.group = GROUP_RELAY;
        r.kind = KIND_TCP;
        while (wr_maddr_next(&rest, &part) && part.code != WR_MA_CIRCUIT) {
            if (part.code == WR_MA_QUIC_V1)
                r.kind = KIND_QUIC;
        }
        return r;
    }
    if (wr_maddr_kind(ma) == WR_MADDR_QUIC)
        r.kind = KIND_QUIC;
    if (wr_maddr_kind(ma) == WR_MADDR_TCP)
        r.kind = KIND_TCP;
    return r;
}

static wr_time stagger(enum group group)
{
    return group == GROUP_LAN ? WR_DIAL_STAGGER_LAN : WR_DIAL_STAGGER;
}

/* Sorts before: IPv6 first (IPv4 where that leads nowhere), low ports first (what a node was set up with, not what a
 * NAT gave it). */
static bool goes_first(const struct rank *a, size_t ia, const struct rank *b, size_t ib, bool ip6_last)
{
    if (a->ip4 != b->ip4)
        return a->ip4 == ip6_last;
    if (a->port != b->port)
        return a->port < b->port;
    return ia < ib;
}

/* Delays of one kind in one group, from `base`: the best at once, then the best of the other family, then
 * the rest together. Returns the largest delay given, or -1 when there were none. */
static wr_time rank_kind(struct wr_dial *d, const struct rank *ranks, enum group group, enum kind kind,
                         wr_time base)
{
    size_t of[WR_DIAL_ADDRS_MAX], n = 0;
    bool ip6_last = d->ip6_last && group == GROUP_PUBLIC;
    for (size_t i = 0; i < d->count; i++) {
        if (ranks[i].group != group || ranks[i].kind != kind)
            continue;
        size_t at = n++;
        while (at > 0 && goes_first(&ranks[i], i, &ranks[of[at - 1]], of[at - 1], ip6_last)) {
            of[at] = of[at - 1];
            at--;
        }
        of[at] = i;
    }
    if (n == 0)
        return -1;
    /* go: with both families the second try is the other one's best, and the rest waits two steps; TCP
     * of one family takes the same steps, QUIC of one family only one. */
    bool both = ranks[of[0]].ip4 != ranks[of[n - 1]].ip4;
    bool second = false;
    int most = 0;
    for (size_t k = 0; k < n; k++) {
        int steps = k == 0 ? 0 : both || kind != KIND_QUIC ? 2 : 1;
        if (k > 0 && !second && (!both || ranks[of[k]].ip4 != ranks[of[0]].ip4)) {
            second = true;
            steps = 1;
        }
        if (d->addrs[of[k]].state == WR_DIAL_PENDING)
            d->addrs[of[k]].start_at = d->started_at + base + steps * stagger(group);
        most = steps > most ? steps : most;
    }
    return base + most * stagger(group);
}

/* Gives every address that was not begun its time. The begun ones keep their place in the row. */
static void rank_all(struct wr_dial *d)
{
    struct rank ranks[WR_DIAL_ADDRS_MAX];
    bool direct = false;
    for (size_t i = 0; i < d->count; i++) {
        ranks[i] = rank_of(wr_maddr_bytes(&d->addrs[i].addr));
        d->addrs[i].lan = ranks[i].group == GROUP_LAN;
        direct = direct || ranks[i].group == GROUP_PUBLIC;
    }
    for (enum group g = 0; g < GROUPS; g++) {
        wr_time base = g == GROUP_RELAY && direct ? RELAY_AFTER : 0;
        bool turned = d->quic_last && g == GROUP_PUBLIC;
        wr_time first = rank_kind(d, ranks, g, turned ? KIND_TCP : KIND_QUIC, base);
        wr_time second = rank_kind(d, ranks, g, turned ? KIND_QUIC : KIND_TCP,
                                   first < 0 ? base : first + stagger(g));
        wr_time last = second > first ? second : first;
        rank_kind(d, ranks, g, KIND_OTHER,
                  last < 0 ? base : last + (g == GROUP_LAN ? OTHER_AFTER_LAN : OTHER_AFTER));
    }
}

static bool known(const struct wr_dial *d, struct wr_bytes addr)
{
    for (size_t i = 0; i < d->count; i++) {
        if (wr_bytes_equal(wr_maddr_bytes(&d->addrs[i].addr), addr))
            return true;
    }
    return false;
}

/* The one not begun that would start last, or -1. */
static int worst(const struct wr_dial *d)
{
    int found = -1;
    for (size_t i = 0; i < d->count; i++) {
        if (d->addrs[i].state == WR_DIAL_PENDING &&
            (found < 0 || d->addrs[i].start_at >= d->addrs[found].start_at))
            found = (int)i;
    }
    return found;
}

/* Puts one more address in, without ranking. When full the newcomer takes the place of the worst if it
 * ranks before it, which only a trial ranking tells. */
static void insert(struct wr_dial *d, struct wr_bytes addr)
{
    addr = wr_maddr_strip_peer(addr);
    if (addr.len == 0 || addr.len > WR_MADDR_MAX || known(d, addr))
        return;
    struct wr_dial_addr fresh = {.state = WR_DIAL_PENDING};
    fresh.addr.len = (uint8_t)addr.len;
    memcpy(fresh.addr.bytes, addr.ptr, addr.len);
    if (d->count < WR_DIAL_ADDRS_MAX) {
        d->addrs[d->count++] = fresh;
        return;
    }
    rank_all(d);
    int i = worst(d);
    if (i < 0)
        return;
    struct wr_dial_addr old = d->addrs[i];
    d->addrs[i] = fresh;
    rank_all(d);
    if (d->addrs[i].start_at >= old.start_at)
        d->addrs[i] = old;
}

void wr_dial_plan(struct wr_dial *d, const struct wr_maddr *addrs, size_t count, wr_time now)
{
    d->count = d->running = 0;
    d->started_at = now;
    d->quic_last = d->ip6_last = false;
    for (size_t i = 0; i < count; i++)
        insert(d, wr_maddr_bytes(&addrs[i]));
    rank_all(d);
}

void wr_dial_add(struct wr_dial *d, struct wr_bytes addr, wr_time now)
{
    bool begun = false;
    for (size_t i = 0; i < d->count; i++)
        begun = begun || d->addrs[i].state != WR_DIAL_PENDING;
    /* The row starts with the first try: a slow name must not make all that it yields overdue. */
    if (!begun)
        d->started_at = now;
    insert(d, addr);
    rank_all(d);
}

int wr_dial_again(struct wr_dial *d, struct wr_bytes addr, wr_time now)
{
    for (size_t i = 0; i < d->count; i++) {
        struct wr_dial_addr *a = &d->addrs[i];
        if (!wr_bytes_equal(wr_maddr_bytes(&a->addr), addr))
            continue;
        if (a->state != WR_DIAL_FAILED || !wr_maddr_is_circuit(addr) || wr_dial_same_relay(a))
            return -1;
        a->state = WR_DIAL_PENDING;
        a->start_at = now;
        return (int)i;
    }
    return -1;
}

/* ---- running ---------------------------------------------------------------------------------------- */

/* The address not begun that is due first, or -1. */
static int first_due(const struct wr_dial *d)
{
    int found = -1;
    for (size_t i = 0; i < d->count; i++) {
        if (d->addrs[i].state == WR_DIAL_PENDING &&
            (found < 0 || d->addrs[i].start_at < d->addrs[found].start_at))
            found = (int)i;
    }
    return found;
}

int wr_dial_next(struct wr_dial *d, wr_time now)
{
    int i = first_due(d);
    if (i < 0 || d->running >= WR_DIAL_PARALLEL)
        return -1;
    if (d->running > 0 && d->addrs[i].start_at > now)
        return -1;
    /* Nothing in flight: whatever was meant to start with this one starts now, too. */
    wr_time due = d->addrs[i].start_at;
    if (due > now) {
        for (size_t k = 0; k < d->count; k++) {
            if (d->addrs[k].state == WR_DIAL_PENDING && d->addrs[k].start_at == due)
                d->addrs[k].start_at = now;
        }
    }
    d->addrs[i].start_at = now;
    d->addrs[i].state = WR_DIAL_RUNNING;
    d->running++;
    return i;
}

wr_time wr_dial_wait(const struct wr_dial *d)
{
    int i = first_due(d);
    if (i < 0 || d->running >= WR_DIAL_PARALLEL)
        return 0;
    return d->addrs[i].start_at;
}

void wr_dial_failed(struct wr_dial *d, int index, int err)
{
    assert(index >= 0 && (size_t)index < d->count);
    struct wr_dial_addr *a = &d->addrs[index];
    assert(a->state == WR_DIAL_RUNNING && err < 0);
    a->state = WR_DIAL_FAILED;
    a->err = err;
    d->running--;
}

void wr_dial_done_one(struct wr_dial *d, int index)
{
    assert(index >= 0 && (size_t)index < d->count && d->addrs[index].state == WR_DIAL_RUNNING);
    d->addrs[index].state = WR_DIAL_DONE;
    d->running--;
}

bool wr_dial_done(const struct wr_dial *d)
{
    return d->running == 0 && first_due(d) < 0;
}

/* How much an error says about the peer: who got further says more. */
static int telling(int err)
{
    static const int order[] = {WR_EUNREACH, WR_EGATED, WR_EBACKOFF, WR_ENOTFOUND, WR_EIO, WR_EINUSE,
                                WR_ELIMIT, WR_ENOFD, WR_ETIMEOUT, WR_EREFUSED, WR_EFULL, WR_EPERM,
                                WR_ECLOSED, WR_ERESET, WR_EUNSUPPORTED, WR_EPROTO, WR_EAUTH, WR_EPEERID, WR_ESELF};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (order[i] == err)
            return (int)i;
    }
    return -1;
}

bool wr_dial_same_relay(const struct wr_dial_addr *a)
{
    return a->state == WR_DIAL_FAILED && a->err == WR_EINUSE && wr_maddr_is_circuit(wr_maddr_bytes(&a->addr));
}

int wr_dial_error(const struct wr_dial *d)
{
    int best = WR_EUNREACH;
    for (size_t i = 0; i < d->count; i++) {
        const struct wr_dial_addr *a = &d->addrs[i];
        if (a->state == WR_DIAL_FAILED && !wr_dial_same_relay(a) && telling(a->err) > telling(best))
            best = a->err;
    }
    return best;
}

/* ---- networks that drop UDP or IPv6 ----------------------------------------------------------------- */

bool wr_blackhole_suspects(struct wr_blackhole *b)
{
    if (b->lost < WR_BLACKHOLE_WINDOW)
        return false;
    b->dials = (b->dials + 1) % WR_BLACKHOLE_PROBE;
    return b->dials != 0;
}

void wr_blackhole_note(struct wr_blackhole *b, bool through)
{
    if (through)
        b->lost = 0;
    else if (b->lost < WR_BLACKHOLE_WINDOW)
        b->lost++;
}

/* ---- back-off --------------------------------------------------------------------------------------- */

#define BACKOFF_STEP (1 * WR_SEC)    /* times tries^2; go */

#define BACKOFF_KEY_MAX (1 + WR_PEERID_MAX + WR_MADDR_MAX)    /* bytes */

struct backoff {
    struct wr_list node;
    wr_time until;
    unsigned tries;
    uint16_t key_len;
    uint8_t key[];
};

static struct wr_bytes backoff_key(uint8_t out[static BACKOFF_KEY_MAX], const struct wr_peerid *peer,
                                   struct wr_bytes addr)
{
    addr = wr_maddr_strip_peer(addr);
    if (addr.len > WR_MADDR_MAX)
        addr.len = WR_MADDR_MAX;
    out[0] = peer->len;    /* so that no two pairs run together */
    memcpy(out + 1, peer->bytes, peer->len);
    if (addr.len)
        memcpy(out + 1 + peer->len, addr.ptr, addr.len);
    return WR_BYTES(out, 1 + (size_t)peer->len + addr.len);
}

void wr_backoff_init(struct wr_backoff *b, const uint8_t seed[static WR_MAP_SEED])
{
    wr_map_init(&b->map, WR_BACKOFF_ENTRIES, seed);
    wr_list_init(&b->order);
}

static void backoff_free(struct wr_backoff *b, struct backoff *e)
{
    wr_map_del(&b->map, WR_BYTES(e->key, e->key_len));
    wr_list_remove(&e->node);
    wr_free(e);
}

void wr_backoff_clear(struct wr_backoff *b)
{
    wr_list_each(it, &b->order)
        backoff_free(b, wr_list_entry(it, struct backoff, node));
    wr_map_clear(&b->map);
}

static struct backoff *backoff_find(const struct wr_backoff *b, const struct wr_peerid *peer,
                                    struct wr_bytes addr)
{
    uint8_t key[BACKOFF_KEY_MAX];
    return wr_map_get(&b->map, backoff_key(key, peer, addr));
}

bool wr_backoff_waits(const struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr,
                      wr_time now)
{
    const struct backoff *e = backoff_find(b, peer, addr);
    return e && e->until > now;
}

static wr_time backoff_time(unsigned tries)
{
    if (tries >= 32)    /* 32^2 s is beyond the maximum, and the square cannot overflow */
        return WR_BACKOFF_MAX;
    wr_time t = WR_BACKOFF_BASE + (wr_time)(tries * tries) * BACKOFF_STEP;
    return t < WR_BACKOFF_MAX ? t : WR_BACKOFF_MAX;
}

static struct backoff *backoff_make(struct wr_backoff *b, const struct wr_peerid *peer,
                                    struct wr_bytes addr)
{
    uint8_t text[BACKOFF_KEY_MAX];
    struct wr_bytes key = backoff_key(text, peer, addr);
    if (b->map.count == WR_BACKOFF_ENTRIES)
        backoff_free(b, wr_list_entry(b->order.next, struct backoff, node));
    struct backoff *e = wr_alloc(sizeof(*e) + key.len);
    if (!e)
        return NULL;
    wr_list_init(&e->node);
    e->key_len = (uint16_t)key.len;
    memcpy(e->key, key.ptr, key.len);
    if (wr_map_put(&b->map, WR_BYTES(e->key, e->key_len), e) == 0)
        return e;
    wr_free(e);
    return NULL;
}

void wr_backoff_failed(struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr,
                       wr_time now)
{
    struct backoff *e = backoff_find(b, peer, addr);
    if (!e)
        e = backoff_make(b, peer, addr);
    else if (now - e->until > backoff_time(e->tries))
        e->tries = 0;    /* long quiet: an old failure, as go forgets it */
    if (!e)
        return;    /* out of memory: forgetting a failure costs one more try */
    e->until = now + backoff_time(e->tries++);
    wr_list_remove(&e->node);
    wr_list_append(&b->order, &e->node);
}

void wr_backoff_forget(struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr)
{
    struct backoff *e = backoff_find(b, peer, addr);
    if (e)
        backoff_free(b, e);
}
