#include "node/route.h"

#include "transport/err.h"

struct leg {
    struct search *search;
    void *asked; /* handle of the router; NULL: over */
};

struct search {
    struct wr_route *route;
    struct leg legs[WR_ROUTE_MAX];
    size_t running;
    int err;
    wr_route_done done;
    void *arg;
    struct wr_task task;
};

static void free_search(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct search, task));
}

static void end(struct search *s)
{
    for (size_t i = 0; i < s->route->count; i++) {
        const struct wr_router *router = &s->route->of[i];
        if (s->legs[i].asked)
            router->cancel(router->arg, s->legs[i].asked);
        s->legs[i].asked = NULL;
    }
    wr_env_dispose(s->route->env, &s->task, free_search);
}

static void drop_waiting(struct search *s)
{
    struct wr_route *route = s->route;
    for (size_t i = 0; i < route->count; i++) {
        if (!s->legs[i].asked || !route->alone(route->arg, i))
            continue;
        route->of[i].cancel(route->of[i].arg, s->legs[i].asked);
        s->legs[i].asked = NULL;
        s->running--;
    }
}

static void on_leg(void *arg, int err)
{
    struct leg *leg = arg;
    struct search *s = leg->search;
    leg->asked = NULL;
    s->running--;
    if (s->err == 0 || s->err == WR_EUNREACH)
        s->err = err;
    if (err != WR_EUNREACH)
        drop_waiting(s);
    if (err != 0 && s->running > 0)
        return;
    end(s);
    s->done(s->arg, err == 0 ? 0 : s->err);
}

static void *find(void *arg, const struct wr_peerid *peer, wr_route_done done, void *done_arg)
{
    struct wr_route *route = arg;
    struct search *s = wr_alloc(sizeof(*s));
    if (!s)
        return NULL;
    s->route = route;
    s->done = done;
    s->arg = done_arg;
    for (size_t i = 0; i < route->count; i++) {
        const struct wr_router *router = &route->of[i];
        s->legs[i].search = s;
        s->legs[i].asked = router->find(router->arg, peer, on_leg, &s->legs[i]);
        s->running += s->legs[i].asked != NULL;
    }
    if (s->running > 0)
        return s;
    wr_free(s);
    return NULL;
}

static void cancel(void *arg, void *search)
{
    (void)arg;
    end(search);
}

struct wr_router wr_route_router(struct wr_route *route)
{
    return (struct wr_router){.find = find, .cancel = cancel, .arg = route};
}
