#include "node/http.h"

#include <string.h>

struct wr_http {
    struct wr_http_options o;
    struct wr_listener *listener;
    struct wr_list clients;
    size_t client_count;
    struct wr_task dispose;
};

struct client {
    struct wr_list node;
    struct wr_http *http;
    struct wr_sock *sock;
    struct wr_buf in;
    struct wr_timer deadline;
    bool answered;
    struct wr_task dispose;
};

static void run_client_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct client, dispose));
}

static void client_end(struct client *c)
{
    struct wr_http *h = c->http;
    if (c->sock)
        wr_sock_close(c->sock, false);
    c->sock = NULL;
    wr_timer_stop(h->o.env, &c->deadline);
    wr_buf_clear(&c->in);
    wr_list_remove(&c->node);
    h->client_count--;
    wr_env_dispose(h->o.env, &c->dispose, run_client_dispose);
}

static void on_deadline(struct wr_timer *timer)
{
    client_end(wr_list_entry(timer, struct client, deadline));
}

/* ---- answering */

/* Sends the answer and closes, at once or when the kernel has taken it. */
static void answer(struct client *c, const char *status, const char *type,
                   const struct wr_buf *body, bool head_only)
{
    struct wr_buf out;
    wr_buf_init(&out, WR_HTTP_PAGE_MAX + 1024);
    wr_buf_printf(&out,
                  "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                  "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                  "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
                  "Connection: close\r\n\r\n",
                  status, type, body->len);
    if (!head_only)
        wr_buf_put_bytes(&out, wr_buf_bytes(body));
    c->answered = true;
    bool broken = out.full || wr_sock_write(c->sock, out.data, out.len) != 0;
    wr_buf_clear(&out);
    if (broken || wr_sock_backlog(c->sock) == 0)
        client_end(c);
}

static void refuse(struct client *c, const char *status)
{
    struct wr_buf body;
    wr_buf_init(&body, 256);
    wr_buf_printf(&body, "%s\n", status);
    answer(c, status, "text/plain", &body, false);
    wr_buf_clear(&body);
}

/* Takes a word up to a blank off the line. */
static struct wr_bytes word(struct wr_bytes *line)
{
    const uint8_t *blank = line->len ? memchr(line->ptr, ' ', line->len) : NULL;
    size_t len = blank ? (size_t)(blank - line->ptr) : line->len;
    struct wr_bytes taken = wr_bytes_take(line, len);
    if (blank)
        (void)wr_bytes_take(line, 1);
    return taken;
}

static void handle(struct client *c, struct wr_bytes line)
{
    struct wr_http *h = c->http;
    struct wr_buf body;
    struct wr_bytes method = word(&line), path = word(&line);
    bool head = wr_bytes_equal(method, WR_BYTES_STR("HEAD"));
    if (!wr_bytes_starts(line, WR_BYTES_STR("HTTP/1.")) ||
        !wr_bytes_starts(path, WR_BYTES_STR("/"))) {
        refuse(c, "400 Bad Request");
        return;
    }
    if (!head && !wr_bytes_equal(method, WR_BYTES_STR("GET"))) {
        refuse(c, "405 Method Not Allowed");
        return;
    }
    const uint8_t *query = memchr(path.ptr, '?', path.len);
    if (query)
        path.len = (size_t)(query - path.ptr);
    wr_buf_init(&body, WR_HTTP_PAGE_MAX);
    const char *type = h->o.page(h->o.arg, path, &body);
    if (!type)
        refuse(c, "404 Not Found");
    else if (body.full)
        refuse(c, "503 Service Unavailable");
    else
        answer(c, "200 OK", type, &body, head);
    wr_buf_clear(&body);
}

/* ---- connections */

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct client *c = arg;
    if (c->answered)
        return; /* what follows the request is nothing to us */
    wr_buf_put(&c->in, data, len);
    if (c->in.full) {
        refuse(c, "431 Request Header Fields Too Large");
        return;
    }
    if (!memmem(c->in.data, c->in.len, "\r\n\r\n", 4))
        return;
    const uint8_t *end = memchr(c->in.data, '\r', c->in.len);
    handle(c, WR_BYTES(c->in.data, (size_t)(end - c->in.data)));
}

static void on_drain(void *arg)
{
    struct client *c = arg;
    if (c->answered)
        client_end(c);
}

static void on_close(void *arg, int err)
{
    struct client *c = arg;
    (void)err;
    c->sock = NULL;
    client_end(c);
}

/* Whoever has not asked yet, else who takes his answer slowly: a request is answered in the turn that brings it, so that
 * nobody is kept out by connections that say nothing. */
static void make_room(struct wr_http *h)
{
    struct client *longest = wr_list_entry(h->clients.next, struct client, node);
    wr_list_each(node, &h->clients)
    {
        struct client *c = wr_list_entry(node, struct client, node);
        if (longest->answered && !c->answered)
            longest = c;
    }
    client_end(longest);
}

static void on_accept(void *arg, struct wr_sock *sock)
{
    static const struct wr_sock_ops ops = {
        .on_read = on_read, .on_drain = on_drain, .on_close = on_close};
    struct wr_http *h = arg;
    if (h->client_count == WR_HTTP_CLIENTS_MAX)
        make_room(h);
    struct client *c = wr_alloc(sizeof(*c));
    if (!c) {
        wr_sock_close(sock, true);
        return;
    }
    c->http = h;
    c->sock = sock;
    wr_buf_init(&c->in, WR_HTTP_REQUEST_MAX);
    wr_list_append(&h->clients, &c->node);
    h->client_count++;
    wr_sock_attach(sock, &ops, c);
    wr_timer_start(h->o.env, &c->deadline, wr_env_now(h->o.env) + WR_HTTP_TIMEOUT, on_deadline);
}

static void on_starved(void *arg, int err)
{
    struct wr_http *h = arg;
    wr_log(wr_env_log(h->o.env), WR_LOG_WARN, "http", "cannot accept err=%s", wr_err_name(err));
}

/* ---- life */

int wr_http_create(const struct wr_http_options *options, struct wr_http **out)
{
    static const struct wr_listener_ops ops = {on_accept, on_starved};
    struct wr_http *h = wr_alloc(sizeof(*h));
    if (!h)
        return WR_ELIMIT;
    h->o = *options;
    wr_list_init(&h->clients);
    int err = wr_env_listen(options->env, &options->at, &ops, h, &h->listener);
    if (err) {
        wr_free(h);
        return err;
    }
    *out = h;
    return 0;
}

static void run_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_http, dispose));
}

void wr_http_destroy(struct wr_http *h)
{
    if (!h)
        return;
    wr_listener_close(h->listener);
    while (!wr_list_empty(&h->clients))
        client_end(wr_list_entry(h->clients.next, struct client, node));
    wr_env_dispose(h->o.env, &h->dispose, run_dispose);
}

void wr_http_addr(const struct wr_http *h, struct wr_addr *out)
{
    wr_listener_addr(h->listener, out);
}
