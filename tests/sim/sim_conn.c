/* Connections: what is on its way between two ends.
 *
 * A connection outlives its ends: what was written before a close is still on its way then. For each
 * direction it holds what is in the network, in the order sent, and what arrived and is not read yet.
 * The first piece in the network is an event; when the way is shut it is tried again, later and later,
 * as TCP does. */
#include "tests/sim/sim_stream.h"

#include <string.h>

#define RESEND_MIN (200 * WR_MSEC)    /* Linux */
#define RESEND_MAX (60 * WR_SEC)

enum { NOTE_READ = 24, NOTE_DRAIN };

static void pump_start(struct sim_conn *conn, unsigned side);

/* ---- pieces ----------------------------------------------------------------------------------------- */

void sim_queue_put(struct queue *q, struct piece *piece)
{
    piece->next = NULL;
    if (q->last)
        q->last->next = piece;
    else
        q->first = piece;
    q->last = piece;
}

struct piece *sim_queue_take(struct queue *q)
{
    struct piece *piece = q->first;
    if (piece) {
        q->first = piece->next;
        if (!q->first)
            q->last = NULL;
    }
    return piece;
}

void sim_queue_clear(struct queue *q)
{
    for (struct piece *piece; (piece = sim_queue_take(q));)
        wr_free(piece);
}

/* ---- connections: counted ------------------------------------------------------------------------------ */

struct sim_conn *sim_conn_create(struct sim *sim)
{
    struct sim_conn *conn = wr_alloc(sizeof(*conn));
    if (!conn)
        return NULL;
    conn->sim = sim;
    wr_list_init(&conn->node);
    wr_list_append(&sim->conns, &conn->node);
    return conn;
}

void sim_conn_free(struct sim_conn *conn)
{
    for (unsigned i = 0; i < 2; i++) {
        sim_queue_clear(&conn->dir[i].network);
        sim_queue_clear(&conn->dir[i].unread);
        sim_queue_clear(&conn->dir[i].acks);
    }
    wr_list_remove(&conn->node);
    wr_free(conn);
}

void sim_conn_unref(struct sim_conn *conn)
{
    while (conn && --conn->refs == 0) {
        struct sim_conn *merged = conn->merged;
        sim_conn_free(conn);
        conn = merged;
    }
}

struct sim_conn *sim_conn_ref(struct sim_conn *conn)
{
    conn->refs++;
    return conn;
}

static void stop_counted(struct sim_conn *conn, struct sim_event *event)
{
    if (!sim_event_pending(event))
        return;
    sim_event_stop(conn->sim, event);
    sim_conn_unref(conn);
}

/* Nothing more arrives at this side. The caller holds a reference. */
void sim_conn_clear(struct sim_conn *conn, unsigned side)
{
    struct direction *d = &conn->dir[side];
    sim_queue_clear(&d->network);
    sim_queue_clear(&d->unread);
    stop_counted(conn, &d->pump);
    stop_counted(conn, &d->ack);
    sim_queue_clear(&d->acks);
    d->unacked = 0;
}

void sim_streams_clear(struct sim *sim)
{
    wr_list_each(node, &sim->conns)
        sim_conn_free(wr_list_entry(node, struct sim_conn, node));
}

/* ---- packets without data ----------------------------------------------------------------------------------- */

static void packet_drop(struct sim_event *event)
{
    wr_free(event);    /* the connections are freed together, sim_streams_clear */
}

static struct sim_packet *make(struct sim_conn *conn, unsigned side, enum sim_packet_kind kind,
                               struct sim_host *source)
{
    struct sim_packet *packet = wr_alloc(sizeof(*packet));
    if (!packet)
        return NULL;    /* as good as lost */
    packet->sim = conn->sim;
    packet->source = source;
    packet->event.drop = packet_drop;
    packet->deliver = sim_conn_deliver;
    packet->conn = sim_conn_ref(conn);
    packet->side = side;
    packet->head = (struct sim_head){
        .kind = kind, .from = conn->from[side], .to = conn->to[side], .len = 40};
    return packet;
}

struct sim_packet *sim_conn_make_reset(const struct sim_packet *packet)
{
    return packet->conn ? make(packet->conn, !packet->side, SIM_RST, packet->source) : NULL;
}

void sim_conn_send(struct sim_conn *conn, unsigned side, enum sim_packet_kind kind)
{
    struct sim_packet *packet = make(conn, side, kind, conn->host[side]);
    if (!packet)
        return;
    if (conn->local)
        packet->head.to.ip = (struct wr_ip){4, {127, 0, 0, 1}};
    wr_time late = sim_lost(conn->sim) ? kind == SIM_SYN ? SYN_RETRY : RESEND_MIN : 0;
    sim_packet_send(packet, late);
}

/* ---- the way there --------------------------------------------------------------------------------------------- */

/* Whether bytes of the other end reach this side now. */
static bool passes(struct sim_conn *conn, unsigned side)
{
    struct sim_host *from = conn->host[!side], *to = conn->host[side];
    struct sim_node *next;
    struct sim_head head = {.kind = SIM_DATA, .from = conn->from[!side], .to = conn->to[!side]};
    if (conn->local)
        return to->up;
    if (!from->gateway && !to->gateway && wr_ip_classify(&head.to.ip) == WR_IP_PUBLIC)
        return to->up && to->side == from->side && sim_ip_is_ours(from, &head.from.ip) &&
               sim_ip_is_ours(to, &head.to.ip);    /* what follows comes to the same, slower */
    wr_time latency = sim_leave(from, &head, &next);
    return latency >= 0 && sim_enter(from, &head, next) == to;
}

wr_time sim_conn_latency(struct sim_conn *conn, unsigned side)
{
    struct sim_node *next;
    struct sim_head head = {.kind = SIM_DATA, .from = conn->from[!side], .to = conn->to[!side]};
    if (conn->local)
        return SIM_LOOPBACK;
    if (conn->latency)
        return conn->latency;
    wr_time latency = sim_leave(conn->host[!side], &head, &next);
    if (latency > 0)
        conn->latency = latency;
    return latency > 0 ? latency : RESEND_MIN;
}

/* The sender gives up: nothing was acknowledged for too long. */
static void give_up(struct sim_conn *conn, unsigned side)
{
    struct wr_sock *sender = conn->end[!side];
    sim_conn_clear(conn, side);
    if (sender)
        sim_sock_end(sender, WR_ETIMEOUT);
}

static void on_pump(struct sim_event *event, unsigned side)
{
    struct sim_conn *conn = wr_list_entry(event, struct sim_conn, dir[side].pump);
    struct direction *d = &conn->dir[side];
    struct sim *sim = conn->sim;
    if (!passes(conn, side)) {
        d->stuck_since = d->stuck_since ? d->stuck_since : sim->now;
        d->resend = d->resend ? d->resend * 2 : RESEND_MIN + 2 * sim_conn_latency(conn, side);
        d->resend = d->resend < RESEND_MAX ? d->resend : RESEND_MAX;
        if (sim->now - d->stuck_since > sim->o.stream_timeout)
            give_up(conn, side);
        else
            sim_event_at(sim, &d->pump, sim->now + d->resend, event->happen);
        if (!sim_event_pending(&d->pump))
            sim_conn_unref(conn);
        return;
    }
    d->stuck_since = d->resend = 0;
    struct wr_sock *s = conn->end[side];
    if (!s) {    /* nobody there any more, or after a restart never was */
        sim_conn_clear(conn, side);
        if (conn->end[!side])
            sim_conn_send(conn, side, SIM_RST);
    } else {
        struct piece *piece = sim_queue_take(&d->network);
        sim_queue_put(&d->unread, piece);
        pump_start(conn, side);
        sim_sock_established(s);    /* had its ACK been lost */
        sim_conn_read(s);
    }
    sim_conn_unref(conn);
}

static void on_pump_0(struct sim_event *event)
{
    on_pump(event, 0);
}

static void on_pump_1(struct sim_event *event)
{
    on_pump(event, 1);
}

static void pump_start(struct sim_conn *conn, unsigned side)
{
    struct direction *d = &conn->dir[side];
    if (!d->network.first || sim_event_pending(&d->pump))
        return;
    d->pump.host = conn->host[side];
    sim_conn_ref(conn);
    sim_event_at(conn->sim, &d->pump, d->network.first->arrives_at, side ? on_pump_1 : on_pump_0);
}

/* Puts a piece on its way to the other side. */
void sim_conn_submit(struct wr_sock *s, struct piece *piece)
{
    struct sim_conn *conn = s->conn;
    unsigned side = !s->side;
    struct direction *d = &conn->dir[side];
    wr_time after = d->network.last ? d->network.last->arrives_at : 0;
    wr_time latency = sim_conn_latency(conn, side);
    piece->arrives_at = sim_arrival(s->host, conn->host[side], piece->len + 40, latency, after);
    if (sim_lost(conn->sim))
        piece->arrives_at += 2 * latency + 10 * WR_MSEC;    /* found out by the ACKs of what follows */
    d->unacked += piece->len;
    s->host->traffic.stream_bytes += piece->len;
    sim_queue_put(&d->network, piece);
    pump_start(conn, side);
}

void sim_conn_submit_kept(struct wr_sock *s, bool all)
{
    struct direction *d = &s->conn->dir[!s->side];
    while (s->kept.first && (all || d->unacked < s->host->sim->o.send_buffer)) {
        struct piece *piece = sim_queue_take(&s->kept);
        s->backlog -= piece->len;
        sim_conn_submit(s, piece);
    }
    if (s->shut)
        sim_conn_finish(s);
}

void sim_conn_finish(struct wr_sock *s)
{
    struct piece *fin = s->fin_sent || s->kept.first ? NULL : wr_alloc(sizeof(*fin));
    if (!fin)
        return;
    fin->fin = s->fin_sent = true;
    sim_conn_submit(s, fin);
    if (s->ended)
        sim_sock_poke(s);
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

static void on_ack_0(struct sim_event *event);
static void on_ack_1(struct sim_event *event);

static void ack_start(struct sim_conn *conn, unsigned side)
{
    struct direction *d = &conn->dir[side];
    if (!d->acks.first || sim_event_pending(&d->ack))
        return;
    d->ack.host = conn->host[!side];
    sim_conn_ref(conn);
    sim_event_at(conn->sim, &d->ack, d->acks.first->arrives_at, side ? on_ack_1 : on_ack_0);
}

static void on_ack(struct sim_event *event, unsigned side)
{
    struct sim_conn *conn = wr_list_entry(event, struct sim_conn, dir[side].ack);
    struct direction *d = &conn->dir[side];
    while (d->acks.first && d->acks.first->arrives_at <= conn->sim->now) {
        struct piece *piece = sim_queue_take(&d->acks);
        d->unacked -= piece->len;
        wr_free(piece);
    }
    ack_start(conn, side);
    struct wr_sock *s = conn->end[!side];
    if (s && s->state == OPEN && s->backlog) {
        sim_conn_submit_kept(s, false);
        if (!s->backlog) {
            struct sim_host *host = s->host;
            sim_note(conn->sim, NOTE_DRAIN, host, 0);
            sim_begin(host);
            s->ops->on_drain(s->arg);
            sim_end(host);
        }
    }
    sim_conn_unref(conn);
}

static void on_ack_0(struct sim_event *event)
{
    on_ack(event, 0);
}

static void on_ack_1(struct sim_event *event)
{
    on_ack(event, 1);
}

/* A piece was read. The sender hears of it a latency later; while it is far from its bound, when it
 * hears makes no difference and no event is spent on it. */
static void acknowledge(struct sim_conn *conn, unsigned side, struct piece *piece)
{
    struct direction *d = &conn->dir[side];
    struct wr_sock *sender = conn->end[!side];
    bool tight = sender && (sender->backlog || d->unacked > conn->sim->o.send_buffer / 2);
    if (piece->len > d->unacked) {    /* the handler reset the other end: all is forgotten */
        wr_free(piece);
        return;
    }
    if (!tight && !d->acks.first) {
        d->unacked -= piece->len;
        wr_free(piece);
        return;
    }
    struct piece *last = d->acks.last;
    wr_time at = conn->sim->now + sim_conn_latency(conn, side);
    if (last && last->arrives_at >= at) {
        last->len += piece->len;
        wr_free(piece);
        return;
    }
    struct piece *small = wr_realloc(piece, sizeof(*piece));    /* its bytes are done with */
    piece = small ? small : piece;
    piece->arrives_at = at;
    sim_queue_put(&d->acks, piece);
    ack_start(conn, side);
}

static void read_some(struct wr_sock *s, struct piece *piece)
{
    struct sim_host *host = s->host;
    struct sim *sim = host->sim;
    size_t len = piece->len - piece->off;
    if (sim->o.ragged)
        len = 1 + sim_chance_next(&sim->chance) % len;
    uint8_t *data = piece->data + piece->off;
    piece->off += len;
    sim_note(sim, NOTE_READ, host, len);
    sim_note_bytes(sim, data, len < 64 ? len : 64);
    sim_begin(host);
    s->ops->on_read(s->arg, data, len);
    sim_end(host);
}

static void read_end(struct wr_sock *s)
{
    struct sim_host *host = s->host;
    if (!s->ops->on_eof) {
        sim_sock_end(s, WR_ECLOSED);
        return;
    }
    wr_free(sim_queue_take(&s->conn->dir[s->side].unread));
    s->ended = true;
    sim_note(host->sim, NOTE_READ, host, 0);
    sim_begin(host);
    s->ops->on_eof(s->arg);
    sim_end(host);
    if (s->state == OPEN && s->fin_sent)
        sim_sock_end(s, WR_ECLOSED);
}

void sim_conn_read(struct wr_sock *s)
{
    struct sim_conn *conn = s->conn;
    struct direction *d = &conn->dir[s->side];
    sim_conn_ref(conn);
    while (s->state == OPEN && s->ops && !s->paused && !s->host->paused && d->unread.first) {
        struct piece *piece = d->unread.first;
        if (piece->fin) {
            read_end(s);
            break;
        }
        /* The handler may close the end, and with it what is unread. */
        sim_queue_take(&d->unread);
        read_some(s, piece);
        if (s->state == OPEN && piece->off < piece->len) {
            piece->next = d->unread.first;
            d->unread.first = piece;
            if (!d->unread.last)
                d->unread.last = piece;
            continue;
        }
        if (s->state == OPEN)
            acknowledge(conn, s->side, piece);
        else
            wr_free(piece);
    }
    sim_conn_unref(conn);
}

