/* A connection that is over leaves its ids behind for a while: what the peer still has under way is not
 * taken for news, and is answered by the farewell again (RFC 9000 section 10.2). */
#include "transport/quic_impl.h"

#include <string.h>

struct wr_quic_linger {
    struct wr_list node;      /* first: wr_quic_destroy takes it from the list */
    struct wr_quic *q;
    struct wr_quic_sock *sock;
    struct wr_list ids;
    struct wr_timer timer;
    ngtcp2_path_storage path;
    unsigned heard;           /* packets since */
    size_t len;
    uint8_t farewell[];
};

void wr_quic_linger_free(struct wr_quic_linger *l)
{
    wr_timer_stop(l->q->env, &l->timer);
    wr_list_remove(&l->node);
    l->q->linger_count--;
    while (!wr_list_empty(&l->ids))
        wr_quic_id_free(l->q, wr_list_entry(l->ids.next, struct wr_quic_id, node));
    wr_quic_sock_use(&l->sock, NULL);
    wr_free(l);
}

static void on_over(struct wr_timer *timer)
{
    wr_quic_linger_free(wr_list_entry(timer, struct wr_quic_linger, timer));
}

void wr_quic_linger(struct wr_quic_conn *qc, const ngtcp2_path *path, const uint8_t *farewell, size_t len,
                    wr_time duration)
{
    struct wr_quic *q = qc->q;
    struct wr_quic_linger *l = wr_alloc(sizeof(*l) + len);
    if (!l)
        return;    /* its ids go with the connection */
    if (q->linger_count >= WR_QUIC_LINGERS_MAX)
        wr_quic_linger_free(wr_list_entry(q->lingers.next, struct wr_quic_linger, node));
    l->q = q;
    wr_quic_sock_use(&l->sock, qc->sock);
    l->len = len;
    if (len)
        memcpy(l->farewell, farewell, len);
    ngtcp2_path_storage_zero(&l->path);
    ngtcp2_path_copy(&l->path.path, path);
    wr_list_init(&l->ids);
    for (struct wr_list *it; (it = wr_list_pop(&qc->ids));) {
        struct wr_quic_id *id = wr_list_entry(it, struct wr_quic_id, node);
        id->conn = NULL;
        id->linger = l;
        wr_list_append(&l->ids, it);
    }
    wr_list_append(&q->lingers, &l->node);
    q->linger_count++;
    wr_timer_start(q->env, &l->timer, wr_env_now(q->env) + duration, on_over);
}

void wr_quic_linger_input(struct wr_quic_linger *l)
{
    l->heard++;
    /* Ever more rarely: the 1st, 2nd, 4th, 8th ... packet. */
    if (l->len && (l->heard & (l->heard - 1)) == 0)
        wr_quic_send(l->sock, &l->path.path, 0, l->farewell, l->len, l->len);
}
