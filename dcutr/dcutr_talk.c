/* One attempt, from the first message to the punch's end:
 *
 *   B   talk_start: [LOOKING] CONNECT >  CONNECTING  < CONNECT: SYNC >   PUNCHING -> PAUSE, next attempt -> RESTING
 *   A   talk_accept: ASKED  < CONNECT: [LOOKING] CONNECT >  ANSWERED  < SYNC   PUNCHING -> as before */
#include "dcutr/dcutr_impl.h"

#include <string.h>

#define PRIVATE_MAX WR_PLAN_PRIVATE_MAX

static const char *const offer[] = {WR_DCUTR_NAME, NULL};

static struct wr_dcutr_peer *of_msg(struct wr_msg *m)
{
    return wr_list_entry(m, struct wr_dcutr_peer, msg);
}

static wr_time now_of(const struct wr_dcutr_peer *p)
{
    return wr_env_now(p->d->env);
}

/* ---- the end of an attempt ---------------------------------------------------------------------- */

static void let_go(struct wr_dcutr_peer *p)
{
    if (wr_msg_open(&p->msg))
        wr_msg_reset(&p->msg, WR_STREAM_OK);
    wr_punch_cancel(p->punch);
    p->punch = NULL;
    wr_swarm_look_cancel(p->d->swarm, p->look);
    p->look = NULL;
    wr_timer_stop(p->d->env, &p->timer);
}

static void on_rested(struct wr_timer *timer)
{
    struct wr_dcutr_peer *p = wr_list_entry(timer, struct wr_dcutr_peer, timer);
    if (p->phase == WR_DCUTR_RESTING) {
        p->attempt = 0;
        p->hurried -= p->hurried && now_of(p) - p->round_at >= WR_DCUTR_REST;
    }
    p->phase = WR_DCUTR_IDLE;
    wr_dcutr_talk_start(p);
}

void wr_dcutr_talk_rest(struct wr_dcutr_peer *p, wr_time at)
{
    p->phase = WR_DCUTR_RESTING;
    wr_timer_start(p->d->env, &p->timer, at, on_rested);
}

/* Before the next attempt. */
static void pause_talk(struct wr_dcutr_peer *p)
{
    wr_time wait = WR_DCUTR_RETRY + (wr_time)wr_env_random_below(p->d->env, (uint64_t)WR_DCUTR_RETRY / 2);
    p->phase = WR_DCUTR_PAUSE;
    wr_timer_start(p->d->env, &p->timer, now_of(p) + wait, on_rested);
}

/* The relayed connection of this round ended before the round did. Over another one we begin with the first attempt, as
 * the peer does, who counts them there. True: it broke off too often, and what was tried counts as a round in vain. */
static bool cut_off(struct wr_dcutr_peer *p)
{
    p->attempt = 0;
    if (p->cuts == 0 || now_of(p) - p->cuts_since >= WR_DCUTR_REST) {
        p->cuts_since = now_of(p);
        p->cuts = 0;
    }
    return ++p->cuts >= WR_DCUTR_CUTS_MAX;
}

static void end_round(struct wr_dcutr_peer *p)
{
    p->attempt = p->cuts = 0;
    p->round_at = now_of(p);
}

/* What B does after a failure. */
static void go_on(struct wr_dcutr_peer *p, enum wr_dcutr_outcome outcome)
{
    bool cut = !p->relayed || p->relayed->id != p->round_on;
    bool over = cut ? cut_off(p) : outcome == WR_DCUTR_HOPELESS;
    p->phase = WR_DCUTR_IDLE;
    if (p->relayed)
        wr_dcutr_reverse(p);    /* at what this attempt did not dial, or in vain */
    if (p->relayed && outcome == WR_DCUTR_UNSUPPORTED) {
        p->phase = WR_DCUTR_WANTS_PROTOCOL;
        return;
    }
    if (over || (!cut && ++p->attempt == WR_PLAN_ATTEMPTS))
        end_round(p);
    else if (p->relayed)
        pause_talk(p);
    if (p->relayed && p->phase == WR_DCUTR_IDLE)
        wr_dcutr_talk_rest(p, p->round_at + WR_DCUTR_REST);
}

static void free_attempt(struct wr_dcutr_peer *p, struct wr_dcutr_attempt *a)
{
    if (a)
        wr_punch_port_give(p->d->swarm, a->port);
    wr_free(a);
}

/* There is a direct connection: when it is over, rounds in vain before it say nothing of the next. */
static void forgive(struct wr_dcutr_peer *p)
{
    p->attempt = p->cuts = 0;
    p->round_at = 0;
}

static bool succeeded(enum wr_dcutr_outcome outcome)
{
    return outcome == WR_DCUTR_PUNCHED || outcome == WR_DCUTR_REVERSED || outcome == WR_DCUTR_MET;
}

static void finish(struct wr_dcutr_peer *p, enum wr_dcutr_outcome outcome, int err)
{
    struct wr_dcutr_attempt *a = p->now;
    struct wr_dcutr_report report = a->report;
    p->now = NULL;
    let_go(p);
    report.outcome = outcome;
    report.err = err;
    report.own_count = a->plan.count;
    report.took = now_of(p) - report.at;
    free_attempt(p, a);
    if (succeeded(outcome) || !report.initiator)
        p->phase = WR_DCUTR_IDLE;
    if (succeeded(outcome)) {
        forgive(p);
        p->asked = p->hurried = 0;    /* whoever is reached may ask anew */
    } else if (report.initiator) {
        go_on(p, outcome);
    }
    wr_dcutr_note(p, &report);
}

/* How a connection that came beside a punch was made. */
static enum wr_dcutr_outcome how(const struct wr_dcutr_attempt *a, enum wr_dcutr_phase phase,
                                 const struct wr_conn *c)
{
    bool as_agreed = c->outbound == (a->report.role == WR_PUNCH_CLIENT);
    if (phase == WR_DCUTR_PUNCHING && as_agreed)
        return WR_DCUTR_PUNCHED;
    return c->outbound ? WR_DCUTR_REVERSED : WR_DCUTR_MET;
}

void wr_dcutr_talk_stop(struct wr_dcutr_peer *p, const struct wr_conn *direct)
{
    if (direct && p->now) {
        p->now->report.udp = direct->udp;
        finish(p, how(p->now, p->phase, direct), 0);
        return;
    }
    if (direct && p->phase != WR_DCUTR_IDLE) {    /* while we waited for something */
        struct wr_dcutr_report report = {.outcome = direct->outbound ? WR_DCUTR_REVERSED : WR_DCUTR_MET,
                                         .initiator = true,
                                         .udp = direct->udp,
                                         .at = now_of(p)};
        wr_dcutr_note(p, &report);
    }
    let_go(p);
    free_attempt(p, p->now);
    p->now = NULL;
    if (direct)
        forgive(p);
    else if (p->phase == WR_DCUTR_PAUSE && p->attempt && cut_off(p))
        end_round(p);
    p->phase = WR_DCUTR_IDLE;
}

/* ---- punching ----------------------------------------------------------------------------------- */

static void on_punched(void *arg, int err, struct wr_conn *conn)
{
    struct wr_dcutr_peer *p = arg;
    struct wr_dcutr_report *r = &p->now->report;
    r->count = wr_punch_tries(p->punch, r->tries, WR_DCUTR_TRIES);
    p->punch = NULL;
    if (err == 0)
        wr_dcutr_talk_stop(p, conn);
    else
        finish(p, WR_DCUTR_FAILED, err);
}

/* Those of the peer's addresses that this attempt is about. Where both NATs count, the n-th packet of each side has to
 * aim at the port of the n-th of the other's; when ports were used up meanwhile, some on each side, that misses always.
 * So A goes through the list in order, and B in steps of two, and they meet although up to three were used up (nat
 * sheet 12.1, baby-step and giant-step). */
static size_t targets(const struct wr_dcutr_attempt *a, struct wr_maddr *out)
{
    bool giant = a->report.initiator && a->plan.counts;
    size_t n = 0, first = 0;
    for (int pass = 0; pass < (giant ? 2 : 1); pass++) {
        for (size_t i = 0, place = 0; i < a->theirs.count; i++) {
            bool quic = wr_maddr_kind(wr_maddr_bytes(&a->theirs.addrs[i])) == WR_MADDR_QUIC;
            if (!(quic ? a->plan.quic : a->plan.tcp))
                continue;
            if (!giant || (place++ & 1) == first)
                out[n++] = a->theirs.addrs[i];
        }
        first = 1;
    }
    return n;
}

static void punch(struct wr_dcutr_peer *p, wr_time at)
{
    struct wr_dcutr_attempt *a = p->now;
    struct wr_maddr addrs[WR_DCUTR_ADDRS_MAX];
    struct wr_punch_options o = {.peer = &p->id,
                                 .addrs = addrs,
                                 .count = targets(a, addrs),
                                 .private_max = p->same_external ? PRIVATE_MAX : 0,
                                 .role = a->report.role,
                                 .at = at,
                                 .rtt = a->report.rtt,
                                 .port = a->port};
    p->phase = WR_DCUTR_PUNCHING;
    int rc = wr_punch_start(p->d->swarm, &o, on_punched, p, &p->punch);
    if (rc != 0)
        finish(p, rc == WR_EUNREACH ? WR_DCUTR_NOTHING_TO_DIAL : WR_DCUTR_FAILED, rc);
}

/* ---- beginning ---------------------------------------------------------------------------------- */

/* Those that are B's server in every attempt, and A's client. */
static bool keeps_roles(const struct wr_dcutr_peer *p)
{
    static const char *const agents[] = {"rust-libp2p", "js-libp2p", "nim-libp2p", NULL};
    return wr_peer_is_one_of(wr_peerstore_find(wr_swarm_peerstore(p->d->swarm), &p->id), agents);
}

/* B serves, but in the last attempt, which is for go-libp2p before 0.41. */
static enum wr_punch_role role_of(const struct wr_dcutr_peer *p, bool initiator, unsigned attempt)
{
    bool legacy = attempt == WR_PLAN_ATTEMPTS - 1 && !keeps_roles(p);
    return initiator == legacy ? WR_PUNCH_CLIENT : WR_PUNCH_SERVER;
}

static bool met_any(struct wr_swarm *sw, const struct wr_maddr *addrs, size_t count, enum wr_maddr_kind kind)
{
    for (size_t i = 0; i < count; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&addrs[i]);
        struct wr_addr at;
        if (wr_maddr_kind(ma) == kind && wr_maddr_addr(ma, &at) && wr_swarm_flow_known(sw, &at, kind == WR_MADDR_QUIC))
            return true;
    }
    return false;
}

/* Whether something was sent to where the peer says that it is, or said before. */
static bool met(const struct wr_dcutr_peer *p, enum wr_maddr_kind kind)
{
    struct wr_swarm *sw = p->d->swarm;
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(sw), &p->id, known, WR_PEER_ADDRS_MAX);
    return met_any(sw, p->now->theirs.addrs, p->now->theirs.count, kind) || met_any(sw, known, count, kind);
}

static void take_port(struct wr_dcutr_attempt *a, struct wr_swarm *sw, bool wanted)
{
    if (wanted && !a->port)
        a->port = wr_punch_port(sw);
    if (!wanted) {
        wr_punch_port_give(sw, a->port);
        a->port = 0;
    }
}

static void make_plan(struct wr_dcutr_peer *p)
{
    struct wr_dcutr_attempt *a = p->now;
    struct wr_swarm *sw = p->d->swarm;
    const struct wr_addrbook *book = wr_swarm_addrbook(sw);
    struct wr_plan_input in = {.own = book->of,
                               .count = book->count,
                               .policy = wr_swarm_policy(sw),
                               .nat = wr_swarm_nat(sw),
                               .attempt = a->report.attempt - 1,
                               .same_external = p->same_external,
                               .met_tcp = met(p, WR_MADDR_TCP),
                               .met_udp = met(p, WR_MADDR_QUIC),
                               .now = now_of(p)};
    take_port(a, sw, wr_plan_wants_port(&in));
    in.port = a->port;
    wr_plan_make(&in, &a->plan);
    a->report.trick = a->plan.trick;
}

static bool begin(struct wr_dcutr_peer *p, bool initiator, unsigned attempt)
{
    struct wr_dcutr_attempt *a = wr_alloc(sizeof(*a));
    if (!a)
        return false;
    a->report = (struct wr_dcutr_report){.initiator = initiator,
                                         .attempt = attempt + 1,
                                         .role = role_of(p, initiator, attempt),
                                         .at = now_of(p)};
    p->now = a;
    make_plan(p);
    return true;
}

static int say(struct wr_dcutr_peer *p, enum wr_dcutr_type type)
{
    struct wr_dcutr_msg *m = wr_alloc(sizeof(*m));
    struct wr_buf body;
    wr_buf_init(&body, WR_DCUTR_SEND_MAX);
    if (m) {
        m->type = type;
        for (size_t i = 0; i < p->now->plan.count && type == WR_DCUTR_CONNECT; i++)
            m->addrs[m->count++] = p->now->plan.addrs[i];
        wr_dcutr_msg_encode(m, &body);
    }
    int rc = m && !body.full ? wr_msg_send(&p->msg, wr_buf_bytes(&body)) : WR_ELIMIT;
    wr_free(m);
    wr_buf_clear(&body);
    return rc;
}

/* ---- the newest port of our NAT ------------------------------------------------------------------ */

static void speak_first(struct wr_dcutr_peer *p);
static void speak_second(struct wr_dcutr_peer *p);

static void on_looked(void *arg)
{
    struct wr_dcutr_peer *p = arg;
    p->look = NULL;
    wr_timer_stop(p->d->env, &p->timer);
    make_plan(p);
    if (p->now->report.initiator)
        speak_first(p);
    else
        speak_second(p);
}

static void on_look_timeout(struct wr_timer *timer)
{
    struct wr_dcutr_peer *p = wr_list_entry(timer, struct wr_dcutr_peer, timer);
    wr_swarm_look_cancel(p->d->swarm, p->look);
    on_looked(p);
}

/* True: it goes on later. */
static bool look(struct wr_dcutr_peer *p)
{
    const struct wr_plan *plan = &p->now->plan;
    if (!plan->counts || !(p->look = wr_swarm_look(p->d->swarm, plan->counts_udp, on_looked, p)))
        return false;
    p->phase = WR_DCUTR_LOOKING;
    wr_timer_start(p->d->env, &p->timer, now_of(p) + WR_DCUTR_LOOK, on_look_timeout);
    return true;
}

/* ---- what is said ------------------------------------------------------------------------------- */

static void note_none(struct wr_dcutr_peer *p, enum wr_dcutr_outcome outcome)
{
    struct wr_dcutr_report report = {.outcome = outcome, .initiator = true, .at = now_of(p)};
    wr_dcutr_note(p, &report);
}

static const struct wr_msg_ops asking_ops, asked_ops;

static void speak_first(struct wr_dcutr_peer *p)
{
    static const struct wr_stream_ops none;
    int err = WR_ECLOSED;
    struct wr_stream *s = NULL;
    p->phase = WR_DCUTR_CONNECTING;
    if (p->relayed && !p->relayed->closing)
        s = wr_conn_open_stream(p->relayed, offer, &none, NULL, &err);
    if (!s) {
        finish(p, WR_DCUTR_NO_ANSWER, err);
        return;
    }
    wr_msg_start(&p->msg, p->d->env, s, WR_DCUTR_READ_MAX, &asking_ops);
    wr_msg_deadline(&p->msg, now_of(p) + WR_DCUTR_EXCHANGE);
    p->now->sent_at = now_of(p);
    int rc = say(p, WR_DCUTR_CONNECT);
    if (rc != 0)
        finish(p, WR_DCUTR_NO_ANSWER, rc);
}

void wr_dcutr_talk_start(struct wr_dcutr_peer *p)
{
    bool waited = p->phase == WR_DCUTR_WANTS_ADDRESS;
    if (!p->relayed || p->relayed->closing || p->now || !begin(p, true, p->attempt))
        return;
    p->round_on = p->relayed->id;
    if (p->now->plan.count == 0) {
        free_attempt(p, p->now);
        p->now = NULL;
        p->phase = WR_DCUTR_WANTS_ADDRESS;
        if (!waited)
            note_none(p, WR_DCUTR_NO_ADDRESS);
        return;
    }
    if (!look(p))
        speak_first(p);
}

/* ---- B ------------------------------------------------------------------------------------------ */

static void on_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dcutr_peer *p = of_msg(m);
    struct wr_dcutr_attempt *a = p->now;
    int rc = wr_dcutr_msg_decode(body, &a->theirs);
    if (rc == 0 && (a->theirs.type != WR_DCUTR_CONNECT || p->phase != WR_DCUTR_CONNECTING))
        rc = WR_EPROTO;
    if (rc != 0) {
        finish(p, WR_DCUTR_NO_ANSWER, rc);
        return;
    }
    a->report.rtt = now_of(p) - a->sent_at;
    p->same_external = wr_plan_same_external(&a->plan, a->theirs.addrs, a->theirs.count);
    if (wr_plan_hopeless(wr_swarm_nat(p->d->swarm), a->theirs.addrs, a->theirs.count)) {
        finish(p, WR_DCUTR_HOPELESS, 0);
        return;
    }
    rc = say(p, WR_DCUTR_SYNC);
    if (rc != 0) {
        finish(p, WR_DCUTR_NO_ANSWER, rc);
        return;
    }
    wr_msg_close(m);
    punch(p, now_of(p) + a->report.rtt / 2);
}

static void on_asking_close(struct wr_msg *m, int err)
{
    struct wr_dcutr_peer *p = of_msg(m);
    if (p->phase == WR_DCUTR_CONNECTING)
        finish(p, err == WR_EUNSUPPORTED ? WR_DCUTR_UNSUPPORTED : WR_DCUTR_NO_ANSWER, err ? err : WR_ECLOSED);
}

static const struct wr_msg_ops asking_ops = {.on_message = on_answer, .on_close = on_asking_close};

/* ---- A ------------------------------------------------------------------------------------------ */

static void speak_second(struct wr_dcutr_peer *p)
{
    struct wr_dcutr_attempt *a = p->now;
    a->sent_at = now_of(p);
    p->phase = WR_DCUTR_ANSWERED;
    int rc = say(p, WR_DCUTR_CONNECT);
    if (rc != 0)
        finish(p, WR_DCUTR_NO_ANSWER, rc);
}

static void on_connect(struct wr_dcutr_peer *p)
{
    struct wr_dcutr_attempt *a = p->now;
    a->asked_at = now_of(p);
    p->same_external = wr_plan_same_external(&a->plan, a->theirs.addrs, a->theirs.count);
    make_plan(p);
    if (a->plan.count == 0) {
        finish(p, WR_DCUTR_NO_ADDRESS, 0);
        return;
    }
    if (!look(p))
        speak_second(p);
}

static void on_question(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dcutr_peer *p = of_msg(m);
    struct wr_dcutr_attempt *a = p->now;
    struct wr_dcutr_msg *msg = wr_alloc(sizeof(*msg));
    int rc = msg ? wr_dcutr_msg_decode(body, msg) : WR_ELIMIT;
    if (rc == 0 && p->phase == WR_DCUTR_ASKED && msg->type == WR_DCUTR_CONNECT) {
        a->theirs = *msg;
        on_connect(p);
    } else if (rc == 0 && p->phase == WR_DCUTR_ANSWERED && msg->type == WR_DCUTR_SYNC) {
        a->report.rtt = now_of(p) - a->sent_at;
        wr_msg_close(m);
        /* B waits for half of what it measured, our look included. */
        punch(p, now_of(p) + (a->sent_at - a->asked_at) / 2);
    } else {
        finish(p, WR_DCUTR_NO_ANSWER, rc ? rc : WR_EPROTO);
    }
    wr_free(msg);
}

static void on_asked_close(struct wr_msg *m, int err)
{
    struct wr_dcutr_peer *p = of_msg(m);
    if (p->phase == WR_DCUTR_ASKED || p->phase == WR_DCUTR_LOOKING || p->phase == WR_DCUTR_ANSWERED)
        finish(p, WR_DCUTR_NO_ANSWER, err ? err : WR_ECLOSED);
}

static const struct wr_msg_ops asked_ops = {.on_message = on_question, .on_close = on_asked_close};

/* Whether this peer may have another attempt of ours. Counts it. */
static bool may_ask(struct wr_dcutr_peer *p, const struct wr_conn *c)
{
    wr_time now = now_of(p);
    if (p->asked_since == 0 || now - p->asked_since >= WR_DCUTR_REST) {
        p->asked_since = now;
        p->asked = 0;
    }
    if (++p->asked > WR_DCUTR_ASKED_MAX)
        return false;
    if (p->asked_on != c->id)
        p->asked_there = 0;
    p->asked_on = c->id;
    p->asked_there++;
    return true;
}

void wr_dcutr_talk_accept(struct wr_stream *s, void *arg)
{
    struct wr_dcutr *d = arg;
    const struct wr_conn *c = wr_stream_conn(s);
    bool ours = wr_dcutr_is_relayed(c) && c->outbound;
    struct wr_dcutr_peer *p = ours ? wr_dcutr_peer_get(d, &c->peer) : NULL;
    bool as_b = p && p->now && p->now->report.initiator;
    if (!p || as_b || !may_ask(p, c)) {
        d->stats.refused++;
        wr_stream_reset(s, ours ? WR_STREAM_LIMIT : WR_STREAM_VIOLATION);
        return;
    }
    if (p->now)
        finish(p, WR_DCUTR_FAILED, WR_ECANCELLED);    /* the peer gave that one up */
    if (!begin(p, false, (p->asked_there - 1) % WR_PLAN_ATTEMPTS)) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    wr_timer_stop(d->env, &p->timer);
    p->phase = WR_DCUTR_ASKED;
    wr_msg_start(&p->msg, d->env, s, WR_DCUTR_READ_MAX, &asked_ops);
    wr_msg_deadline(&p->msg, now_of(p) + WR_DCUTR_EXCHANGE);
}
