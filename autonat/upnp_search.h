/* upnp_search.h - where does the gateway describe itself? SSDP, asking side: blocking, for a second or two. Service, run
 * off the loop. Spec: UPnP Device Architecture 1.1, section 1.3. Anybody on the link may answer, with anything: of what
 * comes only descriptions at the gateway's own address count, the first few of them. Over IPv6 a gateway has several
 * addresses and names any: it has to answer from the one that we know, and is called at that one. */
#ifndef WR_UPNP_SEARCH_H
#define WR_UPNP_SEARCH_H

#include "autonat/upnp.h"

#define WR_UPNP_SEARCH_URLS 4       /* descriptions looked at; ours: a router has one, seldom two */
#define WR_UPNP_SEARCH_TIME 1000    /* milliseconds that answers are waited for: MX, within which they are sent; ours */
#define WR_UPNP_SEARCH_LATE 2500    /* ... and for the first one: whoever is busy sends them one after the other; ours */

/* How many there are. zone: the number of the gateway's interface, for IPv6. */
size_t wr_upnp_search(const struct wr_ip *gateway, const struct wr_ip *source, uint32_t zone,
                      char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL]);
/* The description that an answer tells of: text, ended by a zero. False: there is none, or (IPv4) not at this address. */
bool wr_upnp_search_read(const char *answer, const struct wr_ip *gateway, uint32_t zone, char url[static WR_UPNP_URL]);

#endif
