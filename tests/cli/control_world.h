/* control_world.h - a control socket with methods of the test's on the real environment, and a client of it that
 * speaks by hand. Included by one source file of a test program. Server and clients share one thread: the loop is
 * turned by hand between the clients' reads and writes. */
#ifndef CONTROL_WORLD_H
#define CONTROL_WORLD_H

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

static inline void on_echo(void *arg, struct wr_call *call, struct wr_params *params)
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

static inline void on_wait_cancelled(void *arg)
{
    struct fixture *f = arg;
    f->cancelled++;
}

static inline void on_wait(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct fixture *f = arg;
    (void)params;
    assert_true(f->waiting_count < 128);
    f->waiting[f->waiting_count++] = call;
    wr_call_defer(call, on_wait_cancelled, f);
}

static inline void on_fail(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)arg;
    (void)params;
    wr_pack_text(wr_call_result(call), "half", "a result");
    wr_call_fail(call, WR_EBACKOFF, "try again in %d s", 5);
}

static inline void on_pipe(void *arg, struct wr_call *call, struct wr_params *params)
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

static inline int set_up(void **state)
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

static inline void turn(struct fixture *f)
{
    for (int i = 0; i < TURNS; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
}

static inline int tear_down(void **state)
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

static inline void dial(struct fixture *f, struct peer *p)
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

static inline void hang_up(struct fixture *f, struct peer *p)
{
    (void)close(p->sock);
    if (p->fd >= 0)
        (void)close(p->fd);
    wr_buf_clear(&p->in);
    turn(f);
}

/* Bytes that the socket took. */
static inline size_t push(struct peer *p, const void *data, size_t len)
{
    ssize_t sent = send(p->sock, data, len, MSG_NOSIGNAL);
    return sent > 0 ? (size_t)sent : 0;
}

static inline void pull(struct peer *p)
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
static inline bool next(struct fixture *f, struct peer *p, struct wr_rpc_message *m)
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

static inline void request(struct wr_buf *out, uint32_t id, const char *method, const char *text,
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

static inline void call(struct peer *p, uint32_t id, const char *method, const char *text)
{
    struct wr_buf out;
    wr_buf_init(&out, 4096);
    request(&out, id, method, text, 0, NULL);
    assert_int_equal(push(p, out.data, out.len), out.len);
    wr_buf_clear(&out);
}

static inline void expect_error(struct fixture *f, struct peer *p, uint32_t id, const char *code,
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

static inline void expect_result(struct fixture *f, struct peer *p, uint32_t id)
{
    struct wr_rpc_message m;
    assert_true(next(f, p, &m));
    assert_int_equal(m.type, WR_RPC_RESPONSE);
    assert_int_equal(m.id, id);
    assert_null(m.error);
    assert_int_equal(m.result->type, MSGPACK_OBJECT_MAP);
    wr_rpc_message_clear(&m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
