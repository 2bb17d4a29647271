/* What only the real environment has: files, descriptors, signals, the cost of doing nothing. */
#include "tests/env/contract_end.h"
#include "tests/env/dns_server.h"

#include "transport/env_uv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static uv_loop_t *loop_of(struct contract *c)
{
    return contract_uv_loop(c);
}

/* ---- local sockets --------------------------------------------------------------------------------- */

static void the_socket_file(void **state)
{
    struct contract *c = *state;
    struct hall hall = {.c = c};
    struct stat st;
    char path[128];
    snprintf(path, sizeof(path), "%s/s", contract_store(c));
    mode_t old = umask(0);
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, &hall, &hall.listener), 0);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    hall_close(&hall);
    assert_int_equal(stat(path, &st), -1);
}

static void a_stale_file_is_replaced(void **state)
{
    struct contract *c = *state;
    struct hall hall = {.c = c};
    struct end client = {.c = c};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", contract_store(c));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    close(fd);    /* as a crash leaves it */
    assert_int_equal(wr_env_connect_local(c->a, sa.sun_path, &end_ops, &client, &client.sock), WR_EREFUSED);
    assert_int_equal(wr_env_listen_local(c->a, sa.sun_path, &hall_ops, &hall, &hall.listener), 0);
    assert_int_equal(wr_env_connect_local(c->b, sa.sun_path, &end_ops, &client, &client.sock), 0);
    UNTIL(c, client.open && hall.count == 1);
    end_close(&client, false);
    hall_close(&hall);
}

static void other_files_are_left_alone(void **state)
{
    struct contract *c = *state;
    struct hall hall = {.c = c};
    struct stat st;
    char path[256];
    snprintf(path, sizeof(path), "%s/precious", contract_store(c));
    close(open(path, O_CREAT | O_WRONLY, 0644));
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, &hall, &hall.listener), WR_EINUSE);
    assert_int_equal(stat(path, &st), 0);
    memset(path, 'x', 200);
    path[200] = 0;
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, &hall, &hall.listener), WR_EINVAL);
    assert_int_equal(wr_env_connect_local(c->a, path, &end_ops, &hall, &hall.ends[0].sock), WR_EINVAL);
    /* Somebody took our path meanwhile: it is theirs. */
    snprintf(path, sizeof(path), "%s/s", contract_store(c));
    assert_int_equal(wr_env_listen_local(c->a, path, &hall_ops, &hall, &hall.listener), 0);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    hall_close(&hall);
    assert_int_equal(stat(path, &st), 0);
    unlink(path);
}

/* Reads from a blocking descriptor; with *passed, the descriptor that came along, or -1. */
static size_t receive(int fd, void *data, size_t len, int *passed)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &msg, 0);
    assert_true(n > 0);
    struct cmsghdr *found = CMSG_FIRSTHDR(&msg);
    *passed = -1;
    if (found)
        memcpy(passed, CMSG_DATA(found), sizeof(*passed));
    return (size_t)n;
}

static void descriptors_are_passed(void **state)
{
    struct contract *c = *state;
    struct end x = {.c = c};
    int other, passed, pipe_fds[2];
    char byte;
    assert_int_equal(wr_env_socketpair(c->a, &end_ops, &x, &x.sock, &other), 0);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(wr_sock_write_fd(x.sock, (const uint8_t *)"A", 1, pipe_fds[1]), 0);
    assert_int_equal(receive(other, &byte, 1, &passed), 1);
    assert_int_not_equal(passed, -1);
    assert_int_equal(write(passed, "z", 1), 1);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    close(passed);
    /* And when it has to wait: at its very byte, though the caller's own is closed by then. */
    static uint8_t bulk[2 << 20];
    assert_int_equal(wr_sock_write(x.sock, bulk, sizeof(bulk)), 0);
    assert_true(wr_sock_backlog(x.sock) > 0);
    assert_int_equal(wr_sock_write_fd(x.sock, (const uint8_t *)"B", 1, pipe_fds[1]), 0);
    assert_int_equal(wr_sock_write(x.sock, (const uint8_t *)"CDE", 3), 0);
    close(pipe_fds[1]);
    size_t total = 0, at = 0;
    fcntl(other, F_SETFL, O_NONBLOCK);
    while (total < sizeof(bulk) + 4) {
        static uint8_t buffer[65536];
        contract_run(c, WR_MSEC);
        struct iovec iov = {buffer, sizeof(buffer)};
        char control[CMSG_SPACE(sizeof(int))] = {0};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(other, &msg, 0);
        if (n <= 0)
            continue;
        struct cmsghdr *found = CMSG_FIRSTHDR(&msg);
        if (found) {    /* the kernel ends a read behind the message that a descriptor came with */
            at = total + (size_t)n - 4;
            assert_memory_equal(buffer + n - 4, "BCDE", 4);
            memcpy(&passed, CMSG_DATA(found), sizeof(passed));
        }
        total += (size_t)n;
    }
    assert_int_equal(at, sizeof(bulk));
    assert_int_equal(write(passed, "y", 1), 1);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(passed);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 0);    /* our copy of it is closed as well */
    close(pipe_fds[0]);
    close(other);
    UNTIL(c, x.closed);
}

/* With the first bytes of a long message, and only with them. */
static void a_descriptor_is_passed_once(void **state)
{
    struct contract *c = *state;
    struct end x = {.c = c};
    static uint8_t bulk[2 << 20], buffer[65536];
    int other, passed;
    unsigned count = 0;
    assert_int_equal(wr_env_socketpair(c->a, &end_ops, &x, &x.sock, &other), 0);
    assert_int_equal(wr_sock_write_fd(x.sock, bulk, sizeof(bulk), other), 0);
    assert_true(wr_sock_backlog(x.sock) > 0 && wr_sock_backlog(x.sock) < sizeof(bulk));
    for (size_t total = 0; total < sizeof(bulk);) {
        total += receive(other, buffer, sizeof(buffer), &passed);
        count += passed >= 0;
        if (passed >= 0)
            close(passed);
        contract_run(c, WR_MSEC);
    }
    assert_int_equal(count, 1);
    end_close(&x, false);
    close(other);
}

/* A descriptor waiting to be passed is not lost with its socket. */
static void a_waiting_descriptor_is_closed(void **state)
{
    struct contract *c = *state;
    struct end x = {.c = c};
    static uint8_t bulk[2 << 20];
    int other, pipe_fds[2];
    char byte;
    assert_int_equal(wr_env_socketpair(c->a, &end_ops, &x, &x.sock, &other), 0);
    assert_int_equal(pipe(pipe_fds), 0);
    wr_sock_write(x.sock, bulk, sizeof(bulk));
    assert_int_equal(wr_sock_write_fd(x.sock, (const uint8_t *)"B", 1, pipe_fds[1]), 0);
    close(pipe_fds[1]);
    end_close(&x, true);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 0);    /* the last writer is gone */
    close(pipe_fds[0]);
    close(other);
}

/* ---- sockets ----------------------------------------------------------------------------------------- */

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void no_signal_from_a_closed_peer(void **state)
{
    struct contract *c = *state;
    struct end x = {.c = c};
    int other;
    signals = 0;
    void (*old)(int) = signal(SIGPIPE, on_signal);
    assert_int_equal(wr_env_socketpair(c->a, &end_ops, &x, &x.sock, &other), 0);
    close(other);
    end_send(&x, 100);
    UNTIL(c, x.closed);
    assert_int_equal(signals, 0);
    signal(SIGPIPE, old);
}

/* A peer that only stops to read makes every write fail; the socket ends although nothing arrives. */
static void a_peer_that_reads_no_more(void **state)
{
    struct contract *c = *state;
    struct end x = {.c = c};
    int other;
    assert_int_equal(wr_env_socketpair(c->a, &end_ops, &x, &x.sock, &other), 0);
    shutdown(other, SHUT_RD);
    end_send(&x, 100);
    assert_int_equal(wr_sock_backlog(x.sock), 0);
    UNTIL(c, x.closed);
    assert_int_equal(x.err, WR_ERESET);
    close(other);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

/* Small messages leave at once, and do not queue behind megabytes: on accepted sockets as well. */
static void stream_options(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    unsigned connected = 0;
    for (int fd = 3; fd < 200; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof(peer);
        if (option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
            continue;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0 || peer.sin_family != AF_INET)
            continue;
        connected++;
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 128 * 1024);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    assert_int_equal(connected, 2);
    assert_true(wr_sock_rtt(client.sock) > 0);
    struct wr_sock_stats stats;
    wr_sock_stats(client.sock, &stats);
    assert_int_equal(stats.rtt, wr_sock_rtt(client.sock));
    assert_true(stats.cwnd >= stats.mtu && stats.mtu > 1000);
    assert_int_equal(stats.retransmits, 0);
    end_close(&client, true);
    hall_close(&hall);
}

/* A child of fork that still holds our descriptors keeps no events of theirs alive. */
static void closed_here_and_open_in_a_child(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    int hold[2];
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) != 0);
    }
    close(hold[0]);
    end_close(&hall.ends[0], false);
    end_send(&client, 1000);    /* arrives: the child keeps the connection open, and readable */
    contract_run(c, 30 * WR_MSEC);
    end_close(&client, true);
    close(hold[1]);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    hall_close(&hall);
}

/* ---- the cost of nothing -------------------------------------------------------------------------------- */

static unsigned rounds;

static void on_check(uv_check_t *check)
{
    (void)check;
    rounds++;
}

static void count_round(struct wr_task *task)
{
    (void)task;
    rounds++;
}

static void never(struct wr_timer *timer)
{
    (void)timer;
    fail();
}

static void idle_means_no_wake_ups(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    struct wr_timer far = {0};
    struct wr_task task = {0};
    uv_check_t check;
    hall_open(c, &hall, c->b, &c->b_addr, true);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    UNTIL(c, client.open && hall.count == 1);
    end_send(&client, 1000000);
    UNTIL(c, client.received == 1000000);
    wr_timer_start(c->a, &far, wr_env_now(c->a) + WR_HOUR, never);
    wr_env_defer(c->a, &task, count_round);    /* due at once, then never again */
    contract_run(c, 10 * WR_MSEC);    /* whoever waited for room finds that nothing is left to send */
    uv_check_init(loop_of(c), &check);
    uv_check_start(&check, on_check);
    /* The end of the wait itself, and what a busy machine's kernel still has to say of the transfer: whoever
     * spins never comes to rest. */
    unsigned waits = 0;
    do {
        assert_in_range(++waits, 1, 10);
        rounds = 0;
        contract_run(c, 300 * WR_MSEC);
    } while (rounds > 2);
    wr_timer_stop(c->a, &far);
    uv_close((uv_handle_t *)&check, NULL);
    end_close(&client, true);
    hall_close(&hall);
    contract_run(c, WR_MSEC);
}

static bool over;

static void on_over(struct wr_timer *timer)
{
    (void)timer;
    over = true;
}

/* libuv counts in milliseconds: waking up in the one before would spin through the rest of it. */
static void a_timer_wakes_up_once(void **state)
{
    struct contract *c = *state;
    struct wr_timer timer = {0};
    uv_check_t check;
    uv_check_init(loop_of(c), &check);
    uv_check_start(&check, on_check);
    for (int i = 0; i < 5; i++) {
        over = false;
        rounds = 0;
        wr_timer_start(c->a, &timer, (wr_env_now(c->a) / WR_MSEC + 10) * WR_MSEC + 900 * WR_USEC, on_over);
        UNTIL(c, over);
        assert_in_range(rounds, 0, 3);
    }
    uv_close((uv_handle_t *)&check, NULL);
    contract_run(c, WR_MSEC);
}

static double cpu_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_stime.tv_sec +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void starving_does_not_spin(void **state)
{
    struct contract *c = *state;
    struct hall hall = {0};
    struct end client = {0};
    hall_open(c, &hall, c->b, &c->b_addr, false);
    end_connect(c, &client, c->a, &hall.addr, NULL);
    contract_starve(c, true);
    UNTIL(c, hall.starved == 1);
    double before = cpu_seconds();
    contract_run(c, 600 * WR_MSEC);
    assert_true(cpu_seconds() - before < 0.1);    /* spinning would take all of 0.6 */
    contract_starve(c, false);
    UNTIL(c, hall.count == 1);
    end_close(&client, true);
    hall_close(&hall);
}

/* ---- life ----------------------------------------------------------------------------------------------- */

struct job {
    struct wr_work work;
    int gate;    /* read before the work ends */
    bool ran, done;
};

static void job_run(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    char byte;
    job->ran = read(job->gate, &byte, 1) == 1;
}

static void job_done(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    job->done = true;
}

static void destroyed_with_work_under_way(void **state)
{
    struct contract *c = *state;
    struct job job = {.work = {.run = job_run, .done = job_done}};
    int gate[2];
    struct wr_env *env = wr_env_uv_create(loop_of(c), NULL);
    assert_non_null(env);
    assert_int_equal(pipe(gate), 0);
    job.gate = gate[0];
    assert_int_equal(wr_env_work(env, &job.work), 0);
    wr_env_uv_destroy(env);
    contract_run(c, 10 * WR_MSEC);
    assert_false(job.done);
    assert_int_equal(write(gate[1], "x", 1), 1);
    UNTIL(c, job.done);
    assert_true(job.ran);
    close(gate[0]);
    close(gate[1]);
}

static void destroyed_with_tasks_waiting(void **state)
{
    struct contract *c = *state;
    rounds = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct wr_task first = {0}, second = {0};
        struct wr_env *env = wr_env_uv_create(loop_of(c), NULL);
        assert_non_null(env);
        wr_env_dispose(env, &first, count_round);
        wr_env_defer(env, &second, count_round);
        wr_env_uv_destroy(env);
        assert_int_equal(rounds, 2 * (i + 1));
    }
    contract_run(c, WR_MSEC);
}

static void not_created_without_descriptors(void **state)
{
    struct contract *c = *state;
    contract_starve(c, true);
    assert_null(wr_env_uv_create(loop_of(c), NULL));
    contract_starve(c, false);
}

/* ---- names ------------------------------------------------------------------------------------------------ */

struct question {
    struct wr_lookup *lookup;
    bool done;
    int err;
    uint8_t first[16];
};

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    struct question *q = arg;
    q->done = true;
    q->err = err;
    if (count)
        memcpy(q->first, answers[0].ptr, answers[0].len < 16 ? answers[0].len : 16);
}

static void cut_off_answers_are_fetched_over_tcp(void **state)
{
    struct contract *c = *state;
    struct wr_addr at = c->b_addr;
    struct dns_server *server = dns_server_create(c->b, &at);
    uint8_t text[200];
    memset(text, 'x', sizeof(text));
    assert_int_equal(wr_env_uv_resolvers(c->a, &at, 1), 0);
    /* Five fit 1,232 bytes, what we tell servers we take; six do not. */
    for (int i = 0; i < 6; i++) {
        struct question q = {0};
        dns_server_add(server, "t.test", WR_LOOKUP_TXT, WR_BYTES(text, sizeof(text)));
        assert_int_equal(wr_env_lookup(c->a, "t.test", WR_LOOKUP_TXT, on_answer, &q, &q.lookup), 0);
        UNTIL(c, q.done);
        assert_int_equal(q.err, 0);
        assert_int_equal(dns_server_asked(server, true), i < 5 ? 0 : 1);
    }
    dns_server_destroy(server);
}

/* Other servers from the next question on; what the old ones were asked they may still answer. */
static void resolvers_change_with_a_question_open(void **state)
{
    struct contract *c = *state;
    struct wr_addr at1 = c->b_addr, at2 = c->b_addr;
    struct dns_server *one = dns_server_create(c->b, &at1), *two = dns_server_create(c->b, &at2);
    dns_server_add(one, "x.test", WR_LOOKUP_A, WR_BYTES("\1\1\1\1", 4));
    dns_server_add(two, "x.test", WR_LOOKUP_A, WR_BYTES("\2\2\2\2", 4));
    struct question q1 = {0}, q2 = {0};
    assert_int_equal(wr_env_uv_resolvers(c->a, &at1, 1), 0);
    assert_int_equal(wr_env_lookup(c->a, "x.test", WR_LOOKUP_A, on_answer, &q1, &q1.lookup), 0);
    assert_int_equal(wr_env_uv_resolvers(c->a, &at2, 1), 0);
    assert_int_equal(wr_env_lookup(c->a, "x.test", WR_LOOKUP_A, on_answer, &q2, &q2.lookup), 0);
    UNTIL(c, q1.done && q2.done);
    assert_int_equal(q1.first[0], 1);
    assert_int_equal(q2.first[0], 2);
    /* Back to the system's, without a question open. */
    assert_int_equal(wr_env_uv_resolvers(c->a, NULL, 0), 0);
    struct wr_addr many[WR_ENV_UV_RESOLVERS_MAX + 1] = {at1, at1, at1, at1, at1};
    assert_int_equal(wr_env_uv_resolvers(c->a, many, WR_ENV_UV_RESOLVERS_MAX + 1), WR_ELIMIT);
    dns_server_destroy(one);
    dns_server_destroy(two);
}

/* The first name of /etc/hosts that is none of our own, with an IPv4 address. */
static bool name_from_hosts(char name[static 256], struct wr_ip *ip)
{
    FILE *file = fopen("/etc/hosts", "r");
    char line[1024], text[256];
    bool found = false;
    while (file && !found && fgets(line, sizeof(line), file)) {
        if (line[0] == '#' || sscanf(line, "%255s %255s", text, name) != 2)
            continue;
        found = wr_ip_parse(text, ip) == 0 && ip->family == 4 && !strstr(name, "localhost");
    }
    if (file)
        fclose(file);
    return found;
}

static void names_of_the_hosts_file(void **state)
{
    struct contract *c = *state;
    char name[256];
    struct wr_ip ip;
    struct question q = {0};
    if (!name_from_hosts(name, &ip)) {
        print_message("         not here: /etc/hosts names nobody\n");
        return;
    }
    assert_int_equal(wr_env_lookup(c->a, name, WR_LOOKUP_A, on_answer, &q, &q.lookup), 0);
    assert_false(q.done);
    UNTIL(c, q.done);
    assert_int_equal(q.err, 0);
    assert_memory_equal(q.first, ip.bytes, 4);
    assert_int_equal(contract_names_asked(c), 0);
}

struct hearer {
    struct wr_addr refused;
    unsigned errors, datagrams;
};

static void on_hearer_receive(void *arg, const struct wr_dgram_in *in)
{
    ((struct hearer *)arg)->datagrams += (unsigned)((in->len + in->segment - 1) / in->segment);
}

static void on_hearer_writable(void *arg)
{
    (void)arg;
}

static void on_hearer_error(void *arg, const struct wr_addr *to, int err)
{
    struct hearer *h = arg;
    assert_int_equal(err, WR_EREFUSED);
    h->refused = *to;
    h->errors++;
}

/* A port where nobody listens is told of by the kernel, and what goes to others meanwhile arrives. */
static void a_closed_port_is_told_of(void **state)
{
    static const struct wr_dgram_ops dgram_ops = {
        .on_receive = on_hearer_receive, .on_writable = on_hearer_writable, .on_error = on_hearer_error};
    struct contract *c = *state;
    const struct wr_addr any[2] = {c->a_addr, c->a_addr6};
    for (int v = 0; v < 2; v++) {
        struct hearer a = {0}, b = {0};
        struct wr_dgram *from, *to, *closed;
        struct wr_addr to_addr, closed_addr;
        uint8_t data[100] = {0};
        assert_int_equal(wr_env_dgram(c->a, &any[v], &dgram_ops, &a, &from), 0);
        assert_int_equal(wr_env_dgram(c->a, &any[v], &dgram_ops, &b, &to), 0);
        assert_int_equal(wr_env_dgram(c->a, &any[v], &dgram_ops, &b, &closed), 0);
        wr_dgram_addr(to, &to_addr);
        wr_dgram_addr(closed, &closed_addr);
        wr_dgram_close(closed);
        for (int i = 0; i < 50; i++)
            for (int k = 0; k < 2; k++) {
                struct wr_dgram_out out = {.to = k ? to_addr : closed_addr, .data = data, .len = 100, .segment = 100};
                assert_int_equal(wr_dgram_send(from, &out), 0);
            }
        UNTIL(c, a.errors > 0 && b.datagrams == 50);
        assert_true(wr_addr_equal(&a.refused, &closed_addr));
        assert_int_equal(b.errors, 0);
        wr_dgram_close(from);
        wr_dgram_close(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(the_socket_file),
        CONTRACT_TEST(a_stale_file_is_replaced),
        CONTRACT_TEST(other_files_are_left_alone),
        CONTRACT_TEST(descriptors_are_passed),
        CONTRACT_TEST(a_descriptor_is_passed_once),
        CONTRACT_TEST(a_waiting_descriptor_is_closed),
        CONTRACT_TEST(no_signal_from_a_closed_peer),
        CONTRACT_TEST(a_peer_that_reads_no_more),
        CONTRACT_TEST(stream_options),
        CONTRACT_TEST(a_closed_port_is_told_of),
        CONTRACT_TEST(closed_here_and_open_in_a_child),
        CONTRACT_TEST(idle_means_no_wake_ups),
        CONTRACT_TEST(a_timer_wakes_up_once),
        CONTRACT_TEST(starving_does_not_spin),
        CONTRACT_TEST(destroyed_with_work_under_way),
        CONTRACT_TEST(destroyed_with_tasks_waiting),
        CONTRACT_TEST(not_created_without_descriptors),
        CONTRACT_TEST(cut_off_answers_are_fetched_over_tcp),
        CONTRACT_TEST(resolvers_change_with_a_question_open),
        CONTRACT_TEST(names_of_the_hosts_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
