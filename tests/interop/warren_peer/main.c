/* warren's test peer: flags, hosts, and the JSON lines on standard input. */
#include "peer.h"

#include "transport/env_uv.h"
#include "transport/pnet.h"
#include "transport/swarm_impl.h"    /* a switch that only tests have */

#include <getopt.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <uv.h>

#define LISTEN_MAX 8

static struct {
    const char *listen[LISTEN_MAX];
    size_t listen_count;
    const char *bootstrap[LISTEN_MAX];
    size_t bootstrap_count;
    size_t hosts;
    long seed;
    bool has_seed, mdns, retry;
    const char *dht, *dht_prefix, *psk, *agent, *limits, *transport;
    const struct wr_secure *security;    /* NULL: both */
    struct nat_flags nat;
    enum wr_quic_cc cc;
} options = {.hosts = 1,
             .dht = "off",
             .dht_prefix = "/ipfs",
             .limits = "lifted",
             .transport = "tcp",
             .nat = {.relay_limits = "", .autonat = "", .reach = ""}};

static struct peer the_peer;
static uint8_t psk[WR_PNET_KEY];
static uv_loop_t loop;
static struct wr_buf line;

/* ---- answers ---------------------------------------------------------------------------------------- */

static void put_line(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    puts(text);
    fflush(stdout);
    free(text);
    json_decref(object);
}

static void command_free(struct command *c)
{
    wr_timer_stop(c->host->peer->env, &c->timeout);
    wr_list_remove(&c->node);
    json_decref(c->request);
    wr_free(c);
}

void command_ok(struct command *c, json_t *fields)
{
    json_t *reply = fields ? fields : json_object();
    json_object_set_new(reply, "n", json_integer(c->n));
    json_object_set_new(reply, "ok", json_true());
    put_line(reply);
    command_free(c);
}

static void fail(struct command *c, json_t *fields, const char *format, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof(text), format, args);
    json_object_set_new(fields, "n", json_integer(c->n));
    json_object_set_new(fields, "ok", json_false());
    json_object_set_new(fields, "error", json_string(text));
    put_line(fields);
    command_free(c);
}

void command_fail(struct command *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(c, json_object(), format, args);
    va_end(args);
}

void command_fail_with(struct command *c, json_t *fields, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(c, fields, format, args);
    va_end(args);
}

void command_unsupported(struct command *c, const char *what)
{
    put_line(json_pack("{s:I,s:b,s:b,s:s}", "n", c->n, "ok", 0, "unsupported", 1, "error", what));
    command_free(c);
}

double command_ms(const struct command *c)
{
    return (double)(wr_env_now(c->host->peer->env) - c->started_at) / 1e6;
}

/* ---- arguments --------------------------------------------------------------------------------------- */

const char *arg_text(const struct command *c, const char *name)
{
    const char *text = json_string_value(json_object_get(c->request, name));
    return text ? text : "";
}

uint64_t arg_u64(const struct command *c, const char *name, uint64_t missing)
{
    json_t *v = json_object_get(c->request, name);
    return json_is_number(v) ? (uint64_t)json_number_value(v) : missing;
}

bool arg_peer(struct command *c, struct wr_peerid *peer)
{
    if (wr_peerid_parse(arg_text(c, "peer"), peer) == 0)
        return true;
    command_fail(c, "'peer' is no peer id");
    return false;
}

bool arg_conn(struct command *c, struct wr_conn **conn)
{
    struct wr_peerid peer;
    if (!arg_peer(c, &peer))
        return false;
    *conn = wr_swarm_conn(c->host->swarm, &peer);
    if (*conn)
        return true;
    command_fail(c, "no open connection to that peer");
    return false;
}

bool arg_hex(struct command *c, const char *name, struct wr_buf *out)
{
    wr_buf_init(out, 65536);
    if (wr_base_decode(WR_BASE16, wr_bytes_cstr(arg_text(c, name)), out) == 0 && out->len)
        return true;
    wr_buf_clear(out);
    command_fail(c, "'%s' is not hex", name);
    return false;
}

json_t *json_ms(wr_time t)
{
    return json_real((double)t / 1e6);
}

json_t *json_peer(const struct wr_peerid *id)
{
    char text[WR_PEERID_TEXT];
    return json_string(wr_peerid_print(id, text));
}

json_t *json_hex(struct wr_bytes b)
{
    struct wr_buf text;
    wr_buf_init(&text, 1 << 20);
    wr_base_encode(WR_BASE16, b, &text);
    json_t *v = json_stringn((const char *)text.data, text.len);
    wr_buf_clear(&text);
    return v;
}

json_t *json_maddr(struct wr_bytes ma)
{
    char text[WR_MADDR_TEXT];
    return json_string(wr_maddr_print(ma, text, sizeof(text)));
}

const uint8_t *pattern(void)
{
    static uint8_t *bytes;
    if (!bytes) {
        static const unsigned char seed[randombytes_SEEDBYTES] = "warren test pattern";
        bytes = wr_alloc(PATTERN_LEN);
        randombytes_buf_deterministic(bytes, PATTERN_LEN, seed);
    }
    return bytes;
}

EVP_MD_CTX *hash_start(void)
{
    EVP_MD_CTX *h = EVP_MD_CTX_new();
    EVP_DigestInit_ex(h, EVP_sha256(), NULL);
    return h;
}

void hash_end(EVP_MD_CTX *h, uint8_t out[static 32])
{
    EVP_DigestFinal_ex(h, out, NULL);
    EVP_MD_CTX_free(h);
}

/* ---- commands ----------------------------------------------------------------------------------------- */

static void on_command_timeout(struct wr_timer *timer)
{
    struct command *c = wr_list_entry(timer, struct command, timeout);
    if (c->on_timeout)
        c->on_timeout(c);
    command_fail(c, "timed out");
}

static void on_line(const char *text, size_t len)
{
    json_t *request = json_loadb(text, len, 0, NULL);
    if (!json_is_object(request)) {
        json_decref(request);
        return;
    }
    struct command *c = wr_alloc(sizeof(*c));
    size_t host = (size_t)json_integer_value(json_object_get(request, "host"));
    c->host = &the_peer.hosts[host < the_peer.host_count ? host : 0];
    c->request = request;
    c->n = json_integer_value(json_object_get(request, "n"));
    c->started_at = wr_env_now(the_peer.env);
    wr_list_init(&c->node);
    wr_timer_start(the_peer.env, &c->timeout,
                   c->started_at + (wr_time)arg_u64(c, "timeout", 30000) * WR_MSEC,
                   on_command_timeout);
    const char *name = arg_text(c, "cmd");
    if (host >= the_peer.host_count)
        command_fail(c, "there is no host %zu", host);
    else if (!command_conn(c, name) && !command_stream(c, name) && !command_bench(c, name) &&
             !command_dht(c, name) && !command_mdns(c, name) && !command_nat(c, name) &&
             !command_relay(c, name))
        command_unsupported(c, "unknown command");
}

static void on_stdin(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)stream;
    if (n < 0)
        exit(0);
    wr_buf_put(&line, buf->base, (size_t)n);
    for (uint8_t *end; line.len && (end = memchr(line.data, '\n', line.len));) {
        size_t len = (size_t)(end - line.data);
        on_line((const char *)line.data, len);
        wr_buf_consume(&line, len + 1);
    }
}

static void on_stdin_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    static char bytes[65536];
    (void)handle;
    (void)size;
    *buf = uv_buf_init(bytes, sizeof(bytes));
}

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)handle;
    (void)signum;
    exit(0);
}

/* ---- hosts -------------------------------------------------------------------------------------------- */

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    conn_on_event(wr_list_entry(watch, struct host, watch), event);
}

static void die(const char *what, int err)
{
    fprintf(stderr, "%s: %s\n", what, wr_err_text(err));
    exit(1);
}

static void make_key(struct host *h)
{
    uint8_t seed[WR_ED25519_SEED];
    if (options.has_seed) {
        char text[64];
        snprintf(text, sizeof(text), "warren-test-key:%ld:%zu", options.seed, h->index);
        wr_sha256(wr_bytes_cstr(text), seed);
    } else {
        wr_env_random(the_peer.env, seed, sizeof(seed));
    }
    wr_key_generate(&h->key, seed);
}

static void listen_on(struct host *h, const char *given)
{
    char text[256];
    size_t used = 0;
    struct wr_maddr ma;
    for (const char *p = given; *p && used + 8 < sizeof(text);) {
        size_t value = strncmp(p, "{h}", 3) == 0 ? 1 + h->index / 250 : 1 + h->index % 250;
        if (strncmp(p, "{h}", 3) == 0 || strncmp(p, "{l}", 3) == 0) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%zu", value);
            p += 3;
        } else {
            text[used++] = *p++;
        }
    }
    text[used] = 0;
    int rc = wr_maddr_parse(text, &ma);
    if (rc == 0)
        rc = wr_swarm_listen(h->swarm, wr_maddr_bytes(&ma));
    if (rc != 0)
        die(text, rc);
}

static void lift(struct wr_limits *limits)
{
    for (int i = 0; i < WR_LIMIT_COUNT; i++)
        if (i != WR_LIMIT_MEMORY && i != WR_LIMIT_WINDOW_EXTRA)
            limits->of[i].max = 1000000;
}

static void start_host(struct host *h)
{
    wr_limits_init(&h->limits, "home");
    if (strcmp(options.limits, "lifted") == 0)
        lift(&h->limits);
    make_key(h);
    wr_list_init(&h->waiting);
    struct wr_swarm_options so = {
        .env = the_peer.env, .limits = &h->limits, .identity = &h->key, .psk = options.psk ? psk : NULL,
        .security = {options.security}};
    h->swarm = wr_swarm_create(&so);
    if (!h->swarm)
        die("swarm", WR_ELIMIT);
    if (options.retry && h->swarm->quic)
        wr_quic_retry_always(h->swarm->quic, true);
    if (h->swarm->quic)
        wr_quic_set_cc(h->swarm->quic, options.cc);
    struct wr_cidr all;
    wr_cidr_parse("127.0.0.0/8", &all);
    wr_policy_add_public(wr_swarm_policy(h->swarm), &all);
    wr_cidr_parse("10.0.0.0/8", &all);
    wr_policy_add_public(wr_swarm_policy(h->swarm), &all);
    if (strcmp(options.limits, "lifted") == 0)    /* no accept rate either */
        wr_policy_rule(wr_swarm_policy(h->swarm), false, "0.0.0.0/0", true);
    h->watch.on_event = on_event;
    wr_swarm_watch(h->swarm, &h->watch);
    struct wr_identify_options io = {.swarm = h->swarm, .agent = options.agent};
    h->identify = wr_identify_create(&io);
    h->pong = wr_pong_create(h->swarm);
    if (!h->identify || !h->pong)
        die("services", WR_ELIMIT);
    services_register(h);
    for (size_t i = 0; i < options.listen_count; i++)
        if (strcmp(options.listen[i], "none") != 0)
            listen_on(h, options.listen[i]);
    if (!relay_start(h, &options.nat) || !nat_start(h, &options.nat))
        die("relays, AutoNAT or hole punching", WR_EINVAL);
    if (options.mdns && !mdns_start(h, options.psk ? psk : NULL))
        die("mdns", WR_ELIMIT);
    dht_start(h, options.dht, options.dht_prefix);
}

static void print_ready(void)
{
    json_t *hosts = json_array();
    for (size_t i = 0; i < the_peer.host_count; i++) {
        struct wr_maddr addrs[LISTEN_MAX];
        size_t count = wr_swarm_listening(the_peer.hosts[i].swarm, addrs, LISTEN_MAX);
        json_t *list = json_array();
        for (size_t k = 0; k < count; k++)
            json_array_append_new(list, json_maddr(wr_maddr_bytes(&addrs[k])));
        json_array_append_new(hosts, json_pack("{s:o,s:o}", "id",
                                               json_peer(wr_swarm_self(the_peer.hosts[i].swarm)),
                                               "addrs", list));
    }
    json_t *ready = json_pack("{s:s,s:s,s:s,s:o,s:o}", "event", "ready", "impl", "warren", "version",
                              WARREN_VERSION, "dht",
                              the_peer.dht_protocol ? json_string(the_peer.dht_protocol) : json_null(),
                              "hosts", hosts);
    put_line(ready);
}

static void read_psk(const char *path)
{
    static char text[1024];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof(text), f) : 0;
    if (f)
        fclose(f);
    if (wr_pnet_key_parse(WR_BYTES(text, n), psk) != 0) {
        fprintf(stderr, "%s is no private network key\n", path);
        exit(1);
    }
}

static enum wr_quic_cc read_cc(const char *text)
{
    static const char *const names[] = {
        [WR_QUIC_CUBIC] = "cubic", [WR_QUIC_RENO] = "reno", [WR_QUIC_BBR] = "bbr", [WR_QUIC_BBR2] = "bbr2"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0)
            return (enum wr_quic_cc)i;
    fprintf(stderr, "--cc is cubic, reno, bbr or bbr2\n");
    exit(2);
}

static void unsupported_option(const char *name, const char *value, const char *only)
{
    if (strcmp(value, only) == 0)
        return;
    fprintf(stderr, "--%s %s: this peer can only do %s\n", name, value, only);
    exit(3);
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},     {"hosts", required_argument, NULL, 'n'},
        {"key", required_argument, NULL, 'k'},        {"seed", required_argument, NULL, 's'},
        {"dht", required_argument, NULL, 'd'},        {"dht-prefix", required_argument, NULL, 'x'},
        {"bootstrap", required_argument, NULL, 'b'},  {"limits", required_argument, NULL, 'm'},
        {"psk", required_argument, NULL, 'p'},        {"transport", required_argument, NULL, 't'},
        {"security", required_argument, NULL, 'c'},   {"mdns", no_argument, NULL, 'M'},
        {"agent", required_argument, NULL, 'a'},      {"relay", no_argument, NULL, 'R'},
        {"relay-limits", required_argument, NULL, 'L'}, {"circuit", no_argument, NULL, 'C'},
        {"dcutr", no_argument, NULL, 'D'},            {"autonat", required_argument, NULL, 'A'},
        {"reach", required_argument, NULL, 'r'},      {"announce", required_argument, NULL, 'o'},
        {"retry", no_argument, NULL, 'Y'},            {"cc", required_argument, NULL, 'G'},
        {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (o) {
        case 'l':
            if (options.listen_count < LISTEN_MAX)
                options.listen[options.listen_count++] = optarg;
            break;
        case 'n':
            options.hosts = (size_t)atoi(optarg);
            break;
        case 'k':
            unsupported_option("key", optarg, "ed25519");
            break;
        case 's':
            options.seed = atol(optarg);
            options.has_seed = true;
            break;
        case 'd':
            options.dht = optarg;
            break;
        case 'x':
            options.dht_prefix = optarg;
            break;
        case 'b':
            if (options.bootstrap_count < LISTEN_MAX)
                options.bootstrap[options.bootstrap_count++] = optarg;
            break;
        case 'm':
            options.limits = optarg;
            break;
        case 'p':
            options.psk = optarg;
            read_psk(optarg);
            break;
        case 't':
            options.transport = optarg;
            if (strcmp(optarg, "quic") != 0 && strcmp(optarg, "both") != 0)
                unsupported_option("transport", optarg, "tcp");
            break;
        case 'c':
            options.security = wr_secure_by_word(WR_BYTES(optarg, strlen(optarg)));
            if (!options.security)
                unsupported_option("security", optarg, "noise or tls");
            break;
        case 'Y':
            options.retry = true;
            break;
        case 'G':
            options.cc = read_cc(optarg);
            break;
        case 'M':
            options.mdns = true;
            break;
        case 'a':
            options.agent = optarg;
            break;
        case 'R':
            options.nat.relay = true;
            break;
        case 'L':
            options.nat.relay_limits = optarg;
            break;
        case 'C':
            options.nat.circuit = true;
            break;
        case 'D':
            options.nat.dcutr = true;
            break;
        case 'A':
            options.nat.autonat = optarg;
            break;
        case 'r':
            options.nat.reach = optarg;
            break;
        case 'o':
            if (options.nat.announce_count < sizeof(options.nat.announce) / sizeof(options.nat.announce[0]))
                options.nat.announce[options.nat.announce_count++] = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (options.listen_count == 0) {
        if (strcmp(options.transport, "quic") != 0)
            options.listen[options.listen_count++] = "/ip4/127.0.0.1/tcp/0";
        if (strcmp(options.transport, "tcp") != 0)
            options.listen[options.listen_count++] = "/ip4/127.0.0.1/udp/0/quic-v1";
    }
}

static void log_to_stderr(void *arg, enum wr_log_level level, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s %s\n", wr_log_level_name(level), text);
}

int main(int argc, char **argv)
{
    static struct wr_log log = {.sink = log_to_stderr, .level = WR_LOG_WARN};
    const char *level = getenv("WARREN_PEER_LOG");
    static uv_pipe_t input;
    static uv_signal_t term;
    parse(argc, argv);
    if (sodium_init() < 0)
        return 1;
    if (level)
        wr_log_configure(&log, level);
    uv_loop_init(&loop);
    the_peer.env = wr_env_uv_create(&loop, &log);
    the_peer.hosts = wr_alloc_array(options.hosts, sizeof(*the_peer.hosts));
    the_peer.host_count = options.hosts;
    wr_buf_init(&line, 16 * 1024 * 1024);
    for (size_t i = 0; i < options.hosts; i++) {
        the_peer.hosts[i].peer = &the_peer;
        the_peer.hosts[i].index = i;
        start_host(&the_peer.hosts[i]);
    }
    print_ready();
    for (size_t i = 0; i < options.hosts; i++)
        dht_bootstrap(&the_peer.hosts[i], options.bootstrap, options.bootstrap_count);
    uv_pipe_init(&loop, &input, 0);
    uv_pipe_open(&input, 0);
    uv_read_start((uv_stream_t *)&input, on_stdin_alloc, on_stdin);
    uv_signal_init(&loop, &term);
    uv_signal_start(&term, on_signal, SIGTERM);
    bool never = false;    /* it ends by a signal, or with its input */
    wr_env_uv_run(the_peer.env, &never);
    return 0;
}
