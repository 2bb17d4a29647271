/* nat_words.h - what a stranger says to the services that help others through their NATs. */
#ifndef NAT_WORDS_H
#define NAT_WORDS_H

#include "transport/bytes.h"
#include "transport/peerid.h"

/* The n-th word to a relay: a place wanted, a circuit to `other`, to nobody, to oneself, nonsense. Appends the message
 * with its length; the protocol. */
const char *nat_word_to_relay(unsigned n, const struct wr_peerid *self, const struct wr_peerid *other,
                              struct wr_buf *out);
/* The same to the others: AutoNAT with addresses of third parties in both versions, nonces that were never given out,
 * circuits by somebody who is no relay of ours, a punch without a relayed connection. */
const char *nat_word(unsigned n, const struct wr_peerid *self, struct wr_buf *out);

#endif
