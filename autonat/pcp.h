/* pcp.h - packets of the Port Control Protocol: mappings of an IPv4 NAT, pinholes of an IPv6 firewall.
 * Value. Spec: RFC 6887. UDP port 5351 of the default gateway. Left out: PEER, options (those of an answer
 * are skipped, none is ever asked for), and mappings of all ports. */
#ifndef WR_PCP_H
#define WR_PCP_H

#include "transport/addr.h"
#include "transport/bytes.h"

#define WR_PCP_PORT          5351 /* of the router; RFC 6887 section 19.1 */
#define WR_PCP_ANNOUNCE_PORT 5350 /* of hosts, for multicast to 224.0.0.1 and ff02::1 */
#define WR_PCP_NONCE         12   /* bytes; section 11.1 */
#define WR_PCP_PACKET_MAX    1100 /* bytes; section 7 */
#define WR_PCP_ASK_MAX       60   /* bytes of our requests */

enum wr_pcp_result { /* section 7.4; others exist */
                     WR_PCP_OK = 0,
                     WR_PCP_VERSION = 1,
                     WR_PCP_REFUSED = 2,
                     WR_PCP_NO_NETWORK = 7,
                     WR_PCP_RESOURCES = 8,
                     WR_PCP_PROTOCOL = 9,
                     WR_PCP_QUOTA = 10,
                     WR_PCP_NO_EXTERNAL = 11,
                     WR_PCP_ADDRESS_MISMATCH = 12, /* another NAT between us and the server */
};

struct wr_pcp_map {
    uint8_t nonce[WR_PCP_NONCE]; /* ties renewal and deletion to who made the mapping */
    bool udp;
    uint16_t internal, outside; /* ports */
    struct wr_ip external;      /* of a request: what we should like; family 0: any */
};

struct wr_pcp_answer {
    bool map;          /* `mapping` is there: of a MAP answer, else it is one to ANNOUNCE */
    uint8_t result;    /* enum wr_pcp_result, or what else the router says */
    uint32_t lifetime; /* seconds: of the mapping, or of the error */
    uint32_t epoch;    /* seconds since the router lost its mappings */
    struct wr_pcp_map mapping;
};

/* Return the length. client: the address that the packet leaves from. Lifetime 0 deletes. */
size_t wr_pcp_ask_announce(uint8_t out[static WR_PCP_ASK_MAX], const struct wr_ip *client);
size_t wr_pcp_ask_map(uint8_t out[static WR_PCP_ASK_MAX], const struct wr_ip *client,
                      const struct wr_pcp_map *map, uint32_t lifetime);
/* 0; WR_EUNSUPPORTED: another version; WR_EPROTO. */
int wr_pcp_decode(struct wr_bytes in, struct wr_pcp_answer *out);

#endif
