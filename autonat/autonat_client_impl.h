/* autonat_client_impl.h - the inside of the service: autonat_client.c knows servers, asks and judges,
 * autonat_client_back.c takes the dial-backs, autonat_client_nat.c finds out about the NAT, autonat_client_life.c
 * how long it remembers. Service, private to these four. */
#ifndef WR_AUTONAT_CLIENT_IMPL_H
#define WR_AUTONAT_CLIENT_IMPL_H

#include "autonat/ask.h"
#include "autonat/autonat_client.h"
#include "autonat/contacts.h"
#include "autonat/filtertest.h"
#include "autonat/hairtest.h"
#include "autonat/lifetest.h"
#include "autonat/lifetime.h"
#include "autonat/natkind.h"
#include "autonat/pulse.h"
#include "autonat/survey.h"

struct server {
    struct wr_peerid peer;
    struct wr_ip ip;
    bool connected, v1, v2, delegates;
    bool greedy; /* it wanted dial data though it sees us where it was to dial: others are asked first */
    bool unwilling[2][2]; /* it dials nobody over TCP, UDP by IPv4, IPv6, as who is behind a NAT: it has no say */
    unsigned busy;    /* questions of ours that are there */
    wr_time asked_at; /* 0: never */
    wr_time
        quiet_until[2]; /* it refused, or makes no sense: about TCP, UDP (go without UDP refuses QUIC) */
    unsigned vain[2]; /* answers in a row that said nothing */
};

/* One question under way. */
struct probe {
    struct wr_list node;
    struct wr_autonat_client *client;
    struct wr_ask ask;
    struct wr_maddr addr;
    struct wr_peerid server;
    struct wr_ip ip;    /* the server's: it has one voice, by whichever connection it is asked */
    struct wr_addr via; /* the other end of that connection */
    bool udp, ip6, v1, over;
    uint64_t nonce;
    bool arrived;  /* the nonce came, or (version 1) a connection from the server */
    bool stranger; /* from where nothing had come before */
    bool stranger_wanted;
    bool costs; /* dial data is expected, and taken from the allowance */
    wr_time begun_at;
    struct wr_task task; /* disposal */
};

/* Do machines behind our NAT meet under its outside address? */
struct hairpin {
    struct wr_autonat_client *client;
    struct wr_hairtest test;
    bool udp, tried;
};

/* How are ports allocated, where connections of our own socket do not show it? */
struct ports {
    struct wr_autonat_client *client;
    struct wr_survey survey;
    struct wr_nat_kind found; /* alloc and what belongs to it */
    bool udp;
    unsigned tried;
};

/* Which port does a NAT that counts give out now? Somebody waits for it. */
struct look {
    struct wr_list node;
    struct wr_autonat_client *client;
    struct wr_survey survey; /* of one connection */
    bool udp;
    wr_ports_done done;
    void *arg;
    struct wr_task task; /* disposal */
};

/* Whom does the NAT let in? */
struct filter {
    struct wr_autonat_client *client;
    struct wr_filtertest test;
    struct wr_peerid asked[WR_SURVEY_SAMPLES]; /* by it, in its order */
    enum wr_nat_filtering found;
    bool udp, ip6;
    unsigned tried;
    wr_time again_at; /* after one that said nothing */
};

/* Connections made for what their peers see of us. */
struct extra {
    struct wr_autonat_client *client;
    struct wr_connect *request;
    uint64_t conn_id; /* 0: none */
    wr_time made_at;
    wr_time done_at;  /* when its peer had said what it sees; 0: not yet */
};

/* Who dials sockets of ours that were silent. */
#define WR_LIFE_HELPERS 6 /* ours: their rates allow each 12 a minute */
struct life_helper {
    struct wr_peerid peer;
    struct wr_maddr addr;
    bool proved; /* a control got through */
};

/* How long does the NAT remember? */
struct life {
    struct wr_lifetime known;
    struct life_helper helpers[WR_LIFE_HELPERS];
    size_t helper_count, turn;
    struct wr_list tries; /* struct life_try */
    size_t try_count;
    uint32_t again; /* bit by step: still to be tried, or a try said nothing */
    struct wr_autonat_memory memory; /* recall NULL: none */
    bool recalled; /* it was asked for this network ... */
    bool unsure;   /* ... and what it said was not tried yet */
    unsigned refuted; /* tries that went against it */
    struct wr_list waiting; /* struct wr_autonat_measure: empty means that there is time */
    enum { LIFE_WAITING, LIFE_CONTROLS, LIFE_LADDER } phase; /* of whoever waits */
    wr_time full_at;                                         /* since when somebody waits */
    struct wr_timer timer;
};

struct wr_autonat_client {
    struct wr_swarm *sw;
    struct wr_env *env;
    struct wr_swarm_watch watch;
    struct wr_verdict verdict;
    struct wr_contacts contacts;
    struct wr_natkind samples[2][2]; /* IPv4, IPv6; TCP, UDP */
    struct hairpin hairpins[2];
    struct ports ports[2];
    struct wr_list looks;
    size_t look_count;
    uint16_t newest_port[2]; /* that a look showed; 0: none ... */
    wr_time newest_at[2];    /* ... and when its mapping was made */
    struct filter filters[2][2]; /* IPv4, IPv6; TCP, UDP */
    struct life life;
    struct extra extras[2][WR_NATKIND_FEW];
    bool extras_made[2], pairs_made[2]; /* to other peers; to other ports of peers */
    unsigned extras_named[2];           /* times that they were made to addresses that peers only name ... */
    wr_time extras_at[2];               /* ... and when they may be made again */
    struct wr_timer extras_timer;
    struct server servers[WR_AUTONAT_CLIENT_SERVERS];
    size_t server_count;
    struct wr_list probes, backs;
    size_t probe_count, back_count;
    struct wr_timer timer;
    struct wr_pulse pulse; /* while questions are under way */
    wr_time news_at;    /* a server in a new network turned up */
    wr_time born_at;    /* the first server since the last reset; 0: none yet */
    wr_time data_whole_at; /* when all of the allowance for dial data is back */
    uint64_t listening; /* of the IPv4 addresses that we listen on: a hash */
    struct wr_autonat_client_stats stats;
};

/* autonat_client.c: looks at everything anew, now. */
void wr_autonat_client_again(struct wr_autonat_client *c);
/* A server was asked about TCP or UDP and did not dial: it is left alone for a while. passes: it may have had too much to
 * do, and is asked again sooner where there are few. */
void wr_autonat_client_in_vain(struct wr_autonat_client *c, struct server *s, bool udp, bool passes);

/* autonat_client_back.c */
int wr_autonat_client_back_start(struct wr_autonat_client *c); /* 0, WR_ELIMIT */
void wr_autonat_client_back_stop(struct wr_autonat_client *c);
/* A connection came in: version 1 brings nothing else. */
void wr_autonat_client_back_conn(struct wr_autonat_client *c, const struct wr_conn *conn);

/* autonat_client_nat.c */
void wr_autonat_client_nat_observed(struct wr_autonat_client *c, struct wr_conn *conn,
                                    const struct wr_maddr *seen);
/* Have packets of ours gone to this IP along the mapping that the address stands for? */
bool wr_autonat_client_nat_talked(const struct wr_autonat_client *c, const struct wr_maddr *addr, bool udp,
                                  const struct wr_ip *ip);
/* Does the other end of this connection see us at this IP? Then it wants no dial data for an address there. */
bool wr_autonat_client_nat_sees(const struct wr_autonat_client *c, const struct wr_conn *conn,
                                const struct wr_ip *ip);
/* Are connections being made to servers, that have not said yet where they see us? */
bool wr_autonat_client_nat_meeting(const struct wr_autonat_client *c, bool udp);
/* Is there a server to ask that the mapping of this address was made for? */
bool wr_autonat_client_nat_owned(const struct wr_autonat_client *c, const struct wr_maddr *addr, bool udp);
bool wr_autonat_client_nat_hard(const struct wr_autonat_client *c,
                                bool udp);                     /* another port for everybody */
void wr_autonat_client_nat_judge(struct wr_autonat_client *c); /* filtering, from the answers */
void wr_autonat_client_nat_step(struct wr_autonat_client *c);  /* begins what is due of the tests */
/* Somebody opened the router there for everybody, as far as it says. */
bool wr_autonat_client_nat_opened(const struct wr_autonat_client *c, const struct wr_maddr *addr);
/* Do those whom we talk to get in from their other ports, too? False when it is known that they do not. */
bool wr_autonat_client_nat_friends(const struct wr_autonat_client *c, bool udp, bool ip6);
/* Is it known that whoever we never talked to gets in to every mapping, or that he does not? */
bool wr_autonat_client_nat_open(const struct wr_autonat_client *c, bool udp, bool ip6);
bool wr_autonat_client_nat_closed(const struct wr_autonat_client *c, bool udp, bool ip6);
void wr_autonat_client_nat_start(struct wr_autonat_client *c);
void wr_autonat_client_nat_stop(struct wr_autonat_client *c);  /* what runs */
void wr_autonat_client_nat_end(struct wr_autonat_client *c);
void wr_autonat_client_nat_reset(struct wr_autonat_client *c); /* another network */

/* autonat_client_life.c */
void wr_autonat_client_life_start(struct wr_autonat_client *c);
void wr_autonat_client_life_reset(struct wr_autonat_client *c); /* another network */
void wr_autonat_client_life_end(struct wr_autonat_client *c);
void wr_autonat_client_life_recall(struct wr_autonat_client *c); /* once enough is known of the NAT */

#endif
