/* MessagePack-RPC: framing under any chunking, bounds, envelopes, parameters, and the builder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/pack.h"
#include "node/rpc.h"
#include "transport/err.h"

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int scan_once(const void *data, size_t len)
{
    struct wr_rpc_scan scan;
    wr_rpc_scan_init(&scan, WR_RPC_REQUEST_MAX, WR_RPC_REQUEST_ITEMS);
    return wr_rpc_scan(&scan, WR_BYTES(data, len));
}

/* Every form of the MessagePack spec, each inside an array of one. */
static const struct {
    const char *bytes;
    size_t len;
} forms[] = {
#define FORM(s)                                                                                    \
    {                                                                                              \
        "\x91" s, sizeof("\x91" s) - 1                                                             \
    }
    FORM("\xc0"),
    FORM("\xc2"),
    FORM("\xc3"),
    FORM("\x00"),
    FORM("\x7f"),
    FORM("\xe0"),
    FORM("\xff"),
    FORM("\xcc\x80"),
    FORM("\xcd\x01\x00"),
    FORM("\xce\x00\x01\x00\x00"),
    FORM("\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
    FORM("\xd0\x80"),
    FORM("\xd1\x80\x00"),
    FORM("\xd2\x80\x00\x00\x00"),
    FORM("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    FORM("\xca\x3f\x80\x00\x00"),
    FORM("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
    FORM("\xa0"),
    FORM("\xa2hi"),
    FORM("\xd9\x02hi"),
    FORM("\xda\x00\x02hi"),
    FORM("\xdb\x00\x00\x00\x02hi"),
    FORM("\xc4\x02hi"),
    FORM("\xc5\x00\x02hi"),
    FORM("\xc6\x00\x00\x00\x02hi"),
    FORM("\xc7\x02\x01hi"),
    FORM("\xc8\x00\x02\x01hi"),
    FORM("\xc9\x00\x00\x00\x02\x01hi"),
    FORM("\xd4\x01h"),
    FORM("\xd5\x01hi"),
    FORM("\xd6\x01hihi"),
    FORM("\xd7\x01hihihihi"),
    FORM("\xd8\x01hihihihihihihihi"),
    FORM("\x90"),
    FORM("\x80"),
    FORM("\x92\xc0\xc0"),
    FORM("\x81\xa1k\xc3"),
    FORM("\xdc\x00\x02\xc0\xc0"),
    FORM("\xdd\x00\x00\x00\x01\xc0"),
    FORM("\xde\x00\x01\xa1k\xc3"),
    FORM("\xdf\x00\x00\x00\x01\xa1k\x90"),
#undef FORM
};

static void test_every_form_ends_where_it_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        msgpack_unpacked unpacked;
        size_t off = 0;
        char longer[64] = {0};
        memcpy(longer, forms[i].bytes, forms[i].len);
        assert_int_equal(scan_once(longer, forms[i].len + 5), forms[i].len);
        for (size_t cut = 0; cut < forms[i].len; cut++)
            assert_int_equal(scan_once(longer, cut), 0);
        /* msgpack-c agrees. */
        msgpack_unpacked_init(&unpacked);
        assert_int_equal(msgpack_unpack_next(&unpacked, longer, sizeof(longer), &off),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(off, forms[i].len);
        msgpack_unpacked_destroy(&unpacked);
    }
}

/* All forms one behind another: whatever the chunks, the same messages come out. */
static void test_any_chunking(void **state)
{
    (void)state;
    struct wr_buf all;
    wr_buf_init(&all, 4096);
    for (size_t i = 0; i < COUNT(forms); i++)
        wr_buf_put(&all, forms[i].bytes, forms[i].len);
    assert_false(all.full);
    for (size_t chunk = 1; chunk <= all.len; chunk++) {
        struct wr_rpc_scan scan;
        size_t start = 0, have = 0, found = 0;
        wr_rpc_scan_init(&scan, 64, 16);
        while (start < all.len) {
            int len = wr_rpc_scan(&scan, WR_BYTES(all.data + start, have - start));
            assert_true(len >= 0);
            if (len) {
                assert_int_equal(len, forms[found].len);
                start += (size_t)len;
                found++;
            } else {
                assert_true(have < all.len);
                have = have + chunk < all.len ? have + chunk : all.len;
            }
        }
        assert_int_equal(found, COUNT(forms));
    }
    wr_buf_clear(&all);
}

static void test_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        int want;
    } table[] = {
        {"\xc1", 1, WR_EPROTO}, /* never used */
        {"\x94\xc1", 2, WR_EPROTO},
        {"\x00", 1, WR_EPROTO}, /* a message is an array */
        {"\xa3"
         "GET",
         4, WR_EPROTO},
        {"\xdd\xff\xff\xff\xff", 5, WR_ELIMIT}, /* four billion objects in five bytes */
        {"\xdf\xff\xff\xff\xff", 5, WR_ELIMIT},
        {"\x91\xdc\xff\xff", 4, WR_ELIMIT},
        {"\x91\xc6\xff\xff\xff\xff", 6, WR_ELIMIT}, /* four gigabytes of payload to come */
        {"\x91\xdb\x00\x10\x00\x00", 6, WR_ELIMIT}, /* one megabyte: no room for the header */
        {"\x91\xc9\xff\xff\xff\xff\x01", 7, WR_ELIMIT},
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91", 17, WR_ELIMIT},
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0", 17, 17},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        assert_int_equal(scan_once(table[i].bytes, table[i].len), table[i].want);

    /* Objects are counted over the whole message, not per container. */
    uint8_t many[2 * WR_RPC_REQUEST_ITEMS];
    size_t len = 0;
    many[len++] = 0xdc;
    many[len++] = WR_RPC_REQUEST_ITEMS / 32 >> 8;
    many[len++] = WR_RPC_REQUEST_ITEMS / 32 & 0xff;
    while (len + 32 < sizeof(many)) {
        many[len++] = 0xdc;
        many[len++] = 0;
        many[len++] = 40;
        for (int i = 0; i < 40; i++)
            many[len++] = 0xc0;
    }
    assert_int_equal(scan_once(many, len), WR_ELIMIT);

    /* Nor by what each container claimed when it began: 4,000 objects, then 50 that hold 40 each.
     */
    uint8_t crowd[3 + 50 * 43 + 4000];
    len = 0;
    crowd[len++] = 0xdc;
    crowd[len++] = 4000 >> 8;
    crowd[len++] = 4000 & 0xff;
    for (int i = 0; i < 4000; i++) {
        if (i < 50) {
            crowd[len++] = 0xdc;
            crowd[len++] = 0;
            crowd[len++] = 40;
        }
        for (int k = 0; k < (i < 50 ? 40 : 1); k++)
            crowd[len++] = 0xc0;
    }
    assert_true(len <= sizeof(crowd));
    assert_int_equal(scan_once(crowd, len), WR_ELIMIT);
}

static void test_envelopes(void **state)
{
    (void)state;
    struct wr_rpc_message m;
    const struct wr_bytes request =
        WR_BYTES_STR("\x94\x00\xcd\x01\x02\xa4ping\x91\x81\xa4peer\xa1x");
    assert_int_equal(wr_rpc_decode(request, &m), 0);
    assert_int_equal(m.type, WR_RPC_REQUEST);
    assert_int_equal(m.id, 258);
    assert_true(wr_bytes_equal(m.method, WR_BYTES_STR("ping")));
    assert_non_null(wr_rpc_find(m.params, "peer"));
    assert_null(wr_rpc_find(m.params, "pee"));
    wr_rpc_message_clear(&m);

    const struct wr_bytes bare[] = {
        WR_BYTES_STR("\x94\x00\x01\xa1m\x90"),
        WR_BYTES_STR("\x94\x00\x01\xa1m\xc0"),
        WR_BYTES_STR("\x94\x00\x01\xa1m\x80"),
        WR_BYTES_STR("\x94\x00\x01\xa1m\x91\xc0"),
    };
    for (size_t i = 0; i < COUNT(bare); i++) {
        assert_int_equal(wr_rpc_decode(bare[i], &m), 0);
        assert_null(wr_rpc_find(m.params, "x"));
        wr_rpc_message_clear(&m);
    }
    assert_int_equal(wr_rpc_decode(WR_BYTES_STR("\x94\x01\x07\xc0\x81\xa1k\x05"), &m), 0);
    assert_int_equal(m.type, WR_RPC_RESPONSE);
    assert_null(m.error);
    assert_int_equal(wr_rpc_find(m.result, "k")->via.u64, 5);
    wr_rpc_message_clear(&m);
    assert_int_equal(wr_rpc_decode(WR_BYTES_STR("\x94\x01\x07\xa2no\xc0"), &m), 0);
    assert_non_null(m.error);
    wr_rpc_message_clear(&m);
    assert_int_equal(wr_rpc_decode(WR_BYTES_STR("\x93\x02\xa5"
                                                "event\x91\x80"),
                                   &m),
                     0);
    assert_int_equal(m.type, WR_RPC_NOTIFICATION);
    wr_rpc_message_clear(&m);

    const struct wr_bytes bad[] = {
        WR_BYTES_STR("\x90"),
        WR_BYTES_STR("\x93\x00\x01\xa1m"), /* request without params */
        WR_BYTES_STR("\x95\x00\x01\xa1m\x90\xc0"),
        WR_BYTES_STR("\x94\x00\xff\xa1m\x90"), /* id -1 */
        WR_BYTES_STR("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1m\x90"),
        WR_BYTES_STR("\x94\x00\x01\xa0\x90"), /* no name */
        WR_BYTES_STR("\x94\x00\x01\xc4\x01m\x90"),
        WR_BYTES_STR("\x94\x00\x01\xa1m\x92\x80\x80"), /* two parameters */
        WR_BYTES_STR("\x94\x00\x01\xa1m\x91\x05"),     /* not a map */
        WR_BYTES_STR("\x94\x00\x01\xa1m\x05"),
        WR_BYTES_STR("\x94\x03\x01\xa1m\x90"), /* no such type */
        WR_BYTES_STR("\x93\x01\x01\xc0"),
        WR_BYTES_STR("\x94\x02\xa1m\x90\xc0"),
        WR_BYTES_STR("\x80"),
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(wr_rpc_decode(bad[i], &m), WR_EPROTO);
}

static void build(struct wr_buf *out)
{
    struct wr_pack p;
    wr_pack_init(&p, out);
    wr_pack_array(&p, NULL);
    wr_pack_u64(&p, NULL, WR_RPC_REQUEST);
    wr_pack_u64(&p, NULL, 70000);
    wr_pack_text(&p, NULL, "dht.put");
    wr_pack_array(&p, NULL);
    wr_pack_map(&p, NULL);
    wr_pack_text(&p, "key", "k\xc3\xa9y");
    wr_pack_bin(&p, "value", WR_BYTES("\0\1\2", 3));
    wr_pack_u64(&p, "timeout_ms", 5000);
    wr_pack_i64(&p, "offset", -3);
    wr_pack_bool(&p, "json", true);
    wr_pack_double(&p, "rate", 0.5);
    wr_pack_nil(&p, "nothing");
    wr_pack_array(&p, "list");
    wr_pack_text(&p, NULL, NULL);
    wr_pack_map(&p, NULL);
    wr_pack_end(&p);
    wr_pack_end(&p);
    wr_pack_end(&p);
    wr_pack_end(&p);
    wr_pack_end(&p);
    assert_int_equal(p.depth, 0);
}

static void test_what_is_built_reads_back(void **state)
{
    (void)state;
    struct wr_buf out;
    struct wr_rpc_message m;
    char text[16];
    wr_buf_init(&out, 512);
    build(&out);
    assert_false(out.full);
    assert_int_equal(scan_once(out.data, out.len), out.len);
    assert_int_equal(wr_rpc_decode(wr_buf_bytes(&out), &m), 0);
    struct wr_params p = {.map = m.params};
    assert_string_equal(wr_params_text(&p, "key", text, sizeof(text)), "k\xc3\xa9y");
    assert_true(wr_bytes_equal(wr_params_bytes(&p, "value"), WR_BYTES("\0\1\2", 3)));
    assert_int_equal(wr_params_u64(&p, "timeout_ms", 0, 5000), 5000);
    assert_true(wr_params_bool(&p, "json", false));
    assert_string_equal(wr_params_text(&p, "absent", text, sizeof(text)), "");
    assert_int_equal(wr_params_u64(&p, "absent", 9, 5), 9);
    assert_true(wr_params_bool(&p, "absent", true));
    assert_int_equal(wr_params_bytes(&p, "absent").len, 0);
    assert_null(p.wrong);
    const msgpack_object *list = wr_rpc_find(m.params, "list");
    assert_int_equal(list->via.array.size, 2);
    assert_int_equal(list->via.array.ptr[0].type, MSGPACK_OBJECT_NIL);
    assert_int_equal(list->via.array.ptr[1].via.map.size, 0);
    assert_int_equal(wr_rpc_find(m.params, "offset")->via.i64, -3);
    wr_rpc_message_clear(&m);

    /* Whatever does not fit is noticed, at every size. */
    for (size_t max = 0; max < out.len; max++) {
        struct wr_buf small;
        wr_buf_init(&small, max);
        build(&small);
        assert_true(small.full);
        wr_buf_clear(&small);
    }
    wr_buf_clear(&out);
}

static void test_wrong_parameters_are_named(void **state)
{
    (void)state;
    struct wr_buf out;
    struct wr_rpc_message m;
    char text[4];
    wr_buf_init(&out, 512);
    build(&out);
    assert_int_equal(wr_rpc_decode(wr_buf_bytes(&out), &m), 0);
    struct wr_params p = {.map = m.params};
    (void)wr_params_text(&p, "key", text, sizeof(text)); /* four bytes and NUL do not fit */
    assert_string_equal(p.wrong, "key");
    (void)wr_params_text(&p, "value", text, sizeof(text));
    assert_string_equal(p.wrong, "key"); /* the first stays */
    p.wrong = NULL;
    (void)wr_params_text(&p, "value", text, sizeof(text));
    assert_string_equal(p.wrong, "value");
    p.wrong = NULL;
    assert_int_equal(wr_params_u64(&p, "timeout_ms", 7, 4999), 7);
    assert_string_equal(p.wrong, "timeout_ms");
    p.wrong = NULL;
    assert_int_equal(wr_params_u64(&p, "offset", 7, 4999), 7);
    assert_string_equal(p.wrong, "offset");
    p.wrong = NULL;
    assert_false(wr_params_bool(&p, "key", false));
    assert_string_equal(p.wrong, "key");
    p.wrong = NULL;
    (void)wr_params_bytes(&p, "json");
    assert_string_equal(p.wrong, "json");
    wr_rpc_message_clear(&m);
    wr_buf_clear(&out);
}

/* Every one-bit change and every truncation of a good request is refused or read, never worse. */
static void test_systematic_damage(void **state)
{
    (void)state;
    struct wr_buf out;
    wr_buf_init(&out, 512);
    build(&out);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        uint8_t *copy = wr_memdup(out.data, out.len);
        struct wr_rpc_message m;
        char text[8];
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int len = scan_once(copy, out.len);
        assert_true(len <= (int)out.len);
        if (len > 0 && wr_rpc_decode(WR_BYTES(copy, (size_t)len), &m) == 0) {
            struct wr_params p = {.map = m.params};
            (void)wr_params_text(&p, "key", text, sizeof(text));
            (void)wr_params_bytes(&p, "value");
            (void)wr_params_u64(&p, "timeout_ms", 0, UINT64_MAX);
            wr_rpc_message_clear(&m);
        }
        wr_free(copy);
    }
    for (size_t cut = 0; cut < out.len; cut++) {
        uint8_t *copy = wr_memdup(out.data, cut);
        assert_int_equal(scan_once(copy, cut), 0);
        wr_free(copy);
    }
    wr_buf_clear(&out);
}

static void test_text_becomes_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } table[] = {
        {"plain", "plain"},
        {"\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct wr_buf out;
        struct wr_pack p;
        wr_buf_init(&out, 64);
        wr_pack_init(&p, &out);
        wr_pack_text(&p, NULL, table[i].in);
        assert_int_equal(out.data[0], 0xa0 | strlen(table[i].out));
        assert_int_equal(out.len, 1 + strlen(table[i].out));
        assert_memory_equal(out.data + 1, table[i].out, strlen(table[i].out));
        wr_buf_clear(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_ends_where_it_ends),
        cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_what_is_built_reads_back),
        cmocka_unit_test(test_wrong_parameters_are_named),
        cmocka_unit_test(test_systematic_damage),
        cmocka_unit_test(test_text_becomes_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
