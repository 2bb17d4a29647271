/* The record store under any sequence of its operations, some of them with writes that fail: what
 * it counts stays within the limits, and once all has expired nothing is left. The kv store is a
 * small array. */
/* The sources themselves, over an environment and a kv store of this file's: the real ones are
 * linked too. */
#define wr_env_now          story_now
#define wr_env_unix         story_unix
#define wr_env_random       story_random
#define wr_env_random_below story_random_below
#define wr_kv_get           story_get
#define wr_kv_put           story_put
#define wr_kv_del           story_del
#define wr_kv_scan          story_scan
#include "dht/store.c"
#include "dht/store_provider.c"
#define add_new add_new_value
#include "dht/store_value.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 512
#define ENTRY_MAX   600

/* ---- doubles -------------------------------------------------------------------------------- */

struct wr_env {
    wr_time now;
    uint64_t chance;
};

wr_time wr_env_now(const struct wr_env *e)
{
    return e->now;
}

int64_t wr_env_unix(const struct wr_env *e)
{
    return 1700000000 * WR_SEC + e->now;
}

void wr_env_random(struct wr_env *e, void *out, size_t len)
{
    memset(out, (int)++e->chance, len);
}

uint64_t wr_env_random_below(struct wr_env *e, uint64_t below)
{
    return below ? e->chance++ % below : 0;
}

struct entry {
    size_t key_len, value_len;
    uint8_t key[64], value[ENTRY_MAX];
};

struct wr_kv {
    struct entry entries[ENTRIES_MAX];
    uint16_t
        order[ENTRIES_MAX]; /* of entries: the first `count` by key, then those that are free */
    size_t count;
    unsigned fail; /* puts that fail from now on */
    bool failed;   /* one did: counts may be off by it, never beyond the limits */
};

static void kv_clear(struct wr_kv *k)
{
    for (uint16_t i = 0; i < ENTRIES_MAX; i++)
        k->order[i] = i;
    k->count = 0;
    k->fail = 0;
    k->failed = false;
}

static const struct entry *entry_at(const struct wr_kv *k, size_t i)
{
    return &k->entries[k->order[i]];
}

static struct wr_bytes key_at(const struct wr_kv *k, size_t i)
{
    return WR_BYTES(entry_at(k, i)->key, entry_at(k, i)->key_len);
}

static struct wr_bytes value_at(const struct wr_kv *k, size_t i)
{
    return WR_BYTES(entry_at(k, i)->value, entry_at(k, i)->value_len);
}

static size_t place(const struct wr_kv *k, struct wr_bytes key)
{
    size_t low = 0, high = k->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (wr_bytes_compare(key_at(k, middle), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool stands(const struct wr_kv *k, size_t i, struct wr_bytes key)
{
    return i < k->count && wr_bytes_equal(key_at(k, i), key);
}

int wr_kv_get(struct wr_kv *k, struct wr_bytes key, struct wr_buf *out)
{
    size_t i = place(k, key);
    if (!stands(k, i, key))
        return WR_ENOTFOUND;
    wr_buf_put_bytes(out, value_at(k, i));
    return out->full ? WR_ELIMIT : 0;
}

int wr_kv_put(struct wr_kv *k, struct wr_bytes key, struct wr_bytes value)
{
    size_t i = place(k, key);
    if (k->fail > 0) {
        k->fail--;
        k->failed = true;
        return WR_EFULL;
    }
    if (value.len > ENTRY_MAX || key.len > sizeof(k->entries[0].key))
        return WR_EINVAL;
    if (!stands(k, i, key)) {
        k->failed = k->failed || k->count == ENTRIES_MAX;
        if (k->count == ENTRIES_MAX)
            return WR_EFULL;
        uint16_t fresh = k->order[k->count];
        memmove(&k->order[i + 1], &k->order[i], (k->count++ - i) * sizeof(k->order[0]));
        k->order[i] = fresh;
        k->entries[fresh].key_len = key.len;
        memcpy(k->entries[fresh].key, key.ptr, key.len);
    }
    struct entry *entry = &k->entries[k->order[i]];
    entry->value_len = value.len;
    if (value.len)
        memcpy(entry->value, value.ptr, value.len);
    return 0;
}

int wr_kv_del(struct wr_kv *k, struct wr_bytes key)
{
    size_t i = place(k, key);
    if (stands(k, i, key)) {
        uint16_t gone = k->order[i];
        memmove(&k->order[i], &k->order[i + 1], (--k->count - i) * sizeof(k->order[0]));
        k->order[k->count] = gone;
    }
    return 0;
}

int wr_kv_scan(struct wr_kv *k, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg)
{
    size_t i = place(k, after.len ? after : prefix);
    i += after.len > 0 && stands(k, i, after);
    for (; i < k->count && wr_bytes_starts(key_at(k, i), prefix); i++) {
        if (!visit(arg, key_at(k, i), value_at(k, i)))
            break;
    }
    return 0;
}

/* ---- the story ------------------------------------------------------------------------------ */

static uint8_t take(struct wr_bytes *in)
{
    return in->len ? *wr_bytes_take(in, 1).ptr : 0;
}

struct world {
    struct wr_bytes in;
    struct wr_env env;
    struct wr_kv kv;
    struct wr_limits limits;
    struct wr_store store;
};

static void open_store(struct world *w)
{
    w->kv.fail = 0;
    assert(wr_store_open(&w->store, &w->env, &w->kv, &w->limits, WR_BYTES_STR("s")) == 0);
}

static void announce(struct world *w)
{
    uint8_t who = take(&w->in), key = take(&w->in), net = take(&w->in);
    uint8_t hash[34] = {0x12, 0x20, (uint8_t)(key % 8)};
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, who}};
    const uint8_t ma[] = {4, net, 8, 8, 8, 6, 0x0f, 0xa1};
    struct wr_bytes addr = WR_BYTES(ma, sizeof(ma));
    struct wr_store_source source = {.peer = &id, .ip = {.family = 4, .bytes = {net, 8, 8, 8}}};
    wr_store_add_provider(&w->store, WR_BYTES(hash, sizeof(hash)), &source, &addr, key & 1);
}

static void look(struct world *w)
{
    static struct wr_store_found found;
    uint8_t hash[34] = {0x12, 0x20, (uint8_t)(take(&w->in) % 8)};
    if (wr_store_providers(&w->store, WR_BYTES(hash, sizeof(hash)), &found) != 0)
        return;
    assert(found.count > 0 && found.count <= WR_STORE_PER_KEY);
    for (size_t i = 0; i < found.count; i++)
        assert(found.peers[i].id.len == 34 && found.peers[i].count <= 1);
    wr_store_found_clear(&found);
}

static void keep_value(struct world *w)
{
    uint8_t who = take(&w->in);
    char key[] = "/pk/a", text[] = "v";
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, who}};
    struct wr_store_source source = {.peer = &id, .ip = {.family = 4, .bytes = {8, 8, who, 8}}};
    struct wr_buf value, received;
    key[4] = (char)('a' + take(&w->in) % 20);
    int rc = wr_store_put_value(&w->store, WR_BYTES(key, 5), WR_BYTES(text, 1), &source);
    wr_buf_init(&value, 100);
    wr_buf_init(&received, 64);
    if (rc == 0)
        assert(wr_store_get_value(&w->store, WR_BYTES(key, 5), &value, &received) == 0 &&
               value.len == 1);
    wr_buf_clear(&value);
    wr_buf_clear(&received);
}

/* Every record has one entry in the time index. */
static bool index_fits(const struct world *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->kv.count; i++)
        count += key_at(&w->kv, i).ptr[1] == 't';
    return w->kv.failed || count == (size_t)w->store.providers + w->store.values;
}

static void act(struct world *w)
{
    switch (take(&w->in) % 8) {
    case 0:
        look(w);
        break;
    case 1:
        w->env.now += (wr_time)take(&w->in) * 10 * WR_MIN;
        break;
    case 2:
        wr_store_sweep(&w->store, take(&w->in) % 20);
        break;
    case 3:
        keep_value(w);
        break;
    case 4:
        wr_store_close(&w->store);
        open_store(w);
        break;
    case 5:
        w->kv.fail = take(&w->in) % 4;
        break;
    default:
        announce(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    w.in = WR_BYTES(data, size);
    w.env = (struct wr_env){.now = WR_HOUR};
    kv_clear(&w.kv);
    assert(wr_limits_init(&w.limits, "small") == 0);
    w.limits.of[WR_LIMIT_PROVIDERS].max = 64;
    w.limits.of[WR_LIMIT_VALUES].max = 16;
    open_store(&w);
    for (unsigned steps = 0; w.in.len > 0 && steps < 2000; steps++) {
        act(&w);
        assert(index_fits(&w));
        assert(w.store.providers <= 64 && w.store.values <= 16);
        assert(w.limits.of[WR_LIMIT_PROVIDERS].used == w.store.providers);
        assert(w.limits.of[WR_LIMIT_VALUES].used == w.store.values);
    }
    w.kv.fail = 0;
    w.env.now += 49 * WR_HOUR;
    while (wr_store_sweep(&w.store, 100) == 100)
        ;
    assert(w.kv.failed || (w.kv.count == 1 && w.store.providers == 0 && w.store.values == 0));
    wr_store_close(&w.store);
    assert(w.limits.of[WR_LIMIT_PROVIDERS].used == 0);
    return 0;
}
