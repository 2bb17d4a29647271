/* Name lookups of env.h, through c-ares.
 *
 * A channel is c-ares's word for a resolver with its settings. There is none before the first question
 * that needs one; when the system's settings change a new one takes the questions from then on, and
 * the old one goes with its last answer. c-ares may answer from inside its own calls, and tells of
 * sockets before it closes them itself: answers are kept and handed over in a turn of their own. */
#include "transport/env_uv_priv.h"

#define CARES_NO_DEPRECATED    /* c-ares 1.28 has other calls instead, which the 1.18 of Debian 12 has not */
#include <ares.h>
#include <arpa/nameser.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define SETTINGS   "/etc/resolv.conf"
#define HOSTS      "/etc/hosts"
#define HOSTS_LINE 1024             /* bytes of a line; longer ones are passed over. Ours: an address and some names */
#define NAME_MAX_TEXT 253           /* bytes; RFC 1035 section 2.3.4, written out */
#define TRY_TIMEOUT_MS 1000         /* of the first try; c-ares doubles it */
#define LABEL_MAX 63                /* bytes between two dots; RFC 1035 section 2.3.4 */
#ifdef ARES_OPT_QUERY_CACHE         /* c-ares 1.31 and later */
#define CACHE_OPTION ARES_OPT_QUERY_CACHE    /* its maximum is left at 0: no memory of answers, which changed names outlive */
#define TRIES 4                     /* they may come in half the time; together more than WR_LOOKUP_TIMEOUT */
#else
#define CACHE_OPTION 0
#define TRIES 3
#endif
#define EDNS_SIZE 1232              /* bytes; the DNS Flag Day's: no fragments anywhere */
#define ANSWER_BYTES_MAX ((size_t)64 * 1024)    /* of one answer; a DNS message is no longer */

struct channel {
    struct wr_list node;      /* on dns->channels, the current one first */
    struct wr_env_uv *e;
    ares_channel ares;
    struct wr_list sockets;
    struct wr_timer timer;    /* c-ares's next time-out */
    unsigned asked;           /* questions without an answer */
    bool broken;              /* memory was out: it must not go on; its questions fail with WR_ELIMIT */
};

struct dns_socket {
    struct wr_env_uv_source source;    /* first; the descriptor is c-ares's */
    struct wr_list node;
    struct channel *channel;
};

struct settings {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

struct wr_env_uv_dns {
    struct wr_list channels;
    struct settings settings;    /* of SETTINGS, as the current channel read them */
    bool stale;                  /* the current channel is not to be asked any more */
    struct ares_addr_port_node servers[WR_ENV_UV_RESOLVERS_MAX];
    size_t server_count;         /* 0: the system's */
};

struct wr_lookup {
    struct wr_env_uv *e;
    struct channel *channel;    /* that was asked and has not answered */
    enum wr_lookup_type type;
    wr_lookup_fn fn;            /* NULL: cancelled, waits for c-ares only */
    void *arg;
    struct wr_timer timer;      /* the time-out; then, due at once, the handing over */
    int err;
    size_t count;
    struct wr_buf data;         /* the answers, one after the other */
    uint16_t lens[WR_LOOKUP_ANSWERS_MAX];
};

/* ---- answers --------------------------------------------------------------------------------------- */

static void lookup_free(struct wr_lookup *lookup)
{
    wr_buf_clear(&lookup->data);
    wr_free(lookup);
}

static void hand_over(struct wr_timer *timer)
{
    struct wr_lookup *lookup = wr_list_entry(timer, struct wr_lookup, timer);
    struct wr_bytes answers[WR_LOOKUP_ANSWERS_MAX], rest = wr_buf_bytes(&lookup->data);
    for (size_t i = 0; i < lookup->count; i++)
        answers[i] = wr_bytes_take(&rest, lookup->lens[i]);
    wr_lookup_fn fn = lookup->fn;
    lookup->fn = NULL;
    fn(lookup->arg, lookup->err, answers, lookup->count);
    if (!lookup->channel)
        lookup_free(lookup);
}

static void on_timeout(struct wr_timer *timer)
{
    wr_list_entry(timer, struct wr_lookup, timer)->err = WR_ETIMEOUT;
    hand_over(timer);
}

static void finish(struct wr_lookup *lookup, int err)
{
    lookup->err = err ? err : lookup->count ? 0 : WR_ENOTFOUND;
    wr_timer_start(&lookup->e->env, &lookup->timer, wr_env_now(&lookup->e->env), hand_over);
}

static void add(struct wr_lookup *lookup, const void *data, size_t len)
{
    if (lookup->count == WR_LOOKUP_ANSWERS_MAX)
        return;
    wr_buf_put(&lookup->data, data, len);
    if (!lookup->data.full)
        lookup->lens[lookup->count++] = (uint16_t)len;
}

static int take_a(struct wr_lookup *lookup, const unsigned char *message, int len)
{
    struct ares_addrttl found[WR_LOOKUP_ANSWERS_MAX];
    int count = WR_LOOKUP_ANSWERS_MAX;
    int status = ares_parse_a_reply(message, len, NULL, found, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; i++)
        add(lookup, &found[i].ipaddr, 4);
    return status;
}

static int take_aaaa(struct wr_lookup *lookup, const unsigned char *message, int len)
{
    struct ares_addr6ttl found[WR_LOOKUP_ANSWERS_MAX];
    int count = WR_LOOKUP_ANSWERS_MAX;
    int status = ares_parse_aaaa_reply(message, len, NULL, found, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; i++)
        add(lookup, &found[i].ip6addr, 16);
    return status;
}

/* A record is made of strings of at most 255 bytes, which belong together. */
static int take_txt(struct wr_lookup *lookup, const unsigned char *message, int len)
{
    struct ares_txt_ext *all;
    int status = ares_parse_txt_reply_ext(message, len, &all);
    if (status != ARES_SUCCESS)
        return status;
    for (struct ares_txt_ext *first = all, *next; first; first = next) {
        struct wr_buf whole;
        wr_buf_init(&whole, ANSWER_BYTES_MAX - 1);
        next = first;
        do {
            wr_buf_put(&whole, next->txt, next->length);
            next = next->next;
        } while (next && !next->record_start);
        if (whole.full)
            status = ARES_ENOMEM;
        else
            add(lookup, whole.data ? whole.data : (const uint8_t *)"", whole.len);
        wr_buf_clear(&whole);
    }
    ares_free_data(all);
    return status;
}

static int error_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_EBADNAME:
        return WR_ENOTFOUND;
    case ARES_ETIMEOUT:
        return WR_ETIMEOUT;
    case ARES_ENOMEM:
    case ARES_EDESTRUCTION:    /* only where a channel is broken */
        return WR_ELIMIT;
    default:
        return WR_EIO;
    }
}

/* Called by c-ares, once for each question. */
static void on_answer(void *arg, int status, int timeouts, unsigned char *message, int len)
{
    (void)timeouts;
    struct wr_lookup *lookup = arg;
    bool end = status == ARES_EDESTRUCTION && !lookup->channel->broken;
    lookup->channel->asked--;
    lookup->channel = NULL;
    if (!lookup->fn || end) {
        wr_timer_stop(&lookup->e->env, &lookup->timer);
        lookup_free(lookup);
        return;
    }
    if (status == ARES_SUCCESS) {
        status = lookup->type == WR_LOOKUP_A      ? take_a(lookup, message, len)
                 : lookup->type == WR_LOOKUP_AAAA ? take_aaaa(lookup, message, len)
                                                  : take_txt(lookup, message, len);
        /* Never a part of an answer: no message holds more than there is room for. */
        if (lookup->data.full)
            status = ARES_ENOMEM;
        if (status != ARES_SUCCESS)
            lookup->count = 0;
    }
    finish(lookup, error_of(status));
}

/* ---- channels ----------------------------------------------------------------------------------------- */

static void on_channel_timer(struct wr_timer *timer);

static void channel_destroy(struct channel *channel)
{
    wr_list_remove(&channel->node);
    wr_timer_stop(&channel->e->env, &channel->timer);
    ares_destroy(channel->ares);    /* takes its sockets along, on_socket_state hears of each */
    assert(wr_list_empty(&channel->sockets));
    wr_free(channel);
}

/* After anything was done with it: its next time-out may be another, or nobody needs it any more (and
 * it is gone). */
static void channel_look(struct channel *channel)
{
    struct wr_env_uv *e = channel->e;
    bool current = channel->node.prev == &e->dns->channels && !e->dns->stale;
    if (channel->broken || (!current && !channel->asked)) {
        e->dns->stale = e->dns->stale || current;
        channel_destroy(channel);
        return;
    }
    struct timeval tv, *next = ares_timeout(channel->ares, NULL, &tv);
    if (next)
        wr_timer_start(&e->env, &channel->timer,
                       wr_env_now(&e->env) + next->tv_sec * WR_SEC + next->tv_usec * WR_USEC,
                       on_channel_timer);
    else
        wr_timer_stop(&e->env, &channel->timer);
}

/* c-ares 1.34 says nothing of it when memory is out as it takes an answer in: the question is never answered, or
 * when its time is over the connection is used that it had, which is closed and freed by then. errno does say it. */
static void channel_process(struct channel *channel, int readable, int writable)
{
    errno = 0;
    ares_process_fd(channel->ares, readable, writable);
    channel->broken = channel->broken || errno == ENOMEM;
    channel_look(channel);
}

static void on_channel_timer(struct wr_timer *timer)
{
    channel_process(wr_list_entry(timer, struct channel, timer), ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void on_dns_ready(struct wr_env_uv_source *source, uint32_t events)
{
    struct dns_socket *s = (struct dns_socket *)(void *)source;
    struct channel *channel = s->channel;
    struct wr_env_uv *e = channel->e;
    bool bad = events & (EPOLLERR | EPOLLHUP);
    wr_env_uv_begin(e);
    channel_process(channel, (events & EPOLLIN) || bad ? source->fd : ARES_SOCKET_BAD,
                    (events & EPOLLOUT) || bad ? source->fd : ARES_SOCKET_BAD);
    wr_env_uv_end(e);
}

static struct dns_socket *socket_of(struct channel *channel, int fd)
{
    wr_list_each(node, &channel->sockets) {
        struct dns_socket *s = wr_list_entry(node, struct dns_socket, node);
        if (s->source.fd == fd)
            return s;
    }
    return NULL;
}

static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = arg;
    struct dns_socket *s = socket_of(channel, fd);
    uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);
    if (s && !events) {
        wr_list_remove(&s->node);
        wr_env_uv_source_forget(channel->e, &s->source);
    } else if (s) {
        wr_env_uv_source_want(channel->e, &s->source, events);
    } else if (events && !(s = wr_alloc(sizeof(*s)))) {
        channel->broken = true;    /* it would never hear of that socket */
    } else if (events) {
        s->channel = channel;
        wr_list_append(&channel->sockets, &s->node);
        wr_env_uv_source_borrow(channel->e, &s->source, fd, events, on_dns_ready);
    }
}

static struct channel *channel_create(struct wr_env_uv *e)
{
    struct wr_env_uv_dns *dns = e->dns;
    struct channel *channel = wr_alloc(sizeof(*channel));
    if (!channel)
        return NULL;
    struct ares_options options = {.flags = ARES_FLAG_EDNS, .timeout = TRY_TIMEOUT_MS, .tries = TRIES,
                                   .ednspsz = EDNS_SIZE, .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = channel};
    channel->e = e;
    wr_list_init(&channel->sockets);
    if (ares_init_options(&channel->ares, &options,
                          ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
                              ARES_OPT_SOCK_STATE_CB | CACHE_OPTION) != ARES_SUCCESS) {
        wr_free(channel);
        return NULL;
    }
    if (dns->server_count && ares_set_servers_ports(channel->ares, dns->servers) != ARES_SUCCESS) {
        ares_destroy(channel->ares);
        wr_free(channel);
        return NULL;
    }
    wr_list_insert(dns->channels.next, &channel->node);
    return channel;
}

/* Whether the settings are not those that were read last; notes them. */
static bool settings_changed(struct wr_env_uv_dns *dns)
{
    struct stat st = {0};
    stat(SETTINGS, &st);    /* no such file: all zero, like any other state */
    struct settings now = {st.st_dev, st.st_ino, st.st_size, st.st_mtim}, *old = &dns->settings;
    bool same = now.dev == old->dev && now.ino == old->ino && now.size == old->size &&
                now.changed.tv_sec == old->changed.tv_sec && now.changed.tv_nsec == old->changed.tv_nsec;
    dns->settings = now;
    return !same;
}

static struct wr_env_uv_dns *dns_of(struct wr_env_uv *e)
{
    if (!e->dns && (e->dns = wr_alloc(sizeof(*e->dns))))
        wr_list_init(&e->dns->channels);
    return e->dns;
}

static struct channel *channel_current(struct wr_env_uv *e)
{
    struct wr_env_uv_dns *dns = dns_of(e);
    if (!dns)
        return NULL;
    struct channel *old = wr_list_empty(&dns->channels)
                              ? NULL
                              : wr_list_entry(dns->channels.next, struct channel, node);
    if (settings_changed(dns))
        dns->stale = true;
    if (old && !dns->stale)
        return old;
    struct channel *channel = channel_create(e);
    if (!channel)
        return NULL;
    dns->stale = false;
    if (old && !old->asked)
        channel_destroy(old);
    return channel;
}

/* ---- questions ------------------------------------------------------------------------------------------ */

static bool ends_with(const char *name, const char *tail)
{
    size_t len = strlen(name), tail_len = strlen(tail);
    return len >= tail_len && strcasecmp(name + len - tail_len, tail) == 0;
}

/* Whether a server could know it: no label is empty or too long. c-ares has several codes for those that are. */
static bool is_askable(const char *name)
{
    for (const char *at = name; *at;) {
        size_t len = strcspn(at, ".");
        if (len == 0 || len > LABEL_MAX)
            return false;
        at += len + (at[len] == '.');
    }
    return true;
}

/* An address itself, or our own name (RFC 6761 section 6.3): nobody is asked. */
static bool answer_known(struct wr_lookup *lookup, const char *name)
{
    struct wr_ip ip;
    bool local = strcasecmp(name, "localhost") == 0 || ends_with(name, ".localhost");
    if (lookup->type == WR_LOOKUP_TXT || (!local && wr_ip_parse(name, &ip) != 0))
        return false;
    uint8_t family = lookup->type == WR_LOOKUP_A ? 4 : 6;
    if (local)
        ip = family == 4 ? (struct wr_ip){4, {127, 0, 0, 1}} : (struct wr_ip){6, {[15] = 1}};
    if (ip.family == family)
        add(lookup, ip.bytes, family == 4 ? 4 : 16);
    finish(lookup, 0);
    return true;
}

/* A line of the hosts file: an address, and the names that have it. It is changed. */
static void take_hosts_line(struct wr_lookup *lookup, char *line, const char *name)
{
    static const char blank[] = " \t\r\n";
    struct wr_ip ip;
    line[strcspn(line, "#")] = '\0';
    char *rest, *word = strtok_r(line, blank, &rest);
    if (!word || wr_ip_parse(word, &ip) != 0 || ip.family != (lookup->type == WR_LOOKUP_A ? 4 : 6))
        return;
    while ((word = strtok_r(NULL, blank, &rest)) != NULL) {
        if (strcasecmp(word, name) == 0) {
            add(lookup, ip.bytes, ip.family == 4 ? 4 : 16);
            return;
        }
    }
}

/* Read here: where memory is out meanwhile, c-ares 1.34 frees what it has read twice. */
static bool answer_from_hosts(struct wr_lookup *lookup, const char *name)
{
    FILE *file = lookup->type == WR_LOOKUP_TXT ? NULL : fopen(HOSTS, "re");
    char line[HOSTS_LINE];
    bool begins = true;
    if (!file)
        return false;
    while (fgets(line, sizeof(line), file)) {
        bool whole = strchr(line, '\n') || feof(file);
        if (begins && whole)
            take_hosts_line(lookup, line, name);
        begins = whole;
    }
    (void)fclose(file);
    if (!lookup->count)
        return false;
    finish(lookup, 0);
    return true;
}

static void ask(struct wr_lookup *lookup, struct channel *channel, const char *name)
{
    static const int types[] = {[WR_LOOKUP_A] = ns_t_a, [WR_LOOKUP_AAAA] = ns_t_aaaa,
                                [WR_LOOKUP_TXT] = ns_t_txt};
    struct wr_env *env = &lookup->e->env;
    lookup->channel = channel;
    channel->asked++;
    wr_timer_start(env, &lookup->timer, wr_env_now(env) + WR_LOOKUP_TIMEOUT, on_timeout);
    /* A bare word is a name of the local network: the search list applies. */
    if (strchr(name, '.'))
        ares_query(channel->ares, name, ns_c_in, types[lookup->type], on_answer, lookup);
    else
        ares_search(channel->ares, name, ns_c_in, types[lookup->type], on_answer, lookup);
    channel_look(channel);
}

int wr_env_lookup(struct wr_env *env, const char *name, enum wr_lookup_type type, wr_lookup_fn fn,
                  void *arg, struct wr_lookup **out)
{
    struct wr_env_uv *e = wr_env_uv_of(env);
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_TEXT)
        return WR_EINVAL;
    struct wr_lookup *lookup = wr_alloc(sizeof(*lookup));
    if (!lookup)
        return WR_ELIMIT;
    lookup->e = e;
    lookup->type = type;
    lookup->fn = fn;
    lookup->arg = arg;
    wr_buf_init(&lookup->data, ANSWER_BYTES_MAX);
    *out = lookup;
    if (answer_known(lookup, name))
        return 0;
    if (!is_askable(name)) {
        finish(lookup, 0);
        return 0;
    }
    if (answer_from_hosts(lookup, name))
        return 0;
    struct channel *channel = channel_current(e);
    if (!channel) {
        lookup_free(lookup);
        return WR_ELIMIT;
    }
    ask(lookup, channel, name);
    return 0;
}

void wr_lookup_cancel(struct wr_lookup *lookup)
{
    wr_timer_stop(&lookup->e->env, &lookup->timer);
    lookup->fn = NULL;
    if (!lookup->channel)
        lookup_free(lookup);
}

int wr_env_uv_resolvers(struct wr_env *env, const struct wr_addr *servers, size_t count)
{
    struct wr_env_uv_dns *dns = dns_of(wr_env_uv_of(env));
    if (!dns || count > WR_ENV_UV_RESOLVERS_MAX)
        return WR_ELIMIT;
    for (size_t i = 0; i < count; i++) {
        struct ares_addr_port_node *node = &dns->servers[i];
        *node = (struct ares_addr_port_node){.family = servers[i].ip.family == 4 ? AF_INET : AF_INET6,
                                             .udp_port = servers[i].port, .tcp_port = servers[i].port};
        memcpy(&node->addr, servers[i].ip.bytes, servers[i].ip.family == 4 ? 4 : 16);
        node->next = i + 1 < count ? node + 1 : NULL;
    }
    dns->server_count = count;
    dns->stale = true;
    return 0;
}

void wr_env_uv_dns_destroy(struct wr_env_uv *e)
{
    if (!e->dns)
        return;
    while (!wr_list_empty(&e->dns->channels))
        channel_destroy(wr_list_entry(e->dns->channels.next, struct channel, node));
    wr_free(e->dns);
    e->dns = NULL;
}
