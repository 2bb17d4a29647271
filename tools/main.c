/* warren - the program: finds the command in the tables, parses its arguments, runs it. */
#include "cli.h"
#include "node/nearest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group {
    const char *title;
    const struct cli_command *commands;
};

static const struct group groups[] = {
    {"start", cli_run_commands},     {NULL, cli_own_commands},
    {"look", cli_look_commands},     {NULL, cli_explain_commands},
    {"connect", cli_connect_commands}, {NULL, cli_relay_commands},
    {"discover", cli_find_commands}, {"carry", cli_carry_commands},
};

#define GROUP_COUNT (sizeof(groups) / sizeof(groups[0]))

/* How many words of argv name the command; 0: they do not. */
static int names(const struct cli_command *command, int argc, char **argv)
{
    const char *blank = strchr(command->name, ' ');
    if (argc < 1)
        return 0;
    if (!blank)
        return strcmp(argv[0], command->name) == 0 ? 1 : 0;
    size_t first = (size_t)(blank - command->name);
    return argc >= 2 && strlen(argv[0]) == first && strncmp(argv[0], command->name, first) == 0 &&
                   strcmp(argv[1], blank + 1) == 0
               ? 2
               : 0;
}

static const struct cli_command *find(int argc, char **argv, int *words)
{
    for (size_t g = 0; g < GROUP_COUNT; g++)
        for (const struct cli_command *c = groups[g].commands; c->name; c++)
            if ((*words = names(c, argc, argv)) > 0)
                return c;
    return NULL;
}

/* The command whose name is spelt most like this, or begins so: "stat" is not a misspelt "stop". NULL: none comes
 * near. */
static const char *nearest(const char *name)
{
    const char *best = NULL;
    size_t least = SIZE_MAX;
    for (size_t g = 0; g < GROUP_COUNT; g++) {
        for (const struct cli_command *c = groups[g].commands; c->name; c++) {
            bool begun = strncmp(c->name, name, strlen(name)) == 0;
            size_t edits = begun ? 0 : wr_nearest_distance(name, c->name);
            if (edits >= least)
                continue;
            least = edits;
            best = c->name;
        }
    }
    return wr_nearest_is_near(name, least) ? best : NULL;
}

/* "dht", "key", "config": the next word belongs to the command. */
static bool begins_commands(const char *word)
{
    size_t len = strlen(word);
    for (size_t g = 0; g < GROUP_COUNT; g++)
        for (const struct cli_command *c = groups[g].commands; c->name; c++)
            if (strncmp(c->name, word, len) == 0 && c->name[len] == ' ')
                return true;
    return false;
}

static int no_command(const char *first, const char *second)
{
    char name[2 * WR_NEAREST_MAX];
    if (first[0] == '-')
        return cli_fail(CLI_USAGE, "flags come after the command: warren COMMAND %s ...", first);
    bool group = begins_commands(first);
    if (!group)
        second = NULL;
    (void)snprintf(name, sizeof(name), "%s%s%s", first, second ? " " : "", second ? second : "");
    const char *near = nearest(name);
    if (near)
        return cli_fail(CLI_USAGE, "no command %s; the nearest is %s, `warren help` lists all", name, near);
    return cli_fail(CLI_USAGE, "no command %s; `warren help%s%s` lists all", name, group ? " " : "",
                    group ? first : "");
}

/* ---- help */

static void help_all(FILE *out)
{
    (void)fputs("warren, a peer-to-peer node.\n\nusage: warren COMMAND [ARGUMENTS]\n", out);
    for (size_t g = 0; g < GROUP_COUNT; g++) {
        if (groups[g].title)
            (void)fprintf(out, "\n%s\n", groups[g].title);
        for (const struct cli_command *c = groups[g].commands; c->name; c++) {
            char left[64];
            (void)snprintf(left, sizeof(left), "%s %s", c->name, c->args);
            (void)fprintf(out, "  %-30s %s\n", left, c->summary);
        }
    }
    (void)fputs("\nEvery command takes --json (one object per line) and those that talk to a node\n"
                "--node SOCKET (or $WARREN_NODE). `warren help COMMAND` says more.\n"
                "Exit codes: 0 yes, 1 no, 2 usage, 3 no node running, 4 timed out.\n",
                out);
}

static void help_flag(FILE *out, const char *name, const char *arg, const char *text)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "--%s%s%s", name, arg ? " " : "", arg ? arg : "");
    (void)fprintf(out, "  %-24s %s\n", left, text);
}

static void help_timeout(FILE *out, int64_t ms)
{
    char text[64] = "give up after TIME: 10, 500ms, 2m (never)";
    if (ms != CLI_NO_TIMEOUT)
        (void)snprintf(text, sizeof(text), "give up after TIME: 10, 500ms, 2m (%" PRId64 "s)", ms / 1000);
    help_flag(out, "timeout", "TIME", text);
}

static void help_one(FILE *out, const struct cli_command *c)
{
    (void)fprintf(out, "usage: warren %s%s%s\n\n%s.\n", c->name, *c->args ? " " : "", c->args,
                  c->summary);
    if (c->help)
        (void)fprintf(out, "\n%s", c->help);
    (void)fputc('\n', out);
    for (const struct cli_flag *f = c->flags; f && f->name; f++)
        help_flag(out, f->name, f->arg, f->help);
    for (unsigned key = 0; c->raw && key < WR_CONFIG_COUNT; key++) {
        const struct wr_config_info *info = wr_config_info((enum wr_config_key)key);
        char name[32];
        (void)snprintf(name, sizeof(name), "%s%s", info->toggle ? "no-" : "", info->name);
        char text[128];
        (void)snprintf(text, sizeof(text), "%s%s%s", info->toggle ? "do not " : "", info->help,
                       info->list ? " (repeatable)" : "");
        help_flag(out, name, *info->arg ? info->arg : NULL, text);
    }
    if (c->timeout_ms)
        help_timeout(out, c->timeout_ms);
    if (c->client)
        help_flag(out, "node", "SOCKET", "talk to the node at this control socket");
    help_flag(out, "json", NULL, "one JSON object per line");
}

static int help(int argc, char **argv)
{
    int words;
    if (argc == 0) {
        help_all(stdout);
        return CLI_YES;
    }
    const struct cli_command *command = find(argc, argv, &words);
    if (command) {
        help_one(stdout, command);
        return CLI_YES;
    }
    /* "help dht": every command that starts with that word. */
    bool any = false;
    size_t len = strlen(argv[0]);
    for (size_t g = 0; g < GROUP_COUNT; g++) {
        for (const struct cli_command *c = groups[g].commands; c->name; c++) {
            if (strncmp(c->name, argv[0], len) != 0 || c->name[len] != ' ')
                continue;
            (void)printf("%s  warren %s%s%s\n      %s\n", any ? "" : "commands:\n", c->name, *c->args ? " " : "",
                         c->args, c->summary);
            any = true;
        }
    }
    if (any)
        return CLI_YES;
    return no_command(argv[0], NULL);
}

/* ---- arguments */

/* The value of a flag that takes one: what is behind '=', or the next argument. */
static const char *value_of(struct cli *cli, int argc, char **argv, int *i, int *error)
{
    const char *equals = strchr(argv[*i], '=');
    if (equals)
        return equals + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    *error = cli_usage(cli, "%s needs a value", argv[*i]);
    return "";
}

static bool is_flag(const char *argument, const char *name)
{
    size_t len = strlen(name);
    return strncmp(argument, "--", 2) == 0 && strncmp(argument + 2, name, len) == 0 &&
           (argument[2 + len] == '\0' || argument[2 + len] == '=');
}

/* The flag of the command that was meant; NULL: none comes near. */
static const char *nearest_flag(const struct cli_command *command, const char *argument)
{
    char name[WR_NEAREST_MAX];
    const char *common[] = {"json", command->client ? "node" : NULL, command->timeout_ms ? "timeout" : NULL};
    const char *best = NULL;
    size_t least = SIZE_MAX;
    const struct cli_flag *f = command->flags;
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(argument + 2, "="), argument + 2);
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]) || (f && f->name);) {
        const char *candidate = i < sizeof(common) / sizeof(common[0]) ? common[i++] : f++->name;
        size_t edits = candidate ? wr_nearest_distance(name, candidate) : SIZE_MAX;
        if (edits < least) {
            least = edits;
            best = candidate;
        }
    }
    return wr_nearest_is_near(name, least) ? best : NULL;
}

static int unknown_flag(const struct cli *cli, const char *argument)
{
    const char *near = strncmp(argument, "--", 2) == 0 ? nearest_flag(cli->command, argument) : NULL;
    if (near)
        return cli_usage(cli, "unknown flag %s; the nearest is --%s", argument, near);
    return cli_usage(cli, "unknown flag %s", argument);
}

static int own_flag(struct cli *cli, int argc, char **argv, int *i)
{
    const struct cli_flag *flags = cli->command->flags;
    int error = 0;
    for (size_t f = 0; flags && flags[f].name; f++) {
        if (!is_flag(argv[*i], flags[f].name))
            continue;
        if (flags[f].arg)
            cli->values[f] = value_of(cli, argc, argv, i, &error);
        else if (strchr(argv[*i], '='))
            return cli_usage(cli, "--%s takes no value", flags[f].name);
        else
            cli->values[f] = "";
        return error;
    }
    return unknown_flag(cli, argv[*i]);
}

static int common_flag(struct cli *cli, int argc, char **argv, int *i)
{
    int error = 0;
    if (strcmp(argv[*i], "--json") == 0) {
        cli->json = true;
    } else if (cli->command->client && is_flag(argv[*i], "node")) {
        cli->node = value_of(cli, argc, argv, i, &error);
    } else if (cli->command->timeout_ms && is_flag(argv[*i], "timeout")) {
        const char *text = value_of(cli, argc, argv, i, &error);
        cli->timeout_given = true;
        if (!error && !cli_parse_duration(text, &cli->timeout_ms))
            return cli_usage(cli, "--timeout: \"%s\" is no time; 10, 500ms and 2m are, up to a day",
                             text);
    } else {
        return own_flag(cli, argc, argv, i);
    }
    return error;
}

static int parse(struct cli *cli, int argc, char **argv)
{
    bool words_only = false;
    cli->argv = cli->words;
    for (int i = 0; i < argc; i++) {
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = true;
        } else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
            int error = common_flag(cli, argc, argv, &i);
            if (error)
                return error;
        } else if (cli->argc == cli->command->args_max || cli->argc == CLI_ARGS_MAX) {
            return cli_usage(cli, "unexpected \"%s\"", argv[i]);
        } else {
            cli->words[cli->argc++] = argv[i];
        }
    }
    if (cli->argc < cli->command->args_min)
        return cli_usage(cli, "an argument is missing");
    return CLI_YES;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    int words;
    if (argc < 2) {
        help_all(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "--help") == 0)
        return help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--version") == 0)
        argv[1] += 2;
    const struct cli_command *command = find(argc - 1, argv + 1, &words);
    if (!command) {
        if (argc == 2 || argv[2][0] == '-') {
            (void)help(1, argv + 1); /* "warren dht": its commands; else that there is none */
            return CLI_USAGE;
        }
        return no_command(argv[1], argv[2]);
    }
    struct cli cli = {.command = command, .timeout_ms = command->timeout_ms};
    argc -= 1 + words;
    argv += 1 + words;
    if (wants_help(argc, argv)) {
        help_one(stdout, command);
        return CLI_YES;
    }
    if (command->raw) {
        cli.argc = argc;
        cli.argv = argv;
        return command->run(&cli);
    }
    int error = parse(&cli, argc, argv);
    return error ? error : command->run(&cli);
}
