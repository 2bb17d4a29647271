#include "transport/peerstore.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PEERS_MAX      (1u << 20)    /* the map's own ceiling, above any that limit PEERSTORE has */
#define PEER_OVERHEAD  64            /* bytes of map slot and allocator per entry */
#define PERMANENT      INT64_MAX
#define WHILE_CONNECTED (INT64_MAX - 1)

void wr_peerstore_init(struct wr_peerstore *ps, struct wr_env *env, struct wr_limits *limits)
{
    memset(ps, 0, sizeof(*ps));
    ps->env = env;
    ps->limits = limits;
    wr_map_init(&ps->map, PEERS_MAX, wr_env_hash_seed(env));
    wr_intern_init(&ps->texts, limits, wr_env_hash_seed(env));
    wr_list_init(&ps->fresh);
    wr_list_init(&ps->recent);
}

/* ---- entries ------------------------------------------------------------------------------------------ */

static void clear_addr(struct wr_peerstore *ps, struct wr_peer_addr *a)
{
    if (a->len <= WR_PEER_ADDR_INLINE)
        return;
    wr_limits_give(ps->limits, WR_LIMIT_MEMORY, a->len);
    wr_free(a->bytes.heap);
}

static void free_peer(struct wr_peerstore *ps, struct wr_peer *p)
{
    wr_map_del(&ps->map, wr_peerid_bytes(&p->id));
    wr_list_remove(&p->node);
    for (size_t i = 0; i < p->addr_count; i++)
        clear_addr(ps, &p->addrs[i]);
    wr_free(p->addrs);
    wr_intern_release(&ps->texts, p->agent);
    wr_intern_release(&ps->texts, p->protocol_version);
    wr_intern_release(&ps->texts, p->protocols);
    wr_limits_give(ps->limits, WR_LIMIT_MEMORY,
                   sizeof(*p) + PEER_OVERHEAD + p->addr_cap * sizeof(*p->addrs));
    wr_limits_give(ps->limits, WR_LIMIT_PEERSTORE, 1);
    wr_free(p);
}

void wr_peerstore_clear(struct wr_peerstore *ps)
{
    size_t cursor = 0;
    struct wr_peer *p;
    while ((p = wr_map_next(&ps->map, &cursor)))
        free_peer(ps, p);
    wr_map_clear(&ps->map);
    wr_intern_clear(&ps->texts);
}

struct wr_peer *wr_peerstore_find(const struct wr_peerstore *ps, const struct wr_peerid *id)
{
    return wr_map_get(&ps->map, wr_peerid_bytes(id));
}

static bool pinned(const struct wr_peer *p)
{
    return p->connections > 0 || p->protections > 0;
}

static void touch(struct wr_peerstore *ps, struct wr_peer *p)
{
    wr_list_remove(&p->node);
    wr_list_append(p->seen_at || pinned(p) ? &ps->recent : &ps->fresh, &p->node);
}

/* The first entry of the list that may go. Those that are pinned, or were met since they were put there,
 * move to the end of where they belong: each is passed over once per round, not at every search. */
static struct wr_peer *victim(struct wr_peerstore *ps, struct wr_list *list)
{
    for (size_t tries = ps->map.count; tries > 0 && !wr_list_empty(list); tries--) {
        struct wr_peer *p = wr_list_entry(list->next, struct wr_peer, node);
        if (!pinned(p) && (list == &ps->recent || !p->seen_at))
            return p;
        touch(ps, p);
    }
    return NULL;
}

static bool make_room(struct wr_peerstore *ps)
{
    if (ps->limits->of[WR_LIMIT_PEERSTORE].used < ps->limits->of[WR_LIMIT_PEERSTORE].max)
        return true;
    struct wr_peer *p = victim(ps, &ps->fresh);
    if (!p)
        p = victim(ps, &ps->recent);
    if (!p)
        return false;
    free_peer(ps, p);
    return true;
}

struct wr_peer *wr_peerstore_get(struct wr_peerstore *ps, const struct wr_peerid *id)
{
    struct wr_peer *p = wr_peerstore_find(ps, id);
    if (p)
        return p;
    make_room(ps);
    if (!wr_limits_take(ps->limits, WR_LIMIT_PEERSTORE, 1))
        return NULL;
    if (!wr_limits_take(ps->limits, WR_LIMIT_MEMORY, sizeof(*p) + PEER_OVERHEAD))
        goto no_memory;
    p = wr_alloc(sizeof(*p));
    if (!p)
        goto no_entry;
    p->id = *id;
    wr_list_init(&p->node);
    if (wr_map_put(&ps->map, wr_peerid_bytes(&p->id), p) == 0) {
        touch(ps, p);
        return p;
    }
    wr_free(p);
no_entry:
    wr_limits_give(ps->limits, WR_LIMIT_MEMORY, sizeof(*p) + PEER_OVERHEAD);
no_memory:
    wr_limits_give(ps->limits, WR_LIMIT_PEERSTORE, 1);
    return NULL;
}

void wr_peerstore_protect(struct wr_peerstore *ps, const struct wr_peerid *id, bool on)
{
    struct wr_peer *p = on ? wr_peerstore_get(ps, id) : wr_peerstore_find(ps, id);
    if (!p)
        return;
    if (on && p->protections < UINT16_MAX)
        p->protections++;
    if (!on && p->protections > 0)
        p->protections--;
}

/* ---- addresses ---------------------------------------------------------------------------------------- */

struct wr_bytes wr_peer_addr_bytes(const struct wr_peer_addr *addr)
{
    return WR_BYTES(addr->len <= WR_PEER_ADDR_INLINE ? addr->bytes.in : addr->bytes.heap, addr->len);
}

static struct wr_peer_addr *find_addr(const struct wr_peer *p, struct wr_bytes addr)
{
    for (size_t i = 0; i < p->addr_count; i++) {
        if (wr_bytes_equal(wr_peer_addr_bytes(&p->addrs[i]), addr))
            return &p->addrs[i];
    }
    return NULL;
}

static wr_time expiry(const struct wr_peerstore *ps, wr_time ttl)
{
    if (ttl >= WR_TTL_PERMANENT)
        return PERMANENT;
    return ttl >= WR_TTL_CONNECTED ? WHILE_CONNECTED : wr_env_now(ps->env) + ttl;
}

/* a is worth less than b: expired, never dialled with success, expiring sooner. */
static bool worse(const struct wr_peer_addr *a, const struct wr_peer_addr *b, wr_time now)
{
    if ((a->expires_at <= now) != (b->expires_at <= now))
        return a->expires_at <= now;
    if ((a->expires_at == PERMANENT) != (b->expires_at == PERMANENT))
        return b->expires_at == PERMANENT;
    if ((a->dialled_ok_at == 0) != (b->dialled_ok_at == 0))
        return a->dialled_ok_at == 0;
    return a->expires_at < b->expires_at;
}

static void drop_addr(struct wr_peerstore *ps, struct wr_peer *p, size_t i)
{
    clear_addr(ps, &p->addrs[i]);
    p->addr_count--;
    memmove(&p->addrs[i], &p->addrs[i + 1], (p->addr_count - i) * sizeof(p->addrs[0]));
}

static void resize_addrs(struct wr_peerstore *ps, struct wr_peer *p, size_t cap)
{
    size_t size = sizeof(p->addrs[0]);
    if (cap > p->addr_cap && !wr_limits_take(ps->limits, WR_LIMIT_MEMORY, (cap - p->addr_cap) * size))
        return;
    struct wr_peer_addr *addrs = wr_realloc(p->addrs, cap * size);
    if (addrs)
        p->addrs = addrs;
    if (cap > p->addr_cap && !addrs)
        wr_limits_give(ps->limits, WR_LIMIT_MEMORY, (cap - p->addr_cap) * size);
    if (!addrs)
        return;
    if (cap < p->addr_cap)
        wr_limits_give(ps->limits, WR_LIMIT_MEMORY, (p->addr_cap - cap) * size);
    p->addr_cap = (uint8_t)cap;
}

/* A place for one more, taken from the worst when full and the newcomer is better. */
static struct wr_peer_addr *addr_slot(struct wr_peerstore *ps, struct wr_peer *p,
                                      const struct wr_peer_addr *fresh)
{
    if (p->addr_count == WR_PEER_ADDRS_MAX) {
        size_t worst = 0;
        wr_time now = wr_env_now(ps->env);
        for (size_t i = 1; i < p->addr_count; i++) {
            if (worse(&p->addrs[i], &p->addrs[worst], now))
                worst = i;
        }
        if (!worse(&p->addrs[worst], fresh, now))
            return NULL;
        drop_addr(ps, p, worst);
    }
    if (p->addr_count == p->addr_cap)
        resize_addrs(ps, p, (size_t)p->addr_cap + 1);
    return p->addr_count < p->addr_cap ? &p->addrs[p->addr_count] : NULL;
}

static int insert_addr(struct wr_peerstore *ps, struct wr_peer *p, struct wr_bytes addr,
                       wr_time expires_at, bool certified)
{
    struct wr_peer_addr *a = find_addr(p, addr);
    if (a) {
        if (expires_at > a->expires_at)
            a->expires_at = expires_at;
        a->certified = a->certified || certified;
        return 0;
    }
    struct wr_peer_addr fresh = {
        .expires_at = expires_at, .certified = certified, .len = (uint8_t)addr.len};
    uint8_t *heap = NULL;
    if (addr.len > WR_PEER_ADDR_INLINE) {
        if (!wr_limits_take(ps->limits, WR_LIMIT_MEMORY, addr.len))
            return WR_ELIMIT;
        heap = wr_memdup(addr.ptr, addr.len);
        fresh.bytes.heap = heap;
    } else {
        memcpy(fresh.bytes.in, addr.ptr, addr.len);
    }
    a = heap || addr.len <= WR_PEER_ADDR_INLINE ? addr_slot(ps, p, &fresh) : NULL;
    if (a) {
        *a = fresh;
        p->addr_count++;
        return 0;
    }
    if (addr.len > WR_PEER_ADDR_INLINE)
        wr_limits_give(ps->limits, WR_LIMIT_MEMORY, addr.len);
    wr_free(heap);
    return WR_ELIMIT;
}

/* Checks an address and takes the peer's own id off its end. */
static int bare_addr(const struct wr_peerid *id, struct wr_bytes *addr, struct wr_maddr *checked)
{
    if (addr->len == 0 || wr_maddr_decode(*addr, checked) < 0)
        return WR_EINVAL;
    struct wr_bytes bare = wr_maddr_strip_peer(wr_maddr_bytes(checked));
    struct wr_peerid named;
    if (bare.len == 0)
        return WR_EINVAL;
    if (bare.len < checked->len && wr_maddr_peer(wr_maddr_bytes(checked), &named) &&
        !wr_peerid_equal(&named, id))
        return WR_EPEERID;
    *addr = bare;
    return 0;
}

int wr_peerstore_add_addr(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr,
                          wr_time ttl, bool certified)
{
    struct wr_maddr checked;
    int err = bare_addr(id, &addr, &checked);
    if (err < 0)
        return err;
    struct wr_peer *p = wr_peerstore_get(ps, id);
    return p ? insert_addr(ps, p, addr, expiry(ps, ttl), certified) : WR_ELIMIT;
}

static void lower_expiry(struct wr_peer *p, wr_time to)
{
    for (size_t i = 0; i < p->addr_count; i++) {
        if (p->addrs[i].expires_at != PERMANENT && p->addrs[i].expires_at > to)
            p->addrs[i].expires_at = to;
    }
}

static void drop_expired(struct wr_peerstore *ps, struct wr_peer *p)
{
    wr_time now = wr_env_now(ps->env);
    size_t before = p->addr_count;
    for (size_t i = p->addr_count; i > 0; i--) {
        if (p->addrs[i - 1].expires_at <= now)
            drop_addr(ps, p, i - 1);
    }
    if (p->addr_count < before)
        resize_addrs(ps, p, p->addr_count ? p->addr_count : 1);
}

int wr_peerstore_set_addrs(struct wr_peerstore *ps, const struct wr_peerid *id,
                           const struct wr_maddr *addrs, size_t count, wr_time ttl, bool certified)
{
    struct wr_peer *p = wr_peerstore_get(ps, id);
    if (!p)
        return WR_ELIMIT;
    lower_expiry(p, expiry(ps, WR_TTL_TEMP));
    for (size_t i = 0; i < p->addr_count; i++)
        p->addrs[i].certified = false;
    int err = 0;
    for (size_t i = 0; i < count; i++) {
        struct wr_maddr checked;
        struct wr_bytes addr = wr_maddr_bytes(&addrs[i]);
        int e = bare_addr(id, &addr, &checked);
        if (e == 0)
            e = insert_addr(ps, p, addr, expiry(ps, ttl), certified);
        if (e == WR_ELIMIT)
            err = e;
    }
    return err;
}

void wr_peerstore_demote(struct wr_peerstore *ps, const struct wr_peerid *id, wr_time ttl)
{
    struct wr_peer *p = wr_peerstore_find(ps, id);
    if (!p)
        return;
    drop_expired(ps, p);
    for (size_t i = 0; i < p->addr_count; i++) {
        if (p->addrs[i].expires_at == WHILE_CONNECTED)
            p->addrs[i].expires_at = expiry(ps, ttl);
    }
    touch(ps, p);
}

size_t wr_peerstore_addrs(const struct wr_peerstore *ps, const struct wr_peerid *id,
                          struct wr_maddr *out, size_t max)
{
    const struct wr_peer *p = wr_peerstore_find(ps, id);
    const struct wr_peer_addr *sorted[WR_PEER_ADDRS_MAX];
    size_t n = 0;
    wr_time now = wr_env_now(ps->env);
    for (size_t i = 0; p && i < p->addr_count; i++) {
        const struct wr_peer_addr *a = &p->addrs[i];
        if (a->expires_at <= now)
            continue;
        size_t at = n++;
        /* What worked last comes first, then what is believed longest. */
        while (at > 0 && (a->dialled_ok_at > sorted[at - 1]->dialled_ok_at ||
                          (a->dialled_ok_at == sorted[at - 1]->dialled_ok_at &&
                           a->expires_at > sorted[at - 1]->expires_at))) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = a;
    }
    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++) {
        struct wr_bytes addr = wr_peer_addr_bytes(sorted[i]);
        out[i].len = (uint8_t)addr.len;
        memcpy(out[i].bytes, addr.ptr, addr.len);
    }
    return n;
}

void wr_peerstore_dialled(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr,
                          bool ok)
{
    struct wr_peer *p = wr_peerstore_find(ps, id);
    if (!p)
        return;
    struct wr_peer_addr *a = find_addr(p, wr_maddr_strip_peer(addr));
    if (ok && a)
        a->dialled_ok_at = wr_env_now(ps->env);
    if (ok)
        p->failed_dials = 0;
    else if (p->failed_dials < UINT8_MAX)
        p->failed_dials++;
}

void wr_peerstore_drop_addr(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr)
{
    struct wr_peer *p = wr_peerstore_find(ps, id);
    struct wr_peer_addr *a = p ? find_addr(p, wr_maddr_strip_peer(addr)) : NULL;
    if (a && a->expires_at != PERMANENT)
        drop_addr(ps, p, (size_t)(a - p->addrs));
}

/* ---- what identify says ------------------------------------------------------------------------------- */

static bool printable(struct wr_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~')
            return false;
    }
    return text.len > 0;
}

static int by_bytes(const void *a, const void *b)
{
    const struct wr_bytes *x = a, *y = b;
    return wr_bytes_compare(*x, *y);
}

int wr_peerstore_set_protocols(struct wr_peerstore *ps, const struct wr_peerid *id,
                               const struct wr_bytes *names, size_t count)
{
    struct wr_bytes kept[WR_PEER_PROTOCOLS_MAX];
    size_t n = 0;
    struct wr_peer *p = wr_peerstore_get(ps, id);
    if (!p)
        return WR_ELIMIT;
    for (size_t i = 0; i < count && n < WR_PEER_PROTOCOLS_MAX; i++) {
        if (printable(names[i]))
            kept[n++] = names[i];
    }
    qsort(kept, n, sizeof(kept[0]), by_bytes);
    struct wr_buf text;
    wr_buf_init(&text, WR_PEER_PROTOCOLS_LEN);
    for (size_t i = 0; i < n; i++) {
        if ((i > 0 && wr_bytes_equal(kept[i], kept[i - 1])) ||
            text.len + kept[i].len + 1 > WR_PEER_PROTOCOLS_LEN)
            continue;
        wr_buf_put_bytes(&text, kept[i]);
        wr_buf_put_u8(&text, 0);
    }
    const struct wr_interned *list = text.full ? NULL : wr_intern_get(&ps->texts, wr_buf_bytes(&text));
    wr_buf_clear(&text);
    if (!list)
        return WR_ELIMIT;
    wr_intern_release(&ps->texts, p->protocols);
    p->protocols = list;
    p->seen_at = wr_env_now(ps->env);
    touch(ps, p);
    return 0;
}

/* Shared copy of a text for people: what cannot be shown becomes '?'. */
static int set_text(struct wr_peerstore *ps, const struct wr_interned **at, struct wr_bytes text)
{
    uint8_t clean[WR_PEER_AGENT_LEN];
    size_t len = text.len < sizeof(clean) ? text.len : sizeof(clean);
    for (size_t i = 0; i < len; i++)
        clean[i] = text.ptr[i] >= ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '?';
    const struct wr_interned *copy = len ? wr_intern_get(&ps->texts, WR_BYTES(clean, len)) : NULL;
    if (len && !copy)
        return WR_ELIMIT;
    wr_intern_release(&ps->texts, *at);
    *at = copy;
    return 0;
}

int wr_peerstore_set_agent(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes agent,
                           struct wr_bytes protocol_version)
{
    struct wr_peer *p = wr_peerstore_get(ps, id);
    if (!p)
        return WR_ELIMIT;
    int err = set_text(ps, &p->agent, agent);
    return err < 0 ? err : set_text(ps, &p->protocol_version, protocol_version);
}

int wr_peerstore_set_record(struct wr_peerstore *ps, const struct wr_peerid *id, uint64_t seq)
{
    struct wr_peer *p = wr_peerstore_get(ps, id);
    if (!p)
        return WR_ELIMIT;
    if (seq <= p->record_seq)
        return WR_ESTALE;
    p->record_seq = seq;
    return 0;
}

const char *wr_peer_protocol(const struct wr_peer *peer, size_t *cursor)
{
    if (!peer->protocols || *cursor >= peer->protocols->len)
        return NULL;
    const char *name = (const char *)peer->protocols->bytes + *cursor;
    *cursor += strlen(name) + 1;
    return name;
}

const char *wr_peer_agent(const struct wr_peer *peer)
{
    return peer->agent ? (const char *)peer->agent->bytes : "";
}

bool wr_peer_is_one_of(const struct wr_peer *peer, const char *const *agents)
{
    const char *agent = peer ? wr_peer_agent(peer) : "";
    for (; *agents; agents++)
        if (strncmp(agent, *agents, strlen(*agents)) == 0)
            return true;
    return false;
}

int wr_peerstore_speaks(const struct wr_peerstore *ps, const struct wr_peerid *id, const char *protocol)
{
    const struct wr_peer *p = wr_peerstore_find(ps, id);
    if (!p || !p->protocols)
        return -1;
    size_t cursor = 0;
    for (const char *name = wr_peer_protocol(p, &cursor); name; name = wr_peer_protocol(p, &cursor)) {
        if (strcmp(name, protocol) == 0)
            return 1;
    }
    return 0;
}

void wr_peerstore_sweep(struct wr_peerstore *ps, size_t budget)
{
    while (budget-- > 0) {
        struct wr_peer *p = wr_map_next(&ps->map, &ps->cursor);
        if (!p) {
            ps->cursor = 0;
            return;
        }
        drop_expired(ps, p);
        if (p->addr_count == 0 && !pinned(p))
            free_peer(ps, p);
    }
}
