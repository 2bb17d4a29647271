/* methods_impl.h - what the files of methods share. Included by methods*.c only. */
#ifndef WR_METHODS_IMPL_H
#define WR_METHODS_IMPL_H

#include "dht/dht_msg.h"
#include "dht/namespace.h"
#include "node/methods.h"
#include "node/reason.h"
#include "transport/err.h"

#define WR_METHODS_RULES_MAX (2 * WR_POLICY_RULES_MAX) /* kept rules: both lists full */

struct wr_methods {
    struct wr_methods_options o;
    struct wr_env *env;
    struct wr_swarm_watch watch;
    struct wr_kv_watch kv_watch;
    wr_time started_at;
    uint64_t closed_in, closed_out; /* bytes of connections that are gone */
    uint64_t closed_losses, closed_moves; /* what befell those over QUIC */
    uint64_t opened_direct, opened_relayed, opened_lan; /* connections, by their path */
    struct wr_list waits;           /* methods_look.c: calls of `wait` */
    struct wr_timer wait_timer;
    struct wr_list connects;        /* methods_peer.c: calls of `connect` that wait for the peer's first word */
    struct wr_timer refused_timer;
    uint64_t refused[2]; /* what limits had refused an hour ago at least, and at the last look */
    struct wr_list rules; /* methods_peer.c */
    size_t rule_count;
    struct wr_list joined;  /* methods_name.c */
    struct wr_list keeps;   /* methods_keep.c */
    struct wr_list served;  /* methods_stream.c: protocols that clients answer */
    struct wr_list bridges; /* methods_stream.c: streams handed to clients */
};

struct wr_methods_entry {
    const char *name;
    wr_method_fn fn; /* called with the wr_methods */
};
/* Registers methods; the list ends with NULL. As wr_control_method. */
int wr_methods_register(struct wr_methods *m, const struct wr_methods_entry *list);

/* Each registers the methods of its file. */
int wr_methods_look(struct wr_methods *m);
int wr_methods_peer(struct wr_methods *m);
int wr_methods_dht(struct wr_methods *m);
int wr_methods_name(struct wr_methods *m);
int wr_methods_table(struct wr_methods *m);
int wr_methods_stream(struct wr_methods *m);
int wr_methods_why(struct wr_methods *m);
int wr_methods_relay(struct wr_methods *m);
/* methods_keep.c: writes (or with on = false deletes) a key of the store, and ends the call, whose result is packed, when
 * that is on the disk. What has come into force already stays so if it cannot get there, and the call fails. */
void wr_methods_keep(struct wr_methods *m, struct wr_call *call, struct wr_bytes key, bool on);
/* The store lost all it had: write again what they keep there. */
void wr_methods_peer_save(struct wr_methods *m);
void wr_methods_name_save(struct wr_methods *m);
/* Of the swarm: calls of `connect` wait for such. */
void wr_methods_peer_event(struct wr_methods *m, const struct wr_swarm_event *event);
void wr_methods_look_end(struct wr_methods *m);
void wr_methods_peer_end(struct wr_methods *m);
void wr_methods_keep_end(struct wr_methods *m);
void wr_methods_name_end(struct wr_methods *m);
void wr_methods_stream_end(struct wr_methods *m);
void wr_methods_metrics(const struct wr_methods *m, struct wr_buf *out); /* Prometheus text */
/* methods_table.c: what status and metrics say of the DHT; and whether it has a peer, or is off. */
void wr_methods_pack_dht(const struct wr_methods *m, struct wr_pack *p);
void wr_methods_dht_metrics(const struct wr_methods *m, struct wr_buf *out);
/* methods_nat.c: the same of being reached and of the NAT. */
void wr_methods_pack_nat(const struct wr_methods *m, struct wr_pack *p);
void wr_methods_nat_metrics(const struct wr_methods *m, struct wr_buf *out);
void wr_methods_punch_metrics(const struct wr_methods *m, struct wr_buf *out);    /* methods_punch.c */
/* methods_relay.c: the same of relays, ours and those of others. */
void wr_methods_pack_relays(const struct wr_methods *m, struct wr_pack *p);
void wr_methods_relay_metrics(const struct wr_methods *m, struct wr_buf *out);
bool wr_methods_dht_ready(const struct wr_methods *m);
/* methods_dht.c: true when the DHT is off, and the call failed for it. */
bool wr_methods_dht_off(const struct wr_methods *m, struct wr_call *call);
/* The parameter `name`; false with the call failed. */
bool wr_methods_name_param(struct wr_call *call, struct wr_params *params,
                           char out[static WR_NAMESPACE_MAX + 1]);
/* methods_look.c: our own addresses. */
void wr_methods_pack_addresses(const struct wr_methods *m, struct wr_pack *p);
/* methods_why.c: what is known of the way between us and the world. */
struct wr_diagnose_input;
void wr_methods_evidence(const struct wr_methods *m, struct wr_diagnose_input *in);
/* peer and addrs. */
void wr_methods_pack_peer(struct wr_pack *p, const struct wr_dht_peer *peer);

/* A peer as clients name it: the parameter `peer` is a peer id or a multiaddr. */
struct wr_target {
    struct wr_peerid peer; /* len 0: only an address is known */
    struct wr_maddr addr;  /* without /p2p; len 0: only a peer id is known */
};
/* False when it failed the call, saying why. */
bool wr_methods_target(struct wr_call *call, struct wr_params *params, struct wr_target *target);

/* As wr_methods_target, for methods that need a peer id. */
bool wr_methods_peer_target(struct wr_call *call, struct wr_params *params,
                            struct wr_target *target);
/* Connects before a stream is opened: by the address given, by what is known, or by what the DHT
 * finds. As wr_swarm_connect. */
int wr_methods_reach(struct wr_methods *m, const struct wr_target *target, wr_connect_fn fn,
                     void *arg, struct wr_connect **out);

/* ---- fields that stand in many results */
void wr_methods_pack_id(struct wr_pack *p, const char *key, const struct wr_peerid *id);
void wr_methods_pack_ip(struct wr_pack *p, const char *key, const struct wr_ip *ip);
void wr_methods_pack_maddr(struct wr_pack *p, const char *key, struct wr_bytes addr);
void wr_methods_pack_maddrs(struct wr_pack *p, const char *key, const struct wr_maddr *addrs, size_t count);
/* Milliseconds from an instant until now. */
void wr_methods_pack_ago(const struct wr_methods *m, struct wr_pack *p, const char *key, wr_time at);
void wr_methods_pack_error(struct wr_pack *p, int err); /* error and text */
/* methods_nat.c: mapping and filtering in words. */
void wr_methods_pack_ways(struct wr_pack *p, const struct wr_nat_kind *kind);
/* methods_nat.c: what is known of one transport's NAT, as a map that is left open for more. */
void wr_methods_pack_kind(struct wr_pack *p, const char *key, const struct wr_nat_kind *kind);

/* "direct", "relayed" or "lan". */
const char *wr_methods_path(const struct wr_methods *m, const struct wr_conn *c);
/* peer, path and addr of a connection, as fields. */
void wr_methods_pack_conn(const struct wr_methods *m, struct wr_pack *p, const struct wr_conn *c);
/* Of a circuit: whether its relay set limits, and which. */
void wr_methods_pack_limits(struct wr_pack *p, const struct wr_conn *c);
/* Why one address did not lead to the peer; and the one reason that stands for all that was tried, err: of the dial. */
enum wr_reason wr_methods_dial_reason(const struct wr_methods *m, const struct wr_dial_report *tried);
enum wr_reason wr_methods_sum_up(const struct wr_methods *m, int err, const struct wr_dial_report *tried, size_t count);
/* A stream to the peer ended with err: because he does not speak that protocol? A dial may end with the same error. */
bool wr_methods_unspoken(const struct wr_methods *m, const struct wr_peerid *peer, int err);
/* The peer was reached at connected_at (0: it never was): whether err is its doing, and not that of a dial made since. If
 * so, and what it did was to end the connection, the call fails saying that. */
bool wr_methods_hung_up(const struct wr_methods *m, struct wr_call *call, const struct wr_peerid *peer, int err,
                        wr_time connected_at);
/* Fails a call whose dial failed, with what was tried and what to do. */
void wr_methods_dial_failed(const struct wr_methods *m, struct wr_call *call,
                            const struct wr_peerid *peer, int err);
double wr_methods_ms(wr_time t);

#define WR_RTT_BOUNDS 6
extern const wr_time wr_methods_rtt_bounds[WR_RTT_BOUNDS];

struct wr_totals {
    size_t peers, direct, relayed, lan, inbound, outbound, noise, tls, tcp, quic, streams;
    uint64_t bytes_in, bytes_out;
    uint64_t loss_events, migrations;    /* of QUIC, since the start */
    uint64_t cwnd, in_flight;            /* bytes, of all connections together */
    uint64_t retransmits;                /* of the TCP connections that are open */
    wr_time rtt_min, rtt_max;            /* smoothed; 0: of none it is known */
    size_t rtts[WR_RTT_BOUNDS + 1];      /* connections by wr_methods_rtt_bounds; the last: slower */
};
void wr_methods_totals(const struct wr_methods *m, struct wr_totals *out);

#endif
