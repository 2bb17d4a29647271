#include "transport/quic_frames.h"

#include <string.h>

enum {
    PADDING = 0x00,
    PING = 0x01,
    ACK = 0x02,
    ACK_ECN = 0x03,
    RESET_STREAM = 0x04,
    STOP_SENDING = 0x05,
    CRYPTO = 0x06,
    NEW_TOKEN = 0x07,
    STREAM = 0x08, /* and what has this bit and is nothing else, in ngtcp2 0.12 */
    MAX_DATA = 0x10,
    MAX_STREAM_DATA = 0x11,
    MAX_STREAMS_BIDI = 0x12,
    MAX_STREAMS_UNI = 0x13,
    DATA_BLOCKED = 0x14,
    STREAM_DATA_BLOCKED = 0x15,
    STREAMS_BLOCKED_BIDI = 0x16,
    STREAMS_BLOCKED_UNI = 0x17,
    NEW_CONNECTION_ID = 0x18,
    RETIRE_CONNECTION_ID = 0x19,
    PATH_CHALLENGE = 0x1a,
    PATH_RESPONSE = 0x1b,
    CONNECTION_CLOSE = 0x1c,
    APPLICATION_CLOSE = 0x1d,
    HANDSHAKE_DONE = 0x1e,
    DATAGRAM = 0x30,
    DATAGRAM_LEN = 0x31
};

#define STREAM_LEN  0x02
#define STREAM_OFF  0x04
#define PATH_DATA   8  /* bytes */
#define RESET_TOKEN 16 /* bytes */

/* Section 16. */
static uint64_t read_number(struct wr_reader *r)
{
    uint64_t first = wr_read_u8(r), v = first & 0x3f;
    for (unsigned more = (1u << (first >> 6)) - 1; more; more--)
        v = v << 8 | wr_read_u8(r);
    return v;
}

static void skip_numbers(struct wr_reader *r, unsigned count)
{
    while (count--)
        (void)read_number(r);
}

static void skip_bytes(struct wr_reader *r, uint64_t len)
{
    if (len > r->rest.len)
        r->bad = true;
    else
        (void)wr_read_bytes(r, (size_t)len);
}

static void skip_prefixed(struct wr_reader *r)
{
    skip_bytes(r, read_number(r));
}

static void skip_ack(struct wr_reader *r, bool ecn)
{
    skip_numbers(r, 2);
    uint64_t ranges = read_number(r);
    skip_numbers(r, 1);
    for (; ranges && !r->bad; ranges--)
        skip_numbers(r, 2);
    skip_numbers(r, ecn ? 3 : 0);
}

static void skip_stream(struct wr_reader *r, uint8_t type)
{
    skip_numbers(r, type & STREAM_OFF ? 2 : 1);
    if (type & STREAM_LEN)
        skip_prefixed(r);
    else
        r->rest.len = 0;
}

/* Returns the Retire Prior To. */
static uint64_t read_new_id(struct wr_reader *r)
{
    skip_numbers(r, 1);
    uint64_t prior = read_number(r);
    skip_bytes(r, wr_read_u8(r));
    skip_bytes(r, RESET_TOKEN);
    return prior;
}

static void skip_other(struct wr_reader *r, uint8_t type)
{
    switch (type) {
    case CRYPTO:
        skip_numbers(r, 1);
        skip_prefixed(r);
        break;
    case NEW_TOKEN:
        skip_prefixed(r);
        break;
    case CONNECTION_CLOSE:
        skip_numbers(r, 2);
        skip_prefixed(r);
        break;
    case APPLICATION_CLOSE:
        skip_numbers(r, 1);
        skip_prefixed(r);
        break;
    case DATAGRAM:
        r->rest.len = 0;
        break;
    case DATAGRAM_LEN:
        skip_prefixed(r);
        break;
    default:
        if (type & STREAM)
            skip_stream(r, type);
        else
            r->bad = true;
        break;
    }
}

/* muted: NULL, or the same frames, of which acknowledgements become padding. */
static unsigned look(struct wr_bytes frames, uint8_t *muted)
{
    struct wr_reader r;
    unsigned asked = 0;
    wr_reader_init(&r, frames);
    while (r.rest.len && !r.bad) {
        size_t at = frames.len - r.rest.len;
        uint8_t type = wr_read_u8(&r);
        switch (type) {
        case PADDING:
        case PING:
        case HANDSHAKE_DONE:
            break;
        case ACK:
        case ACK_ECN:
            skip_ack(&r, type == ACK_ECN);
            if (r.bad)
                break;
            asked |= WR_QUIC_FRAMES_ACK;
            if (muted)
                memset(muted + at, PADDING, frames.len - r.rest.len - at);
            break;
        case MAX_DATA:
        case MAX_STREAMS_BIDI:
        case MAX_STREAMS_UNI:
        case DATA_BLOCKED:
        case STREAMS_BLOCKED_BIDI:
        case STREAMS_BLOCKED_UNI:
        case RETIRE_CONNECTION_ID:
            skip_numbers(&r, 1);
            break;
        case STOP_SENDING:
        case MAX_STREAM_DATA:
        case STREAM_DATA_BLOCKED:
            skip_numbers(&r, 2);
            break;
        case RESET_STREAM:
            skip_numbers(&r, 3);
            break;
        case PATH_CHALLENGE:
        case PATH_RESPONSE:
            skip_bytes(&r, PATH_DATA);
            break;
        case NEW_CONNECTION_ID:
            if (read_new_id(&r) && !r.bad)
                asked |= WR_QUIC_FRAMES_RETIRE;
            break;
        default:
            skip_other(&r, type);
            break;
        }
    }
    return asked;
}

unsigned wr_quic_frames_ask(struct wr_bytes frames)
{
    return look(frames, NULL);
}

void wr_quic_frames_mute(uint8_t *frames, size_t len)
{
    (void)look(WR_BYTES(frames, len), frames);
}
