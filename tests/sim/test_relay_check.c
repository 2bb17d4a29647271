/* Relays that answer pings and keep the place, and bring nobody: a guest finds out by a circuit to itself. */
#include "relay/voucher.h"
#include "tests/sim/relay_choice_world.h"
#include "tests/sim/toy_relay.h"
#include "transport/msg.h"

/* What a relay makes of CONNECT. */
enum manner {
    DENIES,           /* 202 */
    HAS_NO_ROOM,      /* 201 */
    FORGETS,          /* 204 until it is asked for a place again */
    SAYS_NOTHING,
    RESETS,
    BRINGS_NOBODY,    /* 100, and what comes goes nowhere */
    ECHOES,           /* the guest is asked, but what comes is sent back without having been there */
    JOINS,            /* as it should, and then as struct toy says */
    RATIONS,          /* the same, so often; then 201. As rust does, for each peer */
};
#define RATION       30
#define RATION_EVERY (2 * WR_MIN)    /* one more */

/* Takes a relay's hop protocol over: places are granted to all. */
struct other_hop {
    struct far *far;
    struct toy toy;
    enum manner manner;
    unsigned places, asked;
    bool forgot;
    bool silent;          /* signs no vouchers, as rust */
    unsigned used, refused;
    wr_time refilled_at;
};

struct talk {
    struct other_hop *of;
    struct wr_msg hop, stop;
    struct wr_task task;
};

static void free_talk(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct talk, task));
}

static void end_talk(struct talk *t)
{
    wr_msg_reset(&t->hop, WR_STREAM_OK);
    wr_msg_reset(&t->stop, WR_STREAM_OK);
    wr_env_dispose(t->of->far->n.env, &t->task, free_talk);
}

static void say(struct wr_msg *m, enum wr_relay_side side, const struct wr_relay_msg *body)
{
    struct wr_buf out;
    wr_buf_init(&out, WR_RELAY_MSG_MAX);
    wr_relay_msg_encode(side, body, &out);
    assert_int_equal(wr_msg_send(m, wr_buf_bytes(&out)), 0);
    wr_buf_clear(&out);
}

static void answer(struct talk *t, enum wr_relay_status status)
{
    struct wr_relay_msg m = {.type = WR_RELAY_STATUS, .status = status};
    say(&t->hop, WR_RELAY_HOP, &m);
}

static void echo_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)arg;
    assert_int_equal(wr_stream_write(s, data.ptr, data.len), (int)data.len);
}

static const struct wr_stream_ops echo_ops = {.on_data = echo_data};
static const struct wr_stream_ops deaf_ops = {0};

/* The stream stays, the conversation is over. */
static struct wr_stream *leave(struct wr_msg *m, const struct wr_stream_ops *ops, void *arg)
{
    struct wr_buf early;
    wr_buf_init(&early, WR_MSG_READ_AHEAD);
    struct wr_stream *s = wr_msg_release(m, &early);
    assert_true(s && early.len == 0);
    wr_buf_clear(&early);
    wr_stream_set_ops(s, ops, arg);
    return s;
}

static void stop_message(struct wr_msg *m, struct wr_bytes body)
{
    struct talk *t = wr_list_entry(m, struct talk, stop);
    struct other_hop *o = t->of;
    struct wr_relay_msg in;
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_STOP, body, &in), 0);
    assert_true(in.type == WR_RELAY_STATUS && in.status == WR_RELAY_OK);
    answer(t, WR_RELAY_OK);
    if (o->manner == ECHOES) {
        (void)leave(&t->hop, &echo_ops, NULL);
        (void)leave(m, &deaf_ops, NULL);
        end_talk(t);
        return;
    }
    struct toy_joint *j = wr_alloc(sizeof(*j));
    assert_non_null(j);
    *j = (struct toy_joint){.toy = &o->toy, .env = o->far->n.env, .harm = o->toy.harm, .after = o->toy.after,
                            .delay = o->toy.harm == TOY_DELAYS ? o->toy.delay : 0};
    for (int i = 0; i < 2; i++) {
        wr_buf_init(&j->kept[i], 4 << 20);
        j->of[i] = leave(i ? m : &t->hop, &toy_joint_ops, j);
    }
    end_talk(t);
}

static void stop_close(struct wr_msg *m, int err)
{
    (void)err;
    end_talk(wr_list_entry(m, struct talk, stop));
}

static const struct wr_msg_ops stop_ops = {.on_message = stop_message, .on_close = stop_close};

static void bring(struct talk *t, struct wr_conn *c)
{
    static const char *const offer[] = {WR_RELAY_STOP_NAME, NULL};
    struct wr_relay_msg connect = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(&c->peer)};
    int err;
    struct wr_stream *s = wr_conn_open_stream(c, offer, NULL, NULL, &err);
    assert_non_null(s);
    wr_msg_start(&t->stop, t->of->far->n.env, s, WR_RELAY_MSG_MAX, &stop_ops);
    say(&t->stop, WR_RELAY_STOP, &connect);
}

static wr_time sim_now_of(const struct other_hop *o)
{
    return wr_env_now(o->far->n.env);
}

static void on_connect(struct talk *t)
{
    struct other_hop *o = t->of;
    o->asked++;
    switch (o->manner) {
    case DENIES:
        answer(t, WR_RELAY_DENIED);
        break;
    case HAS_NO_ROOM:
        answer(t, WR_RELAY_FULL);
        break;
    case FORGETS:
        if (o->forgot)
            answer(t, WR_RELAY_NOT_THERE);
        else
            bring(t, wr_stream_conn(t->hop.stream));
        break;
    case SAYS_NOTHING:
        break;
    case RESETS:
        end_talk(t);
        break;
    case BRINGS_NOBODY:
        answer(t, WR_RELAY_OK);
        (void)leave(&t->hop, &deaf_ops, NULL);
        end_talk(t);
        break;
    case RATIONS:
        if (o->used && sim_now_of(o) - o->refilled_at >= RATION_EVERY) {
            o->used--;
            o->refilled_at = sim_now_of(o);
        }
        if (o->used == RATION) {
            o->refused++;
            answer(t, WR_RELAY_FULL);
            break;
        }
        o->used++;
        bring(t, wr_stream_conn(t->hop.stream));
        break;
    case ECHOES:
    case JOINS:
        bring(t, wr_stream_conn(t->hop.stream));
        break;
    }
}

static void hop_message(struct wr_msg *m, struct wr_bytes body)
{
    struct talk *t = wr_list_entry(m, struct talk, hop);
    struct wr_relay_msg in, out = {.type = WR_RELAY_STATUS, .status = WR_RELAY_OK, .has_reservation = true};
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, body, &in), 0);
    if (in.type == WR_RELAY_CONNECT) {
        on_connect(t);
        return;
    }
    assert_int_equal(in.type, WR_RELAY_RESERVE);
    t->of->places++;
    t->of->forgot = false;
    out.expire = (uint64_t)(wr_env_unix(t->of->far->n.env) / WR_SEC) + 3600;
    struct wr_voucher v = {.peer = wr_stream_conn(m->stream)->peer, .expire = out.expire};
    struct wr_buf voucher;
    v.relay = *wr_swarm_self(t->of->far->n.swarm);
    wr_buf_init(&voucher, WR_VOUCHER_MAX);
    if (!t->of->silent)
        wr_voucher_seal(&t->of->far->n.key, &v, &voucher);
    out.voucher = wr_buf_bytes(&voucher);
    say(m, WR_RELAY_HOP, &out);
    wr_buf_clear(&voucher);
}

static void hop_close(struct wr_msg *m, int err)
{
    (void)err;
    end_talk(wr_list_entry(m, struct talk, hop));
}

static const struct wr_msg_ops hop_ops = {.on_message = hop_message, .on_close = hop_close};

static void on_hop(struct wr_stream *s, void *arg)
{
    struct talk *t = wr_alloc(sizeof(*t));
    assert_non_null(t);
    t->of = arg;
    wr_msg_start(&t->hop, t->of->far->n.env, s, WR_RELAY_MSG_MAX, &hop_ops);
}

static void turn(struct far *far, struct other_hop *o, enum manner manner, enum toy_harm harm)
{
    *o = (struct other_hop){
        .far = far, .manner = manner, .toy = {.harm = harm, .delay = 6 * WR_SEC}, .forgot = manner == FORGETS};
    wr_swarm_unhandle(far->n.swarm, WR_RELAY_HOP_NAME);
    node_handle(&far->n, WR_RELAY_HOP_NAME, on_hop, o);
}

/* ---- stories */

struct evil {
    const char *name;
    enum manner manner;
    enum toy_harm harm;
};

static const struct evil evils[] = {
    {"denies", DENIES, TOY_HONEST},          {"says nothing", SAYS_NOTHING, TOY_HONEST},
    {"resets", RESETS, TOY_HONEST},          {"brings nobody", BRINGS_NOBODY, TOY_HONEST},
    {"echoes", ECHOES, TOY_HONEST},          {"drops", JOINS, TOY_DROPS},
    {"corrupts", JOINS, TOY_CORRUPTS},       {"cuts", JOINS, TOY_CUTS},
    {"delays", JOINS, TOY_DELAYS},
};
#define EVILS (sizeof(evils) / sizeof(evils[0]))

static void no_streams_are_left(struct world *w, unsigned relay)
{
    sim_run(w->sim, WR_RELAY_AUTO_PONG + WR_SEC);
    assert_in_range(node_conn(&w->home, &w->relays[relay].n)->stream_count, 0, 1);    /* a ping */
}

/* It was so from the beginning: ten seconds after the place was made, there is another one at another relay. */
static void test_useless_from_the_beginning(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVILS; i++) {
        struct world w;
        struct other_hop hop;
        world_up(&w, &(struct sim_options){.seed = 1 + i});
        turn(&w.relays[2], &hop, evils[i].manner, evils[i].harm);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 2, 4);
        sim_run(w.sim, WR_SEC);
        meet(&w, 4, 5);
        wr_time since = sim_now(w.sim);
        sim_run(w.sim, 10 * WR_SEC);
        print_message("%s: left %lld ms later, asked %u times\n", evils[i].name,
                      (long long)((w.lost_at - since) / WR_MSEC), hop.asked);
        assert_true(hop.places == 1 && w.lost == 1);
        assert_true(!held(&w, 2) && held(&w, 3) && held(&w, 4));
        assert_true(w.made_at - w.lost_at <= 5 * WR_SEC);
        assert_int_equal(announced(&w), 2);
        no_streams_are_left(&w, 2);
        /* It is left alone now. Once there is no other it is better than none, for we may be wrong: asked once more, and kept
         * then, in doubt. */
        sim_run(w.sim, WR_MIN);
        assert_int_equal(hop.places, 1);
        far_down(&w.relays[3]);
        far_down(&w.relays[4]);
        sim_run(w.sim, 10 * WR_SEC);
        assert_true(held(&w, 2));
        sim_run(w.sim, 10 * WR_MIN);
        assert_true(held(&w, 2));
        assert_int_equal(hop.places, 2);
        assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_SEARCHING);
        world_down(&w);
    }
}

/* It did its work for a while: ten seconds after that ended it is left, whenever that was, and soon there are two again.
 * Returns how long it took. */
static wr_time useless_later(size_t i, wr_time rtt, wr_time phase)
{
    struct world w;
    struct other_hop hop;
    world_up(&w, &(struct sim_options){.seed = 20 + i, .rtt = rtt});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 5);
    sim_run(w.sim, WR_MIN + phase);
    assert_true(held_count(&w) == 2 && w.lost == 0);
    unsigned bad = held(&w, 2) ? 2 : 3;
    turn(&w.relays[bad], &hop, evils[i].manner, evils[i].harm);
    wr_time since = sim_now(w.sim);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(w.lost, 1);
    assert_true(!held(&w, bad) && held_count(&w) >= 1);
    wr_time left = w.lost_at - since;
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    assert_true(w.made_at - w.lost_at <= 2 * WR_SEC);
    no_streams_are_left(&w, bad);
    world_down(&w);
    return left;
}

static void test_useless_later(void **state)
{
    static const wr_time rtts[] = {20 * WR_MSEC, 100 * WR_MSEC, 240 * WR_MSEC};
    (void)state;
    for (size_t i = 0; i < EVILS; i++) {
        wr_time longest = 0;
        for (size_t k = 0; k < sizeof(rtts) / sizeof(rtts[0]) * 10; k++) {
            wr_time left = useless_later(i, rtts[k / 10], (wr_time)(k % 10) * 570 * WR_MSEC);
            longest = left > longest ? left : longest;
        }
        print_message("%s: left after %lld ms at most\n", evils[i].name, (long long)(longest / WR_MSEC));
    }
}

/* No room for circuits may be a matter of a moment, and of strangers: the place is kept, with another one beside it when
 * it stays so. */
static void test_no_room_for_circuits(void **state)
{
    struct world w;
    struct other_hop hop;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 40});
    turn(&w.relays[2], &hop, HAS_NO_ROOM, TOY_HONEST);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 4);
    sim_run(w.sim, 5 * WR_SEC);
    meet(&w, 4, 5);
    sim_run(w.sim, 30 * WR_SEC);
    assert_true(held(&w, 2) && held(&w, 3) && !held(&w, 4));
    sim_run(w.sim, 30 * WR_SEC);
    assert_true(held(&w, 2) && held(&w, 3) && held(&w, 4));
    sim_run(w.sim, 10 * WR_MIN);
    assert_true(w.lost == 0 && held_count(&w) == 3);
    world_down(&w);
}

/* A relay that has lost the place and not said so is asked for it again. */
static void test_a_forgotten_place(void **state)
{
    struct world w;
    struct other_hop hop;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 41});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 4);
    sim_run(w.sim, WR_MIN);
    turn(&w.relays[2], &hop, FORGETS, TOY_HONEST);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(hop.places, 1);
    assert_true(w.lost == 0 && held_count(&w) == 2);
    assert_in_range(hop.asked, 10, 13);
    world_down(&w);
}

/* Relays that count circuits. Of one that looks as if it did no more is asked than it grants, so that enough is left for
 * callers; at another one we find out, and keep the place. */
static void test_rationed_circuits(void **state)
{
    (void)state;
    for (int silent = 0; silent <= 1; silent++) {
        struct world w;
        struct other_hop hop[2];
        world_up(&w, &(struct sim_options){.seed = 42});
        for (unsigned i = 0; i < 2; i++) {
            turn(&w.relays[2 + i], &hop[i], RATIONS, TOY_HONEST);
            hop[i].silent = silent;
        }
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 2, 4);
        sim_run(w.sim, 3 * WR_HOUR);
        for (unsigned i = 0; i < 2; i++) {
            print_message("%s: asked %u times, refused %u times, %u of its ration in use\n", silent ? "silent" : "vouches",
                          hop[i].asked, hop[i].refused, hop[i].used);
            assert_true(held(&w, 2 + i));
            if (silent)
                assert_true(hop[i].refused == 0 && hop[i].used <= 3 && hop[i].asked >= 30);
            else
                assert_true(hop[i].refused <= 20 && hop[i].asked >= 30);
        }
        assert_int_equal(w.lost, 0);
        world_down(&w);
    }
}

/* Both relays, and there are no others, bring nobody for a while: on a machine that is too busy, for one. Places that we doubt
 * are better than none, and are good again once something comes through. */
static void test_doubted_ones_are_better_than_none(void **state)
{
    struct world w;
    struct other_hop hop[2];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 43, .rtt = 80 * WR_MSEC});
    for (unsigned i = 0; i < 2; i++)
        turn(&w.relays[2 + i], &hop[i], JOINS, TOY_HONEST);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 4);
    sim_run(w.sim, 10 * WR_SEC);
    hop[0].manner = hop[1].manner = SAYS_NOTHING;
    for (unsigned i = 0; i < 60; i++) {
        sim_run(w.sim, WR_SEC);
        assert_int_equal(held_count(&w), 2);
        assert_int_equal(announced(&w), 2);
    }
    assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_SEARCHING);
    hop[0].manner = hop[1].manner = JOINS;
    sim_run(w.sim, 15 * WR_SEC);
    assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_CONTENT);
    assert_true(w.lost == 0 && hop[0].places == 1 && hop[1].places == 1);
    world_down(&w);
}

/* The same, and they are not asked at the same moment: that the first one is good again while the other one has not been asked
 * since is no reason to give that up. */
static void test_doubts_end_one_after_the_other(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 6; k++) {
        struct world w;
        struct other_hop hop[2];
        world_up(&w, &(struct sim_options){.seed = 43, .rtt = 80 * WR_MSEC});
        for (unsigned i = 0; i < 2; i++)
            turn(&w.relays[2 + i], &hop[i], JOINS, TOY_HONEST);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 2, 3);
        sim_run(w.sim, 5 * WR_SEC + k * 800 * WR_MSEC);
        meet(&w, 3, 4);
        sim_run(w.sim, 10 * WR_SEC);
        hop[0].manner = hop[1].manner = SAYS_NOTHING;
        sim_run(w.sim, WR_MIN);
        assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_SEARCHING);
        hop[0].manner = hop[1].manner = JOINS;
        sim_run(w.sim, 15 * WR_SEC);
        assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_CONTENT);
        assert_true(w.lost == 0 && held_count(&w) == 2);
        world_down(&w);
    }
}

/* The owner named three, and all bring nobody for a while: none of them is given up for that. */
static void test_the_owners_stay_in_doubt(void **state)
{
    struct world w;
    struct other_hop hop[3];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 45, .rtt = 80 * WR_MSEC});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    for (unsigned i = 0; i < 3; i++) {
        struct wr_maddr at = w.relays[2 + i].n.addr;
        turn(&w.relays[2 + i], &hop[i], JOINS, TOY_HONEST);
        assert_int_equal(wr_maddr_append_peer(&at, wr_swarm_self(w.relays[2 + i].n.swarm)), 0);
        assert_int_equal(wr_relay_auto_use(w.choice, wr_maddr_bytes(&at)), 0);
    }
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 3);
    for (unsigned i = 0; i < 3; i++)
        hop[i].manner = DENIES;
    sim_run(w.sim, 15 * WR_SEC);
    for (unsigned i = 0; i < 3; i++)
        hop[i].manner = JOINS;
    sim_run(w.sim, WR_MIN);
    assert_true(w.lost == 0 && held_count(&w) == 3);
    world_down(&w);
}

/* All that there are bring nobody: two places are kept, others are tried beside them, none of them often. */
static void test_among_useless_ones(void **state)
{
    struct world w;
    struct other_hop hop[4];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 44});
    for (unsigned i = 0; i < 4; i++)
        turn(&w.relays[1 + i], &hop[i], DENIES, TOY_HONEST);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 1, 5);
    for (unsigned i = 0; i < 600; i++) {
        sim_run(w.sim, WR_SEC);
        assert_in_range(held_count(&w), 2, 4);
    }
    assert_in_range(held_count(&w), 2, 2);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hop[i].places, 1);
    world_down(&w);
}

/* An hour on a bad line: nobody is blamed for it. And what it costs the relay. */
static void test_nobody_is_blamed(void **state)
{
    (void)state;
    for (uint64_t seed = 50; seed < 55; seed++) {
        struct world w;
        struct wr_relay_server_stats s;
        world_up(&w, &(struct sim_options){.seed = seed, .rtt = 500 * WR_MSEC, .loss = 0.05, .reorder = 0.05});
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 2, 4);
        sim_run(w.sim, WR_HOUR);
        assert_int_equal(held_count(&w), 2);
        wr_relay_server_stats(w.relays[2].server, &s);
        print_message("seed %d: %u lost, %llu checks\n", (int)seed, w.lost, (unsigned long long)s.checked);
        assert_true(w.lost == 0 && s.connected == 0 && s.circuits <= 1);
        assert_in_range(s.checked, 60 * 10, 60 * 12 + 1);
        struct wr_relay_guest guest;
        assert_int_equal(wr_relay_server_guests(w.relays[2].server, &guest, 1), 1);
        assert_int_equal(guest.circuits, 0);
        world_down(&w);
    }
}

/* The connection ends under the check, time and again, and there is another one: that says nothing of the relay. */
static void test_connections_that_end_are_not_the_relays_fault(void **state)
{
    struct world w;
    struct wr_relay_server_stats s;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 56, .rtt = 80 * WR_MSEC});
    struct far *relay = &w.relays[2];
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 3);
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(held(&w, 2));
    for (unsigned i = 0; i < 5; i++) {
        int again = 1;
        assert_int_equal(wr_swarm_connect(w.home.swarm, wr_swarm_self(relay->n.swarm), &relay->n.addr, 1, WR_ORIGIN_OWNER,
                                          WR_CONNECT_FRESH, node_on_connect, &again, NULL),
                         0);
        sim_run(w.sim, WR_SEC);
        assert_int_equal(again, 0);
        for (unsigned ms = 0; ms < 30000; ms++) {
            sim_run(w.sim, WR_MSEC);
            wr_relay_server_stats(relay->server, &s);
            if (s.circuits)
                break;
        }
        assert_int_equal(s.circuits, 1);
        wr_conn_close(node_conn(&relay->n, &w.home), WR_CONN_OK);
    }
    sim_run(w.sim, WR_MIN);
    assert_true(w.lost == 0 && held(&w, 2));
    world_down(&w);
}

/* The machine on which both run does something else for some seconds, time and again. The answers are there a moment
 * after it goes on, and the end of our patience at once: that nobody looked is not the relay's fault. */
static void test_we_were_held_up(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 57, .rtt = 80 * WR_MSEC});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 3);
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(held(&w, 2));
    for (unsigned i = 0; i < 200; i++) {
        sim_run(w.sim, 10 * WR_SEC + (wr_time)sim_random(w.sim, 5000) * WR_MSEC);
        sim_pause(w.home.host, true);
        sim_pause(w.relays[2].n.host, true);
        sim_run(w.sim, 4500 * WR_MSEC);
        sim_pause(w.home.host, false);
        sim_pause(w.relays[2].n.host, false);
    }
    assert_true(w.lost == 0 && held(&w, 2));
    world_down(&w);
}

/* While nothing is known of our reachability a place is a precaution, and hardly looked after. Where IPv4 does not reach us it
 * is needed, whatever IPv6 does. */
static void test_a_precaution_costs_less(void **state)
{
    struct world w;
    struct wr_relay_server_stats s;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 60});
    meet(&w, 2, 4);
    sim_run(w.sim, WR_RELAY_AUTO_PATIENCE + 5 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    sim_run(w.sim, 10 * WR_MIN);
    wr_relay_server_stats(w.relays[2].server, &s);
    assert_in_range(s.checked, 7, 11);
    wr_swarm_set_reachability(w.home.swarm, 6, WR_REACH_PUBLIC);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 10 * WR_MIN);
    uint64_t before = s.checked;
    wr_relay_server_stats(w.relays[2].server, &s);
    assert_in_range(s.checked - before, 110, 121);
    world_down(&w);
}

static void unasked_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct talk *t = wr_list_entry(m, struct talk, stop);
    struct wr_relay_msg in;
    assert_int_equal(wr_relay_msg_decode(WR_RELAY_STOP, body, &in), 0);
    assert_int_equal(in.type, WR_RELAY_STATUS);
    assert_int_equal(in.status, WR_RELAY_DENIED);
    t->of->asked++;
    end_talk(t);
}

/* A relay says that we come to ourselves, and we had not asked. */
static void test_nobody_comes_as_us(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = unasked_answer, .on_close = stop_close};
    struct world w;
    struct other_hop hop;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 61});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 3);
    sim_run(w.sim, 10 * WR_SEC);
    assert_true(held(&w, 2));
    hop = (struct other_hop){.far = &w.relays[2]};
    struct talk *t = wr_alloc(sizeof(*t));
    assert_non_null(t);
    t->of = &hop;
    bring(t, node_conn(&w.relays[2].n, &w.home));
    t->stop.ops = &ops;
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(hop.asked, 1);
    assert_true(held(&w, 2));
    world_down(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_useless_from_the_beginning),
        cmocka_unit_test(test_useless_later),
        cmocka_unit_test(test_no_room_for_circuits),
        cmocka_unit_test(test_a_forgotten_place),
        cmocka_unit_test(test_rationed_circuits),
        cmocka_unit_test(test_doubted_ones_are_better_than_none),
        cmocka_unit_test(test_doubts_end_one_after_the_other),
        cmocka_unit_test(test_the_owners_stay_in_doubt),
        cmocka_unit_test(test_among_useless_ones),
        cmocka_unit_test(test_nobody_is_blamed),
        cmocka_unit_test(test_connections_that_end_are_not_the_relays_fault),
        cmocka_unit_test(test_we_were_held_up),
        cmocka_unit_test(test_a_precaution_costs_less),
        cmocka_unit_test(test_nobody_comes_as_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
