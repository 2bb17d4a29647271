#include "autonat/contacts.h"

#include <sodium.h>
#include <string.h>

#define GONE_BYTES (WR_CONTACTS_GONE / 8)

void wr_contacts_init(struct wr_contacts *c, const uint8_t seed[static WR_MAP_SEED])
{
    *c = (struct wr_contacts){.seed = seed};
}

void wr_contacts_clear(struct wr_contacts *c)
{
    wr_free(c->of);
    wr_free(c->gone);
    wr_contacts_init(c, c->seed);
}

static struct wr_contact *find(const struct wr_contacts *c, const struct wr_ip *ip, bool udp)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->of[i].udp == udp && wr_ip_equal(&c->of[i].ip, ip))
            return &c->of[i];
    return NULL;
}

static bool over(const struct wr_contact *e, wr_time now)
{
    return !e->open && now - e->at >= WR_CONTACTS_MEMORY;
}

/* ---- those that went before their time ----------------------------------------------------------- */

/* What was noted in the time before goes when another time begins. */
static void turn(struct wr_contacts *c, wr_time now)
{
    if (now - c->gone_at < WR_CONTACTS_MEMORY)
        return;
    memmove(c->gone + GONE_BYTES, c->gone, GONE_BYTES);
    memset(c->gone, 0, GONE_BYTES);
    if (now - c->gone_at >= 2 * WR_CONTACTS_MEMORY)
        memset(c->gone + GONE_BYTES, 0, GONE_BYTES);
    c->gone_at = now;
}

/* The two bits of an address. */
static void bits_of(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, uint16_t bits[static 2])
{
    uint8_t what[sizeof(*ip) + 1], hash[crypto_shorthash_BYTES];
    memcpy(what, ip, sizeof(*ip));
    what[sizeof(*ip)] = udp;
    crypto_shorthash(hash, what, sizeof(what), c->seed);
    memcpy(bits, hash, 2 * sizeof(*bits));
}

static void note_gone(struct wr_contacts *c, const struct wr_contact *e, wr_time now)
{
    uint16_t bits[2];
    turn(c, now);
    bits_of(c, &e->ip, e->udp, bits);
    for (size_t i = 0; i < 2; i++)
        c->gone[bits[i] / 8] |= (uint8_t)(1u << bits[i] % 8);
}

static bool is_gone(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now)
{
    uint16_t bits[2];
    bool found = false;
    if (!c->gone)
        return false;
    bits_of(c, ip, udp, bits);
    for (wr_time age = 0; age < 2; age++) {
        const uint8_t *in = c->gone + age * GONE_BYTES;
        found |= now - c->gone_at < (2 - age) * WR_CONTACTS_MEMORY && in[bits[0] / 8] & 1u << bits[0] % 8 &&
                 in[bits[1] / 8] & 1u << bits[1] % 8;
    }
    return found;
}

/* ---- all of them --------------------------------------------------------------------------------- */

static bool make_table(struct wr_contacts *c)
{
    if (!c->of)
        c->of = wr_alloc_array(WR_CONTACTS_MAX, sizeof(*c->of));
    if (!c->gone)
        c->gone = wr_alloc(2 * GONE_BYTES);
    return c->of && c->gone;
}

/* The entry of an address, fresh when it is new or what was known of it is over. */
static struct wr_contact *touch(struct wr_contacts *c, const struct wr_ip *ip, bool udp, uint64_t opened_by,
                                wr_time now)
{
    struct wr_contact *e = find(c, ip, udp);
    if (e && !over(e, now)) {
        e->at = now;
        return e;
    }
    if (!make_table(c))
        return NULL;
    if (!e && c->count < WR_CONTACTS_MAX) {
        e = &c->of[c->count++];
    } else if (!e) {
        e = &c->of[0];
        for (size_t i = 1; i < c->count; i++)
            if (c->of[i].open < e->open || (c->of[i].open == e->open && c->of[i].at < e->at))
                e = &c->of[i];
        if (!over(e, now))
            note_gone(c, e, now);
    }
    if (is_gone(c, ip, udp, now))
        opened_by = 0;
    *e = (struct wr_contact){.ip = *ip, .udp = udp, .at = now, .opened_by = opened_by};
    return e;
}

void wr_contacts_sent(struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now)
{
    (void)touch(c, ip, udp, 0, now);
}

void wr_contacts_opened(struct wr_contacts *c, const struct wr_ip *ip, bool udp, bool inbound, uint64_t id,
                        wr_time now)
{
    struct wr_contact *e = touch(c, ip, udp, inbound ? id : 0, now);
    if (e)
        e->open++;
}

void wr_contacts_closed(struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now)
{
    struct wr_contact *e = find(c, ip, udp);
    if (!e)
        return;
    e->at = now;
    if (e->open)
        e->open--;
}

bool wr_contacts_stranger(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, uint64_t id)
{
    const struct wr_contact *e = find(c, ip, udp);
    return e && e->opened_by && e->opened_by == id;
}

bool wr_contacts_known(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now)
{
    const struct wr_contact *e = find(c, ip, udp);
    return (e && !over(e, now)) || is_gone(c, ip, udp, now);
}
