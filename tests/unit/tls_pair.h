/* tls_pair.h - two ends of TLS that talk to each other, in any chunking, and records between them. Included by one source
 * file of a test program. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/tls.h"
#include "transport/tls_impl.h"

#include <stdlib.h>
#include <string.h>

#define NOW     1800000000 /* s; 2027 */
#define OUT_MAX 65536

struct end {
    struct wr_key identity;
    struct wr_peerid id;
    struct wr_tlsctx *ctx;
    struct wr_tls *tls;
    struct wr_buf out; /* to the other end, not yet carried */
    struct wr_tls_result result;
    int rc;
};

static inline void end_make(struct end *e, uint8_t salt)
{
    uint8_t seed[WR_ED25519_SEED] = {salt}, memory[64];
    struct wr_buf pubkey;
    memset(e, 0, sizeof(*e));
    wr_key_generate(&e->identity, seed);
    wr_buf_over(&pubkey, memory, sizeof(memory));
    wr_key_encode_public(&e->identity, &pubkey);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &e->id), 0);
    e->ctx = wr_tlsctx_create(&e->identity, NOW);
    assert_non_null(e->ctx);
    wr_buf_init(&e->out, OUT_MAX);
}

static inline void end_start(struct end *e, bool dialer, const struct wr_peerid *expect)
{
    struct wr_tls_config config = {.ctx = e->ctx, .now = NOW, .expect = expect};
    e->tls = wr_tls_create(&config, dialer, &e->out);
    assert_non_null(e->tls);
    assert_true(dialer == (e->out.len > 0));
}

static inline void end_clear(struct end *e)
{
    wr_tls_destroy(e->tls);
    wr_tls_session_destroy(e->result.session);
    wr_buf_clear(&e->out);
    wr_tlsctx_destroy(e->ctx);
}

/* Carries what `from` has queued in pieces of `step` bytes. */
static inline void carry(struct end *from, struct end *to, size_t step)
{
    while (from->out.len && to->rc == 0) {
        size_t piece = step < from->out.len ? step : from->out.len;
        uint8_t *copy = malloc(piece);
        assert_non_null(copy);
        memcpy(copy, from->out.data, piece);
        struct wr_bytes in = WR_BYTES(copy, piece);
        to->rc = wr_tls_input(to->tls, &in, &to->out, &to->result);
        assert_true(to->rc != 0 || in.len == 0);
        wr_buf_consume(&from->out, piece - in.len);
        free(copy);
    }
}

static inline void shake(struct end *dialer, struct end *listener, size_t step)
{
    for (int i = 0; i < 8 && (dialer->out.len || listener->out.len); i++) {
        carry(dialer, listener, step);
        carry(listener, dialer, step);
        if (dialer->rc != 0 && listener->rc != 0)
            return;
    }
}

static inline void pair_make(struct end e[2], size_t step)
{
    end_make(&e[0], 1);
    end_make(&e[1], 2);
    end_start(&e[0], true, &e[1].id);
    end_start(&e[1], false, NULL);
    shake(&e[0], &e[1], step);
}

static inline void pair_clear(struct end e[2])
{
    end_clear(&e[0]);
    end_clear(&e[1]);
}

/* ---- records -------------------------------------------------------------------------------- */

static uint8_t record[2 * WR_TLS_RECORD_MAX];

static inline int seal(struct wr_tls_session *s, const char *text)
{
    size_t len = strlen(text);
    memcpy(record + WR_TLS_HEADER, text, len);
    return wr_tls_seal(s, record, len);
}

/* Opens the one record at `at`; *data gets its plaintext. Returns as wr_tls_open. */
static inline int open_at(struct wr_tls_session *s, uint8_t *at)
{
    int len = wr_tls_body_len(at);
    return len < 0 ? len : wr_tls_open(s, at, (size_t)len);
}

static inline void pass(struct wr_tls_session *from, struct wr_tls_session *to, const char *text)
{
    int size = seal(from, text);
    assert_int_equal(size, WR_TLS_HEADER + strlen(text) + 1 + WR_AEAD_TAG);
    assert_int_equal(open_at(to, record), strlen(text));
    assert_memory_equal(record + WR_TLS_HEADER, text, strlen(text));
}

static inline void pass_both(struct end e[2])
{
    pass(e[0].result.session, e[1].result.session, "from the dialler");
    pass(e[1].result.session, e[0].result.session, "from the listener");
    pass(e[0].result.session, e[1].result.session, "again");
}

static inline void check_pair(struct end e[2])
{
    assert_int_equal(e[0].rc, 1);
    assert_int_equal(e[1].rc, 1);
    for (int i = 0; i < 2; i++) {
        struct wr_peerid from_key;
        assert_true(wr_peerid_equal(&e[i].result.peer, &e[!i].id));
        assert_int_equal(wr_peerid_from_pubkey(e[i].result.pubkey, &from_key), 0);
        assert_true(wr_peerid_equal(&from_key, &e[!i].id));
        assert_true(e[i].result.muxer_agreed);
        assert_int_equal(e[i].out.len, 0);
    }
    pass_both(e);
}

#endif
