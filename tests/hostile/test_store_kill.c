/* kill -9 at random moments: nothing acknowledged is lost, nothing is torn, nothing older than five
 * seconds is missing, and the lock goes with its owner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/hostile/bench.h"
#include "tests/hostile/history.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS      100
#define LOSS_MAX   (5 * WR_SEC)    /* design.md: the last few seconds */
#define LINGERERS  4               /* processes side by side */
#define WROTE_MAX  1024

struct child {
    pid_t pid;
    FILE *out;
};

static wr_time clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (wr_time)t.tv_sec * WR_SEC + t.tv_nsec;
}

static void start(struct child *c, const char *dir, const char *how)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execl("./store_writer", "store_writer", dir, how, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    c->out = fdopen(fds[0], "r");
}

static void end(struct child *c)
{
    int status;
    kill(c->pid, SIGKILL);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Reads one line; the number of the batch that it acknowledges, or 0. */
static uint32_t hear(struct child *c)
{
    char line[128];
    unsigned number;
    if (!fgets(line, sizeof(line), c->out))
        fail_msg("the writer ended by itself");
    if (sscanf(line, "acked %u", &number) == 1)
        return number;
    if (strncmp(line, "at ", 3) != 0)
        fail_msg("the writer says: %s", line);
    return 0;
}

/* Lets it live for a while, reading what it says, so that the pipe never blocks it. */
static void listen_for(struct child *c, wr_time time, uint32_t *acked, unsigned *count)
{
    wr_time until = clock_now() + time;
    for (;;) {
        struct pollfd p = {fileno(c->out), POLLIN, 0};
        wr_time left = until - clock_now();
        if (left <= 0 || poll(&p, 1, (int)(left / WR_MSEC)) == 0)
            return;
        uint32_t number = hear(c);
        *acked = number ? number : *acked;
        *count += number != 0;
    }
}

/* What stood in the pipe when it died. */
static void drain(struct child *c, uint32_t *acked)
{
    char line[128];
    unsigned number;
    while (fgets(line, sizeof(line), c->out))
        if (sscanf(line, "acked %u\n", &number) == 1 && strchr(line, '\n'))
            *acked = number;
    fclose(c->out);
}

static uint32_t verify(struct bench *b, const char *dir)
{
    struct wr_kv *kv = NULL;
    struct wr_kv_options o = {dir, 64 << 20, 4 << 20};
    assert_int_equal(wr_kv_open(b->env, &o, &kv), 0);
    struct history h;
    uint32_t batch = history_batch_of(kv);
    history_tell(&h, batch);
    const char *what = history_compare(&h, kv);
    if (what)
        fail_msg("batch %u: %s", batch, what);
    wr_kv_close(kv);
    return batch;
}

static void test_kill(void **state)
{
    (void)state;
    struct bench b;
    char dir[BENCH_PATH];
    unsigned commits = 0;
    bench_start(&b, NULL);
    bench_make_dir(dir);
    srand((unsigned)clock_now());
    for (int i = 0; i < KILLS; i++) {
        struct child c;
        uint32_t acked = 0;
        start(&c, dir, "busy");
        /* One in four may die before or while it opens the store, one before its first commit. */
        if (i % 4)
            hear(&c);
        if (i % 4 > 1)
            acked = hear(&c);
        commits += acked != 0;
        listen_for(&c, (2 + rand() % 60) * WR_MSEC, &acked, &commits);
        end(&c);
        drain(&c, &acked);
        uint32_t found = verify(&b, dir);
        if (found < acked)
            fail_msg("round %d: batch %u was acknowledged, %u found", i, acked, found);
    }
    print_message("%u commits acknowledged over %d kills\n", commits, KILLS);
    assert_true(commits >= KILLS / 2);
    bench_remove_dir(dir);
    bench_stop(&b);
}

/* Nobody asks for a commit: time alone has to bring the writes to the disk. */
static void test_no_old_write_is_lost(void **state)
{
    (void)state;
    struct bench b;
    char dirs[LINGERERS][BENCH_PATH];
    struct child c[LINGERERS];
    static wr_time wrote[LINGERERS][WROTE_MAX];
    wr_time started = clock_now(), kill_at[LINGERERS];
    bench_start(&b, NULL);
    srand((unsigned)started);
    for (int i = 0; i < LINGERERS; i++) {
        bench_make_dir(dirs[i]);
        start(&c[i], dirs[i], "linger");
        kill_at[i] = started + LOSS_MAX + (500 + rand() % 2500) * WR_MSEC;
    }
    for (int alive = LINGERERS; alive;) {
        for (int i = 0; i < LINGERERS; i++) {
            struct pollfd p = {c[i].pid ? fileno(c[i].out) : -1, POLLIN, 0};
            char line[128];
            unsigned number;
            if (c[i].pid && poll(&p, 1, 5) > 0 && fgets(line, sizeof(line), c[i].out) &&
                sscanf(line, "wrote %u", &number) == 1 && number < WROTE_MAX)
                wrote[i][number] = clock_now();
            if (!c[i].pid || clock_now() < kill_at[i])
                continue;
            end(&c[i]);
            kill_at[i] = clock_now();
            fclose(c[i].out);
            c[i].pid = 0;
            alive--;
        }
    }
    for (int i = 0; i < LINGERERS; i++) {
        uint32_t found = verify(&b, dirs[i]), must = 0;
        for (uint32_t n = 1; n < WROTE_MAX; n++)
            if (wrote[i][n] && wrote[i][n] < kill_at[i] - LOSS_MAX)
                must = n;
        print_message("found batch %u, at least %u expected\n", found, must);
        assert_true(must > 0 && found >= must);
        bench_remove_dir(dirs[i]);
    }
    bench_stop(&b);
}

static void test_second_process_is_refused(void **state)
{
    (void)state;
    struct bench b;
    char dir[BENCH_PATH], line[128];
    struct child first, second;
    struct wr_kv *kv;
    bench_start(&b, NULL);
    bench_make_dir(dir);
    struct wr_kv_options o = {dir, 64 << 20, 4 << 20};
    start(&first, dir, "busy");
    assert_non_null(fgets(line, sizeof(line), first.out));
    assert_string_equal(line, "at 0\n");
    start(&second, dir, "busy");
    assert_non_null(fgets(line, sizeof(line), second.out));
    assert_string_equal(line, "open WR_EINUSE\n");
    waitpid(second.pid, NULL, 0);
    fclose(second.out);
    assert_int_equal(wr_kv_open(b.env, &o, &kv), WR_EINUSE);
    assert_int_equal(wr_kv_destroy(b.env, dir), WR_EINUSE);
    end(&first);
    fclose(first.out);
    verify(&b, dir);
    bench_remove_dir(dir);
    bench_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_no_old_write_is_lost),
        cmocka_unit_test(test_second_process_is_refused),
    };
    return cmocka_run_group_tests_name("store_kill", tests, NULL, NULL);
}
