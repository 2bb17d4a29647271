#include "transport/crowds.h"

#include <string.h>

#define PREFIX4 2    /* bytes */
#define PREFIX6 4

void wr_crowds_init(struct wr_crowds *c, const uint8_t seed[static WR_MAP_SEED])
{
    memset(c, 0, sizeof(*c));
    memcpy(&c->seed, seed, sizeof(c->seed));
}

unsigned wr_crowds_of(const struct wr_crowds *c, const struct wr_ip *ip)
{
    uint64_t v = ip->family;
    for (size_t i = 0; i < (ip->family == 4 ? PREFIX4 : PREFIX6); i++)
        v = v << 8 | ip->bytes[i];
    v = (v ^ c->seed) * UINT64_C(0x9e3779b97f4a7c15);    /* splitmix64 */
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return (unsigned)(v >> 32) % WR_CROWDS_MAX;
}

void wr_crowds_add(struct wr_crowds *c, const struct wr_ip *ip)
{
    uint16_t *size = &c->size[wr_crowds_of(c, ip)];
    if (*size < UINT16_MAX)
        ++*size;
}

int wr_crowds_larger(const struct wr_crowds *c, const struct wr_ip *newcomer)
{
    unsigned most = c->size[wr_crowds_of(c, newcomer)] + 1u;
    int largest = -1;
    for (int i = 0; i < WR_CROWDS_MAX; i++) {
        if (c->size[i] > most) {
            most = c->size[i];
            largest = i;
        }
    }
    return largest;
}
