/* Requests to the status page: whole and cut into pieces they get the same answer, exactly one, and no
 * byte of memory stays. The first byte says how the rest is cut, its lowest bit that the answer is not
 * taken at once. The source is included, with sockets that only remember. */
#include "transport/env_turn.h"

#include <assert.h>
#include <stdlib.h>

static struct wr_buf said;
static unsigned closed;
static size_t backlog;

static int fake_write(struct wr_sock *s, const uint8_t *data, size_t len)
{
    (void)s;
    assert(!closed && !said.len);
    wr_buf_put(&said, data, len);
    return 0;
}

static void fake_close(struct wr_sock *s, bool reset)
{
    (void)s;
    (void)reset;
    closed++;
}

static void fake_attach(struct wr_sock *s, const struct wr_sock_ops *ops, void *arg)
{
    (void)s;
    (void)ops;
    (void)arg;
}

static size_t fake_backlog(const struct wr_sock *s)
{
    (void)s;
    return backlog;
}

#define wr_sock_write   fake_write
#define wr_sock_close   fake_close
#define wr_sock_attach  fake_attach
#define wr_sock_backlog fake_backlog
#include "node/http.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *page(void *arg, struct wr_bytes path, struct wr_buf *out)
{
    (void)arg;
    assert(path.len && path.ptr[0] == '/' && !memchr(path.ptr, '?', path.len));
    assert(!memchr(path.ptr, ' ', path.len) && !memchr(path.ptr, '\r', path.len));
    if (path.len != 1)
        return NULL;
    wr_buf_put_cstr(out, "page");
    return "text/plain";
}

/* What is answered; the caller clears it. */
static struct wr_buf ask(const uint8_t *data, size_t size, size_t chunk, bool slow)
{
    struct wr_env env;
    wr_env_turn_init(&env, NULL);
    wr_env_turn_begin(&env, WR_SEC);
    struct wr_http h = {.o = {.env = &env, .page = page}};
    uint8_t *copy = wr_memdup(data, size), sock;
    if (!copy)
        abort();
    wr_list_init(&h.clients);
    wr_buf_init(&said, 2 * WR_HTTP_PAGE_MAX);
    closed = 0;
    backlog = slow;
    on_accept(&h, (struct wr_sock *)(void *)&sock);
    struct client *c = wr_list_entry(h.clients.next, struct client, node);
    for (size_t at = 0; at < size && !closed; at += chunk)
        on_read(c, copy + at, size - at < chunk ? size - at : chunk);
    if (slow && said.len)
        on_drain(c);
    assert(closed == (said.len > 0));
    if (!closed)
        on_close(c, WR_ECLOSED);
    assert(h.client_count == 0);
    wr_env_turn_end(&env);
    wr_free(copy);
    return said;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t chunk = 1 + data[0];
    /* Beyond the bound it matters where the end of the headers comes to lie. */
    size_t most = size - 1 < WR_HTTP_REQUEST_MAX ? size - 1 : WR_HTTP_REQUEST_MAX;
    struct wr_buf whole = ask(data + 1, most, most, false), cut = ask(data + 1, most, chunk, data[0] & 1);
    assert(wr_bytes_equal(wr_buf_bytes(&whole), wr_buf_bytes(&cut)));
    assert(!whole.len || wr_bytes_starts(wr_buf_bytes(&whole), WR_BYTES_STR("HTTP/1.1 ")));
    wr_buf_clear(&whole);
    wr_buf_clear(&cut);
    whole = ask(data + 1, size - 1, chunk, data[0] & 1);
    wr_buf_clear(&whole);
    return 0;
}
