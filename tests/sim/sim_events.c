/* What happens next: a heap of four children a node in one array. The program's own timers thread their
 * heap through themselves; with tens of thousands pending that is a cache miss for each comparison, and
 * the simulator does little else. */
#include "tests/sim/sim_priv.h"

#define SLEEP_MIN (5 * WR_SEC)    /* standing still for so long is noticed; as env_uv_link.c */

struct sim_slot {
    wr_time at;
    uint64_t order;
    struct sim_event *event;
};

static bool earlier(const struct sim_slot *a, const struct sim_slot *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void put(struct sim_queue *q, size_t i, struct sim_slot slot)
{
    q->slots[i] = slot;
    slot.event->slot = i + 1;
}

static void sift_up(struct sim_queue *q, size_t i, struct sim_slot slot)
{
    while (i > 0 && earlier(&slot, &q->slots[(i - 1) / 4])) {
        put(q, i, q->slots[(i - 1) / 4]);
        i = (i - 1) / 4;
    }
    put(q, i, slot);
}

static void sift_down(struct sim_queue *q, size_t i, struct sim_slot slot)
{
    for (;;) {
        size_t first = 4 * i + 1, best = first;
        if (first >= q->count)
            break;
        for (size_t k = first + 1; k < first + 4 && k < q->count; k++)
            if (earlier(&q->slots[k], &q->slots[best]))
                best = k;
        if (!earlier(&q->slots[best], &slot))
            break;
        put(q, i, q->slots[best]);
        i = best;
    }
    put(q, i, slot);
}

static void add(struct sim_queue *q, struct sim_event *event)
{
    if (q->count == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 1024;
        q->slots = sim_alloc_sure(q->slots, q->cap * sizeof(*q->slots));
    }
    sift_up(q, q->count++, (struct sim_slot){event->at, q->next_order++, event});
}

static void take_out(struct sim_queue *q, struct sim_event *event)
{
    size_t i = event->slot - 1;
    struct sim_slot last = q->slots[--q->count];
    event->slot = 0;
    event->at = 0;
    if (last.event == event)
        return;
    if (i > 0 && earlier(&last, &q->slots[(i - 1) / 4]))
        sift_up(q, i, last);
    else
        sift_down(q, i, last);
}

static bool held(const struct sim_event *event)
{
    return event->held.next && !wr_list_empty(&event->held);
}

bool sim_event_pending(const struct sim_event *event)
{
    return event->slot || held(event);
}

void sim_event_stop(struct sim *sim, struct sim_event *event)
{
    if (event->slot)
        take_out(&sim->events, event);
    if (held(event))
        wr_list_remove(&event->held);
}

void sim_event_at(struct sim *sim, struct sim_event *event, wr_time at,
                  void (*happen)(struct sim_event *event))
{
    sim_event_stop(sim, event);
    event->at = at > sim->now ? at : sim->now;
    event->happen = happen;
    add(&sim->events, event);
}

struct sim_event *sim_event_take(struct sim *sim)
{
    if (!sim->events.count)
        return NULL;
    struct sim_event *event = sim->events.slots[0].event;
    take_out(&sim->events, event);
    return event;
}

wr_time sim_next(const struct sim *sim)
{
    return sim->events.count ? sim->events.slots[0].at : 0;
}

/* Whether its machine has to get its turn first. */
static bool comes_late(struct sim *sim, struct sim_event *event)
{
    struct sim_host *host = event->host;
    if (!host || !host->late || host->runs_at == sim->now)
        return false;
    if (host->runs_at < sim->now)
        host->runs_at = sim->now + 1 + (wr_time)(sim_chance_unit(&sim->chance) * (double)host->late);
    sim_event_at(sim, event, host->runs_at, event->happen);
    return true;
}

bool sim_step(struct sim *sim)
{
    wr_time at = sim_next(sim);
    if (!at)
        return false;
    sim->now = at;
    sim->event_count++;
    struct sim_event *event = sim_event_take(sim);
    if (event->host && event->host->paused) {
        wr_list_init(&event->held);
        wr_list_append(&event->host->held, &event->held);
        return true;
    }
    if (!comes_late(sim, event))
        event->happen(event);
    return true;
}

void sim_pause(struct sim_host *host, bool paused)
{
    host->paused = paused;
    if (paused) {
        host->paused_at = host->sim->now;
        return;
    }
    for (struct wr_list *node; (node = wr_list_pop(&host->held));) {
        struct sim_event *event = wr_list_entry(node, struct sim_event, held);
        sim_event_at(host->sim, event, host->sim->now, event->happen);
    }
    if (host->paused_at && host->sim->now - host->paused_at >= SLEEP_MIN)
        sim_cut(host);
    host->paused_at = 0;
}
