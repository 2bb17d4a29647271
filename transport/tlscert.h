/* tlscert.h - the certificate that libp2p's TLS rests on: makes ours, judges a peer's. Value.
 * Spec: libp2p tls/tls.md. Self-signed X.509 v3 with an extension in which the host key signs the
 * certificate's key. */
#ifndef WR_TLSCERT_H
#define WR_TLSCERT_H

#include "transport/key.h"
#include "transport/peerid.h"

#include <gnutls/x509.h>

#define WR_TLSCERT_DER_MAX 8192    /* bytes of a peer's certificate; an RSA-8192 host makes 2.6 KiB; ours */

/* A fresh ECDSA P-256 key and a certificate of some 410 bytes on it, valid from an hour before `now`
 * (seconds since 1970) for a hundred years. 0 with both set (gnutls_x509_crt_deinit,
 * gnutls_x509_privkey_deinit), or WR_ELIMIT. */
int wr_tlscert_make(const struct wr_key *identity, int64_t now, gnutls_x509_crt_t *crt,
                    gnutls_x509_privkey_t *key);

struct wr_tlscert_info {
    struct wr_peerid peer;                /* who owns the host key */
    size_t pubkey_at, pubkey_len;         /* where its PublicKey protobuf stands in the DER */
    int64_t not_before, not_after;        /* seconds since 1970, both inclusive */
};

/* Judges a certificate by everything but the clock and the peer expected. The host key may be of any type
 * that key.h knows; the certificate's own must be ECDSA on P-256, P-384 or P-521, or Ed25519. All libp2p
 * implementations make such; with RSA a stranger could pick an exponent that costs us seconds. 0 with *info
 * set; else *why is a static sentence and the result WR_EPROTO (malformed, or what the spec forbids), WR_EAUTH (a signature is
 * wrong) or WR_ELIMIT. */
int wr_tlscert_verify(struct wr_bytes der, struct wr_tlscert_info *info, const char **why);
/* Whether it is valid at `now`, seconds since 1970. */
bool wr_tlscert_in_time(const struct wr_tlscert_info *info, int64_t now);

#endif
