/* A peer that proves who it is and then speaks none of our muxers. */
#include "tests/sim/methods_world.h"

#include "transport/mss.h"
#include "transport/secure.h"

#define OFFER "\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n"
#define REFUSAL "\x13/multistream/1.0.0\n\x03na\n"

/* Noise by the book, up to the muxer. */
struct stranger {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_key key;
    struct wr_noise_static noise;
    struct wr_aead *aead;
    struct wr_listener *listener;
    struct wr_sock *sock;
    struct wr_mss mss;
    void *handshake;
    struct wr_secure_session session;
    bool secured, silent;
    struct wr_buf in;
    char addr[WR_MADDR_TEXT];
};

static const struct wr_secure *noise(void)
{
    return wr_secure_by_word(WR_BYTES_STR("noise"));
}

static const char *only_noise(void *arg, struct wr_bytes name)
{
    (void)arg;
    return wr_secure_by_name(name) == noise() ? noise()->name : NULL;
}

static void refuse(struct stranger *s)
{
    uint8_t frame[WR_NOISE_HEADER + sizeof(REFUSAL) + WR_AEAD_TAG];
    memcpy(frame + noise()->header, REFUSAL, sizeof(REFUSAL) - 1);
    int n = noise()->seal(&s->session, frame, sizeof(REFUSAL) - 1, WR_BYTES_NONE);
    assert_true(n > 0);
    assert_int_equal(wr_sock_write(s->sock, frame, (size_t)n), 0);
}

static void handshake(struct stranger *s, struct wr_bytes *in)
{
    struct wr_secure_result result;
    struct wr_buf out;
    wr_buf_init(&out, 1 << 16);
    if (!s->mss.agreed)
        assert_true(wr_mss_input(&s->mss, in, &out) >= 0);
    if (s->mss.agreed && noise()->input(s->handshake, in, &out, &result) == 1) {
        s->session = result.session;
        s->secured = true;
    }
    assert_int_equal(wr_sock_write(s->sock, out.data, out.len), 0);
    wr_buf_clear(&out);
}

static void on_bytes(void *arg, uint8_t *data, size_t len)
{
    struct stranger *s = arg;
    struct wr_bytes in = {data, len};
    if (!s->secured)
        handshake(s, &in);
    wr_buf_put_bytes(&s->in, in);
    if (!s->secured || s->in.len < noise()->header || s->silent)
        return;
    int body = noise()->body_len(s->in.data);
    if (s->in.len < noise()->header + (size_t)body)
        return;
    s->silent = true;    /* one word, and no more */
    int n = noise()->open(&s->session, s->in.data, (size_t)body);
    assert_true(n >= (int)sizeof(OFFER) - 1);
    assert_memory_equal(s->in.data + noise()->header, OFFER, sizeof(OFFER) - 1);
    refuse(s);
}

static void on_gone(void *arg, int error)
{
    (void)error;
    ((struct stranger *)arg)->sock = NULL;
}

static void on_accept(void *arg, struct wr_sock *sock)
{
    static const struct wr_sock_ops ops = {
        .on_open = ignore, .on_read = on_bytes, .on_drain = ignore, .on_close = on_gone};
    struct stranger *s = arg;
    struct wr_secure_config config = {
        .aead = s->aead, .identity = &s->key, .noise = &s->noise, .random = {7}};
    struct wr_buf nothing;
    wr_buf_init(&nothing, 1 << 16);
    s->sock = sock;
    wr_mss_listen(&s->mss, only_noise, s);
    s->handshake = noise()->create(&config, false, &nothing);
    assert_int_equal(nothing.len, 0);
    wr_sock_attach(sock, &ops, s);
}

static void stranger_start(struct stranger *s, struct sim *sim)
{
    static const struct wr_listener_ops ops = {.on_accept = on_accept};
    uint8_t seed[WR_ED25519_SEED] = {99}, secret[WR_NOISE_STATIC] = {98}, memory[64];
    struct wr_buf pubkey;
    struct wr_peerid id;
    struct wr_maddr at;
    *s = (struct stranger){.host = sim_host_add(sim, &place)};
    s->env = sim_host_env(s->host);
    wr_buf_init(&s->in, 1 << 16);
    wr_key_generate(&s->key, seed);
    wr_noise_static_make(&s->noise, &s->key, secret);
    s->aead = wr_aead_create();
    assert_non_null(s->aead);
    wr_buf_over(&pubkey, memory, sizeof(memory));
    wr_key_encode_public(&s->key, &pubkey);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), &id), 0);
    struct wr_addr ip = {.ip = *sim_host_ip4(s->host), .port = 4001};
    assert_int_equal(wr_env_listen(s->env, &ip, &ops, s, &s->listener), 0);
    assert_int_equal(wr_maddr_from_addr(&ip, false, &at), 0);
    assert_int_equal(wr_maddr_append_peer(&at, &id), 0);
    (void)wr_maddr_print(wr_maddr_bytes(&at), s->addr, sizeof(s->addr));
}

static void stranger_stop(struct stranger *s)
{
    if (s->sock)
        wr_sock_close(s->sock, true);
    wr_listener_close(s->listener);
    noise()->destroy(s->handshake);
    if (s->secured)
        noise()->clear(&s->session);
    wr_aead_destroy(s->aead);
    wr_buf_clear(&s->in);
}

/* We may speak before the muxer is agreed on, and take the connection for open: whoever asked for it must not. */
static void test_connect_says_so(void **state)
{
    struct world *w = *state;
    struct stranger s;
    stranger_start(&s, w->sim);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", s.addr));
    expect_error(&w->c, "WR_EUNSUPPORTED", "was reached, but does not speak yamux");
    assert_true(s.silent);
    assert_int_equal(wr_swarm_conn_count(w->a.swarm), 0);
    stranger_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connect_says_so, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
