/* The control socket on the real environment: calls, bounds, and clients that misbehave. Server and
 * clients share one thread: the loop is turned by hand between the clients' reads and writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/control.h"
#include "transport/env_uv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#define TURNS 20 /* of the loop, more than any answer takes */

struct fixture {
    uv_loop_t loop;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_control *control;
    char dir[32], path[64];
    struct wr_call *waiting[128]; /* deferred, in order */
    size_t waiting_count, cancelled;
};

/* ---- methods under test */

static void on_echo(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_bytes text = wr_params_bytes(params, "text");
    uint64_t repeat = wr_params_u64(params, "repeat", 1, 100000);
    (void)arg;
    if (wr_call_refuse(call, params))
        return;
    struct wr_pack *p = wr_call_result(call);
    wr_pack_array(p, "texts");
    for (uint64_t i = 0; i < repeat; i++)
        wr_pack_bin(p, NULL, text);
    wr_pack_end(p);
    wr_call_done(call);
}

static void on_wait_cancelled(void *arg)
{
    struct fixture *f = arg;
    f->cancelled++;
}

static void on_wait(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct fixture *f = arg;
    (void)params;
    assert_true(f->waiting_count < 128);
    f->waiting[f->waiting_count++] = call;
    wr_call_defer(call, on_wait_cancelled, f);
}

static void on_fail(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)arg;
    (void)params;
    wr_pack_text(wr_call_result(call), "half", "a result");
    wr_call_fail(call, WR_EBACKOFF, "try again in %d s", 5);
}

static void on_pipe(void *arg, struct wr_call *call, struct wr_params *params)
{
    int ends[2];
    (void)arg;
    (void)params;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "through", 7), 7);
    wr_pack_text(wr_call_result(call), "what", "pipe");
    wr_call_done_fd(call, ends[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* ---- fixture */

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)strcpy(f->dir, "/tmp/warren-control-XXXXXX");
    if (!mkdtemp(f->dir) || uv_loop_init(&f->loop))
        return -1;
    (void)snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
    f->env = wr_env_uv_create(&f->loop, NULL);
    if (!f->env || wr_limits_init(&f->limits, "small"))
        return -1;
    const struct wr_control_options options = {f->env, &f->limits, f->path, "12D3KooWTest"};
    if (wr_control_create(&options, &f->control))
        return -1;
    if (wr_control_method(f->control, "echo", on_echo, f) ||
        wr_control_method(f->control, "wait", on_wait, f) ||
        wr_control_method(f->control, "fail", on_fail, f) ||
        wr_control_method(f->control, "pipe", on_pipe, f))
        return -1;
    *state = f;
    return 0;
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < TURNS; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    wr_control_destroy(f->control);
    wr_env_uv_destroy(f->env);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&f->loop);
    uint64_t left = f->limits.of[WR_LIMIT_CLIENTS].used;
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return error || left ? -1 : 0;
}

/* ---- a client: blocking writes never, reads what is there */

struct peer {
    int sock, fd;
    struct wr_buf in;
    size_t used;
    struct wr_rpc_scan scan;
    bool ended;
};

static void dial(struct fixture *f, struct peer *p)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memset(p, 0, sizeof(*p));
    p->fd = -1;
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", f->path);
    p->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p->sock, (struct sockaddr *)&at, sizeof(at)), 0);
    wr_buf_init(&p->in, 64 * 1024 * 1024);
    wr_rpc_scan_init(&p->scan, WR_RPC_REPLY_MAX, WR_RPC_REPLY_ITEMS);
    turn(f);
}

static void hang_up(struct fixture *f, struct peer *p)
{
    (void)close(p->sock);
    if (p->fd >= 0)
        (void)close(p->fd);
    wr_buf_clear(&p->in);
    turn(f);
}

/* Bytes that the socket took. */
static size_t push(struct peer *p, const void *data, size_t len)
{
    ssize_t sent = send(p->sock, data, len, MSG_NOSIGNAL);
    return sent > 0 ? (size_t)sent : 0;
}

static void pull(struct peer *p)
{
    for (;;) {
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control;
        uint8_t *room = wr_buf_reserve(&p->in, 65536);
        struct iovec part = {room, 65536};
        struct msghdr h = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        assert_non_null(room);
        ssize_t got = recvmsg(p->sock, &h, MSG_CMSG_CLOEXEC);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            p->ended = true;
        if (got <= 0)
            return;
        struct cmsghdr *m = CMSG_FIRSTHDR(&h);
        if (m && m->cmsg_type == SCM_RIGHTS)
            memcpy(&p->fd, CMSG_DATA(m), sizeof(p->fd));
        wr_buf_grew(&p->in, (size_t)got);
    }
}

/* The next message, turning the loop for it as long as that brings bytes; false when none comes. */
static bool next(struct fixture *f, struct peer *p, struct wr_rpc_message *m)
{
    wr_buf_consume(&p->in, p->used);
    p->used = 0;
    for (bool more = true;;) {
        size_t before = p->in.len;
        int len = wr_rpc_scan(&p->scan, wr_buf_bytes(&p->in));
        assert_true(len >= 0);
        if (len > 0) {
            assert_int_equal(wr_rpc_decode(WR_BYTES(p->in.data, (size_t)len), m), 0);
            p->used = (size_t)len;
            return true;
        }
        if (!more)
            return false;
        turn(f);
        pull(p);
        more = p->in.len > before;
    }
}

static void request(struct wr_buf *out, uint32_t id, const char *method, const char *text,
                    uint64_t number, const char *number_name)
{
    struct wr_pack p;
    wr_pack_init(&p, out);
    wr_pack_array(&p, NULL);
    wr_pack_u64(&p, NULL, 0);
    wr_pack_u64(&p, NULL, id);
    wr_pack_text(&p, NULL, method);
    wr_pack_array(&p, NULL);
    wr_pack_map(&p, NULL);
    if (text)
        wr_pack_text(&p, "text", text);
    if (number_name)
        wr_pack_u64(&p, number_name, number);
    wr_pack_end(&p);
    wr_pack_end(&p);
    wr_pack_end(&p);
}

static void call(struct peer *p, uint32_t id, const char *method, const char *text)
{
    struct wr_buf out;
    wr_buf_init(&out, 4096);
    request(&out, id, method, text, 0, NULL);
    assert_int_equal(push(p, out.data, out.len), out.len);
    wr_buf_clear(&out);
}

static void expect_error(struct fixture *f, struct peer *p, uint32_t id, const char *code,
                         const char *says)
{
    struct wr_rpc_message m;
    assert_true(next(f, p, &m));
    assert_int_equal(m.type, WR_RPC_RESPONSE);
    assert_int_equal(m.id, id);
    assert_non_null(m.error);
    const msgpack_object *o = wr_rpc_find(m.error, "code");
    assert_true(wr_bytes_equal(WR_BYTES(o->via.str.ptr, o->via.str.size), wr_bytes_cstr(code)));
    o = wr_rpc_find(m.error, "text");
    if (!memmem(o->via.str.ptr, o->via.str.size, says, strlen(says)))
        fail_msg("\"%.*s\" lacks \"%s\"", (int)o->via.str.size, o->via.str.ptr, says);
    wr_rpc_message_clear(&m);
}

static void expect_result(struct fixture *f, struct peer *p, uint32_t id)
{
    struct wr_rpc_message m;
    assert_true(next(f, p, &m));
    assert_int_equal(m.type, WR_RPC_RESPONSE);
    assert_int_equal(m.id, id);
    assert_null(m.error);
    assert_int_equal(m.result->type, MSGPACK_OBJECT_MAP);
    wr_rpc_message_clear(&m);
}

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
        (void)uv_run(&f->loop, UV_RUN_ONCE);
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

/* ---- what strangers' programs send */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        TEST(test_malformed_input_closes),
        TEST(test_longest_request),
        TEST(test_calls_under_way_are_bounded),
        TEST(test_client_that_does_not_read),
        TEST(test_burst_of_requests_for_long_replies),
        TEST(test_burst_leaves_others_their_turn),
        TEST(test_client_that_lets_replies_pile_up),
        TEST(test_slow_event_reader_loses_events_with_a_count),
        TEST(test_clients_are_bounded),
        TEST(test_one_server_per_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
