/* kvread.h - reading LMDB's file without LMDB, which maps it and believes it. Value.
 * Pages are read one by one and looked at before anything in them is followed, so a file that goes
 * bad while it is in use - cut off, written over, unreadable sectors - is an error and never the
 * end of the process. One object is one cursor over one commit. Commits that run beside it do not
 * disturb it as long as it lives through at most one of them: LMDB uses pages again two commits
 * after they were freed. */
#ifndef WR_KVREAD_H
#define WR_KVREAD_H

#include "transport/kvcheck.h"

#define WR_KVREAD_KEY_MAX   511              /* bytes; LMDB's limit */
#define WR_KVREAD_VALUE_MAX (64 * 1024 + 64) /* bytes; ours: WR_KV_VALUE_MAX and its checksum */

struct wr_kvread {
    struct wr_kvpage_file file;
    struct wr_kvcheck_result head;
    uint8_t *memory; /* owned: a page for each level, one to spare, and scratch */
    size_t memory_len;
    uint64_t number[WR_KVCHECK_DEPTH]; /* pages held; WR_KVPAGE_NONE: none */
    size_t at[WR_KVCHECK_DEPTH];       /* node that the cursor is at, or below */
    uint8_t last[WR_KVREAD_KEY_MAX];   /* key before this one: they must ascend */
    size_t last_len;
    struct wr_buf value; /* of overflow pages */
    const char *what;    /* after WR_ECORRUPT: what is wrong, a static string */
    uint64_t where;      /* and on which page */
};

/* Sets a cursor (all zeros at first) on the commit that head is of. file->size: what it has now. 0,
 * WR_ECORRUPT, WR_ELIMIT. */
int wr_kvread_open(struct wr_kvread *r, const struct wr_kvpage_file *file,
                   const struct wr_kvcheck_result *head);
void wr_kvread_clear(struct wr_kvread *r);

/* The first record at or behind key (after: behind it). 1 with *found and *value, both valid until
 * the next call; 0: there is none; WR_ECORRUPT, WR_ELIMIT, errors of read. */
int wr_kvread_seek(struct wr_kvread *r, struct wr_bytes key, bool after, struct wr_bytes *found,
                   struct wr_bytes *value);
int wr_kvread_next(struct wr_kvread *r, struct wr_bytes *found, struct wr_bytes *value);

/* Looks at all pages that LMDB may read when this key is written (or deleted: then also at those
 * that its page may be merged with). seen: a bit for each of r->head.pages, of pages that were
 * looked at before. 0 or an error. */
int wr_kvread_touch(struct wr_kvread *r, struct wr_bytes key, bool deleted, uint8_t *seen);

#endif
