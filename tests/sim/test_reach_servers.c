/* A node finds out whether it can be reached from servers and observers that lie, cost, or know version 1 only. */
#include "tests/sim/reach_world.h"

#include "autonat/ask.h"

/* ---- servers of all kinds --------------------------------------------------------------------------- */

/* A server that answers as it likes. */
struct stranger {
    struct wr_msg msg;
    const struct wr_msg_ops *ops;
    struct wr_env *env;
    unsigned asked;
    bool yes;             /* a liar: says that it got through, else that it did not */
    uint64_t left, taken; /* dial data */
};

static void say(struct stranger *x, const struct wr_autonat_msg *m)
{
    struct wr_buf out;
    wr_buf_init(&out, 100);
    wr_autonat_msg_encode(m, &out);
    (void)wr_msg_send(&x->msg, wr_buf_bytes(&out));
    wr_buf_clear(&out);
}

static void say_dialled(struct stranger *x, enum wr_autonat_dial status)
{
    say(x, &(struct wr_autonat_msg){.type = WR_AUTONAT_DIAL_RESPONSE, .status = WR_AUTONAT_OK, .dial_status = status});
    wr_msg_close(&x->msg);
}

static void on_question(struct wr_stream *s, void *arg)
{
    struct stranger *x = arg;
    x->asked++;
    if (wr_msg_open(&x->msg))
        wr_stream_reset(s, WR_STREAM_LIMIT);
    else
        wr_msg_start(&x->msg, x->env, s, 8192, x->ops);
}

static void make_stranger(struct member *m, struct stranger *x, const struct wr_msg_ops *ops)
{
    *x = (struct stranger){.ops = ops, .env = m->n.env};
    wr_swarm_unhandle(m->n.swarm, WR_AUTONAT_REQUEST);
    node_handle(&m->n, WR_AUTONAT_REQUEST, on_question, x);
}

static void lie(struct wr_msg *m, struct wr_bytes body)
{
    struct stranger *x = wr_list_entry(m, struct stranger, msg);
    (void)body;
    say_dialled(x, x->yes ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_ERROR);
}

static void make_liar(struct member *m, struct stranger *liar, bool yes)
{
    static const struct wr_msg_ops ops = {.on_message = lie, .on_close = lie_over};
    make_stranger(m, liar, &ops);
    liar->yes = yes;
}

/* Wants dial data for every question, whoever asks (as rust servers do), and answers the truth. */
static void feed(struct wr_msg *m, struct wr_bytes body)
{
    struct stranger *x = wr_list_entry(m, struct stranger, msg);
    struct wr_autonat_msg in;
    assert_int_equal(wr_autonat_msg_decode(body, &in), 0);
    if (in.type == WR_AUTONAT_DIAL_REQUEST) {
        x->left = WR_AUTONAT_SERVER_DATA;
        say(x, &(struct wr_autonat_msg){.type = WR_AUTONAT_DATA_REQUEST, .bytes = x->left});
        return;
    }
    x->taken += in.data.len;
    x->left -= in.data.len < x->left ? in.data.len : x->left;
    if (!x->left)
        say_dialled(x, WR_AUTONAT_DIAL_ERROR);
}

/* Somebody sees us somewhere else every few seconds, at others' addresses. Servers want dial data for each: we do not send
 * as much as he has us asked for. */
static void test_an_observer_who_costs(void **state)
{
    (void)state;
    struct world w;
    uint64_t taken = 0;
    struct wr_maddr seen;
    start(&w, SERVERS, 0, NULL);
    meet_all(&w, true);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(stats(&w).data_bytes, 0);    /* our own address costs nothing */
    struct wr_addrbook *book = wr_swarm_addrbook(w.c.n.swarm);
    wr_identify_destroy(w.c.identify);    /* what it would write into the address book, we do */
    w.c.identify = NULL;
    for (unsigned i = 0; i < 240; i++) {
        struct wr_addr to = {.ip = {4, {11, 77, (uint8_t)(i >> 8), (uint8_t)i}}, .port = 4001};
        assert_int_equal(wr_maddr_from_addr(&to, i % 2, &seen), 0);
        assert_true(wr_addrbook_put(book, wr_maddr_bytes(&seen), WR_ADDR_CANDIDATE, sim_now(w.sim)));
        wr_swarm_addrs_changed(w.c.n.swarm);
        sim_run(w.sim, 5 * WR_SEC);
        wr_addrbook_del(book, wr_maddr_bytes(&seen), WR_ADDR_CANDIDATE);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        struct wr_autonat_server_stats s;
        wr_autonat_server_stats(w.s[i].server, &s);
        taken += s.data_bytes;
    }
    assert_true(taken > 0);
    assert_in_range(stats(&w).data_bytes, 1, WR_AUTONAT_CLIENT_DATA + 20 * 60 * WR_AUTONAT_CLIENT_DATA_RATE +
                                                 WR_AUTONAT_CLIENT_PROBES * WR_AUTONAT_SERVER_DATA);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    stop(&w);
}

/* Once it is known of a server, others are asked instead, as long as there are some. */
static void test_a_hungry_server(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = feed, .on_close = lie_over};
    (void)state;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    for (int alone = 0; alone <= 1; alone++) {
        struct world w;
        struct stranger hungry;
        start(&w, alone ? 1 : SERVERS, 0, &firewall);
        make_stranger(&w.s[0], &hungry, &ops);
        meet_all(&w, true);
        sim_run(w.sim, WR_MIN);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        unsigned begun = hungry.asked;
        assert_true(begun > 0);
        sim_run(w.sim, 12 * WR_HOUR);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        assert_int_equal(hungry.asked > begun, alone);
        stop(&w);
    }
}

/* Wants more dial data than any server may. */
static void want_all(struct wr_msg *m, struct wr_bytes body)
{
    struct stranger *x = wr_list_entry(m, struct stranger, msg);
    struct wr_autonat_msg in;
    assert_int_equal(wr_autonat_msg_decode(body, &in), 0);
    if (in.type == WR_AUTONAT_DIAL_REQUEST)
        say(x, &(struct wr_autonat_msg){.type = WR_AUTONAT_DATA_REQUEST, .bytes = x->left});
    else
        x->taken += in.data.len;
}

static void test_dial_data_has_an_end(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = want_all, .on_close = lie_over};
    static const uint64_t wants[] = {WR_ASK_DATA_MAX, WR_ASK_DATA_MAX + 1, UINT64_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
        struct world w;
        struct stranger hungry;
        start(&w, 1, 0, NULL);
        make_stranger(&w.s[0], &hungry, &ops);
        hungry.left = wants[i];
        meet_all(&w, true);
        sim_run(w.sim, 5 * WR_SEC);
        assert_true(hungry.asked > 0);
        assert_int_equal(hungry.taken > 0, wants[i] <= WR_ASK_DATA_MAX);
        assert_true(hungry.taken <= hungry.asked * WR_ASK_DATA_MAX);
        stop(&w);
    }
}

static void decline(struct wr_msg *m, struct wr_bytes body)
{
    struct stranger *x = wr_list_entry(m, struct stranger, msg);
    (void)body;
    say(x, &(struct wr_autonat_msg){.type = WR_AUTONAT_DIAL_RESPONSE,
                                    .status = x->yes ? WR_AUTONAT_REFUSED : WR_AUTONAT_REJECTED});
    wr_msg_close(&x->msg);
}

/* Servers that do not dial - too many questions, their own UDP in doubt - say nothing about us: neither that we are
 * reached, nor that we are not. */
static void test_servers_that_refuse(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    (void)state;
    struct world w;
    struct stranger refuser[SERVERS];
    start(&w, SERVERS, OTHERS, NULL);
    for (unsigned i = 0; i < SERVERS; i++) {
        make_stranger(&w.s[i], &refuser[i], &ops);
        refuser[i].yes = i % 2;
    }
    meet_all(&w, true);
    for (unsigned second = 0; second < 300; second++) {
        sim_run(w.sim, WR_SEC);
        assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    }
    assert_true(stats(&w).refused > 0);
    assert_int_equal(stats(&w).failed, 0);
    stop(&w);
}

/* Whoever could be asked has too much to do for the first ten seconds, and then not any more. That is no reason to wait
 * for a minute: not with the questions, nor with the fresh socket that the filter is tried with. */
static void test_servers_that_have_too_much_to_do(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    (void)state;
    for (int quic = 0; quic <= 1; quic++) {
        struct world w;
        struct stranger busy[SERVERS];
        struct simnat_options nat = {.filtering = SIMNAT_ADF};
        start(&w, SERVERS, 0, &nat);
        for (unsigned i = 0; i < SERVERS; i++)
            make_stranger(&w.s[i], &busy[i], &ops);
        meet_all(&w, quic);
        sim_run(w.sim, 10 * WR_SEC);
        assert_true(stats(&w).refused > 0);
        for (unsigned i = 0; i < SERVERS; i++) {
            wr_autonat_server_destroy(w.s[i].server);
            w.s[i].server = wr_autonat_server_create(w.s[i].n.swarm);
            assert_non_null(w.s[i].server);
        }
        sim_run(w.sim, 18 * WR_SEC);
        const struct wr_nat *found = wr_swarm_nat(w.c.n.swarm);
        assert_int_equal((quic ? &found->udp : &found->tcp)->filtering, WR_NAT_FILTER_ADF);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        stop(&w);
    }
}

struct two_faced {
    struct stranger to_others;
    const struct wr_peerid *silent_to;
};

static void be_two_faced(struct wr_stream *s, void *arg)
{
    struct two_faced *t = arg;
    if (!wr_peerid_equal(&wr_stream_conn(s)->peer, t->silent_to))
        on_question(s, &t->to_others);
}

/* One of two at the same IP does not answer us, and refuses the identity that the filter is tried with. That is not held
 * against the other. */
static void test_two_at_one_address(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    (void)state;
    for (unsigned seed = 0; seed < 5; seed++) {
        struct world w;
        struct two_faced bad = {.to_others = {.ops = &ops, .yes = true}};
        struct member good = {0};
        struct simnat_options nat = {.filtering = SIMNAT_ADF};
        struct wr_autonat_server_stats s;
        start(&w, 2, 0, &nat);
        bad.to_others.env = w.s[0].n.env;
        bad.silent_to = wr_swarm_self(w.c.n.swarm);
        wr_swarm_unhandle(w.s[0].n.swarm, WR_AUTONAT_REQUEST);
        node_handle(&w.s[0].n, WR_AUTONAT_REQUEST, be_two_faced, &bad);
        good.n.host = w.s[0].n.host;
        good.n.port = PORT + 1;
        member_start(&w, &good, 77 + seed);
        meet_all(&w, true);
        connect_to(&w, &w.c, &good, true);
        sim_run(w.sim, 15 * WR_SEC);
        wr_autonat_server_stats(good.server, &s);
        assert_true(bad.to_others.asked > 0);
        assert_true(s.requests >= 6);    /* 4, were it left alone for half a minute */
        member_stop(&good);
        stop(&w);
    }
}

/* Everybody has met the same peers in the same order: the questions of many are spread over all of them. */
static void test_questions_are_spread(void **state)
{
    enum { CROWD = 12 };
    (void)state;
    struct world w;
    struct member crowd[CROWD] = {0};
    start(&w, SERVERS, 0, NULL);
    for (unsigned i = 0; i < CROWD; i++) {
        member_start(&w, &crowd[i], 100 + i);
        member_ask(&crowd[i]);
        for (unsigned k = 0; k < SERVERS; k++)
            connect_to(&w, &crowd[i], &w.s[k], true);
    }
    sim_run(w.sim, 20 * WR_SEC);
    uint64_t least = UINT64_MAX, all = 0;
    for (unsigned k = 0; k < SERVERS; k++) {
        struct wr_autonat_server_stats s;
        wr_autonat_server_stats(w.s[k].server, &s);
        all += s.requests;
        least = s.requests < least ? s.requests : least;
    }
    print_message("%u questions, at least %u to each\n", (unsigned)all, (unsigned)least);
    assert_true(all >= 3 * CROWD && 5 * least > all);
    for (unsigned i = 0; i < CROWD; i++)
        member_stop(&crowd[i]);
    stop(&w);
}

/* A small swarm: of those that could be asked the homes dial for nobody. They have no say; who has is enough. One who is
 * only asked too much has not said that. */
static void test_homes_have_no_say(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    (void)state;
    for (int never = 0; never <= 1; never++) {
        struct world w;
        struct stranger homes[SERVERS];
        start(&w, SERVERS, 0, NULL);
        for (unsigned i = 1; i < SERVERS; i++) {
            make_stranger(&w.s[i], &homes[i], &ops);
            homes[i].yes = never;
        }
        meet_all(&w, true);
        connect_to(&w, &w.c, &w.s[0], false);
        sim_run(w.sim, 30 * WR_SEC);
        assert_int_equal(reach(&w), never ? WR_REACH_PUBLIC : WR_REACH_UNKNOWN);
        stop(&w);
    }
}

/* How many of our addresses strangers are known to reach. */
static unsigned reachable(struct world *w)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(w->c.n.swarm);
    unsigned n = 0;
    for (size_t i = 0; i < book->count; i++)
        n += book->of[i].source == WR_ADDR_LISTEN && book->of[i].verdict == WR_ADDR_REACHABLE;
    return n;
}

/* Many could be asked, and nearly all of them are homes: those that do dial are few, and asked again soon. */
static void test_few_among_many_homes(void **state)
{
    enum { HOMES = 12 };
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    (void)state;
    struct world w;
    struct member home[HOMES] = {0};
    struct stranger says[HOMES];
    start(&w, SERVERS, 0, NULL);
    for (unsigned i = 0; i < HOMES; i++) {
        member_start(&w, &home[i], 100 + i);
        make_stranger(&home[i], &says[i], &ops);
        says[i].yes = true;
        connect_to(&w, &w.c, &home[i], true);
    }
    meet_all(&w, true);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(reachable(&w), 2);
    for (unsigned i = 0; i < HOMES; i++)
        member_stop(&home[i]);
    stop(&w);
}

/* Each of them is asked once, and that is not enough for all addresses of a node that has many, as one with IPv6 has. */
static void test_more_addresses_than_servers(void **state)
{
    enum { MORE = 5 };
    (void)state;
    struct world w;
    struct member more[MORE] = {0};
    start(&w, SERVERS, 0, NULL);
    for (uint16_t port = 5001; port <= 5002; port++) {
        struct wr_addr at;
        struct wr_maddr addr;
        assert_true(wr_maddr_addr(wr_maddr_bytes(&w.c.n.addr), &at));
        at.port = port;
        for (int udp = 0; udp <= 1; udp++) {
            assert_int_equal(wr_maddr_from_addr(&at, udp, &addr), 0);
            assert_int_equal(wr_swarm_listen(w.c.n.swarm, wr_maddr_bytes(&addr)), 0);
        }
    }
    for (unsigned i = 0; i < MORE; i++) {
        member_start(&w, &more[i], 100 + i);
        connect_to(&w, &w.c, &more[i], true);
    }
    meet_all(&w, true);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(reachable(&w), 6);
    for (unsigned i = 0; i < MORE; i++)
        member_stop(&more[i]);
    stop(&w);
}

/* The only server has found no stranger, dialled itself, and does not look for strangers any more: nothing is waited for, and
 * life goes on. */
static void test_a_server_that_looks_for_nobody_any_more(void **state)
{
    (void)state;
    struct simnat_options cone = {.mapping = SIMNAT_EIM, .filtering = SIMNAT_ADF};
    struct world w;
    start(&w, 1, 0, &cone);
    meet_all(&w, true);
    sim_run(w.sim, 8 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    assert_in_range(stats(&w).asked, 1, 100);
    wr_swarm_unhandle(w.s[0].n.swarm, WR_AUTONAT_STRANGER);
    sim_run(w.sim, 5 * WR_MIN);
    assert_int_not_equal(reach(&w), WR_REACH_PUBLIC);
    stop(&w);
}

/* Each mapping gets a port and one of many addresses at random, so that no server sees us where another one does. None of
 * those leads to us: nothing is paid to hear that from servers that have nothing to do with it. */
static void test_a_pool_costs_nothing(void **state)
{
    (void)state;
    struct simnat_options pool = {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM,
                                  .pool = SIMNAT_POOL_MAX};
    for (int quic = 0; quic <= 1; quic++) {
        struct world w;
        start(&w, SERVERS, 1, &pool);
        meet_all(&w, quic);
        sim_run(w.sim, WR_MIN);
        const struct wr_nat *nat = wr_swarm_nat(w.c.n.swarm);
        const struct wr_nat_kind *kind = quic ? &nat->udp : &nat->tcp;
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        assert_int_equal(kind->mapping, WR_NAT_MAP_APDM);
        assert_int_equal(kind->filtering, WR_NAT_FILTER_APDF);
        assert_true(stats(&w).asked > 0);    /* him that a mapping was made for */
        assert_int_equal(stats(&w).data_bytes, 0);
        stop(&w);
    }
}

/* One server of four, whichever it is, always lies. */
static void test_a_lying_server(void **state)
{
    (void)state;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    for (unsigned which = 0; which < SERVERS; which++) {
        for (int yes = 0; yes <= 1; yes++) {
            struct world w;
            struct stranger liar;
            start(&w, SERVERS, 0, yes ? &firewall : NULL);
            make_liar(&w.s[which], &liar, yes);
            meet_all(&w, true);
            sim_run(w.sim, 40 * WR_SEC);
            assert_int_equal(reach(&w), yes ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
            assert_true(liar.asked > 0);
            assert_true(!yes || stats(&w).unproved > 0);
            sim_run(w.sim, 3 * WR_HOUR);
            assert_int_equal(reach(&w), yes ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
            stop(&w);
        }
    }
}

/* Servers that say that they got through are not believed without the nonce, even if they all say so. */
static void test_a_conspiracy(void **state)
{
    (void)state;
    struct world w;
    struct stranger liars[SERVERS];
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    start(&w, SERVERS, 0, &firewall);
    for (unsigned i = 0; i < SERVERS; i++)
        make_liar(&w.s[i], &liars[i], true);
    meet_all(&w, true);
    sim_run(w.sim, WR_HOUR);
    assert_int_not_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(stats(&w).reached, 0);
    stop(&w);
}

struct grumpy {
    const struct wr_peerid *friend;
    unsigned hung_up;
};

static void hang_up(struct wr_stream *s, void *arg)
{
    struct grumpy *g = arg;
    struct wr_conn *c = wr_stream_conn(s);
    wr_stream_reset(s, WR_STREAM_LIMIT);
    if (wr_peerid_equal(&c->peer, g->friend))
        return;
    g->hung_up++;
    wr_conn_close(c, WR_CONN_OK);
}

/* The first server answers nobody, and hangs up on the fresh socket that the filter is tried with, before the others come
 * to that. */
static void test_a_server_that_hangs_up(void **state)
{
    (void)state;
    for (int quic = 0; quic <= 1; quic++) {
        struct world w;
        start(&w, SERVERS, 0, NULL);
        wr_swarm_unhandle(w.s[0].n.swarm, WR_AUTONAT_REQUEST);
        struct grumpy grumpy = {.friend = wr_swarm_self(w.c.n.swarm)};
        node_handle(&w.s[0].n, WR_AUTONAT_REQUEST, hang_up, &grumpy);
        meet_all(&w, quic);
        sim_run(w.sim, WR_MIN);
        assert_true(grumpy.hung_up > 0);
        assert_int_equal(reach(&w), WR_REACH_PUBLIC);
        const struct wr_nat *nat = wr_swarm_nat(w.c.n.swarm);
        assert_int_equal(quic ? nat->udp.filtering : nat->tcp.filtering, WR_NAT_FILTER_EIF);
        stop(&w);
    }
}

/* One server gets through, and the others say nothing, as those do that have no IPv6: that is too little to be told
 * everybody, and no reason to believe that strangers do not reach us. */
static void test_one_that_gets_through_proves_no_wall(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = decline, .on_close = lie_over};
    struct world w;
    struct stranger others[SERVERS];
    (void)state;
    start(&w, SERVERS, 0, NULL);
    for (unsigned i = 1; i < SERVERS; i++)
        make_stranger(&w.s[i], &others[i], &ops);
    meet_all(&w, true);
    sim_run(w.sim, 5 * WR_MIN);
    assert_true(stats(&w).reached > 0 && stats(&w).refused > 0);
    assert_int_equal(stats(&w).failed, 0);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    stop(&w);
}

static void open_again(struct node *from, struct node *to)
{
    static const char *const offer[] = {WR_AUTONAT_BACK, NULL};
    static const struct wr_stream_ops none;
    static int connected;    /* does not matter, and comes late */
    int err;
    (void)wr_swarm_connect(from->swarm, wr_swarm_self(to->swarm), &to->addr, 1, WR_ORIGIN_OWNER, WR_CONNECT_FRESH,
                           node_on_connect, &connected, NULL);
    struct wr_conn *c = node_conn(from, to);
    for (unsigned i = 0; c && i < 2; i++)
        (void)wr_conn_open_stream(c, offer, &none, NULL, &err);
}

/* Strangers open dial-backs without end, and bring nothing. Those that bring something are heard all the same. */
static void test_dial_backs_that_bring_nothing(void **state)
{
    (void)state;
    struct world w;
    start(&w, SERVERS, OTHERS, NULL);
    w.c.n.limits.of[WR_LIMIT_CONNS_PER_PEER].max = 64;
    for (unsigned i = 0; i < 16; i++) {
        open_again(&w.x[i % OTHERS].n, &w.c.n);
        sim_run(w.sim, 200 * WR_MSEC);
    }
    meet_all(&w, true);
    for (unsigned i = 0; i < 150; i++) {
        open_again(&w.x[i % OTHERS].n, &w.c.n);
        sim_run(w.sim, 200 * WR_MSEC);
    }
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(stats(&w).unproved, 0);
    stop(&w);
}

/* ---- version 1 ------------------------------------------------------------------------------------- */

static void test_version_1_will_do(void **state)
{
    (void)state;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    for (int walled = 0; walled <= 1; walled++) {
        struct world w;
        start(&w, SERVERS, 0, walled ? &firewall : NULL);
        for (unsigned i = 0; i < SERVERS; i++) {
            wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_REQUEST);
            wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_STRANGER);
        }
        meet_all(&w, true);
        sim_run(w.sim, WR_MIN);
        assert_int_equal(reach(&w), walled ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
        assert_true(stats(&w).asked_v1 > 0 && stats(&w).asked == stats(&w).asked_v1);
        stop(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_observer_who_costs),
        cmocka_unit_test(test_a_hungry_server),
        cmocka_unit_test(test_dial_data_has_an_end),
        cmocka_unit_test(test_servers_that_refuse),
        cmocka_unit_test(test_servers_that_have_too_much_to_do),
        cmocka_unit_test(test_two_at_one_address),
        cmocka_unit_test(test_questions_are_spread),
        cmocka_unit_test(test_homes_have_no_say),
        cmocka_unit_test(test_few_among_many_homes),
        cmocka_unit_test(test_more_addresses_than_servers),
        cmocka_unit_test(test_a_server_that_looks_for_nobody_any_more),
        cmocka_unit_test(test_a_pool_costs_nothing),
        cmocka_unit_test(test_a_lying_server),
        cmocka_unit_test(test_a_conspiracy),
        cmocka_unit_test(test_a_server_that_hangs_up),
        cmocka_unit_test(test_one_that_gets_through_proves_no_wall),
        cmocka_unit_test(test_dial_backs_that_bring_nothing),
        cmocka_unit_test(test_version_1_will_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
