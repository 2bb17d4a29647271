/* Packets from the local link: the DNS reader by itself, then the service's reading of them. */
#include "node/mdns_msg.h"
#include "transport/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Labels behind their lengths, a zero at the end and nowhere else. */
static void check_name(const struct wr_dns_name *n)
{
    size_t at = 0;
    while (at < n->len && n->bytes[at] != 0) {
        if (n->bytes[at] > WR_DNS_LABEL_MAX)
            abort();
        at += 1u + n->bytes[at];
    }
    if (at + 1 != n->len || !wr_dns_name_equal(n, n))
        abort();
}

static void read_all(struct wr_bytes packet)
{
    struct wr_dns_reader r;
    struct wr_dns_item item;
    struct wr_dns_name name;
    unsigned items = 0;
    if (wr_dns_open(&r, packet) < 0)
        return;
    while (wr_dns_next(&r, &item) == 1) {
        struct wr_bytes text;
        if (++items > WR_DNS_ITEMS_MAX)
            abort();
        check_name(&item.name);
        if (wr_dns_data_name(&r, &item, 0, &name) == 0)
            check_name(&name);
        if (wr_dns_data_name(&r, &item, 6, &name) == 0)
            check_name(&name);
        while (wr_dns_txt_next(&item.data, &text)) {
            if (text.len && (text.ptr < packet.ptr || text.ptr + text.len > packet.ptr + packet.len))
                abort();
        }
    }
}

static void check_peer(void *arg, const struct wr_mdns_peer *peer)
{
    unsigned *peers = arg;
    if (++*peers > WR_MDNS_PEERS_MAX || peer->count == 0 || peer->count > WR_MDNS_ADDRS_MAX ||
        peer->id.len == 0)
        abort();
    for (size_t i = 0; i < peer->count; i++) {
        struct wr_maddr again;
        if (wr_maddr_decode(wr_maddr_bytes(&peer->addrs[i]), &again) != 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t chance[WR_MDNS_INSTANCE];
    struct wr_mdns_names names;
    struct wr_mdns_packet packet;
    unsigned peers = 0;
    if (wr_mdns_names_init(&names, chance, NULL) < 0)
        abort();
    read_all(WR_BYTES(data, size));
    int err = wr_mdns_read(&names, WR_BYTES(data, size), &packet, check_peer, &peers);
    if (err != 0 && err != WR_EPROTO)
        abort();
    return 0;
}
