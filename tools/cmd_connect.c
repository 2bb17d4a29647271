/* Commands that make and forbid connections. */
#include "client.h"
#include "print.h"

#include <stdio.h>

static void print_connected(const msgpack_object *result)
{
    char peer[PRINT_TEXT], addr[PRINT_TEXT], path[PRINT_TEXT];
    (void)printf("connected   %s  %s  %s  %.1f ms\n", print_text(result, "peer", peer),
                 print_text(result, "path", path), print_text(result, "addr", addr), print_number(result, "took_ms"));
}

static int run_connect(struct cli *cli)
{
    return client_tell(cli, "connect", "peer", cli->argv[0], print_connected);
}

static void print_disconnected(const msgpack_object *result)
{
    char peer[PRINT_TEXT];
    (void)printf("disconnected  %s\n", print_text(result, "peer", peer));
}

static int run_disconnect(struct cli *cli)
{
    return client_tell(cli, "disconnect", "peer", cli->argv[0], print_disconnected);
}

/* ---- allow, block */

enum { RULE_REMOVE };

static const struct cli_flag rule_flags[] = {
    {"remove", NULL, "take the rule back"},
    {NULL, NULL, NULL},
};

static int list_rules(struct cli *cli, const char *list)
{
    struct client c;
    struct wr_rpc_message reply;
    uint32_t count;
    int result = client_ask(&c, cli, "rules", "list", list, &reply);
    if (result)
        return result;
    const msgpack_object *rows = print_array(reply.result, "rules", &count);
    for (uint32_t i = 0; i < count; i++) {
        char what[PRINT_TEXT];
        if (cli->json)
            print_json_line(&rows[i]);
        else
            (void)puts(print_text(&rows[i], "what", what));
    }
    return client_end(&c, &reply, CLI_YES);
}

static int change_rule(struct cli *cli, const char *list)
{
    struct client c;
    if (!cli->argc && cli->values[RULE_REMOVE])
        return cli_usage(cli, "--remove: of whom?");
    if (!cli->argc)
        return list_rules(cli, list);
    int result = client_open(&c, cli);
    if (result)
        return result;
    struct wr_pack *p = client_begin(&c, list);
    wr_pack_text(p, "what", cli->argv[0]);
    wr_pack_bool(p, "remove", cli->values[RULE_REMOVE] != NULL);
    return client_show(&c, NULL);
}

static int run_allow(struct cli *cli)
{
    return change_rule(cli, "allow");
}

static int run_block(struct cli *cli)
{
    return change_rule(cli, "block");
}

const struct cli_command cli_connect_commands[] = {
    {.name = "connect",
     .args = "ADDR | PEER",
     .summary = "connect to a peer",
     .help = "ADDR is a multiaddr such as /ip4/192.0.2.1/tcp/4001/p2p/ID; of a bare peer id the "
             "addresses\n"
             "are looked up.\n",
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_connect},
    {.name = "disconnect",
     .args = "PEER",
     .summary = "close the connections to a peer",
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .run = run_disconnect},
    {.name = "allow",
     .args = "[PEER | CIDR]",
     .summary = "never refuse this peer or network for limits or rates",
     .help = "Without an argument: list what is allowed. Blocking wins over allowing.\n",
     .flags = rule_flags,
     .args_max = 1,
     .client = true,
     .run = run_allow},
    {.name = "block",
     .args = "[PEER | CIDR]",
     .summary = "have nothing to do with this peer or network",
     .help = "Without an argument: list what is blocked. Open connections to it are closed.\n",
     .flags = rule_flags,
     .args_max = 1,
     .client = true,
     .run = run_block},
    {.name = NULL},
};
