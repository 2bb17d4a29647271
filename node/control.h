/* control.h - the control socket: clients on this machine call methods of the node. Service.
 * MessagePack-RPC (rpc.h) on a local socket of mode 0600; the API is described in docs/control.md.
 * This file knows no method but `hello`, `subscribe`, `unsubscribe` and `cancel`; methods.c
 * registers the rest.
 *
 *   client -> [0, id, method, [params]]
 *   node   -> [2, "progress", [{id, ...}]] ...      while a deferred call runs, if it says anything
 *   node   -> [1, id, nil, result] or [1, id, {code, text}, nil]
 *   node   -> [2, "event", [{event, seq, ...}]]     to subscribers
 *
 * Bounds: clients (WR_LIMIT_CLIENTS), bytes and objects of a request (rpc.h), calls under way and
 * output kept per client. A client that does not read is not read either; one that lets replies
 * pile up is closed; events and progress that find no room are dropped and their number told. */
#ifndef WR_CONTROL_H
#define WR_CONTROL_H

#include "node/pack.h"
#include "node/rpc.h"
#include "transport/env.h"
#include "transport/limits.h"

#define WR_CONTROL_API         1  /* raised only when something existing changes its meaning */
#define WR_CONTROL_CALLS_MAX   64 /* calls under way per client; ours */
#define WR_CONTROL_METHODS_MAX 64 /* ours */
#define WR_CONTROL_READ_ABOVE                                                                      \
    (64 * 1024) /* bytes kept for a client: beyond, it is not read; ours */
#define WR_CONTROL_EVENT_ABOVE (256 * 1024) /* bytes kept: beyond, events are dropped; ours */
#define WR_CONTROL_KEPT_MAX                                                                        \
    (8 * 1024 * 1024) /* bytes kept: beyond, it is closed; ours: two replies */
#define WR_CONTROL_TIMEOUT_MAX UINT64_C(86400000) /* ms: the longest `timeout_ms`, a day; ours */

struct wr_control;
struct wr_call; /* one request, alive until it is answered or cancelled */

struct wr_control_options {
    struct wr_env *env;
    struct wr_limits *limits; /* borrowed */
    const char *path;         /* of the socket; copied */
    const char *peer;         /* own peer id as text, for `hello`; copied */
};

/* 0 with *out set; WR_EINUSE: another node answers at path; WR_EPERM, WR_EINVAL, WR_EIO, WR_ELIMIT.
 */
int wr_control_create(const struct wr_control_options *options, struct wr_control **out);
/* Closes every client; calls under way are cancelled. What was answered before still goes out as
 * far as the kernel takes it. NULL is allowed. */
void wr_control_destroy(struct wr_control *c);
const char *wr_control_path(const struct wr_control *c);
size_t wr_control_clients(const struct wr_control *c);

/* ---- methods. A handler ends its call by exactly one of wr_call_done, wr_call_done_fd and
 * wr_call_fail: within, or later if it says wr_call_defer before it returns. Parameters are valid
 * during the handler. */
typedef void (*wr_method_fn)(void *arg, struct wr_call *call, struct wr_params *params);
/* name is static text. 0, WR_EEXIST, WR_ELIMIT. */
int wr_control_method(struct wr_control *c, const char *name, wr_method_fn fn, void *arg);

/* on_cancel: the client went, cancelled, or its `timeout_ms` ran out: stop the work and forget the
 * call, which is gone when on_cancel returns. */
void wr_call_defer(struct wr_call *call, void (*on_cancel)(void *arg), void *arg);
/* The result's map, open for fields; the same one on every call. wr_call_done closes it; never
 * asked for, the result is an empty map. */
struct wr_pack *wr_call_result(struct wr_call *call);
void wr_call_done(struct wr_call *call);
/* As wr_call_done, handing the client a descriptor; fd stays the caller's. */
void wr_call_done_fd(struct wr_call *call, int fd);
/* Fails with a code and a sentence that says what to do next; NULL format: the code's own text.
 * What was put into the result is dropped. */
void wr_call_fail(struct wr_call *call, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Fails the call when a parameter was wrong; true then. For after all parameters were read. */
bool wr_call_refuse(struct wr_call *call, const struct wr_params *params);

/* Tells the client how a deferred call goes: open, put fields, send. NULL: no room for it now. */
struct wr_pack *wr_call_progress(struct wr_call *call);
void wr_call_progress_send(struct wr_call *call);

/* ---- events for every subscriber: open, put fields, send. NULL: nobody listens, put nothing. */
struct wr_pack *wr_control_event(struct wr_control *c, const char *event);
void wr_control_event_send(struct wr_control *c);

#endif
