#include "node/config.h"

#include "node/nearest.h"
#include "transport/addr.h"
#include "transport/bytes.h"
#include "transport/err.h"
#include "transport/limits.h"
#include "transport/log.h"
#include "transport/maddr.h"
#include "transport/secure.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define NAME_MAX_LEN 64 /* bytes of a network name; ours: it becomes part of a protocol name */

enum kind {
    KIND_PATH,
    KIND_FILE, /* as PATH, but cannot be set in a file */
    KIND_SOCKET,
    KIND_NAME,
    KIND_LISTEN,
    KIND_BOOTSTRAP,
    KIND_SECURITY,
    KIND_DHT,
    KIND_RELAY,
    KIND_RATE,
    KIND_PERF,
    KIND_SWITCH,
    KIND_CIDR,
    KIND_LIMITS,
    KIND_SESSIONS,
    KIND_HTTP,
    KIND_LOG,
};

static const struct wr_config_info infos[WR_CONFIG_COUNT] = {
#define INFO(id, name, kind, list, live, value, arg, help)                                         \
    {name, arg, help, list, live, KIND_##kind == KIND_SWITCH},
    WR_CONFIG_MAP(INFO)
#undef INFO
};

static const enum kind kinds[WR_CONFIG_COUNT] = {
#define KIND(id, name, kind, list, live, value, arg, help) KIND_##kind,
    WR_CONFIG_MAP(KIND)
#undef KIND
};

static const char *const defaults[WR_CONFIG_COUNT] = {
#define DEFAULT(id, name, kind, list, live, value, arg, help) value,
    WR_CONFIG_MAP(DEFAULT)
#undef DEFAULT
};

static const char *const dht_names[] = {"auto", "server", "client", "off", NULL};
static const char *const relay_names[] = {"auto", "on", "off", NULL};
static const char *const perf_names[] = {"allowed", "all", NULL};

/* Where a value comes from, for provenance and for the start of an error sentence. */
struct origin {
    enum wr_config_from from;
    const char *path; /* of the file, or NULL */
    unsigned line;
};

const struct wr_config_info *wr_config_info(enum wr_config_key key)
{
    assert(key < WR_CONFIG_COUNT);
    return &infos[key];
}

const char *wr_config_from_name(enum wr_config_from from)
{
    static const char *const names[] = {"default", "file", "flag"};
    return names[from];
}

/* ---- errors */

static int fail(char err[static WR_CONFIG_ERROR], int code, const struct origin *at,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

static int fail(char err[static WR_CONFIG_ERROR], int code, const struct origin *at,
                const char *format, ...)
{
    size_t len = 0;
    err[0] = '\0';
    if (at && at->path && at->line)
        (void)snprintf(err, WR_CONFIG_ERROR / 2, "%s:%u: ", at->path, at->line);
    len = strlen(err);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err + len, WR_CONFIG_ERROR - len, format, args);
    va_end(args);
    return code;
}

/* Switches are also meant by "no-NAME". */
static bool names_key(const char *name, enum wr_config_key key, bool *inverted)
{
    *inverted = false;
    if (strcmp(name, infos[key].name) == 0)
        return true;
    *inverted =
        infos[key].toggle && strncmp(name, "no-", 3) == 0 && strcmp(name + 3, infos[key].name) == 0;
    return *inverted;
}

static bool find_key(const char *name, enum wr_config_key *key, bool *inverted)
{
    for (unsigned i = 0; i < WR_CONFIG_COUNT; i++) {
        *key = (enum wr_config_key)i;
        if (names_key(name, *key, inverted))
            return true;
    }
    return false;
}

/* What was meant by a name that is none of ours; false: nothing comes near. */
static bool nearest(const char *name, char out[static WR_NEAREST_MAX])
{
    size_t best = SIZE_MAX;
    const char *bare = strncmp(name, "no-", 3) == 0 ? name + 3 : name;
    for (unsigned i = 0; i < WR_CONFIG_COUNT; i++) {
        char spelt[2][WR_NEAREST_MAX];
        (void)snprintf(spelt[0], sizeof(spelt[0]), "%s", infos[i].name);
        (void)snprintf(spelt[1], sizeof(spelt[1]), "no-%s", infos[i].name);
        for (unsigned form = 0; form < (infos[i].toggle ? 2u : 1u); form++) {
            size_t edits = strcmp(bare, spelt[form]) == 0 ? 0 : wr_nearest_distance(name, spelt[form]);
            if (edits < best) {
                best = edits;
                memcpy(out, spelt[form], WR_NEAREST_MAX);
            }
        }
    }
    return wr_nearest_is_near(name, best);
}

/* kind: "flag --" or "key ". */
static int unknown(char err[static WR_CONFIG_ERROR], const struct origin *at, const char *kind, const char *name)
{
    char near[WR_NEAREST_MAX];
    const char *dashes = kind + strcspn(kind, "-");
    if (nearest(name, near))
        return fail(err, WR_EINVAL, at, "unknown %s%s; the nearest is %s%s", kind, name, dashes, near);
    return fail(err, WR_EINVAL, at, "unknown %s%s; `warren help run` lists all", kind, name);
}

/* ---- values */

static int index_of(const char *const *names, const char *value)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], value) == 0)
            return i;
    return -1;
}

/* 1 on, 0 off, -1 neither. */
static int parse_switch(const char *value)
{
    static const char *const on[] = {"yes", "true", "on", "1", NULL};
    static const char *const off[] = {"no", "false", "off", "0", NULL};
    if (index_of(on, value) >= 0)
        return 1;
    return index_of(off, value) >= 0 ? 0 : -1;
}

static bool valid_name(const char *value)
{
    size_t len = strlen(value);
    return len > 0 && len <= NAME_MAX_LEN &&
           strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               len;
}

static bool valid_listen(const char *value)
{
    struct wr_maddr ma;
    struct wr_addr addr;
    struct wr_peerid id;
    if (strcmp(value, "none") == 0)
        return true;
    if (wr_maddr_parse(value, &ma))
        return false;
    struct wr_bytes bytes = wr_maddr_bytes(&ma);
    enum wr_maddr_kind kind = wr_maddr_kind(bytes);
    return (kind == WR_MADDR_TCP || kind == WR_MADDR_QUIC) && wr_maddr_addr(bytes, &addr) &&
           !wr_maddr_peer(bytes, &id);
}

static bool valid_bootstrap(const char *value)
{
    struct wr_maddr ma;
    struct wr_peerid id;
    if (strcmp(value, "none") == 0)
        return true;
    return wr_maddr_parse(value, &ma) == 0 && wr_maddr_peer(wr_maddr_bytes(&ma), &id);
}

/* Words separated by commas, each once. */
static bool parse_security(const char *value, const struct wr_secure *out[static 3])
{
    size_t count = 0;
    memset(out, 0, 3 * sizeof(out[0]));
    for (;;) {
        size_t len = strcspn(value, ",");
        const struct wr_secure *one = wr_secure_by_word(WR_BYTES(value, len));
        if (!one || out[0] == one || count == WR_SECURE_COUNT)
            return false;
        out[count++] = one;
        if (value[len] == '\0')
            return true;
        value += len + 1;
    }
}

static bool parse_http(const char *value, struct wr_addr *out)
{
    char host[WR_ADDR_TEXT];
    const char *colon = strrchr(value, ':');
    if (!colon || colon == value || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) < 1 || strlen(colon + 1) > 5)
        return false;
    bool bracketed = value[0] == '[' && colon[-1] == ']';
    const char *start = value + bracketed;
    size_t len = (size_t)(colon - start) - bracketed;
    if (len == 0 || len >= sizeof(host) || strtoul(colon + 1, NULL, 10) > UINT16_MAX)
        return false;
    memcpy(host, start, len);
    host[len] = '\0';
    memset(out, 0, sizeof(*out));
    out->port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return wr_ip_parse(host, &out->ip) == 0 && bracketed == (out->ip.family == 6);
}

#define SESSIONS_MIN 16         /* fewer are not enough for a lookup; ours */
#define SESSIONS_MAX 1000000    /* no router has more; ours */

/* A number of sessions; 0 for "auto", -1: neither. */
static long parse_sessions(const char *value)
{
    char *end;
    if (strcmp(value, "auto") == 0)
        return 0;
    if (value[0] < '0' || value[0] > '9' || strlen(value) > 7)
        return -1;
    long n = strtol(value, &end, 10);
    return *end == '\0' && n >= SESSIONS_MIN && n <= SESSIONS_MAX ? n : -1;
}

uint64_t wr_config_sessions(const struct wr_config *c)
{
    return (uint64_t)parse_sessions(wr_config_get(c, WR_CONFIG_NAT_SESSIONS));
}

#define RATE_MIN ((uint64_t)16 << 10) /* a handshake and a few words within a second; ours */
#define RATE_MAX ((uint64_t)64 << 20) /* below WR_BUCKET_RATE_MAX, above which nothing is limited; ours */
#define RATE_LEN 9                    /* characters: far from an overflow, whatever the suffix */

/* "none" is 0. */
static bool parse_rate(const char *value, uint64_t *out)
{
    char *end;
    *out = 0;
    if (strcmp(value, "none") == 0)
        return true;
    if (value[0] < '0' || value[0] > '9' || strlen(value) > RATE_LEN)
        return false;
    *out = strtoul(value, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
    *out <<= shift;
    return end[shift > 0] == '\0' && *out >= RATE_MIN && *out <= RATE_MAX;
}

uint64_t wr_config_rate(const struct wr_config *c, enum wr_config_key key)
{
    uint64_t rate;
    bool valid = kinds[key] == KIND_RATE && parse_rate(wr_config_get(c, key), &rate);
    assert(valid);
    return valid ? rate : 0;
}

/* NULL when the value is fine, else what is allowed. */
static const char *objection(enum kind kind, const char *value)
{
    struct wr_cidr cidr;
    struct wr_addr addr;
    struct wr_limits limits;
    struct wr_log log = {0};
    const struct wr_secure *security[WR_SECURE_COUNT + 1];
    uint64_t rate;
    switch (kind) {
    case KIND_PATH:
    case KIND_FILE:
        return value[0] ? NULL : "a path";
    case KIND_SOCKET:
        return value[0] && strlen(value) < sizeof(((struct sockaddr_un *)0)->sun_path)
                   ? NULL
                   : "a path of at most 107 bytes, as the system allows for sockets";
    case KIND_NAME:
        return valid_name(value) ? NULL : "1 to 64 letters, digits, dots, dashes and underscores";
    case KIND_LISTEN:
        return valid_listen(value) ? NULL
                                   : "an address of this machine such as /ip4/0.0.0.0/tcp/4001, "
                                     "without /p2p, or none";
    case KIND_BOOTSTRAP:
        return valid_bootstrap(value) ? NULL
                                      : "an address that ends in /p2p/PEER, such as "
                                        "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW..., or none";
    case KIND_SECURITY:
        return parse_security(value, security) ? NULL : "noise,tls or tls,noise or one of them";
    case KIND_DHT:
        return index_of(dht_names, value) >= 0 ? NULL : "auto, server, client or off";
    case KIND_RELAY:
        return index_of(relay_names, value) >= 0 ? NULL : "auto, on or off";
    case KIND_RATE:
        return parse_rate(value, &rate) ? NULL : "a size from 16K to 64M, such as 512K or 4M, or none";
    case KIND_PERF:
        return index_of(perf_names, value) >= 0 ? NULL : "allowed or all";
    case KIND_SWITCH:
        return parse_switch(value) >= 0 ? NULL : "yes or no";
    case KIND_CIDR:
        return strcmp(value, "none") == 0 || wr_cidr_parse(value, &cidr) == 0
                   ? NULL
                   : "a block such as 203.0.113.0/24, or none";
    case KIND_LIMITS:
        return wr_limits_init(&limits, value) == 0
                   ? NULL
                   : "small, home, server or a size of at least 16M, such as 64M or 2G";
    case KIND_SESSIONS:
        return parse_sessions(value) >= 0 ? NULL : "auto, or a number from 16 to 1000000";
    case KIND_HTTP:
        return parse_http(value, &addr) ? NULL : "IP:PORT, such as 127.0.0.1:8080 or [::1]:8080";
    case KIND_LOG:
        return wr_log_configure(&log, value) == 0
                   ? NULL
                   : "error, warn, info, debug or trace, then MODULE=LEVEL, separated by commas";
    }
    assert(false);
    return NULL;
}

static void clear_item(struct wr_config_item *item)
{
    for (size_t i = 0; i < item->count; i++)
        wr_free(item->values[i]);
    wr_free(item->values);
    memset(item, 0, sizeof(*item));
}

static int append(struct wr_config_item *item, const char *value)
{
    char **grown = wr_realloc(item->values, (item->count + 1) * sizeof(*grown));
    if (!grown)
        return WR_ELIMIT;
    item->values = grown;
    grown[item->count] = wr_strdup(value);
    if (!grown[item->count])
        return WR_ELIMIT;
    item->count++;
    return 0;
}

/* Checks one value and takes it over unless a stronger place has spoken. */
static int set(struct wr_config *c, enum wr_config_key key, const char *value,
               const struct origin *at, char err[static WR_CONFIG_ERROR])
{
    const struct wr_config_info *info = &infos[key];
    struct wr_config_item *item = &c->items[key];
    if (strlen(value) > WR_CONFIG_VALUE_MAX)
        return fail(err, WR_EINVAL, at, "%s: the value is longer than %d bytes", info->name,
                    WR_CONFIG_VALUE_MAX);
    const char *allowed = objection(kinds[key], value);
    if (allowed)
        return fail(err, WR_EINVAL, at, "%s: \"%s\" is not possible; allowed is %s", info->name,
                    value, allowed);
    if (at->from < item->from)
        return 0;
    if (at->from == WR_CONFIG_FROM_FILE && item->from == at->from && !info->list)
        return fail(err, WR_EINVAL, at, "%s: given twice, first on line %u; keep one", info->name,
                    item->line);
    if (item->count == WR_CONFIG_VALUES_MAX && at->from == item->from)
        return fail(err, WR_EINVAL, at, "%s: more than %d values", info->name,
                    WR_CONFIG_VALUES_MAX);
    if (at->from > item->from || !info->list)
        clear_item(item);
    item->from = at->from;
    if (item->count == 0)
        item->line = at->line;
    if (append(item, value))
        return fail(err, WR_ELIMIT, at, "%s: out of memory", info->name);
    return 0;
}

/* ---- places that values come from */

static int set_default(struct wr_config *c, enum wr_config_key key, const char *value,
                       char err[static WR_CONFIG_ERROR])
{
    static const struct origin at = {WR_CONFIG_FROM_DEFAULT, NULL, 0};
    char words[WR_CONFIG_VALUE_MAX + 1];
    char *save = NULL;
    assert(strlen(value) < sizeof(words));
    memcpy(words, value, strlen(value) + 1);
    for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        int error = set(c, key, word, &at, err);
        if (error)
            return error;
    }
    return 0;
}

int wr_config_init(struct wr_config *c, char err[static WR_CONFIG_ERROR])
{
    memset(c, 0, sizeof(*c));
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++) {
        int error = set_default(c, (enum wr_config_key)key, defaults[key], err);
        if (error) {
            wr_config_clear(c);
            return error;
        }
    }
    return 0;
}

void wr_config_clear(struct wr_config *c)
{
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++)
        clear_item(&c->items[key]);
}

int wr_config_default(struct wr_config *c, enum wr_config_key key, const char *value,
                      char err[static WR_CONFIG_ERROR])
{
    static const struct origin at = {WR_CONFIG_FROM_DEFAULT, NULL, 0};
    if (c->items[key].from == WR_CONFIG_FROM_DEFAULT)
        clear_item(&c->items[key]);
    return set(c, key, value, &at, err); /* one value: a path may hold blanks */
}

int wr_config_flag(struct wr_config *c, int argc, char *const *argv, int *next,
                   char err[static WR_CONFIG_ERROR])
{
    static const struct origin at = {WR_CONFIG_FROM_FLAG, NULL, 0};
    const char *flag = argv[*next];
    char name[WR_NEAREST_MAX];
    enum wr_config_key key;
    bool inverted;
    if (strncmp(flag, "--", 2) != 0)
        return fail(err, WR_EINVAL, NULL, "unexpected argument \"%.64s\"; `warren help run` lists the flags", flag);
    size_t len = strcspn(flag + 2, "=");
    const char *value = flag[2 + len] == '=' ? flag + 2 + len + 1 : NULL;
    (void)snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1),
                   flag + 2);
    if (!find_key(name, &key, &inverted))
        return unknown(err, NULL, "flag --", name);
    (*next)++;
    if (infos[key].toggle) {
        if (value && inverted)
            return fail(err, WR_EINVAL, NULL, "--%s takes no value", name);
        return set(c, key, inverted ? "no" : value ? value : "yes", &at, err);
    }
    if (!value) {
        if (*next >= argc)
            return fail(err, WR_EINVAL, NULL, "--%s needs %s", name, infos[key].arg);
        value = argv[(*next)++];
    }
    return set(c, key, value, &at, err);
}

/* The reader and the handler of inih share this: the library hands out lines but not their numbers.
 */
struct parse {
    struct wr_config *c;
    const char *path, *rest;
    unsigned line;
    int error; /* the first one; its sentence is in err */
    char *err;
};

static char *read_line(char *out, int size, void *stream)
{
    struct parse *p = stream;
    if (!*p->rest)
        return NULL;
    size_t len = strcspn(p->rest, "\n");
    struct origin at = {WR_CONFIG_FROM_FILE, p->path, ++p->line};
    if (len + 2 > (size_t)size) {
        if (!p->error)
            p->error = fail(p->err, WR_EINVAL, &at, "the line is longer than %d bytes", size - 2);
        out[0] = '\0';
    } else {
        memcpy(out, p->rest, len);
        out[len] = '\0';
    }
    p->rest += len + (p->rest[len] == '\n');
    return out;
}

static int take_pair(void *arg, const char *section, const char *name, const char *value)
{
    struct parse *p = arg;
    struct origin at = {WR_CONFIG_FROM_FILE, p->path, p->line};
    enum wr_config_key key;
    bool inverted;
    if (p->error)
        return 1;
    if (*section) {
        p->error = fail(p->err, WR_EINVAL, &at,
                        "section [%s]: there are no sections; write the keys "
                        "alone",
                        section);
    } else if (!find_key(name, &key, &inverted)) {
        p->error = unknown(p->err, &at, "key ", name);
    } else if (kinds[key] == KIND_FILE) {
        p->error =
            fail(p->err, WR_EINVAL, &at, "%s is a flag only: a file cannot name another one", name);
    } else if (inverted) {
        int on = parse_switch(value);
        p->error = on < 0 ? fail(p->err, WR_EINVAL, &at,
                                 "%s: \"%s\" is not possible; allowed is yes "
                                 "or no",
                                 name, value)
                          : set(p->c, key, on ? "no" : "yes", &at, p->err);
    } else {
        p->error = set(p->c, key, value, &at, p->err);
    }
    return 1;
}

int wr_config_text(struct wr_config *c, const char *path, const char *text,
                   char err[static WR_CONFIG_ERROR])
{
    struct parse p = {.c = c, .path = path, .rest = text, .err = err};
    int line = ini_parse_stream(read_line, &p, take_pair, &p);
    if (p.error)
        return p.error;
    if (line) {
        struct origin at = {WR_CONFIG_FROM_FILE, path, line > 0 ? (unsigned)line : 0};
        return line > 0 ? fail(err, WR_EINVAL, &at, "not of the form `key = value`")
                        : fail(err, WR_ELIMIT, &at, "out of memory");
    }
    return 0;
}

int wr_config_file(struct wr_config *c, const char *path, char err[static WR_CONFIG_ERROR])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return fail(err, errno == ENOENT ? WR_ENOTFOUND : WR_EIO, NULL,
                    "%.512s: %s; --config names the file of settings, and none is needed", path, strerror(errno));
    char *text = wr_alloc(WR_CONFIG_FILE_MAX + 2);
    int error = 0;
    if (!text) {
        error = fail(err, WR_ELIMIT, NULL, "%.512s: out of memory", path);
        goto done;
    }
    size_t len = fread(text, 1, WR_CONFIG_FILE_MAX + 1, file);
    if (ferror(file))
        error = fail(err, WR_EIO, NULL, "%.512s: %s", path, strerror(errno));
    else if (len > WR_CONFIG_FILE_MAX)
        error =
            fail(err, WR_EINVAL, NULL, "%.512s: longer than %d bytes", path, WR_CONFIG_FILE_MAX);
    else if (memchr(text, '\0', len))
        error = fail(err, WR_EINVAL, NULL, "%.512s: not a text file", path);
    else
        error = wr_config_text(c, path, text, err);
done:
    wr_free(text);
    (void)fclose(file);
    return error;
}

int wr_config_finish(struct wr_config *c, char err[static WR_CONFIG_ERROR])
{
    struct wr_config_item *bootstrap = &c->items[WR_CONFIG_BOOTSTRAP];
    bool own = strcmp(wr_config_get(c, WR_CONFIG_NETWORK), WR_CONFIG_PUBLIC_NETWORK) != 0 ||
               *wr_config_get(c, WR_CONFIG_PSK);
    if (own && bootstrap->from == WR_CONFIG_FROM_DEFAULT)
        clear_item(bootstrap);
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++) {
        struct wr_config_item *item = &c->items[key];
        bool none = false;
        for (size_t i = 0; infos[key].list && i < item->count; i++)
            none |= strcmp(item->values[i], "none") == 0;
        if (!none)
            continue;
        if (item->count > 1)
            return fail(err, WR_EINVAL, NULL, "%s: \"none\" stands alone; leave it out, or the other values",
                        infos[key].name);
        wr_free(item->values[0]);
        item->count = 0;
    }
    return 0;
}

/* ---- asking */

const char *wr_config_get(const struct wr_config *c, enum wr_config_key key)
{
    return c->items[key].count ? c->items[key].values[0] : "";
}

bool wr_config_on(const struct wr_config *c, enum wr_config_key key)
{
    assert(infos[key].toggle);
    return parse_switch(wr_config_get(c, key)) == 1;
}

int wr_config_choice(const struct wr_config *c, enum wr_config_key key)
{
    const char *const *names = kinds[key] == KIND_DHT     ? dht_names
                               : kinds[key] == KIND_RELAY ? relay_names
                                                          : perf_names;
    assert(names != perf_names || kinds[key] == KIND_PERF);
    return index_of(names, wr_config_get(c, key));
}

void wr_config_security(const struct wr_config *c, const struct wr_secure *out[static 3])
{
    bool valid = parse_security(wr_config_get(c, WR_CONFIG_SECURITY), out);
    assert(valid);
}

bool wr_config_http(const struct wr_config *c, struct wr_addr *out)
{
    return parse_http(wr_config_get(c, WR_CONFIG_HTTP), out);
}

/* ---- reloading */

static bool same(const struct wr_config_item *a, const struct wr_config_item *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->values[i], b->values[i]) != 0)
            return false;
    return true;
}

uint32_t wr_config_diff(const struct wr_config *a, const struct wr_config *b)
{
    uint32_t bits = 0;
    static_assert(WR_CONFIG_COUNT <= 32, "a bit per key");
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++)
        if (!same(&a->items[key], &b->items[key]))
            bits |= UINT32_C(1) << key;
    return bits;
}

uint32_t wr_config_reload(struct wr_config *running, struct wr_config *fresh, uint32_t *restart)
{
    uint32_t changed = wr_config_diff(running, fresh), moved = 0;
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++) {
        if (!(changed & UINT32_C(1) << key) || !infos[key].live)
            continue;
        struct wr_config_item old = running->items[key];
        running->items[key] = fresh->items[key];
        fresh->items[key] = old;
        moved |= UINT32_C(1) << key;
    }
    *restart = changed & ~moved;
    return moved;
}
