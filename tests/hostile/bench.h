/* bench.h - what hostile tests of the store stand on: a loop with an environment, and a directory. */
#ifndef HOSTILE_BENCH_H
#define HOSTILE_BENCH_H

#include "transport/env_uv.h"
#include "transport/kv.h"

#include <uv.h>

struct bench {
    uv_loop_t loop;
    struct wr_env *env;
};

void bench_start(struct bench *b, const struct wr_log *log);
void bench_stop(struct bench *b);
/* Asks for a commit and runs the loop until it is answered; the answer. */
int bench_commit(struct bench *b, struct wr_kv *kv);

#define BENCH_PATH 128    /* bytes */

/* A new directory under $TMPDIR or /tmp; removed with the plain files in it and one level below. */
void bench_make_dir(char path[static BENCH_PATH]);
void bench_remove_dir(const char *path);
/* The file's bytes appended to out; and the reverse. Failures end the program. */
void bench_read_file(const char *path, struct wr_buf *out);
void bench_write_file(const char *path, struct wr_bytes bytes);

#endif
