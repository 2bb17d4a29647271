#include "tests/env/dns_server.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#define RECORDS_MAX 256
#define MESSAGE_MAX 65535
#define HEADER 12
#define TYPE_A 1
#define TYPE_TXT 16
#define TYPE_AAAA 28
#define TYPE_OPT 41
#define NXDOMAIN 3
#define TRUNCATED 0x0200
#define CLIENTS_MAX 8

struct client {
    struct dns_server *server;
    struct wr_sock *sock;
    struct wr_buf in;
};

struct dns_server {
    struct wr_udp *udp;
    struct wr_listener *listener;
    struct client clients[CLIENTS_MAX];
    bool mute;
    unsigned asked_udp, asked_tcp;
    size_t count;
    struct {
        char *name;
        uint16_t type;
        uint8_t *data;
        size_t len;
    } records[RECORDS_MAX];
};

static void put_record(struct wr_buf *out, uint16_t type, const uint8_t *data, size_t len)
{
    wr_buf_put_u16be(out, 0xc000 | HEADER);    /* the name of the question */
    wr_buf_put_u16be(out, type);
    wr_buf_put_u16be(out, 1);
    wr_buf_put_u32be(out, 60);
    if (type != TYPE_TXT) {
        wr_buf_put_u16be(out, (uint16_t)len);
        wr_buf_put(out, data, len);
        return;
    }
    wr_buf_put_u16be(out, (uint16_t)(len + (len + 254) / 255));
    for (size_t part; len; data += part, len -= part) {
        part = len < 255 ? len : 255;
        wr_buf_put_u8(out, (uint8_t)part);
        wr_buf_put(out, data, part);
    }
}

/* Reads the question; false when it is none that we understand. */
static bool read_question(struct wr_bytes message, char name[static 256], uint16_t *type,
                          size_t *question_len, size_t *room)
{
    struct wr_reader r;
    size_t len = 0;
    wr_reader_init(&r, message);
    wr_read_bytes(&r, 4);
    uint16_t questions = wr_read_u16be(&r);
    wr_read_bytes(&r, 4);
    uint16_t extras = wr_read_u16be(&r);
    for (uint8_t label; !r.bad && (label = wr_read_u8(&r));) {
        struct wr_bytes text = wr_read_bytes(&r, label);
        if (r.bad || len + label + 2 > 256)
            return false;
        memcpy(name + len, text.ptr, label);
        len += label;
        name[len++] = '.';
    }
    name[len ? len - 1 : 0] = 0;
    *type = wr_read_u16be(&r);
    wr_read_u16be(&r);
    *question_len = message.len - HEADER - r.rest.len;
    *room = 512;
    if (extras && wr_read_u8(&r) == 0 && wr_read_u16be(&r) == TYPE_OPT)
        *room = wr_read_u16be(&r);
    return !r.bad && questions == 1;
}

static void answer(struct dns_server *server, struct wr_bytes query, size_t room, struct wr_buf *out)
{
    char name[256];
    uint16_t type;
    size_t question_len, edns_room;
    if (!read_question(query, name, &type, &question_len, &edns_room))
        return;
    if (!room)
        room = edns_room;
    struct wr_buf records;
    wr_buf_init(&records, MESSAGE_MAX);
    uint16_t found = 0;
    bool known = false;
    for (size_t i = 0; i < server->count; i++) {
        if (strcasecmp(server->records[i].name, name) != 0)
            continue;
        known = true;
        if (server->records[i].type != type)
            continue;
        put_record(&records, type, server->records[i].data, server->records[i].len);
        found++;
    }
    bool cut = HEADER + question_len + records.len > room || records.full;
    wr_buf_put(out, query.ptr, 2);
    wr_buf_put_u16be(out, (uint16_t)(0x8180 | (cut ? TRUNCATED : 0) | (known ? 0 : NXDOMAIN)));
    wr_buf_put_u16be(out, 1);
    wr_buf_put_u16be(out, cut ? 0 : found);
    wr_buf_put_u32be(out, 0);
    wr_buf_put(out, query.ptr + HEADER, question_len);
    if (!cut)
        wr_buf_put_bytes(out, wr_buf_bytes(&records));
    wr_buf_clear(&records);
}

static void on_datagram(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct dns_server *server = arg;
    struct wr_buf out;
    (void)ifindex;
    server->asked_udp++;
    if (server->mute)
        return;
    wr_buf_init(&out, MESSAGE_MAX);
    answer(server, WR_BYTES(data, len), 0, &out);
    if (out.len)
        wr_udp_send(server->udp, from, 0, wr_buf_bytes(&out));
    wr_buf_clear(&out);
}

static const struct wr_udp_ops udp_ops = {on_datagram};

static void client_open(void *arg)
{
    (void)arg;
}

static void client_read(void *arg, uint8_t *data, size_t len)
{
    struct client *client = arg;
    wr_buf_put(&client->in, data, len);
    while (client->in.len >= 2) {
        size_t size = (size_t)client->in.data[0] << 8 | client->in.data[1];
        if (client->in.len < 2 + size)
            return;
        struct wr_buf out, framed;
        wr_buf_init(&out, MESSAGE_MAX);
        wr_buf_init(&framed, MESSAGE_MAX + 2);
        client->server->asked_tcp++;
        if (!client->server->mute)
            answer(client->server, WR_BYTES(client->in.data + 2, size), MESSAGE_MAX, &out);
        wr_buf_put_u16be(&framed, (uint16_t)out.len);
        wr_buf_put_bytes(&framed, wr_buf_bytes(&out));
        if (out.len)
            wr_sock_write(client->sock, framed.data, framed.len);
        wr_buf_clear(&framed);
        wr_buf_clear(&out);
        wr_buf_consume(&client->in, 2 + size);
    }
}

static void client_close(void *arg, int err)
{
    struct client *client = arg;
    (void)err;
    client->sock = NULL;
    wr_buf_clear(&client->in);
}

static const struct wr_sock_ops client_ops = {.on_open = client_open, .on_read = client_read,
                                             .on_drain = client_open, .on_close = client_close};

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct dns_server *server = arg;
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &server->clients[i];
        if (client->sock)
            continue;
        client->server = server;
        client->sock = sock;
        wr_buf_init(&client->in, MESSAGE_MAX + 2);
        wr_sock_attach(sock, &client_ops, client);
        return;
    }
    wr_sock_close(sock, true);
}

static void on_starved(void *arg, int err)
{
    (void)arg, (void)err;
}

static const struct wr_listener_ops listener_ops = {on_accept, on_starved};

struct dns_server *dns_server_create(struct wr_env *env, struct wr_addr *at)
{
    struct dns_server *server = wr_alloc(sizeof(*server));
    for (int tries = 0; tries < 20; tries++) {
        struct wr_addr bound = *at;
        if (wr_env_udp(env, &bound, false, &udp_ops, server, &server->udp) != 0)
            break;
        wr_udp_addr(server->udp, &bound);
        if (wr_env_listen(env, &bound, &listener_ops, server, &server->listener) == 0) {
            *at = bound;
            return server;
        }
        wr_udp_close(server->udp);
    }
    wr_free(server);
    return NULL;
}

void dns_server_destroy(struct dns_server *server)
{
    wr_udp_close(server->udp);
    wr_listener_close(server->listener);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (server->clients[i].sock)
            wr_sock_close(server->clients[i].sock, true);
        wr_buf_clear(&server->clients[i].in);
    }
    for (size_t i = 0; i < server->count; i++) {
        wr_free(server->records[i].name);
        wr_free(server->records[i].data);
    }
    wr_free(server);
}

void dns_server_add(struct dns_server *server, const char *name, enum wr_lookup_type type,
                    struct wr_bytes record)
{
    static const uint16_t types[] = {[WR_LOOKUP_A] = TYPE_A, [WR_LOOKUP_AAAA] = TYPE_AAAA,
                                     [WR_LOOKUP_TXT] = TYPE_TXT};
    assert(server->count < RECORDS_MAX);
    size_t i = server->count++;
    server->records[i].name = wr_strdup(name);
    server->records[i].type = types[type];
    server->records[i].data = wr_memdup(record.ptr, record.len);
    server->records[i].len = record.len;
}

void dns_server_mute(struct dns_server *server, bool mute)
{
    server->mute = mute;
}

unsigned dns_server_asked(const struct dns_server *server, bool over_tcp)
{
    return over_tcp ? server->asked_tcp : server->asked_udp;
}
