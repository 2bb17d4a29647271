/* Which of the addresses that somebody names are dialled at all: what strangers say must not make us knock at doors on
 * our own network, at ourselves, or for one peer at another's. */
#include "tests/sim/simnode.h"

#include "transport/err.h"

#define SOMEBODY "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
#define OTHER    "12D3KooWBPCrmsYzhEALNAUVcxV4PAW6KRH2bmNqiJKLqk8PGyhE"

struct world {
    struct sim *sim;
    struct node a;
};

static int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 41, .rtt = 20 * WR_MSEC});
    node_start(&w->a, w->sim, 1);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    node_stop(&w->a);
    sim_run(w->sim, WR_SEC);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

struct told {
    bool done;
    int err;
};

static void on_told(void *arg, int err, struct wr_conn *conn)
{
    (void)conn;
    *(struct told *)arg = (struct told){true, err};
}

/* The error of a dial to peer at this address; *knocks: connects and datagrams it took. */
static int dial(struct world *w, const char *peer, const struct wr_maddr *addr, enum wr_addr_origin origin, uint64_t *knocks)
{
    struct wr_peerid id;
    struct told t = {false, 0};
    const struct sim_traffic *traffic = sim_host_traffic(w->a.host);
    uint64_t before = traffic->connects + traffic->datagrams;
    assert_int_equal(wr_peerid_parse(peer, &id), 0);
    assert_int_equal(wr_swarm_connect(w->a.swarm, &id, addr, 1, origin, 0, on_told, &t, NULL), 0);
    sim_run(w->sim, 70 * WR_SEC);
    assert_true(t.done);
    *knocks = traffic->connects + traffic->datagrams - before;
    return t.err;
}

static struct wr_maddr maddr(const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return m;
}

/* Private networks that are none of ours, this machine, what clouds keep on link-local addresses, reserved and multicast
 * ones: only the owner may send us there, and to the last not even he. */
static void test_what_strangers_say_leads_to_public_addresses_only(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *addr;
        bool owner;
    } rows[] = {
        {"/ip4/10.0.0.1/tcp/22", true},
        {"/ip4/192.168.1.1/tcp/80", true},
        {"/ip4/100.64.0.1/tcp/4001", true},
        {"/ip4/127.0.0.1/tcp/6379", true},
        {"/ip4/169.254.169.254/tcp/80", true},
        {"/ip4/203.0.113.9/udp/4001/quic-v1", true},
        {"/ip6/fd00::1/tcp/4001", true},
        {"/ip4/224.0.0.251/udp/5353/quic-v1", false},
        {"/ip4/0.0.0.0/tcp/4001", false},
        {"/ip4/8.8.8.8/tcp/0", false},
    };
    uint64_t knocks;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wr_maddr m = maddr(rows[i].addr);
        assert_true(dial(w, SOMEBODY, &m, WR_ORIGIN_STRANGER, &knocks) < 0);
        if (knocks)
            print_error("%s\n", rows[i].addr);
        assert_int_equal(knocks, 0);
        assert_true(dial(w, SOMEBODY, &m, WR_ORIGIN_OWNER, &knocks) < 0);
        if ((knocks > 0) != rows[i].owner)
            print_error("%s\n", rows[i].addr);
        assert_int_equal(knocks > 0, rows[i].owner);
    }
    struct wr_maddr public = maddr("/ip4/8.8.8.8/tcp/4001");
    assert_int_equal(dial(w, SOMEBODY, &public, WR_ORIGIN_STRANGER, &knocks), WR_ETIMEOUT);
    assert_int_equal(knocks, 1);
}

/* A name is no way around it. */
static void test_names_are_filtered_by_what_they_lead_to(void **state)
{
    struct world *w = *state;
    uint64_t knocks;
    struct wr_maddr m = maddr("/dns4/inside.test/tcp/22"), tree = maddr("/dnsaddr/tree.test/p2p/" SOMEBODY);
    sim_name_add(w->sim, "inside.test", WR_LOOKUP_A, WR_BYTES_STR("\x0a\0\0\x01"));
    sim_name_add(w->sim, "_dnsaddr.tree.test", WR_LOOKUP_TXT,
                 WR_BYTES_STR("dnsaddr=/ip4/10.0.0.1/tcp/22/p2p/" SOMEBODY));
    assert_int_equal(dial(w, SOMEBODY, &m, WR_ORIGIN_STRANGER, &knocks), WR_EUNREACH);
    assert_int_equal(knocks, 0);
    assert_int_equal(dial(w, SOMEBODY, &tree, WR_ORIGIN_STRANGER, &knocks), WR_EUNREACH);
    assert_int_equal(knocks, 0);
    (void)dial(w, SOMEBODY, &m, WR_ORIGIN_OWNER, &knocks);
    assert_int_equal(knocks, 1);
}

/* An address of ours, named as somebody else's; and one that names another peer than the one that is looked for. */
static void test_ourselves_and_others_are_not_dialled_for_a_peer(void **state)
{
    struct world *w = *state;
    uint64_t knocks;
    assert_int_equal(dial(w, SOMEBODY, &w->a.addr, WR_ORIGIN_OWNER, &knocks), WR_ESELF);
    assert_int_equal(knocks, 0);
    struct wr_maddr others = maddr("/ip4/8.8.8.8/tcp/4001/p2p/" OTHER), own = maddr("/ip4/8.8.8.8/tcp/4001/p2p/" SOMEBODY);
    assert_int_equal(dial(w, SOMEBODY, &others, WR_ORIGIN_OWNER, &knocks), WR_EUNREACH);
    assert_int_equal(knocks, 0);
    assert_int_equal(dial(w, SOMEBODY, &own, WR_ORIGIN_OWNER, &knocks), WR_ETIMEOUT);
    assert_int_equal(knocks, 1);
}

/* The other family gets its turn 250 ms later, and at once when the first is refused. */
static void test_families_start_one_after_the_other(void **state)
{
    struct world *w = *state;
    struct node b = {0};
    const struct sim_traffic *traffic = sim_host_traffic(w->a.host);
    struct told t = {false, 0};
    node_start(&b, w->sim, 2);
    struct wr_maddr six, addrs[2];
    struct wr_addr at = {.ip = *sim_host_ip6(b.host), .port = PORT};
    assert_int_equal(wr_maddr_from_addr(&at, false, &six), 0);
    addrs[0] = b.addr;
    addrs[1] = six;
    /* Nobody listens on IPv6: refused after a round trip. */
    assert_int_equal(wr_swarm_connect(w->a.swarm, wr_swarm_self(b.swarm), addrs, 2, WR_ORIGIN_STRANGER, 0, on_told, &t, NULL),
                     0);
    sim_run(w->sim, 10 * WR_MSEC);
    assert_int_equal(traffic->connects, 1);
    sim_run(w->sim, 100 * WR_MSEC);
    assert_int_equal(traffic->connects, 2);
    assert_true(t.done && t.err == 0);
    wr_swarm_disconnect(w->a.swarm, wr_swarm_self(b.swarm), WR_CONN_OK);
    sim_run(w->sim, WR_HOUR);
    /* Silence from it: the other one starts when its time has come. */
    addrs[1] = maddr("/ip6/2001:4860:4860::8888/tcp/4001");
    t.done = false;
    assert_int_equal(wr_swarm_connect(w->a.swarm, wr_swarm_self(b.swarm), addrs, 2, WR_ORIGIN_OWNER, 0, on_told, &t, NULL),
                     0);
    sim_run(w->sim, WR_DIAL_STAGGER - 10 * WR_MSEC);
    assert_int_equal(traffic->connects, 3);
    sim_run(w->sim, 200 * WR_MSEC);
    assert_int_equal(traffic->connects, 4);
    assert_true(t.done && t.err == 0);
    node_stop(&b);
    sim_run(w->sim, WR_SEC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_strangers_say_leads_to_public_addresses_only),
        TEST(test_names_are_filtered_by_what_they_lead_to),
        TEST(test_ourselves_and_others_are_not_dialled_for_a_peer),
        TEST(test_families_start_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
