/* The power fails at random moments of a node's lives, the very first start included. The directory that is left
 * serves another start: under the identity that was told, with every rule that was answered for, and none by halves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/env/loop_step.h"
#include "tests/hostile/bench.h"
#include "tests/hostile/tape.h"

#include "node/node.h"
#include "transport/peerid.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define POINTS 240    /* power failures */
#define LIVES  6
#define RULES  8      /* of one life */
#define TOLD   1      /* mark: the identity was told; more: so many rules as well */

#define ANSWERED 8    /* bytes in front of a result: a response of four, to call 7, no error */

struct life {
    struct bench b;
    struct wr_config config;
    struct wr_node *node;
    char dir[BENCH_PATH], control[BENCH_PATH + 16];    /* of the socket, which nobody records */
};

static void on_stop(void *arg)
{
    (void)arg;
    fail();
}

static void begin(struct life *l, const char *data)
{
    char err[WR_CONFIG_ERROR], why[WR_NODE_ERROR], text[1024];
    bench_make_dir(l->dir);
    snprintf(l->control, sizeof(l->control), "%s/sock", l->dir);
    snprintf(text, sizeof(text),
             "data = %s\ncontrol = %s\nlisten = /ip4/127.0.0.1/tcp/0\nnetwork = lab\nbootstrap = none\nmdns = no\n"
             "portmap = no\nlimits = small\n",
             data, l->control);
    assert_int_equal(wr_config_init(&l->config, err), 0);
    assert_int_equal(wr_config_text(&l->config, "here", text, err), 0);
    assert_int_equal(wr_config_finish(&l->config, err), 0);
    bench_start(&l->b, NULL);
    struct wr_node_options o = {.env = l->b.env, .config = &l->config, .on_stop = on_stop};
    if (wr_node_create(&o, &l->node, why) != 0)
        fail_msg("%s", why);
}

static void end(struct life *l)
{
    wr_node_destroy(l->node);
    bench_stop(&l->b);
    wr_config_clear(&l->config);
    bench_remove_dir(l->dir);
}

/* One call over the control socket; the answer, which is no error. */
static size_t call(struct life *l, const void *request, size_t len, char *answer, size_t room)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, l->control, strlen(l->control) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(send(fd, request, len, MSG_NOSIGNAL), len);
    size_t have = 0;
    for (;;) {
        ssize_t got = recv(fd, answer + have, room - have, MSG_DONTWAIT);
        if (got == 0)
            break;
        if (got > 0)
            have += (size_t)got;
        else if (errno != EAGAIN)
            fail_msg("the control socket: %s", strerror(errno));
        else if (have)
            break;
        else
            loop_step(&l->b.loop);
    }
    (void)close(fd);
    assert_true(have > ANSWERED && memcmp(answer, "\xdd\x00\x00\x00\x04\x01\x07\xc0", ANSWERED) == 0);
    return have;
}

static void rule_text(unsigned number, char out[static 16])
{
    snprintf(out, 16, "45.%u.0.0/16", 100 + number);
    assert_int_equal(strlen(out), 13);
}

static void add_rule(struct life *l, unsigned number)
{
    char request[64], what[16], answer[256];
    rule_text(number, what);
    int len = snprintf(request, sizeof(request), "\x94%c\x07\xa5" "block\x91\x81\xa4" "what\xad%s", 0, what);
    (void)call(l, request, (size_t)len, answer, sizeof(answer));
}

/* They were added in this order: as many as there are, none but the first so many. */
static unsigned count_rules(struct life *l)
{
    static const char request[] = "\x94\x00\x07\xa5rules\x91\x80";
    char what[16], answer[8192];
    unsigned count = 0, behind = 0;
    size_t len = call(l, request, sizeof(request) - 1, answer, sizeof(answer));
    for (unsigned i = 1; i <= LIVES * RULES; i++) {
        rule_text(i, what);
        bool there = memmem(answer, len, what, strlen(what)) != NULL;
        count += there && !behind;
        behind += !there || behind;
        assert_false(there && behind);
    }
    return count;
}

static void live(const char *data, struct wr_peerid *self)
{
    struct life l;
    unsigned rules = 0;
    for (unsigned turn = 0; turn < LIVES; turn++) {
        begin(&l, data);
        if (turn == 0) {
            *self = *wr_node_self(l.node);
            tape_mark(TOLD);
        }
        for (unsigned i = 0; i < RULES; i++) {
            add_rule(&l, ++rules);
            tape_mark(TOLD + rules);
        }
        end(&l);
    }
}

static void check(const char *data, uint32_t marked, const struct wr_peerid *self)
{
    struct life l;
    char damaged[BENCH_PATH + 32];
    begin(&l, data);
    if (marked >= TOLD)
        assert_true(wr_peerid_equal(wr_node_self(l.node), self));
    unsigned rules = count_rules(&l);
    assert_in_range(rules, marked > TOLD ? marked - TOLD : 0, LIVES * RULES);
    end(&l);
    snprintf(damaged, sizeof(damaged), "%s/store/store.mdb.damaged", data);
    assert_int_not_equal(access(damaged, F_OK), 0);
}

static void test_power_failures(void **state)
{
    (void)state;
    char dir[BENCH_PATH];
    struct wr_peerid self;
    struct timespec t;
    const char *given = getenv("WARREN_SEED");
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)t.tv_nsec;
    print_message("WARREN_SEED=%llu\n", (unsigned long long)seed);
    srand((unsigned)seed);
    bench_make_dir(dir);
    tape_start(dir);
    live(dir, &self);
    tape_stop();
    bench_remove_dir(dir);
    struct tape_counts c = tape_count();
    print_message("recorded: %zu writes, %zu of meta pages, %zu syncs, %zu of directories, %zu in all\n", c.writes,
                  c.dsync_writes, c.syncs, c.dir_syncs, tape_length());
    assert_true(c.writes > 3 * LIVES && c.dsync_writes >= LIVES * RULES && c.syncs > LIVES * RULES && c.dir_syncs >= 3);
    uint32_t marked, most = 0, unmarked = 0;
    for (unsigned i = 0; i < POINTS; i++) {
        /* Half of them in the first fifth, where all files come into being. */
        size_t span = i % 2 ? tape_length() / 5 : tape_length() + 1;
        bench_make_dir(dir);
        tape_play((size_t)rand() % span, seed + i, dir, &marked);
        check(dir, marked, &self);
        bench_remove_dir(dir);
        most = marked > most ? marked : most;
        unmarked += marked == 0;
    }
    /* Otherwise nothing of the above was a test. */
    assert_true(most > TOLD + RULES && unmarked > 0);
    tape_free();
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    /* What is durable is the tape's word, not the disk's, which may have other things to do. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_failures)};
    return cmocka_run_group_tests_name("node_power", tests, NULL, NULL);
}
