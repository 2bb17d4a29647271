/* A node (cli_poor_sockets) on a system that refuses what makes UDP fast. POOR_SOCKETS lists what is refused: `buffers`
 * (none beyond the 208 KiB of a stock Debian), `gro`, `gso`, `again` (every third send finds no room). The linker sends
 * the node's calls here; at its end it says on standard error how often each was refused. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STOCK_BUFFER 106496 /* bytes; net.core.rmem_max / 2: the kernel doubles what it is told */
#define ONE_IN       3

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

static const char *const words[] = {"buffers", "gro", "gso", "again"};
enum { BUFFERS, GRO, GSO, AGAIN, WORDS };
static unsigned refused[WORDS], sends;

static void tell(void)
{
    for (int i = 0; i < WORDS; i++)
        fprintf(stderr, "refused %s %u\n", words[i], refused[i]);
}

static bool refuses(int word)
{
    const char *list = getenv("POOR_SOCKETS");
    if (!list || !strstr(list, words[word]))
        return false;
    bool first = true;
    for (int i = 0; i < WORDS; i++)
        first = first && !refused[i];
    if (first)
        atexit(tell);
    refused[word]++;
    return true;
}

static bool is_segmented(const struct msghdr *msg)
{
    struct msghdr copy = *msg;    /* the library's own loop skips const */
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&copy); m; m = CMSG_NXTHDR(&copy, m))
        if (m->cmsg_level == SOL_UDP && m->cmsg_type == UDP_SEGMENT)
            return true;
    return false;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    int type = 0;
    socklen_t len = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM) {
        if (is_segmented(msg) && refuses(GSO)) {
            errno = EIO;
            return -1;
        }
        if (++sends % ONE_IN == 0 && refuses(AGAIN)) {
            errno = EAGAIN;
            return -1;
        }
    }
    return __real_sendmsg(fd, msg, flags);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    int stock = STOCK_BUFFER, asked = 0;
    if (level == SOL_UDP && name == UDP_GRO && refuses(GRO)) {
        errno = ENOPROTOOPT;
        return -1;
    }
    if (level == SOL_SOCKET && (name == SO_RCVBUFFORCE || name == SO_SNDBUFFORCE) && refuses(BUFFERS)) {
        errno = EPERM;
        return -1;
    }
    if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF) && len == sizeof(asked)) {
        memcpy(&asked, value, sizeof(asked));
        if (asked > stock && refuses(BUFFERS))
            value = &stock;
    }
    return __real_setsockopt(fd, level, name, value, len);
}
