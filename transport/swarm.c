#include "transport/swarm.h"

#include "transport/swarm_impl.h"
#include "transport/wire.h"

#include <sodium.h>
#include <string.h>

#define UPKEEP_EVERY       (30 * WR_SEC)    /* peerstore sweep, trim, interfaces; ours */
#define SWEEP_BUDGET       256              /* peerstore entries a sweep; ours */
#define PEERS_MAX          131072           /* peers with connections, dials or tags; ours */

/* ---- events --------------------------------------------------------------------------------------- */

static void raise_event(struct wr_swarm *sw, const struct wr_swarm_event *event)
{
    wr_list_each(it, &sw->watches)
    {
        struct wr_swarm_watch *watch = wr_list_entry(it, struct wr_swarm_watch, node);
        watch->on_event(watch, event);
    }
}

void wr_swarm_raise(struct wr_swarm *sw, enum wr_swarm_event_type type, const struct wr_peerid *peer,
                    struct wr_conn *conn, int err)
{
    struct wr_swarm_event event = {.type = type, .peer = peer, .conn = conn, .err = err};
    raise_event(sw, &event);
}

void wr_swarm_raise_dialling(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_addr *to, bool udp)
{
    struct wr_swarm_event event = {
        .type = WR_SWARM_DIALLING, .peer = peer->len ? peer : NULL, .to = to, .udp = udp};
    raise_event(sw, &event);
}

void wr_swarm_watch(struct wr_swarm *sw, struct wr_swarm_watch *watch)
{
    wr_list_append(&sw->watches, &watch->node);
}

void wr_swarm_unwatch(struct wr_swarm_watch *watch)
{
    wr_list_remove(&watch->node);
}

/* Implementations that were seen to take the end of a stream before its protocol is agreed; see stream.c. */
static const char *const take_early_end[] = {"warren/", "kubo/", "go-libp2p/", "rust-libp2p/", NULL};
/* And those on quinn, which throws away what comes from another address than before. */
static const char *const stay_put[] = {"rust-libp2p/", "js-libp2p/", NULL};

void wr_swarm_identified(struct wr_swarm *sw, struct wr_conn *conn)
{
    conn->identified = true;
    const struct wr_peer *peer = wr_peerstore_find(&sw->peerstore, &conn->peer);
    conn->early_end = wr_peer_is_one_of(peer, take_early_end);
    conn->stays_put = wr_peer_is_one_of(peer, stay_put);
    wr_swarm_raise(sw, WR_SWARM_IDENTIFIED, &conn->peer, conn, 0);
}

void wr_swarm_peer_changed(struct wr_swarm *sw, const struct wr_peerid *peer)
{
    wr_swarm_raise(sw, WR_SWARM_PEER_CHANGED, peer, NULL, 0);
}

void wr_swarm_observed(struct wr_swarm *sw, struct wr_conn *conn, const struct wr_maddr *seen)
{
    struct wr_swarm_event event = {
        .type = WR_SWARM_OBSERVED, .peer = &conn->peer, .conn = conn, .seen = seen};
    raise_event(sw, &event);
}

/* ---- how the world reaches us ----------------------------------------------------------------------- */

enum wr_reachability wr_swarm_reachability(const struct wr_swarm *sw, unsigned family)
{
    if (family == 4)
        return sw->reach4;
    if (family == 6)
        return sw->reach6;
    if (sw->reach4 == WR_REACH_PUBLIC || sw->reach6 == WR_REACH_PUBLIC)
        return WR_REACH_PUBLIC;
    return sw->reach4 == WR_REACH_PRIVATE || sw->reach6 == WR_REACH_PRIVATE ? WR_REACH_PRIVATE
                                                                            : WR_REACH_UNKNOWN;
}

void wr_swarm_set_reachability(struct wr_swarm *sw, unsigned family, enum wr_reachability reachability)
{
    enum wr_reachability *of = family == 6 ? &sw->reach6 : &sw->reach4;
    if (*of == reachability)
        return;
    *of = reachability;
    if (wr_addrbook_set_private(&sw->addrbook, family, reachability == WR_REACH_PRIVATE))
        wr_swarm_addrs_changed(sw);
    wr_swarm_raise(sw, WR_SWARM_REACHABILITY, NULL, NULL, 0);
}

struct wr_nat *wr_swarm_nat(struct wr_swarm *sw)
{
    return &sw->nat;
}

bool wr_swarm_is_own(const struct wr_swarm *sw, struct wr_bytes addr)
{
    struct wr_addr at;
    struct wr_bytes bare = wr_maddr_strip_peer(addr);
    for (size_t i = 0; i < sw->addrbook.count; i++) {
        const struct wr_own_addr *own = &sw->addrbook.of[i];
        bool hearsay = own->source == WR_ADDR_OBSERVED || own->source == WR_ADDR_CANDIDATE;
        if (wr_bytes_equal(wr_maddr_bytes(&own->addr), bare) &&
            (!hearsay || own->verdict == WR_ADDR_REACHABLE ||
             (wr_maddr_addr(bare, &at) && wr_ip_equal(&at.ip, &sw->nat.external))))
            return true;
    }
    return false;
}

void wr_swarm_set_lifetime(struct wr_swarm *sw, wr_time lifetime, bool least)
{
    sw->nat.udp.lifetime = lifetime;
    sw->nat.udp.lifetime_least = least;
    if (sw->quic)
        wr_quic_set_lifetime(sw->quic, lifetime);
}

void wr_swarm_set_ports(struct wr_swarm *sw, const struct wr_ports *ports)
{
    sw->ports = ports ? *ports : (struct wr_ports){0};
}

void *wr_swarm_look(struct wr_swarm *sw, bool udp, wr_ports_done done, void *arg)
{
    return sw->ports.look ? sw->ports.look(sw->ports.arg, udp, done, arg) : NULL;
}

void wr_swarm_look_cancel(struct wr_swarm *sw, void *look)
{
    if (look)
        sw->ports.cancel(sw->ports.arg, look);
}

bool wr_swarm_udp_blocked(const struct wr_swarm *sw)
{
    return sw->udp.lost >= WR_BLACKHOLE_SIGN;
}

static void raise_addrs(struct wr_task *task)
{
    wr_swarm_raise(wr_list_entry(task, struct wr_swarm, addrs_task), WR_SWARM_ADDRS, NULL, NULL, 0);
}

void wr_swarm_addrs_changed(struct wr_swarm *sw)
{
    wr_env_defer(sw->env, &sw->addrs_task, raise_addrs);
}

static void raise_protocols(struct wr_task *task)
{
    wr_swarm_raise(wr_list_entry(task, struct wr_swarm, protocols_task), WR_SWARM_PROTOCOLS, NULL, NULL,
                   0);
}

int wr_swarm_handle(struct wr_swarm *sw, const struct wr_protocol *protocol)
{
    int rc = wr_protocols_add(&sw->ctx.protocols, protocol);
    if (rc == 0)
        wr_env_defer(sw->env, &sw->protocols_task, raise_protocols);
    return rc;
}

static bool drop_stream_of(struct wr_swarm *sw, const char *protocol)
{
    wr_list_each(it, &sw->conns)
        if (wr_conn_drop_protocol(wr_list_entry(it, struct wr_conn, node), protocol))
            return true;
    return false;
}

void wr_swarm_unhandle(struct wr_swarm *sw, const char *name)
{
    const struct wr_protocol *p = wr_protocols_find(&sw->ctx.protocols, wr_bytes_cstr(name));
    if (!p)
        return;
    /* From the start again after each: the end of one stream may end others, and connections (circuits). */
    while (drop_stream_of(sw, p->name)) {
    }
    wr_protocols_remove(&sw->ctx.protocols, name);
    wr_env_defer(sw->env, &sw->protocols_task, raise_protocols);
}

void wr_swarm_hide(struct wr_swarm *sw, const char *name, bool hidden)
{
    if (wr_protocols_hide(&sw->ctx.protocols, name, hidden))
        wr_env_defer(sw->env, &sw->protocols_task, raise_protocols);
}

/* ---- peers ---------------------------------------------------------------------------------------- */

struct wr_swarm_peer *wr_swarm_peer_at(struct wr_swarm *sw, const struct wr_peerid *id, bool make)
{
    struct wr_swarm_peer *p = wr_map_get(&sw->peers, wr_peerid_bytes(id));
    if (p || !make)
        return p;
    p = wr_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->id = *id;
    wr_list_init(&p->conns);
    if (wr_map_put(&sw->peers, wr_peerid_bytes(&p->id), p) != 0) {
        wr_free(p);
        return NULL;
    }
    return p;
}

void wr_swarm_peer_drop(struct wr_swarm *sw, struct wr_swarm_peer *p)
{
    if (p->conn_count || p->dial || p->again || p->tag_count)
        return;
    wr_map_del(&sw->peers, wr_peerid_bytes(&p->id));
    wr_free(p);
}

static struct wr_swarm_tag *find_tag(struct wr_swarm_peer *p, const char *name)
{
    for (unsigned i = 0; i < p->tag_count; i++)
        if (strcmp(p->tags[i].name, name) == 0)
            return &p->tags[i];
    return NULL;
}

void wr_swarm_tag(struct wr_swarm *sw, const struct wr_peerid *peer, const char *tag, int weight,
                  bool protect)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, peer, true);
    if (!p)
        return;
    struct wr_swarm_tag *t = find_tag(p, tag);
    if (!t && p->tag_count < WR_TAGS_MAX)
        t = &p->tags[p->tag_count++];
    if (t)
        *t = (struct wr_swarm_tag){.name = tag, .weight = weight, .protect = protect};
    wr_swarm_peer_drop(sw, p);
}

void wr_swarm_untag(struct wr_swarm *sw, const struct wr_peerid *peer, const char *tag)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, peer, false);
    struct wr_swarm_tag *t = p ? find_tag(p, tag) : NULL;
    if (!t)
        return;
    *t = p->tags[--p->tag_count];
    wr_swarm_peer_drop(sw, p);
}

/* ---- connections come and go ---------------------------------------------------------------------- */

/* 0, or why a connection that just proved its peer is not kept. */
static int admit(struct wr_swarm *sw, struct wr_conn *c, struct wr_swarm_peer **peer)
{
    if (wr_peerid_equal(&c->peer, &sw->ctx.self)) {
        wr_swarm_met_own_identity(sw, c);
        return WR_ESELF;
    }
    if (wr_policy_peer_blocked(&sw->policy, &c->peer))
        return WR_EGATED;
    const struct wr_swarm_peer *known = wr_swarm_peer_at(sw, &c->peer, false);
    if (known && known->conn_count >= sw->limits->of[WR_LIMIT_CONNS_PER_PEER].max && !wr_swarm_room_allowed(sw, c)) {
        wr_limits_refuse(sw->limits, WR_LIMIT_CONNS_PER_PEER);
        return WR_ELIMIT;
    }
    if (!wr_swarm_room_take(sw, WR_LIMIT_CONNS, c))
        return WR_ELIMIT;
    if (!c->outbound && !wr_swarm_room_take(sw, WR_LIMIT_CONNS_INBOUND, c)) {
        wr_limits_give(sw->limits, WR_LIMIT_CONNS, 1);
        return WR_ELIMIT;
    }
    *peer = wr_swarm_peer_at(sw, &c->peer, true);
    if (*peer)
        return 0;
    wr_limits_give(sw->limits, WR_LIMIT_CONNS, 1);
    if (!c->outbound)
        wr_limits_give(sw->limits, WR_LIMIT_CONNS_INBOUND, 1);
    return WR_ELIMIT;
}

static void give_up_mute(struct wr_swarm_peer *p)
{
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, peer_node);
        if (c->mute && c->bytes_in == c->mute_in)
            wr_conn_close(c, WR_CONN_OK);
    }
}

static void on_conn_open(void *arg, struct wr_conn *c)
{
    struct wr_swarm *sw = arg;
    struct wr_swarm_peer *p = NULL;
    int rc = admit(sw, c, &p);
    if (rc != 0) {
        /* It never becomes one of ours: only a dial hears of it. */
        wr_swarm_dial_conn_failed(c, rc);
        wr_conn_close(c, rc == WR_EGATED ? WR_CONN_GATED : WR_CONN_LIMIT);
        return;
    }
    wr_list_remove(&c->node);
    wr_list_append(&sw->conns, &c->node);
    wr_list_append(&p->conns, &c->peer_node);
    c->id = ++sw->next_conn_id;
    wr_swarm_flow_answered(sw, c);
    p->conn_count++;
    sw->conn_count++;
    if (!c->outbound)
        wr_limits_give(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
    struct wr_peer *known = wr_peerstore_get(&sw->peerstore, &c->peer);
    if (known) {
        known->connections++;
        known->seen_at = wr_env_now(sw->env);
        known->failed_dials = 0;
    }
    c->counted = known != NULL;
    if (c->outbound)
        give_up_mute(p);
    bool first = p->conn_count == 1;
    struct wr_peerid peer = c->peer;
    wr_swarm_raise(sw, WR_SWARM_OPENED, &peer, c, 0);
    if (first)
        wr_swarm_raise(sw, WR_SWARM_CONNECTED, &peer, c, 0);
    /* What they said over it at once has found it broken, and p may be gone. */
    if (c->state == WR_CONN_CLOSED) {
        wr_swarm_dial_conn_failed(c, WR_ECLOSED);
        wr_swarm_punch_conn_failed(sw, c, WR_ECLOSED);
        return;
    }
    wr_swarm_retire(sw, p, c);
    wr_swarm_dial_conn_opened(sw, c, p);
    wr_swarm_punch_conn_opened(sw, c);
    wr_swarm_room_trim(sw);
}

static void on_conn_close(void *arg, struct wr_conn *c, int err)
{
    struct wr_swarm *sw = arg;
    struct wr_peerid peer = c->peer;
    wr_list_remove(&c->node);
    wr_swarm_flow_over(sw, c);
    wr_swarm_part(sw, c);
    if (c->id == 0) {
        if (!c->outbound)
            wr_limits_give(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
        wr_swarm_dial_conn_failed(c, err);
        wr_swarm_punch_conn_failed(sw, c, err);
        return;
    }
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, &peer, false);
    wr_list_remove(&c->peer_node);
    sw->conn_count--;
    p->conn_count--;
    wr_limits_give(sw->limits, WR_LIMIT_CONNS, 1);
    if (!c->outbound)
        wr_limits_give(sw->limits, WR_LIMIT_CONNS_INBOUND, 1);
    struct wr_peer *known = wr_peerstore_find(&sw->peerstore, &peer);
    if (known && c->counted) {
        known->connections--;
        known->seen_at = wr_env_now(sw->env);
    }
    bool last = p->conn_count == 0;
    wr_swarm_raise(sw, WR_SWARM_CLOSED, &peer, c, err);
    if (last)
        wr_swarm_raise(sw, WR_SWARM_DISCONNECTED, &peer, NULL, err);
    p = wr_swarm_peer_at(sw, &peer, false);
    if (!p)
        return;
    if (p->dial)
        wr_swarm_dial_look_again(p->dial);
    wr_swarm_peer_drop(sw, p);
}

static void on_tried_again(void *arg, int err, struct wr_conn *conn)
{
    struct wr_swarm_peer *p = arg;
    (void)err, (void)conn;
    p->again = NULL;
}

/* The old one is heard: a second connection is not to be made of it. */
static void stop_trying(struct wr_swarm_peer *p)
{
    if (!p->again)
        return;
    wr_connect_cancel(p->again);
    p->again = NULL;
    if (p->dial)
        wr_swarm_dial_left(p->dial);
}

/* quinn, which rust- and js-libp2p stand on, throws away what comes from another address than before, and quic-go
 * follows three times: after our NAT gave us another port the connection is dead, and nobody says so. Whether it is
 * only the network shows a new one: when that opens before the old one was heard again, the old one is given up; else
 * the new one. A machine that has much else to do is mute for a moment, too. */
static void on_conn_mute(void *arg, struct wr_conn *c)
{
    struct wr_swarm *sw = arg;
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, &c->peer, false);
    struct wr_maddr addr;
    stop_trying(p);
    wr_conn_remote(c, &addr);
    if (c->mute && addr.len)
        (void)wr_swarm_connect(sw, &c->peer, &addr, 1, WR_ORIGIN_OWNER, WR_CONNECT_FRESH, on_tried_again, p, &p->again);
}

/* Who has another address now has lost what he had over TCP from the old one, and could not say so. Until something
 * comes over one of his others, they are the worse choice. */
static void on_conn_moved(void *arg, struct wr_conn *c)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(arg, &c->peer, false);
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *other = wr_list_entry(it, struct wr_conn, peer_node);
        if (other != c && !other->circuit)
            wr_conn_await(other, true);
    }
}

static const struct wr_conn_events conn_events = {
    .on_open = on_conn_open, .on_close = on_conn_close, .on_mute = on_conn_mute, .on_moved = on_conn_moved};

/* Direct, relayed, relayed with limits; of each one that is heard, and of those the one that stays. */
static int standing(const struct wr_conn *c)
{
    return 4 * (!c->circuit ? 2 : !c->limited) + 2 * !wr_conn_silent(c) + !c->retiring;
}

struct wr_conn *wr_swarm_conn(const struct wr_swarm *sw, const struct wr_peerid *peer)
{
    struct wr_swarm_peer *p = wr_map_get(&sw->peers, wr_peerid_bytes(peer));
    struct wr_conn *best = NULL;
    if (!p)
        return NULL;
    wr_list_each(it, &p->conns)
    {
        struct wr_conn *c = wr_list_entry(it, struct wr_conn, peer_node);
        if (!c->closing && !c->spent && c->state == WR_CONN_OPEN && (!best || standing(c) >= standing(best)))
            best = c;
    }
    return best;
}

void wr_swarm_each(struct wr_swarm *sw, void (*visit)(struct wr_conn *c, void *arg), void *arg)
{
    wr_list_each(it, &sw->conns)
        visit(wr_list_entry(it, struct wr_conn, node), arg);
}

size_t wr_swarm_conn_count(const struct wr_swarm *sw)
{
    return sw->conn_count;
}

void wr_swarm_disconnect(struct wr_swarm *sw, const struct wr_peerid *peer, uint32_t code)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, peer, false);
    if (!p)
        return;
    wr_list_each(it, &p->conns)
        wr_conn_close(wr_list_entry(it, struct wr_conn, peer_node), code);
}

static void close_if_blocked(struct wr_conn *c, void *arg)
{
    struct wr_swarm *sw = arg;
    struct wr_maddr remote;
    wr_conn_remote(c, &remote);
    if (wr_policy_peer_blocked(&sw->policy, &c->peer) ||
        wr_policy_may_dial(&sw->policy, &c->peer, wr_maddr_bytes(&remote), WR_ORIGIN_OWNER) == WR_EGATED)
        wr_conn_close(c, WR_CONN_GATED);
}

void wr_swarm_apply_policy(struct wr_swarm *sw)
{
    wr_swarm_each(sw, close_if_blocked, sw);
}

/* ---- life ----------------------------------------------------------------------------------------- */

/* A connection without ids for streams of ours goes with the last stream on it, whoever opened that. Where only the peer
 * can dial, he does so again. */
static void close_if_spent(struct wr_conn *c, void *arg)
{
    (void)arg;
    if (c->spent && c->stream_count == 0)
        wr_conn_close(c, WR_CONN_OK);
}

static void on_upkeep(struct wr_timer *timer)
{
    struct wr_swarm *sw = wr_list_entry(timer, struct wr_swarm, upkeep);
    wr_peerstore_sweep(&sw->peerstore, SWEEP_BUDGET);
    wr_flows_expire(&sw->flows, wr_env_now(sw->env));
    wr_swarm_each(sw, close_if_spent, NULL);
    wr_swarm_room_trim(sw);
    wr_timer_start(sw->env, &sw->upkeep, wr_env_now(sw->env) + UPKEEP_EVERY, on_upkeep);
}

/* Whoever waits for the node to be ready does not wait for this. */
static void on_warm(struct wr_timer *timer)
{
    wr_aead_warm(wr_list_entry(timer, struct wr_swarm, warm)->ctx.aead);
}

/* What follows from our key: the id, and what Noise signs with it. 0, WR_ELIMIT. */
static int take_identity(struct wr_swarm *sw)
{
    struct wr_buf pubkey;
    uint8_t secret[WR_NOISE_STATIC];
    wr_buf_init(&pubkey, WR_PUBKEY_MAX);
    wr_key_encode_public(sw->key, &pubkey);
    int rc = pubkey.full ? WR_ELIMIT : wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &sw->ctx.self);
    wr_buf_clear(&pubkey);
    wr_env_random(sw->env, secret, sizeof(secret));
    wr_noise_static_make(&sw->ctx.noise, sw->key, secret);
    sodium_memzero(secret, sizeof(secret));
    return rc;
}

/* All that begins empty. */
static void init_tables(struct wr_swarm *sw)
{
    wr_protocols_init(&sw->ctx.protocols);
    wr_peerstore_init(&sw->peerstore, sw->env, sw->limits);
    wr_addrbook_init(&sw->addrbook);
    sw->addrbook.policy = &sw->policy;
    wr_policy_init(&sw->policy, wr_env_hash_seed(sw->env));
    wr_backoff_init(&sw->backoff, wr_env_hash_seed(sw->env));
    wr_flows_init(&sw->flows, sw->limits, wr_env_hash_seed(sw->env));
    wr_map_init(&sw->peers, PEERS_MAX, wr_env_hash_seed(sw->env));
    wr_list_init(&sw->conns);
    wr_list_init(&sw->opening);
    wr_list_init(&sw->watches);
    wr_list_init(&sw->dials);
    wr_list_init(&sw->punches);
    wr_list_init(&sw->dial_queue);
    wr_list_init(&sw->net_watch.node);
}

struct wr_swarm *wr_swarm_create(const struct wr_swarm_options *options)
{
    struct wr_swarm *sw = wr_alloc(sizeof(*sw));
    uint8_t *scratch = wr_alloc(WR_CONN_SCRATCH), *inbox = wr_alloc(WR_WIRE_INBOX);
    struct wr_aead *aead = wr_aead_create_cold();
    struct wr_verified *verified = wr_verified_create(wr_env_hash_seed(options->env));
    struct wr_tlsctx *tls = wr_tlsctx_create(options->identity, wr_env_unix(options->env) / WR_SEC);
    if (!sw || !scratch || !inbox || !aead || !verified || !tls) {
        wr_free(sw);
        wr_free(scratch);
        wr_free(inbox);
        wr_aead_destroy(aead);
        wr_verified_destroy(verified);
        wr_tlsctx_destroy(tls);
        return NULL;
    }
    struct wr_env *env = options->env;
    sw->env = env;
    sw->limits = options->limits;
    sw->heir = options->heir;
    sw->key = options->identity;
    sw->ctx = (struct wr_conn_ctx){
        .env = env,
        .limits = options->limits,
        .identity = options->identity,
        .aead = aead,
        .verified = verified,
        .tls = tls,
        .psk = options->psk,
        .scratch = scratch,
        .inbox = inbox,
        .events = &conn_events,
        .events_arg = sw,
    };
    const struct wr_secure *const *security =
        options->security[0] ? options->security : wr_secure_all;
    for (size_t i = 0; security[i]; i++)
        sw->ctx.security[i] = security[i];
    int rc = take_identity(sw);
    init_tables(sw);
    if (rc == 0 && !options->psk) {
        sw->quic = wr_quic_create(&sw->ctx, &wr_swarm_quic_ops, sw);
        rc = sw->quic ? 0 : WR_ELIMIT;
    }
    if (rc != 0) {
        wr_swarm_destroy(sw);
        return NULL;
    }
    wr_swarm_net_watch(sw);
    wr_swarm_refresh_links(sw);
    wr_timer_start(env, &sw->upkeep, wr_env_now(env) + UPKEEP_EVERY, on_upkeep);
    wr_timer_start(env, &sw->warm, wr_env_now(env), on_warm);
    return sw;
}

/* Ends connections at once. Their memory goes when the turn settles. */
static void end_all(struct wr_list *conns, uint32_t code)
{
    while (!wr_list_empty(conns)) {
        struct wr_conn *c = wr_list_entry(conns->next, struct wr_conn, node);
        c->owner = NULL;
        c->mux->close(c, code);
        wr_conn_ended(c, WR_ECLOSED);
    }
}

static void free_swarm(struct wr_task *task)
{
    struct wr_swarm *sw = wr_list_entry(task, struct wr_swarm, addrs_task);
    size_t cursor = 0;
    for (struct wr_swarm_peer *p; (p = wr_map_next(&sw->peers, &cursor));) {
        wr_map_del(&sw->peers, wr_peerid_bytes(&p->id));
        wr_free(p);
    }
    wr_map_clear(&sw->peers);
    wr_backoff_clear(&sw->backoff);
    wr_flows_clear(&sw->flows);
    wr_policy_clear(&sw->policy);
    wr_peerstore_clear(&sw->peerstore);
    wr_protocols_clear(&sw->ctx.protocols);
    wr_aead_destroy(sw->ctx.aead);
    wr_verified_destroy(sw->ctx.verified);
    wr_tlsctx_destroy(sw->ctx.tls);
    sodium_memzero(&sw->ctx.noise, sizeof(sw->ctx.noise));
    wr_free(sw->ctx.scratch);
    wr_free(sw->ctx.inbox);
    wr_free(sw);
}

void wr_swarm_destroy(struct wr_swarm *sw)
{
    if (!sw || sw->destroyed)
        return;
    sw->destroyed = true;
    for (size_t i = 0; i < sw->listener_count; i++)
        if (sw->listeners[i].socket)
            wr_listener_close(sw->listeners[i].socket);
    wr_timer_stop(sw->env, &sw->upkeep);
    wr_timer_stop(sw->env, &sw->warm);
    wr_timer_stop(sw->env, &sw->retire);
    wr_net_watch_stop(&sw->net_watch);
    wr_swarm_dials_abort(sw);
    wr_swarm_punches_abort(sw);
    end_all(&sw->conns, WR_CONN_SHUTDOWN);
    end_all(&sw->opening, WR_CONN_SHUTDOWN);
    if (sw->heir)
        wr_flows_inherit(&sw->heir->flows, &sw->flows, wr_env_now(sw->env));
    wr_task_cancel(&sw->addrs_task);
    wr_task_cancel(&sw->protocols_task);
    wr_task_cancel(&sw->network_task);
    wr_quic_destroy(sw->quic);
    /* Behind the disposals of its connections, which still look at the context. */
    wr_env_dispose(sw->env, &sw->addrs_task, free_swarm);
}

struct wr_env *wr_swarm_env(const struct wr_swarm *sw)
{
    return sw->env;
}

struct wr_limits *wr_swarm_limits(const struct wr_swarm *sw)
{
    return sw->limits;
}

const struct wr_key *wr_swarm_key(const struct wr_swarm *sw)
{
    return sw->key;
}

const struct wr_peerid *wr_swarm_self(const struct wr_swarm *sw)
{
    return &sw->ctx.self;
}

struct wr_verified *wr_swarm_verified(struct wr_swarm *sw)
{
    return sw->ctx.verified;
}

struct wr_peerstore *wr_swarm_peerstore(struct wr_swarm *sw)
{
    return &sw->peerstore;
}

struct wr_addrbook *wr_swarm_addrbook(struct wr_swarm *sw)
{
    return &sw->addrbook;
}

struct wr_policy *wr_swarm_policy(struct wr_swarm *sw)
{
    return &sw->policy;
}

const struct wr_protocols *wr_swarm_protocols(const struct wr_swarm *sw)
{
    return &sw->ctx.protocols;
}

const uint8_t *wr_swarm_psk(const struct wr_swarm *sw)
{
    return sw->ctx.psk;
}

