/* dht_guest.h - a peer that does as it likes with a server of the DHT: streams written byte by
 * byte. Over dht_world.h. */
#ifndef DHT_GUEST_H
#define DHT_GUEST_H

#include "tests/sim/dht_world.h"

/* ---- a peer that does as it likes ----------------------------------------------------------- */

struct guest {
    struct wr_stream *stream; /* NULL once closed */
    struct wr_buf in;
    bool open, eof, closed;
    int err;
    uint32_t code;
};

static inline void guest_open(struct wr_stream *s, void *arg)
{
    (void)s;
    ((struct guest *)arg)->open = true;
}

static inline void guest_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    wr_buf_put_bytes(&((struct guest *)arg)->in, data);
}

static inline void guest_eof(struct wr_stream *s, void *arg)
{
    (void)s;
    ((struct guest *)arg)->eof = true;
}

static inline void guest_close(struct wr_stream *s, void *arg, int err)
{
    struct guest *g = arg;
    g->closed = true;
    g->err = err;
    g->code = wr_stream_reset_code(s);
    g->stream = NULL;
}

static const struct wr_stream_ops guest_ops = {
    .on_open = guest_open, .on_data = guest_data, .on_eof = guest_eof, .on_close = guest_close};

static const char *const offer[] = {PROTOCOL, NULL};

static struct node *server, *client;

static inline void guest_start(struct guest *g)
{
    int err;
    memset(g, 0, sizeof(*g));
    wr_buf_init(&g->in, 1 << 20);
    g->stream =
        wr_swarm_open(client->swarm, wr_swarm_self(server->swarm), offer, &guest_ops, g, &err);
    assert_non_null(g->stream);
}

static inline void guest_stop(struct guest *g)
{
    if (g->stream)
        wr_stream_reset(g->stream, 0);
    wr_buf_clear(&g->in);
}

/* A request with its length in front, appended to b. */
static inline void put_request(struct wr_buf *b, const struct wr_dht_msg *msg)
{
    struct wr_buf body;
    wr_buf_init(&body, 1 << 20);
    assert_int_equal(wr_dht_msg_encode(msg, 1 << 20, &body), 0);
    wr_buf_put_prefixed(b, wr_buf_bytes(&body));
    wr_buf_clear(&body);
}

static inline void guest_write(struct guest *g, struct wr_bytes data)
{
    assert_int_equal(wr_stream_write(g->stream, data.ptr, data.len), data.len);
}

static inline void guest_ask(struct guest *g, const struct wr_dht_msg *msg)
{
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    put_request(&b, msg);
    guest_write(g, wr_buf_bytes(&b));
    wr_buf_clear(&b);
}

/* Takes the next answer off; false when there is none. Its slices live as long as g->in is left
 * alone. */
static inline bool next_answer(struct guest *g, size_t *at, struct wr_dht_msg *msg)
{
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(g->in.data + *at, g->in.len - *at));
    if (r.rest.len == 0)
        return false;
    struct wr_bytes body = wr_read_prefixed(&r);
    assert_false(r.bad);
    assert_true(body.len <= WR_DHT_SEND_MAX);
    assert_int_equal(wr_dht_msg_decode(body, msg), 0);
    *at = g->in.len - r.rest.len;
    return true;
}

static inline size_t count_answers(struct guest *g)
{
    struct wr_dht_msg msg;
    size_t at = 0, count = 0;
    for (; next_answer(g, &at, &msg); count++)
        wr_dht_msg_clear(&msg);
    return count;
}

static inline struct wr_dht_msg find_node(const struct wr_peerid *target)
{
    return (struct wr_dht_msg){.type = WR_DHT_FIND_NODE, .key = wr_peerid_bytes(target)};
}

static inline struct wr_bytes one_addr(struct wr_maddr *ma, const char *text)
{
    assert_int_equal(wr_maddr_parse(text, ma), 0);
    return wr_maddr_bytes(ma);
}

#endif
