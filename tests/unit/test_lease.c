/* Leases in virtual time: retransmission, renewal, expiry; and a router's count of seconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/lease.h"

#define T0 (1000 * WR_SEC)

/* Steps at every wait until `end`, noting when the request was sent; the last result that was not 0 or 1. */
static int run(struct wr_lease *l, wr_time end, wr_time *sent, size_t max, size_t *count)
{
    int last = 0;
    *count = 0;
    for (wr_time at; (at = wr_lease_wait(l)) && at <= end;) {
        int rc = wr_lease_step(l, at, 10);    /* 10: no jitter */
        assert_int_not_equal(rc, 0);
        if (rc == 1 && *count < max)
            sent[(*count)++] = at;
        if (rc < 0) {
            last = rc;
            if (l->state == WR_LEASE_FAILED)
                break;
        }
    }
    return last;
}

static void unanswered_requests_are_repeated_and_given_up(void **state)
{
    (void)state;
    static const wr_time ms[] = {0, 250, 750, 1750, 3750, 7750};
    struct wr_lease l;
    wr_time sent[16];
    size_t count;
    wr_lease_start(&l, T0);
    assert_int_equal(wr_lease_step(&l, T0 - 1, 0), 0);
    assert_int_equal(run(&l, T0 + WR_MIN, sent, 16, &count), WR_ETIMEOUT);
    assert_int_equal(count, WR_LEASE_TRIES);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(sent[i], T0 + ms[i] * WR_MSEC);
    assert_int_equal(l.state, WR_LEASE_FAILED);
    assert_int_equal(wr_lease_wait(&l), 0);
    assert_int_equal(wr_lease_step(&l, T0 + WR_HOUR, 0), 0);
}

static void jitter_stays_within_a_tenth(void **state)
{
    (void)state;
    for (uint64_t dice = 0; dice < 100; dice++) {
        struct wr_lease l;
        wr_lease_start(&l, T0);
        assert_int_equal(wr_lease_step(&l, T0, dice), 1);
        assert_true(wr_lease_wait(&l) >= T0 + 225 * WR_MSEC && wr_lease_wait(&l) <= T0 + 275 * WR_MSEC);
        wr_lease_grant(&l, 7200, T0, dice);
        assert_true(wr_lease_wait(&l) >= T0 + 3600 * WR_SEC && wr_lease_wait(&l) <= T0 + 4500 * WR_SEC);
    }
}

/* RFC 6887 section 11.2.1: at half, then at half of what is left, never twice within 4 s; then it is gone. */
static void renewals_go_unanswered(void **state)
{
    (void)state;
    struct wr_lease l;
    wr_time sent[64], until = T0 + 7200 * WR_SEC;
    size_t count;
    wr_lease_start(&l, T0);
    assert_int_equal(wr_lease_step(&l, T0, 0), 1);
    wr_lease_grant(&l, 7200, T0, 0);
    assert_int_equal(run(&l, until - 1, sent, 64, &count), 0);
    assert_int_equal(sent[0], T0 + 3600 * WR_SEC);
    assert_int_equal(sent[1], T0 + 5400 * WR_SEC);
    assert_int_equal(sent[2], T0 + 6300 * WR_SEC);
    for (size_t i = 1; i < count; i++)
        assert_true(sent[i] - sent[i - 1] >= WR_LEASE_RENEW_GAP);
    assert_in_range(count, 9, 12);
    assert_int_equal(l.state, WR_LEASE_HELD);
    assert_int_equal(wr_lease_wait(&l), until);
    assert_int_equal(wr_lease_step(&l, until, 0), WR_ESTALE);
    assert_int_equal(l.state, WR_LEASE_ASKING);
    assert_int_equal(wr_lease_step(&l, until, 0), 1);
}

static void a_renewal_begins_a_new_life(void **state)
{
    (void)state;
    struct wr_lease l;
    wr_lease_start(&l, T0);
    wr_lease_grant(&l, 100, T0, 0);
    assert_int_equal(wr_lease_step(&l, T0 + 50 * WR_SEC, 0), 1);
    wr_lease_grant(&l, 100, T0 + 51 * WR_SEC, 0);
    assert_int_equal(l.until, T0 + 151 * WR_SEC);
    assert_int_equal(wr_lease_wait(&l), T0 + 101 * WR_SEC);
}

/* A router that grants a second, or a century. */
static void odd_lifetimes(void **state)
{
    (void)state;
    struct wr_lease l;
    wr_time sent[64];
    size_t count;
    wr_lease_grant(&l, 1, T0, 0);
    assert_int_equal(wr_lease_wait(&l), T0 + WR_SEC);
    assert_int_equal(wr_lease_step(&l, T0 + WR_SEC, 0), WR_ESTALE);
    wr_lease_grant(&l, 9, T0, 0);    /* 4.5 s: one renewal, then over */
    (void)run(&l, T0 + 9 * WR_SEC - 1, sent, 64, &count);
    assert_in_range(count, 1, 2);
    wr_lease_grant(&l, UINT32_MAX, T0, 100);
    assert_int_equal(l.until, T0 + WR_LEASE_MAX);
    assert_true(wr_lease_wait(&l) <= T0 + WR_LEASE_MAX);
    wr_lease_stop(&l);
    assert_int_equal(wr_lease_wait(&l), 0);
}

static void counts_of_seconds(void **state)
{
    (void)state;
    static const struct {
        int64_t ours;        /* seconds that passed here */
        uint32_t before, after;
        bool restarted;
    } rows[] = {
        {10, 100, 110, false}, {10, 100, 100, true},   {0, 100, 99, false},       {0, 100, 98, true},
        {10, 100, 0, true},    {10, 5, 0, true},       {100, 1000, 1092, false},  {100, 1000, 1091, true},
        {100, 1000, 1108, false}, {100, 1000, 1110, true}, {100, 1000, 1200, true},
        {3600, 7, 3607, false}, {0, 0, 0, false},
        {2, UINT32_MAX - 1, 1, true}, {0, 0, UINT32_MAX, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct wr_epoch e = {0};
        assert_false(wr_epoch_note(&e, rows[i].before, T0));    /* the first says nothing */
        if (wr_epoch_note(&e, rows[i].after, T0 + rows[i].ours * WR_SEC) != rows[i].restarted)
            fail_msg("row %zu", i);
        /* What was heard is the new truth. */
        assert_false(wr_epoch_note(&e, rows[i].after, T0 + rows[i].ours * WR_SEC));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unanswered_requests_are_repeated_and_given_up),
        cmocka_unit_test(jitter_stays_within_a_tenth),
        cmocka_unit_test(renewals_go_unanswered),
        cmocka_unit_test(a_renewal_begins_a_new_life),
        cmocka_unit_test(odd_lifetimes),
        cmocka_unit_test(counts_of_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
