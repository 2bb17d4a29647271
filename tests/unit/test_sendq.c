/* The send queue: order, memory charged and returned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/sendq.h"

#include <string.h>

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* Bytes come out as they went in, however both sides cut them; memory follows. */
static void test_order_and_charge(void **state)
{
    (void)state;
    static uint8_t buf[50000];
    struct wr_limits limits;
    struct wr_account account = {.limits = &limits};
    struct wr_sendq q = {0};
    uint64_t seed = 1;
    uint32_t in = 0, out = 0;
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    for (int step = 0; step < 3000; step++) {
        size_t len = next_random(&seed) % (next_random(&seed) % 8 ? 300 : sizeof(buf));
        if (next_random(&seed) % 2 && q.len < 300000) {
            for (size_t i = 0; i < len; i++)
                buf[i] = (uint8_t)((in + i) * 7 / 5);
            assert_int_equal(wr_sendq_put(&q, &account, buf, len), len);
            in += (uint32_t)len;
        } else {
            len = len < q.len ? len : q.len;
            wr_sendq_take(&q, &account, buf, len);
            for (size_t i = 0; i < len; i++)
                assert_int_equal(buf[i], (uint8_t)((out + i) * 7 / 5));
            out += (uint32_t)len;
        }
        uint64_t used = limits.of[WR_LIMIT_MEMORY].used;
        assert_int_equal(q.len, in - out);
        assert_true(used >= q.len && used <= q.len + q.len / 16 + 2 * WR_SENDQ_CHUNK);
        assert_true(q.len || used == 0);
    }
    wr_sendq_clear(&q, &account);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(q.len, 0);
    assert_null(q.head);
}

static void test_limit_takes_a_part(void **state)
{
    (void)state;
    static uint8_t buf[50000];
    struct wr_limits limits;
    struct wr_account account = {.limits = &limits};
    struct wr_sendq q = {0};
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    limits.of[WR_LIMIT_MEMORY].max = 8 * WR_SENDQ_CHUNK;
    size_t taken = wr_sendq_put(&q, &account, buf, sizeof(buf));
    assert_in_range(taken, 2 * WR_SENDQ_CHUNK - 100, 2 * WR_SENDQ_CHUNK);
    assert_int_equal(q.len, taken);
    assert_int_equal(wr_sendq_put(&q, &account, buf, 1), 0);
    wr_sendq_clear(&q, &account);
    assert_int_equal(wr_sendq_put(&q, &account, buf, 1), 1);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 512);
    wr_sendq_clear(&q, &account);
    wr_sendq_clear(&q, &account);
}

/* Lent bytes stand behind the queued ones, cost no memory, and those not taken are the lender's again. */
static void test_loan(void **state)
{
    (void)state;
    static uint8_t data[60000], out[60000];
    struct wr_limits limits;
    struct wr_account account = {.limits = &limits};
    struct wr_sendq q = {0};
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 / 5);
    assert_int_equal(wr_sendq_put(&q, &account, data, 20000), 20000);
    uint64_t used = limits.of[WR_LIMIT_MEMORY].used;
    wr_sendq_lend(&q, data + 20000, 40000);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, used);
    assert_int_equal(q.len, 60000);
    wr_sendq_take(&q, &account, out, 5000);
    wr_sendq_take(&q, &account, out + 5000, 25000);
    wr_sendq_take(&q, &account, out + 30000, 7);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(wr_sendq_unlend(&q, data + 20000), 10007);
    assert_int_equal(q.len, 0);
    assert_int_equal(wr_sendq_put(&q, &account, data + 30007, 29993), 29993);
    wr_sendq_take(&q, &account, out + 30007, 29993);
    assert_memory_equal(out, data, sizeof(data));
    /* none taken; and dropped with the queue */
    wr_sendq_lend(&q, data, 10);
    assert_int_equal(wr_sendq_unlend(&q, data), 0);
    wr_sendq_lend(&q, data, 10);
    wr_sendq_clear(&q, &account);
    assert_int_equal(q.len, 0);
    assert_int_equal(wr_sendq_unlend(&q, data), 0);
    assert_int_equal(limits.of[WR_LIMIT_MEMORY].used, 0);
}

/* Lent bytes can be had where they stand, once nothing is queued in front of them. */
static void test_loan_taken_in_place(void **state)
{
    (void)state;
    static uint8_t data[1000], out[1000];
    struct wr_limits limits;
    struct wr_account account = {.limits = &limits};
    struct wr_sendq q = {0};
    assert_int_equal(wr_limits_init(&limits, "small"), 0);
    assert_int_equal(wr_sendq_take_lent(&q, 10).len, 0);
    assert_int_equal(wr_sendq_put(&q, &account, data, 100), 100);
    wr_sendq_lend(&q, data + 100, 900);
    assert_int_equal(wr_sendq_take_lent(&q, 10).len, 0);
    wr_sendq_take(&q, &account, out, 110);
    struct wr_bytes got = wr_sendq_take_lent(&q, 500);
    assert_ptr_equal(got.ptr, data + 110);
    assert_int_equal(got.len, 500);
    assert_int_equal(q.len, 390);
    assert_int_equal(wr_sendq_take_lent(&q, 500).len, 390);
    assert_int_equal(q.len, 0);
    assert_int_equal(wr_sendq_unlend(&q, data + 100), 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loan),
        cmocka_unit_test(test_loan_taken_in_place),
        cmocka_unit_test(test_order_and_charge),
        cmocka_unit_test(test_limit_takes_a_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
