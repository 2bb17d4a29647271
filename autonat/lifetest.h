/* lifetest.h - does the NAT still know a socket of ours that was silent for so long? Service.
 * A fresh socket, so that nothing else keeps its mapping alive; and a warren peer that sends to it afterwards from
 * the very port that the mapping was made for, or every NAT that filters would keep it out:
 *
 *   fresh socket --- QUIC connection, identify ---> peer      a mapping, and where it is outside; held for a while,
 *                                                             because routers give short talks less time
 *   fresh socket --- closes the connection --->               from here on it is silent
 *   ... so long ...
 *   we --- WR_AUTONAT_WAKE: dial that socket ---> peer        over the connection that we have anyway
 *   fresh socket <-- QUIC connection ---- peer                it lives
 *
 * What comes from any other address than the peer's proves nothing. */
#ifndef WR_LIFETEST_H
#define WR_LIFETEST_H

#include "autonat/ask.h"
#include "autonat/seen.h"

#define WR_LIFETEST_HOLD  (3 * WR_SEC)  /* Linux gives a UDP flow its longer time-out when it is older than 2 s */
#define WR_LIFETEST_BEGIN (15 * WR_SEC) /* to connect and to be told where it is; ours */
#define WR_LIFETEST_DIAL  (5 * WR_SEC)  /* the peer tries for so long; WR_DIALBACK_DIAL */
#define WR_LIFETEST_END   (10 * WR_SEC) /* for its answer; ours */

enum wr_lifetest_result { WR_LIFETEST_LIVED, WR_LIFETEST_DIED, WR_LIFETEST_NOTHING };

struct wr_lifetest {
    struct wr_swarm *home; /* NULL: not running */
    struct wr_env *env;
    struct wr_swarm *fresh; /* owned */
    struct wr_key key;
    struct wr_swarm_watch watch;
    struct wr_peerid peer;
    struct wr_addr at; /* the peer's */
    wr_time silence;
    struct wr_connect *request;
    struct wr_conn *conn; /* until it is closed */
    struct wr_seen seen;
    struct wr_maddr outside;
    bool asking, over;
    struct wr_ask ask;
    struct wr_timer timer;
    enum wr_lifetest_result result;
    void (*on_done)(struct wr_lifetest *t, enum wr_lifetest_result result); /* in a later turn */
};

/* addr: a public QUIC address of the peer, who speaks WR_AUTONAT_WAKE and is connected when the silence ends. */
void wr_lifetest_start(struct wr_lifetest *t, struct wr_swarm *home, const struct wr_peerid *peer,
                       const struct wr_maddr *addr, wr_time silence,
                       void (*on_done)(struct wr_lifetest *t, enum wr_lifetest_result result));
void wr_lifetest_cancel(struct wr_lifetest *t); /* also when it does not run */

#endif
