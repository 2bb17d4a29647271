/* The contract in the simulator: two machines. */
#include "tests/env/contract.h"

#include "tests/sim/sim.h"

#include <stdlib.h>

struct driver {
    struct contract contract;    /* first */
    struct sim *sim;
    struct sim_host *a, *b;
    wr_time deadline;
};

static struct driver *driver_of(struct contract *c)
{
    return (struct driver *)(void *)c;
}

int contract_setup(void **state)
{
    struct driver *d = calloc(1, sizeof(*d));
    struct contract *c = &d->contract;
    d->sim = sim_create(&(struct sim_options){.seed = 7, .rtt = 2 * WR_MSEC, .ragged = true});
    d->a = sim_host_add(d->sim, &(struct sim_host_options){.name = "a", .lan = 1});
    d->b = sim_host_add(d->sim, &(struct sim_host_options){.name = "b", .lan = 1});
    c->simulated = true;
    c->a = sim_host_env(d->a);
    c->b = sim_host_env(d->b);
    c->a_addr.ip = *sim_host_ip4(d->a);
    c->b_addr.ip = *sim_host_ip4(d->b);
    c->a_addr6.ip = *sim_host_ip6(d->a);
    c->b_addr6.ip = *sim_host_ip6(d->b);
    *state = c;
    return 0;
}

int contract_teardown(void **state)
{
    struct driver *d = driver_of(*state);
    sim_destroy(d->sim);
    free(d);
    return 0;
}

void contract_deadline(struct contract *c, wr_time after)
{
    struct driver *d = driver_of(c);
    d->deadline = sim_now(d->sim) + after;
}

bool contract_step(struct contract *c)
{
    struct driver *d = driver_of(c);
    if (sim_now(d->sim) >= d->deadline)
        return false;
    wr_time next = sim_next(d->sim);
    if (next && next <= d->deadline)
        sim_step(d->sim);
    else
        sim_run_until(d->sim, d->deadline);
    return true;
}

void contract_poll(struct contract *c)
{
    sim_run(driver_of(c)->sim, WR_MSEC);
}

void contract_starve(struct contract *c, bool starving)
{
    struct driver *d = driver_of(c);
    sim_set_descriptors(d->b, starving ? sim_descriptors(d->b) : 0);
}

bool contract_jam(struct contract *c, bool on)
{
    sim_jam(driver_of(c)->a, on);
    return true;
}

bool contract_refuse_offload(struct contract *c, bool on)
{
    (void)c;
    (void)on;
    return false;
}

unsigned contract_sends(void)
{
    return 0;
}

unsigned contract_buffers(void)
{
    return 0;
}

const char *contract_store(struct contract *c)
{
    (void)c;
    return "store";
}

void contract_name_add(struct contract *c, const char *name, enum wr_lookup_type type,
                       struct wr_bytes record)
{
    sim_name_add(driver_of(c)->sim, name, type, record);
}

void contract_names_mute(struct contract *c, bool mute)
{
    sim_names_down(driver_of(c)->sim, mute);
}

unsigned contract_names_asked(struct contract *c)
{
    (void)c;
    return 0;
}

bool contract_change_net(struct contract *c)
{
    struct driver *d = driver_of(c);
    sim_move(d->a, *sim_host_ip4(d->a), *sim_host_ip6(d->a), 2);
    return true;
}
