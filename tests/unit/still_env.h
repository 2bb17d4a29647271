/* still_env.h - an environment in which nothing happens by itself: the test moves its clocks, and work is
 * done when the test says so. For tests of what stands on env.h but needs no network. Included once per
 * test program. */
#ifndef STILL_ENV_H
#define STILL_ENV_H

#include "transport/env_turn.h"

#include <string.h>

struct still_env {
    struct wr_env env;    /* first */
    wr_time now;
    int64_t unix_now;
    uint64_t chance;
    struct wr_work *work; /* one at a time */
};

static struct still_env still;

wr_time wr_env_now(const struct wr_env *env)
{
    return env->in_turn ? env->now : still.now;
}

int64_t wr_env_unix(const struct wr_env *env)
{
    (void)env;
    return still.unix_now;
}

void wr_env_random(struct wr_env *env, void *out, size_t len)
{
    (void)env;
    for (size_t i = 0; i < len; i++) {
        still.chance = still.chance * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(still.chance >> 56);
    }
}

void wr_env_turn_wake(struct wr_env *env)
{
    (void)env;
}

int wr_env_work(struct wr_env *env, struct wr_work *work)
{
    (void)env;
    still.work = work;
    return 0;
}

static inline struct wr_env *still_start(int64_t unix_now)
{
    memset(&still, 0, sizeof(still));
    wr_env_turn_init(&still.env, NULL);
    still.now = 100 * WR_SEC;
    still.unix_now = unix_now;
    still.chance = 1;
    return &still.env;
}

/* Settles, does the work that waits, and fires what is due. */
static inline void still_run(void)
{
    do {
        wr_env_turn_begin(&still.env, still.now);
        struct wr_work *work = still.work;
        still.work = NULL;
        if (work) {
            work->run(work);
            work->done(work);
        }
        wr_env_turn_end(&still.env);
        wr_env_turn_timers(&still.env, still.now);
    } while (still.work);
}

/* Both clocks go on. */
static inline void still_pass(wr_time time)
{
    still.now += time;
    still.unix_now += time;
    still_run();
}

#endif
