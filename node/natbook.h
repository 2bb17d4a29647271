/* natbook.h - what was found out about the NAT of each network that this node sat in, over restarts: so far how long it
 * remembers a silent socket (autonat/lifetime.h), which takes up to an hour to learn. Service.
 *
 * A network is known by what is the same whenever we sit in it: the router's address and ours towards it, and roughly
 * (/16) where the world sees us. Homes look alike from inside; whoever has the same router as another, and the same
 * provider, may still have other settings. So what is remembered is believed only while the NAT is of the same kind, and
 * autonat tries it once before it relies on it for good. Nothing but a digest of the addresses is kept. */
#ifndef WR_NATBOOK_H
#define WR_NATBOOK_H

#include "autonat/autonat_client.h"
#include "node/state.h"

#define WR_NATBOOK_MAX 16                   /* networks remembered; ours: the one longest unwritten goes */
#define WR_NATBOOK_AGE (30 * 24 * WR_HOUR)  /* after that it is learnt anew; ours */
#define WR_NATBOOK_BITS 16                  /* of the outside address; ours: providers give out another one each day */

/* Filled by the owner; outlives whoever asks it. */
struct wr_natbook {
    struct wr_env *env;
    struct wr_kv *kv;
    struct wr_state *state;
};

struct wr_autonat_memory wr_natbook_memory(struct wr_natbook *book);

#endif
