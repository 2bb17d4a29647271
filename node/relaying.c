#include "node/relaying.h"

#include "dht/dht.h"

static void on_called(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
}

/* Whoever is called is identified, and then seen by relay_auto if it relays. */
static void on_peer(void *arg, const struct wr_dht_peer *peer)
{
    struct wr_relaying *r = arg;
    if (!r->dials_left || wr_swarm_conn(r->options.swarm, &peer->id))
        return;
    r->dials_left--;
    (void)wr_swarm_connect(r->options.swarm, &peer->id, NULL, 0, WR_ORIGIN_STRANGER, WR_CONNECT_DIRECT, on_called, NULL,
                           NULL);
}

static void on_done(void *arg, int err)
{
    struct wr_relaying *r = arg;
    (void)err;
    r->walk = NULL;
}

/* A walk to nowhere in particular meets many servers of the DHT, which are reachable, so most of them relay. */
static void discover(void *arg)
{
    static const struct wr_dht_ops ops = {.on_peer = on_peer, .on_done = on_done};
    struct wr_relaying *r = arg;
    uint8_t key[32];
    int err;
    if (!r->dht || r->walk)
        return;
    wr_env_random(r->env, key, sizeof(key));
    r->dials_left = WR_RELAYING_DIALS;
    r->walk = wr_dht_find_closest(r->dht, WR_BYTES(key, sizeof(key)), &ops, r, &err);
}

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct wr_relaying *r = arg;
    if (r->options.on_hold)
        r->options.on_hold(r->options.arg, relay, err, status);
}

int wr_relaying_start(struct wr_relaying *r, const struct wr_relaying_options *options)
{
    struct wr_relay_server_options lent;
    struct wr_relay_auto_options ours = {
        .swarm = options->swarm, .discover = discover, .on_hold = on_hold, .arg = r};
    *r = (struct wr_relaying){.options = *options, .env = wr_swarm_env(options->swarm)};
    wr_relay_server_defaults(&lent, options->swarm);
    lent.mode = options->mode;
    lent.rate_each = options->rate_each;
    lent.rate_total = options->rate_total;
    r->lent = wr_relay_server_create(&lent);
    r->ours = wr_relay_auto_create(&ours);
    return r->lent && r->ours ? 0 : WR_ELIMIT;
}

void wr_relaying_set_dht(struct wr_relaying *r, struct wr_dht *dht)
{
    if (r->walk)
        wr_dht_cancel(r->walk);
    r->walk = NULL;
    r->dht = dht;
}

void wr_relaying_stop(struct wr_relaying *r)
{
    wr_relaying_set_dht(r, NULL);
    wr_relay_auto_destroy(r->ours);
    wr_relay_server_destroy(r->lent);
    r->ours = NULL;
    r->lent = NULL;
}
