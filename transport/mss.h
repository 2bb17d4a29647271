/* mss.h - multistream-select 1.0: agree on a protocol name. Machine: no time, no allocation.
 * Spec: libp2p connections/README.md, "multistream-select". A dialler may go on behind its proposal
 * without waiting (optimistic): what follows in `out` is then the new protocol's. */
#ifndef WR_MSS_H
#define WR_MSS_H

#include "transport/bytes.h"
#include "transport/err.h"

#define WR_MSS_LINE_MAX     1024    /* bytes with '\n'; go and js bound, rust takes 16383 */
#define WR_MSS_REFUSALS_MAX 64      /* proposals a listener turns down before it gives up; ours */

/* Whether a listener takes this protocol: an own, long-lived name equal to `name`, or NULL. */
typedef const char *(*wr_mss_match)(void *arg, struct wr_bytes name);

struct wr_mss {
    bool dialer, greeted;
    const char *const *offer;    /* dialer: NULL-ended, best first; borrowed for the machine's life */
    size_t next;                 /* dialer: index of the proposal under way */
    wr_mss_match match;          /* listener */
    void *match_arg;
    const char *agreed;          /* set once input returned 1 */
    unsigned refused;            /* listener: proposals answered with na */
    size_t have;                 /* bytes held in line: an incomplete line with its length in front */
    uint8_t line[WR_MSS_LINE_MAX + 2];
};

/* Appends header and first proposal (offer[0], which must be there) to out. */
void wr_mss_dial(struct wr_mss *m, const char *const *offer, struct wr_buf *out);
/* A listener stays silent until it heard the dialler's header (as rust, js and nim do). */
void wr_mss_listen(struct wr_mss *m, wr_mss_match match, void *arg);
/* Takes bytes from the peer, advancing *in; appends replies to out.
 * 1: agreed, the rest of *in is the new protocol's. 0: wants more. <0, over (reset, do not half-close: a
 * peer that said na keeps waiting): WR_EPROTO; WR_EUNSUPPORTED (dialer: all proposals refused; listener:
 * too many refused); WR_ELIMIT (out is full). */
int wr_mss_input(struct wr_mss *m, struct wr_bytes *in, struct wr_buf *out);

#endif
