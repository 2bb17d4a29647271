/* Reservation vouchers: any bytes are a voucher that its relay signed, or refused. The input is one, and a recipe for
 * what is to be signed: nobody guesses a signature. */
#include "fuzz/recipe.h"

#include "relay/voucher.h"
#include "transport/envelope.h"
#include "transport/err.h"

#define DOMAIN "libp2p-relay-rsvp"    /* as in voucher.c */
#define TYPE   WR_BYTES_STR("\x03\x02")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether it is one. */
static bool check(const uint8_t *data, size_t size, struct wr_voucher *v)
{
    int err = wr_voucher_open(WR_BYTES(data, size), v);
    if (err == 0 && (v->relay.len == 0 || v->peer.len == 0))
        abort();
    if (err > 0 || (err < 0 && err != WR_EPROTO && err != WR_EAUTH && err != WR_EPEERID && err != WR_ELIMIT))
        abort();
    return err == 0;
}

/* Signed by one of those who may be named as the relay. */
static void check_signed(struct wr_bytes payload)
{
    static struct wr_key key;    /* once: that costs more than a run */
    static bool made;
    struct wr_peerid signer;
    struct wr_voucher v;
    struct wr_buf out;
    if (payload.len > WR_VOUCHER_MAX / 2)
        return;
    recipe_peer(0, &signer);
    if (!made)
        recipe_key(0, &key);
    made = true;
    wr_buf_init(&out, WR_VOUCHER_MAX);
    wr_envelope_seal(&key, DOMAIN, TYPE, payload, &out);
    if (!out.full && check(out.data, out.len, &v) && !wr_peerid_equal(&v.relay, &signer))
        abort();
    wr_buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_voucher v;
    size_t len;
    (void)check(data, size, &v);
    check_signed(WR_BYTES(data, size));
    uint8_t *made = recipe_make(WR_BYTES(data, size), NULL, 0, &len);
    check_signed(WR_BYTES(made, len));
    free(made);
    return 0;
}
