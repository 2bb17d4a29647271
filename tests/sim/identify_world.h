/* identify_world.h - two nodes that identify each other, or play a part, for the stories of it. Included by one
 * source file of a test program. */
#ifndef IDENTIFY_WORLD_H
#define IDENTIFY_WORLD_H

#include "identify/identify.h"
#include "tests/sim/simnode.h"

#define RTT (40 * WR_MSEC)

struct world {
    struct sim *sim;
    struct node a, b;
    struct wr_identify *id_a, *id_b;
};

static inline void refuse(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_reset(s, WR_STREAM_OK);
}

static inline int setup(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 11, .rtt = RTT});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    wr_identify_destroy(w->id_a);
    wr_identify_destroy(w->id_b);
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static inline struct wr_identify *identify(struct node *n)
{
    struct wr_identify *id = wr_identify_create(&(struct wr_identify_options){.swarm = n->swarm});
    assert_non_null(id);
    return id;
}

static inline struct wr_identify_stats stats(const struct wr_identify *id)
{
    struct wr_identify_stats s;
    wr_identify_stats(id, &s);
    return s;
}

static inline bool knows(struct node *n, struct node *peer, const struct wr_maddr *addr)
{
    struct wr_maddr list[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(n->swarm), wr_swarm_self(peer->swarm), list,
                                      WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (wr_bytes_equal(wr_maddr_bytes(&list[i]), wr_maddr_bytes(addr)))
            return true;
    }
    return false;
}

static inline bool knows_addr(struct node *n, struct node *peer)
{
    return knows(n, peer, &peer->addr);
}

/* ---- a peer that answers with bytes of the test's */

struct script {
    const uint8_t *data;
    size_t len;
    bool hang;             /* never finish */
    bool drip;             /* one byte every three seconds */
    unsigned streams;
};

static inline void on_scripted(struct wr_stream *s, void *arg)
{
    struct script *script = arg;
    script->streams++;
    wr_stream_write(s, script->data, script->len);
    if (!script->hang)
        wr_stream_close(s);
}

static inline void on_nothing(struct wr_stream *s, void *arg, int err)
{
    unsigned *closed = arg;
    (void)s;
    (void)err;
    ++*closed;
}

#endif
