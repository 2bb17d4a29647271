/* The laboratory's translator: options from text, then packets from both sides, whatever they hold. What goes out
 * as a datagram comes back, turned round, to where it began, with its checksums right. */
#include "fuzz/text.h"
#include "natlab/nat.c"
#include "natlab/nat_parse.c"
#include "natlab/packet.c"

#include <assert.h>

#define INSIDE  0xC0A8010A    /* 192.168.1.10 */
#define OUTSIDE 0x0B020002    /* 11.2.0.2 */
#define REMOTE  0x0B010109    /* 11.1.1.9 */
#define PACKETS 64            /* of one input */

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
