/* Sparse blocks: they do not overlap, cost the pages that were touched, and go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/sparse.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCKS 300    /* several arenas */
#define FIRST  64     /* of the first of them */
#define PAGE   4096

#ifndef WR_SPARSE_PLAIN
static bool is_there(uintptr_t page)
{
    unsigned char there;
    /* ENOMEM: not mapped at all. */
    return mincore((void *)page, 1, &there) == 0 && (there & 1);
}

/* Pages of a block that take memory. */
static size_t pages_of(const void *block)
{
    uintptr_t begin = (uintptr_t)block / PAGE * PAGE;
    size_t count = 0;
    for (size_t i = 0; i < (WR_SPARSE_BLOCK + 16) / PAGE; i++)
        count += is_there(begin + i * PAGE);
    return count;
}

#endif

static void take_all(struct wr_sparse *s, uint8_t **blocks)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = wr_sparse_take(s);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    }
    assert_int_equal(s->used, BLOCKS);
}

static void give_all(struct wr_sparse *s, uint8_t **blocks)
{
    for (size_t i = 0; i < BLOCKS; i++)
        wr_sparse_give(s, blocks[i * 7 % BLOCKS]);
    assert_int_equal(s->used, 0);
}

static void test_blocks_are_apart(void **state)
{
    (void)state;
    struct wr_sparse s;
    uint8_t *blocks[BLOCKS];
    wr_sparse_init(&s);
    for (int round = 0; round < 2; round++) {
        take_all(&s, blocks);
        for (size_t i = 0; i < BLOCKS; i++)
            memset(blocks[i], (int)(i % 251), WR_SPARSE_BLOCK);
        for (size_t i = 0; i < BLOCKS; i++)
            for (size_t at = 0; at < WR_SPARSE_BLOCK; at += at < 64 ? 1 : 61)
                assert_int_equal(blocks[i][at], i % 251);
        give_all(&s, blocks);
    }
    wr_sparse_clear(&s);
}

#ifndef WR_SPARSE_PLAIN
static void test_untouched_pages_cost_nothing(void **state)
{
    (void)state;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        skip();
    struct wr_sparse s;
    uint8_t *blocks[BLOCKS];
    size_t before = 0, touched = 0, after = 0;
    wr_sparse_init(&s);
    take_all(&s, blocks);
    for (size_t i = 0; i < BLOCKS; i++)
        before += pages_of(blocks[i]);
    assert_in_range(before, 0, BLOCKS);
    for (size_t i = 0; i < BLOCKS; i++) {
        memset(blocks[i], 1, WR_SPARSE_BLOCK);
        touched += pages_of(blocks[i]);
    }
    assert_in_range(touched, before + BLOCKS, 3 * BLOCKS);
    /* All but one of the first arena's, so that it stays. */
    for (size_t i = 1; i < BLOCKS; i++)
        wr_sparse_give(&s, blocks[i]);
    for (size_t i = 1; i < FIRST; i++)
        after += pages_of(blocks[i]);
    assert_in_range(after, 0, FIRST - 1);
    assert_int_equal(blocks[0][WR_SPARSE_BLOCK - 1], 1);
    wr_sparse_give(&s, blocks[0]);
    wr_sparse_clear(&s);
}

/* Arenas that are empty go, but for one. */
static void test_arenas_go_back(void **state)
{
    (void)state;
    struct wr_sparse s;
    uint8_t *blocks[BLOCKS];
    wr_sparse_init(&s);
    take_all(&s, blocks);
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i][0] = 1;
    give_all(&s, blocks);
    assert_true(wr_list_empty(&s.full));
    assert_false(wr_list_empty(&s.roomy));
    assert_ptr_equal(s.roomy.next, s.roomy.prev);
    /* It is used again. */
    uint8_t *again = wr_sparse_take(&s);
    assert_non_null(again);
    wr_sparse_give(&s, again);
    wr_sparse_clear(&s);
    assert_true(wr_list_empty(&s.roomy));
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_apart),
#ifndef WR_SPARSE_PLAIN
        cmocka_unit_test(test_untouched_pages_cost_nothing),
        cmocka_unit_test(test_arenas_go_back),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
