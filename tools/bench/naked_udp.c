/* What a QUIC of no protocol would cost: sealed packets over UDP with segmentation and receive
 * offload. */
#include "naked.h"

#include <gnutls/crypto.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET     1350 /* bytes of a datagram, as the peers' */
#define HEADER     13   /* bytes before the sealed part: flags, id, number */
#define BODY       (PACKET - HEADER - WR_AEAD_TAG)
#define BATCH      40          /* packets in one system call */
#define WINDOW     (4 * BATCH) /* packets on the way; loopback loses none of these */
#define BUFFER     (4 << 20)   /* bytes, both socket buffers */
#define PATIENCE_S 5           /* a packet was lost: no figure */
#define FIRST      4096        /* packets before the clock starts */

/* A UDP socket connected to the other end's. */
static int udp_open(int fd)
{
    struct sockaddr_in mine = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                       theirs = mine;
    socklen_t len = sizeof(mine);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = BUFFER;
    if (udp < 0 || bind(udp, (struct sockaddr *)&mine, sizeof(mine)) != 0 ||
        getsockname(udp, (struct sockaddr *)&mine, &len) != 0)
        return -1;
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(udp, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (!naked_write(fd, (const uint8_t *)&mine.sin_port, sizeof(mine.sin_port)) ||
        !naked_read(fd, (uint8_t *)&theirs.sin_port, sizeof(theirs.sin_port)) ||
        connect(udp, (struct sockaddr *)&theirs, sizeof(theirs)) != 0)
        return -1;
    return udp;
}

bool naked_udp_fast;

/* GnuTLS, or what warren has for packets where that works. */
struct engine {
    gnutls_aead_cipher_hd_t gnutls;
    struct wr_aead *fast;
};

static const uint8_t key[WR_AEAD_KEY] = {2};

static bool engine_init(struct engine *e)
{
    gnutls_datum_t datum = {(unsigned char *)(uintptr_t)key, 16};
    *e = (struct engine){0};
    if (naked_udp_fast)
        return (e->fast = wr_aead_create_with(WR_AEAD_FAST_AES, WR_AEAD_AES128)) != NULL;
    return gnutls_aead_cipher_init(&e->gnutls, GNUTLS_CIPHER_AES_128_GCM, &datum) == 0;
}

static void engine_clear(struct engine *e)
{
    wr_aead_destroy(e->fast);
    if (e->gnutls)
        gnutls_aead_cipher_deinit(e->gnutls);
}

static bool seal(const struct engine *e, uint8_t *packet, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE], *body = packet + HEADER;
    naked_nonce(nonce, n);
    memcpy(body - sizeof(n), &n, sizeof(n));
    size_t sealed = len + WR_AEAD_TAG;
    if (e->fast)
        return wr_aead_seal(e->fast, key, nonce, WR_BYTES(packet, HEADER), body, len, body) == 0;
    return gnutls_aead_cipher_encrypt(e->gnutls, nonce, sizeof(nonce), packet, HEADER, WR_AEAD_TAG, body, len, body,
                                      &sealed) == 0;
}

static bool open_packet(const struct engine *e, uint8_t *packet, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE], *body = packet + HEADER;
    naked_nonce(nonce, n);
    size_t opened = len;
    if (len <= HEADER + WR_AEAD_TAG)
        return false;
    if (e->fast)
        return wr_aead_open(e->fast, key, nonce, WR_BYTES(packet, HEADER), body, len - HEADER, body) == 0;
    return gnutls_aead_cipher_decrypt(e->gnutls, nonce, sizeof(nonce), packet, HEADER, WR_AEAD_TAG, body, len - HEADER,
                                      body, &opened) == 0;
}

/* Packets, whole batches of them. */
static uint64_t total_of(size_t bytes)
{
    return ((FIRST + bytes / BODY) / BATCH + 1) * BATCH;
}

/* Waits until at most WINDOW packets are unanswered. */
static bool wait_room(int udp, uint64_t sent, uint64_t *answered)
{
    while (sent + BATCH - *answered > WINDOW)
        if (recv(udp, answered, sizeof(*answered), 0) != sizeof(*answered))
            return false;
    return true;
}

bool naked_udp_send(int fd, const size_t *amounts)
{
    static uint8_t batch[BATCH * PACKET];
    struct engine engine;
    uint64_t sent = 0, answered = 0, total = total_of(amounts[0]);
    int udp = udp_open(fd), segment = PACKET;
    bool ok =
        engine_init(&engine) && udp >= 0 && setsockopt(udp, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0;
    bool counted = false;
    while (ok && sent < total) {
        if (!counted && sent >= FIRST) {
            naked_clock_start();
            counted = true;
        }
        for (size_t i = 0; ok && i < BATCH; i++)
            ok = seal(&engine, batch + i * PACKET, BODY, sent + i);
        ok = ok && wait_room(udp, sent, &answered) &&
             send(udp, batch, sizeof(batch), 0) == sizeof(batch);
        sent += BATCH;
    }
    while (ok && answered < total)
        ok = recv(udp, &answered, sizeof(answered), 0) == sizeof(answered);
    if (udp >= 0)
        close(udp);
    engine_clear(&engine);
    return ok;
}

bool naked_udp_receive(int fd, const size_t *amounts)
{
    static uint8_t buf[1 << 16];
    struct engine engine;
    uint64_t seen = 0, told = 0, total = total_of(amounts[0]);
    int udp = udp_open(fd), on = 1;
    bool ok = engine_init(&engine) && udp >= 0 && setsockopt(udp, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0,
         counted = false;
    while (ok && seen < total) {
        ssize_t n = recv(udp, buf, sizeof(buf), 0);
        ok = n > 0;
        for (ssize_t at = 0; ok && at < n; at += PACKET)
            ok = open_packet(&engine, buf + at, n - at < PACKET ? (size_t)(n - at) : PACKET, seen++);
        if (ok && (seen - told >= BATCH || seen == total)) {
            told = seen;
            ok = send(udp, &seen, sizeof(seen), 0) == sizeof(seen);
        }
        if (!counted && seen >= FIRST) {
            naked_clock_start();
            counted = true;
        }
    }
    if (udp >= 0)
        close(udp);
    engine_clear(&engine);
    return ok;
}

/* ---- ping-pong */

static bool pong(int udp, const struct engine *engine, uint64_t n, size_t out, bool first)
{
    static uint8_t packet[1 << 16];
    for (int half = 0; half < 2; half++) {
        if ((half == 0) == first) {
            size_t len = HEADER + out + WR_AEAD_TAG;
            if (!seal(engine, packet, out, n) || send(udp, packet, len, 0) != (ssize_t)len)
                return false;
        } else {
            ssize_t len = recv(udp, packet, sizeof(packet), 0);
            if (len <= 0 || !open_packet(engine, packet, (size_t)len, n))
                return false;
        }
    }
    return true;
}

static bool ping(int fd, const size_t *amounts, size_t out, bool first)
{
    struct engine engine;
    int64_t *times = calloc(amounts[0], sizeof(*times));
    int udp = udp_open(fd);
    bool ok = engine_init(&engine) && times && udp >= 0;
    for (size_t i = 0; ok && i < amounts[0] + NAKED_FIRST; i++) {
        if (i == NAKED_FIRST)
            naked_clock_start();
        int64_t begun = naked_clock(CLOCK_MONOTONIC);
        ok = pong(udp, &engine, i, out, first);
        if (i >= NAKED_FIRST)
            times[i - NAKED_FIRST] = naked_clock(CLOCK_MONOTONIC) - begun;
    }
    if (ok && first)
        naked_times(times, amounts[0]);
    if (udp >= 0)
        close(udp);
    free(times);
    engine_clear(&engine);
    return ok;
}

bool naked_udp_ask(int fd, const size_t *amounts)
{
    return ping(fd, amounts, amounts[1], true);
}

bool naked_udp_answer(int fd, const size_t *amounts)
{
    return ping(fd, amounts, amounts[2], false);
}
