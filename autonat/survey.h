/* survey.h - at which outside ports do fresh sockets of ours appear? Service.
 * A NAT that gives one outside port to each of ours shows but one port to look at. How it allocates them
 * only shows with other sockets: some connections one after the other, each from an identity and a port of
 * its own, and of each peer the question that everybody answers (identify): where do you see me?
 *
 *   a socket of its own --- connect, /ipfs/id/1.0.0 ---> peer
 *                       <-- observedAddr ---- peer                          closed, and the next one */
#ifndef WR_SURVEY_H
#define WR_SURVEY_H

#include "autonat/natkind.h"
#include "autonat/seen.h"
#include "transport/swarm.h"

#define WR_SURVEY_SAMPLES 6            /* connections; ours: a row shows with fewer, chance with no more */
#define WR_SURVEY_TIMEOUT (5 * WR_SEC) /* each */

struct wr_survey {
    struct wr_swarm *home; /* NULL: not running */
    struct wr_env *env;
    struct wr_swarm *own; /* of the connection under way */
    struct wr_key key;
    struct wr_connect *request;
    struct wr_conn *conn;
    struct wr_seen seen;
    struct wr_timer timer;
    struct wr_maddr targets[WR_SURVEY_SAMPLES];
    size_t target_count, made, most;
    struct wr_natkind_sample of[WR_SURVEY_SAMPLES]; /* in the order in which they were made */
    size_t count;
    void (*on_done)(struct wr_survey *s); /* with what was found, maybe nothing; in a later turn */
};

/* Targets: public addresses of peers over one transport, used in turn. most: connections, up to WR_SURVEY_SAMPLES. */
void wr_survey_start(struct wr_survey *s, struct wr_swarm *home, const struct wr_maddr *targets,
                     size_t count, size_t most, void (*on_done)(struct wr_survey *s));
void wr_survey_cancel(struct wr_survey *s); /* also when it does not run */

#endif
