/* Votes on what peers see of us, from any number of observers, in any order: the counts stay within
 * their bounds and agree with one another. */
#include "identify/observed.h"
#include "transport/err.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VOTES_MAX  160    /* more than there can be candidates */
#define LOCALS_MAX 3

static uint8_t take(struct wr_bytes *in)
{
    return in->len ? *wr_bytes_take(in, 1).ptr : 0;
}

/* A few networks of a few peers each, so that they meet. */
static struct wr_addr observer(struct wr_bytes *in)
{
    uint8_t net = take(in);
    struct wr_addr at = {
        .ip = {.family = net & 1 ? 6 : 4, .bytes = {(uint8_t)(net >> 4), 1, 1, take(in)}},
        .port = (uint16_t)(1 + take(in))};
    return at;
}

/* Bytes of the input, or an address of ours that is likely. */
static struct wr_bytes seen(struct wr_bytes *in, uint8_t room[static 16])
{
    uint8_t how = take(in);
    if (how & 1)
        return wr_bytes_take(in, how >> 1 < in->len ? how >> 1 : in->len);
    const uint8_t ma[] = {4, 5, 5, 5, (uint8_t)(how >> 6), 6, 0x0f, take(in)};
    memcpy(room, ma, sizeof(ma));
    return WR_BYTES(room, sizeof(ma));
}

static void check(const struct wr_observed *o)
{
    struct wr_candidate c[WR_OBSERVED_LIST_MAX + 1];
    struct wr_waist fresh[8];
    size_t count = wr_observed_list(o, c, WR_OBSERVED_LIST_MAX + 1), active = 0;
    assert(count <= WR_OBSERVED_LIST_MAX && o->map.count <= WR_OBSERVED_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        assert(c[i].networks > 0 && c[i].networks <= c[i].all);
        active += c[i].active;
    }
    assert(active <= o->active_count && o->active_count <= LOCALS_MAX * WR_OBSERVED_TOP);
    assert(wr_observed_fresh(o, fresh, 8) <= 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t seed[WR_MAP_SEED] = {1};
    static struct wr_observed o;
    struct wr_bytes in = WR_BYTES(data, size);
    struct wr_vote votes[VOTES_MAX];
    struct wr_waist locals[LOCALS_MAX];
    wr_time now = WR_HOUR;
    memset(votes, 0, sizeof(votes));
    for (size_t i = 0; i < LOCALS_MAX; i++)
        locals[i] = (struct wr_waist){
            .addr = {.ip = {.family = i == 1 ? 6 : 4, .bytes = {192, 168, 1, (uint8_t)i}},
                     .port = 4001},
            .udp = i == 2};
    wr_observed_init(&o, seed);
    while (in.len > 0) {
        uint8_t what = take(&in);
        struct wr_vote *vote = &votes[take(&in) % VOTES_MAX];
        if (what < 160) {
            uint8_t room[16];
            struct wr_addr from = observer(&in);
            int rc =
                wr_observed_vote(&o, vote, &locals[what % LOCALS_MAX], &from, seen(&in, room), now);
            assert(rc == 0 || rc == WR_EINVAL || rc == WR_ELIMIT);
        } else if (what < 200) {
            wr_observed_leave(&o, vote, now);
        } else if (what < 210) {
            wr_observed_keep(&o, locals, what % (LOCALS_MAX + 1));
        } else {
            now += what * (wr_time)(4 * WR_SEC);
            (void)wr_observed_judge(&o, now);
            wr_time next = wr_observed_next(&o);
            assert(next == 0 || next > now);
            check(&o);
        }
    }
    wr_observed_clear(&o);
    for (size_t i = 0; i < VOTES_MAX; i++)
        assert(!votes[i].of);
    return 0;
}
