/* Requests that search: the machine of query.h says whom to ask, this asks and hands back what
 * comes. */
#include "dht/dht_impl.h"
#include "dht/record.h"
#include "transport/err.h"

#include <string.h>

#define CROWD_PATIENCE (10 * WR_SEC) /* longer searches are looked at before their end; ours */
#define WAIT_FOR_PEERS (10 * WR_SEC) /* with nobody to ask; ours: a bootstrap takes two seconds */
#define SEEN_MAX       1000          /* providers told of in one request; ours */
#define VALUE_WORSE    UINT32_MAX    /* number of every value that is not the best */

static struct wr_bytes key_of(const struct wr_dht_request *r)
{
    return WR_BYTES(r->key, r->key_len);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void dispose(struct wr_task *task)
{
    struct wr_dht_request *r = wr_list_entry(task, struct wr_dht_request, dispose);
    wr_query_destroy(r->query);
    wr_free(r->seen);
    wr_buf_clear(&r->value);
    wr_free(r);
}

static void let_go(struct wr_dht_request *r)
{
    struct wr_dht *d = r->dht;
    r->over = true;
    wr_list_remove(&r->node);
    wr_timer_stop(d->env, &r->timer);
    wr_task_cancel(&r->pump);
    wr_dht_rpc_orphan(d, r);
    wr_dht_crowd_cancel(r);
    if (!r->quiet)
        wr_limits_give(d->limits, WR_LIMIT_QUERIES, 1);
    wr_env_dispose(d->env, &r->dispose, dispose);
}

void wr_dht_request_end(struct wr_dht_request *r, int err)
{
    if (r->over)
        return;
    wr_log(wr_env_log(r->dht->env), WR_LOG_DEBUG, "dht",
           "request done kind=%d err=%s asked=%u ms=%lld", (int)r->kind,
           err ? wr_err_name(err) : "0", wr_query_asked(r->query),
           (long long)((wr_env_now(r->dht->env) - r->started_at) / WR_MSEC));
    let_go(r);
    if (r->kind == PROVIDE && err == 0)
        wr_dht_announce_done(r->dht, key_of(r));
    if (r->ops && r->ops->on_done)
        r->ops->on_done(r->arg, err);
}

void wr_dht_cancel(struct wr_dht_request *r)
{
    if (!r->over)
        let_go(r);
}

void wr_dht_requests_drop_all(struct wr_dht *d)
{
    /* One may take others along. */
    while (!wr_list_empty(&d->requests))
        let_go(wr_list_entry(d->requests.next, struct wr_dht_request, node));
}

static void tell_peer(struct wr_dht_request *r, const struct wr_dht_peer *peer)
{
    if (r->ops && r->ops->on_peer)
        r->ops->on_peer(r->arg, peer);
}

/* ---- what was found ------------------------------------------------------------------------- */

/* A candidate with its addresses as a peer to tell of; slices point into the candidate. */
static void unpack(const struct wr_query_peer *from,
                   struct wr_bytes addrs[static WR_DHT_ADDRS_OUT_MAX], struct wr_dht_peer *peer)
{
    struct wr_bytes rest = WR_BYTES(from->addrs, from->addrs_len);
    *peer = (struct wr_dht_peer){.id = from->id, .addrs = addrs};
    while (peer->count < WR_DHT_ADDRS_OUT_MAX && wr_query_addr(&rest, &addrs[peer->count]))
        peer->count++;
}

static void tell_closest(struct wr_dht_request *r)
{
    const struct wr_query_peer *closest[WR_QUERY_SET];
    struct wr_bytes addrs[WR_DHT_ADDRS_OUT_MAX];
    struct wr_dht_peer peer;
    size_t count = wr_query_closest(r->query, closest, WR_QUERY_SET);
    for (size_t i = 0; i < count && !r->over; i++) {
        unpack(closest[i], addrs, &peer);
        tell_peer(r, &peer);
    }
    wr_dht_request_end(r, count > 0 ? 0 : WR_EUNREACH);
}

/* Nobody has it, or there was nobody to ask. */
static int nothing_found(const struct wr_dht_request *r)
{
    const struct wr_query_peer *any;
    return wr_query_closest(r->query, &any, 1) ? WR_ENOTFOUND : WR_EUNREACH;
}

static void tell_target(struct wr_dht_request *r)
{
    struct wr_bytes addrs[WR_DHT_ADDRS_OUT_MAX];
    struct wr_dht_peer peer;
    const struct wr_query_peer *target = wr_query_target(r->query);
    if (!target) {
        wr_dht_request_end(r, nothing_found(r));
        return;
    }
    unpack(target, addrs, &peer);
    for (size_t i = 0; i < peer.count; i++)
        wr_peerstore_add_addr(wr_swarm_peerstore(r->dht->swarm), &peer.id, peer.addrs[i],
                              WR_TTL_DHT, false);
    tell_peer(r, &peer);
    wr_dht_request_end(r, 0);
}

static void tell_value(struct wr_dht_request *r)
{
    if (r->best == 0) {
        wr_dht_request_end(r, nothing_found(r));
        return;
    }
    wr_dht_correct(r);
    if (r->ops && r->ops->on_value)
        r->ops->on_value(r->arg, wr_buf_bytes(&r->value));
    wr_dht_request_end(r, 0);
}

/* How near the nearest are says how many there are. */
static void measure(struct wr_dht_request *r)
{
    const struct wr_query_peer *nearest[WR_QUERY_SET];
    size_t count = wr_query_nearest(r->query, nearest, WR_QUERY_SET);
    if (count == WR_QUERY_SET)
        wr_netsize_add(&r->dht->netsize,
                       wr_kad_share(nearest[count - 1]->key, wr_query_key(r->query)),
                       wr_env_now(r->dht->env));
}

static void search_over(struct wr_dht_request *r)
{
    if (wr_dht_crowd_begin(r))
        return;
    /* A crowd says nothing of the size of the network. */
    if (!r->crowded && (r->kind == FIND_CLOSEST || r->kind == PUT_VALUE || r->kind == PROVIDE))
        measure(r);
    wr_kbucket_refreshed(&r->dht->table, wr_query_key(r->query), wr_env_now(r->dht->env));
    wr_dht_table_wake(r->dht);
    switch (r->kind) {
    case FIND_PEER:
        tell_target(r);
        break;
    case FIND_CLOSEST:
        tell_closest(r);
        break;
    case FIND_PROVIDERS:
        wr_dht_request_end(r, r->seen_count > 0 ? 0 : nothing_found(r));
        break;
    case GET_VALUE:
        tell_value(r);
        break;
    case PUT_VALUE:
    case PROVIDE:
        wr_dht_put_begin(r);
        break;
    }
}

/* ---- answers -------------------------------------------------------------------------------- */

bool wr_dht_request_met(const struct wr_dht_request *r, const struct wr_peerid *id)
{
    for (size_t i = 0; i < r->seen_count; i++) {
        if (wr_peerid_equal(&r->seen[i], id))
            return true;
    }
    return false;
}

/* Remembers and tells; false: told before, ourselves, or no room to remember. */
static bool take_provider(struct wr_dht_request *r, struct wr_dht_peer *peer)
{
    struct wr_dht *d = r->dht;
    if (wr_peerid_equal(&peer->id, &d->self) || wr_dht_request_met(r, &peer->id))
        return false;
    if (r->seen_count == r->seen_cap) {
        size_t cap = r->seen_cap ? 2 * r->seen_cap : 16;
        struct wr_peerid *more =
            r->seen_cap < SEEN_MAX ? wr_realloc(r->seen, cap * sizeof(r->seen[0])) : NULL;
        if (!more)
            return false;
        r->seen = more;
        r->seen_cap = cap;
    }
    r->seen[r->seen_count++] = peer->id;
    peer->count = wr_dht_addrs_filter(d, peer->addrs, peer->count);
    for (size_t i = 0; i < peer->count; i++)
        wr_peerstore_add_addr(wr_swarm_peerstore(d->swarm), &peer->id, peer->addrs[i], WR_TTL_DHT,
                              false);
    tell_peer(r, peer);
    return true;
}

static unsigned take_providers(struct wr_dht_request *r, struct wr_dht_peer *peers, size_t count)
{
    unsigned fresh = 0;
    for (size_t i = 0; i < count && !r->over; i++) {
        if (r->want > 0 && r->seen_count >= r->want)
            break;
        fresh += take_provider(r, &peers[i]);
    }
    return fresh;
}

/* The number of the value in this answer: that of the best so far, a new one if it is better still.
 */
static uint32_t take_value(struct wr_dht_request *r, struct wr_bytes value)
{
    if (wr_record_check(key_of(r), value, wr_store_unix(&r->dht->store)) != 0)
        return 0;
    int order = r->best ? wr_record_compare(key_of(r), value, wr_buf_bytes(&r->value)) : 1;
    if (order == 0)
        return r->best;
    if (order < 0)
        return VALUE_WORSE;
    wr_buf_reset(&r->value);
    wr_buf_put_bytes(&r->value, value);
    if (r->value.full) {
        r->best = 0;
        return 0;
    }
    r->best = ++r->numbers;
    return r->best;
}

/* Leaves the peers whom we could ask: reachable at an address that fits, or known already. */
static size_t filter_closer(const struct wr_dht *d, struct wr_dht_peer *peers, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct wr_dht_peer *p = &peers[i];
        p->count = wr_dht_addrs_filter(d, p->addrs, p->count);
        if (p->count > 0 || wr_peerstore_find(wr_swarm_peerstore(d->swarm), &p->id))
            peers[kept++] = *p;
    }
    return kept;
}

/* Whoever is asked for us names our addresses; those that are not may be a twin's. Not always the first is tried. */
static void look_for_twin(const struct wr_dht *d, const struct wr_dht_peer *peers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct wr_dht_peer *p = &peers[i];
        if (!wr_peerid_equal(&p->id, &d->self))
            continue;
        for (size_t k = 0; k < p->count; k++)
            if (wr_swarm_look_for_twin(d->swarm, p->addrs[(k + d->counted.asked) % p->count]))
                return;
    }
}

static void take_answer(struct wr_dht_request *r, const struct wr_peerid *from,
                        struct wr_dht_msg *answer)
{
    struct wr_dht *d = r->dht;
    struct wr_query_reply reply = {.closer = answer->closer};
    reply.closer_count = filter_closer(d, answer->closer, answer->closer_count);
    look_for_twin(d, reply.closer, reply.closer_count);
    if (r->kind == FIND_PROVIDERS)
        reply.found = take_providers(r, answer->providers, answer->provider_count);
    if (r->kind == GET_VALUE && answer->has_record && wr_bytes_equal(answer->record.key, key_of(r)))
        reply.value = take_value(r, answer->record.value);
    /* Telling may have cancelled the request. */
    if (r->over)
        return;
    wr_query_reply(r->query, from, wr_env_now(d->env), &reply);
    if (r->kind == PROVIDE || r->kind == PUT_VALUE)
        wr_dht_put_early(r, from);
}

static void on_answer(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer)
{
    struct wr_dht_request *r = rpc->owner;
    (void)err;
    if (answer)
        take_answer(r, &rpc->peer, answer);
    else
        wr_query_failed(r->query, &rpc->peer);
    if (!r->over && !r->putting)
        wr_env_defer(r->dht->env, &r->pump, r->pump.run);
}

/* ---- questions ------------------------------------------------------------------------------ */

static enum wr_dht_type question_of(enum request_kind kind)
{
    if (kind == FIND_PROVIDERS)
        return WR_DHT_GET_PROVIDERS;
    return kind == GET_VALUE ? WR_DHT_GET_VALUE : WR_DHT_FIND_NODE;
}

static void ask(struct wr_dht_request *r, const struct wr_query_ask *what)
{
    struct wr_dht *d = r->dht;
    struct wr_peerid id = what->peer->id;
    struct wr_bytes addrs = WR_BYTES(what->peer->addrs, what->peer->addrs_len);
    struct wr_dht_msg request = {.type = (int)question_of(r->kind), .key = what->key};
    struct wr_conn *conn = wr_swarm_conn(d->swarm, &id);
    int err;
    if (!wr_dht_rpc_ask(d, &id, addrs, &request, r, on_answer, &err)) {
        wr_dht_table_failed(d, &id, err);
        wr_query_failed(r->query, &id);
    } else if (conn) {
        wr_query_warm(r->query, &id, wr_conn_rtt(conn));
    }
}

void wr_dht_request_timer(struct wr_timer *timer)
{
    struct wr_dht_request *r = wr_list_entry(timer, struct wr_dht_request, timer);
    wr_env_defer(r->dht->env, &r->pump, r->pump.run);
}

static void seed_connected(struct wr_conn *c, void *arg)
{
    struct wr_dht_request *r = arg;
    struct wr_dht *d = r->dht;
    if (!c->limited &&
        wr_peerstore_speaks(wr_swarm_peerstore(d->swarm), &c->peer, d->protocol) == 1)
        wr_query_seed(r->query, &c->peer, NULL, 0);
}

/* Hands the query the nearest of the table; while it is small, whoever is connected as well, whom
 * the table's rules may have kept out. */
static void seed(struct wr_dht_request *r)
{
    struct wr_dht *d = r->dht;
    const struct wr_kentry *nearest[WR_KBUCKET_SIZE];
    size_t count = wr_kbucket_closest(&d->table, wr_query_key(r->query), nearest, WR_KBUCKET_SIZE);
    for (size_t i = 0; i < count; i++)
        wr_query_seed(r->query, &nearest[i]->id, NULL, 0);
    if (count < WR_KBUCKET_SIZE)
        wr_swarm_each(d->swarm, seed_connected, r);
}

static void time_out(struct wr_dht_request *r)
{
    if (r->kind == FIND_PROVIDERS && r->seen_count > 0)
        wr_dht_request_end(r, 0);
    else if (r->kind == GET_VALUE && r->best > 0)
        tell_value(r);
    else
        wr_dht_request_end(r, WR_ETIMEOUT);
}

static void pump(struct wr_task *task)
{
    struct wr_dht_request *r = wr_list_entry(task, struct wr_dht_request, pump);
    struct wr_dht *d = r->dht;
    struct wr_query_ask what;
    wr_time now = wr_env_now(d->env);
    int rc;
    if (now >= r->ends_at) {
        time_out(r);
        return;
    }
    if (r->putting) {
        wr_dht_put_slow(r);
        return;
    }
    if (wr_query_asked(r->query) == 0)
        seed(r);
    if (wr_dht_crowd_waits(r) || (now >= r->started_at + CROWD_PATIENCE && wr_dht_crowd_begin(r)))
        return;
    while ((rc = wr_query_next(r->query, now, &what)) > 0)
        ask(r, &what);
    /* Nobody to ask: somebody may turn up. */
    if (wr_query_asked(r->query) == 0 && !r->quiet && now < r->started_at + WAIT_FOR_PEERS) {
        wr_timer_start(d->env, &r->timer, r->started_at + WAIT_FOR_PEERS, wr_dht_request_timer);
        return;
    }
    if (rc < 0) {
        search_over(r);
        return;
    }
    wr_time next = wr_query_deadline(r->query);
    wr_timer_start(d->env, &r->timer, next && next < r->ends_at ? next : r->ends_at,
                   wr_dht_request_timer);
}

void wr_dht_requests_wake(struct wr_dht *d)
{
    wr_list_each(node, &d->requests)
    {
        struct wr_dht_request *r = wr_list_entry(node, struct wr_dht_request, node);
        if (!r->putting && wr_query_asked(r->query) == 0)
            wr_env_defer(d->env, &r->pump, pump);
    }
}

/* ---- starting ------------------------------------------------------------------------------- */

static enum wr_query_kind query_kind(enum request_kind kind)
{
    switch (kind) {
    case FIND_PEER:
        return WR_QUERY_PEER;
    case FIND_PROVIDERS:
        return WR_QUERY_PROVIDERS;
    case GET_VALUE:
        return WR_QUERY_VALUE;
    default:
        return WR_QUERY_CLOSEST;
    }
}

static struct wr_dht_request *make(struct wr_dht *d, enum request_kind kind, struct wr_bytes key,
                                   unsigned want, unsigned set)
{
    struct wr_dht_request *r = wr_alloc(sizeof(*r));
    if (!r)
        return NULL;
    r->query = wr_query_create(&(struct wr_query_config){.kind = query_kind(kind),
                                                         .target = key,
                                                         .self = &d->self,
                                                         .pace = &d->pace,
                                                         .want = want,
                                                         .set = set});
    if (!r->query) {
        wr_free(r);
        return NULL;
    }
    memcpy(r->key, key.ptr, key.len);
    r->key_len = key.len;
    wr_buf_init(&r->value, WR_DHT_VALUE_MAX);
    r->kind = kind;
    r->want = want;
    return r;
}

struct wr_dht_request *wr_dht_request_start(struct wr_dht *d, enum request_kind kind,
                                            struct wr_bytes key, unsigned want, unsigned set,
                                            bool quiet, const struct wr_dht_ops *ops, void *arg,
                                            int *err)
{
    *err = key.len == 0 || key.len > WR_DHT_KEY_MAX ? WR_EINVAL : 0;
    if (*err != 0)
        return NULL;
    *err = WR_ELIMIT;
    if (!quiet && !wr_limits_take(d->limits, WR_LIMIT_QUERIES, 1))
        return NULL;
    struct wr_dht_request *r = make(d, kind, key, want, set);
    if (!r) {
        if (!quiet)
            wr_limits_give(d->limits, WR_LIMIT_QUERIES, 1);
        return NULL;
    }
    r->dht = d;
    r->quiet = quiet;
    r->ops = ops;
    r->arg = arg;
    r->started_at = wr_env_now(d->env);
    r->ends_at = r->started_at + WR_DHT_SEARCH_TIMEOUT;
    r->pump.run = pump;
    wr_list_append(&d->requests, &r->node);
    wr_env_defer(d->env, &r->pump, pump);
    *err = 0;
    return r;
}

struct wr_dht_request *wr_dht_find_peer(struct wr_dht *d, const struct wr_peerid *id,
                                        const struct wr_dht_ops *ops, void *arg, int *err)
{
    if (wr_peerid_equal(id, &d->self)) {
        *err = WR_EINVAL;
        return NULL;
    }
    return wr_dht_request_start(d, FIND_PEER, wr_peerid_bytes(id), 0, 0, false, ops, arg, err);
}

struct wr_dht_request *wr_dht_find_closest(struct wr_dht *d, struct wr_bytes key,
                                           const struct wr_dht_ops *ops, void *arg, int *err)
{
    return wr_dht_request_start(d, FIND_CLOSEST, key, 0, 0, false, ops, arg, err);
}

/* What others left with us counts as found. */
static void own_providers(struct wr_dht_request *r)
{
    struct wr_store_found *found = wr_alloc(sizeof(*found));
    if (found && wr_store_providers(&r->dht->store, key_of(r), found) == 0) {
        take_providers(r, found->peers, found->count);
        wr_store_found_clear(found);
    }
    wr_free(found);
}

static void pump_with_own(struct wr_task *task)
{
    struct wr_dht_request *r = wr_list_entry(task, struct wr_dht_request, pump);
    own_providers(r);
    if (r->over)
        return;
    if (r->want > 0 && r->seen_count >= r->want) {
        wr_dht_request_end(r, 0);
        return;
    }
    wr_query_resume(r->query, r->want > 0 ? r->want - (unsigned)r->seen_count : 0);
    r->pump.run = pump;
    pump(task);
}

struct wr_dht_request *wr_dht_find_providers(struct wr_dht *d, struct wr_bytes key, unsigned want,
                                             const struct wr_dht_ops *ops, void *arg, int *err)
{
    if (key.len > WR_DHT_PROVIDER_KEY_MAX) {
        *err = WR_EINVAL;
        return NULL;
    }
    struct wr_dht_request *r =
        wr_dht_request_start(d, FIND_PROVIDERS, key, want, 0, false, ops, arg, err);
    if (r)
        r->pump.run = pump_with_own;
    return r;
}

struct wr_dht_request *wr_dht_get_value(struct wr_dht *d, struct wr_bytes key, unsigned quorum,
                                        const struct wr_dht_ops *ops, void *arg, int *err)
{
    *err = wr_record_known(key) ? 0 : WR_EUNSUPPORTED;
    struct wr_dht_request *r =
        *err == 0 ? wr_dht_request_start(d, GET_VALUE, key, quorum, 0, false, ops, arg, err) : NULL;
    if (!r)
        return NULL;
    struct wr_buf own, received;
    wr_buf_init(&own, WR_DHT_VALUE_MAX);
    wr_buf_init(&received, 64);
    if (wr_store_get_value(&d->store, key, &own, &received) == 0)
        take_value(r, wr_buf_bytes(&own));
    wr_buf_clear(&own);
    wr_buf_clear(&received);
    return r;
}

struct wr_dht_request *wr_dht_put_value(struct wr_dht *d, struct wr_bytes key,
                                        struct wr_bytes value, const struct wr_dht_ops *ops,
                                        void *arg, int *err)
{
    *err = wr_record_check(key, value, wr_store_unix(&d->store));
    if (*err != 0)
        return NULL;
    struct wr_dht_request *r =
        wr_dht_request_start(d, PUT_VALUE, key, 0, WR_QUERY_BETA, false, ops, arg, err);
    if (!r)
        return NULL;
    wr_buf_put_bytes(&r->value, value);
    if (r->value.full) {
        wr_dht_cancel(r);
        *err = WR_ELIMIT;
        return NULL;
    }
    return r;
}
