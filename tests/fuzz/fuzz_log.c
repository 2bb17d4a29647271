/* Texts of the operator and of peers: log levels, log lines, the memory knob. */
#include "fuzz/text.h"
#include "transport/limits.h"
#include "transport/log.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(void *arg, enum wr_log_level level, const char *line)
{
    (void)level;
    size_t len = strlen(line);
    assert(len < WR_LOG_LINE_MAX);
    for (size_t i = 0; i < len; i++)
        assert(line[i] >= ' ' && line[i] <= '~');
    *(bool *)arg = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool called = false;
    struct wr_log log = {.sink = check_line, .arg = &called, .level = WR_LOG_INFO};
    struct wr_limits limits;
    char *text = fuzz_text(data, size);
    if (!text)
        return 0;
    if (wr_log_configure(&log, text) == 0)
        assert(log.module_count <= WR_LOG_MODULES_MAX && log.level <= WR_LOG_TRACE);
    for (size_t i = 0; i < log.module_count; i++)
        assert(memchr(log.modules[i].name, '\0', sizeof(log.modules[i].name)));
    wr_log_write(&log, WR_LOG_ERROR, "fuzz", "%s", text);
    assert(called);
    if (wr_limits_init(&limits, text) == 0)
        for (int i = 0; i < WR_LIMIT_COUNT; i++)
            assert(limits.of[i].max > 0);
    free(text);
    return 0;
}
