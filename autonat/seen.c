#include "autonat/seen.h"

#include "transport/pb.h"

#define IDENTIFY       "/ipfs/id/1.0.0"
#define IDENTIFY_MAX   8192    /* bytes of a message; go, js */
#define FIELD_OBSERVED 4       /* observedAddr; libp2p identify/README.md */

static void on_message(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_seen *s = wr_list_entry(m, struct wr_seen, msg);
    struct wr_pb_field f;
    struct wr_maddr seen;
    struct wr_addr at;
    bool found = false;
    while (wr_pb_next(&body, &f) == 1)
        if (f.number == FIELD_OBSERVED && f.wire == WR_PB_BYTES)
            found = wr_maddr_decode(f.bytes, &seen) == 0;
    wr_msg_close(m);
    s->on_done(s, found && wr_maddr_addr(wr_maddr_bytes(&seen), &at) ? &at : NULL);
}

static void on_close(struct wr_msg *m, int err)
{
    struct wr_seen *s = wr_list_entry(m, struct wr_seen, msg);
    (void)err;
    s->on_done(s, NULL);
}

bool wr_seen_ask(struct wr_seen *s, struct wr_env *env, struct wr_conn *conn,
                 void (*on_done)(struct wr_seen *s, const struct wr_addr *seen))
{
    static const char *const offer[] = {IDENTIFY, NULL};
    static const struct wr_msg_ops ops = {.on_message = on_message, .on_close = on_close};
    static const struct wr_stream_ops none = {.on_open = NULL};
    int err;
    struct wr_stream *stream = wr_conn_open_stream(conn, offer, &none, NULL, &err);
    if (!stream)
        return false;
    s->on_done = on_done;
    wr_msg_start(&s->msg, env, stream, IDENTIFY_MAX, &ops);
    return true;
}

void wr_seen_cancel(struct wr_seen *s)
{
    if (wr_msg_open(&s->msg))
        wr_msg_reset(&s->msg, WR_STREAM_OK);
}
