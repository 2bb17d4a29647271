#include "node/datadir.h"

#include "node/keyfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_LINE "warren data format "
#define LINE_MAX_   64    /* bytes of the format and lock files */
#define KEY_NAME    "identity.key"

struct wr_datadir {
    struct wr_env *env;    /* borrowed */
    int lock_fd;
    char path[PATH_MAX], store[PATH_MAX], key[PATH_MAX], format[PATH_MAX], lock[PATH_MAX];
};

static int from_errno(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
        return WR_EPERM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return WR_EFULL;
    case EMFILE:
    case ENFILE:
        return WR_ENOFD;
    case ENOMEM:
        return WR_ELIMIT;
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return WR_EINVAL;
    default:
        return WR_EIO;
    }
}

/* Puts a sentence into err and passes the code on. */
__attribute__((format(printf, 3, 4))) static int say(char err[static WR_DATADIR_ERROR], int code,
                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err, WR_DATADIR_ERROR, format, args);
    va_end(args);
    return code;
}

/* The same for a failed system call. */
static int say_errno(char err[static WR_DATADIR_ERROR], const char *what, const char *path)
{
    int error = errno;
    return say(err, from_errno(error),
               "cannot %s %s: %s; see to space and rights there, or choose another place with --data DIR", what, path,
               strerror(error));
}

/* ---- the directory ---------------------------------------------------------------------------------- */

static int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    (void)close(fd);
    return rc;
}

/* Makes what is missing of the path, each part private; the new name is made durable in its parent. */
static int make_dirs(char *path)
{
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at)
            continue;
        char kept = *at;
        *at = 0;
        bool made = mkdir(path, 0700) == 0;
        bool fine = made || errno == EEXIST;
        if (made) {
            char above[PATH_MAX];
            int len = snprintf(above, sizeof(above), "%s/..", path);
            if (len > 0 && len < PATH_MAX)
                (void)sync_path(above);    /* where it cannot be read, nothing more can be done */
        }
        *at = kept;
        if (!fine)
            return -1;
        if (!kept)
            return 0;
    }
}

/* Ours, and nobody else's to write to. Reading is left to the owner: the key has a mode of its own. */
static int check_dir(const char *path, char err[static WR_DATADIR_ERROR])
{
    struct stat st;
    if (stat(path, &st))
        return say_errno(err, "look at", path);
    if (!S_ISDIR(st.st_mode))
        return say(err, WR_EINVAL, "%s is not a directory; --data DIR names another place", path);
    if (st.st_uid != geteuid())
        return say(err, WR_EPERM, "%s belongs to user %lu, not to user %lu who runs this node: run it as that user, or choose "
                   "another place with --data DIR", path, (unsigned long)st.st_uid, (unsigned long)geteuid());
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return say(err, WR_EPERM, "others can write to %s (mode %04o): chmod 700 %s", path,
                   (unsigned)st.st_mode & 07777u, path);
    return 0;
}

static int join(char out[static PATH_MAX], const char *dir, const char *name)
{
    int len = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < PATH_MAX ? 0 : WR_EINVAL;
}

/* ---- the lock ----------------------------------------------------------------------------------------- */

/* The first line of a small file, without its end; the length, or -1. */
static ssize_t read_line(int fd, char line[static LINE_MAX_])
{
    ssize_t len = pread(fd, line, LINE_MAX_ - 1, 0);
    line[len > 0 ? len : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    return len;
}

static int take_lock(struct wr_datadir *d, char err[static WR_DATADIR_ERROR])
{
    char line[LINE_MAX_];
    d->lock_fd = open(d->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock_fd < 0)
        return say_errno(err, "open", d->lock);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return say_errno(err, "lock", d->lock);
        (void)read_line(d->lock_fd, line);
        return say(err, WR_EINUSE,
                   "another node (process %s) already runs on %s: stop it, or give this one a directory "
                   "of its own with --data",
                   line[0] ? line : "unknown", d->path);
    }
    int len = snprintf(line, sizeof(line), "%ld\n", (long)getpid());
    /* The number only informs: a full disk must not keep the node from starting. */
    if (ftruncate(d->lock_fd, 0) == 0 && pwrite(d->lock_fd, line, (size_t)len, 0) != len)
        wr_log(wr_env_log(d->env), WR_LOG_WARN, "datadir", "process number not written path=%s", d->lock);
    return 0;
}

/* ---- the format --------------------------------------------------------------------------------------- */

static int write_format(const struct wr_datadir *d, char err[static WR_DATADIR_ERROR])
{
    char temporary[PATH_MAX], line[LINE_MAX_];
    if (join(temporary, d->path, "format.new"))
        return say(err, WR_EINVAL, "the path %s is too long", d->path);
    int len = snprintf(line, sizeof(line), FORMAT_LINE "%d\n", WR_DATADIR_FORMAT);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return say_errno(err, "write", temporary);
    errno = ENOSPC;    /* of a write that came up short */
    bool whole = write(fd, line, (size_t)len) == len && fsync(fd) == 0;
    int error = errno;
    (void)close(fd);
    if (whole && rename(temporary, d->format) == 0 && sync_path(d->path) == 0)
        return 0;
    if (!whole)
        errno = error;
    return say_errno(err, "write", d->format);
}

static int check_format(const struct wr_datadir *d, char err[static WR_DATADIR_ERROR])
{
    char line[LINE_MAX_], *end = line;
    size_t head = strlen(FORMAT_LINE);
    int fd = open(d->format, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return write_format(d, err);
    if (fd < 0)
        return say_errno(err, "open", d->format);
    ssize_t len = read_line(fd, line);
    (void)close(fd);
    if (len < 0)
        return say_errno(err, "read", d->format);
    unsigned long version = 0;
    if (strncmp(line, FORMAT_LINE, head) == 0 && line[head] >= '1' && line[head] <= '9')
        version = strtoul(line + head, &end, 10);
    if (version == 0 || *end)
        return say(err, WR_ECORRUPT,
                   "%s does not say which format %s has: is this the directory of a node?", d->format,
                   d->path);
    if (version > WR_DATADIR_FORMAT)
        return say(err, WR_EINVAL,
                   "%s was written by a newer version of warren (data format %lu, this one knows %d): "
                   "run that version, or give this one a directory of its own with --data",
                   d->path, version, WR_DATADIR_FORMAT);
    return 0;
}

/* ---- life --------------------------------------------------------------------------------------------- */

static int set_paths(struct wr_datadir *d, const char *path)
{
    int len = snprintf(d->path, sizeof(d->path), "%s", path);
    if (len <= 0 || len >= PATH_MAX)
        return WR_EINVAL;
    while (len > 1 && d->path[len - 1] == '/')
        d->path[--len] = 0;
    int err = join(d->store, d->path, "store");
    if (!err)
        err = join(d->key, d->path, KEY_NAME);
    if (!err)
        err = join(d->format, d->path, "format");
    return err ? err : join(d->lock, d->path, "lock");
}

int wr_datadir_open(struct wr_env *env, const char *path, struct wr_datadir **out,
                    char err[static WR_DATADIR_ERROR])
{
    *out = NULL;
    err[0] = 0;
    struct wr_datadir *d = wr_alloc(sizeof(*d));
    if (!d)
        return say(err, WR_ELIMIT, "out of memory");
    d->env = env;
    d->lock_fd = -1;
    int code = set_paths(d, path);
    if (code)
        (void)say(err, code, "\"%s\" is no path for a data directory", path);
    else if (make_dirs(d->path))
        code = say_errno(err, "make the directory", d->path);
    if (!code)
        code = check_dir(d->path, err);
    if (!code)
        code = take_lock(d, err);
    if (!code)
        code = check_format(d, err);
    if (code) {
        wr_datadir_close(d);
        return code;
    }
    *out = d;
    return 0;
}

void wr_datadir_close(struct wr_datadir *d)
{
    if (!d)
        return;
    if (d->lock_fd >= 0)
        (void)close(d->lock_fd);
    wr_free(d);
}

const char *wr_datadir_store(const struct wr_datadir *d)
{
    return d->store;
}

/* ---- the identity --------------------------------------------------------------------------------------- */

/* Half-made keys of a process that died: nobody else makes any while we hold the lock, and a later process
 * of the same number would stumble over its name. */
static void remove_half_made(const struct wr_datadir *d)
{
    static const char prefix[] = KEY_NAME ".new.";
    DIR *dir = opendir(d->path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char path[PATH_MAX];
        if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) == 0 &&
            join(path, d->path, entry->d_name) == 0)
            (void)unlink(path);
    }
    if (dir)
        (void)closedir(dir);
}

static int explain_key(const struct wr_datadir *d, int code, char err[static WR_DATADIR_ERROR])
{
    struct stat st;
    if (code == WR_EPERM && stat(d->key, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)))
        return say(err, code,
                   "others can get at the identity %s (mode %04o): chmod 600 %s, and make a new one if "
                   "somebody may have read it",
                   d->key, (unsigned)st.st_mode & 07777u, d->key);
    if (code == WR_EPERM)
        return say(err, code, "user %lu may not read the identity %s", (unsigned long)geteuid(), d->key);
    if (code == WR_ECORRUPT)
        return say(err, code,
                   "%s is not an Ed25519 key; it was left as it is: put the right file there, or move "
                   "this one away and a new identity is made",
                   d->key);
    return say(err, code, "cannot read the identity %s: %s", d->key, wr_err_text(code));
}

static int make_key(struct wr_datadir *d, struct wr_key *key, char err[static WR_DATADIR_ERROR])
{
    uint8_t seed[WR_ED25519_SEED];
    struct stat st;
    /* A link that leads nowhere: the identity is meant to be elsewhere, so do not make another one. */
    if (lstat(d->key, &st) == 0)
        return say(err, WR_ENOTFOUND, "the identity %s is a link to a file that is not there", d->key);
    remove_half_made(d);
    wr_env_random(d->env, seed, sizeof(seed));
    wr_key_generate(key, seed);
    sodium_memzero(seed, sizeof(seed));
    int code = wr_keyfile_write(d->key, key);
    if (!code)
        return 0;
    wr_key_clear(key);
    return say(err, code, "cannot write a new identity to %s: %s", d->key, wr_err_text(code));
}

int wr_datadir_identity(struct wr_datadir *d, struct wr_key *key, bool *made,
                        char err[static WR_DATADIR_ERROR])
{
    err[0] = 0;
    *made = false;
    int code = wr_keyfile_read(d->key, key);
    if (code == WR_ENOTFOUND) {
        code = make_key(d, key, err);
        *made = code == 0;
        return code;
    }
    return code ? explain_key(d, code, err) : 0;
}
