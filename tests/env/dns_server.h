/* dns_server.h - a name server on loopback, over UDP and TCP, that answers from a table. */
#ifndef DNS_SERVER_H
#define DNS_SERVER_H

#include "transport/env.h"

struct dns_server;

/* Serves at the address in *at, whose port may be 0 and is set to the one taken. */
struct dns_server *dns_server_create(struct wr_env *env, struct wr_addr *at);
void dns_server_destroy(struct dns_server *server);
/* One more record (copied). An answer that does not fit a datagram is cut off there, to be asked for
 * again over TCP. */
void dns_server_add(struct dns_server *server, const char *name, enum wr_lookup_type type,
                    struct wr_bytes record);
void dns_server_mute(struct dns_server *server, bool mute);    /* takes questions, answers none */
unsigned dns_server_asked(const struct dns_server *server, bool over_tcp);

#endif
