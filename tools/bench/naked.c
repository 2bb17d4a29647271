/* naked.c - the yardsticks beside the peers: what the sockets and the cryptography of a task cost without a
 * muxer, an event loop or a protocol. Two processes over loopback TCP, one JSON line on standard output:
 *   naked [-c CORE,CORE] pipe BYTES           sealed frames of one Noise message each, one way
 *   naked [-c CORE,CORE] pingpong COUNT A B   sealed messages of A bytes, answered by B bytes
 *   naked [-c CORE,CORE] conns COUNT          connect, the operations of a Noise XX handshake, a byte each way
 *   naked init DIRECTORY                      only sets up the libraries that the node uses, then waits
 * The first core is the client's. CPU time is that of each process between the first and the last byte. */
#include "transport/aead.h"

#include <ares.h>
#include <arpa/inet.h>
#include <inttypes.h>
#include <lmdb.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
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
#define PINGS_FIRST 30                           /* rounds before the clock starts */
#define HASHES      26                           /* SHA-256 of 64 to 200 bytes in one side of a handshake */

/* One side's work; false when it failed. */
typedef bool (*side)(int fd, const size_t *amounts);

static struct wr_aead *engine;
static uint8_t key[WR_AEAD_KEY] = {1};
static int64_t cpu_begun, wall_begun, pings_p50, pings_p99;

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void clock_start(void)
{
    cpu_begun = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    wall_begun = clock_ns(CLOCK_MONOTONIC);
}

static bool write_all(int fd, const uint8_t *data, size_t len)
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

static bool read_all(int fd, uint8_t *data, size_t len)
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

static void number(uint8_t nonce[static WR_AEAD_NONCE], uint64_t n)
{
    memset(nonce, 0, WR_AEAD_NONCE);
    memcpy(nonce + 4, &n, sizeof(n));
}

/* frame has room for the length and the tag around len bytes at frame + 2. */
static bool seal_write(int fd, uint8_t *frame, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE];
    number(nonce, n);
    if (wr_aead_seal(engine, key, nonce, (struct wr_bytes){0}, frame + 2, len, frame + 2) != 0)
        return false;
    size_t body = len + WR_AEAD_TAG;
    frame[0] = (uint8_t)(body >> 8);
    frame[1] = (uint8_t)body;
    return write_all(fd, frame, 2 + body);
}

static bool read_open(int fd, uint8_t *frame, size_t len, uint64_t n)
{
    uint8_t nonce[WR_AEAD_NONCE];
    number(nonce, n);
    return read_all(fd, frame, 2 + len + WR_AEAD_TAG) &&
           wr_aead_open(engine, key, nonce, (struct wr_bytes){0}, frame + 2, len + WR_AEAD_TAG, frame + 2) == 0;
}

/* ---- pipe ------------------------------------------------------------------------------------------- */

static bool pipe_send(int fd, const size_t *amounts)
{
    static uint8_t frame[FRAME];
    size_t frames = amounts[0] / NOISE_BODY + 1;
    for (size_t i = 0; i < 64; i++)
        if (!seal_write(fd, frame, NOISE_BODY, i))
            return false;
    clock_start();
    for (size_t i = 0; i < frames; i++)
        if (!seal_write(fd, frame, NOISE_BODY, i))
            return false;
    shutdown(fd, SHUT_WR);
    return read(fd, frame, 1) == 0;
}

/* Reads as much as there is, up to four frames, as a program would that has a buffer of that size. */
static bool pipe_receive(int fd, const size_t *amounts)
{
    static uint8_t buf[4 * FRAME];
    size_t have = 0, frames = 64 + amounts[0] / NOISE_BODY + 1;
    for (uint64_t seen = 0; seen < frames;) {
        ssize_t n = read(fd, buf + have, sizeof(buf) - have);
        if (n <= 0)
            return false;
        have += (size_t)n;
        size_t at = 0;
        for (; have - at >= FRAME && seen < frames; at += FRAME) {
            uint8_t nonce[WR_AEAD_NONCE];
            number(nonce, seen < 64 ? seen : seen - 64);
            if (wr_aead_open(engine, key, nonce, (struct wr_bytes){0}, buf + at + 2, NOISE_BODY + WR_AEAD_TAG,
                             buf + at + 2) != 0)
                return false;
            if (++seen == 64)
                clock_start();
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

static bool ping_ask(int fd, const size_t *amounts)
{
    static uint8_t frame[FRAME];
    size_t count = amounts[0];
    int64_t *times = calloc(count, sizeof(*times));
    bool ok = times != NULL;
    for (size_t i = 0; ok && i < count + PINGS_FIRST; i++) {
        if (i == PINGS_FIRST)
            clock_start();
        int64_t begun = clock_ns(CLOCK_MONOTONIC);
        ok = seal_write(fd, frame, amounts[1], i) && read_open(fd, frame, amounts[2], i);
        if (i >= PINGS_FIRST)
            times[i - PINGS_FIRST] = clock_ns(CLOCK_MONOTONIC) - begun;
    }
    if (ok) {
        qsort(times, count, sizeof(*times), by_size);
        pings_p50 = times[count / 2];
        pings_p99 = times[count * 99 / 100];
    }
    free(times);
    return ok;
}

static bool ping_answer(int fd, const size_t *amounts)
{
    static uint8_t frame[FRAME];
    for (size_t i = 0; i < amounts[0] + PINGS_FIRST; i++) {
        if (i == PINGS_FIRST)
            clock_start();
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
        number(nonce, i);
        if (wr_aead_seal(engine, shared, nonce, (struct wr_bytes){0}, block, 120, sealed) != 0)
            return false;
    }
    memset(block, 0, sizeof(block));
    return crypto_sign_verify_detached(signature, block, 56, identity) == 0;
}

static int loopback(struct sockaddr_in *sa, uint16_t port)
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
    int fd = loopback(&sa, port);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    bool ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && write_all(fd, buf, 60) &&
              read_all(fd, buf, 260) && handshake_work() && write_all(fd, buf, 300) && read_all(fd, buf, 60);
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
    bool ok = read_all(fd, buf, 60) && handshake_work() && write_all(fd, buf, 260) && read_all(fd, buf, 300) &&
              write_all(fd, buf, 60) && read(fd, buf, 1) <= 0;
    close(fd);
    return ok;
}

static bool conns(size_t count, int listener, uint16_t port)
{
    for (size_t i = 0; i < count + PINGS_FIRST; i++) {
        if (i == PINGS_FIRST)
            clock_start();
        if (listener >= 0 ? !conn_answer(listener) : !conn_ask(port))
            return false;
    }
    return true;
}

/* ---- two processes ---------------------------------------------------------------------------------- */

static void stay_on(int core)
{
    cpu_set_t set;
    if (core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static bool run_side(side work, const size_t *amounts, int fd, uint16_t port)
{
    if (work)
        return work(fd, amounts);
    return conns(amounts[0], port ? -1 : fd, port);
}

/* asks and answers; NULL for connections, which make sockets of their own. */
static int two(side asks, side answers, const size_t *amounts, const int *cores)
{
    struct sockaddr_in sa;
    socklen_t sa_len = sizeof(sa);
    int listener = loopback(&sa, 0), result[2];
    if (listener < 0 || bind(listener, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&sa, &sa_len) != 0 || pipe(result) != 0)
        return 1;
    uint16_t port = ntohs(sa.sin_port);
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0) {
        stay_on(cores[1]);
        int fd = asks ? accept(listener, NULL, NULL) : listener, on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        bool ok = run_side(answers, amounts, fd, 0);
        int64_t used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun;
        _exit(ok && write(result[1], &used, sizeof(used)) == sizeof(used) ? 0 : 1);
    }
    close(result[1]);
    stay_on(cores[0]);
    int fd = loopback(&sa, port), status = 0;
    bool ok = fd >= 0 && (!asks || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) &&
              run_side(asks, amounts, fd, port);
    int64_t used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun, theirs = 0;
    int64_t wall = clock_ns(CLOCK_MONOTONIC) - wall_begun;
    if (!ok)
        kill(child, SIGKILL);
    ok = read(result[0], &theirs, sizeof(theirs)) == sizeof(theirs) && ok;
    waitpid(child, &status, 0);
    if (!ok || status != 0)
        return 1;
    printf("{\"client_ns\":%" PRId64 ",\"server_ns\":%" PRId64 ",\"wall_ns\":%" PRId64 ",\"p50_ns\":%" PRId64
           ",\"p99_ns\":%" PRId64 "}\n", used, theirs, wall, pings_p50, pings_p99);
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
    secp256k1_pubkey public;
    secp256k1_context *ctx = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    bool ok = ctx && secp256k1_ec_pubkey_create(ctx, &public, secret) && ares_library_init(ARES_LIB_INIT_ALL) == 0 &&
              ares_init(&channel) == 0 && uv_loop_init(&loop) == 0 && handshake_work() && mdb_env_create(&db) == 0 &&
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

int main(int argc, char **argv)
{
    int cores[2] = {-1, -1};
    if (argc > 2 && strcmp(argv[1], "-c") == 0) {
        if (sscanf(argv[2], "%d,%d", &cores[0], &cores[1]) != 2)
            return 2;
        argc -= 2;
        argv += 2;
    }
    signal(SIGPIPE, SIG_IGN);
    engine = wr_aead_create();
    if (argc < 3 || !engine || sodium_init() < 0)
        return 2;
    if (strcmp(argv[1], "init") == 0)
        return init_only(argv[2]);
    size_t amounts[3] = {0};
    for (int i = 2; i < argc && i < 5; i++)
        amounts[i - 2] = strtoull(argv[i], NULL, 10);
    bool sized = amounts[0] > 0 && amounts[1] < NOISE_BODY && amounts[2] < NOISE_BODY;
    if (sized && strcmp(argv[1], "pipe") == 0)
        return two(pipe_send, pipe_receive, amounts, cores);
    if (sized && strcmp(argv[1], "pingpong") == 0)
        return two(ping_ask, ping_answer, amounts, cores);
    if (sized && strcmp(argv[1], "conns") == 0)
        return two(NULL, NULL, amounts, cores);
    fprintf(stderr, "naked: see the top of naked.c\n");
    return 2;
}
