#include "transport/der.h"

struct wr_bytes wr_der_read(struct wr_reader *r, uint8_t tag)
{
    if (wr_read_u8(r) != tag)
        r->bad = true;
    size_t len = wr_read_u8(r);
    if (len == 0x81) {
        len = wr_read_u8(r);
        r->bad |= len < 0x80;
    } else if (len == 0x82) {
        len = wr_read_u16be(r);
        r->bad |= len < 0x100;
    } else if (len >= 0x80) {
        r->bad = true;
    }
    return wr_read_bytes(r, len);
}

struct wr_bytes wr_der_read_whole(struct wr_reader *r, uint8_t tag)
{
    struct wr_bytes from = r->rest;
    wr_der_read(r, tag);
    return r->bad ? WR_BYTES_NONE : WR_BYTES(from.ptr, from.len - r->rest.len);
}
