/* identify messages: sizes that every reader takes, merging, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "identify/identify_msg.h"
#include "transport/err.h"
#include "transport/varint.h"

#include <stdio.h>
#include <string.h>

static uint8_t key_bytes[36] = {8, 1, 0x12, 32};

static struct wr_bytes bytes(const char *text)
{
    return wr_bytes_cstr(text);
}

static void add_protocol(struct wr_protocols *set, const char *name, bool hidden)
{
    struct wr_protocol p = {.hidden = hidden};
    snprintf(p.name, sizeof(p.name), "%s", name);
    assert_int_equal(wr_protocols_add(set, &p), 0);
}

static void fill_addrs(struct wr_maddr *addrs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[128];
        snprintf(text, sizeof(text),
                 "/ip4/10.0.%zu.%zu/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
                 "/p2p-circuit",
                 i / 256, i % 256);
        assert_int_equal(wr_maddr_parse(text, &addrs[i]), 0);
    }
}

/* Takes the next length-prefixed body off *in. */
static struct wr_bytes body_of(struct wr_bytes *in)
{
    struct wr_reader r;
    wr_reader_init(&r, *in);
    struct wr_bytes body = wr_read_prefixed(&r);
    assert_false(r.bad);
    *in = r.rest;
    return body;
}

static void test_what_goes_in_comes_out(void **state)
{
    (void)state;
    struct wr_protocols set;
    struct wr_maddr addrs[2], observed;
    struct wr_identify_msg m;
    struct wr_buf out;
    wr_protocols_init(&set);
    add_protocol(&set, "/ipfs/ping/1.0.0", false);
    add_protocol(&set, "/secret", true);
    add_protocol(&set, "/ipfs/id/1.0.0", false);
    fill_addrs(addrs, 2);
    assert_int_equal(wr_maddr_parse("/ip4/1.2.3.4/tcp/999", &observed), 0);
    struct wr_identify_self self = {
        .pubkey = WR_BYTES(key_bytes, sizeof(key_bytes)),
        .observed = wr_maddr_bytes(&observed),
        .record = WR_BYTES_STR("record"),
        .agent = "warren/1",
        .protocol_version = "ipfs/0.1.0",
        .addrs = addrs,
        .addr_count = 2,
        .protocols = &set,
    };
    wr_buf_init(&out, 16384);
    wr_identify_encode(&self, &out);
    struct wr_bytes wire = wr_buf_bytes(&out), body = body_of(&wire);
    assert_int_equal(wire.len, 0);
    assert_int_equal(wr_identify_decode(body, &m), 0);
    assert_true(wr_bytes_equal(m.pubkey, self.pubkey));
    assert_true(wr_bytes_equal(m.observed, self.observed));
    assert_true(wr_bytes_equal(m.record, self.record));
    assert_true(wr_bytes_equal(m.agent, bytes("warren/1")));
    assert_true(wr_bytes_equal(m.protocol_version, bytes("ipfs/0.1.0")));
    assert_int_equal(m.addr_count, 2);
    assert_true(wr_bytes_equal(m.addrs[1], wr_maddr_bytes(&addrs[1])));
    assert_int_equal(m.protocol_count, 2);
    assert_true(wr_bytes_equal(m.protocols[0], bytes("/ipfs/ping/1.0.0")));
    assert_true(wr_bytes_equal(m.protocols[1], bytes("/ipfs/id/1.0.0")));
    wr_buf_clear(&out);
    wr_protocols_clear(&set);
}

/* The bytes of a small message by the protobuf encoding rules, field by field. */
static void test_known_bytes(void **state)
{
    (void)state;
    static const uint8_t wire[] = {
        0x2d,                                                       /* 45 bytes follow */
        0x0a, 0x04, 8, 1, 0x12, 0,                                  /* 1 publicKey (cut short) */
        0x1a, 0x05, '/', 'a', '/', '1', '0',                        /* 3 protocols */
        0x22, 0x08, 4, 1, 2, 3, 4, 6, 0x0f, 0xa1,                   /* 4 observedAddr */
        0x2a, 0x02, 'v', '1', 0x32, 0x02, 'w', '1',                 /* 5, 6 versions */
        0x12, 0x08, 4, 9, 8, 7, 6, 6, 0x0f, 0xa1,                   /* 2 listenAddrs */
        0x42, 0x02, 0xaa, 0xbb,                                     /* 8 signedPeerRecord */
    };
    struct wr_protocols set;
    struct wr_maddr addr, observed;
    struct wr_buf out;
    wr_protocols_init(&set);
    add_protocol(&set, "/a/10", false);
    assert_int_equal(wr_maddr_parse("/ip4/9.8.7.6/tcp/4001", &addr), 0);
    assert_int_equal(wr_maddr_parse("/ip4/1.2.3.4/tcp/4001", &observed), 0);
    struct wr_identify_self self = {
        .pubkey = WR_BYTES("\x08\x01\x12\x00", 4),
        .observed = wr_maddr_bytes(&observed),
        .record = WR_BYTES("\xaa\xbb", 2),
        .agent = "w1",
        .protocol_version = "v1",
        .addrs = &addr,
        .addr_count = 1,
        .protocols = &set,
    };
    wr_buf_init(&out, 1024);
    wr_identify_encode(&self, &out);
    assert_int_equal(out.len, sizeof(wire));
    assert_memory_equal(out.data, wire, sizeof(wire));
    wr_buf_clear(&out);
    wr_protocols_clear(&set);
}

static void test_the_record_goes_where_readers_find_it(void **state)
{
    (void)state;
    static const uint8_t record[3000];
    struct wr_protocols set;
    struct wr_maddr addrs[30];
    wr_protocols_init(&set);
    fill_addrs(addrs, 30);
    assert_int_equal(WR_IDENTIFY_JOINT_MAX, 2048);    /* go-libp2p: the oldest of its readers take no more */
    assert_int_equal(WR_IDENTIFY_FIRST_MAX, 4096);    /* rust-libp2p reads no more */
    /* Every size around the border: one message up to 2048 bytes, else the record alone in a second. */
    for (size_t len = 0; len < sizeof(record); len += 7) {
        struct wr_identify_self self = {
            .pubkey = WR_BYTES(key_bytes, sizeof(key_bytes)),
            .record = WR_BYTES(record, len),
            .agent = "w",
            .protocol_version = "v",
            .addrs = addrs,
            .addr_count = len % 30,
            .protocols = &set,
        };
        struct wr_identify_msg m;
        struct wr_buf out;
        wr_buf_init(&out, 16384);
        wr_identify_encode(&self, &out);
        assert_false(out.full);
        struct wr_bytes wire = wr_buf_bytes(&out), first = body_of(&wire);
        assert_int_equal(wr_identify_decode(first, &m), 0);
        if (wire.len == 0) {
            assert_true(m.record.len == len && (len == 0 || first.len <= WR_IDENTIFY_JOINT_MAX));
        } else {
            assert_true(first.len <= WR_IDENTIFY_FIRST_MAX && m.record.len == 0);
            assert_true(first.len + len + 3 > WR_IDENTIFY_JOINT_MAX);
            struct wr_bytes second = body_of(&wire);
            assert_true(wire.len == 0 && second.len <= WR_IDENTIFY_BODY_MAX);
            assert_int_equal(wr_identify_decode(second, &m), 0);
            assert_true(m.record.len == len && m.pubkey.len == 0 && m.addr_count == 0);
        }
        wr_buf_clear(&out);
    }
    wr_protocols_clear(&set);
}

static void test_the_first_message_never_exceeds_its_bound(void **state)
{
    (void)state;
    struct wr_protocols set;
    struct wr_maddr addrs[200];
    struct wr_identify_msg m;
    struct wr_buf out;
    char text[WR_PROTOCOL_NAME_MAX + 1];
    wr_protocols_init(&set);
    for (int i = 0; i < WR_PROTOCOLS_MAX; i++) {
        snprintf(text, sizeof(text), "/%099d", i);
        add_protocol(&set, text, false);
    }
    fill_addrs(addrs, 200);
    char agent[2000];
    memset(agent, 'a', sizeof(agent) - 1);
    agent[sizeof(agent) - 1] = 0;
    struct wr_identify_self self = {
        .pubkey = WR_BYTES(key_bytes, sizeof(key_bytes)),
        .agent = agent,
        .protocol_version = agent,
        .addrs = addrs,
        .addr_count = 200,
        .protocols = &set,
    };
    size_t fit = wr_identify_fit(&self);
    wr_buf_init(&out, 16384);
    wr_identify_encode(&self, &out);
    struct wr_bytes wire = wr_buf_bytes(&out), body = body_of(&wire);
    assert_true(body.len <= WR_IDENTIFY_FIRST_MAX && wire.len == 0);
    assert_true(body.len > WR_IDENTIFY_FIRST_MAX - 100);
    assert_int_equal(wr_identify_decode(body, &m), 0);
    assert_int_equal(m.addr_count, fit);
    assert_true(fit > 10 && m.protocol_count > 20 && m.agent.len == 128);
    wr_buf_clear(&out);
    wr_protocols_clear(&set);
}

static void put(struct wr_buf *b, unsigned field, const void *data, size_t len)
{
    wr_buf_put_uvarint(b, field << 3 | 2);
    wr_buf_put_prefixed(b, WR_BYTES(data, len));
}

static void test_several_messages_merge(void **state)
{
    (void)state;
    struct wr_buf b;
    struct wr_identify_msg m;
    wr_buf_init(&b, 4096);
    put(&b, 6, "old", 3);
    put(&b, 3, "/a", 2);
    put(&b, 2, "addr1", 5);
    put(&b, 7, "a delta of old", 14);
    /* ... the second body: */
    put(&b, 6, "new", 3);
    put(&b, 3, "/b", 2);
    put(&b, 8, "rec", 3);
    wr_buf_put(&b, "\xa0\x06\x01", 3);    /* field 100, a number: skipped */
    assert_int_equal(wr_identify_decode(wr_buf_bytes(&b), &m), 0);
    assert_true(wr_bytes_equal(m.agent, bytes("new")));
    assert_int_equal(m.protocol_count, 2);
    assert_true(wr_bytes_equal(m.protocols[1], bytes("/b")));
    assert_int_equal(m.addr_count, 1);
    assert_true(wr_bytes_equal(m.record, bytes("rec")));
    wr_buf_clear(&b);
}

static void test_lists_are_capped(void **state)
{
    (void)state;
    struct wr_buf b;
    struct wr_identify_msg m;
    wr_buf_init(&b, 65536);
    for (int i = 0; i < 2000; i++) {
        put(&b, 2, "\x04\x01\x02\x03\x04", 5);
        put(&b, 3, "/p", 2);
    }
    assert_int_equal(wr_identify_decode(wr_buf_bytes(&b), &m), 0);
    assert_int_equal(m.addr_count, WR_IDENTIFY_ADDRS_MAX);
    assert_int_equal(m.protocol_count, WR_IDENTIFY_PROTOCOLS_MAX);
    wr_buf_clear(&b);
}

static bool inside(struct wr_bytes part, const uint8_t *copy, size_t len)
{
    return part.len == 0 || (part.ptr >= copy && part.ptr + part.len <= copy + len);
}

/* Decodes from an exact allocation, so that a sanitizer sees any byte too many, and looks at every slice. */
static int decode_tight(const uint8_t *data, size_t len)
{
    uint8_t *copy = wr_alloc(len);
    struct wr_identify_msg m;
    if (len)
        memcpy(copy, data, len);
    int err = wr_identify_decode(WR_BYTES(copy, len), &m);
    if (err == 0) {
        assert_true(inside(m.pubkey, copy, len) && inside(m.observed, copy, len));
        assert_true(inside(m.record, copy, len) && inside(m.agent, copy, len));
        for (size_t i = 0; i < m.addr_count; i++)
            assert_true(inside(m.addrs[i], copy, len));
        for (size_t i = 0; i < m.protocol_count; i++)
            assert_true(inside(m.protocols[i], copy, len));
    }
    wr_free(copy);
    return err;
}

static void test_damage(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 4096);
    put(&b, 1, key_bytes, sizeof(key_bytes));
    put(&b, 2, "\x04\x01\x02\x03\x04\x06\x0f\xa1", 8);
    put(&b, 3, "/ipfs/id/1.0.0", 14);
    put(&b, 4, "\x04\x01\x02\x03\x04\x06\x0f\xa1", 8);
    put(&b, 6, "agent", 5);
    put(&b, 8, "record", 6);
    size_t refused = 0;
    for (size_t i = 0; i < b.len * 8; i++) {
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        refused += decode_tight(b.data, b.len) < 0;
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(refused > 0);
    for (size_t cut = 0; cut < b.len; cut++)
        decode_tight(b.data, cut);
    assert_int_equal(decode_tight(b.data, b.len - 1), WR_EPROTO);
    assert_int_equal(decode_tight(b.data, b.len), 0);
    /* A field of ours in another wire type. */
    assert_int_equal(decode_tight((const uint8_t *)"\x10\x01", 2), WR_EPROTO);
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_known_bytes),
        cmocka_unit_test(test_the_record_goes_where_readers_find_it),
        cmocka_unit_test(test_the_first_message_never_exceeds_its_bound),
        cmocka_unit_test(test_several_messages_merge),
        cmocka_unit_test(test_lists_are_capped),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
