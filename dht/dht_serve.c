/* Answering others. A stream carries any number of requests, one answer each (none to
 * ADD_PROVIDER), and goes on after the peer has finished writing until the last one is answered. */
#include "dht/dht_impl.h"
#include "dht/record.h"
#include "transport/crowds.h"
#include "transport/err.h"

#include <string.h>

#define RATES_MAX                                                                                  \
    1024 /* guests whose rate is remembered; ours, the longest unseen is forgotten                 \
          */

#define PATIENCE (5 * WR_SEC) /* a silent stream is let be so long with no place left; ours */

struct wr_dht_guest {
    struct wr_msg msg;
    struct wr_list node; /* wr_dht.guests, longest silent first */
    wr_time heard_at;
    uint32_t refused; /* code of a record that was not taken; said at the end of the stream */
    struct wr_dht *dht;
    struct wr_peerid peer;
    struct wr_ip ip;
    struct wr_timer wait; /* it has asked more than its rate allows: until it is heard again */
    struct wr_task dispose;
};

/* ---- rates: a bucket of tokens per address, or per peer where many share one (LAN, this machine). Who publishes much
 * at once, or crawls, sends hundreds of requests in a row (go's accelerated client, its sweep): they are taken as fast
 * as the rate allows. Only who is further ahead of it than WR_DHT_RATE_WAIT loses his stream. ---- */

struct rate {
    struct wr_list node; /* wr_dht.rate_order, longest unseen first */
    uint8_t key[1 + WR_PEERID_MAX];
    size_t key_len;
    wr_time full_at; /* when the bucket will be full again */
};

static size_t rate_key(const struct wr_dht_guest *g, uint8_t key[static 1 + WR_PEERID_MAX])
{
    struct wr_ip net = wr_policy_network(&g->ip);
    bool is_public = wr_policy_is_public(wr_swarm_policy(g->dht->swarm), &g->ip);
    struct wr_bytes of =
        is_public ? WR_BYTES(net.bytes, sizeof(net.bytes)) : wr_peerid_bytes(&g->peer);
    key[0] = is_public ? net.family : 0;
    memcpy(key + 1, of.ptr, of.len);
    return 1 + of.len;
}

static struct rate *rate_of(struct wr_dht *d, const struct wr_dht_guest *g)
{
    uint8_t key[1 + WR_PEERID_MAX];
    size_t len = rate_key(g, key);
    struct rate *rate = wr_map_get(&d->rates, WR_BYTES(key, len));
    if (rate) {
        wr_list_remove(&rate->node);
        wr_list_append(&d->rate_order, &rate->node);
        return rate;
    }
    if (d->rates.count == RATES_MAX) {
        rate = wr_list_entry(wr_list_pop(&d->rate_order), struct rate, node);
        wr_map_del(&d->rates, WR_BYTES(rate->key, rate->key_len));
        wr_free(rate);
    }
    rate = wr_alloc(sizeof(*rate));
    if (!rate)
        return NULL;
    memcpy(rate->key, key, len);
    rate->key_len = len;
    if (wr_map_put(&d->rates, WR_BYTES(rate->key, len), rate) != 0) {
        wr_free(rate);
        return NULL;
    }
    wr_list_append(&d->rate_order, &rate->node);
    return rate;
}

/* Pays for a request. Returns for how long the stream is to pause behind it, <0: it is to be refused. */
static wr_time pay(struct wr_dht *d, const struct wr_dht_guest *g)
{
    const struct wr_policy *policy = wr_swarm_policy(d->swarm);
    if (wr_policy_peer_allowed(policy, &g->peer) || wr_policy_net_allowed(policy, &g->ip))
        return 0;
    wr_time now = wr_env_now(d->env), token = WR_SEC / d->rate;
    struct rate *rate = rate_of(d, g);
    if (!rate)
        return WR_ELIMIT;
    if (rate->full_at < now)
        rate->full_at = now;
    wr_time over = rate->full_at + token - (now + WR_DHT_RATE_BURST * token);
    if (over > WR_DHT_RATE_WAIT)
        return WR_ELIMIT;
    rate->full_at += token;
    return over > 0 ? over : 0;
}

/* ---- answers -------------------------------------------------------------------------------- */

/* Room for an answer: the peers, their addresses, and what has to be copied. */
struct answer {
    struct wr_dht_msg msg;
    struct wr_dht_peer closer[WR_KBUCKET_SIZE + 1];
    struct wr_bytes addrs[WR_KBUCKET_SIZE + 1][WR_PEER_ADDRS_MAX];
    struct wr_maddr own[OWN_ADDRS_MAX];
    struct wr_bytes own_addrs[OWN_ADDRS_MAX];
    struct wr_dht_peer providers[WR_STORE_PER_KEY + 1];
    struct wr_store_found found;
    struct wr_buf value, received;
};

/* Appends a peer if we know an address of it that is of use to the asker. */
static void add_closer(struct answer *a, const struct wr_dht_guest *g, const struct wr_peerid *id)
{
    struct wr_dht *d = g->dht;
    const struct wr_peer *known = wr_peerstore_find(wr_swarm_peerstore(d->swarm), id);
    struct wr_dht_peer *to = &a->closer[a->msg.closer_count];
    wr_time now = wr_env_now(d->env);
    if (!known)
        return;
    *to = (struct wr_dht_peer){.id = *id, .addrs = a->addrs[a->msg.closer_count]};
    for (size_t i = 0; i < known->addr_count; i++) {
        struct wr_bytes addr = wr_peer_addr_bytes(&known->addrs[i]);
        if (known->addrs[i].expires_at > now && wr_dht_addr_for(d, addr, &g->ip))
            to->addrs[to->count++] = addr;
    }
    a->msg.closer_count += to->count > 0;
}

static void fill_own(struct answer *a, const struct wr_dht_guest *g, struct wr_dht_peer *to)
{
    *to = (struct wr_dht_peer){.id = g->dht->self, .addrs = a->own_addrs};
    to->count = wr_dht_own_addrs(g->dht, &g->ip, a->own, OWN_ADDRS_MAX);
    for (size_t i = 0; i < to->count; i++)
        a->own_addrs[i] = wr_maddr_bytes(&a->own[i]);
}

/* The nearest of the table, the asker left out. The target itself comes first if we know it, be it
 * no server or the asker (kad-dht/README.md): that is how clients are found. Asked for ourselves we
 * say so: never an empty answer to go's test of a newcomer. */
static void add_nearest(struct answer *a, const struct wr_dht_guest *g, struct wr_bytes key)
{
    struct wr_dht *d = g->dht;
    const struct wr_kentry *nearest[WR_KBUCKET_SIZE + 1];
    struct wr_peerid target;
    uint8_t place[WR_KAD_KEY];
    bool is_peer = a->msg.type == WR_DHT_FIND_NODE && wr_peerid_decode(key, &target) == 0;
    a->msg.closer = a->closer;
    if (is_peer && wr_peerid_equal(&target, &d->self)) {
        fill_own(a, g, &a->closer[0]);
        a->msg.closer_count = a->closer[0].count > 0;
    } else if (is_peer) {
        add_closer(a, g, &target);
    }
    wr_kad_key(key, place);
    size_t count = wr_kbucket_closest(&d->table, place, nearest, WR_KBUCKET_SIZE + 1);
    for (size_t i = 0; i < count && a->msg.closer_count <= WR_KBUCKET_SIZE; i++) {
        const struct wr_peerid *id = &nearest[i]->id;
        if (!wr_peerid_equal(id, &g->peer) && !(is_peer && wr_peerid_equal(id, &target)))
            add_closer(a, g, id);
    }
}

static void add_providers(struct answer *a, const struct wr_dht_guest *g, struct wr_bytes key)
{
    struct wr_dht *d = g->dht;
    size_t count = 0;
    if (wr_dht_provides(d, key))
        fill_own(a, g, &a->providers[count++]);
    if (wr_store_providers(&d->store, key, &a->found) == 0) {
        for (size_t i = 0; i < a->found.count; i++) {
            struct wr_dht_peer *p = &a->providers[count++];
            size_t kept = 0;
            *p = a->found.peers[i];
            for (size_t j = 0; j < p->count; j++) {
                if (wr_dht_addr_for(d, p->addrs[j], &g->ip))
                    p->addrs[kept++] = p->addrs[j];
            }
            p->count = kept;
        }
    }
    a->msg.providers = a->providers;
    a->msg.provider_count = count;
}

static void add_value(struct answer *a, struct wr_dht *d, struct wr_bytes key)
{
    struct wr_bytes name = WR_BYTES_STR("/pk/");
    if (wr_bytes_starts(key, name) &&
        wr_bytes_equal(WR_BYTES(key.ptr + name.len, key.len - name.len), wr_peerid_bytes(&d->self)))
        wr_key_encode_public(wr_swarm_key(d->swarm), &a->value);
    else if (wr_store_get_value(&d->store, key, &a->value, &a->received) != 0)
        return;
    a->msg.has_record = true;
    a->msg.record =
        (struct wr_dht_record){key, wr_buf_bytes(&a->value), wr_buf_bytes(&a->received)};
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct wr_store_source source_of(const struct wr_dht_guest *g)
{
    return (struct wr_store_source){.peer = &g->peer, .ip = g->ip};
}

/* Only for oneself: there is no signature, the connection is the proof. Anything else is dropped, and
 * there is no answer that could say so; a stream that the peer has finished with is reset instead of
 * closed, which all understand who look at it. */
static void take_provider(struct wr_dht_guest *g, const struct wr_dht_msg *request)
{
    struct wr_dht *d = g->dht;
    struct wr_store_source source = source_of(g);
    for (size_t i = 0; i < request->provider_count; i++) {
        struct wr_dht_peer *p = &request->providers[i];
        if (!wr_peerid_equal(&p->id, &g->peer) || p->count == 0)
            continue;
        p->count = wr_dht_addrs_filter(d, p->addrs, p->count);
        if (wr_store_add_provider(&d->store, request->key, &source, p->addrs, p->count) == 0)
            return;
        d->counted.refused++;
        g->refused = WR_STREAM_LIMIT;
        return;
    }
    g->refused = WR_STREAM_VIOLATION;
}

/* 0: keep the value and echo it. */
static int take_value(struct wr_dht_guest *g, const struct wr_dht_msg *request)
{
    struct wr_dht *d = g->dht;
    struct wr_store_source source = source_of(g);
    if (!request->has_record || !wr_bytes_equal(request->key, request->record.key))
        return WR_EPROTO;
    int rc = wr_record_check(request->key, request->record.value, wr_store_unix(&d->store));
    if (rc == 0)
        rc = wr_store_put_value(&d->store, request->key, request->record.value, &source);
    return rc;
}

/* 1: answer; 0: nothing to say; <0: the stream is to be reset. */
static int handle(struct wr_dht_guest *g, const struct wr_dht_msg *request, struct answer *a)
{
    int rc;
    a->msg.type = request->type;
    a->msg.key = request->key;
    if (request->key.len == 0 && request->type != WR_DHT_PING)
        return WR_EPROTO;
    switch (request->type) {
    case WR_DHT_FIND_NODE:
        a->msg.key = WR_BYTES_NONE; /* go and rust leave it out */
        add_nearest(a, g, request->key);
        return 1;
    case WR_DHT_GET_PROVIDERS:
        if (request->key.len > WR_DHT_PROVIDER_KEY_MAX)
            return WR_EPROTO;
        add_nearest(a, g, request->key);
        add_providers(a, g, request->key);
        return 1;
    case WR_DHT_GET_VALUE:
        add_nearest(a, g, request->key);
        add_value(a, g->dht, request->key);
        return 1;
    case WR_DHT_PUT_VALUE:
        rc = take_value(g, request);
        a->msg.has_record = true;
        a->msg.record = request->record;
        return rc < 0 ? rc : 1;
    case WR_DHT_ADD_PROVIDER:
        if (request->key.len > WR_DHT_PROVIDER_KEY_MAX)
            return WR_EPROTO;
        take_provider(g, request);
        return 0;
    case WR_DHT_PING:
        return 1;
    default:
        return WR_EPROTO;
    }
}

static int answer_to(struct wr_dht_guest *g, const struct wr_dht_msg *request)
{
    struct wr_buf body;
    /* Not zeroed: it is 20 KiB, of which an answer uses a tenth. */
    struct answer *a = wr_realloc(NULL, sizeof(*a));
    if (!a)
        return WR_ELIMIT;
    a->msg = (struct wr_dht_msg){0};
    a->found.count = 0;
    wr_buf_init(&a->found.memory, 0);
    wr_buf_init(&a->value, WR_DHT_VALUE_MAX);
    wr_buf_init(&a->received, 64);
    wr_buf_init(&body, WR_DHT_SEND_MAX);
    int rc = handle(g, request, a);
    if (rc > 0) {
        rc = wr_dht_msg_encode(&a->msg, WR_DHT_SEND_MAX, &body);
        if (rc == 0)
            rc = wr_msg_send(&g->msg, wr_buf_bytes(&body));
    }
    wr_buf_clear(&body);
    wr_buf_clear(&a->value);
    wr_buf_clear(&a->received);
    wr_store_found_clear(&a->found);
    wr_free(a);
    return rc;
}

/* ---- streams -------------------------------------------------------------------------------- */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_dht_guest, dispose));
}

static void drop(struct wr_dht_guest *g)
{
    wr_list_remove(&g->node);
    wr_timer_stop(g->dht->env, &g->wait);
    g->dht->guest_count--;
    wr_env_dispose(g->dht->env, &g->dispose, dispose);
}

static void turn_away(struct wr_dht_guest *g, uint32_t code)
{
    g->dht->counted.refused++;
    wr_msg_reset(&g->msg, code);
    drop(g);
}

static void on_wait(struct wr_timer *timer)
{
    wr_msg_pause(&wr_list_entry(timer, struct wr_dht_guest, wait)->msg, false);
}

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dht_guest *g = wr_list_entry(m, struct wr_dht_guest, msg);
    struct wr_dht *d = g->dht;
    struct wr_dht_msg request;
    wr_time wait = pay(d, g);
    if (wait < 0) {
        turn_away(g, WR_STREAM_RATE);
        return;
    }
    wr_time now = wr_env_now(d->env);
    g->heard_at = now;
    wr_list_remove(&g->node);
    wr_list_append(&d->guests, &g->node);
    int rc = wr_dht_msg_decode(body, &request);
    if (rc == 0)
        rc = answer_to(g, &request);
    wr_dht_msg_clear(&request);
    if (rc < 0 && wr_msg_open(m)) {
        turn_away(g, rc == WR_ELIMIT ? WR_STREAM_LIMIT : WR_STREAM_VIOLATION);
        return;
    }
    if (rc < 0) { /* the answer did not fit what the peer leaves unread: reset already */
        d->counted.refused++;
        drop(g);
        return;
    }
    d->counted.served++;
    wr_msg_deadline(m, now + wait + WR_DHT_INBOUND_IDLE);
    if (wait > 0) {
        wr_msg_pause(m, true);
        wr_timer_start(d->env, &g->wait, now + wait, on_wait);
    }
}

static void on_eof(struct wr_msg *m)
{
    struct wr_dht_guest *g = wr_list_entry(m, struct wr_dht_guest, msg);
    if (g->refused)
        wr_msg_reset(m, g->refused);
    else
        wr_msg_close(m);
    drop(g);
}

static void on_close(struct wr_msg *m, int err)
{
    (void)err;
    drop(wr_list_entry(m, struct wr_dht_guest, msg));
}

static const struct wr_msg_ops msg_ops = {
    .on_message = on_message, .on_eof = on_eof, .on_close = on_close};

/* All places are taken: the longest silent guest of a larger crowd than the newcomer's goes, or one
 * of his own that has said nothing for a while. Sixteen connections could keep everybody else out. */
static struct wr_dht_guest *one_to_go(struct wr_dht *d, const struct wr_ip *newcomer)
{
    struct wr_crowds all;
    wr_time now = wr_env_now(d->env);
    wr_crowds_init(&all, wr_env_hash_seed(d->env));
    wr_list_each(node, &d->guests)
    {
        wr_crowds_add(&all, &wr_list_entry(node, struct wr_dht_guest, node)->ip);
    }
    int larger = wr_crowds_larger(&all, newcomer);
    int own = (int)wr_crowds_of(&all, newcomer);
    bool alone = all.size[own] == 0;
    wr_list_each(node, &d->guests)
    {
        struct wr_dht_guest *g = wr_list_entry(node, struct wr_dht_guest, node);
        int crowd = (int)wr_crowds_of(&all, &g->ip);
        if (crowd == larger || (larger < 0 && (alone || crowd == own) && now - g->heard_at >= PATIENCE))
            return g;
    }
    return NULL;
}

static bool take_place(struct wr_dht *d, const struct wr_ip *newcomer)
{
    if (d->guest_count < WR_DHT_INBOUND_MAX)
        return true;
    struct wr_dht_guest *victim = one_to_go(d, newcomer);
    if (victim)
        turn_away(victim, WR_STREAM_LIMIT);
    return victim != NULL;
}

static void on_stream(struct wr_stream *s, void *arg)
{
    struct wr_dht *d = arg;
    const struct wr_conn *conn = wr_stream_conn(s);
    struct wr_dht_guest *g = take_place(d, &conn->remote.ip) ? wr_alloc(sizeof(*g)) : NULL;
    if (!g) {
        d->counted.refused++;
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    g->dht = d;
    g->peer = conn->peer;
    g->ip = conn->remote.ip;
    g->heard_at = wr_env_now(d->env);
    wr_list_append(&d->guests, &g->node);
    d->guest_count++;
    wr_msg_start(&g->msg, d->env, s, WR_DHT_RECV_MAX, &msg_ops);
    wr_msg_deadline(&g->msg, wr_env_now(d->env) + WR_DHT_INBOUND_IDLE);
}

void wr_dht_serve_init(struct wr_dht *d)
{
    wr_list_init(&d->guests);
    wr_list_init(&d->rate_order);
    wr_map_init(&d->rates, RATES_MAX, wr_env_hash_seed(d->env));
}

void wr_dht_serve_start(struct wr_dht *d)
{
    struct wr_protocol p = {
        .on_stream = on_stream, .arg = d, .inbound_max = WR_DHT_INBOUND_PER_CONN};
    memcpy(p.name, d->protocol, sizeof(p.name));
    d->serving = wr_swarm_handle(d->swarm, &p) == 0;
}

void wr_dht_serve_stop(struct wr_dht *d)
{
    if (d->serving)
        wr_swarm_unhandle(d->swarm, d->protocol);
    d->serving = false;
    wr_list_each(node, &d->guests)
    {
        struct wr_dht_guest *g = wr_list_entry(node, struct wr_dht_guest, node);
        wr_msg_reset(&g->msg, WR_STREAM_OK);
        drop(g);
    }
}

void wr_dht_serve_clear(struct wr_dht *d)
{
    wr_dht_serve_stop(d);
    wr_list_each(node, &d->rate_order)
    {
        wr_list_remove(node);
        wr_free(wr_list_entry(node, struct rate, node));
    }
    wr_map_clear(&d->rates);
}
