#include "node/keyfile.h"

#include "transport/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int from_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return WR_ENOTFOUND;
    case EEXIST:
        return WR_EEXIST;
    case EACCES:
    case EPERM:
    case EROFS:
        return WR_EPERM;
    case ENOSPC:
    case EDQUOT:
        return WR_EFULL;
    case ENOMEM:
        return WR_ELIMIT;
    default:
        return WR_EIO;
    }
}

/* Reads until the end or until the buffer is full; the count, or a negative code. */
static int read_all(int fd, uint8_t *out, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = read(fd, out + have, size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return from_errno(errno);
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (int)have;
}

int wr_keyfile_read(const char *path, struct wr_key *key)
{
    uint8_t bytes[WR_KEYFILE_MAX + 1];
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return from_errno(errno);
    int result;
    if (fstat(fd, &info) != 0)
        result = from_errno(errno);
    else if (!S_ISREG(info.st_mode))
        result = WR_ECORRUPT;
    else if (info.st_mode & (S_IRWXG | S_IRWXO))
        result = WR_EPERM;
    else
        result = read_all(fd, bytes, sizeof(bytes));
    (void)close(fd);
    if (result >= 0) {
        size_t len = (size_t)result;
        result = len <= WR_KEYFILE_MAX && wr_key_decode(WR_BYTES(bytes, len), key) == 0
                     ? 0
                     : WR_ECORRUPT;
    }
    sodium_memzero(bytes, sizeof(bytes));
    return result;
}

static int write_all(int fd, struct wr_bytes bytes)
{
    while (bytes.len) {
        ssize_t wrote = write(fd, bytes.ptr, bytes.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return from_errno(errno);
        (void)wr_bytes_take(&bytes, (size_t)wrote);
    }
    return fsync(fd) == 0 ? 0 : from_errno(errno);
}

/* The name is safe once its directory is on disk too. */
static int sync_directory(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int len = slash ? (int)(slash - path) : 1;
    (void)snprintf(dir, sizeof(dir), "%.*s", len ? len : 1, slash ? path : ".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return from_errno(errno);
    int result = fsync(fd) == 0 ? 0 : from_errno(errno);
    (void)close(fd);
    return result;
}

int wr_keyfile_write(const char *path, const struct wr_key *key)
{
    char temporary[PATH_MAX];
    struct wr_buf bytes;
    int len = snprintf(temporary, sizeof(temporary), "%s.new.%ld", path, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof(temporary))
        return WR_EINVAL;
    wr_buf_init(&bytes, WR_KEYFILE_MAX);
    wr_key_encode(key, &bytes);
    if (bytes.full) {
        wr_buf_wipe(&bytes);
        return WR_ELIMIT;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int result = fd < 0 ? from_errno(errno) : write_all(fd, wr_buf_bytes(&bytes));
    wr_buf_wipe(&bytes);
    if (fd < 0)
        return result;
    if (close(fd) != 0 && result == 0)
        result = from_errno(errno);
    /* link, not rename: it never replaces an identity that is there. */
    if (result == 0 && link(temporary, path) != 0)
        result = from_errno(errno);
    (void)unlink(temporary);
    return result ? result : sync_directory(path);
}

int wr_keyfile_read_psk(const char *path, uint8_t psk[static WR_PNET_KEY], char *err, size_t size)
{
    uint8_t text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    int error = errno;
    if (fd >= 0)
        (void)close(fd);
    if (len < 0) {
        (void)snprintf(err, size, "cannot read the network key %s: %s; --psk names the file that all members share",
                       path, strerror(error));
        return WR_EIO;
    }
    int rc = wr_pnet_key_parse(WR_BYTES(text, (size_t)len), psk);
    sodium_memzero(text, sizeof(text));
    if (rc != 0)
        (void)snprintf(err, size,
                       "%s is not a network key: it needs the lines /key/swarm/psk/1.0.0/, /base16/ and "
                       "64 hex digits",
                       path);
    return rc;
}
