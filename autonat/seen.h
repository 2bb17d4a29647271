/* seen.h - where does a peer see a connection of ours come from? The question that everybody answers: identify's
 * observedAddr. Service. */
#ifndef WR_SEEN_H
#define WR_SEEN_H

#include "transport/conn.h"
#include "transport/msg.h"

struct wr_seen {
    struct wr_msg msg;
    /* NULL: no answer, or none with an address. The swarm of the connection must outlive the call. */
    void (*on_done)(struct wr_seen *s, const struct wr_addr *seen);
};

/* on_done comes once, in a later turn. False: no stream to be had, and on_done does not follow. */
bool wr_seen_ask(struct wr_seen *s, struct wr_env *env, struct wr_conn *conn,
                 void (*on_done)(struct wr_seen *s, const struct wr_addr *seen));
void wr_seen_cancel(struct wr_seen *s);    /* also when nothing was asked: of zeros */

#endif
