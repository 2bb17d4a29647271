/* tls_impl.h - what tls.c and tls_record.c share. Machine. */
#ifndef WR_TLS_IMPL_H
#define WR_TLS_IMPL_H

#include "transport/tls.h"

/* Records under these traffic secrets, as long as the cipher's hash. NULL: out of memory. */
struct wr_tls_session *wr_tls_session_create(struct wr_tlsctx *ctx, enum wr_aead_cipher cipher,
                                             bool dialer, const uint8_t *send, const uint8_t *recv);

#endif
