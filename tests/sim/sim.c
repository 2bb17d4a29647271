/* The simulator's clock: events, machines, faults, and those parts of env.h that are no network. */
#include "tests/sim/sim_priv.h"

#include <stdlib.h>
#include <string.h>

#define START WR_SEC                              /* small, as just after boot: nothing may count on more */
#define UNIX_START (INT64_C(1767225600) * WR_SEC) /* 2026-01-01 */
#define WORK_TIME (50 * WR_USEC)                  /* a job off the loop takes this long */
#define NODES_MAX ((size_t)1 << 20)
#define SOCKS_MAX ((size_t)1 << 20)
#define QUEUE (100 * WR_MSEC)                     /* of datagrams before a line; what comes when it is full is lost */
#define FIRST_PORT 32768                          /* of ephemeral ones, as on Linux */

enum { NOTE_WAKE = 1, NOTE_WORK };

/* ---- chance and trace ------------------------------------------------------------------------------ */

/* splitmix64: turns any number into one that looks random. */
uint64_t sim_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void chance_seed(struct sim_chance *chance, uint64_t seed, uint64_t stream)
{
    for (unsigned i = 0; i < 4; i++)
        chance->s[i] = sim_mix(sim_mix(seed) + sim_mix(stream * 4 + i + 1));
}

/* xoshiro256**: fast, and no two streams of a run meet. */
uint64_t sim_chance_next(struct sim_chance *chance)
{
    uint64_t *s = chance->s, x = s[1] * 5, t = s[1] << 17;
    x = ((x << 7) | (x >> 57)) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return x;
}

double sim_chance_unit(struct sim_chance *chance)
{
    return (double)(sim_chance_next(chance) >> 11) / 9007199254740992.0;    /* 2^53 */
}

void sim_note(struct sim *sim, unsigned what, const struct sim_host *host, uint64_t more)
{
    uint64_t x = (uint64_t)sim->now ^ ((uint64_t)what << 56) ^ ((uint64_t)host->index << 32) ^ more;
    sim->trace = sim_mix(sim->trace ^ x);
}

void sim_note_bytes(struct sim *sim, const uint8_t *data, size_t len)
{
    uint64_t word, h = sim->trace;
    for (; len >= 8; data += 8, len -= 8) {
        memcpy(&word, data, 8);
        h = (h ^ word) * UINT64_C(0x100000001b3);
        h ^= h >> 29;
    }
    for (; len; data++, len--)
        h = (h ^ *data) * UINT64_C(0x100000001b3);
    sim->trace = h;
}

uint64_t sim_trace(const struct sim *sim)
{
    return sim_mix(sim->trace ^ sim->event_count);
}

uint64_t sim_events(const struct sim *sim)
{
    return sim->event_count;
}

uint64_t sim_random(struct sim *sim, uint64_t below)
{
    return below ? sim_chance_next(&sim->chance) % below : 0;
}

/* ---- running ----------------------------------------------------------------------------------------- */

wr_time sim_now(const struct sim *sim)
{
    return sim->now;
}

void sim_run_until(struct sim *sim, wr_time at)
{
    for (wr_time next; (next = sim_next(sim)) && next <= at;)
        sim_step(sim);
    if (at > sim->now)
        sim->now = at;
}

void sim_run(struct sim *sim, wr_time duration)
{
    sim_run_until(sim, sim->now + duration);
}

bool sim_run_while(struct sim *sim, bool (*waiting)(void *arg), void *arg, wr_time at_most)
{
    wr_time end = sim->now + at_most;
    while (waiting(arg)) {
        wr_time next = sim_next(sim);
        if (!next || next > end) {
            sim->now = end;
            return false;
        }
        sim_step(sim);
    }
    return true;
}

/* ---- turns of one machine ----------------------------------------------------------------------------- */

static void on_wake(struct sim_event *event);

/* The one event that stands for all timers and tasks of the machine. */
static void rewake(struct sim_host *host)
{
    wr_time next = host->up ? wr_timers_next(&host->env.timers) : 0;
    if (wr_env_turn_pending(&host->env) || !wr_list_empty(&host->dead))
        next = host->sim->now;
    if (next == host->wake.at || (!host->wake.at && sim_event_pending(&host->wake)))
        return;
    if (next)
        sim_event_at(host->sim, &host->wake, next, on_wake);
    else
        sim_event_stop(host->sim, &host->wake);
}

static void reap(struct sim_host *host)
{
    for (struct wr_list *node; (node = wr_list_pop(&host->dead));) {
        struct sim_dead *dead = wr_list_entry(node, struct sim_dead, node);
        dead->release(dead);
    }
}

void sim_begin(struct sim_host *host)
{
    wr_env_turn_begin(&host->env, host->sim->now);
    sim_alloc_enter();
}

void sim_end(struct sim_host *host)
{
    wr_env_turn_end(&host->env);
    sim_alloc_leave();
    rewake(host);
}

void sim_bury(struct sim_host *host, struct sim_dead *dead, void (*release)(struct sim_dead *dead))
{
    dead->release = release;
    wr_list_init(&dead->node);
    wr_list_append(&host->dead, &dead->node);
    rewake(host);
}

static void settle(struct sim_host *host)
{
    if (wr_env_turn_pending(&host->env)) {
        wr_env_turn_begin(&host->env, host->sim->now);
        wr_env_turn_end(&host->env);
    }
}

static void on_wake(struct sim_event *event)
{
    struct sim_host *host = wr_list_entry(event, struct sim_host, wake);
    sim_note(host->sim, NOTE_WAKE, host, 0);
    sim_alloc_enter();
    settle(host);
    if (host->up)
        wr_env_turn_timers(&host->env, host->sim->now);
    sim_alloc_leave();
    reap(host);
    rewake(host);
}

void wr_env_turn_wake(struct wr_env *env)
{
    rewake(sim_host_from(env));
}

/* ---- the world ------------------------------------------------------------------------------------------ */

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *sim = wr_alloc(sizeof(*sim));
    uint8_t seed[WR_MAP_SEED] = {0};
    sim->o = *options;
    struct sim_options *o = &sim->o;
    o->rtt_median = o->rtt_median ? o->rtt_median : 80 * WR_MSEC;
    o->rtt_sigma = o->rtt_sigma > 0 ? o->rtt_sigma : 0.6;
    o->lan_rtt = o->lan_rtt ? o->lan_rtt : 300 * WR_USEC;
    o->send_buffer = o->send_buffer ? o->send_buffer : 1024 * 1024;
    o->chunk_max = o->chunk_max ? o->chunk_max : 64 * 1024;
    o->stream_timeout = o->stream_timeout ? o->stream_timeout : 120 * WR_SEC;
    sim->now = START;
    chance_seed(&sim->chance, o->seed, 0);
    sim_os_seed(o->seed);
    wr_list_init(&sim->hosts);
    wr_list_init(&sim->conns);
    wr_list_init(&sim->names);
    wr_list_init(&sim->jobs);
    wr_map_init(&sim->nodes, NODES_MAX, seed);
    return sim;
}

/* What was closed a moment ago settles; nothing else moves any more. */
static void host_finish(struct sim_host *host)
{
    settle(host);
    reap(host);
    settle(host);
    assert(host->descriptors == 0 && "a socket was left open");
    assert(wr_list_empty(&host->lookups) && "a lookup was left unanswered");
    reap(host);
    sim_event_stop(host->sim, &host->wake);
    wr_map_clear(&host->socks_by);
    sim_disks_clear(host);
}

static void finish_works(struct sim *sim);

void sim_destroy(struct sim *sim)
{
    finish_works(sim);
    wr_list_each(node, &sim->hosts)
        host_finish(wr_list_entry(node, struct sim_host, node));
    wr_list_each(node, &sim->hosts) {
        struct sim_host *host = wr_list_entry(node, struct sim_host, node);
        for (struct wr_list *h; (h = wr_list_pop(&host->held));) {
            struct sim_event *event = wr_list_entry(h, struct sim_event, held);
            if (event->drop)
                event->drop(event);
        }
    }
    for (struct sim_event *event; (event = sim_event_take(sim));)
        if (event->drop)
            event->drop(event);
    sim_streams_clear(sim);
    sim_names_clear(sim);
    struct sim_node *address;
    for (size_t cursor = 0; (address = wr_map_next(&sim->nodes, &cursor));)
        if (address->gateway)
            wr_free(address);
    wr_map_clear(&sim->nodes);
    wr_free(sim->events.slots);
    for (struct wr_list *node; (node = wr_list_pop(&sim->hosts));)
        wr_free(wr_list_entry(node, struct sim_host, node));
    wr_free(sim);
}

/* ---- machines --------------------------------------------------------------------------------------------- */

/* Public addresses with a network of their own for each machine: /24 within a /16 of few others, /48. */
static void public_ips(unsigned index, struct wr_ip *ip4, struct wr_ip *ip6)
{
    *ip4 = (struct wr_ip){4, {(uint8_t)(40 + index % 40), (uint8_t)(index / 40 % 250),
                              (uint8_t)(index / 10000), 10}};
    *ip6 = (struct wr_ip){6, {0x2a, (uint8_t)(index % 7), (uint8_t)(index >> 8), (uint8_t)index,
                              (uint8_t)(index >> 16), 1, [15] = 1}};
}

static void addresses_add(struct sim_host *host)
{
    if (host->ip4.family)
        sim_address_add(host->sim, &host->node4, host->gateway, &host->ip4);
    if (host->ip6.family)
        sim_address_add(host->sim, &host->node6, host->gateway, &host->ip6);
}

struct sim_host *sim_host_add(struct sim *sim, const struct sim_host_options *options)
{
    struct sim_host *host = wr_alloc(sizeof(*host));
    const struct wr_log *log = options->log ? options->log : sim->o.log;
    wr_env_turn_init(&host->env, log);
    host->sim = sim;
    host->index = sim->host_count++;
    host->id = sim->next_id++;
    host->name = options->name;
    host->lan = options->lan;
    host->gateway = options->gateway;
    host->ip4 = options->ip4;
    host->ip6 = options->ip6;
    if (!host->ip4.family && !host->ip6.family)
        public_ips(host->index, &host->ip4, &host->ip6);
    host->node4.host = host->node6.host = host->node_temporary.host = host;
    addresses_add(host);
    host->up = true;
    chance_seed(&host->chance, sim->o.seed, host->index + 1);
    wr_env_random(&host->env, host->env.hash_seed, sizeof(host->env.hash_seed));
    host->clock_error = options->clock_error;
    host->bandwidth = options->bandwidth;
    host->queue = QUEUE;
    host->descriptors_max = options->descriptors;
    host->wake.host = host;
    host->next_port = FIRST_PORT;
    wr_list_init(&host->held);
    wr_list_init(&host->socks);
    wr_list_init(&host->listeners);
    wr_list_init(&host->udps);
    wr_list_init(&host->lookups);
    wr_list_init(&host->disks);
    wr_list_init(&host->dead);
    wr_map_init(&host->socks_by, SOCKS_MAX, host->env.hash_seed);
    wr_list_append(&sim->hosts, &host->node);
    return host;
}

struct wr_env *sim_host_env(struct sim_host *host)
{
    return &host->env;
}

struct sim_host *sim_host_of(struct wr_env *env)
{
    return sim_host_from(env);
}

const struct wr_ip *sim_host_ip4(const struct sim_host *host)
{
    return &host->ip4;
}

const struct wr_ip *sim_host_ip6(const struct sim_host *host)
{
    return &host->ip6;
}

unsigned sim_host_index(const struct sim_host *host)
{
    return host->index;
}

const struct sim_traffic *sim_host_traffic(const struct sim_host *host)
{
    return &host->traffic;
}

/* ---- faults ------------------------------------------------------------------------------------------------- */

void sim_kill(struct sim_host *host)
{
    assert(host->up && !host->env.in_turn);
    host->paused_at = 0;
    sim_pause(host, false);
    host->up = false;
    sim_streams_cut(host, true);
    sim_udps_cut(host);
    sim_lookups_cut(host);
    sim_disks_crash(host);
    host->descriptors = 0;
    rewake(host);
}

void sim_revive(struct sim_host *host)
{
    assert(!host->up);
    host->up = true;
    host->uplink_free = host->downlink_free = 0;
    rewake(host);
}

bool sim_host_up(const struct sim_host *host)
{
    return host->up;
}

void sim_set_side(struct sim_host *host, unsigned side)
{
    host->side = side;
}

void sim_heal(struct sim *sim)
{
    wr_list_each(node, &sim->hosts)
        wr_list_entry(node, struct sim_host, node)->side = 0;
}

void sim_set_loss(struct sim *sim, double loss, double reorder)
{
    sim->o.loss = loss;
    sim->o.reorder = reorder;
}

void sim_set_mtu(struct sim *sim, size_t bytes)
{
    sim->mtu = bytes;
}

void sim_set_bandwidth(struct sim_host *host, uint64_t bandwidth)
{
    host->bandwidth = bandwidth;
}

void sim_set_queue(struct sim_host *host, wr_time queue)
{
    host->queue = queue ? queue : QUEUE;
}

void sim_set_late(struct sim_host *host, wr_time late)
{
    host->late = late;
}

void sim_set_descriptors(struct sim_host *host, unsigned max)
{
    host->descriptors_max = max;
}

unsigned sim_descriptors(const struct sim_host *host)
{
    return host->descriptors;
}

void sim_move(struct sim_host *host, struct wr_ip ip4, struct wr_ip ip6, unsigned lan)
{
    assert(!host->env.in_turn);
    if (host->ip4.family)
        sim_address_remove(host->sim, &host->node4);
    if (host->ip6.family)
        sim_address_remove(host->sim, &host->node6);
    if (host->temporary.family)
        sim_address_remove(host->sim, &host->node_temporary);
    host->temporary = (struct wr_ip){0};
    host->ip4 = ip4;
    host->ip6 = ip6;
    host->lan = lan;
    addresses_add(host);
    sim_cut(host);
}

static void tell_watches(struct sim_host *host)
{
    sim_begin(host);
    wr_env_turn_tell_watches(&host->env);
    sim_end(host);
}

void sim_cut(struct sim_host *host)
{
    if (!host->up)
        return;
    host->env.net_cuts++;
    tell_watches(host);
}

void sim_set_temporary(struct sim_host *host, struct wr_ip ip6, bool deprecated)
{
    assert(!host->env.in_turn && host->up);
    if (host->temporary.family)
        sim_address_remove(host->sim, &host->node_temporary);
    host->temporary = ip6;
    host->temporary_deprecated = deprecated;
    if (ip6.family)
        sim_address_add(host->sim, &host->node_temporary, host->gateway, &ip6);
    tell_watches(host);
}

void sim_set_routes(struct sim_host *host, bool routes)
{
    bool gone = host->routeless == false && !routes;
    host->routeless = !routes;
    if (!host->up)
        return;
    host->env.net_cuts += gone;
    tell_watches(host);
}

/* ---- env.h: time, chance, work, interfaces --------------------------------------------------------------------- */

wr_time wr_env_now(const struct wr_env *env)
{
    return ((const struct sim_host *)(const void *)env)->sim->now;
}

int64_t wr_env_unix(const struct wr_env *env)
{
    const struct sim_host *host = (const struct sim_host *)(const void *)env;
    return UNIX_START + host->sim->now + host->clock_error;
}

void wr_env_random(struct wr_env *env, void *out, size_t len)
{
    struct sim_host *host = sim_host_from(env);
    uint8_t *bytes = out;
    while (len) {
        uint64_t word = sim_chance_next(&host->chance);
        size_t part = len < sizeof(word) ? len : sizeof(word);
        memcpy(bytes, &word, part);
        bytes += part;
        len -= part;
    }
}

struct job {
    struct sim_event event;    /* first */
    struct wr_list node;       /* on sim->jobs */
    struct sim_host *host;
    struct wr_work *work;
};

static void on_work(struct sim_event *event)
{
    struct job *job = (struct job *)(void *)event;
    struct sim_host *host = job->host;
    struct wr_work *work = job->work;
    wr_list_remove(&job->node);
    wr_free(job);
    sim_note(host->sim, NOTE_WORK, host, 0);
    sim_begin(host);
    work->run(work);
    work->priv = NULL;
    work->done(work);
    sim_end(host);
}

/* As in real life, what was begun gets its done() even while all else is torn down. */
static void finish_works(struct sim *sim)
{
    while (!wr_list_empty(&sim->jobs)) {
        struct job *job = wr_list_entry(sim->jobs.next, struct job, node);
        sim_event_stop(sim, &job->event);
        on_work(&job->event);
    }
}

/* Also on a machine that is off: its objects are being destroyed and wait for this. */
int wr_env_work(struct wr_env *env, struct wr_work *work)
{
    struct sim_host *host = sim_host_from(env);
    struct job *job = wr_alloc(sizeof(*job));
    if (!job)
        return WR_ELIMIT;
    job->host = host;
    job->work = work;
    job->event.host = host;
    work->priv = job;
    wr_list_append(&host->sim->jobs, &job->node);
    sim_event_at(host->sim, &job->event, host->sim->now + WORK_TIME, on_work);
    return 0;
}

size_t wr_env_ifaddrs(struct wr_env *env, struct wr_ifaddr *out, size_t max)
{
    const struct sim_host *host = sim_host_from(env);
    struct wr_ifaddr all[5];
    size_t count = 0;
    all[count++] = (struct wr_ifaddr){.name = "lo", .index = 1, .ip = {4, {127, 0, 0, 1}}, .prefix = 8,
                                      .loopback = true};
    all[count++] = (struct wr_ifaddr){.name = "lo", .index = 1, .ip = {6, {[15] = 1}}, .prefix = 128,
                                      .loopback = true};
    if (host->up && host->ip4.family)
        all[count++] = (struct wr_ifaddr){.name = "eth0", .index = 2, .ip = host->ip4, .prefix = 24,
                                          .multicast = true};
    if (host->up && host->ip6.family)
        all[count++] = (struct wr_ifaddr){.name = "eth0", .index = 2, .ip = host->ip6, .prefix = 64,
                                          .multicast = true};
    if (host->up && host->temporary.family)
        all[count++] = (struct wr_ifaddr){.name = "eth0", .index = 2, .ip = host->temporary, .prefix = 64,
                                          .multicast = true, .temporary = true,
                                          .deprecated = host->temporary_deprecated};
    count = count < max ? count : max;
    memcpy(out, all, count * sizeof(*out));
    return count;
}

/* The first address of the link is the router's (or the last, when the first is ours), and fe80::1. */
size_t wr_env_gateways(struct wr_env *env, struct wr_gateway *out, size_t max)
{
    const struct sim_host *host = sim_host_from(env);
    size_t count = 0;
    if (!host->up || host->routeless)
        return 0;
    if (host->ip4.family && count < max) {
        out[count] = (struct wr_gateway){.family = 4, .ip = host->ip4, .index = 2, .metric = 100};
        out[count++].ip.bytes[3] = host->ip4.bytes[3] == 1 ? 254 : 1;
    }
    if (host->ip6.family && count < max)
        out[count++] = (struct wr_gateway){.family = 6, .ip = {6, {0xfe, 0x80, [15] = 1}}, .index = 2,
                                           .metric = 100};
    return count;
}

void wr_env_watch_net(struct wr_env *env, struct wr_net_watch *watch)
{
    wr_list_init(&watch->node);
    wr_list_append(&env->watches, &watch->node);
}
