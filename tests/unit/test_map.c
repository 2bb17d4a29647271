/* Hash map: against a plain model under random puts and deletes, order, ceilings, lack of memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The source itself, with an allocator that can be told to fail. */
void *failing_alloc_array(size_t count, size_t size);
#include "transport/bytes.h"
#define wr_alloc_array failing_alloc_array
#include "transport/map.c"
#undef wr_alloc_array

static int allocs_left = -1; /* -1: as many as wanted */

void *failing_alloc_array(size_t count, size_t size)
{
    if (allocs_left == 0)
        return NULL;
    if (allocs_left > 0)
        allocs_left--;
    return wr_alloc_array(count, size);
}

#define ITEMS 600

static const uint8_t seed[WR_MAP_SEED] = "a seed of 16 byt";

struct item {
    char key[12];
    unsigned number;
    size_t put_at; /* 0: not in the map */
};

static struct item *make_items(void)
{
    struct item *items = calloc(ITEMS, sizeof(*items));
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i].number = i;
        snprintf(items[i].key, sizeof(items[i].key), "key %u", i);
    }
    return items;
}

static struct wr_bytes key_of(const struct item *item)
{
    return wr_bytes_cstr(item->key);
}

static uint32_t next_random(uint32_t *x)
{
    *x = *x * 1664525 + 1013904223;
    return *x >> 8;
}

/* Everything the map says agrees with the items' own marks. */
static void check_against_model(const struct wr_map *m, const struct item *items, size_t count)
{
    size_t cursor = 0, last = 0, seen = 0;
    assert_int_equal(m->count, count);
    for (unsigned i = 0; i < ITEMS; i++)
        assert_ptr_equal(wr_map_get(m, key_of(&items[i])), items[i].put_at ? &items[i] : NULL);
    for (const struct item *it; (it = wr_map_next(m, &cursor)); seen++) {
        assert_true(it->put_at > last);
        last = it->put_at;
    }
    assert_int_equal(seen, count);
}

static void test_random_against_model(void **state)
{
    (void)state;
    struct item *items = make_items();
    struct wr_map m;
    size_t count = 0, clock = 0;
    uint32_t random = 7;
    wr_map_init(&m, ITEMS, seed);
    for (int step = 0; step < 60000; step++) {
        /* The share of puts swings, so that the map fills and drains by turns. */
        bool put = next_random(&random) % 100 < (step / 4000 % 2 ? 30 : 70);
        struct item *it = &items[next_random(&random) % ITEMS];
        if (put) {
            assert_int_equal(wr_map_put(&m, key_of(it), it), it->put_at ? WR_EEXIST : 0);
            if (!it->put_at) {
                it->put_at = ++clock;
                count++;
            }
        } else {
            assert_ptr_equal(wr_map_del(&m, key_of(it)), it->put_at ? it : NULL);
            if (it->put_at)
                count--;
            it->put_at = 0;
        }
        if (step % 997 == 0)
            check_against_model(&m, items, count);
    }
    check_against_model(&m, items, count);
    wr_map_clear(&m);
    assert_null(wr_map_get(&m, key_of(&items[0])));
    free(items);
}

static void test_ceiling(void **state)
{
    (void)state;
    struct item *items = make_items();
    struct wr_map m;
    wr_map_init(&m, 10, seed);
    for (int i = 0; i < 10; i++)
        assert_int_equal(wr_map_put(&m, key_of(&items[i]), &items[i]), 0);
    assert_int_equal(wr_map_put(&m, key_of(&items[10]), &items[10]), WR_ELIMIT);
    assert_int_equal(wr_map_put(&m, key_of(&items[3]), &items[3]), WR_EEXIST);
    assert_ptr_equal(wr_map_del(&m, key_of(&items[4])), &items[4]);
    assert_int_equal(wr_map_put(&m, key_of(&items[10]), &items[10]), 0);
    assert_int_equal(wr_map_put(&m, key_of(&items[4]), &items[4]), WR_ELIMIT);
    assert_true(m.cap <= 32);
    wr_map_clear(&m);
    wr_map_init(&m, 0, seed);
    assert_int_equal(wr_map_put(&m, key_of(&items[0]), &items[0]), WR_ELIMIT);
    free(items);
}

static void test_churn_keeps_memory(void **state)
{
    (void)state;
    struct item *items = make_items();
    struct wr_map m;
    wr_map_init(&m, 100, seed);
    for (unsigned i = 0; i < 100000; i++) {
        if (i >= 100)
            assert_non_null(wr_map_del(&m, key_of(&items[(i - 100) % ITEMS])));
        assert_int_equal(wr_map_put(&m, key_of(&items[i % ITEMS]), &items[i % ITEMS]), 0);
    }
    assert_true(m.cap <= 256);
    for (unsigned i = 0; i < 100; i++)
        wr_map_del(&m, key_of(&items[(100000 - 100 + i) % ITEMS]));
    assert_int_equal(m.count, 0);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(wr_map_put(&m, key_of(&items[0]), &items[0]), 0);
        assert_ptr_equal(wr_map_del(&m, key_of(&items[0])), &items[0]);
    }
    assert_int_equal(m.cap, MAP_CAP_MIN);
    wr_map_clear(&m);
    free(items);
}

static void test_deleting_and_putting_while_iterating(void **state)
{
    (void)state;
    struct item *items = make_items();
    struct wr_map m;
    size_t cursor = 0, seen = 0;
    wr_map_init(&m, ITEMS, seed);
    for (int i = 0; i < 100; i++)
        wr_map_put(&m, key_of(&items[i]), &items[i]);
    /* Each visit deletes the current entry and puts one: slots are moved under the cursor. */
    for (struct item *it; (it = wr_map_next(&m, &cursor)); seen++) {
        assert_int_equal(it->number, seen);
        assert_ptr_equal(wr_map_del(&m, key_of(it)), it);
        if (seen < 400)
            assert_int_equal(wr_map_put(&m, key_of(&items[100 + seen]), &items[100 + seen]), 0);
    }
    assert_int_equal(seen, 500);
    assert_int_equal(m.count, 0);
    wr_map_clear(&m);
    free(items);
}

static void test_out_of_memory_leaves_the_map_intact(void **state)
{
    (void)state;
    struct item *items = make_items();
    struct wr_map m;
    unsigned refused = 0, count = 0;
    wr_map_init(&m, ITEMS, seed);
    for (unsigned i = 0; i < ITEMS; i++) {
        /* None, then one of the two allocations succeeds, then both. */
        for (int left = 0; left < 2; left++) {
            allocs_left = left;
            int err = wr_map_put(&m, key_of(&items[i]), &items[i]);
            if (err == 0)
                break;
            refused++;
            assert_int_equal(err, WR_ELIMIT);
            assert_int_equal(m.count, count);
            for (unsigned k = 0; k < count; k++)
                assert_ptr_equal(wr_map_get(&m, key_of(&items[k])), &items[k]);
        }
        allocs_left = -1;
        int err = wr_map_put(&m, key_of(&items[i]), &items[i]);
        assert_true(err == 0 || err == WR_EEXIST);
        count++;
    }
    assert_true(refused >= 8);
    wr_map_clear(&m);
    free(items);
}

static void test_keys_are_bytes(void **state)
{
    (void)state;
    struct wr_map m;
    int a, b, c;
    wr_map_init(&m, 8, seed);
    assert_int_equal(wr_map_put(&m, WR_BYTES("x\0y", 3), &a), 0);
    assert_int_equal(wr_map_put(&m, WR_BYTES("x\0z", 3), &b), 0);
    assert_int_equal(wr_map_put(&m, WR_BYTES_NONE, &c), 0);
    assert_ptr_equal(wr_map_get(&m, WR_BYTES("x\0y", 3)), &a);
    assert_ptr_equal(wr_map_get(&m, WR_BYTES("x\0z", 3)), &b);
    assert_ptr_equal(wr_map_get(&m, WR_BYTES("", 0)), &c);
    assert_null(wr_map_get(&m, WR_BYTES("x", 1)));
    wr_map_clear(&m);
}

static void test_the_seed_decides_the_hash(void **state)
{
    (void)state;
    static const uint8_t other[WR_MAP_SEED] = "another 16 bytes";
    struct wr_map a, b;
    wr_map_init(&a, 8, seed);
    wr_map_init(&b, 8, other);
    assert_int_not_equal(hash_of(&a, WR_BYTES_STR("key")), hash_of(&b, WR_BYTES_STR("key")));
    /* SipHash-2-4 of the empty message under 00..0f: reference vectors of the SipHash paper's
     * authors. */
    uint8_t counting[WR_MAP_SEED];
    for (uint8_t i = 0; i < sizeof(counting); i++)
        counting[i] = i;
    wr_map_init(&a, 8, counting);
    uint32_t hash = hash_of(&a, WR_BYTES_NONE);
    assert_memory_equal(&hash, "\x31\x0e\x0e\xdd", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_churn_keeps_memory),
        cmocka_unit_test(test_deleting_and_putting_while_iterating),
        cmocka_unit_test(test_out_of_memory_leaves_the_map_intact),
        cmocka_unit_test(test_keys_are_bytes),
        cmocka_unit_test(test_the_seed_decides_the_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
