/* protocols.h - the protocols that we answer, and who answers them. Value.
 * Names are matched whole. The set changes while the node runs (a DHT that turns client withdraws its
 * name); the generation number tells identify to push. */
#ifndef WR_PROTOCOLS_H
#define WR_PROTOCOLS_H

#include "transport/bytes.h"

struct wr_stream;

#define WR_PROTOCOLS_MAX     64     /* names; ours */
#define WR_PROTOCOL_NAME_MAX 100    /* bytes; ours, see transport sheet 3.3 */

struct wr_protocol {
    char name[WR_PROTOCOL_NAME_MAX + 1];
    /* A peer opened a stream with this protocol: set its handlers inside, or reset it. */
    void (*on_stream)(struct wr_stream *s, void *arg);
    void *arg;
    /* Streams of it per connection at once; one more is reset, and counted as refused under limit
     * STREAMS_PER_PROTOCOL, which is the most that any protocol has. */
    unsigned inbound_max;
    bool limited;            /* also over connections marked limited (relayed) */
    bool hidden;             /* answered, not announced by identify */
};

struct wr_protocols {
    struct wr_protocol *of[WR_PROTOCOLS_MAX];    /* owned */
    size_t count;
    uint64_t generation;    /* grows with every change */
};

void wr_protocols_init(struct wr_protocols *p);
void wr_protocols_clear(struct wr_protocols *p);
/* Copies. 0, WR_EEXIST, WR_ELIMIT, WR_EINVAL (name empty, too long or without leading '/'). */
int wr_protocols_add(struct wr_protocols *p, const struct wr_protocol *protocol);
/* Announced from now on, or not. True when that is news. */
bool wr_protocols_hide(struct wr_protocols *p, const char *name, bool hidden);
bool wr_protocols_remove(struct wr_protocols *p, const char *name);
const struct wr_protocol *wr_protocols_find(const struct wr_protocols *p, struct wr_bytes name);

#endif
