/* What stands between a node and the world: one story a row, and the codes that it must yield. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/diagnose.h"

#include <stdio.h>
#include <string.h>

/* A machine at home behind a NAT, everything else in order. */
#define AT_HOME .online = true, .relayed = true
#define PRIVATE .reach4 = WR_REACH_PRIVATE, .relay_wanted = true
#define NAT(map, how) .nat = {.udp = {.mapping = WR_NAT_MAP_##map, .alloc = WR_NAT_ALLOC_##how}}
#define OUTSIDE(a, b, c, d) .mapped = {.family = 4, .bytes = {a, b, c, d}}

static const struct {
    const char *story, *codes;
    struct wr_diagnose_input in;
} stories[] = {
    {"no cable", "offline", {.no_peers = true}},
    {"just started", "learning", {.online = true}},
    {"nobody to ask", "learning no-peers", {.online = true, .no_peers = true}},
    {"on the internet", "public", {.online = true, .public4 = true, .reach4 = WR_REACH_PUBLIC}},
    {"a public address, ports closed", "firewall", {AT_HOME, PRIVATE, .public4 = true}},
    {"seen at its own address, ports closed", "firewall", {AT_HOME, PRIVATE, NAT(NONE, UNKNOWN)}},
    {"seen at its own address, not tried enough yet", "learning", {.online = true, NAT(NONE, PRESERVING)}},
    {"IPv6 alone, ports closed", "firewall",
     {AT_HOME, .reach6 = WR_REACH_PRIVATE, .relay_wanted = true, .global6 = true, .only6 = true}},
    {"IPv6 alone, not known yet", "learning", {AT_HOME, .global6 = true, .only6 = true}},
    {"IPv6 closed, of IPv4 nothing is known yet", "learning",
     {AT_HOME, .reach6 = WR_REACH_PRIVATE, .relay_wanted = true, .global6 = true}},
    {"the usual router", "nat-easy", {AT_HOME, PRIVATE, NAT(EIM, PRESERVING)}},
    {"before the verdict the kind is told", "nat-easy", {.online = true, NAT(EIM, PRESERVING)}},
    {"ports count up", "nat-predictable", {AT_HOME, PRIVATE, NAT(APDM, SEQUENTIAL)}},
    {"ports are kept", "nat-predictable", {AT_HOME, PRIVATE, NAT(ADM, PRESERVING)}},
    {"a port for each peer, nobody knows which", "learning", {AT_HOME, PRIVATE, NAT(APDM, UNKNOWN)}},
    {"ports are drawn", "nat-hard", {AT_HOME, PRIVATE, NAT(APDM, RANDOM)}},
    {"ports are drawn from a block", "nat-hard", {AT_HOME, PRIVATE, NAT(APDM, BLOCK)}},
    {"ports count up on many addresses",
     "nat-hard",
     {AT_HOME,
      PRIVATE,
      .nat = {.udp = {WR_NAT_MAP_APDM, .alloc = WR_NAT_ALLOC_SEQUENTIAL, .pooling = WR_NAT_ANSWER_YES}}}},
    {"only TCP is known", "nat-easy", {AT_HOME, PRIVATE, .nat = {.tcp = {.mapping = WR_NAT_MAP_EIM}}}},
    {"the router opens ports",
     "public mapped",
     {AT_HOME, .reach4 = WR_REACH_PUBLIC, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_MADE,
      OUTSIDE(8, 8, 8, 8)}},
    {"it says so, and it is not so",
     "nat-easy mapping-false",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_MADE, OUTSIDE(8, 8, 8, 8)}},
    {"the provider has a NAT, too",
     "nat-easy carrier-nat",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_MADE, OUTSIDE(100, 64, 0, 1)}},
    {"the last shared address",
     "nat-easy carrier-nat",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_MADE,
      OUTSIDE(100, 127, 255, 255)}},
    {"a router behind a router",
     "nat-easy double-nat",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_MADE, OUTSIDE(192, 168, 0, 2)}},
    {"the router says it is not the last", "nat-easy double-nat", {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .nested = true}},
    {"the router names the carrier", "nat-easy carrier-nat", {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .carrier = true}},
    {"the router refuses",
     "nat-easy mapping-refused",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .mapping = WR_DIAGNOSE_MAPPING_REFUSED}},
    {"no router answers",
     "nat-hard mapping-none",
     {AT_HOME, PRIVATE, NAT(APDM, RANDOM), .mapping = WR_DIAGNOSE_MAPPING_NONE}},
    {"nobody asks for a mapping who needs none",
     "public",
     {.online = true, .public4 = true, .reach4 = WR_REACH_PUBLIC, .mapping = WR_DIAGNOSE_MAPPING_NONE}},
    {"IPv6 alone gets through",
     "public mapping-none",
     {AT_HOME, PRIVATE, .reach6 = WR_REACH_PUBLIC, .global6 = true, NAT(EIM, PRESERVING),
      .mapping = WR_DIAGNOSE_MAPPING_NONE}},
    {"UDP gets nowhere", "nat-easy udp-blocked", {AT_HOME, PRIVATE, NAT(EIM, RANDOM), .udp_blocked = true}},
    {"no relay", "nat-easy no-relay", {.online = true, PRIVATE, NAT(EIM, PRESERVING)}},
    {"the relays are full", "nat-easy no-relay relay-full", {.online = true, PRIVATE, NAT(EIM, PRESERVING), .relay_full = true}},
    {"the owner's relay refuses",
     "learning relay-refused",
     {.online = true, .relay_wanted = false, .relay_refused = true}},
    {"one was full, another holds a place", "nat-easy", {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .relay_full = true}},
    {"a port is somebody else's", "learning port-in-use", {.online = true, .port_in_use = true}},
    {"holes are never punched",
     "nat-easy punch-never",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .punch_failed = WR_DIAGNOSE_PUNCHES}},
    {"holes were punched before",
     "nat-easy",
     {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .punch_failed = 100, .punched = 1}},
    {"one peer could not be reached", "nat-easy", {AT_HOME, PRIVATE, NAT(EIM, PRESERVING), .punch_failed = 3}},
    {"everything at once",
     "nat-hard twin clock-wrong no-peers udp-blocked carrier-nat no-relay",
     {.online = true, PRIVATE, NAT(APDM, RANDOM), .twin = true, .clock_wrong = true, .no_peers = true,
      .udp_blocked = true, .mapping = WR_DIAGNOSE_MAPPING_MADE, OUTSIDE(100, 100, 1, 1)}},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        struct wr_findings found;
        char codes[512] = "";
        wr_diagnose(&stories[i].in, &found);
        for (size_t k = 0; k < found.count; k++) {
            strcat(codes, k ? " " : "");
            strcat(codes, wr_reason_code(found.of[k]));
        }
        if (strcmp(codes, stories[i].codes) != 0)
            fail_msg("%s: %s instead of %s", stories[i].story, codes, stories[i].codes);
    }
}

static void test_layers(void **state)
{
    (void)state;
#define SEEN(a, b, c, d) .external = {.family = 4, .bytes = {a, b, c, d}}
#define HOME(...) .nat = {.udp = {.mapping = WR_NAT_MAP_EIM}, __VA_ARGS__}
    static const struct {
        const char *story, *layers;
        struct wr_diagnose_input in;
    } cases[] = {
        {"nothing is known", "unknown", {.online = true}},
        {"no router says anything", "unknown", {HOME(SEEN(8, 8, 8, 8))}},
        {"seen at our own address", "none", {.nat = {.udp = {.mapping = WR_NAT_MAP_NONE}, SEEN(8, 8, 8, 8)}}},
        {"only TCP is translated",
         "unknown",
         {.nat = {.udp = {.mapping = WR_NAT_MAP_NONE}, .tcp = {.mapping = WR_NAT_MAP_EIM}, SEEN(8, 8, 8, 8)}}},
        {"the router is where peers see us", "one", {HOME(SEEN(8, 8, 8, 8)), OUTSIDE(8, 8, 8, 8)}},
        {"so it says, and nobody has seen us", "unknown", {OUTSIDE(8, 8, 8, 8)}},
        {"it names another public address", "unknown", {HOME(SEEN(8, 8, 8, 8)), OUTSIDE(8, 8, 8, 9)}},
        {"it names the carrier's", "two-or-more", {HOME(SEEN(8, 8, 8, 8)), OUTSIDE(100, 64, 0, 1)}},
        {"it names a private one", "two-or-more", {HOME(SEEN(8, 8, 8, 8)), OUTSIDE(192, 168, 0, 2)}},
        {"it says it has none", "two-or-more", {HOME(SEEN(8, 8, 8, 8)), .nested = true}},
        {"it told the carrier's, and maps nothing", "two-or-more", {HOME(SEEN(8, 8, 8, 8)), .carrier = true}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *got = wr_diagnose_layers_name(wr_diagnose_layers(&cases[i].in));
        if (strcmp(got, cases[i].layers) != 0)
            fail_msg("%s: %s instead of %s", cases[i].story, got, cases[i].layers);
    }
}

/* Codes are what scripts match: one each, of small letters. */
static void test_codes_are_codes(void **state)
{
    (void)state;
    for (int i = 0; i < WR_REASON_COUNT; i++) {
        const char *code = wr_reason_code((enum wr_reason)i);
        assert_int_equal(strspn(code, "abcdefghijklmnopqrstuvwxyz-"), strlen(code));
        assert_true(strlen(wr_reason_text((enum wr_reason)i)) > 0);
        assert_non_null(wr_reason_hint((enum wr_reason)i));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(code, wr_reason_code((enum wr_reason)k));
    }
}

/* What is not as it should be names the next step. */
static void test_every_complaint_has_a_next_step(void **state)
{
    static const enum wr_reason fine[] = {WR_REASON_DIRECT,  WR_REASON_LAN,    WR_REASON_CONNECTED, WR_REASON_OVERTAKEN,
                                          WR_REASON_PUNCHED, WR_REASON_PUBLIC, WR_REASON_NAT_EASY,  WR_REASON_MAPPED};
    (void)state;
    for (int i = 0; i < WR_REASON_COUNT; i++) {
        bool is_fine = false;
        for (size_t k = 0; k < sizeof(fine) / sizeof(fine[0]); k++)
            is_fine |= fine[k] == (enum wr_reason)i;
        if (is_fine != (strlen(wr_reason_hint((enum wr_reason)i)) == 0))
            fail_msg("%s: '%s'", wr_reason_code((enum wr_reason)i), wr_reason_hint((enum wr_reason)i));
    }
}

/* An address that the filter left out is told from one that the system has no way to. */
static void test_reasons_of_dials(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        int err;
        enum wr_reason_dial how;
        enum wr_reason reason;
    } dials[] = {
        {"/ip4/192.168.1.2/tcp/1", WR_EUNREACH, WR_REASON_REFUSED_BY_US, WR_REASON_PRIVATE_ADDRESS},
        {"/ip4/192.168.1.2/tcp/1", WR_EUNREACH, WR_REASON_BEGUN, WR_REASON_NO_ROUTE},
        {"/ip6/2600::1/tcp/1", WR_EUNREACH, WR_REASON_REFUSED_BY_US, WR_REASON_NO_ROUTE},
        {"/dns4/a.example/tcp/1", WR_ENOTFOUND, WR_REASON_REFUSED_BY_US, WR_REASON_NO_ADDRESS},
        {"/ip4/8.8.8.8/tcp/1", WR_ETIMEOUT, WR_REASON_BEGUN, WR_REASON_NO_ANSWER},
        {"/ip4/8.8.8.8/tcp/1", WR_EREFUSED, WR_REASON_BEGUN, WR_REASON_NOT_LISTENING},
        {"/ip4/8.8.8.8/tcp/1", WR_EPEERID, WR_REASON_BEGUN, WR_REASON_WRONG_PEER},
        {"/ip4/8.8.8.8/tcp/1", WR_ECLOSED, WR_REASON_BEGUN, WR_REASON_BROKEN_OFF},
        {"/ip4/8.8.8.8/tcp/1", WR_EGATED, WR_REASON_REFUSED_BY_US, WR_REASON_BLOCKED},
        {"/ip4/8.8.8.8/tcp/1", WR_EBACKOFF, WR_REASON_REFUSED_BY_US, WR_REASON_FAILED_RECENTLY},
        {"/ip4/8.8.8.8/tcp/1", WR_ENOFD, WR_REASON_REFUSED_BY_US, WR_REASON_OUT_OF_ROOM},
        {"/ip4/8.8.8.8/tcp/1", 0, WR_REASON_BEGUN, WR_REASON_CONNECTED},
#define RELAY "/ip4/8.8.8.8/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
        {RELAY, 0, WR_REASON_BEGUN, WR_REASON_CONNECTED},
        {RELAY, WR_EFULL, WR_REASON_BEGUN, WR_REASON_RELAY_FULL},
        {RELAY, WR_EPERM, WR_REASON_BEGUN, WR_REASON_RELAY_REFUSED},
        {RELAY, WR_EUNREACH, WR_REASON_BEGUN, WR_REASON_RELAY_FAILED},
        {RELAY, WR_ENOTFOUND, WR_REASON_BEGUN, WR_REASON_NO_RESERVATION},
        {RELAY, WR_EUNSUPPORTED, WR_REASON_BEGUN, WR_REASON_NOT_A_RELAY},
        {RELAY, WR_EREFUSED, WR_REASON_BEGUN, WR_REASON_RELAY_UNREACHABLE},
        {RELAY, WR_ETIMEOUT, WR_REASON_BEGUN, WR_REASON_RELAY_UNREACHABLE},
        {RELAY, WR_EPEERID, WR_REASON_BEGUN, WR_REASON_WRONG_PEER},
        {RELAY, WR_EBACKOFF, WR_REASON_REFUSED_BY_US, WR_REASON_FAILED_RECENTLY},
        {"/ip4/8.8.8.8/tcp/1", WR_ETIMEOUT, WR_REASON_ACCEPTED, WR_REASON_SILENT},
    };
    for (size_t i = 0; i < sizeof(dials) / sizeof(dials[0]); i++) {
        struct wr_maddr addr;
        assert_int_equal(wr_maddr_parse(dials[i].addr, &addr), 0);
        enum wr_reason got = wr_reason_of_dial(wr_maddr_bytes(&addr), dials[i].err, dials[i].how);
        assert_string_equal(wr_reason_code(got), wr_reason_code(dials[i].reason));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_codes_are_codes),
        cmocka_unit_test(test_every_complaint_has_a_next_step),
        cmocka_unit_test(test_reasons_of_dials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
