/* recipe.h - well-formed protobuf messages and multiaddrs out of a fuzzer's bytes: lengths and nesting come out right by
 * themselves, so that what is behind them is reached. A recipe is a list of steps, a byte whose lower three bits say
 * what, the others how often it comes again, and its arguments; what is missing at the end is zero:
 *     0  field  value (8)           a varint
 *     1  field  value (8)           a fixed64
 *     2  field  length (1)  bytes   bytes
 *     3  field                      a message begins: until step 4 its fields follow
 *     4                             it ends
 *     5  field  kind  ip  port (2)  bytes that are a multiaddr, `kind` says of what
 *     6  field  which               bytes that are a peer id of ours
 *     7  length (1)  bytes          as they are
 * A field is a byte: below 32 the number itself, else one of those beyond that the target names. */
#ifndef FUZZ_RECIPE_H
#define FUZZ_RECIPE_H

#include "transport/key.h"
#include "transport/maddr.h"
#include "transport/pb.h"
#include "transport/peerid.h"

#include <stdlib.h>
#include <string.h>

#define RECIPE_MAX   8192    /* bytes of what is made */
#define RECIPE_DEPTH 4       /* messages in one another */
#define RECIPE_PEERS 4       /* whose ids it knows */

struct recipe {
    struct wr_reader in;
    const uint32_t *fields;    /* borrowed: the large ones */
    size_t field_count;
};

static inline uint32_t recipe_field(struct recipe *r)
{
    uint8_t byte = wr_read_u8(&r->in);
    return byte < 32 || r->field_count == 0 ? byte % 32u : r->fields[byte % r->field_count];
}

static inline void recipe_tag(struct recipe *r, struct wr_buf *out, enum wr_pb_wire wire)
{
    wr_buf_put_uvarint(out, (uint64_t)recipe_field(r) << 3 | wire);
}

/* As many bytes as there are, at most. */
static inline struct wr_bytes recipe_bytes(struct recipe *r)
{
    size_t len = wr_read_u8(&r->in);
    return wr_read_bytes(&r->in, len < r->in.rest.len ? len : r->in.rest.len);
}

/* Small numbers are the interesting ones: the first byte says how many more count. */
static inline uint64_t recipe_number(struct recipe *r)
{
    uint8_t size = wr_read_u8(&r->in) % 9;
    uint64_t n = 0;
    for (uint8_t i = 0; i < size; i++)
        n = n << 8 | wr_read_u8(&r->in);
    return n >> 1;    /* as far as wr_buf_put_uvarint goes */
}

static inline void recipe_key(uint8_t which, struct wr_key *key)
{
    uint8_t seed[WR_ED25519_SEED] = {1, which % RECIPE_PEERS};
    wr_key_generate(key, seed);
}

static inline void recipe_peer(uint8_t which, struct wr_peerid *id)
{
    static struct wr_peerid made[RECIPE_PEERS];    /* once: that costs more than a run */
    struct wr_peerid *it = &made[which % RECIPE_PEERS];
    struct wr_key key;
    struct wr_buf pubkey;
    uint8_t memory[64];
    if (!it->len) {
        recipe_key(which, &key);
        wr_buf_over(&pubkey, memory, sizeof(memory));
        wr_key_encode_public(&key, &pubkey);
        if (wr_peerid_from_pubkey(wr_buf_bytes(&pubkey), it) != 0)
            abort();
    }
    *id = *it;
}

static inline void recipe_maddr(struct recipe *r, struct wr_buf *out)
{
    uint8_t kind = wr_read_u8(&r->in);
    struct wr_addr at = {.ip = {.family = kind & 1 ? 6 : 4, .bytes = {45, 7, 7, wr_read_u8(&r->in)}}};
    struct wr_maddr addr;
    at.port = wr_read_u16be(&r->in);
    if (wr_maddr_from_addr(&at, kind & 2, &addr) != 0)
        return;
    if (kind & 4) {    /* and of whom */
        struct wr_peerid id;
        recipe_peer(kind >> 4, &id);
        uint8_t memory[2 + 1 + WR_PEERID_MAX];
        struct wr_buf peer;
        wr_buf_over(&peer, memory, sizeof(memory));
        wr_buf_put_uvarint(&peer, 421);    /* /p2p */
        wr_buf_put_prefixed(&peer, wr_peerid_bytes(&id));
        (void)wr_maddr_append(&addr, wr_buf_bytes(&peer));
    }
    wr_buf_put_prefixed(out, wr_maddr_bytes(&addr));
}

/* What was put since `before`, so often. */
static inline void recipe_again(struct wr_buf *out, size_t before, unsigned times)
{
    size_t len = out->len - before;
    for (; times && len && !out->full; times--) {
        uint8_t *room = wr_buf_reserve(out, len);
        if (!room)
            return;
        memcpy(room, out->data + before, len);
        wr_buf_grew(out, len);
    }
}

/* Cooks until the recipe, or the message of this depth, ends. */
static inline void recipe_cook(struct recipe *r, unsigned depth, struct wr_buf *out)
{
    struct wr_peerid id;
    while (r->in.rest.len && !r->in.bad && !out->full) {
        uint8_t what = wr_read_u8(&r->in);
        size_t before = out->len;
        switch (what % 8) {
        case 0:
            recipe_tag(r, out, WR_PB_VARINT);
            wr_buf_put_uvarint(out, recipe_number(r));
            break;
        case 1:
            recipe_tag(r, out, WR_PB_FIXED64);
            wr_buf_put_u64be(out, recipe_number(r));
            break;
        case 2:
            recipe_tag(r, out, WR_PB_BYTES);
            wr_buf_put_prefixed(out, recipe_bytes(r));
            break;
        case 3:
            if (depth < RECIPE_DEPTH) {
                struct wr_buf inner;
                recipe_tag(r, out, WR_PB_BYTES);
                wr_buf_init(&inner, RECIPE_MAX);
                recipe_cook(r, depth + 1, &inner);
                wr_buf_put_prefixed(out, wr_buf_bytes(&inner));
                wr_buf_clear(&inner);
            }
            break;
        case 4:
            if (depth > 0)
                return;
            break;
        case 5:
            recipe_tag(r, out, WR_PB_BYTES);
            recipe_maddr(r, out);
            break;
        case 6:
            recipe_tag(r, out, WR_PB_BYTES);
            recipe_peer(wr_read_u8(&r->in), &id);
            wr_buf_put_prefixed(out, wr_peerid_bytes(&id));
            break;
        case 7: {
            struct wr_bytes raw = recipe_bytes(r);
            wr_buf_put(out, raw.ptr, raw.len);
            break;
        }
        }
        recipe_again(out, before, what >> 3);
    }
}

/* What the recipe makes, exactly as long as it is so that the sanitizer sees a read behind it; free(). */
static inline uint8_t *recipe_make(struct wr_bytes text, const uint32_t *fields, size_t field_count, size_t *len)
{
    struct recipe r = {.fields = fields, .field_count = field_count};
    struct wr_buf out;
    wr_reader_init(&r.in, text);
    wr_buf_init(&out, RECIPE_MAX);
    recipe_cook(&r, 0, &out);
    *len = out.full ? 0 : out.len;
    uint8_t *copy = malloc(*len ? *len : 1);
    if (!copy)
        abort();
    if (*len)
        memcpy(copy, out.data, *len);
    wr_buf_clear(&out);
    return copy;
}

#endif
