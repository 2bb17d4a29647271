/* The disks of machines: they outlive the power. */
#include "tests/sim/sim_priv.h"

#include "tests/sim/kv_mem.h"

#include <string.h>

struct disk {
    struct wr_list node;    /* on host->disks */
    struct kv_mem_disk mem;
    char path[];
};

struct kv_mem_disk *kv_mem_disk_for(struct wr_env *env, const char *path)
{
    struct sim_host *host = sim_host_from(env);
    wr_list_each(node, &host->disks) {
        struct disk *disk = wr_list_entry(node, struct disk, node);
        if (strcmp(disk->path, path) == 0)
            return &disk->mem;
    }
    size_t len = strlen(path) + 1;
    struct disk *disk = wr_alloc(sizeof(*disk) + len);
    if (!disk)
        return NULL;
    memcpy(disk->path, path, len);
    kv_mem_disk_init(&disk->mem, host->sim->o.seed);
    wr_list_append(&host->disks, &disk->node);
    return &disk->mem;
}

void sim_disks_crash(struct sim_host *host)
{
    wr_list_each(node, &host->disks)
        kv_mem_disk_crash(&wr_list_entry(node, struct disk, node)->mem);
}

void sim_disks_clear(struct sim_host *host)
{
    for (struct wr_list *node; (node = wr_list_pop(&host->disks));) {
        struct disk *disk = wr_list_entry(node, struct disk, node);
        kv_mem_disk_clear(&disk->mem);
        wr_free(disk);
    }
}
