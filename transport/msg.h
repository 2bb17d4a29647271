/* msg.h - length-prefixed messages over a stream, with a size cap and a deadline. Service.
 * Each message: unsigned varint length, then the body. Embedded in the conversation that uses it, and valid until the
 * turn in which it ended has settled (wr_env_dispose), also if it was ended by its own on_message. */
#ifndef WR_MSG_H
#define WR_MSG_H

#include "transport/stream.h"

struct wr_msg;

#define WR_MSG_READ_AHEAD (256 * 1024)    /* bytes held beyond one message while it is taken apart; ours:
                                             what one read can bring */

struct wr_msg_ops {
    /* One whole message; body valid during the call, and only until the conversation is closed. */
    void (*on_message)(struct wr_msg *m, struct wr_bytes body);
    /* The peer finished writing at a message boundary; more may still be sent. NULL: closes in order. */
    void (*on_eof)(struct wr_msg *m);
    /* The end, also by deadline (WR_ETIMEOUT), oversize or a cut message (WR_EPROTO),
     * too much kept for this connection (WR_ELIMIT). Not after
     * wr_msg_close or wr_msg_reset. */
    void (*on_close)(struct wr_msg *m, int err);
};

struct wr_msg {
    struct wr_env *env;
    struct wr_stream *stream;    /* NULL once over */
    const struct wr_msg_ops *ops;
    struct wr_buf in, out;
    size_t kept;                 /* bytes of both, in the connection's account */
    struct wr_timer deadline;
    size_t in_max;
    struct wr_bytes *unread;     /* while messages are taken apart: what comes behind the one in hand */
    bool paused;
    struct wr_task again;        /* messages that are there are handed out, once it is not paused any more */
    bool shut;                   /* we finished writing; sent behind out */
    bool agreed;                 /* a stream of ours: the peer takes the protocol */
    uint32_t code;               /* in on_close(WR_ERESET): the peer's */
};

/* Takes over the stream's handlers. in_max: bytes of the largest body accepted. */
void wr_msg_start(struct wr_msg *m, struct wr_env *env, struct wr_stream *s, size_t in_max,
                  const struct wr_msg_ops *ops);
/* Queues one message. 0, WR_ELIMIT (the conversation is reset then and on_close does not follow),
 * WR_ECLOSED. */
int wr_msg_send(struct wr_msg *m, struct wr_bytes body);
void wr_msg_shut(struct wr_msg *m);
/* Holds on_message and on_eof back, also for what came together with the message in hand; the peer is stopped by its
 * window, which grows no more from then on (wr_stream_steady). Nothing is handed out inside the call that goes on. */
void wr_msg_pause(struct wr_msg *m, bool paused);
/* on_close(WR_ETIMEOUT) at this time unless moved; 0: no deadline. */
void wr_msg_deadline(struct wr_msg *m, wr_time at);
void wr_msg_close(struct wr_msg *m);    /* in order; what is queued still goes out */
void wr_msg_reset(struct wr_msg *m, uint32_t code);
/* Ends the conversation and keeps the stream: what the peer sent behind the last message is appended to rest. The
 * stream's handlers are the caller's to set. NULL (stream reset): something of ours is not sent yet, or rest is full. */
struct wr_stream *wr_msg_release(struct wr_msg *m, struct wr_buf *rest);
static inline bool wr_msg_open(const struct wr_msg *m)
{
    return m->stream != NULL;
}

#endif
