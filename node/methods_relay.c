/* Relays as clients see them: whom we hold places at, who uses ours and what it costs. */
#include "node/methods_impl.h"

#include "node/prom.h"
#include "node/relaying.h"

#include <string.h>

static const char *const mode_names[] = {"auto", "on", "off"};

#define LISTED_MAX 1024    /* guests and circuits shown; ours: the largest ceiling of guests */

/* ---- status */

static uint64_t ms(wr_time t)
{
    return t > 0 ? (uint64_t)(t / WR_MSEC) : 0;
}

static void pack_limit(struct wr_pack *p, const struct wr_relay_limit *limit)
{
    wr_pack_u64(p, "limit_seconds", limit->duration);
    wr_pack_u64(p, "limit_bytes", limit->data);
}

static void pack_hold(const struct wr_methods *m, struct wr_pack *p, const struct wr_relay_hold *h)
{
    wr_time now = wr_env_now(m->env);
    wr_time rtt = wr_relay_auto_rtt(m->o.relaying->ours, &h->relay);
    wr_pack_map(p, NULL);
    wr_methods_pack_id(p, "peer", &h->relay);
    wr_pack_text(p, "state", h->state == WR_RELAY_HELD ? "held" : "asking");
    wr_pack_bool(p, "owner", wr_relay_auto_owned(m->o.relaying->ours, &h->relay));
    if (rtt)
        wr_pack_double(p, "rtt_ms", wr_methods_ms(rtt));
    if (h->state == WR_RELAY_HELD) {
        wr_pack_u64(p, "since_ms", ms(now - h->since));
        wr_pack_u64(p, "expires_ms", ms(h->expires_at - now));
        wr_pack_u64(p, "refreshed", h->refreshed);
        wr_pack_bool(p, "voucher", h->vouched);
        wr_pack_bool(p, "limited", h->limited);
        pack_limit(p, &h->limit);
        wr_pack_u64(p, "circuits", h->circuits);
        wr_pack_bool(p, "doubted", h->doubted);
        if (h->proven_at)
            wr_pack_u64(p, "proven_ms", ms(now - h->proven_at));
    }
    wr_methods_pack_maddrs(p, "addrs", h->addrs, h->addr_count);
    wr_pack_end(p);
}

static const char *phase_name(const struct wr_methods *m)
{
    static const char *const names[] = {"off", "waiting", "searching", "content"};
    return names[wr_relay_auto_phase(m->o.relaying->ours)];
}

static uint64_t count_held(const struct wr_methods *m)
{
    const struct wr_list *holds = wr_relay_client_holds(wr_relay_auto_client(m->o.relaying->ours));
    uint64_t held = 0;
    wr_list_each(node, holds) held += wr_list_entry(node, struct wr_relay_hold, node)->state == WR_RELAY_HELD;
    return held;
}

void wr_methods_pack_relays(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_relay_server_stats s;
    if (!m->o.relaying)
        return;
    wr_relay_server_stats(m->o.relaying->lent, &s);
    wr_pack_map(p, "relays");
    wr_pack_text(p, "search", phase_name(m));
    wr_pack_u64(p, "held", count_held(m));
    wr_pack_bool(p, "lent", wr_relay_server_offered(m->o.relaying->lent));
    wr_pack_u64(p, "guests", s.guests);
    wr_pack_u64(p, "circuits", s.circuits);
    wr_pack_end(p);
}

static void pack_ours(const struct wr_methods *m, struct wr_pack *p)
{
    const struct wr_relaying *r = m->o.relaying;
    struct wr_relay_client *client = wr_relay_auto_client(r->ours);
    struct wr_relay_client_stats s;
    struct wr_maddr owned[WR_RELAY_AUTO_OWNED_MAX];
    wr_relay_client_stats(client, &s);
    wr_pack_text(p, "search", phase_name(m));
    const struct wr_list *holds = wr_relay_client_holds(client);
    wr_pack_array(p, "relays");
    wr_list_each(node, holds) pack_hold(m, p, wr_list_entry(node, struct wr_relay_hold, node));
    wr_pack_end(p);
    size_t count = wr_relay_auto_owned_list(r->ours, owned, WR_RELAY_AUTO_OWNED_MAX);
    wr_methods_pack_maddrs(p, "use", owned, count);
    if (s.last_status) {
        wr_pack_map(p, "last_refusal");
        wr_methods_pack_id(p, "peer", &s.last_relay);
        wr_pack_u64(p, "status", s.last_status);
        wr_pack_text(p, "text", wr_err_text(wr_relay_msg_err(s.last_status)));
        wr_pack_end(p);
    }
}

static void pack_guests(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_relay_guest *guests = wr_alloc_array(LISTED_MAX, sizeof(*guests));
    size_t count = guests ? wr_relay_server_guests(m->o.relaying->lent, guests, LISTED_MAX) : 0;
    wr_time now = wr_env_now(m->env);
    wr_pack_array(p, "guests");
    for (size_t i = 0; i < count; i++) {
        wr_pack_map(p, NULL);
        wr_methods_pack_id(p, "peer", &guests[i].peer);
        wr_methods_pack_ip(p, "ip", &guests[i].ip);
        wr_pack_u64(p, "since_ms", ms(now - guests[i].since));
        wr_pack_u64(p, "expires_ms", ms(guests[i].expires_at - now));
        wr_pack_u64(p, "circuits", guests[i].circuits);
        wr_pack_u64(p, "bytes", guests[i].bytes);
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_free(guests);
}

static void pack_circuits(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_relay_through *through = wr_alloc_array(LISTED_MAX, sizeof(*through));
    size_t count = through ? wr_relay_server_circuits(m->o.relaying->lent, through, LISTED_MAX) : 0;
    wr_time now = wr_env_now(m->env);
    wr_pack_array(p, "circuits");
    for (size_t i = 0; i < count; i++) {
        wr_pack_map(p, NULL);
        wr_methods_pack_id(p, "from", &through[i].caller);
        wr_methods_pack_id(p, "to", &through[i].guest);
        wr_pack_u64(p, "age_ms", ms(now - through[i].since));
        wr_pack_u64(p, "bytes_from", through[i].bytes[0]);
        wr_pack_u64(p, "bytes_to", through[i].bytes[1]);
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_free(through);
}

static void pack_lent(const struct wr_methods *m, struct wr_pack *p)
{
    struct wr_relay_server *lent = m->o.relaying->lent;
    struct wr_relay_server_stats s;
    wr_relay_server_stats(lent, &s);
    wr_pack_map(p, "lent");
    wr_pack_text(p, "mode", mode_names[wr_relay_server_mode(lent)]);
    wr_pack_bool(p, "offered", wr_relay_server_offered(lent));
    wr_pack_u64(p, "rate", wr_relay_server_rate_total(lent));
    wr_pack_u64(p, "rate_each", wr_relay_server_rate_each(lent));
    wr_pack_u64(p, "granted", s.reserved);
    wr_pack_u64(p, "connected", s.connected);
    wr_pack_u64(p, "refused",
                s.refused_full + s.refused_net + s.refused_peer + s.refused_rule + s.refused_absent +
                    s.refused_off);
    wr_pack_u64(p, "bytes", s.bytes);
    wr_pack_u64(p, "buffered", s.buffered);
    wr_pack_u64(p, "guests_now", s.guests);
    wr_pack_u64(p, "circuits_now", s.circuits);
    pack_guests(m, p);
    pack_circuits(m, p);
    wr_pack_end(p);
}

static void on_status(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_pack *p = wr_call_result(call);
    (void)params;
    pack_ours(m, p);
    pack_lent(m, p);
    wr_call_done(call);
}

/* ---- changes */

static void set_mode(struct wr_methods *m, struct wr_call *call, enum wr_relay_mode mode)
{
    struct wr_relay_server *lent = m->o.relaying->lent;
    wr_relay_server_set_mode(lent, mode);
    struct wr_pack *p = wr_call_result(call);
    wr_pack_text(p, "mode", mode_names[mode]);
    wr_pack_bool(p, "offered", wr_relay_server_offered(lent));
    wr_call_done(call);
}

static void on_auto(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)params;
    set_mode(arg, call, WR_RELAY_AUTO);
}

static void on_on(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)params;
    set_mode(arg, call, WR_RELAY_ON);
}

static void on_off(void *arg, struct wr_call *call, struct wr_params *params)
{
    (void)params;
    set_mode(arg, call, WR_RELAY_OFF);
}

static void on_use(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char text[WR_MADDR_TEXT];
    struct wr_maddr addr;
    struct wr_peerid relay;
    (void)wr_params_text(params, "addr", text, sizeof(text));
    bool remove = wr_params_bool(params, "remove", false);
    if (wr_call_refuse(call, params))
        return;
    bool bare = wr_peerid_parse(text, &relay) == 0;
    if (!bare && (wr_maddr_parse(text, &addr) != 0 || !wr_maddr_peer(wr_maddr_bytes(&addr), &relay))) {
        wr_call_fail(call, WR_EINVAL, "\"%s\" is no address of a relay: it ends in /p2p/PEER", text);
        return;
    }
    if (bare) {    /* wherever it is: it is looked up */
        addr.len = 0;
        (void)wr_maddr_append_peer(&addr, &relay);
    }
    int err = remove ? wr_relay_auto_unuse(m->o.relaying->ours, &relay)
                     : wr_relay_auto_use(m->o.relaying->ours, wr_maddr_bytes(&addr));
    if (err == WR_ENOTFOUND) {
        wr_call_fail(call, err, "that relay is not in use; `warren relay status` lists them");
        return;
    }
    if (err == WR_ELIMIT) {
        wr_call_fail(call, err, "at most %d relays are used by name", WR_RELAY_AUTO_OWNED_MAX);
        return;
    }
    if (err && err != WR_EEXIST) {
        wr_call_fail(call, err, NULL);
        return;
    }
    struct wr_pack *p = wr_call_result(call);
    wr_methods_pack_id(p, "peer", &relay);
    wr_pack_bool(p, "removed", remove);
    wr_call_done(call);
}

/* ---- events and metrics */

void wr_methods_relay_held(struct wr_methods *m, const struct wr_peerid *relay, int err, unsigned status)
{
    struct wr_pack *p = wr_control_event(m->o.control, err == 0 ? "relay-reserved" : "relay-lost");
    if (!p)
        return;
    wr_methods_pack_id(p, "peer", relay);
    if (err) {
        wr_methods_pack_error(p, err);
        wr_pack_u64(p, "status", status);
    }
    wr_control_event_send(m->o.control);
}

void wr_methods_relay_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    const struct wr_relaying *r = m->o.relaying;
    struct wr_relay_client *client = wr_relay_auto_client(r->ours);
    struct wr_relay_client_stats c;
    struct wr_relay_server_stats s;
    wr_relay_client_stats(client, &c);
    wr_relay_server_stats(r->lent, &s);
    const struct wr_prom_series places[] = {
        {"made", c.reserved}, {"refreshed", c.refreshed}, {"refused", c.refused}, {"lost", c.lost}, {NULL, 0}};
    const struct wr_prom_series circuits[] = {{"dialled", c.dialled},
                                      {"dial_failed", c.dial_failed},
                                      {"accepted", c.accepted},
                                      {"rejected", c.rejected}, {NULL, 0}};
    const struct wr_prom_series lent[] = {{"reserved", s.reserved},   {"refreshed", s.refreshed}, {"connected", s.connected},
                                  {"checked", s.checked},     {"full", s.refused_full},   {"network", s.refused_net}, {"peer", s.refused_peer},
                                  {"rule", s.refused_rule},   {"absent", s.refused_absent}, {"off", s.refused_off},
                                  {"failed", s.failed},       {"malformed", s.malformed}, {"cut_time", s.cut_time},
                                  {"cut_bytes", s.cut_data},  {"cut_off", s.cut_off}, {NULL, 0}};
    wr_prom_one(out, "relays_held", "gauge", "Relays that hold a place for this node.",
                count_held(m));
    wr_prom_family(out, "relay_places_total", "counter", "Places at relays.", "what", places);
    wr_prom_family(out, "relay_circuits_total", "counter", "Connections through relays of others.", "what", circuits);
    wr_prom_one(out, "relay_lent", "gauge", "1 while this node relays for others.", wr_relay_server_offered(r->lent));
    wr_prom_one(out, "relay_lent_guests", "gauge", "Peers that hold a place here.", s.guests);
    wr_prom_one(out, "relay_lent_circuits", "gauge", "Circuits through this node.", s.circuits);
    wr_prom_one(out, "relay_lent_buffered_bytes", "gauge", "Bytes that wait for slow receivers.", s.buffered);
    wr_prom_family(out, "relay_lent_total", "counter", "What others asked of this relay, and what became of it.", "what",
                   lent);
    wr_prom_one(out, "relay_lent_bytes_total", "counter", "Bytes passed on for others.", s.bytes);
}

int wr_methods_relay(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {
        {"relay.status", on_status}, {"relay.auto", on_auto}, {"relay.on", on_on},
        {"relay.off", on_off},       {"relay.use", on_use},   {NULL, NULL},
    };
    return m->o.relaying ? wr_methods_register(m, list) : 0;
}
