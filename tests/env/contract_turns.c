/* Time, timers, settling, chance, work. */
#include "tests/env/contract.h"

struct note {
    struct wr_timer timer;
    struct wr_task task;
    struct contract *c;
    char name;
};

static char journal[64];    /* what happened, a letter each; of the running test only */
static size_t journal_len;

static void journal_add(char what)
{
    assert_true(journal_len + 1 < sizeof(journal));
    journal[journal_len++] = what;
    journal[journal_len] = 0;
}

static void journal_start(void)
{
    journal_len = 0;
    journal[0] = 0;
}

static void on_timer(struct wr_timer *timer)
{
    struct note *n = wr_list_entry(timer, struct note, timer);
    assert_false(wr_timer_running(timer));
    journal_add(n->name);
}

static void on_task(struct wr_task *task)
{
    journal_add(wr_list_entry(task, struct note, task)->name);
}

static void timers_fire_in_order(void **state)
{
    struct contract *c = *state;
    struct note n[5] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}, {.name = 'e'}};
    wr_time start = wr_env_now(c->a);
    journal_start();
    wr_timer_start(c->a, &n[0].timer, start + 30 * WR_MSEC, on_timer);
    wr_timer_start(c->a, &n[1].timer, start + 10 * WR_MSEC, on_timer);
    wr_timer_start(c->a, &n[2].timer, start + 10 * WR_MSEC, on_timer);
    wr_timer_start(c->a, &n[3].timer, start + 20 * WR_MSEC, on_timer);
    wr_timer_start(c->a, &n[4].timer, start + 1 * WR_MSEC, on_timer);
    wr_timer_start(c->a, &n[4].timer, start + 40 * WR_MSEC, on_timer);    /* moved */
    wr_timer_stop(c->a, &n[3].timer);
    wr_timer_stop(c->a, &n[3].timer);
    assert_true(wr_timer_running(&n[0].timer) && !wr_timer_running(&n[3].timer));
    UNTIL(c, journal_len == 4);
    assert_string_equal(journal, "bcae");
    assert_true(wr_env_now(c->a) >= start + 40 * WR_MSEC);
}

static void on_again(struct wr_timer *timer)
{
    struct note *n = wr_list_entry(timer, struct note, timer);
    journal_add(n->name);
    if (journal_len < 6)
        wr_timer_start(n->c->a, timer, 1, on_again);
}

/* A timer that always starts itself in the past neither hides another nor keeps the loop for itself. */
static void timers_in_the_past(void **state)
{
    struct contract *c = *state;
    struct note x = {.name = 'x', .c = c}, y = {.name = 'y', .c = c};
    journal_start();
    wr_timer_start(c->a, &x.timer, 1, on_again);
    wr_timer_start(c->a, &y.timer, 1, on_timer);
    assert_int_equal(journal_len, 0);
    UNTIL(c, journal_len == 6);
    assert_string_equal(journal, "xyxxxx");
}

static struct note *victim;    /* what on_stop_other stops */

static void on_stop_other(struct wr_timer *timer)
{
    struct note *n = wr_list_entry(timer, struct note, timer);
    journal_add(n->name);
    wr_timer_stop(n->c->a, &victim->timer);
}

static void a_timer_stops_another(void **state)
{
    struct contract *c = *state;
    struct note x = {.name = 'x', .c = c}, y = {.name = 'y'}, z = {.name = 'z'};
    wr_time at = wr_env_now(c->a) + 5 * WR_MSEC;
    journal_start();
    victim = &y;
    wr_timer_start(c->a, &x.timer, at, on_stop_other);
    wr_timer_start(c->a, &y.timer, at, on_timer);
    wr_timer_start(c->a, &z.timer, at, on_timer);
    UNTIL(c, journal_len == 2);
    assert_string_equal(journal, "xz");
}

struct settling {
    struct contract *c;
    struct wr_timer timer;
    struct note first, second, chained, disposal;
    wr_time seen;
};

static void on_chain(struct wr_task *task)
{
    struct settling *s = wr_list_entry(task, struct settling, second.task);
    journal_add('2');
    assert_int_equal(wr_env_now(s->c->a), s->seen);
    wr_env_defer(s->c->a, &s->chained.task, on_task);
}

static void on_settling(struct wr_timer *timer)
{
    struct settling *s = wr_list_entry(timer, struct settling, timer);
    s->seen = wr_env_now(s->c->a);
    wr_env_dispose(s->c->a, &s->disposal.task, on_task);
    wr_env_defer(s->c->a, &s->first.task, on_task);
    wr_env_defer(s->c->a, &s->second.task, on_chain);
    wr_env_defer(s->c->a, &s->first.task, on_task);    /* queued already */
    journal_add('t');
}

static void settling_order(void **state)
{
    struct contract *c = *state;
    struct settling s = {.c = c, .first.name = '1', .chained.name = '3', .disposal.name = 'D'};
    struct note after = {.name = 'n'};
    journal_start();
    wr_timer_start(c->a, &s.timer, 1, on_settling);
    wr_timer_start(c->a, &after.timer, 1, on_timer);
    UNTIL(c, journal_len == 6);
    /* The next timer is another turn: it comes after all of it. */
    assert_string_equal(journal, "t123Dn");
}

static void tasks_outside_a_turn(void **state)
{
    struct contract *c = *state;
    struct note x = {.name = 'x'}, y = {.name = 'y'}, gone = {.name = '!'}, both = {.name = 'b'};
    journal_start();
    wr_env_defer(c->a, &both.task, on_task);
    wr_env_dispose(c->a, &both.task, on_task);
    wr_env_dispose(c->a, &x.task, on_task);
    wr_env_defer(c->a, &gone.task, on_task);
    wr_env_defer(c->a, &y.task, on_task);
    wr_task_cancel(&gone.task);
    assert_int_equal(journal_len, 0);
    UNTIL(c, journal_len == 3);
    assert_string_equal(journal, "ybx");
    wr_task_cancel(&gone.task);
}

static void random_numbers(void **state)
{
    struct contract *c = *state;
    uint8_t one[32], two[32];
    wr_env_random(c->a, one, sizeof(one));
    wr_env_random(c->a, two, sizeof(two));
    assert_memory_not_equal(one, two, sizeof(one));
    assert_memory_not_equal(wr_env_hash_seed(c->a), wr_env_hash_seed(c->b), 16);
    assert_int_equal(wr_env_random_below(c->a, 0), 0);
    assert_int_equal(wr_env_random_below(c->a, 1), 0);
    unsigned seen[6] = {0};
    for (int i = 0; i < 6000; i++)
        seen[wr_env_random_below(c->a, 6)]++;
    for (int i = 0; i < 6; i++)
        assert_in_range(seen[i], 800, 1200);    /* 1000 expected; 200 is seven standard deviations */
    /* Three quarters of the draws' range: plain remainders would be in the lowest third half the time. */
    uint64_t third = UINT64_C(1) << 62, low = 0;
    for (int i = 0; i < 6000; i++)
        low += wr_env_random_below(c->a, 3 * third) < third;
    assert_in_range(low, 1750, 2250);    /* 2000 expected */
}

struct job {
    struct wr_work work;
    unsigned in, out;
    bool done;
};

static void job_run(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    job->out = job->in * 2;
}

static void job_done(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    job->done = true;
    if (job->in == 1) {    /* the struct may be used again at once */
        job->in = 5;
        job->done = false;
        journal_add('w');
    }
}

static void work_off_the_loop(void **state)
{
    struct contract *c = *state;
    struct job jobs[8] = {0};
    for (unsigned i = 0; i < 8; i++) {
        jobs[i] = (struct job){.work = {.run = job_run, .done = job_done}, .in = i + 2};
        assert_int_equal(wr_env_work(c->a, &jobs[i].work), 0);
        assert_false(jobs[i].done);
    }
    for (unsigned i = 0; i < 8; i++) {
        UNTIL(c, jobs[i].done);
        assert_int_equal(jobs[i].out, 2 * (i + 2));
    }
    struct job again = {.work = {.run = job_run, .done = job_done}, .in = 1};
    journal_start();
    assert_int_equal(wr_env_work(c->a, &again.work), 0);
    UNTIL(c, journal_len == 1);
    assert_int_equal(wr_env_work(c->a, &again.work), 0);
    UNTIL(c, again.done);
    assert_int_equal(again.out, 10);
}

static void wall_clock(void **state)
{
    struct contract *c = *state;
    int64_t before = wr_env_unix(c->a);
    assert_true(before > 1600000000 * WR_SEC);
    contract_run(c, 20 * WR_MSEC);
    assert_true(wr_env_unix(c->a) >= before + 15 * WR_MSEC);
}

int contract_turns(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(timers_fire_in_order), CONTRACT_TEST(timers_in_the_past),
        CONTRACT_TEST(a_timer_stops_another), CONTRACT_TEST(settling_order),
        CONTRACT_TEST(tasks_outside_a_turn), CONTRACT_TEST(random_numbers),
        CONTRACT_TEST(work_off_the_loop), CONTRACT_TEST(wall_clock),
    };
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
