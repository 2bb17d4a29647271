/* Messages of hole punching: as others write them, bounds of what is sent and taken, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dcutr/dcutr_msg.h"
#include "transport/err.h"

#include <stdio.h>
#include <string.h>

#define SELF "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

static void add(struct wr_dcutr_msg *m, const char *text)
{
    assert_int_equal(wr_maddr_parse(text, &m->addrs[m->count++]), 0);
}

static int round_trip(const struct wr_dcutr_msg *m, struct wr_dcutr_msg *out, size_t *size)
{
    struct wr_buf b;
    wr_buf_init(&b, 1 << 16);
    wr_dcutr_msg_encode(m, &b);
    assert_false(b.full);
    *size = b.len;
    int rc = wr_dcutr_msg_decode(wr_buf_bytes(&b), out);
    wr_buf_clear(&b);
    return rc;
}

/* protoc's text: type: CONNECT ObsAddrs: "/ip4/1.2.3.4/udp/4001/quic-v1"; and type: SYNC. */
static void as_others_write_it(void **state)
{
    static const uint8_t connect[] = {0x08, 0x64, 0x12, 0x0b, 0x04, 1,    2,   3,
                                      4,    0x91, 0x02, 0x0f, 0xa1, 0xcd, 0x03};
    static const uint8_t sync[] = {0x08, 0xac, 0x02};
    struct wr_dcutr_msg m = {.type = WR_DCUTR_CONNECT}, got;
    struct wr_buf b;
    (void)state;
    add(&m, "/ip4/1.2.3.4/udp/4001/quic-v1");
    wr_buf_init(&b, 100);
    wr_dcutr_msg_encode(&m, &b);
    assert_int_equal(b.len, sizeof(connect));
    assert_memory_equal(b.data, connect, sizeof(connect));
    wr_buf_clear(&b);
    assert_int_equal(wr_dcutr_msg_decode(WR_BYTES(sync, sizeof(sync)), &got), 0);
    assert_int_equal(got.type, WR_DCUTR_SYNC);
    assert_int_equal(got.count, 0);
}

static void what_is_taken(void **state)
{
    struct wr_buf b;
    struct wr_dcutr_msg got;
    struct wr_maddr ma;
    static const char *const texts[] = {
        "/ip4/1.2.3.4/tcp/4001/p2p/" SELF, "/ip4/1.2.3.4/tcp/4001/ws",
        "/dns4/example.com/tcp/4001",      "/ip4/1.2.3.4/tcp/4001/p2p/" SELF "/p2p-circuit",
        "/ip4/1.2.3.4/udp/4001",           "/ip6/2a00::1/udp/4001/quic-v1"};
    (void)state;
    wr_buf_init(&b, 4096);
    wr_buf_put_uvarint(&b, 2 << 3 | 2);
    wr_buf_put_prefixed(&b, wr_bytes_cstr("no multiaddr"));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(wr_maddr_parse(texts[i], &ma), 0);
        wr_buf_put_uvarint(&b, 2 << 3 | 2);
        wr_buf_put_prefixed(&b, wr_maddr_bytes(&ma));
    }
    wr_buf_put_uvarint(&b, 4242 << 3 | 2);    /* unknown */
    wr_buf_put_prefixed(&b, wr_bytes_cstr("hints"));
    assert_int_equal(wr_dcutr_msg_decode(wr_buf_bytes(&b), &got), WR_EPROTO);    /* no type */
    wr_buf_put_uvarint(&b, 1 << 3);
    wr_buf_put_uvarint(&b, 100);
    assert_int_equal(wr_dcutr_msg_decode(wr_buf_bytes(&b), &got), 0);
    assert_int_equal(got.count, 2);
    assert_int_equal(wr_maddr_parse("/ip4/1.2.3.4/tcp/4001", &ma), 0);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&ma), wr_maddr_bytes(&got.addrs[0])));
    assert_int_equal(wr_maddr_kind(wr_maddr_bytes(&got.addrs[1])), WR_MADDR_QUIC);
    wr_buf_clear(&b);
}

static void what_is_refused(void **state)
{
    static const uint8_t bad[][4] = {{0x08, 0x65}, {0x08, 0x00}, {0x0a, 0x01, 0x64}, {0x10, 0x01, 0x08, 0x64},
                                     {0x08, 0x64, 0x12, 0x05}};
    static const size_t len[] = {2, 2, 3, 4, 4};
    static uint8_t large[WR_DCUTR_READ_MAX + 1];
    struct wr_dcutr_msg got;
    (void)state;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(wr_dcutr_msg_decode(WR_BYTES(bad[i], len[i]), &got), WR_EPROTO);
    /* An unknown field that fills it, and one byte more than may be. */
    large[0] = 0x08, large[1] = 0x64, large[2] = 0x1a, large[3] = 0xfa, large[4] = 0x1f;
    assert_int_equal(wr_dcutr_msg_decode(WR_BYTES(large, 5 + 0xffa), &got), 0);
    large[3] = 0xfc;
    assert_int_equal(wr_dcutr_msg_decode(WR_BYTES(large, sizeof(large)), &got), WR_EPROTO);
}

/* Eight of each transport at most, and never more bytes than the smallest reader takes. */
static void bounds(void **state)
{
    struct wr_dcutr_msg m = {.type = WR_DCUTR_CONNECT}, got;
    struct wr_buf b;
    char text[128];
    size_t size;
    (void)state;
    /* nim reads so much: 1,024 bytes with the length before them, and eight of each */
    assert_true(WR_DCUTR_SEND_MAX <= 1000 && WR_DCUTR_EACH_MAX <= 8);
    for (int i = 0; i < WR_DCUTR_ADDRS_MAX; i++) {
        snprintf(text, sizeof(text), "/ip6/2a00:1:2:3:4:5:6:%x/tcp/4001", i);
        add(&m, text);
    }
    assert_int_equal(round_trip(&m, &got, &size), 0);
    assert_int_equal(got.count, WR_DCUTR_EACH_MAX);
    assert_true(size <= WR_DCUTR_SEND_MAX);
    m.count = 0;
    for (int i = 0; i < WR_DCUTR_ADDRS_MAX; i++) {
        snprintf(text, sizeof(text), "/ip6/2a00:1:2:3:4:5:6:%x/%s", i,
                 i % 2 ? "tcp/4001" : "udp/4001/quic-v1");
        add(&m, text);
    }
    assert_int_equal(round_trip(&m, &got, &size), 0);
    assert_int_equal(got.count, WR_DCUTR_ADDRS_MAX);
    assert_true(size <= WR_DCUTR_SEND_MAX);
    /* Long ones: the last are left out. */
    for (int i = 0; i < WR_DCUTR_ADDRS_MAX; i++) {
        struct wr_peerid self;
        assert_int_equal(wr_peerid_parse(SELF, &self), 0);
        while (m.addrs[i].len < 150)
            assert_int_equal(wr_maddr_append_peer(&m.addrs[i], &self), 0);
    }
    wr_buf_init(&b, 1 << 16);
    wr_dcutr_msg_encode(&m, &b);
    assert_true(b.len <= WR_DCUTR_SEND_MAX);
    wr_buf_clear(&b);
    /* More than that from others: the first eight of each are taken. */
    wr_buf_init(&b, 1 << 16);
    wr_buf_put_uvarint(&b, 1 << 3);
    wr_buf_put_uvarint(&b, 100);
    for (int i = 0; i < 40; i++) {
        struct wr_maddr ma;
        snprintf(text, sizeof(text), "/ip4/1.2.3.%d/tcp/4001", i);
        assert_int_equal(wr_maddr_parse(text, &ma), 0);
        wr_buf_put_uvarint(&b, 2 << 3 | 2);
        wr_buf_put_prefixed(&b, wr_maddr_bytes(&ma));
    }
    assert_int_equal(wr_dcutr_msg_decode(wr_buf_bytes(&b), &got), 0);
    assert_int_equal(got.count, WR_DCUTR_EACH_MAX);
    wr_buf_clear(&b);
}

/* Every truncation and every changed byte leads to a message within bounds or to a refusal. */
static void damage(void **state)
{
    struct wr_dcutr_msg m = {.type = WR_DCUTR_CONNECT}, got;
    struct wr_buf b;
    unsigned refused = 0;
    (void)state;
    add(&m, "/ip4/1.2.3.4/udp/4001/quic-v1");
    add(&m, "/ip6/2a00::1/tcp/4001");
    wr_buf_init(&b, 1000);
    wr_dcutr_msg_encode(&m, &b);
    for (size_t len = 0; len < b.len; len++)
        refused += wr_dcutr_msg_decode(WR_BYTES(b.data, len), &got) != 0;
    assert_true(refused >= b.len - 3);    /* the type alone, and behind each whole address */
    for (size_t i = 0; i < b.len; i++) {
        uint8_t kept = b.data[i];
        for (unsigned v = 0; v < 256; v++) {
            b.data[i] = (uint8_t)v;
            int rc = wr_dcutr_msg_decode(wr_buf_bytes(&b), &got);
            assert_true(rc == 0 || rc == WR_EPROTO);
            assert_true(got.count <= WR_DCUTR_ADDRS_MAX);
        }
        b.data[i] = kept;
    }
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_others_write_it),
        cmocka_unit_test(what_is_taken),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(bounds),
        cmocka_unit_test(damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
