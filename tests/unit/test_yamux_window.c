/* yamux over a link of stated rate and delay, in virtual time: the window follows what the path holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/yamux.h"

#include <stdlib.h>
#include <string.h>

#define TICK      WR_MSEC
#define TICKS_MAX 6000
#define BUFFER    (512 * 1024)    /* bytes that a sender's socket takes */

/* One direction: what is sent in a tick arrives `delay` ticks later. */
struct link {
    struct wr_buf socket;              /* accepted, waiting for the rate */
    struct wr_buf flight[TICKS_MAX];   /* by tick of arrival */
};

struct path {
    size_t rate;       /* bytes a tick */
    unsigned delay;    /* ticks one way */
    struct wr_yamux *y[2];
    struct link link[2];
    struct wr_yamux_stream *sender;
    size_t received;
};

static void send_side(struct path *p, int side, unsigned tick)
{
    static uint8_t buf[WR_YAMUX_HEADER + WR_YAMUX_BODY_MAX], zeros[65536];
    struct link *l = &p->link[side];
    wr_time now = (tick + 1) * TICK;
    size_t n;
    while (l->socket.len < BUFFER) {
        if (side == 0)
            while (wr_yamux_write(p->sender, zeros, sizeof(zeros)) > 0)
                ;
        n = wr_yamux_output(p->y[side], buf, sizeof(buf), now);
        if (n == 0)
            break;
        wr_buf_put(&l->socket, buf, n);
    }
    n = l->socket.len < p->rate ? l->socket.len : p->rate;
    if (n && tick + p->delay < TICKS_MAX)
        wr_buf_put(&l->flight[tick + p->delay], l->socket.data, n);
    wr_buf_consume(&l->socket, n);
}

static void receive_side(struct path *p, int side, unsigned tick)
{
    struct wr_buf *arrived = &p->link[!side].flight[tick];
    struct wr_bytes in = wr_buf_bytes(arrived);
    wr_time now = (tick + 1) * TICK;
    struct wr_yamux_event e;
    int rc;
    while ((rc = wr_yamux_input(p->y[side], &in, now, &e)) == 1) {
        if (e.type == WR_YAMUX_DATA) {
            p->received += e.data.len;
            wr_yamux_consumed(e.stream, e.data.len, now);
        }
    }
    assert_int_equal(rc, 0);
    wr_buf_clear(arrived);
}

/* Runs for `ticks` and returns the share of the link's rate that the last third saw. */
static double run(size_t rate, unsigned delay, unsigned ticks, struct wr_limits *limits)
{
    static struct path p;
    int err;
    size_t before = 0;
    p = (struct path){.rate = rate, .delay = delay};
    for (int side = 0; side < 2; side++) {
        struct wr_yamux_config config = {.dialer = side == 0, .streams_max = 4, .outbound_max = 4,
                                         .limits = limits, .rtt = 2 * delay * TICK};
        p.y[side] = wr_yamux_create(&config);
        wr_yamux_ping(p.y[side], TICK);
        wr_buf_init(&p.link[side].socket, 2 * BUFFER);
        for (unsigned i = 0; i < TICKS_MAX; i++)
            wr_buf_init(&p.link[side].flight[i], 1 << 24);
    }
    p.sender = wr_yamux_open(p.y[0], NULL, &err);
    for (unsigned tick = 0; tick < ticks; tick++) {
        if (tick == ticks * 2 / 3)
            before = p.received;
        for (int side = 0; side < 2; side++) {
            receive_side(&p, side, tick);
            send_side(&p, side, tick);
        }
    }
    for (int side = 0; side < 2; side++) {
        wr_yamux_destroy(p.y[side]);
        wr_buf_clear(&p.link[side].socket);
        for (unsigned i = 0; i < TICKS_MAX; i++)
            wr_buf_clear(&p.link[side].flight[i]);
    }
    return (double)(p.received - before) / ((double)rate * (ticks - ticks * 2 / 3));
}

static void test_window_follows_the_path(void **state)
{
    (void)state;
    static const struct {
        size_t rate;       /* bytes per millisecond */
        unsigned delay;    /* ms one way */
        double share;      /* of the rate, at least */
    } paths[] = {
        {1250, 30, 0.95},     /* 10 Mbit/s, 60 ms: 75 kB on the way */
        {12500, 30, 0.95},    /* 100 Mbit/s, 60 ms: 750 kB */
        {50000, 30, 0.95},    /* 400 Mbit/s, 60 ms: 3 MB */
        {31250, 150, 0.95},   /* 250 Mbit/s, 300 ms: 9.4 MB */
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        double share = run(paths[i].rate, paths[i].delay, TICKS_MAX, NULL);
        print_message("%zu bytes/ms over %u ms: %.3f of the rate\n", paths[i].rate, 2 * paths[i].delay,
                      share);
        assert_true(share >= paths[i].share && share <= 1.0);
    }
}

/* With no budget to grow, a stream stays at what everybody starts with: a window per round trip. */
static void test_no_growth_without_budget(void **state)
{
    (void)state;
    struct wr_limits limits;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_WINDOW_EXTRA].max = 0;
    double share = run(12500, 30, TICKS_MAX, &limits);
    assert_true(share > 0.29 && share < 0.36);    /* 256 KiB per 60 ms of 750 kB */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_follows_the_path),
        cmocka_unit_test(test_no_growth_without_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
