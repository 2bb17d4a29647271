/* secure.h - what encrypts a connection, Noise or TLS, behind one face. Machine.
 * A handshake takes bytes until it is known who the peer is; the session that comes of it seals and opens
 * frames in place. A frame is a header of fixed size, which says how long the body is, and the body. */
#ifndef WR_SECURE_H
#define WR_SECURE_H

#include "transport/noise.h"
#include "transport/tls.h"

struct wr_secure_config {
    struct wr_aead *aead;                       /* Noise; borrowed */
    const struct wr_key *identity;              /* borrowed */
    const struct wr_noise_static *noise;        /* borrowed */
    struct wr_verified *verified;               /* Noise; borrowed, or NULL */
    struct wr_tlsctx *tls;                      /* borrowed; may be NULL where TLS is not used */
    int64_t now;                                /* seconds since 1970 */
    const struct wr_peerid *expect;             /* borrowed for the handshake; NULL: any peer */
    const char *muxer;                          /* the one that may be agreed on at once */
    uint8_t random[WR_NOISE_STATIC];            /* fresh bytes from the environment */
};

struct wr_secure_session {
    union {
        struct {
            struct wr_aead *aead;               /* borrowed */
            struct wr_noise_session keys;
        } noise;
        struct wr_tls_session *tls;             /* owned */
    };
};

struct wr_secure_result {
    struct wr_secure_session session;    /* the caller's from now on: clear it */
    struct wr_peerid peer;
    struct wr_bytes pubkey;    /* the peer's PublicKey protobuf; borrowed from the handshake */
    bool muxer_agreed;         /* no negotiation of the muxer follows */
};

/* One of the two protocols. */
struct wr_secure {
    const char *name;      /* in multistream, and in what the owner reads */
    const char *word;      /* in settings: "noise", "tls" */
    size_t header;         /* bytes of a frame before its plaintext */
    size_t overhead;       /* bytes that sealing adds at most, the header included */
    size_t plain_max;      /* bytes to seal at once */
    size_t frame_max;      /* bytes of a peer's frame, the header included */

    /* A handshake; NULL: out of memory. The dialler's first message is appended to out. */
    void *(*create)(const struct wr_secure_config *config, bool dialer, struct wr_buf *out);
    void (*destroy)(void *handshake);    /* NULL is allowed */
    /* Takes bytes, advancing *in; appends replies to out, perhaps also when it fails. 1: done, *result
     * set, the rest of *in is frames. 0: wants more. <0, over: as wr_noise_input and wr_tls_input. */
    int (*input)(void *handshake, struct wr_bytes *in, struct wr_buf *out,
                 struct wr_secure_result *result);
    /* Why input failed, a static sentence; "" when the error says it all. */
    const char *(*why)(const void *handshake);

    /* Length of a frame's body by its header, or WR_EPROTO. */
    int (*body_len)(const uint8_t *header);
    /* Seals len bytes that stand at frame + header, but for the last of them, which may stand elsewhere, apart; returns
     * the size of what is to be sent, or WR_ELIMIT. */
    int (*seal)(struct wr_secure_session *s, uint8_t *frame, size_t len, struct wr_bytes apart);
    /* Opens one whole frame; the plaintext stands at frame + header. Returns its length, 0 for none,
     * WR_ECLOSED (the peer ended it), WR_EREFUSED (the peer found fault), WR_EAUTH, WR_EPROTO, WR_ELIMIT. */
    int (*open)(struct wr_secure_session *s, uint8_t *frame, size_t body_len);
    /* The last words for this error (0: none) at frame, at most `overhead` bytes. Returns their size, 0 when
     * the protocol has none, or WR_ELIMIT. */
    int (*farewell)(struct wr_secure_session *s, int err, uint8_t *frame);
    void (*clear)(struct wr_secure_session *s);    /* wipes; also a session of zeros */
};

#define WR_SECURE_COUNT 2

/* All there are, the favourite first; NULL at the end. See secure.c for why. Places in it are saved (node/state.h): a
 * newcomer goes to the end. */
extern const struct wr_secure *const wr_secure_all[WR_SECURE_COUNT + 1];

/* By the name in multistream, or by the word in settings; NULL: none. */
const struct wr_secure *wr_secure_by_name(struct wr_bytes name);
const struct wr_secure *wr_secure_by_word(struct wr_bytes word);

#endif
