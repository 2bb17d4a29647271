/* Name lookups, from a table. */
#include "tests/sim/sim_priv.h"

#include <string.h>
#include <strings.h>

#define ANSWER_TIME (20 * WR_MSEC)    /* a resolver near by */

enum { NOTE_ANSWER = 48 };

struct record {
    struct wr_list node;    /* on sim->names */
    char *name;
    enum wr_lookup_type type;
    size_t len;
    uint8_t data[];
};

struct wr_lookup {
    struct sim_event event;    /* first */
    struct sim_host *host;
    struct wr_list node;       /* on host->lookups */
    enum wr_lookup_type type;
    wr_lookup_fn fn;
    void *arg;
    char name[];
};

void sim_name_add(struct sim *sim, const char *name, enum wr_lookup_type type, struct wr_bytes data)
{
    struct record *record = wr_alloc(sizeof(*record) + data.len);
    record->name = wr_strdup(name);
    record->type = type;
    record->len = data.len;
    memcpy(record->data, data.ptr, data.len);
    wr_list_append(&sim->names, &record->node);
}

void sim_names_down(struct sim *sim, bool down)
{
    sim->names_down = down;
}

void sim_names_clear(struct sim *sim)
{
    for (struct wr_list *node; (node = wr_list_pop(&sim->names));) {
        struct record *record = wr_list_entry(node, struct record, node);
        wr_free(record->name);
        wr_free(record);
    }
}

/* What needs no resolver: an address itself, and our own name. */
static size_t known(const struct wr_lookup *lookup, struct wr_ip *ip, struct wr_bytes *answer)
{
    uint8_t family = lookup->type == WR_LOOKUP_A ? 4 : 6;
    if (lookup->type == WR_LOOKUP_TXT)
        return 0;
    if (strcasecmp(lookup->name, "localhost") == 0)
        *ip = family == 4 ? (struct wr_ip){4, {127, 0, 0, 1}} : (struct wr_ip){6, {[15] = 1}};
    else if (wr_ip_parse(lookup->name, ip) != 0 || ip->family != family)
        return 0;
    *answer = WR_BYTES(ip->bytes, family == 4 ? 4 : 16);
    return 1;
}

static void on_answer(struct sim_event *event)
{
    struct wr_lookup *lookup = wr_list_entry(event, struct wr_lookup, event);
    struct sim_host *host = lookup->host;
    struct wr_bytes answers[WR_LOOKUP_ANSWERS_MAX];
    struct wr_ip ip;
    size_t count = known(lookup, &ip, &answers[0]);
    bool down = host->sim->names_down && !count;
    wr_list_each(node, &host->sim->names) {
        struct record *record = wr_list_entry(node, struct record, node);
        if (!down && count < WR_LOOKUP_ANSWERS_MAX && record->type == lookup->type &&
            strcasecmp(record->name, lookup->name) == 0)
            answers[count++] = WR_BYTES(record->data, record->len);
    }
    sim_note(host->sim, NOTE_ANSWER, host, count);
    wr_list_remove(&lookup->node);
    sim_begin(host);
    lookup->fn(lookup->arg, down ? WR_ETIMEOUT : count ? 0 : WR_ENOTFOUND, answers, count);
    sim_end(host);
    wr_free(lookup);
}

int wr_env_lookup(struct wr_env *env, const char *name, enum wr_lookup_type type, wr_lookup_fn fn,
                  void *arg, struct wr_lookup **out)
{
    struct sim_host *host = sim_host_from(env);
    size_t len = strlen(name);
    if (len == 0 || len > 253)    /* RFC 1035 section 2.3.4, as text */
        return WR_EINVAL;
    struct wr_lookup *lookup = wr_alloc(sizeof(*lookup) + len + 1);
    if (!lookup)
        return WR_ELIMIT;
    lookup->host = host;
    lookup->type = type;
    lookup->fn = fn;
    lookup->arg = arg;
    memcpy(lookup->name, name, len);
    lookup->event.host = host;
    wr_list_append(&host->lookups, &lookup->node);
    struct wr_ip ip;
    struct wr_bytes answer;
    wr_time after = known(lookup, &ip, &answer) ? 0 : host->sim->names_down ? WR_LOOKUP_TIMEOUT : ANSWER_TIME;
    if (host->up)
        sim_event_at(host->sim, &lookup->event, host->sim->now + after, on_answer);
    *out = lookup;
    return 0;
}

void wr_lookup_cancel(struct wr_lookup *lookup)
{
    sim_event_stop(lookup->host->sim, &lookup->event);
    wr_list_remove(&lookup->node);
    wr_free(lookup);
}

void sim_lookups_cut(struct sim_host *host)
{
    wr_list_each(node, &host->lookups)
        sim_event_stop(host->sim, &wr_list_entry(node, struct wr_lookup, node)->event);
}
