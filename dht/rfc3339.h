/* rfc3339.h - instants as RFC 3339 text and as nanoseconds since 1970 UTC. Value.
 * Records of the DHT carry such texts. Instants outside what int64_t holds (before 1678, after
 * 2262; records that never expire are dated 9999) are clamped to its ends. */
#ifndef WR_RFC3339_H
#define WR_RFC3339_H

#include "transport/bytes.h"

#define WR_RFC3339_TEXT 36 /* bytes of "2024-05-01T10:20:30.123456789Z" and NUL, with room */

/* Full date and time with Z or a numeric offset; fractions beyond nanoseconds are cut. 0,
 * WR_EPROTO. */
int wr_rfc3339_parse(struct wr_bytes text, int64_t *unix_ns);
/* UTC, NUL-terminated; trailing zeros of the fraction are left out, as go does. Returns the length.
 */
size_t wr_rfc3339_print(int64_t unix_ns, char out[static WR_RFC3339_TEXT]);

#endif
