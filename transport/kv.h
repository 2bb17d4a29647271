/* kv.h - the store: ordered keys to values, durable within seconds, never waiting for the disk. Service.
 * Second half of the seam: kv.c over a medium (kvdisk.h), which is LMDB committing on a worker thread
 * (kv_lmdb.c) on a real machine and memory in tests/sim. Reads see every earlier write at once. Writes
 * gather in a bounded overlay and are committed together WR_KV_COMMIT_EVERY after the first of them, or
 * at once when asked; a crash loses at most what was not committed yet and tears nothing: commits are all
 * or nothing.
 *
 * When commits fail (full disk, file at size_max, input/output errors) the node lives on: wr_kv_error says
 * why, reads go on seeing the uncommitted writes, deletions still get through to a store that is full, and
 * the commit is tried again ever more slowly, up to WR_KV_RETRY_MAX. While that lasts the overlay keeps the
 * newest writes: at its bound each new one pushes out the oldest, whose key then reads as last committed.
 *
 * What is read is checked: each value carries a checksum over itself and its key, each page of the file is
 * looked at before anything in it is followed (kvread.h), and before a commit the pages that LMDB will meet
 * are. A file found damaged at open is WR_ECORRUPT; all of it is read then, unless the store was closed in
 * order and not touched since. One that goes bad while it is open - cut off, deleted, written over,
 * unreadable - is put aside and begun anew, empty but for what was not committed; those who watch are told
 * and write again what they hold in memory. */
#ifndef WR_KV_H
#define WR_KV_H

#include "transport/env.h"
#include "transport/list.h"

#define WR_KV_KEY_MAX      511               /* bytes; LMDB's limit */
#define WR_KV_VALUE_MAX    (64 * 1024)       /* bytes; ours */
#define WR_KV_COMMIT_EVERY (2 * WR_SEC)      /* ours: half of what the design may lose, twice over */
#define WR_KV_RETRY_MAX    (64 * WR_SEC)     /* between attempts while commits fail; ours */
#define WR_KV_BATCH_MAX    8192              /* uncommitted writes; LMDB holds a copy of each page changed
                                                until the commit: 32 MiB at worst. Ours */
#define WR_KV_WAITERS_MAX  1024              /* commits asked for and not answered yet; ours */
#define WR_KV_SIZE_MIN     (1024 * 1024)     /* bytes; the smallest size_max; ours */
#define WR_KV_OVERLAY_MIN  (256 * 1024)      /* bytes; the smallest overlay_max: a few of the largest */

struct wr_kv;

struct wr_kv_options {
    const char *path;       /* directory, made (mode 0700) if missing; the simulator takes it as a name */
    size_t size_max;        /* bytes that the store file may reach; commits beyond it fail: WR_EFULL */
    size_t overlay_max;     /* bytes of uncommitted writes; beyond it puts fail with WR_ELIMIT. Twice as
                               many for a moment while commits fail */
};

/* 0; WR_EINUSE: another process has it; WR_ECORRUPT: not a store or damaged (see wr_kv_destroy);
 * WR_EPERM, WR_EFULL, WR_EIO, WR_ELIMIT, WR_EINVAL (options). */
int wr_kv_open(struct wr_env *env, const struct wr_kv_options *options, struct wr_kv **out);
/* The same, but one that is damaged is put aside (wr_kv_destroy) and begun anew. */
int wr_kv_open_anew(struct wr_env *env, const struct wr_kv_options *options, struct wr_kv **out);
/* Commits what is left, waiting for it, and closes; commits asked for are answered no more. NULL is
 * allowed. */
void wr_kv_close(struct wr_kv *kv);
/* Removes the store's files, after WR_ECORRUPT, keeping the damaged ones beside as *.damaged (of an
 * earlier time replaced). 0 also when there was none; WR_EINUSE, WR_EPERM, WR_EIO. */
int wr_kv_destroy(struct wr_env *env, const char *path);

/* Appends the value to out. 0, WR_ENOTFOUND, WR_ECORRUPT (this one value; put or del mends it; or the store,
 * which is then begun anew), WR_EIO, WR_ELIMIT (out is full). */
int wr_kv_get(struct wr_kv *kv, struct wr_bytes key, struct wr_buf *out);
/* 0; WR_EINVAL (size); WR_ELIMIT: the overlay is full, a commit was started, or out of memory. */
int wr_kv_put(struct wr_kv *kv, struct wr_bytes key, struct wr_bytes value);
int wr_kv_del(struct wr_kv *kv, struct wr_bytes key);    /* as put; 0 also when there was none */

/* Visits keys that start with prefix and come after `after` (exclusive; empty: from the first), in byte
 * order, until visit returns false. visit must not call this store. 0; WR_ECORRUPT: damaged values were
 * left out, or the rest was not readable; WR_EIO. Blocks for as long as it walks: walk long ranges in
 * parts. */
typedef bool (*wr_kv_visit)(void *arg, struct wr_bytes key, struct wr_bytes value);
int wr_kv_scan(struct wr_kv *kv, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg);

/* Asks for a commit now; on_done(arg, err) once everything put before this call is on disk, or failed to
 * get there (it stays in the overlay). on_done may be NULL and may call this store, wr_kv_close included.
 * 0, WR_ELIMIT. */
int wr_kv_commit(struct wr_kv *kv, void (*on_done)(void *arg, int err), void *arg);
/* Being told that the store was damaged and is empty now: in a later turn, when it can be written to again.
 * The watch lies in its owner's memory, until wr_kv_unwatch or wr_kv_close. */
struct wr_kv_watch {
    struct wr_list node;
    void (*on_lost)(struct wr_kv_watch *watch);
};
void wr_kv_watch(struct wr_kv *kv, struct wr_kv_watch *watch);
void wr_kv_unwatch(struct wr_kv_watch *watch);
/* How often it was damaged and begun anew, at open (wr_kv_open_anew) and since. */
unsigned wr_kv_rebuilt(const struct wr_kv *kv);
/* The last commit's failure (WR_EFULL, WR_EIO ...), 0 when it succeeded: the owner reports it. */
int wr_kv_error(const struct wr_kv *kv);
/* Writes pushed out of the overlay and lost, since open. */
uint64_t wr_kv_dropped(const struct wr_kv *kv);

#endif
