#include "transport/wall.h"

static int64_t estimate(const struct wr_wall *w, wr_time now)
{
    return w->unix_at + (now - w->mono_at);
}

/* Keeps sums of times within their type. */
static int64_t within(int64_t unix_now)
{
    if (unix_now < 0)
        return 0;
    return unix_now > WR_WALL_CEILING ? WR_WALL_CEILING : unix_now;
}

static int64_t take(struct wr_wall *w, int64_t unix_now, wr_time now)
{
    w->unix_at = unix_now;
    w->mono_at = now;
    w->believed = true;
    w->suspect = false;
    return unix_now;
}

void wr_wall_init(struct wr_wall *w, int64_t saved, int64_t unix_now, wr_time now)
{
    saved = within(saved);
    *w = (struct wr_wall){.unix_at = saved, .mono_at = now, .believed = saved >= WR_WALL_FLOOR};
    if (!w->believed)
        w->unix_at = WR_WALL_FLOOR;
    wr_wall_read(w, unix_now, now);
}

static bool close_to(int64_t a, int64_t b)
{
    return a - b <= WR_WALL_BEHIND && b - a <= WR_WALL_BEHIND;
}

int64_t wr_wall_read(struct wr_wall *w, int64_t unix_now, wr_time now)
{
    unix_now = within(unix_now);
    int64_t believed = estimate(w, now), ahead = unix_now - believed;
    if (ahead >= 0 && (ahead <= WR_WALL_AHEAD || !w->believed))
        return take(w, unix_now, now);
    if (ahead < 0 && ahead >= -WR_WALL_BEHIND) {
        w->suspect = false;
        return believed;
    }
    int64_t distance = unix_now - now;
    if (!w->suspect || !close_to(distance, w->distance)) {
        w->suspect = true;
        w->distance = distance;
        w->suspect_at = now;
    }
    /* A clock before the floor is wrong however long it stays so. */
    if (now - w->suspect_at >= WR_WALL_CONFIRM && unix_now >= WR_WALL_FLOOR)
        return take(w, unix_now, now);
    return believed;
}
