/* What GnuTLS alone costs with libp2p's certificates: its record layer, and a handshake in which
 * both sides show and check one. */
#include "naked.h"
#include "transport/key.h"
#include "transport/tlscert.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD (16 << 10) /* bytes; RFC 8446, 5.1 */
#define FIRST  512        /* records before the clock starts */
#define PRIORITY                                                                                   \
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+AEAD:+GROUP-X25519:+SIGN-ECDSA-SECP256R1-SHA256:+CTYPE-X509"

static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priority;

bool naked_tls_init(void)
{
    struct wr_key identity;
    uint8_t seed[WR_ED25519_SEED] = {3};
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t own;
    wr_key_generate(&identity, seed);
    return wr_tlscert_make(&identity, time(NULL), &certificate, &own) == 0 &&
           gnutls_certificate_allocate_credentials(&credentials) == 0 &&
           gnutls_certificate_set_x509_key(credentials, &certificate, 1, own) == 0 &&
           gnutls_priority_init(&priority, PRIORITY, NULL) == 0;
}

/* GnuTLS checks the handshake's signature; the host key's extension is left. */
static int check_certificate(gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
    struct wr_tlscert_info info;
    const char *why;
    if (!list || count != 1)
        return -1;
    return wr_tlscert_verify((struct wr_bytes){list[0].data, list[0].size}, &info, &why);
}

static gnutls_session_t shake_hands(int fd, bool dialer)
{
    gnutls_session_t session;
    if (gnutls_init(&session, (dialer ? GNUTLS_CLIENT : GNUTLS_SERVER) | GNUTLS_NO_TICKETS) != 0)
        return NULL;
    gnutls_priority_set(session, priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_session_set_verify_function(session, check_certificate);
    if (!dialer)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_transport_set_int(session, fd);
    int err;
    do
        err = gnutls_handshake(session);
    while (err < 0 && !gnutls_error_is_fatal(err));
    if (err == 0)
        return session;
    gnutls_deinit(session);
    return NULL;
}

bool naked_tls_handshake(int fd, bool dialer)
{
    uint8_t byte = 0;
    gnutls_session_t session = shake_hands(fd, dialer);
    if (!session)
        return false;
    bool ok = dialer ? gnutls_record_send(session, &byte, 1) == 1 &&
                           gnutls_record_recv(session, &byte, 1) == 1
                     : gnutls_record_recv(session, &byte, 1) == 1 &&
                           gnutls_record_send(session, &byte, 1) == 1;
    gnutls_deinit(session);
    return ok;
}

bool naked_tls_send(int fd, const size_t *amounts)
{
    static uint8_t record[RECORD];
    size_t records = FIRST + amounts[0] / RECORD + 1;
    gnutls_session_t session = shake_hands(fd, true);
    bool ok = session != NULL;
    for (size_t i = 0; ok && i < records; i++) {
        if (i == FIRST)
            naked_clock_start();
        ok = gnutls_record_send(session, record, RECORD) == RECORD;
    }
    shutdown(fd, SHUT_WR);
    ok = ok && read(fd, record, 1) == 0;
    if (session)
        gnutls_deinit(session);
    return ok;
}

bool naked_tls_receive(int fd, const size_t *amounts)
{
    static uint8_t buf[RECORD];
    size_t seen = 0, first = (size_t)FIRST * RECORD,
           total = first + (amounts[0] / RECORD + 1) * RECORD;
    gnutls_session_t session = shake_hands(fd, false);
    bool ok = session != NULL, counted = false;
    while (ok && seen < total) {
        ssize_t n = gnutls_record_recv(session, buf, sizeof(buf));
        ok = n > 0;
        seen += ok ? (size_t)n : 0;
        if (!counted && seen >= first) {
            naked_clock_start();
            counted = true;
        }
    }
    if (session)
        gnutls_deinit(session);
    return ok;
}
