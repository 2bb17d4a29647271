/* envelope.h - signed envelopes, and the peer record that identify and the DHT carry in them. Value.
 * Spec: libp2p RFC 0002 (envelope), RFC 0003 (peer record). On the wire the domain and payload type of
 * deployed go and js nodes are written; the RFC's own text, which rust writes, is read as well. */
#ifndef WR_ENVELOPE_H
#define WR_ENVELOPE_H

#include "transport/key.h"
#include "transport/maddr.h"
#include "transport/verified.h"

#define WR_ENVELOPE_MAX     8192    /* bytes; go-libp2p accepts as much */
#define WR_RECORD_ADDRS_MAX 64      /* addresses read from one record, the rest is dropped; ours */

/* A decoded and verified envelope; all slices point into the bytes it was decoded from. */
struct wr_envelope {
    struct wr_peerid signer;
    struct wr_bytes pubkey;     /* PublicKey protobuf */
    struct wr_bytes payload_type, payload;
};

#define WR_ENVELOPE_DOMAIN_MAX 64    /* characters of a domain, a constant of ours */

/* Decodes and verifies under the given domain. 0, WR_EPROTO, WR_EAUTH, WR_ELIMIT. */
int wr_envelope_open(struct wr_bytes in, const char *domain, struct wr_envelope *out);
/* Signs payload; appends the envelope to out, whose `full` is set when it does not fit or would be longer
 * than WR_ENVELOPE_MAX. */
void wr_envelope_seal(const struct wr_key *key, const char *domain, struct wr_bytes payload_type,
                      struct wr_bytes payload, struct wr_buf *out);

struct wr_peer_record {
    struct wr_peerid peer;
    uint64_t seq;     /* strictly increasing per peer */
    size_t count;     /* addresses */
    struct wr_maddr addrs[WR_RECORD_ADDRS_MAX];
};

/* A signed peer record in either deployed or RFC form; record->peer is the signer. Addresses that do
 * not parse are skipped. known: signatures found good before; borrowed, or NULL. 0, WR_EPROTO, WR_EAUTH,
 * WR_EPEERID (record names another than the signer), WR_ELIMIT. */
int wr_peer_record_open(struct wr_bytes in, struct wr_verified *known, struct wr_peer_record *record);
/* Our own record in the deployed form: at most WR_RECORD_ADDRS_MAX addresses, as given, without /p2p. */
void wr_peer_record_seal(const struct wr_key *key, uint64_t seq, const struct wr_maddr *addrs,
                         size_t count, struct wr_buf *out);

#endif
