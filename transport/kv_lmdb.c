/* kv_lmdb.c - the store's medium on a real machine: LMDB in a directory of its own.
 *
 *   lock               held (flock) by the process that has the store open; says which one, and after an
 *                      orderly close what the data file looked like
 *   store.mdb          the data; comes into being whole, by rename
 *   store.mdb.damaged  what wr_kvdisk_destroy put aside
 *
 * LMDB runs with its full synchronisation: a commit writes its pages, fdatasync, then one sector of meta
 * page through a descriptor opened O_DSYNC. LMDB only writes here, and on the worker alone, so it needs no
 * locks of its own; the loop reads by kvread.h. Before a commit the worker looks in the same way at every
 * page that LMDB is going to read through its map: they are sound, inside the file, and in memory. What is
 * left to chance is a file that is cut off or written over by somebody else in the very moment of a commit.
 */
#include "transport/kvdisk.h"

#include "transport/kv.h"
#include "transport/kvread.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CHECK_LEN   crypto_shorthash_BYTES    /* in front of each value */
#define RESERVE_MIN (128 * 1024)              /* bytes of size_max that puts leave to deletions */
#define NOTE_MAX    128                       /* bytes of the lock file */

_Static_assert(sizeof(size_t) == 8, "kvcheck.c knows the layout of LMDB's files on 64-bit machines");

struct wr_kvdisk {
    struct wr_env *env;
    char dir[PATH_MAX], data[PATH_MAX];    /* the directory; store.mdb in it */
    size_t size_max;
    int lock_fd;
    int fd;                      /* the data file, to read; -1: none */
    MDB_env *mdb;                /* owned; NULL after a reopening that failed */
    MDB_dbi dbi;
    struct wr_kvread reader;     /* the loop's cursor */
    struct wr_kvread ahead;      /* the worker's, before LMDB */
    pthread_mutex_t lock;        /* guards head */
    struct wr_kvcheck_result head;    /* of the newest commit */
    atomic_bool broken;          /* LMDB refuses writes until it is reopened */
    atomic_bool damaged;         /* it must not see the file again */
    bool reading;
};

/* ---- errors and small file matters ----------------------------------------------------------- */

static int from_errno(int err)
{
    switch (err) {
    case 0:
        return 0;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return WR_EFULL;
    case EACCES:
    case EPERM:
    case EROFS:
        return WR_EPERM;
    case ENOMEM:
        return WR_ELIMIT;
    case EMFILE:
    case ENFILE:
        return WR_ENOFD;
    default:
        return WR_EIO;
    }
}

static int from_mdb(int rc)
{
    switch (rc) {
    case MDB_NOTFOUND:
        return WR_ENOTFOUND;
    case MDB_MAP_FULL:
        return WR_EFULL;
    case MDB_TXN_FULL:
        return WR_ELIMIT;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return WR_ECORRUPT;
    default:
        return rc < 0 ? WR_EIO : from_errno(rc);
    }
}

static int join(char out[static PATH_MAX], const char *dir, const char *name)
{
    int len = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < PATH_MAX ? 0 : WR_EINVAL;
}

/* Makes renames and new names in a directory durable. */
static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return from_errno(errno);
    int err = fsync(fd) ? from_errno(errno) : 0;
    close(fd);
    return err;
}

static int sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return from_errno(errno);
    int err = fsync(fd) ? from_errno(errno) : 0;
    close(fd);
    return err;
}

static int make_dir(const char *dir)
{
    char above[PATH_MAX];
    if (mkdir(dir, 0700) == 0)
        return join(above, dir, "..") ? WR_EINVAL : sync_dir(above);
    return errno == EEXIST ? 0 : from_errno(errno);
}

static int remove_file(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? 0 : from_errno(errno);
}

/* ---- the lock file --------------------------------------------------------------------------- */

static void read_note(int fd, char note[static NOTE_MAX])
{
    ssize_t len = pread(fd, note, NOTE_MAX - 1, 0);
    note[len > 0 ? len : 0] = 0;
}

/* Best effort: what it says only informs people and saves time. */
static void write_note(int fd, const char *note)
{
    if (ftruncate(fd, 0) == 0 && pwrite(fd, note, strlen(note), 0) < 0)
        (void)ftruncate(fd, 0);
}

/* The lock dies with the process, however it ends. */
static int take_lock(struct wr_env *env, const char *dir, int *out)
{
    char path[PATH_MAX], note[NOTE_MAX];
    int err = join(path, dir, "lock");
    if (err)
        return err;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return from_errno(errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *out = fd;
        return 0;
    }
    err = errno == EWOULDBLOCK ? WR_EINUSE : from_errno(errno);
    read_note(fd, note);
    close(fd);
    if (err == WR_EINUSE)
        wr_log(wr_env_log(env), WR_LOG_ERROR, "kv", "store in use path=%s by=\"%s\"", dir, note);
    return err;
}

/* How the data file looks, in words: the same words mean that nobody touched it. */
static int describe(const char *data, uint64_t txnid, char out[static NOTE_MAX])
{
    struct stat st;
    if (stat(data, &st))
        return from_errno(errno);
    snprintf(out, NOTE_MAX, "closed commit=%" PRIu64 " size=%lld time=%lld.%09ld inode=%llu\n", txnid,
             (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
             (unsigned long long)st.st_ino);
    return 0;
}

/* ---- looking at the file before LMDB does ---------------------------------------------------- */

static int read_at(void *arg, uint64_t offset, uint8_t *out, size_t len)
{
    const int *fd = arg;
    while (len) {
        ssize_t got = pread(*fd, out, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        /* Sectors that the disk cannot read any more are as good as gone. */
        if (got <= 0)
            return got < 0 && errno != EIO ? from_errno(errno) : WR_ECORRUPT;
        out += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

/* The head always; everything unless the last process closed the store in order and nobody touched it
 * since. So a restart is quick, and whatever damage ended a process is found by the next one. */
static int check_file(struct wr_kvdisk *d)
{
    char note[NOTE_MAX], now[NOTE_MAX] = "";
    int fd = open(d->data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return from_errno(errno);
    struct stat st;
    int err = fstat(fd, &st) ? from_errno(errno) : 0;
    if (!err && !S_ISREG(st.st_mode))
        err = WR_ECORRUPT;
    struct wr_kvpage_file file = {read_at, &fd, (uint64_t)st.st_size};
    struct wr_kvcheck_result result = {.what = "not a file"};
    if (!err)
        err = wr_kvcheck_head(&file, &result);
    if (!err) {
        read_note(d->lock_fd, note);
        if (describe(d->data, result.txnid, now) || strcmp(note, now) != 0) {
            uint64_t most = (uint64_t)st.st_size + d->size_max;
            err = wr_kvcheck_all(&file, most / result.page_size, &result);
        }
    }
    close(fd);
    if (err == WR_ECORRUPT)
        wr_log(wr_env_log(d->env), WR_LOG_ERROR, "kv", "store damaged path=%s page=%llu what=\"%s\"",
               d->data, (unsigned long long)result.where, result.what ? result.what : "read");
    return err;
}

/* ---- opening LMDB ---------------------------------------------------------------------------- */

static int open_mdb(const char *path, size_t size_max, MDB_env **out)
{
    MDB_env *mdb;
    int rc = mdb_env_create(&mdb);
    if (rc)
        return from_mdb(rc);
    rc = mdb_env_set_mapsize(mdb, size_max & ~(size_t)(WR_KVPAGE_MAX - 1));
    if (!rc)
        rc = mdb_env_open(mdb, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK, 0600);
    if (rc) {
        mdb_env_close(mdb);
        return from_mdb(rc);
    }
    *out = mdb;
    return 0;
}

/* A new file is made under another name, committed to once, and renamed: store.mdb is never half made,
 * wherever the power fails. */
static int create_file(struct wr_kvdisk *d)
{
    char path[PATH_MAX];
    MDB_env *mdb;
    MDB_txn *txn;
    int err = join(path, d->dir, "store.mdb.new");
    if (!err)
        err = remove_file(path);
    if (!err)
        err = open_mdb(path, d->size_max, &mdb);
    if (err)
        return err;
    int rc = mdb_txn_begin(mdb, NULL, 0, &txn);
    if (!rc)
        rc = mdb_txn_commit(txn);
    mdb_env_close(mdb);
    err = from_mdb(rc);
    if (!err)
        err = sync_file(path);
    if (!err && rename(path, d->data))
        err = from_errno(errno);
    return err ? err : sync_dir(d->dir);
}

/* The size is asked for each time: it is what may have changed. */
static int file_now(struct wr_kvdisk *d, struct wr_kvpage_file *file)
{
    struct stat st;
    if (fstat(d->fd, &st))
        return from_errno(errno);
    *file = (struct wr_kvpage_file){read_at, &d->fd, (uint64_t)st.st_size};
    return st.st_nlink == 0 ? WR_ECORRUPT : 0;
}

static void publish(struct wr_kvdisk *d, const struct wr_kvcheck_result *head)
{
    pthread_mutex_lock(&d->lock);
    d->head = *head;
    pthread_mutex_unlock(&d->lock);
}

static struct wr_kvcheck_result published(struct wr_kvdisk *d)
{
    pthread_mutex_lock(&d->lock);
    struct wr_kvcheck_result head = d->head;
    pthread_mutex_unlock(&d->lock);
    return head;
}

static int read_head(struct wr_kvdisk *d)
{
    struct wr_kvpage_file file;
    struct wr_kvcheck_result head;
    int err = file_now(d, &file);
    if (!err)
        err = wr_kvcheck_head(&file, &head);
    if (!err)
        publish(d, &head);
    return err;
}

/* The number of the unnamed database, which is always there. */
static int open_dbi(struct wr_kvdisk *d)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(d->mdb, NULL, MDB_RDONLY, &txn);
    if (rc)
        return from_mdb(rc);
    rc = mdb_dbi_open(txn, NULL, 0, &d->dbi);
    mdb_txn_abort(txn);
    return from_mdb(rc);
}

static void detach(struct wr_kvdisk *d)
{
    if (d->mdb)
        mdb_env_close(d->mdb);
    if (d->fd >= 0)
        close(d->fd);
    d->mdb = NULL;
    d->fd = -1;
}

static int attach(struct wr_kvdisk *d)
{
    d->fd = open(d->data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int err = d->fd < 0 ? from_errno(errno) : read_head(d);
    if (!err)
        err = open_mdb(d->data, d->size_max, &d->mdb);
    if (!err)
        err = open_dbi(d);
    if (err)
        detach(d);
    return err;
}

static int open_locked(struct wr_kvdisk *d)
{
    char note[NOTE_MAX];
    struct stat st;
    int err = 0;
    if (lstat(d->data, &st) == 0)
        err = check_file(d);
    else
        err = errno == ENOENT ? create_file(d) : from_errno(errno);
    if (err)
        return err;
    snprintf(note, sizeof(note), "open pid=%ld\n", (long)getpid());
    write_note(d->lock_fd, note);
    return attach(d);
}

int wr_kvdisk_open(struct wr_env *env, const char *path, size_t size_max, struct wr_kvdisk **out)
{
    struct wr_kvdisk *d = wr_alloc(sizeof(*d));
    if (!d)
        return WR_ELIMIT;
    d->env = env;
    d->size_max = size_max;
    d->fd = -1;
    int err = strlen(path) < sizeof(d->dir) ? join(d->data, path, "store.mdb") : WR_EINVAL;
    if (!err) {
        strcpy(d->dir, path);
        err = make_dir(path);
    }
    if (!err)
        err = take_lock(env, path, &d->lock_fd);
    if (err) {
        wr_free(d);
        return err;
    }
    pthread_mutex_init(&d->lock, NULL);
    err = open_locked(d);
    if (err) {
        pthread_mutex_destroy(&d->lock);
        close(d->lock_fd);
        wr_free(d);
        return err;
    }
    *out = d;
    return 0;
}

void wr_kvdisk_close(struct wr_kvdisk *d)
{
    char note[NOTE_MAX];
    bool whole = d->mdb && !atomic_load(&d->broken) && !atomic_load(&d->damaged);
    detach(d);
    if (whole && describe(d->data, d->head.txnid, note) == 0)
        write_note(d->lock_fd, note);
    close(d->lock_fd);
    wr_kvread_clear(&d->reader);
    wr_kvread_clear(&d->ahead);
    pthread_mutex_destroy(&d->lock);
    wr_free(d);
}

/* The damaged file keeps what it has for whoever wants to look; of an earlier time replaced. */
static int put_aside(const char *dir, const char *data)
{
    char aside[PATH_MAX];
    int err = join(aside, dir, "store.mdb.damaged");
    if (!err && rename(data, aside) && errno != ENOENT)
        err = from_errno(errno);
    return err;
}

bool wr_kvdisk_damaged(const struct wr_kvdisk *d)
{
    return atomic_load(&d->damaged);
}

int wr_kvdisk_mend(struct wr_kvdisk *d)
{
    bool anew = atomic_load(&d->damaged);
    if (!anew && !atomic_load(&d->broken))
        return 0;
    detach(d);
    int err = anew ? make_dir(d->dir) : 0;
    if (!err && anew)
        err = put_aside(d->dir, d->data);
    if (!err && anew)
        err = create_file(d);
    if (!err)
        err = attach(d);
    if (err)
        return err;
    atomic_store(&d->broken, false);
    atomic_store(&d->damaged, false);
    return anew;
}

int wr_kvdisk_destroy(struct wr_env *env, const char *path)
{
    /* The first two are of versions that let LMDB lock. */
    static const char *const scraps[] = {"store.mdb-lock", "store.mdb.new-lock", "store.mdb.new"};
    char data[PATH_MAX], scrap[PATH_MAX];
    struct stat st;
    int lock;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : from_errno(errno);
    int err = join(data, path, "store.mdb");
    if (!err)
        err = take_lock(env, path, &lock);
    if (err)
        return err;
    err = put_aside(path, data);
    for (size_t i = 0; i < sizeof(scraps) / sizeof(scraps[0]) && !err; i++) {
        err = join(scrap, path, scraps[i]);
        if (!err)
            err = remove_file(scrap);
    }
    if (!err)
        err = sync_dir(path);
    close(lock);
    return err;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* SipHash over the key, then over the value keyed with the first result: a value that is torn, or stands
 * under another key, does not pass. The constant names the format. Not a secret. */
static void checksum(struct wr_bytes key, const uint8_t *value, size_t len, uint8_t out[static CHECK_LEN])
{
    uint8_t k[crypto_shorthash_KEYBYTES] = "warren store v1";
    uint8_t first[CHECK_LEN];
    crypto_shorthash(first, key.ptr, key.len, k);
    memcpy(k, first, sizeof(first));
    crypto_shorthash(out, value, len, k);
}

/* The value without its checksum; false when that does not agree. */
static bool open_value(struct wr_bytes key, struct wr_bytes stored, struct wr_bytes *value)
{
    uint8_t sum[CHECK_LEN];
    if (stored.len < CHECK_LEN)
        return false;
    *value = WR_BYTES(stored.ptr + CHECK_LEN, stored.len - CHECK_LEN);
    checksum(key, value->ptr, value->len, sum);
    return memcmp(sum, stored.ptr, CHECK_LEN) == 0;
}

static MDB_val mdb_bytes(struct wr_bytes b)
{
    union {
        const uint8_t *in;
        void *out;    /* LMDB has no const; keys are only read */
    } ptr = {.in = b.ptr};
    return (MDB_val){b.len, ptr.out};
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Nobody reads or writes it any more until it is mended. */
static int give_up(struct wr_kvdisk *d, const struct wr_kvread *r)
{
    if (!atomic_exchange(&d->damaged, true))
        wr_log(wr_env_log(d->env), WR_LOG_ERROR, "kv", "store damaged path=%s page=%llu what=\"%s\"", d->data,
               (unsigned long long)r->where, r->what ? r->what : "the file is gone");
    return WR_ECORRUPT;
}

static int begin(struct wr_kvdisk *d, struct wr_kvread *r)
{
    struct wr_kvpage_file file;
    struct wr_kvcheck_result head = published(d);
    if (atomic_load(&d->damaged))
        return WR_ECORRUPT;
    if (!d->mdb)
        return WR_EIO;
    r->what = NULL;
    int err = file_now(d, &file);
    if (!err)
        err = wr_kvread_open(r, &file, &head);
    return err == WR_ECORRUPT ? give_up(d, r) : err;
}

static void warn_damaged(struct wr_kvdisk *d, struct wr_bytes key)
{
    wr_log(wr_env_log(d->env), WR_LOG_WARN, "kv", "value damaged path=%s key_len=%zu", d->data, key.len);
}

int wr_kvdisk_get(struct wr_kvdisk *d, struct wr_bytes key, struct wr_buf *out)
{
    struct wr_bytes found, stored, value;
    assert(!d->reading);
    int rc = begin(d, &d->reader);
    if (rc)
        return rc;
    rc = wr_kvread_seek(&d->reader, key, false, &found, &stored);
    if (rc < 0)
        return rc == WR_ECORRUPT ? give_up(d, &d->reader) : rc;
    if (rc == 0 || !wr_bytes_equal(found, key))
        return WR_ENOTFOUND;
    if (!open_value(key, stored, &value)) {
        warn_damaged(d, key);
        return WR_ECORRUPT;
    }
    wr_buf_put_bytes(out, value);
    return out->full ? WR_ELIMIT : 0;
}

static int walked(struct wr_kvdisk *d, int rc, struct wr_bytes stored, struct wr_kvdisk_record *record)
{
    if (rc <= 0)
        return rc == WR_ECORRUPT ? give_up(d, &d->reader) : rc;
    record->damaged = !open_value(record->key, stored, &record->value);
    if (record->damaged) {
        record->value = WR_BYTES_NONE;
        warn_damaged(d, record->key);
    }
    return 1;
}

int wr_kvdisk_seek(struct wr_kvdisk *d, struct wr_bytes key, bool after,
                   struct wr_kvdisk_record *record)
{
    struct wr_bytes stored;
    assert(!d->reading);
    int err = begin(d, &d->reader);
    if (err)
        return err;
    d->reading = true;
    return walked(d, wr_kvread_seek(&d->reader, key, after, &record->key, &stored), stored, record);
}

int wr_kvdisk_next(struct wr_kvdisk *d, struct wr_kvdisk_record *record)
{
    struct wr_bytes stored;
    return walked(d, wr_kvread_next(&d->reader, &record->key, &stored), stored, record);
}

void wr_kvdisk_done(struct wr_kvdisk *d)
{
    d->reading = false;
}

/* ---- committing: on the worker --------------------------------------------------------------- */

static int put_entry(struct wr_kvdisk *d, MDB_txn *txn, const struct wr_kvtree_entry *e)
{
    MDB_val key = mdb_bytes(e->key);
    if (e->tombstone) {
        int rc = mdb_del(txn, d->dbi, &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    MDB_val stored = {CHECK_LEN + e->value.len, NULL};
    int rc = mdb_put(txn, d->dbi, &key, &stored, MDB_RESERVE);
    if (rc)
        return rc;
    uint8_t *bytes = stored.mv_data;
    checksum(e->key, e->value.ptr, e->value.len, bytes);
    if (e->value.len)
        memcpy(bytes + CHECK_LEN, e->value.ptr, e->value.len);
    return 0;
}

/* Puts stop short of size_max, so that deletions, which also need pages, still go through. */
static bool past_reserve(struct wr_kvdisk *d, MDB_txn *txn)
{
    MDB_stat s;
    size_t reserve = d->size_max / 8 > RESERVE_MIN ? d->size_max / 8 : RESERVE_MIN;
    if (mdb_stat(txn, d->dbi, &s))
        return false;
    return (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) * s.ms_psize >
           d->size_max - reserve;
}

static int apply(struct wr_kvdisk *d, MDB_txn *txn, const struct wr_kvtree *batch, bool deletes_only)
{
    bool puts = false;
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    for (; e; e = wr_kvtree_next(e)) {
        if (deletes_only && !e->tombstone)
            continue;
        int rc = put_entry(d, txn, e);
        if (rc)
            return rc;
        puts = puts || !e->tombstone;
    }
    return puts && past_reserve(d, txn) ? MDB_MAP_FULL : 0;
}

/* LMDB says EIO for a write that came up short, which is how a full disk or a file-size limit first
 * shows. */
static bool out_of_space(const struct wr_kvdisk *d)
{
    struct statvfs fs;
    struct rlimit limit;
    struct stat st;
    if (statvfs(d->dir, &fs) == 0 && fs.f_bavail * fs.f_frsize < RESERVE_MIN)
        return true;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           stat(d->data, &st) == 0 && (uint64_t)st.st_size + RESERVE_MIN > limit.rlim_cur;
}

/* Every page that LMDB will read for this batch: the metas and the free list whole, then what lies on the
 * way. */
static int look_ahead(struct wr_kvdisk *d, const struct wr_kvtree *batch)
{
    struct wr_kvread *r = &d->ahead;
    struct wr_kvcheck_result now;
    int err = begin(d, r);
    if (err)
        return err;
    err = wr_kvcheck_free(&r->file, (r->file.size + d->size_max) / r->head.page_size, &now);
    if (!err && (now.txnid != r->head.txnid || now.root != r->head.root)) {
        now.what = "somebody else wrote to it";
        err = WR_ECORRUPT;
    }
    if (err) {
        r->what = now.what ? now.what : "head cannot be read";
        r->where = now.where;
    }
    uint8_t *seen = err ? NULL : wr_alloc((size_t)(r->head.pages / 8 + 1));
    if (!err && !seen)
        err = WR_ELIMIT;
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    for (; e && !err; e = wr_kvtree_next(e))
        err = wr_kvread_touch(r, e->key, e->tombstone, seen);
    wr_free(seen);
    return err == WR_ECORRUPT ? give_up(d, r) : err;
}

static int write_batch(struct wr_kvdisk *d, const struct wr_kvtree *batch, bool deletes_only)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(d->mdb, NULL, 0, &txn);
    if (rc) {
        if (rc == MDB_PANIC)
            atomic_store(&d->broken, true);
        return rc;
    }
    rc = apply(d, txn, batch, deletes_only);
    if (!rc)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

int wr_kvdisk_commit(struct wr_kvdisk *d, const struct wr_kvtree *batch, bool deletes_only)
{
    int err = look_ahead(d, batch);
    if (err)
        return err;
    int rc = write_batch(d, batch, deletes_only);
    err = rc == EIO && out_of_space(d) ? WR_EFULL : from_mdb(rc);
    if (!err)
        err = read_head(d);
    d->ahead.what = "refused by its own library";
    return err == WR_ECORRUPT ? give_up(d, &d->ahead) : err;
}
