#include "transport/maddr.h"

#include "transport/base.h"
#include "transport/err.h"
#include "transport/multihash.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define DNS_NAME_MAX 253 /* characters; RFC 1035, 2.3.4 without the root */
#define ONION3_HOST  35  /* bytes: public key, checksum, version; Tor rend-spec-v3 */

/* How the value of a component looks. check judges bytes; parse appends the bytes of a text (judged
 * by check afterwards), print the text of checked bytes. */
struct form {
    bool (*check)(struct wr_bytes value);
    bool (*parse)(const char *text, struct wr_buf *out);
    void (*print)(struct wr_bytes value, struct wr_buf *out);
};

#define PREFIXED (-1) /* size of a value with its length in front */

struct protocol {
    uint32_t code;
    int size; /* bytes, or PREFIXED */
    const char *name;
    const struct form *form; /* NULL: no value */
    bool path;               /* takes the rest of the text and nothing follows */
};

/* ---- forms of values ------------------------------------------------------------------------- */

static bool check_any(struct wr_bytes value)
{
    (void)value;
    return true;
}

/* Decimal digits only, at most max. */
static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 20 || strspn(text, "0123456789") != len)
        return false;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return v <= max;
}

static uint64_t number_of(struct wr_bytes value)
{
    uint64_t v = 0;
    for (size_t i = 0; i < value.len; i++)
        v = v << 8 | value.ptr[i];
    return v;
}

static void print_number(struct wr_bytes value, struct wr_buf *out)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number_of(value));
    wr_buf_put_cstr(out, text);
}

static bool parse_u8(const char *text, struct wr_buf *out)
{
    uint64_t v;
    if (!parse_number(text, UINT8_MAX, &v))
        return false;
    wr_buf_put_u8(out, (uint8_t)v);
    return true;
}

static bool parse_u16(const char *text, struct wr_buf *out)
{
    uint64_t v;
    if (!parse_number(text, UINT16_MAX, &v))
        return false;
    wr_buf_put_u16be(out, (uint16_t)v);
    return true;
}

static bool parse_u64(const char *text, struct wr_buf *out)
{
    uint64_t v;
    if (!parse_number(text, UINT64_MAX, &v))
        return false;
    wr_buf_put_u64be(out, v);
    return true;
}

static bool parse_ip(const char *text, uint8_t family, struct wr_buf *out)
{
    struct wr_ip ip;
    if (wr_ip_parse(text, &ip) != 0 || ip.family != family)
        return false;
    wr_buf_put(out, ip.bytes, family == 4 ? 4 : 16);
    return true;
}

static bool parse_ip4(const char *text, struct wr_buf *out)
{
    return parse_ip(text, 4, out);
}

static bool parse_ip6(const char *text, struct wr_buf *out)
{
    return parse_ip(text, 6, out);
}

static void print_ip(struct wr_bytes value, struct wr_buf *out)
{
    struct wr_ip ip = {.family = value.len == 4 ? 4 : 6};
    char text[WR_ADDR_TEXT];
    memcpy(ip.bytes, value.ptr, value.len);
    wr_ip_print(&ip, text);
    wr_buf_put_cstr(out, text);
}

/* Names are looked up, logged and printed: visible ASCII without the separator. */
static bool check_name(struct wr_bytes value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= ' ' || value.ptr[i] > '~' || value.ptr[i] == '/')
            return false;
    return value.len <= DNS_NAME_MAX;
}

/* Without a slash at the end, which would be lost in text. */
static bool check_path(struct wr_bytes value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] < ' ' || value.ptr[i] == 0x7f)
            return false;
    return value.ptr[value.len - 1] != '/';
}

static bool parse_text(const char *text, struct wr_buf *out)
{
    wr_buf_put_cstr(out, text);
    return true;
}

static void print_text(struct wr_bytes value, struct wr_buf *out)
{
    wr_buf_put_bytes(out, value);
}

/* The text after "/unix" is the path, its first slash included. */
static bool parse_path(const char *text, struct wr_buf *out)
{
    wr_buf_put_u8(out, '/');
    wr_buf_put_cstr(out, text);
    return true;
}

static void print_path(struct wr_bytes value, struct wr_buf *out)
{
    if (value.len && value.ptr[0] == '/')
        wr_bytes_take(&value, 1);
    wr_buf_put_bytes(out, value);
}

static bool check_peer(struct wr_bytes value)
{
    struct wr_peerid id;
    return wr_peerid_decode(value, &id) == 0;
}

static bool parse_peer(const char *text, struct wr_buf *out)
{
    struct wr_peerid id;
    if (wr_peerid_parse(text, &id) != 0)
        return false;
    wr_buf_put_bytes(out, wr_peerid_bytes(&id));
    return true;
}

static void print_peer(struct wr_bytes value, struct wr_buf *out)
{
    wr_base_encode(WR_BASE58BTC, value, out);
}

static bool check_hash(struct wr_bytes value)
{
    return wr_multihash_check(value, NULL, NULL) == 0;
}

static bool parse_hash(const char *text, struct wr_buf *out)
{
    return wr_multibase_decode(wr_bytes_cstr(text), out) == 0;
}

static void print_hash(struct wr_bytes value, struct wr_buf *out)
{
    wr_buf_put_u8(out, 'u');
    wr_base_encode(WR_BASE64URL, value, out);
}

/* Percent-escaped; '+' is a space, since go-multiaddr writes it so and everybody escapes a real
 * one. */
static bool parse_escaped(const char *text, struct wr_buf *out)
{
    for (; *text; text++) {
        if (*text != '%') {
            wr_buf_put_u8(out, *text == '+' ? ' ' : (uint8_t)*text);
            continue;
        }
        if (strlen(text) < 3 || wr_base_decode(WR_BASE16, WR_BYTES(text + 1, 2), out) != 0)
            return false;
        text += 2;
    }
    return true;
}

static void print_escaped(struct wr_bytes value, struct wr_buf *out)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (memchr(plain, c, sizeof(plain) - 1)) {
            wr_buf_put_u8(out, c);
            continue;
        }
        wr_buf_put_u8(out, '%');
        wr_buf_put_u8(out, (uint8_t)digits[c >> 4]);
        wr_buf_put_u8(out, (uint8_t)digits[c & 15]);
    }
}

/* Onion services: base32 of the host, a colon, a port. */
static bool parse_onion(const char *text, struct wr_buf *out)
{
    const char *colon = strchr(text, ':');
    return colon && wr_base_decode(WR_BASE32, WR_BYTES(text, (size_t)(colon - text)), out) == 0 &&
           out->len == ONION3_HOST && parse_u16(colon + 1, out);
}

static bool check_onion(struct wr_bytes value)
{
    return value.ptr[ONION3_HOST] || value.ptr[ONION3_HOST + 1]; /* go: the port is not 0 */
}

static void print_onion(struct wr_bytes value, struct wr_buf *out)
{
    wr_base_encode(WR_BASE32, wr_bytes_take(&value, ONION3_HOST), out);
    wr_buf_put_u8(out, ':');
    print_number(value, out);
}

static const struct form IP4 = {check_any, parse_ip4, print_ip};
static const struct form IP6 = {check_any, parse_ip6, print_ip};
static const struct form U8 = {check_any, parse_u8, print_number};
static const struct form U16 = {check_any, parse_u16, print_number};
static const struct form U64 = {check_any, parse_u64, print_number};
static const struct form NAME = {check_name, parse_text, print_text};
static const struct form PATH = {check_path, parse_path, print_path};
static const struct form PEER = {check_peer, parse_peer, print_peer};
static const struct form HASH = {check_hash, parse_hash, print_hash};
static const struct form ESCAPED = {check_any, parse_escaped, print_escaped};
static const struct form ONION3 = {check_onion, parse_onion, print_onion};

/* Multicodec table, tag multiaddr; what is met most comes first. */
static const struct protocol PROTOCOLS[] = {
    {WR_MA_IP4, 4, "ip4", &IP4, false},
    {WR_MA_UDP, 2, "udp", &U16, false},
    {WR_MA_QUIC_V1, 0, "quic-v1", NULL, false},
    {WR_MA_TCP, 2, "tcp", &U16, false},
    {WR_MA_IP6, 16, "ip6", &IP6, false},
    {WR_MA_P2P, PREFIXED, "p2p", &PEER, false},
    {WR_MA_CIRCUIT, 0, "p2p-circuit", NULL, false},
    {465, 0, "webtransport", NULL, false},
    {466, PREFIXED, "certhash", &HASH, false},
    {280, 0, "webrtc-direct", NULL, false},
    {281, 0, "webrtc", NULL, false},
    {WR_MA_DNS, PREFIXED, "dns", &NAME, false},
    {WR_MA_DNS4, PREFIXED, "dns4", &NAME, false},
    {WR_MA_DNS6, PREFIXED, "dns6", &NAME, false},
    {WR_MA_DNSADDR, PREFIXED, "dnsaddr", &NAME, false},
    {WR_MA_TLS, 0, "tls", NULL, false},
    {449, PREFIXED, "sni", &NAME, false},
    {WR_MA_WS, 0, "ws", NULL, false},
    {WR_MA_WSS, 0, "wss", NULL, false},
    {WR_MA_IP6ZONE, PREFIXED, "ip6zone", &NAME, false},
    {43, 1, "ipcidr", &U8, false},
    {33, 2, "dccp", &U16, false},
    {132, 2, "sctp", &U16, false},
    {275, 0, "p2p-webrtc-star", NULL, false},
    {276, 0, "p2p-webrtc-direct", NULL, false},
    {301, 0, "udt", NULL, false},
    {302, 0, "utp", NULL, false},
    {400, PREFIXED, "unix", &PATH, true},
    {443, 0, "https", NULL, false},
    {445, ONION3_HOST + 2, "onion3", &ONION3, false},
    {454, 0, "noise", NULL, false},
    {460, 0, "quic", NULL, false},
    {479, 0, "p2p-websocket-star", NULL, false},
    {480, 0, "http", NULL, false},
    {481, PREFIXED, "http-path", &ESCAPED, false},
    {777, 8, "memory", &U64, false},
    {4770, PREFIXED, "x-parity-ws", &ESCAPED, false},
    {4780, PREFIXED, "x-parity-wss", &ESCAPED, false},
    {7367777, 0, "plaintextv2", NULL, false},
};

#define PROTOCOL_COUNT (sizeof(PROTOCOLS) / sizeof(PROTOCOLS[0]))

static const struct protocol *by_code(uint64_t code)
{
    for (size_t i = 0; i < PROTOCOL_COUNT; i++)
        if (PROTOCOLS[i].code == code)
            return &PROTOCOLS[i];
    return NULL;
}

static const struct protocol *by_name(struct wr_bytes name)
{
    if (wr_bytes_equal(name, WR_BYTES_STR("ipfs")))
        name = WR_BYTES_STR("p2p");
    for (size_t i = 0; i < PROTOCOL_COUNT; i++)
        if (wr_bytes_equal(name, wr_bytes_cstr(PROTOCOLS[i].name)))
            return &PROTOCOLS[i];
    return NULL;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Splits the next component off; NULL when it is malformed or of a kind that we do not know. */
static const struct protocol *take_part(struct wr_reader *r, struct wr_bytes *value)
{
    const struct protocol *p = by_code(wr_read_uvarint(r));
    if (r->bad || !p)
        return NULL;
    *value = p->size == PREFIXED ? wr_read_prefixed(r) : wr_read_bytes(r, (size_t)p->size);
    if (r->bad || (p->size == PREFIXED && value->len == 0))
        return NULL;
    return p;
}

static bool is_valid(struct wr_bytes in)
{
    struct wr_reader r;
    struct wr_bytes value;
    size_t parts = 0;
    if (in.len == 0 || in.len > WR_MADDR_MAX)
        return false;
    wr_reader_init(&r, in);
    while (r.rest.len) {
        const struct protocol *p = take_part(&r, &value);
        if (!p || (p->form && !p->form->check(value)) || (p->path && r.rest.len) ||
            ++parts > WR_MADDR_PARTS_MAX)
            return false;
    }
    return true;
}

static void set(struct wr_maddr *out, struct wr_bytes in)
{
    struct wr_maddr ma = {.len = (uint8_t)in.len};
    memcpy(ma.bytes, in.ptr, in.len);
    *out = ma;
}

int wr_maddr_decode(struct wr_bytes in, struct wr_maddr *out)
{
    if (!is_valid(in))
        return WR_EPROTO;
    set(out, in);
    return 0;
}

struct wr_bytes wr_maddr_bytes(const struct wr_maddr *ma)
{
    return WR_BYTES(ma->bytes, ma->len);
}

bool wr_maddr_next(struct wr_bytes *rest, struct wr_maddr_part *part)
{
    struct wr_reader r;
    wr_reader_init(&r, *rest);
    const struct protocol *p = rest->len ? take_part(&r, &part->value) : NULL;
    if (!p)
        return false;
    part->code = p->code;
    *rest = r.rest;
    return true;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Takes what stands before the next slash, and the slash. */
static struct wr_bytes take_word(struct wr_bytes *text)
{
    const uint8_t *slash = text->len ? memchr(text->ptr, '/', text->len) : NULL;
    struct wr_bytes word = wr_bytes_take(text, slash ? (size_t)(slash - text->ptr) : text->len);
    if (slash)
        wr_bytes_take(text, 1);
    return word;
}

static bool parse_value(const struct protocol *p, struct wr_bytes word, struct wr_buf *out)
{
    char text[WR_MADDR_TEXT];
    uint8_t memory[WR_MADDR_MAX];
    struct wr_buf value;
    wr_buf_over(&value, memory, sizeof(memory));
    if (word.len == 0 || word.len >= sizeof(text))
        return false;
    memcpy(text, word.ptr, word.len);
    text[word.len] = 0;
    if (!p->form->parse(text, &value) || value.full)
        return false;
    if (p->size == PREFIXED)
        wr_buf_put_prefixed(out, wr_buf_bytes(&value));
    else
        wr_buf_put_bytes(out, wr_buf_bytes(&value));
    return true;
}

int wr_maddr_parse(const char *text, struct wr_maddr *out)
{
    uint8_t memory[WR_MADDR_MAX];
    struct wr_buf bytes;
    struct wr_bytes rest = wr_bytes_cstr(text);
    wr_buf_over(&bytes, memory, sizeof(memory));
    if (rest.len >= WR_MADDR_TEXT || rest.len == 0 || rest.ptr[0] != '/')
        return WR_EINVAL;
    while (rest.len && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    if (rest.len)
        wr_bytes_take(&rest, 1);
    while (rest.len) {
        const struct protocol *p = by_name(take_word(&rest));
        if (!p)
            return WR_EINVAL;
        wr_buf_put_uvarint(&bytes, p->code);
        if (!p->form)
            continue;
        struct wr_bytes word = p->path ? wr_bytes_take(&rest, rest.len) : take_word(&rest);
        if (!parse_value(p, word, &bytes))
            return WR_EINVAL;
    }
    if (bytes.full || !is_valid(wr_buf_bytes(&bytes)))
        return WR_EINVAL;
    set(out, wr_buf_bytes(&bytes));
    return 0;
}

char *wr_maddr_print(struct wr_bytes ma, char *out, size_t size)
{
    char memory[WR_MADDR_TEXT];
    struct wr_buf text;
    struct wr_reader r;
    struct wr_bytes value;
    const struct protocol *p;
    wr_buf_over(&text, memory, sizeof(memory));
    wr_reader_init(&r, ma);
    while (r.rest.len && (p = take_part(&r, &value))) {
        wr_buf_put_u8(&text, '/');
        wr_buf_put_cstr(&text, p->name);
        if (p->form) {
            wr_buf_put_u8(&text, '/');
            p->form->print(value, &text);
        }
    }
    if (size) {
        size_t len = text.len < size ? text.len : size - 1;
        memcpy(out, memory, len);
        out[len] = 0;
    }
    return out;
}

/* ---- meaning --------------------------------------------------------------------------------- */

static bool is_dns(uint32_t code)
{
    return code == WR_MA_DNS || code == WR_MA_DNS4 || code == WR_MA_DNS6;
}

static bool is_ip(uint32_t code)
{
    return code == WR_MA_IP4 || code == WR_MA_IP6;
}

enum wr_maddr_kind wr_maddr_kind(struct wr_bytes ma)
{
    struct wr_maddr_part first, next;
    if (wr_maddr_is_circuit(ma))
        return WR_MADDR_CIRCUIT;
    if (!wr_maddr_next(&ma, &first))
        return WR_MADDR_OTHER;
    if (is_dns(first.code))
        return WR_MADDR_DNS;
    if (first.code == WR_MA_DNSADDR)
        return WR_MADDR_DNSADDR;
    if (first.code == WR_MA_IP6ZONE && !wr_maddr_next(&ma, &first))
        return WR_MADDR_OTHER;
    if (!is_ip(first.code) || !wr_maddr_next(&ma, &next))
        return WR_MADDR_OTHER;
    enum wr_maddr_kind kind = next.code == WR_MA_TCP ? WR_MADDR_TCP : WR_MADDR_QUIC;
    if (kind == WR_MADDR_QUIC &&
        (next.code != WR_MA_UDP || !wr_maddr_next(&ma, &next) || next.code != WR_MA_QUIC_V1))
        return WR_MADDR_OTHER;
    while (wr_maddr_next(&ma, &next))
        if (next.code != WR_MA_P2P)
            return WR_MADDR_OTHER;
    return kind;
}

bool wr_maddr_addr(struct wr_bytes ma, struct wr_addr *addr)
{
    struct wr_maddr_part part;
    struct wr_addr out = {.port = 0};
    if (!wr_maddr_next(&ma, &part))
        return false;
    if (part.code == WR_MA_IP6ZONE) {
        char zone[16];
        uint64_t scope;
        snprintf(zone, sizeof(zone), "%.*s", (int)part.value.len, (const char *)part.value.ptr);
        if (parse_number(zone, UINT32_MAX, &scope))
            out.scope = (uint32_t)scope;
        if (!wr_maddr_next(&ma, &part) || part.code != WR_MA_IP6)
            return false;
    }
    if (!is_ip(part.code))
        return false;
    out.ip.family = part.code == WR_MA_IP4 ? 4 : 6;
    memcpy(out.ip.bytes, part.value.ptr, part.value.len);
    if (!wr_maddr_next(&ma, &part) || (part.code != WR_MA_TCP && part.code != WR_MA_UDP))
        return false;
    out.port = (uint16_t)number_of(part.value);
    *addr = out;
    return true;
}

bool wr_maddr_peer(struct wr_bytes ma, struct wr_peerid *id)
{
    struct wr_maddr_part part;
    struct wr_bytes last = WR_BYTES_NONE;
    while (wr_maddr_next(&ma, &part)) {
        if (part.code == WR_MA_P2P)
            last = part.value;
        else if (part.code == WR_MA_CIRCUIT)
            last = WR_BYTES_NONE;
    }
    return last.len && wr_peerid_decode(last, id) == 0;
}

struct wr_bytes wr_maddr_strip_peer(struct wr_bytes ma)
{
    struct wr_maddr_part part;
    struct wr_bytes rest = ma;
    size_t before = 0;
    uint32_t last = 0;
    while (rest.len) {
        before = ma.len - rest.len;
        if (!wr_maddr_next(&rest, &part))
            return ma;
        last = part.code;
    }
    return last == WR_MA_P2P ? WR_BYTES(ma.ptr, before) : ma;
}

bool wr_maddr_is_circuit(struct wr_bytes ma)
{
    struct wr_maddr_part part;
    while (wr_maddr_next(&ma, &part))
        if (part.code == WR_MA_CIRCUIT)
            return true;
    return false;
}

bool wr_maddr_relay(struct wr_bytes ma, struct wr_peerid *relay)
{
    struct wr_maddr_part part = {.code = 0}, before;
    do {
        before = part;
        if (!wr_maddr_next(&ma, &part))
            return false;
    } while (part.code != WR_MA_CIRCUIT);
    if (before.code != WR_MA_P2P || wr_peerid_decode(before.value, relay) != 0)
        return false;
    return !wr_maddr_next(&ma, &part) || (part.code == WR_MA_P2P && ma.len == 0);
}

struct wr_bytes wr_maddr_relay_addr(struct wr_bytes ma)
{
    struct wr_bytes rest = ma;
    struct wr_maddr_part part;
    size_t before = 0;
    while (wr_maddr_next(&rest, &part) && part.code != WR_MA_P2P)
        before = ma.len - rest.len;
    return WR_BYTES(ma.ptr, before);
}

/* ---- building -------------------------------------------------------------------------------- */

static int finish(const struct wr_buf *bytes, struct wr_maddr *out)
{
    if (bytes->full || !is_valid(wr_buf_bytes(bytes)))
        return WR_ELIMIT;
    set(out, wr_buf_bytes(bytes));
    return 0;
}

int wr_maddr_from_addr(const struct wr_addr *addr, bool udp_quic, struct wr_maddr *out)
{
    uint8_t memory[WR_MADDR_MAX];
    struct wr_buf b;
    assert(addr->ip.family == 4 || addr->ip.family == 6);
    wr_buf_over(&b, memory, sizeof(memory));
    if (addr->ip.family == 6 && addr->scope) {
        char zone[16];
        snprintf(zone, sizeof(zone), "%u", addr->scope);
        wr_buf_put_uvarint(&b, WR_MA_IP6ZONE);
        wr_buf_put_prefixed(&b, wr_bytes_cstr(zone));
    }
    wr_buf_put_uvarint(&b, addr->ip.family == 4 ? WR_MA_IP4 : WR_MA_IP6);
    wr_buf_put(&b, addr->ip.bytes, addr->ip.family == 4 ? 4 : 16);
    wr_buf_put_uvarint(&b, udp_quic ? WR_MA_UDP : WR_MA_TCP);
    wr_buf_put_u16be(&b, addr->port);
    if (udp_quic)
        wr_buf_put_uvarint(&b, WR_MA_QUIC_V1);
    return finish(&b, out);
}

int wr_maddr_append(struct wr_maddr *ma, struct wr_bytes tail)
{
    uint8_t memory[WR_MADDR_MAX];
    struct wr_buf b;
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put(&b, ma->bytes, ma->len);
    wr_buf_put_bytes(&b, tail);
    return finish(&b, ma);
}

int wr_maddr_append_peer(struct wr_maddr *ma, const struct wr_peerid *id)
{
    uint8_t memory[WR_PEERID_MAX + 4];
    struct wr_buf b;
    wr_buf_over(&b, memory, sizeof(memory));
    wr_buf_put_uvarint(&b, WR_MA_P2P);
    wr_buf_put_prefixed(&b, wr_peerid_bytes(id));
    return wr_maddr_append(ma, wr_buf_bytes(&b));
}
