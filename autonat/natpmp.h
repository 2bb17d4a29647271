/* natpmp.h - packets of NAT-PMP, the elder of the two ways to ask a router for a port. Value.
 * Spec: RFC 6886 section 3. UDP, IPv4 only, at PCP's ports (pcp.h): who speaks one hears the other. */
#ifndef WR_NATPMP_H
#define WR_NATPMP_H

#include "transport/addr.h"
#include "transport/bytes.h"

#define WR_NATPMP_ASK_MAX 12 /* bytes of a request */

enum wr_natpmp_result { /* section 3.5 */
                        WR_NATPMP_OK = 0,
                        WR_NATPMP_VERSION = 1,
                        WR_NATPMP_REFUSED = 2,
                        WR_NATPMP_NO_NETWORK = 3,
                        WR_NATPMP_RESOURCES = 4,
                        WR_NATPMP_OPCODE = 5,
};

struct wr_natpmp_answer {
    bool map; /* of a mapping, else of the outside address */
    bool udp;
    uint16_t result;            /* enum wr_natpmp_result, or what else the router says */
    uint32_t epoch;             /* seconds since the router lost its mappings */
    struct wr_ip external;      /* without map, result OK */
    uint16_t internal, outside; /* ports; with map, result OK */
    uint32_t lifetime;          /* seconds */
};

/* Return the length. A lifetime of 0 deletes the mapping of `internal`; the outside port is then 0. */
size_t wr_natpmp_ask_address(uint8_t out[static WR_NATPMP_ASK_MAX]);
size_t wr_natpmp_ask_map(uint8_t out[static WR_NATPMP_ASK_MAX], bool udp, uint16_t internal,
                         uint16_t outside, uint32_t lifetime);
/* 0, WR_EPROTO. */
int wr_natpmp_decode(struct wr_bytes in, struct wr_natpmp_answer *out);

#endif
