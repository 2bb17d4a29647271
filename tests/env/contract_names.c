/* Name lookups. */
#include "tests/env/contract.h"

#define ANSWER_MAX 70000

struct asked {
    struct wr_lookup *lookup;
    bool done, inside;
    int err;
    size_t count;
    size_t lens[WR_LOOKUP_ANSWERS_MAX];
    uint8_t bytes[ANSWER_MAX];    /* one after the other */
    struct contract *c;
    const char *then;    /* asks for this as well, from inside the answer */
    struct asked *next;
};

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count);

static void ask(struct contract *c, struct asked *q, const char *name, enum wr_lookup_type type)
{
    q->c = c;
    q->inside = true;
    assert_int_equal(wr_env_lookup(c->a, name, type, on_answer, q, &q->lookup), 0);
    q->inside = false;
}

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    struct asked *q = arg;
    assert_false(q->inside || q->done);
    q->done = true;
    q->err = err;
    q->count = count;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        q->lens[i] = answers[i].len;
        assert_true(used + answers[i].len <= ANSWER_MAX);
        memcpy(q->bytes + used, answers[i].ptr, answers[i].len);
        used += answers[i].len;
    }
    if (q->then)
        ask(q->c, q->next, q->then, WR_LOOKUP_A);
}

static struct asked first, second;    /* large; of the running test only */

static struct asked *lookup(struct contract *c, const char *name, enum wr_lookup_type type)
{
    memset(&first, 0, sizeof(first));
    ask(c, &first, name, type);
    assert_false(first.done);
    UNTIL(c, first.done);
    return &first;
}

static void our_own_name(void **state)
{
    struct contract *c = *state;
    static const char *const names[] = {"localhost", "LocalHost", "localhost"};
    for (int i = 0; i < 3; i++) {
        struct asked *q = lookup(c, names[i], i == 2 ? WR_LOOKUP_AAAA : WR_LOOKUP_A);
        assert_int_equal(q->err, 0);
        assert_int_equal(q->count, 1);
        assert_int_equal(q->lens[0], i == 2 ? 16 : 4);
        assert_int_equal(q->bytes[q->lens[0] - 1], 1);
    }
    assert_int_equal(contract_names_asked(c), 0);
}

static void an_address_is_its_own_answer(void **state)
{
    struct contract *c = *state;
    struct asked *q = lookup(c, "192.0.2.33", WR_LOOKUP_A);
    assert_int_equal(q->err, 0);
    assert_memory_equal(q->bytes, "\xc0\x00\x02\x21", 4);
    q = lookup(c, "2001:db8::5", WR_LOOKUP_AAAA);
    assert_int_equal(q->err, 0);
    assert_int_equal(q->lens[0], 16);
    assert_memory_equal(q->bytes, "\x20\x01\x0d\xb8", 4);
    /* Of the other family there is none. */
    assert_int_equal(lookup(c, "192.0.2.33", WR_LOOKUP_AAAA)->err, WR_ENOTFOUND);
    assert_int_equal(contract_names_asked(c), 0);
}

static void bad_names(void **state)
{
    struct contract *c = *state;
    struct wr_lookup *none;
    char name[300];
    memset(name, 'a', sizeof(name));
    name[254] = 0;
    assert_int_equal(wr_env_lookup(c->a, "", WR_LOOKUP_A, on_answer, &first, &none), WR_EINVAL);
    assert_int_equal(wr_env_lookup(c->a, name, WR_LOOKUP_A, on_answer, &first, &none), WR_EINVAL);
    /* Within the length, but no name a server could know: the labels are too long or empty. */
    name[200] = 0;
    assert_int_equal(lookup(c, name, WR_LOOKUP_A)->err, WR_ENOTFOUND);
    assert_int_equal(lookup(c, "a..b", WR_LOOKUP_A)->err, WR_ENOTFOUND);
}

static void found_in_the_table(void **state)
{
    struct contract *c = *state;
    contract_name_add(c, "two.test", WR_LOOKUP_A, WR_BYTES("\x05\x06\x07\x08", 4));
    contract_name_add(c, "two.test", WR_LOOKUP_A, WR_BYTES("\x05\x06\x07\x09", 4));
    contract_name_add(c, "two.test", WR_LOOKUP_AAAA, WR_BYTES("abcdefghijklmnop", 16));
    struct asked *q = lookup(c, "two.test", WR_LOOKUP_A);
    assert_int_equal(q->err, 0);
    assert_int_equal(q->count, 2);
    assert_memory_equal(q->bytes, "\x05\x06\x07\x08\x05\x06\x07\x09", 8);
    q = lookup(c, "Two.Test", WR_LOOKUP_AAAA);
    assert_int_equal(q->err, 0);
    assert_memory_equal(q->bytes, "abcdefghijklmnop", 16);
    assert_int_equal(lookup(c, "two.test", WR_LOOKUP_TXT)->err, WR_ENOTFOUND);
    assert_int_equal(lookup(c, "three.test", WR_LOOKUP_A)->err, WR_ENOTFOUND);
}

static void long_text(void **state)
{
    struct contract *c = *state;
    uint8_t text[700];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)('a' + i % 23);
    contract_name_add(c, "_dnsaddr.test", WR_LOOKUP_TXT, WR_BYTES_STR("dnsaddr=/ip4/1.2.3.4"));
    contract_name_add(c, "_dnsaddr.test", WR_LOOKUP_TXT, WR_BYTES(text, sizeof(text)));
    struct asked *q = lookup(c, "_dnsaddr.test", WR_LOOKUP_TXT);
    assert_int_equal(q->err, 0);
    assert_int_equal(q->count, 2);
    assert_int_equal(q->lens[0], 20);
    assert_int_equal(q->lens[1], sizeof(text));
    assert_memory_equal(q->bytes + 20, text, sizeof(text));
}

/* Far more than a datagram holds, and more records than are kept. */
static void large_answer(void **state)
{
    struct contract *c = *state;
    uint8_t text[300];
    for (size_t i = 0; i < WR_LOOKUP_ANSWERS_MAX + 20; i++) {
        memset(text, (int)('0' + i % 64), sizeof(text));
        contract_name_add(c, "big.test", WR_LOOKUP_TXT, WR_BYTES(text, sizeof(text)));
    }
    struct asked *q = lookup(c, "big.test", WR_LOOKUP_TXT);
    assert_int_equal(q->err, 0);
    assert_int_equal(q->count, WR_LOOKUP_ANSWERS_MAX);
    for (size_t i = 0; i < q->count; i++) {
        assert_int_equal(q->lens[i], sizeof(text));
        assert_int_equal(q->bytes[i * sizeof(text)], '0' + i % 64);
    }
}

static void asking_from_inside_an_answer(void **state)
{
    struct contract *c = *state;
    contract_name_add(c, "next.test", WR_LOOKUP_A, WR_BYTES("\x01\x02\x03\x04", 4));
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
    first.then = "next.test";
    first.next = &second;
    ask(c, &first, "nothing.test", WR_LOOKUP_TXT);
    UNTIL(c, second.done);
    assert_int_equal(first.err, WR_ENOTFOUND);
    assert_int_equal(second.err, 0);
}

static void cancelled(void **state)
{
    struct contract *c = *state;
    contract_name_add(c, "x.test", WR_LOOKUP_A, WR_BYTES("\x01\x02\x03\x04", 4));
    static const char *const names[] = {"x.test", "localhost", "nothing.test"};
    for (int i = 0; i < 3; i++) {
        memset(&first, 0, sizeof(first));
        ask(c, &first, names[i], WR_LOOKUP_A);
        wr_lookup_cancel(first.lookup);
    }
    contract_run(c, 50 * WR_MSEC);
    assert_false(first.done);
    /* One that is not answered at all. */
    contract_names_mute(c, true);
    ask(c, &first, "x.test", WR_LOOKUP_A);
    contract_run(c, 50 * WR_MSEC);
    wr_lookup_cancel(first.lookup);
    contract_run(c, 10 * WR_MSEC);
    assert_false(first.done);
}

static void no_answer(void **state)
{
    struct contract *c = *state;
    contract_names_mute(c, true);
    wr_time start = wr_env_now(c->a);
    assert_int_equal(lookup(c, "x.test", WR_LOOKUP_A)->err, WR_ETIMEOUT);
    wr_time took = wr_env_now(c->a) - start;
    assert_true(took >= WR_LOOKUP_TIMEOUT);
    assert_true(!c->simulated || took < WR_LOOKUP_TIMEOUT + 2 * WR_SEC);    /* real time is the machine's too */
}

static void at_once(void **state)
{
    struct contract *c = *state;
    static struct asked q[40];
    memset(q, 0, sizeof(q));
    contract_name_add(c, "x.test", WR_LOOKUP_A, WR_BYTES("\x01\x02\x03\x04", 4));
    for (int i = 0; i < 40; i++)
        ask(c, &q[i], i % 2 ? "x.test" : "y.test", WR_LOOKUP_A);
    for (int i = 0; i < 40; i++) {
        UNTIL(c, q[i].done);
        assert_int_equal(q[i].err, i % 2 ? 0 : WR_ENOTFOUND);
    }
}

int contract_names(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(our_own_name),
        CONTRACT_TEST(an_address_is_its_own_answer),
        CONTRACT_TEST(bad_names),
        CONTRACT_TEST(found_in_the_table),
        CONTRACT_TEST(long_text),
        CONTRACT_TEST(large_answer),
        CONTRACT_TEST(asking_from_inside_an_answer),
        CONTRACT_TEST(cancelled),
        CONTRACT_TEST(no_answer),
        CONTRACT_TEST(at_once),
    };
    return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
