/* The routing table under any sequence of its operations, checked against its own rules after each.
 */
#include "dht/kbucket.h"
#include "transport/err.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_ENTRIES 100

static uint8_t take(struct wr_bytes *in)
{
    return in->len ? *wr_bytes_take(in, 1).ptr : 0;
}

static struct wr_kentry entry_of(struct wr_bytes *in)
{
    struct wr_kentry e = {.id = {.len = 34}};
    uint8_t cpl = take(in), n = take(in), group = take(in);
    e.key[cpl % 64 / 8] = (uint8_t)(0x80 >> cpl % 8);
    e.key[20] = n;
    memcpy(e.id.bytes, e.key, WR_KAD_KEY);
    for (unsigned g = 0; g < 2; g++, group >>= 4)
        wr_ipgroup_add(e.groups, group & 15u);
    return e;
}

static size_t of_group(const struct wr_kbucket *t, uint64_t group)
{
    size_t cursor = 0, count = 0;
    for (struct wr_kentry *e; (e = wr_kbucket_next(t, &cursor));)
        count += wr_ipgroup_has(e->groups, group);
    return count;
}

static void check(const struct wr_kbucket *t)
{
    const struct wr_kentry *nearest[MAX_ENTRIES + 1];
    size_t cursor = 0, count = 0;
    for (struct wr_kentry *e; (e = wr_kbucket_next(t, &cursor)); count++)
        assert(wr_kbucket_find(t, e->key) == e);
    assert(count == t->count && count <= MAX_ENTRIES);
    assert(wr_kbucket_closest(t, t->self, nearest, MAX_ENTRIES + 1) == count);
    for (size_t i = 1; i < count; i++)
        assert(wr_kad_compare(t->self, nearest[i - 1]->key, nearest[i]->key) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_bytes in = WR_BYTES(data, size);
    struct wr_kbucket t;
    wr_time now = WR_HOUR;
    static const uint8_t self[WR_KAD_KEY];
    wr_kbucket_init(&t, self, MAX_ENTRIES);
    while (in.len > 0) {
        uint8_t what = take(&in);
        struct wr_kentry e = entry_of(&in);
        struct wr_peerid evicted;
        unsigned cpl;
        size_t before = t.count;
        bool wanted, known = wr_kbucket_find(&t, e.key) != NULL;
        int rc;
        switch (what % 6) {
        case 0:
        case 1:
        case 2:
            wanted = wr_kbucket_wants(&t, &e, now);
            rc = wr_kbucket_add(&t, &e, what & 8, now, &evicted);
            assert((rc == 0) == known && (rc <= 0 || wanted));
            assert(t.count == before + (rc == 1 && evicted.len == 0));
            for (size_t g = 0; rc == 1 && g < WR_IPGROUPS_MAX && e.groups[g]; g++)
                assert(of_group(&t, e.groups[g]) <= WR_KBUCKET_GROUP_MAX);
            break;
        case 3:
            assert(wr_kbucket_remove(&t, e.key) == known);
            break;
        case 4:
            now += (wr_time)what * WR_MIN;
            if (wr_kbucket_refresh_due(&t, now, &cpl)) {
                assert(cpl < t.bucket_count);
                wr_kbucket_refreshed(&t, e.key, now);
            }
            assert(t.bucket_count == 0 || wr_kbucket_refresh_at(&t) != 0);
            break;
        default:
            if (what & 64)
                wr_kbucket_settle(&t);
            if (wr_kbucket_check_due(&t, now))
                wr_kbucket_check_due(&t, now)->success_at = now;
        }
        check(&t);
    }
    wr_kbucket_clear(&t);
    return 0;
}
