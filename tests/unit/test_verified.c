/* Signatures found good before: the answer is always that of a verification, only faster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/verified.h"

#include <string.h>

static const uint8_t SEED[WR_VERIFIED_SEED] = {7};

/* A signed message of some signer. */
struct signature {
    uint8_t key[64], sig[WR_SIG_ED25519], message[48];
    struct wr_bytes pubkey;
};

static void sign(struct signature *s, uint32_t number)
{
    static const uint8_t seed[WR_ED25519_SEED] = {1};
    struct wr_key key;
    struct wr_buf out;
    wr_key_generate(&key, seed);
    wr_buf_over(&out, s->key, sizeof(s->key));
    wr_key_encode_public(&key, &out);
    s->pubkey = wr_buf_bytes(&out);
    memset(s->message, 0x55, sizeof(s->message));
    memcpy(s->message, &number, sizeof(number));
    wr_key_sign(&key, WR_BYTES(s->message, sizeof(s->message)), s->sig);
}

static int check(struct wr_verified *v, const struct signature *s)
{
    return wr_verified_check(v, s->pubkey, WR_BYTES(s->message, sizeof(s->message)), WR_BYTES(s->sig, sizeof(s->sig)));
}

static bool knows(struct wr_verified *v, const struct signature *s)
{
    return wr_verified_knows(v, s->pubkey, WR_BYTES(s->message, sizeof(s->message)), WR_BYTES(s->sig, sizeof(s->sig)));
}

static void test_good_is_known_from_then_on(void **state)
{
    (void)state;
    struct wr_verified *v = wr_verified_create(SEED);
    struct signature s;
    sign(&s, 1);
    assert_false(knows(v, &s));
    assert_int_equal(check(v, &s), 0);
    assert_true(knows(v, &s));
    assert_int_equal(check(v, &s), 0);
    assert_int_equal(check(NULL, &s), 0);
    wr_verified_destroy(v);
}

static void test_bad_is_never_known(void **state)
{
    (void)state;
    struct wr_verified *v = wr_verified_create(SEED);
    struct signature s;
    sign(&s, 1);
    s.sig[0] ^= 1;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(check(v, &s), WR_EAUTH);
        assert_false(knows(v, &s));
    }
    assert_int_equal(check(NULL, &s), WR_EAUTH);
    wr_verified_destroy(v);
}

/* Every bit of the message and of the signature, and of the key's 32 bytes, with the good one known. */
static void test_every_bit_counts(void **state)
{
    (void)state;
    struct wr_verified *v = wr_verified_create(SEED);
    struct signature s;
    sign(&s, 1);
    assert_int_equal(check(v, &s), 0);
    struct {
        uint8_t *at;
        size_t len;
    } const parts[] = {{s.key + 4, WR_ED25519_PUBLIC}, {s.sig, sizeof(s.sig)}, {s.message, sizeof(s.message)}};
    for (size_t part = 0; part < 3; part++) {
        for (size_t bit = 0; bit < 8 * parts[part].len; bit += part == 2 ? 1 : 7) {
            parts[part].at[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_not_equal(check(v, &s), 0);
            assert_false(knows(v, &s));
            parts[part].at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    assert_true(knows(v, &s));
    wr_verified_destroy(v);
}

static void test_the_same_bytes_cut_elsewhere(void **state)
{
    (void)state;
    struct wr_verified *v = wr_verified_create(SEED);
    uint8_t joined[36 + 48 + 64];
    struct signature s;
    sign(&s, 1);
    assert_int_equal(s.pubkey.len, 36);
    memcpy(joined, s.pubkey.ptr, 36);
    memcpy(joined + 36, s.message, 48);
    memcpy(joined + 84, s.sig, 64);
    assert_int_equal(wr_verified_check(v, WR_BYTES(joined, 36), WR_BYTES(joined + 36, 48), WR_BYTES(joined + 84, 64)), 0);
    assert_false(wr_verified_knows(v, WR_BYTES(joined, 35), WR_BYTES(joined + 35, 49), WR_BYTES(joined + 84, 64)));
    assert_false(wr_verified_knows(v, WR_BYTES(joined, 36), WR_BYTES(joined + 36, 47), WR_BYTES(joined + 83, 65)));
    wr_verified_destroy(v);
}

/* A crowd passes by: the table stays what it is, and who comes again in between is still known. */
static void test_a_crowd(void **state)
{
    (void)state;
    enum { CROWD = 2 * WR_VERIFIED_MAX };
    struct wr_verified *v = wr_verified_create(SEED);
    struct signature regular, s;
    size_t known = 0;
    sign(&regular, CROWD);
    assert_int_equal(check(v, &regular), 0);
    for (uint32_t i = 0; i < CROWD; i++) {
        sign(&s, i);
        assert_int_equal(check(v, &s), 0);
        assert_true(knows(v, &s));
        assert_true(knows(v, &regular));
    }
    for (uint32_t i = 0; i < CROWD; i++) {
        sign(&s, i);
        known += knows(v, &s);
    }
    assert_in_range(known, WR_VERIFIED_MAX / 2, WR_VERIFIED_MAX - 1);
    wr_verified_destroy(v);
}

static void test_seeds_differ(void **state)
{
    (void)state;
    static const uint8_t other[WR_VERIFIED_SEED] = {8};
    struct wr_verified *v = wr_verified_create(SEED), *w = wr_verified_create(other);
    struct signature s;
    sign(&s, 1);
    assert_int_equal(check(v, &s), 0);
    assert_false(knows(w, &s));
    wr_verified_destroy(v);
    wr_verified_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_is_known_from_then_on),
        cmocka_unit_test(test_bad_is_never_known),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_the_same_bytes_cut_elsewhere),
        cmocka_unit_test(test_a_crowd),
        cmocka_unit_test(test_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
