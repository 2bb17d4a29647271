#include "tests/env/contract_end.h"

#define PIECE  65536
#define PERIOD 65521    /* bytes until the sequence repeats; a prime, so no buffer's size is a multiple of it */

void contract_run(struct contract *c, wr_time time)
{
    contract_deadline(c, time);
    while (contract_step(c))
        ;
}

/* What goes over every socket, from byte `at` on: no two stretches are alike for long. *len is shortened to what
 * lies there in one piece. Copied and compared whole: byte by byte takes seconds under ThreadSanitizer. */
static const uint8_t *sequence(size_t at, size_t *len)
{
    static uint8_t bytes[PERIOD];
    if (!bytes[1])
        for (size_t i = 0; i < PERIOD; i++)
            bytes[i] = (uint8_t)(i ^ (i >> 8) * 7);
    at %= PERIOD;
    if (*len > PERIOD - at)
        *len = PERIOD - at;
    return bytes + at;
}

static void expect_sequence(const uint8_t *data, size_t len, size_t at)
{
    for (size_t part; len; data += part, at += part, len -= part) {
        part = len;
        const uint8_t *expected = sequence(at, &part);
        if (memcmp(data, expected, part) != 0)
            fail_msg("wrong bytes among the %zu from %zu on", part, at);
    }
}

static void end_fill(struct end *x)
{
    while (x->sent < x->send_total && !x->gone) {
        size_t backlog = wr_sock_backlog(x->sock);
        if (backlog >= x->backlog_max)
            return;
        size_t len = x->send_total - x->sent;
        end_send(x, len < PIECE ? len : PIECE);
    }
}

static void on_open(void *arg)
{
    struct end *x = arg;
    assert_false(x->inside || x->open || x->gone);
    x->open = true;
    end_fill(x);
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct end *x = arg;
    assert_false(x->inside || x->gone);
    assert_true(len > 0);
    x->reads++;
    if (!x->unchecked)
        expect_sequence(data, len, x->received);
    x->received += len;
    if (x->echo) {
        assert_int_equal(wr_sock_write(x->sock, data, len), 0);
    }
    memset(data, 0xdd, len);    /* ours to overwrite */
    if (x->pause_each) {
        assert_false(x->paused);
        x->paused = true;
    }
    if (x->pause_each || (x->pause_first && x->reads == 1))
        wr_sock_pause(x->sock, true);
}

static void on_drain(void *arg)
{
    struct end *x = arg;
    assert_false(x->inside || x->gone);
    assert_int_equal(wr_sock_backlog(x->sock), 0);
    x->drained++;
    end_fill(x);
}

static void on_close(void *arg, int err)
{
    struct end *x = arg;
    assert_false(x->inside || x->gone);
    x->closed = x->gone = true;
    x->err = err;
}

static void on_eof(void *arg)
{
    struct end *x = arg;
    assert_false(x->inside || x->gone || x->ended);
    x->ended = true;
}

const struct wr_sock_ops end_ops = {.on_open = on_open, .on_read = on_read, .on_drain = on_drain,
                                    .on_close = on_close};
const struct wr_sock_ops end_ops_one_by_one = {.on_open = on_open, .on_read = on_read,
                                               .on_drain = on_drain, .on_close = on_close,
                                               .on_eof = on_eof};

void end_connect(struct contract *c, struct end *x, struct wr_env *env, const struct wr_addr *to,
                 const struct wr_addr *from)
{
    x->c = c;
    x->inside = true;
    const struct wr_sock_ops *ops = x->one_by_one ? &end_ops_one_by_one : &end_ops;
    assert_int_equal(wr_env_connect(env, to, from, ops, x, &x->sock), 0);
    x->inside = false;
}

void end_attach(struct contract *c, struct end *x, struct wr_sock *sock)
{
    x->c = c;
    x->sock = sock;
    x->inside = true;
    wr_sock_attach(sock, x->one_by_one ? &end_ops_one_by_one : &end_ops, x);
    x->inside = false;
}

void end_send(struct end *x, size_t len)
{
    while (len) {
        size_t part = len;
        const uint8_t *piece = sequence(x->sent, &part);
        x->inside = true;
        assert_int_equal(wr_sock_write(x->sock, piece, part), 0);
        x->inside = false;
        x->sent += part;
        len -= part;
    }
}

void end_close(struct end *x, bool reset)
{
    assert_false(x->gone);
    x->gone = x->inside = true;
    wr_sock_close(x->sock, reset);
    x->inside = false;
}

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct hall *hall = arg;
    assert_true(hall->count < HALL_MAX);
    struct end *x = &hall->ends[hall->count++];
    *x = (struct end){.echo = hall->echo, .unchecked = hall->unchecked, .open = true,
                      .pause_first = hall->pause_first, .one_by_one = hall->one_by_one};
    end_attach(hall->c, x, sock);
}

static void on_starved(void *arg, int err)
{
    struct hall *hall = arg;
    hall->starved++;
    hall->starved_err = err;
}

const struct wr_listener_ops hall_ops = {on_accept, on_starved};

void hall_open(struct contract *c, struct hall *hall, struct wr_env *env, const struct wr_addr *at,
               bool echo)
{
    hall->c = c;
    hall->echo = echo;
    assert_int_equal(wr_env_listen(env, at, &hall_ops, hall, &hall->listener), 0);
    wr_listener_addr(hall->listener, &hall->addr);
    assert_int_not_equal(hall->addr.port, 0);
}

void hall_close(struct hall *hall)
{
    wr_listener_close(hall->listener);
    for (size_t i = 0; i < hall->count; i++)
        if (!hall->ends[i].gone)
            end_close(&hall->ends[i], true);
}
