/* link.c - a link between two network namespaces with delay, loss and a rate: link NSA ADDRA NSB ADDRB
 *   --name-a NAME  of the device in A (link0); --name-b NAME
 *   --delay MS     one way (0)
 *   --jitter MS    added, uniform, order kept (0)
 *   --loss PERCENT of the packets, each way (0)
 *   --rate MBIT    per second, each way (0: no limit), with a queue of --queue KIB (256) before it
 *   --seed N       of the losses (1)
 *   --nat OPTIONS  a translator at end A, whose inside is A (nat.h; the words of docs/lab.md)
 * An address "-" leaves a device without one. A TUN device in each namespace and this process between them,
 * because the kernels that tests meet may lack netem, and no kernel has every kind of NAT. Prints "ready" when
 * both ends are up; ends when standard input closes. Each line of standard input is a command, answered by a
 * line "ok" or "no":
 *   forget ADDR | restart    the NAT's sessions with ADDR are gone, or all of them
 *   sessions [ADDR]          "ok N M": the NAT's sessions, or those of an inside address; M of them are open
 *   down | up                nothing passes any more; or again
 *   delay MS | loss PERCENT  from now on
 * Needs root. */
#include "nat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX (NAT_PACKET_MAX + 64)    /* bytes; TUN hands over whole packets, a refusal may be longer */
#define LINE_MAX_BYTES 128
#define MTU        1500     /* bytes */

struct packet_queued {
    struct packet_queued *next;
    int64_t due;    /* ns */
    size_t len;
    uint8_t data[];
};

/* One direction. */
struct pipe {
    int from, to;
    struct packet_queued *head, **tail;
    size_t queued;        /* bytes that wait for the rate */
    int64_t busy_until;   /* when the last byte accepted has left the bottleneck */
    int64_t last_due;
};

static struct {
    int64_t delay, jitter;    /* ns */
    double loss;              /* 0..1 */
    double rate;              /* bytes per ns; 0: none */
    size_t queue_max;
    uint64_t random;
    const char *name_a, *name_b;
    struct nat *nat;
    bool down;
} link_options = {.queue_max = 256 * 1024, .random = 1, .name_a = "link0", .name_b = "link0"};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* xorshift64*: losses replay from the seed. */
static double chance(void)
{
    uint64_t x = link_options.random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    link_options.random = x;
    return (double)((x * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

static void die(const char *what)
{
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void run_ip(const char *ns, const char *const *args)
{
    const char *argv[16] = {"ip", "-n", ns};
    size_t n = 3;
    while (*args && n < 15)
        argv[n++] = *args++;
    pid_t pid = fork();
    if (pid == 0) {
        union {
            const char *const *in;
            char *const *out;    /* exec does not write to them */
        } cast = {.in = argv};
        execvp("ip", cast.out);
        _exit(127);
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        fprintf(stderr, "link: ip failed in %s\n", ns);
        exit(1);
    }
}

/* Makes the device in a namespace and returns its descriptor. */
static int open_end(const char *ns, const char *addr, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "/var/run/netns/%s", ns);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        die(ns);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) != 0)
        die("/dev/net/tun");
    if (setns(home, CLONE_NEWNET) != 0)
        die("setns");
    close(home);
    close(there);
    if (strcmp(addr, "-") != 0)
        run_ip(ns, (const char *const[]){"addr", "add", addr, "dev", name, NULL});
    run_ip(ns,
           (const char *const[]){"link", "set", "dev", name, "mtu", "1500", "txqueuelen", "2000", "up", NULL});
    return tun;
}

static void accept_packet(struct pipe *p, const uint8_t *data, size_t len, int64_t now)
{
    if (link_options.down || (link_options.loss > 0 && chance() < link_options.loss))
        return;
    int64_t leaves = now;
    if (link_options.rate > 0) {
        if (p->busy_until < now)
            p->busy_until = now;
        double waiting = (double)(p->busy_until - now) * link_options.rate;
        if (waiting + (double)len > (double)link_options.queue_max)
            return;
        p->busy_until += (int64_t)((double)len / link_options.rate);
        leaves = p->busy_until;
    }
    struct packet_queued *packet = malloc(sizeof(*packet) + len);
    if (!packet)
        return;
    packet->next = NULL;
    packet->len = len;
    packet->due = leaves + link_options.delay + (int64_t)(chance() * (double)link_options.jitter);
    if (packet->due < p->last_due)
        packet->due = p->last_due;
    p->last_due = packet->due;
    memcpy(packet->data, data, len);
    *p->tail = packet;
    p->tail = &packet->next;
}

/* A packet that reached end A's translator from outside: on to A, or an answer back. */
static bool deliver_inside(struct pipe *in, struct pipe *out, const struct packet_queued *packet, int64_t now)
{
    static uint8_t data[PACKET_MAX];
    size_t len = packet->len;
    memcpy(data, packet->data, len);
    switch (nat_from_outside(link_options.nat, data, &len, now)) {
    case NAT_IN:
        return write(in->to, data, len) >= 0 || errno != EAGAIN;
    case NAT_OUT:
        accept_packet(out, data, len, now);
        return true;
    case NAT_DROP:
    default:
        return true;
    }
}

static bool is_ipv4(const uint8_t *data, size_t len)
{
    return len && data[0] >> 4 == 4;
}

/* pipes[0] leads from A to B, pipes[1] back. */
static void deliver(struct pipe *pipes, int which, int64_t now)
{
    struct pipe *p = &pipes[which];
    while (p->head && p->head->due <= now) {
        struct packet_queued *packet = p->head;
        if (which == 1 && link_options.nat && is_ipv4(packet->data, packet->len)) {
            if (!deliver_inside(p, &pipes[0], packet, now))
                return;
        } else if (write(p->to, packet->data, packet->len) < 0 && errno == EAGAIN) {
            return;
        }
        p->head = packet->next;
        if (!p->head)
            p->tail = &p->head;
        free(packet);
    }
}

static void fill(struct pipe *p, bool translated)
{
    static uint8_t data[PACKET_MAX];
    for (int i = 0; i < 64; i++) {
        ssize_t n = read(p->from, data, NAT_PACKET_MAX);
        if (n <= 0)
            return;
        int64_t now = now_ns();    /* after the packet came: what is older would send it on too early */
        size_t len = (size_t)n;
        enum nat_way way = NAT_OUT;
        if (translated && is_ipv4(data, len))
            way = nat_from_inside(link_options.nat, data, &len, now);
        if (way == NAT_OUT)
            accept_packet(p, data, len, now);
        else if (way == NAT_IN && write(p->from, data, len) < 0 && errno != EAGAIN && errno != EIO)
            die("write");
    }
}

/* ---- commands */

static bool obey(const char *line)
{
    struct nat *nat = link_options.nat;
    struct in_addr addr;
    if (strcmp(line, "down") == 0 || strcmp(line, "up") == 0) {
        link_options.down = line[0] == 'd';
    } else if (strncmp(line, "delay ", 6) == 0) {
        link_options.delay = (int64_t)(atof(line + 6) * 1e6);
    } else if (strncmp(line, "loss ", 5) == 0) {
        link_options.loss = atof(line + 5) / 100;
    } else if (strcmp(line, "restart") == 0 && nat) {
        nat_forget(nat, 0);
    } else if (strncmp(line, "forget ", 7) == 0 && nat && inet_pton(AF_INET, line + 7, &addr) == 1) {
        nat_forget(nat, ntohl(addr.s_addr));
    } else {
        return false;
    }
    return true;
}

/* False: that was another command. */
static bool tell_sessions(const char *line)
{
    struct in_addr inside = {0};
    if (!link_options.nat || strncmp(line, "sessions", 8) != 0)
        return false;
    if (line[8] && inet_pton(AF_INET, line + 9, &inside) != 1)
        return false;
    uint32_t addr = ntohl(inside.s_addr);
    int64_t now = now_ns();
    printf("ok %zu %zu\n", nat_sessions(link_options.nat, addr, false, now),
           nat_sessions(link_options.nat, addr, true, now));
    return true;
}

/* False: standard input has ended. */
static bool take_commands(void)
{
    static char text[LINE_MAX_BYTES];
    static size_t have;
    ssize_t n = read(0, text + have, sizeof(text) - 1 - have);
    if (n <= 0)
        return false;
    have += (size_t)n;
    text[have] = 0;
    for (char *end; (end = strchr(text, '\n'));) {
        *end = 0;
        if (!tell_sessions(text))
            puts(obey(text) ? "ok" : "no");
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
    if (have == sizeof(text) - 1)
        have = 0;
    fflush(stdout);
    return true;
}

static void run(int a, int b)
{
    struct pipe pipes[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    struct pollfd fds[3] = {
        {.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (int i = 0; i < 2; i++)
        pipes[i].tail = &pipes[i].head;
    for (;;) {
        int64_t now = now_ns(), wait = -1;
        for (int i = 0; i < 2; i++) {
            deliver(pipes, i, now);
            if (!pipes[i].head)
                continue;
            int64_t until = pipes[i].head->due > now ? pipes[i].head->due - now : 100000;
            wait = wait < 0 || until < wait ? until : wait;
        }
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(fds, 3, wait < 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            die("poll");
        if (fds[2].revents && !take_commands())
            return;
        fill(&pipes[0], link_options.nat != NULL);
        fill(&pipes[1], false);
    }
}

static struct nat *make_nat(const char *text)
{
    struct nat_options options;
    char err[128];
    if (!nat_parse(&options, text, err, sizeof(err))) {
        fprintf(stderr, "link: --nat: %s\n", err);
        exit(2);
    }
    struct nat *nat = nat_create(&options);
    if (!nat)
        die("nat");
    return nat;
}

static bool take_option(const char *name, const char *text)
{
    double value = atof(text);
    if (strcmp(name, "--delay") == 0)
        link_options.delay = (int64_t)(value * 1e6);
    else if (strcmp(name, "--jitter") == 0)
        link_options.jitter = (int64_t)(value * 1e6);
    else if (strcmp(name, "--loss") == 0)
        link_options.loss = value / 100;
    else if (strcmp(name, "--rate") == 0)
        link_options.rate = value * 1e6 / 8 / 1e9;
    else if (strcmp(name, "--queue") == 0)
        link_options.queue_max = (size_t)(value * 1024);
    else if (strcmp(name, "--seed") == 0)
        link_options.random = (uint64_t)value + 1;
    else if (strcmp(name, "--name-a") == 0)
        link_options.name_a = text;
    else if (strcmp(name, "--name-b") == 0)
        link_options.name_b = text;
    else if (strcmp(name, "--nat") == 0)
        link_options.nat = make_nat(text);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc % 2 == 0) {
        fprintf(stderr, "usage: link NSA ADDRA/LEN NSB ADDRB/LEN [--name-a NAME] [--name-b NAME] [--delay MS] "
                        "[--jitter MS] [--loss PERCENT] [--rate MBIT] [--queue KIB] [--seed N] [--nat OPTIONS]\n");
        return 2;
    }
    for (int i = 5; i + 1 < argc; i += 2)
        if (!take_option(argv[i], argv[i + 1])) {
            fprintf(stderr, "link: unknown option %s\n", argv[i]);
            return 2;
        }
    int a = open_end(argv[1], argv[2], link_options.name_a);
    int b = open_end(argv[3], argv[4], link_options.name_b);
    puts("ready");
    fflush(stdout);
    run(a, b);
    return 0;
}
