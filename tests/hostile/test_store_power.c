/* The power fails at random moments of a store's life. Whatever of the unsynced writes reached the disk,
 * the store opens and holds exactly what some commit left, none older than the last acknowledged one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/hostile/bench.h"
#include "tests/hostile/history.h"
#include "tests/hostile/tape.h"
#include "tests/env/loop_step.h"

#include "transport/kvcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POINTS  400    /* power failures */
#define BATCHES 120
#define SIZE    (8 << 20)

static struct wr_kv *open_store(struct bench *b, const char *path)
{
    struct wr_kv *kv = NULL;
    struct wr_kv_options o = {path, SIZE, 2 << 20};
    int err = wr_kv_open(b->env, &o, &kv);
    if (err)
        print_error("open: %s\n", wr_err_name(err));
    return kv;
}

struct answer {
    bool done;
};

static void on_done(void *arg, int err)
{
    assert_int_equal(err, 0);
    ((struct answer *)arg)->done = true;
}

/* Batches, the next one written while one is being committed; the store is closed and opened on the
 * way. */
static void live(struct bench *b, const char *dir)
{
    struct history h = {0};
    struct wr_kv *kv = open_store(b, dir);
    assert_non_null(kv);
    history_go_on(&h, kv);
    while (h.batch < BATCHES) {
        struct answer answer = {false};
        uint32_t committing = h.batch;
        assert_int_equal(wr_kv_commit(kv, on_done, &answer), 0);
        history_go_on(&h, kv);
        while (!answer.done)
            loop_step(&b->loop);
        tape_mark(committing);
        if (h.batch % 40 == 0) {
            wr_kv_close(kv);
            tape_mark(h.batch);
            kv = open_store(b, dir);
            assert_non_null(kv);
            assert_null(history_compare(&h, kv));
        }
    }
    wr_kv_close(kv);
    tape_mark(h.batch);
}

/* After the failure the store goes on working. */
static void check(struct bench *b, const char *dir, uint32_t marked, uint32_t most)
{
    struct history h;
    struct wr_kv *kv = open_store(b, dir);
    assert_non_null(kv);
    uint32_t batch = history_batch_of(kv);
    assert_in_range(batch, marked, most);
    history_tell(&h, batch);
    const char *what = history_compare(&h, kv);
    if (what)
        fail_msg("batch %u: %s", batch, what);
    for (int i = 0; i < 3; i++) {
        history_go_on(&h, kv);
        assert_int_equal(bench_commit(b, kv), 0);
    }
    wr_kv_close(kv);
    kv = open_store(b, dir);
    assert_non_null(kv);
    assert_null(history_compare(&h, kv));
    wr_kv_close(kv);
}

static uint64_t pick_seed(void)
{
    const char *given = getenv("WARREN_SEED");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return given ? strtoull(given, NULL, 0) : (uint64_t)t.tv_nsec;
}

static void test_power_failures(void **state)
{
    (void)state;
    struct bench b;
    char dir[BENCH_PATH];
    uint64_t seed = pick_seed();
    print_message("WARREN_SEED=%llu\n", (unsigned long long)seed);
    srand((unsigned)seed);
    bench_start(&b, NULL);
    bench_make_dir(dir);
    tape_start(dir);
    live(&b, dir);
    tape_stop();
    bench_remove_dir(dir);
    struct tape_counts c = tape_count();
    print_message("recorded: %zu writes, %zu of meta pages, %zu syncs, %zu of the directory\n", c.writes,
                  c.dsync_writes, c.syncs, c.dir_syncs);
    for (unsigned i = 0; i < POINTS; i++) {
        uint32_t marked;
        /* Half of them in the first tenth, where the file comes into being. */
        size_t span = i % 2 ? tape_length() / 10 : tape_length() + 1;
        size_t at = (size_t)rand() % span;
        bench_make_dir(dir);
        tape_play(at, seed + i, dir, &marked);
        check(&b, dir, marked, BATCHES);
        bench_remove_dir(dir);
    }
    /* Otherwise nothing of the above was a test. */
    assert_true(c.writes > 4 * BATCHES && c.dsync_writes >= BATCHES && c.syncs >= BATCHES);
    assert_true(c.dir_syncs >= 1 && c.renames == 1);
    tape_free();
    bench_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_failures)};
    return cmocka_run_group_tests_name("store_power", tests, NULL, NULL);
}
