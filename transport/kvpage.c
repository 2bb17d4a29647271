#include "transport/kvpage.h"

#include <string.h>

#define NODE_HEADER 8
#define BIG         0x01 /* flag of a node: the value is on overflow pages */

uint16_t wr_kvpage_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

uint32_t wr_kvpage_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

uint64_t wr_kvpage_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

size_t wr_kvpage_count(const uint8_t *page)
{
    return ((size_t)wr_kvpage_u16(page + 12) - WR_KVPAGE_HEADER) / 2;
}

const uint8_t *wr_kvpage_node(const uint8_t *page, size_t i)
{
    return page + wr_kvpage_u16(page + WR_KVPAGE_HEADER + 2 * i);
}

struct wr_bytes wr_kvpage_key(const uint8_t *node)
{
    return WR_BYTES(node + NODE_HEADER, wr_kvpage_u16(node + 6));
}

size_t wr_kvpage_value_len(const uint8_t *node)
{
    return (size_t)wr_kvpage_u16(node) | (size_t)wr_kvpage_u16(node + 2) << 16;
}

uint64_t wr_kvpage_child(const uint8_t *node)
{
    return (uint64_t)wr_kvpage_u16(node) | (uint64_t)wr_kvpage_u16(node + 2) << 16 |
           (uint64_t)wr_kvpage_u16(node + 4) << 32;
}

static uint16_t node_flags(const uint8_t *node)
{
    return wr_kvpage_u16(node + 4);
}

uint64_t wr_kvpage_value_page(const uint8_t *node)
{
    struct wr_bytes key = wr_kvpage_key(node);
    return node_flags(node) == BIG ? wr_kvpage_u64(key.ptr + key.len) : WR_KVPAGE_NONE;
}

uint64_t wr_kvpage_run(size_t page_size, size_t len)
{
    return (WR_KVPAGE_HEADER - 1 + (uint64_t)len) / page_size + 1;
}

/* Bytes that the node takes on its page, padded; 0 when it is none or leaves the page. */
static size_t node_size(const uint8_t *page, size_t page_size, size_t offset, bool leaf)
{
    if (offset + NODE_HEADER > page_size)
        return 0;
    const uint8_t *node = page + offset;
    size_t size = NODE_HEADER + wr_kvpage_key(node).len;
    if (leaf && node_flags(node) == BIG)
        size += sizeof(uint64_t);
    else if (leaf && node_flags(node) == 0)
        size += wr_kvpage_value_len(node);
    else if (leaf)
        return 0;
    size = (size + 1) & ~(size_t)1;
    return offset + size <= page_size ? size : 0;
}

const char *wr_kvpage_sound(const uint8_t *page, size_t size, bool leaf, uint8_t *scratch)
{
    size_t lower = wr_kvpage_u16(page + 12), upper = wr_kvpage_u16(page + 14);
    if (lower < WR_KVPAGE_HEADER || (lower & 1) || lower > upper || upper > size || (upper & 1))
        return "page bounds out of order";
    size_t count = wr_kvpage_count(page);
    if (count < (leaf ? 1u : 2u))
        return "too few nodes";
    memset(scratch, 0, size / 2);
    for (size_t i = 0; i < count; i++) {
        size_t offset = wr_kvpage_u16(page + WR_KVPAGE_HEADER + 2 * i);
        if (offset < upper || (offset & 1) || offset >= size || scratch[offset / 2])
            return "node out of bounds";
        scratch[offset / 2] = 1;
    }
    size_t offset = upper;
    while (offset < size) {
        size_t step = scratch[offset / 2] ? node_size(page, size, offset, leaf) : 0;
        if (!step)
            return "nodes do not fill the page";
        offset += step;
        count--;
    }
    return count ? "nodes overlap" : NULL;
}
