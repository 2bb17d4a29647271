#include "node/dnsmsg.h"

#include "transport/err.h"

#include <string.h>

#define HEADER_LEN     12        /* bytes; RFC 1035 4.1.1 */
#define FLAG_RESPONSE  0x8000u
#define FLAG_AUTHORITY 0x0400u
#define OPCODE_RCODE   0x780fu   /* both must be zero; RFC 6762 18.3, 18.11 */
#define POINTER        0xc0u     /* the two top bits of a length; RFC 1035 4.1.4 */

/* ---- names ---------------------------------------------------------------------------------------------- */

int wr_dns_name_parse(const char *text, struct wr_dns_name *out)
{
    size_t at = 0;
    memset(out, 0, sizeof(*out));
    while (*text) {
        size_t len = strcspn(text, ".");
        if (len == 0 || len > WR_DNS_LABEL_MAX || at + 1 + len + 1 > WR_DNS_NAME_MAX)
            return WR_EINVAL;
        out->bytes[at++] = (uint8_t)len;
        memcpy(out->bytes + at, text, len);
        at += len;
        text += len;
        text += *text == '.';
    }
    out->bytes[at++] = 0;
    out->len = (uint8_t)at;
    return at > 1 ? 0 : WR_EINVAL;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* Lengths of labels are below 'A', so the fold leaves them alone. */
bool wr_dns_name_equal(const struct wr_dns_name *a, const struct wr_dns_name *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++) {
        if (lower(a->bytes[i]) != lower(b->bytes[i]))
            return false;
    }
    return true;
}

/* Reads the name at *at and moves *at behind it. A pointer must lead before every byte read so far, so the
 * walk ends however the pointers lie. */
static int read_name(struct wr_bytes packet, size_t *at, struct wr_dns_name *out)
{
    size_t from = *at, lowest = from;
    bool jumped = false;
    out->len = 0;
    for (;;) {
        if (from >= packet.len)
            return WR_EPROTO;
        uint8_t len = packet.ptr[from];
        if ((len & POINTER) == POINTER) {
            if (packet.len - from < 2)
                return WR_EPROTO;
            size_t to = (size_t)(len & ~POINTER & 0xff) << 8 | packet.ptr[from + 1];
            if (!jumped)
                *at = from + 2;
            if (to >= lowest)
                return WR_EPROTO;
            jumped = true;
            from = lowest = to;
            continue;
        }
        if (len & POINTER || len >= packet.len - from || out->len + 1u + len > WR_DNS_NAME_MAX)
            return WR_EPROTO;
        memcpy(out->bytes + out->len, packet.ptr + from, 1u + len);
        out->len = (uint8_t)(out->len + 1 + len);
        from += 1u + len;
        if (len == 0)
            break;
    }
    if (!jumped)
        *at = from;
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static uint16_t u16_at(struct wr_bytes b, size_t at)
{
    return (uint16_t)(b.ptr[at] << 8 | b.ptr[at + 1]);
}

int wr_dns_open(struct wr_dns_reader *r, struct wr_bytes packet)
{
    memset(r, 0, sizeof(*r));
    if (packet.len < HEADER_LEN)
        return WR_EPROTO;
    uint16_t flags = u16_at(packet, 2);
    if (flags & OPCODE_RCODE)
        return WR_EPROTO;
    r->packet = packet;
    r->id = u16_at(packet, 0);
    r->response = (flags & FLAG_RESPONSE) != 0;
    for (size_t i = 0; i < 4; i++)
        r->left[i] = u16_at(packet, 4 + 2 * i);
    r->at = HEADER_LEN;
    return 0;
}

int wr_dns_next(struct wr_dns_reader *r, struct wr_dns_item *item)
{
    while (r->section < 4 && r->left[r->section] == 0)
        r->section++;
    if (r->section == 4 || r->items == WR_DNS_ITEMS_MAX)
        return 0;
    r->left[r->section]--;
    r->items++;
    item->section = (enum wr_dns_section)r->section;
    int err = read_name(r->packet, &r->at, &item->name);
    if (err < 0)
        return err;
    bool question = item->section == WR_DNS_QUESTION;
    size_t fixed = question ? 4 : 10;
    if (r->packet.len - r->at < fixed)
        return WR_EPROTO;
    item->type = u16_at(r->packet, r->at);
    item->class = u16_at(r->packet, r->at + 2);
    item->ttl = 0;
    item->data = WR_BYTES_NONE;
    r->at += fixed;
    if (question)
        return 1;
    item->ttl = (uint32_t)u16_at(r->packet, r->at - 6) << 16 | u16_at(r->packet, r->at - 4);
    size_t len = u16_at(r->packet, r->at - 2);
    if (len > r->packet.len - r->at)
        return WR_EPROTO;
    item->data = WR_BYTES(r->packet.ptr + r->at, len);
    r->at += len;
    return 1;
}

int wr_dns_data_name(const struct wr_dns_reader *r, const struct wr_dns_item *item, size_t skip,
                     struct wr_dns_name *out)
{
    if (item->data.len <= skip)
        return WR_EPROTO;
    size_t at = (size_t)(item->data.ptr - r->packet.ptr) + skip;
    size_t end = at - skip + item->data.len;
    int err = read_name(r->packet, &at, out);
    return err < 0 ? err : at > end ? WR_EPROTO : 0;
}

bool wr_dns_txt_next(struct wr_bytes *data, struct wr_bytes *text)
{
    if (data->len == 0 || data->ptr[0] >= data->len)
        return false;
    size_t len = wr_bytes_take(data, 1).ptr[0];
    *text = wr_bytes_take(data, len);
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

void wr_dns_put_header(struct wr_buf *b, uint16_t id, bool response, const uint16_t counts[4])
{
    wr_buf_put_u16be(b, id);
    wr_buf_put_u16be(b, response ? FLAG_RESPONSE | FLAG_AUTHORITY : 0);
    for (size_t i = 0; i < 4; i++)
        wr_buf_put_u16be(b, counts[i]);
}

void wr_dns_put_name(struct wr_buf *b, const struct wr_dns_name *name)
{
    wr_buf_put(b, name->bytes, name->len);
}

void wr_dns_put_question(struct wr_buf *b, const struct wr_dns_name *name, uint16_t type)
{
    wr_dns_put_name(b, name);
    wr_buf_put_u16be(b, type);
    wr_buf_put_u16be(b, WR_DNS_IN);
}

size_t wr_dns_begin_record(struct wr_buf *b, const struct wr_dns_name *name, uint16_t type,
                           uint16_t class, uint32_t ttl)
{
    wr_dns_put_name(b, name);
    wr_buf_put_u16be(b, type);
    wr_buf_put_u16be(b, class);
    wr_buf_put_u32be(b, ttl);
    wr_buf_put_u16be(b, 0);
    return b->len;
}

void wr_dns_end_record(struct wr_buf *b, size_t mark)
{
    if (b->full)
        return;
    size_t len = b->len - mark;
    b->data[mark - 2] = (uint8_t)(len >> 8);
    b->data[mark - 1] = (uint8_t)len;
}
