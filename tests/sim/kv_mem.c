#include "tests/sim/kv_mem.h"

#include "transport/kvdisk.h"

#include <assert.h>
#include <string.h>

/* Stored values begin with a byte that stands for LMDB's checksum: 1 sound, 0 damaged. */
#define SOUND 1

struct wr_kvdisk {
    struct kv_mem_disk *disk;    /* borrowed; NULL: cut off by a crash */
    size_t size_max;
    const struct wr_kvtree_entry *at;    /* of the walk */
    bool walking;
};

void kv_mem_disk_init(struct kv_mem_disk *disk, uint64_t seed)
{
    memset(disk, 0, sizeof(*disk));
    wr_kvtree_init(&disk->committed, seed);
}

void kv_mem_disk_clear(struct kv_mem_disk *disk)
{
    kv_mem_disk_crash(disk);
    wr_kvtree_clear(&disk->committed);
}

void kv_mem_disk_crash(struct kv_mem_disk *disk)
{
    if (disk->owner)
        disk->owner->disk = NULL;
    disk->owner = NULL;
}

static struct wr_bytes value_of(const struct wr_kvtree_entry *e)
{
    return WR_BYTES(e->value.ptr + 1, e->value.len - 1);
}

static bool sound(const struct wr_kvtree_entry *e)
{
    return e->value.ptr[0] == SOUND;
}

static int put_value(struct wr_kvtree *tree, struct wr_bytes key, struct wr_bytes value, uint8_t mark)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_KV_VALUE_MAX + 1);
    wr_buf_put_u8(&b, mark);
    wr_buf_put_bytes(&b, value);
    int err = b.full ? WR_ELIMIT : wr_kvtree_put(tree, key, wr_buf_bytes(&b), false);
    wr_buf_clear(&b);
    return err;
}

void kv_mem_disk_damage(struct kv_mem_disk *disk, struct wr_bytes key)
{
    const struct wr_kvtree_entry *e = wr_kvtree_get(&disk->committed, key);
    assert(e);
    int err = put_value(&disk->committed, key, value_of(e), !SOUND);
    assert(!err);
    (void)err;
}

int wr_kvdisk_open(struct wr_env *env, const char *path, size_t size_max, struct wr_kvdisk **out)
{
    struct kv_mem_disk *disk = kv_mem_disk_for(env, path);
    if (!disk)
        return WR_ELIMIT;
    if (disk->owner)
        return WR_EINUSE;
    if (disk->damaged || disk->rotten)
        return WR_ECORRUPT;
    struct wr_kvdisk *d = wr_alloc(sizeof(*d));
    if (!d)
        return WR_ELIMIT;
    d->disk = disk;
    d->size_max = size_max;
    disk->owner = d;
    disk->broken = false;
    *out = d;
    return 0;
}

void wr_kvdisk_close(struct wr_kvdisk *d)
{
    if (d->disk)
        d->disk->owner = NULL;
    wr_free(d);
}

int wr_kvdisk_destroy(struct wr_env *env, const char *path)
{
    struct kv_mem_disk *disk = kv_mem_disk_for(env, path);
    if (!disk)
        return WR_ELIMIT;
    if (disk->owner)
        return WR_EINUSE;
    wr_kvtree_clear(&disk->committed);
    disk->damaged = disk->rotten = false;
    return 0;
}

int wr_kvdisk_get(struct wr_kvdisk *d, struct wr_bytes key, struct wr_buf *out)
{
    if (!d->disk)
        return WR_EIO;
    if (d->disk->rotten)
        return WR_ECORRUPT;
    const struct wr_kvtree_entry *e = wr_kvtree_get(&d->disk->committed, key);
    if (!e)
        return WR_ENOTFOUND;
    if (!sound(e))
        return WR_ECORRUPT;
    wr_buf_put_bytes(out, value_of(e));
    return out->full ? WR_ELIMIT : 0;
}

static int walked(struct wr_kvdisk *d, struct wr_kvdisk_record *record)
{
    if (!d->at)
        return 0;
    record->key = d->at->key;
    record->damaged = !sound(d->at);
    record->value = record->damaged ? WR_BYTES_NONE : value_of(d->at);
    return 1;
}

int wr_kvdisk_seek(struct wr_kvdisk *d, struct wr_bytes key, bool after,
                   struct wr_kvdisk_record *record)
{
    assert(!d->walking);
    if (!d->disk)
        return WR_EIO;
    if (d->disk->rotten)
        return WR_ECORRUPT;
    d->walking = true;
    d->at = wr_kvtree_seek(&d->disk->committed, key, after);
    return walked(d, record);
}

int wr_kvdisk_next(struct wr_kvdisk *d, struct wr_kvdisk_record *record)
{
    d->at = wr_kvtree_next(d->at);
    return walked(d, record);
}

void wr_kvdisk_done(struct wr_kvdisk *d)
{
    d->walking = false;
    d->at = NULL;
}

/* What the batch would make of the disk's size. */
static size_t size_after(const struct kv_mem_disk *disk, const struct wr_kvtree *batch)
{
    size_t bytes = disk->committed.bytes;
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    for (; e; e = wr_kvtree_next(e)) {
        const struct wr_kvtree_entry *old = wr_kvtree_get(&disk->committed, e->key);
        if (old)
            bytes -= wr_kvtree_cost(old->key, old->value);
        if (!e->tombstone)
            bytes += wr_kvtree_cost(e->key, e->value) + 1;
    }
    return bytes;
}

static bool has_puts(const struct wr_kvtree *batch)
{
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    while (e && e->tombstone)
        e = wr_kvtree_next(e);
    return e;
}

/* The batch's puts as they will lie on the disk. Made apart, so that running out of memory in the middle
 * tears nothing. */
static int encode(const struct wr_kvtree *batch, struct wr_kvtree *out)
{
    int err = 0;
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    for (; e && !err; e = wr_kvtree_next(e))
        if (!e->tombstone)
            err = put_value(out, e->key, e->value, SOUND);
    return err;
}

int wr_kvdisk_commit(struct wr_kvdisk *d, const struct wr_kvtree *batch, bool deletes_only)
{
    struct kv_mem_disk *disk = d->disk;
    if (!disk || disk->broken)
        return WR_EIO;
    if (disk->rotten)
        return WR_ECORRUPT;
    if (disk->fail && !(deletes_only && disk->fail == WR_EFULL)) {
        disk->broken = disk->fail == WR_EIO;
        return disk->fail;
    }
    if (!deletes_only && has_puts(batch) && size_after(disk, batch) > d->size_max)
        return WR_EFULL;
    struct wr_kvtree puts;
    wr_kvtree_init(&puts, disk->commits);
    int err = deletes_only ? 0 : encode(batch, &puts);
    if (err) {
        wr_kvtree_clear(&puts);
        return err;
    }
    const struct wr_kvtree_entry *e = wr_kvtree_seek(batch, WR_BYTES_NONE, false);
    for (; e; e = wr_kvtree_next(e))
        if (e->tombstone)
            wr_kvtree_del(&disk->committed, e->key);
    wr_kvtree_merge_newer(&disk->committed, &puts);
    disk->commits++;
    return 0;
}

bool wr_kvdisk_damaged(const struct wr_kvdisk *d)
{
    return d->disk && d->disk->rotten;
}

int wr_kvdisk_mend(struct wr_kvdisk *d)
{
    struct kv_mem_disk *disk = d->disk;
    if (!disk)
        return WR_EIO;
    if (disk->rotten && disk->fail)
        return disk->fail;
    bool anew = disk->rotten;
    if (anew)
        wr_kvtree_clear(&disk->committed);
    disk->broken = disk->rotten = false;
    return anew;
}
