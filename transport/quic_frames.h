/* quic_frames.h - what the frames of a QUIC packet ask for, where that is needed before ngtcp2 acts
 * on them. Value. Spec: RFC 9000 section 19. */
#ifndef WR_QUIC_FRAMES_H
#define WR_QUIC_FRAMES_H

#include "transport/bytes.h"

#define WR_QUIC_FRAMES_RETIRE 1 /* a NEW_CONNECTION_ID has ids retired ("Retire Prior To" above 0) */
#define WR_QUIC_FRAMES_ACK    2 /* packets of ours are acknowledged */

/* What is among them, of the above: bits. Looks no further than up to the first frame that is
 * damaged or unknown, as ngtcp2 does. */
unsigned wr_quic_frames_ask(struct wr_bytes frames);
/* Makes padding of the acknowledgements, as far as that looks. */
void wr_quic_frames_mute(uint8_t *frames, size_t len);

#endif
