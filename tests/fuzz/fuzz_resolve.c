/* Names in multiaddrs, and whatever a resolver answers: it ends, within its bounds, and reports nothing but
 * whole addresses without a name in front. The first byte says how much of the input is the address; the
 * rest are answers, each a length and as many bytes, taken in any order. The source is included, with a
 * resolver that asks the input. */
#include "transport/env_turn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PENDING_MAX 64

struct wr_lookup {
    enum wr_lookup_type type;
    wr_lookup_fn fn;
    void *arg;
};

static struct wr_lookup *pending[PENDING_MAX];
static unsigned pending_count, asked;

static int fake_lookup(struct wr_env *env, const char *name, enum wr_lookup_type type, wr_lookup_fn fn,
                       void *arg, struct wr_lookup **out)
{
    (void)env;
    assert(pending_count < PENDING_MAX);
    asked++;
    if (!name[0] || strlen(name) > 253)
        return -1;
    struct wr_lookup *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    *l = (struct wr_lookup){type, fn, arg};
    pending[pending_count++] = *out = l;
    return 0;
}

static void forget(unsigned i)
{
    free(pending[i]);
    pending[i] = pending[--pending_count];
}

static void fake_cancel(struct wr_lookup *l)
{
    unsigned i = 0;
    while (i < pending_count && pending[i] != l)
        i++;
    assert(i < pending_count);
    forget(i);
}

#define wr_env_lookup    fake_lookup
#define wr_lookup_cancel fake_cancel
#include "transport/resolve.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    unsigned addrs, done;
};

static void on_addr(void *arg, struct wr_bytes addr)
{
    struct heard *h = arg;
    struct wr_maddr again;
    struct wr_maddr_part part;
    assert(!h->done && ++h->addrs <= WR_RESOLVE_ADDRS_MAX);
    assert(wr_maddr_decode(addr, &again) == 0);
    assert(wr_maddr_next(&addr, &part) && part.code != WR_MA_DNS && part.code != WR_MA_DNS4 &&
           part.code != WR_MA_DNS6 && part.code != WR_MA_DNSADDR);
}

static void on_done(void *arg, int err)
{
    struct heard *h = arg;
    assert(!h->done && (err == 0) == (h->addrs > 0));
    h->done++;
}

static void answer(struct wr_reader *r)
{
    struct wr_bytes answers[8];
    unsigned how = wr_read_u8(r), i = how % pending_count;
    size_t count = 0, want = how >> 5;
    struct wr_lookup l = *pending[i];
    while (count < want) {
        size_t len = l.type == WR_LOOKUP_A ? 4 : l.type == WR_LOOKUP_AAAA ? 16 : wr_read_u8(r);
        struct wr_bytes got = wr_read_bytes(r, len);
        if (r->bad)
            break;
        answers[count++] = got;
    }
    forget(i);
    l.fn(l.arg, count ? 0 : WR_ENOTFOUND, answers, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct wr_resolve_ops ops = {on_addr, on_done};
    struct wr_env env;
    struct wr_reader r;
    struct wr_maddr addr;
    struct heard heard = {0, 0};
    wr_reader_init(&r, WR_BYTES(data, size));
    bool cancel = size && data[size - 1] == 0xee;
    if (wr_maddr_decode(wr_read_prefixed(&r), &addr) != 0)
        return 0;
    pending_count = asked = 0;
    wr_env_turn_init(&env, NULL);
    wr_env_turn_begin(&env, WR_SEC);
    struct wr_resolve *resolve = wr_resolve_start(&env, wr_maddr_bytes(&addr), &ops, &heard);
    wr_env_turn_end(&env);
    while (pending_count) {
        wr_env_turn_begin(&env, WR_SEC);
        if (cancel && r.rest.len < 2) {
            wr_resolve_cancel(resolve);
            heard.done++;
        } else {
            answer(&r);
        }
        wr_env_turn_end(&env);
    }
    assert(heard.done == 1 && asked <= 2 * WR_RESOLVE_LOOKUPS_MAX);
    return 0;
}
