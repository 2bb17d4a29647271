#include "transport/aes.h"

#include "transport/err.h"

#ifdef WR_HAVE_IPSEC_MB

#include <cpuid.h>
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define SCHEDULE 176    /* bytes: eleven round keys (FIPS 197, section 5.2) */
#define ALIGN    64     /* bytes: what the library's structures want */
#define KEEPS_AVX    0x06    /* bits of XCR0: the registers of SSE and AVX; those and the three of AVX-512 */
#define KEEPS_AVX512 0xe6

struct wr_aes_gcm {
    struct gcm_key_data key;
    struct gcm_context_data at;    /* of the message at hand; here, since it tells a block of the key stream */
    void *base;                    /* what was allocated */
};

struct wr_aes_block {
    _Alignas(16) uint8_t encrypt[SCHEDULE];
    _Alignas(16) uint8_t decrypt[SCHEDULE];
    void *base;
};

/* The library's own manager takes 200 KB, nearly all of it queues for jobs; these are the functions that it found to be
 * the best for this processor. */
static struct {
    bool works;
    aes_gcm_pre_t schedule;
    aes_gcm_init_t begin;
    aes_gcm_enc_dec_t seal, open;
    aes_gcm_enc_dec_update_t seal_more;
    aes_gcm_enc_dec_finalize_t seal_end;
    keyexp_t expand;
    aes_cfb_t one;
} aes;

/* The library (1.3) asks the processor alone. A system that does not keep the wide registers, as Linux with noxsave or
 * clearcpuid, ends the program at the first instruction that touches one. */
static bool kept(uint64_t features)
{
    unsigned a, b, c, d, low, high;
    uint64_t need = features & IMB_FEATURE_AVX512_SKX ? KEEPS_AVX512 : KEEPS_AVX;
    if (!(features & IMB_FEATURE_AVX))
        return true;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & need) == need;
}

static void find(void)
{
    IMB_MGR *m = alloc_mb_mgr(0);
    if (!m)
        return;
    if (m->features & IMB_FEATURE_AESNI && m->features & IMB_FEATURE_PCLMULQDQ && kept(m->features)) {
        init_mb_mgr_auto(m, NULL);
        aes.schedule = m->gcm128_pre;
        aes.begin = m->gcm128_init;
        aes.seal = m->gcm128_enc;
        aes.open = m->gcm128_dec;
        aes.seal_more = m->gcm128_enc_update;
        aes.seal_end = m->gcm128_enc_finalize;
        aes.expand = m->keyexp_128;
        aes.one = m->aes128_cfb_one;
        aes.works = imb_get_errno(m) == 0;
    }
    free_mb_mgr(m);
}

bool wr_aes_works(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find);
    return aes.works;
}

static void *alloc_aligned(size_t size, void **base)
{
    *base = wr_alloc(size + ALIGN);
    return *base ? (void *)(((uintptr_t)*base + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1)) : NULL;
}

struct wr_aes_gcm *wr_aes_gcm_create(const uint8_t key[static WR_AES_KEY])
{
    void *base;
    struct wr_aes_gcm *gcm = alloc_aligned(sizeof(*gcm), &base);
    if (!gcm)
        return NULL;
    gcm->base = base;
    wr_aes_gcm_set_key(gcm, key);
    return gcm;
}

void wr_aes_gcm_set_key(struct wr_aes_gcm *gcm, const uint8_t key[static WR_AES_KEY])
{
    aes.schedule(key, &gcm->key);
}

void wr_aes_gcm_destroy(struct wr_aes_gcm *gcm)
{
    if (!gcm)
        return;
    void *base = gcm->base;
    sodium_memzero(gcm, sizeof(*gcm));
    wr_free(base);
}

void wr_aes_gcm_seal(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                     struct wr_bytes head, struct wr_bytes rest, uint8_t *out)
{
    uint8_t *tag = out + head.len + rest.len;
    if (rest.len == 0) {
        aes.seal(&gcm->key, &gcm->at, out, head.ptr, head.len, nonce, ad.ptr, ad.len, tag, WR_AES_TAG);
        return;
    }
    aes.begin(&gcm->key, &gcm->at, nonce, ad.ptr, ad.len);
    aes.seal_more(&gcm->key, &gcm->at, out, head.ptr, head.len);
    aes.seal_more(&gcm->key, &gcm->at, out + head.len, rest.ptr, rest.len);
    aes.seal_end(&gcm->key, &gcm->at, tag, WR_AES_TAG);
}

int wr_aes_gcm_open(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                    const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t tag[WR_AES_TAG];
    aes.open(&gcm->key, &gcm->at, out, in, len, nonce, ad.ptr, ad.len, tag, WR_AES_TAG);
    if (sodium_memcmp(tag, in + len, WR_AES_TAG) == 0)
        return 0;
    memset(out, 0, len);    /* it is deciphered before tags are compared */
    return WR_EAUTH;
}

struct wr_aes_block *wr_aes_block_create(const uint8_t key[static WR_AES_KEY])
{
    void *base;
    struct wr_aes_block *block = alloc_aligned(sizeof(*block), &base);
    if (!block)
        return NULL;
    block->base = base;
    aes.expand(key, block->encrypt, block->decrypt);
    return block;
}

void wr_aes_block_destroy(struct wr_aes_block *block)
{
    if (!block)
        return;
    void *base = block->base;
    sodium_memzero(block, sizeof(*block));
    wr_free(base);
}

/* Cipher feedback of one block is the encrypted start value, added to the text. */
void wr_aes_block_encrypt(const struct wr_aes_block *block, const uint8_t in[static WR_AES_BLOCK],
                          uint8_t out[static WR_AES_BLOCK])
{
    static const uint8_t zeros[WR_AES_BLOCK];
    aes.one(out, zeros, in, block->encrypt, WR_AES_BLOCK);
}

#else

bool wr_aes_works(void)
{
    return false;
}

struct wr_aes_gcm *wr_aes_gcm_create(const uint8_t key[static WR_AES_KEY])
{
    (void)key;
    return NULL;
}

void wr_aes_gcm_set_key(struct wr_aes_gcm *gcm, const uint8_t key[static WR_AES_KEY])
{
    (void)gcm, (void)key;
}

void wr_aes_gcm_destroy(struct wr_aes_gcm *gcm)
{
    (void)gcm;
}

void wr_aes_gcm_seal(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                     struct wr_bytes head, struct wr_bytes rest, uint8_t *out)
{
    (void)gcm, (void)nonce, (void)ad, (void)head, (void)rest, (void)out;
}

int wr_aes_gcm_open(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                    const uint8_t *in, size_t len, uint8_t *out)
{
    (void)gcm, (void)nonce, (void)ad, (void)in, (void)len, (void)out;
    return WR_EUNSUPPORTED;
}

struct wr_aes_block *wr_aes_block_create(const uint8_t key[static WR_AES_KEY])
{
    (void)key;
    return NULL;
}

void wr_aes_block_destroy(struct wr_aes_block *block)
{
    (void)block;
}

void wr_aes_block_encrypt(const struct wr_aes_block *block, const uint8_t in[static WR_AES_BLOCK],
                          uint8_t out[static WR_AES_BLOCK])
{
    (void)block, (void)in, (void)out;
}

#endif
