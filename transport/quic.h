/* quic.h - QUIC v1 for a node: sockets, routing by connection id, dials and accepts. Service.
 * Spec: RFC 9000, RFC 9001, RFC 9002; libp2p quic/README.md. The protocol itself is ngtcp2, TLS is GnuTLS.
 *
 * One socket per listening address, which also dials: a NAT's mapping belongs to a socket. Where we listen
 * on no address of a family, the first dial opens a socket that only dials. A datagram belongs to whom its
 * destination connection id says; the bits of its first byte say nothing, since peers may grease them.
 *
 * Connections are struct wr_conn with carrier operations of their own: no multistream and no muxer at the
 * connection, one QUIC stream for each wr_stream. Left out: 0-RTT, datagram frames, one-way streams. */
#ifndef WR_QUIC_H
#define WR_QUIC_H

#include "transport/conn.h"

struct wr_quic;

#define WR_QUIC_HANDSHAKE (10 * WR_SEC)    /* both sides; go config.go */
#define WR_QUIC_IDLE      (30 * WR_SEC)    /* offered; the smaller one of both sides counts; go */

struct wr_quic_ops {
    /* May a stranger from there begin a handshake? Takes a place among the half open; it is given back by
     * the connection's on_open or on_close. */
    bool (*may_accept)(void *arg, const struct wr_addr *from);
    void (*on_accept)(void *arg, struct wr_conn *c);    /* its handshake began */
    /* No memory for one more, who has proved that he is there: somebody else may have to go. Whether somebody did;
     * what he held is free after this turn, and the newcomer repeats his first packet. */
    bool (*make_room)(void *arg, const struct wr_addr *newcomer);
    /* Is somebody at this address about to meet us? Then he is not asked to prove it, and what we cannot read
     * comes to on_stray instead of being answered by a stateless reset. */
    bool (*awaits)(void *arg, const struct wr_addr *from);
    void (*on_stray)(void *arg, const struct wr_addr *from);
};

/* ctx and ops are borrowed. NULL: out of memory. */
struct wr_quic *wr_quic_create(struct wr_conn_ctx *ctx, const struct wr_quic_ops *ops, void *arg);
/* After its connections were closed. Their farewells are not repeated any more. */
void wr_quic_destroy(struct wr_quic *q);
/* 0 with the bound address; errors of wr_env_dgram; WR_ELIMIT. */
int wr_quic_listen(struct wr_quic *q, const struct wr_addr *at, struct wr_addr *bound);
/* The outcome comes as the context's on_open or on_close. `expect`: who must answer, or NULL for anybody.
 * NULL with *err: WR_ELIMIT, WR_EUNREACH, WR_ENOFD. */
struct wr_conn *wr_quic_dial(struct wr_quic *q, const struct wr_addr *to, const struct wr_peerid *expect,
                             void *owner, int *err);
/* The same with a guess of the round trip (0: none): a first packet that gets no answer is repeated after three of
 * them, and after twice as long each time, instead of after one second. */
struct wr_conn *wr_quic_dial_rtt(struct wr_quic *q, const struct wr_addr *to, const struct wr_peerid *expect,
                                 wr_time rtt, uint16_t port, void *owner, int *err);
/* Sends WR_QUIC_JUNK random bytes from the socket that a dial would leave from: whoever gets them drops them, and the
 * NATs on the way let answers in. 0 and the errors of wr_env_source and wr_dgram_send. */
#define WR_QUIC_JUNK 64    /* go, rust */
int wr_quic_junk(struct wr_quic *q, const struct wr_addr *to, uint16_t port);
/* One more socket, on a port that no router has met. What is sent to IPv4 addresses with this `port` leaves from there
 * (0: as ever), and those whom we await get in. Returns the port, that of one in use when there are several already; 0: none
 * is to be had. */
uint16_t wr_quic_spare_open(struct wr_quic *q);
/* Nothing more begins there; it stays while a connection uses it. 0 is allowed. */
void wr_quic_spare_leave(struct wr_quic *q, uint16_t port);
/* Interfaces changed: connections that left from an address that is gone go on from another one; those that
 * cannot (accepted ones, and peers that forbid it) are closed, so that they are dialled again. */
void wr_quic_moved(struct wr_quic *q);
/* So long a NAT in front of us remembers an idle mapping (0: not known): connections are kept alive before that, if
 * their idle time-out does not ask for it sooner. */
void wr_quic_set_lifetime(struct wr_quic *q, wr_time lifetime);
/* What connections of ours that begin from now on send by; WR_QUIC_CUBIC unless told otherwise. For measurements: why
 * it is the one, and what is wrong with the others in ngtcp2 0.12.1, is in docs/benchmarks.md. */
enum wr_quic_cc { WR_QUIC_CUBIC, WR_QUIC_RENO, WR_QUIC_BBR, WR_QUIC_BBR2 };
void wr_quic_set_cc(struct wr_quic *q, enum wr_quic_cc cc);
/* From now on every newcomer has to prove its address first, as under load (Retry). */
void wr_quic_retry_always(struct wr_quic *q, bool always);

#endif
