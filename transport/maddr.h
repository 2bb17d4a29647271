/* maddr.h - multiaddr: text and bytes, components, and what an address means to a dialler. Value.
 * Spec: multiformats/multiaddr; codes in the multicodec table. Bytes are passed as slices, results
 * returned in a struct wr_maddr. Anything longer than WR_MADDR_MAX bytes or WR_MADDR_PARTS_MAX
 * components is refused, and so is every code that is not in the table of maddr.c: in a list, the one
 * address is skipped. */
#ifndef WR_MADDR_H
#define WR_MADDR_H

#include "transport/addr.h"
#include "transport/peerid.h"

#define WR_MADDR_MAX       255     /* bytes; ours: the longest useful one (dns, circuit, two ids) is ~200 */
#define WR_MADDR_PARTS_MAX 20      /* components; ours: relayed WebTransport with two hashes has 15 */
#define WR_MADDR_TEXT      1024    /* bytes of the longest printed form (1,014) and NUL */

struct wr_maddr {
    uint8_t len;    /* 0: none */
    uint8_t bytes[WR_MADDR_MAX];
};

/* Multicodec numbers of the components that the program looks at. */
enum wr_maddr_code {
    WR_MA_IP4 = 4,
    WR_MA_TCP = 6,
    WR_MA_IP6 = 41,
    WR_MA_IP6ZONE = 42,
    WR_MA_DNS = 53,
    WR_MA_DNS4 = 54,
    WR_MA_DNS6 = 55,
    WR_MA_DNSADDR = 56,
    WR_MA_UDP = 273,
    WR_MA_CIRCUIT = 290,
    WR_MA_P2P = 421,
    WR_MA_TLS = 448,
    WR_MA_QUIC_V1 = 461,
    WR_MA_WS = 477,
    WR_MA_WSS = 478,
};

/* One component: its code and its value without the length prefix. */
struct wr_maddr_part {
    uint32_t code;
    struct wr_bytes value;
};

/* What kind of address this is, by its leading components. */
enum wr_maddr_kind {
    WR_MADDR_TCP,         /* ip/tcp, nothing but p2p after it */
    WR_MADDR_QUIC,        /* ip/udp/quic-v1 */
    WR_MADDR_CIRCUIT,     /* .../p2p-circuit */
    WR_MADDR_DNS,         /* dns, dns4, dns6 in front: resolve, then ask again */
    WR_MADDR_DNSADDR,
    WR_MADDR_OTHER,       /* well formed, not ours to dial: websocket, webtransport ... */
};

/* ---- text and bytes */
/* "ipfs" is read as p2p; slashes at the end do not count. 0, WR_EINVAL. */
int wr_maddr_parse(const char *text, struct wr_maddr *out);
int wr_maddr_decode(struct wr_bytes in, struct wr_maddr *out);    /* checks; 0, WR_EPROTO */
/* NUL-terminated, cut at size - 1; returns out. Unknown codes never occur in checked bytes. */
char *wr_maddr_print(struct wr_bytes ma, char *out, size_t size);
struct wr_bytes wr_maddr_bytes(const struct wr_maddr *ma);

/* ---- components. Start with *rest = the whole (checked) multiaddr; false at the end. */
bool wr_maddr_next(struct wr_bytes *rest, struct wr_maddr_part *part);

/* ---- meaning. All take checked bytes. */
enum wr_maddr_kind wr_maddr_kind(struct wr_bytes ma);
/* ip and port of a leading [ip6zone/]ip4|ip6 / tcp|udp pair; false when there is none. A zone that is a
 * number becomes the scope, an interface's name does not (0). */
bool wr_maddr_addr(struct wr_bytes ma, struct wr_addr *addr);
/* The peer that the address leads to: the last /p2p/ID, unless a /p2p-circuit follows (that one is the
 * relay's). False when there is none. */
bool wr_maddr_peer(struct wr_bytes ma, struct wr_peerid *id);
/* The same address without a trailing /p2p/ID: a prefix of ma. */
struct wr_bytes wr_maddr_strip_peer(struct wr_bytes ma);
bool wr_maddr_is_circuit(struct wr_bytes ma);
/* The relay of a circuit address: the /p2p/ID right before its one /p2p-circuit, behind which nothing but a /p2p/ID
 * may stand. False: no such address. */
bool wr_maddr_relay(struct wr_bytes ma, struct wr_peerid *relay);
/* Of such an address: where the relay is, without /p2p; empty when it does not say. A prefix of ma. */
struct wr_bytes wr_maddr_relay_addr(struct wr_bytes ma);

/* ---- building. 0; WR_ELIMIT when it would be longer than the bounds (nothing changed). */
int wr_maddr_from_addr(const struct wr_addr *addr, bool udp_quic, struct wr_maddr *out);
int wr_maddr_append_peer(struct wr_maddr *ma, const struct wr_peerid *id);
int wr_maddr_append(struct wr_maddr *ma, struct wr_bytes tail);

#endif
