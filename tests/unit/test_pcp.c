/* Packets of PCP and NAT-PMP, laid out by hand after the RFCs, and every truncation and one-byte change of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/natpmp.h"
#include "autonat/pcp.h"
#include "autonat/upnp.h"
#include "transport/err.h"

#include <string.h>

static const struct wr_ip CLIENT = {4, {192, 168, 1, 10}};

/* RFC 6887 section 7.1 and 11.1. */
static const uint8_t MAP_REQUEST[60] = {
    2, 1, 0, 0, 0, 0, 0x1c, 0x20,                                     /* version, MAP, lifetime 7200 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 10,        /* client */
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,                            /* nonce */
    17, 0, 0, 0, 0x0f, 0xa1, 0x0f, 0xa2,                              /* UDP, 4001, suggested 4002 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0,             /* any IPv4 address */
};

static const uint8_t MAP_ANSWER[60] = {
    2, 0x81, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 99,                     /* granted for 3600 s, epoch 99 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    6, 0, 0, 0, 0x0f, 0xa1, 0x13, 0x88,                               /* TCP, 4001, outside 5000 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 11, 1, 0, 2,
};

static void pcp_requests(void **state)
{
    (void)state;
    uint8_t out[WR_PCP_ASK_MAX];
    struct wr_pcp_map map = {.nonce = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, .udp = true, .internal = 4001,
                             .outside = 4002};
    assert_int_equal(wr_pcp_ask_map(out, &CLIENT, &map, 7200), 60);
    assert_memory_equal(out, MAP_REQUEST, 60);
    assert_int_equal(wr_pcp_ask_announce(out, &CLIENT), 24);
    assert_int_equal(out[1], 0);
    assert_memory_equal(out + 8, MAP_REQUEST + 8, 16);
    /* A pinhole: addresses as they are, "any" is ::. */
    struct wr_ip six = {6, {0x3f, 0xfe, 0x0b, 0x17, [15] = 0x10}};
    uint8_t zero[16] = {0};
    assert_int_equal(wr_pcp_ask_map(out, &six, &map, 0), 60);
    assert_memory_equal(out + 8, six.bytes, 16);
    assert_memory_equal(out + 44, zero, 16);
    assert_memory_equal(out + 4, zero, 4);
    map.external = six;
    wr_pcp_ask_map(out, &six, &map, 0);
    assert_memory_equal(out + 44, six.bytes, 16);
}

static void pcp_answers(void **state)
{
    (void)state;
    struct wr_pcp_answer a;
    uint8_t copy[64];
    assert_int_equal(wr_pcp_decode(WR_BYTES(MAP_ANSWER, 60), &a), 0);
    assert_true(a.map && !a.mapping.udp);
    assert_int_equal(a.result, WR_PCP_OK);
    assert_int_equal(a.lifetime, 3600);
    assert_int_equal(a.epoch, 99);
    assert_int_equal(a.mapping.internal, 4001);
    assert_int_equal(a.mapping.outside, 5000);
    assert_memory_equal(a.mapping.nonce, MAP_REQUEST + 24, WR_PCP_NONCE);
    assert_true(wr_ip_equal(&a.mapping.external, &(struct wr_ip){4, {11, 1, 0, 2}}));
    /* Options follow: skipped. */
    memcpy(copy, MAP_ANSWER, 60);
    memset(copy + 60, 0, 4);
    assert_int_equal(wr_pcp_decode(WR_BYTES(copy, 64), &a), 0);
    copy[3] = WR_PCP_ADDRESS_MISMATCH;
    assert_int_equal(wr_pcp_decode(WR_BYTES(copy, 60), &a), 0);
    assert_int_equal(a.result, WR_PCP_ADDRESS_MISMATCH);
    copy[1] = 0x80;    /* ANNOUNCE */
    assert_int_equal(wr_pcp_decode(WR_BYTES(copy, 24), &a), 0);
    assert_false(a.map);
    copy[0] = 0;
    assert_int_equal(wr_pcp_decode(WR_BYTES(copy, 24), &a), WR_EUNSUPPORTED);
    assert_int_equal(wr_pcp_decode(WR_BYTES(MAP_REQUEST, 60), &a), WR_EPROTO);    /* a request is no answer */
}

static void damaged_pcp_answers(void **state)
{
    (void)state;
    static uint8_t big[WR_PCP_PACKET_MAX + 4];
    struct wr_pcp_answer a;
    for (size_t len = 0; len < 60; len++)
        assert_true(wr_pcp_decode(WR_BYTES(MAP_ANSWER, len), &a) < 0);
    for (size_t i = 0; i < 60; i++)
        for (unsigned v = 0; v < 256; v++) {
            uint8_t copy[60];
            memcpy(copy, MAP_ANSWER, 60);
            copy[i] = (uint8_t)v;
            int rc = wr_pcp_decode(WR_BYTES(copy, 60), &a);
            if (i == 0)
                assert_int_equal(rc, v == 2 ? 0 : WR_EUNSUPPORTED);
            else if (i == 1)
                assert_int_equal(rc, v == 0x81 || v == 0x80 ? 0 : WR_EPROTO);
            else if (i == 36)
                assert_int_equal(rc, v == 6 || v == 17 ? 0 : WR_EPROTO);
            else
                assert_int_equal(rc, 0);
        }
    memcpy(big, MAP_ANSWER, 60);
    assert_int_equal(wr_pcp_decode(WR_BYTES(big, WR_PCP_PACKET_MAX), &a), 0);
    assert_int_equal(wr_pcp_decode(WR_BYTES(big, WR_PCP_PACKET_MAX + 4), &a), WR_EPROTO);
    assert_int_equal(wr_pcp_decode(WR_BYTES(big, 62), &a), WR_EPROTO);    /* not a multiple of 4 */
}

/* RFC 6886 sections 3.2 and 3.3. */
static void natpmp_packets(void **state)
{
    (void)state;
    static const uint8_t ask[] = {0, 1, 0, 0, 0x0f, 0xa1, 0x0f, 0xa2, 0, 0, 0x1c, 0x20};
    static const uint8_t map[] = {0, 130, 0, 0, 0, 0, 0, 99, 0x0f, 0xa1, 0x13, 0x88, 0, 0, 0x0e, 0x10};
    static const uint8_t address[] = {0, 128, 0, 0, 0, 0, 0, 99, 11, 1, 0, 2};
    static const uint8_t old[] = {0, 128, 0, 1, 0, 0, 0, 99};
    uint8_t out[WR_NATPMP_ASK_MAX];
    struct wr_natpmp_answer a;
    assert_int_equal(wr_natpmp_ask_map(out, true, 4001, 4002, 7200), sizeof(ask));
    assert_memory_equal(out, ask, sizeof(ask));
    assert_int_equal(wr_natpmp_ask_map(out, false, 4001, 0, 0), sizeof(ask));
    assert_int_equal(out[1], 2);
    assert_int_equal(wr_natpmp_ask_address(out), 2);
    assert_int_equal(out[0] | out[1], 0);
    assert_int_equal(wr_natpmp_decode(WR_BYTES(map, sizeof(map)), &a), 0);
    assert_true(a.map && !a.udp && a.internal == 4001 && a.outside == 5000 && a.lifetime == 3600 && a.epoch == 99);
    assert_int_equal(wr_natpmp_decode(WR_BYTES(address, sizeof(address)), &a), 0);
    assert_true(!a.map && wr_ip_equal(&a.external, &(struct wr_ip){4, {11, 1, 0, 2}}));
    assert_int_equal(wr_natpmp_decode(WR_BYTES(old, sizeof(old)), &a), 0);
    assert_int_equal(a.result, WR_NATPMP_VERSION);
    for (size_t len = 0; len < sizeof(map); len++)
        assert_int_equal(wr_natpmp_decode(WR_BYTES(map, len), &a), WR_EPROTO);
    for (size_t len = 0; len < sizeof(address); len++)
        assert_int_equal(wr_natpmp_decode(WR_BYTES(address, len), &a), WR_EPROTO);
    for (size_t len = 0; len < sizeof(old); len++)
        assert_int_equal(wr_natpmp_decode(WR_BYTES(old, len), &a), WR_EPROTO);
    assert_int_equal(wr_natpmp_decode(WR_BYTES(ask, sizeof(ask)), &a), WR_EPROTO);
}

/* What AddPortMapping's errors lead to. */
static void upnp_errors(void **state)
{
    (void)state;
    struct wr_upnp_port p = {.internal = 4001, .outside = 4001, .spare = 23456, .lifetime = 7200};
    assert_true(wr_upnp_adapt(&p, 725));
    assert_int_equal(p.lifetime, 0);
    assert_false(wr_upnp_adapt(&p, 725));    /* what more could it want */
    assert_true(wr_upnp_adapt(&p, 718));
    assert_int_equal(p.outside, 23456);
    assert_false(wr_upnp_adapt(&p, 718));
    assert_true(wr_upnp_adapt(&p, 724));
    assert_int_equal(p.outside, 4001);
    assert_false(wr_upnp_adapt(&p, 724));
    p.lifetime = 7200;
    assert_true(wr_upnp_adapt(&p, 402));
    assert_false(wr_upnp_adapt(&p, 606));
    assert_false(wr_upnp_adapt(&p, 501));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pcp_requests),
        cmocka_unit_test(pcp_answers),
        cmocka_unit_test(damaged_pcp_answers),
        cmocka_unit_test(natpmp_packets),
        cmocka_unit_test(upnp_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
