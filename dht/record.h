/* record.h - which values may stand under which keys of the DHT, and which of two is the better.
 * Value. Spec: libp2p kad-dht/README.md, "Entry validation". The part between the first two slashes
 * of a key chooses the rule; the public network knows two: /pk/<multihash>    the public key whose
 * peer id that is /ipns/<peer id>    a record signed by it (ipns.h) The last part is binary in
 * both. */
#ifndef WR_RECORD_H
#define WR_RECORD_H

#include "transport/bytes.h"

/* unix_now: nanoseconds since 1970 by the wall clock. A record may be good and yet expired by a
 * clock that is years ahead, so that is an error of its own: WR_ESTALE. 0; WR_EUNSUPPORTED: no rule
 * for the key; WR_EPROTO, WR_EAUTH, WR_EPEERID: the value breaks it. */
int wr_record_check(struct wr_bytes key, struct wr_bytes value, int64_t unix_now);
bool wr_record_known(struct wr_bytes key); /* there is a rule for such keys */
/* Of two values that wr_record_check takes: >0: a is the better, <0: b, 0: the same. */
int wr_record_compare(struct wr_bytes key, struct wr_bytes a, struct wr_bytes b);

#endif
