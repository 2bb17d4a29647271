#include "transport/addr.h"

#include "transport/err.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

struct block {
    uint8_t family, prefix;
    uint8_t bytes[8]; /* the leading ones; the rest is zero */
    enum wr_ip_class class;
};

/* IANA IPv4 and IPv6 special-purpose address registries (RFC 6890 and its updates), the more
 * specific block first; what no row names is public (IPv6: only within 2000::/3). */
static const struct block BLOCKS[] = {
    {4, 32, {0}, WR_IP_UNSPECIFIED},
    {4, 8, {0}, WR_IP_RESERVED},       /* "this network" */
    {4, 8, {10}, WR_IP_PRIVATE},       /* RFC 1918 */
    {4, 10, {100, 64}, WR_IP_PRIVATE}, /* RFC 6598, between home and carrier NAT */
    {4, 8, {127}, WR_IP_LOOPBACK},
    {4, 16, {169, 254}, WR_IP_LINK_LOCAL},
    {4, 12, {172, 16}, WR_IP_PRIVATE},       /* RFC 1918 */
    {4, 24, {192, 0, 0}, WR_IP_RESERVED},    /* IETF protocol assignments, DS-Lite */
    {4, 24, {192, 0, 2}, WR_IP_RESERVED},    /* TEST-NET-1 */
    {4, 24, {192, 88, 99}, WR_IP_RESERVED},  /* 6to4 relays, RFC 7526 */
    {4, 16, {192, 168}, WR_IP_PRIVATE},      /* RFC 1918 */
    {4, 15, {198, 18}, WR_IP_RESERVED},      /* benchmarking, RFC 2544 */
    {4, 24, {198, 51, 100}, WR_IP_RESERVED}, /* TEST-NET-2 */
    {4, 24, {203, 0, 113}, WR_IP_RESERVED},  /* TEST-NET-3 */
    {4, 4, {224}, WR_IP_MULTICAST},
    {4, 32, {255, 255, 255, 255}, WR_IP_MULTICAST},    /* limited broadcast */
    {4, 4, {240}, WR_IP_RESERVED},                     /* class E */
    {6, 23, {0x20, 0x01}, WR_IP_RESERVED},             /* IETF assignments: Teredo, ORCHID ... */
    {6, 32, {0x20, 0x01, 0x0d, 0xb8}, WR_IP_RESERVED}, /* documentation */
    {6, 16, {0x20, 0x02}, WR_IP_RESERVED},             /* 6to4 */
    {6, 20, {0x3f, 0xff}, WR_IP_RESERVED},             /* documentation, RFC 9637 */
    {6, 3, {0x20}, WR_IP_PUBLIC},                      /* the only unicast space given out */
    {6, 7, {0xfc}, WR_IP_PRIVATE},                     /* unique local, RFC 4193 */
    {6, 10, {0xfe, 0x80}, WR_IP_LINK_LOCAL},
    {6, 8, {0xff}, WR_IP_MULTICAST},
};

static size_t ip_len(const struct wr_ip *ip)
{
    return ip->family == 4 ? 4 : ip->family == 6 ? 16 : 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8) == 0;
}

enum wr_ip_class wr_ip_classify(const struct wr_ip *ip)
{
    static const uint8_t zeros[15];
    if (ip->family != 4 && ip->family != 6)
        return WR_IP_UNSPECIFIED;
    if (ip->family == 6 && memcmp(ip->bytes, zeros, 15) == 0 && ip->bytes[15] <= 1)
        return ip->bytes[15] ? WR_IP_LOOPBACK : WR_IP_UNSPECIFIED;
    for (size_t i = 0; i < sizeof(BLOCKS) / sizeof(BLOCKS[0]); i++)
        if (BLOCKS[i].family == ip->family &&
            same_bits(ip->bytes, BLOCKS[i].bytes, BLOCKS[i].prefix))
            return BLOCKS[i].class;
    return ip->family == 4 ? WR_IP_PUBLIC : WR_IP_RESERVED;
}

bool wr_ip_equal(const struct wr_ip *a, const struct wr_ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_len(a)) == 0;
}

bool wr_ip_same_prefix(const struct wr_ip *a, const struct wr_ip *b, unsigned bits)
{
    return a->family == b->family && bits <= 8 * ip_len(a) && same_bits(a->bytes, b->bytes, bits);
}

struct wr_ip wr_ip_mask(const struct wr_ip *ip, unsigned bits)
{
    struct wr_ip out = {.family = ip->family};
    size_t len = ip_len(ip);
    for (size_t i = 0; i < len && bits > 0; i++) {
        unsigned keep = bits < 8 ? bits : 8;
        out.bytes[i] = (uint8_t)(ip->bytes[i] & (0xff << (8 - keep)));
        bits -= keep;
    }
    return out;
}

bool wr_addr_equal(const struct wr_addr *a, const struct wr_addr *b)
{
    return a->port == b->port && a->scope == b->scope && wr_ip_equal(&a->ip, &b->ip);
}

int wr_ip_parse(const char *text, struct wr_ip *ip)
{
    struct wr_ip out = {.family = strchr(text, ':') ? 6 : 4};
    if (inet_pton(out.family == 6 ? AF_INET6 : AF_INET, text, out.bytes) != 1)
        return WR_EINVAL;
    *ip = out;
    return 0;
}

/* RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups is :: */
static void print_ip6(const uint8_t *bytes, char *out, size_t size)
{
    unsigned group[8];
    int best = -1, best_len = 1;
    for (int i = 0; i < 8; i++)
        group[i] = (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1];
    for (int i = 0; i < 8; i++) {
        int len = 0;
        while (i + len < 8 && group[i + len] == 0)
            len++;
        if (len > best_len) {
            best = i;
            best_len = len;
        }
    }
    size_t used = 0;
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            used += (size_t)snprintf(out + used, size - used, "::");
            i += best_len - 1;
            continue;
        }
        bool first = i == 0 || i == best + best_len;
        used += (size_t)snprintf(out + used, size - used, first ? "%x" : ":%x", group[i]);
    }
}

void wr_ip_print(const struct wr_ip *ip, char out[static WR_ADDR_TEXT])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *b = ip->bytes;
    if (ip->family == 4)
        snprintf(out, WR_ADDR_TEXT, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    else if (ip->family == 6 && memcmp(b, mapped, sizeof(mapped)) == 0)
        snprintf(out, WR_ADDR_TEXT, "::ffff:%u.%u.%u.%u", b[12], b[13], b[14], b[15]);
    else if (ip->family == 6)
        print_ip6(b, out, WR_ADDR_TEXT);
    else
        snprintf(out, WR_ADDR_TEXT, "none");
}

void wr_addr_print(const struct wr_addr *addr, char out[static WR_ADDR_TEXT])
{
    char ip[WR_ADDR_TEXT];
    wr_ip_print(&addr->ip, ip);
    if (addr->ip.family != 6)
        snprintf(out, WR_ADDR_TEXT, "%.39s:%u", ip, addr->port);
    else if (addr->scope)
        snprintf(out, WR_ADDR_TEXT, "[%.39s%%%u]:%u", ip, addr->scope, addr->port);
    else
        snprintf(out, WR_ADDR_TEXT, "[%.39s]:%u", ip, addr->port);
}

/* One to three digits, at most max. */
static bool parse_prefix(const char *text, unsigned max, uint8_t *prefix)
{
    unsigned v = 0;
    size_t len = strlen(text);
    if (len < 1 || len > 3 || strspn(text, "0123456789") != len)
        return false;
    for (; *text; text++)
        v = v * 10 + (unsigned)(*text - '0');
    *prefix = (uint8_t)v;
    return v <= max;
}

int wr_cidr_parse(const char *text, struct wr_cidr *cidr)
{
    char ip[INET6_ADDRSTRLEN];
    struct wr_cidr out = {.prefix = 0};
    size_t len = strcspn(text, "/");
    if (len >= sizeof(ip))
        return WR_EINVAL;
    memcpy(ip, text, len);
    ip[len] = 0;
    if (wr_ip_parse(ip, &out.ip) != 0)
        return WR_EINVAL;
    out.prefix = (uint8_t)(8 * ip_len(&out.ip));
    if (text[len] && !parse_prefix(text + len + 1, out.prefix, &out.prefix))
        return WR_EINVAL;
    *cidr = out;
    return 0;
}

bool wr_cidr_contains(const struct wr_cidr *cidr, const struct wr_ip *ip)
{
    return wr_ip_same_prefix(&cidr->ip, ip, cidr->prefix);
}

/* ---- for the system */

socklen_t wr_addr_to_sockaddr(const struct wr_addr *addr, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (addr->ip.family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(addr->port);
        memcpy(&in->sin_addr, addr->ip.bytes, 4);
        return sizeof(*in);
    }
    assert(addr->ip.family == 6);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(addr->port);
    in6->sin6_scope_id = addr->scope;
    memcpy(&in6->sin6_addr, addr->ip.bytes, 16);
    return sizeof(*in6);
}

void wr_addr_from_sockaddr(const struct sockaddr *in, struct wr_addr *out)
{
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    *out = (struct wr_addr){0};
    if (in->sa_family == AF_INET) {
        memcpy(&in4, in, sizeof(in4));
        out->ip.family = 4;
        out->port = ntohs(in4.sin_port);
        memcpy(out->ip.bytes, &in4.sin_addr, 4);
    } else if (in->sa_family == AF_INET6) {
        memcpy(&in6, in, sizeof(in6));
        out->ip.family = 6;
        out->port = ntohs(in6.sin6_port);
        out->scope = in6.sin6_scope_id;
        memcpy(out->ip.bytes, &in6.sin6_addr, 16);
    }
}
