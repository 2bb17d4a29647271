#include "autonat/verdict.h"

#include <string.h>

/* ---- networks -------------------------------------------------------------------------------------- */

static bool same_network(unsigned bits, const struct wr_ip *a, const struct wr_ip *b)
{
    if (!bits)
        bits = WR_VERDICT_BITS;
    return wr_ip_same_prefix(a, b, a->family == 4 ? bits : 2 * bits);
}

static unsigned count_networks(unsigned bits, const struct wr_ip *servers, size_t count)
{
    unsigned n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < i && !same_network(bits, &servers[k], &servers[i]))
            k++;
        n += k == i;
    }
    return n;
}

unsigned wr_verdict_networks(struct wr_verdict *v, const struct wr_ip *servers, size_t count)
{
    unsigned n = 0;
    for (v->bits = WR_VERDICT_BITS; v->bits <= 32; v->bits += 8) {
        n = count_networks(v->bits, servers, count);
        if (n >= WR_VERDICT_NEED)
            return n;
    }
    v->bits = 32;
    return n;
}

/* ---- the set --------------------------------------------------------------------------------------- */

void wr_verdict_begin(struct wr_verdict *v)
{
    for (size_t i = 0; i < v->count; i++)
        v->of[i].marked = false;
}

int wr_verdict_find(const struct wr_verdict *v, struct wr_bytes addr)
{
    for (size_t i = 0; i < v->count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&v->of[i].addr), addr))
            return (int)i;
    return -1;
}

bool wr_verdict_put(struct wr_verdict *v, struct wr_bytes addr, bool natted, wr_time now)
{
    struct wr_addr at;
    int i = wr_verdict_find(v, addr);
    if (i >= 0) {
        v->of[i].marked = true;
        v->of[i].natted = natted;
        return true;
    }
    if (v->count == WR_VERDICT_ADDRS || addr.len > WR_MADDR_MAX || !wr_maddr_addr(addr, &at))
        return false;
    struct wr_verdict_addr *a = &v->of[v->count++];
    *a = (struct wr_verdict_addr){.family = at.ip.family,
                                  .udp = wr_maddr_kind(addr) == WR_MADDR_QUIC,
                                  .natted = natted,
                                  .marked = true,
                                  .since = now,
                                  .next_at = now};
    a->addr.len = (uint8_t)addr.len;
    memcpy(a->addr.bytes, addr.ptr, addr.len);
    return true;
}

bool wr_verdict_opened(struct wr_verdict *v, size_t i, bool opened, wr_time now)
{
    struct wr_verdict_addr *a = &v->of[i];
    bool news = opened != a->opened && opened != (a->verdict == WR_ADDR_REACHABLE);
    a->opened = opened;
    if (!news)
        return false;
    a->count = 0;
    a->next_at = now;
    a->round_asked = a->nothing = a->checks = a->curious = 0;
    a->round_at = a->verdict == WR_ADDR_REACHABLE ? now : 0;
    if (a->verdict != WR_ADDR_UNREACHABLE)
        return false;
    a->verdict = WR_ADDR_UNKNOWN;
    a->since = now;
    return true;
}

void wr_verdict_end(struct wr_verdict *v)
{
    size_t kept = 0;
    for (size_t i = 0; i < v->count; i++) {
        if (!v->of[i].marked)
            continue;
        if (kept != i)
            v->of[kept] = v->of[i];
        kept++;
    }
    v->count = kept;
}

void wr_verdict_reset(struct wr_verdict *v)
{
    v->count = 0;
}

/* ---- evidence -------------------------------------------------------------------------------------- */

static bool counts(const struct wr_verdict_addr *a, const struct wr_verdict_evidence *e, wr_time now)
{
    return now - e->at < WR_VERDICT_EXPIRES && e->at >= a->round_at;
}

static const struct wr_verdict_evidence *evidence(const struct wr_verdict_addr *a, unsigned bits,
                                                  const struct wr_ip *server, bool stranger, wr_time now)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->of[i].stranger == stranger && same_network(bits, &a->of[i].from, server) &&
            counts(a, &a->of[i], now))
            return &a->of[i];
    return NULL;
}

/* The newest answer of each server and kind; beyond the bound the oldest goes. */
static void keep(struct wr_verdict_addr *a, const struct wr_verdict_evidence *e)
{
    size_t at = 0, oldest = 0;
    while (at < a->count && !(a->of[at].stranger == e->stranger && wr_ip_equal(&a->of[at].from, &e->from)))
        at++;
    for (size_t i = 0; i < a->count; i++)
        if (a->of[i].at < a->of[oldest].at)
            oldest = i;
    if (at == a->count && a->count == WR_VERDICT_EVIDENCE)
        at = oldest;
    else if (at == a->count)
        a->count++;
    a->of[at] = *e;
}

/* One network speaks once: of its answers the worst counts, for a stranger that fails outweighs a friend
 * that gets through, and the other way round cannot be; then the stranger's. */
static bool speaks_before(const struct wr_verdict_evidence *a, const struct wr_verdict_evidence *b,
                          bool earlier)
{
    if (a->reached != b->reached)
        return !a->reached;
    return a->stranger != b->stranger ? a->stranger : earlier;
}

static void tally(const struct wr_verdict_addr *a, unsigned bits, wr_time now, wr_time since,
                  struct wr_verdict_tally *out)
{
    *out = (struct wr_verdict_tally){0};
    for (size_t i = 0; i < a->count; i++) {
        const struct wr_verdict_evidence *e = &a->of[i];
        bool silent = now - e->at >= WR_VERDICT_EXPIRES || e->at < since;
        for (size_t k = 0; k < a->count && !silent; k++)
            silent = k != i && a->of[k].at >= since && now - a->of[k].at < WR_VERDICT_EXPIRES &&
                     same_network(bits, &a->of[k].from, &e->from) && speaks_before(&a->of[k], e, k < i);
        if (silent)
            continue;
        if (!e->reached)
            out->failed++;
        else if (e->stranger || !a->natted)
            out->reached++;
        else
            out->half++;
    }
}

void wr_verdict_count(const struct wr_verdict *v, size_t i, wr_time now, struct wr_verdict_tally *out)
{
    tally(&v->of[i], v->bits, now, 0, out);
}

/* ---- judging --------------------------------------------------------------------------------------- */

static enum wr_addr_verdict decide(const struct wr_verdict *v, const struct wr_verdict_addr *a,
                                   const struct wr_verdict_world *world, wr_time now)
{
    struct wr_verdict_tally t;
    unsigned need = world->settled && world->networks < WR_VERDICT_NEED ? world->networks : WR_VERDICT_NEED;
    tally(a, v->bits, now, a->round_at, &t);
    if (need == 0)
        need = 1;
    unsigned through = t.reached + t.half;
    if (t.reached > 0 && through >= need && through > 2 * t.failed)
        return WR_ADDR_REACHABLE;
    if (t.failed >= need && t.failed > 2 * t.reached)
        return WR_ADDR_UNREACHABLE;
    return WR_ADDR_UNKNOWN;
}

static wr_time spread(wr_time t, uint32_t jitter)
{
    return t - t / 10 + (wr_time)(jitter % 1000) * (t / 5) / 1000;
}

static wr_time doubled(wr_time first, unsigned times, wr_time most)
{
    wr_time t = first;
    while (times-- > 0 && t < most)
        t *= 2;
    return t < most ? t : most;
}

/* The round is over: until the next check all answers count again. */
static void close_round(struct wr_verdict_addr *a, const struct wr_verdict_world *world, wr_time now)
{
    wr_time pause = WR_VERDICT_RECHECK;
    if (a->verdict == WR_ADDR_UNREACHABLE)
        pause = doubled(WR_VERDICT_RETRY, a->checks++, WR_VERDICT_RECHECK);
    a->round_at = 0;
    a->round_asked = 0;
    a->next_at = now + spread(pause, world->jitter);
}

/* The old answers of networks that did not speak in this round would only vote for the past. */
static void forget_before(struct wr_verdict_addr *a, wr_time at)
{
    size_t kept = 0;
    for (size_t i = 0; i < a->count; i++)
        if (a->of[i].at >= at)
            a->of[kept++] = a->of[i];
    a->count = kept;
}

/* Strangers do not get in: do friends? That tells one kind of filter from another. */
static void be_curious(struct wr_verdict_addr *a, wr_time now)
{
    unsigned friends = 0;
    for (size_t i = 0; i < a->count; i++)
        friends += !a->of[i].stranger;
    a->curious = 0;
    if (a->verdict != WR_ADDR_UNREACHABLE || !a->natted || friends >= WR_VERDICT_FRIENDS)
        return;
    a->curious = WR_VERDICT_FRIENDS - friends;
    a->next_at = now;
}

bool wr_verdict_judge(struct wr_verdict *v, size_t i, const struct wr_verdict_world *world, wr_time now)
{
    struct wr_verdict_addr *a = &v->of[i];
    enum wr_addr_verdict verdict = decide(v, a, world, now);
    if (verdict == WR_ADDR_UNKNOWN || verdict == a->verdict)
        return false;
    forget_before(a, a->round_at);
    a->verdict = verdict;
    a->since = now;
    a->checks = 0;
    close_round(a, world, now);
    be_curious(a, now);
    return true;
}

static void note_nothing(struct wr_verdict_addr *a, wr_time now)
{
    a->nothing++;
    /* The first ones are the server's whims: another one is asked at once. */
    a->next_at =
        now + (a->nothing <= WR_VERDICT_NEED
                   ? WR_SEC
                   : doubled(WR_VERDICT_BACKOFF, a->nothing - WR_VERDICT_NEED - 1, WR_VERDICT_BACKOFF_MAX));
}

/* Does the answer agree with what is believed? One through a NAT by a friend says nothing against either.
 */
static bool agrees(const struct wr_verdict_addr *a, const struct wr_verdict_evidence *e)
{
    if (e->reached && a->natted && !e->stranger)
        return true;
    return e->reached == (a->verdict == WR_ADDR_REACHABLE);
}

bool wr_verdict_note(struct wr_verdict *v, size_t i, const struct wr_verdict_evidence *answer,
                     enum wr_verdict_outcome outcome, const struct wr_verdict_world *world, wr_time now)
{
    struct wr_verdict_addr *a = &v->of[i];
    if (a->running)
        a->running--;
    if (outcome == WR_VERDICT_NOTHING) {
        note_nothing(a, now);
        if (a->verdict != WR_ADDR_UNKNOWN && a->round_asked >= WR_VERDICT_ROUND_MAX)
            close_round(a, world, now);
        return false;
    }
    struct wr_verdict_evidence e = *answer;
    e.reached = outcome == WR_VERDICT_REACHED;
    e.at = now;
    a->nothing = 0;
    keep(a, &e);
    if (wr_verdict_judge(v, i, world, now))
        return true;
    if (a->verdict == WR_ADDR_UNKNOWN) {
        a->next_at = now;
        return false;
    }
    if (a->curious)
        return false;
    bool over = a->round_asked >= WR_VERDICT_ROUND_MAX || decide(v, a, world, now) == a->verdict;
    if (over || (a->round_asked <= 1 && agrees(a, &e)))
        close_round(a, world, now);
    else
        a->next_at = now + WR_VERDICT_DOUBT;
    return false;
}

/* ---- asking ---------------------------------------------------------------------------------------- */

int wr_verdict_due(const struct wr_verdict *v, size_t from, wr_time now)
{
    for (size_t i = from; i < v->count; i++) {
        const struct wr_verdict_addr *a = &v->of[i];
        /* A check of what is known takes one question at a time. */
        unsigned most = a->verdict == WR_ADDR_UNKNOWN ? WR_VERDICT_PARALLEL : 1;
        if (a->next_at <= now && a->running < most)
            return (int)i;
    }
    return -1;
}

wr_time wr_verdict_next(const struct wr_verdict *v)
{
    wr_time next = 0;
    for (size_t i = 0; i < v->count; i++) {
        const struct wr_verdict_addr *a = &v->of[i];
        unsigned most = a->verdict == WR_ADDR_UNKNOWN ? WR_VERDICT_PARALLEL : 1;
        if (a->running < most && (!next || a->next_at < next))
            next = a->next_at;
    }
    return next;
}

/* Where there is no NAT one stranger is enough, to tell an open address from one behind a firewall that
 * lets friends in. */
static bool strangers_asked(const struct wr_verdict_addr *a, wr_time now)
{
    for (size_t i = 0; i < a->count; i++)
        if (counts(a, &a->of[i], now) && (a->of[i].stranger || a->of[i].stranger_wanted))
            return true;
    return a->running > 0;
}

/* A server that found no stranger may find one the next time: whom it asks is chance. Little is missing but that. */
static wr_time stranger_again(const struct wr_verdict_addr *a, const struct wr_verdict_tally *t, wr_time now)
{
    wr_time waited = (now - a->since) / 2;
    if (a->verdict != WR_ADDR_UNKNOWN || t->half == 0 || t->reached || waited > WR_VERDICT_STRANGER_AGAIN)
        return WR_VERDICT_STRANGER_AGAIN;
    return waited > WR_VERDICT_STRANGER_SOON ? waited : WR_VERDICT_STRANGER_SOON;
}

enum wr_verdict_wish wr_verdict_wants(const struct wr_verdict *v, size_t i, const struct wr_ip *server,
                                      bool delegates, wr_time now)
{
    struct wr_verdict_addr probe = v->of[i];
    if (probe.curious)
        return evidence(&probe, v->bits, server, false, now) ? WR_VERDICT_NOT : WR_VERDICT_ANY;
    /* A check that is due begins a round: answers of before are not in the way. */
    if (probe.verdict != WR_ADDR_UNKNOWN && !probe.round_at)
        probe.round_at = now;
    /* Answers that contradict each other are asked for again: one of them was ill, or the world has
     * changed. */
    struct wr_verdict_tally t;
    tally(&probe, v->bits, now, 0, &t);
    if (probe.verdict == WR_ADDR_UNKNOWN && t.reached && t.failed)
        probe.round_at = now - WR_VERDICT_RETRY;
    const struct wr_verdict_evidence *friend = evidence(&probe, v->bits, server, false, now);
    const struct wr_verdict_evidence *stranger = evidence(&probe, v->bits, server, true, now);
    if (!probe.natted && !friend && !stranger && delegates && !strangers_asked(&probe, now))
        return WR_VERDICT_STRANGER;
    if (!probe.natted || !delegates)
        return friend || stranger ? WR_VERDICT_NOT : WR_VERDICT_ANY;
    if (stranger)
        /* Whether friends get in tells the kind of filter. */
        return stranger->reached || friend ? WR_VERDICT_NOT : WR_VERDICT_ANY;
    if (friend && friend->stranger_wanted && now - friend->at < stranger_again(&probe, &t, now))
        return WR_VERDICT_NOT;
    return WR_VERDICT_STRANGER;
}

wr_time wr_verdict_again(const struct wr_verdict *v, size_t i, const struct wr_ip *server, wr_time now)
{
    const struct wr_verdict_addr *a = &v->of[i];
    const struct wr_verdict_evidence *friend = evidence(a, v->bits, server, false, now);
    struct wr_verdict_tally t;
    if (a->verdict != WR_ADDR_UNKNOWN || !a->natted || !friend || !friend->stranger_wanted ||
        evidence(a, v->bits, server, true, now))
        return 0;
    tally(a, v->bits, now, 0, &t);
    return friend->at + stranger_again(a, &t, now);
}

void wr_verdict_asked(struct wr_verdict *v, size_t i, wr_time now)
{
    struct wr_verdict_addr *a = &v->of[i];
    a->running++;
    if (a->curious) {
        if (--a->curious == 0)
            a->next_at = now + WR_VERDICT_RETRY;
        return;
    }
    if (a->verdict != WR_ADDR_UNKNOWN && !a->round_at)
        a->round_at = now;
    a->round_asked++;
}

void wr_verdict_postpone(struct wr_verdict *v, size_t i, wr_time until)
{
    v->of[i].next_at = until;
}
