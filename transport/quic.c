#include "transport/quic_impl.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#define IDS_MAX      131072    /* entries of the routing table: sixteen for each of 8192 connections; ours */
#define RESETS_MAX   200       /* stateless resets a second; ours */
#define RETRIES_MAX  2000      /* Retry packets a second: 50 us of work each; ours */
#define VERSIONS_MAX 100       /* Version Negotiation packets a second; ours */
#define RESET_MIN    22        /* bytes: a shorter packet cannot be answered by a shorter reset; ngtcp2's own
                                  keepalives are some 30, so the usual 43 would leave them unanswered */
#define RETRY_ABOVE  64        /* handshakes under way; or half of what may be, if that is less */
#define UNPROVED_MAX 100       /* first packets a second that are looked into without a proof of their address: up
                                  to 1 ms of work each; ours */
#define ERRORS_MAX   200       /* messages of ICMP a second that are looked at; ours */
#define INVALIDS_MAX 100       /* answers to bad tokens a second; ours */
#define TOKEN_LIFE   (10 * WR_SEC)    /* of a Retry token; ours */

/* ---- addresses ---------------------------------------------------------------------------------- */

void wr_quic_make_path(struct wr_quic_path *path, const struct wr_addr *local, const struct wr_addr *remote)
{
    path->path = (ngtcp2_path){0};
    path->path.local.addrlen = wr_addr_to_sockaddr(local, &path->local);
    path->path.local.addr = (ngtcp2_sockaddr *)&path->local;
    path->path.remote.addrlen = wr_addr_to_sockaddr(remote, &path->remote);
    path->path.remote.addr = (ngtcp2_sockaddr *)&path->remote;
}

/* ---- the routing table -------------------------------------------------------------------------- */

static struct wr_bytes make_key(uint8_t out[static 1 + NGTCP2_MAX_CIDLEN], enum wr_quic_id_kind kind,
                                const uint8_t *key, size_t len)
{
    assert(len <= NGTCP2_MAX_CIDLEN);
    out[0] = (uint8_t)kind;
    memcpy(out + 1, key, len);
    return WR_BYTES(out, len + 1);
}

static struct wr_quic_id *id_find(struct wr_quic *q, enum wr_quic_id_kind kind, const uint8_t *key, size_t len)
{
    uint8_t room[1 + NGTCP2_MAX_CIDLEN];
    struct wr_quic_id *last = q->last_id;
    if (len > NGTCP2_MAX_CIDLEN)
        return NULL;
    if (last && last->len == len + 1 && last->key[0] == kind && memcmp(last->key + 1, key, len) == 0)
        return last;
    struct wr_quic_id *found = wr_map_get(&q->ids, make_key(room, kind, key, len));
    if (found)
        q->last_id = found;
    return found;
}

int wr_quic_id_add(struct wr_quic_conn *qc, enum wr_quic_id_kind kind, const uint8_t *key, size_t len)
{
    struct wr_quic_id *id = wr_alloc(sizeof(*id));
    if (!id)
        return WR_ELIMIT;
    id->conn = qc;
    id->len = (uint8_t)(len + 1);
    int rc = wr_map_put(&qc->q->ids, make_key(id->key, kind, key, len), id);
    if (rc != 0) {
        wr_free(id);
        return rc;
    }
    wr_list_append(&qc->ids, &id->node);
    return 0;
}

void wr_quic_id_free(struct wr_quic *q, struct wr_quic_id *id)
{
    wr_map_del(&q->ids, WR_BYTES(id->key, id->len));
    if (q->last_id == id)
        q->last_id = NULL;
    wr_list_remove(&id->node);
    wr_free(id);
}

void wr_quic_id_drop(struct wr_quic_conn *qc, enum wr_quic_id_kind kind, const uint8_t *key, size_t len)
{
    struct wr_quic_id *id = id_find(qc->q, kind, key, len);
    if (id && id->conn == qc)
        wr_quic_id_free(qc->q, id);
}

/* ---- sending to strangers ------------------------------------------------------------------------ */

bool wr_quic_may(struct wr_quic *q, struct wr_quic_rate *rate, unsigned max)
{
    wr_time now = wr_env_now(q->env);
    if (now - rate->since >= WR_SEC || rate->since == 0) {
        rate->since = now ? now : 1;
        rate->done = 0;
    }
    return rate->done++ < max;
}

int wr_quic_send(struct wr_quic_sock *sock, const ngtcp2_path *path, uint8_t ecn, const uint8_t *data,
                 size_t len, size_t segment)
{
    struct wr_addr local;
    struct wr_dgram_out out = {.ecn = ecn, .data = data, .len = len, .segment = segment};
    if (!sock->dgram)
        return WR_EUNREACH;
    wr_addr_from_sockaddr(path->remote.addr, &out.to);
    wr_addr_from_sockaddr(path->local.addr, &local);
    out.from = local.ip;
    return wr_dgram_send(sock->dgram, &out);
}

/* One packet without a connection; n <= 0: it could not be made. */
static void send_alone(struct wr_quic_sock *sock, const ngtcp2_path *path, const uint8_t *data,
                       ngtcp2_ssize n)
{
    if (n > 0)
        wr_quic_send(sock, path, 0, data, (size_t)n, (size_t)n);
}

static void send_versions(struct wr_quic_sock *sock, const ngtcp2_path *path, const ngtcp2_version_cid *vc)
{
    uint8_t packet[256], random[2];
    wr_env_random(sock->q->env, random, sizeof(random));
    /* The second is one of those that must be ignored (RFC 9000 section 15), so that peers do not get used
     * to a list of one. */
    uint32_t versions[2] = {NGTCP2_PROTO_VER_V1, 0x0a0a0a0a | (uint32_t)(random[1] & 0xf0) << 24};
    if (!wr_quic_may(sock->q, &sock->q->versions, VERSIONS_MAX))
        return;
    send_alone(sock, path, packet,
               ngtcp2_pkt_write_version_negotiation(packet, sizeof(packet), random[0], vc->scid,
                                                    vc->scidlen, vc->dcid, vc->dcidlen, versions, 2));
}

/* We know nothing of this connection: perhaps we were restarted. */
static void send_reset(struct wr_quic_sock *sock, const ngtcp2_path *path, const uint8_t *dcid, size_t len)
{
    struct wr_quic *q = sock->q;
    uint8_t packet[64], random[64], token[NGTCP2_STATELESS_RESET_TOKENLEN];
    ngtcp2_cid cid;
    if (len < RESET_MIN || !wr_quic_may(q, &q->resets, RESETS_MAX))
        return;
    ngtcp2_cid_init(&cid, dcid, WR_QUIC_CID);
    if (ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_secret, sizeof(q->reset_secret),
                                                     &cid) != 0)
        return;
    /* Shorter than what it answers, so that two such nodes cannot keep each other busy. */
    size_t whole = len - 1 < 43 ? len - 1 : 43;
    wr_env_random(q->env, random, sizeof(random));
    send_alone(sock, path, packet,
               ngtcp2_pkt_write_stateless_reset(packet, sizeof(packet), token, random,
                                                whole - sizeof(token)));
}

/* The id that a Retry gives out, which the client's next packet has to be sent to. It follows from the client's
 * address and id, so that a made-up token is told from a real one without the work of opening it. */
static void retry_id(const struct wr_quic *q, const struct wr_addr *from, const ngtcp2_cid *client, wr_time epoch,
                     ngtcp2_cid *out)
{
    uint8_t room[sizeof(from->ip.bytes) + 2 + 8 + NGTCP2_MAX_CIDLEN], hash[WR_QUIC_CID];
    struct wr_buf what;
    static_assert(sizeof(hash) == crypto_shorthash_BYTES, "one hash is one id");
    static_assert(sizeof(q->retry_secret) == crypto_shorthash_KEYBYTES, "its key");
    wr_buf_over(&what, room, sizeof(room));
    wr_buf_put(&what, from->ip.bytes, sizeof(from->ip.bytes));
    wr_buf_put_u16be(&what, from->port);
    wr_buf_put_u64be(&what, (uint64_t)epoch);
    wr_buf_put(&what, client->data, client->datalen);
    crypto_shorthash(hash, what.data, what.len, q->retry_secret);
    ngtcp2_cid_init(out, hash, sizeof(hash));
}

static bool is_retry_id(const struct wr_quic *q, const struct wr_addr *from, const ngtcp2_pkt_hd *hd)
{
    wr_time epoch = wr_env_now(q->env) / TOKEN_LIFE;
    for (wr_time age = 0; age <= 1; age++) {
        ngtcp2_cid id;
        retry_id(q, from, &hd->scid, epoch - age, &id);
        if (ngtcp2_cid_eq(&id, &hd->dcid))
            return true;
    }
    return false;
}

static void send_retry(struct wr_quic_sock *sock, const ngtcp2_path *path, const struct wr_addr *from,
                       const ngtcp2_pkt_hd *hd)
{
    struct wr_quic *q = sock->q;
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN], packet[512];
    ngtcp2_cid scid;
    if (!wr_quic_may(q, &q->retries, RETRIES_MAX))
        return;
    retry_id(q, from, &hd->scid, wr_env_now(q->env) / TOKEN_LIFE, &scid);
    ngtcp2_ssize n = ngtcp2_crypto_generate_retry_token(
        token, q->token_secret, sizeof(q->token_secret), hd->version, path->remote.addr,
        path->remote.addrlen, &scid, &hd->dcid, (ngtcp2_tstamp)wr_env_now(q->env));
    if (n < 0)
        return;
    send_alone(sock, path, packet,
               ngtcp2_crypto_write_retry(packet, sizeof(packet), hd->version, &hd->scid, &scid, &hd->dcid,
                                         token, (size_t)n));
}

/* ---- strangers ------------------------------------------------------------------------------------ */

static bool has_memory(const struct wr_quic *q)
{
    const struct wr_account newcomer = {.limits = q->ctx->limits};
    return wr_account_room(&newcomer) >= WR_QUIC_CONN_MEMORY;
}

/* Many handshakes are under way or begin, or somebody would have to go for one more: spoofed ones must take neither the
 * places of others nor our time. */
static bool under_load(struct wr_quic *q)
{
    uint64_t used = q->ctx->limits->of[WR_LIMIT_CONNS_HALF_OPEN].used;
    uint64_t max = q->ctx->limits->of[WR_LIMIT_CONNS_HALF_OPEN].max;
    return q->retry_always || used >= RETRY_ABOVE || used * 2 >= max || !has_memory(q) ||
           !wr_quic_may(q, &q->unproved, UNPROVED_MAX);
}

/* Looks at the token of a first packet. False: it was answered. */
static bool address_proved(struct wr_quic_sock *sock, const ngtcp2_path *path, const ngtcp2_pkt_hd *hd,
                           struct wr_quic_first *first)
{
    struct wr_quic *q = sock->q;
    ngtcp2_vec token = wr_quic_compat_token(hd);
    uint8_t packet[256];
    if (token.len && token.base[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY) {
        if (is_retry_id(q, &first->remote, hd) &&
            ngtcp2_crypto_verify_retry_token(&first->original, token.base, token.len, q->token_secret,
                                             sizeof(q->token_secret), hd->version, path->remote.addr,
                                             path->remote.addrlen, &hd->dcid, TOKEN_LIFE,
                                             (ngtcp2_tstamp)wr_env_now(q->env)) == 0) {
            first->retried = true;
            return true;
        }
        if (wr_quic_may(q, &q->invalids, INVALIDS_MAX))
            send_alone(sock, path, packet,
                       ngtcp2_crypto_write_connection_close(packet, sizeof(packet), hd->version, &hd->scid,
                                                            &hd->dcid, NGTCP2_INVALID_TOKEN, NULL, 0));
        return false;
    }
    if (!under_load(q) || q->ops->awaits(q->arg, &first->remote))
        return true;
    send_retry(sock, path, &first->remote, hd);
    return false;
}

/* A first packet of somebody we do not know. */
static void accept_first(struct wr_quic_sock *sock, const struct wr_dgram_in *in, const ngtcp2_path *path,
                         const uint8_t *data, size_t len)
{
    struct wr_quic *q = sock->q;
    ngtcp2_pkt_hd hd;
    bool open = sock->listening || (sock->spare && q->ops->awaits(q->arg, &in->from));
    if (!open || ngtcp2_accept(&hd, data, len) != 0)
        return;
    struct wr_quic_first first = {.hd = &hd, .original = hd.dcid, .local = in->to, .remote = in->from};
    if (!address_proved(sock, path, &hd, &first))
        return;
    if (!has_memory(q) && q->ops->make_room(q->arg, &in->from))
        return;
    if (!q->ops->may_accept(q->arg, &in->from))
        return;
    struct wr_quic_conn *qc = wr_quic_conn_accept(q, sock, &first);
    if (!qc) {
        wr_limits_give(q->ctx->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
        return;
    }
    q->ops->on_accept(q->arg, &qc->conn);
    wr_quic_conn_input(qc, sock, path, in->ecn, data, len);
}

static void datagram(struct wr_quic_sock *sock, const struct wr_dgram_in *in, const ngtcp2_path *path,
                     const uint8_t *data, size_t len)
{
    struct wr_quic *q = sock->q;
    ngtcp2_version_cid vc;
    bool is_long = data[0] & 0x80;
    int rc = ngtcp2_pkt_decode_version_cid(&vc, data, len, WR_QUIC_CID);
    if (rc != 0 && rc != NGTCP2_ERR_VERSION_NEGOTIATION)
        return;
    /* Drafts count as supported for ngtcp2; for us there is one version. */
    if (is_long && vc.version != 0 && vc.version != NGTCP2_PROTO_VER_V1) {
        if (len >= NGTCP2_MAX_UDP_PAYLOAD_SIZE && sock->listening)
            send_versions(sock, path, &vc);
        return;
    }
    struct wr_quic_id *id = id_find(q, WR_QUIC_ID_CID, vc.dcid, vc.dcidlen);
    if (!id && !is_long && len >= RESET_MIN - 1)
        id = id_find(q, WR_QUIC_ID_RESET, data + len - NGTCP2_STATELESS_RESET_TOKENLEN,
                     NGTCP2_STATELESS_RESET_TOKENLEN);
    if (id && id->conn)
        wr_quic_conn_input(id->conn, sock, path, in->ecn, data, len);
    else if (id)
        wr_quic_linger_input(id->linger);
    else if (is_long)
        accept_first(sock, in, path, data, len);
    else if (q->ops->awaits(q->arg, &in->from))
        q->ops->on_stray(q->arg, &in->from);
    else
        send_reset(sock, path, vc.dcid, len);
}

static void on_receive(void *arg, const struct wr_dgram_in *in)
{
    struct wr_quic_sock *sock = arg;
    struct wr_quic_path path;
    wr_quic_make_path(&path, &in->to, &in->from);
    /* An empty datagram has no first byte. */
    for (size_t at = 0; at < in->len && sock->dgram; at += in->segment) {
        size_t len = in->len - at < in->segment ? in->len - at : in->segment;
        datagram(sock, in, &path.path, in->data + at, len);
    }
}

static void on_writable(void *arg)
{
    struct wr_quic_sock *sock = arg;
    struct wr_list waiting;
    wr_list_init(&waiting);
    for (struct wr_list *it; (it = wr_list_pop(&sock->q->jammed));)
        wr_list_append(&waiting, it);
    for (struct wr_list *it; (it = wr_list_pop(&waiting));)
        wr_quic_conn_want_flush(wr_list_entry(it, struct wr_quic_conn, jam_node));
}

/* A dial to where nobody listens need not wait for its time-out. Nothing else is believed: whoever has had an answer
 * knows better. */
static void on_error(void *arg, const struct wr_addr *to, int err)
{
    struct wr_quic *q = ((struct wr_quic_sock *)arg)->q;
    if (!wr_quic_may(q, &q->errors, ERRORS_MAX))
        return;
    wr_list_each(it, &q->conns)
    {
        struct wr_quic_conn *qc = wr_list_entry(it, struct wr_quic_conn, all);
        if (!qc->over && qc->conn.outbound && qc->conn.state == WR_CONN_OPENING && qc->conn.bytes_in == 0 &&
            wr_addr_equal(&qc->conn.remote, to))
            wr_quic_conn_forget(qc, err);
    }
}

static const struct wr_dgram_ops dgram_ops = {
    .on_receive = on_receive, .on_writable = on_writable, .on_error = on_error};

/* ---- sockets ------------------------------------------------------------------------------------- */

static int open_sock(struct wr_quic *q, const struct wr_addr *at, bool listening, struct wr_quic_sock **out)
{
    size_t place = 0;
    while (place < q->sock_count && q->socks[place].dgram)
        place++;
    if (place >= WR_QUIC_SOCKS_MAX)
        return WR_ELIMIT;
    struct wr_quic_sock *sock = &q->socks[place];
    *sock = (struct wr_quic_sock){.q = q, .listening = listening};
    int rc = wr_env_dgram(q->env, at, &dgram_ops, sock, &sock->dgram);
    if (rc != 0)
        return rc;
    wr_dgram_addr(sock->dgram, &sock->at);
    q->sock_count += place == q->sock_count;
    *out = sock;
    return 0;
}

static void close_spare(struct wr_task *task)
{
    struct wr_quic_sock *sock = wr_list_entry(task, struct wr_quic_sock, task);
    if (sock->users)
        return;
    wr_dgram_close(sock->dgram);
    sock->dgram = NULL;
}

void wr_quic_sock_use(struct wr_quic_sock **at, struct wr_quic_sock *sock)
{
    struct wr_quic_sock *old = *at;
    *at = sock;
    if (sock)
        sock->users++;
    /* In a turn of its own: it may be what calls. */
    if (old && --old->users == 0 && old->spare && old->dgram)
        wr_env_defer(old->q->env, &old->task, close_spare);
}

static struct wr_quic_sock *spare_at(struct wr_quic *q, uint16_t port)
{
    for (size_t i = 0; i < q->sock_count && port; i++)
        if (q->socks[i].spare && q->socks[i].dgram && q->socks[i].at.port == port)
            return &q->socks[i];
    return NULL;
}

uint16_t wr_quic_spare_open(struct wr_quic *q)
{
    struct wr_addr any = {.ip.family = 4};
    struct wr_quic_sock *sock = NULL;
    unsigned count = 0;
    for (size_t i = 0; i < q->sock_count; i++) {
        if (!q->socks[i].spare || !q->socks[i].dgram)
            continue;
        count++;
        if (!sock || q->socks[i].users < sock->users)
            sock = &q->socks[i];
    }
    if (count < WR_QUIC_SPARES_MAX) {
        if (open_sock(q, &any, false, &sock) != 0)
            return 0;
        sock->spare = true;
    }
    sock->users++;
    return sock->at.port;
}

void wr_quic_spare_leave(struct wr_quic *q, uint16_t port)
{
    struct wr_quic_sock *sock = spare_at(q, port);
    if (sock)
        wr_quic_sock_use(&sock, NULL);
}

int wr_quic_listen(struct wr_quic *q, const struct wr_addr *at, struct wr_addr *bound)
{
    struct wr_quic_sock *sock;
    int rc = open_sock(q, at, true, &sock);
    if (rc == 0)
        *bound = sock->at;
    return rc;
}

/* The socket to leave from: the one bound to the very address, else a wildcard, listening ones first. */
static struct wr_quic_sock *sock_for(struct wr_quic *q, const struct wr_ip *source)
{
    struct wr_quic_sock *best = NULL;
    int best_rank = 0;
    for (size_t i = 0; i < q->sock_count; i++) {
        struct wr_quic_sock *sock = &q->socks[i];
        bool same = wr_ip_equal(&sock->at.ip, source);
        if (!sock->dgram || sock->spare || sock->at.ip.family != source->family ||
            (!same && wr_ip_classify(&sock->at.ip) != WR_IP_UNSPECIFIED))
            continue;
        int rank = 1 + (same ? 1 : 0) + (sock->listening ? 2 : 0);
        if (rank > best_rank) {
            best = sock;
            best_rank = rank;
        }
    }
    return best;
}

/* Where a dial leaves from: the handshake is bound to one path, so the source address has to be known before it
 * begins. Opens a socket when there is none. */
static int leave_from(struct wr_quic *q, const struct wr_addr *to, struct wr_addr *local, struct wr_quic_sock **sock)
{
    *local = (struct wr_addr){0};
    int rc = wr_env_source(q->env, to, &local->ip);
    if (rc != 0)
        return rc;
    *sock = to->ip.family == 4 ? spare_at(q, q->first_port) : NULL;
    if (!*sock)
        *sock = sock_for(q, &local->ip);
    if (!*sock) {
        struct wr_addr any = {.ip.family = to->ip.family};
        rc = open_sock(q, &any, false, sock);
        if (rc != 0)
            return rc;
    }
    local->port = (*sock)->at.port;
    return 0;
}

struct wr_conn *wr_quic_dial(struct wr_quic *q, const struct wr_addr *to, const struct wr_peerid *expect,
                             void *owner, int *err)
{
    struct wr_addr local;
    struct wr_quic_sock *sock;
    *err = leave_from(q, to, &local, &sock);
    if (*err != 0)
        return NULL;
    struct wr_quic_conn *qc = wr_quic_conn_dial(q, sock, &local, to, expect, err);
    if (!qc)
        return NULL;
    qc->conn.owner = owner;
    wr_quic_conn_want_flush(qc);
    return &qc->conn;
}

struct wr_conn *wr_quic_dial_rtt(struct wr_quic *q, const struct wr_addr *to, const struct wr_peerid *expect,
                                 wr_time rtt, uint16_t port, void *owner, int *err)
{
    q->first_rtt = rtt;
    q->first_port = port;
    struct wr_conn *c = wr_quic_dial(q, to, expect, owner, err);
    q->first_rtt = q->first_port = 0;
    return c;
}

int wr_quic_junk(struct wr_quic *q, const struct wr_addr *to, uint16_t port)
{
    struct wr_addr local;
    struct wr_quic_sock *sock;
    uint8_t junk[WR_QUIC_JUNK];
    q->first_port = port;
    int rc = leave_from(q, to, &local, &sock);
    q->first_port = 0;
    if (rc != 0)
        return rc;
    wr_env_random(q->env, junk, sizeof(junk));
    junk[0] &= 0x3f;    /* neither a long header nor a short one: nobody takes it for QUIC */
    struct wr_dgram_out out = {.to = *to, .from = local.ip, .data = junk, .len = sizeof(junk), .segment = sizeof(junk)};
    return wr_dgram_send(sock->dgram, &out);
}

static bool is_ours(const struct wr_ip *ip, const struct wr_ifaddr *links, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (wr_ip_equal(&links[i].ip, ip))
            return true;
    return wr_ip_classify(ip) == WR_IP_LOOPBACK;
}

static bool move(struct wr_quic *q, struct wr_quic_conn *qc)
{
    struct wr_addr local = {0};
    if (!qc->conn.outbound || wr_env_source(q->env, &qc->conn.remote, &local.ip) != 0)
        return false;
    struct wr_quic_sock *sock = sock_for(q, &local.ip);
    if (!sock)
        return false;
    local.port = sock->at.port;
    return wr_quic_conn_move(qc, sock, &local);
}

void wr_quic_moved(struct wr_quic *q)
{
    struct wr_ifaddr links[WR_IFADDRS_MAX];
    size_t count = wr_env_ifaddrs(q->env, links, WR_IFADDRS_MAX);
    wr_list_each(it, &q->conns)
    {
        struct wr_quic_conn *qc = wr_list_entry(it, struct wr_quic_conn, all);
        if (qc->conn.state != WR_CONN_OPEN || is_ours(&qc->conn.local.ip, links, count))
            continue;
        if (!move(q, qc))
            wr_conn_close(&qc->conn, WR_CONN_OK);
    }
}

void wr_quic_set_lifetime(struct wr_quic *q, wr_time lifetime)
{
    if (q->lifetime == lifetime)
        return;
    q->lifetime = lifetime;
    wr_list_each(it, &q->conns)
    {
        struct wr_quic_conn *qc = wr_list_entry(it, struct wr_quic_conn, all);
        if (qc->conn.state != WR_CONN_OPEN || qc->over || qc->inside)
            continue;
        wr_quic_conn_keepalive(qc);
        wr_quic_conn_want_flush(qc);
    }
}

void wr_quic_set_cc(struct wr_quic *q, enum wr_quic_cc cc)
{
    q->cc = cc;
}

void wr_quic_retry_always(struct wr_quic *q, bool always)
{
    q->retry_always = always;
}

/* ---- life ---------------------------------------------------------------------------------------- */

/* The same after a restart: peers that still think they are connected must learn that they are not. */
static void derive(const struct wr_key *identity, const char *label, uint8_t out[static WR_QUIC_SECRET])
{
    crypto_auth_hmacsha256(out, (const unsigned char *)label, strlen(label), identity->secret);
}

struct wr_quic *wr_quic_create(struct wr_conn_ctx *ctx, const struct wr_quic_ops *ops, void *arg)
{
    static_assert(WR_ED25519_SECRET >= crypto_auth_hmacsha256_KEYBYTES, "the key is its first half");
    struct wr_quic *q = wr_alloc(sizeof(*q));
    if (!q || wr_quic_pool_init(&q->pool) != 0) {
        wr_free(q);
        return NULL;
    }
    q->ctx = ctx;
    q->env = ctx->env;
    q->ops = ops;
    q->arg = arg;
    wr_map_init(&q->ids, IDS_MAX, wr_env_hash_seed(ctx->env));
    wr_list_init(&q->conns);
    wr_list_init(&q->lingers);
    wr_list_init(&q->jammed);
    derive(ctx->identity, "warren quic stateless reset", q->reset_secret);
    derive(ctx->identity, "warren quic retry token", q->token_secret);
    wr_env_random(q->env, q->retry_secret, sizeof(q->retry_secret));
    return q;
}

static void dispose(struct wr_task *task)
{
    struct wr_quic *q = wr_list_entry(task, struct wr_quic, task);
    wr_map_clear(&q->ids);
    wr_quic_pool_clear(&q->pool);
    sodium_memzero(q, sizeof(*q));
    wr_free(q);
}

void wr_quic_destroy(struct wr_quic *q)
{
    if (!q)
        return;
    while (!wr_list_empty(&q->lingers))
        wr_quic_linger_free((struct wr_quic_linger *)(void *)q->lingers.next);
    for (size_t i = 0; i < q->sock_count; i++) {
        wr_task_cancel(&q->socks[i].task);
        if (q->socks[i].dgram)
            wr_dgram_close(q->socks[i].dgram);
        q->socks[i].dgram = NULL;
    }
    /* Behind the disposals of its connections, which still look at the table. */
    wr_env_dispose(q->env, &q->task, dispose);
}
