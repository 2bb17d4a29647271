/* tls.h - libp2p's TLS 1.3 over TCP: the handshake, then records. Machine: no time.
 * Spec: libp2p tls/tls.md and connections/inlined-muxer-negotiation.md; RFC 8446. GnuTLS shakes hands; its
 * session, 10 KiB of memory, ends with that. The records (RFC 8446, section 5) are made here from the traffic
 * secrets, in place, as Noise's frames are: an idle session is 260 bytes. Left out: tickets, early data,
 * authentication after the handshake. */
#ifndef WR_TLS_H
#define WR_TLS_H

#include "transport/tlsctx.h"

#define WR_TLS_HEADER        5
#define WR_TLS_PLAIN_MAX     16384                      /* bytes of a record; RFC 8446, section 5.1 */
#define WR_TLS_RECORD_MAX    (WR_TLS_PLAIN_MAX + 256)   /* bytes after the header; section 5.2 */
#define WR_TLS_KEY_UPDATE    (WR_TLS_HEADER + 5 + 1 + WR_AEAD_TAG)    /* that whole record */
#define WR_TLS_OVERHEAD      (WR_TLS_HEADER + 1 + WR_AEAD_TAG + WR_TLS_KEY_UPDATE)    /* at most */
#define WR_TLS_SECRET_MAX    48                         /* bytes: SHA-384 */
#define WR_TLS_HANDSHAKE_IN_MAX 65536    /* bytes of a peer's handshake; with RSA-8192 it is 6 KiB; ours */
#define WR_TLS_RECORDS_PER_KEY ((uint64_t)1 << 23)    /* below the 2^24.5 of RFC 8446, section 5.5 */
#define WR_TLS_IDLE_MAX      16    /* records in a row that carry no data; go crypto/tls */
#define WR_TLS_UPDATES_MAX   32    /* KeyUpdates of a peer at once, then one each WR_TLS_UPDATE_EVERY; ours */
#define WR_TLS_UPDATE_EVERY  1024    /* records with data; ours: others change keys after millions, if at all */
#define WR_TLS_TICKET_MAX    65536    /* bytes of a ticket, skipped; ours */

/* ---- records ------------------------------------------------------------------------------------- */

struct wr_tls_direction {
    uint64_t count;                        /* records under this key */
    uint8_t key[WR_AEAD_KEY], iv[WR_AEAD_NONCE];
    uint8_t secret[WR_TLS_SECRET_MAX];
};

struct wr_tls_session {
    struct wr_aead *engine;                /* borrowed from the context */
    struct wr_tls_direction send, recv;
    enum wr_aead_cipher cipher;
    bool dialer;
    bool update_owed;                      /* the next record goes out behind a KeyUpdate */
    uint8_t idle;                          /* records in a row without data */
    uint16_t updated;                      /* records with data until the peer may change its key as at first */
    uint8_t message[5], message_len;       /* start of a handshake message that is not complete */
    uint32_t skip;                         /* bytes of a ticket still to come */
};
void wr_tls_session_destroy(struct wr_tls_session *s);    /* wipes; NULL is allowed */

/* Length of a record's body by its header, or WR_EPROTO. */
int wr_tls_body_len(const uint8_t header[static WR_TLS_HEADER]);
/* Seals len (at most WR_TLS_PLAIN_MAX) bytes that stand at record + WR_TLS_HEADER in place; up to
 * WR_TLS_OVERHEAD more bytes are written. Returns the size of all, or WR_ELIMIT. */
int wr_tls_seal(struct wr_tls_session *s, uint8_t *record, size_t len);
/* Opens one whole record in place; len is that of the body. Returns the length of the data at record +
 * WR_TLS_HEADER; 0 when it carried none; WR_ECLOSED (close_notify), WR_EREFUSED (another alert), WR_EAUTH,
 * WR_EPROTO, WR_ELIMIT. */
int wr_tls_open(struct wr_tls_session *s, uint8_t *record, size_t len);
/* The last record: the alert for an error, close_notify for 0. At most WR_TLS_OVERHEAD bytes at record.
 * Returns its size, or WR_ELIMIT. */
int wr_tls_farewell(struct wr_tls_session *s, int err, uint8_t *record);

/* ---- handshake ----------------------------------------------------------------------------------- */

struct wr_tls_config {
    struct wr_tlsctx *ctx;              /* borrowed */
    int64_t now;                        /* seconds since 1970 */
    const struct wr_peerid *expect;     /* borrowed; NULL: any peer */
};

struct wr_tls;    /* a handshake under way; heap */

struct wr_tls_result {
    struct wr_tls_session *session;    /* owned by the caller from now on */
    struct wr_peerid peer;
    struct wr_bytes pubkey;    /* the peer's PublicKey protobuf; borrowed from the handshake */
    bool muxer_agreed;         /* "/yamux/1.0.0": no negotiation of the muxer follows */
};

/* NULL: out of memory. The dialler's first flight is appended to out. */
struct wr_tls *wr_tls_create(const struct wr_tls_config *config, bool dialer, struct wr_buf *out);
void wr_tls_destroy(struct wr_tls *t);    /* NULL is allowed */
/* Takes bytes, advancing *in; appends replies to out, also the alert of a failure. 1: done, *result set,
 * the rest of *in is records. 0: wants more. <0, over: WR_EPROTO, WR_EAUTH, WR_EPEERID (not
 * config.expect), WR_EREFUSED (the peer sent an alert), WR_ELIMIT. */
int wr_tls_input(struct wr_tls *t, struct wr_bytes *in, struct wr_buf *out,
                 struct wr_tls_result *result);
/* Why input failed, a static sentence. */
const char *wr_tls_why(const struct wr_tls *t);

#endif
