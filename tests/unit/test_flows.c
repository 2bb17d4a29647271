/* The budget for what routers have to remember: sessions and how long they linger, the rate, silent addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/flows.h"

#include <string.h>

#define T0 (1000 * WR_SEC)

static const uint8_t seed[WR_MAP_SEED] = {1};
static struct wr_limits limits;
static struct wr_flows flows;

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(wr_limits_init(&limits, "home"), 0);
    wr_limits_sessions(&limits, 64);
    wr_flows_init(&flows, &limits, seed);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    wr_flows_clear(&flows);
    assert_int_equal(limits.of[WR_LIMIT_SESSIONS].used, 0);
    return 0;
}

static uint64_t used(void)
{
    return limits.of[WR_LIMIT_SESSIONS].used;
}

static struct wr_addr at(unsigned host, uint16_t port)
{
    return (struct wr_addr){.ip = {4, {11, (uint8_t)(host >> 16), (uint8_t)(host >> 8), (uint8_t)host}}, .port = port};
}

static int begin(unsigned host, uint16_t port, bool udp, wr_time now, struct wr_flow **out)
{
    struct wr_addr to = at(host, port);
    return wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to, .udp = udp, .nat = true}, now, out);
}

static void a_router_of_64(void **state)
{
    (void)state;
    assert_int_equal(limits.of[WR_LIMIT_SESSIONS].max, 48);
    assert_int_equal(limits.of[WR_LIMIT_CONNS].max, 24);
    assert_int_equal(limits.of[WR_LIMIT_CONNS_INBOUND].max, 16);
    assert_int_equal(limits.of[WR_LIMIT_DIALS].max, 8);
    /* It only ever lowers, and not knowing changes nothing. */
    struct wr_limits l;
    wr_limits_init(&l, "small");
    struct wr_limits before = l;
    wr_limits_sessions(&l, 0);
    assert_memory_equal(&l, &before, sizeof(l));
    wr_limits_sessions(&l, 1000000);
    assert_int_equal(l.of[WR_LIMIT_SESSIONS].max, 750000);
    assert_int_equal(l.of[WR_LIMIT_CONNS].max, before.of[WR_LIMIT_CONNS].max);
}

static void sessions_are_counted_until_the_router_forgets(void **state)
{
    (void)state;
    static const struct {
        bool udp, answered;
        wr_time linger;
    } rows[] = {{true, true, WR_FLOWS_LINGER_UDP}, {true, false, WR_FLOWS_LINGER_SILENT},
                {false, true, WR_FLOWS_LINGER_TCP}, {false, false, WR_FLOWS_LINGER_SYN}};
    for (size_t i = 0; i < 4; i++) {
        struct wr_flow *a, *b;
        wr_time now = T0 + (wr_time)i * WR_HOUR;
        assert_int_equal(begin(1, 4001, rows[i].udp, now, &a), 0);
        assert_int_equal(begin(1, 4001, rows[i].udp, now, &b), 0);
        assert_ptr_equal(a, b);    /* one entry, however many of us use it */
        assert_int_equal(used(), 1);
        wr_flows_end(&flows, a, rows[i].answered, now);
        wr_flows_expire(&flows, now + WR_HOUR / 2);
        assert_int_equal(used(), 1);
        wr_flows_end(&flows, b, false, now + WR_HOUR / 2);
        wr_flows_expire(&flows, now + WR_HOUR / 2 + rows[i].linger - 1);
        assert_int_equal(used(), 1);
        wr_flows_expire(&flows, now + WR_HOUR / 2 + rows[i].linger);
        assert_int_equal(used(), 0);
    }
}

static void another_port_is_another_session(void **state)
{
    (void)state;
    struct wr_flow *f;
    assert_int_equal(begin(1, 4001, true, T0, &f), 0);
    assert_int_equal(begin(1, 4002, true, T0, &f), 0);
    assert_int_equal(begin(1, 4001, false, T0, &f), 0);
    assert_int_equal(begin(2, 4001, true, T0, &f), 0);
    assert_int_equal(used(), 4);
    /* One that lingers is taken up again, at no cost. */
    wr_flows_end(&flows, f, true, T0);
    struct wr_addr known = at(2, 4001), unknown = at(2, 4002);
    assert_true(wr_flows_known(&flows, &known, true, T0));
    assert_false(wr_flows_known(&flows, &known, false, T0));
    assert_false(wr_flows_known(&flows, &unknown, true, T0));
    assert_int_equal(begin(2, 4001, true, T0 + WR_SEC, &f), 0);
    wr_flows_expire(&flows, T0 + WR_HOUR);
    assert_int_equal(used(), 4);
}

static void the_ceiling_holds(void **state)
{
    (void)state;
    struct wr_flow *of[48], *more;
    for (unsigned i = 0; i < 48; i++)
        assert_int_equal(begin(i, 4001, true, T0, &of[i]), 0);
    assert_int_equal(begin(48, 4001, true, T0, &more), WR_ELIMIT);
    assert_null(more);
    assert_int_equal(limits.of[WR_LIMIT_SESSIONS].refused, 1);
    assert_int_equal(begin(7, 4001, true, T0, &more), 0);    /* known to the router already */
    wr_flows_end(&flows, more, true, T0);
    assert_false(wr_flows_may_come(&flows, T0));
    wr_flows_end(&flows, of[0], true, T0);
    assert_int_equal(begin(48, 4001, true, T0 + WR_FLOWS_LINGER_UDP - 1, &more), WR_ELIMIT);
    assert_int_equal(begin(48, 4001, true, T0 + WR_FLOWS_LINGER_UDP, &more), 0);
    assert_int_equal(limits.of[WR_LIMIT_SESSIONS].peak, 48);
    /* What comes in is counted and cannot be refused any more. */
    struct wr_addr from = at(99, 1);
    assert_non_null(wr_flows_came(&flows, &from, false, 0));
    assert_int_equal(used(), 49);
}

/* Strangers come from ever new places: a quarter stays ours, and who comes later still gets in. */
static void who_calls_in_leaves_us_a_part(void **state)
{
    (void)state;
    struct wr_flow *came[36], *f;
    for (unsigned i = 0; i < 36; i++) {
        struct wr_addr from = at(1000 + i, 4001);
        assert_true(wr_flows_may_come(&flows, T0));
        came[i] = wr_flows_came(&flows, &from, i % 2, 0);
        assert_non_null(came[i]);
    }
    assert_false(wr_flows_may_come(&flows, T0));    /* all of them are still there */
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(begin(i, 4001, true, T0, &f), 0);
    assert_int_equal(begin(12, 4001, true, T0, &f), WR_ELIMIT);
    assert_int_equal(used(), 48);
    /* One that is over makes room, a handshake that came to nothing before a connection that was, and none of ours. */
    wr_flows_end(&flows, came[1], true, T0);
    wr_flows_end(&flows, came[3], false, T0);
    for (unsigned i = 0; i < 2; i++) {
        struct wr_addr from = at(2000 + i, 4001);
        assert_true(wr_flows_may_come(&flows, T0 + WR_SEC));
        assert_int_equal(used(), 47);
        assert_int_equal(wr_list_empty(&flows.idle[true][1]), true);    /* that of the handshake */
        assert_int_equal(wr_list_empty(&flows.idle[true][2]), i == 1);
        assert_non_null(wr_flows_came(&flows, &from, true, 0));
    }
    assert_false(wr_flows_may_come(&flows, T0 + WR_SEC));
    /* What came over TCP and is closed, the router remembers for seconds only, whatever became of it. */
    for (unsigned i = 0; i < 36; i += 2)
        wr_flows_end(&flows, came[i], false, T0 + WR_SEC);
    uint64_t before = used();
    wr_flows_expire(&flows, T0 + WR_SEC + WR_FLOWS_LINGER_TCP);
    assert_int_equal(used(), before - 18);
}

static void without_a_nat_nothing_is_counted(void **state)
{
    (void)state;
    struct wr_flow *f;
    struct wr_addr to = at(1, 4001);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to, .udp = true}, T0, &f), 0);
    assert_null(f);
    assert_int_equal(used(), 0);
    wr_flows_end(&flows, f, true, T0);
}

static void new_flows_have_a_rate(void **state)
{
    (void)state;
    unsigned begun = 0;
    wr_time now = T0;
    uint64_t rate = limits.of[WR_LIMIT_NEW_FLOWS].max;
    /* Ten seconds of as many as there may be. */
    while (now < T0 + 10 * WR_SEC) {
        wr_time wait = wr_flows_wait(&flows, now);
        if (wait) {
            assert_true(wait > now);
            now = wait;
            continue;
        }
        struct wr_flow *f;
        struct wr_addr to = at(1000 + begun++, 4001);
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, now, &f), 0);
    }
    assert_in_range(begun, 12 * rate - 2, 12 * rate + 2);    /* the burst and ten seconds */
    assert_true(limits.of[WR_LIMIT_NEW_FLOWS].refused > 0);
}

static void a_silent_address_is_left_alone(void **state)
{
    (void)state;
    struct wr_flow *f;
    unsigned tries = 0;
    uint64_t burst = limits.of[WR_LIMIT_SILENT_TRIES].max;
    /* A thousand ports of one address within a minute. */
    for (unsigned i = 0; i < 1000; i++) {
        struct wr_addr to = at(5, (uint16_t)(1000 + i));
        tries += wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0 + i * (WR_MIN / 1001), &f) == 0;
    }
    assert_int_equal(tries, burst);
    assert_int_equal(limits.of[WR_LIMIT_SILENT_TRIES].refused, 1000 - burst);
    /* Others are not concerned, and whoever insists is not. */
    struct wr_addr other = at(6, 4001), same = at(5, 4001);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &other}, T0 + WR_MIN / 2, &f), 0);
    struct wr_flow_ask insist = {.to = &same, .insist = true};
    assert_int_equal(wr_flows_begin(&flows, &insist, T0 + WR_MIN / 2, &f), 0);
    /* Then one a minute. */
    tries = 0;
    for (unsigned i = 0; i < 1200; i++)
        tries += wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &same}, T0 + WR_MIN + i * WR_SEC / 2, &f) == 0;
    assert_in_range(tries, 10, 11);
    /* Somebody is there: all is forgotten. */
    wr_flows_answered(&flows, &same.ip);
    for (unsigned i = 0; i < burst; i++)
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &same}, T0 + WR_HOUR, &f), 0);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &same}, T0 + WR_HOUR, &f), WR_EBACKOFF);
    wr_flows_forgive(&flows);    /* on another network it may answer */
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &same}, T0 + WR_HOUR, &f), 0);
}

/* A node with few new flows a second remembers few silent addresses: so many. */
static unsigned few_addresses(void)
{
    limits.of[WR_LIMIT_NEW_FLOWS].max = 15;
    return 15 * WR_FLOWS_SILENT_EVERY / WR_SEC;
}

static void silent_addresses_are_bounded(void **state)
{
    (void)state;
    struct wr_flow *f;
    unsigned most = few_addresses();
    for (unsigned i = 0; i < 3 * most; i++) {
        struct wr_addr to = at(i, 4001);
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f), 0);
        assert_int_equal(flows.silent.count, i < most ? i + 1 : most);
    }
}

/* Whoever names thousands of other addresses in between does not get us to forget the one that is after. */
static void a_crowd_does_not_hide_a_victim(void **state)
{
    (void)state;
    struct wr_flow *f;
    struct wr_addr victim = at(1, 4001);
    unsigned tries = 0, most = few_addresses();
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 100; i++)
            tries += wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &victim}, T0, &f) == 0;
        for (unsigned i = 0; i < 2 * most; i++) {
            struct wr_addr to = at(1000 + i, 4001);
            (void)wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f);
        }
    }
    assert_int_equal(tries, limits.of[WR_LIMIT_SILENT_TRIES].max);
}

/* Nor when all the others got more, and he is the one that goes: whoever is new may be one that was forgotten. */
static void victims_do_not_push_each_other_out(void **state)
{
    (void)state;
    struct wr_flow *f;
    struct wr_addr victims[2] = {at(1, 4001), at(2, 4001)};
    unsigned tries[2] = {0}, most = few_addresses();
    for (unsigned i = 0; i < 2 * most; i++) {
        struct wr_addr to = at(1000 + i / 2, 4001);
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f), 0);
    }
    for (unsigned i = 0; i < 2000; i++)
        tries[i % 2] += wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &victims[i % 2]}, T0, &f) == 0;
    /* Nor does somebody else's answer make room for a clean sheet. */
    for (unsigned i = 0; i < most / 2; i++) {
        struct wr_addr friend = at(1000 + i, 4001);
        wr_flows_answered(&flows, &friend.ip);
        tries[0] += wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &victims[0]}, T0, &f) == 0;
    }
    assert_in_range(tries[0], 1, limits.of[WR_LIMIT_SILENT_TRIES].max);
    assert_in_range(tries[1], 1, limits.of[WR_LIMIT_SILENT_TRIES].max);
    /* A minute later each may be tried once more, and strangers to them all. */
    struct wr_addr other = at(9, 4001);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &victims[1]}, T0 + WR_MIN, &f), 0);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &other}, T0 + WR_MIN, &f), 0);
}

/* As many dead addresses as there can be new flows, for ten minutes: nobody is held back for others' silence. */
static void a_busy_node_is_not_held_back(void **state)
{
    (void)state;
    struct wr_flow *f;
    unsigned rate = 15;
    (void)few_addresses();
    for (unsigned i = 0; i < 600 * rate; i++) {
        struct wr_addr to = at(1000 + i, 4001);
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0 + i * (WR_SEC / rate), &f), 0);
    }
    assert_in_range(flows.silent_gone, 0, 1);
}

/* In IPv6 a household has more addresses than we could remember. */
static void a_network_of_ipv6_is_one_address(void **state)
{
    (void)state;
    struct wr_flow *f;
    struct wr_addr to = {.ip = {6, {0x2a, 0x01, 0x02, 0x03, 4, 5, 6, 7}}, .port = 4001};
    uint64_t most = limits.of[WR_LIMIT_SILENT_TRIES].max;
    for (unsigned i = 0; i < 2 * most; i++) {
        to.ip.bytes[8 + i % 8] = (uint8_t)(1 + i);
        assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f), i < most ? 0 : WR_EBACKOFF);
    }
    to.ip.bytes[7]++;    /* the next household */
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f), 0);
    to.ip.bytes[7]--;
    wr_flows_answered(&flows, &to.ip);
    assert_int_equal(wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to}, T0, &f), 0);
}

/* Two of our ports towards one address are two entries, whatever became of the first. */
static void a_port_of_its_own_is_a_session_of_its_own(void **state)
{
    (void)state;
    struct wr_flow *f[3];
    struct wr_addr to = at(1, 4001);
    assert_int_equal(begin(1, 4001, false, T0, &f[0]), 0);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(
            wr_flows_begin(&flows, &(struct wr_flow_ask){.to = &to, .nat = true, .apart = true}, T0, &f[i]), 0);
    assert_int_equal(used(), 3);
    for (unsigned i = 0; i < 3; i++)
        wr_flows_end(&flows, f[i], true, T0);
    assert_int_equal(used(), 3);
    wr_flows_expire(&flows, T0 + WR_FLOWS_LINGER_TCP);
    assert_int_equal(used(), 0);
}

/* The same remote, from another port of ours: the router has an entry for each, whoever began it. */
static void another_port_of_ours(void **state)
{
    (void)state;
    struct wr_addr to = at(1, 4001);
    struct wr_flow_ask ask = {.to = &to, .udp = true, .nat = true, .port = 7777};
    struct wr_flow *f[3];
    assert_int_equal(begin(1, 4001, true, T0, &f[0]), 0);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(wr_flows_begin(&flows, &ask, T0, &f[i]), 0);
    assert_int_equal(used(), 2);
    assert_ptr_equal(f[1], f[2]);
    assert_ptr_equal(wr_flows_came(&flows, &to, true, 7777), f[1]);
    assert_ptr_equal(wr_flows_came(&flows, &to, true, 0), f[0]);
    assert_non_null(wr_flows_came(&flows, &to, true, 7778));
    assert_int_equal(used(), 3);
}

/* Sockets that are closed are still in the router's table. */
static void what_is_gone_is_remembered_by_its_heir(void **state)
{
    (void)state;
    struct wr_flows gone;
    struct wr_flow *f;
    wr_flows_init(&gone, &limits, seed);
    struct wr_addr to = at(1, 4001), other = at(2, 4001);
    assert_int_equal(begin(1, 4001, true, T0, &f), 0);    /* the heir leads there as well */
    assert_int_equal(wr_flows_begin(&gone, &(struct wr_flow_ask){.to = &to, .udp = true, .nat = true}, T0, &f), 0);
    wr_flows_end(&gone, f, true, T0);
    assert_int_equal(wr_flows_begin(&gone, &(struct wr_flow_ask){.to = &other, .udp = true, .nat = true}, T0, &f), 0);
    assert_int_equal(used(), 3);
    wr_flows_inherit(&flows, &gone, T0 + WR_SEC);
    wr_flows_clear(&gone);
    assert_int_equal(used(), 3);
    wr_flows_expire(&flows, T0 + WR_SEC + WR_FLOWS_LINGER_SILENT);
    assert_int_equal(used(), 2);
    wr_flows_expire(&flows, T0 + WR_FLOWS_LINGER_UDP);
    assert_int_equal(used(), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_router_of_64),
        TEST(sessions_are_counted_until_the_router_forgets),
        TEST(another_port_is_another_session),
        TEST(the_ceiling_holds),
        TEST(who_calls_in_leaves_us_a_part),
        TEST(without_a_nat_nothing_is_counted),
        TEST(new_flows_have_a_rate),
        TEST(a_silent_address_is_left_alone),
        TEST(silent_addresses_are_bounded),
        TEST(a_crowd_does_not_hide_a_victim),
        TEST(victims_do_not_push_each_other_out),
        TEST(a_busy_node_is_not_held_back),
        TEST(a_network_of_ipv6_is_one_address),
        TEST(a_port_of_its_own_is_a_session_of_its_own),
        TEST(another_port_of_ours),
        TEST(what_is_gone_is_remembered_by_its_heir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
