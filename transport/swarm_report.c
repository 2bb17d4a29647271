/* How dials went, for `why` and for errors. */
#include "transport/swarm_dial.h"

void wr_swarm_report_note(struct wr_swarm_dial *d, const struct wr_dial_report *entry)
{
    if (d->report && d->report->count < WR_SWARM_REPORT_ADDRS)
        d->report->of[d->report->count++] = *entry;
}

void wr_swarm_report_keep(struct wr_swarm_dial *d, int err, const struct wr_conn *winner)
{
    struct wr_swarm *sw = d->swarm;
    wr_time now = wr_env_now(sw->env);
    for (size_t i = 0; i < d->plan.count; i++) {
        const struct wr_dial_addr *a = &d->plan.addrs[i];
        if (a->state == WR_DIAL_PENDING || wr_dial_same_relay(a))
            continue;
        struct wr_dial_report entry = {.addr = a->addr, .at = now, .took = now - d->begun_at[i]};
        if (a->state == WR_DIAL_FAILED) {
            entry.err = a->err;
            entry.took = d->took[i];
            entry.accepted = d->accepted & 1u << i;
        } else if (a->state == WR_DIAL_RUNNING && (!winner || d->conns[i] != winner)) {
            entry.err = err ? err : WR_ECANCELLED;    /* broken off, or another was faster */
        } else if (winner && d->conns[i] == winner && winner->circuit) {
            wr_conn_remote(winner, &entry.addr);    /* over the connection that we had with the relay, wherever that is */
        }
        wr_swarm_report_note(d, &entry);
    }
    if (!d->report)
        return;
    d->report->outcome =
        (struct wr_dial_outcome){.err = err, .at = now, .routed = d->routed, .route_err = d->route_err};
    wr_free(sw->reports[sw->report_next]);
    sw->reports[sw->report_next] = d->report;
    d->report = NULL;
    sw->report_next = (sw->report_next + 1) % WR_SWARM_REPORTS;
}

/* The dial before the last `age` ones of any peer, or NULL. */
static const struct wr_swarm_report *report_at(const struct wr_swarm *sw, size_t age)
{
    return sw->reports[(sw->report_next + 2 * WR_SWARM_REPORTS - 1 - age) % WR_SWARM_REPORTS];
}

static struct wr_dial_report *reported(struct wr_dial_report *list, size_t count, const struct wr_maddr *addr)
{
    for (size_t i = 0; i < count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&list[i].addr), wr_maddr_bytes(addr)))
            return &list[i];
    return NULL;
}

size_t wr_swarm_dial_report(const struct wr_swarm *sw, const struct wr_peerid *peer,
                            struct wr_dial_report *out, size_t max)
{
    size_t n = 0;
    for (size_t age = 0; age < WR_SWARM_REPORTS; age++) {
        const struct wr_swarm_report *r = report_at(sw, age);
        for (size_t k = 0; r && wr_peerid_equal(&r->peer, peer) && k < r->count; k++) {
            struct wr_dial_report *newer = reported(out, n, &r->of[k].addr);
            /* That it is not tried again yet says less than how it went when it was. */
            if (newer && newer->err == WR_EBACKOFF)
                *newer = r->of[k];
            else if (!newer && n < max)
                out[n++] = r->of[k];
        }
    }
    return n;
}

bool wr_swarm_dial_outcome(const struct wr_swarm *sw, const struct wr_peerid *peer,
                           struct wr_dial_outcome *out)
{
    for (size_t age = 0; age < WR_SWARM_REPORTS; age++) {
        const struct wr_swarm_report *r = report_at(sw, age);
        if (!r || !wr_peerid_equal(&r->peer, peer))
            continue;
        *out = r->outcome;
        return true;
    }
    return false;
}

/* ---- what goes on ---------------------------------------------------------------------------------- */

struct listing {
    struct wr_dial_now *out;
    size_t count, max;
};

static void list_one(struct listing *l, enum wr_dial_doing doing, const struct wr_maddr *addr, wr_time since)
{
    if (l->count == l->max)
        return;
    l->out[l->count] = (struct wr_dial_now){.doing = doing, .since = since};
    if (addr)
        l->out[l->count].addr = *addr;
    l->count++;
}

size_t wr_swarm_dial_now(struct wr_swarm *sw, const struct wr_peerid *peer, struct wr_dial_now *out, size_t max)
{
    const struct wr_swarm_peer *p = wr_swarm_peer_at(sw, peer, false);
    const struct wr_swarm_dial *d = p ? p->dial : NULL;
    struct listing l = {.out = out, .max = max};
    if (!d)
        return 0;
    if (!d->started)
        list_one(&l, WR_DIAL_QUEUED, NULL, d->plan.started_at);
    for (size_t i = 0; i < d->resolving_count; i++)
        if (d->resolving[i].resolve)
            list_one(&l, WR_DIAL_NAMING, &d->resolving[i].name, d->plan.started_at);
    if (d->search)
        list_one(&l, WR_DIAL_ROUTING, NULL, d->routed_at);
    for (size_t i = 0; i < d->plan.count; i++)
        if (d->plan.addrs[i].state == WR_DIAL_RUNNING)
            list_one(&l, WR_DIAL_TRYING, &d->plan.addrs[i].addr, d->begun_at[i]);
    return l.count;
}
