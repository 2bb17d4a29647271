/* Putting records where they belong, and doing so again in time: values, keys we provide, names we
 * joined. */
#include "dht/dht_impl.h"
#include "dht/namespace.h"
#include "dht/rfc3339.h"
#include "transport/err.h"

#include <string.h>

#define PUTS_ENOUGH       15 /* told: the rest goes on alone; go lookup_optim.go, 75 % */
#define PUTS_MAX          (4 * WR_QUERY_SET) /* peers tried for one record; ours */
#define CORRECT_MAX       WR_QUERY_SET       /* peers given the better value after a get */
#define ANNOUNCE_PARALLEL 4                  /* keys announced again at once; ours */
#define ANNOUNCE_RETRY    (5 * WR_MIN)       /* after a failure; ours */
#define ANNOUNCE_SPREAD   (2 * WR_SEC)       /* per key, over which a restart spreads them; ours */
#define ANNOUNCE_SETTLE   (3 * WR_SEC)  /* after the first peer, before what was missed; ours */
#define ANNOUNCE_JITTER   (WR_HOUR)     /* taken off the interval at most; ours */
#define SEEK_FIRST        (10 * WR_SEC) /* between searches for members, doubling; ours */
#define SEEK_MAX          (10 * WR_MIN) /* ours: newcomers find those who are there, at once */
#define SEEK_WANT         100           /* members looked for; go's default limit */
#define MEMBERS_MAX       1000          /* remembered, so as not to be told again; ours */
#define MEMBER_AGAIN      WR_HOUR       /* then told again */

/* ---- puts: records go to the nearest as soon as the search has converged. Whether a peer is alive
 * shows in the put as well as in one more question; the next one takes the place of who fails. */

static bool keeps_our_value(const struct wr_dht_request *r, const struct wr_dht_msg *answer)
{
    /* go checks the same: an answer without our value is a refusal. */
    return answer && answer->has_record &&
           wr_bytes_equal(answer->record.value, wr_buf_bytes(&r->value));
}

/* The message that leaves our record: ourselves with addresses, or the value. */
struct put_message {
    struct wr_dht_msg msg;
    struct wr_dht_peer self;
    struct wr_maddr own[OWN_ADDRS_MAX];
    struct wr_bytes addrs[OWN_ADDRS_MAX];
};

static void fill_provider(const struct wr_dht *d, const struct wr_peerid *to, struct put_message *m,
                          struct wr_bytes key)
{
    const struct wr_conn *conn = wr_swarm_conn(d->swarm, to);
    m->self = (struct wr_dht_peer){.id = d->self, .addrs = m->addrs};
    m->self.count = wr_dht_own_addrs(d, conn ? &conn->remote.ip : NULL, m->own, OWN_ADDRS_MAX);
    for (size_t i = 0; i < m->self.count; i++)
        m->addrs[i] = wr_maddr_bytes(&m->own[i]);
    m->msg = (struct wr_dht_msg){
        .type = WR_DHT_ADD_PROVIDER, .key = key, .provider_count = 1, .providers = &m->self};
}

static void fill_value(struct put_message *m, struct wr_bytes key, struct wr_bytes value)
{
    m->msg = (struct wr_dht_msg){.type = WR_DHT_PUT_VALUE,
                                 .key = key,
                                 .has_record = true,
                                 .record = {.key = key, .value = value}};
}

static void on_put(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer);

/* Leaves the record with one peer, unless that was done. False: nothing was sent. */
static bool put_to(struct wr_dht_request *r, const struct wr_query_peer *to)
{
    struct put_message m;
    struct wr_bytes key = WR_BYTES(r->key, r->key_len);
    int err;
    if (r->seen_count == PUTS_MAX || wr_dht_request_met(r, &to->id))
        return false;
    if (!r->seen)
        r->seen = wr_alloc_array(PUTS_MAX, sizeof(r->seen[0]));
    if (!r->seen)
        return false;
    r->seen[r->seen_count++] = to->id;
    if (r->kind == PROVIDE) {
        fill_provider(r->dht, &to->id, &m, key);
        if (m.self.count == 0)
            return false;
    } else {
        fill_value(&m, key, wr_buf_bytes(&r->value));
    }
    if (!wr_dht_rpc_ask(r->dht, &to->id, WR_BYTES(to->addrs, to->addrs_len), &m.msg, r, on_put,
                        &err))
        return false;
    r->puts++;
    return true;
}

/* With how many the record is to be left. Of those around a crowded key any may be false. */
static unsigned wanted(const struct wr_dht_request *r)
{
    unsigned set = r->crowded ? wr_query_set(r->query) : WR_QUERY_SET;
    return set < PUTS_MAX ? set : PUTS_MAX;
}

/* Keeps as many puts under way as are missing. */
static void put_more(struct wr_dht_request *r)
{
    const struct wr_query_peer *nearest[PUTS_MAX];
    size_t count = wr_query_nearest(r->query, nearest, PUTS_MAX);
    unsigned flying = r->puts - r->puts_over - r->puts_slow;
    for (size_t i = 0; i < count && r->puts_kept + flying < wanted(r) && flying < WR_QUERY_SET; i++)
        flying += put_to(r, nearest[i]);
}

static void put_look(struct wr_dht_request *r)
{
    put_more(r);
    unsigned enough = r->puts < PUTS_ENOUGH || r->crowded ? r->puts : PUTS_ENOUGH;
    if (r->puts_over < r->puts && r->puts_kept < enough)
        return;
    int err = r->puts > 0 ? WR_EREFUSED : WR_EUNREACH;
    wr_dht_request_end(r, r->puts_kept > 0 ? 0 : err);
}

static void on_put(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer)
{
    struct wr_dht_request *r = rpc->owner;
    r->puts_over++;
    r->puts_kept += r->kind == PROVIDE ? err == 0 : keeps_our_value(r, answer);
    if (r->puts_slow > r->puts - r->puts_over)
        r->puts_slow = r->puts - r->puts_over;
    if (r->putting)
        put_look(r);
}

void wr_dht_put_early(struct wr_dht_request *r, const struct wr_peerid *id)
{
    const struct wr_query_peer *nearest[WR_QUERY_SET];
    size_t count = wr_query_closest(r->query, nearest, WR_QUERY_SET);
    for (size_t i = 0; i < count; i++) {
        double share = wr_kad_share(nearest[i]->key, wr_query_key(r->query));
        if (wr_peerid_equal(&nearest[i]->id, id) &&
            wr_netsize_sure(&r->dht->netsize, share, wr_env_now(r->dht->env)))
            put_to(r, nearest[i]);
    }
}

/* Nobody keeps a provider without an address. One that only this machine's programs could use is
 * one, as they may be all there are. */
static bool has_address(const struct wr_dht *d)
{
    static const struct wr_ip here = {.family = 4, .bytes = {127, 0, 0, 1}};
    struct wr_maddr own[OWN_ADDRS_MAX];
    return wr_dht_own_addrs(d, &here, own, OWN_ADDRS_MAX) > 0;
}

void wr_dht_put_begin(struct wr_dht_request *r)
{
    struct wr_dht *d = r->dht;
    if (r->kind == PROVIDE && !has_address(d)) {
        wr_dht_request_end(r, WR_ENOADDR);
        return;
    }
    r->putting = true;
    wr_timer_start(d->env, &r->timer, wr_env_now(d->env) + d->pace.p99 * 5 / 4,
                   wr_dht_request_timer);
    put_look(r);
}

void wr_dht_put_slow(struct wr_dht_request *r)
{
    r->puts_slow = r->puts - r->puts_over;
    wr_timer_start(r->dht->env, &r->timer, r->ends_at, wr_dht_request_timer);
    put_look(r);
}

/* Nobody waits for these: what comes of it shows in the next search. */
static void on_corrected(struct wr_dht_rpc *rpc, int err, struct wr_dht_msg *answer)
{
    (void)rpc;
    (void)err;
    (void)answer;
}

static void correct_own(struct wr_dht_request *r)
{
    struct wr_dht *d = r->dht;
    struct wr_bytes key = WR_BYTES(r->key, r->key_len);
    struct wr_store_source self = {.peer = &d->self};
    struct wr_buf value, received;
    wr_buf_init(&value, WR_DHT_VALUE_MAX);
    wr_buf_init(&received, WR_RFC3339_TEXT);
    if (wr_store_get_value(&d->store, key, &value, &received) == 0 &&
        !wr_bytes_equal(wr_buf_bytes(&value), wr_buf_bytes(&r->value)))
        wr_store_put_value(&d->store, key, wr_buf_bytes(&r->value), &self);
    wr_buf_clear(&value);
    wr_buf_clear(&received);
}

void wr_dht_correct(struct wr_dht_request *r)
{
    const struct wr_query_peer *nearest[CORRECT_MAX];
    struct put_message m;
    int err;
    correct_own(r);
    size_t count = wr_query_closest(r->query, nearest, CORRECT_MAX);
    fill_value(&m, WR_BYTES(r->key, r->key_len), wr_buf_bytes(&r->value));
    for (size_t i = 0; i < count; i++) {
        if (nearest[i]->value != r->best)
            wr_dht_rpc_ask(r->dht, &nearest[i]->id,
                           WR_BYTES(nearest[i]->addrs, nearest[i]->addrs_len), &m.msg, NULL,
                           on_corrected, &err);
    }
}

/* ---- keys we provide ------------------------------------------------------------------------ */

struct provided {
    struct wr_list node;
    struct wr_dht *dht;
    wr_time due_at;
    bool kept;      /* by the owner's word, also over a restart */
    unsigned names; /* joined that need it; who joins says so again after a restart */
    bool missed;    /* nobody could be told the last time */
    bool running;   /* a repetition is under way */
    bool gone;      /* dropped meanwhile; freed when the repetition ends */
    uint8_t key_len;
    uint8_t key[WR_DHT_PROVIDER_KEY_MAX];
};

static struct provided *find_provided(const struct wr_dht *d, struct wr_bytes key)
{
    wr_list_each(node, &d->provided)
    {
        struct provided *p = wr_list_entry(node, struct provided, node);
        if (!p->gone && wr_bytes_equal(WR_BYTES(p->key, p->key_len), key))
            return p;
    }
    return NULL;
}

bool wr_dht_provides(const struct wr_dht *d, struct wr_bytes key)
{
    return find_provided(d, key) != NULL;
}

static void on_announce_timer(struct wr_timer *timer);

static void arm_announce(struct wr_dht *d)
{
    wr_time first = 0;
    wr_list_each(node, &d->provided)
    {
        struct provided *p = wr_list_entry(node, struct provided, node);
        if (!p->running && (first == 0 || p->due_at < first))
            first = p->due_at;
    }
    if (first == 0 || d->announcing >= ANNOUNCE_PARALLEL)
        wr_timer_stop(d->env, &d->announce_timer);
    else
        wr_timer_start(d->env, &d->announce_timer, first, on_announce_timer);
}

static wr_time next_turn(struct wr_dht *d, bool failed)
{
    wr_time now = wr_env_now(d->env);
    if (failed)
        return now + ANNOUNCE_RETRY / 2 + (wr_time)wr_env_random_below(d->env, ANNOUNCE_RETRY);
    return now + WR_DHT_REANNOUNCE - (wr_time)wr_env_random_below(d->env, ANNOUNCE_JITTER);
}

static void on_announced(void *arg, int err)
{
    struct provided *p = arg;
    struct wr_dht *d = p->dht;
    d->announcing--;
    p->running = false;
    p->missed = err != 0;
    p->due_at = next_turn(d, err != 0);
    if (p->gone) {
        wr_list_remove(&p->node);
        wr_free(p);
    }
    arm_announce(d);
}

static const struct wr_dht_ops announce_ops = {.on_done = on_announced};

static void announce(struct provided *p)
{
    struct wr_dht *d = p->dht;
    int err;
    /* Without an address the search would be in vain. */
    if (!has_address(d) || !wr_dht_request_start(d, PROVIDE, WR_BYTES(p->key, p->key_len), 0,
                                                 WR_QUERY_BETA, true, &announce_ops, p, &err)) {
        p->missed = true;
        p->due_at = next_turn(d, true);
        return;
    }
    p->running = true;
    d->announcing++;
}

static void on_announce_timer(struct wr_timer *timer)
{
    struct wr_dht *d = wr_list_entry(timer, struct wr_dht, announce_timer);
    wr_time now = wr_env_now(d->env);
    wr_list_each(node, &d->provided)
    {
        struct provided *p = wr_list_entry(node, struct provided, node);
        if (d->announcing < ANNOUNCE_PARALLEL && !p->running && p->due_at <= now)
            announce(p);
    }
    arm_announce(d);
}

/* Entry of the kv store that outlives a restart. */
static struct wr_bytes
saved_name(const struct wr_dht *d, struct wr_bytes key,
           uint8_t room[static WR_STORE_PREFIX_MAX + 1 + WR_DHT_PROVIDER_KEY_MAX])
{
    size_t len = d->store.prefix_len;
    memcpy(room, d->store.prefix, len);
    room[len++] = 'o';
    memcpy(room + len, key.ptr, key.len);
    return WR_BYTES(room, len + key.len);
}

void wr_dht_announce_save(struct wr_dht *d)
{
    uint8_t room[WR_STORE_PREFIX_MAX + 1 + WR_DHT_PROVIDER_KEY_MAX];
    wr_list_each(node, &d->provided)
    {
        const struct provided *p = wr_list_entry(node, struct provided, node);
        if (p->kept)
            wr_kv_put(d->kv, saved_name(d, WR_BYTES(p->key, p->key_len), room), WR_BYTES_NONE);
    }
}

static struct provided *add_provided(struct wr_dht *d, struct wr_bytes key, wr_time due_at)
{
    struct provided *p = d->provided_count < WR_DHT_PROVIDED_MAX ? wr_alloc(sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    p->dht = d;
    p->due_at = due_at;
    p->key_len = (uint8_t)key.len;
    memcpy(p->key, key.ptr, key.len);
    wr_list_append(&d->provided, &p->node);
    d->provided_count++;
    return p;
}

/* Drops it when nobody needs it any more. */
static void drop_provided(struct wr_dht *d, struct provided *p)
{
    if (p->kept || p->names > 0)
        return;
    d->provided_count--;
    if (p->running) {
        p->gone = true; /* stays on the list, whose end frees it, until its announcement is over */
    } else {
        wr_list_remove(&p->node);
        wr_free(p);
    }
    arm_announce(d);
}

/* NULL with *err. */
static struct provided *keep_provided(struct wr_dht *d, struct wr_bytes key, int *err)
{
    uint8_t room[WR_STORE_PREFIX_MAX + 1 + WR_DHT_PROVIDER_KEY_MAX];
    struct provided *p = find_provided(d, key);
    if (p && p->kept)
        return p;
    if (!p)
        p = add_provided(d, key, wr_env_now(d->env));
    *err = p ? wr_kv_put(d->kv, saved_name(d, key, room), WR_BYTES_NONE) : WR_ELIMIT;
    if (p)
        p->kept = *err == 0;
    if (*err == 0)
        return p;
    if (p)
        drop_provided(d, p);
    return NULL;
}

struct wr_dht_request *wr_dht_provide(struct wr_dht *d, struct wr_bytes key,
                                      const struct wr_dht_ops *ops, void *arg, int *err)
{
    *err = key.len == 0 || key.len > WR_DHT_PROVIDER_KEY_MAX ? WR_EINVAL : 0;
    struct provided *p = *err == 0 ? keep_provided(d, key, err) : NULL;
    if (!p)
        return NULL;
    /* A caller who waits gets an announcement of his own. Until it has succeeded the key counts as
     * missed: he may not wait for its end. */
    struct wr_dht_request *r = NULL;
    if (ops) {
        r = wr_dht_request_start(d, PROVIDE, key, 0, WR_QUERY_BETA, false, ops, arg, err);
        p->missed = true;
        p->due_at = next_turn(d, true);
    }
    arm_announce(d);
    return r;
}

void wr_dht_announce_done(struct wr_dht *d, struct wr_bytes key)
{
    struct provided *p = find_provided(d, key);
    if (!p || p->running)
        return;
    p->missed = false;
    p->due_at = next_turn(d, false);
    arm_announce(d);
}

bool wr_dht_unprovide(struct wr_dht *d, struct wr_bytes key)
{
    uint8_t room[WR_STORE_PREFIX_MAX + 1 + WR_DHT_PROVIDER_KEY_MAX];
    struct provided *p = find_provided(d, key);
    if (!p || !p->kept)
        return false;
    wr_kv_del(d->kv, saved_name(d, key, room));
    p->kept = false;
    drop_provided(d, p);
    return true;
}

struct load {
    struct wr_dht *dht;
    size_t skip;
};

static bool load_provided(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct load *load = arg;
    struct wr_dht *d = load->dht;
    (void)value;
    wr_bytes_take(&key, load->skip);
    if (key.len == 0 || key.len > WR_DHT_PROVIDER_KEY_MAX)
        return true;
    struct provided *p = add_provided(d, key, 0);
    if (p)
        p->kept = true;
    return p != NULL;
}

/* After a restart the addresses may be others: all is announced again, spread so that many nodes
 * that start at once are no storm. */
int wr_dht_announce_init(struct wr_dht *d)
{
    uint8_t room[WR_STORE_PREFIX_MAX + 1 + WR_DHT_PROVIDER_KEY_MAX];
    struct wr_bytes prefix = saved_name(d, WR_BYTES(room, 0), room);
    struct load load = {.dht = d, .skip = prefix.len};
    wr_list_init(&d->provided);
    wr_list_init(&d->names);
    int rc = wr_kv_scan(d->kv, prefix, WR_BYTES_NONE, load_provided, &load);
    uint64_t spread = d->provided_count * (uint64_t)ANNOUNCE_SPREAD + 10 * (uint64_t)WR_SEC;
    if (spread > (uint64_t)WR_DHT_REANNOUNCE)
        spread = (uint64_t)WR_DHT_REANNOUNCE;
    wr_list_each(node, &d->provided)
    {
        struct provided *p = wr_list_entry(node, struct provided, node);
        p->due_at = wr_env_now(d->env) + (wr_time)wr_env_random_below(d->env, spread);
    }
    arm_announce(d);
    return rc;
}

/* ---- names ---------------------------------------------------------------------------------- */

struct member {
    struct wr_peerid id;
    wr_time told_at;
};

struct wr_dht_name {
    struct wr_list node;
    struct wr_dht *dht;
    struct wr_multihash key;
    const struct wr_dht_ops *ops;
    void *arg;
    struct wr_dht_request *search; /* under way, or NULL */
    struct wr_timer timer;
    wr_time wait;           /* until the next search */
    struct member *members; /* owned */
    size_t member_count, member_cap;
    struct wr_task dispose;
};

/* True when the member is to be told of: new, or not for a while. */
static bool note_member(struct wr_dht_name *n, const struct wr_peerid *id, wr_time now)
{
    for (size_t i = 0; i < n->member_count; i++) {
        struct member *m = &n->members[i];
        if (!wr_peerid_equal(&m->id, id))
            continue;
        if (now < m->told_at + MEMBER_AGAIN)
            return false;
        m->told_at = now;
        return true;
    }
    if (n->member_count == n->member_cap && n->member_cap < MEMBERS_MAX) {
        size_t cap = n->member_cap ? 2 * n->member_cap : 8;
        struct member *more = wr_realloc(n->members, cap * sizeof(n->members[0]));
        if (!more)
            return true;
        n->members = more;
        n->member_cap = cap;
    }
    /* Full: the oldest is forgotten. */
    size_t at = n->member_count;
    if (at == n->member_cap) {
        at = 0;
        for (size_t i = 1; i < n->member_count; i++) {
            if (n->members[i].told_at < n->members[at].told_at)
                at = i;
        }
    } else {
        n->member_count++;
    }
    n->members[at] = (struct member){*id, now};
    return true;
}

static void on_member(void *arg, const struct wr_dht_peer *peer)
{
    struct wr_dht_name *n = arg;
    if (!note_member(n, &peer->id, wr_env_now(n->dht->env)))
        return;
    n->wait = SEEK_FIRST;
    if (n->ops->on_peer)
        n->ops->on_peer(n->arg, peer);
}

static void on_name_timer(struct wr_timer *timer);

static void on_sought(void *arg, int err)
{
    struct wr_dht_name *n = arg;
    struct wr_dht *d = n->dht;
    (void)err;
    n->search = NULL;
    n->wait = n->wait * 2 < SEEK_MAX ? n->wait * 2 : SEEK_MAX;
    wr_time jitter = (wr_time)wr_env_random_below(d->env, (uint64_t)n->wait / 2);
    wr_timer_start(d->env, &n->timer, wr_env_now(d->env) + n->wait - jitter, on_name_timer);
}

static const struct wr_dht_ops name_ops = {.on_peer = on_member, .on_done = on_sought};

static void on_name_timer(struct wr_timer *timer)
{
    struct wr_dht_name *n = wr_list_entry(timer, struct wr_dht_name, timer);
    int err;
    n->search = wr_dht_find_providers(n->dht, WR_BYTES(n->key.bytes, n->key.len), SEEK_WANT,
                                      &name_ops, n, &err);
    if (!n->search)
        on_sought(n, err);
}

struct wr_dht_name *wr_dht_join(struct wr_dht *d, struct wr_bytes name,
                                const struct wr_dht_ops *ops, void *arg, int *err)
{
    *err = name.len == 0 || name.len > WR_NAMESPACE_MAX ? WR_EINVAL : WR_ELIMIT;
    struct wr_dht_name *n =
        *err == WR_ELIMIT && d->name_count < WR_DHT_NAMES_MAX ? wr_alloc(sizeof(*n)) : NULL;
    if (!n)
        return NULL;
    wr_namespace_key(name, &n->key);
    n->dht = d;
    n->ops = ops;
    n->arg = arg;
    n->wait = SEEK_FIRST;
    struct wr_bytes key = WR_BYTES(n->key.bytes, n->key.len);
    struct provided *p = find_provided(d, key);
    if (!p)
        p = add_provided(d, key, wr_env_now(d->env));
    if (!p) {
        wr_free(n);
        return NULL;
    }
    *err = 0;
    p->names++;
    arm_announce(d);
    wr_list_append(&d->names, &n->node);
    d->name_count++;
    wr_timer_start(d->env, &n->timer, wr_env_now(d->env), on_name_timer);
    return n;
}

void wr_dht_announce_missed(struct wr_dht *d)
{
    wr_time spread = (wr_time)d->provided_count * ANNOUNCE_SPREAD;
    wr_list_each(node, &d->provided)
    {
        struct provided *p = wr_list_entry(node, struct provided, node);
        wr_time at = wr_env_now(d->env) + ANNOUNCE_SETTLE +
                     (wr_time)wr_env_random_below(d->env, (uint64_t)spread);
        if (p->missed && !p->running && p->due_at > at)
            p->due_at = at;
    }
    arm_announce(d);
}

void wr_dht_announce_wake(struct wr_dht *d)
{
    wr_dht_announce_missed(d);
    wr_list_each(node, &d->names)
    {
        struct wr_dht_name *n = wr_list_entry(node, struct wr_dht_name, node);
        if (!n->search && n->member_count == 0)
            wr_timer_start(d->env, &n->timer, wr_env_now(d->env) + ANNOUNCE_SETTLE, on_name_timer);
    }
}

static void dispose_name(struct wr_task *task)
{
    struct wr_dht_name *n = wr_list_entry(task, struct wr_dht_name, dispose);
    wr_free(n->members);
    wr_free(n);
}

static void drop_name(struct wr_dht_name *n)
{
    struct wr_dht *d = n->dht;
    if (n->search)
        wr_dht_cancel(n->search);
    wr_timer_stop(d->env, &n->timer);
    wr_list_remove(&n->node);
    d->name_count--;
    wr_env_dispose(d->env, &n->dispose, dispose_name);
}

void wr_dht_leave(struct wr_dht_name *n)
{
    struct provided *p = find_provided(n->dht, WR_BYTES(n->key.bytes, n->key.len));
    p->names--;
    drop_provided(n->dht, p);
    drop_name(n);
}

void wr_dht_announce_clear(struct wr_dht *d)
{
    wr_timer_stop(d->env, &d->announce_timer);
    wr_list_each(node, &d->names) drop_name(wr_list_entry(node, struct wr_dht_name, node));
    wr_list_each(node, &d->provided)
    {
        wr_list_remove(node);
        wr_free(wr_list_entry(node, struct provided, node));
    }
    d->provided_count = 0;
}
