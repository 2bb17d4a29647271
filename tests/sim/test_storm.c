/* Strangers who speak every protocol that a node has, in any order, well formed or not, and never as they should: to its
 * questions, on streams of their own, directly and through a relay. The node stays up, forgets them when they are gone,
 * and serves a good peer meanwhile. `sim_test_storm FIRST COUNT` runs other seeds. */
#include "tests/sim/home_world.h"

#include "dht/dht.h"
#include "tests/sim/kv_mem.h"
#include "transport/envelope.h"

#include <stdio.h>
#include <stdlib.h>

#define VILLAINS 4
#define CALLERS  2    /* of those: they have a relay client, and come through the relay, too */
#define LINES    96   /* streams that a villain holds */
#define STEPS    2000
#define DESCRIPTORS 12 /* sockets of a poor node */
#define KAD      "/storm/kad/1.0.0"

/* ---- chance */

static uint64_t luck;

static uint64_t roll(uint64_t below)
{
    luck ^= luck << 13;
    luck ^= luck >> 7;
    luck ^= luck << 17;
    return luck % below;
}

static bool one_in(unsigned n)
{
    return roll(n) == 0;
}

/* ---- the scene */

struct line {
    struct wr_stream *s;    /* NULL: free */
    unsigned protocol;
};

static struct {
    struct sim *sim;
    struct home node, relay, villains[VILLAINS];
    struct wr_kv *kv;
    struct wr_dht *dht;
    struct site good;
    struct line lines[LINES];
    unsigned said, heard;
    bool poor;    /* memory is short now and then, and the node has few descriptors */
} w;

static const char *const protocols[] = {
    WR_IDENTIFY_NAME,   WR_IDENTIFY_PUSH, WR_RELAY_HOP_NAME, WR_RELAY_STOP_NAME, WR_DCUTR_NAME, WR_AUTONAT_V1,
    WR_AUTONAT_REQUEST, WR_AUTONAT_BACK,  WR_AUTONAT_WAKE,   WR_AUTONAT_STRANGER, KAD,          WR_PING_NAME,
};
enum { IDENTIFY, PUSH, HOP, STOP, DCUTR, NAT1, NAT2, BACK, WAKE, STRANGER, DHT, PING, PROTOCOLS };

/* ---- words: the fields of each protocol's messages, with values that matter to it */

static void put_number(struct wr_buf *out, unsigned field, uint64_t v)
{
    wr_buf_put_uvarint(out, field << 3);
    wr_buf_put_uvarint(out, v);
}

static void put_bytes(struct wr_buf *out, unsigned field, struct wr_bytes v)
{
    wr_buf_put_uvarint(out, field << 3 | 2);
    wr_buf_put_prefixed(out, v);
}

static void put_inner(struct wr_buf *out, unsigned field, struct wr_buf *inner)
{
    put_bytes(out, field, wr_buf_bytes(inner));
    wr_buf_clear(inner);
}

static uint64_t any_number(void)
{
    static const uint64_t some[] = {0,   1,   2,   3,    5,     100,        101,       127,
                                    200, 201, 300, 4096, 65535, UINT32_MAX, INT64_MAX, UINT64_MAX};
    return one_in(3) ? roll(400) : some[roll(sizeof(some) / sizeof(*some))];
}

static const struct wr_peerid *somebody(void)
{
    switch (roll(4)) {
    case 0:
        return site_id(&w.node.site);
    case 1:
        return site_id(&w.relay.site);
    case 2:
        return site_id(&w.good);
    default:
        return site_id(&w.villains[roll(VILLAINS)].site);
    }
}

static void put_id(struct wr_buf *out, unsigned field)
{
    struct wr_peerid id = *somebody();
    if (one_in(5))
        id.bytes[id.len - 1 - roll(8)] ^= (uint8_t)(1 + roll(255));
    put_bytes(out, field, one_in(12) ? WR_BYTES(id.bytes, roll(id.len)) : wr_peerid_bytes(&id));
}

static struct wr_maddr any_addr(void)
{
    static const char *const texts[] = {
        "/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.1/udp/4001/quic-v1", "/ip4/10.0.0.1/tcp/1", "/ip4/45.9.9.9/tcp/4001",
        "/ip6/2a00::1/udp/4001/quic-v1", "/dns4/example.org/tcp/4001", "/dnsaddr/example.org",
        "/ip4/224.0.0.1/udp/1/quic-v1", "/ip4/45.9.9.9/tcp/80/ws", "/p2p-circuit", "/ip4/0.0.0.0/tcp/4001"};
    struct wr_maddr out, tail;
    const struct home *h = one_in(3) ? &w.node : one_in(2) ? &w.relay : &w.villains[roll(VILLAINS)];
    if (one_in(3))
        assert_int_equal(wr_maddr_parse(texts[roll(sizeof(texts) / sizeof(*texts))], &out), 0);
    else
        out = site_at(&h->site, one_in(2));
    if (one_in(3))
        (void)wr_maddr_append_peer(&out, somebody());
    if (one_in(5) && wr_maddr_parse("/p2p-circuit", &tail) == 0)
        (void)wr_maddr_append(&out, wr_maddr_bytes(&tail));
    return out;
}

static void put_addrs(struct wr_buf *out, unsigned field)
{
    unsigned count = one_in(8) ? 60 : (unsigned)roll(5);
    while (count--) {
        struct wr_maddr addr = any_addr();
        put_bytes(out, field, one_in(15) ? WR_BYTES(addr.bytes, roll(addr.len)) : wr_maddr_bytes(&addr));
    }
}

static void put_blob(struct wr_buf *out, unsigned field)
{
    static uint8_t blob[6000];
    size_t len = one_in(6) ? roll(sizeof(blob)) : roll(80);
    put_bytes(out, field, WR_BYTES(blob, len));
}

static void put_peer(struct wr_buf *out, unsigned field)
{
    struct wr_buf peer;
    wr_buf_init(&peer, 16384);
    put_id(&peer, 1);
    put_addrs(&peer, 2);
    put_inner(out, field, &peer);
}

static void put_limit(struct wr_buf *out, unsigned field)
{
    struct wr_buf limit;
    wr_buf_init(&limit, 64);
    put_number(&limit, 1, any_number());
    put_number(&limit, 2, any_number());
    put_inner(out, field, &limit);
}

static void relay_word(bool stop, struct wr_buf *out)
{
    static const unsigned statuses[] = {0, 100, 100, 100, 200, 201, 202, 203, 204, 400, 401, 999};
    put_number(out, 1, stop ? roll(3) : roll(4));
    if (one_in(2))
        put_peer(out, 2);
    if (!stop && one_in(2)) {
        struct wr_buf reservation;
        wr_buf_init(&reservation, 16384);
        uint64_t now = (uint64_t)(wr_env_unix(w.node.site.env) / WR_SEC);
        put_number(&reservation, 1, one_in(2) ? now + roll(4000) : any_number());
        put_addrs(&reservation, 2);
        if (one_in(4))
            put_blob(&reservation, 3);
        put_inner(out, 3, &reservation);
    }
    if (one_in(2))
        put_limit(out, stop ? 3 : 4);
    if (!one_in(3))
        put_number(out, stop ? 4 : 5, statuses[roll(sizeof(statuses) / sizeof(*statuses))]);
}

static void nat_word(bool back, struct wr_buf *out)
{
    struct wr_buf inner;
    if (back) {
        put_number(out, 1, any_number());
        return;
    }
    unsigned type = 1 + (unsigned)roll(4);
    wr_buf_init(&inner, 16384);
    if (type == 1) {
        put_addrs(&inner, 1);
        wr_buf_put_u8(&inner, 2 << 3 | 1);
        for (int i = 0; i < 8; i++)
            wr_buf_put_u8(&inner, (uint8_t)roll(256));
        if (one_in(2))
            put_id(&inner, 1000);
    } else if (type == 4) {
        put_blob(&inner, 1);
    } else {
        for (unsigned field = 1; field <= 3; field++)
            put_number(&inner, field, any_number());
    }
    put_inner(out, type, &inner);
}

static void old_nat_word(struct wr_buf *out)
{
    struct wr_buf inner;
    unsigned type = (unsigned)roll(2);
    put_number(out, 1, type);
    wr_buf_init(&inner, 16384);
    if (type == 0) {
        put_peer(&inner, 1);
    } else {
        put_number(&inner, 1, any_number());
        put_addrs(&inner, 3);
    }
    put_inner(out, 2 + type, &inner);
}

static void identify_word(struct wr_buf *out)
{
    static const char names[] = "/storm/protocol/";
    struct wr_buf own;
    wr_buf_init(&own, WR_PUBKEY_MAX);
    wr_key_encode_public(&w.villains[roll(VILLAINS)].site.key, &own);
    if (one_in(2))
        put_bytes(out, 1, wr_buf_bytes(&own));
    wr_buf_clear(&own);
    put_addrs(out, 2);
    for (unsigned count = one_in(8) ? 300 : (unsigned)roll(6); count; count--) {
        char name[64];
        int len = snprintf(name, sizeof(name), "%s%u", names, (unsigned)roll(500));
        put_bytes(out, 3, one_in(2) ? wr_bytes_cstr(protocols[roll(PROTOCOLS)]) : WR_BYTES(name, (size_t)len));
    }
    struct wr_maddr seen = any_addr();
    put_bytes(out, 4, wr_maddr_bytes(&seen));
    put_blob(out, 6);
    if (one_in(4)) {
        struct wr_maddr addrs[3] = {any_addr(), any_addr(), any_addr()};
        struct wr_buf record;
        wr_buf_init(&record, 16384);
        wr_peer_record_seal(&w.villains[roll(VILLAINS)].site.key, any_number(), addrs, roll(4), &record);
        put_inner(out, 8, &record);
    }
}

static void dht_word(struct wr_buf *out)
{
    struct wr_buf record;
    put_number(out, 1, roll(7));
    if (one_in(2))
        put_id(out, 2);
    else
        put_blob(out, 2);
    if (one_in(3)) {
        wr_buf_init(&record, 16384);
        put_blob(&record, 1);
        put_blob(&record, 2);
        put_inner(out, 3, &record);
    }
    for (unsigned count = one_in(5) ? 45 : (unsigned)roll(4); count; count--)
        put_peer(out, 8);
    for (unsigned count = (unsigned)roll(4); count; count--)
        put_peer(out, 9);
}

static void punch_word(struct wr_buf *out)
{
    static const unsigned types[] = {100, 100, 300, 300, 0, 7};
    put_number(out, 1, types[roll(6)]);
    put_addrs(out, 2);
}

/* One message with its length; now and then it is damaged. */
static void put_word(unsigned protocol, struct wr_buf *out)
{
    struct wr_buf body;
    wr_buf_init(&body, 256 * 1024);
    switch (protocol) {
    case IDENTIFY:
    case PUSH:
        identify_word(&body);
        break;
    case HOP:
    case STOP:
        relay_word(protocol == STOP, &body);
        break;
    case DCUTR:
        punch_word(&body);
        break;
    case NAT1:
        old_nat_word(&body);
        break;
    case DHT:
        dht_word(&body);
        break;
    case PING:
        put_blob(&body, 1);
        break;
    default:
        nat_word(protocol == BACK, &body);
        break;
    }
    size_t at = out->len;
    wr_buf_put_prefixed(out, wr_buf_bytes(&body));
    wr_buf_clear(&body);
    if (one_in(6) && out->len > at)
        out->data[at + roll(out->len - at)] ^= (uint8_t)(1u << roll(8));
    if (one_in(10) && out->len > at)
        out->len -= roll(out->len - at);
}

/* ---- streams of theirs */

static void forget_line(struct line *l)
{
    l->s = NULL;
}

static void speak(struct line *l)
{
    struct wr_buf words;
    wr_buf_init(&words, 512 * 1024);
    for (unsigned n = 1 + (unsigned)roll(3); n; n--)
        put_word(l->protocol, &words);
    (void)wr_stream_write(l->s, words.data, one_in(4) ? roll(words.len + 1) : words.len);
    wr_buf_clear(&words);
    w.said++;
}

/* Whatever may be done with a stream. */
static void act_on(struct line *l)
{
    struct wr_stream *s = l->s;
    switch (roll(12)) {
    case 0:
        forget_line(l);
        wr_stream_reset(s, (uint32_t)any_number());
        return;
    case 1:
        forget_line(l);
        wr_stream_close(s);
        return;
    case 2:
        wr_stream_shut(s);
        return;
    case 3:
        wr_stream_pause(s, one_in(2));
        return;
    case 4:
        return;
    default:
        speak(l);
    }
}

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct line *l = arg;
    (void)s, (void)data;
    w.heard++;
    if (one_in(2))
        act_on(l);
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    (void)s, (void)err;
    forget_line(arg);
}

static const struct wr_stream_ops line_ops = {.on_data = on_data, .on_close = on_close};

static struct line *free_line(void)
{
    for (unsigned i = 0; i < LINES; i++)
        if (!w.lines[i].s)
            return &w.lines[i];
    return NULL;
}

/* The node asks. */
static void on_asked(struct wr_stream *s, void *arg)
{
    struct line *l = one_in(20) ? NULL : free_line();
    if (!l) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    *l = (struct line){.s = s, .protocol = (unsigned)(uintptr_t)arg};
    wr_stream_set_ops(s, &line_ops, l);
    if (!one_in(4))
        act_on(l);
}

/* ---- what happens */

static void on_call(void *arg, int err, struct wr_conn *conn)
{
    (void)arg, (void)err, (void)conn;
}

static void call(struct home *from, struct home *to, unsigned flags)
{
    struct wr_maddr at = site_at(&to->site, one_in(2));
    (void)wr_swarm_connect(from->site.swarm, site_id(&to->site), &at, 1, WR_ORIGIN_OWNER, flags, on_call, NULL, NULL);
}

static void call_through_relay(struct home *from)
{
    struct wr_maddr at = site_at(&w.relay.site, false), tail;
    assert_int_equal(wr_maddr_append_peer(&at, site_id(&w.relay.site)), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&at, wr_maddr_bytes(&tail)), 0);
    (void)wr_swarm_connect(from->site.swarm, site_id(&w.node.site), &at, 1, WR_ORIGIN_OWNER, 0, on_call, NULL, NULL);
}

struct pick {
    struct wr_conn *found;
    unsigned seen;
};

static void pick_one(struct wr_conn *c, void *arg)
{
    struct pick *p = arg;
    if (wr_peerid_equal(&c->peer, site_id(&w.node.site)) && roll(++p->seen) == 0)
        p->found = c;
}

static void open_line(struct home *v)
{
    static const char *offers[PROTOCOLS][2];
    struct pick p = {0};
    struct line *l = free_line();
    int err;
    wr_swarm_each(v->site.swarm, pick_one, &p);
    if (!p.found)
        call(v, &w.node, WR_CONNECT_FRESH);
    if (!p.found || !l)
        return;
    *l = (struct line){.protocol = (unsigned)roll(PROTOCOLS)};
    offers[l->protocol][0] = protocols[l->protocol];
    l->s = wr_conn_open_stream(p.found, offers[l->protocol], &line_ops, l, &err);
    if (l->s)
        speak(l);
}

static void node_acts(void)
{
    static const struct wr_dht_ops quiet;
    const struct wr_peerid *who = somebody();
    int err;
    switch (roll(8)) {
    case 0:
        (void)wr_dht_find_peer(w.dht, who, &quiet, NULL, &err);
        break;
    case 1:
        (void)wr_dht_find_providers(w.dht, wr_peerid_bytes(who), 3, &quiet, NULL, &err);
        break;
    case 2:
        (void)wr_relay_client_hold(w.node.client, who);
        break;
    case 3:
        wr_relay_client_drop(w.node.client, site_id(&w.villains[roll(VILLAINS)].site));
        break;
    case 4:
        wr_swarm_set_reachability(w.node.site.swarm, 4, one_in(2) ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
        break;
    case 5:
        wr_relay_server_set_mode(w.node.relay, one_in(4) ? WR_RELAY_OFF : WR_RELAY_ON);
        break;
    case 6:
        call(&w.node, &w.villains[roll(VILLAINS)], WR_CONNECT_FRESH);
        break;
    default:
        wr_swarm_disconnect(w.node.site.swarm, site_id(&w.villains[roll(VILLAINS)].site), WR_CONN_OK);
        break;
    }
}

/* Memory is short for a moment, in whatever runs just then. */
static void be_short(void)
{
    if (one_in(3))
        sim_alloc_fail(roll(200), 1 + roll(4));
}

static void step(void)
{
    struct home *v = &w.villains[roll(VILLAINS)];
    if (w.poor)
        be_short();
    switch (roll(16)) {
    case 0:
        node_acts();
        break;
    case 1:
        call(v, &w.node, one_in(2) ? WR_CONNECT_FRESH : 0);
        break;
    case 2:
        call_through_relay(&w.villains[roll(CALLERS)]);
        break;
    case 3:
        if (one_in(3))
            wr_swarm_disconnect(v->site.swarm, site_id(&w.node.site), WR_CONN_OK);
        break;
    case 4:
    case 5:
    case 6:
    case 7: {
        struct line *l = &w.lines[roll(LINES)];
        if (l->s)
            act_on(l);
        break;
    }
    default:
        open_line(v);
        break;
    }
    sim_run(w.sim, one_in(40) ? (wr_time)roll(40) * WR_SEC : (wr_time)roll(60) * WR_MSEC);
}

/* ---- the whole */

static void villain_up(struct home *v, unsigned i)
{
    site_start(&v->site, w.sim, PUBLIC, 100 + i);
    if (i < CALLERS)
        v->client = wr_relay_client_create(
            &(struct wr_relay_client_options){.swarm = v->site.swarm, .on_hold = on_hold, .arg = v});
    for (unsigned k = 0; k < PROTOCOLS; k++) {
        struct wr_protocol p = {.on_stream = on_asked, .arg = (void *)(uintptr_t)k, .inbound_max = 100, .limited = true};
        if (k == STOP && v->client)
            continue;
        memcpy(p.name, protocols[k], strlen(protocols[k]) + 1);
        assert_int_equal(wr_swarm_handle(v->site.swarm, &p), 0);
    }
}

static void node_up(void)
{
    static const struct sim_host_options few = {.name = "poor", .descriptors = DESCRIPTORS};
    if (!w.poor) {
        home_start(&w.node, w.sim, PUBLIC, 1);
        return;
    }
    w.node.site = (struct site){.kind = PUBLIC, .host = sim_host_add(w.sim, &few)};
    site_swarm(&w.node.site, 1);
    home_services(&w.node);
}

static void up(uint64_t seed, bool poor)
{
    int err;
    memset(&w, 0, sizeof(w));
    w.poor = poor;
    luck = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    w.sim = sim_create(&(struct sim_options){.seed = seed, .rtt = 20 * WR_MSEC});
    node_up();
    relay_start(&w.node);
    const struct wr_kv_options store = {"store", 64 << 20, 4 << 20};
    assert_int_equal(wr_kv_open(w.node.site.env, &store, &w.kv), 0);
    const struct wr_dht_options dht = {
        .swarm = w.node.site.swarm, .kv = w.kv, .protocol = KAD, .mode = WR_DHT_SERVER};
    w.dht = wr_dht_create(&dht, &err);
    assert_non_null(w.dht);
    const struct wr_router router = wr_dht_router(w.dht);
    wr_swarm_set_router(w.node.site.swarm, &router);
    home_start(&w.relay, w.sim, PUBLIC, 2);
    relay_start(&w.relay);
    site_start(&w.good, w.sim, PUBLIC, 3);
    for (unsigned i = 0; i < VILLAINS; i++)
        villain_up(&w.villains[i], i);
    call(&w.node, &w.relay, 0);
    for (unsigned i = 0; i < VILLAINS; i++)
        call(&w.node, &w.villains[i], 0);
    sim_run(w.sim, 2 * WR_SEC);
    (void)wr_relay_client_hold(w.node.client, site_id(&w.relay.site));
}

static void down(void)
{
    wr_swarm_set_router(w.node.site.swarm, NULL);
    wr_dht_destroy(w.dht);
    home_stop(&w.node);
    wr_kv_close(w.kv);
    home_stop(&w.relay);
    site_stop(&w.good);
    sim_destroy(w.sim);
}

static uint64_t used(enum wr_limit limit)
{
    return w.node.site.limits.of[limit].used;
}

static void storm(uint64_t seed, bool poor)
{
    up(seed, poor);
    for (unsigned i = 0; i < STEPS; i++)
        step();
    sim_alloc_fail(0, 0);
    if (poor)
        sim_run(w.sim, WR_MIN);
    /* A good peer gets in and is answered. */
    struct wr_conn *c = site_dial(w.sim, &w.good, &w.node.site, false);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(c->state, WR_CONN_OPEN);
    for (unsigned i = 0; i < VILLAINS; i++)
        home_stop(&w.villains[i]);
    sim_run(w.sim, 10 * WR_MIN);
    if (getenv("STORM_LOUD"))
        print_message("seed %llu: %u words said, %u heard, %llu streams left, %llu bytes\n", (unsigned long long)seed, w.said,
                      w.heard, (unsigned long long)used(WR_LIMIT_STREAMS), (unsigned long long)used(WR_LIMIT_MEMORY));
    assert_true(w.said > STEPS / 8 && w.heard > STEPS / 20);
    assert_int_equal(used(WR_LIMIT_CONNS_HALF_OPEN), 0);
    assert_int_equal(used(WR_LIMIT_RELAY_CIRCUITS), 0);
    assert_int_equal(used(WR_LIMIT_DIALS), 0);
    assert_true(used(WR_LIMIT_STREAMS) <= 2 && used(WR_LIMIT_CONNS) <= 4);
    down();
}

static uint64_t first = 1, count = 2;

static void test_any_words_in_any_order(void **state)
{
    (void)state;
    for (uint64_t seed = first; seed < first + count; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        storm(seed, false);
    }
}

static void test_the_same_of_a_poor_node(void **state)
{
    (void)state;
    for (uint64_t seed = first; seed < first + count; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        storm(seed, true);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        first = strtoull(argv[1], NULL, 10);
        count = strtoull(argv[2], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_words_in_any_order),
        cmocka_unit_test(test_the_same_of_a_poor_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
