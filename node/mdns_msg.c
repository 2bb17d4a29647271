#include "node/mdns_msg.h"

#include "transport/err.h"

#include <stdio.h>
#include <string.h>

#define TXT_PREFIX "dnsaddr="
#define HOSTS_MAX  6    /* A and AAAA records sent; ours: one is needed */

/* ---- names ---------------------------------------------------------------------------------------------- */

int wr_mdns_names_init(struct wr_mdns_names *names, const uint8_t random[static WR_MDNS_INSTANCE],
                       const char *fingerprint)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";    /* 32: no bias */
    char peer[WR_MDNS_INSTANCE + 1], text[WR_DNS_NAME_MAX + 1];
    for (size_t i = 0; i < WR_MDNS_INSTANCE; i++)
        peer[i] = letters[random[i] % 32];
    peer[WR_MDNS_INSTANCE] = 0;
    int n = snprintf(text, sizeof(text), "_p2p%s%s._udp.local", fingerprint ? "-" : "",
                     fingerprint ? fingerprint : "");
    if (n < 0 || (size_t)n >= sizeof(text) || wr_dns_name_parse(text, &names->service) < 0)
        return WR_EINVAL;
    char instance[sizeof(peer) + sizeof(text)];
    snprintf(instance, sizeof(instance), "%s.%s", peer, text);
    if (wr_dns_name_parse(instance, &names->instance) < 0)
        return WR_EINVAL;
    snprintf(instance, sizeof(instance), "%s.local", peer);
    if (wr_dns_name_parse(instance, &names->host) < 0)
        return WR_EINVAL;
    return wr_dns_name_parse("_services._dns-sd._udp.local", &names->browse);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

void wr_mdns_put_query(const struct wr_mdns_names *names, struct wr_buf *out)
{
    static const uint16_t counts[4] = {1, 0, 0, 0};
    wr_dns_put_header(out, 0, false, counts);
    wr_dns_put_question(out, &names->service, WR_DNS_PTR);
}

static void put_ptr(struct wr_buf *out, const struct wr_dns_name *name, const struct wr_dns_name *to,
                    uint32_t ttl)
{
    size_t mark = wr_dns_begin_record(out, name, WR_DNS_PTR, WR_DNS_IN, ttl);
    wr_dns_put_name(out, to);
    wr_dns_end_record(out, mark);
}

void wr_mdns_put_browse(const struct wr_mdns_names *names, uint16_t id, struct wr_buf *out)
{
    static const uint16_t counts[4] = {0, 1, 0, 0};
    wr_dns_put_header(out, id, true, counts);
    put_ptr(out, &names->browse, &names->service, WR_MDNS_TTL);
}

/* A and AAAA: go looks for one that belongs to the SRV target. Returns how many. */
static uint16_t put_hosts(struct wr_buf *out, const struct wr_mdns_names *names,
                          const struct wr_maddr *addrs, size_t count, uint32_t ttl)
{
    struct wr_ip done[HOSTS_MAX];
    uint16_t n = 0;
    for (size_t i = 0; i < count && n < HOSTS_MAX; i++) {
        struct wr_addr addr;
        size_t same = 0;
        if (!wr_maddr_addr(wr_maddr_bytes(&addrs[i]), &addr))
            continue;
        while (same < n && !wr_ip_equal(&done[same], &addr.ip))
            same++;
        if (same < n)
            continue;
        bool four = addr.ip.family == 4;
        size_t mark = wr_dns_begin_record(out, &names->host, four ? WR_DNS_A : WR_DNS_AAAA,
                                          WR_DNS_IN | WR_DNS_TOP, ttl);
        wr_buf_put(out, addr.ip.bytes, four ? 4 : 16);
        wr_dns_end_record(out, mark);
        done[n++] = addr.ip;
    }
    return n;
}

/* One string per address, while they fit. */
static void put_txt(struct wr_buf *out, const struct wr_mdns_names *names, const struct wr_peerid *self,
                    const struct wr_maddr *addrs, size_t count, uint32_t ttl)
{
    size_t mark =
        wr_dns_begin_record(out, &names->instance, WR_DNS_TXT, WR_DNS_IN | WR_DNS_TOP, ttl);
    for (size_t i = 0; i < count; i++) {
        char text[sizeof(TXT_PREFIX) + WR_MADDR_TEXT] = TXT_PREFIX;
        struct wr_maddr whole = addrs[i];
        if (wr_maddr_append_peer(&whole, self) < 0)
            continue;
        wr_maddr_print(wr_maddr_bytes(&whole), text + sizeof(TXT_PREFIX) - 1, WR_MADDR_TEXT);
        size_t len = strlen(text);
        if (len > UINT8_MAX || out->len + 1 + len > WR_MDNS_PACKET_MAX)
            continue;
        wr_buf_put_u8(out, (uint8_t)len);
        wr_buf_put(out, text, len);
    }
    wr_dns_end_record(out, mark);
}

static uint16_t port_of(const struct wr_maddr *addrs, size_t count)
{
    struct wr_addr addr;
    for (size_t i = 0; i < count; i++) {
        if (wr_maddr_addr(wr_maddr_bytes(&addrs[i]), &addr))
            return addr.port;
    }
    return 0;
}

void wr_mdns_put_answer(const struct wr_mdns_names *names, uint16_t id, const struct wr_peerid *self,
                        const struct wr_maddr *addrs, size_t count, bool goodbye, struct wr_buf *out)
{
    uint16_t counts[4] = {0, 1, 0, 2};
    uint32_t ttl = goodbye ? 0 : WR_MDNS_TTL;
    uint16_t port = port_of(addrs, count);
    if (port == 0)
        return;
    size_t start = out->len;
    wr_dns_put_header(out, id, true, counts);
    put_ptr(out, &names->service, &names->instance, ttl);
    size_t mark =
        wr_dns_begin_record(out, &names->instance, WR_DNS_SRV, WR_DNS_IN | WR_DNS_TOP, ttl);
    wr_buf_put_u16be(out, 0);    /* priority */
    wr_buf_put_u16be(out, 0);    /* weight */
    wr_buf_put_u16be(out, port);
    wr_dns_put_name(out, &names->host);
    wr_dns_end_record(out, mark);
    counts[3] = (uint16_t)(counts[3] +
                           put_hosts(out, names, addrs, count, goodbye ? 0 : WR_MDNS_TTL_HOST));
    /* Last, because it takes what room is left. */
    put_txt(out, names, self, addrs, count, ttl);
    if (out->full)
        return;
    out->data[start + 10] = (uint8_t)(counts[3] >> 8);
    out->data[start + 11] = (uint8_t)counts[3];
}

/* ---- reading -------------------------------------------------------------------------------------------- */

/* The text of one address, when it names the same peer as those before. */
static void read_addr(struct wr_bytes text, struct wr_mdns_peer *peer)
{
    char copy[UINT8_MAX + 1];
    struct wr_maddr addr;
    struct wr_peerid id;
    struct wr_bytes prefix = WR_BYTES_STR(TXT_PREFIX);
    if (!wr_bytes_starts(text, prefix) || peer->count == WR_MDNS_ADDRS_MAX)
        return;
    wr_bytes_take(&text, prefix.len);
    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.ptr, 0, text.len))
        return;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    if (wr_maddr_parse(copy, &addr) < 0)
        return;
    struct wr_bytes bare = wr_maddr_strip_peer(wr_maddr_bytes(&addr));
    if (bare.len == 0 || bare.len == addr.len || !wr_maddr_peer(wr_maddr_bytes(&addr), &id) ||
        (peer->id.len && !wr_peerid_equal(&id, &peer->id)))
        return;
    peer->id = id;
    addr.len = (uint8_t)bare.len;
    peer->addrs[peer->count++] = addr;
}

/* All that the packet's TXT records say of one instance. */
static void read_instance(struct wr_bytes packet, const struct wr_dns_name *instance,
                          struct wr_mdns_peer *peer)
{
    struct wr_dns_reader r;
    struct wr_dns_item item;
    if (wr_dns_open(&r, packet) < 0)
        return;
    while (wr_dns_next(&r, &item) == 1) {
        struct wr_bytes data = item.data, text;
        if (item.section == WR_DNS_QUESTION || item.type != WR_DNS_TXT ||
            !wr_dns_name_equal(&item.name, instance))
            continue;
        while (wr_dns_txt_next(&data, &text))
            read_addr(text, peer);
    }
}

static bool asks_for_us(const struct wr_mdns_names *names, const struct wr_dns_item *q)
{
    if (wr_dns_name_equal(&q->name, &names->service))
        return q->type == WR_DNS_PTR || q->type == WR_DNS_ANY;
    return wr_dns_name_equal(&q->name, &names->instance) || wr_dns_name_equal(&q->name, &names->host);
}

int wr_mdns_read(const struct wr_mdns_names *names, struct wr_bytes packet, struct wr_mdns_packet *out,
                 void (*visit)(void *arg, const struct wr_mdns_peer *peer), void *arg)
{
    struct wr_dns_reader r;
    struct wr_dns_item item;
    unsigned peers = 0;
    int rc = wr_dns_open(&r, packet);
    memset(out, 0, sizeof(*out));
    if (rc < 0)
        return rc;
    out->id = r.id;
    while ((rc = wr_dns_next(&r, &item)) == 1) {
        if ((item.class & ~WR_DNS_TOP) != WR_DNS_IN && (item.class & ~WR_DNS_TOP) != WR_DNS_ANY)
            continue;
        if (item.section == WR_DNS_QUESTION && !r.response) {
            out->asks = out->asks || asks_for_us(names, &item);
            out->browses = out->browses || wr_dns_name_equal(&item.name, &names->browse);
        }
        struct wr_dns_name instance;
        if (!r.response || item.section == WR_DNS_QUESTION || item.type != WR_DNS_PTR ||
            peers == WR_MDNS_PEERS_MAX || !wr_dns_name_equal(&item.name, &names->service) ||
            wr_dns_data_name(&r, &item, 0, &instance) < 0)
            continue;
        struct wr_mdns_peer peer = {.ttl = item.ttl};
        read_instance(packet, &instance, &peer);
        peers++;
        if (peer.id.len)
            visit(arg, &peer);
    }
    return rc;
}
