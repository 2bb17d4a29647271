#include "node/state.h"

#include "transport/map.h"
#include "transport/wall.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_VERSION 1
#define RECORD_MAX     (16 + WR_STATE_ADDRS_MAX * (WR_MADDR_MAX + 2))    /* bytes */
#define KEY_MAX_       (WR_STATE_PREFIX + WR_PEERID_MAX)
#define SECURITY_SHIFT 6    /* in a byte whose lower bits are 0, and not read */
#define KEY_TIME       "ntime"    /* in the node's own area, which no network shares */
#define KEY_SEQ        "nseq"

/* What is in memory of a saved peer; its addresses stay in the store. */
struct known {
    struct wr_list node;    /* wr_state.order */
    struct wr_peerid id;
    uint8_t security;
    int64_t seen_at;        /* as written or newer */
    int64_t written_at;     /* the seen_at that is in the store */
};

struct wr_state {
    struct wr_env *env;
    struct wr_kv *kv;
    struct wr_kv_watch watch;
    size_t peers_max;
    uint8_t network[WR_STATE_PREFIX - 1];
    struct wr_wall wall;
    wr_time time_saved_at;
    uint64_t seq;                        /* the last one handed out, or as good as */
    struct wr_map peers;                 /* of struct known, owned */
    struct wr_list order;                /* of the same, longest unseen first */
};

/* ---- keys and small records --------------------------------------------------------------------------- */

void wr_state_prefix(const struct wr_state *s, enum wr_state_area area,
                     uint8_t out[static WR_STATE_PREFIX])
{
    out[0] = (uint8_t)area;
    memcpy(out + 1, s->network, sizeof(s->network));
}

static struct wr_bytes peer_key(const struct wr_state *s, const struct wr_peerid *id,
                                uint8_t out[static KEY_MAX_])
{
    wr_state_prefix(s, WR_STATE_AREA_PEERS, out);
    memcpy(out + WR_STATE_PREFIX, id->bytes, id->len);
    return WR_BYTES(out, WR_STATE_PREFIX + (size_t)id->len);
}

/* 0 when there is none or it is damaged: it starts anew then. */
static uint64_t get_number(struct wr_state *s, struct wr_bytes key)
{
    struct wr_buf b;
    struct wr_reader r;
    wr_buf_init(&b, sizeof(uint64_t));
    uint64_t v = 0;
    if (wr_kv_get(s->kv, key, &b) == 0) {
        wr_reader_init(&r, wr_buf_bytes(&b));
        v = wr_read_u64be(&r);
        if (!wr_reader_done(&r))
            v = 0;
    }
    wr_buf_clear(&b);
    return v;
}

static void put_number(struct wr_state *s, struct wr_bytes key, uint64_t v)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(v >> (56 - 8 * i));
    int err = wr_kv_put(s->kv, key, WR_BYTES(bytes, sizeof(bytes)));
    if (err)
        wr_log(wr_env_log(s->env), WR_LOG_WARN, "state", "not saved key=%s err=%s",
               (const char *)key.ptr, wr_err_name(err));
}

/* ---- time ------------------------------------------------------------------------------------------------ */

static void save_time(struct wr_state *s, int64_t unix_now)
{
    /* A time that nobody vouched for must not count as evidence in the next life. */
    if (!s->wall.believed)
        return;
    s->time_saved_at = wr_env_now(s->env);
    put_number(s, WR_BYTES_STR(KEY_TIME), (uint64_t)unix_now);
}

int64_t wr_state_unix(struct wr_state *s)
{
    bool suspect = s->wall.suspect;
    wr_time now = wr_env_now(s->env);
    int64_t unix_now = wr_wall_read(&s->wall, wr_env_unix(s->env), now);
    if (suspect != s->wall.suspect)
        wr_log(wr_env_log(s->env), WR_LOG_WARN, "state", "clock %s believed_s=%lld system_s=%lld",
               s->wall.suspect ? "suspect" : "plausible again", (long long)(unix_now / WR_SEC),
               (long long)(wr_env_unix(s->env) / WR_SEC));
    if (!s->time_saved_at || now - s->time_saved_at >= WR_STATE_SAVE_EVERY)
        save_time(s, unix_now);
    return unix_now;
}

bool wr_state_clock_suspect(struct wr_state *s)
{
    (void)wr_state_unix(s);
    return s->wall.suspect;
}

/* Committed at once, for it happens rarely. What a crash still makes us forget was handed out in the moment
 * before; the margin, added once at start, is above all of it. */
uint64_t wr_state_next_seq(struct wr_state *s)
{
    uint64_t now = (uint64_t)wr_state_unix(s);
    s->seq = now > s->seq ? now : s->seq + 1;
    put_number(s, WR_BYTES_STR(KEY_SEQ), s->seq);
    (void)wr_kv_commit(s->kv, NULL, NULL);    /* fails only for answers, and none is asked */
    return s->seq;
}

static void open_time(struct wr_state *s)
{
    uint64_t saved = get_number(s, WR_BYTES_STR(KEY_TIME));
    uint64_t seq = get_number(s, WR_BYTES_STR(KEY_SEQ));
    wr_wall_init(&s->wall, saved <= INT64_MAX ? (int64_t)saved : 0, wr_env_unix(s->env),
                 wr_env_now(s->env));
    /* Nobody could be told a greater one any more: damage that passed for a number. */
    if (seq > INT64_MAX)
        seq = 0;
    s->seq = seq ? seq + (uint64_t)WR_STATE_SEQ_MARGIN : 0;
    if (s->wall.suspect)
        wr_log(wr_env_log(s->env), WR_LOG_WARN, "state", "clock suspect believed_s=%lld system_s=%lld",
               (long long)(s->wall.unix_at / WR_SEC), (long long)(wr_env_unix(s->env) / WR_SEC));
    (void)wr_state_unix(s);
}

/* ---- a peer's record --------------------------------------------------------------------------------------- */

static void encode(const struct wr_state_peer *peer, struct wr_buf *out)
{
    wr_buf_put_u8(out, RECORD_VERSION);
    wr_buf_put_u8(out, (uint8_t)(peer->security << SECURITY_SHIFT));
    wr_buf_put_u64be(out, (uint64_t)(peer->seen_at / WR_SEC));
    for (size_t i = 0; i < peer->count; i++)
        wr_buf_put_prefixed(out, wr_maddr_bytes(&peer->addrs[i]));
}

static bool decode(struct wr_bytes in, struct wr_state_peer *peer)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    bool known = wr_read_u8(&r) == RECORD_VERSION;
    peer->security = wr_read_u8(&r) >> SECURITY_SHIFT;
    uint64_t seen = wr_read_u64be(&r);
    peer->seen_at = seen <= INT64_MAX / WR_SEC ? (int64_t)seen * WR_SEC : 0;
    peer->count = 0;
    while (!r.bad && r.rest.len && peer->count < WR_STATE_ADDRS_MAX) {
        struct wr_bytes addr = wr_read_prefixed(&r);
        if (r.bad || wr_maddr_decode(addr, &peer->addrs[peer->count]))
            return false;
        peer->count++;
    }
    return known && wr_reader_done(&r);
}

/* ---- the table of saved peers --------------------------------------------------------------------------- */

static struct known *known_of(struct wr_list *node)
{
    return wr_list_entry(node, struct known, node);
}

/* Keeps the list sorted; who was just seen has his place at the end. */
static void place(struct wr_state *s, struct known *k)
{
    struct wr_list *head = &s->order, *at = head;
    wr_list_remove(&k->node);
    while (at->prev != head && known_of(at->prev)->seen_at > k->seen_at)
        at = at->prev;
    wr_list_insert(at, &k->node);
}

static void drop(struct wr_state *s, struct known *k)
{
    wr_list_remove(&k->node);
    wr_map_del(&s->peers, wr_peerid_bytes(&k->id));
    wr_free(k);
}

static struct known *find(const struct wr_state *s, const struct wr_peerid *id)
{
    return wr_map_get(&s->peers, wr_peerid_bytes(id));
}

/* Takes the longest unseen one out, in the store, too; false when the store has no room for that. */
static bool push_out(struct wr_state *s)
{
    struct known *k = known_of(s->order.next);
    uint8_t key[KEY_MAX_];
    if (wr_list_empty(&s->order) || wr_kv_del(s->kv, peer_key(s, &k->id, key)))
        return false;
    drop(s, k);
    return true;
}

/* On no list yet. */
static struct known *add(struct wr_state *s, const struct wr_peerid *id)
{
    struct known *k = wr_alloc(sizeof(*k));
    if (!k)
        return NULL;
    k->id = *id;
    wr_list_init(&k->node);
    if (wr_map_put(&s->peers, wr_peerid_bytes(&k->id), k)) {
        wr_free(k);
        return NULL;
    }
    return k;
}

static int write_peer(struct wr_state *s, struct known *k, struct wr_state_peer *peer)
{
    uint8_t key[KEY_MAX_];
    struct wr_buf b;
    peer->id = k->id;
    peer->security = k->security;
    peer->seen_at = k->seen_at;
    wr_buf_init(&b, RECORD_MAX);
    encode(peer, &b);
    int err = b.full ? WR_ELIMIT : wr_kv_put(s->kv, peer_key(s, &k->id, key), wr_buf_bytes(&b));
    wr_buf_clear(&b);
    if (!err)
        k->written_at = k->seen_at;
    return err;
}

/* The addresses that are in the store. */
static void read_addrs(struct wr_state *s, const struct wr_peerid *id, struct wr_state_peer *out)
{
    uint8_t key[KEY_MAX_];
    struct wr_buf b;
    wr_buf_init(&b, RECORD_MAX);
    if (wr_kv_get(s->kv, peer_key(s, id, key), &b) || !decode(wr_buf_bytes(&b), out))
        out->count = 0;
    wr_buf_clear(&b);
}

static bool same_addrs(const struct wr_state_peer *a, const struct wr_state_peer *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!wr_bytes_equal(wr_maddr_bytes(&a->addrs[i]), wr_maddr_bytes(&b->addrs[i])))
            return false;
    return true;
}

/* ---- reading all of them at start ------------------------------------------------------------------------ */

struct loading {
    struct wr_state *s;
    struct wr_bytes last;    /* key of the last record; in key[] */
    uint8_t key[WR_KV_KEY_MAX];
    size_t damaged;
    bool out_of_memory;
    struct wr_bytes bad;     /* key of a record to drop; in last */
};

/* Stops at a record that is to be dropped, because the store must not be changed during a walk. */
static bool load_one(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct loading *l = arg;
    struct wr_state_peer peer;
    struct wr_bytes id = key;
    memcpy(l->key, key.ptr, key.len);
    l->last = WR_BYTES(l->key, key.len);
    (void)wr_bytes_take(&id, WR_STATE_PREFIX);
    bool fits = l->s->peers.count < WR_STATE_PEERS_MAX;
    if (!fits || wr_peerid_decode(id, &peer.id) || !decode(value, &peer)) {
        l->bad = l->last;
        l->damaged++;
        return false;
    }
    struct known *k = add(l->s, &peer.id);
    if (!k) {
        l->out_of_memory = true;
        return false;
    }
    k->security = peer.security;
    k->seen_at = k->written_at = peer.seen_at;
    return true;
}

static int by_seen_at(const void *a, const void *b)
{
    const struct known *const *x = a, *const *y = b;
    return ((*x)->seen_at > (*y)->seen_at) - ((*x)->seen_at < (*y)->seen_at);
}

/* Puts everything that was loaded on the list, longest unseen first. A sight that lies in the future comes
 * from a clock that was wrong: now, then. */
static int sort_loaded(struct wr_state *s)
{
    size_t count = 0, cursor = 0;
    int64_t now = wr_state_unix(s);
    struct known **all = wr_alloc_array(s->peers.count, sizeof(*all));
    if (!all)
        return WR_ELIMIT;
    for (struct known *k; (k = wr_map_next(&s->peers, &cursor));) {
        if (k->seen_at > now)
            k->seen_at = now;
        all[count++] = k;
    }
    qsort(all, count, sizeof(struct known *), by_seen_at);
    for (size_t i = 0; i < count; i++)
        wr_list_append(&s->order, &all[i]->node);
    wr_free(all);
    return 0;
}

static int load_peers(struct wr_state *s)
{
    struct loading l = {.s = s};
    uint8_t prefix[WR_STATE_PREFIX];
    wr_state_prefix(s, WR_STATE_AREA_PEERS, prefix);
    int err;
    do {
        l.bad = WR_BYTES_NONE;
        err = wr_kv_scan(s->kv, WR_BYTES(prefix, sizeof(prefix)), l.last, load_one, &l);
        if (l.bad.len && wr_kv_del(s->kv, l.bad))
            break;    /* no room for it in the overlay: next time */
    } while (l.bad.len);
    if (l.out_of_memory)
        return WR_ELIMIT;
    if (err == WR_EIO)
        return err;
    if (l.damaged || err)
        wr_log(wr_env_log(s->env), WR_LOG_WARN, "state", "saved peers damaged dropped=%zu", l.damaged);
    err = sort_loaded(s);
    while (!err && s->peers.count > s->peers_max && push_out(s))
        ;
    return err;
}

/* The store was damaged and is empty now. Numbers are written again, and peers as they are met: their
 * addresses were nowhere else. */
static void on_lost(struct wr_kv_watch *watch)
{
    struct wr_state *s = wr_list_entry(watch, struct wr_state, watch);
    struct known *k;
    save_time(s, wr_state_unix(s));
    if (s->seq)
        put_number(s, WR_BYTES_STR(KEY_SEQ), s->seq);
    for (size_t cursor = 0; (k = wr_map_next(&s->peers, &cursor));)
        k->written_at = 0;
}

/* ---- open and close -------------------------------------------------------------------------------------- */

int wr_state_open(const struct wr_state_options *options, struct wr_state **out)
{
    static const uint8_t no_key[crypto_shorthash_KEYBYTES];
    uint8_t digest[crypto_shorthash_BYTES];
    *out = NULL;
    if (options->peers_max > WR_STATE_PEERS_MAX)
        return WR_EINVAL;
    struct wr_state *s = wr_alloc(sizeof(*s));
    if (!s)
        return WR_ELIMIT;
    s->env = options->env;
    s->kv = options->kv;
    s->peers_max = options->peers_max;
    struct wr_bytes network = wr_bytes_cstr(options->network);
    (void)crypto_shorthash(digest, network.ptr, network.len, no_key);
    memcpy(s->network, digest, sizeof(s->network));
    wr_list_init(&s->order);
    wr_map_init(&s->peers, WR_STATE_PEERS_MAX, wr_env_hash_seed(s->env));
    s->watch.on_lost = on_lost;
    wr_kv_watch(s->kv, &s->watch);
    open_time(s);
    int err = load_peers(s);
    if (err) {
        wr_state_close(s);
        return err;
    }
    *out = s;
    return 0;
}

void wr_state_close(struct wr_state *s)
{
    if (!s)
        return;
    struct known *k;
    for (size_t cursor = 0; (k = wr_map_next(&s->peers, &cursor));) {
        struct wr_state_peer peer;
        if (k->seen_at != k->written_at) {
            read_addrs(s, &k->id, &peer);
            (void)write_peer(s, k, &peer);
        }
        drop(s, k);
    }
    save_time(s, wr_state_unix(s));
    wr_kv_unwatch(&s->watch);
    wr_map_clear(&s->peers);
    wr_free(s);
}

/* ---- peers -------------------------------------------------------------------------------------------------- */

int wr_state_peer_seen(struct wr_state *s, const struct wr_peerid *id, const struct wr_maddr *addrs,
                       size_t count)
{
    struct wr_state_peer peer = {.count = 0}, stored = {.count = 0};
    struct known *k = find(s, id);
    bool fresh = !k;
    if (fresh) {
        if (s->peers.count >= s->peers_max && !push_out(s))
            return WR_ELIMIT;
        k = add(s, id);
        if (!k)
            return WR_ELIMIT;
    } else {
        read_addrs(s, id, &stored);
    }
    for (size_t i = 0; i < count && i < WR_STATE_ADDRS_MAX; i++)
        peer.addrs[peer.count++] = addrs[i];
    k->seen_at = wr_state_unix(s) / WR_SEC * WR_SEC;
    place(s, k);
    if (!fresh && (peer.count == 0 || same_addrs(&peer, &stored)) &&
        k->seen_at - k->written_at < WR_STATE_SAVE_EVERY)
        return 0;
    int err = write_peer(s, k, peer.count ? &peer : &stored);
    if (err && fresh)
        drop(s, k);
    return err;
}

int wr_state_peer_set_security(struct wr_state *s, const struct wr_peerid *id, uint8_t security)
{
    struct wr_state_peer peer;
    struct known *k = find(s, id);
    assert(security <= WR_STATE_SECURITY_MAX);
    if (!k)
        return WR_ENOTFOUND;
    if (k->security == security)
        return 0;
    read_addrs(s, id, &peer);
    uint8_t old = k->security;
    k->security = security;
    int err = write_peer(s, k, &peer);
    if (err)
        k->security = old;
    return err;
}

uint8_t wr_state_peer_security(const struct wr_state *s, const struct wr_peerid *id)
{
    const struct known *k = find(s, id);
    return k ? k->security : 0;
}

void wr_state_peers(struct wr_state *s, bool (*visit)(void *arg, const struct wr_state_peer *peer), void *arg)
{
    for (struct wr_list *at = s->order.prev; at != &s->order; at = at->prev) {
        const struct known *k = known_of(at);
        struct wr_state_peer peer;
        read_addrs(s, &k->id, &peer);
        peer.id = k->id;
        peer.security = k->security;
        peer.seen_at = k->seen_at;
        if (!visit(arg, &peer))
            return;
    }
}
