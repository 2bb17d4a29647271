/* Preloaded into a program: makes chosen allocations of it fail, those of its libraries included, and
 * counts what is live. It is told what to do, and tells, through a file (ALLOC_FAULT) mapped by it and by
 * the test, so one process can go through thousands of failures, and what it told outlives a crash.
 * memory.py holds the other half of the layout below. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES    14
#define FAILURES  64         /* of the last arming, with their stacks */
#define BLOCKS    (1 << 15)  /* slots for live blocks, with their stacks */
#define TRACED    (1 << 14)  /* allocations since armed whose stack is told apart from others */
#define MAPS_SIZE 65536      /* bytes of /proc/self/maps */
#define OWN_DEPTH 3
#define EXPORT    __attribute__((visibility("default")))

struct block {
    uint64_t at;    /* address; 0: never used, 1: freed */
    uint64_t size, number;
    uint64_t stack[FRAMES];
};

struct board {
    /* Set by the test. */
    _Atomic uint64_t armed;      /* count and fail only while this is 1 */
    _Atomic uint64_t skip;       /* let so many pass since armed */
    _Atomic uint64_t count;      /* then fail so many */
    _Atomic uint64_t explain;    /* keep the stack of each live block: slow */
    /* Set here. */
    _Atomic uint64_t seen;       /* allocations while armed; the test sets it to 0 */
    _Atomic uint64_t failed;     /* of these; the test sets it to 0 */
    _Atomic uint64_t live;       /* blocks */
    _Atomic uint64_t lost;       /* live blocks without a slot */
    uint64_t failures[FAILURES][FRAMES];
    /* A hash of the stack of each; only with explain. Its lowest bit: the program's own code called, at
     * most OWN_DEPTH frames above, and not through a library. */
    uint64_t trace[TRACED];
    char maps[MAPS_SIZE];
    struct block blocks[BLOCKS];
};

static struct board *board;
static uint64_t own_start, own_end;    /* the program's code */
static _Thread_local bool inside __attribute__((tls_model("initial-exec")));
static atomic_flag lock = ATOMIC_FLAG_INIT;

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void (*free)(void *);
} real;

EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *realloc(void *old, size_t size);
EXPORT void *reallocarray(void *old, size_t count, size_t size);
EXPORT void *memalign(size_t align, size_t size);
EXPORT void *aligned_alloc(size_t align, size_t size);
EXPORT void *valloc(size_t size);
EXPORT void *pvalloc(size_t size);
EXPORT int posix_memalign(void **out, size_t align, size_t size);
EXPORT void free(void *memory);

static void find(void *out, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    memcpy(out, &found, sizeof(found));
}

/* The loader allocates before any constructor ran. */
static void find_all(void)
{
    if (real.free)
        return;
    find(&real.malloc, "malloc");
    find(&real.calloc, "calloc");
    find(&real.realloc, "realloc");
    find(&real.memalign, "memalign");
    find(&real.free, "free");
}

static int find_own(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X)) {
            own_start = info->dlpi_addr + p->p_vaddr;
            own_end = own_start + p->p_memsz;
        }
    }
    return 1;    /* the first is the program */
}

static void copy_maps(void)
{
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    for (ssize_t n = 1; fd >= 0 && n > 0 && len < MAPS_SIZE - 1; len += n > 0 ? (size_t)n : 0)
        n = read(fd, board->maps + len, MAPS_SIZE - 1 - len);
    if (fd >= 0)
        close(fd);
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("ALLOC_FAULT");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    inside = true;
    void *frames[FRAMES];
    (void)backtrace(frames, FRAMES);    /* its first call loads a library */
    inside = false;
    struct board *b = map;
    board = b;
    copy_maps();
    (void)dl_iterate_phdr(find_own, NULL);
}

__attribute__((noinline)) static void take_stack(uint64_t stack[FRAMES])
{
    void *frames[FRAMES + 3] = {0};
    inside = true;
    int count = backtrace(frames, FRAMES + 3);
    inside = false;
    for (int i = 0; i < FRAMES; i++)
        stack[i] = i + 3 <= count ? (uint64_t)(uintptr_t)frames[i + 3 - 1] : 0;
}

static void trace(uint64_t number)
{
    uint64_t stack[FRAMES], hash = 0;
    take_stack(stack);
    for (int i = 0; i < FRAMES; i++)
        hash = (hash ^ stack[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ hash >> 29;
    bool own = false;
    for (int i = 0; i <= OWN_DEPTH; i++)
        own = own || (stack[i] >= own_start && stack[i] < own_end);
    board->trace[number] = (hash & ~UINT64_C(1)) | own;
}

static bool fails(void)
{
    if (!board || inside || atomic_load(&board->armed) != 1)
        return false;
    uint64_t number = atomic_fetch_add(&board->seen, 1), skip = atomic_load(&board->skip);
    if (number < TRACED && atomic_load(&board->explain))
        trace(number);
    if (number < skip || number - skip >= atomic_load(&board->count))
        return false;
    uint64_t at = atomic_fetch_add(&board->failed, 1);
    if (at < FAILURES)
        take_stack(board->failures[at]);
    errno = ENOMEM;
    return true;
}

static size_t slot_of(const void *memory)
{
    return ((uintptr_t)memory >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 49;
}

static void note(void *memory, size_t size)
{
    struct block b = {.at = (uintptr_t)memory, .size = size, .number = atomic_load(&board->seen)};
    take_stack(b.stack);
    while (atomic_flag_test_and_set(&lock))
        ;
    size_t i = slot_of(memory), tried = 0;
    while (board->blocks[i].at > 1 && ++tried < BLOCKS)
        i = (i + 1) % BLOCKS;
    if (tried < BLOCKS)
        board->blocks[i] = b;
    else
        atomic_fetch_add(&board->lost, 1);
    atomic_flag_clear(&lock);
}

static void unnote(const void *memory)
{
    while (atomic_flag_test_and_set(&lock))
        ;
    size_t i = slot_of(memory), tried = 0;
    while (board->blocks[i].at && board->blocks[i].at != (uintptr_t)memory && ++tried < BLOCKS)
        i = (i + 1) % BLOCKS;
    if (board->blocks[i].at == (uintptr_t)memory)
        board->blocks[i].at = 1;
    atomic_flag_clear(&lock);
}

static void *born(void *memory, size_t size)
{
    if (!board || inside || !memory)
        return memory;
    atomic_fetch_add(&board->live, 1);
    if (atomic_load(&board->explain))
        note(memory, size);
    return memory;
}

static void dies(const void *memory)
{
    if (!board || inside || !memory)
        return;
    atomic_fetch_sub(&board->live, 1);
    if (atomic_load(&board->explain))
        unnote(memory);
}

void *malloc(size_t size)
{
    find_all();
    return fails() ? NULL : born(real.malloc(size), size);
}

void *calloc(size_t count, size_t size)
{
    find_all();
    return fails() ? NULL : born(real.calloc(count, size), count * size);
}

void *realloc(void *old, size_t size)
{
    find_all();
    if (fails())
        return NULL;
    dies(old);    /* before: another thread may get the address */
    void *memory = real.realloc(old, size);
    if (!memory && size)
        (void)born(old, size);
    return born(memory, size);
}

void *reallocarray(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(old, bytes);
}

void *memalign(size_t align, size_t size)
{
    find_all();
    return fails() ? NULL : born(real.memalign(align, size), size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

void *valloc(size_t size)
{
    return memalign((size_t)getpagesize(), size);
}

void *pvalloc(size_t size)
{
    size_t page = (size_t)getpagesize();
    return memalign(page, (size + page - 1) / page * page);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    int kept = errno;
    void *memory = memalign(align, size);
    errno = kept;
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void free(void *memory)
{
    find_all();
    dies(memory);
    real.free(memory);
}
