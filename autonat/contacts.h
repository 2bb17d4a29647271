/* contacts.h - the IP addresses that we exchanged packets with lately, over TCP and UDP apart. Value. A
 * NAT or firewall may let in whoever we have talked to; whoever gets in without standing here is a
 * stranger, and what he reaches, everybody reaches. Bounded: beyond the maximum the one that was longest
 * without a connection is forgotten, and after WR_CONTACTS_MEMORY everyone, as NATs forget them (RFC
 * 4787 asks for 2 to 5 minutes). */
#ifndef WR_CONTACTS_H
#define WR_CONTACTS_H

#include "transport/addr.h"
#include "transport/env.h"

#define WR_CONTACTS_MAX    1024          /* addresses; ours */
#define WR_CONTACTS_MEMORY (10 * WR_MIN) /* after the last packet; ours */

struct wr_contact {
    struct wr_ip ip;
    bool udp;
    unsigned open;      /* connections */
    wr_time at;         /* the last packet that we know of */
    uint64_t opened_by; /* the connection that was the first contact; 0: we sent something first */
};

struct wr_contacts {
    struct wr_contact *of; /* owned; NULL: none yet */
    size_t count;
};

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
