#include "identify/identify_msg.h"

#include "transport/err.h"
#include "transport/pb.h"
#include "transport/varint.h"

#include <string.h>

#define VERSION_MAX   128     /* bytes of our agent and protocol version that are sent; ours */
#define NAMES_MAX     2560    /* bytes of the first message that protocol names may take; ours */
#define PER_FIELD     3       /* bytes of tag and length of a field under 16 KiB */

enum field {
    FIELD_PUBKEY = 1,
    FIELD_ADDR = 2,
    FIELD_PROTOCOL = 3,
    FIELD_OBSERVED = 4,
    FIELD_VERSION = 5,
    FIELD_AGENT = 6,
    FIELD_RECORD = 8,
};

/* ---- decoding ----------------------------------------------------------------------------------------- */

static void add(struct wr_bytes *list, size_t *count, size_t max, struct wr_bytes item)
{
    if (*count < max)
        list[(*count)++] = item;
}

static void take_field(struct wr_identify_msg *m, const struct wr_pb_field *f)
{
    switch (f->number) {
    case FIELD_PUBKEY:
        m->pubkey = f->bytes;
        break;
    case FIELD_ADDR:
        add(m->addrs, &m->addr_count, WR_IDENTIFY_ADDRS_MAX, f->bytes);
        break;
    case FIELD_PROTOCOL:
        add(m->protocols, &m->protocol_count, WR_IDENTIFY_PROTOCOLS_MAX, f->bytes);
        break;
    case FIELD_OBSERVED:
        m->observed = f->bytes;
        break;
    case FIELD_VERSION:
        m->protocol_version = f->bytes;
        break;
    case FIELD_AGENT:
        m->agent = f->bytes;
        break;
    case FIELD_RECORD:
        m->record = f->bytes;
        break;
    default:
        break;
    }
}

int wr_identify_decode(struct wr_bytes in, struct wr_identify_msg *out)
{
    struct wr_pb_field f;
    int rc;
    memset(out, 0, sizeof(*out));
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        bool ours = (f.number >= FIELD_PUBKEY && f.number <= FIELD_AGENT) || f.number == FIELD_RECORD;
        if (ours && f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        take_field(out, &f);
    }
    return rc;
}

/* ---- encoding ----------------------------------------------------------------------------------------- */

static void put_field(struct wr_buf *b, enum field field, struct wr_bytes value)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_BYTES);
    wr_buf_put_prefixed(b, value);
}

static size_t field_size(struct wr_bytes value)
{
    return 1 + wr_uvarint_len(value.len) + value.len;
}

static struct wr_bytes version(const char *text)
{
    return WR_BYTES(text, text ? strnlen(text, VERSION_MAX) : 0);
}

/* Everything but addresses and record. */
static void put_head(const struct wr_identify_self *self, struct wr_buf *b)
{
    size_t names = 0;
    put_field(b, FIELD_PUBKEY, self->pubkey);
    for (size_t i = 0; i < self->protocols->count; i++) {
        const struct wr_protocol *p = self->protocols->of[i];
        struct wr_bytes name = wr_bytes_cstr(p->name);
        if (p->hidden || names + field_size(name) > NAMES_MAX)
            continue;
        names += field_size(name);
        put_field(b, FIELD_PROTOCOL, name);
    }
    if (self->observed.len)
        put_field(b, FIELD_OBSERVED, self->observed);
    put_field(b, FIELD_VERSION, version(self->protocol_version));
    put_field(b, FIELD_AGENT, version(self->agent));
}

static size_t fitting(const struct wr_identify_self *self, size_t used)
{
    size_t n = 0;
    for (; n < self->addr_count; n++) {
        used += field_size(wr_maddr_bytes(&self->addrs[n]));
        if (used > WR_IDENTIFY_FIRST_MAX)
            break;
    }
    return n;
}

size_t wr_identify_fit(const struct wr_identify_self *self)
{
    struct wr_buf head;
    wr_buf_init(&head, WR_IDENTIFY_FIRST_MAX);
    put_head(self, &head);
    size_t n = head.full ? 0 : fitting(self, head.len);
    wr_buf_clear(&head);
    return n;
}

void wr_identify_encode(const struct wr_identify_self *self, struct wr_buf *out)
{
    struct wr_buf body;
    wr_buf_init(&body, WR_IDENTIFY_FIRST_MAX);
    put_head(self, &body);
    size_t fit = fitting(self, body.len);
    for (size_t i = 0; i < fit; i++) {
        /* An empty one would break js readers. */
        if (self->addrs[i].len)
            put_field(&body, FIELD_ADDR, wr_maddr_bytes(&self->addrs[i]));
    }
    bool record = self->record.len > 0;
    if (record && body.len + PER_FIELD + self->record.len <= WR_IDENTIFY_JOINT_MAX) {
        put_field(&body, FIELD_RECORD, self->record);
        record = false;
    }
    if (body.full)
        out->full = true;
    wr_buf_put_prefixed(out, wr_buf_bytes(&body));
    wr_buf_reset(&body);
    body.max = WR_IDENTIFY_BODY_MAX;
    if (record) {
        put_field(&body, FIELD_RECORD, self->record);
        out->full = out->full || body.full;
        wr_buf_put_prefixed(out, wr_buf_bytes(&body));
    }
    wr_buf_clear(&body);
}
