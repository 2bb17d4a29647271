#include "transport/tlsctx.h"

#include "transport/err.h"
#include "transport/multihash.h"
#include "transport/tlscert.h"

#include <sodium.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#define HANDSHAKE_MAX                                                                              \
    16384 /* bytes of one handshake message; a certificate of WR_TLSCERT_DER_MAX fits; ours */
#define MEMO_SLOTS 128 /* certificates remembered, 14 KiB; ours */

/* All TLS 1.3 implementations have AES-128-GCM and P-256 (RFC 8446, section 9.1). Signatures of
 * certificate keys: see tlscert.h why no RSA. GnuTLS knows no post-quantum group: it takes the
 * X25519 share beside, or asks for one. */
#define VERSION "NONE:+VERS-TLS1.3:+MAC-ALL:+COMP-NULL:+CTYPE-X509:+KX-ALL:"
#define REST                                                                                       \
    ":+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"                                             \
    ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384"                                   \
    ":+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-EDDSA-ED25519"                                            \
    ":%DISABLE_TLS13_COMPAT_MODE:%SERVER_PRECEDENCE"

/* A certificate that was found good. */
struct memo {
    uint8_t digest[WR_SHA256_LEN];
    struct wr_tlscert_info info;
};

struct wr_tlsctx {
    gnutls_certificate_credentials_t credentials; /* owned */
    gnutls_priority_t priority;                   /* owned */
    struct wr_aead *engine[WR_AEAD_AES256 + 1];   /* owned, or NULL */
    struct memo memo[MEMO_SLOTS]; /* by the digest's first byte; a newer one replaces */
};

/* ChaCha takes twice the time where the processor has AES, and a fifth of it where it has not. */
static bool processor_has_aes(void)
{
#ifdef __aarch64__
    return getauxval(AT_HWCAP) & (1UL << 3); /* HWCAP_AES */
#else
    return crypto_aead_aes256gcm_is_available();
#endif
}

static int set_credentials(struct wr_tlsctx *ctx, const struct wr_key *identity, int64_t now)
{
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    int rc = wr_tlscert_make(identity, now, &crt, &key);
    if (rc < 0)
        return rc;
    /* Made for each other just now: trying it out would take as long as a handshake. */
    gnutls_certificate_set_flags(ctx->credentials, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
    rc = gnutls_certificate_set_x509_key(ctx->credentials, &crt, 1, key);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_crt_deinit(crt);
    return rc < 0 ? WR_ELIMIT : 0;
}

struct wr_tlsctx *wr_tlsctx_create(const struct wr_key *identity, int64_t now)
{
    struct wr_tlsctx *ctx = sodium_init() >= 0 ? wr_alloc(sizeof(*ctx)) : NULL;
    if (!ctx)
        return NULL;
    const char *priority = processor_has_aes()
                               ? VERSION "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305" REST
                               : VERSION "+CHACHA20-POLY1305:+AES-128-GCM:+AES-256-GCM" REST;
    int rc = gnutls_priority_init(&ctx->priority, priority, NULL);
    if (rc >= 0)
        rc = gnutls_certificate_allocate_credentials(&ctx->credentials);
    if (rc >= 0)
        rc = set_credentials(ctx, identity, now);
    if (rc >= 0)
        return ctx;
    wr_tlsctx_destroy(ctx);
    return NULL;
}

void wr_tlsctx_destroy(struct wr_tlsctx *ctx)
{
    if (!ctx)
        return;
    for (size_t i = 0; i <= WR_AEAD_AES256; i++)
        wr_aead_destroy(ctx->engine[i]);
    if (ctx->credentials)
        gnutls_certificate_free_credentials(ctx->credentials);
    if (ctx->priority)
        gnutls_priority_deinit(ctx->priority);
    wr_free(ctx);
}

struct wr_aead *wr_tlsctx_aead(struct wr_tlsctx *ctx, enum wr_aead_cipher cipher)
{
    if (!ctx->engine[cipher])
        ctx->engine[cipher] = wr_aead_create_cipher(cipher);
    return ctx->engine[cipher];
}

/* GNUTLS_ALPN_MANDATORY refuses foreign names but lets no names at all pass. */
static int on_client_hello(gnutls_session_t session, unsigned type, unsigned when,
                           unsigned incoming, const gnutls_datum_t *message)
{
    gnutls_datum_t name;
    (void)type, (void)when, (void)incoming, (void)message;
    return gnutls_alpn_get_selected_protocol(session, &name) >= 0
               ? 0
               : GNUTLS_E_NO_APPLICATION_PROTOCOL;
}

static int set_names(gnutls_session_t session, enum wr_tlsctx_use use)
{
    static char muxer[] = WR_TLSCTX_ALPN_YAMUX, plain[] = WR_TLSCTX_ALPN;
    const gnutls_datum_t names[] = {{(unsigned char *)muxer, sizeof(muxer) - 1},
                                    {(unsigned char *)plain, sizeof(plain) - 1}};
    unsigned first = use == WR_TLSCTX_QUIC;
    return gnutls_alpn_set_protocols(session, names + first, 2 - first, GNUTLS_ALPN_MANDATORY);
}

int wr_tlsctx_session(struct wr_tlsctx *ctx, enum wr_tlsctx_use use, bool dialer,
                      gnutls_session_t *out)
{
    unsigned flags =
        GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS | GNUTLS_NO_AUTO_SEND_TICKET |
        (dialer ? GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT | GNUTLS_KEY_SHARE_TOP : GNUTLS_SERVER);
    if (gnutls_init(out, flags) < 0)
        return WR_ELIMIT;
    int rc = gnutls_priority_set(*out, ctx->priority);
    if (rc >= 0)
        rc = gnutls_credentials_set(*out, GNUTLS_CRD_CERTIFICATE, ctx->credentials);
    if (rc >= 0)
        rc = set_names(*out, use);
    if (rc < 0) {
        gnutls_deinit(*out);
        return WR_ELIMIT;
    }
    gnutls_handshake_set_max_packet_length(*out, HANDSHAKE_MAX);
    gnutls_handshake_set_timeout(*out, GNUTLS_INDEFINITE_TIMEOUT); /* ours runs on our clock */
    if (!dialer) {
        gnutls_certificate_server_set_request(*out, GNUTLS_CERT_REQUIRE);
        gnutls_certificate_send_x509_rdn_sequence(*out, 1); /* 1: do not */
        gnutls_handshake_set_hook_function(*out, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
                                           on_client_hello);
    }
    return 0;
}

/* Judges a certificate, or remembers how it was judged. */
static int lookup(struct wr_tlsctx *ctx, struct wr_bytes der, struct wr_tlscert_info *info,
                  const char **why)
{
    uint8_t digest[WR_SHA256_LEN];
    wr_sha256(der, digest);
    struct memo *slot = &ctx->memo[digest[0] % MEMO_SLOTS];
    if (slot->info.pubkey_len && memcmp(slot->digest, digest, sizeof(digest)) == 0) {
        *info = slot->info;
        return 0;
    }
    int rc = wr_tlscert_verify(der, info, why);
    if (rc < 0)
        return rc;
    memcpy(slot->digest, digest, sizeof(digest));
    slot->info = *info;
    return 0;
}

static int refuse(const char **why, const char *text, int err)
{
    *why = text;
    return err;
}

int wr_tlsctx_verify(struct wr_tlsctx *ctx, gnutls_session_t session, int64_t now,
                     const struct wr_peerid *expect, struct wr_tlsctx_peer *peer, const char **why)
{
    struct wr_tlscert_info info;
    gnutls_datum_t name;
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (gnutls_alpn_get_selected_protocol(session, &name) < 0)
        return refuse(why, "no protocol name was agreed on", WR_EPROTO);
    if (!chain || count != 1)
        return refuse(why, "there is not exactly one certificate", WR_EPROTO);
    struct wr_bytes der = WR_BYTES(chain[0].data, chain[0].size);
    int rc = lookup(ctx, der, &info, why);
    if (rc < 0)
        return rc;
    if (!wr_tlscert_in_time(&info, now))
        return refuse(why, "the certificate is not valid now", WR_EPROTO);
    if (expect && !wr_peerid_equal(expect, &info.peer))
        return refuse(why, "another peer answered", WR_EPEERID);
    peer->id = info.peer;
    peer->pubkey = WR_BYTES(der.ptr + info.pubkey_at, info.pubkey_len);
    return 0;
}
