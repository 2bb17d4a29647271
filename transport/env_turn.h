/* env_turn.h - what both environments share: turns, settling, timers, watches. Service.
 * An implementation's struct begins with a struct wr_env, so that a pointer to one is a pointer to the
 * other. For every input it calls wr_env_turn_begin, the handler, wr_env_turn_end.
 * Only implementations of env.h include this. */
#ifndef WR_ENV_TURN_H
#define WR_ENV_TURN_H

#include "transport/env.h"
#include "transport/timers.h"

#define WR_ENV_HASH_SEED_BYTES 16    /* env.h */

struct wr_env {
    wr_time now;    /* of this turn */
    bool in_turn;
    struct wr_timers timers;
    struct wr_list deferred, disposals;    /* struct wr_task, borrowed */
    struct wr_list watches;                /* struct wr_net_watch, borrowed */
    uint64_t net_cuts;
    const struct wr_log *log;              /* borrowed; may be NULL */
    uint8_t hash_seed[WR_ENV_HASH_SEED_BYTES];
};

/* Supplied by the implementation: something was queued outside a turn, so let a round come soon that
 * calls wr_env_turn_timers and wr_env_turn_end, and wait no longer than for the earliest timer. */
void wr_env_turn_wake(struct wr_env *env);

/* hash_seed stays zero: the implementation fills it. */
void wr_env_turn_init(struct wr_env *env, const struct wr_log *log);
void wr_env_turn_begin(struct wr_env *env, wr_time now);
/* Settles: deferred tasks in order until none is left, then disposals. */
void wr_env_turn_end(struct wr_env *env);
/* Tasks wait for a turn to end. */
bool wr_env_turn_pending(const struct wr_env *env);
/* Fires the timers due at `now`, a turn for each; those started meanwhile wait for the next call. */
void wr_env_turn_timers(struct wr_env *env, wr_time now);
/* Calls every watch; within a turn. */
void wr_env_turn_tell_watches(struct wr_env *env);

#endif
