/* env_uv_priv.h - what the files of env_uv share. Service. Included by env_uv*.c only. */
#ifndef WR_ENV_UV_PRIV_H
#define WR_ENV_UV_PRIV_H

#include "transport/env_turn.h"
#include "transport/env_uv.h"

#include <sys/socket.h>
#include <uv.h>

#define WR_ENV_UV_SHARED ((size_t)256 * 1024)    /* bytes; one read at most; notes: larger gains nothing */

/* A descriptor in the epoll set, at the start of the struct that owns it. */
struct wr_env_uv_source {
    int fd;             /* owned; -1 once closed */
    uint32_t events;    /* EPOLL bits waited for; 0: not in the set */
    void (*on_ready)(struct wr_env_uv_source *source, uint32_t events);
    struct wr_env_uv_source *next_dead;
};

struct wr_env_uv_dns;
struct wr_env_uv_link;

struct wr_env_uv {
    struct wr_env env;    /* first: see env_turn.h */
    uv_loop_t *loop;      /* borrowed */
    uv_timer_t timer;     /* the earliest wr_timer */
    uv_idle_t idle;       /* runs only while a timer or task is due at once */
    uv_poll_t poll;       /* of epoll_fd */
    int epoll_fd;
    unsigned handles;      /* of libuv, not closed yet */
    unsigned works;        /* under way */
    unsigned sources;      /* open */
    wr_time armed_at;      /* what `timer` waits for; 0: nothing */
    uint8_t *shared;       /* owned; WR_ENV_UV_SHARED bytes that every read lands in */
    struct wr_env_uv_source *dead;     /* owned; closed in this round, freed at its end */
    struct wr_list starved;            /* listeners that wait for descriptors; env_uv_listen.c */
    struct wr_env_uv_dns *dns;         /* owned; NULL before the first question; env_uv_dns.c */
    struct wr_env_uv_link *link;       /* owned; NULL before the first watch; env_uv_link.c */
};

static inline struct wr_env_uv *wr_env_uv_of(struct wr_env *env)
{
    return (struct wr_env_uv *)(void *)env;
}

wr_time wr_env_uv_clock(void);
/* A turn of its own for one handler: begin, call, end. */
void wr_env_uv_begin(struct wr_env_uv *e);
void wr_env_uv_end(struct wr_env_uv *e);

/* Takes fd over (also when it fails: closed then) and waits for events. 0, WR_ELIMIT. */
int wr_env_uv_source_open(struct wr_env_uv *e, struct wr_env_uv_source *source, int fd, uint32_t events,
                          void (*on_ready)(struct wr_env_uv_source *, uint32_t));
/* Changes what is waited for; 0 leaves the set, EPOLLERR alone stays in it for errors only. */
int wr_env_uv_source_want(struct wr_env_uv *e, struct wr_env_uv_source *source, uint32_t events);
/* Closes the descriptor now. The struct (one block of wr_alloc) is freed when the round is over. */
void wr_env_uv_source_close(struct wr_env_uv *e, struct wr_env_uv_source *source);
/* The pair for a descriptor that stays another's: opened without failing (should the set be full, no
 * event comes), and let go of before its owner closes it. */
void wr_env_uv_source_borrow(struct wr_env_uv *e, struct wr_env_uv_source *source, int fd,
                             uint32_t events, void (*on_ready)(struct wr_env_uv_source *, uint32_t));
void wr_env_uv_source_forget(struct wr_env_uv *e, struct wr_env_uv_source *source);

int wr_env_uv_error(int error);    /* errno to enum wr_err */

/* env_uv_net.c */
static inline void wr_env_uv_set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof(value));
}
void wr_env_uv_stream_options(int fd);    /* what every TCP socket of ours has; accepted ones inherit it */
/* What getsockname or getpeername says; family 0 when it says nothing. */
void wr_env_uv_name_of(const struct wr_env_uv_source *source, int (*get)(int, struct sockaddr *, socklen_t *),
                       struct wr_addr *out);
struct sockaddr_un;
bool wr_env_uv_local_address(const char *path, struct sockaddr_un *out);    /* false: empty, or too long */
/* A socket for an accepted descriptor, which it takes over (also when it fails: closed then). 0, WR_ELIMIT. */
int wr_env_uv_sock_accepted(struct wr_env_uv *e, int fd, bool local, struct wr_sock **out);
bool wr_env_uv_sock_taken(const struct wr_sock *s);    /* it has an owner, or is closed */

/* env_uv_listen.c: descriptors were closed, listeners that starve may try again. */
void wr_env_uv_listen_retry(struct wr_env_uv *e);
void wr_env_uv_dns_destroy(struct wr_env_uv *e);
void wr_env_uv_link_destroy(struct wr_env_uv *e);
/* Looks whether the machine slept since the last look, or the process was stopped: the timer fired so late. */
void wr_env_uv_link_check_sleep(struct wr_env_uv *e, wr_time late);

#endif
