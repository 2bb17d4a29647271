/* Which addresses are named to a peer, as a table: NAT and attempt to list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dcutr/plan.h"

#include <stdio.h>
#include <string.h>

#define NOW (100 * WR_SEC)

struct own {
    const char *addr;
    enum wr_addr_source source;
    enum wr_addr_verdict verdict;
};

/* What a node behind a NAT at 93.0.0.9 has in its book. */
static const struct own home[] = {
    {"/ip4/192.168.1.2/tcp/4001", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
    {"/ip4/192.168.1.2/udp/4001/quic-v1", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
    {"/ip4/93.0.0.9/tcp/5001", WR_ADDR_OBSERVED, WR_ADDR_UNREACHABLE},
    {"/ip4/93.0.0.9/udp/5001/quic-v1", WR_ADDR_CANDIDATE, WR_ADDR_UNKNOWN},
    {"/ip4/127.0.0.1/tcp/4001", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
    {"/ip4/44.0.0.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
     WR_ADDR_RELAYED, WR_ADDR_REACHABLE},
};

/* The same where UDP is blocked. */
static const struct own no_udp[] = {
    {"/ip4/192.168.1.2/tcp/4001", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
    {"/ip4/192.168.1.2/udp/4001/quic-v1", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
    {"/ip4/93.0.0.9/tcp/5001", WR_ADDR_CANDIDATE, WR_ADDR_UNKNOWN},
};

static const struct own mapped[] = {
    {"/ip4/93.0.0.9/udp/5001/quic-v1", WR_ADDR_CANDIDATE, WR_ADDR_UNKNOWN},
    {"/ip4/93.0.0.9/udp/6001/quic-v1", WR_ADDR_MAPPED, WR_ADDR_UNKNOWN},
    {"/ip4/93.0.0.9/tcp/6001", WR_ADDR_MAPPED, WR_ADDR_REACHABLE},
    {"/ip4/100.64.0.3/tcp/6001", WR_ADDR_MAPPED, WR_ADDR_UNKNOWN},
    {"/ip6/2a00::5/udp/4001/quic-v1", WR_ADDR_LISTEN, WR_ADDR_UNKNOWN},
};

#define COUNTING(port, by) \
    {.mapping = WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_SEQUENTIAL, .step = (by), .last_port = (port), .last_port_at = NOW}
#define KEEPING {.mapping = WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_PRESERVING}
#define CHANCE {.mapping = WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_RANDOM, .filtering = WR_NAT_FILTER_APDF}

static const struct plan_case {
    const char *name;
    const struct own *own;
    size_t count;
    struct wr_nat_kind udp, tcp;
    unsigned attempt;
    bool same;
    bool dial_tcp, dial_quic;
    enum wr_plan_trick trick;
    const char *want;    /* protocol letter and port, in order; v6 in brackets */
} cases[] = {
    {"nothing known", home, 6, {0}, {0}, 0, false, true, true, WR_PLAN_PLAIN, "t5001 q5001"},
    {"one port for all", home, 6, {.mapping = WR_NAT_MAP_EIM}, {.mapping = WR_NAT_MAP_EIM}, 0, false, true, true,
     WR_PLAN_PLAIN, "t5001 q5001"},
    {"no neighbours at first", home, 6, {0}, {0}, 0, true, true, true, WR_PLAN_PLAIN, "t5001 q5001"},
    {"neighbours later", home, 6, {0}, {0}, 1, true, true, true, WR_PLAN_SITE, "t5001 q5001 t4001! q4001!"},
    {"strangers never", home, 6, {0}, {0}, 2, false, true, true, WR_PLAN_PLAIN, "t5001 q5001"},
    {"best first", mapped, 5, {0}, {0}, 0, false, true, true, WR_PLAN_PLAIN, "t6001 q6001 q[4001] q5001"},
    {"the carrier's inside", mapped, 5, {0}, {0}, 1, true, true, true, WR_PLAN_SITE,
     "t6001 q6001 q[4001] q5001 t6001!"},
    {"kept ports", home, 6, KEEPING, KEEPING, 0, false, true, true, WR_PLAN_PREDICT, "t4001 q4001 t5001 q5001"},
    {"counting both, QUIC first", home, 6, COUNTING(5001, 1), COUNTING(5001, 1), 0, false, false, true,
     WR_PLAN_PREDICT, "q5002 q5003 q5004 q5005 q5006 q5007 q5008 q5009"},
    {"counting both, then TCP", home, 6, COUNTING(5001, 1), COUNTING(5001, 2), 1, false, true, false,
     WR_PLAN_PREDICT, "t5003 t5005 t5007 t5009"},
    {"counting both, further on", home, 6, COUNTING(5001, 1), COUNTING(5001, 1), 2, false, false, true,
     WR_PLAN_PREDICT, "q5002 q5003 q5004 q5005 q5010 q5011 q5012 q5013"},
    {"counting, and no UDP", no_udp, 3, {0}, COUNTING(5001, 1), 0, false, true, false, WR_PLAN_PREDICT,
     "t5002 t5003 t5004 t5005"},
    {"counting, and no UDP, further on", no_udp, 3, {0}, COUNTING(5001, 1), 2, false, true, false, WR_PLAN_PREDICT,
     "t5002 t5003 t5006 t5007"},
    {"counting down", home, 6, COUNTING(1026, -1), {0}, 0, false, false, true, WR_PLAN_PREDICT, "q1025 q1024"},
    {"a mapping beside", mapped, 5, COUNTING(5001, 1), {0}, 0, false, true, true, WR_PLAN_PREDICT,
     "t6001 q6001 q[4001] q5002 q5003 q5004 q5005 q5006 q5007"},
    {"chance", home, 6, CHANCE, CHANCE, 0, false, true, true, WR_PLAN_PLAIN, "t5001 q5001"},
    {"stale", home, 6,
     {.mapping = WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_SEQUENTIAL, .step = 1, .last_port = 5001,
      .last_port_at = NOW - WR_PLAN_STALE},
     {0}, 0, false, true, true, WR_PLAN_PLAIN, "t5001 q5001"},
};

static size_t fill(struct wr_own_addr *book, const struct own *own, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        book[i] = (struct wr_own_addr){.source = own[i].source, .verdict = own[i].verdict};
        assert_int_equal(wr_maddr_parse(own[i].addr, &book[i].addr), 0);
    }
    return count;
}

static void print(const struct wr_plan *p, char *out, size_t size)
{
    size_t len = 0;
    out[0] = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&p->addrs[i]);
        struct wr_addr a;
        assert_true(wr_maddr_addr(ma, &a));
        bool private = wr_ip_classify(&a.ip) == WR_IP_PRIVATE, v6 = a.ip.family == 6;
        len += (size_t)snprintf(out + len, size - len, "%s%c%s%u%s%s", i ? " " : "",
                                wr_maddr_kind(ma) == WR_MADDR_QUIC ? 'q' : 't', v6 ? "[" : "", a.port, v6 ? "]" : "",
                                private ? "!" : "");
    }
}

static struct wr_plan_input input(const struct plan_case *c, struct wr_own_addr *book, struct wr_nat *nat)
{
    *nat = (struct wr_nat){.udp = c->udp, .tcp = c->tcp, .external = {4, {93, 0, 0, 9}}};
    return (struct wr_plan_input){.own = book, .count = fill(book, c->own, c->count), .nat = nat,
                                  .attempt = c->attempt, .same_external = c->same, .now = NOW};
}

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct plan_case *c = &cases[i];
        struct wr_own_addr book[8];
        struct wr_nat nat;
        struct wr_plan p;
        struct wr_plan_input in = input(c, book, &nat);
        char got[512];
        wr_plan_make(&in, &p);
        print(&p, got, sizeof(got));
        if (strcmp(got, c->want) != 0 || p.trick != c->trick || p.tcp != c->dial_tcp || p.quic != c->dial_quic)
            fail_msg("%s: %s, not %s; trick %s, dials %s%s", c->name, got, c->want, wr_plan_trick_name(p.trick),
                     p.tcp ? "t" : "", p.quic ? "q" : "");
    }
}

/* Others behind the NAT use ports, too: 20 mappings a second for three seconds. */
static void others_are_reckoned_in(void **state)
{
    (void)state;
    struct plan_case c = {.own = home, .count = 6, .udp = COUNTING(5001, 2)};
    struct wr_own_addr book[8];
    struct wr_nat nat;
    struct wr_plan p;
    struct wr_addr a;
    struct wr_plan_input in = input(&c, book, &nat);
    nat.udp.rate_milli = 20000;
    nat.udp.last_port_at = NOW - 3 * WR_SEC;
    wr_plan_make(&in, &p);
    assert_true(wr_maddr_addr(wr_maddr_bytes(&p.addrs[0]), &a));
    assert_int_equal(a.port, 5001 + 2 * 61);
}

/* Something was sent to the peer before the newest port was taken: its NAT goes on with that mapping. */
static void a_mapping_may_be_there(void **state)
{
    (void)state;
    static const char *const wanted[] = {"q5003 q5005 q5007 q5009 q5011 q5013 q4999 q4997",
                                         "t5002 t5003 t5004 t5005 t5000 t4999",
                                         "q5003 q5005 q5007 q5009 q4999 q4997 q4995 q4993"};
    struct plan_case c = {.own = home, .count = 6, .udp = COUNTING(5001, 2), .tcp = COUNTING(5001, 1)};
    for (c.attempt = 0; c.attempt < 3; c.attempt++) {
        struct wr_own_addr book[8];
        struct wr_nat nat;
        struct wr_plan p;
        struct wr_plan_input in = input(&c, book, &nat);
        char got[512];
        in.met_udp = c.attempt != 1;
        in.met_tcp = c.attempt == 1;
        wr_plan_make(&in, &p);
        print(&p, got, sizeof(got));
        assert_string_equal(got, wanted[c.attempt]);
    }
}

/* A socket that no router has met, in the second attempt; and what was seen of the other one is not named. */
static void a_port_of_its_own(void **state)
{
    (void)state;
    struct plan_case c = {.own = home, .count = 6,
                          .udp = {.mapping = WR_NAT_MAP_EIM, .alloc = WR_NAT_ALLOC_PRESERVING}};
    struct wr_own_addr book[8];
    struct wr_nat nat;
    struct wr_plan p;
    struct wr_plan_input in = input(&c, book, &nat);
    char got[512];
    for (in.attempt = 0; in.attempt < 3; in.attempt++)
        assert_int_equal(wr_plan_wants_port(&in), in.attempt == 1);
    in.attempt = 1;
    in.same_external = true;
    assert_false(wr_plan_wants_port(&in));
    in.same_external = false;
    nat.udp.alloc = WR_NAT_ALLOC_RANDOM;
    assert_false(wr_plan_wants_port(&in));
    nat.udp.alloc = WR_NAT_ALLOC_PRESERVING;
    nat.udp.mapping = WR_NAT_MAP_APDM;
    assert_false(wr_plan_wants_port(&in));
    nat.udp.mapping = WR_NAT_MAP_EIM;
    in.port = 7777;
    wr_plan_make(&in, &p);
    print(&p, got, sizeof(got));
    assert_string_equal(got, "q7777 t5001");
}

/* A port that is too old to reckon with asks for a new one, and so does none. */
static void a_new_port_is_asked_for(void **state)
{
    (void)state;
    struct plan_case c = {.own = home, .count = 6, .udp = COUNTING(5001, 1), .tcp = COUNTING(5001, 1)};
    struct wr_own_addr book[8];
    struct wr_nat nat;
    struct wr_plan p;
    struct wr_plan_input in = input(&c, book, &nat);
    nat.udp.last_port_at = nat.tcp.last_port_at = NOW - WR_PLAN_STALE;
    for (in.attempt = 0; in.attempt < 3; in.attempt++) {
        wr_plan_make(&in, &p);
        assert_true(p.counts && p.tcp && p.quic);
        assert_int_equal(p.counts_udp, in.attempt != 1);
        assert_int_equal(p.trick, WR_PLAN_PLAIN);
    }
    nat.udp.last_port = 0;
    in.attempt = 0;
    wr_plan_make(&in, &p);
    assert_true(p.counts && p.counts_udp);
}

static void full_lists(void **state)
{
    (void)state;
    struct wr_own_addr book[40];
    struct wr_nat nat = {0};
    struct wr_plan p;
    char text[64];
    for (int i = 0; i < 40; i++) {
        book[i] = (struct wr_own_addr){.source = WR_ADDR_CANDIDATE};
        snprintf(text, sizeof(text), i % 4 ? "/ip4/93.0.0.9/tcp/%d" : "/ip4/93.0.0.9/udp/%d/quic-v1", 5000 + i);
        assert_int_equal(wr_maddr_parse(text, &book[i].addr), 0);
    }
    wr_plan_make(&(struct wr_plan_input){.own = book, .count = 40, .nat = &nat, .now = NOW}, &p);
    assert_int_equal(p.count, WR_DCUTR_ADDRS_MAX);
}

static void the_peers_list(void **state)
{
    (void)state;
    struct wr_own_addr book[8];
    struct wr_nat nat;
    struct wr_plan p;
    struct wr_maddr theirs[4];
    struct wr_plan_input in = input(&cases[0], book, &nat);
    wr_plan_make(&in, &p);
    assert_int_equal(wr_maddr_parse("/ip4/93.0.0.8/udp/1/quic-v1", &theirs[0]), 0);
    assert_int_equal(wr_maddr_parse("/ip4/192.168.1.2/tcp/1", &theirs[1]), 0);
    assert_false(wr_plan_same_external(&p, theirs, 2));
    assert_int_equal(wr_maddr_parse("/ip4/93.0.0.9/tcp/1", &theirs[2]), 0);
    assert_true(wr_plan_same_external(&p, theirs, 3));

    struct wr_nat chance = {.udp = CHANCE, .tcp = CHANCE}, easy = {.udp = {.mapping = WR_NAT_MAP_EIM}};
    for (int i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof(text), "/ip4/93.0.0.8/udp/%d/quic-v1", 1000 + 7 * i);
        assert_int_equal(wr_maddr_parse(text, &theirs[i]), 0);
    }
    assert_true(wr_plan_hopeless(&chance, theirs, 3));
    assert_false(wr_plan_hopeless(&chance, theirs, 2));
    assert_false(wr_plan_hopeless(&chance, theirs, 0));
    assert_false(wr_plan_hopeless(&easy, theirs, 3));
    assert_int_equal(wr_maddr_parse("/ip4/93.0.0.8/tcp/1", &theirs[3]), 0);
    assert_false(wr_plan_hopeless(&chance, theirs, 4));    /* TCP may do */
    chance.udp.filtering = WR_NAT_FILTER_ADF;
    assert_false(wr_plan_hopeless(&chance, theirs, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(others_are_reckoned_in),
        cmocka_unit_test(a_mapping_may_be_there),
        cmocka_unit_test(a_port_of_its_own),
        cmocka_unit_test(a_new_port_is_asked_for),
        cmocka_unit_test(full_lists),
        cmocka_unit_test(the_peers_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
