/* env.h - the seam: time, chance, timers, sockets, names and worker threads. Service.
 * Plain functions declared once and implemented twice, chosen by the linker: env_uv*.c on libuv for a
 * real machine, tests/sim/sim.c in virtual time. Everything above works only through this header and
 * kv.h, so the same objects run on sockets and in a simulator.
 *
 * Turns. The environment delivers one input (bytes, accept, timer, answer), its handler runs, then
 * `settle` runs: first every deferred task in order, until none is left, then every disposal. From that
 * follow three promises:
 *   (a) no handler is called from inside a call made to this header;
 *   (b) close is final: after wr_*_close() or after on_close the object makes no more calls;
 *   (c) an object stays valid until the turn in which it was closed has settled.
 * One thread. Nothing here blocks. Addresses, times and sizes are in host units; times in nanoseconds. */
#ifndef WR_ENV_H
#define WR_ENV_H

#include "transport/addr.h"
#include "transport/bytes.h"
#include "transport/err.h"
#include "transport/list.h"
#include "transport/log.h"

struct wr_env;

/* ---- time and chance -------------------------------------------------------------------------- */
typedef int64_t wr_time;    /* nanoseconds, monotonic, from an arbitrary start; 0 = never/none */

#define WR_USEC ((wr_time)1000)
#define WR_MSEC ((wr_time)1000000)
#define WR_SEC  ((wr_time)1000000000)
#define WR_MIN  (60 * WR_SEC)
#define WR_HOUR (60 * WR_MIN)

/* Monotonic time, constant within a turn. It stands still while the machine sleeps, as the timers of
 * the kernel's own connections do: waking up then does not fire every timeout at once. Net watches hear
 * of a sleep (below). */
wr_time wr_env_now(const struct wr_env *env);
/* Wall clock, nanoseconds since 1970 UTC: may be years wrong and may jump. */
int64_t wr_env_unix(const struct wr_env *env);
/* Cryptographic random bytes; seeded in the simulator. */
void wr_env_random(struct wr_env *env, void *out, size_t len);
/* Uniform in [0, below); 0 when below is 0. */
uint64_t wr_env_random_below(struct wr_env *env, uint64_t below);
/* 16 bytes made at start, for hash tables keyed by what strangers choose (map.h). */
const uint8_t *wr_env_hash_seed(const struct wr_env *env);
/* Where log lines go; NULL: nowhere. Borrowed. */
const struct wr_log *wr_env_log(const struct wr_env *env);

/* ---- timers: intrusive, cost nothing while stopped ---------------------------------------------- */
struct wr_timer {
    wr_time at;    /* 0: stopped */
    void (*on_timer)(struct wr_timer *timer);
    uint64_t order;                          /* ties fire in the order they were started */
    struct wr_timer *child, *next, *prev;    /* the environment's heap runs through the timers */
};

/* on_timer is called once, at or after `at`; starting again moves it. A timer that lies in the past
 * fires in the next turn. The struct belongs to the caller: zero it before first use, stop before
 * freeing. Starting allocates nothing and cannot fail. */
void wr_timer_start(struct wr_env *env, struct wr_timer *timer, wr_time at,
                    void (*on_timer)(struct wr_timer *timer));
void wr_timer_stop(struct wr_env *env, struct wr_timer *timer);
static inline bool wr_timer_running(const struct wr_timer *timer)
{
    return timer->at != 0;
}

/* ---- settle: work put off to the end of the turn ------------------------------------------------ */
struct wr_task {
    struct wr_list node;    /* zeroed: on no list */
    void (*run)(struct wr_task *task);
};

/* Runs task->run once at the end of this turn (idempotent while queued). */
void wr_env_defer(struct wr_env *env, struct wr_task *task, void (*run)(struct wr_task *task));
/* Runs after all deferred tasks: the place to free. A task that was deferred is only disposed. */
void wr_env_dispose(struct wr_env *env, struct wr_task *task, void (*run)(struct wr_task *task));
void wr_task_cancel(struct wr_task *task);

/* ---- stream sockets: TCP and local (Unix) -------------------------------------------------------- */
struct wr_sock;        /* one connection; owned by whoever opened or accepted it until wr_sock_close */
struct wr_listener;    /* one listening socket */

struct wr_sock_ops {
    void (*on_open)(void *arg);    /* a connect succeeded; never for accepted sockets */
    /* Bytes from the peer, in the environment's shared buffer: valid during the call only and free to
     * be overwritten (decrypted in place). The handler takes all of them. */
    void (*on_read)(void *arg, uint8_t *data, size_t len);
    void (*on_drain)(void *arg);    /* everything written so far is with the kernel again */
    /* The last call: the connect failed, the peer closed (WR_ECLOSED), reset (WR_ERESET) ... The
     * socket is gone; do not close it. */
    void (*on_close)(void *arg, int err);
    /* If set, the directions end one by one: the peer finished writing and may still read. on_close
     * follows when we shut our side too, or when it breaks. If NULL, the peer's end is on_close. */
    void (*on_eof)(void *arg);
};

struct wr_listener_ops {
    /* A new connection, reading stopped until wr_sock_attach gives it handlers (do so or close it
     * within this call). */
    void (*on_accept)(void *arg, struct wr_sock *sock);
    /* Accepting is paused because descriptors or memory ran out, and tried again by itself. */
    void (*on_starved)(void *arg, int err);
};

/* Listens on TCP; port 0 takes a free one. The socket shares its port with dials (address and port
 * reuse). IPv6 sockets are IPv6 only. 0, WR_EINUSE, WR_EPERM, WR_EINVAL (address not ours), WR_ENOFD,
 * WR_ELIMIT, WR_EIO. */
int wr_env_listen(struct wr_env *env, const struct wr_addr *at, const struct wr_listener_ops *ops,
                  void *arg, struct wr_listener **out);
/* Listens on a local socket of mode 0600, replacing a stale file. WR_EINUSE when somebody answers. */
int wr_env_listen_local(struct wr_env *env, const char *path, const struct wr_listener_ops *ops,
                        void *arg, struct wr_listener **out);
void wr_listener_addr(const struct wr_listener *l, struct wr_addr *out);    /* the bound one */
void wr_listener_close(struct wr_listener *l);

/* Starts to connect. With `from` (an address that a listener of ours is bound to) the connection leaves
 * from that port; when the system refuses that, it leaves from another one, see wr_sock_reused.
 * 0, WR_EUNREACH, WR_ENOFD, WR_ELIMIT, WR_EIO; later failures come by on_close: WR_EREFUSED,
 * WR_ETIMEOUT (only after a minute or two: have a timer), WR_EUNREACH, and WR_ESELF when a dial from our
 * listening port met itself. */
int wr_env_connect(struct wr_env *env, const struct wr_addr *to, const struct wr_addr *from,
                   const struct wr_sock_ops *ops, void *arg, struct wr_sock **out);
/* 0, WR_EREFUSED (nobody listens there), WR_EPERM, WR_EINVAL (the path is too long), WR_ENOFD,
 * WR_ELIMIT, WR_EIO. */
int wr_env_connect_local(struct wr_env *env, const char *path, const struct wr_sock_ops *ops, void *arg,
                         struct wr_sock **out);
/* A connected pair: one end as a socket of ours, the other as a descriptor for another process (closed
 * by the caller after passing it on). Not in the simulator: WR_EUNSUPPORTED. */
int wr_env_socketpair(struct wr_env *env, const struct wr_sock_ops *ops, void *arg,
                      struct wr_sock **out, int *fd);

/* Gives an accepted socket its handlers and starts reading. */
void wr_sock_attach(struct wr_sock *s, const struct wr_sock_ops *ops, void *arg);
/* Sends what the kernel takes at once and keeps the rest (copied) until it takes more; on_drain follows
 * when anything was kept. 0; WR_ELIMIT out of memory (close the socket then). Errors of the network
 * come by on_close. The caller bounds what it queues by looking at wr_sock_backlog. */
int wr_sock_write(struct wr_sock *s, const uint8_t *data, size_t len);
/* As wr_sock_write, with a descriptor passed along (local sockets only; fd stays the caller's). */
int wr_sock_write_fd(struct wr_sock *s, const uint8_t *data, size_t len, int fd);
size_t wr_sock_backlog(const struct wr_sock *s);    /* bytes kept, not yet with the kernel */
/* Bytes that the path takes within a few milliseconds, 16 to 128 KiB: a bulk sender hands over no more at
 * once, for whatever is written after them waits behind them. */
size_t wr_sock_batch(const struct wr_sock *s);
void wr_sock_pause(struct wr_sock *s, bool paused); /* stop or resume on_read */
/* No more from us, behind what is kept; reading goes on. Nothing may be written after it. */
void wr_sock_shut(struct wr_sock *s);
void wr_sock_local(const struct wr_sock *s, struct wr_addr *out);
void wr_sock_remote(const struct wr_sock *s, struct wr_addr *out);
/* True when a dial leaves from the port that was asked for. Meaningful from on_open on. */
bool wr_sock_reused(const struct wr_sock *s);
/* Smoothed round trip of the kernel, or 0 when unknown. */
wr_time wr_sock_rtt(const struct wr_sock *s);
/* What the kernel knows of a TCP connection's path; 0: it does not say. */
struct wr_sock_stats {
    wr_time rtt;                              /* smoothed */
    uint64_t cwnd, in_flight, retransmits;    /* bytes, bytes, segments since the start */
    uint32_t mtu;                             /* bytes of data in one segment */
};
void wr_sock_stats(const struct wr_sock *s, struct wr_sock_stats *out);
/* Sends what is kept if the kernel takes it at once, then closes; `reset` closes with RST (a listener
 * under load leaves no TIME_WAIT that way). No more calls. */
void wr_sock_close(struct wr_sock *s, bool reset);

/* ---- datagram sockets ---------------------------------------------------------------------------- */
struct wr_udp;

struct wr_udp_ops {
    /* One datagram, valid during the call. ifindex: the interface it came in by, 0 if unknown. */
    void (*on_datagram)(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data,
                        size_t len);
};

/* shared: several sockets may bind the same port (multicast). Errors as wr_env_listen. */
int wr_env_udp(struct wr_env *env, const struct wr_addr *at, bool shared, const struct wr_udp_ops *ops,
               void *arg, struct wr_udp **out);
int wr_udp_join(struct wr_udp *u, const struct wr_ip *group, uint32_t ifindex);
/* Sends now or drops: 0, WR_ELIMIT (no buffer space), WR_EUNREACH, WR_EIO. ifindex 0: by the routing
 * table. */
int wr_udp_send(struct wr_udp *u, const struct wr_addr *to, uint32_t ifindex, struct wr_bytes data);
void wr_udp_addr(const struct wr_udp *u, struct wr_addr *out);
void wr_udp_close(struct wr_udp *u);

/* ---- datagrams in bulk: the socket that QUIC lives on ------------------------------------------------
 * One socket listens, dials and punches, since a NAT's mapping belongs to a socket. Datagrams go out and
 * come in by the batch (segmentation offload where the system has it, one by one where it refuses), never
 * fragmented: one that is too large for the path is lost. */
struct wr_dgram;

#define WR_DGRAM_BATCH 65000    /* bytes of one send; the kernel's largest datagram, headers left out */
#define WR_DGRAM_SEGMENTS 64    /* datagrams of one send; Linux, UDP_MAX_SEGMENTS */

/* Datagrams that came from one address together: `segment` bytes each, the last one maybe shorter. */
struct wr_dgram_in {
    struct wr_addr from, to;    /* to: the address of ours, also on a wildcard socket */
    uint8_t ecn;                /* the two bits of RFC 3168 */
    uint8_t *data;              /* valid during the call, free to be overwritten */
    size_t len, segment;
};

struct wr_dgram_out {
    struct wr_addr to;
    struct wr_ip from;    /* source address; family 0: the socket's, or by the routing table */
    uint8_t ecn;
    const uint8_t *data;
    size_t len, segment;
};

struct wr_dgram_ops {
    void (*on_receive)(void *arg, const struct wr_dgram_in *in);    /* several times in one turn */
    void (*on_writable)(void *arg);    /* after WR_ELIMIT: sending goes on */
    /* The network says (ICMP) that nobody takes datagrams there, WR_EREFUSED, or that no way leads there,
     * WR_EUNREACH. It often does not say so, and anybody may: a hint at most. NULL: not of interest. */
    void (*on_error)(void *arg, const struct wr_addr *to, int err);
};

/* Errors as wr_env_listen. Not shared: the port is ours alone. */
int wr_env_dgram(struct wr_env *env, const struct wr_addr *at, const struct wr_dgram_ops *ops, void *arg,
                 struct wr_dgram **out);
/* 0: sent, or lost as any datagram may be. WR_ELIMIT: the system takes no more just now; what it left is
 * kept and goes first, and whatever is sent before on_writable is dropped. WR_EUNREACH: no way there. */
int wr_dgram_send(struct wr_dgram *d, const struct wr_dgram_out *out);
bool wr_dgram_blocked(const struct wr_dgram *d);    /* on_writable is to come */
void wr_dgram_addr(const struct wr_dgram *d, struct wr_addr *out);
void wr_dgram_close(struct wr_dgram *d);
/* The address of ours that packets to there leave from. Nothing is sent. 0, WR_EUNREACH, WR_ENOFD. */
int wr_env_source(struct wr_env *env, const struct wr_addr *to, struct wr_ip *out);

/* ---- names ---------------------------------------------------------------------------------------- */
struct wr_lookup;    /* one question; owned by the environment, alive until answered or cancelled */

enum wr_lookup_type { WR_LOOKUP_A, WR_LOOKUP_AAAA, WR_LOOKUP_TXT };

#define WR_LOOKUP_ANSWERS_MAX 100             /* records per answer, the rest dropped; go-libp2p */
#define WR_LOOKUP_TIMEOUT     (5 * WR_SEC)    /* per question, retries included; ours */

/* answers: 4 or 16 bytes (A, AAAA), or the joined character-strings of one TXT record; borrowed during
 * the call. err: 0, WR_ENOTFOUND, WR_ETIMEOUT, WR_EIO. Called in a later turn, once. */
typedef void (*wr_lookup_fn)(void *arg, int err, const struct wr_bytes *answers, size_t count);
/* Reads changed resolver settings by itself. 0 with *out set, WR_EINVAL, WR_ELIMIT. */
int wr_env_lookup(struct wr_env *env, const char *name, enum wr_lookup_type type, wr_lookup_fn fn,
                  void *arg, struct wr_lookup **out);
void wr_lookup_cancel(struct wr_lookup *lookup);

/* ---- interfaces of this machine ------------------------------------------------------------------- */
struct wr_ifaddr {
    char name[16];
    uint32_t index;
    struct wr_ip ip;
    uint8_t prefix;    /* bits of the link's network */
    bool loopback, multicast;
    bool temporary;     /* IPv6: one of those that change by the day, for privacy (RFC 8981) */
    bool deprecated;    /* IPv6: still good for what is open, and gone soon */
};

#define WR_IFADDRS_MAX 64    /* ours; more are not looked at */

/* Addresses of the interfaces that are up; returns their number, at most max. */
size_t wr_env_ifaddrs(struct wr_env *env, struct wr_ifaddr *out, size_t max);

/* A default route. */
struct wr_gateway {
    uint8_t family;    /* 4 or 6: what goes that way */
    struct wr_ip ip;   /* the next hop; family 0: none, as in tunnels */
    uint32_t index;    /* of the interface it leaves by */
    uint32_t metric;   /* the lower one is preferred */
};

#define WR_GATEWAYS_MAX 16    /* ours; more are not looked at */

/* The default routes of this machine, IPv4 first, the preferred one of each family first; returns their
 * number, at most max. */
size_t wr_env_gateways(struct wr_env *env, struct wr_gateway *out, size_t max);

struct wr_net_watch {
    struct wr_list node;
    /* Addresses or routes changed (coalesced), or the machine slept and they may have. */
    void (*on_change)(struct wr_net_watch *watch);
};
/* How often the network was cut off while somebody watched it: an address, a default route or the cable
 * of one went away, maybe to come back at once as if nothing had happened; or the machine, or this
 * process alone, stood still for five seconds or more. What peers and routers remember of us may be gone
 * then. Grows before the watches are told. */
uint64_t wr_env_net_cuts(const struct wr_env *env);
void wr_env_watch_net(struct wr_env *env, struct wr_net_watch *watch);
void wr_net_watch_stop(struct wr_net_watch *watch);

/* ---- work off the loop ------------------------------------------------------------------------------ */
struct wr_work {
    void (*run)(struct wr_work *work);    /* on another thread: touches only what work itself holds */
    void (*done)(struct wr_work *work);   /* back on the loop */
    void *priv;                           /* the environment's */
};
/* 0, WR_ELIMIT. The struct stays put until done was called. */
int wr_env_work(struct wr_env *env, struct wr_work *work);

#endif
