/* naked.c - the yardsticks beside the peers: what the sockets and the cryptography of a task cost without a
 * muxer, an event loop or a protocol. Two processes over loopback TCP, one JSON line on standard output:
 *   naked [-c CORE,CORE] pipe BYTES           sealed frames of one Noise message each, one way
 *   naked [-c CORE,CORE] aespipe BYTES        the same with AES-128-GCM and records of 16 KiB, as in TLS
 *   naked [-c CORE,CORE] tlspipe BYTES        the record layer of GnuTLS with that cipher
 *   naked [-c CORE,CORE] udppipe BYTES        packets of 1,350 bytes with that cipher of GnuTLS, 40 in a system call
 *   naked [-c CORE,CORE] udpfast BYTES        the same with the fastest library there is
 *   naked [-c CORE,CORE] pingpong COUNT A B   sealed messages of A bytes, answered by B bytes
 *   naked [-c CORE,CORE] udpping COUNT A B    the same over UDP
 *   naked [-c CORE,CORE] conns COUNT          connect, the operations of a Noise XX handshake, a byte each way
 *   naked [-c CORE,CORE] tlsconns COUNT       connect, handshake of GnuTLS with two certificates, a byte each way
 *   naked [-c CORE,CORE] relay BYTES          as pipe, through a process that opens each frame and seals it anew
 *   naked [-c CORE,CORE] relayping COUNT A B  as pingpong, through such a process
 *   aesrelay, aespingpong, aesrelayping: the same with the cipher and the records of aespipe
 *   naked init DIRECTORY                      only sets up the libraries that the node uses, then waits
 * The first core is the client's, a relay runs on the second. CPU time is that of each process between the first and
 * the last byte. */
#include "naked.h"

#include <ares.h>
#include <inttypes.h>
#include <lmdb.h>
#include <netinet/tcp.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <openssl/sha.h>
#include <poll.h>
#include <sched.h>
#include <secp256k1.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define NOISE_BODY  65519                        /* bytes of one message; 65535 less the tag */
#define FRAME       (2 + NOISE_BODY + WR_AEAD_TAG)
#define RECORD_BODY 16384                        /* of one TLS record */
#define RECORDS     4                            /* sealed before one write */
#define FRAMES_FIRST 64                          /* frames before the clock starts */
#define HASHES      26                           /* SHA-256 of 64 to 200 bytes in one side of a handshake */

static struct wr_aead *engine;
static uint8_t key[WR_AEAD_KEY] = {1};
static size_t body = NOISE_BODY, batch = 1;    /* of a pipe's frames; how many are written at once */
static bool tls;                               /* the handshakes are those of GnuTLS */
static int64_t cpu_begun, wall_begun, pings_p50, pings_p99;

int64_t naked_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void naked_clock_start(void)
{
    cpu_begun = naked_clock(CLOCK_PROCESS_CPUTIME_ID);
    wall_begun = naked_clock(CLOCK_MONOTONIC);
}

bool naked_write(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

bool naked_read(int fd, uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, data, len);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

void naked_nonce(uint8_t nonce[static WR_AEAD_NONCE], uint64_t n)
{
    memset(nonce, 0, WR_AEAD_NONCE);
    memcpy(nonce + 4, &n, sizeof(n));
}

/* frame has room for the length and the tag around len bytes at frame + 2. */
static bool seal(uint8_t *frame, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE];
    naked_nonce(nonce, n);
    size_t sealed = len + WR_AEAD_TAG;
    frame[0] = (uint8_t)(sealed >> 8);
    frame[1] = (uint8_t)sealed;
    return wr_aead_seal(engine, key, nonce, (struct wr_bytes){0}, frame + 2, len, frame + 2) == 0;
}

static bool open_frame(uint8_t *frame, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE];
    naked_nonce(nonce, n);
    return wr_aead_open(engine, key, nonce, (struct wr_bytes){0}, frame + 2, len + WR_AEAD_TAG, frame + 2) == 0;
}

static bool seal_write(int fd, uint8_t *frame, size_t len, uint64_t n)
{
    return seal(frame, len, n) && naked_write(fd, frame, 2 + len + WR_AEAD_TAG);
}

static bool read_open(int fd, uint8_t *frame, size_t len, uint64_t n)
{
    return naked_read(fd, frame, 2 + len + WR_AEAD_TAG) && open_frame(frame, len, n);
}

/* ---- pipe ------------------------------------------------------------------------------------------- */

static bool pipe_send(int fd, const size_t *amounts)
{
    static uint8_t frames[FRAME > RECORDS * (RECORD_BODY + 2 + WR_AEAD_TAG) ? FRAME
                                                                           : RECORDS * (RECORD_BODY + 2 + WR_AEAD_TAG)];
    size_t count = FRAMES_FIRST + amounts[0] / body + 1, frame = 2 + body + WR_AEAD_TAG;
    for (size_t i = 0; i < count; i += batch) {
        size_t some = count - i < batch ? count - i : batch;
        if (i == FRAMES_FIRST)
            naked_clock_start();
        for (size_t k = 0; k < some; k++)
            if (!seal(frames + k * frame, body, i + k))
                return false;
        if (!naked_write(fd, frames, some * frame))
            return false;
    }
    shutdown(fd, SHUT_WR);
    return read(fd, frames, 1) == 0;
}

/* Reads as much as there is, up to four frames, as a program would that has a buffer of that size. */
static bool pipe_receive(int fd, const size_t *amounts)
{
    static uint8_t buf[4 * FRAME];
    size_t have = 0, count = FRAMES_FIRST + amounts[0] / body + 1, frame = 2 + body + WR_AEAD_TAG;
    for (uint64_t seen = 0; seen < count;) {
        ssize_t n = read(fd, buf + have, sizeof(buf) - have);
        if (n <= 0)
            return false;
        have += (size_t)n;
        size_t at = 0;
        for (; have - at >= frame && seen < count; at += frame) {
            if (!open_frame(buf + at, body, seen))
                return false;
            if (++seen == FRAMES_FIRST)
                naked_clock_start();
        }
        memmove(buf, buf + at, have - at);
        have -= at;
    }
    return true;
}

/* ---- ping-pong -------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void naked_times(int64_t *times, size_t count)
{
    qsort(times, count, sizeof(*times), by_size);
    pings_p50 = times[count / 2];
    pings_p99 = times[count * 99 / 100];
}

static bool ping_ask(int fd, const size_t *amounts)
{
    static uint8_t frame[FRAME];
    size_t count = amounts[0];
    int64_t *times = calloc(count, sizeof(*times));
    bool ok = times != NULL;
    for (size_t i = 0; ok && i < count + NAKED_FIRST; i++) {
        if (i == NAKED_FIRST)
            naked_clock_start();
        int64_t begun = naked_clock(CLOCK_MONOTONIC);
        ok = seal_write(fd, frame, amounts[1], i) && read_open(fd, frame, amounts[2], i);
        if (i >= NAKED_FIRST)
            times[i - NAKED_FIRST] = naked_clock(CLOCK_MONOTONIC) - begun;
    }
    if (ok)
        naked_times(times, count);
    free(times);
    return ok;
}

static bool ping_answer(int fd, const size_t *amounts)
{
    static uint8_t frame[FRAME];
    for (size_t i = 0; i < amounts[0] + NAKED_FIRST; i++) {
        if (i == NAKED_FIRST)
            naked_clock_start();
        if (!read_open(fd, frame, amounts[1], i) || !seal_write(fd, frame, amounts[2], i))
            return false;
    }
    return true;
}

/* ---- connections ------------------------------------------------------------------------------------ */

/* All that one side of Noise XX computes: an ephemeral key, three agreements, the hashes of four HKDFs and of
 * the transcript, four short seals and opens, one identity verified. */
static bool handshake_work(void)
{
    static uint8_t identity[32], secret_identity[64], signature[64];
    static bool signed_once;
    uint8_t secret[32], public[32], shared[32], block[160] = {0}, nonce[WR_AEAD_NONCE];
    if (!signed_once) {
        crypto_sign_keypair(identity, secret_identity);
        crypto_sign_detached(signature, NULL, block, 56, secret_identity);
        signed_once = true;
    }
    crypto_kx_keypair(public, secret);
    for (int i = 0; i < 3; i++)
        if (crypto_scalarmult(shared, secret, public) != 0)
            return false;
    for (int i = 0; i < HASHES; i++)
        SHA256(block, i % 2 ? 64 : 136, shared);
    for (uint64_t i = 0; i < 4; i++) {
        uint8_t sealed[sizeof(block) + WR_AEAD_TAG];
        naked_nonce(nonce, i);
        if (wr_aead_seal(engine, shared, nonce, (struct wr_bytes){0}, block, 120, sealed) != 0)
            return false;
    }
    memset(block, 0, sizeof(block));
    return crypto_sign_verify_detached(signature, block, 56, identity) == 0;
}

int naked_socket(struct sockaddr_in *sa, uint16_t port)
{
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    sa->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static bool conn_ask(uint16_t port)
{
    static uint8_t buf[512];
    struct sockaddr_in sa;
    struct linger now = {.l_onoff = 1};
    int fd = naked_socket(&sa, port);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    bool ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
    if (tls)
        ok = ok && naked_tls_handshake(fd, true);
    else
        ok = ok && naked_write(fd, buf, 60) && naked_read(fd, buf, 260) && handshake_work() &&
             naked_write(fd, buf, 300) && naked_read(fd, buf, 60);
    close(fd);
    return ok;
}

static bool conn_answer(int listener)
{
    static uint8_t buf[512];
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd < 0)
        return false;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bool ok = tls ? naked_tls_handshake(fd, false)
                  : naked_read(fd, buf, 60) && handshake_work() && naked_write(fd, buf, 260) &&
                        naked_read(fd, buf, 300) && naked_write(fd, buf, 60);
    ok = ok && read(fd, buf, 1) <= 0;
    close(fd);
    return ok;
}

static bool conns(size_t count, int listener, uint16_t port)
{
    for (size_t i = 0; i < count + NAKED_FIRST; i++) {
        if (i == NAKED_FIRST)
            naked_clock_start();
        if (listener >= 0 ? !conn_answer(listener) : !conn_ask(port))
            return false;
    }
    return true;
}

/* ---- a relay ---------------------------------------------------------------------------------------- */

struct way {
    int from, to;
    uint64_t seen;
    size_t have;
    bool ended;
    uint8_t buf[4 * FRAME];
};

/* Reads what there is, opens and seals each whole frame in place, writes them at once. */
static bool relay_some(struct way *w)
{
    ssize_t n = read(w->from, w->buf + w->have, sizeof(w->buf) - w->have);
    if (n <= 0) {
        w->ended = true;
        shutdown(w->to, SHUT_WR);
        return n == 0;
    }
    w->have += (size_t)n;
    size_t at = 0;
    while (w->have - at > 2) {
        size_t len = (size_t)w->buf[at] << 8 | w->buf[at + 1];
        if (len < WR_AEAD_TAG || w->have - at < 2 + len)
            break;
        if (!open_frame(w->buf + at, len - WR_AEAD_TAG, w->seen) || !seal(w->buf + at, len - WR_AEAD_TAG, w->seen))
            return false;
        if (++w->seen == NAKED_FIRST)
            naked_clock_start();
        at += 2 + len;
    }
    if (!naked_write(w->to, w->buf, at))
        return false;
    memmove(w->buf, w->buf + at, w->have - at);
    w->have -= at;
    return true;
}

static bool relay_between(int a, int b)
{
    static struct way ways[2];
    ways[0].from = ways[1].to = a;
    ways[0].to = ways[1].from = b;
    while (!ways[0].ended || !ways[1].ended) {
        struct pollfd fds[2] = {{.fd = ways[0].ended ? -1 : a, .events = POLLIN},
                                {.fd = ways[1].ended ? -1 : b, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            return false;
        for (int i = 0; i < 2; i++)
            if (fds[i].revents && !relay_some(&ways[i]))
                return false;
    }
    return true;
}

/* ---- the processes ---------------------------------------------------------------------------------- */

struct task {
    naked_side asks, answers;    /* both NULL: connections, which make sockets of their own */
    bool relayed;
    size_t amounts[3];
    int cores[2];
};

static void stay_on(int core)
{
    cpu_set_t set;
    if (core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static int listen_any(uint16_t *port)
{
    struct sockaddr_in sa;
    socklen_t sa_len = sizeof(sa);
    int fd = naked_socket(&sa, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &sa_len) != 0)
        return -1;
    *port = ntohs(sa.sin_port);
    return fd;
}

static int accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in sa;
    int fd = naked_socket(&sa, port);
    return fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? fd : -1;
}

static int64_t used_ns(void)
{
    return naked_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun;
}

/* The end of a child: what it used goes to the parent. */
static _Noreturn void report(bool ok, int to)
{
    int64_t used = used_ns();
    _exit(ok && write(to, &used, sizeof(used)) == sizeof(used) ? 0 : 1);
}

static bool answer(const struct task *t, int listener)
{
    if (!t->answers)
        return conns(t->amounts[0], listener, 0);
    int fd = accept_one(listener);
    return fd >= 0 && t->answers(fd, t->amounts);
}

static bool ask(const struct task *t, uint16_t port)
{
    if (!t->asks)
        return conns(t->amounts[0], -1, port);
    int fd = connect_to(port);
    bool ok = fd >= 0 && t->asks(fd, t->amounts);
    if (fd >= 0)
        close(fd);    /* which ends a relay */
    return ok;
}

/* A child's figure; false when it failed. */
static bool await(pid_t child, int from, bool kill_it, int64_t *used)
{
    int status = 1;
    if (kill_it)
        kill(child, SIGKILL);
    bool ok = read(from, used, sizeof(*used)) == sizeof(*used);
    return waitpid(child, &status, 0) == child && status == 0 && ok;
}

static int run(const struct task *t)
{
    uint16_t port, first;
    int listener = listen_any(&port), before = listen_any(&first), results[2], relayed[2];
    if (listener < 0 || before < 0 || pipe(results) != 0 || pipe(relayed) != 0)
        return 1;
    fflush(stdout);
    pid_t child = fork(), relay = 0;
    if (child == 0) {
        stay_on(t->relayed ? t->cores[0] : t->cores[1]);
        report(answer(t, listener), results[1]);
    }
    if (child > 0 && t->relayed && (relay = fork()) == 0) {
        stay_on(t->cores[1]);
        int b = connect_to(port), a = accept_one(before);
        report(a >= 0 && b >= 0 && relay_between(a, b), relayed[1]);
    }
    if (child < 0 || relay < 0)
        return 1;
    close(results[1]);
    close(relayed[1]);
    stay_on(t->cores[0]);
    bool ok = ask(t, t->relayed ? first : port);
    int64_t used = used_ns(), theirs = 0, between = 0, wall = naked_clock(CLOCK_MONOTONIC) - wall_begun;
    bool relay_ok = !relay || await(relay, relayed[0], !ok, &between);
    if (!await(child, results[0], !ok, &theirs) || !relay_ok || !ok)
        return 1;
    printf("{\"client_ns\":%" PRId64 ",\"server_ns\":%" PRId64 ",\"relay_ns\":%" PRId64 ",\"wall_ns\":%" PRId64
           ",\"p50_ns\":%" PRId64 ",\"p99_ns\":%" PRId64 "}\n",
           used, theirs, between, wall, pings_p50, pings_p99);
    return 0;
}

/* ---- libraries only --------------------------------------------------------------------------------- */

static int init_only(const char *directory)
{
    MDB_env *db;
    MDB_txn *txn;
    MDB_dbi dbi;
    uv_loop_t loop;
    ares_channel channel;
    uint8_t secret[32] = {2};
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
    ngtcp2_cid cid = {.datalen = 8};
    secp256k1_pubkey public;
    secp256k1_context *ctx = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    bool ok = ctx && secp256k1_ec_pubkey_create(ctx, &public, secret) && ares_library_init(ARES_LIB_INIT_ALL) == 0 &&
              ares_init_options(&channel, NULL, 0) == 0 && uv_loop_init(&loop) == 0 && handshake_work() && naked_tls_init() &&
              ngtcp2_crypto_generate_stateless_reset_token(token, secret, sizeof(secret), &cid) == 0 && mdb_env_create(&db) == 0 &&
              mdb_env_open(db, directory, 0, 0600) == 0 && mdb_txn_begin(db, NULL, 0, &txn) == 0 &&
              mdb_dbi_open(txn, NULL, 0, &dbi) == 0 && mdb_txn_commit(txn) == 0;
    if (!ok)
        return 1;
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    return 0;
}

static const struct kind {
    const char *name;
    naked_side asks, answers;
    bool relayed, aes, tls, fast;
} kinds[] = {
    {.name = "pipe", .asks = pipe_send, .answers = pipe_receive},
    {.name = "aespipe", .asks = pipe_send, .answers = pipe_receive, .aes = true},
    {.name = "tlspipe", .asks = naked_tls_send, .answers = naked_tls_receive, .tls = true},
    {.name = "udppipe", .asks = naked_udp_send, .answers = naked_udp_receive},
    {.name = "udpfast", .asks = naked_udp_send, .answers = naked_udp_receive, .fast = true},
    {.name = "pingpong", .asks = ping_ask, .answers = ping_answer},
    {.name = "udpping", .asks = naked_udp_ask, .answers = naked_udp_answer},
    {.name = "conns"},
    {.name = "tlsconns", .tls = true},
    {.name = "relay", .asks = pipe_send, .answers = pipe_receive, .relayed = true},
    {.name = "relayping", .asks = ping_ask, .answers = ping_answer, .relayed = true},
    {.name = "aesrelay", .asks = pipe_send, .answers = pipe_receive, .relayed = true, .aes = true},
    {.name = "aespingpong", .asks = ping_ask, .answers = ping_answer, .aes = true},
    {.name = "aesrelayping", .asks = ping_ask, .answers = ping_answer, .relayed = true, .aes = true},
};

static bool set_up(const struct kind *kind, struct task *task)
{
    task->asks = kind->asks;
    task->answers = kind->answers;
    task->relayed = kind->relayed;
    tls = kind->tls;
    naked_udp_fast = kind->fast;
    if (kind->aes) {
        body = RECORD_BODY;
        batch = RECORDS;
    }
    engine = kind->aes ? wr_aead_create_cipher(WR_AEAD_AES128) : wr_aead_create();
    return engine && sodium_init() >= 0 && (!tls || naked_tls_init());
}

int main(int argc, char **argv)
{
    struct task task = {.cores = {-1, -1}};
    if (argc > 2 && strcmp(argv[1], "-c") == 0) {
        if (sscanf(argv[2], "%d,%d", &task.cores[0], &task.cores[1]) != 2)
            return 2;
        argc -= 2;
        argv += 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc > 2 && strcmp(argv[1], "init") == 0)
        return set_up(&kinds[0], &task) ? init_only(argv[2]) : 2;
    for (int i = 2; i < argc && i < 5; i++)
        task.amounts[i - 2] = strtoull(argv[i], NULL, 10);
    bool sized = task.amounts[0] > 0 && task.amounts[1] < NOISE_BODY && task.amounts[2] < NOISE_BODY;
    for (size_t i = 0; argc > 2 && sized && i < sizeof(kinds) / sizeof(*kinds); i++)
        if (strcmp(argv[1], kinds[i].name) == 0)
            return set_up(&kinds[i], &task) ? run(&task) : 2;
    fprintf(stderr, "naked: see the top of naked.c\n");
    return 2;
}
