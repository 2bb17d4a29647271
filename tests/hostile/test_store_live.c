/* Damage under an open store: the file is cut off, deleted or written over while the process has
 * it. Nothing may end the process; what was damaged is reported, put aside and begun anew, and the
 * store works on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/hostile/bench.h"
#include "tests/hostile/history.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (8 << 20)
#define BATCHES        40
#define PAGE           4096

struct place {
    struct bench b;
    char dir[BENCH_PATH], data[BENCH_PATH + 32];
    struct wr_kv *kv;
    struct wr_kv_watch watch;
    unsigned lost; /* times we were told so */
    struct history h;
    off_t size; /* of the file as it was sound */
};

static void on_lost(struct wr_kv_watch *watch)
{
    wr_list_entry(watch, struct place, watch)->lost++;
}

static void open_store(struct place *p)
{
    struct wr_kv_options o = {p->dir, SIZE_MAX_BYTES, 2 << 20};
    assert_int_equal(wr_kv_open(p->b.env, &o, &p->kv), 0);
    p->watch.on_lost = on_lost;
    wr_kv_watch(p->kv, &p->watch);
    p->lost = 0;
}

/* An open store with something on every kind of page. */
static void fill(struct place *p)
{
    struct stat st;
    assert_int_equal(wr_kv_destroy(p->b.env, p->dir), 0);
    p->h = (struct history){0};
    open_store(p);
    for (int i = 0; i < BATCHES; i++) {
        history_go_on(&p->h, p->kv);
        assert_int_equal(bench_commit(&p->b, p->kv), 0);
    }
    assert_int_equal(stat(p->data, &st), 0);
    p->size = st.st_size;
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    bench_start(&p->b, NULL);
    bench_make_dir(p->dir);
    snprintf(p->data, sizeof(p->data), "%s/store.mdb", p->dir);
    fill(p);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    wr_kv_close(p->kv);
    bench_remove_dir(p->dir);
    bench_stop(&p->b);
    free(p);
    return 0;
}

static bool count_one(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    (void)key;
    (void)value;
    ++*(unsigned *)arg;
    return true;
}

/* Reads everything and changes everything; the first error met. */
static int exercise(struct place *p)
{
    unsigned records = 0;
    struct history more = p->h;
    int err = wr_kv_scan(p->kv, WR_BYTES_NONE, WR_BYTES_NONE, count_one, &records);
    for (int i = 0; i < 4; i++)
        history_go_on(&more, p->kv);
    int committed = bench_commit(&p->b, p->kv);
    return err ? err : committed;
}

/* The store has been begun anew, says so, and works. */
static void works_again(struct place *p)
{
    struct wr_buf out;
    char aside[BENCH_PATH + 64];
    struct stat st;
    assert_int_equal(bench_commit(&p->b, p->kv), 0);
    assert_int_equal(p->lost, 1);
    assert_int_equal(wr_kv_rebuilt(p->kv), 1);
    assert_int_equal(wr_kv_error(p->kv), 0);
    snprintf(aside, sizeof(aside), "%s.damaged", p->data);
    assert_int_equal(unlink(aside), 0);
    assert_int_equal(wr_kv_put(p->kv, WR_BYTES_STR("after"), WR_BYTES_STR("all")), 0);
    assert_int_equal(bench_commit(&p->b, p->kv), 0);
    wr_kv_close(p->kv);
    assert_int_equal(stat(p->data, &st), 0);
    open_store(p);
    wr_buf_init(&out, 100);
    assert_int_equal(wr_kv_get(p->kv, WR_BYTES_STR("after"), &out), 0);
    assert_true(wr_bytes_equal(wr_buf_bytes(&out), WR_BYTES_STR("all")));
    wr_buf_clear(&out);
    wr_kv_close(p->kv);
    fill(p);
}

/* Read before it is written, and the other way round: the commit runs on another thread. */
static void test_cut_off(void **state)
{
    struct place *p = *state;
    for (off_t len = 0; len < p->size; len += p->size / 16) {
        assert_int_equal(truncate(p->data, len), 0);
        if (exercise(p) == 0)
            continue; /* the pages at the end were free ones */
        works_again(p);
        assert_int_equal(truncate(p->data, len), 0);
        struct history more = p->h;
        for (int i = 0; i < 4; i++)
            history_go_on(&more, p->kv);
        /* A commit that goes another way leaves it to the next reading. */
        if (bench_commit(&p->b, p->kv) == 0)
            assert_int_equal(exercise(p), WR_ECORRUPT);
        works_again(p);
    }
}

static void test_cut_off_and_closed(void **state)
{
    struct place *p = *state;
    assert_int_equal(truncate(p->data, PAGE), 0);
    assert_int_equal(wr_kv_put(p->kv, WR_BYTES_STR("last"), WR_BYTES_STR("words")), 0);
    wr_kv_close(p->kv);
    struct wr_kv_options o = {p->dir, SIZE_MAX_BYTES, 2 << 20};
    assert_int_equal(wr_kv_open(p->b.env, &o, &p->kv), WR_ECORRUPT);
    fill(p);
}

static void test_deleted(void **state)
{
    struct place *p = *state;
    assert_int_equal(unlink(p->data), 0);
    assert_int_equal(exercise(p), WR_ECORRUPT);
    assert_int_equal(bench_commit(&p->b, p->kv), 0);
    assert_int_equal(p->lost, 1);
    assert_int_equal(wr_kv_put(p->kv, WR_BYTES_STR("after"), WR_BYTES_STR("all")), 0);
    assert_int_equal(bench_commit(&p->b, p->kv), 0);
    assert_int_equal(access(p->data, F_OK), 0);
}

static void write_over(struct place *p, off_t page, int how)
{
    uint8_t bytes[PAGE];
    int fd = open(p->data, O_RDWR);
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = how == 0 ? 0 : how == 1 ? 0xff : (uint8_t)rand();
    if (how == 3) /* another page's contents */
        assert_int_equal(pread(fd, bytes, PAGE, (page + 7) % (p->size / PAGE) * PAGE), PAGE);
    assert_int_equal(pwrite(fd, bytes, PAGE, page * PAGE), PAGE);
    close(fd);
}

/* Each page in turn, in four ways. Whatever LMDB would have made of it: either the damage was
 * nowhere that matters, or the store is begun anew; a value that is hit is lost alone. */
static void test_written_over(void **state)
{
    struct place *p = *state;
    unsigned anew = 0, tries = 0;
    srand(1);
    for (off_t page = 0; page < p->size / PAGE; page += 1 + (page > 8) * 4) {
        for (int how = 0; how < 4; how++, tries++) {
            write_over(p, page, how);
            for (int i = 0; i < 3; i++)
                (void)exercise(p);
            anew += wr_kv_rebuilt(p->kv) > 0;
            assert_int_equal(p->lost, wr_kv_rebuilt(p->kv));
            assert_int_equal(bench_commit(&p->b, p->kv), 0);
            wr_kv_close(p->kv);
            fill(p);
        }
    }
    print_message("%u of %u pages written over made the store begin anew\n", anew, tries);
    assert_true(anew > tries / 4);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_cut_off),
        TEST(test_cut_off_and_closed),
        TEST(test_deleted),
        TEST(test_written_over),
    };
    return cmocka_run_group_tests_name("store_live", tests, NULL, NULL);
}
