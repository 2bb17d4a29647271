/* Methods of the DHT: find, join, provide, put and get; and what status and metrics say of it. The
 * public network has two tables, for the internet and for the local network: questions go to both
 * at once, the answers come together. */
#include "node/methods_impl.h"

#include "dht/dht.h"
#include "dht/namespace.h"
#include "transport/multihash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT_DEFAULT 100  /* providers or members in one answer; go-libp2p discovery */
#define COUNT_MAX     1000 /* ours: they are remembered while the call runs */
#define KEY_MAX       512  /* bytes of a record's key; ours */

/* ---- one question to every table */

struct search;

struct leg {
    struct search *search;
    struct wr_dht_request *request; /* NULL: over */
};

/* Who was told already: tables and holders repeat each other. */
struct seen {
    struct wr_peerid id; /* the key */
};

struct search {
    struct wr_methods *m;
    struct wr_call *call;
    struct leg legs[WR_METHODS_DHTS];
    unsigned running;
    bool first_wins;       /* one answer is enough; else every table has its say */
    bool done;             /* a table answered */
    int err;               /* of the others, the most telling one */
    uint64_t want;         /* peers to find */
    struct wr_map seen;    /* struct seen */
    struct wr_peerid peer; /* what is asked for: a peer, or a key */
    uint8_t key[KEY_MAX];
    size_t key_len;
    struct wr_bytes input; /* dht.put: the value, borrowed while the call starts */
    struct wr_buf value;   /* dht.get */
    wr_time started_at;
    uint64_t asked_before; /* questions of the node until it began */
    struct wr_timer tick;
    void (*answer)(struct search *s); /* puts the result */
    const char *nobody;               /* nobody has it: what that means, and what to do */
};

static uint64_t asked(const struct wr_methods *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < WR_METHODS_DHTS; i++) {
        struct wr_dht_stats stats;
        if (!m->o.dht[i])
            continue;
        wr_dht_stats(m->o.dht[i], &stats);
        sum += stats.asked;
    }
    return sum;
}

static void search_free(struct search *s)
{
    size_t cursor = 0;
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (s->legs[i].request)
            wr_dht_cancel(s->legs[i].request);
    for (void *seen = wr_map_next(&s->seen, &cursor); seen; seen = wr_map_next(&s->seen, &cursor))
        wr_free(seen);
    wr_map_clear(&s->seen);
    wr_buf_clear(&s->value);
    wr_timer_stop(s->m->env, &s->tick);
    wr_free(s);
}

static void on_search_cancel(void *arg)
{
    search_free(arg);
}

static void search_fail(struct search *s)
{
    static const struct {
        int err;
        const char *text;
    } table[] = {
        {WR_EUNREACH, "no peer of the DHT is known yet; `warren connect ADDR` makes one known, "
                      "`warren wait --online` waits for one"},
        {WR_ENOADDR, "kept, but nobody could be told: this node has no address that others could use; "
                     "`warren status` tells which it has"},
        {WR_EREFUSED, "none of the peers it belongs to took it; it is tried again later"},
        {WR_ETIMEOUT, "the search took too long; `warren status` tells if the DHT has peers"},
        {WR_EUNSUPPORTED, "no such kind of record: keys are /pk/PEER and /ipns/PEER"},
        {WR_EPROTO, "the record is malformed: /pk/PEER holds the public key of PEER, /ipns/PEER a signed IPNS record"},
        {WR_EAUTH, "the record's signature does not belong to its key"},
        {WR_ESTALE, "a newer record is known"},
    };
    if (s->err == WR_ENOTFOUND) {
        wr_call_fail(s->call, s->err, "%s", s->nobody);
        return;
    }
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].err == s->err) {
            wr_call_fail(s->call, s->err, "%s", table[i].text);
            return;
        }
    }
    wr_call_fail(s->call, s->err, NULL);
}

static void search_finish(struct search *s)
{
    if (s->done || s->seen.count) {
        s->answer(s);
        wr_call_done(s->call);
    } else {
        search_fail(s);
    }
    search_free(s);
}

/* A table that knows nobody waits a while for somebody: not when another one has been asked. */
static void drop_waiting_legs(struct search *s)
{
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
        if (!s->legs[i].request || !wr_dht_alone(s->m->o.dht[i]))
            continue;
        wr_dht_cancel(s->legs[i].request);
        s->legs[i].request = NULL;
        s->running--;
    }
}

static void on_leg_done(void *arg, int err)
{
    struct leg *leg = arg;
    struct search *s = leg->search;
    leg->request = NULL;
    s->running--;
    if (!err)
        s->done = true;
    /* A table without peers says less than one that was asked. */
    else if (!s->err || s->err == WR_EUNREACH)
        s->err = err;
    if (err != WR_EUNREACH)
        drop_waiting_legs(s);
    if (!s->running || (s->done && s->first_wins))
        search_finish(s);
}

static void on_tick(struct wr_timer *timer)
{
    struct search *s = wr_list_entry(timer, struct search, tick);
    wr_time now = wr_env_now(s->m->env);
    char text[96];
    struct wr_pack *p = wr_call_progress(s->call);
    if (p) {
        (void)snprintf(text, sizeof(text),
                       "searching for %" PRId64 " s, %" PRIu64 " questions asked",
                       (now - s->started_at) / WR_SEC, asked(s->m) - s->asked_before);
        wr_pack_text(p, "text", text);
        wr_call_progress_send(s->call);
    }
    wr_timer_start(s->m->env, timer, now + WR_SEC, on_tick);
}

bool wr_methods_dht_off(const struct wr_methods *m, struct wr_call *call)
{
    if (m->o.dht[0])
        return false;
    wr_call_fail(call, WR_EUNSUPPORTED, "the DHT of this node is off; `--dht auto` turns it on");
    return true;
}

/* NULL with the call failed. */
static struct search *search_new(struct wr_methods *m, struct wr_call *call,
                                 void (*answer)(struct search *s))
{
    if (wr_methods_dht_off(m, call))
        return NULL;
    struct search *s = wr_alloc(sizeof(*s));
    if (!s) {
        wr_call_fail(call, WR_ELIMIT, NULL);
        return NULL;
    }
    s->m = m;
    s->call = call;
    s->answer = answer;
    s->nobody = "nobody who was asked has it";
    s->started_at = wr_env_now(m->env);
    s->asked_before = asked(m);
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        s->legs[i].search = s;
    wr_map_init(&s->seen, COUNT_MAX, wr_env_hash_seed(m->env));
    wr_buf_init(&s->value, WR_KV_VALUE_MAX);
    return s;
}

typedef struct wr_dht_request *(*ask_fn)(const struct search *s, struct wr_dht *dht, void *leg,
                                         int *err);

/* Asks every table; the call fails when none takes the question. */
static void search_start(struct search *s, ask_fn ask)
{
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
        int err = 0;
        if (!s->m->o.dht[i])
            continue;
        s->legs[i].request = ask(s, s->m->o.dht[i], &s->legs[i], &err);
        if (s->legs[i].request)
            s->running++;
        else
            s->err = err;
    }
    if (!s->running) {
        search_fail(s);
        search_free(s);
        return;
    }
    wr_timer_start(s->m->env, &s->tick, s->started_at + WR_SEC, on_tick);
    wr_call_defer(s->call, on_search_cancel, s);
}

/* ---- peers as they are found */

void wr_methods_pack_peer(struct wr_pack *p, const struct wr_dht_peer *peer)
{
    wr_methods_pack_id(p, "peer", &peer->id);
    wr_pack_array(p, "addrs");
    for (size_t i = 0; i < peer->count; i++)
        wr_methods_pack_maddr(p, NULL, peer->addrs[i]);
    wr_pack_end(p);
}

static void on_found(void *arg, const struct wr_dht_peer *peer)
{
    struct leg *leg = arg;
    struct search *s = leg->search;
    if (s->seen.count >= s->want || wr_map_get(&s->seen, wr_peerid_bytes(&peer->id)))
        return;
    struct seen *seen = wr_alloc(sizeof(*seen));
    if (!seen)
        return; /* it is not told, as if it had not been found */
    seen->id = peer->id;
    if (wr_map_put(&s->seen, wr_peerid_bytes(&seen->id), seen)) {
        wr_free(seen);
        return;
    }
    struct wr_pack *p = wr_call_progress(s->call);
    if (!p)
        return;
    wr_methods_pack_peer(p, peer);
    wr_call_progress_send(s->call);
}

static const struct wr_dht_ops many_ops = {.on_peer = on_found, .on_done = on_leg_done};

static void answer_count(struct search *s)
{
    wr_pack_u64(wr_call_result(s->call), "found", s->seen.count);
}

static struct wr_dht_request *ask_providers(const struct search *s, struct wr_dht *dht, void *leg,
                                            int *err)
{
    return wr_dht_find_providers(dht, WR_BYTES(s->key, s->key_len), (unsigned)s->want, &many_ops,
                                 leg, err);
}

static bool we_provide(const struct wr_methods *m, const struct wr_multihash *key)
{
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (m->o.dht[i] && wr_dht_provides(m->o.dht[i], WR_BYTES(key->bytes, key->len)))
            return true;
    return false;
}

static void find_providers(struct wr_methods *m, struct wr_call *call, struct wr_params *params,
                           const struct wr_multihash *key, bool name)
{
    uint64_t count = wr_params_u64(params, "count", COUNT_DEFAULT, COUNT_MAX);
    if (wr_call_refuse(call, params))
        return;
    struct search *s = search_new(m, call, answer_count);
    if (!s)
        return;
    s->want = count ? count : COUNT_MAX;
    memcpy(s->key, key->bytes, key->len);
    s->key_len = key->len;
    if (name)
        s->nobody = we_provide(m, key)
                        ? "nobody else is there yet; this node stays and keeps looking"
                        : "nobody is there; `warren join NAME` waits for others to come";
    else if (we_provide(m, key))
        s->nobody = "nobody but this node announces it";
    search_start(s, ask_providers);
}

/* False with the call failed. */
static bool cid_param(struct wr_call *call, struct wr_params *params, struct wr_multihash *key)
{
    char text[256];
    (void)wr_params_text(params, "cid", text, sizeof(text));
    if (wr_call_refuse(call, params))
        return false;
    if (wr_cid_parse(text, NULL, key) == 0)
        return true;
    wr_call_fail(call, WR_EINVAL, "\"%.128s\" is not a CID (bafk..., bafy..., Qm...)", text);
    return false;
}

bool wr_methods_name_param(struct wr_call *call, struct wr_params *params,
                           char out[static WR_NAMESPACE_MAX + 1])
{
    (void)wr_params_text(params, "name", out, WR_NAMESPACE_MAX + 1);
    if (wr_call_refuse(call, params))
        return false;
    if (*out)
        return true;
    wr_call_fail(call, WR_EINVAL, "a name is needed");
    return false;
}

static void on_providers(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_multihash key;
    if (cid_param(call, params, &key))
        find_providers(arg, call, params, &key, false);
}

static void on_find_in(void *arg, struct wr_call *call, struct wr_params *params)
{
    char name[WR_NAMESPACE_MAX + 1];
    struct wr_multihash key;
    if (!wr_methods_name_param(call, params, name))
        return;
    wr_namespace_key(wr_bytes_cstr(name), &key);
    find_providers(arg, call, params, &key, true);
}

/* ---- find: the addresses of one peer */

static bool answer_known(struct wr_methods *m, struct wr_call *call, const struct wr_peerid *peer)
{
    struct wr_maddr addrs[WR_PEER_ADDRS_MAX];
    size_t count =
        wr_peerstore_addrs(wr_swarm_peerstore(m->o.swarm), peer, addrs, WR_PEER_ADDRS_MAX);
    if (!count)
        return false;
    struct wr_pack *p = wr_call_result(call);
    wr_methods_pack_id(p, "peer", peer);
    wr_pack_bool(p, "connected", wr_swarm_conn(m->o.swarm, peer) != NULL);
    wr_methods_pack_maddrs(p, "addrs", addrs, count);
    return true;
}

/* What a table found lies in the peerstore now. */
static void answer_peer(struct search *s)
{
    if (answer_known(s->m, s->call, &s->peer))
        return;
    struct wr_pack *p = wr_call_result(s->call);
    wr_methods_pack_id(p, "peer", &s->peer);
    wr_methods_pack_maddrs(p, "addrs", NULL, 0);
}

static const struct wr_dht_ops done_ops = {.on_done = on_leg_done};

static struct wr_dht_request *ask_peer(const struct search *s, struct wr_dht *dht, void *leg,
                                       int *err)
{
    return wr_dht_find_peer(dht, &s->peer, &done_ops, leg, err);
}

static void on_find(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_target target;
    if (!wr_methods_target(call, params, &target))
        return;
    if (!target.peer.len) {
        wr_call_fail(call, WR_EINVAL, "a peer id is needed");
        return;
    }
    if (answer_known(m, call, &target.peer)) {
        wr_call_done(call);
        return;
    }
    struct search *s = search_new(m, call, answer_peer);
    if (!s)
        return;
    s->peer = target.peer;
    s->nobody = "nobody who was asked knows that peer; is it running, and in the same network?";
    s->first_wins = true;
    search_start(s, ask_peer);
}

/* ---- provide */

static void answer_cid(struct search *s)
{
    (void)wr_call_result(s->call);
}

static struct wr_dht_request *ask_provide(const struct search *s, struct wr_dht *dht, void *leg,
                                          int *err)
{
    return wr_dht_provide(dht, WR_BYTES(s->key, s->key_len), &done_ops, leg, err);
}

static void on_provide(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_multihash key;
    if (!cid_param(call, params, &key))
        return;
    struct search *s = search_new(m, call, answer_cid);
    if (!s)
        return;
    memcpy(s->key, key.bytes, key.len);
    s->key_len = key.len;
    search_start(s, ask_provide);
}

static void on_unprovide(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_multihash key;
    bool was = false;
    if (!cid_param(call, params, &key) || wr_methods_dht_off(m, call))
        return;
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (m->o.dht[i])
            was |= wr_dht_unprovide(m->o.dht[i], WR_BYTES(key.bytes, key.len));
    if (was)
        wr_call_done(call);
    else
        wr_call_fail(call, WR_ENOTFOUND, "this node does not provide that");
}

/* ---- put, get */

/* Keys of records are bytes: a kind in text, then a peer id in binary. People write the id as text.
 * False with the call failed. */
static bool key_param(struct search *s, struct wr_params *params)
{
    static const char *const kinds[] = {"/pk/", "/ipns/"};
    struct wr_bytes key = wr_params_bytes(params, "key");
    char id[128];
    if (params->wrong || key.len == 0 || key.len > KEY_MAX) {
        wr_call_fail(s->call, WR_EINVAL,
                     "key: /pk/PEER, /ipns/PEER or the bytes of a key are needed");
        return false;
    }
    memcpy(s->key, key.ptr, key.len);
    s->key_len = key.len;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct wr_bytes kind = wr_bytes_cstr(kinds[i]);
        struct wr_peerid peer;
        if (!wr_bytes_starts(key, kind) || key.len - kind.len >= sizeof(id))
            continue;
        memcpy(id, key.ptr + kind.len, key.len - kind.len);
        id[key.len - kind.len] = '\0';
        if (wr_peerid_parse(id, &peer))
            continue;
        memcpy(s->key + kind.len, peer.bytes, peer.len);
        s->key_len = kind.len + peer.len;
    }
    return true;
}

static struct wr_dht_request *ask_put(const struct search *s, struct wr_dht *dht, void *leg,
                                      int *err)
{
    return wr_dht_put_value(dht, WR_BYTES(s->key, s->key_len), s->input, &done_ops, leg, err);
}

static void on_put(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct search *s = search_new(arg, call, answer_cid);
    if (!s)
        return;
    s->input = wr_params_bytes(params, "value");
    if (!key_param(s, params)) {
        search_free(s);
        return;
    }
    search_start(s, ask_put);
}

static void on_value(void *arg, struct wr_bytes value)
{
    struct leg *leg = arg;
    wr_buf_reset(&leg->search->value);
    wr_buf_put_bytes(&leg->search->value, value);
}

static void answer_value(struct search *s)
{
    wr_pack_bin(wr_call_result(s->call), "value", wr_buf_bytes(&s->value));
}

static struct wr_dht_request *ask_get(const struct search *s, struct wr_dht *dht, void *leg,
                                      int *err)
{
    static const struct wr_dht_ops ops = {.on_value = on_value, .on_done = on_leg_done};
    return wr_dht_get_value(dht, WR_BYTES(s->key, s->key_len), 0, &ops, leg, err);
}

static void on_get(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct search *s = search_new(arg, call, answer_value);
    if (!s)
        return;
    s->first_wins = true;
    if (!key_param(s, params)) {
        search_free(s);
        return;
    }
    search_start(s, ask_get);
}

int wr_methods_dht(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {
        {"find", on_find},
        {"find.in", on_find_in},
        {"dht.provide", on_provide},
        {"dht.unprovide", on_unprovide},
        {"dht.providers", on_providers},
        {"dht.put", on_put},
        {"dht.get", on_get},
        {NULL, NULL},
    };
    return wr_methods_register(m, list);
}
