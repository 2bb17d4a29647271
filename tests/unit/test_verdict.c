/* Verdicts from answers: how many it takes, who counts, what a liar or a flapping server can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/verdict.h"

#include <stdio.h>

struct court {
    struct wr_verdict v;
    struct wr_verdict_world world;
    wr_time now;
};

static struct wr_ip server(unsigned i)
{
    return (struct wr_ip){4, {(uint8_t)(20 + i), 1, 1, 1}};
}

static void open_court(struct court *c, unsigned networks, bool natted)
{
    struct wr_maddr addr;
    *c = (struct court){.now = 1000 * WR_SEC, .world = {.networks = networks, .settled = true}};
    assert_int_equal(wr_maddr_parse("/ip4/9.9.9.9/tcp/4001", &addr), 0);
    wr_verdict_begin(&c->v);
    assert_true(wr_verdict_put(&c->v, wr_maddr_bytes(&addr), natted, c->now));
    wr_verdict_end(&c->v);
}

enum answer { FAILS = WR_VERDICT_FAILED, GETS_IN = WR_VERDICT_REACHED, SAYS_NOTHING = WR_VERDICT_NOTHING };

/* One question and its answer, a second later. */
static enum wr_addr_verdict hear(struct court *c, unsigned from, enum answer answer, bool stranger)
{
    struct wr_verdict_evidence e = {.from = server(from), .stranger = stranger};
    wr_verdict_asked(&c->v, 0, c->now);
    c->now += WR_SEC;
    (void)wr_verdict_note(&c->v, 0, &e, (enum wr_verdict_outcome)answer, &c->world, c->now);
    return c->v.of[0].verdict;
}

static bool due(const struct court *c)
{
    return wr_verdict_due(&c->v, 0, c->now) == 0;
}

static void test_three_networks_agree(void **state)
{
    (void)state;
    struct court c;
    open_court(&c, 10, false);
    assert_true(due(&c));
    assert_int_equal(hear(&c, 0, GETS_IN, false), WR_ADDR_UNKNOWN);
    assert_int_equal(hear(&c, 0, GETS_IN, false), WR_ADDR_UNKNOWN); /* the same one again */
    assert_int_equal(hear(&c, 1, GETS_IN, false), WR_ADDR_UNKNOWN);
    assert_true(due(&c));
    assert_int_equal(hear(&c, 2, GETS_IN, false), WR_ADDR_REACHABLE);
    assert_false(due(&c));
    open_court(&c, 10, false);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(hear(&c, i, FAILS, false), WR_ADDR_UNKNOWN);
    assert_int_equal(hear(&c, 2, FAILS, false), WR_ADDR_UNREACHABLE);
}

static void test_all_there_are_is_enough(void **state)
{
    (void)state;
    struct court c;
    open_court(&c, 2, false);
    assert_int_equal(hear(&c, 0, GETS_IN, false), WR_ADDR_UNKNOWN);
    assert_int_equal(hear(&c, 1, GETS_IN, false), WR_ADDR_REACHABLE);
    open_court(&c, 1, false);
    c.world.settled = false; /* more may turn up */
    assert_int_equal(hear(&c, 0, GETS_IN, false), WR_ADDR_UNKNOWN);
    assert_false(wr_verdict_judge(&c.v, 0, &c.world, c.now));
    c.world.settled = true;
    assert_true(wr_verdict_judge(&c.v, 0, &c.world, c.now));
    assert_int_equal(c.v.of[0].verdict, WR_ADDR_REACHABLE);
    /* Two that contradict each other say nothing. */
    open_court(&c, 2, false);
    (void)hear(&c, 0, GETS_IN, false);
    assert_int_equal(hear(&c, 1, FAILS, false), WR_ADDR_UNKNOWN);
    /* They are asked again after a while. */
    struct wr_ip a = server(0), b = server(1);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, false, c.now), WR_VERDICT_NOT);
    c.now += WR_VERDICT_RETRY + WR_SEC;
    assert_int_equal(wr_verdict_wants(&c.v, 0, &b, false, c.now), WR_VERDICT_ANY);
    assert_int_equal(hear(&c, 1, GETS_IN, false), WR_ADDR_REACHABLE);
}

static void test_one_liar_in_five(void **state)
{
    (void)state;
    /* Wherever he comes in. */
    for (unsigned liar = 0; liar < 5; liar++) {
        for (int truth = 0; truth <= 1; truth++) {
            struct court c;
            open_court(&c, 5, false);
            for (unsigned i = 0; i < 5; i++) {
                enum wr_addr_verdict v = hear(&c, i, (i == liar) != truth ? GETS_IN : FAILS, false);
                assert_int_not_equal(v, truth ? WR_ADDR_UNREACHABLE : WR_ADDR_REACHABLE);
            }
            assert_int_equal(c.v.of[0].verdict, truth ? WR_ADDR_REACHABLE : WR_ADDR_UNREACHABLE);
        }
    }
}

static void test_more_than_two_to_one(void **state)
{
    (void)state;
    for (int truth = 0; truth <= 1; truth++) {
        enum answer often = truth ? GETS_IN : FAILS, seldom = truth ? FAILS : GETS_IN;
        struct court c;
        open_court(&c, 10, false);
        (void)hear(&c, 0, seldom, false);
        (void)hear(&c, 1, seldom, false);
        for (unsigned i = 2; i < 6; i++)
            assert_int_equal(hear(&c, i, often, false), WR_ADDR_UNKNOWN);
        assert_int_equal(hear(&c, 6, often, false), truth ? WR_ADDR_REACHABLE : WR_ADDR_UNREACHABLE);
    }
}

static void test_refusals_say_nothing(void **state)
{
    (void)state;
    struct court c;
    wr_time pause = 0;
    open_court(&c, 10, false);
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(hear(&c, i % 10, SAYS_NOTHING, false), WR_ADDR_UNKNOWN);
        wr_time next = wr_verdict_next(&c.v) - c.now;
        assert_true(next >= pause && next <= WR_VERDICT_BACKOFF_MAX);
        pause = next;
    }
    assert_int_equal(pause, WR_VERDICT_BACKOFF_MAX);
    assert_int_equal(c.v.of[0].count, 0);
    /* And take nothing back. */
    for (unsigned i = 0; i < 3; i++)
        (void)hear(&c, i, GETS_IN, false);
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(hear(&c, i % 10, SAYS_NOTHING, false), WR_ADDR_REACHABLE);
}

static void test_friends_prove_nothing_through_a_nat(void **state)
{
    (void)state;
    struct court c;
    struct wr_verdict_tally t;
    open_court(&c, 10, true);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(hear(&c, i, GETS_IN, false), WR_ADDR_UNKNOWN);
    wr_verdict_count(&c.v, 0, c.now, &t);
    assert_true(t.half == 6 && t.reached == 0 && t.failed == 0);
    /* One stranger gets in: then everybody does. */
    assert_int_equal(hear(&c, 6, GETS_IN, true), WR_ADDR_REACHABLE);
    /* Friends get in and strangers do not. */
    open_court(&c, 10, true);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(hear(&c, i, GETS_IN, false), WR_ADDR_UNKNOWN);
    for (unsigned i = 3; i < 5; i++)
        assert_int_equal(hear(&c, i, FAILS, true), WR_ADDR_UNKNOWN);
    assert_int_equal(hear(&c, 5, FAILS, true), WR_ADDR_UNREACHABLE);
    wr_verdict_count(&c.v, 0, c.now, &t);
    assert_true(t.half == 3 && t.reached == 0 && t.failed == 3);
    /* A network that says both is one that says no. */
    open_court(&c, 10, true);
    (void)hear(&c, 0, FAILS, true);
    (void)hear(&c, 0, GETS_IN, false);
    wr_verdict_count(&c.v, 0, c.now, &t);
    assert_true(t.half == 0 && t.reached == 0 && t.failed == 1);
}

/* Strangers do not get in, and that is the verdict; two friends are asked all the same, for the kind of
 * filter. */
static void test_friends_are_asked_afterwards(void **state)
{
    (void)state;
    struct court c;
    struct wr_ip a = server(0), b = server(7);
    open_court(&c, 10, true);
    for (unsigned i = 0; i < 3; i++)
        (void)hear(&c, i, FAILS, true);
    assert_int_equal(c.v.of[0].verdict, WR_ADDR_UNREACHABLE);
    assert_true(due(&c));
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_ANY);
    (void)hear(&c, 0, GETS_IN, false);
    assert_true(due(&c));
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_NOT);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &b, true, c.now), WR_VERDICT_ANY);
    (void)hear(&c, 7, GETS_IN, false);
    assert_false(due(&c));
    assert_int_equal(c.v.of[0].verdict, WR_ADDR_UNREACHABLE);
}

static void test_whom_to_ask(void **state)
{
    (void)state;
    struct court c;
    struct wr_ip a = server(0), b = server(1), near_a = {4, {20, 1, 200, 1}};
    open_court(&c, 10, true);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_STRANGER);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, false, c.now), WR_VERDICT_ANY);
    (void)hear(&c, 0, FAILS, true);
    /* A friend's answer would tell the kind of filter; of the same network one is enough. */
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_ANY);
    (void)hear(&c, 0, GETS_IN, false);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_NOT);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &near_a, true, c.now), WR_VERDICT_NOT);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &b, true, c.now), WR_VERDICT_STRANGER);
    /* Where all servers are near each other the networks are smaller. */
    struct wr_ip all[] = {a, near_a, {4, {20, 1, 201, 1}}};
    assert_int_equal(wr_verdict_networks(&c.v, all, 3), 3);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &near_a, true, c.now), WR_VERDICT_STRANGER);
    struct wr_ip same[] = {a, a};
    assert_int_equal(wr_verdict_networks(&c.v, same, 2), 1);
}

/* Friends got in, and whom the servers sent were friends, too. They are asked again soon, less and less often, also when
 * strangers failed and were too few, and no longer so once there is a verdict. */
static void test_a_stranger_is_all_that_is_missing(void **state)
{
    (void)state;
    struct court c;
    struct wr_ip a = server(0);
    unsigned asked = 0;
    open_court(&c, 10, true);
    wr_time from = c.now, last = from;
    while (c.now - from < 3 * WR_MIN) {
        c.now += WR_SEC;
        if (wr_verdict_wants(&c.v, 0, &a, true, c.now) == WR_VERDICT_NOT)
            continue;
        struct wr_verdict_evidence e = {.from = a, .stranger_wanted = true};
        assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_STRANGER);
        assert_true(asked == 0 || c.now - last >= WR_VERDICT_STRANGER_SOON);
        assert_true(asked == 0 || 2 * (c.now - last) >= c.now - from);
        wr_verdict_asked(&c.v, 0, c.now);
        (void)wr_verdict_note(&c.v, 0, &e, WR_VERDICT_REACHED, &c.world, c.now);
        last = c.now;
        asked++;
    }
    assert_in_range(asked, 6, 10);
    assert_int_equal(hear(&c, 5, FAILS, true), WR_ADDR_UNKNOWN);
    c.now = last + WR_VERDICT_STRANGER_SOON - WR_SEC;
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_NOT);
    wr_time again = wr_verdict_again(&c.v, 0, &a, c.now);
    assert_true(again > c.now && again < last + WR_VERDICT_STRANGER_AGAIN);
    c.now = last + WR_VERDICT_STRANGER_AGAIN;
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, true, c.now), WR_VERDICT_STRANGER);
    /* Who found none is waited for; a server that was not asked, or was asked for anybody, is not. */
    struct wr_ip b = server(1);
    assert_int_equal(wr_verdict_again(&c.v, 0, &b, c.now), 0);
    (void)hear(&c, 1, GETS_IN, false);
    assert_int_equal(wr_verdict_again(&c.v, 0, &b, c.now), 0);
    (void)hear(&c, 6, FAILS, true);
    assert_int_equal(hear(&c, 7, FAILS, true), WR_ADDR_UNREACHABLE);
    assert_int_equal(wr_verdict_again(&c.v, 0, &a, c.now), 0);
}

static void test_checks(void **state)
{
    (void)state;
    struct court c;
    open_court(&c, 10, false);
    for (unsigned i = 0; i < 3; i++)
        (void)hear(&c, i, GETS_IN, false);
    wr_time next = wr_verdict_next(&c.v) - c.now;
    assert_true(next >= WR_VERDICT_RECHECK * 9 / 10 && next <= WR_VERDICT_RECHECK * 11 / 10);
    /* One that agrees is enough. */
    c.now = wr_verdict_next(&c.v);
    assert_true(due(&c));
    struct wr_ip a = server(0);
    assert_int_equal(wr_verdict_wants(&c.v, 0, &a, false, c.now), WR_VERDICT_ANY);
    assert_int_equal(hear(&c, 0, GETS_IN, false), WR_ADDR_REACHABLE);
    assert_true(wr_verdict_next(&c.v) - c.now > WR_VERDICT_RECHECK / 2);
    /* One that does not asks for more, soon; the verdict falls with the third. */
    c.now = wr_verdict_next(&c.v);
    assert_int_equal(hear(&c, 4, FAILS, false), WR_ADDR_REACHABLE);
    assert_true(wr_verdict_next(&c.v) - c.now <= WR_VERDICT_DOUBT);
    assert_int_equal(hear(&c, 5, FAILS, false), WR_ADDR_REACHABLE);
    assert_int_equal(hear(&c, 6, FAILS, false), WR_ADDR_UNREACHABLE);
    /* Those that got in before do not speak for it any more. */
    struct wr_verdict_tally t;
    wr_verdict_count(&c.v, 0, c.now, &t);
    assert_true(t.reached == 0 && t.failed == 3);
    /* What is down is looked at sooner, and less and less often. */
    wr_time pause = 0;
    for (unsigned i = 0; i < 8; i++) {
        next = wr_verdict_next(&c.v) - c.now;
        assert_true(next >= pause && next <= WR_VERDICT_RECHECK * 11 / 10);
        pause = next;
        c.now = wr_verdict_next(&c.v);
        assert_int_equal(hear(&c, i, FAILS, false), WR_ADDR_UNREACHABLE);
    }
    assert_true(pause >= WR_VERDICT_RECHECK * 9 / 10);
}

/* A server that now gets in and now does not, between two that do: the verdict does not follow it. */
static void test_a_flapping_server(void **state)
{
    (void)state;
    struct court c;
    open_court(&c, 3, false);
    for (unsigned i = 0; i < 3; i++)
        (void)hear(&c, i, GETS_IN, false);
    for (unsigned i = 0; i < 20; i++) {
        c.now = wr_verdict_next(&c.v);
        assert_int_equal(hear(&c, 0, i % 2 ? GETS_IN : FAILS, false), WR_ADDR_REACHABLE);
        for (unsigned k = 1; k < 3 && c.v.of[0].round_at; k++) {
            c.now = wr_verdict_next(&c.v);
            assert_int_equal(hear(&c, k, GETS_IN, false), WR_ADDR_REACHABLE);
        }
    }
}

static void test_the_set(void **state)
{
    (void)state;
    struct court c;
    struct wr_maddr addr;
    char text[64];
    open_court(&c, 10, false);
    (void)hear(&c, 0, GETS_IN, false);
    wr_verdict_begin(&c.v);
    for (unsigned i = 0; i < 2 * WR_VERDICT_ADDRS; i++) {
        (void)snprintf(text, sizeof(text), "/ip4/9.9.9.9/tcp/%u", 4001 + i);
        assert_int_equal(wr_maddr_parse(text, &addr), 0);
        assert_int_equal(wr_verdict_put(&c.v, wr_maddr_bytes(&addr), false, c.now), i < WR_VERDICT_ADDRS);
    }
    wr_verdict_end(&c.v);
    assert_int_equal(c.v.count, WR_VERDICT_ADDRS);
    assert_int_equal(c.v.of[0].count, 1); /* it keeps what was heard */
    wr_verdict_begin(&c.v);
    assert_true(wr_verdict_put(&c.v, wr_maddr_bytes(&c.v.of[5].addr), false, c.now));
    wr_verdict_end(&c.v);
    assert_int_equal(c.v.count, 1);
    assert_int_equal(c.v.of[0].count, 0);
    /* More servers than are kept: the oldest answer goes. */
    for (unsigned i = 0; i < 100; i++)
        (void)hear(&c, i, i % 2 ? GETS_IN : FAILS, false);
    assert_true(c.v.of[0].count <= WR_VERDICT_EVIDENCE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_networks_agree),
        cmocka_unit_test(test_all_there_are_is_enough),
        cmocka_unit_test(test_one_liar_in_five),
        cmocka_unit_test(test_more_than_two_to_one),
        cmocka_unit_test(test_refusals_say_nothing),
        cmocka_unit_test(test_friends_prove_nothing_through_a_nat),
        cmocka_unit_test(test_friends_are_asked_afterwards),
        cmocka_unit_test(test_whom_to_ask),
        cmocka_unit_test(test_a_stranger_is_all_that_is_missing),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_a_flapping_server),
        cmocka_unit_test(test_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
