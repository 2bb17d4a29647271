/* QUIC and ClientHellos that fill two packets, as those with a post-quantum key share do: in any
 * order, lost, after a Retry, and followed by a second one because we do not know the group. */
#include "tests/sim/villain.h"

#define BULK                                                                                       \
    1216 /* bytes: the key share that X25519MLKEM768 adds; draft-ietf-tls-ecdhe-mlkem, section 4.2 \
          */

struct calling {
    bool retry;      /* every newcomer has to prove its address */
    unsigned hellos; /* that must have been sent */
};

static void call(const struct villain_plan *plan, const struct calling *c)
{
    static struct villain v;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 33, .rtt = 40 * WR_MSEC});
    struct node b = {0};
    node_start(&b, sim, 2);
    wr_quic_retry_always(b.swarm->quic, c->retry);
    villain_start(&v, sim, plan);
    wr_time begun = sim_now(sim);
    villain_call(&v, &b.addr);
    assert_true(plan->bulk ? v.first_flight >= 2 : v.first_flight == 1);
    for (unsigned i = 0; i < 250 && b.opened == 0; i++) {
        sim_run(sim, 20 * WR_MSEC);
        villain_pump(&v);
    }
    if (b.opened != 1 || v.hellos != c->hellos)
        fail_msg("groups %s, %zu bytes more, fate %d, retry %d: %d opened, %u hellos",
                 plan->groups ? plan->groups : "-", plan->bulk, plan->fate, c->retry, b.opened,
                 v.hellos);
    /* One and a half round trips, one more for a long hello, a Retry and a second hello: all packets of a hello lead to
     * one connection, whichever id of ours they are sent to. */
    if (plan->fate == VILLAIN_IN_ORDER)
        assert_in_range(sim_now(sim) - begun, 60 * WR_MSEC, (100 + 40 * (c->retry + c->hellos - 1)) * WR_MSEC);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    assert_true(ngtcp2_conn_get_handshake_completed(v.ng));
    assert_non_null(wr_swarm_conn(b.swarm, &v.id));
    node_stop(&b);
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    villain_stop(&v);
    sim_destroy(sim);
}

static void every_fate(const char *groups, size_t bulk, unsigned hellos)
{
    for (enum villain_fate fate = VILLAIN_IN_ORDER; fate <= VILLAIN_SECOND_LOST; fate++)
        for (int retry = 0; retry <= 1; retry++)
            call(&(struct villain_plan){.groups = groups, .bulk = bulk, .fate = fate},
                 &(struct calling){.retry = retry, .hellos = hellos});
}

/* The control: one packet, nothing odd. */
static void test_a_short_hello(void **state)
{
    (void)state;
    call(&(struct villain_plan){.bulk = 0}, &(struct calling){.retry = false, .hellos = 1});
    call(&(struct villain_plan){.bulk = 0}, &(struct calling){.retry = true, .hellos = 1});
}

static void test_a_hello_in_two_packets(void **state)
{
    (void)state;
    every_fate(NULL, BULK, 1);
}

/* The key share is of a group that we do not know, so we ask for another one (RFC 8446
 * section 4.1.4). */
static void test_a_second_hello(void **state)
{
    static const char groups[] = "+GROUP-SECP521R1:+GROUP-X25519";
    (void)state;
    call(&(struct villain_plan){.groups = groups}, &(struct calling){.hellos = 2});
    every_fate(groups, BULK, 2);
}

/* As large as a hello may be that we read. */
static void test_a_hello_in_many_packets(void **state)
{
    (void)state;
    every_fate(NULL, 10000, 1);
}

/* Where the hello has the protocol's name, with the extension's head before it. */
static uint8_t *find_name(struct wr_buf *hello)
{
    static const uint8_t alpn[] = "\0\x10\0\x09\0\x07\x06libp2p";
    uint8_t *at = memmem(hello->data, hello->len, alpn, sizeof(alpn) - 1);
    assert_non_null(at);
    return at;
}

static void another_name(struct villain *v, unsigned type, struct wr_buf *m)
{
    (void)v;
    if (type == TLS_CLIENT_HELLO)
        find_name(m)[12] = '3';
}

/* The extension becomes one that nobody knows. */
static void no_name(struct villain *v, unsigned type, struct wr_buf *m)
{
    (void)v;
    if (type == TLS_CLIENT_HELLO)
        find_name(m)[0] = 0xfe;
}

/* It names another protocol than libp2p's, or none: GnuTLS alone would let the latter pass. */
static void test_a_hello_for_somebody_else(void **state)
{
    static const struct villain_plan plans[] = {{.message = another_name}, {.message = no_name}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        static struct villain v;
        struct node b = {0};
        struct sim *sim = sim_create(&(struct sim_options){.seed = 35, .rtt = 40 * WR_MSEC});
        node_start(&b, sim, 2);
        villain_start(&v, sim, &plans[i]);
        villain_call(&v, &b.addr);
        sim_run(sim, WR_SEC);
        ngtcp2_ccerr why = wr_quic_compat_ccerr(v.ng);
        assert_int_equal(why.type, NGTCP2_CCERR_TYPE_TRANSPORT);
        assert_int_equal(why.error_code, NGTCP2_CRYPTO_ERROR + 120);    /* no_application_protocol; RFC 9001 section 8.1 */
        assert_int_equal(b.opened, 0);
        assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
        node_stop(&b);
        sim_run(sim, 20 * WR_SEC);
        villain_stop(&v);
        sim_destroy(sim);
    }
}

static void endless(struct villain *v, unsigned type, struct wr_buf *m)
{
    (void)v;
    if (type != TLS_CLIENT_HELLO)
        return;
    m->data[1] = m->data[2] = m->data[3] = 0xff;
    while (m->len < 200000)
        wr_buf_put_u8(m, 0);
}

/* It says that it will be 16 MiB long: what was heard of it would be kept until then. */
static void test_a_hello_without_end(void **state)
{
    static const struct villain_plan plan = {.message = endless};
    static struct villain v;
    struct node b = {0};
    struct sim *sim = sim_create(&(struct sim_options){.seed = 34, .rtt = 40 * WR_MSEC});
    (void)state;
    node_start(&b, sim, 2);
    villain_start(&v, sim, &plan);
    villain_call(&v, &b.addr);
    wr_time from = sim_now(sim);
    while (!v.dead && sim_now(sim) - from < 5 * WR_SEC) {
        sim_run(sim, 20 * WR_MSEC);
        villain_pump(&v);
    }
    assert_true(v.dead);             /* it was told to go */
    assert_in_range(v.told, 2, 170); /* all of it would take 174 */
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 0);
    node_stop(&b);
    sim_run(sim, 20 * WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    villain_stop(&v);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_short_hello),       cmocka_unit_test(test_a_hello_in_two_packets),
        cmocka_unit_test(test_a_second_hello),      cmocka_unit_test(test_a_hello_in_many_packets),
        cmocka_unit_test(test_a_hello_without_end),
        cmocka_unit_test(test_a_hello_for_somebody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
