/* http.h - pages over HTTP/1.1 for browsers and for whoever collects metrics. Service.
 * GET and HEAD of a few pages that are made anew for each request, one request per connection. It
 * listens only where the owner said, and says nothing that could be changed by asking. */
#ifndef WR_HTTP_H
#define WR_HTTP_H

#include "transport/env.h"

#define WR_HTTP_CLIENTS_MAX 16            /* at once; for one more the longest silent goes; ours */
#define WR_HTTP_REQUEST_MAX 8192          /* bytes of request line and headers; nginx: 8 KiB */
#define WR_HTTP_PAGE_MAX    (256 * 1024)  /* bytes of a page; ours */
#define WR_HTTP_TIMEOUT     (10 * WR_SEC) /* from the connection to the last byte taken; ours */

struct wr_http;

struct wr_http_options {
    struct wr_env *env;
    struct wr_addr at;
    /* Appends the page to out and returns its content type, or NULL when there is no such page. */
    const char *(*page)(void *arg, struct wr_bytes path, struct wr_buf *out);
    void *arg;
};

/* 0 with *out set; errors of wr_env_listen. */
int wr_http_create(const struct wr_http_options *options, struct wr_http **out);
void wr_http_destroy(struct wr_http *h);                         /* NULL is allowed */
void wr_http_addr(const struct wr_http *h, struct wr_addr *out); /* the bound one */

#endif
