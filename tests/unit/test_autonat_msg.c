/* AutoNAT messages: known bytes, there and back, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/autonat_msg.h"
#include "transport/err.h"

#include <string.h>

static const uint8_t addr_a[] = {4, 1, 2, 3, 4, 6, 0x0f, 0xa1};                /* /ip4/1.2.3.4/tcp/4001 */
static const uint8_t addr_b[] = {4, 9, 8, 7, 6, 0x91, 2, 0x0f, 0xa1, 0xcd, 3}; /* ... udp/4001/quic-v1 */

static void expect(const struct wr_buf *out, const uint8_t *bytes, size_t len)
{
    assert_false(out->full);
    assert_int_equal(out->len, len);
    assert_memory_equal(out->data, bytes, len);
}

/* By the protobuf encoding rules and the .proto files of the specification, field by field. */
static void test_known_bytes(void **state)
{
    (void)state;
    static const uint8_t request[] = {0x0a, 19,                                /* 1 dialRequest */
                                      0x0a, 8,  4, 1, 2, 3, 4, 6, 0x0f, 0xa1,  /* 1 addrs */
                                      0x11, 8,  7, 6, 5, 4, 3, 2, 1};          /* 2 nonce, fixed64 */
    static const uint8_t response[] = {0x12, 6, 0x08, 0xc8, 1, 0x18, 0xc8, 1}; /* OK, OK, index 0 */
    static const uint8_t refused[] = {0x12, 2, 0x08, 101};
    static const uint8_t data_request[] = {0x1a, 4, 0x10, 0xb0, 0xea, 1}; /* 30,000 bytes */
    static const uint8_t data[] = {0x22, 5, 0x0a, 3, 'a', 'b', 'c'};
    static const uint8_t back[] = {0x09, 8, 7, 6, 5, 4, 3, 2, 1};
    struct wr_buf out;
    wr_buf_init(&out, 1024);
    struct wr_autonat_msg m = {.type = WR_AUTONAT_DIAL_REQUEST,
                               .nonce = 0x0102030405060708,
                               .addr_count = 1,
                               .addrs = {WR_BYTES(addr_a, sizeof(addr_a))}};
    wr_autonat_msg_encode(&m, &out);
    expect(&out, request, sizeof(request));
    wr_buf_reset(&out);
    m = (struct wr_autonat_msg){
        .type = WR_AUTONAT_DIAL_RESPONSE, .status = WR_AUTONAT_OK, .dial_status = WR_AUTONAT_DIAL_OK};
    wr_autonat_msg_encode(&m, &out);
    expect(&out, response, sizeof(response));
    wr_buf_reset(&out);
    m = (struct wr_autonat_msg){.type = WR_AUTONAT_DIAL_RESPONSE, .status = WR_AUTONAT_REFUSED};
    wr_autonat_msg_encode(&m, &out);
    expect(&out, refused, sizeof(refused));
    wr_buf_reset(&out);
    m = (struct wr_autonat_msg){.type = WR_AUTONAT_DATA_REQUEST, .bytes = 30000};
    wr_autonat_msg_encode(&m, &out);
    expect(&out, data_request, sizeof(data_request));
    wr_buf_reset(&out);
    m = (struct wr_autonat_msg){.type = WR_AUTONAT_DATA_RESPONSE, .data = WR_BYTES_STR("abc")};
    wr_autonat_msg_encode(&m, &out);
    expect(&out, data, sizeof(data));
    wr_buf_reset(&out);
    wr_autonat_msg_encode_back(0x0102030405060708, &out);
    expect(&out, back, sizeof(back));
    wr_buf_clear(&out);
}

static void test_known_bytes_of_version_1(void **state)
{
    (void)state;
    static const uint8_t dial[] = {0x08, 0,            /* 1 type, written though 0 */
                                   0x12, 16,           /* 2 dial */
                                   0x0a, 14,           /* 1 peer */
                                   0x0a, 2,  'i', 'd', /* 1 id */
                                   0x12, 8,  4,   1,   2, 3, 4, 6, 0x0f, 0xa1}; /* 2 addrs */
    static const uint8_t response[] = {0x08, 1, 0x1a, 12, 0x08, 0, /* 3 response, 1 status OK */
                                       0x1a, 8, 4,    1,  2,    3, 4, 6, 0x0f, 0xa1}; /* 3 addr */
    struct wr_buf out;
    wr_buf_init(&out, 1024);
    struct wr_autonat_v1_msg m = {
        .peer = WR_BYTES_STR("id"), .addr_count = 1, .addrs = {WR_BYTES(addr_a, sizeof(addr_a))}};
    wr_autonat_msg_encode_v1(&m, &out);
    expect(&out, dial, sizeof(dial));
    wr_buf_reset(&out);
    m = (struct wr_autonat_v1_msg){.response = true, .addr = WR_BYTES(addr_a, sizeof(addr_a))};
    wr_autonat_msg_encode_v1(&m, &out);
    expect(&out, response, sizeof(response));
    wr_buf_clear(&out);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct wr_autonat_msg in[] = {
        {.type = WR_AUTONAT_DIAL_REQUEST,
         .nonce = UINT64_MAX,
         .stranger = true,
         .peer = WR_BYTES_STR("someone"),
         .addr_count = 2,
         .addrs = {WR_BYTES(addr_a, sizeof(addr_a)), WR_BYTES(addr_b, sizeof(addr_b))}},
        {.type = WR_AUTONAT_DIAL_RESPONSE, .status = 200, .dial_status = 101, .index = 7, .stranger = true},
        {.type = WR_AUTONAT_DATA_REQUEST, .index = 3, .bytes = 99999},
        {.type = WR_AUTONAT_DATA_RESPONSE, .data = WR_BYTES_STR("")},
        {.type = WR_AUTONAT_DIAL_RESPONSE},
    };
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
        struct wr_autonat_msg m;
        struct wr_buf out;
        wr_buf_init(&out, 1024);
        wr_autonat_msg_encode(&in[i], &out);
        assert_int_equal(wr_autonat_msg_decode(wr_buf_bytes(&out), &m), 0);
        assert_int_equal(m.type, in[i].type);
        assert_true(m.nonce == in[i].nonce && m.stranger == in[i].stranger && m.index == in[i].index);
        assert_true(m.status == in[i].status && m.dial_status == in[i].dial_status);
        assert_true(m.bytes == in[i].bytes && wr_bytes_equal(m.peer, in[i].peer));
        assert_true(wr_bytes_equal(m.data, in[i].data));
        assert_int_equal(m.addr_count, in[i].addr_count);
        for (size_t k = 0; k < m.addr_count; k++)
            assert_true(wr_bytes_equal(m.addrs[k], in[i].addrs[k]));
        wr_buf_clear(&out);
    }
}

static void test_what_is_refused_and_what_skipped(void **state)
{
    (void)state;
    struct wr_autonat_msg m;
    struct wr_autonat_v1_msg v1;
    uint64_t nonce;
    uint32_t status;
    static const uint8_t future[] = {0x2a, 1, 0,                /* field 5 of Message */
                                     0x0a, 4, 0x18, 1, 0x20, 2, /* a request with fields 3 and 4 */
                                     0x32, 0};                  /* field 6 */
    static const uint8_t wrong_wire[] = {0x0a, 2, 0x10, 1};     /* a nonce that is no fixed64 */
    static const uint8_t no_message[] = {0x08, 1};
    static const uint8_t other_type[] = {0x08, 2};
    static const uint8_t no_type[] = {0x12, 0};
    assert_int_equal(wr_autonat_msg_decode(WR_BYTES(future, sizeof(future)), &m), 0);
    assert_int_equal(m.type, WR_AUTONAT_DIAL_REQUEST);
    assert_int_equal(wr_autonat_msg_decode(WR_BYTES(wrong_wire, sizeof(wrong_wire)), &m), WR_EPROTO);
    assert_int_equal(wr_autonat_msg_decode(WR_BYTES(no_message, sizeof(no_message)), &m), WR_EPROTO);
    assert_int_equal(wr_autonat_msg_decode(WR_BYTES_NONE, &m), WR_EPROTO);
    assert_int_equal(wr_autonat_msg_decode_v1(WR_BYTES(other_type, sizeof(other_type)), &v1), WR_EPROTO);
    assert_int_equal(wr_autonat_msg_decode_v1(WR_BYTES(no_type, sizeof(no_type)), &v1), WR_EPROTO);
    /* An empty response is status OK; an empty dial-back is nonce 0, which nobody has. */
    assert_int_equal(wr_autonat_msg_decode_back_response(WR_BYTES_NONE, &status), 0);
    assert_int_equal(status, 0);
    assert_int_equal(wr_autonat_msg_decode_back(WR_BYTES_NONE, &nonce), 0);
}

static void test_lists_are_bounded(void **state)
{
    (void)state;
    struct wr_buf request, whole;
    struct wr_autonat_msg m;
    wr_buf_init(&request, 4096);
    wr_buf_init(&whole, 4096);
    for (int i = 0; i < 2 * WR_AUTONAT_ADDRS; i++) {
        wr_buf_put_u8(&request, 0x0a);
        wr_buf_put_prefixed(&request, WR_BYTES(addr_a, sizeof(addr_a)));
    }
    wr_buf_put_u8(&whole, 0x0a);
    wr_buf_put_prefixed(&whole, wr_buf_bytes(&request));
    assert_int_equal(wr_autonat_msg_decode(wr_buf_bytes(&whole), &m), 0);
    assert_int_equal(m.addr_count, WR_AUTONAT_ADDRS);
    wr_buf_clear(&request);
    wr_buf_clear(&whole);
}

/* Every truncation and every changed byte of a valid message decodes to slices of it, or not at all. */
static void test_damage(void **state)
{
    (void)state;
    struct wr_autonat_msg in = {.type = WR_AUTONAT_DIAL_REQUEST,
                                .nonce = 5,
                                .stranger = true,
                                .peer = WR_BYTES_STR("someone"),
                                .addr_count = 1,
                                .addrs = {WR_BYTES(addr_b, sizeof(addr_b))}};
    struct wr_buf out;
    unsigned good = 0, bad = 0;
    wr_buf_init(&out, 1024);
    wr_autonat_msg_encode(&in, &out);
    for (size_t len = 0; len < out.len; len++) {
        struct wr_autonat_msg m;
        assert_int_equal(wr_autonat_msg_decode(WR_BYTES(out.data, len), &m), WR_EPROTO);
    }
    for (size_t i = 0; i < out.len; i++) {
        for (unsigned flip = 1; flip < 256; flip++) {
            struct wr_autonat_msg m;
            out.data[i] ^= (uint8_t)flip;
            int rc = wr_autonat_msg_decode(wr_buf_bytes(&out), &m);
            assert_true(rc == 0 || rc == WR_EPROTO);
            for (size_t k = 0; rc == 0 && k < m.addr_count; k++)
                assert_true(m.addrs[k].len == 0 || (m.addrs[k].ptr >= out.data &&
                                                    m.addrs[k].ptr + m.addrs[k].len <= out.data + out.len));
            good += rc == 0;
            bad += rc != 0;
            out.data[i] ^= (uint8_t)flip;
        }
    }
    assert_true(good > 0 && bad > 0);
    wr_buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_bytes),       cmocka_unit_test(test_known_bytes_of_version_1),
        cmocka_unit_test(test_there_and_back),    cmocka_unit_test(test_what_is_refused_and_what_skipped),
        cmocka_unit_test(test_lists_are_bounded), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
