#include "identify/identify.h"

#include "identify/identify_impl.h"

#include <string.h>

/* ---- links: what the service keeps per connection ------------------------------------------------------ */

struct link *wr_identify_link(const struct wr_identify *id, const struct wr_conn *conn)
{
    return conn ? wr_map_get(&id->links, WR_BYTES(&conn->id, sizeof(conn->id))) : NULL;
}

static struct link *make_link(struct wr_identify *id, struct wr_conn *conn)
{
    struct link *link = wr_alloc(sizeof(*link));
    if (!link)
        return NULL;
    link->conn = conn;
    link->conn_id = conn->id;
    link->push_tokens = WR_IDENTIFY_PUSH_BURST;
    wr_list_init(&link->vote.node);
    if (wr_map_put(&id->links, WR_BYTES(&link->conn_id, sizeof(link->conn_id)), link) == 0)
        return link;
    wr_free(link);
    return NULL;
}

static void free_link(struct wr_identify *id, struct link *link)
{
    if (link->ask)
        wr_identify_reading_end(link->ask);
    bool voted = link->vote.of != NULL;
    wr_time now = wr_env_now(id->env);
    wr_observed_leave(&id->observed, &link->vote, now);
    if (voted)
        wr_identify_judge_at(id, now + WR_OBSERVED_MEMORY);
    wr_map_del(&id->links, WR_BYTES(&link->conn_id, sizeof(link->conn_id)));
    wr_free(link);
}

/* ---- our own side: what we say, by the scope of who listens -------------------------------------------- */

static uint64_t next_seq(struct wr_identify *id)
{
    uint64_t seq = id->options.next_seq ? id->options.next_seq(id->options.arg)
                                        : (uint64_t)wr_env_unix(id->env);
    id->seq = seq > id->seq ? seq : id->seq + 1;
    return id->seq;
}

/* The same for the same set, in whatever order. Hashing with a map's seed would do as well; FNV-1a is
 * enough because all of it is our own. */
static uint64_t hash_one(struct wr_bytes bytes, uint64_t salt)
{
    uint64_t h = 0xcbf29ce484222325u ^ salt;
    for (size_t i = 0; i < bytes.len; i++)
        h = (h ^ bytes.ptr[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static uint64_t hash_self(const struct wr_identify_self *self)
{
    uint64_t sum = 1;    /* 0 means: told nothing yet */
    for (size_t i = 0; i < self->addr_count; i++)
        sum += hash_one(wr_maddr_bytes(&self->addrs[i]), 1);
    for (size_t i = 0; i < self->protocols->count; i++) {
        if (!self->protocols->of[i]->hidden)
            sum += hash_one(wr_bytes_cstr(self->protocols->of[i]->name), 2);
    }
    return sum ? sum : 1;
}

static struct wr_identify_self bare_self(const struct wr_identify *id)
{
    return (struct wr_identify_self){
        .pubkey = wr_buf_bytes(&id->pubkey),
        .agent = id->options.agent,
        .protocol_version = id->options.protocol_version,
        .protocols = wr_swarm_protocols(id->swarm),
    };
}

static bool fresh(const struct wr_identify *id, const struct snapshot *snap)
{
    return snap->hash && snap->addrs_generation == wr_swarm_addrbook(id->swarm)->generation &&
           snap->protocols_generation == wr_swarm_protocols(id->swarm)->generation;
}

/* Makes the snapshot again: the addresses that fit, and a record signed over just these. */
static int refresh(struct wr_identify *id, struct snapshot *snap, const struct wr_ip *to)
{
    static const uint8_t longest[WR_MADDR_MAX];
    struct wr_addrbook *book = wr_swarm_addrbook(id->swarm);
    struct wr_maddr addrs[WR_ADDRBOOK_MAX];
    struct wr_identify_self self = bare_self(id);
    self.addrs = addrs;
    self.addr_count = wr_addrbook_announce(book, to, addrs, WR_ADDRBOOK_MAX);
    self.observed = WR_BYTES(longest, sizeof(longest));
    self.addr_count = wr_identify_fit(&self);
    uint64_t hash = hash_self(&self);
    snap->addrs_generation = book->generation;
    snap->protocols_generation = self.protocols->generation;
    if (hash == snap->hash)
        return 0;    /* changes that these peers are not told */
    struct wr_maddr *copy = wr_memdup(addrs, self.addr_count * sizeof(addrs[0]));
    if (!copy)
        return WR_ELIMIT;
    wr_free(snap->addrs);
    snap->addrs = copy;
    snap->addr_count = self.addr_count;
    snap->hash = hash;
    wr_buf_clear(&snap->record);
    wr_buf_init(&snap->record, WR_ENVELOPE_MAX);
    if (snap->addr_count)
        wr_peer_record_seal(wr_swarm_key(id->swarm), next_seq(id), copy, snap->addr_count,
                            &snap->record);
    if (!snap->record.full)
        return 0;
    wr_buf_clear(&snap->record);
    snap->hash = 0;
    return WR_ELIMIT;
}

const struct snapshot *wr_identify_snapshot(struct wr_identify *id, const struct wr_conn *conn)
{
    struct wr_addrbook *book = wr_swarm_addrbook(id->swarm);
    /* Behind a relay sits somebody we know nothing of: what everybody may know. */
    const struct wr_ip *to = conn->circuit ? NULL : &conn->remote.ip;
    struct snapshot *snap = &id->snapshots[wr_addrbook_scope(book, to)];
    if (!fresh(id, snap) && refresh(id, snap, to) < 0)
        return NULL;
    return snap;
}

uint64_t wr_identify_compose(struct wr_identify *id, const struct wr_conn *conn, struct wr_buf *out)
{
    const struct snapshot *snap = wr_identify_snapshot(id, conn);
    if (!snap)
        return 0;
    struct wr_maddr remote;
    struct wr_identify_self self = bare_self(id);
    wr_conn_remote(conn, &remote);
    /* Over a relay we see the relay. Who is told its address takes it for his own: go-libp2p 3043. */
    self.observed = conn->circuit ? WR_BYTES_NONE : wr_maddr_bytes(&remote);
    self.addrs = snap->addrs;
    self.addr_count = snap->addr_count;
    self.record = wr_buf_bytes(&snap->record);
    wr_identify_encode(&self, out);
    return out->full ? 0 : snap->hash;
}

/* ---- pushing -------------------------------------------------------------------------------------------- */

static void push_round(struct wr_timer *timer);

static void push_later(struct wr_identify *id, wr_time at)
{
    if (!wr_timer_running(&id->push_timer) || at < id->push_timer.at)
        wr_timer_start(id->env, &id->push_timer, at, push_round);
}

static wr_time push_next(const struct wr_identify *id, const struct link *link)
{
    if (!link->push_tries && id->reached_at > link->pushed_at)
        return link->push_paid_at - (WR_IDENTIFY_PROMPT_MAX - 1) * WR_IDENTIFY_PUSH_EVERY;
    return link->pushed_at ? link->pushed_at + (WR_IDENTIFY_PUSH_EVERY << link->push_tries) : 0;
}

/* Is there news for the peer of this connection, and may it be told now? */
static bool push_due(struct wr_identify *id, struct link *link)
{
    struct wr_conn *c = link->conn;
    /* Who was told nothing yet will ask, and gets the latest. */
    if (!link->told || link->pushing || link->push_refused || c->closing ||
        wr_swarm_conn(id->swarm, &c->peer) != c ||
        wr_peerstore_speaks(wr_swarm_peerstore(id->swarm), &c->peer, WR_IDENTIFY_PUSH) == 0)
        return false;
    const struct snapshot *snap = wr_identify_snapshot(id, c);
    if (!snap)    /* out of memory */
        push_later(id, wr_env_now(id->env) + WR_IDENTIFY_PUSH_EVERY);
    if (!snap || snap->hash == link->told)
        return false;
    wr_time next = push_next(id, link);
    if (next > wr_env_now(id->env)) {
        push_later(id, next);
        return false;
    }
    return true;
}

static void push_to(struct wr_conn *c, void *arg)
{
    struct wr_identify *id = arg;
    struct link *link = wr_identify_link(id, c);
    if (!link || !push_due(id, link))
        return;
    if (id->pushes >= WR_IDENTIFY_PUSHES_MAX)
        id->push_waiting = true;
    else
        wr_identify_push(id, link);
}

static void push_round(struct wr_timer *timer)
{
    struct wr_identify *id = wr_list_entry(timer, struct wr_identify, push_timer);
    id->push_waiting = false;
    wr_swarm_each(id->swarm, push_to, id);
}

void wr_identify_push_sent(struct wr_identify *id)
{
    if (id->push_waiting)
        push_later(id, wr_env_now(id->env));
}

void wr_identify_push_over(struct wr_identify *id, struct link *link)
{
    const struct snapshot *snap = link->conn->closing ? NULL : wr_identify_snapshot(id, link->conn);
    if (!link->conn->closing && (!snap || snap->hash != link->told))
        push_later(id, push_next(id, link));
}

/* ---- observed addresses --------------------------------------------------------------------------------- */

static bool is_active(const struct wr_identify *id, struct wr_bytes addr)
{
    struct wr_waist waist;
    if (!wr_waist_of(addr, &waist))
        return false;
    for (size_t i = 0; i < id->observed.active_count; i++) {
        const struct wr_waist *a = &id->observed.active[i].external;
        if (a->udp == waist.udp && wr_addr_equal(&a->addr, &waist.addr))
            return true;
    }
    return false;
}

static bool is_among(const struct wr_waist *list, size_t count, struct wr_bytes addr)
{
    struct wr_waist waist;
    if (!wr_waist_of(addr, &waist))
        return false;
    for (size_t i = 0; i < count; i++)
        if (list[i].udp == waist.udp && wr_addr_equal(&list[i].addr, &waist.addr))
            return true;
    return false;
}

static void put(struct wr_identify *id, const struct wr_waist *seen, enum wr_addr_source source)
{
    struct wr_maddr addr;
    char text[WR_MADDR_TEXT];
    if (wr_maddr_from_addr(&seen->addr, seen->udp, &addr) != 0 ||
        !wr_addrbook_put(wr_swarm_addrbook(id->swarm), wr_maddr_bytes(&addr), source, wr_env_now(id->env)))
        return;
    wr_log(wr_env_log(id->env), source == WR_ADDR_OBSERVED ? WR_LOG_INFO : WR_LOG_DEBUG, "identify",
           "seen from outside addr=%s enough=%d",
           wr_maddr_print(wr_maddr_bytes(&addr), text, sizeof(text)), source == WR_ADDR_OBSERVED);
}

/* The newest places where few saw us, in the public; the address book takes them as candidates. */
static size_t candidates(const struct wr_identify *id, struct wr_waist out[static WR_IDENTIFY_CANDIDATES])
{
    struct wr_waist fresh[WR_IDENTIFY_FRESH];
    size_t count = wr_observed_fresh(&id->observed, fresh, WR_IDENTIFY_FRESH), n = 0;
    for (size_t i = 0; i < count && n < WR_IDENTIFY_CANDIDATES; i++) {
        struct wr_maddr addr;
        if (wr_policy_is_public(wr_swarm_policy(id->swarm), &fresh[i].addr.ip) &&
            wr_maddr_from_addr(&fresh[i].addr, fresh[i].udp, &addr) == 0 &&
            !is_active(id, wr_maddr_bytes(&addr)))
            out[n++] = fresh[i];
    }
    return n;
}

/* Makes the address book agree with what is active and what is new. What comes in goes in before the rest goes
 * out, so that an address that changes its standing keeps its verdict. */
static void apply(struct wr_identify *id)
{
    struct wr_addrbook *book = wr_swarm_addrbook(id->swarm);
    struct wr_waist fresh[WR_IDENTIFY_CANDIDATES];
    size_t count = candidates(id, fresh);
    uint64_t before = book->generation;
    for (size_t i = 0; i < id->observed.active_count; i++)
        put(id, &id->observed.active[i].external, WR_ADDR_OBSERVED);
    for (size_t i = 0; i < count; i++)
        put(id, &fresh[i], WR_ADDR_CANDIDATE);
    for (size_t i = book->count; i > 0; i--) {
        struct wr_maddr addr = book->of[i - 1].addr;
        enum wr_addr_source source = book->of[i - 1].source;
        struct wr_bytes bytes = wr_maddr_bytes(&addr);
        if ((source == WR_ADDR_OBSERVED && !is_active(id, bytes)) ||
            (source == WR_ADDR_CANDIDATE && !is_among(fresh, count, bytes)))
            (void)wr_addrbook_del(book, bytes, source);
    }
    if (book->generation != before)
        wr_swarm_addrs_changed(id->swarm);
}

static void judge(struct wr_timer *timer)
{
    struct wr_identify *id = wr_list_entry(timer, struct wr_identify, judge_timer);
    (void)wr_observed_judge(&id->observed, wr_env_now(id->env));
    apply(id);
    wr_time next = wr_observed_next(&id->observed);
    if (next)
        wr_identify_judge_at(id, next);
}

void wr_identify_judge_at(struct wr_identify *id, wr_time at)
{
    if (!wr_timer_running(&id->judge_timer) || at < id->judge_timer.at)
        wr_timer_start(id->env, &id->judge_timer, at, judge);
}

/* Observations of sockets that are gone (another network, another address) mean nothing any more. */
static void drop_old_sockets(struct wr_identify *id)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(id->swarm);
    struct wr_waist locals[WR_ADDRBOOK_MAX];
    size_t count = 0;
    for (size_t i = 0; i < book->count; i++) {
        if (book->of[i].source == WR_ADDR_LISTEN &&
            wr_waist_of(wr_maddr_bytes(&book->of[i].addr), &locals[count]))
            count++;
    }
    wr_observed_keep(&id->observed, locals, count);
    wr_identify_judge_at(id, wr_env_now(id->env));
}

size_t wr_identify_candidates(const struct wr_identify *id, struct wr_candidate *out, size_t max)
{
    return wr_observed_list(&id->observed, out, max);
}

struct moved {
    struct wr_identify *id;
    unsigned left;    /* peers still to be asked */
};

/* A connection that outlived a change of our network has another address outside now, and only its peer knows. Over
 * each path once: of two connections to a peer the better one is asked. */
static void ask_where(struct wr_conn *c, void *arg)
{
    struct moved *round = arg;
    struct link *link = wr_identify_link(round->id, c);
    if (!link || !round->left || c->circuit || c->closing || !c->port_reused || !c->identified ||
        wr_swarm_conn(round->id->swarm, &c->peer) != c ||
        !wr_policy_is_public(wr_swarm_policy(round->id->swarm), &c->remote.ip))
        return;
    round->left -= wr_identify_ask_anew(round->id, link);
}

static void on_moved(struct wr_timer *timer)
{
    struct moved round = {wr_list_entry(timer, struct wr_identify, moved_timer), WR_IDENTIFY_MOVED_PEERS};
    wr_swarm_each(round.id->swarm, ask_where, &round);
}

/* When it is news where we can be reached: how long such changes gather. Relays seldom come or go alone: those that do
 * wait for others as long as any change, but for no earlier push. */
static wr_time gather_for(struct wr_identify *id)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(id->swarm);
    uint64_t direct = 0, relayed = 0;
    for (size_t i = 0; i < book->count; i++) {
        uint64_t hash = hash_one(wr_maddr_bytes(&book->of[i].addr), 3);
        if (book->of[i].source == WR_ADDR_RELAYED)
            relayed += hash;
        else if (book->of[i].verdict == WR_ADDR_REACHABLE)
            direct += hash;
    }
    bool news = direct != id->reached;
    if (news || relayed != id->relayed)
        id->reached_at = wr_env_now(id->env);
    id->reached = direct;
    id->relayed = relayed;
    return news ? WR_IDENTIFY_PROMPT : WR_IDENTIFY_DEBOUNCE;
}

/* ---- life ----------------------------------------------------------------------------------------------- */

static void on_open(struct wr_identify *id, struct wr_conn *conn)
{
    struct link *link = make_link(id, conn);
    if (link)
        wr_identify_ask(id, link);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_identify *id = wr_list_entry(watch, struct wr_identify, watch);
    struct link *link = NULL;
    switch (event->type) {
    case WR_SWARM_OPENED:
        on_open(id, event->conn);
        break;
    case WR_SWARM_CLOSED:
        link = wr_identify_link(id, event->conn);
        if (link)
            free_link(id, link);
        break;
    case WR_SWARM_DISCONNECTED:
        wr_peerstore_demote(wr_swarm_peerstore(id->swarm), event->peer, WR_TTL_RECENT);
        break;
    case WR_SWARM_ADDRS:
        drop_old_sockets(id);
        push_later(id, wr_env_now(id->env) + gather_for(id));
        break;
    case WR_SWARM_PROTOCOLS:
        push_later(id, wr_env_now(id->env) + WR_IDENTIFY_DEBOUNCE);
        break;
    case WR_SWARM_CONNECTED:
    case WR_SWARM_IDENTIFIED:
    case WR_SWARM_PEER_CHANGED:
    case WR_SWARM_DIAL_FAILED:
    case WR_SWARM_DIALLING:
    case WR_SWARM_OBSERVED:
    case WR_SWARM_REACHABILITY:
        break;
    case WR_SWARM_NETWORK_CHANGED:
        wr_timer_start(id->env, &id->moved_timer, wr_env_now(id->env) + WR_IDENTIFY_MOVED, on_moved);
        break;
    }
}

static void open_already(struct wr_conn *c, void *arg)
{
    on_open(arg, c);
}

static int handle(struct wr_identify *id, const char *name, unsigned inbound_max,
                  void (*on_stream)(struct wr_stream *s, void *arg))
{
    struct wr_protocol p = {
        .on_stream = on_stream, .arg = id, .inbound_max = inbound_max, .limited = true};
    memcpy(p.name, name, strlen(name) + 1);
    return wr_swarm_handle(id->swarm, &p);
}

struct wr_identify *wr_identify_create(const struct wr_identify_options *options)
{
    struct wr_identify *id = wr_alloc(sizeof(*id));
    if (!id)
        return NULL;
    id->options = *options;
    id->swarm = options->swarm;
    id->env = wr_swarm_env(id->swarm);
    if (!id->options.agent)
        id->options.agent = "warren/" WARREN_VERSION;
    if (!id->options.protocol_version)
        id->options.protocol_version = "ipfs/0.1.0";
    wr_map_init(&id->links, LINKS_MAX, wr_env_hash_seed(id->env));
    wr_observed_init(&id->observed, wr_env_hash_seed(id->env));
    wr_list_init(&id->readings);
    wr_list_init(&id->writings);
    wr_buf_init(&id->pubkey, WR_PUBKEY_MAX);
    wr_key_encode_public(wr_swarm_key(id->swarm), &id->pubkey);
    id->watch.on_event = on_event;
    wr_swarm_watch(id->swarm, &id->watch);
    if (id->pubkey.full || handle(id, WR_IDENTIFY_NAME, ASKED_AT_ONCE, wr_identify_asked) < 0 ||
        handle(id, WR_IDENTIFY_PUSH, PUSHED_AT_ONCE, wr_identify_take_push) < 0) {
        wr_identify_destroy(id);
        return NULL;
    }
    wr_swarm_each(id->swarm, open_already, id);
    return id;
}

void wr_identify_destroy(struct wr_identify *id)
{
    if (!id)
        return;
    wr_swarm_unwatch(&id->watch);
    wr_swarm_unhandle(id->swarm, WR_IDENTIFY_NAME);
    wr_swarm_unhandle(id->swarm, WR_IDENTIFY_PUSH);
    size_t cursor = 0;
    struct link *link;
    while ((link = wr_map_next(&id->links, &cursor)))
        free_link(id, link);
    wr_identify_end_all(id);
    wr_timer_stop(id->env, &id->push_timer);
    wr_timer_stop(id->env, &id->judge_timer);
    wr_timer_stop(id->env, &id->moved_timer);
    wr_observed_clear(&id->observed);
    wr_map_clear(&id->links);
    for (size_t i = 0; i < WR_ADDRBOOK_SCOPES; i++) {
        wr_free(id->snapshots[i].addrs);
        wr_buf_clear(&id->snapshots[i].record);
    }
    wr_buf_clear(&id->pubkey);
    wr_free(id);
}

void wr_identify_stats(const struct wr_identify *id, struct wr_identify_stats *out)
{
    *out = id->stats;
}
