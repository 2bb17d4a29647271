/* One QUIC connection: the handshake, what ngtcp2 calls for, receiving, the end.
 * ngtcp2's callbacks only take note, and queue what they cause; everything that reads or writes the
 * connection happens outside of them, sending (quic_send.c) once at the end of the turn. */
#include "transport/quic_frames.h"
#include "transport/quic_impl.h"
#include "transport/tls.h"

#include <string.h>

#define KEEPALIVES   3               /* in one idle time-out: two may be lost */
#define KEEPALIVE_MIN (1 * WR_SEC)   /* whatever the peer calls idle: it must not set our pace; ours */
#define SILENCE_RTTS 4               /* after data came: then we ask; ours */
#define SILENCE_MIN  (500 * WR_MSEC)
#define TRANSFER     (16 * 1024)     /* bytes since we last asked: less is talk, which may pause; ours */
#define TALK_PAUSE   2               /* times as long as a transfer; ours */
#define CREDIT_SHARE 2               /* while the peer may open this part of all streams, it is told of no more; ours */
#define LINGER_PTOS  3               /* RFC 9000 section 10.2 */

void wr_quic_conn_want_flush(struct wr_quic_conn *qc)
{
    if (!qc->over)
        wr_env_defer(qc->q->env, &qc->flush, wr_quic_send_task);
}

/* ---- the end ------------------------------------------------------------------------------------- */

/* Says farewell (NULL: nothing to say) and leaves the ids to a linger. */
static void part(struct wr_quic_conn *qc, const ngtcp2_ccerr *why)
{
    uint8_t packet[WR_QUIC_DATAGRAM];
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ssize n = 0;
    qc->over = true;
    wr_timer_stop(qc->q->env, &qc->timer);
    wr_task_cancel(&qc->flush);
    ngtcp2_path_storage_zero(&ps);
    if (why)
        n = ngtcp2_conn_write_connection_close(qc->ng, &ps.path, &pi, packet, sizeof(packet), why,
                                               wr_quic_now(qc));
    size_t len = n > 0 ? (size_t)n : 0;
    if (len) {
        qc->conn.bytes_out += len;
        wr_quic_send(qc->sock, &ps.path, 0, packet, len, len);
    }
    wr_quic_linger(qc, len ? &ps.path : ngtcp2_conn_get_path(qc->ng), packet, len,
                   LINGER_PTOS * (wr_time)ngtcp2_conn_get_pto(qc->ng));
}

void wr_quic_conn_forget(struct wr_quic_conn *qc, int err)
{
    qc->over = true;
    wr_timer_stop(qc->q->env, &qc->timer);
    wr_task_cancel(&qc->flush);
    wr_conn_ended(&qc->conn, err);
}

/* What the peer's CONNECTION_CLOSE says. */
static int peer_error(struct wr_quic_conn *qc)
{
    ngtcp2_ccerr e = wr_quic_compat_ccerr(qc->ng);
    if (qc->forgotten)
        return WR_ERESET;
    if (e.type == NGTCP2_CCERR_TYPE_APPLICATION)
        return WR_ECLOSED;
    if (e.type != NGTCP2_CCERR_TYPE_TRANSPORT || e.error_code == NGTCP2_NO_ERROR)
        return WR_ECLOSED;
    if (e.error_code == NGTCP2_CONNECTION_REFUSED || e.error_code == NGTCP2_INVALID_TOKEN)
        return WR_EREFUSED;
    return (e.error_code & ~(uint64_t)0xff) == NGTCP2_CRYPTO_ERROR ? WR_EAUTH : WR_EPROTO;
}

void wr_quic_conn_fail(struct wr_quic_conn *qc, int rc)
{
    ngtcp2_ccerr why = {0};
    int err;
    switch (rc) {
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        wr_quic_conn_forget(qc, WR_ETIMEOUT);
        return;
    case NGTCP2_ERR_DRAINING:
        err = peer_error(qc);
        part(qc, NULL);
        break;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY:
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        wr_quic_conn_forget(qc, rc == NGTCP2_ERR_RECV_VERSION_NEGOTIATION ? WR_EUNSUPPORTED : WR_EPROTO);
        return;
    case NGTCP2_ERR_CRYPTO:
        ngtcp2_ccerr_set_tls_alert(&why, ngtcp2_conn_get_tls_alert(qc->ng), NULL, 0);
        err = qc->verdict ? qc->verdict : WR_EAUTH;
        part(qc, &why);
        break;
    default:
        ngtcp2_ccerr_set_liberr(&why, rc, NULL, 0);
        err = rc == NGTCP2_ERR_CALLBACK_FAILURE && qc->verdict                ? qc->verdict
              : rc == NGTCP2_ERR_NOMEM || rc == NGTCP2_ERR_CALLBACK_FAILURE ? WR_ELIMIT
                                                                            : WR_EPROTO;
        part(qc, &why);
        break;
    }
    wr_log(wr_env_log(qc->q->env), WR_LOG_DEBUG, "quic", "ended why=%s err=%s", ngtcp2_strerror(rc),
           wr_err_name(err));
    wr_conn_ended(&qc->conn, err);
}

bool wr_quic_conn_ends(struct wr_quic_conn *qc)
{
    if (qc->mem.ends)
        wr_quic_conn_fail(qc, NGTCP2_ERR_NOMEM);
    return qc->mem.ends;
}

static void close_now(struct wr_quic_conn *qc)
{
    ngtcp2_ccerr why = {0};
    ngtcp2_ccerr_set_application_error(&why, qc->conn.close_code, NULL, 0);
    part(qc, &why);
}

/* What was written goes out before the farewell. */
void wr_quic_conn_close(struct wr_conn *c, uint32_t code)
{
    struct wr_quic_conn *qc = (struct wr_quic_conn *)(void *)c;
    if (qc->over)
        return;
    c->close_code = code;
    if (qc->inside) {
        qc->close_wanted = true;
        return;
    }
    if (c->state == WR_CONN_OPEN)
        wr_quic_send_task(&qc->flush);
    if (!qc->over)
        close_now(qc);
}

void wr_quic_conn_release(struct wr_conn *c)
{
    struct wr_quic_conn *qc = (struct wr_quic_conn *)(void *)c;
    struct wr_quic *q = qc->q;
    wr_timer_stop(q->env, &qc->timer);
    wr_task_cancel(&qc->flush);
    wr_list_remove(&qc->jam_node);
    wr_list_remove(&qc->all);
    qc->over = true;
    while (!wr_list_empty(&qc->streams))
        wr_quic_stream_destroy(wr_list_entry(qc->streams.next, struct wr_quic_stream, node));
    wr_limits_give(q->ctx->limits, WR_LIMIT_WINDOW_EXTRA, qc->window - WR_QUIC_CONN_WINDOW);
    if (qc->ng)
        ngtcp2_conn_del(qc->ng);
    if (qc->tls)
        gnutls_deinit(qc->tls);
    while (!wr_list_empty(&qc->ids))
        wr_quic_id_free(q, wr_list_entry(qc->ids.next, struct wr_quic_id, node));
    wr_quic_sock_use(&qc->sock, NULL);
    wr_free(qc->expect);
    wr_conn_clear(&qc->conn);
    wr_free(qc);
}

/* ---- what ngtcp2 calls: identity and ids ----------------------------------------------------------- */

static ngtcp2_conn *get_ng(ngtcp2_crypto_conn_ref *ref)
{
    struct wr_quic_conn *qc = ref->user_data;
    return qc->ng;
}

/* GnuTLS: the peer's certificate is here and its key proved. */
static int verify(gnutls_session_t session)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    struct wr_quic_conn *qc = ref->user_data;
    struct wr_tlsctx_peer peer;
    const char *why = "it has no transport parameters";
    int rc = WR_EPROTO;
    if (ngtcp2_conn_get_remote_transport_params(qc->ng))
        rc = wr_tlsctx_verify(qc->q->ctx->tls, session, wr_env_unix(qc->q->env) / WR_SEC, qc->expect, &peer, &why);
    if (rc == 0)
        rc = wr_conn_set_peer(&qc->conn, &peer.id, peer.pubkey);
    if (rc != 0)
        wr_log(wr_env_log(qc->q->env), WR_LOG_DEBUG, "quic", "certificate refused why=\"%s\" err=%s", why,
               wr_err_name(rc));
    qc->verdict = rc;
    return rc;
}

static void on_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    wr_env_random(ctx->native_handle, dest, len);
}

static int on_new_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    struct wr_quic *q = qc->q;
    uint8_t bytes[NGTCP2_MAX_CIDLEN];
    (void)ng;
    wr_env_random(q->env, bytes, len);
    ngtcp2_cid_init(cid, bytes, len);
    if (wr_quic_id_add(qc, WR_QUIC_ID_CID, bytes, len) != 0 ||
        ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_secret, sizeof(q->reset_secret),
                                                     cid) != 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_old_id(ngtcp2_conn *ng, const ngtcp2_cid *cid, void *user_data)
{
    (void)ng;
    wr_quic_id_drop(user_data, WR_QUIC_ID_CID, cid->data, cid->datalen);
    return 0;
}

/* The peer's ids: with each comes the token by which it would tell us that it forgot everything. */
static int on_peer_id(ngtcp2_conn *ng, wr_quic_cid_status type, uint64_t seq, const ngtcp2_cid *cid,
                      const uint8_t *token, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    (void)seq;
    (void)cid;
    qc->renamed |= type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE;
    if (!token)
        return 0;
    if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_DEACTIVATE)
        wr_quic_id_drop(user_data, WR_QUIC_ID_RESET, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    else if (wr_quic_id_add(user_data, WR_QUIC_ID_RESET, token, NGTCP2_STATELESS_RESET_TOKENLEN) ==
             WR_ELIMIT)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_crypto(ngtcp2_conn *ng, ngtcp2_encryption_level level, uint64_t offset, const uint8_t *data,
                     size_t len, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    /* After the handshake only session tickets come, which nobody wants. */
    if (!qc->tls)
        return 0;
    /* GnuTLS keeps a message until it is whole, however long it says that it is, and ngtcp2 bounds only what
     * comes out of order. */
    if (offset + len > WR_TLS_HANDSHAKE_IN_MAX) {
        qc->verdict = WR_EPROTO;
        return NGTCP2_ERR_CALLBACK_FAILURE;    /* for other errors in a first packet ngtcp2 only drops that packet */
    }
    return ngtcp2_crypto_recv_crypto_data_cb(ng, level, offset, data, len, user_data);
}

/* While a transfer comes in, silence is strange: if our NAT gave us a new port, what the peer sends goes to
 * the old one, and it learns of the new one only from us. So the first question after data comes soon, the
 * next ones ever later; after a few words they are fewer. */
static void expect_data(struct wr_quic_conn *qc)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(qc->ng, &info);
    wr_time soon = SILENCE_RTTS * (wr_time)info.smoothed_rtt;
    soon = soon < SILENCE_MIN ? SILENCE_MIN : soon;
    qc->talk = qc->came < TRANSFER;
    if (qc->talk)
        soon *= TALK_PAUSE;
    if (soon >= qc->keepalive)
        return;
    qc->silence = soon;
    qc->asked = false;
    ngtcp2_conn_set_keep_alive_timeout(qc->ng, (ngtcp2_duration)soon);
}

/* The smaller one of both sides' time-outs counts; a third of it leaves room for two lost packets. A NAT may forget
 * sooner: six tenths of its memory leave room for one (NAT sheet 9). */
void wr_quic_conn_keepalive(struct wr_quic_conn *qc)
{
    wr_time mapped = qc->q->lifetime / 10 * 6;
    const ngtcp2_transport_params *remote = ngtcp2_conn_get_remote_transport_params(qc->ng);
    ngtcp2_duration idle = WR_QUIC_IDLE;
    if (remote && remote->max_idle_timeout && remote->max_idle_timeout < idle)
        idle = remote->max_idle_timeout;
    qc->keepalive = (wr_time)(idle / KEEPALIVES);
    if (qc->keepalive < KEEPALIVE_MIN)
        qc->keepalive = KEEPALIVE_MIN;
    if (mapped && mapped < qc->keepalive)
        qc->keepalive = mapped;
    if (!qc->silence || qc->silence >= qc->keepalive)
        ngtcp2_conn_set_keep_alive_timeout(qc->ng, (ngtcp2_duration)qc->keepalive);
}

static int on_handshake(ngtcp2_conn *ng, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    /* GnuTLS would let a session without a certificate pass if it were not asked to demand one. */
    if (qc->verdict != 0 || qc->conn.peer.len == 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    wr_quic_conn_keepalive(qc);
    wr_free(qc->expect);
    qc->expect = NULL;
    /* A client's end is the last word of a handshake: its listener is told no more. */
    qc->confirmed = !qc->conn.outbound;
    wr_conn_opened(&qc->conn);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *ng, const ngtcp2_pkt_stateless_reset *reset, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    (void)reset;
    qc->forgotten = true;
    return 0;
}

static int on_confirmed(ngtcp2_conn *ng, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    qc->confirmed = true;
    return 0;
}

/* ---- what ngtcp2 calls: streams -------------------------------------------------------------------- */

/* Each stream of the peer's that is over makes room for another one. To say so each time would be a packet, and its
 * acknowledgement, for every question it asks. */
static void give_credit(struct wr_quic_conn *qc)
{
    uint64_t left = qc->allowed - qc->opened;
    if (qc->credit == 0 || left > qc->q->ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max / CREDIT_SHARE)
        return;
    ngtcp2_conn_extend_max_streams_bidi(qc->ng, qc->credit);
    qc->allowed += qc->credit;
    qc->credit = 0;
}

static int on_stream_open(ngtcp2_conn *ng, int64_t id, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    struct wr_quic_stream *qs = wr_quic_stream_create(qc, false);
    if ((uint64_t)id / 4 >= qc->opened)
        qc->opened = (uint64_t)id / 4 + 1;
    give_credit(qc);
    if (qs) {
        qs->id = id;
        ngtcp2_conn_set_stream_user_data(ng, id, qs);
        qs->s = wr_conn_inbound_stream(&qc->conn, qs);
    }
    if (!qs || !qs->s)
        ngtcp2_conn_shutdown_stream(ng, 0, id, WR_STREAM_LIMIT);
    return 0;
}

static int on_stream_data(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data,
                          size_t len, void *user_data, void *stream)
{
    struct wr_quic_conn *qc = user_data;
    (void)id;
    (void)offset;
    qc->data_came = true;
    qc->came += len;
    if (stream)
        wr_quic_stream_arrived(stream, data, len, flags & NGTCP2_STREAM_DATA_FLAG_FIN);
    else
        ngtcp2_conn_extend_max_offset(ng, len);
    return 0;
}

static int on_stream_acked(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t len, void *user_data,
                           void *stream)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    (void)id;
    if (stream && len)
        wr_quic_stream_acked(stream, offset + len);
    qc->acked_at = wr_env_now(qc->q->env);
    qc->room = true;
    return 0;
}

static int on_stream_close(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t code, void *user_data,
                           void *stream)
{
    struct wr_quic_conn *qc = user_data;
    (void)flags;
    (void)code;
    if (ngtcp2_conn_is_local_stream(ng, id))
        qc->opens = true;
    else
        qc->credit++;
    give_credit(qc);
    if (stream)
        wr_quic_stream_closed(stream);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *ng, int64_t id, uint64_t final_size, uint64_t code, void *user_data,
                           void *stream)
{
    (void)ng;
    (void)id;
    (void)final_size;
    (void)user_data;
    if (stream)
        wr_quic_stream_reset_by_peer(stream, code);
    return 0;
}

static int on_more_streams(ngtcp2_conn *ng, uint64_t max, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    (void)ng;
    (void)max;
    qc->opens = true;
    return 0;
}

static int on_more_data(ngtcp2_conn *ng, int64_t id, uint64_t max, void *user_data, void *stream)
{
    struct wr_quic_conn *qc = user_data;
    struct wr_quic_stream *qs = stream;
    (void)ng;
    (void)id;
    (void)max;
    if (qs && (qs->sent < qs->end || (qs->shut && !qs->fin_sent)) && wr_list_empty(&qs->ready))
        wr_list_append(&qc->ready, &qs->ready);
    return 0;
}

/* ---- what ngtcp2 calls: paths ---------------------------------------------------------------------- */

static void count_move(struct wr_quic_conn *qc, const struct wr_addr *local, const struct wr_addr *remote)
{
    char here[WR_ADDR_TEXT], there[WR_ADDR_TEXT];
    qc->migrations++;
    wr_addr_print(local, here);
    wr_addr_print(remote, there);
    wr_log(wr_env_log(qc->q->env), WR_LOG_DEBUG, "quic", "path changed local=%s remote=%s count=%u", here,
           there, qc->migrations);
}

/* The peer has moved, or its NAT given it another port. That counts once it has answered from there: anybody
 * can send packets of a connection of his own with another's address on them, and by where a peer is we
 * decide what to dial for it, and among whom it has a place. */
static int on_path(ngtcp2_conn *ng, uint32_t flags, const ngtcp2_path *path, WR_QUIC_OLD_PATH
                   ngtcp2_path_validation_result result, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    struct wr_addr local, remote;
    (void)ng;
    (void)flags;
    bool good = result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS;
    qc->settling = WR_QUIC_ABORTS && good && !qc->conn.outbound;
    if (!good || qc->conn.outbound)
        return 0;
    wr_addr_from_sockaddr(path->remote.addr, &remote);
    wr_addr_from_sockaddr(path->local.addr, &local);
    if (wr_addr_equal(&remote, &qc->conn.remote) && wr_addr_equal(&local, &qc->conn.local))
        return 0;
    count_move(qc, &local, &remote);
    qc->conn.remote = remote;
    qc->conn.local = local;
    wr_conn_moved(&qc->conn);
    return 0;
}

/* Whose packets are being read: the callback that opens them is told of none. */
static _Thread_local struct wr_quic_conn *reader;

struct wr_quic_conn *wr_quic_conn_reads(struct wr_quic_conn *qc)
{
    struct wr_quic_conn *before = reader;
    reader = qc;
    return before;
}

static int on_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                      const uint8_t *sealed, size_t len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *head, size_t head_len)
{
    int rc = wr_quic_keys_decrypt(dest, aead, ctx, sealed, len, nonce, nonce_len, head, head_len);
    if (!WR_QUIC_ABORTS || rc != 0)
        return rc;
    struct wr_bytes frames = WR_BYTES(dest, len - aead->max_overhead);
    unsigned asked = wr_quic_frames_ask(frames);
    if (asked & WR_QUIC_FRAMES_RETIRE)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    switch (wr_quic_order_note(&reader->order, ctx->native_handle, WR_BYTES(nonce, nonce_len),
                               WR_BYTES(head, head_len), asked & WR_QUIC_FRAMES_ACK)) {
    case WR_QUIC_ORDER_HEAR:
        break;
    case WR_QUIC_ORDER_MUTE:
        wr_quic_frames_mute(dest, frames.len);
        break;
    case WR_QUIC_ORDER_DROP:
        return NGTCP2_ERR_DECRYPT;    /* ngtcp2 goes on without it */
    }
    return 0;
}

static int on_update_key(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx,
                         uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx, uint8_t *tx_iv, const uint8_t *rx_now,
                         const uint8_t *tx_now, size_t len, void *user_data)
{
    struct wr_quic_conn *qc = user_data;
    int rc = wr_quic_keys_update(ng, rx_secret, tx_secret, rx, rx_iv, tx, tx_iv, rx_now, tx_now, len, user_data);
    if (rc == 0)
        wr_quic_order_key(&qc->order, rx->native_handle, WR_BYTES(rx_iv, WR_QUIC_IV));
    return rc;
}

static int on_challenge(ngtcp2_conn *ng, uint8_t *data, void *user_data)
{
    ((struct wr_quic_conn *)user_data)->challenged = true;
    return ngtcp2_crypto_get_path_challenge_data_cb(ng, data, user_data);
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = on_crypto,
    .handshake_completed = on_handshake,
    .encrypt = wr_quic_keys_encrypt,
    .decrypt = on_decrypt,
    .hp_mask = wr_quic_keys_mask,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_stream_acked,
    .stream_open = on_stream_open,
    .stream_close = on_stream_close,
    .recv_stateless_reset = on_stateless_reset,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .extend_max_local_streams_bidi = on_more_streams,
    .rand = on_rand,
    .get_new_connection_id = on_new_id,
    .remove_connection_id = on_old_id,
    .update_key = on_update_key,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_more_data,
    .dcid_status = on_peer_id,
    .handshake_confirmed = on_confirmed,
    .delete_crypto_aead_ctx = wr_quic_keys_drop,
    .delete_crypto_cipher_ctx = wr_quic_keys_drop_mask,
    .get_path_challenge_data = on_challenge,
    .path_validation = on_path,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

/* ---- birth --------------------------------------------------------------------------------------- */

static struct wr_quic_conn *create(struct wr_quic *q, struct wr_quic_sock *sock, bool outbound)
{
    struct wr_quic_conn *qc = wr_alloc(sizeof(*qc));
    if (!qc)
        return NULL;
    wr_conn_init(&qc->conn, q->ctx, &wr_quic_mux_ops);
    wr_quic_mem_init(&qc->mem, &qc->conn, &q->pool);
    qc->conn.outbound = outbound;
    qc->conn.udp = true;
    qc->conn.port_reused = sock->listening;
    qc->q = q;
    wr_quic_sock_use(&qc->sock, sock);
    qc->window = WR_QUIC_CONN_WINDOW;
    qc->send_cap = WR_QUIC_SEND_MIN;
    qc->send_max = WR_QUIC_SEND_MAX;
    qc->ref = (ngtcp2_crypto_conn_ref){.get_conn = get_ng, .user_data = qc};
    wr_list_init(&qc->ids);
    wr_list_init(&qc->streams);
    wr_list_init(&qc->ready);
    wr_list_init(&qc->starved);
    wr_list_init(&qc->jam_node);
    wr_list_init(&qc->all);
    wr_list_append(&q->conns, &qc->all);
    return qc;
}

static void set_settings(struct wr_quic_conn *qc, ngtcp2_settings *settings, ngtcp2_transport_params *params)
{
    static const ngtcp2_cc_algo cc_of[] = {[WR_QUIC_CUBIC] = NGTCP2_CC_ALGO_CUBIC,
                                           [WR_QUIC_RENO] = NGTCP2_CC_ALGO_RENO,
                                           [WR_QUIC_BBR] = NGTCP2_CC_ALGO_BBR,
                                           [WR_QUIC_BBR2] = NGTCP2_CC_ALGO_BBR2};
    uint64_t streams = qc->q->ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max;
    ngtcp2_settings_default(settings);
    settings->initial_ts = wr_quic_now(qc);
    settings->rand_ctx.native_handle = qc->q->env;
    settings->max_tx_udp_payload_size = WR_QUIC_DATAGRAM;
    settings->handshake_timeout = WR_QUIC_HANDSHAKE;
    settings->cc_algo = cc_of[qc->q->cc];
    if (qc->q->first_rtt)
        settings->initial_rtt = (ngtcp2_duration)qc->q->first_rtt;
    /* Windows are grown here, under the node's budget, not by ngtcp2. */
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = WR_QUIC_STREAM_WINDOW;
    params->initial_max_stream_data_bidi_remote = WR_QUIC_STREAM_WINDOW;
    params->initial_max_data = WR_QUIC_CONN_WINDOW;
    params->initial_max_streams_bidi = qc->allowed = streams;
    params->initial_max_streams_uni = 0;
    params->max_idle_timeout = WR_QUIC_IDLE;
    params->active_connection_id_limit = 4;    /* quic-go; ngtcp2 keeps as many spare for a move */
}

/* The ClientHello was read. GnuTLS leaves it to us to miss a name or the transport parameters (RFC 9001 section 8),
 * and ngtcp2 0.12.1 aborts the process when it is to send without the latter. */
static int on_hello(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                    const gnutls_datum_t *message)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    gnutls_datum_t name;
    (void)type, (void)when, (void)incoming, (void)message;
    if (gnutls_alpn_get_selected_protocol(session, &name) < 0)
        return GNUTLS_E_NO_APPLICATION_PROTOCOL;
    return ngtcp2_conn_get_remote_transport_params(ref->get_conn(ref)) ? 0 : GNUTLS_E_MISSING_EXTENSION;
}

static int start_tls(struct wr_quic_conn *qc, bool dialer)
{
    int rc = wr_tlsctx_session(qc->q->ctx->tls, WR_TLSCTX_QUIC, dialer, &qc->tls);
    if (rc != 0) {
        qc->tls = NULL;
        return rc;
    }
    gnutls_session_set_ptr(qc->tls, &qc->ref);
    gnutls_session_set_verify_function(qc->tls, verify);
    if (!dialer)
        gnutls_handshake_set_hook_function(qc->tls, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST, on_hello);
    rc = dialer ? ngtcp2_crypto_gnutls_configure_client_session(qc->tls)
                : ngtcp2_crypto_gnutls_configure_server_session(qc->tls);
    wr_quic_keys_hook(qc->tls);
    return rc == 0 ? 0 : WR_ELIMIT;
}

/* The swarm never saw it. */
static struct wr_quic_conn *undo(struct wr_quic_conn *qc)
{
    if (qc)
        wr_quic_conn_release(&qc->conn);
    return NULL;
}

struct wr_quic_conn *wr_quic_conn_dial(struct wr_quic *q, struct wr_quic_sock *sock,
                                       const struct wr_addr *local, const struct wr_addr *to,
                                       const struct wr_peerid *expect, int *err)
{
    struct wr_quic_conn *qc = create(q, sock, true);
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    struct wr_quic_path path;
    ngtcp2_cid scid, dcid;
    uint8_t random[WR_QUIC_CID + NGTCP2_MIN_INITIAL_DCIDLEN + 8];
    *err = WR_ELIMIT;
    if (!qc || start_tls(qc, true) != 0)
        return undo(qc);
    if (expect && !(qc->expect = wr_memdup(expect, sizeof(*expect))))
        return undo(qc);
    qc->conn.local = *local;
    qc->conn.remote = qc->towards = *to;
    wr_env_random(q->env, random, sizeof(random));
    ngtcp2_cid_init(&scid, random, WR_QUIC_CID);
    ngtcp2_cid_init(&dcid, random + WR_QUIC_CID, sizeof(random) - WR_QUIC_CID);
    if (wr_quic_id_add(qc, WR_QUIC_ID_CID, scid.data, scid.datalen) != 0)
        return undo(qc);
    set_settings(qc, &settings, &params);
    wr_quic_make_path(&path, local, to);
    if (ngtcp2_conn_client_new(&qc->ng, &dcid, &scid, &path.path, NGTCP2_PROTO_VER_V1, &callbacks,
                               &settings, &params, &qc->mem.mem, qc) != 0) {
        qc->ng = NULL;    /* it was set, and what it led to is freed */
        return undo(qc);
    }
    ngtcp2_conn_set_tls_native_handle(qc->ng, qc->tls);
    return qc;
}

struct wr_quic_conn *wr_quic_conn_accept(struct wr_quic *q, struct wr_quic_sock *sock,
                                         const struct wr_quic_first *first)
{
    struct wr_quic_conn *qc = create(q, sock, false);
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    struct wr_quic_path path;
    ngtcp2_cid scid;
    uint8_t random[WR_QUIC_CID];
    if (!qc || start_tls(qc, false) != 0)
        return undo(qc);
    qc->conn.local = first->local;
    qc->conn.remote = qc->towards = first->remote;
    wr_env_random(q->env, random, sizeof(random));
    ngtcp2_cid_init(&scid, random, sizeof(random));
    /* The client goes on using the id it chose until it has heard ours, and a long ClientHello takes two
     * packets. */
    if (wr_quic_id_add(qc, WR_QUIC_ID_CID, scid.data, scid.datalen) != 0 ||
        wr_quic_id_add(qc, WR_QUIC_ID_CID, first->hd->dcid.data, first->hd->dcid.datalen) != 0)
        return undo(qc);
    set_settings(qc, &settings, &params);
    wr_quic_compat_set_original(&params, &first->original);
    if (first->retried) {
        params.retry_scid = first->hd->dcid;
        params.retry_scid_present = 1;
        /* For ngtcp2 whoever has a token has proved his address: it answers beyond three times what came. */
        wr_quic_compat_set_token(&settings, wr_quic_compat_token(first->hd));
    }
    if (ngtcp2_crypto_generate_stateless_reset_token(params.stateless_reset_token, q->reset_secret,
                                                     sizeof(q->reset_secret), &scid) == 0)
        params.stateless_reset_token_present = 1;
    wr_quic_make_path(&path, &first->local, &first->remote);
    if (ngtcp2_conn_server_new(&qc->ng, &first->hd->scid, &scid, &path.path, first->hd->version, &callbacks,
                               &settings, &params, &qc->mem.mem, qc) != 0) {
        qc->ng = NULL;    /* it was set, and what it led to is freed */
        return undo(qc);
    }
    ngtcp2_conn_set_tls_native_handle(qc->ng, qc->tls);
    return qc;
}

/* ---- receiving ----------------------------------------------------------------------------------- */

/* The handshake is behind both of us: the TLS session holds 10 KiB that nobody needs. */
static void drop_tls(struct wr_quic_conn *qc)
{
    ngtcp2_conn_set_tls_native_handle(qc->ng, NULL);
    gnutls_deinit(qc->tls);
    qc->tls = NULL;
    qc->confirmed = false;
}

/* A new path has a window of its own, which is no judgement on the old one's. */
static void note_path(struct wr_quic_conn *qc, struct wr_quic_sock *sock, const ngtcp2_path *path)
{
    struct wr_addr remote;
    wr_addr_from_sockaddr(ngtcp2_conn_get_path(qc->ng)->remote.addr, &remote);
    /* A listener does not move, and what comes by another way to who dialled it need not be its. */
    if (qc->sock != sock && (!qc->conn.outbound || ngtcp2_path_eq(path, ngtcp2_conn_get_path(qc->ng))))
        wr_quic_sock_use(&qc->sock, sock);
    if (!wr_addr_equal(&remote, &qc->towards))
        qc->cwnd_seen = 0;
    qc->towards = remote;
}

/* What callbacks left to do. */
static void after_work(struct wr_quic_conn *qc)
{
    /* No callback tells of credit for the whole connection. */
    if (!wr_list_empty(&qc->starved) && ngtcp2_conn_get_max_data_left(qc->ng) > 0) {
        for (struct wr_list *it; (it = wr_list_pop(&qc->starved));)
            wr_list_append(&qc->ready, it);
    }
    if (qc->data_came && (qc->silence == 0 || qc->asked || (qc->talk && qc->came >= TRANSFER)))
        expect_data(qc);
    qc->data_came = false;
    if (qc->confirmed && qc->tls)
        drop_tls(qc);
    wr_quic_conn_want_flush(qc);
}

/* Whether a packet by another path than the one in use is read; else it is as if lost. */
static bool may_stray(const struct wr_quic_conn *qc)
{
    return !WR_QUIC_ABORTS || (!qc->settling && qc->strays < WR_QUIC_STRAYS_MAX);
}

/* A NAT that forgets costs nothing: the peer goes on with the ids in use, and all that comes takes the new
 * path. What was overtaken on the old one comes in a row, which may cost one. Whether a packet was the peer's
 * at all nobody tells: whoever sees its ids can use this up, and hears nothing for it. */
static void count_stray(struct wr_quic_conn *qc, const ngtcp2_path *path)
{
    struct wr_addr local, remote;
    wr_time now = wr_env_now(qc->q->env);
    if (!qc->renamed && ngtcp2_path_eq(path, ngtcp2_conn_get_path(qc->ng)))
        return;
    wr_addr_from_sockaddr(path->local.addr, &local);
    wr_addr_from_sockaddr(path->remote.addr, &remote);
    if (wr_addr_equal(&local, &qc->stray_local) && wr_addr_equal(&remote, &qc->stray_remote) &&
        now - qc->stray_at < (wr_time)ngtcp2_conn_get_pto(qc->ng))
        return;
    qc->strays++;
    qc->stray_local = local;
    qc->stray_remote = remote;
    qc->stray_at = now;
}

void wr_quic_conn_input(struct wr_quic_conn *qc, struct wr_quic_sock *sock, const ngtcp2_path *path,
                        uint8_t ecn, const uint8_t *data, size_t len)
{
    ngtcp2_pkt_info pi = {.ecn = ecn};
    if (qc->over || wr_quic_conn_ends(qc))
        return;
    qc->conn.bytes_in += len;
    bool stray = !qc->conn.outbound && !ngtcp2_path_eq(path, ngtcp2_conn_get_path(qc->ng));
    if (stray && !may_stray(qc))
        return;
    qc->renamed = false;
    qc->inside = true;
    wr_quic_conn_reads(qc);
    int rc = ngtcp2_conn_read_pkt(qc->ng, path, &pi, data, len, wr_quic_now(qc));
    qc->inside = false;
    if (qc->close_wanted && !qc->over) {
        close_now(qc);
        return;
    }
    if (qc->over)
        return;
    if (rc == 0 && qc->mem.ends)
        rc = NGTCP2_ERR_NOMEM;
    if (rc != 0) {
        wr_quic_conn_fail(qc, rc);
        return;
    }
    if (stray)
        count_stray(qc, path);
    qc->heard_at = wr_env_now(qc->q->env);
    qc->probes = 0;
    qc->mute_at = 0;
    wr_conn_mute(&qc->conn, false);
    note_path(qc, sock, path);
    after_work(qc);
}

bool wr_quic_conn_move(struct wr_quic_conn *qc, struct wr_quic_sock *sock, const struct wr_addr *local)
{
    const ngtcp2_transport_params *remote = ngtcp2_conn_get_remote_transport_params(qc->ng);
    struct wr_quic_path path;
    if (qc->over || !remote || remote->disable_active_migration)
        return false;
    wr_quic_make_path(&path, local, &qc->conn.remote);
    wr_time now = wr_env_now(qc->q->env);
    if (ngtcp2_conn_initiate_immediate_migration(qc->ng, &path.path, wr_quic_now(qc)) != 0)
        return false;
    wr_quic_sock_use(&qc->sock, sock);
    qc->cwnd_seen = 0;
    count_move(qc, local, &qc->conn.remote);
    qc->conn.local = *local;
    qc->conn.begun_at = now;
    qc->moved_until = now + 2 * qc->rtt;
    qc->follow_by = qc->moved_until + (wr_time)ngtcp2_conn_get_pto(qc->ng);
    wr_quic_conn_want_flush(qc);
    return true;
}
