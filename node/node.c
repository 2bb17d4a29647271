#include "node/node.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "autonat/portmap.h"
#include "autonat/upnp.h"
#include "dcutr/dcutr.h"
#include "dht/dht.h"
#include "identify/identify.h"
#include "identify/ping.h"
#include "node/control.h"
#include "node/datadir.h"
#include "node/http.h"
#include "node/keyfile.h"
#include "node/mdns.h"
#include "node/methods.h"
#include "node/natbook.h"
#include "node/perf.h"
#include "node/relaying.h"
#include "node/route.h"
#include "node/state.h"
#include "transport/kv.h"
#include "transport/pnet.h"
#include "transport/swarm.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SAVED_PEERS_MAX  4096           /* peers remembered over restarts; ours */
#define SAVED_DIALS      8              /* of them dialled at the start; ours */
#define SAVED_JITTER     (2 * WR_SEC)   /* before that: many nodes restarted together spread out; ours */
#define STORE_SHARE      16             /* of the memory: uncommitted writes; ours */
#define STORE_SIZE_SHARE 16             /* times the memory: the store's file; ours */

struct wr_node {
    struct wr_env *env;
    const struct wr_config *config;    /* borrowed */
    void (*on_stop)(void *arg);
    void *arg;
    struct wr_limits limits;
    uint64_t descriptors;
    bool port_in_use;                  /* an address that we were to listen on is another program's */
    struct wr_key key;
    uint8_t psk[WR_PNET_KEY];
    bool has_psk;
    struct wr_datadir *dir;
    struct wr_kv *kv;
    struct wr_state *state;
    struct wr_swarm *swarm;
    struct wr_swarm_watch watch;
    struct wr_pong *pong;
    struct wr_identify *identify;
    struct wr_autonat_server *autonat_server;
    struct wr_autonat_client *autonat;
    struct wr_natbook natbook;
    struct wr_dcutr *dcutr;
    struct wr_relaying relaying;
    struct wr_perf *perf;
    struct wr_mdns *mdns;
    struct wr_portmap *portmap;
    struct wr_dht *dht[WR_METHODS_DHTS];
    struct wr_route route;
    struct wr_control *control;
    struct wr_methods *methods;
    struct wr_http *http;
    struct wr_timer saved_timer;
    unsigned saved_left;
    struct wr_task dispose;
};

static const char *get(const struct wr_node *n, enum wr_config_key key)
{
    return wr_config_get(n->config, key);
}

static int no_memory(char err[static WR_NODE_ERROR])
{
    (void)snprintf(err, WR_NODE_ERROR, "out of memory");
    return WR_ELIMIT;
}

/* ---- what is on disk ---------------------------------------------------------------------------------- */

static int open_store(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    uint64_t memory = n->limits.of[WR_LIMIT_MEMORY].max;
    struct wr_kv_options options = {
        .path = wr_datadir_store(n->dir),
        .size_max = (size_t)memory * STORE_SIZE_SHARE,
        .overlay_max = (size_t)memory / STORE_SHARE,
    };
    int rc = wr_kv_open_anew(n->env, &options, &n->kv);
    if (rc != 0) {
        (void)snprintf(err, WR_NODE_ERROR,
                       "cannot open the store %s: %s; free space and rights there, or choose another "
                       "place with --data DIR",
                       options.path, wr_err_text(rc));
        return rc;
    }
    struct wr_state_options state = {.env = n->env,
                                     .kv = n->kv,
                                     .network = get(n, WR_CONFIG_NETWORK),
                                     .peers_max = SAVED_PEERS_MAX};
    rc = wr_state_open(&state, &n->state);
    if (rc != 0)
        (void)snprintf(err, WR_NODE_ERROR, "cannot read the store %s: %s", options.path,
                       wr_err_text(rc));
    return rc;
}

static int open_disk(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    bool made;
    _Static_assert(WR_NODE_ERROR >= WR_DATADIR_ERROR, "sentences fit");
    int rc = wr_datadir_open(n->env, get(n, WR_CONFIG_DATA), &n->dir, err);
    if (rc == 0)
        rc = wr_datadir_identity(n->dir, &n->key, &made, err);
    return rc == 0 ? open_store(n, err) : rc;
}

static int read_psk(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    const char *path = get(n, WR_CONFIG_PSK);
    int rc = *path ? wr_keyfile_read_psk(path, n->psk, err, WR_NODE_ERROR) : 0;
    n->has_psk = *path && rc == 0;
    return rc;
}

/* ---- peers of last time ------------------------------------------------------------------------------- */

/* Whoever connects is told of by the swarm's events. */
static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
}

static bool dial_saved(void *arg, const struct wr_state_peer *peer)
{
    struct wr_node *n = arg;
    if (wr_swarm_connect(n->swarm, &peer->id, peer->addrs, peer->count, WR_ORIGIN_STRANGER, 0,
                         on_connected, n, NULL) == 0)
        n->saved_left--;
    return n->saved_left > 0;
}

static void on_saved_timer(struct wr_timer *timer)
{
    struct wr_node *n = wr_list_entry(timer, struct wr_node, saved_timer);
    n->saved_left = SAVED_DIALS;
    wr_state_peers(n->state, dial_saved, n);
}

static void remember(struct wr_node *n, const struct wr_peerid *id)
{
    struct wr_maddr addrs[WR_STATE_ADDRS_MAX];
    size_t count =
        wr_peerstore_addrs(wr_swarm_peerstore(n->swarm), id, addrs, WR_STATE_ADDRS_MAX);
    const struct wr_peer *peer = wr_peerstore_find(wr_swarm_peerstore(n->swarm), id);
    if (count)
        (void)wr_state_peer_seen(n->state, id, addrs, count);
    if (peer && peer->security)
        (void)wr_state_peer_set_security(n->state, id, peer->security);
}

/* What this peer spoke in an earlier life is proposed to it first: another choice would cost a round trip. */
static void recall_security(struct wr_node *n, const struct wr_peerid *id)
{
    uint8_t security = wr_state_peer_security(n->state, id);
    if (security == 0 || security > WR_SECURE_COUNT)
        return;
    struct wr_peer *peer = wr_peerstore_get(wr_swarm_peerstore(n->swarm), id);
    if (peer && !peer->security)
        peer->security = security;
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_node *n = wr_list_entry(watch, struct wr_node, watch);
    if (event->type == WR_SWARM_IDENTIFIED)
        remember(n, event->peer);
    if (event->type == WR_SWARM_DIALLING && event->peer && !event->udp)
        recall_security(n, event->peer);
}

/* ---- the network -------------------------------------------------------------------------------------- */

static void set_public(struct wr_node *n)
{
    const struct wr_config_item *item = &n->config->items[WR_CONFIG_PUBLIC];
    for (size_t i = 0; i < item->count; i++) {
        struct wr_cidr block;
        if (wr_cidr_parse(item->values[i], &block) == 0)
            (void)wr_policy_add_public(wr_swarm_policy(n->swarm), &block);
    }
}

static int listen_on(struct wr_node *n, const char *text)
{
    struct wr_maddr addr;
    int rc = wr_maddr_parse(text, &addr);
    return rc == 0 ? wr_swarm_listen(n->swarm, wr_maddr_bytes(&addr)) : rc;
}

static const char *why_not(int rc)
{
    switch (rc) {
    case WR_EUNSUPPORTED:
        return "a private network cannot be reached over QUIC; name a TCP address with --listen";
    case WR_EINUSE:
        return "address or file already in use; choose another port with --listen";
    case WR_EPERM:
        return "permission denied; ports below 1024 are the system's, choose another with --listen";
    case WR_EINVAL:
        return "this machine has no such address; /ip4/0.0.0.0 or /ip6/:: stand for all that it has";
    default:
        return wr_err_text(rc);
    }
}

static int listen_all(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    const struct wr_config_item *item = &n->config->items[WR_CONFIG_LISTEN];
    size_t bound = 0;
    int last = 0;
    for (size_t i = 0; i < item->count; i++) {
        int rc = listen_on(n, item->values[i]);
        if (rc == 0) {
            bound++;
            continue;
        }
        /* Not every machine has IPv6: a default that does not fit it is no mistake of the user's. A port that another
         * program has may be free again at the next start: the others will do so long, and `check` tells of it. */
        bool taken = rc == WR_EINUSE, meant = !taken && item->from != WR_CONFIG_FROM_DEFAULT;
        n->port_in_use |= taken;
        if (taken || meant || !n->port_in_use) {
            last = rc;
            (void)snprintf(err, WR_NODE_ERROR, "cannot listen on %.1024s: %s", item->values[i], why_not(rc));
        }
        if (meant)
            return rc;
        wr_log(wr_env_log(n->env), taken ? WR_LOG_WARN : WR_LOG_INFO, "node", "cannot listen addr=%s text=\"%s\"",
               item->values[i], why_not(rc));
    }
    if (item->count && !bound)
        return last;
    err[0] = 0;
    return 0;
}

static uint64_t next_seq(void *arg)
{
    struct wr_node *n = arg;
    return wr_state_next_seq(n->state);
}

/* A neighbour: whoever dials first, one connection is enough. One with our own id is dialled to have it
 * proved. */
static void on_neighbour(void *arg, const struct wr_peerid *peer, const struct wr_maddr *addrs,
                         size_t count)
{
    struct wr_node *n = arg;
    if (!wr_swarm_conn(n->swarm, peer))
        (void)wr_swarm_connect(n->swarm, peer, addrs, count, WR_ORIGIN_LAN, 0, on_connected, n,
                               NULL);
}

static int start_mdns(struct wr_node *n)
{
    char fingerprint[17];
    struct wr_mdns_options options = {.swarm = n->swarm, .on_peer = on_neighbour, .arg = n};
    if (!wr_config_on(n->config, WR_CONFIG_MDNS))
        return 0;
    if (n->has_psk) {
        wr_pnet_fingerprint(n->psk, fingerprint);
        options.fingerprint = fingerprint;
    }
    n->mdns = wr_mdns_create(&options);
    return n->mdns ? 0 : WR_ELIMIT;
}

static int start_portmap(struct wr_node *n)
{
    struct wr_portmap_options options = {.swarm = n->swarm, .upnp = wr_upnp_run};
    if (!wr_config_on(n->config, WR_CONFIG_PORTMAP))
        return 0;
    n->portmap = wr_portmap_create(&options);
    return n->portmap ? 0 : WR_ELIMIT;
}

static int set_perf(struct wr_node *n)
{
    return wr_perf_serve_all(n->perf,
                             wr_config_choice(n->config, WR_CONFIG_PERF) == WR_CONFIG_PERF_ALL);
}

static void on_punched(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report)
{
    struct wr_node *n = arg;
    if (n->methods)
        wr_methods_punched(n->methods, peer, report);
}

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct wr_node *n = arg;
    if (n->methods)
        wr_methods_relay_held(n->methods, relay, err, status);
}

/* The owner's relays. One that a reload takes out of the list is kept until the node ends. */
static void use_relays(struct wr_node *n)
{
    const struct wr_config_item *item = &n->config->items[WR_CONFIG_USE_RELAY];
    for (size_t i = 0; i < item->count; i++) {
        struct wr_maddr addr;
        if (wr_maddr_parse(item->values[i], &addr) == 0)
            (void)wr_relay_auto_use(n->relaying.ours, wr_maddr_bytes(&addr));
    }
}

static enum wr_relay_mode relay_mode(const struct wr_node *n)
{
    static const enum wr_relay_mode modes[] = {[WR_CONFIG_RELAY_AUTO] = WR_RELAY_AUTO,
                                               [WR_CONFIG_RELAY_ON] = WR_RELAY_ON,
                                               [WR_CONFIG_RELAY_OFF] = WR_RELAY_OFF};
    return modes[wr_config_choice(n->config, WR_CONFIG_RELAY)];
}

static int start_relaying(struct wr_node *n)
{
    struct wr_relaying_options options = {
        .swarm = n->swarm,
        .mode = relay_mode(n),
        .rate_each = wr_config_rate(n->config, WR_CONFIG_RELAY_RATE_EACH),
        .rate_total = wr_config_rate(n->config, WR_CONFIG_RELAY_RATE),
        .on_hold = on_hold,
        .arg = n};
    int rc = wr_relaying_start(&n->relaying, &options);
    if (rc == 0)
        use_relays(n);
    return rc;
}

static int start_services(struct wr_node *n)
{
    struct wr_dcutr_options dcutr = {.swarm = n->swarm, .on_report = on_punched, .arg = n};
    struct wr_identify_options identify = {.swarm = n->swarm, .next_seq = next_seq, .arg = n};
    n->pong = wr_pong_create(n->swarm);
    n->identify = wr_identify_create(&identify);
    n->autonat_server = wr_autonat_server_create(n->swarm);
    n->autonat = wr_autonat_client_create(n->swarm);
    n->dcutr = wr_dcutr_create(&dcutr);
    n->perf = wr_perf_create(n->swarm);
    n->watch.on_event = on_event;
    wr_swarm_watch(n->swarm, &n->watch);
    wr_timer_start(n->env, &n->saved_timer,
                   wr_env_now(n->env) + (wr_time)wr_env_random_below(n->env, (uint64_t)SAVED_JITTER),
                   on_saved_timer);
    n->natbook = (struct wr_natbook){.env = n->env, .kv = n->kv, .state = n->state};
    struct wr_autonat_memory memory = wr_natbook_memory(&n->natbook);
    if (n->autonat)
        wr_autonat_client_set_memory(n->autonat, &memory);
    if (!n->pong || !n->identify || !n->autonat_server || !n->autonat || !n->dcutr || !n->perf || set_perf(n) != 0)
        return WR_ELIMIT;
    int rc = start_mdns(n);
    if (rc == 0)
        rc = start_portmap(n);
    return rc == 0 ? start_relaying(n) : rc;
}

static int start_network(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    struct wr_swarm_options options = {.env = n->env,
                                       .limits = &n->limits,
                                       .identity = &n->key,
                                       .psk = n->has_psk ? n->psk : NULL};
    wr_config_security(n->config, options.security);
    n->swarm = wr_swarm_create(&options);
    if (!n->swarm)
        return no_memory(err);
    set_public(n);
    int rc = listen_all(n, err);
    if (rc != 0)
        return rc;
    return start_services(n) == 0 ? 0 : no_memory(err);
}

/* ---- the DHT ------------------------------------------------------------------------------------------ */

static void set_bootstrap(struct wr_node *n)
{
    const struct wr_config_item *item = &n->config->items[WR_CONFIG_BOOTSTRAP];
    struct wr_maddr *addrs = wr_alloc_array(WR_CONFIG_VALUES_MAX, sizeof(*addrs));
    size_t count = 0;
    for (size_t i = 0; addrs && i < item->count; i++)
        if (wr_maddr_parse(item->values[i], &addrs[count]) == 0)
            count++;
    for (size_t i = 0; addrs && i < WR_METHODS_DHTS; i++)
        if (n->dht[i])
            (void)wr_dht_set_bootstrap(n->dht[i], addrs, count);
    wr_free(addrs);
}

static int start_one_dht(struct wr_node *n, size_t at, const char *format, enum wr_dht_scope scope,
                         enum wr_dht_mode mode, char err[static WR_NODE_ERROR])
{
    char protocol[WR_PROTOCOL_NAME_MAX + 1];
    int rc = 0;
    (void)snprintf(protocol, sizeof(protocol), "/%.64s%s", get(n, WR_CONFIG_NETWORK), format);
    struct wr_dht_options options = {
        .swarm = n->swarm, .kv = n->kv, .protocol = protocol, .scope = scope, .mode = mode};
    n->dht[at] = wr_dht_create(&options, &rc);
    if (!n->dht[at])
        (void)snprintf(err, WR_NODE_ERROR, "cannot start the DHT %s: %s", protocol, wr_err_text(rc));
    return n->dht[at] ? 0 : rc;
}

/* The second table is there only beside the first. */
static bool table_alone(void *arg, size_t which)
{
    const struct wr_node *n = arg;
    return wr_dht_alone(n->dht[which]);
}

/* The public network has a second table for machines on our own links, which anybody there can reach; a
 * network of one's own has one for all. */
static int start_dht(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    static const enum wr_dht_mode modes[] = {[WR_CONFIG_DHT_AUTO] = WR_DHT_AUTO,
                                             [WR_CONFIG_DHT_SERVER] = WR_DHT_SERVER,
                                             [WR_CONFIG_DHT_CLIENT] = WR_DHT_CLIENT,
                                             [WR_CONFIG_DHT_OFF] = WR_DHT_CLIENT};
    int choice = wr_config_choice(n->config, WR_CONFIG_DHT);
    bool public = strcmp(get(n, WR_CONFIG_NETWORK), WR_CONFIG_PUBLIC_NETWORK) == 0;
    if (choice == WR_CONFIG_DHT_OFF)
        return 0;
    int rc = start_one_dht(n, 0, "/kad/1.0.0", public ? WR_DHT_WAN : WR_DHT_ANY, modes[choice], err);
    if (rc == 0 && public)
        rc = start_one_dht(n, 1, "/lan/kad/1.0.0", WR_DHT_LAN,
                           choice == WR_CONFIG_DHT_CLIENT ? WR_DHT_CLIENT : WR_DHT_SERVER, err);
    if (rc != 0)
        return rc;
    n->route.env = n->env;
    n->route.alone = table_alone;
    n->route.arg = n;
    for (size_t i = 0; i < WR_METHODS_DHTS; i++)
        if (n->dht[i])
            n->route.of[n->route.count++] = wr_dht_router(n->dht[i]);
    struct wr_router router = wr_route_router(&n->route);
    wr_swarm_set_router(n->swarm, &router);
    wr_relaying_set_dht(&n->relaying, n->dht[0]);
    set_bootstrap(n);
    return 0;
}

/* ---- the control socket ------------------------------------------------------------------------------- */

static int start_control(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    char peer[WR_PEERID_TEXT];
    struct wr_control_options options = {.env = n->env,
                                         .limits = &n->limits,
                                         .path = get(n, WR_CONFIG_CONTROL),
                                         .peer = wr_peerid_print(wr_swarm_self(n->swarm), peer)};
    int rc = wr_control_create(&options, &n->control);
    if (rc == 0) {
        struct wr_methods_options methods = {.control = n->control,
                                             .swarm = n->swarm,
                                             .identify = n->identify,
                                             .autonat = n->autonat,
                                             .autonat_server = n->autonat_server,
                                             .dht = {n->dht[0], n->dht[1]},
                                             .dcutr = n->dcutr,
                                             .portmap = n->portmap,
                                             .relaying = &n->relaying,
                                             .perf = n->perf,
                                             .kv = n->kv,
                                             .state = n->state,
                                             .config = n->config,
                                             .port_in_use = n->port_in_use,
                                             .on_stop = n->on_stop,
                                             .arg = n->arg};
        rc = wr_methods_create(&methods, &n->methods);
    }
    if (rc == WR_EINUSE)
        (void)snprintf(err, WR_NODE_ERROR,
                       "another node answers at %s: stop it with `warren stop`, or choose another socket "
                       "with --control PATH",
                       options.path);
    else if (rc != 0)
        (void)snprintf(err, WR_NODE_ERROR,
                       "cannot make the control socket %s: %s; choose another with --control PATH",
                       options.path, wr_err_text(rc));
    return rc;
}

/* ---- the status page ---------------------------------------------------------------------------------- */

static int start_http(struct wr_node *n, char err[static WR_NODE_ERROR])
{
    struct wr_http_options options = {.env = n->env, .page = wr_methods_page, .arg = n->methods};
    char text[WR_ADDR_TEXT];
    if (!wr_config_http(n->config, &options.at))
        return 0;
    int rc = wr_http_create(&options, &n->http);
    if (rc != 0) {
        (void)snprintf(err, WR_NODE_ERROR, "cannot serve pages on %s: %s; choose another with --http",
                       get(n, WR_CONFIG_HTTP), wr_err_text(rc));
        return rc;
    }
    wr_http_addr(n->http, &options.at);
    wr_addr_print(&options.at, text);
    wr_log(wr_env_log(n->env), WR_LOG_INFO, "http", "listening addr=%s", text);
    return 0;
}

static void fit_limits(struct wr_node *n)
{
    wr_limits_sessions(&n->limits, wr_config_sessions(n->config));
    if (n->descriptors && wr_limits_fit(&n->limits, n->descriptors))
        wr_log(wr_env_log(n->env), WR_LOG_WARN, "node",
               "connection limits lowered to the open file limit files=%llu hint=\"raise it (ulimit -n)\"",
               (unsigned long long)n->descriptors);
}

/* ---- life --------------------------------------------------------------------------------------------- */

int wr_node_create(const struct wr_node_options *options, struct wr_node **out,
                   char err[static WR_NODE_ERROR])
{
    struct wr_node *n = wr_alloc(sizeof(*n));
    *out = NULL;
    err[0] = 0;
    if (!n)
        return no_memory(err);
    n->env = options->env;
    n->config = options->config;
    n->on_stop = options->on_stop;
    n->arg = options->arg;
    n->descriptors = options->descriptors;
    wr_list_init(&n->watch.node);
    int rc = wr_limits_init(&n->limits, get(n, WR_CONFIG_LIMITS));
    if (rc != 0)
        (void)snprintf(err, WR_NODE_ERROR,
                       "limits \"%.64s\": use small, home, server or a size of at least 16M",
                       get(n, WR_CONFIG_LIMITS));
    fit_limits(n);
    if (rc == 0)
        rc = open_disk(n, err);
    if (rc == 0)
        rc = read_psk(n, err);
    if (rc == 0)
        rc = start_network(n, err);
    if (rc == 0)
        rc = start_dht(n, err);
    if (rc == 0)
        rc = start_control(n, err);
    if (rc == 0)
        rc = start_http(n, err);
    if (rc != 0) {
        wr_node_destroy(n);
        return rc;
    }
    *out = n;
    return 0;
}

/* Connections look at the limits and the key until the turn has settled. */
static void free_node(struct wr_task *task)
{
    struct wr_node *n = wr_list_entry(task, struct wr_node, dispose);
    wr_key_clear(&n->key);
    sodium_memzero(n->psk, sizeof(n->psk));
    wr_free(n);
}

void wr_node_destroy(struct wr_node *n)
{
    if (!n)
        return;
    wr_timer_stop(n->env, &n->saved_timer);
    wr_mdns_destroy(n->mdns);
    wr_portmap_destroy(n->portmap);
    wr_http_destroy(n->http);
    wr_control_destroy(n->control);
    wr_methods_destroy(n->methods);
    n->methods = NULL;
    wr_relaying_stop(&n->relaying);
    if (n->swarm)
        wr_swarm_set_router(n->swarm, NULL);
    for (size_t i = 0; i < WR_METHODS_DHTS; i++)
        wr_dht_destroy(n->dht[i]);
    wr_perf_destroy(n->perf);
    wr_dcutr_destroy(n->dcutr);
    wr_autonat_client_destroy(n->autonat);
    wr_autonat_server_destroy(n->autonat_server);
    wr_identify_destroy(n->identify);
    wr_pong_destroy(n->pong);
    wr_swarm_unwatch(&n->watch);
    wr_swarm_destroy(n->swarm);
    wr_state_close(n->state);
    wr_kv_close(n->kv);
    wr_datadir_close(n->dir);
    wr_env_dispose(n->env, &n->dispose, free_node);
}

void wr_node_reload(struct wr_node *n, uint32_t keys)
{
    if (keys & (UINT32_C(1) << WR_CONFIG_LIMITS | UINT32_C(1) << WR_CONFIG_NAT_SESSIONS)) {
        (void)wr_limits_change(&n->limits, get(n, WR_CONFIG_LIMITS));
        fit_limits(n);
    }
    if (keys & UINT32_C(1) << WR_CONFIG_PUBLIC)
        set_public(n);
    if (keys & UINT32_C(1) << WR_CONFIG_BOOTSTRAP)
        set_bootstrap(n);
    if (keys & UINT32_C(1) << WR_CONFIG_PERF)
        (void)set_perf(n);
    if (keys & UINT32_C(1) << WR_CONFIG_RELAY)
        wr_relay_server_set_mode(n->relaying.lent, relay_mode(n));
    if (keys & (UINT32_C(1) << WR_CONFIG_RELAY_RATE | UINT32_C(1) << WR_CONFIG_RELAY_RATE_EACH))
        wr_relay_server_set_rates(n->relaying.lent, wr_config_rate(n->config, WR_CONFIG_RELAY_RATE_EACH),
                                  wr_config_rate(n->config, WR_CONFIG_RELAY_RATE));
    if (keys & UINT32_C(1) << WR_CONFIG_USE_RELAY)
        use_relays(n);
}

const struct wr_peerid *wr_node_self(const struct wr_node *n)
{
    return wr_swarm_self(n->swarm);
}

size_t wr_node_listening(const struct wr_node *n, struct wr_maddr *out, size_t max)
{
    return wr_swarm_listening(n->swarm, out, max);
}

const char *wr_node_control(const struct wr_node *n)
{
    return wr_control_path(n->control);
}
