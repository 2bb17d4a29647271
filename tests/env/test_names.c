/* The system's resolver settings change under a running node: the next question goes by the new ones. In network and
 * mount namespaces of its own, where /etc is empty and port 53 free: nothing outside is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/env/dns_server.h"
#include "tests/env/loop_step.h"
#include "transport/env_uv.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define SKIPPED  77    /* what ctest is told for "cannot run here" */
#define SETTINGS "/etc/resolv.conf"

struct question {
    struct wr_lookup *lookup;
    bool done;
    int err;
    uint8_t first[4];
};

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    struct question *q = arg;
    q->done = true;
    q->err = err;
    if (count && answers[0].len == sizeof(q->first))
        memcpy(q->first, answers[0].ptr, sizeof(q->first));
}

/* The last byte of the address that the name has now. */
static uint8_t ask(uv_loop_t *loop, struct wr_env *env)
{
    struct question q = {0};
    assert_int_equal(wr_env_lookup(env, "x.test", WR_LOOKUP_A, on_answer, &q, &q.lookup), 0);
    while (!q.done)    /* it has a time-out of its own */
        loop_step(loop);
    assert_int_equal(q.err, 0);
    return q.first[3];
}

/* Each time the file has another length: a file system's clock need not tell two writes apart. */
static void write_settings(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void changed_settings_are_read_again(void **state)
{
    (void)state;
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL), *servers = wr_env_uv_create(&loop, NULL);
    struct dns_server *of[3];
    for (uint8_t i = 0; i < 3; i++) {
        struct wr_addr at = {.ip = {4, {127, 0, 0, (uint8_t)(1 + i)}}, .port = 53};
        of[i] = dns_server_create(servers, &at);
        assert_non_null(of[i]);
        dns_server_add(of[i], "x.test", WR_LOOKUP_A, WR_BYTES(((uint8_t[]){192, 0, 2, (uint8_t)(1 + i)}), 4));
    }
    write_settings(SETTINGS, "nameserver 127.0.0.1\n");
    assert_int_equal(ask(&loop, env), 1);
    assert_int_equal(ask(&loop, env), 1);
    write_settings(SETTINGS, "# another\nnameserver 127.0.0.2\n");
    assert_int_equal(ask(&loop, env), 2);
    /* As a manager of networks does it: a new file takes the name of the old one. */
    write_settings("/etc/new", "# a third one\nnameserver 127.0.0.3\n");
    assert_int_equal(rename("/etc/new", SETTINGS), 0);
    assert_int_equal(ask(&loop, env), 3);
    /* Without the file: this machine's own server, as resolv.conf(5) has it. */
    assert_int_equal(unlink(SETTINGS), 0);
    assert_int_equal(ask(&loop, env), 1);
    for (int i = 0; i < 3; i++)
        dns_server_destroy(of[i]);
    wr_env_uv_destroy(env);
    wr_env_uv_destroy(servers);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static bool loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return rc == 0;
}

/* An empty /etc, and a network with nobody else in it. */
static bool alone(void)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0)
        return false;
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/etc", "tmpfs", 0, "size=64k") == 0 && loopback_up();
}

int main(void)
{
    if (!alone()) {
        printf("skipped: no namespaces to be had\n");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(changed_settings_are_read_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
