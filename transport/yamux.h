/* yamux.h - yamux 1.0: many streams over one byte stream. Machine.
 * Spec: libp2p yamux/README.md. Frames, stream table, windows, pings. The owner feeds received plaintext
 * to input and takes events one by one; what is to be sent is taken from the machine frame by frame, so
 * that the owner can put many frames into one encrypted record and one system call.
 *
 *   for (;;) { rc = wr_yamux_input(y, &in, now, &event); if (rc <= 0) break; ...event... }
 *   while (room) wr_yamux_output(y, buf, room, now)
 *   while ((s = wr_yamux_drained(y))) ...write more to s...
 *
 * What control frames are due is kept as flags per stream, so they cannot pile up; answers that belong to no
 * stream (pongs, refusals) are counted. Inside input's loop, streams may be opened, written, reset and
 * forgotten at will, the event's own included.
 * Our side of every choice: SYN and ACK ride on the first data when there is some (rust), else on a
 * WindowUpdate (go, js); FIN always goes alone on a WindowUpdate, because go-yamux marks the stream closed
 * before it takes in the body and its reader may see the end too early. */
#ifndef WR_YAMUX_H
#define WR_YAMUX_H

#include "transport/bytes.h"
#include "transport/env.h"    /* wr_time, lists */
#include "transport/limits.h"

#define WR_YAMUX_HEADER         12                  /* bytes */
#define WR_YAMUX_WINDOW         (256 * 1024)        /* bytes; both sides start with it, spec */
#define WR_YAMUX_WINDOW_MAX     (24 * 1024 * 1024)  /* bytes a stream's window may grow to: 250 Mbit/s x 600 ms and grants on
                                                       the way; ours, go and js 16 MiB */
#define WR_YAMUX_BODY_MAX       65507               /* bytes of data per frame sent: one Noise frame */
#define WR_YAMUX_ACK_BACKLOG    256                 /* opened streams not acknowledged yet; spec */
#define WR_YAMUX_SEND_QUEUE     (128 * 1024)        /* bytes queued per stream; ours: two Noise frames */
#define WR_YAMUX_CONTROL_MAX    1024                /* queued control frames before input refuses to go on */
#define WR_YAMUX_EARLY_MAX      9                   /* streams opened before the peer sent any frame: js
                                                       aborts the connection at the tenth */
#define WR_YAMUX_FRAGMENT_MIN   1024                /* bytes; a smaller room is not worth splitting data for */
#define WR_YAMUX_REFUSED        0x1002              /* code of a stream reset for a limit; go core/network */

/* GoAway codes; spec. */
#define WR_YAMUX_NORMAL         0
#define WR_YAMUX_PROTOCOL_ERROR 1
#define WR_YAMUX_INTERNAL_ERROR 2

struct wr_yamux;          /* a session; heap */
struct wr_yamux_stream;   /* one stream; owned by the session until wr_yamux_forget */

struct wr_yamux_config {
    bool dialer;                  /* odd ids */
    uint32_t streams_max;         /* inbound at once; one more is reset */
    uint32_t outbound_max;        /* opened by us at once; open says WR_ELIMIT beyond */
    struct wr_limits *limits;     /* node-wide: STREAMS, WINDOW_EXTRA for windows that grow, MEMORY for
                                     queued bytes; borrowed, or NULL */
    wr_time rtt;                  /* what the handshake showed, until a ping tells; 0: unknown */
    uint32_t salt;                /* random, hides the stream table's order from the peer */
    uint32_t first_id;            /* 0: 1 or 2, as the role says; for tests of the end of the ids */
    uint32_t mark_every;          /* a ping goes between so many bytes of data and the next, whether or not others
                                     are on their way: what comes back tells a slow way from a dead one. 0: none */
};

enum wr_yamux_event_type {
    WR_YAMUX_OPENED,      /* the peer opened stream */
    WR_YAMUX_DATA,        /* data for stream: in wr_yamux_event.data, valid until the next input call */
    WR_YAMUX_EOF,         /* the peer will send no more on stream */
    WR_YAMUX_RESET,       /* the peer reset stream with code; it is closed: forget it */
    WR_YAMUX_WRITABLE,    /* the peer granted window after a write came up short */
    WR_YAMUX_ACKED,       /* the peer took stream, one of ours: room for more opens */
    WR_YAMUX_PONG,        /* our ping came back: rtt */
    WR_YAMUX_GOAWAY,      /* the peer ends the session with code; told once */
};

struct wr_yamux_event {
    enum wr_yamux_event_type type;
    struct wr_yamux_stream *stream;
    struct wr_bytes data;
    uint32_t code;
    wr_time rtt;
};

struct wr_yamux *wr_yamux_create(const struct wr_yamux_config *config);    /* NULL: out of memory */
void wr_yamux_destroy(struct wr_yamux *y);

/* Takes bytes, advancing *in. 1: *event is set, call again. 0: wants more bytes. <0, over (send what
 * output has, which is a GoAway, then close): WR_EPROTO; WR_ELIMIT (more answers due than
 * WR_YAMUX_CONTROL_MAX, or out of memory). */
int wr_yamux_input(struct wr_yamux *y, struct wr_bytes *in, wr_time now, struct wr_yamux_event *event);
/* Puts whole frames into buf: control first, then data of the streams in turn, those that had nothing
 * queued before the others. Returns bytes written, 0 when there is nothing to send. A frame is never cut.
 * room >= WR_YAMUX_HEADER + 1. */
size_t wr_yamux_output(struct wr_yamux *y, uint8_t *buf, size_t room, wr_time now);
/* The same, but the end of the last frame may stay where it was lent: *apart (else empty) is counted by the result,
 * is not in buf, and belongs behind what is. It begins at a multiple of 64 bytes from buf: see wr_aead_seal_two. */
size_t wr_yamux_output_apart(struct wr_yamux *y, uint8_t *buf, size_t room, wr_time now, struct wr_bytes *apart);
bool wr_yamux_wants_output(const struct wr_yamux *y);

/* ---- streams. arg is the owner's. */
/* NULL with *err: WR_ELIMIT (too many, try again after ACKED or a close), WR_ECLOSED (going away, ids
 * used up). */
struct wr_yamux_stream *wr_yamux_open(struct wr_yamux *y, void *arg, int *err);
void *wr_yamux_arg(const struct wr_yamux_stream *s);
void wr_yamux_set_arg(struct wr_yamux_stream *s, void *arg);
uint32_t wr_yamux_id(const struct wr_yamux_stream *s);
/* Queues up to len bytes (copied) and returns how many were taken: bounded by the peer's window and by
 * WR_YAMUX_SEND_QUEUE. When fewer than len were taken, either WRITABLE follows (the window was the bound) or
 * wr_yamux_drained names the stream (the queue was). WR_ELIMIT: none taken, out of memory; WR_ERESET,
 * WR_ECLOSED (shut, or the session is over). */
int wr_yamux_write(struct wr_yamux_stream *s, const uint8_t *data, size_t len);
/* What write would take and more, up to the peer's window, shown to output where it stands, until recall: a large write
 * that can leave at once is spared a copy. Nothing else is done with the stream meanwhile. Returns how many bytes are
 * shown, 0 when write would take none. */
size_t wr_yamux_lend(struct wr_yamux_stream *s, const uint8_t *data, size_t len);
/* Returns how many of those bytes output took. The others are the caller's again. */
size_t wr_yamux_recall(struct wr_yamux_stream *s, const uint8_t *data);
/* The next stream that has room again because output sent from its full queue, or NULL. Each is named once
 * per short write; ask after output. */
struct wr_yamux_stream *wr_yamux_drained(struct wr_yamux *y);
/* Bytes that write would take now. */
size_t wr_yamux_space(const struct wr_yamux_stream *s);
size_t wr_yamux_queued(const struct wr_yamux_stream *s);
void wr_yamux_shut(struct wr_yamux_stream *s);    /* FIN behind what is queued */
void wr_yamux_reset(struct wr_yamux_stream *s, uint32_t code);    /* both ways at once, queue dropped */
void wr_yamux_steady(struct wr_yamux_stream *s);    /* its receive window grows no more */
/* The owner has consumed n received bytes (at most what DATA handed out): they may be granted again. */
void wr_yamux_consumed(struct wr_yamux_stream *s, size_t n, wr_time now);
/* The owner drops the stream: the session frees it as soon as the wire allows (late frames are ignored).
 * A stream that is not closed both ways must be reset or shut and read to its end first. */
void wr_yamux_forget(struct wr_yamux_stream *s);
bool wr_yamux_stream_done(const struct wr_yamux_stream *s);    /* reset, or closed both ways and all sent */

/* ---- session */
/* Sends a ping unless one is on its way; PONG follows. Returns false when one is. The owner keeps time:
 * go expects an answer within 10 s, and so may we. */
bool wr_yamux_ping(struct wr_yamux *y, wr_time now);
/* No more streams either way. Code 0 goes out behind the data queued so far, because go and js end the
 * session on seeing it; any other code goes out at once. */
void wr_yamux_goaway(struct wr_yamux *y, uint32_t code);
size_t wr_yamux_stream_count(const struct wr_yamux *y);
bool wr_yamux_spent(const struct wr_yamux *y);    /* no ids are left for streams of ours; the peer's go on */
wr_time wr_yamux_rtt(const struct wr_yamux *y);    /* smallest recent one; 0: unknown */

#endif
