#include "autonat/pulse.h"

#include "transport/list.h"

static bool late_now(const struct wr_pulse *p)
{
    return wr_env_now(p->env) - p->due_at >= WR_PULSE_LATE;
}

static void beat(struct wr_timer *timer)
{
    struct wr_pulse *p = wr_list_entry(timer, struct wr_pulse, timer);
    wr_time now = wr_env_now(p->env);
    if (late_now(p))
        p->late_at = now;
    p->due_at = now + WR_PULSE_BEAT;
    wr_timer_start(p->env, timer, p->due_at, beat);
}

void wr_pulse_start(struct wr_pulse *p, struct wr_env *env)
{
    if (wr_timer_running(&p->timer))
        return;
    p->env = env;
    p->due_at = wr_env_now(env) + WR_PULSE_BEAT;
    wr_timer_start(env, &p->timer, p->due_at, beat);
}

void wr_pulse_stop(struct wr_pulse *p)
{
    if (wr_timer_running(&p->timer))
        wr_timer_stop(p->env, &p->timer);
}

bool wr_pulse_late(const struct wr_pulse *p, wr_time since)
{
    return (wr_timer_running(&p->timer) && late_now(p)) || (p->late_at && p->late_at >= since);
}
