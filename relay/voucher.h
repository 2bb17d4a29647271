/* voucher.h - a relay's signed word that it holds a place for a peer. Value.
 * Spec: libp2p relay/circuit-v2.md, "Reservation Vouchers": a signed envelope; domain and payload type as go-libp2p and
 * js-libp2p write them. rust-libp2p neither sends nor checks any. */
#ifndef WR_VOUCHER_H
#define WR_VOUCHER_H

#include "transport/envelope.h"

#define WR_VOUCHER_MAX 1024    /* bytes; ours: an RSA-4096 relay needs about as many */

struct wr_voucher {
    struct wr_peerid relay, peer;
    uint64_t expire;    /* seconds since 1970 */
};

/* Verifies; v->relay is who signed. 0, WR_EPROTO, WR_EAUTH, WR_EPEERID (it names another relay than the signer),
 * WR_ELIMIT. */
int wr_voucher_open(struct wr_bytes in, struct wr_voucher *v);
/* Appends; v->relay is the key's. out->full when it does not fit. */
void wr_voucher_seal(const struct wr_key *key, const struct wr_voucher *v, struct wr_buf *out);

#endif
