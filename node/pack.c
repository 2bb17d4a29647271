#include "node/pack.h"

#include <assert.h>
#include <msgpack/pack.h>
#include <string.h>

#define HEADER 5 /* bytes of an array 32 or map 32 header */

void wr_pack_init(struct wr_pack *p, struct wr_buf *out)
{
    memset(p, 0, sizeof(*p));
    p->out = out;
}

static int write_out(void *data, const char *bytes, size_t len)
{
    wr_buf_put(data, bytes, len);
    return 0;
}

/* Counts the coming object in the container around it and writes its key. */
static msgpack_packer begin(struct wr_pack *p, const char *key)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, p->out, write_out);
    if (p->depth)
        p->open[p->depth - 1].count++;
    if (key) {
        (void)msgpack_pack_str(&packer, strlen(key));
        (void)msgpack_pack_str_body(&packer, key, strlen(key));
    }
    return packer;
}

static void open_container(struct wr_pack *p, const char *key, uint8_t type)
{
    static const uint8_t count[4];
    (void)begin(p, key);
    assert(p->depth < WR_PACK_DEPTH);
    p->open[p->depth].at = p->out->len;
    p->open[p->depth].count = 0;
    p->depth++;
    wr_buf_put_u8(p->out, type);
    wr_buf_put(p->out, count, sizeof(count));
}

void wr_pack_map(struct wr_pack *p, const char *key)
{
    open_container(p, key, 0xdf);
}

void wr_pack_array(struct wr_pack *p, const char *key)
{
    open_container(p, key, 0xdd);
}

void wr_pack_end(struct wr_pack *p)
{
    assert(p->depth > 0);
    p->depth--;
    uint32_t count = p->open[p->depth].count;
    size_t at = p->open[p->depth].at;
    if (p->out->full)
        return;
    assert(at + HEADER <= p->out->len);
    for (unsigned i = 0; i < 4; i++)
        p->out->data[at + 1 + i] = (uint8_t)(count >> (24 - 8 * i));
}

/* Length of the UTF-8 sequence at the start of text, 0 when there is none (RFC 3629, section 4). */
static size_t utf8_len(struct wr_bytes text)
{
    uint8_t a = text.ptr[0];
    size_t len = a < 0x80 ? 1 : a >= 0xc2 && a < 0xe0 ? 2 : a >= 0xe0 && a < 0xf0 ? 3 : 4;
    if (a >= 0x80 && (a < 0xc2 || a > 0xf4))
        return 0;
    if (text.len < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((text.ptr[i] & 0xc0) != 0x80)
            return 0;
    if ((a == 0xe0 && text.ptr[1] < 0xa0) || (a == 0xed && text.ptr[1] > 0x9f) ||
        (a == 0xf0 && text.ptr[1] < 0x90) || (a == 0xf4 && text.ptr[1] > 0x8f))
        return 0;
    return len;
}

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

void wr_pack_text_bytes(struct wr_pack *p, const char *key, struct wr_bytes text)
{
    size_t len = 0;
    for (struct wr_bytes rest = text; rest.len;) {
        size_t step = utf8_len(rest);
        len += step ? step : 3;
        (void)wr_bytes_take(&rest, step ? step : 1);
    }
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_str(&packer, len);
    while (text.len) {
        size_t step = utf8_len(text);
        struct wr_bytes taken = wr_bytes_take(&text, step ? step : 1);
        wr_buf_put(p->out, step ? taken.ptr : (const uint8_t *)replacement, step ? step : 3);
    }
}

void wr_pack_text(struct wr_pack *p, const char *key, const char *text)
{
    if (text)
        wr_pack_text_bytes(p, key, wr_bytes_cstr(text));
    else
        wr_pack_nil(p, key);
}

void wr_pack_bin(struct wr_pack *p, const char *key, struct wr_bytes bytes)
{
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_bin(&packer, bytes.len);
    wr_buf_put_bytes(p->out, bytes);
}

void wr_pack_u64(struct wr_pack *p, const char *key, uint64_t v)
{
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_uint64(&packer, v);
}

void wr_pack_i64(struct wr_pack *p, const char *key, int64_t v)
{
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_int64(&packer, v);
}

void wr_pack_bool(struct wr_pack *p, const char *key, bool v)
{
    msgpack_packer packer = begin(p, key);
    (void)(v ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer));
}

void wr_pack_double(struct wr_pack *p, const char *key, double v)
{
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_double(&packer, v);
}

void wr_pack_nil(struct wr_pack *p, const char *key)
{
    msgpack_packer packer = begin(p, key);
    (void)msgpack_pack_nil(&packer);
}
