/* The store's overlay, commits and failures, over the disk in memory and an environment of a few lines
 * whose worker runs when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/kv_mem.c"

#include <stdio.h>

/* ---- environment ---------------------------------------------------------------------------------- */

struct wr_env {
    wr_time now;
    struct wr_timer *timer;    /* the store has one */
    struct wr_list deferred, disposals;
    struct wr_work *work;      /* queued; ran: run was called */
    bool ran, work_refused;
    struct kv_mem_disk disk;
};

static struct wr_env env;
static struct wr_kv *kv;

wr_time wr_env_now(const struct wr_env *e)
{
    return e->now;
}

void wr_env_random(struct wr_env *e, void *out, size_t len)
{
    (void)e;
    memset(out, 42, len);
}

const struct wr_log *wr_env_log(const struct wr_env *e)
{
    (void)e;
    return NULL;
}

void wr_timer_start(struct wr_env *e, struct wr_timer *timer, wr_time at,
                    void (*on_timer)(struct wr_timer *timer))
{
    timer->at = at;
    timer->on_timer = on_timer;
    e->timer = timer;
}

void wr_timer_stop(struct wr_env *e, struct wr_timer *timer)
{
    timer->at = 0;
    e->timer = NULL;
}

static void queue(struct wr_list *list, struct wr_task *task, void (*run)(struct wr_task *))
{
    task->run = run;
    if (!task->node.next)
        wr_list_init(&task->node);
    if (wr_list_empty(&task->node))
        wr_list_append(list, &task->node);
}

void wr_env_defer(struct wr_env *e, struct wr_task *task, void (*run)(struct wr_task *))
{
    queue(&e->deferred, task, run);
}

void wr_env_dispose(struct wr_env *e, struct wr_task *task, void (*run)(struct wr_task *))
{
    queue(&e->disposals, task, run);
}

void wr_task_cancel(struct wr_task *task)
{
    if (task->node.next)
        wr_list_remove(&task->node);
}

int wr_env_work(struct wr_env *e, struct wr_work *work)
{
    assert_null(e->work);
    if (e->work_refused)
        return WR_ELIMIT;
    e->work = work;
    e->ran = false;
    return 0;
}

struct kv_mem_disk *kv_mem_disk_for(struct wr_env *e, const char *path)
{
    assert_string_equal(path, "disk");
    return &e->disk;
}

/* ---- driving it ------------------------------------------------------------------------------------ */

static void settle(void)
{
    struct wr_list *node;
    while ((node = wr_list_pop(&env.deferred)) || (node = wr_list_pop(&env.disposals))) {
        struct wr_task *task = wr_list_entry(node, struct wr_task, node);
        task->run(task);
    }
}

static void worker_runs(void)
{
    assert_non_null(env.work);
    env.work->run(env.work);
    env.ran = true;
}

static void worker_done(void)
{
    struct wr_work *work = env.work;
    if (!env.ran)
        worker_runs();
    env.work = NULL;
    work->done(work);
    settle();
}

static void pass(wr_time time)
{
    env.now += time;
    struct wr_timer *timer = env.timer;
    if (timer && timer->at <= env.now) {
        timer->at = 0;
        env.timer = NULL;
        timer->on_timer(timer);
    }
    settle();
}

static int try_open(void)
{
    struct wr_kv_options options = {"disk", WR_KV_SIZE_MIN, WR_KV_OVERLAY_MIN};
    return wr_kv_open(&env, &options, &kv);
}

static int set_up(void **state)
{
    (void)state;
    memset(&env, 0, sizeof(env));
    env.now = 1000 * WR_SEC;
    wr_list_init(&env.deferred);
    wr_list_init(&env.disposals);
    kv_mem_disk_init(&env.disk, 1);
    return try_open();
}

static int tear_down(void **state)
{
    (void)state;
    wr_kv_close(kv);
    settle();
    if (env.work)
        worker_done();
    kv_mem_disk_clear(&env.disk);
    return 0;
}

static int put(const char *key, const char *value)
{
    return wr_kv_put(kv, wr_bytes_cstr(key), wr_bytes_cstr(value));
}

static int del(const char *key)
{
    return wr_kv_del(kv, wr_bytes_cstr(key));
}

static void expect(const char *key, const char *value)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_KV_VALUE_MAX);
    int err = wr_kv_get(kv, wr_bytes_cstr(key), &b);
    assert_int_equal(err, value ? 0 : WR_ENOTFOUND);
    if (value)
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), wr_bytes_cstr(value)));
    wr_buf_clear(&b);
}

/* On disk, whatever the overlay says. */
static const char *on_disk(const char *key)
{
    static char text[64];
    const struct wr_kvtree_entry *e = wr_kvtree_get(&env.disk.committed, wr_bytes_cstr(key));
    if (!e)
        return "";
    snprintf(text, sizeof(text), "%.*s", (int)e->value.len - 1, (const char *)e->value.ptr + 1);
    return text;
}

static bool collect(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct wr_buf *b = arg;
    wr_buf_printf(b, "%.*s=%.*s ", (int)key.len, (const char *)key.ptr, (int)value.len,
                  (const char *)value.ptr);
    return true;
}

static void expect_scan(const char *prefix, const char *after, const char *want)
{
    struct wr_buf b;
    wr_buf_init(&b, 4096);
    assert_int_equal(wr_kv_scan(kv, wr_bytes_cstr(prefix), wr_bytes_cstr(after), collect, &b), 0);
    wr_buf_put_u8(&b, 0);
    assert_string_equal((const char *)b.data, want);
    wr_buf_clear(&b);
}

struct answer {
    int count, err;
    bool close;
};

static void on_done(void *arg, int err)
{
    struct answer *a = arg;
    a->count++;
    a->err = err;
    if (a->close) {
        wr_kv_close(kv);
        kv = NULL;
    }
}

/* ---- tests ------------------------------------------------------------------------------------------ */

static void test_commit_two_seconds_after_the_first_write(void **state)
{
    (void)state;
    assert_null(env.timer);
    put("a", "1");
    pass(WR_KV_COMMIT_EVERY / 2);
    put("b", "2");
    assert_null(env.work);
    pass(WR_KV_COMMIT_EVERY / 2);
    assert_non_null(env.work);
    assert_null(env.timer);
    worker_done();
    assert_string_equal(on_disk("a"), "1");
    assert_string_equal(on_disk("b"), "2");
    assert_null(env.timer);    /* clean: no wake-ups */
}

static void test_write_during_a_commit_waits_its_own_time(void **state)
{
    (void)state;
    put("a", "1");
    pass(WR_KV_COMMIT_EVERY);
    worker_runs();
    env.now += WR_SEC;
    put("a", "2");
    wr_time written = env.now;
    expect("a", "2");
    env.now += WR_SEC;
    worker_done();
    assert_string_equal(on_disk("a"), "1");
    assert_true(env.timer->at == written + WR_KV_COMMIT_EVERY);
    pass(WR_KV_COMMIT_EVERY);
    worker_done();
    assert_string_equal(on_disk("a"), "2");
}

static void test_layers_hide_each_other(void **state)
{
    (void)state;
    for (const char *k = "abcdef"; *k; k++)
        put((char[]){*k, 0}, "disk");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    put("b", "frozen");
    put("c", "frozen");
    del("d");
    del("e");
    put("x", "frozen");
    wr_kv_commit(kv, NULL, NULL);
    put("c", "active");
    put("e", "active");
    del("f");
    put("aa", "active");
    del("x");
    expect_scan("", "", "a=disk aa=active b=frozen c=active e=active ");
    expect_scan("a", "", "a=disk aa=active ");
    expect_scan("a", "a", "aa=active ");
    expect_scan("b", "a", "b=frozen ");    /* after lies before the prefix */
    expect_scan("", "b", "c=active e=active ");
    expect_scan("", "bb", "c=active e=active ");
    expect_scan("z", "", "");
    expect("a", "disk");
    expect("b", "frozen");
    expect("c", "active");
    expect("d", NULL);
    expect("e", "active");
    expect("f", NULL);
    worker_done();
    expect_scan("", "", "a=disk aa=active b=frozen c=active e=active ");
    pass(WR_KV_COMMIT_EVERY);
    worker_done();
    expect_scan("", "", "a=disk aa=active b=frozen c=active e=active ");
    assert_int_equal(env.disk.committed.count, 5);
}

static bool stop_at_two(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    (void)key;
    (void)value;
    return ++*(int *)arg < 2;
}

static void test_scan_stops(void **state)
{
    (void)state;
    int count = 0;
    put("a", "1");
    put("b", "2");
    put("c", "3");
    assert_int_equal(wr_kv_scan(kv, WR_BYTES_NONE, WR_BYTES_NONE, stop_at_two, &count), 0);
    assert_int_equal(count, 2);
    expect("a", "1");
}

static void test_commit_answers_when_it_is_on_disk(void **state)
{
    (void)state;
    struct answer clean = {0}, first = {0}, second = {0}, third = {0};
    wr_kv_commit(kv, on_done, &clean);
    assert_int_equal(clean.count, 0);    /* not inside the call */
    settle();
    assert_int_equal(clean.count, 1);
    put("a", "1");
    wr_kv_commit(kv, on_done, &first);
    wr_kv_commit(kv, on_done, &second);    /* nothing newer: the same commit */
    settle();
    put("b", "2");
    wr_kv_commit(kv, on_done, &third);
    settle();
    assert_int_equal(first.count + second.count + third.count, 0);
    worker_done();
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 1);
    assert_int_equal(third.count, 0);
    assert_non_null(env.work);    /* asked for: started at once */
    worker_done();
    assert_int_equal(third.count, 1);
    assert_int_equal(third.err, 0);
    assert_string_equal(on_disk("b"), "2");
    assert_int_equal(env.disk.commits, 2);
}

static void test_close_inside_an_answer(void **state)
{
    (void)state;
    struct answer closing = {.close = true}, never = {0};
    put("a", "1");
    wr_kv_commit(kv, on_done, &closing);
    wr_kv_commit(kv, on_done, &never);
    worker_done();
    assert_int_equal(closing.count, 1);
    assert_int_equal(never.count, 0);
    assert_null(kv);
    assert_int_equal(try_open(), 0);
    expect("a", "1");
}

static void test_close_commits_whatever_the_worker_does(void **state)
{
    (void)state;
    for (int when = 0; when < 3; when++) {
        put("frozen", "1");
        wr_kv_commit(kv, NULL, NULL);
        if (when)
            worker_runs();
        put("active", when == 2 ? "22" : "2");
        wr_kv_close(kv);
        settle();
        assert_string_equal(on_disk("frozen"), "1");
        assert_string_equal(on_disk("active"), when == 2 ? "22" : "2");
        worker_done();    /* comes late and finds nobody */
        assert_int_equal(try_open(), 0);
        expect("frozen", "1");
        del("frozen");
    }
}

static void test_crash_loses_what_was_not_committed(void **state)
{
    (void)state;
    put("a", "1");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    put("b", "2");
    wr_kv_commit(kv, NULL, NULL);
    kv_mem_disk_crash(&env.disk);
    wr_kv_close(kv);
    settle();
    worker_done();
    assert_int_equal(try_open(), 0);
    expect("a", "1");
    expect("b", NULL);
}

static void test_failures_are_retried_ever_more_slowly(void **state)
{
    (void)state;
    struct answer a = {0};
    env.disk.fail = WR_EIO;
    put("a", "1");
    wr_kv_commit(kv, on_done, &a);
    worker_done();
    assert_int_equal(a.err, WR_EIO);
    assert_int_equal(wr_kv_error(kv), WR_EIO);
    expect("a", "1");
    wr_time waits[] = {2, 4, 8, 16, 32, 64, 64, 64};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_true(env.timer->at == env.now + waits[i] * WR_SEC);
        pass(waits[i] * WR_SEC);
        worker_done();
    }
    env.disk.fail = 0;
    pass(WR_KV_RETRY_MAX);
    worker_done();
    assert_int_equal(wr_kv_error(kv), 0);
    assert_string_equal(on_disk("a"), "1");
    assert_null(env.timer);
    env.disk.fail = WR_EIO;
    put("a", "2");
    pass(WR_KV_COMMIT_EVERY);
    worker_done();
    assert_true(env.timer->at == env.now + waits[0] * WR_SEC);    /* from the beginning */
}

static void test_no_worker_is_a_failed_commit(void **state)
{
    (void)state;
    struct answer a = {0};
    env.work_refused = true;
    put("a", "1");
    assert_int_equal(wr_kv_commit(kv, on_done, &a), 0);
    assert_int_equal(a.count, 0);
    settle();
    assert_int_equal(a.err, WR_ELIMIT);
    assert_int_equal(wr_kv_error(kv), WR_ELIMIT);
    env.work_refused = false;
    pass(WR_KV_COMMIT_EVERY);
    worker_done();
    assert_string_equal(on_disk("a"), "1");
    assert_int_equal(wr_kv_error(kv), 0);
}

static void test_full_disk_keeps_the_newest_writes(void **state)
{
    (void)state;
    static char value[8 * 1024];
    char key[16];
    memset(value, 'v', sizeof(value) - 1);
    put("old", "1");
    put("gone", "1");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    env.disk.fail = WR_EFULL;
    put("old", "2");
    del("gone");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    assert_int_equal(wr_kv_error(kv), WR_EFULL);
    assert_string_equal(on_disk("gone"), "");    /* deletions get through */
    assert_string_equal(on_disk("old"), "1");
    expect("old", "2");
    for (int i = 0; i < 100; i++) {    /* three times the overlay */
        snprintf(key, sizeof(key), "k%03d", i);
        assert_int_equal(put(key, value), 0);
        if (i % 10 == 5) {
            pass(WR_KV_RETRY_MAX);
            worker_runs();    /* and writes arrive while it tries */
            assert_int_equal(put("during", key), 0);
            worker_done();
            expect("during", key);
        }
    }
    expect("k099", value);
    expect("k000", NULL);
    expect("old", "1");    /* the newer one was pushed out */
    assert_true(wr_kv_dropped(kv) > 60);
    env.disk.fail = 0;
    pass(WR_KV_RETRY_MAX);
    worker_done();
    assert_int_equal(wr_kv_error(kv), 0);
    assert_string_equal(on_disk("during"), "k095");
    expect("k099", value);
}

static void test_size_max_is_a_full_disk(void **state)
{
    (void)state;
    static char value[32 * 1024];
    char key[16];
    memset(value, 'v', sizeof(value) - 1);
    int i;
    for (i = 0; i < 64 && !wr_kv_error(kv); i++) {
        snprintf(key, sizeof(key), "k%03d", i);
        put(key, value);
        wr_kv_commit(kv, NULL, NULL);
        worker_done();
    }
    assert_int_equal(wr_kv_error(kv), WR_EFULL);
    assert_in_range(i, 20, 40);
    expect(key, value);
    for (i = 0; i < 10; i++) {
        snprintf(key, sizeof(key), "k%03d", i);
        del(key);
    }
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    if (wr_kv_error(kv)) {
        pass(WR_KV_RETRY_MAX);
        worker_done();
    }
    assert_int_equal(wr_kv_error(kv), 0);
}

static void test_bounds(void **state)
{
    (void)state;
    static uint8_t big[WR_KV_VALUE_MAX + 1];
    struct wr_buf b;
    wr_buf_init(&b, WR_KV_VALUE_MAX);
    assert_int_equal(wr_kv_put(kv, WR_BYTES_NONE, WR_BYTES_NONE), WR_EINVAL);
    assert_int_equal(wr_kv_put(kv, WR_BYTES(big, WR_KV_KEY_MAX + 1), WR_BYTES_NONE), WR_EINVAL);
    assert_int_equal(wr_kv_put(kv, WR_BYTES(big, 1), WR_BYTES(big, sizeof(big))), WR_EINVAL);
    assert_int_equal(wr_kv_del(kv, WR_BYTES_NONE), WR_EINVAL);
    assert_int_equal(wr_kv_get(kv, WR_BYTES_NONE, &b), WR_ENOTFOUND);
    assert_int_equal(wr_kv_put(kv, WR_BYTES(big, WR_KV_KEY_MAX), WR_BYTES(big, WR_KV_VALUE_MAX)), 0);
    assert_int_equal(wr_kv_put(kv, WR_BYTES(big, 1), WR_BYTES_NONE), 0);
    assert_int_equal(wr_kv_get(kv, WR_BYTES(big, WR_KV_KEY_MAX), &b), 0);
    assert_int_equal(b.len, WR_KV_VALUE_MAX);
    assert_int_equal(wr_kv_get(kv, WR_BYTES(big, WR_KV_KEY_MAX), &b), WR_ELIMIT);
    wr_buf_clear(&b);
    struct wr_kv *other;
    struct wr_kv_options o = {"disk", WR_KV_SIZE_MIN, WR_KV_OVERLAY_MIN};
    assert_int_equal(wr_kv_open(&env, &o, &other), WR_EINUSE);
    o.size_max--;
    assert_int_equal(wr_kv_open(&env, &o, &other), WR_EINVAL);
    o = (struct wr_kv_options){"disk", WR_KV_SIZE_MIN, WR_KV_OVERLAY_MIN - 1};
    assert_int_equal(wr_kv_open(&env, &o, &other), WR_EINVAL);
}

static void test_full_overlay_starts_a_commit(void **state)
{
    (void)state;
    char key[16];
    int i;
    for (i = 0; i < WR_KV_BATCH_MAX / 2; i++) {
        assert_null(env.work);
        snprintf(key, sizeof(key), "%d", i);
        assert_int_equal(put(key, ""), 0);
        if (i % 1000 == 999) {    /* the bound in bytes would be reached first */
            wr_kv_commit(kv, NULL, NULL);
            worker_done();
        }
    }
    static char value[60 * 1024];
    memset(value, 'v', sizeof(value) - 1);
    for (i = 0; put((char[]){(char)('a' + i), 0}, value) == 0; i++)
        assert_true(i < 10);
    assert_non_null(env.work);    /* the refused one started it */
    assert_int_equal(put("z", value), WR_ELIMIT);
    assert_int_equal(put("a", value), WR_ELIMIT);
    worker_done();
    assert_int_equal(put("z", value), 0);
}

static void test_many_small_writes_start_a_commit(void **state)
{
    (void)state;
    wr_kv_close(kv);
    settle();
    struct wr_kv_options options = {"disk", 64 << 20, 64 << 20};
    assert_int_equal(wr_kv_open(&env, &options, &kv), 0);
    char key[16];
    for (int i = 0; i < WR_KV_BATCH_MAX / 2; i++) {
        assert_null(env.work);
        snprintf(key, sizeof(key), "%d", i);
        assert_int_equal(put(key, ""), 0);
    }
    assert_non_null(env.work);
    for (int i = 0; i < WR_KV_BATCH_MAX / 2; i++) {
        snprintf(key, sizeof(key), "x%d", i);
        assert_int_equal(put(key, ""), 0);
    }
    assert_int_equal(put("one more", ""), WR_ELIMIT);
    assert_int_equal(put("x7", "over"), 0);    /* no entry more */
    worker_done();
    worker_done();
    assert_int_equal(env.disk.committed.count, WR_KV_BATCH_MAX);
    assert_string_equal(on_disk("x7"), "over");
}

static void test_waiters_are_bounded(void **state)
{
    (void)state;
    struct answer a = {0};
    put("a", "1");
    for (int i = 0; i < WR_KV_WAITERS_MAX; i++)
        assert_int_equal(wr_kv_commit(kv, on_done, &a), 0);
    assert_int_equal(wr_kv_commit(kv, on_done, &a), WR_ELIMIT);
    worker_done();
    assert_int_equal(a.count, WR_KV_WAITERS_MAX);
    assert_int_equal(wr_kv_commit(kv, on_done, &a), 0);
    settle();
    assert_int_equal(a.count, WR_KV_WAITERS_MAX + 1);
}

static void test_damage_is_told(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 4096);
    put("a", "1");
    put("b", "2");
    put("c", "3");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    kv_mem_disk_damage(&env.disk, WR_BYTES_STR("b"));
    assert_int_equal(wr_kv_get(kv, WR_BYTES_STR("b"), &b), WR_ECORRUPT);
    assert_int_equal(wr_kv_scan(kv, WR_BYTES_NONE, WR_BYTES_NONE, collect, &b), WR_ECORRUPT);
    wr_buf_put_u8(&b, 0);
    assert_string_equal((const char *)b.data, "a=1 c=3 ");
    wr_buf_clear(&b);
    put("b", "4");    /* written again it is whole */
    expect("b", "4");
    expect_scan("", "", "a=1 b=4 c=3 ");
    wr_kv_close(kv);
    settle();
    env.disk.damaged = true;
    assert_int_equal(try_open(), WR_ECORRUPT);
    assert_int_equal(wr_kv_destroy(&env, "disk"), 0);
    assert_int_equal(try_open(), 0);
    expect("a", NULL);
    assert_int_equal(wr_kv_rebuilt(kv), 0);
    wr_kv_close(kv);
    settle();
    env.disk.damaged = true;
    struct wr_kv_options options = {"disk", WR_KV_SIZE_MIN, WR_KV_OVERLAY_MIN};
    assert_int_equal(wr_kv_open_anew(&env, &options, &kv), 0);
    assert_int_equal(wr_kv_rebuilt(kv), 1);
    expect("a", NULL);
}

/* ---- a store that goes bad while it is open ---------------------------------------------------------- */

static unsigned told;

static void on_lost(struct wr_kv_watch *watch)
{
    (void)watch;
    told++;
    assert_int_equal(put("held in memory", "again"), 0);
}

static int get(const char *key)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_KV_VALUE_MAX);
    int err = wr_kv_get(kv, wr_bytes_cstr(key), &b);
    wr_buf_clear(&b);
    return err;
}

static void watched_store(struct wr_kv_watch *watch)
{
    told = 0;
    watch->on_lost = on_lost;
    wr_kv_watch(kv, watch);
    put("old", "committed");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    env.disk.rotten = true;
}

/* Found by reading: what was committed is lost, what was not is kept, and whoever watches writes anew. */
static void test_bad_store_is_begun_anew(void **state)
{
    (void)state;
    struct wr_kv_watch watch;
    watched_store(&watch);
    put("new", "not committed");
    assert_int_equal(get("old"), WR_ECORRUPT);
    assert_int_equal(told, 0);
    settle();
    assert_int_equal(told, 1);
    assert_int_equal(wr_kv_rebuilt(kv), 1);
    assert_int_equal(get("old"), WR_ENOTFOUND);
    expect("new", "not committed");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    assert_string_equal(on_disk("new"), "not committed");
    assert_string_equal(on_disk("held in memory"), "again");
    wr_kv_unwatch(&watch);
}

/* Found by a commit: it fails, and is tried again on the new one. */
static void test_bad_store_found_by_a_commit(void **state)
{
    (void)state;
    struct wr_kv_watch watch;
    watched_store(&watch);
    put("new", "not committed");
    wr_kv_commit(kv, NULL, NULL);
    worker_done();
    assert_int_equal(wr_kv_error(kv), WR_ECORRUPT);
    assert_int_equal(told, 1);
    pass(WR_KV_COMMIT_EVERY);
    worker_done();
    assert_int_equal(wr_kv_error(kv), 0);
    assert_string_equal(on_disk("new"), "not committed");
    assert_int_equal(wr_kv_rebuilt(kv), 1);
    wr_kv_unwatch(&watch);
}

/* One that cannot even be begun anew is tried again, not at every reading. */
static void test_bad_disk_under_a_bad_store(void **state)
{
    (void)state;
    struct wr_kv_watch watch;
    watched_store(&watch);
    env.disk.fail = WR_EIO;
    assert_int_equal(get("old"), WR_ECORRUPT);
    settle();
    assert_int_equal(told, 0);
    env.disk.fail = 0;
    assert_int_equal(get("old"), WR_ECORRUPT);
    settle();
    assert_int_equal(told, 0);
    env.now += WR_KV_RETRY_MAX;
    assert_int_equal(get("old"), WR_ECORRUPT);
    settle();
    assert_int_equal(told, 1);
    assert_int_equal(get("old"), WR_ENOTFOUND);
    wr_kv_unwatch(&watch);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_commit_two_seconds_after_the_first_write),
        TEST(test_write_during_a_commit_waits_its_own_time),
        TEST(test_layers_hide_each_other),
        TEST(test_scan_stops),
        TEST(test_commit_answers_when_it_is_on_disk),
        TEST(test_close_inside_an_answer),
        TEST(test_close_commits_whatever_the_worker_does),
        TEST(test_crash_loses_what_was_not_committed),
        TEST(test_failures_are_retried_ever_more_slowly),
        TEST(test_no_worker_is_a_failed_commit),
        TEST(test_full_disk_keeps_the_newest_writes),
        TEST(test_size_max_is_a_full_disk),
        TEST(test_bounds),
        TEST(test_full_overlay_starts_a_commit),
        TEST(test_many_small_writes_start_a_commit),
        TEST(test_waiters_are_bounded),
        TEST(test_damage_is_told),
        TEST(test_bad_store_is_begun_anew),
        TEST(test_bad_store_found_by_a_commit),
        TEST(test_bad_disk_under_a_bad_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
