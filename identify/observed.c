#include "identify/observed.h"

#include <string.h>

#define NET_BITS_IP4 32    /* go observedaddrs/manager.go */
#define NET_BITS_IP6 56    /* go */

/* What one network says of one socket of ours. */
struct wr_observation {
    struct wr_list node;
    struct {
        struct wr_ip net;
        struct wr_ip ip;
        uint8_t port[2], udp;
    } key;                      /* bytes only: no padding */
    struct wr_waist local, external;
    struct wr_list votes;       /* connections of that network that are open */
    wr_time left_at;            /* when the last of them closed; 0 while one is open */
};

void wr_observed_init(struct wr_observed *o, const uint8_t seed[static WR_MAP_SEED])
{
    memset(o, 0, sizeof(*o));
    wr_map_init(&o->map, WR_OBSERVED_ENTRIES, seed);
    wr_list_init(&o->order);
}

static struct wr_bytes key_of(const struct wr_observation *e)
{
    return WR_BYTES(&e->key, sizeof(e->key));
}

static void forget(struct wr_observed *o, struct wr_observation *e)
{
    wr_list_each(it, &e->votes)
    {
        wr_list_remove(it);
        wr_list_entry(it, struct wr_vote, node)->of = NULL;
    }
    wr_map_del(&o->map, key_of(e));
    wr_list_remove(&e->node);
    wr_free(e);
}

void wr_observed_clear(struct wr_observed *o)
{
    wr_list_each(it, &o->order)
        forget(o, wr_list_entry(it, struct wr_observation, node));
    wr_map_clear(&o->map);
    o->active_count = 0;
}

/* ---- votes -------------------------------------------------------------------------------------------- */

bool wr_waist_of(struct wr_bytes ma, struct wr_waist *out)
{
    struct wr_maddr_part part;
    struct wr_bytes rest = ma;
    memset(out, 0, sizeof(*out));
    if (!wr_maddr_addr(ma, &out->addr) || wr_maddr_is_circuit(ma))
        return false;
    while (wr_maddr_next(&rest, &part)) {
        out->udp = out->udp || part.code == WR_MA_UDP;
        if (part.code == WR_MA_UDP || part.code == WR_MA_TCP)
            return true;
    }
    return false;
}

static bool same_waist(const struct wr_waist *a, const struct wr_waist *b)
{
    return a->udp == b->udp && a->addr.port == b->addr.port && wr_ip_equal(&a->addr.ip, &b->addr.ip);
}

static bool nat64(const struct wr_ip *ip)
{
    static const uint8_t prefix[12] = {0, 0x64, 0xff, 0x9b};    /* RFC 6052 */
    return ip->family == 6 && memcmp(ip->bytes, prefix, sizeof(prefix)) == 0;
}

/* Could a peer there, seeing us over this socket, see that? */
static bool plausible(const struct wr_waist *local, const struct wr_addr *remote,
                      const struct wr_waist *seen)
{
    if (seen->udp != local->udp || seen->addr.ip.family != local->addr.ip.family ||
        seen->addr.port == 0 || nat64(&seen->addr.ip) || same_waist(local, seen))
        return false;
    switch (wr_ip_classify(&seen->addr.ip)) {
    case WR_IP_PUBLIC:
        return true;
    case WR_IP_PRIVATE:
    case WR_IP_LINK_LOCAL:
    case WR_IP_RESERVED:
        /* Between two NATs that is how a neighbour sees us, but no peer out in the public does. */
        return wr_ip_classify(&remote->ip) != WR_IP_PUBLIC;
    case WR_IP_LOOPBACK:
    case WR_IP_UNSPECIFIED:
    case WR_IP_MULTICAST:
        break;
    }
    return false;
}

/* The longest quiet observer without an open connection makes room. */
static bool make_room(struct wr_observed *o)
{
    if (o->map.count < WR_OBSERVED_ENTRIES)
        return true;
    wr_list_each(it, &o->order)
    {
        struct wr_observation *e = wr_list_entry(it, struct wr_observation, node);
        if (!wr_list_empty(&e->votes))
            continue;
        forget(o, e);
        return true;
    }
    return false;
}

static struct wr_observation *observation(struct wr_observed *o, const struct wr_waist *local,
                                          const struct wr_ip *from)
{
    struct wr_observation probe = {.local = *local};
    probe.key.net = wr_ip_mask(from, from->family == 4 ? NET_BITS_IP4 : NET_BITS_IP6);
    probe.key.ip = local->addr.ip;
    probe.key.port[0] = (uint8_t)(local->addr.port >> 8);
    probe.key.port[1] = (uint8_t)local->addr.port;
    probe.key.udp = local->udp;
    struct wr_observation *e = wr_map_get(&o->map, key_of(&probe));
    if (e || !make_room(o))
        return e;
    e = wr_memdup(&probe, sizeof(probe));
    if (!e)
        return NULL;
    wr_list_init(&e->node);
    wr_list_init(&e->votes);
    if (wr_map_put(&o->map, key_of(e), e) == 0)
        return e;
    wr_free(e);
    return NULL;
}

int wr_observed_vote(struct wr_observed *o, struct wr_vote *vote, const struct wr_waist *local,
                     const struct wr_addr *remote, struct wr_bytes seen, wr_time now)
{
    struct wr_waist external;
    if (!wr_waist_of(seen, &external) || !plausible(local, remote, &external))
        return WR_EINVAL;
    struct wr_observation *e = observation(o, local, &remote->ip);
    if (!e)
        return WR_ELIMIT;
    if (vote->of != e) {
        wr_observed_leave(o, vote, now);
        wr_list_append(&e->votes, &vote->node);
        vote->of = e;
    }
    e->external = external;
    e->left_at = 0;
    wr_list_remove(&e->node);
    wr_list_append(&o->order, &e->node);
    return 0;
}

void wr_observed_leave(struct wr_observed *o, struct wr_vote *vote, wr_time now)
{
    struct wr_observation *e = vote->of;
    if (!e) {
        wr_list_init(&vote->node);
        return;
    }
    wr_list_remove(&vote->node);
    vote->of = NULL;
    if (!wr_list_empty(&e->votes))
        return;
    e->left_at = now;
    wr_list_remove(&e->node);
    wr_list_append(&o->order, &e->node);
}

void wr_observed_keep(struct wr_observed *o, const struct wr_waist *locals, size_t count)
{
    wr_list_each(it, &o->order)
    {
        struct wr_observation *e = wr_list_entry(it, struct wr_observation, node);
        size_t i = 0;
        while (i < count && !same_waist(&e->local, &locals[i]))
            i++;
        if (i == count)
            forget(o, e);
    }
}

/* ---- counting ----------------------------------------------------------------------------------------- */

static struct wr_candidate *find(struct wr_candidate *list, size_t count, const struct wr_waist *local,
                                 const struct wr_waist *external)
{
    for (size_t i = 0; i < count; i++) {
        if (same_waist(&list[i].local, local) && same_waist(&list[i].external, external))
            return &list[i];
    }
    return NULL;
}

/* More networks first; of equals the one with the smaller address, so that the order is stable. */
static int rank(const struct wr_candidate *a, const struct wr_candidate *b)
{
    if (a->networks != b->networks)
        return a->networks > b->networks ? -1 : 1;
    int c = memcmp(a->external.addr.ip.bytes, b->external.addr.ip.bytes, 16);
    if (c != 0)
        return c;
    return (int)a->external.addr.port - (int)b->external.addr.port;
}

static void sort(struct wr_candidate *list, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct wr_candidate c = list[i];
        size_t at = i;
        for (; at > 0 && rank(&c, &list[at - 1]) < 0; at--)
            list[at] = list[at - 1];
        list[at] = c;
    }
}

static const struct wr_observation *observation_at(const struct wr_list *it)
{
    return (const struct wr_observation *)((uintptr_t)it - offsetof(struct wr_observation, node));
}

/* Takes one off every count and drops what is down to nothing; returns how many are left. */
static size_t thin_out(struct wr_candidate *list, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (--list[i].networks > 0)
            list[kept++] = list[i];
    }
    return kept;
}

/* Names the candidates and counts them. The first pass finds the frequent ones in a table of fixed size
 * (Misra and Gries 1982): whatever more than 1 in 65 say is found, however many different things are said;
 * the second pass counts those exactly. */
static size_t count_all(const struct wr_observed *o, struct wr_candidate list[WR_OBSERVED_LIST_MAX])
{
    size_t n = 0;
    for (const struct wr_list *it = o->order.next; it != &o->order; it = it->next) {
        const struct wr_observation *e = observation_at(it);
        struct wr_candidate *c = find(list, n, &e->local, &e->external);
        if (c)
            c->networks++;
        else if (n < WR_OBSERVED_LIST_MAX)
            list[n++] = (struct wr_candidate){
                .local = e->local, .external = e->external, .networks = 1};
        else
            n = thin_out(list, n);
    }
    for (size_t i = 0; i < n; i++)
        list[i].networks = list[i].all = 0;
    for (const struct wr_list *it = o->order.next; it != &o->order; it = it->next) {
        const struct wr_observation *e = observation_at(it);
        for (size_t i = 0; i < n; i++) {
            if (!same_waist(&list[i].local, &e->local))
                continue;
            list[i].all++;
            list[i].networks += same_waist(&list[i].external, &e->external);
        }
    }
    sort(list, n);
    return n;
}

/* Marks what is to be active; `was` is the present set. */
static void elect(struct wr_candidate *list, size_t count, struct wr_candidate *was, size_t was_count)
{
    for (size_t i = 0; i < count; i++) {
        struct wr_candidate *c = &list[i];
        bool now = find(was, was_count, &c->local, &c->external) != NULL;
        unsigned better = 0;
        for (size_t k = 0; k < i; k++)
            better += list[k].active && same_waist(&list[k].local, &c->local);
        c->active = better < WR_OBSERVED_TOP && c->networks * WR_OBSERVED_SHARE > c->all &&
                    c->networks >= (now ? WR_OBSERVED_KEEP : WR_OBSERVED_ACTIVATE);
    }
}

bool wr_observed_judge(struct wr_observed *o, wr_time now)
{
    wr_list_each(it, &o->order)
    {
        struct wr_observation *e = wr_list_entry(it, struct wr_observation, node);
        if (e->left_at && now - e->left_at >= WR_OBSERVED_MEMORY)
            forget(o, e);
    }
    struct wr_candidate list[WR_OBSERVED_LIST_MAX];
    size_t count = count_all(o, list), active = 0;
    bool changed = false;
    elect(list, count, o->active, o->active_count);
    for (size_t i = 0; i < count; i++) {
        if (!list[i].active)
            continue;
        changed = changed || !find(o->active, o->active_count, &list[i].local, &list[i].external);
        list[active++] = list[i];
    }
    changed = changed || active != o->active_count;
    memcpy(o->active, list, active * sizeof(list[0]));
    o->active_count = active;
    return changed;
}

wr_time wr_observed_next(const struct wr_observed *o)
{
    wr_time next = 0;
    for (const struct wr_list *it = o->order.next; it != &o->order; it = it->next) {
        const struct wr_observation *e = observation_at(it);
        if (e->left_at && (!next || e->left_at + WR_OBSERVED_MEMORY < next))
            next = e->left_at + WR_OBSERVED_MEMORY;
    }
    return next;
}

size_t wr_observed_list(const struct wr_observed *o, struct wr_candidate *out, size_t max)
{
    struct wr_candidate list[WR_OBSERVED_LIST_MAX], active[WR_OBSERVED_LIST_MAX];
    size_t n = count_all(o, list);
    memcpy(active, o->active, o->active_count * sizeof(active[0]));
    for (size_t i = 0; i < n; i++)
        list[i].active = find(active, o->active_count, &list[i].local, &list[i].external) != NULL;
    if (n > max)
        n = max;
    memcpy(out, list, n * sizeof(list[0]));
    return n;
}

size_t wr_observed_fresh(const struct wr_observed *o, struct wr_waist *out, size_t max)
{
    size_t n = 0;
    for (const struct wr_list *it = o->order.prev; it != &o->order && n < max; it = it->prev) {
        const struct wr_waist *seen = &observation_at(it)->external;
        size_t i = 0;
        while (i < n && !same_waist(&out[i], seen))
            i++;
        if (i == n)
            out[n++] = *seen;
    }
    return n;
}
