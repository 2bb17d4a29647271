/* mdns_msg.h - what libp2p nodes tell each other by multicast DNS. Value.
 * Spec: libp2p discovery/mdns.md; what go, rust and js demand of an answer: DHT sheet 17. One packet below
 * the usual MTU that all three take: PTR in the answer section; SRV, one TXT with a string per address, and A
 * and AAAA of the SRV target in the additional section; and no question, because rust takes a packet with
 * one for a query. */
#ifndef WR_MDNS_MSG_H
#define WR_MDNS_MSG_H

#include "node/dnsmsg.h"
#include "transport/maddr.h"

#define WR_MDNS_PORT        5353
#define WR_MDNS_PACKET_MAX  1400     /* bytes we send; DHT sheet 17 */
#define WR_MDNS_PEERS_MAX   8        /* peers read from one packet; ours, everybody sends one */
#define WR_MDNS_ADDRS_MAX   16       /* addresses of one peer; ours */
#define WR_MDNS_TTL         3200     /* seconds, of PTR, SRV and TXT; go zeroconf */
#define WR_MDNS_TTL_HOST    120      /* seconds, of A and AAAA; RFC 6762 section 10 */
#define WR_MDNS_INSTANCE    40       /* characters of our peer name; spec: 32 to 63 */

/* The names one node uses. */
struct wr_mdns_names {
    struct wr_dns_name service;     /* _p2p._udp.local, or with the private network's fingerprint */
    struct wr_dns_name browse;      /* _services._dns-sd._udp.local */
    struct wr_dns_name instance;    /* <peer name>.<service> */
    struct wr_dns_name host;        /* <peer name>.local */
};

/* random: WR_MDNS_INSTANCE bytes of chance. fingerprint: of the private network, or NULL. 0, WR_EINVAL. */
int wr_mdns_names_init(struct wr_mdns_names *names, const uint8_t random[static WR_MDNS_INSTANCE],
                       const char *fingerprint);

/* ---- writing */
void wr_mdns_put_query(const struct wr_mdns_names *names, struct wr_buf *out);
/* Our presence on one link. Addresses are without /p2p; those that do not fit are left out. goodbye: with
 * TTL 0. Nothing is written without addresses. */
void wr_mdns_put_answer(const struct wr_mdns_names *names, uint16_t id, const struct wr_peerid *self,
                        const struct wr_maddr *addrs, size_t count, bool goodbye, struct wr_buf *out);
/* Answer to whoever lists all services: that there is ours. */
void wr_mdns_put_browse(const struct wr_mdns_names *names, uint16_t id, struct wr_buf *out);

/* ---- reading */
struct wr_mdns_peer {
    struct wr_peerid id;
    uint32_t ttl;    /* seconds; 0: goodbye */
    size_t count;
    struct wr_maddr addrs[WR_MDNS_ADDRS_MAX];    /* as told, without /p2p */
};

struct wr_mdns_packet {
    uint16_t id;
    bool asks;      /* for our service or for us */
    bool browses;   /* for all services */
};

/* Reads a packet; calls visit for every peer of the service that it tells of (of a response). 0, WR_EPROTO. */
int wr_mdns_read(const struct wr_mdns_names *names, struct wr_bytes packet, struct wr_mdns_packet *out,
                 void (*visit)(void *arg, const struct wr_mdns_peer *peer), void *arg);

#endif
