/* Word of changes to interfaces, in a network namespace of its own: nothing outside is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/env_uv.h"
#include "tests/env/loop_step.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define WAITS   150    /* of 200 ms, for news that a busy machine brings late */
#define SKIPPED 77    /* what ctest is told for "cannot run here" */

/* ---- the clock, also libuv's: may be put ahead, as after a time in which the process did not run ---- */

static int64_t ahead, slept;    /* seconds that every clock is ahead; the one that counts sleep besides */

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (syscall(SYS_clock_gettime, clock, t) != 0)
        return -1;
    t->tv_sec += ahead + (clock == CLOCK_BOOTTIME ? slept : 0);
    return 0;
}

/* ---- a network ------------------------------------------------------------------------------------- */

static void ip(const char *command)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "ip %s", command);
    if (system(line) != 0)
        fail_msg("%s", line);
}

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
        loop_step(loop);
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

static void default_routes_are_listed(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct wr_gateway of[WR_GATEWAYS_MAX];
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    assert_int_equal(wr_env_gateways(env, of, WR_GATEWAYS_MAX), 0);
    ip("link add name wan type veth peer name far");
    ip("link set dev far up");
    ip("link set dev wan up");
    ip("address add 10.3.0.2/24 dev wan");
    ip("address add 3ffe:b17::2/64 dev wan nodad");
    ip("route add default via 10.3.0.3 metric 500");
    ip("route add default via 10.3.0.1 metric 100");
    ip("route add 172.16.0.0/12 via 10.3.0.9");
    ip("route add default via 10.3.0.8 table 77");
    ip("-6 route add default via fe80::1 dev wan metric 1000");
    ip("route add default dev far metric 900");
    ip("route add default metric 950 nexthop via 10.3.0.5 nexthop via 10.3.0.6");
    assert_int_equal(wr_env_gateways(env, of, WR_GATEWAYS_MAX), 5);
    const struct {
        uint8_t family, last;
        uint32_t metric;
        const char *name;
    } want[] = {{4, 1, 100, "wan"}, {4, 3, 500, "wan"}, {4, 0, 900, "far"}, {4, 5, 950, "wan"},
                {6, 1, 1000, "wan"}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(of[i].family, want[i].family);
        assert_int_equal(of[i].metric, want[i].metric);
        assert_int_equal(of[i].index, if_nametoindex(want[i].name));
        assert_int_equal(of[i].ip.family, want[i].last ? want[i].family : 0);
        assert_int_equal(of[i].ip.bytes[want[i].family == 4 ? 3 : 15], want[i].last);
    }
    /* The best ones are kept. */
    assert_int_equal(wr_env_gateways(env, of, 2), 2);
    assert_int_equal(of[0].metric, 100);
    assert_int_equal(of[1].metric, 500);
    ip("link delete dev wan");
    assert_int_equal(wr_env_gateways(env, of, WR_GATEWAYS_MAX), 0);
    wr_env_uv_destroy(env);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static const struct wr_ifaddr *find(const struct wr_ifaddr *all, size_t count, uint8_t last, bool temporary)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].ip.family == 6 && all[i].ip.bytes[0] == 0x3f && all[i].temporary == temporary &&
            (temporary || all[i].ip.bytes[15] == last))
            return &all[i];
    return NULL;
}

/* Which addresses of IPv6 will not last, and that their end is no cut. */
static void addresses_that_do_not_last_are_marked(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct watcher w = {.watch.on_change = on_change};
    struct wr_ifaddr all[16];
    char line[160], text[WR_ADDR_TEXT];
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    ip("link add name wan type veth peer name far");
    ip("link set dev far up");
    ip("link set dev wan up");
    ip("address add 10.3.0.2/24 dev wan");
    ip("address add 3ffe:b17::2/64 dev wan nodad");
    ip("address add 3ffe:b17::3/64 dev wan nodad preferred_lft 0");
    wr_env_watch_net(env, &w.watch);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    size_t count = wr_env_ifaddrs(env, all, 16);
    const struct wr_ifaddr *lasting = find(all, count, 2, false), *going = find(all, count, 3, false);
    assert_true(lasting && !lasting->deprecated && going && going->deprecated);
    assert_null(find(all, count, 0, true));
    FILE *use = fopen("/proc/sys/net/ipv6/conf/wan/use_tempaddr", "w");
    if (use) {    /* where /proc is that of another namespace there is none */
        assert_true(fputs("2", use) >= 0 && fclose(use) == 0);
        ip("address add 3ffe:b17:1::2/64 dev wan nodad mngtmpaddr");
        count = wr_env_ifaddrs(env, all, 16);
        const struct wr_ifaddr *temporary = find(all, count, 0, true);
        assert_true(temporary && !temporary->deprecated && temporary->prefix == 64);
        run_for(&loop, env, &w, 400 * WR_MSEC);
        uint64_t cuts = wr_env_net_cuts(env);
        wr_ip_print(&temporary->ip, text);
        (void)snprintf(line, sizeof(line), "address delete %s/64 dev wan", text);
        ip(line);
        run_for(&loop, env, &w, 400 * WR_MSEC);
        assert_true(wr_env_net_cuts(env) == cuts);
    }
    uint64_t cuts = wr_env_net_cuts(env);
    ip("address delete 3ffe:b17::3/64 dev wan");
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_true(wr_env_net_cuts(env) == cuts);
    ip("address delete 3ffe:b17::2/64 dev wan");
    for (int i = 0; i < 50 && wr_env_net_cuts(env) == cuts; i++)    /* however slow the machine is */
        run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_true(wr_env_net_cuts(env) == cuts + 1);
    ip("link delete dev wan");
    wr_net_watch_stop(&w.watch);
    wr_env_uv_destroy(env);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* What happens to a machine, and whether it was cut off by it. */
static void cuts_are_told_from_news(void **state)
{
    (void)state;
    static const struct {
        const char *name, *commands[4];
        unsigned calls, cuts;
    } rows[] = {
        {"a lease renewed", {"address change 10.3.0.2/24 dev wan valid_lft 3600 preferred_lft 3600"}, 1, 0},
        {"a new lease, the same address",
         {"address delete 10.3.0.2/24 dev wan", "address add 10.3.0.2/24 dev wan",
          "route add default via 10.3.0.1"}, 1, 1},
        {"the default route gone and back",
         {"route delete default via 10.3.0.1", "route add default via 10.3.0.1"}, 1, 1},
        {"a route that is none of ours",
         {"route add 172.16.0.0/12 via 10.3.0.1", "route delete 172.16.0.0/12"}, 1, 0},
        /* one after the other: the kernel tells of the carrier when it comes to it, and then only what it is */
        {"a cable out", {"link set dev far down"}, 1, 1},
        {"and in", {"link set dev far up"}, 1, 0},
        {"a tunnel up",
         {"link add name tun type veth peer name tunfar", "link set dev tun up", "link set dev tunfar up",
          "address add 10.9.0.2/24 dev tun"}, 1, 0},
        {"a cable of no importance", {"link set dev tunfar down", "link set dev tunfar up"}, 1, 0},
        {"a tunnel down", {"link delete dev tun"}, 1, 1},
    };
    uv_loop_t loop;
    struct watcher w = {.watch.on_change = on_change};
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    ip("link add name wan type veth peer name far");
    ip("link set dev far up");
    ip("link set dev wan up");
    ip("address add 10.3.0.2/24 dev wan");
    ip("route add default via 10.3.0.1");
    run_for(&loop, env, &w, 400 * WR_MSEC);
    wr_env_watch_net(env, &w.watch);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    w.calls = 0;
    uint64_t cuts = wr_env_net_cuts(env);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        for (size_t k = 0; k < 4 && rows[i].commands[k]; k++)
            ip(rows[i].commands[k]);
        for (int waits = 0; waits < WAITS && (waits < 3 || w.calls < rows[i].calls ||
                                              wr_env_net_cuts(env) < cuts + rows[i].cuts); waits++)
            run_for(&loop, env, &w, 200 * WR_MSEC);
        if (w.calls < rows[i].calls || wr_env_net_cuts(env) != cuts + rows[i].cuts)
            fail_msg("%s: told %u times, %u cuts", rows[i].name, w.calls,
                     (unsigned)(wr_env_net_cuts(env) - cuts));
        w.calls = 0;
        cuts = wr_env_net_cuts(env);
    }
    ip("link delete dev wan");
    wr_net_watch_stop(&w.watch);
    wr_env_uv_destroy(env);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Ten minutes asleep, or stopped, in which nothing about the network changed. */
static void standing_still_is_noticed(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct watcher w = {.watch.on_change = on_change};
    uv_loop_init(&loop);
    struct wr_env *env = wr_env_uv_create(&loop, NULL);
    wr_env_watch_net(env, &w.watch);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    w.calls = 0;
    uint64_t cuts = wr_env_net_cuts(env);
    wr_timer_start(env, &w.timer, wr_env_now(env) + 10 * WR_MSEC, on_over);
    uv_run(&loop, UV_RUN_NOWAIT);
    ahead += 600;    /* the process was stopped: its clock went on */
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_int_equal(w.calls, 1);
    assert_int_equal(wr_env_net_cuts(env), cuts + 1);
    slept += 600;    /* the machine slept: only the clock that counts sleep went on */
    run_for(&loop, env, &w, 10 * WR_MSEC);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_int_equal(w.calls, 2);
    assert_int_equal(wr_env_net_cuts(env), cuts + 2);
    slept += 3;    /* too short to matter */
    run_for(&loop, env, &w, 10 * WR_MSEC);
    run_for(&loop, env, &w, 400 * WR_MSEC);
    assert_int_equal(w.calls, 2);
    assert_int_equal(wr_env_net_cuts(env), cuts + 2);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_told_together),
        cmocka_unit_test(default_routes_are_listed),
        cmocka_unit_test(addresses_that_do_not_last_are_marked),
        cmocka_unit_test(cuts_are_told_from_news),
        cmocka_unit_test(standing_still_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
