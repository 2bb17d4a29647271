/* The simulator itself: what it does to packets, machines and time. */
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PORT 4001

/* One end of a stream. */
struct end {
    struct wr_sock *sock;
    bool open, closed, echo;
    int err;
    size_t received;
    uint64_t sum;    /* of what was received, in order */
    wr_time opened_at, closed_at, last_at;
    struct wr_env *env;
};

static void on_open(void *arg)
{
    struct end *x = arg;
    x->open = true;
    x->opened_at = wr_env_now(x->env);
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct end *x = arg;
    x->received += len;
    x->last_at = wr_env_now(x->env);
    for (size_t i = 0; i < len; i++)
        x->sum = x->sum * 31 + data[i];
    if (x->echo)
        wr_sock_write(x->sock, data, len);
}

static void on_drain(void *arg)
{
    (void)arg;
}

static void on_close(void *arg, int err)
{
    struct end *x = arg;
    x->closed = true;
    x->err = err;
    x->closed_at = wr_env_now(x->env);
}

static const struct wr_sock_ops end_ops = {.on_open = on_open, .on_read = on_read, .on_drain = on_drain,
                                          .on_close = on_close};

static void end_dial(struct end *x, struct wr_env *env, const struct wr_ip *ip, uint16_t port,
                     uint16_t from_port)
{
    struct wr_addr to = {.ip = *ip, .port = port}, from = {.ip.family = ip->family, .port = from_port};
    *x = (struct end){.env = env};
    assert_int_equal(wr_env_connect(env, &to, from_port ? &from : NULL, &end_ops, x, &x->sock), 0);
}

static void end_close(struct end *x)
{
    if (!x->closed)
        wr_sock_close(x->sock, true);
    x->closed = true;
}

/* A machine that listens and keeps what comes. */
#define ENDS_MAX 8

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_listener *listener;
    bool echo;
    size_t count;
    struct end ends[ENDS_MAX];
};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct node *n = arg;
    if (n->count == ENDS_MAX) {
        wr_sock_close(sock, true);
        return;
    }
    struct end *x = &n->ends[n->count++];
    *x = (struct end){.sock = sock, .open = true, .echo = n->echo, .env = n->env};
    wr_sock_attach(sock, &end_ops, x);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_listener_ops node_ops = {on_accept, on_starved};

static void node_listen(struct node *n)
{
    struct wr_addr any = {.ip.family = 4, .port = PORT};
    assert_int_equal(wr_env_listen(n->env, &any, &node_ops, n, &n->listener), 0);
}

static void node_start(struct node *n, struct sim_host *host)
{
    *n = (struct node){.host = host, .env = sim_host_env(host)};
    node_listen(n);
}

static void node_stop(struct node *n)
{
    wr_listener_close(n->listener);
    for (size_t i = 0; i < n->count; i++)
        end_close(&n->ends[i]);
    n->count = 0;
}

static const struct wr_ip *ip_of(const struct node *n)
{
    return sim_host_ip4(n->host);
}

struct world {
    struct sim *sim;
    struct node a, b;
};

static void world_start(struct world *w, struct sim_options o)
{
    if (!o.seed)
        o.seed = 5;
    w->sim = sim_create(&o);
    node_start(&w->a, sim_host_add(w->sim, &(struct sim_host_options){.name = "a"}));
    node_start(&w->b, sim_host_add(w->sim, &(struct sim_host_options){.name = "b"}));
}

static void world_stop(struct world *w)
{
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
}

static void write_bytes(struct end *x, size_t len)
{
    static uint8_t bytes[1 << 16];
    for (size_t part; len; len -= part) {
        part = len < sizeof(bytes) ? len : sizeof(bytes);
        assert_int_equal(wr_sock_write(x->sock, bytes, part), 0);
    }
}

/* ---- chance ------------------------------------------------------------------------------------------ */

static uint64_t lossy_run(uint64_t seed)
{
    struct world w;
    struct end x;
    uint8_t bytes[5000];
    world_start(&w, (struct sim_options){.seed = seed, .loss = 0.1, .ragged = true});
    w.b.echo = true;
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    for (int i = 0; i < 20; i++) {
        wr_env_random(w.a.env, bytes, sizeof(bytes));
        wr_sock_write(x.sock, bytes, sizeof(bytes));
        sim_run(w.sim, 50 * WR_MSEC);
    }
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(x.received, 100000);
    assert_int_equal(x.sum, w.b.ends[0].sum);
    uint64_t trace = sim_trace(w.sim);
    end_close(&x);
    world_stop(&w);
    return trace;
}

static void a_seed_replays_a_run(void **state)
{
    (void)state;
    assert_int_equal(lossy_run(1), lossy_run(1));
    assert_int_not_equal(lossy_run(1), lossy_run(2));
}

static int compare(const void *a, const void *b)
{
    const wr_time *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void round_trips_are_log_normal(void **state)
{
    (void)state;
    enum { N = 300 };
    struct sim *sim = sim_create(&(struct sim_options){.seed = 3});
    struct node center, others[N];
    wr_time rtts[N];
    node_start(&center, sim_host_add(sim, &(struct sim_host_options){0}));
    for (int i = 0; i < N; i++) {
        struct end x;
        others[i].host = sim_host_add(sim, &(struct sim_host_options){0});
        end_dial(&x, sim_host_env(others[i].host), ip_of(&center), PORT, 0);
        wr_time start = sim_now(sim);
        sim_run(sim, 5 * WR_SEC);
        assert_true(x.open);
        rtts[i] = x.opened_at - start;
        assert_int_equal(wr_sock_rtt(x.sock) / WR_USEC, rtts[i] / WR_USEC);
        end_close(&x);
        sim_run(sim, 5 * WR_SEC);
        center.count = 0;
    }
    qsort(rtts, N, sizeof(rtts[0]), compare);
    assert_in_range(rtts[N / 2], 70 * WR_MSEC, 90 * WR_MSEC);
    /* One sigma to either side: 80 ms times or through e^0.6. */
    assert_in_range(rtts[N * 16 / 100], 37 * WR_MSEC, 52 * WR_MSEC);
    assert_in_range(rtts[N * 84 / 100], 123 * WR_MSEC, 172 * WR_MSEC);
    node_stop(&center);
    sim_destroy(sim);
}

/* ---- links -------------------------------------------------------------------------------------------- */

static void bandwidth_takes_its_time(void **state)
{
    (void)state;
    struct world w;
    struct end x;
    world_start(&w, (struct sim_options){.rtt = 20 * WR_MSEC});
    sim_set_bandwidth(w.b.host, 1000000);
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    write_bytes(&x, 5000000);
    wr_time start = sim_now(w.sim);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(w.b.ends[0].received, 5000000);
    assert_in_range(w.b.ends[0].last_at - start, 5 * WR_SEC, 5 * WR_SEC + 200 * WR_MSEC);
    end_close(&x);
    world_stop(&w);
}

static void on_bulk(void *arg, const struct wr_dgram_in *in)
{
    (void)in;
    ++*(unsigned *)arg;
}

static const struct wr_dgram_ops bulk_ops = {.on_receive = on_bulk};

/* What a burst has to wait for longer than the queue is long does not arrive. */
static void a_queue_is_as_long_as_told(void **state)
{
    (void)state;
    static const uint8_t burst[50 * 1000];
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 20 * WR_MSEC});
    struct sim_host *a = sim_host_add(sim, &(struct sim_host_options){0});
    struct sim_host *b = sim_host_add(sim, &(struct sim_host_options){0});
    struct wr_dgram *from, *to;
    unsigned came = 0;
    assert_int_equal(wr_env_dgram(sim_host_env(a), &(struct wr_addr){.ip = *sim_host_ip4(a), .port = PORT}, &bulk_ops,
                                  &came, &from), 0);
    assert_int_equal(wr_env_dgram(sim_host_env(b), &(struct wr_addr){.ip = *sim_host_ip4(b), .port = PORT}, &bulk_ops,
                                  &came, &to), 0);
    struct wr_dgram_out out = {.to = {.ip = *sim_host_ip4(b), .port = PORT}, .data = burst, .len = sizeof(burst),
                               .segment = 1000};
    sim_set_bandwidth(a, 1000000);    /* one of them a millisecond */
    sim_set_queue(a, 10 * WR_MSEC);
    assert_int_equal(wr_dgram_send(from, &out), 0);
    sim_run(sim, WR_SEC);
    assert_in_range(came, 10, 12);
    sim_set_queue(a, 0);    /* the usual, in which all have room */
    assert_int_equal(wr_dgram_send(from, &out), 0);
    sim_run(sim, WR_SEC);
    assert_in_range(came, 60, 62);
    wr_dgram_close(from);
    wr_dgram_close(to);
    sim_destroy(sim);
}

struct alarm {
    struct wr_timer timer;
    struct wr_env *env;
    wr_time rang_at;
};

static void on_alarm(struct wr_timer *timer)
{
    struct alarm *x = wr_list_entry(timer, struct alarm, timer);
    x->rang_at = wr_env_now(x->env);
}

/* Timers of a machine that is late come after their time, within the bound, and not always equally late. */
static void a_late_machine_wakes_late(void **state)
{
    (void)state;
    enum { ALARMS = 50 };
    static struct alarm x[ALARMS];
    wr_time sum = 0;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){0});
    for (int late = 0; late < 2; late++) {
        wr_time start = sim_now(sim);
        sim_set_late(host, late ? 10 * WR_MSEC : 0);
        for (int i = 0; i < ALARMS; i++) {
            x[i] = (struct alarm){.env = sim_host_env(host)};
            wr_timer_start(x[i].env, &x[i].timer, start + (i + 1) * 100 * WR_MSEC, on_alarm);
        }
        sim_run(sim, 10 * WR_SEC);
        sum = 0;
        for (int i = 0; i < ALARMS; i++) {
            assert_in_range(x[i].rang_at - start, (i + 1) * 100 * WR_MSEC,
                            (i + 1) * 100 * WR_MSEC + (late ? 10 * WR_MSEC : 0));
            sum += x[i].rang_at - start - (i + 1) * 100 * WR_MSEC;
        }
        if (!late)
            assert_int_equal(sum, 0);
    }
    assert_in_range(sum / ALARMS, 3 * WR_MSEC, 7 * WR_MSEC);
    sim_destroy(sim);
}

/* A stream has a window's worth of bytes under way: that much for each round trip. */
static void a_window_each_round_trip(void **state)
{
    (void)state;
    struct world w;
    struct end x;
    world_start(&w, (struct sim_options){.rtt = 100 * WR_MSEC, .send_buffer = 100000, .chunk_max = 10000});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    write_bytes(&x, 2000000);
    wr_time start = sim_now(w.sim);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(w.b.ends[0].received, 2000000);
    assert_in_range(w.b.ends[0].last_at - start, 1900 * WR_MSEC, 2300 * WR_MSEC);
    end_close(&x);
    world_stop(&w);
}

struct counter {
    struct wr_udp *udp;
    unsigned count, late;
    uint32_t last;
};

static void on_datagram(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct counter *x = arg;
    uint32_t number;
    (void)from, (void)ifindex;
    assert_int_equal(len, sizeof(number));
    memcpy(&number, data, sizeof(number));
    x->count++;
    x->late += number < x->last;
    x->last = number > x->last ? number : x->last;
}

static const struct wr_udp_ops counter_ops = {on_datagram};

static void counter_open(struct counter *x, struct sim_host *host, uint16_t port)
{
    struct wr_addr any = {.ip.family = 4, .port = port};
    *x = (struct counter){0};
    assert_int_equal(wr_env_udp(sim_host_env(host), &any, true, &counter_ops, x, &x->udp), 0);
}

static void datagrams_are_lost_and_overtaken(void **state)
{
    (void)state;
    struct world w;
    struct counter from, to;
    world_start(&w, (struct sim_options){.loss = 0.2, .reorder = 0.1});
    counter_open(&from, w.a.host, PORT);
    counter_open(&to, w.b.host, PORT);
    struct wr_addr dest = {.ip = *ip_of(&w.b), .port = PORT};
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(wr_udp_send(from.udp, &dest, 0, WR_BYTES(&i, sizeof(i))), 0);
        sim_run(w.sim, WR_MSEC);
    }
    sim_run(w.sim, WR_SEC);
    assert_in_range(to.count, 3850, 4150);
    assert_in_range(to.late, 200, 450);
    assert_int_equal(sim_host_traffic(w.a.host)->datagrams, 5000);
    wr_udp_close(from.udp);
    wr_udp_close(to.udp);
    world_stop(&w);
}

static void multicast_stays_in_its_lan(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct counter x[4];
    struct wr_ip group = {4, {224, 0, 0, 251}};
    static const unsigned lans[] = {1, 1, 2, 0};
    for (int i = 0; i < 4; i++) {
        counter_open(&x[i], sim_host_add(sim, &(struct sim_host_options){.lan = lans[i]}), 5353);
        assert_int_equal(wr_udp_join(x[i].udp, &group, 0), 0);
    }
    struct wr_addr to = {.ip = group, .port = 5353};
    assert_int_equal(wr_udp_send(x[0].udp, &to, 0, WR_BYTES_STR("mdns")), 0);
    assert_int_equal(wr_udp_send(x[3].udp, &to, 0, WR_BYTES_STR("mdns")), 0);
    sim_run(sim, WR_SEC);
    assert_int_equal(x[0].count, 1);
    assert_int_equal(x[1].count, 1);
    assert_int_equal(x[2].count, 0);
    assert_int_equal(x[3].count, 1);    /* alone on its LAN: only itself */
    for (int i = 0; i < 4; i++)
        wr_udp_close(x[i].udp);
    sim_destroy(sim);
}

static void private_addresses_lead_nowhere_else(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct wr_ip ip1 = {4, {192, 168, 1, 1}}, ip2 = {4, {192, 168, 1, 2}}, ip3 = {4, {192, 168, 1, 3}};
    struct node one, two, far;
    struct end near_end, far_end;
    node_start(&one, sim_host_add(sim, &(struct sim_host_options){.ip4 = ip1, .lan = 1}));
    node_start(&two, sim_host_add(sim, &(struct sim_host_options){.ip4 = ip2, .lan = 1}));
    node_start(&far, sim_host_add(sim, &(struct sim_host_options){.ip4 = ip3, .lan = 2}));
    end_dial(&near_end, one.env, &ip2, PORT, 0);
    end_dial(&far_end, one.env, &ip3, PORT, 0);
    sim_run(sim, 40 * WR_SEC);
    assert_true(near_end.open);
    assert_in_range(near_end.opened_at, sim_now(sim) - 40 * WR_SEC, sim_now(sim) - 40 * WR_SEC + WR_MSEC);
    assert_int_equal(far_end.err, WR_ETIMEOUT);
    end_close(&near_end);
    node_stop(&one);
    node_stop(&two);
    node_stop(&far);
    sim_destroy(sim);
}

/* ---- faults -------------------------------------------------------------------------------------------- */

static void dial_to_nobody(void **state)
{
    (void)state;
    struct world w;
    struct end x, y;
    struct wr_ip nobody = {4, {203, 0, 114, 1}};
    world_start(&w, (struct sim_options){0});
    node_stop(&w.b);
    sim_kill(w.b.host);
    wr_time start = sim_now(w.sim);
    end_dial(&x, w.a.env, &nobody, PORT, 0);
    end_dial(&y, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(x.err, WR_ETIMEOUT);
    assert_int_equal(y.err, WR_ETIMEOUT);
    assert_int_equal(y.closed_at - start, 30 * WR_SEC);
    sim_revive(w.b.host);
    node_listen(&w.b);
    world_stop(&w);
}

static void a_dead_machine_is_silent(void **state)
{
    (void)state;
    struct world w;
    struct end x, quiet;
    world_start(&w, (struct sim_options){.stream_timeout = 60 * WR_SEC});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    end_dial(&quiet, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, WR_SEC);
    sim_kill(w.b.host);
    assert_int_equal(sim_descriptors(w.b.host), 0);
    /* What the dying node still says does not leave it. */
    write_bytes(&w.b.ends[0], 100);
    node_stop(&w.b);
    sim_run(w.sim, 30 * WR_SEC);
    assert_false(x.closed);
    wr_time start = sim_now(w.sim);
    write_bytes(&x, 10);
    sim_run(w.sim, 200 * WR_SEC);
    assert_int_equal(x.err, WR_ETIMEOUT);
    assert_int_equal(x.received, 0);
    assert_in_range(x.closed_at - start, 60 * WR_SEC, 130 * WR_SEC);
    assert_false(quiet.closed);    /* it said nothing and knows nothing */
    sim_revive(w.b.host);
    node_listen(&w.b);
    write_bytes(&quiet, 10);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(quiet.err, WR_ERESET);
    world_stop(&w);
}

/* After a restart on the same ports the old connection is in the way of nobody. */
static void a_restarted_dialer_comes_back(void **state)
{
    (void)state;
    struct world w;
    struct end x;
    world_start(&w, (struct sim_options){0});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, PORT);
    sim_run(w.sim, WR_SEC);
    assert_true(x.open && wr_sock_reused(x.sock));
    sim_kill(w.a.host);
    end_close(&x);
    node_stop(&w.a);
    sim_run(w.sim, WR_SEC);
    sim_revive(w.a.host);
    node_listen(&w.a);
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, PORT);
    sim_run(w.sim, 10 * WR_SEC);
    assert_true(x.open && wr_sock_reused(x.sock));
    assert_int_equal(w.b.ends[0].err, WR_ERESET);
    assert_int_equal(w.b.count, 2);
    end_close(&x);
    world_stop(&w);
}

static void a_partition_delays(void **state)
{
    (void)state;
    struct world w;
    struct end x, shut;
    world_start(&w, (struct sim_options){0});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, WR_SEC);
    sim_set_side(w.b.host, 1);
    write_bytes(&x, 1000);
    end_dial(&shut, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(w.b.ends[0].received, 0);
    assert_false(shut.open);
    sim_heal(w.sim);
    sim_run(w.sim, 40 * WR_SEC);
    assert_int_equal(w.b.ends[0].received, 1000);
    assert_true(shut.open);    /* by a later SYN */
    assert_false(x.closed);
    end_close(&x);
    end_close(&shut);
    world_stop(&w);
}

static unsigned fired;

static void on_timer(struct wr_timer *timer)
{
    (void)timer;
    fired++;
}

static void a_paused_machine_makes_up_for_it(void **state)
{
    (void)state;
    struct world w;
    struct end x;
    struct wr_timer timer = {0};
    struct counter from, to;
    world_start(&w, (struct sim_options){0});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    counter_open(&from, w.a.host, PORT);
    counter_open(&to, w.b.host, PORT);
    sim_run(w.sim, WR_SEC);
    fired = 0;
    wr_timer_start(w.b.env, &timer, wr_env_now(w.b.env) + WR_SEC, on_timer);
    sim_pause(w.b.host, true);
    write_bytes(&x, 1000);
    uint32_t number = 1;
    struct wr_addr dest = {.ip = *ip_of(&w.b), .port = PORT};
    wr_udp_send(from.udp, &dest, 0, WR_BYTES(&number, sizeof(number)));
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(fired, 0);
    assert_int_equal(w.b.ends[0].received, 0);
    assert_int_equal(to.count, 0);
    sim_pause(w.b.host, false);
    sim_run(w.sim, WR_MSEC);
    assert_int_equal(fired, 1);
    assert_int_equal(w.b.ends[0].received, 1000);
    assert_int_equal(to.count, 1);
    wr_udp_close(from.udp);
    wr_udp_close(to.udp);
    end_close(&x);
    world_stop(&w);
}

static void on_change(struct wr_net_watch *watch)
{
    (void)watch;
    fired++;
}

static void moving_cuts_connections(void **state)
{
    (void)state;
    struct world w;
    struct end x;
    struct wr_net_watch watch = {.on_change = on_change};
    world_start(&w, (struct sim_options){.stream_timeout = 20 * WR_SEC});
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, WR_SEC);
    wr_env_watch_net(w.a.env, &watch);
    fired = 0;
    sim_move(w.a.host, (struct wr_ip){4, {9, 9, 9, 9}}, (struct wr_ip){0}, 0);
    assert_int_equal(fired, 1);
    struct wr_ifaddr addrs[8];
    size_t count = wr_env_ifaddrs(w.a.env, addrs, 8);
    assert_int_equal(count, 3);
    assert_int_equal(addrs[2].ip.bytes[0], 9);
    write_bytes(&x, 10);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(x.err, WR_ETIMEOUT);
    assert_int_equal(w.b.ends[0].received, 0);
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, 0);
    sim_run(w.sim, WR_SEC);
    assert_true(x.open);
    end_close(&x);
    wr_net_watch_stop(&watch);
    world_stop(&w);
}

static void simultaneous_open(void **state)
{
    (void)state;
    struct world w;
    struct end x, y;
    world_start(&w, (struct sim_options){.rtt = 100 * WR_MSEC});
    wr_listener_close(w.a.listener);
    wr_listener_close(w.b.listener);
    /* The ports are free, each dials the other's: without the other's dial both would be refused. */
    end_dial(&x, w.a.env, ip_of(&w.b), PORT, PORT);
    sim_run(w.sim, 10 * WR_MSEC);
    end_dial(&y, w.b.env, ip_of(&w.a), PORT, PORT);
    sim_run(w.sim, WR_SEC);
    assert_true(x.open && y.open);
    write_bytes(&x, 5000);
    write_bytes(&y, 7000);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(x.received, 7000);
    assert_int_equal(y.received, 5000);
    end_close(&x);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(y.err, WR_ERESET);
    node_listen(&w.a);
    node_listen(&w.b);
    world_stop(&w);
}

/* ---- allocations ------------------------------------------------------------------------------------------ */

static void on_start(struct wr_timer *timer);

struct errand {
    struct wr_timer timer;
    struct world *w;
    struct end end;
    struct wr_lookup *lookup;
    bool answered;
};

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    (void)err, (void)answers, (void)count;
    ((struct errand *)arg)->answered = true;
}

static void on_start(struct wr_timer *timer)
{
    struct errand *e = wr_list_entry(timer, struct errand, timer);
    static uint8_t bytes[200000];
    struct wr_addr to = {.ip = *ip_of(&e->w->b), .port = PORT};
    e->end.env = e->w->a.env;
    e->end.closed = true;
    if (wr_env_connect(e->w->a.env, &to, NULL, &end_ops, &e->end, &e->end.sock) == 0) {
        e->end.closed = false;
        wr_sock_write(e->end.sock, bytes, sizeof(bytes));
    }
    if (wr_env_lookup(e->w->a.env, "x.test", WR_LOOKUP_A, on_answer, e, &e->lookup) != 0)
        e->answered = true;
}

static void errand_run(uint64_t fail, uint64_t *made)
{
    struct world w;
    struct errand e = {.w = &w};
    world_start(&w, (struct sim_options){0});
    w.b.echo = true;
    wr_timer_start(w.a.env, &e.timer, wr_env_now(w.a.env) + WR_MSEC, on_start);
    sim_alloc_fail(fail, fail == UINT64_MAX ? 0 : 1);
    sim_run(w.sim, 60 * WR_SEC);
    *made = sim_alloc_count();
    sim_alloc_fail(0, 0);
    assert_true(e.answered);
    if (fail == UINT64_MAX)
        assert_int_equal(e.end.received, 200000);
    end_close(&e.end);
    world_stop(&w);
}

static void each_allocation_fails_in_turn(void **state)
{
    (void)state;
    uint64_t made, ignored;
    errand_run(UINT64_MAX, &made);
    assert_in_range(made, 10, 1000);
    for (uint64_t i = 0; i < made; i++)
        errand_run(i, &ignored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_replays_a_run),
        cmocka_unit_test(round_trips_are_log_normal),
        cmocka_unit_test(bandwidth_takes_its_time),
        cmocka_unit_test(a_queue_is_as_long_as_told),
        cmocka_unit_test(a_late_machine_wakes_late),
        cmocka_unit_test(a_window_each_round_trip),
        cmocka_unit_test(datagrams_are_lost_and_overtaken),
        cmocka_unit_test(multicast_stays_in_its_lan),
        cmocka_unit_test(private_addresses_lead_nowhere_else),
        cmocka_unit_test(dial_to_nobody),
        cmocka_unit_test(a_dead_machine_is_silent),
        cmocka_unit_test(a_restarted_dialer_comes_back),
        cmocka_unit_test(a_partition_delays),
        cmocka_unit_test(a_paused_machine_makes_up_for_it),
        cmocka_unit_test(moving_cuts_connections),
        cmocka_unit_test(simultaneous_open),
        cmocka_unit_test(each_allocation_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
