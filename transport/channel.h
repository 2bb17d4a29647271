/* channel.h - a connection made from a socket, or from a stream through a relay: [pnet,] multistream, Noise or TLS,
 * yamux. Service.
 * Spec: libp2p connections/README.md. Everything is optimistic: the dialler's first flight carries the
 * proposal of one security protocol and that one's first message, its second the last message, the muxer's
 * proposal (unless inlined) and whatever streams were opened when the peer became known; so a request is
 * answered three round trips after the first SYN.
 *
 *   dialler  connect | mss+noise 1 >      < mss+noise 2 | noise 3 [mss] yamux SYN, stream mss, data >
 *   dialler  connect | mss+ClientHello >  < mss+ServerHello..Finished | Certificate..Finished, as above >
 *
 * A listener that does not speak what was proposed cannot go on behind it: the connection ends with
 * WR_EUNSUPPORTED, and whoever dialled may dial again with the other protocol.
 */
#ifndef WR_CHANNEL_H
#define WR_CHANNEL_H

#include "transport/conn.h"

#define WR_CHANNEL_KEEPALIVE (20 * WR_SEC)    /* tick; a silent one sends a ping, a second in a row ends it:
                                                 one ping in 40 s, go and js one in 30 s */
/* A circuit is a relay's word that somebody is there: while it has streams, and when anything that we sent was not
 * answered, its ticks are short, and this many silent ones end it: after 7.5 to 9 s. A slow relay is not silent: a mark
 * goes behind so many bytes, which the other end sends back. */
#define WR_CHANNEL_CIRCUIT_TICK   (1500 * WR_MSEC)    /* ours */
#define WR_CHANNEL_CIRCUIT_TICKS  5                   /* ours: given up within 10 s */
#define WR_CHANNEL_CIRCUIT_MARK   (16 * 1024)         /* bytes; ours */
#define WR_CHANNEL_CIRCUIT_FRAME  (WR_CHANNEL_CIRCUIT_MARK + 1024)    /* bytes sealed as one, muxer's headers included */
#define WR_CHANNEL_HANDSHAKE (15 * WR_SEC)    /* after the connect; go */
#define WR_CHANNEL_CIRCUIT_HANDSHAKE (8 * WR_SEC)    /* through a relay; ours */
#define WR_CHANNEL_CONNECT   (5 * WR_SEC)     /* TCP connect; go */

/* Connects and dials; the outcome comes as the context's on_open or on_close. `from`: the listening
 * address to leave from, or NULL. `security`: what to propose. `expect`: the peer that must answer, or NULL
 * for anybody. NULL with
 * *err: WR_ELIMIT and the errors of wr_env_connect. */
struct wr_conn *wr_channel_dial(struct wr_conn_ctx *ctx, const struct wr_addr *to,
                                const struct wr_addr *from, const struct wr_secure *security,
                                const struct wr_peerid *expect, void *owner, int *err);
/* Takes an accepted socket over. NULL (socket closed, the context hears nothing) when out of memory. */
struct wr_conn *wr_channel_accept(struct wr_conn_ctx *ctx, struct wr_sock *sock);
/* The same where the dialler waits for our proposal (punch.h): we are the connection's dialler but for the SYN. */
struct wr_conn *wr_channel_accept_server(struct wr_conn_ctx *ctx, struct wr_sock *sock,
                                         const struct wr_secure *security, const struct wr_peerid *expect);

/* Whether a connection that we dialled without being outbound (punch.h) is made, and nothing of a proposal came yet. */
bool wr_channel_awaits_proposal(const struct wr_conn *c);
/* Such a one may wait in vain, when our SYN met a listener and not a SYN: that end waits, too. So we propose, and are
 * outbound from here on. 0; WR_ELIMIT and the errors of wr_wire_write: the caller closes it. */
int wr_channel_propose(struct wr_conn *c);

/* Which end of a circuit we are. All borrowed for the call. */
struct wr_circuit_side {
    bool outbound;
    const struct wr_secure *security;    /* dialler: what to propose */
    const struct wr_peerid *expect;      /* who must be at the other end; the relay's word alone is worth nothing */
    void *owner;                         /* as wr_channel_dial */
};
/* Takes over a stream that leads through a relay to the other end, and the bytes behind the relay's answer that were
 * read already. In a private network pnet protects the circuit, too, as with go-libp2p and js-libp2p. NULL (stream
 * reset, the context hears nothing) when out of memory. */
struct wr_conn *wr_channel_circuit(struct wr_conn_ctx *ctx, const struct wr_circuit *circuit, struct wr_stream *s,
                                   struct wr_bytes early, const struct wr_circuit_side *side);

#endif
