/* Noise, the source included to get behind its ciphers. First byte: what the rest is -
 * 0, 1: bytes to a dialler, to a listener; 2, 3: a payload sealed as a peer would, to either;
 * 4: transport frames to a session, of which every second is first sealed rightly. */
#include "transport/noise.c"

static struct wr_aead *engine;    /* made once: that costs more than a run */

struct end {
    struct wr_key identity;
    struct wr_noise_static fixed;
    struct wr_noise_config config;
};

static void end_init(struct end *e, uint8_t salt)
{
    uint8_t seed[32] = {salt};
    wr_key_generate(&e->identity, seed);
    seed[1] = 1;
    wr_noise_static_make(&e->fixed, &e->identity, seed);
    e->config = (struct wr_noise_config){.engine = engine, .identity = &e->identity,
                                         .static_key = &e->fixed, .muxer = "/yamux/1.0.0"};
    seed[1] = 2;
    memcpy(e->config.ephemeral, seed, sizeof(seed));
}

static void check_result(int rc, const struct wr_noise_result *result)
{
    assert(rc <= 1);
    if (rc != 1)
        return;
    assert(result->peer.len > 0 && result->peer.len <= WR_PEERID_MAX);
    assert(result->pubkey.len > 0 && result->session.send_nonce == 0);
}

/* Raw bytes in pieces. */
static void handshake(bool dialer, const uint8_t *data, size_t size)
{
    struct end e;
    struct wr_buf out;
    struct wr_noise_result result;
    int rc = 0;
    end_init(&e, dialer);
    wr_buf_init(&out, 1 << 16);
    struct wr_noise *n = wr_noise_create(&e.config, dialer, &out);
    assert(n);
    for (size_t at = 0, step; rc == 0 && at < size; at += step) {
        step = 1 + data[at] % 100u;
        step = step < size - at ? step : size - at;
        struct wr_bytes in = WR_BYTES(data + at, step);
        rc = wr_noise_input(n, &in, &out, &result);
        assert(rc != 0 || in.len == 0);
    }
    check_result(rc, &result);
    wr_noise_destroy(n);
    wr_buf_clear(&out);
}

/* An honest handshake up to the payload, which is the input. */
static void payload(bool to_dialer, const uint8_t *data, size_t size)
{
    struct end e[2];    /* dialler, listener */
    struct wr_noise *n[2];
    struct wr_buf out[2];
    struct wr_noise_result result;
    if (size > WR_NOISE_HANDSHAKE_FRAME_MAX - 2 * STATIC_FIELD)
        return;
    for (int i = 0; i < 2; i++) {
        end_init(&e[i], (uint8_t)i);
        wr_buf_init(&out[i], 1 << 16);
        n[i] = wr_noise_create(&e[i].config, i == 0, &out[i]);
        assert(n[i]);
    }
    int sender = to_dialer ? 1 : 0;
    struct wr_buf message;
    struct wr_bytes in = wr_buf_bytes(&out[0]);
    wr_buf_init(&message, 1 << 16);
    size_t at = begin_frame(&message);
    if (to_dialer) {
        read_1(n[1], out[0].data + WR_NOISE_HEADER);
        put_ephemeral(n[1], &message);
        mix_dh(n[1], n[1]->config.ephemeral, n[1]->peer_ephemeral);
    } else {
        int rc = wr_noise_input(n[1], &in, &out[1], &result);
        assert(rc == 0);
        rc = read_2(n[0], out[1].data + WR_NOISE_HEADER, out[1].len - WR_NOISE_HEADER, &result);
        assert(rc == 0);
    }
    encrypt_and_hash(n[sender], WR_BYTES(e[sender].fixed.public_key, WR_NOISE_STATIC), &message);
    mix_dh(n[sender], e[sender].fixed.secret, n[sender]->peer_ephemeral);
    encrypt_and_hash(n[sender], WR_BYTES(data, size), &message);
    end_frame(&message, at, 0);
    in = wr_buf_bytes(&message);
    int rc = wr_noise_input(n[!sender], &in, &out[!sender], &result);
    assert(rc != 0);    /* a whole message is decided on */
    check_result(rc, &result);
    for (int i = 0; i < 2; i++) {
        wr_noise_destroy(n[i]);
        wr_buf_clear(&out[i]);
    }
    wr_buf_clear(&message);
}

static void frames(const uint8_t *data, size_t size)
{
    struct wr_noise_session a = {.send_key = {1}}, b = {.recv_key = {1}};
    uint8_t frame[WR_NOISE_HEADER + 256 + WR_AEAD_TAG];
    bool right = true;
    while (size) {
        size_t len = data[0] < size - 1 ? data[0] : size - 1;
        int got;
        memcpy(frame + WR_NOISE_HEADER, data + 1, len);
        if (right) {
            int whole = wr_noise_seal(engine, &a, frame, len);
            assert(whole == (int)(WR_NOISE_HEADER + len + WR_AEAD_TAG));
            got = wr_noise_open(engine, &b, frame + WR_NOISE_HEADER, len + WR_AEAD_TAG);
            assert(got == (int)len && memcmp(frame + WR_NOISE_HEADER, data + 1, len) == 0);
        } else {
            got = wr_noise_open(engine, &b, frame + WR_NOISE_HEADER, len);
            assert(got == (len < WR_AEAD_TAG ? WR_EPROTO : WR_EAUTH));
        }
        right = !right;
        data += 1 + len;
        size -= 1 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (!engine)
        engine = wr_aead_create();
    assert(engine);
    switch (data[0] % 5) {
    case 0:
    case 1:
        handshake(data[0] % 5 == 0, data + 1, size - 1);
        break;
    case 2:
    case 3:
        payload(data[0] % 5 == 2, data + 1, size - 1);
        break;
    default:
        frames(data + 1, size - 1);
    }
    return 0;
}
