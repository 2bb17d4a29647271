/* relay_auto.h - which relays hold a place for us: found, chosen, watched and replaced. Service.
 *
 *   wanted      strangers do not reach us (over IPv4), or nobody has said so for WR_RELAY_AUTO_PATIENCE and none of our
 *               listening addresses is public. Behind a NAT that has opened no port for us it seldom ends otherwise, and
 *               until then nobody finds us: there for WR_RELAY_AUTO_NATTED, unless a stranger got through meanwhile
 *   found       the owner's first; peers that we are connected with and that relay; known ones that we are not
 *               connected with, those that we have reached before others; whoever the node finds when asked to (discover)
 *   chosen      two on different networks (/16, IPv6 /32), the nearer ones; every ten minutes a much nearer one replaces
 *               the farthest
 *   watched     a ping each 5 s (each 15 while nothing is known of our reachability), and when our network changed or one
 *               of two connections ended: four seconds without an answer, and the connection is closed. So ten seconds
 *               after both were switched off, without a word, others hold a place
 *               And with each of those pings a circuit to ourselves (each minute while nothing is known), for who answers
 *               pings may refuse circuits, or pass on nothing: so one that begins to is left within ten seconds, as far as
 *               the round trip is at most 250 ms. It costs 350 bytes each way, 250 KB an hour, and some six packets.
 *               Relays that count circuits are asked more rarely (wr_relay_hold.check_every)
 *   replaced    at once, and as soon as a relay will not prolong the place (it is kept until it runs out), or it is doubted
 *               (until another one is seen to be good: when none is, the trouble may be ours). Who refused is left alone
 *               for an hour, who was lost a while longer each time, unless it was our own network that changed. Who is
 *               without any place asks them sooner, apart from those that refused
 *
 * The owner's relays are held whether wanted or not. It makes the relay client, and owns it. */
#ifndef WR_RELAY_AUTO_H
#define WR_RELAY_AUTO_H

#include "relay/relay_client.h"

#define WR_RELAY_AUTO_WANT      2                  /* go */
#define WR_RELAY_AUTO_OWNED_MAX 4                  /* the owner's; ours: with ours and one in exchange within HOLDS_MAX */
#define WR_RELAY_AUTO_PATIENCE  (15 * WR_SEC)      /* before UNKNOWN counts as PRIVATE; nat sheet 6 */
#define WR_RELAY_AUTO_NATTED    (3 * WR_SEC)       /* the same once a NAT is seen; go: at once. Ours: whom one
                                                      can reach, he has by then */
#define WR_RELAY_AUTO_TICK      (1 * WR_SEC)       /* between looks while some are missing; ours */
#define WR_RELAY_AUTO_DISCOVER  (30 * WR_SEC)      /* between searches; go */
#define WR_RELAY_AUTO_HURRY     (3 * WR_SEC)       /* ... while none is held at all, doubled each time up to that; ours */
#define WR_RELAY_AUTO_KNOCKS    3                  /* known relays called at once while none is held, else one: some of them
                                                      may be gone, which takes seconds to show; ours */
#define WR_RELAY_AUTO_UPHEAVAL  (30 * WR_SEC)      /* after a change of our network: who is lost then is not to blame; ours */
#define WR_RELAY_AUTO_REVIEW    (10 * WR_MIN)      /* between looks for nearer ones; nat sheet 6 */
#define WR_RELAY_AUTO_REFUSED   (1 * WR_HOUR)      /* not asked again; go, nat sheet 4 */
#define WR_RELAY_AUTO_SILENT    (5 * WR_MIN)       /* after no answer, or a connect that failed; ours */
#define WR_RELAY_AUTO_LOST      (10 * WR_SEC)      /* after a loss, doubled each time up to REFUSED; ours */
#define WR_RELAY_AUTO_AVOID_MAX 256                /* relays remembered so; ours, the oldest goes */
#define WR_RELAY_AUTO_PING      (5 * WR_SEC)       /* ours; the nat sheet has 15 s, which with the wait is too long */
#define WR_RELAY_AUTO_PING_SLOW (15 * WR_SEC)      /* while nothing is known of our reachability; nat sheet */
#define WR_RELAY_AUTO_PONG      (4 * WR_SEC)       /* for the answer: three repeats of a lost packet; ours */
#define WR_RELAY_AUTO_CHECK_SLOW (1 * WR_MIN)      /* between looks whether circuits reach us while nothing is known of our
                                                      reachability: later with each ping. Ours */

enum wr_relay_auto_phase {
    WR_RELAY_AUTO_OFF,          /* not wanted */
    WR_RELAY_AUTO_WAITING,      /* not known yet whether */
    WR_RELAY_AUTO_SEARCHING,    /* fewer than wanted are held */
    WR_RELAY_AUTO_CONTENT,
};

struct wr_relay_auto_options {
    struct wr_swarm *swarm;
    /* Look for peers: who is found is connected with and identified, and so seen here. NULL: none. */
    void (*discover)(void *arg);
    /* As of the client: a place was made, refused or lost. NULL: nobody wants to know. */
    void (*on_hold)(void *arg, const struct wr_peerid *relay, int err, unsigned status);
    void *arg;
};

struct wr_relay_auto;

/* NULL: out of memory. */
struct wr_relay_auto *wr_relay_auto_create(const struct wr_relay_auto_options *options);
void wr_relay_auto_destroy(struct wr_relay_auto *ra);    /* before the swarm; NULL is allowed */
struct wr_relay_client *wr_relay_auto_client(struct wr_relay_auto *ra);

/* A relay of the owner's: .../p2p/RELAY. 0, WR_EINVAL (no relay named), WR_ESELF, WR_EEXIST, WR_ELIMIT. */
int wr_relay_auto_use(struct wr_relay_auto *ra, struct wr_bytes addr);
/* 0, WR_ENOTFOUND. */
int wr_relay_auto_unuse(struct wr_relay_auto *ra, const struct wr_peerid *relay);
bool wr_relay_auto_owned(const struct wr_relay_auto *ra, const struct wr_peerid *relay);
size_t wr_relay_auto_owned_list(const struct wr_relay_auto *ra, struct wr_maddr *out, size_t max);

enum wr_relay_auto_phase wr_relay_auto_phase(const struct wr_relay_auto *ra);
/* Of a relay that is held: the newest ping's round trip, else the connection's; 0: not known. */
wr_time wr_relay_auto_rtt(const struct wr_relay_auto *ra, const struct wr_peerid *relay);

#endif
