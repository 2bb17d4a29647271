/* SHA-256, multihashes and CIDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/multihash.h"
#include "unit/hex.h"

#include <string.h>

static void test_sha256_vectors(void **state)
{
    (void)state;
    /* FIPS 180-2, appendix B, and the empty message. */
    static const struct {
        struct wr_bytes in;
        const char *digest;
    } vectors[] = {
        {WR_BYTES_STR("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {WR_BYTES_STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {WR_BYTES_NONE, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t out[WR_SHA256_LEN];
        struct wr_multihash mh;
        wr_sha256(vectors[i].in, out);
        assert_memory_equal(out, HEX(vectors[i].digest).ptr, sizeof(out));
        wr_multihash_sha256(vectors[i].in, &mh);
        assert_int_equal(mh.len, 34);
        assert_memory_equal(mh.bytes, "\x12\x20", 2);
        assert_memory_equal(mh.bytes + 2, out, sizeof(out));
    }
}

static void test_check(void **state)
{
    (void)state;
    uint64_t code = 99;
    struct wr_bytes digest;
    assert_int_equal(wr_multihash_check(WR_BYTES_STR("\x00\x03"
                                                     "abc"),
                                        &code, &digest),
                     0);
    assert_int_equal(code, WR_MH_IDENTITY);
    assert_true(wr_bytes_equal(digest, WR_BYTES_STR("abc")));
    assert_int_equal(wr_multihash_check(WR_BYTES_STR("\xb2\x40\x01x"), &code, NULL), 0);
    assert_int_equal(code, 0x2032);
    static const struct wr_bytes bad[] = {
        {NULL, 0},
        WR_BYTES_STR("\x12"),
        WR_BYTES_STR("\x00\x03"
                     "ab"),
        WR_BYTES_STR("\x00\x03"
                     "abcd"),
        WR_BYTES_STR("\x80\x00\x01x"),
        WR_BYTES_STR("\x00\x81\x00x"),
        WR_BYTES_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_multihash_check(bad[i], NULL, NULL), WR_EPROTO);
    uint8_t longest[WR_MULTIHASH_MAX + 1] = {0, WR_MULTIHASH_MAX - 2};
    assert_int_equal(wr_multihash_check(WR_BYTES(longest, WR_MULTIHASH_MAX), NULL, NULL), 0);
    longest[1]++;
    assert_int_equal(wr_multihash_check(WR_BYTES(longest, sizeof(longest)), NULL, NULL), WR_EPROTO);
}

static void test_cid_vectors(void **state)
{
    (void)state;
    /* multiformats/cid, README, "Human Readable CIDs"; libp2p peer-ids.md, "String representation".
     */
    uint64_t codec;
    struct wr_multihash v0, v1, raw;
    assert_int_equal(wr_cid_parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", &codec, &v0),
                     0);
    assert_int_equal(codec, WR_CID_DAG_PB);
    assert_int_equal(
        wr_cid_parse("bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe", &codec, &v1),
        0);
    assert_int_equal(codec, WR_CID_LIBP2PKEY);
    assert_int_equal(v0.len, v1.len);
    assert_memory_equal(v0.bytes, v1.bytes, sizeof(v0.bytes));
    const char *text = "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA";
    assert_int_equal(wr_cid_parse(text, &codec, &raw), 0);
    assert_int_equal(codec, WR_CID_RAW);
    assert_memory_equal(
        raw.bytes, HEX("12206e6ff7950a36187a801613426e858dce686cd7d7e3c0fc42ee0330072d245c95").ptr,
        34);
    text = "bafkreidon73zkcrwdb5iafqtijxildoonbwnpv7dyd6ef3qdgads2jc4su";
    assert_int_equal(wr_cid_parse(text, NULL, &v1), 0);
    assert_memory_equal(v1.bytes, raw.bytes, sizeof(raw.bytes));
}

static void test_cid_bad(void **state)
{
    (void)state;
    struct wr_multihash mh;
    static const char *const bad[] = {
        "",
        "Qm",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5NN",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx50",
        "zQmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", /* CIDv0 takes no prefix */
        "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqx",
        "f02551200",   /* version 2 */
        "f8100551200", /* version not minimal */
        "f015512",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_cid_parse(bad[i], NULL, &mh), WR_EINVAL);
    char endless[1024];
    memset(endless, 'a', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = 0;
    endless[0] = 'b';
    assert_int_equal(wr_cid_parse(endless, NULL, &mh), WR_EINVAL);
    assert_int_equal(wr_cid_decode(WR_BYTES_STR("\x01\x55\x00\x00"), NULL, &mh), 0);
    assert_int_equal(wr_cid_decode(WR_BYTES_STR("\x00\x55\x00\x00"), NULL, &mh), WR_EPROTO);
    assert_int_equal(wr_cid_decode(WR_BYTES_STR("\x01\x55\x00\x01"), NULL, &mh), WR_EPROTO);
    assert_int_equal(wr_cid_decode(WR_BYTES_NONE, NULL, &mh), WR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_cid_vectors),
        cmocka_unit_test(test_cid_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
