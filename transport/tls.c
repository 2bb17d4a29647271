#include "transport/tls_impl.h"

#include "transport/err.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

struct wr_tls {
    struct wr_tls_config config;
    gnutls_session_t session; /* owned */
    bool dialer;
    struct wr_bytes *in; /* during a call */
    struct wr_buf *out;
    size_t received; /* bytes, of WR_TLS_HANDSHAKE_IN_MAX */
    struct wr_tlsctx_peer peer;
    int verdict; /* on the peer's certificate; 0 good */
    bool judged;
    const char *why;
    uint8_t send[WR_TLS_SECRET_MAX], recv[WR_TLS_SECRET_MAX]; /* traffic secrets */
    size_t secret_len;                                        /* 0: not known yet */
};

/* ---- what GnuTLS calls ---------------------------------------------------------------------- */

/* Always takes all, so that no call of GnuTLS is ever half done; a full buffer shows afterwards. */
static ssize_t push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
    struct wr_tls *t = arg;
    wr_buf_put(t->out, data, len);
    return (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
    struct wr_tls *t = arg;
    size_t take = t->in && t->in->len < len ? t->in->len : len;
    if (!t->in || take == 0) {
        gnutls_transport_set_errno(t->session, EAGAIN);
        return -1;
    }
    memcpy(data, wr_bytes_take(t->in, take).ptr, take);
    t->received += take;
    return (ssize_t)take;
}

static int pull_ready(gnutls_transport_ptr_t arg, unsigned ms)
{
    const struct wr_tls *t = arg;
    (void)ms;
    return t->in && t->in->len ? 1 : 0;
}

/* After the peer has shown that it holds the certificate's key. */
static int verify(gnutls_session_t session)
{
    struct wr_tls *t = gnutls_session_get_ptr(session);
    t->judged = true;
    t->verdict = wr_tlsctx_verify(t->config.ctx, session, t->config.now, t->config.expect, &t->peer,
                                  &t->why);
    return t->verdict == 0 ? 0 : -1;
}

static int on_secret(gnutls_session_t session, gnutls_record_encryption_level_t level,
                     const void *recv, const void *send, size_t len)
{
    struct wr_tls *t = gnutls_session_get_ptr(session);
    if (level != GNUTLS_ENCRYPTION_LEVEL_APPLICATION)
        return 0;
    if (len > WR_TLS_SECRET_MAX)
        return -1;
    if (recv)
        memcpy(t->recv, recv, len);
    if (send)
        memcpy(t->send, send, len);
    t->secret_len = len;
    return 0;
}

/* ---- the handshake -------------------------------------------------------------------------- */

static int of_gnutls(struct wr_tls *t, int rc)
{
    if (t->judged && t->verdict < 0)
        return t->verdict;
    t->why = gnutls_strerror(rc);
    switch (rc) {
    case GNUTLS_E_MEMORY_ERROR:
        return WR_ELIMIT;
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        return WR_EREFUSED;
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_CERTIFICATE_REQUIRED:
    case GNUTLS_E_PK_SIG_VERIFY_FAILED:
    case GNUTLS_E_DECRYPTION_FAILED:
        return WR_EAUTH;
    default:
        return WR_EPROTO;
    }
}

/* 1 done, 0 wants more, <0 over with the alert in out. */
static int handshake(struct wr_tls *t, struct wr_bytes *in, struct wr_buf *out)
{
    t->in = in;
    t->out = out;
    size_t left;
    int rc;
    /* It may stop at a record that it drops; as long as it eats, there may be more to do. */
    do {
        left = in ? in->len : 0;
        rc = gnutls_handshake(t->session);
    } while (rc == GNUTLS_E_AGAIN && in && in->len && in->len < left);
    if (rc < 0 && rc != GNUTLS_E_AGAIN)
        gnutls_alert_send_appropriate(t->session, rc);
    t->in = NULL;
    t->out = NULL;
    if (out->full)
        return WR_ELIMIT;
    if (rc == GNUTLS_E_SUCCESS)
        return 1;
    if (rc != GNUTLS_E_AGAIN)
        return of_gnutls(t, rc);
    t->why = "the handshake is too long";
    return t->received > WR_TLS_HANDSHAKE_IN_MAX ? WR_EPROTO : 0;
}

struct wr_tls *wr_tls_create(const struct wr_tls_config *config, bool dialer, struct wr_buf *out)
{
    struct wr_tls *t = wr_alloc(sizeof(*t));
    if (!t)
        return NULL;
    t->config = *config;
    t->dialer = dialer;
    if (wr_tlsctx_session(config->ctx, WR_TLSCTX_TCP, dialer, &t->session) < 0) {
        wr_free(t);
        return NULL;
    }
    gnutls_session_set_ptr(t->session, t);
    gnutls_session_set_verify_function(t->session, verify);
    gnutls_handshake_set_secret_function(t->session, on_secret);
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_push_function(t->session, push);
    gnutls_transport_set_pull_function(t->session, pull);
    gnutls_transport_set_pull_timeout_function(t->session, pull_ready);
    if (!dialer || handshake(t, NULL, out) == 0)
        return t;
    wr_tls_destroy(t);
    return NULL;
}

void wr_tls_destroy(struct wr_tls *t)
{
    if (!t)
        return;
    gnutls_deinit(t->session);
    sodium_memzero(t, sizeof(*t));
    wr_free(t);
}

static int cipher_of(gnutls_session_t session, enum wr_aead_cipher *out)
{
    switch (gnutls_cipher_get(session)) {
    case GNUTLS_CIPHER_AES_128_GCM:
        *out = WR_AEAD_AES128;
        return 0;
    case GNUTLS_CIPHER_AES_256_GCM:
        *out = WR_AEAD_AES256;
        return 0;
    case GNUTLS_CIPHER_CHACHA20_POLY1305:
        *out = WR_AEAD_CHACHA20;
        return 0;
    default:
        return WR_EPROTO;
    }
}

static int finish(struct wr_tls *t, struct wr_tls_result *result)
{
    enum wr_aead_cipher cipher;
    gnutls_datum_t name;
    /* The verify function ran, or there is no proof of anything. */
    assert(t->judged && t->verdict == 0 && t->secret_len);
    if (cipher_of(t->session, &cipher) < 0 ||
        gnutls_alpn_get_selected_protocol(t->session, &name) < 0)
        return WR_EPROTO;
    *result = (struct wr_tls_result){
        .peer = t->peer.id,
        .pubkey = t->peer.pubkey,
        .muxer_agreed =
            wr_bytes_equal(WR_BYTES(name.data, name.size), WR_BYTES_STR(WR_TLSCTX_ALPN_YAMUX)),
        .session = wr_tls_session_create(t->config.ctx, cipher, t->dialer, t->send, t->recv),
    };
    return result->session ? 1 : WR_ELIMIT;
}

int wr_tls_input(struct wr_tls *t, struct wr_bytes *in, struct wr_buf *out,
                 struct wr_tls_result *result)
{
    int rc = handshake(t, in, out);
    return rc == 1 ? finish(t, result) : rc;
}

const char *wr_tls_why(const struct wr_tls *t)
{
    return t->why ? t->why : "";
}
