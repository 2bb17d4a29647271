/* What strangers call our address, and is none of ours that we know: is there another node with our identity? */
#include "tests/sim/nat_world.h"

#include "transport/swarm_impl.h"

static bool look(struct site *s, const char *text)
{
    struct wr_maddr addr;
    assert_int_equal(wr_maddr_parse(text, &addr), 0);
    return wr_swarm_look_for_twin(s->swarm, wr_maddr_bytes(&addr));
}

static bool has_twin(const struct site *s)
{
    struct wr_addr at;
    return wr_swarm_twin(s->swarm, &at);
}

static void a_twin_is_found(void **state)
{
    (void)state;
    for (int quic = 0; quic < 2; quic++) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
        struct site a, b;
        site_start(&a, sim, PUBLIC, 2);
        site_start(&b, sim, PUBLIC, 2);
        struct wr_maddr at = site_at(&b, quic);
        assert_true(wr_swarm_look_for_twin(a.swarm, wr_maddr_bytes(&at)));
        sim_run(sim, WR_MIN);
        struct wr_addr twin;
        assert_true(wr_swarm_twin(a.swarm, &twin));
        assert_true(wr_ip_equal(&twin.ip, sim_host_ip4(b.host)));
        assert_int_equal(wr_swarm_conn_count(a.swarm) + wr_swarm_conn_count(b.swarm), 0);
        site_stop(&a);
        site_stop(&b);
        sim_destroy(sim);
    }
}

/* After a restart: the router still has the port that it once opened for us, and turns us back to ourselves. */
static void we_are_no_twin_of_ours(void **state)
{
    (void)state;
    for (int quic = 0; quic < 2; quic++) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 2});
        struct simnat *nat =
            simnat_add(sim, &(struct simnat_options){.filtering = SIMNAT_APDF,
                                                           .alloc = SIMNAT_RANDOM, .hairpin = true});
        struct site s;
        site_neighbour(&s, sim, nat, 2);
        site_swarm(&s, 2);
        simnat_forward(nat, sim_host_ip4(s.host), PORT);
        struct wr_addr outside = {.ip = *simnat_ip4(nat), .port = PORT};
        struct wr_maddr at;
        assert_int_equal(wr_maddr_from_addr(&outside, quic, &at), 0);
        assert_true(wr_swarm_look_for_twin(s.swarm, wr_maddr_bytes(&at)));
        sim_run(sim, WR_MIN);
        assert_false(has_twin(&s));
        assert_true(s.swarm->met_self_at > 0);
        site_stop(&s);
        sim_destroy(sim);
        simnat_free(nat);
    }
}

/* Where we were before, others are now. */
static void others_are_no_twins(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 3});
    struct site a, b;
    site_start(&a, sim, PUBLIC, 2);
    site_start(&b, sim, PUBLIC, 3);
    struct wr_maddr at = site_at(&b, false);
    assert_true(wr_swarm_look_for_twin(a.swarm, wr_maddr_bytes(&at)));
    sim_run(sim, WR_MIN);
    assert_false(has_twin(&a));
    assert_false(has_twin(&b));
    site_stop(&a);
    site_stop(&b);
    sim_destroy(sim);
}

/* Who lies has us knock at somebody's door: not often, and nowhere near. */
static void it_is_seldom_looked_for(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 4});
    struct site s;
    char own[WR_MADDR_TEXT];
    site_start(&s, sim, PUBLIC, 2);
    struct wr_maddr at = site_at(&s, false);
    (void)wr_maddr_print(wr_maddr_bytes(&at), own, sizeof(own));
    const char *const never[] = {own, "/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "/ip4/203.0.113.9/tcp/80",
                                 "/dns4/example.com/tcp/4001"};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        assert_false(look(&s, never[i]));
    uint64_t before = sim_host_traffic(s.host)->connects;
    for (unsigned turn = 1; turn <= 3; turn++) {
        assert_true(look(&s, "/ip4/45.1.2.3/tcp/4001"));
        for (unsigned i = 0; i < 20; i++)
            assert_false(look(&s, i % 2 ? "/ip4/45.1.2.3/tcp/4001" : "/ip4/45.1.2.4/tcp/4002"));
        sim_run(sim, WR_SWARM_TWIN_LOOK);
        assert_int_equal(sim_host_traffic(s.host)->connects - before, turn);
    }
    site_stop(&s);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_twin_is_found),
        cmocka_unit_test(we_are_no_twin_of_ours),
        cmocka_unit_test(others_are_no_twins),
        cmocka_unit_test(it_is_seldom_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
