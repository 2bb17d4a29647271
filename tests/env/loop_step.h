/* loop_step.h - one round of a libuv loop, for tests that wait until something is so. UV_RUN_ONCE runs what is due and
 * then waits, also for what that has just brought about: on a busy machine for ever. This waits 10 ms at most. */
#ifndef WR_TESTS_LOOP_STEP_H
#define WR_TESTS_LOOP_STEP_H

#include <poll.h>
#include <uv.h>

static inline void loop_step(uv_loop_t *loop)
{
    struct pollfd backend = {.fd = uv_backend_fd(loop), .events = POLLIN};
    if (uv_run(loop, UV_RUN_NOWAIT) != 0 && uv_backend_timeout(loop) != 0)
        (void)poll(&backend, 1, 10);
}

#endif
