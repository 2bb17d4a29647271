/* quic_compat.h - ngtcp2 0.12 under the names of ngtcp2 1.x, so that one source builds with both. Service.
 * What this program does not use (0-RTT, datagrams, preferred addresses) is left out. */
#ifndef WR_QUIC_COMPAT_H
#define WR_QUIC_COMPAT_H

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#if NGTCP2_VERSION_NUM < 0x010000

#define WR_QUIC_CONN_MEMORY (64 * 1024)    /* bytes that a connection takes by the end of its handshake: 55 to 65 KiB */

/* A peer ends the process that runs 0.12.1 in four ways, against which quic_conn.c stands:
 * - it moves from one path to another, answers a challenge there that was short of 1200 bytes (as it must be
 *   when little came from there), and what it says next, or that answer itself, comes by the first. So from a
 *   short challenge on nothing is heard from other paths until the peer has settled, which shows when the path
 *   that was left is challenged, or has not;
 * - it has ids retired and then names one of those again, as it may. Those of go, rust and js never have any
 *   retired: who does is not talked to;
 * - it sees to it that 16 ids are retired and acknowledges none of these retirements. Each takes a packet
 *   from somewhere else: of these few are read, WR_QUIC_STRAYS_MAX;
 * - it leaves a number out, and under that number, lower than the last one, it says later that it has our
 *   acknowledgement of the last one: what is to be acknowledged next is this number alone, which 0.12.1 cannot put
 *   into a frame. Anybody can, by his second datagram. Whoever counts as he sends knows nothing by a lower number
 *   that he did not know by a higher one, so acknowledgements that come late are not heard:
 *   quic_order.h. */
#define WR_QUIC_ABORTS true
#define WR_QUIC_OLD_PATH

typedef ngtcp2_connection_close_error ngtcp2_ccerr;
typedef ngtcp2_crypto_level ngtcp2_encryption_level;
typedef ngtcp2_conn_stat ngtcp2_conn_info;
typedef int wr_quic_cid_status;

#define NGTCP2_CCERR_TYPE_TRANSPORT NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_TRANSPORT
#define NGTCP2_CCERR_TYPE_APPLICATION NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION
#define ngtcp2_ccerr_set_application_error ngtcp2_connection_close_error_set_application_error
#define ngtcp2_ccerr_set_liberr ngtcp2_connection_close_error_set_transport_error_liberr
#define ngtcp2_ccerr_set_tls_alert ngtcp2_connection_close_error_set_transport_error_tls_alert
#define ngtcp2_conn_get_conn_info ngtcp2_conn_get_conn_stat
/* A macro is not expanded again inside itself: these drop the flags that 1.x takes. */
#define ngtcp2_conn_shutdown_stream(conn, flags, id, code) ngtcp2_conn_shutdown_stream(conn, id, code)
#define ngtcp2_conn_shutdown_stream_read(conn, flags, id, code)                                    \
    ngtcp2_conn_shutdown_stream_read(conn, id, code)

static inline ngtcp2_ccerr wr_quic_compat_ccerr(ngtcp2_conn *conn)
{
    ngtcp2_ccerr error;
    ngtcp2_conn_get_connection_close_error(conn, &error);
    return error;
}

static inline ngtcp2_vec wr_quic_compat_token(const ngtcp2_pkt_hd *hd)
{
    return hd->token;
}

static inline void wr_quic_compat_set_token(ngtcp2_settings *settings, ngtcp2_vec token)
{
    settings->token = token;
}

static inline void wr_quic_compat_set_original(ngtcp2_transport_params *params, const ngtcp2_cid *cid)
{
    params->original_dcid = *cid;
}

#else

#define WR_QUIC_CONN_MEMORY (40 * 1024)    /* 22 KiB, 34 within it: pools begin with 16 objects, not 64 */

#define WR_QUIC_ABORTS false
#define WR_QUIC_OLD_PATH const ngtcp2_path *old_path __attribute__((unused)),

typedef ngtcp2_connection_id_status_type wr_quic_cid_status;

#define NGTCP2_CC_ALGO_BBR2 NGTCP2_CC_ALGO_BBR    /* the only one left is the second */

static inline ngtcp2_ccerr wr_quic_compat_ccerr(ngtcp2_conn *conn)
{
    return *ngtcp2_conn_get_ccerr(conn);
}

static inline ngtcp2_vec wr_quic_compat_token(const ngtcp2_pkt_hd *hd)
{
    return (ngtcp2_vec){(uint8_t *)(uintptr_t)hd->token, hd->tokenlen};
}

static inline void wr_quic_compat_set_token(ngtcp2_settings *settings, ngtcp2_vec token)
{
    settings->token = token.base;
    settings->tokenlen = token.len;
}

static inline void wr_quic_compat_set_original(ngtcp2_transport_params *params, const ngtcp2_cid *cid)
{
    params->original_dcid = *cid;
    params->original_dcid_present = 1;
}

#endif
#endif
