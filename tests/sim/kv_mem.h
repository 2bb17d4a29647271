/* kv_mem.h - a disk in memory for the store: kvdisk.h without files, for simulations. Service.
 * The disk outlives the store that is open on it, as a real one does, and can be told to fail. Whoever
 * supplies the environment says where its disks are by defining kv_mem_disk_for. */
#ifndef KV_MEM_H
#define KV_MEM_H

#include "transport/kv.h"
#include "transport/kvtree.h"

struct kv_mem_disk {
    struct wr_kvtree committed;
    struct wr_kvdisk *owner;    /* the open store, or NULL */
    int fail;                   /* commits fail with this error while it is set */
    bool damaged;               /* opening says WR_ECORRUPT until the store is destroyed */
    bool rotten;                /* the structure went bad under an open store: nothing is readable any more */
    bool broken;                /* after a failure: needs wr_kvdisk_mend, as LMDB does */
    uint64_t commits;           /* that succeeded */
};

void kv_mem_disk_init(struct kv_mem_disk *disk, uint64_t seed);
void kv_mem_disk_clear(struct kv_mem_disk *disk);
/* The machine dies: what is not committed now never will be. The open store, if any, is cut off - its
 * commits fail, closing it changes nothing - and another one may be opened at once. */
void kv_mem_disk_crash(struct kv_mem_disk *disk);
/* One committed value goes bad: reading it says WR_ECORRUPT until it is written again. */
void kv_mem_disk_damage(struct kv_mem_disk *disk, struct wr_bytes key);

/* Supplied by the environment: the disk behind a path, made when it is new; NULL: out of memory. */
struct kv_mem_disk *kv_mem_disk_for(struct wr_env *env, const char *path);

#endif
