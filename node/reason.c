#include "node/reason.h"

#include "transport/err.h"

static const struct {
    const char *code, *text, *hint;
} reasons[WR_REASON_COUNT] = {
#define ROW(name, code, text, hint) [WR_REASON_##name] = {code, text, hint},
    WR_REASON_MAP(ROW)
#undef ROW
};

const char *wr_reason_code(enum wr_reason reason)
{
    return reasons[reason].code;
}

const char *wr_reason_text(enum wr_reason reason)
{
    return reasons[reason].text;
}

const char *wr_reason_hint(enum wr_reason reason)
{
    return reasons[reason].hint;
}

/* The filter and the kernel say WR_EUNREACH alike; only the kernel says it of an address that was dialled. */
static enum wr_reason unreachable(struct wr_bytes addr, bool begun)
{
    struct wr_addr at;
    if (begun || !wr_maddr_addr(addr, &at))
        return WR_REASON_NO_ROUTE;
    return wr_ip_classify(&at.ip) == WR_IP_PUBLIC ? WR_REASON_NO_ROUTE : WR_REASON_PRIVATE_ADDRESS;
}

/* Of a circuit the relay's answer is known (relay_msg.h), or that it did not give one. */
static enum wr_reason of_circuit(int err)
{
    switch (err) {
    case WR_EFULL:
        return WR_REASON_RELAY_FULL;
    case WR_EPERM:
        return WR_REASON_RELAY_REFUSED;
    case WR_ENOTFOUND:
        return WR_REASON_NO_RESERVATION;
    case WR_EUNREACH:
        return WR_REASON_RELAY_FAILED;
    case WR_EUNSUPPORTED:
        return WR_REASON_NOT_A_RELAY;
    default:
        return WR_REASON_RELAY_UNREACHABLE;
    }
}

/* Errors that a circuit has in common with every other way. */
static bool is_general(int err)
{
    return err == 0 || err == WR_ECANCELLED || err == WR_EPEERID || err == WR_EAUTH || err == WR_EPROTO || err == WR_EGATED ||
           err == WR_EBACKOFF || err == WR_ESELF || err == WR_ELIMIT || err == WR_ENOFD;
}

enum wr_reason wr_reason_of_dial(struct wr_bytes addr, int err, enum wr_reason_dial how)
{
    if (wr_maddr_is_circuit(addr) && how != WR_REASON_REFUSED_BY_US && !is_general(err))
        return of_circuit(err);
    switch (err) {
    case 0:
        return WR_REASON_CONNECTED;
    case WR_ECANCELLED:
        return WR_REASON_OVERTAKEN;
    case WR_ETIMEOUT:
        return how == WR_REASON_ACCEPTED ? WR_REASON_SILENT : WR_REASON_NO_ANSWER;
    case WR_EREFUSED:
        return WR_REASON_NOT_LISTENING;
    case WR_EUNREACH:
        return unreachable(addr, how != WR_REASON_REFUSED_BY_US);
    case WR_EPEERID:
        return WR_REASON_WRONG_PEER;
    case WR_EAUTH:
    case WR_EPROTO:
        return WR_REASON_WRONG_NETWORK;
    case WR_EUNSUPPORTED:
        return WR_REASON_UNSUPPORTED;
    case WR_EGATED:
        return WR_REASON_BLOCKED;
    case WR_EBACKOFF:
        return WR_REASON_FAILED_RECENTLY;
    case WR_ESELF:
        return WR_REASON_OURSELVES;
    case WR_ELIMIT:
    case WR_ENOFD:
        return WR_REASON_OUT_OF_ROOM;
    case WR_ENOTFOUND:
        return WR_REASON_NO_ADDRESS;
    default:
        return WR_REASON_BROKEN_OFF;
    }
}
