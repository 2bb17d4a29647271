#include "transport/sparse.h"

#include "transport/bytes.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>

#define SLOT        (12 * 1024)    /* bytes: a block and its head; whole pages of 4 KiB */
#define ARENA_SLOTS 64             /* blocks of an arena: bits of its map */
#define KEPT        4096           /* bytes of a free slot that stay: whoever takes it next touches them first */

struct arena {
    struct wr_list node;
    uint8_t *base;                 /* owned: ARENA_SLOTS slots */
    uint64_t free;                 /* one bit for each free slot */
};

/* What stands before a block. */
struct head {
    struct arena *arena;
    void *unused;                  /* keeps the block aligned */
};

static_assert(sizeof(struct head) + WR_SPARSE_BLOCK == SLOT, "a block and its head fill the slot");

void wr_sparse_init(struct wr_sparse *s)
{
    wr_list_init(&s->roomy);
    wr_list_init(&s->full);
    s->used = 0;
}

static void arena_free(struct arena *a)
{
    wr_list_remove(&a->node);
    munmap(a->base, (size_t)ARENA_SLOTS * SLOT);
    wr_free(a);
}

void wr_sparse_clear(struct wr_sparse *s)
{
    assert(s->used == 0);
    while (!wr_list_empty(&s->roomy))
        arena_free(wr_list_entry(s->roomy.next, struct arena, node));
}

#ifdef WR_SPARSE_PLAIN
/* Address sanitizers watch, and look for pointers in, only what malloc gave. */
void *wr_sparse_take(struct wr_sparse *s)
{
    void *block = wr_realloc(NULL, WR_SPARSE_BLOCK);
    s->used += block != NULL;
    return block;
}

void wr_sparse_give(struct wr_sparse *s, void *block)
{
    wr_free(block);
    s->used--;
}
#else
static struct arena *arena_create(struct wr_sparse *s)
{
    struct arena *a = wr_alloc(sizeof(*a));
    if (!a)
        return NULL;
    a->base = mmap(NULL, (size_t)ARENA_SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (a->base == MAP_FAILED) {
        wr_free(a);
        return NULL;
    }
    /* A huge page would be there as a whole at the first touch. Refused where the kernel has none: so be it. */
    madvise(a->base, (size_t)ARENA_SLOTS * SLOT, MADV_NOHUGEPAGE);
    a->free = UINT64_MAX;
    wr_list_append(&s->roomy, &a->node);
    return a;
}

void *wr_sparse_take(struct wr_sparse *s)
{
    struct arena *a =
        wr_list_empty(&s->roomy) ? arena_create(s) : wr_list_entry(s->roomy.next, struct arena, node);
    if (!a)
        return NULL;
    unsigned slot = (unsigned)__builtin_ctzll(a->free);
    a->free &= a->free - 1;
    if (a->free == 0) {
        wr_list_remove(&a->node);
        wr_list_append(&s->full, &a->node);
    }
    struct head *head = (struct head *)(void *)(a->base + (size_t)slot * SLOT);
    head->arena = a;
    s->used++;
    return head + 1;
}

void wr_sparse_give(struct wr_sparse *s, void *block)
{
    struct head *head = (struct head *)block - 1;
    struct arena *a = head->arena;
    size_t slot = (size_t)((uint8_t *)head - a->base) / SLOT;
    assert((uint8_t *)head == a->base + slot * SLOT && !(a->free >> slot & 1));
    madvise((uint8_t *)head + KEPT, SLOT - KEPT, MADV_DONTNEED);
    wr_list_remove(&a->node);
    wr_list_insert(s->roomy.next, &a->node);
    a->free |= UINT64_C(1) << slot;
    s->used--;
    /* One empty arena stays, or a single connection that comes and goes would map and unmap each time. */
    if (a->free == UINT64_MAX && s->roomy.next != s->roomy.prev)
        arena_free(a);
}
#endif
