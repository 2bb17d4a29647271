/* Peer ids: from keys, every text form, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/key.h"
#include "transport/peerid.h"
#include "unit/hex.h"
#include "unit/key_vectors.h"

#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void test_from_keys_and_all_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(ID_VECTORS); i++) {
        const struct id_vector *v = &ID_VECTORS[i];
        struct wr_peerid id, parsed;
        char text[WR_PEERID_TEXT];
        assert_int_equal(wr_peerid_from_pubkey(HEX(v->pubkey), &id), 0);
        assert_string_equal(wr_peerid_print(&id, text), v->base58);
        const char *const texts[] = {v->base58, v->base32, v->base36};
        for (size_t k = 0; k < COUNT(texts); k++) {
            assert_int_equal(wr_peerid_parse(texts[k], &parsed), 0);
            assert_true(wr_peerid_equal(&id, &parsed));
        }
        assert_int_equal(wr_peerid_decode(wr_peerid_bytes(&id), &parsed), 0);
        assert_true(wr_peerid_equal(&id, &parsed));
        struct wr_bytes inner = wr_peerid_pubkey(&id);
        if (HEX(v->pubkey).len <= 42)
            assert_true(wr_bytes_equal(inner, HEX(v->pubkey)));
        else
            assert_int_equal(inner.len, 0);
    }
}

static void test_spec_examples(void **state)
{
    (void)state;
    /* libp2p peer-ids.md, "String representation", "Examples". */
    struct wr_peerid a, b;
    char text[WR_PEERID_TEXT];
    assert_int_equal(wr_peerid_parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", &a), 0);
    assert_int_equal(
        wr_peerid_parse("bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe", &b), 0);
    assert_true(wr_peerid_equal(&a, &b));
    assert_int_equal(wr_peerid_parse("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", &a),
                     0);
    assert_string_equal(wr_peerid_print(&a, text),
                        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA");
    assert_false(wr_peerid_equal(&a, &b));
}

/* A CID may come in any base: those of test_spec_examples, written by another program. */
static void test_every_base(void **state)
{
    (void)state;
    static const char *const texts[][6] = {
        {"12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
         "z5AanNVJCxnJ4fhdT9DsSUYvwjgHpsJ4pn4bueg8bvDe6b1tDj9rmdk",
         "f01720024080112202ffa35a99d3a3cfbb17bb7c1dc5561b18a8dcca4df38dc613ea859c37eb1336b",
         "BAFZAAJAIAEJCAL72GWUZ2OR47OYXXN6B3RKWDMMKRXGKJXZY3RQT5KCZYN7LCM3L",
         "uAXIAJAgBEiAv-jWpnTo8-7F7t8HcVWGxio3MpN843GE-qFnDfrEzaw",
         "K51QZI5UQU5DHDMYB9BD18PYPU2WP5LPV2XNSKFMRQA4LB5KNQRYROTB05E7OR"},
        {"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
         "zdvgqC3jczfCwLUoSyWT8GLc5UZ9aG4RkAg7XAfidRbX9qVj6",
         "f017212209dff3b17d74cf4d38a50d8b6383e92d181a10395a5e73a726dcccbd21bf6f0b9",
         "BAFZBEIE5745RPV2M6TJYUUGYWY4D5EWRQGQQHFNF445HE3OMZPJBX5XQXE",
         "uAXISIJ3_OxfXTPTTilDYtjg-ktGBoQOVpec6cm3My9Ib9vC5",
         "K2K4R8NCS1YOLUQ95UNSD7X2VFHGVE0NCJOGGWQX9VYH3VL8WARRCP15"},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct wr_peerid id, other;
        assert_int_equal(wr_peerid_parse(texts[i][0], &id), 0);
        for (size_t k = 1; k < COUNT(texts[i]); k++) {
            assert_int_equal(wr_peerid_parse(texts[i][k], &other), 0);
            assert_true(wr_peerid_equal(&id, &other));
        }
    }
}

/* The same key written in another way is the same peer. */
static void test_one_id_per_key(void **state)
{
    (void)state;
    struct wr_peerid id, other;
    uint8_t bytes[128];
    assert_int_equal(wr_peerid_from_pubkey(HEX(SECP256K1_PUBLIC), &id), 0);
    assert_int_equal(wr_peerid_from_pubkey(HEX(SECP256K1_UNCOMPRESSED_PUBLIC), &other), 0);
    assert_true(wr_peerid_equal(&id, &other));
    assert_int_equal(wr_peerid_from_pubkey(HEX(ED25519_PUBLIC), &id), 0);
    /* Fields in the other order, then an unknown field, then a type in two bytes. */
    struct wr_bytes key = HEX(ED25519_PUBLIC);
    memcpy(bytes, key.ptr + 2, 34);
    memcpy(bytes + 34, key.ptr, 2);
    assert_int_equal(wr_peerid_from_pubkey(WR_BYTES(bytes, 36), &other), 0);
    assert_true(wr_peerid_equal(&id, &other));
    memcpy(bytes, key.ptr, 36);
    memcpy(bytes + 36, "\x1a\x01x", 3);
    assert_int_equal(wr_peerid_from_pubkey(WR_BYTES(bytes, 39), &other), 0);
    assert_true(wr_peerid_equal(&id, &other));
    memcpy(bytes, "\x08\x81\x00", 3);
    memcpy(bytes + 3, key.ptr + 2, 34);
    assert_int_equal(wr_peerid_from_pubkey(WR_BYTES(bytes, 37), &other), 0);
    assert_true(wr_peerid_equal(&id, &other));
}

static void test_bad_text(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "1",
        "11",
        "Q",
        "Qm",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5NN",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhxO",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SAA",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA ",
        " 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        "bafybeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe", /* codec dag-pb */
        "bafkreidon73zkcrwdb5iafqtijxildoonbwnpv7dyd6ef3qdgads2jc4su", /* codec raw */
        "BAFZBEIE5745RPV2M6TJYUUGYWY4D5EWRQGQQHFNF445HE3OMZPJBX5XQX",
        "z6Mkw",
    };
    struct wr_peerid id;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (wr_peerid_parse(bad[i], &id) != WR_EINVAL)
            print_error("%s\n", bad[i]);
        assert_int_equal(wr_peerid_parse(bad[i], &id), WR_EINVAL);
    }
    char endless[2000];
    memset(endless, '1', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = 0;
    assert_int_equal(wr_peerid_parse(endless, &id), WR_EINVAL);
}

static void test_bad_bytes(void **state)
{
    (void)state;
    struct wr_peerid id;
    uint8_t in[64] = {0, 42};
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 44), &id), 0);
    char text[WR_PEERID_TEXT];
    memset(in + 2, 0xff, 42);
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 44), &id), 0);
    assert_int_equal(wr_peerid_parse(wr_peerid_print(&id, text), &id), 0);
    in[1] = 43;
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 45), &id), WR_EPROTO);
    assert_int_equal(wr_peerid_decode(WR_BYTES_STR("\x00\x00"), &id), WR_EPROTO);
    assert_int_equal(wr_peerid_decode(WR_BYTES_NONE, &id), WR_EPROTO);
    in[0] = 0x12;
    in[1] = 0x20;
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 34), &id), 0);
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 33), &id), WR_EPROTO);
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 35), &id), WR_EPROTO);
    in[1] = 0x1f;
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 33), &id), WR_EPROTO);
    in[0] = 0x13; /* sha2-512 */
    in[1] = 0x20;
    assert_int_equal(wr_peerid_decode(WR_BYTES(in, 34), &id), WR_EPROTO);
}

/* Every one-bit change of a key's bytes is refused or is another peer, or one of the few spellings
 * of the same. */
static void test_damaged_keys_are_other_peers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(ID_VECTORS); i++) {
        uint8_t key[1200];
        struct wr_bytes in = hex_to(key, sizeof(key), ID_VECTORS[i].pubkey);
        struct wr_peerid id, other;
        assert_int_equal(wr_peerid_from_pubkey(in, &id), 0);
        for (size_t bit = 0; bit < 8 * in.len; bit++) {
            key[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (wr_peerid_from_pubkey(in, &other) == 0)
                assert_false(wr_peerid_equal(&id, &other));
            key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < in.len; cut++)
            assert_int_equal(wr_peerid_from_pubkey(WR_BYTES(key, cut), &other), WR_EPROTO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_keys_and_all_texts),
        cmocka_unit_test(test_spec_examples),
        cmocka_unit_test(test_every_base),
        cmocka_unit_test(test_one_id_per_key),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_damaged_keys_are_other_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
