/* packet.h - IPv4 packets with TCP, UDP or ICMP as a translator sees them: where they are from,
 * where they go, and how either is changed with the checksums kept right. */
#ifndef TESTS_NATLAB_PACKET_H
#define TESTS_NATLAB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_FIN 1
#define PACKET_SYN 2
#define PACKET_RST 4
#define PACKET_ACK 16

struct packet {
    uint8_t *ip, *body;          /* borrowed: the header and what follows it */
    size_t ip_len, len;          /* bytes of the header, of all */
    uint32_t src, dst;           /* host order */
    uint16_t src_port, dst_port; /* of ICMP echo the identifier, at the side that asked, and 0 */
    uint8_t protocol, flags;     /* flags of TCP */
    bool is_error;               /* of ICMP: it quotes a packet */
};

/* False: not IPv4, cut off, a fragment, or another protocol. */
bool packet_parse(struct packet *p, uint8_t *bytes, size_t len);
/* The packet in an ICMP error; at least its ports are there. */
bool packet_quoted(const struct packet *error, struct packet *quoted);

void packet_set_src(const struct packet *p, uint32_t addr, uint16_t port);
void packet_set_dst(const struct packet *p, uint32_t addr, uint16_t port);
/* Changes the sender (or the receiver) of the packet that an error quotes. */
void packet_set_quoted(const struct packet *error, const struct packet *quoted, bool sender,
                       uint32_t addr, uint16_t port);

/* Replaces the packet by the refusal that its receiver would send: a RST, or port unreachable.
 * False: such a packet is not refused. The buffer has room for what it holds and 64 bytes more. */
bool packet_refuse(const struct packet *p, uint8_t *bytes, size_t *len);

#endif
