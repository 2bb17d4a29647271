/* Slices, readers and buffers: bounds, stickiness, varints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/bytes.h"
#include "transport/err.h"
#include "transport/varint.h"

#include <string.h>

static void test_uvarint_vectors(void **state)
{
    /* multiformats/unsigned-varint README, "Examples", and the 63-bit bound. */
    static const struct {
        uint64_t v;
        size_t len;
        uint8_t bytes[9];
    } vectors[] = {
        {1, 1, {1}},       {127, 1, {0x7f}},         {128, 2, {0x80, 1}},
        {255, 2, {0xff, 1}}, {300, 2, {0xac, 2}},    {16384, 3, {0x80, 0x80, 1}},
        {INT64_MAX, 9, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t out[WR_UVARINT_MAX];
        uint64_t v = 0;
        assert_int_equal(wr_uvarint_encode(vectors[i].v, out), vectors[i].len);
        assert_memory_equal(out, vectors[i].bytes, vectors[i].len);
        assert_int_equal(wr_uvarint_len(vectors[i].v), vectors[i].len);
        assert_int_equal(wr_uvarint_decode(out, vectors[i].len, &v), vectors[i].len);
        assert_true(v == vectors[i].v);
        for (size_t cut = 0; cut < vectors[i].len; cut++)
            assert_int_equal(wr_uvarint_decode(out, cut, &v), 0);
    }
    uint64_t v;
    const uint8_t long_form[] = {0x81, 0x00};
    const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01};
    assert_int_equal(wr_uvarint_decode(long_form, 2, &v), WR_EPROTO);
    assert_int_equal(wr_uvarint_decode(endless, sizeof(endless), &v), WR_EPROTO);
}

static void test_buffer_is_sticky_when_full(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 8);
    wr_buf_put(&b, "12345", 5);
    wr_buf_put(&b, "6789", 4);
    assert_true(b.full);
    wr_buf_put_u8(&b, '!');
    assert_int_equal(b.len, 5);
    wr_buf_reset(&b);
    wr_buf_put(&b, "12345678", 8);
    assert_false(b.full);
    wr_buf_consume(&b, 6);
    assert_memory_equal(b.data, "78", 2);
    wr_buf_clear(&b);
}

static void test_reader_is_sticky_when_bad(void **state)
{
    (void)state;
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES_STR("\x01\x02\x03"));
    assert_int_equal(wr_read_u16be(&r), 0x0102);
    assert_int_equal(wr_read_u32be(&r), 0);
    assert_true(r.bad);
    assert_int_equal(wr_read_u8(&r), 0);
    assert_false(wr_reader_done(&r));
}

static void test_prefixed_round_trip(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 64);
    wr_buf_put_prefixed(&b, WR_BYTES_STR("hello"));
    wr_buf_put_u64be(&b, 0x0102030405060708);
    struct wr_reader r;
    wr_reader_init(&r, wr_buf_bytes(&b));
    struct wr_bytes got = wr_read_prefixed(&r);
    assert_true(wr_bytes_equal(got, WR_BYTES_STR("hello")));
    assert_true(wr_read_u64be(&r) == 0x0102030405060708);
    assert_true(wr_reader_done(&r));
    wr_reader_init(&r, WR_BYTES_STR("\x06hello"));
    wr_read_prefixed(&r);
    assert_true(r.bad);
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uvarint_vectors),
        cmocka_unit_test(test_buffer_is_sticky_when_full),
        cmocka_unit_test(test_reader_is_sticky_when_bad),
        cmocka_unit_test(test_prefixed_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
