/* addr.h - IP addresses and ports, and which addresses mean what. Value. */
#ifndef WR_ADDR_H
#define WR_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct wr_ip {
    uint8_t family;       /* 4 or 6; 0: none */
    uint8_t bytes[16];    /* network order; the first four for IPv4, the rest zero */
};

struct wr_addr {
    struct wr_ip ip;
    uint16_t port;     /* host order */
    uint32_t scope;    /* interface index of a link-local IPv6 address, else 0 */
};

/* Where an address can be reached from. */
enum wr_ip_class {
    WR_IP_PUBLIC,
    WR_IP_PRIVATE,        /* RFC 1918, RFC 6598 shared, RFC 4193 unique local */
    WR_IP_LOOPBACK,
    WR_IP_LINK_LOCAL,     /* 169.254/16, fe80::/10 */
    WR_IP_UNSPECIFIED,    /* 0.0.0.0, :: */
    WR_IP_MULTICAST,      /* and limited broadcast */
    WR_IP_RESERVED,       /* documentation, benchmarking, class E, NAT64, v4-mapped ... */
};

/* An address block: CIDR. */
struct wr_cidr {
    struct wr_ip ip;
    uint8_t prefix;    /* bits */
};

#define WR_ADDR_TEXT 64    /* bytes of "[ip6%scope]:port" and NUL */

enum wr_ip_class wr_ip_classify(const struct wr_ip *ip);
bool wr_ip_equal(const struct wr_ip *a, const struct wr_ip *b);
/* The first `bits` bits are alike; false across families. */
bool wr_ip_same_prefix(const struct wr_ip *a, const struct wr_ip *b, unsigned bits);
/* The address with all but the first `bits` bits zeroed. */
struct wr_ip wr_ip_mask(const struct wr_ip *ip, unsigned bits);
bool wr_addr_equal(const struct wr_addr *a, const struct wr_addr *b);
/* "1.2.3.4" or "2001:db8::1" (RFC 5952). */
int wr_ip_parse(const char *text, struct wr_ip *ip);                        /* 0, WR_EINVAL */
void wr_ip_print(const struct wr_ip *ip, char out[static WR_ADDR_TEXT]);
void wr_addr_print(const struct wr_addr *addr, char out[static WR_ADDR_TEXT]); /* with port */
int wr_cidr_parse(const char *text, struct wr_cidr *cidr);    /* "10.0.0.0/8", or a bare address */
bool wr_cidr_contains(const struct wr_cidr *cidr, const struct wr_ip *ip);

/* As the system has them. to: an address with a family; returns the length. from: as long as its family says; another
 * family gives {0}. */
socklen_t wr_addr_to_sockaddr(const struct wr_addr *addr, struct sockaddr_storage *out);
void wr_addr_from_sockaddr(const struct sockaddr *in, struct wr_addr *out);

#endif
