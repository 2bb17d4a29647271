/* toy_relay.h - a relay that joins two streams and knows no limits but announces some, and that may do harm: circuits
 * for stories about what happens above them. Included by one source file of a test program. */
#ifndef TOY_RELAY_H
#define TOY_RELAY_H

#include "transport/swarm.h"

#define TOY_ASK   "/test/relay/ask"
#define TOY_BRING "/test/relay/bring"

/* What it does to circuits, once so many bytes of one have passed: to all that comes, but for TOY_CORRUPTS, which
 * changes one bit, once. */
enum toy_harm { TOY_HONEST, TOY_DROPS, TOY_CORRUPTS, TOY_CUTS, TOY_DELAYS };

struct toy {
    struct wr_swarm *relay, *a, *b;    /* a dials b */
    const struct wr_peerid *says;      /* who comes, in its words to b; borrowed; a, unless changed */
    struct wr_circuit announced;       /* addr: of the relay, /p2p/RELAY/p2p-circuit behind it */
    struct wr_circuits dialler;        /* of a */
    unsigned asked, bytes;             /* circuits that a asked for, bytes that it carried */
    enum toy_harm harm;                /* of circuits to come ... */
    size_t after;                      /* ... once so many bytes have passed */
    wr_time delay;                     /* TOY_DELAYS: each time what came goes on so long after it */
};

/* A circuit. */
struct toy_joint {
    struct toy *toy;
    struct wr_env *env;
    struct wr_stream *of[2];    /* NULL: over */
    struct wr_buf kept[2];      /* for of[i] */
    bool ended[2];              /* of[i] is to be shut behind what is kept for it */
    enum toy_harm harm;
    size_t after, passed;
    wr_time delay;
    struct wr_timer timer;      /* TOY_DELAYS: what is kept goes on then */
};

static inline int toy_side(const struct toy_joint *j, const struct wr_stream *s)
{
    return j->of[1] == s;
}

static inline void toy_end(struct toy_joint *j)
{
    wr_timer_stop(j->env, &j->timer);
    for (int i = 0; i < 2; i++) {
        if (j->of[i])
            wr_stream_reset(j->of[i], WR_STREAM_LIMIT);
        wr_buf_clear(&j->kept[i]);
    }
    wr_free(j);
}

/* False: j is gone. */
static inline bool toy_flush(struct toy_joint *j, int to)
{
    int n = j->kept[to].len ? wr_stream_write(j->of[to], j->kept[to].data, j->kept[to].len) : 0;
    if (n > 0)
        wr_buf_consume(&j->kept[to], (size_t)n);
    if (n < 0 || j->kept[to].full) {
        toy_end(j);
        return false;
    }
    if (j->ended[to] && j->kept[to].len == 0)
        wr_stream_shut(j->of[to]);
    return true;
}

static inline void toy_timer(struct wr_timer *timer)
{
    struct toy_joint *j = wr_list_entry(timer, struct toy_joint, timer);
    for (int to = 0; to < 2; to++)
        if (j->of[to] && !toy_flush(j, to))
            return;
}

/* Passes on what is kept: now, or when the delay is over. */
static inline void toy_go(struct toy_joint *j, int to)
{
    if (!j->delay || j->passed <= j->after)
        toy_flush(j, to);
    else if (!j->timer.at || j->timer.at <= wr_env_now(j->env))
        wr_timer_start(j->env, &j->timer, wr_env_now(j->env) + j->delay, toy_timer);
}

static inline void toy_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct toy_joint *j = arg;
    int to = !toy_side(j, s);
    j->toy->bytes += (unsigned)data.len;
    if (!j->of[to])
        return;
    size_t begun = j->passed;
    j->passed += data.len;
    bool now = j->passed > j->after;
    if (now && j->harm == TOY_DROPS)
        return;
    if (now && j->harm == TOY_CUTS) {
        toy_end(j);
        return;
    }
    wr_buf_put_bytes(&j->kept[to], data);
    if (now && j->harm == TOY_CORRUPTS && begun <= j->after && !j->kept[to].full)
        j->kept[to].data[j->kept[to].len - 1] ^= 1;
    toy_go(j, to);
}

static inline void toy_writable(struct wr_stream *s, void *arg)
{
    struct toy_joint *j = arg;
    if (!j->delay)
        toy_flush(j, toy_side(j, s));
}

static inline void toy_eof(struct wr_stream *s, void *arg)
{
    struct toy_joint *j = arg;
    int to = !toy_side(j, s);
    j->ended[to] = true;
    if (j->of[to])
        toy_go(j, to);
}

static inline void toy_close(struct wr_stream *s, void *arg, int err)
{
    struct toy_joint *j = arg;
    int side = toy_side(j, s), other = !side;
    j->of[side] = NULL;
    if (!j->of[other] || err != 0)
        toy_end(j);
}

static const struct wr_stream_ops toy_joint_ops = {
    .on_data = toy_data, .on_eof = toy_eof, .on_writable = toy_writable, .on_close = toy_close};

static inline void toy_on_ask(struct wr_stream *s, void *arg)
{
    static const char *const offer[] = {TOY_BRING, NULL};
    struct toy *toy = arg;
    struct toy_joint *j = wr_alloc(sizeof(*j));
    int err = 0;
    if (j) {
        j->toy = toy;
        j->env = wr_swarm_env(toy->relay);
        j->harm = toy->harm;
        j->after = toy->after;
        j->delay = toy->harm == TOY_DELAYS ? toy->delay : 0;
        wr_buf_init(&j->kept[0], 4 << 20);
        wr_buf_init(&j->kept[1], 4 << 20);
        j->of[0] = s;
        j->of[1] = wr_swarm_open(toy->relay, wr_swarm_self(toy->b), offer, &toy_joint_ops, j, &err);
    }
    if (j && j->of[1]) {
        wr_stream_set_ops(s, &toy_joint_ops, j);
        return;
    }
    wr_free(j);
    wr_stream_reset(s, WR_STREAM_LIMIT);
}

static inline void toy_on_bring(struct wr_stream *s, void *arg)
{
    struct toy *toy = arg;
    wr_swarm_accept_circuit(toy->b, toy->says, &toy->announced, s, WR_BYTES_NONE);
}

struct toy_attempt {
    struct toy *toy;
    struct wr_stream *s;
    wr_circuit_done done;
    void *arg;
};

static inline void toy_attempt_open(struct wr_stream *s, void *arg)
{
    struct toy_attempt *at = arg;
    at->done(at->arg, 0, s, &at->toy->announced, WR_BYTES_NONE);
    wr_free(at);
}

static inline void toy_attempt_close(struct wr_stream *s, void *arg, int err)
{
    struct toy_attempt *at = arg;
    (void)s;
    at->done(at->arg, err ? err : WR_ECLOSED, NULL, NULL, WR_BYTES_NONE);
    wr_free(at);
}

static const struct wr_stream_ops toy_attempt_ops = {.on_open = toy_attempt_open,
                                                     .on_close = toy_attempt_close};

static inline void *toy_dial(void *arg, const struct wr_peerid *peer, struct wr_bytes addr,
                             enum wr_addr_origin origin, wr_circuit_done done, void *done_arg, int *err)
{
    static const char *const offer[] = {TOY_ASK, NULL};
    struct toy *toy = arg;
    struct wr_peerid relay;
    struct toy_attempt *at = wr_alloc(sizeof(*at));
    (void)origin;
    assert_true(wr_maddr_relay(addr, &relay) && wr_peerid_equal(&relay, wr_swarm_self(toy->relay)));
    assert_true(wr_peerid_equal(peer, wr_swarm_self(toy->b)));
    *err = WR_ELIMIT;
    if (!at)
        return NULL;
    *at = (struct toy_attempt){.toy = toy, .done = done, .arg = done_arg};
    at->s = wr_swarm_open(toy->a, &relay, offer, &toy_attempt_ops, at, err);
    if (!at->s) {
        wr_free(at);
        return NULL;
    }
    toy->asked++;
    return at;
}

static inline void toy_cancel(void *arg, void *attempt)
{
    struct toy_attempt *at = attempt;
    (void)arg;
    wr_stream_reset(at->s, WR_STREAM_OK);
    wr_free(at);
}

static inline int toy_handle(struct wr_swarm *sw, const char *name,
                             void (*on_stream)(struct wr_stream *s, void *arg), struct toy *toy)
{
    struct wr_protocol p = {.on_stream = on_stream, .arg = toy, .inbound_max = 100};
    memcpy(p.name, name, strlen(name) + 1);
    return wr_swarm_handle(sw, &p);
}

/* `at`: where the relay listens. The three swarms are set. */
static inline void toy_start(struct toy *toy, const struct wr_maddr *at)
{
    static const uint8_t circuit[] = {0xa2, 0x02};    /* /p2p-circuit */
    toy->says = wr_swarm_self(toy->a);
    toy->announced.relay = *wr_swarm_self(toy->relay);
    toy->announced.limited = true;
    toy->announced.addr = *at;
    assert_int_equal(wr_maddr_append_peer(&toy->announced.addr, &toy->announced.relay), 0);
    assert_int_equal(wr_maddr_append(&toy->announced.addr, WR_BYTES(circuit, sizeof(circuit))), 0);
    toy->dialler = (struct wr_circuits){toy_dial, toy_cancel, toy};
    wr_swarm_set_circuits(toy->a, &toy->dialler);
    assert_int_equal(toy_handle(toy->relay, TOY_ASK, toy_on_ask, toy), 0);
    assert_int_equal(toy_handle(toy->b, TOY_BRING, toy_on_bring, toy), 0);
}

#endif
