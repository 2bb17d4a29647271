/* A system that refuses: the linker sends the program's calls of sendmsg and setsockopt here. */
#include "tests/env/contract.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

static bool jammed, refuses;
static unsigned sends, buffers;

bool contract_jam(struct contract *c, bool on)
{
    (void)c;
    jammed = on;
    return true;
}

bool contract_refuse_offload(struct contract *c, bool on)
{
    (void)c;
    refuses = on;
    return true;
}

unsigned contract_sends(void)
{
    return sends;
}

unsigned contract_buffers(void)
{
    return buffers;
}

static bool is_segmented(const struct msghdr *msg)
{
    /* The library's own loop skips const. */
    struct msghdr copy = *msg;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&copy); m; m = CMSG_NXTHDR(&copy, m))
        if (m->cmsg_level == SOL_UDP && m->cmsg_type == UDP_SEGMENT)
            return true;
    return false;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    sends++;
    if (jammed || (refuses && is_segmented(msg))) {
        errno = jammed ? EAGAIN : EIO;
        return -1;
    }
    return __real_sendmsg(fd, msg, flags);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    bool offload = level == SOL_UDP && name == UDP_GRO;
    bool buffer = level == SOL_SOCKET && (name == SO_RCVBUFFORCE || name == SO_SNDBUFFORCE);
    if (refuses && (offload || buffer)) {
        errno = offload ? ENOPROTOOPT : EPERM;
        return -1;
    }
    buffers += level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF);
    return __real_setsockopt(fd, level, name, value, len);
}
