/* wall.h - a wall clock that can be believed. Value.
 * The system's clock may be years wrong at start (no battery, no network yet), be set right later, or
 * jump. Whoever ages stored things or stamps signed ones must not follow it blindly: one look at a clock
 * in 2099 would expire everything, one in 1970 nothing ever again. This keeps its own idea, which runs with
 * the monotonic clock and is saved over restarts, and takes readings of the system's clock as evidence:
 *   - up to WR_WALL_AHEAD ahead: taken at once; the machine slept, or the node was off for so long;
 *   - a little behind: left as it is, our idea never runs backwards by that;
 *   - further off, either way: suspect. Taken only once it has been confirmed by time passing: when the
 *     clock kept the same distance for WR_WALL_CONFIRM of running, it is how this machine has it;
 *   - before anything was ever believed, whatever is not before WR_WALL_FLOOR is taken.
 * All times are nanoseconds since 1970 unless of type wr_time. */
#ifndef WR_WALL_H
#define WR_WALL_H

#include "transport/env.h"

#define WR_WALL_FLOOR   (1767225600 * (int64_t)WR_SEC)    /* 2026-01-01: nobody ran this before */
#define WR_WALL_CEILING (INT64_MAX / 2)        /* in 2116; a clock beyond counts as there */
#define WR_WALL_AHEAD   (30 * 24 * WR_HOUR)    /* a month off or asleep is ordinary; ours */
#define WR_WALL_BEHIND  (10 * WR_MIN)          /* corrections of a clock that is right; ours */
#define WR_WALL_CONFIRM WR_HOUR                /* time synchronisation has set it long before; ours */

struct wr_wall {
    int64_t unix_at;       /* what we believe it was ... */
    wr_time mono_at;       /* ... at this moment */
    bool believed;         /* unix_at rests on evidence: a reading taken, or a saved time */
    bool suspect;          /* the last reading was not taken */
    int64_t distance;      /* of a suspect clock from the monotonic one */
    wr_time suspect_at;    /* since when it keeps that distance */
};

/* saved: what wr_wall_read said in an earlier life, 0: none. unix, now: the clocks' readings. */
void wr_wall_init(struct wr_wall *w, int64_t saved, int64_t unix_now, wr_time now);
/* Takes a reading in and says what time it is. Never goes back but when a clock that is behind was
 * confirmed. */
int64_t wr_wall_read(struct wr_wall *w, int64_t unix_now, wr_time now);

#endif
