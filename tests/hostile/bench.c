#include "tests/hostile/bench.h"
#include "tests/env/loop_step.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

void bench_start(struct bench *b, const struct wr_log *log)
{
    require(uv_loop_init(&b->loop) == 0, "loop");
    b->env = wr_env_uv_create(&b->loop, log);
    require(b->env, "environment");
}

void bench_stop(struct bench *b)
{
    wr_env_uv_destroy(b->env);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    require(uv_loop_close(&b->loop) == 0, "loop is busy");
}

struct answer {
    bool done;
    int err;
};

static void on_done(void *arg, int err)
{
    *(struct answer *)arg = (struct answer){true, err};
}

int bench_commit(struct bench *b, struct wr_kv *kv)
{
    struct answer answer = {false, 0};
    int err = wr_kv_commit(kv, on_done, &answer);
    if (err)
        return err;
    while (!answer.done)
        loop_step(&b->loop);
    return answer.err;
}

void bench_make_dir(char path[static BENCH_PATH])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, BENCH_PATH, "%s/warren-hostile-XXXXXX", base ? base : "/tmp");
    require(mkdtemp(path), path);
}

void bench_remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char name[512];
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (unlink(name) != 0)
            bench_remove_dir(name);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

void bench_read_file(const char *path, struct wr_buf *out)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    require(fd >= 0 && fstat(fd, &st) == 0, path);
    uint8_t *room = wr_buf_reserve(out, (size_t)st.st_size);
    require(room && read(fd, room, (size_t)st.st_size) == st.st_size, path);
    wr_buf_grew(out, (size_t)st.st_size);
    close(fd);
}

void bench_write_file(const char *path, struct wr_bytes bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len, path);
    close(fd);
}
