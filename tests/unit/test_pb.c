/* Protobuf decoding under a ceiling, lack of memory, and the reader in place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/envelope.pb-c.h"
#include "transport/err.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The source itself, with an allocator that counts and can be told to fail. */
void *counted_alloc(size_t size);
void counted_free(void *memory);
#include "transport/bytes.h"
#define wr_alloc counted_alloc
#define wr_free  counted_free
#include "transport/pb.c"
#undef wr_alloc
#undef wr_free

static int allocs_left = -1; /* -1: as many as wanted */
static int live, made;
static size_t bytes_made;

void *counted_alloc(size_t size)
{
    if (allocs_left == 0)
        return NULL;
    if (allocs_left > 0)
        allocs_left--;
    live++;
    made++;
    bytes_made += size;
    return wr_alloc(size);
}

void counted_free(void *memory)
{
    live -= memory != NULL;
    wr_free(memory);
}

static void start_count(void)
{
    live = made = 0;
    bytes_made = 0;
    allocs_left = -1;
}

/* A record with count addresses of len bytes each. */
static void make_record(struct wr_buf *out, size_t count, size_t len)
{
    uint8_t address[300];
    Wr__Pb__PeerRecord__AddressInfo *infos = calloc(count, sizeof(*infos));
    Wr__Pb__PeerRecord__AddressInfo **list =
        calloc(count, sizeof(Wr__Pb__PeerRecord__AddressInfo *));
    memset(address, 'a', sizeof(address));
    for (size_t i = 0; i < count; i++) {
        infos[i] = (Wr__Pb__PeerRecord__AddressInfo)WR__PB__PEER_RECORD__ADDRESS_INFO__INIT;
        infos[i].multiaddr = wr_pb_bytes(WR_BYTES(address, len));
        list[i] = &infos[i];
    }
    Wr__Pb__PeerRecord record = WR__PB__PEER_RECORD__INIT;
    record.peer_id = wr_pb_bytes(WR_BYTES_STR("a peer"));
    record.seq = UINT64_MAX;
    record.n_addresses = count;
    record.addresses = list;
    wr_pb_pack(&record.base, out);
    free(infos);
    free(list);
}

static Wr__Pb__PeerRecord *unpack(struct wr_bytes in, size_t memory_max)
{
    return (Wr__Pb__PeerRecord *)wr_pb_unpack(&wr__pb__peer_record__descriptor, in, memory_max);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    make_record(&b, 20, 24);
    start_count();
    Wr__Pb__PeerRecord *r = unpack(wr_buf_bytes(&b), 1 << 20);
    assert_non_null(r);
    assert_int_equal(made, 1);
    assert_true(r->seq == UINT64_MAX);
    assert_int_equal(r->n_addresses, 20);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(r->addresses[i]->multiaddr.len, 24);
        assert_memory_equal(r->addresses[i]->multiaddr.data, "aaaaaaaa", 8);
    }
    wr_pb_free(&r->base);
    assert_int_equal(live, 0);
    wr_pb_free(NULL);
    wr_buf_clear(&b);
}

static void test_many_blocks(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    make_record(&b, 3000, 1);
    start_count();
    Wr__Pb__PeerRecord *r = unpack(wr_buf_bytes(&b), 1 << 20);
    assert_non_null(r);
    assert_true(made > 1);
    assert_int_equal(r->n_addresses, 3000);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(r->addresses[i]->multiaddr.data[0], 'a');
    wr_pb_free(&r->base);
    assert_int_equal(live, 0);
    wr_buf_clear(&b);
}

static void test_ceiling_holds_at_every_size(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    make_record(&b, 60, 3);
    bool opened = false;
    for (size_t max = 0; max < 20000; max += 7) {
        start_count();
        Wr__Pb__PeerRecord *r = unpack(wr_buf_bytes(&b), max);
        assert_true(bytes_made <= max + (size_t)made * sizeof(struct block));
        assert_false(opened && !r);
        opened = r != NULL;
        if (r)
            assert_int_equal(r->n_addresses, 60);
        wr_pb_free(r ? &r->base : NULL);
        assert_int_equal(live, 0);
    }
    assert_true(opened);
    wr_buf_clear(&b);
}

static void test_each_allocation_fails_in_turn(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    make_record(&b, 3000, 1);
    int refused = 0;
    for (int left = 0;; left++, refused++) {
        start_count();
        allocs_left = left;
        Wr__Pb__PeerRecord *r = unpack(wr_buf_bytes(&b), 1 << 20);
        allocs_left = -1;
        wr_pb_free(r ? &r->base : NULL);
        assert_int_equal(live, 0);
        if (r)
            break;
    }
    assert_true(refused > 3);
    wr_buf_clear(&b);
}

static void test_damage_is_an_error_without_leaks(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 1 << 20);
    make_record(&b, 3, 4);
    size_t bad = 0;
    start_count();
    for (size_t cut = 0; cut < b.len; cut++) {
        Wr__Pb__PeerRecord *r = unpack(WR_BYTES(b.data, cut), 4096);
        bad += r == NULL;
        wr_pb_free(r ? &r->base : NULL);
    }
    assert_true(bad > b.len / 2);
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        Wr__Pb__PeerRecord *r = unpack(wr_buf_bytes(&b), 4096);
        wr_pb_free(r ? &r->base : NULL);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(live, 0);
    assert_null(unpack(WR_BYTES_NONE, 4096));
    wr_buf_clear(&b);
}

static void test_pack_does_not_fit(void **state)
{
    (void)state;
    struct wr_buf b;
    wr_buf_init(&b, 10);
    make_record(&b, 3, 4);
    assert_true(b.full);
    assert_int_equal(b.len, 0);
    wr_buf_clear(&b);
}

static void test_reader_in_place(void **state)
{
    (void)state;
    /* Protobuf documentation, "Encoding": 150 in field 1, "testing" in field 2. */
    static const uint8_t in[] = {0x08, 0x96, 0x01, 0x12, 0x07, 't',  'e',  's',  't',  'i',  'n',
                                 'g',  0x1d, 1,    2,    3,    4,    0x21, 1,    2,    3,    4,
                                 5,    6,    7,    8,    0xf8, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    struct wr_bytes rest = WR_BYTES(in, sizeof(in));
    struct wr_pb_field f;
    assert_int_equal(wr_pb_next(&rest, &f), 1);
    assert_int_equal(f.number, 1);
    assert_int_equal(f.value, 150);
    assert_int_equal(wr_pb_next(&rest, &f), 1);
    assert_int_equal(f.number, 2);
    assert_true(wr_bytes_equal(f.bytes, WR_BYTES_STR("testing")));
    assert_ptr_equal(f.bytes.ptr, in + 5);
    assert_int_equal(wr_pb_next(&rest, &f), 1);
    assert_int_equal(f.wire, WR_PB_FIXED32);
    assert_int_equal(f.value, 0x04030201);
    assert_int_equal(wr_pb_next(&rest, &f), 1);
    assert_int_equal(f.wire, WR_PB_FIXED64);
    assert_true(f.value == 0x0807060504030201);
    assert_int_equal(wr_pb_next(&rest, &f), 1);
    assert_int_equal(f.number, (1 << 29) - 1);
    assert_true(f.value == UINT64_MAX);
    assert_int_equal(wr_pb_next(&rest, &f), 0);
}

static void test_reader_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t len;
        const char *bytes;
    } bad[] = {
        {"field 0", 2, "\x00\x01"},
        {"group start", 1, "\x0b"},
        {"group end", 1, "\x0c"},
        {"wire type 6", 1, "\x0e"},
        {"tag above 32 bits", 7, "\x88\x80\x80\x80\x80\x01\x01"},
        {"tag cut", 1, "\x88"},
        {"varint cut", 2, "\x08\x80"},
        {"varint of eleven", 12, "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"},
        {"length cut", 1, "\x12"},
        {"bytes cut", 3, "\x12\x02x"},
        {"length enormous", 12, "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"},
        {"fixed32 cut", 4, "\x1d\x01\x02\x03"},
        {"fixed64 cut", 8, "\x19\x01\x02\x03\x04\x05\x06\x07"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct wr_bytes rest = WR_BYTES(bad[i].bytes, bad[i].len);
        struct wr_pb_field f;
        if (wr_pb_next(&rest, &f) != WR_EPROTO)
            print_error("%s\n", bad[i].what);
        rest = WR_BYTES(bad[i].bytes, bad[i].len);
        assert_int_equal(wr_pb_next(&rest, &f), WR_EPROTO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_many_blocks),
        cmocka_unit_test(test_ceiling_holds_at_every_size),
        cmocka_unit_test(test_each_allocation_fails_in_turn),
        cmocka_unit_test(test_damage_is_an_error_without_leaks),
        cmocka_unit_test(test_pack_does_not_fit),
        cmocka_unit_test(test_reader_in_place),
        cmocka_unit_test(test_reader_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
