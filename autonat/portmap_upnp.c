/* UPnP: tasks on another thread, one at a time for each router. A task outlives a router that is let go of.
 */
#include "autonat/portmap_impl.h"

#include <string.h>

#define LEASE_CHECK                                                                                        \
    600 /* seconds: UPnP has no count that tells of a restart, so mappings are made anew at half of        \
           this at the latest; ours */

struct wr_portmap_job {
    struct wr_work work;
    struct wr_env *env;
    struct wr_portmap_router *router; /* NULL: let go of */
    void (*upnp)(struct wr_upnp_task *task);
    struct wr_upnp_task task;
};

static void run(struct wr_work *work)
{
    struct wr_portmap_job *job = wr_list_entry(work, struct wr_portmap_job, work);
    job->upnp(&job->task);
}

static enum wr_portmap_reason reason_of(int err)
{
    switch (err) {
    case WR_EPERM:
        return WR_PORTMAP_REFUSED;
    case WR_ELIMIT:
        return WR_PORTMAP_RESOURCES;
    case WR_EUNREACH:
    case WR_ENOTFOUND:
        return WR_PORTMAP_SILENT;
    default:
        return WR_PORTMAP_ERROR;
    }
}

/* The router was let go of while its task made mappings. */
static bool undo(struct wr_portmap_job *job)
{
    bool made = false;
    for (size_t i = 0; i < job->task.count; i++) {
        made |= !job->task.ports[i].remove && job->task.ports[i].err == 0;
        job->task.ports[i].remove = true;
    }
    return made && job->task.igd.known && wr_env_work(job->env, &job->work) == 0;
}

static void take_port(struct wr_portmap_router *r, const struct wr_upnp_port *done)
{
    for (size_t i = 0; i < r->port_count; i++) {
        struct wr_portmap_port *port = &r->ports[i];
        if (port->udp != done->udp || port->port != done->internal)
            continue;
        port->pinholed = done->held;
        port->pinhole = done->pinhole;
        uint32_t seconds = done->lifetime && done->lifetime < LEASE_CHECK ? done->lifetime : LEASE_CHECK;
        if (done->err == 0)
            wr_portmap_granted(r, port, &r->external, done->outside, seconds);
        else
            wr_portmap_way_failed(r, WR_PORTMAP_UPNP, reason_of(done->err));
        return;
    }
}

static void take(struct wr_portmap_router *r, const struct wr_upnp_task *task)
{
    r->igd = task->igd;
    if (r->active == WR_PORTMAP_UPNP || !r->external.family)
        r->external = task->external;
    if (task->err != 0) {
        wr_portmap_way_failed(r, WR_PORTMAP_UPNP, reason_of(task->err));
        return;
    }
    wr_portmap_way_alive(r, WR_PORTMAP_UPNP);
    for (size_t i = 0; i < task->count && r->active == WR_PORTMAP_UPNP; i++)
        take_port(r, &task->ports[i]);
}

static void done(struct wr_work *work)
{
    struct wr_portmap_job *job = wr_list_entry(work, struct wr_portmap_job, work);
    struct wr_portmap_router *r = job->router;
    if (!r) {
        if (!undo(job))
            wr_free(job);
        return;
    }
    r->job = NULL;
    take(r, &job->task);
    wr_free(job);
    wr_portmap_look(r->p);
}

static uint16_t spare_port(struct wr_env *env)
{
    return (uint16_t)(10000 + wr_env_random_below(env, 50000)); /* as go-nat */
}

static struct wr_portmap_job *make_job(struct wr_portmap_router *r)
{
    struct wr_portmap_job *job = wr_alloc(sizeof(*job));
    if (!job)
        return NULL;
    job->work = (struct wr_work){.run = run, .done = done};
    job->env = r->p->env;
    job->upnp = r->p->upnp;
    job->task = (struct wr_upnp_task){
        .gateway = r->gateway.ip, .source = r->source, .zone = r->index, .igd = r->igd};
    return job;
}

static void start(struct wr_portmap_router *r, struct wr_portmap_job *job)
{
    if (wr_env_work(r->p->env, &job->work) != 0) {
        wr_free(job);
        return;
    }
    job->router = r;
    r->job = job;
}

static void add_port(struct wr_portmap_job *job, const struct wr_portmap_port *port, bool remove)
{
    job->task.ports[job->task.count++] = (struct wr_upnp_port){
        .udp = port->udp,
        .remove = remove,
        .internal = port->port,
        .outside = port->external.port ? port->external.port : port->port,
        .spare = spare_port(job->env),
        .lifetime = WR_LEASE_WANTED,
        .held = port->pinholed,
        .pinhole = port->pinhole,
        .err = WR_EUNREACH,
    };
}

void wr_portmap_upnp_run(struct wr_portmap_router *r, struct wr_portmap_port *const *ports, size_t count)
{
    _Static_assert(WR_UPNP_PORTS_MAX >= WR_PORTMAP_PORTS, "one task for all");
    struct wr_portmap_job *job = r->p->upnp && !r->job ? make_job(r) : NULL;
    if (!job)
        return;
    for (size_t i = 0; i < count; i++)
        add_port(job, ports[i], false);
    start(r, job);
}

void wr_portmap_upnp_leave(struct wr_portmap_router *r)
{
    if (r->job)
        r->job->router = NULL;
    struct wr_portmap_job *job = r->active == WR_PORTMAP_UPNP && r->igd.known ? make_job(r) : NULL;
    if (!job)
        return;
    for (size_t i = 0; i < r->port_count; i++)
        if (r->ports[i].lease.state == WR_LEASE_HELD)
            add_port(job, &r->ports[i], true);
    if (job->task.count == 0 || wr_env_work(r->p->env, &job->work) != 0)
        wr_free(job);
}
