/* datadir.h - the node's directory: one owner, a format, an identity. Service (files).
 *
 *   lock           held (flock) by the running node, with its process number; goes with the process
 *   format         "warren data format 1"; a newer one is refused, so that an older program cannot harm
 *                  what it does not understand
 *   identity.key   libp2p PrivateKey protobuf, mode 0600; made on the first start, never overwritten
 *   store/         the key-value store (kv.h), which the caller opens */
#ifndef WR_DATADIR_H
#define WR_DATADIR_H

#include "transport/env.h"
#include "transport/key.h"

#define WR_DATADIR_FORMAT 1
#define WR_DATADIR_ERROR  1600    /* bytes of an error sentence and NUL: it quotes a path */

struct wr_datadir;

/* Makes the directory (mode 0700, parents too) if it is missing, locks it and looks at the format. On
 * failure err has a sentence that names the thing and says what to do. 0; WR_EINUSE: another node runs
 * here; WR_EPERM: not ours, or others can write to it; WR_EINVAL: of a newer format, or no directory;
 * WR_ECORRUPT: unreadable format; WR_EFULL, WR_EIO, WR_ENOFD, WR_ELIMIT. */
int wr_datadir_open(struct wr_env *env, const char *path, struct wr_datadir **out,
                    char err[static WR_DATADIR_ERROR]);
void wr_datadir_close(struct wr_datadir *d);    /* NULL is allowed */
const char *wr_datadir_store(const struct wr_datadir *d);    /* path for wr_kv_open */
/* Reads the identity, or makes one where there is none (*made). Errors as wr_keyfile_read and
 * wr_keyfile_write, with a sentence; a file that is there is never changed. */
int wr_datadir_identity(struct wr_datadir *d, struct wr_key *key, bool *made,
                        char err[static WR_DATADIR_ERROR]);

#endif
