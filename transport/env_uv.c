#include "transport/env_uv.h"

#include "transport/env_uv_priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64    /* readiness events taken per round, so that timers get their turn under load */

/* ---- rounds: one callback of libuv, holding any number of turns ----------------------------------- */

wr_time wr_env_uv_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (wr_time)t.tv_sec * WR_SEC + (wr_time)t.tv_nsec;
}

void wr_env_uv_begin(struct wr_env_uv *e)
{
    wr_env_turn_begin(&e->env, wr_env_uv_clock());
}

void wr_env_uv_end(struct wr_env_uv *e)
{
    wr_env_turn_end(&e->env);
}

static void run_due(struct wr_env_uv *e);

static void on_timer(uv_timer_t *timer)
{
    struct wr_env_uv *e = timer->data;
    wr_time late = e->armed_at ? wr_env_uv_clock() - e->armed_at : 0;
    e->armed_at = 0;
    wr_env_uv_link_check_sleep(e, late);
    run_due(e);
}

static void on_idle(uv_idle_t *idle)
{
    run_due(idle->data);
}

/* Makes libuv wake us for the earliest timer, and for nothing else. What is due already goes through
 * the idle handle: a timer of libuv with no delay would fire again before any socket is looked at. */
static void arm(struct wr_env_uv *e)
{
    /* Others may move the timer away before it gets to say how late it is. */
    if (e->armed_at && e->env.now > e->armed_at + WR_SEC)
        wr_env_uv_link_check_sleep(e, e->env.now - e->armed_at);
    wr_time next = wr_timers_next(&e->env.timers);
    if (wr_env_turn_pending(&e->env) || (next && next <= e->env.now)) {
        uv_idle_start(&e->idle, on_idle);
        return;
    }
    uv_idle_stop(&e->idle);
    if (next == e->armed_at)
        return;
    e->armed_at = next;
    if (!next) {
        uv_timer_stop(&e->timer);
        return;
    }
    /* Both clocks are CLOCK_MONOTONIC; rounded up, so that it is due when it fires. */
    uint64_t at = (uint64_t)((next + WR_MSEC - 1) / WR_MSEC), now = uv_now(e->loop);
    uv_timer_start(&e->timer, on_timer, at > now ? at - now : 0, 0);
}

static void end_round(struct wr_env_uv *e)
{
    bool closed = e->dead != NULL;
    while (e->dead) {
        struct wr_env_uv_source *source = e->dead;
        e->dead = source->next_dead;
        wr_free(source);
    }
    if (closed && !wr_list_empty(&e->starved))
        wr_env_uv_listen_retry(e);
    arm(e);
}

static void run_due(struct wr_env_uv *e)
{
    if (wr_env_turn_pending(&e->env)) {
        wr_env_uv_begin(e);
        wr_env_uv_end(e);
    }
    wr_env_turn_timers(&e->env, wr_env_uv_clock());
    end_round(e);
}

/* One round: waits for sockets at most so many ms, serves them. True when the loop itself has something to do. */
static bool serve(struct wr_env_uv *e, int timeout)
{
    struct epoll_event ready[BATCH];
    int count = epoll_wait(e->epoll_fd, ready, BATCH, timeout);
    bool loop = count <= 0;
    for (int i = 0; i < count; i++) {
        struct wr_env_uv_source *source = ready[i].data.ptr;
        if (!source)
            loop = true;
        /* Closed by an earlier event of this batch: the struct lives until the round ends. */
        else if (source->fd >= 0)
            source->on_ready(source, ready[i].events);
    }
    end_round(e);
    return loop;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)serve(poll->data, 0);
}

/* The other way round than usual: our set watches libuv's, which then only wakes for what is its own. */
void wr_env_uv_run(struct wr_env *env, const bool *stop)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    struct epoll_event event = {.events = EPOLLIN};
    int backend = uv_backend_fd(e->loop);
    uv_poll_stop(&e->poll);
    /* libuv puts new descriptors into its set when it runs. */
    (void)uv_run(e->loop, UV_RUN_NOWAIT);
    bool nested = epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, backend, &event) == 0;
    if (!nested)
        uv_poll_start(&e->poll, UV_READABLE, on_poll);
    while (!*stop) {
        if (!nested) {
            (void)uv_run(e->loop, UV_RUN_ONCE);
            continue;
        }
        uv_update_time(e->loop);
        /* A loop without handles of its own has nothing to wait for. */
        int timeout = uv_loop_alive(e->loop) ? uv_backend_timeout(e->loop) : -1;
        if (serve(e, timeout) || timeout == 0)
            (void)uv_run(e->loop, UV_RUN_NOWAIT);
    }
    if (nested) {
        epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, backend, NULL);
        uv_poll_start(&e->poll, UV_READABLE, on_poll);
    }
}

void wr_env_turn_wake(struct wr_env *env)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    if (uv_is_closing((uv_handle_t *)&e->poll))
        return;    /* destroyed, and told of work that was under way */
    e->env.now = wr_env_uv_clock();
    arm(e);
}

/* ---- sources ------------------------------------------------------------------------------------- */

int wr_env_uv_source_open(struct wr_env_uv *e, struct wr_env_uv_source *source, int fd, uint32_t events,
                          void (*on_ready)(struct wr_env_uv_source *, uint32_t))
{
    *source = (struct wr_env_uv_source){.fd = fd, .on_ready = on_ready};
    int err = wr_env_uv_source_want(e, source, events);
    if (err) {
        close(fd);
        source->fd = -1;
        return err;
    }
    e->sources++;
    return 0;
}

void wr_env_uv_source_borrow(struct wr_env_uv *e, struct wr_env_uv_source *source, int fd,
                             uint32_t events, void (*on_ready)(struct wr_env_uv_source *, uint32_t))
{
    *source = (struct wr_env_uv_source){.fd = fd, .on_ready = on_ready};
    wr_env_uv_source_want(e, source, events);
    e->sources++;
}

int wr_env_uv_source_want(struct wr_env_uv *e, struct wr_env_uv_source *source, uint32_t events)
{
    if (events == source->events)
        return 0;
    struct epoll_event event = {.events = events, .data.ptr = source};
    int op = !events ? EPOLL_CTL_DEL : source->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(e->epoll_fd, op, source->fd, &event) != 0)
        return WR_ELIMIT;
    source->events = events;
    return 0;
}

void wr_env_uv_source_close(struct wr_env_uv *e, struct wr_env_uv_source *source)
{
    int fd = source->fd;
    wr_env_uv_source_forget(e, source);
    close(fd);
}

void wr_env_uv_source_forget(struct wr_env_uv *e, struct wr_env_uv_source *source)
{
    assert(source->fd >= 0);
    /* Closing alone leaves the entry behind when a child of fork still holds the descriptor. */
    wr_env_uv_source_want(e, source, 0);
    source->fd = -1;
    source->next_dead = e->dead;
    e->dead = source;
    e->sources--;
    if (!e->env.in_turn)
        uv_idle_start(&e->idle, on_idle);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void free_if_over(struct wr_env_uv *e)
{
    if (e->handles || e->works)
        return;
    close(e->epoll_fd);
    wr_free(e->shared);
    wr_free(e);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct wr_env_uv *e = handle->data;
    e->handles--;
    free_if_over(e);
}

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

/* libuv makes its threads with the first work of the process, and aborts where it cannot: let nothing be open then. */
static bool make_threads(void)
{
    uv_loop_t loop;
    uv_work_t work;
    if (uv_loop_init(&loop) != 0)
        return false;
    uv_queue_work(&loop, &work, do_nothing, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) == 0;
}

struct wr_env *wr_env_uv_create(struct uv_loop_s *loop, const struct wr_log *log)
{
    if (sodium_init() < 0 || !make_threads())
        return NULL;
    struct wr_env_uv *e = wr_alloc(sizeof(*e));
    /* Whole pages: the kernel's copy into a buffer that starts 16 bytes into one, as malloc's large ones
     * do, takes three times as long (AMD Zen 3, rep movsb). */
    uint8_t *shared = aligned_alloc(4096, WR_ENV_UV_SHARED);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!e || !shared || epoll_fd < 0 || uv_poll_init(loop, &e->poll, epoll_fd) != 0) {
        if (epoll_fd >= 0)
            close(epoll_fd);
        wr_free(shared);
        wr_free(e);
        return NULL;
    }
    wr_env_turn_init(&e->env, log);
    randombytes_buf(e->env.hash_seed, sizeof(e->env.hash_seed));
    e->loop = loop;
    e->epoll_fd = epoll_fd;
    e->shared = shared;
    wr_list_init(&e->starved);
    uv_timer_init(loop, &e->timer);
    uv_idle_init(loop, &e->idle);
    e->handles = 3;
    e->poll.data = e->timer.data = e->idle.data = e;
    uv_poll_start(&e->poll, UV_READABLE, on_poll);
    return &e->env;
}

void wr_env_uv_destroy(struct wr_env *env)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    wr_env_uv_begin(e);
    wr_env_uv_end(e);
    wr_env_uv_dns_destroy(e);
    wr_env_uv_link_destroy(e);
    end_round(e);
    assert(e->sources == 0 && !wr_env_turn_pending(env));
    uv_close((uv_handle_t *)&e->poll, on_handle_closed);
    uv_close((uv_handle_t *)&e->timer, on_handle_closed);
    uv_close((uv_handle_t *)&e->idle, on_handle_closed);
}

/* ---- time, chance, work --------------------------------------------------------------------------- */

wr_time wr_env_now(const struct wr_env *env)
{
    return env->in_turn ? env->now : wr_env_uv_clock();
}

int64_t wr_env_unix(const struct wr_env *env)
{
    (void)env;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * WR_SEC + (int64_t)t.tv_nsec;
}

void wr_env_random(struct wr_env *env, void *out, size_t len)
{
    (void)env;
    randombytes_buf(out, len);
}

struct job {
    uv_work_t uv;
    struct wr_env_uv *e;
    struct wr_work *work;
};

static void job_run(uv_work_t *uv)
{
    struct job *job = uv->data;
    job->work->run(job->work);
}

static void job_done(uv_work_t *uv, int status)
{
    (void)status;
    struct job *job = uv->data;
    struct wr_env_uv *e = job->e;
    struct wr_work *work = job->work;
    e->works--;
    work->priv = NULL;
    wr_free(job);
    wr_env_uv_begin(e);
    work->done(work);
    wr_env_uv_end(e);
    if (uv_is_closing((uv_handle_t *)&e->poll))
        free_if_over(e);
    else
        end_round(e);
}

int wr_env_work(struct wr_env *env, struct wr_work *work)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    struct job *job = wr_alloc(sizeof(*job));
    if (!job)
        return WR_ELIMIT;
    job->uv.data = job;
    job->e = e;
    job->work = work;
    if (uv_queue_work(e->loop, &job->uv, job_run, job_done) != 0) {
        wr_free(job);
        return WR_ELIMIT;
    }
    work->priv = job;
    e->works++;
    return 0;
}

/* ---- addresses and errors of the system ------------------------------------------------------------ */

int wr_env_uv_error(int error)
{
    switch (error) {
    case EADDRINUSE:
        return WR_EINUSE;
    case EACCES:
    case EPERM:
        return WR_EPERM;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL:
        return WR_EINVAL;
    case EMFILE:
    case ENFILE:
        return WR_ENOFD;
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
        return WR_ELIMIT;
    case ECONNREFUSED:
        return WR_EREFUSED;
    case ECONNRESET:
    case EPIPE:
        return WR_ERESET;
    case ETIMEDOUT:
        return WR_ETIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return WR_EUNREACH;
    default:
        return WR_EIO;
    }
}
