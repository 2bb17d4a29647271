/* node.h - builds and wires everything: the one place that knows all modules. Service. */
#ifndef WR_NODE_H
#define WR_NODE_H

#include "node/config.h"
#include "transport/env.h"
#include "transport/maddr.h"

struct wr_node;

#define WR_NODE_ERROR 1600 /* bytes of an error sentence and NUL */

struct wr_node_options {
    struct wr_env *env;
    const struct wr_config *config; /* finished; borrowed for the node's life, changed by reloads */
    /* A client asked the node to stop: destroy it soon, not from inside this call. */
    void (*on_stop)(void *arg);
    void *arg;
    uint64_t descriptors; /* that the process may open; ceilings are lowered to fit. 0: enough */
};

/* Opens the data directory, listens and starts every service; the control socket comes last, so who
 * can connect to it finds a working node. 0 with *out set, or an error with a sentence that says
 * what to do: WR_EINUSE (port, directory or socket), WR_EPERM, WR_ECORRUPT, WR_EINVAL, WR_EIO,
 * WR_ELIMIT. */
int wr_node_create(const struct wr_node_options *options, struct wr_node **out,
                   char err[static WR_NODE_ERROR]);
/* Says goodbye to peers, saves what is to be saved and closes everything at once. NULL is allowed.
 */
void wr_node_destroy(struct wr_node *node);
/* The keys in this set (bits 1 << key, all live) have new values in the config: take them over. */
void wr_node_reload(struct wr_node *node, uint32_t keys);

/* ---- what `warren run` prints */
const struct wr_peerid *wr_node_self(const struct wr_node *node);
/* Bound addresses with real ports, no /p2p, in the order asked for; returns how many, at most max.
 */
size_t wr_node_listening(const struct wr_node *node, struct wr_maddr *out, size_t max);
const char *wr_node_control(const struct wr_node *node); /* path of the control socket */

#endif
