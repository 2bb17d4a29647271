/* Multiaddrs: bytes and text of every component, bounds, damage, meaning, building. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/maddr.h"
#include "unit/hex.h"
#include "unit/key_vectors.h"

#include <stdio.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define PEER         "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
#define RELAY        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
#define ONION        "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"
#define CERTHASH     "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g"

static struct wr_maddr maddr_of(const char *text)
{
    struct wr_maddr ma;
    if (wr_maddr_parse(text, &ma) != 0)
        print_error("%s\n", text);
    assert_int_equal(wr_maddr_parse(text, &ma), 0);
    return ma;
}

static struct wr_bytes bytes_of(const char *text)
{
    static struct wr_maddr ma[4];
    static int turn;
    struct wr_maddr *m = &ma[turn++ % 4];
    *m = maddr_of(text);
    return wr_maddr_bytes(m);
}

static void test_bytes_vectors(void **state)
{
    (void)state;
    /* Computed with independent implementations; the lower half is in go-multiaddr's tests as well.
     */
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/4001", "0401020304060fa1"},
        {"/ip4/1.2.3.4/udp/4001/quic-v1", "040102030491020fa1cd03"},
        {"/ip6/2001:db8::1/udp/443/quic-v1", "2920010db8000000000000000000000001910201bbcd03"},
        {"/dns4/example.com/tcp/443/tls/ws", "360b6578616d706c652e636f6d0601bbc003dd03"},
        {"/dnsaddr/bootstrap.libp2p.io", "3813626f6f7473747261702e6c69627032702e696f"},
        {"/p2p/QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG",
         "a503221220b6c8a8c0a3105fc27afca4fb1173791f038e4343fd56b7c67b616dbc30a04ccd"},
        {"/p2p-circuit", "a202"},
        {"/ip4/127.0.0.1/udp/1234", "047f000001910204d2"},
        {"/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"},
        {"/ip6zone/x/ip6/fe80::1", "2a017829fe800000000000000000000000000001"},
        {"/onion3/" ONION ":1234",
         "bd03adadec040be047f9658668b11a504f3155001f231a37f54c4476c07fb4cc139ed7e30304d2"},
        {"/unix/a/b/c/d/e", "90030a2f612f622f632f642f65"},
        {"/http-path/tmp%2Fbar", "e10307746d702f626172"},
        {"/memory/18446744073709551615", "8906ffffffffffffffff"},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_maddr ma = maddr_of(vectors[i].text), decoded;
        char text[WR_MADDR_TEXT];
        struct wr_bytes expected = HEX(vectors[i].hex);
        assert_true(wr_bytes_equal(wr_maddr_bytes(&ma), expected));
        assert_int_equal(wr_maddr_decode(expected, &decoded), 0);
        assert_string_equal(wr_maddr_print(wr_maddr_bytes(&decoded), text, sizeof(text)),
                            vectors[i].text);
    }
}

/* The number of every name: transport sheet, section 2, which has them from the multicodec table and from go-multiaddr,
 * rust-multiaddr and js-multiaddr. */
static void test_codes(void **state)
{
    (void)state;
    static const struct {
        uint32_t code;
        const char *text;
    } vectors[] = {
        {4, "/ip4/1.2.3.4"},
        {6, "/tcp/1"},
        {33, "/dccp/1"},
        {41, "/ip6/::1"},
        {42, "/ip6zone/x"},
        {43, "/ipcidr/8"},
        {53, "/dns/a"},
        {54, "/dns4/a"},
        {55, "/dns6/a"},
        {56, "/dnsaddr/a"},
        {132, "/sctp/1"},
        {273, "/udp/1"},
        {275, "/p2p-webrtc-star"},
        {276, "/p2p-webrtc-direct"},
        {280, "/webrtc-direct"},
        {281, "/webrtc"},
        {290, "/p2p-circuit"},
        {301, "/udt"},
        {302, "/utp"},
        {400, "/unix/a"},
        {421, "/p2p/" PEER},
        {421, "/ipfs/" PEER},
        {443, "/https"},
        {445, "/onion3/" ONION ":1"},
        {448, "/tls"},
        {449, "/sni/a"},
        {454, "/noise"},
        {460, "/quic"},
        {461, "/quic-v1"},
        {465, "/webtransport"},
        {466, "/certhash/" CERTHASH},
        {477, "/ws"},
        {478, "/wss"},
        {479, "/p2p-websocket-star"},
        {480, "/http"},
        {481, "/http-path/a"},
        {777, "/memory/1"},
        {4770, "/x-parity-ws/a"},
        {4780, "/x-parity-wss/a"},
        {7367777, "/plaintextv2"},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_bytes rest = bytes_of(vectors[i].text);
        struct wr_maddr_part part;
        assert_true(wr_maddr_next(&rest, &part));
        if (part.code != vectors[i].code)
            print_error("%s\n", vectors[i].text);
        assert_int_equal(part.code, vectors[i].code);
        assert_int_equal(rest.len, 0);
    }
}

static void test_every_component_both_ways(void **state)
{
    (void)state;
    static const char *const good[] = {
        "/ip4/0.0.0.0",
        "/ip4/255.255.255.255/tcp/0",
        "/ip4/1.2.3.4/udp/65535",
        "/ip6/::",
        "/ip6/::1/tcp/1",
        "/ip6/::ffff:1.2.3.4/tcp/1",
        "/ip6/2601:9:4f81:9700:803e:ca65:66e8:c21",
        "/ip6zone/eth0.12/ip6/fe80::1/tcp/9",
        "/ip6zone/3/ip6/fe80::1/udp/9/quic-v1",
        "/ip4/10.0.0.0/ipcidr/8",
        "/ip6/2001:db8::/ipcidr/128",
        "/dns/example.com/tcp/1",
        "/dns4/xn--fiqs8s.example/udp/1/quic-v1",
        "/dns6/a/tcp/1",
        "/dnsaddr/a.b.c/p2p/" PEER,
        "/ip4/1.2.3.4/sctp/7",
        "/ip4/1.2.3.4/dccp/7",
        "/ip4/1.2.3.4/udp/1/udt",
        "/ip4/1.2.3.4/udp/1/utp",
        "/ip4/1.2.3.4/udp/1/webrtc-direct/certhash/" CERTHASH,
        "/ip4/1.2.3.4/udp/1/quic-v1/webtransport/certhash/" CERTHASH "/certhash/" CERTHASH,
        "/ip4/1.2.3.4/tcp/1/p2p/" RELAY "/p2p-circuit/webrtc/p2p/" PEER,
        "/ip4/1.2.3.4/tcp/1/p2p/" RELAY "/p2p-circuit/p2p/" PEER,
        "/unix/var/run/x.sock",
        "/unix/a b",
        "/ip4/1.2.3.4/tcp/443/https",
        "/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws",
        "/ip4/1.2.3.4/tcp/443/tls/http",
        "/ip4/1.2.3.4/tcp/443/wss",
        "/ip4/1.2.3.4/tcp/1/noise",
        "/ip4/1.2.3.4/tcp/1/plaintextv2",
        "/ip4/1.2.3.4/udp/1/quic",
        "/ip4/1.2.3.4/tcp/80/http/http-path/a%20b%2Fc%3Fd%25%2B",
        "/memory/0",
        "/memory/1234",
        "/onion3/" ONION ":1",
        "/dns4/a/tcp/1/ws/p2p-webrtc-star",
        "/p2p-webrtc-direct",
        "/p2p-websocket-star",
        "/ip4/1.2.3.4/tcp/1/x-parity-ws/%2F",
        "/ip4/1.2.3.4/tcp/1/x-parity-wss/path",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        struct wr_maddr ma = maddr_of(good[i]), decoded;
        char text[WR_MADDR_TEXT];
        assert_int_equal(wr_maddr_decode(wr_maddr_bytes(&ma), &decoded), 0);
        assert_memory_equal(&ma, &decoded, sizeof(ma));
        assert_string_equal(wr_maddr_print(wr_maddr_bytes(&ma), text, sizeof(text)), good[i]);
    }
}

static void test_other_spellings(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/80/", "/ip4/1.2.3.4/tcp/80"},
        {"/ip4/1.2.3.4/tcp/80///", "/ip4/1.2.3.4/tcp/80"},
        {"/ip4/1.2.3.4/tcp/0080", "/ip4/1.2.3.4/tcp/80"},
        {"/ipfs/" PEER, "/p2p/" PEER},
        {"/p2p/k51qzi5uqu5dgy8qsq67hbz73jqkw87l3fgf4a91qb0d9b5173tir7n4vxk1oe", "/p2p/" PEER},
        {"/p2p/bafzaajaiaejcahwr5d5ofrfbis4l5d6uwr57hu5tjodrypfm6yaq6dsc2r2pzyt6", "/p2p/" PEER},
        {"/ip6/2001:0DB8:0::0001", "/ip6/2001:db8::1"},
        {"/ip6/::ffff:102:304", "/ip6/::ffff:1.2.3.4"},
        {"/http-path/a+b%2fc", "/http-path/a%20b%2Fc"},
        {"/unix/a/b/", "/unix/a/b"},
        {"/certhash/f1203aabbcc", "/certhash/uEgOqu8w"},
        {"/certhash/bciqmhk4p6e3sb2fnsbd52okgnm6is5hfslbpuob5ji4wa4kmv3ymj4q",
         "/certhash/" CERTHASH},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        char text[WR_MADDR_TEXT];
        assert_string_equal(wr_maddr_print(bytes_of(vectors[i].in), text, sizeof(text)),
                            vectors[i].out);
    }
}

static void test_bad_text(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "/",
        "//",
        "ip4/1.2.3.4",
        "/ip4",
        "/ip4/",
        "/ip4/1.2.3",
        "/ip4/::1",
        "/ip6/1.2.3.4",
        "/ip4/1.2.3.4/tcp",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/1.2.3.4/tcp/-1",
        "/ip4/1.2.3.4/tcp/+1",
        "/ip4/1.2.3.4/tcp/1 ",
        "/ip4/1.2.3.4/tcp/0x50",
        "/ip4/1.2.3.4//tcp/1",
        "//ip4/1.2.3.4",
        "/ip4/1.2.3.4/udp/a",
        "/ip4/1.2.3.4/nothing/1",
        "/tcp/99999999999999999999999",
        "/ip6/fe80::1%25en0",
        "/ipcidr/256",
        "/ip6zone//ip6/::1",
        "/ip6zone/a b",
        "/p2p/x",
        "/p2p/Qm",
        "/p2p/",
        "/p2p/bafkreidon73zkcrwdb5iafqtijxildoonbwnpv7dyd6ef3qdgads2jc4su",
        "/dns/",
        "/dns/a b",
        "/dns/\xc3\xa9",
        "/dns4/a\nb",
        "/unix",
        "/unix/",
        "/unix/a\nb",
        "/certhash/x",
        "/certhash/",
        "/certhash/uEiDDq4",
        "/onion3/" ONION,
        "/onion3/" ONION ":0",
        "/onion3/" ONION ":65536",
        "/onion3/" ONION ":",
        "/onion3/aaa:1",
        "/memory/",
        "/memory/18446744073709551616",
        "/memory/-1",
        "/http-path/%",
        "/http-path/%2",
        "/http-path/%zz",
        "/http-path/",
        "/quic-v1/x",
        "/p2p-circuit/x",
        "/IP4/1.2.3.4",
        "/ip4/1.2.3.4/TCP/1",
    };
    struct wr_maddr ma;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (wr_maddr_parse(bad[i], &ma) != WR_EINVAL)
            print_error("%s\n", bad[i]);
        assert_int_equal(wr_maddr_parse(bad[i], &ma), WR_EINVAL);
    }
}

static void test_bad_bytes(void **state)
{
    (void)state;
    static const struct wr_bytes bad[] = {
        {NULL, 0},
        WR_BYTES_STR("\x04\x01\x02\x03"),         /* ip4 cut */
        WR_BYTES_STR("\x05\x01"),                 /* unknown code */
        WR_BYTES_STR("\x04\x01\x02\x03\x04\x05"), /* unknown behind a known one */
        WR_BYTES_STR("\x84\x00\x01\x02\x03\x04"), /* code not minimal */
        WR_BYTES_STR("\x84\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01\x02\x03\x04"),
        WR_BYTES_STR("\x35\x00"),                   /* empty name */
        WR_BYTES_STR("\x35\x02x"),                  /* name cut */
        WR_BYTES_STR("\x35\x03x/y"),                /* separator in a name */
        WR_BYTES_STR("\x35\x01\x00"),               /* NUL in a name */
        WR_BYTES_STR("\x35\x02\x1b["),              /* terminal escape in a name */
        WR_BYTES_STR("\x2a\x00"),                   /* empty zone */
        WR_BYTES_STR("\xa5\x03\x02\x00\x00"),       /* peer id of nothing */
        WR_BYTES_STR("\xa5\x03\x03\x13\x01x"),      /* peer id of another hash */
        WR_BYTES_STR("\xd2\x03\x02\x12\x20"),       /* certhash cut */
        WR_BYTES_STR("\x90\x03\x02/a\x06\x00\x01"), /* something behind a path */
        WR_BYTES_STR("\x90\x03\x02"
                     "a/"),                 /* slash at the end of a path */
        WR_BYTES_STR("\x90\x03\x03/\x00x"), /* NUL in a path */
    };
    struct wr_maddr ma;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (wr_maddr_decode(bad[i], &ma) != WR_EPROTO)
            print_error("row %zu\n", i);
        assert_int_equal(wr_maddr_decode(bad[i], &ma), WR_EPROTO);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    struct wr_maddr ma;
    char text[WR_MADDR_TEXT];
    uint8_t in[WR_MADDR_MAX + 1] = {0x35, 0xfd, 0x01}; /* dns, 253 characters */
    memset(in + 3, 'x', sizeof(in) - 3);
    assert_int_equal(wr_maddr_decode(WR_BYTES(in, 256), &ma), WR_EPROTO);
    in[1] = 0xfc;
    assert_int_equal(wr_maddr_decode(WR_BYTES(in, 255), &ma), 0);
    assert_int_equal(ma.len, 255);
    /* One component more than allowed. */
    for (size_t i = 0; i < WR_MADDR_PARTS_MAX + 1; i++)
        memcpy(in + 2 * i, "\xdf\x03", 2); /* the longest name */
    assert_int_equal(wr_maddr_decode(WR_BYTES(in, 2 * WR_MADDR_PARTS_MAX), &ma), 0);
    assert_int_equal(wr_maddr_decode(WR_BYTES(in, 2 * WR_MADDR_PARTS_MAX + 2), &ma), WR_EPROTO);
    /* The longest text there is. */
    size_t used = 2 * (WR_MADDR_PARTS_MAX - 1), rest = WR_MADDR_MAX - used - 4;
    memcpy(in + used, "\xe1\x03", 2);
    in[used + 2] = (uint8_t)(rest | 0x80);
    in[used + 3] = (uint8_t)(rest >> 7);
    memset(in + used + 4, 0xff, rest);
    assert_int_equal(wr_maddr_decode(WR_BYTES(in, WR_MADDR_MAX), &ma), 0);
    wr_maddr_print(wr_maddr_bytes(&ma), text, sizeof(text));
    assert_true(strlen(text) < WR_MADDR_TEXT - 1);
    struct wr_maddr again = maddr_of(text);
    assert_memory_equal(&again, &ma, sizeof(ma));
    /* Text beyond any address. */
    char endless[4 * WR_MADDR_TEXT];
    memset(endless, '/', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = 0;
    assert_int_equal(wr_maddr_parse(endless, &ma), WR_EINVAL);
    memcpy(endless, "/dns/", 5);
    memset(endless + 5, 'a', sizeof(endless) - 6);
    assert_int_equal(wr_maddr_parse(endless, &ma), WR_EINVAL);
    endless[5 + 250] = 0;
    assert_int_equal(wr_maddr_parse(endless, &ma), 0);
    memcpy(endless, "/dns/", 5);
    endless[5 + 250] = 'a';
    endless[5 + 253] = 0;
    assert_int_equal(wr_maddr_parse(endless, &ma), WR_EINVAL); /* fits DNS, not WR_MADDR_MAX */
}

static void test_print_cuts(void **state)
{
    (void)state;
    struct wr_bytes ma = bytes_of("/ip4/1.2.3.4/tcp/80");
    char whole[] = "/ip4/1.2.3.4/tcp/80", out[32];
    for (size_t size = 1; size <= sizeof(whole); size++) {
        memset(out, '!', sizeof(out));
        wr_maddr_print(ma, out, size);
        assert_int_equal(strlen(out), size - 1);
        assert_memory_equal(out, whole, size - 1);
        assert_int_equal(out[size], '!');
    }
    memset(out, '!', sizeof(out));
    assert_ptr_equal(wr_maddr_print(ma, out, 0), out);
    assert_int_equal(out[0], '!');
    assert_string_equal(wr_maddr_print(WR_BYTES_NONE, out, sizeof(out)), "");
}

/* Every one-bit change, truncation and extension: refused, or what it now says prints and parses.
 */
static void test_damage(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "/ip4/1.2.3.4/tcp/4001/p2p/" PEER,
        "/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1/p2p/" RELAY "/p2p-circuit/p2p/" PEER,
        "/dns4/example.com/tcp/443/tls/sni/example.com/ws",
        "/ip4/1.2.3.4/udp/1/quic-v1/webtransport/certhash/" CERTHASH,
        "/onion3/" ONION ":80",
        "/unix/var/run/x.sock",
        "/memory/5/http-path/a%20b",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct wr_maddr ma = maddr_of(texts[i]), out, again;
        char text[WR_MADDR_TEXT];
        for (size_t bit = 0; bit < 8u * ma.len; bit++) {
            ma.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (wr_maddr_decode(wr_maddr_bytes(&ma), &out) == 0) {
                wr_maddr_print(wr_maddr_bytes(&out), text, sizeof(text));
                assert_int_equal(wr_maddr_parse(text, &again), 0);
                if (!strstr(text, "/unix/"))
                    assert_memory_equal(&again, &out, sizeof(out));
            }
            ma.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < ma.len; cut++)
            if (wr_maddr_decode(WR_BYTES(ma.bytes, cut), &out) == 0) {
                wr_maddr_print(wr_maddr_bytes(&out), text, sizeof(text));
                assert_memory_equal(text, texts[i], strlen(text));
            }
    }
}

static void test_next(void **state)
{
    (void)state;
    struct wr_bytes rest = bytes_of("/ip4/1.2.3.4/tcp/258/p2p/" PEER "/p2p-circuit");
    static const uint32_t codes[] = {WR_MA_IP4, WR_MA_TCP, WR_MA_P2P, WR_MA_CIRCUIT};
    struct wr_maddr_part part;
    for (size_t i = 0; i < COUNT(codes); i++) {
        assert_true(wr_maddr_next(&rest, &part));
        assert_int_equal(part.code, codes[i]);
        if (part.code == WR_MA_TCP)
            assert_true(wr_bytes_equal(part.value, WR_BYTES_STR("\x01\x02")));
        if (part.code == WR_MA_P2P)
            assert_int_equal(part.value.len, 38);
    }
    assert_false(wr_maddr_next(&rest, &part));
    assert_false(wr_maddr_next(&rest, &part));
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum wr_maddr_kind kind;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/1", WR_MADDR_TCP},
        {"/ip4/1.2.3.4/tcp/1/p2p/" PEER, WR_MADDR_TCP},
        {"/ip6zone/eth0/ip6/fe80::1/tcp/1", WR_MADDR_TCP},
        {"/ip6/::1/udp/1/quic-v1", WR_MADDR_QUIC},
        {"/ip6zone/1/ip6/fe80::1/udp/1/quic-v1/p2p/" PEER, WR_MADDR_QUIC},
        {"/ip4/1.2.3.4/tcp/1/p2p/" RELAY "/p2p-circuit", WR_MADDR_CIRCUIT},
        {"/dns4/a/tcp/1/p2p/" RELAY "/p2p-circuit/p2p/" PEER, WR_MADDR_CIRCUIT},
        {"/p2p-circuit", WR_MADDR_CIRCUIT},
        {"/dns/a/tcp/1", WR_MADDR_DNS},
        {"/dns4/a/udp/1/quic-v1", WR_MADDR_DNS},
        {"/dns6/a", WR_MADDR_DNS},
        {"/dnsaddr/a", WR_MADDR_DNSADDR},
        {"/ip4/1.2.3.4", WR_MADDR_OTHER},
        {"/ip6zone/eth0", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/udp/1", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/udp/1/quic", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/udp/1/tcp/1", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/tcp/1/ws", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/tcp/1/p2p/" PEER "/ws", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/tcp/1/tls/ws", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/udp/1/quic-v1/webtransport", WR_MADDR_OTHER},
        {"/ip4/1.2.3.4/udp/1/webrtc-direct", WR_MADDR_OTHER},
        {"/ip4/10.0.0.0/ipcidr/8", WR_MADDR_OTHER},
        {"/p2p/" PEER, WR_MADDR_OTHER},
        {"/unix/a", WR_MADDR_OTHER},
        {"/tcp/1", WR_MADDR_OTHER},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_bytes ma = bytes_of(vectors[i].text);
        if (wr_maddr_kind(ma) != vectors[i].kind)
            print_error("%s\n", vectors[i].text);
        assert_int_equal(wr_maddr_kind(ma), vectors[i].kind);
        assert_int_equal(wr_maddr_is_circuit(ma), vectors[i].kind == WR_MADDR_CIRCUIT);
    }
    assert_int_equal(wr_maddr_kind(WR_BYTES_NONE), WR_MADDR_OTHER);
}

static void test_relay(void **state)
{
    (void)state;
    static const struct {
        const char *text, *relay, *addr;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit", RELAY, "/ip4/1.2.3.4/tcp/80"},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit/p2p/" PEER, RELAY, "/ip4/1.2.3.4/tcp/80"},
        {"/dns4/example.com/udp/1/quic-v1/p2p/" RELAY "/p2p-circuit", RELAY, "/dns4/example.com/udp/1/quic-v1"},
        {"/p2p/" RELAY "/p2p-circuit/p2p/" PEER, RELAY, NULL},
        {"/p2p-circuit/p2p/" PEER, NULL, NULL},
        {"/ip4/1.2.3.4/tcp/80/p2p-circuit", NULL, NULL},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY, NULL, NULL},
        /* circuits over circuits, and through them to an address: nothing that is dialled */
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit/p2p/" PEER "/p2p-circuit", NULL, NULL},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit/ip4/1.2.3.4/tcp/80", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        struct wr_maddr m, addr = {.len = 0};
        struct wr_peerid relay, want;
        assert_int_equal(wr_maddr_parse(vectors[i].text, &m), 0);
        assert_int_equal(wr_maddr_relay(wr_maddr_bytes(&m), &relay), vectors[i].relay != NULL);
        if (!vectors[i].relay)
            continue;
        assert_int_equal(wr_peerid_parse(vectors[i].relay, &want), 0);
        assert_true(wr_peerid_equal(&relay, &want));
        if (vectors[i].addr)
            assert_int_equal(wr_maddr_parse(vectors[i].addr, &addr), 0);
        assert_true(wr_bytes_equal(wr_maddr_relay_addr(wr_maddr_bytes(&m)), wr_maddr_bytes(&addr)));
    }
}

static void test_addr(void **state)
{
    (void)state;
    static const struct {
        const char *text, *addr;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/80", "1.2.3.4:80"},
        {"/ip4/1.2.3.4/udp/80/quic-v1/p2p/" PEER, "1.2.3.4:80"},
        {"/ip6/::1/udp/65535", "[::1]:65535"},
        {"/ip6zone/7/ip6/fe80::1/tcp/80", "[fe80::1%7]:80"},
        {"/ip6zone/eth0/ip6/fe80::1/tcp/80", "[fe80::1]:80"},
        {"/ip6zone/99999999999/ip6/fe80::1/tcp/80", "[fe80::1]:80"},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit", "1.2.3.4:80"},
        {"/ip4/1.2.3.4", NULL},
        {"/ip4/1.2.3.4/sctp/80", NULL},
        {"/ip4/1.2.3.4/p2p-circuit", NULL},
        {"/ip6zone/7", NULL},
        {"/ip6zone/7/ip4/1.2.3.4/tcp/80", NULL},
        {"/dns4/a/tcp/80", NULL},
        {"/tcp/80", NULL},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_addr addr;
        char text[WR_ADDR_TEXT];
        assert_int_equal(wr_maddr_addr(bytes_of(vectors[i].text), &addr), vectors[i].addr != NULL);
        if (!vectors[i].addr)
            continue;
        wr_addr_print(&addr, text);
        assert_string_equal(text, vectors[i].addr);
    }
    struct wr_addr addr;
    assert_false(wr_maddr_addr(WR_BYTES_NONE, &addr));
}

static void test_peer(void **state)
{
    (void)state;
    static const struct {
        const char *text, *peer, *stripped;
    } vectors[] = {
        {"/ip4/1.2.3.4/tcp/80", NULL, "/ip4/1.2.3.4/tcp/80"},
        {"/ip4/1.2.3.4/tcp/80/p2p/" PEER, PEER, "/ip4/1.2.3.4/tcp/80"},
        {"/p2p/" PEER, PEER, ""},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit", NULL,
         "/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit"},
        {"/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit/p2p/" PEER, PEER,
         "/ip4/1.2.3.4/tcp/80/p2p/" RELAY "/p2p-circuit"},
        {"/p2p/" RELAY "/p2p-circuit/webrtc/p2p/" PEER, PEER, "/p2p/" RELAY "/p2p-circuit/webrtc"},
        {"/p2p/" PEER "/ws", PEER, "/p2p/" PEER "/ws"},
    };
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct wr_peerid id;
        char text[WR_MADDR_TEXT];
        struct wr_bytes ma = bytes_of(vectors[i].text);
        assert_int_equal(wr_maddr_peer(ma, &id), vectors[i].peer != NULL);
        if (vectors[i].peer)
            assert_string_equal(wr_peerid_print(&id, text), vectors[i].peer);
        assert_string_equal(wr_maddr_print(wr_maddr_strip_peer(ma), text, sizeof(text)),
                            vectors[i].stripped);
    }
}

static void test_building(void **state)
{
    (void)state;
    struct wr_addr addr = {.ip = {.family = 4, .bytes = {1, 2, 3, 4}}, .port = 4001};
    struct wr_maddr ma;
    struct wr_peerid id;
    char text[WR_MADDR_TEXT];
    assert_int_equal(wr_peerid_parse(PEER, &id), 0);
    assert_int_equal(wr_maddr_from_addr(&addr, false, &ma), 0);
    assert_int_equal(wr_maddr_append_peer(&ma, &id), 0);
    assert_int_equal(wr_maddr_append(&ma, WR_BYTES_STR("\xa2\x02")), 0);
    assert_string_equal(wr_maddr_print(wr_maddr_bytes(&ma), text, sizeof(text)),
                        "/ip4/1.2.3.4/tcp/4001/p2p/" PEER "/p2p-circuit");
    struct wr_addr six = {
        .ip = {.family = 6, .bytes = {0xfe, 0x80, [15] = 1}}, .port = 1, .scope = 4294967295u};
    assert_int_equal(wr_maddr_from_addr(&six, true, &ma), 0);
    assert_string_equal(wr_maddr_print(wr_maddr_bytes(&ma), text, sizeof(text)),
                        "/ip6zone/4294967295/ip6/fe80::1/udp/1/quic-v1");
    struct wr_addr back;
    assert_true(wr_maddr_addr(wr_maddr_bytes(&ma), &back));
    assert_true(wr_addr_equal(&six, &back));
    int appended = 0;
    while (wr_maddr_append_peer(&ma, &id) == 0)
        appended++;
    assert_int_equal(appended, (WR_MADDR_MAX - 35) / 41);
    assert_int_equal(wr_maddr_append_peer(&ma, &id), WR_ELIMIT);
    assert_int_equal(ma.len, 35 + 41 * appended);
    ma = maddr_of("/ws");
    for (appended = 1; wr_maddr_append(&ma, WR_BYTES_STR("\xdd\x03")) == 0; appended++)
        continue;
    assert_int_equal(appended, WR_MADDR_PARTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_vectors),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_every_component_both_ways),
        cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_print_cuts),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_relay),
        cmocka_unit_test(test_addr),
        cmocka_unit_test(test_peer),
        cmocka_unit_test(test_building),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
