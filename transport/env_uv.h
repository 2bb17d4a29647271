/* env_uv.h - the seam on a libuv loop, for a real machine. Service.
 * Any number of environments per process and per loop; each is used from its loop's thread only. It
 * holds one timer, one idle and one poll handle of libuv whatever it carries: sockets wait in an epoll
 * set of its own, which the poll handle watches. With nothing to do it causes no wake-ups. */
#ifndef WR_ENV_UV_H
#define WR_ENV_UV_H

#include "transport/env.h"

struct uv_loop_s;

/* loop and log are borrowed; log may be NULL. NULL when out of memory or descriptors. */
struct wr_env *wr_env_uv_create(struct uv_loop_s *loop, const struct wr_log *log);
/* Everything opened through env is closed before, and no turn runs (call from outside the handlers).
 * Tasks that wait run now. Work under way still gets its done() call. The memory goes when the loop has
 * run once more. */
void wr_env_uv_destroy(struct wr_env *env);

/* Runs the loop until *stop is true (looked at after every round), for whoever has nothing else to drive it with: as
 * uv_run, but a socket that wakes us costs one wait instead of two. Call from outside the handlers. */
void wr_env_uv_run(struct wr_env *env, const bool *stop);

#define WR_ENV_UV_RESOLVERS_MAX 4    /* ours; the C library takes 3 */

/* Asks these name servers, in order, instead of the system's (/etc/resolv.conf); count 0: the system's
 * again. From the next lookup on. 0, WR_ELIMIT. */
int wr_env_uv_resolvers(struct wr_env *env, const struct wr_addr *servers, size_t count);

#endif
