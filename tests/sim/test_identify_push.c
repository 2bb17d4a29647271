/* Pushes that do not arrive at first: what the peer refuses for now, or what breaks off, is said again. */
#include "tests/sim/identify_world.h"

/* How b takes the pushes of a. */
struct taker {
    struct wr_env *env;
    unsigned refuse;       /* so many at first, ... */
    uint32_t code;         /* ... with this */
    bool drop;             /* once the message is read, the stream is dropped with a reset, as rust-libp2p does */
    bool mute;             /* it is read, and never ended */
    struct wr_stream *dropped;
    struct wr_timer timer;
    unsigned came, taken;
    wr_time at[16];
};

static void on_timer(struct wr_timer *timer)
{
    wr_stream_reset(wr_list_entry(timer, struct taker, timer)->dropped, WR_STREAM_OK);
}

/* The word that b speaks the protocol goes out first. */
static void take_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct taker *t = arg;
    (void)data;
    t->dropped = s;
    if (t->drop)
        wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_MSEC, on_timer);
}

static void take_end(struct wr_stream *s, void *arg)
{
    struct taker *t = arg;
    t->taken++;
    if (!t->mute)
        wr_stream_close(s);
}

static void on_push(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {.on_data = take_data, .on_eof = take_end};
    struct taker *t = arg;
    if (t->came < 16)
        t->at[t->came] = wr_env_now(t->env);
    if (t->came++ < t->refuse)
        wr_stream_reset(s, t->code);
    else
        wr_stream_set_ops(s, &ops, t);
}

/* b asks who a is, and takes a's pushes by hand; a then has one to make. */
static void begin(struct world *w, struct taker *t)
{
    static const char *const ask[] = {WR_IDENTIFY_NAME, NULL};
    static const struct wr_stream_ops quiet;
    int err;
    t->env = w->b.env;
    w->id_a = identify(&w->a);
    node_handle(&w->b, WR_IDENTIFY_PUSH, on_push, t);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->b, &w->a), ask, &quiet, NULL, &err);
    assert_non_null(s);
    wr_stream_shut(s);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(stats(w->id_a).answered, 1);
    node_handle(&w->a, "/story/news", refuse, NULL);
}

static void test_what_is_refused_is_pushed_again(void **state)
{
    struct world *w = *state;
    struct taker t = {.refuse = 2, .code = WR_STREAM_RATE};
    begin(w, &t);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(t.came, 1);
    sim_run(w->sim, 10 * WR_MIN);
    assert_int_equal(t.came, 3);
    assert_int_equal(t.taken, 1);
    assert_true(t.at[1] - t.at[0] >= 2 * WR_IDENTIFY_PUSH_EVERY && t.at[2] - t.at[1] >= 4 * WR_IDENTIFY_PUSH_EVERY);
    assert_true(t.at[2] - t.at[0] < 8 * WR_IDENTIFY_PUSH_EVERY);
    assert_int_equal(stats(w->id_a).pushed, 1);
    assert_int_equal(stats(w->id_a).failed, 3);    /* the question to b, who does not speak identify, is one */
    /* The next news is pushed at the usual pace. */
    wr_time begun = sim_now(w->sim);
    node_handle(&w->a, "/story/more", refuse, NULL);
    sim_run(w->sim, 3 * WR_SEC);
    assert_int_equal(t.taken, 2);
    assert_true(t.at[3] - begun < 2 * WR_SEC);
}

static void test_who_refuses_for_ever_is_left_alone(void **state)
{
    struct world *w = *state;
    struct taker t = {.refuse = UINT32_MAX, .code = WR_STREAM_LIMIT};
    begin(w, &t);
    sim_run(w->sim, WR_HOUR);
    assert_int_equal(t.came, WR_IDENTIFY_PUSH_TRIES);
    node_handle(&w->a, "/story/more", refuse, NULL);
    sim_run(w->sim, WR_HOUR);
    assert_int_equal(t.came, 2 * WR_IDENTIFY_PUSH_TRIES);
    assert_int_equal(stats(w->id_a).pushed, 0);
}

/* A stream that is dropped once the message is read, and one that never ends: taken, both. */
static void test_what_was_taken_is_not_repeated(void **state)
{
    struct world *w = *state;
    struct taker t = {.drop = true};
    begin(w, &t);
    sim_run(w->sim, 10 * WR_MIN);
    assert_int_equal(t.came, 1);
    assert_int_equal(t.taken, 0);    /* a's end had not come yet */
    assert_int_equal(stats(w->id_a).pushed, 1);
    t.drop = false;
    t.mute = true;
    node_handle(&w->a, "/story/more", refuse, NULL);
    sim_run(w->sim, 10 * WR_MIN);
    assert_int_equal(t.came, 2);
    assert_int_equal(t.taken, 1);
    assert_int_equal(stats(w->id_a).pushed, 2);
    assert_int_equal(node_conn(&w->a, &w->b)->stream_count, 0);
}

/* News that comes while a push waits for the peer's end is not lost. */
static void test_news_during_a_push(void **state)
{
    struct world *w = *state;
    struct taker t = {.mute = true};
    begin(w, &t);
    sim_run(w->sim, 3 * WR_SEC);
    assert_int_equal(t.came, 1);
    node_handle(&w->a, "/story/more", refuse, NULL);
    sim_run(w->sim, 3 * WR_SEC);
    assert_int_equal(t.came, 1);    /* one at a time */
    sim_run(w->sim, WR_MIN);
    assert_int_equal(t.came, 2);
}

/* The network fails before the peer has said that it takes pushes. */
static void test_what_broke_off_is_pushed_again(void **state)
{
    struct world *w = *state;
    struct taker t = {.refuse = 0};
    begin(w, &t);
    sim_pause(w->b.host, true);
    sim_run(w->sim, WR_IDENTIFY_TIMEOUT + 2 * WR_SEC);
    assert_int_equal(t.came, 0);
    sim_pause(w->b.host, false);
    sim_run(w->sim, WR_MIN);
    assert_non_null(node_conn(&w->a, &w->b));
    assert_true(t.taken >= 1);
    assert_int_equal(stats(w->id_a).pushed, 1);
}

/* A peer that was refused asks by itself (test_identify_strangers): then there is nothing left to push. */
static void test_who_asks_meanwhile_hears_it_once(void **state)
{
    static const char *const ask[] = {WR_IDENTIFY_NAME, NULL};
    static const struct wr_stream_ops quiet;
    struct world *w = *state;
    struct taker t = {.refuse = UINT32_MAX, .code = WR_STREAM_RATE};
    int err;
    begin(w, &t);
    sim_run(w->sim, 7 * WR_SEC);
    assert_int_equal(t.came, 1);
    wr_stream_shut(wr_conn_open_stream(node_conn(&w->b, &w->a), ask, &quiet, NULL, &err));
    sim_run(w->sim, WR_HOUR);
    assert_int_equal(t.came, 1);
    assert_int_equal(stats(w->id_a).answered, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_refused_is_pushed_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_refuses_for_ever_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_taken_is_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_news_during_a_push, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_broke_off_is_pushed_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_asks_meanwhile_hears_it_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
