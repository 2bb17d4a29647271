/* Punching as it must not be: all that is sent goes to the port beside the right one. A node that is built with it
 * (lab_unpunched) is there to be called broken by `check`. */
#include "transport/punch.h"

int missed_punch_start(struct wr_swarm *sw, const struct wr_punch_options *options, wr_punch_fn fn, void *arg,
                       struct wr_punch **out);

int missed_punch_start(struct wr_swarm *sw, const struct wr_punch_options *options, wr_punch_fn fn, void *arg,
                       struct wr_punch **out)
{
    struct wr_maddr missed[WR_PUNCH_ADDRS_MAX];
    struct wr_punch_options o = *options;
    o.addrs = missed;
    o.count = 0;
    for (size_t i = 0; i < options->count && o.count < WR_PUNCH_ADDRS_MAX; i++) {
        struct wr_bytes right = wr_maddr_bytes(&options->addrs[i]);
        struct wr_addr at;
        if (!wr_maddr_addr(right, &at))
            continue;
        at.port ^= 1;
        if (wr_maddr_from_addr(&at, wr_maddr_kind(right) == WR_MADDR_QUIC, &missed[o.count]) == 0)
            o.count++;
    }
    return wr_punch_start(sw, &o, fn, arg, out);
}
