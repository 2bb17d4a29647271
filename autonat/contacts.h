/* contacts.h - the IP addresses that we exchanged packets with lately, over TCP and UDP apart. Value. A
 * NAT or firewall may let in whoever we have talked to; whoever gets in without standing here is a
 * stranger, and what he reaches, everybody reaches. After WR_CONTACTS_MEMORY everyone is forgotten, as
 * NATs forget them (RFC 4787 asks for 2 to 5 minutes). Bounded: beyond the maximum the one that was longest
 * without a connection goes, and of him it stays known for as long again that he was there, by a hash that
 * some share with him: whoever has us dial a thousand others is no stranger for that. */
#ifndef WR_CONTACTS_H
#define WR_CONTACTS_H

#include "transport/addr.h"
#include "transport/env.h"
#include "transport/map.h"

#define WR_CONTACTS_MAX    1024          /* addresses; ours */
#define WR_CONTACTS_GONE   65536         /* bits for those beyond, twice: of ten thousand of them one stranger in
                                            fourteen cannot be told; ours */
#define WR_CONTACTS_MEMORY (10 * WR_MIN) /* after the last packet; ours */

struct wr_contact {
    struct wr_ip ip;
    bool udp;
    unsigned open;      /* connections */
    wr_time at;         /* the last packet that we know of */
    uint64_t opened_by; /* the connection that was the first contact; 0: we sent something first */
};

struct wr_contacts {
    const uint8_t *seed;   /* borrowed; WR_MAP_SEED bytes */
    struct wr_contact *of; /* owned; NULL: none yet */
    size_t count;
    uint8_t *gone;   /* owned, there when `of` is: bits since gone_at, and those of the time before */
    wr_time gone_at;
};

void wr_contacts_init(struct wr_contacts *c, const uint8_t seed[static WR_MAP_SEED]);
void wr_contacts_clear(struct wr_contacts *c);
/* A packet of ours went there. */
void wr_contacts_sent(struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now);
/* Connection `id` opened, by them when inbound; and closed. */
void wr_contacts_opened(struct wr_contacts *c, const struct wr_ip *ip, bool udp, bool inbound, uint64_t id,
                        wr_time now);
void wr_contacts_closed(struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now);
/* Was connection `id` the very first contact with that address? When in doubt: no. */
bool wr_contacts_stranger(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, uint64_t id);
/* Have we talked to that address lately? */
bool wr_contacts_known(const struct wr_contacts *c, const struct wr_ip *ip, bool udp, wr_time now);

#endif
