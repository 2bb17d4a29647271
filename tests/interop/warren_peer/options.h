/* options.h - what the flags of the test peer say; ../peers/README.md lists them. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "peer.h"

#include "transport/pnet.h"
#include "transport/quic.h"

struct options {
    struct words listen, bootstrap;
    size_t hosts;
    long seed;
    bool has_seed, mdns, retry;
    const char *dht, *dht_prefix, *agent, *limits, *transport;
    bool has_psk;
    uint8_t psk[WR_PNET_KEY];
    const struct wr_secure *security;    /* NULL: both */
    struct nat_flags nat;
    enum wr_quic_cc cc;
};

/* Where they cannot be followed the process ends: 2 for words that mean nothing, 3 for what this peer cannot do. */
const struct options *options_parse(int argc, char **argv);

#endif
