/* Who asks for connections and streams. What is open already is answered at once, the rest waits for the peer's dial. */
#include "transport/swarm_dial.h"

static void dispose_request(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_connect, task));
}

void wr_connect_answer(struct wr_connect *r, int err, struct wr_conn *c)
{
    if (r->over)
        return;
    r->over = true;
    wr_list_remove(&r->node);
    wr_task_cancel(&r->task);
    wr_env_dispose(r->swarm->env, &r->task, dispose_request);
    /* Whoever was answered first may have found it broken: its end was told already, and is not told again. */
    if (c && c->state == WR_CONN_CLOSED) {
        err = WR_ECLOSED;
        c = NULL;
    }
    r->fn(r->arg, err, c);
}

static struct wr_connect *create_request(struct wr_swarm *sw, wr_connect_fn fn, void *arg)
{
    struct wr_connect *r = wr_alloc(sizeof(*r));
    if (!r)
        return NULL;
    r->swarm = sw;
    r->fn = fn;
    r->arg = arg;
    wr_list_init(&r->node);
    return r;
}

static void answer_open(struct wr_task *task)
{
    struct wr_connect *r = wr_list_entry(task, struct wr_connect, task);
    struct wr_conn *c = wr_swarm_conn(r->swarm, &r->peer);
    wr_connect_answer(r, c ? 0 : WR_ECLOSED, c);
}

static int may_dial(const struct wr_swarm *sw, const struct wr_peerid *peer)
{
    if (wr_peerid_equal(peer, &sw->ctx.self))
        return WR_ESELF;
    return wr_policy_peer_blocked(&sw->policy, peer) ? WR_EGATED : 0;
}

int wr_swarm_connect_as(struct wr_swarm *sw, struct wr_bytes addr, enum wr_addr_origin origin, wr_connect_fn fn,
                        void *arg, struct wr_connect **out)
{
    struct wr_connect *r = create_request(sw, fn, arg);
    struct wr_swarm_dial *d = r ? wr_swarm_dial_create(sw, NULL) : NULL;
    if (!d) {
        wr_free(r);
        return WR_ELIMIT;
    }
    wr_swarm_dial_add(d, addr, origin);
    wr_list_append(&d->requests, &r->node);
    if (out)
        *out = r;
    wr_swarm_dial_next(sw);
    return 0;
}

int wr_swarm_connect(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_maddr *addrs,
                     size_t count, enum wr_addr_origin origin, unsigned flags, wr_connect_fn fn,
                     void *arg, struct wr_connect **out)
{
    int rc = may_dial(sw, peer);
    if (rc == WR_ESELF && count > 0 && origin != WR_ORIGIN_STRANGER) {
        struct wr_bytes elsewhere = wr_maddr_strip_peer(wr_maddr_bytes(&addrs[0]));
        if (!wr_swarm_is_own(sw, elsewhere))
            return wr_swarm_connect_as(sw, elsewhere, origin, fn, arg, out);
    }
    if (rc != 0)
        return rc;
    struct wr_connect *r = create_request(sw, fn, arg);
    if (!r)
        return WR_ELIMIT;
    const struct wr_conn *open = wr_swarm_conn(sw, peer);
    r->direct = (flags & WR_CONNECT_DIRECT) != 0;
    if (!(flags & WR_CONNECT_FRESH) && open && !(r->direct && open->circuit)) {
        r->peer = *peer;
        wr_env_defer(sw->env, &r->task, answer_open);
        if (out)
            *out = r;
        return 0;
    }
    struct wr_swarm_dial *d = wr_swarm_dial_of(sw, peer, !r->direct);
    if (!d) {
        wr_free(r);
        return WR_ELIMIT;
    }
    for (size_t i = 0; i < count; i++)
        wr_swarm_dial_add(d, wr_maddr_bytes(&addrs[i]), origin);
    d->may_route |= (flags & WR_CONNECT_ROUTE) != 0;
    wr_list_append(&d->requests, &r->node);
    if (out)
        *out = r;
    wr_swarm_dial_next(sw);
    wr_swarm_dial_look_again(d);
    return 0;
}

int wr_swarm_connect_addr(struct wr_swarm *sw, struct wr_bytes addr, wr_connect_fn fn, void *arg,
                          struct wr_connect **out)
{
    struct wr_peerid peer;
    struct wr_maddr one = {.len = 0};
    if (wr_maddr_append(&one, addr) != 0)
        return WR_EINVAL;
    if (wr_maddr_peer(addr, &peer))
        return wr_swarm_connect(sw, &peer, &one, 1, WR_ORIGIN_OWNER, 0, fn, arg, out);
    return wr_swarm_connect_as(sw, addr, WR_ORIGIN_OWNER, fn, arg, out);
}

void wr_connect_cancel(struct wr_connect *r)
{
    if (!r || r->over)
        return;
    r->over = true;
    wr_list_remove(&r->node);
    wr_task_cancel(&r->task);
    wr_env_dispose(r->swarm->env, &r->task, dispose_request);
}

struct wr_stream *wr_swarm_open(struct wr_swarm *sw, const struct wr_peerid *peer,
                                const char *const *offer, const struct wr_stream_ops *ops, void *arg,
                                int *err)
{
    return wr_swarm_open_with(sw, peer, 0, offer, ops, arg, err);
}

struct wr_stream *wr_swarm_open_with(struct wr_swarm *sw, const struct wr_peerid *peer, unsigned flags,
                                     const char *const *offer, const struct wr_stream_ops *ops, void *arg,
                                     int *err)
{
    *err = may_dial(sw, peer);
    if (*err != 0)
        return NULL;
    struct wr_conn *c = wr_swarm_conn(sw, peer);
    if (c && (!c->limited || (flags & WR_OPEN_LIMITED)))
        return wr_conn_open_stream(c, offer, ops, arg, err);
    struct wr_swarm_dial *d = wr_swarm_dial_of(sw, peer, !(flags & WR_OPEN_DIRECT));
    struct wr_stream *s = d ? wr_stream_create_dial(sw->env, sw->limits, offer, ops, arg) : NULL;
    *err = WR_ELIMIT;
    if (s) {
        s->limited_too = (flags & WR_OPEN_LIMITED) != 0;
        wr_list_append(&d->streams, &s->node);
    }
    wr_swarm_dial_next(sw);
    return s;
}

