/* timers.h - the timer heap that every environment embeds. Value.
 * A pairing heap threaded through the timers themselves, so that starting one allocates nothing and
 * never fails. Start is O(1), stop and pop O(log n) amortised.
 * Only implementations of env.h include this; users start timers through env.h. */
#ifndef WR_TIMERS_H
#define WR_TIMERS_H

#include "transport/env.h"

struct wr_timers {
    struct wr_timer *root;    /* earliest; borrowed, like all below it */
    uint64_t next_order;
};

void wr_timers_init(struct wr_timers *t);
/* Adds or moves. `at` is positive. */
void wr_timers_start(struct wr_timers *t, struct wr_timer *timer, wr_time at,
                     void (*on_timer)(struct wr_timer *));
void wr_timers_stop(struct wr_timers *t, struct wr_timer *timer);    /* no harm when stopped */
/* When the earliest timer is due; 0 when none runs. */
wr_time wr_timers_next(const struct wr_timers *t);
/* Takes off and returns (marked stopped) one timer due at `now` and started before `before`, or NULL.
 * With `before` the next_order of when a round began, a timer that starts itself again for the same
 * instant waits for the next round. */
struct wr_timer *wr_timers_pop(struct wr_timers *t, wr_time now, uint64_t before);

#endif
