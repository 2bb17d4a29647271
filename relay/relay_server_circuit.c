/* The bytes of a circuit: from each stream into the other, within its limits and rates. */
#include "relay/relay_server_impl.h"

#define RETRY (100 * WR_MSEC)    /* of a write that memory was too short for; ours */

static const struct wr_stream_ops half_ops;

/* ---- the end -------------------------------------------------------------------------------------------------- */

static void dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct circuit, task));
}

/* What waits for slow receivers comes out of the memory that all connections share, each its part: that of the one
 * who is slow. */
static void give(struct circuit *c, struct half *h, size_t len)
{
    if (len)
        wr_account_give(&wr_stream_conn(h->s)->memory, len);
    c->server->stats.buffered -= len;
}

static void give_kept(struct circuit *c, struct half *h)
{
    give(c, h, h->kept.len);
    wr_buf_clear(&h->kept);
}

void wr_relay_server_end(struct circuit *c)
{
    struct wr_relay_server *rs = c->server;
    wr_msg_reset(&c->hop, WR_STREAM_OK);
    wr_msg_reset(&c->stop, WR_STREAM_OK);
    for (int i = 0; i < 2; i++) {
        give_kept(c, &c->side[i]);
        if (c->side[i].s)
            wr_stream_reset(c->side[i].s, WR_STREAM_OK);
        c->side[i].s = NULL;
        wr_list_remove(&c->side[i].line);
    }
    wr_buf_clear(&c->early);
    c->open = false;
    wr_timer_stop(rs->env, &c->until);
    wr_timer_stop(rs->env, &c->pace);
    wr_list_remove(&c->node);
    wr_list_remove(&c->held);
    if (c->counted) {
        wr_limits_give(rs->limits, WR_LIMIT_RELAY_CIRCUITS, 1);
        rs->stats.circuits--;
    }
    c->counted = false;
    wr_env_dispose(rs->env, &c->task, dispose);
}

static void on_time_over(struct wr_timer *timer)
{
    struct circuit *c = wr_list_entry(timer, struct circuit, until);
    c->server->stats.cut_time++;
    wr_relay_server_end(c);
}

static void on_linger_over(struct wr_timer *timer)
{
    wr_relay_server_end(wr_list_entry(timer, struct circuit, until));
}

/* ---- pace -------------------------------------------------------------------------------------------------------- */

static void update_pause(struct half *h)
{
    if (h->s)
        wr_stream_pause(h->s, h->full || h->slow || h->queued || h->over);
}

static void on_pace(struct wr_timer *timer);

/* Lets go on what may go on, and comes back when more may. */
static void reconsider(struct circuit *c)
{
    wr_time now = wr_env_now(c->server->env), next = INT64_MAX;
    wr_time own = wr_bucket_wait(&c->bucket, now), share = wr_bucket_wait(&c->share, now);
    for (int i = 0; i < 2; i++) {
        struct half *h = &c->side[i];
        h->slow = h->slow && own;
        if (h->queued && share == 0) {
            wr_list_remove(&h->line);
            h->queued = false;
        }
        if (h->slow && own < next)
            next = own;
        if (h->queued && share < next)
            next = share;
        update_pause(h);
    }
    if (next != INT64_MAX)
        wr_timer_start(c->server->env, &c->pace, now + next, on_pace);
}

static void on_writable(struct wr_stream *s, void *arg);

static void on_pace(struct wr_timer *timer)
{
    struct circuit *c = wr_list_entry(timer, struct circuit, pace);
    for (int i = 0; i < 2 && c->open; i++)
        if (c->side[i].s && c->side[i].kept.len)
            on_writable(c->side[i].s, c);
    if (c->open)
        reconsider(c);
}

/* One at a time, the oldest circuit first: what it had waiting is counted before the next one's turn. */
static void on_pace_of_all(struct wr_timer *timer)
{
    struct wr_relay_server *rs = wr_list_entry(timer, struct wr_relay_server, pace);
    wr_time now = wr_env_now(rs->env), wait = wr_bucket_wait(&rs->bucket, now);
    if (wait == 0 && !wr_list_empty(&rs->line)) {
        struct half *senior = wr_list_entry(rs->line.next, struct half, line);
        wr_list_each(it, &rs->line)
        {
            struct half *h = wr_list_entry(it, struct half, line);
            if (h->of->since < senior->of->since)
                senior = h;
        }
        wr_list_remove(&senior->line);
        senior->queued = false;
        update_pause(senior);
    }
    if (!wr_list_empty(&rs->line))
        wr_timer_start(rs->env, timer, now + wait, on_pace_of_all);
}

static void fill_buckets(struct circuit *c)
{
    const struct wr_relay_server *rs = c->server;
    wr_time now = wr_env_now(rs->env);
    wr_bucket_init(&c->bucket, rs->options.rate_each, WR_RELAY_BURST, now);
    uint64_t most = rs->limits->of[WR_LIMIT_RELAY_CIRCUITS].max;
    uint64_t share = rs->options.rate_total / WR_RELAY_SHARED_PART / (most ? most : 1);
    wr_bucket_init(&c->share, share || !rs->options.rate_total ? share : 1, WR_RELAY_SHARE_BURST, now);
}

void wr_relay_server_set_pace(struct circuit *c)
{
    fill_buckets(c);
    reconsider(c);
}

/* So many bytes came from h: it may have to wait for the rates. */
static void charge(struct circuit *c, struct half *h, size_t len)
{
    struct wr_relay_server *rs = c->server;
    wr_time now = wr_env_now(rs->env);
    wr_bucket_take(&c->bucket, len, now);
    wr_bucket_take(&c->share, len, now);
    wr_bucket_take(&rs->bucket, len, now);
    wr_time all = wr_bucket_wait(&rs->bucket, now);
    h->slow = wr_bucket_wait(&c->bucket, now) > 0;
    if ((all || !wr_list_empty(&rs->line)) && !h->queued && wr_bucket_wait(&c->share, now) > 0) {
        h->queued = true;
        wr_list_append(&rs->line, &h->line);
        if (!wr_timer_running(&rs->pace))
            wr_timer_start(rs->env, &rs->pace, now + all, on_pace_of_all);
    }
    reconsider(c);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static struct half *other_of(struct circuit *c, const struct half *h)
{
    return &c->side[h == &c->side[CALLER]];
}

static struct half *half_of(struct circuit *c, const struct wr_stream *s)
{
    return &c->side[c->side[GUEST].s == s];
}

/* Nothing more comes from the other end, and what came is on its way. */
static void shut_if_due(struct circuit *c, struct half *to)
{
    if (to->s && other_of(c, to)->over && to->kept.len == 0)
        wr_stream_shut(to->s);
}

/* Passes bytes on to `to`, and keeps what it does not take. False: the circuit is over. */
static bool pass_on(struct circuit *c, struct half *to, struct wr_bytes data)
{
    struct wr_account *memory = &wr_stream_conn(to->s)->memory;
    int n = to->kept.len ? 0 : wr_stream_write(to->s, data.ptr, data.len);
    if (n > 0)
        wr_bytes_take(&data, (size_t)n);
    if (data.len == 0)
        return true;
    wr_buf_put_bytes(&to->kept, data);
    if (to->kept.full || (n < 0 && n != WR_ELIMIT)) {
        wr_buf_reset(&to->kept);
        wr_relay_server_end(c);
        return false;
    }
    /* They are here already, counted for the sender until now; and he is not read from before they are gone. */
    wr_account_charge(memory, data.len);
    c->server->stats.buffered += data.len;
    other_of(c, to)->full = true;
    if (n < 0)    /* memory is short: nobody tells when it is not */
        wr_timer_start(c->server->env, &c->pace, wr_env_now(c->server->env) + RETRY, on_pace);
    return true;
}

static void forward(struct circuit *c, struct half *from, struct wr_bytes data)
{
    struct wr_relay_server *rs = c->server;
    struct half *to = other_of(c, from);
    uint64_t max = rs->options.limit.data;
    if (max && data.len > max - from->got)
        data.len = (size_t)(max - from->got);
    if (data.len == 0 || !to->s || from->over)
        return;
    from->got += data.len;
    rs->stats.bytes += data.len;
    struct guest *g = wr_relay_server_guest(rs, &c->guest);
    if (g)
        g->of.bytes += data.len;
    if (!pass_on(c, to, data))
        return;
    charge(c, from, data.len);
    if (max && from->got == max) {
        from->over = true;
        rs->stats.cut_data++;
        shut_if_due(c, to);
        wr_time end = wr_env_now(rs->env) + WR_RELAY_LINGER;
        if (!wr_timer_running(&c->until) || c->until.at > end)
            wr_timer_start(rs->env, &c->until, end, on_linger_over);
    }
    update_pause(from);
}

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct circuit *c = arg;
    forward(c, half_of(c, s), data);
}

static void on_writable(struct wr_stream *s, void *arg)
{
    struct circuit *c = arg;
    struct half *to = half_of(c, s), *from = other_of(c, to);
    int n = to->kept.len ? wr_stream_write(s, to->kept.data, to->kept.len) : 0;
    if (n == WR_ELIMIT) {
        wr_timer_start(c->server->env, &c->pace, wr_env_now(c->server->env) + RETRY, on_pace);
        return;
    }
    if (n < 0) {
        wr_relay_server_end(c);
        return;
    }
    give(c, to, (size_t)n);
    wr_buf_consume(&to->kept, (size_t)n);
    if (to->kept.len)
        return;
    wr_buf_clear(&to->kept);
    from->full = false;
    update_pause(from);
    shut_if_due(c, to);
}

static void on_eof(struct wr_stream *s, void *arg)
{
    struct circuit *c = arg;
    struct half *from = half_of(c, s);
    from->over = true;
    shut_if_due(c, other_of(c, from));
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct circuit *c = arg;
    struct half *h = half_of(c, s);
    give_kept(c, h);
    h->s = NULL;
    if (err != 0 || !other_of(c, h)->s)
        wr_relay_server_end(c);
}

static const struct wr_stream_ops half_ops = {
    .on_data = on_data, .on_eof = on_eof, .on_writable = on_writable, .on_close = on_close};

void wr_relay_server_join(struct circuit *c)
{
    struct wr_relay_server *rs = c->server;
    wr_time now = wr_env_now(rs->env);
    struct wr_buf from_caller;
    wr_buf_init(&from_caller, WR_MSG_READ_AHEAD);
    c->side[CALLER].s = wr_msg_release(&c->hop, &from_caller);
    if (!c->side[CALLER].s) {
        wr_buf_clear(&from_caller);
        wr_relay_server_end(c);
        return;
    }
    c->open = true;
    c->since = now;
    bool checks = wr_peerid_equal(&c->caller, &c->guest);
    *(checks ? &rs->stats.checked : &rs->stats.connected) += 1;
    fill_buckets(c);
    if (rs->options.limit.duration)
        wr_timer_start(rs->env, &c->until, now + (wr_time)rs->options.limit.duration * WR_SEC, on_time_over);
    for (int i = 0; i < 2; i++) {
        wr_stream_set_ops(c->side[i].s, &half_ops, c);
        if (rs->options.rate_each || rs->options.rate_total || rs->options.limit.data)
            wr_stream_steady(c->side[i].s);
    }
    struct guest *g = wr_relay_server_guest(rs, &c->guest);
    if (g)
        g->of.circuits += !checks;
    struct wr_buf early = c->early;
    wr_buf_init(&c->early, 0);
    forward(c, &c->side[GUEST], wr_buf_bytes(&early));
    if (c->side[GUEST].s)
        forward(c, &c->side[CALLER], wr_buf_bytes(&from_caller));
    wr_buf_clear(&early);
    wr_buf_clear(&from_caller);
}
