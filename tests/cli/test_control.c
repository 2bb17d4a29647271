/* The control socket on the real environment: calls, events, and how many clients there may be. */
#include "tests/cli/control_world.h"
#include "tests/env/loop_step.h"

/* ---- calls */

static void test_hello(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    struct wr_rpc_message m;
    struct stat info;
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    dial(f, &p);
    call(&p, 7, "hello", NULL);
    assert_true(next(f, &p, &m));
    assert_int_equal(m.id, 7);
    assert_int_equal(wr_rpc_find(m.result, "api")->via.u64, WR_CONTROL_API);
    assert_non_null(wr_rpc_find(m.result, "version"));
    assert_memory_equal(wr_rpc_find(m.result, "peer")->via.str.ptr, "12D3KooWTest", 12);
    wr_rpc_message_clear(&m);
    hang_up(f, &p);
}

static void test_input_in_any_chunks(void **state)
{
    struct fixture *f = *state;
    struct wr_buf out;
    wr_buf_init(&out, 4096);
    for (uint32_t id = 0; id < 5; id++)
        request(&out, id, "echo", "hello", 0, NULL);
    for (size_t chunk = 1; chunk <= out.len; chunk += chunk < 8 ? 1 : 13) {
        struct peer p;
        dial(f, &p);
        for (size_t at = 0; at < out.len; at += chunk) {
            size_t len = at + chunk < out.len ? chunk : out.len - at;
            assert_int_equal(push(&p, out.data + at, len), len);
            for (int i = 0; i < 3; i++)
                (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        }
        for (uint32_t id = 0; id < 5; id++)
            expect_result(f, &p, id);
        hang_up(f, &p);
    }
    wr_buf_clear(&out);
}

static void test_other_clients_forms_of_params(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    static const struct wr_bytes forms[] = {
        WR_BYTES_STR("\x94\x00\x01\xa4"
                     "echo\x90"),
        WR_BYTES_STR("\x94\x00\x01\xa4"
                     "echo\xc0"),
        WR_BYTES_STR("\x94\x00\x01\xa4"
                     "echo\x81\xa4text\xa1x"),
        WR_BYTES_STR("\x94\x00\x01\xa4"
                     "echo\x91\x81\xa4text\xa1x"),
    };
    dial(f, &p);
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        (void)push(&p, forms[i].ptr, forms[i].len);
        expect_result(f, &p, 1);
    }
    hang_up(f, &p);
}

static void test_failures_are_sentences(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    dial(f, &p);
    call(&p, 1, "fail", NULL);
    expect_error(f, &p, 1, "WR_EBACKOFF", "try again in 5 s");
    call(&p, 2, "no.such", NULL);
    expect_error(f, &p, 2, "WR_EUNSUPPORTED", "no method no.such");
    static const char bad[] = "\x94\x00\x03\xa4"
                              "echo\x91\x81\xa6repeat\xa1x";
    (void)push(&p, bad, sizeof(bad) - 1);
    expect_error(f, &p, 3, "WR_EINVAL", "parameter repeat: should be a whole number");
    static const char late[] = "\x94\x00\x04\xa4"
                               "wait\x91\x81\xaatimeout_ms\xff";
    (void)push(&p, late, sizeof(late) - 1);
    expect_error(f, &p, 4, "WR_EINVAL", "parameter timeout_ms");
    assert_int_equal(f->waiting_count, 0);
    /* 100,000 times 100 bytes is more than a reply may have. */
    struct wr_buf out;
    wr_buf_init(&out, 4096);
    char text[101];
    memset(text, 'x', 100);
    text[100] = '\0';
    request(&out, 5, "echo", text, 100000, "repeat");
    (void)push(&p, out.data, out.len);
    wr_buf_clear(&out);
    expect_error(f, &p, 5, "WR_ELIMIT", "the reply is longer than");
    call(&p, 6, "hello", NULL);
    expect_result(f, &p, 6);
    hang_up(f, &p);
}

static void test_deferred_calls(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    struct wr_rpc_message m;
    dial(f, &p);
    for (uint32_t id = 1; id <= 3; id++)
        call(&p, id, "wait", NULL);
    turn(f);
    assert_int_equal(f->waiting_count, 3);
    struct wr_pack *note = wr_call_progress(f->waiting[2]);
    wr_pack_text(note, "text", "half way");
    wr_call_progress_send(f->waiting[2]);
    assert_true(next(f, &p, &m));
    assert_int_equal(m.type, WR_RPC_NOTIFICATION);
    assert_true(wr_bytes_equal(m.method, WR_BYTES_STR("progress")));
    assert_int_equal(wr_rpc_find(m.params, "id")->via.u64, 3);
    assert_non_null(wr_rpc_find(m.params, "text"));
    wr_rpc_message_clear(&m);
    wr_call_done(f->waiting[2]);
    expect_result(f, &p, 3);
    wr_call_fail(f->waiting[0], WR_ENOTFOUND, NULL);
    expect_error(f, &p, 1, "WR_ENOTFOUND", "not found");
    assert_int_equal(f->cancelled, 0);

    /* By the client's word. */
    struct wr_buf out;
    wr_buf_init(&out, 4096);
    request(&out, 9, "cancel", NULL, 2, "id");
    request(&out, 10, "cancel", NULL, 2, "id");
    (void)push(&p, out.data, out.len);
    wr_buf_clear(&out);
    expect_error(f, &p, 2, "WR_ECANCELLED", "cancelled");
    assert_int_equal(f->cancelled, 1);
    assert_true(next(f, &p, &m));
    assert_true(wr_rpc_find(m.result, "cancelled")->via.boolean);
    wr_rpc_message_clear(&m);
    assert_true(next(f, &p, &m));
    assert_false(wr_rpc_find(m.result, "cancelled")->via.boolean);
    wr_rpc_message_clear(&m);

    /* By going away; once each. */
    call(&p, 11, "wait", NULL);
    call(&p, 12, "wait", NULL);
    turn(f);
    hang_up(f, &p);
    assert_int_equal(f->cancelled, 3);
    assert_int_equal(wr_control_clients(f->control), 0);
}

static void test_timeout(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    struct wr_buf out;
    dial(f, &p);
    wr_buf_init(&out, 4096);
    request(&out, 0, "wait", NULL, 20, "timeout_ms");
    request(&out, 1, "wait", NULL, 30, "timeout_ms");
    (void)push(&p, out.data, out.len);
    wr_buf_clear(&out);
    turn(f);
    wr_call_done(f->waiting[0]); /* in time: its timer is gone with it */
    expect_result(f, &p, 0);
    while (!f->cancelled)
        loop_step(&f->loop);
    expect_error(f, &p, 1, "WR_ETIMEOUT", "no result within 30 ms");
    hang_up(f, &p);
    assert_int_equal(f->cancelled, 1);
}

static void test_descriptor_comes_with_its_reply(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    char text[16] = "";
    dial(f, &p);
    call(&p, 1, "pipe", NULL);
    expect_result(f, &p, 1);
    assert_true(p.fd >= 0);
    assert_int_equal(read(p.fd, text, sizeof(text)), 7);
    assert_string_equal(text, "through");
    hang_up(f, &p);
}

static void test_destroying_cancels(void **state)
{
    struct fixture *f = *state;
    struct peer p;
    dial(f, &p);
    call(&p, 1, "wait", NULL);
    turn(f);
    assert_int_equal(f->waiting_count, 1);
    wr_control_destroy(f->control);
    f->control = NULL;
    assert_int_equal(f->cancelled, 1);
    turn(f);
    pull(&p);
    assert_true(p.ended);
    hang_up(f, &p);
}

/* ---- events */

static uint64_t fire(struct fixture *f, uint64_t count)
{
    uint64_t sent = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct wr_pack *p = wr_control_event(f->control, "test");
        if (!p)
            continue;
        wr_pack_text(p, "text", "a reasonably long text in every event, to fill buffers");
        wr_control_event_send(f->control);
        sent++;
    }
    return sent;
}

static void test_slow_event_reader_loses_events_with_a_count(void **state)
{
    struct fixture *f = *state;
    struct peer slow, fast;
    struct wr_rpc_message m;
    dial(f, &slow);
    dial(f, &fast);
    assert_int_equal(fire(f, 3), 0); /* nobody listens */
    call(&slow, 1, "subscribe", NULL);
    call(&fast, 1, "subscribe", NULL);
    expect_result(f, &slow, 1);
    expect_result(f, &fast, 1);
    const uint64_t total = 20000;
    uint64_t got = 0, lost = 0, last = 0;
    for (uint64_t i = 0; i < total; i += 100) {
        assert_int_equal(fire(f, 100), 100);
        while (got < i + 100 && next(f, &fast, &m)) {
            assert_int_equal(wr_rpc_find(m.params, "seq")->via.u64, ++last);
            got++;
            wr_rpc_message_clear(&m);
        }
    }
    assert_int_equal(got, total);

    got = last = 0;
    while (next(f, &slow, &m)) {
        uint64_t seq = wr_rpc_find(m.params, "seq")->via.u64;
        const msgpack_object *count = wr_rpc_find(m.params, "count");
        assert_true(seq > last);
        last = seq;
        if (count)
            lost += count->via.u64;
        else
            got++;
        wr_rpc_message_clear(&m);
    }
    assert_true(lost > 0);
    assert_int_equal(got + lost, total);
    /* It goes on. */
    call(&slow, 2, "hello", NULL);
    expect_result(f, &slow, 2);
    call(&slow, 3, "unsubscribe", NULL);
    expect_result(f, &slow, 3);
    call(&fast, 3, "unsubscribe", NULL);
    expect_result(f, &fast, 3);
    assert_int_equal(fire(f, 1), 0);
    hang_up(f, &slow);
    hang_up(f, &fast);
}

/* ---- clients */

static void test_clients_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct peer peers[16], more;
    assert_int_equal(f->limits.of[WR_LIMIT_CLIENTS].max, 16);
    for (size_t i = 0; i < 16; i++)
        dial(f, &peers[i]);
    assert_int_equal(wr_control_clients(f->control), 16);
    dial(f, &more);
    pull(&more);
    assert_true(more.ended);
    assert_int_equal(f->limits.of[WR_LIMIT_CLIENTS].refused, 1);
    hang_up(f, &more);
    hang_up(f, &peers[3]);
    dial(f, &peers[3]);
    for (size_t i = 0; i < 16; i++) {
        call(&peers[i], 1, "hello", NULL);
        expect_result(f, &peers[i], 1);
        hang_up(f, &peers[i]);
    }
}

static void test_one_server_per_path(void **state)
{
    struct fixture *f = *state;
    struct wr_control *second = NULL;
    const struct wr_control_options options = {f->env, &f->limits, f->path, "12D3KooWOther"};
    assert_int_equal(wr_control_create(&options, &second), WR_EINUSE);
    turn(f);
    struct peer p;
    dial(f, &p);
    call(&p, 1, "hello", NULL);
    expect_result(f, &p, 1);
    hang_up(f, &p);
    assert_int_equal(wr_control_method(f->control, "echo", on_echo, f), WR_EEXIST);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_hello),
        TEST(test_input_in_any_chunks),
        TEST(test_other_clients_forms_of_params),
        TEST(test_failures_are_sentences),
        TEST(test_deferred_calls),
        TEST(test_timeout),
        TEST(test_descriptor_comes_with_its_reply),
        TEST(test_destroying_cancels),
        TEST(test_slow_event_reader_loses_events_with_a_count),
        TEST(test_clients_are_bounded),
        TEST(test_one_server_per_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
