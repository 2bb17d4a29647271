/* pack.h - builds MessagePack into a buffer: maps and arrays of unknown size, field by field.
 * Value. Every put takes a key: the field's name inside a map, NULL inside an array. The sizes of
 * open containers are patched in at their end, so optional fields need no counting beforehand.
 * Sticky: what does not fit sets the buffer's `full`. */
#ifndef WR_PACK_H
#define WR_PACK_H

#include "transport/bytes.h"

#define WR_PACK_DEPTH 8 /* open containers; our own messages use 5 */

struct wr_pack {
    struct wr_buf *out; /* borrowed */
    unsigned depth;
    struct {
        size_t at; /* of the container's header in out */
        uint32_t count;
    } open[WR_PACK_DEPTH];
};

void wr_pack_init(struct wr_pack *p, struct wr_buf *out);
void wr_pack_map(struct wr_pack *p, const char *key);
void wr_pack_array(struct wr_pack *p, const char *key);
void wr_pack_end(struct wr_pack *p); /* of the innermost container */
/* Text from a peer may hold anything: what is not UTF-8 becomes U+FFFD. NULL packs nil. */
void wr_pack_text(struct wr_pack *p, const char *key, const char *text);
void wr_pack_text_bytes(struct wr_pack *p, const char *key, struct wr_bytes text);
void wr_pack_bin(struct wr_pack *p, const char *key, struct wr_bytes bytes);
void wr_pack_u64(struct wr_pack *p, const char *key, uint64_t v);
void wr_pack_i64(struct wr_pack *p, const char *key, int64_t v);
void wr_pack_bool(struct wr_pack *p, const char *key, bool v);
void wr_pack_double(struct wr_pack *p, const char *key, double v);
void wr_pack_nil(struct wr_pack *p, const char *key);

#endif
