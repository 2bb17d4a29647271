/* log.h - levelled key=value lines to one sink. Value.
 * Lines look like: level=info mod=swarm msg="listening" addr=/ip4/...; the sink adds the time.
 * One line per change of state, no ciphertext, peer ids whole. */
#ifndef WR_LOG_H
#define WR_LOG_H

#include <stdbool.h>

enum wr_log_level { WR_LOG_ERROR, WR_LOG_WARN, WR_LOG_INFO, WR_LOG_DEBUG, WR_LOG_TRACE };

#define WR_LOG_MODULES_MAX 16      /* per-module levels */
#define WR_LOG_LINE_MAX    2048    /* bytes of a line and NUL; longer ones are cut. Ours */

struct wr_log {
    /* Called with one line without a newline. */
    void (*sink)(void *arg, enum wr_log_level level, const char *line);
    void *arg;
    enum wr_log_level level;    /* of modules not named below */
    struct {
        char name[12];
        enum wr_log_level level;
    } modules[WR_LOG_MODULES_MAX];
    unsigned module_count;
};

/* "info", or "info,dht=debug,swarm=trace"; earlier per-module levels are forgotten. 0, WR_EINVAL (log
 * unchanged). */
int wr_log_configure(struct wr_log *log, const char *text);
bool wr_log_wants(const struct wr_log *log, enum wr_log_level level, const char *module);
const char *wr_log_level_name(enum wr_log_level level);
/* The words before the first key=value become msg="..."; bytes outside printable ASCII become '?'. */
void wr_log_write(const struct wr_log *log, enum wr_log_level level, const char *module,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

/* wr_log(log, WR_LOG_INFO, "dht", "lookup done peers=%zu", n); arguments are not evaluated when the
 * level is off. log may be NULL. */
#define wr_log(log, level, module, ...)                                                            \
    do {                                                                                           \
        const struct wr_log *wr_log_to_ = (log);                                                   \
        if (wr_log_to_ && wr_log_wants(wr_log_to_, (level), (module)))                             \
            wr_log_write(wr_log_to_, (level), (module), __VA_ARGS__);                              \
    } while (0)

#endif
