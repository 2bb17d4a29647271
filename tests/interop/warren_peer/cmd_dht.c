/* Commands about the DHT. */
#include "peer.h"

#include "dht/kbucket.h"
#include "dht/namespace.h"
#include "transport/kv.h"
#include "transport/msg.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (256 * 1024)    /* bytes; as the DHT itself takes */

/* ---- one per host, with a store of its own in a directory that goes with the process -------------------- */

static char protocol[128];
static char base_dir[64];

static void remove_stores(void)
{
    char path[512];
    DIR *dir = opendir(base_dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        static const char *const files[] = {"data.mdb", "lock.mdb", "lock"};
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
            snprintf(path, sizeof(path), "%s/%s/%s", base_dir, e->d_name, files[i]);
            unlink(path);
        }
        snprintf(path, sizeof(path), "%s/%s", base_dir, e->d_name);
        rmdir(path);
    }
    if (dir)
        closedir(dir);
    rmdir(base_dir);
}

void dht_start(struct host *h, const char *mode, const char *prefix)
{
    char path[128];
    int err = 0;
    if (strcmp(mode, "off") == 0)
        return;
    if (!base_dir[0]) {
        strcpy(base_dir, "/tmp/warren-peer-XXXXXX");
        if (!mkdtemp(base_dir)) {
            perror("mkdtemp");
            exit(1);
        }
        atexit(remove_stores);
        snprintf(protocol, sizeof(protocol), "%s/kad/1.0.0", prefix);
        h->peer->dht_protocol = protocol;
    }
    snprintf(path, sizeof(path), "%s/%zu", base_dir, h->index);
    struct wr_kv_options store = {.path = path, .size_max = 64 << 20, .overlay_max = 4 << 20};
    err = wr_kv_open(h->peer->env, &store, &h->kv);
    struct wr_dht_options options = {.swarm = h->swarm,
                                     .kv = h->kv,
                                     .protocol = protocol,
                                     .scope = WR_DHT_ANY,
                                     .mode = strcmp(mode, "client") == 0 ? WR_DHT_CLIENT
                                                                         : WR_DHT_SERVER,
                                     .crowded = true,
                                     .rate = 100000};
    if (err == 0)
        h->dht = wr_dht_create(&options, &err);
    if (!h->dht) {
        fprintf(stderr, "DHT: %s\n", wr_err_text(err));
        exit(1);
    }
}

void dht_bootstrap(struct host *h, const char *const *addrs, size_t count)
{
    struct wr_maddr list[16];
    size_t n = 0;
    for (size_t i = 0; i < count && n < 16; i++)
        if (wr_maddr_parse(addrs[i], &list[n]) == 0)
            n++;
    if (h->dht && n)
        wr_dht_set_bootstrap(h->dht, list, n);
}

/* ---- searches -------------------------------------------------------------------------------------------- */

struct search {
    struct command *command;
    struct wr_dht_request *request;
    json_t *found;    /* peers: ids, or {id, addrs} */
    bool with_addrs, ids;
    const char *field;
    struct wr_peerid wanted;
    json_t *addrs, *value;
};

static json_t *addr_list(const struct wr_dht_peer *peer)
{
    json_t *list = json_array();
    for (size_t i = 0; i < peer->count; i++)
        json_array_append_new(list, json_maddr(peer->addrs[i]));
    return list;
}

static void search_free(struct search *s)
{
    json_decref(s->found);
    json_decref(s->addrs);
    json_decref(s->value);
    wr_free(s);
}

static void on_peer(void *arg, const struct wr_dht_peer *peer)
{
    struct search *s = arg;
    if (s->wanted.len) {
        if (wr_peerid_equal(&s->wanted, &peer->id) && !s->addrs)
            s->addrs = addr_list(peer);
    } else if (s->with_addrs) {
        json_array_append_new(s->found,
                              json_pack("{s:o,s:o}", "id", json_peer(&peer->id), "addrs", addr_list(peer)));
    } else {
        json_array_append_new(s->found, json_peer(&peer->id));
    }
}

static void on_value(void *arg, struct wr_bytes value)
{
    struct search *s = arg;
    json_decref(s->value);
    s->value = json_hex(value);
}

static void on_done(void *arg, int err)
{
    struct search *s = arg;
    struct command *c = s->command;
    json_t *fields = json_pack("{s:f}", "ms", command_ms(c));
    bool found_some = s->with_addrs && json_array_size(s->found);
    if (s->field && strcmp(s->field, "addrs") == 0 && s->addrs)
        json_object_set(fields, "addrs", s->addrs);
    else if (s->field && strcmp(s->field, "value") == 0 && s->value)
        json_object_set(fields, "value", s->value);
    else if (s->field)
        json_object_set(fields, s->field, s->found);
    search_free(s);
    if (err == 0 || found_some || (err == WR_ENOTFOUND && json_object_get(fields, "providers"))) {
        command_ok(c, fields);
        return;
    }
    json_decref(fields);
    command_fail(c, "%s", wr_err_text(err));
}

static const struct wr_dht_ops search_ops = {.on_peer = on_peer, .on_value = on_value, .on_done = on_done};

static void search_timeout(struct command *c)
{
    struct search *s = c->state;
    wr_dht_cancel(s->request);
    search_free(s);
}

static struct search *search_begin(struct command *c, const char *field)
{
    struct search *s = wr_alloc(sizeof(*s));
    s->command = c;
    s->field = field;
    s->found = json_array();
    c->state = s;
    c->on_timeout = search_timeout;
    return s;
}

static void search_started(struct search *s, int err)
{
    struct command *c = s->command;
    if (s->request)
        return;
    search_free(s);
    command_fail(c, "%s", wr_err_text(err));
}

static void cmd_closest(struct command *c)
{
    struct wr_buf key;
    int err = 0;
    if (!arg_hex(c, "key", &key))
        return;
    struct search *s = search_begin(c, "peers");
    s->request = wr_dht_find_closest(c->host->dht, wr_buf_bytes(&key), &search_ops, s, &err);
    wr_buf_clear(&key);
    search_started(s, err);
}

static void cmd_refresh(struct command *c)
{
    int err = 0;
    struct search *s = search_begin(c, NULL);
    s->request = wr_dht_find_closest(c->host->dht, wr_peerid_bytes(wr_swarm_self(c->host->swarm)),
                                     &search_ops, s, &err);
    search_started(s, err);
}

static void cmd_find_peer(struct command *c)
{
    struct wr_peerid peer;
    int err = 0;
    if (!arg_peer(c, &peer))
        return;
    struct search *s = search_begin(c, "addrs");
    s->wanted = peer;
    s->request = wr_dht_find_peer(c->host->dht, &peer, &search_ops, s, &err);
    search_started(s, err);
}

static bool arg_cid(struct command *c, struct wr_multihash *hash)
{
    if (wr_cid_parse(arg_text(c, "cid"), NULL, hash) == 0)
        return true;
    command_fail(c, "'cid' is no CID");
    return false;
}

static void find_providers(struct command *c, const struct wr_multihash *hash)
{
    int err = 0;
    struct search *s = search_begin(c, "providers");
    s->with_addrs = true;
    s->request = wr_dht_find_providers(c->host->dht, WR_BYTES(hash->bytes, hash->len),
                                       (unsigned)arg_u64(c, "count", 20), &search_ops, s, &err);
    search_started(s, err);
}

static void provide(struct command *c, const struct wr_multihash *hash)
{
    int err = 0;
    struct search *s = search_begin(c, NULL);
    s->request = wr_dht_provide(c->host->dht, WR_BYTES(hash->bytes, hash->len), &search_ops, s, &err);
    search_started(s, err);
}

static void cmd_put(struct command *c)
{
    struct wr_buf key, value;
    int err = 0;
    if (!arg_hex(c, "key", &key))
        return;
    if (!arg_hex(c, "value", &value)) {
        wr_buf_clear(&key);
        return;
    }
    struct search *s = search_begin(c, NULL);
    s->request = wr_dht_put_value(c->host->dht, wr_buf_bytes(&key), wr_buf_bytes(&value), &search_ops, s,
                                  &err);
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    search_started(s, err);
}

static void cmd_get(struct command *c)
{
    struct wr_buf key;
    int err = 0;
    if (!arg_hex(c, "key", &key))
        return;
    struct search *s = search_begin(c, "value");
    s->request = wr_dht_get_value(c->host->dht, wr_buf_bytes(&key), 0, &search_ops, s, &err);
    wr_buf_clear(&key);
    search_started(s, err);
}

static void cmd_table(struct command *c)
{
    size_t cursor = 0;
    json_t *list = json_array();
    for (struct wr_kentry *e; (e = wr_kbucket_next(wr_dht_table(c->host->dht), &cursor));)
        json_array_append_new(list, json_peer(&e->id));
    command_ok(c, json_pack("{s:o}", "peers", list));
}

/* ---- single questions: dht-query, bench-findnode ---------------------------------------------------------- */

struct question {
    struct command *command;
    struct wr_msg msg;
    struct wr_task task;    /* disposal: answers come from inside the conversation */
    struct wr_peerid peer;
    size_t left, done, failed;
    bool bench;
    wr_time asked_at;
    wr_time *times;
};

static void ask(struct question *q);

static void dispose(struct wr_task *task)
{
    struct question *q = wr_list_entry(task, struct question, task);
    wr_free(q->times);
    wr_free(q);
}

/* Its command is still to be answered. */
static void question_free(struct question *q)
{
    wr_env_dispose(q->command->host->peer->env, &q->task, dispose);
}

static int by_time(const void *a, const void *b)
{
    wr_time x = *(const wr_time *)a, y = *(const wr_time *)b;
    return (x > y) - (x < y);
}

static void bench_done(struct question *q)
{
    struct command *c = q->command;
    qsort(q->times, q->done, sizeof(*q->times), by_time);
    json_t *fields =
        json_pack("{s:I,s:I,s:[],s:f,s:o,s:o}", "done", (json_int_t)q->done, "failed",
                  (json_int_t)q->failed, "errors", "ms", command_ms(c), "p50",
                  json_ms(q->done ? q->times[q->done / 2] : 0), "p99",
                  json_ms(q->done ? q->times[q->done * 99 / 100] : 0));
    question_free(q);
    command_ok(c, fields);
}

static void answered(struct question *q, struct wr_bytes body)
{
    struct wr_dht_msg answer;
    struct command *c = q->command;
    int err = wr_dht_msg_decode(body, &answer);
    if (q->bench) {
        if (err == 0)
            q->times[q->done++] = wr_env_now(c->host->peer->env) - q->asked_at;
        q->failed += err != 0;
    }
    json_t *peers = json_array();
    for (size_t i = 0; err == 0 && i < answer.closer_count; i++)
        json_array_append_new(peers, json_peer(&answer.closer[i].id));
    wr_dht_msg_clear(&answer);
    wr_msg_close(&q->msg);
    if (q->bench) {
        json_decref(peers);
        if (--q->left)
            ask(q);
        else
            bench_done(q);
        return;
    }
    question_free(q);
    command_ok(c, json_pack("{s:o,s:f}", "peers", peers, "ms", command_ms(c)));
}

static void on_answer(struct wr_msg *m, struct wr_bytes body)
{
    answered(wr_list_entry(m, struct question, msg), body);
}

static void on_end(struct wr_msg *m, int err)
{
    struct question *q = wr_list_entry(m, struct question, msg);
    struct command *c = q->command;
    question_free(q);
    command_fail(c, "no answer: %s", wr_err_text(err));
}

static const struct wr_msg_ops msg_ops = {.on_message = on_answer, .on_close = on_end};

static void ask(struct question *q)
{
    static const char *const offer[] = {protocol, NULL};
    struct command *c = q->command;
    struct host *h = c->host;
    uint8_t random[32];
    int err = WR_ECLOSED;
    struct wr_buf key, body;
    struct wr_conn *conn = wr_swarm_conn(h->swarm, &q->peer);
    struct wr_stream *s = conn ? wr_conn_open_stream(conn, offer, NULL, NULL, &err) : NULL;
    if (!s) {
        question_free(q);
        command_fail(c, "%s", wr_err_text(err));
        return;
    }
    wr_env_random(h->peer->env, random, sizeof(random));
    wr_buf_init(&key, 1024);
    wr_buf_init(&body, 4096);
    if (q->bench)
        wr_buf_put(&key, random, sizeof(random));
    else
        wr_base_decode(WR_BASE16, wr_bytes_cstr(arg_text(c, "key")), &key);
    struct wr_dht_msg m = {.type = WR_DHT_FIND_NODE, .key = wr_buf_bytes(&key)};
    wr_dht_msg_encode(&m, 4096, &body);
    q->asked_at = wr_env_now(h->peer->env);
    wr_msg_start(&q->msg, h->peer->env, s, ANSWER_MAX, &msg_ops);
    wr_msg_send(&q->msg, wr_buf_bytes(&body));
    wr_msg_shut(&q->msg);
    wr_buf_clear(&key);
    wr_buf_clear(&body);
}

static void question_timeout(struct command *c)
{
    struct question *q = c->state;
    wr_msg_reset(&q->msg, WR_STREAM_OK);
    question_free(q);
}

static void cmd_query(struct command *c, bool bench)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    struct question *q = wr_alloc(sizeof(*q));
    q->command = c;
    q->bench = bench;
    q->peer = conn->peer;
    q->left = bench ? (size_t)arg_u64(c, "count", 1) : 1;
    q->times = wr_alloc_array(q->left, sizeof(*q->times));
    c->state = q;
    c->on_timeout = question_timeout;
    ask(q);
}

bool command_dht(struct command *c, const char *name)
{
    struct wr_multihash hash;
    bool known = strncmp(name, "dht-", 4) == 0 || strcmp(name, "advertise") == 0 ||
                 strcmp(name, "find-ns") == 0 || strcmp(name, "bench-findnode") == 0;
    if (!known)
        return false;
    if (!c->host->dht) {
        command_fail(c, "the DHT is off");
        return true;
    }
    wr_namespace_key(wr_bytes_cstr(arg_text(c, "ns")), &hash);
    if (strcmp(name, "dht-refresh") == 0)
        cmd_refresh(c);
    else if (strcmp(name, "dht-table") == 0)
        cmd_table(c);
    else if (strcmp(name, "dht-closest") == 0)
        cmd_closest(c);
    else if (strcmp(name, "dht-query") == 0)
        cmd_query(c, false);
    else if (strcmp(name, "bench-findnode") == 0)
        cmd_query(c, true);
    else if (strcmp(name, "dht-find-peer") == 0)
        cmd_find_peer(c);
    else if (strcmp(name, "dht-provide") == 0)
        arg_cid(c, &hash) ? provide(c, &hash) : (void)0;
    else if (strcmp(name, "dht-find-providers") == 0)
        arg_cid(c, &hash) ? find_providers(c, &hash) : (void)0;
    else if (strcmp(name, "dht-put") == 0)
        cmd_put(c);
    else if (strcmp(name, "dht-get") == 0)
        cmd_get(c);
    else if (strcmp(name, "advertise") == 0)
        provide(c, &hash);
    else if (strcmp(name, "find-ns") == 0)
        find_providers(c, &hash);
    else
        return false;
    return true;
}
