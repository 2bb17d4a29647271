/* aead.h - ChaCha20-Poly1305 (RFC 8439) and AES-GCM (RFC 5116) from the fastest library present. Value.
 * An engine holds the library's scratch state, so that a session needs only its key; one engine a node.
 * ChaCha: libcrypto is used where it works, libsodium otherwise and for short messages. AES-128: the fast one of
 * transport/aes.h where it works, else, and for AES-256, libcrypto. */
#ifndef WR_AEAD_H
#define WR_AEAD_H

#include "transport/bytes.h"

#define WR_AEAD_KEY   32    /* bytes; AES-128 takes the first 16 */
#define WR_AEAD_TAG   16
#define WR_AEAD_NONCE 12
#define WR_AEAD_LEN_MAX ((size_t)1 << 30)    /* bytes of one message; libcrypto counts in int */

struct wr_aead;    /* engine */

enum wr_aead_library { WR_AEAD_LIBCRYPTO, WR_AEAD_LIBSODIUM, WR_AEAD_FAST_AES };
enum wr_aead_cipher { WR_AEAD_CHACHA20, WR_AEAD_AES128, WR_AEAD_AES256 };

struct wr_aead *wr_aead_create(void);    /* ChaCha20-Poly1305. NULL: out of memory */
/* The same with libsodium alone until wr_aead_warm: to find its cipher costs libcrypto 2 ms, a quarter of a node's
 * start. Sessions may go on across it. */
struct wr_aead *wr_aead_create_cold(void);
void wr_aead_warm(struct wr_aead *engine);
/* NULL: out of memory, or libcrypto has no such cipher. */
struct wr_aead *wr_aead_create_cipher(enum wr_aead_cipher cipher);
size_t wr_aead_key_len(enum wr_aead_cipher cipher);
/* With a stated library, for tests and comparisons. NULL also when it has no such cipher. */
struct wr_aead *wr_aead_create_with(enum wr_aead_library library, enum wr_aead_cipher cipher);
void wr_aead_destroy(struct wr_aead *engine);
/* In place (out == in) or apart: writes len + WR_AEAD_TAG bytes to out. 0; WR_ELIMIT when len is above
 * WR_AEAD_LEN_MAX or the library fails. */
int wr_aead_seal(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                 const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, const uint8_t *in,
                 size_t len, uint8_t *out);
/* The same for bytes that stand in two places: head, at out or apart from it, and rest behind it, apart from out. A
 * head of a multiple of 64 bytes, a whole number of any cipher's blocks, costs nothing. */
int wr_aead_seal_two(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                     const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, struct wr_bytes head,
                     struct wr_bytes rest, uint8_t *out);
/* len counts the tag; writes len - WR_AEAD_TAG bytes, zeros when the tag is wrong.
 * 0, WR_EAUTH (also for len < WR_AEAD_TAG), WR_ELIMIT. */
int wr_aead_open(struct wr_aead *engine, const uint8_t key[static WR_AEAD_KEY],
                 const uint8_t nonce[static WR_AEAD_NONCE], struct wr_bytes ad, const uint8_t *in,
                 size_t len, uint8_t *out);

#endif
