/* kv.h - the store: ordered keys to values, durable within seconds, never blocking the loop. Service.
 * Second half of the seam: kv_lmdb.c (LMDB, committing on a worker thread) for a real machine, an
 * in-memory twin in tests/sim. Reads see every earlier write at once. Writes gather in a bounded overlay
 * and are committed together every WR_KV_COMMIT_EVERY, or at once when asked; a crash loses at most what
 * was not committed yet and tears nothing: commits are all or nothing. */
#ifndef WR_KV_H
#define WR_KV_H

#include "transport/env.h"

#define WR_KV_KEY_MAX      511               /* bytes; LMDB's limit */
#define WR_KV_VALUE_MAX    (64 * 1024)       /* bytes; ours */
#define WR_KV_COMMIT_EVERY (2 * WR_SEC)      /* ours: half of what the design may lose, twice over */

struct wr_kv;

struct wr_kv_options {
    const char *path;       /* directory, made if missing; the simulator takes it as a name */
    size_t size_max;        /* bytes of the store file; a put beyond it fails with WR_EFULL */
    size_t overlay_max;     /* bytes of uncommitted writes; beyond it puts fail with WR_ELIMIT */
};

/* 0; WR_EINUSE: another process has it; WR_ECORRUPT: not a store or damaged (see wr_kv_destroy);
 * WR_EPERM, WR_EFULL, WR_EIO, WR_ELIMIT. */
int wr_kv_open(struct wr_env *env, const struct wr_kv_options *options, struct wr_kv **out);
/* Commits what is left, waiting for it, and closes. NULL is allowed. */
void wr_kv_close(struct wr_kv *kv);
/* Removes the store's files, after WR_ECORRUPT, keeping the damaged ones beside as *.damaged. */
int wr_kv_destroy(const char *path);

/* Appends the value to out. 0, WR_ENOTFOUND, WR_ECORRUPT, WR_ELIMIT (out is full). */
int wr_kv_get(struct wr_kv *kv, struct wr_bytes key, struct wr_buf *out);
/* 0, WR_EINVAL (size), WR_ELIMIT, WR_EFULL. */
int wr_kv_put(struct wr_kv *kv, struct wr_bytes key, struct wr_bytes value);
int wr_kv_del(struct wr_kv *kv, struct wr_bytes key);    /* 0 also when there was none */

/* Visits keys that start with prefix and come after `after` (exclusive; empty: from the first), in byte
 * order, until visit returns false. visit must not call this store. 0, WR_ECORRUPT, WR_EIO. */
typedef bool (*wr_kv_visit)(void *arg, struct wr_bytes key, struct wr_bytes value);
int wr_kv_scan(struct wr_kv *kv, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg);

/* Asks for a commit now; on_done(arg, err) once everything put before this call is on disk. fn may be
 * NULL. 0, WR_ELIMIT. */
int wr_kv_commit(struct wr_kv *kv, void (*on_done)(void *arg, int err), void *arg);
/* The last commit's failure (WR_EFULL, WR_EIO ...), 0 when it succeeded: the owner reports it. */
int wr_kv_error(const struct wr_kv *kv);

#endif
