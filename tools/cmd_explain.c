/* Commands that explain: why a peer is reached the way it is, or not at all; how the world reaches us. */
#include "client.h"
#include "print.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FULL_TIMEOUT_MS 400000 /* of check --full: more than it takes */

static void print_tried(const msgpack_object *tried)
{
    char path[PRINT_TEXT], addr[PRINT_TEXT], code[PRINT_TEXT], text[PRINT_TEXT], hint[PRINT_TEXT];
    char ago[32];
    (void)print_duration(print_u64(tried, "ago_ms"), ago);
    if (strcmp(print_text(tried, "path", path), "punched") == 0)
        (void)printf("tried to punch a hole, %s ago: attempt %llu\n", ago,
                     (unsigned long long)print_u64(tried, "attempt"));
    else
        (void)printf("tried %s, %s ago: %s\n", print_text(tried, "addr", addr), ago, path);
    (void)printf("      %s after %.0f ms: %s\n", print_text(tried, "code", code),
                 print_number(tried, "took_ms"), print_text(tried, "text", text));
    if (*print_text(tried, "hint", hint))
        (void)printf("      next: %s\n", hint);
}

static void print_trying(FILE *out, const msgpack_object *trying)
{
    char path[PRINT_TEXT], addr[PRINT_TEXT], text[PRINT_TEXT], since[32];
    (void)print_duration(print_u64(trying, "for_ms"), since);
    if (strcmp(print_text(trying, "path", path), "punched") == 0)
        (void)fprintf(out, "trying to punch a hole, for %s: attempt %llu\n", since,
                      (unsigned long long)print_u64(trying, "attempt"));
    else if (*print_text(trying, "addr", addr))
        (void)fprintf(out, "trying %s, for %s: %s\n", addr, since, path);
    else
        (void)fprintf(out, "trying to find it, for %s\n", since);
    (void)fprintf(out, "      %s\n", print_text(trying, "text", text));
}

static void print_all_trying(FILE *out, const msgpack_object *map)
{
    uint32_t count;
    const msgpack_object *rows = print_array(map, "trying", &count);
    for (uint32_t i = 0; i < count; i++)
        print_trying(out, &rows[i]);
}

/* While the answer is waited for; it is no part of it. */
static void on_why_progress(void *arg, const msgpack_object *map)
{
    (void)arg;
    print_all_trying(stderr, map);
}

static void print_why(const msgpack_object *why, const char *path)
{
    char code[PRINT_TEXT], text[PRINT_TEXT], hint[PRINT_TEXT], addr[PRINT_TEXT];
    uint32_t count;
    (void)printf("path  %s: %s (%s)\n", path, print_text(why, "text", text), print_text(why, "code", code));
    if (*print_text(why, "addr", addr))
        (void)printf("      %s\n", addr);
    if (*print_text(why, "hint", hint))
        (void)printf("      next: %s\n", hint);
    print_all_trying(stdout, why);
    const msgpack_object *rows = print_array(why, "tried", &count);
    for (uint32_t i = 0; i < count; i++)
        print_tried(&rows[i]);
}

static int run_why(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    char path[PRINT_TEXT];
    int result = client_open(&c, cli);
    if (result)
        return result;
    c.on_progress = cli->json || !isatty(STDERR_FILENO) ? NULL : on_why_progress;
    wr_pack_text(client_begin(&c, "why"), "peer", cli->argv[0]);
    result = client_call(&c, &reply);
    if (result) {
        client_close(&c);
        return result;
    }
    (void)print_text(reply.result, "path", path);
    if (cli->json)
        print_json_line(reply.result);
    else
        print_why(reply.result, path);
    return client_end(&c, &reply, strcmp(path, "none") == 0 ? CLI_NO : CLI_YES);
}

/* ---- check */

static void print_finding(const char *label, const msgpack_object *finding)
{
    char code[PRINT_TEXT], text[PRINT_TEXT], hint[PRINT_TEXT];
    (void)printf("%-11s %s (%s)\n", label, print_text(finding, "text", text),
                 print_text(finding, "code", code));
    if (*print_text(finding, "hint", hint))
        (void)printf("            next: %s\n", hint);
}

/* One transport: UDP and TCP are translated apart. */
static void print_kind(const msgpack_object *check, const char *key)
{
    const msgpack_object *kind = wr_rpc_find(check, key);
    char mapping[PRINT_TEXT], filtering[PRINT_TEXT], alloc[PRINT_TEXT], pooling[PRINT_TEXT],
        hairpin[PRINT_TEXT], text[32];
    (void)printf("%-11s mapping %s, filtering %s\n", key, print_text(kind, "mapping", mapping),
                 print_text(kind, "filtering", filtering));
    (void)printf("            ports %s", print_text(kind, "allocation", alloc));
    if (strcmp(alloc, "sequential") == 0)
        (void)printf(" by %lld", (long long)print_number(kind, "step"));
    (void)printf(", several addresses %s, hairpin %s\n", print_text(kind, "pooling", pooling),
                 print_text(kind, "hairpin", hairpin));
    uint64_t lifetime = print_u64(kind, "lifetime_ms");
    char word[PRINT_TEXT];
    (void)fputs("            ", stdout);
    if (*print_text(kind, "lifetime", word))
        (void)printf("idle mappings live %s%s; ", strcmp(word, "at-least") == 0 ? "at least " : "",
                     lifetime                          ? print_duration(lifetime, text)
                     : strcmp(word, "learning") == 0 ? "(learning)"
                                                     : "for ever");
    (void)printf("%s\n", print_count(print_u64(kind, "samples"), "observation", word));
}

/* The same of IPv6, where ports are hardly ever translated. */
static void print_kind6(const msgpack_object *check, const char *key, const char *label)
{
    const msgpack_object *kind = wr_rpc_find(check, key);
    char mapping[PRINT_TEXT], filtering[PRINT_TEXT];
    if (kind)
        (void)printf("%-11s mapping %s, filtering %s\n", label, print_text(kind, "mapping", mapping),
                     print_text(kind, "filtering", filtering));
}

/* One protocol of one router, or one port by the protocol in use. */
static void print_mapping(const char *label, const msgpack_object *row)
{
    char protocol[PRINT_TEXT], gateway[PRINT_TEXT], code[PRINT_TEXT], text[PRINT_TEXT], external[PRINT_TEXT],
        transport[PRINT_TEXT], left[32];
    (void)printf("%-11s %s by %s", label, print_text(row, "protocol", protocol), print_text(row, "gateway", gateway));
    if (print_u64(row, "port"))
        (void)printf(", port %llu/%s", (unsigned long long)print_u64(row, "port"),
                     print_text(row, "transport", transport));
    if (*print_text(row, "external", external))
        (void)printf(" at %s for %s", external, print_duration(print_u64(row, "left_ms"), left));
    (void)printf(": %s (%s)\n", print_text(row, "text", text), print_text(row, "code", code));
}

static void print_check(const msgpack_object *check)
{
    char four[PRINT_TEXT], six[PRINT_TEXT], external[PRINT_TEXT], layers[PRINT_TEXT];
    uint32_t count;
    print_finding("this node", check);
    const msgpack_object *rows = print_array(check, "findings", &count);
    for (uint32_t i = 0; i < count; i++)
        print_finding(i ? "" : "found", &rows[i]);
    (void)printf("reachable   IPv4 %s, IPv6 %s\n", print_text(check, "reachable4", four),
                 print_text(check, "reachable6", six));
    if (*print_text(check, "external", external))
        (void)printf("outside     %s\n", external);
    (void)printf("layers      %s\n", print_text(check, "layers", layers));
    print_kind(check, "udp");
    print_kind(check, "tcp");
    print_kind6(check, "udp6", "udp, IPv6");
    print_kind6(check, "tcp6", "tcp, IPv6");
    rows = print_array(check, "mappings", &count);
    for (uint32_t i = 0; i < count; i++)
        print_mapping(i ? "" : "router", &rows[i]);
    print_addresses(check);
}

static int run_check(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    char code[PRINT_TEXT];
    bool full = cli->values[0] != NULL;
    if (full && !cli->timeout_given)
        cli->timeout_ms = FULL_TIMEOUT_MS;
    int result = client_open(&c, cli);
    if (result)
        return result;
    wr_pack_bool(client_begin(&c, "check"), "full", full);
    result = client_call(&c, &reply);
    if (result) {
        client_close(&c);
        return result;
    }
    bool public = strcmp(print_text(reply.result, "code", code), "public") == 0;
    if (cli->json)
        print_json_line(reply.result);
    else
        print_check(reply.result);
    return client_end(&c, &reply, public ? CLI_YES : CLI_NO);
}

static const struct cli_flag check_flags[] = {
    {"full", NULL, "find out as well how long the NAT remembers a silent socket: six minutes at most"},
    {NULL, NULL, NULL},
};

const struct cli_command cli_explain_commands[] = {
    {.name = "check",
     .args = "",
     .summary = "say what stands between this node and the world, and what would help",
     .help = "The words are those of RFC 4787; the codes are listed in docs/reasons.md. Exit code 0: strangers reach\n"
             "this node, 1: they do not, or it is not known yet.\n",
     .flags = check_flags,
     .client = true,
     .timeout_ms = 10000,
     .run = run_check},
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
