/* Sending and time of one QUIC connection: packets from what streams hold, batches, the timer. */
#include "transport/quic_impl.h"

#include <string.h>

#define PIECES_MAX   8               /* of one stream's data in one packet */
#define FLUSH_TURN   (1024 * 1024)   /* bytes sent in one turn before others get theirs; ours */
#define PROBES_MAX   2               /* in a row without an answer, before something is done about it; ours */
#define NARROW_TIME  (10 * WR_MIN)   /* then they are tried again; RFC 8899 section 5.1.1 */
#define MUTE_MIN     (200 * WR_MSEC) /* and at least so long: a peer that is near may just be busy; ours */
#define SEND_STEP    (1024 * 1024)   /* bytes: what a stream gets in a round trip beyond WR_QUIC_SEND_MAX; ours */
#define SEND_NEAR    (512 * 1024)    /* bytes: what it may have on any path: it stays in a core's cache (docs/benchmarks.md) */
#define SEND_FAST    1250000         /* bytes in a millisecond: 10 Gbit/s; ours */
#define QUEUE_SHARE  16              /* of the least round trip: a wait longer than this is a queue; ours */
#define LATE_SHARE   8               /* of the round trip: lateness up to this is made up for, in one burst; ours */
#define LATE_MIN     (2 * WR_MSEC)   /* or this, twice a timer's coarseness; ours */
#define LATE_MAX     (16 * WR_MSEC)  /* and never more than this: queues on the way have to take the burst; ours */
#define OVERDUE_WAIT (1 * WR_MSEC)   /* ours */
#define WIDE_AFTER   (8 * 1024)      /* bytes sent and received, until then larger packets are not tried; ours */
#define JAM_WAIT     (1 * WR_MSEC)   /* least wait for a timer while the socket is full */

/* Datagrams of one size, path and mark, to be sent together. */
struct batch {
    ngtcp2_path_storage path;
    uint8_t ecn;
    size_t len, segment, count;
};

static struct wr_quic_stream *first_ready(struct wr_quic_conn *qc)
{
    return wr_list_empty(&qc->ready) ? NULL : wr_list_entry(qc->ready.next, struct wr_quic_stream, ready);
}

/* After a piece of this stream was taken: the next stream's turn. */
static void rotate(struct wr_quic_conn *qc, struct wr_quic_stream *qs, uint64_t taken, bool fin)
{
    wr_quic_stream_sent(qs, (size_t)taken, fin);
    wr_list_remove(&qs->ready);
    if (qs->sent < qs->end || (qs->shut && !qs->fin_sent))
        wr_list_append(&qc->ready, &qs->ready);
}

/* As write_packet. */
static ngtcp2_ssize make_packet(struct wr_quic_conn *qc, ngtcp2_path *path, ngtcp2_pkt_info *pi,
                                 uint8_t *dest, size_t room)
{
    for (;;) {
        struct wr_quic_stream *qs = first_ready(qc);
        ngtcp2_vec vec[PIECES_MAX];
        bool fin = false;
        ngtcp2_ssize taken = -1;
        if (qc->mem.ends || !wr_quic_pool_fill(&qc->q->pool))
            return NGTCP2_ERR_NOMEM;
        size_t count = qs ? wr_quic_stream_pieces(qs, vec, PIECES_MAX, &fin) : 0;
        uint32_t flags = qs ? NGTCP2_WRITE_STREAM_FLAG_MORE : NGTCP2_WRITE_STREAM_FLAG_NONE;
        if (fin)
            flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(qc->ng, path, pi, dest, room, &taken, flags,
                                                   qs ? qs->id : -1, vec, count, wr_quic_now(qc));
        if (qc->mem.ends)
            return NGTCP2_ERR_NOMEM;
        if (qs && taken >= 0) {
            size_t offered = 0;
            for (size_t i = 0; i < count; i++)
                offered += vec[i].len;
            rotate(qc, qs, (uint64_t)taken, fin && (size_t)taken == offered);
        }
        if (!qs || n >= 0)
            return n;
        switch (n) {
        case NGTCP2_ERR_WRITE_MORE:
            break;
        case NGTCP2_ERR_STREAM_DATA_BLOCKED:
            wr_list_remove(&qs->ready);
            if (ngtcp2_conn_get_max_data_left(qc->ng) == 0)
                wr_list_append(&qc->starved, &qs->ready);
            break;
        case NGTCP2_ERR_STREAM_SHUT_WR:
        case NGTCP2_ERR_STREAM_NOT_FOUND:
            wr_quic_stream_stopped(qs);
            break;
        default:
            return n;
        }
    }
}

/* Makes one packet; 0: nothing may or need be sent now. */
static ngtcp2_ssize write_packet(struct wr_quic_conn *qc, ngtcp2_path *path, ngtcp2_pkt_info *pi,
                                 uint8_t *dest, size_t room)
{
    /* What came too soon in a handshake waits for the next packet to be made. Another connection may be read just now:
     * it has opened, and this one makes room for it. */
    struct wr_quic_conn *other = wr_quic_conn_reads(qc);
    ngtcp2_ssize n = make_packet(qc, path, pi, dest, room);
    wr_quic_conn_reads(other);
    return n;
}

/* Hands the batch over. False: no more for now. */
static bool send_batch(struct wr_quic_conn *qc, struct batch *b, const uint8_t *data)
{
    if (b->len == 0)
        return true;
    size_t len = b->len;
    b->len = b->count = 0;
    qc->conn.bytes_out += len;
    int rc = wr_quic_send(qc->sock, &b->path.path, b->ecn, data, len, b->segment);
    if (rc == WR_EUNREACH && qc->conn.state == WR_CONN_OPENING && qc->conn.bytes_in == 0) {
        wr_quic_conn_forget(qc, WR_EUNREACH);    /* no need to wait for a time-out: other addresses may do */
        return false;
    }
    if (rc != WR_ELIMIT)
        return true;
    wr_list_remove(&qc->jam_node);
    wr_list_append(&qc->q->jammed, &qc->jam_node);
    return false;
}

/* Whether the packet just made at the batch's end belongs to it. */
static bool fits(const struct batch *b, const ngtcp2_path *path, uint8_t ecn, size_t len)
{
    return b->len == 0 || (ecn == b->ecn && len <= b->segment && ngtcp2_path_eq(path, &b->path.path));
}

static void put(struct batch *b, const ngtcp2_path *path, uint8_t ecn, size_t len)
{
    if (b->len == 0) {
        ngtcp2_path_storage_zero(&b->path);
        ngtcp2_path_copy(&b->path.path, path);
        b->ecn = ecn;
        b->segment = len;
    }
    b->len += len;
    b->count++;
}

/* Pacing is for queues on the way; there are none within a machine. */
static bool paced(const struct wr_quic_conn *qc)
{
    return wr_ip_classify(&qc->conn.remote.ip) != WR_IP_LOOPBACK;
}

/* ---- pacing that comes late. ngtcp2 0.12 counts the wait for the next packets from when the last ones were sent. What
 * a timer comes late by, its rounding or since the machine does something else, is then lost for ever: with 16 KiB each
 * time and 1.4 ms late each time, 100 Mbit/s become 60. Here the wait counts from when the packets were due. From 1.11 on
 * ngtcp2 makes up for it, and no 1.x takes a time that has passed. */

#if NGTCP2_VERSION_NUM < 0x010000
/* ngtcp2's: bytes in a nanosecond. */
static double pace_of(const ngtcp2_conn_info *info)
{
    return info->pacing_rate > 0 ? info->pacing_rate
                                 : (double)info->cwnd / (double)info->smoothed_rtt * 1.25;    /* RFC 9002 section 7.7 */
}

/* How late what is sent now is, as far as that is made up for. */
static wr_time lateness(const struct wr_quic_conn *qc, const ngtcp2_conn_info *info)
{
    wr_time now = wr_env_now(qc->q->env), most = (wr_time)info->smoothed_rtt / LATE_SHARE;
    if (!qc->held_until || qc->held_until >= now)
        return 0;
    most = most < LATE_MIN ? LATE_MIN : most > LATE_MAX ? LATE_MAX : most;
    return now - qc->held_until < most ? now - qc->held_until : most;
}

/* Bytes that should have been on their way by now. */
static size_t overdue(const struct wr_quic_conn *qc)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    wr_time late = info.smoothed_rtt ? lateness(qc, &info) : 0;
    return late ? (size_t)((double)late * pace_of(&info)) : 0;
}

/* Tells ngtcp2 when what was just sent was due: it waits from then on. */
static void pace(struct wr_quic_conn *qc)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    ngtcp2_conn_update_pkt_tx_time(qc->ng, wr_quic_now(qc) - (ngtcp2_tstamp)lateness(qc, &info));
}

/* Whether there is more to send, which only pacing keeps back. */
static bool is_held(const struct wr_quic_conn *qc)
{
    return !wr_list_empty(&qc->ready) && ngtcp2_conn_get_cwnd_left(qc->ng) >= WR_QUIC_DATAGRAM;
}
#else
static size_t overdue(const struct wr_quic_conn *qc)
{
    (void)qc;
    return 0;
}

static void pace(struct wr_quic_conn *qc)
{
    ngtcp2_conn_update_pkt_tx_time(qc->ng, wr_quic_now(qc));
}

static bool is_held(const struct wr_quic_conn *qc)
{
    (void)qc;
    return false;
}
#endif

/* A short challenge to the path in use: the peer has come from elsewhere, with little (WR_QUIC_ABORTS). One to
 * another path: it has settled. */
static void note_challenge(struct wr_quic_conn *qc, const ngtcp2_path *path, size_t len)
{
    if (!qc->challenged)
        return;
    qc->challenged = false;
    if (!ngtcp2_path_eq(path, ngtcp2_conn_get_path(qc->ng)))
        qc->settling = false;
    else if (len < NGTCP2_MAX_UDP_PAYLOAD_SIZE && !qc->conn.outbound)
        qc->settling = WR_QUIC_ABORTS;
}

/* Whether all packets are as small as any path takes. Most connections ask a question or two: the probes of the path
 * would be as many packets as these, and ngtcp2 makes none that has no room. One that has moved is none of them, and probes
 * are also what shows a peer soon where we are. */
static bool is_narrow(const struct wr_quic_conn *qc)
{
    if (qc->narrow_until > wr_env_now(qc->q->env))
        return true;
    return qc->migrations == 0 && qc->conn.bytes_in + qc->conn.bytes_out < WIDE_AFTER;
}

/* Sends what ngtcp2 has; returns 0 when that is all, 1 when the turn is used up, -1 when it is over or
 * must wait. */
static int send_all(struct wr_quic_conn *qc)
{
    uint8_t *buffer = qc->q->ctx->scratch;
    struct batch b = {.len = 0};
    size_t total = 0, quantum = FLUSH_TURN;
    size_t room = is_narrow(qc) ? NGTCP2_MAX_UDP_PAYLOAD_SIZE : WR_QUIC_DATAGRAM;
    if (paced(qc)) {
        size_t due = ngtcp2_conn_get_send_quantum(qc->ng) + overdue(qc);
        quantum = due < quantum ? due : quantum;
    }
    for (;;) {
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi = {0};
        ngtcp2_path_storage_zero(&ps);
        qc->challenged = false;
        ngtcp2_ssize n = write_packet(qc, &ps.path, &pi, buffer + b.len, room);
        if (n < 0) {
            send_batch(qc, &b, buffer);
            if (!qc->over)
                wr_quic_conn_fail(qc, (int)n);
            return -1;
        }
        size_t len = (size_t)n;
        if (len == 0)
            return send_batch(qc, &b, buffer) ? 0 : -1;
        note_challenge(qc, &ps.path, len);
        if (!fits(&b, &ps.path, (uint8_t)pi.ecn, len)) {
            size_t at = b.len;
            bool sent = send_batch(qc, &b, buffer);
            if (!sent && qc->over)
                return -1;
            memmove(buffer, buffer + at, len);
            put(&b, &ps.path, (uint8_t)pi.ecn, len);
            if (!sent)
                return -1;    /* this one packet counts as lost */
        } else {
            put(&b, &ps.path, (uint8_t)pi.ecn, len);
        }
        total += len;
        bool last = len < b.segment || b.count >= WR_DGRAM_SEGMENTS ||
                    b.len + b.segment > WR_DGRAM_BATCH;
        if (last && !send_batch(qc, &b, buffer))
            return -1;
        if (total >= quantum)
            return send_batch(qc, &b, buffer) ? 1 : -1;
    }
}

static void grow_silence(struct wr_quic_conn *qc, wr_time now)
{
    if (qc->silence == 0 || now - qc->heard_at < qc->silence)
        return;
    qc->silence = qc->silence * (qc->talk ? 13 : 7) / 4;    /* not twice: it must not keep step with anything */
    qc->asked = true;
    qc->came = 0;
    if (qc->silence >= qc->keepalive)
        qc->silence = 0;
    ngtcp2_conn_set_keep_alive_timeout(
        qc->ng, (ngtcp2_duration)(qc->silence ? qc->silence : qc->keepalive));
}

static void on_timer(struct wr_timer *timer);

static void set_timer(struct wr_quic_conn *qc)
{
    struct wr_env *env = qc->q->env;
    ngtcp2_tstamp expiry = ngtcp2_conn_get_expiry(qc->ng);
    if (qc->mute_at && (ngtcp2_tstamp)qc->mute_at < expiry)
        expiry = (ngtcp2_tstamp)qc->mute_at;
    if (qc->follow_by && (ngtcp2_tstamp)qc->follow_by < expiry)
        expiry = (ngtcp2_tstamp)qc->follow_by;
    if (expiry == UINT64_MAX) {
        qc->held_until = 0;
        wr_timer_stop(env, &qc->timer);
        return;
    }
    wr_time at = (wr_time)expiry, now = wr_env_now(env);
    if (!wr_list_empty(&qc->jam_node) && at < now + JAM_WAIT)
        at = now + JAM_WAIT;
    /* What is overdue although everything was just done about it may wait: it must not spin. */
    if (at <= now)
        at = now + OVERDUE_WAIT;
    qc->held_until = is_held(qc) ? at : 0;
    if (qc->timer.at != at)
        wr_timer_start(env, &qc->timer, at, on_timer);
}

/* On a long fat path a stream may hold more and more while no queue builds up there, but not at the pace of slow start:
 * a peer on ngtcp2 0.12 gives a connection up when a stream has 1000 gaps at once. Should all that the last step made
 * too much be lost, in packets of 1444 bytes, there are fewer. */
static void raise_send_max(struct wr_quic_conn *qc, const ngtcp2_conn_info *info)
{
    wr_time now = wr_env_now(qc->q->env);
    if (info->cwnd < qc->cwnd_seen && info->cwnd < qc->send_max) {
        qc->send_max = info->cwnd > WR_QUIC_SEND_MAX ? info->cwnd : WR_QUIC_SEND_MAX;
        qc->send_max_at = now;
    }
    if (info->cwnd <= qc->send_max || info->bytes_in_flight < qc->send_max - SEND_STEP) {
        qc->send_max_at = now;    /* it does not hold anything back */
        return;
    }
    wr_time queue = (wr_time)(info->min_rtt / QUEUE_SHARE), rtt = (wr_time)info->smoothed_rtt;
    if (now - qc->send_max_at < rtt + rtt / 8 || rtt > (wr_time)info->min_rtt + queue)
        return;
    qc->send_max = qc->send_max + SEND_STEP < WR_QUIC_SEND_MOST ? qc->send_max + SEND_STEP : WR_QUIC_SEND_MOST;
    qc->send_max_at = now;
}

/* Bytes that twice fill the fastest path of this round trip: to a peer that is near more would only be out of the cache
 * when it is sent. */
static uint64_t enough(const ngtcp2_conn_info *info)
{
    if (info->min_rtt >= WR_SEC)
        return UINT64_MAX;    /* not measured, or far */
    uint64_t twice = 2 * info->min_rtt * SEND_FAST / WR_MSEC;
    return twice > SEND_NEAR ? twice : SEND_NEAR;
}

/* A stream may hold as much as keeps the path full, and no more. That the window was cut is all that ngtcp2 before
 * 1.19 lets one know of losses: once for all that are found in one round trip. */
static void follow_window(struct wr_quic_conn *qc)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    qc->rtt = info.min_rtt == UINT64_MAX ? 0 : (wr_time)info.smoothed_rtt;
    if (info.bytes_in_flight > qc->in_flight_seen && !qc->probes)
        qc->asked_at = wr_env_now(qc->q->env);
    qc->in_flight_seen = info.bytes_in_flight;
    if (!info.bytes_in_flight)
        qc->follow_by = 0;    /* all that was said since the move has arrived */
    qc->loss_events += info.cwnd < qc->cwnd_seen;
    raise_send_max(qc, &info);
    qc->cwnd_seen = info.cwnd;
    uint64_t cap = 2 * info.cwnd, most = enough(&info);
    if (most > qc->send_max)
        most = qc->send_max;
    qc->send_cap = cap < WR_QUIC_SEND_MIN ? WR_QUIC_SEND_MIN : cap > most ? most : cap;
}

void wr_quic_send_task(struct wr_task *task)
{
    struct wr_quic_conn *qc = wr_list_entry(task, struct wr_quic_conn, flush);
    if (qc->over || wr_quic_conn_ends(qc))
        return;
    if (qc->opens) {
        qc->opens = false;
        wr_conn_retry_opens(&qc->conn);
    }
    if (qc->room) {
        qc->room = false;
        wr_conn_writable(&qc->conn);
    }
    if (!wr_list_empty(&qc->jam_node))
        return;    /* called again when there is room */
    int rc = send_all(qc);
    if (qc->over)
        return;
    follow_window(qc);
    grow_silence(qc, wr_env_now(qc->q->env));
    if (paced(qc))
        pace(qc);
    set_timer(qc);
    if (rc > 0 && !paced(qc))
        wr_timer_start(qc->q->env, &qc->timer, wr_env_now(qc->q->env), on_timer);
}

/* What is sent goes unanswered. Perhaps the path has become too narrow for packets that used to fit: ngtcp2 only
 * ever finds out that larger ones do (RFC 8899 section 4.4 has the black hole that it leaves out). Perhaps the peer
 * does not know us any more at this address. If it was the former, the small packet that goes out now is answered
 * before a new connection has opened.
 * One that follows us may take two probes to do so: a listener on ngtcp2 0.12 hears nothing from a third path while it
 * settles on the second. One that stays put either answers the first within its time or never. */
static void watch_silence(struct wr_quic_conn *qc)
{
    wr_time now = wr_env_now(qc->q->env);
    wr_time since = qc->asked_at > qc->heard_at ? qc->asked_at : qc->heard_at;
    if (qc->conn.state != WR_CONN_OPEN || !qc->in_flight_seen ||
        now - since < (wr_time)ngtcp2_conn_get_pto(qc->ng) << (qc->probes & 7))
        return;
    /* ngtcp2 does not tell, but has just sent a probe: it waits twice as long for each as for the one before. */
    qc->probes++;
    qc->asked_at = now;
    if (qc->probes == 1 && qc->conn.stays_put && qc->rtt) {
        wr_time least = qc->heard_at + MUTE_MIN;
        qc->mute_at = now + 2 * qc->rtt > least ? now + 2 * qc->rtt : least;
    }
    if (qc->probes < PROBES_MAX)
        return;
    qc->narrow_until = now + NARROW_TIME;
    if (now - qc->heard_at >= MUTE_MIN)
        wr_conn_mute(&qc->conn, true);
}

/* A peer follows us only so many times, and does not say that it will not once more: quic-go three times, ngtcp2 0.12 here
 * WR_QUIC_STRAYS_MAX times. It may still answer a challenge, and ask where we were before. The first probe on a new path, of
 * which no round trip is known, takes a second, the second one two more: who let the first one pass is dialled anew. */
static void watch_move(struct wr_quic_conn *qc, wr_time now)
{
    if (!qc->follow_by || now < qc->follow_by)
        return;
    qc->follow_by = 0;
    if (qc->acked_at <= qc->moved_until)
        wr_conn_mute(&qc->conn, true);
}

static void on_timer(struct wr_timer *timer)
{
    struct wr_quic_conn *qc = wr_list_entry(timer, struct wr_quic_conn, timer);
    ngtcp2_tstamp now = wr_quic_now(qc);
    if (wr_quic_conn_ends(qc))
        return;
    if (qc->mute_at && (ngtcp2_tstamp)qc->mute_at <= now) {
        qc->mute_at = 0;
        wr_conn_mute(&qc->conn, true);
    }
    watch_move(qc, (wr_time)now);
    if (ngtcp2_conn_get_expiry(qc->ng) <= now) {
        qc->inside = true;
        int rc = ngtcp2_conn_handle_expiry(qc->ng, now);
        qc->inside = false;
        if (rc == 0 && qc->mem.ends)
            rc = NGTCP2_ERR_NOMEM;
        if (rc != 0) {
            wr_quic_conn_fail(qc, rc);
            return;
        }
        watch_silence(qc);
    }
    wr_quic_conn_want_flush(qc);
}
