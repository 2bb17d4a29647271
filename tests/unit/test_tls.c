/* TLS handshakes: two machines against each other in any chunking, GnuTLS as a stranger on the other side, damage to every
 * byte, and what must be refused. */
#include "unit/tls_pair.h"

#include "transport/tlscert.h"
#include "unit/stride.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <stdio.h>

static void test_any_chunking(void **state)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 64, 1000, 100000};
    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct end e[2];
        pair_make(e, steps[i]);
        check_pair(e);
        pair_clear(e);
    }
}

/* Data that comes in one piece with the end of the handshake stays with the caller. */
static void test_data_behind_the_handshake(void **state)
{
    struct end e[2];
    (void)state;
    end_make(&e[0], 1);
    end_make(&e[1], 2);
    end_start(&e[0], true, NULL);
    end_start(&e[1], false, NULL);
    carry(&e[0], &e[1], OUT_MAX);
    carry(&e[1], &e[0], OUT_MAX);
    assert_int_equal(e[0].rc, 1);
    int size = seal(e[0].result.session, "early");
    wr_buf_put(&e[0].out, record, (size_t)size);
    struct wr_bytes in = wr_buf_bytes(&e[0].out);
    e[1].rc = wr_tls_input(e[1].tls, &in, &e[1].out, &e[1].result);
    assert_int_equal(e[1].rc, 1);
    assert_int_equal(in.len, size);
    assert_int_equal(open_at(e[1].result.session, e[0].out.data + e[0].out.len - size), 5);
    pair_clear(e);
}

static void test_wrong_peer_id(void **state)
{
    struct end e[2];
    (void)state;
    end_make(&e[0], 1);
    end_make(&e[1], 2);
    end_start(&e[0], true, &e[0].id);
    end_start(&e[1], false, NULL);
    shake(&e[0], &e[1], 1000);
    assert_int_equal(e[0].rc, WR_EPEERID);
    assert_string_equal(wr_tls_why(e[0].tls), "another peer answered");
    /* The listener hears of it by an alert and never learns who dialled. */
    assert_int_equal(e[1].rc, WR_EREFUSED);
    pair_clear(e);
}

/* One that is years behind does no harm; before ours began, and when it is over, it is not valid. */
static void test_a_clock_out_of_the_certificate(void **state)
{
    static const struct {
        int64_t now;
        bool valid;
    } clocks[] = {{NOW - 20LL * 365 * 86400, true}, {157766399, false}, {NOW + 101LL * 365 * 86400, false}};
    (void)state;
    for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
        struct end e[2];
        end_make(&e[0], 1);
        end_make(&e[1], 2);
        struct wr_tls_config config = {.ctx = e[0].ctx, .now = clocks[i].now};
        e[0].tls = wr_tls_create(&config, true, &e[0].out);
        end_start(&e[1], false, NULL);
        shake(&e[0], &e[1], 1000);
        assert_int_equal(e[0].rc, clocks[i].valid ? 1 : WR_EPROTO);
        if (!clocks[i].valid)
            assert_string_equal(wr_tls_why(e[0].tls), "the certificate is not valid now");
        pair_clear(e);
    }
}

/* The verdict of a certificate that was seen before: the same, and the clock still counts. */
static void test_a_certificate_seen_before(void **state)
{
    struct end e[2];
    (void)state;
    end_make(&e[0], 1);
    end_make(&e[1], 2);
    for (int round = 0; round < 3; round++) {
        end_start(&e[0], true, &e[1].id);
        if (round == 2)
            e[0].result.session = NULL;
        end_start(&e[1], false, NULL);
        shake(&e[0], &e[1], 1000);
        check_pair(e);
        for (int i = 0; i < 2; i++) {
            wr_tls_destroy(e[i].tls);
            wr_tls_session_destroy(e[i].result.session);
            e[i].tls = NULL;
            e[i].result.session = NULL;
            e[i].rc = 0;
        }
    }
    struct wr_tls_config config = {.ctx = e[0].ctx, .now = NOW + 101LL * 365 * 86400};
    e[0].tls = wr_tls_create(&config, true, &e[0].out);
    end_start(&e[1], false, NULL);
    shake(&e[0], &e[1], 1000);
    assert_int_equal(e[0].rc, WR_EPROTO);
    pair_clear(e);
}

/* ---- a stranger made of GnuTLS alone -------------------------------------------------------- */

struct stranger {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    gnutls_pcert_st chain[2];
    unsigned certificates; /* of the chain to show */
    gnutls_privkey_t key;
    struct wr_buf in, out;
    int rc;
};

static int stranger_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                             gnutls_pcert_st **chain, unsigned *count, gnutls_ocsp_data_st **ocsp,
                             unsigned *ocsp_count, gnutls_privkey_t *key, unsigned *flags)
{
    struct stranger *s = gnutls_session_get_ptr(session);
    (void)info, (void)ocsp;
    *chain = s->chain;
    *count = s->certificates;
    *key = s->key;
    *ocsp_count = 0;
    *flags = 0;
    return 0;
}

static ssize_t stranger_push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
    struct stranger *s = arg;
    wr_buf_put(&s->out, data, len);
    return (ssize_t)len;
}

static ssize_t stranger_pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
    struct stranger *s = arg;
    size_t take = s->in.len < len ? s->in.len : len;
    if (take == 0) {
        gnutls_transport_set_errno(s->session, EAGAIN);
        return -1;
    }
    memcpy(data, s->in.data, take);
    wr_buf_consume(&s->in, take);
    return (ssize_t)take;
}

/* GnuTLS stops once at a KeyUpdate. */
static ssize_t stranger_recv(struct stranger *s, uint8_t *out, size_t size)
{
    ssize_t rc = gnutls_record_recv(s->session, out, size);
    return rc == GNUTLS_E_AGAIN ? gnutls_record_recv(s->session, out, size) : rc;
}

static const char OURS[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

struct want {
    const char *priority, *alpn[2];
    unsigned certificates; /* how many to show */
    bool tickets;
};

static void stranger_make(struct stranger *s, bool dialer, const struct want *want)
{
    struct wr_key identity;
    uint8_t seed[WR_ED25519_SEED] = {9};
    gnutls_x509_crt_t crt[2];
    gnutls_x509_privkey_t key, spare;
    memset(s, 0, sizeof(*s));
    wr_buf_init(&s->in, OUT_MAX);
    wr_buf_init(&s->out, OUT_MAX);
    assert_int_equal(gnutls_init(&s->session, GNUTLS_NONBLOCK |
                                                  (dialer ? GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT
                                                          : GNUTLS_SERVER) |
                                                  (want->tickets ? 0 : GNUTLS_NO_TICKETS)),
                     0);
    assert_int_equal(gnutls_priority_set_direct(s->session, want->priority, NULL), 0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&s->credentials), 0);
    wr_key_generate(&identity, seed);
    assert_int_equal(wr_tlscert_make(&identity, NOW, &crt[0], &key), 0);
    assert_int_equal(wr_tlscert_make(&identity, NOW, &crt[1], &spare), 0);
    assert_int_equal(gnutls_privkey_init(&s->key), 0);
    assert_int_equal(gnutls_privkey_import_x509(s->key, key, GNUTLS_PRIVKEY_IMPORT_COPY), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gnutls_pcert_import_x509(&s->chain[i], crt[i], 0), 0);
        gnutls_x509_crt_deinit(crt[i]);
    }
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_privkey_deinit(spare);
    s->certificates = want->certificates;
    gnutls_session_set_ptr(s->session, s);
    gnutls_certificate_set_retrieve_function3(s->credentials, stranger_retrieve);
    assert_int_equal(gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, s->credentials), 0);
    for (unsigned i = 0; i < 2 && want->alpn[i]; i++) {
        gnutls_datum_t names[2];
        for (unsigned k = 0; k <= i; k++)
            names[k] = (gnutls_datum_t){(unsigned char *)(uintptr_t)want->alpn[k],
                                        (unsigned)strlen(want->alpn[k])};
        assert_int_equal(gnutls_alpn_set_protocols(s->session, names, i + 1, 0), 0);
    }
    if (!dialer)
        gnutls_certificate_server_set_request(s->session, GNUTLS_CERT_REQUEST);
    gnutls_transport_set_ptr(s->session, s);
    gnutls_transport_set_push_function(s->session, stranger_push);
    gnutls_transport_set_pull_function(s->session, stranger_pull);
}

static void stranger_clear(struct stranger *s)
{
    gnutls_deinit(s->session);
    gnutls_certificate_free_credentials(s->credentials);
    gnutls_pcert_deinit(&s->chain[0]);
    gnutls_pcert_deinit(&s->chain[1]);
    gnutls_privkey_deinit(s->key);
    wr_buf_clear(&s->in);
    wr_buf_clear(&s->out);
}

/* Both sides until nothing moves. */
static void meet(struct stranger *s, struct end *e)
{
    for (int i = 0; i < 10; i++) {
        if (s->rc == 0 || s->rc == GNUTLS_E_AGAIN)
            s->rc = gnutls_handshake(s->session);
        if (s->rc < 0 && s->rc != GNUTLS_E_AGAIN)
            gnutls_alert_send_appropriate(s->session, s->rc);
        if (s->rc == GNUTLS_E_SUCCESS && e->rc == 1)
            return;
        if (e->rc == 0 && s->out.len) {
            struct wr_bytes in = wr_buf_bytes(&s->out);
            e->rc = wr_tls_input(e->tls, &in, &e->out, &e->result);
            wr_buf_consume(&s->out, s->out.len - in.len);
        }
        wr_buf_put(&s->in, e->out.data, e->out.len);
        wr_buf_reset(&e->out);
    }
}

/* Meets a stranger; returns our machine's outcome. */
static int meet_once(bool stranger_dials, const struct want *want, struct stranger *s,
                     struct end *e)
{
    stranger_make(s, stranger_dials, want);
    end_make(e, 1);
    end_start(e, !stranger_dials, NULL);
    meet(s, e);
    return e->rc;
}

static void test_a_stranger(void **state)
{
    static const char *const ciphers[] = {"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"};
    static const char *const groups[] = {"GROUP-X25519", "GROUP-SECP256R1", "GROUP-SECP384R1"};
    int tickets = 0;
    (void)state;
    for (int i = 0; i < 2 * 3; i++) {
        struct stranger s;
        struct end e;
        char priority[200];
        /* The last two groups are not the one that our dialler shares at first: HelloRetryRequest.
         */
        snprintf(priority, sizeof(priority), "%s:-CIPHER-ALL:+%s:-GROUP-ALL:+%s", OURS,
                 ciphers[i / 2], groups[i / 2]);
        struct want want = {
            .priority = priority, .alpn = {"libp2p", NULL}, .certificates = 1, .tickets = true};
        assert_int_equal(meet_once(i % 2, &want, &s, &e), 1);
        assert_false(e.result.muxer_agreed);
        assert_int_equal(e.result.session->cipher == WR_AEAD_AES128, i / 2 == 0);
        /* A server of GnuTLS sends tickets to whoever wants them or not. */
        while (s.out.len) {
            size_t whole = WR_TLS_HEADER + (size_t)wr_tls_body_len(s.out.data);
            assert_int_equal(open_at(e.result.session, s.out.data), 0);
            wr_buf_consume(&s.out, whole);
            tickets++;
        }
        /* Data both ways, with padding that GnuTLS adds. */
        uint8_t text[100];
        for (int round = 0; round < 3; round++) {
            int size = seal(e.result.session, "to the stranger");
            wr_buf_put(&s.in, record, (size_t)size);
            assert_int_equal(stranger_recv(&s, text, sizeof(text)), 15);
            assert_memory_equal(text, "to the stranger", 15);
            wr_buf_reset(&s.out);
            assert_int_equal(gnutls_record_send2(s.session, "to us", 5, 37u * (unsigned)round, 0),
                             5);
            assert_int_equal(open_at(e.result.session, s.out.data), 5);
            assert_memory_equal(s.out.data + WR_TLS_HEADER, "to us", 5);
            /* A new key of its own, and one that it asks for. */
            wr_buf_reset(&s.out);
            assert_int_equal(gnutls_session_key_update(s.session, round ? GNUTLS_KU_PEER : 0), 0);
            assert_int_equal(open_at(e.result.session, s.out.data), 0);
            assert_int_equal(e.result.session->update_owed, round != 0);
        }
        int size = wr_tls_farewell(e.result.session, 0, record);
        wr_buf_put(&s.in, record, (size_t)size);
        assert_int_equal(gnutls_record_recv(s.session, text, sizeof(text)), 0);
        wr_buf_reset(&s.out);
        gnutls_bye(s.session, GNUTLS_SHUT_WR);
        assert_int_equal(open_at(e.result.session, s.out.data), WR_ECLOSED);
        stranger_clear(&s);
        end_clear(&e);
    }
    assert_true(tickets > 0);
}

static void test_refused_strangers(void **state)
{
    static const struct {
        struct want want;
        bool dials;
        int rc;
    } cases[] = {
        /* no certificate */
        {{OURS, {"libp2p", NULL}, 0, false}, true, WR_EAUTH},
        /* two certificates */
        {{OURS, {"libp2p", NULL}, 2, false}, true, WR_EPROTO},
        {{OURS, {"libp2p", NULL}, 2, false}, false, WR_EPROTO},
        /* no name of a protocol */
        {{OURS, {NULL, NULL}, 1, false}, true, WR_EPROTO},
        {{OURS, {NULL, NULL}, 1, false}, false, WR_EPROTO},
        /* a foreign one */
        {{OURS, {"h2", NULL}, 1, false}, true, WR_EPROTO},
        /* an older version */
        {{"NORMAL:-VERS-ALL:+VERS-TLS1.2", {"libp2p", NULL}, 1, false}, true, WR_EPROTO},
        {{"NORMAL:-VERS-ALL:+VERS-TLS1.2", {"libp2p", NULL}, 1, false}, false, WR_EREFUSED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stranger s;
        struct end e;
        int rc = meet_once(cases[i].dials, &cases[i].want, &s, &e);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %s %s (%s)", i, wr_err_name(rc), wr_tls_why(e.tls),
                     gnutls_strerror(s.rc));
        stranger_clear(&s);
        end_clear(&e);
    }
}

static void test_the_muxers_name_comes_first(void **state)
{
    struct want want = {OURS, {"libp2p", "/yamux/1.0.0"}, 1, false};
    struct stranger s;
    struct end e;
    (void)state;
    assert_int_equal(meet_once(true, &want, &s, &e), 1);
    gnutls_datum_t name;
    assert_int_equal(gnutls_alpn_get_selected_protocol(s.session, &name), 0);
    assert_int_equal(e.result.muxer_agreed, name.size == 12);
    stranger_clear(&s);
    end_clear(&e);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* One handshake with a byte changed on the way; never ends well. */
static void damage_one(struct end e[2], int flight, size_t at, size_t *len)
{
    for (int i = 0; i < 2; i++) {
        e[i].rc = 0;
        end_start(&e[i], i == 0, NULL);
    }
    for (int f = 0; f < 3; f++) {
        struct end *from = &e[f % 2], *to = &e[!(f % 2)];
        if (f == flight) {
            *len = from->out.len;
            from->out.data[at % *len] ^= 0x20; /* signatures differ in length by a byte or two */
        }
        carry(from, to, OUT_MAX);
    }
    /* Who is damaged on the last flight believes itself connected. */
    assert_true(e[0].rc < 1 || e[1].rc < 1);
    for (int i = 0; i < 2; i++) {
        wr_tls_destroy(e[i].tls);
        wr_tls_session_destroy(e[i].result.session);
        e[i].tls = NULL;
        e[i].result.session = NULL;
        wr_buf_reset(&e[i].out);
    }
}

static void test_damage_to_the_handshake(void **state)
{
    struct end e[2];
    (void)state;
    end_make(&e[0], 1);
    end_make(&e[1], 2);
    for (int flight = 0; flight < 3; flight++) {
        size_t len = 1;
        for (size_t at = 0; at < len; at += stride() + at % 3)
            if (flight || at != 1) /* the version of the first record's header is not looked at: RFC
                                      8446, 5.1 */
                damage_one(e, flight, at, &len);
    }
    pair_clear(e);
}

static void test_a_handshake_has_an_end(void **state)
{
    struct end e;
    uint8_t ccs[] = {20, 3, 3, 0, 1, 1}; /* allowed in the middle of a handshake, dropped */
    (void)state;
    end_make(&e, 1);
    end_start(&e, false, NULL);
    int rc = 0;
    size_t sent = 0;
    while (rc == 0) {
        struct wr_bytes in = WR_BYTES(ccs, sizeof(ccs));
        rc = wr_tls_input(e.tls, &in, &e.out, &e.result);
        sent += sizeof(ccs);
        assert_true(sent < 2 * WR_TLS_HANDSHAKE_IN_MAX);
    }
    assert_int_equal(rc, WR_EPROTO);
    end_clear(&e);
}

/* What an idle connection holds: nothing of GnuTLS. */
static void test_a_session_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct wr_tls_session) <= 288);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_data_behind_the_handshake),
        cmocka_unit_test(test_wrong_peer_id),
        cmocka_unit_test(test_a_clock_out_of_the_certificate),
        cmocka_unit_test(test_a_certificate_seen_before),
        cmocka_unit_test(test_a_stranger),
        cmocka_unit_test(test_refused_strangers),
        cmocka_unit_test(test_the_muxers_name_comes_first),
        cmocka_unit_test(test_damage_to_the_handshake),
        cmocka_unit_test(test_a_handshake_has_an_end),
        cmocka_unit_test(test_a_session_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
