#include "transport/mss.h"

#include "transport/varint.h"

#include <assert.h>
#include <string.h>

static const char header[] = "/multistream/1.0.0";
static const char refusal[] = "na";

static void put_line(struct wr_buf *out, struct wr_bytes text)
{
    wr_buf_put_uvarint(out, text.len + 1);
    wr_buf_put_bytes(out, text);
    wr_buf_put_u8(out, '\n');
}

void wr_mss_dial(struct wr_mss *m, const char *const *offer, struct wr_buf *out)
{
    assert(offer[0]);
    *m = (struct wr_mss){.dialer = true, .offer = offer};
    /* Header and proposal go out together and unasked: rust, js and nim listeners stay silent until they
     * hear a header. */
    put_line(out, WR_BYTES_STR(header));
    put_line(out, wr_bytes_cstr(offer[0]));
}

void wr_mss_listen(struct wr_mss *m, wr_mss_match match, void *arg)
{
    *m = (struct wr_mss){.match = match, .match_arg = arg};
}

/* Takes bytes into m->line until one line is whole. 1: *line is its text without length and newline,
 * valid until the next call. 0: wants more. */
static int take_line(struct wr_mss *m, struct wr_bytes *in, struct wr_bytes *line)
{
    for (;;) {
        uint64_t len = 0;
        int used = wr_uvarint_decode(m->line, m->have, &len);
        /* The empty line is no proposal and gets no answer: a stray na would be taken for the answer to
         * the next one (nim-libp2p PR 3070). */
        if (used < 0 || (used > 0 && (len < 2 || len > WR_MSS_LINE_MAX)))
            return WR_EPROTO;
        size_t need = used > 0 ? (size_t)used + (size_t)len - m->have : 1;
        if (need == 0) {
            *line = WR_BYTES(m->line + used, (size_t)len - 1);
            m->have = 0;
            return line->ptr[line->len] == '\n' ? 1 : WR_EPROTO;
        }
        struct wr_bytes part = wr_bytes_take(in, need < in->len ? need : in->len);
        if (part.len == 0)
            return 0;
        memcpy(m->line + m->have, part.ptr, part.len);
        m->have += part.len;
    }
}

static int dialer_line(struct wr_mss *m, struct wr_bytes line, struct wr_buf *out)
{
    if (wr_bytes_equal(line, wr_bytes_cstr(m->offer[m->next]))) {
        m->agreed = m->offer[m->next];
        return 1;
    }
    if (!wr_bytes_equal(line, WR_BYTES_STR(refusal)))
        return WR_EPROTO;
    m->next++;
    if (!m->offer[m->next])
        return WR_EUNSUPPORTED;
    put_line(out, wr_bytes_cstr(m->offer[m->next]));
    return 0;
}

/* Anything unknown is answered with na: "ls", as go does, and "/libp2p/simultaneous-connect" too. */
static int listener_line(struct wr_mss *m, struct wr_bytes line, struct wr_buf *out)
{
    m->agreed = m->match(m->match_arg, line);
    if (m->agreed) {
        assert(wr_bytes_equal(wr_bytes_cstr(m->agreed), line));
        put_line(out, line);
        return 1;
    }
    if (++m->refused > WR_MSS_REFUSALS_MAX)
        return WR_EUNSUPPORTED;
    put_line(out, WR_BYTES_STR(refusal));
    return 0;
}

int wr_mss_input(struct wr_mss *m, struct wr_bytes *in, struct wr_buf *out)
{
    for (;;) {
        struct wr_bytes line;
        int rc = take_line(m, in, &line);
        if (rc <= 0)
            return rc;
        if (!m->greeted) {
            if (!wr_bytes_equal(line, WR_BYTES_STR(header)))
                return WR_EPROTO;
            m->greeted = true;
            if (!m->dialer)
                put_line(out, WR_BYTES_STR(header));
            rc = 0;
        } else {
            rc = m->dialer ? dialer_line(m, line, out) : listener_line(m, line, out);
        }
        if (out->full)
            return WR_ELIMIT;
        if (rc != 0)
            return rc;
    }
}
