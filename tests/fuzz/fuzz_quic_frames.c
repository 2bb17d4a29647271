/* Frames of QUIC packets: nothing beyond their end is read, padding before them changes nothing, and what is muted
 * acknowledges nothing and says all else that it did. */
#include "transport/quic_frames.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size + 3);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy + 3, data, size);
    unsigned asked = wr_quic_frames_ask(WR_BYTES(data, size));
    assert(wr_quic_frames_ask(WR_BYTES(copy, size + 3)) == asked);
    wr_quic_frames_mute(copy, size + 3);
    assert(wr_quic_frames_ask(WR_BYTES(copy, size + 3)) == (asked & ~(unsigned)WR_QUIC_FRAMES_ACK));
    for (size_t i = 0; i < size; i++)
        assert(copy[i + 3] == data[i] || ((asked & WR_QUIC_FRAMES_ACK) && copy[i + 3] == 0));
    free(copy);
    return 0;
}
