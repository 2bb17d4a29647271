#include "node/rpc.h"

#include "transport/err.h"

#include <string.h>

void wr_rpc_scan_init(struct wr_rpc_scan *scan, size_t size_max, size_t items_max)
{
    memset(scan, 0, sizeof(*scan));
    scan->size_max = size_max;
    scan->items_max = items_max;
}

/* One header: its own length, the payload behind it, and the objects that it contains. */
struct header {
    size_t len;
    uint64_t payload, children;
    bool container;
};

static uint64_t big_endian(const uint8_t *at, size_t len)
{
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++)
        v = v << 8 | at[i];
    return v;
}

/* What a first byte from 0xc0 to 0xdf announces (MessagePack spec, "Overview"). */
struct form {
    uint8_t size_len; /* bytes of the length or count field */
    uint8_t fixed;    /* payload bytes besides */
    uint8_t children; /* objects per counted element; 0: the field counts bytes */
};

static const struct form forms[32] = {
    [0x00] = {0, 0, 0}, /* nil; 0xc1 is never used, see read_header */
    [0x02] = {0, 0, 0}, /* false */
    [0x03] = {0, 0, 0}, /* true */
    [0x04] = {1, 0, 0}, /* bin 8, 16, 32 */
    [0x05] = {2, 0, 0},  [0x06] = {4, 0, 0}, [0x07] = {1, 1, 0}, /* ext 8, 16, 32 */
    [0x08] = {2, 1, 0},  [0x09] = {4, 1, 0}, [0x0a] = {0, 4, 0}, /* float 32, 64 */
    [0x0b] = {0, 8, 0},  [0x0c] = {0, 1, 0},                     /* uint 8 to 64 */
    [0x0d] = {0, 2, 0},  [0x0e] = {0, 4, 0}, [0x0f] = {0, 8, 0},
    [0x10] = {0, 1, 0}, /* int 8 to 64 */
    [0x11] = {0, 2, 0},  [0x12] = {0, 4, 0}, [0x13] = {0, 8, 0},
    [0x14] = {0, 2, 0}, /* fixext 1 to 16: type and data */
    [0x15] = {0, 3, 0},  [0x16] = {0, 5, 0}, [0x17] = {0, 9, 0},
    [0x18] = {0, 17, 0}, [0x19] = {1, 0, 0},                     /* str 8, 16, 32 */
    [0x1a] = {2, 0, 0},  [0x1b] = {4, 0, 0}, [0x1c] = {2, 0, 1}, /* array 16, 32 */
    [0x1d] = {4, 0, 1},  [0x1e] = {2, 0, 2},                     /* map 16, 32 */
    [0x1f] = {4, 0, 2},
};

/* 1: read; 0: wants more; WR_EPROTO. */
static int read_header(struct wr_bytes in, struct header *h)
{
    if (in.len == 0)
        return 0;
    uint8_t first = in.ptr[0];
    memset(h, 0, sizeof(*h));
    h->len = 1;
    if (first < 0x80 || first >= 0xe0)
        return 1; /* small integers */
    if (first < 0xa0) {
        h->container = true;
        h->children = (uint64_t)(first & 0x0f) * (first < 0x90 ? 2 : 1);
        return 1;
    }
    if (first < 0xc0) {
        h->payload = first & 0x1f;
        return 1;
    }
    if (first == 0xc1)
        return WR_EPROTO;
    const struct form *form = &forms[first - 0xc0];
    h->len += form->size_len;
    if (in.len < h->len)
        return 0;
    uint64_t size = big_endian(in.ptr + 1, form->size_len);
    h->container = form->children != 0;
    h->children = size * form->children;
    h->payload = (h->container ? 0 : size) + form->fixed;
    return 1;
}

/* An object is whole: so are the containers that it was the last of. True when it was the
 * outermost. */
static bool close_containers(struct wr_rpc_scan *scan)
{
    while (scan->depth) {
        if (--scan->left[scan->depth - 1])
            return false;
        scan->depth--;
    }
    return true;
}

int wr_rpc_scan(struct wr_rpc_scan *scan, struct wr_bytes in)
{
    for (;;) {
        struct header h;
        int got = read_header(WR_BYTES(in.ptr + scan->pos, in.len - scan->pos), &h);
        if (got < 0)
            return got;
        /* Judged by what the header announces, before its payload is waited for. */
        if (got && (scan->items >= scan->items_max || h.payload > scan->size_max ||
                    scan->pos + h.len + h.payload > scan->size_max))
            return WR_ELIMIT;
        if (!got || in.len - scan->pos < h.len + h.payload)
            return 0;
        if (scan->pos == 0 && !h.container)
            return WR_EPROTO;
        scan->items++;
        scan->pos += h.len + (size_t)h.payload;
        if (h.container && h.children) {
            if (scan->depth == WR_RPC_DEPTH_MAX || h.children > scan->items_max - scan->items)
                return WR_ELIMIT;
            scan->left[scan->depth++] = h.children;
            continue;
        }
        if (close_containers(scan)) {
            size_t len = scan->pos;
            wr_rpc_scan_init(scan, scan->size_max, scan->items_max);
            return (int)len;
        }
    }
}

/* ---- meaning */

static bool take_id(const msgpack_object *o, uint32_t *id)
{
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > UINT32_MAX)
        return false;
    *id = (uint32_t)o->via.u64;
    return true;
}

static bool take_method(const msgpack_object *o, struct wr_bytes *method)
{
    if (o->type != MSGPACK_OBJECT_STR || o->via.str.size == 0 || o->via.str.size > WR_RPC_NAME_MAX)
        return false;
    *method = WR_BYTES(o->via.str.ptr, o->via.str.size);
    return true;
}

/* [map], [], map or nil; *out is the map or NULL. */
static bool take_params(const msgpack_object *o, const msgpack_object **out)
{
    *out = NULL;
    if (o->type == MSGPACK_OBJECT_ARRAY) {
        if (o->via.array.size == 0)
            return true;
        if (o->via.array.size > 1)
            return false;
        o = o->via.array.ptr;
    }
    if (o->type == MSGPACK_OBJECT_NIL)
        return true;
    *out = o;
    return o->type == MSGPACK_OBJECT_MAP;
}

static bool take_message(const msgpack_object *o, struct wr_rpc_message *m)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3)
        return false;
    const msgpack_object *part = o->via.array.ptr;
    size_t count = o->via.array.size;
    if (part[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return false;
    switch (part[0].via.u64) {
    case WR_RPC_REQUEST:
        m->type = WR_RPC_REQUEST;
        return count == 4 && take_id(&part[1], &m->id) && take_method(&part[2], &m->method) &&
               take_params(&part[3], &m->params);
    case WR_RPC_RESPONSE:
        m->type = WR_RPC_RESPONSE;
        if (count != 4 || !take_id(&part[1], &m->id))
            return false;
        m->error = part[2].type == MSGPACK_OBJECT_NIL ? NULL : &part[2];
        m->result = &part[3];
        return true;
    case WR_RPC_NOTIFICATION:
        m->type = WR_RPC_NOTIFICATION;
        return count == 3 && take_method(&part[1], &m->method) && take_params(&part[2], &m->params);
    default:
        return false;
    }
}

int wr_rpc_decode(struct wr_bytes in, struct wr_rpc_message *m)
{
    size_t off = 0;
    memset(m, 0, sizeof(*m));
    msgpack_unpacked_init(&m->unpacked);
    msgpack_unpack_return got =
        msgpack_unpack_next(&m->unpacked, (const char *)in.ptr, in.len, &off);
    if (got == MSGPACK_UNPACK_SUCCESS && off == in.len && take_message(&m->unpacked.data, m))
        return 0;
    wr_rpc_message_clear(m);
    return got == MSGPACK_UNPACK_NOMEM_ERROR ? WR_ELIMIT : WR_EPROTO;
}

void wr_rpc_message_clear(struct wr_rpc_message *m)
{
    msgpack_unpacked_destroy(&m->unpacked);
    memset(m, 0, sizeof(*m));
}

const msgpack_object *wr_rpc_find(const msgpack_object *map, const char *key)
{
    if (!map || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    size_t len = strlen(key);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];
        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == len &&
            memcmp(kv->key.via.str.ptr, key, len) == 0)
            return &kv->val;
    }
    return NULL;
}

/* ---- parameters */

static void wrong(struct wr_params *p, const char *name, const char *wanted)
{
    if (p->wrong)
        return;
    p->wrong = name;
    p->wanted = wanted;
}

const char *wr_params_text(struct wr_params *p, const char *name, char *out, size_t size)
{
    const msgpack_object *o = wr_rpc_find(p->map, name);
    out[0] = '\0';
    if (!o)
        return out;
    if (o->type != MSGPACK_OBJECT_STR || memchr(o->via.str.ptr, '\0', o->via.str.size)) {
        wrong(p, name, "a text");
    } else if (o->via.str.size >= size) {
        wrong(p, name, "a shorter text");
    } else {
        memcpy(out, o->via.str.ptr, o->via.str.size);
        out[o->via.str.size] = '\0';
    }
    return out;
}

struct wr_bytes wr_params_bytes(struct wr_params *p, const char *name)
{
    const msgpack_object *o = wr_rpc_find(p->map, name);
    if (!o)
        return WR_BYTES_NONE;
    if (o->type == MSGPACK_OBJECT_BIN)
        return WR_BYTES(o->via.bin.ptr, o->via.bin.size);
    if (o->type == MSGPACK_OBJECT_STR)
        return WR_BYTES(o->via.str.ptr, o->via.str.size);
    wrong(p, name, "bytes");
    return WR_BYTES_NONE;
}

uint64_t wr_params_u64(struct wr_params *p, const char *name, uint64_t missing, uint64_t max)
{
    const msgpack_object *o = wr_rpc_find(p->map, name);
    if (!o)
        return missing;
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        wrong(p, name, "a whole number, not negative");
        return missing;
    }
    if (o->via.u64 > max) {
        wrong(p, name, "a smaller number");
        return missing;
    }
    return o->via.u64;
}

bool wr_params_bool(struct wr_params *p, const char *name, bool missing)
{
    const msgpack_object *o = wr_rpc_find(p->map, name);
    if (!o)
        return missing;
    if (o->type != MSGPACK_OBJECT_BOOLEAN) {
        wrong(p, name, "true or false");
        return missing;
    }
    return o->via.boolean;
}
