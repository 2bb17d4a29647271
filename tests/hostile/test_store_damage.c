/* Damaged store files: opening either refuses them or leaves a store that works, whose every value is
 * whole or reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/hostile/bench.h"
#include "tests/hostile/history.h"

#include "transport/kvcheck.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (8 << 20)
#define BATCHES        40    /* of the specimen */

struct place {
    struct bench b;
    char dir[BENCH_PATH], data[BENCH_PATH + 32];
    struct wr_buf specimen;    /* a sound file */
    struct history h;          /* what it holds */
};

static int try_open(struct place *p, struct wr_kv **kv)
{
    struct wr_kv_options o = {p->dir, SIZE_MAX_BYTES, 2 << 20};
    return wr_kv_open(p->b.env, &o, kv);
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    struct wr_kv *kv;
    bench_start(&p->b, NULL);
    bench_make_dir(p->dir);
    snprintf(p->data, sizeof(p->data), "%s/store.mdb", p->dir);
    assert_int_equal(try_open(p, &kv), 0);
    for (int i = 0; i < BATCHES; i++) {
        history_go_on(&p->h, kv);
        assert_int_equal(bench_commit(&p->b, kv), 0);
    }
    wr_kv_close(kv);
    wr_buf_init(&p->specimen, SIZE_MAX_BYTES);
    bench_read_file(p->data, &p->specimen);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    wr_buf_clear(&p->specimen);
    bench_remove_dir(p->dir);
    bench_stop(&p->b);
    free(p);
    return 0;
}

static int read_memory(void *arg, uint64_t offset, uint8_t *out, size_t len)
{
    const struct wr_bytes *file = arg;
    assert_true(offset <= file->len && len <= file->len - offset);
    memcpy(out, file->ptr + offset, len);
    return 0;
}

static int check_bytes(struct wr_bytes bytes, struct wr_kvcheck_result *result)
{
    struct wr_kvpage_file file = {read_memory, &bytes, bytes.len};
    return wr_kvcheck_all(&file, SIZE_MAX_BYTES / WR_KVPAGE_MIN, result);
}

struct walk {
    unsigned records;
    char keys[HISTORY_KEYS + 1][WR_KV_KEY_MAX + 1];
    size_t lens[HISTORY_KEYS + 1];
};

static bool note(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct walk *w = arg;
    (void)value;
    assert_true(w->records <= HISTORY_KEYS);
    memcpy(w->keys[w->records], key.ptr, key.len);
    w->lens[w->records++] = key.len;
    return true;
}

/* Reads everything, changes everything, deletes everything: LMDB visits every page on the way. Errors may
 * come; a crash, a hang or an assertion may not. */
static void exercise(struct place *p, struct wr_kv *kv)
{
    static struct walk w;
    w.records = 0;
    wr_kv_scan(kv, WR_BYTES_NONE, WR_BYTES_NONE, note, &w);
    struct history h = {0};
    for (int i = 0; i < 4; i++)
        history_go_on(&h, kv);
    bench_commit(&p->b, kv);
    for (unsigned i = 0; i < w.records; i++)
        wr_kv_del(kv, WR_BYTES(w.keys[i], w.lens[i]));
    bench_commit(&p->b, kv);
    for (int i = 0; i < 4; i++)
        history_go_on(&h, kv);
    wr_kv_close(kv);
}

static void rebuild(struct place *p)
{
    struct wr_kv *kv;
    char aside[BENCH_PATH + 64];
    struct stat st;
    assert_int_equal(wr_kv_destroy(p->b.env, p->dir), 0);
    snprintf(aside, sizeof(aside), "%s.damaged", p->data);
    assert_int_equal(stat(aside, &st), 0);
    assert_int_equal(try_open(p, &kv), 0);
    struct history none = {0};
    assert_null(history_compare(&none, kv));
    history_go_on(&none, kv);
    assert_int_equal(bench_commit(&p->b, kv), 0);
    assert_null(history_compare(&none, kv));
    wr_kv_close(kv);
}

static void test_specimen_is_sound(void **state)
{
    struct place *p = *state;
    struct wr_kvcheck_result r;
    struct wr_kv *kv;
    int err = check_bytes(wr_buf_bytes(&p->specimen), &r);
    if (err)
        fail_msg("page %llu: %s", (unsigned long long)r.where, r.what);
    print_message("%zu bytes, %llu pages, commit %llu\n", p->specimen.len, (unsigned long long)r.pages,
                  (unsigned long long)r.txnid);
    assert_true(r.txnid == BATCHES);
    assert_int_equal(try_open(p, &kv), 0);
    assert_null(history_compare(&p->h, kv));
    exercise(p, kv);
}

static void refused(struct place *p, struct wr_bytes bytes, const char *what)
{
    struct wr_kv *kv = NULL;
    bench_write_file(p->data, bytes);
    int err = try_open(p, &kv);
    if (err != WR_ECORRUPT)
        fail_msg("%s: %s", what, wr_err_name(err));
    rebuild(p);
}

static void test_not_a_store(void **state)
{
    struct place *p = *state;
    uint8_t noise[20000];
    srand(1);
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)rand();
    refused(p, WR_BYTES_NONE, "empty");
    refused(p, WR_BYTES(noise, 1), "one byte");
    refused(p, WR_BYTES(noise, 4096), "a page of noise");
    refused(p, WR_BYTES(noise, sizeof(noise)), "noise");
    memset(noise, 0, sizeof(noise));
    refused(p, WR_BYTES(noise, sizeof(noise)), "zeros");
    refused(p, WR_BYTES_STR("[node]\nlisten = /ip4/0.0.0.0/tcp/4001\n"), "text");
    unlink(p->data);
    assert_int_equal(symlink("/etc/hostname", p->data), 0);
    struct wr_kv *kv = NULL;
    assert_int_not_equal(try_open(p, &kv), 0);
    unlink(p->data);
    assert_int_equal(mkdir(p->data, 0700), 0);
    assert_int_equal(try_open(p, &kv), WR_ECORRUPT);
    rmdir(p->data);
}

/* Every length that ends inside the file; those that LMDB might do without stay usable. */
static void test_truncated(void **state)
{
    struct place *p = *state;
    struct wr_kvcheck_result r;
    unsigned usable = 0;
    for (size_t len = 0; len < p->specimen.len; len += 512) {
        struct wr_bytes cut = WR_BYTES(p->specimen.data, len);
        struct wr_kv *kv;
        int err = check_bytes(cut, &r);
        assert_true(err == 0 || err == WR_ECORRUPT);
        if (err && len % (16 * 4096) != 512)
            continue;
        bench_write_file(p->data, cut);
        assert_int_equal(try_open(p, &kv), err);
        if (err)
            continue;
        usable++;
        assert_null(history_compare(&p->h, kv));
        exercise(p, kv);
    }
    print_message("%u of %zu lengths usable\n", usable, p->specimen.len / 512);
}

/* Damages the specimen, asks the checker, and when it has no objection lets LMDB loose on the file.
 * Returns whether it passed. */
static bool try_damaged(struct place *p, uint8_t *copy, bool run)
{
    struct wr_kvcheck_result r;
    struct wr_kv *kv;
    int err = check_bytes(WR_BYTES(copy, p->specimen.len), &r);
    assert_true(err == 0 || err == WR_ECORRUPT);
    if (err || !run)
        return !err;
    bench_write_file(p->data, WR_BYTES(copy, p->specimen.len));
    assert_int_equal(try_open(p, &kv), 0);
    exercise(p, kv);
    return true;
}

static void test_one_bit(void **state)
{
    struct place *p = *state;
    uint8_t *copy = wr_memdup(p->specimen.data, p->specimen.len);
    unsigned passed = 0;
    srand(2);
    for (size_t i = 0; i < p->specimen.len; i++) {
        /* All bits where the structure stands, one a byte elsewhere. */
        bool dense = i % 4096 < 64;
        for (unsigned bit = dense ? 0 : (unsigned)rand() % 8; bit < 8; bit += dense ? 1 : 8) {
            if (!dense && i % 7)
                break;
            copy[i] ^= (uint8_t)(1u << bit);
            passed += try_damaged(p, copy, rand() % 500 == 0);
            copy[i] ^= (uint8_t)(1u << bit);
        }
    }
    print_message("%u one-bit damages do no harm to the structure\n", passed);
    wr_free(copy);
}

/* Whole sectors: zeroed, filled with ones, with noise, or with another sector of the file. */
static void test_sectors(void **state)
{
    struct place *p = *state;
    uint8_t *copy = wr_memdup(p->specimen.data, p->specimen.len);
    unsigned passed = 0, sectors = (unsigned)(p->specimen.len / 512), tries = 0;
    srand(3);
    for (unsigned s = 0; s < sectors; s++) {
        for (int how = 0; how < 4; how++, tries++) {
            uint8_t *at = copy + (size_t)s * 512;
            memset(at, how == 1 ? 0xff : 0, 512);
            for (int i = 0; i < 512 && how == 2; i++)
                at[i] = (uint8_t)rand();
            if (how == 3)
                memcpy(at, p->specimen.data + (size_t)(rand() % (int)sectors) * 512, 512);
            passed += try_damaged(p, copy, rand() % 50 == 0);
            memcpy(at, p->specimen.data + (size_t)s * 512, 512);
        }
    }
    print_message("%u of %u damaged sectors do no harm to the structure\n", passed, tries);
    wr_free(copy);
}

/* Pages in another's place, as a confused disk leaves them; an older state of a page, as a disk does that
 * loses a write. */
static void test_pages(void **state)
{
    struct place *p = *state;
    uint8_t *copy = wr_memdup(p->specimen.data, p->specimen.len);
    struct wr_buf later;
    struct wr_kv *kv;
    wr_buf_init(&later, SIZE_MAX_BYTES);
    assert_int_equal(try_open(p, &kv), 0);
    for (int i = 0; i < 3; i++) {
        history_go_on(&p->h, kv);
        assert_int_equal(bench_commit(&p->b, kv), 0);
    }
    wr_kv_close(kv);
    bench_read_file(p->data, &later);
    unsigned pages = (unsigned)(p->specimen.len / 4096), passed = 0;
    srand(4);
    for (unsigned i = 0; i < pages; i++) {
        uint8_t *at = copy + (size_t)i * 4096;
        memcpy(at, p->specimen.data + (size_t)(rand() % (int)pages) * 4096, 4096);
        passed += try_damaged(p, copy, rand() % 8 == 0);
        memcpy(at, later.data + (size_t)i * 4096, 4096);
        passed += try_damaged(p, copy, rand() % 8 == 0);
        memcpy(at, p->specimen.data + (size_t)i * 4096, 4096);
    }
    print_message("%u of %u damaged pages do no harm to the structure\n", passed, 2 * pages);
    wr_buf_clear(&later);
    wr_free(copy);
}

/* A bit in a value is found when it is read, costs that record, and is mended by writing it again. */
static void test_damaged_value(void **state)
{
    struct place *p = *state;
    struct wr_kv *kv;
    static const char mark[] = "a value that stands out";
    uint8_t *found = NULL;
    assert_int_equal(try_open(p, &kv), 0);
    assert_int_equal(wr_kv_put(kv, WR_BYTES_STR("marked"), WR_BYTES_STR(mark)), 0);
    wr_kv_close(kv);
    wr_buf_reset(&p->specimen);
    bench_read_file(p->data, &p->specimen);
    found = memmem(p->specimen.data, p->specimen.len, mark, sizeof(mark) - 1);
    assert_non_null(found);
    found[3] ^= 4;
    bench_write_file(p->data, wr_buf_bytes(&p->specimen));
    assert_int_equal(try_open(p, &kv), 0);
    struct wr_buf out;
    wr_buf_init(&out, 100);
    static struct walk w;
    w.records = 0;
    assert_int_equal(wr_kv_get(kv, WR_BYTES_STR("marked"), &out), WR_ECORRUPT);
    assert_int_equal(out.len, 0);
    assert_int_equal(wr_kv_scan(kv, WR_BYTES_STR("mark"), WR_BYTES_NONE, note, &w), WR_ECORRUPT);
    assert_int_equal(w.records, 0);
    assert_string_equal(history_compare(&p->h, kv), "WR_ECORRUPT");
    assert_int_equal(wr_kv_put(kv, WR_BYTES_STR("marked"), WR_BYTES_STR("again")), 0);
    assert_int_equal(bench_commit(&p->b, kv), 0);
    assert_int_equal(wr_kv_get(kv, WR_BYTES_STR("marked"), &out), 0);
    assert_int_equal(wr_kv_del(kv, WR_BYTES_STR("marked")), 0);
    assert_null(history_compare(&p->h, kv));
    wr_buf_clear(&out);
    wr_kv_close(kv);
}

/* Damage that leaves the file's times alone is met by whoever uses the store first; the one after finds
 * it before LMDB does. */
static void test_found_by_the_next_process(void **state)
{
    struct place *p = *state;
    struct wr_kv *kv = NULL;
    struct stat st;
    int status;
    assert_int_equal(stat(p->data, &st), 0);
    int fd = open(p->data, O_WRONLY);
    for (off_t page = 2; page < st.st_size / 4096; page++)
        assert_int_equal(pwrite(fd, "damaged", 7, page * 4096 + 8), 7);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(try_open(p, &kv) == 0 ? 7 : 0);    /* dies with the store open */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_int_equal(try_open(p, &kv), WR_ECORRUPT);
    assert_int_equal(try_open(p, &kv), WR_ECORRUPT);    /* and stays found */
    rebuild(p);
}

/* Scraps of an earlier process beside the data. */
static void test_scraps(void **state)
{
    static const char *const names[] = {"lock", "store.mdb-lock", "store.mdb.new", "store.mdb.new-lock"};
    struct place *p = *state;
    uint8_t noise[9000];
    struct wr_kv *kv;
    memset(noise, 0xa7, sizeof(noise));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[BENCH_PATH + 64];
        snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        bench_write_file(path, WR_BYTES(noise, sizeof(noise)));
    }
    assert_int_equal(try_open(p, &kv), 0);
    assert_null(history_compare(&p->h, kv));
    wr_kv_close(kv);
    unlink(p->data);
    assert_int_equal(try_open(p, &kv), 0);
    wr_kv_close(kv);
}

/* A file-size limit makes writes fail as a full disk does: first short, then refused. */
static void test_no_space(void **state)
{
    struct place *p = *state;
    struct wr_kv *kv;
    struct rlimit limit, old;
    static uint8_t value[20000];
    uint32_t key = 0;
    int err = 0;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(try_open(p, &kv), 0);
    limit = old;
    limit.rlim_cur = p->specimen.len + 200 * 1024;
    setrlimit(RLIMIT_FSIZE, &limit);
    while (!err && key < 200) {
        key++;
        assert_int_equal(wr_kv_put(kv, WR_BYTES(&key, 4), WR_BYTES(value, sizeof(value))), 0);
        err = bench_commit(&p->b, kv);
    }
    assert_int_equal(err, WR_EFULL);
    assert_in_range(key, 5, 30);
    for (; key < 300; key++)    /* six megabytes into an overlay of two */
        assert_int_equal(wr_kv_put(kv, WR_BYTES(&key, 4), WR_BYTES(value, sizeof(value))), 0);
    assert_int_equal(bench_commit(&p->b, kv), WR_EFULL);
    assert_true(wr_kv_dropped(kv) > 0);
    struct wr_buf out;
    wr_buf_init(&out, sizeof(value));
    key = 299;
    assert_int_equal(wr_kv_get(kv, WR_BYTES(&key, 4), &out), 0);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(bench_commit(&p->b, kv), 0);
    assert_int_equal(wr_kv_error(kv), 0);
    wr_kv_close(kv);
    wr_buf_reset(&p->specimen);
    bench_read_file(p->data, &p->specimen);
    struct wr_kvcheck_result r;
    assert_int_equal(check_bytes(wr_buf_bytes(&p->specimen), &r), 0);
    assert_int_equal(try_open(p, &kv), 0);
    wr_buf_reset(&out);
    assert_int_equal(wr_kv_get(kv, WR_BYTES(&key, 4), &out), 0);
    key = 1;
    wr_buf_reset(&out);
    assert_int_equal(wr_kv_get(kv, WR_BYTES(&key, 4), &out), 0);
    wr_buf_clear(&out);
    wr_kv_close(kv);
    signal(SIGXFSZ, SIG_DFL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_specimen_is_sound), TEST(test_not_a_store), TEST(test_truncated),
        TEST(test_one_bit),           TEST(test_sectors),     TEST(test_pages),
        TEST(test_damaged_value),     TEST(test_scraps),      TEST(test_no_space),
        TEST(test_found_by_the_next_process),
    };
    return cmocka_run_group_tests_name("store_damage", tests, NULL, NULL);
}
