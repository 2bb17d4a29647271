/* TLS over TCP. First byte: what the rest is - 0: a dialler's bytes to a listener, in pieces; 1: a
 * listener's to a dialler; 2: records, each sealed rightly: type, length, content; 3: records as
 * they are. */
#include "transport/tls_record.c"

static struct wr_tlsctx *ctx; /* made once: that costs more than a run */

static void make_context(void)
{
    struct wr_key identity;
    uint8_t seed[WR_ED25519_SEED] = {1};
    wr_key_generate(&identity, seed);
    ctx = wr_tlsctx_create(&identity, 1800000000);
    assert(ctx);
}

static void handshake(bool dialer, const uint8_t *data, size_t size)
{
    struct wr_tls_config config = {.ctx = ctx, .now = 1800000000};
    struct wr_tls_result result = {.session = NULL};
    struct wr_buf out;
    int rc = 0;
    wr_buf_init(&out, 1 << 16);
    struct wr_tls *t = wr_tls_create(&config, dialer, &out);
    assert(t && dialer == (out.len > 0));
    for (size_t at = 0, step; rc == 0 && at < size; at += step) {
        step = 1 + data[at] * 4u;
        step = step < size - at ? step : size - at;
        struct wr_bytes in = WR_BYTES(data + at, step);
        rc = wr_tls_input(t, &in, &out, &result);
        assert(rc != 0 || in.len == 0);
    }
    assert(rc <= 1 && (rc == 1) == (result.session != NULL));
    wr_tls_session_destroy(result.session);
    wr_tls_destroy(t);
    wr_buf_clear(&out);
}

static struct wr_tls_session *session(bool dialer)
{
    static const uint8_t one[WR_TLS_SECRET_MAX] = {1}, two[WR_TLS_SECRET_MAX] = {2};
    struct wr_tls_session *s =
        wr_tls_session_create(ctx, WR_AEAD_AES128, dialer, dialer ? one : two, dialer ? two : one);
    assert(s);
    return s;
}

static void check_open(int rc, size_t len)
{
    assert(rc <= (int)WR_TLS_PLAIN_MAX && (rc < 0 || (size_t)rc < len));
}

/* The sender may do what it likes; the receiver answers, and both still understand each other as
 * long as nothing was refused. */
static void sealed(const uint8_t *data, size_t size)
{
    static const uint8_t types[] = {20, TYPE_ALERT, TYPE_HANDSHAKE, TYPE_DATA, 0, 24};
    uint8_t record[WR_TLS_OVERHEAD + 512];
    struct wr_tls_session *a = session(false), *b = session(true);
    int rc = 0;
    while (rc >= 0 && size >= 2) {
        size_t len = data[1] < size - 2 ? data[1] : size - 2;
        memcpy(record + WR_TLS_HEADER, data + 2, len);
        int whole = seal_record(a, types[data[0] % sizeof(types)], record, len);
        assert(whole > 0 && wr_tls_body_len(record) == whole - WR_TLS_HEADER);
        if (data[0] & 0x80)
            record[WR_TLS_HEADER + len / 2] ^= 1;
        struct wr_tls_direction before = b->recv;
        rc = wr_tls_open(b, record, (size_t)(whole - WR_TLS_HEADER));
        check_open(rc, (size_t)(whole - WR_TLS_HEADER));
        assert(!(data[0] & 0x80) || rc == WR_EAUTH);
        /* It took a new key: the sender goes along. */
        if (rc == 0 && memcmp(before.secret, b->recv.secret, sizeof(before.secret)) != 0)
            rc = next_secret(a->cipher, &a->send);
        data += 2 + len;
        size -= 2 + len;
    }
    int whole = wr_tls_seal(b, record, 5);
    int at = whole > WR_TLS_KEY_UPDATE ? WR_TLS_KEY_UPDATE : 0;
    if (at) {
        rc = wr_tls_open(a, record, (size_t)wr_tls_body_len(record));
        assert(rc == 0);
    }
    rc = wr_tls_open(a, record + at, (size_t)wr_tls_body_len(record + at));
    assert(rc == 5);
    wr_tls_session_destroy(a);
    wr_tls_session_destroy(b);
}

static void raw(const uint8_t *data, size_t size)
{
    uint8_t record[WR_TLS_HEADER + 1024];
    struct wr_tls_session *s = session(true);
    while (size >= WR_TLS_HEADER) {
        int len = wr_tls_body_len(data);
        assert(len == WR_EPROTO || (len > WR_AEAD_TAG && len <= WR_TLS_RECORD_MAX));
        if (len < 0 || (size_t)len > size - WR_TLS_HEADER || (size_t)len > 1024)
            break;
        memcpy(record, data, WR_TLS_HEADER + (size_t)len);
        int rc = wr_tls_open(s, record, (size_t)len);
        assert(rc < 0);
        data += WR_TLS_HEADER + (size_t)len;
        size -= WR_TLS_HEADER + (size_t)len;
    }
    wr_tls_session_destroy(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!ctx)
        make_context();
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
    case 1:
        handshake(data[0] % 4 == 1, data + 1, size - 1);
        break;
    case 2:
        sealed(data + 1, size - 1);
        break;
    default:
        raw(data + 1, size - 1);
    }
    return 0;
}
