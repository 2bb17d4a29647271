#include "autonat/filtertest.h"

#include "autonat/fresh.h"

#include <sodium.h>
#include <string.h>

#define MYSELF 0    /* asks[0]: of A, over the connection that made the mapping */

/* ---- the end --------------------------------------------------------------------------------------- */

static void drop(struct wr_filtertest *t)
{
    wr_timer_stop(t->env, &t->timer);
    wr_connect_cancel(t->request);
    for (size_t i = 0; i < WR_FILTERTEST_PEERS; i++) {
        wr_connect_cancel(t->asks[i].request);
        if (t->asks[i].running)
            wr_ask_cancel(&t->asks[i].ask);
    }
    wr_seen_cancel(&t->seen);
    if (wr_msg_open(&t->back))
        wr_msg_reset(&t->back, WR_STREAM_OK);
    wr_swarm_destroy(t->fresh);
    wr_swarm_destroy(t->asker);
    t->fresh = t->asker = NULL;
    sodium_memzero(&t->key, sizeof(t->key));
    t->home = NULL;
}

static enum wr_nat_filtering judge(const struct wr_filtertest *t)
{
    unsigned strangers = 0, kept_out = 0;
    for (size_t i = MYSELF + 1; i < t->peer_count; i++) {
        if (t->asks[i].arrived)
            return WR_NAT_FILTER_EIF;
        strangers++;
        kept_out += t->asks[i].over && t->asks[i].result == WR_ASK_FAILED;
    }
    if (kept_out == 0 || 2 * kept_out < strangers)
        return WR_NAT_FILTER_UNKNOWN;
    const struct wr_filtertest_ask *friend = &t->asks[MYSELF];
    if (friend->arrived)
        return WR_NAT_FILTER_ADF;
    return friend->over && friend->result == WR_ASK_FAILED ? WR_NAT_FILTER_APDF : WR_NAT_FILTER_UNKNOWN;
}

/* What each peer came to: i got in, o was kept out, r refused, b broke off, ? said nothing. */
static void say(const struct wr_filtertest *t, enum wr_nat_filtering found)
{
    char text[WR_MADDR_TEXT] = "", each[WR_FILTERTEST_PEERS + 1] = "";
    for (size_t i = 0; i < t->peer_count; i++) {
        const struct wr_filtertest_ask *a = &t->asks[i];
        each[i] = a->arrived                  ? 'i'
                  : !a->over                  ? '?'
                  : a->result == WR_ASK_FAILED  ? 'o'
                  : a->result == WR_ASK_REFUSED ? 'r'
                                                : 'b';
    }
    if (t->outside.len)
        (void)wr_maddr_print(wr_maddr_bytes(&t->outside), text, sizeof(text));
    wr_log(wr_env_log(t->env), WR_LOG_DEBUG, "autonat", "filter test addr=%s peers=%s is=%d", text, each, (int)found);
}

static void finish(struct wr_timer *timer)
{
    struct wr_filtertest *t = wr_list_entry(timer, struct wr_filtertest, timer);
    enum wr_nat_filtering found = judge(t);
    say(t, found);
    drop(t);
    t->on_done(t, found);
}

/* In a turn of its own: this call may come from a swarm that is to be destroyed. */
static void finish_soon(struct wr_filtertest *t)
{
    wr_timer_start(t->env, &t->timer, wr_env_now(t->env), finish);
}

/* ---- questions ------------------------------------------------------------------------------------- */

static void look(struct wr_filtertest *t)
{
    size_t left = 0;
    for (size_t i = 0; i < t->peer_count; i++)
        left += !t->asks[i].over;
    if (left == 0 || judge(t) == WR_NAT_FILTER_EIF)
        finish_soon(t);
}

static void on_answer(struct wr_ask *ask, enum wr_ask_result result)
{
    struct wr_filtertest_ask *a = wr_list_entry(ask, struct wr_filtertest_ask, ask);
    a->running = false;
    a->over = true;
    a->result = result;
    look(a->of);
}

static void ask(struct wr_filtertest_ask *a, struct wr_conn *conn)
{
    struct wr_filtertest *t = a->of;
    struct wr_ask_question q = {.addr = &t->outside, .nonce = a->nonce};
    a->running = wr_ask_start(&a->ask, t->env, conn, WR_AUTONAT_REQUEST, &q, on_answer) == 0;
    if (a->running)
        return;
    a->over = true;
    a->result = WR_ASK_BROKEN;
    look(t);
}

static void on_asker_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_filtertest_ask *a = arg;
    a->request = NULL;
    if (err == 0) {
        ask(a, conn);
        return;
    }
    a->over = true;
    a->result = WR_ASK_BROKEN;
    look(a->of);
}

static void ask_all(struct wr_filtertest *t)
{
    for (size_t i = 0; i < t->peer_count; i++) {
        struct wr_filtertest_ask *a = &t->asks[i];
        a->of = t;
        wr_env_random(t->env, &a->nonce, sizeof(a->nonce));
        if (i == MYSELF) {
            ask(a, t->known);
        } else if (wr_swarm_connect_addr(t->asker, wr_maddr_bytes(&t->peers[i]), on_asker_connected, a,
                                         &a->request) != 0) {
            a->over = true;
            a->result = WR_ASK_BROKEN;
        }
    }
    look(t);
}

/* ---- the dial-back --------------------------------------------------------------------------------- */

static void on_nonce(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_filtertest *t = wr_list_entry(m, struct wr_filtertest, back);
    uint64_t nonce;
    bool ok = wr_autonat_msg_decode_back(body, &nonce) == 0 && !t->back_conn->outbound;
    for (size_t i = 0; ok && i < t->peer_count; i++) {
        struct wr_filtertest_ask *a = &t->asks[i];
        /* From the very IP that the mapping was made for it is the friend, whatever the nonce says. */
        if (a->nonce == nonce &&
            (i == MYSELF || !wr_ip_equal(&t->back_conn->remote.ip, &t->known_ip)))
            a->arrived = true;
    }
    (void)wr_msg_send(m, WR_BYTES_NONE);
    wr_msg_close(m);
}

static void on_back_over(struct wr_msg *m, int err)
{
    (void)m;
    (void)err;
}

static void on_back(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = on_nonce, .on_close = on_back_over};
    struct wr_filtertest *t = arg;
    if (wr_msg_open(&t->back) || !t->known_ip.family) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    t->back_conn = wr_stream_conn(s);
    wr_msg_start(&t->back, t->env, s, WR_AUTONAT_BACK_MAX, &ops);
    wr_msg_deadline(&t->back, wr_env_now(t->env) + 5 * WR_SEC);
}

/* ---- the fresh socket ------------------------------------------------------------------------------ */

static void on_seen(struct wr_seen *seen, const struct wr_addr *at)
{
    struct wr_filtertest *t = wr_list_entry(seen, struct wr_filtertest, seen);
    if (!at || wr_maddr_from_addr(at, t->udp, &t->outside) != 0)
        finish_soon(t);
    else
        ask_all(t);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    struct wr_filtertest *t = arg;
    t->request = NULL;
    /* From any other port there would be no telling where the listening one is. */
    if (err != 0 || !conn->port_reused || !wr_seen_ask(&t->seen, t->env, conn, on_seen)) {
        finish_soon(t);
        return;
    }
    t->known = conn;
    t->known_ip = conn->remote.ip;
}

static bool begin(struct wr_filtertest *t)
{
    struct wr_addr first;
    struct wr_protocol back = {.on_stream = on_back, .arg = t, .inbound_max = 2};
    memcpy(back.name, WR_AUTONAT_BACK, sizeof(WR_AUTONAT_BACK));
    wr_fresh_key(t->env, &t->key);
    t->fresh = wr_fresh_swarm(t->home, &t->key);
    t->asker = wr_fresh_swarm(t->home, &t->key);
    return t->fresh && t->asker && wr_maddr_addr(wr_maddr_bytes(&t->peers[0]), &first) &&
           wr_fresh_listen(t->fresh, t->udp, first.ip.family) && wr_swarm_handle(t->fresh, &back) == 0 &&
           wr_swarm_connect_addr(t->fresh, wr_maddr_bytes(&t->peers[0]), on_connected, t, &t->request) == 0;
}

void wr_filtertest_start(struct wr_filtertest *t, struct wr_swarm *home, bool udp,
                         const struct wr_maddr *peers, size_t count,
                         void (*on_done)(struct wr_filtertest *t, enum wr_nat_filtering filtering))
{
    *t = (struct wr_filtertest){.home = home, .env = wr_swarm_env(home), .udp = udp, .on_done = on_done};
    t->peer_count = count < WR_FILTERTEST_PEERS ? count : WR_FILTERTEST_PEERS;
    for (size_t i = 0; i < t->peer_count; i++)
        t->peers[i] = peers[i];
    if (t->peer_count < 2 || !begin(t))
        finish_soon(t);
    else
        wr_timer_start(t->env, &t->timer, wr_env_now(t->env) + WR_FILTERTEST_TIMEOUT, finish);
}

void wr_filtertest_cancel(struct wr_filtertest *t)
{
    if (t->home)
        drop(t);
}
