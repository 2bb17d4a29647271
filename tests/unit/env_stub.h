/* env_stub.h - the clock and the dice of env.h for tests of values, which need no more of it. Included by
 * one source file of a test program. */
#ifndef WR_TESTS_ENV_STUB_H
#define WR_TESTS_ENV_STUB_H

#include "transport/env.h"

struct wr_env {
    wr_time now;
    uint64_t dice;
    uint8_t seed[16];
};

wr_time wr_env_now(const struct wr_env *env)
{
    return env->now;
}

int64_t wr_env_unix(const struct wr_env *env)
{
    return env->now;
}

/* splitmix64: good enough to tell tests' peers apart, the same in every run. */
void wr_env_random(struct wr_env *env, void *out, size_t len)
{
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i++) {
        uint64_t z = (env->dice += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        bytes[i] = (uint8_t)(z >> 31);
    }
}

uint64_t wr_env_random_below(struct wr_env *env, uint64_t below)
{
    uint64_t r;
    wr_env_random(env, &r, sizeof(r));
    return below ? r % below : 0;
}

const uint8_t *wr_env_hash_seed(const struct wr_env *env)
{
    return env->seed;
}

const struct wr_log *wr_env_log(const struct wr_env *env)
{
    (void)env;
    return NULL;
}

#endif
