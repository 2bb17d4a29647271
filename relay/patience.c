#include "relay/patience.h"

#include "transport/list.h"

static void on_beat(struct wr_timer *timer);

static void next(struct wr_patience *p, wr_time now)
{
    p->due_at = now + p->beat;
    wr_timer_start(p->env, &p->timer, p->due_at, on_beat);
}

static void on_beat(struct wr_timer *timer)
{
    struct wr_patience *p = wr_list_entry(timer, struct wr_patience, timer);
    wr_time now = wr_env_now(p->env);
    if (now - p->due_at >= p->beat && p->excused < WR_PATIENCE_EXCUSE)
        p->excused++;
    else
        p->left--;
    if (p->left)
        next(p, now);
    else
        p->over(p);
}

void wr_patience_start(struct wr_patience *p, struct wr_env *env, wr_time time, void (*over)(struct wr_patience *p))
{
    p->env = env;
    p->beat = time / WR_PATIENCE_BEATS;
    p->left = WR_PATIENCE_BEATS;
    p->excused = 0;
    p->over = over;
    next(p, wr_env_now(env));
}

void wr_patience_stop(struct wr_patience *p)
{
    if (wr_timer_running(&p->timer))
        wr_timer_stop(p->env, &p->timer);
}
