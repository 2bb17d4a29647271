/* der.h - DER elements, read strictly: the one shortest form of each length (X.690, section 10.1). Value.
 * Only tags of one byte and lengths of up to 65,535 bytes; nothing here has longer ones. */
#ifndef WR_DER_H
#define WR_DER_H

#include "transport/bytes.h"

#define WR_DER_INTEGER      0x02
#define WR_DER_BIT_STRING   0x03
#define WR_DER_OCTET_STRING 0x04
#define WR_DER_SEQUENCE     0x30

/* The contents of one element with this tag; sets r->bad when another stands there. */
struct wr_bytes wr_der_read(struct wr_reader *r, uint8_t tag);
/* The same, the tag and the length included. */
struct wr_bytes wr_der_read_whole(struct wr_reader *r, uint8_t tag);

#endif
