/* Hole punching as clients see it: an event for each attempt, counters for each way it ended. */
#include "node/methods_impl.h"

#include "dcutr/dcutr.h"
#include "node/prom.h"

#include <stdio.h>

static bool is_success(enum wr_dcutr_outcome outcome)
{
    return outcome == WR_DCUTR_PUNCHED || outcome == WR_DCUTR_REVERSED || outcome == WR_DCUTR_MET;
}

void wr_methods_punched(struct wr_methods *m, const struct wr_peerid *peer,
                        const struct wr_dcutr_report *r)
{
    bool ok = is_success(r->outcome);
    struct wr_pack *p = wr_control_event(m->o.control, ok ? "punch-succeeded" : "punch-failed");
    if (!p)
        return;
    wr_methods_pack_id(p, "peer", peer);
    wr_pack_text(p, "outcome", wr_dcutr_outcome_name(r->outcome));
    wr_pack_text(p, "side", r->initiator ? "asking" : "asked");
    if (r->attempt) {
        wr_pack_u64(p, "attempt", r->attempt);
        wr_pack_text(p, "trick", wr_plan_trick_name(r->trick));
        wr_pack_text(p, "role", r->role == WR_PUNCH_CLIENT ? "client" : "server");
        wr_pack_double(p, "ms", wr_methods_ms(r->took));
    }
    if (ok)
        wr_pack_text(p, "transport", r->udp ? "quic" : "tcp");
    if (r->rtt)
        wr_pack_double(p, "relayed_rtt_ms", wr_methods_ms(r->rtt));
    if (r->err)
        wr_methods_pack_error(p, r->err);
    wr_control_event_send(m->o.control);
}

void wr_methods_punch_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    static const char *const transports[] = {"tcp", "quic"};
    struct wr_dcutr_stats s;
    wr_dcutr_stats(m->o.dcutr, &s);
    wr_prom_head(out, "punch_attempts_total", "counter", "Ends of attempts to get from a relay to a direct connection.");
    for (unsigned i = 0; i < WR_DCUTR_OUTCOMES; i++)
        wr_prom_sample(out, "punch_attempts_total", "outcome", wr_dcutr_outcome_name((enum wr_dcutr_outcome)i),
                       s.outcomes[i]);
    wr_prom_head(out, "punched_total", "counter", "Holes punched, by trick and transport together.");
    for (unsigned t = 0; t < 3; t++)
        for (unsigned i = 0; i < 2; i++) {
            char way[32];
            (void)snprintf(way, sizeof(way), "%s-%s", wr_plan_trick_name((enum wr_plan_trick)t), transports[i]);
            wr_prom_sample(out, "punched_total", "way", way, s.punched[t][i]);
        }
    wr_prom_one(out, "punch_refused_total", "counter", "Peers' wishes to punch that a bound refused.", s.refused);
    wr_prom_one(out, "punch_running", "gauge", "Attempts under way.", s.running);
}
