#include "transport/kv.h"

#include "transport/kvdisk.h"

#include <assert.h>
#include <pthread.h>

#define BATCH_SOFT (WR_KV_BATCH_MAX / 2)    /* writes that start a commit before its time */

enum job_state { IDLE, QUEUED, RUNNING, RAN, STOLEN };

/* A commit under way. Apart from the store, because the environment keeps it until done was called,
 * however early the store closes.
 *
 *   IDLE -> QUEUED -> RUNNING -> RAN -> IDLE      and, when the store closes early,
 *           QUEUED -> STOLEN (run does nothing)   the closing thread commits itself
 */
struct job {
    struct wr_work work;
    pthread_mutex_t lock;    /* guards state and err */
    pthread_cond_t ran;
    enum job_state state;
    struct wr_kv *kv;        /* NULL: the store is closed, done frees the job */
    struct wr_kvdisk *disk;
    struct wr_kvtree batch;  /* frozen: both threads read it, nobody writes until done */
    bool deletes_done;       /* err is WR_EFULL, but the tombstones are committed */
    int err;
};

struct waiter {
    struct wr_list node;
    uint64_t generation;    /* of the last write that it waits for */
    bool ready;             /* err is the answer */
    int err;
    void (*on_done)(void *arg, int err);
    void *arg;
};

struct wr_kv {
    struct wr_env *env;
    struct wr_kvdisk *disk;
    struct job *job;
    struct wr_kvtree active;     /* writes not handed to a commit yet */
    size_t overlay_max;
    wr_time dirty_at;            /* when active stopped being empty */
    struct wr_timer timer;       /* runs only while active is dirty and no commit is under way */
    uint64_t generation;         /* of active; the batch under way has the one before */
    struct wr_list waiters;      /* by generation */
    size_t waiter_count;
    bool committing;             /* job_done is still to come */
    bool asked;                  /* commit again as soon as the one under way is done */
    bool scanning, closed;
    unsigned failures;           /* in a row */
    int err;
    uint64_t dropped;
    struct wr_list watches;
    unsigned rebuilt;
    wr_time mend_at;             /* a damaged store that could not be begun anew: not again before */
    struct wr_task answer, tell, mend, dispose;
};

static void start_commit(struct wr_kv *kv);

static uint64_t random_seed(struct wr_env *env)
{
    uint64_t seed;
    wr_env_random(env, &seed, sizeof(seed));
    return seed;
}

/* ---- the job ------------------------------------------------------------------------------------ */

static void set_state(struct job *job, enum job_state state)
{
    pthread_mutex_lock(&job->lock);
    job->state = state;
    pthread_cond_broadcast(&job->ran);
    pthread_mutex_unlock(&job->lock);
}

static void commit_batch(struct job *job)
{
    job->deletes_done = false;
    job->err = wr_kvdisk_commit(job->disk, &job->batch, false);
    if (job->err == WR_EFULL)
        job->deletes_done = wr_kvdisk_commit(job->disk, &job->batch, true) == 0;
}

/* On a worker thread. */
static void job_run(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    pthread_mutex_lock(&job->lock);
    bool stolen = job->state == STOLEN;
    if (!stolen)
        job->state = RUNNING;
    pthread_mutex_unlock(&job->lock);
    if (stolen)
        return;
    commit_batch(job);
    set_state(job, RAN);
}

static struct job *job_create(struct wr_kv *kv)
{
    struct job *job = wr_alloc(sizeof(*job));
    if (!job)
        return NULL;
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->ran, NULL);
    wr_kvtree_init(&job->batch, random_seed(kv->env));
    job->kv = kv;
    job->disk = kv->disk;
    return job;
}

static void job_destroy(struct job *job)
{
    wr_kvtree_clear(&job->batch);
    pthread_cond_destroy(&job->ran);
    pthread_mutex_destroy(&job->lock);
    wr_free(job);
}

/* ---- answers to wr_kv_commit --------------------------------------------------------------------- */

/* At the end of the turn, so that no handler runs inside a call of its owner. A handler may close the
 * store, which empties the list. */
static void answer(struct wr_task *task)
{
    struct wr_kv *kv = wr_list_entry(task, struct wr_kv, answer);
    while (!wr_list_empty(&kv->waiters)) {
        struct waiter *w = wr_list_entry(kv->waiters.next, struct waiter, node);
        if (!w->ready)
            return;
        wr_list_remove(&w->node);
        kv->waiter_count--;
        void (*on_done)(void *, int) = w->on_done;
        void *arg = w->arg;
        int err = w->err;
        wr_free(w);
        on_done(arg, err);
    }
}

/* What was written up to this generation is on disk, or the attempt failed. */
static void settle_waiters(struct wr_kv *kv, uint64_t generation, int err)
{
    wr_list_each(node, &kv->waiters) {
        struct waiter *w = wr_list_entry(node, struct waiter, node);
        if (w->generation > generation)
            break;
        if (!w->ready) {
            w->ready = true;
            w->err = err;
        }
        wr_env_defer(kv->env, &kv->answer, answer);
    }
}

/* ---- a store that went bad ------------------------------------------------------------------------- */

static void tell(struct wr_task *task)
{
    struct wr_kv *kv = wr_list_entry(task, struct wr_kv, tell);
    wr_list_each(node, &kv->watches)
    {
        struct wr_kv_watch *w = wr_list_entry(node, struct wr_kv_watch, node);
        w->on_lost(w);
    }
}

static void count_rebuilt(struct wr_kv *kv)
{
    kv->rebuilt++;
    wr_log(wr_env_log(kv->env), WR_LOG_WARN, "kv", "damaged store put aside as *.damaged and begun anew times=%u",
           kv->rebuilt);
}

/* The medium, mended; a damaged one is empty then, which those who watch hear later. */
static int mend(struct wr_kv *kv)
{
    int rc = wr_kvdisk_mend(kv->disk);
    if (rc <= 0)
        return rc;
    count_rebuilt(kv);
    if (!kv->closed)
        wr_env_defer(kv->env, &kv->tell, tell);
    return 0;
}

static void mend_damaged(struct wr_task *task)
{
    struct wr_kv *kv = wr_list_entry(task, struct wr_kv, mend);
    wr_time now = wr_env_now(kv->env);
    /* With a commit under way, its end comes back here. */
    if (kv->committing || !wr_kvdisk_damaged(kv->disk) || now < kv->mend_at)
        return;
    int err = mend(kv);
    if (!err)
        return;
    kv->mend_at = now + WR_KV_RETRY_MAX;
    wr_log(wr_env_log(kv->env), WR_LOG_ERROR, "kv", "damaged store cannot be begun anew err=%s",
           wr_err_name(err));
}

/* Something could not be read: was it the store? */
static void suspect(struct wr_kv *kv, int err)
{
    if (err == WR_ECORRUPT && !kv->closed && wr_kvdisk_damaged(kv->disk))
        wr_env_defer(kv->env, &kv->mend, mend_damaged);
}

void wr_kv_watch(struct wr_kv *kv, struct wr_kv_watch *watch)
{
    wr_list_append(&kv->watches, &watch->node);
}

void wr_kv_unwatch(struct wr_kv_watch *watch)
{
    wr_list_remove(&watch->node);
}

unsigned wr_kv_rebuilt(const struct wr_kv *kv)
{
    return kv->rebuilt;
}

/* ---- commits -------------------------------------------------------------------------------------- */

static void on_timer(struct wr_timer *timer)
{
    start_commit(wr_list_entry(timer, struct wr_kv, timer));
}

/* The next commit, if there is anything to commit. */
static void schedule(struct wr_kv *kv)
{
    if (!kv->active.count)
        return;
    if (!kv->err && kv->asked) {
        start_commit(kv);
        return;
    }
    wr_time at = kv->dirty_at + WR_KV_COMMIT_EVERY;
    if (kv->err) {
        wr_time wait = WR_KV_COMMIT_EVERY << (kv->failures < 6 ? kv->failures - 1 : 6);
        at = wr_env_now(kv->env) + (wait < WR_KV_RETRY_MAX ? wait : WR_KV_RETRY_MAX);
    }
    wr_timer_start(kv->env, &kv->timer, at, on_timer);
}

static void drop_oldest(struct wr_kv *kv)
{
    const struct wr_kvtree_entry *oldest = wr_kvtree_oldest(&kv->active);
    wr_kvtree_del(&kv->active, oldest->key);
    kv->dropped++;
}

/* Takes back what could not be committed, below what was written since. */
static void take_back(struct wr_kv *kv, struct job *job)
{
    const struct wr_kvtree_entry *e = wr_kvtree_seek(&job->batch, WR_BYTES_NONE, false);
    while (e && job->deletes_done) {
        const struct wr_kvtree_entry *next = wr_kvtree_next(e);
        if (e->tombstone)
            wr_kvtree_del(&job->batch, e->key);
        e = next;
    }
    wr_kvtree_merge_older(&kv->active, &job->batch);
    while (kv->active.bytes > kv->overlay_max || kv->active.count > WR_KV_BATCH_MAX)
        drop_oldest(kv);
}

static void failed(struct wr_kv *kv, int err)
{
    if (kv->err != err)
        wr_log(wr_env_log(kv->env), WR_LOG_ERROR, "kv", "commit failed err=%s pending=%zu",
               wr_err_name(err), kv->active.bytes + kv->job->batch.bytes);
    kv->err = err;
    kv->failures++;
    take_back(kv, kv->job);
    suspect(kv, err);
}

static void succeeded(struct wr_kv *kv)
{
    if (kv->err)
        wr_log(wr_env_log(kv->env), WR_LOG_INFO, "kv", "commits work again dropped=%llu",
               (unsigned long long)kv->dropped);
    kv->err = 0;
    kv->failures = 0;
    wr_kvtree_clear(&kv->job->batch);
}

static void job_done(struct wr_work *work)
{
    struct job *job = wr_list_entry(work, struct job, work);
    struct wr_kv *kv = job->kv;
    if (!kv) {
        job_destroy(job);
        return;
    }
    job->state = IDLE;
    kv->committing = false;
    settle_waiters(kv, kv->generation - 1, job->err);
    if (job->err)
        failed(kv, job->err);
    else
        succeeded(kv);
    schedule(kv);
}

/* Freezes what is dirty and hands it to a worker. */
static void start_commit(struct wr_kv *kv)
{
    struct job *job = kv->job;
    assert(!kv->committing && kv->active.count);
    wr_timer_stop(kv->env, &kv->timer);
    kv->asked = false;
    wr_kvtree_move(&job->batch, &kv->active);
    kv->generation++;
    job->state = QUEUED;
    job->deletes_done = false;
    int err = kv->err ? mend(kv) : 0;
    if (!err) {
        job->work.run = job_run;
        job->work.done = job_done;
        err = wr_env_work(kv->env, &job->work);
    }
    kv->committing = !err;
    if (err) {
        job->state = IDLE;
        settle_waiters(kv, kv->generation - 1, err);
        failed(kv, err);
        schedule(kv);
    }
}

static void commit_soon(struct wr_kv *kv)
{
    if (kv->committing)
        kv->asked = true;
    else if (kv->active.count)
        start_commit(kv);
}

int wr_kv_commit(struct wr_kv *kv, void (*on_done)(void *arg, int err), void *arg)
{
    assert(!kv->closed && !kv->scanning);
    if (on_done) {
        struct waiter *w = kv->waiter_count < WR_KV_WAITERS_MAX ? wr_alloc(sizeof(*w)) : NULL;
        if (!w)
            return WR_ELIMIT;
        w->generation = kv->active.count ? kv->generation : kv->generation - 1;
        w->on_done = on_done;
        w->arg = arg;
        wr_list_append(&kv->waiters, &w->node);
        kv->waiter_count++;
    }
    if (kv->active.count)
        commit_soon(kv);
    else if (!kv->committing)
        settle_waiters(kv, kv->generation, 0);
    return 0;
}

int wr_kv_error(const struct wr_kv *kv)
{
    return kv->err;
}

uint64_t wr_kv_dropped(const struct wr_kv *kv)
{
    return kv->dropped;
}

/* ---- open and close -------------------------------------------------------------------------------- */

int wr_kv_open(struct wr_env *env, const struct wr_kv_options *options, struct wr_kv **out)
{
    *out = NULL;
    if (!options->path || options->size_max < WR_KV_SIZE_MIN ||
        options->overlay_max < WR_KV_OVERLAY_MIN)
        return WR_EINVAL;
    struct wr_kv *kv = wr_alloc(sizeof(*kv));
    if (!kv)
        return WR_ELIMIT;
    kv->env = env;
    kv->overlay_max = options->overlay_max;
    kv->generation = 1;
    wr_list_init(&kv->waiters);
    wr_list_init(&kv->watches);
    wr_kvtree_init(&kv->active, random_seed(env));
    int err = wr_kvdisk_open(env, options->path, options->size_max, &kv->disk);
    if (err)
        goto fail;
    kv->job = job_create(kv);
    if (!kv->job) {
        wr_kvdisk_close(kv->disk);
        err = WR_ELIMIT;
        goto fail;
    }
    *out = kv;
    return 0;
fail:
    wr_free(kv);
    return err;
}

int wr_kv_open_anew(struct wr_env *env, const struct wr_kv_options *options, struct wr_kv **out)
{
    int err = wr_kv_open(env, options, out);
    if (err != WR_ECORRUPT)
        return err;
    err = wr_kv_destroy(env, options->path);
    if (!err)
        err = wr_kv_open(env, options, out);
    if (!err)
        count_rebuilt(*out);
    return err;
}

/* Waits for the worker or takes its work away; what is not on disk after that is in active. */
static void reclaim_job(struct wr_kv *kv)
{
    struct job *job = kv->job;
    pthread_mutex_lock(&job->lock);
    if (job->state == QUEUED)
        job->state = STOLEN;
    while (job->state == RUNNING)
        pthread_cond_wait(&job->ran, &job->lock);
    bool committed = job->state == RAN && job->err == 0;
    pthread_mutex_unlock(&job->lock);
    if (committed)
        wr_kvtree_clear(&job->batch);
    else
        take_back(kv, job);
}

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_kv, dispose));
}

void wr_kv_close(struct wr_kv *kv)
{
    if (!kv)
        return;
    assert(!kv->closed && !kv->scanning);
    kv->closed = true;
    wr_timer_stop(kv->env, &kv->timer);
    wr_task_cancel(&kv->answer);
    wr_task_cancel(&kv->tell);
    wr_task_cancel(&kv->mend);
    struct job *job = kv->job;
    if (kv->committing)
        reclaim_job(kv);
    int err = 0;
    if (kv->active.count) {
        if (kv->err)
            err = mend(kv);
        wr_kvtree_move(&job->batch, &kv->active);
        if (!err) {
            commit_batch(job);
            err = job->err;
        }
        if (err)
            wr_log(wr_env_log(kv->env), WR_LOG_ERROR, "kv", "last commit failed err=%s lost=%zu",
                   wr_err_name(err), job->batch.bytes);
        wr_kvtree_clear(&job->batch);
    }
    wr_kvdisk_close(kv->disk);
    job->kv = NULL;
    if (!kv->committing)
        job_destroy(job);
    struct wr_list *node;
    while ((node = wr_list_pop(&kv->waiters)))
        wr_free(wr_list_entry(node, struct waiter, node));
    while (wr_list_pop(&kv->watches))
        ;
    wr_env_dispose(kv->env, &kv->dispose, dispose);
}

int wr_kv_destroy(struct wr_env *env, const char *path)
{
    return wr_kvdisk_destroy(env, path);
}

/* ---- writing --------------------------------------------------------------------------------------- */

/* Whether one more write of this cost goes over a bound. While commits fail only what no attempt holds
 * counts, so that the newest writes always find room. */
static bool overlay_full(const struct wr_kv *kv, struct wr_bytes key, size_t cost)
{
    const struct wr_kvtree_entry *old = wr_kvtree_get(&kv->active, key);
    size_t bytes = kv->active.bytes + cost - (old ? wr_kvtree_cost(old->key, old->value) : 0);
    size_t count = kv->active.count + (old ? 0 : 1);
    if (!kv->err) {
        bytes += kv->job->batch.bytes;
        count += kv->job->batch.count;
    }
    return bytes > kv->overlay_max || count > WR_KV_BATCH_MAX;
}

static int write_record(struct wr_kv *kv, struct wr_bytes key, struct wr_bytes value, bool tombstone)
{
    assert(!kv->closed && !kv->scanning);
    if (key.len == 0 || key.len > WR_KV_KEY_MAX || value.len > WR_KV_VALUE_MAX)
        return WR_EINVAL;
    size_t cost = wr_kvtree_cost(key, value);
    while (overlay_full(kv, key, cost)) {
        if (!kv->err) {
            commit_soon(kv);
            return WR_ELIMIT;
        }
        drop_oldest(kv);
    }
    bool was_clean = kv->active.count == 0;
    int err = wr_kvtree_put(&kv->active, key, value, tombstone);
    if (was_clean && !err)
        kv->dirty_at = wr_env_now(kv->env);
    if (!kv->active.count || kv->committing)
        return err;
    if (kv->active.count >= BATCH_SOFT && !kv->err)
        start_commit(kv);
    else if (!wr_timer_running(&kv->timer))
        schedule(kv);
    return err;
}

int wr_kv_put(struct wr_kv *kv, struct wr_bytes key, struct wr_bytes value)
{
    return write_record(kv, key, value, false);
}

int wr_kv_del(struct wr_kv *kv, struct wr_bytes key)
{
    return write_record(kv, key, WR_BYTES_NONE, true);
}

/* ---- reading --------------------------------------------------------------------------------------- */

int wr_kv_get(struct wr_kv *kv, struct wr_bytes key, struct wr_buf *out)
{
    assert(!kv->closed && !kv->scanning);
    if (key.len == 0 || key.len > WR_KV_KEY_MAX)
        return WR_ENOTFOUND;
    const struct wr_kvtree_entry *e = wr_kvtree_get(&kv->active, key);
    if (!e)
        e = wr_kvtree_get(&kv->job->batch, key);
    if (!e) {
        int err = wr_kvdisk_get(kv->disk, key, out);
        suspect(kv, err);
        return err;
    }
    if (e->tombstone)
        return WR_ENOTFOUND;
    wr_buf_put_bytes(out, e->value);
    return out->full ? WR_ELIMIT : 0;
}

/* The three layers of a scan, newest first; each stands at its next key. */
struct merge {
    const struct wr_kvtree_entry *active, *frozen;
    struct wr_kvdisk_record record;
    int on_disk;    /* 1: record is set, 0: at the end, <0: failed */
};

/* The smallest key that any layer stands at; false at the end. */
static bool merge_key(const struct merge *m, struct wr_bytes *key)
{
    const struct wr_bytes *best = NULL;
    if (m->active)
        best = &m->active->key;
    if (m->frozen && (!best || wr_bytes_compare(m->frozen->key, *best) < 0))
        best = &m->frozen->key;
    if (m->on_disk > 0 && (!best || wr_bytes_compare(m->record.key, *best) < 0))
        best = &m->record.key;
    if (best)
        *key = *best;
    return best;
}

enum found { FOUND, DELETED, DAMAGED };

static enum found merge_value(const struct merge *m, struct wr_bytes key, struct wr_bytes *value)
{
    const struct wr_kvtree_entry *e = NULL;
    if (m->active && wr_bytes_equal(m->active->key, key))
        e = m->active;
    else if (m->frozen && wr_bytes_equal(m->frozen->key, key))
        e = m->frozen;
    *value = e ? e->value : m->record.value;
    if (e)
        return e->tombstone ? DELETED : FOUND;
    return m->record.damaged ? DAMAGED : FOUND;
}

/* Moves every layer that stands at key past it. The one that key points into goes last. */
static void merge_step(struct wr_kv *kv, struct merge *m, struct wr_bytes key)
{
    bool disk = m->on_disk > 0 && wr_bytes_equal(m->record.key, key);
    if (m->active && wr_bytes_equal(m->active->key, key))
        m->active = wr_kvtree_next(m->active);
    if (m->frozen && wr_bytes_equal(m->frozen->key, key))
        m->frozen = wr_kvtree_next(m->frozen);
    if (disk)
        m->on_disk = wr_kvdisk_next(kv->disk, &m->record);
}

int wr_kv_scan(struct wr_kv *kv, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg)
{
    assert(!kv->closed && !kv->scanning);
    bool skip = after.len && wr_bytes_compare(after, prefix) >= 0;
    struct wr_bytes from = skip ? after : prefix, key, value;
    struct merge m = {.active = wr_kvtree_seek(&kv->active, from, skip),
                      .frozen = wr_kvtree_seek(&kv->job->batch, from, skip)};
    int err = 0;
    kv->scanning = true;
    m.on_disk = wr_kvdisk_seek(kv->disk, from, skip, &m.record);
    while (m.on_disk >= 0 && merge_key(&m, &key) && wr_bytes_starts(key, prefix)) {
        enum found found = merge_value(&m, key, &value);
        if (found == DAMAGED)
            err = WR_ECORRUPT;
        if (found == FOUND && !visit(arg, key, value))
            break;
        merge_step(kv, &m, key);
    }
    wr_kvdisk_done(kv->disk);
    kv->scanning = false;
    suspect(kv, m.on_disk);
    return m.on_disk < 0 ? m.on_disk : err;
}
