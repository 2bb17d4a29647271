/* Local sockets, and word of changes to the network. */
#include "tests/env/contract_end.h"

#include <stdio.h>

static const char *path_in(struct contract *c, char path[static 128])
{
    snprintf(path, 128, "%s/control.sock", contract_store(c));
    return path;
}

static void hall_open_local(struct contract *c, struct hall *hall, const char *path)
{
    hall->c = c;
    hall->echo = true;
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, hall, &hall->listener), 0);
}

static void echo_over_a_local_socket(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0}, again = {0};
    struct end client = {.c = c};
    struct wr_listener *none;
    char path[128];
    path_in(c, path);
    hall_open_local(c, &hall, path);
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, &again, &none), WR_EINUSE);
    client.inside = true;
    assert_int_equal(wr_env_connect_local(c->a, path, &end_ops, &client, &client.sock), 0);
    client.inside = false;
    UNTIL(c, client.open);
    end_send(&client, 700000);
    UNTIL(c, client.received == 700000);
    struct wr_addr none_addr;
    wr_sock_remote(client.sock, &none_addr);
    assert_int_equal(none_addr.ip.family, 0);
    assert_int_equal(wr_sock_rtt(client.sock), 0);
    end_close(&client, false);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].err, WR_ECLOSED);
    hall_close(&hall);
    /* Nobody there any more. */
    assert_int_equal(wr_env_connect_local(c->a, path, &end_ops, &client, &client.sock), WR_EREFUSED);
    hall_open_local(c, &again, path);
    hall_close(&again);
}

/* What the peer wrote before it left is read after resuming. */
static void the_peer_leaves_while_paused(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {.c = c};
    char path[128];
    hall_open_local(c, &hall, path_in(c, path));
    assert_int_equal(wr_env_connect_local(c->a, path, &end_ops, &client, &client.sock), 0);
    UNTIL(c, client.open && hall.count == 1);
    wr_sock_pause(hall.ends[0].sock, true);
    end_send(&client, 3000);
    end_close(&client, false);
    contract_run(c, 30 * WR_MSEC);
    assert_int_equal(hall.ends[0].received, 0);
    assert_false(hall.ends[0].closed);
    hall.ends[0].echo = false;
    wr_sock_pause(hall.ends[0].sock, false);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].received, 3000);
    hall_close(&hall);
}

/* Who pauses until his own bytes are taken hears of it when nobody will take them any more. */
static void the_peer_leaves_before_it_reads(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {.c = c};
    char path[128];
    hall_open_local(c, &hall, path_in(c, path));
    assert_int_equal(wr_env_connect_local(c->a, path, &end_ops, &client, &client.sock), 0);
    UNTIL(c, client.open && hall.count == 1);
    wr_sock_pause(client.sock, true);
    wr_sock_pause(hall.ends[0].sock, true);
    end_send(&hall.ends[0], 4000000);
    contract_run(c, 30 * WR_MSEC);
    assert_int_equal(hall.ends[0].drained, 0);
    end_close(&client, true);
    UNTIL(c, hall.ends[0].closed || hall.ends[0].drained);
    if (!hall.ends[0].closed)
        wr_sock_pause(hall.ends[0].sock, false);
    UNTIL(c, hall.ends[0].closed);
    hall_close(&hall);
}

struct watcher {
    struct wr_net_watch watch;
    unsigned calls;
    struct wr_net_watch *stops;
};

static void on_change(struct wr_net_watch *watch)
{
    struct watcher *w = wr_list_entry(watch, struct watcher, watch);
    w->calls++;
    if (w->stops)
        wr_net_watch_stop(w->stops);
}

static void changes_of_the_network(void **state)
{
    struct contract *c = *state;
    struct watcher one = {.watch.on_change = on_change}, two = {.watch.on_change = on_change},
                   three = {.watch.on_change = on_change};
    wr_env_watch_net(c->a, &one.watch);
    wr_env_watch_net(c->a, &two.watch);
    wr_env_watch_net(c->a, &three.watch);
    uint64_t cuts = wr_env_net_cuts(c->a);
    one.stops = &two.watch;
    three.stops = &three.watch;
    if (!contract_change_net(c)) {
        print_message("         not here: this machine's network is left alone; see env/link\n");
    } else {
        UNTIL(c, one.calls == 1);
        assert_int_equal(wr_env_net_cuts(c->a), cuts + 1);
        contract_run(c, 10 * WR_MSEC);
        contract_change_net(c);
        UNTIL(c, one.calls == 2);
        assert_int_equal(two.calls, 0);
        assert_int_equal(three.calls, 1);
    }
    wr_net_watch_stop(&one.watch);
    wr_net_watch_stop(&two.watch);
    wr_net_watch_stop(&three.watch);
    wr_net_watch_stop(&three.watch);
}

int contract_local(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(echo_over_a_local_socket),
        CONTRACT_TEST(the_peer_leaves_while_paused),
        CONTRACT_TEST(the_peer_leaves_before_it_reads),
        CONTRACT_TEST(changes_of_the_network),
    };
    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
