/* upnp_search.h - where does the gateway describe itself? SSDP, asking side: blocking, for about a second. Service, run
 * off the loop. Spec: UPnP Device Architecture 1.1, section 1.3. Anybody on the link may answer, with anything: of what
 * comes only descriptions at the gateway's own address count, the first few of them. */
#ifndef WR_UPNP_SEARCH_H
#define WR_UPNP_SEARCH_H

#include "autonat/upnp.h"

#define WR_UPNP_SEARCH_URLS 4       /* descriptions looked at; ours: a router has one, seldom two */
#define WR_UPNP_SEARCH_TIME 1000    /* milliseconds that answers are waited for; MX, ours */

/* How many there are. */
size_t wr_upnp_search(const struct wr_ip *gateway, const struct wr_ip *source,
                      char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL]);
/* The description that an answer tells of: text, ended by a zero. False: there is none, or not at this address. */
bool wr_upnp_search_read(const char *answer, const struct wr_ip *gateway, char url[static WR_UPNP_URL]);

#endif
