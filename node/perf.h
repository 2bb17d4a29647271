/* perf.h - throughput between two peers, both roles. Service. Spec: libp2p perf/perf.md.
 *
 *   client --- 8 bytes: how many it wants back; then any number of bytes; end ---> server
 *   client <-- as many bytes as it wants; end ------------------------------------ server
 *
 * The server answers only when the client has finished, so the first byte back ends the upload.
 *
 * Eight bytes buy up to 2^64 back: a server open to anybody lends its uplink to whoever wants to fill
 * somebody's pipe with it. So it serves the peers on the owner's allow list, and strangers only when the
 * owner says so. */
#ifndef WR_PERF_H
#define WR_PERF_H

#include "transport/swarm.h"

#define WR_PERF_NAME    "/perf/1.0.0"
#define WR_PERF_BLOCK   (128 * 1024)  /* bytes written at once; ours: as many as a connection sends at once */
#define WR_PERF_STREAMS 4             /* served per connection at once; ours */
#define WR_PERF_IDLE    (30 * WR_SEC) /* without a byte moving, either role gives up; ours */

struct wr_perf;
struct wr_perf_run;

/* Registers the protocol, not announced, for allowed peers (policy.h). NULL: out of memory. */
struct wr_perf *wr_perf_create(struct wr_swarm *sw);
/* Serves everybody and announces it, or no longer. 0, WR_ELIMIT (then as before). */
int wr_perf_serve_all(struct wr_perf *p, bool on);
void wr_perf_destroy(struct wr_perf *p); /* before the swarm; NULL is allowed */

struct wr_perf_result {
    uint64_t up, down;    /* bytes so far */
    wr_time up_took;      /* from the open stream to the first byte back; 0: still sending */
    wr_time down_took;    /* from there to the end */
    struct wr_conn *conn; /* NULL before the stream is open */
};

struct wr_perf_options {
    struct wr_peerid peer;
    uint64_t up, down;                                                   /* bytes */
    void (*on_progress)(void *arg, const struct wr_perf_result *result); /* each second; or NULL */
    /* Once, the last call: 0, WR_ETIMEOUT, WR_EUNSUPPORTED, WR_EPROTO (more or fewer bytes came),
     * errors of the dial and of the stream. */
    void (*on_done)(void *arg, int err, const struct wr_perf_result *result);
    void *arg;
};

/* 0, or the error of wr_swarm_open. */
int wr_perf_start(struct wr_perf *p, const struct wr_perf_options *options,
                  struct wr_perf_run **out);
void wr_perf_cancel(struct wr_perf_run *run);

#endif
