/* aes.h - AES-128-GCM (RFC 5116) and single blocks of AES-128 under keys that stay scheduled. Value.
 * From Intel's library for multi-buffer cryptography, where the program was built with it and the processor has what
 * it needs: a packet costs a quarter of what it costs with GnuTLS or libcrypto 3.0, a record of 16 KiB a third
 * (docs/benchmarks.md). Elsewhere wr_aes_works says no, and callers take one of those. */
#ifndef WR_AES_H
#define WR_AES_H

#include "transport/bytes.h"

#define WR_AES_KEY   16    /* bytes, all of them */
#define WR_AES_NONCE 12
#define WR_AES_TAG   16
#define WR_AES_BLOCK 16

struct wr_aes_gcm;      /* one key's schedule, 1 KiB; not for two threads at once */
struct wr_aes_block;    /* another's, for single blocks */

bool wr_aes_works(void);
/* NULL: out of memory. Only where wr_aes_works. */
struct wr_aes_gcm *wr_aes_gcm_create(const uint8_t key[static WR_AES_KEY]);
void wr_aes_gcm_set_key(struct wr_aes_gcm *gcm, const uint8_t key[static WR_AES_KEY]);    /* another one from here on */
void wr_aes_gcm_destroy(struct wr_aes_gcm *gcm);    /* wipes it; NULL: nothing */
/* Head and rest, one behind the other, to out: each may stand where it goes to, or apart from all of out. Writes
 * their lengths + WR_AES_TAG bytes. */
void wr_aes_gcm_seal(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                     struct wr_bytes head, struct wr_bytes rest, uint8_t *out);
/* In place (out == in) or apart; len is without the tag, which stands behind. Writes len bytes, zeros when the tag
 * is wrong. 0, WR_EAUTH. */
int wr_aes_gcm_open(struct wr_aes_gcm *gcm, const uint8_t nonce[static WR_AES_NONCE], struct wr_bytes ad,
                    const uint8_t *in, size_t len, uint8_t *out);

struct wr_aes_block *wr_aes_block_create(const uint8_t key[static WR_AES_KEY]);    /* as wr_aes_gcm_create */
void wr_aes_block_destroy(struct wr_aes_block *block);
void wr_aes_block_encrypt(const struct wr_aes_block *block, const uint8_t in[static WR_AES_BLOCK],
                          uint8_t out[static WR_AES_BLOCK]);

#endif
