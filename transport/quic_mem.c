/* The memory of QUIC connections: what ngtcp2 allocates counts in the connection's account. */
#include "transport/quic_impl.h"

#include <assert.h>
#include <string.h>

#define OPENING_MAX (224 * 1024)       /* bytes that ngtcp2 may hold of a handshake; it needs 96 KiB; ours */
#define LOAN_MAX    (256 * 1024)       /* bytes beyond the account, for the rest of one call of ngtcp2's; ours */
#define SPARSE_MIN  (6 * 1024)         /* bytes of an allocation: a smaller one has pages in the heap as well */
#define SPARSE_MAX  (WR_SPARSE_BLOCK - sizeof(struct mem_head))
#define RESERVE_BLOCK WR_SPARSE_BLOCK  /* bytes: what a packet is noted down in takes no more */

enum kind { HEAP, SPARSE, RESERVED };

/* What stands before each allocation. */
struct mem_head {
    size_t whole; /* bytes, this head included */
    enum kind kind;
};
static_assert(sizeof(struct mem_head) == 16, "what follows is aligned");

int wr_quic_pool_init(struct wr_quic_pool *pool)
{
    wr_sparse_init(&pool->sparse);
    pool->reserve_count = 0;
    if (wr_quic_pool_fill(pool))
        return 0;
    wr_quic_pool_clear(pool);
    return WR_ELIMIT;
}

bool wr_quic_pool_fill(struct wr_quic_pool *pool)
{
    while (pool->reserve_count < WR_QUIC_RESERVE) {
        void *block = wr_realloc(NULL, RESERVE_BLOCK);
        if (!block)
            return false;
        pool->reserve[pool->reserve_count++] = block;
    }
    return true;
}

void wr_quic_pool_clear(struct wr_quic_pool *pool)
{
    wr_sparse_clear(&pool->sparse);
    while (pool->reserve_count > 0)
        wr_free(pool->reserve[--pool->reserve_count]);
}

static void mem_free(void *memory, void *user_data)
{
    struct wr_quic_mem *m = user_data;
    if (!memory)
        return;
    struct mem_head *head = (struct mem_head *)memory - 1;
    wr_account_give(&m->conn->memory, head->whole);
    if (head->kind == SPARSE)
        wr_sparse_give(&m->pool->sparse, head);
    else if (head->kind == RESERVED && m->pool->reserve_count < WR_QUIC_RESERVE)
        m->pool->reserve[m->pool->reserve_count++] = head;
    else
        wr_free(head);
}

/* Until its handshake is over, somebody whom nobody knows yet writes the list of what is missing of it. */
static bool may_hold(struct wr_conn *conn, size_t more)
{
    if (conn->state == WR_CONN_OPENING && conn->memory.held + more > OPENING_MAX)
        return false;
    return wr_account_take(&conn->memory, more);
}

static bool lend(struct wr_quic_mem *m, size_t more)
{
    if (more > LOAN_MAX - m->lent)
        return false;
    m->lent += more;
    m->ends = true;
    wr_account_charge(&m->conn->memory, more);
    return true;
}

static struct mem_head *take_reserve(struct wr_quic_mem *m, size_t whole)
{
    if (whole > RESERVE_BLOCK || m->pool->reserve_count == 0)
        return NULL;
    struct mem_head *head = m->pool->reserve[--m->pool->reserve_count];
    head->kind = RESERVED;
    m->ends = true;
    return head;
}

static void *mem_make(struct wr_quic_mem *m, size_t size, enum kind kind)
{
    size_t whole = size + sizeof(struct mem_head);
    if (whole < size || (!may_hold(m->conn, whole) && !lend(m, whole))) {
        m->ends = true;
        return NULL;
    }
    struct mem_head *head =
        kind == SPARSE ? wr_sparse_take(&m->pool->sparse) : wr_realloc(NULL, whole);
    if (head)
        head->kind = kind;
    else
        head = take_reserve(m, whole);
    if (!head) {
        wr_account_give(&m->conn->memory, whole);
        m->ends = true;
        return NULL;
    }
    head->whole = whole;
    return head + 1;
}

static void *mem_malloc(size_t size, void *user_data)
{
    return mem_make(user_data, size, size >= SPARSE_MIN && size <= SPARSE_MAX ? SPARSE : HEAP);
}

static void *mem_calloc(size_t count, size_t size, void *user_data)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    void *made = mem_make(user_data, count * size, HEAP);
    if (made)
        memset(made, 0, count * size);
    return made;
}

/* Seldom, and of what is small. */
static void *mem_realloc(void *memory, size_t size, void *user_data)
{
    void *made = mem_make(user_data, size, HEAP);
    if (made && memory) {
        size_t had = ((struct mem_head *)memory - 1)->whole - sizeof(struct mem_head);
        memcpy(made, memory, had < size ? had : size);
        mem_free(memory, user_data);
    }
    return made;
}

void wr_quic_mem_init(struct wr_quic_mem *m, struct wr_conn *conn, struct wr_quic_pool *pool)
{
    *m = (struct wr_quic_mem){{m, mem_malloc, mem_free, mem_calloc, mem_realloc}, conn, pool, 0, false};
}
