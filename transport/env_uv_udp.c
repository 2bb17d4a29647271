/* Datagram sockets of env.h. */
#include "transport/env_uv_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define DATAGRAM_ROOM ((size_t)64 * 1024)    /* bytes; more than any datagram */
#define BATCH (WR_ENV_UV_SHARED / DATAGRAM_ROOM)
#define BATCHES_PER_ROUND 8                  /* then others get their turn */
#define MULTICAST_HOPS 255                   /* RFC 6762 section 11 wants it of mDNS */

struct wr_udp {
    struct wr_env_uv_source source;    /* first */
    struct wr_env_uv *e;
    const struct wr_udp_ops *ops;      /* borrowed */
    void *arg;
    uint8_t family;
};

/* Room for the packet information of either family. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static uint32_t interface_of(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            return (uint32_t)info.ipi_ifindex;
        }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            return info.ipi6_ifindex;
        }
    }
    return 0;
}

/* Takes one batch; false when there is no more, or the socket is closed. */
static bool receive(struct wr_udp *u)
{
    struct mmsghdr msgs[BATCH] = {0};
    struct iovec iov[BATCH];
    struct sockaddr_storage from[BATCH];
    union control control[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){u->e->shared + i * DATAGRAM_ROOM, DATAGRAM_ROOM};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof(from[i]),
                                          .msg_iov = &iov[i], .msg_iovlen = 1,
                                          .msg_control = control[i].bytes,
                                          .msg_controllen = sizeof(control[i].bytes)};
    }
    int count = recvmmsg(u->source.fd, msgs, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        struct wr_addr addr;
        wr_addr_from_sockaddr((const struct sockaddr *)&from[i], &addr);
        wr_env_uv_begin(u->e);
        u->ops->on_datagram(u->arg, &addr, interface_of(&msgs[i].msg_hdr), iov[i].iov_base,
                            msgs[i].msg_len);
        wr_env_uv_end(u->e);
        if (u->source.fd < 0)
            return false;
    }
    return count == (int)BATCH;
}

static void on_udp_ready(struct wr_env_uv_source *source, uint32_t events)
{
    struct wr_udp *u = (struct wr_udp *)(void *)source;
    if (events & EPOLLERR) {    /* some peer's ICMP: of no use without a connection, but to be taken */
        int error;
        socklen_t len = sizeof(error);
        getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    for (int i = 0; i < BATCHES_PER_ROUND; i++)
        if (!receive(u))
            return;
}

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_options(int fd, uint8_t family, bool shared)
{
    if (shared) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (family == 6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, MULTICAST_HOPS);
        return;
    }
    set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, MULTICAST_HOPS);
    /* Only groups that this very socket joined. */
    set_option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
}

int wr_env_udp(struct wr_env *env, const struct wr_addr *at, bool shared, const struct wr_udp_ops *ops,
               void *arg, struct wr_udp **out)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    int fd = socket(at->ip.family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wr_env_uv_error(errno);
    set_options(fd, at->ip.family, shared);
    struct sockaddr_storage sa;
    socklen_t len = wr_addr_to_sockaddr(at, &sa);
    struct wr_udp *u = NULL;
    int err = 0;
    if (bind(fd, (struct sockaddr *)&sa, len) != 0)
        err = wr_env_uv_error(errno);
    else if (!(u = wr_alloc(sizeof(*u))))
        err = WR_ELIMIT;
    if (err) {
        close(fd);
        return err;
    }
    u->e = e;
    u->ops = ops;
    u->arg = arg;
    u->family = at->ip.family;
    err = wr_env_uv_source_open(e, &u->source, fd, EPOLLIN, on_udp_ready);
    if (err)
        wr_free(u);
    else
        *out = u;
    return err;
}

int wr_udp_join(struct wr_udp *u, const struct wr_ip *group, uint32_t ifindex)
{
    int result;
    if (group->family != u->family || wr_ip_classify(group) != WR_IP_MULTICAST)
        return WR_EINVAL;
    if (u->family == 4) {
        struct ip_mreqn request = {.imr_ifindex = (int)ifindex};
        memcpy(&request.imr_multiaddr, group->bytes, 4);
        result = setsockopt(u->source.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request));
    } else {
        struct ipv6_mreq request = {.ipv6mr_interface = ifindex};
        memcpy(&request.ipv6mr_multiaddr, group->bytes, 16);
        result = setsockopt(u->source.fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof(request));
    }
    if (result == 0 || errno == EADDRINUSE)    /* a member already */
        return 0;
    return errno == ENODEV ? WR_EINVAL : wr_env_uv_error(errno);
}

static void choose_interface(struct msghdr *msg, union control *control, uint8_t family, uint32_t ifindex)
{
    memset(control, 0, sizeof(*control));
    msg->msg_control = control->bytes;
    msg->msg_controllen = sizeof(control->bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    if (family == 4) {
        struct in_pktinfo info = {.ipi_ifindex = (int)ifindex};
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = IP_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(CMSG_DATA(c), &info, sizeof(info));
        msg->msg_controllen = CMSG_SPACE(sizeof(info));
        return;
    }
    struct in6_pktinfo info = {.ipi6_ifindex = ifindex};
    c->cmsg_level = IPPROTO_IPV6;
    c->cmsg_type = IPV6_PKTINFO;
    c->cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(c), &info, sizeof(info));
}

int wr_udp_send(struct wr_udp *u, const struct wr_addr *to, uint32_t ifindex, struct wr_bytes data)
{
    if (to->ip.family != u->family)
        return WR_EUNREACH;
    struct sockaddr_storage sa;
    union control control;
    struct iovec iov = {(void *)(uintptr_t)data.ptr, data.len};
    struct msghdr msg = {.msg_name = &sa, .msg_iov = &iov, .msg_iovlen = 1};
    msg.msg_namelen = wr_addr_to_sockaddr(to, &sa);
    if (ifindex)
        choose_interface(&msg, &control, u->family, ifindex);
    ssize_t n;
    do
        n = sendmsg(u->source.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    switch (errno) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return WR_ELIMIT;
    case EMSGSIZE:
        return WR_EIO;
    default:    /* no route, no such interface, or a packet filter forbids it */
        return WR_EUNREACH;
    }
}

void wr_udp_addr(const struct wr_udp *u, struct wr_addr *out)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    *out = (struct wr_addr){0};
    if (getsockname(u->source.fd, (struct sockaddr *)&sa, &len) == 0)
        wr_addr_from_sockaddr((const struct sockaddr *)&sa, out);
}

void wr_udp_close(struct wr_udp *u)
{
    wr_env_uv_source_close(u->e, &u->source);
}
