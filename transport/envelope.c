#include "transport/envelope.h"

#include "transport/envelope.pb-c.h"
#include "transport/err.h"
#include "transport/pb.h"

#include <assert.h>
#include <string.h>

/* The domain and payload type of a peer record: as deployed, and by the letter of RFC 0003. */
static const char DEPLOYED_DOMAIN[] = "libp2p-peer-record";
static const char RFC_DOMAIN[] = "libp2p-routing-state";
#define DEPLOYED_TYPE WR_BYTES_STR("\x03\x01") /* the multicodec's two bytes, not a varint */
#define RFC_TYPE      WR_BYTES_STR("/libp2p/routing-state-record")

/* What is signed: at most an envelope's fields, and three lengths. */
#define SIGNED_MAX (WR_ENVELOPE_MAX + WR_ENVELOPE_DOMAIN_MAX + 16)

struct parts {
    struct wr_bytes pubkey, payload_type, payload, signature;
};

static int split(struct wr_bytes in, struct parts *out)
{
    struct wr_pb_field f;
    int more;
    *out = (struct parts){.pubkey = WR_BYTES_NONE};
    if (in.len > WR_ENVELOPE_MAX)
        return WR_EPROTO;
    while ((more = wr_pb_next(&in, &f)) > 0) {
        struct wr_bytes *to = f.number == 1   ? &out->pubkey
                              : f.number == 2 ? &out->payload_type
                              : f.number == 3 ? &out->payload
                              : f.number == 5 ? &out->signature
                                              : NULL;
        if (to && f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        if (to)
            *to = f.bytes;
    }
    return more == 0 && out->pubkey.len && out->signature.len ? 0 : WR_EPROTO;
}

static void put_signed(struct wr_buf *out, const char *domain, struct wr_bytes payload_type,
                       struct wr_bytes payload)
{
    assert(strlen(domain) <= WR_ENVELOPE_DOMAIN_MAX);
    wr_buf_put_prefixed(out, wr_bytes_cstr(domain));
    wr_buf_put_prefixed(out, payload_type);
    wr_buf_put_prefixed(out, payload);
}

static int verify(const struct parts *p, const char *domain, struct wr_verified *known)
{
    uint8_t memory[SIGNED_MAX];
    struct wr_buf text;
    wr_buf_over(&text, memory, sizeof(memory));
    put_signed(&text, domain, p->payload_type, p->payload);
    assert(!text.full);
    return wr_verified_check(known, p->pubkey, wr_buf_bytes(&text), p->signature);
}

int wr_envelope_open(struct wr_bytes in, const char *domain, struct wr_envelope *out)
{
    struct parts p;
    struct wr_peerid signer;
    int err = split(in, &p);
    if (!err)
        err = wr_peerid_from_pubkey(p.pubkey, &signer);
    if (!err)
        err = verify(&p, domain, NULL);
    if (err)
        return err;
    *out = (struct wr_envelope){
        .signer = signer, .pubkey = p.pubkey, .payload_type = p.payload_type, .payload = p.payload};
    return 0;
}

void wr_envelope_seal(const struct wr_key *key, const char *domain, struct wr_bytes payload_type,
                      struct wr_bytes payload, struct wr_buf *out)
{
    uint8_t text_memory[SIGNED_MAX], key_memory[WR_PUBKEY_MAX], sig[WR_SIG_ED25519];
    struct wr_buf text, pubkey;
    wr_buf_over(&text, text_memory, sizeof(text_memory));
    put_signed(&text, domain, payload_type, payload);
    wr_buf_over(&pubkey, key_memory, sizeof(key_memory));
    wr_key_encode_public(key, &pubkey);
    if (text.full) {
        out->full = true;
        return;
    }
    wr_key_sign(key, wr_buf_bytes(&text), sig);
    Wr__Pb__Envelope message = WR__PB__ENVELOPE__INIT;
    message.public_key = wr_pb_bytes(wr_buf_bytes(&pubkey));
    message.payload_type = wr_pb_bytes(payload_type);
    message.payload = wr_pb_bytes(payload);
    message.signature = wr_pb_bytes(WR_BYTES(sig, sizeof(sig)));
    if (protobuf_c_message_get_packed_size(&message.base) > WR_ENVELOPE_MAX)
        out->full = true;
    else
        wr_pb_pack(&message.base, out);
}

/* AddressInfo: one multiaddr. An address of an unknown kind is left out, as others do. */
static int decode_address(struct wr_bytes in, struct wr_peer_record *record)
{
    struct wr_pb_field f;
    struct wr_bytes address = WR_BYTES_NONE;
    int more;
    while ((more = wr_pb_next(&in, &f)) > 0) {
        if (f.number != 1)
            continue;
        if (f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        address = f.bytes;
    }
    if (more < 0)
        return WR_EPROTO;
    if (record->count < WR_RECORD_ADDRS_MAX &&
        wr_maddr_decode(address, &record->addrs[record->count]) == 0)
        record->count++;
    return 0;
}

static int decode_record(struct wr_bytes in, struct wr_peer_record *record)
{
    struct wr_pb_field f;
    struct wr_bytes peer = WR_BYTES_NONE;
    int more, err = 0;
    record->seq = 0;
    record->count = 0;
    while (!err && (more = wr_pb_next(&in, &f)) != 0) {
        if (more < 0 || (f.number <= 3 && f.wire != (f.number == 2 ? WR_PB_VARINT : WR_PB_BYTES)))
            err = WR_EPROTO;
        else if (f.number == 1)
            peer = f.bytes;
        else if (f.number == 2)
            record->seq = f.value;
        else if (f.number == 3)
            err = decode_address(f.bytes, record);
    }
    return err ? err : wr_peerid_decode(peer, &record->peer);
}

int wr_peer_record_open(struct wr_bytes in, struct wr_verified *known, struct wr_peer_record *record)
{
    struct parts p;
    struct wr_peerid signer;
    const char *domain = NULL;
    int err = split(in, &p);
    if (err)
        return err;
    if (wr_bytes_equal(p.payload_type, DEPLOYED_TYPE))
        domain = DEPLOYED_DOMAIN;
    else if (wr_bytes_equal(p.payload_type, RFC_TYPE))
        domain = RFC_DOMAIN;
    if (!domain)
        return WR_EPROTO;
    /* The signature comes last: it costs more than all the rest. */
    err = wr_peerid_from_pubkey(p.pubkey, &signer);
    if (!err)
        err = decode_record(p.payload, record);
    if (!err && !wr_peerid_equal(&signer, &record->peer))
        err = WR_EPEERID;
    return err ? err : verify(&p, domain, known);
}

void wr_peer_record_seal(const struct wr_key *key, uint64_t seq, const struct wr_maddr *addrs,
                         size_t count, struct wr_buf *out)
{
    Wr__Pb__PeerRecord__AddressInfo infos[WR_RECORD_ADDRS_MAX];
    Wr__Pb__PeerRecord__AddressInfo *list[WR_RECORD_ADDRS_MAX];
    uint8_t key_memory[WR_PUBKEY_MAX], memory[WR_ENVELOPE_MAX];
    struct wr_peerid self;
    struct wr_buf pubkey, payload;
    assert(count <= WR_RECORD_ADDRS_MAX);
    wr_buf_over(&pubkey, key_memory, sizeof(key_memory));
    wr_key_encode_public(key, &pubkey);
    int err = wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &self);
    assert(!err);
    (void)err;    // without assertions
    Wr__Pb__PeerRecord record = WR__PB__PEER_RECORD__INIT;
    record.peer_id = wr_pb_bytes(wr_peerid_bytes(&self));
    record.seq = seq;
    record.addresses = list;
    for (size_t i = 0; i < count; i++) {
        assert(addrs[i].len); /* an empty one breaks the receiver: js-libp2p 3478 */
        infos[i] = (Wr__Pb__PeerRecord__AddressInfo)WR__PB__PEER_RECORD__ADDRESS_INFO__INIT;
        infos[i].multiaddr = wr_pb_bytes(wr_maddr_bytes(&addrs[i]));
        list[record.n_addresses++] = &infos[i];
    }
    wr_buf_over(&payload, memory, sizeof(memory));
    wr_pb_pack(&record.base, &payload);
    if (payload.full)
        out->full = true;
    else
        wr_envelope_seal(key, DEPLOYED_DOMAIN, DEPLOYED_TYPE, wr_buf_bytes(&payload), out);
}
