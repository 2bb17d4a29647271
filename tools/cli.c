#include "cli.h"

#include "transport/err.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool cli_parse_count(const char *text, uint64_t *count)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    *count = v;
    return errno == 0 && *end == '\0';
}

bool cli_parse_duration(const char *text, int64_t *ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1e3}, {"s", 1e3}, {"ms", 1}, {"m", 6e4}, {"min", 6e4}, {"h", 3.6e6}};
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    double v = strtod(text, &end);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        v *= units[i].ms;
        if (v < 1 || v > 86400000) /* the node takes no more than a day */
            return false;
        *ms = (int64_t)v;
        return true;
    }
    return false;
}

bool cli_parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (errno || (*end && (!unit || end[1])))
        return false;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (v > UINT64_MAX >> shift)
        return false;
    *bytes = (uint64_t)v << shift;
    return true;
}

int cli_fail(int code, const char *format, ...)
{
    va_list args;
    (void)fflush(stdout);
    (void)fputs("warren: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return code;
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;
    (void)fprintf(stderr, "warren %s: ", cli->command->name);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, "\nusage: warren %s%s%s; `warren help %s` says more\n",
                  cli->command->name, *cli->command->args ? " " : "", cli->command->args,
                  cli->command->name);
    return CLI_USAGE;
}

int cli_exit_for(const char *code)
{
    if (strcmp(code, "WR_ETIMEOUT") == 0)
        return CLI_TIMEOUT;
    return strcmp(code, "WR_EINVAL") == 0 ? CLI_USAGE : CLI_NO;
}

/* ---- paths */

static const char *home(void)
{
    const char *dir = getenv("HOME");
    if (dir && *dir)
        return dir;
    const struct passwd *user = getpwuid(getuid());
    return user && user->pw_dir ? user->pw_dir : "/";
}

/* $variable/tail, or ~/instead/tail. The XDG specification ignores values that are not absolute. */
static bool xdg(const char *variable, const char *instead, const char *tail, char *out, size_t size)
{
    const char *dir = getenv(variable);
    int len = dir && dir[0] == '/' ? snprintf(out, size, "%s/%s", dir, tail)
                                   : snprintf(out, size, "%s/%s/%s", home(), instead, tail);
    return len > 0 && (size_t)len < size;
}

bool cli_default_data(char *out, size_t size)
{
    return xdg("XDG_DATA_HOME", ".local/share", "warren", out, size);
}

bool cli_default_config(char *out, size_t size)
{
    return xdg("XDG_CONFIG_HOME", ".config", "warren/warren.conf", out, size);
}

bool cli_default_control(char *out, size_t size)
{
    const char *named = getenv("WARREN_NODE");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (named && *named) {
        int len = snprintf(out, size, "%s", named);
        return len > 0 && (size_t)len < size;
    }
    if (runtime && runtime[0] == '/')
        return xdg("XDG_RUNTIME_DIR", "", "warren/control.sock", out, size);
    /* No session: a system service, su, cron. The data directory is always the user's own. */
    return xdg("XDG_DATA_HOME", ".local/share", "warren/control.sock", out, size);
}

int cli_make_directory(const char *dir)
{
    char path[PATH_MAX];
    size_t len = strlen(dir);
    if (len >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        path[i] = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            int error = errno;
            struct stat info;
            if (stat(path, &info) != 0) { /* read-only file systems say EROFS of what is there */
                errno = error;
                return -1;
            }
        }
        path[i] = i == len ? '\0' : '/';
    }
    return 0;
}

int cli_make_parents(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    if ((size_t)(slash - path) >= sizeof(dir)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    return cli_make_directory(dir);
}

/* ---- settings */

static int exit_for(int error)
{
    return error == WR_EINVAL || error == WR_ENOTFOUND ? CLI_USAGE : CLI_NO;
}

int cli_load_config(struct wr_config *config, int argc, char **argv,
                    char err[static WR_CONFIG_ERROR])
{
    char path[PATH_MAX];
    int error = wr_config_init(config, err);
    if (!error && cli_default_data(path, sizeof(path)))
        error = wr_config_default(config, WR_CONFIG_DATA, path, err);
    if (!error && cli_default_control(path, sizeof(path)))
        error = wr_config_default(config, WR_CONFIG_CONTROL, path, err);
    for (int i = 0; !error && i < argc;)
        error = wr_config_flag(config, argc, argv, &i, err);
    const char *file = error ? "" : wr_config_get(config, WR_CONFIG_CONFIG);
    if (*file)
        error = wr_config_file(config, file, err);
    else if (!error && cli_default_config(path, sizeof(path)) && access(path, F_OK) == 0)
        error = wr_config_file(config, path, err);
    if (!error)
        error = wr_config_finish(config, err);
    if (error)
        wr_config_clear(config);
    return error ? exit_for(error) : CLI_YES;
}
