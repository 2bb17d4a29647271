/* The registry of protocols that we answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/protocols.h"

#include <stdio.h>
#include <string.h>

static struct wr_protocol named(const char *name)
{
    struct wr_protocol p = {.inbound_max = 4};
    snprintf(p.name, sizeof(p.name), "%s", name);
    return p;
}

static void test_names_are_matched_whole(void **state)
{
    (void)state;
    struct wr_protocols set;
    wr_protocols_init(&set);
    struct wr_protocol ping = named("/ipfs/ping/1.0.0");
    assert_int_equal(wr_protocols_add(&set, &ping), 0);
    const struct wr_protocol *found = wr_protocols_find(&set, WR_BYTES_STR("/ipfs/ping/1.0.0"));
    assert_non_null(found);
    assert_int_equal(found->inbound_max, 4);
    assert_null(wr_protocols_find(&set, WR_BYTES_STR("/ipfs/ping/1.0.")));
    assert_null(wr_protocols_find(&set, WR_BYTES_STR("/ipfs/ping/1.0.01")));
    assert_null(wr_protocols_find(&set, WR_BYTES("/ipfs/ping/1.0.0", 17)));
    wr_protocols_clear(&set);
}

static void test_bad_names_are_refused(void **state)
{
    (void)state;
    struct wr_protocols set;
    wr_protocols_init(&set);
    struct wr_protocol empty = named(""), bare = named("ping"), endless = named("/");
    memset(endless.name, '/', sizeof(endless.name));
    assert_int_equal(wr_protocols_add(&set, &empty), WR_EINVAL);
    assert_int_equal(wr_protocols_add(&set, &bare), WR_EINVAL);
    assert_int_equal(wr_protocols_add(&set, &endless), WR_EINVAL);
    assert_true(set.generation == 0);
    wr_protocols_clear(&set);
}

static void test_every_change_counts_and_order_stays(void **state)
{
    (void)state;
    struct wr_protocols set;
    wr_protocols_init(&set);
    struct wr_protocol a = named("/a"), b = named("/b"), c = named("/c");
    assert_int_equal(wr_protocols_add(&set, &a), 0);
    assert_int_equal(wr_protocols_add(&set, &b), 0);
    assert_int_equal(wr_protocols_add(&set, &c), 0);
    assert_int_equal(wr_protocols_add(&set, &b), WR_EEXIST);
    assert_true(set.generation == 3);
    assert_true(wr_protocols_remove(&set, "/a"));
    assert_false(wr_protocols_remove(&set, "/a"));
    assert_true(set.generation == 4);
    assert_string_equal(set.of[0]->name, "/b");
    assert_string_equal(set.of[1]->name, "/c");
    wr_protocols_clear(&set);
}

static void test_the_table_is_bounded(void **state)
{
    (void)state;
    struct wr_protocols set;
    wr_protocols_init(&set);
    char name[16];
    for (int i = 0; i < WR_PROTOCOLS_MAX; i++) {
        snprintf(name, sizeof(name), "/p/%d", i);
        struct wr_protocol p = named(name);
        assert_int_equal(wr_protocols_add(&set, &p), 0);
    }
    struct wr_protocol more = named("/more");
    assert_int_equal(wr_protocols_add(&set, &more), WR_ELIMIT);
    assert_true(wr_protocols_remove(&set, "/p/7"));
    assert_int_equal(wr_protocols_add(&set, &more), 0);
    wr_protocols_clear(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_matched_whole),
        cmocka_unit_test(test_bad_names_are_refused),
        cmocka_unit_test(test_every_change_counts_and_order_stays),
        cmocka_unit_test(test_the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
