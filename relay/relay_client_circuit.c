/* Circuits through relays: those that we dial, and those that others bring to us. */
#include "relay/relay_client_impl.h"

#include <string.h>

/* ---- what both have in common ------------------------------------------------------------------------------- */

/* Where the relay is, as its connection has it. */
static bool describe(const struct wr_conn *carrier, const struct wr_relay_msg *m, struct wr_circuit *out)
{
    static const uint8_t circuit[] = {0xa2, 0x02};    /* /p2p-circuit */
    *out = (struct wr_circuit){.relay = carrier->peer,
                               .limited = m->has_limit,
                               .duration = (wr_time)m->limit.duration * WR_SEC,
                               .data = m->limit.data};
    wr_conn_remote(carrier, &out->addr);
    return wr_maddr_append_peer(&out->addr, &carrier->peer) == 0 &&
           wr_maddr_append(&out->addr, WR_BYTES(circuit, sizeof(circuit))) == 0;
}

/* The stream, and what came behind the message in hand. False: it is lost. */
static bool take_over(struct wr_msg *m, const struct wr_relay_msg *body, struct wr_stream **s,
                      struct wr_circuit *circuit, struct wr_buf *early)
{
    if (!describe(wr_stream_conn(m->stream), body, circuit)) {
        wr_msg_reset(m, WR_STREAM_OK);
        return false;
    }
    *s = wr_msg_release(m, early);
    return *s != NULL;
}

/* ---- dialling ------------------------------------------------------------------------------------------------- */

struct attempt {
    struct wr_list node;
    struct wr_relay_client *client;
    struct wr_peerid peer, relay;
    struct wr_connect *connect;    /* while there is no connection to the relay */
    struct wr_msg msg;             /* then */
    wr_circuit_done done;
    void *arg;
    wr_time since;
    int err;                       /* told at the end of the turn */
    struct wr_task task;           /* that; disposal */
};

static void dispose_attempt(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct attempt, task));
}

static void end_attempt(struct attempt *a)
{
    wr_connect_cancel(a->connect);
    a->connect = NULL;
    wr_msg_reset(&a->msg, WR_STREAM_OK);
    wr_list_remove(&a->node);
    a->client->attempt_count--;
    wr_task_cancel(&a->task);
    wr_env_dispose(a->client->env, &a->task, dispose_attempt);
}

static void fail(struct attempt *a, int err)
{
    a->client->stats.dial_failed++;
    end_attempt(a);
    a->done(a->arg, err, NULL, NULL, WR_BYTES_NONE);
}

/* The relay holds no place for the peer: whatever address of the peer leads through it is stale. */
static void forget_way(const struct attempt *a)
{
    struct wr_peerstore *ps = wr_swarm_peerstore(a->client->swarm);
    struct wr_maddr known[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(ps, &a->peer, known, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct wr_peerid relay;
        if (wr_maddr_relay(wr_maddr_bytes(&known[i]), &relay) && wr_peerid_equal(&relay, &a->relay))
            wr_peerstore_drop_addr(ps, &a->peer, wr_maddr_bytes(&known[i]));
    }
}

static void on_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct attempt *a = wr_list_entry(m, struct attempt, msg);
    struct wr_relay_client *rc = a->client;
    struct wr_relay_msg answer;
    struct wr_circuit circuit;
    struct wr_stream *s;
    int rc_err = wr_relay_msg_decode(WR_RELAY_HOP, body, &answer);
    if (rc_err == 0 && answer.type != WR_RELAY_STATUS)
        rc_err = WR_EPROTO;
    if (rc_err == 0 && answer.status != WR_RELAY_OK) {
        wr_relay_client_refused(rc, &a->relay, answer.status);
        rc_err = wr_relay_msg_err(answer.status);
        if (answer.status == WR_RELAY_NOT_THERE)
            forget_way(a);
    }
    if (rc_err != 0) {
        fail(a, rc_err);
        return;
    }
    struct wr_buf early;
    wr_buf_init(&early, WR_MSG_READ_AHEAD);
    if (take_over(m, &answer, &s, &circuit, &early)) {
        rc->stats.dialled++;
        end_attempt(a);
        a->done(a->arg, 0, s, &circuit, wr_buf_bytes(&early));
    } else {
        fail(a, WR_ELIMIT);
    }
    wr_buf_clear(&early);
}

static void on_answer_close(struct wr_msg *m, int err)
{
    fail(wr_list_entry(m, struct attempt, msg), err);
}

static const struct wr_msg_ops answer_ops = {.on_message = on_answer, .on_close = on_answer_close};

static void report_failure(struct wr_task *task)
{
    struct attempt *a = wr_list_entry(task, struct attempt, task);
    fail(a, a->err);
}

static void ask(struct attempt *a)
{
    struct wr_relay_client *rc = a->client;
    struct wr_relay_msg connect = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(&a->peer)};
    struct wr_stream *s = wr_relay_client_open(rc, &a->relay, &a->err);
    if (s) {
        wr_msg_start(&a->msg, rc->env, s, WR_RELAY_MSG_MAX, &answer_ops);
        a->err = wr_relay_client_send(&a->msg, WR_RELAY_HOP, &connect);
        wr_msg_deadline(&a->msg, wr_env_now(rc->env) + WR_RELAY_DIAL_TIMEOUT);
    }
    if (a->err != 0)
        wr_env_defer(rc->env, &a->task, report_failure);
}

static void on_relay(void *arg, int err, struct wr_conn *conn)
{
    struct attempt *a = arg;
    (void)conn;
    a->connect = NULL;
    if (a->err != 0)    /* it makes room, in this turn */
        return;
    if (err == 0)
        ask(a);
    else
        fail(a, err);
}

static struct attempt *twin_of(const struct wr_relay_client *rc, const struct wr_peerid *peer,
                               const struct wr_peerid *relay)
{
    for (const struct wr_list *it = rc->attempts.next; it != &rc->attempts; it = it->next) {
        struct attempt *a = (struct attempt *)((uintptr_t)it - offsetof(struct attempt, node));
        if (wr_peerid_equal(&a->peer, peer) && wr_peerid_equal(&a->relay, relay))
            return a;
    }
    return NULL;
}

/* As many as may be are being dialled: the oldest fails, if it had its time. Relays that never answer, named by whoever likes,
 * could keep us from all others. */
static bool make_room(struct wr_relay_client *rc)
{
    wr_time now = wr_env_now(rc->env);
    wr_list_each(it, &rc->attempts)
    {
        struct attempt *a = wr_list_entry(it, struct attempt, node);
        if (a->err != 0)    /* it goes anyway */
            continue;
        if (now - a->since < WR_RELAY_DIAL_FAIR)
            return false;
        a->err = WR_ETIMEOUT;
        wr_env_defer(rc->env, &a->task, report_failure);
        return true;
    }
    return false;
}

static void on_other_address(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
}

/* Begins to reach the relay. 0 or an error. */
static int reach_relay(struct attempt *a, const struct wr_maddr *at, enum wr_addr_origin origin)
{
    struct wr_relay_client *rc = a->client;
    unsigned flags = WR_CONNECT_DIRECT;
    if (wr_relay_client_conn(rc, &a->relay)) {
        ask(a);
        return 0;
    }
    /* A relay without an address is looked for only when the owner asks. */
    if (at->len == 0 && origin == WR_ORIGIN_OWNER)
        flags |= WR_CONNECT_ROUTE;
    return wr_swarm_connect(rc->swarm, &a->relay, at, at->len ? 1 : 0, origin, flags, on_relay, a, &a->connect);
}

static void *dial(void *arg, const struct wr_peerid *peer, struct wr_bytes addr, enum wr_addr_origin origin,
                  wr_circuit_done done, void *done_arg, int *err)
{
    struct wr_relay_client *rc = arg;
    struct wr_peerid relay;
    struct wr_maddr at = {.len = 0};
    *err = WR_EUNSUPPORTED;
    if (!wr_maddr_relay(addr, &relay) || wr_maddr_append(&at, wr_maddr_relay_addr(addr)) != 0)
        return NULL;
    const struct attempt *twin = twin_of(rc, peer, &relay);
    *err = WR_EINUSE;
    if (twin) {
        /* One question is enough; but this may be the address at which the relay answers. */
        if (twin->connect && at.len)
            (void)wr_swarm_connect(rc->swarm, &relay, &at, 1, origin, WR_CONNECT_DIRECT, on_other_address, NULL, NULL);
        return NULL;
    }
    struct attempt *a = rc->attempt_count < WR_RELAY_DIALS_MAX || make_room(rc) ? wr_alloc(sizeof(*a)) : NULL;
    *err = WR_ELIMIT;
    if (!a)
        return NULL;
    *a = (struct attempt){
        .client = rc, .peer = *peer, .relay = relay, .done = done, .arg = done_arg, .since = wr_env_now(rc->env)};
    wr_list_append(&rc->attempts, &a->node);
    rc->attempt_count++;
    *err = reach_relay(a, &at, origin);
    if (*err == 0)
        return a;
    end_attempt(a);
    return NULL;
}

static void cancel(void *arg, void *attempt)
{
    (void)arg;
    end_attempt(attempt);
}

/* ---- circuits to us ------------------------------------------------------------------------------------------- */

struct stop {
    struct wr_list node;
    struct wr_relay_client *client;
    struct wr_msg msg;
    struct wr_task task;    /* disposal */
};

static void dispose_stop(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct stop, task));
}

static void end_stop(struct stop *st)
{
    wr_list_remove(&st->node);
    wr_env_dispose(st->client->env, &st->task, dispose_stop);
}

static void refuse(struct stop *st, enum wr_relay_status status)
{
    struct wr_relay_msg answer = {.type = WR_RELAY_STATUS, .status = status};
    st->client->stats.rejected++;
    if (wr_relay_client_send(&st->msg, WR_RELAY_STOP, &answer) == 0)
        wr_msg_close(&st->msg);
    end_stop(st);
}

static void accept_circuit(struct stop *st, const struct wr_relay_msg *connect, const struct wr_peerid *peer)
{
    struct wr_relay_client *rc = st->client;
    struct wr_relay_msg answer = {.type = WR_RELAY_STATUS, .status = WR_RELAY_OK};
    struct wr_relay_hold *h = NULL;
    struct wr_circuit circuit;
    struct wr_stream *s;
    struct wr_buf early;
    const struct wr_peerid relay = wr_stream_conn(st->msg.stream)->peer;
    wr_list_each(it, &rc->holds)
    {
        struct wr_relay_hold *of = wr_list_entry(it, struct wr_relay_hold, node);
        if (wr_peerid_equal(&of->relay, &relay))
            h = of;
    }
    if (!h) {
        refuse(st, WR_RELAY_DENIED);
        return;
    }
    wr_buf_init(&early, WR_MSG_READ_AHEAD);
    if (wr_relay_client_send(&st->msg, WR_RELAY_STOP, &answer) == 0 &&
        take_over(&st->msg, connect, &s, &circuit, &early)) {
        h->circuits++;
        rc->stats.accepted++;
        wr_swarm_accept_circuit(rc->swarm, peer, &circuit, s, wr_buf_bytes(&early));
    }
    wr_buf_clear(&early);
    end_stop(st);
}

/* The circuit to ourselves that we asked this relay for; nobody else may come as us. */
static void come_back(struct stop *st)
{
    struct wr_relay_msg answer = {.type = WR_RELAY_STATUS, .status = WR_RELAY_OK};
    const struct wr_peerid relay = wr_stream_conn(st->msg.stream)->peer;
    struct wr_relay_check *k = wr_relay_client_check_of(st->client, &relay);
    struct wr_stream *s;
    struct wr_buf early;
    if (!k || !wr_msg_open(&k->hop) || k->back) {
        refuse(st, WR_RELAY_DENIED);
        return;
    }
    wr_buf_init(&early, WR_MSG_READ_AHEAD);
    if (wr_relay_client_send(&st->msg, WR_RELAY_STOP, &answer) == 0 && (s = wr_msg_release(&st->msg, &early)))
        wr_relay_client_check_back(k, s, wr_buf_bytes(&early));
    wr_buf_clear(&early);
    end_stop(st);
}

static void on_stop_message(struct wr_msg *m, struct wr_bytes body)
{
    struct stop *st = wr_list_entry(m, struct stop, msg);
    struct wr_relay_msg connect;
    struct wr_peerid peer;
    int rc = wr_relay_msg_decode(WR_RELAY_STOP, body, &connect);
    if (rc == 0 && connect.type != WR_RELAY_CONNECT)
        refuse(st, WR_RELAY_UNEXPECTED);
    else if (rc != 0 || wr_peerid_decode(connect.peer, &peer) != 0)
        refuse(st, WR_RELAY_MALFORMED);
    else if (wr_peerid_equal(&peer, wr_swarm_self(st->client->swarm)))
        come_back(st);
    else
        accept_circuit(st, &connect, &peer);
}

static void on_stop_close(struct wr_msg *m, int err)
{
    (void)err;
    end_stop(wr_list_entry(m, struct stop, msg));
}

static const struct wr_msg_ops stop_ops = {.on_message = on_stop_message, .on_close = on_stop_close};

static void on_stop(struct wr_stream *s, void *arg)
{
    struct wr_relay_client *rc = arg;
    /* A circuit inside a circuit is nothing that the protocol has. */
    struct stop *st = wr_stream_conn(s)->circuit ? NULL : wr_alloc(sizeof(*st));
    if (!st) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    st->client = rc;
    wr_list_append(&rc->stops, &st->node);
    wr_msg_start(&st->msg, rc->env, s, WR_RELAY_MSG_MAX, &stop_ops);
    wr_msg_deadline(&st->msg, wr_env_now(rc->env) + WR_RELAY_STOP_TIMEOUT);
}

/* ---- life --------------------------------------------------------------------------------------------------- */

int wr_relay_client_circuits_start(struct wr_relay_client *rc)
{
    struct wr_circuits circuits = {.dial = dial, .cancel = cancel, .arg = rc};
    struct wr_protocol p = {
        .name = WR_RELAY_STOP_NAME, .on_stream = on_stop, .arg = rc, .inbound_max = WR_RELAY_STOPS_MAX};
    int err = wr_swarm_handle(rc->swarm, &p);
    if (err == 0)
        wr_swarm_set_circuits(rc->swarm, &circuits);
    return err;
}

void wr_relay_client_circuits_end(struct wr_relay_client *rc)
{
    wr_swarm_set_circuits(rc->swarm, NULL);
    while (!wr_list_empty(&rc->stops)) {
        struct stop *st = wr_list_entry(rc->stops.next, struct stop, node);
        wr_msg_reset(&st->msg, WR_STREAM_OK);
        end_stop(st);
    }
    /* Resets the circuits that came this way, too: their streams answer this protocol. */
    wr_swarm_unhandle(rc->swarm, WR_RELAY_STOP_NAME);
    while (!wr_list_empty(&rc->attempts))
        end_attempt(wr_list_entry(rc->attempts.next, struct attempt, node));
}
