/* base.h - base58btc, base32, base36, base64, base64url and hex. Value.
 * Spec: multiformats/multibase. Bare codings: the multibase prefix letter is the caller's, except in
 * wr_multibase_decode. */
#ifndef WR_BASE_H
#define WR_BASE_H

#include "transport/bytes.h"

enum wr_base {
    WR_BASE58BTC,
    WR_BASE36,       /* lower case */
    WR_BASE32,       /* RFC 4648, lower case, no padding */
    WR_BASE64,       /* padded when printed, padding optional when parsed */
    WR_BASE64URL,    /* no padding */
    WR_BASE16,       /* lower case printed, either case parsed */
};

/* Input bound of the quadratic codings (58, 36): both directions refuse more (an encoder by out->full). */
#define WR_BASE_BIG_MAX 256    /* bytes or characters */

/* Appends the text (no NUL) to out; out->full when it does not fit. */
void wr_base_encode(enum wr_base base, struct wr_bytes in, struct wr_buf *out);
/* Appends the bytes to out. 0; WR_EINVAL for a character or length that the base does not have, or stray
 * bits at the end: one text for the same bytes; WR_ELIMIT when out is full. */
int wr_base_decode(enum wr_base base, struct wr_bytes text, struct wr_buf *out);
/* Text with a multibase prefix: z, k, b, m, M, u, U, f (and F, B, K upper case). As wr_base_decode. */
int wr_multibase_decode(struct wr_bytes text, struct wr_buf *out);

#endif
