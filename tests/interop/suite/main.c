/* warren in the public interop suites' transport test: one process is the listener or the dialer, and says over Redis
 * where it is. Both contracts are spoken, the one of libp2p/unified-testing when TEST_KEY is set, else the one of
 * libp2p/test-plans:
 *
 *   listener    listens; leaves its address in the list; waits to be killed
 *   dialer      takes the address from the list; connects; one ping; prints both times; ends with 0
 *
 * README.md beside this file lists the variables. */
#include "redis.h"

#include "identify/identify.h"
#include "identify/ping.h"
#include "transport/env_uv.h"
#include "transport/swarm.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define TIMEOUT_SECONDS 180    /* of a test, where it does not say; both suites */

/* What the environment asks for. */
struct plan {
    bool dialer, lines;    /* lines: results as the newer suite reads them, else an object */
    const char *transport, *security, *muxer, *ip, *redis;
    char key[128];
    unsigned timeout;      /* seconds */
};

struct run {
    struct plan plan;
    uv_loop_t loop;
    uv_signal_t term;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_identify *identify;
    struct wr_pong *pong;
    struct wr_ping *ping;
    struct wr_timer timeout;
    uint64_t begun_at;    /* ns, of uv_hrtime: a turn's time would be too coarse */
    int result;
};

/* ---- the plan ---------------------------------------------------------------------------------------------- */

static const char *variable(const char *name, const char *missing)
{
    const char *value = getenv(name);
    return value && *value ? value : missing;
}

static void read_plan(struct plan *p)
{
    const char *test = getenv("TEST_KEY");
    bool now = test != NULL;    /* the newer names */
    p->lines = now;
    p->dialer = strcmp(variable(now ? "IS_DIALER" : "is_dialer", "false"), "true") == 0;
    p->transport = variable(now ? "TRANSPORT" : "transport", "");
    p->security = variable(now ? "SECURE_CHANNEL" : "security", "");
    p->muxer = variable(now ? "MUXER" : "muxer", "");
    p->ip = variable(now ? "LISTENER_IP" : "ip", "0.0.0.0");
    p->redis = variable(now ? "REDIS_ADDR" : "redis_addr", now ? "transport-redis:6379" : "redis:6379");
    long seconds = strtol(variable(now ? "TEST_TIMEOUT_SECS" : "test_timeout_seconds", "0"), NULL, 10);
    p->timeout = seconds > 0 && seconds < 86400 ? (unsigned)seconds : TIMEOUT_SECONDS;
    if (now)
        snprintf(p->key, sizeof(p->key), "%s_listener_multiaddr", test);
    else
        snprintf(p->key, sizeof(p->key), "listenerAddr");
}

/* The security protocol to speak, NULL for the transport's own. False: this program has no such thing. */
static bool understood(const struct plan *p, const struct wr_secure **security)
{
    *security = NULL;
    if (strcmp(p->transport, "quic-v1") == 0)
        return true;
    *security = wr_secure_by_word(wr_bytes_cstr(p->security));
    if (strcmp(p->transport, "tcp") == 0 && *security && strcmp(p->muxer, "yamux") == 0)
        return true;
    fprintf(stderr, "warren does not speak '%s' with '%s' and '%s'; it has tcp with noise or tls and yamux, and quic-v1\n",
            p->transport, p->security, p->muxer);
    return false;
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

static void finish(struct run *r, int result)
{
    r->result = result;
    uv_stop(&r->loop);
}

static void on_timeout(struct wr_timer *timer)
{
    struct run *r = wr_list_entry(timer, struct run, timeout);
    fprintf(stderr, "not done in %u s\n", r->plan.timeout);
    finish(r, 1);
}

static void on_term(uv_signal_t *handle, int signum)
{
    (void)signum;
    finish(handle->data, 0);
}

/* ---- dialling ---------------------------------------------------------------------------------------------- */

static void on_reply(void *arg, const struct wr_ping_reply *reply)
{
    struct run *r = arg;
    double all = (double)(uv_hrtime() - r->begun_at) / 1e6;
    double ping = (double)reply->rtt / 1e6;
    if (reply->err != 0) {
        fprintf(stderr, "ping: %s\n", wr_err_text(reply->err));
        finish(r, 1);
        return;
    }
    if (r->plan.lines)
        printf("latency:\n  handshake_plus_one_rtt: %.3f\n  ping_rtt: %.3f\n  unit: ms\n", all, ping);
    else    /* with three l: this is what their runner looks for */
        printf("{\"handshakePlusOneRTTMillis\": %.3f, \"pingRTTMilllis\": %.3f}\n", all, ping);
    finish(r, 0);
}

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct run *r = arg;
    if (err == 0)
        r->ping = wr_ping_open(r->swarm, &conn->peer, &(struct wr_ping_options){.on_reply = on_reply, .arg = r});
    if (r->ping && wr_ping_send(r->ping) == 0)
        return;
    fprintf(stderr, "connect: %s\n", wr_err_text(err ? err : WR_ELIMIT));
    finish(r, 1);
}

static bool dial(struct run *r, int redis)
{
    char text[WR_MADDR_TEXT];
    struct wr_maddr addr;
    struct wr_peerid peer;
    if (!redis_take(redis, r->plan.key, r->plan.timeout, text, sizeof(text)))
        return false;
    if (wr_maddr_parse(text, &addr) != 0 || !wr_maddr_peer(wr_maddr_bytes(&addr), &peer)) {
        fprintf(stderr, "'%s' is no address with /p2p/ID\n", text);
        return false;
    }
    r->begun_at = uv_hrtime();
    int rc = wr_swarm_connect(r->swarm, &peer, &addr, 1, WR_ORIGIN_OWNER, 0, on_connect, r, NULL);
    if (rc != 0)
        fprintf(stderr, "%s: %s\n", text, wr_err_text(rc));
    return rc == 0;
}

/* ---- listening --------------------------------------------------------------------------------------------- */

/* The address that others reach: not of the loopback unless it listens on nothing else. */
static bool own_address(const struct run *r, char *out, size_t size)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(r->swarm);
    const struct wr_own_addr *best = NULL;
    struct wr_addr at;
    char text[WR_MADDR_TEXT], peer[WR_PEERID_TEXT];
    for (size_t i = 0; i < book->count; i++) {
        if (book->of[i].source != WR_ADDR_LISTEN || !wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at))
            continue;
        if (!best || wr_ip_classify(&at.ip) != WR_IP_LOOPBACK)
            best = &book->of[i];
    }
    if (!best)
        return false;
    wr_maddr_print(wr_maddr_bytes(&best->addr), text, sizeof(text));
    int len = snprintf(out, size, "%s/p2p/%s", text, wr_peerid_print(wr_swarm_self(r->swarm), peer));
    return len > 0 && (size_t)len < size;
}

static bool listen_and_tell(struct run *r, int redis)
{
    char text[2 * WR_MADDR_TEXT];
    struct wr_maddr at;
    bool quic = strcmp(r->plan.transport, "quic-v1") == 0;
    snprintf(text, sizeof(text), "/ip%d/%s/%s", strchr(r->plan.ip, ':') ? 6 : 4, r->plan.ip,
             quic ? "udp/0/quic-v1" : "tcp/0");
    int rc = wr_maddr_parse(text, &at);
    if (rc == 0)
        rc = wr_swarm_listen(r->swarm, wr_maddr_bytes(&at));
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", text, wr_err_text(rc));
        return false;
    }
    if (!own_address(r, text, sizeof(text))) {
        fputs("no address to tell others\n", stderr);
        return false;
    }
    fprintf(stderr, "listening at %s\n", text);
    return redis_leave(redis, r->plan.key, text);
}

/* ---- the node ---------------------------------------------------------------------------------------------- */

static bool start(struct run *r, const struct wr_secure *security)
{
    uint8_t seed[WR_ED25519_SEED];
    wr_env_random(r->env, seed, sizeof(seed));
    wr_key_generate(&r->key, seed);
    wr_limits_init(&r->limits, "home");
    r->swarm = wr_swarm_create(&(struct wr_swarm_options){
        .env = r->env, .limits = &r->limits, .identity = &r->key, .security = {security}});
    if (!r->swarm)
        return false;
    r->identify = wr_identify_create(&(struct wr_identify_options){.swarm = r->swarm});
    r->pong = wr_pong_create(r->swarm);
    wr_timer_start(r->env, &r->timeout, wr_env_now(r->env) + (wr_time)r->plan.timeout * WR_SEC, on_timeout);
    return r->identify && r->pong;
}

static void stop(struct run *r)
{
    wr_timer_stop(r->env, &r->timeout);
    wr_ping_close(r->ping);
    wr_pong_destroy(r->pong);
    wr_identify_destroy(r->identify);
    wr_swarm_destroy(r->swarm);
    wr_env_uv_destroy(r->env);
    uv_close((uv_handle_t *)&r->term, NULL);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    uv_loop_close(&r->loop);
}

static void log_to_stderr(void *arg, enum wr_log_level level, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s %s\n", wr_log_level_name(level), text);
}

int main(void)
{
    static struct wr_log log = {.sink = log_to_stderr, .level = WR_LOG_WARN};
    static struct run r = {.result = 1};
    const struct wr_secure *security;
    read_plan(&r.plan);
    if (!understood(&r.plan, &security) || sodium_init() < 0 || uv_loop_init(&r.loop) != 0)
        return 1;
    if (strcmp(variable("DEBUG", "false"), "true") == 0)
        log.level = WR_LOG_DEBUG;
    int redis = redis_connect(r.plan.redis, r.plan.timeout);
    if (redis < 0)
        return 1;
    r.env = wr_env_uv_create(&r.loop, &log);
    if (!r.env)
        return 1;
    uv_signal_init(&r.loop, &r.term);
    r.term.data = &r;
    uv_signal_start(&r.term, on_term, SIGTERM);
    if (start(&r, security) && (r.plan.dialer ? dial(&r, redis) : listen_and_tell(&r, redis)))
        uv_run(&r.loop, UV_RUN_DEFAULT);
    close(redis);
    stop(&r);
    return r.result;
}
