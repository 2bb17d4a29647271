/* Base codings: published vectors, every length, one text for the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/base.h"
#include "transport/err.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void test_vectors(void **state)
{
    (void)state;
    static const struct {
        enum wr_base base;
        struct wr_bytes bytes;
        const char *text;
    } vectors[] = {
        /* draft-msporny-base58, "Test Vectors" */
        {WR_BASE58BTC, WR_BYTES_STR("Hello World!"), "2NEpo7TZRRrLZSi2U"},
        {WR_BASE58BTC, WR_BYTES_STR("The quick brown fox jumps over the lazy dog."),
         "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z"},
        {WR_BASE58BTC, WR_BYTES_STR("\x00\x00\x28\x7f\xb4\xcd"), "11233QC4"},
        {WR_BASE58BTC, WR_BYTES_STR("\x00\x00\x00"), "111"},
        {WR_BASE58BTC, WR_BYTES_STR(""), ""},
        /* multiformats/multibase, tests/two_leading_zeros.csv */
        {WR_BASE36, WR_BYTES_STR("\x00\x00yes mani !"), "002lcpzo5yikidynfl"},
        /* RFC 4648, section 10 */
        {WR_BASE64, WR_BYTES_STR(""), ""},
        {WR_BASE64, WR_BYTES_STR("f"), "Zg=="},
        {WR_BASE64, WR_BYTES_STR("fo"), "Zm8="},
        {WR_BASE64, WR_BYTES_STR("foo"), "Zm9v"},
        {WR_BASE64, WR_BYTES_STR("foob"), "Zm9vYg=="},
        {WR_BASE64, WR_BYTES_STR("fooba"), "Zm9vYmE="},
        {WR_BASE64, WR_BYTES_STR("foobar"), "Zm9vYmFy"},
        {WR_BASE64, WR_BYTES_STR("\xfb\xff\xfe"), "+//+"},
        {WR_BASE64URL, WR_BYTES_STR("\xfb\xff\xfe"), "-__-"},
        {WR_BASE64URL, WR_BYTES_STR("f"), "Zg"},
        {WR_BASE32, WR_BYTES_STR("f"), "my"},
        {WR_BASE32, WR_BYTES_STR("fo"), "mzxq"},
        {WR_BASE32, WR_BYTES_STR("foo"), "mzxw6"},
        {WR_BASE32, WR_BYTES_STR("foob"), "mzxw6yq"},
        {WR_BASE32, WR_BYTES_STR("fooba"), "mzxw6ytb"},
        {WR_BASE32, WR_BYTES_STR("foobar"), "mzxw6ytboi"},
        {WR_BASE16, WR_BYTES_STR("foobar"), "666f6f626172"},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_buf b;
        wr_buf_init(&b, 1024);
        wr_base_encode(vectors[i].base, vectors[i].bytes, &b);
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), wr_bytes_cstr(vectors[i].text)));
        wr_buf_reset(&b);
        assert_int_equal(wr_base_decode(vectors[i].base, wr_bytes_cstr(vectors[i].text), &b), 0);
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), vectors[i].bytes));
        wr_buf_clear(&b);
    }
}

static void test_multibase_vectors(void **state)
{
    (void)state;
    /* multiformats/multibase, tests/basic.csv, leading_zero.csv */
    static const struct {
        struct wr_bytes bytes;
        const char *text;
    } vectors[] = {
        {WR_BYTES_STR("yes mani !"), "f796573206d616e692021"},
        {WR_BYTES_STR("yes mani !"), "F796573206D616E692021"},
        {WR_BYTES_STR("yes mani !"), "bpfsxgidnmfxgsibb"},
        {WR_BYTES_STR("yes mani !"), "BPFSXGIDNMFXGSIBB"},
        {WR_BYTES_STR("yes mani !"), "k2lcpzo5yikidynfl"},
        {WR_BYTES_STR("yes mani !"), "K2LCPZO5YIKIDYNFL"},
        {WR_BYTES_STR("yes mani !"), "z7paNL19xttacUY"},
        {WR_BYTES_STR("yes mani !"), "meWVzIG1hbmkgIQ"},
        {WR_BYTES_STR("yes mani !"), "MeWVzIG1hbmkgIQ=="},
        {WR_BYTES_STR("yes mani !"), "ueWVzIG1hbmkgIQ"},
        {WR_BYTES_STR("yes mani !"), "UeWVzIG1hbmkgIQ=="},
        {WR_BYTES_STR("\x00yes mani !"), "z17paNL19xttacUY"},
        {WR_BYTES_STR("\x00yes mani !"), "k02lcpzo5yikidynfl"},
        {WR_BYTES_STR("\x00yes mani !"), "f00796573206d616e692021"},
    };
    static const char *const bad[] = {
        "",      "Z7paNL19xttacUY",   "yes", "f7", "fg0", "b1",   "bPFSXGIDNMFXGSIBB",
        "Bpfsx", "meWVzIG1hbmkgIQ==", "z0",  "zO", "k_",  "u+//+"};
    struct wr_buf b;
    wr_buf_init(&b, 64);
    for (size_t i = 0; i < COUNT(vectors); i++) {
        wr_buf_reset(&b);
        assert_int_equal(wr_multibase_decode(wr_bytes_cstr(vectors[i].text), &b), 0);
        assert_true(wr_bytes_equal(wr_buf_bytes(&b), vectors[i].bytes));
    }
    wr_buf_reset(&b);
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(wr_multibase_decode(wr_bytes_cstr(bad[i]), &b), WR_EINVAL);
        assert_int_equal(b.len, 0);
    }
    wr_buf_clear(&b);
}

static void test_one_text_for_the_same_bytes(void **state)
{
    (void)state;
    static const struct {
        enum wr_base base;
        const char *text;
    } bad[] = {
        {WR_BASE16, "f"},        {WR_BASE16, "666"},
        {WR_BASE16, "6 "},       {WR_BASE32, "m"},
        {WR_BASE32, "mzx"},      {WR_BASE32, "mzxw6y"},
        {WR_BASE32, "mz"},       {WR_BASE32, "MY"},
        {WR_BASE32, "my======"}, {WR_BASE32, "mzxw6yr"},
        {WR_BASE64, "Z"},        {WR_BASE64, "Zm9vY"},
        {WR_BASE64, "Zh=="},     {WR_BASE64, "Zm9="},
        {WR_BASE64, "Zg="},      {WR_BASE64, "Zg==="},
        {WR_BASE64, "Zm9v===="}, {WR_BASE64, "===="},
        {WR_BASE64, "Z=g="},     {WR_BASE64, "Zm9vYg==Zm9v"},
        {WR_BASE64, "-__-"},     {WR_BASE64URL, "Zg=="},
        {WR_BASE64URL, "+//+"},  {WR_BASE58BTC, "l"},
        {WR_BASE58BTC, "I"},     {WR_BASE58BTC, " 2"},
        {WR_BASE36, "A"},
    };
    struct wr_buf b;
    wr_buf_init(&b, 64);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (wr_base_decode(bad[i].base, wr_bytes_cstr(bad[i].text), &b) != WR_EINVAL)
            print_error("%s\n", bad[i].text);
        assert_int_equal(wr_base_decode(bad[i].base, wr_bytes_cstr(bad[i].text), &b), WR_EINVAL);
        assert_int_equal(b.len, 0);
        assert_false(b.full);
    }
    /* Padding may be left out of base64. */
    assert_int_equal(wr_base_decode(WR_BASE64, WR_BYTES_STR("Zg"), &b), 0);
    assert_int_equal(b.len, 1);
    wr_buf_clear(&b);
}

/* Schoolbook base conversion, one digit at a time. */
static size_t slow_encode(const uint8_t *in, size_t len, unsigned radix, uint8_t *digits)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned carry = in[i];
        for (size_t k = 0; k < count; k++) {
            carry += (unsigned)digits[k] << 8;
            digits[k] = (uint8_t)(carry % radix);
            carry /= radix;
        }
        for (; carry; carry /= radix)
            digits[count++] = (uint8_t)(carry % radix);
    }
    return count;
}

static void test_big_bases_against_schoolbook(void **state)
{
    (void)state;
    static const char *const alphabets[] = {
        [WR_BASE58BTC] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
        [WR_BASE36] = "0123456789abcdefghijklmnopqrstuvwxyz",
    };
    struct wr_buf b;
    wr_buf_init(&b, 1024);
    srand(1);
    for (size_t len = 0; len <= WR_BASE_BIG_MAX; len++) {
        for (int base = WR_BASE58BTC; base <= WR_BASE36; base++) {
            uint8_t in[WR_BASE_BIG_MAX], digits[512];
            for (size_t i = 0; i < len; i++)
                in[i] = i < len % 5 ? 0 : (uint8_t)(len % 3 ? rand() : 0xff);
            wr_buf_reset(&b);
            wr_base_encode((enum wr_base)base, WR_BYTES(in, len), &b);
            size_t zeros = 0,
                   count = slow_encode(in, len, (unsigned)strlen(alphabets[base]), digits);
            while (zeros < len && in[zeros] == 0)
                zeros++;
            assert_int_equal(b.len, zeros + count);
            for (size_t i = 0; i < zeros; i++)
                assert_int_equal(b.data[i], alphabets[base][0]);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(b.data[b.len - 1 - i], alphabets[base][digits[i]]);
        }
    }
    wr_buf_clear(&b);
}

static void test_round_trip_at_every_length(void **state)
{
    (void)state;
    struct wr_buf text, bytes;
    wr_buf_init(&text, 1024);
    wr_buf_init(&bytes, 1024);
    for (size_t len = 0; len <= 160; len++) {
        uint8_t in[160];
        for (size_t i = 0; i < len; i++)
            in[i] = (uint8_t)(i * i + len);
        for (int base = WR_BASE58BTC; base <= WR_BASE16; base++) {
            wr_buf_reset(&text);
            wr_buf_reset(&bytes);
            wr_base_encode((enum wr_base)base, WR_BYTES(in, len), &text);
            assert_int_equal(wr_base_decode((enum wr_base)base, wr_buf_bytes(&text), &bytes), 0);
            assert_true(wr_bytes_equal(wr_buf_bytes(&bytes), WR_BYTES(in, len)));
        }
    }
    wr_buf_clear(&text);
    wr_buf_clear(&bytes);
}

static void test_bounds(void **state)
{
    (void)state;
    uint8_t in[WR_BASE_BIG_MAX + 1];
    struct wr_buf b;
    memset(in, '1', sizeof(in));
    wr_buf_init(&b, 1024);
    assert_int_equal(wr_base_decode(WR_BASE58BTC, WR_BYTES(in, WR_BASE_BIG_MAX), &b), 0);
    assert_int_equal(b.len, WR_BASE_BIG_MAX);
    assert_int_equal(wr_base_decode(WR_BASE58BTC, WR_BYTES(in, sizeof(in)), &b), WR_EINVAL);
    assert_int_equal(wr_base_decode(WR_BASE36, WR_BYTES(in, sizeof(in)), &b), WR_EINVAL);
    wr_base_encode(WR_BASE58BTC, WR_BYTES(in, sizeof(in)), &b);
    assert_true(b.full);
    assert_int_equal(wr_base_decode(WR_BASE16, WR_BYTES_STR("00"), &b), WR_ELIMIT);
    wr_buf_clear(&b);
    /* An output one byte too small, in each direction. */
    for (int base = WR_BASE58BTC; base <= WR_BASE16; base++) {
        wr_buf_init(&b, 3);
        wr_base_encode((enum wr_base)base, WR_BYTES_STR("\xff\xff\xff"), &b);
        assert_true(b.full);
        assert_int_equal(b.len, 0);
        wr_buf_clear(&b);
        wr_buf_init(&b, 3);
        assert_int_equal(wr_base_decode((enum wr_base)base, WR_BYTES_STR("22222222"), &b),
                         WR_ELIMIT);
        assert_true(b.full);
        wr_buf_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_multibase_vectors),
        cmocka_unit_test(test_one_text_for_the_same_bytes),
        cmocka_unit_test(test_big_bases_against_schoolbook),
        cmocka_unit_test(test_round_trip_at_every_length),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
