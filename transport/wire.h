/* wire.h - what carries the bytes of a channel: a socket, or a stream through a relay. Service.
 * Above it both look like a socket: what is written is taken whole, on_drain tells when nothing is kept any more,
 * and the end of the other side's writing is the end. */
#ifndef WR_WIRE_H
#define WR_WIRE_H

#include "transport/stream.h"

#define WR_WIRE_INBOX (16 * 1024)    /* bytes of a stream handed up at once, in place where they may be overwritten */
#define WR_WIRE_EARLY (64 * 1024)    /* bytes that came ahead of the channel; ours: more than any first flight */

struct wr_wire {
    struct wr_sock *sock;              /* owned; or ... */
    struct wr_stream *stream;          /* owned; both NULL: gone */
    const struct wr_sock_ops *ops;     /* stream: who hears of it, as of a socket */
    void *arg;
    uint8_t *inbox;                    /* stream: borrowed, WR_WIRE_INBOX bytes that all streams of a node share */
    struct wr_env *env;
    struct wr_buf kept;                /* stream: written and not taken yet */
    struct wr_buf early;               /* stream: read by whoever had it before */
    struct wr_task task;
};

/* Takes over a stream whose protocol is agreed, and what was read of it already; handlers are called from the end of
 * this turn on. 0, WR_ELIMIT (the stream is the caller's still). */
int wr_wire_take(struct wr_wire *w, struct wr_env *env, struct wr_stream *s, struct wr_bytes early, uint8_t *inbox,
                 const struct wr_sock_ops *ops, void *arg);
static inline bool wr_wire_open(const struct wr_wire *w)
{
    return w->sock || w->stream;
}
/* As wr_sock_write, wr_sock_backlog, wr_sock_batch, wr_sock_rtt (a stream knows none: 0), wr_sock_close. */
int wr_wire_write(struct wr_wire *w, const uint8_t *data, size_t len);
size_t wr_wire_backlog(const struct wr_wire *w);
size_t wr_wire_batch(const struct wr_wire *w);
wr_time wr_wire_rtt(const struct wr_wire *w);
void wr_wire_close(struct wr_wire *w, bool reset);
/* Frees what it keeps; it must be closed. */
void wr_wire_clear(struct wr_wire *w);

#endif
