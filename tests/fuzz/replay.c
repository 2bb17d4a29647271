/* Runs a fuzz target without a fuzzer: fuzz_<name> CORPUS_DIR. Every seed, every truncation of it
 * and a few hundred changed copies, the same ones each time. Fails when there are no seeds: a
 * target that runs nothing would pass for ever. When an input ends the program, its number is
 * printed, and fuzz_<name> CORPUS_DIR NUMBER FILE writes that input to FILE. */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUTATIONS       400       /* changed copies of each seed */
#define TRUNCATIONS_MAX 4096      /* of each seed; a longer one is cut at every n-th byte */
#define INPUT_MAX       (1 << 20) /* bytes of a seed; a changed copy may grow beyond it */
#define SEEDS_MAX       4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct seed {
    char *path;
    uint8_t *data;
    size_t len;
};

struct replay {
    struct seed seeds[SEEDS_MAX];
    size_t count;
    uint64_t random;
    unsigned long wanted; /* number of the input to write, or 0 */
    const char *wanted_path;
};

/* The input under way, for the handler of the signal that ends the program. */
static volatile unsigned long current;
static const char *volatile current_seed;

static void report(void)
{
    char text[1024];
    int len = snprintf(text, sizeof(text), "input %lu, made from %s\n", current, current_seed);
    if (write(STDERR_FILENO, text, (size_t)len) < 0)
        _exit(1);
}

static void on_signal(int number)
{
    report();
    signal(number, SIG_DFL);
    raise(number);
}

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "replay: %s: %s\n", what, path);
    exit(1);
}

static uint64_t next_random(struct replay *r, uint64_t below)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return below ? (r->random >> 11) % below : 0;
}

static void run_input(struct replay *r, const struct seed *s, const uint8_t *data, size_t len)
{
    current_seed = s->path;
    current++;
    if (r->wanted && r->wanted != current)
        return;
    if (r->wanted) {
        FILE *f = fopen(r->wanted_path, "wb");
        if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0)
            fail("cannot write", r->wanted_path);
        exit(0);
    }
    /* A copy of exactly this size, so that the checkers see a read past the end. */
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        fail("no memory", s->path);
    memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static size_t remove_some(struct replay *r, uint8_t *data, size_t len)
{
    size_t at = next_random(r, len), count = 1 + next_random(r, len - at < 8 ? len - at : 8);
    memmove(data + at, data + at + count, len - at - count);
    return len - count;
}

/* Puts bytes of another seed (or of this one) in. */
static size_t insert_some(struct replay *r, uint8_t *data, size_t len)
{
    const struct seed *other = &r->seeds[next_random(r, r->count)];
    if (!other->len)
        return len;
    size_t from = next_random(r, other->len), at = next_random(r, len + 1);
    size_t count = 1 + next_random(r, other->len - from < 32 ? other->len - from : 32);
    memmove(data + at + count, data + at, len - at);
    memcpy(data + at, other->data + from, count);
    return len + count;
}

static size_t mutate_once(struct replay *r, uint8_t *data, size_t len)
{
    static const uint8_t telling[] = {0, 1, 2, 0x0a, 0x7f, 0x80, 0xfe, 0xff};
    size_t at = next_random(r, len);
    if (!len)
        return insert_some(r, data, len);
    switch (next_random(r, 5)) {
    case 0:
        data[at] ^= (uint8_t)(1 << next_random(r, 8));
        return len;
    case 1:
        data[at] = telling[next_random(r, sizeof(telling))];
        return len;
    case 2:
        data[at] = (uint8_t)next_random(r, 256);
        return len;
    case 3:
        return remove_some(r, data, len);
    default:
        return insert_some(r, data, len);
    }
}

static void run_seed(struct replay *r, const struct seed *s)
{
    enum { CHANGES_MAX = 6 };
    uint8_t *data = malloc(s->len + CHANGES_MAX * 32);
    if (!data)
        fail("no memory", s->path);
    run_input(r, s, s->data, s->len);
    size_t step = s->len / TRUNCATIONS_MAX + 1;
    for (size_t cut = 0; cut < s->len; cut += step)
        run_input(r, s, s->data, cut);
    for (int i = 0; i < MUTATIONS; i++) {
        size_t len = s->len;
        memcpy(data, s->data, len);
        for (uint64_t n = 1 + next_random(r, CHANGES_MAX); n; n--)
            len = mutate_once(r, data, len);
        run_input(r, s, data, len);
    }
    free(data);
}

static void load(struct seed *s, const char *dir, const char *name)
{
    size_t path_len = strlen(dir) + strlen(name) + 2;
    s->path = malloc(path_len);
    s->data = malloc(INPUT_MAX);
    if (!s->path || !s->data)
        fail("no memory", name);
    snprintf(s->path, path_len, "%s/%s", dir, name);
    FILE *f = fopen(s->path, "rb");
    if (!f)
        fail("cannot read", s->path);
    s->len = fread(s->data, 1, INPUT_MAX, f);
    if (ferror(f) || fgetc(f) != EOF)
        fail("cannot read, or too long", s->path);
    fclose(f);
    uint8_t *shorter = realloc(s->data, s->len ? s->len : 1);
    s->data = shorter ? shorter : s->data;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct seed *)a)->path, ((const struct seed *)b)->path);
}

static void load_all(struct replay *r, const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        fail("cannot open", dir);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        if (r->count == SEEDS_MAX)
            fail("too many seeds", dir);
        load(&r->seeds[r->count++], dir, e->d_name);
    }
    closedir(d);
    if (!r->count)
        fail("no seeds", dir);
    qsort(r->seeds, r->count, sizeof(r->seeds[0]), by_path);
}

static void watch_for_the_end(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(report);
        signal(SIGABRT, on_signal);
        return;
    }
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        signal(signals[i], on_signal);
}

int main(int argc, char **argv)
{
    static struct replay r = {.random = 0x9e3779b97f4a7c15};
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: %s CORPUS_DIR [NUMBER FILE]\n", argv[0]);
        return 2;
    }
    r.wanted = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    r.wanted_path = argc == 4 ? argv[3] : NULL;
    load_all(&r, argv[1]);
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    watch_for_the_end();
    for (size_t i = 0; i < r.count; i++)
        run_seed(&r, &r.seeds[i]);
    if (r.wanted)
        fail("no such input", argv[2]);
    printf("%zu seeds, %lu inputs\n", r.count, current);
    for (size_t i = 0; i < r.count; i++) {
        free(r.seeds[i].path);
        free(r.seeds[i].data);
    }
    return 0;
}
