/* Several routers asked as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/route.h"
#include "tests/sim/sim.h"
#include "transport/err.h"

/* A router that answers when the test says so. */
struct fake {
    bool refuses, alone;
    unsigned asked, cancelled;
    wr_route_done done;
    void *arg;
};

static void *fake_find(void *arg, const struct wr_peerid *peer, wr_route_done done, void *done_arg)
{
    struct fake *f = arg;
    (void)peer;
    f->asked++;
    f->done = done;
    f->arg = done_arg;
    return f->refuses ? NULL : f;
}

static void fake_cancel(void *arg, void *search)
{
    struct fake *f = arg;
    assert_ptr_equal(search, f);
    f->cancelled++;
}

struct world {
    struct sim *sim;
    struct fake of[WR_ROUTE_MAX];
    struct wr_route route;
    struct wr_router router;
    int done, err;
};

static bool is_alone(void *arg, size_t which)
{
    return ((struct world *)arg)->of[which].alone;
}

static int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 1});
    w->route.env = sim_host_env(sim_host_add(w->sim, &(struct sim_host_options){.name = "node"}));
    w->route.count = WR_ROUTE_MAX;
    for (size_t i = 0; i < WR_ROUTE_MAX; i++)
        w->route.of[i] = (struct wr_router){fake_find, fake_cancel, &w->of[i]};
    w->route.alone = is_alone;
    w->route.arg = w;
    w->router = wr_route_router(&w->route);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    sim_run(w->sim, WR_MSEC);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void on_done(void *arg, int err)
{
    struct world *w = arg;
    w->done++;
    w->err = err;
}

static void *ask(struct world *w)
{
    static const struct wr_peerid peer = {.len = 34, .bytes = {0x12, 0x20}};
    return w->router.find(w->router.arg, &peer, on_done, w);
}

static void answer(struct fake *f, int err)
{
    f->done(f->arg, err);
}

static void test_the_first_that_finds_it_answers(void **state)
{
    struct world *w = *state;
    assert_non_null(ask(w));
    assert_int_equal(w->of[0].asked + w->of[1].asked, 2);
    answer(&w->of[1], 0);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->err, 0);
    assert_int_equal(w->of[0].cancelled, 1);
    assert_int_equal(w->of[1].cancelled, 0);
}

static void test_failure_waits_for_all_and_says_the_most(void **state)
{
    struct world *w = *state;
    for (size_t first = 0; first < 2; first++) {
        assert_non_null(ask(w));
        answer(&w->of[first], first == 0 ? WR_ENOTFOUND : WR_EUNREACH);
        assert_int_equal(w->done, (int)first);
        answer(&w->of[1 - first], first == 0 ? WR_EUNREACH : WR_ENOTFOUND);
        assert_int_equal(w->done, (int)first + 1);
        assert_int_equal(w->err, WR_ENOTFOUND);
    }
    assert_int_equal(w->of[0].cancelled + w->of[1].cancelled, 0);
}

static void test_one_that_cannot_look_is_left_out(void **state)
{
    struct world *w = *state;
    w->of[0].refuses = true;
    assert_non_null(ask(w));
    answer(&w->of[1], WR_ENOTFOUND);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->of[0].cancelled, 0);
    w->of[1].refuses = true;
    assert_null(ask(w));
    assert_int_equal(w->done, 1);
}

static void test_nobody_waits_for_one_that_knows_nobody(void **state)
{
    struct world *w = *state;
    w->of[1].alone = true;
    assert_non_null(ask(w));
    answer(&w->of[0], WR_ENOTFOUND);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->err, WR_ENOTFOUND);
    assert_int_equal(w->of[1].cancelled, 1);
    /* Two of that kind both have their time. */
    w->of[0].alone = true;
    assert_non_null(ask(w));
    answer(&w->of[0], WR_EUNREACH);
    assert_int_equal(w->done, 1);
    answer(&w->of[1], 0);
    assert_int_equal(w->done, 2);
    assert_int_equal(w->err, 0);
}

static void test_cancel(void **state)
{
    struct world *w = *state;
    void *search = ask(w);
    answer(&w->of[0], WR_ENOTFOUND);
    w->router.cancel(w->router.arg, search);
    assert_int_equal(w->done, 0);
    assert_int_equal(w->of[0].cancelled, 0);
    assert_int_equal(w->of[1].cancelled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_that_finds_it_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure_waits_for_all_and_says_the_most, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_cannot_look_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_waits_for_one_that_knows_nobody, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
