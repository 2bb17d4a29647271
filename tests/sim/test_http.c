/* Pages over HTTP, and clients that are slow, wordy or many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/http.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

static struct sim *sim;
static struct sim_host *server, *visitor;
static struct wr_http *http;
static unsigned made; /* pages */

static const char *page(void *arg, struct wr_bytes path, struct wr_buf *out)
{
    (void)arg;
    made++;
    if (wr_bytes_equal(path, WR_BYTES_STR("/"))) {
        wr_buf_put_cstr(out, "hello\n");
        return "text/plain";
    }
    if (wr_bytes_equal(path, WR_BYTES_STR("/long"))) {
        for (int i = 0; i < 200000; i++)
            wr_buf_put_u8(out, 'x');
        return "text/plain";
    }
    if (wr_bytes_equal(path, WR_BYTES_STR("/endless"))) {
        for (int i = 0; i < 300000; i++)
            wr_buf_put_u8(out, 'x');
        return "text/plain";
    }
    return NULL;
}

struct client {
    struct wr_list node; /* open_clients: what a failed test leaves */
    struct wr_sock *sock;
    struct wr_buf in;
    bool open, closed;
};

static struct wr_list open_clients;

static void on_open(void *arg)
{
    struct client *c = arg;
    c->open = true;
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct client *c = arg;
    wr_buf_put(&c->in, data, len);
}

static void on_drain(void *arg)
{
    (void)arg;
}

static void on_close(void *arg, int err)
{
    struct client *c = arg;
    (void)err;
    c->sock = NULL;
    c->closed = true;
}

static const struct wr_sock_ops ops = {on_open, on_read, on_drain, on_close, NULL};

static void dial(struct client *c)
{
    struct wr_addr at;
    memset(c, 0, sizeof(*c));
    wr_list_append(&open_clients, &c->node);
    wr_buf_init(&c->in, 1 << 20);
    wr_http_addr(http, &at);
    at.ip = *sim_host_ip4(server);
    assert_int_equal(wr_env_connect(sim_host_env(visitor), &at, NULL, &ops, c, &c->sock), 0);
    sim_run(sim, 200 * WR_MSEC);
    assert_true(c->open);
}

static void say(struct client *c, const char *text)
{
    assert_non_null(c->sock);
    assert_int_equal(wr_sock_write(c->sock, (const uint8_t *)text, strlen(text)), 0);
}

static void hang_up(struct client *c)
{
    if (c->sock)
        wr_sock_close(c->sock, false);
    wr_list_remove(&c->node);
    wr_buf_clear(&c->in);
    sim_run(sim, 200 * WR_MSEC);
}

static bool has(const struct client *c, const char *text)
{
    return memmem(c->in.data, c->in.len, text, strlen(text)) != NULL;
}

static int set_up(void **state)
{
    (void)state;
    sim = sim_create(&(struct sim_options){.seed = 3, .rtt = 20 * WR_MSEC});
    server = sim_host_add(sim, &(struct sim_host_options){.name = "server"});
    visitor = sim_host_add(sim, &(struct sim_host_options){.name = "visitor"});
    const struct wr_http_options options = {
        .env = sim_host_env(server), .at = {.ip = *sim_host_ip4(server)}, .page = page};
    made = 0;
    wr_list_init(&open_clients);
    return wr_http_create(&options, &http);
}

static int tear_down(void **state)
{
    (void)state;
    while (!wr_list_empty(&open_clients))
        hang_up(wr_list_entry(open_clients.next, struct client, node));
    wr_http_destroy(http);
    sim_destroy(sim);
    return 0;
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *request, *status, *body;
    } table[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello\n"},
        {"GET /?a=b HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "hello\n"},
        {"GET / HTTP/1.1\r\n\r\nand more that nobody reads", "HTTP/1.1 200 OK\r\n", "hello\n"},
        {"HEAD / HTTP/1.1\r\n\r\n", "Content-Length: 6\r\n", "\r\n\r\n"},
        {"GET /long HTTP/1.1\r\n\r\n", "Content-Length: 200000\r\n", "xxx"},
        {"GET /endless HTTP/1.1\r\n\r\n", "HTTP/1.1 503 ", ""},
        {"GET /none HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", ""},
        {"GET /../etc/passwd HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ", ""},
        {"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", "HTTP/1.1 405 ", ""},
        {"GET http://elsewhere/ HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", ""},
        {"GET /\r\n\r\n", "HTTP/1.1 400 ", ""},
        {"\r\n\r\n", "HTTP/1.1 400 ", ""},
        {"\x94\x01\x02\r\n\r\n", "HTTP/1.1 400 ", ""},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        static struct client c;
        dial(&c);
        say(&c, table[i].request);
        sim_run(sim, 5 * WR_SEC);
        assert_true(c.closed);
        if (!has(&c, table[i].status) || !has(&c, table[i].body))
            fail_msg("%s: %.*s", table[i].request, (int)c.in.len, (const char *)c.in.data);
        if (strstr(table[i].request, "HEAD"))
            assert_false(has(&c, "hello"));
        if (strstr(table[i].request, "/long"))
            assert_true(c.in.len > 200000);
        hang_up(&c);
    }
}

static void test_request_in_single_bytes(void **state)
{
    (void)state;
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static struct client c;
    dial(&c);
    for (size_t i = 0; i + 1 < sizeof(request); i++) {
        const char byte[2] = {request[i], 0};
        assert_int_equal(made, 0);
        say(&c, byte);
        sim_run(sim, 50 * WR_MSEC);
    }
    assert_true(has(&c, "hello"));
    hang_up(&c);
}

static void test_headers_without_end(void **state)
{
    (void)state;
    static struct client c;
    char line[1025];
    memset(line, 'a', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    dial(&c);
    say(&c, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 8; i++)
        say(&c, line);
    sim_run(sim, WR_SEC);
    assert_true(c.closed);
    assert_true(has(&c, "HTTP/1.1 431 "));
    assert_int_equal(made, 0);
    hang_up(&c);
}

static void test_slow_clients_are_ended(void **state)
{
    (void)state;
    static struct client mute, deaf;
    dial(&mute);
    dial(&deaf);
    wr_sock_pause(deaf.sock, true);
    say(&deaf, "GET /long HTTP/1.1\r\n\r\n");
    sim_run(sim, WR_HTTP_TIMEOUT / 2);
    assert_false(mute.closed);
    sim_run(sim, WR_HTTP_TIMEOUT);
    assert_true(mute.closed);
    assert_int_equal(mute.in.len, 0);
    assert_int_equal(sim_descriptors(server), 1);
    hang_up(&mute);
    hang_up(&deaf);
}

static void test_clients_are_bounded(void **state)
{
    (void)state;
    static struct client clients[WR_HTTP_CLIENTS_MAX], more;
    for (size_t i = 0; i < WR_HTTP_CLIENTS_MAX; i++)
        dial(&clients[i]);
    /* Who says nothing keeps nobody out: the first of them goes. */
    dial(&more);
    assert_true(clients[0].closed);
    assert_int_equal(sim_descriptors(server), 1 + WR_HTTP_CLIENTS_MAX);
    say(&more, "GET / HTTP/1.1\r\n\r\n");
    sim_run(sim, 100 * WR_MSEC);
    assert_true(has(&more, "hello"));
    hang_up(&more);
    hang_up(&clients[0]);
    dial(&clients[0]);
    for (size_t i = 0; i < WR_HTTP_CLIENTS_MAX; i++) {
        assert_false(clients[i].closed);
        say(&clients[i], "GET / HTTP/1.1\r\n\r\n");
        sim_run(sim, 100 * WR_MSEC); /* in all less than their time */
        assert_true(has(&clients[i], "hello"));
        hang_up(&clients[i]);
    }
    /* One that is open when the server goes. */
    dial(&more);
    say(&more, "GET /lo");
    sim_run(sim, 100 * WR_MSEC);
    wr_http_destroy(http);
    http = NULL;
    sim_run(sim, WR_SEC);
    assert_true(more.closed);
    hang_up(&more);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        static struct client c;
        dial(&c);
        sim_alloc_fail(skip, 1);
        say(&c, "GET /long HTTP/1.1\r\n\r\n");
        sim_run(sim, WR_SEC);
        bool reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        sim_run(sim, WR_HTTP_TIMEOUT);
        assert_true(c.closed);
        hang_up(&c);
        if (!reached)
            break;
        assert_true(skip < 1000);
    }
    assert_int_equal(sim_descriptors(server), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_requests),
        TEST(test_request_in_single_bytes),
        TEST(test_headers_without_end),
        TEST(test_slow_clients_are_ended),
        TEST(test_clients_are_bounded),
        TEST(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
