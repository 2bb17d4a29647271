/* Life of the DHT: making and ending it, when it serves, what it hears from the swarm. */
#include "dht/dht.h"

#include "dht/dht_impl.h"
#include "transport/err.h"
#include "transport/multihash.h"

#include <string.h>

/* ---- mode ----------------------------------------------------------------------------------- */

struct public_search {
    const struct wr_policy *policy;
    bool found;
};

static void find_public(struct wr_conn *c, void *arg)
{
    struct public_search *search = arg;
    search->found = search->found || wr_policy_is_public(search->policy, &c->remote.ip);
}

/* Who cannot be reached must not serve: it would only be in the way. On the public network that
 * takes a confirmed public address. On a local one nobody confirms anything and everybody can reach
 * everybody; a network of one's own counts as local as long as no peer from farther away is
 * connected. */
static bool should_serve(const struct wr_dht *d)
{
    struct public_search search = {.policy = wr_swarm_policy(d->swarm)};
    if (d->mode != WR_DHT_AUTO)
        return d->mode == WR_DHT_SERVER;
    if (d->scope == WR_DHT_LAN || wr_addrbook_public(wr_swarm_addrbook(d->swarm)))
        return true;
    if (d->scope == WR_DHT_WAN)
        return false;
    wr_swarm_each(d->swarm, find_public, &search);
    return !search.found;
}

static void say_mode(struct wr_dht *d)
{
    wr_log(wr_env_log(d->env), WR_LOG_INFO, "dht", "%s protocol=%s",
           d->serving ? "serving" : "resting", d->protocol);
    if (d->on_event)
        d->on_event(d->arg, d->serving ? WR_DHT_SERVING : WR_DHT_RESTING);
}

static void on_mode_timer(struct wr_timer *timer)
{
    struct wr_dht *d = wr_list_entry(timer, struct wr_dht, mode_timer);
    if (!d->serving || should_serve(d))
        return;
    wr_dht_serve_stop(d);
    say_mode(d);
}

/* Up at once, and down as soon as it is known that strangers do not reach us. While nothing is known (another
 * network, a peer from afar) only after a while: servers that come and go harm everybody's tables (specs #713). */
static void choose_mode(struct wr_dht *d, bool at_once)
{
    bool serve = should_serve(d);
    at_once |= wr_swarm_reachability(d->swarm, 0) == WR_REACH_PRIVATE;
    if (serve || at_once)
        wr_timer_stop(d->env, &d->mode_timer);
    if (serve == d->serving)
        return;
    if (serve) {
        wr_dht_serve_start(d);
        if (d->serving)
            say_mode(d);
    } else if (at_once) {
        wr_dht_serve_stop(d);
        say_mode(d);
    } else if (!wr_timer_running(&d->mode_timer)) {
        wr_timer_start(d->env, &d->mode_timer, wr_env_now(d->env) + WR_DHT_DOWN_AFTER,
                       on_mode_timer);
    }
}

void wr_dht_set_mode(struct wr_dht *d, enum wr_dht_mode mode)
{
    d->mode = mode;
    choose_mode(d, mode != WR_DHT_AUTO);
}

bool wr_dht_serving(const struct wr_dht *d)
{
    return d->serving;
}

/* ---- what the swarm says -------------------------------------------------------------------- */

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_dht *d = wr_list_entry(watch, struct wr_dht, watch);
    int speaks;
    switch (event->type) {
    case WR_SWARM_IDENTIFIED:
    case WR_SWARM_PEER_CHANGED:
        speaks = wr_peerstore_speaks(wr_swarm_peerstore(d->swarm), event->peer, d->protocol);
        if (speaks == 0)
            wr_dht_table_forget(d, event->peer);
        else if (speaks == 1 && wr_swarm_conn(d->swarm, event->peer))
            wr_dht_table_consider(d, wr_swarm_conn(d->swarm, event->peer));
        break;
    case WR_SWARM_DISCONNECTED:
        wr_dht_table_parted(d, event->peer);
        break;
    case WR_SWARM_ADDRS:
        wr_dht_announce_missed(d);
        choose_mode(d, false);
        break;
    case WR_SWARM_REACHABILITY:
    case WR_SWARM_OPENED:
    case WR_SWARM_CLOSED:
        choose_mode(d, false);
        break;
    default:
        break;
    }
}

/* ---- life ----------------------------------------------------------------------------------- */

static void fill(struct wr_dht *d, const struct wr_dht_options *o)
{
    uint8_t self[WR_KAD_KEY];
    d->swarm = o->swarm;
    d->env = wr_swarm_env(o->swarm);
    d->limits = wr_swarm_limits(o->swarm);
    d->kv = o->kv;
    memcpy(d->protocol, o->protocol, strlen(o->protocol) + 1);
    d->offer[0] = d->protocol;
    d->scope = o->scope;
    d->mode = o->mode;
    d->crowded = o->crowded;
    d->rate = o->rate ? o->rate : WR_DHT_RATE;
    d->on_event = o->on_event;
    d->arg = o->arg;
    d->self = *wr_swarm_self(o->swarm);
    wr_kad_key(wr_peerid_bytes(&d->self), self);
    wr_kbucket_init(&d->table, self, (size_t)d->limits->of[WR_LIMIT_TABLE].max);
    wr_pace_init(&d->pace);
    wr_netsize_init(&d->netsize);
    wr_list_init(&d->rpcs);
    wr_list_init(&d->requests);
}

/* Every protocol has a name space of its own in the store. */
static int open_store(struct wr_dht *d)
{
    uint8_t hash[WR_SHA256_LEN], prefix[WR_STORE_PREFIX_MAX] = {'d'};
    wr_sha256(wr_bytes_cstr(d->protocol), hash);
    memcpy(prefix + 1, hash, 3);
    return wr_store_open(&d->store, d->env, d->kv, d->limits, WR_BYTES(prefix, 4));
}

/* The store was damaged and is empty now. */
static void on_lost(struct wr_kv_watch *watch)
{
    struct wr_dht *d = wr_list_entry(watch, struct wr_dht, kv_watch);
    wr_store_lost(&d->store);
    wr_dht_announce_save(d);
    wr_dht_save(d);
}

struct wr_dht *wr_dht_create(const struct wr_dht_options *options, int *err)
{
    size_t len = strlen(options->protocol);
    *err = len == 0 || len > WR_PROTOCOL_NAME_MAX || options->protocol[0] != '/' ? WR_EINVAL
                                                                                 : WR_ELIMIT;
    struct wr_dht *d = *err == WR_ELIMIT ? wr_alloc(sizeof(*d)) : NULL;
    if (!d)
        return NULL;
    fill(d, options);
    *err = open_store(d);
    if (*err != 0) {
        wr_free(d);
        return NULL;
    }
    wr_dht_serve_init(d);
    wr_dht_table_init(d);
    wr_dht_announce_init(d);
    d->watch.on_event = on_event;
    wr_swarm_watch(d->swarm, &d->watch);
    d->kv_watch.on_lost = on_lost;
    wr_kv_watch(d->kv, &d->kv_watch);
    choose_mode(d, true);
    wr_dht_table_consider_all(d);
    return d;
}

void wr_dht_destroy(struct wr_dht *d)
{
    if (!d)
        return;
    wr_swarm_unwatch(&d->watch);
    wr_kv_unwatch(&d->kv_watch);
    wr_timer_stop(d->env, &d->mode_timer);
    wr_dht_serve_clear(d);
    wr_dht_announce_clear(d);
    wr_dht_requests_drop_all(d);
    wr_dht_rpc_drop_all(d);
    wr_dht_table_clear(d);
    wr_store_close(&d->store);
    wr_free(d);
}

int wr_dht_set_bootstrap(struct wr_dht *d, const struct wr_maddr *addrs, size_t count)
{
    size_t kept = count < WR_DHT_BOOTSTRAP_MAX ? count : WR_DHT_BOOTSTRAP_MAX;
    struct wr_maddr *copy = kept ? wr_memdup(addrs, kept * sizeof(addrs[0])) : NULL;
    if (kept && !copy)
        return WR_ELIMIT;
    wr_free(d->bootstrap);
    d->bootstrap = copy;
    d->bootstrap_count = kept;
    d->boot_at = 0;
    wr_dht_table_wake(d);
    return kept == count ? 0 : WR_ELIMIT;
}

bool wr_dht_alone(const struct wr_dht *d)
{
    return d->table.count == 0;
}

void wr_dht_stats(const struct wr_dht *d, struct wr_dht_stats *out)
{
    *out = d->counted;
    out->network_size = wr_netsize_estimate(&d->netsize, wr_env_now(d->env));
    out->table = d->table.count;
    out->buckets = d->table.bucket_count;
    out->providers = d->store.providers;
    out->values = d->store.values;
    out->provided = d->provided_count;
    out->names = d->name_count;
    out->guests = d->guest_count;
    out->searches = 0;
    wr_list_each(node, &d->requests) out->searches++;
}

const struct wr_kbucket *wr_dht_table(const struct wr_dht *d)
{
    return &d->table;
}

/* ---- router --------------------------------------------------------------------------------- */

struct route {
    wr_route_done done;
    void *arg;
    struct wr_dht_request *request;
    struct wr_dht *dht;
    int err;
    struct wr_task task;
};

static void free_route(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct route, task));
}

static void on_routed(void *arg, int err)
{
    struct route *route = arg;
    wr_route_done done = route->done;
    void *done_arg = route->arg;
    wr_env_dispose(route->dht->env, &route->task, free_route);
    done(done_arg, err);
}

static void route_failed(struct wr_task *task)
{
    struct route *route = wr_list_entry(task, struct route, task);
    on_routed(route, route->err);
}

static const struct wr_dht_ops route_ops = {.on_done = on_routed};

static void *route_find(void *arg, const struct wr_peerid *peer, wr_route_done done, void *done_arg)
{
    struct wr_dht *d = arg;
    struct route *route = wr_alloc(sizeof(*route));
    if (!route)
        return NULL;
    route->dht = d;
    route->done = done;
    route->arg = done_arg;
    route->request = wr_dht_find_peer(d, peer, &route_ops, route, &route->err);
    if (!route->request)
        wr_env_defer(d->env, &route->task, route_failed);
    return route;
}

static void route_cancel(void *arg, void *search)
{
    struct wr_dht *d = arg;
    struct route *route = search;
    if (route->request)
        wr_dht_cancel(route->request);
    wr_env_dispose(d->env, &route->task, free_route);
}

struct wr_router wr_dht_router(struct wr_dht *d)
{
    return (struct wr_router){.find = route_find, .cancel = route_cancel, .arg = d};
}
