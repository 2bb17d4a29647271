#include "autonat/autonat_server.h"

#include "autonat/ask.h"
#include "autonat/rates.h"
#include "transport/crowds.h"

#include <string.h>

#define TALKS_PER_CONN 2 /* at once; go */
#define UDP_LOST_MAX   8 /* dials over QUIC in a row without success before we doubt our own UDP; ours */
#define ASKED_MAX      4   /* strangers asked for one dial, one after the other; ours */
#define UNWILLING_MAX  256 /* peers remembered that dial for nobody; ours, the oldest goes */
#define UNWILLING      (10 * WR_MIN) /* for so long; ours: what is known of their NATs changes */
#define UNWILLING_NETS 2             /* when askers of so many networks were refused; ours: one may have been meant */

enum kind { KIND_V1, KIND_V2, KIND_STRANGER, KIND_WAKE };

enum state {
    STATE_READ, /* for the request */
    STATE_DATA, /* taking dial data */
    STATE_WAIT, /* before the dial of a third party */
    STATE_DIAL, /* ours, or somebody else's for us */
    STATE_OVER,
};

/* One request. */
struct talk {
    struct wr_list node;
    struct wr_autonat_server *server;
    enum kind kind;
    enum state state;
    struct wr_msg msg;
    struct wr_peerid peer; /* who is dialled */
    struct wr_peerid asker;
    struct wr_addr seen; /* where the asker is seen */
    struct wr_maddr addrs[WR_DIALBACK_ADDRS];
    size_t count;
    uint32_t index; /* of the address in the request */
    uint64_t nonce, data_left;
    bool third_party; /* the address is on another IP than the asker */
    bool stranger;    /* asked for; then: a stranger did it */
    bool asking;      /* `ask` is in use */
    struct wr_timer timer;
    struct wr_dialback_try back;
    struct wr_connect *wake; /* a dial from our own port */
    struct wr_ask ask;
    struct wr_peerid asked[ASKED_MAX]; /* for a dial by a stranger, the last one now */
    size_t asked_count;
    struct wr_task task; /* disposal */
};

/* Somebody who did not dial over one family and transport, as who is behind a NAT does for nobody. */
struct unwilling {
    struct wr_peerid peer;
    struct wr_ip net; /* of whom he would have dialled for */
    uint8_t family;
    bool udp;
    wr_time until;
};

struct wr_autonat_server {
    struct wr_swarm *sw;
    struct wr_env *env;
    struct wr_dialback *dialback;
    struct wr_list talks;
    size_t talk_count;
    struct wr_rates all, net, data, v1_all, v1_net, targets;
    struct unwilling unwilling[UNWILLING_MAX];
    size_t unwilling_next;
    unsigned udp_lost;
    struct wr_autonat_server_stats stats;
};

/* Everybody's bucket. */
static const struct wr_ip everybody;

/* ---- the end of a talk ----------------------------------------------------------------------------- */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct talk, task));
}

/* From anywhere; the message stream is closed or answered already. */
static void end(struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    if (t->state == STATE_OVER)
        return;
    t->state = STATE_OVER;
    wr_dialback_cancel(&t->back);
    wr_connect_cancel(t->wake);
    if (t->asking)
        wr_ask_cancel(&t->ask);
    wr_timer_stop(s->env, &t->timer);
    wr_list_remove(&t->node);
    s->talk_count--;
    wr_env_dispose(s->env, &t->task, dispose);
}

static void breach(struct talk *t)
{
    t->server->stats.broken++;
    wr_msg_reset(&t->msg, WR_STREAM_VIOLATION);
    end(t);
}

static void reply(struct talk *t, const struct wr_autonat_msg *m)
{
    struct wr_buf body;
    wr_buf_init(&body, WR_AUTONAT_MSG_MAX);
    wr_autonat_msg_encode(m, &body);
    if (body.full)
        wr_msg_reset(&t->msg, WR_STREAM_LIMIT);
    else
        (void)wr_msg_send(&t->msg, wr_buf_bytes(&body));
    wr_buf_clear(&body);
}

static void say(const struct talk *t, int status, int dial)
{
    char text[WR_MADDR_TEXT], id[WR_PEERID_TEXT];
    wr_log(wr_env_log(t->server->env), WR_LOG_DEBUG, "autonat",
           "answered peer=%s version=%d addr=%s status=%d dial=%d stranger=%d",
           wr_peerid_print(&t->asker, id), t->kind == KIND_V1 ? 1 : 2,
           wr_maddr_print(wr_maddr_bytes(&t->addrs[0]), text, sizeof(text)), status, dial, t->stranger);
}

static void answer_v1(struct talk *t, enum wr_autonat_v1_status status, const struct wr_maddr *addr)
{
    struct wr_autonat_v1_msg m = {.response = true, .status = status};
    struct wr_buf body;
    if (addr)
        m.addr = wr_maddr_bytes(addr);
    wr_buf_init(&body, WR_AUTONAT_MSG_MAX);
    wr_autonat_msg_encode_v1(&m, &body);
    if (!body.full)
        (void)wr_msg_send(&t->msg, wr_buf_bytes(&body));
    wr_buf_clear(&body);
    wr_msg_close(&t->msg);
    say(t, (int)status, 0);
    end(t);
}

static void answer(struct talk *t, enum wr_autonat_status status, enum wr_autonat_dial dial)
{
    struct wr_autonat_msg m = {.type = WR_AUTONAT_DIAL_RESPONSE,
                               .status = status,
                               .index = status == WR_AUTONAT_OK ? t->index : 0,
                               .dial_status = dial,
                               .stranger = t->stranger && status == WR_AUTONAT_OK};
    reply(t, &m);
    wr_msg_close(&t->msg);
    say(t, (int)status, (int)dial);
    end(t);
}

static void reject(struct talk *t)
{
    t->server->stats.rejected++;
    if (t->kind == KIND_V1)
        answer_v1(t, WR_AUTONAT_V1_REFUSED, NULL);
    else
        answer(t, WR_AUTONAT_REJECTED, WR_AUTONAT_DIAL_UNUSED);
}

static void refuse(struct talk *t)
{
    t->server->stats.refused++;
    if (t->kind == KIND_V1)
        answer_v1(t, WR_AUTONAT_V1_REFUSED, NULL);
    else
        answer(t, WR_AUTONAT_REFUSED, WR_AUTONAT_DIAL_UNUSED);
}

/* ---- dialling -------------------------------------------------------------------------------------- */

static struct wr_ip target_of(const struct talk *t)
{
    struct wr_addr to = {.port = 0};
    (void)wr_maddr_addr(wr_maddr_bytes(&t->addrs[0]), &to);
    return wr_policy_network(&to.ip);
}

static bool over_udp(const struct talk *t)
{
    return wr_maddr_kind(wr_maddr_bytes(&t->addrs[0])) == WR_MADDR_QUIC;
}

static void dialled(struct talk *t, bool connected)
{
    struct wr_autonat_server *s = t->server;
    struct wr_ip target = target_of(t);
    s->stats.reached += connected;
    if (connected)
        wr_rates_forget(&s->targets, &target); /* somebody answers there and wanted to be dialled */
    if (over_udp(t))
        s->udp_lost = connected ? 0 : s->udp_lost + 1;
}

static void on_dialled(struct wr_dialback_try *back, enum wr_autonat_dial result, size_t index)
{
    struct talk *t = wr_list_entry(back, struct talk, back);
    dialled(t, result != WR_AUTONAT_DIAL_ERROR);
    if (t->kind != KIND_V1)
        answer(t, WR_AUTONAT_OK, result);
    else if (result == WR_AUTONAT_DIAL_OK)
        answer_v1(t, WR_AUTONAT_V1_OK, &t->addrs[index]);
    else
        answer_v1(t, WR_AUTONAT_V1_DIAL_ERROR, NULL);
}

static void dial(struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    t->state = STATE_DIAL;
    t->stranger = false;
    s->stats.dialled++;
    s->stats.for_others += t->kind == KIND_STRANGER;
    if (wr_dialback_start(s->dialback, &t->back, &t->peer, t->addrs, t->count,
                          t->kind == KIND_V1 ? NULL : &t->nonce, on_dialled) != 0)
        reject(t);
}

/* ---- waking a socket ------------------------------------------------------------------------------- */

static void on_awake(void *arg, int err, struct wr_conn *conn)
{
    struct talk *t = arg;
    struct wr_addr at;
    /* A dial that others asked for may have ended elsewhere: that connection is theirs, and says nothing. */
    bool there = err == 0 && wr_maddr_addr(wr_maddr_bytes(&t->addrs[0]), &at) && wr_addr_equal(&conn->remote, &at);
    t->wake = NULL;
    if (there)
        wr_conn_close(conn, WR_CONN_OK); /* that it came about is all */
    dialled(t, there);
    answer(t, WR_AUTONAT_OK, there ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_ERROR);
}

static void on_asleep(struct wr_timer *timer)
{
    struct talk *t = wr_list_entry(timer, struct talk, timer);
    dialled(t, false);
    answer(t, WR_AUTONAT_OK, WR_AUTONAT_DIAL_ERROR);
}

/* From our listening port and as ourselves: the asker knows us there, and so does its NAT if it has not forgotten. */
static void wake(struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    t->state = STATE_DIAL;
    t->stranger = false;
    s->stats.dialled++;
    if (wr_swarm_connect(s->sw, &t->peer, t->addrs, 1, WR_ORIGIN_STRANGER, WR_CONNECT_FRESH | WR_CONNECT_DIRECT,
                         on_awake, t, &t->wake) == 0)
        wr_timer_start(s->env, &t->timer, wr_env_now(s->env) + WR_DIALBACK_DIAL, on_asleep);
    else
        reject(t);
}

/* ---- having a stranger dial ------------------------------------------------------------------------ */

struct search {
    const struct talk *t;
    struct wr_conn *found;
    uint64_t seen;
};

/* He takes no more questions of ours: one more would be reset, and count as a refusal of his. */
static bool is_busy(const struct wr_autonat_server *s, const struct wr_conn *c)
{
    unsigned asked = 0;
    for (const struct wr_list *it = s->talks.next; it != &s->talks; it = it->next) {
        const struct talk *t = (const struct talk *)((uintptr_t)it - offsetof(struct talk, node));
        asked += t->asking && wr_stream_conn(t->ask.msg.stream) == c;
    }
    return asked >= TALKS_PER_CONN;
}

/* For how many networks did he refuse a dial like this one? *here: for this asker's among them. */
static unsigned refusals(const struct talk *t, const struct wr_peerid *peer, bool *here)
{
    const struct wr_autonat_server *s = t->server;
    struct wr_ip target = target_of(t), net = wr_policy_network(&t->seen.ip);
    unsigned nets = 0;
    *here = false;
    for (size_t i = 0; i < UNWILLING_MAX; i++) {
        const struct unwilling *u = &s->unwilling[i];
        if (u->until <= wr_env_now(s->env) || u->family != target.family || u->udp != over_udp(t) ||
            !wr_peerid_equal(&u->peer, peer))
            continue;
        nets++;
        *here |= wr_ip_equal(&u->net, &net);
    }
    return nets;
}

/* He who was asked last. */
static void note_unwilling(const struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    const struct wr_peerid *peer = &t->asked[t->asked_count - 1];
    bool here;
    (void)refusals(t, peer, &here);
    if (here)    /* two were under way */
        return;
    s->unwilling[s->unwilling_next] = (struct unwilling){.peer = *peer,
                                                         .net = wr_policy_network(&t->seen.ip),
                                                         .family = target_of(t).family,
                                                         .udp = over_udp(t),
                                                         .until = wr_env_now(s->env) + UNWILLING};
    s->unwilling_next = (s->unwilling_next + 1) % UNWILLING_MAX;
}

/* Was he asked for this dial already, or does he dial nobody? Most of a network stand behind NATs: with any of them as
 * likely as those who do dial, hardly ever one of these would be found. But he may have a rule against one asker, who is
 * not to keep him from all others. */
static bool asked_in_vain(const struct talk *t, const struct wr_peerid *peer)
{
    bool here;
    for (size_t i = 0; i < t->asked_count; i++)
        if (wr_peerid_equal(&t->asked[i], peer))
            return true;
    return refusals(t, peer, &here) >= UNWILLING_NETS || here;
}

/* A warren peer of ours that is neither in this business himself nor at any of its addresses. */
static void consider(struct wr_conn *c, void *arg)
{
    struct search *search = arg;
    const struct talk *t = search->t;
    struct wr_swarm *sw = t->server->sw;
    struct wr_ip target = target_of(t), net = wr_policy_network(&c->remote.ip);
    struct wr_ip seen = wr_policy_network(&t->seen.ip);
    if (c->circuit || c->closing || wr_peerid_equal(&c->peer, &t->asker) ||
        wr_peerid_equal(&c->peer, &t->peer) || wr_ip_equal(&net, &target) || wr_ip_equal(&net, &seen) ||
        wr_peerstore_speaks(wr_swarm_peerstore(sw), &c->peer, WR_AUTONAT_STRANGER) != 1 ||
        !wr_policy_is_public(wr_swarm_policy(sw), &c->remote.ip) || is_busy(t->server, c) ||
        asked_in_vain(t, &c->peer))
        return;
    /* Each one is as likely as any other. */
    if (wr_env_random_below(t->server->env, ++search->seen) == 0)
        search->found = c;
}

static bool delegate(struct talk *t);

static void on_asked(struct wr_ask *ask, enum wr_ask_result result)
{
    struct talk *t = wr_list_entry(ask, struct talk, ask);
    struct wr_ip target = target_of(t);
    t->asking = false;
    if (result == WR_ASK_REFUSED && ask->unwilling)
        note_unwilling(t);
    /* Whoever had dial data of us may have dialled: then it is enough. */
    if (result == WR_ASK_REFUSED && !ask->data_bytes && delegate(t))
        return;
    if (result == WR_ASK_REFUSED || result == WR_ASK_BROKEN) {
        dial(t);
        return;
    }
    t->server->stats.delegated++;
    t->server->stats.reached += result != WR_ASK_FAILED;
    /* Nothing of ours went there. It is only his word that somebody answers, so the bucket is no fuller than before. */
    if (t->third_party && result != WR_ASK_FAILED)
        wr_rates_give(&t->server->targets, &target);
    answer(t, WR_AUTONAT_OK,
           result == WR_ASK_REACHED  ? WR_AUTONAT_DIAL_OK
           : result == WR_ASK_FAILED ? WR_AUTONAT_DIAL_ERROR
                                     : WR_AUTONAT_DIAL_BACK_ERROR);
}

static bool delegate(struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    struct search search = {.t = t};
    if (!t->stranger || t->kind != KIND_V2 || t->asked_count == ASKED_MAX)
        return false;
    wr_swarm_each(s->sw, consider, &search);
    if (!search.found)
        return false;
    t->asked[t->asked_count++] = search.found->peer;
    struct wr_ask_question q = {.addr = &t->addrs[0], .nonce = t->nonce, .peer = &t->peer};
    if (wr_ask_start(&t->ask, s->env, search.found, WR_AUTONAT_STRANGER, &q, on_asked) != 0)
        return false;
    t->asking = true;
    t->state = STATE_DIAL;
    return true;
}

static void begin(struct talk *t)
{
    struct wr_ip target = target_of(t);
    if (t->third_party && !wr_rates_take(&t->server->targets, &target, wr_env_now(t->server->env))) {
        reject(t);
        return;
    }
    wr_msg_deadline(&t->msg, wr_env_now(t->server->env) + WR_AUTONAT_SERVER_WHOLE);
    if (t->kind == KIND_WAKE)
        wake(t);
    else if (!delegate(t))
        dial(t);
}

static void on_wait(struct wr_timer *timer)
{
    begin(wr_list_entry(timer, struct talk, timer));
}

/* ---- version 2 ------------------------------------------------------------------------------------- */

/* Time and again nobody was there over QUIC, and we hold no such connection: our own UDP may be blocked,
 * and what we would say is about us (the others' servers refuse then, too). */
static void find_udp(struct wr_conn *c, void *arg)
{
    bool *found = arg;
    *found = *found || (c->udp && wr_ip_classify(&c->remote.ip) != WR_IP_LOOPBACK);
}

/* Do most see us at an address that we do not listen on? That tells of a NAT before its kind is known. */
static bool seen_elsewhere(const struct wr_autonat_server *s)
{
    const struct wr_ip *external = &wr_swarm_nat(s->sw)->external;
    const struct wr_addrbook *book = wr_swarm_addrbook(s->sw);
    for (size_t i = 0; i < book->count; i++) {
        struct wr_addr at;
        if (book->of[i].source == WR_ADDR_LISTEN && wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) &&
            wr_ip_equal(&at.ip, external))
            return false;
    }
    return external->family != 0;
}

/* Behind a NAT a dial for others takes a mapping: ports that peers of ours count on where the NAT counts, and an
 * early packet where a router answers for itself. While nothing is known we serve, or nobody would find out. */
static bool private_in(const struct wr_autonat_server *s, unsigned family)
{
    enum wr_reachability is = wr_swarm_reachability(s->sw, family);
    bool natted = family == 4 && (wr_nat_translates(wr_swarm_nat(s->sw)) || seen_elsewhere(s));
    return is == WR_REACH_PRIVATE || (is == WR_REACH_UNKNOWN && natted);
}

static bool may_dial(struct talk *t, struct wr_bytes addr)
{
    struct wr_autonat_server *s = t->server;
    struct wr_addr to;
    if (!wr_dialback_may(s->dialback, &t->peer, addr) || !wr_maddr_addr(addr, &to) ||
        private_in(s, to.ip.family))
        return false;
    if (wr_maddr_kind(addr) != WR_MADDR_QUIC || s->udp_lost < UDP_LOST_MAX)
        return true;
    bool found = false;
    wr_swarm_each(s->sw, find_udp, &found);
    return found;
}

static bool choose(struct talk *t, const struct wr_autonat_msg *m)
{
    for (size_t i = 0; i < m->addr_count; i++) {
        struct wr_addr to;
        if (wr_maddr_decode(m->addrs[i], &t->addrs[0]) < 0 || !may_dial(t, wr_maddr_bytes(&t->addrs[0])))
            continue;
        (void)wr_maddr_addr(wr_maddr_bytes(&t->addrs[0]), &to);
        t->third_party = !wr_ip_equal(&to.ip, &t->seen.ip);
        t->index = (uint32_t)i;
        t->count = 1;
        return true;
    }
    return false;
}

/* A socket of the asker's own, and nobody whom we know otherwise: where we know a peer to be he would be dialled, too,
 * and whoever asks would have chosen him. */
static bool may_wake(const struct talk *t)
{
    struct wr_swarm *sw = t->server->sw;
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    return !t->third_party && wr_maddr_kind(wr_maddr_bytes(&t->addrs[0])) == WR_MADDR_QUIC &&
           !wr_swarm_conn(sw, &t->peer) &&
           wr_peerstore_addrs(wr_swarm_peerstore(sw), &t->peer, known, WR_PEER_ADDRS_MAX) == 0;
}

static void ask_data(struct talk *t)
{
    struct wr_autonat_server *s = t->server;
    struct wr_ip target = target_of(t);
    wr_time now = wr_env_now(s->env);
    if (!wr_rates_left(&s->targets, &target, now) || !wr_rates_take(&s->data, &everybody, now)) {
        reject(t);
        return;
    }
    t->data_left = WR_AUTONAT_SERVER_DATA;
    t->state = STATE_DATA;
    struct wr_autonat_msg m = {.type = WR_AUTONAT_DATA_REQUEST, .index = t->index, .bytes = t->data_left};
    reply(t, &m);
}

static void take_request(struct talk *t, const struct wr_autonat_msg *m)
{
    struct wr_autonat_server *s = t->server;
    struct wr_ip net = wr_policy_network(&t->seen.ip);
    wr_time now = wr_env_now(s->env);
    s->stats.requests++;
    t->nonce = m->nonce;
    t->stranger = m->stranger;
    bool other = t->kind == KIND_STRANGER || t->kind == KIND_WAKE;
    if (other && wr_peerid_decode(m->peer, &t->peer) != 0) {
        breach(t);
        return;
    }
    if (!wr_rates_take(&s->net, &net, now) || !wr_rates_take(&s->all, &everybody, now))
        reject(t);
    else if (!choose(t, m) || (t->kind == KIND_WAKE && !may_wake(t)))
        refuse(t);
    else if (t->third_party)
        ask_data(t);
    else
        begin(t);
}

static void take_data(struct talk *t, const struct wr_autonat_msg *m)
{
    struct wr_autonat_server *s = t->server;
    size_t len = m->data.len;
    if (len < WR_AUTONAT_SERVER_CHUNK_MIN && len < t->data_left) {
        breach(t); /* it makes us work for little */
        return;
    }
    s->stats.data_bytes += len;
    t->data_left -= len < t->data_left ? len : t->data_left;
    if (t->data_left)
        return;
    t->state = STATE_WAIT;
    wr_timer_start(s->env, &t->timer,
                   wr_env_now(s->env) +
                       (wr_time)wr_env_random_below(s->env, (uint64_t)WR_AUTONAT_SERVER_WAIT),
                   on_wait);
}

static void on_v2(struct talk *t, struct wr_bytes body)
{
    struct wr_autonat_msg m;
    bool known = wr_autonat_msg_decode(body, &m) == 0;
    if (known && t->state == STATE_READ && m.type == WR_AUTONAT_DIAL_REQUEST)
        take_request(t, &m);
    else if (known && t->state == STATE_DATA && m.type == WR_AUTONAT_DATA_RESPONSE)
        take_data(t, &m);
    else
        breach(t);
}

/* ---- version 1 ------------------------------------------------------------------------------------- */

static void add_v1(struct talk *t, const struct wr_maddr *addr)
{
    for (size_t i = 0; i < t->count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&t->addrs[i]), wr_maddr_bytes(addr)))
            return;
    if (t->count < WR_DIALBACK_ADDRS && may_dial(t, wr_maddr_bytes(addr)))
        t->addrs[t->count++] = *addr;
}

/* go-libp2p names its public addresses only, and believes in none before four others told it of one. Its own server dials
 * such a peer where it is seen: told that this failed, it looks for relays; refused, it asks again every two seconds and
 * never finds out. */
static void choose_seen(struct talk *t)
{
    struct wr_maddr addr;
    if (wr_maddr_from_addr(&t->seen, wr_stream_conn(t->msg.stream)->udp, &addr) == 0)
        add_v1(t, &addr);
}

/* The ports that the peer names, on the IP that we see it at, whatever IP it names itself (go svc.go). That IP has
 * answered us: the connection that the request came by could not be made from a forged one. So no dial data is asked
 * for, as for a third party in version 2; WR_DIALBACK_ADDRS and the rates bound what falls on its neighbours behind
 * one NAT. */
static void choose_v1(struct talk *t, const struct wr_autonat_v1_msg *m)
{
    for (size_t i = 0; i < m->addr_count; i++) {
        struct wr_maddr named, addr;
        struct wr_addr at;
        if (wr_maddr_decode(m->addrs[i], &named) < 0)
            continue;
        enum wr_maddr_kind kind = wr_maddr_kind(wr_maddr_bytes(&named));
        if ((kind != WR_MADDR_TCP && kind != WR_MADDR_QUIC) ||
            !wr_maddr_addr(wr_maddr_bytes(&named), &at) || at.ip.family != t->seen.ip.family)
            continue;
        at.ip = t->seen.ip;
        at.scope = 0;
        if (wr_maddr_from_addr(&at, kind == WR_MADDR_QUIC, &addr) == 0)
            add_v1(t, &addr);
    }
    if (t->count == 0)
        choose_seen(t);
}

static void on_v1(struct talk *t, struct wr_bytes body)
{
    struct wr_autonat_server *s = t->server;
    struct wr_autonat_v1_msg m;
    struct wr_ip net = wr_policy_network(&t->seen.ip);
    wr_time now = wr_env_now(s->env);
    if (t->state != STATE_READ || wr_autonat_msg_decode_v1(body, &m) < 0 || m.response) {
        breach(t);
        return;
    }
    s->stats.requests_v1++;
    if (!wr_bytes_equal(m.peer, wr_peerid_bytes(&t->asker))) {
        answer_v1(t, WR_AUTONAT_V1_BAD_REQUEST, NULL);
        return;
    }
    if (!wr_rates_take(&s->v1_net, &net, now) || !wr_rates_take(&s->v1_all, &everybody, now)) {
        reject(t);
        return;
    }
    choose_v1(t, &m);
    if (t->count)
        begin(t);
    else
        refuse(t);
}

/* ---- streams --------------------------------------------------------------------------------------- */

static void on_message(struct wr_msg *msg, struct wr_bytes body)
{
    struct talk *t = wr_list_entry(msg, struct talk, msg);
    if (t->kind == KIND_V1)
        on_v1(t, body);
    else
        on_v2(t, body);
}

/* The client has nothing more to say (rust shuts its side) and still waits for the answer. */
static void on_eof(struct wr_msg *msg)
{
    struct talk *t = wr_list_entry(msg, struct talk, msg);
    if (t->state == STATE_READ || t->state == STATE_DATA)
        breach(t);
}

static void on_close(struct wr_msg *msg, int err)
{
    struct talk *t = wr_list_entry(msg, struct talk, msg);
    (void)err;
    t->server->stats.broken++;
    end(t);
}

/* All places are taken: a talk that still waits for its asker, of a larger crowd than the newcomer's, makes room. Four
 * silent connections could keep everybody else from being served. */
static bool take_place(struct wr_autonat_server *s, const struct wr_ip *newcomer)
{
    struct wr_crowds all;
    if (s->talk_count < WR_AUTONAT_SERVER_TALKS)
        return true;
    wr_crowds_init(&all, wr_env_hash_seed(s->env));
    wr_list_each(it, &s->talks)
        wr_crowds_add(&all, &wr_list_entry(it, struct talk, node)->seen.ip);
    int larger = wr_crowds_larger(&all, newcomer);
    wr_list_each(it, &s->talks)
    {
        struct talk *t = wr_list_entry(it, struct talk, node);
        bool waits = t->state == STATE_READ || t->state == STATE_DATA;
        if (!waits || (int)wr_crowds_of(&all, &t->seen.ip) != larger)
            continue;
        s->stats.rejected++;
        wr_msg_reset(&t->msg, WR_STREAM_LIMIT);
        end(t);
        return true;
    }
    return false;
}

static void on_stream(struct wr_stream *stream, struct wr_autonat_server *s, enum kind kind)
{
    static const struct wr_msg_ops ops = {.on_message = on_message, .on_eof = on_eof, .on_close = on_close};
    const struct wr_conn *c = wr_stream_conn(stream);
    /* Who comes through a relay is seen at the relay's address: it would be the one that is dialled. */
    bool welcome = !c->circuit && take_place(s, &c->remote.ip);
    struct talk *t = welcome ? wr_alloc(sizeof(*t)) : NULL;
    if (!t) {
        s->stats.rejected++;
        wr_stream_reset(stream, WR_STREAM_LIMIT);
        return;
    }
    t->server = s;
    t->kind = kind;
    t->asker = t->peer = c->peer;
    t->seen = c->remote;
    wr_list_append(&s->talks, &t->node);
    s->talk_count++;
    wr_msg_start(&t->msg, s->env, stream, WR_AUTONAT_MSG_MAX, &ops);
    wr_msg_deadline(&t->msg, wr_env_now(s->env) + WR_AUTONAT_SERVER_READ);
}

static void on_v1_stream(struct wr_stream *s, void *arg)
{
    on_stream(s, arg, KIND_V1);
}

static void on_v2_stream(struct wr_stream *s, void *arg)
{
    on_stream(s, arg, KIND_V2);
}

static void on_stranger_stream(struct wr_stream *s, void *arg)
{
    on_stream(s, arg, KIND_STRANGER);
}

static void on_wake_stream(struct wr_stream *s, void *arg)
{
    on_stream(s, arg, KIND_WAKE);
}

/* ---- life ------------------------------------------------------------------------------------------ */

static int handle(struct wr_autonat_server *s, const char *name,
                  void (*on_open)(struct wr_stream *stream, void *arg))
{
    struct wr_protocol p = {.on_stream = on_open, .arg = s, .inbound_max = TALKS_PER_CONN};
    memcpy(p.name, name, strlen(name) + 1);
    return wr_swarm_handle(s->sw, &p);
}

static void init_rates(struct wr_autonat_server *s)
{
    const uint8_t *seed = wr_env_hash_seed(s->env);
    const size_t nets = WR_AUTONAT_SERVER_NETS;
    wr_rates_init(&s->all, 1, WR_AUTONAT_SERVER_RATE, WR_MIN / WR_AUTONAT_SERVER_RATE, seed);
    wr_rates_init(&s->net, nets, WR_AUTONAT_SERVER_RATE_NET, WR_MIN / WR_AUTONAT_SERVER_RATE_NET, seed);
    wr_rates_init(&s->data, 1, WR_AUTONAT_SERVER_RATE_DATA, WR_MIN / WR_AUTONAT_SERVER_RATE_DATA, seed);
    wr_rates_init(&s->v1_all, 1, WR_AUTONAT_SERVER_V1_RATE, WR_MIN / WR_AUTONAT_SERVER_V1_RATE, seed);
    wr_rates_init(&s->v1_net, nets, WR_AUTONAT_SERVER_V1_RATE_NET, WR_MIN / WR_AUTONAT_SERVER_V1_RATE_NET,
                  seed);
    wr_rates_init(&s->targets, nets, WR_AUTONAT_SERVER_TARGET_BURST, WR_AUTONAT_SERVER_TARGET_INTERVAL,
                  seed);
}

struct wr_autonat_server *wr_autonat_server_create(struct wr_swarm *sw)
{
    struct wr_autonat_server *s = wr_alloc(sizeof(*s));
    if (!s)
        return NULL;
    s->sw = sw;
    s->env = wr_swarm_env(sw);
    wr_list_init(&s->talks);
    init_rates(s);
    s->dialback = wr_dialback_create(sw);
    if (!s->dialback || handle(s, WR_AUTONAT_V1, on_v1_stream) < 0 ||
        handle(s, WR_AUTONAT_REQUEST, on_v2_stream) < 0 ||
        handle(s, WR_AUTONAT_STRANGER, on_stranger_stream) < 0 ||
        handle(s, WR_AUTONAT_WAKE, on_wake_stream) < 0) {
        wr_autonat_server_destroy(s);
        return NULL;
    }
    return s;
}

void wr_autonat_server_destroy(struct wr_autonat_server *s)
{
    if (!s)
        return;
    wr_swarm_unhandle(s->sw, WR_AUTONAT_V1);
    wr_swarm_unhandle(s->sw, WR_AUTONAT_REQUEST);
    wr_swarm_unhandle(s->sw, WR_AUTONAT_STRANGER);
    wr_swarm_unhandle(s->sw, WR_AUTONAT_WAKE);
    while (!wr_list_empty(&s->talks)) {
        struct talk *t = wr_list_entry(s->talks.next, struct talk, node);
        wr_msg_reset(&t->msg, WR_STREAM_OK);
        end(t);
    }
    wr_dialback_destroy(s->dialback);
    struct wr_rates *const rates[] = {&s->all, &s->net, &s->data, &s->v1_all, &s->v1_net, &s->targets};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
        wr_rates_clear(rates[i]);
    wr_free(s);
}

void wr_autonat_server_stats(const struct wr_autonat_server *s, struct wr_autonat_server_stats *out)
{
    *out = s->stats;
}
