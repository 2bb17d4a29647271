/* Who was heard of by multicast DNS. */
#include "peer.h"

#include "node/mdns.h"
#include "transport/pnet.h"

#include <string.h>

static void on_peer(void *arg, const struct wr_peerid *peer, const struct wr_maddr *addrs, size_t count)
{
    struct host *h = arg;
    json_t *id = json_peer(peer);
    size_t i;
    json_t *known;
    (void)addrs;
    (void)count;
    json_array_foreach(h->neighbours, i, known)
    {
        if (json_equal(known, id)) {
            json_decref(id);
            return;
        }
    }
    json_array_append_new(h->neighbours, id);
}

bool mdns_start(struct host *h, const uint8_t *psk)
{
    char fingerprint[17];
    struct wr_mdns_options options = {.swarm = h->swarm, .on_peer = on_peer, .arg = h};
    if (psk) {
        wr_pnet_fingerprint(psk, fingerprint);
        options.fingerprint = fingerprint;
    }
    h->neighbours = json_array();
    h->mdns = wr_mdns_create(&options);
    return h->mdns != NULL;
}

bool command_mdns(struct command *c, const char *name)
{
    if (strcmp(name, "mdns-peers") != 0)
        return false;
    if (!c->host->mdns)
        command_fail(c, "started without --mdns");
    else
        command_ok(c, json_pack("{s:O}", "peers", c->host->neighbours));
    return true;
}
