/* store_writer DIR [linger] - lives the life of history.h in a store until somebody ends it. Says "at N"
 * when it went on from what it found, "acked N" when batch N is on disk; with linger it asks for no commit
 * and says "wrote N" every 50 ms instead. */
#include "tests/hostile/bench.h"
#include "tests/hostile/history.h"

#include <stdio.h>
#include <string.h>

struct writer {
    struct bench bench;
    struct wr_kv *kv;
    struct history history;
    struct wr_timer timer;
    uint32_t asked;
};

static void go_on(struct writer *w);

static void on_done(void *arg, int err)
{
    struct writer *w = arg;
    if (err)
        printf("failed %s\n", wr_err_name(err));
    else
        printf("acked %u\n", w->asked);
    go_on(w);
}

static void go_on(struct writer *w)
{
    unsigned batches = 1 + w->history.batch % 3;
    while (batches--)
        history_go_on(&w->history, w->kv);
    w->asked = w->history.batch;
    if (wr_kv_commit(w->kv, on_done, w))
        printf("failed to ask\n");
    history_go_on(&w->history, w->kv);    /* while it commits */
}

static void on_timer(struct wr_timer *timer)
{
    struct writer *w = wr_list_entry(timer, struct writer, timer);
    history_go_on(&w->history, w->kv);
    printf("wrote %u\n", w->history.batch);
    wr_timer_start(w->bench.env, timer, wr_env_now(w->bench.env) + 50 * WR_MSEC, on_timer);
}

int main(int argc, char **argv)
{
    static struct writer w;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2)
        return 2;
    bench_start(&w.bench, NULL);
    struct wr_kv_options o = {argv[1], 64 << 20, 4 << 20};
    int err = wr_kv_open(w.bench.env, &o, &w.kv);
    if (err) {
        printf("open %s\n", wr_err_name(err));
        return 1;
    }
    history_tell(&w.history, history_batch_of(w.kv));
    const char *what = history_compare(&w.history, w.kv);
    if (what) {
        printf("found %s\n", what);
        return 1;
    }
    printf("at %u\n", w.history.batch);
    if (argc > 2 && strcmp(argv[2], "linger") == 0)
        on_timer(&w.timer);
    else
        go_on(&w);
    uv_run(&w.bench.loop, UV_RUN_DEFAULT);
    return 0;
}
