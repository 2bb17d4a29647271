/* yamux_state.h - what the parts of yamux share: sessions and streams from inside. Machine.
 * Only the sources of yamux.h include this: yamux.c (streams, windows, the session), yamux_in.c (frames
 * coming in) and yamux_out.c (frames going out). */
#ifndef WR_YAMUX_STATE_H
#define WR_YAMUX_STATE_H

#include "transport/err.h"
#include "transport/idmap.h"
#include "transport/sendq.h"
#include "transport/yamux.h"

enum frame_type { DATA, WINDOW_UPDATE, PING, GO_AWAY };

/* Flags of a frame. */
#define SYN 1u
#define ACK 2u
#define FIN 4u
#define RST 8u

/* What a stream still has to send beside its data: the frame flags above, and: */
#define GRANT 16u    /* a window update */

/* What a stream is. */
#define LOCAL     1u      /* opened by us */
#define TAKEN     2u      /* ours, and the peer has answered to it */
#define SHUT      4u      /* we write no more */
#define FIN_SENT  8u
#define ENDED     16u     /* the peer writes no more */
#define CLOSED    32u     /* reset by either side */
#define FORGOTTEN 64u     /* the owner holds it no more */
#define TIGHT     128u    /* its receive window should grow and cannot */
#define STEADY    512u    /* its receive window stays as it is */
#define SHORT     256u    /* a write came up short and the owner was not told of room since */

struct wr_yamux_stream {
    struct wr_yamux *session;    /* borrowed */
    void *arg;                   /* the owner's */
    struct wr_list control;      /* on session->control: `due` may have to go out */
    struct wr_list ready;        /* on session->fresh or ->bulk: data is queued */
    struct wr_list drained;      /* on session->drained */
    struct wr_sendq queue;       /* never longer than send_window: all of it may be sent */
    wr_time epoch_at;            /* when the current receive window began to be used; 0: not yet */
    uint32_t id;
    uint32_t send_window;        /* bytes the peer will take, counting those in queue */
    uint32_t recv_window;        /* bytes the peer may still send */
    uint32_t recv_target;        /* recv_window + unread comes up to this with the next grant */
    uint32_t unread;             /* bytes given to the owner and not consumed yet */
    uint32_t code;               /* of the reset, with RST due */
    uint16_t state;
    uint16_t due;
};

/* An answer that belongs to no stream. */
struct wr_yamux_answer {
    uint32_t value;    /* what a pong echoes, or the id of a refused stream */
    bool pong;
};

/* Steps left of the frame being taken in; each gives at most one event. */
#define TODO_OPENED   1u
#define TODO_ACKED    2u
#define TODO_WRITABLE 4u
#define TODO_RESET    8u
#define TODO_ENDED    16u

#define RTT_SAMPLES 4    /* the smallest of these counts: queues only ever add */

struct wr_yamux {
    struct wr_idmap streams;    /* owned streams */
    struct wr_list control, drained;
    /* Streams with data. One that had none goes before those that have sent and have more, so that a short
     * message need not wait for a frame of every transfer; FRESH_MAX keeps the transfers moving. */
    struct wr_list fresh, bulk;
    uint32_t fresh_sent;         /* bytes since the last turn of bulk */
    struct wr_limits *limits;    /* borrowed, or NULL */
    struct wr_account memory;    /* queued bytes of all streams */
    uint32_t streams_max, outbound_max;
    uint32_t inbound, outbound, unacked;    /* streams in the table; of outbound, not TAKEN */
    uint32_t next_id;                       /* 0: used up */
    bool dialer;

    /* input */
    bool heard;                     /* a whole frame came in */
    uint8_t early;                  /* streams opened before that */
    uint8_t todo;
    uint8_t header_have;
    uint8_t header[WR_YAMUX_HEADER];
    uint32_t body_left;             /* of a Data frame */
    uint32_t reset_code;            /* for TODO_RESET */
    struct wr_yamux_stream *cur;    /* whose frame it is; NULL: nobody's, the body is dropped */
    int err;                        /* why the session is over, or 0 */

    /* session frames to send */
    struct wr_yamux_answer *answers;         /* owned; NULL while none are due */
    uint32_t answer_next, answer_count, answer_cap;
    enum { IDLE, PING_DUE, PING_SENT } ping;
    uint32_t ping_value;
    wr_time ping_at;
    uint32_t mark_every, unmarked;           /* bytes of data: between marks, since the last one */
    enum { OPEN, GOAWAY_DUE, GOAWAY_SENT } goaway;
    uint32_t goaway_code;
    bool goaway_seen;               /* the peer's */

    uint32_t rtt_usec[RTT_SAMPLES];
    uint8_t rtt_next;
};

/* NULL at a limit or out of memory. SYN or ACK is due. */
struct wr_yamux_stream *wr_yamux_stream_create(struct wr_yamux *y, uint32_t id, bool local);
/* Closed: nothing more goes out or comes in, but the owner may still hold it. */
void wr_yamux_stream_stop(struct wr_yamux_stream *s);
void wr_yamux_stream_free(struct wr_yamux_stream *s);
/* Frees s when the owner has forgotten it and nothing of it is left to send. */
void wr_yamux_stream_settle(struct wr_yamux_stream *s);
/* Lets output look at what s has due. */
void wr_yamux_stream_due(struct wr_yamux_stream *s, unsigned due);
void wr_yamux_rtt_add(struct wr_yamux *y, wr_time rtt);

#endif
