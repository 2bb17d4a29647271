/* Datagrams in bulk. */
#include "tests/env/contract.h"

struct post {
    struct wr_dgram *dgram;
    struct wr_addr addr, from, to;
    unsigned count, writable;
    size_t bytes;
    uint8_t ecn, first[256];
    bool close_inside;
};

static void on_receive(void *arg, const struct wr_dgram_in *in)
{
    struct post *p = arg;
    assert_non_null(p->dgram);
    p->from = in->from;
    p->to = in->to;
    p->ecn = in->ecn;
    for (size_t at = 0; at < in->len; at += in->segment) {
        size_t len = in->len - at < in->segment ? in->len - at : in->segment;
        if (p->count < sizeof(p->first))
            p->first[p->count] = in->data[at];
        /* Each is whole: it carries one number. */
        for (size_t i = 0; i < len; i++)
            assert_int_equal(in->data[at + i], in->data[at]);
        p->bytes += len;
        p->count++;
    }
    memset(in->data, 0xdd, in->len);
    if (p->close_inside) {
        wr_dgram_close(p->dgram);
        p->dgram = NULL;
    }
}

static void on_writable(void *arg)
{
    ((struct post *)arg)->writable++;
}

static const struct wr_dgram_ops ops = {.on_receive = on_receive, .on_writable = on_writable};

static void post_open(struct post *p, struct wr_env *env, struct wr_addr at)
{
    assert_int_equal(wr_env_dgram(env, &at, &ops, p, &p->dgram), 0);
    wr_dgram_addr(p->dgram, &p->addr);
    assert_int_not_equal(p->addr.port, 0);
}

/* `count` datagrams of `segment` bytes each and one of `tail`, numbered from `number`. */
static int send_row(struct post *p, const struct wr_addr *to, uint8_t number, size_t count, size_t segment,
                    size_t tail)
{
    static uint8_t data[WR_DGRAM_BATCH];
    for (size_t i = 0; i < count; i++)
        memset(data + i * segment, number + (int)i, segment);
    memset(data + count * segment, number + (int)count, tail);
    struct wr_dgram_out out = {.to = *to, .ecn = 2, .data = data, .len = count * segment + tail,
                               .segment = segment};
    return wr_dgram_send(p->dgram, &out);
}

static void rows(struct contract *c, struct wr_addr at_a, struct wr_addr at_b)
{
    struct post a = {0}, b = {0};
    post_open(&a, c->a, at_a);
    post_open(&b, c->b, at_b);
    assert_int_equal(send_row(&a, &b.addr, 0, 40, 1400, 99), 0);
    UNTIL(c, b.count == 41);
    assert_int_equal(b.bytes, 40 * 1400 + 99);
    for (uint8_t i = 0; i < 41; i++)
        assert_int_equal(b.first[i], i);
    assert_true(wr_addr_equal(&b.from, &a.addr));
    assert_true(wr_addr_equal(&b.to, &b.addr));
    if (!c->simulated)
        assert_int_equal(b.ecn, 2);
    assert_int_equal(send_row(&b, &b.from, 7, 0, 20, 20), 0);
    UNTIL(c, a.count == 1);
    assert_int_equal(a.first[0], 7);
    wr_dgram_close(a.dgram);
    wr_dgram_close(b.dgram);
}

static void rows_ipv4(void **state)
{
    struct contract *c = *state;
    rows(c, c->a_addr, c->b_addr);
}

static void rows_ipv6(void **state)
{
    struct contract *c = *state;
    rows(c, c->a_addr6, c->b_addr6);
}

/* On a wildcard socket the address that was meant is told, and one can answer from it. */
static void wildcard(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0};
    struct wr_addr any = {.ip.family = 4};
    post_open(&a, c->a, c->a_addr);
    post_open(&b, c->b, any);
    struct wr_addr to = c->b_addr;
    to.port = b.addr.port;
    assert_int_equal(send_row(&a, &to, 1, 1, 100, 0), 0);
    UNTIL(c, b.count == 1);
    assert_true(wr_addr_equal(&b.to, &to));
    uint8_t byte = 9;
    struct wr_dgram_out out = {.to = b.from, .from = b.to.ip, .data = &byte, .len = 1, .segment = 1};
    assert_int_equal(wr_dgram_send(b.dgram, &out), 0);
    UNTIL(c, a.count == 1);
    assert_true(wr_addr_equal(&a.from, &to));
    wr_dgram_close(a.dgram);
    wr_dgram_close(b.dgram);
}

static void errors(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0};
    struct wr_dgram *none;
    post_open(&a, c->a, c->a_addr);
    assert_int_equal(wr_env_dgram(c->a, &a.addr, &ops, &b, &none), WR_EINUSE);
    struct wr_addr foreign = {.ip = {4, {192, 0, 2, 7}}, .port = 4001};
    assert_int_equal(wr_env_dgram(c->a, &foreign, &ops, &b, &none), WR_EINVAL);
    struct wr_addr to = c->b_addr6;
    to.port = 9;
    assert_int_equal(send_row(&a, &to, 0, 1, 10, 0), WR_EUNREACH);
    /* A port where nobody is costs nothing. */
    post_open(&b, c->b, c->b_addr);
    struct wr_addr gone = b.addr;
    wr_dgram_close(b.dgram);
    assert_int_equal(send_row(&a, &gone, 0, 3, 10, 0), 0);
    contract_run(c, 2 * WR_MSEC);
    post_open(&b, c->b, gone);
    assert_int_equal(send_row(&a, &gone, 0, 3, 10, 0), 0);
    UNTIL(c, b.count == 3);
    wr_dgram_close(a.dgram);
    wr_dgram_close(b.dgram);
}

/* A full system keeps one batch, says so, and goes on with it. */
static void a_jam(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0};
    post_open(&a, c->a, c->a_addr);
    post_open(&b, c->b, c->b_addr);
    contract_jam(c, true);
    assert_int_equal(send_row(&a, &b.addr, 10, 3, 500, 0), WR_ELIMIT);
    assert_true(wr_dgram_blocked(a.dgram));
    assert_int_equal(send_row(&a, &b.addr, 20, 3, 500, 0), WR_ELIMIT);
    contract_run(c, 2 * WR_MSEC);
    assert_int_equal(a.writable, 0);
    assert_int_equal(b.count, 0);
    contract_jam(c, false);
    UNTIL(c, a.writable == 1 && b.count == 3);
    assert_int_equal(b.first[0], 10);
    assert_false(wr_dgram_blocked(a.dgram));
    assert_int_equal(send_row(&a, &b.addr, 30, 1, 500, 0), 0);
    UNTIL(c, b.count == 4);
    assert_int_equal(b.first[3], 30);
    /* Closed while it waits. */
    contract_jam(c, true);
    assert_int_equal(send_row(&a, &b.addr, 40, 3, 500, 0), WR_ELIMIT);
    wr_dgram_close(a.dgram);
    contract_jam(c, false);
    contract_run(c, 2 * WR_MSEC);
    assert_int_equal(b.count, 4);
    assert_int_equal(a.writable, 1);
    wr_dgram_close(b.dgram);
}

/* No segmentation offload, none for receiving, small buffers: the same datagrams arrive. */
static void without_offload(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0};
    if (!contract_refuse_offload(c, true))
        skip();
    unsigned asked = contract_buffers();
    post_open(&a, c->a, c->a_addr);
    post_open(&b, c->b, c->b_addr);
    assert_int_equal(contract_buffers() - asked, 4);    /* what root gets was refused: as much as there is, both ways */
    unsigned before = contract_sends();
    assert_int_equal(send_row(&a, &b.addr, 0, 40, 1200, 50), 0);
    assert_int_equal(contract_sends() - before, 42);    /* one refusal, then one each */
    UNTIL(c, b.count == 41);
    for (uint8_t i = 0; i < 41; i++)
        assert_int_equal(b.first[i], i);
    before = contract_sends();
    assert_int_equal(send_row(&a, &b.addr, 50, 5, 1200, 0), 0);
    assert_int_equal(contract_sends() - before, 5);    /* it is not asked for again */
    UNTIL(c, b.count == 46);
    contract_refuse_offload(c, false);
    wr_dgram_close(a.dgram);
    wr_dgram_close(b.dgram);
}

static void close_inside_the_handler(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {.close_inside = true};
    post_open(&a, c->a, c->a_addr);
    post_open(&b, c->b, c->b_addr);
    for (uint8_t i = 0; i < 10; i++)
        assert_int_equal(send_row(&a, &b.addr, i, 0, 100 + i, 100u + i), 0);
    UNTIL(c, !b.dgram);
    contract_run(c, 5 * WR_MSEC);
    assert_int_equal(b.count, 1);
    wr_dgram_close(a.dgram);
}

static void source(void **state)
{
    struct contract *c = *state;
    struct wr_ip from;
    struct wr_addr to = c->b_addr;
    to.port = 4001;
    assert_int_equal(wr_env_source(c->a, &to, &from), 0);
    assert_true(wr_ip_equal(&from, &c->a_addr.ip));
    to = c->b_addr6;
    to.port = 4001;
    assert_int_equal(wr_env_source(c->a, &to, &from), 0);
    assert_true(wr_ip_equal(&from, &c->a_addr6.ip));
}

int contract_dgram(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(rows_ipv4), CONTRACT_TEST(rows_ipv6),       CONTRACT_TEST(wildcard),
        CONTRACT_TEST(errors),    CONTRACT_TEST(a_jam),           CONTRACT_TEST(without_offload),
        CONTRACT_TEST(source),    CONTRACT_TEST(close_inside_the_handler),
    };
    return cmocka_run_group_tests_name("dgram", tests, NULL, NULL);
}
