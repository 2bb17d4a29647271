/* kvtree.h - ordered map of byte strings, counted in bytes. Value.
 * A skip list: what kv.c keeps uncommitted writes in, and the whole disk of the in-memory store of the
 * simulator. An entry may be a tombstone ("deleted"), which counts as an entry here. Beside key order
 * the tree remembers the order of writing, oldest first. Reading does not change anything, so that one
 * thread may walk a tree while another one does, too. */
#ifndef WR_KVTREE_H
#define WR_KVTREE_H

#include "transport/bytes.h"
#include "transport/list.h"

#define WR_KVTREE_LEVELS 12    /* of the skip list at branching 4: fine to 16 million entries */

struct wr_kvtree_entry {
    struct wr_bytes key, value;
    bool tombstone;
    /* Private from here. */
    uint8_t levels;
    struct wr_list age;
    struct wr_kvtree_entry *next[];
};

struct wr_kvtree {
    struct wr_kvtree_entry *head[WR_KVTREE_LEVELS];    /* owned entries */
    struct wr_list ages;     /* oldest write first */
    size_t count, bytes;     /* entries, and their memory */
    uint64_t chance;         /* state of the level generator */
};

/* seed decides the shape only; taken from the environment's randomness so that nobody outside can
 * foresee it. */
void wr_kvtree_init(struct wr_kvtree *t, uint64_t seed);
void wr_kvtree_clear(struct wr_kvtree *t);
/* Memory that an entry takes: what put adds to bytes when the key is new. */
size_t wr_kvtree_cost(struct wr_bytes key, struct wr_bytes value);
/* Copies key and value in, replacing what was there; the entry becomes the newest. 0, WR_ELIMIT (out of
 * memory, nothing changed). */
int wr_kvtree_put(struct wr_kvtree *t, struct wr_bytes key, struct wr_bytes value, bool tombstone);
void wr_kvtree_del(struct wr_kvtree *t, struct wr_bytes key);    /* removes the entry, if any */
const struct wr_kvtree_entry *wr_kvtree_get(const struct wr_kvtree *t, struct wr_bytes key);
/* The first entry with a key >= (or, after, >) the given one; NULL at the end. */
const struct wr_kvtree_entry *wr_kvtree_seek(const struct wr_kvtree *t, struct wr_bytes key, bool after);
/* The next entry in key order, or NULL. */
const struct wr_kvtree_entry *wr_kvtree_next(const struct wr_kvtree_entry *e);
/* The entry written longest ago, or NULL. */
const struct wr_kvtree_entry *wr_kvtree_oldest(const struct wr_kvtree *t);
/* Moves the entries of `older` whose keys t has not into t, older than all of t's, and drops the rest;
 * older is empty then. Allocates nothing. */
void wr_kvtree_merge_older(struct wr_kvtree *t, struct wr_kvtree *older);
/* Moves all entries of `newer` into t, in place of t's own under the same keys; newer is empty then.
 * Allocates nothing. */
void wr_kvtree_merge_newer(struct wr_kvtree *t, struct wr_kvtree *newer);
/* t becomes what `from` was; t must be empty, from is then. */
void wr_kvtree_move(struct wr_kvtree *t, struct wr_kvtree *from);

#endif
