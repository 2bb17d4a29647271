/* ChaCha20-Poly1305 and AES-GCM: published vectors, both libraries alike, damage found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/aead.h"
#include "transport/aes.h"
#include "transport/err.h"
#include "unit/hex.h"

#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#endif

static const enum wr_aead_library libraries[] = {WR_AEAD_LIBCRYPTO, WR_AEAD_LIBSODIUM};

/* Of AES: NULL where the library has none, as on a processor without the instructions. */
static struct wr_aead *aes_create(enum wr_aead_library library, enum wr_aead_cipher cipher)
{
    struct wr_aead *engine = wr_aead_create_with(library, cipher);
    bool has = library == WR_AEAD_LIBCRYPTO || (cipher == WR_AEAD_AES128 && wr_aes_works());
    assert_int_equal(engine != NULL, has);
    return engine;
}

static const enum wr_aead_library aes_libraries[] = {WR_AEAD_LIBCRYPTO, WR_AEAD_FAST_AES};

/* RFC 8439, section 2.8.2 */
static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip "
                           "for the future, sunscreen would be it.";
static const uint8_t ad[] = {0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};
static const uint8_t nonce[] = {0x07, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47};
static const uint8_t sealed[] = {
    0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb, 0x7b, 0x86, 0xaf, 0xbc, 0x53, 0xef, 0x7e,
    0xc2, 0xa4, 0xad, 0xed, 0x51, 0x29, 0x6e, 0x08, 0xfe, 0xa9, 0xe2, 0xb5, 0xa7, 0x36, 0xee,
    0x62, 0xd6, 0x3d, 0xbe, 0xa4, 0x5e, 0x8c, 0xa9, 0x67, 0x12, 0x82, 0xfa, 0xfb, 0x69, 0xda,
    0x92, 0x72, 0x8b, 0x1a, 0x71, 0xde, 0x0a, 0x9e, 0x06, 0x0b, 0x29, 0x05, 0xd6, 0xa5, 0xb6,
    0x7e, 0xcd, 0x3b, 0x36, 0x92, 0xdd, 0xbd, 0x7f, 0x2d, 0x77, 0x8b, 0x8c, 0x98, 0x03, 0xae,
    0xe3, 0x28, 0x09, 0x1b, 0x58, 0xfa, 0xb3, 0x24, 0xe4, 0xfa, 0xd6, 0x75, 0x94, 0x55, 0x85,
    0x80, 0x8b, 0x48, 0x31, 0xd7, 0xbc, 0x3f, 0xf4, 0xde, 0xf0, 0x8e, 0x4b, 0x7a, 0x9d, 0xe5,
    0x76, 0xd2, 0x65, 0x86, 0xce, 0xc6, 0x4b, 0x61, 0x16, 0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09,
    0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91};

#define TEXT_LEN (sizeof(text) - 1)

static void vector_key(uint8_t key[static WR_AEAD_KEY])
{
    for (unsigned i = 0; i < WR_AEAD_KEY; i++)
        key[i] = (uint8_t)(0x80 + i);
}

static void test_rfc8439_vector(void **state)
{
    (void)state;
    for (size_t l = 0; l < 2; l++) {
        struct wr_aead *engine = wr_aead_create_with(libraries[l], WR_AEAD_CHACHA20);
        uint8_t key[WR_AEAD_KEY], out[sizeof(sealed)];
        assert_non_null(engine);
        vector_key(key);
        assert_int_equal(sizeof(sealed), TEXT_LEN + WR_AEAD_TAG);
        assert_int_equal(wr_aead_seal(engine, key, nonce, WR_BYTES(ad, sizeof(ad)),
                                      (const uint8_t *)text, TEXT_LEN, out), 0);
        assert_memory_equal(out, sealed, sizeof(sealed));
        assert_int_equal(wr_aead_open(engine, key, nonce, WR_BYTES(ad, sizeof(ad)), out,
                                      sizeof(out), out), 0);
        assert_memory_equal(out, text, TEXT_LEN);
        wr_aead_destroy(engine);
    }
}

/* McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 4 and 16; the bytes behind AES-128's
 * key do not count. */
static void test_gcm_vectors(void **state)
{
    static const struct {
        enum wr_aead_cipher cipher;
        const char *key, *sealed;
    } cases[] = {
        {WR_AEAD_AES128, "feffe9928665731c6d6a8f946730830801010101010101010101010101010101",
         "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5a"
         "ac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47"},
        {WR_AEAD_AES256, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
         "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10"
         "56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
    };
    (void)state;
    struct wr_bytes iv = HEX("cafebabefacedbaddecaf888");
    struct wr_bytes more = HEX("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    struct wr_bytes plain = HEX("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c"
                                "95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    for (size_t k = 0; k < 4; k++) {
        size_t i = k % 2;
        struct wr_aead *engine = aes_create(aes_libraries[k / 2], cases[i].cipher);
        struct wr_bytes key = HEX(cases[i].key), sealed_text = HEX(cases[i].sealed);
        uint8_t out[100];
        if (!engine)
            continue;
        assert_int_equal(wr_aead_seal(engine, key.ptr, iv.ptr, more, plain.ptr, plain.len, out), 0);
        assert_int_equal(sealed_text.len, plain.len + WR_AEAD_TAG);
        assert_memory_equal(out, sealed_text.ptr, sealed_text.len);
        for (size_t bit = 0; bit < 8 * sealed_text.len; bit++) {
            uint8_t opened[100];
            out[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(wr_aead_open(engine, key.ptr, iv.ptr, more, out, sealed_text.len,
                                          opened), WR_EAUTH);
            for (size_t b = 0; b < plain.len; b++)
                assert_int_equal(opened[b], 0);
            out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(wr_aead_open(engine, key.ptr, iv.ptr, more, out, sealed_text.len, out), 0);
        assert_memory_equal(out, plain.ptr, plain.len);
        wr_aead_destroy(engine);
    }
}

/* Every one-bit flip and every truncation of a sealed message is refused and leaves no plaintext. */
static void test_damage_is_found(void **state)
{
    (void)state;
    for (size_t l = 0; l < 2; l++) {
        struct wr_aead *engine = wr_aead_create_with(libraries[l], WR_AEAD_CHACHA20);
        uint8_t key[WR_AEAD_KEY], in[sizeof(sealed)], out[sizeof(sealed)];
        const uint8_t zeros[sizeof(sealed)] = {0};
        struct wr_bytes with = WR_BYTES(ad, sizeof(ad));
        vector_key(key);
        for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
            memcpy(in, sealed, sizeof(in));
            in[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(wr_aead_open(engine, key, nonce, with, in, sizeof(in), out), WR_EAUTH);
            assert_memory_equal(out, zeros, TEXT_LEN);
        }
        for (size_t len = 0; len < sizeof(sealed); len++)
            assert_int_equal(wr_aead_open(engine, key, nonce, with, sealed, len, out), WR_EAUTH);
        assert_int_equal(wr_aead_open(engine, key, nonce, WR_BYTES(ad, sizeof(ad) - 1), sealed,
                                      sizeof(sealed), out), WR_EAUTH);
        /* and the engine still works */
        assert_int_equal(wr_aead_open(engine, key, nonce, with, sealed, sizeof(sealed), out), 0);
        wr_aead_destroy(engine);
    }
}

/* All engines give the same bytes for every short length, in place and apart, whichever key was
 * used just before. */
static void test_libraries_agree_while_keys_alternate(void **state)
{
    (void)state;
    struct wr_aead *a = wr_aead_create_with(WR_AEAD_LIBCRYPTO, WR_AEAD_CHACHA20);
    struct wr_aead *b = wr_aead_create_with(WR_AEAD_LIBSODIUM, WR_AEAD_CHACHA20);
    struct wr_aead *both = wr_aead_create();
    uint8_t keys[2][WR_AEAD_KEY] = {{1}, {1}}, from_a[400], from_b[400], plain[400];
    keys[1][31] = 1;    /* differs in its last byte alone */
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len <= 300; len++) {
        const uint8_t *key = keys[len / 2 % 2];
        const uint8_t count[WR_AEAD_NONCE] = {0, 0, 0, 0, (uint8_t)len, (uint8_t)(len >> 8)};
        struct wr_bytes with = WR_BYTES(plain, len % 33);
        memcpy(from_a, plain, len);
        assert_int_equal(wr_aead_seal(a, key, count, with, from_a, len, from_a), 0);
        assert_int_equal(wr_aead_seal(b, key, count, with, plain, len, from_b), 0);
        assert_memory_equal(from_a, from_b, len + WR_AEAD_TAG);
        assert_int_equal(wr_aead_open(a, keys[(len / 2 + 1) % 2], count, with, from_b,
                                      len + WR_AEAD_TAG, from_a), WR_EAUTH);
        assert_int_equal(wr_aead_seal(both, key, count, with, plain, len, from_a), 0);
        assert_memory_equal(from_a, from_b, len + WR_AEAD_TAG);
        assert_int_equal(wr_aead_open(both, key, count, with, from_a, len + WR_AEAD_TAG, from_a), 0);
        assert_memory_equal(from_a, plain, len);
        assert_int_equal(wr_aead_open(a, key, count, with, from_b, len + WR_AEAD_TAG, from_b), 0);
        assert_memory_equal(from_b, plain, len);
    }
    wr_aead_destroy(a);
    wr_aead_destroy(b);
    wr_aead_destroy(both);
}

static void test_aes_agrees_while_keys_alternate(void **state)
{
    (void)state;
    static const size_t more[] = {1200, 1350, 4096, 16385};
    static uint8_t plain[16385], from_a[16385 + WR_AEAD_TAG], from_b[16385 + WR_AEAD_TAG], back[16385];
    struct wr_aead *a = aes_create(WR_AEAD_LIBCRYPTO, WR_AEAD_AES128);
    struct wr_aead *b = aes_create(WR_AEAD_FAST_AES, WR_AEAD_AES128);
    uint8_t keys[2][WR_AEAD_KEY] = {{0}, {0}};
    keys[1][WR_AES_KEY - 1] = 1;
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 7 + (i >> 8));
    for (size_t l = 0; b && l <= 300 + sizeof(more) / sizeof(more[0]); l++) {
        size_t len = l <= 300 ? l : more[l - 301];
        const uint8_t *key = keys[l / 2 % 2];
        const uint8_t count[WR_AEAD_NONCE] = {0, 0, 0, 0, (uint8_t)len, (uint8_t)(len >> 8)};
        struct wr_bytes with = WR_BYTES(plain, l % 33);
        assert_int_equal(wr_aead_seal(a, key, count, with, plain, len, from_a), 0);
        memcpy(from_b, plain, len);
        assert_int_equal(wr_aead_seal(b, key, count, with, from_b, len, from_b), 0);
        assert_memory_equal(from_a, from_b, len + WR_AEAD_TAG);
        assert_int_equal(wr_aead_open(b, keys[(l / 2 + 1) % 2], count, with, from_a, len + WR_AEAD_TAG, back), WR_EAUTH);
        assert_int_equal(wr_aead_open(b, key, count, with, from_a, len + WR_AEAD_TAG, from_a), 0);
        assert_memory_equal(from_a, plain, len);
    }
    wr_aead_destroy(a);
    wr_aead_destroy(b);
}

/* RFC 9001, appendix A.2: the mask of the client's first packet. */
static void test_block_vector(void **state)
{
    (void)state;
    if (!wr_aes_works())
        return;
    struct wr_bytes key = HEX("9f50449e04a0e810283a1e9933adedd2"), sample = HEX("d1b1c98dd7689fb8ec11d242b123dc9b");
    uint8_t out[WR_AES_BLOCK];
    struct wr_aes_block *block = wr_aes_block_create(key.ptr);
    assert_non_null(block);
    wr_aes_block_encrypt(block, sample.ptr, out);
    assert_memory_equal(out, HEX("437b9aec36").ptr, 5);
    wr_aes_block_destroy(block);
    wr_aes_block_destroy(NULL);
}

/* Wherever the seam is, and whether the head is in place: as if the bytes had stood together. */
static void test_two_pieces_are_one(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 15, 100, 300, 4096}, heads[] = {0, 1, 12, 16, 63, 64, 65, 128, 300, 4000};
    static uint8_t plain[4096], whole[4096 + WR_AEAD_TAG], out[4096 + WR_AEAD_TAG];
    const uint8_t key[WR_AEAD_KEY] = {9};
    struct wr_aead *engines[] = {wr_aead_create(), wr_aead_create_with(WR_AEAD_LIBCRYPTO, WR_AEAD_CHACHA20),
                                 wr_aead_create_with(WR_AEAD_LIBSODIUM, WR_AEAD_CHACHA20),
                                 wr_aead_create_with(WR_AEAD_LIBCRYPTO, WR_AEAD_AES128),
                                 wr_aead_create_cipher(WR_AEAD_AES128)};
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 7 + (i >> 8));
    for (size_t e = 0; e < sizeof(engines) / sizeof(engines[0]); e++) {
        assert_non_null(engines[e]);
        for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
            struct wr_bytes with = WR_BYTES(ad, sizeof(ad));
            assert_int_equal(wr_aead_seal(engines[e], key, nonce, with, plain, lens[l], whole), 0);
            for (size_t h = 0; h < 2 * sizeof(heads) / sizeof(heads[0]); h++) {
                size_t head = heads[h / 2] < lens[l] ? heads[h / 2] : lens[l];
                memset(out, 0, sizeof(out));
                memcpy(out, plain, head);
                assert_int_equal(wr_aead_seal_two(engines[e], key, nonce, with, WR_BYTES(h % 2 ? plain : out, head),
                                                  WR_BYTES(plain + head, lens[l] - head), out), 0);
                assert_memory_equal(out, whole, lens[l] + WR_AEAD_TAG);
            }
        }
        wr_aead_destroy(engines[e]);
    }
}

#ifdef __x86_64__

#define CPUID_MAY_RUN 0x1012    /* of arch_prctl; not in every C library's headers */

static unsigned hidden;    /* bits of what leaf 1 says in ecx */

/* Another machine: cpuid faults, and this answers. */
static void on_cpuid(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)regs[REG_RIP];    /* NOLINT(performance-no-int-to-ptr) */
    unsigned leaf = (unsigned)regs[REG_RAX], a, b, c, d;
    (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) {
        (void)signal(sig, SIG_DFL);
        return;
    }
    syscall(SYS_arch_prctl, CPUID_MAY_RUN, 1);
    __cpuid_count(leaf, (unsigned)regs[REG_RCX], a, b, c, d);
    syscall(SYS_arch_prctl, CPUID_MAY_RUN, 0);
    regs[REG_RAX] = a;
    regs[REG_RBX] = b;
    regs[REG_RCX] = leaf == 1 ? c & ~hidden : c;
    regs[REG_RDX] = d;
    regs[REG_RIP] += 2;
}

/* In a process of its own, since the answer is kept. 0 and 1: what wr_aes_works says; -1: cpuid cannot be made to fault
 * here. */
static int works_without(unsigned bits)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_cpuid, .sa_flags = SA_SIGINFO | SA_NODEFER};
        hidden = bits;
        if (sigaction(SIGSEGV, &action, NULL) != 0 || syscall(SYS_arch_prctl, CPUID_MAY_RUN, 0) != 0)
            _exit(2);
        _exit(wr_aes_works());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 2 ? -1 : WEXITSTATUS(status);
}

static bool has_avx(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_AVX;
}

/* Not on a processor without the instructions, nor where the system does not keep the registers that it has. Goes first:
 * what this process knows its children know. */
static void test_fast_aes_where_it_runs(void **state)
{
    (void)state;
    int as_it_is = works_without(0);
    if (as_it_is < 0)
        skip();
    assert_int_equal(works_without(bit_AES), 0);
    assert_int_equal(works_without(bit_PCLMUL), 0);
    assert_int_equal(works_without(bit_XSAVE | bit_OSXSAVE), has_avx() ? 0 : as_it_is);
    assert_int_equal(wr_aes_works(), as_it_is);
}

#endif

static void test_too_long_is_a_limit(void **state)
{
    (void)state;
    struct wr_aead *engine = wr_aead_create();
    uint8_t key[WR_AEAD_KEY] = {0}, out[WR_AEAD_TAG];
    assert_non_null(engine);
    assert_int_equal(wr_aead_seal(engine, key, nonce, WR_BYTES_NONE, out, WR_AEAD_LEN_MAX + 1, out),
                     WR_ELIMIT);
    assert_int_equal(wr_aead_seal_two(engine, key, nonce, WR_BYTES_NONE, WR_BYTES(out, 1),
                                      WR_BYTES(out, WR_AEAD_LEN_MAX), out), WR_ELIMIT);
    assert_int_equal(wr_aead_open(engine, key, nonce, WR_BYTES_NONE, out, WR_AEAD_LEN_MAX + 1, out),
                     WR_ELIMIT);
    wr_aead_destroy(engine);
    wr_aead_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef __x86_64__
        cmocka_unit_test(test_fast_aes_where_it_runs),
#endif
        cmocka_unit_test(test_rfc8439_vector),
        cmocka_unit_test(test_gcm_vectors),
        cmocka_unit_test(test_damage_is_found),
        cmocka_unit_test(test_libraries_agree_while_keys_alternate),
        cmocka_unit_test(test_aes_agrees_while_keys_alternate),
        cmocka_unit_test(test_block_vector),
        cmocka_unit_test(test_two_pieces_are_one),
        cmocka_unit_test(test_too_long_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
