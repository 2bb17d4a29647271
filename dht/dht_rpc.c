/* One question to one peer, over a stream of its own: opening one is free on a connection that
 * exists, and answers need not be told apart. The write side is closed behind the request, as rust
 * and js do. */
#include "dht/dht_impl.h"
#include "transport/err.h"

#define REQUEST_MAX (16 * 1024) /* bytes of a request: rust-libp2p takes no more */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_dht_rpc, dispose));
}

static void finish(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer)
{
    struct wr_dht *d = rpc->dht;
    wr_list_remove(&rpc->node);
    if (err == 0)
        d->counted.answered++;
    else
        d->counted.failed++;
    d->heard(rpc, err, answer);
    if (err == 0 && !rpc->owner && !rpc->warm)
        wr_pace_sample(&d->pace, wr_env_now(d->env) - rpc->sent_at);
    if (rpc->owner)
        rpc->done(rpc, err, answer);
    wr_env_dispose(d->env, &rpc->dispose, dispose);
}

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dht_rpc *rpc = wr_list_entry(m, struct wr_dht_rpc, msg);
    struct wr_dht_msg answer;
    int err = wr_dht_msg_decode(body, &answer);
    /* The answer lies in the conversation's buffer: that is closed last. */
    finish(rpc, err, err == 0 ? &answer : NULL);
    wr_dht_msg_clear(&answer);
    if (err == 0)
        wr_msg_close(m);
    else
        wr_msg_reset(m, WR_STREAM_VIOLATION);
}

/* An end in order: all that ADD_PROVIDER can hope for, and too little for the others. */
static void on_eof(struct wr_msg *m)
{
    struct wr_dht_rpc *rpc = wr_list_entry(m, struct wr_dht_rpc, msg);
    wr_msg_close(m);
    finish(rpc, rpc->one_way ? 0 : WR_ECLOSED, NULL);
}

static void on_close(struct wr_msg *m, int err)
{
    struct wr_dht_rpc *rpc = wr_list_entry(m, struct wr_dht_rpc, msg);
    /* js-libp2p resets a stream whose end it reads after an announcement, which it has taken in by then; a
     * refusal of go's looks the same, and go itself asks no more than this. Who says why means no. */
    if (rpc->one_way && err == WR_ERESET && m->code != WR_STREAM_OK && m->code != WR_STREAM_UNKNOWN)
        err = WR_EREFUSED;
    else if (rpc->one_way && err == WR_ERESET && m->agreed)
        err = 0;
    rpc->busy = err == WR_ERESET && (m->code == WR_STREAM_RATE || m->code == WR_STREAM_LIMIT);
    finish(rpc, err, NULL);
}

static const struct wr_msg_ops msg_ops = {
    .on_message = on_message, .on_eof = on_eof, .on_close = on_close};

static void learn_addrs(struct wr_dht *d, const struct wr_peerid *peer, struct wr_bytes addrs)
{
    struct wr_bytes addr;
    while (wr_query_addr(&addrs, &addr))
        wr_peerstore_add_addr(wr_swarm_peerstore(d->swarm), peer, addr, WR_TTL_TEMP, false);
}

static int send_request(struct wr_dht_rpc *rpc, const struct wr_dht_msg *request)
{
    struct wr_buf body;
    wr_buf_init(&body, REQUEST_MAX);
    int err = wr_dht_msg_encode(request, REQUEST_MAX, &body);
    if (err == 0)
        err = wr_msg_send(&rpc->msg, wr_buf_bytes(&body));
    wr_buf_clear(&body);
    return err;
}

struct wr_dht_rpc *wr_dht_rpc_ask(struct wr_dht *d, const struct wr_peerid *peer,
                                  struct wr_bytes addrs, const struct wr_dht_msg *request,
                                  void *owner,
                                  void (*done)(struct wr_dht_rpc *, int, struct wr_dht_msg *),
                                  int *err)
{
    struct wr_conn *conn = wr_swarm_conn(d->swarm, peer);
    /* A relayed connection is for little data between two, not for lookups (go-libp2p-kad-dht
     * query.go). */
    *err = conn && conn->limited ? WR_EUNREACH : WR_ELIMIT;
    struct wr_dht_rpc *rpc = *err == WR_ELIMIT ? wr_alloc(sizeof(*rpc)) : NULL;
    if (!rpc)
        return NULL;
    rpc->dht = d;
    rpc->peer = *peer;
    rpc->owner = owner;
    rpc->done = done;
    rpc->one_way = request->type == WR_DHT_ADD_PROVIDER;
    rpc->warm = conn != NULL;
    rpc->sent_at = wr_env_now(d->env);
    if (!conn)
        learn_addrs(d, peer, addrs);
    struct wr_stream *s = wr_swarm_open_with(d->swarm, peer, WR_OPEN_DIRECT, d->offer, NULL, NULL, err);
    if (!s) {
        wr_free(rpc);
        return NULL;
    }
    wr_msg_start(&rpc->msg, d->env, s, WR_DHT_RECV_MAX, &msg_ops);
    *err = send_request(rpc, request);
    if (*err != 0) {
        wr_msg_reset(&rpc->msg, WR_STREAM_OK);
        wr_env_dispose(d->env, &rpc->dispose, dispose);
        return NULL;
    }
    wr_msg_shut(&rpc->msg);
    wr_msg_deadline(&rpc->msg, rpc->sent_at + WR_DHT_RPC_TIMEOUT);
    wr_list_append(&d->rpcs, &rpc->node);
    d->counted.asked++;
    return rpc;
}

void wr_dht_rpc_orphan(struct wr_dht *d, const void *owner)
{
    wr_list_each(node, &d->rpcs)
    {
        struct wr_dht_rpc *rpc = wr_list_entry(node, struct wr_dht_rpc, node);
        if (rpc->owner == owner)
            rpc->owner = NULL;
    }
}

void wr_dht_rpc_drop_all(struct wr_dht *d)
{
    wr_list_each(node, &d->rpcs)
    {
        struct wr_dht_rpc *rpc = wr_list_entry(node, struct wr_dht_rpc, node);
        wr_list_remove(&rpc->node);
        wr_msg_reset(&rpc->msg, WR_STREAM_OK);
        wr_env_dispose(d->env, &rpc->dispose, dispose);
    }
}
