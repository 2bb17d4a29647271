#include "transport/addrbook.h"

#include <string.h>

const char *wr_addr_verdict_name(enum wr_addr_verdict verdict)
{
    static const char *const names[] = {"unknown", "reachable", "unreachable"};
    return names[verdict];
}

void wr_addrbook_init(struct wr_addrbook *b)
{
    memset(b, 0, sizeof(*b));
}

static size_t find(const struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_source source)
{
    size_t i = 0;
    while (i < b->count && !(b->of[i].source == source &&
                             wr_bytes_equal(wr_maddr_bytes(&b->of[i].addr), addr)))
        i++;
    return i;
}

static const struct wr_own_addr *find_any(const struct wr_addrbook *b, struct wr_bytes addr)
{
    for (size_t i = 0; i < b->count; i++) {
        if (wr_bytes_equal(wr_maddr_bytes(&b->of[i].addr), addr))
            return &b->of[i];
    }
    return NULL;
}

bool wr_addrbook_put(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_source source,
                     wr_time now)
{
    addr = wr_maddr_strip_peer(addr);
    if (addr.len == 0 || addr.len > WR_MADDR_MAX || b->count == WR_ADDRBOOK_MAX ||
        find(b, addr, source) < b->count)
        return false;
    const struct wr_own_addr *twin = find_any(b, addr);
    struct wr_own_addr fresh = {.source = source, .since = now};
    if (twin) {
        fresh.verdict = twin->verdict;
        fresh.since = twin->since;
    }
    fresh.addr.len = (uint8_t)addr.len;
    memcpy(fresh.addr.bytes, addr.ptr, addr.len);
    b->of[b->count++] = fresh;
    b->generation++;
    return true;
}

static void drop(struct wr_addrbook *b, size_t i)
{
    b->count--;
    memmove(&b->of[i], &b->of[i + 1], (b->count - i) * sizeof(b->of[0]));
    b->generation++;
}

bool wr_addrbook_del(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_source source)
{
    size_t i = find(b, wr_maddr_strip_peer(addr), source);
    if (i == b->count)
        return false;
    drop(b, i);
    return true;
}

bool wr_addrbook_clear_source(struct wr_addrbook *b, enum wr_addr_source source)
{
    size_t before = b->count;
    for (size_t i = b->count; i > 0; i--) {
        if (b->of[i - 1].source == source)
            drop(b, i - 1);
    }
    return b->count < before;
}

void wr_addrbook_inherit(struct wr_addrbook *b, const struct wr_addrbook *old)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct wr_own_addr *was = find_any(old, wr_maddr_bytes(&b->of[i].addr));
        if (!was)
            continue;
        b->of[i].verdict = was->verdict;
        b->of[i].since = was->since;
    }
}

bool wr_addrbook_judge(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_verdict verdict,
                       wr_time now)
{
    bool changed = false;
    addr = wr_maddr_strip_peer(addr);
    for (size_t i = 0; i < b->count; i++) {
        struct wr_own_addr *own = &b->of[i];
        if (own->verdict == verdict || !wr_bytes_equal(wr_maddr_bytes(&own->addr), addr))
            continue;
        own->verdict = verdict;
        own->since = now;
        changed = true;
    }
    if (changed)
        b->generation++;
    return changed;
}

bool wr_addrbook_has(const struct wr_addrbook *b, struct wr_bytes addr)
{
    return find_any(b, wr_maddr_strip_peer(addr)) != NULL;
}

/* ---- announcing --------------------------------------------------------------------------------------- */

/* From how far away an address makes sense, nearest first. */
enum scope { SCOPE_NONE, SCOPE_LOOPBACK, SCOPE_LINK, SCOPE_PRIVATE, SCOPE_PUBLIC };

_Static_assert(SCOPE_PUBLIC + 1 == WR_ADDRBOOK_SCOPES, "one number each");

static enum scope scope_of_ip(const struct wr_addrbook *b, const struct wr_ip *ip)
{
    if (b->policy && wr_policy_is_public(b->policy, ip))
        return SCOPE_PUBLIC;
    switch (wr_ip_classify(ip)) {
    case WR_IP_PUBLIC:
        return SCOPE_PUBLIC;
    case WR_IP_LOOPBACK:
        return SCOPE_LOOPBACK;
    case WR_IP_LINK_LOCAL:
        return SCOPE_LINK;
    case WR_IP_PRIVATE:
    case WR_IP_RESERVED:    /* somebody numbers a link with it: as good as private */
        return SCOPE_PRIVATE;
    case WR_IP_UNSPECIFIED:
    case WR_IP_MULTICAST:
        break;
    }
    return SCOPE_NONE;
}

/* A name, or a relay known by a name, is meant for everybody; a relayed address goes as far as the relay's. */
static enum scope scope_of(const struct wr_addrbook *b, const struct wr_own_addr *own)
{
    struct wr_addr addr;
    if (!wr_maddr_addr(wr_maddr_bytes(&own->addr), &addr))
        return SCOPE_PUBLIC;
    return addr.port ? scope_of_ip(b, &addr.ip) : SCOPE_NONE;
}

static bool fits(enum scope own, enum scope peer)
{
    if (own == SCOPE_NONE)
        return false;
    if (own == SCOPE_PUBLIC || peer == SCOPE_LOOPBACK)
        return true;
    if (own == SCOPE_PRIVATE)
        return peer == SCOPE_PRIVATE || peer == SCOPE_LINK;
    return own == SCOPE_LINK && peer == SCOPE_LINK;
}

/* Smaller is announced earlier: confirmed, then public, then direct; relayed last. */
static unsigned cost(const struct wr_own_addr *own, enum scope scope)
{
    return (own->verdict == WR_ADDR_REACHABLE ? 0u : 1u) + (scope == SCOPE_PUBLIC ? 0u : 2u) +
           (own->source == WR_ADDR_RELAYED ? 4u : 0u);
}

/* What one peer claims, or a gateway promises, counts once somebody got through to it. So does what many see when
 * strangers do not reach us: dialled before the time to punch, it makes some routers move the port. */
static bool presentable(const struct wr_addrbook *b, const struct wr_own_addr *own)
{
    struct wr_addr at;
    bool proven = own->verdict == WR_ADDR_REACHABLE;
    if (own->source == WR_ADDR_CANDIDATE || own->source == WR_ADDR_MAPPED)
        return proven;
    if (own->source == WR_ADDR_OBSERVED && wr_maddr_addr(wr_maddr_bytes(&own->addr), &at) &&
        (at.ip.family == 4 ? b->private4 : b->private6))
        return proven;
    return own->verdict != WR_ADDR_UNREACHABLE;
}

bool wr_addrbook_set_private(struct wr_addrbook *b, unsigned family, bool private)
{
    bool *of = family == 6 ? &b->private6 : &b->private4;
    bool changed = *of != private;
    *of = private;
    b->generation += changed;
    return changed;
}

/* The same address from an earlier source, which is announced already? */
static bool repeated(const struct wr_addrbook *b, const struct wr_own_addr *own)
{
    for (const struct wr_own_addr *other = b->of; other < own; other++)
        if (presentable(b, other) && wr_bytes_equal(wr_maddr_bytes(&other->addr), wr_maddr_bytes(&own->addr)))
            return true;
    return false;
}

size_t wr_addrbook_announce(const struct wr_addrbook *b, const struct wr_ip *to, struct wr_maddr *out,
                            size_t max)
{
    const struct wr_own_addr *sorted[WR_ADDRBOOK_MAX];
    unsigned costs[WR_ADDRBOOK_MAX];
    enum scope peer = to ? scope_of_ip(b, to) : SCOPE_PUBLIC;
    size_t n = 0;
    for (size_t i = 0; i < b->count; i++) {
        const struct wr_own_addr *own = &b->of[i];
        enum scope scope = scope_of(b, own);
        if (!presentable(b, own) || !fits(scope, peer) || repeated(b, own))
            continue;
        size_t at = n++;
        unsigned c = cost(own, scope);
        for (; at > 0 && c < costs[at - 1]; at--) {
            sorted[at] = sorted[at - 1];
            costs[at] = costs[at - 1];
        }
        sorted[at] = own;
        costs[at] = c;
    }
    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++)
        out[i] = sorted[i]->addr;
    return n;
}

unsigned wr_addrbook_scope(const struct wr_addrbook *b, const struct wr_ip *to)
{
    return (unsigned)(to ? scope_of_ip(b, to) : SCOPE_PUBLIC);
}

bool wr_addrbook_public(const struct wr_addrbook *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct wr_own_addr *own = &b->of[i];
        if (own->verdict == WR_ADDR_REACHABLE && own->source != WR_ADDR_RELAYED &&
            scope_of(b, own) == SCOPE_PUBLIC)
            return true;
    }
    return false;
}
