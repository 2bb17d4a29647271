/* Log lines: levels per module, the shape of a line, and what a peer cannot put into one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/log.h"

#include <stdio.h>
#include <string.h>

struct captured {
    char line[4096];
    unsigned count;
    enum wr_log_level level;
};

static void capture(void *arg, enum wr_log_level level, const char *line)
{
    struct captured *c = arg;
    snprintf(c->line, sizeof(c->line), "%s", line);
    c->level = level;
    c->count++;
}

static void test_levels(void **state)
{
    (void)state;
    struct captured c = {.count = 0};
    struct wr_log log = {.sink = capture, .arg = &c};
    assert_int_equal(wr_log_configure(&log, "warn,dht=debug,swarm=trace,dht=error"), 0);
    assert_int_equal(log.module_count, 2);
    assert_true(wr_log_wants(&log, WR_LOG_WARN, "relay"));
    assert_false(wr_log_wants(&log, WR_LOG_INFO, "relay"));
    assert_true(wr_log_wants(&log, WR_LOG_TRACE, "swarm"));
    assert_false(wr_log_wants(&log, WR_LOG_WARN, "dht"));
    assert_int_equal(wr_log_configure(&log, "relay=info"), 0);
    assert_true(wr_log_wants(&log, WR_LOG_WARN, "dht"));
    assert_true(wr_log_wants(&log, WR_LOG_INFO, "relay"));
    /* Nothing is left of longer names or of modules that are no longer named. */
    assert_int_equal(wr_log_configure(&log, "error,elevenchars=debug"), 0);
    assert_true(wr_log_wants(&log, WR_LOG_DEBUG, "elevenchars"));
    assert_int_equal(wr_log_configure(&log, "error,dht=debug"), 0);
    assert_true(wr_log_wants(&log, WR_LOG_DEBUG, "dht"));
    assert_int_equal(wr_log_configure(&log, "error"), 0);
    assert_false(wr_log_wants(&log, WR_LOG_DEBUG, "dht"));
    log.sink = NULL;
    assert_false(wr_log_wants(&log, WR_LOG_ERROR, "dht"));
}

static void test_bad_configuration_changes_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "loud",
                                      "info,",
                                      ",info",
                                      "dht=",
                                      "=debug",
                                      "dht=loud",
                                      "info,,dht=debug",
                                      "Info",
                                      "twelve-chars=info",
                                      "a-module-too-long=info",
                                      "info dht=debug"};
    struct wr_log log = {.level = WR_LOG_DEBUG};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(wr_log_configure(&log, bad[i]), WR_EINVAL);
        assert_int_equal(log.level, WR_LOG_DEBUG);
        assert_int_equal(log.module_count, 0);
    }
}

static void test_module_ceiling(void **state)
{
    (void)state;
    char text[512] = "info";
    struct wr_log log = {.level = WR_LOG_ERROR};
    for (int i = 0; i < WR_LOG_MODULES_MAX; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), ",m%d=debug", i);
    assert_int_equal(wr_log_configure(&log, text), 0);
    assert_int_equal(log.module_count, WR_LOG_MODULES_MAX);
    snprintf(text + strlen(text), sizeof(text) - strlen(text), ",one-more=info");
    assert_int_equal(wr_log_configure(&log, text), WR_EINVAL);
}

static void test_line_shape(void **state)
{
    (void)state;
    struct captured c = {.count = 0};
    struct wr_log log = {.sink = capture, .arg = &c, .level = WR_LOG_INFO};
    wr_log(&log, WR_LOG_INFO, "swarm", "listening now addr=%s port=%d", "/ip4/1.2.3.4", 7);
    assert_string_equal(c.line,
                        "level=info mod=swarm msg=\"listening now\" addr=/ip4/1.2.3.4 port=7");
    wr_log(&log, WR_LOG_WARN, "dht", "alone");
    assert_string_equal(c.line, "level=warn mod=dht msg=\"alone\"");
    assert_int_equal(c.level, WR_LOG_WARN);
    wr_log(&log, WR_LOG_ERROR, "dht", "key=%d", 1);
    assert_string_equal(c.line, "level=error mod=dht msg=\"\" key=1");
    assert_int_equal(c.count, 3);
}

static int evaluated(int *count)
{
    return ++*count;
}

static void test_arguments_unevaluated_when_off(void **state)
{
    (void)state;
    struct captured c = {.count = 0};
    struct wr_log log = {.sink = capture, .arg = &c, .level = WR_LOG_INFO};
    int count = 0;
    wr_log(&log, WR_LOG_DEBUG, "dht", "n=%d", evaluated(&count));
    wr_log((struct wr_log *)NULL, WR_LOG_ERROR, "dht", "n=%d", evaluated(&count));
    assert_int_equal(count, 0);
    wr_log(&log, WR_LOG_INFO, "dht", "n=%d", evaluated(&count));
    assert_int_equal(count, 1);
    assert_int_equal(c.count, 1);
}

static void test_foreign_bytes_and_long_lines(void **state)
{
    (void)state;
    struct captured c = {.count = 0};
    struct wr_log log = {.sink = capture, .arg = &c, .level = WR_LOG_INFO};
    wr_log(&log, WR_LOG_INFO, "id", "agent text=%s", "a\nlevel=error\x1b[2J~\x7f\xc3\xa9");
    assert_string_equal(c.line, "level=info mod=id msg=\"agent\" text=a?level=error?[2J~???");
    char big[2 * WR_LOG_LINE_MAX];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    wr_log(&log, WR_LOG_INFO, "id", "%s", big);
    assert_int_equal(strlen(c.line), WR_LOG_LINE_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_bad_configuration_changes_nothing),
        cmocka_unit_test(test_module_ceiling),
        cmocka_unit_test(test_line_shape),
        cmocka_unit_test(test_arguments_unevaluated_when_off),
        cmocka_unit_test(test_foreign_bytes_and_long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
