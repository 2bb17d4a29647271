/* The control socket and what strangers' programs send: nonsense, bursts, and replies that they do not read. */
#include "tests/cli/control_world.h"

static void expect_last_word(struct fixture *f, struct peer *p, const char *code)
{
    struct wr_rpc_message m;
    assert_true(next(f, p, &m));
    assert_int_equal(m.type, WR_RPC_NOTIFICATION);
    assert_true(wr_bytes_equal(m.method, WR_BYTES_STR("error")));
    const msgpack_object *o = wr_rpc_find(m.params, "code");
    assert_true(wr_bytes_equal(WR_BYTES(o->via.str.ptr, o->via.str.size), wr_bytes_cstr(code)));
    wr_rpc_message_clear(&m);
    assert_false(next(f, p, &m));
    assert_true(p->ended);
}

static void test_malformed_input_closes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        struct wr_bytes bytes;
        const char *code;
    } table[] = {
        {WR_BYTES_STR("GET / HTTP/1.1\r\n\r\n"), "WR_EPROTO"},
        {WR_BYTES_STR("\x94\x01\x01\xc0\x80"), "WR_EPROTO"}, /* a response that nobody asked for */
        {WR_BYTES_STR("\x92\x00\x01"), "WR_EPROTO"},
        {WR_BYTES_STR("\x94\xc1"), "WR_EPROTO"},
        {WR_BYTES_STR("\xdd\xff\xff\xff\xff"), "WR_ELIMIT"},
        {WR_BYTES_STR("\x94\x00\x01\xa4"
                      "echo\xc6\x7f\xff\xff\xff"),
         "WR_ELIMIT"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct peer p;
        dial(f, &p);
        call(&p, 1, "hello", NULL);
        (void)push(&p, table[i].bytes.ptr, table[i].bytes.len);
        expect_result(f, &p, 1); /* what came before is answered */
        expect_last_word(f, &p, table[i].code);
        hang_up(f, &p);
    }
    /* A notification is ignored. */
    struct peer p;
    dial(f, &p);
    (void)push(&p, "\x93\x02\xa1x\x90", 5);
    call(&p, 1, "hello", NULL);
    expect_result(f, &p, 1);
    hang_up(f, &p);
}

static void test_longest_request(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    size_t len = WR_RPC_REQUEST_MAX, at = 0;
    uint8_t *bytes = calloc(1, len);
    static const char head[] = "\x94\x00\x01\xa4"
                               "echo\x91\x81\xa4text\xc6";
    memcpy(bytes, head, sizeof(head) - 1);
    uint32_t rest = (uint32_t)(len - (sizeof(head) - 1) - 4);
    for (int i = 0; i < 4; i++)
        bytes[sizeof(head) - 1 + (size_t)i] = (uint8_t)(rest >> (24 - 8 * i));
    dial(f, &p);
    while (at < len) {
        at += push(&p, bytes + at, len - at);
        turn(f);
        pull(&p);
        assert_false(p.ended);
    }
    expect_result(f, &p, 1);
    hang_up(f, &p);
    free(bytes);
}

static void test_calls_under_way_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    dial(f, &p);
    for (uint32_t id = 0; id <= WR_CONTROL_CALLS_MAX; id++)
        call(&p, id, "wait", NULL);
    expect_error(f, &p, WR_CONTROL_CALLS_MAX, "WR_ELIMIT", "64 calls are under way");
    assert_int_equal(f->waiting_count, WR_CONTROL_CALLS_MAX);
    wr_call_done(f->waiting[0]);
    expect_result(f, &p, 0);
    call(&p, 99, "hello", NULL);
    expect_result(f, &p, 99);
    hang_up(f, &p);
    assert_int_equal(f->cancelled, WR_CONTROL_CALLS_MAX - 1);
}

/* A client that asks and does not read is not read either; once it reads, everything comes, in
 * order. */
static void test_client_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    struct wr_buf out;
    char text[1001];
    uint32_t sent = 0;
    memset(text, 'x', 1000);
    text[1000] = '\0';
    wr_buf_init(&out, 4096);
    dial(f, &p);
    for (size_t at = 0;;) {
        if (at == out.len) {
            wr_buf_reset(&out);
            request(&out, sent++, "echo", text, 1, "repeat");
            at = 0;
        }
        size_t took = push(&p, out.data + at, out.len - at);
        at += took;
        if (took)
            continue;
        turn(f);
        took = push(&p, out.data + at, out.len - at);
        at += took;
        if (!took)
            break;
        assert_true(sent < 20000); /* it would take for ever */
    }
    uint32_t whole = sent - 1; /* the last one is cut */
    assert_true(whole > 100);
    for (uint32_t id = 0; id < whole; id++)
        expect_result(f, &p, id);
    hang_up(f, &p);
    wr_buf_clear(&out);
}

/* Few bytes that ask for much: answered one by one as the client reads, not all at once. */
static void test_burst_of_requests_for_long_replies(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    struct wr_buf out;
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    wr_buf_init(&out, 65536);
    for (uint32_t id = 0; id < 20; id++)
        request(&out, id, "echo", text, 1000, "repeat");
    dial(f, &p);
    assert_int_equal(push(&p, out.data, out.len), out.len);
    for (uint32_t id = 0; id < 20; id++)
        expect_result(f, &p, id);
    hang_up(f, &p);
    wr_buf_clear(&out);
}

/* A client that sends thousands of requests at once, and is gone before they are handled, keeps nobody waiting. */
static void test_burst_leaves_others_their_turn(void **state)
{
    struct fixture *f = *state;
    struct peer crowd, other;
    struct wr_buf burst;
    struct wr_rpc_message m;
    dial(f, &crowd);
    dial(f, &other);
    wr_buf_init(&burst, 1 << 20);
    for (uint32_t i = 0; i < 1000; i++)
        request(&burst, i, "wait", NULL, 0, NULL);
    assert_int_equal(push(&crowd, burst.data, burst.len), burst.len);
    call(&other, 1, "echo", "here");
    for (int i = 0; i < 3; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_in_range(f->waiting_count, 1, 20);
    pull(&other);
    assert_true(next(f, &other, &m));
    assert_int_equal(m.id, 1);
    wr_rpc_message_clear(&m);
    wr_buf_clear(&burst);
    hang_up(f, &crowd);
    hang_up(f, &other);
}

static void test_client_that_lets_replies_pile_up(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    dial(f, &p);
    for (uint32_t id = 0; id < 12; id++)
        call(&p, id, "wait", NULL);
    turn(f);
    assert_int_equal(f->waiting_count, 12);
    uint8_t *big = calloc(1, 1000000);
    for (size_t i = 0; i < 12; i++) {
        wr_pack_bin(wr_call_result(f->waiting[i]), "value", WR_BYTES(big, 1000000));
        wr_call_done(f->waiting[i]);
    }
    free(big);
    turn(f);
    assert_int_equal(wr_control_clients(f->control), 0);
    hang_up(f, &p);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_malformed_input_closes),
        TEST(test_longest_request),
        TEST(test_calls_under_way_are_bounded),
        TEST(test_client_that_does_not_read),
        TEST(test_burst_of_requests_for_long_replies),
        TEST(test_burst_leaves_others_their_turn),
        TEST(test_client_that_lets_replies_pile_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
