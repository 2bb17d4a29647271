/* Relays that break their word, and callers of ours that speak by hand, in virtual time. */
#include "autonat/autonat_server.h"
#include "identify/identify.h"
#include "relay/relay_msg.h"
#include "relay/voucher.h"
#include "tests/sim/relay_world.h"

/* ---- relays that break their word. They speak hop by hand. */

struct liar {
    struct world *w;
    const uint8_t *says;    /* the bytes of the answer */
    size_t len;
    bool resets, ends;
};

static void liar_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct liar *l = arg;
    (void)data;
    if (l->resets)
        wr_stream_reset(s, WR_STREAM_OK);
    else if (l->len)
        assert_int_equal(wr_stream_write(s, l->says, l->len), (int)l->len);
    if (l->ends && !l->resets)
        wr_stream_close(s);
}

static const struct wr_stream_ops liar_ops = {.on_data = liar_data};

static void on_liar(struct wr_stream *s, void *arg)
{
    wr_stream_set_ops(s, &liar_ops, arg);
}

static void test_relays_that_lie(void **state)
{
    static const struct {
        const char *what, *bytes;
        size_t len;
        bool resets, ends;
        int err;
    } lies[] = {
        {"says nothing", "", 0, false, false, WR_ETIMEOUT},
        {"resets", "", 0, true, false, WR_ERESET},
        {"ends", "", 0, false, true, WR_ECLOSED},
        {"a message without an end", "\x05\x08\x02", 3, false, true, WR_EPROTO},
        {"too long", "\xff\xff\x7f", 3, false, false, WR_EPROTO},
        {"no protobuf", "\x03\xff\xff\xff", 4, false, false, WR_EPROTO},
        {"another type", "\x02\x08\x00", 3, false, false, WR_EPROTO},
        {"no status", "\x02\x08\x02", 3, false, false, WR_EPROTO},
        {"a status nobody knows", "\x05\x08\x02\x28\xe7\x07", 6, false, false, WR_EPROTO},
        {"permission denied", "\x05\x08\x02\x28\xca\x01", 6, false, false, WR_EPERM},
        {"a voucher that is none", "\x09\x08\x02\x1a\x03\x1a\x01\x00\x28\x64", 10, false, false, WR_EPROTO},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        struct world w;
        world_up(&w, &(struct sim_options){.seed = 11}, NULL);
        struct liar l = {&w, (const uint8_t *)lies[i].bytes, lies[i].len, lies[i].resets, lies[i].ends};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        wr_time begun = sim_now(w.sim);
        int err = reserve(w.sim, &w.b, &w.relay);
        if (err != lies[i].err)
            print_error("%s: %s\n", lies[i].what, wr_err_name(err));
        assert_int_equal(err, lies[i].err);
        assert_true(sim_now(w.sim) - begun <= 11 * WR_SEC);
        assert_null(wr_relay_client_held(w.b.client, id_of(&w.relay)));
        assert_int_equal(relayed_addrs(&w.b), 0);
        /* The same when it is asked for a circuit. */
        assert_true(reach(&w, &w.a, &w.b) < 0);
        world_down(&w);
    }
}

/* A full relay refuses refreshes as well: what is held stands until its time is over, and is prolonged again when the
 * relay has room before that. */
static void test_a_full_relay_does_not_prolong(void **state)
{
    (void)state;
    for (int room = 0; room <= 1; room++) {
        struct world w;
        world_up(&w, &(struct sim_options){.seed = 20}, &lent);
        assert_int_equal(node_connect(w.sim, &w.b.n, &w.relay.n), 0);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
        wr_time ends = h->expires_at;
        struct liar full = {&w, (const uint8_t *)"\x05\x08\x02\x28\xc9\x01", 6, false, false};
        wr_swarm_unhandle(w.relay.n.swarm, WR_RELAY_HOP_NAME);
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &full);
        sim_run(w.sim, (ends - sim_now(w.sim)) * 4 / 5);
        assert_ptr_equal(wr_relay_client_held(w.b.client, id_of(&w.relay)), h);
        assert_true(h->ending && h->state == WR_RELAY_HELD && h->expires_at == ends);
        assert_int_equal(relayed_addrs(&w.b), 1);
        static const char granted[] = "\x06\x08\x02\x1a\x00\x28\x64";
        if (room) {
            full.says = (const uint8_t *)granted;
            full.len = sizeof(granted) - 1;
        }
        sim_run(w.sim, ends - sim_now(w.sim) - WR_SEC);
        assert_ptr_equal(wr_relay_client_held(w.b.client, id_of(&w.relay)), h);
        assert_true(h->ending == !room);
        sim_run(w.sim, 2 * WR_SEC);
        assert_true((wr_relay_client_held(w.b.client, id_of(&w.relay)) != NULL) == room);
        assert_true(relayed_addrs(&w.b) == (size_t)room);
        world_down(&w);
    }
}

static size_t framed(const struct wr_relay_msg *m, uint8_t out[static 512])
{
    struct wr_buf body, whole;
    wr_buf_init(&body, WR_RELAY_MSG_MAX);
    wr_buf_over(&whole, out, 512);
    wr_relay_msg_encode(WR_RELAY_HOP, m, &body);
    wr_buf_put_prefixed(&whole, wr_buf_bytes(&body));
    assert_false(whole.full);
    wr_buf_clear(&body);
    return whole.len;
}

/* What others are known to answer to RESERVE: no address, one that is none, its own id twice, milliseconds in a field of
 * seconds, an end in the past. All of them are places. */
static void test_strange_reservations(void **state)
{
    (void)state;
    for (int strange = 0; strange < 5; strange++) {
        struct world w;
        uint8_t bytes[512];
        struct wr_maddr twice;
        world_up(&w, &(struct sim_options){.seed = 12}, NULL);
        twice = w.relay.n.addr;
        assert_int_equal(wr_maddr_append_peer(&twice, id_of(&w.relay)), 0);
        assert_int_equal(wr_maddr_append_peer(&twice, id_of(&w.relay)), 0);
        uint64_t now = (uint64_t)(wr_env_unix(w.b.n.env) / WR_SEC);
        struct wr_relay_msg m = {.type = WR_RELAY_STATUS,
                                 .status = WR_RELAY_OK,
                                 .has_reservation = true,
                                 .expire = strange == 4 ? now - 100 : now + 3600,
                                 .has_limit = strange == 3,
                                 .limit = {.duration = 120000, .data = 131072}};
        if (strange == 1)
            m.addrs[m.addr_count++] = WR_BYTES_STR("\xff\xff garbage");
        if (strange == 2)
            m.addrs[m.addr_count++] = wr_maddr_bytes(&twice);
        struct liar l = {.w = &w, .says = bytes, .len = framed(&m, bytes)};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
        struct wr_maddr want = circuit_of(&w.relay);
        assert_int_equal(h->addr_count, 1);
        assert_true(wr_bytes_equal(wr_maddr_bytes(&h->addrs[0]), wr_maddr_bytes(&want)));
        assert_false(h->vouched);
        assert_int_equal(h->limited, strange == 3);
        assert_true(h->expires_at > sim_now(w.sim) + 59 * WR_MIN);
        world_down(&w);
    }
}

/* A relay lists where nobody can be dialled, where others are, and as much as a message holds: what we announce in its name
 * are a few places that may be dialled. */
static void test_hostile_lists_of_addresses(void **state)
{
    static const char *const nowhere[] = {
        "/ip4/127.0.0.1/tcp/4001", "/ip4/10.0.0.1/udp/4001/quic-v1", "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80", "/ip4/224.0.0.1/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001",
        "/ip4/255.255.255.255/tcp/4001", "/ip4/45.9.9.9/tcp/0", "/ip6/::1/tcp/4001", "/ip6/fe80::1/tcp/4001",
        "/ip6/ff02::1/tcp/4001", "/ip4/45.9.9.9/udp/4001",
        "/ip4/45.9.9.9/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        "/ip4/45.9.9.9/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
    };
    enum { NOWHERE = sizeof(nowhere) / sizeof(nowhere[0]), MANY = 300 };
    (void)state;
    for (int many = 0; many <= 1; many++) {
        struct world w;
        static uint8_t bytes[WR_RELAY_MSG_MAX + 2];
        struct wr_buf body, list, whole;
        struct wr_maddr at, want;
        static const uint8_t head[] = {8, WR_RELAY_STATUS, 0x28, WR_RELAY_OK, 0x1a};
        world_up(&w, &(struct sim_options){.seed = 24}, NULL);
        wr_buf_init(&list, WR_RELAY_MSG_MAX);
        for (unsigned i = 0; i < (many ? MANY : NOWHERE); i++) {
            struct wr_addr to = {.ip = {4, {46, (uint8_t)i, 1, 1}}, .port = 4001};
            assert_int_equal(many ? wr_maddr_from_addr(&to, false, &at) : wr_maddr_parse(nowhere[i], &at), 0);
            wr_buf_put_u8(&list, 0x12);
            wr_buf_put_prefixed(&list, wr_maddr_bytes(&at));
        }
        wr_buf_init(&body, WR_RELAY_MSG_MAX);
        wr_buf_put(&body, head, sizeof(head));
        wr_buf_put_prefixed(&body, wr_buf_bytes(&list));
        wr_buf_over(&whole, bytes, sizeof(bytes));
        wr_buf_put_prefixed(&whole, wr_buf_bytes(&body));
        assert_false(list.full || body.full || whole.full);
        struct liar l = {.w = &w, .says = bytes, .len = whole.len};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
        want = circuit_of(&w.relay);
        assert_int_equal(h->addr_count, many ? WR_RELAY_HOLD_ADDRS : 1);
        assert_true(wr_bytes_equal(wr_maddr_bytes(&h->addrs[0]), wr_maddr_bytes(&want)));
        assert_int_equal(relayed_addrs(&w.b), h->addr_count);
        wr_buf_clear(&list);
        wr_buf_clear(&body);
        world_down(&w);
    }
}

/* A voucher of another relay, or for another peer. */
static void test_foreign_vouchers(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct world w;
        uint8_t bytes[512];
        struct wr_buf voucher;
        world_up(&w, &(struct sim_options){.seed = 13}, NULL);
        struct wr_voucher v = {.relay = *id_of(which == 1 ? &w.a : &w.relay),
                               .peer = *id_of(which == 2 ? &w.a : &w.b),
                               .expire = 1};
        wr_buf_init(&voucher, WR_VOUCHER_MAX);
        wr_voucher_seal(which == 1 ? &w.a.n.key : &w.relay.n.key, &v, &voucher);
        struct wr_relay_msg m = {.type = WR_RELAY_STATUS,
                                 .status = WR_RELAY_OK,
                                 .has_reservation = true,
                                 .voucher = wr_buf_bytes(&voucher)};
        struct liar l = {.w = &w, .says = bytes, .len = framed(&m, bytes)};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), which == 0 ? 0 : WR_EPEERID);
        wr_buf_clear(&voucher);
        world_down(&w);
    }
}

/* ---- raw callers of our relay */

struct raw {
    uint8_t got[1024];
    size_t len;
    bool eof;
};

static void raw_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct raw *r = arg;
    (void)s;
    for (size_t i = 0; i < data.len && r->len < sizeof(r->got); i++)
        r->got[r->len++] = data.ptr[i];
}

static void raw_eof(struct wr_stream *s, void *arg)
{
    struct raw *r = arg;
    (void)s;
    r->eof = true;
}

static const struct wr_stream_ops raw_ops = {.on_data = raw_data, .on_eof = raw_eof};

static void raw_ask(struct world *w, const char *bytes, size_t len, bool half_close, struct raw *r)
{
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    int err;
    *r = (struct raw){.len = 0};
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->b.n, &w->relay.n), offer, &raw_ops, r, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, bytes, len), (int)len);
    if (half_close)
        wr_stream_shut(s);
    sim_run(w->sim, WR_SEC);
}

/* rust-libp2p finishes writing behind RESERVE; nonsense is answered with a word, not with silence. */
static void test_raw_callers(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        unsigned status;
    } words[] = {
        {"\x02\x08\x00", 3, WR_RELAY_OK},
        {"\x02\x08\x02", 3, WR_RELAY_UNEXPECTED},
        {"\x02\x08\x07", 3, WR_RELAY_MALFORMED},
        {"\x02\x08\x01", 3, WR_RELAY_MALFORMED},
    };
    struct world w;
    struct raw r;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 14}, &lent);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        for (int half_close = 0; half_close < 2; half_close++) {
            struct wr_relay_msg m;
            raw_ask(&w, words[i].bytes, words[i].len, half_close, &r);
            assert_true(r.len > 2 && r.eof);
            size_t head = r.got[0] & 0x80 ? 2 : 1;
            assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(r.got + head, r.len - head), &m), 0);
            assert_int_equal(m.type, WR_RELAY_STATUS);
            assert_int_equal(m.status, words[i].status);
            assert_true(words[i].status != WR_RELAY_OK || m.addr_count >= 1);
        }
    }
    assert_int_equal(stats_of(&w.relay).guests, 1);
    world_down(&w);
}

static unsigned status_of(const struct raw *r)
{
    struct wr_relay_msg m;
    assert_true(r->len > 2);
    size_t head = r->got[0] & 0x80 ? 2 : 1;
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(r->got + head, r->len - head), &m), 0);
    return m.status;
}

/* Each answer to RESERVE costs a signature: whoever asks without end gets few of them, keeps his place, and has them
 * again later. */
static void test_reservations_without_end(void **state)
{
    enum { SECONDS = 60 };
    struct world w;
    struct raw r;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 15}, &lent);
    unsigned granted = 0, refused = 0;
    for (int i = 0; i < SECONDS; i++) {
        raw_ask(&w, "\x02\x08\x00", 3, false, &r);
        granted += status_of(&r) == WR_RELAY_OK;
        refused += status_of(&r) == WR_RELAY_FULL;
        assert_int_equal(stats_of(&w.relay).guests, 1);
    }
    assert_int_equal(granted + refused, SECONDS);
    assert_in_range(granted, WR_RELAY_RESERVE_BURST, WR_RELAY_RESERVE_BURST + SECONDS * WR_SEC / WR_RELAY_RESERVE_EVERY);
    assert_int_equal(stats_of(&w.relay).refused_peer, refused);
    /* Another guest is not kept waiting for it. */
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), 0);
    sim_run(w.sim, WR_RELAY_RESERVE_BURST * WR_RELAY_RESERVE_EVERY);
    raw_ask(&w, "\x02\x08\x00", 3, false, &r);
    assert_int_equal(status_of(&r), WR_RELAY_OK);
    world_down(&w);
}

static void hear_nothing(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_set_ops(s, &raw_ops, arg);
}

/* A word on a stream of its own, which stays open. */
static void raw_say(struct node *from, struct node *relay, const uint8_t *bytes, size_t len, struct raw *r)
{
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    int err;
    struct wr_stream *s = wr_conn_open_stream(node_conn(from, relay), offer, &raw_ops, r, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, bytes, len), (int)len);
}

/* Callers of a guest that never answers take all circuits that there are; those that want one make them go. */
static void test_silent_guests_keep_nobody_out(void **state)
{
    enum { CALLERS = 2, EACH = 2 };
    (void)state;
    struct world w;
    struct node silent = {0}, callers[CALLERS] = {0};
    struct raw heard = {0};
    uint8_t connect[512];
    world_up(&w, &(struct sim_options){.seed = 16}, &lent);
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = CALLERS * EACH;
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    node_start(&silent, w.sim, 50);
    node_handle(&silent, WR_RELAY_STOP_NAME, hear_nothing, &heard);
    assert_int_equal(node_connect(w.sim, &silent, &w.relay.n), 0);
    raw_say(&silent, &w.relay.n, (const uint8_t *)"\x02\x08\x00", 3, &heard);
    sim_run(w.sim, WR_SEC);
    struct wr_relay_msg m = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(wr_swarm_self(silent.swarm))};
    size_t len = framed(&m, connect);
    for (unsigned i = 0; i < CALLERS; i++) {
        node_start(&callers[i], w.sim, 60 + i);
        assert_int_equal(node_connect(w.sim, &callers[i], &w.relay.n), 0);
        for (unsigned k = 0; k < EACH; k++)
            raw_say(&callers[i], &w.relay.n, connect, len, &heard);
    }
    sim_run(w.sim, WR_RELAY_STOP_PATIENCE);
    assert_int_equal(stats_of(&w.relay).circuits, CALLERS * EACH);
    assert_int_equal(stats_of(&w.relay).failed, 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(stats_of(&w.relay).failed, 1);
    for (unsigned i = 0; i < CALLERS; i++)
        node_stop(&callers[i]);
    node_stop(&silent);
    world_down(&w);
}

struct deaf {
    struct wr_stream *stream;
};

/* Takes the circuit, and reads no more. */
static void deaf_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    static const uint8_t yes[] = {4, 8, 1, 0x20, 0x64};    /* STATUS OK */
    struct deaf *d = arg;
    (void)data;
    if (!d->stream)
        assert_int_equal(wr_stream_write(s, yes, sizeof(yes)), (int)sizeof(yes));
    d->stream = s;
    wr_stream_pause(s, true);
}

static void on_deaf(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {.on_data = deaf_data};
    wr_stream_set_ops(s, &ops, arg);
}

/* A caller sends all it can to a guest that does not read, and neither keeps to what is usual within a circuit: the relay
 * stops reading the one, and holds a few pieces for the other. */
static void test_a_deaf_guest(void **state)
{
    static uint8_t junk[65536];
    static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    (void)state;
    struct world w;
    struct deaf deaf = {0};
    struct raw answer = {0};
    uint8_t connect[512];
    uint64_t taken = 0;
    int err;
    world_up(&w, &(struct sim_options){.seed = 25}, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    wr_swarm_unhandle(w.b.n.swarm, WR_RELAY_STOP_NAME);
    node_handle(&w.b.n, WR_RELAY_STOP_NAME, on_deaf, &deaf);
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    struct wr_relay_msg m = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(id_of(&w.b))};
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w.a.n, &w.relay.n), offer, &raw_ops, &answer, &err);
    assert_non_null(s);
    size_t len = framed(&m, connect);
    assert_int_equal(wr_stream_write(s, connect, len), (int)len);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(status_of(&answer), WR_RELAY_OK);
    for (unsigned i = 0; i < 3000; i++) {
        int n = wr_stream_write(s, junk, sizeof(junk));
        taken += n > 0 ? (uint64_t)n : 0;
        sim_run(w.sim, 20 * WR_MSEC);
        assert_true(stats_of(&w.relay).buffered <= WR_MSG_READ_AHEAD);
    }
    assert_int_equal(stats_of(&w.relay).circuits, 1);
    assert_in_range(taken, 1, 8u << 20);
    assert_in_range(stats_of(&w.relay).buffered, 1, WR_MSG_READ_AHEAD);
    wr_stream_reset(s, WR_STREAM_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(stats_of(&w.relay).buffered, 0);
    world_down(&w);
}

/* Who opens the protocol and says nothing has so many streams of it, and not for long. */
static void test_silent_callers_go(void **state)
{
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    (void)state;
    struct world w;
    struct raw heard = {0};
    int err;
    world_up(&w, &(struct sim_options){.seed = 17}, &lent);
    sim_run(w.sim, WR_SEC);
    struct wr_conn *c = node_conn(&w.b.n, &w.relay.n);
    size_t before = c->stream_count;
    for (unsigned i = 0; i < WR_RELAY_HOPS_MAX + 8; i++)
        assert_non_null(wr_conn_open_stream(c, offer, &raw_ops, &heard, &err));
    sim_run(w.sim, WR_RELAY_HOP_TIMEOUT - 2 * WR_SEC);
    assert_int_equal(c->stream_count - before, WR_RELAY_HOPS_MAX);
    sim_run(w.sim, 4 * WR_SEC);
    assert_int_equal(c->stream_count, before);
    world_down(&w);
}

/* With circuits to spare a guest has its time to answer; then the caller is told. */
static void test_a_silent_guest(void **state)
{
    (void)state;
    struct world w;
    struct raw heard = {0}, answer = {0};
    uint8_t connect[512];
    world_up(&w, &(struct sim_options){.seed = 18}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    wr_swarm_unhandle(w.b.n.swarm, WR_RELAY_STOP_NAME);
    node_handle(&w.b.n, WR_RELAY_STOP_NAME, hear_nothing, &heard);
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    struct wr_relay_msg m = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(id_of(&w.b))};
    raw_say(&w.a.n, &w.relay.n, connect, framed(&m, connect), &answer);
    sim_run(w.sim, WR_RELAY_STOP_WAIT - WR_SEC);
    assert_int_equal(answer.len, 0);
    assert_int_equal(stats_of(&w.relay).circuits, 1);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(status_of(&answer), WR_RELAY_FAILED);
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].used, 0);
    world_down(&w);
}

/* One caller has so many circuits, to however many guests. */
static void test_a_caller_has_so_many(void **state)
{
    enum { GUESTS = 3, EACH = WR_RELAY_CIRCUITS_PER_PEER / (GUESTS - 1) };
    (void)state;
    struct world w;
    struct node guests[GUESTS] = {0};
    struct raw heard = {0}, last = {0};
    uint8_t connect[512];
    world_up(&w, &(struct sim_options){.seed = 19}, &lent);
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = 4 * WR_RELAY_CIRCUITS_PER_PEER;
    for (unsigned i = 0; i < GUESTS; i++) {
        node_start(&guests[i], w.sim, 70 + i);
        node_handle(&guests[i], WR_RELAY_STOP_NAME, hear_nothing, &heard);
        assert_int_equal(node_connect(w.sim, &guests[i], &w.relay.n), 0);
        raw_say(&guests[i], &w.relay.n, (const uint8_t *)"\x02\x08\x00", 3, &heard);
        sim_run(w.sim, WR_SEC);
        struct wr_relay_msg m = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(wr_swarm_self(guests[i].swarm))};
        size_t len = framed(&m, connect);
        for (unsigned k = 0; k < (i < GUESTS - 1 ? EACH : 1); k++)
            raw_say(&w.b.n, &w.relay.n, connect, len, &last);
        sim_run(w.sim, WR_SEC);
        assert_int_equal(stats_of(&w.relay).refused_peer, i == GUESTS - 1);
    }
    assert_int_equal(status_of(&last), WR_RELAY_FULL);
    assert_int_equal(stats_of(&w.relay).circuits, WR_RELAY_CIRCUITS_PER_PEER);
    for (unsigned i = 0; i < GUESTS; i++)
        node_stop(&guests[i]);
    world_down(&w);
}

/* A place that nobody prolongs is over at its time, though the guest stays connected. */
static void test_a_place_ends(void **state)
{
    struct wr_relay_server_options o = lent;
    struct world w;
    (void)state;
    o.ttl = 90;
    world_up(&w, &(struct sim_options){.seed = 20}, &o);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    wr_relay_client_drop(w.b.client, id_of(&w.relay));
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(stats_of(&w.relay).guests, 1);
    sim_run(w.sim, 31 * WR_SEC);
    assert_true(reach(&w, &w.a, &w.b) < 0);
    assert_int_equal(stats_of(&w.relay).refused_absent, 1);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(stats_of(&w.relay).guests, 0);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].used, 0);
    assert_non_null(node_conn(&w.b.n, &w.relay.n));
    world_down(&w);
}

/* Who came over another relay gets neither place nor circuit: relays of relays would be chains without end. */
static void test_no_relay_behind_a_relay(void **state)
{
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    uint8_t connect[512];
    int err;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 21}, &free_of);
    member_serve(&w.b, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reserve(w.sim, &w.relay, &w.b), 0);    /* so that there is somebody to be brought to */
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_non_null(node_conn(&w.a.n, &w.b.n)->circuit);
    struct wr_relay_msg m = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(id_of(&w.relay))};
    size_t len = framed(&m, connect);
    for (int circuit = 0; circuit <= 1; circuit++) {
        struct raw r = {0};
        struct wr_stream *s = wr_conn_open_stream(node_conn(&w.a.n, &w.b.n), offer, &raw_ops, &r, &err);
        assert_non_null(s);
        wr_stream_write(s, circuit ? (const void *)connect : "\x02\x08\x00", circuit ? len : 3);
        sim_run(w.sim, 2 * WR_SEC);
        assert_int_equal(status_of(&r), WR_RELAY_DENIED);
        assert_int_equal(stats_of(&w.b).refused_rule, 1 + circuit);
    }
    assert_int_equal(stats_of(&w.b).guests, 1);
    world_down(&w);
}

/* Who comes over a relay is seen at the relay's address. He is not told it, for he would take it for his own; and is not
 * dialled for, for it is there that the dial would go. */
static void test_nobody_is_at_the_relays_address(void **state)
{
    static const char *const identify[] = {WR_IDENTIFY_NAME, NULL};
    static const char *const dial[][2] = {{WR_AUTONAT_REQUEST, NULL}, {WR_AUTONAT_V1, NULL}};
    struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    int err;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 23}, &free_of);
    struct wr_identify *id = wr_identify_create(&(struct wr_identify_options){.swarm = w.b.n.swarm});
    struct wr_autonat_server *server = wr_autonat_server_create(w.b.n.swarm);
    assert_true(id && server);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    struct wr_conn *over[] = {node_conn(&w.relay.n, &w.b.n), node_conn(&w.a.n, &w.b.n)};
    assert_true(!over[0]->circuit && over[1]->circuit);
    for (int relayed = 0; relayed <= 1; relayed++) {
        struct raw r = {0};
        struct wr_identify_msg m;
        wr_stream_shut(wr_conn_open_stream(over[relayed], identify, &raw_ops, &r, &err));
        sim_run(w.sim, 2 * WR_SEC);
        assert_true(r.len > 2 && r.eof);
        size_t head = r.got[0] & 0x80 ? 2 : 1;
        assert_int_equal(wr_identify_decode(WR_BYTES(r.got + head, r.len - head), &m), 0);
        assert_true((m.observed.len == 0) == relayed);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct wr_autonat_server_stats stats;
        size_t before = over[1]->stream_count;
        assert_non_null(wr_conn_open_stream(over[1], dial[i], &raw_ops, &(struct raw){0}, &err));
        sim_run(w.sim, 2 * WR_SEC);
        wr_autonat_server_stats(server, &stats);
        assert_int_equal(stats.rejected, 1 + i);
        assert_int_equal(over[1]->stream_count, before);
    }
    wr_autonat_server_destroy(server);
    wr_identify_destroy(id);
    world_down(&w);
}

/* A reservation names where the relay is, not where it is itself relayed; and when it knows of no such place, the one
 * that the guest came to: a list of none is refused by some. */
static void test_what_a_reservation_lists(void **state)
{
    struct world w;
    struct raw r;
    struct wr_relay_msg m;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 22}, &lent);
    struct wr_addrbook *book = wr_swarm_addrbook(w.relay.n.swarm);
    struct wr_maddr elsewhere = circuit_of(&w.a), here = w.relay.n.addr;
    assert_true(wr_addrbook_put(book, wr_maddr_bytes(&elsewhere), WR_ADDR_RELAYED, sim_now(w.sim)));
    assert_int_equal(wr_maddr_append_peer(&here, id_of(&w.relay)), 0);
    for (int told = 0; told <= 1; told++) {
        raw_ask(&w, "\x02\x08\x00", 3, false, &r);
        size_t head = r.got[0] & 0x80 ? 2 : 1;
        assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(r.got + head, r.len - head), &m), 0);
        assert_int_equal(m.status, WR_RELAY_OK);
        assert_int_equal(m.addr_count, 1);
        assert_true(wr_bytes_equal(m.addrs[0], wr_maddr_bytes(&here)));
        (void)wr_addrbook_judge(book, wr_maddr_bytes(&w.relay.n.addr), WR_ADDR_UNREACHABLE, sim_now(w.sim));
    }
    world_down(&w);
}

static void hold_on(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops none;
    unsigned *held = arg;
    ++*held;
    wr_stream_set_ops(s, &none, NULL);
}

/* As many peers as can be dialled through relays at once are said to be at one that never answers. Others are reached
 * through theirs. */
static void test_silent_relays_keep_nobody_out(void **state)
{
    struct world w;
    struct member silent = {.n.host = NULL};
    unsigned held = 0;
    static int ignored;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 12, .rtt = 60 * WR_MSEC}, &lent);
    member_up(&silent, w.sim, 9);
    node_handle(&silent.n, WR_RELAY_HOP_NAME, hold_on, &held);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(node_connect(w.sim, &w.a.n, &silent.n), 0);
    w.a.n.limits.of[WR_LIMIT_DIALS].max = 2 * WR_RELAY_DIALS_MAX;
    struct wr_maddr way = circuit_of(&silent);
    for (unsigned i = 0; i < WR_RELAY_DIALS_MAX; i++) {
        struct wr_peerid id = *id_of(&w.b);
        id.bytes[id.len - 1] ^= (uint8_t)(1 + i);
        assert_int_equal(wr_swarm_connect(w.a.n.swarm, &id, &way, 1, WR_ORIGIN_STRANGER, 0, node_on_connect, &ignored, NULL),
                         0);
    }
    sim_run(w.sim, WR_RELAY_DIAL_FAIR);
    assert_int_equal(held, WR_RELAY_DIALS_MAX);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    sim_run(w.sim, WR_RELAY_DIAL_TIMEOUT);
    member_down(&silent);
    world_down(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relays_that_lie),
        cmocka_unit_test(test_a_full_relay_does_not_prolong),
        cmocka_unit_test(test_strange_reservations),
        cmocka_unit_test(test_hostile_lists_of_addresses),
        cmocka_unit_test(test_foreign_vouchers),
        cmocka_unit_test(test_raw_callers),
        cmocka_unit_test(test_reservations_without_end),
        cmocka_unit_test(test_silent_guests_keep_nobody_out),
        cmocka_unit_test(test_silent_relays_keep_nobody_out),
        cmocka_unit_test(test_a_deaf_guest),
        cmocka_unit_test(test_silent_callers_go),
        cmocka_unit_test(test_a_silent_guest),
        cmocka_unit_test(test_a_caller_has_so_many),
        cmocka_unit_test(test_a_place_ends),
        cmocka_unit_test(test_no_relay_behind_a_relay),
        cmocka_unit_test(test_nobody_is_at_the_relays_address),
        cmocka_unit_test(test_what_a_reservation_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
