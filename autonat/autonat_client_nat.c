/* What the questions and the observations of peers say of the NAT itself. */
#include "autonat/autonat_client_impl.h"

#define PORTS_AFTER   (5 * WR_SEC)    /* after the first server: by then the mapping is known; ours */
#define HAIRPIN_AFTER (3 * WR_SEC) /* after the first server: the rest first; ours */

static struct wr_natkind *samples_of(struct wr_autonat_client *c, bool udp)
{
    return udp ? &c->udp : &c->tcp;
}

static struct wr_nat_kind *kind_of(const struct wr_autonat_client *c, bool udp)
{
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    return udp ? &nat->udp : &nat->tcp;
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

void wr_autonat_client_nat_observed(struct wr_autonat_client *c, const struct wr_conn *conn,
                                    const struct wr_maddr *seen)
{
    struct wr_natkind_sample sample = {.local = conn->local, .remote = conn->remote, .at = conn->begun_at};
    struct wr_policy *policy = wr_swarm_policy(c->sw);
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    bool quic = wr_maddr_kind(wr_maddr_bytes(seen)) == WR_MADDR_QUIC;
    wr_time now = wr_env_now(c->env);
    /* What came in did not make a mapping, and a neighbour sees none. */
    if (!conn->outbound || conn->circuit || quic != conn->udp ||
        !wr_maddr_addr(wr_maddr_bytes(seen), &sample.seen) || sample.seen.ip.family != 4 ||
        conn->remote.ip.family != 4 || !wr_policy_is_public(policy, &conn->remote.ip) ||
        !wr_policy_is_public(policy, &sample.seen.ip))
        return;
    struct wr_natkind *samples = samples_of(c, conn->udp);
    wr_natkind_add(samples, &sample);
    bool news = wr_natkind_judge(samples, now, kind_of(c, conn->udp));
    use_ports(&c->ports[conn->udp], kind_of(c, conn->udp));
    if (news)
        say_kind(c, conn->udp);
    nat->external = wr_natkind_external(samples, now);
}

bool wr_autonat_client_nat_talked(const struct wr_autonat_client *c, const struct wr_maddr *addr, bool udp,
                                  const struct wr_ip *ip)
{
    const struct wr_natkind *k = udp ? &c->udp : &c->tcp;
    struct wr_addr at;
    if (!wr_autonat_client_nat_hard(c, udp))
        return wr_contacts_known(&c->contacts, ip, udp, wr_env_now(c->env));
    /* Each mapping lets in only whom it was made for. */
    for (size_t i = 0; wr_maddr_addr(wr_maddr_bytes(addr), &at) && i < k->count; i++)
        if (wr_addr_equal(&k->of[i].seen, &at) && wr_ip_equal(&k->of[i].remote.ip, ip))
            return true;
    return false;
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

static void count(const struct wr_autonat_client *c, bool udp, struct votes *v)
{
    wr_time now = wr_env_now(c->env);
    for (size_t i = 0; i < c->verdict.count; i++) {
        const struct wr_verdict_addr *a = &c->verdict.of[i];
        for (size_t k = 0; a->udp == udp && a->family == 4 && k < a->count; k++) {
            const struct wr_verdict_evidence *e = &a->of[k];
            if (now - e->at >= WR_VERDICT_EXPIRES)
                continue;
            v->friend_in += !e->stranger && e->reached;
            v->friend_out += !e->stranger && !e->reached;
            v->stranger_in += e->stranger && e->reached;
            v->stranger_out += e->stranger && !e->reached;
        }
    }
}

static enum wr_nat_filtering filtering(const struct wr_autonat_client *c, bool udp)
{
    struct votes v = {0};
    unsigned need = wr_autonat_client_servers(c) > 1 ? 2 : 1;
    count(c, udp, &v);
    if (v.stranger_in > 0 && v.stranger_in >= v.stranger_out)
        return WR_NAT_FILTER_EIF;
    if (v.friend_in > v.friend_out && v.stranger_out >= need)
        return WR_NAT_FILTER_ADF;
    /* Of a hard mapping only the one peer that it was made for is a friend. */
    if (v.friend_in == 0 && (v.friend_out >= need || (wr_autonat_client_nat_hard(c, udp) && v.friend_out &&
                                                      v.stranger_out >= need)))
        return WR_NAT_FILTER_APDF;
    return WR_NAT_FILTER_UNKNOWN;
}

void wr_autonat_client_nat_judge(struct wr_autonat_client *c)
{
    static const char *const names[] = {"unknown", "eif", "adf", "apdf"};
    for (int udp = 0; udp <= 1; udp++) {
        enum wr_nat_filtering f = filtering(c, udp);
        struct wr_nat_kind *kind = kind_of(c, udp);
        if (f == kind->filtering)
            continue;
        kind->filtering = f;
        wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "nat transport=%s filtering=%s",
               udp ? "udp" : "tcp", names[f]);
    }
}

/* ---- hairpin --------------------------------------------------------------------------------------- */

static void on_hairpin(struct wr_dialback_try *t, enum wr_autonat_dial result, size_t index)
{
    struct hairpin *h = wr_list_entry(t, struct hairpin, dial);
    struct wr_nat_kind *kind = kind_of(h->client, h->udp);
    (void)index;
    kind->hairpin = result == WR_AUTONAT_DIAL_OK ? WR_NAT_ANSWER_YES : WR_NAT_ANSWER_NO;
    wr_log(wr_env_log(h->client->env), WR_LOG_INFO, "autonat", "nat transport=%s hairpin=%d",
           h->udp ? "udp" : "tcp", kind->hairpin == WR_NAT_ANSWER_YES);
}

/* Our own outside address, dialled from a port that is not ours: once for each network that we are in. */
void wr_autonat_client_nat_hairpin(struct wr_autonat_client *c)
{
    if (!c->born_at || wr_env_now(c->env) - c->born_at < HAIRPIN_AFTER)
        return;
    for (size_t i = 0; i < c->verdict.count; i++) {
        const struct wr_verdict_addr *a = &c->verdict.of[i];
        struct hairpin *h = &c->hairpins[a->udp];
        if (h->tried || !a->natted || a->family != 4 ||
            kind_of(c, a->udp)->mapping <= WR_NAT_MAP_NONE)
            continue;
        h->tried = true;
        h->client = c;
        h->udp = a->udp;
        (void)wr_dialback_start(c->dialback, &h->dial, wr_swarm_self(c->sw), &a->addr, 1, NULL, on_hairpin);
    }
}

/* ---- ports ----------------------------------------------------------------------------------------- */

static void use_ports(const struct ports *p, struct wr_nat_kind *kind)
{
    if (kind->mapping != WR_NAT_MAP_EIM || kind->alloc != WR_NAT_ALLOC_UNKNOWN)
        return;
    kind->alloc = p->found.alloc;
    kind->step = p->found.step;
    kind->rate_milli = p->found.rate_milli;
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

static size_t targets(const struct wr_autonat_client *c, bool udp, struct wr_maddr *out)
{
    size_t n = 0;
    for (size_t i = 0; i < c->server_count && n < WR_SURVEY_SAMPLES; i++) {
        struct wr_maddr known[WR_PEER_ADDRS_MAX];
        struct wr_addr at;
        size_t count = c->servers[i].connected
                           ? wr_peerstore_addrs(wr_swarm_peerstore(c->sw), &c->servers[i].peer, known,
                                                WR_PEER_ADDRS_MAX)
                           : 0;
        for (size_t k = 0; k < count; k++) {
            struct wr_bytes addr = wr_maddr_bytes(&known[k]);
            if (wr_maddr_kind(addr) != (udp ? WR_MADDR_QUIC : WR_MADDR_TCP) || !wr_maddr_addr(addr, &at) ||
                !wr_ip_equal(&at.ip, &c->servers[i].ip) || at.ip.family != 4)
                continue;
            out[n++] = known[k];
            break;
        }
    }
    return n;
}

/* Once for each network that we are in, and only where the ports are not known otherwise. */
void wr_autonat_client_nat_ports(struct wr_autonat_client *c)
{
    struct wr_maddr to[WR_SURVEY_SAMPLES];
    if (!c->born_at || wr_env_now(c->env) - c->born_at < PORTS_AFTER)
        return;
    for (int udp = 0; udp <= 1; udp++) {
        const struct wr_nat_kind *kind = kind_of(c, udp);
        struct ports *p = &c->ports[udp];
        size_t count = 0;
        if (p->tried || kind->mapping != WR_NAT_MAP_EIM || kind->alloc != WR_NAT_ALLOC_UNKNOWN ||
            (count = targets(c, udp, to)) == 0)
            continue;
        *p = (struct ports){.client = c, .udp = udp, .tried = true};
        wr_survey_start(&p->survey, c->sw, to, count, on_surveyed);
    }
}

/* ---- beginning and end ----------------------------------------------------------------------------- */

void wr_autonat_client_nat_stop(struct wr_autonat_client *c)
{
    for (size_t i = 0; i < 2; i++) {
        wr_dialback_cancel(&c->hairpins[i].dial);
        wr_survey_cancel(&c->ports[i].survey);
    }
}

void wr_autonat_client_nat_reset(struct wr_autonat_client *c)
{
    struct wr_nat *nat = wr_swarm_nat(c->sw);
    wr_autonat_client_nat_stop(c);
    wr_natkind_reset(&c->udp);
    wr_natkind_reset(&c->tcp);
    for (size_t i = 0; i < 2; i++) {
        c->hairpins[i].tried = false;
        c->ports[i] = (struct ports){.client = c};
    }
    nat->udp = (struct wr_nat_kind){.mapping = WR_NAT_MAP_UNKNOWN};
    nat->tcp = nat->udp;
    nat->external.family = 0;
}
