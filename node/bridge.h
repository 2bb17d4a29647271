/* bridge.h - a stream handed to another process as a descriptor: bytes both ways, ends one by one.
 * Service. Nothing is read from one side beyond what the other takes: a slow process slows its peer
 * down by the stream's window, a slow peer slows the process down by its socket. */
#ifndef WR_BRIDGE_H
#define WR_BRIDGE_H

#include "transport/stream.h"

#define WR_BRIDGE_KEPT (256 * 1024) /* bytes kept for a process that does not read; ours */

struct wr_bridge;

/* Takes the stream over (set its handlers inside on_open or on_stream). *fd is the other process's
 * end: pass it on, then close it. on_end: both sides are gone, and so is the bridge. 0, WR_ELIMIT,
 * WR_ENOFD, WR_EUNSUPPORTED; on failure the stream is still the caller's. */
int wr_bridge_create(struct wr_env *env, struct wr_stream *stream, void (*on_end)(void *arg),
                     void *arg, struct wr_bridge **out, int *fd);
/* Cuts both sides off; on_end is not called. */
void wr_bridge_destroy(struct wr_bridge *b);

#endif
