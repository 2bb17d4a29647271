/* The stream table: against a plain array, with ids that collide, and shrinking to nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/idmap.h"

#include <string.h>

#define IDS 512u

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Random puts and deletes over ids spread by `stride`; after each step every id is asked for. */
static void compare_with_array(uint32_t stride, uint32_t salt, unsigned steps)
{
    struct wr_idmap m;
    char things[IDS];
    bool present[IDS] = {0};
    uint32_t count = 0;
    uint64_t seed = stride + 7;
    wr_idmap_init(&m, salt);
    for (unsigned step = 0; step < steps; step++) {
        uint32_t i = (uint32_t)(next_random(&seed) % IDS);
        uint32_t id = 1 + i * stride;
        if (present[i]) {
            assert_ptr_equal(wr_idmap_del(&m, id), &things[i]);
            assert_null(wr_idmap_del(&m, id));
            count--;
        } else if (step / IDS % 2 == 0) {    /* fill for a while, then only empty */
            assert_int_equal(wr_idmap_put(&m, id, &things[i]), 0);
            count++;
        } else {
            continue;
        }
        present[i] = !present[i];
        assert_int_equal(m.count, count);
        for (uint32_t k = 0; k < IDS; k++)
            assert_ptr_equal(wr_idmap_get(&m, 1 + k * stride), present[k] ? &things[k] : NULL);
    }
    for (uint32_t k = 0; k < IDS; k++)
        wr_idmap_del(&m, 1 + k * stride);
    assert_int_equal(m.count, 0);
    assert_null(m.slots);
}

static void test_against_an_array(void **state)
{
    (void)state;
    compare_with_array(1, 0, 3000);
    compare_with_array(2, 12345, 3000);
    compare_with_array(1u << 20, 0, 3000);
    compare_with_array(1u << 22, 0xffffffff, 3000);
}

static void test_next_visits_each_once(void **state)
{
    (void)state;
    struct wr_idmap m;
    uint32_t ids[100], cursor = 0;
    bool seen[100] = {0};
    wr_idmap_init(&m, 3);
    assert_null(wr_idmap_get(&m, 1));
    assert_null(wr_idmap_del(&m, 1));
    assert_null(wr_idmap_next(&m, &cursor));
    for (uint32_t i = 0; i < 100; i++) {
        ids[i] = i + 1;
        assert_int_equal(wr_idmap_put(&m, ids[i], &ids[i]), 0);
    }
    for (const uint32_t *id; (id = wr_idmap_next(&m, &cursor)) != NULL;) {
        assert_false(seen[*id - 1]);
        seen[*id - 1] = true;
    }
    for (uint32_t i = 0; i < 100; i++)
        assert_true(seen[i]);
    wr_idmap_clear(&m);
    assert_int_equal(m.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_next_visits_each_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
