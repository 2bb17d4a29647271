/* Two yamux sessions against each other: random operations, chunks and rooms from a seed, checked against
 * a plain model of what each stream carried. At the end everything was delivered and nothing is held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/yamux.h"

#include <stdio.h>
#include <string.h>

#define STREAMS_MAX 24       /* inbound, each way */
#define HELD_MAX    64       /* streams an owner holds */
#define WIRE_MAX    400000   /* bytes on the way; sending stops above */

/* One end's view of one stream. */
struct held {
    struct wr_yamux_stream *s;    /* NULL: free */
    uint32_t id;
    size_t written, received, unread;
    bool shut, ended, reset;
};

struct end {
    struct wr_yamux *y;
    struct held held[HELD_MAX];
    struct wr_buf wire;    /* sent, not delivered yet */
    struct wr_limits limits;
    unsigned opened, taken, refused, resets, pongs;
};


struct world {
    struct end ends[2];
    size_t written[2][20000];    /* by writing end and id: what a stream carried, whoever holds it */
    uint64_t seed;
    wr_time now;
};

static uint32_t random_below(struct world *w, uint32_t below)
{
    w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((w->seed >> 33) % below);
}

static uint8_t content(uint32_t id, int writer, size_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) * 3 + id * 31 + (unsigned)writer * 101);
}

static struct held *hold(struct end *e, struct wr_yamux_stream *s)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (!e->held[i].s) {
            e->held[i] = (struct held){.s = s, .id = wr_yamux_id(s)};
            wr_yamux_set_arg(s, &e->held[i]);
            return &e->held[i];
        }
    }
    return NULL;
}

static void drop(struct held *h)
{
    wr_yamux_forget(h->s);
    h->s = NULL;
}

static void write_some(struct world *w, int side, struct held *h)
{
    static uint8_t bytes[150000];
    size_t len = random_below(w, random_below(w, 4) ? 200 : sizeof(bytes));
    for (size_t i = 0; i < len; i++)
        bytes[i] = content(h->id, side, h->written + i);
    size_t space = wr_yamux_space(h->s);
    int n = wr_yamux_write(h->s, bytes, len);
    assert_int_equal(n, len < space ? len : space);
    assert_true(wr_yamux_queued(h->s) <= WR_YAMUX_SEND_QUEUE);
    h->written += (size_t)n;
    w->written[side][h->id] += (size_t)n;
}

static void reset(struct held *h, uint32_t code)
{
    wr_yamux_reset(h->s, code);
    drop(h);
}

static void forget_if_done(struct held *h)
{
    if (h->s && (h->reset || (h->shut && h->ended)))
        drop(h);
}

/* One random thing that an owner may do. */
static void act(struct world *w, int side)
{
    struct end *e = &w->ends[side];
    struct held *h = &e->held[random_below(w, HELD_MAX)];
    int err;
    if (random_below(w, 40) == 0)
        wr_yamux_ping(e->y, w->now);
    if (!h->s) {
        struct wr_yamux_stream *s = random_below(w, 3) ? NULL : wr_yamux_open(e->y, NULL, &err);
        if (s && wr_yamux_id(s) < 19990)
            hold(e, s);
        else if (s)
            wr_yamux_reset(s, 0), wr_yamux_forget(s);
        e->opened += s != NULL;
        return;
    }
    uint32_t n;
    switch (random_below(w, 12)) {
    case 0:
        h->shut = true;
        wr_yamux_shut(h->s);
        forget_if_done(h);
        break;
    case 1:
        if (random_below(w, 10) == 0)
            reset(h, 77);
        break;
    case 2: case 3: case 4: case 5:
        n = random_below(w, 2) ? (uint32_t)h->unread : random_below(w, (uint32_t)h->unread + 1);
        wr_yamux_consumed(h->s, n, w->now);
        h->unread -= n;
        break;
    default:
        if (!h->shut)
            write_some(w, side, h);
    }
}

static void on_data(struct world *w, int side, struct held *h, struct wr_bytes data)
{
    for (size_t i = 0; i < data.len; i++) {
        if (data.ptr[i] != content(h->id, !side, h->received + i))
            fail_msg("stream %u at %zu", h->id, h->received + i);
    }
    h->received += data.len;
    h->unread += data.len;
    assert_true(h->received <= w->written[!side][h->id]);
    assert_true(h->unread <= WR_YAMUX_WINDOW_MAX);
}

static void on_event(struct world *w, int side, const struct wr_yamux_event *event)
{
    struct end *e = &w->ends[side];
    struct held *h = event->stream ? wr_yamux_arg(event->stream) : NULL;
    switch (event->type) {
    case WR_YAMUX_OPENED:
        h = hold(e, event->stream);
        if (!h) {
            wr_yamux_reset(event->stream, 1);
            wr_yamux_forget(event->stream);
        }
        e->taken += h != NULL;
        break;
    case WR_YAMUX_DATA:
        assert_non_null(h);
        assert_false(h->ended || h->reset);
        on_data(w, side, h, event->data);
        break;
    case WR_YAMUX_EOF:
        assert_false(h->ended);
        h->ended = true;
        assert_int_equal(h->received, w->written[!side][h->id]);
        forget_if_done(h);
        break;
    case WR_YAMUX_RESET:
        assert_true(event->code == 77 || event->code == 1 || event->code == WR_YAMUX_REFUSED);
        h->reset = true;
        e->resets++;
        e->refused += event->code == WR_YAMUX_REFUSED;
        drop(h);
        break;
    case WR_YAMUX_WRITABLE:
        assert_true(wr_yamux_space(event->stream) > 0);
        break;
    case WR_YAMUX_PONG:
        e->pongs++;
        break;
    case WR_YAMUX_ACKED:
        assert_non_null(h);
        break;
    case WR_YAMUX_GOAWAY:
        fail();
    }
}

/* Sends into a random room, delivers a random piece of what is on the way. */
static void carry(struct world *w, int side, bool all)
{
    static uint8_t buf[70000];
    struct end *e = &w->ends[side], *peer = &w->ends[!side];
    size_t room = all ? sizeof(buf) : WR_YAMUX_HEADER + 1 + random_below(w, random_below(w, 2) ? 50 : 69000);
    if (e->wire.len < WIRE_MAX) {
        size_t n = wr_yamux_output(e->y, buf, room, w->now);
        assert_true(n <= room);
        assert_true(n == 0 || n >= WR_YAMUX_HEADER);
        wr_buf_put(&e->wire, buf, n);
        assert_false(e->wire.full);
        for (struct wr_yamux_stream *s; (s = wr_yamux_drained(e->y)) != NULL;)
            assert_true(wr_yamux_space(s) > 0);
    }
    size_t len = random_below(w, random_below(w, 2) ? 30 : 100000);
    if (all || len > e->wire.len)
        len = e->wire.len;
    struct wr_bytes in = WR_BYTES(e->wire.data, len);
    struct wr_yamux_event event;
    int rc;
    while ((rc = wr_yamux_input(peer->y, &in, w->now, &event)) == 1)
        on_event(w, !side, &event);
    assert_int_equal(rc, 0);
    assert_int_equal(in.len, 0);
    wr_buf_consume(&e->wire, len);
}

static void consume_all(struct world *w, int side)
{
    struct end *e = &w->ends[side];
    for (size_t i = 0; i < HELD_MAX; i++) {
        struct held *h = &e->held[i];
        if (!h->s)
            continue;
        wr_yamux_consumed(h->s, h->unread, w->now);
        h->unread = 0;
    }
}

static void wind_down(struct world *w)
{
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < HELD_MAX; i++) {
            struct held *h = &w->ends[side].held[i];
            if (!h->s)
                continue;
            h->shut = true;
            wr_yamux_shut(h->s);
            forget_if_done(h);
        }
    }
    for (int turn = 0; turn < 1000; turn++) {
        for (int side = 0; side < 2; side++) {
            carry(w, side, true);
            consume_all(w, !side);
        }
        for (int side = 0; side < 2; side++) {    /* opened by the last frames */
            for (size_t i = 0; i < HELD_MAX; i++) {
                struct held *h = &w->ends[side].held[i];
                if (h->s && !h->shut) {
                    h->shut = true;
                    wr_yamux_shut(h->s);
                    forget_if_done(h);
                }
            }
        }
    }
}

static void run(uint64_t seed, unsigned steps, struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->seed = seed;
    w->now = WR_SEC;
    for (int side = 0; side < 2; side++) {
        struct end *e = &w->ends[side];
        assert_int_equal(wr_limits_init(&e->limits, "home"), 0);
        if (side == 0)
            e->limits.of[WR_LIMIT_WINDOW_EXTRA].max = WR_MIB;
        struct wr_yamux_config config = {.dialer = side == 0, .streams_max = STREAMS_MAX,
                                         .outbound_max = 40, .limits = &e->limits, .salt = (uint32_t)seed};
        e->y = wr_yamux_create(&config);
        wr_buf_init(&e->wire, 1 << 20);
    }
    for (unsigned step = 0; step < steps; step++) {
        w->now += random_below(w, 1000) * WR_USEC;
        for (int side = 0; side < 2; side++) {
            act(w, side);
            if (random_below(w, 3) == 0)
                carry(w, side, false);
        }
    }
    wind_down(w);
    for (int side = 0; side < 2; side++) {
        struct end *e = &w->ends[side];
        assert_int_equal(wr_yamux_stream_count(e->y), 0);
        assert_false(wr_yamux_wants_output(e->y));
        assert_int_equal(e->limits.of[WR_LIMIT_STREAMS].used, 0);
        assert_int_equal(e->limits.of[WR_LIMIT_MEMORY].used, 0);
        assert_int_equal(e->limits.of[WR_LIMIT_WINDOW_EXTRA].used, 0);
        assert_true(wr_yamux_rtt(e->y) > 0);
        wr_yamux_destroy(e->y);
        wr_buf_clear(&e->wire);
    }
}

static void test_random_operations(void **state)
{
    (void)state;
    static struct world w;
    unsigned refused = 0, resets = 0, taken = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        run(seed, 5000, &w);
        for (int side = 0; side < 2; side++) {
            taken += w.ends[side].taken;
            resets += w.ends[side].resets;
            refused += w.ends[side].refused;
            assert_true(w.ends[side].pongs > 5);
        }
    }
    /* the run really went through what it is meant to */
    assert_true(taken > 500 && resets > 50 && refused > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
