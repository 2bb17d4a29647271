/* Private networks: published keystream, any chunking, key files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/pnet.h"

#include <string.h>

/* Computed with libsodium: key 00..1f, nonce 00..17, a multistream header and "/noise". */
static const char text[] = "\x13/multistream/1.0.0\n\x07/noise\n";
static const uint8_t cipher[] = {0x6f, 0x99, 0x0d, 0xda, 0xb1, 0xea, 0xaf, 0x35, 0xfb, 0x25,
                                 0xb8, 0x0c, 0x49, 0x1c, 0xc8, 0x1a, 0x18, 0xd3, 0xb2, 0xc7,
                                 0x74, 0xa9, 0xab, 0x28, 0x73, 0x57, 0xbd, 0xa7};
static const uint8_t keystream_64[] = {0x83, 0xdb, 0xf5, 0xd5, 0x45, 0xb0, 0xf5, 0x02,
                                       0xb9, 0x8d, 0xe0, 0x99, 0x7a, 0x66, 0xab, 0x43};

static void count_up(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)i;
}

static void start(struct wr_pnet *p, struct wr_buf *out)
{
    uint8_t key[WR_PNET_KEY], nonce[WR_PNET_NONCE];
    count_up(key, sizeof(key));
    count_up(nonce, sizeof(nonce));
    wr_pnet_start(p, key, nonce, out);
}

static void test_vector(void **state)
{
    (void)state;
    struct wr_pnet p;
    struct wr_buf out;
    uint8_t data[80] = {0};
    wr_buf_init(&out, 64);
    start(&p, &out);
    assert_int_equal(out.len, WR_PNET_NONCE);
    assert_memory_equal(out.data, p.send_nonce, WR_PNET_NONCE);
    memcpy(data, text, sizeof(text) - 1);
    assert_int_equal(sizeof(text) - 1, sizeof(cipher));
    wr_pnet_encrypt(&p, data, sizeof(data));
    assert_memory_equal(data, cipher, sizeof(cipher));
    assert_memory_equal(data + 64, keystream_64, sizeof(keystream_64));
    wr_pnet_clear(&p);
    wr_buf_clear(&out);
}

/* However both sides cut the bytes, including inside the nonce, the text arrives. */
static void test_any_chunking(void **state)
{
    (void)state;
    for (size_t send = 1; send < 140; send += 3) {
        for (size_t recv = 1; recv < 140; recv += 7) {
            struct wr_pnet a, b;
            struct wr_buf wire, nonce;
            uint8_t plain[300], got[300];
            size_t have = 0;
            wr_buf_init(&wire, 1024);
            wr_buf_init(&nonce, 1024);
            start(&a, &wire);
            start(&b, &nonce);
            for (size_t i = 0; i < sizeof(plain); i++)
                plain[i] = (uint8_t)(i * 31 + send);
            for (size_t at = 0; at < sizeof(plain); at += send) {
                size_t len = sizeof(plain) - at < send ? sizeof(plain) - at : send;
                wr_buf_put(&wire, plain + at, len);
                wr_pnet_encrypt(&a, wire.data + wire.len - len, len);
            }
            for (size_t at = 0; at < wire.len; at += recv) {
                size_t len = wire.len - at < recv ? wire.len - at : recv;
                size_t skip = wr_pnet_decrypt(&b, wire.data + at, len);
                memcpy(got + have, wire.data + at + skip, len - skip);
                have += len - skip;
            }
            assert_int_equal(have, sizeof(plain));
            assert_memory_equal(got, plain, sizeof(plain));
            assert_true(a.sent == b.received && b.nonce_have == WR_PNET_NONCE);
            wr_buf_clear(&wire);
            wr_buf_clear(&nonce);
        }
    }
}

#define HEAD "/key/swarm/psk/1.0.0/\n"
#define HEX  "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define RAW  "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"                     \
             "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"

static void test_key_files(void **state)
{
    (void)state;
    static const struct {
        int rc;
        struct wr_bytes file;
    } files[] = {
        {0, WR_BYTES_STR(HEAD "/base16/\n" HEX)},
        {0, WR_BYTES_STR(HEAD "/base16/\n" HEX "\n")},
        {0, WR_BYTES_STR("/key/swarm/psk/1.0.0/\r\n/base16/\r\n" HEX "\r\n")},
        {0, WR_BYTES_STR(HEAD "/base16/\n000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")},
        {0, WR_BYTES_STR(HEAD "/base64/\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")},
        {0, WR_BYTES_STR(HEAD "/bin/\n" RAW)},
        {0, WR_BYTES_STR(HEAD "/bin/\n" RAW "\n")},
        {WR_EINVAL, WR_BYTES_STR("")},
        {WR_EINVAL, WR_BYTES_STR(HEAD)},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base16/\n")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base32/\n" HEX)},
        {WR_EINVAL, WR_BYTES_STR("/key/swarm/psk/2.0.0/\n/base16/\n" HEX)},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base16/\n" HEX "00")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base16/\n" HEX "\n" HEX)},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base16/\n0001")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base16/\n" HEX "0")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/base64/\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\n")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/bin/\n" RAW "x")},
        {WR_EINVAL, WR_BYTES_STR(HEAD "/bin/\nshort")},
    };
    uint8_t expect[WR_PNET_KEY];
    count_up(expect, sizeof(expect));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        uint8_t key[WR_PNET_KEY];
        memset(key, 0x55, sizeof(key));
        assert_int_equal(wr_pnet_key_parse(files[i].file, key), files[i].rc);
        if (files[i].rc == 0)
            assert_memory_equal(key, expect, sizeof(key));
        else
            assert_int_equal(key[0], 0x55);
    }
}

/* Every truncation and every one-bit flip of a base16 file is refused, or is another valid key. */
static void test_key_file_damage(void **state)
{
    (void)state;
    static const char whole[] = HEAD "/base16/\n" HEX;
    char file[sizeof(whole)];
    uint8_t key[WR_PNET_KEY];
    for (size_t len = 0; len < sizeof(whole) - 1; len++)
        assert_int_equal(wr_pnet_key_parse(WR_BYTES(whole, len), key), WR_EINVAL);
    for (size_t bit = 0; bit < (sizeof(whole) - 1 - 64) * 8; bit++) {
        memcpy(file, whole, sizeof(whole));
        file[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(wr_pnet_key_parse(WR_BYTES(file, sizeof(whole) - 1), key), WR_EINVAL);
    }
}

static void test_fingerprint(void **state)
{
    (void)state;
    uint8_t key[WR_PNET_KEY];
    char name[17];
    count_up(key, sizeof(key));
    wr_pnet_fingerprint(key, name);
    assert_string_equal(name, "630dcd2966c43366");    /* sha256sum of 00..1f */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector),          cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_key_files),       cmocka_unit_test(test_key_file_damage),
        cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
