#include "print.h"

#include "transport/base.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void print_json_text(FILE *out, const char *text, size_t len)
{
    (void)fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            (void)fprintf(out, "\\%c", c);
        else if (c == '\n')
            (void)fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f)
            (void)fprintf(out, "\\u%04x", c);
        else
            (void)fputc(c, out);
    }
    (void)fputc('"', out);
}

static void json_bytes(FILE *out, struct wr_bytes bytes)
{
    struct wr_buf text;
    wr_buf_init(&text, bytes.len / 3 * 4 + 8);
    wr_base_encode(WR_BASE64, bytes, &text);
    print_json_text(out, (const char *)text.data, text.len);
    wr_buf_clear(&text);
}

static void json_number(FILE *out, double v)
{
    if (isfinite(v))
        (void)fprintf(out, "%.9g", v);
    else
        (void)fputs("null", out); /* JSON has no infinity */
}

static void json_map(FILE *out, const msgpack_object_map *map)
{
    (void)fputc('{', out);
    for (uint32_t i = 0; i < map->size; i++) {
        if (i)
            (void)fputc(',', out);
        print_json(out, &map->ptr[i].key);
        (void)fputc(':', out);
        print_json(out, &map->ptr[i].val);
    }
    (void)fputc('}', out);
}

static void json_array(FILE *out, const msgpack_object_array *array)
{
    (void)fputc('[', out);
    for (uint32_t i = 0; i < array->size; i++) {
        if (i)
            (void)fputc(',', out);
        print_json(out, &array->ptr[i]);
    }
    (void)fputc(']', out);
}

void print_json(FILE *out, const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        (void)fputs(o->via.boolean ? "true" : "false", out);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        (void)fprintf(out, "%" PRIu64, o->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        (void)fprintf(out, "%" PRId64, o->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        json_number(out, o->via.f64);
        break;
    case MSGPACK_OBJECT_STR:
        print_json_text(out, o->via.str.ptr, o->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN:
        json_bytes(out, WR_BYTES(o->via.bin.ptr, o->via.bin.size));
        break;
    case MSGPACK_OBJECT_ARRAY:
        json_array(out, &o->via.array);
        break;
    case MSGPACK_OBJECT_MAP:
        json_map(out, &o->via.map);
        break;
    default:
        (void)fputs("null", out);
    }
}

void print_json_line(const msgpack_object *o)
{
    print_json(stdout, o);
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

/* ---- fields */

const char *print_element(const msgpack_object *o, char out[static PRINT_TEXT])
{
    size_t len = 0;
    if (o && o->type == MSGPACK_OBJECT_STR) {
        for (; len < o->via.str.size && len < PRINT_TEXT - 1; len++) {
            unsigned char c = (unsigned char)o->via.str.ptr[len];
            out[len] = c < 0x20 || c == 0x7f ? '?' : (char)c;
        }
    }
    out[len] = '\0';
    return out;
}

const char *print_text(const msgpack_object *map, const char *key, char out[static PRINT_TEXT])
{
    return print_element(wr_rpc_find(map, key), out);
}

uint64_t print_u64(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    return o && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : 0;
}

double print_number(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    if (o && (o->type == MSGPACK_OBJECT_FLOAT64 || o->type == MSGPACK_OBJECT_FLOAT32))
        return o->via.f64;
    return (double)print_u64(map, key);
}

bool print_bool(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    return o && o->type == MSGPACK_OBJECT_BOOLEAN && o->via.boolean;
}

const msgpack_object *print_array(const msgpack_object *map, const char *key, uint32_t *count)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    bool array = o && o->type == MSGPACK_OBJECT_ARRAY;
    *count = array ? o->via.array.size : 0;
    return array ? o->via.array.ptr : NULL;
}

const char *print_duration(uint64_t ms, char out[static 32])
{
    uint64_t s = ms / 1000;
    if (ms < 10000)
        (void)snprintf(out, 32, "%" PRIu64 " ms", ms);
    else if (s < 120)
        (void)snprintf(out, 32, "%" PRIu64 " s", s);
    else if (s < 7200)
        (void)snprintf(out, 32, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else if (s < 172800)
        (void)snprintf(out, 32, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
    else
        (void)snprintf(out, 32, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
    return out;
}

const char *print_size(uint64_t bytes, char out[static 32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    unsigned unit = 0;
    while (v >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return out;
}

const char *print_count(uint64_t count, const char *one, char out[static 48])
{
    (void)snprintf(out, 48, "%" PRIu64 " %s%s", count, one, count == 1 ? "" : "s");
    return out;
}

/* ---- addresses */

/* Who said so: networks of the servers that tried the address. */
static const char *votes(const msgpack_object *row, char out[static 64])
{
    uint64_t yes = print_u64(row, "confirmed_by"), half = print_u64(row, "half_confirmed_by");
    uint64_t no = print_u64(row, "refuted_by");
    out[0] = '\0';
    if (yes || half || no)
        (void)snprintf(out, 64, ", tried by %" PRIu64 ": %" PRIu64 " got through", yes + half + no,
                       yes + half);
    return out;
}

void print_addresses(const msgpack_object *map)
{
    char addr[PRINT_TEXT], source[PRINT_TEXT], verdict[PRINT_TEXT], said[64];
    uint32_t count;
    const msgpack_object *rows = print_array(map, "addresses", &count);
    for (uint32_t i = 0; i < count; i++)
        (void)printf("%-11s %-52s %s, %s%s\n", i ? "" : "addresses", print_text(&rows[i], "addr", addr),
                     print_text(&rows[i], "verdict", verdict), print_text(&rows[i], "source", source),
                     votes(&rows[i], said));
    if (!count)
        (void)puts("addresses   none");
}
