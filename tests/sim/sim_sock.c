/* Streams as env.h has them: TCP between machines, and local sockets within one.
 *
 *     dialer                     listener
 *       | SYN  ------------------>  |  end made, OPENING      SYN to a dialer: simultaneous open
 *  OPEN | <------------------SYNACK |
 *       | ACK  ------------------>  |  OPEN, on_accept        first data does as well as the ACK
 */
#include "tests/sim/sim_stream.h"

#include <string.h>

#define DIAL_TIMEOUT (30 * WR_SEC)    /* ours: nobody's patience lasts as long as a kernel's 130 s */
#define OPENING_TIMEOUT (30 * WR_SEC)
#define STARVED_RETRY WR_SEC    /* as env_uv_listen.c */
#define BACKLOG_MAX 1024              /* connections waiting for accept, per listener */
#define BATCH ((size_t)128 * 1024)    /* bytes; as on a fast path in env_uv_net.c */

enum { NOTE_SYN = 16, NOTE_OPEN, NOTE_ACCEPT, NOTE_CLOSE };

/* ---- ends ------------------------------------------------------------------------------------------------ */

static struct wr_bytes sock_key(uint8_t key[static 48], uint16_t port, const struct wr_addr *remote)
{
    memset(key, 0, 48);
    memcpy(key, &port, sizeof(port));
    memcpy(key + 2, &remote->port, sizeof(remote->port));
    key[4] = remote->ip.family;
    memcpy(key + 5, remote->ip.bytes, sizeof(remote->ip.bytes));
    return WR_BYTES(key, 48);
}

static struct wr_sock *sock_find(const struct sim_host *host, uint16_t port,
                                 const struct wr_addr *remote)
{
    uint8_t key[48];
    return wr_map_get(&host->socks_by, sock_key(key, port, remote));
}

static bool sock_register(struct wr_sock *s)
{
    wr_list_init(&s->node);
    wr_list_append(&s->host->socks, &s->node);
    s->listed = true;
    if (!s->local.ip.family)
        return true;    /* local sockets are not looked for */
    if (wr_map_put(&s->host->socks_by, sock_key(s->key, s->local.port, &s->remote), s) == 0)
        return true;
    wr_list_remove(&s->node);
    s->listed = false;
    return false;
}

static void sock_unregister(struct wr_sock *s)
{
    if (!s->listed)
        return;
    s->listed = false;
    wr_list_remove(&s->node);
    if (s->local.ip.family)
        wr_map_del(&s->host->socks_by, WR_BYTES(s->key, sizeof(s->key)));
}

static bool descriptor_take(struct sim_host *host, bool *counted)
{
    if (host->descriptors_max && host->descriptors >= host->descriptors_max)
        return false;
    host->descriptors++;
    *counted = true;
    return true;
}

static void descriptor_give(struct sim_host *host, bool *counted)
{
    if (!*counted)
        return;
    *counted = false;
    host->descriptors--;
    sim_streams_retry(host);
}

/* Off the network and out of the machine's tables; what is under way stays so. */
static void sock_detach(struct wr_sock *s)
{
    sock_unregister(s);
    sim_event_stop(s->host->sim, &s->poke);
    sim_event_stop(s->host->sim, &s->retry);
    sim_queue_clear(&s->kept);
    s->backlog = 0;
    if (s->listener) {
        wr_list_remove(&s->waiting);
        s->listener->waiting_count--;
        s->listener = NULL;
    }
    s->state = ENDED;
    struct sim_conn *conn = s->conn;
    if (!conn)
        return;
    s->conn = NULL;
    conn->end[s->side] = NULL;
    sim_conn_unref(conn);
}

static void sock_release(struct sim_dead *dead)
{
    wr_free(dead);
}

static void sock_over(struct wr_sock *s)
{
    sock_detach(s);
    descriptor_give(s->host, &s->counted);
    sim_bury(s->host, &s->dead, sock_release);
}

/* The end that the network brings. Not within a turn. */
void sim_sock_end(struct wr_sock *s, int err)
{
    struct sim_host *host = s->host;
    sim_note(host->sim, NOTE_CLOSE, host, (uint64_t)(unsigned)-err);
    const struct wr_sock_ops *ops = s->ops;
    void *arg = s->arg;
    sock_over(s);
    if (!ops)
        return;    /* nobody accepted it yet */
    sim_begin(host);
    ops->on_close(arg, err);
    sim_end(host);
}

static struct wr_sock *sock_create(struct sim_host *host, struct sim_conn *conn, unsigned side)
{
    struct wr_sock *s = wr_alloc(sizeof(*s));
    if (!s)
        return NULL;
    s->host = host;
    s->conn = sim_conn_ref(conn);
    s->side = side;
    s->poke.host = s->retry.host = host;
    wr_list_init(&s->node);
    wr_list_init(&s->waiting);
    conn->end[side] = s;
    conn->host[side] = host;
    return s;
}

static void on_poke(struct sim_event *event)
{
    struct wr_sock *s = wr_list_entry(event, struct wr_sock, poke);
    if (s->state != OPEN)
        return;
    if (s->drained_due && !s->backlog) {
        struct sim_host *host = s->host;
        s->drained_due = false;
        sim_sock_poke(s);
        sim_begin(host);
        s->ops->on_drain(s->arg);
        sim_end(host);
        return;
    }
    if (s->ended && s->fin_sent)
        sim_sock_end(s, WR_ECLOSED);
    else
        sim_conn_read(s);
}

void sim_sock_poke(struct wr_sock *s)
{
    sim_event_at(s->host->sim, &s->poke, s->host->sim->now, on_poke);
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static void opened(struct wr_sock *s)
{
    struct sim_host *host = s->host;
    sim_note(host->sim, NOTE_OPEN, host, s->local.port);
    sim_event_stop(host->sim, &s->retry);
    s->state = OPEN;
    s->drained_due = s->backlog > 0;
    sim_conn_submit_kept(s, false);
    sim_sock_poke(s);
    sim_begin(host);
    s->ops->on_open(s->arg);
    sim_end(host);
}

static void starve(struct wr_listener *l);

/* Hands waiting connections to the listener's owner, as long as there are descriptors. */
static void accept_waiting(struct wr_listener *l)
{
    struct sim_host *host = l->host;
    while (!l->closed && !wr_list_empty(&l->waiting)) {
        struct wr_sock *s = wr_list_entry(l->waiting.next, struct wr_sock, waiting);
        if (!descriptor_take(host, &s->counted)) {
            starve(l);
            return;
        }
        wr_list_remove(&s->waiting);
        l->waiting_count--;
        s->listener = NULL;
        sim_note(host->sim, NOTE_ACCEPT, host, s->remote.port);
        sim_sock_poke(s);
        sim_begin(host);
        l->ops->on_accept(l->arg, s);
        sim_end(host);
        assert(s->ops || s->state == ENDED);
    }
    l->starved = false;
}

static void on_listener_retry(struct sim_event *event)
{
    accept_waiting(wr_list_entry(event, struct wr_listener, retry));
}

static void starve(struct wr_listener *l)
{
    struct sim_host *host = l->host;
    sim_event_at(host->sim, &l->retry, host->sim->now + STARVED_RETRY, on_listener_retry);
    if (l->starved)
        return;
    l->starved = true;
    sim_begin(host);
    l->ops->on_starved(l->arg, WR_ENOFD);
    sim_end(host);
}

void sim_streams_retry(struct sim_host *host)
{
    wr_list_each(node, &host->listeners) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        if (sim_event_pending(&l->retry))
            sim_event_at(host->sim, &l->retry, host->sim->now, on_listener_retry);
    }
}

/* The ACK came, or bytes that say as much. */
void sim_sock_established(struct wr_sock *s)
{
    if (s->state == DIALING) {    /* a simultaneous open */
        opened(s);
        return;
    }
    if (s->state != OPENING)
        return;
    struct wr_listener *l = s->listener;
    sim_event_stop(s->host->sim, &s->retry);
    s->state = OPEN;
    wr_list_append(&l->waiting, &s->waiting);
    if (!l->starved || !sim_event_pending(&l->retry))
        accept_waiting(l);
}

static struct wr_listener *listener_find(const struct sim_host *host, const struct wr_addr *at)
{
    static const uint8_t any[16];
    wr_list_each(node, &host->listeners) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        if (l->path || l->at.port != at->port || l->at.ip.family != at->ip.family)
            continue;
        if (memcmp(l->at.ip.bytes, any, 16) == 0 || wr_ip_equal(&l->at.ip, &at->ip))
            return l;
    }
    return NULL;
}

static void on_opening_over(struct sim_event *event)
{
    struct wr_sock *s = wr_list_entry(event, struct wr_sock, retry);
    sock_over(s);
}

static bool listener_full(const struct wr_listener *l)
{
    return l->waiting_count >= BACKLOG_MAX;
}

static void answer(struct wr_listener *l, struct sim_conn *conn, unsigned side,
                   const struct wr_addr *local, const struct wr_addr *remote)
{
    struct sim_host *host = l->host;
    struct wr_sock *s = listener_full(l) ? NULL : sock_create(host, conn, side);
    if (!s)
        return;    /* the dialer tries again */
    s->state = OPENING;
    s->local = *local;
    s->remote = *remote;
    conn->from[side] = *local;
    conn->to[side] = *remote;
    if (!sock_register(s)) {
        sock_over(s);
        return;
    }
    s->listener = l;
    l->waiting_count++;
    sim_event_at(host->sim, &s->retry, host->sim->now + OPENING_TIMEOUT, on_opening_over);
    sim_conn_send(conn, side, SIM_SYNACK);
}

/* Two dials met. The connection of the SYN takes the other's place. */
static void merge(struct wr_sock *s, struct sim_conn *conn, unsigned side)
{
    struct sim_conn *old = s->conn;
    conn->from[side] = old->from[s->side];
    conn->to[side] = old->to[s->side];
    old->merged = sim_conn_ref(conn);
    old->end[s->side] = NULL;
    s->conn = sim_conn_ref(conn);
    s->side = side;
    conn->end[side] = s;
    conn->host[side] = s->host;
    sim_conn_unref(old);
}

static void refuse(struct sim_conn *conn, unsigned side, struct sim_host *host,
                   const struct sim_head *head)
{
    conn->host[side] = host;
    conn->from[side] = head->to;
    conn->to[side] = head->from;
    sim_conn_send(conn, side, SIM_RST);
}

static void on_syn(struct sim_host *host, const struct sim_packet *packet, struct sim_conn *conn,
                   unsigned side)
{
    sim_note(host->sim, NOTE_SYN, host, packet->head.to.port);
    if (!conn->end[!side])
        return;    /* the dialer is gone already */
    struct wr_sock *s = sock_find(host, packet->head.to.port, &packet->head.from);
    if (s && s == conn->end[!side]) {
        sim_sock_end(s, WR_ESELF);
        return;
    }
    if (s && s->state == DIALING && !conn->end[side] && s->conn != conn)
        merge(s, conn, side);
    if (s && s->conn == conn) {
        sim_conn_send(conn, side, SIM_SYNACK);
        return;
    }
    if (s) {    /* the peer forgot it, and uses its port anew */
        sim_sock_end(s, WR_ERESET);
        return;    /* its next SYN finds the way free */
    }
    struct wr_listener *l = listener_find(host, &packet->head.to);
    if (l)
        answer(l, conn, side, &packet->head.to, &packet->head.from);
    else
        refuse(conn, side, host, &packet->head);
}

void sim_conn_deliver(struct sim_packet *packet, struct sim_host *host)
{
    struct sim_conn *conn = packet->conn;
    unsigned side = !packet->side;
    /* After a merge the dialers have sides in one connection, each its own. */
    if (conn->merged) {
        conn = conn->merged;
        side = host == conn->host[0] ? 0 : 1;
    }
    sim_conn_ref(conn);
    struct wr_sock *s = conn->end[side];
    if (host && packet->head.kind == SIM_SYN && !conn->local) {
        on_syn(host, packet, conn, side);
    } else if (host && packet->head.kind == SIM_SYN) {
        if (s)
            sim_conn_send(conn, side, SIM_SYNACK);
    } else if (host && packet->head.kind == SIM_SYNACK) {
        if (!s) {
            sim_conn_send(conn, side, SIM_RST);
        } else if (s->state == DIALING) {
            sim_conn_send(conn, side, SIM_ACK);
            opened(s);
        }
    } else if (host && packet->head.kind == SIM_ACK) {
        if (s)
            sim_sock_established(s);
    } else if (host && packet->head.kind == SIM_RST && s) {
        sim_conn_clear(conn, side);
        sim_sock_end(s, s->state == DIALING ? WR_EREFUSED : WR_ERESET);
    }
    sim_conn_unref(conn);
    sim_conn_unref(packet->conn);
    wr_free(packet);
}

/* ---- dialing ----------------------------------------------------------------------------------------------------------- */

static void on_dial_retry(struct sim_event *event)
{
    struct wr_sock *s = wr_list_entry(event, struct wr_sock, retry);
    struct sim *sim = s->host->sim;
    if (sim->now >= s->give_up_at) {
        sim_sock_end(s, WR_ETIMEOUT);
        return;
    }
    sim_conn_send(s->conn, s->side, SIM_SYN);
    s->retry_after *= 2;
    wr_time at = sim->now + s->retry_after;
    sim_event_at(sim, &s->retry, at < s->give_up_at ? at : s->give_up_at, on_dial_retry);
}

static bool port_free(struct sim_host *host, uint16_t port, const struct wr_addr *to)
{
    wr_list_each(node, &host->listeners) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        if (!l->path && l->at.port == port)
            return false;
    }
    return !sock_find(host, port, to);
}

static uint16_t ephemeral(struct sim_host *host, const struct wr_addr *to)
{
    for (unsigned tries = 0; tries < 28000; tries++) {
        uint16_t port = host->next_port;
        host->next_port = port < 60999 ? (uint16_t)(port + 1) : 32768;
        if (port_free(host, port, to))
            return port;
    }
    return 0;
}

static bool can_leave_from(const struct sim_host *host, const struct wr_addr *from,
                           const struct wr_addr *to)
{
    static const uint8_t any[16];
    if (!from || !from->port || from->ip.family != to->ip.family)
        return false;
    bool wildcard = memcmp(from->ip.bytes, any, 16) == 0;
    if (!wildcard && (!sim_ip_is_ours(host, &from->ip) ||
                      (sim_is_loopback(&from->ip) && !sim_is_loopback(&to->ip))))
        return false;
    return !sock_find(host, from->port, to);
}

/* A dialing end on a connection of its own, not yet sent. */
static int dialer(struct sim_host *host, const struct wr_sock_ops *ops, void *arg, struct wr_sock **out)
{
    if (host->descriptors_max && host->descriptors >= host->descriptors_max)
        return WR_ENOFD;
    struct sim_conn *conn = sim_conn_create(host->sim);
    struct wr_sock *s = conn ? sock_create(host, conn, 0) : NULL;
    if (!s) {
        if (conn)
            sim_conn_free(conn);
        return WR_ELIMIT;
    }
    descriptor_take(host, &s->counted);
    s->ops = ops;
    s->arg = arg;
    s->state = DIALING;
    s->retry_after = SYN_RETRY;
    s->give_up_at = host->sim->now + DIAL_TIMEOUT;
    *out = s;
    return 0;
}

int wr_env_connect(struct wr_env *env, const struct wr_addr *to, const struct wr_addr *from,
                   const struct wr_sock_ops *ops, void *arg, struct wr_sock **out)
{
    struct sim_host *host = sim_host_from(env);
    struct wr_addr local = {0};
    if (!host->up || !sim_source_ip(host, &to->ip, &local.ip))
        return WR_EUNREACH;
    bool reused = can_leave_from(host, from, to);
    local.port = reused ? from->port : ephemeral(host, to);
    if (!local.port)
        return WR_ELIMIT;
    int err = dialer(host, ops, arg, out);
    if (err)
        return err;
    struct wr_sock *s = *out;
    s->local = s->conn->from[0] = local;
    s->remote = s->conn->to[0] = *to;
    s->reused = reused;
    if (!sock_register(s)) {
        sock_over(s);
        return WR_ELIMIT;
    }
    host->traffic.connects++;
    sim_event_at(host->sim, &s->retry, host->sim->now + s->retry_after, on_dial_retry);
    sim_conn_send(s->conn, 0, SIM_SYN);
    return 0;
}

int wr_env_connect_local(struct wr_env *env, const char *path, const struct wr_sock_ops *ops, void *arg,
                         struct wr_sock **out)
{
    struct sim_host *host = sim_host_from(env);
    struct wr_listener *l = NULL;
    wr_list_each(node, &host->listeners) {
        struct wr_listener *other = wr_list_entry(node, struct wr_listener, node);
        if (other->path && strcmp(other->path, path) == 0)
            l = other;
    }
    if (!l)
        return WR_EREFUSED;
    if (listener_full(l))
        return WR_ELIMIT;
    int err = dialer(host, ops, arg, out);
    if (err)
        return err;
    struct wr_sock *s = *out, *other = sock_create(host, s->conn, 1);
    if (!other) {
        sock_over(s);
        return WR_ELIMIT;
    }
    s->conn->local = true;
    other->state = OPENING;
    other->listener = l;
    l->waiting_count++;
    sock_register(s);
    sock_register(other);
    sim_conn_send(s->conn, 0, SIM_SYN);
    return 0;
}

int wr_env_socketpair(struct wr_env *env, const struct wr_sock_ops *ops, void *arg,
                      struct wr_sock **out, int *fd)
{
    (void)env, (void)ops, (void)arg, (void)out, (void)fd;
    return WR_EUNSUPPORTED;
}

/* ---- listening ----------------------------------------------------------------------------------------------------------- */

static int listener_create(struct sim_host *host, const struct wr_listener_ops *ops, void *arg,
                           struct wr_listener **out)
{
    if (host->descriptors_max && host->descriptors >= host->descriptors_max)
        return WR_ENOFD;
    struct wr_listener *l = wr_alloc(sizeof(*l));
    if (!l)
        return WR_ELIMIT;
    l->host = host;
    l->ops = ops;
    l->arg = arg;
    l->retry.host = host;
    wr_list_init(&l->waiting);
    wr_list_init(&l->node);
    wr_list_append(&host->listeners, &l->node);
    descriptor_take(host, &l->counted);
    *out = l;
    return 0;
}

static bool overlaps(const struct wr_ip *a, const struct wr_ip *b)
{
    static const uint8_t any[16];
    return a->family == b->family && (memcmp(a->bytes, any, 16) == 0 || memcmp(b->bytes, any, 16) == 0 ||
                                      wr_ip_equal(a, b));
}

static bool listened_on(const struct sim_host *host, const struct wr_addr *at)
{
    wr_list_each(node, &host->listeners) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        if (!l->path && l->at.port == at->port && overlaps(&l->at.ip, &at->ip))
            return true;
    }
    return false;
}

int wr_env_listen(struct wr_env *env, const struct wr_addr *at, const struct wr_listener_ops *ops,
                  void *arg, struct wr_listener **out)
{
    static const uint8_t any[16];
    struct sim_host *host = sim_host_from(env);
    struct wr_addr bound = *at;
    if (memcmp(at->ip.bytes, any, 16) != 0 && !sim_ip_is_ours(host, &at->ip))
        return WR_EINVAL;
    while (bound.port == 0 || (at->port == 0 && listened_on(host, &bound))) {
        bound.port = host->next_port;
        host->next_port = bound.port < 60999 ? (uint16_t)(bound.port + 1) : 32768;
    }
    if (listened_on(host, &bound))
        return WR_EINUSE;
    int err = listener_create(host, ops, arg, out);
    if (!err)
        (*out)->at = bound;
    return err;
}

int wr_env_listen_local(struct wr_env *env, const char *path, const struct wr_listener_ops *ops,
                        void *arg, struct wr_listener **out)
{
    struct sim_host *host = sim_host_from(env);
    wr_list_each(node, &host->listeners) {
        struct wr_listener *l = wr_list_entry(node, struct wr_listener, node);
        if (l->path && strcmp(l->path, path) == 0)
            return WR_EINUSE;
    }
    char *copy = wr_strdup(path);
    if (!copy)
        return WR_ELIMIT;
    int err = listener_create(host, ops, arg, out);
    if (err)
        wr_free(copy);
    else
        (*out)->path = copy;
    return err;
}

void wr_listener_addr(const struct wr_listener *l, struct wr_addr *out)
{
    *out = l->at;
}

static void listener_release(struct sim_dead *dead)
{
    struct wr_listener *l = (struct wr_listener *)(void *)dead;
    wr_free(l->path);
    wr_free(l);
}

/* Ends of this listener that nobody accepted: their dialers get a reset. */
static void listener_drop(struct wr_listener *l, bool silently)
{
    struct sim_host *host = l->host;
    wr_list_each(node, &host->socks) {
        struct wr_sock *s = wr_list_entry(node, struct wr_sock, node);
        if (s->listener != l)
            continue;
        if (!silently)
            sim_conn_send(s->conn, s->side, SIM_RST);
        sock_over(s);
    }
    sim_event_stop(host->sim, &l->retry);
    wr_list_remove(&l->node);
    l->closed = true;
}

void wr_listener_close(struct wr_listener *l)
{
    struct sim_host *host = l->host;
    if (!l->closed)
        listener_drop(l, false);
    descriptor_give(host, &l->counted);
    sim_bury(host, &l->dead, listener_release);
}

/* ---- ends, as their owners see them ----------------------------------------------------------------------------------------- */

void wr_sock_attach(struct wr_sock *s, const struct wr_sock_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

static struct piece *piece_create(const uint8_t *data, size_t len)
{
    struct piece *piece = wr_alloc(sizeof(*piece) + len);
    if (!piece)
        return NULL;
    piece->len = len;
    memcpy(piece->data, data, len);
    return piece;
}

int wr_sock_write(struct wr_sock *s, const uint8_t *data, size_t len)
{
    assert(!s->shut);
    if (!s->conn)
        return 0;    /* cut off */
    size_t chunk = s->host->sim->o.chunk_max;
    s->host->traffic.stream_writes++;
    while (len) {
        size_t part = len < chunk ? len : chunk;
        struct piece *piece = piece_create(data, part);
        if (!piece)
            return WR_ELIMIT;
        sim_queue_put(&s->kept, piece);
        s->backlog += part;
        data += part;
        len -= part;
    }
    if (s->state == OPEN)
        sim_conn_submit_kept(s, false);
    return 0;
}

int wr_sock_write_fd(struct wr_sock *s, const uint8_t *data, size_t len, int fd)
{
    (void)s, (void)data, (void)len, (void)fd;
    return WR_EUNSUPPORTED;
}

size_t wr_sock_batch(const struct wr_sock *s)
{
    (void)s;
    return BATCH;
}

size_t wr_sock_backlog(const struct wr_sock *s)
{
    return s->backlog;
}

void wr_sock_pause(struct wr_sock *s, bool paused)
{
    s->paused = paused;
    if (!paused && s->conn)
        sim_sock_poke(s);
}

void wr_sock_shut(struct wr_sock *s)
{
    s->shut = true;
    if (s->state != OPEN)
        return;
    sim_conn_finish(s);
}

void wr_sock_local(const struct wr_sock *s, struct wr_addr *out)
{
    *out = s->local;
}

void wr_sock_remote(const struct wr_sock *s, struct wr_addr *out)
{
    *out = s->remote;
}

bool wr_sock_reused(const struct wr_sock *s)
{
    return s->reused;
}

wr_time wr_sock_rtt(const struct wr_sock *s)
{
    return s->state == OPEN && !s->conn->local ? 2 * sim_conn_latency(s->conn, !s->side) : 0;
}

void wr_sock_stats(const struct wr_sock *s, struct wr_sock_stats *out)
{
    *out = (struct wr_sock_stats){.rtt = wr_sock_rtt(s)};
}

void wr_sock_close(struct wr_sock *s, bool reset)
{
    assert(!s->dead.release && "closed already");
    struct sim_conn *conn = s->conn;
    if (conn && s->state == OPEN && reset) {
        sim_conn_clear(conn, !s->side);
        sim_conn_send(conn, s->side, SIM_RST);
    } else if (conn && s->state == OPEN) {
        sim_conn_submit_kept(s, true);
        sim_conn_finish(s);
        if (!s->fin_sent)
            sim_conn_send(conn, s->side, SIM_RST);
    }
    if (conn)
        sim_conn_ref(conn);
    sock_over(s);
    if (conn) {
        struct direction *unread = &conn->dir[s->side];
        sim_queue_clear(&unread->unread);
        sim_conn_unref(conn);
    }
}

/* ---- faults -------------------------------------------------------------------------------------------------------------------- */

/* The network forgets what this machine had open. Owners keep their objects until they close them. */
void sim_streams_cut(struct sim_host *host, bool listeners_too)
{
    for (struct wr_list *node; (node = wr_list_pop(&host->socks));) {
        struct wr_sock *s = wr_list_entry(node, struct wr_sock, node);
        bool owned = s->ops != NULL;
        s->counted = false;
        sock_detach(s);
        if (!owned)
            sim_bury(host, &s->dead, sock_release);
    }
    if (!listeners_too)
        return;
    while (!wr_list_empty(&host->listeners)) {
        struct wr_listener *l = wr_list_entry(host->listeners.next, struct wr_listener, node);
        listener_drop(l, true);
        l->counted = false;
    }
}
