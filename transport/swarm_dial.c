/* Requests for connections and the dials that serve them. One dial a peer, shared by all requests:
 *
 *   request -> dial: addresses given + known -> names resolved -> ranked, staggered connects, circuits behind
 *                    none answers soon -> the router is asked -> again
 *           <- the first connection that opens, also one that the peer made meanwhile
 *
 * A circuit answers those whom it is enough for; for the rest the dial goes on, and waits as long as there is a
 * circuit, which may yet lead to a direct connection (dcutr). */
#include "transport/swarm_dial.h"

#include "transport/channel.h"

#include <string.h>

/* Back-offs that hold whoever is looked for. */
static const struct wr_peerid anybody;

static void step(struct wr_swarm_dial *d);

/* ---- the end of a dial ---------------------------------------------------------------------------- */

static void dispose_dial(struct wr_task *task)
{
    struct wr_swarm_dial *d = wr_list_entry(task, struct wr_swarm_dial, task);
    wr_free(d->report);
    wr_free(d);
}

/* Was it under way before the winner, and without an answer when that one was there? */
static bool overtaken(const struct wr_swarm_dial *d, size_t i, size_t winner)
{
    const struct wr_dial_addr *a = &d->plan.addrs[i];
    return !a->lan && (a->state == WR_DIAL_RUNNING || a->err == WR_ETIMEOUT) &&
           d->begun_at[i] < d->begun_at[winner];
}

/* What the dial says about UDP and IPv6 here. QUIC needs one round trip and starts first, TCP three; IPv6 starts first
 * of the two families. Each is judged where all else is equal, for who has no IPv6 has no QUIC over it either. */
static void judge_network(struct wr_swarm_dial *d, const struct wr_conn *winner)
{
    struct wr_swarm *sw = d->swarm;
    bool ip6 = winner->remote.ip.family == 6, quic_lost = false, ip6_lost = false;
    size_t won = 0;
    if (winner->circuit || wr_ip_classify(&winner->remote.ip) != WR_IP_PUBLIC)
        return;
    while (won < d->plan.count && d->conns[won] != winner)
        won++;
    for (size_t i = 0; won < d->plan.count && i < d->plan.count; i++) {
        struct wr_bytes addr = wr_maddr_bytes(&d->plan.addrs[i].addr);
        struct wr_addr to;
        if (!wr_maddr_addr(addr, &to) || wr_maddr_is_circuit(addr) || !overtaken(d, i, won))
            continue;
        bool quic = wr_maddr_kind(addr) == WR_MADDR_QUIC;
        quic_lost |= quic && !winner->udp && to.ip.family == winner->remote.ip.family;
        ip6_lost |= to.ip.family == 6 && !ip6 && quic == winner->udp;
    }
    if (winner->udp || quic_lost)
        wr_blackhole_note(&sw->udp, winner->udp);
    if (ip6 || ip6_lost)
        wr_blackhole_note(&sw->ip6, ip6);
}

/* Is there a circuit that may yet lead to a direct connection? */
static bool has_circuit(const struct wr_swarm_dial *d)
{
    const struct wr_conn *c = d->peer.len ? wr_swarm_conn(d->swarm, &d->peer) : NULL;
    return c && c->circuit;
}

static bool enough(const struct wr_conn *c, bool limited_too)
{
    return c->state == WR_CONN_OPEN && !c->closing && (!c->limited || limited_too);
}

static struct wr_stream *content_stream(struct wr_swarm_dial *d, const struct wr_conn *c)
{
    wr_list_each(it, &d->streams)
    {
        struct wr_stream *s = wr_list_entry(it, struct wr_stream, node);
        if (enough(c, s->limited_too))
            return s;
    }
    return NULL;
}

static struct wr_connect *content_request(struct wr_swarm_dial *d, const struct wr_conn *c)
{
    wr_list_each(it, &d->requests)
    {
        struct wr_connect *r = wr_list_entry(it, struct wr_connect, node);
        if (!r->direct || !c->circuit)
            return r;
    }
    return NULL;
}

/* A connection to everybody who asked for no better one. Whoever is told may take others out of the lists. */
static void serve(struct wr_swarm_dial *d, struct wr_conn *c)
{
    for (struct wr_stream *s; (s = content_stream(d, c));) {
        wr_list_remove(&s->node);
        int rc = wr_stream_attach(s, c);
        if (rc != 0 && rc != WR_ELIMIT)
            wr_stream_fail(s, rc);
    }
    for (struct wr_connect *r; (r = content_request(d, c));)
        wr_connect_answer(r, 0, c);
}

static void cancel_circuit(struct wr_swarm_dial *d, size_t i)
{
    if (d->circuits[i].attempt)
        d->swarm->circuits.cancel(d->swarm->circuits.arg, d->circuits[i].attempt);
    d->circuits[i].attempt = NULL;
}

/* Ends the dial: the winner (or nobody) to every request and stream that waits. */
static void end_dial(struct wr_swarm_dial *d, int err, struct wr_conn *winner)
{
    struct wr_swarm *sw = d->swarm;
    if (d->over)
        return;
    d->over = true;
    int stream_err = winner ? WR_ECLOSED : has_circuit(d) ? WR_ELIMITED : err;
    wr_swarm_report_keep(d, err, winner);
    if (winner)
        judge_network(d, winner);
    wr_timer_stop(sw->env, &d->timer);
    wr_list_remove(&d->node);
    if (d->started)
        wr_limits_give(sw->limits, WR_LIMIT_DIALS, 1);
    for (size_t i = 0; i < d->resolving_count; i++)
        wr_resolve_cancel(d->resolving[i].resolve);
    if (d->search)
        sw->router.cancel(sw->router.arg, d->search);
    for (size_t i = 0; i < WR_DIAL_ADDRS_MAX; i++) {
        cancel_circuit(d, i);
        if (!d->conns[i] || d->conns[i] == winner)
            continue;
        d->conns[i]->owner = NULL;
        wr_conn_close(d->conns[i], WR_CONN_OK);
    }
    struct wr_swarm_peer *p = d->peer.len ? wr_swarm_peer_at(sw, &d->peer, false) : NULL;
    if (p && p->dial == d)
        p->dial = NULL;
    if (err != 0 && d->peer.len)
        wr_swarm_raise(sw, WR_SWARM_DIAL_FAILED, &d->peer, NULL, err);
    if (winner)
        serve(d, winner);
    while (!wr_list_empty(&d->streams))
        wr_stream_fail(wr_list_entry(wr_list_pop(&d->streams), struct wr_stream, node), stream_err);
    while (!wr_list_empty(&d->requests))
        wr_connect_answer(wr_list_entry(d->requests.next, struct wr_connect, node), err, winner);
    /* Who was told may have untagged the peer, and so dropped it already. */
    p = d->peer.len ? wr_swarm_peer_at(sw, &d->peer, false) : NULL;
    if (p)
        wr_swarm_peer_drop(sw, p);
    wr_env_dispose(sw->env, &d->task, dispose_dial);
    wr_swarm_dial_next(sw);
}

/* ---- addresses ------------------------------------------------------------------------------------ */

/* An address (empty: a name without any) that is not dialled. */
static void refuse(struct wr_swarm_dial *d, struct wr_bytes addr, int err)
{
    struct wr_dial_report entry = {.err = err, .at = wr_env_now(d->swarm->env)};
    d->refused++;
    if (d->refused_err == 0 || err == WR_EBACKOFF)
        d->refused_err = err;
    if (addr.len == 0 || addr.len > WR_MADDR_MAX)
        return;
    memcpy(entry.addr.bytes, addr.ptr, addr.len);
    entry.addr.len = (uint8_t)addr.len;
    wr_swarm_report_note(d, &entry);
}

static bool can_dial(const struct wr_swarm *sw, struct wr_bytes addr)
{
    enum wr_maddr_kind kind = wr_maddr_kind(addr);
    return kind == WR_MADDR_TCP || (kind == WR_MADDR_QUIC && sw->quic);
}

/* Through a relay other than both ends, which is asked by somebody else: names in it he resolves, too. */
static bool can_relay(const struct wr_swarm_dial *d, struct wr_bytes addr)
{
    struct wr_peerid relay;
    return d->swarm->circuits.dial && d->peer.len && wr_maddr_relay(addr, &relay) &&
           !wr_peerid_equal(&relay, &d->peer) && !wr_peerid_equal(&relay, &d->swarm->ctx.self) &&
           !wr_policy_peer_blocked(&d->swarm->policy, &relay);
}

/* One address to dial as it is: filtered, then ranked among the rest. */
static void add_ready(struct wr_swarm_dial *d, struct wr_bytes addr, enum wr_addr_origin origin)
{
    struct wr_swarm *sw = d->swarm;
    struct wr_peerid named;
    if (wr_maddr_peer(addr, &named) && d->peer.len && !wr_peerid_equal(&named, &d->peer))
        return;
    struct wr_bytes bare = wr_maddr_strip_peer(addr);
    struct wr_addr to;
    bool circuit = wr_maddr_is_circuit(bare);
    /* Who wants no relay has no use for it, and nothing is wrong with it: somebody who does may join later. */
    if (circuit && !d->may_relay)
        return;
    if (circuit ? !can_relay(d, bare) : !can_dial(sw, bare) || !wr_maddr_addr(bare, &to) || to.port == 0) {
        refuse(d, bare, WR_EUNSUPPORTED);
        return;
    }
    /* Two peers with places at one relay have the same circuit address but for the end. */
    if (!circuit && wr_swarm_is_own(sw, bare) && d->peer.len) {
        refuse(d, bare, WR_ESELF);
        return;
    }
    int rc = wr_policy_may_dial(&sw->policy, &d->peer, bare, origin);
    if (rc == 0 && origin != WR_ORIGIN_OWNER &&
        (wr_backoff_waits(&sw->backoff, &d->peer, bare, wr_env_now(sw->env)) ||
         (!circuit && wr_backoff_waits(&sw->backoff, &anybody, bare, wr_env_now(sw->env)))))
        rc = WR_EBACKOFF;
    if (rc != 0) {
        refuse(d, bare, rc);
        return;
    }
    int again = wr_dial_again(&d->plan, bare, wr_env_now(sw->env));
    if (again >= 0)
        d->security_tried[again] = 0;
    wr_dial_add(&d->plan, bare, wr_env_now(sw->env));
    for (size_t i = 0; i < d->plan.count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&d->plan.addrs[i].addr), bare))
            d->origins[i] = origin;
}

static void on_resolved(void *arg, struct wr_bytes addr)
{
    struct resolving *r = arg;
    add_ready(r->dial, addr, r->origin);
}

static void on_resolve_done(void *arg, int err)
{
    struct resolving *r = arg;
    struct wr_swarm_dial *d = r->dial;
    r->resolve = NULL;
    if (err != 0)
        refuse(d, wr_maddr_bytes(&r->name), err);
    step(d);
}

static const struct wr_resolve_ops resolve_ops = {.on_addr = on_resolved, .on_done = on_resolve_done};

void wr_swarm_dial_add(struct wr_swarm_dial *d, struct wr_bytes addr, enum wr_addr_origin origin)
{
    enum wr_maddr_kind kind = wr_maddr_kind(addr);
    if (kind != WR_MADDR_DNS && kind != WR_MADDR_DNSADDR) {
        add_ready(d, addr, origin);
        return;
    }
    if (d->resolving_count >= WR_SWARM_DIAL_RESOLVES || addr.len > WR_MADDR_MAX)
        return;
    struct resolving *r = &d->resolving[d->resolving_count];
    r->dial = d;
    r->origin = origin;
    r->name.len = (uint8_t)addr.len;
    memcpy(r->name.bytes, addr.ptr, addr.len);
    r->resolve = wr_resolve_start(d->swarm->env, addr, &resolve_ops, r);
    if (r->resolve)
        d->resolving_count++;
}

static void add_known(struct wr_swarm_dial *d)
{
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(&d->swarm->peerstore, &d->peer, known, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++)
        wr_swarm_dial_add(d, wr_maddr_bytes(&known[i]), WR_ORIGIN_STRANGER);
}

/* ---- running -------------------------------------------------------------------------------------- */

static bool resolving(const struct wr_swarm_dial *d)
{
    for (size_t i = 0; i < d->resolving_count; i++)
        if (d->resolving[i].resolve)
            return true;
    return false;
}

static void on_routed(void *arg, int err)
{
    struct wr_swarm_dial *d = arg;
    d->search = NULL;
    d->route_err = err;
    if (err == 0)
        add_known(d);
    step(d);
}

/* What to propose to an address that did not speak `tried` protocols before: first what the peer spoke last
 * time, then ours in order. NULL when there are no more. */
static const struct wr_secure *security_for(const struct wr_swarm_dial *d, size_t tried)
{
    const struct wr_swarm *sw = d->swarm;
    const struct wr_peer *peer = d->peer.len ? wr_peerstore_find(&sw->peerstore, &d->peer) : NULL;
    const struct wr_secure *known = NULL;
    for (size_t i = 0; peer && peer->security && sw->ctx.security[i]; i++)
        if (sw->ctx.security[i] == wr_secure_all[peer->security - 1])
            known = sw->ctx.security[i];
    if (known && tried-- == 0)
        return known;
    for (size_t i = 0; sw->ctx.security[i]; i++)
        if (sw->ctx.security[i] != known && tried-- == 0)
            return sw->ctx.security[i];
    return NULL;
}

static void remember_security(struct wr_swarm *sw, const struct wr_conn *c)
{
    struct wr_peer *peer = wr_peerstore_find(&sw->peerstore, &c->peer);
    for (uint8_t i = 0; peer && c->security && wr_secure_all[i]; i++)
        if (wr_secure_all[i] == c->security)
            peer->security = (uint8_t)(i + 1);
}

static void own_failed(struct wr_swarm_dial *d, size_t i, int err);

/* What to propose through a relay: Noise, which everybody speaks, then the rest. */
static const struct wr_secure *circuit_security(const struct wr_swarm_dial *d, size_t tried)
{
    const struct wr_secure *const *ours = d->swarm->ctx.security;
    const struct wr_secure *noise = NULL;
    for (size_t i = 0; ours[i]; i++)
        if (strcmp(ours[i]->name, "/noise") == 0)
            noise = ours[i];
    if (noise && tried-- == 0)
        return noise;
    for (size_t i = 0; ours[i]; i++)
        if (ours[i] != noise && tried-- == 0)
            return ours[i];
    return NULL;
}

/* The relay's answer: a way through, or a reason. */
static void on_circuit(void *arg, int err, struct wr_stream *s, const struct wr_circuit *circuit, struct wr_bytes early)
{
    struct circuit *asked = arg;
    struct wr_swarm_dial *d = asked->dial;
    struct wr_swarm *sw = d->swarm;
    size_t i = (size_t)(asked - d->circuits);
    struct wr_circuit_side side = {.outbound = true, .expect = &d->peer, .owner = d};
    asked->attempt = NULL;
    if (err == 0) {
        side.security = circuit_security(d, d->security_tried[i]);
        d->conns[i] = wr_channel_circuit(&sw->ctx, circuit, s, early, &side);
        err = WR_ELIMIT;
    }
    if (d->conns[i])
        wr_list_append(&sw->opening, &d->conns[i]->node);
    else
        own_failed(d, i, err);
}

static int start_circuit(struct wr_swarm_dial *d, size_t i)
{
    struct wr_swarm *sw = d->swarm;
    int err = WR_ECANCELLED;
    d->circuits[i].dial = d;
    if (!d->relayed && d->may_relay && sw->circuits.dial)
        d->circuits[i].attempt =
            sw->circuits.dial(sw->circuits.arg, &d->peer, wr_maddr_bytes(&d->plan.addrs[i].addr), d->origins[i],
                              on_circuit, &d->circuits[i], &err);
    return d->circuits[i].attempt ? 0 : err;
}

/* The owner's word, and a neighbour's for himself, count more than silence so far. */
static bool insists(const struct wr_swarm_dial *d, int i, const struct wr_addr *to)
{
    return d->origins[i] == WR_ORIGIN_OWNER ||
           (d->origins[i] == WR_ORIGIN_LAN && wr_swarm_flow_free(d->swarm, &to->ip));
}

static void start_one(struct wr_swarm_dial *d, int i, bool reuse_port)
{
    struct wr_swarm *sw = d->swarm;
    struct wr_addr to;
    int err = WR_EUNREACH;
    struct wr_bytes addr = wr_maddr_bytes(&d->plan.addrs[i].addr);
    if (wr_maddr_is_circuit(addr)) {
        err = start_circuit(d, (size_t)i);
        if (err != 0)
            wr_dial_failed(&d->plan, i, err);
        return;
    }
    bool quic = wr_maddr_kind(addr) == WR_MADDR_QUIC;
    struct wr_flow *flow = NULL;
    const struct wr_addr *from = NULL;
    if (wr_maddr_addr(addr, &to)) {
        from = reuse_port && !wr_swarm_just_parted(sw, &to) ? wr_swarm_port_for(sw, &to) : NULL;
        err = wr_swarm_flow_begin(sw,
                                  (struct wr_flow_ask){.to = &to,
                                                       .udp = quic,
                                                       .apart = !quic && !from,
                                                       .insist = insists(d, i, &to)},
                                  &flow);
    }
    if (err != 0) {
        wr_dial_failed(&d->plan, i, err);
        return;
    }
    wr_swarm_raise_dialling(sw, &d->peer, &to, quic);
    if (quic)
        d->conns[i] = wr_quic_dial(sw->quic, &to, d->peer.len ? &d->peer : NULL, d, &err);
    else
        d->conns[i] = wr_channel_dial(&sw->ctx, &to, from, security_for(d, d->security_tried[i]),
                                      d->peer.len ? &d->peer : NULL, d, &err);
    if (!d->conns[i]) {
        wr_flows_end(&sw->flows, flow, false, wr_env_now(sw->env));
        wr_dial_failed(&d->plan, i, err);
        return;
    }
    d->conns[i]->flow = flow;
    wr_list_append(&sw->opening, &d->conns[i]->node);
}

static int final_error(const struct wr_swarm_dial *d)
{
    if (d->plan.count)
        return wr_dial_error(&d->plan);
    return d->refused ? d->refused_err : WR_EUNREACH;
}

static void on_dial_timer(struct wr_timer *timer)
{
    step(wr_list_entry(timer, struct wr_swarm_dial, timer));
}

/* True: the router looks for the peer. */
static bool ask_router(struct wr_swarm_dial *d)
{
    struct wr_swarm *sw = d->swarm;
    wr_time now = wr_env_now(sw->env);
    if (!d->may_route || !sw->router.find || !d->peer.len || d->search || d->routed == WR_DIAL_ROUTES_MAX ||
        (d->routed && now - d->routed_at < WR_DIAL_ROUTE_AGAIN))
        return d->search != NULL;
    d->routed++;
    d->routed_at = now;
    d->search = sw->router.find(sw->router.arg, &d->peer, on_routed, d);
    return d->search != NULL;
}

/* What is known of the peer does not answer at once. When its relays went, waiting until all of it has failed takes
 * longer than asking where it is now. Returns when that is to be looked at; 0: not any more. */
static wr_time route_early(struct wr_swarm_dial *d)
{
    wr_time due = d->routed ? d->routed_at + WR_DIAL_ROUTE_AGAIN : d->asked_at + WR_DIAL_ROUTE_AFTER;
    if (!d->may_route || d->search || d->routed == WR_DIAL_ROUTES_MAX || has_circuit(d))
        return 0;
    if (wr_env_now(d->swarm->env) < due)
        return due;
    (void)ask_router(d);
    return 0;
}

/* Nothing is left to try: the router may know more, unless it waited in vain for anybody to ask. Streams wait for what
 * may come of a circuit. False: it ended. */
static bool exhausted(struct wr_swarm_dial *d)
{
    bool nobody_to_ask = d->routed && d->route_err == WR_EUNREACH;
    if (!nobody_to_ask && ask_router(d))
        return true;
    if (wr_list_empty(&d->streams) || !has_circuit(d)) {
        end_dial(d, final_error(d), NULL);
        return false;
    }
    while (!wr_list_empty(&d->requests))
        wr_connect_answer(wr_list_entry(d->requests.next, struct wr_connect, node), final_error(d), NULL);
    return true;
}

/* Until when new flows have to wait, 0 when not. Relays and machines on our link are no new flows. */
static wr_time held_back(const struct wr_swarm_dial *d)
{
    bool waits = false;
    for (size_t i = 0; i < d->plan.count; i++) {
        const struct wr_dial_addr *a = &d->plan.addrs[i];
        struct wr_addr to;
        if (a->state != WR_DIAL_PENDING)
            continue;
        if (a->lan || wr_maddr_is_circuit(wr_maddr_bytes(&a->addr)) ||
            (wr_maddr_addr(wr_maddr_bytes(&a->addr), &to) && wr_swarm_flow_free(d->swarm, &to.ip)))
            return 0;
        waits = true;
    }
    return waits ? wr_swarm_flow_wait(d->swarm) : 0;
}

static bool unwanted(const struct wr_swarm_dial *d)
{
    return wr_list_empty(&d->requests) && wr_list_empty(&d->streams);
}

/* Looks at the dial again: starts what is due, asks the router, or gives up. */
static void step(struct wr_swarm_dial *d)
{
    struct wr_swarm *sw = d->swarm;
    wr_time now = wr_env_now(sw->env);
    if (d->over || !d->started)
        return;
    if (unwanted(d)) {
        end_dial(d, WR_ECANCELLED, NULL);
        return;
    }
    if (now - d->asked_at >= WR_DIAL_TIMEOUT) {
        end_dial(d, WR_ETIMEOUT, NULL);
        return;
    }
    wr_time held = 0;
    for (int i; !(held = held_back(d)) && (i = wr_dial_next(&d->plan, now)) >= 0;) {
        d->begun_at[i] = now;
        start_one(d, i, true);
    }
    if (wr_dial_done(&d->plan) && !resolving(d) && !d->search && !exhausted(d))
        return;
    wr_time wake = held ? held : wr_dial_wait(&d->plan);
    wr_time deadline = d->asked_at + WR_DIAL_TIMEOUT, route = route_early(d);
    if (route && route < deadline)
        deadline = route;
    wr_timer_start(sw->env, &d->timer, wake && wake < deadline ? wake : deadline, on_dial_timer);
}

void wr_swarm_dial_next(struct wr_swarm *sw)
{
    while (!sw->destroyed && !wr_list_empty(&sw->dial_queue) &&
           wr_limits_take(sw->limits, WR_LIMIT_DIALS, 1)) {
        struct wr_swarm_dial *d = wr_list_entry(wr_list_pop(&sw->dial_queue), struct wr_swarm_dial, node);
        d->started = true;
        d->plan.started_at = d->asked_at = wr_env_now(sw->env);
        wr_list_append(&sw->dials, &d->node);
        /* Not from inside the call that asked for it. */
        wr_timer_start(sw->env, &d->timer, wr_env_now(sw->env), on_dial_timer);
    }
}

static size_t list_length(const struct wr_list *head)
{
    size_t n = 0;
    for (const struct wr_list *it = head->next; it != head; it = it->next)
        n++;
    return n;
}

struct wr_swarm_dial *wr_swarm_dial_create(struct wr_swarm *sw, const struct wr_peerid *peer)
{
    struct wr_swarm_dial *d = wr_alloc(sizeof(*d));
    if (!d || list_length(&sw->dial_queue) >= WR_SWARM_DIAL_QUEUE) {
        wr_free(d);
        return NULL;
    }
    d->swarm = sw;
    if (peer) {
        d->peer = *peer;
        d->report = wr_alloc(sizeof(*d->report));    /* NULL: then nothing is remembered */
        if (d->report)
            d->report->peer = *peer;
    }
    wr_list_init(&d->requests);
    wr_list_init(&d->streams);
    wr_dial_plan(&d->plan, NULL, 0, wr_env_now(sw->env));
    d->plan.quic_last = wr_blackhole_suspects(&sw->udp);
    d->plan.ip6_last = wr_blackhole_suspects(&sw->ip6);
    wr_list_append(&sw->dial_queue, &d->node);
    return d;
}

struct wr_swarm_dial *wr_swarm_dial_of(struct wr_swarm *sw, const struct wr_peerid *peer, bool relay)
{
    struct wr_swarm_peer *p = wr_swarm_peer_at(sw, peer, true);
    if (!p)
        return NULL;
    if (!p->dial) {
        p->dial = wr_swarm_dial_create(sw, peer);
        if (!p->dial) {
            wr_swarm_peer_drop(sw, p);
            return NULL;
        }
        p->dial->may_relay = relay;
        p->dial->relayed = has_circuit(p->dial);
        add_known(p->dial);
    } else if (relay && !p->dial->may_relay) {
        p->dial->may_relay = true;
        add_known(p->dial);
    }
    return p->dial;
}

/* ---- what it may ask ------------------------------------------------------------------------------- */

void wr_swarm_set_router(struct wr_swarm *sw, const struct wr_router *router)
{
    wr_list_each(it, &sw->dials)
    {
        struct wr_swarm_dial *d = wr_list_entry(it, struct wr_swarm_dial, node);
        if (!d->search)
            continue;
        sw->router.cancel(sw->router.arg, d->search);
        d->search = NULL;
        wr_timer_start(sw->env, &d->timer, wr_env_now(sw->env), on_dial_timer);
    }
    sw->router = router ? *router : (struct wr_router){0};
}

static void own_failed(struct wr_swarm_dial *d, size_t i, int err)
{
    struct wr_swarm *sw = d->swarm;
    struct wr_bytes addr = wr_maddr_bytes(&d->plan.addrs[i].addr);
    wr_dial_failed(&d->plan, (int)i, err);
    d->took[i] = wr_env_now(sw->env) - d->begun_at[i];
    if (d->peer.len && err != WR_ECANCELLED) {
        wr_backoff_failed(&sw->backoff, &d->peer, addr, wr_env_now(sw->env));
        wr_peerstore_dialled(&sw->peerstore, &d->peer, addr, false);
    }
    /* Nobody is there, whoever is looked for: the next peer that names this address waits as well. One that somebody
     * else answered from may still be right for others. */
    if (err == WR_ETIMEOUT || err == WR_EREFUSED || err == WR_EUNREACH)
        wr_backoff_failed(&sw->backoff, &anybody, addr, wr_env_now(sw->env));
    step(d);
}

void wr_swarm_set_circuits(struct wr_swarm *sw, const struct wr_circuits *circuits)
{
    wr_list_each(it, &sw->dials)
    {
        struct wr_swarm_dial *d = wr_list_entry(it, struct wr_swarm_dial, node);
        for (size_t i = 0; i < d->plan.count; i++) {
            if (!d->circuits[i].attempt)
                continue;
            cancel_circuit(d, i);
            wr_dial_failed(&d->plan, (int)i, WR_ECANCELLED);
        }
        wr_timer_start(sw->env, &d->timer, wr_env_now(sw->env), on_dial_timer);
    }
    sw->circuits = circuits ? *circuits : (struct wr_circuits){0};
}

/* ---- from swarm.c --------------------------------------------------------------------------------- */

void wr_swarm_dial_look_again(struct wr_swarm_dial *d)
{
    if (d->started)
        wr_timer_start(d->swarm->env, &d->timer, wr_env_now(d->swarm->env), on_dial_timer);
}

void wr_swarm_dial_left(struct wr_swarm_dial *d)
{
    if (unwanted(d))
        end_dial(d, WR_ECANCELLED, NULL);
}

/* A connection is there. Ends the dial, unless it is a circuit that somebody cannot use. */
static void settle(struct wr_swarm_dial *d, struct wr_conn *c)
{
    if (c->circuit)
        serve(d, c);
    if (!c->circuit || unwanted(d)) {
        end_dial(d, 0, c);
        return;
    }
    d->relayed = true;
    for (size_t i = 0; i < d->plan.count; i++) {
        if (d->circuits[i].attempt) {
            cancel_circuit(d, i);
            wr_dial_failed(&d->plan, (int)i, WR_ECANCELLED);
        }
        if (!d->conns[i] || !d->conns[i]->circuit)
            continue;
        if (d->conns[i] != c)
            wr_conn_close(d->conns[i], WR_CONN_OK);
        d->conns[i]->owner = NULL;
        d->conns[i] = NULL;
        wr_dial_done_one(&d->plan, (int)i);
    }
    wr_swarm_dial_look_again(d);
}

void wr_swarm_dial_conn_opened(struct wr_swarm *sw, struct wr_conn *c, struct wr_swarm_peer *p)
{
    struct wr_swarm_dial *own = c->owner;
    wr_time now = wr_env_now(sw->env);
    c->owner = NULL;
    if (own) {
        for (size_t i = 0; i < WR_DIAL_ADDRS_MAX; i++) {
            if (own->conns[i] != c)
                continue;
            wr_backoff_forget(&sw->backoff, &c->peer, wr_maddr_bytes(&own->plan.addrs[i].addr));
            wr_backoff_forget(&sw->backoff, &anybody, wr_maddr_bytes(&own->plan.addrs[i].addr));
            wr_peerstore_add_addr(&sw->peerstore, &c->peer, wr_maddr_bytes(&own->plan.addrs[i].addr),
                                  WR_TTL_RECENT, false);
            wr_peerstore_dialled(&sw->peerstore, &c->peer, wr_maddr_bytes(&own->plan.addrs[i].addr),
                                 true);
        }
        if (!c->circuit)
            remember_security(sw, c);
        wr_log(wr_env_log(sw->env), WR_LOG_DEBUG, "dial", "done relayed=%d ms=%lld", c->circuit != NULL,
               (long long)((now - own->plan.started_at) / WR_MSEC));
        /* To whoever answers there, and nobody wants to know any more: there is no peer that it could be for. */
        bool orphan = !own->peer.len && !p->dial && unwanted(own);
        settle(own, c);
        if (orphan)
            wr_conn_close(c, WR_CONN_OK);
    }
    if (p->dial && p->dial != own)
        settle(p->dial, c);
}

/* Two nodes that dial each other from their listening ports at once can meet in one TCP connection
 * (simultaneous open), both of them as its dialler: the handshake breaks at once. Dialled again from a port
 * of its own, it cannot happen twice. */
static bool maybe_met_halfway(const struct wr_conn *c, int err)
{
    return c->outbound && !c->udp && c->port_reused && c->local.ip.family &&
           (err == WR_EPROTO || err == WR_ERESET || err == WR_ECLOSED);
}

void wr_swarm_dial_conn_failed(struct wr_conn *c, int err)
{
    struct wr_swarm_dial *d = c->owner;
    if (!d)
        return;
    c->owner = NULL;
    for (size_t i = 0; i < WR_DIAL_ADDRS_MAX; i++) {
        if (d->conns[i] != c)
            continue;
        d->conns[i] = NULL;
        /* Behind the proposal stood the first message already, so there is no going on after a refusal. QUIC has one
         * way only. */
        size_t next = d->security_tried[i] + 1u;
        if (err == WR_EUNSUPPORTED && !c->udp &&
            (c->circuit ? circuit_security(d, next) : security_for(d, next))) {
            d->security_tried[i]++;
            start_one(d, (int)i, true);
        } else if (maybe_met_halfway(c, err) && !(d->retried & 1u << i)) {
            d->retried |= 1u << i;
            start_one(d, (int)i, false);
        } else {
            if (c->udp ? c->bytes_in > 0 : c->local.ip.family != 0)
                d->accepted |= 1u << i;
            own_failed(d, i, err);
        }
        return;
    }
    step(d);
}

void wr_swarm_dials_abort(struct wr_swarm *sw)
{
    while (!wr_list_empty(&sw->dials))
        end_dial(wr_list_entry(sw->dials.next, struct wr_swarm_dial, node), WR_ECLOSED, NULL);
    while (!wr_list_empty(&sw->dial_queue))
        end_dial(wr_list_entry(sw->dial_queue.next, struct wr_swarm_dial, node), WR_ECLOSED, NULL);
    for (size_t i = 0; i < WR_SWARM_REPORTS; i++) {
        wr_free(sw->reports[i]);
        sw->reports[i] = NULL;
    }
}
