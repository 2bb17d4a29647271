#include "transport/log.h"

#include "transport/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const LEVELS[] = {"error", "warn", "info", "debug", "trace"};

#define LEVEL_COUNT (sizeof(LEVELS) / sizeof(LEVELS[0]))

static bool parse_level(const char *text, size_t len, enum wr_log_level *level)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (strlen(LEVELS[i]) == len && memcmp(LEVELS[i], text, len) == 0) {
            *level = (enum wr_log_level)i;
            return true;
        }
    }
    return false;
}

static bool set_module(struct wr_log *log, const char *name, size_t len, enum wr_log_level level)
{
    unsigned i = 0;
    if (len == 0 || len >= sizeof(log->modules[0].name) ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") < len)
        return false;
    while (i < log->module_count &&
           (strlen(log->modules[i].name) != len || memcmp(log->modules[i].name, name, len) != 0))
        i++;
    if (i == WR_LOG_MODULES_MAX)
        return false;
    if (i == log->module_count)
        log->module_count++;
    memset(log->modules[i].name, 0, sizeof(log->modules[i].name));
    memcpy(log->modules[i].name, name, len);
    log->modules[i].level = level;
    return true;
}

int wr_log_configure(struct wr_log *log, const char *text)
{
    struct wr_log next = *log;
    next.module_count = 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        const char *equals = memchr(text, '=', len);
        enum wr_log_level level;
        if (equals) {
            size_t name_len = (size_t)(equals - text);
            if (!parse_level(equals + 1, len - name_len - 1, &level) ||
                !set_module(&next, text, name_len, level))
                return WR_EINVAL;
        } else {
            if (!parse_level(text, len, &level))
                return WR_EINVAL;
            next.level = level;
        }
        if (!text[len])
            break;
        text += len + 1;
    }
    *log = next;
    return 0;
}

bool wr_log_wants(const struct wr_log *log, enum wr_log_level level, const char *module)
{
    if (!log->sink)
        return false;
    for (unsigned i = 0; i < log->module_count; i++)
        if (strcmp(log->modules[i].name, module) == 0)
            return level <= log->modules[i].level;
    return level <= log->level;
}

const char *wr_log_level_name(enum wr_log_level level)
{
    return (size_t)level < LEVEL_COUNT ? LEVELS[level] : "unknown";
}

/* Where the message ends and the key=value words begin. */
static size_t message_len(const char *text)
{
    size_t equals = strcspn(text, "=");
    if (!text[equals])
        return equals;
    while (equals > 0 && text[equals - 1] != ' ')
        equals--;
    return equals;
}

void wr_log_write(const struct wr_log *log, enum wr_log_level level, const char *module,
                  const char *format, ...)
{
    char text[WR_LOG_LINE_MAX], line[WR_LOG_LINE_MAX];
    va_list args;
    if (!log->sink)
        return;
    va_start(args, format);
    int made = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (made < 0)
        return;
    /* Words of a peer's choosing come by here: they cannot start a line or drive a terminal. */
    for (char *c = text; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    size_t message = message_len(text);
    const char *fields = text + message;
    int message_width = (int)(message && fields[0] ? message - 1 : message);
    snprintf(line, sizeof(line), "level=%s mod=%s msg=\"%.*s\"%s%s", wr_log_level_name(level),
             module, message_width, text, fields[0] ? " " : "", fields);
    log->sink(log->arg, level, line);
}
