/* Protobuf under a ceiling, and the reader in place beside it. The first byte is the ceiling / 64.
 */
#include "transport/envelope.pb-c.h"
#include "transport/pb.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t addresses;
    uint64_t seq;
    struct wr_bytes peer_id;
    bool ok;
};

static struct seen walk(struct wr_bytes in)
{
    struct seen s = {.ok = true};
    struct wr_pb_field f;
    struct wr_bytes rest = in;
    int more;
    while ((more = wr_pb_next(&rest, &f)) > 0) {
        assert(f.bytes.len == 0 ||
               (f.bytes.ptr >= in.ptr && f.bytes.ptr + f.bytes.len <= in.ptr + in.len));
        if (f.number == 1)
            s.peer_id = f.bytes;
        if (f.number == 2)
            s.seq = f.value;
        s.addresses += f.number == 3;
    }
    s.ok = more == 0;
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct wr_bytes in = WR_BYTES(data + 1, size - 1);
    struct seen s = walk(in);
    Wr__Pb__PeerRecord *m = (Wr__Pb__PeerRecord *)wr_pb_unpack(&wr__pb__peer_record__descriptor, in,
                                                               64 * (size_t)data[0]);
    if (!m)
        return 0;
    if (!s.ok) { /* protobuf-c also takes field 0 and field numbers beyond 32 bits */
        wr_pb_free(&m->base);
        return 0;
    }
    assert(m->seq == s.seq && m->n_addresses == s.addresses);
    assert(wr_bytes_equal(s.peer_id, WR_BYTES(m->peer_id.data, m->peer_id.len)));
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    wr_pb_pack(&m->base, &b);
    Wr__Pb__PeerRecord *again = (Wr__Pb__PeerRecord *)wr_pb_unpack(&wr__pb__peer_record__descriptor,
                                                                   wr_buf_bytes(&b), 1 << 20);
    assert(again && again->n_addresses == m->n_addresses);
    wr_pb_free(&again->base);
    wr_pb_free(&m->base);
    wr_buf_clear(&b);
    return 0;
}
