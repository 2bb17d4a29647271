#include "autonat/lease.h"

#define SLACK 2 /* seconds; RFC 6887 section 8.5 */

void wr_lease_start(struct wr_lease *l, wr_time at)
{
    *l = (struct wr_lease){.state = WR_LEASE_ASKING, .due_at = at};
}

void wr_lease_stop(struct wr_lease *l)
{
    *l = (struct wr_lease){0};
}

/* Up to a tenth more or less, so that hosts do not speak in chorus. */
static wr_time jitter(wr_time span, uint64_t dice)
{
    return span + span / 100 * ((wr_time)(dice % 21) - 10);
}

static int renew(struct wr_lease *l, wr_time now)
{
    if (now >= l->until) {
        wr_lease_start(l, now);
        return WR_ESTALE;
    }
    wr_time half = (l->until - now) / 2;
    l->due_at = now + (half > WR_LEASE_RENEW_GAP ? half : WR_LEASE_RENEW_GAP);
    return 1;
}

int wr_lease_step(struct wr_lease *l, wr_time now, uint64_t dice)
{
    wr_time wait = wr_lease_wait(l);
    if (!wait || now < wait)
        return 0;
    if (l->state == WR_LEASE_HELD)
        return renew(l, now);
    if (l->tries == WR_LEASE_TRIES) {
        wr_lease_fail(l);
        return WR_ETIMEOUT;
    }
    l->due_at = now + jitter(WR_LEASE_RETRY << l->tries, dice);
    l->tries++;
    return 1;
}

void wr_lease_grant(struct wr_lease *l, uint32_t seconds, wr_time now, uint64_t dice)
{
    wr_time span = (wr_time)seconds * WR_SEC;
    if (span > WR_LEASE_MAX)
        span = WR_LEASE_MAX;
    wr_time first = span / 2 + span / 800 * (wr_time)(dice % 101); /* RFC 6887: within 1/2 to 5/8 */
    if (first < WR_LEASE_RENEW_GAP)
        first = WR_LEASE_RENEW_GAP;
    *l = (struct wr_lease){.state = WR_LEASE_HELD, .due_at = now + first, .until = now + span};
}

void wr_lease_fail(struct wr_lease *l)
{
    *l = (struct wr_lease){.state = WR_LEASE_FAILED};
}

wr_time wr_lease_wait(const struct wr_lease *l)
{
    if (l->state == WR_LEASE_HELD && l->until < l->due_at)
        return l->until;
    return l->state == WR_LEASE_ASKING || l->state == WR_LEASE_HELD ? l->due_at : 0;
}

bool wr_epoch_note(struct wr_epoch *e, uint32_t seconds, wr_time now)
{
    struct wr_epoch last = *e;
    *e = (struct wr_epoch){.known = true, .seconds = seconds, .at = now};
    if (!last.known)
        return false;
    int64_t theirs = (int64_t)seconds - (int64_t)last.seconds, ours = (now - last.at) / WR_SEC;
    if (theirs < -1)
        return true;
    return ours + SLACK < theirs - theirs / 16 || theirs + SLACK < ours - ours / 16;
}
