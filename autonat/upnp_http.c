#include "autonat/upnp_http.h"

#include "transport/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 1024    /* bytes of our request's head: URL, service and action are bounded; ours */

struct url {
    struct wr_ip ip;
    uint32_t zone;       /* of an IPv6 address on a link; 0: none */
    uint16_t port;
    const char *path;    /* borrowed from the text; "" stands for "/" */
};

int64_t wr_upnp_http_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Numbers are read only where they begin: strtoul goes over line ends to look for one. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The address, in brackets and with its zone if it is one of IPv6; what is behind it, or NULL. */
static const char *parse_host(const char *text, bool six, struct url *out)
{
    char host[INET6_ADDRSTRLEN + 12] = "";
    size_t len = six ? strcspn(text, "]") : strcspn(text, ":/");
    if (len >= sizeof(host) || (six && (*text != '[' || text[len] != ']')))
        return NULL;
    memcpy(host, text + six, len - six);
    char *zone = six ? strchr(host, '%') : NULL, *end = zone;
    if (zone) {
        unsigned long number = is_digit(zone[1]) ? strtoul(zone + 1, &end, 10) : 0;
        if (number == 0 || number > UINT32_MAX || *end)
            return NULL;
        out->zone = (uint32_t)number;
        *zone = 0;
    }
    out->ip.family = six ? 6 : 4;
    return inet_pton(six ? AF_INET6 : AF_INET, host, out->ip.bytes) == 1 ? text + len + six : NULL;
}

static bool parse_url(const char *text, bool six, struct url *out)
{
    *out = (struct url){.port = 80};
    if (strncmp(text, "http://", 7) != 0)
        return false;
    text = parse_host(text + 7, six, out);
    if (!text)
        return false;
    if (*text == ':') {
        char *end;
        unsigned long port = is_digit(text[1]) ? strtoul(text + 1, &end, 10) : 0;
        if (port == 0 || port > UINT16_MAX)
            return false;
        out->port = (uint16_t)port;
        text = end;
    }
    out->path = text;
    return *text == '/' || *text == 0;
}

/* ---- the connection ---------------------------------------------------------------------------------------------- */

static int wait_for(int fd, short what, int64_t until)
{
    struct pollfd p = {.fd = fd, .events = what};
    int64_t left;
    while ((left = until - wr_upnp_http_clock()) > 0) {
        int n = poll(&p, 1, (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return WR_EUNREACH;
    }
    return WR_ETIMEOUT;
}

static int finish_connect(int fd, int64_t until)
{
    int failed = 0, rc = wait_for(fd, POLLOUT, until);
    socklen_t len = sizeof(failed);
    if (rc != 0)
        return rc;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) == 0 && failed == 0 ? 0 : WR_EUNREACH;
}

union end {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static socklen_t end_of(const struct wr_ip *ip, uint32_t zone, uint16_t port, union end *out)
{
    *out = (union end){.six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = zone}};
    if (ip->family == 6) {
        memcpy(&out->six.sin6_addr, ip->bytes, 16);
        return sizeof(out->six);
    }
    out->four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    memcpy(&out->four.sin_addr, ip->bytes, 4);
    return sizeof(out->four);
}

/* A descriptor or an error. */
static int connect_to(const struct url *url, const struct wr_ip *source, int64_t until)
{
    union end to, from;
    socklen_t len = end_of(&url->ip, url->zone, url->port, &to);
    int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;
    if (fd < 0)
        return WR_ELIMIT;
    if (source && bind(fd, &from.any, end_of(source, 0, 0, &from)) != 0)
        rc = WR_EUNREACH;
    else if (connect(fd, &to.any, len) != 0)
        rc = errno == EINPROGRESS ? finish_connect(fd, until) : WR_EUNREACH;
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

static int send_all(int fd, const char *data, size_t len, int64_t until)
{
    while (len) {
        int rc = wait_for(fd, POLLOUT, until);
        ssize_t n = rc == 0 ? send(fd, data, len, MSG_NOSIGNAL) : 0;
        if (rc != 0)
            return rc;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return WR_EUNREACH;
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int ask(int fd, const struct url *url, const char *action, const char *post, int64_t until)
{
    char head[HEAD_MAX], soap[HEAD_MAX] = "", host[WR_ADDR_TEXT];
    bool six = url->ip.family == 6;
    size_t length = action ? strlen(post) : 0;
    int n = 0;
    if (action)
        n = snprintf(soap, sizeof(soap), "SOAPAction: \"%s\"\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n"
                     "Content-Length: %zu\r\n", action, length);
    if (n < 0 || (size_t)n >= sizeof(soap))
        return WR_EINVAL;
    wr_ip_print(&url->ip, host);
    n = snprintf(head, sizeof(head), "%s %s%s HTTP/1.1\r\nHost: %s%s%s:%u\r\nConnection: close\r\n%s\r\n",
                 action ? "POST" : "GET", *url->path ? "" : "/", url->path, six ? "[" : "", host, six ? "]" : "",
                 url->port, soap);
    if (n < 0 || (size_t)n >= sizeof(head))
        return WR_EINVAL;
    int rc = send_all(fd, head, (size_t)n, until);
    return rc == 0 && length ? send_all(fd, post, length, until) : rc;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

struct answer {
    char *data;       /* WR_UPNP_HTTP_ANSWER bytes and a zero */
    size_t len, head; /* head: its length; 0: it is not all there */
    bool chunked, has_length;
    size_t length;
};

/* The value of a field of the head, or NULL. */
static const char *field(const struct answer *a, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = a->data; at && at < a->data + a->head; at = strstr(at, "\r\n")) {
        at += *at == '\r' ? 2 : 0;
        if (strncasecmp(at, name, len) == 0 && at[len] == ':')
            return at + len + 1 + strspn(at + len + 1, " \t");
    }
    return NULL;
}

/* So many more bytes came: looks for the end of the head in them. */
static void take(struct answer *a, size_t n)
{
    size_t from = a->len;
    a->len += n;
    a->data[a->len] = 0;
    size_t seen = from > 3 ? from - 3 : 0;
    const char *end = a->head ? NULL : memmem(a->data + seen, a->len - seen, "\r\n\r\n", 4);
    if (!end)
        return;
    a->head = (size_t)(end - a->data) + 4;
    const char *length = field(a, "Content-Length"), *coding = field(a, "Transfer-Encoding");
    a->chunked = coding && strncasecmp(coding, "chunked", 7) == 0;
    a->has_length = length && is_digit(*length) && !a->chunked;
    a->length = a->has_length ? strtoul(length, NULL, 10) : 0;
}

static bool complete(const struct answer *a)
{
    if (!a->head)
        return false;
    if (a->chunked)
        return a->len - a->head >= 5 && memcmp(a->data + a->len - 5, "0\r\n\r\n", 5) == 0;
    return a->has_length && a->len - a->head >= a->length;
}

/* Puts the chunks of a body together, in place; its length. What is not in order ends it. */
static size_t join_chunks(char *body, size_t len)
{
    size_t at = 0, out = 0;
    while (at < len) {
        char *end;
        size_t size = strtoul(body + at, &end, 16);
        const char *data = strstr(end, "\r\n");
        if (size == 0 || !data)
            return out;
        at = (size_t)(data - body) + 2;
        if (size > len - at)
            size = len - at;
        memmove(body + out, body + at, size);
        out += size;
        at += size;
        at += at + 2 <= len ? 2 : len - at;
    }
    return out;
}

/* Until it is complete, or all that comes. */
static int receive(int fd, struct answer *a, int64_t until)
{
    while (!complete(a)) {
        int rc = wait_for(fd, POLLIN, until);
        if (rc != 0)
            return rc == WR_ETIMEOUT && a->head && !a->has_length && !a->chunked ? 0 : rc;
        if (a->len == WR_UPNP_HTTP_ANSWER)
            return WR_ELIMIT;
        ssize_t n = recv(fd, a->data + a->len, WR_UPNP_HTTP_ANSWER - a->len, 0);
        if (n == 0)
            return a->head ? 0 : WR_EPROTO;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return WR_EUNREACH;
        take(a, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

/* The status, and what is behind the head. */
static int understand(struct answer *a, struct wr_bytes *body)
{
    size_t len = a->len - a->head;
    if (a->has_length && len > a->length)
        len = a->length;
    if (a->chunked)
        len = join_chunks(a->data + a->head, len);
    a->data[a->head + len] = 0;
    *body = WR_BYTES(a->data + a->head, len);
    const char *status = strncmp(a->data, "HTTP/1.", 7) == 0 ? memchr(a->data, ' ', strcspn(a->data, "\r\n")) : NULL;
    long code = status && is_digit(status[1]) ? strtol(status + 1, NULL, 10) : 0;
    return code >= 100 && code < 600 ? (int)code : WR_EPROTO;
}

int wr_upnp_http_ask(const char *text, const struct wr_ip *source, const char *action, const char *post, int64_t until,
                     char memory[static WR_UPNP_HTTP_ANSWER + 1], struct wr_bytes *body)
{
    struct url url;
    int64_t longest = wr_upnp_http_clock() + WR_UPNP_HTTP_TIME;
    *body = WR_BYTES_NONE;
    if (!parse_url(text, source != NULL, &url))
        return WR_EINVAL;
    until = until < longest ? until : longest;
    int fd = connect_to(&url, source, until);
    if (fd < 0)
        return fd;
    struct answer a = {.data = memory};
    memory[0] = 0;
    int rc = ask(fd, &url, action, post, until);
    if (rc == 0)
        rc = receive(fd, &a, until);
    close(fd);
    return rc == 0 ? understand(&a, body) : rc;
}
