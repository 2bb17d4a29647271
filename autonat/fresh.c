#include "autonat/fresh.h"

#include <sodium.h>

void wr_fresh_key(struct wr_env *env, struct wr_key *key)
{
    uint8_t seed[WR_ED25519_SEED];
    wr_env_random(env, seed, sizeof(seed));
    wr_key_generate(key, seed);
    sodium_memzero(seed, sizeof(seed));
}

struct wr_swarm *wr_fresh_swarm(struct wr_swarm *home, const struct wr_key *key)
{
    return wr_swarm_create(&(struct wr_swarm_options){.env = wr_swarm_env(home),
                                                      .limits = wr_swarm_limits(home),
                                                      .identity = key,
                                                      .psk = wr_swarm_psk(home),
                                                      .heir = home});
}

bool wr_fresh_listen(struct wr_swarm *fresh, bool udp, uint8_t family)
{
    struct wr_addr any = {.ip.family = family};
    struct wr_maddr at;
    return wr_maddr_from_addr(&any, udp, &at) == 0 && wr_swarm_listen(fresh, wr_maddr_bytes(&at)) == 0;
}
