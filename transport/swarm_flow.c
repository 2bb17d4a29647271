/* The swarm's dials, punches and guests before the budget of flows.h. */
#include "transport/swarm_impl.h"

bool wr_swarm_flow_free(const struct wr_swarm *sw, const struct wr_ip *to)
{
    enum wr_ip_class class = wr_ip_classify(to);
    return class == WR_IP_LOOPBACK || class == WR_IP_LINK_LOCAL || wr_policy_on_link(&sw->policy, to);
}

/* With a public IPv4 address of our own no router at home remembers us. Without one there is one, and its table is
 * the same for IPv6. */
static bool behind_nat(const struct wr_swarm *sw)
{
    for (size_t i = 0; i < sw->policy.link_count; i++)
        if (sw->policy.links[i].ip.family == 4 && wr_ip_classify(&sw->policy.links[i].ip) == WR_IP_PUBLIC)
            return false;
    return true;
}

int wr_swarm_flow_begin(struct wr_swarm *sw, struct wr_flow_ask ask, struct wr_flow **out)
{
    ask.link = wr_swarm_flow_free(sw, &ask.to->ip);
    ask.nat = !ask.link && behind_nat(sw);
    *out = NULL;
    if (ask.link && (ask.insist || wr_ip_classify(&ask.to->ip) == WR_IP_LOOPBACK))
        return 0;
    return wr_flows_begin(&sw->flows, &ask, wr_env_now(sw->env), out);
}

bool wr_swarm_flow_packet(struct wr_swarm *sw, const struct wr_addr *to, uint16_t port)
{
    struct wr_flow *flow;
    if (wr_swarm_flow_begin(sw, (struct wr_flow_ask){.to = to, .udp = true, .port = port, .insist = true}, &flow) != 0)
        return false;
    wr_flows_end(&sw->flows, flow, false, wr_env_now(sw->env));
    return true;
}

bool wr_swarm_flow_known(struct wr_swarm *sw, const struct wr_addr *to, bool udp)
{
    return wr_flows_known(&sw->flows, to, udp, wr_env_now(sw->env));
}

wr_time wr_swarm_flow_wait(struct wr_swarm *sw)
{
    return wr_flows_wait(&sw->flows, wr_env_now(sw->env));
}

bool wr_swarm_flow_may_come(struct wr_swarm *sw, const struct wr_ip *from)
{
    return wr_swarm_flow_free(sw, from) || !behind_nat(sw) ||
           wr_flows_may_come(&sw->flows, wr_env_now(sw->env));
}

void wr_swarm_flow_came(struct wr_swarm *sw, struct wr_conn *c)
{
    if (!c->flow && behind_nat(sw) && !wr_swarm_flow_free(sw, &c->remote.ip))
        c->flow = wr_flows_came(&sw->flows, &c->remote, c->udp, c->udp && !c->port_reused ? c->local.port : 0);
}

void wr_swarm_flow_answered(struct wr_swarm *sw, const struct wr_conn *c)
{
    if (!c->circuit)
        wr_flows_answered(&sw->flows, &c->remote.ip);
}

void wr_swarm_flow_over(struct wr_swarm *sw, struct wr_conn *c)
{
    /* Whatever came back over UDP makes a router remember longer, also when another way was quicker in the end. */
    bool answered = c->id != 0 || (c->udp && c->bytes_in > 0);
    wr_flows_end(&sw->flows, c->flow, answered, wr_env_now(sw->env));
    c->flow = NULL;
}
