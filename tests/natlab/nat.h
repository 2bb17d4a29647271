/* nat.h - a network address translator for IPv4 packets, for the behaviours that no kernel offers.
 *
 * Words as in RFC 4787 and 5382. A *session* is one (inside, remote) pair of endpoints; a *mapping*
 * is what sessions of one inside endpoint share: their outside port. The mapping is EIM (one for
 * all remotes), ADM (one per remote address) or APDM (one per remote endpoint); the filter is EIF,
 * ADF or APDF (from where packets may come in). Packets are changed in place; time is the caller's;
 * chance comes from a seed. TCP, UDP and echo are translated, ICMP errors with the packet they
 * quote; the rest and fragments are dropped. */
#ifndef TESTS_NATLAB_NAT_H
#define TESTS_NATLAB_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAT_SESSIONS_MAX 65536 /* sessions; one address has no more ports */
#define NAT_POOL_MAX     16    /* outside addresses */
#define NAT_BUSY_MAX     16    /* remotes towards which a neighbour holds every port */
#define NAT_PACKET_MAX   65536 /* bytes */

enum nat_axis { NAT_INDEPENDENT, NAT_ADDRESS, NAT_ENDPOINT };
enum nat_ports { NAT_PRESERVE, NAT_SEQUENTIAL, NAT_RANDOM };

struct nat_options {
    uint32_t address; /* the first outside address, host order */
    uint32_t pool;    /* how many, following it */
    enum nat_axis mapping, filter;
    /* NAT_PRESERVE gives the inside port unless another flow holds it: towards the same remote
     * endpoint if the mapping is APDM, towards anybody if not. Then it counts on, as NAT_SEQUENTIAL does. */
    enum nat_ports ports;
    uint16_t step, port_min, port_max; /* of NAT_SEQUENTIAL and NAT_RANDOM */
    bool arbitrary;                    /* each mapping takes any address of the pool */
    bool refuse;                       /* unsolicited: RST or port unreachable instead of silence */
    bool hairpin;                      /* inside hosts reach one another by outside addresses */
    bool rst_closes;                   /* a RST from outside deletes the hole */
    bool no_simultaneous;              /* a SYN from outside does not meet our SYN */
    uint32_t sessions_max;             /* new ones beyond it are dropped */
    int64_t udp_timeout, udp_stream_timeout, tcp_opening_timeout, tcp_timeout; /* ns */
    uint32_t busy[NAT_BUSY_MAX];
    size_t busy_count;
    uint64_t seed;
};

/* Reads "address=11.0.0.2 mapping=apdm ports=sequential ..."; false: err says which word is wrong.
 * The words are those of docs/lab.md. */
bool nat_parse(struct nat_options *options, const char *text, char *err, size_t err_size);

/* Where a packet goes: nowhere, out to the network, or in to the inside. */
enum nat_way { NAT_DROP, NAT_OUT, NAT_IN };

struct nat;
/* NULL: no memory. */
struct nat *nat_create(const struct nat_options *options);
void nat_destroy(struct nat *nat);

/* A packet from the inside. NAT_IN: it, or the answer that replaced it, goes back inside. The
 * buffer holds NAT_PACKET_MAX bytes. */
enum nat_way nat_from_inside(struct nat *nat, uint8_t *packet, size_t *len, int64_t now);
/* A packet from outside. NAT_OUT: the answer that replaced it goes back out. */
enum nat_way nat_from_outside(struct nat *nat, uint8_t *packet, size_t *len, int64_t now);

/* Ends every session with a remote address, or all of them if it is 0: the router has restarted. */
void nat_forget(struct nat *nat, uint32_t remote);
/* How many there are of an inside address, or of all if it is 0; with `open` those that no FIN or RST ended. */
size_t nat_sessions(struct nat *nat, uint32_t inside, bool open, int64_t now);

#endif
