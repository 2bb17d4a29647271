/* The laboratory's translator: options from text, then packets from both sides, whatever they hold, and recipes for
 * packets that are as they should be, but for some bytes. What goes out as a datagram comes back, turned round, to
 * where it began, with its checksums right. */
#include "fuzz/text.h"
#include "natlab/nat.c"
#include "natlab/nat_parse.c"
#include "natlab/packet.c"

#include <assert.h>
#include <stdlib.h>

#define INSIDE  0xC0A8010Au   /* 192.168.1.10 */
#define OUTSIDE 0x0B020002u   /* 11.2.0.2 */
#define REMOTE  0x0B010109u   /* 11.1.1.9 */
#define PACKETS 64            /* of one input */
#define ANSWER_MAX 96         /* bytes: an ICMP error that quotes a header with options; nat.h asks for more */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t buffer[NAT_PACKET_MAX + 64];

static size_t put_datagram(uint32_t src, uint16_t src_port, uint32_t dst, uint16_t dst_port, const uint8_t *data,
                           size_t size)
{
    struct packet to = {.src = dst, .dst = src};    /* put_ip writes answers */
    put_ip(buffer, &to, IPPROTO_UDP, IP_BYTES + 8 + size);
    uint8_t *udp = buffer + IP_BYTES;
    put16(udp, src_port);
    put16(udp + 2, dst_port);
    put16(udp + 4, (uint16_t)(8 + size));
    put16(udp + 6, 0);
    memcpy(udp + 8, data, size);
    uint16_t sum = pseudo_sum(buffer, udp, 8 + size);
    put16(udp + 6, sum ? sum : 0xffff);
    return IP_BYTES + 8 + size;
}

static void check_sums(void)
{
    struct packet p;
    assert(packet_parse(&p, buffer, sizeof(buffer)));
    assert(fold(sum_bytes(p.ip, p.ip_len, 0)) == 0);
    assert(pseudo_sum(p.ip, p.body, p.len - p.ip_len) == 0);
}

static void there_and_back(struct nat *nat, const uint8_t *data, size_t size)
{
    struct packet p;
    size_t len = put_datagram(INSIDE, 4001, REMOTE, 7001, data, size);
    if (nat_from_inside(nat, buffer, &len, 1) != NAT_OUT)
        return;    /* every session is taken */
    check_sums();
    assert(packet_parse(&p, buffer, len) && p.src != INSIDE && p.dst == REMOTE && p.dst_port == 7001);
    len = put_datagram(REMOTE, 7001, p.src, p.src_port, data, size);
    assert(nat_from_outside(nat, buffer, &len, 2) == NAT_IN);
    check_sums();
    assert(packet_parse(&p, buffer, len) && p.dst == INSIDE && p.dst_port == 4001 && p.src == REMOTE);
}

/* ---- packets as they should be, out of a few bytes ---- */

struct cook {
    struct nat *nat;
    const uint8_t *data;
    size_t size;
    uint8_t last[128];    /* the last packet that went through, as it came out */
    size_t last_len;
    bool last_out;
};

static uint8_t next(struct cook *c)
{
    if (!c->size)
        return 0;
    c->size--;
    return *c->data++;
}

/* Of few, so that they meet again. */
static uint32_t address(struct cook *c, const struct nat_options *o, bool inside)
{
    uint8_t which = next(c);
    if (inside)
        return INSIDE + which % 4u;
    return which & 0x80 ? o->address + which % 4u : REMOTE + which % 8u;
}

static uint16_t port(struct cook *c)
{
    uint8_t which = next(c);
    /* where the last one came from outside, or one of a few */
    return which & 0x80 && c->last_len ? get16(c->last + IP_BYTES) : (uint16_t)(4000 + which % 8);
}

/* An ICMP error about the last packet, cut off somewhere behind its ports. */
static size_t put_error(struct cook *c)
{
    static const uint8_t types[] = {ICMP_UNREACHABLE, ICMP_EXCEEDED, ICMP_PARAMETER, 5};
    uint8_t *icmp = buffer + IP_BYTES;
    size_t quoted = 20 + next(c) % 60u;
    quoted = quoted < c->last_len ? quoted : c->last_len;
    struct packet to = {.src = get32(c->last + 12), .dst = get32(c->last + 16)};
    if (c->last_out)
        to.dst = REMOTE + next(c) % 8u;
    put_ip(buffer, &to, IPPROTO_ICMP, IP_BYTES + ICMP_BYTES + quoted);
    memset(icmp, 0, ICMP_BYTES);
    icmp[0] = types[next(c) % 4];
    icmp[1] = next(c) % 16;
    memcpy(icmp + ICMP_BYTES, c->last, quoted);
    put16(icmp + 2, fold(sum_bytes(icmp, ICMP_BYTES + quoted, 0)));
    return IP_BYTES + ICMP_BYTES + quoted;
}

static size_t put_packet(struct cook *c, const struct nat_options *o, bool inbound)
{
    static const uint8_t protocols[] = {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, 47};
    uint8_t protocol = protocols[next(c) % 4];
    struct packet to = {.src = o->address};    /* put_ip writes answers */
    to.dst = address(c, o, !inbound);
    if (!inbound || next(c) & 1)
        to.src = address(c, o, false);
    size_t head = protocol == IPPROTO_TCP ? 20 : 8, len = head + next(c);
    uint8_t *body = buffer + IP_BYTES;
    put_ip(buffer, &to, protocol, IP_BYTES + len);
    memset(body, next(c), len);
    put16(body, port(c));
    put16(body + 2, port(c));
    if (protocol == IPPROTO_UDP) {
        put16(body + 4, (uint16_t)len);
        put16(body + 6, 0);
        put16(body + 6, next(c) & 1 ? 0 : pseudo_sum(buffer, body, len));
    } else if (protocol == IPPROTO_TCP) {
        body[12] = 5 << 4;
        body[13] = next(c) & 0x1f;
        put16(body + 16, 0);
        put16(body + 16, pseudo_sum(buffer, body, len));
    } else if (protocol == IPPROTO_ICMP) {
        body[0] = next(c) & 1 ? ICMP_ECHO : ICMP_ECHO_REPLY;
        body[1] = 0;
        put16(body + 4, port(c));
        put16(body + 2, 0);
        put16(body + 2, fold(sum_bytes(body, len, 0)));
    }
    return IP_BYTES + len;
}

/* A byte says whence and what; then its arguments, and what is damaged of it. */
static void cook(struct cook *c, const struct nat_options *o, int64_t now)
{
    uint8_t what = next(c);
    bool inbound = what & 1;
    size_t len = what & 2 && c->last_len ? put_error(c) : put_packet(c, o, inbound);
    for (unsigned n = what >> 2 & 3; n; n--) {
        size_t at = next(c) % len;
        buffer[at] = next(c);
    }
    if (what & 16) {
        size_t cut = next(c);
        len = cut < len ? cut : len;
    }
    /* Where it lies nothing is behind it: a read past its end is seen. An answer may be as long as this. */
    size_t room = len < ANSWER_MAX ? ANSWER_MAX : len;
    uint8_t *exact = malloc(room);
    assert(exact);
    memset(exact, 0, room);
    memcpy(exact, buffer, len);
    enum nat_way way = (inbound ? nat_from_outside : nat_from_inside)(c->nat, exact, &len, now);
    assert(len <= room);
    if (way != NAT_DROP) {
        c->last_len = len < sizeof(c->last) ? len : sizeof(c->last);
        memcpy(c->last, exact, c->last_len);
        c->last_out = way == NAT_OUT;
    }
    free(exact);
}

static void cook_all(const struct nat_options *options, const uint8_t *data, size_t size)
{
    struct cook c = {.nat = nat_create(options), .data = data, .size = size};
    for (int i = 0; c.nat && i < PACKETS && c.size; i++)
        cook(&c, options, i * 1000000000LL);
    nat_destroy(c.nat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nat_options options;
    char err[128];
    size_t line = 0;
    while (line < size && data[line] != '\n')
        line++;
    char *text = fuzz_text(data, line);
    bool good = text && nat_parse(&options, text, err, sizeof(err));
    free(text);
    struct nat *nat = good ? nat_create(&options) : NULL;
    if (!nat)
        return 0;
    data += line < size ? line + 1 : size;
    size -= line < size ? line + 1 : size;
    cook_all(&options, data, size);
    /* Each packet: whence, its length in two bytes, itself. */
    for (int i = 0; i < PACKETS && size >= 3; i++) {
        size_t len = (size_t)(data[1] << 8 | data[2]);
        len = len < size - 3 ? len : size - 3;
        memcpy(buffer, data + 3, len);
        size_t out = len;
        (void)(data[0] & 1 ? nat_from_outside : nat_from_inside)(nat, buffer, &out, i);
        assert(out <= sizeof(buffer));
        data += 3 + len;
        size -= 3 + len;
    }
    bool apart = options.address != INSIDE && (REMOTE < options.address || REMOTE - options.address >= NAT_POOL_MAX);
    if (apart)
        there_and_back(nat, data, size < 1400 ? size : 1400);
    nat_destroy(nat);
    return 0;
}
