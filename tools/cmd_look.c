/* Commands that look at the node and at its peers. */
#include "client.h"
#include "print.h"

#include "transport/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One JSON line per element, or false for people's form. */
static bool json_rows(const struct cli *cli, const msgpack_object *rows, uint32_t count)
{
    for (uint32_t i = 0; cli->json && i < count; i++)
        print_json_line(&rows[i]);
    return cli->json;
}

/* ---- status */

#define OBSERVED_ROWS 3 /* more do not fit one screen; --json has them */

static void status_observed(const msgpack_object *status)
{
    char listen[PRINT_TEXT], seen[PRINT_TEXT];
    uint32_t count;
    const msgpack_object *rows = print_array(status, "observed", &count);
    for (uint32_t i = 0; i < count && i < OBSERVED_ROWS; i++)
        (void)printf("%-11s %-52s by %" PRIu64 " of %" PRIu64 " networks, for %s\n", i ? "" : "seen at",
                     print_text(&rows[i], "seen", seen), print_u64(&rows[i], "networks"),
                     print_u64(&rows[i], "of"), print_text(&rows[i], "listen", listen));
    if (count > OBSERVED_ROWS)
        (void)printf("%-11s and %" PRIu32 " more\n", "", count - OBSERVED_ROWS);
}

static void status_kind(const msgpack_object *nat, const char *name, const char *title)
{
    const msgpack_object *kind = wr_rpc_find(nat, name);
    char mapping[PRINT_TEXT], filtering[PRINT_TEXT], alloc[PRINT_TEXT];
    if (!kind || !print_u64(kind, "samples"))
        return;
    (void)printf("nat %-7s mapping %s, filtering %s, ports %s\n", title,
                 print_text(kind, "mapping", mapping), print_text(kind, "filtering", filtering),
                 print_text(kind, "allocation", alloc));
}

static void status_nat(const msgpack_object *status)
{
    const msgpack_object *nat = wr_rpc_find(status, "nat");
    if (!nat)
        return;
    status_kind(nat, "udp", "UDP");
    status_kind(nat, "tcp", "TCP");
}

/* Of all connections together; `warren peers` has each. */
static void status_paths(const msgpack_object *status)
{
    const msgpack_object *paths = wr_rpc_find(status, "paths");
    char window[32];
    if (print_number(paths, "rtt_max_ms") > 0)
        (void)printf("paths       round trips of %.1f to %.1f ms, windows of %s, %" PRIu64 " segments of tcp sent again\n",
                     print_number(paths, "rtt_min_ms"), print_number(paths, "rtt_max_ms"),
                     print_size(print_u64(paths, "cwnd"), window), print_u64(paths, "retransmits"));
}

static void status_relays(const msgpack_object *status)
{
    const msgpack_object *relays = wr_rpc_find(status, "relays");
    char search[PRINT_TEXT], guests[48], circuits[48];
    if (!relays)
        return;
    if (strcmp(print_text(relays, "search", search), "off") == 0 && !print_u64(relays, "held"))
        (void)printf("relays      none needed");
    else
        (void)printf("relays      %" PRIu64 " %s a place for this node", print_u64(relays, "held"),
                     print_u64(relays, "held") == 1 ? "holds" : "hold");
    if (print_bool(relays, "lent"))
        (void)printf("; ours has %s, %s\n", print_count(print_u64(relays, "guests"), "guest", guests),
                     print_count(print_u64(relays, "circuits"), "circuit", circuits));
    else
        (void)puts("; ours is not lent");
}

static void status_peers(const msgpack_object *status)
{
    char in[32], out[32];
    const msgpack_object *peers = wr_rpc_find(status, "peers");
    const msgpack_object *quic = wr_rpc_find(status, "quic");
    (void)printf("peers       %llu (%llu direct, %llu relayed, %llu on the local network)\n",
                 (unsigned long long)print_u64(peers, "connected"),
                 (unsigned long long)print_u64(peers, "direct"),
                 (unsigned long long)print_u64(peers, "relayed"),
                 (unsigned long long)print_u64(peers, "lan"));
    (void)printf("connections %llu in, %llu out; %llu over tcp, %llu over quic; %llu by noise, %llu by tls\n",
                 (unsigned long long)print_u64(peers, "inbound"),
                 (unsigned long long)print_u64(peers, "outbound"),
                 (unsigned long long)print_u64(peers, "tcp"),
                 (unsigned long long)print_u64(peers, "quic"),
                 (unsigned long long)print_u64(peers, "noise"),
                 (unsigned long long)print_u64(peers, "tls"));
    status_paths(status);
    (void)printf("quic        %llu times slowed down by losses, %llu changes of address\n",
                 (unsigned long long)print_u64(quic, "loss_events"),
                 (unsigned long long)print_u64(quic, "migrations"));
    (void)printf("traffic     %s in, %s out\n", print_size(print_u64(status, "bytes_in"), in),
                 print_size(print_u64(status, "bytes_out"), out));
}

static void status_dht(const msgpack_object *status)
{
    char mode[PRINT_TEXT], peers[48];
    const msgpack_object *dht = wr_rpc_find(status, "dht");
    (void)print_text(dht, "mode", mode);
    if (strcmp(mode, "off") == 0)
        (void)puts("dht         off");
    else
        (void)printf("dht         %s, %s in the table, queries running: %" PRIu64 "\n", mode,
                     print_count(print_u64(dht, "table"), "peer", peers), print_u64(dht, "queries"));
}

static void status_budgets(const msgpack_object *status)
{
    char name[PRINT_TEXT];
    uint32_t count, shown = 0;
    const msgpack_object *rows = print_array(status, "limits", &count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t used = print_u64(&rows[i], "used"), max = print_u64(&rows[i], "max");
        uint64_t refused = print_u64(&rows[i], "refused");
        if (used * 4 < max && !refused)
            continue;
        (void)printf("%-11s %s ", shown++ ? "" : "budgets", print_text(&rows[i], "name", name));
        if (wr_rpc_find(&rows[i], "used"))
            (void)printf("%" PRIu64 " of ", used);
        (void)printf("%" PRIu64 ", %" PRIu64 " refused\n", max, refused);
    }
    if (!shown)
        (void)puts("budgets     all below a quarter; `warren limits` lists them");
}

static void status_warnings(const msgpack_object *status)
{
    char text[PRINT_TEXT], command[PRINT_TEXT];
    uint32_t count;
    const msgpack_object *rows = print_array(status, "warnings", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("warning     %s; see `%s`\n", print_text(&rows[i], "text", text),
                     print_text(&rows[i], "command", command));
}

static void print_status(const msgpack_object *status)
{
    char text[PRINT_TEXT], other[PRINT_TEXT], six[PRINT_TEXT], uptime[32];
    (void)printf("peer        %s\n", print_text(status, "peer", text));
    (void)printf("version     %s, up %s\n", print_text(status, "version", text),
                 print_duration(print_u64(status, "uptime_ms"), uptime));
    (void)printf("network     %s%s\n", print_text(status, "network", text),
                 print_bool(status, "private") ? ", private" : "");
    (void)printf("reachable   %s (IPv4 %s, IPv6 %s)\n", print_text(status, "reachable", text),
                 print_text(status, "reachable4", other), print_text(status, "reachable6", six));
    status_nat(status);
    (void)printf("limits      %s\n", print_text(status, "limits_knob", other));
    print_addresses(status);
    status_observed(status);
    status_peers(status);
    status_relays(status);
    status_dht(status);
    status_budgets(status);
    status_warnings(status);
}

static int run_status(struct cli *cli)
{
    return client_tell(cli, "status", NULL, NULL, print_status);
}

/* ---- id */

static void print_list(const msgpack_object *map, const char *key, const char *label)
{
    char text[PRINT_TEXT];
    uint32_t count;
    const msgpack_object *rows = print_array(map, key, &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("%-11s %s\n", label, print_element(&rows[i], text));
}

static void print_id(const msgpack_object *id)
{
    char text[PRINT_TEXT];
    (void)printf("%-11s %s\n", "peer", print_text(id, "peer", text));
    (void)printf("%-11s %s\n", "agent", print_text(id, "agent", text));
    print_list(id, "listen", "listen");
    print_list(id, "addrs", "announced");
    print_list(id, "protocols", "protocol");
}

static int run_id(struct cli *cli)
{
    return client_tell(cli, "id", NULL, NULL, print_id);
}

/* ---- peers */

static int run_peers(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint32_t count;
    int result = client_ask(&c, cli, "peers", NULL, NULL, &reply);
    if (result)
        return result;
    const msgpack_object *rows = print_array(reply.result, "peers", &count);
    if (json_rows(cli, rows, count))
        return client_end(&c, &reply, CLI_YES);
    if (count)
        (void)printf("%-52s  %-7s  %-3s  %-7s  %9s  %9s  %6s  %5s  %7s  %8s  %-20s  %s\n", "PEER", "PATH",
                     "DIR", "OVER", "RTT", "WINDOW", "LOSSES", "MOVES", "STREAMS", "AGE", "AGENT",
                     "ADDRESS");
    for (uint32_t i = 0; i < count; i++) {
        char peer[PRINT_TEXT], path[PRINT_TEXT], dir[PRINT_TEXT], agent[PRINT_TEXT],
            addr[PRINT_TEXT], over[PRINT_TEXT];
        char age[32], window[32] = "-", rtt[32] = "-";
        double ms = print_number(&rows[i], "rtt_ms");
        uint64_t cwnd = print_u64(&rows[i], "cwnd");
        if (cwnd)
            (void)print_size(cwnd, window);
        if (ms > 0)
            (void)snprintf(rtt, sizeof(rtt), "%.1f ms", ms);
        (void)printf("%-52s  %-7s  %-3.3s  %-7s  %9s  %9s  %6llu  %5llu  %7llu  %8s  %-20.20s  %s\n",
                     print_text(&rows[i], "peer", peer), print_text(&rows[i], "path", path),
                     print_text(&rows[i], "direction", dir), print_text(&rows[i], "transport", over), rtt,
                     window,
                     (unsigned long long)(print_u64(&rows[i], "loss_events") +
                                          print_u64(&rows[i], "retransmits")),
                     (unsigned long long)print_u64(&rows[i], "migrations"),
                     (unsigned long long)print_u64(&rows[i], "streams"),
                     print_duration(print_u64(&rows[i], "age_ms"), age),
                     print_text(&rows[i], "agent", agent), print_text(&rows[i], "addr", addr));
    }
    if (print_u64(reply.result, "left_out"))
        (void)printf("and %llu more\n", (unsigned long long)print_u64(reply.result, "left_out"));
    if (!count)
        (void)puts("no peers; `warren connect ADDR` connects to one");
    return client_end(&c, &reply, CLI_YES);
}

/* ---- ping */

enum { PING_COUNT, PING_INTERVAL };

static const struct cli_flag ping_flags[] = {
    {"count", "N", "how many (4; 0: until stopped)"},
    {"interval", "TIME", "between them (1s)"},
    {NULL, NULL, NULL},
};

static void on_pong(void *arg, const msgpack_object *pong)
{
    const struct cli *cli = arg;
    char peer[PRINT_TEXT], path[PRINT_TEXT], addr[PRINT_TEXT], error[PRINT_TEXT];
    if (cli->json)
        print_json_line(pong);
    else if (*print_text(pong, "text", error))
        (void)printf("%s  %s\n", print_text(pong, "peer", peer), error);
    else
        (void)printf("%s  %.3f ms  %s  %s%s\n", print_text(pong, "peer", peer),
                     print_number(pong, "rtt_ms"), print_text(pong, "path", path),
                     print_text(pong, "addr", addr),
                     print_bool(pong, "upgraded") ? "  upgraded" : "");
    (void)fflush(stdout);
}

static int run_ping(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint64_t count = 4;
    int64_t every = 1000, patience = cli->timeout_ms;
    if (cli->values[PING_COUNT] && !cli_parse_count(cli->values[PING_COUNT], &count))
        return cli_usage(cli, "--count: \"%s\" is no number", cli->values[PING_COUNT]);
    if (cli->values[PING_INTERVAL] && !cli_parse_duration(cli->values[PING_INTERVAL], &every))
        return cli_usage(cli, "--interval: \"%s\" is no time; 10, 500ms and 2m are, up to a day", cli->values[PING_INTERVAL]);
    cli->timeout_ms = CLI_NO_TIMEOUT; /* it counts for each reply, not for the call */
    int result = client_open(&c, cli);
    if (result)
        return result;
    c.on_progress = on_pong;
    c.progress_arg = cli;
    struct wr_pack *p = client_begin(&c, "ping");
    wr_pack_text(p, "peer", cli->argv[0]);
    wr_pack_u64(p, "count", count);
    wr_pack_u64(p, "every_ms", (uint64_t)every);
    wr_pack_u64(p, "reply_timeout_ms", (uint64_t)patience);
    result = client_call(&c, &reply);
    if (result == CLI_YES)
        wr_rpc_message_clear(&reply);
    client_close(&c);
    return result;
}

/* ---- events */

static const struct cli_flag events_flags[] = {
    {"count", "N", "end after N events"},
    {NULL, NULL, NULL},
};

static void print_event(const struct cli *cli, const msgpack_object *event)
{
    if (cli->json) {
        print_json_line(event);
        return;
    }
    char name[PRINT_TEXT], when[32], text[PRINT_TEXT];
    time_t seconds = (time_t)(print_u64(event, "unix_ms") / 1000);
    struct tm tm;
    (void)strftime(when, sizeof(when), "%H:%M:%S", localtime_r(&seconds, &tm));
    (void)printf("%s  %s", when, print_text(event, "event", name));
    for (uint32_t i = 0; i < event->via.map.size; i++) {
        const msgpack_object_kv *kv = &event->via.map.ptr[i];
        (void)print_element(&kv->key, text);
        if (strcmp(text, "event") == 0 || strcmp(text, "seq") == 0 || strcmp(text, "unix_ms") == 0)
            continue;
        (void)printf("  %s=", text);
        if (kv->val.type == MSGPACK_OBJECT_STR)
            (void)fputs(print_element(&kv->val, text), stdout);
        else
            print_json(stdout, &kv->val);
    }
    (void)putchar('\n');
    (void)fflush(stdout);
}

static int run_events(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message m;
    uint64_t count = 0;
    if (cli->values[0] && !cli_parse_count(cli->values[0], &count))
        return cli_usage(cli, "--count: \"%s\" is no number", cli->values[0]);
    int result = client_ask(&c, cli, "subscribe", NULL, NULL, &m);
    if (result)
        return result;
    wr_rpc_message_clear(&m);
    int64_t started = client_now();
    for (uint64_t seen = 0; !count || seen < count;) {
        int64_t left = cli->timeout_ms == CLI_NO_TIMEOUT ? CLI_NO_TIMEOUT
                                                         : started + cli->timeout_ms - client_now();
        result = left < 0 && left != CLI_NO_TIMEOUT ? CLI_TIMEOUT : client_next(&c, left, &m);
        if (result)
            break;
        if (wr_bytes_equal(m.method, WR_BYTES_STR("event")) && m.params) {
            print_event(cli, m.params);
            seen++;
        }
        wr_rpc_message_clear(&m);
    }
    client_close(&c);
    return result;
}

/* ---- metrics, limits */

/* Prometheus text as objects: {"metric": "name{labels}", "value": 1}. */
static void json_metrics(const char *text, size_t len)
{
    while (len) {
        const char *end = memchr(text, '\n', len);
        size_t line = end ? (size_t)(end - text) : len;
        const char *blank = line ? memrchr(text, ' ', line) : NULL;
        if (blank && text[0] != '#') {
            (void)fputs("{\"metric\":", stdout);
            print_json_text(stdout, text, (size_t)(blank - text));
            (void)printf(",\"value\":%.*s}\n", (int)(text + line - blank - 1), blank + 1);
        }
        line += end != NULL;
        text += line;
        len -= line;
    }
}

static int run_metrics(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    int result = client_ask(&c, cli, "metrics", NULL, NULL, &reply);
    if (result)
        return result;
    const msgpack_object *text = wr_rpc_find(reply.result, "text");
    if (text && text->type == MSGPACK_OBJECT_STR) {
        if (cli->json)
            json_metrics(text->via.str.ptr, text->via.str.size);
        else
            (void)fwrite(text->via.str.ptr, 1, text->via.str.size, stdout);
    }
    return client_end(&c, &reply, CLI_YES);
}

static int run_limits(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message reply;
    uint32_t count;
    int result = client_ask(&c, cli, "limits", NULL, NULL, &reply);
    if (result)
        return result;
    const msgpack_object *rows = print_array(reply.result, "limits", &count);
    if (json_rows(cli, rows, count))
        return client_end(&c, &reply, CLI_YES);
    char knob[PRINT_TEXT];
    (void)printf("%-26s %12s %12s %12s %9s\n", "LIMIT", "USED", "PEAK", "CEILING", "REFUSED");
    for (uint32_t i = 0; i < count; i++) {
        char name[PRINT_TEXT], unit[PRINT_TEXT], text[3][32];
        static const char *const fields[] = {"used", "peak", "max"};
        (void)print_text(&rows[i], "unit", unit);
        for (int f = 0; f < 3; f++) {
            uint64_t v = print_u64(&rows[i], fields[f]);
            if (!wr_rpc_find(&rows[i], fields[f]))
                (void)snprintf(text[f], sizeof(text[f]), "-");    /* it holds for each one of many */
            else if (strcmp(unit, "bytes") == 0)
                (void)print_size(v, text[f]);
            else
                (void)snprintf(text[f], sizeof(text[f]), "%llu", (unsigned long long)v);
        }
        (void)printf("%-26s %12s %12s %12s %9llu\n", print_text(&rows[i], "name", name), text[0],
                     text[1], text[2], (unsigned long long)print_u64(&rows[i], "refused"));
    }
    (void)printf("all from one knob: --limits %s\n", print_text(reply.result, "knob", knob));
    return client_end(&c, &reply, CLI_YES);
}

const struct cli_command cli_look_commands[] = {
    {.name = "status",
     .args = "",
     .summary = "show on one screen how the node is doing",
     .client = true,
     .run = run_status},
    {.name = "id",
     .args = "",
     .summary = "show the node's peer id, addresses and protocols",
     .client = true,
     .run = run_id},
    {.name = "peers",
     .args = "",
     .summary = "list connected peers",
     .client = true,
     .run = run_peers},
    {.name = "ping",
     .args = "PEER",
     .summary = "measure the round trip to a peer, and name the path",
     .help = "PEER is a peer id, which is looked up, or an address that ends in /p2p/ID. --timeout "
             "counts\n"
             "for each reply. One reply makes it a success.\n",
     .flags = ping_flags,
     .args_min = 1,
     .args_max = 1,
     .client = true,
     .timeout_ms = 10000,
     .run = run_ping},
    {.name = "events",
     .args = "",
     .summary = "print what happens, as it happens",
     .help = "Events that come faster than they are read are left out, and counted by an event "
             "`lost`.\n",
     .flags = events_flags,
     .client = true,
     .timeout_ms = CLI_NO_TIMEOUT,
     .run = run_events},
    {.name = "metrics",
     .args = "",
     .summary = "print counters in the Prometheus text form",
     .client = true,
     .run = run_metrics},
    {.name = "limits",
     .args = "",
     .summary = "list every ceiling, its use and what it refused",
     .client = true,
     .run = run_limits},
    {.name = NULL},
};
