/* stream.h - the byte stream that a protocol sees. Service.
 * One stream speaks one protocol, agreed by multistream-select, over whatever carries the connection
 * (yamux now, QUIC beside it). A stream may be opened before its connection exists (swarm.h): it then
 * waits for the dial, and what is written meanwhile goes out in the first flight.
 *
 *   dialler  wr_swarm_open -> [write ...] -> on_open -> on_data ... -> on_eof -> on_close
 *   listener the protocol's on_stream (wr_stream_set_ops inside) -> on_data ... as above
 *
 * on_close is the last call a stream makes, unless its owner let go of it first by wr_stream_close or
 * wr_stream_reset: then it makes none. Either way the object is gone when the turn has settled. */
#ifndef WR_STREAM_H
#define WR_STREAM_H

#include "transport/env.h"

struct wr_conn;
struct wr_stream;

struct wr_stream_ops {
    /* The protocol is agreed: wr_stream_protocol names it. Only on streams that we opened. NULL: not
     * wanted, as every handler here. */
    void (*on_open)(struct wr_stream *s, void *arg);
    /* Bytes, valid during the call. The handler takes all of them; it slows the peer down by
     * wr_stream_pause. */
    void (*on_data)(struct wr_stream *s, void *arg, struct wr_bytes data);
    void (*on_eof)(struct wr_stream *s, void *arg);         /* the peer finished writing */
    void (*on_writable)(struct wr_stream *s, void *arg);    /* room again after a short write */
    /* 0: both directions ended in order. WR_ERESET, WR_EUNSUPPORTED, WR_ETIMEOUT, WR_ECLOSED (the
     * connection went away), a dial's error ... */
    void (*on_close)(struct wr_stream *s, void *arg, int err);
};

#define WR_STREAM_NEGOTIATE_TIMEOUT (10 * WR_SEC)    /* go, rust and js alike */
#define WR_STREAM_WAIT              (15 * WR_SEC)    /* for a place among the streams of ours; go's new stream */
#define WR_STREAM_LINGER            (10 * WR_SEC)    /* after close: wait for the peer's end; go 10 s */
#define WR_STREAM_EARLY_MAX         (64 * 1024)      /* bytes written before the stream is on the wire */

/* Stream error codes, sent with a reset; libp2p error code registry (go core/network/mux.go). */
#define WR_STREAM_OK         0x0
#define WR_STREAM_UNKNOWN    0x1001    /* protocol negotiation failed */
#define WR_STREAM_LIMIT      0x1002    /* resource limit exceeded */
#define WR_STREAM_RATE       0x1003    /* rate limited */
#define WR_STREAM_VIOLATION  0x1004    /* protocol violation */

void wr_stream_set_ops(struct wr_stream *s, const struct wr_stream_ops *ops, void *arg);
/* Takes up to len bytes and returns how many; on_writable follows when that is less than len.
 * WR_ECLOSED after shut; WR_ELIMIT out of memory. With several protocols offered nothing is taken before
 * on_open. */
int wr_stream_write(struct wr_stream *s, const void *data, size_t len);
size_t wr_stream_space(const struct wr_stream *s);    /* bytes a write would take now */
size_t wr_stream_queued(const struct wr_stream *s);   /* bytes taken and not sent yet */
void wr_stream_shut(struct wr_stream *s);             /* no more from us; behind what is queued */
/* Lets go in order: sends what is queued, shuts, waits (WR_STREAM_LINGER) for the peer's end. */
void wr_stream_close(struct wr_stream *s);
void wr_stream_reset(struct wr_stream *s, uint32_t code);    /* lets go at once, both ways */
/* Holds on_data and on_eof back; the peer is stopped by its window. */
void wr_stream_pause(struct wr_stream *s, bool paused);

/* From now on its receive window stays as it is: for streams that are paused for pace, which would gain nothing but
 * bytes waiting here. And on_data gets at most WR_STREAM_STEADY_PIECE bytes at once, none after one that paused: what
 * came while it was paused would leave in one burst otherwise. The protocol must be agreed. */
#define WR_STREAM_STEADY_PIECE (16 * 1024)    /* bytes; ours */
void wr_stream_steady(struct wr_stream *s);

const char *wr_stream_protocol(const struct wr_stream *s);    /* NULL until agreed; lives as long as s */
struct wr_conn *wr_stream_conn(const struct wr_stream *s);    /* NULL while dialling */
uint32_t wr_stream_reset_code(const struct wr_stream *s);     /* in on_close(WR_ERESET): the peer's */

#endif
