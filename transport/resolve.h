/* resolve.h - multiaddrs with names to multiaddrs with numbers: dns, dns4, dns6, dnsaddr. Service.
 * Spec: multiaddr DNS resolution (transport sheet 2.2). Nested dnsaddr records are followed; records whose
 * tail does not match what followed the dnsaddr component are left out. */
#ifndef WR_RESOLVE_H
#define WR_RESOLVE_H

#include "transport/env.h"
#include "transport/maddr.h"

#define WR_RESOLVE_DEPTH_MAX   4      /* nested names; go-libp2p */
#define WR_RESOLVE_ADDRS_MAX   100    /* results of one question; go-libp2p */
#define WR_RESOLVE_LOOKUPS_MAX 32     /* questions to the resolver for one address; rust-libp2p */

struct wr_resolve;

/* One call per address found, then done once (err 0 even when nothing was found; WR_ENOTFOUND when no name
 * existed, WR_ETIMEOUT ...), all in later turns. Addresses without a name come back as they are. */
struct wr_resolve_ops {
    void (*on_addr)(void *arg, struct wr_bytes addr);
    void (*on_done)(void *arg, int err);
};

/* NULL: out of memory. */
struct wr_resolve *wr_resolve_start(struct wr_env *env, struct wr_bytes addr,
                                    const struct wr_resolve_ops *ops, void *arg);
void wr_resolve_cancel(struct wr_resolve *r);    /* no more calls; NULL is allowed */

#endif
