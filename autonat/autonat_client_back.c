#include "autonat/autonat_client_impl.h"

#include "transport/crowds.h"

#include <string.h>

#define BACKS_PER_CONN 2            /* dial-back streams on one connection at once; ours */
#define BACK_TIMEOUT   (5 * WR_SEC) /* for the nonce; go */
#define BACK_PATIENCE  (1 * WR_SEC) /* the same while others wait: it comes with the stream; ours */

/* One dial-back stream. */
struct back {
    struct wr_list node;
    struct wr_autonat_client *client;
    struct wr_msg msg;
    struct wr_conn *conn; /* as long as msg is open */
    wr_time since;
    struct wr_task task;
};

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct back, task));
}

static void end(struct back *b)
{
    wr_list_remove(&b->node);
    b->client->back_count--;
    wr_env_dispose(b->client->env, &b->task, dispose);
}

/* Does a connection prove that the address of the question leads here? It came in, over that transport
 * and family, to that very socket if the address is one, and not along the path that we opened
 * ourselves. */
static bool proves(const struct wr_autonat_client *c, const struct probe *p, const struct wr_conn *conn)
{
    struct wr_addr asked;
    const struct wr_addrbook *book = wr_swarm_addrbook(c->sw);
    if (conn->outbound || conn->circuit || conn->udp != p->udp ||
        !wr_maddr_addr(wr_maddr_bytes(&p->addr), &asked) || asked.ip.family != conn->remote.ip.family ||
        wr_addr_equal(&conn->remote, &p->via))
        return false;
    for (size_t i = 0; i < book->count; i++)
        if (book->of[i].source == WR_ADDR_LISTEN &&
            wr_bytes_equal(wr_maddr_bytes(&book->of[i].addr), wr_maddr_bytes(&p->addr)))
            return wr_addr_equal(&conn->local, &asked);
    return true;
}

static bool is_stranger(const struct wr_autonat_client *c, const struct probe *p,
                        const struct wr_conn *conn)
{
    if (wr_autonat_client_nat_hard(c, p->udp))
        return !wr_autonat_client_nat_talked(c, &p->addr, p->udp, &conn->remote.ip);
    return wr_contacts_stranger(&c->contacts, &conn->remote.ip, conn->udp, conn->id);
}

static struct probe *find(const struct wr_autonat_client *c, uint64_t nonce)
{
    for (const struct wr_list *it = c->probes.next; it != &c->probes; it = it->next) {
        struct probe *p = (struct probe *)((uintptr_t)it - offsetof(struct probe, node));
        if (!p->v1 && !p->arrived && p->nonce == nonce)
            return p;
    }
    return NULL;
}

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct back *b = wr_list_entry(m, struct back, msg);
    struct wr_autonat_client *c = b->client;
    uint64_t nonce;
    if (wr_autonat_msg_decode_back(body, &nonce) < 0) {
        wr_msg_reset(m, WR_STREAM_VIOLATION);
        end(b);
        return;
    }
    struct probe *p = find(c, nonce);
    if (p && proves(c, p, b->conn)) {
        p->arrived = true;
        p->stranger = is_stranger(c, p, b->conn);
        c->stats.dial_backs++;
        c->stats.strangers += p->stranger;
    } else {
        c->stats.strays++;
    }
    /* Status OK is zero, and that leaves an empty message. */
    (void)wr_msg_send(m, WR_BYTES_NONE);
    wr_msg_close(m);
    end(b);
}

static void on_close(struct wr_msg *m, int err)
{
    (void)err;
    end(wr_list_entry(m, struct back, msg));
}

/* All places are taken: whoever says nothing for longest makes room, if that is long, or if he is of a larger crowd than the
 * newcomer. Silent streams could keep away all that would tell us that we are reached. */
static bool take_place(struct wr_autonat_client *c, const struct wr_ip *newcomer)
{
    struct wr_crowds all;
    wr_time now = wr_env_now(c->env);
    if (c->back_count < WR_AUTONAT_CLIENT_BACKS)
        return true;
    wr_crowds_init(&all, wr_env_hash_seed(c->env));
    wr_list_each(it, &c->backs)
        wr_crowds_add(&all, &wr_list_entry(it, struct back, node)->conn->remote.ip);
    int larger = wr_crowds_larger(&all, newcomer);
    wr_list_each(it, &c->backs)
    {
        struct back *b = wr_list_entry(it, struct back, node);
        if ((int)wr_crowds_of(&all, &b->conn->remote.ip) != larger && now - b->since < BACK_PATIENCE)
            continue;
        wr_msg_reset(&b->msg, WR_STREAM_LIMIT);
        end(b);
        return true;
    }
    return false;
}

static void on_stream(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = on_message, .on_close = on_close};
    struct wr_autonat_client *c = arg;
    struct back *b = take_place(c, &wr_stream_conn(s)->remote.ip) ? wr_alloc(sizeof(*b)) : NULL;
    if (!b) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    b->client = c;
    b->conn = wr_stream_conn(s);
    b->since = wr_env_now(c->env);
    wr_list_append(&c->backs, &b->node);
    c->back_count++;
    wr_msg_start(&b->msg, c->env, s, WR_AUTONAT_BACK_MAX, &ops);
    wr_msg_deadline(&b->msg, wr_env_now(c->env) + BACK_TIMEOUT);
}

void wr_autonat_client_back_conn(struct wr_autonat_client *c, const struct wr_conn *conn)
{
    wr_list_each(it, &c->probes)
    {
        struct probe *p = wr_list_entry(it, struct probe, node);
        if (!p->v1 || p->arrived || !wr_ip_equal(&p->via.ip, &conn->remote.ip) || !proves(c, p, conn))
            continue;
        p->arrived = true;
        p->stranger = is_stranger(c, p, conn);
        c->stats.strangers += p->stranger;
    }
}

int wr_autonat_client_back_start(struct wr_autonat_client *c)
{
    struct wr_protocol p = {.on_stream = on_stream, .arg = c, .inbound_max = BACKS_PER_CONN};
    memcpy(p.name, WR_AUTONAT_BACK, sizeof(WR_AUTONAT_BACK));
    return wr_swarm_handle(c->sw, &p);
}

void wr_autonat_client_back_stop(struct wr_autonat_client *c)
{
    wr_swarm_unhandle(c->sw, WR_AUTONAT_BACK);
    while (!wr_list_empty(&c->backs)) {
        struct back *b = wr_list_entry(c->backs.next, struct back, node);
        wr_msg_reset(&b->msg, WR_STREAM_OK);
        end(b);
    }
}
