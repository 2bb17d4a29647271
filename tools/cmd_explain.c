/* Commands that explain: why a peer is reached the way it is, or not at all. */
#include "client.h"
#include "print.h"

#include <stdio.h>
#include <string.h>

static void print_tried(const msgpack_object *tried)
{
    char path[PRINT_TEXT], addr[PRINT_TEXT], code[PRINT_TEXT], text[PRINT_TEXT], hint[PRINT_TEXT];
    char ago[32];
    (void)printf("tried %s, %s ago: %s\n", print_text(tried, "addr", addr),
                 print_duration(print_u64(tried, "ago_ms"), ago), print_text(tried, "path", path));
    (void)printf("      %s after %.0f ms: %s\n", print_text(tried, "code", code),
                 print_number(tried, "took_ms"), print_text(tried, "text", text));
    if (*print_text(tried, "hint", hint))
        (void)printf("      next: %s\n", hint);
}

static int run_why(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    char path[PRINT_TEXT], code[PRINT_TEXT], text[PRINT_TEXT], hint[PRINT_TEXT], addr[PRINT_TEXT];
    uint32_t count;
    int result = client_open(&c, cli);
    if (result)
        return result;
    wr_pack_text(client_begin(&c, "why"), "peer", cli->argv[0]);
    result = client_call(&c, &reply);
    if (result) {
        client_close(&c);
        return result;
    }
    bool connected = strcmp(print_text(reply.result, "path", path), "none") != 0;
    if (cli->json) {
        print_json_line(reply.result);
    } else {
        (void)printf("path  %s: %s (%s)\n", path, print_text(reply.result, "text", text),
                     print_text(reply.result, "code", code));
        if (connected)
            (void)printf("      %s\n", print_text(reply.result, "addr", addr));
        if (*print_text(reply.result, "hint", hint))
            (void)printf("      next: %s\n", hint);
        const msgpack_object *rows = print_array(reply.result, "tried", &count);
        for (uint32_t i = 0; i < count; i++)
            print_tried(&rows[i]);
    }
    wr_rpc_message_clear(&reply);
    client_close(&c);
    return connected ? CLI_YES : CLI_NO;
}

const struct cli_command cli_explain_commands[] = {
    {.name = "why",
     .args = "PEER",
     .summary = "say by which path a peer is reached, what else was tried, and what would help",
     .help = "A peer that is not connected is tried first. Codes are listed in docs/reasons.md. Exit code 0:\n"
             "connected, 1: not.\n",
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 60000,
     .run = run_why},
    {.name = NULL},
};
