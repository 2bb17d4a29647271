/* config.h - settings of a node: defaults, a file and flags in one table. Service (reads files).
 * Every key of the table is a key of the file (`key = value`, INI without sections) and a flag of
 * `warren run` (`--key value`, `--key=value`; switches are `--key` and `--no-key`). A flag wins
 * over the file, the file over the default. List keys may be repeated: all given in one place count
 * together and replace what the weaker place said. Nothing is taken over unless it is valid. The
 * environment is not read here: whoever knows it (tools) sets the defaults that depend on it. */
#ifndef WR_CONFIG_H
#define WR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WR_CONFIG_VALUES_MAX 64          /* values of one list key; ours */
#define WR_CONFIG_VALUE_MAX  1024        /* bytes of one value; ours: the longest path or address */
#define WR_CONFIG_FILE_MAX   (64 * 1024) /* bytes of a file; ours */
#define WR_CONFIG_ERROR      1600        /* bytes of an error sentence and NUL: it quotes a value */

/* Port 4001: what libp2p nodes use by convention, so firewalls and people know it. Both families, QUIC
 * and TCP. */
#define WR_CONFIG_DEFAULT_LISTEN                                                                   \
    "/ip4/0.0.0.0/udp/4001/quic-v1 /ip4/0.0.0.0/tcp/4001 "                                         \
    "/ip6/::/udp/4001/quic-v1 /ip6/::/tcp/4001"
/* The bootstrap peers that go-libp2p's DHT names: only a first source of peers, and only for the
 * public network; see wr_config_finish. */
#define WR_CONFIG_DEFAULT_BOOTSTRAP                                                                \
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN "             \
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa "             \
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb "             \
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt "             \
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ"
#define WR_CONFIG_PUBLIC_NETWORK "ipfs"

/* clang-format off */
/* id, name, kind, list, live (a reload takes it over without a restart), default, argument, help.
 * A default beside its reason:
 *   security           noise first: see transport/secure.c for the figures
 *   dht auto           a node that nobody can reach must not serve: it would only be in the way of lookups
 *   relay auto         lend ours only when we are reachable, as libp2p's own nodes do
 *   mdns, portmap on   two machines on one cable and a home behind a router work unasked
 *   limits home        128 MiB: fits the smallest board that people run such nodes on
 *   nat-sessions auto  most routers have thousands; the ceiling of limits fits those
 *   http (none)        nothing listens that was not asked for
 *   log info           changes of state, not traffic */
/* clang-format on */
#define WR_CONFIG_MAP(X)                                                                           \
    X(DATA, "data", PATH, 0, 0, "", "DIR", "where identity and store live")                        \
    X(CONFIG, "config", FILE, 0, 0, "", "FILE", "read settings from FILE")                         \
    X(LISTEN, "listen", LISTEN, 1, 0, WR_CONFIG_DEFAULT_LISTEN, "ADDR",                            \
      "listen on this multiaddr")                                                                  \
    X(BOOTSTRAP, "bootstrap", BOOTSTRAP, 1, 1, WR_CONFIG_DEFAULT_BOOTSTRAP, "ADDR",                \
      "first peers to ask, or none")                                                               \
    X(NETWORK, "network", NAME, 0, 0, WR_CONFIG_PUBLIC_NETWORK, "NAME",                            \
      "the swarm to belong to: ipfs is the public one")                                            \
    X(PSK, "psk", PATH, 0, 0, "", "FILE", "key file of a private network")                         \
    X(SECURITY, "security", SECURITY, 0, 0, "noise,tls", "LIST",                                   \
      "encryption of TCP: noise,tls, the favourite first, or one of them")                         \
    X(DHT, "dht", DHT, 0, 0, "auto", "MODE", "auto, server, client or off")                        \
    X(RELAY, "relay", RELAY, 0, 1, "auto", "MODE", "lend our relay: auto, on or off")              \
    X(RELAY_RATE, "relay-rate", RATE, 0, 1, "4M", "SIZE",                                          \
      "what our relay passes on in a second, all circuits together, or none")                      \
    X(RELAY_RATE_EACH, "relay-rate-each", RATE, 0, 1, "512K", "SIZE",                              \
      "and what of that one circuit may have, or none")                                            \
    X(USE_RELAY, "use-relay", BOOTSTRAP, 1, 1, "", "ADDR",                                        \
      "hold a place at this relay, whatever others are found")                                     \
    X(PERF, "perf", PERF, 0, 1, "allowed", "WHO",                                                  \
      "whose throughput tests are answered: allowed or all")                                       \
    X(MDNS, "mdns", SWITCH, 0, 0, "yes", "", "find peers on the local network")                    \
    X(PORTMAP, "portmap", SWITCH, 0, 0, "yes", "", "ask the router to map our port")               \
    X(PUBLIC, "public", CIDR, 1, 1, "", "CIDR", "count this block as publicly routable (labs)")    \
    X(LIMITS, "limits", LIMITS, 0, 1, "home", "SIZE", "small, home, server or a memory size")      \
    X(NAT_SESSIONS, "nat-sessions", SESSIONS, 0, 1, "auto", "N",                                   \
      "sessions that the router has for the whole household; we use three quarters")               \
    X(HTTP, "http", HTTP, 0, 0, "", "ADDR", "serve the status page and metrics on IP:PORT")        \
    X(CONTROL, "control", SOCKET, 0, 0, "", "PATH", "path of the control socket")                  \
    X(LOG, "log", LOG, 0, 1, "info", "LEVELS", "info, or info,dht=debug,...")

#define WR_CONFIG_ENUM(id, name, kind, list, live, value, arg, help) WR_CONFIG_##id,
enum wr_config_key { WR_CONFIG_MAP(WR_CONFIG_ENUM) WR_CONFIG_COUNT };
#undef WR_CONFIG_ENUM

enum wr_config_from { WR_CONFIG_FROM_DEFAULT, WR_CONFIG_FROM_FILE, WR_CONFIG_FROM_FLAG };

/* Results of wr_config_choice. */
enum wr_config_dht {
    WR_CONFIG_DHT_AUTO,
    WR_CONFIG_DHT_SERVER,
    WR_CONFIG_DHT_CLIENT,
    WR_CONFIG_DHT_OFF
};
enum wr_config_relay { WR_CONFIG_RELAY_AUTO, WR_CONFIG_RELAY_ON, WR_CONFIG_RELAY_OFF };
enum wr_config_perf { WR_CONFIG_PERF_ALLOWED, WR_CONFIG_PERF_ALL };

struct wr_config_item {
    char **values; /* owned */
    size_t count;  /* at most WR_CONFIG_VALUES_MAX */
    enum wr_config_from from;
    unsigned line; /* in the file, of the first value; 0: not from there */
};

struct wr_config {
    struct wr_config_item items[WR_CONFIG_COUNT];
};

/* What a key is, for help and for `config show`. Static strings. */
struct wr_config_info {
    const char *name, *arg, *help;
    bool list, live, toggle;
};

const struct wr_config_info *wr_config_info(enum wr_config_key key);
const char *wr_config_from_name(enum wr_config_from from); /* "default", "file", "flag" */

/* ---- building. All return 0 or a negative code with a sentence in err that names key, value and
 * what is allowed. WR_EINVAL: a mistake of the user; WR_ENOTFOUND, WR_EIO: the file; WR_ELIMIT. */
int wr_config_init(struct wr_config *c, char err[static WR_CONFIG_ERROR]); /* built-in defaults */
void wr_config_clear(struct wr_config *c);
/* A default that depends on the environment: replaces the built-in one. */
int wr_config_default(struct wr_config *c, enum wr_config_key key, const char *value,
                      char err[static WR_CONFIG_ERROR]);
/* Takes the flag argv[*next] and its argument, advancing *next. */
int wr_config_flag(struct wr_config *c, int argc, char *const *argv, int *next,
                   char err[static WR_CONFIG_ERROR]);
/* Reads a file. `text` is the same from memory; `path` only names it in errors. */
int wr_config_file(struct wr_config *c, const char *path, char err[static WR_CONFIG_ERROR]);
int wr_config_text(struct wr_config *c, const char *path, const char *text,
                   char err[static WR_CONFIG_ERROR]);
/* After everything was read: rules between keys. Another network than the public one has no
 * built-in bootstrap peers; "none" in a list empties it. */
int wr_config_finish(struct wr_config *c, char err[static WR_CONFIG_ERROR]);

/* ---- asking */
const char *wr_config_get(const struct wr_config *c,
                          enum wr_config_key key);                       /* first value or "" */
bool wr_config_on(const struct wr_config *c, enum wr_config_key key);    /* a switch */
int wr_config_choice(const struct wr_config *c, enum wr_config_key key); /* DHT, RELAY, PERF */
/* SECURITY as wr_swarm_options wants it: the favourite first, NULL at the end. */
struct wr_secure;
void wr_config_security(const struct wr_config *c, const struct wr_secure *out[static 3]);
uint64_t wr_config_sessions(const struct wr_config *c);                  /* NAT_SESSIONS; 0: auto */
/* RELAY_RATE, RELAY_RATE_EACH: bytes a second; 0: none. */
uint64_t wr_config_rate(const struct wr_config *c, enum wr_config_key key);
/* "1.2.3.4:80" or "[::1]:80" of HTTP, as an address. False when not set. */
struct wr_addr;
bool wr_config_http(const struct wr_config *c, struct wr_addr *out);

/* ---- reloading: build a second config, finish it, then take over what is live. */
/* One bit (1 << key) per key whose values differ. */
uint32_t wr_config_diff(const struct wr_config *a, const struct wr_config *b);
/* Moves every live key that differs from fresh into running. Returns the bits moved; *restart gets
 * the bits of changed keys that need a restart, and stay as they were. */
uint32_t wr_config_reload(struct wr_config *running, struct wr_config *fresh, uint32_t *restart);

#endif
