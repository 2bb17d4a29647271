/* patience.h - how long an answer is waited for, less what kept ourselves. Service.
 * On a machine that has much else to do, or when the process is stopped for a while, the answer may lie there when the
 * timer goes off, and it is we who did not look. So the wait is counted in beats: one that comes late is one beat all the
 * same, and one that comes later than it is long counts for nothing, as what came meanwhile may still be unread. */
#ifndef WR_PATIENCE_H
#define WR_PATIENCE_H

#include "transport/env.h"

#define WR_PATIENCE_BEATS  8     /* of one wait; ours */
#define WR_PATIENCE_EXCUSE 16    /* of them that count for nothing: who is late for ever waits no longer than that; ours */

/* One wait: zeroed before first use, stopped before it is freed. */
struct wr_patience {
    struct wr_env *env;
    struct wr_timer timer;
    wr_time beat, due_at;    /* how long one is; the end of this one */
    unsigned left, excused;
    void (*over)(struct wr_patience *p);
};

/* Calls `over` once when so much time has passed; starting again begins anew. */
void wr_patience_start(struct wr_patience *p, struct wr_env *env, wr_time time, void (*over)(struct wr_patience *p));
void wr_patience_stop(struct wr_patience *p);

#endif
