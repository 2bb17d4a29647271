/* Frames of QUIC packets: nothing beyond their end is read, and padding before them changes
 * nothing. */
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
    assert(wr_quic_frames_ask(WR_BYTES(data, size)) ==
           wr_quic_frames_ask(WR_BYTES(copy, size + 3)));
    free(copy);
    return 0;
}
