/* The routing table's upkeep: who enters, who goes, refreshing what is stale, and never staying
 * alone. */
#include "dht/dht_impl.h"
#include "transport/err.h"

#include <string.h>

#define CHECKS_MAX      16            /* admissions under way; ours */
#define WAITING_MAX     256           /* peers that wait for one; ours: 20 KiB */
#define AGAIN_FIRST     (30 * WR_SEC) /* after an admission that failed; ours */
#define AGAIN_MAX       (10 * WR_MIN) /* as long as none succeeds; ours */
#define CHECK_EVERY     (5 * WR_SEC)  /* between checks of silent entries; ours */
#define BOOT_WAIT_FIRST (3 * WR_SEC)  /* saved peers get this long before the list is asked; ours */
#define START_JITTER    WR_SEC        /* before saved peers are asked; ours: all restart at once */
#define BOOT_WAIT_ALONE (2 * WR_MIN)  /* go-libp2p-kad-dht dht_bootstrap.go */
#define BOOT_WAIT_FEW   (10 * WR_MIN) /* a small network is no emergency; ours */
#define BOOT_PICK       2             /* of the list at a time; go dht_bootstrap.go */
#define SAVE_EVERY      (10 * WR_MIN) /* ours */
#define SWEEP_EVERY     (10 * WR_MIN) /* ours */
#define SWEEP_AGAIN     WR_SEC        /* when more has expired than one sweep took */
#define SWEEP_BUDGET    500           /* records a turn; ours */
#define MEMBER_TTL      (6 * WR_HOUR) /* a table member's addresses are kept so long; ours */
#define ALIVE_WITHIN    (30 * WR_SEC) /* somebody answered: failures are the peers' own, not our link's */
#define RANDOM_CPL_MAX  12            /* deeper targets are ids of members; 2^13 hashes at most */
#define TAG_WEIGHT      5             /* go-libp2p-kad-dht */

/* ---- who enters ----------------------------------------------------------------------------- */

static void on_upkeep(struct wr_task *task);

void wr_dht_table_wake(struct wr_dht *d)
{
    wr_env_defer(d->env, &d->upkeep_task, on_upkeep);
}

static void say(struct wr_dht *d, enum wr_dht_event_type event)
{
    if (d->on_event)
        d->on_event(d->arg, event);
}

/* The addresses under which a member is handed on and found again last as long as it is one: what
 * identify told of a peer would be forgotten an hour after the connection. */
static void keep_addrs(struct wr_dht *d, const struct wr_peerid *id)
{
    struct wr_peerstore *ps = wr_swarm_peerstore(d->swarm);
    struct wr_maddr addrs[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(ps, id, addrs, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (wr_dht_addr_fits(d, wr_maddr_bytes(&addrs[i])))
            wr_peerstore_add_addr(ps, id, wr_maddr_bytes(&addrs[i]), MEMBER_TTL, false);
    }
}

static void entry_of(const struct wr_dht *d, const struct wr_peerid *id, struct wr_kentry *entry)
{
    const struct wr_conn *conn = wr_swarm_conn(d->swarm, id);
    memset(entry, 0, sizeof(*entry));
    entry->id = *id;
    wr_kad_key(wr_peerid_bytes(id), entry->key);
    if (conn && !d->crowded)
        wr_ipgroup_add(entry->groups, wr_ipgroup(&conn->remote.ip));
}

/* Whoever is connected and serves, and is not in the table although there is room, gets another
 * question: a busy machine misses one, and says only once that it serves. */
static void look_again(struct wr_dht *d)
{
    if (d->again_at != 0)
        return;
    d->again_at = wr_env_now(d->env) + d->again_wait;
    d->again_wait = d->again_wait * 2 < AGAIN_MAX ? d->again_wait * 2 : AGAIN_MAX;
    wr_dht_table_wake(d);
}

static void forget(struct wr_dht *d, const struct wr_peerid *id,
                   const uint8_t key[static WR_KAD_KEY], const char *why)
{
    if (!wr_kbucket_remove(&d->table, key))
        return;
    wr_limits_give(d->limits, WR_LIMIT_TABLE, 1);
    char text[WR_PEERID_TEXT];
    wr_log(wr_env_log(d->env), WR_LOG_DEBUG, "dht", "table lost peer=%s why=%s peers=%zu",
           wr_peerid_print(id, text), why, d->table.count);
    wr_peerstore_protect(wr_swarm_peerstore(d->swarm), id, false);
    wr_swarm_untag(d->swarm, id, d->protocol);
    if (wr_swarm_conn(d->swarm, id))
        look_again(d);
    if (d->table.count == 0 && d->ready) {
        d->ready = false;
        d->boot_at = 0;
        d->boot_wait = BOOT_WAIT_FIRST;
        say(d, WR_DHT_ALONE);
    }
    wr_dht_table_wake(d);
}

void wr_dht_table_forget(struct wr_dht *d, const struct wr_peerid *peer)
{
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(peer), key);
    forget(d, peer, key, "no-server");
}

static void admit(struct wr_dht *d, const struct wr_peerid *id)
{
    struct wr_kentry entry;
    struct wr_peerid evicted;
    char text[WR_PEERID_TEXT];
    entry_of(d, id, &entry);
    int rc = wr_kbucket_add(&d->table, &entry, !d->settled, wr_env_now(d->env), &evicted);
    if (rc < 0)
        return;
    keep_addrs(d, id);
    if (rc == 0)
        return;
    wr_log(wr_env_log(d->env), WR_LOG_DEBUG, "dht", "table gained peer=%s peers=%zu",
           wr_peerid_print(id, text), d->table.count);
    if (evicted.len == 0) {
        wr_limits_charge(d->limits, WR_LIMIT_TABLE, 1);
    } else {
        wr_peerstore_protect(wr_swarm_peerstore(d->swarm), &evicted, false);
        wr_swarm_untag(d->swarm, &evicted, d->protocol);
    }
    wr_peerstore_protect(wr_swarm_peerstore(d->swarm), id, true);
    wr_swarm_tag(d->swarm, id, d->protocol, TAG_WEIGHT, false);
    wr_dht_looked_for(d, id);
    if (!d->ready) {
        d->ready = true;
        wr_log(wr_env_log(d->env), WR_LOG_INFO, "dht", "ready protocol=%s", d->protocol);
        wr_dht_announce_wake(d);
        say(d, WR_DHT_READY);
    }
    wr_dht_requests_wake(d);
    wr_dht_table_wake(d);
}

/* Whoever answers a question of ours serves the DHT: no more is asked of a member, except that who
 * knows nobody although we know many is no server of this network (go-libp2p-kad-dht). Which side
 * dialled is all one, as in go: whom everybody dials would know nobody else. */
static void answered(struct wr_dht *d, const struct wr_peerid *peer, const struct wr_dht_msg *answer)
{
    const struct wr_conn *conn = wr_swarm_conn(d->swarm, peer);
    uint8_t key[WR_KAD_KEY];
    wr_time now = wr_env_now(d->env);
    wr_kad_key(wr_peerid_bytes(peer), key);
    struct wr_kentry *entry = wr_kbucket_find(&d->table, key);
    d->success_at = now;
    if (entry)
        entry->useful_at = entry->success_at = now;
    else if (answer && (answer->closer_count > 0 || d->table.count < WR_KBUCKET_SIZE) && conn &&
             wr_dht_conn_fits(d, conn))
        admit(d, peer);
}

static bool peers_own_fault(int err)
{
    switch (err) {
    case WR_ELIMIT:
    case WR_EGATED:
    case WR_EBACKOFF:
    case WR_ECANCELLED:
    case WR_ENOFD:
    case WR_ESELF:
        return false;
    default:
        return true;
    }
}

/* go evicts at the first failure. So do we, unless nobody answers at all: then it is our own link
 * that is down, and the table is what brings us back. */
void wr_dht_table_failed(struct wr_dht *d, const struct wr_peerid *peer, int err)
{
    uint8_t key[WR_KAD_KEY];
    wr_time now = wr_env_now(d->env);
    if (!peers_own_fault(err))
        return;
    bool alive = d->success_at != 0 && now < d->success_at + ALIVE_WITHIN;
    if (err != WR_EUNSUPPORTED && !alive)
        return;
    wr_kad_key(wr_peerid_bytes(peer), key);
    forget(d, peer, key, wr_err_name(err));
}

/* Alive, and says why it does not answer. rust keeps such a peer, go loses it as after any failure. We keep it
 * while it has been of use not long ago: places are not for those who only ever refuse. */
static void busy(struct wr_dht *d, const struct wr_peerid *peer)
{
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(peer), key);
    const struct wr_kentry *entry = wr_kbucket_find(&d->table, key);
    if (entry && wr_env_now(d->env) >= entry->useful_at + WR_DHT_BUSY_MAX)
        forget(d, peer, key, "busy");
}

static void heard(const struct wr_dht_rpc *rpc, int err, const struct wr_dht_msg *answer)
{
    if (err == 0)
        answered(rpc->dht, &rpc->peer, answer);
    else if (rpc->busy)
        busy(rpc->dht, &rpc->peer);
    else if (err != WR_EREFUSED) /* of a record: alive and well */
        wr_dht_table_failed(rpc->dht, &rpc->peer, err);
}

/* ---- admission: a FIND_NODE for its own id, which a server answers with somebody ------------ */

/* Peers that came while CHECKS_MAX others were asked: a node that many bootstrap from meets them in
 * bursts, and they say only once that they serve. */
struct waiting {
    struct wr_list node; /* wr_dht.waiting */
    struct wr_peerid peer;
};

static void wait_for_check(struct wr_dht *d, const struct wr_peerid *peer)
{
    wr_list_each(node, &d->waiting)
    {
        if (wr_peerid_equal(&wr_list_entry(node, struct waiting, node)->peer, peer))
            return;
    }
    struct waiting *w = d->waiting_count < WAITING_MAX ? wr_alloc(sizeof(*w)) : NULL;
    if (!w)
        return;
    w->peer = *peer;
    wr_list_append(&d->waiting, &w->node);
    d->waiting_count++;
}

static struct wr_peerid stop_waiting(struct wr_dht *d)
{
    struct waiting *w = wr_list_entry(d->waiting.next, struct waiting, node);
    struct wr_peerid peer = w->peer;
    wr_list_remove(&w->node);
    wr_free(w);
    d->waiting_count--;
    return peer;
}

static void check_waiting(struct wr_dht *d)
{
    while (d->checks < CHECKS_MAX && d->waiting_count > 0) {
        struct wr_peerid peer = stop_waiting(d);
        struct wr_conn *conn = wr_swarm_conn(d->swarm, &peer);
        if (conn)
            wr_dht_table_consider(d, conn);
    }
}

static void on_checked(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer)
{
    struct wr_dht *d = rpc->owner;
    (void)answer; /* it has been taken in already */
    d->checks--;
    if (err == 0)
        d->again_wait = AGAIN_FIRST;
    else
        look_again(d);
    check_waiting(d);
}

static bool being_checked(const struct wr_dht *d, const struct wr_peerid *peer)
{
    wr_list_each(node, &d->rpcs)
    {
        struct wr_dht_rpc *rpc = wr_list_entry(node, struct wr_dht_rpc, node);
        if (rpc->done == on_checked && wr_peerid_equal(&rpc->peer, peer))
            return true;
    }
    return false;
}

bool wr_dht_table_check(struct wr_dht *d, const struct wr_peerid *peer)
{
    struct wr_dht_msg request = {.type = WR_DHT_FIND_NODE, .key = wr_peerid_bytes(peer)};
    int err;
    if (d->checks >= CHECKS_MAX || being_checked(d, peer))
        return false;
    if (!wr_dht_rpc_ask(d, peer, WR_BYTES_NONE, &request, d, on_checked, &err)) {
        wr_dht_table_failed(d, peer, err);
        return false;
    }
    d->checks++;
    return true;
}

void wr_dht_table_consider(struct wr_dht *d, struct wr_conn *conn)
{
    struct wr_kentry entry;
    entry_of(d, &conn->peer, &entry);
    struct wr_kentry *known = wr_kbucket_find(&d->table, entry.key);
    if (known) {
        known->success_at = wr_env_now(d->env);
        return;
    }
    if (!wr_dht_conn_fits(d, conn) || !wr_kbucket_wants(&d->table, &entry, wr_env_now(d->env)))
        return;
    if (d->checks < CHECKS_MAX)
        wr_dht_table_check(d, &conn->peer);
    else
        wait_for_check(d, &conn->peer);
}

static void consider_one(struct wr_conn *conn, void *arg)
{
    struct wr_dht *d = arg;
    if (wr_peerstore_speaks(wr_swarm_peerstore(d->swarm), &conn->peer, d->protocol) == 1)
        wr_dht_table_consider(d, conn);
}

void wr_dht_table_consider_all(struct wr_dht *d)
{
    wr_swarm_each(d->swarm, consider_one, d);
}

/* ---- bootstrap ------------------------------------------------------------------------------ */

struct boot {
    struct wr_list node; /* wr_dht.connects */
    struct wr_dht *dht;
    struct wr_connect *connect;
};

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct boot *boot = arg;
    struct wr_dht *d = boot->dht;
    wr_list_remove(&boot->node);
    wr_free(boot);
    if (err == 0)
        wr_dht_table_consider(d, conn);
    wr_log(wr_env_log(d->env), WR_LOG_DEBUG, "dht", "bootstrap dial err=%s",
           err ? wr_err_name(err) : "0");
}

static void dial_bootstrap(struct wr_dht *d, const struct wr_maddr *addr)
{
    struct wr_peerid id;
    if (!wr_maddr_peer(wr_maddr_bytes(addr), &id) || wr_peerid_equal(&id, &d->self))
        return;
    struct boot *boot = wr_alloc(sizeof(*boot));
    if (!boot)
        return;
    boot->dht = d;
    if (wr_swarm_connect(d->swarm, &id, addr, 1, WR_ORIGIN_OWNER, 0, on_connected, boot,
                         &boot->connect) != 0) {
        wr_free(boot);
        return;
    }
    wr_list_append(&d->connects, &boot->node);
}

void wr_dht_table_dial_absent(struct wr_dht *d, struct wr_peerid *peer)
{
    struct wr_peerid id;
    uint8_t key[WR_KAD_KEY];
    size_t seen = 0, chosen = 0;
    for (size_t i = 0; i < d->bootstrap_count; i++) {
        if (!wr_maddr_peer(wr_maddr_bytes(&d->bootstrap[i]), &id) || wr_swarm_conn(d->swarm, &id))
            continue;
        wr_kad_key(wr_peerid_bytes(&id), key);
        if (wr_kbucket_find(&d->table, key) || wr_env_random_below(d->env, ++seen) != 0)
            continue;
        chosen = i;
        *peer = id;
    }
    if (seen > 0)
        dial_bootstrap(d, &d->bootstrap[chosen]);
}

/* Some of the list at random, so that not everybody leans on the first. */
static void dial_some(struct wr_dht *d)
{
    size_t picked = 0;
    for (size_t i = 0; i < d->bootstrap_count && picked < BOOT_PICK; i++) {
        size_t left = d->bootstrap_count - i;
        if (wr_env_random_below(d->env, left) >= BOOT_PICK - picked)
            continue;
        dial_bootstrap(d, &d->bootstrap[i]);
        picked++;
    }
}

/* Saved peers first; the list three seconds later, and both again and again, ever more slowly,
 * while we know too few. */
static void bootstrap(struct wr_dht *d, wr_time now)
{
    if (d->table.count >= WR_DHT_TABLE_LOW) {
        d->boot_wait = BOOT_WAIT_FIRST;
        d->boot_at = 0;
        return;
    }
    if (d->boot_at == 0 && !d->loaded && wr_dht_has_saved(d))
        d->boot_at = now + (wr_time)wr_env_random_below(d->env, START_JITTER);
    else if (d->boot_at == 0)
        d->boot_at = now;
    if (now < d->boot_at)
        return;
    wr_dht_try_saved(d);
    if (d->loaded || d->checks == 0)
        dial_some(d);
    d->loaded = true;
    wr_time jitter = (wr_time)wr_env_random_below(d->env, (uint64_t)d->boot_wait / 2);
    d->boot_at = now + d->boot_wait - jitter;
    wr_time max = d->table.count == 0 ? BOOT_WAIT_ALONE : BOOT_WAIT_FEW;
    d->boot_wait = d->boot_wait * 2 < max ? d->boot_wait * 2 : max;
}

/* ---- refreshing ----------------------------------------------------------------------------- */

static void on_refreshed(void *arg, int err)
{
    struct wr_dht *d = arg;
    d->refresh = NULL;
    /* One that came to its end has been noted by the search itself. */
    if (err == WR_ETIMEOUT)
        wr_kbucket_refreshed(&d->table, d->refresh_key, wr_env_now(d->env));
    wr_dht_table_wake(d);
}

static const struct wr_dht_ops refresh_ops = {.on_done = on_refreshed};

/* An id whose key falls into bucket cpl: by trial where that is cheap, else that of a member. */
static bool target_in(struct wr_dht *d, unsigned cpl, struct wr_peerid *id)
{
    struct wr_kentry *e;
    uint8_t key[WR_KAD_KEY];
    size_t cursor = 0;
    if (cpl <= RANDOM_CPL_MAX) {
        *id = (struct wr_peerid){.len = 34, .bytes = {0x12, 0x20}};
        for (unsigned i = 0; i < 1u << (RANDOM_CPL_MAX + 4); i++) {
            if (i % 8 == 0)
                wr_env_random(d->env, id->bytes + 2, 32);
            id->bytes[2] = (uint8_t)(id->bytes[2] + 1);
            wr_kad_key(wr_peerid_bytes(id), key);
            if (wr_kad_cpl(key, d->table.self) == cpl)
                return true;
        }
    }
    while ((e = wr_kbucket_next(&d->table, &cursor))) {
        *id = e->id;
        if (wr_kad_cpl(e->key, d->table.self) == cpl)
            return true;
    }
    return false;
}

static void refresh(struct wr_dht *d, wr_time now)
{
    unsigned cpl;
    int err;
    struct wr_peerid id;
    bool due = wr_kbucket_refresh_due(&d->table, now, &cpl);
    if (d->refresh || d->table.count == 0 || (!due && !d->found_back))
        return;
    /* The deepest bucket is our own neighbourhood, and a search for ourselves passes through every
     * bucket that is not full. */
    bool own = d->found_back || cpl + 1 >= d->table.bucket_count || d->table.count < WR_KBUCKET_SIZE;
    d->found_back = false;
    if (own || !target_in(d, cpl, &id))
        id = d->self;
    wr_kad_key(wr_peerid_bytes(&id), d->refresh_key);
    d->refresh =
        wr_dht_request_start(d, FIND_CLOSEST, wr_peerid_bytes(&id), 0,
                             own ? WR_QUERY_SET : WR_QUERY_BETA, true, &refresh_ops, d, &err);
    if (!d->refresh)
        wr_kbucket_refreshed(&d->table, d->refresh_key, now);
}

/* ---- the clockwork -------------------------------------------------------------------------- */

static void on_timer(struct wr_timer *timer)
{
    wr_dht_table_wake(wr_list_entry(timer, struct wr_dht, upkeep));
}

static void earliest(wr_time *first, wr_time at)
{
    if (at != 0 && (*first == 0 || at < *first))
        *first = at;
}

static void arm(struct wr_dht *d, wr_time now)
{
    wr_time next = 0;
    earliest(&next, d->boot_at);
    earliest(&next, d->save_at);
    earliest(&next, d->sweep_at);
    earliest(&next, d->check_at);
    earliest(&next, d->keep_at);
    earliest(&next, d->look_at);
    earliest(&next, d->again_at);
    if (!d->refresh)
        earliest(&next, wr_kbucket_refresh_at(&d->table));
    if (next == 0)
        wr_timer_stop(d->env, &d->upkeep);
    else
        wr_timer_start(d->env, &d->upkeep, next > now ? next : now + WR_MSEC, on_timer);
}

static void keep_all_addrs(struct wr_dht *d, wr_time now)
{
    size_t cursor = 0;
    d->keep_at = now + MEMBER_TTL / 2;
    for (struct wr_kentry *e; (e = wr_kbucket_next(&d->table, &cursor));)
        keep_addrs(d, &e->id);
}

static void check_silent(struct wr_dht *d, wr_time now)
{
    struct wr_kentry *silent = wr_kbucket_check_due(&d->table, now);
    d->check_at = 0;
    if (!silent)
        return;
    struct wr_peerid id = silent->id;
    silent->success_at = now - WR_KBUCKET_CHECK_AFTER + WR_MIN; /* not again before a minute */
    wr_dht_table_check(d, &id);
    d->check_at = now + CHECK_EVERY;
}

static void on_upkeep(struct wr_task *task)
{
    struct wr_dht *d = wr_list_entry(task, struct wr_dht, upkeep_task);
    wr_time now = wr_env_now(d->env);
    unsigned cpl;
    bootstrap(d, now);
    wr_dht_look_out(d, now);
    refresh(d, now);
    if (d->check_at == 0 || now >= d->check_at)
        check_silent(d, now);
    if (!d->settled && !d->refresh && d->table.count >= WR_DHT_TABLE_LOW &&
        !wr_kbucket_refresh_due(&d->table, now, &cpl)) {
        d->settled = true;
        wr_kbucket_settle(&d->table);
    }
    if (d->again_at != 0 && now >= d->again_at) {
        d->again_at = 0;
        wr_dht_table_consider_all(d);
    }
    if (now >= d->keep_at)
        keep_all_addrs(d, now);
    if (now >= d->save_at) {
        wr_dht_save(d);
        d->save_at = now + SAVE_EVERY;
    }
    if (now >= d->sweep_at) {
        bool more = wr_store_sweep(&d->store, SWEEP_BUDGET) == SWEEP_BUDGET;
        d->sweep_at = now + (more ? SWEEP_AGAIN : SWEEP_EVERY);
    }
    arm(d, now);
}

void wr_dht_table_parted(struct wr_dht *d, const struct wr_peerid *peer)
{
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(peer), key);
    if (!wr_kbucket_find(&d->table, key))
        return;
    /* At the end of the turn, when identify has taken its own back. */
    d->keep_at = wr_env_now(d->env);
    wr_dht_table_wake(d);
}

void wr_dht_table_init(struct wr_dht *d)
{
    wr_time now = wr_env_now(d->env);
    wr_list_init(&d->connects);
    wr_list_init(&d->waiting);
    d->heard = heard;
    d->boot_wait = BOOT_WAIT_FIRST;
    d->again_wait = AGAIN_FIRST;
    d->save_at = now + WR_MIN;
    d->sweep_at = now + WR_MIN;
    d->keep_at = now + MEMBER_TTL / 2;
    wr_dht_table_wake(d);
}

void wr_dht_table_clear(struct wr_dht *d)
{
    size_t cursor = 0;
    wr_dht_save(d);
    wr_timer_stop(d->env, &d->upkeep);
    wr_task_cancel(&d->upkeep_task);
    wr_list_each(node, &d->connects)
    {
        struct boot *boot = wr_list_entry(node, struct boot, node);
        wr_connect_cancel(boot->connect);
        wr_list_remove(&boot->node);
        wr_free(boot);
    }
    while (d->waiting_count > 0)
        (void)stop_waiting(d);
    for (struct wr_kentry *e; (e = wr_kbucket_next(&d->table, &cursor));) {
        wr_peerstore_protect(wr_swarm_peerstore(d->swarm), &e->id, false);
        wr_swarm_untag(d->swarm, &e->id, d->protocol);
    }
    wr_limits_give(d->limits, WR_LIMIT_TABLE, d->table.count);
    wr_kbucket_clear(&d->table);
    wr_free(d->bootstrap);
}
