#include "client.h"

#include "print.h"
#include "transport/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CALL_MS  20000 /* ms that a call may take which does not wait for the network; ours */
#define SLACK_MS 2000  /* ms that the node's own timeout may be late */
#define CHUNK    65536 /* bytes per read */

int64_t client_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int no_node(const char *path, int error)
{
    if (error == EACCES || error == EPERM)
        return cli_fail(CLI_NO_NODE,
                        "%s: permission denied; the node there belongs to another user", path);
    return cli_fail(CLI_NO_NODE,
                    "no node is running at %s; start one with `warren run`, or name its "
                    "socket with --node",
                    path);
}

int client_open(struct client *c, const struct cli *cli)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char path[sizeof(at.sun_path)];
    memset(c, 0, sizeof(*c));
    c->cli = cli;
    c->sock = c->fd = -1;
    wr_buf_init(&c->out, WR_RPC_REQUEST_MAX);
    wr_buf_init(&c->in, 2 * (size_t)WR_RPC_REPLY_MAX);
    wr_rpc_scan_init(&c->scan, WR_RPC_REPLY_MAX, WR_RPC_REPLY_ITEMS);
    if (cli->node) {
        if (strlen(cli->node) >= sizeof(path))
            return cli_fail(CLI_USAGE, "--node: the path is longer than a socket's can be");
        memcpy(path, cli->node, strlen(cli->node) + 1);
    } else if (!cli_default_control(path, sizeof(path))) {
        return cli_fail(CLI_USAGE, "the path of the control socket is too long; use --node");
    }
    memcpy(at.sun_path, path, strlen(path) + 1);
    c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->sock < 0)
        return cli_fail(CLI_NO, "no socket: %s", strerror(errno));
    if (connect(c->sock, (struct sockaddr *)&at, sizeof(at)) != 0) {
        int error = errno;
        client_close(c);
        return no_node(path, error);
    }
    return CLI_YES;
}

void client_close(struct client *c)
{
    if (c->sock >= 0)
        (void)close(c->sock);
    if (c->fd >= 0)
        (void)close(c->fd);
    c->sock = c->fd = -1;
    wr_buf_clear(&c->out);
    wr_buf_clear(&c->in);
}

struct wr_pack *client_begin(struct client *c, const char *method)
{
    wr_buf_reset(&c->out);
    wr_pack_init(&c->pack, &c->out);
    wr_pack_array(&c->pack, NULL);
    wr_pack_u64(&c->pack, NULL, WR_RPC_REQUEST);
    wr_pack_u64(&c->pack, NULL, ++c->id);
    wr_pack_text(&c->pack, NULL, method);
    wr_pack_array(&c->pack, NULL);
    wr_pack_map(&c->pack, NULL);
    return &c->pack;
}

/* 1: ready, 0: the deadline passed, -1: an error. */
static int wait_for(const struct client *c, short events)
{
    for (;;) {
        struct pollfd p = {.fd = c->sock, .events = events};
        int64_t left = c->deadline ? c->deadline - client_now() : 3600000;
        if (left < 0)
            left = 0;
        int ready = poll(&p, 1, (int)(left < 3600000 ? left : 3600000));
        if (ready > 0)
            return 1;
        if (ready < 0 && errno != EINTR)
            return -1;
        if (ready == 0 && c->deadline && client_now() >= c->deadline)
            return 0;
    }
}

static int gone(void)
{
    return cli_fail(CLI_NO_NODE,
                    "the node closed the connection: it stopped, or serves as many clients as "
                    "its limits allow");
}

static int timed_out(const struct client *c)
{
    if (c->cli->json)
        (void)printf("{\"error\":\"WR_ETIMEOUT\",\"text\":\"timed out\"}\n");
    else
        (void)cli_fail(CLI_TIMEOUT, "timed out%s",
                       c->cli->command->timeout_ms ? "; --timeout waits longer" : "");
    return CLI_TIMEOUT;
}

static int send_all(struct client *c)
{
    struct wr_bytes left = wr_buf_bytes(&c->out);
    while (left.len) {
        int ready = wait_for(c, POLLOUT);
        if (ready == 0)
            return timed_out(c);
        ssize_t sent =
            ready < 0 ? -1 : send(c->sock, left.ptr, left.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (ready < 0 || (errno != EAGAIN && errno != EINTR)))
            return gone();
        if (sent > 0)
            (void)wr_bytes_take(&left, (size_t)sent);
    }
    return CLI_YES;
}

static void take_fd(struct client *c, struct msghdr *header)
{
    for (struct cmsghdr *m = CMSG_FIRSTHDR(header); m; m = CMSG_NXTHDR(header, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        int fd;
        memcpy(&fd, CMSG_DATA(m), sizeof(fd));
        if (c->fd >= 0)
            (void)close(c->fd);
        c->fd = fd;
    }
}

/* Reads once. CLI_YES, CLI_TIMEOUT, CLI_NO_NODE; says nothing. */
static int receive(struct client *c)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    int ready = wait_for(c, POLLIN);
    if (ready == 0)
        return CLI_TIMEOUT;
    uint8_t *room = wr_buf_reserve(&c->in, CHUNK);
    if (ready < 0 || !room)
        return CLI_NO_NODE;
    struct iovec part = {.iov_base = room, .iov_len = CHUNK};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(c->sock, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? CLI_YES : CLI_NO_NODE;
    take_fd(c, &header);
    if (got == 0)
        return CLI_NO_NODE;
    wr_buf_grew(&c->in, (size_t)got);
    return CLI_YES;
}

/* The next message of any kind; the one before is dropped. */
static int next_message(struct client *c, struct wr_rpc_message *m)
{
    wr_buf_consume(&c->in, c->used);
    c->used = 0;
    for (;;) {
        int len = wr_rpc_scan(&c->scan, wr_buf_bytes(&c->in));
        if (len > 0 && wr_rpc_decode(WR_BYTES(c->in.data, (size_t)len), m) == 0) {
            c->used = (size_t)len;
            return CLI_YES;
        }
        if (len != 0)
            return cli_fail(CLI_NO,
                            "the answer is not MessagePack-RPC: is that the socket of a node?");
        int got = receive(c);
        if (got != CLI_YES)
            return got;
    }
}

int client_try(struct client *c, struct wr_rpc_message *reply)
{
    const struct cli *cli = c->cli;
    int64_t wait_ms = cli->timeout_ms > 0 ? cli->timeout_ms : 0;
    if (wait_ms)
        wr_pack_u64(&c->pack, "timeout_ms", (uint64_t)wait_ms);
    for (int i = 0; i < 3; i++)
        wr_pack_end(&c->pack);
    if (c->out.full)
        return cli_fail(CLI_USAGE, "that is more than a request may carry (%d bytes)",
                        WR_RPC_REQUEST_MAX);
    c->deadline = cli->timeout_ms == CLI_NO_TIMEOUT
                      ? 0
                      : client_now() + (wait_ms ? wait_ms + SLACK_MS : CALL_MS);
    int result = send_all(c);
    while (result == CLI_YES) {
        result = next_message(c, reply);
        if (result != CLI_YES)
            return result == CLI_TIMEOUT ? timed_out(c) : result == CLI_NO_NODE ? gone() : result;
        if (reply->type == WR_RPC_RESPONSE && reply->id == c->id)
            return CLI_YES;
        if (reply->type == WR_RPC_NOTIFICATION &&
            wr_bytes_equal(reply->method, WR_BYTES_STR("error"))) {
            reply->error = reply->params; /* its last word before it closes */
            result = client_error(c, reply);
        } else if (c->on_progress && reply->type == WR_RPC_NOTIFICATION &&
                   wr_bytes_equal(reply->method, WR_BYTES_STR("progress")))
            c->on_progress(c->progress_arg, reply->params);
        wr_rpc_message_clear(reply);
    }
    return result;
}

int client_error(const struct client *c, const struct wr_rpc_message *reply)
{
    char code[PRINT_TEXT], text[PRINT_TEXT];
    (void)print_text(reply->error, "code", code);
    (void)print_text(reply->error, "text", text);
    if (c->cli->json) {
        (void)fputs("{\"error\":", stdout);
        print_json_text(stdout, code, strlen(code));
        (void)fputs(",\"text\":", stdout);
        print_json_text(stdout, text, strlen(text));
        (void)fputs("}\n", stdout);
    } else {
        (void)cli_fail(CLI_NO, "%s", *text ? text : "the node failed without a reason");
    }
    return cli_exit_for(code);
}

int client_call(struct client *c, struct wr_rpc_message *reply)
{
    int result = client_try(c, reply);
    if (result == CLI_YES && reply->error) {
        result = client_error(c, reply);
        wr_rpc_message_clear(reply);
    }
    return result;
}

int client_show(struct client *c, void (*print)(const msgpack_object *result))
{
    struct wr_rpc_message reply;
    int result = client_call(c, &reply);
    if (result) {
        client_close(c);
        return result;
    }
    if (c->cli->json)
        print_json_line(reply.result);
    else if (print)
        print(reply.result);
    return client_end(c, &reply, CLI_YES);
}

/* The request with one text parameter, as client_ask has it. */
static int begin_one(struct client *c, const struct cli *cli, const char *method, const char *name, const char *value)
{
    int result = client_open(c, cli);
    if (result)
        return result;
    struct wr_pack *p = client_begin(c, method);
    if (name)
        wr_pack_text(p, name, value);
    return CLI_YES;
}

int client_tell(const struct cli *cli, const char *method, const char *name, const char *value,
                void (*print)(const msgpack_object *result))
{
    struct client c;
    int result = begin_one(&c, cli, method, name, value);
    return result ? result : client_show(&c, print);
}

int client_ask(struct client *c, const struct cli *cli, const char *method, const char *name, const char *value,
               struct wr_rpc_message *reply)
{
    int result = begin_one(c, cli, method, name, value);
    if (result)
        return result;
    result = client_call(c, reply);
    if (result)
        client_close(c);
    return result;
}

int client_end(struct client *c, struct wr_rpc_message *reply, int result)
{
    wr_rpc_message_clear(reply);
    client_close(c);
    return result;
}

int client_next(struct client *c, int64_t ms, struct wr_rpc_message *note)
{
    c->deadline = ms == CLI_NO_TIMEOUT ? 0 : client_now() + ms;
    for (;;) {
        int result = next_message(c, note);
        if (result == CLI_NO_NODE)
            return gone();
        if (result != CLI_YES)
            return result;
        if (note->type == WR_RPC_NOTIFICATION)
            return CLI_YES;
        wr_rpc_message_clear(note);
    }
}

int client_wait_end(struct client *c)
{
    struct wr_rpc_message m;
    c->deadline = c->cli->timeout_ms > 0 ? client_now() + c->cli->timeout_ms : 0;
    for (;;) {
        int result = next_message(c, &m);
        if (result == CLI_NO_NODE)
            return CLI_YES;
        if (result != CLI_YES)
            return result == CLI_TIMEOUT ? timed_out(c) : result;
        wr_rpc_message_clear(&m);
    }
}
