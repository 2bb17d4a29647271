#include "transport/timers.h"

#include <assert.h>

static bool earlier(const struct wr_timer *a, const struct wr_timer *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

/* Joins two heaps; the later root becomes the first child of the earlier one. A first child's prev is
 * its parent, any other child's prev the sibling to its left. */
static struct wr_timer *meld(struct wr_timer *a, struct wr_timer *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (earlier(b, a)) {
        struct wr_timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* The two passes of a pairing heap: siblings meld in pairs from the left, the pairs from the right. */
static struct wr_timer *meld_siblings(struct wr_timer *first)
{
    struct wr_timer *pairs = NULL;
    while (first) {
        struct wr_timer *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct wr_timer *root = NULL;
    while (pairs) {
        struct wr_timer *rest = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

void wr_timers_init(struct wr_timers *t)
{
    *t = (struct wr_timers){0};
}

void wr_timers_start(struct wr_timers *t, struct wr_timer *timer, wr_time at,
                     void (*on_timer)(struct wr_timer *))
{
    assert(at > 0 && on_timer);
    wr_timers_stop(t, timer);
    timer->at = at;
    timer->order = t->next_order++;
    timer->on_timer = on_timer;
    timer->child = timer->next = timer->prev = NULL;
    t->root = meld(t->root, timer);
}

void wr_timers_stop(struct wr_timers *t, struct wr_timer *timer)
{
    if (timer->at == 0)
        return;
    struct wr_timer *below = meld_siblings(timer->child);
    if (timer == t->root) {
        t->root = below;
    } else {
        if (timer->prev->child == timer)
            timer->prev->child = timer->next;
        else
            timer->prev->next = timer->next;
        if (timer->next)
            timer->next->prev = timer->prev;
        t->root = meld(t->root, below);
    }
    timer->at = 0;
    timer->child = timer->next = timer->prev = NULL;
}

wr_time wr_timers_next(const struct wr_timers *t)
{
    return t->root ? t->root->at : 0;
}

struct wr_timer *wr_timers_pop(struct wr_timers *t, wr_time now, uint64_t before)
{
    struct wr_timer *timer = t->root;
    if (!timer || timer->at > now || timer->order >= before)
        return NULL;
    wr_timers_stop(t, timer);
    return timer;
}
