/* Interfaces and default routes of this machine, and word of their changes. */
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
    uint32_t ways_out[WR_GATEWAYS_MAX];    /* interfaces with a default route, when last looked at */
    size_t way_count;
    bool woke;                /* and the watches were not told yet */
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

/* ---- asking the kernel ------------------------------------------------------------------------------ */

#define DUMP_ROOM ((size_t)32 * 1024)    /* bytes; the kernel fills what it is given, 32 KiB at most */
#define DUMP_ROUNDS 64                   /* receives; ours: a home has ten routes, a router with more is left alone */

typedef void (*dump_fn)(void *arg, struct nlmsghdr *msg);

/* One receive of the answer. False: that was the last. */
static bool read_dump(int fd, void *room, dump_fn each, void *arg)
{
    ssize_t got = recv(fd, room, DUMP_ROOM, MSG_DONTWAIT);    /* the kernel answers within send and recv */
    if (got <= 0)
        return false;
    size_t len = (size_t)got;
    for (struct nlmsghdr *msg = room; NLMSG_OK(msg, len); msg = NLMSG_NEXT(msg, len)) {
        if (msg->nlmsg_type == NLMSG_DONE || msg->nlmsg_type == NLMSG_ERROR)
            return false;
        each(arg, msg);
    }
    return true;
}

/* The answers to a question for all of something. */
static void dump(const struct nlmsghdr *question, dump_fn each, void *arg)
{
    void *room = wr_alloc(DUMP_ROOM);
    int fd = room ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) : -1;
    if (fd >= 0 && send(fd, question, question->nlmsg_len, 0) == (ssize_t)question->nlmsg_len)
        for (int i = 0; i < DUMP_ROUNDS && read_dump(fd, room, each, arg); i++)
            continue;
    if (fd >= 0)
        close(fd);
    wr_free(room);
}

/* ---- addresses -------------------------------------------------------------------------------------- */

struct ifaddr_list {
    struct wr_ifaddr *of;
    size_t count;
};

/* What getifaddrs leaves out. */
static void mark_ifaddr(void *arg, struct nlmsghdr *msg)
{
    const struct ifaddr_list *list = arg;
    const struct ifaddrmsg *head = NLMSG_DATA(msg);
    if (msg->nlmsg_type != RTM_NEWADDR || msg->nlmsg_len < NLMSG_LENGTH(sizeof(*head)) || head->ifa_family != AF_INET6)
        return;
    size_t len = IFA_PAYLOAD(msg);
    for (struct rtattr *a = IFA_RTA(NLMSG_DATA(msg)); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
        for (size_t i = 0; a->rta_type == IFA_ADDRESS && RTA_PAYLOAD(a) == 16 && i < list->count; i++) {
            struct wr_ifaddr *at = &list->of[i];
            if (at->ip.family != 6 || at->index != head->ifa_index || memcmp(at->ip.bytes, RTA_DATA(a), 16) != 0)
                continue;
            at->temporary = head->ifa_flags & IFA_F_TEMPORARY;
            at->deprecated = head->ifa_flags & IFA_F_DEPRECATED;
        }
    }
}

size_t wr_env_ifaddrs(struct wr_env *env, struct wr_ifaddr *out, size_t max)
{
    static const struct {
        struct nlmsghdr head;
        struct ifaddrmsg addr;
    } ask = {{.nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             {.ifa_family = AF_INET6}};
    (void)env;
    struct ifaddrs *all;
    struct ifaddr_list list = {.of = out};
    bool ip6 = false;
    if (getifaddrs(&all) != 0)
        return 0;
    for (struct ifaddrs *i = all; i && list.count < max; i = i->ifa_next) {
        if (!read_ifaddr(i, &out[list.count]))
            continue;
        ip6 |= out[list.count].ip.family == 6 && !out[list.count].loopback;
        list.count++;
    }
    freeifaddrs(all);
    if (ip6)
        dump(&ask.head, mark_ifaddr, &list);
    return list.count;
}

/* ---- default routes --------------------------------------------------------------------------------- */

static void read_ip(struct wr_ip *out, uint8_t family, const void *data, size_t len)
{
    size_t want = family == 4 ? 4 : 16;
    if (len < want)
        return;
    *out = (struct wr_ip){.family = family};
    memcpy(out->bytes, data, want);
}

/* Attributes of a route, or of one hop of several. */
static void read_hop(struct rtattr *a, size_t len, uint8_t family, struct wr_gateway *out)
{
    for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
        const uint8_t *data = RTA_DATA(a);
        size_t size = RTA_PAYLOAD(a);
        if (a->rta_type == RTA_GATEWAY)
            read_ip(&out->ip, family, data, size);
        else if (a->rta_type == RTA_VIA && size > sizeof(uint16_t))    /* a hop of the other family */
            read_ip(&out->ip, family == 4 ? 6 : 4, data + sizeof(uint16_t), size - sizeof(uint16_t));
        else if (a->rta_type == RTA_OIF && size >= sizeof(uint32_t))
            memcpy(&out->index, data, sizeof(out->index));
        else if (a->rta_type == RTA_PRIORITY && size >= sizeof(uint32_t))
            memcpy(&out->metric, data, sizeof(out->metric));
        else if (a->rta_type == RTA_MULTIPATH && size >= sizeof(struct rtnexthop)) {
            struct rtnexthop *hop = RTA_DATA(a);    /* the first speaks for all */
            if (hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > size)
                continue;
            out->index = (uint32_t)hop->rtnh_ifindex;
            read_hop((struct rtattr *)(void *)(hop + 1), hop->rtnh_len - sizeof(*hop), family, out);
        }
    }
}

static bool is_default_route(struct nlmsghdr *msg)
{
    struct rtmsg *route = NLMSG_DATA(msg);
    return msg->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) && route->rtm_dst_len == 0 &&
           route->rtm_table == RT_TABLE_MAIN && route->rtm_type == RTN_UNICAST &&
           !(route->rtm_flags & RTM_F_CLONED) &&
           (route->rtm_family == AF_INET || route->rtm_family == AF_INET6);
}

static bool read_gateway(struct nlmsghdr *msg, struct wr_gateway *out)
{
    struct rtmsg *route = NLMSG_DATA(msg);
    if (msg->nlmsg_type != RTM_NEWROUTE || !is_default_route(msg) || route->rtm_flags & RTNH_F_LINKDOWN)
        return false;
    *out = (struct wr_gateway){.family = route->rtm_family == AF_INET ? 4 : 6};
    read_hop(RTM_RTA(route), RTM_PAYLOAD(msg), out->family, out);
    return out->index != 0;
}

static size_t insert_gateway(struct wr_gateway *out, size_t count, size_t max, const struct wr_gateway *new)
{
    size_t at = count;
    while (at > 0 && (out[at - 1].family > new->family ||
                      (out[at - 1].family == new->family && out[at - 1].metric > new->metric)))
        at--;
    if (at >= max)
        return count;
    if (count == max)
        count--;
    memmove(&out[at + 1], &out[at], (count - at) * sizeof(*out));
    out[at] = *new;
    return count + 1;
}

struct gateway_list {
    struct wr_gateway *of;
    size_t count, max;
};

static void list_gateway(void *arg, struct nlmsghdr *msg)
{
    struct gateway_list *list = arg;
    struct wr_gateway gateway;
    if (read_gateway(msg, &gateway))
        list->count = insert_gateway(list->of, list->count, list->max, &gateway);
}

size_t wr_env_gateways(struct wr_env *env, struct wr_gateway *out, size_t max)
{
    static const struct {
        struct nlmsghdr head;
        struct rtmsg route;
    } ask = {{.nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             {.rtm_family = AF_UNSPEC}};
    (void)env;
    struct gateway_list list = {.of = out, .max = max};
    if (max)
        dump(&ask.head, list_gateway, &list);
    return list.count;
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

static void look_at_ways_out(struct wr_env_uv_link *link)
{
    struct wr_gateway gateways[WR_GATEWAYS_MAX];
    link->way_count = wr_env_gateways(&link->e->env, gateways, WR_GATEWAYS_MAX);
    for (size_t i = 0; i < link->way_count; i++)
        link->ways_out[i] = gateways[i].index;
}

/* A cable that carries no default route may come and go as it likes. */
static bool is_way_out(const struct wr_env_uv_link *link, int index)
{
    for (size_t i = 0; i < link->way_count; i++)
        if ((int)link->ways_out[i] == index)
            return true;
    return false;
}

static bool is_cut(const struct wr_env_uv_link *link, struct nlmsghdr *msg)
{
    const struct ifaddrmsg *addr = NLMSG_DATA(msg);
    const struct ifinfomsg *info = NLMSG_DATA(msg);
    switch (msg->nlmsg_type) {
    case RTM_DELADDR:
        /* An IPv6 address whose time was over is not the network's doing. */
        return msg->nlmsg_len >= NLMSG_LENGTH(sizeof(*addr)) && addr->ifa_scope < RT_SCOPE_LINK &&
               !(addr->ifa_family == AF_INET6 && addr->ifa_flags & (IFA_F_TEMPORARY | IFA_F_DEPRECATED));
    case RTM_DELROUTE:
        return is_default_route(msg);
    case RTM_DELLINK:
        return msg->nlmsg_len >= NLMSG_LENGTH(sizeof(*info)) && is_way_out(link, info->ifi_index);
    case RTM_NEWLINK:
        return msg->nlmsg_len >= NLMSG_LENGTH(sizeof(*info)) && !(info->ifi_flags & IFF_RUNNING) &&
               is_way_out(link, info->ifi_index);
    default:
        return false;
    }
}

/* Takes what lies there unread. True: the network was cut off, even if all is as before again. */
static bool drain(struct wr_env_uv_link *link)
{
    union {
        struct nlmsghdr align;
        char bytes[8192];
    } buffer;
    bool cut = false;
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        ssize_t got = recv(link->source.fd, &buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got < 0 && errno != ENOBUFS)
            break;
        cut |= got < 0;    /* too many to keep: nobody knows what was among them */
        size_t len = got > 0 ? (size_t)got : 0;
        for (struct nlmsghdr *msg = &buffer.align; NLMSG_OK(msg, len); msg = NLMSG_NEXT(msg, len))
            cut |= is_cut(link, msg);
    }
    return cut;
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
    bool cut = link->woke;
    link->woke = false;
    if (link->source.fd >= 0) {
        cut |= drain(link);
        wr_env_uv_source_want(link->e, &link->source, EPOLLIN);
        look_at_ways_out(link);
    }
    link->e->env.net_cuts += cut;
    wr_env_turn_tell_watches(&link->e->env);
}

void wr_env_uv_link_check_sleep(struct wr_env_uv *e, wr_time late)
{
    if (!e->link || wr_list_empty(&e->env.watches))
        return;
    wr_time asleep = time_asleep();
    if (late > SLEEP_MIN || asleep - e->link->asleep > SLEEP_MIN) {
        e->link->woke = true;
        changed(e->link);
    }
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
    look_at_ways_out(link);
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
        (void)drain(e->link);    /* from when nobody watched */
        look_at_ways_out(e->link);
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
