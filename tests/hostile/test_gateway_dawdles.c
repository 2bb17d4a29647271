/* HTTP with a gateway that lies, dawdles, sends without end or points elsewhere: each exchange is over in its time and
 * within its bound, and so is a whole UPnP task. The gateway is a thread on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/upnp.h"
#include "autonat/upnp_http.h"
#include "autonat/upnp_search.h"
#include "transport/err.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HURRY 300    /* milliseconds of patience with what never comes */

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

enum manner {
    SAYS,        /* `first`, then closes */
    HEARS,       /* the same, when it has read a whole call */
    STAYS,       /* `first`, then keeps the connection open and silent */
    FLOODS,      /* `first`, then `more` without end */
    DRIPS,       /* the same, a byte at a time */
};

struct gateway {
    int listener;
    char url[WR_UPNP_URL];
    enum manner manner;
    const char *first, *more;
    atomic_size_t sent;
    atomic_uint calls;
    pthread_t thread;
    char request[4096];    /* the last one; to be read when the gateway is down */
};

/* False: the other side has gone away. */
static bool push(struct gateway *g, int fd, const char *data, size_t len)
{
    ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
    atomic_fetch_add(&g->sent, n > 0 ? (size_t)n : 0);
    return n == (ssize_t)len;
}

/* All of a request: what it is about is a number that ends it. */
static void hear(struct gateway *g, int fd)
{
    size_t have = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    memset(g->request, 0, sizeof(g->request));
    while (!strstr(g->request, "</s:Envelope>") && have < sizeof(g->request) - 1 && poll(&p, 1, 5000) > 0) {
        ssize_t n = recv(fd, g->request + have, sizeof(g->request) - 1 - have, 0);
        if (n <= 0)
            return;
        have += (size_t)n;
    }
}

/* Until the other side hangs up, at most for as long as `milliseconds`. */
static bool hung_up(int fd, int milliseconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    char drop[4096];
    if (poll(&p, 1, milliseconds) <= 0)
        return false;
    return recv(fd, drop, sizeof(drop), MSG_DONTWAIT) <= 0;
}

static void serve_one(struct gateway *g, int fd)
{
    size_t len = strlen(g->more), at = 0;
    if (g->manner == HEARS)
        hear(g, fd);
    else
        (void)hung_up(fd, -1);    /* the request */
    if (!push(g, fd, g->first, strlen(g->first)))
        return;
    while (g->manner == FLOODS && push(g, fd, g->more, len))
        continue;
    while (g->manner == DRIPS && push(g, fd, g->more + at++ % len, 1) && !hung_up(fd, 20))
        continue;
    while (g->manner == STAYS && !hung_up(fd, -1))
        continue;
}

static void *serve(void *arg)
{
    struct gateway *g = arg;
    for (int fd; (fd = accept(g->listener, NULL, NULL)) >= 0; close(fd)) {
        atomic_fetch_add(&g->calls, 1);
        serve_one(g, fd);
    }
    return NULL;
}

static void gateway_up(struct gateway *g, enum manner manner, const char *first, const char *more)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    *g = (struct gateway){.manner = manner, .first = first, .more = more};
    g->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(g->listener >= 0);
    assert_int_equal(bind(g->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(g->listener, 8), 0);
    assert_int_equal(getsockname(g->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(g->url, sizeof(g->url), "http://127.0.0.1:%u/c", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&g->thread, NULL, serve, g), 0);
}

/* The same on the loopback of IPv6; false: this machine has none. */
static bool gateway_up6(struct gateway *g, enum manner manner, const char *first)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof(at);
    *g = (struct gateway){.manner = manner, .first = first, .more = ""};
    g->listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (g->listener < 0 || bind(g->listener, (struct sockaddr *)&at, sizeof(at)) != 0)
        return false;
    assert_int_equal(listen(g->listener, 8), 0);
    assert_int_equal(getsockname(g->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(g->url, sizeof(g->url), "http://[::1]:%u/c", ntohs(at.sin6_port));
    assert_int_equal(pthread_create(&g->thread, NULL, serve, g), 0);
    return true;
}

static void gateway_down(struct gateway *g)
{
    shutdown(g->listener, SHUT_RDWR);
    pthread_join(g->thread, NULL);
    close(g->listener);
}

static const struct row {
    const char *what;
    enum manner manner;
    const char *first, *more;
    int result;
    const char *body;
} rows[] = {
    {"by its length", STAYS, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "", 200, "hello"},
    {"more than its length", SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "", 200, "he"},
    {"until it is closed", SAYS, "HTTP/1.0 500 No\r\n\r\nhello", "", 500, "hello"},
    {"never closed", STAYS, "HTTP/1.1 200 OK\r\n\r\nhello", "", 200, "hello"},
    {"in chunks", STAYS, CHUNKED "4\r\nhell\r\n1;x\r\no\r\n0\r\n\r\n", "", 200, "hello"},
    {"a chunk larger than all", SAYS, CHUNKED "ffffffffffffffff\r\nhe", "", 200, "he"},
    {"another host is named", SAYS, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n",
     "", 302, ""},
    {"nothing", SAYS, "", "", WR_EPROTO, NULL},
    {"no head", SAYS, "hello", "", WR_EPROTO, NULL},
    {"no HTTP", SAYS, "SSH-2.0-x\r\n\r\n", "", WR_EPROTO, NULL},
    {"less than its length", SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "", 200, "hello"},
    {"an endless body", FLOODS, "HTTP/1.1 200 OK\r\n\r\n", "<device><device><device>", WR_ELIMIT, NULL},
    {"an endless head", FLOODS, "HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyyyyyyyyyyy\r\n", WR_ELIMIT, NULL},
    {"endless chunks", FLOODS, CHUNKED, "1\r\nx\r\n", WR_ELIMIT, NULL},
    {"a huge length", FLOODS, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "<device>",
     WR_ELIMIT, NULL},
    {"a dripping head", DRIPS, "HTTP/1.1 200 OK\r\n", "X: y\r\n", WR_ETIMEOUT, NULL},
    {"a dripping body", DRIPS, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", "<device>", WR_ETIMEOUT, NULL},
    {"silence", STAYS, "", "", WR_ETIMEOUT, NULL},
};

static void an_exchange_ends(void **state)
{
    static char memory[WR_UPNP_HTTP_ANSWER + 1];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const struct row *row = &rows[i];
        struct gateway g;
        struct wr_bytes body;
        bool hurry = row->result == WR_ETIMEOUT;
        gateway_up(&g, row->manner, row->first, row->more);
        int rc = wr_upnp_http_ask(g.url, NULL, i % 2 ? "urn:x#Y" : NULL, i % 2 ? "<a/>" : NULL,
                                  wr_upnp_http_clock() + (hurry ? HURRY : WR_UPNP_HTTP_TIME), memory, &body);
        if (rc != row->result)
            print_error("%s: %d\n", row->what, rc);
        assert_int_equal(rc, row->result);
        if (row->body) {
            assert_int_equal(body.len, strlen(row->body));
            assert_memory_equal(body.ptr, row->body, body.len);
        }
        gateway_down(&g);
        assert_int_equal(atomic_load(&g.calls), 1);
    }
}

static void what_is_no_url(void **state)
{
    static char memory[WR_UPNP_HTTP_ANSWER + 1];
    static const char *const bad[] = {"https://127.0.0.1/", "http://router.lan/x", "http://127.0.0.1:0/",
                                      "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://127.0.0.1@127.0.0.2/",
                                      "http://1.2.3.4.5.6.7.8.9/", "http://", "", "http://[::1]/",
                                      "http://127.0.0.1:80x/"};
    struct wr_bytes body;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(wr_upnp_http_ask(bad[i], NULL, NULL, NULL, wr_upnp_http_clock() + HURRY, memory, &body), WR_EINVAL);
}

static void what_is_no_url_of_ipv6(void **state)
{
    static char memory[WR_UPNP_HTTP_ANSWER + 1];
    static const char *const bad[] = {"http://127.0.0.1/", "http://[::1", "http://[::1%]/", "http://[::1%x]/",
                                      "http://[::1%0]/", "http://[::1%1x]/", "http://[fe80::1%99999999999]/",
                                      "http://[::1]:0/", "http://[::1]x/", "http://[1.2.3.4]/", "http://[]/", "http://["};
    static const struct wr_ip here = {6, {[15] = 1}};
    struct wr_bytes body;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(wr_upnp_http_ask(bad[i], &here, NULL, NULL, wr_upnp_http_clock() + HURRY, memory, &body),
                         WR_EINVAL);
}

#define SOAP_OK(x)  "HTTP/1.1 200 OK\r\n\r\n<a><b>" x "</b></a>"
#define SOAP_NO(x)  "HTTP/1.1 500 No\r\n\r\n<a><errorCode>" x "</errorCode></a>"

/* One port, held or not; what the firewall answers to every call, what the last one was, and what is made of it. */
static const struct pinhole_row {
    bool held, remove;
    const char *answer, *called;
    unsigned calls;
    int err;
    bool held_then;
    uint16_t number;
} pinhole_rows[] = {
    {false, false, SOAP_OK("<UniqueID>7</UniqueID>"), "#AddPinhole\"", 1, 0, true, 7},
    {false, false, SOAP_OK("<UniqueID>65535</UniqueID>"), "<InternalClient>::1</InternalClient>", 1, 0, true, 65535},
    {false, false, SOAP_OK("<UniqueID>65536</UniqueID>"), "<Protocol>17</Protocol>", 1, WR_EREFUSED, false, 0},
    {false, false, SOAP_OK("<UniqueID>-1</UniqueID>"), "<InternalPort>4001</InternalPort>", 1, WR_EREFUSED, false, 0},
    {false, false, SOAP_OK(""), "<LeaseTime>60</LeaseTime>", 1, WR_EREFUSED, false, 0},
    {false, false, SOAP_NO("606"), "#AddPinhole\"", 1, WR_EPERM, false, 0},
    {false, false, SOAP_NO("703"), "#AddPinhole\"", 1, WR_EPERM, false, 0},
    {false, false, SOAP_NO("701"), "#AddPinhole\"", 1, WR_ELIMIT, false, 0},
    {false, false, SOAP_NO("702"), "#AddPinhole\"", 1, 0, false, 0},    /* no firewall */
    {true, false, SOAP_OK(""), "<UniqueID>9</UniqueID><NewLeaseTime>60</NewLeaseTime>", 1, 0, true, 9},
    {true, false, SOAP_NO("704"), "#AddPinhole\"", 2, WR_EREFUSED, false, 9},    /* it forgot: made anew */
    {true, true, SOAP_OK(""), "#DeletePinhole\"", 1, 0, true, 9},
    {false, true, SOAP_OK(""), "", 0, 0, false, 0},    /* nothing to close */
};

static void pinholes(void **state)
{
    static const struct wr_ip here = {6, {[15] = 1}};
    (void)state;
    for (size_t i = 0; i < sizeof(pinhole_rows) / sizeof(*pinhole_rows); i++) {
        const struct pinhole_row *row = &pinhole_rows[i];
        struct gateway g;
        struct wr_upnp_task t = {.gateway = here, .source = here, .igd.known = true, .count = 1};
        t.ports[0] = (struct wr_upnp_port){.udp = true, .remove = row->remove, .internal = 4001, .outside = 4001,
                                           .lifetime = 60, .held = row->held, .pinhole = row->held ? 9 : 0};
        if (!gateway_up6(&g, HEARS, row->answer))
            skip();
        snprintf(t.igd.control, sizeof(t.igd.control), "%s", g.url);
        snprintf(t.igd.service, sizeof(t.igd.service), "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1");
        wr_upnp_run(&t);
        gateway_down(&g);
        if (t.ports[0].err != row->err || !strstr(g.request, row->called))
            print_error("row %zu: %d after\n%s\n", i, t.ports[0].err, g.request);
        assert_int_equal(t.err, 0);
        assert_int_equal(t.ports[0].err, row->err);
        assert_int_equal(t.ports[0].held, row->held_then);
        assert_int_equal(atomic_load(&g.calls), row->calls);
        assert_non_null(strstr(g.request, row->called));
        if (t.ports[0].held)
            assert_int_equal(t.ports[0].pinhole, row->number);
        assert_true(wr_ip_equal(&t.external, &here));
    }
}

/* Over IPv6 the gateway is called where we know it, whatever address of its it names, and by its number of the link. */
static void where_a_description_is(void **state)
{
    static const struct wr_ip link = {6, {0xfe, 0x80, [15] = 1}}, far = {6, {0x20, 1, [15] = 1}}, four = {4, {10, 0, 0, 1}};
    static const struct {
        const struct wr_ip *gateway;
        const char *said, *url;
    } rows6[] = {
        {&link, "http://[2001::5]:5000/d.xml", "http://[fe80::1%3]:5000/d.xml"},
        {&link, "http://[fe80::1%25eth0]/d", "http://[fe80::1%3]/d"},
        {&far, "http://[2001::5]:5000/d.xml", "http://[2001::1]:5000/d.xml"},
        {&link, "http://192.168.1.1:5000/d.xml", NULL},
        {&link, "http://[2001::5", NULL},
        {&link, "http://[2001::5]", NULL},
        {&link, "https://[2001::5]:5000/", NULL},
        {&link, "http://[2001::5]x/", NULL},
        {&four, "http://10.0.0.1:5000/d.xml", "http://10.0.0.1:5000/d.xml"},
        {&four, "http://10.0.0.11:5000/d.xml", NULL},
        {&four, "http://[fe80::1]:5000/d.xml", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows6) / sizeof(*rows6); i++) {
        char answer[400], url[WR_UPNP_URL];
        snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nST: x\r\nlocation: %s\r\n\r\n", rows6[i].said);
        assert_int_equal(wr_upnp_search_read(answer, rows6[i].gateway, 3, url), rows6[i].url != NULL);
        if (rows6[i].url)
            assert_string_equal(url, rows6[i].url);
    }
}

/* The router that is known dawdles, then it is looked for in vain. */
static void a_task_ends(void **state)
{
    (void)state;
    struct gateway g;
    static const struct wr_ip here = {4, {127, 0, 0, 1}};
    struct wr_upnp_task t = {.gateway = here, .source = here, .igd.known = true, .count = 1};
    t.ports[0] = (struct wr_upnp_port){.internal = 4001, .outside = 4001, .lifetime = 60};
    gateway_up(&g, DRIPS, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", "<device>");
    snprintf(t.igd.control, sizeof(t.igd.control), "%s", g.url);
    snprintf(t.igd.service, sizeof(t.igd.service), "urn:schemas-upnp-org:service:WANIPConnection:1");
    wr_upnp_run(&t);
    assert_int_equal(t.err, WR_ENOTFOUND);
    assert_false(t.igd.known);
    gateway_down(&g);
    assert_int_equal(atomic_load(&g.calls), 1);
    t.igd.known = true;
    gateway_up(&g, FLOODS, "HTTP/1.1 200 OK\r\n\r\n", "<device><device><device>");
    snprintf(t.igd.control, sizeof(t.igd.control), "%s", g.url);
    wr_upnp_run(&t);
    assert_int_equal(t.err, WR_ENOTFOUND);
    assert_false(t.igd.known);
    gateway_down(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exchange_ends),
        cmocka_unit_test(what_is_no_url),
        cmocka_unit_test(what_is_no_url_of_ipv6),
        cmocka_unit_test(pinholes),
        cmocka_unit_test(where_a_description_is),
        cmocka_unit_test(a_task_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
