/* Port mapping in virtual time: a node behind a router that speaks what the story wants, for days. */
#include "tests/sim/simnode.h"

#include "autonat/lease.h"
#include "autonat/natpmp.h"
#include "autonat/pcp.h"
#include "autonat/portmap.h"
#include "autonat/upnp.h"

#define LAN 7

/* A router that answers by the book, as far as it is told to. */
struct router {
    struct sim_host *host;
    struct wr_udp *udp;
    bool pcp, natpmp;
    uint8_t result;             /* of PCP's MAP */
    struct wr_ip external;
    uint32_t lifetime;
    wr_time up_since;
    unsigned pcp_maps, natpmp_maps, removed, others;    /* requests; `others`: probes */
    uint8_t nonces[2][WR_PCP_NONCE];                    /* last seen: TCP, UDP */
    bool forge_nonce;
    struct wr_addr asker;    /* of the last request */
};

static uint32_t epoch_of(const struct router *r)
{
    return (uint32_t)((wr_env_now(sim_host_env(r->host)) - r->up_since) / WR_SEC);
}

static void answer_pcp(struct router *r, const struct wr_addr *from, const uint8_t *ask)
{
    uint8_t out[60] = {0};
    struct wr_buf b;
    bool map = ask[1] == 1;
    wr_buf_over(&b, out, sizeof(out));
    wr_buf_put_u8(&b, 2);
    wr_buf_put_u8(&b, 0x80 | ask[1]);
    wr_buf_put_u8(&b, 0);
    wr_buf_put_u8(&b, map ? r->result : 0);
    bool removal = map && ask[4] == 0 && ask[5] == 0 && ask[6] == 0 && ask[7] == 0;
    wr_buf_put_u32be(&b, removal ? 0 : r->lifetime);
    wr_buf_put_u32be(&b, epoch_of(r));
    b.len += 12;
    r->pcp_maps += map && !removal;
    r->removed += removal;
    r->others += !map;
    if (map) {
        memcpy(r->nonces[ask[36] == 17], ask + 24, WR_PCP_NONCE);
        wr_buf_put(&b, ask + 24, WR_PCP_NONCE + 4);
        wr_buf_put(&b, ask + 40, 2);
        wr_buf_put(&b, ask + 40, 2);
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        if (memcmp(ask + 8, mapped, 12) == 0) {
            wr_buf_put(&b, mapped, 12);
            wr_buf_put(&b, r->external.bytes, 4);
        } else {
            wr_buf_put(&b, ask + 8, 16);    /* a pinhole: nothing is translated */
        }
        out[24] ^= r->forge_nonce;
    }
    wr_udp_send(r->udp, from, 0, WR_BYTES(out, b.len));
}

static void answer_natpmp(struct router *r, const struct wr_addr *from, const uint8_t *ask)
{
    uint8_t out[16] = {0};
    struct wr_buf b;
    wr_buf_over(&b, out, sizeof(out));
    wr_buf_put_u8(&b, 0);
    wr_buf_put_u8(&b, 0x80 | ask[1]);
    wr_buf_put_u16be(&b, 0);
    wr_buf_put_u32be(&b, epoch_of(r));
    if (ask[1] == 0) {
        wr_buf_put(&b, r->external.bytes, 4);
        r->others++;
    } else {
        bool removal = ask[8] == 0 && ask[9] == 0 && ask[10] == 0 && ask[11] == 0;
        r->removed += removal && ask[6] == 0 && ask[7] == 0;    /* RFC 6886 section 3.4: no outside port */
        r->natpmp_maps += !removal;
        wr_buf_put(&b, ask + 4, 2);
        wr_buf_put(&b, ask + 4, 2);
        wr_buf_put_u32be(&b, r->lifetime);
    }
    wr_udp_send(r->udp, from, 0, WR_BYTES(out, b.len));
}

static void on_request(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct router *r = arg;
    (void)ifindex;
    r->asker = *from;
    if (len >= 24 && data[0] == 2 && r->pcp)
        answer_pcp(r, from, data);
    else if (len >= 2 && data[0] == 0 && r->natpmp)
        answer_natpmp(r, from, data);
}

static const struct wr_udp_ops router_ops = {.on_datagram = on_request};

struct story {
    struct sim *sim;
    struct router router;
    struct node node;
    struct wr_portmap *portmap;
};

static void begin(struct story *s, struct router router, void (*upnp)(struct wr_upnp_task *task))
{
    memset(s, 0, sizeof(*s));
    s->sim = sim_create(&(struct sim_options){.seed = 1});
    s->router = router;
    s->router.host = sim_host_add(s->sim, &(struct sim_host_options){.name = "router", .lan = LAN,
                                                                     .ip4 = {4, {192, 168, 1, 1}}});
    struct wr_addr at = {.ip = {4, {192, 168, 1, 1}}, .port = WR_PCP_PORT};
    assert_int_equal(wr_env_udp(sim_host_env(s->router.host), &at, false, &router_ops, &s->router, &s->router.udp), 0);
    if (!s->router.external.family)
        s->router.external = (struct wr_ip){4, {11, 1, 0, 2}};
    if (!s->router.lifetime)
        s->router.lifetime = 7200;
    s->node.host = sim_host_add(s->sim, &(struct sim_host_options){.name = "node", .lan = LAN,
                                                                   .ip4 = {4, {192, 168, 1, 10}}});
    node_start(&s->node, s->sim, 1);
    struct wr_maddr quic;
    assert_int_equal(wr_maddr_parse("/ip4/0.0.0.0/udp/4001/quic-v1", &quic), 0);
    assert_int_equal(wr_swarm_listen(s->node.swarm, wr_maddr_bytes(&quic)), 0);
    s->portmap = wr_portmap_create(&(struct wr_portmap_options){.swarm = s->node.swarm, .upnp = upnp});
    assert_non_null(s->portmap);
}

static void end(struct story *s)
{
    wr_portmap_destroy(s->portmap);
    node_stop(&s->node);
    sim_run(s->sim, WR_SEC);
    wr_udp_close(s->router.udp);
    sim_destroy(s->sim);
}

/* How many ports of ours have this outside address in the address book. */
static unsigned in_book(const struct story *s, const char *ip)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(s->node.swarm);
    struct wr_ip want;
    unsigned count = 0;
    assert_int_equal(wr_ip_parse(ip, &want), 0);
    for (size_t i = 0; i < book->count; i++) {
        struct wr_addr at;
        count += book->of[i].source == WR_ADDR_MAPPED && wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) &&
                 wr_ip_equal(&at.ip, &want) && at.port == 4001;
    }
    return count;
}

static enum wr_portmap_reason reason_of(const struct story *s, enum wr_portmap_protocol protocol)
{
    struct wr_portmap_finding all[WR_PORTMAP_FINDINGS_MAX];
    size_t count = wr_portmap_findings(s->portmap, all, WR_PORTMAP_FINDINGS_MAX);
    for (size_t i = 0; i < count; i++)
        if (all[i].protocol == protocol)
            return all[i].reason;
    fail_msg("nothing found about %s", wr_portmap_protocol_name(protocol));
    return WR_PORTMAP_ERROR;
}

static bool announced(const struct story *s)
{
    struct wr_maddr out[8];
    return wr_addrbook_announce(wr_swarm_addrbook(s->node.swarm), NULL, out, 8) > 0;
}

static void the_best_protocol_is_used(void **state)
{
    (void)state;
    static const struct {
        bool pcp, natpmp;
        enum wr_portmap_protocol used;
    } rows[] = {{true, true, WR_PORTMAP_PCP}, {true, false, WR_PORTMAP_PCP}, {false, true, WR_PORTMAP_NATPMP}};
    for (size_t i = 0; i < 3; i++) {
        struct story s;
        begin(&s, (struct router){.pcp = rows[i].pcp, .natpmp = rows[i].natpmp}, NULL);
        sim_run(s.sim, 2 * WR_SEC);
        assert_int_equal(in_book(&s, "11.1.0.2"), 2);
        assert_int_equal(reason_of(&s, rows[i].used), WR_PORTMAP_OK);
        assert_false(announced(&s));    /* a promise only */
        sim_run(s.sim, WR_MIN);
        /* One mapping a port: asked for by one of them only. */
        assert_int_equal(s.router.pcp_maps, rows[i].used == WR_PORTMAP_PCP ? 2 : 0);
        assert_int_equal(s.router.natpmp_maps, rows[i].used == WR_PORTMAP_NATPMP ? 2 : 0);
        if (!rows[i].pcp)
            assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_SILENT);
        struct router *router = &s.router;
        wr_portmap_destroy(s.portmap);
        s.portmap = NULL;
        assert_int_equal(in_book(&s, "11.1.0.2"), 0);
        sim_run(s.sim, WR_SEC);
        assert_int_equal(router->removed, 2);
        end(&s);
    }
}

/* A day: renewed at half, and the router is asked now and then whether it is still the same. */
static void mappings_are_kept(void **state)
{
    (void)state;
    struct story s;
    begin(&s, (struct router){.pcp = true}, NULL);
    sim_run(s.sim, 24 * WR_HOUR);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    assert_in_range(s.router.pcp_maps, 2 * 19, 2 * 25);
    assert_in_range(s.router.others, 24 * 20, 24 * 32);
    /* It stops answering: the mapping is believed until it expires, then it is gone. */
    s.router.pcp = false;
    sim_run(s.sim, 30 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    sim_run(s.sim, 10 * WR_MIN);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    assert_int_not_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_OK);
    /* And when it comes back, it is found within ten minutes or so. */
    s.router.pcp = true;
    sim_run(s.sim, WR_PORTMAP_AGAIN_MAX + WR_MIN);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    end(&s);
}

/* A router that grants moments: addresses that come and go by the second are not believed, and it is not asked all the
 * time. */
static void moments_are_no_mapping(void **state)
{
    (void)state;
    static const uint32_t lifetimes[] = {1, 5, WR_LEASE_SHORTEST - 1};
    for (size_t i = 0; i < sizeof(lifetimes) / sizeof(*lifetimes); i++) {
        struct story s;
        begin(&s, (struct router){.pcp = true, .natpmp = true, .lifetime = lifetimes[i]}, NULL);
        uint64_t changes = wr_swarm_addrbook(s.node.swarm)->generation;
        sim_run(s.sim, 10 * WR_MIN);
        assert_int_equal(in_book(&s, "11.1.0.2"), 0);
        assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_ERROR);
        assert_in_range(s.router.pcp_maps + s.router.natpmp_maps, 2, 40);
        assert_int_equal(wr_swarm_addrbook(s.node.swarm)->generation, changes);
        end(&s);
    }
}

struct ear {
    struct wr_swarm_watch watch;
    unsigned network;
};

static void on_heard(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    wr_list_entry(watch, struct ear, watch)->network += event->type == WR_SWARM_NETWORK_CHANGED;
}

/* A router that restarted is found out by its count of seconds; all is asked for again, and everybody is told. */
static void a_restart_is_noticed(void **state)
{
    (void)state;
    struct story s;
    struct ear ear = {.watch.on_event = on_heard};
    begin(&s, (struct router){.pcp = true}, NULL);
    wr_swarm_watch(s.node.swarm, &ear.watch);
    sim_run(s.sim, 2 * WR_MIN);
    uint8_t nonce[WR_PCP_NONCE];
    memcpy(nonce, s.router.nonces[1], sizeof(nonce));
    assert_memory_not_equal(s.router.nonces[0], nonce, sizeof(nonce));
    s.router.up_since = sim_now(s.sim);
    s.router.pcp_maps = 0;
    sim_run(s.sim, WR_PORTMAP_CHECK);
    assert_int_equal(s.router.pcp_maps, 2);
    assert_int_equal(ear.network, 1);
    assert_memory_equal(s.router.nonces[1], nonce, sizeof(nonce));    /* still its owner */
    /* An announcement is quicker; one of somebody else is worth nothing. */
    struct sim_host *other = sim_host_add(s.sim, &(struct sim_host_options){.lan = LAN, .ip4 = {4, {192, 168, 1, 66}}});
    struct wr_udp *liar;
    struct wr_addr any = {.ip = {.family = 4}}, group = {.ip = {4, {224, 0, 0, 1}}, .port = WR_PCP_ANNOUNCE_PORT};
    uint8_t word[24] = {2, 0x80};
    assert_int_equal(wr_env_udp(sim_host_env(other), &any, false, &router_ops, &s.router, &liar), 0);
    sim_run(s.sim, WR_MIN);
    s.router.pcp_maps = 0;
    wr_udp_send(liar, &group, 2, WR_BYTES(word, 24));
    sim_run(s.sim, 3 * WR_SEC);
    assert_int_equal(s.router.pcp_maps, 0);
    s.router.up_since = sim_now(s.sim);
    wr_udp_send(s.router.udp, &group, 2, WR_BYTES(word, 24));
    sim_run(s.sim, 2 * WR_SEC);
    assert_int_equal(s.router.pcp_maps, 2);
    assert_int_equal(ear.network, 2);
    wr_udp_close(liar);
    wr_swarm_unwatch(&ear.watch);
    end(&s);
}

/* The same over NAT-PMP: its count of seconds shows it, in an answer and in an announcement. */
static void a_restart_shows_over_natpmp(void **state)
{
    (void)state;
    struct story s;
    struct ear ear = {.watch.on_event = on_heard};
    struct wr_addr group = {.ip = {4, {224, 0, 0, 1}}, .port = WR_PCP_ANNOUNCE_PORT};
    static const uint8_t word[12] = {0, 128, [8] = 11, [9] = 1, [11] = 2};
    begin(&s, (struct router){.natpmp = true}, NULL);
    wr_swarm_watch(s.node.swarm, &ear.watch);
    sim_run(s.sim, 2 * WR_MIN);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    for (unsigned announced = 0; announced <= 1; announced++) {
        s.router.up_since = sim_now(s.sim);
        s.router.natpmp_maps = 0;
        if (announced)
            wr_udp_send(s.router.udp, &group, 2, WR_BYTES(word, sizeof(word)));
        sim_run(s.sim, announced ? 2 * WR_SEC : WR_PORTMAP_CHECK);
        assert_int_equal(s.router.natpmp_maps, 2);
        assert_int_equal(ear.network, 1 + announced);
        sim_run(s.sim, WR_MIN);
    }
    wr_swarm_unwatch(&ear.watch);
    end(&s);
}

/* Pinholes in the firewall of IPv6: asked for at the router's link-local address, for each port and our own address; made
 * again when the router restarted, by its count and by what it announces to all; shut when the node ends. */
static void pinholes_are_kept(void **state)
{
    (void)state;
    struct story s = {.router = {.pcp = true, .lifetime = 7200}};
    struct wr_ip own, gateway = {6, {0xfe, 0x80, [15] = 1}};
    struct wr_addr group = {.ip = {6, {0xff, 2, [15] = 1}}, .port = WR_PCP_ANNOUNCE_PORT};
    uint8_t word[24] = {2, 0x80};
    assert_int_equal(wr_ip_parse("2a01:4f8::10", &own), 0);
    s.sim = sim_create(&(struct sim_options){.seed = 1});
    s.router.host = sim_host_add(s.sim, &(struct sim_host_options){.name = "router", .lan = LAN, .ip6 = gateway});
    struct wr_addr at = {.ip = gateway, .port = WR_PCP_PORT};
    assert_int_equal(wr_env_udp(sim_host_env(s.router.host), &at, false, &router_ops, &s.router, &s.router.udp), 0);
    s.node.host = sim_host_add(s.sim, &(struct sim_host_options){.name = "node", .lan = LAN, .ip6 = own,
                                                                 .ip4 = {4, {192, 168, 1, 10}}});
    node_start(&s.node, s.sim, 1);
    static const char *const listen[] = {"/ip6/::/udp/4001/quic-v1", "/ip6/::/tcp/4001"};
    for (size_t i = 0; i < 2; i++) {
        struct wr_maddr ma;
        assert_int_equal(wr_maddr_parse(listen[i], &ma), 0);
        assert_int_equal(wr_swarm_listen(s.node.swarm, wr_maddr_bytes(&ma)), 0);
    }
    s.portmap = wr_portmap_create(&(struct wr_portmap_options){.swarm = s.node.swarm});
    assert_non_null(s.portmap);
    sim_run(s.sim, 2 * WR_MIN);
    assert_int_equal(s.router.pcp_maps, 2);
    assert_int_equal(in_book(&s, "2a01:4f8::10"), 2);
    for (unsigned announced = 0; announced <= 1; announced++) {
        s.router.up_since = sim_now(s.sim);
        s.router.pcp_maps = 0;
        if (announced)
            wr_udp_send(s.router.udp, &group, 2, WR_BYTES(word, sizeof(word)));
        sim_run(s.sim, announced ? 2 * WR_SEC : WR_PORTMAP_CHECK);
        assert_int_equal(s.router.pcp_maps, 2);
        sim_run(s.sim, WR_MIN);
    }
    wr_portmap_destroy(s.portmap);
    s.portmap = NULL;
    assert_int_equal(in_book(&s, "2a01:4f8::10"), 0);
    sim_run(s.sim, WR_SEC);
    assert_int_equal(s.router.removed, 2);
    end(&s);
}

/* Some count from zero in every answer, and whoever speaks for the router on the link may say every second that it
 * restarted. The mappings are asked for again; all that was learnt of the network is not given up each time. */
static void restarts_without_end(void **state)
{
    (void)state;
    for (int said = 0; said < 2; said++) {
        struct story s;
        struct ear ear = {.watch.on_event = on_heard};
        struct wr_addr group = {.ip = {4, {224, 0, 0, 1}}, .port = WR_PCP_ANNOUNCE_PORT};
        uint8_t word[24] = {2, 0x80};
        begin(&s, (struct router){.pcp = true, .lifetime = 600}, NULL);
        wr_swarm_watch(s.node.swarm, &ear.watch);
        for (wr_time at = 0; at < 3 * WR_HOUR; at += WR_SEC) {
            s.router.up_since = sim_now(s.sim);
            word[11] = (uint8_t)(at / WR_SEC % 2 * 100);
            if (said)
                wr_udp_send(s.router.udp, &group, 2, WR_BYTES(word, 24));
            sim_run(s.sim, WR_SEC);
        }
        assert_in_range(ear.network, WR_PORTMAP_RESTARTS, WR_PORTMAP_RESTARTS + 3 * WR_HOUR / WR_PORTMAP_RESTART_EVERY);
        assert_int_equal(in_book(&s, "11.1.0.2"), 2);
        /* Once it is at peace for a while, it is believed again. */
        sim_run(s.sim, WR_PORTMAP_RESTARTS * WR_PORTMAP_RESTART_EVERY);
        unsigned before = ear.network;
        s.router.up_since = sim_now(s.sim);
        sim_run(s.sim, WR_PORTMAP_CHECK + WR_MIN);
        assert_int_equal(ear.network, before + 1);
        wr_swarm_unwatch(&ear.watch);
        end(&s);
    }
}

static void outside_addresses_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *external;
        enum wr_portmap_reason reason;
        unsigned in_book;
    } rows[] = {{"11.1.0.2", WR_PORTMAP_OK, 2},        {"100.64.3.2", WR_PORTMAP_CARRIER, 0},
                {"100.127.255.1", WR_PORTMAP_CARRIER, 0}, {"192.168.0.2", WR_PORTMAP_DOUBLE, 0},
                {"10.0.0.2", WR_PORTMAP_DOUBLE, 0},    {"0.0.0.0", WR_PORTMAP_NO_NETWORK, 0},
                {"127.0.0.1", WR_PORTMAP_NO_EXTERNAL, 0}, {"224.0.0.1", WR_PORTMAP_NO_EXTERNAL, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct story s;
        struct router router = {.pcp = true};
        assert_int_equal(wr_ip_parse(rows[i].external, &router.external), 0);
        begin(&s, router, NULL);
        sim_run(s.sim, 2 * WR_SEC);
        assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), rows[i].reason);
        assert_int_equal(in_book(&s, rows[i].external), rows[i].in_book);
        end(&s);
    }
}

static void refusals_have_reasons(void **state)
{
    (void)state;
    static const struct {
        uint8_t result;
        enum wr_portmap_reason reason;
    } rows[] = {{WR_PCP_REFUSED, WR_PORTMAP_REFUSED},     {WR_PCP_NO_NETWORK, WR_PORTMAP_NO_NETWORK},
                {WR_PCP_RESOURCES, WR_PORTMAP_RESOURCES}, {WR_PCP_QUOTA, WR_PORTMAP_RESOURCES},
                {WR_PCP_ADDRESS_MISMATCH, WR_PORTMAP_NESTED}, {200, WR_PORTMAP_ERROR}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct story s;
        begin(&s, (struct router){.pcp = true, .natpmp = i == 0, .result = rows[i].result}, NULL);
        sim_run(s.sim, 5 * WR_SEC);
        assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), rows[i].reason);
        /* Where NAT-PMP is spoken too, it gets its turn. */
        assert_int_equal(in_book(&s, "11.1.0.2"), i == 0 ? 2 : 0);
        end(&s);
    }
}

/* An answer without our nonce is none of ours: somebody off the path guessed. */
static void forged_answers_are_ignored(void **state)
{
    (void)state;
    struct story s;
    begin(&s, (struct router){.pcp = true, .forge_nonce = true}, NULL);
    sim_run(s.sim, 25 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    assert_int_equal(s.router.pcp_maps, 2 * WR_LEASE_TRIES);
    assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_SILENT);
    sim_run(s.sim, 24 * WR_HOUR);    /* asked less and less often */
    assert_true(s.router.pcp_maps < 160 * 2 * WR_LEASE_TRIES);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    end(&s);
}

/* A router that grants all the time, unasked and each time something else: our addresses do not change with every packet
 * of its. Over PCP it may say so when its outside address has changed. */
static void grants_without_end(void **state)
{
    (void)state;
    for (int pcp = 0; pcp < 2; pcp++) {
        struct story s;
        begin(&s, (struct router){.pcp = pcp, .natpmp = !pcp}, NULL);
        sim_run(s.sim, 20 * WR_SEC);
        assert_int_equal(in_book(&s, "11.1.0.2"), 2);
        uint64_t changes = wr_swarm_addrbook(s.node.swarm)->generation;
        uint8_t map[60] = {2, 0x81, 0, 0, 0, 0, 28, 32};
        uint8_t natpmp[16] = {0, 0x81, 0, 0, 0, 0, 0, 20, 4001 >> 8, 4001 & 255, 0, 0, 0, 0, 28, 32};
        memcpy(map + 24, s.router.nonces[1], WR_PCP_NONCE);
        map[36] = 17, map[40] = 4001 >> 8, map[41] = 4001 & 255, map[54] = map[55] = 0xff;
        for (unsigned i = 0; i < 10000; i++) {
            map[11] = (uint8_t)(20 + i / 1000);    /* its count of seconds goes on */
            map[42] = natpmp[10] = (uint8_t)(20 + i % 100);
            memcpy(map + 56, (uint8_t[]){11, 1, 0, (uint8_t)(3 + i % 100)}, 4);
            wr_udp_send(s.router.udp, &s.router.asker, 0, pcp ? WR_BYTES(map, 60) : WR_BYTES(natpmp, 16));
            sim_run(s.sim, WR_MSEC);
        }
        assert_in_range(wr_swarm_addrbook(s.node.swarm)->generation - changes, 1, 4);
        end(&s);
    }
}

static unsigned upnp_runs, upnp_removed, upnp_added;

static void fake_upnp(struct wr_upnp_task *task)
{
    upnp_runs++;
    task->igd.known = true;
    task->external = (struct wr_ip){4, {11, 1, 0, 2}};
    for (size_t i = 0; i < task->count; i++) {
        upnp_removed += task->ports[i].remove;
        upnp_added += !task->ports[i].remove;
        task->ports[i].err = 0;
    }
}

static void fake_upnp_is_not_there(struct wr_upnp_task *task)
{
    upnp_runs++;
    task->err = WR_ENOTFOUND;
}

static void upnp_comes_last(void **state)
{
    (void)state;
    struct story s;
    upnp_runs = upnp_removed = 0;
    begin(&s, (struct router){0}, fake_upnp);
    sim_run(s.sim, 2 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    assert_int_equal(reason_of(&s, WR_PORTMAP_UPNP), WR_PORTMAP_OK);
    sim_run(s.sim, WR_HOUR);    /* it tells of no restart, so it is asked again often */
    assert_in_range(upnp_runs, 10, 30);
    end(&s);
    assert_int_equal(upnp_removed, 2);
    upnp_runs = 0;
    begin(&s, (struct router){.pcp = true}, fake_upnp);    /* looked for, and not used */
    sim_run(s.sim, WR_HOUR);
    assert_int_equal(upnp_runs, 1);
    assert_int_equal(reason_of(&s, WR_PORTMAP_UPNP), WR_PORTMAP_UNUSED);
    end(&s);
    upnp_runs = 0;
    begin(&s, (struct router){0}, fake_upnp_is_not_there);
    sim_run(s.sim, WR_HOUR);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    assert_in_range(upnp_runs, 6, 14);    /* less and less often */
    assert_int_equal(reason_of(&s, WR_PORTMAP_UPNP), WR_PORTMAP_SILENT);
    /* A task that is under way when the node ends has to do no harm. */
    sim_cut(s.node.host);
    end(&s);
}

/* Whenever the node ends, also while a task is under way: what was mapped is removed. */
static void nothing_stays_mapped_over_upnp(void **state)
{
    (void)state;
    unsigned mapped = 0;
    for (wr_time at = 0; at <= 2 * WR_SEC; at += 20 * WR_MSEC) {
        struct story s;
        upnp_added = upnp_removed = 0;
        begin(&s, (struct router){0}, fake_upnp);
        sim_run(s.sim, at);
        end(&s);
        assert_int_equal(upnp_removed, upnp_added);
        mapped += upnp_added > 0;
    }
    assert_true(mapped > 0);
}

/* Another network: nothing of the old one stays in the address book. */
static void another_network(void **state)
{
    (void)state;
    struct story s;
    begin(&s, (struct router){.pcp = true}, NULL);
    sim_run(s.sim, 2 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    sim_move(s.node.host, (struct wr_ip){4, {10, 5, 0, 9}}, (struct wr_ip){0}, LAN + 1);
    sim_run(s.sim, WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    sim_move(s.node.host, (struct wr_ip){4, {192, 168, 1, 10}}, (struct wr_ip){0}, LAN);
    sim_run(s.sim, 2 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    sim_set_routes(s.node.host, false);
    sim_run(s.sim, WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 0);
    struct wr_portmap_finding all[WR_PORTMAP_FINDINGS_MAX];
    assert_int_equal(wr_portmap_findings(s.portmap, all, WR_PORTMAP_FINDINGS_MAX), 0);
    sim_set_routes(s.node.host, true);
    sim_run(s.sim, 2 * WR_SEC);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    end(&s);
}

/* With a public address of our own there is nothing to map, and nobody is asked. */
static void no_nat(void **state)
{
    (void)state;
    struct story s;
    begin(&s, (struct router){.pcp = true, .natpmp = true}, fake_upnp);
    sim_run(s.sim, 2 * WR_SEC);
    sim_move(s.node.host, (struct wr_ip){4, {11, 9, 0, 9}}, (struct wr_ip){0}, 0);
    sim_run(s.sim, WR_SEC);
    struct wr_portmap_finding all[WR_PORTMAP_FINDINGS_MAX];
    assert_int_equal(wr_portmap_findings(s.portmap, all, WR_PORTMAP_FINDINGS_MAX), 0);
    end(&s);
}

/* Each allocation fails in turn. */
static void out_of_memory(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        struct story s;
        begin(&s, (struct router){.pcp = true}, fake_upnp);
        sim_alloc_fail(skip, 1);
        sim_cut(s.node.host);
        sim_run(s.sim, 3 * WR_SEC);
        uint64_t made = sim_alloc_count();
        sim_alloc_fail(0, 0);
        sim_run(s.sim, 5 * WR_MIN);
        assert_int_equal(in_book(&s, "11.1.0.2"), 2);
        end(&s);
        if (skip >= made)
            break;
    }
}

/* A router that speaks nothing is asked again and again; in between, and while it is asked, it stays one that speaks
 * nothing. Once it speaks, its word counts. */
static void what_it_said_counts_until_it_says_more(void **state)
{
    (void)state;
    struct story s;
    begin(&s, (struct router){.pcp = false}, NULL);
    assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_ASKING);
    sim_run(s.sim, WR_MIN / 2);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_SILENT);
        assert_int_equal(reason_of(&s, WR_PORTMAP_NATPMP), WR_PORTMAP_SILENT);
        sim_run(s.sim, WR_SEC);
    }
    s.router.pcp = true;
    sim_run(s.sim, WR_PORTMAP_AGAIN_MAX);
    assert_int_equal(reason_of(&s, WR_PORTMAP_PCP), WR_PORTMAP_OK);
    assert_int_equal(in_book(&s, "11.1.0.2"), 2);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_protocol_is_used),    cmocka_unit_test(mappings_are_kept),
        cmocka_unit_test(a_restart_is_noticed),         cmocka_unit_test(outside_addresses_are_judged),
        cmocka_unit_test(restarts_without_end),         cmocka_unit_test(moments_are_no_mapping),
        cmocka_unit_test(refusals_have_reasons),        cmocka_unit_test(forged_answers_are_ignored),
        cmocka_unit_test(grants_without_end),
        cmocka_unit_test(upnp_comes_last),              cmocka_unit_test(another_network),
        cmocka_unit_test(what_it_said_counts_until_it_says_more),
        cmocka_unit_test(nothing_stays_mapped_over_upnp),
        cmocka_unit_test(a_restart_shows_over_natpmp),  cmocka_unit_test(pinholes_are_kept),
        cmocka_unit_test(no_nat),                       cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
