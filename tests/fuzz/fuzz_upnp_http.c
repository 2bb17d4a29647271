/* Whatever a gateway answers to an HTTP request, in pieces whose size the first byte tells, and to a search. The source
 * is included, without its sockets. */
#include "autonat/upnp_http.c"
#include "autonat/upnp_search.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int answer(const uint8_t *data, size_t size, size_t piece, char *memory, struct wr_bytes *body)
{
    struct answer a = {.data = memory};
    memory[0] = 0;
    for (size_t at = 0; at < size && !complete(&a); at += piece) {
        size_t n = piece < size - at ? piece : size - at;
        memcpy(memory + a.len, data + at, n);
        take(&a, n);
        assert(a.head <= a.len);
    }
    if (!a.head)
        return WR_EPROTO;
    int rc = understand(&a, body);
    assert(body->len <= a.len - a.head && body->ptr[body->len] == 0);
    return rc;
}

static void search(const uint8_t *data, size_t size)
{
    static const struct wr_ip gateway = {4, {192, 168, 1, 1}}, six = {6, {0xfe, 0x80, [15] = 1}};
    char text[1501], url[WR_UPNP_URL];
    size_t len = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    memcpy(text, data, len);
    text[len] = 0;
    if (wr_upnp_search_read(text, &gateway, 0, url))
        assert(strlen(url) < WR_UPNP_URL && strncmp(url, "http://192.168.1.1", 18) == 0);
    if (wr_upnp_search_read(text, &six, 2, url))
        assert(strlen(url) < WR_UPNP_URL && strncmp(url, "http://[fe80::1%2]", 18) == 0);
    struct url parsed;
    if (parse_url(text, size % 2, &parsed))
        assert(parsed.port != 0 && parsed.ip.family == (size % 2 ? 6 : 4) && (parsed.ip.family == 6 || !parsed.zone));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_bytes whole = WR_BYTES_NONE, cut = WR_BYTES_NONE;
    if (size < 1 || size > WR_UPNP_HTTP_ANSWER)
        return 0;
    search(data + 1, size - 1);
    char *first = wr_alloc(WR_UPNP_HTTP_ANSWER + 1), *second = wr_alloc(WR_UPNP_HTTP_ANSWER + 1);
    int rc = answer(data + 1, size - 1, size, first, &whole);
    int rc_cut = answer(data + 1, size - 1, 1 + data[0] % 64u, second, &cut);
    assert((rc < 0) == (rc_cut < 0));
    wr_free(first);
    wr_free(second);
    return 0;
}
