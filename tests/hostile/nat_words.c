#include "tests/hostile/nat_words.h"

#include "autonat/autonat_msg.h"
#include "dcutr/dcutr.h"
#include "dcutr/dcutr_msg.h"
#include "relay/relay_msg.h"

#define ADDRS 16

static void put_message(struct wr_buf *out, struct wr_buf *body)
{
    wr_buf_put_prefixed(out, wr_buf_bytes(body));
    wr_buf_clear(body);
}

static void put_relay(enum wr_relay_side side, enum wr_relay_type type, struct wr_bytes peer, struct wr_buf *out)
{
    struct wr_relay_msg m = {.type = type, .peer = peer};
    struct wr_buf body;
    wr_buf_init(&body, WR_RELAY_MSG_MAX);
    wr_relay_msg_encode(side, &m, &body);
    put_message(out, &body);
}

const char *nat_word_to_relay(unsigned n, const struct wr_peerid *self, const struct wr_peerid *other,
                              struct wr_buf *out)
{
    static const uint8_t nonsense[] = {5, 0x08, 7, 0x12, 0xff, 0xff};
    struct wr_peerid nobody = *self;
    nobody.bytes[nobody.len - 1] ^= 1;
    switch (n % 6) {
    case 0:
        put_relay(WR_RELAY_HOP, WR_RELAY_CONNECT, wr_peerid_bytes(&nobody), out);
        break;
    case 1:
        put_relay(WR_RELAY_HOP, WR_RELAY_CONNECT, wr_peerid_bytes(self), out);
        break;
    case 2:
        wr_buf_put(out, nonsense, sizeof(nonsense));
        break;
    case 3:
        put_relay(WR_RELAY_HOP, WR_RELAY_RESERVE, WR_BYTES_NONE, out);
        break;
    default:
        put_relay(WR_RELAY_HOP, WR_RELAY_CONNECT, wr_peerid_bytes(other), out);
        break;
    }
    return WR_RELAY_HOP_NAME;
}

/* A neighbour of the node, a router of its, everybody, itself, and places in the public. */
static void put_addrs(unsigned n, struct wr_maddr *out, size_t count)
{
    static const uint8_t places[][4] = {{192, 168, 1, 1}, {224, 0, 0, 1}, {127, 0, 0, 1}, {45, 90, 0, 2}, {46, 1, 1, 1}};
    for (size_t i = 0; i < count; i++) {
        struct wr_addr at = {.ip = {.family = 4}, .port = (uint16_t)(1 + n % 60000)};
        const uint8_t *place = places[(n + i) % (sizeof(places) / sizeof(*places))];
        for (size_t k = 0; k < 4; k++)
            at.ip.bytes[k] = place[k];
        at.ip.bytes[3] = (uint8_t)(at.ip.bytes[3] + i / 8);
        (void)wr_maddr_from_addr(&at, i % 2, &out[i]);
    }
}

static void put_autonat(unsigned n, const struct wr_peerid *self, bool v1, struct wr_buf *out)
{
    struct wr_autonat_v1_msg first = {.peer = wr_peerid_bytes(self), .addr_count = ADDRS};
    struct wr_autonat_msg second = {.type = WR_AUTONAT_DIAL_REQUEST, .nonce = n, .addr_count = ADDRS};
    struct wr_maddr addrs[ADDRS];
    struct wr_buf body;
    put_addrs(n, addrs, ADDRS);
    for (size_t i = 0; i < ADDRS; i++)
        first.addrs[i] = second.addrs[i] = wr_maddr_bytes(&addrs[i]);
    wr_buf_init(&body, WR_AUTONAT_MSG_MAX);
    if (v1)
        wr_autonat_msg_encode_v1(&first, &body);
    else
        wr_autonat_msg_encode(&second, &body);
    put_message(out, &body);
}

static void put_punch(unsigned n, struct wr_buf *out)
{
    struct wr_dcutr_msg m = {.type = n % 2 ? WR_DCUTR_CONNECT : WR_DCUTR_SYNC, .count = WR_DCUTR_EACH_MAX};
    struct wr_buf body;
    put_addrs(n, m.addrs, m.count);
    wr_buf_init(&body, WR_DCUTR_READ_MAX);
    wr_dcutr_msg_encode(&m, &body);
    put_message(out, &body);
}

const char *nat_word(unsigned n, const struct wr_peerid *self, struct wr_buf *out)
{
    struct wr_buf body;
    switch (n % 5) {
    case 0:
        put_autonat(n, self, true, out);
        return WR_AUTONAT_V1;
    case 1:
        put_autonat(n, self, false, out);
        return WR_AUTONAT_REQUEST;
    case 2:
        wr_buf_init(&body, WR_AUTONAT_BACK_MAX);
        wr_autonat_msg_encode_back(n, &body);
        put_message(out, &body);
        return WR_AUTONAT_BACK;
    case 3:
        put_relay(WR_RELAY_STOP, WR_RELAY_CONNECT, wr_peerid_bytes(self), out);
        return WR_RELAY_STOP_NAME;
    default:
        put_punch(n, out);
        return WR_DCUTR_NAME;
    }
}
