/* Signed envelopes and peer records. What our reader takes, protobuf-c takes with the same content.
 * Besides, the input is sealed as the payload of a record of ours, so that the reader of records is
 * reached behind a good signature. */
#include "transport/envelope.h"
#include "transport/envelope.pb-c.h"
#include "transport/err.h"
#include "transport/pb.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_envelope(struct wr_bytes in)
{
    struct wr_envelope e;
    if (wr_envelope_open(in, "libp2p-peer-record", &e) != 0)
        return;
    Wr__Pb__Envelope *m =
        (Wr__Pb__Envelope *)wr_pb_unpack(&wr__pb__envelope__descriptor, in, 1 << 20);
    if (!m)
        return;
    assert(wr_bytes_equal(e.payload, WR_BYTES(m->payload.data, m->payload.len)));
    assert(wr_bytes_equal(e.pubkey, WR_BYTES(m->public_key.data, m->public_key.len)));
    wr_pb_free(&m->base);
}

static void look_record(struct wr_bytes in, const struct wr_key *key)
{
    static struct wr_peer_record record, again;
    struct wr_buf b;
    if (wr_peer_record_open(in, NULL, &record) != 0)
        return;
    assert(record.count <= WR_RECORD_ADDRS_MAX);
    struct wr_envelope e;
    assert(wr_envelope_open(in, "libp2p-peer-record", &e) == 0 ||
           wr_envelope_open(in, "libp2p-routing-state", &e) == 0);
    assert(wr_peerid_equal(&e.signer, &record.peer));
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    wr_peer_record_seal(key, record.seq, record.addrs, record.count, &b);
    if (!b.full) {
        assert(wr_peer_record_open(wr_buf_bytes(&b), NULL, &again) == 0);
        assert(again.seq == record.seq && again.count == record.count);
        for (size_t i = 0; i < record.count; i++)
            assert(memcmp(&record.addrs[i], &again.addrs[i], sizeof(again.addrs[i])) == 0);
    }
    wr_buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t seed[WR_ED25519_SEED] = "thirty-two bytes of a known seed";
    struct wr_bytes in = WR_BYTES(data, size);
    struct wr_key key;
    struct wr_buf b;
    wr_key_generate(&key, seed);
    look_envelope(in);
    look_record(in, &key);
    wr_buf_init(&b, WR_ENVELOPE_MAX);
    wr_envelope_seal(&key, "libp2p-peer-record", WR_BYTES_STR("\x03\x01"), in, &b);
    if (!b.full) {
        struct wr_envelope e;
        assert(wr_envelope_open(wr_buf_bytes(&b), "libp2p-peer-record", &e) == 0);
        assert(wr_bytes_equal(e.payload, in));
        look_record(wr_buf_bytes(&b), &key);
    }
    wr_buf_clear(&b);
    return 0;
}
