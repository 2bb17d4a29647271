/* The store: what kv.h promises on any medium. */
#include "tests/env/contract.h"

#include "transport/kv.h"

#include <stdio.h>
#include <stdlib.h>

struct waiting {
    bool done;
    int err;
    struct wr_kv *close;    /* by the answer */
};

static void on_done(void *arg, int err)
{
    struct waiting *w = arg;
    w->done = true;
    w->err = err;
    if (w->close)
        wr_kv_close(w->close);
}

static struct wr_kv *open_store(struct contract *c, size_t size_max)
{
    struct wr_kv *kv = NULL;
    struct wr_kv_options o = {contract_store(c), size_max, 4 << 20};
    assert_int_equal(wr_kv_open(c->a, &o, &kv), 0);
    return kv;
}

static int commit(struct contract *c, struct wr_kv *kv)
{
    struct waiting w = {0};
    assert_int_equal(wr_kv_commit(kv, on_done, &w), 0);
    assert_false(w.done);
    UNTIL(c, w.done);
    return w.err;
}

static void put(struct wr_kv *kv, const char *key, const char *value)
{
    assert_int_equal(wr_kv_put(kv, wr_bytes_cstr(key), wr_bytes_cstr(value)), 0);
}

static void expect(struct wr_kv *kv, const char *key, const char *value)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_KV_VALUE_MAX);
    assert_int_equal(wr_kv_get(kv, wr_bytes_cstr(key), &b), value ? 0 : WR_ENOTFOUND);
    if (value)
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), wr_bytes_cstr(value)));
    wr_buf_clear(&b);
}

static void stores_and_finds_again(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, 16 << 20);
    put(kv, "a", "1");
    put(kv, "b", "2");
    expect(kv, "a", "1");
    expect(kv, "c", NULL);
    assert_int_equal(commit(c, kv), 0);
    assert_int_equal(wr_kv_error(kv), 0);
    assert_int_equal(wr_kv_del(kv, WR_BYTES_STR("a")), 0);
    assert_int_equal(wr_kv_del(kv, WR_BYTES_STR("never there")), 0);
    put(kv, "b", "3");
    expect(kv, "a", NULL);
    expect(kv, "b", "3");
    wr_kv_close(kv);    /* commits what is left */
    kv = open_store(c, 16 << 20);
    expect(kv, "a", NULL);
    expect(kv, "b", "3");
    assert_int_equal(commit(c, kv), 0);    /* of nothing */
    wr_kv_close(kv);
    wr_kv_close(NULL);
}

static void one_owner_at_a_time(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, 16 << 20), *other = NULL;
    struct wr_kv_options o = {contract_store(c), 16 << 20, 4 << 20};
    assert_int_equal(wr_kv_open(c->a, &o, &other), WR_EINUSE);
    assert_null(other);
    assert_int_equal(wr_kv_destroy(c->a, o.path), WR_EINUSE);
    put(kv, "still", "works");
    assert_int_equal(commit(c, kv), 0);
    wr_kv_close(kv);
    kv = open_store(c, 16 << 20);
    expect(kv, "still", "works");
    wr_kv_close(kv);
    assert_int_equal(wr_kv_destroy(c->a, o.path), 0);
    assert_int_equal(wr_kv_destroy(c->a, o.path), 0);
    kv = open_store(c, 16 << 20);
    expect(kv, "still", NULL);
    wr_kv_close(kv);
}

static void close_inside_an_answer(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, 16 << 20);
    struct waiting w = {.close = kv}, never = {0};
    put(kv, "a", "1");
    assert_int_equal(wr_kv_commit(kv, on_done, &w), 0);
    assert_int_equal(wr_kv_commit(kv, on_done, &never), 0);
    put(kv, "b", "2");
    UNTIL(c, w.done);
    assert_false(never.done);
    kv = open_store(c, 16 << 20);
    expect(kv, "a", "1");
    expect(kv, "b", "2");
    wr_kv_close(kv);
    assert_false(never.done);
}

/* Closing while the worker has the batch, which may be before, in or after its work. */
static void close_during_a_commit(void **state)
{
    struct contract *c = *state;
    char value[16];
    for (int i = 0; i < 20; i++) {
        struct wr_kv *kv = open_store(c, 16 << 20);
        struct waiting never = {0};
        snprintf(value, sizeof(value), "%d", i);
        put(kv, "frozen", value);
        assert_int_equal(wr_kv_commit(kv, on_done, &never), 0);
        put(kv, "active", value);
        for (volatile int spin = 0; spin < i * 20000; spin++)
            ;
        wr_kv_close(kv);
        kv = open_store(c, 16 << 20);
        expect(kv, "frozen", value);
        expect(kv, "active", value);
        wr_kv_close(kv);
        assert_false(never.done);
    }
}

static void sizes(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, 16 << 20);
    static const size_t keys[] = {1, 2, 16, 255, 256, WR_KV_KEY_MAX};
    static const size_t values[] = {0,    1,    100,  2000,  2040,  2041,
                                    4000, 4072, 4073, 32768, 65535, WR_KV_VALUE_MAX};
    uint8_t *bytes = malloc(WR_KV_VALUE_MAX);
    memset(bytes, 0xa5, WR_KV_VALUE_MAX);
    for (int round = 0; round < 2; round++) {
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
            for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
                struct wr_buf b;
                bytes[0] = (uint8_t)v;
                wr_buf_init(&b, WR_KV_VALUE_MAX);
                if (!round)
                    assert_int_equal(wr_kv_put(kv, WR_BYTES(bytes, keys[k]), WR_BYTES(bytes, values[v])),
                                     0);
                if (!round && v % 4 == 3)
                    assert_int_equal(commit(c, kv), 0);
                assert_int_equal(wr_kv_get(kv, WR_BYTES(bytes, keys[k]), &b), 0);
                assert_true(wr_bytes_equal(wr_buf_bytes(&b), WR_BYTES(bytes, values[v])));
                wr_buf_clear(&b);
            }
        }
        wr_kv_close(kv);
        kv = open_store(c, 16 << 20);
    }
    wr_kv_close(kv);
    free(bytes);
}

/* ---- a random life next to a model ---------------------------------------------------------------- */

#define NAMES 400

struct model {
    int value[NAMES];    /* 0: none; else what the bytes are made of */
    int next;            /* name that the scan is to visit */
    struct wr_bytes prefix;
};

/* Names in byte order, of different lengths, with zero and high bytes in them. */
static struct wr_bytes name_of(int i, uint8_t out[static 8])
{
    out[0] = (uint8_t)(i / 80 * 50);
    out[1] = (uint8_t)(i / 20 % 4);
    memset(out + 2, 0xff, 6);
    out[2] = (uint8_t)(i / 2 % 10 * 25);
    return WR_BYTES(out, i % 2 ? 7 : 3);
}

static struct wr_bytes value_of(int v, uint8_t out[static 6000])
{
    size_t len = (size_t)(v % 10 == 0 ? v % 6000 : v % 60);
    memset(out, v, len);
    return WR_BYTES(out, len);
}

static void next_expected(struct model *m)
{
    uint8_t name[8];
    while (m->next < NAMES &&
           (!m->value[m->next] || !wr_bytes_starts(name_of(m->next, name), m->prefix)))
        m->next++;
}

static bool visit(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct model *m = arg;
    uint8_t name[8], bytes[6000];
    next_expected(m);
    assert_true(m->next < NAMES);
    assert_true(wr_bytes_equal(key, name_of(m->next, name)));
    assert_true(wr_bytes_equal(value, value_of(m->value[m->next], bytes)));
    m->next++;
    return true;
}

static void scan_from(struct wr_kv *kv, struct model *m, int after, size_t prefix_len)
{
    uint8_t name[8], p[8] = {0};
    struct wr_bytes key = name_of(after, name);
    memcpy(p, name, prefix_len);
    m->prefix = WR_BYTES(p, prefix_len);
    m->next = after + 1;
    assert_int_equal(wr_kv_scan(kv, m->prefix, key, visit, m), 0);
    next_expected(m);
    assert_int_equal(m->next, NAMES);
}

static void compare(struct wr_kv *kv, struct model *m)
{
    m->prefix = WR_BYTES_NONE;
    m->next = 0;
    assert_int_equal(wr_kv_scan(kv, WR_BYTES_NONE, WR_BYTES_NONE, visit, m), 0);
    next_expected(m);
    assert_int_equal(m->next, NAMES);
    for (size_t len = 0; len < 3; len++)
        scan_from(kv, m, rand() % NAMES, len);
    for (int i = 0; i < NAMES; i++) {
        uint8_t name[8], bytes[6000];
        struct wr_buf b;
        wr_buf_init(&b, sizeof(bytes));
        int err = wr_kv_get(kv, name_of(i, name), &b);
        assert_int_equal(err, m->value[i] ? 0 : WR_ENOTFOUND);
        if (m->value[i])
            assert_true(wr_bytes_equal(wr_buf_bytes(&b), value_of(m->value[i], bytes)));
        wr_buf_clear(&b);
    }
}

static void like_a_model(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, 32 << 20);
    struct model m = {{0}, 0, WR_BYTES_NONE};
    srand(3);
    for (int step = 0; step < 6000; step++) {
        uint8_t name[8], bytes[6000];
        int i = rand() % NAMES, what = rand() % 100;
        if (what < 60) {
            m.value[i] = 1 + rand() % 100000;
            assert_int_equal(wr_kv_put(kv, name_of(i, name), value_of(m.value[i], bytes)), 0);
        } else if (what < 95) {
            m.value[i] = 0;
            assert_int_equal(wr_kv_del(kv, name_of(i, name)), 0);
        } else if (what < 98) {
            assert_int_equal(wr_kv_commit(kv, NULL, NULL), 0);
        } else if (what < 99) {
            assert_int_equal(commit(c, kv), 0);
        } else {
            compare(kv, &m);
        }
        if (step % 1000 == 999) {
            wr_kv_close(kv);
            kv = open_store(c, 32 << 20);
            compare(kv, &m);
        }
    }
    wr_kv_close(kv);
}

static void full_and_freed(void **state)
{
    struct contract *c = *state;
    struct wr_kv *kv = open_store(c, WR_KV_SIZE_MIN);
    static char value[30000];
    char key[16];
    memset(value, 'v', sizeof(value) - 1);
    int count = 0, err = 0;
    while (!err && count < 60) {
        snprintf(key, sizeof(key), "%03d", count++);
        put(kv, key, value);
        err = commit(c, kv);
    }
    assert_int_equal(err, WR_EFULL);
    assert_int_equal(wr_kv_error(kv), WR_EFULL);
    assert_in_range(count, 15, 40);
    expect(kv, key, value);    /* from the overlay */
    expect(kv, "000", value);
    for (int i = 0; i < count / 2; i++) {
        snprintf(key, sizeof(key), "%03d", i);
        assert_int_equal(wr_kv_del(kv, wr_bytes_cstr(key)), 0);
    }
    for (int i = 0; i < 3 && (err = commit(c, kv)); i++)
        assert_int_equal(err, WR_EFULL);    /* freed pages count one commit later */
    assert_int_equal(err, 0);
    wr_kv_close(kv);
    kv = open_store(c, WR_KV_SIZE_MIN);
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "%03d", i);
        expect(kv, key, i < count / 2 ? NULL : value);
    }
    wr_kv_close(kv);
}

int contract_kv(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(stores_and_finds_again), CONTRACT_TEST(one_owner_at_a_time),
        CONTRACT_TEST(close_inside_an_answer), CONTRACT_TEST(close_during_a_commit),
        CONTRACT_TEST(sizes),                  CONTRACT_TEST(like_a_model),
        CONTRACT_TEST(full_and_freed),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
