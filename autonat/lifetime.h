/* lifetime.h - how long does a NAT remember a socket of ours that is silent? Machine: no I/O.
 * NAT sheet 9, "lifetime". One try tells of one silence: whether a packet still came in after it. Silences are steps of
 * a ladder, each 15 % longer than the one before, so that the middle between the longest that was survived and the
 * shortest that was not is less than 8 % off.
 *
 *     wr_lifetime_next: which silence to try now        all side by side, or one after the other by halving
 *     wr_lifetime_note: how it went                     a packet that came in proves a mapping; one that did
 *                                                       not may have been lost, so a second one has to agree
 *     wr_lifetime_judge: what is known */
#ifndef WR_LIFETIME_H
#define WR_LIFETIME_H

#include "transport/env.h"

#define WR_LIFETIME_STEPS 23            /* from 15 s to 325 s: RFC 4787 asks for 2 min, recommends 5 */
#define WR_LIFETIME_FIRST (15 * WR_SEC) /* QUIC is kept alive more often than that anyway; NAT sheet 10 */
#define WR_LIFETIME_RATIO 1.15          /* ours */
#define WR_LIFETIME_NEED  2             /* tries that agree that a mapping was gone; ours */

struct wr_lifetime {
    unsigned lived[WR_LIFETIME_STEPS], died[WR_LIFETIME_STEPS];
};

wr_time wr_lifetime_silence(unsigned step);
/* The step to try when one at a time is tried; -1: no more is to be found out. */
int wr_lifetime_next(const struct wr_lifetime *l);
void wr_lifetime_note(struct wr_lifetime *l, unsigned step, bool lived);
/* The longest silence that was survived; -1: none. */
int wr_lifetime_floor(const struct wr_lifetime *l);
/* Would a try of this step say something new? */
bool wr_lifetime_open(const struct wr_lifetime *l, unsigned step);
/* Of an idle mapping; 0: not known yet. *least: it outlived every silence, and may be longer. */
wr_time wr_lifetime_judge(const struct wr_lifetime *l, bool *least);

#endif
