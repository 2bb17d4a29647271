/* Stream sockets over TCP. */
#include "tests/env/contract_end.h"

static struct wr_addr with_port(struct wr_addr addr, uint16_t port)
{
    addr.port = port;
    return addr;
}

static void echo_between(struct contract *c, struct wr_addr at_a, struct wr_addr at_b)
{
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &at_b, true);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    assert_false(client.open);
    UNTIL(c, client.open && hall.count == 1);
    end_send(&client, 1000);
    UNTIL(c, client.received == 1000);
    struct wr_addr here, there;
    wr_sock_local(client.sock, &here);
    wr_sock_remote(hall.ends[0].sock, &there);
    assert_true(wr_addr_equal(&here, &there));
    assert_true(wr_ip_equal(&here.ip, &at_a.ip));
    wr_sock_remote(client.sock, &there);
    assert_true(wr_addr_equal(&hall.addr, &there));
    assert_false(wr_sock_reused(client.sock));
    end_close(&client, false);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].err, WR_ECLOSED);
    hall_close(&hall);
}

static void echo_over_ipv4(void **state)
{
    struct contract *c = *state;
    echo_between(c, c->a_addr, c->b_addr);
}

static void echo_over_ipv6(void **state)
{
    struct contract *c = *state;
    echo_between(c, c->a_addr6, c->b_addr6);
}

/* Both families of one port are two sockets. */
static void ipv6_sockets_are_ipv6_only(void **state)
{
    struct contract *c = *state;
    struct hall six = {0}, four = {0};
    struct wr_addr any6 = {.ip.family = 6}, any4 = {.ip.family = 4};
    hall_open(c, &six, c->b, &any6, false);
    any4.port = six.addr.port;
    hall_open(c, &four, c->b, &any4, false);
    struct end client = {0};
    struct wr_addr to = with_port(c->b_addr, any4.port);
    end_connect(c, &client, c->a, &to, NULL);
    UNTIL(c, client.open && four.count == 1);
    assert_int_equal(six.count, 0);
    end_close(&client, true);
    hall_close(&six);
    hall_close(&four);
}

static void large_transfer_with_backpressure(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {.send_total = 24 << 20, .backlog_max = 512 << 10};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    struct end *server = &hall.ends[0];
    UNTIL(c, server->received > 1 << 20);
    wr_sock_pause(server->sock, true);
    size_t held = server->received;
    contract_run(c, 50 * WR_MSEC);
    assert_int_equal(server->received, held);
    /* The pipe between them is full, so the rest waits on our side. */
    assert_true(client.sent < client.send_total);
    assert_true(wr_sock_backlog(client.sock) > 0);
    wr_sock_pause(server->sock, false);
    UNTIL(c, server->received == client.send_total);
    UNTIL(c, wr_sock_backlog(client.sock) == 0);
    assert_true(client.drained > 0);
    end_close(&client, false);
    hall_close(&hall);
}

/* Reading stops at once, within the handler as well. */
static void pause_inside_the_handler(void **state)
{
    struct contract *c = *state;
    struct hall hall = {.pause_first = true};
    struct end client = {.send_total = 4 << 20, .backlog_max = 8 << 20};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, hall.count == 1 && hall.ends[0].reads == 1);
    contract_run(c, 30 * WR_MSEC);
    assert_int_equal(hall.ends[0].reads, 1);
    wr_sock_pause(hall.ends[0].sock, false);
    UNTIL(c, hall.ends[0].received == client.send_total);
    end_close(&client, false);
    hall_close(&hall);
}

/* The same when so much lies there that one read does not take it. */
static void pause_with_much_to_read(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {.send_total = 40 << 20, .backlog_max = 8 << 20};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, hall.count == 1 && hall.ends[0].received > 16 << 20);    /* buffers have grown by now */
    struct end *server = &hall.ends[0];
    server->pause_each = true;
    UNTIL(c, server->paused);
    for (int i = 0; i < 5; i++) {
        contract_run(c, 10 * WR_MSEC);
        size_t reads = server->reads;
        server->paused = false;
        wr_sock_pause(server->sock, false);
        UNTIL(c, server->paused);
        assert_int_equal(server->reads, reads + 1);
    }
    server->pause_each = false;
    wr_sock_pause(server->sock, false);
    UNTIL(c, server->received == client.send_total);
    end_close(&client, false);
    hall_close(&hall);
}

static void refused(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    hall_close(&hall);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    assert_false(client.closed);
    UNTIL(c, client.closed);
    assert_int_equal(client.err, WR_EREFUSED);
    assert_false(client.open);
}

static void a_connect_is_cancelled(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    end_close(&client, false);
    contract_run(c, 30 * WR_MSEC);
    hall_close(&hall);
}

static void written_before_open(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, true);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    end_send(&client, 500);
    assert_int_equal(wr_sock_backlog(client.sock), 500);
    UNTIL(c, client.open);
    end_send(&client, 500);
    UNTIL(c, client.received == 1000 && client.drained == 1);
    end_close(&client, false);
    hall_close(&hall);
}

/* The last bytes arrive although the sender closes right behind them, with unread bytes of its own. */
static void last_bytes_before_close(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    struct end *server = &hall.ends[0];
    wr_sock_pause(client.sock, true);
    end_send(server, 5000);
    contract_run(c, 30 * WR_MSEC);
    end_send(&client, 100000);
    end_close(&client, false);
    UNTIL(c, server->closed);
    assert_int_equal(server->received, 100000);
    assert_int_equal(server->err, WR_ECLOSED);
    hall_close(&hall);
}

static void reset(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    end_close(&client, true);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].err, WR_ERESET);
    hall_close(&hall);
}

/* Somebody who reads nothing still learns of a reset. */
static void reset_while_paused(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    wr_sock_pause(hall.ends[0].sock, true);
    end_close(&client, true);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].err, WR_ERESET);
    hall_close(&hall);
}

static void closed_while_paused(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    wr_sock_pause(hall.ends[0].sock, true);
    end_send(&client, 3000);
    end_close(&client, false);
    contract_run(c, 30 * WR_MSEC);
    assert_int_equal(hall.ends[0].received, 0);
    assert_false(hall.ends[0].closed);
    wr_sock_pause(hall.ends[0].sock, false);
    UNTIL(c, hall.ends[0].closed);
    assert_int_equal(hall.ends[0].received, 3000);
    assert_int_equal(hall.ends[0].err, WR_ECLOSED);
    hall_close(&hall);
}

static void write_after_the_peer_closed(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    wr_sock_pause(client.sock, true);
    end_send(&hall.ends[0], 2000);
    end_close(&hall.ends[0], false);
    contract_run(c, 20 * WR_MSEC);
    /* The first write draws a reset, later ones meet a dead socket; no signal, no call from inside. */
    for (int i = 0; i < 5 && !client.closed; i++) {
        end_send(&client, 100);
        contract_run(c, 5 * WR_MSEC);
    }
    if (!client.closed)
        wr_sock_pause(client.sock, false);
    UNTIL(c, client.closed);
    assert_true(client.err == WR_ECLOSED || client.err == WR_ERESET);
    hall_close(&hall);
}

/* A question, its end, the answer, its end: nothing is lost between. */
static void directions_end_one_by_one(void **state)
{
    struct contract *c = *state;
    for (int before_open = 0; before_open < 2; before_open++) {
        struct hall hall = {.one_by_one = true};
        struct end client = {.one_by_one = true};
        hall_open(c, &hall, c->b, &c->b_addr, false);
        end_connect(c, &client, c->a, &hall.addr, NULL);
        if (!before_open)
            UNTIL(c, client.open);
        end_send(&client, 300000);
        wr_sock_shut(client.sock);
        UNTIL(c, hall.count == 1 && hall.ends[0].ended);
        struct end *server = &hall.ends[0];
        assert_int_equal(server->received, 300000);
        contract_run(c, 20 * WR_MSEC);
        assert_false(server->closed || client.ended || client.closed);
        end_send(server, 3000000);
        contract_run(c, 5 * WR_MSEC);
        wr_sock_shut(server->sock);
        UNTIL(c, client.closed && server->closed);
        assert_true(client.ended);
        assert_int_equal(client.received, 3000000);
        assert_int_equal(client.err, WR_ECLOSED);
        assert_int_equal(server->err, WR_ECLOSED);
        hall_close(&hall);
    }
}

/* One that half-ended may still be closed or reset, by either. */
static void half_ended_then_reset(void **state)
{
    struct contract *c = *state;
    for (int who = 0; who < 2; who++) {
        struct hall hall = {.one_by_one = true};
        struct end client = {.one_by_one = true};
        hall_open(c, &hall, c->b, &c->b_addr, false);
        end_connect(c, &client, c->a, &hall.addr, NULL);
        UNTIL(c, client.open);
        wr_sock_shut(client.sock);
        UNTIL(c, hall.count == 1 && hall.ends[0].ended);
        end_close(who ? &hall.ends[0] : &client, true);
        struct end *other = who ? &client : &hall.ends[0];
        UNTIL(c, other->closed);
        assert_int_equal(other->err, WR_ERESET);
        hall_close(&hall);
    }
}

static void port_in_use(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0}, again = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    struct wr_listener *l;
    struct wr_addr any = {.ip.family = 4, .port = hall.addr.port};
    assert_int_equal(wr_env_listen(c->b, &hall.addr, &hall_ops, &again, &l), WR_EINUSE);
    assert_int_equal(wr_env_listen(c->b, &any, &hall_ops, &again, &l), WR_EINUSE);
    /* Also while a dial of ours leaves from it. */
    struct hall other = {0};
    struct end client = {0};
    hall_open(c, &other, c->a, &c->a_addr, false);
    end_connect(c, &client, c->b, &other.addr, &hall.addr);
    UNTIL(c, client.open);
    assert_int_equal(wr_env_listen(c->b, &hall.addr, &hall_ops, &again, &l), WR_EINUSE);
    hall_close(&hall);
    /* The port of connections that outlive their listener can be listened on again. */
    hall_open(c, &again, c->b, &hall.addr, false);
    hall_close(&again);
    end_close(&client, true);
    hall_close(&other);
}

static void foreign_address(void **state)
{
    struct contract *c = *state;
    struct wr_addr foreign = {.ip = {4, {192, 0, 2, 7}}, .port = 4001};
    struct hall hall = {0};
    struct wr_listener *l;
    assert_int_equal(wr_env_listen(c->b, &foreign, &hall_ops, &hall, &l), WR_EINVAL);
}

static void dial_from_the_listening_port(void **state)
{
    struct contract *c = *state;
    struct hall home = {0}, away = {0}, away2 = {0};
    struct wr_addr any = {.ip.family = 4};
    struct end first = {0}, second = {0}, third = {0};
    hall_open(c, &home, c->a, &any, false);
    hall_open(c, &away, c->b, &c->b_addr, false);
    hall_open(c, &away2, c->b, &c->b_addr, false);
    end_connect(c, &first, c->a, &away.addr, &home.addr);
    UNTIL(c, first.open && away.count == 1);
    assert_true(wr_sock_reused(first.sock));
    struct wr_addr seen;
    wr_sock_remote(away.ends[0].sock, &seen);
    assert_int_equal(seen.port, home.addr.port);
    assert_true(wr_ip_equal(&seen.ip, &c->a_addr.ip));
    /* To somebody else from the same port, with the listener's address spelt out. */
    struct wr_addr exact = with_port(c->a_addr, home.addr.port);
    end_connect(c, &second, c->a, &away2.addr, &exact);
    UNTIL(c, second.open);
    assert_true(wr_sock_reused(second.sock));
    /* The same four numbers are taken: it leaves from elsewhere. */
    end_connect(c, &third, c->a, &away.addr, &home.addr);
    UNTIL(c, third.open && away.count == 2);
    assert_false(wr_sock_reused(third.sock));
    wr_sock_remote(away.ends[1].sock, &seen);
    assert_int_not_equal(seen.port, home.addr.port);
    end_close(&first, true);
    end_close(&second, true);
    end_close(&third, true);
    /* And the listener still works. */
    struct end visitor = {0};
    end_connect(c, &visitor, c->b, &exact, NULL);
    UNTIL(c, visitor.open && home.count == 1);
    end_close(&visitor, true);
    hall_close(&home);
    hall_close(&away);
    hall_close(&away2);
}

/* A port of the wrong family, or of loopback for a far address, is not tried. */
static void dial_from_a_port_that_cannot_serve(void **state)
{
    struct contract *c = *state;
    struct hall home6 = {0}, away = {0};
    struct end client = {0};
    hall_open(c, &home6, c->a, &c->a_addr6, false);
    hall_open(c, &away, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &away.addr, &home6.addr);
    UNTIL(c, client.open);
    assert_false(wr_sock_reused(client.sock));
    end_close(&client, true);
    /* Not an address of ours: bind refuses, the dial goes on without. */
    struct end other = {0};
    struct wr_addr foreign = {.ip = {4, {192, 0, 2, 7}}, .port = 4001};
    end_connect(c, &other, c->a, &away.addr, &foreign);
    UNTIL(c, other.open);
    assert_false(wr_sock_reused(other.sock));
    end_close(&other, true);
    hall_close(&home6);
    hall_close(&away);
}

static void dial_ourselves_from_our_port(void **state)
{
    struct contract *c = *state;
    struct hall home = {0};
    struct end client = {0};
    hall_open(c, &home, c->a, &c->a_addr, false);
    end_connect(c, &client, c->a, &home.addr, &home.addr);
    UNTIL(c, client.closed || home.count == 1);
    /* Whatever the system makes of it, the connection is not a peer's. */
    assert_true(client.closed && client.err == WR_ESELF);
    hall_close(&home);
}

static void many_at_once(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    static struct end clients[HALL_MAX];
    memset(clients, 0, sizeof(clients));
    hall_open(c, &hall, c->b, &c->b_addr, true);
    for (size_t i = 0; i < HALL_MAX; i++) {
        end_connect(c, &clients[i], c->a, &hall.addr, NULL);
        end_send(&clients[i], 100 + i);
    }
    for (size_t i = 0; i < HALL_MAX; i++)
        UNTIL(c, clients[i].received == 100 + i);
    for (size_t i = 0; i < HALL_MAX; i++)
        end_close(&clients[i], i % 2);
    for (size_t i = 0; i < HALL_MAX; i++)
        UNTIL(c, hall.ends[i].closed);
    hall_close(&hall);
}

/* ---- close is final, from wherever it is called ---------------------------------------------------- */

struct closer {
    struct wr_sock *sock;
    struct wr_listener *listener;
    char where;    /* 'o'pen, 'r'ead, 'd'rain; of a listener: 'a'ccept, 'l'istener too */
    unsigned calls, calls_after;
    bool gone;
};

static void closer_called(struct closer *x, char where)
{
    x->calls++;
    if (x->gone)
        x->calls_after++;
    if (x->where != where || x->gone)
        return;
    x->gone = true;
    wr_sock_close(x->sock, false);
}

static void closer_open(void *arg)
{
    closer_called(arg, 'o');
}

static void closer_read(void *arg, uint8_t *data, size_t len)
{
    (void)data;
    (void)len;
    closer_called(arg, 'r');
}

static void closer_drain(void *arg)
{
    closer_called(arg, 'd');
}

static void closer_close(void *arg, int err)
{
    (void)err;
    struct closer *x = arg;
    closer_called(x, 'c');
    x->gone = true;
}

static const struct wr_sock_ops closer_ops = {.on_open = closer_open, .on_read = closer_read,
                                             .on_drain = closer_drain, .on_close = closer_close};

static void close_is_final(void **state)
{
    struct contract *c = *state;
    static const uint8_t bytes[600000];
    for (const char *where = "ord"; *where; where++) {
        struct hall hall = {0};
        struct closer x = {.where = *where};
        hall_open(c, &hall, c->b, &c->b_addr, false);
        assert_int_equal(wr_env_connect(c->a, &hall.addr, NULL, &closer_ops, &x, &x.sock), 0);
        wr_sock_write(x.sock, bytes, *where == 'd' ? sizeof(bytes) : 1);
        hall.unchecked = true;
        UNTIL(c, hall.count == 1);
        if (*where == 'r') {
            end_send(&hall.ends[0], 300000);
            end_send(&hall.ends[0], 300000);
        }
        UNTIL(c, x.gone);
        UNTIL(c, hall.ends[0].closed);
        assert_int_equal(x.calls_after, 0);
        hall_close(&hall);
    }
}

static void on_starved_never(void *arg, int err)
{
    (void)arg;
    fail_msg("starved: %s", wr_err_name(err));
}

/* Several are ready at once, and the first handler closes all. */
struct band {
    struct wr_sock *socks[8];
    size_t count;
    unsigned calls;
};

static void band_read(void *arg, uint8_t *data, size_t len)
{
    struct band *b = arg;
    (void)data;
    (void)len;
    b->calls++;
    while (b->count)
        wr_sock_close(b->socks[--b->count], false);
}

static void band_other(void *arg)
{
    ((struct band *)arg)->calls += 100;
}

static void band_close(void *arg, int err)
{
    (void)err;
    band_other(arg);
}

static const struct wr_sock_ops band_ops = {.on_open = band_other, .on_read = band_read,
                                            .on_drain = band_other, .on_close = band_close};

static void band_accept(void *arg, struct wr_sock *sock)
{
    struct band *b = arg;
    b->socks[b->count++] = sock;
    wr_sock_attach(sock, &band_ops, b);
    wr_sock_pause(sock, true);
}

static void close_all_inside_one(void **state)
{
    struct contract *c = *state;
    static const struct wr_listener_ops ops = {band_accept, on_starved_never};
    struct band band = {0};
    struct end clients[8] = {0};
    struct wr_listener *l;
    struct wr_addr to;
    assert_int_equal(wr_env_listen(c->b, &c->b_addr, &ops, &band, &l), 0);
    wr_listener_addr(l, &to);
    for (int i = 0; i < 8; i++)
        end_connect(c, &clients[i], c->a, &to, NULL);
    UNTIL(c, band.count == 8);
    for (int i = 0; i < 8; i++)
        end_send(&clients[i], 10);
    contract_run(c, 20 * WR_MSEC);
    for (int i = 0; i < 8; i++)
        wr_sock_pause(band.socks[i], false);
    for (int i = 0; i < 8; i++)
        UNTIL(c, clients[i].closed);
    assert_int_equal(band.calls, 1);
    wr_listener_close(l);
}

static void on_accept_close(void *arg, struct wr_sock *sock)
{
    struct closer *x = arg;
    x->calls++;
    wr_sock_close(sock, true);
    if (x->where == 'l')
        wr_listener_close(x->listener);
}

static void close_inside_accept(void **state)
{
    struct contract *c = *state;
    static const struct wr_listener_ops ops = {on_accept_close, on_starved_never};
    for (const char *where = "al"; *where; where++) {
        struct closer x = {.where = *where};
        struct end clients[3] = {0};
        assert_int_equal(wr_env_listen(c->b, &c->b_addr, &ops, &x, &x.listener), 0);
        struct wr_addr to;
        wr_listener_addr(x.listener, &to);
        for (int i = 0; i < 3; i++)
            end_connect(c, &clients[i], c->a, &to, NULL);
        for (int i = 0; i < 3; i++)
            UNTIL(c, clients[i].closed);
        assert_int_equal(x.calls, *where == 'l' ? 1 : 3);
        if (*where != 'l')
            wr_listener_close(x.listener);
    }
}

static void out_of_descriptors(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end clients[3] = {0};
    struct end held = {0};
    hall_open(c, &hall, c->b, &c->b_addr, true);
    end_connect(c, &held, c->a, &hall.addr, NULL);
    for (int i = 0; i < 3; i++)
        end_connect(c, &clients[i], c->a, &hall.addr, NULL);
    UNTIL(c, hall.count == 4);
    for (int i = 0; i < 3; i++)
        end_close(&clients[i], true);
    UNTIL(c, hall.ends[1].closed && hall.ends[2].closed && hall.ends[3].closed);
    memset(clients, 0, sizeof(clients));
    for (int i = 0; i < 3; i++)
        end_connect(c, &clients[i], c->a, &hall.addr, NULL);
    contract_starve(c, true);
    struct wr_sock *none;
    assert_int_equal(wr_env_connect(c->b, &hall.addr, NULL, &end_ops, &held, &none), WR_ENOFD);
    UNTIL(c, hall.starved == 1);
    assert_int_equal(hall.starved_err, WR_ENOFD);
    contract_run(c, 1200 * WR_MSEC);    /* tried again meanwhile, told once */
    assert_int_equal(hall.starved, 1);
    assert_int_equal(hall.count, 4);
    contract_starve(c, false);
    UNTIL(c, hall.count == 7);
    for (int i = 0; i < 3; i++) {
        end_send(&clients[i], 10);
        UNTIL(c, clients[i].received == 10);
        end_close(&clients[i], true);
    }
    /* A new episode is told again. */
    UNTIL(c, hall.ends[6].closed);
    struct end late = {0};
    end_connect(c, &late, c->a, &hall.addr, NULL);
    contract_starve(c, true);
    UNTIL(c, hall.starved == 2);
    /* One given back is used at once, without waiting for the next try. */
    end_close(&held, true);
    contract_poll(c);
    assert_int_equal(hall.count, 8);
    contract_starve(c, false);
    end_close(&late, true);
    hall_close(&hall);
}

int contract_stream(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(echo_over_ipv4),
        CONTRACT_TEST(echo_over_ipv6),
        CONTRACT_TEST(ipv6_sockets_are_ipv6_only),
        CONTRACT_TEST(large_transfer_with_backpressure),
        CONTRACT_TEST(pause_inside_the_handler),
        CONTRACT_TEST(pause_with_much_to_read),
        CONTRACT_TEST(refused),
        CONTRACT_TEST(a_connect_is_cancelled),
        CONTRACT_TEST(written_before_open),
        CONTRACT_TEST(last_bytes_before_close),
        CONTRACT_TEST(reset),
        CONTRACT_TEST(reset_while_paused),
        CONTRACT_TEST(closed_while_paused),
        CONTRACT_TEST(write_after_the_peer_closed),
        CONTRACT_TEST(directions_end_one_by_one),
        CONTRACT_TEST(half_ended_then_reset),
        CONTRACT_TEST(port_in_use),
        CONTRACT_TEST(foreign_address),
        CONTRACT_TEST(dial_from_the_listening_port),
        CONTRACT_TEST(dial_from_a_port_that_cannot_serve),
        CONTRACT_TEST(dial_ourselves_from_our_port),
        CONTRACT_TEST(many_at_once),
        CONTRACT_TEST(close_is_final),
        CONTRACT_TEST(close_all_inside_one),
        CONTRACT_TEST(close_inside_accept),
        CONTRACT_TEST(out_of_descriptors),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
