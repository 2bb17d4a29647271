/* Commands that find peers, providers and values. */
#include "client.h"
#include "print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Progress of a lookup: rows as they are found go to standard output, the rest to a terminal's last
 * line, which is wiped when the call ends. */
struct watch {
    const struct cli *cli;
    bool terminal, shown;
};

static void wipe(struct watch *w)
{
    if (w->shown)
        (void)fputs("\r\033[K", stderr);
    w->shown = false;
}

static void print_peer(const struct cli *cli, const msgpack_object *row)
{
    char peer[PRINT_TEXT], addr[PRINT_TEXT];
    uint32_t count;
    if (cli->json) {
        print_json_line(row);
        return;
    }
    (void)puts(print_text(row, "peer", peer));
    const msgpack_object *addrs = print_array(row, "addrs", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("  %s\n", print_element(&addrs[i], addr));
    (void)fflush(stdout);
}

static void on_progress(void *arg, const msgpack_object *map)
{
    struct watch *w = arg;
    char text[PRINT_TEXT];
    if (wr_rpc_find(map, "peer")) {
        wipe(w);
        print_peer(w->cli, map);
    } else if (w->terminal && *print_text(map, "text", text)) {
        (void)fprintf(stderr, "\r\033[K%.70s", text);
        w->shown = true;
    }
}

static int open_watched(struct client *c, struct watch *w, const struct cli *cli)
{
    *w = (struct watch){.cli = cli, .terminal = isatty(STDERR_FILENO) != 0};
    int result = client_open(c, cli);
    c->on_progress = on_progress;
    c->progress_arg = w;
    return result;
}

/* Sends what was begun; prints the result as JSON when asked to. CLI_YES: reply is there. */
static int call_watched(struct client *c, struct watch *w, struct wr_rpc_message *reply)
{
    int result = client_try(c, reply);
    wipe(w);
    if (result == CLI_YES && reply->error) {
        result = client_error(c, reply);
        wr_rpc_message_clear(reply);
    }
    if (result)
        client_close(c);
    return result;
}

/* A request with one text parameter, from its beginning; CLI_YES as call_watched. */
static int ask_watched(struct client *c, struct watch *w, const struct cli *cli, const char *method,
                       const char *name, const char *value, struct wr_rpc_message *reply)
{
    int result = open_watched(c, w, cli);
    if (result)
        return result;
    wr_pack_text(client_begin(c, method), name, value);
    return call_watched(c, w, reply);
}

/* ---- join, leave */

static void print_joined(const msgpack_object *result)
{
    (void)result;
    (void)puts("joined, also after a restart; `warren leave` ends it");
}

static int list_joined(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint32_t count;
    int result = client_ask(&c, cli, "joined", NULL, NULL, &reply);
    if (result)
        return result;
    const msgpack_object *rows = print_array(reply.result, "names", &count);
    for (uint32_t i = 0; i < count; i++) {
        char name[PRINT_TEXT];
        if (cli->json)
            print_json_line(&rows[i]);
        else
            (void)printf("%s  %llu sightings of members\n", print_text(&rows[i], "name", name),
                         (unsigned long long)print_u64(&rows[i], "sightings"));
    }
    return client_end(&c, &reply, CLI_YES);
}

static int run_join(struct cli *cli)
{
    return cli->argc ? client_tell(cli, "join", "name", cli->argv[0], print_joined) : list_joined(cli);
}

static int run_leave(struct cli *cli)
{
    return client_tell(cli, "leave", "name", cli->argv[0], NULL);
}

/* ---- find */

enum { FIND_IN, FIND_COUNT };

static const struct cli_flag find_flags[] = {
    {"in", "NAME", "the peers that joined NAME, instead of one peer's addresses"},
    {"count", "N", "at most N peers (100)"},
    {NULL, NULL, NULL},
};

/* Peers arrive as progress; the result says how many there were. */
static int find_many(struct cli *cli, const char *method, const char *name, const char *value,
                     const char *count_text)
{
    struct client c;
    struct watch w;
    struct wr_rpc_message reply;
    uint64_t count = 100;
    if (count_text && !cli_parse_count(count_text, &count))
        return cli_usage(cli, "--count: \"%s\" is no number", count_text);
    int result = open_watched(&c, &w, cli);
    if (result)
        return result;
    struct wr_pack *p = client_begin(&c, method);
    wr_pack_text(p, name, value);
    wr_pack_u64(p, "count", count);
    result = call_watched(&c, &w, &reply);
    if (result)
        return result;
    bool found = print_u64(reply.result, "found") > 0;
    if (!found && !cli->json)
        (void)cli_fail(CLI_NO, "nobody found");
    return client_end(&c, &reply, found ? CLI_YES : CLI_NO);
}

static int run_find(struct cli *cli)
{
    struct client c;
    struct watch w;
    struct wr_rpc_message reply;
    if (cli->values[FIND_IN]) {
        if (cli->argc)
            return cli_usage(cli, "PEER or --in NAME, not both");
        return find_many(cli, "find.in", "name", cli->values[FIND_IN], cli->values[FIND_COUNT]);
    }
    if (!cli->argc)
        return cli_usage(cli, "PEER is missing");
    int result = ask_watched(&c, &w, cli, "find", "peer", cli->argv[0], &reply);
    if (result)
        return result;
    print_peer(cli, reply.result);
    return client_end(&c, &reply, CLI_YES);
}

/* ---- dht */

static const struct cli_flag provide_flags[] = {
    {"stop", NULL, "provide it no more"},
    {NULL, NULL, NULL},
};

static int run_provide(struct cli *cli)
{
    struct client c;
    struct watch w;
    struct wr_rpc_message reply;
    bool stop = cli->values[0] != NULL;
    int result = ask_watched(&c, &w, cli, stop ? "dht.unprovide" : "dht.provide", "cid", cli->argv[0], &reply);
    if (result)
        return result;
    if (cli->json)
        print_json_line(reply.result);
    else if (!stop)
        (void)puts("announced, and again every 22 hours; --stop ends it");
    return client_end(&c, &reply, CLI_YES);
}

static const struct cli_flag providers_flags[] = {
    {"count", "N", "at most N (100)"},
    {NULL, NULL, NULL},
};

static int run_providers(struct cli *cli)
{
    return find_many(cli, "dht.providers", "cid", cli->argv[0], cli->values[0]);
}

#define VALUE_MAX (64 * 1024) /* bytes; the node's bound for a record */

/* The value to put: the second word, or standard input. */
static int read_value(const struct cli *cli, struct wr_buf *out)
{
    if (cli->argc == 2 && strcmp(cli->argv[1], "-") != 0) {
        wr_buf_put_cstr(out, cli->argv[1]);
        return CLI_YES;
    }
    for (;;) {
        uint8_t *room = wr_buf_reserve(out, 4096);
        if (!room)
            return cli_fail(CLI_USAGE, "the value is longer than %d bytes", VALUE_MAX);
        ssize_t got = read(STDIN_FILENO, room, 4096);
        if (got == 0)
            return CLI_YES;
        if (got < 0 && errno != EINTR)
            return cli_fail(CLI_NO, "standard input: %s", strerror(errno));
        if (got > 0)
            wr_buf_grew(out, (size_t)got);
    }
}

static int run_put(struct cli *cli)
{
    struct client c;
    struct watch w;
    struct wr_rpc_message reply;
    struct wr_buf value;
    wr_buf_init(&value, VALUE_MAX + 4096);
    int result = read_value(cli, &value);
    if (result == CLI_YES)
        result = open_watched(&c, &w, cli);
    if (result == CLI_YES) {
        struct wr_pack *p = client_begin(&c, "dht.put");
        wr_pack_text(p, "key", cli->argv[0]);
        wr_pack_bin(p, "value", wr_buf_bytes(&value));
        result = call_watched(&c, &w, &reply);
    }
    wr_buf_clear(&value);
    if (result)
        return result;
    if (cli->json)
        print_json_line(reply.result);
    else
        (void)puts("stored");
    return client_end(&c, &reply, CLI_YES);
}

static int run_get(struct cli *cli)
{
    struct client c;
    struct watch w;
    struct wr_rpc_message reply;
    int result = ask_watched(&c, &w, cli, "dht.get", "key", cli->argv[0], &reply);
    if (result)
        return result;
    const msgpack_object *value = wr_rpc_find(reply.result, "value");
    if (cli->json) {
        print_json_line(reply.result);
    } else if (value && value->type == MSGPACK_OBJECT_BIN) {
        (void)fwrite(value->via.bin.ptr, 1, value->via.bin.size, stdout);
        if (isatty(STDOUT_FILENO))
            (void)putchar('\n');
    }
    return client_end(&c, &reply, CLI_YES);
}

static int run_table(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint32_t count;
    int result = client_ask(&c, cli, "dht.table", NULL, NULL, &reply);
    if (result)
        return result;
    const msgpack_object *rows = print_array(reply.result, "peers", &count);
    if (!cli->json)
        (void)printf("%-5s  %-6s  %-52s  %-9s  %s\n", "TABLE", "BUCKET", "PEER", "CONNECTED",
                     "LAST USEFUL");
    for (uint32_t i = 0; i < count; i++) {
        char peer[PRINT_TEXT], table[PRINT_TEXT], ago[32] = "-";
        if (cli->json) {
            print_json_line(&rows[i]);
            continue;
        }
        if (wr_rpc_find(&rows[i], "useful_ms"))
            (void)print_duration(print_u64(&rows[i], "useful_ms"), ago);
        (void)printf("%-5s  %-6llu  %-52s  %-9s  %s\n", print_text(&rows[i], "table", table),
                     (unsigned long long)print_u64(&rows[i], "bucket"),
                     print_text(&rows[i], "peer", peer),
                     print_bool(&rows[i], "connected") ? "yes" : "no", ago);
    }
    return client_end(&c, &reply, CLI_YES);
}

const struct cli_command cli_find_commands[] = {
    {.name = "join",
     .args = "[NAME]",
     .summary = "announce this node under a name, and keep looking for others there",
     .help = "Without NAME: list what was joined. `warren leave NAME` ends it.\n",
     .args_max = 1,
     .client = true,
     .run = run_join},
    {.name = "leave",
     .args = "NAME",
     .summary = "end what `join` began",
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .run = run_leave},
    {.name = "find",
     .args = "PEER | --in NAME",
     .summary = "find a peer's addresses, or the peers under a name",
     .flags = find_flags,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_find},
    {.name = "dht provide",
     .args = "CID",
     .summary = "tell the DHT that this node has the content CID",
     .flags = provide_flags,
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_provide},
    {.name = "dht providers",
     .args = "CID",
     .summary = "find who has the content CID",
     .flags = providers_flags,
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_providers},
    {.name = "dht put",
     .args = "KEY [VALUE | -]",
     .summary = "store a record under a key, /pk/PEER or /ipns/PEER",
     .help = "Without VALUE, or with -: the record is read from standard input.\n",
     .args_min = 1,
     .args_max = 2,
     .client = true,
     .timeout_ms = 60000,
     .run = run_put},
    {.name = "dht get",
     .args = "KEY",
     .summary = "fetch a record and write it to standard output",
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_get},
    {.name = "dht table",
     .args = "",
     .summary = "list the routing table",
     .client = true,
     .run = run_table},
    {.name = NULL},
};
