#include "transport/limits.h"

#include "transport/err.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

/* The columns' memory and the bounds of a size, in MiB: the arithmetic below then fits 64 bits. */
#define SMALL_MIB   32
#define HOME_MIB    128
#define SERVER_MIB  1024
#define LOWEST_MIB  16
#define HIGHEST_MIB (1024 * 1024)

struct column {
    const char *name, *unit;
    uint64_t small, home, server;
};

static const struct column COLUMNS[WR_LIMIT_COUNT] = {
#define LIMIT_ROW(name, text, small, home, server, unit) {text, unit, small, home, server},
    WR_LIMIT_MAP(LIMIT_ROW)
#undef LIMIT_ROW
};

/* "64M", "1G", "16384K" or bytes. Returns whole MiB, 0 when it is no size of ours. */
static uint64_t parse_size(const char *text)
{
    uint64_t v = 0;
    if (!isdigit((unsigned char)*text))
        return 0;
    for (; isdigit((unsigned char)*text); text++) {
        if (v > UINT64_MAX / 100)
            return 0;
        v = v * 10 + (uint64_t)(*text - '0');
    }
    unsigned shift = 0;
    if (*text) {
        const char *at = strchr("KMG", toupper((unsigned char)*text));
        if (!at || text[1])
            return 0;
        shift = *at == 'K' ? 10 : *at == 'M' ? 20 : 30;
    }
    if (v > UINT64_MAX >> shift)
        return 0;
    uint64_t mib = (v << shift) / WR_MIB;
    return mib >= LOWEST_MIB && mib <= HIGHEST_MIB ? mib : 0;
}

static uint64_t parse_knob(const char *knob)
{
    if (!knob)
        return 0;
    if (strcmp(knob, "small") == 0)
        return SMALL_MIB;
    if (strcmp(knob, "home") == 0)
        return HOME_MIB;
    if (strcmp(knob, "server") == 0)
        return SERVER_MIB;
    return parse_size(knob);
}

static uint64_t ceiling(const struct column *c, uint64_t mib)
{
    if (mib < SMALL_MIB) {
        uint64_t max = c->small * mib / SMALL_MIB;
        return max ? max : 1;
    }
    if (mib < HOME_MIB)
        return c->small + (c->home - c->small) * (mib - SMALL_MIB) / (HOME_MIB - SMALL_MIB);
    return c->home + (c->server - c->home) * (mib - HOME_MIB) / (SERVER_MIB - HOME_MIB);
}

int wr_limits_init(struct wr_limits *limits, const char *knob)
{
    memset(limits, 0, sizeof(*limits));
    return wr_limits_change(limits, knob);
}

int wr_limits_change(struct wr_limits *limits, const char *knob)
{
    uint64_t mib = parse_knob(knob);
    if (!mib)
        return WR_EINVAL;
    for (size_t i = 0; i < WR_LIMIT_COUNT; i++) {
        assert(COLUMNS[i].small <= COLUMNS[i].home && COLUMNS[i].home <= COLUMNS[i].server);
        limits->of[i].max = ceiling(&COLUMNS[i], mib);
    }
    return 0;
}

bool wr_limits_fit(struct wr_limits *limits, uint64_t descriptors)
{
    static const enum wr_limit lowered[] = {WR_LIMIT_CONNS, WR_LIMIT_CONNS_HALF_OPEN, WR_LIMIT_DIALS,
                                            WR_LIMIT_CONNS_INBOUND};
    uint64_t others = WR_LIMITS_FILES + limits->of[WR_LIMIT_CLIENTS].max;
    uint64_t room = descriptors > others ? descriptors - others : 0, sum = 0;
    for (size_t i = 0; i < 3; i++)    /* inbound ones are connections too */
        sum += limits->of[lowered[i]].max;
    if (sum <= room)
        return false;
    for (size_t i = 0; i < sizeof(lowered) / sizeof(*lowered); i++) {
        uint64_t max = limits->of[lowered[i]].max * room / sum;
        limits->of[lowered[i]].max = max ? max : 1;
    }
    return true;
}

static void lower(struct wr_limits *limits, enum wr_limit limit, uint64_t max)
{
    if (limits->of[limit].max > max)
        limits->of[limit].max = max ? max : 1;
}

void wr_limits_sessions(struct wr_limits *limits, uint64_t router)
{
    uint64_t sessions = router - router / 4;
    if (!router)
        return;
    limits->of[WR_LIMIT_SESSIONS].max = sessions;
    lower(limits, WR_LIMIT_CONNS, sessions / 2);
    lower(limits, WR_LIMIT_CONNS_INBOUND, sessions / 3);
    lower(limits, WR_LIMIT_DIALS, sessions / 6);
}

bool wr_limits_take(struct wr_limits *limits, enum wr_limit limit, uint64_t n)
{
    uint64_t used = limits->of[limit].used;
    uint64_t max = limits->of[limit].max;
    if (used > max || n > max - used) {
        limits->of[limit].refused++;
        return false;
    }
    limits->of[limit].used = used += n;
    if (used > limits->of[limit].peak)
        limits->of[limit].peak = used;
    return true;
}

/* What one connection that holds `held` may take now. */
static uint64_t fair_room(const struct wr_limits *limits, enum wr_limit limit, uint64_t held)
{
    uint64_t used = limits->of[limit].used;
    uint64_t max = limits->of[limit].max;
    uint64_t conns = limits->of[WR_LIMIT_CONNS].max;
    uint64_t part = conns ? max / 2 / conns : 0;
    uint64_t pool = max - max / 2;
    uint64_t set_aside = held < part ? part - held : 0;
    uint64_t shared = used + held < pool ? (pool - used - held) / 2 : 0;
    return shared > set_aside ? shared : set_aside;
}

bool wr_limits_take_fair(struct wr_limits *limits, enum wr_limit limit, uint64_t held, uint64_t n)
{
    if (n <= fair_room(limits, limit, held))
        return wr_limits_take(limits, limit, n);
    limits->of[limit].refused++;
    return false;
}

void wr_limits_charge(struct wr_limits *limits, enum wr_limit limit, uint64_t n)
{
    limits->of[limit].used += n;
    if (limits->of[limit].used > limits->of[limit].peak)
        limits->of[limit].peak = limits->of[limit].used;
}

void wr_limits_give(struct wr_limits *limits, enum wr_limit limit, uint64_t n)
{
    assert(n <= limits->of[limit].used);
    limits->of[limit].used -= n;
}

void wr_limits_refuse(struct wr_limits *limits, enum wr_limit limit)
{
    limits->of[limit].refused++;
}

bool wr_account_take(struct wr_account *a, uint64_t n)
{
    if (a->limits && !wr_limits_take_fair(a->limits, WR_LIMIT_MEMORY, a->held, n))
        return false;
    a->held += n;
    return true;
}

void wr_account_charge(struct wr_account *a, uint64_t n)
{
    if (a->limits)
        wr_limits_charge(a->limits, WR_LIMIT_MEMORY, n);
    a->held += n;
}

void wr_account_give(struct wr_account *a, uint64_t n)
{
    assert(n <= a->held);
    if (a->limits)
        wr_limits_give(a->limits, WR_LIMIT_MEMORY, n);
    a->held -= n;
}

uint64_t wr_account_room(const struct wr_account *a)
{
    if (!a->limits)
        return UINT64_MAX;
    return fair_room(a->limits, WR_LIMIT_MEMORY, a->held);
}

const char *wr_limit_name(enum wr_limit limit)
{
    return COLUMNS[limit].name;
}

const char *wr_limit_unit(enum wr_limit limit)
{
    return COLUMNS[limit].unit;
}

bool wr_limit_counted(enum wr_limit limit)
{
    switch (limit) {
    case WR_LIMIT_CONNS_PER_PEER:
    case WR_LIMIT_CONNS_PER_NET:
    case WR_LIMIT_NEW_FLOWS:
    case WR_LIMIT_SILENT_TRIES:
    case WR_LIMIT_STREAMS_PER_CONN:
    case WR_LIMIT_STREAMS_PER_PROTOCOL:
        return false;
    default:
        return true;
    }
}
