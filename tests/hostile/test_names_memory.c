/* Name lookups while memory runs out, c-ares's own allocations included: each of them fails in turn, from
 * the making of the channel to the handing over. Each question is answered once, with an answer or an
 * error; the next one on the same environment is answered well; nothing is left over at the end. The
 * program's definitions of malloc and its kin take the place of the C library's (glibc's own are called
 * below them). The name server is a process of its own. */
#include "tests/env/dns_server.h"
#include "tests/hostile/bench.h"
#include "tests/env/loop_step.h"

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EXPORT __attribute__((visibility("default")))
#define NEVER  UINT_MAX

#define LEAKS_OF_1_34    2      /* rounds of one question; see leaks_allowed */
#define BLOCKS_OF_ANSWER 200    /* of the longest, as c-ares reads it: 15 records */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *memory);
EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *realloc(void *old, size_t size);
EXPORT void *aligned_alloc(size_t align, size_t size);
EXPORT void free(void *memory);

static bool armed;    /* one thread allocates here */
static unsigned seen, fail_at = NEVER, failed, leaks;
static long live;

static bool fails(void)
{
    if (!armed || seen++ != fail_at)
        return false;
    failed++;
    errno = ENOMEM;
    return true;
}

static void *born(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *malloc(size_t size)
{
    return fails() ? NULL : born(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : born(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    if (fails())
        return NULL;
    void *memory = __libc_realloc(old, size);
    live += !old && memory;
    live -= old && !memory && !size;
    return memory;
}

void *aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : born(__libc_memalign(align, size));
}

void free(void *memory)
{
    live -= memory != NULL;
    __libc_free(memory);
}

/* ---- the name server ------------------------------------------------------------------------------- */

static pid_t server_pid;
static struct wr_addr server_at;

static void serve(int port_to)
{
    static uint8_t text[3000];    /* over TCP */
    struct bench b;
    bench_start(&b, NULL);
    struct dns_server *server = dns_server_create(b.env, &server_at);
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < sizeof(text); i += 200)
        dns_server_add(server, "long.test", WR_LOOKUP_TXT, WR_BYTES(text + i, 200));
    dns_server_add(server, "one.test", WR_LOOKUP_A, WR_BYTES("\xc0\x00\x02\x01", 4));
    dns_server_add(server, "one.test", WR_LOOKUP_AAAA, WR_BYTES("\x20\x01\x0d\xb8zzzzzzzzzzzz", 16));
    if (write(port_to, &server_at.port, sizeof(server_at.port)) != sizeof(server_at.port))
        _exit(1);
    uv_run(&b.loop, UV_RUN_DEFAULT);    /* until it is killed */
    _exit(1);
}

static int start_server(void **state)
{
    int port[2];
    (void)state;
    server_at = (struct wr_addr){.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    if (pipe(port) != 0 || (server_pid = fork()) < 0)
        return -1;
    if (server_pid == 0)
        serve(port[1]);
    close(port[1]);
    bool told = read(port[0], &server_at.port, sizeof(server_at.port)) == sizeof(server_at.port);
    close(port[0]);
    return told ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    kill(server_pid, SIGKILL);
    return waitpid(server_pid, NULL, 0) == server_pid ? 0 : -1;
}

/* ---- questions ------------------------------------------------------------------------------------- */

struct asked {
    unsigned answers;
    int err;
    size_t count;
};

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    struct asked *q = arg;
    (void)answers;
    q->answers++;
    q->err = err;
    q->count = count;
}

static struct asked ask(struct bench *b, const char *name, enum wr_lookup_type type)
{
    struct asked q = {0, 0, 0};
    struct wr_lookup *lookup;
    int err = wr_env_lookup(b->env, name, type, on_answer, &q, &lookup);
    if (err) {
        assert_int_equal(err, WR_ELIMIT);
        q.err = err;
        return q;
    }
    while (!q.answers)
        loop_step(&b->loop);
    return q;
}

/* In how many rounds of one question blocks are left over: c-ares 1.34 loses an answer for which it cannot note that it
 * is to be handed over (two allocations), 1.18 loses nothing. */
static unsigned leaks_allowed(void)
{
    int version;
    ares_version(&version);
    return version >= 0x012200 ? LEAKS_OF_1_34 : 0;
}

/* One environment from birth to death; `number` of its allocations while it is asked fails. */
static struct asked round_with(unsigned number, const char *name, enum wr_lookup_type type, size_t count)
{
    struct bench b;
    long before = live;
    bench_start(&b, NULL);
    assert_int_equal(wr_env_uv_resolvers(b.env, &server_at, 1), 0);
    seen = failed = 0;
    fail_at = number;
    armed = true;
    struct asked q = ask(&b, name, type);
    armed = false;
    struct asked again = ask(&b, name, type);
    assert_int_equal(again.err, 0);
    assert_int_equal(again.answers, 1);
    assert_int_equal(again.count, count);
    bench_stop(&b);
    assert_true(q.answers <= 1);
    assert_true(live >= before && live - before <= BLOCKS_OF_ANSWER);
    leaks += live != before;
    return q;
}

static void each_in_turn(const char *name, enum wr_lookup_type type, size_t count)
{
    struct asked q = round_with(NEVER, name, type, count);    /* what is made once per process */
    q = round_with(NEVER, name, type, count);
    assert_int_equal(q.err, 0);
    assert_int_equal(q.count, count);
    unsigned total = seen, errors = 0;
    leaks = 0;
    for (unsigned n = 0; n < total; n++) {
        q = round_with(n, name, type, count);
        assert_int_equal(failed, 1);
        /* Without memory for one of the answers it is an error, not a shorter answer. */
        assert_true(q.err < 0 || q.count == count);
        errors += q.err < 0;
    }
    print_message("%s: %u allocations failed, %u of them the question; after %u blocks were left\n", name, total,
                  errors, leaks);
    assert_true(leaks <= leaks_allowed());
    assert_true(total > 20 && errors > 5);
}

static void test_a(void **state)
{
    (void)state;
    each_in_turn("one.test", WR_LOOKUP_A, 1);
}

static void test_aaaa(void **state)
{
    (void)state;
    each_in_turn("one.test", WR_LOOKUP_AAAA, 1);
}

static void test_txt_over_tcp(void **state)
{
    (void)state;
    each_in_turn("long.test", WR_LOOKUP_TXT, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a),
        cmocka_unit_test(test_aaaa),
        cmocka_unit_test(test_txt_over_tcp),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
