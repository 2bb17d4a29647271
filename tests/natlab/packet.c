#include "packet.h"

#include <netinet/in.h>
#include <string.h>

#define IP_BYTES         20
#define ICMP_BYTES       8
#define ICMP_ECHO_REPLY  0
#define ICMP_ECHO        8
#define ICMP_UNREACHABLE 3
#define ICMP_EXCEEDED    11
#define ICMP_PARAMETER   12
#define QUOTED_BYTES     28 /* RFC 792: header and 8 bytes */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

/* ---- checksums */

static uint32_t sum_bytes(const uint8_t *p, size_t len, uint32_t sum)
{
    for (; len > 1; p += 2, len -= 2)
        sum += get16(p);
    return len ? sum + (uint32_t)(*p << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* RFC 1624: a checksum after one of the words it covers has changed. */
static void adjust(uint8_t *sum, uint16_t was, uint16_t is)
{
    put16(sum, fold((uint32_t)(uint16_t)~get16(sum) + (uint16_t)~was + is));
}

static void adjust32(uint8_t *sum, uint32_t was, uint32_t is)
{
    adjust(sum, (uint16_t)(was >> 16), (uint16_t)(is >> 16));
    adjust(sum, (uint16_t)was, (uint16_t)is);
}

static uint16_t pseudo_sum(const uint8_t *ip, const uint8_t *body, size_t len)
{
    return fold(sum_bytes(body, len, sum_bytes(ip + 12, 8, (uint32_t)ip[9] + (uint32_t)len)));
}

/* ---- reading */

static bool is_echo(const uint8_t *body)
{
    return body[0] == ICMP_ECHO || body[0] == ICMP_ECHO_REPLY;
}

static size_t body_min(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? 20 : 8;
}

static bool read_ports(struct packet *p)
{
    if (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP) {
        p->src_port = get16(p->body);
        p->dst_port = get16(p->body + 2);
        return true;
    }
    if (p->protocol != IPPROTO_ICMP)
        return false;
    if (p->body[0] == ICMP_ECHO)
        p->src_port = get16(p->body + 4);
    else if (p->body[0] == ICMP_ECHO_REPLY)
        p->dst_port = get16(p->body + 4);
    else if (p->body[0] == ICMP_UNREACHABLE || p->body[0] == ICMP_EXCEEDED ||
             p->body[0] == ICMP_PARAMETER)
        p->is_error = true;
    else
        return false;
    return true;
}

/* A quoted packet may be cut off behind its ports. */
static bool parse(struct packet *p, uint8_t *bytes, size_t len, bool quoted)
{
    *p = (struct packet){.ip = bytes, .len = len};
    if (len < IP_BYTES || bytes[0] >> 4 != 4)
        return false;
    p->ip_len = (size_t)(bytes[0] & 15) * 4;
    p->protocol = bytes[9];
    size_t total = get16(bytes + 2);
    if (p->ip_len < IP_BYTES || (!quoted && total > len) || get16(bytes + 6) & 0x3fff)
        return false;
    if (!quoted)
        p->len = total;
    if (p->len < p->ip_len + (quoted ? 8 : body_min(p->protocol)))
        return false;
    p->body = bytes + p->ip_len;
    p->src = get32(bytes + 12);
    p->dst = get32(bytes + 16);
    if (p->protocol == IPPROTO_TCP && !quoted)
        p->flags = p->body[13];
    return read_ports(p) && !(quoted && p->is_error);
}

bool packet_parse(struct packet *p, uint8_t *bytes, size_t len)
{
    return parse(p, bytes, len, false);
}

bool packet_quoted(const struct packet *error, struct packet *quoted)
{
    size_t before = error->ip_len + ICMP_BYTES;
    if (error->len < before + QUOTED_BYTES)
        return false;
    return parse(quoted, error->ip + before, error->len - before, true);
}

/* ---- changing */

/* Where the checksum of the body lies that covers addresses and ports, or NULL. */
static uint8_t *body_sum(const struct packet *p)
{
    size_t at = p->protocol == IPPROTO_TCP ? 16 : p->protocol == IPPROTO_UDP ? 6 : 2;
    if (p->len < p->ip_len + at + 2)
        return NULL;
    uint8_t *sum = p->body + at;
    return p->protocol == IPPROTO_UDP && get16(sum) == 0 ? NULL : sum;
}

static void set(const struct packet *p, bool source, uint32_t addr, uint16_t port)
{
    uint8_t *at = p->ip + (source ? 12 : 16), *sum = body_sum(p);
    uint32_t was = get32(at);
    put32(at, addr);
    adjust32(p->ip + 10, was, addr);
    if (p->protocol == IPPROTO_ICMP) {
        if (!p->is_error && is_echo(p->body) && source == (p->body[0] == ICMP_ECHO) && sum) {
            adjust(sum, get16(p->body + 4), port);
            put16(p->body + 4, port);
        }
        return;
    }
    uint8_t *port_at = p->body + (source ? 0 : 2);
    if (sum) {
        adjust32(sum, was, addr);
        adjust(sum, get16(port_at), port);
        if (p->protocol == IPPROTO_UDP && get16(sum) == 0)
            put16(sum, 0xffff);
    }
    put16(port_at, port);
}

void packet_set_src(const struct packet *p, uint32_t addr, uint16_t port)
{
    set(p, true, addr, port);
}

void packet_set_dst(const struct packet *p, uint32_t addr, uint16_t port)
{
    set(p, false, addr, port);
}

void packet_set_quoted(const struct packet *error, const struct packet *quoted, bool sender,
                       uint32_t addr, uint16_t port)
{
    set(quoted, sender, addr, port);
    put16(error->body + 2, 0);
    put16(error->body + 2, fold(sum_bytes(error->body, error->len - error->ip_len, 0)));
}

/* ---- answering */

static void put_ip(uint8_t *ip, const struct packet *p, uint8_t protocol, size_t len)
{
    memset(ip, 0, IP_BYTES);
    ip[0] = 0x45;
    put16(ip + 2, (uint16_t)len);
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, p->dst);
    put32(ip + 16, p->src);
    put16(ip + 10, fold(sum_bytes(ip, IP_BYTES, 0)));
}

static void put_reset(const struct packet *p, uint8_t *bytes, size_t *len)
{
    size_t data = p->len - p->ip_len - (size_t)(p->body[12] >> 4) * 4;
    uint32_t seq = get32(p->body + 4), ack = get32(p->body + 8);
    bool acks = p->flags & PACKET_ACK;
    uint32_t next = seq + (uint32_t)data + (p->flags & PACKET_SYN ? 1 : 0);
    uint8_t *tcp = bytes + IP_BYTES;
    put_ip(bytes, p, IPPROTO_TCP, 40);
    memset(tcp, 0, 20);
    put16(tcp, p->dst_port);
    put16(tcp + 2, p->src_port);
    put32(tcp + 4, acks ? ack : 0);
    put32(tcp + 8, acks ? 0 : next);
    tcp[12] = 5 << 4;
    tcp[13] = acks ? PACKET_RST : PACKET_RST | PACKET_ACK;
    put16(tcp + 16, pseudo_sum(bytes, tcp, 20));
    *len = 40;
}

bool packet_refuse(const struct packet *p, uint8_t *bytes, size_t *len)
{
    if (p->protocol == IPPROTO_TCP) {
        size_t header = (size_t)(p->body[12] >> 4) * 4;
        if (p->flags & PACKET_RST || header < 20 || p->ip_len + header > p->len)
            return false;
        put_reset(p, bytes, len);
        return true;
    }
    if (p->protocol != IPPROTO_UDP)
        return false;
    size_t quote = p->ip_len + 8;
    memmove(bytes + IP_BYTES + ICMP_BYTES, p->ip, quote);
    uint8_t *icmp = bytes + IP_BYTES;
    memset(icmp, 0, ICMP_BYTES);
    icmp[0] = ICMP_UNREACHABLE;
    icmp[1] = 3; /* port */
    put16(icmp + 2, fold(sum_bytes(icmp, ICMP_BYTES + quote, 0)));
    *len = IP_BYTES + ICMP_BYTES + quote;
    put_ip(bytes, p, IPPROTO_ICMP, *len);
    return true;
}
