/* flow.h - a stream that never ends and whoever counts what arrives of it, for tests that look at how fast that is. */
#ifndef WR_TEST_FLOW_H
#define WR_TEST_FLOW_H

#include "transport/stream.h"

/* The sink's arg: uint64_t, bytes that arrived. */
static void sink_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    *(uint64_t *)arg += data.len;
}

static const struct wr_stream_ops sink_ops = {.on_data = sink_data};

static void on_sink(struct wr_stream *s, void *arg)
{
    wr_stream_set_ops(s, &sink_ops, arg);
}

static void source_push(struct wr_stream *s, void *arg)
{
    static const uint8_t block[32 * 1024];
    (void)arg;
    while (wr_stream_write(s, block, sizeof(block)) == (int)sizeof(block)) {
    }
}

static const struct wr_stream_ops source_ops = {.on_open = source_push, .on_writable = source_push};

#endif
