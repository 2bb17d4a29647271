/* Which addresses belong into this DHT, and to whom they are of use. */
#include "dht/dht_impl.h"

static bool is_public(const struct wr_dht *d, const struct wr_ip *ip)
{
    return wr_policy_is_public(wr_swarm_policy(d->swarm), ip);
}

static bool is_name(struct wr_bytes addr)
{
    enum wr_maddr_kind kind = wr_maddr_kind(addr);
    return kind == WR_MADDR_DNS || kind == WR_MADDR_DNSADDR;
}

/* go-libp2p-kad-dht, dht_filters.go: the WAN table knows public addresses only, a relayed one
 * counting by its relay's; the LAN table the others, loopback left out because it is everybody's
 * own. */
bool wr_dht_addr_fits(const struct wr_dht *d, struct wr_bytes addr)
{
    struct wr_addr at;
    if (d->scope == WR_DHT_ANY)
        return true;
    if (!wr_maddr_addr(addr, &at))
        return d->scope == WR_DHT_WAN && is_name(addr);
    if (d->scope == WR_DHT_WAN)
        return is_public(d, &at.ip);
    return !is_public(d, &at.ip) && wr_ip_classify(&at.ip) != WR_IP_LOOPBACK;
}

/* Private addresses mean nothing to strangers far away, loopback ones only something on this
 * machine. */
bool wr_dht_addr_for(const struct wr_dht *d, struct wr_bytes addr, const struct wr_ip *asker)
{
    struct wr_addr at;
    if (!wr_dht_addr_fits(d, addr))
        return false;
    if (!wr_maddr_addr(addr, &at) || is_public(d, &at.ip))
        return true;
    if (wr_ip_classify(&at.ip) == WR_IP_LOOPBACK)
        return wr_ip_classify(asker) == WR_IP_LOOPBACK;
    return !is_public(d, asker);
}

size_t wr_dht_addrs_filter(const struct wr_dht *d, struct wr_bytes *addrs, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (wr_dht_addr_fits(d, addrs[i]))
            addrs[kept++] = addrs[i];
    }
    return kept;
}

bool wr_dht_conn_fits(const struct wr_dht *d, const struct wr_conn *conn)
{
    if (conn->circuit)
        return false;
    if (d->scope == WR_DHT_ANY)
        return true;
    return is_public(d, &conn->remote.ip) == (d->scope == WR_DHT_WAN);
}

size_t wr_dht_own_addrs(const struct wr_dht *d, const struct wr_ip *asker, struct wr_maddr *out,
                        size_t max)
{
    /* What is announced to a neighbour includes our private addresses, to a program on this machine
     * the loopback ones as well; to anybody, only public ones. */
    static const struct wr_ip neighbour = {.family = 4, .bytes = {192, 168, 0, 1}};
    struct wr_maddr all[WR_ADDRBOOK_MAX];
    const struct wr_ip *to = d->scope == WR_DHT_WAN ? NULL : &neighbour;
    if (to && asker && wr_ip_classify(asker) == WR_IP_LOOPBACK)
        to = asker;
    size_t count = wr_addrbook_announce(wr_swarm_addrbook(d->swarm), to, all, WR_ADDRBOOK_MAX);
    size_t kept = 0;
    for (size_t i = 0; i < count && kept < max; i++) {
        if (wr_dht_addr_fits(d, wr_maddr_bytes(&all[i])))
            out[kept++] = all[i];
    }
    return kept;
}
