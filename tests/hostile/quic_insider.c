/* quic_insider - what peers whose handshake is over can do to a node over QUIC:
 *
 *   quic_insider MODE ADDRESS PORT FIRST COUNT SECONDS RATE
 *
 * COUNT connections, each of an identity of its own, from COUNT addresses after FIRST (local here). Modes:
 *   keys      new keys as often as the node takes them, RATE packets a second
 *   pings     RATE packets a second, full of PING frames
 *   limits    RATE packets a second, full of limits that rise and do not, and of complaints about ours
 *   streams   RATE streams a second, each opened, asked for a protocol and reset
 *   empty     RATE streams a second, opened and reset without a byte
 * One JSON line at the end: connections that are open, those that were ended, what was done of RATE, packets, streams,
 * changes of keys. */
#include "transport/key.h"
#include "transport/quic_compat.h"
#include "transport/tlsctx.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if NGTCP2_VERSION_NUM < 0x010000
#define LEVEL_1RTT NGTCP2_CRYPTO_LEVEL_APPLICATION
#else
#define LEVEL_1RTT NGTCP2_ENCRYPTION_LEVEL_1RTT
#endif
#define PEERS_MAX  64
#define PACKET_MAX 1452
#define FILL       1100       /* bytes of CRYPTO frames that the words take the place of; `keys`: */
#define FILL_KEYS  100
#define ACK_MAX    60         /* bytes of a packet that only acknowledges */
#define HASTE      100        /* how much faster our clock goes: ngtcp2 lets keys be changed every third time-out. So
                                 does the idle time-out: who is held up for 0.3 s is out */
#define BEHIND_MAX (64 << 10) /* bytes that nobody acknowledged, before more is said */

struct peer {
    int fd;
    struct sockaddr_in here;
    struct wr_key key;
    struct wr_tlsctx *ctx;
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    ngtcp2_conn *ng;
    bool open, over;
};

static struct peer peers[PEERS_MAX];
static struct sockaddr_in to;
static const char *mode;
static uint64_t packets, streams, keys, done;
static struct wr_bytes words;   /* what packets of open connections say, again and again, in place of CRYPTO frames; or
                                   nothing */
static struct wr_bytes instead; /* the same of the packet that is made just now */
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static ngtcp2_tstamp clock_of(void)
{
    return strcmp(mode, "keys") == 0 ? now_ns() * HASTE : now_ns();
}

static ngtcp2_path path_of(struct peer *p)
{
    return (ngtcp2_path){.local = {(ngtcp2_sockaddr *)&p->here, sizeof(p->here)},
                         .remote = {(ngtcp2_sockaddr *)&to, sizeof(to)}};
}

/* ---- what ngtcp2 asks for ------------------------------------------------------------------------------------ */

static ngtcp2_conn *get_ng(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct peer *)ref->user_data)->ng;
}

static void on_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    randombytes_buf(dest, len);
}

static int on_new_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user_data)
{
    uint8_t bytes[NGTCP2_MAX_CIDLEN];
    (void)ng, (void)user_data;
    randombytes_buf(bytes, len);
    randombytes_buf(token, NGTCP2_STATELESS_RESET_TOKENLEN);
    ngtcp2_cid_init(cid, bytes, len);
    return 0;
}

static int on_confirmed(ngtcp2_conn *ng, void *user_data)
{
    (void)ng;
    ((struct peer *)user_data)->open = true;
    return 0;
}

static int on_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                      const uint8_t *plain, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *head,
                      size_t head_len)
{
    uint8_t room[PACKET_MAX] = {0}; /* PADDING */
    bool ack = len < ACK_MAX && (plain[0] == 0x02 || plain[0] == 0x03);
    if (instead.len && !ack && len <= sizeof(room)) {
        for (size_t at = 0; at + instead.len <= len; at += instead.len)
            memcpy(room + at, instead.ptr, instead.len);
        plain = room;
    }
    return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, len, nonce, nonce_len, head, head_len);
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .encrypt = on_encrypt,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = on_rand,
    .get_new_connection_id = on_new_id,
    .update_key = ngtcp2_crypto_update_key_cb,
    .handshake_confirmed = on_confirmed,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

/* ---- one connection ------------------------------------------------------------------------------------------- */

static void peer_over(struct peer *p)
{
    p->over = true;
    p->open = false;
}

static void tell(struct peer *p, const uint8_t *packet, ngtcp2_ssize len)
{
    if (len < 0)
        peer_over(p);
    if (len > 0 && send(p->fd, packet, (size_t)len, 0) > 0)
        packets++;
}

/* All that ngtcp2 has to say by itself. */
static void flush(struct peer *p)
{
    uint8_t packet[PACKET_MAX];
    ngtcp2_ssize n = 1;
    instead = p->open ? words : WR_BYTES_NONE;
    while (!p->over && n > 0) {
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi;
        ngtcp2_path_storage_zero(&ps);
        n = ngtcp2_conn_write_pkt(p->ng, &ps.path, &pi, packet, sizeof(packet), clock_of());
        tell(p, packet, n);
    }
    instead = WR_BYTES_NONE;
}

static void hear(struct peer *p)
{
    uint8_t data[65536];
    ngtcp2_path path = path_of(p);
    ngtcp2_pkt_info pi = {0};
    for (ssize_t n; !p->over && (n = recv(p->fd, data, sizeof(data), 0)) > 0;)
        if (ngtcp2_conn_read_pkt(p->ng, &path, &pi, data, (size_t)n, clock_of()) != 0)
            peer_over(p);
    if (!p->over && ngtcp2_conn_get_expiry(p->ng) <= clock_of() && ngtcp2_conn_handle_expiry(p->ng, clock_of()) != 0)
        peer_over(p);
    if (!p->over)
        flush(p);
}

static bool peer_start(struct peer *p, unsigned i, uint32_t first)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path path;
    ngtcp2_cid scid, dcid;
    uint8_t ids[24], seed[WR_ED25519_SEED];
    int large = 4 << 20;
    p->here = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(first + i)};
    socklen_t len = sizeof(p->here);
    p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
    if (bind(p->fd, (struct sockaddr *)&p->here, len) != 0 || connect(p->fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        getsockname(p->fd, (struct sockaddr *)&p->here, &len) != 0)
        return false;
    randombytes_buf(seed, sizeof(seed));
    wr_key_generate(&p->key, seed);
    p->ctx = wr_tlsctx_create(&p->key, time(NULL));
    if (!p->ctx || wr_tlsctx_session(p->ctx, WR_TLSCTX_QUIC, true, &p->tls) != 0)
        return false;
    p->ref = (ngtcp2_crypto_conn_ref){.get_conn = get_ng, .user_data = p};
    gnutls_session_set_ptr(p->tls, &p->ref);
    ngtcp2_crypto_gnutls_configure_client_session(p->tls);
    ngtcp2_settings_default(&settings);
    settings.initial_ts = clock_of();
    ngtcp2_transport_params_default(&params);
    params.initial_max_data = params.initial_max_stream_data_bidi_remote = 1 << 20;
    params.initial_max_stream_data_bidi_local = 1 << 20;
    params.initial_max_streams_bidi = 100;
    params.max_ack_delay = NGTCP2_MILLISECONDS;
    randombytes_buf(ids, sizeof(ids));
    ngtcp2_cid_init(&scid, ids, 8);
    ngtcp2_cid_init(&dcid, ids + 8, 16);
    path = path_of(p);
    if (ngtcp2_conn_client_new(&p->ng, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks, &settings, &params, NULL,
                               p) != 0)
        return false;
    ngtcp2_conn_set_tls_native_handle(p->ng, p->tls);
    flush(p);
    return true;
}

static void peer_stop(struct peer *p)
{
    if (p->ng)
        ngtcp2_conn_del(p->ng);
    if (p->tls)
        gnutls_deinit(p->tls);
    wr_tlsctx_destroy(p->ctx);
    close(p->fd);
}

/* ---- what it does ---------------------------------------------------------------------------------------------- */

/* A packet of the words. CRYPTO is what no limit of the node's holds back. */
static bool say(struct peer *p)
{
    static const uint8_t filler[FILL];
    ngtcp2_conn_info info;
    uint64_t before = packets;
    ngtcp2_conn_get_conn_info(p->ng, &info);
    size_t len = strcmp(mode, "keys") == 0 ? FILL_KEYS : sizeof(filler);
    if (info.bytes_in_flight > BEHIND_MAX || ngtcp2_conn_submit_crypto_data(p->ng, LEVEL_1RTT, filler, len) != 0)
        return false;
    flush(p);
    return packets > before;
}

static void make_words(void)
{
    static const uint8_t ping[] = {0x01}, limits[] = {
        0x12, 0xbf, 0xff, 0xff, 0xf0, /* MAX_STREAMS */
        0x12, 0x01,                   /* ... which does not rise */
        0x16, 0x41, 0x00,             /* STREAMS_BLOCKED */
        0x17, 0x00,                   /* of one-way streams */
        0x10, 0xbf, 0xff, 0xff, 0xf0, /* MAX_DATA */
        0x14, 0x50, 0x00,             /* DATA_BLOCKED */
    };
    if (strcmp(mode, "keys") == 0 || strcmp(mode, "pings") == 0)
        words = WR_BYTES(ping, sizeof(ping));
    else if (strcmp(mode, "limits") == 0)
        words = WR_BYTES(limits, sizeof(limits));
}

static bool reset_one(struct peer *p, bool empty)
{
    static uint8_t hello[] = "\x13/multistream/1.0.0\n\x11/ipfs/ping/1.0.0\n";
    uint8_t packet[PACKET_MAX];
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ssize taken;
    ngtcp2_vec vec = {hello, sizeof(hello) - 1};
    int64_t id;
    if (ngtcp2_conn_open_bidi_stream(p->ng, &id, NULL) != 0)
        return false;
    ngtcp2_path_storage_zero(&ps);
    if (!empty)
        tell(p, packet, ngtcp2_conn_writev_stream(p->ng, &ps.path, &pi, packet, sizeof(packet), &taken, 0, id, &vec, 1,
                                                  clock_of()));
    if (p->over || ngtcp2_conn_shutdown_stream(p->ng, 0, id, 0) != 0)
        return false;
    streams++;
    flush(p);
    return true;
}

static bool act(struct peer *p)
{
    if (!words.len)
        return reset_one(p, strcmp(mode, "empty") == 0);
    if (strcmp(mode, "keys") == 0)
        keys += ngtcp2_conn_initiate_key_update(p->ng, clock_of()) == 0;
    return say(p);
}

/* Everybody says something, in turn, at this rate. */
static void run(unsigned count, double seconds, double rate)
{
    uint64_t begun = now_ns(), allowed = 0;
    for (unsigned next = 0; !stopped && (double)(now_ns() - begun) < seconds * 1e9;) {
        bool acted = false;
        for (unsigned i = 0; i < count; i++)
            if (!peers[i].over)
                hear(&peers[i]);
        for (unsigned i = 0; i < count && (double)allowed < (double)(now_ns() - begun) * rate / 1e9; i++) {
            struct peer *p = &peers[next++ % count];
            bool did = p->open && act(p);
            acted |= did;
            allowed += did;
            done += did;
        }
        if (!acted) {
            (void)poll(NULL, 0, 1);
            /* What could not be done is not made up for. */
            uint64_t due = (uint64_t)((double)(now_ns() - begun) * rate / 1e9);
            allowed = allowed + (uint64_t)(rate / 10) < due ? due - (uint64_t)(rate / 10) : allowed;
        }
    }
}

int main(int argc, char **argv)
{
    struct in_addr first;
    unsigned count = argc == 8 ? (unsigned)atoi(argv[5]) : 0, opened = 0, ended = 0;
    if (!count || count > PEERS_MAX || sodium_init() < 0 || inet_pton(AF_INET, argv[4], &first) != 1 ||
        inet_pton(AF_INET, argv[2], &to.sin_addr) != 1) {
        fputs("usage: quic_insider MODE ADDRESS PORT FIRST COUNT SECONDS RATE\n", stderr);
        return 2;
    }
    mode = argv[1];
    make_words();
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(argv[3]));
    signal(SIGTERM, on_signal);
    for (unsigned i = 0; i < count; i++)
        if (!peer_start(&peers[i], i, ntohl(first.s_addr))) {
            perror("quic_insider");
            return 1;
        }
    uint64_t begun = now_ns();
    run(count, atof(argv[6]), atof(argv[7]));
    double took = (double)(now_ns() - begun) / 1e9;
    for (unsigned i = 0; i < count; i++) {
        opened += peers[i].open;
        ended += peers[i].over;
        peer_stop(&peers[i]);
    }
    printf("{\"open\": %u, \"ended\": %u, \"rate\": %.0f, \"packets\": %llu, \"streams\": %llu, \"keys\": %llu}\n", opened,
           ended, (double)done / took, (unsigned long long)packets, (unsigned long long)streams, (unsigned long long)keys);
    return 0;
}
