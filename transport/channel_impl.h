/* channel_impl.h - the inside of a channel, shared by channel.c (made from a socket or a circuit, asked by the
 * connection, ended), channel_open.c (becoming a connection), channel_in.c (receiving) and channel_out.c (sending).
 * Service, private. */
#ifndef WR_CHANNEL_IMPL_H
#define WR_CHANNEL_IMPL_H

#include "transport/channel.h"
#include "transport/conn_impl.h"
#include "transport/mss.h"
#include "transport/pnet.h"
#include "transport/wire.h"
#include "transport/yamux.h"

#define WR_CHANNEL_OUT_MAX (16 * 1024)    /* bytes queued in clear while shaking hands; ours */

enum wr_channel_phase {
    WR_PHASE_CONNECTING,    /* dialler: TCP under way */
    WR_PHASE_SECURITY,      /* multistream for the security protocol */
    WR_PHASE_HANDSHAKE,     /* that one's messages */
    WR_PHASE_MUXER,         /* multistream for yamux inside it, unless inlined */
    WR_PHASE_MUXED,
};

struct wr_channel {
    struct wr_conn conn;
    struct wr_wire wire;           /* a socket, or a stream through a relay */
    struct wr_pnet *pnet;          /* owned, or NULL */
    struct wr_mss *mss;            /* owned, while negotiating */
    void *handshake;               /* owned; conn.security's, while shaking hands */
    struct wr_peerid *expect;      /* owned, or NULL; dialler until the handshake is done */
    struct wr_yamux *yamux;        /* owned, from the peer's proof on */
    struct wr_secure_session session;
    const char *offer[2];          /* the name proposed; NULL */
    struct wr_buf partial;         /* start of a frame that is not complete */
    struct wr_buf last;            /* the handshake's last message: leaves with the first frames */
    struct wr_buf early;           /* muxer negotiation to send before yamux frames */
    struct wr_task flush;
    struct wr_timer timer;         /* connect, handshake, then keepalive */
    struct wr_timer more;          /* output left over for the next turn */
    uint64_t bytes_in_last;        /* at the last keepalive tick */
    size_t unsent;                 /* of the wire's backlog, in conn.memory */
    size_t turn_sent;              /* bytes since the last flush began */
    int broken;                    /* sending failed where the connection could not be ended: flush does */
    uint8_t silent_ticks;
    enum wr_channel_phase phase;
    bool secured;
};

/* channel.c */
struct wr_channel *wr_channel_of(const struct wr_conn *c);
/* The end that the network, or what the peer sent, brings. */
void wr_channel_end(struct wr_channel *ch, int err);

/* channel_open.c: the first flight. 0, <0: it is for the caller to end it. */
int wr_channel_start(struct wr_channel *ch);
/* Multistream and the handshake's messages. 0 wants more; 1 the rest of *in is frames. */
int wr_channel_handshake_input(struct wr_channel *ch, struct wr_bytes *in, struct wr_buf *out);
void wr_channel_muxed(struct wr_channel *ch);    /* the muxer is agreed: keepalive ticks from now on */
void wr_channel_sent(struct wr_channel *ch);     /* something went out that may be answered: a circuit watches */
void wr_channel_on_timeout(struct wr_timer *timer);    /* of the connect, or the handshake */

/* channel_in.c: bytes of the wire, as wr_sock_ops.on_read. */
void wr_channel_on_read(void *arg, uint8_t *data, size_t len);
void wr_channel_forget_partial(struct wr_channel *ch);    /* the frame that is held in part */

/* channel_out.c */
void wr_channel_count_unsent(struct wr_channel *ch);    /* the wire's backlog may have changed */
void wr_channel_want_flush(struct wr_channel *ch);      /* when the turn settles */
void wr_channel_flush(struct wr_channel *ch);           /* now, as far as the wire takes it */
/* Sends whole batches of what waits and of this data, which stands behind what the stream has queued, as far as the
 * wire takes them now. Returns how many bytes of data went out; nothing happens when they do not fill a batch. */
size_t wr_channel_send_now(struct wr_channel *ch, struct wr_yamux_stream *s, const uint8_t *data, size_t len);
void wr_channel_flush_at(struct wr_channel *ch, wr_time at);    /* then, and waiting streams ask again for a place */
/* Bytes below the encryption; clears out. 0, WR_ELIMIT, the errors of wr_wire_write. */
int wr_channel_send_clear(struct wr_channel *ch, struct wr_buf *out);
/* Tells the peer why, when the security protocol has words for it and nothing waits to be sent before. */
void wr_channel_farewell(struct wr_channel *ch, int err);

#endif
