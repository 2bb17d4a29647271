#include "transport/env_turn.h"

#include <assert.h>

void wr_env_turn_init(struct wr_env *env, const struct wr_log *log)
{
    *env = (struct wr_env){.log = log};
    wr_timers_init(&env->timers);
    wr_list_init(&env->deferred);
    wr_list_init(&env->disposals);
    wr_list_init(&env->watches);
}

void wr_env_turn_begin(struct wr_env *env, wr_time now)
{
    assert(!env->in_turn && now > 0);
    env->in_turn = true;
    env->now = now;
}

static bool run_one(struct wr_list *tasks)
{
    struct wr_list *node = wr_list_pop(tasks);
    if (!node)
        return false;
    struct wr_task *task = wr_list_entry(node, struct wr_task, node);
    task->run(task);
    return true;
}

void wr_env_turn_end(struct wr_env *env)
{
    assert(env->in_turn);
    /* A disposal may free the task it was queued with; it may also defer work of others. */
    do {
        while (run_one(&env->deferred))
            ;
    } while (run_one(&env->disposals));
    env->in_turn = false;
}

bool wr_env_turn_pending(const struct wr_env *env)
{
    return !wr_list_empty(&env->deferred) || !wr_list_empty(&env->disposals);
}

void wr_env_turn_timers(struct wr_env *env, wr_time now)
{
    uint64_t before = env->timers.next_order;
    struct wr_timer *timer;
    while ((timer = wr_timers_pop(&env->timers, now, before))) {
        wr_env_turn_begin(env, now);
        timer->on_timer(timer);
        wr_env_turn_end(env);
    }
}

void wr_env_turn_tell_watches(struct wr_env *env)
{
    assert(env->in_turn);
    /* A handler may stop any watch, so each goes back before it is called. */
    struct wr_list waiting, *node;
    wr_list_init(&waiting);
    while ((node = wr_list_pop(&env->watches)))
        wr_list_append(&waiting, node);
    while ((node = wr_list_pop(&waiting))) {
        wr_list_append(&env->watches, node);
        struct wr_net_watch *watch = wr_list_entry(node, struct wr_net_watch, node);
        watch->on_change(watch);
    }
}

uint64_t wr_env_net_cuts(const struct wr_env *env)
{
    return env->net_cuts;
}

const uint8_t *wr_env_hash_seed(const struct wr_env *env)
{
    return env->hash_seed;
}

const struct wr_log *wr_env_log(const struct wr_env *env)
{
    return env->log;
}

uint64_t wr_env_random_below(struct wr_env *env, uint64_t below)
{
    if (below == 0)
        return 0;
    /* 2^64 mod below: draws under it would favour the small remainders, so they are drawn again. */
    uint64_t biased = (0 - below) % below, drawn;
    do
        wr_env_random(env, &drawn, sizeof(drawn));
    while (drawn < biased);
    return drawn % below;
}

void wr_timer_start(struct wr_env *env, struct wr_timer *timer, wr_time at,
                    void (*on_timer)(struct wr_timer *timer))
{
    /* Not before now: otherwise a timer that keeps starting itself in the past would stay the earliest
     * and hide those that are due after it. */
    wr_time now = wr_env_now(env);
    wr_timers_start(&env->timers, timer, at > now ? at : now, on_timer);
    if (!env->in_turn)
        wr_env_turn_wake(env);
}

void wr_timer_stop(struct wr_env *env, struct wr_timer *timer)
{
    wr_timers_stop(&env->timers, timer);
}

static bool queued(const struct wr_task *task)
{
    return task->node.next && !wr_list_empty(&task->node);
}

static void queue(struct wr_env *env, struct wr_list *tasks, struct wr_task *task,
                  void (*run)(struct wr_task *task))
{
    wr_list_init(&task->node);
    task->run = run;
    wr_list_append(tasks, &task->node);
    if (!env->in_turn)
        wr_env_turn_wake(env);
}

void wr_env_defer(struct wr_env *env, struct wr_task *task, void (*run)(struct wr_task *task))
{
    if (!queued(task))
        queue(env, &env->deferred, task, run);
}

void wr_env_dispose(struct wr_env *env, struct wr_task *task, void (*run)(struct wr_task *task))
{
    wr_task_cancel(task);
    queue(env, &env->disposals, task, run);
}

void wr_task_cancel(struct wr_task *task)
{
    if (queued(task))
        wr_list_remove(&task->node);
}

void wr_net_watch_stop(struct wr_net_watch *watch)
{
    if (watch->node.next)
        wr_list_remove(&watch->node);
}
