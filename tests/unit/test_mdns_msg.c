/* Multicast DNS: names, a reader that nothing leads astray, and answers that go, rust and js accept - their
 * rules are written down here as three small readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/mdns_msg.h"
#include "transport/err.h"

#include <stdio.h>
#include <string.h>

#define SELF  "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
#define OTHER "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
#define SERVICE "_p2p._udp.local."

static struct wr_mdns_names names;
static struct wr_peerid self;

static int setup(void **state)
{
    uint8_t random[WR_MDNS_INSTANCE];
    (void)state;
    for (size_t i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)(i * 7);
    assert_int_equal(wr_mdns_names_init(&names, random, NULL), 0);
    assert_int_equal(wr_peerid_parse(SELF, &self), 0);
    return 0;
}

static struct wr_maddr ma(const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return m;
}

static struct wr_buf answer(const struct wr_maddr *addrs, size_t count, bool goodbye)
{
    struct wr_buf b;
    wr_buf_init(&b, WR_MDNS_PACKET_MAX);
    wr_mdns_put_answer(&names, 0, &self, addrs, count, goodbye, &b);
    assert_false(b.full);
    return b;
}

/* ---- a plain DNS unpacker, as the libraries of the others have one: dotted names, all records */

struct record {
    int section;
    char name[256];
    unsigned type, class, ttl;
    const uint8_t *data;
    size_t len, at;
};

static size_t plain_name(const uint8_t *p, size_t len, size_t at, char out[256])
{
    size_t n = 0;
    while (p[at]) {
        assert_true(p[at] < 64 && at + 1 + p[at] < len);    /* we do not compress */
        memcpy(out + n, p + at + 1, p[at]);
        n += p[at];
        out[n++] = '.';
        at += 1u + p[at];
    }
    out[n] = 0;
    return at + 1;
}

static unsigned be(const uint8_t *p, size_t n)
{
    unsigned v = 0;
    while (n--)
        v = v << 8 | *p++;
    return v;
}

/* Unpacks a response; every byte must belong to something. */
static size_t unpack(const struct wr_buf *b, struct record *records, size_t max)
{
    const uint8_t *p = b->data;
    size_t at = 12, n = 0;
    assert_true(be(p + 2, 2) & 0x8000);
    assert_int_equal(be(p + 4, 2), 0);    /* rust takes a packet with a question for a query */
    for (int section = 1; section < 4; section++) {
        for (unsigned left = be(p + 4 + 2 * section, 2); left; left--) {
            struct record *r = &records[n++];
            assert_true(n <= max);
            r->section = section;
            at = plain_name(p, b->len, at, r->name);
            r->type = be(p + at, 2);
            r->class = be(p + at + 2, 2) & 0x7fff;
            r->ttl = be(p + at + 4, 4);
            r->len = be(p + at + 8, 2);
            r->at = at + 10;
            r->data = p + r->at;
            at = r->at + r->len;
            assert_true(at <= b->len);
        }
    }
    assert_int_equal(at, b->len);
    return n;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* What go finds in a packet (libp2p/zeroconf): an entry by PTR, SRV and TXT in any section, which is passed on
 * only if an A or AAAA record carries the name of its SRV target; the strings of the last TXT. Returns the
 * number of strings, -1 when no entry is passed on. */
static int like_go(const struct wr_buf *b, const char *service, char out[][256])
{
    struct record r[32];
    char instance[256] = "", host[256] = "";
    const struct record *txt = NULL;
    bool addr = false, alive = false;
    size_t n = unpack(b, r, 32);
    for (size_t i = 0; i < n; i++) {
        if (r[i].type == 12 && strcmp(r[i].name, service) == 0) {
            plain_name(b->data, b->len, r[i].at, instance);
            alive = r[i].ttl > 0;
        }
        if (r[i].type == 33 && ends_with(r[i].name, service)) {
            assert_string_equal(r[i].name, instance);
            plain_name(b->data, b->len, r[i].at + 6, host);
            assert_true(be(r[i].data + 4, 2) > 0);
            alive = r[i].ttl > 0;
        }
        if (r[i].type == 16 && ends_with(r[i].name, service)) {
            assert_string_equal(r[i].name, instance);
            txt = &r[i];
            alive = r[i].ttl > 0;
        }
    }
    for (size_t i = 0; i < n; i++)
        addr = addr || ((r[i].type == 1 || r[i].type == 28) && strcmp(r[i].name, host) == 0);
    if (!addr || !alive || !txt || !host[0])
        return -1;
    int strings = 0;
    for (size_t at = 0; at < txt->len; at += 1u + txt->data[at]) {
        memcpy(out[strings], txt->data + at + 1, txt->data[at]);
        out[strings++][txt->data[at]] = 0;
    }
    return strings;
}

/* What rust finds (protocols/mdns): per PTR in the answers, the TXT records of exactly that name in the
 * additionals; every string a dnsaddr that ends in /p2p, all of one peer. */
static int like_rust(const struct wr_buf *b, const char *service, char out[][256])
{
    struct record r[32];
    char instance[256];
    size_t n = unpack(b, r, 32);
    int strings = 0;
    assert_true(b->len <= 4096);
    for (size_t i = 0; i < n; i++) {
        if (r[i].section != 1 || r[i].type != 12 || strcmp(r[i].name, service) != 0)
            continue;
        plain_name(b->data, b->len, r[i].at, instance);
        for (size_t k = 0; k < n; k++) {
            if (r[k].section != 3 || r[k].type != 16 || strcmp(r[k].name, instance) != 0)
                continue;
            for (size_t at = 0; at < r[k].len; at += 1u + r[k].data[at]) {
                char *text = out[strings++];
                memcpy(text, r[k].data + at + 1, r[k].data[at]);
                text[r[k].data[at]] = 0;
                assert_true(strncmp(text, "dnsaddr=/", 9) == 0 && ends_with(text, "/p2p/" SELF));
            }
        }
    }
    return strings;
}

/* What js finds (packages/mdns): TXT in answers or additionals whose name ends with the service. */
static int like_js(const struct wr_buf *b, const char *service)
{
    struct record r[32];
    size_t n = unpack(b, r, 32);
    int txts = 0;
    for (size_t i = 0; i < n; i++)
        txts += r[i].section != 2 && r[i].type == 16 && ends_with(r[i].name, service);
    return txts;
}

static void test_go_rust_and_js_accept_it(void **state)
{
    (void)state;
    char go[16][256], rust[16][256];
    struct wr_maddr addrs[] = {ma("/ip4/192.168.1.20/tcp/4001"), ma("/ip4/192.168.1.20/udp/4001/quic-v1"),
                               ma("/ip6/fd00::20/tcp/4001")};
    struct wr_buf b = answer(addrs, 3, false);
    assert_int_equal(like_go(&b, SERVICE, go), 3);
    assert_int_equal(like_rust(&b, SERVICE, rust), 3);
    assert_int_equal(like_js(&b, SERVICE), 1);
    assert_string_equal(go[0], "dnsaddr=/ip4/192.168.1.20/tcp/4001/p2p/" SELF);
    assert_string_equal(rust[1], "dnsaddr=/ip4/192.168.1.20/udp/4001/quic-v1/p2p/" SELF);
    assert_string_equal(go[2], "dnsaddr=/ip6/fd00::20/tcp/4001/p2p/" SELF);
    struct record r[32];
    size_t n = unpack(&b, r, 32);
    assert_int_equal(n, 5);    /* PTR, SRV, A, AAAA, TXT */
    for (size_t i = 0; i < n; i++)
        assert_int_equal(r[i].ttl, r[i].type == 1 || r[i].type == 28 ? 120 : 3200);
    wr_buf_clear(&b);
    /* A goodbye makes go drop the entry. */
    b = answer(addrs, 3, true);
    assert_int_equal(like_go(&b, SERVICE, go), -1);
    wr_buf_clear(&b);
    /* Nothing to say without addresses. */
    b = answer(NULL, 0, false);
    assert_int_equal(b.len, 0);
}

static void test_names_follow_the_spec(void **state)
{
    (void)state;
    char text[256], service[256];
    uint8_t random[WR_MDNS_INSTANCE] = {0};
    struct wr_mdns_names other;
    plain_name(names.instance.bytes, names.instance.len, 0, text);
    size_t label = strcspn(text, ".");
    assert_true(label >= 32 && label <= 63);
    assert_int_equal(strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789"), label);
    assert_string_equal(text + label + 1, SERVICE);
    assert_int_equal(wr_mdns_names_init(&other, random, "0123456789abcdef"), 0);
    plain_name(other.service.bytes, other.service.len, 0, service);
    assert_string_equal(service, "_p2p-0123456789abcdef._udp.local.");
    char endless[80];
    memset(endless, 'a', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = 0;
    assert_int_equal(wr_mdns_names_init(&other, random, endless), WR_EINVAL);
}

static void test_answers_stay_below_the_mtu(void **state)
{
    (void)state;
    char go[16][256];
    struct wr_maddr addrs[WR_MDNS_ADDRS_MAX];
    for (int i = 0; i < WR_MDNS_ADDRS_MAX; i++) {
        char text[128];
        snprintf(text, sizeof(text), "/ip6/fd00:1111:2222:3333:4444:5555:6666:%x/udp/40001/quic-v1", 0x7000 + i);
        addrs[i] = ma(text);
    }
    struct wr_buf b = answer(addrs, WR_MDNS_ADDRS_MAX, false);
    assert_true(b.len <= WR_MDNS_PACKET_MAX && b.len > WR_MDNS_PACKET_MAX - 200);
    int strings = like_go(&b, SERVICE, go);
    assert_true(strings >= 5 && strings < WR_MDNS_ADDRS_MAX);
    wr_buf_clear(&b);
}

/* ---- reading */

struct seen {
    unsigned count;
    struct wr_mdns_peer last;
};

static void note(void *arg, const struct wr_mdns_peer *peer)
{
    struct seen *s = arg;
    s->count++;
    s->last = *peer;
}

static int read_packet(const struct wr_buf *b, struct wr_mdns_packet *packet, struct seen *seen)
{
    struct wr_mdns_packet scratch;
    uint8_t *copy = wr_alloc(b->len);    /* exact: a sanitizer sees a byte too many */
    memcpy(copy, b->data, b->len);
    seen->count = 0;
    int err = wr_mdns_read(&names, WR_BYTES(copy, b->len), packet ? packet : &scratch, note, seen);
    wr_free(copy);
    return err;
}

static void test_we_read_what_we_write(void **state)
{
    (void)state;
    struct wr_mdns_packet p;
    struct seen seen;
    struct wr_maddr addrs[] = {ma("/ip4/192.168.1.20/tcp/4001"), ma("/ip6/fe80::1/tcp/4001")};
    struct wr_buf b = answer(addrs, 2, false);
    assert_int_equal(read_packet(&b, &p, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_true(wr_peerid_equal(&seen.last.id, &self));
    assert_int_equal(seen.last.ttl, 3200);
    assert_int_equal(seen.last.count, 2);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&seen.last.addrs[1]), wr_maddr_bytes(&addrs[1])));
    assert_false(p.asks || p.browses);
    wr_buf_clear(&b);
    b = answer(addrs, 2, true);
    assert_int_equal(read_packet(&b, &p, &seen), 0);
    assert_true(seen.count == 1 && seen.last.ttl == 0);
    wr_buf_clear(&b);
    wr_buf_init(&b, 1400);
    wr_mdns_put_query(&names, &b);
    assert_int_equal(read_packet(&b, &p, &seen), 0);
    assert_true(p.asks && !p.browses && seen.count == 0);
    wr_buf_reset(&b);
    wr_mdns_put_browse(&names, 77, &b);
    assert_int_equal(read_packet(&b, &p, &seen), 0);
    assert_true(!p.asks && !p.browses && p.id == 77 && seen.count == 0);
    wr_buf_clear(&b);
}

/* ---- building packets of others by hand */

struct crafted {
    struct wr_buf b;
    uint16_t counts[4];
};

static void craft(struct crafted *c, bool response)
{
    memset(c, 0, sizeof(*c));
    wr_buf_init(&c->b, 9000);
    wr_dns_put_header(&c->b, 1, response, c->counts);
}

static void count(struct crafted *c, int section)
{
    c->counts[section]++;
    c->b.data[5 + 2 * section] = (uint8_t)c->counts[section];
    c->b.data[4 + 2 * section] = (uint8_t)(c->counts[section] >> 8);
}

static struct wr_dns_name dn(const char *text)
{
    struct wr_dns_name n;
    assert_int_equal(wr_dns_name_parse(text, &n), 0);
    return n;
}

static void put_ptr(struct crafted *c, int section, const char *name, const char *to)
{
    struct wr_dns_name a = dn(name), b = dn(to);
    size_t mark = wr_dns_begin_record(&c->b, &a, WR_DNS_PTR, 1, 120);
    wr_dns_put_name(&c->b, &b);
    wr_dns_end_record(&c->b, mark);
    count(c, section);
}

static void put_txt(struct crafted *c, int section, const char *name, const char *const *texts)
{
    struct wr_dns_name a = dn(name);
    size_t mark = wr_dns_begin_record(&c->b, &a, WR_DNS_TXT, 1, 120);
    for (; *texts; texts++) {
        wr_buf_put_u8(&c->b, (uint8_t)strlen(*texts));
        wr_buf_put_cstr(&c->b, *texts);
    }
    wr_dns_end_record(&c->b, mark);
    count(c, section);
}

static void test_the_shapes_that_others_send(void **state)
{
    (void)state;
    static const char *const one[] = {"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/" OTHER, NULL};
    static const char *const two[] = {"dnsaddr=/ip4/10.0.0.1/tcp/2/p2p/" OTHER, NULL};
    struct crafted c;
    struct seen seen;
    /* rust: one TXT record per address, in the additionals. */
    craft(&c, true);
    put_ptr(&c, 1, "_p2p._udp.local", "abc._p2p._udp.local");
    put_txt(&c, 3, "abc._p2p._udp.local", one);
    put_txt(&c, 3, "abc._p2p._udp.local", two);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    assert_true(seen.count == 1 && seen.last.count == 2 && seen.last.ttl == 120);
    wr_buf_clear(&c.b);
    /* js: all in the answers; capitals are the same name. */
    craft(&c, true);
    put_ptr(&c, 1, "_P2P._udp.LOCAL", "abc._p2p._udp.local");
    put_txt(&c, 1, "ABC._p2p._udp.local", one);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    assert_true(seen.count == 1 && seen.last.count == 1);
    wr_buf_clear(&c.b);
    /* Another service, another network, another instance's TXT, a query that carries answers: nothing. */
    craft(&c, true);
    put_ptr(&c, 1, "_ipp._tcp.local", "abc._ipp._tcp.local");
    put_ptr(&c, 1, "_p2p-0011._udp.local", "abc._p2p-0011._udp.local");
    put_txt(&c, 3, "abc._p2p-0011._udp.local", one);
    put_ptr(&c, 1, "_p2p._udp.local", "def._p2p._udp.local");
    put_txt(&c, 3, "abc._p2p._udp.local", one);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    assert_int_equal(seen.count, 0);
    wr_buf_clear(&c.b);
    craft(&c, false);
    put_ptr(&c, 1, "_p2p._udp.local", "abc._p2p._udp.local");
    put_txt(&c, 3, "abc._p2p._udp.local", one);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    assert_int_equal(seen.count, 0);
    wr_buf_clear(&c.b);
}

static void test_odd_strings_are_skipped(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "dnsaddr=", "dnsaddr=/", "dnsaddr=/ip4/10.0.0.1/tcp/1", "dnsaddr=/p2p/" OTHER,
        "dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/" OTHER "/p2p-circuit", "dnsaddr=/ip4/1.2.3/tcp/1/p2p/" OTHER,
        "DNSADDR=/ip4/10.0.0.1/tcp/1/p2p/" OTHER, "dnsaddr=/ip4/10.0.0.1/tcp/5/p2p/" OTHER,
        "dnsaddr=/ip4/10.0.0.1/tcp/6/p2p/" SELF,    /* of another peer than the first */
        NULL};
    struct crafted c;
    struct seen seen;
    craft(&c, true);
    put_ptr(&c, 1, "_p2p._udp.local", "abc._p2p._udp.local");
    put_txt(&c, 3, "abc._p2p._udp.local", texts);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    struct wr_maddr good = ma("/ip4/10.0.0.1/tcp/5");
    assert_true(seen.count == 1 && seen.last.count == 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&seen.last.addrs[0]), wr_maddr_bytes(&good)));
    wr_buf_clear(&c.b);
}

static void test_lists_are_capped(void **state)
{
    (void)state;
    char text[32][80], name[80];
    const char *texts[33] = {0};
    struct crafted c;
    struct seen seen;
    for (int i = 0; i < 32; i++) {
        snprintf(text[i], sizeof(text[i]), "dnsaddr=/ip4/10.0.0.1/tcp/%d/p2p/" OTHER, i + 1);
        texts[i] = text[i];
    }
    craft(&c, true);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "i%d._p2p._udp.local", i);
        put_ptr(&c, 1, "_p2p._udp.local", name);
    }
    put_txt(&c, 3, "i0._p2p._udp.local", texts);
    put_txt(&c, 3, "i19._p2p._udp.local", texts);
    assert_int_equal(read_packet(&c.b, NULL, &seen), 0);
    assert_int_equal(seen.count, 1);    /* the twentieth is not looked at */
    assert_int_equal(seen.last.count, WR_MDNS_ADDRS_MAX);
    wr_buf_clear(&c.b);
    /* Endless records end, too. */
    struct wr_dns_reader r;
    struct wr_dns_item item;
    static uint8_t zeros[9000] = {0, 0, 0x80, 0, 0, 0, 0xff, 0xff};
    assert_int_equal(wr_dns_open(&r, WR_BYTES(zeros, sizeof(zeros))), 0);
    unsigned items = 0;
    while (wr_dns_next(&r, &item) == 1)
        items++;
    assert_int_equal(items, WR_DNS_ITEMS_MAX);
}

/* ---- compression pointers */

static int read_one(const uint8_t *bytes, size_t len, struct wr_dns_name *name)
{
    uint8_t *copy = wr_alloc(len);
    struct wr_dns_reader r;
    struct wr_dns_item item;
    memcpy(copy, bytes, len);
    int rc = wr_dns_open(&r, WR_BYTES(copy, len));
    if (rc == 0)
        rc = wr_dns_next(&r, &item);
    if (rc == 1)
        *name = item.name;
    wr_free(copy);
    return rc;
}

#define HEAD(questions) 0, 0, 0, 0, 0, (questions), 0, 0, 0, 0, 0, 0

static void test_pointers(void **state)
{
    (void)state;
    struct wr_dns_name n, expect = dn("ab.c.local");
    /* RFC 1035 4.1.4: a name may end in a pointer to an earlier one. */
    static const uint8_t good[] = {HEAD(2), 1, 'c', 5, 'l', 'o', 'c', 'a', 'l', 0, 0, 12, 0, 1,
                                   2, 'a', 'b', 0xc0, 12, 0, 12, 0, 1};
    struct wr_dns_reader r;
    struct wr_dns_item item;
    assert_int_equal(wr_dns_open(&r, WR_BYTES(good, sizeof(good))), 0);
    assert_int_equal(wr_dns_next(&r, &item), 1);
    assert_int_equal(wr_dns_next(&r, &item), 1);
    assert_true(wr_dns_name_equal(&item.name, &expect));
    assert_int_equal(item.type, 12);
    assert_int_equal(wr_dns_next(&r, &item), 0);
    /* To itself, forwards, in a circle of two, into the header's middle of nowhere, cut off. */
    static const uint8_t itself[] = {HEAD(1), 0xc0, 12, 0, 12, 0, 1};
    static const uint8_t forwards[] = {HEAD(1), 0xc0, 14, 1, 'a', 0, 0, 12, 0, 1};
    static const uint8_t circle[] = {HEAD(1), 1, 'a', 0xc0, 12, 0, 12, 0, 1};
    static const uint8_t outside[] = {HEAD(1), 0xff, 0xff, 0, 12, 0, 1};
    static const uint8_t cut[] = {HEAD(1), 0xc0};
    static const uint8_t reserved[] = {HEAD(1), 0x80, 1, 'a', 0, 0, 12, 0, 1};
    static const uint8_t no_end[] = {HEAD(1), 3, 'a', 'b', 'c'};
    static const uint8_t no_type[] = {HEAD(1), 1, 'a', 0, 0, 12, 0};
    assert_int_equal(read_one(itself, sizeof(itself), &n), WR_EPROTO);
    assert_int_equal(read_one(forwards, sizeof(forwards), &n), WR_EPROTO);
    assert_int_equal(read_one(circle, sizeof(circle), &n), WR_EPROTO);
    assert_int_equal(read_one(outside, sizeof(outside), &n), WR_EPROTO);
    assert_int_equal(read_one(cut, sizeof(cut), &n), WR_EPROTO);
    assert_int_equal(read_one(reserved, sizeof(reserved), &n), WR_EPROTO);
    assert_int_equal(read_one(no_end, sizeof(no_end), &n), WR_EPROTO);
    assert_int_equal(read_one(no_type, sizeof(no_type), &n), WR_EPROTO);
    /* Names of 255 bytes are read, longer ones are not. */
    uint8_t big[12 + 300 + 4] = {HEAD(1)};
    size_t at = 12;
    for (int i = 0; i < 3; i++, at += 64)
        big[at] = 63;
    big[at] = 61;
    assert_int_equal(read_one(big, at + 62 + 1 + 4, &n), 1);
    assert_int_equal(n.len, 255);
    big[at] = 62;
    assert_int_equal(read_one(big, at + 63 + 1 + 4, &n), WR_EPROTO);
}

static void test_other_kinds_of_messages_are_refused(void **state)
{
    (void)state;
    struct wr_dns_reader r;
    static const uint8_t opcode[] = {0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t rcode[] = {0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(wr_dns_open(&r, WR_BYTES(opcode, 12)), WR_EPROTO);
    assert_int_equal(wr_dns_open(&r, WR_BYTES(rcode, 12)), WR_EPROTO);
    assert_int_equal(wr_dns_open(&r, WR_BYTES(rcode, 11)), WR_EPROTO);
    assert_int_equal(wr_dns_open(&r, WR_BYTES_NONE), WR_EPROTO);
}

static void test_damage(void **state)
{
    (void)state;
    struct seen seen;
    struct wr_maddr addrs[] = {ma("/ip4/192.168.1.20/tcp/4001"), ma("/ip6/fe80::1/tcp/4001")};
    struct wr_buf b = answer(addrs, 2, false);
    unsigned refused = 0, lost = 0;
    for (size_t i = 0; i < b.len * 8; i++) {
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        refused += read_packet(&b, NULL, &seen) < 0;
        lost += seen.count == 0;
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(refused > 50 && lost > refused);
    size_t whole = b.len;
    for (b.len = 0; b.len < whole; b.len++)
        assert_true(read_packet(&b, NULL, &seen) < 0);
    assert_int_equal(read_packet(&b, NULL, &seen), 0);
    wr_buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_go_rust_and_js_accept_it),
        cmocka_unit_test(test_names_follow_the_spec),
        cmocka_unit_test(test_answers_stay_below_the_mtu),
        cmocka_unit_test(test_we_read_what_we_write),
        cmocka_unit_test(test_the_shapes_that_others_send),
        cmocka_unit_test(test_odd_strings_are_skipped),
        cmocka_unit_test(test_lists_are_capped),
        cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_other_kinds_of_messages_are_refused),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
