/* How long the NAT remembers a silent socket: in normal life one try after the other, at once when the owner asks. */
#include "autonat/autonat_client_impl.h"

#define SLOW_AFTER   (5 * WR_MIN)  /* after the kind of NAT is known; ours: whoever is up so long stays */
#define SLOW_PAUSE   (1 * WR_MIN)  /* between two tries; ours */
#define SLOW_AGAIN   (10 * WR_MIN) /* when nobody can help, or a try said nothing; ours */
#define SLOW_HELPERS 2             /* who take turns: one may lie; ours */
#define FULL_HELPERS 3             /* among whom the silences are spread, if there are so many; ours */
#define FULL_GATHER  (8 * WR_SEC)  /* for so many; ours */
#define FULL_PATIENT (60 * WR_SEC) /* for one; ours */
#define FULL_WHOLE   (355 * WR_SEC) /* what is not begun in time for that is not tried again */
#define FULL_SPREAD  (100 * WR_MSEC) /* between two beginnings: a router has others to serve */
#define TRY_COSTS    (WR_LIFETEST_HOLD + WR_LIFETEST_DIAL + 2 * WR_SEC)
#define TOP          (WR_LIFETIME_STEPS - 1)
#define RECALL_AFTER (1 * WR_MIN)  /* what is remembered is tried then; ours: it is relied on meanwhile */
#define CONTROL      (1 * WR_SEC) /* a silence that every NAT survives: can this peer help at all? */

struct life_try {
    struct wr_list node;
    struct wr_autonat_client *client;
    struct wr_lifetest test;
    size_t helper;
    int step; /* -1: the control */
    struct wr_task task;
};

static void step(struct wr_timer *timer);

static void wake_at(struct wr_autonat_client *c, wr_time after)
{
    wr_timer_start(c->env, &c->life.timer, wr_env_now(c->env) + after, step);
}

/* ---- who can help ---------------------------------------------------------------------------------- */

static bool helper_of(const struct wr_autonat_client *c, const struct server *s, struct life_helper *out)
{
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    const struct wr_peerstore *ps = wr_swarm_peerstore(c->sw);
    if (!s->connected || wr_peerstore_speaks(ps, &s->peer, WR_AUTONAT_WAKE) != 1)
        return false;
    size_t count = wr_peerstore_addrs(ps, &s->peer, known, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct wr_addr at;
        if (wr_maddr_kind(wr_maddr_bytes(&known[i])) != WR_MADDR_QUIC ||
            !wr_maddr_addr(wr_maddr_bytes(&known[i]), &at) || at.ip.family != 4 || !wr_ip_equal(&at.ip, &s->ip))
            continue;
        *out = (struct life_helper){.peer = s->peer, .addr = known[i]};
        return true;
    }
    return false;
}

/* Not always the same ones: one may lie. */
static void gather(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    l->helper_count = 0;
    size_t from = c->server_count ? (size_t)wr_env_random_below(c->env, c->server_count) : 0;
    for (size_t i = 0; i < c->server_count && l->helper_count < WR_LIFE_HELPERS; i++)
        l->helper_count += helper_of(c, &c->servers[(from + i) % c->server_count], &l->helpers[l->helper_count]);
}

static bool proved(const struct life *l)
{
    for (size_t i = 0; i < l->helper_count; i++)
        if (l->helpers[i].proved)
            return true;
    return false;
}

/* ---- tries ----------------------------------------------------------------------------------------- */

static void dispose_try(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct life_try, task));
}

static void end_try(struct life_try *t)
{
    wr_lifetest_cancel(&t->test);
    wr_list_remove(&t->node);
    t->client->life.try_count--;
    wr_env_dispose(t->client->env, &t->task, dispose_try);
}

static void end_tries(struct wr_autonat_client *c)
{
    while (!wr_list_empty(&c->life.tries))
        end_try(wr_list_entry(c->life.tries.next, struct life_try, node));
}

static bool enough_known(const struct wr_autonat_client *c)
{
    const struct wr_nat *nat = wr_swarm_nat(c->sw);
    return nat->external.family && nat->udp.mapping != WR_NAT_MAP_UNKNOWN &&
           nat->udp.filtering != WR_NAT_FILTER_UNKNOWN;
}

static void keep(struct wr_autonat_client *c, const struct wr_lifetime *known)
{
    struct life *l = &c->life;
    if (l->memory.keep && enough_known(c))
        l->memory.keep(l->memory.arg, wr_swarm_nat(c->sw), known);
}

/* From the beginning. */
static void forget(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    l->known = (struct wr_lifetime){.lived = {0}};
    l->unsure = false;
    l->refuted = 0;
    wr_swarm_set_lifetime(c->sw, 0, false);
}

/* A try that ended. What is remembered is not so any more when as many go against it as prove a death. */
static void note(struct wr_autonat_client *c, unsigned which, bool lived)
{
    struct life *l = &c->life;
    l->refuted += l->unsure && !lived;
    if (l->refuted >= WR_LIFETIME_NEED) {
        wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "nat transport=udp lifetime changed");
        keep(c, NULL);
        forget(c);
        return;
    }
    if (l->unsure && !lived)
        return;
    l->unsure = false;
    l->refuted = 0;
    wr_lifetime_note(&l->known, which, lived);
    keep(c, &l->known);
}

static void on_tried(struct wr_lifetest *test, enum wr_lifetest_result result)
{
    struct life_try *t = wr_list_entry(test, struct life_try, test);
    struct wr_autonat_client *c = t->client;
    struct life *l = &c->life;
    wr_time pause = SLOW_PAUSE;
    if (t->step < 0) {
        l->helpers[t->helper].proved = result == WR_LIFETEST_LIVED;
        pause = proved(l) ? WR_SEC : SLOW_AGAIN;
    } else if (result != WR_LIFETEST_NOTHING) {
        note(c, (unsigned)t->step, result == WR_LIFETEST_LIVED);
    } else {
        l->again |= 1u << t->step;
        pause = SLOW_AGAIN;
    }
    wr_log(wr_env_log(c->env), WR_LOG_DEBUG, "autonat", "silence step=%d is=%d", t->step, (int)result);
    end_try(t);
    wake_at(c, wr_list_empty(&l->waiting) ? pause : 0);
}

static void begin_try(struct wr_autonat_client *c, size_t helper, int which)
{
    struct life *l = &c->life;
    struct life_try *t = wr_alloc(sizeof(*t));
    if (!t)
        return;
    t->client = c;
    t->helper = helper;
    t->step = which;
    wr_list_append(&l->tries, &t->node);
    l->try_count++;
    wr_lifetest_start(&t->test, c->sw, &l->helpers[helper].peer, &l->helpers[helper].addr,
                      which < 0 ? CONTROL : wr_lifetime_silence((unsigned)which), on_tried);
}

/* With one of the helpers who proved that they can, in turn. */
static void begin_step(struct wr_autonat_client *c, unsigned which)
{
    struct life *l = &c->life;
    l->again &= ~(1u << which);
    for (size_t i = 0; i < l->helper_count; i++) {
        l->turn = (l->turn + 1) % l->helper_count;
        if (!l->helpers[l->turn].proved)
            continue;
        begin_try(c, l->turn, (int)which);
        return;
    }
}

/* ---- what is known --------------------------------------------------------------------------------- */

/* Is there something that forgets? Where addresses are our own, the filter tells. */
static bool needed(const struct wr_autonat_client *c)
{
    const struct wr_nat_kind *udp = &wr_swarm_nat(c->sw)->udp;
    return udp->mapping > WR_NAT_MAP_NONE || udp->filtering > WR_NAT_FILTER_EIF;
}

static bool in_the_open(const struct wr_autonat_client *c)
{
    const struct wr_nat_kind *udp = &wr_swarm_nat(c->sw)->udp;
    return udp->mapping == WR_NAT_MAP_NONE && udp->filtering == WR_NAT_FILTER_EIF;
}

static void answer_all(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    while (!wr_list_empty(&l->waiting)) {
        struct wr_autonat_measure *m = wr_list_entry(l->waiting.next, struct wr_autonat_measure, node);
        wr_list_remove(&m->node);
        m->client = NULL;
        m->on_done(m);
    }
}

/* True when it is known now. */
static bool judge(struct wr_autonat_client *c)
{
    bool least = false;
    wr_time lifetime = wr_lifetime_judge(&c->life.known, &least);
    if (!lifetime)
        return false;
    wr_swarm_set_lifetime(c->sw, lifetime, least);
    wr_log(wr_env_log(c->env), WR_LOG_INFO, "autonat", "nat transport=udp lifetime_ms=%lld%s",
           (long long)(lifetime / WR_MSEC), least ? " or more" : "");
    end_tries(c);
    return true;
}

/* ---- the two ways ---------------------------------------------------------------------------------- */

static void begin_controls(struct wr_autonat_client *c, size_t most)
{
    struct life *l = &c->life;
    gather(c);
    for (size_t i = 0; i < l->helper_count && i < most; i++)
        begin_try(c, i, -1);
}

/* One at a time. */
static void step_slow(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    if (l->try_count)
        return;
    if (!needed(c)) {
        wake_at(c, SLOW_AFTER);
        return;
    }
    int next = l->unsure ? wr_lifetime_floor(&l->known) : wr_lifetime_next(&l->known);
    if (!proved(l) || l->again) {
        l->again = 0;
        begin_controls(c, SLOW_HELPERS);
    } else if (next >= 0) {
        begin_step(c, (unsigned)next);
    }
    if (!l->try_count)
        wake_at(c, SLOW_AGAIN);
}

/* All side by side. True: over. */
static bool step_full(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    wr_time now = wr_env_now(c->env), spent = now - l->full_at;
    if (in_the_open(c) || spent >= FULL_WHOLE + WR_LIFETEST_END)
        return true;
    if (l->phase == LIFE_WAITING) {
        /* The kind of NAT need not be known: the silences have to begin. */
        gather(c);
        if (l->helper_count >= FULL_HELPERS || (l->helper_count && spent >= FULL_GATHER))
            begin_controls(c, WR_LIFE_HELPERS);
        l->phase = l->try_count ? LIFE_CONTROLS : LIFE_WAITING;
        wake_at(c, WR_SEC);
        return !l->try_count && spent >= FULL_PATIENT;
    }
    if (l->phase == LIFE_CONTROLS) {
        if (l->try_count)
            return false;
        if (!proved(l)) { /* a node that has just started has much to do: again */
            l->phase = LIFE_WAITING;
            wake_at(c, 2 * WR_SEC);
            return spent >= FULL_PATIENT;
        }
        l->phase = LIFE_LADDER;
        l->again = (1u << WR_LIFETIME_STEPS) - 1;
        begin_step(c, TOP); /* twice: no longer one is there to agree with it */
        l->again |= 1u << TOP;
    }
    /* The longest first: they decide when all of it is over. */
    for (unsigned i = WR_LIFETIME_STEPS; i-- > 0;) {
        if (!(l->again & 1u << i) || spent + wr_lifetime_silence(i) + TRY_COSTS > FULL_WHOLE ||
            !wr_lifetime_open(&l->known, i))
            continue;
        begin_step(c, i);
        wake_at(c, FULL_SPREAD);
        return false;
    }
    if (!l->try_count)
        return true;
    /* Whatever ends wakes us; this is for the case that nothing does. */
    wake_at(c, 10 * WR_SEC);
    return false;
}

static void step(struct wr_timer *timer)
{
    struct wr_autonat_client *c = wr_list_entry(timer, struct wr_autonat_client, life.timer);
    struct life *l = &c->life;
    bool full = !wr_list_empty(&l->waiting);
    if (!l->unsure && (wr_swarm_nat(c->sw)->udp.lifetime || judge(c))) {
        answer_all(c);
        return;
    }
    if (!full) {
        step_slow(c);
    } else if (step_full(c)) {
        end_tries(c);
        answer_all(c);
        wake_at(c, SLOW_AGAIN);
    }
}

/* ---- beginning and end ----------------------------------------------------------------------------- */

void wr_autonat_client_measure(struct wr_autonat_client *c, struct wr_autonat_measure *m)
{
    struct life *l = &c->life;
    m->client = c;
    if (wr_list_empty(&l->waiting)) {
        end_tries(c);
        if (l->unsure) /* it is to be measured, not remembered */
            forget(c);
        l->phase = LIFE_WAITING;
        l->full_at = wr_env_now(c->env);
    }
    wr_list_append(&l->waiting, &m->node);
    wake_at(c, 0);
}

void wr_autonat_measure_cancel(struct wr_autonat_measure *m)
{
    if (!m->client)
        return;
    struct wr_autonat_client *c = m->client;
    m->client = NULL;
    wr_list_remove(&m->node);
    if (!wr_list_empty(&c->life.waiting))
        return;
    end_tries(c);
    wake_at(c, SLOW_AGAIN);
}

void wr_autonat_client_set_memory(struct wr_autonat_client *c, const struct wr_autonat_memory *memory)
{
    c->life.memory = *memory;
}

void wr_autonat_client_life_recall(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    if (l->recalled || !l->memory.recall || !enough_known(c))
        return;
    l->recalled = true;
    /* Somebody waits for it to be measured, or it was begun with. */
    if (!wr_list_empty(&l->waiting) || l->try_count || wr_lifetime_floor(&l->known) >= 0 ||
        !l->memory.recall(l->memory.arg, wr_swarm_nat(c->sw), &l->known))
        return;
    (void)judge(c);
    l->unsure = wr_lifetime_floor(&l->known) >= 0;
    wake_at(c, RECALL_AFTER);
}

void wr_autonat_client_life_start(struct wr_autonat_client *c)
{
    wr_list_init(&c->life.tries);
    wr_list_init(&c->life.waiting);
    wake_at(c, SLOW_AFTER);
}

void wr_autonat_client_life_reset(struct wr_autonat_client *c)
{
    struct life *l = &c->life;
    end_tries(c);
    forget(c);
    l->recalled = false;
    l->helper_count = 0;
    l->again = 0;
    l->phase = LIFE_WAITING;
    wake_at(c, wr_list_empty(&l->waiting) ? SLOW_AFTER : 0);
}

void wr_autonat_client_life_end(struct wr_autonat_client *c)
{
    if (!c->life.tries.next)
        return;
    end_tries(c);
    wr_timer_stop(c->env, &c->life.timer);
    answer_all(c);
}
