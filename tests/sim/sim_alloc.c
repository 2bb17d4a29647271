/* Allocations that fail. The program's own code allocates through bytes.c; the linker is told to send
 * its calls of malloc, calloc and realloc here. */
#include "tests/sim/sim_priv.h"

#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static uint64_t seen, first, past;    /* of this process: the allocator is one as well */
static unsigned inside;

void sim_alloc_fail(uint64_t skip, uint64_t count)
{
    seen = 0;
    first = skip;
    past = skip + count;
}

uint64_t sim_alloc_count(void)
{
    return seen;
}

void sim_alloc_enter(void)
{
    inside++;
}

void sim_alloc_leave(void)
{
    inside--;
}

static bool fails(void)
{
    if (!inside)
        return false;
    uint64_t number = seen++;
    return number >= first && number < past;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *sim_alloc_sure(void *old, size_t size)
{
    void *memory = __real_realloc(old, size);
    if (!memory)
        abort();
    return memory;
}
