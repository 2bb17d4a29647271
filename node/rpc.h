/* rpc.h - MessagePack-RPC: where a message ends, what it says, and its parameters. Value.
 * Spec: msgpack-rpc/spec.md (the published array form):
 *   request [0, id, method, params]   response [1, id, error, result]   notification [2, method,
 * params] Parameters are one map with string keys: params is [map], [], a bare map or nil.
 * msgpack-c sizes its memory by the counts that a header claims, so nothing reaches it before the
 * scan has seen the whole message and counted its objects. */
#ifndef WR_RPC_H
#define WR_RPC_H

#include "transport/bytes.h"

#include <msgpack/unpack.h>

#define WR_RPC_DEPTH_MAX     16 /* nested arrays and maps; ours, our own messages use 5 */
#define WR_RPC_REQUEST_MAX   (1024 * 1024) /* bytes a client may send as one message; ours */
#define WR_RPC_REQUEST_ITEMS 4096          /* objects in it; ours: memory is 24 bytes for each */
#define WR_RPC_REPLY_MAX     (4 * 1024 * 1024) /* bytes of one reply; ours: 8,192 peers at 400 bytes \
                                                */
#define WR_RPC_REPLY_ITEMS (512 * 1024)        /* objects that our own clients take in a reply */
#define WR_RPC_NAME_MAX    64                  /* bytes of a method's name; ours */

/* ---- framing: a resumable scan over the bytes of one message */
struct wr_rpc_scan {
    size_t size_max, items_max;
    size_t pos;                      /* bytes understood so far */
    size_t items;                    /* objects seen */
    unsigned depth;                  /* open containers */
    uint64_t left[WR_RPC_DEPTH_MAX]; /* objects still to come in each */
};

void wr_rpc_scan_init(struct wr_rpc_scan *scan, size_t size_max, size_t items_max);
/* `in` holds the message from its first byte; call again with more behind it. Returns the length of
 * the message, after which the scan starts afresh; 0: wants more; WR_EPROTO: not MessagePack, or no
 * array first; WR_ELIMIT: too long, too deep or too many objects. */
int wr_rpc_scan(struct wr_rpc_scan *scan, struct wr_bytes in);

/* ---- meaning */
enum wr_rpc_type { WR_RPC_REQUEST = 0, WR_RPC_RESPONSE = 1, WR_RPC_NOTIFICATION = 2 };

/* Borrows from the scanned bytes; wr_rpc_message_clear when done. */
struct wr_rpc_message {
    enum wr_rpc_type type;
    uint32_t id;                  /* request, response */
    struct wr_bytes method;       /* request, notification */
    const msgpack_object *params; /* request, notification: the map, or NULL */
    const msgpack_object *error;  /* response: NULL when it succeeded */
    const msgpack_object *result; /* response */
    msgpack_unpacked unpacked;
};

/* Decodes one scanned message. 0, WR_EPROTO (nothing to clear), WR_ELIMIT (out of memory). */
int wr_rpc_decode(struct wr_bytes in, struct wr_rpc_message *m);
void wr_rpc_message_clear(struct wr_rpc_message *m);
/* The value under a key of a map, or NULL; map may be NULL or no map. */
const msgpack_object *wr_rpc_find(const msgpack_object *map, const char *key);

/* ---- parameters of a request: sticky, read all and ask once. A wrong type or value out of range
 * sets `wrong` (and keeps the first one); unknown parameters are ignored so that newer clients
 * work. */
struct wr_params {
    const msgpack_object *map; /* or NULL */
    const char *wrong;         /* name of the first bad parameter, or NULL */
    const char *wanted;        /* what it should have been */
};

/* Text as a C string in out; "" when missing. NUL bytes and text of size bytes or more are wrong.
 */
const char *wr_params_text(struct wr_params *p, const char *name, char *out, size_t size);
/* Bytes (bin, or the bytes of a text), borrowed; none when missing. */
struct wr_bytes wr_params_bytes(struct wr_params *p, const char *name);
uint64_t wr_params_u64(struct wr_params *p, const char *name, uint64_t missing, uint64_t max);
bool wr_params_bool(struct wr_params *p, const char *name, bool missing);

#endif
