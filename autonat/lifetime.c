#include "autonat/lifetime.h"

wr_time wr_lifetime_silence(unsigned step)
{
    double silence = (double)WR_LIFETIME_FIRST;
    for (unsigned i = 0; i < step; i++)
        silence *= WR_LIFETIME_RATIO;
    return (wr_time)silence;
}

void wr_lifetime_note(struct wr_lifetime *l, unsigned step, bool lived)
{
    if (step >= WR_LIFETIME_STEPS)
        return;
    if (lived)
        l->lived[step]++;
    else
        l->died[step]++;
}

/* Who says that it was not survived may have lost a packet. */
int wr_lifetime_floor(const struct wr_lifetime *l)
{
    for (int i = WR_LIFETIME_STEPS - 1; i >= 0; i--)
        if (l->lived[i])
            return i;
    return -1;
}

/* The shortest longer one that was not survived by enough tries of it or of shorter ones; WR_LIFETIME_STEPS: none. */
static int ceiling_of(const struct wr_lifetime *l)
{
    unsigned died = 0;
    for (int i = wr_lifetime_floor(l) + 1; i < WR_LIFETIME_STEPS; i++) {
        died += l->died[i];
        if (died >= WR_LIFETIME_NEED)
            return i;
    }
    return WR_LIFETIME_STEPS;
}

/* The first one in between that has died, when together with a longer one that makes enough: a longer silence is no
 * kinder. */
static int lowest_death(const struct wr_lifetime *l)
{
    int i = wr_lifetime_floor(l) + 1, ceiling = ceiling_of(l);
    while (i < ceiling && !l->died[i])
        i++;
    return i;
}

bool wr_lifetime_open(const struct wr_lifetime *l, unsigned step)
{
    return (int)step > wr_lifetime_floor(l) && (int)step <= ceiling_of(l) && l->died[step] < WR_LIFETIME_NEED;
}

int wr_lifetime_next(const struct wr_lifetime *l)
{
    int low = wr_lifetime_floor(l), high = lowest_death(l);
    if (high - low > 1)
        return (low + high) / 2;
    /* Neighbours: is the higher one sure? */
    return high < WR_LIFETIME_STEPS && ceiling_of(l) == WR_LIFETIME_STEPS ? high : -1;
}

wr_time wr_lifetime_judge(const struct wr_lifetime *l, bool *least)
{
    int low = wr_lifetime_floor(l), high = lowest_death(l);
    *least = low == WR_LIFETIME_STEPS - 1;
    if (*least)
        return wr_lifetime_silence((unsigned)low);
    if (high - low != 1 || ceiling_of(l) == WR_LIFETIME_STEPS)
        return 0;
    wr_time above = wr_lifetime_silence((unsigned)high);
    wr_time below = low < 0 ? 0 : wr_lifetime_silence((unsigned)low);
    return low < 0 ? above : (above + below) / 2;
}
