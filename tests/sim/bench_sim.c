/* How many events the simulator gets through. Not a test: run by hand.
 *   bench_sim HOSTS CONNECTIONS-EACH SECONDS */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct end {
    struct wr_sock *sock;
    struct wr_env *env;
    struct wr_timer timer;
    unsigned count;
    bool dialer;
};

static void on_timer(struct wr_timer *timer)
{
    struct end *x = wr_list_entry(timer, struct end, timer);
    uint8_t message[200] = {0};
    wr_sock_write(x->sock, message, sizeof(message));
}

static void on_open(void *arg)
{
    struct end *x = arg;
    on_timer(&x->timer);
}

/* Back and forth, with a pause as long as a thought. */
static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct end *x = arg;
    x->count++;
    if (x->dialer)
        wr_timer_start(x->env, &x->timer, wr_env_now(x->env) + 10 * WR_MSEC, on_timer);
    else
        wr_sock_write(x->sock, data, len);
}

static void on_drain(void *arg)
{
    (void)arg;
}

static void on_close(void *arg, int err)
{
    (void)arg, (void)err;
    abort();
}

static const struct wr_sock_ops ops = {.on_open = on_open, .on_read = on_read, .on_drain = on_drain,
                                       .on_close = on_close};

static struct end *ends;
static size_t end_count;

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct end *x = &ends[end_count++];
    x->sock = sock;
    x->env = arg;
    wr_sock_attach(sock, &ops, x);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_listener_ops listener_ops = {on_accept, on_starved};

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t hosts = strtoul(argv[1], NULL, 10), each = strtoul(argv[2], NULL, 10);
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct sim_host **all = calloc(hosts, sizeof(struct sim_host *));
    struct wr_listener *listener;
    struct wr_addr any = {.ip.family = 4, .port = 4001};
    ends = calloc(hosts * each * 2, sizeof(*ends));
    for (size_t i = 0; i < hosts; i++) {
        all[i] = sim_host_add(sim, &(struct sim_host_options){0});
        struct wr_env *env = sim_host_env(all[i]);
        if (wr_env_listen(env, &any, &listener_ops, env, &listener) != 0)
            return 1;
    }
    for (size_t i = 0; i < hosts * each; i++) {
        struct end *x = &ends[end_count++];
        struct wr_addr to = {.ip = *sim_host_ip4(all[sim_random(sim, hosts)]), .port = 4001};
        x->env = sim_host_env(all[i % hosts]);
        x->dialer = true;
        wr_env_connect(x->env, &to, NULL, &ops, x, &x->sock);
    }
    clock_t start = clock();
    sim_run(sim, (wr_time)strtoul(argv[3], NULL, 10) * WR_SEC);
    double used = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("%zu hosts, %zu connections, %llu events in %.2f s CPU: %.2f M/s\n", hosts, hosts * each,
           (unsigned long long)sim_events(sim), used, (double)sim_events(sim) / used / 1e6);
    return 0;
}
