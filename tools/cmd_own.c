/* Commands around the node itself: wait, stop, key, config, version. */
#include "client.h"
#include "print.h"

#include "node/control.h"
#include "node/keyfile.h"
#include "transport/err.h"
#include "transport/peerid.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- wait */

enum { WAIT_ONLINE, WAIT_REACHABLE, WAIT_PEER };

static const struct cli_flag wait_flags[] = {
    {"online", NULL, "until a peer is connected and the DHT has one (the default)"},
    {"reachable", NULL, "until an address of ours is known to be reachable"},
    {"peer", "PEER", "until this peer is connected"},
    {NULL, NULL, NULL},
};

/* With a --timeout the node may still be starting: its socket is waited for too. */
static int open_patiently(struct client *c, struct cli *cli)
{
    char path[PATH_MAX];
    const struct timespec pause = {0, 50 * 1000 * 1000};
    if (cli->node)
        (void)snprintf(path, sizeof(path), "%s", cli->node);
    else if (!cli_default_control(path, sizeof(path)))
        path[0] = '\0';
    while (cli->timeout_given && cli->timeout_ms > 50 && access(path, F_OK) != 0) {
        (void)nanosleep(&pause, NULL);
        cli->timeout_ms -= 50;
    }
    return client_open(c, cli);
}

static int run_wait(struct cli *cli)
{
    static const char *const names[] = {"online", "reachable", "peer"};
    struct client c;
    int what = WAIT_ONLINE, given = 0;
    for (int i = 0; i <= WAIT_PEER; i++) {
        if (!cli->values[i])
            continue;
        what = i;
        given++;
    }
    if (given > 1)
        return cli_usage(cli, "one of --online, --reachable and --peer at a time");
    int result = open_patiently(&c, cli);
    if (result)
        return result;
    struct wr_pack *p = client_begin(&c, "wait");
    wr_pack_text(p, "for", names[what]);
    if (what == WAIT_PEER)
        wr_pack_text(p, "peer", cli->values[WAIT_PEER]);
    return client_show(&c, NULL);
}

/* ---- stop */

static int run_stop(struct cli *cli)
{
    struct client c;
    struct wr_rpc_message m;
    int result = client_ask(&c, cli, "stop", NULL, NULL, &m);
    if (result)
        return result;
    if (cli->json)
        print_json_line(m.result);
    return client_end(&c, &m, client_wait_end(&c));
}

/* ---- key */

static const struct cli_flag key_flags[] = {
    {"data", "DIR", "the key of this data directory, where FILE is not given"},
    {NULL, NULL, NULL},
};

static bool key_path(const struct cli *cli, char *out, size_t size)
{
    char data[PATH_MAX];
    int len;
    if (cli->argc) {
        len = snprintf(out, size, "%s", cli->argv[0]);
    } else if (cli->values[0]) {
        len = snprintf(out, size, "%s/identity.key", cli->values[0]);
    } else {
        if (!cli_default_data(data, sizeof(data)))
            return false;
        len = snprintf(out, size, "%s/identity.key", data);
    }
    return len > 0 && (size_t)len < size;
}

static int key_error(const char *path, int error)
{
    struct stat st;
    switch (error) {
    case WR_ENOTFOUND:
        return cli_fail(
            CLI_NO, "%s: no such file; `warren key new` or the first `warren run` makes one", path);
    case WR_EEXIST:
        return cli_fail(CLI_NO, "%s exists; an identity is never overwritten: move it away first",
                        path);
    case WR_EPERM:
        if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)))
            return cli_fail(CLI_NO, "%s: others can get at it; `chmod 600 %s` closes it", path,
                            path);
        return cli_fail(CLI_NO,
                        "%s: permission denied; run this as the user it belongs to, or name "
                        "another file",
                        path);
    case WR_ECORRUPT:
        return cli_fail(CLI_NO, "%s is not an Ed25519 key in libp2p form; restore a copy of it",
                        path);
    default:
        return cli_fail(CLI_NO, "%s: %s", path, wr_err_text(error));
    }
}

static int print_key(const struct cli *cli, const char *path, const struct wr_key *key)
{
    char peer[WR_PEERID_TEXT];
    struct wr_peerid id;
    struct wr_buf public_key;
    wr_buf_init(&public_key, WR_PUBKEY_MAX);
    wr_key_encode_public(key, &public_key);
    bool good = !public_key.full && wr_peerid_from_pubkey(wr_buf_bytes(&public_key), &id) == 0;
    wr_buf_clear(&public_key);
    if (!good)
        return cli_fail(CLI_NO, "out of memory");
    (void)wr_peerid_print(&id, peer);
    if (cli->json) {
        (void)printf("{\"peer\":\"%s\",\"type\":\"ed25519\",\"file\":", peer);
        print_json_text(stdout, path, strlen(path));
        (void)puts("}");
    } else {
        (void)printf("%s\n", peer);
    }
    return CLI_YES;
}

static int run_key_new(struct cli *cli)
{
    char path[PATH_MAX];
    uint8_t seed[WR_ED25519_SEED];
    struct wr_key key;
    if (!key_path(cli, path, sizeof(path)))
        return cli_fail(CLI_USAGE, "the path is too long");
    if (!cli->argc && cli_make_parents(path) != 0)
        return cli_fail(CLI_NO, "%s: %s", path, strerror(errno));
    if (sodium_init() < 0)
        return cli_fail(CLI_NO, "the system gives no random bytes");
    randombytes_buf(seed, sizeof(seed));
    wr_key_generate(&key, seed);
    sodium_memzero(seed, sizeof(seed));
    int error = wr_keyfile_write(path, &key);
    int result;
    if (error == WR_ENOTFOUND)
        result = cli_fail(CLI_NO, "%s: there is no such directory; make it first", path);
    else
        result = error ? key_error(path, error) : print_key(cli, path, &key);
    wr_key_clear(&key);
    return result;
}

static int run_key_show(struct cli *cli)
{
    char path[PATH_MAX];
    struct wr_key key;
    if (!key_path(cli, path, sizeof(path)))
        return cli_fail(CLI_USAGE, "the path is too long");
    int error = wr_keyfile_read(path, &key);
    if (error)
        return key_error(path, error);
    int result = print_key(cli, path, &key);
    wr_key_clear(&key);
    return result;
}

/* ---- config */

static void show_key(const struct wr_config *config, enum wr_config_key key, bool json)
{
    const struct wr_config_info *info = wr_config_info(key);
    const struct wr_config_item *item = &config->items[key];
    const char *from = wr_config_from_name(item->from);
    if (json) {
        (void)printf("{\"key\":\"%s\",\"value\":", info->name);
        (void)fputs(info->list ? "[" : "", stdout);
        for (size_t i = 0; i < item->count; i++) {
            (void)fputs(i ? "," : "", stdout);
            print_json_text(stdout, item->values[i], strlen(item->values[i]));
        }
        if (!info->list && !item->count)
            (void)fputs("null", stdout);
        (void)printf("%s,\"from\":\"%s\",\"line\":%u,\"live\":%s}\n", info->list ? "]" : "", from,
                     item->line, info->live ? "true" : "false");
        return;
    }
    char origin[64];
    (void)snprintf(origin, sizeof(origin), item->line ? "%s, line %u" : "%s", from, item->line);
    if (!item->count) { /* none of a list can be written in a file; no value cannot */
        char line[64];
        (void)snprintf(line, sizeof(line), info->list ? "%s = none" : "; %s is not set",
                       info->name);
        (void)printf("%-60s ; %s\n", line, origin);
    }
    for (size_t i = 0; i < item->count; i++) {
        char line[WR_CONFIG_VALUE_MAX + 64];
        (void)snprintf(line, sizeof(line), "%s = %s", info->name, item->values[i]);
        (void)printf("%-60s ; %s\n", line, origin);
    }
}

static int run_config_show(struct cli *cli)
{
    char err[WR_CONFIG_ERROR];
    struct wr_config config;
    int argc = 0;
    for (int i = 0; i < cli->argc; i++) { /* --json is ours, the rest belongs to run */
        if (strcmp(cli->argv[i], "--json") == 0)
            cli->json = true;
        else
            cli->argv[argc++] = cli->argv[i];
    }
    int result = cli_load_config(&config, argc, cli->argv, err);
    if (result)
        return cli_fail(result, "%s", err);
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++)
        if (key != WR_CONFIG_CONFIG)
            show_key(&config, (enum wr_config_key)key, cli->json);
    wr_config_clear(&config);
    return CLI_YES;
}

static int run_config_check(struct cli *cli)
{
    char err[WR_CONFIG_ERROR];
    struct wr_config config;
    char *flags[] = {(char[]){"--config"}, cli->argv[0]};
    int result = cli_load_config(&config, 2, flags, err);
    if (result == CLI_YES) {
        uint8_t psk[WR_PNET_KEY];
        const char *path = wr_config_get(&config, WR_CONFIG_PSK);
        if (*path && wr_keyfile_read_psk(path, psk, err, sizeof(err)) != 0)
            result = CLI_NO;
        sodium_memzero(psk, sizeof(psk));
        wr_config_clear(&config);
    }
    if (cli->json) {
        (void)printf("{\"ok\":%s,\"text\":", result ? "false" : "true");
        print_json_text(stdout, result ? err : "", result ? strlen(err) : 0);
        (void)puts("}");
    } else if (result) {
        (void)cli_fail(CLI_NO, "%s", err);
    } else {
        (void)printf("%s is fine\n", cli->argv[0]);
    }
    return result ? CLI_NO : CLI_YES;
}

/* ---- version */

static int run_version(struct cli *cli)
{
    if (cli->json)
        (void)printf("{\"version\":\"%s\",\"api\":%d}\n", WARREN_VERSION, WR_CONTROL_API);
    else
        (void)printf("warren %s\n", WARREN_VERSION);
    return CLI_YES;
}

const struct cli_command cli_own_commands[] = {
    {.name = "wait",
     .args = "[--reachable | --peer P]",
     .summary = "wait until the node is connected, reachable, or has a peer",
     .help = "With --timeout the node need not be running yet: its socket is waited for as well.\n",
     .flags = wait_flags,
     .client = true,
     .timeout_ms = CLI_NO_TIMEOUT,
     .run = run_wait},
    {.name = "stop",
     .args = "",
     .summary = "stop the node and wait until it is gone",
     .client = true,
     .timeout_ms = 10000,
     .run = run_stop},
    {.name = "key new",
     .args = "[FILE]",
     .summary = "make an identity and print its peer id",
     .help = "Without FILE: identity.key in the data directory. A file that exists is never "
             "replaced.\n",
     .flags = key_flags,
     .args_max = 1,
     .run = run_key_new},
    {.name = "key show",
     .args = "[FILE]",
     .summary = "print the peer id of an identity",
     .flags = key_flags,
     .args_max = 1,
     .run = run_key_show},
    {.name = "config show",
     .args = "[FLAGS OF RUN]",
     .summary = "print every setting as `run` would see it, and where it is from",
     .raw = true,
     .run = run_config_show},
    {.name = "config check",
     .args = "FILE",
     .summary = "say whether a settings file is right",
     .args_min = 1,
     .args_max = 1,
     .run = run_config_check},
    {.name = "version", .args = "", .summary = "print the version", .run = run_version},
    {.name = NULL},
};
