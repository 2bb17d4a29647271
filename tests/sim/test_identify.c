/* identify between whole swarms in virtual time: both ways, pushes, liars, abuse. */
#include "tests/sim/simnode.h"

#include "identify/identify.h"
#include "transport/envelope.h"

#include <stdio.h>

#define RTT (40 * WR_MSEC)

struct world {
    struct sim *sim;
    struct node a, b;
    struct wr_identify *id_a, *id_b;
};

static void refuse(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_reset(s, WR_STREAM_OK);
}

static int setup(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 11, .rtt = RTT});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    wr_identify_destroy(w->id_a);
    wr_identify_destroy(w->id_b);
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static struct wr_identify *identify(struct node *n)
{
    struct wr_identify *id = wr_identify_create(&(struct wr_identify_options){.swarm = n->swarm});
    assert_non_null(id);
    return id;
}

static struct wr_identify_stats stats(const struct wr_identify *id)
{
    struct wr_identify_stats s;
    wr_identify_stats(id, &s);
    return s;
}

static bool knows(struct node *n, struct node *peer, const struct wr_maddr *addr)
{
    struct wr_maddr list[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(n->swarm), wr_swarm_self(peer->swarm), list,
                                      WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (wr_bytes_equal(wr_maddr_bytes(&list[i]), wr_maddr_bytes(addr)))
            return true;
    }
    return false;
}

static bool knows_addr(struct node *n, struct node *peer)
{
    return knows(n, peer, &peer->addr);
}

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

/* ---- peers that misbehave: they answer with bytes of the test's */

struct script {
    const uint8_t *data;
    size_t len;
    bool hang;             /* never finish */
    bool drip;             /* one byte every three seconds */
    unsigned streams;
};

static void on_scripted(struct wr_stream *s, void *arg)
{
    struct script *script = arg;
    script->streams++;
    wr_stream_write(s, script->data, script->len);
    if (!script->hang)
        wr_stream_close(s);
}

/* a asks b, which plays the script; returns how a's exchange failed (counted), after a minute. */
static uint64_t play(struct world *w, struct script *script)
{
    node_handle(&w->b, WR_IDENTIFY_NAME, on_scripted, script);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_MIN);
    uint64_t failed = stats(w->id_a).failed;
    /* Whatever it was: the connection lives, nothing hangs on. */
    assert_non_null(node_conn(&w->a, &w->b));
    assert_int_equal(node_conn(&w->a, &w->b)->stream_count, 0);
    wr_swarm_disconnect(w->a.swarm, wr_swarm_self(w->b.swarm), WR_CONN_OK);
    sim_run(w->sim, WR_MIN);
    wr_swarm_unhandle(w->b.swarm, WR_IDENTIFY_NAME);
    /* What was received is gone; the peerstore's entry is small. */
    assert_true(w->a.limits.of[WR_LIMIT_MEMORY].used < 8192);
    return failed;
}

static void test_hostile_answers(void **state)
{
    struct world *w = *state;
    static uint8_t big[100000];
    static const uint8_t nine_thousand[] = {0xa8, 0x46};    /* the length 9000 */
    w->id_a = identify(&w->a);
    struct script oversized = {.data = nine_thousand, .len = 2};
    uint64_t before = 0, after = play(w, &oversized);
    assert_true(after > before);
    before = after;
    /* Eleven messages. */
    memset(big, 0, sizeof(big));
    struct script many = {.data = big, .len = 11};
    after = play(w, &many);
    assert_true(after > before);
    before = after;
    /* Ten full ones, of addresses only: taken, and capped. */
    struct wr_buf ten;
    wr_buf_init(&ten, sizeof(big));
    for (int i = 0; i < 10; i++) {
        static const uint8_t field[] = {0x12, 8, 4, 9, 9, 9, 9, 6, 1, 0};
        wr_buf_put_uvarint(&ten, 800 * sizeof(field));
        for (int k = 0; k < 800; k++) {
            uint8_t one[sizeof(field)];
            memcpy(one, field, sizeof(field));
            one[5] = (uint8_t)k;
            one[9] = (uint8_t)i;
            wr_buf_put(&ten, one, sizeof(one));
        }
    }
    assert_false(ten.full);
    struct script addresses = {.data = ten.data, .len = ten.len};
    after = play(w, &addresses);
    assert_true(after == before);
    assert_int_equal(w->a.identified, 1);
    assert_true(node_peer(&w->a, &w->b)->addr_count <= WR_PEER_ADDRS_MAX);
    wr_buf_clear(&ten);
    /* Cut off, empty, another's key, no protobuf. */
    static const uint8_t cut[] = {5, 0x0a, 0x02};
    static const uint8_t other_key[] = {38, 0x0a, 36, 8, 1, 0x12, 32, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
    static const uint8_t junk[] = {3, 0xff, 0xff, 0xff};
    const struct script scripts[] = {{.data = cut, .len = sizeof(cut)},
                                     {.data = cut, .len = 0},
                                     {.data = other_key, .len = sizeof(other_key)},
                                     {.data = junk, .len = sizeof(junk)}};
    for (size_t i = 0; i < 4; i++) {
        struct script script = scripts[i];
        before = stats(w->id_a).failed;
        after = play(w, &script);
        assert_true(after > before);
        assert_int_equal(w->a.identified, 1);
    }
}

static void test_slow_answers_end_after_one_more_try(void **state)
{
    struct world *w = *state;
    static const uint8_t start[] = {0x20, 0x0a};
    struct script hang = {.data = start, .len = 2, .hang = true};
    w->id_a = identify(&w->a);
    node_handle(&w->b, WR_IDENTIFY_NAME, on_scripted, &hang);
    uint64_t memory = w->a.limits.of[WR_LIMIT_MEMORY].used;
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_IDENTIFY_TIMEOUT - WR_SEC);
    assert_int_equal(stats(w->id_a).failed, 0);
    sim_run(w->sim, 5 * WR_MIN);
    assert_int_equal(hang.streams, 2);
    assert_int_equal(stats(w->id_a).failed, 2);
    assert_int_equal(node_conn(&w->a, &w->b)->stream_count, 0);
    wr_swarm_disconnect(w->a.swarm, wr_swarm_self(w->b.swarm), WR_CONN_OK);
    sim_run(w->sim, 2 * WR_HOUR);
    assert_true(w->a.limits.of[WR_LIMIT_MEMORY].used <= memory + 1024);    /* the peerstore's entry */
}

static void on_nothing(struct wr_stream *s, void *arg, int err)
{
    unsigned *closed = arg;
    (void)s;
    (void)err;
    ++*closed;
}

static void count_eof(struct wr_stream *s, void *arg)
{
    unsigned *closed = arg;
    ++*closed;
    wr_stream_close(s);
}

static void test_floods_are_bounded(void **state)
{
    struct world *w = *state;
    static const char *const ask[] = {WR_IDENTIFY_NAME, NULL};
    static const char *const push[] = {WR_IDENTIFY_PUSH, NULL};
    static const struct wr_stream_ops quiet = {.on_close = on_nothing, .on_eof = count_eof};
    static const uint8_t pushed[] = {4, 0x1a, 2, '/', 'x'};
    unsigned closed = 0;
    int err = 0;
    w->id_a = identify(&w->a);
    assert_int_equal(node_connect(w->sim, &w->b, &w->a), 0);
    sim_run(w->sim, WR_SEC);
    struct wr_conn *c = node_conn(&w->b, &w->a);
    for (int i = 0; i < 100; i++)
        assert_non_null(wr_conn_open_stream(c, ask, &quiet, &closed, &err));
    sim_run(w->sim, 30 * WR_SEC);
    assert_int_equal(closed, 100);
    assert_true(stats(w->id_a).answered >= 4);    /* one round trip's worth; the others were reset */
    /* Pushes: a burst goes, the rest is turned away; later one goes again. */
    uint64_t taken = 0;
    for (int i = 0; i < 40; i++) {
        struct wr_stream *s = wr_conn_open_stream(c, push, &quiet, &closed, &err);
        assert_non_null(s);
        wr_stream_write(s, pushed, sizeof(pushed));
        wr_stream_shut(s);
        sim_run(w->sim, 50 * WR_MSEC);
    }
    taken = stats(w->id_a).taken;
    assert_true(taken >= 8 && taken <= WR_IDENTIFY_PUSH_BURST);
    assert_int_equal(node_knows(&w->a, &w->b, "/x"), 1);
    sim_run(w->sim, WR_MIN);
    struct wr_stream *s = wr_conn_open_stream(c, push, &quiet, &closed, &err);
    wr_stream_write(s, pushed, sizeof(pushed));
    wr_stream_close(s);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(stats(w->id_a).taken, taken + 1);
    assert_int_equal(c->stream_count, 0);
}

static void test_a_partial_push_keeps_the_rest(void **state)
{
    struct world *w = *state;
    static const char *const push[] = {WR_IDENTIFY_PUSH, NULL};
    static const uint8_t pushed[] = {4, 0x1a, 2, '/', 'x'};
    int err = 0;
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->b, &w->a), 0);
    sim_run(w->sim, WR_SEC);
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->b, &w->a), push, NULL, NULL, &err);
    wr_stream_write(s, pushed, sizeof(pushed));
    wr_stream_close(s);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(node_knows(&w->a, &w->b, "/x"), 1);
    assert_int_equal(node_knows(&w->a, &w->b, WR_IDENTIFY_NAME), 0);    /* the list is replaced */
    sim_run(w->sim, 10 * WR_MIN);
    assert_true(knows_addr(&w->a, &w->b));                              /* addresses were not spoken of */
}

/* The record that `signer` makes for `named`, by the wire format: RFC 0003 with the deployed constants. */
static void seal_for(const struct wr_key *signer, const struct wr_peerid *named, const struct wr_maddr *addr,
                     struct wr_buf *out)
{
    struct wr_buf payload;
    wr_buf_init(&payload, 1024);
    wr_buf_put_u8(&payload, 0x0a);
    wr_buf_put_prefixed(&payload, wr_peerid_bytes(named));
    wr_buf_put(&payload, "\x10\x01", 2);
    wr_buf_put_u8(&payload, 0x1a);
    wr_buf_put_uvarint(&payload, addr->len + 2u);
    wr_buf_put_u8(&payload, 0x0a);
    wr_buf_put_prefixed(&payload, wr_maddr_bytes(addr));
    wr_envelope_seal(signer, "libp2p-peer-record", WR_BYTES("\x03\x01", 2), wr_buf_bytes(&payload), out);
    wr_buf_clear(&payload);
}

static void test_a_record_that_names_another_than_its_signer(void **state)
{
    struct world *w = *state;
    struct wr_maddr addr;
    struct wr_buf record, wire;
    struct wr_protocols none;
    wr_protocols_init(&none);
    assert_int_equal(wr_maddr_parse("/ip4/9.8.7.6/tcp/4001", &addr), 0);
    w->id_a = identify(&w->a);
    /* Named rightly it is good; naming us it is not, though the signature is. */
    for (int good = 1; good >= 0; good--) {
        wr_buf_init(&record, WR_ENVELOPE_MAX);
        wr_buf_init(&wire, 16384);
        seal_for(&w->b.key, wr_swarm_self(good ? w->b.swarm : w->a.swarm), &addr, &record);
        struct wr_identify_self self = {.record = wr_buf_bytes(&record), .addrs = &addr, .addr_count = 1,
                                        .agent = "", .protocol_version = "", .protocols = &none};
        wr_identify_encode(&self, &wire);
        struct script script = {.data = wire.data, .len = wire.len};
        node_handle(&w->b, WR_IDENTIFY_NAME, on_scripted, &script);
        assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
        sim_run(w->sim, WR_SEC);
        assert_int_equal(knows(&w->a, &w->b, &addr), good);
        wr_swarm_disconnect(w->a.swarm, wr_swarm_self(w->b.swarm), WR_CONN_OK);
        sim_run(w->sim, 2 * WR_HOUR);
        wr_swarm_unhandle(w->b.swarm, WR_IDENTIFY_NAME);
        wr_buf_clear(&record);
        wr_buf_clear(&wire);
    }
}

static void test_a_record_of_somebody_else_voids_the_addresses(void **state)
{
    struct world *w = *state;
    struct wr_key other;
    struct wr_maddr addr;
    struct wr_buf record, wire;
    struct wr_protocols none;
    uint8_t seed[WR_ED25519_SEED] = {77};
    wr_key_generate(&other, seed);
    wr_protocols_init(&none);
    wr_buf_init(&record, WR_ENVELOPE_MAX);
    wr_buf_init(&wire, 16384);
    assert_int_equal(wr_maddr_parse("/ip4/9.8.7.6/tcp/4001", &addr), 0);
    wr_peer_record_seal(&other, 1, &addr, 1, &record);
    struct wr_identify_self self = {.record = wr_buf_bytes(&record),
                                    .addrs = &addr,
                                    .addr_count = 1,
                                    .agent = "",
                                    .protocol_version = "",
                                    .protocols = &none};
    wr_identify_encode(&self, &wire);
    /* The key field is empty here: its absence is tolerated. */
    struct script script = {.data = wire.data, .len = wire.len};
    w->id_a = identify(&w->a);
    play(w, &script);
    assert_int_equal(w->a.identified, 1);
    assert_false(knows(&w->a, &w->b, &addr));
    /* Damaged, it is merely ignored and the plain list counts. */
    wr_buf_reset(&wire);
    record.data[record.len - 1] ^= 1;
    wr_identify_encode(&self, &wire);
    script = (struct script){.data = wire.data, .len = wire.len};
    node_handle(&w->b, WR_IDENTIFY_NAME, on_scripted, &script);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->a.identified, 2);
    assert_true(knows(&w->a, &w->b, &addr));
    for (size_t i = 0; i < node_peer(&w->a, &w->b)->addr_count; i++)
        assert_false(node_peer(&w->a, &w->b)->addrs[i].certified);
    wr_buf_clear(&record);
    wr_buf_clear(&wire);
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
    assert_int_equal(wr_swarm_connect(deaf.swarm, wr_swarm_self(w->b.swarm), &w->b.addr, 1,
                                      WR_ORIGIN_OWNER, 0, node_on_connect, &result, NULL),
                     0);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(result, 0);
    assert_true(wr_swarm_conn(deaf.swarm, wr_swarm_self(w->b.swarm))->identified);
    assert_int_equal(wr_identify_candidates(id, seen, 2), 0);
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
        cmocka_unit_test_setup_teardown(test_an_address_change_is_pushed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_answers_end_after_one_more_try, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floods_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_partial_push_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_record_that_names_another_than_its_signer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_record_of_somebody_else_voids_the_addresses, setup,
                                        teardown),
        cmocka_unit_test(test_observers_agree_and_liars_lose),
        cmocka_unit_test_setup_teardown(test_other_ports_are_no_evidence, setup, teardown),
        cmocka_unit_test(test_a_change_reaches_everybody_32_at_a_time),
        cmocka_unit_test(test_pushes_that_hang_have_a_ceiling),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
