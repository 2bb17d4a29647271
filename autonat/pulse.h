/* pulse.h - did we keep somebody waiting? Service.
 * Whoever calls us back gives up after some seconds. On a machine that has much else to do, or when the process is
 * stopped for a while, it is we who do not answer, and nothing is said of the network. A timer that goes off late
 * tells. */
#ifndef WR_PULSE_H
#define WR_PULSE_H

#include "transport/env.h"

#define WR_PULSE_BEAT (250 * WR_MSEC)
#define WR_PULSE_LATE (1 * WR_SEC) /* a turn so late counts: a call takes three or four, who dials waits five seconds; ours */

struct wr_pulse {
    struct wr_env *env;
    struct wr_timer timer;
    wr_time due_at;  /* the next beat */
    wr_time late_at; /* the end of the last time that we were late; 0: never */
};

void wr_pulse_start(struct wr_pulse *p, struct wr_env *env); /* also when it runs */
void wr_pulse_stop(struct wr_pulse *p);
/* Were we late at some time after `since`? It has run all the while. */
bool wr_pulse_late(const struct wr_pulse *p, wr_time since);

#endif
