/* Commands that carry bytes: perf and cat. */
#include "client.h"
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- perf */

enum { PERF_UP, PERF_DOWN };

static const struct cli_flag perf_flags[] = {
    {"up", "SIZE", "bytes to send (100M)"},
    {"down", "SIZE", "bytes to receive (100M)"},
    {NULL, NULL, NULL},
};

static void on_progress(void *arg, const msgpack_object *map)
{
    const struct cli *cli = arg;
    char up[32], down[32];
    if (cli->json)
        print_json_line(map);
    else if (isatty(STDERR_FILENO))
        (void)fprintf(stderr, "\r\033[K%s up, %s down", print_size(print_u64(map, "up_bytes"), up),
                      print_size(print_u64(map, "down_bytes"), down));
}

static void perf_line(const char *what, uint64_t bytes, double seconds)
{
    char size[32];
    if (bytes && seconds > 0)
        (void)printf("%-5s %s in %.3f s, %.3f Gbit/s\n", what, print_size(bytes, size), seconds,
                     (double)bytes * 8 / seconds / 1e9);
}

static int run_perf(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint64_t up = 100 * 1024 * 1024, down = up;
    if (cli->values[PERF_UP] || cli->values[PERF_DOWN])
        up = down = 0;
    if (cli->values[PERF_UP] && !cli_parse_size(cli->values[PERF_UP], &up))
        return cli_usage(cli, "--up: \"%s\" is no size; 4096, 64K and 1G are",
                         cli->values[PERF_UP]);
    if (cli->values[PERF_DOWN] && !cli_parse_size(cli->values[PERF_DOWN], &down))
        return cli_usage(cli, "--down: \"%s\" is no size; 4096, 64K and 1G are",
                         cli->values[PERF_DOWN]);
    int result = client_open(&c, cli);
    if (result)
        return result;
    c.on_progress = on_progress;
    c.progress_arg = cli;
    struct wr_pack *p = client_begin(&c, "perf");
    wr_pack_text(p, "peer", cli->argv[0]);
    wr_pack_u64(p, "up", up);
    wr_pack_u64(p, "down", down);
    result = client_try(&c, &reply);
    if (!cli->json && isatty(STDERR_FILENO))
        (void)fputs("\r\033[K", stderr);
    if (result == CLI_YES && reply.error) {
        result = client_error(&c, &reply);
        wr_rpc_message_clear(&reply);
    } else if (result == CLI_YES) {
        if (cli->json) {
            print_json_line(reply.result);
        } else {
            perf_line("up", up, print_number(reply.result, "up_seconds"));
            perf_line("down", down, print_number(reply.result, "down_seconds"));
        }
        wr_rpc_message_clear(&reply);
    }
    client_close(&c);
    return result;
}

/* ---- cat */

#define PIPE_BYTES 65536

/* One direction: reads into the buffer while it is empty, writes it out. */
struct pipe {
    int from, to;
    bool ended; /* nothing more comes */
    bool shut;  /* and that was passed on */
    size_t start, len;
    char bytes[PIPE_BYTES];
};

static void pump_in(struct pipe *p)
{
    ssize_t got = read(p->from, p->bytes, sizeof(p->bytes));
    if (got > 0) {
        p->start = 0;
        p->len = (size_t)got;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        p->ended = true;
    }
}

/* False: the other end does not take it any more. */
static bool pump_out(struct pipe *p)
{
    ssize_t wrote = write(p->to, p->bytes + p->start, p->len);
    if (wrote < 0)
        return errno == EAGAIN || errno == EINTR;
    p->start += (size_t)wrote;
    p->len -= (size_t)wrote;
    return true;
}

/* False when this direction is broken. */
static bool pump(struct pipe *p, short in, short out)
{
    if (in && !p->len && !p->ended)
        pump_in(p);
    if (p->len && out && !pump_out(p))
        return false;
    if (p->ended && !p->len && !p->shut) {
        p->shut = true;
        if (shutdown(p->to, SHUT_WR) != 0 && errno == ENOTSOCK)
            (void)close(p->to); /* standard output: who reads it learns of the end now */
    }
    return true;
}

/* Standard input and output against the stream, until both have ended. Nobody at a terminal is
 * asked to end their input when the peer has ended its own. */
static int bridge(int fd)
{
    static struct pipe up, down;
    const bool terminal = isatty(STDIN_FILENO) != 0;
    up = (struct pipe){.from = STDIN_FILENO, .to = fd};
    down = (struct pipe){.from = fd, .to = STDOUT_FILENO};
    (void)signal(SIGPIPE, SIG_IGN);
    while (!down.ended || down.len || (!up.shut && !terminal)) {
        struct pollfd fds[4] = {
            {up.ended || up.len ? -1 : up.from, POLLIN, 0},
            {up.shut ? -1 : up.to, up.len ? POLLOUT : 0, 0}, /* also tells that it broke */
            {down.ended || down.len ? -1 : down.from, POLLIN, 0},
            {down.len ? down.to : -1, POLLOUT, 0},
        };
        if (poll(fds, 4, -1) < 0 && errno != EINTR)
            return CLI_NO;
        if (!pump(&down, fds[2].revents, fds[3].revents))
            return CLI_NO; /* our reader went */
        /* The peer reads no more, but may still have written. */
        if ((fds[1].revents & (POLLERR | POLLHUP)) || !pump(&up, fds[0].revents, fds[1].revents)) {
            up.ended = up.shut = true;
            up.len = 0;
        }
    }
    return CLI_YES;
}

enum { CAT_LISTEN, CAT_LIMITED };

static const struct cli_flag cat_flags[] = {
    {"listen", NULL, "wait for a peer that opens PROTOCOL to us"},
    {"limited", NULL, "a relay that cuts after minutes and a few KiB will do; both sides have to say so"},
    {NULL, NULL, NULL},
};

static int run_cat(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    bool listen = cli->values[CAT_LISTEN] != NULL;
    char peer[PRINT_TEXT];
    if (cli->argc != (listen ? 1 : 2))
        return cli_usage(cli,
                         listen ? "--listen takes PROTOCOL alone" : "PEER and PROTOCOL are needed");
    int result = client_open(&c, cli);
    if (result)
        return result;
    if (listen && !cli->timeout_given)
        cli->timeout_ms = CLI_NO_TIMEOUT;
    struct wr_pack *p = client_begin(&c, listen ? "accept" : "open");
    if (!listen)
        wr_pack_text(p, "peer", cli->argv[0]);
    wr_pack_text(p, "protocol", cli->argv[listen ? 0 : 1]);
    wr_pack_bool(p, "limited", cli->values[CAT_LIMITED] != NULL);
    result = client_call(&c, &reply);
    if (result == CLI_YES) {
        int fd = c.fd;
        if (cli->json && fd >= 0)
            (void)fprintf(stderr, "{\"peer\":\"%s\"}\n", print_text(reply.result, "peer", peer));
        wr_rpc_message_clear(&reply);
        result = fd >= 0 ? bridge(fd) : cli_fail(CLI_NO, "the node handed over no stream");
    }
    client_close(&c);
    return result;
}

const struct cli_command cli_carry_commands[] = {
    {.name = "cat",
     .args = "PEER PROTOCOL",
     .summary = "join standard input and output to a stream",
     .help =
         "Ends when the peer has finished writing. With --listen PROTOCOL the other side begins. "
         "The\n"
         "stream has standard output to itself; --json tells the peer's id on standard error.\n",
     .flags = cat_flags,
     .args_min = 1,
     .args_max = 2,
     .client = true,
     .timeout_ms = 70000,
     .run = run_cat},
    {.name = "perf",
     .args = "PEER",
     .summary = "measure the throughput to a peer",
     .help = "Sends first, then receives, by the libp2p perf protocol. The peer's owner must allow "
             "this node:\n"
             "`warren allow ID` there.\n",
     .flags = perf_flags,
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 300000,
     .run = run_perf},
    {.name = NULL},
};
