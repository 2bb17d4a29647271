#include "tests/hostile/history.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX 20000    /* bytes */
#define BATCH_KEY "~batch" /* sorts behind all others */

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static struct wr_bytes key_of(unsigned i, char out[static 64])
{
    int len = snprintf(out, 64, "key %03u %.*s", i, (int)(mix(i) % 40),
                       "-----------------------------------------");
    return WR_BYTES(out, (size_t)len);
}

/* Mostly small, some over a page, some over several. */
static struct wr_bytes value_of(uint32_t version, uint8_t out[static VALUE_MAX])
{
    uint32_t kind = mix(version) % 100;
    size_t len = mix(version + 1) % (kind < 80 ? 200 : kind < 96 ? 3000 : VALUE_MAX);
    uint32_t x = version;
    for (size_t i = 0; i < len; i++) {
        if (i % 4 == 0)
            x = mix(x + 0x9e3779b9u);
        out[i] = (uint8_t)(x >> i % 4 * 8);
    }
    return WR_BYTES(out, len);
}

void history_go_on(struct history *h, struct wr_kv *kv)
{
    char name[64];
    uint8_t bytes[VALUE_MAX];
    uint32_t batch = ++h->batch, seed = mix(batch), count = 1 + seed % 30;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t r = mix(seed + i), key = r % HISTORY_KEYS;
        bool del = mix(r) % 3 == 0;
        h->version[key] = del ? 0 : batch * 32 + i + 1;
        if (!kv)
            continue;
        int err = del ? wr_kv_del(kv, key_of(key, name))
                      : wr_kv_put(kv, key_of(key, name), value_of(h->version[key], bytes));
        assert(!err);
        (void)err;
    }
    if (kv) {
        int err = wr_kv_put(kv, WR_BYTES_STR(BATCH_KEY), WR_BYTES(&batch, sizeof(batch)));
        assert(!err);
        (void)err;
    }
}

void history_tell(struct history *h, uint32_t batch)
{
    memset(h, 0, sizeof(*h));
    while (h->batch < batch)
        history_go_on(h, NULL);
}

uint32_t history_batch_of(struct wr_kv *kv)
{
    struct wr_buf b;
    uint32_t batch = 0;
    wr_buf_init(&b, sizeof(batch));
    if (wr_kv_get(kv, WR_BYTES_STR(BATCH_KEY), &b) == 0 && b.len == sizeof(batch))
        memcpy(&batch, b.data, sizeof(batch));
    wr_buf_clear(&b);
    return batch;
}

struct compare {
    const struct history *h;
    unsigned next;
    const char *what;
};

static bool visit(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct compare *c = arg;
    char name[64];
    uint8_t bytes[VALUE_MAX];
    if (wr_bytes_equal(key, WR_BYTES_STR(BATCH_KEY)))
        return true;
    while (c->next < HISTORY_KEYS && !c->h->version[c->next])
        c->next++;
    if (c->next == HISTORY_KEYS || !wr_bytes_equal(key, key_of(c->next, name)))
        c->what = "a record is missing or too many";
    else if (!wr_bytes_equal(value, value_of(c->h->version[c->next], bytes)))
        c->what = "a value is another";
    c->next++;
    return !c->what;
}

const char *history_compare(const struct history *h, struct wr_kv *kv)
{
    struct compare c = {h, 0, NULL};
    if (history_batch_of(kv) != h->batch)
        return "another batch";
    int err = wr_kv_scan(kv, WR_BYTES_NONE, WR_BYTES_NONE, visit, &c);
    if (err)
        return wr_err_name(err);
    while (c.next < HISTORY_KEYS && !c.h->version[c.next])
        c.next++;
    if (!c.what && c.next != HISTORY_KEYS)
        c.what = "records are missing at the end";
    return c.what;
}
