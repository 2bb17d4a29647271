/* echo_world.h - nodes with an echo, and clients that send a pattern and check what comes back; for the stories of the swarm
 * and of QUIC. Included by one source file of a test program. */
#ifndef ECHO_WORLD_H
#define ECHO_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/swarm.h"

#include <string.h>

#define ECHO "/test/echo/1.0.0"
static const char *const echo_offer[] = {ECHO, NULL};

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_swarm_watch watch;
    struct wr_maddr addr;
    int opened, closed, served, close_err;
};

static inline void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct node *n = wr_list_entry(watch, struct node, watch);
    n->opened += event->type == WR_SWARM_OPENED;
    if (event->type == WR_SWARM_CLOSED) {
        n->closed++;
        n->close_err = event->err;
    }
}

static inline void node_stop(struct node *n)
{
    wr_swarm_unwatch(&n->watch);
    wr_swarm_destroy(n->swarm);
}

struct result {
    bool done;
    int err;
    struct wr_conn *conn;
};

static inline void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct result *r = arg;
    assert_false(r->done);
    *r = (struct result){.done = true, .err = err, .conn = conn};
}

static inline void dial(struct node *from, struct node *to, struct result *r)
{
    *r = (struct result){0};
    assert_int_equal(wr_swarm_connect(from->swarm, wr_swarm_self(to->swarm), &to->addr, 1,
                                      WR_ORIGIN_OWNER, 0, on_connect, r, NULL),
                     0);
}

/* ---- an echo that minds its peer's pace */

struct echo {
    struct wr_buf kept;
    bool eof;
};

static inline void echo_flush(struct wr_stream *s, struct echo *e)
{
    int n = e->kept.len ? wr_stream_write(s, e->kept.data, e->kept.len) : 0;
    if (n > 0)
        wr_buf_consume(&e->kept, (size_t)n);
    wr_stream_pause(s, e->kept.len > 0);
    if (e->kept.len == 0 && e->eof)
        wr_stream_shut(s);
}

static inline void echo_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct echo *e = arg;
    wr_buf_put_bytes(&e->kept, data);
    if (e->kept.full) {    /* out of memory */
        wr_stream_reset(s, WR_STREAM_LIMIT);
        wr_buf_clear(&e->kept);
        wr_free(e);
        return;
    }
    echo_flush(s, e);
}

static inline void echo_eof(struct wr_stream *s, void *arg)
{
    struct echo *e = arg;
    e->eof = true;
    echo_flush(s, e);
}

static inline void echo_writable(struct wr_stream *s, void *arg)
{
    echo_flush(s, arg);
}

static inline void echo_close(struct wr_stream *s, void *arg, int err)
{
    struct echo *e = arg;
    (void)s;
    (void)err;
    wr_buf_clear(&e->kept);
    wr_free(e);
}

static const struct wr_stream_ops echo_ops = {
    .on_data = echo_data, .on_eof = echo_eof, .on_writable = echo_writable, .on_close = echo_close};

static inline void on_echo(struct wr_stream *s, void *arg)
{
    struct node *n = arg;
    struct echo *e = wr_alloc(sizeof(*e));
    if (!e) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    wr_buf_init(&e->kept, 32 << 20);
    n->served++;
    wr_stream_set_ops(s, &echo_ops, e);
}

/* ---- a client that sends a pattern and checks what comes back */

#define BLOCK_MAX 300000    /* bytes; more than leaves at once */

struct client {
    struct wr_env *env;
    struct wr_stream *stream;
    size_t size, sent, got;
    size_t block;    /* bytes of one write; 0: 4,096 */
    bool open, eof, closed;
    int err;
    wr_time first_at, done_at;
};

static inline uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static inline void client_push(struct client *c)
{
    static uint8_t block[BLOCK_MAX];
    size_t most = c->block ? c->block : 4096;
    while (c->sent < c->size) {
        size_t len = c->size - c->sent < most ? c->size - c->sent : most;
        for (size_t i = 0; i < len; i++)
            block[i] = pattern(c->sent + i);
        int n = wr_stream_write(c->stream, block, len);
        if (n <= 0)
            return;
        c->sent += (size_t)n;
    }
    wr_stream_shut(c->stream);
}

static inline void client_writable(struct wr_stream *s, void *arg)
{
    struct client *c = arg;
    c->stream = s;
    if (c->sent < c->size)
        client_push(c);
}

static inline void client_open(struct wr_stream *s, void *arg)
{
    ((struct client *)arg)->open = true;
    client_writable(s, arg);
}

static inline void client_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct client *c = arg;
    if (!c->first_at)
        c->first_at = wr_env_now(c->env);
    (void)s;
    for (size_t i = 0; i < data.len; i++)
        if (data.ptr[i] != pattern(c->got + i))
            fail_msg("byte %zu differs", c->got + i);
    c->got += data.len;
}

static inline void client_eof(struct wr_stream *s, void *arg)
{
    (void)s;
    ((struct client *)arg)->eof = true;
}

static inline void client_close(struct wr_stream *s, void *arg, int err)
{
    struct client *c = arg;
    (void)s;
    assert_false(c->closed);
    c->closed = true;
    c->err = err;
    c->done_at = wr_env_now(c->env);
}

static const struct wr_stream_ops client_ops = {.on_open = client_open,
                                                .on_data = client_data,
                                                .on_eof = client_eof,
                                                .on_writable = client_writable,
                                                .on_close = client_close};

/* Over a stream of its own, for the first of offer that the peer speaks. */
static inline void talk_over(struct node *from, struct node *to, const char *const *offer, struct client *c,
                             size_t size)
{
    int err = 0;
    *c = (struct client){.env = from->env, .size = size};
    wr_peerstore_add_addr(wr_swarm_peerstore(from->swarm), wr_swarm_self(to->swarm), wr_maddr_bytes(&to->addr),
                          WR_TTL_PERMANENT, false);
    c->stream = wr_swarm_open(from->swarm, wr_swarm_self(to->swarm), offer, &client_ops, c, &err);
    assert_non_null(c->stream);
    if (!offer[1])
        client_push(c);
}

static inline void assert_whole(const struct client *c)
{
    assert_true(c->closed);
    assert_int_equal(c->err, 0);
    assert_int_equal(c->got, c->size);
    assert_true(c->eof);
}

#endif
