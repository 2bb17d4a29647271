#include "pinger.h"

struct pinger {
    struct wr_env *env;
    struct wr_ping *ping;
    unsigned left;
    wr_time gap;
    pinger_fn fn;
    void *arg;
    struct wr_timer next;
};

static void send_next(struct wr_timer *timer)
{
    struct pinger *p = wr_list_entry(timer, struct pinger, next);
    wr_ping_send(p->ping);
}

static void on_reply(void *arg, const struct wr_ping_reply *reply)
{
    struct pinger *p = arg;
    pinger_fn fn = p->fn;
    void *fn_arg = p->arg;
    unsigned left = reply->err ? 0 : p->left - 1;
    p->left = left;
    if (left == 0)
        pinger_cancel(p);
    else
        wr_timer_start(p->env, &p->next, wr_env_now(p->env) + p->gap, send_next);
    fn(fn_arg, reply->err, reply->rtt, left);
}

struct pinger *pinger_start(struct wr_swarm *sw, const struct wr_peerid *peer, unsigned count,
                            wr_time gap, pinger_fn fn, void *arg)
{
    struct pinger *p = count ? wr_alloc(sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    *p = (struct pinger){.env = wr_swarm_env(sw), .left = count, .gap = gap, .fn = fn, .arg = arg};
    p->ping = wr_ping_open(sw, peer, &(struct wr_ping_options){.on_reply = on_reply, .arg = p});
    if (!p->ping || wr_ping_send(p->ping) != 0) {
        pinger_cancel(p);
        return NULL;
    }
    return p;
}

void pinger_cancel(struct pinger *p)
{
    if (!p)
        return;
    wr_timer_stop(p->env, &p->next);
    wr_ping_close(p->ping);
    wr_free(p);
}
