/* kv_lmdb.c - the store's medium on a real machine: LMDB in a directory of its own.
 *
 *   lock               held (flock) by the process that has the store open; says which one, and after an
 *                      orderly close what the data file looked like
 *   store.mdb          the data; comes into being whole, by rename
 *   store.mdb-lock     LMDB's reader table, made anew at each open: only we are here
 *   store.mdb.damaged  what wr_kvdisk_destroy put aside
 *
 * LMDB runs with its full synchronisation: a commit writes its pages, fdatasync, then one sector of meta
 * page through a descriptor opened O_DSYNC. Only the worker begins write transactions; the loop owns one
 * read transaction, renewed for a call and reset before it returns, so that no old page is held. */
#include "transport/kvdisk.h"

#include "transport/kv.h"
#include "transport/kvcheck.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <lmdb.h>
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
#define READERS_MAX 2                         /* slots: the loop's, and one to spare */
#define RESERVE_MIN (128 * 1024)              /* bytes of size_max that puts leave to deletions */
#define NOTE_MAX    128                       /* bytes of the lock file */

_Static_assert(sizeof(size_t) == 8, "kvcheck.c knows the layout of LMDB's files on 64-bit machines");

struct wr_kvdisk {
    struct wr_env *env;
    char dir[PATH_MAX], data[PATH_MAX];    /* the directory; store.mdb in it */
    size_t size_max;
    int lock_fd;
    MDB_env *mdb;            /* owned; NULL after a reopening that failed */
    MDB_dbi dbi;
    MDB_txn *reader;         /* owned; reset between calls */
    MDB_cursor *cursor;      /* owned; of reader */
    atomic_bool broken;      /* LMDB refuses writes until it is reopened */
    bool reading;
};

/* ---- errors and small file matters --------------------------------------------------------------- */

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

/* ---- the lock file --------------------------------------------------------------------------------- */

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

/* ---- looking at the file before LMDB does ------------------------------------------------------------ */

static int read_at(void *arg, uint64_t offset, uint8_t *out, size_t len)
{
    const int *fd = arg;
    while (len) {
        ssize_t got = pread(*fd, out, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? from_errno(errno) : WR_ECORRUPT;
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
    struct wr_kvcheck_file file = {read_at, &fd, (uint64_t)st.st_size};
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

/* ---- opening LMDB -------------------------------------------------------------------------------------- */

static int open_mdb(const char *path, size_t size_max, MDB_env **out)
{
    MDB_env *mdb;
    int rc = mdb_env_create(&mdb);
    if (rc)
        return from_mdb(rc);
    rc = mdb_env_set_mapsize(mdb, size_max & ~(size_t)(WR_KVCHECK_PAGE_MAX - 1));
    if (!rc)
        rc = mdb_env_set_maxreaders(mdb, READERS_MAX);
    if (!rc)
        rc = mdb_env_open(mdb, path, MDB_NOSUBDIR | MDB_NOTLS, 0600);
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
    char path[PATH_MAX], lock[PATH_MAX];
    MDB_env *mdb;
    MDB_txn *txn;
    int err = join(path, d->dir, "store.mdb.new");
    if (!err)
        err = join(lock, d->dir, "store.mdb.new-lock");
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
    remove_file(lock);
    return err ? err : sync_dir(d->dir);
}

/* The read transaction lives as long as the environment; reset, it holds nothing. */
static int start_reader(struct wr_kvdisk *d)
{
    int rc = mdb_txn_begin(d->mdb, NULL, MDB_RDONLY, &d->reader);
    if (rc)
        return from_mdb(rc);
    rc = mdb_dbi_open(d->reader, NULL, 0, &d->dbi);
    if (!rc)
        rc = mdb_cursor_open(d->reader, d->dbi, &d->cursor);
    mdb_txn_reset(d->reader);
    return from_mdb(rc);
}

static void detach(struct wr_kvdisk *d)
{
    if (d->cursor)
        mdb_cursor_close(d->cursor);
    if (d->reader)
        mdb_txn_abort(d->reader);
    if (d->mdb)
        mdb_env_close(d->mdb);
    d->cursor = NULL;
    d->reader = NULL;
    d->mdb = NULL;
}

static int attach(struct wr_kvdisk *d)
{
    char table[PATH_MAX];
    int err = join(table, d->dir, "store.mdb-lock");
    if (!err)
        err = remove_file(table);
    if (!err)
        err = open_mdb(d->data, d->size_max, &d->mdb);
    if (!err)
        err = start_reader(d);
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
    err = open_locked(d);
    if (err) {
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
    MDB_envinfo info;
    bool whole = d->mdb && mdb_env_info(d->mdb, &info) == 0 && !atomic_load(&d->broken);
    detach(d);
    if (whole && describe(d->data, info.me_last_txnid, note) == 0)
        write_note(d->lock_fd, note);
    close(d->lock_fd);
    wr_free(d);
}

int wr_kvdisk_mend(struct wr_kvdisk *d)
{
    if (!atomic_load(&d->broken))
        return 0;
    detach(d);
    int err = attach(d);
    if (!err)
        atomic_store(&d->broken, false);
    return err;
}

int wr_kvdisk_destroy(struct wr_env *env, const char *path)
{
    static const char *const scraps[] = {"store.mdb-lock", "store.mdb.new", "store.mdb.new-lock"};
    char data[PATH_MAX], aside[PATH_MAX], scrap[PATH_MAX];
    struct stat st;
    int lock;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : from_errno(errno);
    int err = join(data, path, "store.mdb");
    if (!err)
        err = join(aside, path, "store.mdb.damaged");
    if (!err)
        err = take_lock(env, path, &lock);
    if (err)
        return err;
    if (rename(data, aside) && errno != ENOENT)
        err = from_errno(errno);
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

/* ---- values ----------------------------------------------------------------------------------------------- */

/* SipHash over the key, then over the value keyed with the first result: a value that is torn, or stands
 * under another key, does not pass. The constant names the format. Not a secret. */
static void checksum(MDB_val key, const uint8_t *value, size_t len, uint8_t out[static CHECK_LEN])
{
    uint8_t k[crypto_shorthash_KEYBYTES] = "warren store v1";
    uint8_t first[CHECK_LEN];
    crypto_shorthash(first, key.mv_data, key.mv_size, k);
    memcpy(k, first, sizeof(first));
    crypto_shorthash(out, value, len, k);
}

/* The value without its checksum; false when that does not agree. */
static bool open_value(MDB_val key, MDB_val stored, struct wr_bytes *value)
{
    uint8_t sum[CHECK_LEN];
    const uint8_t *bytes = stored.mv_data;
    if (stored.mv_size < CHECK_LEN)
        return false;
    *value = WR_BYTES(bytes + CHECK_LEN, stored.mv_size - CHECK_LEN);
    checksum(key, value->ptr, value->len, sum);
    return memcmp(sum, bytes, CHECK_LEN) == 0;
}

static MDB_val mdb_bytes(struct wr_bytes b)
{
    union {
        const uint8_t *in;
        void *out;    /* LMDB has no const; keys are only read */
    } ptr = {.in = b.ptr};
    return (MDB_val){b.len, ptr.out};
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static int begin_read(struct wr_kvdisk *d)
{
    assert(!d->reading);
    if (!d->mdb)
        return WR_EIO;
    int rc = mdb_txn_renew(d->reader);
    d->reading = rc == 0;
    return from_mdb(rc);
}

static void end_read(struct wr_kvdisk *d)
{
    if (d->reading)
        mdb_txn_reset(d->reader);
    d->reading = false;
}

static void warn_damaged(struct wr_kvdisk *d, struct wr_bytes key)
{
    wr_log(wr_env_log(d->env), WR_LOG_WARN, "kv", "value damaged path=%s key_len=%zu", d->data, key.len);
}

int wr_kvdisk_get(struct wr_kvdisk *d, struct wr_bytes key, struct wr_buf *out)
{
    MDB_val k = mdb_bytes(key), stored;
    struct wr_bytes value;
    int err = begin_read(d);
    if (!err)
        err = from_mdb(mdb_get(d->reader, d->dbi, &k, &stored));
    if (!err && !open_value(k, stored, &value)) {
        warn_damaged(d, key);
        err = WR_ECORRUPT;
    }
    if (!err) {
        wr_buf_put_bytes(out, value);
        err = out->full ? WR_ELIMIT : 0;
    }
    end_read(d);
    return err;
}

static int walked(struct wr_kvdisk *d, int rc, MDB_val key, MDB_val stored,
                  struct wr_kvdisk_record *record)
{
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : from_mdb(rc);
    record->key = WR_BYTES(key.mv_data, key.mv_size);
    record->damaged = !open_value(key, stored, &record->value);
    if (record->damaged) {
        record->value = WR_BYTES_NONE;
        warn_damaged(d, record->key);
    }
    return 1;
}

int wr_kvdisk_seek(struct wr_kvdisk *d, struct wr_bytes key, bool after,
                   struct wr_kvdisk_record *record)
{
    MDB_val k = mdb_bytes(key), stored;
    int err = begin_read(d);
    if (err)
        return err;
    int rc = mdb_cursor_renew(d->reader, d->cursor);
    if (!rc)
        rc = mdb_cursor_get(d->cursor, &k, &stored, key.len ? MDB_SET_RANGE : MDB_FIRST);
    if (!rc && after && wr_bytes_equal(key, WR_BYTES(k.mv_data, k.mv_size)))
        rc = mdb_cursor_get(d->cursor, &k, &stored, MDB_NEXT);
    return walked(d, rc, k, stored, record);
}

int wr_kvdisk_next(struct wr_kvdisk *d, struct wr_kvdisk_record *record)
{
    MDB_val k, stored;
    int rc = mdb_cursor_get(d->cursor, &k, &stored, MDB_NEXT);
    return walked(d, rc, k, stored, record);
}

void wr_kvdisk_done(struct wr_kvdisk *d)
{
    end_read(d);
}

/* ---- committing: on the worker ---------------------------------------------------------------------------------- */

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
    checksum(key, e->value.ptr, e->value.len, bytes);
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

int wr_kvdisk_commit(struct wr_kvdisk *d, const struct wr_kvtree *batch, bool deletes_only)
{
    MDB_txn *txn;
    if (!d->mdb)
        return WR_EIO;
    int rc = mdb_txn_begin(d->mdb, NULL, 0, &txn);
    if (rc) {
        if (rc == MDB_PANIC)
            atomic_store(&d->broken, true);
        return from_mdb(rc);
    }
    rc = apply(d, txn, batch, deletes_only);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    return rc == EIO && out_of_space(d) ? WR_EFULL : from_mdb(rc);
}
