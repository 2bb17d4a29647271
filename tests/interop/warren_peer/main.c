/* warren's test peer: hosts, and the JSON lines on standard input. */
#include "options.h"

#include "transport/env_uv.h"
#include "transport/swarm_impl.h"    /* a switch that only tests have */

#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <uv.h>

#define LISTEN_MAX 8    /* addresses of a host that are told */

static const struct options *options;
static struct peer the_peer;
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

__attribute__((format(printf, 3, 0))) static void fail(struct command *c, json_t *fields, const char *format,
                                                       va_list args)
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
    if (options->has_seed) {
        char text[64];
        snprintf(text, sizeof(text), "warren-test-key:%ld:%zu", options->seed, h->index);
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
    if (strcmp(options->limits, "lifted") == 0)
        lift(&h->limits);
    make_key(h);
    wr_list_init(&h->waiting);
    struct wr_swarm_options so = {
        .env = the_peer.env, .limits = &h->limits, .identity = &h->key, .psk = options->has_psk ? options->psk : NULL,
        .security = {options->security}};
    h->swarm = wr_swarm_create(&so);
    if (!h->swarm)
        die("swarm", WR_ELIMIT);
    if (options->retry && h->swarm->quic)
        wr_quic_retry_always(h->swarm->quic, true);
    if (h->swarm->quic)
        wr_quic_set_cc(h->swarm->quic, options->cc);
    struct wr_cidr all;
    wr_cidr_parse("127.0.0.0/8", &all);
    wr_policy_add_public(wr_swarm_policy(h->swarm), &all);
    wr_cidr_parse("10.0.0.0/8", &all);
    wr_policy_add_public(wr_swarm_policy(h->swarm), &all);
    if (strcmp(options->limits, "lifted") == 0)    /* no accept rate either */
        wr_policy_rule(wr_swarm_policy(h->swarm), false, "0.0.0.0/0", true);
    h->watch.on_event = on_event;
    wr_swarm_watch(h->swarm, &h->watch);
    struct wr_identify_options io = {.swarm = h->swarm, .agent = options->agent};
    h->identify = wr_identify_create(&io);
    h->pong = wr_pong_create(h->swarm);
    if (!h->identify || !h->pong)
        die("services", WR_ELIMIT);
    services_register(h);
    for (size_t i = 0; i < options->listen.count; i++)
        if (strcmp(options->listen.of[i], "none") != 0)
            listen_on(h, options->listen.of[i]);
    if (!relay_start(h, &options->nat) || !nat_start(h, &options->nat))
        die("relays, AutoNAT or hole punching", WR_EINVAL);
    if (options->mdns && !mdns_start(h, options->has_psk ? options->psk : NULL))
        die("mdns", WR_ELIMIT);
    dht_start(h, options->dht, options->dht_prefix);
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
    options = options_parse(argc, argv);
    if (sodium_init() < 0)
        return 1;
    if (level)
        wr_log_configure(&log, level);
    uv_loop_init(&loop);
    the_peer.env = wr_env_uv_create(&loop, &log);
    the_peer.hosts = wr_alloc_array(options->hosts, sizeof(*the_peer.hosts));
    the_peer.host_count = options->hosts;
    wr_buf_init(&line, 16 * 1024 * 1024);
    for (size_t i = 0; i < options->hosts; i++) {
        the_peer.hosts[i].peer = &the_peer;
        the_peer.hosts[i].index = i;
        start_host(&the_peer.hosts[i]);
    }
    print_ready();
    for (size_t i = 0; i < options->hosts; i++)
        dht_bootstrap(&the_peer.hosts[i], options->bootstrap.of, options->bootstrap.count);
    uv_pipe_init(&loop, &input, 0);
    uv_pipe_open(&input, 0);
    uv_read_start((uv_stream_t *)&input, on_stdin_alloc, on_stdin);
    uv_signal_init(&loop, &term);
    uv_signal_start(&term, on_signal, SIGTERM);
    bool never = false;    /* it ends by a signal, or with its input */
    wr_env_uv_run(the_peer.env, &never);
    return 0;
}
