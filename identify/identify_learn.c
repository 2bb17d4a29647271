#include "identify/identify_impl.h"

/* What a peer says of its addresses is kept by where it is connected from (go identify, "addrs filter"):
 * a public peer's private addresses lead nowhere or to strangers on our own network. */
static bool worth_keeping(const struct wr_identify *id, const struct wr_conn *conn, struct wr_bytes ma)
{
    const struct wr_policy *policy = wr_swarm_policy(id->swarm);
    struct wr_addr addr;
    switch (wr_maddr_kind(ma)) {
    case WR_MADDR_TCP:
    case WR_MADDR_QUIC:
    case WR_MADDR_CIRCUIT:
    case WR_MADDR_DNS:
        break;
    case WR_MADDR_DNSADDR:    /* one name of a stranger's may stand for a hundred addresses */
    case WR_MADDR_OTHER:      /* nothing we dial: it would only take a place */
        return false;
    }
    if (!wr_maddr_addr(ma, &addr))
        return true;
    enum wr_ip_class class = wr_ip_classify(&addr.ip);
    if (addr.port == 0 || class == WR_IP_UNSPECIFIED || class == WR_IP_MULTICAST ||
        (class == WR_IP_LINK_LOCAL && addr.ip.family == 6 && addr.scope == 0))
        return false;
    if (conn->circuit || wr_policy_is_public(policy, &conn->remote.ip))
        return wr_policy_is_public(policy, &addr.ip);
    return wr_ip_classify(&conn->remote.ip) == WR_IP_LOOPBACK || class != WR_IP_LOOPBACK;
}

struct kept {
    struct wr_maddr addrs[WR_PEER_ADDRS_MAX];
    size_t count;
};

/* One round takes direct addresses, the next relayed ones: places are few. */
static void keep(const struct wr_identify *id, const struct wr_conn *conn, struct kept *kept,
                 struct wr_bytes ma, bool circuits)
{
    struct wr_maddr checked;
    if (kept->count == WR_PEER_ADDRS_MAX || ma.len == 0 || wr_maddr_decode(ma, &checked) < 0)
        return;
    ma = wr_maddr_bytes(&checked);
    if (wr_maddr_is_circuit(ma) == circuits && worth_keeping(id, conn, ma))
        kept->addrs[kept->count++] = checked;
}

/* The signed record, when there is a good one. 1: use its addresses; 0: use the plain list; WR_EPEERID: it is
 * well signed and another peer's, so nothing it says is believed (go: no addresses at all). */
static int open_record(const struct wr_identify *id, const struct wr_conn *conn, struct wr_bytes in,
                       struct wr_peer_record *record)
{
    struct wr_peerstore *ps = wr_swarm_peerstore(id->swarm);
    if (in.len == 0 || in.len > WR_ENVELOPE_MAX)
        return 0;
    int err = wr_peer_record_open(in, wr_swarm_verified(id->swarm), record);
    if (err == WR_EPEERID || (err == 0 && !wr_peerid_equal(&record->peer, &conn->peer)))
        return WR_EPEERID;
    if (err < 0)
        return 0;
    err = wr_peerstore_set_record(ps, &conn->peer, record->seq);
    if (err != WR_ESTALE)
        return err == 0;
    /* The same one again, on a second connection or in a push about protocols, is as good as new. */
    const struct wr_peer *known = wr_peerstore_find(ps, &conn->peer);
    return known && known->record_seq == record->seq;
}

static void learn_addrs(struct wr_identify *id, const struct wr_conn *conn,
                        const struct wr_identify_msg *m)
{
    struct wr_peer_record record;
    struct kept kept = {.count = 0};
    int certified = open_record(id, conn, m->record, &record);
    size_t count = certified == 1 ? record.count : certified == 0 ? m->addr_count : 0;
    for (int circuits = 0; circuits <= 1; circuits++) {
        for (size_t i = 0; i < count; i++)
            keep(id, conn, &kept, certified == 1 ? wr_maddr_bytes(&record.addrs[i]) : m->addrs[i],
                 circuits);
    }
    wr_peerstore_set_addrs(wr_swarm_peerstore(id->swarm), &conn->peer, kept.addrs, kept.count,
                           WR_TTL_CONNECTED, certified == 1);
}

/* Evidence only comes over our listening sockets: other ports are gone with the connection. */
static void learn_observed(struct wr_identify *id, struct link *link, struct wr_bytes seen)
{
    struct wr_conn *c = link->conn;
    struct wr_maddr local, checked;
    struct wr_waist waist;
    wr_conn_local(c, &local);
    if (c->circuit || !c->port_reused || seen.len == 0 || wr_maddr_decode(seen, &checked) < 0 ||
        !wr_waist_of(wr_maddr_bytes(&local), &waist))
        return;
    wr_swarm_observed(id->swarm, c, &checked);
    wr_time now = wr_env_now(id->env);
    if (wr_observed_vote(&id->observed, &link->vote, &waist, &c->remote, wr_maddr_bytes(&checked), now) ==
        0)
        wr_identify_judge_at(id, now + WR_IDENTIFY_JUDGE);
}

int wr_identify_learn(struct wr_identify *id, struct link *link, struct wr_bytes bodies, bool push)
{
    struct wr_identify_msg m;
    struct wr_conn *c = link->conn;
    struct wr_peerstore *ps = wr_swarm_peerstore(id->swarm);
    struct wr_peerid named;
    int err = wr_identify_decode(bodies, &m);
    if (err < 0)
        return err;
    if (m.pubkey.len &&
        (wr_peerid_from_pubkey(m.pubkey, &named) < 0 || !wr_peerid_equal(&named, &c->peer)))
        return WR_EPEERID;
    /* A push may leave out what did not change; what it does say replaces what was known. */
    if (!push || m.addr_count || m.record.len)
        learn_addrs(id, c, &m);
    if (!push || m.protocol_count)
        wr_peerstore_set_protocols(ps, &c->peer, m.protocols, m.protocol_count);
    if (!push || m.agent.len)
        wr_peerstore_set_agent(ps, &c->peer, m.agent, m.protocol_version);
    learn_observed(id, link, m.observed);
    return 0;
}
