/* Datagrams in bulk, of env.h. */
#include "transport/env_uv_priv.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define GRO_ROOM ((size_t)64 * 1024)    /* bytes; more than the kernel puts together */
#define ONE_ROOM ((size_t)4 * 1024)     /* bytes; more than QUIC sends over any link we know */
#define GRO_SLOTS (WR_ENV_UV_SHARED / GRO_ROOM)
#define ONE_SLOTS (WR_ENV_UV_SHARED / ONE_ROOM)
#define BATCHES_PER_ROUND 8             /* then others get their turn */
#define ROUND_TIME WR_MSEC              /* or when they took so long; ours */
#define ERRORS_PER_ROUND 64             /* messages of ICMP; ours */
#define ERROR_CONTROL 256               /* bytes: the error, its sender, and what else this socket is told */
#define SEND_TRIES 3                    /* of a call that may have told of others' ICMP; ours */
#define SOCKET_BUFFER (4 * 1024 * 1024) /* bytes asked for; the kernel's own ceiling is often 208 KiB */
#define ECN_MASK 3

struct wr_dgram {
    struct wr_env_uv_source source;    /* first */
    struct wr_env_uv *e;
    const struct wr_dgram_ops *ops;    /* borrowed */
    void *arg;
    uint16_t port;
    uint8_t family;
    bool gso, gro;                     /* not refused so far */
    struct wr_dgram_out kept;          /* what the kernel would not take; data owned, NULL: nothing */
    uint8_t *kept_data;
};

/* Room for every control message that we receive or send at once. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(int))];
};

/* ---- receiving ---------------------------------------------------------------------------------- */

static void read_control(struct msghdr *msg, struct wr_dgram_in *in)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        const unsigned char *data = CMSG_DATA(c);
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(in->to.ip.bytes, data + offsetof(struct in_pktinfo, ipi_addr), 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(in->to.ip.bytes, data + offsetof(struct in6_pktinfo, ipi6_addr), 16);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            in->ecn = data[0] & ECN_MASK;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int value;
            memcpy(&value, data, sizeof(value));
            in->ecn = (uint8_t)(value & ECN_MASK);
        } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, data, sizeof(value));
            if (value > 0)
                in->segment = (size_t)value;
        }
    }
}

/* Takes one batch; false when there is no more, or the socket is closed. One turn for all of it, so that
 * what it calls for is sent together. */
static bool receive(struct wr_dgram *d)
{
    struct mmsghdr msgs[ONE_SLOTS] = {0};
    struct iovec iov[ONE_SLOTS];
    struct sockaddr_storage from[ONE_SLOTS];
    union control control[ONE_SLOTS];
    unsigned slots = d->gro ? GRO_SLOTS : ONE_SLOTS;
    size_t room = d->gro ? GRO_ROOM : ONE_ROOM;
    for (unsigned i = 0; i < slots; i++) {
        iov[i] = (struct iovec){d->e->shared + i * room, room};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof(from[i]),
                                          .msg_iov = &iov[i], .msg_iovlen = 1,
                                          .msg_control = control[i].bytes,
                                          .msg_controllen = sizeof(control[i].bytes)};
    }
    int count = recvmmsg(d->source.fd, msgs, slots, MSG_DONTWAIT, NULL);
    if (count <= 0)
        return false;
    wr_env_uv_begin(d->e);
    for (int i = 0; i < count && d->source.fd >= 0; i++) {
        size_t len = msgs[i].msg_len;
        struct wr_dgram_in in = {.data = iov[i].iov_base, .len = len, .segment = len,
                                 .to = {.ip.family = d->family, .port = d->port}};
        if (msgs[i].msg_hdr.msg_flags & MSG_TRUNC)
            continue;
        wr_addr_from_sockaddr((const struct sockaddr *)&from[i], &in.from);
        read_control(&msgs[i].msg_hdr, &in);
        in.to.scope = in.from.scope;
        d->ops->on_receive(d->arg, &in);
    }
    bool more = count == (int)slots && d->source.fd >= 0;
    wr_env_uv_end(d->e);
    return more && d->source.fd >= 0;
}

/* ---- sending ------------------------------------------------------------------------------------ */

static void put_control(struct msghdr *msg, union control *control, int level, int type, const void *data,
                        size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)(control->bytes + msg->msg_controllen);
    msg->msg_control = control->bytes;
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    msg->msg_controllen += CMSG_SPACE(len);
}

static void put_source(struct msghdr *msg, union control *control, const struct wr_ip *from)
{
    if (from->family == 4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, from->bytes, 4);
        put_control(msg, control, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else if (from->family == 6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, from->bytes, 16);
        put_control(msg, control, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
}

/* What came by ICMP for any of our peers is also told by the next call, whomever that is for. */
static bool may_be_anothers(int error)
{
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EPROTO ||
           error == EACCES;
}

/* One system call. Returns 0 or errno. */
static int send_once(struct wr_dgram *d, const struct wr_dgram_out *out, const uint8_t *data, size_t len)
{
    struct sockaddr_storage sa;
    union control control = {0};
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct msghdr msg = {.msg_name = &sa, .msg_iov = &iov, .msg_iovlen = 1};
    msg.msg_namelen = wr_addr_to_sockaddr(&out->to, &sa);
    put_source(&msg, &control, &out->from);
    if (out->ecn) {
        int value = out->ecn;
        if (d->family == 4)
            put_control(&msg, &control, IPPROTO_IP, IP_TOS, &value, sizeof(value));
        else
            put_control(&msg, &control, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof(value));
    }
    if (len > out->segment) {
        uint16_t segment = (uint16_t)out->segment;
        put_control(&msg, &control, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
    }
    ssize_t n;
    unsigned tries = 0;
    do
        n = sendmsg(d->source.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || (may_be_anothers(errno) && tries++ < SEND_TRIES)));
    return n < 0 ? errno : 0;
}

static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM;
}

/* Sends from *at on, as far as the kernel takes it. 0 or errno. */
static int send_from(struct wr_dgram *d, const struct wr_dgram_out *out, size_t *at)
{
    bool batch = d->gso, refused = false;
    do {
        size_t left = out->len - *at;
        size_t take = batch || left < out->segment ? left : out->segment;
        int error = send_once(d, out, out->data + *at, take);
        /* EIO: the device cannot; EINVAL: the kernel will not, or a segment is larger than the path. */
        if (take > out->segment && (error == EIO || error == EINVAL || error == EOPNOTSUPP)) {
            batch = false;
            refused = true;
            continue;
        }
        /* EMSGSIZE: lost, as on a path that is too narrow. */
        if (error && error != EMSGSIZE)
            return error;
        if (refused && !error)    /* one by one it works: the size was not what was wrong */
            d->gso = false;
        *at += take;
    } while (*at < out->len);
    return 0;
}

/* Keeps what the kernel did not take and waits for room. */
static int keep(struct wr_dgram *d, const struct wr_dgram_out *out, size_t at)
{
    d->kept_data = wr_memdup(out->data + at, out->len - at);
    if (!d->kept_data)
        return 0;    /* lost, as a datagram may be */
    d->kept = *out;
    d->kept.data = d->kept_data;
    d->kept.len = out->len - at;
    if (wr_env_uv_source_want(d->e, &d->source, EPOLLIN | EPOLLOUT) != 0) {
        wr_free(d->kept_data);
        d->kept_data = NULL;
        return 0;
    }
    return WR_ELIMIT;
}

int wr_dgram_send(struct wr_dgram *d, const struct wr_dgram_out *out)
{
    size_t at = 0;
    if (out->to.ip.family != d->family)
        return WR_EUNREACH;
    if (d->kept_data)
        return WR_ELIMIT;
    int error = send_from(d, out, &at);
    if (is_full(error))
        return keep(d, out, at);
    return error ? WR_EUNREACH : 0;
}

static void on_room(struct wr_dgram *d)
{
    struct wr_dgram_out out = d->kept;
    size_t at = 0;
    int error = send_from(d, &out, &at);
    if (is_full(error)) {
        memmove(d->kept_data, d->kept_data + at, out.len - at);
        d->kept.len = out.len - at;
        return;
    }
    wr_free(d->kept_data);
    d->kept_data = NULL;
    wr_env_uv_source_want(d->e, &d->source, EPOLLIN);
    wr_env_uv_begin(d->e);
    d->ops->on_writable(d->arg);
    wr_env_uv_end(d->e);
}

static int meaning_of(const struct sock_extended_err *e)
{
    if (e->ee_origin != SO_EE_ORIGIN_ICMP && e->ee_origin != SO_EE_ORIGIN_ICMP6)
        return 0;
    return e->ee_errno == ECONNREFUSED                                   ? WR_EREFUSED
           : e->ee_errno == EHOSTUNREACH || e->ee_errno == ENETUNREACH ? WR_EUNREACH
                                                                        : 0;
}

/* Takes one message of ICMP; false when there is none. */
static bool receive_error(struct wr_dgram *d)
{
    struct sockaddr_storage to;
    union {
        struct cmsghdr align;
        char bytes[ERROR_CONTROL];
    } control;
    struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof(to), .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    if (recvmsg(d->source.fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return false;
    int err = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        struct sock_extended_err e;
        bool ours = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
        if (!ours || c->cmsg_len < CMSG_LEN(sizeof(e)))
            continue;
        memcpy(&e, CMSG_DATA(c), sizeof(e));
        err = meaning_of(&e);
    }
    if (err && d->ops->on_error) {
        struct wr_addr addr;
        wr_addr_from_sockaddr((const struct sockaddr *)&to, &addr);
        d->ops->on_error(d->arg, &addr, err);
    }
    return true;
}

static void receive_errors(struct wr_dgram *d)
{
    int error;
    socklen_t len = sizeof(error);
    getsockopt(d->source.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    wr_env_uv_begin(d->e);
    for (int i = 0; i < ERRORS_PER_ROUND && d->source.fd >= 0; i++)
        if (!receive_error(d))
            break;
    wr_env_uv_end(d->e);
}

static void on_dgram_ready(struct wr_env_uv_source *source, uint32_t events)
{
    struct wr_dgram *d = (struct wr_dgram *)(void *)source;
    if (events & EPOLLERR)
        receive_errors(d);
    if ((events & EPOLLOUT) && d->kept_data && source->fd >= 0)
        on_room(d);
    wr_time begun = wr_env_uv_clock();
    for (int i = 0; i < BATCHES_PER_ROUND && source->fd >= 0; i++)
        if (!receive(d) || wr_env_uv_clock() - begun > ROUND_TIME)
            return;
}

/* ---- life --------------------------------------------------------------------------------------- */

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

static void set_options(struct wr_dgram *d, int fd)
{
    if (d->family == 6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    } else {
        set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
        set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
        set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
        set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    }
    /* FORCE goes beyond the system's ceiling where we may. Less than asked for costs speed only. */
    if (!set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER))
        set_option(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
    if (!set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER))
        set_option(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
    d->gro = set_option(fd, SOL_UDP, UDP_GRO, 1);
    d->gso = true;
}

int wr_env_dgram(struct wr_env *env, const struct wr_addr *at, const struct wr_dgram_ops *ops, void *arg,
                 struct wr_dgram **out)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    int fd = socket(at->ip.family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    struct wr_dgram *d = wr_alloc(sizeof(*d));
    if (!d) {
        close(fd);
        return WR_ELIMIT;
    }
    d->e = e;
    d->ops = ops;
    d->arg = arg;
    d->family = at->ip.family;
    set_options(d, fd);
    struct sockaddr_storage sa;
    socklen_t len = wr_addr_to_sockaddr(at, &sa);
    int err = bind(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : wr_env_uv_error(errno);
    if (err)
        close(fd);
    else
        err = wr_env_uv_source_open(e, &d->source, fd, EPOLLIN, on_dgram_ready);
    if (err) {
        wr_free(d);
        return err;
    }
    struct wr_addr bound;
    wr_dgram_addr(d, &bound);
    d->port = bound.port;
    *out = d;
    return 0;
}

bool wr_dgram_blocked(const struct wr_dgram *d)
{
    return d->kept_data != NULL;
}

void wr_dgram_addr(const struct wr_dgram *d, struct wr_addr *out)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    *out = (struct wr_addr){0};
    if (getsockname(d->source.fd, (struct sockaddr *)&sa, &len) == 0)
        wr_addr_from_sockaddr((const struct sockaddr *)&sa, out);
}

void wr_dgram_close(struct wr_dgram *d)
{
    wr_free(d->kept_data);
    d->kept_data = NULL;
    wr_env_uv_source_close(d->e, &d->source);
}

int wr_env_source(struct wr_env *env, const struct wr_addr *to, struct wr_ip *out)
{
    (void)env;
    struct sockaddr_storage sa;
    socklen_t len = wr_addr_to_sockaddr(to, &sa);
    int fd = socket(to->ip.family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? WR_ENOFD : WR_EUNREACH;
    /* Connecting a datagram socket asks the routing table and sends nothing. */
    int err = connect(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : WR_EUNREACH;
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof(own);
    struct wr_addr addr = {0};
    if (!err && getsockname(fd, (struct sockaddr *)&own, &own_len) == 0)
        wr_addr_from_sockaddr((const struct sockaddr *)&own, &addr);
    close(fd);
    *out = addr.ip;
    return addr.ip.family ? 0 : WR_EUNREACH;
}
