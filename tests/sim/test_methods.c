/* The control socket's methods on whole swarms in virtual time: what they answer, what they say
 * when it goes wrong, and that nothing is left when clients or the node go in the middle. */
#include "relay/relay_client.h"
#include "relay/relay_server.h"
#include "tests/sim/methods_world.h"

/* ---- looking */

static void test_status_id_and_peers(void **state)
{
    struct world *w = *state;
    const msgpack_object *o = call(&w->c, w->sim, "status");
    expect_text(o, "peer", w->a.peer);
    expect_text(o, "network", "ipfs");
    expect_text(o, "reachable", "unknown");
    (void)rows(o, "warnings", 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "connected"), 0);
    connect_them(w);
    o = call(&w->c, w->sim, "status");
    assert_int_equal(number(wr_rpc_find(o, "peers"), "connected"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "direct"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "outbound"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "noise"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "tls"), 0);
    assert_true(number(o, "bytes_in") > 500);
    assert_true(number(o, "uptime_ms") >= 1000);
    (void)rows(o, "warnings", 0);
    (void)rows(o, "limits", WR_LIMIT_COUNT);
    (void)rows(o, "listen", 1);
    /* A refusal is worth a warning for an hour or two. */
    wr_limits_refuse(&w->a.limits, WR_LIMIT_DIALS);
    expect_text(rows(call(&w->c, w->sim, "status"), "warnings", 1), "command", "warren limits");
    sim_run(w->sim, 50 * WR_MIN);
    expect_text(rows(call(&w->c, w->sim, "status"), "warnings", 1), "command", "warren limits");
    sim_run(w->sim, 80 * WR_MIN);
    (void)rows(call(&w->c, w->sim, "status"), "warnings", 0);
    /* What `check` finds, and leaves somebody without a way in. */
    wr_swarm_set_reachability(w->a.swarm, 4, WR_REACH_PRIVATE);
    const msgpack_object *warning = rows(call(&w->c, w->sim, "status"), "warnings", 1);
    expect_text(warning, "code", "no-relay");
    expect_text(warning, "command", "warren check");
    wr_swarm_set_reachability(w->a.swarm, 4, WR_REACH_UNKNOWN);
    (void)rows(call(&w->c, w->sim, "status"), "warnings", 0);
    /* A machine whose clock stands in the last century. */
    struct node old;
    struct client c;
    place.clock_error = -30 * 365 * 24 * WR_HOUR;
    start(&old, w->sim, 9, false);
    place.clock_error = 0;
    dial(&c, w->sim, &old);
    assert_non_null(call_text(&c, w->sim, "connect", "peer", w->b.addr));
    expect_text(rows(call(&c, w->sim, "status"), "warnings", 1), "command", "date");
    hang_up(&c);
    stop(&old);

    o = call(&w->c, w->sim, "id");
    expect_text(o, "peer", w->a.peer);
    assert_non_null(wr_rpc_find(o, "protocols"));
    o = call(&w->c, w->sim, "peers");
    const msgpack_object *row = rows(o, "peers", 1);
    expect_text(row, "peer", w->b.peer);
    expect_text(row, "path", "direct");
    expect_text(row, "direction", "out");
    expect_text(row, "security", "/noise");
    expect_text(row, "agent", "warren/" WARREN_VERSION);
    assert_true(wr_rpc_find(row, "protocols")->via.array.size >= 4);
    o = call(&w->c, w->sim, "limits");
    expect_text(o, "knob", "home");
    row = rows(o, "limits", WR_LIMIT_COUNT);
    expect_text(row, "name", "connections");
    assert_int_equal(number(row, "used"), 1);
    assert_int_equal(number(row, "max"), 512);
}

static bool flag(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_BOOLEAN);
    return o->via.boolean;
}

/* Of a connection through a relay both limits are shown that the relay announced for it, to who dialled and to who was
 * reached; a relay without limits says so. */
static void test_limits_of_a_circuit_are_shown(void **state)
{
    struct world *w = *state;
    for (unsigned limited = 0; limited <= 1; limited++) {
        static struct node n[3];    /* relay, guest, caller */
        struct wr_relay_client *clients[2];
        struct wr_relay_server_options lent;
        struct client c[2];
        struct wr_peerid relay;
        char circuit[2 * WR_MADDR_TEXT];
        for (uint8_t i = 0; i < 3; i++)
            start(&n[i], w->sim, (uint8_t)(40 + 3 * limited + i), false);
        wr_relay_server_defaults(&lent, n[0].swarm);
        lent.mode = WR_RELAY_ON;
        lent.limit = (struct wr_relay_limit){.duration = limited ? 77 : 0, .data = limited ? 99999 : 0};
        struct wr_relay_server *server = wr_relay_server_create(&lent);
        for (unsigned i = 0; i < 2; i++) {
            clients[i] = wr_relay_client_create(&(struct wr_relay_client_options){.swarm = n[1 + i].swarm});
            assert_true(server && clients[i]);
            dial(&c[i], w->sim, &n[1 + i]);
        }
        assert_non_null(call_text(&c[0], w->sim, "connect", "peer", n[0].addr));
        relay = *wr_swarm_self(n[0].swarm);
        assert_int_equal(wr_relay_client_hold(clients[0], &relay), 0);
        sim_run(w->sim, WR_SEC);
        (void)snprintf(circuit, sizeof(circuit), "%s/p2p-circuit/p2p/%s", n[0].addr, n[1].peer);
        assert_non_null(call_text(&c[1], w->sim, "connect", "peer", circuit));
        for (unsigned i = 0; i < 2; i++) {
            const msgpack_object *row = rows(call(&c[i], w->sim, "peers"), "peers", 2), *path = NULL;
            for (unsigned k = 0; k < 2 && !path; k++)
                path = wr_rpc_find(&row[k], "limited") ? &row[k] : NULL;
            assert_non_null(path);
            expect_text(path, "peer", n[2 - i].peer);
            expect_text(path, "transport", "circuit");
            assert_int_equal(flag(path, "limited"), limited);
            assert_true((wr_rpc_find(path, "limit_seconds") != NULL) == limited);
            assert_true((wr_rpc_find(path, "limit_bytes") != NULL) == limited);
            if (limited) {
                assert_int_equal(number(path, "limit_seconds"), 77);
                assert_int_equal(number(path, "limit_bytes"), 99999);
            }
        }
        for (unsigned i = 0; i < 2; i++) {
            hang_up(&c[i]);
            wr_relay_client_destroy(clients[i]);
        }
        wr_relay_server_destroy(server);
        for (unsigned i = 0; i < 3; i++)
            stop(&n[2 - i]);
        sim_run(w->sim, WR_SEC);
    }
}

/* A NAT that leaves ports as they are, with one machine behind it. */
static const struct wr_ip inside = {.family = 4, .bytes = {192, 168, 1, 7}};

static bool nat_out(struct sim_gateway *g, struct sim_head *head, wr_time now)
{
    (void)now;
    head->from.ip = g->ip4;
    return true;
}

static bool nat_in(struct sim_gateway *g, struct sim_head *head, wr_time now)
{
    (void)g;
    (void)now;
    head->to.ip = inside;
    return true;
}

static void on_fresh(void *arg, int error, struct wr_conn *conn)
{
    (void)arg;
    (void)conn;
    assert_int_equal(error, 0);
}

/* Where peers see us is shown from the first on who says so, beside the socket that he speaks of; and of each
 * connection whether it uses that socket. */
static void test_what_peers_see_is_shown(void **state)
{
    struct world *w = *state;
    static struct sim_gateway nat;    /* as long as the world */
    static struct node home, others[3];
    struct client c;
    nat = (struct sim_gateway){
        .ip4 = {.family = 4, .bytes = {93, 184, 216, 34}}, .outbound = nat_out, .inbound = nat_in};
    sim_gateway_add(w->sim, &nat);
    place = (struct sim_host_options){.name = "home", .ip4 = inside, .gateway = &nat, .lan = 1};
    start(&home, w->sim, 20, false);
    place = (struct sim_host_options){.name = "node"};
    dial(&c, w->sim, &home);
    (void)rows(call(&c, w->sim, "status"), "observed", 0);
    for (uint8_t i = 0; i < 3; i++) {
        start(&others[i], w->sim, (uint8_t)(21 + i), false);
        assert_non_null(call_text(&c, w->sim, "connect", "peer", others[i].addr));
        sim_run(w->sim, 2 * WR_SEC);
        const msgpack_object *row = rows(call(&c, w->sim, "status"), "observed", 1);
        expect_text(row, "listen", "/ip4/192.168.1.7/tcp/4001");
        expect_text(row, "seen", "/ip4/93.184.216.34/tcp/4001");
        assert_int_equal(number(row, "networks"), i + 1);
        assert_int_equal(number(row, "of"), i + 1);
        assert_int_equal(flag(row, "enough"), i + 1 == 3);
        assert_true(flag(rows(call(&c, w->sim, "peers"), "peers", i + 1u), "listening_port"));
    }
    /* A second connection to the same address cannot leave from there, too. */
    struct wr_maddr to;
    assert_int_equal(wr_maddr_parse(others[0].addr, &to), 0);
    assert_int_equal(wr_swarm_connect(home.swarm, wr_swarm_self(others[0].swarm), &to, 1, WR_ORIGIN_OWNER,
                                      WR_CONNECT_FRESH, on_fresh, NULL, NULL),
                     0);
    sim_run(w->sim, 2 * WR_SEC);
    const msgpack_object *row = rows(call(&c, w->sim, "peers"), "peers", 3);
    unsigned elsewhere = 0;
    for (unsigned i = 0; i < 3; i++)
        elsewhere += !flag(&row[i], "listening_port");
    assert_int_equal(elsewhere, 1);
    hang_up(&c);
    stop(&home);
    for (int i = 0; i < 3; i++)
        stop(&others[i]);
    sim_run(w->sim, WR_SEC);
}

static void test_metrics_are_prometheus_text(void **state)
{
    struct world *w = *state;
    connect_them(w);
    const msgpack_object *o = wr_rpc_find(call(&w->c, w->sim, "metrics"), "text");
    struct wr_bytes text = WR_BYTES(o->via.str.ptr, o->via.str.size);
    bool peers = false, opened = false, noise = false, punched = false;
    unsigned samples = 0;
    while (text.len) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        assert_non_null(end); /* every line is ended */
        struct wr_bytes line = wr_bytes_take(&text, (size_t)(end - text.ptr) + 1);
        peers |= wr_bytes_equal(line, WR_BYTES_STR("warren_peers{path=\"direct\"} 1\n"));
        opened |= wr_bytes_equal(line, WR_BYTES_STR("warren_connections_opened_total{path=\"direct\"} 1\n"));
        noise |= wr_bytes_equal(
            line, WR_BYTES_STR("warren_connections_security{protocol=\"noise\"} 1\n"));
        punched |= wr_bytes_equal(
            line, WR_BYTES_STR("warren_punched_total{way=\"plain-quic\"} 0\n"));
        if (wr_bytes_starts(line, WR_BYTES_STR("# ")))
            continue;
        assert_true(wr_bytes_starts(line, WR_BYTES_STR("warren_")));
        assert_non_null(memchr(line.ptr, ' ', line.len));
        samples++;
    }
    assert_true(peers && opened && noise && punched);
    assert_true(samples > 60);
}

/* ---- connecting */

static void test_connect_says_what_went_wrong(void **state)
{
    struct world *w = *state;
    char addr[WR_MADDR_TEXT + WR_PEERID_TEXT];
    const msgpack_object *o;
    assert_null(call_text(&w->c, w->sim, "connect", "peer", "nonsense"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id (12D3KooW...) nor an address");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", "/ip4/1.2.3"));
    expect_error(&w->c, "WR_EINVAL", "not a multiaddr");
    assert_null(call(&w->c, w->sim, "connect"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->a.peer));
    expect_error(&w->c, "WR_ESELF", "this node itself");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNREACH", "connect by address");
    /* Nothing listens on that port. */
    (void)snprintf(addr, sizeof(addr), "%.*s4002/p2p/%s",
                   (int)(strstr(w->b.addr, "4001") - w->b.addr), w->b.addr, w->b.peer);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", addr));
    expect_error(&w->c, "WR_EREFUSED", ": the machine answers, but nothing listens on that port (/ip4/");
    /* Of that, and an address of a kind that is not spoken, the former tells more; the code says the same as the text. */
    sim_run(w->sim, WR_MIN);
    (void)snprintf(addr, sizeof(addr), "%.*s4002/ws/p2p/%s",
                   (int)(strstr(w->b.addr, "4001") - w->b.addr), w->b.addr, w->b.peer);
    assert_null(call_text(&w->c, w->sim, "perf", "peer", addr));
    expect_error(&w->c, "WR_EREFUSED", "/tcp/4002); is the other node running, and on that port?");
    /* Another one answers there than was named. */
    (void)snprintf(addr, sizeof(addr), "%.*s%s", (int)(strstr(w->b.addr, "12D3") - w->b.addr),
                   w->b.addr, "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", addr));
    expect_error(&w->c, "WR_EPEERID", "another peer answer");
    /* Who it is need not be known. */
    (void)snprintf(addr, sizeof(addr), "%.*s", (int)(strstr(w->b.addr, "/p2p/") - w->b.addr),
                   w->b.addr);
    o = call_text(&w->c, w->sim, "connect", "peer", addr);
    assert_non_null(o);
    expect_text(o, "peer", w->b.peer);
    expect_text(o, "addr", addr);
    expect_text(o, "path", "direct");

    o = call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer);
    expect_text(o, "peer", w->b.peer);
    sim_run(w->sim, WR_SEC);
    assert_null(call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer));
    expect_error(&w->c, "WR_ENOTFOUND", "not connected to");
    assert_int_equal(wr_swarm_conn_count(w->a.swarm), 0);
}

/* Nobody is at that address: until that is known both who asked and whoever asks again are told what goes on. */
static void test_why_tells_of_what_is_under_way(void **state)
{
    struct world *w = *state;
    struct client other;
    sim_kill(w->b.host);
    wr_pack_text(begin(&w->c, "why"), "peer", w->b.addr);
    send_call(&w->c);
    sim_run(w->sim, 1500 * WR_MSEC);
    assert_true(no_reply(&w->c));
    assert_int_equal(w->c.progress, 1);
    assert_int_equal(w->c.trying, 1);
    dial(&other, w->sim, &w->a);
    wr_pack_text(begin(&other, "why"), "peer", w->b.peer);
    send_call(&other);
    sim_run(w->sim, 2 * WR_SEC);
    assert_true(no_reply(&other));
    assert_true(other.progress > 0 && other.trying == 1);
    assert_true(sim_run_while(w->sim, no_reply, &w->c, 120 * WR_SEC));
    rows(w->c.m.result, "trying", 0);
    expect_text(rows(w->c.m.result, "tried", 1), "code", "no-answer");
    /* Who leaves meanwhile is told nothing more. */
    hang_up(&other);
    dial(&other, w->sim, &w->a);
    wr_pack_text(begin(&other, "why"), "peer", w->b.addr);
    send_call(&other);
    sim_run(w->sim, 500 * WR_MSEC);
    hang_up(&other);
    sim_run(w->sim, 10 * WR_SEC);
}

static void test_timeout_ends_a_dial(void **state)
{
    struct world *w = *state;
    sim_kill(w->b.host);
    struct wr_pack *p = begin(&w->c, "connect");
    wr_pack_text(p, "peer", w->b.addr);
    wr_pack_u64(p, "timeout_ms", 700);
    wr_time before = sim_now(w->sim);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "700 ms");
    assert_true(sim_now(w->sim) - before < WR_SEC);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    expect_error(&w->c, "WR_ETIMEOUT", "is it online");
}

/* ---- ping */

static void test_ping(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "ping");
    wr_pack_text(p, "peer", w->b.addr); /* connects */
    wr_pack_u64(p, "count", 5);
    wr_pack_u64(p, "every_ms", 200);
    const msgpack_object *o = answer(&w->c, w->sim);
    assert_non_null(o);
    assert_int_equal(number(o, "sent"), 5);
    assert_int_equal(number(o, "received"), 5);
    expect_text(o, "path", "direct");
    assert_int_equal(w->c.progress, 5);
    assert_true(w->c.rtt_ms >= 40 && w->c.rtt_ms < 60);

    assert_null(call_text(&w->c, w->sim, "ping", "peer", w->a.peer));
    expect_error(&w->c, "WR_ESELF", "this node itself");
    assert_null(call_text(&w->c, w->sim, "ping", "peer", "/ip4/1.2.3.4/tcp/1"));
    expect_error(&w->c, "WR_EINVAL", "a peer id is needed");
    wr_pong_destroy(w->b.pong);
    w->b.pong = NULL;
    assert_null(call_text(&w->c, w->sim, "ping", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not answer pings");
}

static void test_lost_pings_are_told(void **state)
{
    struct world *w = *state;
    connect_them(w);
    sim_pause(w->b.host, true);
    struct wr_pack *p = begin(&w->c, "ping");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_u64(p, "count", 2);
    wr_pack_u64(p, "every_ms", 100);
    wr_pack_u64(p, "reply_timeout_ms", 500);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "no reply from");
    assert_int_equal(w->c.progress, 2);
    sim_pause(w->b.host, false);
}

static void close_at_once(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    (void)watch;
    if (event->type == WR_SWARM_OPENED)
        wr_conn_close(event->conn, WR_CONN_OK);
}

/* A peer that ends connections as soon as they are there: that is no handshake that failed. */
static void test_a_peer_that_hangs_up(void **state)
{
    struct world *w = *state;
    struct wr_swarm_watch watch = {.on_event = close_at_once};
    static const char *const methods[] = {"connect", "ping", "perf"};
    wr_swarm_watch(w->b.swarm, &watch);
    for (size_t i = 0; i < 3; i++) {
        assert_null(call_text(&w->c, w->sim, methods[i], "peer", w->b.addr));
        expect_error(&w->c, "WR_ERESET", "was reached, and ended the connection before it answered");
        sim_run(w->sim, WR_MIN);
    }
    wr_swarm_unwatch(&watch);
    /* Where nobody was reached the dial is told of, as before. */
    sim_kill(w->b.host);
    assert_null(call_text(&w->c, w->sim, "ping", "peer", w->b.addr));
    expect_error(&w->c, "WR_ETIMEOUT", "");
}

/* ---- rules */

static void test_block_and_allow(void **state)
{
    struct world *w = *state;
    connect_them(w);
    const msgpack_object *o = call_text(&w->c, w->sim, "block", "what", w->b.peer);
    expect_text(o, "list", "block");
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_conn_count(w->a.swarm), 0);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    expect_error(&w->c, "WR_EGATED", "`warren block` lists the rules");
    assert_non_null(call_text(&w->c, w->sim, "allow", "what", "10.0.0.0/8"));
    assert_null(call_text(&w->c, w->sim, "allow", "what", "10.0.0.0/99"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id nor a network");
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 2);
    o = rows(call_text(&w->c, w->sim, "rules", "list", "allow"), "rules", 1);
    expect_text(o, "what", "10.0.0.0/8");

    /* They outlive the node. */
    hang_up(&w->c);
    stop_control(&w->a);
    assert_int_equal(wr_policy_rule(wr_swarm_policy(w->a.swarm), true, w->b.peer, false), 0);
    start_control(&w->a);
    dial(&w->c, w->sim, &w->a);
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 2);
    assert_true(wr_policy_peer_blocked(wr_swarm_policy(w->a.swarm), wr_swarm_self(w->b.swarm)));

    struct wr_pack *p = begin(&w->c, "block");
    wr_pack_text(p, "what", w->b.peer);
    wr_pack_bool(p, "remove", true);
    assert_non_null(answer(&w->c, w->sim));
    p = begin(&w->c, "block");
    wr_pack_text(p, "what", w->b.peer);
    wr_pack_bool(p, "remove", true);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ENOTFOUND", "`warren block` lists them");
    connect_them(w);
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 1);
}

/* A disk that is full or broken keeps nothing, and who asked hears of it; what he wanted is in force until the node
 * ends. */
static void test_rules_on_a_full_disk(void **state)
{
    struct world *w = *state;
    struct kv_mem_disk *disk = kv_mem_disk_for(w->a.env, "/data");
    disk->fail = WR_EFULL;
    assert_null(call_text(&w->c, w->sim, "block", "what", w->b.peer));
    expect_error(&w->c, "WR_EFULL", "not on the disk");
    assert_true(wr_policy_peer_blocked(wr_swarm_policy(w->a.swarm), wr_swarm_self(w->b.swarm)));
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 1);
    /* Whoever leaves before the answer does no harm. */
    struct client hasty;
    dial(&hasty, w->sim, &w->a);
    wr_pack_text(begin(&hasty, "allow"), "what", "10.0.0.0/8");
    send_call(&hasty);
    sim_run(w->sim, WR_MSEC);
    hang_up(&hasty);
    sim_run(w->sim, 2 * WR_KV_RETRY_MAX);
    disk->fail = 0;
    uint64_t commits = disk->commits;
    assert_non_null(call_text(&w->c, w->sim, "block", "what", w->b.peer));
    assert_true(disk->commits > commits);
}

/* ---- wait, events, stop */

static void test_wait(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "wait");
    wr_pack_u64(p, "timeout_ms", 2000);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "2000 ms");
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "christmas");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EINVAL", "online, reachable or peer");
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "peer");
    wr_pack_text(p, "peer", "/ip4/1.2.3.4/tcp/1");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EINVAL", "an id is needed");

    struct client other;
    dial(&other, w->sim, &w->a);
    p = begin(&other, "wait");
    wr_pack_text(p, "for", "peer");
    wr_pack_text(p, "peer", w->b.peer);
    send_call(&other);
    sim_run(w->sim, 5 * WR_SEC);
    assert_true(no_reply(&other));
    connect_them(w);
    assert_false(no_reply(&other));
    expect_text(other.m.result, "peer", w->b.peer);
    hang_up(&other);
    assert_non_null(call_text(&w->c, w->sim, "wait", "for", "online"));
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "reachable");
    wr_pack_u64(p, "timeout_ms", 500);
    assert_null(answer(&w->c, w->sim));
}

static void test_events_and_stop(void **state)
{
    struct world *w = *state;
    struct client watcher;
    dial(&watcher, w->sim, &w->a);
    assert_non_null(call(&watcher, w->sim, "subscribe"));
    forget_reply(&watcher);
    connect_them(w);
    assert_non_null(call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer));
    sim_run(w->sim, WR_SEC);
    struct wr_dcutr_report report = {.outcome = WR_DCUTR_PUNCHED, .attempt = 1, .udp = true};
    wr_methods_punched(w->a.methods, wr_swarm_self(w->b.swarm), &report);
    report = (struct wr_dcutr_report){.outcome = WR_DCUTR_NO_ADDRESS};
    wr_methods_punched(w->a.methods, wr_swarm_self(w->b.swarm), &report);
    sim_run(w->sim, WR_SEC);
    look(&watcher);
    static const char *const want[] = {"connection-opened ", "peer-connected ", "peer-identified ",
                                       "connection-closed ", "peer-disconnected ",
                                       "punch-succeeded ", "punch-failed "};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        if (!strstr(watcher.note, want[i]))
            fail_msg("\"%s\" lacks \"%s\"", watcher.note, want[i]);
    hang_up(&watcher);
    assert_non_null(call(&w->c, w->sim, "stop"));
    assert_int_equal(w->a.stops, 1);
}

/* ---- perf and streams */

static void test_perf(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "perf");
    wr_pack_text(p, "peer", w->b.addr);
    wr_pack_u64(p, "up", 3000001);
    wr_pack_u64(p, "down", 5000002);
    const msgpack_object *o = answer(&w->c, w->sim);
    assert_non_null(o);
    assert_int_equal(number(o, "up_bytes"), 3000001);
    assert_int_equal(number(o, "down_bytes"), 5000002);
    double up = wr_rpc_find(o, "up_seconds")->via.f64,
           down = wr_rpc_find(o, "down_seconds")->via.f64;
    assert_true(up > 0.04 && up < 60 && down > 0 && down < 60);
    /* Nothing either way is fine too. */
    assert_non_null(call_text(&w->c, w->sim, "perf", "peer", w->b.peer));

    wr_perf_destroy(w->b.perf);
    w->b.perf = NULL;
    assert_null(call_text(&w->c, w->sim, "perf", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not speak /perf/1.0.0");
}

static void test_perf_gives_up_on_a_dead_peer(void **state)
{
    struct world *w = *state;
    connect_them(w);
    struct wr_pack *p = begin(&w->c, "perf");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_u64(p, "down", UINT64_C(1) << 40);
    send_call(&w->c);
    sim_run(w->sim, 10 * WR_SEC);
    assert_true(no_reply(&w->c));
    assert_true(w->c.progress >= 5);
    sim_pause(w->b.host, true);
    sim_run(w->sim, WR_PERF_IDLE + 2 * WR_SEC);
    assert_false(no_reply(&w->c));
    assert_non_null(w->c.m.error);
    sim_pause(w->b.host, false);
    sim_run(w->sim, WR_PERF_IDLE + 2 * WR_SEC);
}

static void test_streams_need_descriptors(void **state)
{
    struct world *w = *state;
    struct client server;
    connect_them(w);
    struct wr_pack *p = begin(&w->c, "open");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_text(p, "protocol", "/chat/1.0.0");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not speak /chat/1.0.0");
    assert_null(call_text(&w->c, w->sim, "accept", "protocol", "chat"));
    expect_error(&w->c, "WR_EINVAL", "is not a protocol name");
    assert_null(call_text(&w->c, w->sim, "accept", "protocol", "/ipfs/ping/1.0.0"));
    expect_error(&w->c, "WR_EEXIST", "the node itself answers");
    /* A simulated machine has none to hand over: both sides are told, and the stream ends. */
    dial(&server, w->sim, &w->b);
    wr_pack_text(begin(&server, "accept"), "protocol", "/chat/1.0.0");
    send_call(&server);
    sim_run(w->sim, WR_SEC);
    size_t before = wr_swarm_protocols(w->b.swarm)->count;
    p = begin(&w->c, "open");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_text(p, "protocol", "/chat/1.0.0");
    assert_null(answer(&w->c, w->sim));
    sim_run(w->sim, WR_SEC);
    assert_false(no_reply(&server));
    expect_error(&server, "WR_EUNSUPPORTED", "");
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before - 1);
    hang_up(&server);
    /* Nobody waits any more: the name is withdrawn with the client. */
    dial(&server, w->sim, &w->b);
    wr_pack_text(begin(&server, "accept"), "protocol", "/chat/1.0.0");
    send_call(&server);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before);
    hang_up(&server);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before - 1);
}

/* ---- ends in the middle */

static void begin_everything(struct world *w, struct client *c)
{
    static const char *const methods[] = {"connect", "ping", "perf", "open"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct wr_pack *p = begin(c, methods[i]);
        wr_pack_text(p, "peer", w->b.addr);
        wr_pack_text(p, "protocol", "/chat/1.0.0");
        wr_pack_u64(p, "count", 1000);
        wr_pack_u64(p, "up", 1 << 30);
        send_call(c);
    }
    wr_pack_text(begin(c, "accept"), "protocol", "/chat/1.0.0");
    send_call(c);
    struct wr_pack *p = begin(c, "wait");
    wr_pack_text(p, "for", "reachable");
    send_call(c);
}

static void test_clients_that_leave(void **state)
{
    struct world *w = *state;
    /* At every moment of a call's life. */
    for (wr_time when = 0; when < WR_SEC; when += 17 * WR_MSEC) {
        struct client c;
        dial(&c, w->sim, &w->a);
        begin_everything(w, &c);
        sim_run(w->sim, when);
        hang_up(&c);
        sim_run(w->sim, 100 * WR_MSEC);
        (void)call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer);
    }
    sim_run(w->sim, 60 * WR_SEC);
    assert_int_equal(wr_control_clients(w->a.control), 1);
    assert_int_equal(w->a.limits.of[WR_LIMIT_STREAMS].used, 0);
}

static void test_node_that_goes(void **state)
{
    struct world *w = *state;
    for (wr_time when = 0; when < WR_SEC; when += 31 * WR_MSEC) {
        struct client c;
        dial(&c, w->sim, &w->a);
        begin_everything(w, &c);
        sim_run(w->sim, when);
        stop_control(&w->a);
        sim_run(w->sim, 10 * WR_MSEC);
        assert_true(c.closed);
        hang_up(&c);
        start_control(&w->a);
    }
    hang_up(&w->c);
    dial(&w->c, w->sim, &w->a);
}

/* Each allocation of the calls fails once: an error or a closed client, and the node lives on. */
static void test_memory_runs_out(void **state)
{
    struct world *w = *state;
    connect_them(w);
    for (uint64_t skip = 0;; skip++) {
        struct client c;
        dial(&c, w->sim, &w->a);
        sim_alloc_fail(skip, 1);
        begin_everything(w, &c);
        (void)begin(&c, "status");
        send_call(&c);
        (void)begin(&c, "metrics");
        send_call(&c);
        sim_run(w->sim, 300 * WR_MSEC);
        bool reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        hang_up(&c);
        sim_run(w->sim, WR_SEC);
        if (!wr_swarm_conn(w->a.swarm, wr_swarm_self(w->b.swarm)))
            (void)call_text(&w->c, w->sim, "connect", "peer", w->b.addr);
        assert_non_null(call(&w->c, w->sim, "status"));
        if (!reached)
            break;
        assert_true(skip < 5000);
    }
    sim_run(w->sim, 60 * WR_SEC);
    assert_int_equal(wr_control_clients(w->a.control), 1);
}

#define TEST(name)   cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status_id_and_peers),
        TEST(test_limits_of_a_circuit_are_shown),
        TEST(test_what_peers_see_is_shown),
        TEST(test_metrics_are_prometheus_text),
        TEST(test_connect_says_what_went_wrong),
        TEST(test_why_tells_of_what_is_under_way),
        TEST(test_timeout_ends_a_dial),
        TEST(test_ping),
        TEST(test_lost_pings_are_told),
        TEST(test_a_peer_that_hangs_up),
        TEST(test_block_and_allow),
        TEST(test_rules_on_a_full_disk),
        TEST(test_wait),
        TEST(test_events_and_stop),
        TEST(test_perf),
        TEST(test_perf_gives_up_on_a_dead_peer),
        TEST(test_streams_need_descriptors),
        TEST(test_clients_that_leave),
        TEST(test_node_that_goes),
        TEST(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
