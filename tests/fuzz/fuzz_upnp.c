/* A whole UPnP task with a gateway whose every answer is made of the input: descriptions and SOAP, as XML. The source
 * is included, with an exchange that takes the next piece of the input for its answer, its first byte for the status. */
#include "autonat/upnp_http.h"
#include "autonat/upnp_search.h"

static int fake_ask(const char *url, const struct wr_ip *source, const char *action, const char *post, int64_t until,
                    char memory[static WR_UPNP_HTTP_ANSWER + 1], struct wr_bytes *body);
static size_t fake_search(const struct wr_ip *gateway, const struct wr_ip *source, uint32_t zone,
                          char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL]);

#define wr_upnp_http_ask fake_ask
#define wr_upnp_search   fake_search
#include "autonat/upnp.c"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t left;
static const struct wr_ip gateway = {4, {192, 168, 1, 1}};
static const struct wr_ip gateway6 = {6, {0xfe, 0x80, [15] = 1}};
static const char host6[] = "http://[fe80::1%2]";

static bool at_gateway(const char *url, bool six)
{
    size_t len = strlen(host6);
    return six ? strncmp(url, host6, len) == 0 && (url[len] == ':' || url[len] == '/') : is_at(url, &gateway);
}

static int fake_ask(const char *url, const struct wr_ip *source, const char *action, const char *post, int64_t until,
                    char memory[static WR_UPNP_HTTP_ANSWER + 1], struct wr_bytes *body)
{
    static const int statuses[] = {200, 500, WR_EUNREACH, WR_EPROTO};
    const uint8_t *end = memchr(input, 0, left);
    size_t len = end ? (size_t)(end - input) : left;
    (void)until;
    assert(at_gateway(url, source != NULL) && (action != NULL) == (post != NULL));
    *body = WR_BYTES(memory, 0);
    if (len == 0)
        return WR_EUNREACH;
    int status = statuses[input[0] % 4u];
    memcpy(memory, input + 1, len - 1);
    memory[len - 1] = 0;
    *body = WR_BYTES(memory, len - 1);
    input += len + (end != NULL);
    left -= len + (end != NULL);
    return status;
}

static size_t fake_search(const struct wr_ip *at, const struct wr_ip *source, uint32_t zone,
                          char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL])
{
    static const char answer4[] = "HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1:5000/d.xml\r\n";
    static const char answer6[] = "HTTP/1.1 200 OK\r\nLocation: http://[2001:db8::1]:5000/d.xml\r\n";
    (void)source;
    return wr_upnp_search_read(at->family == 6 ? answer6 : answer4, at, zone, urls[0]);
}

/* The same of a firewall: pinholes, one that is there already, one to be closed. */
static void pinholes(const uint8_t *data, size_t size)
{
    struct wr_upnp_task t = {.gateway = gateway6, .source = {6, {0x20, 1}}, .zone = 2, .count = 3};
    t.ports[0] = (struct wr_upnp_port){.internal = 4001, .outside = 4001, .lifetime = 3600};
    t.ports[1] = (struct wr_upnp_port){.udp = true, .internal = 4001, .outside = 4001, .held = true, .pinhole = 7};
    t.ports[2] = (struct wr_upnp_port){.remove = true, .internal = 4001, .outside = 4001, .held = true, .pinhole = 8};
    input = data;
    left = size;
    wr_upnp_run(&t);
    assert(!t.igd.known || at_gateway(t.igd.control, true));
    for (size_t i = 0; i < t.count; i++)
        assert(t.ports[i].err <= 0 && t.ports[i].outside == t.ports[i].internal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_upnp_task t = {.gateway = gateway, .source = {4, {192, 168, 1, 10}}, .count = 2};
    if (size > WR_UPNP_HTTP_ANSWER)
        return 0;
    pinholes(data, size);
    t.ports[0] = (struct wr_upnp_port){.internal = 4001, .outside = 4001, .spare = 30000, .lifetime = 3600};
    t.ports[1] = (struct wr_upnp_port){.udp = true, .remove = true, .internal = 4001, .outside = 4001};
    input = data;
    left = size;
    wr_upnp_run(&t);
    assert(!t.igd.known || is_at(t.igd.control, &gateway));
    assert(t.err <= 0 && t.external.family != 6);
    for (size_t i = 0; i < t.count; i++)
        assert(t.ports[i].err <= 0);
    return 0;
}
