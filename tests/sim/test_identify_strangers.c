/* identify with peers that misbehave, in virtual time: hostile answers, floods, false records. */
#include "tests/sim/identify_world.h"

#include "transport/envelope.h"

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
    uint64_t failed = stats(w->id_a).failed;
    sim_run(w->sim, WR_MIN);
    /* In their place it was asked, and asked again as after any question that breaks off; no more. */
    assert_int_equal(stats(w->id_a).failed, failed + 1);
    struct wr_stream *s = wr_conn_open_stream(c, push, &quiet, &closed, &err);
    wr_stream_write(s, pushed, sizeof(pushed));
    wr_stream_close(s);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(stats(w->id_a).taken, taken + 1);
    assert_int_equal(c->stream_count, 0);
}

/* Strangers of one network begin pushes and say no more: others are answered all the same, and may push. */
static void test_silent_pushes_leave_room_for_others(void **state)
{
    enum { STRANGERS = WR_IDENTIFY_ANSWERS_MAX / 2 };    /* two pushes at once each */
    static const char *const push[] = {WR_IDENTIFY_PUSH, NULL};
    static const struct wr_stream_ops quiet = {.on_close = NULL};
    struct world *w = *state;
    struct node *crowd = wr_alloc_array(STRANGERS, sizeof(*crowd));
    w->id_a = identify(&w->a);
    for (unsigned i = 0; i < STRANGERS; i++) {
        struct wr_ip ip = {4, {77, 7, (uint8_t)i, 1}};
        crowd[i].host = sim_host_add(w->sim, &(struct sim_host_options){.name = "crowd", .ip4 = ip});
        node_start(&crowd[i], w->sim, 100 + i);
        assert_int_equal(node_connect(w->sim, &crowd[i], &w->a), 0);
    }
    sim_run(w->sim, WR_IDENTIFY_TIMEOUT);
    for (unsigned i = 0; i < STRANGERS; i++)
        for (int k = 0; k < 2; k++) {
            int err = 0;
            struct wr_stream *s = wr_conn_open_stream(node_conn(&crowd[i], &w->a), push, &quiet, NULL, &err);
            assert_non_null(s);
            assert_int_equal(wr_stream_write(s, "\x20", 1), 1);
        }
    sim_run(w->sim, WR_SEC);
    uint64_t refused = stats(w->id_a).refused;
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->b, &w->a), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->b.identified, 1);
    assert_int_equal(stats(w->id_a).refused, refused + 1);
    node_handle(&w->b, "/news", refuse, NULL);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(node_knows(&w->a, &w->b, "/news"), 1);
    for (unsigned i = 0; i < STRANGERS; i++)
        node_stop(&crowd[i]);
    sim_run(w->sim, WR_SEC);
    wr_free(crowd);
}

static void on_nobody(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_reset(s, WR_STREAM_OK);
}

/* Two that identify each other, and pushes of b's that say nothing but that it speaks /x. */
static void begin_pushing(struct world *w)
{
    w->id_a = identify(&w->a);
    w->id_b = identify(&w->b);
    assert_int_equal(node_connect(w->sim, &w->b, &w->a), 0);
    sim_run(w->sim, WR_SEC);
}

static void push_x(struct world *w, wr_time wait)
{
    static const char *const push[] = {WR_IDENTIFY_PUSH, NULL};
    static const uint8_t pushed[] = {4, 0x1a, 2, '/', 'x'};
    int err = 0;
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->b, &w->a), push, NULL, NULL, &err);
    wr_stream_write(s, pushed, sizeof(pushed));
    wr_stream_close(s);
    sim_run(w->sim, wait);
}

/* An application that starts adds one protocol after the other, and each is a push. The last one may be refused, and
 * counts: the peer is asked what it speaks by then. */
static void test_the_last_of_many_pushes_counts(void **state)
{
    struct world *w = *state;
    begin_pushing(w);
    for (int i = 0; i < WR_IDENTIFY_PUSH_BURST; i++)
        push_x(w, 50 * WR_MSEC);
    assert_int_equal(node_knows(&w->a, &w->b, "/x"), 1);
    node_handle(&w->b, "/the/last", on_nobody, NULL);
    sim_run(w->sim, 2 * WR_SEC);
    assert_true(stats(w->id_a).refused > 0);
    assert_int_equal(node_knows(&w->a, &w->b, "/the/last"), 0);
    unsigned identified = w->a.identified;
    uint64_t asked = stats(w->id_a).asked;
    sim_run(w->sim, WR_IDENTIFY_PUSH_RATE);
    assert_int_equal(node_knows(&w->a, &w->b, "/the/last"), 1);
    assert_int_equal(node_knows(&w->a, &w->b, "/x"), 0);
    sim_run(w->sim, WR_MIN);
    assert_int_equal(stats(w->id_a).asked, asked + 1);
    assert_int_equal(w->a.identified, identified);    /* the others hear that it changed */
}

static void test_a_partial_push_keeps_the_rest(void **state)
{
    struct world *w = *state;
    begin_pushing(w);
    push_x(w, WR_SEC);
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

/* `to` is asked by `from`, and says so of itself; without a record when seq is 0. */
static void answer(struct node *from, struct node *to, struct sim *sim, uint64_t seq, const char *certified,
                   const char *const *plain, size_t count)
{
    struct wr_maddr addr, addrs[16];
    struct wr_buf record, wire;
    struct wr_protocols none;
    assert_true(count <= 16);
    wr_protocols_init(&none);
    wr_buf_init(&record, WR_ENVELOPE_MAX);
    wr_buf_init(&wire, 16384);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(wr_maddr_parse(plain[i], &addrs[i]), 0);
    if (seq) {
        assert_int_equal(wr_maddr_parse(certified, &addr), 0);
        wr_peer_record_seal(&to->key, seq, &addr, 1, &record);
    }
    struct wr_identify_self self = {.record = wr_buf_bytes(&record), .addrs = addrs, .addr_count = count,
                                    .agent = "", .protocol_version = "", .protocols = &none};
    wr_identify_encode(&self, &wire);
    struct script script = {.data = wire.data, .len = wire.len};
    node_handle(to, WR_IDENTIFY_NAME, on_scripted, &script);
    unsigned before = from->identified;
    assert_int_equal(node_connect(sim, from, to), 0);
    sim_run(sim, WR_SEC);
    assert_int_equal(from->identified, before + 1);
    wr_swarm_disconnect(from->swarm, wr_swarm_self(to->swarm), WR_CONN_OK);
    sim_run(sim, WR_SEC);
    wr_swarm_unhandle(to->swarm, WR_IDENTIFY_NAME);
    wr_buf_clear(&record);
    wr_buf_clear(&wire);
}

static bool has(struct node *n, struct node *peer, const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return knows(n, peer, &m);
}

/* A record that was true once, sent again by whoever kept it, does not bring old addresses back. */
static void test_an_older_record_is_not_believed(void **state)
{
    struct world *w = *state;
    static const char *const plain[] = {"/ip4/9.8.7.6/tcp/1"};
    w->id_a = identify(&w->a);
    answer(&w->a, &w->b, w->sim, 5, "/ip4/9.8.7.6/tcp/5", plain, 1);
    assert_true(has(&w->a, &w->b, "/ip4/9.8.7.6/tcp/5") && !has(&w->a, &w->b, plain[0]));
    /* The same once more, on another connection, is as good as new. */
    answer(&w->a, &w->b, w->sim, 5, "/ip4/9.8.7.6/tcp/5", plain, 1);
    assert_true(has(&w->a, &w->b, "/ip4/9.8.7.6/tcp/5") && !has(&w->a, &w->b, plain[0]));
    answer(&w->a, &w->b, w->sim, 4, "/ip4/9.8.7.6/tcp/4", plain, 1);
    assert_true(!has(&w->a, &w->b, "/ip4/9.8.7.6/tcp/4") && has(&w->a, &w->b, plain[0]));
    answer(&w->a, &w->b, w->sim, 6, "/ip4/9.8.7.6/tcp/6", plain, 1);
    assert_true(has(&w->a, &w->b, "/ip4/9.8.7.6/tcp/6"));
}

/* From a peer in the open, addresses in the open alone: its private ones are other machines of our own network. From a
 * neighbour private ones as well. Nobody's loopback, and nothing that cannot be dialled. */
static void test_addresses_are_kept_by_where_the_peer_is(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *addr;
        bool public, near;
    } rows[] = {
        {"/ip4/9.8.7.6/tcp/4001", true, true},
        {"/ip4/9.8.7.6/udp/4001/quic-v1", true, true},
        {"/dns4/example.org/tcp/4001", true, true},
        {"/ip4/10.0.0.9/tcp/4001", false, true},
        {"/ip6/fd00::9/tcp/4001", false, true},
        {"/ip4/127.0.0.1/tcp/4001", false, false},
        {"/ip6/fe80::9/tcp/4001", false, false},
        {"/ip4/0.0.0.0/tcp/4001", false, false},
        {"/ip4/9.8.7.6/tcp/0", false, false},
        {"/ip4/224.0.0.1/tcp/4001", false, false},
        {"/dnsaddr/example.org", false, false},
        {"/ip4/9.8.7.6/tcp/4001/ws", false, false},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    const char *all[ROWS];
    struct node home = {0}, neighbour = {0};
    for (size_t i = 0; i < ROWS; i++)
        all[i] = rows[i].addr;
    w->id_a = identify(&w->a);
    answer(&w->a, &w->b, w->sim, 0, NULL, all, ROWS);
    struct sim_host_options at = {.ip4 = {.family = 4, .bytes = {192, 168, 9, 1}}, .lan = 9};
    home.host = sim_host_add(w->sim, &at);
    at.ip4.bytes[3] = 2;
    neighbour.host = sim_host_add(w->sim, &at);
    node_start(&home, w->sim, 5);
    node_start(&neighbour, w->sim, 6);
    struct wr_identify *id = identify(&home);
    answer(&home, &neighbour, w->sim, 0, NULL, all, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        if (has(&w->a, &w->b, rows[i].addr) != rows[i].public || has(&home, &neighbour, rows[i].addr) != rows[i].near)
            print_error("%s\n", rows[i].addr);
        assert_int_equal(has(&w->a, &w->b, rows[i].addr), rows[i].public);
        assert_int_equal(has(&home, &neighbour, rows[i].addr), rows[i].near);
    }
    wr_identify_destroy(id);
    node_stop(&home);
    node_stop(&neighbour);
    sim_run(w->sim, WR_SEC);
}

/* One says that it sees us where somebody else lives. We reach that one there all the same. */
static void test_a_liar_does_not_come_between_us_and_others(void **state)
{
    struct world *w = *state;
    struct node c = {0};
    uint8_t answer[3 + WR_MADDR_MAX] = {0, 0x22};    /* observedAddr */
    node_start(&c, w->sim, 3);
    answer[0] = (uint8_t)(2 + c.addr.len);
    answer[2] = c.addr.len;
    memcpy(answer + 3, c.addr.bytes, c.addr.len);
    struct script lie = {.data = answer, .len = 3u + c.addr.len};
    w->id_a = identify(&w->a);
    node_handle(&w->b, WR_IDENTIFY_NAME, on_scripted, &lie);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, 10 * WR_SEC);
    assert_true(wr_addrbook_has(wr_swarm_addrbook(w->a.swarm), wr_maddr_bytes(&c.addr)));
    assert_int_equal(node_connect(w->sim, &w->a, &c), 0);
    node_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hostile_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_answers_end_after_one_more_try, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floods_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_pushes_leave_room_for_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_last_of_many_pushes_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_partial_push_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_record_that_names_another_than_its_signer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_record_of_somebody_else_voids_the_addresses, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_an_older_record_is_not_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_are_kept_by_where_the_peer_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_liar_does_not_come_between_us_and_others, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
