#include "node/mdns.h"

#include <string.h>

#define QUERY_STEPS   3                  /* questions before the pace slows down */
#define QUERY_SLOW    (10 * WR_SEC)      /* then this, doubling ... */
#define QUERY_SLOWEST (60 * WR_SEC)      /* ... up to this; DHT sheet 17 */
#define ANSWER_MIN    (20 * WR_MSEC)     /* shared answers wait a random while; RFC 6762 section 6 */
#define ANSWER_MAX    (120 * WR_MSEC)
#define ANSWER_EVERY  (1 * WR_SEC)       /* the same by multicast on a link; RFC 6762 section 6 */
#define ANNOUNCE_AGAIN (1 * WR_SEC)      /* after the first; RFC 6762 section 8.3 */
#define TTL_MIN       (2 * WR_MIN)       /* a peerstore entry lives at least as long */

enum family { FOUR, SIX, FAMILIES };

struct link {
    uint32_t index;
    bool joined[FAMILIES];
    struct wr_ip ips[8];         /* ours on it; more are not announced */
    size_t ip_count;
    wr_time answered_at;         /* by multicast; 0 never */
    wr_time answer_at;           /* a multicast answer is due; 0 no */
    bool again;                  /* ... and once more after it: an announcement */
};

/* Tokens that come back one by one. */
struct bucket {
    wr_time counted_at;
    unsigned tokens;
};

struct known {
    struct wr_list node;
    struct wr_peerid id;         /* the key */
    wr_time expires_at;
    uint64_t digest;             /* of the addresses that were passed on; 0: the next answer is news */
};

struct wr_mdns {
    struct wr_mdns_options options;
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_mdns_names names;
    struct wr_udp *sockets[FAMILIES];
    struct link links[WR_MDNS_LINKS_MAX];
    size_t link_count;
    struct wr_map known;
    struct wr_list order;
    unsigned asked;              /* questions since the start, or since the network changed */
    struct wr_timer query_timer, answer_timer;
    struct wr_net_watch net_watch;
    struct wr_swarm_watch swarm_watch;
    struct bucket unicast, passed;
    struct wr_mdns_stats stats;
    /* The packet being looked at. */
    const struct link *from_link;
};

static bool take(struct bucket *b, wr_time now, wr_time every, unsigned burst)
{
    wr_time fresh = (now - b->counted_at) / every;
    if (b->counted_at == 0 || fresh >= burst - (wr_time)b->tokens) {
        b->tokens = burst;
        b->counted_at = now;
    } else {
        b->tokens += (unsigned)fresh;
        b->counted_at += fresh * every;
    }
    if (b->tokens == 0)
        return false;
    b->tokens--;
    return true;
}

/* ---- sending -------------------------------------------------------------------------------------------- */

static struct wr_addr group(enum family f, uint32_t ifindex)
{
    struct wr_addr a = {.port = WR_MDNS_PORT};
    if (f == FOUR)
        a.ip = (struct wr_ip){.family = 4, .bytes = {224, 0, 0, 251}};
    else
        a.ip = (struct wr_ip){.family = 6, .bytes = {0xff, 2, [15] = 0xfb}};
    a.scope = f == SIX ? ifindex : 0;
    return a;
}

static void send_multicast(struct wr_mdns *m, const struct link *link, const struct wr_buf *packet)
{
    if (packet->len == 0 || packet->full)
        return;
    for (enum family f = 0; f < FAMILIES; f++) {
        struct wr_addr to = group(f, link->index);
        if (m->sockets[f] && link->joined[f])
            wr_udp_send(m->sockets[f], &to, link->index, wr_buf_bytes(packet));
    }
}

static bool on_link(const struct link *link, const struct wr_ip *ip)
{
    for (size_t i = 0; i < link->ip_count; i++) {
        if (wr_ip_equal(&link->ips[i], ip))
            return true;
    }
    return false;
}

/* One listening address, as it is reached over this link: a wildcard is every address we have there. */
static size_t expand(const struct link *link, struct wr_bytes ma, struct wr_maddr *out, size_t max)
{
    struct wr_addr at;
    enum wr_maddr_kind kind = wr_maddr_kind(ma);
    size_t n = 0;
    if ((kind != WR_MADDR_TCP && kind != WR_MADDR_QUIC) || !wr_maddr_addr(ma, &at))
        return 0;
    bool any = wr_ip_classify(&at.ip) == WR_IP_UNSPECIFIED;
    for (size_t i = 0; i < link->ip_count && n < max; i++) {
        struct wr_addr own = {.ip = link->ips[i], .port = at.port};
        if (own.ip.family != at.ip.family || (!any && !wr_ip_equal(&own.ip, &at.ip)))
            continue;
        if (wr_maddr_from_addr(&own, kind == WR_MADDR_QUIC, &out[n]) == 0)
            n++;
    }
    return n;
}

/* What we are on a link, as a packet; empty when we do not listen there. */
static void put_answer(struct wr_mdns *m, const struct link *link, uint16_t id, bool goodbye,
                       struct wr_buf *out)
{
    struct wr_maddr listening[WR_MDNS_ADDRS_MAX], addrs[WR_MDNS_ADDRS_MAX];
    size_t count = wr_swarm_listening(m->swarm, listening, WR_MDNS_ADDRS_MAX), n = 0;
    for (size_t i = 0; i < count; i++)
        n += expand(link, wr_maddr_bytes(&listening[i]), addrs + n, WR_MDNS_ADDRS_MAX - n);
    wr_mdns_put_answer(&m->names, id, wr_swarm_self(m->swarm), addrs, n, goodbye, out);
}

static void answer_link(struct wr_mdns *m, struct link *link, bool goodbye)
{
    struct wr_buf packet;
    wr_buf_init(&packet, WR_MDNS_PACKET_MAX);
    put_answer(m, link, 0, goodbye, &packet);
    send_multicast(m, link, &packet);
    m->stats.answers += packet.len > 0;
    wr_buf_clear(&packet);
}

/* ---- answers that are due ----------------------------------------------------------------------------- */

static void on_answers(struct wr_timer *timer);

static void plan_answers(struct wr_mdns *m)
{
    wr_time next = 0;
    for (size_t i = 0; i < m->link_count; i++) {
        wr_time at = m->links[i].answer_at;
        if (at && (!next || at < next))
            next = at;
    }
    if (next)
        wr_timer_start(m->env, &m->answer_timer, next, on_answers);
    else
        wr_timer_stop(m->env, &m->answer_timer);
}

/* An answer to the whole link, soon, but not the same within a second. */
static void answer_soon(struct wr_mdns *m, struct link *link)
{
    wr_time now = wr_env_now(m->env);
    if (link->answer_at)
        return;
    link->answer_at = now + ANSWER_MIN +
                      (wr_time)wr_env_random_below(m->env, (uint64_t)(ANSWER_MAX - ANSWER_MIN));
    if (link->answered_at && link->answer_at < link->answered_at + ANSWER_EVERY)
        link->answer_at = link->answered_at + ANSWER_EVERY;
    plan_answers(m);
}

static void announce(struct wr_mdns *m)
{
    for (size_t i = 0; i < m->link_count; i++) {
        answer_soon(m, &m->links[i]);
        m->links[i].again = true;
    }
}

static void on_answers(struct wr_timer *timer)
{
    struct wr_mdns *m = wr_list_entry(timer, struct wr_mdns, answer_timer);
    wr_time now = wr_env_now(m->env);
    for (size_t i = 0; i < m->link_count; i++) {
        struct link *link = &m->links[i];
        if (!link->answer_at || link->answer_at > now)
            continue;
        answer_link(m, link, false);
        link->answered_at = now;
        link->answer_at = link->again ? now + ANNOUNCE_AGAIN : 0;
        link->again = false;
    }
    plan_answers(m);
}

/* To one host that asked from a port of its own: it hears no multicast. Only on the link, so that nobody can
 * have us send to strangers. */
static void answer_host(struct wr_mdns *m, enum family f, const struct link *link,
                        const struct wr_addr *to, const struct wr_mdns_packet *asked)
{
    struct wr_buf packet;
    if (!take(&m->unicast, wr_env_now(m->env), WR_MDNS_UNICAST_RATE, WR_MDNS_UNICAST_BURST)) {
        m->stats.refused++;
        return;
    }
    wr_buf_init(&packet, WR_MDNS_PACKET_MAX);
    if (asked->asks)
        put_answer(m, link, asked->id, false, &packet);
    else
        wr_mdns_put_browse(&m->names, asked->id, &packet);
    if (packet.len && !packet.full)
        m->stats.answers += wr_udp_send(m->sockets[f], to, link->index, wr_buf_bytes(&packet)) == 0;
    wr_buf_clear(&packet);
}

/* ---- questions ------------------------------------------------------------------------------------------ */

static void on_query(struct wr_timer *timer)
{
    static const wr_time steps[QUERY_STEPS] = {1 * WR_SEC, 2 * WR_SEC, QUERY_SLOW};
    struct wr_mdns *m = wr_list_entry(timer, struct wr_mdns, query_timer);
    struct wr_buf packet;
    wr_buf_init(&packet, WR_MDNS_PACKET_MAX);
    wr_mdns_put_query(&m->names, &packet);
    for (size_t i = 0; i < m->link_count; i++)
        send_multicast(m, &m->links[i], &packet);
    m->stats.queries += m->link_count > 0;
    wr_buf_clear(&packet);
    wr_time wait = QUERY_SLOWEST;
    if (m->asked < QUERY_STEPS)
        wait = steps[m->asked];
    else if (m->asked < QUERY_STEPS + 2)    /* 20 s, 40 s */
        wait = QUERY_SLOW << (m->asked - QUERY_STEPS + 1);
    m->asked++;
    /* Up to a tenth later, so that nodes that started together drift apart. */
    wait += (wr_time)wr_env_random_below(m->env, (uint64_t)wait / 10);
    wr_timer_start(m->env, &m->query_timer, wr_env_now(m->env) + wait, on_query);
}

static void query_afresh(struct wr_mdns *m)
{
    m->asked = 0;
    wr_timer_start(m->env, &m->query_timer,
                   wr_env_now(m->env) + (wr_time)wr_env_random_below(m->env, (uint64_t)ANSWER_MAX),
                   on_query);
}

/* ---- peers ---------------------------------------------------------------------------------------------- */

static void forget(struct wr_mdns *m, struct known *k)
{
    wr_map_del(&m->known, wr_peerid_bytes(&k->id));
    wr_list_remove(&k->node);
    wr_free(k);
}

static void drop_expired(struct wr_mdns *m, wr_time now)
{
    wr_list_each(it, &m->order)
    {
        struct known *k = wr_list_entry(it, struct known, node);
        if (k->expires_at <= now)
            forget(m, k);
    }
}

static struct known *soonest(struct wr_mdns *m)
{
    struct known *first = NULL;
    wr_list_each(it, &m->order)
    {
        struct known *k = wr_list_entry(it, struct known, node);
        if (!first || k->expires_at < first->expires_at)
            first = k;
    }
    return first;
}

static struct known *remember(struct wr_mdns *m, const struct wr_peerid *id)
{
    struct known *k = wr_map_get(&m->known, wr_peerid_bytes(id));
    if (k)
        return k;
    drop_expired(m, wr_env_now(m->env));
    if (m->known.count == WR_MDNS_KNOWN_MAX)
        forget(m, soonest(m));
    k = wr_alloc(sizeof(*k));
    if (!k)
        return NULL;
    k->id = *id;
    wr_list_init(&k->node);
    if (wr_map_put(&m->known, wr_peerid_bytes(&k->id), k) == 0) {
        wr_list_append(&m->order, &k->node);
        return k;
    }
    wr_free(k);
    return NULL;
}

/* A told address that lies on a link of ours, in the form that we can dial: a link-local one gets the link it
 * was heard on. */
static bool usable(const struct wr_mdns *m, const struct wr_maddr *told, struct wr_maddr *out)
{
    const struct wr_policy *policy = wr_swarm_policy(m->swarm);
    struct wr_bytes ma = wr_maddr_bytes(told);
    enum wr_maddr_kind kind = wr_maddr_kind(ma);
    struct wr_addr addr;
    if ((kind != WR_MADDR_TCP && kind != WR_MADDR_QUIC) || !wr_maddr_addr(ma, &addr) ||
        !wr_policy_on_link(policy, &addr.ip))
        return false;
    addr.scope = 0;
    if (addr.ip.family == 6 && wr_ip_classify(&addr.ip) == WR_IP_LINK_LOCAL)
        addr.scope = m->from_link->index;
    return wr_maddr_from_addr(&addr, kind == WR_MADDR_QUIC, out) == 0 &&
           wr_policy_may_dial(policy, NULL, wr_maddr_bytes(out), WR_ORIGIN_LAN) == 0;
}

/* Order does not matter: go nodes shuffle theirs. */
static uint64_t digest_of(const struct wr_maddr *addrs, size_t count)
{
    uint64_t sum = count + 1;
    for (size_t i = 0; i < count; i++) {
        uint64_t h = 0xcbf29ce484222325u;    /* FNV-1a: a clash only delays news */
        for (size_t k = 0; k < addrs[i].len; k++)
            h = (h ^ addrs[i].bytes[k]) * 0x100000001b3u;
        sum += h;
    }
    return sum ? sum : 1;
}

/* Keeps the addresses that are not our own. */
static size_t elsewhere(const struct wr_mdns *m, struct wr_maddr *addrs, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes bare = wr_maddr_strip_peer(wr_maddr_bytes(&addrs[i]));
        if (!wr_swarm_is_own(m->swarm, bare))
            addrs[kept++] = addrs[i];
    }
    return kept;
}

static void on_told(void *arg, const struct wr_mdns_peer *peer)
{
    struct wr_mdns *m = arg;
    struct wr_maddr addrs[WR_MDNS_ADDRS_MAX];
    size_t count = 0;
    wr_time now = wr_env_now(m->env), ttl = (wr_time)peer->ttl * WR_SEC;
    if (wr_policy_peer_blocked(wr_swarm_policy(m->swarm), &peer->id))
        return;
    struct known *k = wr_map_get(&m->known, wr_peerid_bytes(&peer->id));
    if (peer->ttl == 0) {
        if (k)
            forget(m, k);
        return;
    }
    for (size_t i = 0; i < peer->count; i++)
        count += usable(m, &peer->addrs[i], &addrs[count]);
    /* Our own answers come back to us; our id elsewhere is another node's, and that is news. */
    bool self = wr_peerid_equal(&peer->id, wr_swarm_self(m->swarm));
    if (self)
        count = elsewhere(m, addrs, count);
    if (count == 0)
        return;
    uint64_t digest = digest_of(addrs, count);
    ttl = ttl > WR_MDNS_TTL_MAX ? WR_MDNS_TTL_MAX : ttl;
    bool news = !k || k->expires_at <= now || k->digest != digest;
    if (news && !take(&m->passed, now, WR_MDNS_PEER_RATE, WR_MDNS_PEER_BURST)) {
        m->stats.refused++;
        return;
    }
    k = remember(m, &peer->id);
    if (!k)
        return;
    k->expires_at = now + ttl;
    k->digest = digest;
    for (size_t i = 0; i < count && !self; i++)
        wr_peerstore_add_addr(wr_swarm_peerstore(m->swarm), &peer->id, wr_maddr_bytes(&addrs[i]),
                              ttl < TTL_MIN ? TTL_MIN : ttl, false);
    if (news && m->options.on_peer)
        m->options.on_peer(m->options.arg, &peer->id, addrs, count);
}

/* ---- receiving ------------------------------------------------------------------------------------------ */

static struct link *find_link(struct wr_mdns *m, uint32_t ifindex)
{
    for (size_t i = 0; i < m->link_count; i++) {
        if (m->links[i].index == ifindex)
            return &m->links[i];
    }
    return NULL;
}

/* RFC 6762 section 11: what does not come from the link is not for us. */
static bool from_here(const struct wr_mdns *m, const struct link *link, const struct wr_addr *from)
{
    return from->port != 0 && (wr_policy_on_link(wr_swarm_policy(m->swarm), &from->ip) ||
                               on_link(link, &from->ip));
}

static void on_packet(struct wr_mdns *m, enum family f, const struct wr_addr *from, uint32_t ifindex,
                      struct wr_bytes data)
{
    struct link *link = find_link(m, ifindex);
    struct wr_mdns_packet packet;
    if (!link || !from_here(m, link, from))
        return;
    m->stats.heard++;
    m->from_link = link;
    if (wr_mdns_read(&m->names, data, &packet, on_told, m) < 0) {
        m->stats.bad++;
        return;
    }
    if (!packet.asks && !packet.browses)
        return;
    if (from->port != WR_MDNS_PORT || !packet.asks)
        answer_host(m, f, link, from, &packet);
    else
        answer_soon(m, link);
}

static void on_packet4(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    on_packet(arg, FOUR, from, ifindex, WR_BYTES(data, len));
}

static void on_packet6(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    on_packet(arg, SIX, from, ifindex, WR_BYTES(data, len));
}

/* ---- links and sockets ---------------------------------------------------------------------------------- */

static void open_sockets(struct wr_mdns *m)
{
    static const struct wr_udp_ops ops[FAMILIES] = {{.on_datagram = on_packet4},
                                                    {.on_datagram = on_packet6}};
    for (enum family f = 0; f < FAMILIES; f++) {
        struct wr_addr any = {.ip = {.family = f == FOUR ? 4 : 6}, .port = WR_MDNS_PORT};
        if (m->sockets[f])
            continue;
        int err = wr_env_udp(m->env, &any, true, &ops[f], m, &m->sockets[f]);
        if (err == 0)
            continue;
        m->sockets[f] = NULL;
        wr_log(wr_env_log(m->env), WR_LOG_WARN, "mdns", "no socket family=%s err=%s",
               f == FOUR ? "ip4" : "ip6", wr_err_name(err));
    }
}

/* The links of now, keeping what is known of those that stay. */
static void read_links(struct wr_mdns *m)
{
    struct wr_ifaddr all[WR_IFADDRS_MAX];
    struct link old[WR_MDNS_LINKS_MAX];
    size_t old_count = m->link_count, count = wr_env_ifaddrs(m->env, all, WR_IFADDRS_MAX);
    memcpy(old, m->links, sizeof(old));
    m->link_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (all[i].loopback || !all[i].multicast)
            continue;
        struct link *link = find_link(m, all[i].index);
        if (!link && m->link_count == WR_MDNS_LINKS_MAX)
            continue;
        if (!link) {
            link = &m->links[m->link_count++];
            memset(link, 0, sizeof(*link));
            for (size_t k = 0; k < old_count; k++) {
                if (old[k].index == all[i].index)
                    *link = old[k];
            }
            link->index = all[i].index;
            link->ip_count = 0;
        }
        if (link->ip_count < sizeof(link->ips) / sizeof(link->ips[0]))
            link->ips[link->ip_count++] = all[i].ip;
    }
}

/* Joins where we have an address of the family; leaving is the kernel's doing, when an interface goes. */
static void join_links(struct wr_mdns *m)
{
    for (size_t i = 0; i < m->link_count; i++) {
        struct link *link = &m->links[i];
        for (enum family f = 0; f < FAMILIES; f++) {
            struct wr_addr to = group(f, link->index);
            bool have = false;
            for (size_t k = 0; k < link->ip_count; k++)
                have = have || link->ips[k].family == to.ip.family;
            if (!have)
                link->joined[f] = false;
            else if (m->sockets[f] && !link->joined[f])
                link->joined[f] = wr_udp_join(m->sockets[f], &to.ip, link->index) == 0;
        }
    }
}

static void refresh(struct wr_mdns *m)
{
    open_sockets(m);
    read_links(m);
    join_links(m);
    announce(m);
    plan_answers(m);
    query_afresh(m);
}

static void on_net_change(struct wr_net_watch *watch)
{
    struct wr_mdns *m = wr_list_entry(watch, struct wr_mdns, net_watch);
    wr_list_each(it, &m->order)
        wr_list_entry(it, struct known, node)->digest = 0;
    refresh(m);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_mdns *m = wr_list_entry(watch, struct wr_mdns, swarm_watch);
    if (event->type == WR_SWARM_ADDRS)
        announce(m);
    /* Both ends live on after a silence. Whoever closed meant it, and who crashed asks again by itself. */
    if (event->type == WR_SWARM_DISCONNECTED && event->err == WR_ETIMEOUT) {
        struct known *k = wr_map_get(&m->known, wr_peerid_bytes(event->peer));
        if (k)
            k->digest = 0;
    }
}

/* ---- life ----------------------------------------------------------------------------------------------- */

struct wr_mdns *wr_mdns_create(const struct wr_mdns_options *options)
{
    uint8_t chance[WR_MDNS_INSTANCE];
    struct wr_mdns *m = wr_alloc(sizeof(*m));
    if (!m)
        return NULL;
    m->options = *options;
    m->swarm = options->swarm;
    m->env = wr_swarm_env(m->swarm);
    wr_env_random(m->env, chance, sizeof(chance));
    if (wr_mdns_names_init(&m->names, chance, options->fingerprint) < 0) {
        wr_free(m);
        return NULL;
    }
    wr_map_init(&m->known, WR_MDNS_KNOWN_MAX, wr_env_hash_seed(m->env));
    wr_list_init(&m->order);
    m->net_watch.on_change = on_net_change;
    wr_env_watch_net(m->env, &m->net_watch);
    m->swarm_watch.on_event = on_event;
    wr_swarm_watch(m->swarm, &m->swarm_watch);
    refresh(m);
    return m;
}

void wr_mdns_destroy(struct wr_mdns *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->link_count; i++)
        answer_link(m, &m->links[i], true);
    for (enum family f = 0; f < FAMILIES; f++) {
        if (m->sockets[f])
            wr_udp_close(m->sockets[f]);
    }
    wr_net_watch_stop(&m->net_watch);
    wr_swarm_unwatch(&m->swarm_watch);
    wr_timer_stop(m->env, &m->query_timer);
    wr_timer_stop(m->env, &m->answer_timer);
    wr_list_each(it, &m->order)
        forget(m, wr_list_entry(it, struct known, node));
    wr_map_clear(&m->known);
    wr_free(m);
}

void wr_mdns_stats(const struct wr_mdns *m, struct wr_mdns_stats *out)
{
    wr_time now = wr_env_now(m->env);
    *out = m->stats;
    out->links = (unsigned)m->link_count;
    out->sockets = (m->sockets[FOUR] ? 1u : 0u) + (m->sockets[SIX] ? 1u : 0u);
    out->peers = 0;
    for (const struct wr_list *it = m->order.next; it != &m->order; it = it->next) {
        const struct known *k = (const struct known *)((uintptr_t)it - offsetof(struct known, node));
        out->peers += k->expires_at > now;
    }
}
