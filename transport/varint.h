/* varint.h - unsigned varint of multiformats. Value.
 * Spec: multiformats/unsigned-varint: 7 bits a byte, least significant first, at most 9 bytes (63
 * bits), minimal form enforced. Protobuf's own 10-byte varints are pb.h's matter. */
#ifndef WR_VARINT_H
#define WR_VARINT_H

#include <stddef.h>
#include <stdint.h>

#define WR_UVARINT_MAX 9    /* bytes; unsigned-varint spec */

/* Writes v (below 2^63) and returns the number of bytes, 1 to 9. */
size_t wr_uvarint_encode(uint64_t v, uint8_t out[static WR_UVARINT_MAX]);
size_t wr_uvarint_len(uint64_t v);
/* Bytes used (>0) with *v set; 0 when data ends in mid-number; WR_EPROTO when over-long or not
 * minimal. */
int wr_uvarint_decode(const uint8_t *data, size_t len, uint64_t *v);

#endif
