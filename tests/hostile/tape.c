#include "tests/hostile/tape.h"

#include "tests/hostile/bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 64
#define FDS_MAX   1024
#define DIRS_MAX  8
#define NAME_LEN  64    /* bytes of a file name */

enum kind { WRITE, TRUNCATE, SYNC, CREATE, MKDIR, LINK, RENAME, UNLINK, DIR_SYNC, MARK };

struct op {
    enum kind kind;
    int file;
    bool dsync;
    uint64_t offset;    /* or length of TRUNCATE, number of MARK */
    struct wr_bytes data;    /* owned */
    char name[NAME_LEN], to[NAME_LEN];    /* below the recorded directory; of DIR_SYNC the directory, "" itself */
};

/* One recording per process: the C library's functions carry no argument to find another by. */
static struct {
    pthread_mutex_t lock;
    bool on;
    char dir[BENCH_PATH];
    struct op *ops;    /* owned */
    size_t count, cap;
    ino_t inodes[FILES_MAX];
    int files;
    struct {
        int file;    /* 0: not ours; -1: a directory; else file + 1 */
        bool dsync;
        char dir[NAME_LEN];
    } fds[FDS_MAX];
} tape = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- recording -------------------------------------------------------------------------------------- */

static struct op *add(enum kind kind)
{
    if (tape.count == tape.cap) {
        tape.cap = tape.cap ? tape.cap * 2 : 1024;
        tape.ops = wr_realloc(tape.ops, tape.cap * sizeof(*tape.ops));
        if (!tape.ops)
            abort();
    }
    struct op *op = &tape.ops[tape.count++];
    memset(op, 0, sizeof(*op));
    op->kind = kind;
    return op;
}

/* The name inside the recorded directory, or NULL. */
static const char *name_in_dir(const char *path)
{
    size_t len = strlen(tape.dir);
    if (!tape.on || strncmp(path, tape.dir, len) != 0 || path[len] != '/')
        return NULL;
    return path + len + 1;
}

static int file_of(int fd, bool *fresh)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    for (int i = 0; i < tape.files; i++)
        if (tape.inodes[i] == st.st_ino)
            return i;
    if (tape.files == FILES_MAX)
        abort();
    *fresh = true;
    tape.inodes[tape.files] = st.st_ino;
    return tape.files++;
}

/* An unlinked file's number may be used for another one, unless it has a name left. */
static void forget_inode(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0 || st.st_nlink > 1)
        return;
    for (int i = 0; i < tape.files; i++)
        if (tape.inodes[i] == st.st_ino)
            tape.inodes[i] = 0;
}

static void put_name(char out[static NAME_LEN], const char *name)
{
    if (snprintf(out, NAME_LEN, "%s", name) >= NAME_LEN)
        abort();
}

/* By its real name: who syncs a parent may say "..". */
static bool note_directory(int fd)
{
    char link[64], path[2 * BENCH_PATH];
    struct stat st;
    if (!tape.on || fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode))
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof(path) - 1);
    if (len < 0)
        abort();
    path[len] = 0;
    const char *name = name_in_dir(path);
    if (!name && strcmp(path, tape.dir) != 0)
        return true;
    tape.fds[fd].file = -1;
    put_name(tape.fds[fd].dir, name ? name : "");
    return true;
}

static void note_open(int fd, const char *path, int flags)
{
    bool fresh = false;
    if (fd < 0 || fd >= FDS_MAX)
        return;
    tape.fds[fd].file = 0;
    const char *name = note_directory(fd) ? NULL : name_in_dir(path);
    if (!name)
        return;
    int file = file_of(fd, &fresh);
    tape.fds[fd].file = file + 1;
    tape.fds[fd].dsync = (flags & O_DSYNC) != 0;
    if (fresh) {
        struct op *op = add(CREATE);
        op->file = file;
        put_name(op->name, name);
    }
}

static int recorded_file(int fd)
{
    return tape.on && fd >= 0 && fd < FDS_MAX && tape.fds[fd].file > 0 ? tape.fds[fd].file - 1 : -1;
}

static void note_write(int fd, uint64_t offset, const void *data, ssize_t len)
{
    int file = recorded_file(fd);
    if (file < 0 || len <= 0)
        return;
    struct op *op = add(WRITE);
    op->file = file;
    op->dsync = tape.fds[fd].dsync;
    op->offset = offset;
    op->data = WR_BYTES(wr_memdup(data, (size_t)len), (size_t)len);
    if (!op->data.ptr)
        abort();
}

static void note_sync(int fd)
{
    int file = recorded_file(fd);
    if (tape.on && fd >= 0 && fd < FDS_MAX && tape.fds[fd].file == -1)
        put_name(add(DIR_SYNC)->name, tape.fds[fd].dir);
    else if (file >= 0)
        add(SYNC)->file = file;
}

/* ---- the C library's functions ------------------------------------------------------------------------ */

#define EXPORTED __attribute__((visibility("default")))
/* The next definition behind ours; a union because ISO C has no cast from object to function. */
#define NEXT(result, name, ...)                                                                    \
    union {                                                                                        \
        void *object;                                                                              \
        result (*call)(__VA_ARGS__);                                                               \
    } next = {dlsym(RTLD_NEXT, name)}

EXPORTED int open(const char *path, int flags, ...)
{
    NEXT(int, "open", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    pthread_mutex_lock(&tape.lock);
    int fd = next.call(path, flags, mode);
    note_open(fd, path, flags);
    pthread_mutex_unlock(&tape.lock);
    return fd;
}

EXPORTED int close(int fd)
{
    NEXT(int, "close", int);
    pthread_mutex_lock(&tape.lock);
    if (fd >= 0 && fd < FDS_MAX)
        tape.fds[fd].file = 0;
    int rc = next.call(fd);
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    pthread_mutex_lock(&tape.lock);
    ssize_t rc = next.call(fd, data, len, offset);
    note_write(fd, (uint64_t)offset, data, rc);
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED ssize_t write(int fd, const void *data, size_t len)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    if (recorded_file(fd) < 0)
        return next.call(fd, data, len);
    pthread_mutex_lock(&tape.lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t rc = next.call(fd, data, len);
    note_write(fd, (uint64_t)offset, data, rc);
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED ssize_t writev(int fd, const struct iovec *parts, int count)
{
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    if (recorded_file(fd) < 0)
        return next.call(fd, parts, count);
    pthread_mutex_lock(&tape.lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t rc = next.call(fd, parts, count), left = rc;
    for (int i = 0; i < count && left > 0; i++) {
        ssize_t len = (ssize_t)parts[i].iov_len < left ? (ssize_t)parts[i].iov_len : left;
        note_write(fd, (uint64_t)offset, parts[i].iov_base, len);
        offset += len;
        left -= len;
    }
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

static int synced(int fd, int (*sync)(int))
{
    pthread_mutex_lock(&tape.lock);
    int rc = sync(fd);
    if (rc == 0)
        note_sync(fd);
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED int fsync(int fd)
{
    NEXT(int, "fsync", int);
    return synced(fd, next.call);
}

EXPORTED int fdatasync(int fd)
{
    NEXT(int, "fdatasync", int);
    return synced(fd, next.call);
}

EXPORTED int ftruncate(int fd, off_t len)
{
    NEXT(int, "ftruncate", int, off_t);
    pthread_mutex_lock(&tape.lock);
    int rc = next.call(fd, len), file = recorded_file(fd);
    if (rc == 0 && file >= 0) {
        struct op *op = add(TRUNCATE);
        op->file = file;
        op->offset = (uint64_t)len;
    }
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED int rename(const char *from, const char *to)
{
    NEXT(int, "rename", const char *, const char *);
    pthread_mutex_lock(&tape.lock);
    if (name_in_dir(to))
        forget_inode(to);
    int rc = next.call(from, to);
    if (rc == 0 && name_in_dir(from)) {
        struct op *op = add(RENAME);
        put_name(op->name, name_in_dir(from));
        put_name(op->to, name_in_dir(to));
    }
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED int link(const char *from, const char *to)
{
    NEXT(int, "link", const char *, const char *);
    pthread_mutex_lock(&tape.lock);
    int rc = next.call(from, to);
    if (rc == 0 && name_in_dir(from)) {
        struct op *op = add(LINK);
        put_name(op->name, name_in_dir(from));
        put_name(op->to, name_in_dir(to));
    }
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED int mkdir(const char *path, mode_t mode)
{
    NEXT(int, "mkdir", const char *, mode_t);
    pthread_mutex_lock(&tape.lock);
    int rc = next.call(path, mode);
    if (rc == 0 && name_in_dir(path))
        put_name(add(MKDIR)->name, name_in_dir(path));
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

EXPORTED int unlink(const char *path)
{
    NEXT(int, "unlink", const char *);
    pthread_mutex_lock(&tape.lock);
    if (name_in_dir(path))
        forget_inode(path);
    int rc = next.call(path);
    if (rc == 0 && name_in_dir(path)) {
        struct op *op = add(UNLINK);
        put_name(op->name, name_in_dir(path));
    }
    pthread_mutex_unlock(&tape.lock);
    return rc;
}

/* ---- control ------------------------------------------------------------------------------------------ */

void tape_start(const char *dir)
{
    pthread_mutex_lock(&tape.lock);
    snprintf(tape.dir, sizeof(tape.dir), "%s", dir);
    tape.on = true;
    pthread_mutex_unlock(&tape.lock);
}

void tape_stop(void)
{
    pthread_mutex_lock(&tape.lock);
    tape.on = false;
    memset(tape.fds, 0, sizeof(tape.fds));
    pthread_mutex_unlock(&tape.lock);
}

void tape_free(void)
{
    for (size_t i = 0; i < tape.count; i++) {
        union {
            const uint8_t *in;
            void *out;
        } ptr = {.in = tape.ops[i].data.ptr};
        wr_free(ptr.out);
    }
    wr_free(tape.ops);
    tape.ops = NULL;
    tape.count = tape.cap = 0;
    tape.files = 0;
}

void tape_mark(uint32_t number)
{
    pthread_mutex_lock(&tape.lock);
    add(MARK)->offset = number;
    pthread_mutex_unlock(&tape.lock);
}

size_t tape_length(void)
{
    return tape.count;
}

struct tape_counts tape_count(void)
{
    struct tape_counts c = {0};
    for (size_t i = 0; i < tape.count; i++) {
        const struct op *op = &tape.ops[i];
        c.writes += op->kind == WRITE && !op->dsync;
        c.dsync_writes += op->kind == WRITE && op->dsync;
        c.syncs += op->kind == SYNC;
        c.dir_syncs += op->kind == DIR_SYNC;
        c.renames += op->kind == RENAME;
    }
    return c;
}

/* ---- playing -------------------------------------------------------------------------------------------- */

struct image {
    struct wr_buf bytes;
    uint64_t written;    /* end of the last write, arrived or not */
};

struct player {
    uint64_t chance;
    bool *durable;    /* owned; of each operation */
    struct image files[FILES_MAX];
    struct {
        char name[NAME_LEN];
        int file;    /* -1: a directory */
    } names[FILES_MAX];
    int name_count;
    char cut[DIRS_MAX][NAME_LEN];    /* directories of which a name was lost, and with it all later ones */
    int cut_count;
};

static uint64_t draw(struct player *p, uint64_t below)
{
    uint64_t z = p->chance += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static bool names_op(const struct op *op)
{
    return op->kind == CREATE || op->kind == MKDIR || op->kind == LINK || op->kind == RENAME || op->kind == UNLINK;
}

/* Is the directory that the name stands in this one? */
static bool stands_in(const char *name, const char *dir)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;
    return strlen(dir) == len && strncmp(name, dir, len) == 0;
}

/* Which of the first `at` operations are durable for sure. */
static void find_durable(struct player *p, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        const struct op *op = &tape.ops[i];
        p->durable[i] = op->kind == WRITE && op->dsync;
        if (op->kind != SYNC && op->kind != DIR_SYNC)
            continue;
        for (size_t j = 0; j < i; j++) {
            const struct op *before = &tape.ops[j];
            bool data = (before->kind == WRITE || before->kind == TRUNCATE) && before->file == op->file;
            if (op->kind == SYNC ? data : names_op(before) && stands_in(before->name, op->name))
                p->durable[j] = true;
        }
    }
}

static void resize(struct image *f, uint64_t size)
{
    if (size < f->bytes.len) {
        f->bytes.len = (size_t)size;
        return;
    }
    size_t more = (size_t)size - f->bytes.len;
    uint8_t *room = wr_buf_reserve(&f->bytes, more);
    if (!room)
        abort();
    memset(room, 0, more);
    wr_buf_grew(&f->bytes, more);
}

static void arrive(struct image *f, uint64_t offset, struct wr_bytes data)
{
    if (f->bytes.len < offset + data.len)
        resize(f, offset + data.len);
    memcpy(f->bytes.data + offset, data.ptr, data.len);
}

/* A write that may have arrived in part. */
static void arrive_torn(struct player *p, struct image *f, const struct op *op)
{
    uint64_t how = draw(p, 3);    /* not, whole, in part */
    for (size_t done = 0; done < op->data.len && how;) {
        uint64_t offset = op->offset + done;
        size_t len = TAPE_SECTOR - offset % TAPE_SECTOR;
        if (len > op->data.len - done)
            len = op->data.len - done;
        if (how == 1 || draw(p, 2))
            arrive(f, offset, WR_BYTES(op->data.ptr + done, len));
        done += len;
    }
}

static void play_data(struct player *p, const struct op *op, bool durable)
{
    struct image *f = &p->files[op->file];
    if (op->kind == TRUNCATE && (durable || draw(p, 2)))
        resize(f, op->offset);
    if (op->kind != WRITE)
        return;
    if (durable)
        arrive(f, op->offset, op->data);
    else
        arrive_torn(p, f, op);
    if (f->written < op->offset + op->data.len)
        f->written = op->offset + op->data.len;
}

static int find_name(const struct player *p, const char *name)
{
    for (int i = 0; i < p->name_count; i++)
        if (strcmp(p->names[i].name, name) == 0)
            return i;
    return -1;
}

static void drop_name(struct player *p, const char *name)
{
    int i = find_name(p, name);
    if (i >= 0)
        p->names[i] = p->names[--p->name_count];
}

static void add_name(struct player *p, const char *name, int file)
{
    drop_name(p, name);
    if (p->name_count == FILES_MAX)
        abort();
    put_name(p->names[p->name_count].name, name);
    p->names[p->name_count++].file = file;
}

static void play_name(struct player *p, const struct op *op)
{
    int from = find_name(p, op->name);
    switch (op->kind) {
    case CREATE:
        add_name(p, op->name, op->file);
        return;
    case MKDIR:
        add_name(p, op->name, -1);
        return;
    case UNLINK:
        drop_name(p, op->name);
        return;
    default:
        break;
    }
    if (from < 0)
        abort();
    int file = p->names[from].file;
    if (op->kind == RENAME)
        drop_name(p, op->name);
    add_name(p, op->to, file);
}

/* Names of one directory arrive in order, up to some; directories do not wait for one another. */
static bool name_arrives(struct player *p, const struct op *op, bool sure)
{
    for (int i = 0; i < p->cut_count; i++)
        if (stands_in(op->name, p->cut[i]))
            return false;
    if (sure || draw(p, 4))
        return true;
    if (p->cut_count == DIRS_MAX)
        abort();
    const char *slash = strrchr(op->name, '/');
    snprintf(p->cut[p->cut_count++], NAME_LEN, "%.*s", slash ? (int)(slash - op->name) : 0, op->name);
    return false;
}

static bool has_parent(const struct player *p, const char *name)
{
    char parent[NAME_LEN];
    const char *slash = strrchr(name, '/');
    if (!slash)
        return true;
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - name), name);
    return find_name(p, parent) >= 0;
}

static void write_out(struct player *p, const char *dir)
{
    char path[2 * BENCH_PATH];
    for (int i = 0; i < p->name_count; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, p->names[i].name);
        if (p->names[i].file < 0 && mkdir(path, 0700) != 0)
            abort();
    }
    for (int i = 0; i < p->name_count; i++) {
        if (p->names[i].file < 0 || !has_parent(p, p->names[i].name))
            continue;
        struct image *f = &p->files[p->names[i].file];
        /* The size may have arrived without the bytes: zeros then. */
        if (f->written > f->bytes.len && draw(p, 2))
            resize(f, f->bytes.len + draw(p, f->written - f->bytes.len + 1));
        snprintf(path, sizeof(path), "%s/%s", dir, p->names[i].name);
        bench_write_file(path, wr_buf_bytes(&f->bytes));
    }
}

void tape_play(size_t at, uint64_t seed, const char *dir, uint32_t *marked)
{
    struct player *p = wr_alloc(sizeof(*p));
    bool *durable = wr_alloc(tape.count + 1);
    if (!p || !durable)
        abort();
    p->chance = seed;
    p->durable = durable;
    for (int i = 0; i < FILES_MAX; i++)
        wr_buf_init(&p->files[i].bytes, SIZE_MAX / 2);
    find_durable(p, at);
    *marked = 0;
    /* The operation under way when the power fails counts as a write that was not synced. */
    for (size_t i = 0; i < at + 1 && i < tape.count; i++) {
        const struct op *op = &tape.ops[i];
        bool sure = i < at && durable[i];
        if (op->kind == WRITE || op->kind == TRUNCATE)
            play_data(p, op, sure);
        if (names_op(op) && name_arrives(p, op, sure))
            play_name(p, op);
        if (op->kind == MARK && i < at)
            *marked = (uint32_t)op->offset;
    }
    write_out(p, dir);
    for (int i = 0; i < FILES_MAX; i++)
        wr_buf_clear(&p->files[i].bytes);
    wr_free(durable);
    wr_free(p);
}
