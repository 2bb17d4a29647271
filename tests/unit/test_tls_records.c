/* TLS records: damage, what may stand in one, how many do nothing, and changes of keys. */
#include "unit/tls_pair.h"

static void test_damage_to_records(void **state)
{
    struct end e[2];
    uint8_t whole[100], copy[100];
    (void)state;
    pair_make(e, OUT_MAX);
    struct wr_tls_session *to = e[1].result.session;
    int size = seal(e[0].result.session, "a record");
    memcpy(whole, record, (size_t)size);
    for (int bit = 0; bit < 8 * size; bit++) {
        struct wr_tls_session fresh = *to;
        memcpy(copy, whole, (size_t)size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int len = wr_tls_body_len(copy);
        if (len >= 0 && len + WR_TLS_HEADER != size)
            continue; /* another length: more would be waited for, or less be there */
        assert_true(len < 0 || wr_tls_open(&fresh, copy, (size_t)len) == WR_EAUTH);
    }
    /* A record left out, and one played twice. */
    struct wr_tls_session fresh = *to;
    memcpy(copy, whole, (size_t)size);
    assert_int_equal(open_at(&fresh, copy), 8);
    memcpy(copy, whole, (size_t)size);
    assert_int_equal(open_at(&fresh, copy), WR_EAUTH);
    seal(e[0].result.session, "the next");
    assert_int_equal(open_at(to, record), WR_EAUTH);
    pair_clear(e);
}

/* Seals a record of any type, as a peer that may do anything. */
static int inject(struct wr_tls_session *from, struct wr_tls_session *to, uint8_t type,
                  const void *data, size_t len, size_t padding)
{
    uint8_t nonce[WR_AEAD_NONCE];
    size_t whole = len + 1 + padding + WR_AEAD_TAG;
    memset(record, 0, sizeof(record));
    memcpy(record + WR_TLS_HEADER, data, len);
    record[WR_TLS_HEADER + len] = type;
    const uint8_t header[] = {23, 3, 3, (uint8_t)(whole >> 8), (uint8_t)whole};
    memcpy(record, header, sizeof(header));
    memcpy(nonce, from->send.iv, sizeof(nonce));
    for (size_t i = 0; i < 8; i++)
        nonce[11 - i] ^= (uint8_t)(from->send.count >> 8 * i);
    from->send.count++;
    assert_int_equal(wr_aead_seal(from->engine, from->send.key, nonce,
                                  WR_BYTES(record, WR_TLS_HEADER), record + WR_TLS_HEADER,
                                  len + 1 + padding, record + WR_TLS_HEADER),
                     0);
    return open_at(to, record);
}

static void test_odd_records(void **state)
{
    static const struct {
        uint8_t type;
        const char *data;
        size_t len;
        int rc;
    } cases[] = {
        {23, "", 0, 0},                   /* no data: allowed */
        {21, "\x01\x00", 2, WR_ECLOSED},  /* close_notify */
        {21, "\x01\x5a", 2, 0},           /* user_canceled */
        {21, "\x02\x2a", 2, WR_EREFUSED}, /* bad_certificate */
        {21, "\x02", 1, WR_EPROTO},
        {21, "\x02\x2a\x02\x2a", 4, WR_EPROTO},
        {22, "", 0, WR_EPROTO},
        {22, "\x18\x00\x00\x01\x00", 5, 0},         /* KeyUpdate */
        {22, "\x18\x00\x00\x01\x02", 5, WR_EPROTO}, /* an unknown request */
        {22, "\x18\x00\x00\x02\x00\x00", 6, WR_EPROTO},
        {22, "\x18\x00\x00\x01\x00\x18", 6, WR_EPROTO}, /* something behind it */
        {22, "\x01\x00\x00\x00", 4, WR_EPROTO},         /* ClientHello */
        {22, "\x0d\x00\x00\x00", 4, WR_EPROTO},         /* CertificateRequest */
        {20, "\x01", 1, WR_EPROTO},                     /* change_cipher_spec, even encrypted */
        {24, "\x01", 1, WR_EPROTO},                     /* heartbeat */
    };
    struct end e[2];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pair_make(e, OUT_MAX);
        int rc = inject(e[0].result.session, e[1].result.session, cases[i].type, cases[i].data,
                        cases[i].len, i * 10);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %d instead of %d", i, rc, cases[i].rc);
        pair_clear(e);
    }
}

static void test_tickets_are_skipped(void **state)
{
    struct end e[2];
    uint8_t ticket[300] = {4, 0, 0, 200}; /* and half of the next */
    (void)state;
    ticket[204] = 4;
    ticket[207] = 100;
    pair_make(e, OUT_MAX);
    struct wr_tls_session *server = e[1].result.session, *client = e[0].result.session;
    assert_int_equal(inject(server, client, 22, ticket, sizeof(ticket), 0), 0);
    assert_int_equal(inject(server, client, 22, ticket + 100, 8, 0), 0);
    pass(server, client, "and data");
    /* In the middle of a ticket nothing else may come. */
    assert_int_equal(inject(server, client, 22, ticket, 100, 0), 0);
    assert_int_equal(inject(server, client, 23, "x", 1, 0), WR_EPROTO);
    /* A server takes none at all. */
    assert_int_equal(inject(client, server, 22, ticket, 204, 0), WR_EPROTO);
    pair_clear(e);
}

static void test_records_without_data_are_bounded(void **state)
{
    struct end e[2];
    (void)state;
    pair_make(e, OUT_MAX);
    struct wr_tls_session *a = e[0].result.session, *b = e[1].result.session;
    for (int i = 0; i < WR_TLS_IDLE_MAX; i++)
        assert_int_equal(inject(a, b, 23, "", 0, 0), 0);
    pass(a, b, "data");
    for (int i = 0; i < WR_TLS_IDLE_MAX; i++)
        assert_int_equal(inject(a, b, 23, "", 0, 0), 0);
    assert_int_equal(inject(a, b, 23, "", 0, 0), WR_EPROTO);
    pair_clear(e);
}

static void test_lengths(void **state)
{
    static const struct {
        uint8_t header[WR_TLS_HEADER];
        int rc;
    } cases[] = {
        {{23, 3, 3, 0, 17}, 17},        {{23, 3, 3, 0, 16}, WR_EPROTO},
        {{23, 3, 3, 0x41, 0}, 0x4100},  {{23, 3, 3, 0x41, 1}, WR_EPROTO},
        {{22, 3, 3, 0, 17}, WR_EPROTO}, {{20, 3, 3, 0, 1}, WR_EPROTO},
        {{23, 3, 1, 0, 17}, WR_EPROTO}, {{23, 2, 3, 0, 17}, WR_EPROTO},
    };
    struct end e[2];
    static uint8_t zeros[WR_TLS_PLAIN_MAX + 1];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(wr_tls_body_len(cases[i].header), cases[i].rc);
    pair_make(e, OUT_MAX);
    struct wr_tls_session *a = e[0].result.session, *b = e[1].result.session;
    assert_int_equal(inject(a, b, 23, zeros, WR_TLS_PLAIN_MAX, 0), WR_TLS_PLAIN_MAX);
    assert_int_equal(inject(a, b, 23, zeros, 100, WR_TLS_PLAIN_MAX - 100), 100);
    assert_int_equal(inject(a, b, 23, zeros, WR_TLS_PLAIN_MAX + 1, 0), WR_EPROTO);
    pair_clear(e);
}

/* The peer's request is answered before the next data; our own keys change before they wear out. */
static void test_key_updates(void **state)
{
    struct end e[2];
    (void)state;
    pair_make(e, OUT_MAX);
    struct wr_tls_session *a = e[0].result.session, *b = e[1].result.session;
    for (int round = 0; round < 3; round++) {
        /* a asks; b hears it under a's old key, and a goes on under the new one. */
        a->update_owed = true;
        int size = seal(a, "data");
        assert_int_equal(size, WR_TLS_KEY_UPDATE + WR_TLS_HEADER + 4 + 1 + WR_AEAD_TAG);
        assert_int_equal(open_at(b, record), 0);
        assert_int_equal(open_at(b, record + WR_TLS_KEY_UPDATE), 4);
        assert_memory_equal(record + WR_TLS_KEY_UPDATE + WR_TLS_HEADER, "data", 4);
        assert_false(a->update_owed || b->update_owed);
    }
    a->send.count = b->recv.count = WR_TLS_RECORDS_PER_KEY - 1;
    pass(a, b, "the last under this key");
    int size = seal(a, "data");
    assert_int_equal(size, WR_TLS_KEY_UPDATE + WR_TLS_HEADER + 4 + 1 + WR_AEAD_TAG);
    assert_int_equal(a->send.count, 1);
    assert_int_equal(open_at(b, record), 0);
    assert_int_equal(open_at(b, record + WR_TLS_KEY_UPDATE), 4);
    pass_both(e);
    pair_clear(e);
}

/* A new key of a's, and a word under it. */
static void change_key(struct wr_tls_session *a, struct wr_tls_session *b)
{
    a->update_owed = true;
    (void)seal(a, "x");
    assert_int_equal(open_at(b, record), 0);
    assert_int_equal(open_at(b, record + WR_TLS_KEY_UPDATE), 1);
}

/* What follows when one more comes just now; the sessions stay as they are. */
static int one_more_key(const struct wr_tls_session *a, const struct wr_tls_session *b)
{
    static const uint8_t update[] = {24, 0, 0, 1, 0};
    struct wr_tls_session from = *a, to = *b;
    return inject(&from, &to, 22, update, sizeof(update), 0);
}

/* A peer that changes its key all the time is cut off, although each change is followed by a word of data and no record
 * is idle; one that changes it now and then is not. */
static void test_key_updates_are_bounded(void **state)
{
    struct end e[2];
    (void)state;
    pair_make(e, OUT_MAX);
    struct wr_tls_session *a = e[0].result.session, *b = e[1].result.session;
    for (int i = 0; i < WR_TLS_UPDATES_MAX; i++)
        change_key(a, b);
    assert_int_equal(one_more_key(a, b), WR_EPROTO);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < WR_TLS_UPDATE_EVERY; i++)
            pass(a, b, "data");
        change_key(a, b);
        assert_int_equal(one_more_key(a, b), WR_EPROTO);
    }
    pair_clear(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage_to_records),
        cmocka_unit_test(test_odd_records),
        cmocka_unit_test(test_tickets_are_skipped),
        cmocka_unit_test(test_records_without_data_are_bounded),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_key_updates),
        cmocka_unit_test(test_key_updates_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
