/* ask.h - one question to an AutoNAT server: can I be reached there? Service.
 *
 *   version 2   we --- DialRequest (addresses, nonce) ---> server
 *               we <-- DialDataRequest ---- server              when an address has another IP than we
 *               we --- DialDataResponse ... ---> server         30,000 to 100,000 bytes
 *               we <-- DialResponse ---- server                 after the dial-back, see autonat_client.h
 *   version 1   we --- DIAL ---> server --- DIAL_RESPONSE ---> we
 *
 * One address for each question: rust servers look at the last one of a list only, and js ones answer
 * once for each. The server may refuse before it has read the question (go). */
#ifndef WR_ASK_H
#define WR_ASK_H

#include "autonat/autonat_msg.h"
#include "transport/msg.h"
#include "transport/swarm.h"

#define WR_ASK_TIMEOUT  (40 * WR_SEC)    /* js servers dial for 30 s before they answer; go waits no longer than 30 */
#define WR_ASK_DATA_MAX (200 * 1024)  /* bytes of dial data; js asks for up to so many, go for 100,000 */

enum wr_ask_result {
    WR_ASK_REACHED,    /* the server says that it got through */
    WR_ASK_BACK_ERROR, /* it connected, but could not deliver the nonce */
    WR_ASK_FAILED,     /* it dialled, and nobody was there */
    WR_ASK_REFUSED,    /* it did not dial: no evidence */
    WR_ASK_BROKEN,     /* no answer, or none that makes sense: no evidence */
};

struct wr_ask {
    struct wr_msg msg;
    bool v1;
    bool data_sent;
    uint64_t data_bytes; /* that were sent */
    bool stranger; /* in on_done: the server says that somebody else dialled for it */
    bool unwilling; /* in on_done, of REFUSED: it dials nobody there; else it is asked too much, or version 1 */
    void (*on_done)(struct wr_ask *a, enum wr_ask_result result);
};

struct wr_ask_question {
    const struct wr_maddr *addr;
    uint64_t nonce; /* version 2 */
    bool stranger;  /* ask for a dial by somebody whom we do not know */
    const struct wr_peerid
        *peer; /* who is to be dialled (version 1 always; WR_AUTONAT_STRANGER, WR_AUTONAT_WAKE), or NULL */
};

/* protocol: WR_AUTONAT_V1, WR_AUTONAT_REQUEST, WR_AUTONAT_STRANGER or WR_AUTONAT_WAKE. on_done comes once, in a later turn.
 * 0, WR_ELIMIT, WR_ECLOSED: on_done does not follow. */
int wr_ask_start(struct wr_ask *a, struct wr_env *env, struct wr_conn *conn, const char *protocol,
                 const struct wr_ask_question *question,
                 void (*on_done)(struct wr_ask *a, enum wr_ask_result result));
void wr_ask_cancel(struct wr_ask *a); /* on_done does not follow any more */

#endif
