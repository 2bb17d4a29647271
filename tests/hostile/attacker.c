/* attacker - what a stranger with a TCP stack and our own cryptography can do to a node:
 *
 *   attacker MODE ADDRESS PORT PREFIX NETWORKS SECONDS COUNT [ARG]
 *
 * Every connection comes from an address of its own, in turn from NETWORKS /16 networks, the first of which PREFIX
 * names ("46.0"); 0: from one /24 of it. The addresses must be local here. Modes:
 *   half      COUNT connections that say nothing, renewed as they are closed
 *   loris     the same, with a byte of a valid handshake now and then
 *   noise tls the same, stopped where the handshake of these begins
 *   garbage   valid beginnings of every layer, then noise; one connection after another
 *   streams   COUNT connections that open streams without pause and answer nothing
 *   dead      COUNT connections that open streams for a protocol that nobody speaks
 *   unread    COUNT connections that ask for all that there is and read none of it
 *   partial   COUNT connections that stop in the middle of the largest frame
 *   fill      COUNT connections with 32 DHT streams each, all in the middle of the largest message
 *   hoard     COUNT connections with 32 DHT streams each, on which one request was answered
 *   hop       COUNT connections that want places and circuits of the relay without pause, to each other and to nobody
 *   nat       COUNT connections that have AutoNAT dial others, and say what belongs to relays and punches
 *   push      COUNT identities that push the largest identify message
 *   members   COUNT connections of as many identities that do nothing wrong but stay
 *   announce  one identity announces ARG (hex) COUNT times
 *   many      COUNT identities, from three /24 networks, announce ARG a hundred times each
 * announce, push and many end by themselves, the others go on for SECONDS. One JSON line tells what was done.
 * `kad=NAME` in the environment (KAD) names the DHT protocol. */
#include "tests/hostile/nat_words.h"
#include "transport/key.h"
#include "transport/mss.h"
#include "transport/noise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HALF_MAX     8192    /* silent connections */
#define PEERS_MAX    1024    /* connections with a finished handshake */
#define OUT_MAX      (4 * 1024 * 1024)
#define RENEWALS     1000    /* silent connections begun per second */
#define PATIENCE_MS  2000    /* for a step of a handshake, or for room to send */
#define STREAMS_KEPT 32      /* DHT streams that one connection may hold */
#define MESSAGE_MAX  (256 * 1024)
#define BATCH        100     /* announcements on one stream */

enum { DATA, WINDOW, PING, GOAWAY };
enum { SYN = 1, ACK = 2, FIN = 4, RST = 8 };

struct peer {
    int fd;
    struct wr_noise_session session;
    uint32_t next_id;
    bool stuck;          /* what it had to say is said */
    struct wr_buf out;   /* plain frames to be sealed */
};

static struct {
    const char *mode, *kad;
    struct sockaddr_in to;
    unsigned net[2], networks, sources;
    double end_at;
    unsigned count;
    uint8_t key[256];
    size_t key_len;
    struct wr_aead *aead;
    struct wr_key identity;
    uint32_t identities;
    uint64_t opened, refused, closed, frames, bytes, done;
} a;

static struct peer peers[PEERS_MAX];
static uint8_t random_bytes[65536];
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool going_on(void)
{
    return !stopped && now() < a.end_at;
}

static void nap(unsigned ms)
{
    (void)poll(NULL, 0, (int)ms);
}

/* ---- connections ---------------------------------------------------------------------------------- */

/* The n-th source address. `many` stays inside three networks of a /16. */
static uint32_t source(unsigned n)
{
    unsigned wide = a.networks ? a.networks : 1;
    unsigned second = a.net[1] + n % wide, third = n / wide % 250, fourth = n / wide / 250 % 250;
    if (strcmp(a.mode, "many") == 0 || a.networks == 0) {
        unsigned subnets = strcmp(a.mode, "many") == 0 ? 3 : 1;
        third = n % subnets;
        fourth = n / subnets % 250;
    }
    return a.net[0] << 24 | second << 16 | (third + 1) << 8 | (fourth + 1);
}

/* A socket on the next source address, connecting. */
static int start_connect(void)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    unsigned n = a.sources++;
    struct linger abort_now = {.l_onoff = 1};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    from.sin_addr.s_addr = htonl(source(n));
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_now, sizeof(abort_now));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (strcmp(a.mode, "unread") == 0) /* what the kernels would hold, the node has to */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0) {
        perror("attacker: bind");
        exit(2);
    }
    if (connect(fd, (struct sockaddr *)&a.to, sizeof(a.to)) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, PATIENCE_MS) == 1 && !(p.revents & (POLLERR | POLLNVAL));
}

static bool send_all(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!wait_for(fd, POLLOUT) || stopped)
                return false;
            continue;
        }
        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
        a.bytes += (uint64_t)n;
    }
    return true;
}

/* Takes what came in for nothing. False: the other side is gone. */
static bool drain(int fd)
{
    static uint8_t sink[65536];
    for (;;) {
        ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0)
            return true;
    }
}

/* multistream and Noise; the identity is the current one. */
static bool shake_hands(struct peer *p)
{
    static const char *const offer[] = {"/noise", NULL};
    struct wr_noise_static statics;
    uint8_t secret[WR_NOISE_STATIC], in_memory[8192];
    struct wr_mss mss;
    struct wr_buf out;
    randombytes_buf(secret, sizeof(secret));
    wr_noise_static_make(&statics, &a.identity, secret);
    struct wr_noise_config config = {.engine = a.aead,
                                     .identity = &a.identity,
                                     .static_key = &statics,
                                     .muxer = "/yamux/1.0.0"};
    randombytes_buf(config.ephemeral, sizeof(config.ephemeral));
    wr_buf_init(&out, 65536);
    memset(&mss, 0, sizeof(mss));
    wr_mss_dial(&mss, offer, &out);
    struct wr_noise *noise = wr_noise_create(&config, true, &out);
    struct wr_noise_result result;
    bool secured = false, agreed = false;
    while (!secured && send_all(p->fd, out.data, out.len) && wait_for(p->fd, POLLIN)) {
        wr_buf_reset(&out);
        ssize_t n = recv(p->fd, in_memory, sizeof(in_memory), 0);
        if (n <= 0)
            break;
        struct wr_bytes in = {in_memory, (size_t)n};
        if (!agreed)
            agreed = wr_mss_input(&mss, &in, &out) == 1;
        int rc = agreed ? wr_noise_input(noise, &in, &out, &result) : 0;
        if (rc < 0)
            break;
        secured = rc == 1 && result.muxer_agreed;
    }
    if (secured) {
        p->session = result.session;
        secured = send_all(p->fd, out.data, out.len);
    }
    wr_buf_clear(&out);
    wr_noise_destroy(noise);
    return secured;
}

static void peer_close(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    wr_buf_clear(&p->out);
}

static void next_identity(void)
{
    uint8_t seed[WR_ED25519_SEED] = {0x66, (uint8_t)a.net[1]};
    a.identities++;
    memcpy(seed + 4, &a.identities, sizeof(a.identities));
    wr_key_generate(&a.identity, seed);
}

static bool connect_tcp(struct peer *p)
{
    int error = 0;
    socklen_t len = sizeof(error);
    memset(p, 0, sizeof(*p));
    wr_buf_init(&p->out, OUT_MAX);
    p->next_id = 1;
    p->fd = start_connect();
    if (p->fd >= 0 && wait_for(p->fd, POLLOUT) &&
        getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && !error)
        return true;
    a.refused++;
    peer_close(p);
    return false;
}

static bool peer_open(struct peer *p)
{
    if (!connect_tcp(p))
        return false;
    if (shake_hands(p)) {
        a.opened++;
        return true;
    }
    a.refused++;
    peer_close(p);
    return false;
}

static void frame(struct peer *p, unsigned type, unsigned flags, uint32_t id, uint32_t len)
{
    wr_buf_put_u8(&p->out, 0);
    wr_buf_put_u8(&p->out, (uint8_t)type);
    wr_buf_put_u16be(&p->out, (uint16_t)flags);
    wr_buf_put_u32be(&p->out, id);
    wr_buf_put_u32be(&p->out, len);
    a.frames++;
}

static void data_frame(struct peer *p, unsigned flags, uint32_t id, const void *data, size_t len)
{
    frame(p, DATA, flags, id, (uint32_t)len);
    wr_buf_put(&p->out, data, len);
}

/* Seals and sends all frames. False: the connection is over. */
static bool flush(struct peer *p)
{
    static uint8_t sealed[WR_NOISE_HEADER + WR_NOISE_FRAME_MAX];
    size_t at = 0;
    bool good = !p->out.full;
    while (good && at < p->out.len) {
        size_t len = p->out.len - at < WR_NOISE_PAYLOAD_MAX ? p->out.len - at : WR_NOISE_PAYLOAD_MAX;
        memcpy(sealed + WR_NOISE_HEADER, p->out.data + at, len);
        int size = wr_noise_seal(a.aead, &p->session, sealed, len);
        good = size > 0 && send_all(p->fd, sealed, (size_t)size);
        at += len;
    }
    wr_buf_clear(&p->out);
    wr_buf_init(&p->out, OUT_MAX);
    return good;
}

/* A stream with its protocol proposed; its id. */
static uint32_t open_stream(struct peer *p, const char *protocol)
{
    struct wr_mss mss;
    const char *const offer[] = {protocol, NULL};
    struct wr_buf hello;
    uint32_t id = p->next_id;
    p->next_id += 2;
    wr_buf_init(&hello, 4096);
    memset(&mss, 0, sizeof(mss));
    wr_mss_dial(&mss, offer, &hello);
    data_frame(p, SYN, id, hello.data, hello.len);
    wr_buf_clear(&hello);
    return id;
}

/* ---- silent connections --------------------------------------------------------------------------- */

/* Each says `step` bytes of hello now and then. */
static void half_open(const char *hello, size_t step)
{
    static struct pollfd p[HALF_MAX];
    static size_t said[HALF_MAX];
    size_t len = strlen(hello);
    unsigned count = a.count < HALF_MAX ? a.count : HALF_MAX;
    double word_at = now(), start = word_at;
    uint64_t begun = 0;
    for (unsigned i = 0; i < count; i++)
        p[i].fd = -1;
    while (going_on()) {
        double at = now();
        bool speak = step && at - word_at > 0.3;
        for (unsigned i = 0; i < count; i++) {
            if (p[i].fd >= 0 && (p[i].revents & (POLLERR | POLLHUP | POLLIN)) && !drain(p[i].fd)) {
                close(p[i].fd);
                p[i].fd = -1;
                a.closed++;
            }
            if (p[i].fd < 0 && begun < count + (uint64_t)((at - start) * RENEWALS)) {
                p[i].fd = start_connect();
                begun++;
                said[i] = 0;
            }
            p[i].events = POLLIN;
            p[i].revents = 0;
            size_t part = len - said[i] < step ? len - said[i] : step;
            if (speak && p[i].fd >= 0 && part) {
                ssize_t n = send(p[i].fd, hello + said[i], part, MSG_NOSIGNAL | MSG_DONTWAIT);
                said[i] += n > 0 ? (size_t)n : 0;
            }
        }
        if (speak)
            word_at = at;
        (void)poll(p, count, 20);
    }
    a.opened = begun;
}

/* ---- garbage -------------------------------------------------------------------------------------- */

static const uint8_t mss_hello[] = "\x13/multistream/1.0.0\n";
static const char *const protocols[] = {NULL, "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0",
                                        "/perf/1.0.0"};

static size_t random_below(size_t bound)
{
    return randombytes_uniform((uint32_t)bound);
}

static bool garbage_before_noise(struct peer *p, unsigned kind)
{
    static const uint8_t noise[] = "\x13/multistream/1.0.0\n\x07/noise\n";
    static const uint8_t tls[] = "\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n";
    static const uint8_t endless[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    bool good = true;
    if (kind >= 1)
        good = kind == 5   ? send_all(p->fd, tls, sizeof(tls) - 1)
               : kind >= 3 ? send_all(p->fd, noise, sizeof(noise) - 1)
                           : send_all(p->fd, mss_hello, sizeof(mss_hello) - 1);
    if (kind == 2)
        good = good && send_all(p->fd, endless, sizeof(endless) - 1);
    if (kind == 4) {
        static const uint8_t huge[] = {0xff, 0xff};
        good = good && send_all(p->fd, huge, sizeof(huge));
    }
    return good && send_all(p->fd, random_bytes + random_below(1000), 1 + random_below(20000));
}

static bool garbage_in_noise(struct peer *p, unsigned kind)
{
    const char *protocol = protocols[random_below(sizeof(protocols) / sizeof(*protocols))];
    uint32_t id;
    if (kind == 0)
        return send_all(p->fd, random_bytes + random_below(1000), 1 + random_below(60000));
    if (kind == 1) { /* authentic, and no yamux */
        wr_buf_put(&p->out, random_bytes + random_below(1000), 1 + random_below(60000));
        return flush(p);
    }
    if (kind == 2) { /* frames with wild fields */
        for (int i = 0; i < 200; i++)
            frame(p, (unsigned)random_below(4), (unsigned)random_below(16), (uint32_t)random_below(12),
                  random_below(2) ? (uint32_t)random_below(100) : 0xffffff00u + (uint32_t)random_below(256));
        return flush(p);
    }
    if (kind == 3) { /* more data than the window */
        id = open_stream(p, protocols[1]);
        for (int i = 0; i < 12; i++)
            data_frame(p, 0, id, random_bytes, 60000);
        return flush(p);
    }
    if (kind == 4) { /* thousands of pings, unread */
        for (int i = 0; i < 5000; i++)
            frame(p, PING, SYN, 0, (uint32_t)i);
        return flush(p);
    }
    id = open_stream(p, protocol ? protocol : a.kad);
    if (kind == 6) { /* a message as long as is allowed, of nothing */
        static const uint8_t len[] = {0x80, 0x80, 0x10};
        data_frame(p, 0, id, len, sizeof(len));
    }
    for (int i = 0; i < 5; i++)
        data_frame(p, i == 4 ? FIN : 0, id, random_bytes + random_below(1000), 1 + random_below(50000));
    return flush(p);
}

static void garbage(void)
{
    while (going_on()) {
        struct peer p;
        unsigned kind = (unsigned)random_below(13);
        next_identity();
        if (kind < 6) {
            if (!connect_tcp(&p))
                continue;
            (void)garbage_before_noise(&p, kind);
            a.opened++;
        } else {
            if (!peer_open(&p))
                continue;
            (void)garbage_in_noise(&p, kind - 6);
        }
        for (double until = now() + 0.03; now() < until && drain(p.fd);)
            nap(5);
        peer_close(&p);
    }
}

/* ---- crowds with finished handshakes -------------------------------------------------------------- */

static void flood_streams(struct peer *p)
{
    for (int i = 0; i < 64; i++) {
        frame(p, WINDOW, SYN, p->next_id, 0);
        p->next_id += 2;
    }
}

/* Streams for a protocol that nobody speaks: each has to be answered and ended. */
static void dead_streams(struct peer *p)
{
    for (int i = 0; i < 64; i++)
        (void)open_stream(p, "/nobody/speaks/this/1.0.0");
}

/* Pings, identify and DHT answers by the hundred, and a measurement, which strangers do not get. */
static void ask_for_all(struct peer *p)
{
    static const uint8_t endless[8] = {0, 0, 1, 0, 0, 0, 0, 0};
    static const uint8_t closest[] = {6, 0x08, 4, 0x12, 2, 'n', 'o'};    /* FIND_NODE */
    uint32_t id = open_stream(p, "/perf/1.0.0");
    data_frame(p, FIN, id, endless, sizeof(endless));
    frame(p, WINDOW, 0, id, 16 * 1024 * 1024);
    for (int i = 0; i < 2; i++) {
        id = open_stream(p, "/ipfs/ping/1.0.0");
        for (int k = 0; k < 5; k++)
            data_frame(p, 0, id, random_bytes, 32 * 1024);
        frame(p, WINDOW, 0, id, 16 * 1024 * 1024);
    }
    for (int i = 0; i < 100; i++)
        (void)open_stream(p, "/ipfs/id/1.0.0");
    for (int i = 0; i < 8; i++) {
        id = open_stream(p, a.kad);
        for (int k = 0; k < 25; k++)
            data_frame(p, 0, id, closest, sizeof(closest));
    }
    p->stuck = true;
}

static void half_a_frame(struct peer *p)
{
    static const uint8_t huge[] = {0xff, 0xff};
    if (send_all(p->fd, huge, sizeof(huge)))
        (void)send_all(p->fd, random_bytes, 65530);
    p->stuck = true;
}

/* A DHT message of the largest size but its last bytes, on as many streams as one may hold. */
static void half_a_message(struct peer *p)
{
    static const uint8_t len[] = {0x80, 0x80, 0x10};
    for (int i = 0; i < STREAMS_KEPT; i++) {
        uint32_t id = open_stream(p, a.kad);
        size_t left = MESSAGE_MAX - 16 * 1024;
        data_frame(p, 0, id, len, sizeof(len));
        for (; left; left -= left < 60000 ? left : 60000)
            data_frame(p, 0, id, random_bytes, left < 60000 ? left : 60000);
        if (!flush(p))
            break;
    }
    p->stuck = true;
}

/* A question on each of as many DHT streams as one may hold, none of which is ended. */
static void hold_streams(struct peer *p)
{
    static const uint8_t ping[] = {2, 0x08, 5};
    for (int i = 0; i < STREAMS_KEPT; i++)
        data_frame(p, 0, open_stream(p, a.kad), ping, sizeof(ping));
    p->stuck = true;
}

static void own_id(struct wr_peerid *id);

/* The first identity of the crowd is the one whom all the others call. */
static void flood_words(struct peer *p)
{
    static struct wr_peerid first;
    static unsigned n;
    struct wr_peerid self;
    bool relay = strcmp(a.mode, "hop") == 0;
    own_id(&self);
    if (first.len == 0)
        first = self;
    for (int i = 0; i < 16; i++, n++) {
        uint8_t memory[8192];
        struct wr_buf word;
        wr_buf_over(&word, memory, sizeof(memory));
        const char *name = relay ? nat_word_to_relay(n, &self, &first, &word) : nat_word(n, &self, &word);
        data_frame(p, n % 7 ? FIN : 0, open_stream(p, name), word.data, word.len);
    }
}

static void crowd(void (*act)(struct peer *p), bool reads, bool once)
{
    unsigned count = a.count < PEERS_MAX ? a.count : PEERS_MAX;
    for (unsigned i = 0; i < count; i++)
        peers[i].fd = -1;
    while (going_on()) {
        for (unsigned i = 0; i < count && going_on(); i++) {
            struct peer *p = &peers[i];
            if (p->fd < 0) {
                next_identity();
                if (!peer_open(p)) {
                    nap(2);
                    continue;
                }
            }
            if (act && !(once && p->stuck))
                act(p);
            bool alive = flush(p);
            if (reads)
                alive = alive && drain(p->fd);
            else if (alive) {
                struct pollfd look = {.fd = p->fd, .events = 0};
                alive = poll(&look, 1, 0) == 0;
            }
            if (!alive) {
                a.closed++;
                peer_close(p);
            }
        }
        nap(10);
    }
}

/* ---- records -------------------------------------------------------------------------------------- */

static void put_provider(struct wr_buf *out, struct wr_bytes id)
{
    /* /ip4/10.66.1.1/tcp/4001 */
    const uint8_t addr[] = {4, (uint8_t)a.net[0], (uint8_t)a.net[1], 1, 1, 6, 0x0f, 0xa1};
    uint8_t memory[256];
    struct wr_buf peer;
    wr_buf_over(&peer, memory, sizeof(memory));
    wr_buf_put_u8(&peer, 0x0a);
    wr_buf_put_prefixed(&peer, id);
    wr_buf_put_u8(&peer, 0x12);
    wr_buf_put_prefixed(&peer, WR_BYTES(addr, sizeof(addr)));
    uint8_t body_memory[1024];
    struct wr_buf body;
    wr_buf_over(&body, body_memory, sizeof(body_memory));
    wr_buf_put_u8(&body, 0x08);
    wr_buf_put_u8(&body, 2);
    wr_buf_put_u8(&body, 0x12);
    wr_buf_put_prefixed(&body, WR_BYTES(a.key, a.key_len));
    wr_buf_put_u8(&body, 0x4a); /* providers, field 9 */
    wr_buf_put_prefixed(&body, wr_buf_bytes(&peer));
    wr_buf_put_prefixed(out, wr_buf_bytes(&body));
}

static void own_id(struct wr_peerid *id)
{
    struct wr_buf pubkey;
    wr_buf_init(&pubkey, 64);
    wr_key_encode_public(&a.identity, &pubkey);
    (void)wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), id);
    wr_buf_clear(&pubkey);
}

/* So many announcements on a stream of their own. False: the connection is over. */
static bool announce_batch(struct peer *p, unsigned count)
{
    struct wr_peerid id;
    struct wr_buf batch;
    own_id(&id);
    wr_buf_init(&batch, 65536);
    uint32_t stream = open_stream(p, a.kad);
    for (unsigned i = 0; i < count; i++)
        put_provider(&batch, wr_peerid_bytes(&id));
    data_frame(p, FIN, stream, batch.data, batch.len);
    wr_buf_clear(&batch);
    return flush(p);
}

static void announce(void)
{
    struct peer p = {.fd = -1};
    next_identity();
    for (unsigned sent = 0, count; sent < a.count && going_on(); sent += count) {
        count = a.count - sent < BATCH ? a.count - sent : BATCH;
        while (p.fd < 0 && going_on() && !peer_open(&p))
            nap(20);
        bool good = p.fd >= 0 && announce_batch(&p, count) && drain(p.fd);
        a.done = sent + count;
        if (!good && p.fd >= 0) {
            a.closed++;
            peer_close(&p);
        }
    }
    for (double until = now() + 0.5; p.fd >= 0 && now() < until && drain(p.fd);)
        nap(10);
    peer_close(&p);
}

/* What was sent is taken in before the end is answered: its answer is awaited. */
static void announce_many(void)
{
    while (a.done < a.count && going_on()) {
        struct peer p;
        next_identity();
        if (!peer_open(&p))
            continue;
        bool taken = announce_batch(&p, BATCH) && wait_for(p.fd, POLLIN) && shutdown(p.fd, SHUT_WR) == 0;
        while (taken && drain(p.fd) && wait_for(p.fd, POLLIN))
            ;
        a.done += taken;
        peer_close(&p);
    }
}

/* ---- identify ------------------------------------------------------------------------------------- */

static void put_field(struct wr_buf *out, uint8_t tag, const void *data, size_t len)
{
    wr_buf_put_u8(out, tag);
    wr_buf_put_prefixed(out, WR_BYTES(data, len));
}

/* All that fits into one message: agent, versions, hundreds of addresses and names. */
static void put_identify(struct wr_buf *out)
{
    struct wr_buf body, pubkey;
    char name[64];
    wr_buf_init(&body, 65536);
    wr_buf_init(&pubkey, 64);
    wr_key_encode_public(&a.identity, &pubkey);
    put_field(&body, 0x0a, pubkey.data, pubkey.len);
    for (unsigned i = 0; i < 200; i++) {
        const uint8_t addr[] = {4, 11, (uint8_t)a.identities, (uint8_t)(a.identities >> 8), (uint8_t)i, 6, 0x0f,
                                0xa1};
        put_field(&body, 0x12, addr, sizeof(addr));
    }
    for (unsigned i = 0; i < 120; i++) {
        int len = snprintf(name, sizeof(name), "/x/%u/%u/aaaaaaaaaaaaaaaa", a.identities, i);
        put_field(&body, 0x1a, name, (size_t)len);
    }
    char agent[256];
    memset(agent, 'a', sizeof(agent));
    (void)snprintf(agent, 16, "agent %u", a.identities);
    agent[strlen(agent)] = 'x';
    put_field(&body, 0x2a, agent, sizeof(agent));
    put_field(&body, 0x32, agent, sizeof(agent));
    if (body.len <= 8192)
        wr_buf_put_prefixed(out, wr_buf_bytes(&body));
    wr_buf_clear(&pubkey);
    wr_buf_clear(&body);
}

static void push_all(void)
{
    while (a.done < a.count && going_on()) {
        struct peer p;
        struct wr_buf message;
        next_identity();
        if (!peer_open(&p))
            continue;
        wr_buf_init(&message, 65536);
        put_identify(&message);
        uint32_t stream = open_stream(&p, "/ipfs/id/push/1.0.0");
        data_frame(&p, FIN, stream, message.data, message.len);
        wr_buf_clear(&message);
        if (flush(&p))
            a.done += wait_for(p.fd, POLLIN);
        peer_close(&p);
    }
}

/* ---- program -------------------------------------------------------------------------------------- */

static bool run(void)
{
    const char *m = a.mode;
    if (strcmp(m, "half") == 0)
        half_open("", 0);
    else if (strcmp(m, "loris") == 0)
        half_open("\x13/multistream/1.0.0\n\x07/nois", 1);
    else if (strcmp(m, "noise") == 0)
        half_open("\x13/multistream/1.0.0\n\x07/noise\n", 64);
    else if (strcmp(m, "tls") == 0)
        half_open("\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n\x16\x03\x01\x02", 64);
    else if (strcmp(m, "garbage") == 0)
        garbage();
    else if (strcmp(m, "streams") == 0)
        crowd(flood_streams, true, false);
    else if (strcmp(m, "dead") == 0)
        crowd(dead_streams, true, false);
    else if (strcmp(m, "unread") == 0)
        crowd(ask_for_all, false, true);
    else if (strcmp(m, "partial") == 0)
        crowd(half_a_frame, true, true);
    else if (strcmp(m, "fill") == 0)
        crowd(half_a_message, true, true);
    else if (strcmp(m, "hoard") == 0)
        crowd(hold_streams, true, true);
    else if (strcmp(m, "members") == 0)
        crowd(NULL, true, true);
    else if (strcmp(m, "hop") == 0 || strcmp(m, "nat") == 0)
        crowd(flood_words, true, false);
    else if (strcmp(m, "push") == 0)
        push_all();
    else if (strcmp(m, "announce") == 0)
        announce();
    else if (strcmp(m, "many") == 0)
        announce_many();
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 8 || sodium_init() < 0)
        return 2;
    a.mode = argv[1];
    a.kad = getenv("KAD") ? getenv("KAD") : "/ipfs/kad/1.0.0";
    a.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    if (inet_pton(AF_INET, argv[2], &a.to.sin_addr) != 1 ||
        sscanf(argv[4], "%u.%u", &a.net[0], &a.net[1]) != 2)
        return 2;
    a.networks = (unsigned)atoi(argv[5]);
    a.end_at = now() + atof(argv[6]);
    a.count = (unsigned)atoi(argv[7]);
    if (argc > 8 &&
        sodium_hex2bin(a.key, sizeof(a.key), argv[8], strlen(argv[8]), NULL, &a.key_len, NULL) != 0)
        return 2;
    a.sources = randombytes_uniform(50000);
    a.identities = randombytes_random() & 0xffffff;
    a.aead = wr_aead_create();
    randombytes_buf(random_bytes, sizeof(random_bytes));
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!run())
        return 2;
    (void)printf("{\"opened\":%llu,\"done\":%llu,\"refused\":%llu,\"closed\":%llu,\"frames\":%llu,"
                 "\"bytes\":%llu}\n",
                 (unsigned long long)a.opened, (unsigned long long)a.done, (unsigned long long)a.refused,
                 (unsigned long long)a.closed, (unsigned long long)a.frames, (unsigned long long)a.bytes);
    return 0;
}
