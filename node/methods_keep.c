/* What the owner said is to outlive the node: he is answered when it is on the disk, or cannot get there. */
#include "node/methods_impl.h"

struct keep {
    struct wr_list node;
    struct wr_call *call; /* NULL: it was cancelled */
};

static void answer(struct wr_call *call, int err)
{
    if (err)
        wr_call_fail(call, err,
                     "in force now, but not on the disk (%s): a restart may undo it; `warren "
                     "status` tells if the store works",
                     wr_err_text(err));
    else
        wr_call_done(call);
}

static void on_kept(void *arg, int err)
{
    struct keep *k = arg;
    if (k->call)
        answer(k->call, err);
    wr_list_remove(&k->node);
    wr_free(k);
}

static void on_cancel(void *arg)
{
    struct keep *k = arg;
    k->call = NULL;
}

void wr_methods_keep(struct wr_methods *m, struct wr_call *call, struct wr_bytes key, bool on)
{
    if (!m->o.kv) {
        wr_call_done(call);
        return;
    }
    struct keep *k = wr_alloc(sizeof(*k));
    int err = on ? wr_kv_put(m->o.kv, key, WR_BYTES_STR("1")) : wr_kv_del(m->o.kv, key);
    if (!err)
        err = k ? wr_kv_commit(m->o.kv, on_kept, k) : WR_ELIMIT;
    if (err) {
        wr_free(k);
        answer(call, err);
        return;
    }
    k->call = call;
    wr_list_append(&m->keeps, &k->node);
    wr_call_defer(call, on_cancel, k);
}

void wr_methods_keep_end(struct wr_methods *m)
{
    for (struct wr_list *node; (node = wr_list_pop(&m->keeps));)
        wr_free(wr_list_entry(node, struct keep, node));
}
