/* Listening sockets of env.h: TCP and local. */
#include "transport/env_uv_priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024           /* connections; ours, the kernel caps it at somaxconn */
#define ACCEPTS_PER_ROUND 16          /* so that a flood of connections leaves time for the others */
#define STARVED_RETRY WR_SEC          /* ours; closing any socket of ours retries at once */

struct wr_listener {
    struct wr_env_uv_source source;    /* first */
    struct wr_env_uv *e;
    const struct wr_listener_ops *ops;    /* borrowed */
    void *arg;
    bool local, starved;    /* starved: told the owner, until the queue of the kernel was empty again */
    struct wr_timer retry;
    struct wr_list node;    /* on e->starved while out of the set */
    char *path;             /* owned; of a local socket */
    dev_t path_dev;
    ino_t path_ino;
};

static void on_retry(struct wr_timer *timer)
{
    struct wr_listener *l = wr_list_entry(timer, struct wr_listener, retry);
    if (wr_env_uv_source_want(l->e, &l->source, EPOLLIN) == 0)
        wr_list_remove(&l->node);
    else
        wr_timer_start(&l->e->env, timer, wr_env_now(&l->e->env) + STARVED_RETRY, on_retry);
}

void wr_env_uv_listen_retry(struct wr_env_uv *e)
{
    wr_list_each(node, &e->starved) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        wr_timer_stop(&e->env, &l->retry);
        on_retry(&l->retry);
    }
}

/* Out of descriptors or memory: whoever waits in the kernel's queue waits on, and we do not spin. */
static void starve(struct wr_listener *l, int err)
{
    wr_env_uv_source_want(l->e, &l->source, 0);
    wr_list_append(&l->e->starved, &l->node);
    wr_env_uv_begin(l->e);
    wr_timer_start(&l->e->env, &l->retry, l->e->env.now + STARVED_RETRY, on_retry);
    if (!l->starved) {
        l->starved = true;
        l->ops->on_starved(l->arg, err);
    }
    wr_env_uv_end(l->e);
}

static void take(struct wr_listener *l, int fd)
{
    struct wr_sock *s;
    int err = wr_env_uv_sock_accepted(l->e, fd, l->local, &s);
    if (err) {
        starve(l, err);
        return;
    }
    wr_env_uv_begin(l->e);
    l->ops->on_accept(l->arg, s);
    wr_env_uv_end(l->e);
    assert(wr_env_uv_sock_taken(s));
}

static void on_listener_ready(struct wr_env_uv_source *source, uint32_t events)
{
    (void)events;
    struct wr_listener *l = (struct wr_listener *)(void *)source;
    /* Left when the handler closed us, or when we starve. */
    for (int i = 0; i < ACCEPTS_PER_ROUND && source->events; i++) {
        int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            take(l, fd);
            continue;
        }
        switch (errno) {
        case EAGAIN:
            l->starved = false;
            return;
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ENOBUFS:
            starve(l, wr_env_uv_error(errno));
            return;
        default:    /* that connection failed before we took it */
            break;
        }
    }
}

/* Waits for connections on a bound descriptor. Takes fd over. */
static int listener_create(struct wr_env_uv *e, int fd, const struct wr_listener_ops *ops, void *arg,
                           struct wr_listener **out)
{
    if (listen(fd, LISTEN_BACKLOG) != 0) {
        int err = wr_env_uv_error(errno);
        close(fd);
        return err;
    }
    struct wr_listener *l = wr_alloc(sizeof(*l));
    if (!l) {
        close(fd);
        return WR_ELIMIT;
    }
    l->e = e;
    l->ops = ops;
    l->arg = arg;
    wr_list_init(&l->node);
    int err = wr_env_uv_source_open(e, &l->source, fd, EPOLLIN, on_listener_ready);
    if (err) {
        wr_free(l);
        return err;
    }
    *out = l;
    return 0;
}

int wr_env_listen(struct wr_env *env, const struct wr_addr *at, const struct wr_listener_ops *ops,
                  void *arg, struct wr_listener **out)
{
    int fd = socket(at->ip.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    wr_env_uv_stream_options(fd);    /* accepted sockets inherit them */
    if (at->ip.family == 6)
        wr_env_uv_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    wr_env_uv_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    struct sockaddr_storage sa;
    socklen_t len = wr_addr_to_sockaddr(at, &sa);
    if (bind(fd, (struct sockaddr *)&sa, len) != 0) {
        int err = wr_env_uv_error(errno);
        close(fd);
        return err;
    }
    /* Only now: bound with it, a second node would share the port and take half the connections instead
     * of being told that it is in use. Set after, it still lets our dials bind beside us. */
    wr_env_uv_set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return listener_create(wr_env_uv_of(env), fd, ops, arg, out);
}

/* Removes a socket file that nobody answers on. 0, WR_EINUSE. */
static int remove_stale(const struct sockaddr_un *sa)
{
    struct stat st;
    if (lstat(sa->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : wr_env_uv_error(errno);
    if (!S_ISSOCK(st.st_mode))
        return WR_EINUSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    bool refused = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!refused)
        return WR_EINUSE;
    return unlink(sa->sun_path) == 0 || errno == ENOENT ? 0 : wr_env_uv_error(errno);
}

int wr_env_listen_local(struct wr_env *env, const char *path, const struct wr_listener_ops *ops,
                        void *arg, struct wr_listener **out)
{
    struct sockaddr_un sa;
    struct stat st;
    if (!wr_env_uv_local_address(path, &sa))
        return WR_EINVAL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    /* The file gets the descriptor's mode, less the umask: never open to others, not for a moment. */
    fchmod(fd, 0600);
    int err = 0;
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        err = errno == EADDRINUSE ? remove_stale(&sa) : wr_env_uv_error(errno);
        if (!err && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
            err = wr_env_uv_error(errno);
    }
    if (err || stat(path, &st) != 0) {
        close(fd);
        return err ? err : WR_EIO;
    }
    char *copy = wr_strdup(path);
    if (copy)
        err = listener_create(wr_env_uv_of(env), fd, ops, arg, out);
    else
        close(fd);
    if (err || !copy) {
        wr_free(copy);
        unlink(path);
        return err ? err : WR_ELIMIT;
    }
    (*out)->local = true;
    (*out)->path = copy;
    (*out)->path_dev = st.st_dev;
    (*out)->path_ino = st.st_ino;
    return 0;
}

void wr_listener_addr(const struct wr_listener *l, struct wr_addr *out)
{
    wr_env_uv_name_of(&l->source, getsockname, out);
}

void wr_listener_close(struct wr_listener *l)
{
    struct stat st;
    /* Somebody else's by now, perhaps. */
    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->path_dev && st.st_ino == l->path_ino)
        unlink(l->path);
    wr_free(l->path);
    wr_timer_stop(&l->e->env, &l->retry);
    wr_list_remove(&l->node);
    wr_env_uv_source_close(l->e, &l->source);
}
