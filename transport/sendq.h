/* sendq.h - bytes waiting to be sent: a chain of chunks that holds nothing while empty. Value.
 * Chunks are charged to an account of the node's memory. */
#ifndef WR_SENDQ_H
#define WR_SENDQ_H

#include "transport/bytes.h"
#include "transport/limits.h"

#define WR_SENDQ_CHUNK 16384    /* bytes of the largest chunk, bookkeeping included */

struct wr_sendq_chunk;

struct wr_sendq {
    struct wr_sendq_chunk *head, *tail;    /* owned; NULL while empty */
    uint32_t len;                          /* bytes queued, lent ones included */
    const uint8_t *lent;                   /* borrowed until unlend; behind all chunks */
    uint32_t lent_len;
};

/* Appends a copy of up to len bytes and returns how many: fewer when memory is out or the account (the
 * same in every call) says so. */
size_t wr_sendq_put(struct wr_sendq *q, struct wr_account *account, const uint8_t *data, size_t len);
/* Moves the first len bytes to out; as many must be queued. */
void wr_sendq_take(struct wr_sendq *q, struct wr_account *account, uint8_t *out, size_t len);
/* Queues data without a copy, for as long as the caller can keep it where it is. One loan at a time, and no put before
 * it ends. */
void wr_sendq_lend(struct wr_sendq *q, const uint8_t *data, size_t len);
/* Ends the loan; returns how many of its bytes were taken. The others are out of the queue. */
size_t wr_sendq_unlend(struct wr_sendq *q, const uint8_t *data);
/* The first bytes, at most len, where they stand, when only lent ones are queued; else none. They count as taken. */
struct wr_bytes wr_sendq_take_lent(struct wr_sendq *q, size_t len);
void wr_sendq_clear(struct wr_sendq *q, struct wr_account *account);

#endif
