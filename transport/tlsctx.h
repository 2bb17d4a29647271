/* tlsctx.h - what all TLS sessions of a node share, over TCP and inside QUIC: the certificate, the list of
 * ciphers, the protocol names, and the verdict on a peer's certificate. Value.
 * Spec: libp2p tls/tls.md; TLS 1.3 only, no tickets, no early data, no server name.
 *
 * A session: wr_tlsctx_session, then gnutls_session_set_ptr (or QUIC's own) and
 * gnutls_session_set_verify_function with a function that calls wr_tlsctx_verify and returns nonzero when
 * it refused: GnuTLS then ends the handshake with bad_certificate. */
#ifndef WR_TLSCTX_H
#define WR_TLSCTX_H

#include "transport/aead.h"
#include "transport/key.h"
#include "transport/peerid.h"

#include <gnutls/gnutls.h>

#define WR_TLSCTX_ALPN       "libp2p"         /* QUIC: alone; TCP: the muxer is negotiated afterwards */
#define WR_TLSCTX_ALPN_YAMUX "/yamux/1.0.0"   /* TCP: that muxer, at once */

struct wr_tlsctx;

enum wr_tlsctx_use { WR_TLSCTX_TCP, WR_TLSCTX_QUIC };

/* now: seconds since 1970. NULL: out of memory. Costs half a millisecond: once per node. */
struct wr_tlsctx *wr_tlsctx_create(const struct wr_key *identity, int64_t now);
void wr_tlsctx_destroy(struct wr_tlsctx *ctx);    /* after its sessions; NULL is allowed */

/* A session with version, ciphers, certificate and protocol names set, on a server also the demand for a
 * client's certificate. Non-blocking; the caller sets transport, pointer and verify function. A client that
 * sends no protocol name at all is refused like one whose names are foreign (alert 120). 0, WR_ELIMIT. */
int wr_tlsctx_session(struct wr_tlsctx *ctx, enum wr_tlsctx_use use, bool dialer,
                      gnutls_session_t *out);

/* The engine for records of TLS over TCP, made when the first session needs it. NULL: out of memory. */
struct wr_aead *wr_tlsctx_aead(struct wr_tlsctx *ctx, enum wr_aead_cipher cipher);

struct wr_tlsctx_peer {
    struct wr_peerid id;
    struct wr_bytes pubkey;    /* PublicKey protobuf; borrowed from the session */
};

/* Judges the peer of a session inside its verify function. now: seconds since 1970; expect: NULL for
 * anybody. 0 with *peer set; else *why is a static sentence and the result WR_EPROTO, WR_EAUTH,
 * WR_EPEERID (not expect) or WR_ELIMIT. Certificates seen before cost one hash. */
int wr_tlsctx_verify(struct wr_tlsctx *ctx, gnutls_session_t session, int64_t now,
                     const struct wr_peerid *expect, struct wr_tlsctx_peer *peer, const char **why);

#endif
