#include "autonat/ask.h"

#include <string.h>

static void finish(struct wr_ask *a, enum wr_ask_result result)
{
    wr_msg_close(&a->msg);
    a->on_done(a, result);
}

/* ---- version 2 ------------------------------------------------------------------------------------- */

static enum wr_ask_result judge(const struct wr_autonat_msg *m)
{
    if (m->status == WR_AUTONAT_REJECTED || m->status == WR_AUTONAT_REFUSED)
        return WR_ASK_REFUSED;
    if (m->status != WR_AUTONAT_OK || m->index != 0)
        return WR_ASK_BROKEN;
    switch (m->dial_status) {
    case WR_AUTONAT_DIAL_OK:
        return WR_ASK_REACHED;
    case WR_AUTONAT_DIAL_BACK_ERROR:
        return WR_ASK_BACK_ERROR;
    case WR_AUTONAT_DIAL_ERROR:
        return WR_ASK_FAILED;
    default:
        return WR_ASK_BROKEN;
    }
}

/* Once for each question, and no more than the bound: what a server can make us send has an end. */
static bool send_data(struct wr_ask *a, uint64_t wanted)
{
    static const uint8_t zeros[WR_AUTONAT_CHUNK];
    struct wr_buf body;
    bool ok = !a->data_sent && wanted > 0 && wanted <= WR_ASK_DATA_MAX;
    a->data_sent = true;
    wr_buf_init(&body, WR_AUTONAT_MSG_MAX);
    while (ok && wanted) {
        size_t len = wanted < WR_AUTONAT_CHUNK ? (size_t)wanted : WR_AUTONAT_CHUNK;
        struct wr_autonat_msg m = {.type = WR_AUTONAT_DATA_RESPONSE, .data = WR_BYTES(zeros, len)};
        wr_buf_reset(&body);
        wr_autonat_msg_encode(&m, &body);
        ok = !body.full && wr_msg_send(&a->msg, wr_buf_bytes(&body)) == 0;
        a->data_bytes += len;
        wanted -= len;
    }
    wr_buf_clear(&body);
    return ok;
}

static void on_v2(struct wr_ask *a, struct wr_bytes body)
{
    struct wr_autonat_msg m;
    if (wr_autonat_msg_decode(body, &m) < 0) {
        finish(a, WR_ASK_BROKEN);
    } else if (m.type == WR_AUTONAT_DIAL_RESPONSE) {
        a->stranger = m.stranger;
        a->unwilling = m.status == WR_AUTONAT_REFUSED;
        finish(a, judge(&m));
    } else if (m.type != WR_AUTONAT_DATA_REQUEST || m.index != 0 || !send_data(a, m.bytes)) {
        finish(a, WR_ASK_BROKEN);
    }
}

/* ---- version 1 ------------------------------------------------------------------------------------- */

static void on_v1(struct wr_ask *a, struct wr_bytes body)
{
    struct wr_autonat_v1_msg m;
    if (wr_autonat_msg_decode_v1(body, &m) < 0 || !m.response)
        finish(a, WR_ASK_BROKEN);
    else if (m.status == WR_AUTONAT_V1_OK)
        finish(a, WR_ASK_REACHED);
    else if (m.status == WR_AUTONAT_V1_DIAL_ERROR)
        finish(a, WR_ASK_FAILED);
    else
        finish(a, m.status == WR_AUTONAT_V1_REFUSED ? WR_ASK_REFUSED : WR_ASK_BROKEN);
}

/* ---- both ------------------------------------------------------------------------------------------ */

static void on_message(struct wr_msg *msg, struct wr_bytes body)
{
    struct wr_ask *a = wr_list_entry(msg, struct wr_ask, msg);
    if (a->v1)
        on_v1(a, body);
    else
        on_v2(a, body);
}

static void on_close(struct wr_msg *msg, int err)
{
    struct wr_ask *a = wr_list_entry(msg, struct wr_ask, msg);
    (void)err;
    a->on_done(a, WR_ASK_BROKEN);
}

static void encode(const struct wr_ask *a, const struct wr_ask_question *q, struct wr_buf *body)
{
    struct wr_bytes peer = q->peer ? wr_peerid_bytes(q->peer) : WR_BYTES_NONE;
    if (a->v1) {
        struct wr_autonat_v1_msg m = {.peer = peer, .addr_count = 1, .addrs = {wr_maddr_bytes(q->addr)}};
        wr_autonat_msg_encode_v1(&m, body);
        return;
    }
    struct wr_autonat_msg m = {.type = WR_AUTONAT_DIAL_REQUEST,
                               .nonce = q->nonce,
                               .stranger = q->stranger,
                               .peer = peer,
                               .addr_count = 1,
                               .addrs = {wr_maddr_bytes(q->addr)}};
    wr_autonat_msg_encode(&m, body);
}

int wr_ask_start(struct wr_ask *a, struct wr_env *env, struct wr_conn *conn, const char *protocol,
                 const struct wr_ask_question *question,
                 void (*on_done)(struct wr_ask *a, enum wr_ask_result result))
{
    static const struct wr_msg_ops ops = {.on_message = on_message, .on_close = on_close};
    static const struct wr_stream_ops none = {.on_open = NULL};
    static const char *const offers[][2] = {
        {WR_AUTONAT_REQUEST, NULL}, {WR_AUTONAT_V1, NULL}, {WR_AUTONAT_STRANGER, NULL}, {WR_AUTONAT_WAKE, NULL}};
    size_t i = sizeof(offers) / sizeof(offers[0]) - 1;
    while (i > 0 && strcmp(protocol, offers[i][0]) != 0)
        i--;
    const char *const *offer = offers[i];
    struct wr_buf body;
    int err;
    *a = (struct wr_ask){.v1 = strcmp(offer[0], WR_AUTONAT_V1) == 0, .on_done = on_done};
    struct wr_stream *s = wr_conn_open_stream(conn, offer, &none, NULL, &err);
    if (!s)
        return err;
    wr_msg_start(&a->msg, env, s, WR_AUTONAT_MSG_MAX, &ops);
    wr_msg_deadline(&a->msg, wr_env_now(env) + WR_ASK_TIMEOUT);
    wr_buf_init(&body, WR_AUTONAT_SENT_MAX);
    encode(a, question, &body);
    err = body.full ? WR_ELIMIT : wr_msg_send(&a->msg, wr_buf_bytes(&body));
    wr_buf_clear(&body);
    if (err != 0)
        wr_msg_reset(&a->msg, WR_STREAM_OK);
    return err;
}

void wr_ask_cancel(struct wr_ask *a)
{
    if (wr_msg_open(&a->msg))
        wr_msg_reset(&a->msg, WR_STREAM_OK);
}
