#include "transport/tlscert.h"

#include "transport/der.h"
#include "transport/err.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>

#define TAG_BOOLEAN          0x01
#define TAG_OID              0x06
#define TAG_UTC_TIME         0x17
#define TAG_GENERALIZED_TIME 0x18
#define TAG_VERSION          0xa0 /* RFC 5280, section 4.1: [0] of TBSCertificate */
#define TAG_EXTENSIONS       0xa3

#define BACKDATED   3600                  /* s; clocks differ; go-libp2p, js-libp2p */
#define BEGINNING   157766400             /* 1975-01-01; rust-libp2p. Ours may have been years ahead when the certificate was
                                             made, and those of peers years behind: for QUIC that would be the end */
#define LIFETIME    (100LL * 365 * 86400) /* s; go-libp2p, js-libp2p */
#define SERIAL      8                     /* bytes */
#define SPKI_MAX    256                   /* bytes; on P-521 it is 158 */
#define EC_BITS_MIN 256

static const char oid_text[] = "1.3.6.1.4.1.53594.1.1";
static const char signed_prefix[] = "libp2p-tls-handshake:";

/* ---- ours ----------------------------------------------------------------------------------- */

static int of_gnutls(int rc)
{
    return rc >= 0 ? 0 : WR_ELIMIT;
}

static struct wr_bytes signed_text(struct wr_bytes spki,
                                   uint8_t out[static sizeof(signed_prefix) + SPKI_MAX])
{
    size_t prefix = sizeof(signed_prefix) - 1;
    memcpy(out, signed_prefix, prefix);
    memcpy(out + prefix, spki.ptr, spki.len);
    return WR_BYTES(out, prefix + spki.len);
}

/* SignedKey: the host's PublicKey protobuf and its signature over the certificate's key. */
static int put_signed_key(const struct wr_key *identity, gnutls_x509_privkey_t key,
                          struct wr_buf *out)
{
    uint8_t text[sizeof(signed_prefix) + SPKI_MAX], spki[SPKI_MAX], host_memory[64];
    uint8_t sig[WR_SIG_ED25519];
    size_t spki_len = sizeof(spki);
    struct wr_buf host;
    gnutls_pubkey_t public_key;
    gnutls_privkey_t private_key;
    int rc = gnutls_privkey_init(&private_key);
    if (rc < 0)
        return WR_ELIMIT;
    rc = gnutls_pubkey_init(&public_key);
    if (rc < 0) {
        gnutls_privkey_deinit(private_key);
        return WR_ELIMIT;
    }
    rc = gnutls_privkey_import_x509(private_key, key, 0);
    if (rc >= 0)
        rc = gnutls_pubkey_import_privkey(public_key, private_key, 0, 0);
    if (rc >= 0)
        rc = gnutls_pubkey_export(public_key, GNUTLS_X509_FMT_DER, spki, &spki_len);
    gnutls_pubkey_deinit(public_key);
    gnutls_privkey_deinit(private_key);
    if (rc < 0)
        return WR_ELIMIT;
    wr_buf_over(&host, host_memory, sizeof(host_memory));
    wr_key_encode_public(identity, &host);
    wr_key_sign(identity, signed_text(WR_BYTES(spki, spki_len), text), sig);
    wr_buf_put_u8(out, WR_DER_SEQUENCE);
    wr_buf_put_u8(out, (uint8_t)(2 + host.len + 2 + sizeof(sig)));
    wr_buf_put_u8(out, WR_DER_OCTET_STRING);
    wr_buf_put_u8(out, (uint8_t)host.len);
    wr_buf_put_bytes(out, wr_buf_bytes(&host));
    wr_buf_put_u8(out, WR_DER_OCTET_STRING);
    wr_buf_put_u8(out, sizeof(sig));
    wr_buf_put(out, sig, sizeof(sig));
    return host.full || out->full ? WR_ELIMIT : 0;
}

static int fill(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const struct wr_key *identity,
                int64_t now)
{
    uint8_t serial[SERIAL], memory[128];
    struct wr_buf extension;
    wr_buf_over(&extension, memory, sizeof(memory));
    int rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (rc >= 0)
        rc = put_signed_key(identity, key, &extension);
    if (rc >= 0)
        rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    /* Positive, not zero, and never one byte shorter: js-libp2p 2458. */
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
    if (rc >= 0)
        rc = gnutls_x509_crt_set_version(crt, 3);
    if (rc >= 0)
        rc = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (rc >= 0)
        rc = gnutls_x509_crt_set_activation_time(crt, (time_t)(now - BACKDATED < BEGINNING ? now - BACKDATED : BEGINNING));
    if (rc >= 0)
        rc = gnutls_x509_crt_set_expiration_time(crt, (time_t)(now + LIFETIME));
    if (rc >= 0)
        rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "libp2p", 6);
    if (rc >= 0)
        rc = gnutls_x509_crt_set_key(crt, key);
    /* Not critical: rust-libp2p's own library once refused its critical one (rust-libp2p 5497). */
    if (rc >= 0)
        rc = gnutls_x509_crt_set_extension_by_oid(crt, oid_text, memory, extension.len, 0);
    if (rc >= 0)
        rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return of_gnutls(rc);
}

int wr_tlscert_make(const struct wr_key *identity, int64_t now, gnutls_x509_crt_t *crt,
                    gnutls_x509_privkey_t *key)
{
    if (gnutls_x509_crt_init(crt) < 0)
        return WR_ELIMIT;
    if (gnutls_x509_privkey_init(key) < 0) {
        gnutls_x509_crt_deinit(*crt);
        return WR_ELIMIT;
    }
    int rc = fill(*crt, *key, identity, now);
    if (rc == 0)
        return 0;
    gnutls_x509_privkey_deinit(*key);
    gnutls_x509_crt_deinit(*crt);
    return rc;
}

/* ---- a peer's ------------------------------------------------------------------------------- */

/* A certificate taken apart; slices of it. */
struct parts {
    struct wr_bytes tbs, algorithm, signature;
    struct wr_bytes spki, extensions;
};

/* AlgorithmIdentifiers of signatures that count as secure. */
static const struct {
    struct wr_bytes identifier;
    gnutls_sign_algorithm_t algorithm;
} ALGORITHMS[] = {
    {WR_BYTES_STR("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"), GNUTLS_SIGN_ECDSA_SHA256},
    {WR_BYTES_STR("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"), GNUTLS_SIGN_ECDSA_SHA384},
    {WR_BYTES_STR("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"), GNUTLS_SIGN_ECDSA_SHA512},
    {WR_BYTES_STR("\x30\x05\x06\x03\x2b\x65\x70"), GNUTLS_SIGN_EDDSA_ED25519},
};

/* Extensions that may be critical beside libp2p's: RFC 5280, sections 4.2.1.3, .6, .9, .12. They
 * say nothing that matters here. */
static const struct wr_bytes HARMLESS[] = {
    WR_BYTES_STR("\x55\x1d\x0f"), /* keyUsage */
    WR_BYTES_STR("\x55\x1d\x11"), /* subjectAltName */
    WR_BYTES_STR("\x55\x1d\x13"), /* basicConstraints */
    WR_BYTES_STR("\x55\x1d\x25"), /* extKeyUsage */
};

static const struct wr_bytes LIBP2P_OID = WR_BYTES_STR("\x2b\x06\x01\x04\x01\x83\xa2\x5a\x01\x01");

static int refuse(const char **why, const char *text, int err)
{
    *why = text;
    return err;
}

static bool two_digits(struct wr_bytes *text, int *out)
{
    struct wr_bytes d = wr_bytes_take(text, 2);
    if (d.ptr[0] < '0' || d.ptr[0] > '9' || d.ptr[1] < '0' || d.ptr[1] > '9')
        return false;
    *out = 10 * (d.ptr[0] - '0') + d.ptr[1] - '0';
    return true;
}

/* UTCTime or GeneralizedTime in the only forms that certificates have, in UTC with seconds: RFC
 * 5280, section 4.1.2.5. */
static bool read_time(struct wr_reader *r, int64_t *out)
{
    bool utc = r->rest.len && r->rest.ptr[0] == TAG_UTC_TIME;
    struct wr_bytes text = wr_der_read(r, utc ? TAG_UTC_TIME : TAG_GENERALIZED_TIME);
    int century = 0, year, month, day, hour, minute, second;
    if (r->bad || text.len != (utc ? 13u : 15u) || text.ptr[text.len - 1] != 'Z')
        return false;
    if (!utc && !two_digits(&text, &century))
        return false;
    if (!two_digits(&text, &year) || !two_digits(&text, &month) || !two_digits(&text, &day) ||
        !two_digits(&text, &hour) || !two_digits(&text, &minute) || !two_digits(&text, &second))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59)
        return false;
    if (utc)
        century = year < 50 ? 20 : 19;
    struct tm tm = {.tm_year = 100 * century + year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    *out = (int64_t)timegm(&tm);
    return tm.tm_mday == day; /* no 30th of February */
}

static bool read_validity(struct wr_reader *r, struct wr_tlscert_info *info)
{
    struct wr_reader times;
    wr_reader_init(&times, wr_der_read(r, WR_DER_SEQUENCE));
    return read_time(&times, &info->not_before) && read_time(&times, &info->not_after) &&
           wr_reader_done(&times);
}

/* TBSCertificate: RFC 5280, section 4.1. Unique ids are not taken: the spec allows that. */
static bool split_tbs(struct parts *p, struct wr_tlscert_info *info)
{
    struct wr_reader outer, r, version, extensions;
    wr_reader_init(&outer, p->tbs);
    wr_reader_init(&r, wr_der_read(&outer, WR_DER_SEQUENCE));
    wr_reader_init(&version, wr_der_read(&r, TAG_VERSION));
    struct wr_bytes number = wr_der_read(&version, WR_DER_INTEGER);
    wr_der_read(&r, WR_DER_INTEGER); /* serial */
    struct wr_bytes algorithm = wr_der_read_whole(&r, WR_DER_SEQUENCE);
    struct wr_bytes issuer = wr_der_read(&r, WR_DER_SEQUENCE);
    if (!read_validity(&r, info))
        return false;
    struct wr_bytes subject = wr_der_read(&r, WR_DER_SEQUENCE);
    p->spki = wr_der_read_whole(&r, WR_DER_SEQUENCE);
    wr_reader_init(&extensions, wr_der_read(&r, TAG_EXTENSIONS));
    p->extensions = wr_der_read(&extensions, WR_DER_SEQUENCE);
    return wr_reader_done(&r) && wr_reader_done(&version) && wr_reader_done(&extensions) &&
           wr_bytes_equal(number, WR_BYTES_STR("\x02")) &&
           wr_bytes_equal(algorithm, p->algorithm) && wr_bytes_equal(issuer, subject);
}

static bool split(struct wr_bytes der, struct parts *p, struct wr_tlscert_info *info)
{
    struct wr_reader outer, r;
    wr_reader_init(&outer, der);
    wr_reader_init(&r, wr_der_read(&outer, WR_DER_SEQUENCE));
    p->tbs = wr_der_read_whole(&r, WR_DER_SEQUENCE);
    p->algorithm = wr_der_read_whole(&r, WR_DER_SEQUENCE);
    p->signature = wr_der_read(&r, WR_DER_BIT_STRING);
    if (!wr_reader_done(&outer) || !wr_reader_done(&r) || p->signature.len == 0 ||
        p->signature.ptr[0] != 0)
        return false;
    wr_bytes_take(&p->signature, 1);
    return split_tbs(p, info);
}

/* Finds libp2p's extension, there once, and refuses what is critical and unknown. */
static int find_extension(struct wr_bytes extensions, struct wr_bytes *value, const char **why)
{
    struct wr_reader r;
    unsigned found = 0;
    wr_reader_init(&r, extensions);
    while (r.rest.len && !r.bad) {
        struct wr_reader one;
        wr_reader_init(&one, wr_der_read(&r, WR_DER_SEQUENCE));
        struct wr_bytes oid = wr_der_read(&one, TAG_OID);
        bool critical = one.rest.len && one.rest.ptr[0] == TAG_BOOLEAN;
        if (critical && !wr_bytes_equal(wr_der_read(&one, TAG_BOOLEAN), WR_BYTES_STR("\xff")))
            one.bad = true;
        struct wr_bytes content = wr_der_read(&one, WR_DER_OCTET_STRING);
        if (!wr_reader_done(&one))
            return refuse(why, "an extension is malformed", WR_EPROTO);
        if (wr_bytes_equal(oid, LIBP2P_OID)) {
            *value = content;
            found++;
            continue;
        }
        for (size_t i = 0; critical && i < sizeof(HARMLESS) / sizeof(HARMLESS[0]); i++)
            critical = !wr_bytes_equal(oid, HARMLESS[i]);
        if (critical)
            return refuse(why, "an unknown extension is critical", WR_EPROTO);
    }
    if (r.bad)
        return refuse(why, "the extensions are malformed", WR_EPROTO);
    return found == 1 ? 0 : refuse(why, "the libp2p extension is not there once", WR_EPROTO);
}

static bool key_allowed(gnutls_pubkey_t key)
{
    unsigned bits = 0;
    int type = gnutls_pubkey_get_pk_algorithm(key, &bits);
    return (type == GNUTLS_PK_ECDSA && bits >= EC_BITS_MIN) || type == GNUTLS_PK_EDDSA_ED25519;
}

/* The certificate is signed with its own key. */
static int check_self(const struct parts *p, const char **why)
{
    gnutls_sign_algorithm_t algorithm = GNUTLS_SIGN_UNKNOWN;
    gnutls_pubkey_t key;
    gnutls_datum_t spki = {(unsigned char *)(uintptr_t)p->spki.ptr, (unsigned)p->spki.len};
    gnutls_datum_t tbs = {(unsigned char *)(uintptr_t)p->tbs.ptr, (unsigned)p->tbs.len};
    gnutls_datum_t sig = {(unsigned char *)(uintptr_t)p->signature.ptr, (unsigned)p->signature.len};
    for (size_t i = 0; i < sizeof(ALGORITHMS) / sizeof(ALGORITHMS[0]); i++)
        if (wr_bytes_equal(p->algorithm, ALGORITHMS[i].identifier))
            algorithm = ALGORITHMS[i].algorithm;
    if (algorithm == GNUTLS_SIGN_UNKNOWN)
        return refuse(why, "the signature's algorithm is not taken", WR_EPROTO);
    if (p->spki.len > SPKI_MAX)
        return refuse(why, "the key's type is not taken", WR_EPROTO);
    if (gnutls_pubkey_init(&key) < 0)
        return refuse(why, "out of memory", WR_ELIMIT);
    int rc = gnutls_pubkey_import(key, &spki, GNUTLS_X509_FMT_DER);
    bool allowed = rc >= 0 && key_allowed(key);
    if (allowed)
        rc = gnutls_pubkey_verify_data2(key, algorithm, 0, &tbs, &sig);
    gnutls_pubkey_deinit(key);
    if (rc == GNUTLS_E_MEMORY_ERROR)
        return refuse(why, "out of memory", WR_ELIMIT);
    if (!allowed)
        return refuse(why, "the key's type is not taken", WR_EPROTO);
    return rc >= 0 ? 0 : refuse(why, "it is not signed with its own key", WR_EAUTH);
}

/* The host's signature over the certificate's key. */
static int check_host(const struct parts *p, struct wr_bytes extension, struct wr_bytes *pubkey,
                      const char **why)
{
    uint8_t text[sizeof(signed_prefix) + SPKI_MAX];
    struct wr_reader outer, r;
    wr_reader_init(&outer, extension);
    wr_reader_init(&r, wr_der_read(&outer, WR_DER_SEQUENCE));
    *pubkey = wr_der_read(&r, WR_DER_OCTET_STRING);
    struct wr_bytes sig = wr_der_read(&r, WR_DER_OCTET_STRING);
    if (!wr_reader_done(&outer) || !wr_reader_done(&r))
        return refuse(why, "the libp2p extension is malformed", WR_EPROTO);
    int rc = wr_pubkey_verify(*pubkey, signed_text(p->spki, text), sig);
    if (rc == WR_EAUTH)
        return refuse(why, "the host key's signature is wrong", rc);
    if (rc == WR_ELIMIT)
        return refuse(why, "out of memory", rc);
    return rc < 0 ? refuse(why, "the host key is malformed", rc) : 0;
}

int wr_tlscert_verify(struct wr_bytes der, struct wr_tlscert_info *info, const char **why)
{
    struct parts p;
    struct wr_bytes extension, pubkey;
    if (der.len > WR_TLSCERT_DER_MAX)
        return refuse(why, "the certificate is too long", WR_EPROTO);
    if (!split(der, &p, info))
        return refuse(why, "the certificate is malformed", WR_EPROTO);
    int rc = find_extension(p.extensions, &extension, why);
    if (rc == 0)
        rc = check_self(&p, why);
    if (rc == 0)
        rc = check_host(&p, extension, &pubkey, why);
    if (rc < 0)
        return rc;
    if (wr_peerid_from_pubkey(pubkey, &info->peer) != 0)
        return refuse(why, "the host key is malformed", WR_EPROTO);
    info->pubkey_at = (size_t)(pubkey.ptr - der.ptr);
    info->pubkey_len = pubkey.len;
    return 0;
}

bool wr_tlscert_in_time(const struct wr_tlscert_info *info, int64_t now)
{
    return now >= info->not_before && now <= info->not_after;
}
