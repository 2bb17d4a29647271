/* Word of changes to interfaces, in a network namespace of its own: nothing outside is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/env_uv.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define SKIPPED 77    /* what ctest is told for "cannot run here" */

struct watcher {
    struct wr_net_watch watch;
    struct wr_timer timer;
    unsigned calls;
    bool over;
};

static void on_change(struct wr_net_watch *watch)
{
    wr_list_entry(watch, struct watcher, watch)->calls++;
}

static void on_over(struct wr_timer *timer)
{
    wr_list_entry(timer, struct watcher, timer)->over = true;
}

static void set_loopback(bool up)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(request.ifr_name, "lo");
    assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void run_for(uv_loop_t *loop, struct wr_env *env, struct watcher *w, wr_time time)
{
    w->over = false;
    wr_timer_start(env, &w->timer, wr_env_now(env) + time, on_over);
    while (!w->over)
        uv_run(loop, UV_RUN_ONCE);
}

static void changes_are_told_together(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct watcher w = {.watch.on_change = on_change};
    struct wr_ifaddr all[8];
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    assert_int_equal(wr_env_ifaddrs(env, all, 8), 0);    /* nothing is up */
    wr_env_watch_net(env, &w.watch);
    run_for(&loop, env, &w, 300 * WR_MSEC);
    assert_int_equal(w.calls, 0);
    /* Each is several messages of the kernel; all within a quarter of a second is one change. */
    for (int i = 0; i < 10; i++)
        set_loopback(i % 2 == 0);
    set_loopback(true);
    run_for(&loop, env, &w, 600 * WR_MSEC);
    assert_int_equal(w.calls, 1);
    assert_int_equal(wr_env_ifaddrs(env, all, 8), 2);
    assert_true(all[0].loopback && all[1].loopback);
    set_loopback(false);
    run_for(&loop, env, &w, 600 * WR_MSEC);
    assert_int_equal(w.calls, 2);
    assert_int_equal(wr_env_ifaddrs(env, all, 8), 0);    /* the address stays on it, unusable */
    /* Nobody watches; what happened meanwhile is not news to who watches later. */
    wr_net_watch_stop(&w.watch);
    set_loopback(true);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    set_loopback(false);
    wr_env_watch_net(env, &w.watch);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_int_equal(w.calls, 2);
    set_loopback(true);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_int_equal(w.calls, 3);
    wr_net_watch_stop(&w.watch);
    wr_env_uv_destroy(env);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        printf("skipped: no network namespace to be had\n");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(changes_are_told_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
