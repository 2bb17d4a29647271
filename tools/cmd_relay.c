/* Commands about relays: those that hold a place for us, and ours that others use. */
#include "client.h"
#include "print.h"

#include <stdio.h>
#include <string.h>

static void print_relay(const msgpack_object *relay)
{
    char peer[PRINT_TEXT], state[PRINT_TEXT], text[32], addr[PRINT_TEXT];
    uint32_t count;
    (void)printf("relay       %s  %s", print_text(relay, "peer", peer), print_text(relay, "state", state));
    if (print_number(relay, "rtt_ms") > 0)
        (void)printf(", %.0f ms away", print_number(relay, "rtt_ms"));
    if (print_bool(relay, "doubted"))
        (void)printf(", in doubt: nothing comes through");
    if (strcmp(state, "held") == 0)
        (void)printf(", for another %s", print_duration(print_u64(relay, "expires_ms"), text));
    (void)printf("%s\n", print_bool(relay, "owner") ? ", named by you" : "");
    if (print_bool(relay, "limited") && print_u64(relay, "limit_seconds"))
        (void)printf("            a connection lives %s",
                     print_duration(1000 * print_u64(relay, "limit_seconds"), text));
    if (print_bool(relay, "limited") && print_u64(relay, "limit_bytes"))
        (void)printf("%s %s each way", print_u64(relay, "limit_seconds") ? " and carries" : "            it carries",
                     print_size(print_u64(relay, "limit_bytes"), text));
    if (print_bool(relay, "limited"))
        (void)printf("\n");
    const msgpack_object *rows = print_array(relay, "addrs", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("            %s\n", print_element(&rows[i], addr));
}

/* What circuits through this node may carry. */
static void print_rates(const msgpack_object *lent)
{
    uint64_t all = print_u64(lent, "rate"), each = print_u64(lent, "rate_each");
    char size[32];
    if (!all && !each) {
        (void)puts("            circuits go as fast as they can");
        return;
    }
    (void)fputs("            at most", stdout);
    if (all)
        (void)printf(" %s/s for all circuits", print_size(all, size));
    if (each)
        (void)printf("%s %s/s for each", all ? "," : "", print_size(each, size));
    (void)fputc('\n', stdout);
}

/* The node names so many at most. */
static void print_others(const char *word, uint64_t all, uint32_t named)
{
    if (all > named)
        (void)printf("%-11s and %llu more\n", word, (unsigned long long)(all - named));
}

static void print_lent(const msgpack_object *lent)
{
    char mode[PRINT_TEXT], peer[PRINT_TEXT], ip[PRINT_TEXT], to[PRINT_TEXT], age[32], size[32], places[48],
        circuits[48], refusals[48];
    uint32_t count;
    (void)printf("lent        %s (mode %s)\n",
                 print_bool(lent, "offered") ? "others may use this node as a relay" : "not to others",
                 print_text(lent, "mode", mode));
    print_rates(lent);
    (void)printf("            so far %s granted, %s, %s, %s carried\n",
                 print_count(print_u64(lent, "granted"), "place", places),
                 print_count(print_u64(lent, "connected"), "circuit", circuits),
                 print_count(print_u64(lent, "refused"), "refusal", refusals), print_size(print_u64(lent, "bytes"), size));
    const msgpack_object *rows = print_array(lent, "guests", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("guest       %s  %s, for %s, %s, %s\n", print_text(&rows[i], "peer", peer),
                     print_text(&rows[i], "ip", ip), print_duration(print_u64(&rows[i], "since_ms"), age),
                     print_count(print_u64(&rows[i], "circuits"), "circuit", circuits),
                     print_size(print_u64(&rows[i], "bytes"), size));
    print_others("guest", print_u64(lent, "guests_now"), count);
    rows = print_array(lent, "circuits", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("circuit     %s -> %s, for %s, %s\n", print_text(&rows[i], "from", peer),
                     print_text(&rows[i], "to", to), print_duration(print_u64(&rows[i], "age_ms"), age),
                     print_size(print_u64(&rows[i], "bytes_from") + print_u64(&rows[i], "bytes_to"), size));
    print_others("circuit", print_u64(lent, "circuits_now"), count);
}

/* Relays that were named and hold no place, not even asked for one now: looked for, refused, or gone. */
static void print_named(const msgpack_object *status, const msgpack_object *relays, uint32_t count)
{
    char addr[PRINT_TEXT], peer[PRINT_TEXT];
    uint32_t named;
    const msgpack_object *use = print_array(status, "use", &named);
    for (uint32_t i = 0; i < named; i++) {
        bool listed = false;
        (void)print_element(&use[i], addr);
        for (uint32_t k = 0; k < count && !listed; k++)
            listed = strstr(addr, print_text(&relays[k], "peer", peer)) != NULL;
        if (!listed)
            (void)printf("relay       %s  holds no place for us, named by you\n", addr);
    }
}

static void print_status(const msgpack_object *status)
{
    static const struct {
        const char *search, *text;
    } words[] = {{"off", "not needed: strangers reach this node"},
                 {"waiting", "not known yet whether strangers reach this node"},
                 {"searching", "searching: fewer relays than wanted"},
                 {"content", "as many as wanted"}};
    char search[PRINT_TEXT];
    uint32_t count;
    (void)print_text(status, "search", search);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(search, words[i].search) == 0)
            (void)printf("relays      %s\n", words[i].text);
    const msgpack_object *rows = print_array(status, "relays", &count);
    for (uint32_t i = 0; i < count; i++)
        print_relay(&rows[i]);
    print_named(status, rows, count);
    const msgpack_object *refusal = wr_rpc_find(status, "last_refusal");
    if (refusal) {
        char peer[PRINT_TEXT], text[PRINT_TEXT];
        (void)printf("refused     by %s: %s (%llu)\n", print_text(refusal, "peer", peer),
                     print_text(refusal, "text", text), (unsigned long long)print_u64(refusal, "status"));
    }
    const msgpack_object *lent = wr_rpc_find(status, "lent");
    if (lent)
        print_lent(lent);
}

static int run_status(struct cli *cli)
{
    return client_tell(cli, "relay.status", NULL, NULL, print_status);
}

static void print_mode(const msgpack_object *result)
{
    char mode[PRINT_TEXT];
    (void)printf("relay %s: %s\n", print_text(result, "mode", mode),
                 print_bool(result, "offered") ? "others may use this node" : "others may not use this node now");
}

static int run_auto(struct cli *cli)
{
    return client_tell(cli, "relay.auto", NULL, NULL, print_mode);
}

static int run_on(struct cli *cli)
{
    return client_tell(cli, "relay.on", NULL, NULL, print_mode);
}

static int run_off(struct cli *cli)
{
    return client_tell(cli, "relay.off", NULL, NULL, print_mode);
}

static void print_use(const msgpack_object *result)
{
    char peer[PRINT_TEXT];
    (void)printf("%s %s\n", print_bool(result, "removed") ? "no longer used:" : "used:",
                 print_text(result, "peer", peer));
}

static int run_use(struct cli *cli)
{
    struct client c;
    int result = client_open(&c, cli);
    if (result)
        return result;
    struct wr_pack *p = client_begin(&c, "relay.use");
    wr_pack_text(p, "addr", cli->argv[0]);
    if (cli->values[0])
        wr_pack_bool(p, "remove", true);
    return client_show(&c, print_use);
}

static const struct cli_flag use_flags[] = {
    {.name = "remove", .help = "use it no longer"},
    {.name = NULL},
};

#define LASTS "Until the node ends; the setting `relay` decides at its next start.\n"

const struct cli_command cli_relay_commands[] = {
    {.name = "relay status",
     .args = "",
     .summary = "the relays that hold a place for us, and who uses ours",
     .client = true,
     .run = run_status},
    {.name = "relay auto",
     .args = "",
     .summary = "relay for others while everybody reaches this node",
     .help = LASTS,
     .client = true,
     .run = run_auto},
    {.name = "relay on",
     .args = "",
     .summary = "relay for others in any case",
     .help = LASTS,
     .client = true,
     .run = run_on},
    {.name = "relay off",
     .args = "",
     .summary = "do not relay for others",
     .help = "Ends every place that others hold and every circuit at once.\n" LASTS,
     .client = true,
     .run = run_off},
    {.name = "relay use",
     .args = "ADDR | PEER",
     .summary = "hold a place at this relay, whatever others are found",
     .help = "Until the node ends; the setting `use-relay` makes it last.\n",
     .flags = use_flags,
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .run = run_use},
    {.name = NULL},
};
