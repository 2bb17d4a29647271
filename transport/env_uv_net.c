/* Stream sockets of env.h, TCP and local; env_uv_listen.c has those that wait for others. */
#include "transport/env_uv_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#define READS_PER_ROUND 4             /* full buffers taken from one socket before the others' turn */
#define READ_TIME (WR_MSEC / 2)       /* or what takes so long to be handled; ours */
#define READ_MIN ((size_t)16 * 1024)  /* bytes taken at once, however long they take; ours: a TLS record */
/* Unsent bytes above which the kernel takes no more: what is written late (a ping, a window update)
 * waits behind those, not behind megabytes of send buffer. As many as the path takes in BATCH_TIME; on a
 * fast one no fewer than a wake-up is worth. */
#define BATCH_MAX (128 * 1024)
#define BATCH_MIN (16 * 1024)
#define BATCH_TIME (4 * WR_MSEC)      /* ours */
#define BATCH_TUNE (50 * WR_MSEC)     /* between two looks at what the kernel knows of the path */
#define CHUNK_MIN ((size_t)4096)      /* bytes; room of a chunk, so that tiny writes share one */
#define CHUNKS_PER_SEND 16

/* ---- sockets -------------------------------------------------------------------------------------- */

/* Bytes the kernel did not take yet. */
struct chunk {
    struct chunk *next;
    size_t cap, len, sent;
    int fd;    /* owned, passed along with the first byte; -1: none */
    uint8_t data[];
};

enum {
    CONNECTING = 1,
    REUSED = 2,
    PAUSED = 4,
    LOCAL = 8,
    HUNG_UP = 16,    /* paused, and the peer is gone: out of the set until resumed */
    ENDED = 32,      /* the peer finished writing, on_eof was called */
    SHUT = 64,       /* we finish writing once the backlog is gone */
};

struct wr_sock {
    struct wr_env_uv_source source;    /* first */
    struct wr_env_uv *e;
    const struct wr_sock_ops *ops;     /* borrowed; NULL until attached */
    void *arg;
    struct chunk *first, *last;        /* owned; what wr_sock_backlog counts */
    size_t backlog;
    int write_err;    /* a write failed with this; the reading side ends the socket */
    unsigned flags;
    uint32_t batch;      /* bytes, see BATCH_TIME */
    uint32_t read_max;   /* bytes taken at once, see READ_TIME; 0: all that there is room for */
    wr_time tuned_at;    /* batch was looked at */
};

static void drop_backlog(struct wr_sock *s)
{
    while (s->first) {
        struct chunk *chunk = s->first;
        s->first = chunk->next;
        if (chunk->fd >= 0)
            close(chunk->fd);
        wr_free(chunk);
    }
    s->last = NULL;
    s->backlog = 0;
}

static void sock_close(struct wr_sock *s)
{
    drop_backlog(s);
    wr_env_uv_source_close(s->e, &s->source);
}

/* The end that the network brings: tells the owner. */
static void sock_end(struct wr_sock *s, int err)
{
    sock_close(s);
    wr_env_uv_begin(s->e);
    s->ops->on_close(s->arg, err);
    wr_env_uv_end(s->e);
}

static ssize_t send_some(int fd, const struct iovec *iov, size_t count, int pass)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    if (pass >= 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Bytes the kernel took; 0 when it takes none now. A failure is kept in write_err: what the peer sent
 * before it went away is still to be read, so it is the reading side that ends the socket. */
static size_t try_send(struct wr_sock *s, const struct iovec *iov, size_t count, int pass)
{
    if (s->write_err || (s->flags & CONNECTING))
        return 0;
    ssize_t n = send_some(s->source.fd, iov, count, pass);
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM)
        return 0;
    s->write_err = wr_env_uv_error(errno);
    drop_backlog(s);
    /* The reading side may have nothing to report: a peer can stop to read and keep its side open. */
    shutdown(s->source.fd, SHUT_RDWR);
    return 0;
}

/* Sends kept chunks until the kernel takes no more. */
static void flush(struct wr_sock *s)
{
    while (s->first) {
        struct iovec iov[CHUNKS_PER_SEND];
        size_t count = 0;
        int pass = s->first->sent == 0 ? s->first->fd : -1;
        for (struct chunk *c = s->first; c && count < CHUNKS_PER_SEND; c = c->next) {
            if (count && c->fd >= 0)
                break;
            iov[count].iov_base = c->data + c->sent;
            iov[count++].iov_len = c->len - c->sent;
        }
        size_t n = try_send(s, iov, count, pass);
        if (!n)
            return;
        s->backlog -= n;
        while (n) {
            struct chunk *c = s->first;
            size_t part = c->len - c->sent < n ? c->len - c->sent : n;
            c->sent += part;
            n -= part;
            if (c->sent < c->len)
                break;
            s->first = c->next;
            if (c->fd >= 0)
                close(c->fd);
            wr_free(c);
        }
    }
    s->last = NULL;
}

/* Keeps a copy of what was not sent. The last chunk's room is used up before another is made. */
static int keep(struct wr_sock *s, const uint8_t *data, size_t len, int pass)
{
    struct chunk *last = s->last;
    size_t room = last && pass < 0 ? last->cap - last->len : 0, part = room < len ? room : len;
    struct chunk *chunk = NULL;
    if (part < len) {
        size_t cap = len - part < CHUNK_MIN ? CHUNK_MIN : len - part;
        chunk = wr_realloc(NULL, sizeof(*chunk) + cap);    /* not zeroed: it may be large */
        if (!chunk)
            return WR_ELIMIT;
        *chunk = (struct chunk){.cap = cap, .len = len - part, .fd = pass};
        memcpy(chunk->data, data + part, len - part);
        if (last)
            last->next = chunk;
        else
            s->first = chunk;
        s->last = chunk;
    }
    if (part) {
        memcpy(last->data + last->len, data, part);
        last->len += part;
    }
    s->backlog += len;
    return 0;
}

/* Sets what the socket waits for. Waiting for room ends with the first event that finds nothing to
 * send, not when the backlog is gone: a bulk sender would only ask for it again. */
static void want(struct wr_sock *s, bool room)
{
    uint32_t events = room ? EPOLLOUT : 0;
    if (!(s->flags & CONNECTING))
        events |= s->flags & (PAUSED | ENDED) ? (uint32_t)EPOLLERR : (uint32_t)EPOLLIN;
    /* Cannot fail for what is in the set; what came back into it and fails stays as if paused. */
    wr_env_uv_source_want(s->e, &s->source, s->flags & HUNG_UP ? 0 : events);
}

static bool alive(const struct wr_sock *s)
{
    return s->source.fd >= 0;
}

/* What comes first in a connection is answered, and acknowledged by that: the kernel would acknowledge each segment at once.
 * Not before both ends have it, or the last step of its handshake waits for data that the other one may have to send. */
static void patient_acks(int fd)
{
    wr_env_uv_set_option(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
}

static void on_connected(struct wr_sock *s)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (!s->write_err)
        getsockopt(s->source.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (s->write_err || error) {
        sock_end(s, error ? wr_env_uv_error(error) : s->write_err);
        return;
    }
    struct wr_addr local, remote;
    wr_sock_local(s, &local);
    wr_sock_remote(s, &remote);
    /* A dial from the port of our listener to that very port meets itself (simultaneous open). */
    if (local.ip.family && wr_addr_equal(&local, &remote)) {
        sock_end(s, WR_ESELF);
        return;
    }
    s->flags &= ~(unsigned)CONNECTING;
    patient_acks(s->source.fd);
    want(s, s->first != NULL);
    if ((s->flags & SHUT) && !s->first)
        shutdown(s->source.fd, SHUT_WR);
    wr_env_uv_begin(s->e);
    s->ops->on_open(s->arg);
    wr_env_uv_end(s->e);
}

/* A congestion window a round trip is what the path carries, whatever our own pace. */
static void tune_batch(struct wr_sock *s)
{
    wr_time now = wr_env_now(&s->e->env);
    if ((s->flags & LOCAL) || now - s->tuned_at < BATCH_TUNE)
        return;
    s->tuned_at = now;
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(s->source.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || !info.tcpi_rtt)
        return;
    uint64_t window = (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
    uint64_t batch = window * (BATCH_TIME / WR_USEC) / info.tcpi_rtt;
    batch = batch < BATCH_MIN ? BATCH_MIN : batch > BATCH_MAX ? BATCH_MAX : batch;
    if (batch == s->batch)
        return;
    s->batch = (uint32_t)batch;
    wr_env_uv_set_option(s->source.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)batch);
}

static void on_room(struct wr_sock *s)
{
    if (!s->first) {
        want(s, false);
        return;
    }
    flush(s);
    /* A failed write is told by the reading side, which a paused owner opens only once he hears of room. */
    if (s->first || (s->write_err && !(s->flags & PAUSED)))
        return;
    tune_batch(s);
    if ((s->flags & SHUT) && !s->write_err)
        shutdown(s->source.fd, SHUT_WR);
    wr_env_uv_begin(s->e);
    s->ops->on_drain(s->arg);
    wr_env_uv_end(s->e);
}

/* Bytes may cost us a thousand times as much as others: streams that begin and end within twenty of them, by
 * the hundred thousand. Who sends such is given less at a time, so that the others' turn comes. */
static void pace_reads(struct wr_sock *s, size_t asked, size_t got, wr_time took)
{
    size_t most = asked;
    if (took > READ_TIME)
        most = got / 2 < READ_MIN ? READ_MIN : got / 2;
    else if (got == asked && took < READ_TIME / 4)
        most = asked * 2;
    s->read_max = most < WR_ENV_UV_SHARED ? (uint32_t)most : 0;
}

static void on_readable(struct wr_sock *s)
{
    wr_time begun = wr_env_uv_clock(), before = begun;
    for (int i = 0; i < READS_PER_ROUND && before - begun <= READ_TIME; i++) {
        size_t asked = s->read_max ? s->read_max : WR_ENV_UV_SHARED;
        ssize_t n = recv(s->source.fd, s->e->shared, asked, MSG_DONTWAIT);
        if (n == 0 && !s->write_err && s->ops->on_eof) {
            s->flags |= ENDED;
            want(s, s->first != NULL);
            wr_env_uv_begin(s->e);
            s->ops->on_eof(s->arg);
            wr_env_uv_end(s->e);
            return;
        }
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            int err = n == 0 ? WR_ECLOSED : wr_env_uv_error(errno);
            sock_end(s, s->write_err ? s->write_err : err);
            return;
        }
        if (n < 0)
            return;
        wr_env_uv_begin(s->e);
        s->ops->on_read(s->arg, s->e->shared, (size_t)n);
        wr_env_uv_end(s->e);
        wr_time now = wr_env_uv_clock();
        pace_reads(s, asked, (size_t)n, now - before);
        before = now;
        if (!alive(s) || (s->flags & PAUSED) || (size_t)n < asked)
            return;
    }
}

static void on_sock_ready(struct wr_env_uv_source *source, uint32_t events)
{
    struct wr_sock *s = (struct wr_sock *)(void *)source;
    if (s->flags & CONNECTING) {
        on_connected(s);
        return;
    }
    if (events & EPOLLOUT)
        on_room(s);
    if (!alive(s) || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return;
    if (!(s->flags & (PAUSED | ENDED))) {
        on_readable(s);
        return;
    }
    if (!(events & (EPOLLERR | EPOLLHUP)))
        return;
    /* Errors are reported whether waited for or not. A broken TCP connection ends here; of a local one
     * the peer may have left in good order with bytes still to be read. */
    if ((s->flags & LOCAL) && !(s->flags & ENDED)) {
        s->flags |= HUNG_UP;
        want(s, false);
        if (s->first)
            on_room(s);    /* nobody takes it any more */
        return;
    }
    int error = 0;
    socklen_t len = sizeof(error);
    getsockopt(s->source.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    int err = error ? wr_env_uv_error(error) : s->flags & ENDED ? WR_ECLOSED : WR_ERESET;
    sock_end(s, s->write_err ? s->write_err : err);
}

void wr_sock_attach(struct wr_sock *s, const struct wr_sock_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

static int sock_write(struct wr_sock *s, const uint8_t *data, size_t len, int fd)
{
    assert(!(s->flags & SHUT));
    if (len == 0 || s->write_err)
        return 0;
    size_t sent = 0;
    if (!s->first) {
        struct iovec iov = {(void *)(uintptr_t)data, len};
        sent = try_send(s, &iov, 1, fd);
    }
    if (sent == len || s->write_err)
        return 0;
    if (sent)
        fd = -1;
    if (fd >= 0 && (fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
        return WR_ELIMIT;
    int err = keep(s, data + sent, len - sent, fd);
    if (err) {
        if (fd >= 0)
            close(fd);
        return err;
    }
    want(s, true);
    return 0;
}

int wr_sock_write(struct wr_sock *s, const uint8_t *data, size_t len)
{
    return sock_write(s, data, len, -1);
}

int wr_sock_write_fd(struct wr_sock *s, const uint8_t *data, size_t len, int fd)
{
    assert((s->flags & LOCAL) && fd >= 0 && len);
    return sock_write(s, data, len, fd);
}

size_t wr_sock_backlog(const struct wr_sock *s)
{
    return s->backlog;
}

size_t wr_sock_batch(const struct wr_sock *s)
{
    return s->batch;
}

void wr_sock_shut(struct wr_sock *s)
{
    s->flags |= SHUT;
    if (!s->first && !(s->flags & CONNECTING))
        shutdown(s->source.fd, SHUT_WR);
}

void wr_sock_pause(struct wr_sock *s, bool paused)
{
    s->flags &= ~(unsigned)(PAUSED | HUNG_UP);
    if (paused)
        s->flags |= PAUSED;
    want(s, s->source.events & EPOLLOUT);
}

void wr_env_uv_name_of(const struct wr_env_uv_source *source, int (*get)(int, struct sockaddr *, socklen_t *),
                       struct wr_addr *out)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    *out = (struct wr_addr){0};
    if (source->fd >= 0 && get(source->fd, (struct sockaddr *)&sa, &len) == 0)
        wr_addr_from_sockaddr((const struct sockaddr *)&sa, out);
}

void wr_sock_local(const struct wr_sock *s, struct wr_addr *out)
{
    wr_env_uv_name_of(&s->source, getsockname, out);
}

void wr_sock_remote(const struct wr_sock *s, struct wr_addr *out)
{
    wr_env_uv_name_of(&s->source, getpeername, out);
}

bool wr_sock_reused(const struct wr_sock *s)
{
    return s->flags & REUSED;
}

wr_time wr_sock_rtt(const struct wr_sock *s)
{
    struct wr_sock_stats stats;
    wr_sock_stats(s, &stats);
    return stats.rtt;
}

void wr_sock_stats(const struct wr_sock *s, struct wr_sock_stats *out)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    *out = (struct wr_sock_stats){0};
    if ((s->flags & LOCAL) || getsockopt(s->source.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return;
    out->rtt = (wr_time)info.tcpi_rtt * WR_USEC;
    out->cwnd = (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
    out->in_flight = (uint64_t)info.tcpi_unacked * info.tcpi_snd_mss;
    out->retransmits = info.tcpi_total_retrans;
    out->mtu = info.tcpi_snd_mss;
}

void wr_sock_close(struct wr_sock *s, bool reset)
{
    int fd = s->source.fd;
    if (reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        sock_close(s);
        return;
    }
    if (s->first) {
        /* The last bytes may use the whole send buffer. */
        int unlimited = INT_MAX;
        if (!(s->flags & LOCAL))
            setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unlimited, sizeof(unlimited));
        flush(s);
    }
    /* With unread bytes the kernel would send a reset, which can take our last ones away from the
     * peer: throw them away (TCP copies nothing for it). */
    if (!(s->flags & (LOCAL | CONNECTING)))
        recv(fd, NULL, WR_ENV_UV_SHARED, MSG_TRUNC | MSG_DONTWAIT);
    sock_close(s);
}

/* ---- dials ---------------------------------------------------------------------------------------- */

static int sock_create(struct wr_env_uv *e, int fd, uint32_t events, unsigned flags,
                       struct wr_sock **out)
{
    struct wr_sock *s = wr_alloc(sizeof(*s));
    if (!s) {
        close(fd);
        return WR_ELIMIT;
    }
    s->e = e;
    s->flags = flags;
    s->batch = BATCH_MAX;
    int err = wr_env_uv_source_open(e, &s->source, fd, events, on_sock_ready);
    if (err) {
        wr_free(s);
        return err;
    }
    *out = s;
    return 0;
}

int wr_env_uv_sock_accepted(struct wr_env_uv *e, int fd, bool local, struct wr_sock **out)
{
    patient_acks(fd);
    return sock_create(e, fd, EPOLLIN, local ? LOCAL : 0, out);
}

bool wr_env_uv_sock_taken(const struct wr_sock *s)
{
    return s->ops || !alive(s);
}

void wr_env_uv_stream_options(int fd)
{
    wr_env_uv_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    wr_env_uv_set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, BATCH_MAX);
}

/* A connecting socket, from `from` when that is not NULL. fd, or the negative errno. */
static int dial(const struct wr_addr *to, const struct wr_addr *from, int *pending)
{
    struct sockaddr_storage sa;
    int fd = socket(to->ip.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    wr_env_uv_stream_options(fd);
    if (from) {
        wr_env_uv_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        wr_env_uv_set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        socklen_t len = wr_addr_to_sockaddr(from, &sa);
        if (bind(fd, (struct sockaddr *)&sa, len) != 0)
            goto fail;
    }
    socklen_t len = wr_addr_to_sockaddr(to, &sa);
    *pending = 0;
    if (connect(fd, (struct sockaddr *)&sa, len) == 0 || errno == EINPROGRESS)
        return fd;
    /* Over loopback the answer may be there already; it is told like any later one. */
    if (errno == ECONNREFUSED || errno == ECONNRESET || errno == ETIMEDOUT) {
        *pending = wr_env_uv_error(errno);
        return fd;
    }
fail:;
    int error = errno;
    close(fd);
    return -error;
}

int wr_env_connect(struct wr_env *env, const struct wr_addr *to, const struct wr_addr *from,
                   const struct wr_sock_ops *ops, void *arg, struct wr_sock **out)
{
    unsigned flags = CONNECTING;
    int fd = -1, pending = 0;
    if (from && from->port && from->ip.family == to->ip.family) {
        fd = dial(to, from, &pending);
        if (fd >= 0)
            flags |= REUSED;
        else if (fd == -EMFILE || fd == -ENFILE)
            return WR_ENOFD;
    }
    if (fd < 0)
        fd = dial(to, NULL, &pending);
    if (fd < 0) {
        int err = wr_env_uv_error(-fd);
        struct wr_ip source;
        /* All ports towards there are in use, or this machine has no address of that family. */
        if (fd == -EADDRNOTAVAIL && wr_env_source(env, to, &source) == 0)
            err = WR_ELIMIT;
        return err == WR_EINVAL || err == WR_EPERM ? WR_EUNREACH : err;
    }
    int err = sock_create(wr_env_uv_of(env), fd, EPOLLOUT, flags, out);
    if (err)
        return err;
    (*out)->write_err = pending;
    wr_sock_attach(*out, ops, arg);
    return 0;
}

bool wr_env_uv_local_address(const char *path, struct sockaddr_un *out)
{
    size_t len = strlen(path);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len == 0 || len >= sizeof(out->sun_path))
        return false;
    memcpy(out->sun_path, path, len);
    return true;
}

int wr_env_connect_local(struct wr_env *env, const char *path, const struct wr_sock_ops *ops, void *arg,
                         struct wr_sock **out)
{
    struct sockaddr_un sa;
    if (!wr_env_uv_local_address(path, &sa))
        return WR_EINVAL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        int error = errno;
        close(fd);
        if (error == ENOENT || error == ENOTDIR)
            return WR_EREFUSED;
        return error == EAGAIN ? WR_ELIMIT : wr_env_uv_error(error);
    }
    int err = sock_create(wr_env_uv_of(env), fd, EPOLLOUT, CONNECTING | LOCAL, out);
    if (err)
        return err;
    wr_sock_attach(*out, ops, arg);
    return 0;
}

int wr_env_socketpair(struct wr_env *env, const struct wr_sock_ops *ops, void *arg,
                      struct wr_sock **out, int *fd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return wr_env_uv_error(errno);
    int err = sock_create(wr_env_uv_of(env), pair[0], EPOLLIN, LOCAL, out);
    if (err) {
        close(pair[1]);
        return err;
    }
    wr_sock_attach(*out, ops, arg);
    *fd = pair[1];
    return 0;
}
