/* The data directory: owner, lock, format and identity, and what is said when one of them is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/still_env.h"

#include "node/datadir.h"
#include "node/keyfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534    /* user and group */

static char top[64], dir[128];    /* a fresh directory; the data directory in it, not made yet */
static char err[WR_DATADIR_ERROR];
static struct wr_datadir *d;

static void remove_tree(const char *path)
{
    DIR *open_dir = opendir(path);
    struct dirent *entry;
    while (open_dir && (entry = readdir(open_dir))) {
        char name[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (unlink(name))
            remove_tree(name);
    }
    if (open_dir)
        closedir(open_dir);
    rmdir(path);
}

static int set_up(void **state)
{
    (void)state;
    still_start(WR_SEC);
    strcpy(top, "/tmp/warren-datadir-XXXXXX");
    assert_non_null(mkdtemp(top));
    snprintf(dir, sizeof(dir), "%s/a/b", top);
    d = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    wr_datadir_close(d);
    remove_tree(top);
    return 0;
}

static const char *at(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777u;
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void write_file(const char *path, const void *bytes, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
    assert_int_equal(chmod(path, mode), 0);
}

static size_t read_file(const char *path, uint8_t *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t len = read(fd, out, size);
    close(fd);
    assert_true(len >= 0);
    return (size_t)len;
}

static void opens(void)
{
    int code = wr_datadir_open(&still.env, dir, &d, err);
    if (code)
        fail_msg("%s: %s", wr_err_name(code), err);
}

/* Refused with this code and a sentence that has all these words. */
static void refused(int code, const char *a, const char *b)
{
    assert_int_equal(wr_datadir_open(&still.env, dir, &d, err), code);
    assert_null(d);
    if (!strstr(err, a) || !strstr(err, b))
        fail_msg("says only: %s", err);
}

static void identity_refused(int code, const char *a, const char *b)
{
    struct wr_key key;
    bool made;
    assert_int_equal(wr_datadir_identity(d, &key, &made, err), code);
    assert_false(made);
    if (!strstr(err, a) || !strstr(err, b))
        fail_msg("says only: %s", err);
}

static void identity(struct wr_key *key, bool want_made)
{
    bool made;
    int code = wr_datadir_identity(d, key, &made, err);
    if (code)
        fail_msg("%s: %s", wr_err_name(code), err);
    assert_int_equal(made, want_made);
}

/* ---- tests ---------------------------------------------------------------------------------------------- */

static void test_first_start(void **state)
{
    (void)state;
    struct wr_key first, second;
    uint8_t text[64];
    opens();
    assert_int_equal(mode_of(dir), 0700);
    assert_string_equal(wr_datadir_store(d), at("store"));
    assert_int_equal(read_file(at("format"), text, sizeof(text)), 21);
    assert_memory_equal(text, "warren data format 1\n", 21);
    identity(&first, true);
    assert_int_equal(mode_of(at("identity.key")), 0600);
    assert_int_equal(read_file(at("identity.key"), text, sizeof(text)), 64);    /* more than that */
    wr_datadir_close(d);
    opens();
    identity(&second, false);
    assert_memory_equal(&first, &second, sizeof(first));
    wr_datadir_close(d);
    snprintf(dir, sizeof(dir), "%s/other///", top);
    opens();
    identity(&second, true);
    assert_memory_not_equal(&first, &second, sizeof(first));
    wr_datadir_close(NULL);
}

static void test_one_node_at_a_time(void **state)
{
    (void)state;
    char process[32];
    struct wr_datadir *other;
    opens();
    snprintf(process, sizeof(process), "process %ld)", (long)getpid());
    assert_int_equal(wr_datadir_open(&still.env, dir, &other, err), WR_EINUSE);
    assert_non_null(strstr(err, process));
    assert_non_null(strstr(err, dir));
    wr_datadir_close(d);
    opens();
}

/* The lock of a process that is killed goes with it. */
static void test_lock_of_a_dead_process(void **state)
{
    (void)state;
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        if (wr_datadir_open(&still.env, dir, &d, err) == 0 && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    refused(WR_EINUSE, dir, "--data");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    opens();
    close(ready[0]);
    close(ready[1]);
}

static void test_formats(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
    } formats[] = {
        {"warren data format 1\n", 0},
        {"warren data format 1", 0},
        {"warren data format 2\n", WR_EINVAL},
        {"warren data format 10\n", WR_EINVAL},
        {"warren data format 99999999999999999999999\n", WR_EINVAL},
        {"warren data format 0\n", WR_ECORRUPT},
        {"warren data format -1\n", WR_ECORRUPT},
        {"warren data format 1x\n", WR_ECORRUPT},
        {"warren data format \n", WR_ECORRUPT},
        {"warren data", WR_ECORRUPT},
        {"", WR_ECORRUPT},
        {"\n", WR_ECORRUPT},
        {"[core]\nrepositoryformatversion = 0\n", WR_ECORRUPT},
    };
    opens();
    wr_datadir_close(d);
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        uint8_t after[128];
        size_t len = strlen(formats[i].text);
        d = NULL;
        write_file(at("format"), formats[i].text, len, 0600);
        if (formats[i].code)
            refused(formats[i].code, dir, formats[i].code == WR_EINVAL ? "newer version" : "format");
        else
            opens();
        wr_datadir_close(d);
        d = NULL;
        assert_int_equal(read_file(at("format"), after, sizeof(after)), len);
        assert_memory_equal(after, formats[i].text, len);
    }
}

static void test_directory_of_others(void **state)
{
    (void)state;
    opens();
    wr_datadir_close(d);
    d = NULL;
    chmod(dir, 0755);
    opens();
    wr_datadir_close(d);
    d = NULL;
    chmod(dir, 0770);
    refused(WR_EPERM, "0770", "chmod 700");
    chmod(dir, 0707);
    refused(WR_EPERM, "0707", "chmod 700");
    chmod(dir, 0700);
    if (geteuid() != 0)
        return;
    assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
    refused(WR_EPERM, "belongs to user 65534", dir);
}

static void test_no_directory(void **state)
{
    (void)state;
    char path[128], longest[5000];
    snprintf(path, sizeof(path), "%s/a", top);
    write_file(path, "x", 1, 0600);
    refused(WR_EINVAL, dir, "directory");    /* below a file */
    strcpy(dir, path);
    refused(WR_EINVAL, dir, "not a directory");
    assert_int_equal(wr_datadir_open(&still.env, "", &d, err), WR_EINVAL);
    assert_true(err[0]);
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    assert_int_equal(wr_datadir_open(&still.env, longest, &d, err), WR_EINVAL);
    assert_int_equal(strlen(err) < sizeof(err), 1);
    unlink(path);
    assert_int_equal(symlink("/nowhere/at/all", path), 0);
    assert_int_not_equal(wr_datadir_open(&still.env, path, &d, err), 0);
    assert_null(d);
}

static void test_identity_that_others_can_read(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0604, 0610, 0620, 0644, 0777};
    struct wr_key key, again;
    opens();
    identity(&key, true);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        char mode[8];
        chmod(at("identity.key"), modes[i]);
        snprintf(mode, sizeof(mode), "%04o", modes[i]);
        identity_refused(WR_EPERM, mode, "chmod 600");
        assert_int_equal(mode_of(at("identity.key")), modes[i]);
    }
    chmod(at("identity.key"), 0400);
    identity(&again, false);
    assert_memory_equal(&key, &again, sizeof(key));
}

/* Whatever stands there is not overwritten. */
static void test_damaged_identity(void **state)
{
    (void)state;
    struct wr_key key;
    uint8_t bytes[WR_KEYFILE_MAX + 8], after[WR_KEYFILE_MAX + 9];
    opens();
    identity(&key, true);
    size_t len = read_file(at("identity.key"), bytes, sizeof(bytes));
    for (size_t cut = 0; cut < len; cut++) {
        write_file(at("identity.key"), bytes, cut, 0600);
        identity_refused(WR_ECORRUPT, at("identity.key"), "left as it is");
        assert_int_equal(read_file(at("identity.key"), after, sizeof(after)), cut);
        assert_memory_equal(after, bytes, cut);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_file(at("identity.key"), bytes, len, 0600);
        identity_refused(WR_ECORRUPT, at("identity.key"), "not an Ed25519 key");
        assert_int_equal(read_file(at("identity.key"), after, sizeof(after)), len);
        assert_memory_equal(after, bytes, len);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(bytes + len, 0, sizeof(bytes) - len);
    write_file(at("identity.key"), bytes, sizeof(bytes), 0600);
    identity_refused(WR_ECORRUPT, at("identity.key"), "move");
    unlink(at("identity.key"));
    mkdir(at("identity.key"), 0700);
    identity_refused(WR_ECORRUPT, at("identity.key"), "not an Ed25519 key");
}

static void test_identity_elsewhere(void **state)
{
    (void)state;
    struct wr_key key, again;
    char real[128];
    snprintf(real, sizeof(real), "%s/secret", top);
    opens();
    assert_int_equal(symlink(real, at("identity.key")), 0);
    identity_refused(WR_ENOTFOUND, "link", "not there");    /* the disk with the keys is not mounted */
    assert_false(exists(real));
    unlink(at("identity.key"));
    identity(&key, true);
    assert_int_equal(rename(at("identity.key"), real), 0);
    assert_int_equal(symlink(real, at("identity.key")), 0);
    identity(&again, false);
    assert_memory_equal(&key, &again, sizeof(key));
    chmod(real, 0644);    /* what counts is the file, not the link */
    identity_refused(WR_EPERM, "others", "chmod 600");
}

/* A crash between making the key and giving it its name, in a container, where the process has the same
 * number each time. */
static void test_half_made_identity(void **state)
{
    (void)state;
    struct wr_key key;
    char name[64];
    opens();
    snprintf(name, sizeof(name), "identity.key.new.%ld", (long)getpid());
    write_file(at(name), "half", 4, 0600);
    write_file(at("identity.key.new.1"), "half", 4, 0600);
    write_file(at("identity.key.bak"), "mine", 4, 0600);
    identity(&key, true);
    assert_false(exists(at(name)) || exists(at("identity.key.new.1")));
    assert_true(exists(at("identity.key.bak")));
}

static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit old, none;
    struct wr_key key;
    getrlimit(RLIMIT_FSIZE, &old);
    none = old;
    none.rlim_cur = 0;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    int code = wr_datadir_open(&still.env, dir, &d, err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(code, WR_EFULL);
    assert_non_null(strstr(err, "format"));
    assert_false(exists(at("format")));
    none.rlim_cur = 10;    /* comes up short */
    setrlimit(RLIMIT_FSIZE, &none);
    code = wr_datadir_open(&still.env, dir, &d, err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(code, WR_EFULL);
    assert_false(exists(at("format")));
    opens();
    setrlimit(RLIMIT_FSIZE, &none);
    bool made;
    code = wr_datadir_identity(d, &key, &made, err);
    wr_datadir_close(d);
    d = NULL;
    int again = wr_datadir_open(&still.env, dir, &d, err);    /* what exists opens on a full disk */
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_not_equal(code, 0);
    assert_false(made || exists(at("identity.key")));
    assert_int_equal(again, 0);
    identity(&key, true);
}

/* As a user for whom permissions mean something. Returns the child's verdict. */
static int as_nobody(int (*check)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgid(NOBODY) || setuid(NOBODY)))
            _exit(99);
        _exit(check());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int open_code(void)
{
    return -wr_datadir_open(&still.env, dir, &d, err);
}

static int identity_code(void)
{
    struct wr_key key;
    bool made;
    int code = wr_datadir_open(&still.env, dir, &d, err);
    return code ? 98 : -wr_datadir_identity(d, &key, &made, err);
}

static void test_without_permission(void **state)
{
    (void)state;
    if (geteuid() == 0)
        assert_int_equal(chown(top, NOBODY, NOBODY), 0);
    assert_int_equal(chmod(top, 0500), 0);
    assert_int_equal(as_nobody(open_code), -WR_EPERM);    /* cannot be made */
    assert_int_equal(chmod(top, 0700), 0);
    assert_int_equal(as_nobody(identity_code), 0);
    assert_int_equal(chmod(at("identity.key"), 0), 0);
    assert_int_equal(as_nobody(identity_code), -WR_EPERM);
    assert_int_equal(chmod(at("identity.key"), 0600), 0);
    assert_int_equal(chmod(at("format"), 0), 0);
    assert_int_equal(as_nobody(open_code), -WR_EPERM);
    assert_int_equal(chmod(at("format"), 0600), 0);
    assert_int_equal(as_nobody(identity_code), 0);
    unlink(at("identity.key"));
    assert_int_equal(chmod(dir, 0500), 0);
    assert_int_equal(as_nobody(identity_code), -WR_EPERM);    /* no new one can be written */
    assert_int_equal(chmod(dir, 0700), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_first_start),
        TEST(test_one_node_at_a_time),
        TEST(test_lock_of_a_dead_process),
        TEST(test_formats),
        TEST(test_directory_of_others),
        TEST(test_no_directory),
        TEST(test_identity_that_others_can_read),
        TEST(test_damaged_identity),
        TEST(test_identity_elsewhere),
        TEST(test_half_made_identity),
        TEST(test_full_disk),
        TEST(test_without_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
