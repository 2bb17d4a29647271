/* Methods of names: join, leave, joined. What was joined is kept in the store, so that it outlives
 * the node until it is left. */
#include "node/methods_impl.h"

#include "dht/dht.h"
#include "dht/namespace.h"

#include <stdio.h>
#include <string.h>

struct joined {
    struct wr_list node;
    struct wr_methods *m;
    struct wr_dht_name *legs[WR_METHODS_DHTS];
    uint64_t sightings;
    char name[WR_NAMESPACE_MAX + 1];
};

static struct joined *find_joined(const struct wr_methods *m, const char *name)
{
    wr_list_each(node, &m->joined)
    {
        struct joined *j = wr_list_entry(node, struct joined, node);
        if (strcmp(j->name, name) == 0)
            return j;
    }
    return NULL;
}

static void on_member(void *arg, const struct wr_dht_peer *peer)
{
    struct joined *j = arg;
    j->sightings++;
    struct wr_pack *p = wr_control_event(j->m->o.control, "member-found");
    if (!p)
        return;
    wr_pack_text(p, "name", j->name);
    wr_methods_pack_peer(p, peer);
    wr_control_event_send(j->m->o.control);
}

static void joined_free(struct joined *j)
{
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++)
        if (j->legs[i])
            wr_dht_leave(j->legs[i]);
    wr_list_remove(&j->node);
    wr_free(j);
}

static int join(struct wr_methods *m, const char *name)
{
    static const struct wr_dht_ops ops = {.on_peer = on_member};
    struct joined *j = wr_alloc(sizeof(*j));
    int err = WR_ELIMIT;
    bool any = false;
    if (!j)
        return err;
    j->m = m;
    memcpy(j->name, name, strlen(name) + 1);
    wr_list_init(&j->node);
    wr_list_append(&m->joined, &j->node);
    for (unsigned i = 0; i < WR_METHODS_DHTS; i++) {
        if (m->o.dht[i])
            j->legs[i] = wr_dht_join(m->o.dht[i], wr_bytes_cstr(j->name), &ops, j, &err);
        any |= j->legs[i] != NULL;
    }
    if (!any)
        joined_free(j);
    return any ? 0 : err;
}

static struct wr_bytes join_key(char out[static WR_NAMESPACE_MAX + 8], const char *name)
{
    int len = snprintf(out, WR_NAMESPACE_MAX + 8, "join/%s", name);
    return WR_BYTES(out, len > 0 ? (size_t)len : 0);
}

static void on_join(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char name[WR_NAMESPACE_MAX + 1], key[WR_NAMESPACE_MAX + 8];
    if (!wr_methods_name_param(call, params, name) || wr_methods_dht_off(m, call))
        return;
    int err = find_joined(m, name) ? 0 : join(m, name);
    if (err) {
        wr_call_fail(call, err, NULL);
        return;
    }
    wr_pack_text(wr_call_result(call), "name", name);
    wr_methods_keep(m, call, join_key(key, name), true);
}

static void on_leave(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    char name[WR_NAMESPACE_MAX + 1], key[WR_NAMESPACE_MAX + 8];
    if (!wr_methods_name_param(call, params, name))
        return;
    struct joined *j = find_joined(m, name);
    if (!j) {
        wr_call_fail(call, WR_ENOTFOUND, "%.128s was not joined; `warren join` lists what was",
                     name);
        return;
    }
    joined_free(j);
    wr_pack_text(wr_call_result(call), "name", name);
    wr_methods_keep(m, call, join_key(key, name), false);
}

static void on_joined(void *arg, struct wr_call *call, struct wr_params *params)
{
    struct wr_methods *m = arg;
    struct wr_pack *p = wr_call_result(call);
    (void)params;
    wr_pack_array(p, "names");
    wr_list_each(node, &m->joined)
    {
        const struct joined *j = wr_list_entry(node, struct joined, node);
        wr_pack_map(p, NULL);
        wr_pack_text(p, "name", j->name);
        wr_pack_u64(p, "sightings", j->sightings);
        wr_pack_end(p);
    }
    wr_pack_end(p);
    wr_call_done(call);
}

/* Collects the names, each with a NUL: joining writes to the store, which a visitor must not do. */
static bool collect(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct wr_buf *names = arg;
    (void)value;
    if (key.len <= 5 || key.len - 5 > WR_NAMESPACE_MAX || memchr(key.ptr, '\0', key.len))
        return true;
    wr_buf_put(names, key.ptr + 5, key.len - 5);
    wr_buf_put_u8(names, 0);
    return true;
}

static void join_again(struct wr_methods *m)
{
    struct wr_buf names;
    wr_buf_init(&names, WR_DHT_NAMES_MAX * (WR_NAMESPACE_MAX + 1));
    (void)wr_kv_scan(m->o.kv, WR_BYTES_STR("join/"), WR_BYTES_NONE, collect, &names);
    for (size_t at = 0; at < names.len; at += strlen((const char *)names.data + at) + 1)
        (void)join(m, (const char *)names.data + at);
    wr_buf_clear(&names);
}

void wr_methods_name_save(struct wr_methods *m)
{
    char key[WR_NAMESPACE_MAX + 8];
    wr_list_each(node, &m->joined)
    {
        const struct joined *j = wr_list_entry(node, struct joined, node);
        (void)wr_kv_put(m->o.kv, join_key(key, j->name), WR_BYTES_STR("1"));
    }
}

int wr_methods_name(struct wr_methods *m)
{
    static const struct wr_methods_entry list[] = {
        {"join", on_join}, {"leave", on_leave}, {"joined", on_joined}, {NULL, NULL}};
    if (m->o.kv && m->o.dht[0])
        join_again(m);
    return wr_methods_register(m, list);
}

void wr_methods_name_end(struct wr_methods *m)
{
    while (!wr_list_empty(&m->joined))
        joined_free(wr_list_entry(m->joined.next, struct joined, node));
}
