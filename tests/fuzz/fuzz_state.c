/* What a node remembered, read back from a store that says anything: it opens, drops what is
 * damaged, holds no more than it may, and what it writes it reads again. */
/* The source itself, over an environment and a store of this file's: the real ones are linked too.
 */
#define wr_env_now       story_now
#define wr_env_unix      story_unix
#define wr_env_hash_seed story_hash_seed
#define wr_env_log       story_log
#define wr_kv_get        story_get
#define wr_kv_put        story_put
#define wr_kv_del        story_del
#define wr_kv_scan       story_scan
#define wr_kv_commit     story_commit
#define wr_kv_watch      story_watch
#define wr_kv_unwatch    story_unwatch
#include "node/state.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 48
#define PEERS_MAX   8

/* ---- doubles */

struct wr_env {
    wr_time now;
    int64_t unix_now;
};

struct entry {
    struct wr_bytes key, value; /* owned */
};

struct wr_kv {
    struct entry of[ENTRIES_MAX]; /* sorted */
    size_t count;
};

wr_time wr_env_now(const struct wr_env *e)
{
    return e->now;
}

int64_t wr_env_unix(const struct wr_env *e)
{
    return e->unix_now;
}

const uint8_t *wr_env_hash_seed(const struct wr_env *e)
{
    static const uint8_t seed[WR_MAP_SEED] = {7};
    (void)e;
    return seed;
}

const struct wr_log *wr_env_log(const struct wr_env *e)
{
    (void)e;
    return NULL;
}

static struct wr_bytes copy_of(struct wr_bytes b)
{
    return WR_BYTES(b.len ? wr_memdup(b.ptr, b.len) : NULL, b.len);
}

static void drop_bytes(struct wr_bytes b)
{
    union {
        const uint8_t *in;
        void *out;
    } ptr = {.in = b.ptr};
    wr_free(ptr.out);
}

static size_t place_in(const struct wr_kv *kv, struct wr_bytes key)
{
    size_t i = 0;
    while (i < kv->count && wr_bytes_compare(kv->of[i].key, key) < 0)
        i++;
    return i;
}

static bool there(const struct wr_kv *kv, size_t i, struct wr_bytes key)
{
    return i < kv->count && wr_bytes_equal(kv->of[i].key, key);
}

int wr_kv_del(struct wr_kv *kv, struct wr_bytes key)
{
    size_t i = place_in(kv, key);
    if (!there(kv, i, key))
        return 0;
    drop_bytes(kv->of[i].key);
    drop_bytes(kv->of[i].value);
    kv->count--;
    memmove(&kv->of[i], &kv->of[i + 1], (kv->count - i) * sizeof(kv->of[0]));
    return 0;
}

int wr_kv_put(struct wr_kv *kv, struct wr_bytes key, struct wr_bytes value)
{
    struct entry e = {copy_of(key), copy_of(value)};
    (void)wr_kv_del(kv, e.key);
    size_t i = place_in(kv, e.key);
    if (kv->count == ENTRIES_MAX) {
        drop_bytes(e.key);
        drop_bytes(e.value);
        return WR_ELIMIT;
    }
    memmove(&kv->of[i + 1], &kv->of[i], (kv->count - i) * sizeof(kv->of[0]));
    kv->of[i] = e;
    kv->count++;
    return 0;
}

int wr_kv_get(struct wr_kv *kv, struct wr_bytes key, struct wr_buf *out)
{
    size_t i = place_in(kv, key);
    if (!there(kv, i, key))
        return WR_ENOTFOUND;
    wr_buf_put_bytes(out, kv->of[i].value);
    return out->full ? WR_ELIMIT : 0;
}

int wr_kv_scan(struct wr_kv *kv, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg)
{
    for (size_t i = 0; i < kv->count; i++) {
        struct wr_bytes key = kv->of[i].key;
        if (!wr_bytes_starts(key, prefix) || (after.len && wr_bytes_compare(key, after) <= 0))
            continue;
        if (!visit(arg, key, kv->of[i].value))
            break;
    }
    return 0;
}

int wr_kv_commit(struct wr_kv *kv, void (*on_done)(void *arg, int err), void *arg)
{
    (void)kv;
    (void)on_done;
    (void)arg;
    return 0;
}

void wr_kv_watch(struct wr_kv *kv, struct wr_kv_watch *watch)
{
    (void)kv;
    wr_list_init(&watch->node);
}

void wr_kv_unwatch(struct wr_kv_watch *watch)
{
    (void)watch;
}

/* ---- the story */

static bool count_peer(void *arg, const struct wr_state_peer *peer)
{
    assert(peer->id.len > 0 && peer->count <= WR_STATE_ADDRS_MAX);
    ++*(size_t *)arg;
    return true;
}

static struct wr_state *open_state(struct wr_env *env, struct wr_kv *kv)
{
    struct wr_state *s = NULL;
    struct wr_state_options o = {.env = env, .kv = kv, .network = "lab", .peers_max = PEERS_MAX};
    int err = wr_state_open(&o, &s);
    assert(err == 0 && s && s->peers.count <= PEERS_MAX);
    return s;
}

/* Entries as the input has them: time, sequence number, or a peer of this network or of another
 * one. */
static void fill_store(struct wr_kv *kv, struct wr_bytes in,
                       const uint8_t prefix[static WR_STATE_PREFIX])
{
    while (in.len >= 3) {
        const uint8_t *head = wr_bytes_take(&in, 3).ptr;
        size_t key_len = head[1] < in.len ? head[1] : in.len;
        struct wr_bytes tail = wr_bytes_take(&in, key_len);
        struct wr_bytes value = wr_bytes_take(&in, head[2] < in.len ? head[2] : in.len);
        uint8_t key[WR_STATE_PREFIX + 256];
        memcpy(key, prefix, WR_STATE_PREFIX);
        key[1] ^= (uint8_t)(head[0] >= 250);
        if (tail.len)
            memcpy(key + WR_STATE_PREFIX, tail.ptr, tail.len);
        if (head[0] < 16)
            (void)wr_kv_put(kv, WR_BYTES_STR(KEY_TIME), value);
        else if (head[0] < 32)
            (void)wr_kv_put(kv, WR_BYTES_STR(KEY_SEQ), value);
        else
            (void)wr_kv_put(kv, WR_BYTES(key, WR_STATE_PREFIX + tail.len), value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_env env = {.now = WR_HOUR, .unix_now = WR_WALL_FLOOR + WR_HOUR};
    struct wr_kv kv = {.count = 0};
    uint8_t prefix[WR_STATE_PREFIX];
    struct wr_peerid met = {.len = 34, .bytes = {0x12, 0x20, 1}};
    size_t visited = 0;
    struct wr_state *s = open_state(&env, &kv);
    wr_state_prefix(s, WR_STATE_AREA_PEERS, prefix);
    wr_state_close(s);
    fill_store(&kv, WR_BYTES(data, size), prefix);
    s = open_state(&env, &kv);
    wr_state_peers(s, count_peer, &visited);
    assert(visited == s->peers.count);
    uint64_t seq = wr_state_next_seq(s);
    bool kept = wr_state_peer_seen(s, &met, NULL, 0) == 0;
    size_t count = s->peers.count;
    wr_state_close(s);
    env.now += WR_SEC;
    env.unix_now += WR_SEC;
    /* All that was read is written well by now: nothing is dropped a second time. */
    s = open_state(&env, &kv);
    assert(s->peers.count == count && wr_state_next_seq(s) > seq);
    assert(!kept || find(s, &met));
    wr_state_close(s);
    while (kv.count > 0)
        (void)wr_kv_del(&kv, kv.of[0].key);
    return 0;
}
