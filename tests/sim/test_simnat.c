/* Each kind of simulated NAT is what it says: who is seen where, who gets in, and for how long. */
#include "tests/sim/simnat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PORT 4001
#define RTT  (50 * WR_MSEC)

/* A machine with two datagram sockets, on PORT and the port above, a listener and at most one dial.
 */
struct box {
    struct sim *sim;
    struct sim_host *host;
    struct wr_env *env;
    struct wr_udp *udp[2];
    struct wr_listener *listener;
    struct wr_sock *in, *out;
    struct wr_addr from;    /* of the last datagram */
    unsigned got;
    struct wr_addr in_from;
    unsigned accepted, opened, closed;
    int err;
};

static void on_datagram(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data,
                        size_t len)
{
    struct box *b = arg;
    (void)ifindex, (void)data, (void)len;
    b->from = *from;
    b->got++;
}

static void out_open(void *arg)
{
    ((struct box *)arg)->opened++;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void no_bytes(void *arg, uint8_t *data, size_t len)
{
    (void)arg, (void)data, (void)len;
}

static void out_close(void *arg, int err)
{
    struct box *b = arg;
    b->out = NULL;
    b->err = err;
    b->closed++;
}

static void in_close(void *arg, int err)
{
    (void)err;
    ((struct box *)arg)->in = NULL;
}

static const struct wr_udp_ops udp_ops = {on_datagram};
static const struct wr_sock_ops out_ops = {out_open, no_bytes, nothing, out_close, NULL};
static const struct wr_sock_ops in_ops = {nothing, no_bytes, nothing, in_close, NULL};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct box *b = arg;
    b->accepted++;
    b->in = sock;
    wr_sock_remote(sock, &b->in_from);
    wr_sock_attach(sock, &in_ops, b);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_listener_ops listener_ops = {on_accept, on_starved};

static void box_start(struct box *b, struct sim *sim, struct simnat *nat, struct wr_ip ip)
{
    *b = (struct box){.sim = sim};
    b->host = sim_host_add(
        sim, &(struct sim_host_options){.gateway = simnat_gateway(nat),
                                        .ip4 = ip.family == 4 ? ip : (struct wr_ip){0},
                                        .ip6 = ip.family == 6 ? ip : (struct wr_ip){0}});
    b->env = sim_host_env(b->host);
    struct wr_addr at = {.ip.family = ip.family == 6 ? 6 : 4};
    for (unsigned i = 0; i < 2; i++) {
        at.port = (uint16_t)(PORT + i);
        assert_int_equal(wr_env_udp(b->env, &at, false, &udp_ops, b, &b->udp[i]), 0);
    }
    at.port = PORT;
    assert_int_equal(wr_env_listen(b->env, &at, &listener_ops, b, &b->listener), 0);
}

static void box_stop(struct box *b)
{
    for (unsigned i = 0; i < 2; i++)
        wr_udp_close(b->udp[i]);
    wr_listener_close(b->listener);
    if (b->in)
        wr_sock_close(b->in, true);
    if (b->out)
        wr_sock_close(b->out, true);
}

static struct wr_addr at(const struct box *b, unsigned which)
{
    const struct wr_ip *ip =
        sim_host_ip4(b->host)->family ? sim_host_ip4(b->host) : sim_host_ip6(b->host);
    return (struct wr_addr){.ip = *ip, .port = (uint16_t)(PORT + which)};
}

/* Sends from socket `which` and waits; whether it arrived at `to`. */
static bool hits(struct box *from, unsigned which, struct wr_addr where, struct box *to)
{
    unsigned before = to->got;
    assert_int_equal(wr_udp_send(from->udp[which], &where, 0, WR_BYTES_STR("hello")), 0);
    sim_run(from->sim, RTT);
    return to->got > before;
}

/* Where `to`'s socket `which` sees a datagram of ours come from. */
static struct wr_addr seen(struct box *from, struct box *to, unsigned which)
{
    assert_true(hits(from, 0, at(to, which), to));
    return to->from;
}

static void dial(struct box *from, struct wr_addr to)
{
    struct wr_addr local = {.ip.family = to.ip.family, .port = PORT};
    assert_int_equal(wr_env_connect(from->env, &to, &local, &out_ops, from, &from->out), 0);
}

struct world {
    struct sim *sim;
    struct simnat *nat;
    struct box home, home2, one, two;
};

static struct wr_ip private_ip(uint8_t last)
{
    return (struct wr_ip){4, {192, 168, 1, last}};
}

static void start(struct world *w, const struct simnat_options *o)
{
    w->sim = sim_create(&(struct sim_options){.seed = 7, .rtt = RTT});
    w->nat = simnat_add(w->sim, o);
    box_start(&w->home, w->sim, w->nat, private_ip(2));
    box_start(&w->home2, w->sim, w->nat, private_ip(3));
    box_start(&w->one, w->sim, NULL, (struct wr_ip){0});
    box_start(&w->two, w->sim, NULL, (struct wr_ip){0});
}

static void stop(struct world *w)
{
    box_stop(&w->home);
    box_stop(&w->home2);
    box_stop(&w->one);
    box_stop(&w->two);
    sim_destroy(w->sim);
    simnat_free(w->nat);
}

/* ---- mapping, filtering, allocation ------------------------------------------------------------- */

static void mappings(void **state)
{
    (void)state;
    for (int kind = SIMNAT_EIM; kind <= SIMNAT_APDM; kind++) {
        struct world w;
        start(&w, &(struct simnat_options){.mapping = (enum simnat_mapping)kind,
                                           .alloc = SIMNAT_RANDOM,
                                           .filtering = SIMNAT_APDF});
        struct wr_addr a = seen(&w.home, &w.one, 0), again = seen(&w.home, &w.one, 0);
        struct wr_addr b = seen(&w.home, &w.one, 1), c = seen(&w.home, &w.two, 0);
        assert_true(wr_ip_equal(&a.ip, simnat_ip4(w.nat)));
        assert_true(wr_addr_equal(&a, &again));
        assert_int_equal(a.port == b.port, kind != SIMNAT_APDM);
        assert_int_equal(a.port == c.port, kind == SIMNAT_EIM);
        stop(&w);
    }
}

static void filterings(void **state)
{
    (void)state;
    for (int kind = SIMNAT_EIF; kind <= SIMNAT_APDF; kind++) {
        struct world w;
        start(&w, &(struct simnat_options){.filtering = (enum simnat_filtering)kind});
        struct wr_addr where = seen(&w.home, &w.one, 0);
        assert_true(hits(&w.one, 0, where, &w.home));
        assert_int_equal(hits(&w.one, 1, where, &w.home), kind != SIMNAT_APDF);
        assert_int_equal(hits(&w.two, 0, where, &w.home), kind == SIMNAT_EIF);
        where.port++;
        assert_false(hits(&w.one, 0, where, &w.home));
        assert_int_equal(w.home2.got, 0);
        stop(&w);
    }
}

static void allocations(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.mapping = SIMNAT_APDM});
    assert_int_equal(seen(&w.home, &w.one, 0).port, PORT);
    assert_int_equal(seen(&w.home, &w.two, 0).port, PORT);
    /* The neighbour wants the same one. */
    uint16_t other = seen(&w.home2, &w.one, 0).port;
    assert_int_not_equal(other, PORT);
    stop(&w);

    for (int step = -1; step <= 2; step += 3) {
        start(&w, &(struct simnat_options){.mapping = SIMNAT_APDM,
                                           .alloc = SIMNAT_SEQUENTIAL,
                                           .step = step,
                                           .port_lo = 20000,
                                           .port_hi = 29999});
        int a = seen(&w.home, &w.one, 0).port, b = seen(&w.home, &w.one, 1).port,
            c = seen(&w.home2, &w.two, 0).port;
        assert_int_equal((b - a + 10000) % 10000, (step + 10000) % 10000);
        assert_int_equal((c - b + 10000) % 10000, (step + 10000) % 10000);
        stop(&w);
    }

    start(&w,
          &(struct simnat_options){
              .mapping = SIMNAT_APDM, .alloc = SIMNAT_RANDOM, .port_lo = 3000, .port_hi = 3099});
    int ports[3] = {seen(&w.home, &w.one, 0).port, seen(&w.home, &w.one, 1).port,
                    seen(&w.home, &w.two, 0).port};
    for (int i = 0; i < 3; i++)
        assert_in_range(ports[i], 3000, 3099);
    assert_int_not_equal(ports[1] - ports[0], ports[2] - ports[1]);
    stop(&w);
}

static void pools(void **state)
{
    (void)state;
    for (int paired = 0; paired < 2; paired++) {
        struct world w;
        bool differ = false;
        start(&w, &(struct simnat_options){.mapping = SIMNAT_APDM, .pool = 4, .paired = paired});
        struct wr_addr first = seen(&w.home, &w.one, 0);
        assert_true(hits(&w.one, 0, first, &w.home));    /* each address of the pool leads back */
        struct box *to[] = {&w.one, &w.two, &w.home2};
        for (unsigned i = 1; i < 4; i++) {
            struct wr_addr now = seen(&w.home, to[i / 2], i % 2);
            differ |= !wr_ip_equal(&now.ip, &first.ip);
            assert_true(hits(to[i / 2], i % 2, now, &w.home));
        }
        assert_int_equal(differ, !paired);
        stop(&w);
    }
}

/* ---- the ways of a router ----------------------------------------------------------------------- */

static void hairpins(void **state)
{
    (void)state;
    for (int hairpin = 0; hairpin < 2; hairpin++) {
        struct world w;
        start(&w, &(struct simnat_options){.hairpin = hairpin, .filtering = SIMNAT_APDF});
        struct wr_addr a = seen(&w.home, &w.one, 0), b = seen(&w.home2, &w.one, 0);
        hits(&w.home, 0, b, &w.home2);    /* opens the way for the other */
        assert_int_equal(hits(&w.home2, 0, a, &w.home), hairpin);
        assert_true(!hairpin || wr_addr_equal(&w.home.from, &b));
        stop(&w);
    }
}

/* Datagrams for nobody reach nobody; a SYN is answered by routers that refuse or answer themselves.
 */
static void unsolicited(void **state)
{
    (void)state;
    for (int kind = SIMNAT_DROP; kind <= SIMNAT_ANSWER; kind++) {
        struct world w;
        start(&w, &(struct simnat_options){.unsolicited = (enum simnat_unsolicited)kind,
                                           .filtering = SIMNAT_APDF});
        struct wr_addr where = {.ip = *simnat_ip4(w.nat), .port = PORT};
        dial(&w.one, where);
        sim_run(w.sim, 2 * RTT);
        assert_int_equal(w.one.closed, kind == SIMNAT_DROP ? 0 : 1);
        assert_true(kind == SIMNAT_DROP || w.one.err == WR_EREFUSED);
        assert_int_equal(w.home.accepted, 0);
        /* An early datagram does harm where the router takes it for its own: what leaves later
         * leaves from another port, to this one and to others. */
        assert_false(hits(&w.one, 0, where, &w.home));
        assert_int_equal(seen(&w.home, &w.one, 0).port == PORT, kind != SIMNAT_ANSWER);
        assert_int_equal(seen(&w.home, &w.two, 0).port == PORT, kind != SIMNAT_ANSWER);
        assert_int_equal(simnat_count(w.nat)->moved, kind == SIMNAT_ANSWER ? 1 : 0);
        stop(&w);
    }
}

/* A mapping that is there already is left for that one remote, and for what is new after it. */
static void an_early_packet_moves_a_mapping(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.unsolicited = SIMNAT_ANSWER, .filtering = SIMNAT_APDF});
    struct wr_addr where = seen(&w.home, &w.one, 0);
    assert_int_equal(where.port, PORT);
    assert_false(hits(&w.two, 0, where, &w.home));
    struct wr_addr moved = seen(&w.home, &w.two, 0);
    assert_int_not_equal(moved.port, PORT);
    assert_int_equal(seen(&w.home, &w.two, 1).port, moved.port);
    assert_int_equal(seen(&w.home, &w.one, 0).port, PORT);    /* the old session stays */
    sim_run(w.sim, 31 * WR_SEC);                           /* and all of it is forgotten */
    assert_int_equal(seen(&w.home, &w.two, 0).port, PORT);
    stop(&w);
}

static void time_outs(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.filtering = SIMNAT_APDF});
    struct wr_addr where = seen(&w.home, &w.one, 0);
    sim_run(w.sim, 28 * WR_SEC);
    assert_true(hits(&w.one, 0, where, &w.home));
    sim_run(w.sim, 31 * WR_SEC);    /* one answer is not yet a stream */
    assert_false(hits(&w.one, 0, where, &w.home));
    where = seen(&w.home, &w.one, 0);
    assert_true(hits(&w.one, 0, where, &w.home));
    seen(&w.home, &w.one, 0);
    sim_run(w.sim, 115 * WR_SEC);
    assert_true(hits(&w.one, 0, where, &w.home));
    sim_run(w.sim, 121 * WR_SEC);
    assert_false(hits(&w.one, 0, where, &w.home));
    assert_int_equal(simnat_sessions(w.nat), 0);
    stop(&w);

    start(&w, &(struct simnat_options){.udp_unreplied = 10 * WR_SEC, .filtering = SIMNAT_EIF});
    where = seen(&w.home, &w.one, 0);
    sim_run(w.sim, 9 * WR_SEC);
    assert_true(hits(&w.two, 0, where, &w.home));
    sim_run(w.sim, 11 * WR_SEC);
    assert_false(hits(&w.two, 0, where, &w.home));
    stop(&w);
}

static void a_full_table_takes_no_more(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.sessions_max = 2});
    seen(&w.home, &w.one, 0);
    seen(&w.home, &w.one, 1);
    assert_false(hits(&w.home, 0, at(&w.two, 0), &w.two));
    assert_int_equal(simnat_count(w.nat)->over_cap, 1);
    assert_int_equal(simnat_count(w.nat)->sessions_peak, 2);
    seen(&w.home, &w.one, 0);    /* what is there goes on */
    simnat_restart(w.nat);
    assert_true(hits(&w.home, 0, at(&w.two, 0), &w.two));
    stop(&w);
}

static void no_datagrams(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.no_udp = true});
    assert_false(hits(&w.home, 0, at(&w.one, 0), &w.one));
    dial(&w.home, at(&w.one, 0));
    sim_run(w.sim, 2 * RTT);
    assert_int_equal(w.home.opened, 1);
    stop(&w);
}

static void firewalls(void **state)
{
    (void)state;
    for (int family = 4; family <= 6; family += 2) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .rtt = RTT});
        struct wr_ip ip = family == 4 ? (struct wr_ip){4, {93, 184, 216, 34}}
                                      : (struct wr_ip){6, {0x2a, 0x00, 0x12, 0x34, [15] = 9}};
        struct wr_ip ip_out = family == 4 ? (struct wr_ip){4, {93, 184, 217, 34}}
                                          : (struct wr_ip){6, {0x2a, 0x00, 0x12, 0x35, [15] = 9}};
        struct simnat *wall =
            simnat_add(sim, &(struct simnat_options){.mapping = SIMNAT_NONE,
                                                     .filtering = SIMNAT_APDF,
                                                     .ip4 = family == 4 ? ip : (struct wr_ip){0},
                                                     .ip6 = family == 6 ? ip : (struct wr_ip){0}});
        struct box inside, outside;
        box_start(&inside, sim, wall, ip);
        box_start(&outside, sim, NULL, ip_out);
        assert_false(hits(&outside, 0, at(&inside, 0), &inside));
        struct wr_addr where = seen(&inside, &outside, 0), own = at(&inside, 0);
        assert_true(wr_addr_equal(&where, &own));
        assert_true(hits(&outside, 0, at(&inside, 0), &inside));
        assert_false(hits(&outside, 1, at(&inside, 0), &inside));
        box_stop(&inside);
        box_stop(&outside);
        sim_destroy(sim);
        simnat_free(wall);
    }
}

/* A home behind a carrier: seen at the carrier's address, let in through both. */
static void carriers(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .rtt = RTT});
    struct simnat *carrier = simnat_add(sim, &(struct simnat_options){.alloc = SIMNAT_RANDOM});
    struct simnat *home = simnat_add(sim, &(struct simnat_options){.outer = carrier,
                                                                   .ip4 = {4, {100, 64, 0, 9}},
                                                                   .filtering = SIMNAT_APDF});
    struct box inside, one, two;
    box_start(&inside, sim, home, private_ip(2));
    box_start(&one, sim, NULL, (struct wr_ip){0});
    box_start(&two, sim, NULL, (struct wr_ip){0});
    struct wr_addr where = seen(&inside, &one, 0);
    assert_true(wr_ip_equal(&where.ip, simnat_ip4(carrier)));
    assert_int_not_equal(where.port, PORT);
    assert_true(hits(&one, 0, where, &inside));
    assert_false(hits(&two, 0, where, &inside));    /* past the carrier, not past the home */
    assert_int_equal(simnat_count(carrier)->unsolicited, 0);
    assert_int_equal(simnat_count(home)->unsolicited, 1);
    box_stop(&inside);
    box_stop(&one);
    box_stop(&two);
    sim_destroy(sim);
    simnat_free(home);
    simnat_free(carrier);
}

/* ---- streams ------------------------------------------------------------------------------------ */

/* Two homes that dial each other's outer port at once: one connection, open at both ends, accepted
 * at none. */
static void two_syns_cross(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .rtt = RTT});
    struct simnat *nat[2];
    struct box box[2];
    for (unsigned i = 0; i < 2; i++) {
        nat[i] = simnat_add(sim, &(struct simnat_options){.filtering = SIMNAT_APDF});
        box_start(&box[i], sim, nat[i], private_ip(2));
    }
    wr_time began = sim_now(sim);
    for (unsigned i = 0; i < 2; i++)
        dial(&box[i], (struct wr_addr){.ip = *simnat_ip4(nat[!i]), .port = PORT});
    while (!(box[0].opened && box[1].opened) && sim_now(sim) < began + WR_SEC)
        sim_step(sim);
    assert_int_equal(box[0].opened, 1);
    assert_int_equal(box[1].opened, 1);
    assert_int_equal(box[0].accepted + box[1].accepted, 0);
    assert_in_range(sim_now(sim) - began, RTT, RTT + WR_MSEC);
    for (unsigned i = 0; i < 2; i++) {
        box_stop(&box[i]);
        assert_int_equal(simnat_count(nat[i])->unsolicited, 0);
    }
    sim_destroy(sim);
    for (unsigned i = 0; i < 2; i++)
        simnat_free(nat[i]);
}

/* The first SYN comes too early and is refused; the reset may close the hole behind it. Dialled
 * again in time, from the same port, it meets the other one's. */
static void a_refused_dial_is_tried_again(void **state)
{
    (void)state;
    for (int kills = 0; kills < 2; kills++) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .rtt = RTT});
        struct simnat *nat[2];
        struct box box[2];
        for (unsigned i = 0; i < 2; i++) {
            nat[i] = simnat_add(sim, &(struct simnat_options){.filtering = SIMNAT_APDF,
                                                              .reset_kills = kills,
                                                              .unsolicited = SIMNAT_REFUSE});
            box_start(&box[i], sim, nat[i], private_ip(2));
        }
        struct wr_addr to[2];
        for (unsigned i = 0; i < 2; i++)
            to[i] = (struct wr_addr){.ip = *simnat_ip4(nat[!i]), .port = PORT};
        dial(&box[0], to[0]);
        sim_run(sim, 2 * RTT);
        assert_int_equal(box[0].err, WR_EREFUSED);
        assert_int_equal(simnat_sessions(nat[0]), !kills);
        dial(&box[1], to[1]);
        sim_run(sim, RTT / 4);
        dial(&box[0], to[0]);
        sim_run(sim, 2 * RTT);
        assert_int_equal(box[0].opened, 1);
        assert_int_equal(box[1].opened + box[0].accepted, 1);
        for (unsigned i = 0; i < 2; i++)
            box_stop(&box[i]);
        sim_destroy(sim);
        for (unsigned i = 0; i < 2; i++)
            simnat_free(nat[i]);
    }
}

/* After a restart of the router nothing of a stream passes any more. */
static void a_restart_cuts_streams(void **state)
{
    (void)state;
    struct world w;
    start(&w, &(struct simnat_options){.filtering = SIMNAT_EIF});
    dial(&w.home, at(&w.one, 0));
    sim_run(w.sim, 2 * RTT);
    assert_int_equal(w.one.accepted, 1);
    assert_true(wr_ip_equal(&w.one.in_from.ip, simnat_ip4(w.nat)));
    simnat_restart(w.nat);
    wr_sock_write(w.home.out, (const uint8_t *)"x", 1);
    sim_run(w.sim, 200 * WR_SEC);
    assert_int_equal(w.home.err, WR_ETIMEOUT);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings),
        cmocka_unit_test(filterings),
        cmocka_unit_test(allocations),
        cmocka_unit_test(pools),
        cmocka_unit_test(hairpins),
        cmocka_unit_test(unsolicited),
        cmocka_unit_test(an_early_packet_moves_a_mapping),
        cmocka_unit_test(time_outs),
        cmocka_unit_test(a_full_table_takes_no_more),
        cmocka_unit_test(no_datagrams),
        cmocka_unit_test(firewalls),
        cmocka_unit_test(carriers),
        cmocka_unit_test(two_syns_cross),
        cmocka_unit_test(a_refused_dial_is_tried_again),
        cmocka_unit_test(a_restart_cuts_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
