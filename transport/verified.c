#include "transport/verified.h"

#include <sodium.h>
#include <string.h>

#define DIGEST 16    /* bytes: who does not know the seed finds no second preimage, and may try once a handshake */
#define WAYS   4     /* places that a digest may have; of these the one that was not used for longest gives way */
#define SETS   (WR_VERIFIED_MAX / WAYS)

typedef uint8_t digest_bytes[DIGEST];

struct wr_verified {
    uint8_t seed[WR_VERIFIED_SEED];
    digest_bytes digests[SETS][WAYS];   /* the one used last comes first; all zero: none */
};

_Static_assert(DIGEST >= crypto_generichash_BYTES_MIN && WR_VERIFIED_SEED >= crypto_generichash_KEYBYTES_MIN,
               "within what libsodium takes");

struct wr_verified *wr_verified_create(const uint8_t seed[static WR_VERIFIED_SEED])
{
    struct wr_verified *v = wr_alloc(sizeof(*v));
    if (v)
        memcpy(v->seed, seed, sizeof(v->seed));
    return v;
}

void wr_verified_destroy(struct wr_verified *v)
{
    if (v)
        sodium_memzero(v->seed, sizeof(v->seed));
    wr_free(v);
}

/* The lengths go first: the same bytes cut elsewhere are another signature. */
static void digest_of(const struct wr_verified *v, struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig,
                      uint8_t out[static DIGEST])
{
    crypto_generichash_state state;
    const uint64_t lengths[] = {pubkey.len, message.len, sig.len};
    crypto_generichash_init(&state, v->seed, sizeof(v->seed), DIGEST);
    crypto_generichash_update(&state, (const uint8_t *)lengths, sizeof(lengths));
    crypto_generichash_update(&state, pubkey.ptr, pubkey.len);
    crypto_generichash_update(&state, message.ptr, message.len);
    crypto_generichash_update(&state, sig.ptr, sig.len);
    crypto_generichash_final(&state, out, DIGEST);
}

static digest_bytes *set_of(struct wr_verified *v, const uint8_t digest[static DIGEST])
{
    return v->digests[(size_t)(digest[0] | digest[1] << 8) % SETS];
}

/* Moves those before `at` one place on, and puts the digest first. */
static void put_first(digest_bytes *set, size_t at, const uint8_t digest[static DIGEST])
{
    memmove(set[1], set[0], at * DIGEST);
    memcpy(set[0], digest, DIGEST);
}

static bool find(struct wr_verified *v, const uint8_t digest[static DIGEST])
{
    digest_bytes *set = set_of(v, digest);
    for (size_t at = 0; at < WAYS; at++) {
        if (memcmp(set[at], digest, DIGEST) == 0) {
            put_first(set, at, digest);
            return true;
        }
    }
    return false;
}

bool wr_verified_knows(struct wr_verified *v, struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig)
{
    uint8_t digest[DIGEST];
    digest_of(v, pubkey, message, sig, digest);
    return find(v, digest);
}

int wr_verified_check(struct wr_verified *v, struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig)
{
    uint8_t digest[DIGEST];
    if (!v)
        return wr_pubkey_verify(pubkey, message, sig);
    digest_of(v, pubkey, message, sig, digest);
    if (find(v, digest))
        return 0;
    int rc = wr_pubkey_verify(pubkey, message, sig);
    if (rc == 0)
        put_first(set_of(v, digest), WAYS - 1, digest);
    return rc;
}
