#include "transport/resolve.h"

#include <string.h>

/* One question to the resolver, with what stands around the name in the address. */
struct question {
    struct wr_list node;
    struct wr_resolve *owner;
    struct wr_lookup *lookup;
    enum wr_lookup_type type;
    struct wr_maddr tail;    /* what follows the name */
    unsigned depth;
};

struct wr_resolve {
    struct wr_env *env;
    const struct wr_resolve_ops *ops;
    void *arg;
    struct wr_list questions;
    struct wr_task task;       /* completion in a later turn */
    struct wr_maddr plain;     /* an address without a name, reported from the task */
    size_t asked, found;
    int err;                   /* of the last question that failed */
    bool cancelled;
};

static void handle(struct wr_resolve *r, struct wr_bytes addr, unsigned depth);

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_resolve, task));
}

static void release(struct wr_resolve *r)
{
    while (!wr_list_empty(&r->questions)) {
        struct question *q = wr_list_entry(wr_list_pop(&r->questions), struct question, node);
        wr_lookup_cancel(q->lookup);
        wr_free(q);
    }
    r->cancelled = true;
    wr_task_cancel(&r->task);
    wr_env_dispose(r->env, &r->task, dispose);
}

static void maybe_done(struct wr_resolve *r)
{
    if (r->cancelled || !wr_list_empty(&r->questions))
        return;
    int err = r->found ? 0 : r->err;
    release(r);
    r->ops->on_done(r->arg, err);
}

static void report(struct wr_resolve *r, struct wr_bytes addr)
{
    if (r->cancelled || r->found >= WR_RESOLVE_ADDRS_MAX)
        return;
    r->found++;
    r->ops->on_addr(r->arg, addr);
}

/* A or AAAA record: the number replaces the name. */
static void on_ip(struct wr_resolve *r, const struct question *q, struct wr_bytes ip)
{
    struct wr_maddr addr = {.len = 0};
    uint8_t head[17] = {ip.len == 4 ? WR_MA_IP4 : WR_MA_IP6};
    if (ip.len != 4 && ip.len != 16)
        return;
    memcpy(head + 1, ip.ptr, ip.len);
    if (wr_maddr_append(&addr, WR_BYTES(head, ip.len + 1)) == 0 &&
        wr_maddr_append(&addr, wr_maddr_bytes(&q->tail)) == 0)
        report(r, wr_maddr_bytes(&addr));
}

static bool ends_with(struct wr_bytes whole, struct wr_bytes tail)
{
    return whole.len >= tail.len &&
           wr_bytes_equal(WR_BYTES(whole.ptr + whole.len - tail.len, tail.len), tail);
}

/* TXT record: "dnsaddr=" and a multiaddr; bad ones are skipped. */
static void on_txt(struct wr_resolve *r, const struct question *q, struct wr_bytes txt)
{
    static const char key[] = "dnsaddr=";
    char text[WR_MADDR_TEXT];
    struct wr_maddr addr;
    if (!wr_bytes_starts(txt, WR_BYTES_STR(key)) || txt.len - strlen(key) >= sizeof(text))
        return;
    size_t len = txt.len - strlen(key);
    memcpy(text, txt.ptr + strlen(key), len);
    text[len] = 0;
    if (strlen(text) != len || wr_maddr_parse(text, &addr) != 0)
        return;
    if (ends_with(wr_maddr_bytes(&addr), wr_maddr_bytes(&q->tail)))
        handle(r, wr_maddr_bytes(&addr), q->depth + 1);
}

static void on_answer(void *arg, int err, const struct wr_bytes *answers, size_t count)
{
    struct question *q = arg;
    struct wr_resolve *r = q->owner;
    wr_list_remove(&q->node);
    if (err != 0)
        r->err = err;
    for (size_t i = 0; i < count && !r->cancelled; i++) {
        if (q->type == WR_LOOKUP_TXT)
            on_txt(r, q, answers[i]);
        else
            on_ip(r, q, answers[i]);
    }
    wr_free(q);
    maybe_done(r);
}

static void ask(struct wr_resolve *r, struct wr_bytes name, enum wr_lookup_type type,
                struct wr_bytes tail, unsigned depth)
{
    static const char dnsaddr_prefix[] = "_dnsaddr.";
    char text[sizeof(dnsaddr_prefix) + 256];
    if (r->asked >= WR_RESOLVE_LOOKUPS_MAX || name.len > 255)
        return;
    size_t prefix = type == WR_LOOKUP_TXT ? sizeof(dnsaddr_prefix) - 1 : 0;
    memcpy(text, dnsaddr_prefix, prefix);
    memcpy(text + prefix, name.ptr, name.len);
    text[prefix + name.len] = 0;
    struct question *q = wr_alloc(sizeof(*q));
    if (!q) {
        r->err = WR_ELIMIT;
        return;
    }
    q->owner = r;
    q->type = type;
    q->depth = depth;
    wr_list_init(&q->node);
    int rc = tail.len ? wr_maddr_append(&q->tail, tail) : 0;
    if (rc == 0)
        rc = wr_env_lookup(r->env, text, type, on_answer, q, &q->lookup);
    if (rc != 0) {
        r->err = rc;
        wr_free(q);
        return;
    }
    r->asked++;
    wr_list_append(&r->questions, &q->node);
}

static void handle(struct wr_resolve *r, struct wr_bytes addr, unsigned depth)
{
    struct wr_bytes rest = addr;
    struct wr_maddr_part part;
    if (!wr_maddr_next(&rest, &part))
        return;
    bool name = part.code == WR_MA_DNS || part.code == WR_MA_DNS4 || part.code == WR_MA_DNS6 ||
                part.code == WR_MA_DNSADDR;
    if (!name) {
        report(r, addr);
        return;
    }
    if (depth > WR_RESOLVE_DEPTH_MAX)
        return;
    if (part.code == WR_MA_DNSADDR)
        ask(r, part.value, WR_LOOKUP_TXT, rest, depth);
    if (part.code == WR_MA_DNS || part.code == WR_MA_DNS6)
        ask(r, part.value, WR_LOOKUP_AAAA, rest, depth);
    if (part.code == WR_MA_DNS || part.code == WR_MA_DNS4)
        ask(r, part.value, WR_LOOKUP_A, rest, depth);
}

static void begin(struct wr_task *task)
{
    struct wr_resolve *r = wr_list_entry(task, struct wr_resolve, task);
    handle(r, wr_maddr_bytes(&r->plain), 0);
    maybe_done(r);
}

struct wr_resolve *wr_resolve_start(struct wr_env *env, struct wr_bytes addr,
                                    const struct wr_resolve_ops *ops, void *arg)
{
    struct wr_resolve *r = wr_alloc(sizeof(*r));
    if (!r)
        return NULL;
    *r = (struct wr_resolve){.env = env, .ops = ops, .arg = arg, .err = WR_ENOTFOUND};
    wr_list_init(&r->questions);
    if (wr_maddr_append(&r->plain, addr) != 0) {
        wr_free(r);
        return NULL;
    }
    wr_env_defer(env, &r->task, begin);
    return r;
}

void wr_resolve_cancel(struct wr_resolve *r)
{
    if (r && !r->cancelled)
        release(r);
}
