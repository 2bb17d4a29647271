/* warren run: the node as a program. Settings, log, signals and the loop are here; the rest is
 * node.h. */
#include "cli.h"
#include "print.h"

#include "node/node.h"
#include "transport/env_uv.h"
#include "transport/err.h"
#include "transport/log.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define LISTEN_MAX 64 /* addresses printed at the start */

enum { SIGNAL_TERM, SIGNAL_INT, SIGNAL_HUP, SIGNAL_COUNT };

struct run {
    uv_loop_t loop;
    uv_signal_t signals[SIGNAL_COUNT];
    struct wr_log log;
    struct wr_config config;
    struct wr_env *env;
    struct wr_node *node;
    uint64_t descriptors;
    bool json, stopping;
    int argc; /* of the flags, for reloads */
    char **argv;
};

static void write_log(void *arg, enum wr_log_level level, const char *line)
{
    struct timespec now;
    struct tm tm;
    char when[32];
    (void)arg;
    (void)level;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &tm));
    (void)fprintf(stderr, "time=%s.%03ldZ %s\n", when, now.tv_nsec / 1000000, line);
}

/* ---- signals */

static void stop(struct run *run)
{
    run->stopping = true; /* the node is destroyed outside of every handler */
}

static void on_node_stop(void *arg)
{
    stop(arg);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct run *run = handle->data;
    if (run->stopping)
        _exit(128 + number); /* asked twice */
    stop(run);
}

static void log_keys(const struct run *run, uint32_t keys, const char *what)
{
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++)
        if (keys & UINT32_C(1) << key)
            wr_log(&run->log, WR_LOG_INFO, "config", "%s key=%s", what,
                   wr_config_info((enum wr_config_key)key)->name);
}

/* SIGHUP: a file that is wrong leaves everything as it was. */
static void on_reload_signal(uv_signal_t *handle, int number)
{
    struct run *run = handle->data;
    struct wr_config fresh;
    char err[WR_CONFIG_ERROR];
    uint32_t restart;
    (void)number;
    if (cli_load_config(&fresh, run->argc, run->argv, err) != CLI_YES) {
        wr_log(&run->log, WR_LOG_ERROR, "config", "reload refused, old settings stay err=\"%s\"",
               err);
        return;
    }
    /* Where the socket ended up was settled at the start. */
    (void)wr_config_default(&fresh, WR_CONFIG_CONTROL,
                            wr_config_get(&run->config, WR_CONFIG_CONTROL), err);
    uint32_t moved = wr_config_reload(&run->config, &fresh, &restart);
    (void)wr_log_configure(&run->log, wr_config_get(&run->config, WR_CONFIG_LOG));
    wr_node_reload(run->node, moved);
    log_keys(run, moved, "reloaded");
    log_keys(run, restart, "changed, takes a restart");
    wr_log(&run->log, WR_LOG_INFO, "config", "reload done");
    wr_config_clear(&fresh);
}

static int start_signals(struct run *run)
{
    static const int numbers[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a log at its size limit ends the log, not the node */
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        int error = uv_signal_init(&run->loop, &run->signals[i]);
        if (error)
            return error;
        run->signals[i].data = run;
        error = uv_signal_start(&run->signals[i],
                                i == SIGNAL_HUP ? on_reload_signal : on_stop_signal, numbers[i]);
        if (error)
            return error;
    }
    return 0;
}

/* ---- start */

static bool answers(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(at.sun_path))
        return false;
    memcpy(at.sun_path, path, strlen(path) + 1);
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = sock >= 0 && connect(sock, (struct sockaddr *)&at, sizeof(at)) == 0;
    if (sock >= 0)
        (void)close(sock);
    return yes;
}

/* One user, one socket by default. A second node that was given a directory of its own, but no
 * --control, puts its socket there instead of failing; the ready line says where. */
static int settle_control(struct run *run, char err[static WR_CONFIG_ERROR])
{
    char path[PATH_MAX];
    const struct wr_config *c = &run->config;
    if (c->items[WR_CONFIG_CONTROL].from != WR_CONFIG_FROM_DEFAULT ||
        c->items[WR_CONFIG_DATA].from == WR_CONFIG_FROM_DEFAULT ||
        !answers(wr_config_get(c, WR_CONFIG_CONTROL)))
        return 0;
    int len = snprintf(path, sizeof(path), "%s/control.sock", wr_config_get(c, WR_CONFIG_DATA));
    if (len < 0 || (size_t)len >= sizeof(path))
        return WR_EINVAL;
    return wr_config_default(&run->config, WR_CONFIG_CONTROL, path, err);
}

/* The node makes its data directory; where the socket goes is known here. */
static int make_socket_directory(const struct run *run)
{
    const char *control = wr_config_get(&run->config, WR_CONFIG_CONTROL);
    if (cli_make_parents(control) != 0)
        return cli_fail(CLI_NO, "%s: %s; --control names another path", control, strerror(errno));
    return CLI_YES;
}

/* Connections are descriptors: take what the system grants without asking for more, and say how
 * many that is. */
static uint64_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (soft < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return soft;
    return limit.rlim_max;
}

static void say(const struct run *run, const char *word, const char *value)
{
    if (run->json) {
        (void)printf("{\"%s\":", word);
        print_json_text(stdout, value, strlen(value));
        (void)puts("}");
    } else {
        (void)printf("%-7s %s\n", word, value);
    }
}

static void say_ready(const struct run *run)
{
    struct wr_maddr listening[LISTEN_MAX];
    char text[WR_MADDR_TEXT], peer[WR_PEERID_TEXT];
    say(run, "peer", wr_peerid_print(wr_node_self(run->node), peer));
    size_t count = wr_node_listening(run->node, listening, LISTEN_MAX);
    for (size_t i = 0; i < count; i++)
        say(run, "listen", wr_maddr_print(wr_maddr_bytes(&listening[i]), text, sizeof(text)));
    say(run, "ready", wr_node_control(run->node));
    (void)fflush(stdout);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static int run_loop(struct run *run)
{
    char err[WR_NODE_ERROR];
    struct wr_node_options options = {
        .env = run->env, .config = &run->config, .on_stop = on_node_stop, .arg = run,
        .descriptors = run->descriptors};
    int error = wr_node_create(&options, &run->node, err);
    if (error)
        return cli_fail(CLI_NO, "%s", err);
    say_ready(run);
    wr_env_uv_run(run->env, &run->stopping);
    wr_node_destroy(run->node);
    return CLI_YES;
}

static int run_with_loop(struct run *run)
{
    int result = CLI_NO;
    if (uv_loop_init(&run->loop) != 0)
        return cli_fail(CLI_NO, "no event loop: out of memory or descriptors");
    run->env = wr_env_uv_create(&run->loop, &run->log);
    if (!run->env || start_signals(run) != 0)
        (void)cli_fail(CLI_NO, "no event loop: out of memory or descriptors");
    else
        result = run_loop(run);
    if (run->env)
        wr_env_uv_destroy(run->env);
    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (run->signals[i].loop)
            close_handle((uv_handle_t *)&run->signals[i], NULL);
    (void)uv_run(&run->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&run->loop);
    return result;
}

static int run_run(struct cli *cli)
{
    struct run run = {.argv = cli->argv};
    char err[WR_CONFIG_ERROR];
    for (int i = 0; i < cli->argc; i++) {
        if (strcmp(cli->argv[i], "--json") == 0)
            run.json = true;
        else
            run.argv[run.argc++] = cli->argv[i];
    }
    int result = cli_load_config(&run.config, run.argc, run.argv, err);
    if (result)
        return cli_fail(result, "%s", err);
    run.log.sink = write_log;
    (void)wr_log_configure(&run.log, wr_config_get(&run.config, WR_CONFIG_LOG));
    if (settle_control(&run, err))
        result = cli_fail(CLI_USAGE, "%s", err);
    else if (sodium_init() < 0)
        result = cli_fail(CLI_NO, "the system gives no random bytes");
    else
        result = make_socket_directory(&run);
    if (result == CLI_YES) {
        run.descriptors = raise_descriptors();
        result = run_with_loop(&run);
    }
    wr_config_clear(&run.config);
    return result;
}

const struct cli_command cli_run_commands[] = {
    {.name = "run",
     .args = "[FLAGS]",
     .summary = "run a node until it is stopped",
     .help = "Prints `peer`, `listen` and `ready` lines to standard output, logs to standard "
             "error. SIGTERM\n"
             "and SIGINT stop it, SIGHUP reads the settings file again. Every flag is also a key "
             "of the\n"
             "settings file, $XDG_CONFIG_HOME/warren/warren.conf or --config FILE; `warren config show` prints "
             "all\nwith their defaults.\n",
     .raw = true,
     .run = run_run},
    {.name = NULL},
};
