/* link.c - a link between two network namespaces with delay, loss and a rate: link NSA ADDRA NSB ADDRB
 *   --delay MS     one way (0)
 *   --jitter MS    added, uniform, order kept (0)
 *   --loss PERCENT of the packets, each way (0)
 *   --rate MBIT    per second, each way (0: no limit), with a queue of --queue KIB (256) before it
 *   --seed N       of the losses (1)
 * A TUN device `link0` in each namespace and this process between them, because the kernels that tests meet
 * may lack netem. Prints "ready" when both ends are up; ends when standard input closes. Needs root. */
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

#define PACKET_MAX 65536    /* bytes; TUN hands over whole packets */
#define MTU        1500     /* bytes */

struct packet {
    struct packet *next;
    int64_t due;    /* ns */
    size_t len;
    uint8_t data[];
};

/* One direction. */
struct pipe {
    int from, to;
    struct packet *head, **tail;
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
} link_options = {.queue_max = 256 * 1024, .random = 1};

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

/* Makes link0 in a namespace and returns its descriptor. */
static int open_end(const char *ns, const char *addr)
{
    char path[256];
    snprintf(path, sizeof(path), "/var/run/netns/%s", ns);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        die(ns);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, "link0");
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) != 0)
        die("/dev/net/tun");
    if (setns(home, CLONE_NEWNET) != 0)
        die("setns");
    close(home);
    close(there);
    run_ip(ns, (const char *const[]){"addr", "add", addr, "dev", "link0", NULL});
    run_ip(ns, (const char *const[]){"link", "set", "dev", "link0", "mtu", "1500", "txqueuelen", "2000",
                                     "up", NULL});
    return tun;
}

static void accept_packet(struct pipe *p, const uint8_t *data, size_t len, int64_t now)
{
    if (link_options.loss > 0 && chance() < link_options.loss)
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
    struct packet *packet = malloc(sizeof(*packet) + len);
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

static void deliver(struct pipe *p, int64_t now)
{
    while (p->head && p->head->due <= now) {
        struct packet *packet = p->head;
        if (write(p->to, packet->data, packet->len) < 0 && errno == EAGAIN)
            return;
        p->head = packet->next;
        if (!p->head)
            p->tail = &p->head;
        free(packet);
    }
}

static void fill(struct pipe *p, int64_t now)
{
    static uint8_t data[PACKET_MAX];
    for (int i = 0; i < 64; i++) {
        ssize_t n = read(p->from, data, sizeof(data));
        if (n <= 0)
            return;
        accept_packet(p, data, (size_t)n, now);
    }
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
            deliver(&pipes[i], now);
            if (!pipes[i].head)
                continue;
            int64_t until = pipes[i].head->due > now ? pipes[i].head->due - now : 100000;
            wait = wait < 0 || until < wait ? until : wait;
        }
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(fds, 3, wait < 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            die("poll");
        char byte;
        if (fds[2].revents && read(0, &byte, 1) <= 0)
            return;
        now = now_ns();
        fill(&pipes[0], now);
        fill(&pipes[1], now);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: link NSA ADDRA/LEN NSB ADDRB/LEN [--delay MS] [--jitter MS] "
                        "[--loss PERCENT] [--rate MBIT] [--queue KIB] [--seed N]\n");
        return 2;
    }
    for (int i = 5; i + 1 < argc; i += 2) {
        double value = atof(argv[i + 1]);
        if (strcmp(argv[i], "--delay") == 0)
            link_options.delay = (int64_t)(value * 1e6);
        else if (strcmp(argv[i], "--jitter") == 0)
            link_options.jitter = (int64_t)(value * 1e6);
        else if (strcmp(argv[i], "--loss") == 0)
            link_options.loss = value / 100;
        else if (strcmp(argv[i], "--rate") == 0)
            link_options.rate = value * 1e6 / 8 / 1e9;
        else if (strcmp(argv[i], "--queue") == 0)
            link_options.queue_max = (size_t)(value * 1024);
        else if (strcmp(argv[i], "--seed") == 0)
            link_options.random = (uint64_t)value + 1;
        else {
            fprintf(stderr, "link: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    int a = open_end(argv[1], argv[2]);
    int b = open_end(argv[3], argv[4]);
    puts("ready");
    fflush(stdout);
    run(a, b);
    return 0;
}
