/* TLS 1.3 records under traffic secrets: RFC 8446, sections 5 and 7. */
#include "transport/tls_impl.h"

#include "transport/err.h"
#include "transport/hkdf.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#define TYPE_ALERT       21 /* RFC 8446, section 5.1 */
#define TYPE_HANDSHAKE   22
#define TYPE_DATA        23
#define MESSAGE_HEADER   4 /* bytes: type and length; section 4 */
#define MESSAGE_TICKET   4
#define MESSAGE_UPDATE   24
#define UPDATE_REQUESTED 1 /* section 4.6.3 */

/* Alerts: section 6. */
#define ALERT_CLOSE_NOTIFY       0
#define ALERT_UNEXPECTED_MESSAGE 10
#define ALERT_BAD_RECORD_MAC     20
#define ALERT_INTERNAL_ERROR     80
#define ALERT_USER_CANCELED      90

/* ---- keys ----------------------------------------------------------------------------------- */

static gnutls_mac_algorithm_t hash_of(enum wr_aead_cipher cipher)
{
    return cipher == WR_AEAD_AES256 ? GNUTLS_MAC_SHA384 : GNUTLS_MAC_SHA256;
}

static size_t secret_len(enum wr_aead_cipher cipher)
{
    return cipher == WR_AEAD_AES256 ? 48 : 32;
}

static int expand(enum wr_aead_cipher cipher, const uint8_t *secret, const char *label,
                  uint8_t *out, size_t len)
{
    return wr_hkdf_label(hash_of(cipher), WR_BYTES(secret, secret_len(cipher)), label, out, len);
}

/* Key and nonce that follow from d->secret: section 7.3. */
static int derive(enum wr_aead_cipher cipher, struct wr_tls_direction *d)
{
    d->count = 0;
    int rc = expand(cipher, d->secret, "key", d->key, wr_aead_key_len(cipher));
    return rc < 0 ? rc : expand(cipher, d->secret, "iv", d->iv, sizeof(d->iv));
}

/* Section 7.2. */
static int next_secret(enum wr_aead_cipher cipher, struct wr_tls_direction *d)
{
    uint8_t next[WR_TLS_SECRET_MAX];
    int rc = expand(cipher, d->secret, "traffic upd", next, secret_len(cipher));
    if (rc == 0)
        memcpy(d->secret, next, secret_len(cipher));
    sodium_memzero(next, sizeof(next));
    return rc < 0 ? rc : derive(cipher, d);
}

struct wr_tls_session *wr_tls_session_create(struct wr_tlsctx *ctx, enum wr_aead_cipher cipher,
                                             bool dialer, const uint8_t *send, const uint8_t *recv)
{
    struct wr_tls_session *s = wr_alloc(sizeof(*s));
    if (!s)
        return NULL;
    s->cipher = cipher;
    s->dialer = dialer;
    s->engine = wr_tlsctx_aead(ctx, cipher);
    memcpy(s->send.secret, send, secret_len(cipher));
    memcpy(s->recv.secret, recv, secret_len(cipher));
    if (s->engine && derive(cipher, &s->send) == 0 && derive(cipher, &s->recv) == 0)
        return s;
    wr_tls_session_destroy(s);
    return NULL;
}

void wr_tls_session_destroy(struct wr_tls_session *s)
{
    if (!s)
        return;
    sodium_memzero(s, sizeof(*s));
    wr_free(s);
}

/* ---- sealing -------------------------------------------------------------------------------- */

/* Section 5.3. */
static void make_nonce(const struct wr_tls_direction *d, uint8_t nonce[static WR_AEAD_NONCE])
{
    memcpy(nonce, d->iv, WR_AEAD_NONCE);
    for (size_t i = 0; i < 8; i++)
        nonce[WR_AEAD_NONCE - 1 - i] ^= (uint8_t)(d->count >> 8 * i);
}

/* One record of what stands at record + WR_TLS_HEADER. Returns its size, or WR_ELIMIT. */
static int seal_record(struct wr_tls_session *s, uint8_t type, uint8_t *record, size_t len)
{
    uint8_t nonce[WR_AEAD_NONCE];
    uint8_t *body = record + WR_TLS_HEADER;
    size_t whole = len + 1 + WR_AEAD_TAG;
    assert(len <= WR_TLS_PLAIN_MAX);
    body[len] = type;
    record[0] = TYPE_DATA;
    record[1] = 3;
    record[2] = 3;
    record[3] = (uint8_t)(whole >> 8);
    record[4] = (uint8_t)whole;
    make_nonce(&s->send, nonce);
    int rc = wr_aead_seal(s->engine, s->send.key, nonce, WR_BYTES(record, WR_TLS_HEADER), body,
                          len + 1, body);
    if (rc < 0)
        return rc;
    s->send.count++;
    return (int)(WR_TLS_HEADER + whole);
}

/* Tells the peer that a new key follows, and takes it. */
static int seal_update(struct wr_tls_session *s, uint8_t *record)
{
    static const uint8_t message[] = {MESSAGE_UPDATE, 0, 0, 1, 0}; /* nothing is asked for */
    memcpy(record + WR_TLS_HEADER, message, sizeof(message));
    int size = seal_record(s, TYPE_HANDSHAKE, record, sizeof(message));
    if (size < 0)
        return size;
    assert(size == WR_TLS_KEY_UPDATE);
    int rc = next_secret(s->cipher, &s->send);
    s->update_owed = false;
    return rc < 0 ? rc : size;
}

int wr_tls_seal(struct wr_tls_session *s, uint8_t *record, size_t len)
{
    int before = 0;
    if (s->send.count >= WR_TLS_RECORDS_PER_KEY)
        s->update_owed = true;
    if (s->update_owed) {
        memmove(record + WR_TLS_KEY_UPDATE + WR_TLS_HEADER, record + WR_TLS_HEADER, len);
        before = seal_update(s, record);
        if (before < 0)
            return before;
    }
    int size = seal_record(s, TYPE_DATA, record + before, len);
    return size < 0 ? size : before + size;
}

static uint8_t alert_for(int err)
{
    switch (err) {
    case 0:
    case WR_ECLOSED:
        return ALERT_CLOSE_NOTIFY;
    case WR_EAUTH:
        return ALERT_BAD_RECORD_MAC;
    case WR_EPROTO:
        return ALERT_UNEXPECTED_MESSAGE;
    default:
        return ALERT_INTERNAL_ERROR;
    }
}

int wr_tls_farewell(struct wr_tls_session *s, int err, uint8_t *record)
{
    uint8_t alert = alert_for(err);
    record[WR_TLS_HEADER] = alert == ALERT_CLOSE_NOTIFY ? 1 : 2; /* warning, fatal */
    record[WR_TLS_HEADER + 1] = alert;
    return seal_record(s, TYPE_ALERT, record, 2);
}

/* ---- opening -------------------------------------------------------------------------------- */

int wr_tls_body_len(const uint8_t header[static WR_TLS_HEADER])
{
    size_t len = (size_t)header[3] << 8 | header[4];
    /* Everything is encrypted now; a change_cipher_spec may only stand within the handshake. */
    if (header[0] != TYPE_DATA || header[1] != 3 || header[2] != 3)
        return WR_EPROTO;
    return len > WR_AEAD_TAG && len <= WR_TLS_RECORD_MAX ? (int)len : WR_EPROTO;
}

static int alert_input(struct wr_bytes in)
{
    if (in.len != 2)
        return WR_EPROTO;
    if (in.ptr[1] == ALERT_CLOSE_NOTIFY)
        return WR_ECLOSED;
    return in.ptr[1] == ALERT_USER_CANCELED ? 0 : WR_EREFUSED;
}

/* The whole of a KeyUpdate, which ends its record because the next one is under the new key. */
static int update_input(struct wr_tls_session *s, bool last)
{
    uint8_t request = s->message[MESSAGE_HEADER];
    if (!last || request > UPDATE_REQUESTED)
        return WR_EPROTO;
    /* Deriving keys costs six times what a small record does, 70 ms for a megabyte of updates. */
    if (s->updated > (WR_TLS_UPDATES_MAX - 1) * WR_TLS_UPDATE_EVERY)
        return WR_EPROTO;
    s->updated = (uint16_t)(s->updated + WR_TLS_UPDATE_EVERY);
    s->message_len = 0;
    if (request == UPDATE_REQUESTED)
        s->update_owed = true;
    return next_secret(s->cipher, &s->recv);
}

/* A message's header is complete: what follows of it is skipped, or is one byte more. */
static int message_begun(struct wr_tls_session *s)
{
    const uint8_t *m = s->message;
    uint32_t len = (uint32_t)m[1] << 16 | (uint32_t)m[2] << 8 | m[3];
    if (m[0] == MESSAGE_UPDATE)
        return len == 1 ? 0 : WR_EPROTO;
    /* We offer no way to use tickets; a server may send some all the same. */
    if (m[0] != MESSAGE_TICKET || !s->dialer || len > WR_TLS_TICKET_MAX)
        return WR_EPROTO;
    s->skip = len;
    s->message_len = 0;
    return 0;
}

/* Messages after the handshake, in whatever records they come. */
static int handshake_input(struct wr_tls_session *s, struct wr_bytes in)
{
    int rc = in.len ? 0 : WR_EPROTO; /* section 5.1 */
    while (rc == 0 && in.len) {
        if (s->skip) {
            size_t take = s->skip < in.len ? s->skip : in.len;
            wr_bytes_take(&in, take);
            s->skip -= (uint32_t)take;
            continue;
        }
        s->message[s->message_len++] = *wr_bytes_take(&in, 1).ptr;
        if (s->message_len == MESSAGE_HEADER)
            rc = message_begun(s);
        else if (s->message_len > MESSAGE_HEADER)
            rc = update_input(s, in.len == 0);
    }
    return rc;
}

/* Whether a handshake message is in the middle: nothing else may come then; section 5.1. */
static bool in_message(const struct wr_tls_session *s)
{
    return s->message_len || s->skip;
}

int wr_tls_open(struct wr_tls_session *s, uint8_t *record, size_t len)
{
    uint8_t nonce[WR_AEAD_NONCE];
    uint8_t *body = record + WR_TLS_HEADER;
    if (s->recv.count == UINT64_MAX)
        return WR_ELIMIT;
    make_nonce(&s->recv, nonce);
    int rc = wr_aead_open(s->engine, s->recv.key, nonce, WR_BYTES(record, WR_TLS_HEADER), body, len,
                          body);
    if (rc < 0)
        return rc;
    s->recv.count++;
    size_t end = len - WR_AEAD_TAG;
    if (end > WR_TLS_PLAIN_MAX + 1) /* section 5.4 */
        return WR_EPROTO;
    while (end && body[end - 1] == 0)
        end--;
    if (end == 0)
        return WR_EPROTO;
    uint8_t type = body[--end];
    if (type == TYPE_DATA && end > 0 && !in_message(s)) {
        s->idle = 0;
        if (s->updated)
            s->updated--;
        return (int)end;
    }
    if (++s->idle > WR_TLS_IDLE_MAX || (in_message(s) && type != TYPE_HANDSHAKE))
        return WR_EPROTO;
    switch (type) {
    case TYPE_DATA:
        return 0;
    case TYPE_ALERT:
        return alert_input(WR_BYTES(body, end));
    case TYPE_HANDSHAKE:
        return handshake_input(s, WR_BYTES(body, end));
    default:
        return WR_EPROTO;
    }
}
