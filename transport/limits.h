/* limits.h - every ceiling of the node, derived from one knob. Value.
 * Whoever creates something that a stranger can make grow takes from a counter first and gives back when
 * it is gone. A refusal is counted, and `warren limits` shows it with the ceiling's name. */
#ifndef WR_LIMITS_H
#define WR_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WR_KIB ((size_t)1024)
#define WR_MIB (1024 * WR_KIB)
#define WR_GIB (1024 * WR_MIB)

/* name, text, small (32 MiB), home (128 MiB), server (1 GiB), unit. A column keeps the process within its
 * memory. A size of one's own derives every ceiling from the columns, rounded down: below small in
 * proportion to the memory (at least 1), between two columns on the straight line between them, above
 * server on the line from home through server. */
#define WR_LIMIT_MAP(X)                                                                            \
    X(CONNS, "connections", 192, 512, 8192, "connections")                                         \
    X(CONNS_INBOUND, "connections-inbound", 128, 384, 6144, "connections")                         \
    X(CONNS_HALF_OPEN, "connections-half-open", 256, 512, 2048, "connections")                     \
    X(CONNS_PER_PEER, "connections-per-peer", 4, 8, 8, "connections")                              \
    X(CONNS_PER_NET, "connections-per-network", 8, 16, 64, "connections")                          \
    X(DIALS, "dials", 32, 96, 512, "dials")                                                        \
    X(SESSIONS, "nat-sessions", 256, 1024, 16384, "sessions")                                      \
    X(NEW_FLOWS, "new-flows", 30, 60, 500, "flows a second")                                       \
    X(SILENT_TRIES, "tries-of-a-silent-address", 16, 16, 16, "dials")                              \
    X(STREAMS, "streams", 2048, 8192, 65536, "streams")                                            \
    X(STREAMS_PER_CONN, "streams-per-connection", 256, 256, 1024, "streams")                       \
    X(STREAMS_PER_PROTOCOL, "streams-per-protocol", 256, 256, 1024, "streams")                     \
    X(MEMORY, "memory", 16 * WR_MIB, 96 * WR_MIB, 896 * WR_MIB, "bytes")                           \
    X(WINDOW_EXTRA, "window-growth", 6 * WR_MIB, 64 * WR_MIB, 512 * WR_MIB, "bytes")               \
    X(PEERSTORE, "peerstore", 1000, 4000, 50000, "peers")                                          \
    X(TABLE, "routing-table", 1000, 2000, 10000, "peers")                                          \
    X(QUERIES, "queries", 16, 64, 512, "queries")                                                  \
    X(PROVIDERS, "provider-records", 20000, 200000, 2000000, "records")                            \
    X(VALUES, "value-records", 500, 2000, 20000, "records")                                        \
    X(RELAY_RESERVATIONS, "relay-reservations", 64, 128, 1024, "peers")                            \
    X(RELAY_CIRCUITS, "relay-circuits", 32, 128, 2048, "circuits")                                 \
    X(CLIENTS, "control-clients", 16, 32, 64, "connections")

#define WR_LIMIT_ENUM(name, text, small, home, server, unit) WR_LIMIT_##name,
enum wr_limit { WR_LIMIT_MAP(WR_LIMIT_ENUM) WR_LIMIT_COUNT };
#undef WR_LIMIT_ENUM

struct wr_limits {
    struct {
        uint64_t max, used, peak, refused;
    } of[WR_LIMIT_COUNT];
};

/* "small", "home", "server" or a memory size: digits and K, M, G or nothing for bytes, from 16 MiB to
 * 1 TiB; parts of a MiB do not count. 0, WR_EINVAL (all ceilings are 0 then). */
int wr_limits_init(struct wr_limits *limits, const char *knob);
/* Sets new ceilings, keeping what is in use (it may be over for a while). 0, WR_EINVAL (nothing
 * changed). */
int wr_limits_change(struct wr_limits *limits, const char *knob);
/* Lowers the ceilings of what takes a descriptor each (connections, handshakes, dials), all in proportion, until they
 * fit into so many together with control clients and WR_LIMITS_FILES. Whoever is refused for a ceiling leaves the
 * others room; without a descriptor nobody gets in. True: something had to be lowered. */
#define WR_LIMITS_FILES 32    /* descriptors; ours: the store, the log, listeners, the loop */
bool wr_limits_fit(struct wr_limits *limits, uint64_t descriptors);
/* The router in front of us has so many sessions, for everybody at home: three quarters of them become the ceiling, and
 * connections and dials are lowered so that half of these stay free for newcomers and for what the router has not
 * forgotten yet. 0: nothing is known of it, the ceiling stays. */
void wr_limits_sessions(struct wr_limits *limits, uint64_t router);
/* Takes n or counts a refusal. */
bool wr_limits_take(struct wr_limits *limits, enum wr_limit limit, uint64_t n);
void wr_limits_give(struct wr_limits *limits, enum wr_limit limit, uint64_t n);
/* Takes n for one of many connections, which holds `held` of it already, or counts a refusal. Half of the ceiling is
 * set aside for all the connections that there can be, in equal parts: a crowd that takes whatever it can get
 * leaves everybody his part. Of the other half one may hold as much as is left there for the others. */
bool wr_limits_take_fair(struct wr_limits *limits, enum wr_limit limit, uint64_t held, uint64_t n);
/* Counts what is there already and cannot be refused any more; the ceiling may be passed by it. */
void wr_limits_charge(struct wr_limits *limits, enum wr_limit limit, uint64_t n);
/* A refusal under a limit that is counted elsewhere (per peer, per network, per connection). */
void wr_limits_refuse(struct wr_limits *limits, enum wr_limit limit);

/* One holder's part of limit MEMORY: bytes that one connection makes us keep. */
struct wr_account {
    struct wr_limits *limits;    /* borrowed; NULL: nothing is counted */
    uint64_t held;
};
bool wr_account_take(struct wr_account *a, uint64_t n);    /* fair, see above */
void wr_account_charge(struct wr_account *a, uint64_t n);
void wr_account_give(struct wr_account *a, uint64_t n);
uint64_t wr_account_room(const struct wr_account *a);      /* what take would give */

const char *wr_limit_name(enum wr_limit limit);
const char *wr_limit_unit(enum wr_limit limit);
/* False: the ceiling holds for each one of many (a peer, a network, a connection), or for each second: `used` and `peak` of
 * it say nothing. */
bool wr_limit_counted(enum wr_limit limit);

#endif
