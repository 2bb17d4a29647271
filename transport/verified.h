/* verified.h - signatures that were found good before and need not be verified again. Value.
 * Who comes back shows what he showed the last time: the signature over his static key (Noise; rust, js and warren
 * keep that key while they run, go makes one for each connection), and his signed record, as long as his addresses
 * stay. A verification is the dearest step of a handshake that can be remembered. Only good ones are, by a keyed
 * hash of key, message and signature; the key stays here, so nobody can look for two that hash alike. */
#ifndef WR_VERIFIED_H
#define WR_VERIFIED_H

#include "transport/key.h"

#define WR_VERIFIED_MAX 1024    /* signatures: 16 KiB; ours. A stranger who fills it costs us time, no more */
#define WR_VERIFIED_SEED 16     /* bytes */

struct wr_verified;

/* The seed is secret, and the same for as long as the table lives. NULL: out of memory. */
struct wr_verified *wr_verified_create(const uint8_t seed[static WR_VERIFIED_SEED]);
void wr_verified_destroy(struct wr_verified *v);    /* NULL is allowed */

/* Whether these very bytes were found good, and were not forgotten for others since. */
bool wr_verified_knows(struct wr_verified *v, struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig);
/* wr_pubkey_verify, with the same results, at the price of a hash where they are known; what is good is
 * known from then on. v: NULL remembers nothing. */
int wr_verified_check(struct wr_verified *v, struct wr_bytes pubkey, struct wr_bytes message, struct wr_bytes sig);

#endif
