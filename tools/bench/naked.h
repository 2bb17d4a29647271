/* naked.h - what the yardsticks share: two or three processes joined by loopback TCP, each with the
 * processor time between its own first and last byte; whole reads and writes; nonces. One program,
 * so its state is in the file. */
#ifndef WR_NAKED_H
#define WR_NAKED_H

#include "transport/aead.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NAKED_FIRST 30 /* rounds, connections or messages before the clock starts */

/* One end's work on a connected socket; false when it failed. amounts: the numbers of the command
 * line. */
typedef bool (*naked_side)(int fd, const size_t *amounts);

int64_t naked_clock(clockid_t id); /* ns */
void naked_clock_start(void);      /* what went before is not counted */
bool naked_write(int fd, const uint8_t *data, size_t len);
bool naked_read(int fd, uint8_t *data, size_t len);
void naked_nonce(uint8_t nonce[static WR_AEAD_NONCE], uint64_t n);
int naked_socket(struct sockaddr_in *sa,
                 uint16_t port); /* TCP with TCP_NODELAY; sa: loopback and the port */

/* Round trips that p50 and p99 of the answer are made of. */
void naked_times(int64_t *times, size_t count);

/* naked_tls.c: GnuTLS with certificates on both sides, as libp2p has them. */
bool naked_tls_init(void);
bool naked_tls_send(int fd, const size_t *amounts); /* amounts[0] bytes in records of 16 KiB */
bool naked_tls_receive(int fd, const size_t *amounts);
bool naked_tls_handshake(int fd, bool dialer); /* and one byte each way */

/* naked_udp.c: packets of QUIC's size, sealed with AES-128-GCM by GnuTLS. The TCP socket tells the ports. */
extern bool naked_udp_fast;                            /* transport/aes.h in its place */
bool naked_udp_send(int fd, const size_t *amounts);    /* amounts[0] bytes, segmentation offload */
bool naked_udp_receive(int fd, const size_t *amounts); /* coalesced by the kernel */
bool naked_udp_ask(int fd, const size_t *amounts);     /* amounts[0] messages of amounts[1] bytes */
bool naked_udp_answer(int fd, const size_t *amounts);  /* by amounts[2] bytes */

#endif
