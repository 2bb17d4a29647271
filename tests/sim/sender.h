/* sender.h - who writes so many bytes to a stream, and then its end. */
#ifndef SENDER_H
#define SENDER_H

#include "transport/err.h"
#include "transport/stream.h"

struct sender {
    size_t left;
    int err;    /* of the stream's end; 1, as set by who makes one: it has not ended */
};

static inline void sender_go(struct wr_stream *s, void *arg)
{
    static const uint8_t zeros[16384];
    struct sender *c = arg;
    while (c->left) {
        int n = wr_stream_write(s, zeros, c->left < sizeof(zeros) ? c->left : sizeof(zeros));
        if (n < 0) {
            c->err = n;
            wr_stream_reset(s, WR_STREAM_LIMIT);
        }
        if (n <= 0)
            return;
        c->left -= (size_t)n;
    }
    wr_stream_shut(s);
}

static inline void sender_close(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    ((struct sender *)arg)->err = err;
}

static const struct wr_stream_ops sender_ops = {
    .on_open = sender_go, .on_writable = sender_go, .on_close = sender_close};

#endif
