/* The kind of a NAT from what peers see: generated traces of every kind, with liars, gaps and others'
 * mappings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/natkind.h"

#include <string.h>

#define OWN_PORT 4001

static uint32_t state_of_chance;

static uint32_t chance(uint32_t below)
{
    state_of_chance = state_of_chance * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(state_of_chance >> 4) * below) >> 28);
}

/* A NAT of the textbook. */
struct nat {
    bool none;
    enum { EIM, ADM, APDM } mapping;
    enum { PRESERVING, SEQUENTIAL, BLOCK, RANDOM } alloc;
    int step;
    unsigned others;    /* mappings of others between two of ours, on average */
    unsigned liars;     /* one peer in so many lies; 0: nobody */
    unsigned addresses; /* in its pool; 0: one */
};

struct trace {
    struct wr_natkind k;
    struct wr_nat_kind out;
    wr_time now;
};

static struct wr_addr remote(unsigned i, unsigned port)
{
    return (struct wr_addr){.ip = {4, {(uint8_t)(20 + i % 200), (uint8_t)(i / 200), 7, 1}},
                            .port = (uint16_t)port};
}

static uint16_t allocate(const struct nat *nat, int *next)
{
    switch (nat->alloc) {
    case PRESERVING:
        return OWN_PORT;
    case SEQUENTIAL:
        *next += nat->step * (int)(1 + (nat->others ? chance(2 * nat->others + 1) : 0));
        return (uint16_t)*next;
    case BLOCK:
        return (uint16_t)(20480 + chance(512));
    case RANDOM:
        break;
    }
    return (uint16_t)(1024 + chance(64000));
}

/* `peers` connections, each with `ports` ports of the same peer. */
static void run(struct trace *t, const struct nat *nat, unsigned peers, unsigned ports)
{
    int next = 30000;
    uint16_t port = allocate(nat, &next);
    *t = (struct trace){.now = 100 * WR_SEC};
    for (unsigned i = 0; i < peers; i++) {
        if (nat->mapping == ADM)
            port = allocate(nat, &next);
        for (unsigned k = 0; k < ports; k++) {
            struct wr_natkind_sample s = {.local = {.ip = {4, {192, 168, 1, 9}}, .port = OWN_PORT},
                                          .remote = remote(i, 4001 + k),
                                          .at = t->now};
            if (nat->mapping == APDM)
                port = allocate(nat, &next);
            s.seen = (struct wr_addr){.ip = {4, {9, 9, 9, 9}}, .port = port};
            if (nat->addresses)
                s.seen.ip.bytes[3] = (uint8_t)(9 + chance(nat->addresses));
            if (nat->none)
                s.seen = s.local;
            if (nat->liars && i % nat->liars == nat->liars - 1)
                s.seen =
                    (struct wr_addr){.ip = {4, {6, 6, 6, 6}}, .port = (uint16_t)(1000 + chance(60000))};
            wr_natkind_add(&t->k, &s);
            t->now += WR_SEC;
        }
    }
    (void)wr_natkind_judge(&t->k, t->now, &t->out);
}

static const struct {
    const char *name;
    struct nat nat;
    unsigned peers, ports;
    enum wr_nat_mapping mapping;
    enum wr_nat_alloc alloc;
} mappings[] = {
    {"no NAT", {.none = true}, 4, 1, WR_NAT_MAP_NONE, WR_NAT_ALLOC_PRESERVING},
    {"no NAT, two peers", {.none = true}, 2, 1, WR_NAT_MAP_NONE, WR_NAT_ALLOC_PRESERVING},
    {"no NAT, a liar", {.none = true, .liars = 5}, 10, 1, WR_NAT_MAP_NONE, WR_NAT_ALLOC_PRESERVING},
    {"one peer says nothing", {.mapping = EIM}, 1, 1, WR_NAT_MAP_UNKNOWN, WR_NAT_ALLOC_UNKNOWN},
    {"EIM, own port", {.mapping = EIM}, 4, 1, WR_NAT_MAP_EIM, WR_NAT_ALLOC_PRESERVING},
    {"EIM, other port", {.mapping = EIM, .alloc = RANDOM}, 4, 1, WR_NAT_MAP_EIM, WR_NAT_ALLOC_UNKNOWN},
    {"EIM, two peers", {.mapping = EIM, .alloc = RANDOM}, 2, 1, WR_NAT_MAP_EIM, WR_NAT_ALLOC_UNKNOWN},
    {"EIM, a liar in five",
     {.mapping = EIM, .alloc = RANDOM, .liars = 5},
     10,
     1,
     WR_NAT_MAP_EIM,
     WR_NAT_ALLOC_UNKNOWN},
    {"EIM, a liar in three",
     {.mapping = EIM, .liars = 3},
     3,
     1,
     WR_NAT_MAP_EIM,
     WR_NAT_ALLOC_PRESERVING},
    {"APDM in sequence",
     {.mapping = APDM, .alloc = SEQUENTIAL, .step = 1},
     4,
     1,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"APDM in sequence, three",
     {.mapping = APDM, .alloc = SEQUENTIAL, .step = 1},
     3,
     1,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"APDM, two steps down",
     {.mapping = APDM, .alloc = SEQUENTIAL, .step = -2},
     6,
     1,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"APDM among others",
     {.mapping = APDM, .alloc = SEQUENTIAL, .step = 2, .others = 2},
     16,
     1,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"APDM, a liar in five",
     {.mapping = APDM, .alloc = SEQUENTIAL, .step = 1, .liars = 5},
     10,
     1,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"ADM in sequence",
     {.mapping = ADM, .alloc = SEQUENTIAL, .step = 1},
     6,
     2,
     WR_NAT_MAP_ADM,
     WR_NAT_ALLOC_SEQUENTIAL},
    {"ADM, a liar",
     {.mapping = ADM, .alloc = RANDOM, .liars = 5},
     10,
     2,
     WR_NAT_MAP_ADM,
     WR_NAT_ALLOC_RANDOM},
    {"APDM, two ports each",
     {.mapping = APDM, .alloc = RANDOM},
     6,
     2,
     WR_NAT_MAP_APDM,
     WR_NAT_ALLOC_RANDOM},
    {"APDM, random", {.mapping = APDM, .alloc = RANDOM}, 8, 1, WR_NAT_MAP_APDM, WR_NAT_ALLOC_RANDOM},
    {"APDM, a block", {.mapping = APDM, .alloc = BLOCK}, 16, 1, WR_NAT_MAP_APDM, WR_NAT_ALLOC_BLOCK},
};

static void test_mappings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++) {
        for (unsigned seed = 1; seed <= 20; seed++) {
            struct trace t;
            state_of_chance = seed * 7919;
            run(&t, &mappings[i].nat, mappings[i].peers, mappings[i].ports);
            if (t.out.mapping != mappings[i].mapping || t.out.alloc != mappings[i].alloc)
                print_message("%s, seed %u: mapping %d alloc %d step %d\n", mappings[i].name, seed,
                              t.out.mapping, t.out.alloc, t.out.step);
            assert_int_equal(t.out.mapping, mappings[i].mapping);
            assert_int_equal(t.out.alloc, mappings[i].alloc);
            if (t.out.alloc == WR_NAT_ALLOC_SEQUENTIAL)
                assert_int_equal(t.out.step, mappings[i].nat.step);
        }
    }
}

static void test_ports_and_rate(void **state)
{
    (void)state;
    struct trace t;
    struct nat quiet = {.mapping = APDM, .alloc = SEQUENTIAL, .step = 1};
    struct nat busy = {.mapping = APDM, .alloc = SEQUENTIAL, .step = 1, .others = 3};
    state_of_chance = 5;
    run(&t, &quiet, 8, 1);
    assert_int_equal(t.out.port_lo, 30002); /* 30001 was nobody's */
    assert_int_equal(t.out.port_hi, 30009);
    assert_int_equal(t.out.last_port, 30009);
    assert_true(t.out.last_port_at == t.now - WR_SEC);
    assert_int_equal(t.out.rate_milli, 0);
    assert_int_equal(t.out.samples, 8);
    /* Three mappings of others a second, give or take. */
    run(&t, &busy, 40, 1);
    assert_int_equal(t.out.alloc, WR_NAT_ALLOC_SEQUENTIAL);
    assert_in_range(t.out.rate_milli, 2000, 4000);
}

static void test_pools(void **state)
{
    (void)state;
    struct trace t;
    struct nat one = {.mapping = APDM, .alloc = RANDOM},
               pool = {.mapping = APDM, .alloc = RANDOM, .addresses = 2};
    struct nat liar = {.mapping = EIM, .liars = 5};
    state_of_chance = 9;
    run(&t, &one, 6, 1);
    assert_int_equal(t.out.pooling, WR_NAT_ANSWER_NO);
    run(&t, &pool, 10, 1);
    assert_int_equal(t.out.pooling, WR_NAT_ANSWER_YES);
    pool.addresses = 200; /* hardly anybody sees the same one */
    run(&t, &pool, 5, 1);
    assert_int_equal(t.out.pooling, WR_NAT_ANSWER_YES);
    run(&t, &liar, 10, 1);
    assert_int_not_equal(t.out.pooling, WR_NAT_ANSWER_YES);
    struct wr_ip ip = wr_natkind_external(&t.k, t.now);
    assert_int_equal(ip.bytes[0], 9);
}

static void test_many_peers_of_one_network_are_one(void **state)
{
    (void)state;
    struct trace t;
    struct nat nat = {.mapping = EIM};
    run(&t, &nat, 4, 1);
    for (unsigned i = 0; i < 30; i++) {
        struct wr_natkind_sample s = {.local = {.ip = {4, {192, 168, 1, 9}}, .port = OWN_PORT},
                                      .remote = {.ip = {4, {77, 7, 7, (uint8_t)(1 + i)}}, .port = 4001},
                                      .seen = {.ip = {4, {6, 6, 6, 6}}, .port = (uint16_t)(1000 + 100 * i)},
                                      .at = t.now};
        wr_natkind_add(&t.k, &s);
    }
    (void)wr_natkind_judge(&t.k, t.now, &t.out);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_EIM);
    assert_int_equal(t.out.samples, 5);
    /* Unless there is nobody else. */
    wr_natkind_reset(&t.k);
    for (unsigned i = 0; i < 6; i++) {
        struct wr_natkind_sample s = {
            .local = {.ip = {4, {192, 168, 1, 9}}, .port = OWN_PORT},
            .remote = {.ip = {4, {77, 7, 7, (uint8_t)(1 + i)}}, .port = 4001},
            .seen = {.ip = {4, {9, 9, 9, 9}}, .port = (uint16_t)(5000 + 977 * i * i)},
            .at = t.now + (wr_time)i};
        wr_natkind_add(&t.k, &s);
    }
    (void)wr_natkind_judge(&t.k, t.now + 6, &t.out);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_APDM);
}

/* A mapping that was renewed in between, or many liars: nothing is said. */
static void test_two_halves(void **state)
{
    (void)state;
    struct trace t = {.now = 100 * WR_SEC};
    for (unsigned i = 0; i < 4; i++) {
        struct wr_natkind_sample s = {.local = {.ip = {4, {192, 168, 1, 9}}, .port = OWN_PORT},
                                      .remote = remote(i, 4001),
                                      .seen = {.ip = {4, {9, 9, 9, 9}}, .port = i < 2 ? 5000 : 6000},
                                      .at = t.now + (wr_time)i * WR_SEC};
        wr_natkind_add(&t.k, &s);
    }
    (void)wr_natkind_judge(&t.k, t.now + 4 * WR_SEC, &t.out);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_UNKNOWN);
    /* Another one that agrees with the newer half decides. */
    struct wr_natkind_sample s = t.k.of[3];
    s.remote = remote(9, 4001);
    wr_natkind_add(&t.k, &s);
    s.remote = remote(10, 4001);
    wr_natkind_add(&t.k, &s);
    (void)wr_natkind_judge(&t.k, t.now + 4 * WR_SEC, &t.out);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_EIM);
}

/* A NAT that keeps ports while they are free, and that some peers see another port of: one of them may lie, several
 * do not; and if these agree among themselves the mapping was renewed. */
static void test_kept_ports(void **state)
{
    (void)state;
    static const struct {
        unsigned peers, odd;
        bool agree, liar_elsewhere;
        enum wr_nat_mapping mapping;
    } rows[] = {
        {5, 0, false, false, WR_NAT_MAP_EIM},     {5, 1, false, false, WR_NAT_MAP_UNKNOWN},
        {5, 2, false, false, WR_NAT_MAP_APDM},    {5, 2, true, false, WR_NAT_MAP_UNKNOWN},
        {8, 2, false, false, WR_NAT_MAP_APDM},    {12, 2, false, false, WR_NAT_MAP_UNKNOWN},
        {12, 1, false, false, WR_NAT_MAP_EIM},    {3, 1, false, false, WR_NAT_MAP_UNKNOWN},
        {5, 1, false, true, WR_NAT_MAP_EIM},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct trace t = {.now = 100 * WR_SEC};
        for (unsigned i = 0; i < rows[r].peers; i++) {
            struct wr_natkind_sample s = {.local = {.ip = {4, {192, 168, 1, 9}}, .port = OWN_PORT},
                                          .remote = remote(i, 4001),
                                          .seen = {.ip = {4, {9, 9, 9, 9}}, .port = OWN_PORT},
                                          .at = t.now + (wr_time)i * WR_SEC};
            if (i < rows[r].odd)
                s.seen.port = (uint16_t)(rows[r].agree ? 7000 : 7000 + i);
            if (i < rows[r].odd && rows[r].liar_elsewhere)
                s.seen.ip.bytes[0] = 6;
            wr_natkind_add(&t.k, &s);
        }
        (void)wr_natkind_judge(&t.k, t.now + WR_MIN, &t.out);
        if (t.out.mapping != rows[r].mapping)
            print_message("%u of %u: mapping %d\n", rows[r].odd, rows[r].peers, t.out.mapping);
        assert_int_equal(t.out.mapping, rows[r].mapping);
        assert_int_equal(t.out.alloc, WR_NAT_ALLOC_PRESERVING);
    }
}

/* Sockets of their own: here one NAT mapping each. */
static void test_ports_of_fresh_sockets(void **state)
{
    (void)state;
    struct wr_natkind_sample s[6] = {0};
    struct wr_nat_kind out = {.mapping = WR_NAT_MAP_EIM};
    for (unsigned i = 0; i < 6; i++) {
        s[i].local.port = (uint16_t)(50000 + 31 * i);
        s[i].seen.port = (uint16_t)(20000 - 3 * i);
        s[i].at = (wr_time)(i + 1) * WR_SEC;
    }
    wr_natkind_ports(s, 6, &out);
    assert_true(out.alloc == WR_NAT_ALLOC_SEQUENTIAL && out.step == -3 && out.last_port == 19985);
    assert_int_equal(out.mapping, WR_NAT_MAP_EIM);
    for (unsigned i = 0; i < 6; i++)
        s[i].seen.port = s[i].local.port;
    wr_natkind_ports(s, 6, &out);
    assert_int_equal(out.alloc, WR_NAT_ALLOC_PRESERVING);
    struct wr_nat_kind none = {.mapping = WR_NAT_MAP_EIM};
    wr_natkind_ports(s, 2, &none); /* too few */
    assert_int_equal(none.alloc, WR_NAT_ALLOC_UNKNOWN);
}

static void test_bounds_and_age(void **state)
{
    (void)state;
    struct trace t;
    struct nat nat = {.mapping = APDM, .alloc = RANDOM};
    run(&t, &nat, 3 * WR_NATKIND_SAMPLES, 1);
    assert_int_equal(t.k.count, WR_NATKIND_SAMPLES);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_APDM);
    (void)wr_natkind_judge(&t.k, t.now + WR_NATKIND_AGE, &t.out);
    assert_int_equal(t.out.mapping, WR_NAT_MAP_UNKNOWN);
    assert_int_equal(t.out.samples, 0);
    assert_int_equal(t.out.last_port, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mappings),       cmocka_unit_test(test_ports_and_rate),
        cmocka_unit_test(test_pools),          cmocka_unit_test(test_many_peers_of_one_network_are_one),
        cmocka_unit_test(test_two_halves),     cmocka_unit_test(test_kept_ports),
        cmocka_unit_test(test_ports_of_fresh_sockets),
        cmocka_unit_test(test_bounds_and_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
