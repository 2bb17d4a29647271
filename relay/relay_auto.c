#include "relay/relay_auto.h"

#include "relay/relay_auto_impl.h"

#include <string.h>

#define TAG         "relay"
#define WORTH       100           /* of the connection to a relay of ours; it is protected anyway */
#define NET_BITS_4  16            /* one provider's; nat sheet 6 */
#define NET_BITS_6  32
#define RTT_UNKNOWN WR_SEC        /* ranks behind all that were measured */
#define RTT_AVOIDED WR_MIN        /* ... and these, which only need makes us ask, behind all others */

static void look(struct wr_relay_auto *ra);

static void look_task(struct wr_task *task)
{
    look(wr_list_entry(task, struct wr_relay_auto, task));
}

static void look_soon(struct wr_relay_auto *ra)
{
    wr_env_defer(ra->env, &ra->task, look_task);
}

static void on_timer(struct wr_timer *timer)
{
    look(wr_list_entry(timer, struct wr_relay_auto, timer));
}

/* ---- wanted? -------------------------------------------------------------------------------------------------- */

static bool listens_in_public(const struct wr_relay_auto *ra)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(ra->swarm);
    for (size_t i = 0; i < book->count; i++) {
        struct wr_addr at;
        if (book->of[i].source == WR_ADDR_LISTEN && wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) &&
            wr_policy_is_public(wr_swarm_policy(ra->swarm), &at.ip))
            return true;
    }
    return false;
}

/* Has the router opened a port for us? */
static bool mapped(const struct wr_relay_auto *ra)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(ra->swarm);
    for (size_t i = 0; i < book->count; i++)
        if (book->of[i].source == WR_ADDR_MAPPED && book->of[i].verdict != WR_ADDR_UNREACHABLE)
            return true;
    return false;
}

static void look_for_nat(struct wr_relay_auto *ra)
{
    if (!wr_nat_translates(wr_swarm_nat(ra->swarm)))
        ra->natted_since = 0;
    else if (!ra->natted_since)
        ra->natted_since = wr_env_now(ra->env);
}

static bool wanted(const struct wr_relay_auto *ra)
{
    if (wr_swarm_reachability(ra->swarm, 4) == WR_REACH_PRIVATE)
        return true;    /* IPv6 alone is not enough: many have none */
    if (wr_swarm_reachability(ra->swarm, 0) != WR_REACH_UNKNOWN)
        return wr_swarm_reachability(ra->swarm, 0) == WR_REACH_PRIVATE;
    /* On a new network nothing is known for a while: who needed relays a moment ago keeps them until it is. */
    if (ra->was_wanted)
        return true;
    wr_time now = wr_env_now(ra->env);
    bool patient = now - ra->unknown_since < WR_RELAY_AUTO_PATIENCE;
    if (ra->natted_since && now - ra->natted_since >= WR_RELAY_AUTO_NATTED && !wr_swarm_nat(ra->swarm)->strangers &&
        !mapped(ra))
        patient = false;
    return !patient && !listens_in_public(ra);
}

/* ---- whom to leave alone ---------------------------------------------------------------------------------------- */

static struct avoid *avoid_of(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    return wr_map_get(&ra->avoid, wr_peerid_bytes(relay));
}

static bool avoided(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    const struct avoid *a = avoid_of(ra, relay);
    return a && a->until > wr_env_now(ra->env);
}

static void forget(struct wr_relay_auto *ra, struct avoid *a)
{
    wr_map_del(&ra->avoid, wr_peerid_bytes(&a->relay));
    wr_list_remove(&a->node);
    wr_free(a);
}

static void avoid(struct wr_relay_auto *ra, const struct wr_peerid *relay, wr_time time, bool lost)
{
    struct avoid *a = avoid_of(ra, relay);
    if (!a) {
        if (ra->avoid.count == WR_RELAY_AUTO_AVOID_MAX)
            forget(ra, wr_list_entry(ra->avoid_order.next, struct avoid, node));
        a = wr_alloc(sizeof(*a));
        if (a)
            a->relay = *relay;
        if (!a || wr_map_put(&ra->avoid, wr_peerid_bytes(&a->relay), a) != 0) {
            wr_free(a);
            return;    /* out of memory: it is asked once too often */
        }
        wr_list_init(&a->node);
    }
    wr_list_remove(&a->node);
    wr_list_append(&ra->avoid_order, &a->node);
    for (unsigned i = 0; lost && i < a->losses && time < WR_RELAY_AUTO_REFUSED; i++)
        time *= 2;
    a->losses += lost;
    a->at = wr_env_now(ra->env);
    a->unreached = false;
    a->refused = time == WR_RELAY_AUTO_REFUSED && !lost;
    a->until = wr_env_now(ra->env) + (time < WR_RELAY_AUTO_REFUSED ? time : WR_RELAY_AUTO_REFUSED);
}

/* It grants places and brought nobody, or worse: that we doubt, and may be wrong. Better than no relay it is all the same. */
static void avoid_doubted(struct wr_relay_auto *ra, const struct wr_peerid *relay, bool worse)
{
    avoid(ra, relay, worse ? WR_RELAY_AUTO_REFUSED : WR_RELAY_AUTO_SILENT, false);
    struct avoid *a = avoid_of(ra, relay);
    if (a)
        a->refused = false;
}

static void avoid_unreached(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    avoid(ra, relay, WR_RELAY_AUTO_SILENT, false);
    struct avoid *a = avoid_of(ra, relay);
    if (!a)
        return;
    a->unreached = true;
    a->vain++;
}

/* ---- choosing --------------------------------------------------------------------------------------------------- */

bool wr_relay_auto_owned(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    for (size_t i = 0; i < WR_RELAY_AUTO_OWNED_MAX; i++)
        if (ra->owned[i] && wr_peerid_equal(&ra->owned[i]->relay, relay))
            return true;
    return false;
}

wr_time wr_relay_auto_rtt(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    const struct probe *p = wr_relay_auto_probe(ra, relay);
    const struct wr_conn *c = wr_swarm_conn(ra->swarm, relay);
    if (p && p->rtt)
        return p->rtt;
    return c && !c->circuit ? wr_conn_rtt(c) : 0;
}

static wr_time distance(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    wr_time rtt = wr_relay_auto_rtt(ra, relay);
    return (rtt ? rtt : RTT_UNKNOWN) + (avoided(ra, relay) ? RTT_AVOIDED : 0);
}

/* Is one of ours, held or asked, on this network? Apart from `except`. */
static bool net_taken(const struct wr_relay_auto *ra, const struct wr_ip *ip, const struct wr_peerid *except)
{
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    for (const struct wr_list *it = holds->next; it != holds; it = it->next) {
        const struct wr_relay_hold *h =
            (const struct wr_relay_hold *)((uintptr_t)it - offsetof(struct wr_relay_hold, node));
        const struct wr_conn *c = wr_swarm_conn(ra->swarm, &h->relay);
        if (c && !h->ending && !h->doubted && !(except && wr_peerid_equal(except, &h->relay)) &&
            wr_ip_same_prefix(&c->remote.ip, ip, ip->family == 4 ? NET_BITS_4 : NET_BITS_6))
            return true;
    }
    return false;
}

/* We have no place at all, and none is asked for. */
static bool needy(const struct wr_relay_auto *ra)
{
    return wr_list_empty(wr_relay_client_holds(ra->client));
}

/* Who was lost time and again, or is doubted, is better than nobody, a moment after the last time. */
static bool out_of_question(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    const struct avoid *a = avoid_of(ra, relay);
    if (!a || !avoided(ra, relay))
        return false;
    return a->refused || !needy(ra) || wr_env_now(ra->env) - a->at < WR_RELAY_AUTO_HURRY;
}

struct choice {
    const struct wr_relay_auto *ra;
    const struct wr_peerid *except;
    struct wr_peerid best;
    wr_time distance;
};

static void weigh(struct wr_conn *c, void *arg)
{
    struct choice *choice = arg;
    const struct wr_relay_auto *ra = choice->ra;
    if (c->circuit || c->closing || wr_relay_client_held(ra->client, &c->peer) || out_of_question(ra, &c->peer) ||
        wr_peerstore_speaks(wr_swarm_peerstore(ra->swarm), &c->peer, WR_RELAY_HOP_NAME) != 1 ||
        net_taken(ra, &c->remote.ip, choice->except))
        return;
    wr_time d = distance(ra, &c->peer);
    if (choice->best.len && d >= choice->distance)
        return;
    choice->best = c->peer;
    choice->distance = d;
}

/* The nearest connected relay that may be asked; len 0: none. */
static struct choice choose(struct wr_relay_auto *ra, const struct wr_peerid *except)
{
    struct choice choice = {.ra = ra, .except = except};
    wr_swarm_each(ra->swarm, weigh, &choice);
    return choice;
}

/* Of our own choice: how many there are, asked ones included and ending and doubted ones not; the farthest that is held. */
static size_t chosen(const struct wr_relay_auto *ra, const struct wr_relay_hold **farthest, bool *asking)
{
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    size_t n = 0;
    *farthest = NULL;
    *asking = false;
    for (const struct wr_list *it = holds->next; it != holds; it = it->next) {
        const struct wr_relay_hold *h =
            (const struct wr_relay_hold *)((uintptr_t)it - offsetof(struct wr_relay_hold, node));
        if (wr_relay_auto_owned(ra, &h->relay) || h->ending || h->doubted)
            continue;
        n++;
        *asking |= h->state == WR_RELAY_ASKING;
        if (h->state == WR_RELAY_HELD &&
            (!*farthest || distance(ra, &h->relay) > distance(ra, &(*farthest)->relay)))
            *farthest = h;
    }
    return n;
}

/* ---- looking farther ------------------------------------------------------------------------------------------ */

static void on_knock(void *arg, int err, struct wr_conn *conn)
{
    struct knock *k = arg;
    (void)conn;
    k->connect = NULL;
    if (err != 0)
        avoid_unreached(k->of, &k->relay);
    look_soon(k->of);
}

static bool is_knocked(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    for (size_t i = 0; i < WR_RELAY_AUTO_KNOCKS; i++)
        if (ra->knocks[i].connect && wr_peerid_equal(&ra->knocks[i].relay, relay))
            return true;
    return false;
}

/* Did a dial of ours get through to it, not over another relay? */
static bool was_reached(const struct wr_peer *peer)
{
    for (size_t i = 0; i < peer->addr_count; i++)
        if (peer->addrs[i].dialled_ok_at && !wr_maddr_is_circuit(wr_peer_addr_bytes(&peer->addrs[i])))
            return true;
    return false;
}

/* It was called in vain, and may be there again. In need it is called sooner: after WR_RELAY_AUTO_HURRY, and twice as long
 * each time, so that what is gone is not called on and on. */
static bool unreached(const struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    const struct avoid *a = avoid_of(ra, relay);
    if (!a || !a->unreached || !avoided(ra, relay))
        return false;
    wr_time wait = WR_RELAY_AUTO_HURRY;
    for (unsigned i = 1; i < a->vain && wait < WR_RELAY_AUTO_SILENT; i++)
        wait *= 2;
    return !needy(ra) || wr_env_now(ra->env) - a->at < wait;
}

/* Somebody known to relay with whom we are not connected: of those that we have reached, or else of the others, who was
 * met last. Whoever came over a relay may say what he likes of himself, and a crowd of such would come first. */
static const struct wr_peer *whom_to_call(const struct wr_relay_auto *ra)
{
    struct wr_peerstore *ps = wr_swarm_peerstore(ra->swarm);
    const struct wr_peer *other = NULL;
    for (struct wr_list *it = ps->recent.prev; it != &ps->recent; it = it->prev) {
        const struct wr_peer *peer = wr_list_entry(it, struct wr_peer, node);
        if (peer->connections || !peer->addr_count || out_of_question(ra, &peer->id) || unreached(ra, &peer->id) ||
            is_knocked(ra, &peer->id) || wr_peerstore_speaks(ps, &peer->id, WR_RELAY_HOP_NAME) != 1)
            continue;
        if (was_reached(peer))
            return peer;
        other = other ? other : peer;
    }
    return other;
}

/* Calls known relays, at most so many at once. True: some are being called. */
static bool knock(struct wr_relay_auto *ra, size_t most)
{
    bool any = false;
    for (size_t i = 0; i < WR_RELAY_AUTO_KNOCKS; i++) {
        struct knock *k = &ra->knocks[i];
        const struct wr_peer *peer = !k->connect && i < most ? whom_to_call(ra) : NULL;
        if (peer) {
            k->of = ra;
            k->relay = peer->id;
            if (wr_swarm_connect(ra->swarm, &k->relay, NULL, 0, WR_ORIGIN_STRANGER, WR_CONNECT_DIRECT, on_knock, k,
                                 &k->connect) != 0)
                avoid_unreached(ra, &k->relay);
        }
        any |= k->connect != NULL;
    }
    return any;
}

/* any: one is held or asked. Without any nobody reaches us: there the next search comes soon. */
static void search(struct wr_relay_auto *ra, bool any)
{
    wr_time now = wr_env_now(ra->env), wait = any ? WR_RELAY_AUTO_DISCOVER : ra->search_wait;
    wait = wait ? wait : WR_RELAY_AUTO_HURRY;
    bool knocking = knock(ra, any ? 1 : WR_RELAY_AUTO_KNOCKS);
    if ((knocking && any) || !ra->options.discover || (ra->searched_at && now - ra->searched_at < wait))
        return;
    if (!any && !ra->search_wait)
        ra->search_wait = WR_RELAY_AUTO_HURRY;
    else if (!any)
        ra->search_wait = 2 * wait < WR_RELAY_AUTO_DISCOVER ? 2 * wait : WR_RELAY_AUTO_DISCOVER;
    ra->searched_at = now;
    ra->options.discover(ra->options.arg);
}

static void on_owned(void *arg, int err, struct wr_conn *conn)
{
    struct owned *o = arg;
    (void)conn;
    o->connect = NULL;
    if (err != 0)
        avoid(o->of, &o->relay, WR_RELAY_AUTO_LOST, true);
    look_soon(o->of);
}

/* The owner's: a place at each, always. True: all are held. */
static bool hold_owned(struct wr_relay_auto *ra)
{
    bool all = true;
    for (size_t i = 0; i < WR_RELAY_AUTO_OWNED_MAX; i++) {
        struct owned *o = ra->owned[i];
        if (!o || wr_relay_client_held(ra->client, &o->relay))
            continue;
        all = false;
        if (o->connect || avoided(ra, &o->relay) || wr_relay_client_hold(ra->client, &o->relay) != WR_ECLOSED)
            continue;
        if (wr_swarm_connect(ra->swarm, &o->relay, &o->addr, 1, WR_ORIGIN_OWNER,
                             WR_CONNECT_DIRECT | WR_CONNECT_ROUTE, on_owned, o, &o->connect) != 0)
            avoid(ra, &o->relay, WR_RELAY_AUTO_LOST, true);
    }
    return all;
}

/* ---- the look around ---------------------------------------------------------------------------------------------- */

static void let_go(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    struct wr_peerid id = *relay;
    wr_relay_auto_probe_stop(ra, &id);
    wr_swarm_untag(ra->swarm, &id, TAG);
    wr_relay_client_drop(ra->client, &id);
}

static void let_all_go(struct wr_relay_auto *ra)
{
    struct wr_list *it, *next;
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    for (it = holds->next; it != holds; it = next) {
        const struct wr_relay_hold *h = wr_list_entry(it, struct wr_relay_hold, node);
        next = it->next;
        if (!wr_relay_auto_owned(ra, &h->relay))
            let_go(ra, &h->relay);
    }
}

/* Was another one seen to be good since this one first failed? *meanwhile: and this one failed once more in a time when that
 * one was good. */
static bool others_good(const struct wr_relay_auto *ra, const struct wr_relay_hold *of, bool *meanwhile)
{
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    bool good = false;
    *meanwhile = false;
    for (const struct wr_list *it = holds->next; it != holds; it = it->next) {
        const struct wr_relay_hold *h =
            (const struct wr_relay_hold *)((uintptr_t)it - offsetof(struct wr_relay_hold, node));
        if (h->state != WR_RELAY_HELD || h->doubted || h->ending || h->proven_at < of->missed_at)
            continue;
        good = true;
        *meanwhile |= h->good_since <= of->vain_at;
    }
    return good;
}

static bool chosen_doubted(const struct wr_relay_auto *ra, const struct wr_relay_hold *h)
{
    return h->doubted && !wr_relay_auto_owned(ra, &h->relay);
}

/* Places in doubt go when they fail while another one is good. Until then the trouble may be our own, and they are better
 * than none: the owner's stay, and the newest of our choice. Once another one is good again they are asked once more. */
static void judge_doubted(struct wr_relay_auto *ra)
{
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    struct wr_list *it, *next;
    size_t doubted = 0;
    for (it = holds->next; it != holds; it = it->next)
        doubted += chosen_doubted(ra, wr_list_entry(it, struct wr_relay_hold, node));
    for (it = holds->next; it != holds; it = next) {
        const struct wr_relay_hold *h = wr_list_entry(it, struct wr_relay_hold, node);
        bool meanwhile, good = h->doubted && others_good(ra, h, &meanwhile);
        next = it->next;
        if (!h->doubted)
            continue;
        if (good && !meanwhile)
            wr_relay_client_check(ra->client, &h->relay);
        bool ours = chosen_doubted(ra, h);
        if (!(good && meanwhile) && !(ours && doubted > WR_RELAY_AUTO_WANT))
            continue;
        struct wr_peerid relay = h->relay;
        doubted -= ours;
        ra->giving_up = true;
        wr_relay_client_give_up(ra->client, &relay);
        ra->giving_up = false;
    }
}

/* Now and then: one that is more than twice as near takes the farthest one's place. */
static void review(struct wr_relay_auto *ra, const struct wr_relay_hold *farthest)
{
    wr_time now = wr_env_now(ra->env);
    if (!farthest || now - ra->reviewed_at < WR_RELAY_AUTO_REVIEW)
        return;
    ra->reviewed_at = now;
    struct choice nearer = choose(ra, &farthest->relay);
    if (nearer.best.len && 2 * nearer.distance < distance(ra, &farthest->relay))
        (void)wr_relay_client_hold(ra->client, &nearer.best);
}

static void look(struct wr_relay_auto *ra)
{
    wr_time now = wr_env_now(ra->env), next = now + WR_RELAY_AUTO_TICK;
    const struct wr_relay_hold *farthest;
    bool asking, owned = hold_owned(ra);
    look_for_nat(ra);
    judge_doubted(ra);
    if (!wanted(ra)) {
        let_all_go(ra);
        bool waiting = wr_swarm_reachability(ra->swarm, 0) == WR_REACH_UNKNOWN;
        if (!owned || waiting)
            wr_timer_start(ra->env, &ra->timer, next, on_timer);
        return;
    }
    ra->was_wanted = true;
    size_t n = chosen(ra, &farthest, &asking);
    while (n < WR_RELAY_AUTO_WANT) {
        struct choice c = choose(ra, NULL);
        if (!c.best.len || wr_relay_client_hold(ra->client, &c.best) != 0)
            break;
        n++;
        asking = true;
    }
    if (n < WR_RELAY_AUTO_WANT)
        search(ra, n > 0);
    else if (n > WR_RELAY_AUTO_WANT && !asking)
        let_go(ra, &farthest->relay);
    else if (!asking)
        review(ra, farthest);
    if (n >= WR_RELAY_AUTO_WANT && owned)
        next = now + WR_MIN;
    wr_timer_start(ra->env, &ra->timer, next, on_timer);
}

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct wr_relay_auto *ra = arg;
    if (err == 0) {
        ra->search_wait = 0;
        wr_swarm_tag(ra->swarm, relay, TAG, WORTH, true);
        wr_relay_auto_probe_start(ra, relay);
    } else {
        bool held = wr_relay_auto_probe(ra, relay) != NULL;
        bool refused = status || err == WR_EUNSUPPORTED || err == WR_EPROTO || err == WR_EPEERID || err == WR_EAUTH;
        wr_relay_auto_probe_stop(ra, relay);
        if (refused && !ra->giving_up)
            avoid(ra, relay, WR_RELAY_AUTO_REFUSED, false);
        else if (!refused && ra->changed_at && wr_env_now(ra->env) - ra->changed_at < WR_RELAY_AUTO_UPHEAVAL)
            avoid(ra, relay, WR_RELAY_AUTO_TICK, false);
        else if (ra->giving_up)
            avoid_doubted(ra, relay, refused);
        else
            avoid(ra, relay, held ? WR_RELAY_AUTO_LOST : WR_RELAY_AUTO_SILENT, held);
        wr_swarm_untag(ra->swarm, relay, TAG);
    }
    if (ra->options.on_hold)
        ra->options.on_hold(ra->options.arg, relay, err, status);
    look_soon(ra);
}

static void on_ending(void *arg, const struct wr_peerid *relay)
{
    (void)relay;
    look_soon(arg);
}

/* Is it this one, or is it us? That the others tell: one that counts circuits is asked out of turn only when it matters. */
static void on_doubt(void *arg, const struct wr_peerid *relay)
{
    struct wr_relay_auto *ra = arg;
    const struct wr_relay_hold *of = wr_relay_client_held(ra->client, relay);
    const struct wr_list *holds = wr_relay_client_holds(ra->client);
    for (const struct wr_list *it = holds->next; of && it != holds; it = it->next) {
        const struct wr_relay_hold *h =
            (const struct wr_relay_hold *)((uintptr_t)it - offsetof(struct wr_relay_hold, node));
        if (h != of && h->proven_at < of->missed_at && (of->doubted || !h->check_every))
            wr_relay_client_check(ra->client, &h->relay);
    }
    look_soon(ra);
}

/* ---- the owner's ----------------------------------------------------------------------------------------------------- */

int wr_relay_auto_use(struct wr_relay_auto *ra, struct wr_bytes addr)
{
    struct wr_peerid relay;
    struct wr_maddr copy = {.len = 0};
    if (wr_maddr_is_circuit(addr) || !wr_maddr_peer(addr, &relay) || wr_maddr_append(&copy, addr) != 0)
        return WR_EINVAL;
    if (wr_peerid_equal(&relay, wr_swarm_self(ra->swarm)))
        return WR_ESELF;
    if (wr_relay_auto_owned(ra, &relay))
        return WR_EEXIST;
    size_t i = 0;
    while (i < WR_RELAY_AUTO_OWNED_MAX && ra->owned[i])
        i++;
    struct owned *o = i < WR_RELAY_AUTO_OWNED_MAX ? wr_alloc(sizeof(*o)) : NULL;
    if (!o)
        return WR_ELIMIT;
    *o = (struct owned){.relay = relay, .addr = copy, .of = ra};
    ra->owned[i] = o;
    struct avoid *a = avoid_of(ra, &relay);
    if (a)
        forget(ra, a);
    look_soon(ra);
    return 0;
}

int wr_relay_auto_unuse(struct wr_relay_auto *ra, const struct wr_peerid *relay)
{
    for (size_t i = 0; i < WR_RELAY_AUTO_OWNED_MAX; i++) {
        struct owned *o = ra->owned[i];
        if (!o || !wr_peerid_equal(&o->relay, relay))
            continue;
        wr_connect_cancel(o->connect);
        let_go(ra, &o->relay);
        wr_free(o);
        ra->owned[i] = NULL;
        look_soon(ra);
        return 0;
    }
    return WR_ENOTFOUND;
}

size_t wr_relay_auto_owned_list(const struct wr_relay_auto *ra, struct wr_maddr *out, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < WR_RELAY_AUTO_OWNED_MAX && n < max; i++)
        if (ra->owned[i])
            out[n++] = ra->owned[i]->addr;
    return n;
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */

/* What connections to relays are worth on the new network shows at once, and who was lost on the old one may be asked
 * again. Refusals stand: they have nothing to do with it. */
static void on_network(struct wr_relay_auto *ra)
{
    ra->changed_at = wr_env_now(ra->env);
    ra->search_wait = 0;
    wr_list_each(it, &ra->avoid_order)
    {
        struct avoid *a = wr_list_entry(it, struct avoid, node);
        if (!a->refused)
            forget(ra, a);
    }
    wr_relay_auto_probe_now(ra, NULL);
    look_soon(ra);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_relay_auto *ra = wr_list_entry(watch, struct wr_relay_auto, watch);
    if (event->type == WR_SWARM_NETWORK_CHANGED)
        on_network(ra);
    /* One that is left may be one whose end did not arrive. */
    if (event->type == WR_SWARM_CLOSED)
        wr_relay_auto_probe_now(ra, event->peer);
    struct avoid *a = event->type == WR_SWARM_IDENTIFIED ? avoid_of(ra, event->peer) : NULL;
    if (a && a->unreached)
        forget(ra, a);
    if (event->type == WR_SWARM_REACHABILITY) {
        enum wr_reachability reach = wr_swarm_reachability(ra->swarm, 0);
        if (reach == WR_REACH_UNKNOWN) {
            ra->unknown_since = wr_env_now(ra->env);
        } else {
            ra->was_wanted = wanted(ra);
            /* IPv6 alone is not enough: many have none. */
            ra->was_private = reach == WR_REACH_PRIVATE || wr_swarm_reachability(ra->swarm, 4) == WR_REACH_PRIVATE;
        }
    }
    if (event->type == WR_SWARM_REACHABILITY || event->type == WR_SWARM_IDENTIFIED ||
        event->type == WR_SWARM_PEER_CHANGED)
        look_soon(ra);
}

enum wr_relay_auto_phase wr_relay_auto_phase(const struct wr_relay_auto *ra)
{
    const struct wr_relay_hold *farthest;
    bool asking;
    if (!wanted(ra))
        return wr_swarm_reachability(ra->swarm, 0) == WR_REACH_UNKNOWN ? WR_RELAY_AUTO_WAITING : WR_RELAY_AUTO_OFF;
    return chosen(ra, &farthest, &asking) >= WR_RELAY_AUTO_WANT && !asking ? WR_RELAY_AUTO_CONTENT
                                                                          : WR_RELAY_AUTO_SEARCHING;
}

struct wr_relay_client *wr_relay_auto_client(struct wr_relay_auto *ra)
{
    return ra->client;
}

struct wr_relay_auto *wr_relay_auto_create(const struct wr_relay_auto_options *options)
{
    struct wr_relay_auto *ra = wr_alloc(sizeof(*ra));
    if (!ra)
        return NULL;
    ra->options = *options;
    ra->swarm = options->swarm;
    ra->env = wr_swarm_env(ra->swarm);
    struct wr_relay_client_options client = {
        .swarm = ra->swarm, .on_hold = on_hold, .on_ending = on_ending, .on_doubt = on_doubt, .arg = ra};
    ra->client = wr_relay_client_create(&client);
    if (!ra->client) {
        wr_free(ra);
        return NULL;
    }
    wr_list_init(&ra->probes);
    wr_list_init(&ra->avoid_order);
    wr_map_init(&ra->avoid, WR_RELAY_AUTO_AVOID_MAX, wr_env_hash_seed(ra->env));
    ra->unknown_since = ra->reviewed_at = wr_env_now(ra->env);
    ra->watch.on_event = on_event;
    wr_swarm_watch(ra->swarm, &ra->watch);
    wr_timer_start(ra->env, &ra->timer, wr_env_now(ra->env) + WR_RELAY_AUTO_TICK, on_timer);
    return ra;
}

void wr_relay_auto_destroy(struct wr_relay_auto *ra)
{
    if (!ra)
        return;
    wr_swarm_unwatch(&ra->watch);
    wr_timer_stop(ra->env, &ra->timer);
    wr_task_cancel(&ra->task);
    for (size_t i = 0; i < WR_RELAY_AUTO_KNOCKS; i++)
        wr_connect_cancel(ra->knocks[i].connect);
    for (size_t i = 0; i < WR_RELAY_AUTO_OWNED_MAX; i++) {
        if (ra->owned[i])
            wr_connect_cancel(ra->owned[i]->connect);
        wr_free(ra->owned[i]);
    }
    while (!wr_list_empty(&ra->probes))
        wr_relay_auto_probe_stop(ra, &wr_list_entry(ra->probes.next, struct probe, node)->relay);
    while (!wr_list_empty(&ra->avoid_order))
        forget(ra, wr_list_entry(ra->avoid_order.next, struct avoid, node));
    wr_map_clear(&ra->avoid);
    wr_relay_client_destroy(ra->client);
    wr_free(ra);
}
