/* Peers' keys and signatures, and our own key file. Input: length of a PublicKey in two bytes, the
 * key, the signature over a fixed message. What our reader takes, protobuf-c takes with the same
 * content. */
#include "transport/err.h"
#include "transport/key.h"
#include "transport/key.pb-c.h"
#include "transport/pb.h"

#include <assert.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_its_length(enum wr_key_type type, size_t len)
{
    switch (type) {
    case WR_KEY_RSA:
        return len >= WR_RSA_BITS_MIN / 8 && len <= WR_RSA_BITS_MAX / 8 + 40;
    case WR_KEY_ED25519:
        return len == WR_ED25519_PUBLIC;
    case WR_KEY_SECP256K1:
        return len == 33 || len == 65;
    case WR_KEY_ECDSA:
        return len == 91 || len == 120 || len == 158;
    }
    return false;
}

static void look_public(struct wr_bytes in)
{
    enum wr_key_type type;
    struct wr_bytes key, again;
    uint8_t memory[WR_PUBKEY_MAX];
    struct wr_buf normal;
    if (wr_pubkey_decode(in, &type, &key) != 0)
        return;
    assert(has_its_length(type, key.len));
    Wr__Pb__PublicKey *message =
        (Wr__Pb__PublicKey *)wr_pb_unpack(&wr__pb__public_key__descriptor, in, 1 << 16);
    if (message) { /* protobuf-c is stricter about unknown fields, never laxer */
        assert((int)message->type == (int)type);
        assert(wr_bytes_equal(key, WR_BYTES(message->data.data, message->data.len)));
        wr_pb_free(&message->base);
    }
    wr_buf_over(&normal, memory, sizeof(memory));
    assert(wr_pubkey_normalize(in, &normal) == 0 && !normal.full && normal.len <= in.len);
    assert(wr_pubkey_decode(wr_buf_bytes(&normal), NULL, &again) == 0);
    assert(type == WR_KEY_SECP256K1 || wr_bytes_equal(key, again));
}

static void look_private(struct wr_bytes in)
{
    struct wr_key key, again;
    uint8_t memory[128];
    struct wr_buf b;
    if (wr_key_decode(in, &key) != 0) {
        assert(sodium_is_zero((const uint8_t *)&key, sizeof(key)));
        return;
    }
    wr_buf_over(&b, memory, sizeof(memory));
    wr_key_encode(&key, &b);
    assert(wr_key_decode(wr_buf_bytes(&b), &again) == 0 && memcmp(&key, &again, sizeof(key)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(data, size));
    struct wr_bytes pubkey = wr_read_bytes(&r, wr_read_u16be(&r));
    look_private(WR_BYTES(data, size));
    if (r.bad)
        return 0;
    look_public(pubkey);
    int err = wr_pubkey_verify(pubkey, WR_BYTES_STR("warren signs this"), r.rest);
    assert(err == 0 || err == WR_EAUTH || err == WR_EPROTO);
    return 0;
}
