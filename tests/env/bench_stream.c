/* What the seam costs beside naked system calls. Not a test: run by hand.
 *
 *   bench_stream naked MIB         blocking write and read, 256 KiB each
 *   bench_stream lowat MIB         the same, never more than 128 KiB unsent (waits with poll)
 *   bench_stream env MIB           through wr_env
 *   bench_stream idle COUNT        memory of accepted connections that do nothing
 *
 * Sender and receiver are two processes over loopback; CPU time is that of both. */
#include "transport/env_uv.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define PIECE ((size_t)256 * 1024)

static uint8_t piece[PIECE];
static size_t total;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(int who)
{
    struct rusage r;
    getrusage(who, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_stime.tv_sec +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ---- naked ------------------------------------------------------------------------------------------ */

static void naked_send(int fd, bool lowat)
{
    int value = 128 * 1024;
    if (lowat)
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
    for (size_t sent = 0; sent < total;) {
        ssize_t n = send(fd, piece, PIECE, MSG_NOSIGNAL | (lowat ? MSG_DONTWAIT : 0));
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        poll(&p, 1, -1);
    }
}

static void naked_receive(int fd)
{
    for (size_t got = 0; got < total;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n <= 0)
            exit(1);
        got += (size_t)n;
    }
}

static void naked(bool lowat)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&sa, len) != 0 || listen(listener, 1) != 0)
        exit(1);
    getsockname(listener, (struct sockaddr *)&sa, &len);
    pid_t child = fork();
    if (child == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&sa, len) != 0)
            exit(1);
        naked_send(fd, lowat);
        exit(0);
    }
    naked_receive(accept(listener, NULL, NULL));
    waitpid(child, NULL, 0);
}

/* ---- through the seam ------------------------------------------------------------------------------------ */

struct side {
    struct wr_sock *sock;
    struct wr_listener *listener;
    size_t count;
    bool over;
};

static void fill(struct side *s)
{
    while (s->count < total && wr_sock_backlog(s->sock) == 0) {
        if (wr_sock_write(s->sock, piece, PIECE) != 0)
            exit(1);
        s->count += PIECE;
    }
    if (s->count >= total && wr_sock_backlog(s->sock) == 0)
        s->over = true;
}

static void on_open(void *arg)
{
    fill(arg);
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct side *s = arg;
    (void)data;
    s->count += len;
    s->over = s->count >= total;
}

static void on_close(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_sock_ops ops = {.on_open = on_open, .on_read = on_read, .on_drain = on_open,
                                       .on_close = on_close};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct side *s = arg;
    s->sock = sock;
    wr_sock_attach(sock, &ops, s);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
    exit(1);
}

static const struct wr_listener_ops listener_ops = {on_accept, on_starved};

static void run_side(bool sends, const struct wr_addr *at, int report)
{
    uv_loop_t loop;
    struct side s = {0};
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    if (sends) {
        wr_env_connect(env, at, NULL, &ops, &s, &s.sock);
    } else {
        struct wr_addr bound;
        wr_env_listen(env, at, &listener_ops, &s, &s.listener);
        wr_listener_addr(s.listener, &bound);
        if (write(report, &bound.port, sizeof(bound.port)) != sizeof(bound.port))
            exit(1);
    }
    while (!s.over)
        uv_run(&loop, UV_RUN_ONCE);
}

static void through_env(void)
{
    struct wr_addr at = {.ip = {4, {127, 0, 0, 1}}};
    int ports[2];
    if (pipe(ports) != 0)
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        if (read(ports[0], &at.port, sizeof(at.port)) != sizeof(at.port))
            exit(1);
        run_side(true, &at, -1);
        exit(0);
    }
    run_side(false, &at, ports[1]);
    waitpid(child, NULL, 0);
}

/* ---- idle --------------------------------------------------------------------------------------------------- */

static size_t accepted;

static void on_accept_idle(void *arg, struct wr_sock *sock)
{
    accepted++;
    wr_sock_attach(sock, &ops, arg);
}

static const struct wr_listener_ops idle_ops = {on_accept_idle, on_starved};

static long rss_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        exit(1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void idle(size_t count)
{
    uv_loop_t loop;
    struct side s = {0};
    struct wr_addr at = {.ip = {4, {127, 0, 0, 1}}};
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    wr_env_listen(env, &at, &idle_ops, &s, &s.listener);
    wr_listener_addr(s.listener, &at);
    pid_t child = fork();
    if (child == 0) {
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(at.port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        for (size_t i = 0; i < count; i++)
            if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&sa, sizeof(sa)) != 0)
                exit(1);
        pause();
    }
    size_t heap = mallinfo2().uordblks;
    long rss = rss_kib();
    double used = cpu(RUSAGE_SELF);
    while (accepted < count)
        uv_run(&loop, UV_RUN_ONCE);
    used = cpu(RUSAGE_SELF) - used;
    printf("accepted %zu: heap %.1f bytes, resident %.1f bytes each; %.2f us CPU to accept one\n", count,
           (double)(mallinfo2().uordblks - heap) / (double)count,
           (double)(rss_kib() - rss) * 1024 / (double)count, used / (double)count * 1e6);
    kill(child, SIGTERM);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bench_stream naked|lowat|env MIB, bench_stream idle COUNT\n");
        return 2;
    }
    size_t amount = strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "idle") == 0) {
        idle(amount);
        return 0;
    }
    total = amount << 20;
    double start = now();
    if (strcmp(argv[1], "env") == 0)
        through_env();
    else
        naked(strcmp(argv[1], "lowat") == 0);
    double wall = now() - start, used = cpu(RUSAGE_SELF), child = cpu(RUSAGE_CHILDREN);
    printf("%s %zu MiB: %.2f Gbit/s, CPU s/GB: receive %.3f send %.3f both %.3f\n", argv[1], amount,
           (double)total * 8 / wall / 1e9, used / (double)total * 1e9, child / (double)total * 1e9,
           (used + child) / (double)total * 1e9);
    return 0;
}
