/* quic_frames.h - what the frames of a QUIC packet ask for, where that is needed before ngtcp2 acts
 * on them. Value. Spec: RFC 9000 section 19. */
#ifndef WR_QUIC_FRAMES_H
#define WR_QUIC_FRAMES_H

#include "transport/bytes.h"

/* Whether a NEW_CONNECTION_ID among them has ids retired ("Retire Prior To" above 0). Looks no
 * further than up to the first frame that is damaged or unknown, as ngtcp2 does. */
bool wr_quic_frames_retire(struct wr_bytes frames);

#endif
