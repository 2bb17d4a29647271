/* contract.h - what env.h promises, tested once and linked twice: with libuv and with the simulator.
 * A contract has two environments that reach each other: two machines in the simulator, two environments
 * on one loop and loopback addresses with libuv. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include "transport/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct contract {
    struct wr_env *a, *b;
    struct wr_addr a_addr, b_addr;      /* IPv4 of each; port 0 */
    struct wr_addr a_addr6, b_addr6;    /* IPv6 */
    bool simulated;
};

/* ---- driver: contract_uv.c or contract_sim.c ---- */
/* cmocka set-up and tear-down: *state is a struct contract. */
int contract_setup(void **state);
int contract_teardown(void **state);
/* Sets when contract_step gives up, from now. */
void contract_deadline(struct contract *c, wr_time after);
/* Lets something happen. False once the deadline has passed. */
bool contract_step(struct contract *c);
/* Lets happen what is due already and waits for nothing, so that it tells at once from soon on any machine. */
void contract_poll(struct contract *c);
/* Lets accepting and connecting in c->b fail for want of descriptors from now on, or work again. */
void contract_starve(struct contract *c, bool starving);
/* Where c->a may keep a store: nothing is there yet; gone after tear-down. */
const char *contract_store(struct contract *c);
/* One more record that c->a finds. Mute: questions get no answer any more. */
void contract_name_add(struct contract *c, const char *name, enum wr_lookup_type type,
                       struct wr_bytes record);
void contract_names_mute(struct contract *c, bool mute);
unsigned contract_names_asked(struct contract *c);    /* questions that reached a server; 0 if unknown */
/* Gives c->a other addresses or routes; false when that cannot be done here. */
bool contract_change_net(struct contract *c);

/* c->a's system takes no datagrams of wr_dgram_send from now on, or again. */
bool contract_jam(struct contract *c, bool on);
/* It refuses segmentation and large buffers; false when there is no such thing here. */
bool contract_refuse_offload(struct contract *c, bool on);
unsigned contract_sends(void);    /* system calls that sent datagrams */
unsigned contract_buffers(void);  /* ... that asked for larger buffers, within what anybody may have */

struct uv_loop_s *contract_uv_loop(struct contract *c);    /* contract_uv.c only */

#define CONTRACT_PATIENCE (60 * WR_SEC)    /* only ever used up by a failure, whatever else the machine does */

/* Runs until the condition holds, and fails the test when it takes too long. */
#define UNTIL(c, condition)                                                                        \
    do {                                                                                           \
        contract_deadline((c), CONTRACT_PATIENCE);                                                 \
        while (!(condition))                                                                       \
            if (!contract_step(c))                                                                 \
                fail_msg("never came true: %s", #condition);                                       \
    } while (0)

/* Runs for a while: to see that something does not happen. */
void contract_run(struct contract *c, wr_time time);

#define CONTRACT_TEST(f) cmocka_unit_test_setup_teardown(f, contract_setup, contract_teardown)

/* ---- groups, one per contract_<group>.c: each returns its number of failures ---- */
int contract_turns(void);
int contract_stream(void);
int contract_local(void);
int contract_udp(void);
int contract_dgram(void);
int contract_names(void);
int contract_kv(void);

#endif
