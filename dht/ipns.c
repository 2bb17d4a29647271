#include "dht/ipns.h"

#include "dht/rfc3339.h"
#include "transport/err.h"
#include "transport/key.h"
#include "transport/pb.h"

#include <string.h>

#define SIGNED_PREFIX     "ipns-signature:" /* ipns-record.md, "Record Creation" */
#define CBOR_DEPTH_MAX    8                 /* nested containers skipped; ours */
#define VALIDITY_TYPE_EOL 0

/* Field numbers of the protobuf, ipns-record.md. */
enum {
    PB_VALUE = 1,
    PB_SIGNATURE_V1 = 2,
    PB_VALIDITY_TYPE = 3,
    PB_VALIDITY = 4,
    PB_SEQUENCE = 5,
    PB_TTL = 6,
    PB_PUBKEY = 7,
    PB_SIGNATURE_V2 = 8,
    PB_DATA = 9,
};

struct envelope {
    struct wr_bytes fields[PB_DATA + 1]; /* of the length-delimited ones */
    uint64_t numbers[PB_DATA + 1];
    bool present[PB_DATA + 1];
};

static bool is_number(uint32_t field)
{
    return field == PB_VALIDITY_TYPE || field == PB_SEQUENCE || field == PB_TTL;
}

static int read_envelope(struct wr_bytes in, struct envelope *e)
{
    struct wr_pb_field f;
    int rc;
    memset(e, 0, sizeof(*e));
    while ((rc = wr_pb_next(&in, &f)) > 0) {
        if (f.number > PB_DATA)
            continue;
        if (f.wire != (is_number(f.number) ? WR_PB_VARINT : WR_PB_BYTES))
            return WR_EPROTO;
        e->present[f.number] = true;
        e->fields[f.number] = f.bytes;
        e->numbers[f.number] = f.value;
    }
    return rc;
}

/* ---- DAG-CBOR: definite lengths only (RFC 8949, 3; ipld codecs, dag-cbor) ------------------- */

enum {
    CBOR_UINT = 0,
    CBOR_NEGATIVE = 1,
    CBOR_BYTES = 2,
    CBOR_TEXT = 3,
    CBOR_ARRAY = 4,
    CBOR_MAP = 5,
    CBOR_TAG = 6,
    CBOR_SIMPLE = 7
};

/* The head of an item: its major type, and its number or length. */
static unsigned cbor_head(struct wr_reader *r, uint64_t *arg)
{
    uint8_t first = wr_read_u8(r);
    unsigned low = first & 31u;
    *arg = low;
    if (low == 24)
        *arg = wr_read_u8(r);
    else if (low == 25)
        *arg = wr_read_u16be(r);
    else if (low == 26)
        *arg = wr_read_u32be(r);
    else if (low == 27)
        *arg = wr_read_u64be(r);
    else if (low > 27)
        r->bad = true;
    return first >> 5;
}

static struct wr_bytes cbor_string(struct wr_reader *r, unsigned type)
{
    uint64_t len;
    if (cbor_head(r, &len) != type || len > r->rest.len)
        r->bad = true;
    return wr_read_bytes(r, r->bad ? 0 : (size_t)len);
}

static uint64_t cbor_uint(struct wr_reader *r)
{
    uint64_t v;
    if (cbor_head(r, &v) != CBOR_UINT)
        r->bad = true;
    return r->bad ? 0 : v;
}

static void cbor_skip(struct wr_reader *r)
{
    /* Items still to skip at each level; a container opens a level. */
    uint64_t left[CBOR_DEPTH_MAX] = {1}, arg;
    size_t depth = 1;
    while (depth > 0 && !r->bad) {
        if (left[depth - 1] == 0) {
            depth--;
            continue;
        }
        left[depth - 1]--;
        unsigned type = cbor_head(r, &arg);
        if (type == CBOR_BYTES || type == CBOR_TEXT) {
            wr_read_bytes(r, arg <= r->rest.len ? (size_t)arg : SIZE_MAX);
        } else if (type == CBOR_ARRAY || type == CBOR_MAP || type == CBOR_TAG) {
            uint64_t items = type == CBOR_TAG ? 1 : arg;
            r->bad = r->bad || depth == CBOR_DEPTH_MAX || items > r->rest.len;
            if (!r->bad)
                left[depth++] = type == CBOR_MAP ? 2 * items : items;
        }
    }
}

struct data {
    struct wr_bytes value, validity;
    uint64_t validity_type, sequence, ttl;
    unsigned seen; /* bits by field below */
};

enum {
    SEEN_VALUE = 1,
    SEEN_VALIDITY = 2,
    SEEN_TYPE = 4,
    SEEN_SEQUENCE = 8,
    SEEN_TTL = 16,
    SEEN_ALL = 31
};

static int read_data(struct wr_bytes in, struct data *d)
{
    struct wr_reader r;
    uint64_t pairs;
    memset(d, 0, sizeof(*d));
    wr_reader_init(&r, in);
    if (cbor_head(&r, &pairs) != CBOR_MAP)
        return WR_EPROTO;
    for (uint64_t i = 0; i < pairs && !r.bad; i++) {
        struct wr_bytes key = cbor_string(&r, CBOR_TEXT);
        unsigned field = 0;
        if (wr_bytes_equal(key, WR_BYTES_STR("Value"))) {
            d->value = cbor_string(&r, CBOR_BYTES);
            field = SEEN_VALUE;
        } else if (wr_bytes_equal(key, WR_BYTES_STR("Validity"))) {
            d->validity = cbor_string(&r, CBOR_BYTES);
            field = SEEN_VALIDITY;
        } else if (wr_bytes_equal(key, WR_BYTES_STR("ValidityType"))) {
            d->validity_type = cbor_uint(&r);
            field = SEEN_TYPE;
        } else if (wr_bytes_equal(key, WR_BYTES_STR("Sequence"))) {
            d->sequence = cbor_uint(&r);
            field = SEEN_SEQUENCE;
        } else if (wr_bytes_equal(key, WR_BYTES_STR("TTL"))) {
            d->ttl = cbor_uint(&r);
            field = SEEN_TTL;
        } else {
            cbor_skip(&r);
        }
        r.bad = r.bad || (field & d->seen) != 0;
        d->seen |= field;
    }
    return wr_reader_done(&r) && d->seen == SEEN_ALL ? 0 : WR_EPROTO;
}

/* ---- record --------------------------------------------------------------------------------- */

/* Fields of version 1 are unsigned for those who check version 2 only: they must not tell another
 * story. */
static bool versions_agree(const struct envelope *e, const struct data *d)
{
    if (!e->present[PB_VALUE] && !e->present[PB_SIGNATURE_V1])
        return true;
    return wr_bytes_equal(e->fields[PB_VALUE], d->value) &&
           wr_bytes_equal(e->fields[PB_VALIDITY], d->validity) &&
           e->numbers[PB_VALIDITY_TYPE] == d->validity_type &&
           e->numbers[PB_SEQUENCE] == d->sequence && e->numbers[PB_TTL] == d->ttl;
}

/* The name's key: inside the name where it is short enough, else carried by the record. */
static int key_of(const struct wr_peerid *name, const struct envelope *e, struct wr_bytes *pubkey)
{
    struct wr_peerid derived;
    *pubkey = wr_peerid_pubkey(name);
    if (pubkey->len > 0)
        return 0;
    *pubkey = e->fields[PB_PUBKEY];
    if (wr_peerid_from_pubkey(*pubkey, &derived) != 0)
        return WR_EPROTO;
    return wr_peerid_equal(&derived, name) ? 0 : WR_EPEERID;
}

static int verify(struct wr_bytes pubkey, struct wr_bytes data, struct wr_bytes signature)
{
    uint8_t message[sizeof(SIGNED_PREFIX) - 1 + WR_IPNS_MAX];
    size_t prefix = sizeof(SIGNED_PREFIX) - 1;
    memcpy(message, SIGNED_PREFIX, prefix);
    memcpy(message + prefix, data.ptr, data.len);
    return wr_pubkey_verify(pubkey, WR_BYTES(message, prefix + data.len), signature);
}

static int decode(struct wr_bytes record, struct envelope *e, struct wr_ipns *out)
{
    struct data d;
    int64_t expires_at;
    if (record.len > WR_IPNS_MAX || read_envelope(record, e) != 0)
        return WR_EPROTO;
    if (e->fields[PB_SIGNATURE_V2].len == 0 || e->fields[PB_DATA].len == 0)
        return WR_EPROTO;
    if (read_data(e->fields[PB_DATA], &d) != 0 || !versions_agree(e, &d))
        return WR_EPROTO;
    if (d.validity_type != VALIDITY_TYPE_EOL || wr_rfc3339_parse(d.validity, &expires_at) != 0)
        return WR_EPROTO;
    *out = (struct wr_ipns){d.value, d.validity, d.sequence, d.ttl, expires_at};
    return 0;
}

int wr_ipns_decode(struct wr_bytes record, struct wr_ipns *out)
{
    struct envelope e;
    return decode(record, &e, out);
}

int wr_ipns_open(struct wr_bytes record, const struct wr_peerid *name, struct wr_ipns *out)
{
    struct envelope e;
    struct wr_bytes pubkey;
    int rc = decode(record, &e, out);
    if (rc == 0)
        rc = key_of(name, &e, &pubkey);
    if (rc == 0)
        rc = verify(pubkey, e.fields[PB_DATA], e.fields[PB_SIGNATURE_V2]);
    return rc;
}

int wr_ipns_compare(const struct wr_ipns *a, const struct wr_ipns *b)
{
    if (a->sequence != b->sequence)
        return a->sequence > b->sequence ? 1 : -1;
    return (a->expires_at > b->expires_at) - (a->expires_at < b->expires_at);
}
