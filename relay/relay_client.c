#include "relay/relay_client.h"

#include "relay/relay_client_impl.h"
#include "relay/voucher.h"

#include <string.h>

struct hold {
    struct wr_relay_hold of;
    struct wr_relay_client *client;
    struct wr_msg msg;          /* while asking */
    struct wr_timer timer;      /* the next refresh */
    struct wr_task task;        /* a failure told later; disposal */
    struct wr_relay_check check;
    struct wr_timer again;      /* the next check, after one that failed */
    unsigned failed, fulls;     /* checks in a row: that failed, that had no room */
    uint64_t over;              /* the connection that it was last asked over */
    bool listed;                /* the relay named the protocol among those it speaks */
    int err;                    /* of that failure */
    int doubt;                  /* the error of the check that brought it into doubt ... */
    unsigned status;            /* ... and what the relay said then */
};

static const char *const hop_offer[] = {WR_RELAY_HOP_NAME, NULL};

static struct hold *find(const struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    for (const struct wr_list *it = rc->holds.next; it != &rc->holds; it = it->next) {
        struct hold *h = (struct hold *)((uintptr_t)it - offsetof(struct hold, of.node));
        if (wr_peerid_equal(&h->of.relay, relay))
            return h;
    }
    return NULL;
}

struct wr_conn *wr_relay_client_conn(const struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    struct wr_conn *c = wr_swarm_conn(rc->swarm, relay);
    return c && !c->circuit ? c : NULL;
}

void wr_relay_client_refused(struct wr_relay_client *rc, const struct wr_peerid *relay, unsigned status)
{
    rc->stats.last_status = status;
    rc->stats.last_relay = *relay;
}

struct wr_stream *wr_relay_client_open(struct wr_relay_client *rc, const struct wr_peerid *relay, int *err)
{
    struct wr_conn *c = wr_relay_client_conn(rc, relay);
    *err = WR_ECLOSED;
    return c ? wr_conn_open_stream(c, hop_offer, NULL, NULL, err) : NULL;
}

int wr_relay_client_send(struct wr_msg *m, enum wr_relay_side side, const struct wr_relay_msg *body)
{
    struct wr_buf out;
    wr_buf_init(&out, WR_RELAY_MSG_MAX);
    wr_relay_msg_encode(side, body, &out);
    int rc = WR_ELIMIT;
    if (out.full)
        wr_msg_reset(m, WR_STREAM_LIMIT);
    else
        rc = wr_msg_send(m, wr_buf_bytes(&out));
    wr_buf_clear(&out);
    return rc;
}

/* ---- addresses of a reservation --------------------------------------------------------------------------- */

static void withdraw(struct hold *h)
{
    struct wr_addrbook *book = wr_swarm_addrbook(h->client->swarm);
    bool changed = false;
    for (size_t i = 0; i < h->of.addr_count; i++)
        changed |= wr_addrbook_del(book, wr_maddr_bytes(&h->of.addrs[i]), WR_ADDR_RELAYED);
    h->of.addr_count = 0;
    if (changed)
        wr_swarm_addrs_changed(h->client->swarm);
}

/* Can others dial it, as far as we know? A relay's word: no more than a stranger's. */
static bool useful(const struct wr_policy *policy, struct wr_bytes addr)
{
    enum wr_maddr_kind kind = wr_maddr_kind(addr);
    if (kind == WR_MADDR_OTHER || kind == WR_MADDR_CIRCUIT || kind == WR_MADDR_DNSADDR)
        return false;
    return wr_policy_may_dial(policy, NULL, addr, WR_ORIGIN_STRANGER) == 0;
}

/* One more place where the relay is, unless it is known or no use. */
static void add_addr(struct hold *h, struct wr_bytes relay_addr, bool trusted)
{
    struct wr_maddr addr = {.len = 0};
    struct wr_peerid named;
    static const uint8_t circuit[] = {0xa2, 0x02};    /* /p2p-circuit */
    if (h->of.addr_count == WR_RELAY_HOLD_ADDRS || relay_addr.len == 0 ||
        (wr_maddr_peer(relay_addr, &named) && !wr_peerid_equal(&named, &h->of.relay)))
        return;
    relay_addr = wr_maddr_strip_peer(relay_addr);    /* some say /p2p/RELAY twice: go-libp2p 3003 */
    relay_addr = wr_maddr_strip_peer(relay_addr);
    if ((!trusted && !useful(wr_swarm_policy(h->client->swarm), relay_addr)) ||
        wr_maddr_append(&addr, relay_addr) != 0 || wr_maddr_append_peer(&addr, &h->of.relay) != 0 ||
        wr_maddr_append(&addr, WR_BYTES(circuit, sizeof(circuit))) != 0)
        return;
    for (size_t i = 0; i < h->of.addr_count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&h->of.addrs[i]), wr_maddr_bytes(&addr)))
            return;
    h->of.addrs[h->of.addr_count++] = addr;
}

/* What the relay lists, where we dialled it, what else is known of it: a relay may list nothing at all (go does so
 * for a private network), and may list what nobody can dial. */
static void announce(struct hold *h, const struct wr_relay_msg *m)
{
    struct wr_relay_client *rc = h->client;
    struct wr_conn *c = wr_relay_client_conn(rc, &h->of.relay);
    struct wr_maddr known[WR_PEER_ADDRS_MAX], at;
    struct wr_relay_hold old = h->of;
    h->of.addr_count = 0;
    if (c && c->outbound) {
        wr_conn_remote(c, &at);
        add_addr(h, wr_maddr_bytes(&at), true);
    }
    for (size_t i = 0; i < m->addr_count; i++)
        if (wr_maddr_decode(m->addrs[i], &at) == 0)
            add_addr(h, wr_maddr_bytes(&at), false);
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(rc->swarm), &h->of.relay, known, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++)
        add_addr(h, wr_maddr_bytes(&known[i]), false);
    struct wr_addrbook *book = wr_swarm_addrbook(rc->swarm);
    uint64_t before = book->generation;
    for (size_t i = 0; i < h->of.addr_count; i++)
        wr_addrbook_put(book, wr_maddr_bytes(&h->of.addrs[i]), WR_ADDR_RELAYED, wr_env_now(rc->env));
    for (size_t i = 0; i < old.addr_count; i++) {
        bool stays = false;
        for (size_t k = 0; k < h->of.addr_count; k++)
            stays |= wr_bytes_equal(wr_maddr_bytes(&old.addrs[i]), wr_maddr_bytes(&h->of.addrs[k]));
        if (!stays)
            wr_addrbook_del(book, wr_maddr_bytes(&old.addrs[i]), WR_ADDR_RELAYED);
    }
    if (book->generation != before)
        wr_swarm_addrs_changed(rc->swarm);
}

/* ---- reservations ------------------------------------------------------------------------------------------- */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct hold, task));
}

static void end_hold(struct hold *h)
{
    struct wr_relay_client *rc = h->client;
    withdraw(h);
    wr_timer_stop(rc->env, &h->timer);
    wr_timer_stop(rc->env, &h->again);
    wr_relay_client_check_stop(&h->check);
    wr_msg_reset(&h->msg, WR_STREAM_OK);
    wr_list_remove(&h->of.node);
    wr_task_cancel(&h->task);
    rc->hold_count--;
    wr_env_dispose(rc->env, &h->task, dispose);
}

/* The relay said no, or is gone. */
static void lose(struct hold *h, int err, unsigned status)
{
    struct wr_relay_client *rc = h->client;
    struct wr_peerid relay = h->of.relay;
    char text[WR_PEERID_TEXT];
    if (status)
        wr_relay_client_refused(rc, &relay, status);
    if (h->of.state == WR_RELAY_HELD)
        rc->stats.lost++;
    else
        rc->stats.refused++;
    wr_log(wr_env_log(rc->env), WR_LOG_INFO, "relay", "%s relay=%s err=%s status=%u",
           h->of.state == WR_RELAY_HELD ? "reservation lost" : "no reservation", wr_peerid_print(&relay, text),
           wr_err_name(err), status);
    end_hold(h);
    if (rc->options.on_hold)
        rc->options.on_hold(rc->options.arg, &relay, err, status);
}

static void ask(struct hold *h);

static void on_refresh(struct wr_timer *timer)
{
    ask(wr_list_entry(timer, struct hold, timer));
}

/* No answer: what is held may stand until its time is over. */
static void unanswered(struct hold *h, int err)
{
    struct wr_relay_client *rc = h->client;
    wr_time now = wr_env_now(rc->env), next = now + WR_RELAY_RETRY;
    bool held = h->of.state == WR_RELAY_HELD && wr_relay_client_conn(rc, &h->of.relay);
    if (!held || next >= h->of.expires_at || err == WR_EUNSUPPORTED)
        lose(h, err, 0);
    else
        wr_timer_start(rc->env, &h->timer, next, on_refresh);
}

static void on_close(struct wr_msg *m, int err)
{
    unanswered(wr_list_entry(m, struct hold, msg), err);
}

/* The relay's clock says when it ends; how long that is, we say by ours. */
static wr_time lifetime(const struct wr_relay_client *rc, uint64_t expire)
{
    int64_t now = wr_env_unix(rc->env) / WR_SEC;
    if (expire > INT64_MAX / 2 || (int64_t)expire <= now || (int64_t)expire - now > WR_RELAY_LIFE_MAX / WR_SEC)
        return WR_RELAY_LIFE_GUESS;
    wr_time life = ((int64_t)expire - now) * WR_SEC;
    return life < WR_RELAY_LIFE_MIN ? WR_RELAY_LIFE_MIN : life;
}

/* 0, or why it is no voucher of this relay for us. */
static int check_voucher(const struct hold *h, struct wr_bytes in)
{
    struct wr_voucher v;
    int rc = wr_voucher_open(in, &v);
    if (rc == 0 && (!wr_peerid_equal(&v.relay, &h->of.relay) ||
                    !wr_peerid_equal(&v.peer, wr_swarm_self(h->client->swarm))))
        rc = WR_EPEERID;
    return rc;
}

static void granted(struct hold *h, const struct wr_relay_msg *m)
{
    struct wr_relay_client *rc = h->client;
    wr_time now = wr_env_now(rc->env), life = lifetime(rc, m->expire);
    bool first = h->of.state != WR_RELAY_HELD;
    char text[WR_PEERID_TEXT];
    h->of.state = WR_RELAY_HELD;
    h->listed = wr_peerstore_speaks(wr_swarm_peerstore(rc->swarm), &h->of.relay, WR_RELAY_HOP_NAME) == 1;
    h->of.ending = false;
    h->of.vouched = m->voucher.len > 0;
    if (!h->of.vouched)
        h->of.check_every = WR_RELAY_CHECK_RARE;
    h->of.limited = m->has_limit;
    h->of.limit = m->limit;
    h->of.expires_at = now + life;
    announce(h, m);
    /* At three quarters, a few per cent sooner or later: not all of a relay's clients at once. */
    wr_time jitter = (wr_time)wr_env_random_below(rc->env, (uint64_t)(life / 20));
    wr_timer_start(rc->env, &h->timer, now + life * 3 / 4 - jitter, on_refresh);
    if (!first) {
        h->of.refreshed++;
        rc->stats.refreshed++;
        return;
    }
    h->of.since = now;
    rc->stats.reserved++;
    wr_log(wr_env_log(rc->env), WR_LOG_INFO, "relay", "reservation made relay=%s seconds=%lld vouched=%d",
           wr_peerid_print(&h->of.relay, text), (long long)(life / WR_SEC), h->of.vouched);
    if (rc->options.on_hold)
        rc->options.on_hold(rc->options.arg, &h->of.relay, 0, WR_RELAY_OK);
}

static void on_run_out(struct wr_timer *timer)
{
    lose(wr_list_entry(timer, struct hold, timer), WR_EFULL, WR_RELAY_FULL);
}

/* The relay has no room: for the place any longer, or for circuits to us. */
static void begin_to_end(struct hold *h, const char *what)
{
    struct wr_relay_client *rc = h->client;
    char text[WR_PEERID_TEXT];
    wr_relay_client_refused(rc, &h->of.relay, WR_RELAY_FULL);
    if (h->of.ending)
        return;
    h->of.ending = true;
    wr_log(wr_env_log(rc->env), WR_LOG_INFO, "relay", "%s relay=%s seconds=%lld", what,
           wr_peerid_print(&h->of.relay, text), (long long)((h->of.expires_at - wr_env_now(rc->env)) / WR_SEC));
    if (rc->options.on_ending)
        rc->options.on_ending(rc->options.arg, &h->of.relay);
}

/* It asks again when half of what is left has passed: somebody else may have gone meanwhile. */
static void not_prolonged(struct hold *h)
{
    struct wr_relay_client *rc = h->client;
    wr_time now = wr_env_now(rc->env), left = h->of.expires_at - now;
    if (left / 2 >= WR_RELAY_RETRY)
        wr_timer_start(rc->env, &h->timer, now + left / 2, on_refresh);
    else
        wr_timer_start(rc->env, &h->timer, h->of.expires_at, on_run_out);
    begin_to_end(h, "reservation not prolonged");
}

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct hold *h = wr_list_entry(m, struct hold, msg);
    struct wr_relay_msg answer;
    int rc = wr_relay_msg_decode(WR_RELAY_HOP, body, &answer);
    if (rc == 0 && answer.type != WR_RELAY_STATUS)
        rc = WR_EPROTO;
    if (rc == 0)
        rc = wr_relay_msg_err(answer.status);
    if (rc == 0 && answer.voucher.len)
        rc = check_voucher(h, answer.voucher);
    if (rc == 0) {
        granted(h, &answer);
        wr_msg_close(m);
        return;
    }
    wr_msg_reset(m, WR_STREAM_OK);
    if (rc == WR_EFULL && h->of.state == WR_RELAY_HELD && wr_env_now(h->client->env) < h->of.expires_at)
        not_prolonged(h);
    else
        lose(h, rc, answer.type == WR_RELAY_STATUS ? answer.status : 0);
}

static const struct wr_msg_ops msg_ops = {.on_message = on_message, .on_close = on_close};

static void report_failure(struct wr_task *task)
{
    struct hold *h = wr_list_entry(task, struct hold, task);
    unanswered(h, h->err);
}

static void ask(struct hold *h)
{
    static const struct wr_relay_msg reserve = {.type = WR_RELAY_RESERVE};
    struct wr_relay_client *rc = h->client;
    const struct wr_conn *c = wr_relay_client_conn(rc, &h->of.relay);
    struct wr_stream *s = wr_relay_client_open(rc, &h->of.relay, &h->err);
    h->over = c ? c->id : 0;
    if (s) {
        wr_msg_start(&h->msg, rc->env, s, WR_RELAY_MSG_MAX, &msg_ops);
        h->err = wr_relay_client_send(&h->msg, WR_RELAY_HOP, &reserve);
        wr_msg_deadline(&h->msg, wr_env_now(rc->env) + WR_RELAY_ASK_TIMEOUT);
    }
    if (h->err != 0)
        wr_env_defer(rc->env, &h->task, report_failure);
}

int wr_relay_client_hold(struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    if (find(rc, relay))
        return WR_EEXIST;
    if (!wr_relay_client_conn(rc, relay))
        return WR_ECLOSED;
    struct hold *h = rc->hold_count < WR_RELAY_HOLDS_MAX ? wr_alloc(sizeof(*h)) : NULL;
    if (!h)
        return WR_ELIMIT;
    h->client = h->check.client = rc;
    h->of.relay = *relay;
    wr_list_append(&rc->holds, &h->of.node);
    rc->hold_count++;
    ask(h);
    return 0;
}

void wr_relay_client_drop(struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    struct hold *h = find(rc, relay);
    if (h)
        end_hold(h);
}

const struct wr_list *wr_relay_client_holds(const struct wr_relay_client *rc)
{
    return &rc->holds;
}

const struct wr_relay_hold *wr_relay_client_held(const struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    const struct hold *h = find(rc, relay);
    return h ? &h->of : NULL;
}

void wr_relay_client_stats(const struct wr_relay_client *rc, struct wr_relay_client_stats *out)
{
    *out = rc->stats;
}

/* ---- do circuits reach us? ------------------------------------------------------------------------------------ */

struct wr_relay_check *wr_relay_client_check_of(const struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    struct hold *h = find(rc, relay);
    return h ? &h->check : NULL;
}

void wr_relay_client_check(struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    struct hold *h = find(rc, relay);
    if (h && h->of.state == WR_RELAY_HELD && !h->check.running && !wr_timer_running(&h->again))
        wr_relay_client_check_start(&h->check, &h->of.relay);
}

static void on_again(struct wr_timer *timer)
{
    struct hold *h = wr_list_entry(timer, struct hold, again);
    wr_relay_client_check_start(&h->check, &h->of.relay);
}

static void proven(struct hold *h)
{
    wr_time now = wr_env_now(h->client->env);
    if (!h->of.proven_at || h->of.missed_at)
        h->of.good_since = now;
    h->of.proven_at = now;
    h->of.doubted = false;
    h->of.missed_at = 0;
    h->failed = h->fulls = 0;
}

/* It may count our circuits, or those of all at our address, or have none left for anybody: which of these it is, it does
 * not say, and asking often helps with none. */
static void no_room(struct hold *h)
{
    wr_time every = 2 * h->of.check_every;
    h->of.check_every = every < WR_RELAY_CHECK_FULL ? WR_RELAY_CHECK_FULL
                        : every < WR_RELAY_CHECK_RARE ? every
                                                      : WR_RELAY_CHECK_RARE;
    if (++h->fulls >= WR_RELAY_CHECK_FULLS)
        begin_to_end(h, "no room for circuits to us");
}

static void doubt(struct hold *h, int err, unsigned status)
{
    struct wr_relay_client *rc = h->client;
    if (!rc->options.on_doubt) {
        lose(h, err, status);
        return;
    }
    h->doubt = err;
    h->status = status;
    h->of.doubted = true;
    rc->options.on_doubt(rc->options.arg, &h->of.relay);
}

void wr_relay_client_give_up(struct wr_relay_client *rc, const struct wr_peerid *relay)
{
    struct hold *h = find(rc, relay);
    if (h && h->of.doubted)
        lose(h, h->doubt, h->status);
}

void wr_relay_client_checked(struct wr_relay_check *k, int err, unsigned status)
{
    struct hold *h = wr_list_entry(k, struct hold, check);
    struct wr_relay_client *rc = h->client;
    wr_time now = wr_env_now(rc->env);
    char text[WR_PEERID_TEXT];
    if (err == 0)
        proven(h);
    if (err == 0 || err == WR_ELIMIT)    /* out of memory says nothing of the relay */
        return;
    if (status == WR_RELAY_FULL) {
        no_room(h);
        return;
    }
    h->of.vain_at = k->asked_at;
    if (h->of.doubted)    /* until one succeeds */
        return;
    wr_log(wr_env_log(rc->env), WR_LOG_INFO, "relay", "no circuit to us relay=%s err=%s status=%u",
           wr_peerid_print(&h->of.relay, text), wr_err_name(err), status);
    if (++h->failed == 2) {
        doubt(h, err, status);
        return;
    }
    h->of.missed_at = now;
    if (rc->options.on_doubt)
        rc->options.on_doubt(rc->options.arg, &h->of.relay);
    /* It holds no place for us, and had not said so. */
    if (status == WR_RELAY_NOT_THERE && !wr_msg_open(&h->msg))
        wr_timer_start(rc->env, &h->timer, now, on_refresh);
    wr_timer_start(rc->env, &h->again, err == WR_ETIMEOUT ? now : now + WR_RELAY_CHECK_AGAIN, on_again);
}

/* ---- life --------------------------------------------------------------------------------------------------- */

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_relay_client *rc = wr_list_entry(watch, struct wr_relay_client, watch);
    struct hold *h = event->peer ? find(rc, event->peer) : NULL;
    /* It relays no more: its places are worth nothing, though it cannot say so. */
    if (event->type == WR_SWARM_PEER_CHANGED && h && h->listed && h->of.state == WR_RELAY_HELD &&
        wr_peerstore_speaks(wr_swarm_peerstore(rc->swarm), event->peer, WR_RELAY_HOP_NAME) == 0)
        lose(h, WR_EUNSUPPORTED, 0);
    struct hold *by = event->type == WR_SWARM_OPENED && event->conn->circuit && !event->conn->outbound
                          ? find(rc, &event->conn->circuit->relay)
                          : NULL;
    if (by)
        proven(by);
    if (event->type != WR_SWARM_CLOSED)
        return;
    if (h)    /* a check that failed just now may have gone over it */
        h->failed = 0;
    /* The place is gone with the last connection (go drops it; js does not, and will be asked again). */
    if (h && !wr_relay_client_conn(rc, event->peer))
        lose(h, event->err ? event->err : WR_ECLOSED, 0);
    /* One connection has taken another's place. The relay may have seen the old one go before the new one came: then
     * the place is gone as well, and the relay does not say so. */
    else if (h && event->conn && event->conn->id == h->over && !wr_msg_open(&h->msg))
        wr_timer_start(rc->env, &h->timer, wr_env_now(rc->env), on_refresh);
}

struct wr_relay_client *wr_relay_client_create(const struct wr_relay_client_options *options)
{
    struct wr_relay_client *rc = wr_alloc(sizeof(*rc));
    if (!rc)
        return NULL;
    rc->options = *options;
    rc->swarm = options->swarm;
    rc->env = wr_swarm_env(rc->swarm);
    wr_list_init(&rc->holds);
    wr_list_init(&rc->attempts);
    wr_list_init(&rc->stops);
    rc->watch.on_event = on_event;
    wr_swarm_watch(rc->swarm, &rc->watch);
    if (wr_relay_client_circuits_start(rc) == 0)
        return rc;
    wr_relay_client_destroy(rc);
    return NULL;
}

void wr_relay_client_destroy(struct wr_relay_client *rc)
{
    if (!rc)
        return;
    wr_swarm_unwatch(&rc->watch);
    wr_list_each(it, &rc->holds)
    {
        struct hold *h = wr_list_entry(it, struct hold, of.node);
        wr_relay_client_check_stop(&h->check);
    }
    wr_relay_client_circuits_end(rc);
    while (!wr_list_empty(&rc->holds))
        end_hold(wr_list_entry(rc->holds.next, struct hold, of.node));
    wr_free(rc);
}
