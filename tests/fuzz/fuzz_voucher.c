/* Reservation vouchers: any bytes are a voucher that its relay signed, or refused. */
#include "relay/voucher.h"
#include "transport/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_voucher v;
    int err = wr_voucher_open(WR_BYTES(data, size), &v);
    if (err == 0 && (v.relay.len == 0 || v.peer.len == 0))
        abort();
    if (err > 0 || (err < 0 && err != WR_EPROTO && err != WR_EAUTH && err != WR_EPEERID && err != WR_ELIMIT))
        abort();
    return 0;
}
