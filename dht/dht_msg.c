#include "dht/dht_msg.h"

#include "dht/dht.pb-c.h"
#include "transport/err.h"
#include "transport/pb.h"

#include <string.h>

/* Field numbers, dht.proto. */
enum { MSG_TYPE = 1, MSG_KEY = 2, MSG_RECORD = 3, MSG_CLOSER = 8, MSG_PROVIDERS = 9 };
enum { RECORD_KEY = 1, RECORD_VALUE = 2, RECORD_TIME = 5 };
enum { PEER_ID = 1, PEER_ADDRS = 2 };

/* ---- decoding: in place, so that a message takes no memory but its list of peers ------------ */

/* An address as it may be used: checked, and without the /p2p/<id> that some senders leave on it.
 * Nothing when it is malformed, or names another peer than the entry it stands in. */
static struct wr_bytes usable_addr(struct wr_bytes raw, const struct wr_peerid *owner)
{
    struct wr_maddr checked;
    struct wr_peerid named;
    if (raw.len == 0 || wr_maddr_decode(raw, &checked) != 0)
        return WR_BYTES_NONE;
    size_t len = wr_maddr_strip_peer(raw).len;
    if (len < raw.len && wr_maddr_peer(raw, &named) && !wr_peerid_equal(&named, owner))
        return WR_BYTES_NONE;
    return WR_BYTES(raw.ptr, len);
}

/* First reading of a Peer: its id (len 0: unusable) and how many address fields it has. */
static int scan_peer(struct wr_bytes in, struct wr_peerid *id, size_t *addrs)
{
    struct wr_pb_field f;
    int rc;
    id->len = 0;
    *addrs = 0;
    while ((rc = wr_pb_next(&in, &f)) > 0) {
        if (f.number != PEER_ID && f.number != PEER_ADDRS)
            continue;
        if (f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        if (f.number == PEER_ADDRS)
            ++*addrs;
        else if (wr_peerid_decode(f.bytes, id) != 0)
            id->len = 0;
    }
    if (*addrs > WR_DHT_ADDRS_IN_MAX)
        *addrs = WR_DHT_ADDRS_IN_MAX;
    return rc;
}

static size_t take_addrs(struct wr_bytes in, const struct wr_peerid *id, struct wr_bytes *addrs,
                         size_t max)
{
    struct wr_pb_field f;
    size_t count = 0;
    while (count < max && wr_pb_next(&in, &f) > 0) {
        struct wr_bytes addr = f.number == PEER_ADDRS ? usable_addr(f.bytes, id) : WR_BYTES_NONE;
        if (addr.len > 0)
            addrs[count++] = addr;
    }
    return count;
}

static int read_record(struct wr_bytes in, struct wr_dht_record *record)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) > 0) {
        if (f.number != RECORD_KEY && f.number != RECORD_VALUE && f.number != RECORD_TIME)
            continue;
        if (f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        if (f.number == RECORD_KEY)
            record->key = f.bytes;
        else if (f.number == RECORD_VALUE)
            record->value = f.bytes;
        else
            record->time_received = f.bytes;
    }
    return record->key.len > WR_DHT_KEY_MAX ? WR_EPROTO : rc;
}

/* Where the peers go; before there is memory for them they are only counted. */
struct intake {
    struct wr_dht_msg *msg;
    struct wr_bytes *addrs;
    size_t addr_count;
    bool counting;
};

static int read_peer(struct intake *in, struct wr_bytes body, bool closer)
{
    struct wr_dht_msg *msg = in->msg;
    size_t *count = closer ? &msg->closer_count : &msg->provider_count;
    struct wr_peerid id;
    size_t addrs;
    int rc = scan_peer(body, &id, &addrs);
    if (rc != 0 || id.len == 0 || *count == (closer ? WR_DHT_CLOSER_MAX : WR_DHT_PROVIDERS_MAX))
        return rc;
    if (!in->counting) {
        struct wr_dht_peer *peer = closer ? &msg->closer[*count] : &msg->providers[*count];
        peer->id = id;
        peer->addrs = in->addrs + in->addr_count;
        peer->count = addrs = take_addrs(body, &id, peer->addrs, addrs);
    }
    in->addr_count += addrs;
    ++*count;
    return 0;
}

static int read_field(struct intake *in, const struct wr_pb_field *f)
{
    struct wr_dht_msg *msg = in->msg;
    if (f->number == MSG_TYPE) {
        msg->type = f->value <= INT32_MAX ? (int)f->value : -1;
        return f->wire == WR_PB_VARINT ? 0 : WR_EPROTO;
    }
    bool known = f->number == MSG_KEY || f->number == MSG_RECORD || f->number == MSG_CLOSER ||
                 f->number == MSG_PROVIDERS;
    if (known && f->wire != WR_PB_BYTES)
        return WR_EPROTO;
    switch (f->number) {
    case MSG_KEY:
        msg->key = f->bytes;
        return f->bytes.len <= WR_DHT_KEY_MAX ? 0 : WR_EPROTO;
    case MSG_RECORD:
        msg->has_record = true;
        return read_record(f->bytes, &msg->record);
    case MSG_CLOSER:
        return read_peer(in, f->bytes, true);
    case MSG_PROVIDERS:
        return read_peer(in, f->bytes, false);
    default:
        return 0;
    }
}

static int read_message(struct intake *in, struct wr_bytes body)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&body, &f)) > 0) {
        rc = read_field(in, &f);
        if (rc != 0)
            return rc;
    }
    return rc;
}

int wr_dht_msg_decode(struct wr_bytes in, struct wr_dht_msg *out)
{
    struct intake intake = {.msg = out, .counting = true};
    memset(out, 0, sizeof(*out));
    int rc = in.len <= WR_DHT_RECV_MAX ? read_message(&intake, in) : WR_EPROTO;
    size_t peers = out->closer_count + out->provider_count;
    if (rc == 0 && peers > 0) {
        out->memory = wr_alloc(peers * sizeof(struct wr_dht_peer) +
                               intake.addr_count * sizeof(struct wr_bytes));
        if (!out->memory)
            rc = WR_ELIMIT;
    }
    if (rc == 0 && peers > 0) {
        out->closer = out->memory;
        out->providers = out->closer + out->closer_count;
        intake.addrs = (struct wr_bytes *)(void *)(out->closer + peers);
        intake.counting = false;
        intake.addr_count = out->closer_count = out->provider_count = 0;
        rc = read_message(&intake, in);
    }
    if (rc != 0)
        wr_dht_msg_clear(out);
    return rc;
}

void wr_dht_msg_clear(struct wr_dht_msg *msg)
{
    wr_free(msg->memory);
    memset(msg, 0, sizeof(*msg));
}

/* ---- encoding -----------------------------------------------------------------------------------
 */

unsigned wr_dht_addr_rank(struct wr_bytes ma)
{
    struct wr_addr addr;
    bool public_ip = wr_maddr_addr(ma, &addr) && wr_ip_classify(&addr.ip) == WR_IP_PUBLIC;
    switch (wr_maddr_kind(ma)) {
    case WR_MADDR_QUIC:
        return public_ip ? 0 : 3;
    case WR_MADDR_TCP:
        return public_ip ? 1 : 4;
    case WR_MADDR_DNS:
    case WR_MADDR_DNSADDR:
        return 2;
    case WR_MADDR_OTHER:
        return public_ip ? 5 : 6;
    case WR_MADDR_CIRCUIT:
        break;
    }
    return 7;
}

/* Stable insertion sort: a peer has few addresses and they are mostly in order. */
static void sort_addrs(struct wr_bytes *addrs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct wr_bytes addr = addrs[i];
        unsigned rank = wr_dht_addr_rank(addr);
        size_t at = i;
        for (; at > 0 && wr_dht_addr_rank(addrs[at - 1]) > rank; at--)
            addrs[at] = addrs[at - 1];
        addrs[at] = addr;
    }
}

/* What protobuf-c packs from: the message, its peers and their address slots, in one allocation as large as this
 * message needs. */
struct draft_peer {
    Wr__Dht__Peer pb;
    ProtobufCBinaryData addrs[WR_DHT_ADDRS_OUT_MAX];
    size_t addr_count;
};

struct draft {
    Wr__Dht__Message msg;
    Wr__Dht__Record record;
    Wr__Dht__Peer **peer_ptrs; /* into the same allocation, behind peers */
    size_t peer_count;
    struct draft_peer peers[];
};

static void draft_peers(struct draft *d, const struct wr_dht_peer *peers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct draft_peer *to = &d->peers[d->peer_count];
        wr__dht__peer__init(&to->pb);
        to->pb.id = wr_pb_bytes(wr_peerid_bytes(&peers[i].id));
        to->pb.addrs = to->addrs;
        sort_addrs(peers[i].addrs, peers[i].count);
        size_t kept = 0;
        for (size_t j = 0; j < peers[i].count && kept < WR_DHT_ADDRS_OUT_MAX; j++) {
            if (peers[i].addrs[j].len > 0)
                to->addrs[kept++] = wr_pb_bytes(peers[i].addrs[j]);
        }
        to->addr_count = kept;
        d->peer_ptrs[d->peer_count++] = &to->pb;
    }
}

static size_t draft_size(struct draft *d, size_t addrs_max)
{
    for (size_t i = 0; i < d->peer_count; i++)
        d->peers[i].pb.n_addrs = d->peers[i].addr_count < addrs_max ? d->peers[i].addr_count : addrs_max;
    return wr__dht__message__get_packed_size(&d->msg);
}

/* Fewer addresses for everybody before anybody is left out: a peer with one good address can be
 * asked for the others. */
static bool draft_fit(struct draft *d, size_t size_max)
{
    for (size_t addrs_max = WR_DHT_ADDRS_OUT_MAX; addrs_max > 0; addrs_max--) {
        if (draft_size(d, addrs_max) <= size_max)
            return true;
    }
    while (d->msg.n_provider_peers > 0 && draft_size(d, 1) > size_max)
        d->msg.n_provider_peers--;
    while (d->msg.n_closer_peers > 0 && draft_size(d, 1) > size_max)
        d->msg.n_closer_peers--;
    return draft_size(d, 1) <= size_max;
}

/* NULL: out of memory. */
static struct draft *draft_create(const struct wr_dht_msg *msg)
{
    size_t closer = msg->closer_count < WR_DHT_CLOSER_MAX ? msg->closer_count : WR_DHT_CLOSER_MAX;
    size_t providers =
        msg->provider_count < WR_DHT_PROVIDERS_MAX ? msg->provider_count : WR_DHT_PROVIDERS_MAX;
    size_t peers = closer + providers;
    /* Not zeroed: all of it that is read is filled in below. */
    struct draft *d = wr_realloc(
        NULL, sizeof(*d) + peers * (sizeof(struct draft_peer) + sizeof(Wr__Dht__Peer *)));
    if (!d)
        return NULL;
    d->peer_count = 0;
    d->peer_ptrs = (Wr__Dht__Peer **)(void *)(d->peers + peers);
    wr__dht__message__init(&d->msg);
    d->msg.type = msg->type;
    d->msg.key = wr_pb_bytes(msg->key);
    if (msg->has_record) {
        wr__dht__record__init(&d->record);
        d->record.key = wr_pb_bytes(msg->record.key);
        d->record.value = wr_pb_bytes(msg->record.value);
        d->record.time_received = wr_pb_bytes(msg->record.time_received);
        d->msg.record = &d->record;
    }
    draft_peers(d, msg->closer, closer);
    draft_peers(d, msg->providers, providers);
    d->msg.closer_peers = d->peer_ptrs;
    d->msg.n_closer_peers = closer;
    d->msg.provider_peers = d->peer_ptrs + closer;
    d->msg.n_provider_peers = providers;
    return d;
}

int wr_dht_msg_encode(const struct wr_dht_msg *msg, size_t size_max, struct wr_buf *out)
{
    struct draft *d = draft_create(msg);
    if (!d)
        return WR_ELIMIT;
    int rc = WR_ELIMIT;
    if (draft_fit(d, size_max)) {
        wr_pb_pack(&d->msg.base, out);
        rc = out->full ? WR_ELIMIT : 0;
    }
    wr_free(d);
    return rc;
}
