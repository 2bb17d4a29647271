/* timers.h - the timer heap that every environment embeds. Value.
 * Only implementations of env.h include this; users start timers through env.h. */
#ifndef WR_TIMERS_H
#define WR_TIMERS_H

#include "transport/env.h"

struct wr_timers {
    struct wr_timer **heap;    /* owned */
    size_t count, cap;
    uint64_t next_order;
};

void wr_timers_init(struct wr_timers *t);
void wr_timers_clear(struct wr_timers *t);
/* Adds or moves. 0, WR_ELIMIT. */
int wr_timers_start(struct wr_timers *t, struct wr_timer *timer, wr_time at,
                    void (*on_timer)(struct wr_timer *));
void wr_timers_stop(struct wr_timers *t, struct wr_timer *timer);
/* When the earliest timer is due; 0 when none runs. */
wr_time wr_timers_next(const struct wr_timers *t);
/* Takes off and returns one timer due at `now` (already marked stopped), or NULL. */
struct wr_timer *wr_timers_pop(struct wr_timers *t, wr_time now);

#endif
