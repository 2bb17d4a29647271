/* kvdisk.h - the medium below kv.c. Service.
 * kv.c keeps the uncommitted writes, the clock and the callbacks; this is what differs between a real
 * machine (kv_lmdb.c) and the simulator (tests/sim/kv_mem.c). Not for anybody above kv.c.
 * All functions belong to the loop's thread but wr_kvdisk_commit, which runs on a worker, at most one at
 * a time, while the loop reads. */
#ifndef WR_KVDISK_H
#define WR_KVDISK_H

#include "transport/env.h"
#include "transport/kvtree.h"

struct wr_kvdisk;

struct wr_kvdisk_record {
    struct wr_bytes key, value;    /* valid until the next call */
    bool damaged;                  /* value failed its check and is empty */
};

/* Errors as wr_kv_open. */
int wr_kvdisk_open(struct wr_env *env, const char *path, size_t size_max, struct wr_kvdisk **out);
void wr_kvdisk_close(struct wr_kvdisk *d);    /* no commit is running */
int wr_kvdisk_destroy(struct wr_env *env, const char *path);

/* Appends the value to out. 0, WR_ENOTFOUND, WR_ECORRUPT, WR_EIO, WR_ELIMIT. */
int wr_kvdisk_get(struct wr_kvdisk *d, struct wr_bytes key, struct wr_buf *out);
/* Starts walking at the first key >= (after: >) key; wr_kvdisk_done ends the walk, whatever was
 * returned. 1 with *record set, 0 at the end, WR_ECORRUPT, WR_EIO. */
int wr_kvdisk_seek(struct wr_kvdisk *d, struct wr_bytes key, bool after,
                   struct wr_kvdisk_record *record);
int wr_kvdisk_next(struct wr_kvdisk *d, struct wr_kvdisk_record *record);
void wr_kvdisk_done(struct wr_kvdisk *d);

/* Makes the whole batch durable or nothing of it. deletes_only: its tombstones alone, which are to
 * succeed on a full store. 0, WR_EFULL, WR_EIO, WR_ECORRUPT, WR_ELIMIT. */
int wr_kvdisk_commit(struct wr_kvdisk *d, const struct wr_kvtree *batch, bool deletes_only);
/* Something that a read or a commit looked at showed that the store's structure cannot be trusted: both say
 * WR_ECORRUPT until it is mended. Not so for a single value that fails its check. */
bool wr_kvdisk_damaged(const struct wr_kvdisk *d);
/* Called after a failed commit and before the next, or when it is damaged, while no commit runs: reopens what
 * the failure broke; a damaged store is put aside and begun anew. 0; 1: it is empty now; or the error that
 * keeps it as it is. */
int wr_kvdisk_mend(struct wr_kvdisk *d);

#endif
