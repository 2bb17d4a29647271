/* namespace.h - meeting under a name: a name is a key of the DHT, its members are the providers.
 * Value. As go-libp2p's RoutingDiscovery: the key is the sha2-256 multihash of the name's bytes
 * (the CID is version 1, codec raw), so that the members found are the same. */
#ifndef WR_NAMESPACE_H
#define WR_NAMESPACE_H

#include "transport/multihash.h"

#define WR_NAMESPACE_MAX 255 /* bytes of a name; rendezvous/README.md has the same bound */

static inline void wr_namespace_key(struct wr_bytes name, struct wr_multihash *key)
{
    wr_multihash_sha256(name, key);
}

#endif
