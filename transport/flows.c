#include "transport/flows.h"

#include "transport/err.h"

#include <string.h>

#define FLOWS_MAX (1024 * 1024)    /* entries; the ceiling of the limit decides */
#define KEY       26               /* bytes: protocol, family, address, port, port of ours, which of several */
#define KEY_WHICH 22               /* where the last of these stands: 0, or a number of its own */

struct wr_flow {
    struct wr_list node;    /* on an idle list while nobody uses it */
    uint8_t key[KEY];
    bool udp, answered;
    bool came;              /* others began it */
    unsigned users;
    wr_time until;          /* idle: when the router forgets it */
};

/* A bucket of tries: fresh ones come with time. */
struct silent {
    struct wr_list node;
    struct wr_ip ip;        /* the key */
    uint64_t spent;
    wr_time counted_at;
};

enum { CLOSED, SILENT, STREAM, SYN };    /* idle lists */
static const wr_time lingers[WR_FLOWS_LINGERS] = {[CLOSED] = WR_FLOWS_LINGER_TCP,
                                                  [SILENT] = WR_FLOWS_LINGER_SILENT,
                                                  [STREAM] = WR_FLOWS_LINGER_UDP,
                                                  [SYN] = WR_FLOWS_LINGER_SYN};

void wr_flows_init(struct wr_flows *f, struct wr_limits *limits, const uint8_t seed[static WR_MAP_SEED])
{
    *f = (struct wr_flows){.limits = limits};
    wr_map_init(&f->of, FLOWS_MAX, seed);
    wr_map_init(&f->silent, WR_FLOWS_SILENT_IPS, seed);
    wr_list_init(&f->silent_order);
    for (size_t i = 0; i < WR_FLOWS_LINGERS; i++) {
        wr_list_init(&f->idle[false][i]);
        wr_list_init(&f->idle[true][i]);
    }
}

static void make_key(uint8_t key[static KEY], const struct wr_addr *at, bool udp, uint16_t ours)
{
    key[0] = udp;
    key[1] = at->ip.family;
    memcpy(key + 2, at->ip.bytes, 16);
    key[18] = (uint8_t)(at->port >> 8);
    key[19] = (uint8_t)at->port;
    key[20] = (uint8_t)(ours >> 8);
    key[21] = (uint8_t)ours;
    memset(key + KEY_WHICH, 0, KEY - KEY_WHICH);
}

static void set_apart(struct wr_flows *f, uint8_t key[static KEY])
{
    f->apart = f->apart == UINT32_MAX ? 1 : f->apart + 1;
    memcpy(key + KEY_WHICH, &f->apart, sizeof(f->apart));
}

static void forget(struct wr_flows *f, struct wr_flow *flow)
{
    wr_map_del(&f->of, WR_BYTES(flow->key, KEY));
    wr_limits_give(f->limits, WR_LIMIT_SESSIONS, 1);
    f->came -= flow->came;
    wr_free(flow);
}

static struct wr_bytes silent_key(const struct silent *s)
{
    return WR_BYTES(&s->ip, sizeof(s->ip));
}

static void silent_free(struct wr_flows *f, struct silent *s)
{
    wr_map_del(&f->silent, silent_key(s));
    wr_list_remove(&s->node);
    wr_free(s);
}

void wr_flows_forgive(struct wr_flows *f)
{
    wr_list_each(it, &f->silent_order)
        silent_free(f, wr_list_entry(it, struct silent, node));
    f->silent_gone = 0;
}

void wr_flows_clear(struct wr_flows *f)
{
    size_t cursor = 0;
    for (struct wr_flow *flow; (flow = wr_map_next(&f->of, &cursor));)
        forget(f, flow);
    wr_map_clear(&f->of);
    wr_flows_forgive(f);
    wr_map_clear(&f->silent);
}

/* ---- rate --------------------------------------------------------------------------------------------- */

static wr_time interval(const struct wr_flows *f)
{
    uint64_t rate = f->limits->of[WR_LIMIT_NEW_FLOWS].max;
    return rate ? WR_SEC / (wr_time)rate : WR_SEC;
}

wr_time wr_flows_wait(struct wr_flows *f, wr_time now)
{
    wr_time at = f->next_at - WR_FLOWS_BURST;
    if (at <= now)
        return 0;
    wr_limits_refuse(f->limits, WR_LIMIT_NEW_FLOWS);
    return at;
}

static void note_rate(struct wr_flows *f, wr_time now)
{
    if (f->next_at < now)
        f->next_at = now;
    f->next_at += interval(f);
}

/* ---- silence ------------------------------------------------------------------------------------------- */

struct wr_ip wr_flows_host(const struct wr_ip *ip)
{
    return wr_ip_mask(ip, ip->family == 4 ? 32 : 64);
}

static void regain(uint64_t *spent, wr_time *counted_at, wr_time now)
{
    wr_time fresh = (now - *counted_at) / WR_FLOWS_SILENT_EVERY;
    *counted_at += fresh * WR_FLOWS_SILENT_EVERY;
    *spent = (uint64_t)fresh < *spent ? *spent - (uint64_t)fresh : 0;
}

/* The least tried one goes, of equals the oldest: a crowd of addresses does not hide the one that is after. When it comes
 * back it is no stranger: two of them would push each other out for ever. */
static void make_room(struct wr_flows *f, wr_time now)
{
    struct silent *least = NULL;
    wr_list_each(it, &f->silent_order)
    {
        struct silent *s = wr_list_entry(it, struct silent, node);
        regain(&s->spent, &s->counted_at, now);
        if (!least || s->spent < least->spent)
            least = s;
        if (least->spent == 0)
            break;
    }
    if (least->spent >= f->silent_gone) {
        f->silent_gone = least->spent;
        f->silent_gone_at = least->counted_at;
    }
    silent_free(f, least);
}

static size_t silent_max(const struct wr_flows *f)
{
    uint64_t most = f->limits->of[WR_LIMIT_NEW_FLOWS].max * (WR_FLOWS_SILENT_EVERY / WR_SEC);
    return most < WR_FLOWS_SILENT_IPS ? (size_t)most : WR_FLOWS_SILENT_IPS;
}

static struct silent *silent_get(struct wr_flows *f, const struct wr_ip *host, wr_time now)
{
    struct silent *s = wr_map_get(&f->silent, WR_BYTES(host, sizeof(*host)));
    if (s)
        return s;
    regain(&f->silent_gone, &f->silent_gone_at, now);
    while (f->silent.count && f->silent.count >= silent_max(f))
        make_room(f, now);
    s = wr_alloc(sizeof(*s));
    if (!s)
        return NULL;
    s->ip = *host;
    s->spent = f->silent_gone;
    s->counted_at = s->spent ? f->silent_gone_at : now;
    wr_list_init(&s->node);
    if (wr_map_put(&f->silent, silent_key(s), s) == 0)
        return s;
    wr_free(s);
    return NULL;
}

/* Takes a try. Out of memory errs on the side of not dialling. */
static bool may_try(struct wr_flows *f, const struct wr_ip *ip, bool insist, wr_time now)
{
    struct wr_ip host = wr_flows_host(ip);
    struct silent *s = silent_get(f, &host, now);
    if (!s)
        return insist;
    regain(&s->spent, &s->counted_at, now);
    wr_list_remove(&s->node);
    wr_list_append(&f->silent_order, &s->node);
    if (s->spent >= f->limits->of[WR_LIMIT_SILENT_TRIES].max) {
        if (!insist)
            wr_limits_refuse(f->limits, WR_LIMIT_SILENT_TRIES);
        return insist;
    }
    if (s->spent++ == 0)
        s->counted_at = now;
    return true;
}

void wr_flows_answered(struct wr_flows *f, const struct wr_ip *ip)
{
    struct wr_ip host = wr_flows_host(ip);
    struct silent *s = wr_map_get(&f->silent, WR_BYTES(&host, sizeof(host)));
    if (s)
        silent_free(f, s);
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static void expire(struct wr_flows *f, struct wr_list *idle, wr_time now)
{
    while (!wr_list_empty(idle)) {
        struct wr_flow *flow = wr_list_entry(idle->next, struct wr_flow, node);
        if (flow->until > now)
            return;
        wr_list_remove(&flow->node);
        forget(f, flow);
    }
}

void wr_flows_expire(struct wr_flows *f, wr_time now)
{
    for (size_t i = 0; i < WR_FLOWS_LINGERS; i++) {
        expire(f, &f->idle[false][i], now);
        expire(f, &f->idle[true][i], now);
    }
}

static struct wr_flow *find(const struct wr_flows *f, const uint8_t key[static KEY])
{
    return wr_map_get(&f->of, WR_BYTES(key, KEY));
}

static void use(struct wr_flow *flow)
{
    if (flow->users++ == 0 && flow->node.next)
        wr_list_remove(&flow->node);
}

/* Its place among the sessions is taken already. */
static struct wr_flow *make(struct wr_flows *f, const uint8_t key[static KEY], bool udp, bool came)
{
    struct wr_flow *flow = wr_alloc(sizeof(*flow));
    if (flow) {
        memcpy(flow->key, key, KEY);
        flow->udp = udp;
        flow->users = 1;
        flow->came = came;
        if (wr_map_put(&f->of, WR_BYTES(flow->key, KEY), flow) == 0) {
            f->came += came;
            return flow;
        }
    }
    wr_free(flow);
    wr_limits_give(f->limits, WR_LIMIT_SESSIONS, 1);
    return NULL;
}

static int begin_session(struct wr_flows *f, const struct wr_flow_ask *ask, struct wr_flow **out)
{
    uint8_t key[KEY];
    make_key(key, ask->to, ask->udp, ask->port);
    if (ask->apart)
        set_apart(f, key);
    *out = find(f, key);
    if (*out) {
        use(*out);
        return 0;
    }
    if (!wr_limits_take(f->limits, WR_LIMIT_SESSIONS, 1))
        return WR_ELIMIT;
    *out = make(f, key, ask->udp, false);
    return *out ? 0 : WR_ELIMIT;
}

int wr_flows_begin(struct wr_flows *f, const struct wr_flow_ask *ask, wr_time now, struct wr_flow **out)
{
    *out = NULL;
    wr_flows_expire(f, now);
    if (!may_try(f, &ask->to->ip, ask->insist, now))
        return WR_EBACKOFF;
    int rc = ask->nat ? begin_session(f, ask, out) : 0;
    if (rc == 0 && !ask->link)
        note_rate(f, now);
    return rc;
}

/* One that came and is over; first of those that never amounted to anything: packets with others' addresses on them make
 * a hundred such a second. */
static bool forget_one_that_came(struct wr_flows *f)
{
    static const int order[WR_FLOWS_LINGERS] = {SILENT, CLOSED, STREAM, SYN};
    for (size_t i = 0; i < WR_FLOWS_LINGERS; i++) {
        struct wr_list *node = wr_list_pop(&f->idle[true][order[i]]);
        if (!node)
            continue;
        forget(f, wr_list_entry(node, struct wr_flow, node));
        return true;
    }
    return false;
}

static bool full_of_others(const struct wr_flows *f)
{
    uint64_t max = f->limits->of[WR_LIMIT_SESSIONS].max;
    return f->limits->of[WR_LIMIT_SESSIONS].used >= max || f->came >= max - max / WR_FLOWS_OWN_PART;
}

bool wr_flows_may_come(struct wr_flows *f, wr_time now)
{
    wr_flows_expire(f, now);
    while (full_of_others(f) && forget_one_that_came(f))
        ;
    if (!full_of_others(f))
        return true;
    wr_limits_refuse(f->limits, WR_LIMIT_SESSIONS);
    return false;
}

struct wr_flow *wr_flows_came(struct wr_flows *f, const struct wr_addr *from, bool udp, uint16_t port)
{
    uint8_t key[KEY];
    make_key(key, from, udp, port);
    struct wr_flow *flow = find(f, key);
    if (flow) {
        use(flow);
        return flow;
    }
    wr_limits_charge(f->limits, WR_LIMIT_SESSIONS, 1);
    return make(f, key, udp, true);
}

/* What came over TCP was a connection, whatever became of it. */
static size_t idle_list(const struct wr_flow *flow)
{
    if (flow->udp)
        return flow->answered ? STREAM : SILENT;
    return flow->answered || flow->came ? CLOSED : SYN;
}

bool wr_flows_known(struct wr_flows *f, const struct wr_addr *to, bool udp, wr_time now)
{
    uint8_t key[KEY];
    make_key(key, to, udp, 0);
    wr_flows_expire(f, now);
    return find(f, key) != NULL;
}

void wr_flows_end(struct wr_flows *f, struct wr_flow *flow, bool answered, wr_time now)
{
    if (!flow)
        return;
    flow->answered |= answered;
    if (--flow->users)
        return;
    size_t list = idle_list(flow);
    flow->until = now + lingers[list];
    wr_list_append(&f->idle[flow->came][list], &flow->node);
}

/* Among the idle ones, before those that the router forgets later. */
static void put_idle(struct wr_flows *f, struct wr_flow *flow)
{
    struct wr_list *list = &f->idle[flow->came][idle_list(flow)], *at = list;
    while (at->prev != list && wr_list_entry(at->prev, struct wr_flow, node)->until > flow->until)
        at = at->prev;
    wr_list_insert(at, &flow->node);
}

void wr_flows_inherit(struct wr_flows *f, struct wr_flows *gone, wr_time now)
{
    size_t cursor = 0;
    for (struct wr_flow *flow; (flow = wr_map_next(&gone->of, &cursor));) {
        wr_map_del(&gone->of, WR_BYTES(flow->key, KEY));
        if (flow->users)
            flow->until = now + lingers[idle_list(flow)];
        else
            wr_list_remove(&flow->node);
        flow->users = 0;
        gone->came -= flow->came;
        set_apart(f, flow->key);
        if (wr_map_put(&f->of, WR_BYTES(flow->key, KEY), flow) == 0) {
            f->came += flow->came;
            put_idle(f, flow);
        } else {
            wr_limits_give(f->limits, WR_LIMIT_SESSIONS, 1);
            wr_free(flow);
        }
    }
}
