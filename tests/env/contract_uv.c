/* The contract on libuv: two environments on one loop, over loopback. */
#include "tests/env/contract.h"
#include "tests/env/dns_server.h"

#include "transport/env_uv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

struct driver {
    struct contract contract;    /* first */
    uv_loop_t loop;
    uv_timer_t guard;    /* so that a step ends at the deadline even when nothing happens */
    uint64_t deadline;
    struct rlimit descriptors;
    char store[64];    /* directory; "" until asked for */
    struct dns_server *names;    /* of c->b */
};

static struct driver *driver_of(struct contract *c)
{
    return (struct driver *)(void *)c;
}

int contract_setup(void **state)
{
    struct driver *d = calloc(1, sizeof(*d));
    uv_loop_init(&d->loop);
    uv_timer_init(&d->loop, &d->guard);
    struct contract *c = &d->contract;
    c->a = wr_env_uv_create(&d->loop, NULL);
    c->b = wr_env_uv_create(&d->loop, NULL);
    c->a_addr.ip = c->b_addr.ip = (struct wr_ip){4, {127, 0, 0, 1}};
    c->a_addr6.ip = c->b_addr6.ip = (struct wr_ip){6, {[15] = 1}};
    getrlimit(RLIMIT_NOFILE, &d->descriptors);
    struct wr_addr resolver = c->b_addr;
    d->names = dns_server_create(c->b, &resolver);
    assert_non_null(d->names);
    assert_int_equal(wr_env_uv_resolvers(c->a, &resolver, 1), 0);
    *state = c;
    return c->a && c->b ? 0 : -1;
}

const char *contract_store(struct contract *c)
{
    struct driver *d = driver_of(c);
    if (!d->store[0]) {
        strcpy(d->store, "/tmp/warren-contract-XXXXXX");
        assert_non_null(mkdtemp(d->store));
    }
    return d->store;
}

static void remove_store(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char name[512];
    while (dir && (entry = readdir(dir))) {
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_REG)
            unlink(name);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

int contract_teardown(void **state)
{
    struct driver *d = driver_of(*state);
    if (d->store[0])
        remove_store(d->store);
    dns_server_destroy(d->names);
    wr_env_uv_destroy(d->contract.a);
    wr_env_uv_destroy(d->contract.b);
    uv_close((uv_handle_t *)&d->guard, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    int err = uv_loop_close(&d->loop);
    free(d);
    return err;
}

/* It comes again each millisecond: one that is due early, as libuv counts, runs before a round waits and would leave
 * nothing that ends that. */
static void on_guard(uv_timer_t *timer)
{
    (void)timer;
}

void contract_deadline(struct contract *c, wr_time after)
{
    struct driver *d = driver_of(c);
    d->deadline = uv_hrtime() + (uint64_t)after;
    uv_update_time(&d->loop);
    uv_timer_start(&d->guard, on_guard, (uint64_t)((after + WR_MSEC - 1) / WR_MSEC), 1);
}

bool contract_step(struct contract *c)
{
    struct driver *d = driver_of(c);
    if (uv_hrtime() >= d->deadline) {
        uv_timer_stop(&d->guard);
        return false;
    }
    uv_run(&d->loop, UV_RUN_ONCE);
    return true;
}

void contract_poll(struct contract *c)
{
    for (int i = 0; i < 3; i++)    /* what one round makes due, the next does */
        uv_run(&driver_of(c)->loop, UV_RUN_NOWAIT);
}

void contract_starve(struct contract *c, bool starving)
{
    struct driver *d = driver_of(c);
    struct rlimit limit = d->descriptors;
    if (starving) {
        /* The lowest free number: everything below is in use. */
        int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close(lowest);
        limit.rlim_cur = (rlim_t)lowest;
    }
    setrlimit(RLIMIT_NOFILE, &limit);
}

void contract_name_add(struct contract *c, const char *name, enum wr_lookup_type type,
                       struct wr_bytes record)
{
    dns_server_add(driver_of(c)->names, name, type, record);
}

void contract_names_mute(struct contract *c, bool mute)
{
    dns_server_mute(driver_of(c)->names, mute);
}

unsigned contract_names_asked(struct contract *c)
{
    struct dns_server *names = driver_of(c)->names;
    return dns_server_asked(names, false) + dns_server_asked(names, true);
}

bool contract_change_net(struct contract *c)
{
    (void)c;
    return false;
}

struct uv_loop_s *contract_uv_loop(struct contract *c)
{
    return &driver_of(c)->loop;
}
