/* wr_env_uv_run: the loop turned round, our sockets on the outside and libuv within. Everything that uv_run would
 * deliver must come, nothing may starve, and nothing may spin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/env_uv.h"
#include "tests/env/loop_step.h"

#include <string.h>
#include <uv.h>

struct bench {
    uv_loop_t loop;
    struct wr_env *env;
    bool stop;
    uv_timer_t alarm;        /* libuv's own, of the loop's owner */
    uv_prepare_t rounds;     /* counts how often the loop itself runs */
    unsigned round_count, alarms;
    struct wr_timer timer;
    unsigned timers;
    struct wr_work work;
    bool worked, done;
    struct wr_listener *listener;
    struct wr_sock *sock[2];    /* ours, and the accepted one */
    size_t received;
    bool flood;
};

static struct bench *of_timer(struct wr_timer *timer)
{
    return wr_list_entry(timer, struct bench, timer);
}

static void on_round(uv_prepare_t *handle)
{
    ((struct bench *)handle->data)->round_count++;
}

static int setup(void **state)
{
    struct bench *b = test_calloc(1, sizeof(*b));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    b->env = wr_env_uv_create(&b->loop, NULL);
    assert_non_null(b->env);
    uv_timer_init(&b->loop, &b->alarm);
    uv_prepare_init(&b->loop, &b->rounds);
    b->alarm.data = b->rounds.data = b;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    for (int i = 0; i < 2; i++)
        if (b->sock[i])
            wr_sock_close(b->sock[i], true);
    if (b->listener)
        wr_listener_close(b->listener);
    wr_env_uv_destroy(b->env);
    uv_close((uv_handle_t *)&b->alarm, NULL);
    uv_close((uv_handle_t *)&b->rounds, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    int err = uv_loop_close(&b->loop);
    test_free(b);
    return err;
}

/* ---- a socket that talks to itself */

static void on_close(void *arg, int err)
{
    (void)arg;
    (void)err;
}

/* Whatever comes is sent back, so each byte wakes the other end. */
static void bounce(struct bench *b, int end, const uint8_t *data, size_t len)
{
    b->received += len;
    if (b->flood || b->received < 1000)
        assert_int_equal(wr_sock_write(b->sock[end], data, len), 0);
    else
        b->stop = true;
}

static void on_read0(void *arg, uint8_t *data, size_t len)
{
    bounce(arg, 0, data, len);
}

static void on_read1(void *arg, uint8_t *data, size_t len)
{
    bounce(arg, 1, data, len);
}

static void on_open(void *arg)
{
    struct bench *b = arg;
    assert_int_equal(wr_sock_write(b->sock[0], (const uint8_t *)"x", 1), 0);
}

static const struct wr_sock_ops ops0 = {.on_open = on_open, .on_read = on_read0, .on_close = on_close};
static const struct wr_sock_ops ops1 = {.on_read = on_read1, .on_close = on_close};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct bench *b = arg;
    b->sock[1] = sock;
    wr_sock_attach(sock, &ops1, b);
}

static void play(struct bench *b)
{
    static const struct wr_listener_ops ops = {.on_accept = on_accept};
    struct wr_addr at = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    assert_int_equal(wr_env_listen(b->env, &at, &ops, b, &b->listener), 0);
    wr_listener_addr(b->listener, &at);
    assert_int_equal(wr_env_connect(b->env, &at, NULL, &ops0, b, &b->sock[0]), 0);
}

static void test_sockets_are_served(void **state)
{
    struct bench *b = *state;
    uv_prepare_start(&b->rounds, on_round);
    play(b);
    wr_env_uv_run(b->env, &b->stop);
    assert_int_equal(b->received, 1000);
    /* The point of it: hundreds of wake-ups, and libuv itself slept through nearly all of them. */
    assert_in_range(b->round_count, 1, 50);
}

/* ---- everything else */

static void on_alarm(uv_timer_t *handle)
{
    struct bench *b = handle->data;
    if (++b->alarms == 3)
        b->stop = true;
}

static void on_timer(struct wr_timer *timer)
{
    struct bench *b = of_timer(timer);
    if (++b->timers < 3)
        wr_timer_start(b->env, timer, wr_env_now(b->env) + 2 * WR_MSEC, on_timer);
    else
        b->stop = true;
}

static void test_timers_fire_while_sockets_are_busy(void **state)
{
    struct bench *b = *state;
    b->flood = true;
    play(b);
    uv_timer_start(&b->alarm, on_alarm, 2, 2);
    wr_env_uv_run(b->env, &b->stop);    /* libuv's */
    assert_int_equal(b->alarms, 3);
    uv_timer_stop(&b->alarm);
    b->stop = false;
    wr_timer_start(b->env, &b->timer, wr_env_now(b->env) + 2 * WR_MSEC, on_timer);
    wr_env_uv_run(b->env, &b->stop);    /* ours */
    assert_int_equal(b->timers, 3);
    assert_true(b->received > 0);
}

static void work_run(struct wr_work *work)
{
    wr_list_entry(work, struct bench, work)->worked = true;
}

static void work_done(struct wr_work *work)
{
    struct bench *b = wr_list_entry(work, struct bench, work);
    b->done = b->stop = true;
}

static void test_work_off_the_loop_is_told_of(void **state)
{
    struct bench *b = *state;
    b->work = (struct wr_work){.run = work_run, .done = work_done};
    assert_int_equal(wr_env_work(b->env, &b->work), 0);
    wr_env_uv_run(b->env, &b->stop);
    assert_true(b->worked && b->done);
}

static void end(struct wr_timer *timer)
{
    of_timer(timer)->stop = true;
}

static void test_waiting_does_not_spin(void **state)
{
    struct bench *b = *state;
    uv_prepare_start(&b->rounds, on_round);
    wr_timer_start(b->env, &b->timer, wr_env_now(b->env) + 100 * WR_MSEC, end);
    wr_env_uv_run(b->env, &b->stop);
    assert_in_range(b->round_count, 1, 20);
}

/* Afterwards the loop is its owner's again, as it was. */
static void test_the_loop_works_the_usual_way_afterwards(void **state)
{
    struct bench *b = *state;
    play(b);
    wr_env_uv_run(b->env, &b->stop);
    b->stop = false;
    b->received = 0;
    assert_int_equal(wr_sock_write(b->sock[0], (const uint8_t *)"x", 1), 0);
    while (!b->stop)
        loop_step(&b->loop);
    assert_int_equal(b->received, 1000);
}

/* ---- a reader for whom bytes are dear */

#define READS 12

struct dear {
    struct bench *b;
    unsigned reads;
    size_t first, last;
};

static void on_dear_read(void *arg, uint8_t *data, size_t len)
{
    struct dear *d = arg;
    uint64_t begun = uv_hrtime();
    (void)data;
    while (uv_hrtime() - begun < 2 * WR_MSEC)
        ;
    d->first = d->reads++ ? d->first : len;
    d->last = len;
    d->b->stop = d->reads >= READS;
}

static void on_dear_open(void *arg)
{
    static const uint8_t much[4 << 20];
    struct dear *d = arg;
    assert_int_equal(wr_sock_write(d->b->sock[0], much, sizeof(much)), 0);
}

static void on_dear_accept(void *arg, struct wr_sock *sock)
{
    static const struct wr_sock_ops ops = {.on_read = on_dear_read, .on_close = on_close};
    struct dear *d = arg;
    d->b->sock[1] = sock;
    wr_sock_attach(sock, &ops, d);
}

static void on_dear_drain(void *arg)
{
    (void)arg;
}

/* What takes long is given in small pieces, or one peer's bytes would be all that there is time for. */
static void test_who_takes_long_is_given_less(void **state)
{
    static const struct wr_listener_ops hall = {.on_accept = on_dear_accept};
    static const struct wr_sock_ops ops = {
        .on_open = on_dear_open, .on_drain = on_dear_drain, .on_close = on_close};
    struct bench *b = *state;
    struct dear d = {.b = b};
    struct wr_addr at = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    assert_int_equal(wr_env_listen(b->env, &at, &hall, &d, &b->listener), 0);
    wr_listener_addr(b->listener, &at);
    assert_int_equal(wr_env_connect(b->env, &at, NULL, &ops, &d, &b->sock[0]), 0);
    wr_env_uv_run(b->env, &b->stop);
    assert_true(d.first > 16 * 1024);
    assert_in_range(d.last, 1, 16 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sockets_are_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers_fire_while_sockets_are_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_off_the_loop_is_told_of, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_does_not_spin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_loop_works_the_usual_way_afterwards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_takes_long_is_given_less, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
