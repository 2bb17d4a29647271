#include "autonat/hairtest.h"

#include "transport/err.h"
#include "transport/pb.h"

#include <sodium.h>

#define IDENTIFY       "/ipfs/id/1.0.0"
#define IDENTIFY_MAX   8192 /* bytes of a message; go, js */
#define FIELD_OBSERVED 4    /* observedAddr; libp2p identify/README.md */

/* ---- the end --------------------------------------------------------------------------------------- */

static void drop(struct wr_hairtest *t)
{
    wr_timer_stop(t->env, &t->timer);
    for (size_t i = 0; i < 2; i++) {
        struct wr_hairtest_side *side = &t->sides[i];
        wr_connect_cancel(side->request);
        side->request = NULL;
        if (wr_msg_open(&side->identify))
            wr_msg_reset(&side->identify, WR_STREAM_OK);
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

static void on_identify(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_hairtest_side *side = wr_list_entry(m, struct wr_hairtest_side, identify);
    struct wr_hairtest *t = side->of;
    struct wr_pb_field f;
    struct wr_maddr seen;
    struct wr_addr at;
    bool found = false;
    while (wr_pb_next(&body, &f) == 1)
        if (f.number == FIELD_OBSERVED && f.wire == WR_PB_BYTES)
            found = wr_maddr_decode(f.bytes, &seen) == 0;
    wr_msg_close(m);
    /* A peer that lies would choose whom we dial: it has to be where most peers see us. */
    if (!found || !wr_maddr_addr(wr_maddr_bytes(&seen), &at) ||
        !wr_policy_is_public(wr_swarm_policy(t->home), &at.ip) ||
        !wr_ip_equal(&at.ip, &wr_swarm_nat(t->home)->external) ||
        wr_maddr_from_addr(&at, t->udp, &side->outside) != 0) {
        finish_soon(t, WR_NAT_ANSWER_UNKNOWN);
        return;
    }
    if (t->over || !t->sides[0].outside.len || !t->sides[1].outside.len)
        return;
    wr_time opening = t->udp ? WR_HAIRTEST_OPENING : WR_HAIRTEST_GIVEN_UP;
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + opening, on_opened);
    dial_other(&t->sides[0]);
}

static void on_identify_over(struct wr_msg *m, int err)
{
    (void)err;
    finish_soon(wr_list_entry(m, struct wr_hairtest_side, identify)->of, WR_NAT_ANSWER_UNKNOWN);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    static const char *const offer[] = {IDENTIFY, NULL};
    static const struct wr_msg_ops ops = {.on_message = on_identify, .on_close = on_identify_over};
    static const struct wr_stream_ops none = {.on_open = NULL};
    struct wr_hairtest_side *side = arg;
    side->request = NULL;
    /* From any other port there would be no telling where the listening one is. */
    struct wr_stream *s =
        err == 0 && conn->port_reused ? wr_conn_open_stream(conn, offer, &none, NULL, &err) : NULL;
    if (s)
        wr_msg_start(&side->identify, side->of->env, s, IDENTIFY_MAX, &ops);
    else
        finish_soon(side->of, WR_NAT_ANSWER_UNKNOWN);
}

/* ---- the beginning --------------------------------------------------------------------------------- */

static bool begin(struct wr_hairtest_side *side, const struct wr_maddr *peer)
{
    struct wr_hairtest *t = side->of;
    uint8_t seed[WR_ED25519_SEED];
    struct wr_addr any = {.ip.family = 4};
    struct wr_maddr at;
    wr_env_random(t->env, seed, sizeof(seed));
    wr_key_generate(&side->key, seed);
    sodium_memzero(seed, sizeof(seed));
    side->swarm = wr_swarm_create(&(struct wr_swarm_options){.env = t->env,
                                                             .limits = wr_swarm_limits(t->home),
                                                             .identity = &side->key,
                                                             .psk = wr_swarm_psk(t->home)});
    return side->swarm && wr_maddr_from_addr(&any, t->udp, &at) == 0 &&
           wr_swarm_listen(side->swarm, wr_maddr_bytes(&at)) == 0 &&
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
