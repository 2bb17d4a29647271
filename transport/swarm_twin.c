/* Our identity met elsewhere: at ourselves, by a dial that came back, or at a twin, another node with a copy of our
 * key. Both would lose messages that are meant for the other, so the owner is told.
 *
 * Neighbours hear of each other by mDNS. Of twins far apart others know: asked for our own id they name addresses that
 * are not ours. Those may be where we were before, or a lie; whoever answers there with our identity is a twin. */
#include "transport/swarm_dial.h"
#include "transport/wire.h"

#define SELF_ECHO (10 * WR_SEC)    /* both ends of a meeting with ourselves end within; ours */

static bool our_port(const struct wr_swarm *sw, uint16_t port)
{
    for (size_t i = 0; i < sw->listener_count; i++)
        if (sw->listeners[i].addr.port == port)
            return true;
    return false;
}

static bool on_this_machine(const struct wr_swarm *sw, const struct wr_ip *ip)
{
    for (size_t i = 0; i < sw->policy.link_count; i++)
        if (wr_ip_equal(&sw->policy.links[i].ip, ip))
            return true;
    return false;
}

static bool in_book(const struct wr_swarm *sw, const struct wr_ip *ip)
{
    for (size_t i = 0; i < sw->addrbook.count; i++) {
        struct wr_addr own;
        if (wr_maddr_addr(wr_maddr_bytes(&sw->addrbook.of[i].addr), &own) && wr_ip_equal(&own.ip, ip))
            return true;
    }
    return false;
}

/* Did we reach, or were we reached by, ourselves? On this machine only a listening port tells. */
static bool met_ourselves(const struct wr_swarm *sw, const struct wr_conn *c)
{
    if (on_this_machine(sw, &c->remote.ip))
        return !c->outbound || our_port(sw, c->remote.port);
    return in_book(sw, &c->remote.ip);
}

/* Or did a router turn us back, under an address of its that we do not know for ours, as after a restart? Then the
 * other end of this connection is under way here, too. */
static bool other_end_is_here(const struct wr_swarm *sw, const struct wr_conn *c)
{
    wr_list_each(it, &sw->opening)
    {
        const struct wr_conn *other = wr_list_entry(it, struct wr_conn, node);
        const struct wr_ip *ip = &other->remote.ip;
        if (other->outbound != c->outbound && (wr_ip_equal(ip, &c->remote.ip) || on_this_machine(sw, ip)))
            return true;
    }
    return false;
}

void wr_swarm_met_own_identity(struct wr_swarm *sw, const struct wr_conn *c)
{
    char text[WR_ADDR_TEXT];
    wr_time now = wr_env_now(sw->env);
    if (met_ourselves(sw, c) || other_end_is_here(sw, c)) {
        sw->met_self_at = now;
        return;
    }
    /* The other end of that meeting, behind a router that turns us back under its own address. */
    if (!c->outbound && sw->met_self_at && now - sw->met_self_at < SELF_ECHO)
        return;
    sw->twin_at = now;
    sw->twin = c->remote;
    wr_addr_print(&c->remote, text);
    wr_log(wr_env_log(sw->env), WR_LOG_WARN, "swarm",
           "another node uses this identity addr=%s hint=\"give it a key of its own: warren key new\"",
           text);
}

bool wr_swarm_twin(const struct wr_swarm *sw, struct wr_addr *at)
{
    *at = sw->twin;
    return sw->twin_at && wr_env_now(sw->env) - sw->twin_at < WR_SWARM_TWIN_AGE;
}

static void on_looked(void *arg, int err, struct wr_conn *conn)
{
    (void)arg, (void)err, (void)conn; /* a twin shows as its connection comes up */
}

bool wr_swarm_look_for_twin(struct wr_swarm *sw, struct wr_bytes addr)
{
    struct wr_bytes bare = wr_maddr_strip_peer(addr);
    struct wr_addr at;
    wr_time now = wr_env_now(sw->env);
    if (sw->twin_looked_at && now < sw->twin_looked_at + WR_SWARM_TWIN_LOOK)
        return false;
    if (wr_maddr_is_circuit(bare) || !wr_maddr_addr(bare, &at) || on_this_machine(sw, &at.ip) ||
        in_book(sw, &at.ip) || wr_policy_may_dial(&sw->policy, NULL, bare, WR_ORIGIN_STRANGER) != 0)
        return false;
    sw->twin_looked_at = now;
    return wr_swarm_connect_as(sw, bare, WR_ORIGIN_STRANGER, on_looked, NULL, NULL) == 0;
}
