#include "autonat/contacts.h"

void wr_contacts_clear(struct wr_contacts *c)
{
    wr_free(c->of);
    *c = (struct wr_contacts){0};
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

/* The entry of an address, fresh when it is new or what was known of it is over. */
static struct wr_contact *touch(struct wr_contacts *c, const struct wr_ip *ip, bool udp, uint64_t opened_by,
                                wr_time now)
{
    struct wr_contact *e = find(c, ip, udp);
    if (e && !over(e, now)) {
        e->at = now;
        return e;
    }
    if (!c->of)
        c->of = wr_alloc_array(WR_CONTACTS_MAX, sizeof(*c->of));
    if (!c->of)
        return NULL;
    if (!e && c->count < WR_CONTACTS_MAX) {
        e = &c->of[c->count++];
    } else if (!e) {
        e = &c->of[0];
        for (size_t i = 1; i < c->count; i++)
            if (c->of[i].open < e->open || (c->of[i].open == e->open && c->of[i].at < e->at))
                e = &c->of[i];
    }
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
    return e && !over(e, now);
}
