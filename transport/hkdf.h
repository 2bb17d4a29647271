/* hkdf.h - HKDF-Expand-Label of TLS 1.3 (RFC 8446, section 7.1), which QUIC uses as well (RFC 9001, section 5.1).
 * Value. */
#ifndef WR_HKDF_H
#define WR_HKDF_H

#include "transport/bytes.h"

#include <gnutls/gnutls.h>

/* With an empty context; label is without "tls13 ", 16 bytes at most. Writes len bytes, 255 at most. 0, WR_ELIMIT. */
int wr_hkdf_label(gnutls_mac_algorithm_t hash, struct wr_bytes secret, const char *label, uint8_t *out, size_t len);

#endif
