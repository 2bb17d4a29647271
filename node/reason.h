/* reason.h - why a path works or does not: the closed list of codes that `why` and `check` answer with. Value.
 * A code, once published, keeps its meaning; docs/reasons.md explains each. Every one comes with a
 * sentence and, where somebody can do something, the next step. */
#ifndef WR_REASON_H
#define WR_REASON_H

#include "transport/maddr.h"

/* name, code, what is so, what to do about it */
#define WR_REASON_MAP(X)                                                                            \
    /* the path now */                                                                              \
    X(DIRECT, "direct", "connected directly", "")                                                   \
    X(LAN, "lan", "connected on the local network", "")                                             \
    X(RELAYED, "relayed", "connected through a relay",                                              \
      "what was tried below says why it is not direct; it is tried again when addresses change")    \
    /* an address, or all of them */                                                                \
    X(CONNECTED, "connected", "answered", "")                                                       \
    X(NO_PEERS, "no-peers", "this node knows no other peer that it could ask",                      \
      "give it one: warren connect ADDR/p2p/ID, or run with --bootstrap ADDR")                      \
    X(NO_ADDRESS, "no-address", "nobody who was asked knows an address of it",                      \
      "is it running, and in the same network (--network)? connect by address: warren connect "     \
      "ADDR/p2p/ID")                                                                                \
    X(NO_ANSWER, "no-answer", "no answer from there",                                               \
      "is that machine on? otherwise a firewall or NAT in front of it, or of this one, drops us")   \
    X(OVERTAKEN, "overtaken", "had not answered yet when another way did", "")                      \
    X(SILENT, "silent", "something accepts the connection there and says nothing",                  \
      "is it a libp2p node, and of the same network key (--psk)?")                                  \
    X(NOT_LISTENING, "not-listening", "the machine answers, but nothing listens on that port",      \
      "is the other node running, and on that port?")                                               \
    X(NO_ROUTE, "no-route", "this machine has no way to that address",                              \
      "check this machine's own connection; an IPv6 address needs IPv6 here")                       \
    X(WRONG_PEER, "wrong-peer", "another peer answers at that address",                             \
      "ask its owner for the right peer id; old addresses may belong to others now")                \
    X(WRONG_NETWORK, "wrong-network", "what answers there does not understand us",                  \
      "is it a libp2p node, and of the same network key (--psk)?")                                  \
    X(UNSUPPORTED, "unsupported", "no transport or protocol in common",                             \
      "ask the other side to listen on TCP or QUIC; a network key excludes QUIC")                   \
    X(BLOCKED, "blocked", "a rule of this node forbids it",                                         \
      "warren block lists the rules, --remove takes one back")                                      \
    X(PRIVATE_ADDRESS, "private-address", "a private address that is on no network of ours",        \
      "nothing to do, others are tried; if it is meant, connect by address: warren connect "        \
      "ADDR/p2p/ID, or count it as public: --public CIDR")                                          \
    X(FAILED_RECENTLY, "failed-recently", "failed a moment ago and is left alone for a while",      \
      "wait a few minutes, or connect by address: warren connect ADDR/p2p/ID")                      \
    X(OUT_OF_ROOM, "limit", "a limit of this node is reached",                                      \
      "warren limits shows which, --limits raises it")                                              \
    X(OURSELVES, "ourselves", "that is this node itself", "name another peer")                      \
    X(BROKEN_OFF, "broken-off", "the connection broke off while it was made",                       \
      "try again; if it stays so, a device between the two cuts it, or the other side refuses us")  \
    X(UDP_BLOCKED, "udp-blocked", "UDP gets nowhere from here, TCP does",                           \
      "let UDP out of the firewall: without it only TCP is left, and holes are harder to punch")    \
    /* relays */                                                                                    \
    X(RELAY_UNREACHABLE, "relay-unreachable", "the relay does not answer",                          \
      "the other side takes another relay soon; try again in a minute")                             \
    X(NOT_A_RELAY, "not-a-relay", "the node that was to relay does not do that",                    \
      "its owner can turn it on: warren relay on; or name another: warren relay use ADDR")          \
    X(RELAY_REFUSED, "relay-refused", "the relay refuses",                                          \
      "other relays are tried; name one that lets you in: warren relay use ADDR")                   \
    X(RELAY_FULL, "relay-full", "the relay has no room",                                            \
      "other relays are tried; name one of your own: warren relay use ADDR")                        \
    X(NO_RESERVATION, "no-reservation", "the other side is not at that relay any more",             \
      "its new address is looked up; try again in a minute")                                        \
    X(RELAY_FAILED, "relay-failed", "the relay could not get through to the other side",            \
      "try again in a minute")                                                                      \
    X(NO_RELAY, "no-relay", "no relay holds a place for us, and strangers cannot reach us",         \
      "peers that relay are searched for; name one: warren relay use ADDR")                         \
    /* hole punching */                                                                             \
    X(PUNCHED, "punched", "the hole was punched", "")                                               \
    X(PUNCH_FAILED, "punch-failed", "both sides sent at the agreed time, and nothing came through", \
      "see the NAT in warren check: a port mapping on one side is enough")                          \
    X(PUNCH_HOPELESS, "punch-hopeless",                                                         \
      "neither side can know the port that the other's NAT takes",\
      "a port mapping on one side is enough: see warren check")                                     \
    X(PUNCH_NO_ADDRESS, "punch-no-address", "one side does not know its address outside",           \
      "it is learnt from peers: wait until more are connected")                                     \
    X(PUNCH_UNSUPPORTED, "punch-unsupported", "the other side cannot punch holes",                  \
      "a port mapping on one side is enough: see warren check")                                     \
    X(PUNCH_NEVER, "punch-never", "holes were to be punched time and again, and none came about",   \
      "does a firewall here drop what comes in on the listening port? a port mapping is enough")    \
    X(PUNCH_BROKEN, "punch-broken", "the talk about when to punch broke off",                       \
      "it is tried again; the relay may be slow or cut us")                                         \
    /* ourselves */                                                                                 \
    X(PUBLIC, "public", "strangers reach this node", "")                                            \
    X(FIREWALL, "firewall", "no NAT, but strangers do not get through",                             \
      "open the listening port in the firewall; holes can be punched without")                      \
    X(NAT_EASY, "nat-easy", "behind a NAT that keeps one outside port: holes can be punched", "")   \
    X(NAT_PREDICTABLE, "nat-predictable",                                                           \
      "behind a NAT with a new outside port for each peer, in an order that can be guessed",        \
      "a port mapping on the router makes it certain: turn on UPnP, NAT-PMP or PCP there")          \
    X(NAT_HARD, "nat-hard", "behind a NAT with a random outside port for each peer",                \
      "turn on UPnP, NAT-PMP or PCP on the router")                                                 \
    X(CARRIER_NAT, "carrier-nat", "behind the provider's NAT, where no port can be opened",         \
      "ask the provider for a public address or IPv6; holes can mostly be punched")                 \
    X(DOUBLE_NAT, "double-nat", "two routers with a NAT each, one behind the other",                \
      "put one of them into bridge mode, or forward the port on both")                              \
    X(OFFLINE, "offline", "this machine has no address but its own", "connect it to a network")     \
    X(LEARNING, "learning", "not known yet", "wait until more peers are connected")                 \
    X(CLOCK_WRONG, "clock-wrong", "the system's clock is far off", "set it: date, or turn on NTP")  \
    X(PORT_IN_USE, "port-in-use", "another program has a port that this node was to listen on",     \
      "end that program and start this node again, or choose another port with --listen")           \
    X(MAPPED, "mapped", "the router opened a port for us", "")                                      \
    X(MAPPING_REFUSED, "mapping-refused", "the router refuses to open ports",                       \
      "allow it there: UPnP, NAT-PMP or PCP for this machine")                                      \
    X(MAPPING_NONE, "mapping-none", "no router answered the question for an open port",             \
      "turn on UPnP, NAT-PMP or PCP on the router, or forward the listening port by hand")          \
    X(MAPPING_FALSE, "mapping-false",                                                              \
      "the router says it opened a port, but strangers do not get in",                              \
      "another NAT or firewall stands behind it: open the port there, too, or ask the provider")    \
    X(TWIN, "twin", "another node uses this identity", "give one of them its own: warren key new")

#define WR_REASON_ENUM(name, code, text, hint) WR_REASON_##name,
enum wr_reason { WR_REASON_MAP(WR_REASON_ENUM) WR_REASON_COUNT };
#undef WR_REASON_ENUM

const char *wr_reason_code(enum wr_reason reason);    /* "no-answer" */
const char *wr_reason_text(enum wr_reason reason);    /* one clause, no full stop */
const char *wr_reason_hint(enum wr_reason reason);    /* the next step; "" when there is none */

/* Why a dial of this address ended with err (0: CONNECTED). */
enum wr_reason_dial {
    WR_REASON_REFUSED_BY_US,    /* it was not begun */
    WR_REASON_BEGUN,
    WR_REASON_ACCEPTED,         /* the connection came about, but nobody proved anything */
};
enum wr_reason wr_reason_of_dial(struct wr_bytes addr, int err, enum wr_reason_dial how);

#endif
