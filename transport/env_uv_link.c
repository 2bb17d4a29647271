/* Interfaces of this machine, and word of their changes. */
#include "transport/env_uv_priv.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define COALESCE (250 * WR_MSEC)    /* ours: a cable plugged in is a dozen messages within this */
#define SLEEP_MIN (5 * WR_SEC)      /* a shorter sleep breaks nothing that is not broken anyway */
#define MESSAGES_PER_ROUND 64

struct wr_env_uv_link {
    struct wr_env_uv_source source;    /* first; fd -1: the system gave us none */
    struct wr_env_uv *e;
    struct wr_timer timer;    /* runs once something changed; then we listen again */
    wr_time asleep;           /* how long the machine has slept since boot, when last looked at */
};

static uint8_t prefix_of(const struct sockaddr *mask)
{
    if (!mask)
        return 0;
    const uint8_t *bytes = mask->sa_family == AF_INET
                               ? (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr
                               : ((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr.s6_addr;
    unsigned bits = 0, max = mask->sa_family == AF_INET ? 32 : 128;
    while (bits < max && (bytes[bits / 8] & (0x80 >> bits % 8)))
        bits++;
    return (uint8_t)bits;
}

static bool read_ifaddr(const struct ifaddrs *i, struct wr_ifaddr *out)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
        return false;
    if (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6)
        return false;
    struct sockaddr_storage sa = {0};
    struct wr_addr addr;
    memcpy(&sa, i->ifa_addr,
           i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    wr_addr_from_sockaddr((const struct sockaddr *)&sa, &addr);
    *out = (struct wr_ifaddr){.index = if_nametoindex(i->ifa_name), .ip = addr.ip,
                              .prefix = prefix_of(i->ifa_netmask),
                              .loopback = i->ifa_flags & IFF_LOOPBACK,
                              .multicast = i->ifa_flags & IFF_MULTICAST};
    strncpy(out->name, i->ifa_name, sizeof(out->name) - 1);
    return true;
}

size_t wr_env_ifaddrs(struct wr_env *env, struct wr_ifaddr *out, size_t max)
{
    (void)env;
    struct ifaddrs *all;
    size_t count = 0;
    if (getifaddrs(&all) != 0)
        return 0;
    for (struct ifaddrs *i = all; i && count < max; i = i->ifa_next)
        count += read_ifaddr(i, &out[count]);
    freeifaddrs(all);
    return count;
}

/* ---- changes --------------------------------------------------------------------------------------- */

static wr_time time_asleep(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (wr_time)t.tv_sec * WR_SEC + (wr_time)t.tv_nsec - wr_env_uv_clock();
}

static void on_settled(struct wr_timer *timer);

static void changed(struct wr_env_uv_link *link)
{
    if (!wr_timer_running(&link->timer))
        wr_timer_start(&link->e->env, &link->timer, wr_env_uv_clock() + COALESCE, on_settled);
}

/* Takes what lies there unread: it is enough to know that something changed. */
static void drain(int fd)
{
    char buffer[4096];
    for (int i = 0; i < MESSAGES_PER_ROUND; i++)
        if (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) < 0 && errno != ENOBUFS)
            return;
}

static void on_link_ready(struct wr_env_uv_source *source, uint32_t events)
{
    (void)events;
    struct wr_env_uv_link *link = (struct wr_env_uv_link *)(void *)source;
    /* Deaf until the watches are told, so that a storm of messages wakes us four times a second. */
    wr_env_uv_source_want(link->e, source, 0);
    if (!wr_list_empty(&link->e->env.watches))
        changed(link);
}

static void on_settled(struct wr_timer *timer)
{
    struct wr_env_uv_link *link = wr_list_entry(timer, struct wr_env_uv_link, timer);
    if (link->source.fd >= 0) {
        drain(link->source.fd);
        wr_env_uv_source_want(link->e, &link->source, EPOLLIN);
    }
    wr_env_turn_tell_watches(&link->e->env);
}

void wr_env_uv_link_check_sleep(struct wr_env_uv *e)
{
    if (!e->link || wr_list_empty(&e->env.watches))
        return;
    wr_time asleep = time_asleep();
    if (asleep - e->link->asleep > SLEEP_MIN)
        changed(e->link);
    e->link->asleep = asleep;
}

static int open_netlink(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                          RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
    if (fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void listen_for_changes(struct wr_env_uv *e)
{
    struct wr_env_uv_link *link = wr_alloc(sizeof(*link));
    if (!link)
        return;
    link->e = e;
    link->asleep = time_asleep();
    int fd = open_netlink();
    if (fd < 0 || wr_env_uv_source_open(e, &link->source, fd, EPOLLIN, on_link_ready) != 0) {
        link->source.fd = -1;
        wr_log(e->env.log, WR_LOG_WARN, "env", "no word of network changes errno=%d", errno);
    }
    e->link = link;
}

void wr_env_watch_net(struct wr_env *env, struct wr_net_watch *watch)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    wr_list_init(&watch->node);
    wr_list_append(&env->watches, &watch->node);
    if (!e->link)
        listen_for_changes(e);
    else if (e->link->source.fd >= 0 && !e->link->source.events && !wr_timer_running(&e->link->timer)) {
        drain(e->link->source.fd);    /* from when nobody watched */
        wr_env_uv_source_want(e, &e->link->source, EPOLLIN);
    }
}

void wr_env_uv_link_destroy(struct wr_env_uv *e)
{
    struct wr_env_uv_link *link = e->link;
    if (!link)
        return;
    e->link = NULL;
    wr_timer_stop(&e->env, &link->timer);
    if (link->source.fd >= 0)
        wr_env_uv_source_close(e, &link->source);
    else
        wr_free(link);
}
