#include "autonat/hairtest.h"

#include "autonat/fresh.h"
#include "transport/err.h"

#include <sodium.h>

/* ---- the end --------------------------------------------------------------------------------------- */

static void drop(struct wr_hairtest *t)
{
    wr_timer_stop(t->env, &t->timer);
    for (size_t i = 0; i < 2; i++) {
        struct wr_hairtest_side *side = &t->sides[i];
        wr_connect_cancel(side->request);
        side->request = NULL;
        wr_seen_cancel(&side->seen);
        wr_swarm_destroy(side->swarm);
        side->swarm = NULL;
        sodium_memzero(&side->key, sizeof(side->key));
    }
    t->home = NULL;
}

static void finish(struct wr_timer *timer)
{
    struct wr_hairtest *t = wr_list_entry(timer, struct wr_hairtest, timer);
    drop(t);
    t->on_done(t, t->found);
}

/* In a turn of its own: this call may come from a swarm that is to be destroyed. */
static void finish_soon(struct wr_hairtest *t, enum wr_nat_answer found)
{
    if (t->over)
        return;
    t->over = true;
    t->found = found;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env), finish);
}

/* ---- the two dials --------------------------------------------------------------------------------- */

static void on_opened(struct wr_timer *timer);

static void on_met(void *arg, int err, struct wr_conn *conn)
{
    struct wr_hairtest_side *side = arg;
    struct wr_hairtest *t = side->of;
    const struct wr_hairtest_side *other = &t->sides[side == &t->sides[0]];
    side->request = NULL;
    if (err == 0 && wr_peerid_equal(&conn->peer, wr_swarm_self(other->swarm)))
        finish_soon(t, WR_NAT_ANSWER_YES);
    else if (side == &t->sides[1]) /* kept from dialling, or met by somebody else: that says nothing */
        finish_soon(t, err == 0 || err == WR_ELIMIT || err == WR_EBACKOFF ? WR_NAT_ANSWER_UNKNOWN
                                                                          : WR_NAT_ANSWER_NO);
    else if (!t->over && !t->second)
        wr_timer_start(t->env, &t->timer, wr_env_now(t->env), on_opened);
}

static void dial_other(struct wr_hairtest_side *side)
{
    struct wr_hairtest *t = side->of;
    const struct wr_hairtest_side *other = &t->sides[side == &t->sides[0]];
    if (wr_swarm_connect_addr(side->swarm, wr_maddr_bytes(&other->outside), on_met, side, &side->request) != 0)
        finish_soon(t, WR_NAT_ANSWER_UNKNOWN);
}

static void on_late(struct wr_timer *timer)
{
    finish_soon(wr_list_entry(timer, struct wr_hairtest, timer), WR_NAT_ANSWER_NO);
}

/* The first dial has opened the way. Over TCP it is over as well: two dials that meet have no listener. */
static void on_opened(struct wr_timer *timer)
{
    struct wr_hairtest *t = wr_list_entry(timer, struct wr_hairtest, timer);
    t->second = true;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_HAIRTEST_DIAL, on_late);
    dial_other(&t->sides[1]);
}

/* ---- where they are outside ------------------------------------------------------------------------ */

static void on_seen(struct wr_seen *seen, const struct wr_addr *at)
{
    struct wr_hairtest_side *side = wr_list_entry(seen, struct wr_hairtest_side, seen);
    struct wr_hairtest *t = side->of;
    /* A peer that lies would choose whom we dial: it has to be where most peers see us. */
    if (!at || !wr_policy_is_public(wr_swarm_policy(t->home), &at->ip) ||
        !wr_ip_equal(&at->ip, &wr_swarm_nat(t->home)->external) ||
        wr_maddr_from_addr(at, t->udp, &side->outside) != 0) {
        finish_soon(t, WR_NAT_ANSWER_UNKNOWN);
        return;
    }
    if (t->over || !t->sides[0].outside.len || !t->sides[1].outside.len)
        return;
    wr_time opening = t->udp ? WR_HAIRTEST_OPENING : WR_HAIRTEST_GIVEN_UP;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + opening, on_opened);
    dial_other(&t->sides[0]);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_hairtest_side *side = arg;
    side->request = NULL;
    /* From any other port there would be no telling where the listening one is. */
    if (err != 0 || !conn->port_reused || !wr_seen_ask(&side->seen, side->of->env, conn, on_seen))
        finish_soon(side->of, WR_NAT_ANSWER_UNKNOWN);
}

/* ---- the beginning --------------------------------------------------------------------------------- */

static bool begin(struct wr_hairtest_side *side, const struct wr_maddr *peer)
{
    struct wr_hairtest *t = side->of;
    wr_fresh_key(t->env, &side->key);
    side->swarm = wr_fresh_swarm(t->home, &side->key);
    return side->swarm && wr_fresh_listen(side->swarm, t->udp, 4) &&
           wr_swarm_connect_addr(side->swarm, wr_maddr_bytes(peer), on_connected, side, &side->request) == 0;
}

static void on_timeout(struct wr_timer *timer)
{
    finish_soon(wr_list_entry(timer, struct wr_hairtest, timer), WR_NAT_ANSWER_UNKNOWN);
}

void wr_hairtest_start(struct wr_hairtest *t, struct wr_swarm *home, bool udp, const struct wr_maddr *peer,
                       void (*on_done)(struct wr_hairtest *t, enum wr_nat_answer found))
{
    *t = (struct wr_hairtest){.home = home, .env = wr_swarm_env(home), .udp = udp, .on_done = on_done};
    t->sides[0].of = t->sides[1].of = t;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_HAIRTEST_TIMEOUT, on_timeout);
    if (!begin(&t->sides[0], peer) || !begin(&t->sides[1], peer))
        finish_soon(t, WR_NAT_ANSWER_UNKNOWN);
}

void wr_hairtest_cancel(struct wr_hairtest *t)
{
    if (t->home)
        drop(t);
}
