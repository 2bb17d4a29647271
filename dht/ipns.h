/* ipns.h - IPNS records: who signed what, in which order, until when. Value.
 * Spec: ipfs/specs, src/ipns/ipns-record.md. Only records with a version 2 signature are taken;
 * fields of version 1, when present, must say the same. The record's data is DAG-CBOR, of which
 * five keys are read. The name is a peer id; whether the record has expired is for the caller to
 * say, who knows how far the clock is to be trusted. */
#ifndef WR_IPNS_H
#define WR_IPNS_H

#include "transport/bytes.h"
#include "transport/peerid.h"

#define WR_IPNS_MAX (10 * 1024) /* bytes of a record; ipns-record.md */

struct wr_ipns {
    struct wr_bytes value;    /* a path, "/ipfs/..."; borrowed, as all slices here */
    struct wr_bytes validity; /* RFC 3339 text of expires_at */
    uint64_t sequence;
    uint64_t ttl;       /* nanoseconds a resolver may keep it */
    int64_t expires_at; /* nanoseconds since 1970 */
};

/* Decodes and verifies. 0; WR_EPROTO: malformed, too long, without version 2, or its versions
 * disagree; WR_EAUTH: not signed by the name's key; WR_EPEERID: carries a key that is not the
 * name's. */
int wr_ipns_open(struct wr_bytes record, const struct wr_peerid *name, struct wr_ipns *out);
/* The same without looking at who signed: for a record that was verified before. 0, WR_EPROTO. */
int wr_ipns_decode(struct wr_bytes record, struct wr_ipns *out);
/* >0: a is newer: higher sequence, then later expiry. 0: neither. */
int wr_ipns_compare(const struct wr_ipns *a, const struct wr_ipns *b);

#endif
