/* The ordered tree against a sorted array that does the same by brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/kvtree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 300    /* of the model */

struct model {
    int value[KEYS];         /* 0: none, -1: tombstone */
    unsigned written[KEYS];  /* when */
    unsigned clock;
};

static struct wr_bytes key_of(int i, char out[static 16])
{
    snprintf(out, 16, "k%03d", i);
    return WR_BYTES(out, 4);
}

static struct wr_bytes value_of(int v, char out[static 16])
{
    return WR_BYTES(out, (size_t)snprintf(out, 16, "%d", v));
}

static void compare(const struct wr_kvtree *t, const struct model *m)
{
    const struct wr_kvtree_entry *e = wr_kvtree_seek(t, WR_BYTES_NONE, false);
    size_t count = 0, bytes = 0;
    int oldest = -1;
    for (int i = 0; i < KEYS; i++) {
        char k[16], v[16];
        struct wr_bytes key = key_of(i, k);
        const struct wr_kvtree_entry *got = wr_kvtree_get(t, key);
        if (!m->value[i]) {
            assert_null(got);
            continue;
        }
        assert_ptr_equal(got, e);
        assert_true(wr_bytes_equal(e->key, key));
        assert_int_equal(e->tombstone, m->value[i] < 0);
        if (!e->tombstone)
            assert_true(wr_bytes_equal(e->value, value_of(m->value[i], v)));
        if (oldest < 0 || m->written[i] < m->written[oldest])
            oldest = i;
        count++;
        bytes += wr_kvtree_cost(e->key, e->value);
        e = wr_kvtree_next(e);
    }
    assert_null(e);
    assert_int_equal(t->count, count);
    assert_int_equal(t->bytes, bytes);
    const struct wr_kvtree_entry *first = wr_kvtree_oldest(t);
    assert_int_equal(first != NULL, oldest >= 0);
    char k[16];
    if (first)
        assert_true(wr_bytes_equal(first->key, key_of(oldest, k)));
}

static void change(struct wr_kvtree *t, struct model *m, int i)
{
    char k[16], v[16];
    struct wr_bytes key = key_of(i, k);
    switch (rand() % 4) {
    case 0:
        wr_kvtree_del(t, key);
        m->value[i] = 0;
        return;
    case 1:
        assert_int_equal(wr_kvtree_put(t, key, WR_BYTES_NONE, true), 0);
        m->value[i] = -1;
        break;
    default:
        m->value[i] = 1 + rand() % 1000000;
        assert_int_equal(wr_kvtree_put(t, key, value_of(m->value[i], v), false), 0);
        break;
    }
    m->written[i] = ++m->clock;
}

static void test_like_a_sorted_array(void **state)
{
    (void)state;
    struct wr_kvtree t;
    struct model m = {0};
    wr_kvtree_init(&t, 7);
    srand(1);
    for (int step = 0; step < 20000; step++) {
        change(&t, &m, rand() % KEYS);
        if (step % 100 == 0)
            compare(&t, &m);
    }
    compare(&t, &m);
    wr_kvtree_clear(&t);
    memset(&m, 0, sizeof(m));
    compare(&t, &m);
}

static void test_seek(void **state)
{
    (void)state;
    struct wr_kvtree t;
    wr_kvtree_init(&t, 1);
    for (int i = 0; i < KEYS; i += 2) {
        char k[16];
        assert_int_equal(wr_kvtree_put(&t, key_of(i, k), WR_BYTES_NONE, false), 0);
    }
    for (int i = 0; i < KEYS - 2; i++) {
        char k[16], want[16];
        struct wr_bytes key = key_of(i, k);
        const struct wr_kvtree_entry *at = wr_kvtree_seek(&t, key, false);
        assert_true(wr_bytes_equal(at->key, key_of(i + i % 2, want)));
        at = wr_kvtree_seek(&t, key, true);
        assert_true(wr_bytes_equal(at->key, key_of(i % 2 ? i + 1 : i + 2, want)));
    }
    assert_null(wr_kvtree_seek(&t, WR_BYTES_STR("k298"), true));
    assert_null(wr_kvtree_seek(&t, WR_BYTES_STR("l"), false));
    wr_kvtree_clear(&t);
}

static void test_shorter_keys_come_first(void **state)
{
    (void)state;
    struct wr_kvtree t;
    wr_kvtree_init(&t, 1);
    assert_int_equal(wr_kvtree_put(&t, WR_BYTES_STR("ab"), WR_BYTES_NONE, false), 0);
    assert_int_equal(wr_kvtree_put(&t, WR_BYTES_STR("a"), WR_BYTES_NONE, false), 0);
    assert_int_equal(wr_kvtree_put(&t, WR_BYTES_STR("a\0"), WR_BYTES_NONE, false), 0);
    const struct wr_kvtree_entry *e = wr_kvtree_seek(&t, WR_BYTES_NONE, false);
    assert_int_equal(e->key.len, 1);
    e = wr_kvtree_next(e);
    assert_memory_equal(e->key.ptr, "a\0", 2);
    e = wr_kvtree_next(e);
    assert_memory_equal(e->key.ptr, "ab", 2);
    wr_kvtree_clear(&t);
}

/* Two trees with keys in common, one written after the other. */
static void two_generations(struct wr_kvtree *older, struct model *mo, struct wr_kvtree *newer, struct model *mn,
                            unsigned seed)
{
    wr_kvtree_init(older, seed);
    wr_kvtree_init(newer, seed + 1);
    srand(seed);
    for (int i = 0; i < 400; i++)
        change(older, mo, rand() % KEYS);
    mn->clock = mo->clock;
    for (int i = 0; i < 300; i++)
        change(newer, mn, rand() % KEYS);
}

static void test_merge_keeps_the_newer_and_the_ages(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 50; seed++) {
        struct wr_kvtree older, newer;
        struct model mo = {0}, mn = {0};
        two_generations(&older, &mo, &newer, &mn, seed);
        for (int i = 0; i < KEYS; i++) {
            if (mn.value[i])
                continue;
            mn.value[i] = mo.value[i];
            mn.written[i] = mo.written[i];
        }
        wr_kvtree_merge_older(&newer, &older);
        compare(&newer, &mn);
        assert_int_equal(older.count, 0);
        assert_int_equal(older.bytes, 0);
        while (newer.count) {    /* by age */
            char k[16] = "";
            const struct wr_kvtree_entry *e = wr_kvtree_oldest(&newer);
            int i = atoi((const char *)memcpy(k, e->key.ptr + 1, 3));
            wr_kvtree_del(&newer, e->key);
            mn.value[i % KEYS] = 0;
            compare(&newer, &mn);
        }
        wr_kvtree_clear(&newer);
    }
}

static void test_merge_newer(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 50; seed++) {
        struct wr_kvtree older, newer;
        struct model mo = {0}, mn = {0};
        two_generations(&older, &mo, &newer, &mn, seed);
        for (int i = 0; i < KEYS; i++) {
            if (!mn.value[i])
                continue;
            mo.value[i] = mn.value[i];
            mo.written[i] = mn.written[i];
        }
        wr_kvtree_merge_newer(&older, &newer);
        compare(&older, &mo);
        assert_int_equal(newer.count, 0);
        wr_kvtree_clear(&older);
    }
}

static void test_move(void **state)
{
    (void)state;
    struct wr_kvtree a, b;
    struct model m = {0}, none = {0};
    wr_kvtree_init(&a, 1);
    wr_kvtree_init(&b, 2);
    wr_kvtree_move(&b, &a);
    compare(&b, &none);
    for (int i = 0; i < 500; i++)
        change(&a, &m, rand() % KEYS);
    wr_kvtree_move(&b, &a);
    compare(&a, &none);
    compare(&b, &m);
    for (int i = 0; i < 500; i++)
        change(&b, &m, rand() % KEYS);
    compare(&b, &m);
    wr_kvtree_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_a_sorted_array),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_shorter_keys_come_first),
        cmocka_unit_test(test_merge_keeps_the_newer_and_the_ages),
        cmocka_unit_test(test_merge_newer),
        cmocka_unit_test(test_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
