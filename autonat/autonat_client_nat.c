/* What the questions and the observations of peers say of the NAT itself. */
#include "autonat/autonat_client_impl.h"

#define FILTER_AFTER    (1 * WR_SEC)  /* after the first server; ours ... */
#define FILTER_PATIENCE (6 * WR_SEC)  /* ... or, with two servers only, after this */
#define FILTER_SOON     (3 * WR_SEC)  /* after a test that said nothing: whom it asked had too much to do; ours ... */
#define FILTER_AGAIN    (60 * WR_SEC) /* ... and after others */
#define FILTER_SOONER   2             /* so many times the one, then the other; ours */
#define FILTER_TRIES    4             /* tests that may say nothing, for each network; ours */
#define FILTER_PEERS    WR_FILTERTEST_PEERS
#define RANK_CAME       2u            /* of servers that came to us, or a greedy one of them more */
#define LOOKS_MAX       4             /* for the newest port, at once; ours */
#define EXTRAS_AFTER    (4 * WR_SEC) /* after the first server: by then it is clear what is missing; ours */
#define EXTRAS_AGAIN    (3 * WR_SEC) /* after those to addresses that were only named, if too little came of them; ours */
#define EXTRAS_NAMED    2            /* times that such are tried, for each network; ours */
#define EXTRA_LOOK      (1 * WR_SEC)  /* between two looks whether others use such a connection; ours */
#define EXTRA_PATIENCE  (30 * WR_SEC) /* what is still used after that is an ordinary one; ours */
#define PORTS_AFTER     (5 * WR_SEC) /* after the first server: by then the mapping is known; ours */
#define PORTS_AGAIN     (15 * WR_SEC) /* after a survey that said nothing; ours */
#define PORTS_TRIES     3             /* surveys that may say nothing, for each network; ours */
#define HAIRPIN_AFTER   (3 * WR_SEC) /* after the first server: the rest first; ours */

static struct wr_nat_kind *kind_of(const struct wr_autonat_client *c, bool udp)
{
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    return udp ? &nat->udp : &nat->tcp;
}

static struct wr_nat_kind *kind6_of(const struct wr_autonat_client *c, bool udp)
{
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    return udp ? &nat->udp6 : &nat->tcp6;
}

bool wr_autonat_client_nat_hard(const struct wr_autonat_client *c, bool udp)
{
    const struct wr_nat_kind *kind = kind_of(c, udp);
    return kind->mapping == WR_NAT_MAP_ADM || kind->mapping == WR_NAT_MAP_APDM;
}

/* ---- observations ---------------------------------------------------------------------------------- */

static void say_kind(const struct wr_autonat_client *c, bool udp)
{
    static const char *const mappings[] = {"unknown", "none", "eim", "adm", "apdm"};
    static const char *const allocs[] = {"unknown", "preserving", "sequential", "block", "random"};
    const struct wr_nat_kind *kind = kind_of(c, udp);
    wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat",
           "nat transport=%s mapping=%s ports=%s step=%d samples=%u", udp ? "udp" : "tcp",
           mappings[kind->mapping], allocs[kind->alloc], kind->step, kind->samples);
}

static void use_ports(const struct ports *p, struct wr_nat_kind *kind);
static void use_look(const struct wr_autonat_client *c, bool udp);
static void extra_done(struct wr_autonat_client *c, const struct wr_conn *conn);
static void watch_extras(struct wr_autonat_client *c);

void wr_autonat_client_nat_observed(struct wr_autonat_client *c, struct wr_conn *conn,
                                    const struct wr_maddr *seen)
{
    struct wr_natkind_sample sample = {.local = conn->local, .remote = conn->remote, .at = conn->begun_at};
    struct wr_policy *policy = wr_swarm_policy(c->sw);
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    bool quic = wr_maddr_kind(wr_maddr_bytes(seen)) == WR_MADDR_QUIC;
    wr_time now = wr_env_now(c->env);
    extra_done(c, conn);
    /* What came in did not make a mapping, and a neighbour sees none. */
    if (!conn->outbound || conn->circuit || quic != conn->udp ||
        !wr_maddr_addr(wr_maddr_bytes(seen), &sample.seen) || sample.seen.ip.family != conn->remote.ip.family ||
        !wr_policy_is_public(policy, &conn->remote.ip) || !wr_policy_is_public(policy, &sample.seen.ip))
        return;
    bool ip6 = sample.seen.ip.family == 6;
    struct wr_natkind *samples = &c->samples[ip6][conn->udp];
    wr_natkind_add(samples, &sample);
    if (ip6) {
        (void)wr_natkind_judge(samples, now, kind6_of(c, conn->udp));
        return;
    }
    bool news = wr_natkind_judge(samples, now, kind_of(c, conn->udp));
    use_ports(&c->ports[conn->udp], kind_of(c, conn->udp));
    use_look(c, conn->udp);
    if (news)
        say_kind(c, conn->udp);
    nat->external = wr_natkind_external(samples, now);
}

bool wr_autonat_client_nat_talked(const struct wr_autonat_client *c, const struct wr_maddr *addr, bool udp,
                                  const struct wr_ip *ip)
{
    const struct wr_natkind *k = &c->samples[0][udp];
    struct wr_addr at;
    if (!wr_autonat_client_nat_hard(c, udp))
        return wr_contacts_known(&c->contacts, ip, udp, wr_env_now(c->env));
    /* Each mapping lets in only whom it was made for. */
    for (size_t i = 0; wr_maddr_addr(wr_maddr_bytes(addr), &at) && i < k->count; i++)
        if (wr_addr_equal(&k->of[i].seen, &at) && wr_ip_equal(&k->of[i].remote.ip, ip))
            return true;
    return false;
}

bool wr_autonat_client_nat_sees(const struct wr_autonat_client *c, const struct wr_conn *conn,
                                const struct wr_ip *ip)
{
    const struct wr_natkind *k = &c->samples[conn->remote.ip.family == 6][conn->udp];
    for (size_t i = 0; i < k->count; i++)
        if (wr_addr_equal(&k->of[i].remote, &conn->remote) && wr_addr_equal(&k->of[i].local, &conn->local))
            return wr_ip_equal(&k->of[i].seen.ip, ip);
    /* It came in, or its peer has not said: most see us at the same. */
    return ip->family == conn->remote.ip.family &&
           (wr_ip_equal(ip, &conn->local.ip) || wr_ip_equal(ip, &wr_swarm_nat(c->sw)->external));
}

bool wr_autonat_client_nat_owned(const struct wr_autonat_client *c, const struct wr_maddr *addr, bool udp)
{
    for (size_t i = 0; i < c->server_count; i++)
        if (c->servers[i].connected && c->servers[i].v2 &&
            wr_autonat_client_nat_talked(c, addr, udp, &c->servers[i].ip))
            return true;
    return false;
}

/* ---- filtering ------------------------------------------------------------------------------------- */

struct votes {
    unsigned friend_in, friend_out, stranger_in, stranger_out;
};

bool wr_autonat_client_nat_opened(const struct wr_autonat_client *c, const struct wr_maddr *addr)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    for (size_t i = 0; i < book->count; i++)
        if ((book->of[i].source == WR_ADDR_MAPPED || book->of[i].source == WR_ADDR_CONFIGURED) &&
            wr_bytes_equal(wr_maddr_bytes(&book->of[i].addr), wr_maddr_bytes(addr)))
            return true;
    return false;
}

/* Whom a server dials from when we know it over the other family is not known. */
static void count(const struct wr_autonat_client *c, bool udp, uint8_t family, struct votes *v)
{
    wr_time now = wr_env_now(c->env);
    for (size_t i = 0; i < c->verdict.count; i++) {
        const struct wr_verdict_addr *a = &c->verdict.of[i];
        /* What gets in where the router was opened tells nothing of how it filters. */
        bool asked = a->udp == udp && a->family == family && !wr_autonat_client_nat_opened(c, &a->addr);
        for (size_t k = 0; asked && k < a->count; k++) {
            const struct wr_verdict_evidence *e = &a->of[k];
            if (now - e->at >= WR_VERDICT_EXPIRES || e->from.family != family)
                continue;
            v->friend_in += !e->stranger && e->reached;
            v->friend_out += !e->stranger && !e->reached;
            v->stranger_in += e->stranger && e->reached;
            v->stranger_out += e->stranger && !e->reached;
        }
    }
}

static enum wr_nat_filtering filtering(const struct wr_autonat_client *c, bool udp, uint8_t family)
{
    struct votes v = {0};
    bool hard = family == 4 && wr_autonat_client_nat_hard(c, udp);
    if (c->filters[family == 6][udp].found != WR_NAT_FILTER_UNKNOWN)
        return c->filters[family == 6][udp].found;
    unsigned need = wr_autonat_client_servers(c) > 1 ? 2 : 1;
    count(c, udp, family, &v);
    if (v.stranger_in > 0 && v.stranger_in >= v.stranger_out)
        return WR_NAT_FILTER_EIF;
    if (v.friend_in > v.friend_out && v.stranger_out >= need)
        return WR_NAT_FILTER_ADF;
    /* Of a hard mapping only the one peer that it was made for is a friend. */
    if (v.friend_in == 0 && (v.friend_out >= need || (hard && v.friend_out && v.stranger_out >= need)))
        return WR_NAT_FILTER_APDF;
    return WR_NAT_FILTER_UNKNOWN;
}

void wr_autonat_client_nat_judge(struct wr_autonat_client *c)
{
    static const char *const names[] = {"unknown", "eif", "adf", "apdf"};
    for (unsigned i = 0; i < 4; i++) {
        bool udp = i % 2, ip6 = i / 2;
        enum wr_nat_filtering f = filtering(c, udp, ip6 ? 6 : 4);
        struct wr_nat_kind *kind = ip6 ? kind6_of(c, udp) : kind_of(c, udp);
        if (f == kind->filtering)
            continue;
        kind->filtering = f;
        wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "nat transport=%s%s filtering=%s", udp ? "udp" : "tcp",
               ip6 ? "6" : "", names[f]);
    }
}

/* ---- addresses of servers for the tests -------------------------------------------------------------- */

/* Has a dial to it succeeded? */
static bool answered(const struct wr_peer *peer, struct wr_bytes addr)
{
    for (size_t i = 0; peer && i < peer->addr_count; i++)
        if (wr_bytes_equal(wr_peer_addr_bytes(&peer->addrs[i]), addr))
            return peer->addrs[i].dialled_ok_at != 0;
    return false;
}

/* Of one server, over one transport and family: where it is, or where it answered us when it is now connected by the other
 * one. Else it could name anybody. False: none. */
static bool target_of(const struct wr_autonat_client *c, const struct server *s, bool udp, bool ip6, struct wr_maddr *out)
{
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    struct wr_addr at;
    if (!s->connected || !s->v2)
        return false;
    const struct wr_peerstore *ps = wr_swarm_peerstore(c->sw);
    size_t count = wr_peerstore_addrs(ps, &s->peer, known, WR_PEER_ADDRS_MAX);
    for (size_t k = 0; k < count; k++) {
        struct wr_bytes addr = wr_maddr_bytes(&known[k]);
        if (wr_maddr_kind(addr) != (udp ? WR_MADDR_QUIC : WR_MADDR_TCP) || !wr_maddr_addr(addr, &at) ||
            at.ip.family != (ip6 ? 6 : 4) || !wr_policy_is_public(wr_swarm_policy(c->sw), &at.ip))
            continue;
        if (!wr_ip_equal(&at.ip, &s->ip) && !answered(wr_peerstore_find(ps, &s->peer), addr))
            continue;
        *out = known[k];
        return true;
    }
    return false;
}

/* Would it dial, as far as is known? */
static bool dials(const struct wr_autonat_client *c, const struct server *s, bool udp, bool ip6)
{
    return !s->unwilling[udp][ip6] && s->quiet_until[udp] <= wr_env_now(c->env);
}

/* Whom we reached ourselves before who came to us and may be at home, then those that cost little. */
static unsigned rank_of(const struct wr_autonat_client *c, const struct server *s)
{
    const struct wr_conn *conn = wr_swarm_conn(c->sw, &s->peer);
    return (conn && conn->outbound ? 0 : RANK_CAME) + s->greedy;
}

/* By IPv4, or by IPv6; the best first, and of them not always the same: everybody has met the bootstrap peers first. */
static size_t gather(const struct wr_autonat_client *c, bool udp, bool ip6, bool dialling, struct wr_maddr *out,
                     struct wr_peerid *who)
{
    size_t n = 0, from = c->server_count ? (size_t)wr_env_random_below(c->env, c->server_count) : 0;
    for (unsigned rank = 0; rank < 2 * RANK_CAME; rank++)
        for (size_t i = 0; i < c->server_count && n < WR_SURVEY_SAMPLES; i++) {
            const struct server *s = &c->servers[(from + i) % c->server_count];
            if (rank_of(c, s) != rank || (dialling && !dials(c, s, udp, ip6)) || !target_of(c, s, udp, ip6, &out[n]))
                continue;
            if (who)
                who[n] = s->peer;
            n++;
        }
    return n;
}

static size_t targets(const struct wr_autonat_client *c, bool udp, struct wr_maddr *out)
{
    return gather(c, udp, false, false, out, NULL);
}

/* Do we listen on this transport and family at all? */
static bool listening(const struct wr_autonat_client *c, bool udp, bool ip6)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    for (size_t i = 0; i < book->count; i++) {
        struct wr_addr at;
        if (book->of[i].source == WR_ADDR_LISTEN && wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) &&
            at.ip.family == (ip6 ? 6 : 4) && wr_ip_classify(&at.ip) != WR_IP_LOOPBACK &&
            (!ip6 || wr_policy_is_public(wr_swarm_policy(c->sw), &at.ip)) &&
            (wr_maddr_kind(wr_maddr_bytes(&book->of[i].addr)) == WR_MADDR_QUIC) == udp)
            return true;
    }
    return false;
}

/* ---- the filter, by a fresh socket ------------------------------------------------------------------- */

bool wr_autonat_client_nat_open(const struct wr_autonat_client *c, bool udp, bool ip6)
{
    return c->filters[ip6][udp].found == WR_NAT_FILTER_EIF;
}

bool wr_autonat_client_nat_friends(const struct wr_autonat_client *c, bool udp, bool ip6)
{
    return c->filters[ip6][udp].found != WR_NAT_FILTER_APDF;
}

bool wr_autonat_client_nat_closed(const struct wr_autonat_client *c, bool udp, bool ip6)
{
    enum wr_nat_filtering found = c->filters[ip6][udp].found;
    return found == WR_NAT_FILTER_ADF || found == WR_NAT_FILTER_APDF;
}

/* Who did not dial is asked again later, for anything. Others at his IP, behind the same NAT say, have nothing to do with
 * it. */
static void leave_alone(struct wr_autonat_client *c, const struct filter *f)
{
    for (size_t i = 0; i < f->test.peer_count; i++) {
        const struct wr_filtertest_ask *a = &f->test.asks[i];
        if (!a->over || (a->result != WR_ASK_REFUSED && a->result != WR_ASK_BROKEN))
            continue;
        for (size_t k = 0; k < c->server_count; k++)
            if (wr_peerid_equal(&c->servers[k].peer, &f->asked[i]))
                wr_autonat_client_in_vain(c, &c->servers[k], f->udp, !a->ask.unwilling);
    }
}

static void on_tested(struct wr_filtertest *t, enum wr_nat_filtering filtering)
{
    struct filter *f = wr_list_entry(t, struct filter, test);
    struct wr_autonat_client *c = f->client;
    f->found = filtering;
    f->again_at = wr_env_now(c->env) + (f->tried <= FILTER_SOONER ? FILTER_SOON : FILTER_AGAIN);
    leave_alone(c, f);
    wr_autonat_client_again(c);
}

static void filter_by(struct wr_autonat_client *c, bool udp, bool ip6)
{
    struct filter *f = &c->filters[ip6][udp];
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    wr_time now = wr_env_now(c->env), age = c->born_at ? now - c->born_at : 0;
    if (f->test.home || f->found != WR_NAT_FILTER_UNKNOWN || f->tried >= FILTER_TRIES || age < FILTER_AFTER ||
        now < f->again_at || !listening(c, udp, ip6))
        return;
    size_t most = FILTER_PEERS, count = gather(c, udp, ip6, true, to, f->asked);
    /* Two will do when no third turns up. */
    if (count < 2 || (count < most && age < FILTER_PATIENCE))
        return;
    f->client = c;
    f->udp = udp;
    f->ip6 = ip6;
    f->tried++;
    wr_filtertest_start(&f->test, c->sw, udp, to, count, on_tested);
}

static void filter(struct wr_autonat_client *c)
{
    for (unsigned i = 0; i < 4; i++)
        filter_by(c, i % 2, i / 2);
}

/* ---- more samples ------------------------------------------------------------------------------------ */

static void on_extra(void *arg, int err, struct wr_conn *conn)
{
    struct extra *e = arg;
    e->request = NULL;
    if (err != 0)
        return;
    wr_time now = wr_env_now(e->client->env);
    e->conn_id = conn->id;
    e->made_at = now;
    /* Who dialled us from the port that we dial now holds that pair of ports: ours was another one then, and what the
     * peer sees of that is nothing to us. */
    e->done_at = conn->port_reused ? 0 : now;
    watch_extras(e->client);
}

static struct extra *free_extra(struct wr_autonat_client *c, bool udp)
{
    for (size_t i = 0; i < WR_NATKIND_FEW; i++)
        if (!c->extras[udp][i].request && !c->extras[udp][i].conn_id)
            return &c->extras[udp][i];
    return NULL;
}

/* Whom we reached by IPv6 and who says that he has IPv4 as well is dialled there, if strangers may name that: a few, for each
 * network that we are in. Who came to us may do the same now, and of two dials between the same ports one shows nothing. */
static size_t extras_by_name(struct wr_autonat_client *c, bool udp)
{
    size_t made = 0, from = c->server_count ? (size_t)wr_env_random_below(c->env, c->server_count) : 0;
    for (size_t i = 0; i < c->server_count && made < WR_NATKIND_FEW; i++) {
        struct wr_maddr known[WR_PEER_ADDRS_MAX];
        const struct server *s = &c->servers[(from + i) % c->server_count];
        size_t n = wr_peerstore_addrs(wr_swarm_peerstore(c->sw), &s->peer, known, WR_PEER_ADDRS_MAX);
        bool fit = s->connected && s->v2 && s->ip.family == 6 && rank_of(c, s) < RANK_CAME;
        struct extra *e = free_extra(c, udp);
        for (size_t k = 0; fit && e && k < n; k++) {
            struct wr_bytes addr = wr_maddr_bytes(&known[k]);
            struct wr_addr at;
            if (wr_maddr_kind(addr) != (udp ? WR_MADDR_QUIC : WR_MADDR_TCP) || !wr_maddr_addr(addr, &at) ||
                at.ip.family != 4 || !wr_policy_is_public(wr_swarm_policy(c->sw), &at.ip) ||
                wr_policy_may_dial(wr_swarm_policy(c->sw), &s->peer, addr, WR_ORIGIN_STRANGER) != 0)
                continue;
            e->client = c;
            if (wr_swarm_connect_addr(c->sw, addr, on_extra, e, &e->request) == 0)
                made++;
            else
                e->request = NULL;
            break;
        }
    }
    return made;
}

bool wr_autonat_client_nat_meeting(const struct wr_autonat_client *c, bool udp)
{
    for (size_t i = 0; i < WR_NATKIND_FEW; i++)
        if (c->extras[udp][i].request || (c->extras[udp][i].conn_id && !c->extras[udp][i].done_at))
            return true;
    return false;
}

/* Most peers are met over one transport, or by IPv6; of the other one there are too few samples. */
static void extras(struct wr_autonat_client *c)
{
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    wr_time now = wr_env_now(c->env);
    if (!c->born_at || now - c->born_at < EXTRAS_AFTER)
        return;
    for (int udp = 0; udp <= 1; udp++) {
        if (c->extras_made[udp] || kind_of(c, udp)->mapping != WR_NAT_MAP_UNKNOWN || !listening(c, udp, false) ||
            now < c->extras_at[udp] || wr_autonat_client_nat_meeting(c, udp))
            continue;
        size_t count = targets(c, udp, to);
        if (count < 2) {
            if (c->extras_named[udp] < EXTRAS_NAMED && extras_by_name(c, udp) > 0) {
                c->extras_named[udp]++;
                c->extras_at[udp] = now + EXTRAS_AGAIN;
            }
            continue;
        }
        if (!free_extra(c, udp))
            continue;    /* others use those that were made: later */
        c->extras_made[udp] = true;
        for (size_t i = 0; i < count && i < WR_NATKIND_FEW; i++) {
            struct extra *e = free_extra(c, udp);
            if (!e)
                break;
            e->client = c;
            if (wr_swarm_connect_addr(c->sw, wr_maddr_bytes(&to[i]), on_extra, e, &e->request) != 0)
                e->request = NULL;
        }
    }
}

/* An address of a server on a port that no sample is of, beside one that there is; false: he has none. */
static bool other_port(struct wr_autonat_client *c, const struct server *s, bool udp, struct wr_maddr *out)
{
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    const struct wr_natkind *k = &c->samples[0][udp];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(c->sw), &s->peer, known, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes addr = wr_maddr_bytes(&known[i]);
        struct wr_addr at;
        bool sampled = false, same = false;
        if (wr_maddr_kind(addr) != (udp ? WR_MADDR_QUIC : WR_MADDR_TCP) || !wr_maddr_addr(addr, &at) ||
            !wr_ip_equal(&at.ip, &s->ip))
            continue;
        for (size_t n = 0; n < k->count; n++) {
            sampled |= wr_ip_equal(&k->of[n].remote.ip, &at.ip);
            same |= wr_addr_equal(&k->of[n].remote, &at);
        }
        *out = known[i];
        if (sampled && !same)
            return true;
    }
    return false;
}

/* Every peer sees another port: does every port of a peer, too? */
static void pairs(struct wr_autonat_client *c)
{
    if (!c->born_at || wr_env_now(c->env) - c->born_at < EXTRAS_AFTER)
        return;
    for (int udp = 0; udp <= 1; udp++) {
        if (c->pairs_made[udp] || !wr_autonat_client_nat_hard(c, udp) || !listening(c, udp, false))
            continue;
        size_t made = 0, slot = 0;
        for (size_t i = 0; i < c->server_count; i++) {
            struct wr_maddr to;
            while (slot < WR_NATKIND_FEW && (c->extras[udp][slot].request || c->extras[udp][slot].conn_id))
                slot++; /* those to other peers are not over yet */
            if (slot == WR_NATKIND_FEW)
                break;
            struct extra *e = &c->extras[udp][slot];
            if (!c->servers[i].connected || !other_port(c, &c->servers[i], udp, &to))
                continue;
            e->client = c;
            e->conn_id = 0;
            if (wr_swarm_connect_addr(c->sw, wr_maddr_bytes(&to), on_extra, e, &e->request) == 0)
                made++;
            else
                e->request = NULL;
        }
        c->pairs_made[udp] = made > 0;
    }
}

struct another {
    const struct wr_conn *than;
    bool found;
};

static void find_another(struct wr_conn *c, void *arg)
{
    struct another *a = arg;
    a->found = a->found ||
               (c != a->than && !c->circuit && !c->closing && wr_peerid_equal(&c->peer, &a->than->peer));
}

static bool spare(const struct wr_autonat_client *c, const struct wr_conn *conn)
{
    struct another a = {.than = conn};
    wr_swarm_each(c->sw, find_another, &a);
    return a.found;
}

struct wanted {
    uint64_t id;
    struct wr_conn *conn;
};

static void find_wanted(struct wr_conn *c, void *arg)
{
    struct wanted *w = arg;
    if (c->id == w->id && !c->closing)
        w->conn = c;
}

static void find_by_ip6(struct wr_conn *c, void *arg)
{
    struct another *a = arg;
    a->found = a->found || (!c->circuit && !c->closing && c->remote.ip.family == 6 && wr_peerid_equal(&c->peer, &a->than->peer));
}

/* Is there still something to be asked by it, for which dial data would be wanted by IPv6? */
static bool awaited(const struct wr_autonat_client *c, const struct wr_conn *conn)
{
    struct another a = {.than = conn};
    bool open = false;
    for (size_t i = 0; i < c->verdict.count; i++) {
        const struct wr_verdict_addr *v = &c->verdict.of[i];
        open |= v->family == 4 && v->udp == conn->udp && (v->verdict == WR_ADDR_UNKNOWN || v->curious);
    }
    if (open && conn->remote.ip.family == 4 && !wr_autonat_client_nat_hard(c, conn->udp))
        wr_swarm_each(c->sw, find_by_ip6, &a);
    return a.found;
}

/* Closes it when nobody uses it and there is another one to that peer; false: somebody does. */
static bool extra_ended(const struct wr_autonat_client *c, const struct extra *e)
{
    struct wanted w = {.id = e->conn_id};
    wr_swarm_each(c->sw, find_wanted, &w);
    if (!w.conn)
        return true;
    if (w.conn->stream_count || awaited(c, w.conn))
        return wr_env_now(c->env) - e->done_at >= EXTRA_PATIENCE;
    if (spare(c, w.conn))
        wr_conn_close(w.conn, WR_CONN_OK);
    return true;
}

static void on_extras(struct wr_timer *timer)
{
    struct wr_autonat_client *c = wr_list_entry(timer, struct wr_autonat_client, extras_timer);
    bool more = false;
    for (size_t i = 0; i < 2 * WR_NATKIND_FEW; i++) {
        struct extra *e = &c->extras[i / WR_NATKIND_FEW][i % WR_NATKIND_FEW];
        if (!e->conn_id)
            continue;
        if (!e->done_at && wr_env_now(c->env) - e->made_at >= EXTRA_PATIENCE)
            e->done_at = wr_env_now(c->env); /* its peer says nothing of us */
        if (e->done_at && extra_ended(c, e))
            e->conn_id = 0;
        else
            more = true;
    }
    if (more)
        watch_extras(c);
}

static void watch_extras(struct wr_autonat_client *c)
{
    wr_timer_start(c->env, &c->extras_timer, wr_env_now(c->env) + EXTRA_LOOK, on_extras);
}

/* What an extra connection was made for is done. It goes when what others began over it meanwhile has ended, too: they
 * take the best connection to a peer and do not know whose it is. */
static void extra_done(struct wr_autonat_client *c, const struct wr_conn *conn)
{
    for (size_t i = 0; i < 2 * WR_NATKIND_FEW; i++) {
        struct extra *e = &c->extras[i / WR_NATKIND_FEW][i % WR_NATKIND_FEW];
        if (!e->conn_id || e->conn_id != conn->id || e->done_at)
            continue;
        e->done_at = wr_env_now(c->env);
        watch_extras(c);
    }
}

/* ---- hairpin --------------------------------------------------------------------------------------- */

static void on_hairpin(struct wr_hairtest *t, enum wr_nat_answer found)
{
    struct hairpin *h = wr_list_entry(t, struct hairpin, test);
    kind_of(h->client, h->udp)->hairpin = found;
    wr_log(wr_env_log(h->client->env), WR_LOG_INFO, "autonat", "nat transport=%s hairpin=%d",
           h->udp ? "udp" : "tcp", (int)found);
}

/* Once for each network that we are in. Where every peer sees another port the test cannot tell where its two
 * sockets are, and nothing is said. */
static void hairpin(struct wr_autonat_client *c)
{
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    if (!c->born_at || wr_env_now(c->env) - c->born_at < HAIRPIN_AFTER || wr_swarm_nat(c->sw)->external.family != 4)
        return;
    for (int udp = 0; udp <= 1; udp++) {
        const struct wr_nat_kind *kind = kind_of(c, udp);
        struct hairpin *h = &c->hairpins[udp];
        bool placed = kind->mapping == WR_NAT_MAP_EIM ||
                      (kind->mapping == WR_NAT_MAP_UNKNOWN && kind->alloc == WR_NAT_ALLOC_PRESERVING);
        size_t count = h->tried || !placed ? 0 : targets(c, udp, to);
        if (count == 0)
            continue;
        *h = (struct hairpin){.client = c, .udp = udp, .tried = true};
        wr_hairtest_start(&h->test, c->sw, udp, &to[wr_env_random_below(c->env, count)], on_hairpin);
    }
}

/* ---- ports ----------------------------------------------------------------------------------------- */

/* Connections of our own port do not show how ports are allocated: where all have one, and where they do not stand in
 * the order of their mappings. One that is made again while the router remembers the last, or a dial that another way
 * overtook, has a mapping that is older than it. */
static bool ports_unclear(const struct wr_nat_kind *kind)
{
    switch (kind->mapping) {
    case WR_NAT_MAP_EIM:
        return kind->alloc == WR_NAT_ALLOC_UNKNOWN;
    case WR_NAT_MAP_ADM:
    case WR_NAT_MAP_APDM:
        return kind->alloc == WR_NAT_ALLOC_UNKNOWN || kind->alloc == WR_NAT_ALLOC_BLOCK;
    case WR_NAT_MAP_UNKNOWN:
    case WR_NAT_MAP_NONE:
        break;
    }
    return false;
}

static void use_ports(const struct ports *p, struct wr_nat_kind *kind)
{
    bool one_port = kind->mapping == WR_NAT_MAP_EIM;
    if (!ports_unclear(kind) || (!one_port && p->found.alloc == WR_NAT_ALLOC_UNKNOWN))
        return;
    kind->alloc = p->found.alloc;
    kind->step = p->found.step;
    kind->rate_milli = p->found.rate_milli;
    if (!one_port && p->found.last_port_at < kind->last_port_at)
        return;
    kind->last_port = p->found.last_port;
    kind->last_port_at = p->found.last_port_at;
    kind->port_lo = p->found.port_lo;
    kind->port_hi = p->found.port_hi;
}

static void on_surveyed(struct wr_survey *s)
{
    struct ports *p = wr_list_entry(s, struct ports, survey);
    wr_natkind_ports(s->of, s->count, &p->found);
    use_ports(p, kind_of(p->client, p->udp));
    say_kind(p->client, p->udp);
}

/* Only where the ports are not known otherwise. */
static void ports(struct wr_autonat_client *c)
{
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    wr_time age = c->born_at ? wr_env_now(c->env) - c->born_at : 0;
    for (int udp = 0; udp <= 1; udp++) {
        struct ports *p = &c->ports[udp];
        size_t count = 0;
        if (p->survey.home || p->found.alloc != WR_NAT_ALLOC_UNKNOWN || p->tried >= PORTS_TRIES ||
            age < PORTS_AFTER + p->tried * PORTS_AGAIN || !ports_unclear(kind_of(c, udp)) ||
            (count = targets(c, udp, to)) == 0)
            continue;
        *p = (struct ports){.client = c, .udp = udp, .tried = p->tried + 1};
        wr_survey_start(&p->survey, c->sw, to, count, WR_SURVEY_SAMPLES, on_surveyed);
    }
}

/* ---- the newest port ------------------------------------------------------------------------------- */

/* It is newer than what the connections of our own ports show. */
static void use_look(const struct wr_autonat_client *c, bool udp)
{
    struct wr_nat_kind *kind = kind_of(c, udp);
    if (!c->newest_port[udp] || c->newest_at[udp] <= kind->last_port_at)
        return;
    kind->last_port = c->newest_port[udp];
    kind->last_port_at = c->newest_at[udp];
}

static void dispose_look(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct look, task));
}

static void cancel_look(void *arg, void *look)
{
    struct wr_autonat_client *c = arg;
    struct look *l = look;
    wr_survey_cancel(&l->survey);
    wr_list_remove(&l->node);
    c->look_count--;
    wr_env_dispose(c->env, &l->task, dispose_look);
}

static void on_look(struct wr_survey *s)
{
    struct look *l = wr_list_entry(s, struct look, survey);
    struct wr_autonat_client *c = l->client;
    const struct wr_addr *seen = &s->of[0].seen;
    /* Another address than usual is another one's word, or of another pool: its ports say nothing. */
    if (s->count && wr_ip_equal(&seen->ip, &wr_swarm_nat(c->sw)->external)) {
        c->newest_port[l->udp] = seen->port;
        c->newest_at[l->udp] = s->of[0].at;
        use_look(c, l->udp);
    }
    cancel_look(c, l);
    l->done(l->arg);
}

static void *look(void *arg, bool udp, wr_ports_done done, void *done_arg)
{
    struct wr_autonat_client *c = arg;
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    size_t count = targets(c, udp, to);
    struct look *l = count && c->look_count < LOOKS_MAX ? wr_alloc(sizeof(*l)) : NULL;
    if (!l)
        return NULL;
    *l = (struct look){.client = c, .udp = udp, .done = done, .arg = done_arg};
    wr_list_append(&c->looks, &l->node);
    c->look_count++;
    /* Not always the same one: he may lie. */
    size_t pick = (size_t)wr_env_random_below(c->env, count);
    wr_survey_start(&l->survey, c->sw, &to[pick], 1, 1, on_look);
    return l;
}

static void end_looks(struct wr_autonat_client *c)
{
    while (!wr_list_empty(&c->looks)) {
        struct look *l = wr_list_entry(c->looks.next, struct look, node);
        cancel_look(c, l);
        l->done(l->arg);
    }
}

void wr_autonat_client_nat_step(struct wr_autonat_client *c)
{
    filter(c);
    extras(c);
    pairs(c);
    hairpin(c);
    ports(c);
    wr_autonat_client_life_recall(c);
}

/* ---- beginning and end ----------------------------------------------------------------------------- */

void wr_autonat_client_nat_start(struct wr_autonat_client *c)
{
    struct wr_ports ports = {.look = look, .cancel = cancel_look, .arg = c};
    wr_list_init(&c->looks);
    wr_swarm_set_ports(c->sw, &ports);
}

void wr_autonat_client_nat_end(struct wr_autonat_client *c)
{
    end_looks(c);
    wr_swarm_set_ports(c->sw, NULL);
    wr_autonat_client_nat_stop(c);
}

void wr_autonat_client_nat_stop(struct wr_autonat_client *c)
{
    wr_timer_stop(c->env, &c->extras_timer);
    for (size_t i = 0; i < 2; i++) {
        wr_hairtest_cancel(&c->hairpins[i].test);
        wr_survey_cancel(&c->ports[i].survey);
        wr_filtertest_cancel(&c->filters[0][i].test);
        wr_filtertest_cancel(&c->filters[1][i].test);
        for (size_t k = 0; k < WR_NATKIND_FEW; k++) {
            wr_connect_cancel(c->extras[i][k].request);
            c->extras[i][k] = (struct extra){.client = c};
        }
    }
}

void wr_autonat_client_nat_reset(struct wr_autonat_client *c)
{
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    wr_autonat_client_nat_stop(c);
    for (size_t i = 0; i < 2; i++) {
        wr_natkind_reset(&c->samples[0][i]);
        wr_natkind_reset(&c->samples[1][i]);
        c->hairpins[i].tried = false;
        c->ports[i] = (struct ports){.client = c};
        c->filters[0][i] = c->filters[1][i] = (struct filter){.client = c};
        c->extras_made[i] = c->pairs_made[i] = false;
        c->extras_named[i] = 0;
        c->extras_at[i] = 0;
        c->newest_port[i] = 0;
    }
    nat->udp = nat->tcp = nat->udp6 = nat->tcp6 = (struct wr_nat_kind){.mapping = WR_NAT_MAP_UNKNOWN};
    nat->external.family = 0;
    nat->strangers = false;
}
