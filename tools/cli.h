/* cli.h - what the commands of `warren` share: the table entry, parsed arguments, exit codes,
 * output. */
#ifndef WARREN_CLI_H
#define WARREN_CLI_H

#include "node/config.h"
#include "node/rpc.h"

#include <stdbool.h>
#include <stdint.h>

/* The program's exit codes, part of its interface. */
enum cli_exit { CLI_YES = 0, CLI_NO = 1, CLI_USAGE = 2, CLI_NO_NODE = 3, CLI_TIMEOUT = 4 };

#define CLI_FLAGS_MAX  6
#define CLI_ARGS_MAX   16
#define CLI_NO_TIMEOUT (-1)

struct cli_flag {
    const char *name; /* without --; NULL ends the list */
    const char *arg;  /* "N", or NULL for a switch */
    const char *help;
};

struct cli;

struct cli_command {
    const char *name;    /* one word or two: "dht get" */
    const char *args;    /* "PEER PROTOCOL" */
    const char *summary; /* one line */
    const char *help;    /* paragraphs, each line ended; or NULL */
    const struct cli_flag *flags;
    int args_min, args_max;
    bool client;        /* talks to a node: takes --node */
    bool raw;           /* gets its arguments unparsed */
    int64_t timeout_ms; /* 0: does not wait; else takes --timeout with this default, or
                         * CLI_NO_TIMEOUT: none */
    int (*run)(struct cli *cli);
};

struct cli {
    const struct cli_command *command;
    const char *node; /* --node, or NULL */
    bool json;
    bool timeout_given;
    int64_t timeout_ms;                /* as given, or the command's default */
    const char *values[CLI_FLAGS_MAX]; /* of command->flags, "" for a switch; NULL: not given */
    int argc;
    char **argv; /* words, or what followed a raw command */
    char *words[CLI_ARGS_MAX];
};

/* Tables, each ended by a command without a name. */
extern const struct cli_command cli_run_commands[], cli_own_commands[], cli_look_commands[],
    cli_explain_commands[], cli_connect_commands[], cli_relay_commands[], cli_find_commands[], cli_carry_commands[];

/* "10", "2.5", "500ms", "10s", "2m", "1h" as milliseconds; false when it is none. */
bool cli_parse_duration(const char *text, int64_t *ms);
/* "4096", "64K", "10M", "1G" as bytes. */
bool cli_parse_size(const char *text, uint64_t *bytes);
/* A whole number without sign. */
bool cli_parse_count(const char *text, uint64_t *count);
/* Prints "warren: sentence" to standard error; returns code. */
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A wrong command line: the sentence, and how the command is used. Returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The exit code for an error code of the node ("WR_ETIMEOUT"). */
int cli_exit_for(const char *code);

/* ---- paths that depend on the environment; out has size bytes; false when they do not fit */
bool cli_default_data(char *out, size_t size);    /* $XDG_DATA_HOME/warren */
bool cli_default_control(char *out, size_t size); /* $XDG_RUNTIME_DIR/warren/control.sock */
bool cli_default_config(char *out, size_t size);  /* $XDG_CONFIG_HOME/warren/warren.conf */
/* Makes the directories above a file, or those and dir itself, of mode 0700. 0 or -1 with errno. */
int cli_make_parents(const char *path);
int cli_make_directory(const char *dir);

/* ---- settings as `run` would see them: defaults, then the flags in argv, then the file. CLI_YES,
 * or an exit code with the sentence in err. */
int cli_load_config(struct wr_config *config, int argc, char **argv,
                    char err[static WR_CONFIG_ERROR]);

#endif
