/* quic_flood - datagrams of strangers to a QUIC socket:
 *
 *   quic_flood MODE ADDRESS PORT BLOCK SECONDS RATE FRAMES
 *
 * RATE datagrams a second, each from another address of BLOCK ("46.0.0.0/9", local here), for SECONDS. Modes:
 *   hello     first packets of good clients (their frames: file FRAMES), with ids of their own
 *   token     the same, with a token that looks like one of a Retry
 *   junk      first packets that do not decrypt
 *   short     packets of connections that are not there
 *   version   first packets of a version that nobody speaks
 *   odd       empty datagrams, short ones, others that begin in every way
 * One JSON line at the end: datagrams and bytes sent, and bytes of answers. */
#include "tests/hostile/quic_initial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define POOL  2048    /* datagrams made before it begins */
#define BATCH 32      /* of one call */

struct datagram {
    uint8_t data[QUIC_INITIAL_MAX];
    size_t len;
};

static struct datagram pool[POOL];
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_first(struct datagram *d, const char *mode, const uint8_t *frames, size_t len)
{
    uint8_t token[63];
    struct quic_initial_packet p = {.frames = frames, .frames_len = len, .least = 1200, .token = token};
    randombytes_buf(p.dcid, sizeof(p.dcid));
    randombytes_buf(p.scid, sizeof(p.scid));
    randombytes_buf(token, sizeof(token));
    token[0] = 0xb6;    /* NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY */
    p.token_len = strcmp(mode, "token") == 0 ? sizeof(token) : 0;
    d->len = quic_initial_seal(d->data, &p);
    if (strcmp(mode, "junk") == 0)
        randombytes_buf(d->data + 60, d->len - 60);
    if (strcmp(mode, "version") == 0)
        memset(d->data + 1, 0x1a, 4);
}

static void make_odd(struct datagram *d, size_t i)
{
    static const size_t sizes[] = {0, 1, 2, 5, 6, 20, 21, 41, 100, 1199, 1200, 1452};
    d->len = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
    randombytes_buf(d->data, d->len);
    if (i & 1 && d->len)
        d->data[0] &= 0x3f;    /* neither a long header nor the fixed bit */
}

static void make_pool(const char *mode, const uint8_t *frames, size_t len)
{
    for (size_t i = 0; i < POOL; i++) {
        struct datagram *d = &pool[i];
        if (strcmp(mode, "odd") == 0) {
            make_odd(d, i);
        } else if (strcmp(mode, "short") == 0) {
            d->len = 22 + i % 60;
            randombytes_buf(d->data, d->len);
            d->data[0] = (uint8_t)(0x40 | (d->data[0] & 0x3f));
        } else {
            make_first(d, mode, frames, len);
        }
    }
}

/* BATCH datagrams of the pool, from as many addresses. */
static size_t send_batch(int fd, const struct sockaddr_in *to, uint32_t block, unsigned bits, size_t *next,
                         uint64_t *bytes)
{
    struct mmsghdr messages[BATCH];
    struct iovec vecs[BATCH];
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } control[BATCH];
    memset(messages, 0, sizeof(messages));
    memset(control, 0, sizeof(control));
    for (size_t i = 0; i < BATCH; i++) {
        struct datagram *d = &pool[(*next)++ % POOL];
        struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(block | (randombytes_random() >> bits))};
        vecs[i] = (struct iovec){d->data, d->len};
        control[i].head = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(&control[i].head), &info, sizeof(info));
        messages[i].msg_hdr = (struct msghdr){.msg_name = (void *)(uintptr_t)to,
                                              .msg_namelen = sizeof(*to),
                                              .msg_iov = &vecs[i],
                                              .msg_iovlen = 1,
                                              .msg_control = &control[i],
                                              .msg_controllen = sizeof(control[i])};
        *bytes += d->len;
    }
    int n = sendmmsg(fd, messages, BATCH, 0);
    return n > 0 ? (size_t)n : 0;
}

static uint64_t drain(int fd)
{
    uint8_t data[2048];
    uint64_t bytes = 0;
    for (ssize_t n; (n = recv(fd, data, sizeof(data), MSG_DONTWAIT)) >= 0;)
        bytes += (uint64_t)n;
    return bytes;
}

int main(int argc, char **argv)
{
    uint8_t frames[QUIC_INITIAL_MAX];
    struct sockaddr_in to = {.sin_family = AF_INET}, any = {.sin_family = AF_INET};
    struct in_addr block;
    char *slash = argc == 8 ? strchr(argv[4], '/') : NULL;
    FILE *f = argc == 8 ? fopen(argv[7], "rb") : NULL;
    if (!slash || !f || sodium_init() < 0) {
        fputs("usage: quic_flood MODE ADDRESS PORT BLOCK SECONDS RATE FRAMES\n", stderr);
        return 2;
    }
    size_t frames_len = fread(frames, 1, sizeof(frames), f);
    fclose(f);
    *slash = 0;
    unsigned bits = (unsigned)atoi(slash + 1);
    inet_pton(AF_INET, argv[4], &block);
    inet_pton(AF_INET, argv[2], &to.sin_addr);
    to.sin_port = htons((uint16_t)atoi(argv[3]));
    double seconds = atof(argv[5]), rate = atof(argv[6]);
    signal(SIGTERM, on_signal);
    make_pool(argv[1], frames, frames_len);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), large = 8 * 1024 * 1024;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) != 0)
        return 1;
    uint64_t sent = 0, bytes = 0, heard = 0;
    size_t next = 0;
    double begun = now();
    while (!stopped && now() - begun < seconds) {
        if ((double)sent < (now() - begun) * rate) {
            sent += send_batch(fd, &to, ntohl(block.s_addr), bits, &next, &bytes);
        } else {
            struct timespec pause = {.tv_nsec = 500000};
            nanosleep(&pause, NULL);
        }
        heard += drain(fd);
    }
    printf("{\"sent\": %llu, \"rate\": %.0f, \"bytes\": %llu, \"answers\": %llu}\n", (unsigned long long)sent,
           (double)sent / (now() - begun), (unsigned long long)bytes, (unsigned long long)heard);
    return 0;
}
