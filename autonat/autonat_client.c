#include "autonat/autonat_client_impl.h"

#include <string.h>

#define CANDIDATES_MAX  4 /* addresses that few peers saw and that are judged all the same; ours */
#define CANDIDATES_HARD 2 /* ... where every peer sees another one, and none leads to us; ours */
#define NOBODY_LEFT     (30 * WR_SEC) /* an address that nobody can say more about is looked at again after */

/* ---- servers --------------------------------------------------------------------------------------- */

static struct server *find_server(struct wr_autonat_client *c, const struct wr_peerid *peer)
{
    for (size_t i = 0; i < c->server_count; i++)
        if (wr_peerid_equal(&c->servers[i].peer, peer))
            return &c->servers[i];
    return NULL;
}

/* Version 1 says less; it is asked when nobody speaks version 2. */
static bool use_v1(const struct wr_autonat_client *c)
{
    for (size_t i = 0; i < c->server_count; i++)
        if (c->servers[i].connected && c->servers[i].v2)
            return false;
    return true;
}

static bool usable(const struct wr_autonat_client *c, const struct server *s)
{
    return s->connected && (use_v1(c) ? s->v1 : s->v2);
}

unsigned wr_autonat_client_servers(const struct wr_autonat_client *c)
{
    unsigned n = 0;
    for (size_t i = 0; i < c->server_count; i++)
        n += usable(c, &c->servers[i]);
    return n;
}

/* It refused, as homes do: a server by name alone. */
static bool is_home(const struct server *s)
{
    return s->unwilling[0][0] || s->unwilling[0][1] || s->unwilling[1][0] || s->unwilling[1][1];
}

/* Too few who may dial, or fewer than it takes for all our addresses if each is asked once. */
static bool few(const struct wr_autonat_client *c)
{
    size_t n = 0, wanted = c->verdict.count * WR_VERDICT_NEED;
    for (size_t i = 0; i < c->server_count; i++)
        n += usable(c, &c->servers[i]) && !is_home(&c->servers[i]);
    return n < WR_AUTONAT_CLIENT_FEW || n < wanted;
}

/* In how many networks are those that can be asked, and that dial addresses like this one? NULL: all. */
static unsigned networks(struct wr_autonat_client *c, const struct wr_verdict_addr *a)
{
    struct wr_ip ips[WR_AUTONAT_CLIENT_SERVERS];
    size_t n = 0;
    for (size_t i = 0; i < c->server_count; i++)
        if (usable(c, &c->servers[i]) && !(a && c->servers[i].unwilling[a->udp][a->family == 6]))
            ips[n++] = c->servers[i].ip;
    return wr_verdict_networks(&c->verdict, ips, n);
}

static bool near(const struct wr_ip *a, const struct wr_ip *b)
{
    return wr_ip_same_prefix(a, b, a->family == 4 ? WR_VERDICT_BITS : 2 * WR_VERDICT_BITS);
}

/* A place in the table: a free one, one that is not connected, or one whose network stands there twice. */
static struct server *make_room(struct wr_autonat_client *c, const struct wr_ip *ip)
{
    if (c->server_count < WR_AUTONAT_CLIENT_SERVERS)
        return &c->servers[c->server_count++];
    struct server *oldest = NULL;
    for (size_t i = 0; i < c->server_count; i++) {
        struct server *s = &c->servers[i];
        if (!s->connected && !s->busy && (!oldest || s->asked_at < oldest->asked_at))
            oldest = s;
    }
    if (oldest)
        return oldest;
    for (size_t i = 0; i < c->server_count; i++) {
        if (near(&c->servers[i].ip, ip))
            return NULL;
        for (size_t k = 0; k < i; k++)
            if (!c->servers[i].busy && near(&c->servers[i].ip, &c->servers[k].ip))
                return &c->servers[i];
    }
    return NULL;
}

static void step_at(struct wr_autonat_client *c, wr_time at);

/* Whoever waits for somebody to ask. */
static void wake_unknown(struct wr_autonat_client *c)
{
    wr_time now = wr_env_now(c->env);
    for (size_t i = 0; i < c->verdict.count; i++)
        if (c->verdict.of[i].verdict == WR_ADDR_UNKNOWN && c->verdict.of[i].next_at > now &&
            c->verdict.of[i].nothing == 0)
            wr_verdict_postpone(&c->verdict, i, now);
    step_at(c, now + WR_AUTONAT_CLIENT_FIRST);
}

/* A peer was identified or changed: is it a server? */
static void consider(struct wr_autonat_client *c, const struct wr_peerid *peer)
{
    const struct wr_peerstore *ps = wr_swarm_peerstore(c->sw);
    const struct wr_conn *conn = wr_swarm_conn(c->sw, peer);
    struct server *s = find_server(c, peer);
    bool v1 = wr_peerstore_speaks(ps, peer, WR_AUTONAT_V1) == 1;
    bool v2 = wr_peerstore_speaks(ps, peer, WR_AUTONAT_REQUEST) == 1;
    if (!conn || conn->circuit || !(v1 || v2) ||
        !wr_policy_is_public(wr_swarm_policy(c->sw), &conn->remote.ip)) {
        if (s)
            s->connected = false;
        return;
    }
    if (!s) {
        s = make_room(c, &conn->remote.ip);
        if (!s)
            return;
        *s = (struct server){.peer = *peer};
    }
    unsigned before = networks(c, NULL);
    s->ip = conn->remote.ip;
    s->v1 = v1;
    s->v2 = v2;
    s->delegates = wr_peerstore_speaks(ps, peer, WR_AUTONAT_STRANGER) == 1;
    s->connected = true;
    if (networks(c, NULL) != before)
        c->news_at = wr_env_now(c->env);
    if (!c->born_at)
        c->born_at = wr_env_now(c->env);
    wake_unknown(c);
}

/* ---- which addresses ------------------------------------------------------------------------------- */

static bool judged(const struct wr_autonat_client *c, const struct wr_own_addr *own)
{
    struct wr_addr at;
    struct wr_bytes bytes = wr_maddr_bytes(&own->addr);
    enum wr_maddr_kind kind = wr_maddr_kind(bytes);
    return own->source != WR_ADDR_RELAYED && (kind == WR_MADDR_TCP || kind == WR_MADDR_QUIC) &&
           wr_maddr_addr(bytes, &at) && at.port && wr_policy_is_public(wr_swarm_policy(c->sw), &at.ip);
}

/* Does an address stand only for a mapping of the NAT, kept by our own traffic? */
static bool natted(const struct wr_addrbook *book, const struct wr_maddr *addr)
{
    bool seen = false, listened = false;
    for (size_t i = 0; i < book->count; i++) {
        if (!wr_bytes_equal(wr_maddr_bytes(&book->of[i].addr), wr_maddr_bytes(addr)))
            continue;
        seen = seen || book->of[i].source == WR_ADDR_OBSERVED || book->of[i].source == WR_ADDR_CANDIDATE;
        listened = listened || book->of[i].source == WR_ADDR_LISTEN;
    }
    return seen && !listened;
}

static void say_verdict(struct wr_autonat_client *c, size_t i);

static void put(struct wr_autonat_client *c, const struct wr_own_addr *own)
{
    bool udp = wr_maddr_kind(wr_maddr_bytes(&own->addr)) == WR_MADDR_QUIC;
    struct wr_addr at;
    bool ip6 = wr_maddr_addr(wr_maddr_bytes(&own->addr), &at) && at.ip.family == 6;
    bool closed = (ip6 || wr_swarm_nat(c->sw)->external.family) && wr_autonat_client_nat_closed(c, udp, ip6);
    /* Where friends get in and nobody else, they prove nothing of any address. Where they do not either, unless from the
     * very port that was talked to, and one gets in from a fresh port where the router says that it is open: it is. */
    bool doubtful = closed && (wr_autonat_client_nat_friends(c, udp, ip6) || !wr_autonat_client_nat_opened(c, &own->addr));
    if (!closed && !wr_autonat_client_nat_open(c, udp, ip6))
        doubtful = natted(wr_swarm_addrbook(c->sw), &own->addr);
    if (!wr_verdict_put(&c->verdict, wr_maddr_bytes(&own->addr), doubtful, wr_env_now(c->env)))
        return;
    size_t i = (size_t)wr_verdict_find(&c->verdict, wr_maddr_bytes(&own->addr));
    if (wr_verdict_opened(&c->verdict, i, wr_autonat_client_nat_opened(c, &own->addr), wr_env_now(c->env)))
        say_verdict(c, i);
}

static void put_source(struct wr_autonat_client *c, enum wr_addr_source source)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    for (size_t i = 0; i < book->count; i++)
        if (book->of[i].source == source && judged(c, &book->of[i]))
            put(c, &book->of[i]);
}

/* What a byte of dial data keeps of the allowance, and for how long. */
#define DATA_BYTE    (WR_SEC / WR_AUTONAT_CLIENT_DATA_RATE)
#define DATA_USUAL   65000 /* bytes that a question costs, before it is known; the middle of the spec's bounds */

/* bytes may be negative: less than expected was wanted. */
static void spend_data(struct wr_autonat_client *c, int64_t bytes)
{
    wr_time now = wr_env_now(c->env);
    c->data_whole_at = (c->data_whole_at > now ? c->data_whole_at : now) + bytes * DATA_BYTE;
}

/* When the next question may be asked that costs dial data. */
static wr_time data_at(const struct wr_autonat_client *c)
{
    wr_time first = c->born_at + WR_AUTONAT_CLIENT_DATA_AFTER;
    wr_time again = c->data_whole_at - WR_AUTONAT_CLIENT_DATA * DATA_BYTE;
    return first > again ? first : again;
}

/* Is it worth dial data? Where most see us hardly any is asked for: always; elsewhere while the allowance lasts. */
static bool affordable(const struct wr_autonat_client *c, const struct wr_own_addr *own)
{
    struct wr_addr at;
    if (!wr_maddr_addr(wr_maddr_bytes(&own->addr), &at) ||
        wr_ip_equal(&at.ip, &wr_swarm_nat(c->sw)->external))
        return true;
    return c->data_whole_at - wr_env_now(c->env) < WR_AUTONAT_CLIENT_DATA * DATA_BYTE;
}

/* How many of them are judged. Where every peer sees another one none leads to us: it is the kind of filter that they
 * tell, until that is known to keep strangers out. */
static size_t candidates_max(const struct wr_autonat_client *c, bool udp)
{
    if (!wr_autonat_client_nat_hard(c, udp))
        return CANDIDATES_MAX;
    return wr_autonat_client_nat_closed(c, udp, false) ? 0 : CANDIDATES_HARD;
}

/* The newest; where every peer sees another one, those first for whose mapping there is a server. */
static void put_candidates(struct wr_autonat_client *c)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    size_t left[2] = {candidates_max(c, false), candidates_max(c, true)};
    for (int owned = 1; owned >= 0; owned--) {
        for (size_t i = book->count; i > 0; i--) {
            const struct wr_own_addr *own = &book->of[i - 1];
            bool udp = wr_maddr_kind(wr_maddr_bytes(&own->addr)) == WR_MADDR_QUIC;
            if (own->source != WR_ADDR_CANDIDATE || !judged(c, own) || !left[udp] || !affordable(c, own) ||
                owned != wr_autonat_client_nat_owned(c, &own->addr, udp))
                continue;
            put(c, own);
            left[udp]--;
        }
    }
}

static void sync(struct wr_autonat_client *c)
{
    wr_verdict_begin(&c->verdict);
    put_source(c, WR_ADDR_LISTEN);
    put_source(c, WR_ADDR_CONFIGURED);
    put_source(c, WR_ADDR_MAPPED);
    put_source(c, WR_ADDR_OBSERVED);
    put_candidates(c);
    wr_verdict_end(&c->verdict);
    step_at(c, wr_env_now(c->env) + WR_AUTONAT_CLIENT_FIRST);
}

/* ---- verdicts -------------------------------------------------------------------------------------- */

static struct wr_verdict_world world(struct wr_autonat_client *c, const struct wr_verdict_addr *a)
{
    return (struct wr_verdict_world){.networks = networks(c, a),
                                     .settled =
                                         wr_env_now(c->env) - c->news_at >= WR_AUTONAT_CLIENT_SETTLED,
                                     .jitter = (uint32_t)wr_env_random_below(c->env, UINT32_MAX)};
}

static enum wr_reachability reach_of(const struct wr_autonat_client *c, unsigned family)
{
    unsigned all = 0, no = 0, tried = 0;
    wr_time now = wr_env_now(c->env), age = c->born_at ? now - c->born_at : 0;
    for (size_t i = 0; i < c->verdict.count; i++) {
        const struct wr_verdict_addr *a = &c->verdict.of[i];
        if (a->family != family)
            continue;
        if (a->verdict == WR_ADDR_REACHABLE)
            return WR_REACH_PUBLIC;
        struct wr_verdict_tally t;
        wr_verdict_count(&c->verdict, i, now, &t);
        all++;
        no += a->verdict == WR_ADDR_UNREACHABLE;
        tried += t.failed > 0 || t.half > 0; /* who only got through, and were too few, say nothing against it */
    }
    if (all && no == all)
        return WR_REACH_PRIVATE;
    bool closed = wr_autonat_client_nat_hard(c, true) || wr_autonat_client_nat_hard(c, false) ||
                  wr_autonat_client_nat_closed(c, true, false) || wr_autonat_client_nat_closed(c, false, false);
    if (family == 4 && age >= WR_AUTONAT_CLIENT_HARD && closed)
        return WR_REACH_PRIVATE;
    return tried && age >= WR_AUTONAT_CLIENT_PRIVATE ? WR_REACH_PRIVATE : WR_REACH_UNKNOWN;
}

static void say_reach(struct wr_autonat_client *c, unsigned family)
{
    enum wr_reachability reach = reach_of(c, family);
    if (reach == wr_swarm_reachability(c->sw, family))
        return;
    wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "reachability family=%u is=%s", family,
           wr_reachability_name(reach));
    wr_swarm_set_reachability(c->sw, family, reach);
}

static void say_verdict(struct wr_autonat_client *c, size_t i)
{
    const struct wr_verdict_addr *a = &c->verdict.of[i];
    struct wr_verdict_tally t;
    char text[WR_MADDR_TEXT];
    wr_verdict_count(&c->verdict, i, wr_env_now(c->env), &t);
    wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "verdict addr=%s is=%s reached=%u half=%u failed=%u",
           wr_maddr_print(wr_maddr_bytes(&a->addr), text, sizeof(text)), wr_addr_verdict_name(a->verdict),
           t.reached, t.half, t.failed);
    if (wr_addrbook_judge(wr_swarm_addrbook(c->sw), wr_maddr_bytes(&a->addr), a->verdict,
                          wr_env_now(c->env)))
        wr_swarm_addrs_changed(c->sw);
}

static void judge_all(struct wr_autonat_client *c)
{
    for (size_t i = 0; i < c->verdict.count; i++) {
        struct wr_verdict_world w = world(c, &c->verdict.of[i]);
        if (wr_verdict_judge(&c->verdict, i, &w, wr_env_now(c->env)))
            say_verdict(c, (size_t)i);
    }
    wr_autonat_client_nat_judge(c);
    say_reach(c, 4);
    say_reach(c, 6);
}

/* ---- questions ------------------------------------------------------------------------------------- */

static void dispose_probe(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct probe, task));
}

static void end_probe(struct probe *p)
{
    struct wr_autonat_client *c = p->client;
    struct server *s = find_server(c, &p->server);
    if (s && s->busy)
        s->busy--;
    wr_list_remove(&p->node);
    if (--c->probe_count == 0)
        wr_pulse_stop(&c->pulse);
    wr_env_dispose(c->env, &p->task, dispose_probe);
}

static enum wr_verdict_outcome outcome_of(struct probe *p, enum wr_ask_result result)
{
    struct wr_autonat_client *c = p->client;
    switch (result) {
    case WR_ASK_REACHED:
    case WR_ASK_BACK_ERROR:
        /* The nonce is the proof; version 1 has none and its word has to do. */
        if (p->arrived || (p->v1 && result == WR_ASK_REACHED)) {
            c->stats.reached++;
            return WR_VERDICT_REACHED;
        }
        c->stats.unproved++;
        return WR_VERDICT_NOTHING;
    case WR_ASK_FAILED:
        c->stats.failed++;
        return p->arrived ? WR_VERDICT_NOTHING : WR_VERDICT_FAILED; /* it contradicts itself */
    case WR_ASK_REFUSED:
        c->stats.refused++;
        break;
    case WR_ASK_BROKEN:
        c->stats.broken++;
        break;
    }
    return WR_VERDICT_NOTHING;
}

void wr_autonat_client_in_vain(struct wr_autonat_client *c, struct server *s, bool udp, bool passes)
{
    wr_time pause = few(c) ? WR_AUTONAT_CLIENT_QUIET_FEW : WR_AUTONAT_CLIENT_QUIET;
    if (few(c) && passes && s->vain[udp] < 3)
        pause = WR_AUTONAT_CLIENT_BUSY_FEW << s->vain[udp];
    s->vain[udp]++;
    s->quiet_until[udp] = wr_env_now(c->env) + pause;
}

static void on_answer(struct wr_ask *ask, enum wr_ask_result result)
{
    struct probe *p = wr_list_entry(ask, struct probe, ask);
    struct wr_autonat_client *c = p->client;
    struct server *s = find_server(c, &p->server);
    wr_time now = wr_env_now(c->env);
    enum wr_verdict_outcome outcome = outcome_of(p, result);
    bool missed = outcome == WR_VERDICT_FAILED && wr_pulse_late(&c->pulse, p->begun_at);
    c->stats.data_bytes += ask->data_bytes;
    if (s && !p->costs && ask->data_bytes)
        s->greedy = true;
    if (p->costs)
        spend_data(c, (int64_t)ask->data_bytes - DATA_USUAL);
    char text[WR_MADDR_TEXT], id[WR_PEERID_TEXT];
    static const char *const results[] = {"reached", "back-error", "failed", "refused", "broken"};
    wr_log(wr_env_log(c->env), WR_LOG_DEBUG, "autonat", "answer peer=%s addr=%s is=%s nonce=%d stranger=%d",
           wr_peerid_print(&p->server, id), wr_maddr_print(wr_maddr_bytes(&p->addr), text, sizeof(text)),
           missed ? "missed" : results[result], p->arrived, ask->stranger || p->stranger);
    struct wr_verdict_evidence e = {
        .from = p->ip, .stranger_wanted = p->stranger_wanted, .stranger = p->stranger};
    /* A dial that failed came from a stranger when the server says so, or is one itself on this transport.
     */
    if (outcome == WR_VERDICT_FAILED)
        e.stranger = ask->stranger || !wr_autonat_client_nat_talked(c, &p->addr, p->udp, &p->via.ip);
    if (s && (outcome != WR_VERDICT_NOTHING || result == WR_ASK_REFUSED))
        s->unwilling[p->udp][p->ip6] = result == WR_ASK_REFUSED && ask->unwilling;
    if (outcome == WR_VERDICT_NOTHING && s)
        wr_autonat_client_in_vain(c, s, p->udp,
                                  !p->v1 && ((result == WR_ASK_REFUSED && !ask->unwilling) || result == WR_ASK_BROKEN));
    else if (s)
        s->vain[p->udp] = 0;
    if (outcome == WR_VERDICT_REACHED && e.stranger)
        wr_swarm_nat(c->sw)->strangers = true;
    /* It may well have called, and we were not there. That is not his fault, and says nothing. */
    if (missed)
        outcome = WR_VERDICT_NOTHING;
    int i = wr_verdict_find(&c->verdict, wr_maddr_bytes(&p->addr));
    end_probe(p);
    if (i >= 0) {
        struct wr_verdict_world w = world(c, &c->verdict.of[i]);
        if (wr_verdict_note(&c->verdict, (size_t)i, &e, outcome, &w, now))
            say_verdict(c, (size_t)i);
        judge_all(c);
    }
    step_at(c, now);
}

static bool rested(const struct wr_autonat_client *c, const struct server *s, bool doubtful, wr_time now)
{
    return !s->asked_at || now - s->asked_at >=
                               (doubtful && few(c) ? WR_AUTONAT_CLIENT_AGAIN_FEW : WR_AUTONAT_CLIENT_AGAIN);
}

static bool being_asked(const struct wr_autonat_client *c, const struct wr_peerid *server,
                        const struct wr_maddr *addr)
{
    for (const struct wr_list *it = c->probes.next; it != &c->probes; it = it->next) {
        const struct probe *p = (const struct probe *)((uintptr_t)it - offsetof(struct probe, node));
        if (wr_peerid_equal(&p->server, server) &&
            wr_bytes_equal(wr_maddr_bytes(&p->addr), wr_maddr_bytes(addr)))
            return true;
    }
    return false;
}

struct way {
    const struct wr_autonat_client *c;
    const struct wr_peerid *peer;
    const struct wr_ip *ip;
    struct wr_conn *found;
};

static void find_way(struct wr_conn *conn, void *arg)
{
    struct way *w = arg;
    if (!w->found && !conn->circuit && !conn->closing && wr_peerid_equal(&conn->peer, w->peer) &&
        wr_autonat_client_nat_sees(w->c, conn, w->ip))
        w->found = conn;
}

/* The connection to ask a server by about this IP: one by which it sees us there, if there is one. Who is met by both families
 * would else want dial data for one of them. */
static struct wr_conn *way_to(const struct wr_autonat_client *c, const struct server *s, const struct wr_ip *ip)
{
    struct wr_conn *conn = wr_swarm_conn(c->sw, &s->peer);
    struct way w = {.c = c, .peer = &s->peer, .ip = ip};
    if (conn && (conn->circuit || !wr_autonat_client_nat_sees(c, conn, ip)))
        wr_swarm_each(c->sw, find_way, &w);
    return w.found ? w.found : conn;
}

/* Will the server want dial data for a question about this IP? As it should where it does not see us there. */
static bool costs_data(const struct wr_autonat_client *c, const struct server *s, const struct wr_ip *ip)
{
    const struct wr_conn *conn = way_to(c, s, ip);
    return conn && !use_v1(c) && !wr_autonat_client_nat_sees(c, conn, ip);
}

static void look_again(wr_time at, wr_time now, wr_time *later)
{
    if (at > now && at < *later)
        *later = at;
}

/* Whether such a question may be asked now. Where every peer sees another port no address leads to us, and only he for
 * whom a mapping was made can tell more: for an answer of the others nothing is paid. */
static bool pays(const struct wr_autonat_client *c, bool udp, const struct wr_ip *ip, wr_time now, wr_time *later)
{
    bool hard = wr_autonat_client_nat_hard(c, udp);
    wr_time at = data_at(c);
    /* Servers that come to see us there ask for nothing. */
    if (ip->family == 4 && wr_autonat_client_nat_meeting(c, udp) && at < now + WR_SEC)
        at = now + WR_SEC;
    if (!hard && at <= now)
        return true;
    if (!hard)
        look_again(at, now, later);
    return false;
}

/* It came to us, as homes do, which dial for nobody. */
static bool came(const struct wr_autonat_client *c, const struct server *s)
{
    const struct wr_conn *conn = wr_swarm_conn(c->sw, &s->peer);
    return !conn || !conn->outbound;
}

/* Who is asked first: whoever is a stranger to us over this transport, where only that proves something; then whom we
 * reached ourselves; then those that want no dial data; then the one longest unasked. ip: of the address. */
static bool before(const struct wr_autonat_client *c, const struct wr_verdict_addr *a, const struct wr_ip *ip,
                   const struct server *one, const struct server *other)
{
    wr_time now = wr_env_now(c->env);
    bool known = wr_contacts_known(&c->contacts, &one->ip, a->udp, now);
    if (a->natted && !a->curious && known != wr_contacts_known(&c->contacts, &other->ip, a->udp, now))
        return !known;
    if (came(c, one) != came(c, other))
        return came(c, other);
    bool costs = one->greedy || costs_data(c, one, ip), others = other->greedy || costs_data(c, other, ip);
    if (costs != others)
        return others;
    return one->asked_at < other->asked_at;
}

/* The server to ask about address i; NULL: nobody now, *later says when to look again. */
static struct server *choose(struct wr_autonat_client *c, size_t i, enum wr_verdict_wish *wish,
                             wr_time *later)
{
    const struct wr_verdict_addr *a = &c->verdict.of[i];
    struct server *best = NULL;
    struct wr_addr at;
    bool doubtful = a->verdict == WR_ADDR_UNKNOWN || a->round_at || a->curious;
    wr_time now = wr_env_now(c->env);
    (void)wr_maddr_addr(wr_maddr_bytes(&a->addr), &at);
    bool hard = wr_autonat_client_nat_hard(c, a->udp);
    *later = now + NOBODY_LEFT;
    /* Among equals it is not always the same: everybody has met the bootstrap peers first. */
    size_t from = c->server_count ? (size_t)wr_env_random_below(c->env, c->server_count) : 0;
    for (size_t k = 0; k < c->server_count; k++) {
        struct server *s = &c->servers[(from + k) % c->server_count];
        if (!usable(c, s) || wr_ip_equal(&s->ip, &at.ip) || being_asked(c, &s->peer, &a->addr))
            continue;
        bool delegates = s->delegates && s->v2 && !hard;
        enum wr_verdict_wish w = wr_verdict_wants(&c->verdict, i, &s->ip, delegates, now);
        /* Where strangers are known to be kept out none is waited for, unless the router says otherwise. */
        if (w == WR_VERDICT_NOT && delegates &&
            (a->opened || !wr_autonat_client_nat_closed(c, a->udp, a->family == 6)))
            look_again(wr_verdict_again(&c->verdict, i, &s->ip, now), now, later);
        if (w != WR_VERDICT_NOT && s->quiet_until[a->udp] > now) {
            look_again(s->quiet_until[a->udp], now, later);
            continue;
        }
        if (w == WR_VERDICT_NOT || (costs_data(c, s, &at.ip) && !pays(c, a->udp, &at.ip, now, later)))
            continue;
        if (s->busy >= WR_AUTONAT_CLIENT_BUSY || !rested(c, s, doubtful, now)) {
            *later = doubtful ? now + WR_SEC : *later;
            continue;
        }
        /* A mapping that was made for one server: he can tell most about it. */
        if (hard && wr_autonat_client_nat_talked(c, &a->addr, a->udp, &s->ip)) {
            *wish = w;
            return s;
        }
        if (!best || before(c, a, &at.ip, s, best)) {
            best = s;
            *wish = w;
        }
    }
    return best;
}

/* False: it could not even be asked. */
static bool ask(struct wr_autonat_client *c, size_t i, struct server *s, enum wr_verdict_wish wish)
{
    const struct wr_verdict_addr *a = &c->verdict.of[i];
    struct wr_addr at;
    (void)wr_maddr_addr(wr_maddr_bytes(&a->addr), &at);
    struct wr_conn *conn = way_to(c, s, &at.ip);
    struct probe *p = conn && !conn->circuit ? wr_alloc(sizeof(*p)) : NULL;
    bool v1 = use_v1(c);
    s->asked_at = wr_env_now(c->env);
    if (!p)
        return false;
    p->client = c;
    p->addr = a->addr;
    p->udp = a->udp;
    p->ip6 = a->family == 6;
    p->server = s->peer;
    p->ip = s->ip;
    p->via = conn->remote;
    p->v1 = v1;
    p->stranger_wanted = wish == WR_VERDICT_STRANGER;
    p->costs = costs_data(c, s, &at.ip);
    wr_env_random(c->env, &p->nonce, sizeof(p->nonce));
    struct wr_ask_question q = {.addr = &p->addr,
                                .nonce = p->nonce,
                                .stranger = p->stranger_wanted,
                                .peer = v1 ? wr_swarm_self(c->sw) : NULL};
    if (wr_ask_start(&p->ask, c->env, conn, v1 ? WR_AUTONAT_V1 : WR_AUTONAT_REQUEST, &q, on_answer) != 0) {
        wr_free(p);
        return false;
    }
    char text[WR_MADDR_TEXT], id[WR_PEERID_TEXT];
    wr_log(wr_env_log(c->env), WR_LOG_DEBUG, "autonat", "asked peer=%s addr=%s stranger=%d version=%d",
           wr_peerid_print(&p->server, id), wr_maddr_print(wr_maddr_bytes(&p->addr), text, sizeof(text)),
           p->stranger_wanted, v1 ? 1 : 2);
    if (p->costs)
        spend_data(c, DATA_USUAL);
    p->begun_at = wr_env_now(c->env);
    wr_pulse_start(&c->pulse, c->env);
    wr_list_append(&c->probes, &p->node);
    c->probe_count++;
    s->busy++;
    c->stats.asked++;
    c->stats.asked_v1 += v1;
    wr_verdict_asked(&c->verdict, i, wr_env_now(c->env));
    return true;
}

static void step(struct wr_timer *timer)
{
    struct wr_autonat_client *c = wr_list_entry(timer, struct wr_autonat_client, timer);
    wr_time now = wr_env_now(c->env), later;
    enum wr_verdict_wish wish = WR_VERDICT_NOT;
    size_t from = 0;
    for (int i;
         c->probe_count < WR_AUTONAT_CLIENT_PROBES && (i = wr_verdict_due(&c->verdict, from, now)) >= 0;) {
        struct server *s = choose(c, (size_t)i, &wish, &later);
        if (!s) {
            wr_verdict_postpone(&c->verdict, (size_t)i, later);
            continue;
        }
        if (!ask(c, (size_t)i, s, wish))
            s->quiet_until[c->verdict.of[i].udp] = now + WR_AUTONAT_CLIENT_AGAIN;
        /* Addresses take turns. */
        from = (size_t)i + 1 < c->verdict.count ? (size_t)i + 1 : 0;
    }
    judge_all(c);
    wr_autonat_client_nat_step(c);
    /* With all places taken an answer is waited for. */
    if (c->probe_count < WR_AUTONAT_CLIENT_PROBES && wr_verdict_next(&c->verdict))
        step_at(c, wr_verdict_next(&c->verdict));
    if (c->born_at && now - c->born_at < WR_AUTONAT_CLIENT_PRIVATE)
        step_at(c, now + WR_SEC);
}

static void step_at(struct wr_autonat_client *c, wr_time at)
{
    if (!wr_timer_running(&c->timer) || at < c->timer.at)
        wr_timer_start(c->env, &c->timer, at, step);
}

void wr_autonat_client_again(struct wr_autonat_client *c)
{
    sync(c);
    step_at(c, wr_env_now(c->env));
}

/* ---- what happens around us ------------------------------------------------------------------------ */

static void on_opened(struct wr_autonat_client *c, const struct wr_conn *conn)
{
    if (conn->circuit)
        return;
    wr_contacts_opened(&c->contacts, &conn->remote.ip, conn->udp, !conn->outbound, conn->id,
                       wr_env_now(c->env));
    if (!conn->outbound)
        wr_autonat_client_back_conn(c, conn);
}

static uint64_t hash_listening(const struct wr_autonat_client *c)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    uint64_t sum = 1;
    for (size_t i = 0; i < book->count; i++) {
        struct wr_bytes b = wr_maddr_bytes(&book->of[i].addr);
        struct wr_addr at;
        uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: all of it is our own */
        if (book->of[i].source != WR_ADDR_LISTEN || !wr_maddr_addr(b, &at) || at.ip.family != 4)
            continue;
        for (size_t k = 0; k < b.len; k++)
            h = (h ^ b.ptr[k]) * 0x100000001b3u;
        sum += h;
    }
    return sum;
}

static void keep_contact(struct wr_conn *conn, void *arg)
{
    struct wr_autonat_client *c = arg;
    if (!conn->circuit)
        wr_contacts_opened(&c->contacts, &conn->remote.ip, conn->udp, false, conn->id, wr_env_now(c->env));
}

/* Another network: nothing that was found out holds any more. */
static void reset(struct wr_autonat_client *c)
{
    struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    wr_time now = wr_env_now(c->env);
    bool changed = false;
    for (size_t i = 0; i < c->verdict.count; i++)
        changed |= wr_addrbook_judge(book, wr_maddr_bytes(&c->verdict.of[i].addr), WR_ADDR_UNKNOWN, now);
    wr_verdict_reset(&c->verdict);
    wr_autonat_client_nat_reset(c);
    wr_autonat_client_life_reset(c);
    wr_contacts_clear(&c->contacts);
    wr_swarm_each(c->sw, keep_contact, c);
    c->born_at = wr_autonat_client_servers(c) ? now : 0;
    c->news_at = now;
    for (size_t i = 0; i < c->server_count; i++) {
        c->servers[i].quiet_until[0] = c->servers[i].quiet_until[1] = c->servers[i].asked_at = 0;
        c->servers[i].vain[0] = c->servers[i].vain[1] = 0;
    }
    say_reach(c, 4);
    say_reach(c, 6);
    if (changed)
        wr_swarm_addrs_changed(c->sw);
}

static void on_addrs(struct wr_autonat_client *c)
{
    uint64_t listening = hash_listening(c);
    if (listening != c->listening)
        reset(c);
    c->listening = listening;
    sync(c);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_autonat_client *c = wr_list_entry(watch, struct wr_autonat_client, watch);
    switch (event->type) {
    case WR_SWARM_OPENED:
        on_opened(c, event->conn);
        break;
    case WR_SWARM_CLOSED:
        if (!event->conn->circuit)
            wr_contacts_closed(&c->contacts, &event->conn->remote.ip, event->conn->udp, wr_env_now(c->env));
        break;
    case WR_SWARM_IDENTIFIED:
        consider(c, event->peer);
        break;
    case WR_SWARM_PEER_CHANGED:
    case WR_SWARM_DISCONNECTED:
        consider(c, event->peer);
        break;
    case WR_SWARM_DIALLING:
        wr_contacts_sent(&c->contacts, &event->to->ip, event->udp, wr_env_now(c->env));
        break;
    case WR_SWARM_OBSERVED:
        wr_autonat_client_nat_observed(c, event->conn, event->seen);
        break;
    case WR_SWARM_ADDRS:
        on_addrs(c);
        break;
    case WR_SWARM_NETWORK_CHANGED:
        reset(c);
        sync(c);
        break;
    default:
        break;
    }
}

/* ---- life ------------------------------------------------------------------------------------------ */

static void open_already(struct wr_conn *conn, void *arg)
{
    struct wr_autonat_client *c = arg;
    on_opened(c, conn);
    if (conn->identified)
        consider(c, &conn->peer);
}

struct wr_autonat_client *wr_autonat_client_create(struct wr_swarm *sw)
{
    struct wr_autonat_client *c = wr_alloc(sizeof(*c));
    if (!c)
        return NULL;
    c->sw = sw;
    c->env = wr_swarm_env(sw);
    wr_list_init(&c->probes);
    wr_list_init(&c->backs);
    wr_contacts_init(&c->contacts, wr_env_hash_seed(c->env));
    wr_autonat_client_nat_start(c);
    wr_autonat_client_life_start(c);
    c->watch.on_event = on_event;
    wr_swarm_watch(sw, &c->watch);
    if (wr_autonat_client_back_start(c) != 0) {
        wr_autonat_client_destroy(c);
        return NULL;
    }
    c->listening = hash_listening(c);
    wr_swarm_each(sw, open_already, c);
    sync(c);
    return c;
}

void wr_autonat_client_destroy(struct wr_autonat_client *c)
{
    if (!c)
        return;
    wr_swarm_unwatch(&c->watch);
    wr_autonat_client_back_stop(c);
    while (!wr_list_empty(&c->probes)) {
        struct probe *p = wr_list_entry(c->probes.next, struct probe, node);
        wr_ask_cancel(&p->ask);
        end_probe(p);
    }
    wr_timer_stop(c->env, &c->timer);
    wr_autonat_client_life_end(c);
    wr_autonat_client_nat_end(c);
    wr_contacts_clear(&c->contacts);
    wr_free(c);
}

bool wr_autonat_client_tally(const struct wr_autonat_client *c, struct wr_bytes addr,
                             struct wr_verdict_tally *out)
{
    int i = wr_verdict_find(&c->verdict, addr);
    *out = (struct wr_verdict_tally){0};
    if (i < 0)
        return false;
    wr_verdict_count(&c->verdict, (size_t)i, wr_env_now(c->env), out);
    return true;
}

void wr_autonat_client_stats(const struct wr_autonat_client *c, struct wr_autonat_client_stats *out)
{
    *out = c->stats;
}
