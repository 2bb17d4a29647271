/* Ends of wr_env_socketpair: each direction ends by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/env_uv.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define TURNS 20 /* of the loop, more than any event takes */
#define LONG  (4 * 1024 * 1024)

struct end {
    uv_loop_t loop;
    struct wr_env *env;
    struct wr_sock *sock;
    int fd;
    size_t read;
    int eofs, closes, err;
};

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct end *e = arg;
    (void)data;
    assert_int_equal(e->eofs, 0);
    e->read += len;
}

static void on_drain(void *arg)
{
    (void)arg;
}

static void on_close(void *arg, int err)
{
    struct end *e = arg;
    e->closes++;
    e->err = err;
    e->sock = NULL;
}

static void on_eof(void *arg)
{
    struct end *e = arg;
    assert_int_equal(e->closes, 0);
    e->eofs++;
}

static const struct wr_sock_ops with_eof = {
    .on_read = on_read, .on_drain = on_drain, .on_close = on_close, .on_eof = on_eof};
static const struct wr_sock_ops without_eof = {
    .on_read = on_read, .on_drain = on_drain, .on_close = on_close};

static void start(struct end *e, const struct wr_sock_ops *ops)
{
    memset(e, 0, sizeof(*e));
    assert_int_equal(uv_loop_init(&e->loop), 0);
    e->env = wr_env_uv_create(&e->loop, NULL);
    assert_non_null(e->env);
    assert_int_equal(wr_env_socketpair(e->env, ops, e, &e->sock, &e->fd), 0);
    assert_int_equal(fcntl(e->fd, F_SETFL, O_NONBLOCK), 0);
}

static void turn(struct end *e)
{
    for (int i = 0; i < TURNS; i++)
        (void)uv_run(&e->loop, UV_RUN_NOWAIT);
}

static void stop(struct end *e)
{
    if (e->sock)
        wr_sock_close(e->sock, false);
    if (e->fd >= 0)
        (void)close(e->fd);
    wr_env_uv_destroy(e->env);
    (void)uv_run(&e->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&e->loop), 0);
}

static void test_other_side_finishes_first(void **state)
{
    struct end e;
    char text[16];
    (void)state;
    start(&e, &with_eof);
    assert_int_equal(write(e.fd, "last", 4), 4);
    assert_int_equal(shutdown(e.fd, SHUT_WR), 0);
    turn(&e);
    assert_int_equal(e.read, 4);
    assert_int_equal(e.eofs, 1);
    assert_int_equal(e.closes, 0);
    assert_int_equal(wr_sock_write(e.sock, (const uint8_t *)"answer", 6), 0);
    turn(&e);
    assert_int_equal(read(e.fd, text, sizeof(text)), 6);
    wr_sock_shut(e.sock);
    turn(&e);
    assert_int_equal(read(e.fd, text, sizeof(text)), 0);
    assert_int_equal(e.eofs, 1);
    assert_int_equal(e.closes, 1);
    assert_int_equal(e.err, WR_ECLOSED);
    stop(&e);
}

/* Shutting waits for what is kept; the other side still writes to us. */
static void test_we_finish_first(void **state)
{
    struct end e;
    static uint8_t bytes[LONG];
    size_t got = 0;
    (void)state;
    start(&e, &with_eof);
    assert_int_equal(wr_sock_write(e.sock, bytes, LONG), 0);
    assert_true(wr_sock_backlog(e.sock) > 0);
    wr_sock_shut(e.sock);
    for (ssize_t n = 1; n;) {
        n = read(e.fd, bytes, LONG);
        if (n > 0)
            got += (size_t)n;
        turn(&e);
    }
    assert_int_equal(got, LONG);
    assert_int_equal(e.closes, 0);
    assert_int_equal(write(e.fd, "late", 4), 4);
    turn(&e);
    assert_int_equal(e.read, 4);
    (void)close(e.fd);
    e.fd = -1;
    turn(&e);
    assert_int_equal(e.closes, 1);
    stop(&e);
}

static void test_other_side_goes_away(void **state)
{
    struct end e;
    (void)state;
    start(&e, &with_eof);
    assert_int_equal(write(e.fd, "last", 4), 4);
    (void)close(e.fd);
    e.fd = -1;
    turn(&e);
    assert_int_equal(e.read, 4);
    assert_int_equal(e.closes, 1);
    stop(&e);

    /* Paused meanwhile: told once it reads again. */
    start(&e, &with_eof);
    wr_sock_pause(e.sock, true);
    assert_int_equal(write(e.fd, "last", 4), 4);
    (void)close(e.fd);
    e.fd = -1;
    turn(&e);
    assert_int_equal(e.closes, 0);
    wr_sock_pause(e.sock, false);
    turn(&e);
    assert_int_equal(e.read, 4);
    assert_int_equal(e.closes, 1);
    stop(&e);
}

static void test_without_a_handler_an_end_closes(void **state)
{
    struct end e;
    (void)state;
    start(&e, &without_eof);
    assert_int_equal(shutdown(e.fd, SHUT_WR), 0);
    turn(&e);
    assert_int_equal(e.closes, 1);
    assert_int_equal(e.err, WR_ECLOSED);
    stop(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_side_finishes_first),
        cmocka_unit_test(test_we_finish_first),
        cmocka_unit_test(test_other_side_goes_away),
        cmocka_unit_test(test_without_a_handler_an_end_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
