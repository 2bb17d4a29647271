#include "redis.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 64    /* bytes of a reply's head: a type, a number, CR LF */

static int connect_once(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

int redis_connect(const char *address, unsigned seconds)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    if (!colon || (size_t)(colon - address) >= sizeof(host)) {
        fprintf(stderr, "'%s' is not HOST:PORT of a Redis\n", address);
        return -1;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    for (unsigned tries = 0; tries < 5 * seconds + 1; tries++) {
        int fd = connect_once(host, colon + 1);
        if (fd >= 0)
            return fd;
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "no Redis answers at %s\n", address);
    return -1;
}

static bool put(int redis, const void *data, size_t len)
{
    const char *at = data;
    while (len) {
        ssize_t n = send(redis, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* A command is an array of strings. */
static bool ask(int redis, size_t count, const char *const *args)
{
    char head[HEAD_MAX];
    bool ok = put(redis, head, (size_t)snprintf(head, sizeof(head), "*%zu\r\n", count));
    for (size_t i = 0; i < count && ok; i++) {
        size_t len = strlen(args[i]);
        ok = put(redis, head, (size_t)snprintf(head, sizeof(head), "$%zu\r\n", len)) &&
             put(redis, args[i], len) && put(redis, "\r\n", 2);
    }
    return ok;
}

static bool get(int redis, char *out, size_t len)
{
    while (len) {
        ssize_t n = recv(redis, out, len, 0);
        if (n <= 0)
            return false;
        out += n;
        len -= (size_t)n;
    }
    return true;
}

/* The head of a reply: its type and number. An error's text goes to standard error. */
static bool head(int redis, char *type, long *number)
{
    char line[HEAD_MAX];
    size_t len = 0;
    while (len + 1 < sizeof(line)) {
        if (!get(redis, line + len, 1))
            return false;
        if (line[len++] == '\n')
            break;
    }
    line[len] = 0;
    *type = line[0];
    *number = strtol(line + 1, NULL, 10);
    if (*type == '-')
        fprintf(stderr, "Redis says %s", line + 1);
    return *type != '-';
}

static bool text(int redis, char *out, size_t size)
{
    char type, end[2];
    long len;
    if (!head(redis, &type, &len) || type != '$' || len < 0 || (size_t)len >= size)
        return false;
    out[len] = 0;
    return get(redis, out, (size_t)len) && get(redis, end, 2);
}

bool redis_leave(int redis, const char *key, const char *value)
{
    char type;
    long number;
    return ask(redis, 2, (const char *[]){"DEL", key}) && head(redis, &type, &number) &&
           ask(redis, 3, (const char *[]){"RPUSH", key, value}) && head(redis, &type, &number) && number == 1;
}

bool redis_take(int redis, const char *key, unsigned seconds, char *value, size_t size)
{
    char type, patience[16], name[256];
    long count;
    snprintf(patience, sizeof(patience), "%u", seconds);
    if (!ask(redis, 3, (const char *[]){"BLPOP", key, patience}) || !head(redis, &type, &count))
        return false;
    if (type != '*' || count != 2) {
        fprintf(stderr, "nothing came under '%s' in %u s\n", key, seconds);
        return false;
    }
    return text(redis, name, sizeof(name)) && text(redis, value, size);
}
