#include "transport/sendq.h"

#include <assert.h>
#include <string.h>

#define CHUNK_MIN 512u    /* bytes of the smallest chunk, bookkeeping included */

struct wr_sendq_chunk {
    struct wr_sendq_chunk *next;
    uint32_t start, end, cap;    /* data[start..end) waits */
    uint8_t data[];
};

/* A chunk for len more bytes, in sizes that an allocator hands out again. */
static struct wr_sendq_chunk *add_chunk(struct wr_sendq *q, struct wr_account *account, size_t len)
{
    size_t size = CHUNK_MIN;
    while (size < WR_SENDQ_CHUNK && size - sizeof(struct wr_sendq_chunk) < len)
        size *= 2;
    if (!wr_account_take(account, size))
        return NULL;
    struct wr_sendq_chunk *c = wr_realloc(NULL, size);    /* not zeroed: it is about to be filled */
    if (!c) {
        wr_account_give(account, size);
        return NULL;
    }
    *c = (struct wr_sendq_chunk){.cap = (uint32_t)(size - sizeof(*c))};
    if (q->tail)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
    return c;
}

static void drop_head(struct wr_sendq *q, struct wr_account *account)
{
    struct wr_sendq_chunk *c = q->head;
    q->head = c->next;
    if (!q->head)
        q->tail = NULL;
    wr_account_give(account, c->cap + sizeof(*c));
    wr_free(c);
}

size_t wr_sendq_put(struct wr_sendq *q, struct wr_account *account, const uint8_t *data, size_t len)
{
    size_t done = 0;
    assert(!q->lent);
    while (done < len) {
        struct wr_sendq_chunk *c = q->tail;
        if (!c || c->end == c->cap)
            c = add_chunk(q, account, len - done);
        if (!c)
            break;
        uint32_t room = c->cap - c->end;
        uint32_t take = len - done < room ? (uint32_t)(len - done) : room;
        memcpy(c->data + c->end, data + done, take);
        c->end += take;
        done += take;
        q->len += take;
    }
    return done;
}

void wr_sendq_take(struct wr_sendq *q, struct wr_account *account, uint8_t *out, size_t len)
{
    assert(len <= q->len);
    while (len && q->head) {
        struct wr_sendq_chunk *c = q->head;
        uint32_t have = c->end - c->start;
        uint32_t take = len < have ? (uint32_t)len : have;
        memcpy(out, c->data + c->start, take);
        c->start += take;
        out += take;
        len -= take;
        q->len -= take;
        if (c->start == c->end)
            drop_head(q, account);
    }
    if (len) {
        memcpy(out, q->lent, len);
        q->lent += len;
        q->lent_len -= (uint32_t)len;
        q->len -= (uint32_t)len;
    }
}

void wr_sendq_lend(struct wr_sendq *q, const uint8_t *data, size_t len)
{
    assert(!q->lent && len <= UINT32_MAX - q->len);
    q->lent = data;
    q->lent_len = (uint32_t)len;
    q->len += (uint32_t)len;
}

struct wr_bytes wr_sendq_take_lent(struct wr_sendq *q, size_t len)
{
    if (q->head || !q->lent)
        return WR_BYTES_NONE;
    struct wr_bytes out = WR_BYTES(q->lent, len < q->lent_len ? len : q->lent_len);
    q->lent += out.len;
    q->lent_len -= (uint32_t)out.len;
    q->len -= (uint32_t)out.len;
    return out;
}

size_t wr_sendq_unlend(struct wr_sendq *q, const uint8_t *data)
{
    size_t taken = q->lent ? (size_t)(q->lent - data) : 0;
    q->len -= q->lent_len;
    q->lent = NULL;
    q->lent_len = 0;
    return taken;
}

void wr_sendq_clear(struct wr_sendq *q, struct wr_account *account)
{
    while (q->head)
        drop_head(q, account);
    q->len = q->lent_len = 0;
    q->lent = NULL;
}
