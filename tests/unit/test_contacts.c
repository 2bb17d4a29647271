/* Whom we talked to lately, and who is a stranger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/contacts.h"

#define T0 (1000 * WR_SEC)

static const uint8_t seed[WR_MAP_SEED] = {7};
static struct wr_contacts contacts;

static int set_up(void **state)
{
    (void)state;
    wr_contacts_init(&contacts, seed);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    wr_contacts_clear(&contacts);
    return 0;
}

static struct wr_ip ip(unsigned host)
{
    return (struct wr_ip){4, {11, (uint8_t)(host >> 16), (uint8_t)(host >> 8), (uint8_t)host}};
}

static bool calls_as_stranger(unsigned host, bool udp, uint64_t id, wr_time now)
{
    struct wr_ip from = ip(host);
    wr_contacts_opened(&contacts, &from, udp, true, id, now);
    bool stranger = wr_contacts_stranger(&contacts, &from, udp, id);
    wr_contacts_closed(&contacts, &from, udp, now);
    return stranger;
}

static void who_was_talked_to_is_no_stranger(void **state)
{
    (void)state;
    struct wr_ip friend = ip(1);
    assert_true(calls_as_stranger(2, true, 5, T0));
    assert_false(calls_as_stranger(2, true, 6, T0));    /* the second time */
    wr_contacts_sent(&contacts, &friend, true, T0);
    assert_true(wr_contacts_known(&contacts, &friend, true, T0));
    assert_false(wr_contacts_known(&contacts, &friend, false, T0));
    assert_false(calls_as_stranger(1, true, 7, T0));
    assert_true(calls_as_stranger(1, false, 8, T0));
    assert_true(calls_as_stranger(1, true, 9, T0 + WR_CONTACTS_MEMORY));
}

/* Nor when thousands of others were talked to since; and those who really are strangers are told from him. */
static void a_crowd_makes_no_stranger(void **state)
{
    (void)state;
    struct wr_ip friend = ip(1);
    unsigned strangers = 0;
    wr_contacts_sent(&contacts, &friend, true, T0);
    for (unsigned i = 0; i < 4 * WR_CONTACTS_MAX; i++) {
        struct wr_ip other = ip(1000 + i);
        wr_contacts_sent(&contacts, &other, i % 2, T0 + WR_SEC + i * WR_MSEC);
    }
    wr_time now = T0 + WR_MIN;
    assert_int_equal(contacts.count, WR_CONTACTS_MAX);
    assert_true(wr_contacts_known(&contacts, &friend, true, now));
    assert_false(calls_as_stranger(1, true, 1, now));
    for (unsigned i = 0; i < 100; i++)
        strangers += calls_as_stranger(100000 + i, true, 100 + i, now);
    assert_in_range(strangers, 90, 100);
    assert_true(calls_as_stranger(1, true, 2, now + 2 * WR_CONTACTS_MEMORY));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(who_was_talked_to_is_no_stranger), TEST(a_crowd_makes_no_stranger)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
