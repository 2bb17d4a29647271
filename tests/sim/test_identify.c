/* identify between whole swarms in virtual time: both ways, pushes, observers, crowds. */
#include "tests/sim/identify_world.h"

#include <stdio.h>

/* ---- the ordinary course of things */

static void test_both_ways_in_one_round_trip(void **state)
{
    struct world *w = *state;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    node_handle(&w->a, "/story/a", refuse, NULL);
    node_handle(&w->b, "/story/b", refuse, NULL);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 2 * RTT);
    assert_int_equal(w->a.identified, 1);
    assert_int_equal(w->b.identified, 1);
    assert_true(node_conn(&w->a, &w->b)->identified && node_conn(&w->b, &w->a)->identified);
    assert_int_equal(node_knows(&w->a, &w->b, "/story/b"), 1);
    assert_int_equal(node_knows(&w->a, &w->b, "/story/a"), 0);
    assert_int_equal(node_knows(&w->b, &w->a, "/story/a"), 1);
    assert_int_equal(node_knows(&w->b, &w->a, WR_IDENTIFY_PUSH), 1);
    assert_string_equal(wr_peer_agent(node_peer(&w->b, &w->a)), "warren/" WARREN_VERSION);
    assert_true(knows_addr(&w->a, &w->b) && knows_addr(&w->b, &w->a));
    assert_true(node_peer(&w->b, &w->a)->addrs[0].certified);
    assert_true(node_peer(&w->b, &w->a)->record_seq > 0);
    /* The question leaves in the turn the connection opens. */
    assert_true(w->a.identified_at - w->a.opened_at <= RTT + 5 * WR_MSEC);
    assert_true(w->b.identified_at - w->b.opened_at <= RTT + 5 * WR_MSEC);
    assert_true(stats(w->id_a).asked == 1 && stats(w->id_a).answered == 1);
    /* Nothing is left of it: no stream, no memory beside the peerstore's. */
    sim_run(w->sim, WR_SEC);
    assert_int_equal(node_conn(&w->a, &w->b)->stream_count, 0);
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 0);
}

static void note_end(struct wr_stream *s, void *arg)
{
    *(wr_time *)arg = wr_env_now(wr_stream_conn(s)->ctx->env);
    wr_stream_close(s);
}

static void note_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    (void)arg;
    (void)data;
}

static void serve_end(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {.on_data = note_data, .on_eof = note_end};
    wr_stream_set_ops(s, &ops, arg);
}

/* How long the end of a stream needs that asks one question, of a peer that says to be this agent. */
static wr_time end_needs(const char *agent)
{
    static const char *const offer[] = {"/story/ask", NULL};
    static const struct wr_stream_ops ops = {.on_data = note_data};
    struct world *w;
    wr_time ended = 0;
    int err;
    assert_int_equal(setup((void **)&w), 0);
    w->id_a = identify(&w->a);
    w->id_b = wr_identify_create(&(struct wr_identify_options){.swarm = w->b.swarm, .agent = agent});
    node_handle(&w->b, "/story/ask", serve_end, &ended);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    wr_time begun = wr_env_now(w->a.env);
    struct wr_stream *s = wr_swarm_open(w->a.swarm, wr_swarm_self(w->b.swarm), offer, &ops, NULL, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, "?", 1), 1);
    wr_stream_shut(s);
    sim_run(w->sim, WR_SEC);
    assert_true(ended != 0);
    teardown((void **)&w);
    return ended - begun;
}

/* js resets a stream that ends while it negotiates: there, and with whoever is not known, the end waits for the answer. */
static void test_the_end_of_a_question_rides_along_where_that_is_understood(void **state)
{
    (void)state;
    assert_in_range(end_needs("warren/1"), RTT / 2, RTT);
    assert_in_range(end_needs("rust-libp2p/0.47.0"), RTT / 2, RTT);
    assert_in_range(end_needs("js-libp2p/3.0.0"), RTT + RTT / 2, 2 * RTT);
    assert_in_range(end_needs("somebody/1"), RTT + RTT / 2, 2 * RTT);
}

static void test_connections_of_before_are_asked(void **state)
{
    struct world *w = *state;
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->b.identified, 0);    /* a does not speak it: no answer, no harm */
    w->id_a = identify(&w->a);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->a.identified, 1);
    assert_int_equal(node_knows(&w->a, &w->b, WR_IDENTIFY_NAME), 1);
}

static void test_a_peer_without_identify_is_not_asked_twice(void **state)
{
    struct world *w = *state;
    w->id_a = identify(&w->a);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 30 * WR_SEC);
    assert_int_equal(stats(w->id_a).failed, 1);
    assert_int_equal(node_knows(&w->a, &w->b, WR_IDENTIFY_NAME), -1);
    assert_int_equal(w->a.closed, 0);
}

static void test_addresses_outlive_the_connection_for_a_while(void **state)
{
    struct world *w = *state;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 3 * WR_HOUR);
    assert_true(knows_addr(&w->b, &w->a));
    wr_swarm_disconnect(w->a.swarm, wr_swarm_self(w->b.swarm), WR_CONN_OK);
    sim_run(w->sim, WR_TTL_RECENT - WR_MIN);
    assert_true(knows_addr(&w->b, &w->a));
    sim_run(w->sim, 3 * WR_MIN);
    assert_false(knows_addr(&w->b, &w->a));
}

/* ---- pushing */

static void test_changes_are_pushed_once_and_not_too_often(void **state)
{
    struct world *w = *state;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(stats(w->id_a).pushed, 0);
    node_handle(&w->a, "/story/1", refuse, NULL);
    sim_run(w->sim, 500 * WR_MSEC);
    node_handle(&w->a, "/story/2", refuse, NULL);
    assert_int_equal(w->b.changed, 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->b.changed, 1);
    assert_int_equal(node_knows(&w->b, &w->a, "/story/1"), 1);
    assert_int_equal(node_knows(&w->b, &w->a, "/story/2"), 1);
    assert_true(knows_addr(&w->b, &w->a));
    /* The next one waits for its five seconds. */
    wr_swarm_unhandle(w->a.swarm, "/story/1");
    sim_run(w->sim, 3 * WR_SEC);
    assert_int_equal(w->b.changed, 1);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->b.changed, 2);
    assert_int_equal(node_knows(&w->b, &w->a, "/story/1"), 0);
    /* What changes and changes back is no news. */
    sim_run(w->sim, 10 * WR_SEC);
    node_handle(&w->a, "/story/1", refuse, NULL);
    wr_swarm_unhandle(w->a.swarm, "/story/1");
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(w->b.changed, 2);
    assert_true(stats(w->id_a).pushed == 2 && stats(w->id_b).taken == 2 && stats(w->id_a).failed == 0);
}

/* Where we can be reached all hear within a second, also when one thing is found out after the other; without end they do
 * not hear it. */
static void test_ways_in_are_pushed_at_once(void **state)
{
    enum { WAYS = WR_IDENTIFY_PROMPT_MAX };
    struct world *w = *state;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 10 * WR_SEC);
    node_handle(&w->a, "/story/1", refuse, NULL);
    sim_run(w->sim, 2 * WR_SEC);    /* a push of just now is not in the way */
    unsigned before = w->b.changed;
    struct wr_addrbook *book = wr_swarm_addrbook(w->a.swarm);
    for (unsigned i = 0; i < WAYS; i++) {
        struct wr_addr at = {.ip = {4, {93, 184, 216, (uint8_t)i}}, .port = 4001};
        struct wr_maddr way;
        assert_int_equal(wr_maddr_from_addr(&at, false, &way), 0);
        assert_true(wr_addrbook_put(book, wr_maddr_bytes(&way), WR_ADDR_CONFIGURED, sim_now(w->sim)));
        assert_true(wr_addrbook_judge(book, wr_maddr_bytes(&way), WR_ADDR_REACHABLE, sim_now(w->sim)));
        wr_swarm_addrs_changed(w->a.swarm);
        sim_run(w->sim, WR_SEC);
        assert_int_equal(w->b.changed - before, i < WR_IDENTIFY_PROMPT_MAX - 1 ? i + 1 : WR_IDENTIFY_PROMPT_MAX - 1);
    }
    sim_run(w->sim, WR_IDENTIFY_PUSH_EVERY);
    assert_int_equal(w->b.changed - before, WR_IDENTIFY_PROMPT_MAX);
    assert_int_equal(node_peer(&w->b, &w->a)->addr_count, 1 + WAYS);
    assert_int_equal(stats(w->id_a).failed, 0);
}

/* So is a place at a relay, and that it is lost: whoever looks for us meanwhile is told of relays that are gone. */
static void test_places_at_relays_wait_for_no_earlier_push(void **state)
{
    struct world *w = *state;
    struct wr_maddr way;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 10 * WR_SEC);
    node_handle(&w->a, "/story/1", refuse, NULL);
    sim_run(w->sim, 1500 * WR_MSEC);
    unsigned before = w->b.changed;
    assert_int_equal(wr_maddr_parse("/ip4/93.184.216.1/tcp/4001/p2p/12D3KooWSKPTHNvGb9CWW2JSQ5Sg7x6YT9kzGMpJNZXBES1hxU82/"
                                    "p2p-circuit", &way),
                     0);
    struct wr_addrbook *book = wr_swarm_addrbook(w->a.swarm);
    assert_true(wr_addrbook_put(book, wr_maddr_bytes(&way), WR_ADDR_RELAYED, sim_now(w->sim)));
    wr_swarm_addrs_changed(w->a.swarm);
    sim_run(w->sim, WR_IDENTIFY_DEBOUNCE + 200 * WR_MSEC);
    assert_int_equal(w->b.changed - before, 1);
    assert_int_equal(node_peer(&w->b, &w->a)->addr_count, 2);
    assert_true(wr_addrbook_del(book, wr_maddr_bytes(&way), WR_ADDR_RELAYED));
    wr_swarm_addrs_changed(w->a.swarm);
    sim_run(w->sim, WR_IDENTIFY_DEBOUNCE + 200 * WR_MSEC);
    assert_int_equal(w->b.changed - before, 2);
}

static uint64_t count_records(void *arg)
{
    return ++*(uint64_t *)arg;
}

static void test_an_address_change_is_pushed(void **state)
{
    struct world *w = *state;
    struct wr_maddr more;
    uint64_t records = 0;
    w->id_a = wr_identify_create(&(struct wr_identify_options){
        .swarm = w->a.swarm, .next_seq = count_records, .arg = &records});
    assert_non_null(w->id_a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    uint64_t seq = node_peer(&w->b, &w->a)->record_seq;
    assert_int_equal(wr_maddr_parse("/ip4/9.8.7.6/tcp/4001", &more), 0);
    assert_true(wr_addrbook_put(wr_swarm_addrbook(w->a.swarm), wr_maddr_bytes(&more), WR_ADDR_CONFIGURED,
                                wr_env_now(w->a.env)));
    wr_swarm_addrs_changed(w->a.swarm);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->b.changed, 1);
    assert_int_equal(node_peer(&w->b, &w->a)->addr_count, 2);
    assert_true(node_peer(&w->b, &w->a)->record_seq > seq);
    /* A private address is none of a public peer's business: no push. */
    assert_int_equal(wr_maddr_parse("/ip4/192.168.1.1/tcp/4001", &more), 0);
    assert_true(wr_addrbook_put(wr_swarm_addrbook(w->a.swarm), wr_maddr_bytes(&more), WR_ADDR_LISTEN,
                                wr_env_now(w->a.env)));
    wr_swarm_addrs_changed(w->a.swarm);
    sim_run(w->sim, 20 * WR_SEC);
    assert_int_equal(w->b.changed, 1);
    /* One signature per set of addresses that somebody was told, the caller's numbers in them. */
    assert_true(records == 2 && node_peer(&w->b, &w->a)->record_seq == 2);
}

/* ---- what peers see of us */

#define OBSERVERS 10

/* A NAT that keeps ports: what leaves from inside comes from its own address. */
static bool nat_out(struct sim_gateway *g, struct sim_head *head, wr_time now)
{
    (void)now;
    head->from.ip = g->ip4;
    return true;
}

static bool nat_in(struct sim_gateway *g, struct sim_head *head, wr_time now)
{
    (void)now;
    head->to.ip = *(const struct wr_ip *)g->state;
    return true;
}

static const char *own_observed(struct node *n)
{
    static char text[WR_MADDR_TEXT];
    const struct wr_addrbook *book = wr_swarm_addrbook(n->swarm);
    text[0] = 0;
    for (size_t i = 0; i < book->count; i++) {
        if (book->of[i].source == WR_ADDR_OBSERVED)
            wr_maddr_print(wr_maddr_bytes(&book->of[i].addr), text, sizeof(text));
    }
    return text;
}

static bool candidate(const struct node *n, const char *text)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(n->swarm);
    struct wr_maddr want;
    bool found = false;
    assert_int_equal(wr_maddr_parse(text, &want), 0);
    for (size_t i = 0; i < book->count; i++)
        found |= book->of[i].source == WR_ADDR_CANDIDATE &&
                 wr_bytes_equal(wr_maddr_bytes(&book->of[i].addr), wr_maddr_bytes(&want));
    return found;
}

static void test_observers_agree_and_liars_lose(void **state)
{
    (void)state;
    static struct node home, peers[OBSERVERS];
    struct wr_identify *ids[OBSERVERS], *id;
    struct wr_ip inside = {.family = 4, .bytes = {192, 168, 1, 7}};
    struct sim_gateway nat = {.ip4 = {.family = 4, .bytes = {93, 184, 216, 34}},
                              .outbound = nat_out, .inbound = nat_in, .state = &inside};
    struct sim *sim = sim_create(&(struct sim_options){.seed = 5, .rtt = RTT});
    memset(&home, 0, sizeof(home));
    memset(peers, 0, sizeof(peers));
    sim_gateway_add(sim, &nat);
    home.host = sim_host_add(sim, &(struct sim_host_options){.ip4 = inside, .gateway = &nat, .lan = 1});
    node_start(&home, sim, 1);
    id = identify(&home);
    /* Every fifth lies: it answers with an observed address of its own choice. */
    static const uint8_t lie[] = {10, 0x22, 8, 4, 6, 6, 6, 6, 6, 0x0f, 0xa1};
    struct script liar = {.data = lie, .len = sizeof(lie)};
    for (unsigned i = 0; i < OBSERVERS; i++) {
        node_start(&peers[i], sim, 10 + i);
        ids[i] = i % 5 ? identify(&peers[i]) : NULL;
        if (!ids[i])
            node_handle(&peers[i], WR_IDENTIFY_NAME, on_scripted, &liar);
    }
    struct wr_candidate seen[4];
    for (unsigned i = 0; i < OBSERVERS; i++) {
        assert_int_equal(node_connect(sim, &home, &peers[i]), 0);
        sim_run(sim, 3 * WR_SEC);
        assert_true(wr_identify_candidates(id, seen, 4) >= 1);    /* shown from the first on */
        assert_string_equal(own_observed(&home), i < 3 ? "" : "/ip4/93.184.216.34/tcp/4001");
        assert_int_equal(candidate(&home, "/ip4/93.184.216.34/tcp/4001"), i == 1 || i == 2);    /* one will do to punch */
    }
    assert_int_equal(wr_identify_candidates(id, seen, 4), 2);
    assert_true(seen[0].active && seen[0].networks == 8 && seen[0].all == 10 && !seen[1].active);
    /* It is announced, and peers are told. */
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(node_peer(&peers[1], &home)->addr_count, 1);
    /* It stays for ten minutes after the last witness, and is taken back. */
    for (unsigned i = 0; i < OBSERVERS; i++)
        wr_swarm_disconnect(home.swarm, wr_swarm_self(peers[i].swarm), WR_CONN_OK);
    sim_run(sim, WR_OBSERVED_MEMORY - WR_MIN);
    assert_string_equal(own_observed(&home), "/ip4/93.184.216.34/tcp/4001");
    sim_run(sim, 2 * WR_MIN);
    assert_string_equal(own_observed(&home), "");
    wr_identify_destroy(id);
    node_stop(&home);
    for (unsigned i = 0; i < OBSERVERS; i++) {
        wr_identify_destroy(ids[i]);
        node_stop(&peers[i]);
    }
    sim_destroy(sim);
}

/* A port that is not ours to listen on says nothing about where we can be reached. */
static void test_other_ports_are_no_evidence(void **state)
{
    struct world *w = *state;
    static struct wr_ip inside;
    static struct sim_gateway nat;
    struct node deaf = {0};
    inside = (struct wr_ip){.family = 4, .bytes = {192, 168, 1, 7}};
    nat = (struct sim_gateway){.ip4 = {.family = 4, .bytes = {93, 184, 216, 34}},
                               .outbound = nat_out, .inbound = nat_in, .state = &inside};
    sim_gateway_add(w->sim, &nat);
    deaf.host = sim_host_add(w->sim, &(struct sim_host_options){.ip4 = inside, .gateway = &nat, .lan = 1});
    struct wr_candidate seen[2];
    int result = 1;
    uint8_t seed[WR_ED25519_SEED] = {99};
    wr_key_generate(&deaf.key, seed);
    assert_int_equal(wr_limits_init(&deaf.limits, "small"), 0);
    deaf.swarm = wr_swarm_create(&(struct wr_swarm_options){
        .env = sim_host_env(deaf.host), .limits = &deaf.limits, .identity = &deaf.key});
    struct wr_identify *id = identify(&deaf);
    w->id_b = identify(&w->b);
    sim_run(w->sim, WR_SEC);
    uint64_t before = wr_swarm_addrbook(deaf.swarm)->generation;
    assert_int_equal(wr_swarm_connect(deaf.swarm, wr_swarm_self(w->b.swarm), &w->b.addr, 1,
                                      WR_ORIGIN_OWNER, 0, node_on_connect, &result, NULL),
                     0);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(result, 0);
    assert_true(wr_swarm_conn(deaf.swarm, wr_swarm_self(w->b.swarm))->identified);
    assert_int_equal(wr_identify_candidates(id, seen, 2), 0);
    assert_int_equal(wr_swarm_addrbook(deaf.swarm)->generation, before);    /* not even for a moment */
    wr_identify_destroy(id);
    wr_swarm_destroy(deaf.swarm);
    sim_run(w->sim, WR_SEC);
}

/* ---- many at once */

#define LEAVES 70

struct star {
    struct sim *sim;
    struct node hub, leaves[LEAVES];
    struct wr_identify *id, *ids[LEAVES];
};

static struct star *star_make(bool leaves_identify)
{
    struct star *star = wr_alloc(sizeof(*star));
    star->sim = sim_create(&(struct sim_options){.seed = 9, .rtt = RTT});
    node_start(&star->hub, star->sim, 1);
    star->id = identify(&star->hub);
    for (unsigned i = 0; i < LEAVES; i++) {
        node_start(&star->leaves[i], star->sim, 100 + i);
        star->ids[i] = leaves_identify ? identify(&star->leaves[i]) : NULL;
        assert_int_equal(node_connect(star->sim, &star->leaves[i], &star->hub), 0);
    }
    sim_run(star->sim, 10 * WR_SEC);
    return star;
}

static void star_free(struct star *star)
{
    wr_identify_destroy(star->id);
    node_stop(&star->hub);
    for (unsigned i = 0; i < LEAVES; i++) {
        wr_identify_destroy(star->ids[i]);
        node_stop(&star->leaves[i]);
    }
    sim_destroy(star->sim);
    wr_free(star);
}

static void count_streams(struct wr_conn *c, void *arg)
{
    *(unsigned *)arg += c->stream_count;
}

static void test_a_change_reaches_everybody_32_at_a_time(void **state)
{
    (void)state;
    struct star *star = star_make(true);
    unsigned most = 0;
    node_handle(&star->hub, "/story/news", refuse, NULL);
    for (int i = 0; i < 3000; i++) {
        unsigned streams = 0;
        sim_run(star->sim, WR_MSEC);
        wr_swarm_each(star->hub.swarm, count_streams, &streams);
        most = streams > most ? streams : most;
    }
    assert_int_equal(stats(star->id).pushed, LEAVES);
    for (unsigned i = 0; i < LEAVES; i++)
        assert_int_equal(node_knows(&star->leaves[i], &star->hub, "/story/news"), 1);
    /* Those that wait for the peer's end after their message are counted here, too. */
    assert_true(most >= WR_IDENTIFY_PUSHES_MAX && most <= 2 * WR_IDENTIFY_PUSHES_MAX);
    star_free(star);
}

static void test_pushes_that_hang_have_a_ceiling(void **state)
{
    (void)state;
    static const char *const push[] = {WR_IDENTIFY_PUSH, NULL};
    static const struct wr_stream_ops quiet = {.on_close = on_nothing};
    struct star *star = star_make(false);
    unsigned closed = 0;
    int err = 0;
    for (unsigned i = 0; i < LEAVES; i++) {
        struct wr_stream *s = wr_conn_open_stream(node_conn(&star->leaves[i], &star->hub), push, &quiet,
                                                  &closed, &err);
        assert_int_equal(wr_stream_write(s, "\x50", 1), 1);
    }
    sim_run(star->sim, WR_SEC);
    assert_int_equal(closed, LEAVES - WR_IDENTIFY_ANSWERS_MAX);
    assert_int_equal(stats(star->id).refused, LEAVES - WR_IDENTIFY_ANSWERS_MAX);
    sim_run(star->sim, WR_IDENTIFY_TIMEOUT);
    assert_int_equal(closed, LEAVES);
    /* There is room again. */
    static const uint8_t pushed[] = {4, 0x1a, 2, '/', 'x'};
    struct wr_stream *s = wr_conn_open_stream(node_conn(&star->leaves[0], &star->hub), push, &quiet,
                                              &closed, &err);
    wr_stream_write(s, pushed, sizeof(pushed));
    wr_stream_close(s);
    sim_run(star->sim, WR_SEC);
    assert_int_equal(node_knows(&star->hub, &star->leaves[0], "/x"), 1);
    star_free(star);
}

/* ---- out of memory */

/* Two nodes meet while one allocation, then another ... fails: nobody crashes, leaks or hangs, and once
 * memory is back they can talk. */
static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t count = 0;
    for (uint64_t run = 0; run <= count; run++) {
        uint64_t k = run - 1;    /* the first run only counts */
        struct world w = {.sim = sim_create(&(struct sim_options){.seed = 3, .rtt = RTT})};
        int result = 1;
        node_start(&w.a, w.sim, 1);
        node_start(&w.b, w.sim, 2);
        w.id_a = identify(&w.a);
        w.id_b = identify(&w.b);
        sim_run(w.sim, WR_SEC);
        sim_alloc_fail(k, 1);
        if (wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), &w.b.addr, 1, WR_ORIGIN_OWNER, 0,
                             node_on_connect, &result, NULL) != 0)
            result = WR_ELIMIT;
        sim_run(w.sim, WR_MIN);
        count = run == 0 ? sim_alloc_count() : count;
        sim_alloc_fail(0, 0);
        assert_int_not_equal(result, 1);
        if (node_conn(&w.a, &w.b))
            assert_int_equal(node_conn(&w.a, &w.b)->stream_count, 0);
        wr_swarm_disconnect(w.a.swarm, wr_swarm_self(w.b.swarm), WR_CONN_OK);
        sim_run(w.sim, WR_HOUR);
        assert_int_equal(node_connect(w.sim, &w.a, &w.b), 0);
        sim_run(w.sim, WR_MIN);
        assert_int_equal(node_knows(&w.a, &w.b, WR_IDENTIFY_NAME), 1);
        assert_int_equal(node_knows(&w.b, &w.a, WR_IDENTIFY_NAME), 1);
        wr_identify_destroy(w.id_a);
        wr_identify_destroy(w.id_b);
        node_stop(&w.a);
        node_stop(&w.b);
        sim_destroy(w.sim);
    }
    assert_true(count > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_ways_in_one_round_trip, setup, teardown),
        cmocka_unit_test(test_the_end_of_a_question_rides_along_where_that_is_understood),
        cmocka_unit_test_setup_teardown(test_connections_of_before_are_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_peer_without_identify_is_not_asked_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_outlive_the_connection_for_a_while, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_changes_are_pushed_once_and_not_too_often, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ways_in_are_pushed_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places_at_relays_wait_for_no_earlier_push, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_address_change_is_pushed, setup, teardown),
        cmocka_unit_test(test_observers_agree_and_liars_lose),
        cmocka_unit_test_setup_teardown(test_other_ports_are_no_evidence, setup, teardown),
        cmocka_unit_test(test_a_change_reaches_everybody_32_at_a_time),
        cmocka_unit_test(test_pushes_that_hang_have_a_ceiling),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
