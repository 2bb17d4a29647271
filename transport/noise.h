/* noise.h - libp2p Noise: the XX handshake, then transport frames. Machine: no time.
 * Spec: libp2p noise/README.md; Noise_XX_25519_ChaChaPoly_SHA256, empty prologue. The handshake struct
 * is large and freed after use; a session is 80 bytes. */
#ifndef WR_NOISE_H
#define WR_NOISE_H

#include "transport/aead.h"
#include "transport/key.h"
#include "transport/peerid.h"
#include "transport/verified.h"

#define WR_NOISE_FRAME_MAX   65535                           /* bytes after the 2-byte length */
#define WR_NOISE_PAYLOAD_MAX (WR_NOISE_FRAME_MAX - WR_AEAD_TAG)    /* plaintext bytes of a frame */
#define WR_NOISE_HEADER      2
#define WR_NOISE_HANDSHAKE_FRAME_MAX 8192    /* bytes of message 2 or 3; RSA-8192 needs 2.2 KiB; ours */
#define WR_NOISE_STATIC      32

/* The node's static key and the identity's signature over it, made once. */
struct wr_noise_static {
    uint8_t secret[WR_NOISE_STATIC], public_key[WR_NOISE_STATIC];
    uint8_t signature[WR_SIG_ED25519];
};
void wr_noise_static_make(struct wr_noise_static *s, const struct wr_key *identity,
                          const uint8_t secret[static WR_NOISE_STATIC]);

struct wr_noise_session {
    uint8_t send_key[WR_AEAD_KEY], recv_key[WR_AEAD_KEY];
    uint64_t send_nonce, recv_nonce;
};

struct wr_noise_config {
    struct wr_aead *engine;                     /* borrowed */
    const struct wr_key *identity;              /* borrowed */
    const struct wr_noise_static *static_key;   /* borrowed */
    const struct wr_peerid *expect;             /* borrowed; NULL: any peer */
    struct wr_verified *verified;               /* borrowed; NULL: none */
    const char *muxer;    /* the one id announced in the payload ("/yamux/1.0.0"), or NULL */
    uint8_t ephemeral[WR_NOISE_STATIC];         /* fresh random bytes from the environment */
};

struct wr_noise;    /* a handshake under way; heap */

struct wr_noise_result {
    struct wr_noise_session session;
    struct wr_aead *engine;    /* config.engine: what the session is used with */
    struct wr_peerid peer;
    struct wr_bytes pubkey;    /* the peer's PublicKey protobuf; borrowed from the handshake */
    bool muxer_agreed;         /* both announced config.muxer: no negotiation of the muxer follows */
    uint8_t handshake_hash[WR_NOISE_STATIC];
};

/* NULL: out of memory. The dialer's first message is appended to out. */
struct wr_noise *wr_noise_create(const struct wr_noise_config *config, bool dialer, struct wr_buf *out);
void wr_noise_destroy(struct wr_noise *n);    /* wipes; NULL is allowed */
/* Takes bytes, advancing *in; appends replies to out. 1: done, *result set, the rest of *in is transport
 * frames. 0: wants more. <0, over: WR_EPROTO, WR_EAUTH, WR_EPEERID (not config.expect), WR_ELIMIT. */
int wr_noise_input(struct wr_noise *n, struct wr_bytes *in, struct wr_buf *out,
                   struct wr_noise_result *result);

/* Seals len (at most WR_NOISE_PAYLOAD_MAX) bytes that stand at frame + WR_NOISE_HEADER in place: writes
 * the length in front and the tag behind. Returns the frame's whole size, or WR_ELIMIT. */
int wr_noise_seal(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len);
/* The same when the last of the len bytes stand elsewhere: they are sealed from there. */
int wr_noise_seal_apart(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *frame, size_t len,
                        struct wr_bytes apart);
/* Opens one whole frame body (without the length; len includes the tag) in place; the plaintext stands
 * at body. Returns its length (0 or more), WR_EAUTH, WR_EPROTO, WR_ELIMIT. */
int wr_noise_open(struct wr_aead *engine, struct wr_noise_session *s, uint8_t *body, size_t len);

#endif
