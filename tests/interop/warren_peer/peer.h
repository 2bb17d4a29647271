/* peer.h - warren's own test peer: speaks the contract of ../peers/README.md over the node's parts. */
#ifndef PEER_H
#define PEER_H

#include "dht/dht.h"
#include "identify/identify.h"
#include "identify/ping.h"
#include "transport/base.h"
#include "transport/multihash.h"
#include "transport/swarm.h"

#include <jansson.h>
#include <openssl/evp.h>

struct host;
struct command;

struct peer {
    struct wr_env *env;
    struct host *hosts;
    size_t host_count;
    const char *dht_protocol;    /* NULL: no DHT */
};

#define WORDS_MAX 8    /* times that a flag may be given */

struct words {
    const char *of[WORDS_MAX];
    size_t count;
};

/* What nat_start sets up; texts are borrowed, "" when not given. */
struct nat_flags {
    bool relay, circuit, dcutr;
    const char *relay_limits, *autonat, *reach;
    struct words announce;
};

struct counters {
    uint64_t conns_opened, conns_closed, echo, sink, source, reset, perf, resets_seen, reset_eofs,
        handler_errors, bytes_in, bytes_out;
};

struct host {
    struct peer *peer;
    size_t index;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_identify *identify;
    struct wr_pong *pong;
    struct wr_mdns *mdns;      /* or NULL */
    json_t *neighbours;        /* ids heard of by multicast */
    struct wr_dht *dht;
    struct wr_kv *kv;
    struct wr_autonat_client *autonat_client;
    struct wr_autonat_server *autonat_server;
    struct wr_dcutr *dcutr;
    struct wr_relay_client *relay_client;
    struct wr_relay_server *relay_server;
    struct wr_list reserving;  /* struct command.node: for a place at a relay */
    json_t *punches;           /* reports of dcutr */
    struct wr_swarm_watch watch;
    struct counters counters;
    struct wr_list waiting;    /* struct command.node: for an identify that is not finished */
};

/* One request; alive until it is answered. */
struct command {
    struct wr_list node;
    struct host *host;
    json_t *request;
    json_int_t n;
    wr_time started_at;
    struct wr_timer timeout;
    void (*on_timeout)(struct command *c);    /* frees `state`; the answer follows */
    void *state;
};

/* ---- answers: each ends the command */
void command_ok(struct command *c, json_t *fields);    /* takes fields; NULL: none */
void command_fail(struct command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A failure that carries what was found out; takes fields. */
void command_fail_with(struct command *c, json_t *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void command_unsupported(struct command *c, const char *what);
double command_ms(const struct command *c);    /* since it began */

/* ---- arguments; false: the command was failed */
bool arg_peer(struct command *c, struct wr_peerid *peer);
bool arg_conn(struct command *c, struct wr_conn **conn);    /* open connection to "peer" */
uint64_t arg_u64(const struct command *c, const char *name, uint64_t missing);
const char *arg_text(const struct command *c, const char *name);    /* "" when missing */
bool arg_hex(struct command *c, const char *name, struct wr_buf *out);

json_t *json_ms(wr_time t);
json_t *json_peer(const struct wr_peerid *id);
json_t *json_hex(struct wr_bytes b);
json_t *json_maddr(struct wr_bytes ma);

/* ---- payload that does not repeat within 1 MiB, and running hashes */
#define PATTERN_LEN (1024 * 1024 + 4096)
const uint8_t *pattern(void);
EVP_MD_CTX *hash_start(void);
void hash_end(EVP_MD_CTX *h, uint8_t out[static 32]);    /* frees h */

/* ---- parts */
void services_register(struct host *h);
bool command_conn(struct command *c, const char *name);      /* false: not one of these */
bool command_stream(struct command *c, const char *name);
bool command_bench(struct command *c, const char *name);
bool command_dht(struct command *c, const char *name);
bool command_mdns(struct command *c, const char *name);
bool command_relay(struct command *c, const char *name);
bool relay_start(struct host *h, const struct nat_flags *flags);
bool command_nat(struct command *c, const char *name);
bool nat_start(struct host *h, const struct nat_flags *flags);    /* after the listeners */
bool mdns_start(struct host *h, const uint8_t *psk);    /* psk may be NULL */
void dht_start(struct host *h, const char *mode, const char *prefix);
void dht_bootstrap(struct host *h, const char *const *addrs, size_t count);
void conn_on_event(struct host *h, const struct wr_swarm_event *event);

extern const char *const offer_echo[], *const offer_sink[], *const offer_source[],
    *const offer_reset[], *const offer_perf[];

#endif
