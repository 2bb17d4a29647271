/* upnp_http.h - one HTTP exchange with the gateway: blocking, over at its deadline whatever the gateway does, and with
 * a bound on the answer. Service, run off the loop. What UPnP needs of RFC 9112: addresses as numbers, no redirects, an
 * answer that ends by its length, by its last chunk or with the connection. */
#ifndef WR_UPNP_HTTP_H
#define WR_UPNP_HTTP_H

#include "transport/addr.h"
#include "transport/bytes.h"

#define WR_UPNP_HTTP_ANSWER 65536    /* bytes with the head; ours: descriptions have 2 to 20 KiB */
#define WR_UPNP_HTTP_TIME   3000     /* milliseconds of one exchange; ours: routers answer within a second */

/* Milliseconds of a clock that only goes forward. */
int64_t wr_upnp_http_clock(void);

/* GET, or with an action (SOAPAction) POST of the body, at a URL like "http://192.168.1.1:5000/path"; with a source, an IPv6
 * address of ours that the call comes from, at one like "http://[fe80::1%2]:5000/path", the zone a number. Over by
 * `until`, a moment of the clock, and after WR_UPNP_HTTP_TIME in any case. memory takes the answer; *body is the part of
 * it behind the head. The status, 200 and such; WR_EINVAL (the URL), WR_EUNREACH, WR_ETIMEOUT, WR_ELIMIT (too long an answer),
 * WR_EPROTO. */
int wr_upnp_http_ask(const char *url, const struct wr_ip *source, const char *action, const char *post, int64_t until,
                     char memory[static WR_UPNP_HTTP_ANSWER + 1], struct wr_bytes *body);

#endif
