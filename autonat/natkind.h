/* natkind.h - what kind of NAT stands in front of us, from what peers see of our connections. Machine:
 * no I/O. NAT sheet 9. Each sample is one connection that left from a listening port: when, from where,
 * to where, and where the peer saw it come from. Without any STUN server: identify brings a sample with
 * every connection.
 *
 *   mapping      the same outside port for everybody (EIM), or others (EDM; which of them, two ports of one peer
 *                tell)
 *   allocation   our own port, the next in a row (with its step and the rate of others), one of a block, any
 *   pooling      more than one outside address
 *
 * One peer in five may lie: majorities decide, and medians where numbers are needed. Samples of one
 * network count (IPv4 /24, IPv6 /48) count once - of one address, where there are hardly any networks. Only
 * connections that we began make a mapping, so others are not put in. */
#ifndef WR_NATKIND_H
#define WR_NATKIND_H

#include "transport/nat.h"

#define WR_NATKIND_SAMPLES 48            /* kept, the oldest goes; ours */
#define WR_NATKIND_AGE     (60 * WR_MIN) /* older ones tell of a NAT that may be gone; ours */
#define WR_NATKIND_FEW                                                                                     \
    3                             /* networks that say different things before a NAT is called hard; ours, \
                                     hyperdht: 4 samples */
#define WR_NATKIND_DOUBT                                                                                   \
    10 /* one network in so many that sees another port than ours: the NAT may keep ports only while they are  \
          free; ours */
#define WR_NATKIND_BLOCK     8    /* ports from which on a range means something; sheet 9 */
#define WR_NATKIND_BLOCK_MAX 4096 /* ports of a block at most; sheet 9 */
#define WR_NATKIND_STEP_MAX  64   /* ports from one mapping to the next; ours: larger looks random */

struct wr_natkind_sample {
    struct wr_addr local, remote, seen;
    wr_time at; /* when its mapping was made */
};

/* One transport and family. */
struct wr_natkind {
    struct wr_natkind_sample of[WR_NATKIND_SAMPLES]; /* by time, oldest first */
    size_t count;
};

/* Puts a sample in; it takes the place of an older one of the same pair of addresses. */
void wr_natkind_add(struct wr_natkind *k, const struct wr_natkind_sample *sample);
void wr_natkind_reset(struct wr_natkind *k); /* another network */
/* Fills mapping, alloc, step, rate_milli, last_port, last_port_at, port_lo, port_hi, pooling, samples;
 * the other fields stay. True when one of these changed other than the last port. */
bool wr_natkind_judge(const struct wr_natkind *k, wr_time now, struct wr_nat_kind *out);
/* Of connections from sockets of their own, in the order in which they were made: alloc, step, rate_milli
 * and what belongs to it. The rest of out stays. */
void wr_natkind_ports(const struct wr_natkind_sample *of, size_t count, struct wr_nat_kind *out);
/* The outside address that most networks see; family 0: none. */
struct wr_ip wr_natkind_external(const struct wr_natkind *k, wr_time now);

#endif
