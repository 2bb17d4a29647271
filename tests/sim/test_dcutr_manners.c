/* Hole punching with peers that lie, break off or speak out of turn, and without memory. */
#include "tests/sim/dcutr_world.h"

/* ---- manners ------------------------------------------------------------------------------------ */

struct liar {
    struct wr_msg msg;
    struct wr_maddr named[2];
    unsigned answers, ends;
    bool silent;    /* says nothing after its CONNECT */
};

static void liar_send(struct liar *l, enum wr_dcutr_type type)
{
    struct wr_dcutr_msg m = {.type = type};
    struct wr_buf b;
    for (size_t i = 0; i < 2 && type == WR_DCUTR_CONNECT; i++)
        m.addrs[m.count++] = l->named[i];
    wr_buf_init(&b, WR_DCUTR_SEND_MAX);
    wr_dcutr_msg_encode(&m, &b);
    wr_msg_send(&l->msg, wr_buf_bytes(&b));
    wr_buf_clear(&b);
}

static void liar_hears(struct wr_msg *m, struct wr_bytes body)
{
    struct liar *l = wr_list_entry(m, struct liar, msg);
    (void)body;
    l->answers++;
    if (!l->silent)
        liar_send(l, WR_DCUTR_SYNC);
}

static void liar_ends(struct wr_msg *m, int err)
{
    (void)err;
    wr_list_entry(m, struct liar, msg)->ends++;
}

static const struct wr_msg_ops liar_ops = {.on_message = liar_hears, .on_close = liar_ends};

/* b speaks by hand from here on, and a has reached it through the relay. */
static void liar_takes_over(struct world *w)
{
    know(&w->a, BOTH);
    wr_dcutr_destroy(w->b.dcutr);
    w->b.dcutr = NULL;
    relay_up(w);
}

/* Opens a stream of the protocol over the relayed connection. */
static void liar_opens(struct liar *l, struct end *from, struct end *to)
{
    static const char *const names[] = {WR_DCUTR_NAME, NULL};
    static const struct wr_stream_ops none;
    int err = 0;
    struct wr_conn *c = wr_swarm_conn(from->site.swarm, site_id(&to->site));
    assert_true(c && c->circuit);
    struct wr_stream *s = wr_conn_open_stream(c, names, &none, NULL, &err);
    assert_non_null(s);
    wr_msg_start(&l->msg, from->site.env, s, WR_DCUTR_READ_MAX, &liar_ops);
}

/* One exchange of b with a, by hand. */
static void lie(struct world *w, struct liar *l)
{
    liar_opens(l, &w->b, &w->a);
    liar_send(l, WR_DCUTR_CONNECT);
}

/* b names somebody else's addresses, over and over. He gets few packets, and b soon no answers. */
static void a_liar_cannot_make_us_shout(void **state)
{
    struct world w;
    struct site victim;
    struct liar l = {0};
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    site_start(&victim, w.sim, REFUSING, 9);
    site_learn(w.sim, &victim, &w.relay);
    liar_takes_over(&w);
    l.named[0] = victim.tcp;
    l.named[1] = victim.quic;
    unsigned before = simnat_count(victim.nat)->unsolicited;
    for (unsigned i = 0; i < 30; i++) {
        lie(&w, &l);
        sim_run(w.sim, 7 * WR_SEC);
        wr_msg_reset(&l.msg, WR_STREAM_OK);
    }
    unsigned got = simnat_count(victim.nat)->unsolicited - before;
    assert_in_range(got, 10, WR_PUNCH_QUIET_MAX);
    assert_in_range(l.answers, 3, WR_DCUTR_ASKED_MAX);
    site_stop(&victim);
    world_stop(&w);
    site_free(&victim);
}

/* Somebody sees us somewhere else every few seconds. That is no reason to try again what just failed, each time. */
static void news_without_end(void **state)
{
    struct world w;
    (void)state;
    world_start_relayed(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, 3);
    wr_time began = sim_now(w.sim);
    for (unsigned i = 0; sim_now(w.sim) < began + WR_HOUR; i++) {
        struct wr_addrbook *book = wr_swarm_addrbook(w.b.site.swarm);
        struct wr_addr to = {.ip = {4, {11, 77, (uint8_t)(i >> 8), (uint8_t)i}}, .port = 4001};
        struct wr_maddr seen;
        assert_int_equal(wr_maddr_from_addr(&to, true, &seen), 0);
        assert_true(wr_addrbook_put(book, wr_maddr_bytes(&seen), WR_ADDR_CANDIDATE, sim_now(w.sim)));
        wr_swarm_addrs_changed(w.b.site.swarm);
        sim_run(w.sim, 5 * WR_SEC);
        wr_addrbook_del(book, wr_maddr_bytes(&seen), WR_ADDR_CANDIDATE);
    }
    /* After 1/2, 1, 2, 4 and 8 minutes, and then by turns after ten and eight. */
    assert_in_range(w.b.reports, 3 + 3 * 7, 3 + 3 * 11);
    /* Another network is news that no stranger makes: half a minute after the last round, whatever was before. */
    sim_run_until(w.sim, w.b.last.at + 20 * WR_SEC);
    unsigned reports = w.b.reports;
    wr_swarm_network_changed(w.b.site.swarm);
    sim_run(w.sim, 40 * WR_SEC);
    assert_in_range(w.b.reports, reports + 1, reports + 3);
    world_stop(&w);
}

/* A peer that comes through a relay, has us punch and breaks off before a round is over, time and again, is punched
 * towards about as often as one that stays. */
static void whoever_breaks_off(void **state)
{
    static const wr_time stays[] = {WR_SEC, 5300 * WR_MSEC};    /* in the first attempt, and in the pause behind it */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        wr_time stay = stays[i];
        struct world w;
        world_start_knowing(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
        wr_time began = sim_now(w.sim);
        while (sim_now(w.sim) < began + WR_DCUTR_REST) {
            struct wr_dcutr_peer *a = wr_dcutr_peer_get(w.a.dcutr, site_id(&w.b.site));
            assert_non_null(a);
            a->asked = 0;    /* it does not mind */
            relay_up(&w);
            sim_run(w.sim, L);
            wr_swarm_identified(w.b.site.swarm, wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site)));
            sim_run(w.sim, stay);
            wr_conn_close(wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site)), WR_CONN_OK);
            sim_run(w.sim, WR_SEC);
        }
        print_message("gone after %d ms: %u attempts\n", (int)(stay / WR_MSEC), w.b.reports);
        /* Rests of 1/2, 1, 2, 4 and 8 minutes; each of the rounds between them was cut short at most three times. */
        assert_in_range(w.b.reports, WR_DCUTR_CUTS_MAX, 5 * WR_DCUTR_CUTS_MAX + 1);
        world_stop(&w);
    }
}

/* Messages out of order, of the wrong kind, too long, or none: each ends the exchange, and nothing is sent. */
static void what_is_not_in_order(void **state)
{
    struct world w;
    struct liar l = {.silent = true};
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    liar_takes_over(&w);
    l.named[0] = w.relay.tcp;
    for (unsigned i = 0; i < 5; i++) {
        uint8_t junk[WR_DCUTR_READ_MAX + 64];
        l.ends = 0;
        lie(&w, &l);
        memset(junk, 0xff, sizeof(junk));
        if (i == 1)
            liar_send(&l, WR_DCUTR_CONNECT);    /* a second time */
        if (i == 2)
            wr_msg_send(&l.msg, WR_BYTES(junk, 3));
        if (i == 3)
            wr_msg_send(&l.msg, WR_BYTES(junk, sizeof(junk)));
        if (i == 4)
            wr_msg_shut(&l.msg);
        sim_run(w.sim, 12 * WR_SEC);
        assert_int_equal(w.a.last.outcome, WR_DCUTR_NO_ANSWER);
        assert_int_equal(w.a.last.err, i == 0 ? WR_ETIMEOUT : i == 4 ? WR_ECLOSED : WR_EPROTO);
        assert_int_equal(w.a.reports, i + 1);
        wr_msg_reset(&l.msg, WR_STREAM_OK);
    }
    world_stop(&w);
}

/* Over a direct connection, and from the side that dialled, nobody has a reason to ask. */
static void only_the_reached_side_may_ask(void **state)
{
    struct world w;
    struct liar l = {0};
    struct wr_dcutr_stats stats;
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    relay_up(&w);
    liar_opens(&l, &w.a, &w.b);
    liar_send(&l, WR_DCUTR_CONNECT);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(l.ends, 1);
    assert_int_equal(l.answers, 0);
    wr_dcutr_stats(w.b.dcutr, &stats);
    assert_int_equal(stats.refused, 1);
    world_stop(&w);
}

/* ---- hostile lists ------------------------------------------------------------------------------- */

#define PRIVATE_SEEN_MAX (2 * WR_DCUTR_ASKED_MAX * WR_PLAN_PRIVATE_MAX)    /* room to see the bound broken */

/* What leaves a's home, by where it goes to. */
struct leaving {
    bool (*outbound)(struct sim_gateway *gateway, struct sim_head *head, wr_time now);
    struct wr_ip victim, own;
    unsigned to_victim, to_own, to_self, to_never;
    struct wr_ip private[PRIVATE_SEEN_MAX];    /* not of a's link */
    size_t private_count;
};

static struct leaving leaving;    /* gateways have no place for it */

static void count_private(const struct wr_ip *ip)
{
    for (size_t i = 0; i < leaving.private_count; i++)
        if (wr_ip_equal(&leaving.private[i], ip))
            return;
    if (leaving.private_count < PRIVATE_SEEN_MAX)
        leaving.private[leaving.private_count++] = *ip;
}

static bool count_leaving(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    const struct wr_ip *ip = &head->to.ip;
    const uint8_t *b = ip->bytes;
    leaving.to_victim += wr_ip_equal(ip, &leaving.victim);
    leaving.to_own += wr_ip_equal(ip, &leaving.own);
    leaving.to_self += wr_ip_equal(ip, &leaving.own) && head->to.port == PORT;
    leaving.to_never += b[0] == 0 || b[0] == 127 || b[0] >= 224 || (b[0] == 169 && b[1] == 254);
    if (b[0] == 10 || (b[0] == 172 && b[1] == 16) || (b[0] == 192 && b[1] == 168) || (b[0] == 100 && b[1] == 64))
        count_private(ip);
    return leaving.outbound(gateway, head, now);
}

static void list_put(struct wr_buf *b, const struct wr_maddr *addr)
{
    const uint8_t head[] = {0x12, (uint8_t)addr->len};    /* ObsAddrs */
    if (b->len + sizeof(head) + addr->len > WR_DCUTR_READ_MAX)
        return;
    wr_buf_put(b, head, sizeof(head));
    wr_buf_put_bytes(b, wr_maddr_bytes(addr));
}

static void list_put_at(struct wr_buf *b, struct wr_ip ip, uint16_t port)
{
    struct wr_addr to = {.ip = ip, .port = port};
    struct wr_maddr at;
    for (int quic = 0; quic < 2; quic++) {
        assert_int_equal(wr_maddr_from_addr(&to, quic, &at), 0);
        list_put(b, &at);
    }
}

/* As long as a message may be, four hundred addresses: somebody's true one, maybe our own, and what nobody may dial. */
static void list_fill(struct world *w, struct wr_buf *b, bool own, const struct wr_addr *victim)
{
    static const uint8_t nets[][3] = {{10, 0, 0},     {192, 168, 7}, {172, 16, 0}, {127, 0, 0}, {224, 0, 0},
                                      {239, 255, 255}, {169, 254, 1}, {100, 64, 0}, {0, 0, 0},   {255, 255, 255}};
    static const uint8_t type[] = {8, WR_DCUTR_CONNECT};
    wr_buf_put(b, type, sizeof(type));
    list_put_at(b, victim->ip, victim->port);
    for (unsigned i = 0; i < 2 && own; i++) {
        struct wr_addr at;
        assert_true(wr_maddr_addr(wr_maddr_bytes(&w->a.site.tcp), &at));
        list_put_at(b, at.ip, (uint16_t)(at.port + i));
        list_put_at(b, *sim_host_ip4(w->a.site.host), (uint16_t)(PORT + i));
    }
    while (b->len + 2 * 16 < WR_DCUTR_READ_MAX) {
        const uint8_t *net = nets[sim_random(w->sim, sizeof(nets) / sizeof(nets[0]))];
        struct wr_ip ip = {4, {net[0], net[1], net[2], (uint8_t)sim_random(w->sim, 256)}};
        list_put_at(b, ip, (uint16_t)(1 + sim_random(w->sim, 65535)));
    }
}

/* Thousands of addresses in messages as long as they may be: private ones, multicast, loopback, and our own. The true
 * address before them shows that the lists were read and followed. Who names our external address may be our neighbour
 * behind one carrier: other ports of it are tried within the cap of each address, and few private ones each time. Apart
 * from that nothing is sent to any of them, and nothing ever to ourselves. */
static void hostile_lists(void **state)
{
    (void)state;
    for (int own = 0; own <= 1; own++) {
        struct world w;
        struct site victim;
        struct liar l = {0};
        struct wr_addr at;
        world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
        site_start(&victim, w.sim, REFUSING, 9);
        site_learn(w.sim, &victim, &w.relay);
        liar_takes_over(&w);
        struct sim_gateway *gateway = simnat_gateway(w.a.site.nat);
        leaving = (struct leaving){.outbound = gateway->outbound,
                                   .victim = *simnat_ip4(victim.nat),
                                   .own = *simnat_ip4(w.a.site.nat)};
        gateway->outbound = count_leaving;
        assert_true(wr_maddr_addr(wr_maddr_bytes(&victim.tcp), &at));
        for (unsigned i = 0; i < 10; i++) {
            struct wr_buf list;
            wr_buf_init(&list, WR_DCUTR_READ_MAX);
            list_fill(&w, &list, own, &at);
            assert_false(list.full);
            liar_opens(&l, &w.b, &w.a);
            assert_int_equal(wr_msg_send(&l.msg, wr_buf_bytes(&list)), 0);
            wr_buf_clear(&list);
            sim_run(w.sim, 7 * WR_SEC);
            wr_msg_reset(&l.msg, WR_STREAM_OK);
        }
        print_message("%s: %u answers, %u packets to the true address, %u to ours, %zu private addresses\n",
                      own ? "our own among them" : "without ours", l.answers, leaving.to_victim, leaving.to_own,
                      leaving.private_count);
        assert_in_range(l.answers, 3, WR_DCUTR_ASKED_MAX);
        assert_in_range(leaving.to_victim, 1, WR_PUNCH_QUIET_MAX);
        assert_int_equal(leaving.to_never, 0);
        assert_int_equal(leaving.to_self, 0);
        assert_in_range(leaving.to_own, own, own * WR_PUNCH_QUIET_MAX);
        assert_in_range(leaving.private_count, own, own * WR_DCUTR_ASKED_MAX * WR_PLAN_PRIVATE_MAX);
        site_stop(&victim);
        world_stop(&w);
        site_free(&victim);
    }
}

/* ---- breaking off ------------------------------------------------------------------------------- */

/* The relay is cut at every stage: no leak, no hang, and what was agreed on before is still carried out. */
static void the_relay_breaks(void **state)
{
    (void)state;
    for (wr_time after = 0; after < 400 * WR_MSEC; after += 40 * WR_MSEC) {
        struct world w;
        world_start_relayed(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
        sim_run(w.sim, after);
        sim_kill(w.relay.host);
        sim_run(w.sim, 60 * WR_SEC);
        struct wr_dcutr_stats stats;
        wr_dcutr_stats(w.b.dcutr, &stats);
        assert_int_equal(stats.running, 0);
        assert_int_equal(is_direct(&w.a, &w.b), is_direct(&w.b, &w.a));
        if (after > L * 3 / 2 + 10 * WR_MSEC)    /* the SYNC had arrived */
            assert_true(is_direct(&w.a, &w.b));
        world_stop(&w);
    }
}

static void an_end_in_between(void **state)
{
    (void)state;
    for (wr_time after = 0; after < 500 * WR_MSEC; after += 30 * WR_MSEC) {
        struct world w;
        world_start_relayed(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
        sim_run(w.sim, after);
        world_stop(&w);
    }
}

static void memory_runs_out(void **state)
{
    bool reached = true;
    (void)state;
    for (uint64_t skip = 0; reached && skip < 2000; skip += 11) {
        struct world w;
        world_start_relayed(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
        sim_alloc_fail(skip, 1);
        sim_run_while(w.sim, not_both_direct, &w, 10 * WR_SEC);
        reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        world_stop(&w);
    }
    assert_false(reached);
}

/* Many peers are remembered, and no more than that. */
static void peers_are_bounded(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, PUBLIC, PUBLIC, BOTH, 5);
    struct wr_peerid id = *site_id(&w.a.site);
    for (unsigned i = 0; i < WR_DCUTR_PEERS_MAX + 20; i++) {
        id.bytes[5] = (uint8_t)i, id.bytes[6] = (uint8_t)(i >> 8), id.bytes[7] = 1;
        struct wr_dcutr_peer *p = wr_dcutr_peer_get(w.b.dcutr, &id);
        assert_non_null(p);
        struct wr_dcutr_report r = {.outcome = WR_DCUTR_FAILED};
        wr_dcutr_note(p, &r);
        sim_run(w.sim, WR_MSEC);
    }
    assert_int_equal(w.b.dcutr->peers.count, WR_DCUTR_PEERS_MAX);
    struct wr_dcutr_report r;
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, &id, &r, 1), 1);
    id.bytes[5] = id.bytes[6] = 0;
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, &id, &r, 1), 0);
    world_stop(&w);
}

/* Nor do those who stay connected through a relay, and cannot be punched, keep others from being. */
static void resting_peers_make_room(void **state)
{
    struct world w;
    (void)state;
    world_start_knowing(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    struct wr_peerid id = *site_id(&w.a.site);
    for (unsigned i = 0; i < WR_DCUTR_PEERS_MAX; i++) {
        id.bytes[5] = (uint8_t)i, id.bytes[6] = (uint8_t)(i >> 8), id.bytes[7] = 1;
        struct wr_dcutr_peer *p = wr_dcutr_peer_get(w.b.dcutr, &id);
        assert_non_null(p);
        p->relayed = wr_swarm_conn(w.b.site.swarm, site_id(&w.relay));    /* stands for one */
        assert_non_null(p->relayed);
        wr_dcutr_talk_rest(p, sim_now(w.sim) + WR_HOUR);
    }
    relay_up(&w);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 10 * WR_SEC));
    assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
    assert_int_equal(w.b.dcutr->peers.count, WR_DCUTR_PEERS_MAX);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_liar_cannot_make_us_shout),
        cmocka_unit_test(hostile_lists),
        cmocka_unit_test(news_without_end),
        cmocka_unit_test(whoever_breaks_off),
        cmocka_unit_test(what_is_not_in_order),
        cmocka_unit_test(only_the_reached_side_may_ask),
        cmocka_unit_test(the_relay_breaks),
        cmocka_unit_test(an_end_in_between),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(peers_are_bounded),
        cmocka_unit_test(resting_peers_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
