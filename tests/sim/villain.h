/* villain.h - a QUIC peer that is odd in one respect, in virtual time: ngtcp2 and GnuTLS do the
 * whole handshake with one thing changed, or a script answers each datagram by hand. For what a
 * dialler and a listener must bear.
 *
 *     struct villain_plan plan = {.params = garbage};        what is odd
 *     villain_start(&v, sim, &plan);                         ... dial v.addr, expecting v.id
 *     villain_call(&v, &node.addr);                          or have it dial, instead
 *     villain_pump(&v);                                      now and then: its timers
 *     villain_stop(&v); */
#ifndef VILLAIN_H
#define VILLAIN_H

#include "tests/sim/quic_world.h"

#include "tests/hostile/quic_initial.h"
#include "transport/quic_impl.h"
#include "transport/tlscert.h"
#include "transport/tlsctx.h"

#include <gnutls/abstract.h>
#include <stdio.h>
#include <stdlib.h>

#define VILLAIN_PARAMS   0x39      /* the extension's number; RFC 9001 section 8.2 */
#define VILLAIN_MSG_MAX  (1 << 18) /* bytes of a TLS message as changed */
#define VILLAIN_BULK     0xfe0d    /* an extension's number for private use; RFC 8446 section 11 */
#define VILLAIN_HELD_MAX 1452      /* bytes */
#define VILLAIN_FAT      12000     /* bytes of a large certificate's extension */

/* Types of TLS messages; RFC 8446 section 4. */
enum {
    TLS_CLIENT_HELLO = 1,
    TLS_SERVER_HELLO = 2,
    TLS_EXTENSIONS = 8,
    TLS_CERTIFICATE = 11,
    TLS_VERIFY = 15,
    TLS_FINISHED = 20
};

enum villain_cert {
    VILLAIN_GOOD,
    VILLAIN_PLAIN, /* says nothing of a peer */
    VILLAIN_OTHER, /* of another peer */
    VILLAIN_TWO,   /* a good one and one more */
    VILLAIN_LARGE, /* with an extension of VILLAIN_FAT bytes */
};

/* What happens to the first two datagrams of a call. */
enum villain_fate { VILLAIN_IN_ORDER, VILLAIN_SWAPPED, VILLAIN_FIRST_LOST, VILLAIN_SECOND_LOST };

struct villain;

struct villain_plan {
    const char *alpn; /* of a listener; NULL: libp2p */
    enum villain_cert cert;
    const char *groups; /* of a call: GnuTLS's words for the groups, of which the first is shared;
                           NULL: as ours */
    size_t bulk;        /* bytes by which the hello of a call is longer */
    enum villain_fate fate;
    /* Changes the transport parameters; empty: none are sent. */
    void (*params)(struct wr_buf *params);
    /* Changes a TLS message (whole, with its header of four bytes) on its way out; empty: it is not
     * sent. */
    void (*message)(struct villain *v, unsigned type, struct wr_buf *message);
    /* Answers a datagram by hand, instead of all that. */
    void (*script)(struct villain *v, const struct wr_dgram_in *in);
};

struct villain {
    const struct villain_plan *plan;
    struct sim_host *host;
    struct wr_env *env;
    struct wr_dgram *dgram;
    struct wr_maddr addr;
    struct wr_addr to; /* the dialler */
    struct wr_peerid id;
    struct wr_key key;
    struct wr_tlsctx *ctx;
    gnutls_certificate_credentials_t credentials;
    gnutls_pcert_st chain[2];
    unsigned chain_len;
    gnutls_privkey_t chain_key;
    ngtcp2_conn *ng; /* NULL until the first packet */
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    bool calls; /* it is the dialler */
    bool dead;  /* its own protocol engine gave up */
    unsigned hellos,
        first_flight; /* of a call: ClientHellos, datagrams before anything was heard */
    uint8_t held[VILLAIN_HELD_MAX]; /* a datagram that another one overtakes */
    size_t held_len;
    /* of the dialler's first packet, for scripts */
    uint8_t dcid[NGTCP2_MAX_CIDLEN], scid[NGTCP2_MAX_CIDLEN];
    size_t dcid_len, scid_len;
    unsigned heard, told;      /* datagrams */
    size_t token_len;          /* of the last first packet */
    uint8_t token[64], number; /* its bytes; of the next packet made by hand */
    size_t flip;               /* which byte of the flight a test changes */
    size_t flight;             /* bytes of TLS messages sent so far */
};

/* What the next packets say instead of what ngtcp2 puts into them, if that is not less; for callers
 * that may do anything. ngtcp2 tells its callback of no connection. */
static struct wr_bytes villain_instead;

static inline int villain_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                                  const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
                                  size_t len, const uint8_t *nonce, size_t nonce_len,
                                  const uint8_t *head, size_t head_len)
{
    uint8_t room[1500] = {0}; /* PADDING */
    if (villain_instead.len && villain_instead.len <= len && len <= sizeof(room)) {
        memcpy(room, villain_instead.ptr, villain_instead.len);
        plain = room;
    }
    return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, len, nonce, nonce_len, head, head_len);
}

/* ---- what it sends -------------------------------------------------------------------------- */

static inline void villain_send(struct villain *v, const uint8_t *data, size_t len)
{
    struct wr_dgram_out out = {.to = v->to, .data = data, .len = len, .segment = len};
    assert_int_equal(wr_dgram_send(v->dgram, &out), 0);
}

static inline void villain_tell(struct villain *v, const uint8_t *data, size_t len)
{
    enum villain_fate fate = v->plan->fate;
    unsigned n = v->told++;
    v->first_flight += v->heard == 0;
    if ((n == 0 && fate == VILLAIN_FIRST_LOST) || (n == 1 && fate == VILLAIN_SECOND_LOST))
        return;
    if (n == 0 && fate == VILLAIN_SWAPPED) {
        assert_true(len <= sizeof(v->held));
        memcpy(v->held, data, len);
        v->held_len = len;
        return;
    }
    villain_send(v, data, len);
    if (v->held_len)
        villain_send(v, v->held, v->held_len);
    v->held_len = 0;
}

/* A first packet of its own around any frames. */
static inline void villain_tell_frames(struct villain *v, const uint8_t *frames, size_t len)
{
    uint8_t packet[QUIC_INITIAL_MAX];
    struct quic_initial_packet p = {.frames = frames,
                                    .frames_len = len,
                                    .least = 1200,
                                    .number = v->number++,
                                    .scid = {'v', 'i', 'l', 'l', 'a', 'i', 'n'},
                                    .origin = v->dcid,
                                    .origin_len = v->dcid_len};
    assert_int_equal(v->scid_len, sizeof(p.dcid));
    memcpy(p.dcid, v->scid, sizeof(p.dcid));
    size_t size = quic_initial_seal(packet, &p);
    assert_true(size > 0);
    villain_tell(v, packet, size);
}

static inline void villain_write(struct villain *v)
{
    while (v->ng && !v->dead) {
        uint8_t packet[1452];
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi;
        ngtcp2_path_storage_zero(&ps);
        ngtcp2_ssize n = ngtcp2_conn_write_pkt(v->ng, &ps.path, &pi, packet, sizeof(packet),
                                               (ngtcp2_tstamp)wr_env_now(v->env));
        v->dead = n < 0;
        if (n <= 0)
            return;
        villain_tell(v, packet, (size_t)n);
    }
}

/* ---- TLS ------------------------------------------------------------------------------------ */

static inline int villain_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                                   gnutls_pcert_st **chain, unsigned *count,
                                   gnutls_ocsp_data_st **ocsp, unsigned *ocsp_count,
                                   gnutls_privkey_t *key, unsigned *flags)
{
    struct villain *v = ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(session))->user_data;
    (void)info, (void)ocsp;
    *chain = v->chain;
    *count = v->chain_len;
    *key = v->chain_key;
    *ocsp_count = 0;
    *flags = 0;
    return 0;
}

/* A certificate that anybody could have made. */
static inline void villain_plain_cert(gnutls_x509_crt_t *crt, gnutls_x509_privkey_t *key,
                                      int64_t now, size_t fat)
{
    uint8_t *blob = calloc(1, fat + 1);
    assert_non_null(blob);
    assert_int_equal(gnutls_x509_privkey_init(key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(*key, GNUTLS_PK_ECDSA,
                                                  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                                  0),
                     0);
    assert_int_equal(gnutls_x509_crt_init(crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(*crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(*crt, "\1\2", 2), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(*crt, (time_t)now - 3600), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(*crt, (time_t)now + 86400), 0);
    assert_int_equal(gnutls_x509_crt_set_key(*crt, *key), 0);
    if (fat)
        assert_int_equal(
            gnutls_x509_crt_set_extension_by_oid(*crt, "1.3.6.1.4.1.53594.9", blob, fat, 0), 0);
    assert_int_equal(gnutls_x509_crt_sign2(*crt, *crt, *key, GNUTLS_DIG_SHA256, 0), 0);
    free(blob);
}

static inline void villain_certify(struct villain *v)
{
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    struct wr_key other;
    uint8_t seed[WR_ED25519_SEED] = {77};
    enum villain_cert cert = v->plan->cert;
    int64_t now = wr_env_unix(v->env) / WR_SEC;
    wr_key_generate(&other, seed);
    if (cert == VILLAIN_PLAIN || cert == VILLAIN_LARGE)
        villain_plain_cert(&crt, &key, now, cert == VILLAIN_LARGE ? VILLAIN_FAT : 0);
    else
        assert_int_equal(wr_tlscert_make(cert == VILLAIN_OTHER ? &other : &v->key, now, &crt, &key),
                         0);
    v->chain_len = cert == VILLAIN_TWO ? 2 : 1;
    for (unsigned i = 0; i < v->chain_len; i++)
        assert_int_equal(gnutls_pcert_import_x509(&v->chain[i], crt, 0), 0);
    assert_int_equal(gnutls_privkey_init(&v->chain_key), 0);
    assert_int_equal(gnutls_privkey_import_x509(v->chain_key, key, GNUTLS_PRIVKEY_IMPORT_COPY), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    assert_int_equal(gnutls_certificate_allocate_credentials(&v->credentials), 0);
    gnutls_certificate_set_retrieve_function3(v->credentials, villain_retrieve);
}

static inline struct villain *villain_of(gnutls_session_t session)
{
    return ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(session))->user_data;
}

static inline int villain_params_in(gnutls_session_t session, const unsigned char *data, size_t len)
{
    struct villain *v = villain_of(session);
#if NGTCP2_VERSION_NUM < 0x010000
    return ngtcp2_conn_decode_remote_transport_params(v->ng, data, len) == 0 ? 0 : -1;
#else
    return ngtcp2_conn_decode_and_set_remote_transport_params(v->ng, data, len) == 0 ? 0 : -1;
#endif
}

static inline int villain_params_out(gnutls_session_t session, gnutls_buffer_t out)
{
    struct villain *v = villain_of(session);
    uint8_t room[256];
    struct wr_buf params;
    ngtcp2_ssize n = ngtcp2_conn_encode_local_transport_params(v->ng, room, sizeof(room));
    assert_true(n > 0);
    wr_buf_init(&params, VILLAIN_MSG_MAX);
    wr_buf_put(&params, room, (size_t)n);
    if (v->plan->params)
        v->plan->params(&params);
    assert_false(params.full);
    int len = (int)params.len;
    if (len)
        assert_int_equal(gnutls_buffer_append_data(out, params.data, params.len), 0);
    wr_buf_clear(&params);
    return len;
}

static inline int villain_secret(gnutls_session_t session, gnutls_record_encryption_level_t level,
                                 const void *rx, const void *tx, size_t len)
{
    struct villain *v = villain_of(session);
    ngtcp2_encryption_level at = ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(level);
    if (rx && ngtcp2_crypto_derive_and_install_rx_key(v->ng, NULL, NULL, NULL, at, rx, len) != 0)
        return -1;
    return tx && ngtcp2_crypto_derive_and_install_tx_key(v->ng, NULL, NULL, NULL, at, tx, len) != 0
               ? -1
               : 0;
}

static inline int villain_bulk_in(gnutls_session_t session, const unsigned char *data, size_t len)
{
    (void)session, (void)data, (void)len;
    return 0;
}

static inline int villain_bulk_out(gnutls_session_t session, gnutls_buffer_t out)
{
    size_t len = villain_of(session)->plan->bulk;
    uint8_t *bulk = calloc(1, len + 1);
    assert_non_null(bulk);
    assert_int_equal(gnutls_buffer_append_data(out, bulk, len), 0);
    free(bulk);
    return (int)len;
}

/* GnuTLS has a message for the other side. */
static inline int villain_message(gnutls_session_t session, gnutls_record_encryption_level_t level,
                                  gnutls_handshake_description_t type, const void *data, size_t len)
{
    struct villain *v = villain_of(session);
    struct wr_buf message;
    if (type == GNUTLS_HANDSHAKE_CHANGE_CIPHER_SPEC)
        return 0;
    v->hellos += type == GNUTLS_HANDSHAKE_CLIENT_HELLO;
    wr_buf_init(&message, VILLAIN_MSG_MAX);
    wr_buf_put(&message, data, len);
    if (v->plan->message)
        v->plan->message(v, (unsigned)type, &message);
    assert_false(message.full);
    v->flight += len;
    int rc = message.len
                 ? ngtcp2_conn_submit_crypto_data(
                       v->ng, ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(level),
                       message.data, message.len)
                 : 0;
    wr_buf_clear(&message);
    return rc;
}

static inline int villain_alert(gnutls_session_t session, gnutls_record_encryption_level_t level,
                                gnutls_alert_level_t severity, gnutls_alert_description_t alert)
{
    (void)session, (void)level, (void)severity, (void)alert;
    return 0;
}

static inline void villain_start_tls(struct villain *v)
{
    const char *alpn = v->plan->alpn;
    char priority[300];
    assert_int_equal(wr_tlsctx_session(v->ctx, WR_TLSCTX_QUIC, v->calls, &v->tls), 0);
    if (v->plan->groups) {
        snprintf(priority, sizeof(priority),
                 "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:%s:%%DISABLE_TLS13_COMPAT_MODE",
                 v->plan->groups);
        assert_int_equal(gnutls_priority_set_direct(v->tls, priority, NULL), 0);
    }
    assert_int_equal(gnutls_credentials_set(v->tls, GNUTLS_CRD_CERTIFICATE, v->credentials), 0);
    if (alpn) {
        gnutls_datum_t name = {(unsigned char *)(uintptr_t)alpn, (unsigned)strlen(alpn)};
        assert_int_equal(gnutls_alpn_set_protocols(v->tls, &name, 1, 0), 0);
    }
    gnutls_handshake_set_hook_function(v->tls, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_POST, NULL);
    gnutls_session_set_ptr(v->tls, &v->ref);
    gnutls_handshake_set_secret_function(v->tls, villain_secret);
    gnutls_handshake_set_read_function(v->tls, villain_message);
    gnutls_alert_set_read_function(v->tls, villain_alert);
    assert_int_equal(gnutls_session_ext_register(
                         v->tls, "parameters", VILLAIN_PARAMS, GNUTLS_EXT_TLS, villain_params_in,
                         villain_params_out, NULL, NULL, NULL,
                         GNUTLS_EXT_FLAG_TLS | GNUTLS_EXT_FLAG_CLIENT_HELLO | GNUTLS_EXT_FLAG_EE),
                     0);
    if (v->plan->bulk)
        assert_int_equal(
            gnutls_session_ext_register(v->tls, "bulk", VILLAIN_BULK, GNUTLS_EXT_APPLICATION,
                                        villain_bulk_in, villain_bulk_out, NULL, NULL, NULL,
                                        GNUTLS_EXT_FLAG_TLS | GNUTLS_EXT_FLAG_CLIENT_HELLO),
            0);
}

/* ---- QUIC ----------------------------------------------------------------------------------- */

static inline ngtcp2_conn *villain_ng(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct villain *)ref->user_data)->ng;
}

static inline void villain_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    wr_env_random(ctx->native_handle, dest, len);
}

static inline int villain_new_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len,
                                 void *user_data)
{
    struct villain *v = user_data;
    uint8_t bytes[NGTCP2_MAX_CIDLEN];
    (void)ng;
    wr_env_random(v->env, bytes, len);
    wr_env_random(v->env, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    ngtcp2_cid_init(cid, bytes, len);
    return 0;
}

static const ngtcp2_callbacks villain_callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .encrypt = villain_encrypt,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .rand = villain_rand,
    .get_new_connection_id = villain_new_id,
    .update_key = ngtcp2_crypto_update_key_cb,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

static inline void villain_settle(const struct villain *v, ngtcp2_settings *settings,
                                  ngtcp2_transport_params *params)
{
    ngtcp2_settings_default(settings);
    settings->initial_ts = (ngtcp2_tstamp)wr_env_now(v->env);
    settings->rand_ctx.native_handle = v->env;
    ngtcp2_transport_params_default(params);
    params->initial_max_data = params->initial_max_stream_data_bidi_remote = 1 << 20;
    params->initial_max_streams_bidi = 100;
}

static inline void villain_accept(struct villain *v, const ngtcp2_path *path, const uint8_t *data,
                                  size_t len)
{
    ngtcp2_pkt_hd hd;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid scid;
    if (ngtcp2_accept(&hd, data, len) != 0)
        return;
    villain_settle(v, &settings, &params);
    wr_quic_compat_set_original(&params, &hd.dcid);
    ngtcp2_cid_init(&scid, (const uint8_t *)"a villain", 8);
    villain_start_tls(v);
    assert_int_equal(ngtcp2_conn_server_new(&v->ng, &hd.scid, &scid, path, hd.version,
                                            &villain_callbacks, &settings, &params, NULL, v),
                     0);
    ngtcp2_conn_set_tls_native_handle(v->ng, v->tls);
}

/* What a script may want to know of a first packet. */
static inline void villain_note(struct villain *v, const struct wr_dgram_in *in)
{
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(in->data, in->len));
    uint8_t first = wr_read_u8(&r);
    if ((first & 0xf0) != 0xc0)
        return;
    wr_read_u32be(&r);
    struct wr_bytes dcid = wr_read_bytes(&r, wr_read_u8(&r)),
                    scid = wr_read_bytes(&r, wr_read_u8(&r));
    size_t token_len = wr_read_u8(&r); /* ours are short */
    struct wr_bytes token = wr_read_bytes(&r, token_len);
    assert_true(!r.bad && dcid.len <= sizeof(v->dcid) && scid.len <= sizeof(v->scid) &&
                token.len <= sizeof(v->token));
    if (v->heard == 1) {
        memcpy(v->dcid, dcid.ptr, dcid.len);
        memcpy(v->scid, scid.ptr, scid.len);
        v->dcid_len = dcid.len;
        v->scid_len = scid.len;
    }
    v->token_len = token.len;
    if (token.len)
        memcpy(v->token, token.ptr, token.len);
}

static inline void villain_hear(void *arg, const struct wr_dgram_in *in)
{
    struct villain *v = arg;
    struct wr_quic_path path;
    ngtcp2_pkt_info pi = {0};
    v->heard++;
    v->to = in->from;
    if (!v->calls)
        villain_note(v, in);
    if (v->plan->script) {
        v->plan->script(v, in);
        return;
    }
    wr_quic_make_path(&path, &in->to, &in->from);
    if (!v->ng)
        villain_accept(v, &path.path, in->data, in->len);
    if (!v->ng || v->dead)
        return;
    v->dead = ngtcp2_conn_read_pkt(v->ng, &path.path, &pi, in->data, in->len,
                                   (ngtcp2_tstamp)wr_env_now(v->env)) != 0;
    villain_write(v);
}

static inline void villain_ready(void *arg)
{
    (void)arg;
}

static inline void villain_pump(struct villain *v)
{
    ngtcp2_tstamp now = (ngtcp2_tstamp)wr_env_now(v->env);
    if (!v->ng || v->dead || ngtcp2_conn_get_expiry(v->ng) > now)
        return;
    v->dead = ngtcp2_conn_handle_expiry(v->ng, now) != 0;
    villain_write(v);
}

/* ---- life ----------------------------------------------------------------------------------- */

static inline void villain_start(struct villain *v, struct sim *sim,
                                 const struct villain_plan *plan)
{
    static const struct wr_dgram_ops ops = {.on_receive = villain_hear,
                                            .on_writable = villain_ready};
    uint8_t seed[WR_ED25519_SEED] = {66}, memory[64];
    struct wr_buf pubkey;
    *v = (struct villain){.plan = plan};
    v->host = sim_host_add(sim, &(struct sim_host_options){.name = "villain"});
    v->env = sim_host_env(v->host);
    v->ref = (ngtcp2_crypto_conn_ref){.get_conn = villain_ng, .user_data = v};
    wr_key_generate(&v->key, seed);
    wr_buf_over(&pubkey, memory, sizeof(memory));
    wr_key_encode_public(&v->key, &pubkey);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &v->id), 0);
    v->ctx = wr_tlsctx_create(&v->key, wr_env_unix(v->env) / WR_SEC);
    assert_non_null(v->ctx);
    villain_certify(v);
    struct wr_addr at = {.ip = *sim_host_ip4(v->host), .port = 4001};
    assert_int_equal(wr_env_dgram(v->env, &at, &ops, v, &v->dgram), 0);
    assert_int_equal(wr_maddr_from_addr(&at, true, &v->addr), 0);
}

static inline void villain_call(struct villain *v, const struct wr_maddr *at)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid scid, dcid;
    struct wr_quic_path path;
    struct wr_addr here;
    uint8_t ids[24];
    assert_true(wr_maddr_addr(wr_maddr_bytes(at), &v->to));
    wr_dgram_addr(v->dgram, &here);
    wr_quic_make_path(&path, &here, &v->to);
    v->calls = true;
    villain_settle(v, &settings, &params);
    villain_start_tls(v);
    wr_env_random(v->env, ids, sizeof(ids));
    ngtcp2_cid_init(&scid, ids, 8);
    ngtcp2_cid_init(&dcid, ids + 8, 16);
    assert_int_equal(ngtcp2_conn_client_new(&v->ng, &dcid, &scid, &path.path, NGTCP2_PROTO_VER_V1,
                                            &villain_callbacks, &settings, &params, NULL, v),
                     0);
    ngtcp2_conn_set_tls_native_handle(v->ng, v->tls);
    villain_write(v);
}

/* One more packet with these frames, once the handshake of a call is over. */
static inline void villain_say(struct villain *v, struct wr_bytes frames)
{
    static const uint8_t filler[1200];
    uint8_t packet[1452];
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ssize taken;
    int64_t id = 0;
    size_t len = frames.len < sizeof(filler) ? frames.len : sizeof(filler);
    if (v->dead || len == 0 || !ngtcp2_conn_get_handshake_completed(v->ng))
        return;
    (void)ngtcp2_conn_open_bidi_stream(v->ng, &id, NULL); /* there are enough of them */
    ngtcp2_path_storage_zero(&ps);
    villain_instead = WR_BYTES(frames.ptr, len);
    ngtcp2_ssize n = ngtcp2_conn_write_stream(v->ng, &ps.path, &pi, packet, sizeof(packet), &taken,
                                              NGTCP2_WRITE_STREAM_FLAG_NONE, id, filler, len,
                                              (ngtcp2_tstamp)wr_env_now(v->env));
    villain_instead = WR_BYTES_NONE;
    v->dead = n < 0;
    if (n > 0)
        villain_tell(v, packet, (size_t)n);
}

/* Forgets the connection; the next call is the first again. */
static inline void villain_forget(struct villain *v)
{
    if (v->ng)
        ngtcp2_conn_del(v->ng);
    if (v->tls)
        gnutls_deinit(v->tls);
    v->ng = NULL;
    v->tls = NULL;
    v->dead = v->calls = false;
    v->heard = v->told = v->hellos = v->first_flight = 0;
    v->held_len = 0;
}

static inline void villain_stop(struct villain *v)
{
    wr_dgram_close(v->dgram);
    villain_forget(v);
    gnutls_certificate_free_credentials(v->credentials);
    for (unsigned i = 0; i < v->chain_len; i++)
        gnutls_pcert_deinit(&v->chain[i]);
    gnutls_privkey_deinit(v->chain_key);
    wr_tlsctx_destroy(v->ctx);
}

#endif
